/* SPDX-License-Identifier: Apache-2.0
 *
 * norm: group norm (with SiLU), layer norm, and their gradients. The rows of a sample are shared
 * out among the threads, so that one large map keeps all of them busy; their sums are merged in
 * thread order. Both norms may write over their input. */
#include "device/cpu/norm.h"

#include <math.h>
#include <omp.h>

#include "device/cpu/operand.h"

/* Sample b of a map of `size` elements a sample. */
static view sample(const array *a, int64_t b, int64_t size) { return view_of(a, b * size); }

/* The first output: a gradient may be left out. */
static bool output_fits(const op_call *call)
{
    return is_activation(&call->out[0]) || !array_present(&call->out[0]);
}

/* -- group norm -------------------------------------------------------------------------------- */

/* Scratch: doubles [threads][2][C], then floats [7][C] of channel values and [threads][3][C]. */
typedef struct group_scratch {
    double *sums;
    channel_values values;
    float *work;
} group_scratch;

static size_t group_scratch_size(int64_t channels, int threads)
{
    return (size_t)channels * ((size_t)threads * (2 * sizeof(double) + 3 * sizeof(float)) +
                               7 * sizeof(float));
}

static group_scratch group_scratch_at(void *scratch, int64_t channels, int threads)
{
    group_scratch s = {.sums = scratch};
    float *f = (float *)(s.sums + 2 * channels * threads);
    s.values = (channel_values){f, f + channels, f + 2 * channels, f + 3 * channels,
                                f + 4 * channels, f + 5 * channels, f + 6 * channels};
    s.work = f + 7 * channels;
    return s;
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
        return error_set(e, ERROR_USAGE, "group norm: needs [B,..,C] in F32 or BF16 with C a "
                                         "multiple of its %d groups", groups);
    }
    *scratch = group_scratch_size(x->dim[x->rank - 1], d->threads);
    return true;
}

/* Merges the threads' channel moments into each group's mean and 1/std, stats [G][2]. */
static void group_stats(const double *sums, int64_t space, int threads, int64_t channels,
                        int64_t groups, double eps, float *stats, channel_values *v)
{
    int64_t width = channels / groups;
    for (int64_t g = 0; g < groups; g++) {
        double mean = 0, m2 = 0, count = 0;
        for (int t = 0; t < threads; t++) {
            const double *part = sums + 2 * channels * t;
            int64_t begin, end;
            thread_range(space, 1, t, threads, &begin, &end);
            double n = (double)(end - begin);
            for (int64_t c = g * width; n > 0 && c < (g + 1) * width; c++) {
                double delta = part[c] - mean;
                mean += delta * n / (count + n);
                m2 += part[channels + c] + delta * delta * count * n / (count + n);
                count += n;
            }
        }
        double inverse = 1 / sqrt(m2 / count + eps);
        if (stats) {
            stats[2 * g] = (float)mean;
            stats[2 * g + 1] = (float)inverse;
        }
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            v->mean[c] = (float)mean;
            v->inverse[c] = (float)inverse;
            v->scale[c] = (float)(inverse * (double)v->gamma[c]);
        }
    }
}

static void fill_weights(channel_values *v, const array *gamma, const array *beta, int64_t channels)
{
    const float *g = operand_f32(gamma), *b = operand_f32(beta);
    for (int64_t c = 0; c < channels; c++) {
        v->gamma[c] = g[c];
        v->beta[c] = b[c];
    }
}

static void group_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const struct norm_kernels *k = cpu_kernels_of(d)->norm;
    const array *x = &call->in[0], *y = &call->out[0];
    int64_t batch = x->dim[0], channels = x->dim[x->rank - 1], groups = call->params.groups;
    int64_t space = array_rows(x) / batch, size = space * channels;
    float *stats = output_wanted(call, 1) ? call->out[1].data : NULL;
    group_scratch s = group_scratch_at(scratch, channels, d->threads);
    fill_weights(&s.values, &call->in[1], &call->in[2], channels);
#pragma omp parallel num_threads(threads_for(d, size))
    {
        int t = omp_get_thread_num(), threads = omp_get_num_threads();
        int64_t begin, end;
        double *sums = s.sums + 2 * channels * t;
        thread_range(space, 1, t, threads, &begin, &end);
        for (int64_t b = 0; b < batch; b++) {
            k->moments(sample(x, b, size), begin, end, channels, sums, sums + channels,
                       s.work + 3 * channels * t);
#pragma omp barrier
#pragma omp single
            group_stats(s.sums, space, threads, channels, groups, (double)call->params.eps,
                        stats ? stats + b * groups * 2 : NULL, &s.values);
            k->apply(sample(x, b, size), sample(y, b, size), begin, end, channels, &s.values,
                     call->params.silu);
        }
    }
}

/* Merges the threads' sums of one sample, adds to dgamma and dbeta (set where b is 0) and gives
 * each group's means of g and g * x. */
static void group_grad_means(double *sums, int threads, int64_t channels, int64_t groups,
                             int64_t space, int64_t b, float *dgamma, float *dbeta,
                             channel_values *v)
{
    int64_t width = channels / groups;
    double *sum = sums, *sum_x = sums + channels, n = (double)(space * width);
    for (int t = 1; t < threads; t++)
        for (int64_t c = 0; c < 2 * channels; c++) sums[c] += sums[2 * channels * t + c];
    for (int64_t g = 0; g < groups; g++) {
        double s1 = 0, s2 = 0;
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            s1 += sum[c] * (double)v->gamma[c];
            s2 += sum_x[c] * (double)v->gamma[c];
        }
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            v->m1[c] = (float)(s1 / n);
            v->m2[c] = (float)(s2 / n);
        }
    }
    for (int64_t c = 0; c < channels; c++) {
        if (dgamma) dgamma[c] = (b ? dgamma[c] : 0) + (float)sum_x[c];
        if (dbeta) dbeta[c] = (b ? dbeta[c] : 0) + (float)sum[c];
    }
}

