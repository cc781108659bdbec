/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the random generator against torch (its printed values, and hashes of whole draws made
 * with torch 2.15 on x86-64: those are equal bit for bit). */
#include "base/half.h"
#include "base/random.h"
#include "support.h"

#include <jansson.h>
#include <math.h>

enum { LATENT = 4 * 64 * 64 };

#define close_to(got, want, tolerance)                                                             \
    do {                                                                                           \
        double g_ = (got), w_ = (want);                                                            \
        if (!(fabs(g_ - w_) <= (tolerance))) fail_msg("%.12g instead of %.12g", g_, w_);           \
    } while (0)

static void expect_floats(const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) close_to(got[i], want[i], 5e-7 + 5e-8 * fabs((double)want[i]));
}
#define EXPECT_FLOATS(got, ...)                                                                    \
    expect_floats(got, (const float[]){__VA_ARGS__},                                               \
                  sizeof((const float[]){__VA_ARGS__}) / sizeof(float))

static uint64_t hash(const float *x, size_t n) /* FNV-1a of the bytes */
{
    const unsigned char *bytes = (const unsigned char *)x;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n * sizeof *x; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

static rng seeded(uint64_t seed)
{
    rng r;
    rng_seed(&r, seed);
    return r;
}

static void test_raw(void **state)
{
    (void)state;
    static const uint32_t of_42[] = {1608637542, 3421126067, 4083286876, 787846414};
    static const uint32_t of_0[] = {2357136044, 2546248239, 3071714933, 3626093760};
    rng a = seeded(42), b = seeded(0), c = seeded(42 + (7ull << 32));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rng_u32(&a), of_42[i]);
        assert_int_equal(rng_u32(&b), of_0[i]);
        assert_int_equal(rng_u32(&c), of_42[i]); /* only the low 32 bits count */
    }
    rng d = seeded(7);
    assert_true(rng_random64(&d) == 1407639518939636932u);
    assert_true(rng_random64(&d) == 5163590386780219894u);
}

static void test_uniform(void **state)
{
    (void)state;
    static const float of_42[] = {0.8822692633f, 0.9150039554f, 0.3828637600f, 0.9593056440f};
    rng r = seeded(42);
    for (int i = 0; i < 4; i++) assert_true(rng_uniform(&r) == of_42[i]);
    r = seeded(42);
    assert_true(rng_uniform_double(&r) == 0.05815448596142969);
    assert_true(rng_uniform_double(&r) == 0.06291016742457756);
}

static void test_integers(void **state)
{
    (void)state;
    static const uint32_t below[] = {542, 67, 876, 414, 26, 335};
    static const uint32_t large[] = {1428952499, 2393853710, 1239337031, 329703444};
    static const uint32_t order[] = {2, 6, 1, 8, 4, 5, 0, 9, 3, 7}, five[] = {3, 2, 0, 4, 1};
    uint32_t got[10];
    rng r = seeded(42);
    for (int i = 0; i < 6; i++) assert_int_equal(rng_below(&r, 1000), below[i]);
    r = seeded(42);
    for (int i = 0; i < 4; i++) assert_int_equal(rng_below(&r, 3000000000u), large[i]);
    r = seeded(42);
    rng_permutation(&r, got, 10);
    assert_memory_equal(got, order, sizeof order);
    r = seeded(5163590386780219894u);
    rng_permutation(&r, got, 5);
    assert_memory_equal(got, five, sizeof five);
    rng_permutation(&r, got, 1);
    assert_int_equal(got[0], 0);
    rng_permutation(&r, got, 0);
}

static void test_randn_small(void **state)
{
    (void)state;
    static const float six[] = {0.33669037f, 0.12880941f,  0.23446237f,
                                0.23033303f, -1.12285638f, -0.18632829f};
    float x[16];
    rng r = seeded(42);
    rng_randn(&r, x, 6);
    expect_floats(x, six, 6);
    r = seeded(42);
    rng_randn(&r, x, 3);
    rng_randn(&r, x + 3, 3); /* the spare value is carried over */
    expect_floats(x, six, 6);
    r = seeded(42);
    rng_randn(&r, x, 3);
    rng_randn(&r, x, 16); /* leaves the spare value alone */
    EXPECT_FLOATS(x, 1.7877893f, -0.4780453f, -0.2428586f);
    rng_randn(&r, x, 1);
    EXPECT_FLOATS(x, 0.23033303f);
    r = seeded(0);
    rng_randn(&r, x, 4);
    EXPECT_FLOATS(x, 1.5409961f, -0.2934289f, -2.1787894f, 0.56843126f);
    rng_randn(&r, x, 1);
    rng_seed(&r, 0); /* seeding clears the spare */
    rng_randn(&r, x, 4);
    EXPECT_FLOATS(x, 1.5409961f, -0.2934289f, -2.1787894f, 0.56843126f);
    rng_randn(&r, x, 0);
}

