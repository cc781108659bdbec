/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels: what the host calls of our own CUDA kernels: for each operation that no library does,
 * its arguments and a function that puts its launches into a stream. Nothing here allocates, copies
 * to or from the host or waits; what fails is seen as the launch's error (cudaGetLastError).
 * `scratch` is device memory, 64-byte aligned, of at least as many bytes as NAME_scratch says for
 * the same arguments. Results are the same bytes in every run: sums are cut by shapes alone, and no
 * float is added atomically.
 *
 * Pointers are device memory. Where all counts are multiples of 4 and all data 16-byte aligned,
 * memory is read and written in vectors. Activations may be F32, F16 or BF16, each on its own;
 * parameters (gamma, tables) likewise. An output that is not wanted has data NULL. Plain C: both C
 * and C++ include it. */
#ifndef LIKENESS_DEVICE_CUDA_KERNELS_H
#define LIKENESS_DEVICE_CUDA_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/types.h"
#include "device/moments.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor's data: F32, F16 or BF16. */
typedef struct gpu_view {
    void *data;
    dtype type;
} gpu_view;

typedef void *gpu_stream; /* cudaStream_t */

/* ---- normalisations (norm.cu) ---- */

typedef struct group_norm_args {
    gpu_view x, y;        /* [batch, space, channels]; y may be x */
    gpu_view gamma, beta; /* [channels] */
    float *stats;         /* [batch, groups, 2]: mean, 1/std; or NULL */
    int64_t batch, space, channels, groups;
    float eps;
    bool silu;
} group_norm_args;
size_t group_norm_scratch(const group_norm_args *a);
void group_norm_launch(const group_norm_args *a, void *scratch, gpu_stream stream);

typedef struct group_norm_grad_args {
    gpu_view dy, x;
    gpu_view gamma, beta;
    const float *stats;
    gpu_view dx;
    float *dgamma, *dbeta; /* [channels], or NULL */
    int64_t batch, space, channels, groups;
    bool silu;
} group_norm_grad_args;
size_t group_norm_grad_scratch(const group_norm_grad_args *a);
void group_norm_grad_launch(const group_norm_grad_args *a, void *scratch, gpu_stream stream);

typedef struct layer_norm_args {
    gpu_view x, y; /* [rows, channels]; y may be x */
    gpu_view gamma, beta;
    float *stats; /* [rows, 2], or NULL */
    int64_t rows, channels;
    float eps;
} layer_norm_args;
void layer_norm_launch(const layer_norm_args *a, gpu_stream stream);

typedef struct layer_norm_grad_args {
    gpu_view dy, x;
    gpu_view gamma;
    const float *stats;
    gpu_view dx;
    float *dgamma, *dbeta; /* [channels], or NULL */
    int64_t rows, channels;
} layer_norm_grad_args;
size_t layer_norm_grad_scratch(const layer_norm_grad_args *a);
void layer_norm_grad_launch(const layer_norm_grad_args *a, void *scratch, gpu_stream stream);

/* ---- pointwise (pointwise.cu) ---- */

/* unary_kind of device.h, which C++ cannot include */
enum { KERNEL_SILU, KERNEL_GELU, KERNEL_QUICK_GELU, KERNEL_RELU };

typedef struct unary_args {
    gpu_view x, y; /* [count]; y may be x */
    gpu_view dy;   /* the gradient's: y is dx */
    int64_t count;
    int kind; /* KERNEL_SILU.. */
} unary_args;
void unary_launch(const unary_args *a, gpu_stream stream);
void unary_grad_launch(const unary_args *a, gpu_stream stream);

typedef struct geglu_args {
    gpu_view x;  /* [rows, 2 * channels] */
    gpu_view y;  /* [rows, channels]; the gradient's: dx [rows, 2 * channels] */
    gpu_view dy; /* the gradient's: [rows, channels] */
    int64_t rows, channels;
} geglu_args;
void geglu_launch(const geglu_args *a, gpu_stream stream);
void geglu_grad_launch(const geglu_args *a, gpu_stream stream);

typedef struct add_args {
    gpu_view a, b, y; /* y[i] = a[i] + b[i % period]; y may be a, or b where period is count */
    int64_t count, period;
} add_args;
void add_launch(const add_args *a, gpu_stream stream);

/* What is left to do for a convolution: y = scale * x + bias[channel] + add, in y's
 * type. */
typedef struct finish_args {
    gpu_view x, y, add; /* [count]; y may be x, or add; add may be absent */
    gpu_view bias;      /* [channels], or absent */
    int64_t count, channels;
    float scale; /* a power of two */
} finish_args;
void finish_launch(const finish_args *a, gpu_stream stream);

typedef struct add_channel_args {
    gpu_view x, v, y; /* [batch, space, channels] + [batch, channels]; y may be x */
    int64_t batch, space, channels;
} add_channel_args;
void add_channel_launch(const add_channel_args *a, gpu_stream stream);

