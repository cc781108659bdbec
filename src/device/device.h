/* SPDX-License-Identifier: Apache-2.0
 *
 * device: memory and whole-tensor operations. Everything above speaks to hardware only through this
 * header. An operation is described by an op_call; a device prepares it once (chooses a kernel,
 * says how much scratch it needs), binds it to a weight set (packs weights into what its kernel
 * wants), and runs it many times. Nothing is allocated while running.
 *
 * Activations are channels-last ([B,H,W,C], outermost first) and contiguous; weights keep the
 * checkpoint's layout (conv OIHW, linear [out,in]). Results of a device are the same bytes in every
 * run, with any number of threads: what is summed in parts is cut by its shape alone. */
#ifndef LIKENESS_DEVICE_DEVICE_H
#define LIKENESS_DEVICE_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/threads.h"
#include "base/types.h"

typedef struct device device;

/* Memory of a device. What it means is the device's business: nobody else follows `handle` or
 * `host`. */
typedef struct buffer {
    device *device;
    void *handle; /* the device's own: on the processor where it lies; NULL: the buffer is closed */
    size_t size;
    void *host; /* the same bytes where the host can reach them; NULL: it cannot */
} buffer;

/* The buffer's bytes as the host can read them, as they are now: the memory itself where it can be
 * reached, else a copy, which *copy owns (to be freed with host_view_close). NULL, and the error.
 */
typedef struct host_view {
    const char *data;
    void *copy;
    size_t size;
} host_view;
bool host_view_open(host_view *v, const buffer *b, error *e);
void host_view_close(host_view *v);

enum { OP_MAX_IN = 6, OP_MAX_OUT = 3, ARRAY_MAX_RANK = 4 };

/* A weight: checkpoint name, shape and data. data is row-major in `type` (F32, F16 or BF16),
 * 64-byte alignment not guaranteed, and may lie in a mapped file. Owner: the weight_set. */
typedef struct weight {
    const char *name;
    dtype type;
    int rank;
    int64_t dim[ARRAY_MAX_RANK];
    const void *data;
} weight;

/* What graphs do with a weight. */
typedef enum weight_use {
    WEIGHT_READ,
    WEIGHT_FROZEN,  /* gradients pass through it */
    WEIGHT_TRAINED, /* they end in it too: it lies in the device's memory */
} weight_use;

int64_t weight_elements(const weight *w); /* the product of its dimensions */

/* Weights sorted by name (strcmp); a set does not change while it is open. storage: whatever data
 * points into (a mapped file, a block), filled by the loader; storage_drop gives its resident pages
 * back, to come again when read (NULL: it has none to give). */
typedef struct weight_set {
    weight *item;
    size_t count;
    void *storage;
    void (*storage_free)(void *storage);
    void (*storage_drop)(void *storage);
    const struct weight_set *below; /* NULL, or a set that is open as long as this one: a device has
                                       what is the same data in both once, as that one's */
} weight_set;

weight *weight_find(const weight_set *set, const char *name); /* NULL where there is none */
void weight_set_close(weight_set *set);                       /* frees item and storage */

/* A device's own copy of a weight set: what it has of each weight in the forms that its kernels
 * want. Copies are made when an operation is bound, once for all graphs that want the same form,
 * and stay where they are until the last share is closed. Several threads, each with a device
 * beside the first, may bind and run graphs on one at the same time. */
typedef struct device_weights {
    device *device;       /* the first of its hardware */
    weight_set set;       /* the host's side: borrowed */
    const buffer *memory; /* what is trained lies in the device's memory, weight i at at[i]; NULL:
                             it does not */
    const size_t *at;
    void *own; /* the device's side */
    int shares;
    struct device_weights *below; /* of set.below; NULL: there is none */
    struct device_weights *next;
} device_weights;

/* An operand: memory and its shape. For a weight operand `w` is set, `weights` is the copy of the
 * set that it is in, and memory is NULL. An absent optional operand has rank -1. */
