/* SPDX-License-Identifier: Apache-2.0
 *
 * attention: the host's side of attention and its gradient. Heads that our kernels hold go to them;
 * one wide head is two products and a softmax between them. */
#include <stdlib.h>

#include "device/cuda/cuda.h"

static attention_args attention_of(const op_call *call)
{
    const array *q = &call->in[0], *k = &call->in[1];
    int64_t heads = call->params.heads;
    return (attention_args){.batch = q->dim[0],
                            .n = q->dim[1],
                            .m = k->dim[1],
                            .heads = heads,
                            .depth = q->dim[2] / heads,
                            .alpha = call->params.alpha,
                            .causal = call->params.causal};
}

static attention_grad_args attention_grad_of(const op_call *call)
{
    const array *q = &call->in[1], *k = &call->in[2];
    int64_t heads = call->params.heads;
    return (attention_grad_args){.batch = q->dim[0],
                                 .n = q->dim[1],
                                 .m = k->dim[1],
                                 .heads = heads,
                                 .depth = q->dim[2] / heads,
                                 .alpha = call->params.alpha,
                                 .causal = call->params.causal};
}

static bool depth_fits(int64_t depth, error *e)
{
    return depth <= ATTENTION_DEPTH ||
           error_set(e, ERROR_USAGE,
                     "the gradient of attention with heads of %lld channels: %d are the most",
                     (long long)depth, ATTENTION_DEPTH);
}

/* One wide head (the autoencoder's): two products, WIDE_ROWS queries at a time, and the rows that
 * are left. */
enum { WIDE_ROWS = 512 };

typedef struct wide_attention {
    product_plan *scores[2], *sum[2]; /* of whole pieces; of the rest */
    int64_t rows[2], pieces;
    size_t score_bytes, weight_bytes; /* of the scratch; weight_bytes 0: the scores' place serves */
} wide_attention;

static void attention_unprepare(void *state)
{
    wide_attention *w = state;
    for (int k = 0; w && k < 2; k++) {
        product_close(&w->scores[k]);
        product_close(&w->sum[k]);
    }
    free(w);
}

static bool wide_open(cuda *c, wide_attention *w, const op_call *call, size_t *own, error *e)
{
    attention_args a = attention_of(call);
    dtype type = call->in[0].type;
    w->pieces = a.n / WIDE_ROWS;
    w->rows[0] = WIDE_ROWS, w->rows[1] = a.n % WIDE_ROWS;
    int64_t most = w->pieces ? WIDE_ROWS : w->rows[1];
    w->score_bytes = rounded((size_t)(most * a.m) * sizeof(float));
    w->weight_bytes = type == DTYPE_F32 ? 0 : rounded((size_t)(most * a.m) * dtype_size(type));
    for (int k = 0; k < 2; k++) {
        size_t wants[2];
        if (k == 0 ? !w->pieces : !w->rows[1]) continue;
        product_shape s = {.way = PRODUCT_FORWARD,
                           .rows = w->rows[k],
                           .in = a.depth,
                           .out = a.m,
                           .type = type,
                           .result = DTYPE_F32};
        product_shape o = {.way = PRODUCT_BY_DATA,
                           .rows = w->rows[k],
                           .in = a.depth,
                           .out = a.m,
                           .type = type,
                           .result = call->out[0].type};
        if (!product_open(&w->scores[k], c->product, &s, &wants[0], e) ||
            !product_open(&w->sum[k], c->product, &o, &wants[1], e))
            return false;
        for (int i = 0; i < 2; i++)
            if (wants[i] > *own) *own = wants[i];
    }
    return true;
}

static bool attention_prepare(cuda *c, const op_call *call, void **state, size_t *scratch, error *e)
{
    attention_args a = attention_of(call);
    size_t own = 0;
    if (a.depth <= ATTENTION_DEPTH) return true;
    if (a.heads > 1 || a.causal)
        return error_set(e, ERROR_USAGE,
                         "attention with several heads of %lld channels: %d are the most",
                         (long long)a.depth, ATTENTION_DEPTH);
    wide_attention *w = calloc(1, sizeof *w);
    if (!w) return error_memory(e, "attention", sizeof *w);
    if (!wide_open(c, w, call, &own, e)) {
        attention_unprepare(w);
        return false;
    }
    *state = w;
    *scratch = w->score_bytes + w->weight_bytes + own;
    return true;
}

static char *row_of(gpu_view v, int64_t row, int64_t width)
{
    return (char *)v.data + (size_t)(row * width) * dtype_size(v.type);
}

static bool wide_run(cuda *c, const attention_args *a, const wide_attention *w, char *scratch,
                     error *e)
{
    char *weights = w->weight_bytes ? scratch + w->score_bytes : scratch;
    char *own = scratch + w->score_bytes + w->weight_bytes;
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < a->n; i += WIDE_ROWS) {
            int k = a->n - i < WIDE_ROWS;
            int64_t row = b * a->n + i;
            softmax_args s = {.x = (const float *)(void *)scratch,
                              .y = {weights, a->q.type},
                              .lse = a->lse ? a->lse + row : NULL,
                              .rows = w->rows[k],
                              .columns = a->m,
                              .alpha = a->alpha};
            if (!product_run(w->scores[k], row_of(a->q, row, a->depth),
                             row_of(a->k, b * a->m, a->depth), NULL, NULL, scratch, own, e))
                return false;
            softmax_launch(&s, c->gpu.stream);
            if (!product_run(w->sum[k], weights, row_of(a->v, b * a->m, a->depth), NULL, NULL,
                             row_of(a->o, row, a->depth), own, e))
                return false;
        }
    return gpu_launched(&c->gpu, e);
}

static bool attention_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    attention_args a = attention_of(call);
    a.q = operand(call, 0), a.k = operand(call, 1), a.v = operand(call, 2);
    a.o = result(call, 0), a.lse = result(call, 1).data;
    if (state) return wide_run(c, &a, state, scratch, e);
    attention_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool attention_grad_prepare(cuda *c, const op_call *call, void **state, size_t *scratch,
                                   error *e)
{
    attention_grad_args a = attention_grad_of(call);
    (void)c, (void)state;
    *scratch = attention_grad_scratch(&a);
    return depth_fits(a.depth, e);
}

static bool attention_grad_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    attention_grad_args a = attention_grad_of(call);
    (void)state;
    a.dout = operand(call, 0), a.q = operand(call, 1), a.k = operand(call, 2),
    a.v = operand(call, 3);
    a.o = operand(call, 4), a.lse = operand(call, 5).data;
    a.dq = result(call, 0), a.dk = result(call, 1), a.dv = result(call, 2);
    attention_grad_launch(&a, scratch, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

const struct cuda_op cuda_attention = {attention_prepare, attention_unprepare, attention_run},
                     cuda_attention_grad = {.prepare = attention_grad_prepare,
                                            .run = attention_grad_run};