typedef struct scale_args {
    gpu_view x, y; /* y = alpha * x; y may be x where the types are the same. A cast: alpha is 1 */
    int64_t count;
    float alpha;
} scale_args;
void scale_launch(const scale_args *a, gpu_stream stream);

typedef struct fill_args {
    gpu_view y;
    int64_t count;
    float value;
} fill_args;
void fill_launch(const fill_args *a, gpu_stream stream);

/* ---- shape (shape.cu) ---- */

typedef struct concat_args {
    gpu_view a, b, y; /* [rows, a_channels], [rows, b_channels] -> [rows, both] */
    int64_t rows, a_channels, b_channels;
} concat_args;
void concat_launch(const concat_args *a, gpu_stream stream);

/* y[r, c] = x[r, c + start], zero where x has none: OP_SLICE; with -start OP_UNSLICE. */
typedef struct slice_args {
    gpu_view x, y;
    int64_t rows, x_channels, y_channels, start;
} slice_args;
void slice_launch(const slice_args *a, gpu_stream stream);

typedef struct upsample_args {
    gpu_view x,
        y; /* [batch, x_height, x_width, channels] -> [batch, y_height, y_width, channels] */
    int64_t batch, x_height, x_width, y_height, y_width, channels;
} upsample_args;
void upsample_launch(const upsample_args *a, gpu_stream stream);
void upsample_grad_launch(const upsample_args *a, gpu_stream stream); /* y is dy, x is dx */

/* OP_SUM_LEADING: batch is 1, channels the result's elements. OP_SUM_SPACE: rows of each sample. */
typedef struct sum_rows_args {
    gpu_view x, y; /* [batch, rows, channels] -> [batch, channels] */
    int64_t batch, rows, channels;
} sum_rows_args;
size_t sum_rows_scratch(const sum_rows_args *a);
void sum_rows_launch(const sum_rows_args *a, void *scratch, gpu_stream stream);

/* ---- lookup (lookup.cu) ---- */

typedef struct embedding_args {
    const int32_t *ids; /* [count]; the caller has seen to it that they are in the table */
    gpu_view table;     /* [vocabulary, channels]; the gradient's: dtable, F32 */
    gpu_view y;         /* [count, channels]; the gradient's: dy */
    int64_t count, vocabulary, channels;
} embedding_args;
void embedding_launch(const embedding_args *a, gpu_stream stream);
void embedding_grad_launch(const embedding_args *a, gpu_stream stream);

typedef struct time_embedding_args {
    const float *t; /* [batch] */
    gpu_view y;     /* [batch, channels] */
    int64_t batch, channels;
    bool flip_sin_to_cos;
    float freq_shift;
} time_embedding_args;
void time_embedding_launch(const time_embedding_args *a, gpu_stream stream);

/* ---- loss (loss.cu) ---- */

typedef struct mse_args {
    gpu_view pred, target; /* [batch, count] */
    const float *weight;   /* [batch], or NULL */
    float *loss, *mse;     /* [1]; [batch] or NULL */
    int64_t batch, count;  /* count: of a sample */
} mse_args;
size_t mse_scratch(const mse_args *a);
void mse_launch(const mse_args *a, void *scratch, gpu_stream stream);

typedef struct mse_grad_args {
    const float *dloss; /* [1] */
    gpu_view pred, target;
    const float *weight;
    gpu_view dpred;
    int64_t batch, count;
} mse_grad_args;
void mse_grad_launch(const mse_grad_args *a, gpu_stream stream);

/* ---- packing of weights (pack.cu) ---- */

/* x [out, in, space] in any float type -> y [out, space, in_padded], zeros in the padding: a
 * convolution's OIHW as a channels-last filter. A linear weight or a vector has space 1: a
 * conversion. */
typedef struct pack_item {
    gpu_view x, y;
    int64_t out, in, space, in_padded;
    int64_t first_block; /* pack_list: set by pack_list_place */
} pack_item;
void pack_launch(const pack_item *item, gpu_stream stream);
/* Many in one launch. pack_list_place (host) numbers the blocks of the list, which the caller then
 * uploads; returns how many blocks there are. */
int64_t pack_list_place(pack_item *list, int64_t count);
void pack_list_launch(const pack_item *list, int64_t count, int64_t blocks, gpu_stream stream);

/* ---- over lists of tensors (reduce.cu) ---- */

/* A tensor of a list; lists lie in device memory. */
typedef struct tensor_item {
    gpu_view data;
    float *sum; /* accumulate: data is added to it */
    int64_t count;
    int64_t first_block; /* set by tensor_list_place */
} tensor_item;
/* Numbers the blocks (on the host, before the upload); returns how many there are. */
int64_t tensor_list_place(tensor_item *list, int64_t count);

