/* SPDX-License-Identifier: Apache-2.0
 *
 * shape: operations that move channels and pixels (concatenate, slice, nearest upsample), and the
 * sums that are the gradients of repeating. */
#include <omp.h>
#include <string.h>

#include "device/cpu/operand.h"
#include "device/cpu/pointwise.h"

/* Channels [from, from + count) of row r of x to those from `to` on of row r of y. */
typedef struct channel_move {
    view x, y;
    int64_t x_channels, y_channels, from, to, count;
} channel_move;

static void move_row(const struct pointwise_kernels *k, const channel_move *m, int64_t r)
{
    k->copy(m->x, r * m->x_channels + m->from, m->y, r * m->y_channels + m->to, m->count);
}

static void concat_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *a = &call->in[0], *b = &call->in[1], *y = &call->out[0];
    int64_t rows = array_rows(y), na = array_channels(a), nb = array_channels(b);
    channel_move first = {view_of(a, 0), view_of(y, 0), na, na + nb, 0, 0, na};
    channel_move second = {view_of(b, 0), view_of(y, 0), nb, na + nb, 0, na, nb};
#pragma omp parallel num_threads(threads_for(d, rows * (na + nb)))
    {
        int64_t r, end;
        thread_range(rows, 1, omp_get_thread_num(), omp_get_num_threads(), &r, &end);
        for (; r < end; r++) {
            move_row(k, &first, r);
            move_row(k, &second, r);
        }
    }
}

static void slice_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *x = &call->in[0], *y = &call->out[0];
    bool slice = call->kind == OP_SLICE;
    int64_t rows = array_rows(x), start = call->params.start;
    channel_move m = {.x = view_of(x, 0), .y = view_of(y, 0), .x_channels = array_channels(x),
                      .y_channels = array_channels(y), .from = slice ? start : 0,
                      .to = slice ? 0 : start};
    m.count = slice ? m.y_channels : m.x_channels;
#pragma omp parallel num_threads(threads_for(d, rows * m.y_channels))
    {
        int64_t r, end;
        size_t size = dtype_size(y->type);
        thread_range(rows, 1, omp_get_thread_num(), omp_get_num_threads(), &r, &end);
        for (; r < end; r++) {
            char *row = view_of(y, r * m.y_channels).data;
            if (!slice) {
                memset(row, 0, (size_t)start * size);
                memset(row + (size_t)(start + m.count) * size, 0,
                       (size_t)(m.y_channels - start - m.count) * size);
            }
            move_row(k, &m, r);
        }
    }
}

/* -- nearest upsample -------------------------------------------------------------------------- */

static void upsample_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *x = &call->in[0], *y = &call->out[0];
    int64_t height = x->dim[1], width = x->dim[2], channels = x->dim[3];
    int64_t rows = y->dim[0] * y->dim[1]; /* of pixels */
    view from = view_of(x, 0), to = view_of(y, 0);
#pragma omp parallel for schedule(static) num_threads(threads_for(d, array_count(y)))
    for (int64_t r = 0; r < rows; r++) {
        int64_t b = r / y->dim[1], source = b * height + r % y->dim[1] * height / y->dim[1];
        for (int64_t j = 0; j < y->dim[2]; j++)
            k->copy(from, (source * width + j * width / y->dim[2]) * channels, to,
                    (r * y->dim[2] + j) * channels, channels);
    }
}

/* The first output position whose source is i or later: ceil(i * to / from). */
static int64_t first_from(int64_t i, int64_t from, int64_t to)
{
    return (i * to + from - 1) / from;
}

static bool upsample_grad_prepare(device *d, const op_call *call, void **state, size_t *scratch,
                                  error *e)
{
    *scratch = (size_t)d->threads * round_line((size_t)call->out[0].dim[3] * sizeof(float));
    size_t none;
    return operands_prepare(d, call, state, &none, e);
}

static void upsample_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *dy = &call->in[0], *dx = &call->out[0];
    int64_t height = dx->dim[1], width = dx->dim[2], channels = dx->dim[3];
    int64_t pixels = dx->dim[0] * height * width;
    size_t own = round_line((size_t)channels * sizeof(float));
    view from = view_of(dy, 0), to = view_of(dx, 0);