static void test_randn_latent(void **state)
{
    (void)state;
    static float x[LATENT];
    rng r = seeded(42);
    rng_randn(&r, x, LATENT);
    EXPECT_FLOATS(x, 1.9269153f, 1.4872841f, 0.9007172f, -2.1055210f, 0.6784185f, -1.2345449f,
                  -0.0430675f, -1.6046669f);
    EXPECT_FLOATS(x + LATENT - 4, -0.8111438f, -0.6357505f, 0.9728098f, -0.2934061f);
    double sum = 0, squares = 0;
    for (int i = 0; i < LATENT; i++) sum += x[i];
    for (int i = 0; i < LATENT; i++) squares += (x[i] - sum / LATENT) * (x[i] - sum / LATENT);
    close_to(sum / LATENT, 0.009140918, 1e-7);
    close_to(sqrt(squares / (LATENT - 1)), 1.004021423, 1e-6);
    close_to(sum, 149.764800, 1e-3);
    assert_true(hash(x, LATENT) == 0xa6f589a085841b88u);
    rng_randn(&r, x, LATENT);
    EXPECT_FLOATS(x, -1.3046587f, 1.4507034f, 0.2442800f, -0.2798896f);
    assert_true(hash(x, LATENT) == 0x036ed68f30e79d37u);
    r = seeded(0);
    rng_randn(&r, x, LATENT);
    EXPECT_FLOATS(x, -1.1258398f, -1.1523602f, -0.2505786f, -0.4338788f, 0.8487104f, 0.6920092f,
                  -0.3160128f, -2.1152194f);
}

static void test_randn_tail(void **state)
{
    (void)state;
    static float x[1000];
    rng r = seeded(42);
    rng_randn(&r, x, 17);
    EXPECT_FLOATS(x, 1.9269153f, -0.15959747f, -0.49739754f, 0.43958926f);
    assert_true(x[16] == -0.3097267747f);
    r = seeded(7);
    rng_randn(&r, x, 1000);
    assert_true(hash(x, 1000) == 0xdee17a057de55fc7u);
    assert_int_equal(rng_below(&r, 1000), 270); /* torch's next randint: as many draws were used */
}

/* torch 2.15 draws half types by rounding the float32 draw (the first four are named). */
static void test_randn_rounded(void **state)
{
    (void)state;
    float x[16];
    rng r = seeded(42);
    rng_randn(&r, x, 16);
    static const float bf16[] = {1.92969f, 1.48438f, 0.90234f, -2.10938f};
    static const float f16[] = {1.92676f, 1.48730f, 0.90088f, -2.10547f};
    for (int i = 0; i < 4; i++) {
        close_to(bf16_to_float(bf16_from_float(x[i])), bf16[i], 1e-5);
        close_to(half_to_float(half_from_float(x[i])), f16[i], 1e-5);
    }
}

/* A GPU's noise, against an implementation of its own (tools/fixtures/philox.py). */
static void test_randn_cuda(void **state)
{
    (void)state;
    json_error_t why;
    json_t *file = json_load_file(fixture_path("philox.json"), 0, &why);
    if (!file) fail_msg("%s", why.text);
    json_t *runs = json_object_get(file, "runs");
    size_t numbers = 0;
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i), *draws = json_object_get(run, "draws");
        rng r;
        rng_seed_cuda(&r, strtoull(json_string_value(json_object_get(run, "seed")), NULL, 10));
        for (size_t d = 0; d < json_array_size(draws); d++) {
            const json_t *draw = json_array_get(draws, d), *at = json_object_get(draw, "at"),
                         *is = json_object_get(draw, "is");
            size_t n = (size_t)json_integer_value(json_object_get(draw, "size"));
            float *x = malloc(n * sizeof *x);
            assert_non_null(x);
            rng_randn(&r, x, n);
            for (size_t k = 0; k < json_array_size(at); k++, numbers++) {
                double want = json_number_value(json_array_get(is, k));
                size_t place = (size_t)json_integer_value(json_array_get(at, k));
                close_to(x[place], want, 1.2e-7 * fabs(want));
            }
            free(x);
        }
    }
    assert_true(numbers > 500);
    json_decref(file);
}

/* Of torch.randn on a GPU itself, seed 0 (published with AUTOMATIC1111's emulation): its own fast
 * sine is a few units off. */
static void test_randn_of_a_gpu(void **state)
{
    (void)state;
    static const float want[] = {-0.92466259f, -0.42534415f, -2.6438457f,  0.14518388f,
                                 -0.12086647f, -0.57972564f, -0.62285122f, -0.32838709f,
                                 -1.07454231f, -0.36314407f, -1.67105067f, 2.26550497f};
    float x[12];
    rng r;
    rng_seed_cuda(&r, 0);
    rng_randn(&r, x, 12);
    for (int i = 0; i < 12; i++) close_to(x[i], want[i], 1e-6);
    rng_seed(&r, 42); /* and the processor's again */
    rng_randn(&r, x, 12);
    EXPECT_FLOATS(x, 0.33669037f);
}

/* Of Python's random.seed(s), random.choice(range(27)). */
static void test_choice(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        uint32_t want[12];
    } of[] = {{0, {12, 24, 13, 1, 8, 16, 15, 12, 25, 26, 9, 15}},
              {207, {16, 21, 21, 19, 7, 23, 5, 0, 21, 11, 4, 22}},
              {1099511627781, {16, 16, 8, 21, 0, 16, 24, 26, 26, 25, 24, 1}}};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        rng r;
        rng_seed_python(&r, of[k].seed);
        for (int i = 0; i < 12; i++) assert_int_equal(rng_choice(&r, 27), of[k].want[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_randn_small),
        cmocka_unit_test(test_randn_latent),
        cmocka_unit_test(test_randn_tail),
        cmocka_unit_test(test_randn_rounded),
        cmocka_unit_test(test_randn_cuda),
        cmocka_unit_test(test_randn_of_a_gpu),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
