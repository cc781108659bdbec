/* SPDX-License-Identifier: Apache-2.0
 *
 * product: matrix products on the card, in the three ways a linear layer needs them. Matrices are
 * row-major, weights [out, in]. product_cublas.c fills this with cuBLASLt; tests/cuda with plain
 * loops. */
#ifndef LIKENESS_DEVICE_CUDA_PRODUCT_H
#define LIKENESS_DEVICE_CUDA_PRODUCT_H

#include "device/cuda/gpu.h"

typedef enum product_way {
    PRODUCT_FORWARD, /* x [rows, in], w [out, in] -> [rows, out] (+ bias [out]) (+ add [rows, out])
                      */
    PRODUCT_BY_DATA, /* dy [rows, out], w [out, in] -> [rows, in] */
    PRODUCT_BY_WEIGHTS, /* dy [rows, out], x [rows, in] -> [out, in] (+ add [out, in]) */
} product_way;

typedef struct product_shape {
    product_way way;
    int64_t rows, in, out;
    dtype type;   /* of both operands; the sums are float32 */
    dtype result; /* of the result, of what is added to it, and of the bias */
    bool bias, add;
} product_shape;

typedef struct product_library product_library; /* one of a stream */
bool product_library_open(product_library **out, const gpu *g, error *e);
void product_library_close(product_library **l);

typedef struct product_plan product_plan;
/* scratch: bytes that running it wants */
bool product_open(product_plan **out, product_library *l, const product_shape *s, size_t *scratch,
                  error *e);
void product_close(product_plan **p);
/* add may be y. */
bool product_run(const product_plan *p, const void *a, const void *b, const void *bias,
                 const void *add, void *y, void *scratch, error *e);

#endif
