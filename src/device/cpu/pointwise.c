/* SPDX-License-Identifier: Apache-2.0
 *
 * pointwise: activations, GEGLU, sums, scaling, conversion and their gradients: runs of elements
 * shared out among the threads. Unary operations, OP_ADD, OP_ADD_CHANNEL and OP_SCALE may write
 * over their first input. */
#include "device/cpu/pointwise.h"

#include <omp.h>

#include "device/cpu/operand.h"

enum { STEP = 64 }; /* elements: threads do not share a cache line */

static void unary_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const op_params *p = &call->params;
    int64_t n = array_count(&call->out[0]);
    view x = view_of(&call->in[0], 0), y = view_of(&call->out[0], 0);
#pragma omp parallel num_threads(threads_for(d, n))
    {
        int64_t i, end;
        thread_range(n, STEP, omp_get_thread_num(), omp_get_num_threads(), &i, &end);
        if (call->kind == OP_UNARY)
            k->unary(p->unary, x, y, i, end - i);
        else if (call->kind == OP_UNARY_GRAD)
            k->unary_grad(p->unary, x, view_of(&call->in[1], 0), y, i, end - i);
        else if (call->kind == OP_SCALE)
            k->scale(x, y, p->alpha, i, end - i);
        else
            k->copy(x, i, y, i, end - i);
    }
}

static void geglu_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    bool grad = call->kind == OP_GEGLU_GRAD;
    const array *half = grad ? &call->in[0] : &call->out[0]; /* [..,C] */
    int64_t rows = array_rows(half), channels = array_channels(half);
#pragma omp parallel num_threads(threads_for(d, rows * channels))
    {
        int64_t begin, end;
        thread_range(rows, 1, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        view first = view_of(&call->in[0], 0), y = view_of(&call->out[0], 0);
        if (grad)
            k->geglu_grad(first, view_of(&call->in[1], 0), y, begin, end, channels);
        else
            k->geglu(first, y, begin, end, channels);
    }
}

/* a and b in runs: b's elements repeat after `period` */
static void add_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *second = &call->in[1];
    int64_t n = array_count(&call->in[0]), period = array_count(second);
    view a = view_of(&call->in[0], 0), b = view_of_operand(second), y = view_of(&call->out[0], 0);
#pragma omp parallel num_threads(threads_for(d, n))
    {
        int64_t i, end;
        thread_range(n, STEP, omp_get_thread_num(), omp_get_num_threads(), &i, &end);
        while (i < end) {
            int64_t at = i % period, run = period - at < end - i ? period - at : end - i;
            k->add(a, i, b, at, y, run);
            i += run;
        }
    }
}

static void add_channel_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *x = &call->in[0];
    int64_t channels = array_channels(x), rows = array_rows(x), space = rows / x->dim[0];
    view a = view_of(x, 0), v = view_of_operand(&call->in[1]), y = view_of(&call->out[0], 0);
#pragma omp parallel num_threads(threads_for(d, rows * channels))
    {
        int64_t row, end;
        thread_range(rows, 1, omp_get_thread_num(), omp_get_num_threads(), &row, &end);
        for (; row < end; row++)
            k->add(a, row * channels, v, row / space * channels, y, channels);
    }
}

#define ROW(name, what)                                                                            \
    const struct cpu_op name = {.prepare = operands_prepare, .bind = operands_bind, .run = what}

ROW(cpu_unary, unary_run);
ROW(cpu_unary_grad, unary_run);
ROW(cpu_scale, unary_run);
ROW(cpu_cast, unary_run);
ROW(cpu_geglu, geglu_run);
ROW(cpu_geglu_grad, geglu_run);
ROW(cpu_add, add_run);
ROW(cpu_add_channel, add_channel_run);
