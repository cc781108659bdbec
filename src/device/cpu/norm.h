/* SPDX-License-Identifier: Apache-2.0
 *
 * norm: what norm.c (statistics, threads) and simd_norm.c (passes over rows) share. A map is rows
 * of C channels; everything known of a channel is an array of C floats. */
#ifndef LIKENESS_DEVICE_CPU_NORM_H
#define LIKENESS_DEVICE_CPU_NORM_H

#include <stdbool.h>
#include <stdint.h>

#include "device/cpu/view.h"

/* Of each channel: (x - mean) * inverse * gamma + beta, scale = inverse * gamma; m1, m2: the
 * gradient's two means. */
typedef struct channel_values {
    float *mean, *inverse, *gamma, *beta, *scale, *m1, *m2;
} channel_values;

struct norm_kernels {
    /* Mean and sum of squared deviations of each channel over rows [begin, end), as double;
     * work: 3 * channels floats. */
    void (*moments)(view x, int64_t begin, int64_t end, int64_t channels, double *mean, double *m2,
                    float *work);
    /* y may be x. */
    void (*apply)(view x, view y, int64_t begin, int64_t end, int64_t channels,
                  const channel_values *v, bool silu);
    /* sum[c] = sum of g, sum_x[c] = sum of g * normalised x; g is dy through SiLU's gradient;
     * work: 2 * channels floats. */
    void (*grad_sums)(view dy, view x, int64_t begin, int64_t end, int64_t channels,
                      const channel_values *v, bool silu, double *sum, double *sum_x, float *work);
    void (*grad_apply)(view dy, view x, view dx, int64_t begin, int64_t end, int64_t channels,
                       const channel_values *v, bool silu);
    /* Layer norm: stats [rows][2] may be NULL; y may be x. */
    void (*layer)(view x, view y, int64_t begin, int64_t end, int64_t channels, const float *gamma,
                  const float *beta, float eps, float *stats);
    /* dx.data NULL: not wanted; adds to dgamma, dbeta; work: 2 * channels floats. */
    void (*layer_grad)(view dy, view x, view dx, int64_t begin, int64_t end, int64_t channels,
                       const float *gamma, const float *stats, double *dgamma, double *dbeta,
                       float *work);
};

#endif
