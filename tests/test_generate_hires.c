/* SPDX-License-Identifier: Apache-2.0
 *
 * The second pass over a larger picture: how latents grow (fixtures/upscale.json, made by
 * tools/fixtures/upscale.py), what is drawn, counted and told, what is refused. */
#include <jansson.h>
#include <math.h>

#include "generate/hires.h"
#include "generate/parameters.h"
#include "foreign.h"
#include "support.h"
#include "toy.h"

enum { SIDE = 32, SPACE = 16 * 16, NUMBERS = 4 * SPACE };

static void test_upscale(void **state)
{
    (void)state;
    json_error_t why;
    json_t *file = json_load_file(fixture_path("upscale.json"), 0, &why);
    if (!file) fail_msg("%s", why.text);
    const json_t *runs = json_object_get(file, "runs"), *given = json_object_get(file, "in");
    float in[2 * 5 * 4], out[2 * 10 * 12];
    for (size_t i = 0; i < 40; i++) in[i] = (float)json_number_value(json_array_get(given, i));
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i), *to = json_object_get(run, "size");
        int height = (int)json_integer_value(json_array_get(to, 0)),
            width = (int)json_integer_value(json_array_get(to, 1));
        const char *name = json_string_value(json_object_get(run, "name"));
        latent_upscaler how, again;
        assert_true(upscaler_parse(&how, name, NULL));
        assert_true(upscaler_parse(&again, upscaler_label(how), NULL) && again == how);
        assert_true(upscaler_parse(&again, upscaler_name(how), NULL) && again == how);
        assert_true(upscale(out, in, 2, 5, 4, height, width, how, NULL));
        for (int k = 0; k < 2 * height * width; k++) {
            double wanted = json_number_value(
                json_array_get(json_object_get(run, "out"), (size_t)k));
            if (!(fabs((double)out[k] - wanted) < 2e-6))
                fail_msg("%s, %d: %g, not %g", name, k, (double)out[k], wanted);
        }
    }
    assert_int_equal(json_array_size(runs), 12);
    json_decref(file);
}

/* ---- a toy's pictures ---- */

static char path_toy[1100], path_ddpm[1100];
static model *toy, *ddpm;
static device *cpu;
static generator *of_toy, *of_ddpm;

static generate_options options(void)
{
    return (generate_options){.prompt = "a dog",
                              .seed = 3,
                              .guidance = 7.5f,
                              .hires = 1.5,
                              .hires_strength = 0.7,
                              .sampler = {.kind = SAMPLER_DDIM, .steps = 4}};
}

static generate_result made_with(const generate_options *o)
{
    generate_result r;
    error e = {0};
    if (!generator_run(of_toy, o, &r, &e)) fail_msg("%s", e.text);
    return r;
}

typedef struct heard {
    int step, steps;
} heard;

static bool on_progress(void *user, int step, int steps)
{
    heard *h = user;
    assert_true(step >= h->step);
    h->step = step;
    h->steps = steps;
    return false;
}

/* Its second pass is a run from the first's latents, enlarged and noised by the seed. */
static void test_passes(void **state)
{
    (void)state;
    for (int steps = 0; steps < 4; steps += 3) {
        generate_options o = options(), plain = options(), second = options();
        float big[4 * 24 * 24];
        heard h = {0, 0};
        o.hires_steps = steps;
        o.progress = on_progress;
        o.user = &h;
        generate_result r = made_with(&o);
        assert_int_equal(r.picture.width, 48);
        assert_int_equal(r.picture.height, 48);
        assert_int_equal(r.height, 24);
        assert_int_equal(r.begun_height, 16);
        assert_int_equal(h.step, 4 + (steps ? steps : 4));
        assert_int_equal(h.steps, h.step);
        plain.hires = 0;
        generate_result first = made_with(&plain);
        assert_memory_equal(first.initial, r.initial, NUMBERS * sizeof(float));
        assert_true(upscale(big, first.final, 4, 16, 16, 24, 24, UPSCALE_BILINEAR, NULL));
        second.hires = 0;
        second.width = second.height = 48;
        second.clean = big;
        second.last_steps = steps ? steps : 4;
        second.sampler.steps = steps ? 4 : 5; /* 3 / 0.7, 4 / 0.7 */
        generate_result last = made_with(&second);
        assert_memory_equal(last.final, r.final, sizeof big);
        generate_result_free(&r), generate_result_free(&first), generate_result_free(&last);
    }
}

