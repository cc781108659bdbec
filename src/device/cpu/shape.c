/* SPDX-License-Identifier: Apache-2.0
 *
 * shape: operations that move channels and pixels (concatenate, slice, nearest upsample), and the
 * sums that are the gradients of repeating. */
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

static void concat_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    const array *a = &r->call->in[0], *b = &r->call->in[1], *y = &r->call->out[0];
    int64_t na = array_channels(a), nb = array_channels(b), row, end;
    channel_move first = {view_of(a, 0), view_of(y, 0), na, na + nb, 0, 0, na};
    channel_move second = {view_of(b, 0), view_of(y, 0), nb, na + nb, 0, na, nb};
    piece_range(array_rows(y), 1, piece, r->pieces, &row, &end);
    for (; row < end; row++) {
        move_row(k, &first, row);
        move_row(k, &second, row);
    }
}

static void concat_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->out[0]), concat_piece);
}

static void slice_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    const array *x = &r->call->in[0], *y = &r->call->out[0];
    bool slice = r->call->kind == OP_SLICE;
    int64_t start = r->call->params.start, row, end;
    channel_move m = {.x = view_of(x, 0),
                      .y = view_of(y, 0),
                      .x_channels = array_channels(x),
                      .y_channels = array_channels(y),
                      .from = slice ? start : 0,
                      .to = slice ? 0 : start};
    m.count = slice ? m.y_channels : m.x_channels;
    size_t size = dtype_size(y->type);
    piece_range(array_rows(x), 1, piece, r->pieces, &row, &end);
    for (; row < end; row++) {
        char *out = view_of(y, row * m.y_channels).data;
        if (!slice) {
            memset(out, 0, (size_t)start * size);
            memset(out + (size_t)(start + m.count) * size, 0,
                   (size_t)(m.y_channels - start - m.count) * size);
        }
        move_row(k, &m, row);
    }
}

static void slice_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->out[0]), slice_piece);
}

/* -- nearest upsample -------------------------------------------------------------------------- */

static void upsample_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    const array *x = &r->call->in[0], *y = &r->call->out[0];
    int64_t height = x->dim[1], width = x->dim[2], channels = x->dim[3], row, end;
    view from = view_of(x, 0), to = view_of(y, 0);
    piece_range(y->dim[0] * y->dim[1], 1, piece, r->pieces, &row, &end); /* rows of pixels */
    for (; row < end; row++) {
        int64_t b = row / y->dim[1], source = b * height + row % y->dim[1] * height / y->dim[1];
        for (int64_t j = 0; j < y->dim[2]; j++)
            k->copy(from, (source * width + j * width / y->dim[2]) * channels, to,
                    (row * y->dim[2] + j) * channels, channels);
    }
}

static void upsample_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->out[0]), upsample_piece);
}

/* The first output position whose source is i or later: ceil(i * to / from). */
static int64_t first_from(int64_t i, int64_t from, int64_t to)
{
    return (i * to + from - 1) / from;
}

static size_t upsample_grad_own(const array *dx)
{
    return round_line((size_t)dx->dim[3] * sizeof(float));
}

static bool upsample_grad_prepare(device *d, const op_call *call, void **state, size_t *scratch,
                                  error *e)
{
    *scratch = (size_t)d->threads * upsample_grad_own(&call->out[0]);
    size_t none;
    return operands_prepare(d, call, state, &none, e);
}

static void upsample_grad_piece(void *context, int piece, int worker)
{
    const op_run *r = context;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    const array *dy = &r->call->in[0], *dx = &r->call->out[0];
    int64_t height = dx->dim[1], width = dx->dim[2], channels = dx->dim[3], pixel, end;
    view from = view_of(dy, 0), to = view_of(dx, 0);
    float *sum = (float *)((char *)r->scratch + (size_t)worker * upsample_grad_own(dx));
    piece_range(dx->dim[0] * height * width, 1, piece, r->pieces, &pixel, &end);
    for (; pixel < end; pixel++) {
        int64_t b = pixel / (height * width), y = pixel / width % height, x = pixel % width;
        memset(sum, 0, (size_t)channels * sizeof *sum);
        for (int64_t i = first_from(y, height, dy->dim[1]);
             i < first_from(y + 1, height, dy->dim[1]); i++)
            for (int64_t j = first_from(x, width, dy->dim[2]);
                 j < first_from(x + 1, width, dy->dim[2]); j++)
                k->add_to(from, ((b * dy->dim[1] + i) * dy->dim[2] + j) * channels, sum, channels);
        k->copy((view){sum, DTYPE_F32}, 0, to, pixel * channels, channels);
    }
}

