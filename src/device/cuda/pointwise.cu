/* SPDX-License-Identifier: Apache-2.0
 *
 * pointwise: activations, GEGLU, sums, scaling, conversion and their gradients, four numbers a thread
 * where the sizes allow it. */
#include "device/cuda/values.h"

DEVICE float unary_of(int kind, float x)
{
    if (kind == KERNEL_SILU) return silu_of(x);
    if (kind == KERNEL_GELU) return gelu_of(x);
    if (kind == KERNEL_RELU) return x < 0 ? 0 : x; /* NaN stays NaN */
    return x * sigmoid(1.702f * x);
}

DEVICE float unary_slope(int kind, float x)
{
    if (kind == KERNEL_SILU) return silu_slope(x);
    if (kind == KERNEL_GELU) return gelu_slope(x);
    if (kind == KERNEL_RELU) return x > 0 ? 1.0f : 0.0f;
    float s = sigmoid(1.702f * x);
    return s * (1.0f + 1.702f * x * (1.0f - s));
}

template <int N> KERNEL unary_kernel(unary_args a)
{
    EACH(i, a.count / N) {
        values<N> x = load<N>(a.x, (int64_t)i * N);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] = unary_of(a.kind, x.v[k]);
        store<N>(a.y, (int64_t)i * N, x);
    }
}

template <int N> KERNEL unary_grad_kernel(unary_args a)
{
    EACH(i, a.count / N) {
        values<N> x = load<N>(a.x, (int64_t)i * N), dy = load<N>(a.dy, (int64_t)i * N);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] = dy.v[k] * unary_slope(a.kind, x.v[k]);
        store<N>(a.y, (int64_t)i * N, x);
    }
}

