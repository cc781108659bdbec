/* SPDX-License-Identifier: Apache-2.0
 *
 * simd: vectors for the simd_*.c files, which CMake compiles once per instruction set with LK_ISA
 * set to its name. One source serves all: GCC vectors of 4 (plain: any x86-64, any machine), 8
 * (avx2) or 16 (avx512, avx512bf16) floats. ISA(name) is the name with the set's suffix. */
#ifndef LIKENESS_DEVICE_CPU_SIMD_H
#define LIKENESS_DEVICE_CPU_SIMD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "base/types.h"

#define SIMD_PASTE2(a, b) a##_##b
#define SIMD_PASTE(a, b) SIMD_PASTE2(a, b)
#define ISA(name) SIMD_PASTE(name, LK_ISA)

#if defined(LK_ISA_avx512bf16)
#define LK_ISA_avx512 /* and what is more */
#endif
#if defined(LK_ISA_avx512)
enum { LANES = 16 };
#elif defined(LK_ISA_avx2)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
#if defined(LK_ISA_avx512) || defined(LK_ISA_avx2)
#include <immintrin.h>
#endif

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2))); /* LANES half-width elements */
/* In memory they lie anywhere: weights in a mapped file even at odd addresses. */
typedef float vf_any __attribute__((vector_size(LANES * 4), aligned(1), may_alias));
typedef uint16_t vh_any __attribute__((vector_size(LANES * 2), aligned(1), may_alias));

#define SIMD static inline __attribute__((always_inline, unused))

SIMD vf vf_load(const float *p) { return *(const vf_any *)p; }
SIMD void vf_store(float *p, vf v) { *(vf_any *)p = v; }
SIMD vf vf_set(float s) { return s - (vf){0}; }
SIMD vf vf_zero(void) { return (vf){0}; }
SIMD vf vf_fma(vf a, vf b, vf c) { return a * b + c; } /* contracted where the set has FMA */
SIMD vf vf_select(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }

/* As the machine's instruction: the second operand where either is NaN. */
SIMD vf vf_max(vf a, vf b)
{
#if defined(LK_ISA_avx512)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(LK_ISA_avx2)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_select(a > b, a, b);
#endif
}

SIMD vf vf_min(vf a, vf b)
{
#if defined(LK_ISA_avx512)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(LK_ISA_avx2)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vf_select(a < b, a, b);
#endif
}

/* The first n (0..LANES) elements; the rest is zero. */
SIMD vf vf_load_n(const float *p, int64_t n)
{
    vf v = {0};
    memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
}

SIMD void vf_store_n(float *p, vf v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof(float)); }

/* f(i, s) for every lane i, as the list that __builtin_shufflevector takes. */
#if defined(LK_ISA_avx512)
#define EACH_LANE(f, s)                                                                            \
    f(0, s), f(1, s), f(2, s), f(3, s), f(4, s), f(5, s), f(6, s), f(7, s), f(8, s), f(9, s),      \
        f(10, s), f(11, s), f(12, s), f(13, s), f(14, s), f(15, s)
#elif defined(LK_ISA_avx2)
#define EACH_LANE(f, s) f(0, s), f(1, s), f(2, s), f(3, s), f(4, s), f(5, s), f(6, s), f(7, s)
#else
#define EACH_LANE(f, s) f(0, s), f(1, s), f(2, s), f(3, s)
#endif
#define LANE_EXCHANGED(i, s) (((i) ^ (s)) % LANES)

/* Lane i gets lane i ^ step of v; step is 1, 2, 4 or 8, below LANES. */
SIMD vf vf_exchange(vf v, int step)
{
    switch (step) {
    case 1: return __builtin_shufflevector(v, v, EACH_LANE(LANE_EXCHANGED, 1));
    case 2: return __builtin_shufflevector(v, v, EACH_LANE(LANE_EXCHANGED, 2));
    case 4: return __builtin_shufflevector(v, v, EACH_LANE(LANE_EXCHANGED, 4));
    default: return __builtin_shufflevector(v, v, EACH_LANE(LANE_EXCHANGED, 8));
    }
}

/* Sums and maxima across the lanes, always in the same order. */
SIMD float vf_sum(vf v)
{
#pragma GCC unroll 4
    for (int step = LANES / 2; step > 0; step /= 2) v += vf_exchange(v, step);
    return v[0];
}

SIMD float vf_hmax(vf v)
{
#pragma GCC unroll 4
    for (int step = LANES / 2; step > 0; step /= 2) v = vf_max(v, vf_exchange(v, step));
    return v[0];
}

/* bfloat16: the upper half of a float32, rounded to nearest even; NaN stays NaN. (avx512bf16 rounds
 * what is below the least normal number to zero.) */
SIMD vf vf_load_bf16(const uint16_t *p)
{
    vu wide = __builtin_convertvector((vh) * (const vh_any *)p, vu);
    return (vf)(wide << 16);
}

SIMD vh vh_bf16(vf v)
{
#if defined(LK_ISA_avx512bf16)
    return (vh)_mm512_cvtneps_pbh((__m512)v);
#else
    vu bits = (vu)v;
    vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    vu nan = (bits >> 16) | 0x40;
    vu is_nan = (vu)(v != v);
    return __builtin_convertvector((rounded & ~is_nan) | (nan & is_nan), vh);
#endif
}

