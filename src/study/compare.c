/* SPDX-License-Identifier: Apache-2.0
 *
 * compare: distances, correlation and detail of pictures. */
#include "study/compare.h"

#include <math.h>

static size_t numbers(const image *a) { return 3 * (size_t)a->width * (size_t)a->height; }

double picture_distance(const image *a, const image *b)
{
    double sum = 0;
    for (size_t i = 0; i < numbers(a); i++) {
        double d = (double)a->pixels[i] - (double)b->pixels[i];
        sum += d * d;
    }
    return sqrt(sum / (double)numbers(a));
}

double picture_correlation(const image *a, const image *b)
{
    double n = (double)numbers(a), x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < numbers(a); i++) {
        double p = a->pixels[i], q = b->pixels[i];
        x += p, y += q, xx += p * p, yy += q * q, xy += p * q;
    }
    double across = n * xy - x * y, spread = (n * xx - x * x) * (n * yy - y * y);
    return spread > 0 ? across / sqrt(spread) : picture_distance(a, b) == 0;
}
