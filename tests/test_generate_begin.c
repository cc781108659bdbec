/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs that begin with a picture: diffusers' schedulers begun later and with a mask
 * (fixtures/samplers_from.json, made by tools/fixtures/samplers_from.py); what is drawn, kept and
 * counted; inpainting networks; what is refused. */
#include <jansson.h>
#include <math.h>

#include "generate/parameters.h"
#include "generate/samplers/row.h"
#include "pipeline/encode.h"
#include "pipeline/features.h"
#include "foreign.h"
#include "support.h"
#include "toy.h"

enum { VALUES = 16, KINDS = 32, SIDE = 32, SPACE = 16 * 16, NUMBERS = 4 * SPACE };

/* ---- diffusers' runs ---- */

static float network(float x, double t) { return 0.5f * x + (float)(0.0002 * t) - x / (1 + x * x); }

static int integer(const json_t *run, const char *key)
{
    return (int)json_integer_value(json_object_get(run, key));
}

static sampler *opened(const json_t *configs, const json_t *run)
{
    char path[1200];
    error e = {0};
    scheduler_config c;
    sampler *s;
    sampler_options o = {.steps = integer(run, "steps"),
                         .skip = integer(run, "skip"),
                         .eta = (float)json_number_value(json_object_get(run, "eta")),
                         .sigmas = json_string_value(json_object_get(run, "sigmas"))};
    const char *name = json_string_value(json_object_get(run, "sampler"));
    if (!sampler_kind_parse(&o.kind, name)) fail_msg("no sampler %s", name);
    name = json_string_value(json_object_get(run, "config"));
    snprintf(path, sizeof path, "%s/scheduler_config.json", scratch_dir());
    assert_int_equal(json_dump_file(json_object_get(configs, name), path, 0), 0);
    if (!scheduler_config_read(&c, path, &e)) fail_msg("%s", e.text);
    if (!sampler_open(&s, &c, &o, &e)) fail_msg("seed %d: %s", integer(run, "seed"), e.text);
    scheduler_config_close(&c);
    assert_int_equal(sampler_steps(s), o.steps - o.skip);
    return s;
}

static double repeat_run(const json_t *configs, const json_t *run, sampler *s)
{
    const json_t *out = json_object_get(run, "out");
    bool mask = json_is_true(json_object_get(run, "mask"));
    evaluation at;
    rng r;
    float clean[VALUES], noise[VALUES], m[VALUES], white[VALUES];
    int count = 0;
    double off = 0, size = 0;
    (void)configs;
    for (int k = 0; k < VALUES; k++) white[k] = k % 3 != 0;
    rng_seed(&r, (uint64_t)integer(run, "seed"));
    rng_randn(&r, clean, VALUES);
    rng_randn(&r, noise, VALUES);
    assert_true(sampler_begin(s, noise, VALUES, NULL));
    if (!json_is_true(json_object_get(run, "whole"))) sampler_add_noise(s, clean, noise);
    while (sampler_ask(s, &at)) {
        for (int k = 0; k < VALUES; k++) m[k] = network(at.x[k], at.t);
        assert_true(sampler_tell(s, m, &r, NULL));
        if (mask) sampler_keep(s, clean, noise, white, VALUES);
        count++;
    }
    if (count != integer(run, "evaluations")) fail_msg("seed %d: %d", integer(run, "seed"), count);
    for (size_t k = 0; k < json_array_size(out); k++) {
        double wanted = json_number_value(json_array_get(out, k));
        off = fmax(off, fabs((double)sampler_latent(s)[5 * k + 1] - wanted));
        size = fmax(size, fabs(wanted));
    }
    return off / size;
}

