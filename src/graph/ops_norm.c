/* SPDX-License-Identifier: Apache-2.0
 *
 * ops_norm: group norm (with or without SiLU) and layer norm. They read F32 or a half type, compute
 * in float and give the compute type; their statistics are kept for the backward pass. */
#include "graph/ops.h"

static bool group_norm_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0];
    int groups = n->params.groups;
    if (x->rank < 2 || groups < 1 || last_dim(x) % groups != 0)
        return node_fail(g, n, "the channels of x [B,..,C] are not a multiple of the groups");
    if (!is_vector(n->in[1], last_dim(x)) || !is_vector(n->in[2], last_dim(x)))
        return node_fail(g, n, "weight and bias [C] do not fit x [B,..,C]");
    out[0] = shape_of(x);
    out[1] = (shape){3, {x->dim[0], groups, 2}};
    return true;
}

static bool layer_norm_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0];
    if (x->rank < 1 || !is_vector(n->in[1], last_dim(x)) || !is_vector(n->in[2], last_dim(x)))
        return node_fail(g, n, "weight and bias [C] do not fit x [..,C]");
    out[0] = shape_of(x);
    out[1] = (shape){2, {tensor_rows(x), 2}};
    return true;
}

/* dy, x, .. -> dx, dgamma, dbeta */
static bool norm_grad_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[1];
    if (!shape_equal(n->in[0], x)) return node_fail(g, n, "dy does not fit x");
    out[0] = shape_of(x);
    out[1] = out[2] = (shape){1, {last_dim(x)}};
    return true;
}

static void norm_give(struct backward *b, const node *n, tensor *dx)
{
    for (int i = 0; dx->from && i < 3; i++) backward_give(b, n->in[i], dx->from->out[i]);
}

static void group_norm_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *in[] = {dy, backward_value(b, n->in[0]), n->in[1], n->in[2],
                    backward_value(b, n->out[1])};
    norm_give(b, n, backward_record(b, OP_GROUP_NORM_GRAD, n->params, in, NULL));
}

static void layer_norm_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *in[] = {dy, backward_value(b, n->in[0]), n->in[1], backward_value(b, n->out[1])};
    norm_give(b, n, backward_record(b, OP_LAYER_NORM_GRAD, n->params, in, NULL));
}

const op_record op_group_norm = {
    .name = "group_norm",
    .in_count = 3,
    .out_count = 2,
    .weight = 1 << 1 | 1 << 2,
    .shapes = group_norm_shapes,
    .gradient = group_norm_gradient,
};
const op_record op_group_norm_grad = {
    .name = "group_norm_grad",
    .in_count = 5,
    .out_count = 3,
    .weight = 1 << 2 | 1 << 3,
    .shapes = norm_grad_shapes,
};
const op_record op_layer_norm = {
    .name = "layer_norm",
    .in_count = 3,
    .out_count = 2,
    .weight = 1 << 1 | 1 << 2,
    .shapes = layer_norm_shapes,
    .gradient = layer_norm_gradient,
};
const op_record op_layer_norm_grad = {
    .name = "layer_norm_grad",
    .in_count = 4,
    .out_count = 3,
    .weight = 1 << 2,
    .shapes = norm_grad_shapes,
};

tensor *group_norm(graph *g, tensor *x, tensor *gamma, tensor *beta, int groups, float eps,
                   bool silu)
{
    op_params p = {.groups = groups, .eps = eps, .silu = silu, .type = g->compute};
    tensor *in[] = {x, gamma, beta};
    return record(g, OP_GROUP_NORM, &p, in, NULL);
}

tensor *layer_norm(graph *g, tensor *x, tensor *gamma, tensor *beta, float eps)
{
    op_params p = {.eps = eps, .type = g->compute};
    tensor *in[] = {x, gamma, beta};
    return record(g, OP_LAYER_NORM, &p, in, NULL);
}
