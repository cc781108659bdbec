/* SPDX-License-Identifier: Apache-2.0
 *
 * numbers: numbers of any float type, for the plain libraries. */
#ifndef LIKENESS_TESTS_CUDA_NUMBERS_H
#define LIKENESS_TESTS_CUDA_NUMBERS_H

#include <stdlib.h>

#include "base/half.h"

static inline float number_get(const void *data, dtype type, int64_t i)
{
    if (type == DTYPE_F32) return ((const float *)data)[i];
    return type == DTYPE_F16 ? half_to_float(((const uint16_t *)data)[i])
                             : bf16_to_float(((const uint16_t *)data)[i]);
}

static inline void number_set(void *data, dtype type, int64_t i, float x)
{
    if (type == DTYPE_F32)
        ((float *)data)[i] = x;
    else
        ((uint16_t *)data)[i] = type == DTYPE_F16 ? half_from_float(x) : bf16_from_float(x);
}

/* malloc'ed */
static inline float *numbers_read(const void *data, dtype type, int64_t count)
{
    float *out = malloc((size_t)(count + 1) * sizeof *out);
    if (!out) abort();
    convert_to_float(out, data, type, (size_t)count);
    return out;
}

#endif