static void test_diffusers(void **state)
{
    (void)state;
    json_error_t why;
    json_t *file = json_load_file(fixture_path("samplers_from.json"), 0, &why);
    if (!file) fail_msg("%s", why.text);
    const json_t *runs = json_object_get(file, "runs"), *configs = json_object_get(file, "configs");
    double worst[KINDS] = {0};
    int done[KINDS] = {0};
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i);
        sampler_kind k;
        sampler *s = opened(configs, run);
        double off = repeat_run(configs, run, s);
        sampler_close(&s);
        if (!(off < 5e-5)) fail_msg("off by %.3g: %s", off, json_dumps(run, 0));
        assert_true(sampler_kind_parse(&k, json_string_value(json_object_get(run, "sampler"))));
        worst[k] = fmax(worst[k], off);
        done[k]++;
    }
    for (int k = 0; k < sampler_kind_count(); k++) {
        print_message("%-14s %3d runs of diffusers, worst %.2g\n", sampler_kind_name(k), done[k],
                      worst[k]);
        assert_true(done[k] >= 14);
    }
    json_decref(file);
}

/* ---- a toy's pictures ---- */

static char path_toy[1100], path_nine[1100], path_ddpm[1100];
static model *toy, *nine;
static device *cpu;
static generator *of_toy, *of_nine;

static image painted(int width, int height, int kind)
{
    image m;
    assert_true(image_new(&m, width, height, NULL));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                m.pixels[3 * (y * width + x) + c] = (uint8_t)((x * (7 + kind) + y * 5 + c * 60) %
                                                              256);
    return m;
}

/* White from column `from` on. */
static image mask_of(int width, int height, int from)
{
    image m;
    assert_true(image_new(&m, width, height, NULL));
    for (int i = 0; i < width * height; i++)
        memset(m.pixels + 3 * i, i % width < from ? 0 : 255, 3);
    return m;
}

static generate_options options(const image *init, const image *mask, double strength)
{
    return (generate_options){.prompt = "a dog",
                              .seed = 3,
                              .guidance = 7.5f,
                              .init = init,
                              .mask = mask,
                              .strength = strength,
                              .sampler = {.kind = SAMPLER_DDIM, .steps = 5}};
}

static generate_result made_with(generator *g, const generate_options *o)
{
    generate_result r;
    error e = {0};
    if (!generator_run(g, o, &r, &e)) fail_msg("%s", e.text);
    return r;
}

static void expect_same(const generate_result *a, const generate_result *b)
{
    size_t n = (size_t)a->channels * (size_t)a->height * (size_t)a->width;
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->final, b->final, n * sizeof(float));
}

/* What diffusers' latent_dist.sample() gives of a picture of the size: the seed's first draw. */
static void posterior(float *out, const image *m, rng *r)
{
    pipeline on = {cpu, toy};
    encoder *n = NULL;
    error e = {0};
    static float pixels[3 * SIDE * SIDE], mean[NUMBERS], deviation[NUMBERS];
    encode_pixels(m, 0, 0, SIDE, SIDE, pixels);
    if (!encoder_open(&n, &on, SIDE, SIDE, &e) ||
        !encoder_run(n, pixels, mean, deviation, "a test", &e))
        fail_msg("%s", e.text);
    encoder_close(&n);
    rng_randn(r, out, NUMBERS);
    for (int i = 0; i < NUMBERS; i++) out[i] = mean[i] + deviation[i] * out[i];
}

/* All white and from noise alone, a run with a mask is one without a picture, from the second draw;
 * all black, it ends where the picture is. */
static void test_masks(void **state)
{
    (void)state;
    image init = painted(SIDE, SIDE, 0), white = mask_of(SIDE, SIDE, 0),
          black = mask_of(SIDE, SIDE, SIDE), half = mask_of(SIDE, SIDE, SIDE / 2);
    float clean[NUMBERS], noise[NUMBERS];
    rng r;
    rng_seed(&r, 3);
    posterior(clean, &init, &r);
    rng_randn(&r, noise, NUMBERS);
    generate_options o = options(&init, &white, 1), plain = options(NULL, NULL, 1);
    plain.latents = noise;
    generate_result a = made_with(of_toy, &o), b = made_with(of_toy, &plain);
    expect_same(&a, &b);
    generate_result_free(&b);
    for (int k = 0; k < sampler_kind_count(); k++) {
        o = options(&init, &black, 0.7);
        o.sampler.kind = k;
        b = made_with(of_toy, &o);
        assert_memory_equal(b.final, clean, sizeof clean);
        generate_result_free(&b);
    }
    o = options(&init, &half, 0.7);
    b = made_with(of_toy, &o);
    for (int i = 0; i < NUMBERS; i++) assert_int_equal(b.final[i] == clean[i], i % 16 < 8);
    generate_result_free(&a);
    generate_result_free(&b);
    image_free(&init), image_free(&white), image_free(&black), image_free(&half);
}

