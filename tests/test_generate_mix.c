/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of schedules of models: their syntax, and that the runs they stand for are, bit for bit,
 * what they must equal: one model alone, the same run in one piece. */
#include "foreign.h"
#include "support.h"

#include <math.h>

#include "base/platform.h"
#include "file/safetensors.h"
#include "generate/mix.h"
#include "generate/generate.h"
#include "model/merge.h"
#include "toy.h"

enum { STEPS = 6, BASE = 0, TUNED = 1, MODELS = 3, LATENT = 4 * 16 * 16 };

static const char *const names[] = {"base", "tuned", "other"};
static char path_base[300], path_tuned[300], path_ddpm[300];
static device *cpu;
static model *opened[MODELS];
static generator *generators[MODELS];

/* ---- syntax -------------------------------------------------------------------------------- */

static mix parse(const char *text, int steps)
{
    mix m;
    error e = {0};
    if (!mix_parse(&m, text, names, MODELS, steps, &e)) fail_msg("%s: %s", text, e.text);
    assert_int_equal(m.count, steps);
    return m;
}

static void check_text(const char *text, int steps, const char *wanted)
{
    mix m = parse(text, steps);
    char *back = mix_text(&m, names);
    assert_string_equal(back, wanted);
    mix again = parse(back, steps);
    assert_int_equal(mix_common(&m, &again), steps);
    free(back);
    mix_close(&again);
    mix_close(&m);
}

static void test_forms(void **state)
{
    (void)state;
    check_text("base", 50, "base x50");
    check_text("base x15, tuned x35", 50, "base x15, tuned x35");
    check_text(" base x15 ,tuned rest ", 50, "base x15, tuned x35");
    check_text("base x15, tuned", 50, "base x15, tuned x35");
    check_text("base x0, tuned x50", 50, "tuned x50");
    check_text("base x50, tuned rest", 50, "base x50");
    check_text("base x5, base x5, tuned x0, base rest", 20, "base x20");
    check_text("base x1, tuned x1, other x1, base x1", 4, "base x1, tuned x1, other x1, base x1");
    check_text("0.3*base+0.7*tuned x10, tuned rest", 12, "0.3*base+0.7*tuned x10, tuned x2");
    check_text("0.5 * base + 0.5*tuned", 3, "0.5*base+0.5*tuned x3");
    check_text("1*base", 3, "base x3");
    check_text("-1*base+2*tuned", 3, "-1*base+2*tuned x3");
    check_text("base|tuned x2, tuned | base x1", 3, "base|tuned x2, tuned|base x1");
}

static void check_bad(const char *text, int steps, const char *words)
{
    mix m;
    error e = {0};
    assert_false(mix_parse(&m, text, names, MODELS, steps, &e));
    assert_null(m.step);
    assert_int_equal(e.code, ERROR_USAGE);
    if (!strstr(e.text, words)) fail_msg("\"%s\" is not in: %s", words, e.text);
}

static void test_bad_forms(void **state)
{
    (void)state;
    check_bad("", 50, "lacks the name of a model");
    check_bad("base x5,", 50, "lacks the name of a model");
    check_bad("0.5*", 50, "lacks the name of a model");
    check_bad("1e30*base", 50, "has a weight beyond 1000");
    check_bad("base x2, -1001*base rest", 50, "has a weight beyond 1000");
    check_bad("base|", 50, "lacks the name of a model");
    check_bad("base x15, tuned x30", 50, "has 45 steps and the run has 50");
    check_bad("base x15, tuned x36", 50, "more steps than the run");
    check_bad("base x1000001", 50, "no number of steps");
    check_bad("base x-1", 50, "no number of steps");
    check_bad("base x", 50, "no number of steps");
    check_bad("base x 5", 50, "no number of steps");
    check_bad("tune x5", 50, "names tune, and no model has that name; give it with -m tune=PATH");
    check_bad("basex5", 50, "names basex5");
    check_bad("base, tuned x5", 50, "goes on after");
    check_bad("base rest, tuned x5", 50, "goes on after");
    check_bad("base; tuned", 50, "something it should not, at \"; tuned\"");
    check_bad("base tuned", 50, "something it should not");
    check_bad("base|tuned|other", 50, "something it should not");
    check_bad("0.5*base|tuned", 50, "weights the halves");
    check_bad("nan*base", 50, "no number");
    check_bad("base+base+base+base+base+base+base+base+base", 50, "more than 8 models");
    check_bad("base", 0, "steps is 0");
    check_bad("base", 1000001, "steps is 1000001");
}