#pragma omp parallel for schedule(static) num_threads(threads_for(d, array_count(dy)))
    for (int64_t p = 0; p < pixels; p++) {
        float *sum = (float *)((char *)scratch + (size_t)omp_get_thread_num() * own);
        int64_t b = p / (height * width), y = p / width % height, x = p % width;
        memset(sum, 0, (size_t)channels * sizeof *sum);
        for (int64_t i = first_from(y, height, dy->dim[1]);
             i < first_from(y + 1, height, dy->dim[1]); i++)
            for (int64_t j = first_from(x, width, dy->dim[2]);
                 j < first_from(x + 1, width, dy->dim[2]); j++)
                k->add_to(from, ((b * dy->dim[1] + i) * dy->dim[2] + j) * channels, sum, channels);
        k->copy((view){sum, DTYPE_F32}, 0, to, p * channels, channels);
    }
}

/* -- sums -------------------------------------------------------------------------------------- */

enum { SUM_WIDTH = 1024, SUM_ROWS = 32 };

/* x [batch][rows][width] -> [batch][width]; many rows are cut into parts, one a thread. */
typedef struct sum_shape {
    int64_t batch, rows, width;
    int parts;
} sum_shape;

static sum_shape sum_shape_of(const device *d, const op_call *call)
{
    const array *x = &call->in[0];
    sum_shape s = {.batch = call->kind == OP_SUM_SPACE ? x->dim[0] : 1, .parts = 1};
    int64_t n = array_count(x);
    s.width = array_count(&call->out[0]) / s.batch;
    s.rows = n / (s.batch * s.width);
    if (s.rows >= SUM_ROWS * d->threads) s.parts = threads_for(d, n);
    return s;
}

static bool sum_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    if (!operands_prepare(d, call, state, scratch, e)) return false;
    sum_shape s = sum_shape_of(d, call);
    *scratch = (size_t)(s.batch * s.width * s.parts) * sizeof(double);
    return true;
}

/* sum[0..n) = sums over rows [row, end) of x's columns from `at` on */
static void sum_columns(const struct pointwise_kernels *k, view x, int64_t at, int64_t width,
                        int64_t row, int64_t end, int64_t n, double *sum)
{
    float part[SUM_WIDTH];
    for (int64_t j = 0; j < n; j++) sum[j] = 0;
    while (row < end) {
        int64_t stop = row + SUM_ROWS < end ? row + SUM_ROWS : end;
        memset(part, 0, (size_t)n * sizeof *part);
        for (; row < stop; row++) k->add_to(x, row * width + at, part, n);
        for (int64_t j = 0; j < n; j++) sum[j] += (double)part[j];
    }
}

static void sum_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    sum_shape s = sum_shape_of(d, call);
    double *sums = scratch; /* [batch][parts][width] */
    int64_t pieces = (s.width + SUM_WIDTH - 1) / SUM_WIDTH, tasks = s.batch * s.parts * pieces;
    const array *y = &call->out[0];
#pragma omp parallel num_threads(threads_for(d, array_count(&call->in[0])))
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tasks; i++) {
            int64_t at = i % pieces * SUM_WIDTH, part = i / pieces % s.parts;
            int64_t b = i / pieces / s.parts, begin, end;
            int64_t n = s.width - at < SUM_WIDTH ? s.width - at : SUM_WIDTH;
            thread_range(s.rows, 1, (int)part, s.parts, &begin, &end);
            sum_columns(k, view_of(&call->in[0], b * s.rows * s.width), at, s.width, begin, end, n,
                        sums + (b * s.parts + part) * s.width + at);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s.batch * s.width; i++) {
            double total = 0;
            for (int part = 0; part < s.parts; part++)
                total += sums[(i / s.width * s.parts + part) * s.width + i % s.width];
            float value = (float)total;
            k->copy((view){&value, DTYPE_F32}, 0, view_of(y, 0), i, 1);
        }
    }
}

const struct cpu_op cpu_concat = {.prepare = operands_prepare, .run = concat_run};
const struct cpu_op cpu_slice = {.prepare = operands_prepare, .run = slice_run};
const struct cpu_op cpu_unslice = {.prepare = operands_prepare, .run = slice_run};
const struct cpu_op cpu_upsample = {.prepare = operands_prepare, .run = upsample_run};
const struct cpu_op cpu_upsample_grad = {.prepare = upsample_grad_prepare,
                                         .run = upsample_grad_run};
const struct cpu_op cpu_sum_leading = {.prepare = sum_prepare, .run = sum_run};
const struct cpu_op cpu_sum_space = {.prepare = sum_prepare, .run = sum_run};