SIMD void vf_store_bf16(uint16_t *p, vf v) { *(vh_any *)p = (vh_any)vh_bf16(v); }

/* Two bfloat16 in each lane, of which `first` are the lower halves; and the product of such pairs
 * added to float32, as the instruction vdpbf16ps does it: the upper pair, then the lower, each sum
 * rounded to nearest even, and whatever is below the least normal number taken and left as zero. */
SIMD vu vu_pair_bf16(vf first, vf second)
{
    return __builtin_convertvector(vh_bf16(first), vu) |
           __builtin_convertvector(vh_bf16(second), vu) << 16;
}

/* The first n (any number) bfloat16, each the lower half of a lane; the rest is zero. */
SIMD vu vu_load_bf16(const uint16_t *p, int64_t n)
{
    if (n >= LANES) return __builtin_convertvector((vh) * (const vh_any *)p, vu);
    vh part = {0};
    if (n > 0) memcpy(&part, p, (size_t)n * sizeof *p);
    return __builtin_convertvector(part, vu);
}

/* What lies in a float's place, in every lane. */
SIMD vu vu_set_bits(float pair)
{
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits - (vu){0};
}

SIMD vf vf_flush(vf v)
{
    vi large = ((vi)v & 0x7f800000) != 0;
    return (vf)((vi)v & (large | INT32_MIN));
}

SIMD vf vf_dot_bf16(vf sum, vu a, vu b)
{
#if defined(LK_ISA_avx512bf16)
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    vf upper_a = vf_flush((vf)(a & 0xffff0000u)), upper_b = vf_flush((vf)(b & 0xffff0000u));
    sum = vf_flush(vf_fma(upper_a, upper_b, vf_flush(sum)));
    return vf_flush(vf_fma(vf_flush((vf)(a << 16)), vf_flush((vf)(b << 16)), sum));
#endif
}

/* sum + a b, a number by a vector; pairs: of bfloat16, a pair in the place of a number. */
SIMD vf vf_add_product(bool pairs, float a, vf b, vf sum)
{
    return pairs ? vf_dot_bf16(sum, vu_set_bits(a), (vu)b) : vf_fma(vf_set(a), b, sum);
}

/* float16 */
SIMD vf vf_load_f16(const uint16_t *p)
{
#if defined(LK_ISA_avx512)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
#elif defined(LK_ISA_avx2)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
#else
    vf v;
    vh half = (vh) * (const vh_any *)p;
    for (int i = 0; i < LANES; i++) v[i] = half_to_float(half[i]);
    return v;
#endif
}

SIMD void vf_store_f16(uint16_t *p, vf v)
{
#if defined(LK_ISA_avx512)
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph((__m512)v, 0));
#elif defined(LK_ISA_avx2)
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph((__m256)v, 0));
#else
    for (int i = 0; i < LANES; i++) p[i] = half_from_float(v[i]);
#endif
}

/* Element i of an activation array that is F32 or BF16. */
SIMD vf vf_load_as(const void *p, dtype type, int64_t i)
{
    return type == DTYPE_F32 ? vf_load((const float *)p + i)
                             : vf_load_bf16((const uint16_t *)p + i);
}

SIMD void vf_store_as(void *p, dtype type, int64_t i, vf v)
{
    if (type == DTYPE_F32)
        vf_store((float *)p + i, v);
    else
        vf_store_bf16((uint16_t *)p + i, v);
}

SIMD vf vf_load_as_n(const void *p, dtype type, int64_t i, int64_t n)
{
    if (type == DTYPE_F32) return vf_load_n((const float *)p + i, n);
    uint16_t part[LANES] = {0};
    memcpy(part, (const uint16_t *)p + i, (size_t)n * sizeof part[0]);
    return vf_load_bf16(part);
}

SIMD void vf_store_as_n(void *p, dtype type, int64_t i, vf v, int64_t n)
{
    if (type == DTYPE_F32) {
        vf_store_n((float *)p + i, v, n);
        return;
    }
    uint16_t part[LANES];
    vf_store_bf16(part, v);
    memcpy((uint16_t *)p + i, part, (size_t)n * sizeof part[0]);
}

/* e^x, relative error below 2e-7 in [-87, 88]; 0 below, +inf's neighbourhood above; NaN stays NaN.
 * x = n ln2 + r with |r| <= ln2 / 2, then a polynomial of degree 6 and 2^n by its exponent bits. */
SIMD vf vf_exp(vf x)
{
    vf clamped = vf_min(vf_set(88.3f), vf_max(vf_set(-87.3f), x));
    vf shifted = vf_fma(clamped, vf_set(1.44269504f), vf_set(12582912.0f)); /* 1.5 * 2^23: rounds */
    vf n = shifted - vf_set(12582912.0f);
    vf r = vf_fma(n, vf_set(-0.693359375f), clamped);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_set(1.0f / 720);
    p = vf_fma(p, r, vf_set(1.0f / 120));
    p = vf_fma(p, r, vf_set(1.0f / 24));
    p = vf_fma(p, r, vf_set(1.0f / 6));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    vu exponent = ((vu)shifted << 23) + (127u << 23); /* the low bits of `shifted` are n */
    vf result = p * (vf)exponent;
    return vf_select(x < vf_set(-87.3f), vf_zero(), result);
}

#endif
