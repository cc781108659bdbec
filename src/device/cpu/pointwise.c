/* SPDX-License-Identifier: Apache-2.0
 *
 * pointwise: activations, GEGLU, sums, scaling, conversion and their gradients: runs of elements
 * dealt out to the threads. Unary operations, OP_ADD, OP_ADD_CHANNEL and OP_SCALE may write over
 * their first input. */
#include "device/cpu/pointwise.h"

#include "device/cpu/operand.h"

enum { STEP = 64 }; /* elements: threads do not share a cache line */

static void unary_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const op_call *call = r->call;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    view x = view_of(&call->in[0], 0), y = view_of(&call->out[0], 0);
    unary_kind kind = call->params.unary;
    int64_t i, end;
    piece_range(array_count(&call->out[0]), STEP, piece, r->pieces, &i, &end);
    if (call->kind == OP_UNARY)
        k->unary(kind, x, y, i, end - i);
    else if (call->kind == OP_UNARY_GRAD)
        k->unary_grad(kind, x, view_of(&call->in[1], 0), y, i, end - i);
    else if (call->kind == OP_SCALE)
        k->scale(x, y, call->params.alpha, i, end - i);
    else
        k->copy(x, i, y, i, end - i);
}

static void unary_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->out[0]), unary_piece);
}

/* The operand of GEGLU or of its gradient that is [..,C]. */
static const array *geglu_half(const op_call *call)
{
    return call->kind == OP_GEGLU_GRAD ? &call->in[0] : &call->out[0];
}

static void geglu_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const op_call *call = r->call;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    int64_t channels = array_channels(geglu_half(call)), begin, end;
    view first = view_of(&call->in[0], 0), y = view_of(&call->out[0], 0);
    piece_range(array_rows(geglu_half(call)), 1, piece, r->pieces, &begin, &end);
    if (call->kind == OP_GEGLU_GRAD)
        k->geglu_grad(first, view_of(&call->in[1], 0), y, begin, end, channels);
    else
        k->geglu(first, y, begin, end, channels);
}

static void geglu_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(geglu_half(call)), geglu_piece);
}

/* a and b in runs: b's elements repeat after `period` */
static void add_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const op_call *call = r->call;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    int64_t period = array_count(&call->in[1]), i, end;
    view a = view_of(&call->in[0], 0), y = view_of(&call->out[0], 0);
    view b = view_of_operand(&call->in[1]);
    piece_range(array_count(&call->in[0]), STEP, piece, r->pieces, &i, &end);
    while (i < end) {
        int64_t at = i % period, run = period - at < end - i ? period - at : end - i;
        k->add(a, i, b, at, y, run);
        i += run;
    }
}

static void add_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->in[0]), add_piece);
}

static void add_channel_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const array *x = &r->call->in[0];
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    int64_t channels = array_channels(x), rows = array_rows(x), space = rows / x->dim[0], row, end;
    view a = view_of(x, 0), v = view_of_operand(&r->call->in[1]), y = view_of(&r->call->out[0], 0);
    piece_range(rows, 1, piece, r->pieces, &row, &end);
    for (; row < end; row++) k->add(a, row * channels, v, row / space * channels, y, channels);
}

static void add_channel_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->in[0]), add_channel_piece);
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
