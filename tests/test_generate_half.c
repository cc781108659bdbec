/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole pictures in half types, on the device that the environment names: those of float32 but for
 * their rounding, and the same bytes in every run, on one, two and three threads; float16 where it
 * has it, and small pictures of few steps where the GPU is the emulated one. */
#include <math.h>

#include "foreign.h"
#include "generate/generate.h"
#include "support.h"

static bool on_gpu(void) { return strcmp(test_device(), "cuda") == 0; }
static bool emulated; /* a GPU: slow */

static generate_result picture(const model *m, const char *prompt, dtype precision, int threads)
{
    device *d;
    generator *g;
    generate_result r;
    error e = {0};
    generate_options o = {.prompt = prompt,
                          .seed = 42,
                          .guidance = 7.5f,
                          .sampler = {.kind = SAMPLER_DDIM, .steps = 15}};
    if (!device_open(&d, test_device(),
                     &(device_options){.threads = threads, .precision = precision}, &e))
        fail_msg("%s", e.text);
    emulated = strstr(d->name, "emulated") != NULL;
    if (emulated) o.width = o.height = 32, o.sampler.steps = 2;
    if (!generator_open(&g, d, m, &e) || !generator_run(g, &o, &r, &e)) fail_msg("%s", e.text);
    generator_close(&g);
    device_close(&d);
    return r;
}

static size_t latent_bytes(const generate_result *r)
{
    return (size_t)(r->channels * r->height * r->width) * sizeof(float);
}

/* dB */
static double psnr(const image *a, const image *b)
{
    int n = a->width * a->height * 3;
    double squares = 0;
    assert_true(a->width == b->width && a->height == b->height);
    for (int i = 0; i < n; i++) squares += pow(a->pixels[i] - b->pixels[i], 2);
    return 10 * log10(255.0 * 255 * n / squares);
}

static model *pocket(void)
{
    model *m;
    error e = {0};
    if (!model_open(&m, SOURCE_DIR "/models/pocket", NULL, NULL, &e)) fail_msg("%s", e.text);
    return m;
}

static void test_like_float32(void **state)
{
    (void)state;
    static const char *const prompts[] = {"a photo of a dog", "a sailboat at sea"};
    model *m = pocket();
    for (int i = 0; i < 2 && !(i && emulated); i++) {
        generate_result exact = picture(m, prompts[i], DTYPE_F32, 2);
        double worse = INFINITY; /* than the finer type's */
        for (dtype half = on_gpu() ? DTYPE_F16 : DTYPE_BF16; half <= DTYPE_BF16; half++) {
            generate_result rounded = picture(m, prompts[i], half, 2);
            double like = psnr(&exact.picture, &rounded.picture);
            print_message("%s, %s: %.1f dB\n", prompts[i], precision_name(half), like);
            assert_int_equal(latent_bytes(&exact), latent_bytes(&rounded));
            assert_memory_not_equal(exact.final, rounded.final,
                                    latent_bytes(&exact)); /* it was in the half type */
            assert_true(like >= 35 && like < worse);
            worse = like;
            generate_result_free(&rounded);
        }
        generate_result_free(&exact);
    }
    model_close(&m);
}

static void test_bytes(void **state)
{
    (void)state;
    model *m = pocket();
    dtype half = on_gpu() ? DTYPE_F16 : DTYPE_BF16;
    generate_result one = picture(m, "a photo of a cat", half, 1);
    for (int threads = 1; threads <= (emulated ? 1 : 3); threads++) {
        generate_result other = picture(m, "a photo of a cat", half, threads);
        assert_memory_equal(one.final, other.final, latent_bytes(&one));
        assert_memory_equal(one.picture.pixels, other.picture.pixels,
                            (size_t)(one.picture.width * one.picture.height) * 3);
        generate_result_free(&other);
    }
    generate_result_free(&one);
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_float32),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
