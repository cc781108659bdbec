/* SPDX-License-Identifier: Apache-2.0
 *
 * adamw: what every device's AdamW has in common: a step's constants as torch and as bitsandbytes
 * round them, and the two maps of the 8-bit moments (NUMERICS.md, 6 and 7). */
#ifndef LIKENESS_DEVICE_ADAMW_H
#define LIKENESS_DEVICE_ADAMW_H

#include "device/device.h"

enum { MAP_SIZE = 256 };

/* bitsandbytes' "dynamic" maps: a byte is an index into sorted values, and a number's byte is that
 * of the nearest value. m's map has the negatives too. threshold_x[i]: the least number that is i +
 * 1 rather than i; at the end inf. */
void moment_values_fill(float *m, float *v, float *threshold_m, float *threshold_v);

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