/* Together, in turns, and by the check, as alone. */
static void test_together(void **state)
{
    (void)state;
    generate_options o[2] = {options(), options()}, other = options();
    generate_result r[2], turned;
    error e = {0};
    mix m;
    const char *const names[] = {"a", "b"};
    generator *const both[] = {of_toy, of_toy};
    o[1].seed = 4;
    if (!generator_check(of_toy, &o[0], NULL, &e) ||
        !generator_run_together(&of_toy, 1, NULL, o, 2, r, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < 2; i++) {
        generate_result alone = made_with(&o[i]);
        assert_memory_equal(alone.final, r[i].final, 4 * 24 * 24 * sizeof(float));
        generate_result_free(&alone);
    }
    assert_true(mix_parse(&m, "a x1, b x3", names, 2, generate_steps(&o[0]), NULL));
    if (!generator_check_mixed(both, 2, &m, o, NULL, &e) ||
        !generator_run_mixed(both, 2, &m, o, &turned, &e))
        fail_msg("%s", e.text);
    assert_memory_equal(turned.final, r[0].final, 4 * 24 * 24 * sizeof(float));
    assert_true(generator_together(both, 2, &m, o) >= 1);
    generator_is_small(both, 2, &m, o);
    mix_close(&m);
    generate_result_free(&turned), generate_result_free(&r[0]), generate_result_free(&r[1]);
    assert_true(generate_alike(&o[0], &o[1]));
    other.hires = 2;
    assert_false(generate_alike(&o[0], &other));
    other = options();
    other.hires_strength = 0.5;
    assert_false(generate_alike(&o[0], &other));
    other = options();
    other.hires_upscaler = "latent-nearest";
    assert_false(generate_alike(&o[0], &other));
}

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
    image init;
    static const double bad[] = {1, 0.5, -2, 17, NAN};
    generate_options o;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o = options();
        o.hires = bad[i];
        expect_refused(of_toy, &o, "give a number above 1, and at most 16");
    }
    o = options();
    o.hires_strength = 0;
    expect_refused(of_toy, &o, "hires strength is 0; give a number above 0, up to 1");
    o.hires_strength = 1.5;
    expect_refused(of_toy, &o, "hires strength is 1.5");
    o = options();
    o.hires_steps = -1;
    expect_refused(of_toy, &o, "hires steps is -1");
    o.hires_steps = 900;
    expect_refused(of_toy, &o,
                   "900 hires steps at hires strength 0.7 are the last of 1285, but the model was "
                   "trained with 1000");
    o.hires_steps = 2000000000;
    expect_refused(of_toy, &o, "2000000000 hires steps at hires strength 0.7");
    o.hires_steps = 1;
    o.hires_strength = 1e-300;
    expect_refused(of_toy, &o, "1 hires steps at hires strength 1e-300");
    o = options();
    o.hires_upscaler = "ESRGAN_4x";
    expect_refused(of_toy, &o, "hires upscaler \"ESRGAN_4x\": there are latent, ");
    o = options();
    o.sampler.sigmas = "14.6,7,3,1,0";
    assert_true(sampler_kind_parse(&o.sampler.kind, "euler"));
    expect_refused(of_toy, &o, "a list of sigmas is for one pass");
    o = options();
    assert_true(image_new(&init, SIDE, SIDE, NULL));
    o.init = &init;
    o.strength = 0.5;
    expect_refused(of_toy, &o, "--hires is for pictures from text");
    image_free(&init);
    o = options();
    o.prompt = NULL;
    expect_refused(of_ddpm, &o, "is an unconditional model");
}

/* Sides that are no whole latents are cut, and that is told. */
static void test_cut(void **state)
{
    (void)state;
    generate_options o = options();
    generate_result r;
    error e = {0};
    char *notes = NULL, *text;
    o.hires = 1.42;
    o.width = 34;
    o.height = 32;
    if (!generator_check(of_toy, &o, &notes, &e)) fail_msg("%s", e.text);
    assert_non_null(strstr(notes, "hires 1.42 makes this 48x44: as much as is whole latents\n"));
    free(notes);
    if (!generator_run(of_toy, &o, &r, &e)) fail_msg("%s", e.text);
    assert_true(r.picture.width == 48 && r.picture.height == 44);
    image_job job = {.models = &of_toy, .count = 1, .options = &o};
    assert_true(parameters_text(&text, &job, &r.picture, NULL));
    assert_non_null(strstr(text, "Size: 34x32, "));
    assert_non_null(strstr(text, "Hires upscale: 1.42, Hires resize: 48x44, "));
    free(text);
    generate_result_free(&r);
}

static void test_settings(void **state)
{
    (void)state;
    generate_options o = options();
    image size = {.width = 48, .height = 48};
    image_job job = {.models = &of_toy, .count = 1, .options = &o};
    char *text;
    o.width = o.height = SIDE;
    assert_true(parameters_text(&text, &job, &size, NULL));
    assert_non_null(strstr(text, "Size: 32x32, "));
    assert_non_null(strstr(text, "Denoising strength: 0.7, Hires upscale: 1.5, Hires upscaler: "
                                 "Latent, "));
    free(text);
    o.hires_steps = 3;
    o.hires_upscaler = "latent-nearest-exact";
    assert_true(parameters_text(&text, &job, &size, NULL));
    assert_non_null(strstr(text, "Hires steps: 3, Hires upscaler: Latent (nearest-exact), "));
    free(text);
}

static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    generate_options o = options();
    for (long n = 0, step = 1;; n += step, step += n > 60) {
        generate_result r;
        error e = {0};
        allocation_fail_at(n);
        bool ok = generator_run(of_toy, &o, &r, &e);
        bool struck = allocation_fail_end();
        if (ok) generate_result_free(&r);
        if (!struck) break;
        if (!ok) assert_int_equal(e.code, ERROR_MEMORY);
    }
}

static int open_toys(void **state)
{
    (void)state;
    error e = {0};
    snprintf(path_toy, sizeof path_toy, "%s/toy", scratch_dir());
    snprintf(path_ddpm, sizeof path_ddpm, "%s/ddpm", scratch_dir());
    bool ok = toy_stable_diffusion(path_toy, &e) && toy_unconditional(path_ddpm, &e) &&
              model_open(&toy, path_toy, NULL, NULL, &e) &&
              model_open(&ddpm, path_ddpm, NULL, NULL, &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 1}, &e) &&
              generator_open(&of_toy, cpu, toy, &e) && generator_open(&of_ddpm, cpu, ddpm, &e);
    if (!ok) print_error("%s\n", e.text);
    return ok ? 0 : -1;
}

static int close_toys(void **state)
{
    (void)state;
    generator_close(&of_toy);
    generator_close(&of_ddpm);
    device_close(&cpu);
    model_close(&toy);
    model_close(&ddpm);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upscale),  cmocka_unit_test(test_passes),
        cmocka_unit_test(test_together), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut),      cmocka_unit_test(test_settings),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, open_toys, close_toys);
}
