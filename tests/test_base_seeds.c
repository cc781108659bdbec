/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of lists of seeds. */
#include "support.h"

#include "base/seeds.h"

static void check_seeds(const char *text, const uint64_t *wanted, size_t n)
{
    uint64_t *seeds;
    size_t count;
    error e = {0};
    if (!seeds_parse(&seeds, &count, text, false, &e)) fail_msg("%s: %s", text, e.text);
    assert_int_equal(count, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(seeds[i], wanted[i]);
    free(seeds);
}

static void check_bad_seeds(const char *text, const char *message)
{
    uint64_t *seeds;
    size_t count;
    error e = {0};
    assert_false(seeds_parse(&seeds, &count, text, false, &e));
    assert_null(seeds);
    assert_int_equal(e.code, ERROR_USAGE);
    assert_string_equal(e.text, message);
}

static void test_seeds(void **state)
{
    (void)state;
    check_seeds("42", (uint64_t[]){42}, 1);
    check_seeds("42,43,44", (uint64_t[]){42, 43, 44}, 3);
    check_seeds("42-45", (uint64_t[]){42, 43, 44, 45}, 4);
    check_seeds(" 7, 42-43 ,5,0-0", (uint64_t[]){7, 42, 43, 5, 0}, 5);
    check_seeds("18446744073709551614-18446744073709551615",
                (uint64_t[]){UINT64_MAX - 1, UINT64_MAX}, 2);
    check_seeds("00042", (uint64_t[]){42}, 1);
}

static void test_bad_seeds(void **state)
{
    (void)state;
    check_bad_seeds("42-", "seeds: \"42-\" has no end; write a range as 42-45");
    check_bad_seeds("-1", "seeds: \"-1\" is negative; seeds are 0 to 18446744073709551615");
    check_bad_seeds(
        "18446744073709551616",
        "seeds: \"18446744073709551616\" is too large; seeds are 0 to 18446744073709551615");
    check_bad_seeds("1-99999999999999999999",
                    "seeds: \"1-99999999999999999999\" is too large; seeds are 0 to "
                    "18446744073709551615");
    check_bad_seeds("45-42", "seeds: \"45-42\" ends before it begins");
    check_bad_seeds("", "seeds: a number is missing; write them as 42,43 or 42-45");
    check_bad_seeds("42,,43", "seeds: a number is missing; write them as 42,43 or 42-45");
    check_bad_seeds("42,", "seeds: a number is missing; write them as 42,43 or 42-45");
    check_bad_seeds("4x", "seeds: \"4x\" is no seed; write them as 42,43 or 42-45");
    check_bad_seeds("1-2-3", "seeds: \"1-2-3\" is no seed; write them as 42,43 or 42-45");
    check_bad_seeds("1 2", "seeds: \"1 2\" is no seed; write them as 42,43 or 42-45");
    check_bad_seeds("0x10", "seeds: \"0x10\" is no seed; write them as 42,43 or 42-45");
    check_bad_seeds("0-18446744073709551615", "seeds: more than 100000 in all");
    check_bad_seeds("0-99999,7", "seeds: more than 100000 in all");
}

/* -1 is a seed of its own each time, where it is allowed. */
static void test_random_seeds(void **state)
{
    (void)state;
    uint64_t *seeds;
    size_t count;
    error e = {0};
    assert_true(seeds_parse(&seeds, &count, "-1,7, -1,-1", true, &e));
    assert_int_equal(count, 4);
    assert_int_equal(seeds[1], 7);
    assert_true(seeds[0] <= UINT32_MAX && seeds[2] <= UINT32_MAX);
    assert_false(seeds[0] == seeds[2] && seeds[2] == seeds[3]);
    free(seeds);
    assert_false(seeds_parse(&seeds, &count, "-2", true, &e));
    assert_non_null(strstr(e.text, "negative"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_bad_seeds),
        cmocka_unit_test(test_random_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
