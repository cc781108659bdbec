/* SPDX-License-Identifier: Apache-2.0
 *
 * DeepCache: what is outermost of the network gives, upon its own deep features, what the whole
 * gives; when they are reused in a run, and when not; runs that are left and gone on from. */
#include "foreign.h"
#include "support.h"

#include "base/platform.h"
#include "file/safetensors.h"
#include "generate/generate.h"
#include "generate/parameters.h"
#include "pipeline/denoise.h"
#include "toy.h"

enum { STEPS = 6, MODELS = 2, SIDE = 16, LATENT = 4 * SIDE * SIDE };

static const denoiser_extras deep_extra = {.deep = true};
static const char *const names[MODELS] = {"base", "tuned"};
static device *cpu;
static model *opened[MODELS], *plain;
static generator *generators[MODELS], *unconditional;

static void expect(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

/* The base's folder again with other weights in the UNet: each a tenth larger. */
static bool make_tuned(const char *folder, error *e)
{
    char *path = path_join(folder, "unet/diffusion_pytorch_model.safetensors");
    safetensors file;
    if (!toy_stable_diffusion(folder, e) || !path || !safetensors_open(&file, path, e))
        return false;
    safetensors_entry *entry = calloc(file.count, sizeof *entry);
    assert_non_null(entry);
    for (size_t i = 0; i < file.count; i++) {
        entry[i] = file.entry[i];
        float *data = malloc(entry[i].bytes);
        assert_non_null(data);
        memcpy(data, entry[i].data, entry[i].bytes);
        for (size_t k = 0; k < entry[i].bytes / sizeof *data; k++) data[k] *= 1.1f;
        entry[i].data = data;
    }
    bool ok = safetensors_write(path, entry, file.count, NULL, 0, e);
    for (size_t i = 0; i < file.count; i++) free((void *)(uintptr_t)entry[i].data);
    free(entry);
    safetensors_close(&file);
    free(path);
    return ok;
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    char path[MODELS + 1][400];
    for (int i = 0; i < MODELS + 1; i++)
        snprintf(path[i], sizeof path[i], "%s/%s", scratch_dir(), i < MODELS ? names[i] : "ddpm");
    bool ok = toy_stable_diffusion(path[0], &e) && make_tuned(path[1], &e) &&
              toy_unconditional(path[2], &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 2}, &e) &&
              model_open(&plain, path[2], NULL, NULL, &e) &&
              generator_open(&unconditional, cpu, plain, &e);
    for (int i = 0; ok && i < MODELS; i++)
        ok = model_open(&opened[i], path[i], NULL, NULL, &e) &&
             generator_open(&generators[i], cpu, opened[i], &e);
    if (!ok) print_error("%s\n", e.text);
    return ok ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        generator_close(&generators[i]);
        model_close(&opened[i]);
    }
    generator_close(&unconditional);
    model_close(&plain);
    device_close(&cpu);
    return 0;
}

/* ---- the network --------------------------------------------------------------------------- */

/* Two samples under two texts each, or (of the unconditional model) one each. */
static void check_network(const model *m, int texts)
{
    enum { MOST = 2 * 2 * LATENT };
    float x[2][MOST], whole[2][MOST] = {{0}}, shallow[2][MOST] = {{0}};
    pipeline on = {cpu, m};
    denoiser *n;
    error e = {0};
    size_t numbers = (size_t)(2 * texts * m->clip.positions * m->clip.hidden);
    float *states = malloc((numbers + 1) * sizeof *states);
    assert_non_null(states);
    fill_random(states, numbers, 1);
    fill_random(x[0], MOST, 2);
    fill_random(x[1], MOST, 3);
    expect(denoiser_open(&n, &on, 2, texts, 0, SIDE, SIDE, &deep_extra, &e) &&
               (!m->tokens || denoiser_read(n, states, &e)) &&
               denoiser_run(n, x[0], 500, whole[0], "here", &e) &&
               denoiser_run_shallow(n, x[0], 500, shallow[0], "here", &e) &&
               denoiser_run_shallow(n, x[1], 480, shallow[1], "here", &e),
           &e);
    assert_memory_equal(whole[0], shallow[0], sizeof whole[0]);
    float *deep = malloc(2 * (size_t)texts * denoiser_deep_numbers(n) * sizeof *deep);
    assert_non_null(deep);
    expect(denoiser_read_deep(n, deep, &e) && denoiser_run(n, x[1], 480, whole[1], "here", &e), &e);
    assert_memory_not_equal(whole[1], shallow[1], sizeof whole[1]); /* the deep part is of x[0] */
    expect(denoiser_write_deep(n, deep, &e) &&
               denoiser_run_shallow(n, x[1], 480, whole[1], "here", &e),
           &e);
    assert_memory_equal(whole[1], shallow[1], sizeof whole[1]);
    assert_true(denoiser_is(n, 2, texts, 0, SIDE, SIDE, &deep_extra) &&
                !denoiser_is(n, 2, texts, 0, SIDE, SIDE, NULL));
    denoiser_close(&n);
    free(deep);
    free(states);
}

