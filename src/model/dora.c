/* SPDX-License-Identifier: Apache-2.0
 *
 * dora: see dora.h. */
#include "model/dora.h"

#include <math.h>
#include <stdlib.h>

/* An axis' length of numbers: [out,in,places] as planes of `inner` numbers of one channel. */
typedef struct axis {
    int64_t outer, channels, inner;
} axis;

bool dora_merge(float *weight, const float *change, const int64_t dim[3], float scale,
                const float *magnitude, bool by_input, float strength, error *e)
{
    axis a = by_input ? (axis){dim[0], dim[1], dim[2]} : (axis){1, dim[0], dim[1] * dim[2]};
    double *factor = calloc((size_t)a.channels + 1, sizeof *factor);
    if (!factor) return error_memory(e, "a DoRA", (size_t)a.channels * sizeof *factor);
    int64_t at = 0, n = a.outer * a.channels * a.inner;
    for (; at < n; at++) {
        double x = weight[at] + scale * change[at];
        factor[at / a.inner % a.channels] += x * x;
    }
    for (int64_t c = 0; c < a.channels; c++) factor[c] = magnitude[c] / sqrt(factor[c]);
    for (at = 0; at < n; at++) {
        double w = weight[at], x = weight[at] + scale * change[at];
        weight[at] = (float)(w + strength * (factor[at / a.inner % a.channels] * x - w));
    }
    free(factor);
    return true;
}
