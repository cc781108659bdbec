/* SPDX-License-Identifier: Apache-2.0
 *
 * ops_pointwise: activations, sums, scaling, conversion between types, and the reductions that are
 * their gradients. */
#include "graph/ops.h"

static bool same_shape(graph *g, const node *n, shape *out)
{
    (void)g;
    out[0] = shape_of(n->in[0]);
    return true;
}

/* dy and x of one shape -> dx */
static bool unary_grad_shapes(graph *g, const node *n, shape *out)
{
    if (!shape_equal(n->in[0], n->in[1])) return node_fail(g, n, "dy does not fit x");
    out[0] = shape_of(n->in[1]);
    return true;
}

static void unary_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *in[] = {dy, backward_value(b, n->in[0])};
    backward_give(b, n->in[0], backward_record(b, OP_UNARY_GRAD, n->params, in, NULL));
}

const op_record op_unary = {
    .name = "unary",
    .in_count = 1,
    .out_count = 1,
    .in_place = 1 << 0,
    .shapes = same_shape,
    .gradient = unary_gradient,
};
const op_record op_unary_grad = {
    .name = "unary_grad",
    .in_count = 2,
    .out_count = 1,
    .shapes = unary_grad_shapes,
};

tensor *unary(graph *g, tensor *x, unary_kind kind)
{
    op_params p = {.unary = kind, .type = x->type};
    tensor *in[] = {x};
    return record(g, OP_UNARY, &p, in, NULL);
}

/* ---- GEGLU ---- */

static bool geglu_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0];
    if (x->rank < 1 || last_dim(x) % 2) return node_fail(g, n, "the channels of x are not even");
    out[0] = shape_of(x);
    out[0].dim[x->rank - 1] /= 2;
    return true;
}

static bool geglu_grad_shapes(graph *g, const node *n, shape *out)
{
    const tensor *dy = n->in[0], *x = n->in[1];
    if (!same_rows(dy, x) || 2 * last_dim(dy) != last_dim(x))
        return node_fail(g, n, "dy does not fit x");
    out[0] = shape_of(x);
    return true;
}

static void geglu_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *in[] = {dy, backward_value(b, n->in[0])};
    backward_give(b, n->in[0], backward_record(b, OP_GEGLU_GRAD, n->params, in, NULL));
}

const op_record op_geglu = {
    .name = "geglu",
    .in_count = 1,
    .out_count = 1,
    .shapes = geglu_shapes,
    .gradient = geglu_gradient,
};
const op_record op_geglu_grad = {
    .name = "geglu_grad",
    .in_count = 2,
    .out_count = 1,
    .shapes = geglu_grad_shapes,
};

tensor *geglu(graph *g, tensor *x)
{
    op_params p = {.type = x->type};
    tensor *in[] = {x};
    return record(g, OP_GEGLU, &p, in, NULL);
}

/* ---- add ---- */

/* b is a, or the trailing dimensions of a (ones before them do not matter), repeated */
static bool add_shapes(graph *g, const node *n, shape *out)
{
    const tensor *a = n->in[0], *b = n->in[1];
    int skip = 0;
    while (skip < b->rank && b->dim[skip] == 1) skip++;
    bool fits = b->rank - skip <= a->rank;
    for (int i = skip; fits && i < b->rank; i++) fits = b->dim[i] == a->dim[a->rank - b->rank + i];
    if (!fits)
        return node_fail(g, n, "the second is neither of the first's shape nor its last part");
    out[0] = shape_of(a);
    return true;
}

static void add_gradient(struct backward *b, const node *n, tensor *dy)
{
    backward_give(b, n->in[0], dy);
    tensor *second = n->in[1];
    if (!backward_wants(b, second)) return;
    if (tensor_elements(second) == tensor_elements(dy)) {
        backward_give(b, second, reshape(backward_graph(b), dy, second->rank, second->dim));
        return;
    }
    tensor *in[] = {dy};
    backward_give(b, second, backward_record(b, OP_SUM_LEADING, (op_params){0}, in, second));
}

static bool sum_leading_shapes(graph *g, const node *n, shape *out)
{
    int64_t m = 1;
    for (int i = 0; i < out->rank; i++) m *= out->dim[i];
    return tensor_elements(n->in[0]) % m == 0 || node_fail(g, n, "the sizes do not divide");
}