static void test_sum(void **state)
{
    (void)state;
    mix_step s;
    error e = {0};
    assert_true(mix_parse_sum(&s, "0.25*base+0.75*tuned", names, 2, &e));
    assert_int_equal(s.terms, 2);
    assert_true(s.share[0] == 0.25f && s.share[1] == 0.75f && s.model[1] == TUNED);
    static const char *const bad[] = {"base|tuned", "base x5", "base, tuned", "", "other", "base+"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (error){0};
        assert_false(mix_parse_sum(&s, bad[i], names, 2, &e));
        assert_int_equal(e.code, ERROR_USAGE);
        assert_non_null(strstr(e.text, "the blend"));
    }
}

static void test_switch(void **state)
{
    (void)state;
    int first, second, at;
    mix a = parse("base x15, tuned rest", 50), b = parse("base x20, tuned rest", 50);
    mix c = parse("base|tuned x10, base rest", 50), d = parse("base", 50);
    mix f = parse("base x10, tuned x10, base rest", 50);
    assert_true(mix_is_switch(&a, &first, &second, &at));
    assert_true(first == BASE && second == TUNED && at == 15);
    assert_false(mix_is_switch(&c, &first, &second, &at));
    assert_false(mix_is_switch(&d, &first, &second, &at));
    assert_false(mix_is_switch(&f, &first, &second, &at));
    assert_int_equal(mix_common(&a, &b), 15);
    assert_int_equal(mix_common(&a, &c), 0);
    assert_int_equal(mix_last_model(&a), TUNED);
    mix_close(&a), mix_close(&b), mix_close(&c), mix_close(&d), mix_close(&f);
}

/* ---- runs ---------------------------------------------------------------------------------- */

static generate_options options(sampler_kind kind)
{
    return (generate_options){.prompt = "a dog",
                              .negative = "rain",
                              .seed = 7,
                              .guidance = 3,
                              .sampler = {.kind = kind, .steps = STEPS}};
}

static generate_result run(const char *schedule, const generate_options *o)
{
    generate_result r;
    error e = {0};
    mix m = parse(schedule, o->sampler.steps);
    if (!generator_run_mixed(generators, MODELS, &m, o, &r, &e))
        fail_msg("%s: %s", schedule, e.text);
    mix_close(&m);
    return r;
}

/* One model alone, as without any schedule. */
static generate_result run_alone(int which, const generate_options *o)
{
    generate_result r;
    error e = {0};
    if (!generator_run(generators[which], o, &r, &e)) fail_msg("%s", e.text);
    return r;
}

static bool same(const generate_result *a, const generate_result *b)
{
    size_t pixels = (size_t)a->picture.width * (size_t)a->picture.height * 3;
    return memcmp(a->final, b->final, LATENT * sizeof(float)) == 0 &&
           memcmp(a->picture.pixels, b->picture.pixels, pixels) == 0;
}

static double distance(const generate_result *a, const generate_result *b)
{
    return relative_error(a->final, b->final, LATENT);
}

static void check_same(const char *schedule, generate_result wanted, const generate_options *o)
{
    generate_result r = run(schedule, o);
    if (!same(&r, &wanted)) fail_msg("%s is another run (%g)", schedule, distance(&r, &wanted));
    generate_result_free(&r);
    generate_result_free(&wanted);
}

