/* SPDX-License-Identifier: Apache-2.0
 *
 * products: linear layers and convolutions: what libraries do on the card, and what stands between
 * their habits and ours. A linear layer is one call, bias and residual in it. A
 * convolution's filter is channels-last there (weights.c makes it so); its padding is the same at
 * both ends, so that one that is not is of a padded copy; its result has the operands' type. */
#include <stdlib.h>

#include "device/cuda/cuda.h"

weight_form weight_form_of(const op_call *call, int i)
{
    dtype type = call->in[0].type;
    switch (call->kind) {
    case OP_CONV2D:
    case OP_CONV2D_GRAD_X:
        return i == 1 ? (weight_form){WEIGHT_FILTER, type} : (weight_form){WEIGHT_TYPED, DTYPE_F32};
    case OP_LINEAR:
    case OP_LINEAR_GRAD_X: return (weight_form){WEIGHT_TYPED, i == 1 ? type : call->out[0].type};
    default: return (weight_form){WEIGHT_OWN, call->in[i].w->type};
    }
}

static bool operands_agree(const op_call *call, error *e)
{
    return call->in[0].type == call->in[1].type ||
           error_set(e, ERROR_USAGE, "both operands of a product must have one type");
}

/* ---- linear ---- */

static product_shape linear_shape(const op_call *call)
{
    static const product_way ways[] = {PRODUCT_FORWARD, PRODUCT_BY_DATA, PRODUCT_BY_WEIGHTS};
    const array *first = &call->in[0],
                *w = call->kind == OP_LINEAR_GRAD_W ? &call->out[0] : &call->in[1];
    bool forward = call->kind == OP_LINEAR;
    return (product_shape){
        .way = ways[call->kind - OP_LINEAR],
        .rows = array_rows(first),
        .in = w->dim[1],
        .out = w->dim[0],
        .type = first->type,
        .result = call->out[0].type,
        .bias = forward && array_present(&call->in[2]),
        .add = forward && array_present(&call->in[3]),
    };
}

static bool linear_prepare(cuda *c, const op_call *call, void **state, size_t *scratch, error *e)
{
    product_shape s = linear_shape(call);
    product_plan *p = NULL;
    bool ok = (call->kind != OP_LINEAR_GRAD_W || operands_agree(call, e)) &&
              product_open(&p, c->product, &s, scratch, e);
    *state = p;
    return ok;
}

static void linear_unprepare(void *state)
{
    product_plan *p = state;
    product_close(&p);
}

static bool linear_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    bool forward = call->kind == OP_LINEAR;
    const void *bias = forward ? operand(call, 2).data : NULL,
               *add = forward ? operand(call, 3).data : NULL;
    (void)c;
    return product_run(state, operand(call, 0).data, operand(call, 1).data, bias, add,
                       result(call, 0).data, scratch, e);
}

const struct cuda_op cuda_linear = {linear_prepare, linear_unprepare, linear_run},
                     cuda_linear_grad_x = {linear_prepare, linear_unprepare, linear_run},
                     cuda_linear_grad_w = {linear_prepare, linear_unprepare, linear_run};

/* ---- convolution ---- */

typedef struct conv_state {
    conv_plan *plan;
    conv_shape shape; /* of the library's convolution: x with its padding, where that is not even */
    int top, left;    /* that padding */
    int64_t height, width; /* of x itself */
    bool padded;
    size_t padded_bytes, result_bytes,
        cut_bytes; /* parts of the scratch before the library's; 0: not wanted */
} conv_state;

static size_t bytes_of(int64_t a, int64_t b, int64_t c, int64_t d, dtype type)
{
    return rounded((size_t)(a * b * c * d) * dtype_size(type));
}

/* A result of more than 65504 is nothing to the residual stream, which is float32, and infinity to
 * the float16 that it passes through: so it passes so much smaller, which costs numbers below 1e-3
 * some of their digits, at most 5e-7. Not gradients: their range is the loss's scale's business. */
static const float HALF_SCALE = 1.0f / 16;

static conv_state conv_of(const op_call *call)
{
    static const conv_way ways[] = {CONV_FORWARD, CONV_BY_DATA, CONV_BY_WEIGHTS};
    conv_way way = ways[call->kind - OP_CONV2D];
    const array *x = way == CONV_FORWARD   ? &call->in[0]
                     : way == CONV_BY_DATA ? &call->out[0]
                                           : &call->in[1];
    const array *y = way == CONV_FORWARD ? &call->out[0] : &call->in[0];
    const array *w = way == CONV_BY_WEIGHTS ? &call->out[0] : &call->in[1];
    const op_params *p = &call->params;
    dtype type = call->in[0].type;
    conv_state s = {
        .shape = {.way = way,
                  .batch = x->dim[0],
                  .height = x->dim[1],
                  .width = x->dim[2],
                  .in = x->dim[3],
                  .y_height = y->dim[1],
                  .y_width = y->dim[2],
                  .out = y->dim[3],
                  .kh = w->dim[2],
                  .kw = w->dim[3],
                  .stride = p->stride,
                  .pad_height = p->pad_top,
                  .pad_width = p->pad_left,
                  .type = type,
                  .scale = 1},
        .height = x->dim[1],
        .width = x->dim[2],
        .padded = p->pad_top != p->pad_bottom || p->pad_left != p->pad_right,
    };
    conv_shape *c = &s.shape;
    if (s.padded) {
        s.top = p->pad_top, s.left = p->pad_left;
        c->pad_height = c->pad_width = 0;
        c->height += p->pad_top + p->pad_bottom;
        c->width += p->pad_left + p->pad_right;
    }
    bool other = type != call->out[0].type;
    if (s.padded && way != CONV_BY_DATA)
        s.padded_bytes = bytes_of(c->batch, c->height, c->width, c->in, type);
    if (way == CONV_FORWARD && other) {
        s.result_bytes = bytes_of(c->batch, c->y_height, c->y_width, c->out, type);
        if (type == DTYPE_F16) c->scale = HALF_SCALE;
    }
    if (way == CONV_BY_DATA && (other || s.padded))
        s.result_bytes = bytes_of(c->batch, c->height, c->width, c->in, type);
    if (way == CONV_BY_DATA && other && s.padded)
        s.cut_bytes = bytes_of(c->batch, s.height, s.width, c->in, type);
    if (way == CONV_BY_WEIGHTS) s.result_bytes = bytes_of(c->out, c->kh, c->kw, c->in, type);
    return s;
}