void unary_launch(const unary_args *a, gpu_stream stream)
{
    if (a->count % 4 == 0 && is_wide(a->x) && is_wide(a->y))
        LAUNCH(unary_kernel<4>, blocks_for(a->count / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(unary_kernel<1>, blocks_for(a->count), 1, 1, BLOCK, stream, *a);
}

void unary_grad_launch(const unary_args *a, gpu_stream stream)
{
    if (a->count % 4 == 0 && is_wide(a->x) && is_wide(a->y) && is_wide(a->dy))
        LAUNCH(unary_grad_kernel<4>, blocks_for(a->count / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(unary_grad_kernel<1>, blocks_for(a->count), 1, 1, BLOCK, stream, *a);
}

/* Piece i of rows of `channels`: where it lies in rows of 2 * channels is i + its row's channels. */
template <int N> KERNEL geglu_kernel(geglu_args a)
{
    uint32_t width = (uint32_t)(a.channels / N);
    EACH(i, a.rows * width) {
        int64_t at = ((int64_t)i + (int64_t)(i / width) * width) * N;
        values<N> x = load<N>(a.x, at), gate = load<N>(a.x, at + a.channels);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] *= gelu_of(gate.v[k]);
        store<N>(a.y, (int64_t)i * N, x);
    }
}

template <int N> KERNEL geglu_grad_kernel(geglu_args a)
{
    uint32_t width = (uint32_t)(a.channels / N);
    EACH(i, a.rows * width) {
        int64_t at = ((int64_t)i + (int64_t)(i / width) * width) * N;
        values<N> x = load<N>(a.x, at), gate = load<N>(a.x, at + a.channels);
        values<N> dy = load<N>(a.dy, (int64_t)i * N);
        UNROLL
        for (int k = 0; k < N; k++) {
            float dx = dy.v[k] * gelu_of(gate.v[k]);
            gate.v[k] = dy.v[k] * x.v[k] * gelu_slope(gate.v[k]);
            x.v[k] = dx;
        }
        store<N>(a.y, at, x);
        store<N>(a.y, at + a.channels, gate);
    }
}

void geglu_launch(const geglu_args *a, gpu_stream stream)
{
    int64_t n = a->rows * a->channels;
    if (a->channels % 4 == 0 && is_wide(a->x) && is_wide(a->y))
        LAUNCH(geglu_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(geglu_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}

void geglu_grad_launch(const geglu_args *a, gpu_stream stream)
{
    int64_t n = a->rows * a->channels;
    if (a->channels % 4 == 0 && is_wide(a->x) && is_wide(a->y) && is_wide(a->dy))
        LAUNCH(geglu_grad_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(geglu_grad_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}

template <int N> KERNEL add_kernel(add_args a)
{
    uint32_t period = (uint32_t)(a.period / N);
    EACH(i, a.count / N) {
        values<N> x = load<N>(a.a, (int64_t)i * N), b = load<N>(a.b, (int64_t)(i % period) * N);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] += b.v[k];
        store<N>(a.y, (int64_t)i * N, x);
    }
}

void add_launch(const add_args *a, gpu_stream stream)
{
    if (a->count % 4 == 0 && a->period % 4 == 0 && is_wide(a->a) && is_wide(a->b) && is_wide(a->y))
        LAUNCH(add_kernel<4>, blocks_for(a->count / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(add_kernel<1>, blocks_for(a->count), 1, 1, BLOCK, stream, *a);
}

template <int N> KERNEL finish_kernel(finish_args a)
{
    uint32_t width = (uint32_t)(a.channels / N);
    EACH(i, a.count / N) {
        int64_t at = (int64_t)i * N;
        values<N> x = load<N>(a.x, at), bias = {}, more = {};
        if (a.bias.data) bias = load<N>(a.bias, (int64_t)(i % width) * N);
        if (a.add.data) more = load<N>(a.add, at);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] = x.v[k] * a.scale + more.v[k] + bias.v[k]; /* as where the library has added onto it */
        store<N>(a.y, at, x);
    }
}

void finish_launch(const finish_args *a, gpu_stream stream)
{
    if (a->channels % 4 == 0 && is_wide(a->x) && is_wide(a->bias) && is_wide(a->add) && is_wide(a->y))
        LAUNCH(finish_kernel<4>, blocks_for(a->count / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(finish_kernel<1>, blocks_for(a->count), 1, 1, BLOCK, stream, *a);
}

template <int N> KERNEL add_channel_kernel(add_channel_args a)
{
    uint32_t width = (uint32_t)(a.channels / N), sample = (uint32_t)(a.space * width);
    EACH(i, a.batch * sample) {
        values<N> x = load<N>(a.x, (int64_t)i * N);
        values<N> v = load<N>(a.v, (int64_t)(i / sample * width + i % width) * N);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] += v.v[k];
        store<N>(a.y, (int64_t)i * N, x);
    }
}

void add_channel_launch(const add_channel_args *a, gpu_stream stream)
{
    int64_t n = a->batch * a->space * a->channels;
    if (a->channels % 4 == 0 && is_wide(a->x) && is_wide(a->v) && is_wide(a->y))
        LAUNCH(add_channel_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(add_channel_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}

template <int N> KERNEL scale_kernel(scale_args a)
{
    EACH(i, a.count / N) {
        values<N> x = load<N>(a.x, (int64_t)i * N);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] *= a.alpha;
        store<N>(a.y, (int64_t)i * N, x);
    }
}

void scale_launch(const scale_args *a, gpu_stream stream)
{
    if (a->count % 4 == 0 && is_wide(a->x) && is_wide(a->y))
        LAUNCH(scale_kernel<4>, blocks_for(a->count / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(scale_kernel<1>, blocks_for(a->count), 1, 1, BLOCK, stream, *a);
}

template <int N> KERNEL fill_kernel(fill_args a)
{
    values<N> x;
    UNROLL
    for (int k = 0; k < N; k++) x.v[k] = a.value;
    EACH(i, a.count / N) store<N>(a.y, (int64_t)i * N, x);
}

void fill_launch(const fill_args *a, gpu_stream stream)
{
    if (a->count % 4 == 0 && is_wide(a->y))
        LAUNCH(fill_kernel<4>, blocks_for(a->count / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(fill_kernel<1>, blocks_for(a->count), 1, 1, BLOCK, stream, *a);
}
