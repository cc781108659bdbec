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

/* What the k-th condition's part of the way is multiplied by, but for the scale. */
static float weight_of(const guidance *how, int k) { return how->weight ? how->weight[k] : 1; }

/* u becomes the guided output. */
static void follow(const guidance *how, float *u, const float *c, int conditions, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float sum = u[i];
        for (int k = 0; k < conditions; k++)
            sum += how->scale * weight_of(how, k) * (c[(size_t)k * n + i] - u[i]);
        u[i] = sum;
    }
}

/* The first of the conditional outputs becomes the one that they are together. */
static void join(const guidance *how, const float *u, float *c, int conditions, size_t n)
{
    if (conditions == 1 && weight_of(how, 0) == 1) return;
    for (size_t i = 0; i < n; i++) {
        float sum = u[i];
        for (int k = 0; k < conditions; k++)
            sum += weight_of(how, k) * (c[(size_t)k * n + i] - u[i]);
        c[i] = sum;
    }
}

void guide(const guidance *how, float *output, int batch, size_t channels, size_t space,
           float *guided)
{
    size_t n = channels * space;
    float share = how->rescale;
    if (batch > 1) {
        float *u = output, *c = output + n;
        guidance one = {.scale = how->scale};
        if (share > 0) join(how, u, c, batch - 1, n);
        follow(share > 0 ? &one : how, u, c, share > 0 ? 1 : batch - 1, n);
        if (share > 0) {
            float ratio = (float)(deviation(c, n) / deviation(u, n));
            for (size_t i = 0; i < n; i++) u[i] = share * (u[i] * ratio) + (1 - share) * u[i];
        }
    }
    layout_planes(guided, output, channels, space);
}