/* A picture's noise is AUTOMATIC1111's first draw, diffusers' second; a delta is of what comes
 * after it. With a white mask and strength 1 a run is one without a picture, so that it can be
 * told. */
static void test_orders_of_noise(void **state)
{
    (void)state;
    image init = painted(SIDE, SIDE, 0), white = mask_of(SIDE, SIDE, 0);
    float noise[2][NUMBERS];
    rng r;
    rng_seed_cuda(&r, 3);
    for (int k = 0; k < 2; k++) rng_randn(&r, noise[k], NUMBERS);
    generate_options from = options(&init, &white, 1), plain = options(NULL, NULL, 1);
    assert_true(sampler_kind_parse(&from.sampler.kind, "euler_a"));
    plain.sampler.kind = from.sampler.kind;
    from.noise = plain.noise = NOISE_A1111;
    for (int delta = 0; delta < 2; delta++) {
        from.noise_delta = plain.noise_delta = delta ? 31337 : 0;
        generate_result a = made_with(of_toy, &from), b = made_with(of_toy, &plain);
        assert_memory_equal(a.initial, noise[0], sizeof noise[0]);
        expect_same(&a, &b);
        generate_options later = options(NULL, NULL, 1); /* its sampler's noise is a seed's first */
        later.sampler.kind = from.sampler.kind;
        later.noise = NOISE_A1111;
        later.latents = noise[0];
        later.seed = 3 + 31337;
        generate_result c = made_with(of_toy, &later);
        size_t bytes = NUMBERS * sizeof(float);
        assert_int_equal(memcmp(a.final, c.final, bytes) == 0, delta);
        generate_result_free(&a), generate_result_free(&b), generate_result_free(&c);
    }
    /* diffusers': the posterior's draw, the noise, and the masked picture's */
    from.noise_delta = 0;
    from.noise = NOISE_CUDA;
    generate_result a = made_with(of_toy, &from);
    assert_memory_equal(a.initial, noise[1], sizeof noise[1]);
    generate_result_free(&a);
    image_free(&init), image_free(&white);
}

typedef struct heard {
    int step, steps, told;
    generate_snapshot *kept;
} heard;

static bool on_progress(void *user, int step, int steps)
{
    heard *h = user;
    assert_int_equal(step, h->told);
    h->step = step;
    h->steps = steps;
    h->told++;
    return false;
}

static void on_reached(void *user, const generate_snapshot *state)
{
    heard *h = user;
    if (state->step == 2) h->kept = generate_snapshot_copy(state);
}

