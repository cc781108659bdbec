/* SPDX-License-Identifier: Apache-2.0
 *
 * types: element types shared by files, devices and graphs. */
#ifndef LIKENESS_BASE_TYPES_H
#define LIKENESS_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I32,
    DTYPE_F64,
    DTYPE_I64,
    DTYPE_I16,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_U16,
    DTYPE_U32,
    DTYPE_U64,
    DTYPE_BOOL,
    DTYPE_F8_E4M3,
    DTYPE_F8_E5M2,
    DTYPE_COUNT,
} dtype;

size_t dtype_size(dtype t);      /* bytes of one element */
const char *dtype_name(dtype t); /* safetensors' name: "F32", "BF16", ... */

/* What a device computes in is F32, F16 or BF16: by the name that --precision has ("f32", "f16",
 * "bf16") and by that of diffusers' --mixed_precision ("no", "fp16", "bf16"); read by either, and
 * by "fp32". */
const char *precision_name(dtype t);
const char *precision_mixed_name(dtype t);
bool precision_parse(dtype *out, const char *name);

#endif
