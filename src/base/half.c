/* SPDX-License-Identifier: Apache-2.0
 *
 * half: the conversions as integer arithmetic without branches, so that the array loops become
 * vector code on any x86-64. What is subnormal is never an operand or a result of floating-point
 * arithmetic: a host that flushes such numbers to zero changes nothing here. */
#include "base/half.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static inline float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* Exponent and mantissa are moved into place and the exponent is corrected by 112. A subnormal gets
 * the exponent of 2^-14, which is then taken away; infinity and NaN (all exponent bits set) are set
 * by hand. */
static inline float half_widen(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    uint32_t small = bits_of(float_of(magnitude + 0x38800000) - 0x1p-14f);
    uint32_t bits = magnitude < 0x00800000 ? small : magnitude + 0x38000000;
    bits |= magnitude >= 0x0f800000 ? 0x7f800000 : 0;
    return float_of(bits | (uint32_t)(h & 0x8000) << 16);
}

static inline uint16_t half_narrow(float f)
{
    uint32_t bits = bits_of(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    uint32_t normal = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13;
    /* 0.5 has units of 2^-24 in its last place, float16's smallest step: the sum rounds. */
    uint32_t small = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;
    uint32_t special = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
    uint32_t out = magnitude < 0x38800000 ? small : magnitude < 0x47800000 ? normal : special;
    return (uint16_t)(sign | out);
}

/* Where the float is subnormal: its bits are the number in units of 2^-149. */
static inline float double_narrow(double d)
{
    double size = fabs(d);
    if (!(size < 0x1p-126)) return (float)d;
    return float_of((uint32_t)nearbyint(size * 0x1p149) | (signbit(d) ? 0x80000000 : 0));
}

static inline float bf16_widen(uint16_t h) { return float_of((uint32_t)h << 16); }

static inline uint16_t bf16_narrow(float f)
{
    uint32_t bits = bits_of(f);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16 & 0x8000) | 0x7fc0 : rounded);
}

float half_to_float(uint16_t h) { return half_widen(h); }
uint16_t half_from_float(float f) { return half_narrow(f); }
float bf16_to_float(uint16_t h) { return bf16_widen(h); }
uint16_t bf16_from_float(float f) { return bf16_narrow(f); }

void convert_to_float(float *out, const void *in, dtype type, size_t n)
{
    assert(type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || type == DTYPE_F64);
    /* A tensor in a mapped file need not be aligned: elements are read by memcpy. */
    const unsigned char *bytes = in;
    if (type == DTYPE_F32) {
        if (n) memcpy(out, in, n * sizeof *out);
    } else if (type == DTYPE_F64) {
        for (size_t i = 0; i < n; i++) {
            double d;
            memcpy(&d, bytes + 8 * i, sizeof d);
            out[i] = double_narrow(d);
        }
    } else if (type == DTYPE_F16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, bytes + 2 * i, sizeof h);
            out[i] = half_widen(h);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, bytes + 2 * i, sizeof h);
            out[i] = bf16_widen(h);
        }
    }
}

void convert_from_float(void *out, dtype type, const float *in, size_t n)
{
    assert(type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16);
    if (type == DTYPE_F32) {
        if (n) memcpy(out, in, n * sizeof *in);
    } else if (type == DTYPE_F16) {
        uint16_t *half = out;
        for (size_t i = 0; i < n; i++) half[i] = half_narrow(in[i]);
    } else {
        uint16_t *half = out;
        for (size_t i = 0; i < n; i++) half[i] = bf16_narrow(in[i]);
    }
}
