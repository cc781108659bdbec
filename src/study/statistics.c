/* SPDX-License-Identifier: Apache-2.0
 *
 * statistics: means and their intervals. */
#include "study/statistics.h"

#include <math.h>

static const double half_pi = 1.57079632679489661923;

/* How much of Student's t with `freedom` degrees lies within t = sqrt(freedom) * tan(angle) on both
 * sides: a finite sum for a whole number of degrees (Abramowitz and Stegun 26.7.3, 26.7.4). */
static double within(double angle, int freedom)
{
    bool odd = freedom % 2;
    double c2 = cos(angle) * cos(angle), term = odd ? cos(angle) : 1, sum = 0;
    for (int k = odd ? 1 : 0; k <= freedom - 2; k += 2) {
        sum += term;
        term *= c2 * (k + 1) / (k + 2);
    }
    return odd ? (angle + sin(angle) * sum) / half_pi : sin(angle) * sum;
}

double student_t(int freedom, double share)
{
    double low = 0, high = half_pi;
    if (freedom < 1) return NAN;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (within(middle, freedom) < share) low = middle; else high = middle;
    }
    return sqrt(freedom) * tan(low);
}

estimate estimate_from(double mean, double variance, int n)
{
    estimate x = {.mean = n ? mean : NAN, .low = NAN, .high = NAN, .n = n};
    if (n < 2) return x;
    double reach = student_t(n - 1, 0.95) * sqrt(variance / n);
    x.low = mean - reach;
    x.high = mean + reach;
    return x;
}

estimate estimate_of(const double *value, int n)
{
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) mean += value[i] / n;
    for (int i = 0; i < n; i++) squares += (value[i] - mean) * (value[i] - mean);
    return estimate_from(mean, n > 1 ? squares / (n - 1) : NAN, n);
}

bool estimate_differs(const estimate *x, double zero)
{
    return x->n > 1 && (x->low > zero || x->high < zero);
}

/* ---- means over pairs of n things -------------------------------------------------------------- */

static double mean_of(const double *value, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += value[i] / n;
    return sum;
}

/* The mean over all pairs without thing i, of each thing's mean over its pairs. */
static double without(const double *value, double mean, int n, int i)
{
    return (n * mean - 2 * value[i]) / (n - 2);
}

estimate estimate_of_pairs_ratio(const double *value, const double *under, int n)
{
    double top = mean_of(value, n), bottom = under ? mean_of(under, n) : 100;
    estimate x = {.mean = n > 1 && bottom > 0 ? 100 * top / bottom : NAN, .low = NAN, .high = NAN, .n = n};
    if (isnan(x.mean)) x.n = 0;
    if (x.n < 3) return x;
    double mean = 0, squares = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            double left = under ? without(under, bottom, n, i) : 100;
            double one = 100 * without(value, top, n, i) / left;
            if (pass) squares += (one - mean) * (one - mean);
            else mean += one / n;
        }
    /* Tukey: n - 1 times as wide as n independent values would be. */
    double reach = student_t(n - 1, 0.95) * sqrt(squares * (n - 1) / n);
    x.low = x.mean - reach;
    x.high = x.mean + reach;
    return x;
}

estimate estimate_of_pairs(const double *value, int n) { return estimate_of_pairs_ratio(value, NULL, n); }
