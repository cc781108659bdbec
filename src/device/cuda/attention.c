/* SPDX-License-Identifier: Apache-2.0
 *
 * attention: the host's side of attention and its gradient. Heads that our kernels hold go to them;
 * one wide head (the autoencoder's) is products and a softmax between them, some queries at a time.
 */
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

/* ---- one wide head ---- */

enum { WIDE_ROWS = 512 }; /* queries at a time; a head's last piece has what is left */
/* Of the scratch, of a piece [rows, m]: scores and the gradients of probabilities in float32,
 * probabilities and the gradients of scores as operands are; then sums for dk and dv */
enum { SCORES, BACK, WEIGHTS, SCORES_BACK, DK_SUM, DV_SUM, OWN, PARTS };

typedef struct wide_attention {
    product_plan *scores[2], *mixed[2], *summed[2]; /* of whole pieces; of the last */
    int64_t rows[2];
    size_t at[PARTS], size;
} wide_attention;

static void attention_unprepare(void *state)
{
    wide_attention *w = state;
    for (int k = 0; w && k < 2; k++) {
        product_close(&w->scores[k]);
        product_close(&w->mixed[k]);
        product_close(&w->summed[k]);
    }
    free(w);
}

static size_t place(wide_attention *w, int64_t rows, int64_t columns, dtype type)
{
    size_t at = w->size;
    w->size += rounded((size_t)(rows * columns) * dtype_size(type));
    return at;
}

/* to: the type of what is mixed of rows, o or dq; of[0], of[1]: those of dk and dv, NULL in the
 * forward */
static bool wide_open(cuda *c, wide_attention *w, const attention_args *a, dtype type, dtype to,
                      const array *of, error *e)
{
    int64_t whole = a->n / WIDE_ROWS, most = whole ? WIDE_ROWS : a->n;
    size_t own = 0;
    w->rows[0] = WIDE_ROWS, w->rows[1] = a->n % WIDE_ROWS;
    w->at[SCORES] = w->at[WEIGHTS] = place(w, most, a->m, DTYPE_F32);
    if (type != DTYPE_F32) w->at[WEIGHTS] = place(w, most, a->m, type);
    if (of) w->at[BACK] = w->at[SCORES_BACK] = place(w, most, a->m, DTYPE_F32);
    if (of && type != DTYPE_F32) w->at[SCORES_BACK] = place(w, most, a->m, type);
    for (int i = 0; of && i < 2; i++)
        if (of[i].type != DTYPE_F32) w->at[DK_SUM + i] = place(w, a->m, a->depth, DTYPE_F32);
    for (int k = 0; k < 2; k++) {
        product_shape s = {.rows = w->rows[k], .in = a->depth, .out = a->m, .type = type};
        struct {
            product_plan **plan;
            product_way way;
            dtype result;
        } all[] = {{&w->scores[k], PRODUCT_FORWARD, DTYPE_F32},
                   {&w->mixed[k], PRODUCT_BY_DATA, to},
                   {&w->summed[k], PRODUCT_BY_WEIGHTS, DTYPE_F32}};
        for (int i = 0; i < (of ? 3 : 2) && (k == 0 ? whole : w->rows[1]); i++) {
            size_t wants = 0;
            s.way = all[i].way, s.result = all[i].result;
            s.add = s.way == PRODUCT_BY_WEIGHTS; /* to the sum of the pieces before */
            if (!product_open(all[i].plan, c->product, &s, &wants, e)) return false;
            if (wants > own) own = wants;
        }
    }
    w->at[OWN] = w->size;
    w->size += own;
    return true;
}

static bool wide_prepare(cuda *c, const attention_args *a, dtype type, dtype to, const array *of,
                         void **state, size_t *scratch, error *e)
{
    if (a->heads > 1 || a->causal)
        return error_set(e, ERROR_USAGE,
                         "attention with several heads of %lld channels: %d are the most",
                         (long long)a->depth, ATTENTION_DEPTH);
    wide_attention *w = calloc(1, sizeof *w);
    if (!w) return error_memory(e, "attention", sizeof *w);
    if (!wide_open(c, w, a, type, to, of, e)) {
        attention_unprepare(w);
        return false;
    }
    *state = w;
    *scratch = w->size;
    return true;
}

static void *row_of(gpu_view v, int64_t row, int64_t width)
{
    return (char *)v.data + (size_t)(row * width) * dtype_size(v.type);
}

static bool wide_run(cuda *c, const attention_args *a, const wide_attention *w, char *scratch,
                     error *e)
{
    void *scores = scratch + w->at[SCORES], *weights = scratch + w->at[WEIGHTS],
         *own = scratch + w->at[OWN];
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t i = 0; i < a->n; i += WIDE_ROWS) {
            int k = a->n - i < WIDE_ROWS;
            int64_t row = b * a->n + i;
            softmax_args s = {.x = scores,
                              .y = {weights, a->q.type},
                              .lse = a->lse ? a->lse + row : NULL,
                              .rows = w->rows[k],
                              .columns = a->m,
                              .alpha = a->alpha};
            if (!product_run(w->scores[k], row_of(a->q, row, a->depth),
                             row_of(a->k, b * a->m, a->depth), NULL, NULL, scores, own, e))
                return false;
            softmax_launch(&s, c->gpu.stream);
            if (!product_run(w->mixed[k], weights, row_of(a->v, b * a->m, a->depth), NULL, NULL,
                             row_of(a->o, row, a->depth), own, e))
                return false;
        }
    return gpu_launched(&c->gpu, e);
}