typedef struct array {
    const buffer *memory;
    size_t offset;
    const weight *w;
    device_weights *weights;
    dtype type;
    int rank;
    int64_t dim[ARRAY_MAX_RANK];
} array;

/* Every operation, with its operands. [...] are shapes, ? marks an optional operand, "rows" is the
 * product of all dimensions but the last. x is F32, F16 or BF16 unless said; weights any float
 * type; stats, lse, losses and all gradients (out) are F32. A graph gives out[0] the memory of an
 * operand of the same type and size in these cases, and no others: add of OP_CONV2D and OP_LINEAR,
 * a or b of OP_ADD, x of OP_ADD_CHANNEL, OP_UNARY and OP_SCALE. dy is F32, in products the compute
 * type.
 */
typedef enum op_kind {
    /* products ------------------------------------------------------------------------------ */
    OP_CONV2D,         /* x [B,H,W,C], w [O,C,kh,kw], b? [O], add? [B,H',W',O] -> y (+ add) */
    OP_CONV2D_GRAD_X,  /* dy [B,H',W',O], w -> dx [B,H,W,C] */
    OP_CONV2D_GRAD_W,  /* dy, x -> dw [O,C,kh,kw] */
    OP_LINEAR,         /* x [..,C], w [O,C] or [O,C,1,1], b? [O], add? [..,O] -> y [..,O] (+ add) */
    OP_LINEAR_GRAD_X,  /* dy [..,O], w -> dx [..,C] */
    OP_LINEAR_GRAD_W,  /* dy, x -> dw (the weight's own shape) */
    OP_ATTENTION,      /* q [B,N,H*D], k [B,M,H*D], v [B,M,H*D] -> o [B,N,H*D], lse [B,H,N]
                          params: heads, causal, alpha = scale of the logits */
    OP_ATTENTION_GRAD, /* do, q, k, v, o, lse -> dq, dk, dv */
    /* normalisations ------------------------------------------------------------------------ */
    OP_GROUP_NORM,      /* x [B,..,C], gamma [C], beta [C] -> y, stats [B,G,2] (mean, 1/std)
                           params: groups, eps, silu (y = silu(norm)) */
    OP_GROUP_NORM_GRAD, /* dy, x, gamma, beta, stats -> dx, dgamma, dbeta */
    OP_LAYER_NORM,      /* x [..,C], gamma, beta -> y, stats [rows,2]; params: eps */
    OP_LAYER_NORM_GRAD, /* dy, x, gamma, stats -> dx, dgamma, dbeta */
    /* pointwise ----------------------------------------------------------------------------- */
    OP_UNARY,      /* x -> y; params: unary */
    OP_UNARY_GRAD, /* dy, x -> dx */
    OP_GEGLU,      /* x [..,2C] -> [..,C]: first half * gelu(second half) */
    OP_GEGLU_GRAD, /* dy [..,C], x [..,2C] -> dx [..,2C] */
    OP_ADD,        /* a, b -> a + b; b's elements repeat where it is smaller (b [N,C], a [B,N,C]); b
                      may be a weight */
    OP_ADD_CHANNEL, /* x [B,..,C], v [B,C] -> x + v, v repeated over space */
    OP_SCALE,       /* x -> alpha * x */
    OP_CAST,        /* x -> y of another type (params.type) */
    OP_RESHAPE,     /* a view: never run by a device */
    /* shape --------------------------------------------------------------------------------- */
    OP_CONCAT,        /* a [..,Ca], b [..,Cb] -> [..,Ca+Cb] */
    OP_SLICE,         /* x [..,C] -> [..,count] from channel params.start */
    OP_UNSLICE,       /* x [..,count] -> [..,C], zeros elsewhere (gradient of OP_SLICE) */
    OP_UPSAMPLE,      /* x [B,H,W,C] -> [B,H',W',C], nearest: source = floor(i * H / H') */
    OP_UPSAMPLE_GRAD, /* dy -> dx */
    OP_SUM_LEADING, /* x with n elements -> y with m, m divides n: y[j] = sum of x[j + k*m] (F32) */
    OP_SUM_SPACE,   /* x [B,..,C] -> [B,C] (gradient of OP_ADD_CHANNEL) */
    /* lookup, time, loss -------------------------------------------------------------------- */
    OP_EMBEDDING,      /* ids I32 [B,N], table [V,C] -> [B,N,C] */
    OP_EMBEDDING_GRAD, /* dy, ids -> dtable [V,C] */
    OP_TIME_EMBEDDING, /* t F32 [B] -> [B,dim] F32; params: flip_sin_to_cos, freq_shift (numerics 2)
                        */
    OP_MSE, /* pred [B,..], target, weight? F32 [B] -> loss [1] = mean_b(w_b * mse_b), mse [B] */
    OP_MSE_GRAD, /* dloss [1], pred, target, weight? -> dpred */
    OP_KIND_COUNT
} op_kind;

