/* SPDX-License-Identifier: Apache-2.0
 *
 * product: the rows of linear layers, convolutions and their gradients: describes each as a product
 * (product.h) and chooses how it is done: Winograd where it pays, oneDNN for bfloat16 on processors
 * that have it, else the direct product. */
#include "device/cpu/product.h"

#include <stdlib.h>

#include "device/cpu/grad_w.h"
#include "device/cpu/onednn.h"
#include "device/cpu/operand.h"

/* Pack forms: bit 0 set (form 0 is the plain copy), how it is packed, bfloat16, transposed. */
enum { FORM_PANELS = 1, FORM_ONEDNN = 2, FORM_BF16 = 4, FORM_TRANSPOSED = 8 };

static void map_of(const array *a, int64_t *batch, int64_t *h, int64_t *w, int64_t *c)
{
    *batch = a->dim[0];
    *h = a->dim[1];
    *w = a->dim[2];
    *c = a->dim[3];
}

/* The forward problem of a convolution from x to y. */
static product convolution(const op_params *params, const array *x, const array *y, const array *w)
{
    product p = {.kh = (int)w->dim[2],
                 .kw = (int)w->dim[3],
                 .stride = params->stride,
                 .spread = 1,
                 .pad_top = params->pad_top,
                 .pad_left = params->pad_left};
    int64_t batch;
    map_of(x, &p.batch, &p.h, &p.w, &p.c);
    map_of(y, &batch, &p.oh, &p.ow, &p.o);
    return p;
}

static product linear(const array *x, const array *y)
{
    return (product){.batch = 1,
                     .h = 1,
                     .w = array_rows(x),
                     .c = x->dim[x->rank - 1],
                     .oh = 1,
                     .ow = array_rows(y),
                     .o = y->dim[y->rank - 1],
                     .kh = 1,
                     .kw = 1,
                     .stride = 1,
                     .spread = 1};
}

/* The problem dy -> dx of the forward problem: in and out change places, and so do the weight's
 * dimensions; the kernel is turned round, the pixels of dy stand `stride` apart. */
static product reversed(product p)
{
    product r = p;
    r.h = p.oh, r.w = p.ow, r.c = p.o;
    r.oh = p.h, r.ow = p.w, r.o = p.c;
    r.stride = 1, r.spread = p.stride;
    r.pad_top = p.kh - 1 - p.pad_top;
    r.pad_left = p.kw - 1 - p.pad_left;
    r.transposed = true;
    return r;
}

static product describe(const op_call *call)
{
    const array *in = call->in, *out = call->out;
    product p;
    switch (call->kind) {
    case OP_CONV2D:
        p = convolution(&call->params, &in[0], &out[0], &in[1]);
        p.doubled = call->params.doubled;
        break;
    case OP_CONV2D_GRAD_X: p = reversed(convolution(&call->params, &out[0], &in[0], &in[1])); break;
    case OP_CONV2D_GRAD_W: p = convolution(&call->params, &in[1], &in[0], &out[0]); break;
    case OP_LINEAR: p = linear(&in[0], &out[0]); break;
    case OP_LINEAR_GRAD_X: p = reversed(linear(&out[0], &in[0])); break;
    default: p = linear(&in[1], &in[0]); break; /* OP_LINEAR_GRAD_W */
    }
    bool grad_w = call->kind == OP_CONV2D_GRAD_W || call->kind == OP_LINEAR_GRAD_W;
    p.x_type = in[grad_w ? 1 : 0].type;
    p.y_type = grad_w ? in[0].type : out[0].type;
    bool forward = call->kind == OP_CONV2D || call->kind == OP_LINEAR;
    p.has_bias = forward && call->in_count > 2 && array_present(&in[2]);
    p.has_add = forward && call->in_count > 3 && array_present(&in[3]);
    p.add_type = p.has_add ? in[3].type : p.y_type;
    return p;
}

static bool type_fits(dtype t) { return t == DTYPE_F32 || t == DTYPE_BF16; }

static void product_free(product *p)
{
    if (!p) return;
    onednn_close(p->onednn);
    free(p->zero);
    free(p);
}

