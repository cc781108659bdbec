/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of errors, element types, the arena and half precision. */
#include "base/arena.h"
#include "base/error.h"
#include "base/half.h"
#include "base/types.h"
#include "support.h"

#include <math.h>
#include <xmmintrin.h>

static void test_error_first_wins(void **state)
{
    (void)state;
    error e = {0};
    assert_false(error_set(&e, ERROR_FILE, "%s: cannot open", "a.png"));
    assert_false(error_set(&e, ERROR_FORMAT, "something else"));
    assert_int_equal(e.code, ERROR_FILE);
    assert_string_equal(e.text, "a.png: cannot open");
    assert_false(error_prefix(&e, "model/unet"));
    assert_string_equal(e.text, "model/unet: a.png: cannot open");
    assert_false(error_set(NULL, ERROR_FILE, "nobody listens"));
    error m = {0};
    assert_false(error_memory(&m, "a tensor", 12));
    assert_string_equal(m.text, "not enough memory for a tensor (12 bytes)");
}

static void test_error_long(void **state)
{
    (void)state;
    char text[4000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    error e = {0};
    error_set(&e, ERROR_FILE, "%s", text);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    error_prefix(&e, text);
    error_prefix(&e, "p");
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_memory_equal(e.text, "p: xxx", 6);
    error none = {0};
    error_prefix(&none, "p");
    assert_string_equal(none.text, "");
}

static void test_types(void **state)
{
    (void)state;
    size_t sizes[] = {4, 2, 2, 4, 8, 8, 2, 1, 1, 2, 4, 8, 1, 1, 1};
    for (int t = 0; t < DTYPE_COUNT; t++) {
        assert_int_equal(dtype_size(t), sizes[t]);
        assert_non_null(dtype_name(t));
    }
    assert_string_equal(dtype_name(DTYPE_BF16), "BF16");
    static const struct {
        const char *text;
        dtype type;
    } words[] = {{"f32", DTYPE_F32}, {"no", DTYPE_F32},   {"fp32", DTYPE_F32},
                 {"f16", DTYPE_F16}, {"fp16", DTYPE_F16}, {"bf16", DTYPE_BF16}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        dtype found = DTYPE_COUNT;
        assert_true(precision_parse(&found, words[i].text));
        assert_int_equal(found, words[i].type);
        assert_true(precision_parse(&found, precision_name(found)) && found == words[i].type);
        assert_true(precision_parse(&found, precision_mixed_name(found)) && found == words[i].type);
    }
    dtype found;
    assert_false(precision_parse(&found, "F16") || precision_parse(&found, ""));
    assert_string_equal(precision_name(DTYPE_F16), "f16");
    assert_string_equal(precision_mixed_name(DTYPE_F16), "fp16");
}

static void test_arena(void **state)
{
    (void)state;
    arena a = {0};
    unsigned char *previous = NULL;
    for (size_t i = 0; i < 3000; i++) {
        size_t size = i * 7 % 900 + (i % 500 == 3 ? 200000 : 0);
        unsigned char *p = arena_alloc(&a, size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_ptr_not_equal(p, previous);
        for (size_t j = 0; j < size; j++) assert_int_equal(p[j], 0);
        memset(p, 0xff, size);
        previous = p;
    }
    assert_string_equal(arena_strdup(&a, "hello"), "hello");
    assert_string_equal(arena_format(&a, "%d-%s", 7, "x"), "7-x");
    assert_null(arena_alloc(&a, SIZE_MAX - 8));
    arena_free(&a);
    assert_null(a.first);
    arena_free(&a);
}

static void test_arena_out_of_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    arena a = {0};
    allocation_fail_at(0);
    assert_null(arena_strdup(&a, "hello"));
    assert_true(allocation_fail_end());
    assert_non_null(arena_strdup(&a, "hello"));
    allocation_fail_at(0);
    assert_null(arena_alloc(&a, 1 << 20));
    assert_true(allocation_fail_end());
    arena_free(&a);
}

/* The definition of float16, by arithmetic. */
static double half_by_definition(unsigned h)
{
    double sign = h & 0x8000 ? -1 : 1;
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, -24);
    return sign * ldexp(1024 + mantissa, exponent - 25);
}