static void group_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const struct norm_kernels *k = cpu_kernels_of(d)->norm;
    const array *dy = &call->in[0], *x = &call->in[1], *dx = &call->out[0];
    int64_t batch = x->dim[0], channels = x->dim[x->rank - 1], groups = call->params.groups;
    int64_t space = array_rows(x) / batch, size = space * channels, width = channels / groups;
    const float *stats = call->in[4].data;
    bool silu = call->params.silu;
    float *dgamma = output_wanted(call, 1) ? call->out[1].data : NULL;
    float *dbeta = output_wanted(call, 2) ? call->out[2].data : NULL;
    group_scratch s = group_scratch_at(scratch, channels, d->threads);
    channel_values *v = &s.values;
    fill_weights(v, &call->in[2], &call->in[3], channels);
#pragma omp parallel num_threads(threads_for(d, size))
    {
        int t = omp_get_thread_num(), threads = omp_get_num_threads();
        int64_t begin, end;
        double *sums = s.sums + 2 * channels * t;
        thread_range(space, 1, t, threads, &begin, &end);
        for (int64_t b = 0; b < batch; b++) {
            view dy_b = sample(dy, b, size), x_b = sample(x, b, size);
#pragma omp barrier
#pragma omp for
            for (int64_t c = 0; c < channels; c++) {
                v->mean[c] = stats[(b * groups + c / width) * 2];
                v->inverse[c] = stats[(b * groups + c / width) * 2 + 1];
            }
            k->grad_sums(dy_b, x_b, begin, end, channels, v, silu, sums, sums + channels,
                         s.work + 3 * channels * t);
#pragma omp barrier
#pragma omp single
            group_grad_means(s.sums, threads, channels, groups, space, b, dgamma, dbeta, v);
            if (output_wanted(call, 0))
                k->grad_apply(dy_b, x_b, sample(dx, b, size), begin, end, channels, v, silu);
        }
    }
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
    if (grad)
        *scratch = (size_t)(d->threads * x->dim[x->rank - 1]) *
                   (2 * sizeof(double) + 2 * sizeof(float));
    return true;
}

static void layer_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct norm_kernels *k = cpu_kernels_of(d)->norm;
    const array *x = &call->in[0];
    int64_t rows = array_rows(x), channels = x->dim[x->rank - 1];
    const float *gamma = operand_f32(&call->in[1]), *beta = operand_f32(&call->in[2]);
    float *stats = output_wanted(call, 1) ? call->out[1].data : NULL;
#pragma omp parallel num_threads(threads_for(d, rows * channels))
    {
        int64_t begin, end;
        thread_range(rows, 1, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        k->layer(view_of(x, 0), view_of(&call->out[0], 0), begin, end, channels, gamma, beta,
                 call->params.eps, stats);
    }
}

static void layer_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const struct norm_kernels *k = cpu_kernels_of(d)->norm;
    const array *x = &call->in[1];
    int64_t rows = array_rows(x), channels = x->dim[x->rank - 1];
    const float *gamma = operand_f32(&call->in[2]), *stats = call->in[3].data;
    float *dgamma = output_wanted(call, 1) ? call->out[1].data : NULL;
    float *dbeta = output_wanted(call, 2) ? call->out[2].data : NULL;
    view dx = output_wanted(call, 0) ? view_of(&call->out[0], 0) : (view){0};
    double *sums = scratch;
    float *work = (float *)(sums + 2 * channels * d->threads);
#pragma omp parallel num_threads(threads_for(d, rows * channels))
    {
        int t = omp_get_thread_num(), threads = omp_get_num_threads();
        int64_t begin, end;
        double *own = sums + 2 * channels * t;
        for (int64_t c = 0; c < 2 * channels; c++) own[c] = 0;
        thread_range(rows, 1, t, threads, &begin, &end);
        k->layer_grad(view_of(&call->in[0], 0), view_of(x, 0), dx, begin, end, channels, gamma,
                      stats, own, own + channels, work + 2 * channels * t);
#pragma omp barrier
#pragma omp for
        for (int64_t c = 0; c < channels; c++) {
            double g = 0, b = 0;
            for (int i = 0; i < threads; i++) {
                g += sums[2 * channels * i + c];
                b += sums[2 * channels * i + channels + c];
            }
            if (dgamma) dgamma[c] = (float)g;
            if (dbeta) dbeta[c] = (float)b;
        }
    }
}

const struct cpu_op cpu_group_norm = {.prepare = group_prepare, .bind = operands_bind,
                                      .run = group_run};
const struct cpu_op cpu_group_norm_grad = {.prepare = group_prepare, .bind = operands_bind,
                                           .run = group_grad_run};
const struct cpu_op cpu_layer_norm = {.prepare = layer_prepare, .bind = operands_bind,
                                      .run = layer_run};
const struct cpu_op cpu_layer_norm_grad = {.prepare = layer_prepare, .bind = operands_bind,
                                           .run = layer_grad_run};
