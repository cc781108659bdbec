/* SPDX-License-Identifier: Apache-2.0
 *
 * clean: what a prediction says of the clean picture. Coefficients are float32 and each
 * operation stands alone, in diffusers' order, since torch rounds after each. */
#include <math.h>
#include <stdlib.h>

#include "row.h"

void sampler_predict(const sampler *s, float a, float b, const float *x, const float *m, float *x0)
{
    for (size_t i = 0; i < s->n; i++) {
        switch (s->predicts) {
        case PREDICT_EPSILON: x0[i] = (x[i] - b * m[i]) / a; break;
        case PREDICT_V: x0[i] = a * x[i] - b * m[i]; break;
        case PREDICT_SAMPLE: x0[i] = m[i]; break;
        }
    }
}

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* _threshold_sample: clamps to the quantile of |x0| (at least 1) and divides by it. The quantile is
 * torch's: linear between order statistics, its rank and weight in float32. */
static bool threshold_clean(const sampler *s, float *x0, size_t n, error *e)
{
    float *sorted = malloc(n * sizeof *sorted);
    if (!sorted) return error_memory(e, "thresholding", n * sizeof *sorted);
    for (size_t i = 0; i < n; i++) sorted[i] = fabsf(x0[i]);
    qsort(sorted, n, sizeof *sorted, compare_floats);
    float rank = s->threshold_ratio * (float)(n - 1);
    size_t below = (size_t)rank, above = (size_t)ceilf(rank);
    if (above > n - 1) above = n - 1; /* past 2^24 values n - 1 may have been rounded up */
    if (below > above) below = above;
    float weight = clamp(rank - (float)below, 0, 1), rise = sorted[above] - sorted[below];
    float limit = weight < 0.5f ? sorted[below] + weight * rise
                                : sorted[above] - rise * (1 - weight);
    free(sorted);
    limit = fminf(fmaxf(limit, 1), s->sample_max); /* torch.clamp: the upper bound wins */
    for (size_t i = 0; i < n; i++) x0[i] = clamp(x0[i], -limit, limit) / limit;
    return true;
}

bool sampler_limit(const sampler *s, float *x0, error *e)
{
    if (s->threshold) return threshold_clean(s, x0, s->n, e);
    if (s->clip)
        for (size_t i = 0; i < s->n; i++) x0[i] = clamp(x0[i], -s->clip_range, s->clip_range);
    return true;
}

bool sampler_clean(const sampler *s, float alpha_bar, const float *x, const float *m, float *x0,
                   error *e)
{
    sampler_predict(s, sqrtf(alpha_bar), sqrtf(1 - alpha_bar), x, m, x0);
    return sampler_limit(s, x0, e);
}