/* A host that flushes subnormal numbers to zero does not change what a file holds. */
static void test_half_flushing(void **state)
{
    (void)state;
    uint16_t half[0x10000], again[0x10000];
    float *usual = malloc(sizeof(float) * 0x10000), *flushing = malloc(sizeof(float) * 0x10000);
    double wide[] = {0x1p-149,         -0x1p-149,       0x1.8p-149, 0x1p-150, 0x1.8p-130,
                     -0x1.fffffep-127, 0x1.ffffffp-127, 0x1p-126,   0,        -0.0};
    float narrow[2][sizeof wide / sizeof *wide];
    assert_true(usual && flushing);
    for (unsigned h = 0; h < 0x10000; h++) half[h] = (uint16_t)h;
    for (int k = 0; k < 2; k++) {
        float *out = k ? flushing : usual;
        unsigned before = _mm_getcsr();
        if (k) _mm_setcsr(before | 0x8040); /* FTZ, DAZ */
        convert_to_float(out, half, DTYPE_F16, 0x10000);
        convert_from_float(again, DTYPE_F16, out, 0x10000);
        convert_to_float(narrow[k], wide, DTYPE_F64, sizeof wide / sizeof *wide);
        _mm_setcsr(before);
        for (unsigned h = 0; h < 0x10000; h++)
            if ((h & 0x7c00) != 0x7c00) assert_int_equal(again[h], h);
    }
    assert_memory_equal(usual, flushing, sizeof(float) * 0x10000);
    assert_memory_equal(narrow[0], narrow[1], sizeof narrow[0]);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        assert_true(narrow[0][i] == (float)wide[i]);
    free(usual);
    free(flushing);
}

static void test_half_every_value(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        double want = half_by_definition(h);
        float got = half_to_float((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(half_to_float(half_from_float(got))));
            continue;
        }
        assert_true((double)got == want && !signbit(got) == !signbit(want));
        assert_int_equal(half_from_float(got), h);
        if ((h & 0x7fff) >= 0x7bff) continue;
        /* between this value and the next: nearest, and to even at the middle */
        float next = half_to_float((uint16_t)(h + 1)), middle = (got + next) / 2;
        assert_int_equal(half_from_float(middle), h + (h & 1));
        assert_int_equal(half_from_float(nextafterf(middle, got)), h);
        assert_int_equal(half_from_float(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(half_from_float(65519.996f), 0x7bff);
    assert_int_equal(half_from_float(65520.0f), 0x7c00);
    assert_int_equal(half_from_float(-1e30f), 0xfc00);
    assert_int_equal(half_from_float(0x1p-26f), 0);
}

static void test_bf16_every_value(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        float got = bf16_to_float((uint16_t)h);
        if (isnan(got)) {
            assert_true(isnan(bf16_to_float(bf16_from_float(got))));
            continue;
        }
        assert_int_equal(bf16_from_float(got), h);
        if ((h & 0x7fff) >= 0x7f7f) continue;
        float next = bf16_to_float((uint16_t)(h + 1)), middle = got + (next - got) / 2;
        assert_int_equal(bf16_from_float(middle), h + (h & 1));
        assert_int_equal(bf16_from_float(nextafterf(middle, got)), h);
        assert_int_equal(bf16_from_float(nextafterf(middle, next)), h + 1);
    }
    uint32_t bits = 0x7f800001; /* a NaN whose upper half alone would be infinity */
    float nan;
    memcpy(&nan, &bits, sizeof nan);
    assert_true(isnan(bf16_to_float(bf16_from_float(nan))));
}

static void test_convert_arrays(void **state)
{
    (void)state;
    enum { N = 1003 };
    float x[N], back[N];
    uint16_t packed[N];
    double wide[N];
    fill_random(x, N, 5);
    for (int i = 0; i < N; i++) x[i] *= powf(2, (float)(i % 40 - 30));
    for (int t = DTYPE_F16; t <= DTYPE_BF16; t++) {
        convert_from_float(packed, (dtype)t, x, N);
        convert_to_float(back, packed, (dtype)t, N);
        for (int i = 0; i < N; i++) {
            uint16_t one = t == DTYPE_F16 ? half_from_float(x[i]) : bf16_from_float(x[i]);
            assert_int_equal(packed[i], one);
            assert_true(back[i] == (t == DTYPE_F16 ? half_to_float(one) : bf16_to_float(one)));
        }
    }
    for (int i = 0; i < N; i++) wide[i] = x[i];
    convert_to_float(back, wide, DTYPE_F64, N);
    assert_memory_equal(back, x, sizeof x);
    convert_from_float(back, DTYPE_F32, x, N);
    assert_memory_equal(back, x, sizeof x);
    /* a source on an odd address */
    unsigned char odd[2 * N + 1];
    convert_from_float(packed, DTYPE_BF16, x, N);
    memcpy(odd + 1, packed, sizeof packed);
    convert_to_float(back, odd + 1, DTYPE_BF16, N);
    for (int i = 0; i < N; i++) assert_true(back[i] == bf16_to_float(packed[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_first_wins),
        cmocka_unit_test(test_error_long),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_out_of_memory),
        cmocka_unit_test(test_half_every_value),
        cmocka_unit_test(test_half_flushing),
        cmocka_unit_test(test_bf16_every_value),
        cmocka_unit_test(test_convert_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
