/* SPDX-License-Identifier: Apache-2.0
 *
 * adamw: what every device's AdamW has in common: a step's constants as torch and as bitsandbytes
 * round them, and the two maps of the 8-bit moments (NUMERICS.md, 6 and 7). */
#ifndef LIKENESS_DEVICE_ADAMW_H
#define LIKENESS_DEVICE_ADAMW_H

#include <math.h>

#include "device/device.h"
#include "device/moments.h"

/* bitsandbytes' "dynamic" maps: a byte is an index into sorted values, and a number's byte is that
 * of the nearest value. m's map has the negatives too. threshold_x[i]: the least number that is i +
 * 1 rather than i; at the end inf. */
void moment_values_fill(float *m, float *v, float *threshold_m, float *threshold_v);
void moment_tables_fill(moment_tables *t);

/* How many thresholds x has reached: the index of the nearest value. NaN: 0, as in bitsandbytes. */
static inline int nearest(const float *threshold, float x)
{
    int index = 0;
    for (int half = MAP_SIZE / 2; half > 0; half /= 2)
        if (x >= threshold[index + half - 1]) index += half;
    return index;
}

/* The byte of moment x scaled to `scaled`: a sign that is lost is put right, so that nothing
 * negative becomes zero. In a block of zeros (0 / 0) that turns 0 into 255, as on CUDA. */
static inline uint8_t nearest_m(const float *map, const float *threshold, float x, float scaled)
{
    int index = nearest(threshold, scaled);
    if (!signbit(map[index]) != !signbit(x)) index += x > 0 ? 1 : -1;
    return (uint8_t)index;
}

/* The byte of the number that has the place */
uint8_t index_at_place_m(const float *map, const float *threshold, int32_t place);
uint8_t index_at_place_v(const float *threshold, int32_t place);

/* One step's constants, rounded as the kind of update rounds them. */
struct adamw_values {
    float grad_scale, decay; /* decay: 1 - rate * weight_decay */
    float keep1, keep2;      /* beta1, beta2 */
    float take1, take2;      /* 1 - beta1, 1 - beta2 */
    float step;              /* negative: times m / denominator, added to p */
    float root;              /* sqrt(1 - beta2^t): torch divides sqrt(v) by it */
    float epsilon;           /* bitsandbytes': times `root` */
};

struct adamw_values adamw_values_of(moment_kind kind, const adamw_step *s);

#endif
