/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda: what the files of an NVIDIA GPU as a device share. Every operation is a row (prepare,
 * unprepare, run) in ops.c, products.c or attention.c; the device's functions are in cuda.c (queue,
 * replay), memory.c, weights.c and update.c. All of it is the host's side, in C: kernels.h,
 * product.h and conv.h are what the card does. */
#ifndef LIKENESS_DEVICE_CUDA_CUDA_H
#define LIKENESS_DEVICE_CUDA_CUDA_H

#include "device/cuda/conv.h"
#include "device/cuda/gpu.h"
#include "device/cuda/product.h"
#include "device/device.h"

/* Lists for the card, and what comes back of them. It grows, and is used again: what is put into it
 * is put there in the stream's order. */
typedef struct list_memory {
    void *data;
    size_t size;
} list_memory;

typedef struct cuda {
    device device; /* first: a device * of this kind is a cuda * */
    gpu gpu;
    product_library *product;
    conv_library *conv;
    struct replay *replays; /* cuda.c's */
    list_memory lists;
    void *maps; /* of the 8-bit moments, on the card; NULL: not yet wanted */
    char card[128], name[160];
} cuda;

static inline cuda *cuda_of(const device *d) { return (cuda *)(uintptr_t)d; }

/* What several things in one piece of memory begin at multiples of */
enum { ALIGNMENT = 256 };
static inline size_t rounded(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* One operation. prepare finds *state NULL and *scratch 0; NULL: there is nothing to do. */
struct cuda_op {
    bool (*prepare)(cuda *c, const op_call *call, void **state, size_t *scratch, error *e);
    void (*unprepare)(void *state);
    bool (*run)(cuda *c, const op_call *call, void *state, void *scratch, error *e);
};

const struct cuda_op *cuda_op_of(op_kind kind); /* ops.c; NULL: there is none */
extern const struct cuda_op cuda_conv2d, cuda_conv2d_grad_x, cuda_conv2d_grad_w;
extern const struct cuda_op cuda_linear, cuda_linear_grad_x, cuda_linear_grad_w;
extern const struct cuda_op cuda_attention, cuda_attention_grad;

/* ---- operands ---- */

static inline bool array_present(const array *a) { return a->rank >= 0; }

static inline void *buffer_data(const buffer *b, size_t at)
{
    return (void *)((uintptr_t)b->handle + at);
}

static inline int64_t array_count(const array *a)
{
    int64_t n = 1;
    for (int i = 0; i < a->rank; i++) n *= a->dim[i];
    return n;
}

static inline int64_t array_channels(const array *a) { return a->rank ? a->dim[a->rank - 1] : 1; }
static inline int64_t array_rows(const array *a) { return array_count(a) / array_channels(a); }

/* The form in which operand i of the call wants a weight. */
typedef enum weight_layout {
    WEIGHT_OWN,    /* as the checkpoint has it, in its own type */
    WEIGHT_TYPED,  /* its own layout in another type */
    WEIGHT_FILTER, /* a convolution's [O,C,kh,kw] as [O,kh,kw,C] */
} weight_layout;
typedef struct weight_form {
    weight_layout layout;
    dtype type;
} weight_form;
weight_form weight_form_of(const op_call *call, int i); /* products.c */

/* Where an operand lies, a weight in the form that the call wants; data NULL: it is absent. */
gpu_view operand(const op_call *call, int i);
gpu_view result(const op_call *call, int i);
/* An activation's or a trained weight's; weights.c: a weight's in a form that has been bound. */
gpu_view weight_view(const array *a, weight_form form);
gpu_view array_view(const array *a);

/* ---- memory.c ---- */
bool cuda_buffer_open(device *d, size_t size, const char *what, buffer *out, error *e);
void cuda_buffer_close(buffer *b);
bool cuda_upload(device *d, const buffer *to, size_t at, const void *from, size_t size, error *e);
bool cuda_download(device *d, const buffer *from, size_t at, void *to, size_t size, error *e);
bool cuda_copy(device *d, const buffer *to, size_t to_at, const buffer *from, size_t from_at,
               size_t size, error *e);
bool cuda_fill(device *d, const buffer *to, size_t at, float value, size_t count, error *e);
uint64_t cuda_memory_left(device *d);
bool cuda_find_bad(device *d, const array *list, size_t count, bad_value *found, error *e);
/* At least `size` bytes for lists; NULL, and the error. */
void *cuda_lists(cuda *c, size_t size, error *e);

/* ---- weights.c ---- */
bool cuda_weights_open(device_weights *w, error *e);
void cuda_weights_close(device_weights *w);
void cuda_weights_touch(device_weights *w, size_t i);
/* Before new data of trained weight i are made: *copy is one that has the same order in another
 * type, to be made with them; data NULL: there is none. */
bool cuda_weights_changing(cuda *c, device_weights *w, size_t i, gpu_view *copy, error *e);
/* When they have been: all copies but that one (NULL: all) are stale. */
void cuda_weights_changed(device_weights *w, size_t i, const void *copy);
size_t cuda_weights_bytes(device_weights *w);
size_t cuda_copy_bytes(const device *d, const weight *w, weight_use use);
bool cuda_bind(device *d, const op_step *steps, size_t count, error *e);
uintptr_t cuda_weights_id(const device_weights *w); /* no other in this process has or had it */

/* ---- update.c ---- */
bool cuda_accumulate(device *d, const update_tensor *list, size_t count, error *e);
bool cuda_update(device *d, const update_job *u, update_result *r, error *e);

#endif
