/* SPDX-License-Identifier: Apache-2.0
 *
 * problem: operands, bounds, and which kernel an operation is. */
#include "problem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"

double random_value(void)
{
    static uint64_t state = 42;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / (double)(1ull << 52) - 1;
}

double view_get(gpu_view v, size_t at)
{
    if (v.type == DTYPE_F32) return (double)((float *)v.data)[at];
    uint16_t bits = ((uint16_t *)v.data)[at];
    return (double)(v.type == DTYPE_BF16 ? bf16_to_float(bits) : half_to_float(bits));
}

void view_set(gpu_view v, size_t at, double x)
{
    if (v.type == DTYPE_F32)
        ((float *)v.data)[at] = (float)x;
    else
        ((uint16_t *)v.data)[at] = v.type == DTYPE_BF16 ? bf16_from_float((float)x)
                                                        : half_from_float((float)x);
}

problem problem_of(op_kind kind, int shift)
{
    problem p = {.shift = shift};
    p.call.kind = kind;
    return p;
}

static array array_of(dtype type, int rank, const int64_t *dim)
{
    array a = {.type = type, .rank = rank};
    memcpy(a.dim, dim, (size_t)rank * sizeof *dim);
    return a;
}

/* Memory that ends where the data end */
static gpu_view view_open(problem *p, dtype type, size_t count, void **block)
{
    size_t size = dtype_size(type), before = (size_t)p->shift * size, bytes = before + count * size;
    assert_int_equal(posix_memalign(block, 64, bytes), 0);
    memset(*block, 0xff, bytes); /* NaN */
    return (gpu_view){(char *)*block + before, type};
}

void problem_in(problem *p, dtype type, double mean, double spread, int rank, const int64_t *dim)
{
    int i = p->call.in_count++;
    p->call.in[i] = array_of(type, rank, dim);
    size_t n = array_count(&p->call.in[i]);
    p->in[i] = malloc(n * sizeof(double));
    p->x[i] = view_open(p, type == DTYPE_I32 ? DTYPE_F32 : type, n, &p->block[i]);
    for (size_t at = 0; at < n; at++) {
        double x = mean + spread * random_value();
        if (type == DTYPE_I32) {
            ((int32_t *)p->x[i].data)[at] = (int32_t)x;
            p->in[i][at] = (double)(int32_t)x;
        } else {
            view_set(p->x[i], at, x);
            p->in[i][at] = view_get(p->x[i], at);
        }
    }
}

void problem_set(problem *p, int i, const double *from)
{
    for (size_t at = 0; at < array_count(&p->call.in[i]); at++) {
        view_set(p->x[i], at, from[at]);
        p->in[i][at] = view_get(p->x[i], at);
    }
}

void problem_out(problem *p, dtype type, int rank, const int64_t *dim)
{
    int i = p->call.out_count++;
    p->call.out[i] = array_of(type, rank, dim);
    size_t n = array_count(&p->call.out[i]);
    p->out[i] = malloc(n * sizeof(double));
    p->y[i] = view_open(p, type, n, &p->block[OP_MAX_IN + i]);
}

double problem_got(const problem *p, int i, size_t at) { return view_get(p->y[i], at); }

void problem_close(problem *p)
{
    for (int i = 0; i < OP_MAX_IN; i++) free(p->in[i]);
    for (int i = 0; i < OP_MAX_OUT; i++) free(p->out[i]);
    for (int i = 0; i < OP_MAX_IN + OP_MAX_OUT; i++) free(p->block[i]);
}

void check_near(double got, double want, double largest, dtype type, double bound)
{
    double rounding = type == DTYPE_BF16 ? 0x1p-8 : type == DTYPE_F16 ? 0x1p-11 : 0x1p-24;
    double most = bound * largest + rounding * fabs(want) + (type == DTYPE_F16 ? 0x1p-24 : 0);
    if (!(fabs(got - want) <= most))
        fail_msg("%.9g where the reference has %.9g (within %.3g)", got, want, most);
}

void problem_check(const problem *p, int i, double bound)
{
    double largest = 0;
    size_t n = array_count(&p->call.out[i]);
    for (size_t at = 0; at < n; at++) largest = fmax(largest, fabs(p->out[i][at]));
    for (size_t at = 0; at < n; at++)
        check_near(problem_got(p, i, at), p->out[i][at], largest, p->y[i].type, bound);
}

static double weighted(problem *p, const double *dy)
{
    double *out[OP_MAX_OUT] = {p->out[0]}, sum = 0;
    reference_run(&p->call, p->in, out);
    for (size_t at = 0; at < array_count(&p->call.out[0]); at++) sum += dy[at] * p->out[0][at];
    return sum;
}

double problem_slope(problem *p, const double *dy, int i, size_t at)
{
    double x = p->in[i][at], h = 1e-5;
    p->in[i][at] = x + h;
    double above = weighted(p, dy);
    p->in[i][at] = x - h;
    double below = weighted(p, dy);
    p->in[i][at] = x;
    return (above - below) / (2 * h);
}

/* ---- which kernel ---- */

static int64_t last(const array *a) { return a->dim[a->rank - 1]; }
static int64_t rows(const array *a) { return (int64_t)array_count(a) / last(a); }
static float *floats(gpu_view v) { return v.data; }

static void *scratch_open(size_t size)
{
    void *scratch = NULL;
    assert_int_equal(posix_memalign(&scratch, 64, size ? size : 1), 0);
    return memset(scratch, 0xff, size);
}

