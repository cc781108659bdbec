/* SPDX-License-Identifier: Apache-2.0
 *
 * types: sizes and names of the element types, and of those that a device computes in. */
#include "base/types.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} types[DTYPE_COUNT] = {
    [DTYPE_F32] = {"F32", 4},   [DTYPE_F16] = {"F16", 2},         [DTYPE_BF16] = {"BF16", 2},
    [DTYPE_I32] = {"I32", 4},   [DTYPE_F64] = {"F64", 8},         [DTYPE_I64] = {"I64", 8},
    [DTYPE_I16] = {"I16", 2},   [DTYPE_I8] = {"I8", 1},           [DTYPE_U8] = {"U8", 1},
    [DTYPE_U16] = {"U16", 2},   [DTYPE_U32] = {"U32", 4},         [DTYPE_U64] = {"U64", 8},
    [DTYPE_BOOL] = {"BOOL", 1}, [DTYPE_F8_E4M3] = {"F8_E4M3", 1}, [DTYPE_F8_E5M2] = {"F8_E5M2", 1},
};

size_t dtype_size(dtype t)
{
    assert(t >= 0 && t < DTYPE_COUNT);
    return types[t].size;
}

const char *dtype_name(dtype t)
{
    assert(t >= 0 && t < DTYPE_COUNT);
    return types[t].name;
}

static const struct {
    dtype type;
    const char *name, *mixed, *also;
} precisions[] = {
    {DTYPE_F32, "f32", "no", "fp32"},
    {DTYPE_F16, "f16", "fp16", "fp16"},
    {DTYPE_BF16, "bf16", "bf16", "bf16"},
};

enum { PRECISIONS = sizeof precisions / sizeof *precisions };

static int precision_at(dtype t)
{
    int i = 0;
    while (i < PRECISIONS && precisions[i].type != t) i++;
    assert(i < PRECISIONS);
    return i;
}

const char *precision_name(dtype t) { return precisions[precision_at(t)].name; }
const char *precision_mixed_name(dtype t) { return precisions[precision_at(t)].mixed; }

bool precision_parse(dtype *out, const char *name)
{
    for (int i = 0; i < PRECISIONS; i++)
        if (strcmp(name, precisions[i].name) == 0 || strcmp(name, precisions[i].mixed) == 0 ||
            strcmp(name, precisions[i].also) == 0) {
            *out = precisions[i].type;
            return true;
        }
    return false;
}