static void test_network(void **state)
{
    (void)state;
    check_network(opened[0], 1);
    check_network(opened[0], 2);
    check_network(plain, 1);
}

/* ---- runs ---------------------------------------------------------------------------------- */

static generate_options options(sampler_kind kind, int deep_cache)
{
    return (generate_options){.prompt = "a dog",
                              .negative = "rain",
                              .seed = 7,
                              .guidance = 3,
                              .deep_cache = deep_cache,
                              .sampler = {.kind = kind, .steps = STEPS}};
}

static generate_result run(const char *schedule, const generate_options *o)
{
    generate_result r;
    error e = {0};
    mix m;
    expect(mix_parse(&m, schedule, names, MODELS, o->sampler.steps, &e) &&
               generator_run_mixed(generators, MODELS, &m, o, &r, &e),
           &e);
    mix_close(&m);
    return r;
}

static bool same(generate_result a, generate_result b)
{
    bool equal = memcmp(a.final, b.final, LATENT * sizeof(float)) == 0;
    generate_result_free(&a);
    generate_result_free(&b);
    return equal;
}

static sampler_kind kind_of(const char *name)
{
    sampler_kind kind;
    assert_true(sampler_kind_parse(&kind, name));
    return kind;
}

/* 1 is without; the network is whole wherever other models take over; an interval longer than the
 * run differs from a shorter one. */
static void test_when(void **state)
{
    (void)state;
    generate_options off = options(SAMPLER_DDIM, 0), one = options(SAMPLER_DDIM, 1),
                     two = options(SAMPLER_DDIM, 2), long_one = options(SAMPLER_DDIM, 100);
    assert_true(same(run("base", &off), run("base", &one)));
    assert_false(same(run("base", &off), run("base", &two)));
    assert_false(same(run("base", &two), run("base", &long_one)));
    const char *turns = "base x1, tuned x1, base x1, tuned x1, base x1, tuned x1";
    assert_true(same(run(turns, &off), run(turns, &long_one)));
    /* each model of a sum has its own features: as many of one are that one */
    assert_false(same(run("0.5*base+0.5*tuned", &off), run("0.5*base+0.5*tuned", &two)));
    assert_true(same(run("base|base", &two), run("base", &two)));
    /* counted are evaluations: Heun's second one of the first step is reused already */
    generate_options heun = options(kind_of("heun"), 0), heun_two = options(kind_of("heun"), 2);
    heun.sampler.steps = heun_two.sampler.steps = 1; /* the last step has one */
    assert_true(same(run("base", &heun), run("base", &heun_two)));
    heun.sampler.steps = heun_two.sampler.steps = 2;
    assert_false(same(run("base", &heun), run("base", &heun_two)));
}

typedef struct copier {
    int at;
    generate_snapshot *now;
} copier;

static void copy(void *user, const generate_snapshot *s)
{
    copier *k = user;
    if (s->step == k->at) k->now = generate_snapshot_copy(s);
}

/* Left after any step and gone on from, a run is what it is in one piece. */
static void test_going_on(void **state)
{
    (void)state;
    static const char *const kinds[] = {"ddpm", "heun", "dpmpp_2m"};
    static const char *const schedules[] = {"base x3, tuned rest", "base|tuned x2, base rest",
                                            "0.5*base+0.5*tuned"};
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 3; k++)
            for (int at = 1; at < STEPS; at += 1 + (int)k) {
                copier keep = {.at = at};
                generate_options o = options(kind_of(kinds[i]), 3);
                o.reached = copy;
                o.user = &keep;
                generate_result whole = run(schedules[k], &o);
                o.reached = NULL;
                o.from = keep.now;
                assert_non_null(keep.now);
                if (!same(whole, run(schedules[k], &o)))
                    fail_msg("%s, %s, from step %d: another run", kinds[i], schedules[k], at);
                free(keep.now);
            }
}

