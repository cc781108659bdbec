/* SPDX-License-Identifier: Apache-2.0
 *
 * half: float16 and bfloat16 to float32 and back, round to nearest even, NaN stays NaN. */
#ifndef LIKENESS_BASE_HALF_H
#define LIKENESS_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>

#include "base/types.h"

float half_to_float(uint16_t h);
uint16_t half_from_float(float f);
float bf16_to_float(uint16_t h);
uint16_t bf16_from_float(float f);
/* Whole arrays, any of F32, F16, BF16 (F64 as a source too). */
void convert_to_float(float *out, const void *in, dtype type, size_t n);
void convert_from_float(void *out, dtype type, const float *in, size_t n);

#endif
