/* SPDX-License-Identifier: Apache-2.0
 *
 * shape: operations that move channels and pixels (concatenate, slice, nearest upsample), and the sums
 * over rows that are the gradients of repeating. */
#include "device/cuda/columns.h"

template <int N> KERNEL concat_kernel(concat_args a)
{
    uint32_t first = (uint32_t)(a.a_channels / N), second = (uint32_t)(a.b_channels / N);
    uint32_t width = first + second;
    EACH(i, a.rows * width) {
        uint32_t row = i / width, c = i % width;
        values<N> x = c < first ? load<N>(a.a, ((int64_t)row * first + c) * N)
                                : load<N>(a.b, ((int64_t)row * second + (c - first)) * N);
        store<N>(a.y, (int64_t)i * N, x);
    }
}

void concat_launch(const concat_args *a, gpu_stream stream)
{
    int64_t n = a->rows * (a->a_channels + a->b_channels);
    if (a->a_channels % 4 == 0 && a->b_channels % 4 == 0 && is_wide(a->a) && is_wide(a->b) &&
        is_wide(a->y))
        LAUNCH(concat_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(concat_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}

template <int N> KERNEL slice_kernel(slice_args a)
{
    uint32_t width = (uint32_t)(a.y_channels / N);
    EACH(i, a.rows * width) {
        int64_t row = i / width, c = (int64_t)(i % width) * N + a.start;
        values<N> x = {};
        if (c >= 0 && c < a.x_channels) x = load<N>(a.x, row * a.x_channels + c);
        store<N>(a.y, (int64_t)i * N, x);
    }
}

void slice_launch(const slice_args *a, gpu_stream stream)
{
    int64_t n = a->rows * a->y_channels;
    if (a->x_channels % 4 == 0 && a->y_channels % 4 == 0 && a->start % 4 == 0 && is_wide(a->x) &&
        is_wide(a->y))
        LAUNCH(slice_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(slice_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}

/* ---- nearest upsample: the source of i is floor(i * from / to) ---- */

template <int N> KERNEL upsample_kernel(upsample_args a)
{
    uint32_t width = (uint32_t)(a.channels / N);
    EACH(i, a.batch * a.y_height * a.y_width * width) {
        uint32_t pixel = i / width, line = pixel / (uint32_t)a.y_width;
        int64_t b = line / (uint32_t)a.y_height, y = line % (uint32_t)a.y_height;
        int64_t x = pixel % (uint32_t)a.y_width;
        int64_t row = b * a.x_height + y * a.x_height / a.y_height;
        int64_t from = (row * a.x_width + x * a.x_width / a.y_width) * width + i % width;
        store<N>(a.y, (int64_t)i * N, load<N>(a.x, from * N));
    }
}

/* The first position whose source is i or later */
DEVICE int64_t first_from(int64_t i, int64_t from, int64_t to) { return (i * to + from - 1) / from; }

template <int N> KERNEL upsample_grad_kernel(upsample_args a)
{
    uint32_t width = (uint32_t)(a.channels / N);
    EACH(i, a.batch * a.x_height * a.x_width * width) {
        uint32_t pixel = i / width, line = pixel / (uint32_t)a.x_width;
        int64_t b = line / (uint32_t)a.x_height, y = line % (uint32_t)a.x_height;
        int64_t x = pixel % (uint32_t)a.x_width;
        int64_t y_end = first_from(y + 1, a.x_height, a.y_height);
        int64_t x_end = first_from(x + 1, a.x_width, a.y_width);
        values<N> sum = {};
        for (int64_t p = first_from(y, a.x_height, a.y_height); p < y_end; p++)
            for (int64_t q = first_from(x, a.x_width, a.y_width); q < x_end; q++) {
                int64_t from = ((b * a.y_height + p) * a.y_width + q) * width + i % width;
                values<N> dy = load<N>(a.y, from * N);
                UNROLL
                for (int k = 0; k < N; k++) sum.v[k] += dy.v[k];
            }
        store<N>(a.x, (int64_t)i * N, sum);
    }
}

void upsample_launch(const upsample_args *a, gpu_stream stream)
{
    int64_t n = a->batch * a->y_height * a->y_width * a->channels;
    if (a->channels % 4 == 0 && is_wide(a->x) && is_wide(a->y))
        LAUNCH(upsample_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(upsample_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}

void upsample_grad_launch(const upsample_args *a, gpu_stream stream)
{
    int64_t n = a->batch * a->x_height * a->x_width * a->channels;
    if (a->channels % 4 == 0 && is_wide(a->x) && is_wide(a->y))
        LAUNCH(upsample_grad_kernel<4>, blocks_for(n / 4), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(upsample_grad_kernel<1>, blocks_for(n), 1, 1, BLOCK, stream, *a);
}

/* ---- sums over rows ---- */

/* One sum a channel */
struct row_sum {
    enum { SUMS = 1 };
    gpu_view x;
    template <int N> struct state {
        MEMBER void begin(const row_sum &, int64_t, int64_t) {}
    };
    template <int N, int M>
    MEMBER void add(const state<N> &, const columns &c, int64_t row, int64_t channel,
                    values<N> *sum) const
    {
        values<N> v[M];
        load_several<N, M>(x, row * c.channels + channel, c.row_lanes * c.channels, v);
        UNROLL
        for (int m = 0; m < M; m++) {
            UNROLL
            for (int k = 0; k < N; k++) sum[0].v[k] += v[m].v[k];
        }
    }
};

KERNEL sum_total_kernel(sum_rows_args a, int64_t parts, const float *sums)
{
    SHARED(double, part, BLOCK);
    int64_t b = BLOCK_Z, c = (int64_t)BLOCK_X * WARP + THREAD;
    double total = column_total(sums + b * parts * a.channels, parts, 1, 0, a.channels, part);
    if (THREAD < WARP && c < a.channels) store_one(a.y, b * a.channels + c, (float)total);
}

size_t sum_rows_scratch(const sum_rows_args *a)
{
    columns c = columns_of(a->batch, a->rows, a->channels, false);
    return columns_scratch(&c, row_sum::SUMS);
}

void sum_rows_launch(const sum_rows_args *a, void *scratch, gpu_stream stream)
{
    columns c = columns_of(a->batch, a->rows, a->channels, is_wide(a->x));
    row_sum job = {a->x};
    columns_launch(c, job, (float *)scratch, stream);
    LAUNCH(sum_total_kernel, divided(a->channels, WARP), 1, a->batch, BLOCK, stream, *a, c.parts,
           (const float *)scratch);
}
