/* SPDX-License-Identifier: Apache-2.0
 *
 * ops_product: convolution, linear layers and attention. Their inputs are in the compute type; a
 * gradient that arrives (F32) is cast to it before it enters a product. A 1x1 convolution of stride
 * 1 is a linear layer on the rows of the feature map, in both directions. */
#include <math.h>

#include "graph/ops.h"

/* ---- convolution ---- */

/* [B,H,W,C] convolved by w [O,C,kh,kw] -> [B,H',W',O]; false where it does not fit. */
static bool conv_shape(const op_params *p, const int64_t *x, const int64_t *w, shape *out)
{
    int64_t height = x[1] + p->pad_top + p->pad_bottom - w[2];
    int64_t width = x[2] + p->pad_left + p->pad_right - w[3];
    if (height < 0 || width < 0 || x[3] != w[1]) return false;
    *out = (shape){4, {x[0], height / p->stride + 1, width / p->stride + 1, w[0]}};
    return true;
}

static bool conv2d_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *add_to = n->in[3];
    if (x->rank != 4 || w->rank != 4 || !conv_shape(&n->params, x->dim, w->dim, out))
        return node_fail(g, n, "x [B,H,W,C] and the weight [O,C,kh,kw] do not fit");
    if (b && !is_vector(b, w->dim[0])) return node_fail(g, n, "the bias does not fit");
    for (int i = 0; add_to && i < 4; i++)
        if (add_to->rank != 4 || add_to->dim[i] != out->dim[i])
            return node_fail(g, n, "what is to be added has another shape than the result");
    return true;
}

/* dx has the shape the caller wants: with stride 2 dy does not determine it */
static bool conv2d_grad_x_shapes(graph *g, const node *n, shape *out)
{
    const tensor *dy = n->in[0], *w = n->in[1];
    shape y;
    bool fits = dy->rank == 4 && w->rank == 4 && out->rank == 4 &&
                conv_shape(&n->params, out->dim, w->dim, &y);
    for (int i = 0; fits && i < 4; i++) fits = y.dim[i] == dy->dim[i];
    return fits || node_fail(g, n, "dy does not fit");
}

static bool conv2d_grad_w_shapes(graph *g, const node *n, shape *out)
{
    const tensor *dy = n->in[0], *x = n->in[1];
    shape y;
    bool fits = dy->rank == 4 && x->rank == 4 && out->rank == 4 &&
                conv_shape(&n->params, x->dim, out->dim, &y);
    for (int i = 0; fits && i < 4; i++) fits = y.dim[i] == dy->dim[i];
    return fits || node_fail(g, n, "dy does not fit");
}

/* What convolution and linear share. */
static void product_gradient(struct backward *b, const node *n, tensor *dy, op_kind grad_x,
                             op_kind grad_w)
{
    tensor *x = n->in[0], *w = n->in[1], *bias = n->in[2], *add_to = n->in[3];
    if (backward_wants(b, x)) {
        tensor *in[] = {backward_cast(b, dy), w};
        backward_give(b, x, backward_record(b, grad_x, n->params, in, x));
    }
    if (backward_wants(b, w)) {
        tensor *in[] = {backward_cast(b, dy), backward_value(b, x)};
        backward_give(b, w, backward_record(b, grad_w, n->params, in, w));
    }
    if (backward_wants(b, bias)) {
        tensor *in[] = {dy};
        backward_give(b, bias, backward_record(b, OP_SUM_LEADING, (op_params){0}, in, bias));
    }
    backward_give(b, add_to, dy);
}

static void conv2d_gradient(struct backward *b, const node *n, tensor *dy)
{
    product_gradient(b, n, dy, OP_CONV2D_GRAD_X, OP_CONV2D_GRAD_W);
}

const op_record op_conv2d = {
    .name = "conv2d",
    .in_count = 4,
    .out_count = 1,
    .optional = 1 << 2 | 1 << 3,
    .weight = 1 << 1 | 1 << 2,
    .in_place = 1 << 3,
    .shapes = conv2d_shapes,
    .gradient = conv2d_gradient,
};
const op_record op_conv2d_grad_x = {
    .name = "conv2d_grad_x",
    .in_count = 2,
    .out_count = 1,
    .weight = 1 << 1,
    .shapes = conv2d_grad_x_shapes,
};
const op_record op_conv2d_grad_w = {
    .name = "conv2d_grad_w",
    .in_count = 2,
    .out_count = 1,
    .shapes = conv2d_grad_w_shapes,
};

/* ---- linear ---- */

static bool linear_weight(const tensor *w)
{
    return w->rank == 2 || (w->rank == 4 && w->dim[2] == 1 && w->dim[3] == 1);
}

static bool linear_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *add_to = n->in[3];
    if (x->rank < 1 || !linear_weight(w) || last_dim(x) != w->dim[1])
        return node_fail(g, n, "x [..,C] and the weight [O,C] do not fit");
    if (b && !is_vector(b, w->dim[0])) return node_fail(g, n, "the bias does not fit");
    *out = shape_of(x);
    out->dim[x->rank - 1] = w->dim[0];
    if (add_to && (!same_rows(add_to, x) || last_dim(add_to) != w->dim[0]))
        return node_fail(g, n, "what is to be added has another shape than the result");
    return true;
}

static bool linear_grad_x_shapes(graph *g, const node *n, shape *out)
{
    const tensor *dy = n->in[0], *w = n->in[1];
    if (dy->rank < 1 || !linear_weight(w) || last_dim(dy) != w->dim[0])
        return node_fail(g, n, "dy [..,O] and the weight [O,C] do not fit");
    *out = shape_of(dy);
    out->dim[dy->rank - 1] = w->dim[1];
    return true;
}

