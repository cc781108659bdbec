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

/* The first of the conditional outputs becomes the one that they are together. */
static void join(const guidance *how, float *output, int conditions, size_t n)
{
    const float *u = output;
    float *c = output + n;
    if (!how->weight || (conditions == 1 && how->weight[0] == 1)) return;
    for (size_t i = 0; i < n; i++) {
        float sum = u[i];
        for (int k = 0; k < conditions; k++) sum += how->weight[k] * (c[(size_t)k * n + i] - u[i]);
        c[i] = sum;
    }
}

void guide(const guidance *how, float *output, int batch, size_t channels, size_t space,
           float *guided)
{
    size_t n = channels * space;
    float scale = how->scale, share = how->rescale;
    if (batch > 1) {
        float *u = output, *c = output + n;
        join(how, output, batch - 1, n);
        for (size_t i = 0; i < n; i++) u[i] = u[i] + scale * (c[i] - u[i]);
        if (share > 0) {
            float ratio = (float)(deviation(c, n) / deviation(u, n));
            for (size_t i = 0; i < n; i++) u[i] = share * (u[i] * ratio) + (1 - share) * u[i];
        }
    }
    layout_planes(guided, output, channels, space);
}
