/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the time that a study tells: each kind of work by its own measure, the rest guessed. */
#include "support.h"

#include "study/pace.h"

static void test_pace(void **state)
{
    (void)state;
    pace p = {.wanted = {[PACE_UPDATES] = 10, [PACE_STEPS] = 100, [PACE_MEASURES] = 5}};
    assert_true(pace_total(&p) == 60 + 100 + 15);
    assert_true(pace_left(&p) == 0); /* not known */
    pace_add(&p, PACE_UPDATES, 1, 50);
    assert_true(pace_left(&p) == 0);
    pace_add(&p, PACE_UPDATES, 4, 74); /* 6 s each: a step would take 1 */
    assert_true(pace_done(&p) == 30);
    assert_float_equal(pace_left(&p), 5 * 6 + 100 + 15, 1e-9);
    pace_add(&p, PACE_UPDATES, 5, 104);
    pace_add(&p, PACE_STEPS, 10, 109); /* it takes half a second */
    assert_float_equal(pace_left(&p), 90 * 0.5 + 5 * 3 * (24 + 30 + 5) / (9 * 6.0 + 10), 1e-9);
    pace_rest(&p);
    pace_add(&p, PACE_STEPS, 90, 1000); /* the break is not measured */
    pace_add(&p, PACE_MEASURES, 1, 1007);
    assert_float_equal(pace_left(&p), 4 * 7, 1e-9);
    pace_add(&p, PACE_MEASURES, 6, 1008); /* more than was said */
    assert_true(pace_left(&p) == 0 && pace_done(&p) == pace_total(&p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pace)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
