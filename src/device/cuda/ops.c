/* SPDX-License-Identifier: Apache-2.0
 *
 * ops: the table of operations, and those that are one launch of a kernel of ours: each function
 * turns a call into the kernel's arguments. Types and shapes are the graph's business; what a
 * kernel cannot do is refused when it is prepared. */
#include "device/cuda/cuda.h"

gpu_view operand(const op_call *call, int i)
{
    const array *a = &call->in[i];
    return a->rank >= 0 && a->w ? weight_view(a, weight_form_of(call, i)) : array_view(a);
}

gpu_view result(const op_call *call, int i)
{
    return i < call->out_count ? array_view(&call->out[i]) : (gpu_view){NULL, DTYPE_F32};
}

static float *floats(gpu_view v) { return v.data; }

/* ---- normalisations ---- */

static group_norm_args group_norm_of(const op_call *call)
{
    const array *x = &call->in[0];
    int64_t channels = array_channels(x);
    return (group_norm_args){
        .batch = x->dim[0],
        .space = array_count(x) / x->dim[0] / channels,
        .channels = channels,
        .groups = call->params.groups,
        .eps = call->params.eps,
        .silu = call->params.silu,
    };
}

static bool group_norm_prepare(cuda *c, const op_call *call, void **state, size_t *scratch,
                               error *e)
{
    group_norm_args a = group_norm_of(call);
    (void)c, (void)state, (void)e;
    *scratch = group_norm_scratch(&a);
    return true;
}