typedef enum unary_kind { UNARY_SILU, UNARY_GELU, UNARY_QUICK_GELU, UNARY_RELU } unary_kind;

typedef struct op_params {
    int stride; /* convolution */
    int pad_top, pad_left, pad_bottom, pad_right;
    bool doubled; /* convolution: x is an OP_UPSAMPLE to twice its size; a device may ignore it */
    int heads;    /* attention */
    bool causal;
    int groups; /* group norm */
    bool silu;
    float eps;
    unary_kind unary;
    float alpha;          /* scale; attention's logit scale */
    dtype type;           /* the first output's type */
    int64_t start;        /* slice */
    bool flip_sin_to_cos; /* time embedding */
    float freq_shift;
} op_params;

typedef struct op_call {
    op_kind kind;
    op_params params;
    int in_count, out_count;
    array in[OP_MAX_IN];
    array out[OP_MAX_OUT];
} op_call;

/* A prepared and bound operation, to be run. */
typedef struct op_step {
    const op_call *call;
    void *state;
    const char *name; /* the operation's, for messages */
} op_step;

/* An AdamW update of one tensor (NUMERICS.md, 6 and 7). */
typedef enum moment_kind {
    MOMENTS_F32,     /* torch.optim.AdamW: decay, then the step */
    MOMENTS_8BIT,    /* bitsandbytes AdamW8bit's CUDA kernel: blocks of 256, the step, then decay */
    MOMENTS_F32_BNB, /* bitsandbytes' float32 path, for tensors below MOMENTS_8BIT_FROM elements */
    MOMENTS_F16, /* torch.optim.AdamW on half tensors: every intermediate tensor rounded to half */
} moment_kind;

enum { MOMENTS_BLOCK = 256, MOMENTS_8BIT_FROM = 4096 };

typedef struct moments {
    moment_kind kind;
    int64_t count;             /* elements */
    const buffer *memory;      /* where in it, in bytes: */
    size_t m, v;               /* [count] F32, U8 or F16 */
    size_t absmax_m, absmax_v; /* [ceil(count / 256)] F32, 8-bit alone */
} moments;

/* Bytes of the two moments of n elements (kind F32 or F32_BNB: 8 n; 8BIT: 2 n and 8 a block; F16: 4
 * n), and where its parts lie from `at` on, 64-byte aligned; they begin as zeros. */
size_t moments_bytes(moment_kind kind, int64_t n);
void moments_place(moments *m, moment_kind kind, int64_t n, const buffer *memory, size_t at);

/* One trained tensor: a weight in the device's memory (F32, or F16 with MOMENTS_F16), and what
 * changes it. */
typedef struct update_tensor {
    device_weights *weights;
    size_t index;
    array gradient; /* F32, of the batch */
    array sum;      /* F32, of the batches so far; rank -1: there is one batch alone */
    moments moments;
} update_tensor;

typedef struct adamw_step {
    int64_t step; /* 1: the first */
    double rate, beta1, beta2, epsilon, weight_decay;
    float grad_scale; /* the gradient is multiplied by it */
} adamw_step;

