/* SPDX-License-Identifier: Apache-2.0
 *
 * ops_shape: views, concatenation and parts of the channels, nearest upsampling. */
#include "graph/ops.h"

#include <assert.h>

/* ---- reshape ---- */

static bool reshape_shapes(graph *g, const node *n, shape *out)
{
    int64_t left = tensor_elements(n->in[0]);
    bool fits = true;
    for (int i = 0; fits && i < out->rank; i++) {
        fits = out->dim[i] > 0 && left % out->dim[i] == 0;
        if (fits) left /= out->dim[i];
    }
    return (fits && left == 1) || node_fail(g, n, "the new shape has another size");
}

static void reshape_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *x = n->in[0];
    backward_give(b, x, reshape(backward_graph(b), dy, x->rank, x->dim));
}

const op_record op_reshape = {
    .name = "reshape",
    .in_count = 1,
    .out_count = 1,
    .maybe_weight = 1 << 0,
    .shapes = reshape_shapes,
    .gradient = reshape_gradient,
};

tensor *reshape(graph *g, tensor *x, int rank, const int64_t *dim)
{
    assert(rank >= 0 && rank <= ARRAY_MAX_RANK);
    shape want = {.rank = rank};
    bool same = rank == x->rank;
    for (int i = 0; i < rank; i++) {
        want.dim[i] = dim[i];
        same = same && dim[i] == x->dim[i];
    }
    if (same) return x;
    op_params p = {.type = x->type};
    tensor *in[] = {x};
    return record(g, OP_RESHAPE, &p, in, &want);
}

/* ---- concat, slice ---- */

static bool concat_shapes(graph *g, const node *n, shape *out)
{
    const tensor *a = n->in[0], *b = n->in[1];
    if (!same_rows(a, b)) return node_fail(g, n, "the two differ in more than their channels");
    out[0] = shape_of(a);
    out[0].dim[a->rank - 1] += last_dim(b);
    return true;
}

/* x [..,C] -> channels start .. start + want's last dimension */
static bool slice_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0];
    int64_t count = out->rank ? out->dim[out->rank - 1] : 0;
    if (x->rank < 1 || n->params.start < 0 || count < 1 || n->params.start > last_dim(x) - count)
        return node_fail(g, n, "the part does not lie within the channels");
    return true;
}

static bool unslice_shapes(graph *g, const node *n, shape *out)
{
    const tensor *dy = n->in[0];
    bool fits = dy->rank > 0 && out->rank == dy->rank && n->params.start >= 0 &&
                n->params.start <= out->dim[out->rank - 1] - last_dim(dy);
    return fits || node_fail(g, n, "the part does not lie within the channels");
}

static void concat_gradient(struct backward *b, const node *n, tensor *dy)
{
    graph *g = backward_graph(b);
    int64_t first = last_dim(n->in[0]);
    if (backward_wants(b, n->in[0])) backward_give(b, n->in[0], slice(g, dy, 0, first));
    if (backward_wants(b, n->in[1]))
        backward_give(b, n->in[1], slice(g, dy, first, last_dim(n->in[1])));
}

static void slice_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *in[] = {dy};
    backward_give(b, n->in[0], backward_record(b, OP_UNSLICE, n->params, in, n->in[0]));
}

const op_record op_concat = {
    .name = "concat",
    .in_count = 2,
    .out_count = 1,
    .shapes = concat_shapes,
    .gradient = concat_gradient,
};
const op_record op_slice = {
    .name = "slice",
    .in_count = 1,
    .out_count = 1,
    .shapes = slice_shapes,
    .gradient = slice_gradient,
};
const op_record op_unslice = {
    .name = "unslice",
    .in_count = 1,
    .out_count = 1,
    .shapes = unslice_shapes,
};

tensor *concat(graph *g, tensor *a, tensor *b)
{
    dtype type = a->type == b->type ? a->type : DTYPE_F32;
    op_params p = {.type = type};
    tensor *in[] = {cast(g, a, type), cast(g, b, type)};
    return record(g, OP_CONCAT, &p, in, NULL);
}

tensor *slice(graph *g, tensor *x, int64_t start, int64_t count)
{
    op_params p = {.start = start, .type = x->type};
    tensor *in[] = {x};
    shape want = shape_of(x);
    if (want.rank) want.dim[want.rank - 1] = count;
    return record(g, OP_SLICE, &p, in, &want);
}

/* ---- upsample ---- */

static bool upsample_shapes(graph *g, const node *n, shape *out)
{
    const tensor *x = n->in[0];
    bool fits = x->rank == 4 && out->dim[1] > 0 && out->dim[2] > 0;
    return fits || node_fail(g, n, "x is not [B,H,W,C], or the new size is empty");
}

static bool upsample_grad_shapes(graph *g, const node *n, shape *out)
{
    const tensor *dy = n->in[0];
    bool fits = dy->rank == 4 && out->rank == 4 && dy->dim[0] == out->dim[0] &&
                dy->dim[3] == out->dim[3];
    return fits || node_fail(g, n, "dy is not [B,H,W,C] of x's batch and channels");
}

static void upsample_gradient(struct backward *b, const node *n, tensor *dy)
{
    tensor *in[] = {dy};
    backward_give(b, n->in[0], backward_record(b, OP_UPSAMPLE_GRAD, n->params, in, n->in[0]));
}

const op_record op_upsample = {
    .name = "upsample",
    .in_count = 1,
    .out_count = 1,
    .shapes = upsample_shapes,
    .gradient = upsample_gradient,
};
const op_record op_upsample_grad = {
    .name = "upsample_grad",
    .in_count = 1,
    .out_count = 1,
    .shapes = upsample_grad_shapes,
};

tensor *upsample(graph *g, tensor *x, int64_t height, int64_t width)
{
    op_params p = {.type = x->type};
    tensor *in[] = {x};
    shape want = {4, {x->dim[0], height, width, x->dim[3]}};
    return record(g, OP_UPSAMPLE, &p, in, &want);
}
