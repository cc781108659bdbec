/* SPDX-License-Identifier: Apache-2.0
 *
 * optimizer: AdamW's kernels over runs of elements or of blocks, the two maps of the 8-bit moments,
 * and the sums over gradients. simd_optimizer.c is compiled without contraction: every instruction
 * set gives the same bytes. */
#ifndef LIKENESS_DEVICE_CPU_OPTIMIZER_H
#define LIKENESS_DEVICE_CPU_OPTIMIZER_H

#include <stdint.h>

#include "device/adamw.h"

/* The maps (device/adamw.h), and where in them a number is (device/moments.h) */
struct moment_maps {
    float m[MAP_SIZE], v[MAP_SIZE];
    /* [i]: the least number that is i + 1 rather than i; at the end inf */
    float threshold_m[MAP_SIZE], threshold_v[MAP_SIZE];
    /* Added to a place of that cell: the index, above CELL_M or CELL_V bits */
    int32_t cell_m[CELLS_M], cell_v[CELLS_V];
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
/* The sum of squares of g, in double, in one order; not finite where g is not. */
double cpu_sum_squares(device *d, const float *g, int64_t n);

bool cpu_accumulate(device *d, const update_tensor *list, size_t count, error *e);
bool cpu_update(device *d, const update_job *u, update_result *r, error *e);

#endif
