/* SPDX-License-Identifier: Apache-2.0
 *
 * loss: the mean squared error of each sample, their weighted mean, and its gradient. A sample is summed in
 * pieces of fixed size, the pieces in double. */
#include "device/cuda/values.h"

enum { PIECE = 16 * BLOCK };

static int64_t pieces_of(const mse_args *a) { return divided(a->count, PIECE); }

/* sums [batch, pieces] */
template <int N> KERNEL square_error_kernel(mse_args a, float *sums)
{
    SHARED(float, part, BLOCK / WARP);
    int64_t b = BLOCK_Y, begin = (int64_t)BLOCK_X * PIECE;
    int64_t end = begin + PIECE < a.count ? begin + PIECE : a.count;
    float sum = 0;
    for (int64_t i = begin + THREAD * N; i < end; i += BLOCK * N) {
        values<N> pred = load<N>(a.pred, b * a.count + i), target = load<N>(a.target, b * a.count + i);
        UNROLL
        for (int k = 0; k < N; k++) {
            float d = pred.v[k] - target.v[k];
            sum += d * d;
        }
    }
    sum = block_sum(sum, part);
    if (THREAD == 0) sums[b * BLOCKS_X + BLOCK_X] = sum;
}

KERNEL mean_error_kernel(mse_args a, int64_t pieces, const float *sums)
{
    SHARED(double, part, BLOCK / WARP);
    double loss = 0;
    for (int64_t b = 0; b < a.batch; b++) {
        double sum = 0;
        for (int64_t i = THREAD; i < pieces; i += BLOCK) sum += (double)sums[b * pieces + i];
        sum = block_sum(sum, part) / (double)a.count;
        if (a.mse && THREAD == 0) a.mse[b] = (float)sum;
        loss += a.weight ? sum * (double)a.weight[b] : sum;
    }
    if (THREAD == 0) *a.loss = (float)(loss / (double)a.batch);
}

size_t mse_scratch(const mse_args *a) { return (size_t)(a->batch * pieces_of(a)) * sizeof(float); }

void mse_launch(const mse_args *a, void *scratch, gpu_stream stream)
{
    float *sums = (float *)scratch;
    if (a->count % 4 == 0 && is_wide(a->pred) && is_wide(a->target))
        LAUNCH(square_error_kernel<4>, pieces_of(a), a->batch, 1, BLOCK, stream, *a, sums);
    else
        LAUNCH(square_error_kernel<1>, pieces_of(a), a->batch, 1, BLOCK, stream, *a, sums);
    LAUNCH(mean_error_kernel, 1, 1, 1, BLOCK, stream, *a, pieces_of(a), (const float *)sums);
}

template <int N> KERNEL mse_grad_kernel(mse_grad_args a)
{
    uint32_t width = (uint32_t)(a.count / N);
    EACH(i, a.batch * width) {
        double factor = 2.0 * (double)*a.dloss / (double)(a.batch * a.count);
        if (a.weight) factor *= (double)a.weight[i / width];
        values<N> pred = load<N>(a.pred, (int64_t)i * N), target = load<N>(a.target, (int64_t)i * N);
        UNROLL
        for (int k = 0; k < N; k++) pred.v[k] = (float)factor * (pred.v[k] - target.v[k]);
        store<N>(a.dpred, (int64_t)i * N, pred);
    }
}

void mse_grad_launch(const mse_grad_args *a, gpu_stream stream)
{
    int64_t n = a->batch * a->count;
    if (a->count % 4 == 0 && is_wide(a->pred) && is_wide(a->target) && is_wide(a->dpred))
        LAUNCH(mse_grad_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(mse_grad_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}
