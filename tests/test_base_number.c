/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of numbers as text: the same in the C locale and in one whose decimal point is a comma. */
#include "base/number.h"
#include "support.h"

#include <float.h>
#include <math.h>

static void same_text(number_text n, const char *wanted) { assert_string_equal(n.text, wanted); }

static void check_forms(void)
{
    same_text(number_exact(0), "0");
    same_text(number_exact(0.3), "0.3");
    same_text(number_exact(5e-6), "5e-06");
    same_text(number_exact(-1.5), "-1.5");
    same_text(number_exact(10), "10");
    same_text(number_exact(400000), "400000");
    same_text(number_exact(0.1 + 0.2), "0.30000000000000004");
    same_text(number_exact(5e-324), "5e-324");
    same_text(number_exact(INFINITY), "inf");
    same_text(number_exact_float(0.3f), "0.3");
    same_text(number_exact_float(7.5f), "7.5");
    same_text(number_exact_float(16777216), "16777216");
    same_text(number_exact_float(1.0f / 3), "0.33333334");
    same_text(number_rounded(1.0 / 3, 6), "0.333333");
    same_text(number_rounded(1e20, 6), "1e+20");
    same_text(number_rounded(0.3, 6), "0.3");
    same_text(number_decimals(12.5, 2), "12.50");
    same_text(number_decimals(2.5e15, 1), "2500000000000000");
    same_text(number_decimals(-1e300, 3), "-1.0000000000000001e+300");
    same_text(number_decimals(NAN, 3), "nan");
    same_text(number_bytes(812), "812 bytes");
    same_text(number_bytes(1000), "0.98 KiB");
    same_text(number_bytes(47.3 * 1048576), "47.3 MiB");
    same_text(number_bytes(3.414 * 1073741824), "3.41 GiB");
    same_text(number_bytes(123.4 * 1099511627776), "123 TiB");
    assert_true(number_as_written(0.18215f) == 0.18215);
    assert_true(number_as_written(0.00085f) == 0.00085);
}

static void check_reading(void)
{
    const char *end, *text = " 7.5e-1*a";
    double v = 0;
    assert_true(number_parse(text, &end, &v));
    assert_true(v == 0.75 && end == text + 7);
    text = "0,5";
    assert_true(number_parse(text, &end, &v));
    assert_true(v == 0 && end == text + 1);
    text = "x";
    v = 3;
    assert_false(number_parse(text, &end, &v));
    assert_true(v == 3 && end == text);
}

/* What is written reads back as the same value, whatever its bits. */
static void check_round_trip(void)
{
    uint64_t bits = 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 20000; i++) {
        double v, back;
        float f;
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        memcpy(&v, &bits, sizeof v);
        memcpy(&f, &bits, sizeof f);
        if (isfinite(v)) {
            assert_true(number_parse(number_exact(v).text, NULL, &back));
            assert_true(back == v);
        }
        if (isfinite(f)) {
            assert_true(number_parse(number_exact_float(f).text, NULL, &back));
            assert_true((float)back == f);
        }
    }
}

static void test_c_locale(void **state)
{
    (void)state;
    check_forms();
    check_reading();
    check_round_trip();
}

static void check_in(const char *point)
{
    if (!locale_with(point)) skip();
    char text[16];
    double v = 1.5;
    snprintf(text, sizeof text, "%.1f", v);
    assert_null(strchr(text, '.')); /* the locale is in force */
    check_forms();
    check_reading();
    check_round_trip();
    snprintf(text, sizeof text, "%.1f", v);
    assert_null(strchr(text, '.')); /* and still is */
    locale_with(".");
}

static void test_comma(void **state)
{
    (void)state;
    check_in(",");
}

static void test_arabic_point(void **state)
{
    (void)state;
    check_in("<U066B>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_c_locale),
        cmocka_unit_test(test_comma),
        cmocka_unit_test(test_arabic_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
