/* SPDX-License-Identifier: Apache-2.0
 *
 * conv: convolutions on the card, channels-last: activations [batch, height, width, channels],
 * filters [out, kh, kw, in], operands and result of one type, float32 sums. The padding is the same
 * at both ends. conv_cudnn.c fills this with cuDNN; tests/cuda with plain loops. */
#ifndef LIKENESS_DEVICE_CUDA_CONV_H
#define LIKENESS_DEVICE_CUDA_CONV_H

#include "device/cuda/gpu.h"

typedef enum conv_way {
    CONV_FORWARD,    /* x, w -> y */
    CONV_BY_DATA,    /* dy, w -> dx */
    CONV_BY_WEIGHTS, /* dy, x -> dw */
} conv_way;

typedef struct conv_shape {
    conv_way way;
    int64_t batch, height, width, in; /* of x */
    int64_t y_height, y_width, out;
    int64_t kh, kw;
    int stride, pad_height, pad_width;
    dtype type;
    float scale; /* of the result, a power of two */
} conv_shape;

typedef struct conv_library conv_library; /* one of a stream */
bool conv_library_open(conv_library **out, const gpu *g, error *e);
void conv_library_close(conv_library **l);

typedef struct conv_plan conv_plan;
/* scratch: bytes that running it wants */
bool conv_open(conv_plan **out, conv_library *l, const conv_shape *s, size_t *scratch, error *e);
void conv_close(conv_plan **p);
/* onto: the result is added to what is there. */
bool conv_run(const conv_plan *p, const void *a, const void *b, void *result, bool onto,
              void *scratch, error *e);

#endif