static void test_ends(void **state)
{
    (void)state;
    for (int kind = SAMPLER_DDIM; kind <= SAMPLER_DDPM; kind++) {
        generate_options o = options((sampler_kind)kind);
        check_same("base x0, tuned rest", run_alone(TUNED, &o), &o);
        check_same("base x6, tuned rest", run_alone(BASE, &o), &o);
        check_same("tuned x6, base x0", run_alone(TUNED, &o), &o);
        check_same("base x1, base x2, base x0, base x3", run_alone(BASE, &o), &o);
        check_same("base|base", run_alone(BASE, &o), &o);
        check_same("tuned|tuned x3, tuned rest", run_alone(TUNED, &o), &o);
        check_same("1*base", run_alone(BASE, &o), &o);
        generate_result a = run_alone(BASE, &o), b = run_alone(TUNED, &o),
                        c = run("base x3, tuned x3", &o);
        assert_true(distance(&a, &b) > 1e-3);
        assert_true(distance(&a, &c) > 1e-4 && distance(&b, &c) > 1e-4);
        generate_result_free(&a);
        generate_result_free(&b);
        generate_result_free(&c);
    }
    /* without guidance the conditional half is all there is */
    generate_options o = options(SAMPLER_DDIM);
    o.guidance = 1;
    check_same("base|tuned", run_alone(TUNED, &o), &o);
}

static void check_close(const char *schedule, generate_result wanted, const generate_options *o)
{
    generate_result r = run(schedule, o);
    double far = distance(&r, &wanted);
    if (!(far < 1e-5)) fail_msg("%s: %g away", schedule, far);
    generate_result_free(&r);
    generate_result_free(&wanted);
}

static void test_blends(void **state)
{
    (void)state;
    generate_options o = options(SAMPLER_DDIM);
    check_close("1*base+0*tuned", run_alone(BASE, &o), &o);
    check_close("0*base+1*tuned", run_alone(TUNED, &o), &o);
    check_close("0.5*base+0.5*base", run_alone(BASE, &o), &o);
    check_close("2*base+-1*base", run_alone(BASE, &o), &o);
    generate_result a = run("0.5*base+0.5*tuned", &o), b = run("0.5*tuned+0.5*base", &o);
    generate_result c = run_alone(BASE, &o), d = run("base|tuned", &o), f = run("tuned|base", &o);
    assert_true(distance(&a, &b) < 1e-5);
    assert_true(distance(&a, &c) > 1e-4 && distance(&d, &c) > 1e-4 && distance(&d, &f) > 1e-4);
    generate_result_free(&a), generate_result_free(&b), generate_result_free(&c);
    generate_result_free(&d), generate_result_free(&f);
}

/* Keeps the state after step `at`. */
typedef struct keeper {
    int at;
    generate_snapshot now;
    float latent[LATENT];
    rng random;
} keeper;

static void keep(void *user, const generate_snapshot *s)
{
    keeper *k = user;
    if (s->step != k->at) return;
    memcpy(k->latent, s->latent, sizeof k->latent);
    k->random = *s->random;
    k->now = (generate_snapshot){.kind = s->kind,
                                 .steps = s->steps,
                                 .seed = s->seed,
                                 .step = s->step,
                                 .latent = k->latent,
                                 .numbers = LATENT,
                                 .random = &k->random};
}

