/* SPDX-License-Identifier: Apache-2.0
 *
 * values: what kernels share: numbers of any type as float32, one or four at a time, sums over a
 * warp and over a block in fixed trees, activations, and how much work is cut into how many blocks.
 *
 * A tensor's type is looked at when the kernel runs: the branch is the same for all threads, and
 * memory is what these kernels wait for. */
#ifndef LIKENESS_DEVICE_CUDA_VALUES_H
#define LIKENESS_DEVICE_CUDA_VALUES_H

#include <assert.h>
#include <math.h>

#include "device/cuda/kernels.h"
#include "device/cuda/launch.h"

enum { BLOCK = 256 }; /* threads of a block, where nothing else decides */

/* N numbers that are read or written at once */
template <int N> struct values {
    float v[N];
};

template <typename T, int N> struct alignas(sizeof(T) * N) packed {
    T v[N];
};

template <int N> DEVICE values<N> load(gpu_view x, int64_t i)
{
    values<N> out;
    if (x.type == DTYPE_F32) {
        packed<float, N> p = *(const packed<float, N> *)((const float *)x.data + i);
        UNROLL
        for (int k = 0; k < N; k++) out.v[k] = p.v[k];
        return out;
    }
    packed<uint16_t, N> p = *(const packed<uint16_t, N> *)((const uint16_t *)x.data + i);
    if (x.type == DTYPE_BF16) {
        UNROLL
        for (int k = 0; k < N; k++) out.v[k] = bf16_bits_value(p.v[k]);
    } else {
        UNROLL
        for (int k = 0; k < N; k++) out.v[k] = half_bits_value(p.v[k]);
    }
    return out;
}

/* M times N numbers, those from place `count` on zero: all reads are on their way before the first
 * is used, for the type is looked at once. */
template <int N, int M>
DEVICE void load_at(gpu_view x, const int64_t (&at)[M], int count, values<N> (&out)[M])
{
    if (x.type == DTYPE_F32) {
        packed<float, N> p[M] = {};
        UNROLL
        for (int m = 0; m < M; m++)
            if (m < count) p[m] = *(const packed<float, N> *)((const float *)x.data + at[m]);
        UNROLL
        for (int m = 0; m < M; m++) {
            UNROLL
            for (int k = 0; k < N; k++) out[m].v[k] = p[m].v[k];
        }
        return;
    }
    packed<uint16_t, N> p[M] = {};
    UNROLL
    for (int m = 0; m < M; m++)
        if (m < count) p[m] = *(const packed<uint16_t, N> *)((const uint16_t *)x.data + at[m]);
    bool bf16 = x.type == DTYPE_BF16;
    UNROLL
    for (int m = 0; m < M; m++) {
        UNROLL
        for (int k = 0; k < N; k++)
            out[m].v[k] = bf16 ? bf16_bits_value(p[m].v[k]) : half_bits_value(p[m].v[k]);
    }
}

/* `step` apart */
template <int N, int M>
DEVICE void load_several(gpu_view x, int64_t i, int64_t step, values<N> (&out)[M])
{
    int64_t at[M];
    UNROLL
    for (int m = 0; m < M; m++) at[m] = i + m * step;
    load_at<N, M>(x, at, M, out);
}

template <int N> DEVICE void store(gpu_view y, int64_t i, values<N> x)
{
    if (y.type == DTYPE_F32) {
        packed<float, N> p;
        UNROLL
        for (int k = 0; k < N; k++) p.v[k] = x.v[k];
        *(packed<float, N> *)((float *)y.data + i) = p;
        return;
    }
    packed<uint16_t, N> p;
    if (y.type == DTYPE_BF16) {
        UNROLL
        for (int k = 0; k < N; k++) p.v[k] = bf16_bits_of(x.v[k]);
    } else {
        UNROLL
        for (int k = 0; k < N; k++) p.v[k] = half_bits_of(x.v[k]);
    }
    *(packed<uint16_t, N> *)((uint16_t *)y.data + i) = p;
}

DEVICE float load_one(gpu_view x, int64_t i) { return load<1>(x, i).v[0]; }

DEVICE void store_one(gpu_view y, int64_t i, float x)
{
    values<1> v;
    v.v[0] = x;
    store<1>(y, i, v);
}

template <typename T> DEVICE T warp_sum(T x)
{
    UNROLL
    for (int mask = WARP / 2; mask > 0; mask /= 2) x += SHUFFLE_XOR(x, mask);
    return x;
}

/* The sum over a block of COUNT threads, in all of them; part: shared, COUNT / WARP numbers. */
template <typename T, int COUNT = BLOCK> DEVICE T block_sum(T x, T *part)
{
    x = warp_sum(x);
    BARRIER(); /* whoever still reads an earlier sum */
    if (THREAD % WARP == 0) part[THREAD / WARP] = x;
    BARRIER();
    T sum = 0;
    for (int w = 0; w < COUNT / WARP; w++) sum += part[w];
    return sum;
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* silu and its slope */
DEVICE float silu_of(float x) { return x * sigmoid(x); }

DEVICE float silu_slope(float x)
{
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

DEVICE float normal_below(float x) { return 0.5f * erfcf(-x * 0.70710678118654752f); }

DEVICE float gelu_of(float x) { return x * normal_below(x); }

DEVICE float gelu_slope(float x)
{
    return normal_below(x) + x * 0.39894228040143268f * expf(-0.5f * x * x);
}

/* ---- the host's side ---- */

static inline bool is_wide(gpu_view x)
{
    return (uintptr_t)x.data % 16 == 0; /* an absent one too */
}

static inline int64_t divided(int64_t n, int64_t by) { return (n + by - 1) / by; }

/* Blocks for n pieces of work of one thread each; a thread takes several where there are very many.
 */
static inline int64_t blocks_for(int64_t n)
{
    int64_t blocks = divided(n, BLOCK);
    assert(n < INT32_MAX); /* indices are 32 bits: a division of 64 takes far longer */
    return blocks < 1 ? 1 : blocks > 65535 * 4 ? 65535 * 4 : blocks;
}

/* for (every piece i of n) */
#define EACH(i, n)                                                                                 \
    for (uint32_t i = (uint32_t)(BLOCK_X * BLOCK + THREAD); i < (n);                               \
         i += (uint32_t)(BLOCKS_X * BLOCK))

#endif
