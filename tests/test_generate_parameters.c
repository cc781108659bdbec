/* SPDX-License-Identifier: Apache-2.0
 *
 * test_generate_parameters: the text that a picture carries, whole, for jobs with every setting. */
#include "generate/parameters.h"
#include "generate/settings.h"
#include "model/hash.h"
#include "support.h"
#include "toy.h"

enum { MODELS = 2 };

static const char *const names[MODELS] = {"base", "tuned"};

static struct {
    device *device[2]; /* f32, bf16 */
    model *model[MODELS];
    generator *generator[MODELS], *narrow; /* narrow: of the first model, in bf16 */
    char hash[MODELS][11];
} w;

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    for (int i = 0; i < 2; i++) {
        device_options o = {.threads = 1, .precision = i ? DTYPE_BF16 : DTYPE_F32};
        if (!device_open(&w.device[i], "cpu", &o, &e)) return -1;
    }
    for (int i = 0; i < MODELS; i++) {
        char path[300], hash[65];
        snprintf(path, sizeof path, "%s/%s", scratch_dir(), i ? "dog" : "toy");
        if (!(i ? toy_unconditional(path, &e) : toy_stable_diffusion(path, &e)) ||
            !model_open(&w.model[i], path, NULL, NULL, &e) ||
            !generator_open(&w.generator[i], w.device[0], w.model[i], &e)) {
            fprintf(stderr, "%s\n", e.text);
            return -1;
        }
        model_hash(w.model[i], hash);
        snprintf(w.hash[i], sizeof w.hash[i], "%.10s", hash);
    }
    return generator_open(&w.narrow, w.device[1], w.model[0], &e) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    generator_close(&w.narrow);
    for (int i = 0; i < MODELS; i++) {
        generator_close(&w.generator[i]);
        model_close(&w.model[i]);
    }
    for (int i = 0; i < 2; i++) device_close(&w.device[i]);
    return 0;
}

/* %s in the expected text: the models' short hashes, by turns. */
static void expect(const image_job *job, const char *expected)
{
    error e = {0};
    image made = {.width = 32, .height = 16};
    char *text, wanted[1024];
    snprintf(wanted, sizeof wanted, expected, w.hash[0], w.hash[0], w.hash[1]);
    if (!parameters_text(&text, job, &made, &e)) fail_msg("%s", e.text);
    assert_string_equal(text, wanted);
    free(text);
}

static generate_options plain(void)
{
    return (generate_options){.prompt = "a dog",
                              .seed = 18446744073709551615u,
                              .guidance = 7.5f,
                              .sampler = {.kind = SAMPLER_DDIM, .steps = 50}};
}

static void test_alone(void **state)
{
    (void)state;
    generate_options o = plain();
    image_job job = {.models = w.generator, .count = 1, .options = &o};
    expect(
        &job,
        "a dog\nSteps: 50, Sampler: DDIM, CFG scale: 7.5, Seed: 18446744073709551615, Size: 32x16, "
        "Model hash: %s, Model: toy, RNG: CPU, Version: likeness " LIKENESS_VERSION);
    static float noise[4 * 16 * 16];
    o.negative = "blurry, dark";
    o.latents = noise;
    o.clip_skip = 1;
    o.guidance_rescale = 0.7f;
    o.sampler.eta = 0.25f;
    o.sampler.has_variance = o.sampler.has_spacing = true;
    o.sampler.variance = VARIANCE_FIXED_LARGE;
    o.sampler.spacing = SPACING_TRAILING;
    job.models = &w.narrow;
    expect(&job,
           "a dog\nNegative prompt: blurry, dark\nSteps: 50, Sampler: DDIM, CFG scale: 7.5, "
           "Seed: 18446744073709551615, Size: 32x16, Model hash: %s, Model: toy, Clip skip: 2, "
           "Guidance rescale: 0.7, Eta: 0.25, Spacing: trailing, Initial latents: ad7facb258, "
           "Precision: bf16, Version: likeness " LIKENESS_VERSION);
    o = plain();
    o.sampler = (sampler_options){.steps = 9, .sigmas = "karras"};
    assert_true(sampler_choose(&o.sampler, "DPM++ 2M"));
    job.models = w.generator;
    expect(&job,
           "a dog\nSteps: 9, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: "
           "18446744073709551615, Size: 32x16, Model hash: %s, Model: toy, RNG: CPU, Version: "
           "likeness " LIKENESS_VERSION);
    o.sampler.sigmas = "7,2,0";
    o.sampler.steps = 2;
    expect(&job,
           "a dog\nSteps: 2, Sampler: DPM++ 2M, Sigmas: \"7,2,0\", CFG scale: 7.5, Seed: "
           "18446744073709551615, Size: 32x16, Model hash: %s, Model: toy, RNG: CPU, Version: "
           "likeness " LIKENESS_VERSION);
    o = plain();
    o.sampler = (sampler_options){.kind = SAMPLER_DDPM,
                                  .steps = 9,
                                  .has_variance = true,
                                  .variance = VARIANCE_FIXED_LARGE,
                                  .eta = 1};
    job.models = w.generator;
    expect(
        &job,
        "a dog\nSteps: 9, Sampler: DDPM, CFG scale: 7.5, Seed: 18446744073709551615, Size: 32x16, "
        "Model hash: %s, Model: toy, Variance: fixed_large, RNG: CPU, Version: "
        "likeness " LIKENESS_VERSION);
}

/* An unconditional model has neither prompt nor guidance. */
static void test_unconditional(void **state)
{
    (void)state;
    error e = {0};
    generate_options o = plain();
    image made = {.width = 16, .height = 16};
    image_job job = {.models = w.generator + 1, .count = 1, .options = &o};
    char *text;
    o.prompt = NULL;
    assert_true(parameters_text(&text, &job, &made, &e));
    assert_int_equal(
        strncmp(text, "Steps: 50, Sampler: DDIM, Seed: 18446744073709551615, Size: 16x16, ", 60),
        0);
    assert_null(strstr(text, "CFG"));
    free(text);
}

static void test_turns(void **state)
{
    (void)state;
    error e = {0};
    generate_options o = plain();
    mix m;
    image_job job = {w.generator, names, MODELS, &m, &o};
    assert_true(mix_parse(&m, "base x15, tuned rest", names, MODELS, 50, &e));
    expect(
        &job,
        "a dog\nSteps: 50, Sampler: DDIM, CFG scale: 7.5, Seed: 18446744073709551615, Size: 32x16, "
        "Model hash: %s, Model: toy, Schedule: \"base x15, tuned x35\", "
        "Models: \"base=toy %s, tuned=dog %s\", Refiner: dog, Refiner switch at: 0.3, RNG: CPU, "
        "Version: likeness " LIKENESS_VERSION);
    mix_close(&m);
    /* one model alone, though two were given */
    assert_true(mix_parse(&m, "tuned x0, base", names, MODELS, 50, &e));
    expect(
        &job,
        "a dog\nSteps: 50, Sampler: DDIM, CFG scale: 7.5, Seed: 18446744073709551615, Size: 32x16, "
        "Model hash: %s, Model: toy, RNG: CPU, Version: likeness " LIKENESS_VERSION);
    mix_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone),
                                       cmocka_unit_test(test_unconditional),
                                       cmocka_unit_test(test_turns)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