typedef struct tensor_list {
    const tensor_item *item;
    int64_t count, blocks;
} tensor_list;

/* *found: which << 40 | index of the first number that is not finite; BAD_NONE: there is none. */
enum { BAD_INDEX_BITS = 40 };
#define BAD_NONE UINT64_MAX
void find_bad_launch(const tensor_list *list, uint64_t *found, gpu_stream stream);

void accumulate_launch(const tensor_list *list, gpu_stream stream); /* sum += data */

/* What the gradients of a step come to, on the device; the update reads it there. */
typedef struct gradient_state {
    double norm;      /* of all together, after unscale, before they are scaled down */
    float grad_scale; /* unscale, and less where the norm is more than max_norm */
    uint32_t
        bad; /* the first tensor whose sum of squares is not finite; the count of tensors: none */
} gradient_state;

typedef struct gradient_norm_args {
    tensor_list list; /* gradients */
    double max_norm;
    const float *unscale; /* device: what gradients are multiplied by first (a loss's scale undone);
                             NULL: 1 */
    gradient_state *state;
} gradient_norm_args;
size_t gradient_norm_scratch(const gradient_norm_args *a);
void gradient_norm_launch(const gradient_norm_args *a, void *scratch, gpu_stream stream);

/* ---- optimizers (optimizer.cu) ---- */

/* moment_kind of device.h */
enum { KERNEL_MOMENTS_F32, KERNEL_MOMENTS_8BIT, KERNEL_MOMENTS_F32_BNB, KERNEL_MOMENTS_F16 };

typedef struct adamw_item {
    void *weight;  /* F32; F16 with KERNEL_MOMENTS_F16 */
    gpu_view copy; /* the new weights in another type, same order; NULL: there is none */
    const float *gradient;
    void *m, *v;
    float *absmax_m, *absmax_v;
    int64_t count;
    int64_t first_block; /* set by adamw_list_place */
    int kind;            /* KERNEL_MOMENTS_.. */
} adamw_item;
int64_t adamw_list_place(adamw_item *list, int64_t count);

/* A step's constants, as rounded for torch's kinds (F32, F16) and for bitsandbytes' (8BIT,
 * F32_BNB): adamw_values_of (device/adamw.h), but for grad_scale, which is in the state. */
typedef struct adamw_constants {
    float decay, keep1, keep2, take1, take2, step, root, epsilon;
} adamw_constants;

typedef struct adamw_step_constants { /* lies in device memory, so that a captured graph may be
                                         replayed */
    adamw_constants torch, bnb;
} adamw_step_constants;

typedef struct adamw_args {
    const adamw_item *item;
    int64_t count, blocks;
    const adamw_step_constants *constants;
    const moment_tables *tables; /* device/adamw.h fills them */
    const gradient_state *state; /* where a gradient is bad nothing changes */
    uint32_t bad_none;           /* state->bad where there is none */
} adamw_args;
void adamw_launch(const adamw_args *a, gpu_stream stream);

/* ---- softmax (softmax.cu) ---- */

typedef struct softmax_args {
    const float *x; /* [rows, columns] */
    gpu_view y;     /* softmax of alpha * x; may be x */
    float *lse;     /* [rows], or NULL */
    int64_t rows, columns;
    float alpha;
} softmax_args;
void softmax_launch(const softmax_args *a, gpu_stream stream);

typedef struct softmax_grad_args {
    const float *x, *dy; /* [rows, columns]; dy: the gradient of softmax of alpha * x */
    const float *lse;    /* as softmax_launch makes it */
    gpu_view y, dx;      /* the softmax, and the gradient of x; may be x and dy */
    int64_t rows, columns;
    float alpha;
} softmax_grad_args;
void softmax_grad_launch(const softmax_grad_args *a, gpu_stream stream);

/* ---- attention (attention.cu) ---- */

/* q [batch, n, heads * depth], k and v [batch, m, heads * depth] -> o as q; depth at most
 * ATTENTION_DEPTH. */
enum { ATTENTION_DEPTH = 160 };
typedef struct attention_args {
    gpu_view q, k, v, o;
    float *lse; /* [batch, heads, n], or NULL */
    int64_t batch, n, m, heads, depth;
    float alpha; /* scale of the logits */
    bool causal;
} attention_args;
void attention_launch(const attention_args *a, gpu_stream stream);

typedef struct attention_grad_args {
    gpu_view dout, q, k, v, o;
    const float *lse;
    gpu_view dq, dk, dv;
    int64_t batch, n, m, heads, depth;
    float alpha;
    bool causal;
} attention_grad_args;
size_t attention_grad_scratch(const attention_grad_args *a);
void attention_grad_launch(const attention_grad_args *a, void *scratch, gpu_stream stream);

#ifdef __cplusplus
}
#endif

#endif
