/* SPDX-License-Identifier: Apache-2.0
 *
 * norm: group norm (with SiLU), layer norm, and their gradients. The rows of a sample are cut into
 * parts by its shape alone, so that one large map keeps every thread busy; the parts' sums are
 * merged in their order. Both norms may write over their input. */
#include "device/cpu/norm.h"

#include <math.h>

#include "device/cpu/operand.h"

/* Sample b of a map of `size` elements a sample. */
static view sample(const array *a, int64_t b, int64_t size) { return view_of(a, b * size); }

/* The first output: a gradient may be left out. */
static bool output_fits(const op_call *call)
{
    return is_activation(&call->out[0]) || !array_present(&call->out[0]);
}

/* -- group norm -------------------------------------------------------------------------------- */

enum { VALUES = 7 }; /* arrays of channel_values */

/* x [batch][space][channels]; sums: two numbers a channel of each part of each sample. */
typedef struct group_job {
    const struct norm_kernels *k;
    const op_call *call;
    const array *x;
    int64_t batch, space, channels, groups;
    int parts, pieces; /* pieces: of the pass over groups */
    double *sums;      /* [batch][parts][2][channels] */
    float *values;     /* [batch][VALUES][channels] */
    float *work;       /* [threads][3][channels] */
} group_job;

static group_job group_job_of(const device *d, const op_call *call, void *scratch)
{
    const array *x = &call->in[call->kind == OP_GROUP_NORM_GRAD ? 1 : 0];
    group_job j = {.k = cpu_kernels_of(d)->norm,
                   .call = call,
                   .x = x,
                   .batch = x->dim[0],
                   .channels = x->dim[x->rank - 1],
                   .groups = call->params.groups,
                   .sums = scratch};
    j.space = array_rows(x) / j.batch;
    j.parts = sum_parts(j.space, j.channels);
    j.pieces = cpu_pieces(d, j.batch * j.parts * j.channels * 2);
    if (!scratch) return j;
    j.values = (float *)(j.sums + j.batch * j.parts * 2 * j.channels);
    j.work = j.values + j.batch * VALUES * j.channels;
    return j;
}

static bool group_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    bool grad = call->kind == OP_GROUP_NORM_GRAD;
    const array *x = &call->in[grad ? 1 : 0];
    int groups = call->params.groups;
    (void)state;
    if (!is_activation(x) || x->rank < 2 || (grad && !is_activation(&call->in[0])) ||
        !output_fits(call) || !is_f32_operand(x + 1) || !is_f32_operand(x + 2) || groups <= 0 ||
        x->dim[x->rank - 1] % groups != 0) {
        return error_set(e, ERROR_USAGE,
                         "group norm: needs [B,..,C] in F32 or BF16 with C a "
                         "multiple of its %d groups",
                         groups);
    }
    group_job j = group_job_of(d, call, NULL);
    *scratch = (size_t)j.channels * ((size_t)(j.batch * j.parts) * 2 * sizeof(double) +
                                     (size_t)(j.batch * VALUES + 3 * d->threads) * sizeof(float));
    return true;
}

static channel_values values_of(const group_job *j, int64_t b)
{
    float *f = j->values + b * VALUES * j->channels;
    int64_t n = j->channels;
    return (channel_values){f, f + n, f + 2 * n, f + 3 * n, f + 4 * n, f + 5 * n, f + 6 * n};
}

static double *sums_of(const group_job *j, int64_t b, int part)
{
    return j->sums + (b * j->parts + part) * 2 * j->channels;
}

/* A part of a sample: piece = b * parts + part. */
typedef struct group_part {
    int64_t b, begin, end;
    double *sums;
} group_part;

static group_part part_of(const group_job *j, int piece)
{
    group_part p = {.b = piece / j->parts};
    piece_range(j->space, 1, piece % j->parts, j->parts, &p.begin, &p.end);
    p.sums = sums_of(j, p.b, piece % j->parts);
    return p;
}