static void test_cut(void **state)
{
    (void)state;
    static const char *const schedules[] = {"base x3, tuned rest", "base|tuned x2, base rest",
                                            "tuned"};
    for (int kind = SAMPLER_DDIM; kind <= SAMPLER_DDPM; kind++)
        for (int eta = 0; eta < 2; eta++)
            for (size_t i = 0; i < 3; i++)
                for (int at = 0; at <= STEPS; at += i == 0 ? 1 : 2) {
                    if (at == 0) continue;
                    keeper k = {.at = at};
                    generate_options o = options((sampler_kind)kind);
                    o.sampler.eta = (float)eta;
                    o.reached = keep;
                    o.user = &k;
                    generate_result whole = run(schedules[i], &o);
                    assert_int_equal(k.now.step, at);
                    o.reached = NULL;
                    o.from = &k.now;
                    check_same(schedules[i], whole, &o);
                }
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

/* The same for all that came later, which remember more: left after the switch, and before. */
static void test_cut_others(void **state)
{
    (void)state;
    for (int kind = SAMPLER_DDPM + 1; kind < sampler_kind_count(); kind++) {
        copier k = {.at = 1 + kind % (STEPS - 1)};
        generate_options o = options((sampler_kind)kind);
        o.sampler.eta = 0.5f; /* where it means something */
        o.reached = copy;
        o.user = &k;
        generate_result whole = run("base x2, tuned rest", &o);
        assert_int_equal(k.now->step, k.at);
        o.reached = NULL;
        o.from = k.now;
        check_same("base x2, tuned rest", whole, &o);
        free(k.now);
    }
}

/* Another tail after the same first steps: what a shared prefix is. */
static void test_shared_prefix(void **state)
{
    (void)state;
    keeper k = {.at = 2};
    generate_options o = options(SAMPLER_DDPM);
    o.reached = keep;
    o.user = &k;
    generate_result r = run("base x2, other rest", &o);
    generate_result_free(&r);
    o.reached = NULL;
    generate_result whole = run("base x4, tuned rest", &o);
    o.from = &k.now;
    check_same("base x4, tuned rest", whole, &o);
}

/* ---- what does not fit --------------------------------------------------------------------- */

static void test_misfits(void **state)
{
    (void)state;
    error e = {0};
    model *ddpm = NULL;
    generator *other = NULL;
    if (!model_open(&ddpm, path_ddpm, NULL, NULL, &e) || !generator_open(&other, cpu, ddpm, &e))
        fail_msg("%s", e.text);
    generator *two[] = {generators[BASE], other};
    generate_options o = options(SAMPLER_DDIM);
    mix m = parse("base x3, tuned x3", STEPS), one = parse("base", STEPS);
    generate_result r;
    assert_false(generator_check_mixed(two, 2, &m, &o, NULL, &e));
    assert_non_null(strstr(e.text, "cannot take turns"));
    assert_non_null(strstr(e.text, path_ddpm));
    e = (error){0};
    assert_false(generator_run_mixed(two, 2, &m, &o, &r, &e));
    assert_null(r.initial);
    /* a model that no step asks does not matter */
    e = (error){0};
    assert_true(generator_check_mixed(two, 2, &one, &o, NULL, &e));
    assert_true(generator_run_mixed(two, 2, &one, &o, &r, &e));
    generate_result_free(&r);
    e = (error){0};
    o.from = &(generate_snapshot){
        .step = STEPS + 1, .kind = o.sampler.kind, .steps = STEPS, .seed = o.seed};
    assert_false(generator_run_mixed(generators, MODELS, &one, &o, &r, &e));
    assert_non_null(strstr(e.text, "cannot go on from step 7"));
    o.noise = NOISE_CUDA;
    e = (error){0};
    assert_false(generator_run_mixed(generators, MODELS, &one, &o, &r, &e));
    assert_non_null(strstr(e.text, "drew its noise by another generator"));
    mix_close(&m);
    mix_close(&one);
    generator_close(&other);
    model_close(&ddpm);
}

/* ---- blended weights ----------------------------------------------------------------------- */

static void check_merge(const float share[2], int second, const model *wanted)
{
    const weight_set *set[] = {&opened[BASE]->unet_weights, &opened[second]->unet_weights};
    weight_set out;
    error e = {0};
    if (!weights_merge(&out, set, share, names, 2, NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(out.count, wanted->unet_weights.count);
    for (size_t i = 0; i < out.count; i++) {
        const weight *a = &out.item[i], *b = &wanted->unet_weights.item[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->type, DTYPE_F32);
        size_t n = (size_t)weight_elements(a);
        assert_true(relative_error(a->data, b->data, n) < 1e-6);
    }
    weight_set_close(&out);
}

static void test_merge(void **state)
{
    (void)state;
    check_merge((const float[]){1, 0}, TUNED, opened[BASE]);
    check_merge((const float[]){0, 1}, TUNED, opened[TUNED]);
    check_merge((const float[]){0.5f, 0.5f}, BASE, opened[BASE]);
    check_merge((const float[]){3, -2}, BASE, opened[BASE]);
    const weight_set *set[] = {&opened[BASE]->unet_weights, &opened[TUNED]->clip_weights};
    weight_set out;
    error e = {0};
    assert_false(weights_merge(&out, set, (const float[]){1, 1}, names, 2, NULL, &e));
    assert_non_null(strstr(e.text, "base and tuned cannot be blended: only "));
    e = (error){0};
    set[1] = set[0];
    assert_false(weights_merge(&out, set, (const float[]){3e38f, 3e38f}, names, 2, NULL, &e) &&
                 weights_merge(&out, set, (const float[]){INFINITY, 1}, names, 2, NULL, &e));
    assert_int_equal(e.code, ERROR_NUMERIC);
    assert_null(out.item);
}

static bool stops_at(void *user, int64_t done, int64_t total)
{
    assert_true(done <= total);
    int *left = user;
    return --*left < 0;
}

/* Stopped wherever it asks: nothing is left where nothing was, and what was there stays. */
static void test_stopped_merge(void **state)
{
    (void)state;
    const model *part[] = {opened[BASE], opened[TUNED]};
    const float half[] = {0.5f, 0.5f};
    char *folder = path_join(scratch_dir(), "blend"), *mine = path_join(folder, "mine");
    int asked = 0;
    for (bool done = false; !done; asked++) {
        error e = {0};
        int left = asked;
        done = model_merge(part, half, 2, folder, &(work_watch){stops_at, &left}, &e);
        if (!done) assert_int_equal(e.code, ERROR_CANCELLED);
        assert_int_equal(path_is_dir(folder), done);
    }
    /* every weight of both networks, and each file */
    assert_true((size_t)asked > part[0]->unet_weights.count + part[0]->clip_weights.count + 3);
    assert_true(path_make_dir(mine, NULL));
    int left = 0;
    error e = {0};
    assert_false(model_merge(part, half, 2, folder, &(work_watch){stops_at, &left}, &e));
    assert_true(path_is_dir(mine));
    free(mine);
    free(folder);
}

/* ---- all ----------------------------------------------------------------------------------- */

/* Every weight of a file a little different: up to a tenth of it and 0.01. */
static bool perturb(const char *folder, const char *file, uint32_t seed, error *e)
{
    safetensors f;
    char *path = path_join(folder, file);
    if (!path || !safetensors_open(&f, path, e)) return false;
    safetensors_entry *entry = calloc(f.count, sizeof *entry);
    bool ok = entry;
    for (size_t i = 0; ok && i < f.count; i++) {
        size_t n = (size_t)f.entry[i].bytes / sizeof(float);
        float *data = malloc(f.entry[i].bytes), *noise = malloc(f.entry[i].bytes);
        ok = data && noise;
        if (!ok) break;
        memcpy(data, f.entry[i].data, f.entry[i].bytes);
        fill_random(noise, n, seed + (uint32_t)i);
        for (size_t x = 0; x < n; x++) data[x] += noise[x] * (0.1f * fabsf(data[x]) + 0.01f);
        free(noise);
        entry[i] = f.entry[i];
        entry[i].data = data;
    }
    ok = ok && safetensors_write(path, entry, f.count, NULL, 0, e);
    for (size_t i = 0; entry && i < f.count; i++) free((void *)(uintptr_t)entry[i].data);
    free(entry);
    safetensors_close(&f);
    free(path);
    return ok;
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    const char *scratch = scratch_dir();
    snprintf(path_base, sizeof path_base, "%s/base", scratch);
    snprintf(path_tuned, sizeof path_tuned, "%s/tuned", scratch);
    snprintf(path_ddpm, sizeof path_ddpm, "%s/ddpm", scratch);
    const char *const path[] = {path_base, path_tuned, path_base};
    bool ok = toy_stable_diffusion(path_base, &e) && toy_stable_diffusion(path_tuned, &e) &&
              toy_unconditional(path_ddpm, &e) &&
              perturb(path_tuned, "unet/diffusion_pytorch_model.safetensors", 3, &e) &&
              perturb(path_tuned, "text_encoder/model.safetensors", 4, &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 1}, &e);
    for (int i = 0; ok && i < MODELS; i++)
        ok = model_open(&opened[i], path[i], NULL, NULL, &e) &&
             generator_open(&generators[i], cpu, opened[i], &e);
    if (!ok) fprintf(stderr, "%s\n", e.text);
    return ok ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        generator_close(&generators[i]);
        model_close(&opened[i]);
    }
    device_close(&cpu);
    return 0;
}

/* ---- together ------------------------------------------------------------------------------ */

enum { TOGETHER = 5 };

static void check_together(const char *schedule, sampler_kind kind, float guidance, int clip_skip)
{
    static const char *const prompts[TOGETHER] = {"a dog", "", "a dog", "two cats and a boat",
                                                  "rain"};
    generate_options o[TOGETHER];
    generate_result together[TOGETHER];
    error e = {0};
    for (int k = 0; k < TOGETHER; k++) {
        o[k] = options(kind);
        o[k].prompt = prompts[k];
        o[k].negative = k % 2 ? "rain" : NULL;
        o[k].seed = 40 + (uint64_t)k;
        o[k].guidance = guidance > 1 ? guidance + (float)k : guidance;
        o[k].guidance_rescale = k == 3 ? 0.5f : 0;
        o[k].sampler.eta = k == 2 ? 0.7f : 0;
        o[k].clip_skip = clip_skip;
    }
    mix m = parse(schedule, STEPS);
    if (!generator_run_together(generators, MODELS, &m, o, TOGETHER, together, &e))
        fail_msg("%s", e.text);
    for (int k = 0; k < TOGETHER; k++) {
        generate_result alone = run(schedule, &o[k]);
        if (!samples_alike(cpu, alone.final, together[k].final, LATENT) ||
            (cpu->batches_alike && !same(&alone, &together[k])))
            fail_msg("%s: picture %d is another (%g)", schedule, k, distance(&alone, &together[k]));
        generate_result_free(&alone);
        generate_result_free(&together[k]);
    }
    mix_close(&m);
}

/* Pictures that share their evaluations are what each is alone: bit for bit, where they are to. */
static void test_together(void **state)
{
    (void)state;
    check_together("base", SAMPLER_DDIM, 3, 0);
    check_together("base", SAMPLER_DDPM, 1, 0);
    check_together("base x2, tuned rest", SAMPLER_DDPM, 3, 1);
    check_together("0.3*base+0.7*tuned x2, base|tuned rest", SAMPLER_DDIM, 3, 0);
    check_together("base|tuned", SAMPLER_DDIM, 1, 0);
    generate_options a = options(SAMPLER_DDIM), b = a;
    mix m = parse("base", STEPS);
    assert_true((generator_together(generators, MODELS, &m, &a) > 1) == cpu->batches_alike);
    b.seed = 9, b.prompt = "x", b.guidance = 9, b.sampler.eta = 1;
    assert_true(generate_alike(&a, &b));
    b.guidance = 1;
    assert_false(generate_alike(&a, &b));
    b = a, b.width = 64;
    assert_false(generate_alike(&a, &b));
    b = a, b.sampler.steps = 7;
    assert_false(generate_alike(&a, &b));
    b = a, b.sampler.has_spacing = true;
    assert_false(generate_alike(&a, &b));
    mix_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),         cmocka_unit_test(test_bad_forms),
        cmocka_unit_test(test_sum),           cmocka_unit_test(test_switch),
        cmocka_unit_test(test_ends),          cmocka_unit_test(test_blends),
        cmocka_unit_test(test_cut),           cmocka_unit_test(test_cut_others),
        cmocka_unit_test(test_shared_prefix), cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_merge),         cmocka_unit_test(test_stopped_merge),
        cmocka_unit_test(test_together),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