/* A share of the steps is made, counted by progress, schedules and snapshots. */
static void test_steps(void **state)
{
    (void)state;
    static const struct {
        double strength;
        int steps, made;
    } rows[] = {{1, 5, 5}, {0.6, 50, 30}, {0.999, 50, 49}, {0.2, 5, 1}, {0.19, 5, 0}, {0, 5, 0}};
    image init = painted(SIDE, SIDE, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        generate_options o = options(&init, NULL, rows[i].strength);
        o.sampler.steps = rows[i].steps;
        assert_int_equal(generate_steps(&o), rows[i].made);
    }
    for (int k = 0; k < sampler_kind_count(); k++) {
        generate_options o = options(&init, NULL, 0.8);
        heard h = {0};
        error e = {0};
        mix m;
        const char *const names[] = {"a", "b"};
        generator *const both[] = {of_toy, of_toy};
        generate_result b;
        o.sampler.kind = k;
        o.progress = on_progress;
        o.reached = on_reached;
        o.user = &h;
        generate_result a = made_with(of_toy, &o);
        assert_int_equal(h.steps, 4);
        assert_int_equal(h.step, 4);
        generate_options rest = options(&init, NULL, 0.8);
        rest.sampler.kind = k;
        rest.from = h.kept;
        b = made_with(of_toy, &rest);
        expect_same(&a, &b);
        generate_result_free(&b);
        free(h.kept);
        rest.from = NULL;
        assert_true(mix_parse(&m, "a x1, b x3", names, 2, generate_steps(&o), NULL));
        if (!generator_run_mixed(both, 2, &m, &rest, &b, &e)) fail_msg("%s", e.text);
        expect_same(&a, &b);
        mix_close(&m);
        generate_result_free(&a);
        generate_result_free(&b);
    }
    image_free(&init);
}

/* Several seeds and samplers of one picture together are those alone, masked or not, whatever was
 * made before. */
static void test_together(void **state)
{
    (void)state;
    image init = painted(SIDE, SIDE, 0), other = painted(SIDE, SIDE, 4),
          half = mask_of(SIDE, SIDE, SIDE / 2);
    generator *const gs[] = {of_toy, of_nine};
    for (int masked = 0; masked < 2; masked++)
        for (int k = 0; k < 2; k++) {
            if (!masked && k == 1) continue;
            generate_options o[3];
            generate_result r[3];
            error e = {0};
            for (int i = 0; i < 3; i++) {
                o[i] = options(&init, masked ? &half : NULL, 0.7);
                o[i].seed = 3 + (uint64_t)i;
            }
            generate_options elsewhere = options(&other, masked ? &half : NULL, 0.7);
            generate_result none = made_with(gs[k], &elsewhere);
            if (!generator_run_together(&gs[k], 1, NULL, o, 3, r, &e)) fail_msg("%s", e.text);
            for (int i = 0; i < 3; i++) {
                generate_result alone = made_with(gs[k], &o[i]);
                expect_same(&alone, &r[i]);
                assert_true(memcmp(none.final, alone.final, NUMBERS * sizeof(float)) != 0);
                generate_result_free(&alone);
                generate_result_free(&r[i]);
            }
            generate_result_free(&none);
            assert_true(generate_alike(&o[0], &o[1]) && !generate_alike(&o[0], &elsewhere));
            elsewhere = o[0];
            elsewhere.strength = 0.9;
            assert_false(generate_alike(&o[0], &elsewhere));
            elsewhere = o[0];
            elsewhere.mask = &other;
            assert_false(generate_alike(&o[0], &elsewhere));
        }
    image_free(&init), image_free(&other), image_free(&half);
}

/* Of its own size, cut to a multiple; of another where one is asked for. */
static void test_sizes(void **state)
{
    (void)state;
    image init = painted(41, 35, 0);
    generate_options o = options(&init, NULL, 0.5);
    generate_result r = made_with(of_toy, &o);
    assert_int_equal(r.picture.width, 40);
    assert_int_equal(r.picture.height, 34);
    generate_result_free(&r);
    o.width = 24;
    r = made_with(of_toy, &o);
    assert_int_equal(r.picture.width, 24);
    assert_int_equal(r.picture.height, 34);
    generate_result_free(&r);
    image_free(&init);
}

/* An inpainting network reads the mask and what is not masked; from noise alone it never looks at
 * what is. */