static void fill_weights(const group_job *j, const array *gamma, const array *beta)
{
    const float *g = operand_f32(gamma), *bias = operand_f32(beta);
    for (int64_t b = 0; b < j->batch; b++) {
        channel_values v = values_of(j, b);
        for (int64_t c = 0; c < j->channels; c++) {
            v.gamma[c] = g[c];
            v.beta[c] = bias[c];
        }
    }
}

static void group_moments(void *context, int piece, int worker)
{
    const group_job *j = context;
    group_part p = part_of(j, piece);
    j->k->moments(sample(j->x, p.b, j->space * j->channels), p.begin, p.end, j->channels, p.sums,
                  p.sums + j->channels, j->work + 3 * j->channels * worker);
}

/* Merges the parts' moments of one group into its mean and 1/std. */
static void group_merge(const group_job *j, int64_t b, int64_t group)
{
    int64_t width = j->channels / j->groups, from = group * width, end = from + width;
    double count = (double)(j->space * width), mean = 0, m2 = 0;
    for (int part = 0; part < j->parts; part++) {
        const double *sums = sums_of(j, b, part);
        int64_t begin, stop;
        piece_range(j->space, 1, part, j->parts, &begin, &stop);
        double sum = 0;
        for (int64_t c = from; c < end; c++) sum += sums[c];
        mean += sum * (double)(stop - begin);
    }
    mean /= count;
    for (int part = 0; part < j->parts; part++) {
        const double *sums = sums_of(j, b, part);
        int64_t begin, stop;
        piece_range(j->space, 1, part, j->parts, &begin, &stop);
        double between = 0;
        for (int64_t c = from; c < end; c++) {
            m2 += sums[j->channels + c];
            between += (sums[c] - mean) * (sums[c] - mean);
        }
        m2 += between * (double)(stop - begin);
    }
    double inverse = 1 / sqrt(m2 / count + (double)j->call->params.eps);
    if (output_wanted(j->call, 1)) {
        float *stats = (float *)array_data(&j->call->out[1]) + (b * j->groups + group) * 2;
        stats[0] = (float)mean;
        stats[1] = (float)inverse;
    }
    channel_values v = values_of(j, b);
    for (int64_t c = from; c < end; c++) {
        v.mean[c] = (float)mean;
        v.inverse[c] = (float)inverse;
        v.scale[c] = (float)(inverse * (double)v.gamma[c]);
    }
}

static void group_stats(void *context, int piece, int worker)
{
    (void)worker;
    const group_job *j = context;
    int64_t i, end;
    piece_range(j->batch * j->groups, 1, piece, j->pieces, &i, &end);
    for (; i < end; i++) group_merge(j, i / j->groups, i % j->groups);
}

static void group_apply(void *context, int piece, int worker)
{
    (void)worker;
    const group_job *j = context;
    group_part p = part_of(j, piece);
    int64_t size = j->space * j->channels;
    channel_values v = values_of(j, p.b);
    j->k->apply(sample(j->x, p.b, size), sample(&j->call->out[0], p.b, size), p.begin, p.end,
                j->channels, &v, j->call->params.silu);
}

static void group_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    group_job j = group_job_of(d, call, scratch);
    int64_t size = array_count(j.x), sums = j.batch * j.parts * j.channels * 2;
    fill_weights(&j, &call->in[1], &call->in[2]);
    cpu_deal(d, size, (int)j.batch * j.parts, group_moments, &j);
    cpu_deal(d, sums, j.pieces, group_stats, &j);
    cpu_deal(d, size, (int)j.batch * j.parts, group_apply, &j);
}

/* Each channel's mean and 1/std, as the forward pass had them. */
static void fill_stats(const group_job *j, const float *stats)
{
    int64_t width = j->channels / j->groups;
    for (int64_t b = 0; b < j->batch; b++) {
        channel_values v = values_of(j, b);
        for (int64_t c = 0; c < j->channels; c++) {
            v.mean[c] = stats[(b * j->groups + c / width) * 2];
            v.inverse[c] = stats[(b * j->groups + c / width) * 2 + 1];
        }
    }
}