const op_record op_add = {
    .name = "add",
    .in_count = 2,
    .out_count = 1,
    .maybe_weight = 1 << 1,
    .in_place = 1 << 0 | 1 << 1,
    .shapes = add_shapes,
    .gradient = add_gradient,
};
const op_record op_sum_leading = {
    .name = "sum_leading",
    .in_count = 1,
    .out_count = 1,
    .shapes = sum_leading_shapes,
};

tensor *add(graph *g, tensor *a, tensor *b)
{
    /* one type for both; a weight is of any type */
    bool b_is_weight = tensor_root(b)->is_weight;
    dtype type = b_is_weight || a->type == b->type ? a->type : DTYPE_F32;
    op_params p = {.type = type};
    tensor *in[] = {cast(g, a, type), b_is_weight ? b : cast(g, b, type)};
    return record(g, OP_ADD, &p, in, NULL);
}

/* ---- add_channel ---- */

static bool add_channel_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0], *v = n->in[1];
    if (x->rank < 2 || v->rank != 2 || v->dim[0] != x->dim[0] || v->dim[1] != last_dim(x))
        return node_fail(g, n, "v [B,C] does not fit x [B,..,C]");
    out[0] = shape_of(x);
    return true;
}

static bool sum_space_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0];
    if (x->rank < 2) return node_fail(g, n, "x is not [B,..,C]");
    out[0] = (shape){2, {x->dim[0], last_dim(x)}};
    return true;
}

static void add_channel_gradient(struct backward *b, const node *n, tensor *dy)
{
    backward_give(b, n->in[0], dy);
    if (!backward_wants(b, n->in[1])) return;
    tensor *in[] = {dy};
    backward_give(b, n->in[1], backward_record(b, OP_SUM_SPACE, (op_params){0}, in, NULL));
}

const op_record op_add_channel = {
    .name = "add_channel",
    .in_count = 2,
    .out_count = 1,
    .in_place = 1 << 0,
    .shapes = add_channel_shapes,
    .gradient = add_channel_gradient,
};
const op_record op_sum_space = {
    .name = "sum_space",
    .in_count = 1,
    .out_count = 1,
    .shapes = sum_space_shapes,
};

tensor *add_channel(graph *g, tensor *x, tensor *v)
{
    op_params p = {.type = x->type};
    tensor *in[] = {x, cast(g, v, x->type)};
    return record(g, OP_ADD_CHANNEL, &p, in, NULL);
}

/* ---- scale, cast ---- */

static void scale_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *in[] = {dy};
    backward_give(b, n->in[0], backward_record(b, OP_SCALE, n->params, in, NULL));
}

/* gradients are F32 whatever the value's type: there is nothing to convert */
static void cast_gradient(struct backward *b, const node *n, tensor *dy)
{
    backward_give(b, n->in[0], dy);
}

const op_record op_scale = {
    .name = "scale",
    .in_count = 1,
    .out_count = 1,
    .in_place = 1 << 0,
    .shapes = same_shape,
    .gradient = scale_gradient,
};
const op_record op_cast = {
    .name = "cast",
    .in_count = 1,
    .out_count = 1,
    .shapes = same_shape,
    .gradient = cast_gradient,
};

tensor *scale(graph *g, tensor *x, float alpha)
{
    op_params p = {.alpha = alpha, .type = x->type};
    tensor *in[] = {x};
    return record(g, OP_SCALE, &p, in, NULL);
}

tensor *cast(graph *g, tensor *x, dtype type)
{
    if (x->type == type || graph_failed(g)) return x;
    tensor **known = &x->plan->cast[type != DTYPE_F32];
    /* across segments a second conversion is cheaper than keeping the first one's result */
    if (*known && (*known)->from->segment == g->segment) return *known;
    op_params p = {.type = type};
    tensor *in[] = {x};
    tensor *y = record(g, OP_CAST, &p, in, NULL);
    if (y->from) *known = y;
    return y;
}

tensor *cast_compute(graph *g, tensor *x) { return cast(g, x, g->compute); }