static void test_inpainting(void **state)
{
    (void)state;
    image init = painted(SIDE, SIDE, 0), same = painted(SIDE, SIDE, 0),
          half = mask_of(SIDE, SIDE, SIDE / 2), less = mask_of(SIDE, SIDE, SIDE / 2 + 4);
    generate_options o = options(&init, &half, 1);
    generate_result a = made_with(of_nine, &o), b;
    for (int y = 0; y < SIDE; y++)
        memset(same.pixels + 3 * (y * SIDE + SIDE / 2), 7, 3 * SIDE / 2); /* where it is masked */
    o.init = &same;
    b = made_with(of_nine, &o);
    expect_same(&a, &b);
    generate_result_free(&b);
    o.strength = 0.9;
    b = made_with(of_nine, &o);
    o.init = &init;
    generate_result c = made_with(of_nine, &o);
    assert_true(memcmp(b.final, c.final, NUMBERS * sizeof(float)) != 0);
    generate_result_free(&b);
    o.mask = &less;
    b = made_with(of_nine, &o);
    assert_true(memcmp(b.final, c.final, NUMBERS * sizeof(float)) != 0);
    generate_result_free(&a), generate_result_free(&b), generate_result_free(&c);
    image_free(&init), image_free(&same), image_free(&half), image_free(&less);
}

/* ---- what is refused ---- */

static void expect_refused(generator *g, const generate_options *o, const char *text)
{
    error e = {0};
    if (generator_check(g, o, NULL, &e)) fail_msg("not refused: %s", text);
    if (!strstr(e.text, text)) fail_msg("%s\nwanted: %s", e.text, text);
    assert_int_equal(e.code, ERROR_USAGE);
}

static void test_refused(void **state)
{
    (void)state;
    error e = {0};
    image init = painted(SIDE, SIDE, 0), tiny = painted(1, 1, 0), half = mask_of(SIDE, SIDE, 8),
          small = mask_of(SIDE, SIDE - 1, 8);
    model *ddpm = NULL;
    generator *of_ddpm = NULL;
    float noise[NUMBERS] = {0};
    generate_options o = options(&init, NULL, 1.01);
    expect_refused(of_toy, &o, "strength is 1.01; give a number from 0 to 1");
    o.strength = -0.1;
    expect_refused(of_toy, &o, "strength is -0.1; give a number from 0 to 1");
    toy->scheduler.skip_prk = false;
    o = options(&init, NULL, 0.5);
    assert_true(sampler_kind_parse(&o.sampler.kind, "pndm"));
    expect_refused(of_toy, &o, "pndm with this model (no skip_prk_steps) cannot leave out");
    toy->scheduler.skip_prk = true;
    o = options(&init, NULL, NAN);
    expect_refused(of_toy, &o, "give a number from 0 to 1");
    o.strength = 0.1;
    expect_refused(of_toy, &o,
                   "strength 0.1 of 5 steps leaves none to make; give more steps or a strength of "
                   "at least 0.2");
    o = options(&init, &small, 0.5);
    expect_refused(of_toy, &o, "the mask is 32x31, the picture 32x32");
    o = options(NULL, &half, 0.5);
    expect_refused(of_toy, &o, "give that picture with --init-image");
    o = options(NULL, NULL, 0.5);
    expect_refused(of_nine, &o, "is an inpainting model (9 input channels)");
    o = options(&init, NULL, 0.5);
    expect_refused(of_nine, &o, "give --init-image and --mask");
    o.latents = noise;
    expect_refused(of_toy, &o, "--init-latents), not both");
    o = options(&tiny, NULL, 0.5);
    expect_refused(of_toy, &o, "the init image is 1x1, too small");
    if (!model_open(&ddpm, path_ddpm, NULL, NULL, &e) || !generator_open(&of_ddpm, cpu, ddpm, &e))
        fail_msg("%s", e.text);
    o = options(&init, NULL, 0.5);
    o.prompt = NULL;
    expect_refused(of_ddpm, &o, "is an unconditional model: it has no autoencoder");
    generator_close(&of_ddpm);
    model_close(&ddpm);
    image_free(&init), image_free(&tiny), image_free(&half), image_free(&small);
}

