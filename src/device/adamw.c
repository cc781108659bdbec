/* SPDX-License-Identifier: Apache-2.0
 *
 * adamw: constants and maps, to the bit. */
#include "device/adamw.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { MAP_DECADES = 7 };

/* torch.linspace(0.1, 1, n + 1)[i], to the bit: pairs of 8-vectors counted from the nearer end
 * each, and what is left of 16 one by one. Torch's builds differ here by an ulp; this is the one
 * whose maps have the hashes of bitsandbytes' own. */
static float linspace_at(int i, int n)
{
    float step = (1.0f - 0.1f) / (float)n;
    int first = i < (n + 1) / 16 * 16 ? i / 8 * 8 : i;
    double from = first < (n + 1) / 2 ? (double)0.1f + (double)step * first
                                      : 1 - (double)step * (n - first);
    return (float)from + step * (float)(i - first);
}

/* Nearest value; bitsandbytes' search, which ends on an even index, keeps that index at a tie. */
static void thresholds_fill(const float *value, float *threshold)
{
    for (int i = 0; i + 1 < MAP_SIZE; i++) {
        float middle = (value[i] + value[i + 1]) * 0.5f;
        threshold[i] = i % 2 == 0 ? nextafterf(middle, INFINITY) : middle;
    }
    threshold[MAP_SIZE - 1] = INFINITY;
}

/* zero: the index of the value 0; n: how many values the first decade has. A decade [10^(e-7),
 * 10^(e-6)] has twice as many as the one before it, the middles of n equal parts. */
static void map_fill(float *value, int zero, int n)
{
    int at = zero + 1;
    for (int e = 0; e < MAP_DECADES; e++, n *= 2)
        for (int i = 0; i < n; i++) {
            float middle = (linspace_at(i, n) + linspace_at(i + 1, n)) / 2;
            value[at++] = (float)pow(10, e - 6) * middle;
        }
    value[at] = 1;
    value[zero] = 0;
    for (int i = 0; i < zero; i++) value[i] = -value[2 * zero - i];
}

void moment_values_fill(float *m, float *v, float *threshold_m, float *threshold_v)
{
    map_fill(m, 127, 1);
    map_fill(v, 0, 2);
    thresholds_fill(m, threshold_m);
    thresholds_fill(v, threshold_v);
}

/* The number whose place it is */
static float number_at(int32_t place, bool is_signed)
{
    bool negative = is_signed && place < PLACE_ZERO_M;
    int32_t bits = negative ? PLACE_ONE - place
                            : PLACE_LEAST + place - (is_signed ? PLACE_ZERO_M : 0);
    float x;
    memcpy(&x, &bits, sizeof x);
    return negative ? -x : x;
}

uint8_t index_at_place_m(const float *map, const float *threshold, int32_t place)
{
    float x = number_at(place, true);
    return nearest_m(map, threshold, x, x);
}

uint8_t index_at_place_v(const float *threshold, int32_t place)
{
    return (uint8_t)nearest(threshold, number_at(place, false));
}

void moment_tables_fill(moment_tables *t)
{
    *t = (moment_tables){0};
    moment_values_fill(t->m, t->v, t->threshold_m, t->threshold_v);
    for (int i = 0; i < CELLS_M; i++)
        t->cell_m[i] = index_at_place_m(t->m, t->threshold_m, i << CELL_M);
    for (int i = 0; i < CELLS_V; i++) t->cell_v[i] = index_at_place_v(t->threshold_v, i << CELL_V);
}

/* Python computes in double and torch rounds each constant on its way into a tensor. */
static struct adamw_values values_of_torch(const adamw_step *s)
{
    double left1 = 1 - pow(s->beta1, (double)s->step), left2 = 1 - pow(s->beta2, (double)s->step);
    return (struct adamw_values){
        .grad_scale = s->grad_scale,
        .decay = (float)(1 - s->rate * s->weight_decay),
        .keep1 = (float)s->beta1,
        .keep2 = (float)s->beta2,
        .take1 = (float)(1 - s->beta1),
        .take2 = (float)(1 - s->beta2),
        .step = (float)-(s->rate / left1),
        .root = (float)sqrt(left2),
        .epsilon = (float)s->epsilon,
    };
}

/* The CUDA kernels get float32 constants and go on in float32. */
static struct adamw_values values_of_bnb(const adamw_step *s)
{
    float rate = (float)s->rate, beta1 = (float)s->beta1, beta2 = (float)s->beta2;
    float left1 = 1 - powf(beta1, (float)s->step);
    float root = sqrtf(1 - powf(beta2, (float)s->step));
    return (struct adamw_values){
        .grad_scale = s->grad_scale,
        .decay = 1 - rate * (float)s->weight_decay,
        .keep1 = beta1,
        .keep2 = beta2,
        .take1 = 1 - beta1,
        .take2 = 1 - beta2,
        .step = -rate * root / left1,
        .root = root,
        .epsilon = root * (float)s->epsilon,
    };
}

struct adamw_values adamw_values_of(moment_kind kind, const adamw_step *s)
{
    assert(s->step >= 1);
    bool torch = kind == MOMENTS_F32 || kind == MOMENTS_F16;
    return torch ? values_of_torch(s) : values_of_bnb(s);
}