/* A piece of queries: rows `row` and on of q, which see rows `key` and on of k. sum: of dk and dv
 * so far */
static bool wide_back(cuda *c, const attention_grad_args *a, const wide_attention *w, int64_t row,
                      int64_t key, int64_t rows, void *const sum[2], char *scratch, error *e)
{
    int k = rows < WIDE_ROWS;
    void *scores = scratch + w->at[SCORES], *back = scratch + w->at[BACK],
         *weights = scratch + w->at[WEIGHTS], *scores_back = scratch + w->at[SCORES_BACK],
         *own = scratch + w->at[OWN], *keys = row_of(a->k, key, a->depth),
         *q = row_of(a->q, row, a->depth), *dout = row_of(a->dout, row, a->depth);
    softmax_grad_args s = {.x = scores,
                           .dy = back,
                           .lse = a->lse + row,
                           .y = {weights, a->q.type},
                           .dx = {scores_back, a->q.type},
                           .rows = rows,
                           .columns = a->m,
                           .alpha = a->alpha};
    if (!product_run(w->scores[k], q, keys, NULL, NULL, scores, own, e) ||
        !product_run(w->scores[k], dout, row_of(a->v, key, a->depth), NULL, NULL, back, own, e))
        return false;
    softmax_grad_launch(&s, c->gpu.stream);
    return (!a->dq.data || product_run(w->mixed[k], scores_back, keys, NULL, NULL,
                                       row_of(a->dq, row, a->depth), own, e)) &&
           (!sum[0] || product_run(w->summed[k], scores_back, q, NULL, sum[0], sum[0], own, e)) &&
           (!sum[1] || product_run(w->summed[k], weights, dout, NULL, sum[1], sum[1], own, e));
}

static bool wide_grad_run(cuda *c, const attention_grad_args *a, const wide_attention *w,
                          char *scratch, error *e)
{
    int64_t count = a->m * a->depth;
    const gpu_view of[2] = {a->dk, a->dv};
    for (int64_t b = 0; b < a->batch; b++) {
        void *sum[2] = {NULL, NULL};
        for (int i = 0; i < 2; i++) {
            if (!of[i].data) continue;
            sum[i] = of[i].type == DTYPE_F32 ? row_of(of[i], b * a->m, a->depth)
                                             : scratch + w->at[DK_SUM + i];
            if (!gpu_zero(&c->gpu, sum[i], (size_t)count * sizeof(float), e)) return false;
        }
        for (int64_t i = 0; i < a->n; i += WIDE_ROWS) {
            int64_t rows = a->n - i < WIDE_ROWS ? a->n - i : WIDE_ROWS;
            if (!wide_back(c, a, w, b * a->n + i, b * a->m, rows, sum, scratch, e)) return false;
        }
        for (int i = 0; i < 2; i++) {
            scale_args s = {.x = {sum[i], DTYPE_F32}, .y = of[i], .count = count, .alpha = 1};
            if (!of[i].data || of[i].type == DTYPE_F32) continue;
            s.y.data = row_of(of[i], b * a->m, a->depth);
            scale_launch(&s, c->gpu.stream);
        }
    }
    return gpu_launched(&c->gpu, e);
}

/* ---- the operations ---- */

static bool attention_prepare(cuda *c, const op_call *call, void **state, size_t *scratch, error *e)
{
    attention_args a = attention_of(call);
    return a.depth <= ATTENTION_DEPTH ||
           wide_prepare(c, &a, call->in[0].type, call->out[0].type, NULL, state, scratch, e);
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
    dtype type = call->in[1].type;
    if (a.depth <= ATTENTION_DEPTH) {
        *scratch = attention_grad_scratch(&a);
        return true;
    }
    attention_args wide = {.n = a.n, .m = a.m, .heads = a.heads, .depth = a.depth};
    wide.causal = a.causal;
    if (call->in[0].type != type)
        return error_set(e, ERROR_USAGE, "both operands of a product must have one type");
    return wide_prepare(c, &wide, type, call->out[0].type, &call->out[1], state, scratch, e);
}

static bool attention_grad_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    attention_grad_args a = attention_grad_of(call);
    a.dout = operand(call, 0), a.q = operand(call, 1), a.k = operand(call, 2),
    a.v = operand(call, 3);
    a.o = operand(call, 4), a.lse = operand(call, 5).data;
    a.dq = result(call, 0), a.dk = result(call, 1), a.dv = result(call, 2);
    if (state) return wide_grad_run(c, &a, state, scratch, e);
    attention_grad_launch(&a, scratch, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

const struct cuda_op cuda_attention = {attention_prepare, attention_unprepare, attention_run},
                     cuda_attention_grad = {attention_grad_prepare, attention_unprepare,
                                            attention_grad_run};