static void group_grad_sums(void *context, int piece, int worker)
{
    const group_job *j = context;
    group_part p = part_of(j, piece);
    int64_t size = j->space * j->channels;
    channel_values v = values_of(j, p.b);
    j->k->grad_sums(sample(&j->call->in[0], p.b, size), sample(j->x, p.b, size), p.begin, p.end,
                    j->channels, &v, j->call->params.silu, p.sums, p.sums + j->channels,
                    j->work + 3 * j->channels * worker);
}

/* Merges the parts' sums of one group (into those of the samples' first parts), gives each sample's
 * means of g and g * x, and sets the group's dgamma and dbeta. */
static void group_grad_merge(const group_job *j, int64_t group)
{
    const op_call *call = j->call;
    int64_t width = j->channels / j->groups, from = group * width, end = from + width;
    double count = (double)(j->space * width);
    float *dgamma = output_wanted(call, 1) ? array_data(&call->out[1]) : NULL;
    float *dbeta = output_wanted(call, 2) ? array_data(&call->out[2]) : NULL;
    for (int64_t b = 0; b < j->batch; b++) {
        double *sum = sums_of(j, b, 0), *sum_x = sum + j->channels, s1 = 0, s2 = 0;
        channel_values v = values_of(j, b);
        for (int part = 1; part < j->parts; part++) {
            const double *more = sums_of(j, b, part), *more_x = more + j->channels;
            for (int64_t c = from; c < end; c++) {
                sum[c] += more[c];
                sum_x[c] += more_x[c];
            }
        }
        for (int64_t c = from; c < end; c++) {
            s1 += sum[c] * (double)v.gamma[c];
            s2 += sum_x[c] * (double)v.gamma[c];
            if (dgamma) dgamma[c] = (b ? dgamma[c] : 0) + (float)sum_x[c];
            if (dbeta) dbeta[c] = (b ? dbeta[c] : 0) + (float)sum[c];
        }
        for (int64_t c = from; c < end; c++) {
            v.m1[c] = (float)(s1 / count);
            v.m2[c] = (float)(s2 / count);
        }
    }
}

static void group_grad_means(void *context, int piece, int worker)
{
    (void)worker;
    const group_job *j = context;
    int64_t group, end;
    piece_range(j->groups, 1, piece, j->pieces, &group, &end);
    for (; group < end; group++) group_grad_merge(j, group);
}

static void group_grad_apply(void *context, int piece, int worker)
{
    (void)worker;
    const group_job *j = context;
    group_part p = part_of(j, piece);
    int64_t size = j->space * j->channels;
    channel_values v = values_of(j, p.b);
    j->k->grad_apply(sample(&j->call->in[0], p.b, size), sample(j->x, p.b, size),
                     sample(&j->call->out[0], p.b, size), p.begin, p.end, j->channels, &v,
                     j->call->params.silu);
}

static void group_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    group_job j = group_job_of(d, call, scratch);
    int64_t size = array_count(j.x), sums = j.batch * j.parts * j.channels * 2;
    fill_weights(&j, &call->in[2], &call->in[3]);
    fill_stats(&j, array_data(&call->in[4]));
    cpu_deal(d, size, (int)j.batch * j.parts, group_grad_sums, &j);
    cpu_deal(d, sums, j.pieces, group_grad_means, &j);
    if (output_wanted(call, 0)) cpu_deal(d, size, (int)j.batch * j.parts, group_grad_apply, &j);
}

/* -- layer norm -------------------------------------------------------------------------------- */

static bool layer_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    bool grad = call->kind == OP_LAYER_NORM_GRAD;
    const array *x = &call->in[grad ? 1 : 0];
    (void)state;
    if (!is_activation(x) || (grad && !is_activation(&call->in[0])) || !output_fits(call) ||
        !is_f32_operand(x + 1) || (!grad && !is_f32_operand(x + 2)))
        return error_set(e, ERROR_USAGE, "layer norm: needs [..,C] in F32 or BF16");
    size_t channels = (size_t)x->dim[x->rank - 1];
    if (grad)
        *scratch = channels *
                   ((size_t)sum_parts(array_rows(x), x->dim[x->rank - 1]) * 2 * sizeof(double) +
                    (size_t)d->threads * 2 * sizeof(float));
    return true;
}

