/* SPDX-License-Identifier: Apache-2.0
 *
 * optimizer: AdamW's kernels over runs of elements or of blocks, the two maps of the 8-bit moments,
 * and the sums over gradients. simd_optimizer.c is compiled without contraction: every instruction
 * set gives the same bytes. */
#ifndef LIKENESS_DEVICE_CPU_OPTIMIZER_H
#define LIKENESS_DEVICE_CPU_OPTIMIZER_H

#include <math.h>
#include <stdint.h>

#include "device/adamw.h"

/* The place of a number of [-1, 1] is an integer that grows with it: a positive number's bits less
 * those of 2^-23, to which smaller ones are raised; in m, whose numbers have signs, the negatives
 * first. A place without its last CELL_M or CELL_V bits is a cell, small enough for at most two
 * indices to meet in it. */
enum {
    CELL_M = 17,
    CELL_V = 16,
    PLACE_LEAST = 104 << 23,                                /* the bits of 2^-23 */
    PLACE_ONE = 127 << 23,                                  /* and of 1 */
    PLACE_ZERO_M = PLACE_ONE - PLACE_LEAST + (1 << CELL_M), /* m's place of 2^-23; of -1 it is 0 */
    CELLS_M = 2 * PLACE_ZERO_M >> CELL_M,
    CELLS_V = ((PLACE_ONE - PLACE_LEAST) >> CELL_V) + 1,
};

/* The maps (device/adamw.h), and where in them a number is */
struct moment_maps {
    float m[MAP_SIZE], v[MAP_SIZE];
    /* [i]: the least number that is i + 1 rather than i; at the end inf */
    float threshold_m[MAP_SIZE], threshold_v[MAP_SIZE];
    /* Added to a place of that cell: the index, above CELL_M or CELL_V bits */
    int32_t cell_m[CELLS_M], cell_v[CELLS_V];
};

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
static inline uint8_t nearest_m(const struct moment_maps *maps, float x, float scaled)
{
    int index = nearest(maps->threshold_m, scaled);
    if (!signbit(maps->m[index]) != !signbit(x)) index += x > 0 ? 1 : -1;
    return (uint8_t)index;
}

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
    void (*quantise_m)(const struct moment_maps *maps, const float *x, float absmax, uint8_t *out);
    void (*quantise_v)(const struct moment_maps *maps, const float *x, float absmax, uint8_t *out);
    void (*accumulate)(float *a, const float *b, int64_t n);
    double (*sum_squares)(const float *g, int64_t n);
};

void moment_maps_fill(struct moment_maps *maps);

/* Where moments lie. */
struct moment_data {
    moment_kind kind;
    int64_t count;
    void *m, *v;
    float *absmax_m, *absmax_v;
};
struct moment_data moment_data_of(const moments *m);

/* Updates weights p (F32, or F16 for MOMENTS_F16) and their moments from gradient g (F32). */
void cpu_adamw(device *d, const adamw_step *step, void *p, const float *g,
               const struct moment_data *m);
/* Adds b to a, [n]. */
void cpu_add_to(device *d, float *a, const float *b, int64_t n);
/* The sum of squares of g, in double, in one order; not finite where g is not. */
double cpu_sum_squares(device *d, const float *g, int64_t n);

bool cpu_accumulate(device *d, const update_tensor *list, size_t count, error *e);
bool cpu_update(device *d, const update_job *u, update_result *r, error *e);

#endif
