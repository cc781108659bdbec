/* SPDX-License-Identifier: Apache-2.0
 *
 * statistics: means and their intervals. */
#include "statistics.h"

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
        if (within(middle, freedom) < share)
            low = middle;
        else
            high = middle;
    }
    return sqrt(freedom) * tan(low);
}

static double mean_of(const double *value, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += value[i];
    return sum / n;
}

static double squares_of(const double *value, int n, double mean)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (value[i] - mean) * (value[i] - mean);
    return sum;
}

static void set_interval(estimate *x, double deviation)
{
    double reach = student_t(x->n - 1, 0.95) * deviation;
    if (!isfinite(reach)) return;
    x->low = x->mean - reach;
    x->high = x->mean + reach;
}

estimate estimate_of(const double *value, int n)
{
    estimate x = {.mean = n > 0 ? mean_of(value, n) : NAN, .low = NAN, .high = NAN, .n = n};
    if (n > 1) set_interval(&x, sqrt(squares_of(value, n, x.mean) / (n - 1) / n));
    return x;
}

bool estimate_differs(const estimate *x, double zero)
{
    return x->n > 1 && (x->low > zero || x->high < zero);
}

/* The mean over all pairs but those of thing i, from each thing's mean over its own. */
static double without(const double *value, double mean, int n, int i)
{
    return (n * mean - 2 * value[i]) / (n - 2);
}

estimate estimate_of_pairs(const double *value, const double *under, int n)
{
    estimate x = {.mean = NAN, .low = NAN, .high = NAN};
    double left[2] = {0, 0}, bottom = n > 1 && under ? mean_of(under, n) : 1;
    if (n < 2 || bottom <= 0) return x;
    double top = mean_of(value, n);
    x.mean = top / bottom;
    x.n = n;
    /* The jackknife: n - 1 times the spread of what is left without one thing. */
    for (int i = 0; n > 2 && i < n; i++) {
        double one = without(value, top, n, i) / (under ? without(under, bottom, n, i) : 1);
        left[0] += one;
        left[1] += one * one;
    }
    if (n > 2) set_interval(&x, sqrt(fmax(left[1] - left[0] * left[0] / n, 0) * (n - 1) / n));
    return x;
}