static bool linear_grad_w_shapes(graph *g, const node *n, shape *out)
{
    const tensor *dy = n->in[0], *x = n->in[1];
    return (same_rows(dy, x) && out->rank >= 2 && out->dim[0] == last_dim(dy) &&
            out->dim[1] == last_dim(x)) ||
           node_fail(g, n, "dy and x do not fit");
}

static void linear_gradient(struct backward *b, const node *n, tensor *dy)
{
    product_gradient(b, n, dy, OP_LINEAR_GRAD_X, OP_LINEAR_GRAD_W);
}

const op_record op_linear = {
    .name = "linear",
    .in_count = 4,
    .out_count = 1,
    .optional = 1 << 2 | 1 << 3,
    .weight = 1 << 1 | 1 << 2,
    .in_place = 1 << 3,
    .shapes = linear_shapes,
    .gradient = linear_gradient,
};
const op_record op_linear_grad_x = {
    .name = "linear_grad_x",
    .in_count = 2,
    .out_count = 1,
    .weight = 1 << 1,
    .shapes = linear_grad_x_shapes,
};
const op_record op_linear_grad_w = {
    .name = "linear_grad_w",
    .in_count = 2,
    .out_count = 1,
    .shapes = linear_grad_w_shapes,
};

static tensor *linear_record(graph *g, tensor *x, tensor *w, tensor *b, tensor *add_to, dtype type)
{
    op_params p = {.type = type};
    tensor *in[] = {cast(g, x, g->compute), w, b, add_to ? cast(g, add_to, type) : NULL};
    return record(g, OP_LINEAR, &p, in, NULL);
}

tensor *linear(graph *g, tensor *x, tensor *w, tensor *b, tensor *add_to)
{
    return linear_record(g, x, w, b, add_to, DTYPE_F32);
}

tensor *linear_compute(graph *g, tensor *x, tensor *w, tensor *b)
{
    return linear_record(g, x, w, b, NULL, g->compute);
}

/* Whether every pixel of x stands there four times, in squares. */
static bool is_doubled(const tensor *x)
{
    const node *n = x->from;
    return n && n->kind == OP_UPSAMPLE && x->dim[1] == 2 * n->in[0]->dim[1] &&
           x->dim[2] == 2 * n->in[0]->dim[2];
}

tensor *conv2d(graph *g, tensor *x, tensor *w, tensor *b, int stride, conv_pad pad, tensor *add_to)
{
    bool padded = pad.top || pad.left || pad.bottom || pad.right;
    if (w->rank == 4 && x->rank == 4 && linear_weight(w) && stride == 1 && !padded)
        return linear_record(g, x, w, b, add_to, DTYPE_F32);
    op_params p = {
        .stride = stride,
        .pad_top = pad.top,
        .pad_left = pad.left,
        .pad_bottom = pad.bottom,
        .pad_right = pad.right,
        .doubled = is_doubled(x),
        .type = DTYPE_F32,
    };
    tensor *in[] = {cast(g, x, g->compute), w, b, add_to ? cast(g, add_to, DTYPE_F32) : NULL};
    return record(g, OP_CONV2D, &p, in, NULL);
}

/* ---- attention ---- */

static bool attention_fits(const node *n, const tensor *q, const tensor *k, const tensor *v)
{
    return q->rank == 3 && k->rank == 3 && shape_equal(k, v) && q->dim[0] == k->dim[0] &&
           q->dim[2] == k->dim[2] && n->params.heads > 0 && q->dim[2] % n->params.heads == 0;
}

static bool attention_shapes(graph *g, const node *n, shape *out)
{
    const tensor *q = n->in[0];
    if (!attention_fits(n, q, n->in[1], n->in[2]))
        return node_fail(g, n,
                         "q [B,N,C], k and v [B,M,C] do not fit, or C is not a multiple of heads");
    out[0] = shape_of(q);
    out[1] = (shape){3, {q->dim[0], n->params.heads, q->dim[1]}}; /* log-sum-exp of each row */
    return true;
}

static bool attention_grad_shapes(graph *g, const node *n, shape *out)
{
    if (!attention_fits(n, n->in[1], n->in[2], n->in[3]) || !shape_equal(n->in[0], n->in[1]))
        return node_fail(g, n, "the operands do not fit");
    for (int i = 0; i < 3; i++) out[i] = shape_of(n->in[1 + i]);
    return true;
}

static void attention_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *in[] = {
        backward_cast(b, dy),        backward_value(b, n->in[0]),  backward_value(b, n->in[1]),
        backward_value(b, n->in[2]), backward_value(b, n->out[0]), backward_value(b, n->out[1]),
    };
    tensor *dq = backward_record(b, OP_ATTENTION_GRAD, n->params, in, NULL);
    for (int i = 0; dq->from && i < 3; i++) backward_give(b, n->in[i], dq->from->out[i]);
}

const op_record op_attention = {
    .name = "attention",
    .in_count = 3,
    .out_count = 2,
    .shapes = attention_shapes,
    .gradient = attention_gradient,
};
const op_record op_attention_grad = {
    .name = "attention_grad",
    .in_count = 6,
    .out_count = 3,
    .shapes = attention_grad_shapes,
};

tensor *attention(graph *g, tensor *q, tensor *k, tensor *v, int heads, bool causal)
{
    int64_t size = heads > 0 && last_dim(q) >= heads ? last_dim(q) / heads : 1;
    op_params p = {
        .heads = heads,
        .causal = causal,
        .alpha = (float)(1 / sqrt((double)size)),
        .type = g->compute,
    };
    tensor *in[] = {cast(g, q, g->compute), cast(g, k, g->compute), cast(g, v, g->compute)};
    return record(g, OP_ATTENTION, &p, in, NULL);
}