static product *product_new(const op_call *call, error *e)
{
    product *p = malloc(sizeof *p);
    if (!p) {
        error_memory(e, "a product", sizeof *p);
        return NULL;
    }
    *p = describe(call);
    if (!type_fits(p->x_type) || !type_fits(p->y_type) || !type_fits(p->add_type)) {
        error_set(e, ERROR_USAGE, "a product of %s to %s is not supported: use F32 or BF16",
                  dtype_name(p->x_type), dtype_name(p->y_type));
        product_free(p);
        return NULL;
    }
    /* of x's channels, and of dy's in a gradient; a vector more: kernels read whole lines */
    size_t zeros = (size_t)(p->c > p->o ? p->c : p->o) + 64;
    p->zero = calloc(zeros, sizeof *p->zero);
    if (!p->zero) {
        error_memory(e, "a product's padding", zeros * sizeof *p->zero);
        product_free(p);
        return NULL;
    }
    return p;
}

static bool product_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    product *p = product_new(call, e);
    if (!p) return false;
    const struct product_kernels *kernel = cpu_kernels_of(d)->product;
    p->pack_type = d->weight_type;
    p->form = FORM_PANELS | (p->pack_type == DTYPE_BF16 ? FORM_BF16 : 0) |
              (p->transposed ? FORM_TRANSPOSED : 0);
    p->method = winograd_pays(p, kernel->nr) ? PRODUCT_WINOGRAD : PRODUCT_DIRECT;
    if (p->method == PRODUCT_WINOGRAD)
        winograd_cut(d, p);
    else
        direct_cut(d, p);
    if (d->compute == DTYPE_BF16 && p->x_type == DTYPE_BF16 && p->method == PRODUCT_DIRECT) {
        if (!onednn_open(d, p, e)) {
            product_free(p);
            return false;
        }
        if (p->onednn) {
            p->method = PRODUCT_ONEDNN;
            p->form |= FORM_ONEDNN;
        }
    }
    *scratch = p->method == PRODUCT_WINOGRAD ? winograd_scratch(d, p)
               : p->method == PRODUCT_ONEDNN ? onednn_scratch(p)
                                             : direct_scratch(d, p);
    *state = p;
    return true;
}

static void product_unprepare(device *d, const op_call *call, void *state)
{
    (void)d, (void)call;
    product_free(state);
}

static bool product_bind(device *d, const op_call *call, void *state, error *e)
{
    const product *p = state;
    if (p->has_bias && call->in[2].w && !weight_f32_bind(d, &call->in[2], e)) return false;
    if (p->method == PRODUCT_ONEDNN) return onednn_bind(d, p, &call->in[1], e);
    return panels_bind(d, &call->in[1], p, e);
}

static bool product_run(device *d, const op_call *call, void *state, void *scratch, error *e)
{
    const product *p = state;
    struct product_data data = {
        .x = array_data(&call->in[0]),
        .w = &call->in[1],
        .bias = p->has_bias ? operand_f32(&call->in[2]) : NULL,
        .add = p->has_add ? array_data(&call->in[3]) : NULL,
        .y = array_data(&call->out[0]),
        .scratch = scratch,
    };
    switch (p->method) {
    case PRODUCT_DIRECT: direct_run(d, p, &data); break;
    case PRODUCT_WINOGRAD: winograd_run(d, p, &data); break;
    case PRODUCT_ONEDNN: return onednn_run(d, p, &data, e);
    }
    return true;
}

static bool grad_w_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    product *p = product_new(call, e);
    if (!p) return false;
    p->method = winograd_grad_w_pays(p, cpu_kernels_of(d)->product) ? PRODUCT_WINOGRAD
                                                                    : PRODUCT_DIRECT;
    p->pairs = p->method == PRODUCT_DIRECT && d->compute == DTYPE_BF16 && p->x_type == DTYPE_BF16 &&
               p->y_type == DTYPE_BF16;
    if (p->method == PRODUCT_DIRECT) grad_w_cut(d, p);
    *scratch = grad_w_scratch(d, p);
    *state = p;
    return true;
}

static void grad_w_call(device *d, const op_call *call, void *state, void *scratch)
{
    grad_w_run(d, state, array_data(&call->in[0]), array_data(&call->in[1]),
               array_data(&call->out[0]), scratch);
}

#define PRODUCT(name)                                                                              \
    const struct cpu_op name = {.prepare = product_prepare,                                        \
                                .unprepare = product_unprepare,                                    \
                                .bind = product_bind,                                              \
                                .try_run = product_run}
#define GRAD_W(name)                                                                               \
    const struct cpu_op name = {                                                                   \
        .prepare = grad_w_prepare, .unprepare = product_unprepare, .run = grad_w_call}

PRODUCT(cpu_conv2d);
PRODUCT(cpu_conv2d_grad_x);
PRODUCT(cpu_linear);
PRODUCT(cpu_linear_grad_x);
GRAD_W(cpu_conv2d_grad_w);
GRAD_W(cpu_linear_grad_w);