typedef struct update_job {
    const update_tensor *tensor;
    size_t count;
    adamw_step step; /* grad_scale follows from: */
    float unscale;   /* what gradients are multiplied with first: 1, or 1 / the loss's scale */
    double max_norm; /* and scaled down where their norm, taken together, is more then */
} update_job;

typedef struct update_result {
    double norm; /* unscaled, before it is scaled down */
    size_t bad;  /* the first tensor whose gradient is not finite; count: none */
} update_result;

/* The first number that is NaN or infinite: of which array (the count of them: none is), where in
 * it. */
typedef struct bad_value {
    size_t which;
    int64_t index;
    float value;
} bad_value;

/* A device has memory, and a queue: what it is told is done in that order, some of it after the
 * call has returned. A failure of the hardware may be told of by a later call; wait and download
 * have told of all before them. */
struct device {
    const char *name; /* "cpu avx2, 2 threads" */
    int threads;
    thread_pool *pool; /* the host's threads, for other work too; NULL: none */
    dtype compute;     /* type of the inputs of products: F32, or F16, BF16 where hardware has it */
    dtype weight_type; /* type packed product weights are held in: the precision it was opened in */
    bool apart;        /* its memory is not the host's */
    bool batches_alike; /* a sample's results are the same bytes in batches of every size */
    device *first;      /* that beside which it was opened; NULL: it is the first itself */
    /* Looked at between operations (NULL: never): where true, what runs ends with ERROR_CANCELLED.
     */
    const atomic_bool *stop;

    /* Zeros, 256-byte aligned. what: for the message where there is no room. */
    bool (*buffer_open)(device *d, size_t size, const char *what, buffer *out, error *e);
    void (*buffer_close)(buffer *b); /* one that was never opened, too */
    /* From and to the host, bytes from `at` on. An upload has read `from` when it returns. */
    bool (*upload)(device *d, const buffer *to, size_t at, const void *from, size_t size, error *e);
    bool (*download)(device *d, const buffer *from, size_t at, void *to, size_t size, error *e);
    /* Between buffers of the same hardware. */
    bool (*copy)(device *d, const buffer *to, size_t to_at, const buffer *from, size_t from_at,
                 size_t size, error *e);
    bool (*fill)(device *d, const buffer *to, size_t at, float value, size_t count, error *e);
    uint64_t (*memory_left)(device *d); /* bytes that can be had now */

    /* Chooses a kernel for the call (shapes and types are set, memory is not). *state is the
     * device's (may stay NULL), *scratch the bytes that running it wants. Fails for an unsupported
     * call. */
    bool (*prepare)(device *d, const op_call *call, void **state, size_t *scratch, error *e);
    void (*unprepare)(device *d, const op_call *call, void *state);
    /* Makes the copies of the calls' weights that it wants (in[].w and in[].weights are set), those
     * of all steps at once, so that it can take memory for them at once. */
    bool (*bind)(device *d, const op_step *steps, size_t count, error *e);
    /* Runs the steps in their order, each with the scratch to itself, which begins 64-byte aligned.
     * Where one fails the outputs are undefined. */
    bool (*submit)(device *d, const op_step *steps, size_t count, const buffer *scratch,
                   size_t scratch_at, error *e);
    bool (*wait)(device *d, error *e); /* for all that was submitted */
    /* Looks for a number that is not finite; arrays of other types than F32, F16 and BF16 have
     * none. */
    bool (*find_bad)(device *d, const array *list, size_t count, bad_value *found, error *e);

    /* Adds the gradients to the sums. */
    bool (*accumulate)(device *d, const update_tensor *list, size_t count, error *e);
    /* New weights and moments from sums or gradients, and the weights' copies stale; nothing is
     * changed where a gradient is not finite. */
    bool (*update)(device *d, const update_job *u, update_result *r, error *e);