static void layer_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const op_call *call = r->call;
    const array *x = &call->in[0];
    float *stats = output_wanted(call, 1) ? array_data(&call->out[1]) : NULL;
    int64_t begin, end;
    piece_range(array_rows(x), 1, piece, r->pieces, &begin, &end);
    cpu_kernels_of(r->d)->norm->layer(view_of(x, 0), view_of(&call->out[0], 0), begin, end,
                                      x->dim[x->rank - 1], operand_f32(&call->in[1]),
                                      operand_f32(&call->in[2]), call->params.eps, stats);
}

static void layer_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->in[0]), layer_piece);
}

typedef struct layer_grad_job {
    const struct norm_kernels *k;
    const op_call *call;
    int64_t rows, channels;
    int parts, pieces; /* pieces: of the pass over channels */
    double *sums;      /* [parts][2][channels] */
    float *work;       /* [threads][2][channels] */
} layer_grad_job;

static void layer_grad_part(void *context, int part, int worker)
{
    const layer_grad_job *j = context;
    const op_call *call = j->call;
    double *sums = j->sums + 2 * j->channels * part;
    view dx = output_wanted(call, 0) ? view_of(&call->out[0], 0) : (view){0};
    int64_t begin, end;
    piece_range(j->rows, 1, part, j->parts, &begin, &end);
    for (int64_t c = 0; c < 2 * j->channels; c++) sums[c] = 0;
    j->k->layer_grad(view_of(&call->in[0], 0), view_of(&call->in[1], 0), dx, begin, end,
                     j->channels, operand_f32(&call->in[2]), array_data(&call->in[3]), sums,
                     sums + j->channels, j->work + 2 * j->channels * worker);
}

static void layer_grad_totals(void *context, int piece, int worker)
{
    (void)worker;
    const layer_grad_job *j = context;
    float *dgamma = output_wanted(j->call, 1) ? array_data(&j->call->out[1]) : NULL;
    float *dbeta = output_wanted(j->call, 2) ? array_data(&j->call->out[2]) : NULL;
    int64_t c, end;
    piece_range(j->channels, 16, piece, j->pieces, &c, &end);
    for (; c < end; c++) {
        double g = 0, b = 0;
        for (int part = 0; part < j->parts; part++) {
            g += j->sums[2 * j->channels * part + c];
            b += j->sums[2 * j->channels * part + j->channels + c];
        }
        if (dgamma) dgamma[c] = (float)g;
        if (dbeta) dbeta[c] = (float)b;
    }
}

static void layer_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const array *x = &call->in[1];
    layer_grad_job j = {.k = cpu_kernels_of(d)->norm,
                        .call = call,
                        .rows = array_rows(x),
                        .channels = x->dim[x->rank - 1],
                        .sums = scratch};
    j.parts = sum_parts(j.rows, j.channels);
    j.pieces = cpu_pieces(d, 2 * j.parts * j.channels);
    j.work = (float *)(j.sums + 2 * j.channels * j.parts);
    cpu_deal(d, j.rows * j.channels, j.parts, layer_grad_part, &j);
    cpu_deal(d, 2 * j.parts * j.channels, j.pieces, layer_grad_totals, &j);
}

const struct cpu_op cpu_group_norm = {
    .prepare = group_prepare, .bind = operands_bind, .run = group_run};
const struct cpu_op cpu_group_norm_grad = {
    .prepare = group_prepare, .bind = operands_bind, .run = group_grad_run};
const struct cpu_op cpu_layer_norm = {
    .prepare = layer_prepare, .bind = operands_bind, .run = layer_run};
const struct cpu_op cpu_layer_norm_grad = {
    .prepare = layer_prepare, .bind = operands_bind, .run = layer_grad_run};
