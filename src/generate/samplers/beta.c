/* SPDX-License-Identifier: Apache-2.0
 *
 * beta: see beta.h. The distribution function is a continued fraction (Abramowitz and Stegun
 * 26.5.8, by Lentz's rule); its inverse is found by halving, since it rises everywhere. */
#include "beta.h"

#include <math.h>

static double away_from_zero(double x) { return fabs(x) < 1e-300 ? 1e-300 : x; }

static double fraction(double x, double a, double b)
{
    double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), value = d;
    for (int m = 1; m < 500; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / away_from_zero(1 + even * d);
        c = away_from_zero(1 + even / c);
        value *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / away_from_zero(1 + odd * d);
        c = away_from_zero(1 + odd / c);
        value *= d * c;
        if (fabs(d * c - 1) < 1e-16) break;
    }
    return value;
}

/* The share of the distribution below x. */
static double below(double x, double a, double b)
{
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * fraction(x, a, b) / a
                                     : 1 - front * fraction(1 - x, b, a) / b;
}

double beta_quantile(double p, double a, double b)
{
    double low = 0, high = 1;
    if (p <= 0 || p >= 1) return p <= 0 ? 0 : 1;
    for (int i = 0; i < 200; i++) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high) break;
        if (below(middle, a, b) < p)
            low = middle;
        else
            high = middle;
    }
    return high;
}
