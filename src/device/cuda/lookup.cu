/* SPDX-License-Identifier: Apache-2.0
 *
 * lookup: rows of an embedding table, their gradient, and the sinusoidal embedding of timesteps. */
#include "device/cuda/values.h"

template <int N> KERNEL embedding_kernel(embedding_args a)
{
    uint32_t width = (uint32_t)(a.channels / N);
    EACH(i, a.count * width) {
        int64_t from = (int64_t)a.ids[i / width] * width + i % width;
        store<N>(a.y, (int64_t)i * N, load<N>(a.table, from * N));
    }
}

void embedding_launch(const embedding_args *a, gpu_stream stream)
{
    int64_t n = a->count * a->channels;
    if (a->channels % 4 == 0 && is_wide(a->table) && is_wide(a->y))
        LAUNCH(embedding_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(embedding_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}

/* A block for each place: where its id is the first of its kind, it adds up dy of all such, in their order. */
template <int N> KERNEL embedding_grad_kernel(embedding_args a)
{
    int64_t place = BLOCK_X;
    int32_t id = a.ids[place];
    for (int64_t i = 0; i < place; i++)
        if (a.ids[i] == id) return;
    for (int64_t c = THREAD * N; c < a.channels; c += BLOCK * N) {
        values<N> sum = {};
        for (int64_t i = place; i < a.count; i++) {
            if (a.ids[i] != id) continue;
            values<N> dy = load<N>(a.y, i * a.channels + c);
            UNROLL
            for (int k = 0; k < N; k++) sum.v[k] += dy.v[k];
        }
        store<N>(a.table, (int64_t)id * a.channels + c, sum);
    }
}

void embedding_grad_launch(const embedding_args *a, gpu_stream stream)
{
    fill_args zeros = {a->table, a->vocabulary * a->channels, 0};
    fill_launch(&zeros, stream);
    if (a->channels % 4 == 0 && is_wide(a->table) && is_wide(a->y))
        LAUNCH(embedding_grad_kernel<4>, a->count, 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(embedding_grad_kernel<1>, a->count, 1, 1, BLOCK, stream, *a);
}

/* diffusers get_timestep_embedding: the exponents are rounded to float32 at the same places. */
KERNEL time_embedding_kernel(time_embedding_args a)
{
    EACH(i, a.batch * a.channels) {
        int64_t b = i / (uint32_t)a.channels, c = i % (uint32_t)a.channels, half = a.channels / 2;
        float value = 0; /* an odd dimension ends with zero */
        if (c < 2 * half) {
            float exponent = MULTIPLIED(-9.21034037197618273f, (float)(c % half)); /* -ln(10000) */
            exponent = DIVIDED(exponent, (float)half - a.freq_shift);
            double angle = (double)MULTIPLIED(a.t[b], (float)exp((double)exponent));
            value = (float)((c < half) != a.flip_sin_to_cos ? sin(angle) : cos(angle));
        }
        store_one(a.y, i, value);
    }
}

void time_embedding_launch(const time_embedding_args *a, gpu_stream stream)
{
    LAUNCH(time_embedding_kernel, blocks_for(a->batch * a->channels), 1, 1, BLOCK, stream, *a);
}