static bool group_norm_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    group_norm_args a = group_norm_of(call);
    (void)state;
    a.x = operand(call, 0), a.gamma = operand(call, 1), a.beta = operand(call, 2);
    a.y = result(call, 0), a.stats = floats(result(call, 1));
    group_norm_launch(&a, scratch, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static group_norm_grad_args group_norm_grad_of(const op_call *call)
{
    const array *x = &call->in[1];
    int64_t channels = array_channels(x);
    return (group_norm_grad_args){
        .batch = x->dim[0],
        .space = array_count(x) / x->dim[0] / channels,
        .channels = channels,
        .groups = call->params.groups,
        .silu = call->params.silu,
    };
}

static bool group_norm_grad_prepare(cuda *c, const op_call *call, void **state, size_t *scratch,
                                    error *e)
{
    group_norm_grad_args a = group_norm_grad_of(call);
    (void)c, (void)state, (void)e;
    *scratch = group_norm_grad_scratch(&a);
    return true;
}

static bool group_norm_grad_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    group_norm_grad_args a = group_norm_grad_of(call);
    (void)state;
    a.dy = operand(call, 0), a.x = operand(call, 1), a.gamma = operand(call, 2),
    a.beta = operand(call, 3);
    a.stats = floats(operand(call, 4));
    a.dx = result(call, 0), a.dgamma = floats(result(call, 1)), a.dbeta = floats(result(call, 2));
    group_norm_grad_launch(&a, scratch, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool layer_norm_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    layer_norm_args a = {.x = operand(call, 0),
                         .gamma = operand(call, 1),
                         .beta = operand(call, 2),
                         .y = result(call, 0),
                         .stats = floats(result(call, 1)),
                         .rows = array_rows(&call->in[0]),
                         .channels = array_channels(&call->in[0]),
                         .eps = call->params.eps};
    (void)state, (void)scratch;
    layer_norm_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool layer_norm_grad_prepare(cuda *c, const op_call *call, void **state, size_t *scratch,
                                    error *e)
{
    layer_norm_grad_args a = {.rows = array_rows(&call->in[1]),
                              .channels = array_channels(&call->in[1])};
    (void)c, (void)state, (void)e;
    *scratch = layer_norm_grad_scratch(&a);
    return true;
}

static bool layer_norm_grad_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    layer_norm_grad_args a = {.dy = operand(call, 0),
                              .x = operand(call, 1),
                              .gamma = operand(call, 2),
                              .stats = floats(operand(call, 3)),
                              .dx = result(call, 0),
                              .dgamma = floats(result(call, 1)),
                              .dbeta = floats(result(call, 2)),
                              .rows = array_rows(&call->in[1]),
                              .channels = array_channels(&call->in[1])};
    (void)state;
    layer_norm_grad_launch(&a, scratch, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

/* ---- pointwise ---- */

static int unary_of(const op_call *call)
{
    static const int kinds[] = {[UNARY_SILU] = KERNEL_SILU,
                                [UNARY_GELU] = KERNEL_GELU,
                                [UNARY_QUICK_GELU] = KERNEL_QUICK_GELU,
                                [UNARY_RELU] = KERNEL_RELU};
    return kinds[call->params.unary];
}

static bool unary_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    bool grad = call->kind == OP_UNARY_GRAD;
    unary_args a = {.x = operand(call, grad),
                    .y = result(call, 0),
                    .count = array_count(&call->in[0]),
                    .kind = unary_of(call)};
    (void)state, (void)scratch;
    if (grad) a.dy = operand(call, 0);
    (grad ? unary_grad_launch : unary_launch)(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool geglu_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    bool grad = call->kind == OP_GEGLU_GRAD;
    const array *x = &call->in[grad];
    geglu_args a = {.x = operand(call, grad),
                    .y = result(call, 0),
                    .rows = array_rows(x),
                    .channels = array_channels(x) / 2};
    (void)state, (void)scratch;
    if (grad) a.dy = operand(call, 0);
    (grad ? geglu_grad_launch : geglu_launch)(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool add_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    add_args a = {.a = operand(call, 0),
                  .b = operand(call, 1),
                  .y = result(call, 0),
                  .count = array_count(&call->in[0]),
                  .period = array_count(&call->in[1])};
    (void)state, (void)scratch;
    add_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool add_channel_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    const array *x = &call->in[0];
    int64_t channels = array_channels(x);
    add_channel_args a = {.x = operand(call, 0),
                          .v = operand(call, 1),
                          .y = result(call, 0),
                          .batch = x->dim[0],
                          .space = array_count(x) / x->dim[0] / channels,
                          .channels = channels};
    (void)state, (void)scratch;
    add_channel_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool scale_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    scale_args a = {.x = operand(call, 0),
                    .y = result(call, 0),
                    .count = array_count(&call->in[0]),
                    .alpha = call->kind == OP_CAST ? 1 : call->params.alpha};
    (void)state, (void)scratch;
    scale_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

/* ---- shape ---- */

static bool concat_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    concat_args a = {.a = operand(call, 0),
                     .b = operand(call, 1),
                     .y = result(call, 0),
                     .rows = array_rows(&call->in[0]),
                     .a_channels = array_channels(&call->in[0]),
                     .b_channels = array_channels(&call->in[1])};
    (void)state, (void)scratch;
    concat_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool slice_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    int64_t start = call->params.start;
    slice_args a = {.x = operand(call, 0),
                    .y = result(call, 0),
                    .rows = array_rows(&call->in[0]),
                    .x_channels = array_channels(&call->in[0]),
                    .y_channels = array_channels(&call->out[0]),
                    .start = call->kind == OP_UNSLICE ? -start : start};
    (void)state, (void)scratch;
    slice_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool upsample_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    bool grad = call->kind == OP_UPSAMPLE_GRAD;
    const array *x = grad ? &call->out[0] : &call->in[0], *y = grad ? &call->in[0] : &call->out[0];
    upsample_args a = {.x = array_view(x),
                       .y = array_view(y),
                       .batch = x->dim[0],
                       .x_height = x->dim[1],
                       .x_width = x->dim[2],
                       .y_height = y->dim[1],
                       .y_width = y->dim[2],
                       .channels = x->dim[3]};
    (void)state, (void)scratch;
    (grad ? upsample_grad_launch : upsample_launch)(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static sum_rows_args sum_of(const op_call *call)
{
    const array *x = &call->in[0];
    bool space = call->kind == OP_SUM_SPACE;
    int64_t batch = space ? x->dim[0] : 1, channels = array_count(&call->out[0]) / batch;
    return (sum_rows_args){
        .batch = batch, .rows = array_count(x) / batch / channels, .channels = channels};
}

static bool sum_prepare(cuda *c, const op_call *call, void **state, size_t *scratch, error *e)
{
    sum_rows_args a = sum_of(call);
    (void)c, (void)state, (void)e;
    *scratch = sum_rows_scratch(&a);
    return true;
}

static bool sum_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    sum_rows_args a = sum_of(call);
    (void)state;
    a.x = operand(call, 0), a.y = result(call, 0);
    sum_rows_launch(&a, scratch, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

/* ---- lookup, time, loss ---- */

static bool embedding_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    bool grad = call->kind == OP_EMBEDDING_GRAD;
    const array *table = grad ? &call->out[0] : &call->in[1];
    embedding_args a = {.ids = operand(call, grad).data,
                        .table = grad ? result(call, 0) : operand(call, 1),
                        .y = grad ? operand(call, 0) : result(call, 0),
                        .count = array_count(&call->in[grad]),
                        .vocabulary = table->dim[0],
                        .channels = table->dim[1]};
    (void)state, (void)scratch;
    (grad ? embedding_grad_launch : embedding_launch)(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool time_embedding_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    time_embedding_args a = {.t = operand(call, 0).data,
                             .y = result(call, 0),
                             .batch = array_count(&call->in[0]),
                             .channels = array_channels(&call->out[0]),
                             .flip_sin_to_cos = call->params.flip_sin_to_cos,
                             .freq_shift = call->params.freq_shift};
    (void)state, (void)scratch;
    time_embedding_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static mse_args mse_of(const op_call *call)
{
    const array *pred = &call->in[0];
    return (mse_args){.batch = pred->dim[0], .count = array_count(pred) / pred->dim[0]};
}

static bool mse_prepare(cuda *c, const op_call *call, void **state, size_t *scratch, error *e)
{
    mse_args a = mse_of(call);
    (void)c, (void)state, (void)e;
    *scratch = mse_scratch(&a);
    return true;
}

static bool mse_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    mse_args a = mse_of(call);
    (void)state;
    a.pred = operand(call, 0), a.target = operand(call, 1), a.weight = operand(call, 2).data;
    a.loss = floats(result(call, 0)), a.mse = floats(result(call, 1));
    mse_launch(&a, scratch, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

static bool mse_grad_run(cuda *c, const op_call *call, void *state, void *scratch, error *e)
{
    const array *pred = &call->in[1];
    mse_grad_args a = {.dloss = operand(call, 0).data,
                       .pred = operand(call, 1),
                       .target = operand(call, 2),
                       .weight = operand(call, 3).data,
                       .dpred = result(call, 0),
                       .batch = pred->dim[0],
                       .count = array_count(pred) / pred->dim[0]};
    (void)state, (void)scratch;
    mse_grad_launch(&a, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

/* ---- the table ---- */

static const struct cuda_op group_norm = {.prepare = group_norm_prepare, .run = group_norm_run},
                            group_norm_grad = {.prepare = group_norm_grad_prepare,
                                               .run = group_norm_grad_run},
                            layer_norm = {.run = layer_norm_run},
                            layer_norm_grad = {.prepare = layer_norm_grad_prepare,
                                               .run = layer_norm_grad_run},
                            unary = {.run = unary_run}, geglu = {.run = geglu_run},
                            add = {.run = add_run}, add_channel = {.run = add_channel_run},
                            scale = {.run = scale_run}, concat = {.run = concat_run},
                            slice = {.run = slice_run}, upsample = {.run = upsample_run},
                            sum = {.prepare = sum_prepare, .run = sum_run},
                            embedding = {.run = embedding_run},
                            time_embedding = {.run = time_embedding_run},
                            mse = {.prepare = mse_prepare, .run = mse_run},
                            mse_grad = {.run = mse_grad_run};

static const struct cuda_op *const rows[OP_KIND_COUNT] = {
    [OP_CONV2D] = &cuda_conv2d,
    [OP_CONV2D_GRAD_X] = &cuda_conv2d_grad_x,
    [OP_CONV2D_GRAD_W] = &cuda_conv2d_grad_w,
    [OP_LINEAR] = &cuda_linear,
    [OP_LINEAR_GRAD_X] = &cuda_linear_grad_x,
    [OP_LINEAR_GRAD_W] = &cuda_linear_grad_w,
    [OP_ATTENTION] = &cuda_attention,
    [OP_ATTENTION_GRAD] = &cuda_attention_grad,
    [OP_GROUP_NORM] = &group_norm,
    [OP_GROUP_NORM_GRAD] = &group_norm_grad,
    [OP_LAYER_NORM] = &layer_norm,
    [OP_LAYER_NORM_GRAD] = &layer_norm_grad,
    [OP_UNARY] = &unary,
    [OP_UNARY_GRAD] = &unary,
    [OP_GEGLU] = &geglu,
    [OP_GEGLU_GRAD] = &geglu,
    [OP_ADD] = &add,
    [OP_ADD_CHANNEL] = &add_channel,
    [OP_SCALE] = &scale,
    [OP_CAST] = &scale,
    [OP_CONCAT] = &concat,
    [OP_SLICE] = &slice,
    [OP_UNSLICE] = &slice,
    [OP_UPSAMPLE] = &upsample,
    [OP_UPSAMPLE_GRAD] = &upsample,
    [OP_SUM_LEADING] = &sum,
    [OP_SUM_SPACE] = &sum,
    [OP_EMBEDDING] = &embedding,
    [OP_EMBEDDING_GRAD] = &embedding,
    [OP_TIME_EMBEDDING] = &time_embedding,
    [OP_MSE] = &mse,
    [OP_MSE_GRAD] = &mse_grad,
};

const struct cuda_op *cuda_op_of(op_kind kind) { return rows[kind]; }