/* A picture has the same bytes beside others as alone, begun and gone on from. */
static void test_together(void **state)
{
    (void)state;
    enum { PICTURES = 3 };
    copier keep[PICTURES];
    generate_options o[PICTURES];
    generate_result alone[PICTURES], r[PICTURES];
    error e = {0};
    if (!cpu->batches_alike) skip();
    for (int k = 0; k < PICTURES; k++) {
        keep[k] = (copier){.at = 2};
        o[k] = options(SAMPLER_DDIM, 3);
        o[k].seed = (uint64_t)k;
        o[k].reached = copy;
        o[k].user = &keep[k];
        expect(generator_run(generators[0], &o[k], &alone[k], &e), &e);
        free(keep[k].now);
    }
    expect(generator_run_together(generators, 1, NULL, o, PICTURES, r, &e), &e);
    for (int k = 0; k < PICTURES; k++) {
        assert_memory_equal(r[k].final, alone[k].final, LATENT * sizeof(float));
        generate_result_free(&r[k]);
        o[k].reached = NULL;
        o[k].from = keep[k].now;
    }
    expect(generator_run_together(generators, 1, NULL, o, PICTURES, r, &e), &e);
    for (int k = 0; k < PICTURES; k++) {
        assert_true(same(r[k], alone[k]));
        free(keep[k].now);
    }
    generate_options other = options(SAMPLER_DDIM, 2);
    o[0].from = NULL;
    assert_false(generate_alike(&o[0], &other));
}

static void test_unconditional(void **state)
{
    (void)state;
    generate_options off = options(SAMPLER_DDPM, 0), on = options(SAMPLER_DDPM, 3);
    generate_result a, b;
    error e = {0};
    off.prompt = off.negative = on.prompt = on.negative = NULL;
    expect(generator_run(unconditional, &off, &a, &e) && generator_run(unconditional, &on, &b, &e),
           &e);
    assert_memory_not_equal(a.final, b.final, (size_t)(3 * SIDE * SIDE) * sizeof(float));
    generate_result_free(&a);
    generate_result_free(&b);
}

/* ---- what is said -------------------------------------------------------------------------- */

static void test_bad(void **state)
{
    (void)state;
    copier keep = {.at = 2};
    generate_options o = options(SAMPLER_DDIM, -1);
    generate_result r;
    error e = {0};
    assert_false(generator_check(generators[0], &o, NULL, &e));
    assert_non_null(strstr(e.text, "deep cache -1: "));
    o = options(SAMPLER_DDIM, 3);
    o.reached = copy;
    o.user = &keep;
    r = run("base", &o);
    generate_result_free(&r);
    o.reached = NULL;
    o.from = keep.now;
    o.deep_cache = 2;
    e = (error){0};
    assert_false(generator_run(generators[0], &o, &r, &e));
    assert_string_equal(e.text, "the run to go on from has deep cache 3; this one has 2");
    o.deep_cache = 3;
    mix m;
    e = (error){0};
    expect(mix_parse(&m, "0.5*base+0.5*tuned", names, MODELS, STEPS, &e), &e);
    assert_false(generator_run_mixed(generators, MODELS, &m, &o, &r, &e));
    assert_string_equal(e.text, "the run to go on from was of other models before step 3");
    mix_close(&m);
    free(keep.now);
}

static void test_settings(void **state)
{
    (void)state;
    image size = {.width = 32, .height = 32};
    error e = {0};
    for (int n = 1; n < 4; n += 2) {
        char *text = NULL;
        generate_options o = options(SAMPLER_DDIM, n);
        expect(parameters_text(&text, &(image_job){generators, NULL, 1, NULL, &o}, &size, &e), &e);
        assert_true((strstr(text, ", Deep cache: 3,") != NULL) == (n == 3));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network),  cmocka_unit_test(test_when),
        cmocka_unit_test(test_going_on), cmocka_unit_test(test_together),
        cmocka_unit_test(test_bad),      cmocka_unit_test(test_unconditional),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