static void conv_unprepare(void *state)
{
    conv_state *s = state;
    if (s) conv_close(&s->plan);
    free(s);
}

static bool conv_prepare(cuda *c, const op_call *call, void **state, size_t *scratch, error *e)
{
    size_t own;
    conv_state *s = malloc(sizeof *s);
    if (!s) return error_memory(e, "a convolution", sizeof *s);
    *s = conv_of(call);
    if ((call->kind == OP_CONV2D_GRAD_W && !operands_agree(call, e)) ||
        !conv_open(&s->plan, c->conv, &s->shape, &own, e)) {
        free(s);
        return false;
    }
    *scratch = s->padded_bytes + s->result_bytes + s->cut_bytes + own;
    *state = s;
    return true;
}

static gpu_box box_of(void *data, size_t pixel, int64_t height, int64_t width)
{
    size_t row = (size_t)width * pixel;
    return (gpu_box){data, row, (size_t)height * row};
}

/* x's part of the padded map, in it */
static gpu_box inside(const conv_state *s, void *padded, size_t pixel)
{
    gpu_box b = box_of(padded, pixel, s->shape.height, s->shape.width);
    b.data = (char *)b.data + (size_t)s->top * b.row + (size_t)s->left * pixel;
    return b;
}

/* Copies x into the padded map at `padded`, or the other way round. */
static bool move(cuda *c, const conv_state *s, void *x, void *padded, bool into, error *e)
{
    size_t pixel = (size_t)s->shape.in * dtype_size(s->shape.type);
    gpu_box whole = box_of(x, pixel, s->height, s->width), part = inside(s, padded, pixel);
    return gpu_copy_box(&c->gpu, into ? part : whole, into ? whole : part, (size_t)s->width * pixel,
                        (size_t)s->height, (size_t)s->shape.batch, e);
}

/* x as the library is to have it */
static bool padded_x(cuda *c, const conv_state *s, void **x, char *scratch, error *e)
{
    void *given = *x;
    if (!s->padded) return true;
    *x = scratch;
    return gpu_zero(&c->gpu, scratch, s->padded_bytes, e) && move(c, s, given, scratch, true, e);
}

static void converted(cuda *c, void *from, dtype type, gpu_view to, int64_t count)
{
    scale_args a = {.x = {from, type}, .y = to, .count = count, .alpha = 1};
    scale_launch(&a, c->gpu.stream);
}

static bool conv_forward(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    const conv_state *s = state;
    gpu_view x = operand(call, 0), w = operand(call, 1), b = operand(call, 2),
             add = operand(call, 3);
    gpu_view y = result(call, 0);
    char *other = (char *)scratch + s->padded_bytes, *own = other + s->result_bytes;
    void *made = s->result_bytes ? other : y.data;
    bool onto = made == add.data;
    if (!padded_x(c, s, &x.data, scratch, e) ||
        !conv_run(s->plan, x.data, w.data, made, onto, own, e))
        return false;
    finish_args a = {.x = {made, s->shape.type},
                     .y = y,
                     .bias = b,
                     .count = array_count(&call->out[0]),
                     .channels = s->shape.out,
                     .scale = 1 / s->shape.scale};
    if (!onto) a.add = add;
    if (made != y.data || a.bias.data || a.add.data) finish_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool conv_by_data(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    const conv_state *s = state;
    gpu_view dx = result(call, 0);
    char *whole = scratch, *cut = whole + s->result_bytes, *own = cut + s->cut_bytes;
    bool direct = !s->result_bytes;
    if (!conv_run(s->plan, operand(call, 0).data, operand(call, 1).data, direct ? dx.data : whole,
                  false, own, e))
        return false;
    void *part = !s->padded ? whole : s->cut_bytes ? cut : dx.data;
    if (s->padded && !move(c, s, part, whole, false, e)) return false;
    if (!direct && part != dx.data)
        converted(c, part, s->shape.type, dx, array_count(&call->out[0]));
    return gpu_launched(&c->gpu, e);
}

/* The library's [O,kh,kw,C] as [O,C,kh,kw] */
static bool conv_by_weights(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    const conv_state *s = state;
    const conv_shape *h = &s->shape;
    void *x = operand(call, 1).data;
    char *filter = (char *)scratch + s->padded_bytes, *own = filter + s->result_bytes;
    if (!padded_x(c, s, &x, scratch, e) ||
        !conv_run(s->plan, operand(call, 0).data, x, filter, false, own, e))
        return false;
    pack_item item = {.x = {filter, h->type},
                      .y = result(call, 0),
                      .out = h->out,
                      .in = h->kh * h->kw,
                      .space = h->in,
                      .in_padded = h->kh * h->kw};
    pack_launch(&item, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

const struct cuda_op cuda_conv2d = {conv_prepare, conv_unprepare, conv_forward},
                     cuda_conv2d_grad_x = {conv_prepare, conv_unprepare, conv_by_data},
                     cuda_conv2d_grad_w = {conv_prepare, conv_unprepare, conv_by_weights};