/* A model of 9 channels paints, and no more. */
static void test_paints_only(void **state)
{
    (void)state;
    error e = {0};
    features_options f;
    generator *const pair[] = {of_toy, of_nine};
    const char *const names[] = {"a", "b"};
    mix m;
    generate_options o = options(NULL, NULL, 1);
    features_defaults(&f);
    assert_false(features_check(nine, &f, &e));
    assert_non_null(strstr(e.text, "an inpainting model"));
    e = (error){0};
    assert_true(mix_parse(&m, "a x2, b x3", names, 2, 5, NULL));
    assert_false(generator_check_mixed(pair, 2, &m, &o, NULL, &e));
    assert_non_null(strstr(e.text, "cannot take turns"));
    mix_close(&m);
}

static void refuses_to_go_on(const generate_options *o, const char *why)
{
    generate_result r;
    error e = {0};
    assert_false(generator_run(of_toy, o, &r, &e));
    if (!strstr(e.text, why)) fail_msg("%s", e.text);
}

/* A run goes on only from one that began as it does. */
static void test_goes_on_from_its_own(void **state)
{
    (void)state;
    image init = painted(SIDE, SIDE, 0), other = painted(SIDE, SIDE, 1),
          mask = mask_of(SIDE, SIDE, 8);
    float noise[NUMBERS];
    heard h = {0};
    generate_options o = options(&init, &mask, 0.8), next;
    o.progress = on_progress;
    o.reached = on_reached;
    o.user = &h;
    generate_result a = made_with(of_toy, &o);
    assert_non_null(h.kept);
    o = options(&init, &mask, 0.8);
    o.from = h.kept;
    generate_result b = made_with(of_toy, &o);
    expect_same(&a, &b);
    next = o, next.init = &other;
    refuses_to_go_on(&next, "began with another picture, mask or latents than this one");
    next = o, next.mask = NULL;
    refuses_to_go_on(&next, "began with another picture, mask or latents");
    next = o, next.strength = 0.85; /* of five steps four, too */
    refuses_to_go_on(&next, "changes its picture at strength 0.8; this one has 0.85");
    next = o, next.init = next.mask = NULL;
    refuses_to_go_on(&next, "began with another picture, mask or latents");
    fill_random(noise, NUMBERS, 1);
    next.latents = noise;
    refuses_to_go_on(&next, "began with another picture, mask or latents");
    free(h.kept);
    generate_result_free(&a), generate_result_free(&b);
    image_free(&init), image_free(&other), image_free(&mask);
}

typedef struct shown {
    int count;
    uint8_t first[3 * SIDE * SIDE];
} shown;

static void on_preview(void *user, const image *picture)
{
    shown *s = user;
    assert_int_equal(picture->width, SIDE);
    if (!s->count++) memcpy(s->first, picture->pixels, sizeof s->first);
}

/* Every second step of five: two of them, and the picture as without. */
static void test_previews(void **state)
{
    (void)state;
    for (int k = 0; k < sampler_kind_count(); k++) {
        generate_options o = options(NULL, NULL, 1);
        o.sampler.kind = k;
        shown s = {0};
        generate_result plain = made_with(of_toy, &o);
        o.preview = on_preview;
        o.preview_steps = 2;
        o.user = &s;
        generate_result with = made_with(of_toy, &o);
        assert_int_equal(s.count, 2);
        assert_memory_equal(plain.final, with.final, NUMBERS * sizeof(float));
        assert_memory_equal(plain.picture.pixels, with.picture.pixels, sizeof s.first);
        assert_true(memcmp(s.first, with.picture.pixels, sizeof s.first) != 0);
        generate_result_free(&plain), generate_result_free(&with);
    }
}

static uint64_t no_memory_left(device *d)
{
    (void)d;
    return 0;
}

