/* SPDX-License-Identifier: Apache-2.0
 *
 * Intervals against known quantiles, and against the jackknife written out. */
#include "support.h"

#include <math.h>

#include "study/measure/statistics.h"

static void near(double a, double b) { assert_true(fabs(a - b) <= 1e-6 * (1 + fabs(b))); }

static void test_student(void **state)
{
    /* published two-sided 95 % quantiles of 1 to 9 and 29 degrees of freedom */
    static const double known[] = {12.7062047362, 4.3026527297, 3.1824463053,
                                   2.7764451052,  2.5705818356, 2.4469118511,
                                   2.3646242516,  2.3060041352, 2.2621571628};
    (void)state;
    for (int i = 0; i < 9; i++) assert_true(fabs(student_t(i + 1, 0.95) - known[i]) < 1e-8);
    assert_true(fabs(student_t(29, 0.95) - 2.0452296421) < 1e-8);
    assert_true(fabs(student_t(100000, 0.95) - 1.9599877077) < 1e-8); /* nearly the normal's */
    assert_true(fabs(student_t(4, 0.99) - 4.6040948714) < 1e-8);
}

static void test_estimate(void **state)
{
    const double value[] = {1, 2, 4, 5, 8};
    (void)state;
    estimate x = estimate_of(value, 5);
    near(x.mean, 4);
    near(x.high - x.mean, 2.7764451052 * sqrt(30. / 4 / 5));
    near(x.mean - x.low, x.high - x.mean);
    assert_int_equal(x.n, 5);
    assert_true(estimate_differs(&x, 0.5));
    assert_true(estimate_differs(&x, 7.5));
    assert_false(estimate_differs(&x, 1));
    estimate two = estimate_of(value, 2);
    near(two.high, 1.5 + 12.7062047362 * 0.5);
    estimate one = estimate_of(value, 1), none = estimate_of(value, 0);
    near(one.mean, 1);
    assert_true(isnan(one.low) && isnan(one.high));
    assert_false(estimate_differs(&one, 0));
    assert_int_equal(none.n, 0);
    assert_true(isnan(none.mean));
    estimate same = estimate_of((double[]){3, 3, 3}, 3);
    assert_true(same.low == 3 && same.high == 3 && estimate_differs(&same, 0));
}

/* The mean distance of all pairs but those of thing `but`. */
static double plain_pairs(double d[5][5], int n, int but)
{
    double sum = 0;
    int pairs = 0;
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++)
            if (i != but && k != but) sum += d[i][k], pairs++;
    return sum / pairs;
}

static void test_pairs(void **state)
{
    double d[2][5][5], mean[2][5], left[5], middle = 0, spread = 0;
    (void)state;
    for (int which = 0; which < 2; which++)
        for (int i = 0; i < 5; i++) {
            mean[which][i] = d[which][i][i] = 0;
            for (int k = 0; k < 5; k++)
                if (k != i) {
                    d[which][i][k] = fabs(sin(3 * i + which) - sin(3 * k + which)) + 0.1 * which;
                    mean[which][i] += d[which][i][k] / 4;
                }
        }
    estimate of = estimate_of_pairs(mean[0], mean[1], 5);
    near(of.mean, plain_pairs(d[0], 5, -1) / plain_pairs(d[1], 5, -1));
    for (int i = 0; i < 5; i++) {
        left[i] = plain_pairs(d[0], 5, i) / plain_pairs(d[1], 5, i);
        middle += left[i] / 5;
    }
    for (int i = 0; i < 5; i++) spread += (left[i] - middle) * (left[i] - middle);
    near(of.high - of.mean, 2.7764451052 * sqrt(spread * 4 / 5));
    assert_true(of.high - of.mean > 0.01);
    /* wider than if the five means were independent */
    estimate alone = estimate_of_pairs(mean[0], NULL, 5), wrong = estimate_of(mean[0], 5);
    near(alone.mean, wrong.mean);
    assert_true(alone.high - alone.low > 1.9 * (wrong.high - wrong.low));
    estimate two = estimate_of_pairs(mean[0], NULL, 2);
    assert_true(two.n == 2 && isnan(two.low) && !estimate_differs(&two, 0));
    assert_int_equal(estimate_of_pairs(mean[0], NULL, 1).n, 0);
    assert_int_equal(estimate_of_pairs(mean[0], (double[]){0, 0, 0, 0, 0}, 5).n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_student),
                                       cmocka_unit_test(test_estimate),
                                       cmocka_unit_test(test_pairs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