    /* device_weights: the device's side of them. NULL where it keeps none. */
    bool (*weights_open)(device_weights *w, error *e);
    void (*weights_close)(device_weights *w);
    void (*weights_touch)(device_weights *w, size_t i);
    size_t (*weights_bytes)(device_weights *w);
    size_t (*copy_bytes)(const device *d, const weight *w, weight_use use);
    bool (*beside)(device **out, device *first, int threads, error *e);
    void (*close)(device *d);
    pthread_mutex_t lock;    /* of the next, in the first */
    device_weights *weights; /* those that are open */
};

/* For devices: says of which operation, with which weight, an error is; returns false. */
bool op_step_failed(const op_step *step, error *e);
/* For devices: ERROR_CANCELLED where the device is to stop. */
bool device_goes_on(const device *d, error *e);

typedef struct device_options {
    int threads;     /* 0: all cores */
    dtype precision; /* DTYPE_F32, DTYPE_F16 or DTYPE_BF16 */
    /* The processor's instruction set: plain, avx2, avx512 or avx512bf16; one that the machine
     * lacks, or an unknown word, is an error. "": the best there is. NULL: LIKENESS_CPU's in the
     * environment, which is read once, or the best. */
    const char *level;
    error *passed_over; /* of the device "auto": why it is not the GPU whose plug-in is there; NULL:
                           nobody asks */
} device_options;

/* One piece of hardware of a kind. */
typedef struct device_card {
    char name[24];         /* what device_open takes: "cuda:0" */
    char text[112];        /* what it is */
    uint64_t memory, left; /* bytes */
    bool f16, bf16;        /* whether this precision is to be had; f32 always is */
} device_card;

/* A kind of hardware, by the word before a name's colon. */
typedef struct device_kind {
    const char *name;
    bool (*make)(device **out, const char *name, const device_options *o, error *e);
    /* The i-th, from 0. False without an error: there are no more; with one: why there are none. */
    bool (*card)(int i, device_card *out, error *e);
} device_kind;

extern const device_kind device_kind_cpu, device_kind_cuda; /* the latter is plugin.c's */
const device_kind *device_kind_at(int i);                   /* NULL: there are no more */
/* Another beside these; before any device is opened. */
void device_register(const device_kind *kind);
/* name: "cpu", "cuda", "cuda:1", or "auto": the GPU where one serves, else the processor. */
bool device_open(device **out, const char *name, const device_options *o, error *e);
/* Another queue of the same hardware, in the same precision and with the same results, for a second
 * host thread: on the processor a pool of its own, none with one thread. `first` outlives it. */
bool device_open_beside(device **out, device *first, int threads, error *e);
void device_close(device **d);

/* Opened again, on the same hardware, it is the same copy, counted. Cheap: nothing is copied before
 * it is bound. To be closed before the set, and before the first device. */
bool device_weights_open(device *d, const weight_set *set, device_weights **out, error *e);
/* The same for weights that lie in a buffer of the device, weight i at at[i] (both are borrowed):
 * what is trained. The set's data may be NULL. */
bool device_weights_open_in(device *d, const weight_set *set, const buffer *memory,
                            const size_t *at, device_weights **out, error *e);
void device_weights_close(device_weights **w);
/* Whose copy a weight of its set is: w's own, or where the data is the same that of a set below,
 * whose weight *of then becomes. */
device_weights *device_weights_owner(device_weights *w, const weight **of);
/* n numbers from `from` on of weight i, as float32. */
bool device_weights_read(device *d, device_weights *w, size_t i, int64_t from, int64_t n,
                         float *out, error *e);
/* The data of weight i have changed: its copies are made anew, in their own memory, by the next
 * bind. Nothing that runs may be reading it. */
void device_weights_touch(device_weights *w, size_t i);
size_t device_weights_bytes(device_weights *w); /* of the copies it holds now */
/* Bytes of the copies of a weight that binding it makes, as far as can be said before. */
size_t device_copy_bytes(const device *d, const weight *w, weight_use use);

#endif
