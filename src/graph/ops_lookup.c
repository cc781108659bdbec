/* SPDX-License-Identifier: Apache-2.0
 *
 * ops_lookup: embedding tables, the sinusoidal embedding of time, the mean squared error. */
#include "graph/ops.h"

/* ---- embedding ---- */

static bool embedding_shapes(graph *g, const node *n, shape *out)
{
    const tensor *ids = n->in[0], *table = n->in[1];
    if (ids->rank < 1 || ids->rank >= ARRAY_MAX_RANK || table->rank != 2)
        return node_fail(g, n, "ids [B,N] and the table [V,C] do not fit");
    out[0] = shape_of(ids);
    out[0].dim[out[0].rank++] = table->dim[1];
    return true;
}

static bool embedding_grad_shapes(graph *g, const node *n, shape *out)
{
    const tensor *dy = n->in[0], *ids = n->in[1];
    bool fits = out->rank == 2 && tensor_rows(dy) == tensor_elements(ids) &&
                last_dim(dy) == out->dim[1];
    return fits || node_fail(g, n, "dy does not fit ids and table");
}

static void embedding_gradient(struct backward *b, const node *n, tensor *dy)
{
    if (!backward_wants(b, n->in[1])) return;
    tensor *in[] = {dy, backward_value(b, n->in[0])};
    backward_give(b, n->in[1], backward_record(b, OP_EMBEDDING_GRAD, n->params, in, n->in[1]));
}

const op_record op_embedding = {
    .name = "embedding",
    .in_count = 2,
    .out_count = 1,
    .weight = 1 << 1,
    .ids = 1 << 0,
    .shapes = embedding_shapes,
    .gradient = embedding_gradient,
};
const op_record op_embedding_grad = {
    .name = "embedding_grad",
    .in_count = 2,
    .out_count = 1,
    .ids = 1 << 1,
    .shapes = embedding_grad_shapes,
};

tensor *embedding(graph *g, tensor *ids, tensor *table)
{
    op_params p = {.type = DTYPE_F32};
    tensor *in[] = {ids, table}, *out = record(g, OP_EMBEDDING, &p, in, NULL);
    if (graph_failed(g)) return out;
    int64_t *rows = &ids->plan->rows;
    if (!*rows || table->dim[0] < *rows) *rows = table->dim[0];
    return out;
}

/* ---- time ---- */

static bool time_embedding_shapes(graph *g, const node *n, shape *out)
{
    const tensor *t = n->in[0];
    if (t->rank != 1) return node_fail(g, n, "t is not [B]");
    out->dim[0] = t->dim[0];
    return true;
}

const op_record op_time_embedding = {
    .name = "time_embedding",
    .in_count = 1,
    .out_count = 1,
    .shapes = time_embedding_shapes,
};

tensor *time_embedding(graph *g, tensor *t, int64_t dim, bool flip_sin_to_cos, float freq_shift)
{
    op_params p = {.flip_sin_to_cos = flip_sin_to_cos, .freq_shift = freq_shift, .type = DTYPE_F32};
    tensor *in[] = {cast(g, t, DTYPE_F32)};
    shape want = {2, {1, dim}};
    return record(g, OP_TIME_EMBEDDING, &p, in, &want);
}

/* ---- mean squared error ---- */

static bool mse_shapes(graph *g, const node *n, shape *out)
{
    const tensor *pred = n->in[0], *importance = n->in[2];
    if (pred->rank < 1 || !shape_equal(pred, n->in[1]))
        return node_fail(g, n, "prediction and target differ in shape");
    if (importance && !is_vector(importance, pred->dim[0]))
        return node_fail(g, n, "the weights of the samples are not [B]");
    out[0] = (shape){1, {1}};
    out[1] = (shape){1, {pred->dim[0]}};
    return true;
}

static bool mse_grad_shapes(graph *g, const node *n, shape *out)
{
    if (!is_vector(n->in[0], 1)) return node_fail(g, n, "the loss's gradient is not [1]");
    out[0] = shape_of(n->in[1]);
    return true;
}

static void mse_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *pred = n->in[0], *target = n->in[1], *importance = n->in[2];
    if (backward_wants(b, importance)) {
        node_fail(backward_graph(b), n, "the weights of the samples have no gradient");
        return;
    }
    tensor *in[] = {
        dy,
        backward_value(b, pred),
        backward_value(b, target),
        importance ? backward_value(b, importance) : NULL,
    };
    tensor *d = backward_record(b, OP_MSE_GRAD, n->params, in, NULL);
    backward_give(b, pred, d);
    if (backward_wants(b, target)) backward_give(b, target, scale(backward_graph(b), d, -1));
}

const op_record op_mse = {
    .name = "mse",
    .in_count = 3,
    .out_count = 2,
    .optional = 1 << 2,
    .shapes = mse_shapes,
    .gradient = mse_gradient,
};
const op_record op_mse_grad = {
    .name = "mse_grad",
    .in_count = 4,
    .out_count = 1,
    .optional = 1 << 3,
    .shapes = mse_grad_shapes,
};

tensor *mse(graph *g, tensor *pred, tensor *target, tensor *importance, tensor **per_sample)
{
    op_params p = {.type = DTYPE_F32};
    tensor *in[] = {
        cast(g, pred, DTYPE_F32),
        cast(g, target, DTYPE_F32),
        importance ? cast(g, importance, DTYPE_F32) : NULL,
    };
    tensor *loss = record(g, OP_MSE, &p, in, NULL);
    if (per_sample) *per_sample = loss->from ? loss->from->out[1] : loss;
    return loss;
}
