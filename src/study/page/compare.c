/* SPDX-License-Identifier: Apache-2.0
 *
 * compare: distances, correlation and detail of pictures. */
#include "compare.h"

#include <math.h>

static size_t numbers(const image *a) { return 3 * (size_t)a->width * (size_t)a->height; }

double image_distance(const image *a, const image *b)
{
    double sum = 0;
    for (size_t i = 0; i < numbers(a); i++) {
        double d = (double)a->pixels[i] - (double)b->pixels[i];
        sum += d * d;
    }
    return sqrt(sum / (double)numbers(a));
}

double image_correlation(const image *a, const image *b)
{
    double n = (double)numbers(a), x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < numbers(a); i++) {
        double p = a->pixels[i], q = b->pixels[i];
        x += p, y += q, xx += p * p, yy += q * q, xy += p * q;
    }
    double across = n * xy - x * y, spread = (n * xx - x * x) * (n * yy - y * y);
    return spread > 0 ? across / sqrt(spread) : image_distance(a, b) == 0;
}

/* A pixel's brightness, outside that of the nearest inside. */
static double brightness(const image *a, int x, int y)
{
    x = x < 0 ? 0 : x >= a->width ? a->width - 1 : x;
    y = y < 0 ? 0 : y >= a->height ? a->height - 1 : y;
    const uint8_t *p = a->pixels + 3 * ((size_t)y * (size_t)a->width + (size_t)x);
    return (p[0] + p[1] + p[2]) / 3.0;
}

double image_detail(const image *a)
{
    double all = 0, lost = 0;
    for (int down = 0; down < 2; down++)
        for (int y = 0; y < a->height - down; y++)
            for (int x = 0; x < a->width - !down; x++) {
                double v[4]; /* from one before the pixel to two behind it */
                for (int k = 0; k < 4; k++)
                    v[k] = brightness(a, x + (down ? 0 : k - 1), y + (down ? k - 1 : 0));
                double step = fabs(v[2] - v[1]), blurred = fabs(v[3] - v[0]) / 3;
                all += step;
                if (step > blurred) lost += step - blurred;
            }
    return all > 0 ? lost / all : 0;
}
