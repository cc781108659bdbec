/* SPDX-License-Identifier: Apache-2.0
 *
 * softmax: of rows of logits, a block each, and its gradient: where heads are too wide for attention.cu, whose scores then
 * are made some rows at a time. */
#include "device/cuda/values.h"

/* The largest over a block of BLOCK threads, in all of them; part: shared, BLOCK / WARP numbers. */
DEVICE float block_most(float x, float *part)
{
    UNROLL
    for (int mask = WARP / 2; mask > 0; mask /= 2) x = fmaxf(x, SHUFFLE_XOR(x, mask));
    if (THREAD % WARP == 0) part[THREAD / WARP] = x;
    BARRIER();
    for (int w = 0; w < BLOCK / WARP; w++) x = fmaxf(x, part[w]);
    return x;
}

KERNEL softmax_kernel(softmax_args a)
{
    SHARED(float, most_of, BLOCK / WARP);
    SHARED(float, sum_of, BLOCK / WARP);
    int64_t row = BLOCK_X, at = row * a.columns;
    float most = -INFINITY, sum = 0;
    for (int64_t i = THREAD; i < a.columns; i += BLOCK) most = fmaxf(most, a.x[at + i] * a.alpha);
    most = block_most(most, most_of);
    for (int64_t i = THREAD; i < a.columns; i += BLOCK) sum += expf(a.x[at + i] * a.alpha - most);
    sum = block_sum(sum, sum_of);
    for (int64_t i = THREAD; i < a.columns; i += BLOCK)
        store_one(a.y, at + i, expf(a.x[at + i] * a.alpha - most) / sum);
    if (THREAD == 0 && a.lse) a.lse[row] = most + logf(sum);
}

void softmax_launch(const softmax_args *a, gpu_stream stream)
{
    LAUNCH(softmax_kernel, a->rows, 1, 1, BLOCK, stream, *a);
}

KERNEL softmax_grad_kernel(softmax_grad_args a)
{
    SHARED(float, sum_of, BLOCK / WARP);
    int64_t row = BLOCK_X, at = row * a.columns;
    float lse = a.lse[row], sum = 0;
    for (int64_t i = THREAD; i < a.columns; i += BLOCK)
        sum += expf(a.x[at + i] * a.alpha - lse) * a.dy[at + i];
    sum = block_sum(sum, sum_of);
    for (int64_t i = THREAD; i < a.columns; i += BLOCK) {
        float y = expf(a.x[at + i] * a.alpha - lse), slope = a.dy[at + i] - sum;
        store_one(a.y, at + i, y);
        store_one(a.dx, at + i, y * slope * a.alpha);
    }
}

void softmax_grad_launch(const softmax_grad_args *a, gpu_stream stream)
{
    LAUNCH(softmax_grad_kernel, a->rows, 1, 1, BLOCK, stream, *a);
}
