/* SPDX-License-Identifier: Apache-2.0
 *
 * guide: see guide.h. */
#include "generate/guide.h"

#include <math.h>

#include "pipeline/layout.h"

static double deviation(const float *x, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    for (size_t i = 0; i < n; i++) squares += (x[i] - sum / (double)n) * (x[i] - sum / (double)n);
    return sqrt(squares / (double)(n - 1));
}

void guide(const guidance *how, float *output, int batch, size_t channels, size_t space,
           float *guided)
{
    size_t n = channels * space;
    float scale = how->scale, share = how->rescale;
    if (batch > 1) {
        float *u = output, *c = output + n;
        for (size_t i = 0; i < n; i++) u[i] = u[i] + scale * (c[i] - u[i]);
        if (share > 0) {
            float ratio = (float)(deviation(c, n) / deviation(u, n));
            for (size_t i = 0; i < n; i++) u[i] = share * (u[i] * ratio) + (1 - share) * u[i];
        }
    }
    layout_planes(guided, output, channels, space);
}
