/* SPDX-License-Identifier: Apache-2.0
 *
 * pointwise: the kernels over runs of elements that pointwise.c, shape.c, lookup.c and loss.c
 * share. An index beside a view is the run's first element in it. */
#ifndef LIKENESS_DEVICE_CPU_POINTWISE_H
#define LIKENESS_DEVICE_CPU_POINTWISE_H

#include <stdint.h>

#include "device/cpu/view.h"
#include "device/device.h"

struct pointwise_kernels {
    /* n elements from i on; the output may be the input */
    void (*unary)(unary_kind kind, view x, view y, int64_t i, int64_t n);
    void (*unary_grad)(unary_kind kind, view dy, view x, view dx, int64_t i, int64_t n);
    void (*scale)(view x, view y, float alpha, int64_t i, int64_t n);
    /* a[ai..] + b[bi..] -> y[ai..]; y may be a */
    void (*add)(view a, int64_t ai, view b, int64_t bi, view y, int64_t n);
    void (*copy)(view x, int64_t xi, view y, int64_t yi, int64_t n);
    /* rows [begin, end) of x [..,2C], y [..,C] */
    void (*geglu)(view x, view y, int64_t begin, int64_t end, int64_t channels);
    void (*geglu_grad)(view dy, view x, view dx, int64_t begin, int64_t end, int64_t channels);
    /* sum[0..n) += x[i..] */
    void (*add_to)(view x, int64_t i, float *sum, int64_t n);
    /* sum of (a - b)^2 over a short run */
    float (*square_error)(view a, view b, int64_t i, int64_t n);
    /* y = factor * (a - b) */
    void (*difference)(view a, view b, view y, float factor, int64_t i, int64_t n);
};

#endif