static void run_norm(problem *p)
{
    const array *x = &p->call.in[0];
    const op_params *q = &p->call.params;
    if (p->call.kind == OP_LAYER_NORM) {
        layer_norm_args a = {p->x[0],         p->y[0], p->x[1], p->x[2],
                             floats(p->y[1]), rows(x), last(x), q->eps};
        layer_norm_launch(&a, NULL);
        return;
    }
    group_norm_args a = {
        p->x[0], p->y[0],   p->x[1], p->x[2], floats(p->y[1]), x->dim[0], rows(x) / x->dim[0],
        last(x), q->groups, q->eps,  q->silu};
    void *scratch = scratch_open(group_norm_scratch(&a));
    group_norm_launch(&a, scratch, NULL);
    free(scratch);
}

static void run_pointwise(problem *p)
{
    const array *x = &p->call.in[0], *y = &p->call.out[0];
    const op_params *q = &p->call.params;
    int64_t n = (int64_t)array_count(y);
    switch (p->call.kind) {
    case OP_UNARY:
        unary_launch(&(unary_args){p->x[0], p->y[0], {0}, n, (int)q->unary}, NULL);
        break;
    case OP_GEGLU:
        geglu_launch(&(geglu_args){p->x[0], p->y[0], {0}, rows(y), last(y)}, NULL);
        break;
    case OP_ADD:
        add_launch(&(add_args){p->x[0], p->x[1], p->y[0], n, (int64_t)array_count(&p->call.in[1])},
                   NULL);
        break;
    case OP_ADD_CHANNEL:
        add_channel_launch(
            &(add_channel_args){p->x[0], p->x[1], p->y[0], x->dim[0], rows(x) / x->dim[0], last(x)},
            NULL);
        break;
    case OP_SCALE: scale_launch(&(scale_args){p->x[0], p->y[0], n, q->alpha}, NULL); break;
    default: scale_launch(&(scale_args){p->x[0], p->y[0], n, 1}, NULL); break;
    }
}

static void run_shape(problem *p)
{
    const array *x = &p->call.in[0], *y = &p->call.out[0];
    int64_t start = p->call.params.start;
    bool space = p->call.kind == OP_SUM_SPACE;
    switch (p->call.kind) {
    case OP_CONCAT:
        concat_launch(
            &(concat_args){p->x[0], p->x[1], p->y[0], rows(x), last(x), last(&p->call.in[1])},
            NULL);
        break;
    case OP_SLICE:
    case OP_UNSLICE:
        slice_launch(&(slice_args){p->x[0], p->y[0], rows(x), last(x), last(y),
                                   p->call.kind == OP_SLICE ? start : -start},
                     NULL);
        break;
    case OP_UPSAMPLE:
        upsample_launch(&(upsample_args){p->x[0], p->y[0], x->dim[0], x->dim[1], x->dim[2],
                                         y->dim[1], y->dim[2], x->dim[3]},
                        NULL);
        break;
    default: {
        int64_t batch = space ? x->dim[0] : 1, width = (int64_t)array_count(y) / batch;
        sum_rows_args a = {p->x[0], p->y[0], batch, (int64_t)array_count(x) / (batch * width),
                           width};
        void *scratch = scratch_open(sum_rows_scratch(&a));
        sum_rows_launch(&a, scratch, NULL);
        free(scratch);
    }
    }
}

static void run_lookup(problem *p)
{
    const array *x = &p->call.in[0], *y = &p->call.out[0];
    const op_params *q = &p->call.params;
    if (p->call.kind == OP_EMBEDDING) {
        embedding_launch(&(embedding_args){p->x[0].data, p->x[1], p->y[0], (int64_t)array_count(x),
                                           p->call.in[1].dim[0], last(y)},
                         NULL);
    } else if (p->call.kind == OP_TIME_EMBEDDING) {
        time_embedding_launch(&(time_embedding_args){p->x[0].data, p->y[0], y->dim[0], last(y),
                                                     q->flip_sin_to_cos, q->freq_shift},
                              NULL);
    } else {
        mse_args a = {
            p->x[0],         p->x[1],   p->call.in_count > 2 ? p->x[2].data : NULL, floats(p->y[0]),
            floats(p->y[1]), x->dim[0], (int64_t)array_count(x) / x->dim[0]};
        void *scratch = scratch_open(mse_scratch(&a));
        mse_launch(&a, scratch, NULL);
        free(scratch);
    }
}

static void run_attention(problem *p)
{
    const array *q = &p->call.in[0], *k = &p->call.in[1];
    const op_params *o = &p->call.params;
    attention_args a = {p->x[0],   p->x[1],   p->x[2],   p->y[0],  floats(p->y[1]),
                        q->dim[0], q->dim[1], k->dim[1], o->heads, q->dim[2] / o->heads,
                        o->alpha,  o->causal};
    attention_launch(&a, NULL);
}

void problem_run(problem *p)
{
    switch (p->call.kind) {
    case OP_GROUP_NORM:
    case OP_LAYER_NORM: run_norm(p); break;
    case OP_UNARY:
    case OP_GEGLU:
    case OP_ADD:
    case OP_ADD_CHANNEL:
    case OP_SCALE:
    case OP_CAST: run_pointwise(p); break;
    case OP_CONCAT:
    case OP_SLICE:
    case OP_UNSLICE:
    case OP_UPSAMPLE:
    case OP_SUM_LEADING:
    case OP_SUM_SPACE: run_shape(p); break;
    case OP_ATTENTION: run_attention(p); break;
    default: run_lookup(p); break;
    }
}