static void upsample_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->in[0]), upsample_grad_piece);
}

/* -- sums -------------------------------------------------------------------------------------- */

enum { SUM_WIDTH = 1024, SUM_ROWS = 32 };

/* x [batch][rows][width] -> [batch][width]; many rows are summed in parts first. */
typedef struct sum_job {
    const struct pointwise_kernels *k;
    const op_call *call;
    int64_t batch, rows, width, columns; /* columns: how many SUM_WIDTHs there are in the width */
    int parts;
    int pieces;   /* of the second pass */
    double *sums; /* [batch][parts][width] */
} sum_job;

static sum_job sum_job_of(const device *d, const op_call *call, void *scratch)
{
    const array *x = &call->in[0];
    sum_job s = {.k = cpu_kernels_of(d)->pointwise,
                 .call = call,
                 .sums = scratch,
                 .batch = call->kind == OP_SUM_SPACE ? x->dim[0] : 1};
    s.width = array_count(&call->out[0]) / s.batch;
    s.rows = array_count(x) / (s.batch * s.width);
    s.columns = (s.width + SUM_WIDTH - 1) / SUM_WIDTH;
    s.parts = sum_parts(s.rows, s.width);
    s.pieces = cpu_pieces(d, s.batch * s.width * s.parts);
    return s;
}

static bool sum_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    if (!operands_prepare(d, call, state, scratch, e)) return false;
    sum_job s = sum_job_of(d, call, NULL);
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

static void sum_part(void *context, int piece, int worker)
{
    (void)worker;
    const sum_job *s = context;
    int64_t at = piece % s->columns * SUM_WIDTH, b = piece / s->columns / s->parts, begin, end;
    int64_t n = s->width - at < SUM_WIDTH ? s->width - at : SUM_WIDTH;
    int part = (int)(piece / s->columns % s->parts);
    piece_range(s->rows, 1, part, s->parts, &begin, &end);
    sum_columns(s->k, view_of(&s->call->in[0], b * s->rows * s->width), at, s->width, begin, end, n,
                s->sums + (b * s->parts + part) * s->width + at);
}

static void sum_total(void *context, int piece, int worker)
{
    (void)worker;
    const sum_job *s = context;
    int64_t i, end;
    view y = view_of(&s->call->out[0], 0);
    piece_range(s->batch * s->width, 16, piece, s->pieces, &i, &end);
    for (; i < end; i++) {
        double total = 0;
        for (int part = 0; part < s->parts; part++)
            total += s->sums[(i / s->width * s->parts + part) * s->width + i % s->width];
        float value = (float)total;
        s->k->copy((view){&value, DTYPE_F32}, 0, y, i, 1);
    }
}

static void sum_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    sum_job s = sum_job_of(d, call, scratch);
    int64_t sums = s.batch * s.width * s.parts;
    cpu_deal(d, array_count(&call->in[0]), (int)(s.batch * s.parts * s.columns), sum_part, &s);
    cpu_deal(d, sums, s.pieces, sum_total, &s);
}

const struct cpu_op cpu_concat = {.prepare = operands_prepare, .run = concat_run};
const struct cpu_op cpu_slice = {.prepare = operands_prepare, .run = slice_run};
const struct cpu_op cpu_unslice = {.prepare = operands_prepare, .run = slice_run};
const struct cpu_op cpu_upsample = {.prepare = operands_prepare, .run = upsample_run};
const struct cpu_op cpu_upsample_grad = {.prepare = upsample_grad_prepare,
                                         .run = upsample_grad_run};
const struct cpu_op cpu_sum_leading = {.prepare = sum_prepare, .run = sum_run};
const struct cpu_op cpu_sum_space = {.prepare = sum_prepare, .run = sum_run};
