/* SPDX-License-Identifier: Apache-2.0
 *
 * ops: the table of operations, and how a node is recorded. Each operation's record stands in the
 * ops_*.c of its kind, beside its recording call and its gradient. */
#include "graph/ops.h"

#include <assert.h>
#include <string.h>

static const op_record *const records[OP_KIND_COUNT] = {
    [OP_CONV2D] = &op_conv2d,
    [OP_CONV2D_GRAD_X] = &op_conv2d_grad_x,
    [OP_CONV2D_GRAD_W] = &op_conv2d_grad_w,
    [OP_LINEAR] = &op_linear,
    [OP_LINEAR_GRAD_X] = &op_linear_grad_x,
    [OP_LINEAR_GRAD_W] = &op_linear_grad_w,
    [OP_ATTENTION] = &op_attention,
    [OP_ATTENTION_GRAD] = &op_attention_grad,
    [OP_GROUP_NORM] = &op_group_norm,
    [OP_GROUP_NORM_GRAD] = &op_group_norm_grad,
    [OP_LAYER_NORM] = &op_layer_norm,
    [OP_LAYER_NORM_GRAD] = &op_layer_norm_grad,
    [OP_UNARY] = &op_unary,
    [OP_UNARY_GRAD] = &op_unary_grad,
    [OP_GEGLU] = &op_geglu,
    [OP_GEGLU_GRAD] = &op_geglu_grad,
    [OP_ADD] = &op_add,
    [OP_ADD_CHANNEL] = &op_add_channel,
    [OP_SCALE] = &op_scale,
    [OP_CAST] = &op_cast,
    [OP_RESHAPE] = &op_reshape,
    [OP_CONCAT] = &op_concat,
    [OP_SLICE] = &op_slice,
    [OP_UNSLICE] = &op_unslice,
    [OP_UPSAMPLE] = &op_upsample,
    [OP_UPSAMPLE_GRAD] = &op_upsample_grad,
    [OP_SUM_LEADING] = &op_sum_leading,
    [OP_SUM_SPACE] = &op_sum_space,
    [OP_EMBEDDING] = &op_embedding,
    [OP_EMBEDDING_GRAD] = &op_embedding_grad,
    [OP_TIME_EMBEDDING] = &op_time_embedding,
    [OP_MSE] = &op_mse,
    [OP_MSE_GRAD] = &op_mse_grad,
};

const op_record *op_record_of(op_kind kind)
{
    assert(kind >= 0 && kind < OP_KIND_COUNT && records[kind]);
    return records[kind];
}

bool shape_equal(const tensor *a, const tensor *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0;
}

/* Operands are present, weights where weights belong, of types that devices know. */
static bool operands_check(graph *g, const node *n, const op_record *r)
{
    for (int i = 0; i < n->in_count; i++) {
        unsigned bit = 1u << i;
        tensor *t = n->in[i];
        assert(t ? t != &g->harmless : (r->optional & bit) != 0);
        if (!t) continue;
        bool is_weight = tensor_root(t)->is_weight;
        if (is_weight && !((r->weight | r->maybe_weight) & bit))
            return node_fail(g, n, "an operand is a weight where a value is wanted");
        if (!is_weight && (r->weight & bit))
            return node_fail(g, n, "an operand is a value where a weight is wanted");
        bool fits = r->ids & bit ? t->type == DTYPE_I32 : type_is_value(t->type);
        if (!fits) return node_fail(g, n, "an operand has a wrong element type");
    }
    return true;
}

/* A node with outputs of the given shapes, put at the end of the graph. NULL after a failure. */
static node *node_push(graph *g, const node *like, const shape *out)
{
    node *n = arena_alloc(&g->arena, sizeof *n);
    if (!n) {
        error_memory(&g->failure, "a graph's node", sizeof *n);
        return NULL;
    }
    *n = *like;
    for (int i = 0; i < n->out_count; i++) {
        n->out[i] = tensor_new(g, i == 0 ? n->params.type : DTYPE_F32, &out[i]);
        if (!n->out[i]) return NULL;
        n->out[i]->from = n;
    }
    return list_push(g, &g->nodes, n) ? n : NULL;
}

tensor *record(graph *g, op_kind kind, const op_params *params, tensor *const *in,
               const shape *want)
{
    assert(!g->device && "a planned graph takes no more operations");
    if (graph_failed(g)) return &g->harmless;
    const op_record *r = op_record_of(kind);
    node n = {
        .kind = kind,
        .params = *params,
        .in_count = r->in_count,
        .out_count = r->out_count,
        .segment = g->segment,
    };
    for (int i = 0; i < r->in_count; i++) n.in[i] = in[i];
    shape out[OP_MAX_OUT] = {0};
    if (want) out[0] = *want;
    if (!operands_check(g, &n, r) || !r->shapes(g, &n, out)) return &g->harmless;
    node *made = node_push(g, &n, out);
    return made ? made->out[0] : &g->harmless;
}

node *record_copy(graph *g, const node *n, tensor *const *in)
{
    if (graph_failed(g)) return NULL;
    node copy = *n;
    shape out[OP_MAX_OUT];
    for (int i = 0; i < n->in_count; i++) copy.in[i] = in[i];
    for (int i = 0; i < n->out_count; i++) out[i] = shape_of(n->out[i]);
    copy.segment = g->segment;
    return node_push(g, &copy, out);
}

int64_t tensor_rows(const tensor *t)
{
    return t->rank ? tensor_elements(t) / t->dim[t->rank - 1] : 1;
}

bool same_rows(const tensor *a, const tensor *b)
{
    return a->rank == b->rank && a->rank > 0 &&
           memcmp(a->dim, b->dim, (size_t)(a->rank - 1) * sizeof *a->dim) == 0;
}