/* Where tiles would help, the refusal says so. */
static void test_names_tiles(void **state)
{
    (void)state;
    uint64_t (*left)(device *) = cpu->memory_left;
    for (int large = 0; large < 2; large++)
        for (int tile = 0; tile < 2; tile++) {
            error e = {0};
            generate_options o = options(NULL, NULL, 1);
            o.width = large ? 64 : SIDE;
            o.tile = tile;
            cpu->memory_left = no_memory_left;
            assert_false(generator_check(of_toy, &o, NULL, &e));
            cpu->memory_left = left;
            assert_int_equal(e.code, ERROR_MEMORY);
            assert_int_equal(strstr(e.text, "--tile, ") != NULL, large && !tile);
        }
}

/* Every allocation in turn. */
static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    image init = painted(SIDE, SIDE, 0), half = mask_of(SIDE, SIDE, 8);
    generate_options o = options(&init, &half, 0.3);
    for (long n = 0, step = 1;; n += step, step += n > 60) {
        generate_result r;
        error e = {0};
        allocation_fail_at(n);
        bool ok = generator_run(of_nine, &o, &r, &e);
        bool struck = allocation_fail_end();
        if (ok) generate_result_free(&r);
        if (!struck) break;
        if (!ok) assert_int_equal(e.code, ERROR_MEMORY);
    }
    image_free(&init), image_free(&half);
}

/* ---- what the picture says ---- */

static void test_settings(void **state)
{
    (void)state;
    image init = painted(SIDE, SIDE, 0), other = painted(SIDE, SIDE, 1), half = mask_of(32, 32, 8);
    image size = {.width = SIDE, .height = SIDE};
    const image *const given[][2] = {{&init, NULL}, {&other, NULL}, {&init, &half}};
    char *text[3];
    for (int i = 0; i < 3; i++) {
        generate_options o = options(given[i][0], given[i][1], 0.6);
        image_job job = {.models = &of_toy, .count = 1, .options = &o};
        assert_true(parameters_text(&text[i], &job, &size, NULL));
        assert_non_null(strstr(text[i], ", Denoising strength: 0.6, Init image hash: "));
        assert_int_equal(strstr(text[i], ", Mask hash: ") != NULL, i == 2);
    }
    assert_string_not_equal(text[0], text[1]);
    assert_string_not_equal(text[0], text[2]);
    for (int i = 0; i < 3; i++) free(text[i]);
    image_free(&init), image_free(&other), image_free(&half);
}

static int open_toys(void **state)
{
    (void)state;
    error e = {0};
    snprintf(path_toy, sizeof path_toy, "%s/toy", scratch_dir());
    snprintf(path_nine, sizeof path_nine, "%s/nine", scratch_dir());
    snprintf(path_ddpm, sizeof path_ddpm, "%s/ddpm", scratch_dir());
    bool ok = toy_stable_diffusion(path_toy, &e) && toy_inpainting(path_nine, &e) &&
              toy_unconditional(path_ddpm, &e) && model_open(&toy, path_toy, NULL, NULL, &e) &&
              model_open(&nine, path_nine, NULL, NULL, &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 1}, &e) &&
              generator_open(&of_toy, cpu, toy, &e) && generator_open(&of_nine, cpu, nine, &e);
    if (!ok) print_error("%s\n", e.text);
    if (ok) toy->scheduler.skip_prk = true; /* as Stable Diffusion's */
    return ok ? 0 : -1;
}

static int close_toys(void **state)
{
    (void)state;
    generator_close(&of_toy);
    generator_close(&of_nine);
    device_close(&cpu);
    model_close(&toy);
    model_close(&nine);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diffusers),       cmocka_unit_test(test_goes_on_from_its_own),
        cmocka_unit_test(test_orders_of_noise), cmocka_unit_test(test_masks),
        cmocka_unit_test(test_steps),           cmocka_unit_test(test_together),
        cmocka_unit_test(test_sizes),           cmocka_unit_test(test_inpainting),
        cmocka_unit_test(test_refused),         cmocka_unit_test(test_paints_only),
        cmocka_unit_test(test_memory),          cmocka_unit_test(test_settings),
        cmocka_unit_test(test_previews),        cmocka_unit_test(test_names_tiles),
    };
    return cmocka_run_group_tests(tests, open_toys, close_toys);
}
