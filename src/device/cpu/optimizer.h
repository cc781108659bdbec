/* SPDX-License-Identifier: Apache-2.0
 *
 * optimizer: AdamW's kernels over runs of elements or of blocks, the two maps of the 8-bit moments,
 * and the sums over gradients. simd_optimizer.c is compiled without contraction: every instruction
 * set gives the same bytes. */
#ifndef LIKENESS_DEVICE_CPU_OPTIMIZER_H
#define LIKENESS_DEVICE_CPU_OPTIMIZER_H

#include <stdint.h>

#include "device/device.h"

enum { MAP_SIZE = 256, MAP_DECADES = 7 };

/* bitsandbytes' "dynamic" map: a byte is an index into its sorted values. The values of one decade
 * [10^(e-7), 10^(e-6)], e = 0..6, are evenly spaced: 2^e of them (m, whose map has the negatives
 * too) or 2^(e+1) (v). */
struct moment_map {
    float value[MAP_SIZE];
    float threshold[MAP_SIZE]; /* [i]: the least number that is i + 1 rather than i; the last: inf */
    float decade[8];           /* [e]: the least magnitude that is one of decade e's values; inf */
    float scale[8];            /* [e + 1]: 1 / (0.9 * 10^(e-6)); [0] is 0: below the decades */
};

struct moment_maps {
    struct moment_map m, v;
};

/* One step's constants, rounded as the kind of update rounds them. */
struct adamw_values {
    float grad_scale, decay; /* decay: 1 - rate * weight_decay */
    float keep1, keep2;      /* beta1, beta2 */
    float take1, take2;      /* 1 - beta1, 1 - beta2 */
    float step;              /* negative: times m / denominator, added to p */
    float root;              /* sqrt(1 - beta2^t): torch divides sqrt(v) by it */
    float epsilon;           /* bitsandbytes': times `root` */
};

struct optimizer_kernels {
    void (*f32)(const struct adamw_values *a, float *p, const float *g, float *m, float *v,
                int64_t n);
    void (*f32_bnb)(const struct adamw_values *a, float *p, const float *g, float *m, float *v,
                    int64_t n);
    void (*f16)(const struct adamw_values *a, uint16_t *p, const float *g, uint16_t *m, uint16_t *v,
                int64_t n);
    /* `blocks` whole blocks of MOMENTS_BLOCK elements */
    void (*bytes)(const struct adamw_values *a, const struct moment_maps *maps, float *p,
                  const float *g, uint8_t *m, uint8_t *v, float *absmax_m, float *absmax_v,
                  int64_t blocks);
    /* One block's indices of x / absmax. */
    void (*quantise_m)(const struct moment_map *map, const float *x, float absmax, uint8_t *out);
    void (*quantise_v)(const struct moment_map *map, const float *x, float absmax, uint8_t *out);
    void (*accumulate)(float *a, const float *b, int64_t n);
    double (*sum_squares)(const float *g, int64_t n);
};

void moment_maps_fill(struct moment_maps *maps);
void cpu_adamw(device *d, const adamw_step *step, void *p, const float *g, const moments *m);
void cpu_accumulate(device *d, float *a, const float *b, int64_t n);
double cpu_sum_squares(device *d, const float *g, int64_t n);

#endif
