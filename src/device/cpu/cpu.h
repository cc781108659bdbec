/* SPDX-License-Identifier: Apache-2.0
 *
 * cpu: the processor as a device. Every operation is one row (prepare, unprepare, bind, run) in
 * whichever file defines it; cpu.c gathers them in one table and picks the instruction set. The
 * vector code is in simd_*.c, compiled once per instruction set; each such file gives one struct of
 * function pointers per set, and struct cpu_kernels points at those of the set in use. */
#ifndef LIKENESS_DEVICE_CPU_CPU_H
#define LIKENESS_DEVICE_CPU_CPU_H

#include "device/cpu/optimizer.h"
#include "device/device.h"

enum cpu_isa { CPU_PLAIN, CPU_AVX2, CPU_AVX512, CPU_AVX512BF16, CPU_ISA_COUNT };

/* The kernels of one instruction set: one member per simd_*.c. */
struct cpu_kernels {
    const struct product_kernels *product;     /* simd_product.c */
    const struct winograd_kernels *winograd;   /* simd_winograd.c: [WINO_SIZES] */
    const struct grad_w_kernels *grad_w;       /* simd_grad_w.c */
    const struct attention_kernels *attention; /* simd_attention.c */
    const struct norm_kernels *norm;           /* simd_norm.c */
    const struct pointwise_kernels *pointwise; /* simd_pointwise.c */
    const struct optimizer_kernels *optimizer; /* simd_optimizer.c */
};

typedef struct cpu {
    device device; /* first: a device * of this kind is a cpu * */
    int level;     /* of cpu.c's list of instruction sets */
    struct cpu_kernels kernels;
    struct moment_maps maps; /* of the 8-bit optimizer */
    char name[64];
} cpu;

static inline const struct cpu_kernels *cpu_kernels_of(const device *d)
{
    return &((const cpu *)(const void *)d)->kernels;
}

/* One operation. Members as in struct device; NULL where there is nothing to do. prepare finds
 * *state NULL and *scratch 0. */
struct cpu_op {
    bool (*prepare)(device *d, const op_call *call, void **state, size_t *scratch, error *e);
    void (*unprepare)(device *d, const op_call *call, void *state);
    bool (*bind)(device *d, const op_call *call, void *state, error *e);
    void (*run)(device *d, const op_call *call, void *state, void *scratch);
    /* In place of run, where a library does work that can fail. */
    bool (*try_run)(device *d, const op_call *call, void *state, void *scratch, error *e);
};

extern const struct cpu_op cpu_conv2d, cpu_conv2d_grad_x, cpu_conv2d_grad_w;
extern const struct cpu_op cpu_linear, cpu_linear_grad_x, cpu_linear_grad_w;
extern const struct cpu_op cpu_attention, cpu_attention_grad;
extern const struct cpu_op cpu_group_norm, cpu_group_norm_grad;
extern const struct cpu_op cpu_layer_norm, cpu_layer_norm_grad;
extern const struct cpu_op cpu_unary, cpu_unary_grad;
extern const struct cpu_op cpu_geglu, cpu_geglu_grad;
extern const struct cpu_op cpu_add, cpu_add_channel;
extern const struct cpu_op cpu_scale, cpu_cast;
extern const struct cpu_op cpu_concat, cpu_slice;
extern const struct cpu_op cpu_unslice;
extern const struct cpu_op cpu_upsample, cpu_upsample_grad;
extern const struct cpu_op cpu_sum_leading, cpu_sum_space;
extern const struct cpu_op cpu_embedding, cpu_embedding_grad;
extern const struct cpu_op cpu_time_embedding;
extern const struct cpu_op cpu_mse, cpu_mse_grad;

/* Packs of a weight: copies in the form a kernel wants, kept in device_weights, one per form. */
typedef struct weight_pack weight_pack;
struct weight_pack {
    weight_pack *next;
    uint64_t form; /* what it is; 0 is the plain float32 copy */
    bool stale;    /* the weight has changed since it was made; the lock's */
    void *data;    /* 64-byte aligned, `size` bytes; freed by weight_pack_free, or with the set */
    size_t size;
    void (*close)(weight_pack *p); /* frees what else `owned` holds; may be NULL */
    void *owned;
};

/* device_weights.own. Packs are made under the lock, and listed once they are whole: who runs reads
 * the lists while another thread binds. */
struct cpu_weights {
    pthread_mutex_t lock;
    size_t read; /* bytes of the set's files that were read to be copied, since last dropped */
    struct pack_slab *slabs;        /* memory of packs, the one that is being filled first */
    size_t filled;                  /* bytes of that */
    _Atomic(weight_pack *) packs[]; /* of each weight */
};

bool cpu_weights_open(device_weights *w, error *e);
void cpu_weights_close(device_weights *w);
void cpu_weights_touch(device_weights *w, size_t i);
size_t cpu_weights_bytes(device_weights *w);
size_t cpu_copy_bytes(const device *d, const weight *w, weight_use use);

/* a is a weight operand. Between lock and unlock packs may be made. */
void weight_lock(const array *a);
void weight_unlock(const array *a);
weight_pack *weight_packs(const array *a); /* the first of its list */
weight_pack *weight_pack_find(const array *a, uint64_t form);
/* A new pack of `size` bytes (uninitialised), in no list; NULL and an error when memory is out. */
weight_pack *weight_pack_new(const array *a, uint64_t form, size_t size, error *e);
void weight_pack_list(const array *a, weight_pack *p);
void weight_pack_free(weight_pack *p); /* one that is in no list; NULL is fine */
/* A copy of the weight has been made. Where the device keeps copies instead of the file, what has
 * been read of the file is given back as it goes, so that both are not in memory together. */
void weight_was_copied(const device *d, const array *a);

/* The weight as float32 in the checkpoint's layout (itself where it is that): bind makes it, run
 * gets it. */
bool weight_f32_bind(const device *d, const array *a, error *e);
const float *weight_f32(const array *a);

/* memory.c: the host's memory is the device's. */
bool cpu_buffer_open(device *d, size_t size, const char *what, buffer *out, error *e);
void cpu_buffer_close(buffer *b);
bool cpu_upload(device *d, const buffer *to, size_t at, const void *from, size_t size, error *e);
bool cpu_download(device *d, const buffer *from, size_t at, void *to, size_t size, error *e);
bool cpu_copy(device *d, const buffer *to, size_t to_at, const buffer *from, size_t from_at,
              size_t size, error *e);
bool cpu_fill(device *d, const buffer *to, size_t at, float value, size_t count, error *e);
uint64_t cpu_memory_left(device *d);
bool cpu_find_bad(device *d, const array *list, size_t count, bad_value *found, error *e);

/* Deals the pieces of a job to the device's threads. elements: how many numbers it touches or
 * computes in all; few are not worth waking a thread for. */
void cpu_deal(const device *d, int64_t elements, int pieces, thread_piece *work,
              const void *context);
/* In how many pieces to deal a job of so many numbers that may be cut anywhere: some more than
 * there are threads, so that one that is interrupted leaves its share to the others. */
int cpu_pieces(const device *d, int64_t elements);

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The [begin, end) of n items that is the piece-th of `pieces`, in multiples of `step`. */
static inline void piece_range(int64_t n, int64_t step, int piece, int pieces, int64_t *begin,
                               int64_t *end)
{
    int64_t steps = (n + step - 1) / step;
    int64_t b = steps * piece / pieces * step, e = steps * (piece + 1) / pieces * step;
    *begin = b < n ? b : n;
    *end = e < n ? e : n;
}

/* Bytes rounded up to whole cache lines. */
static inline size_t round_line(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

static inline bool array_present(const array *a) { return a->rank >= 0; }

/* Where a buffer's byte lies; where an activation does, NULL while it has no memory. */
static inline void *buffer_data(const buffer *b, size_t at)
{
    return (void *)((uintptr_t)b->handle + at);
}
static inline void *array_data(const array *a)
{
    return a->memory ? buffer_data(a->memory, a->offset) : NULL;
}

/* Where a weight operand's own data lie, in its own type. */
static inline const void *weight_data(const array *a)
{
    const device_weights *s = a->weights;
    return s->memory ? buffer_data(s->memory, s->at[a->w - s->set.item]) : a->w->data;
}

/* Elements of an array; its rows: the product of all dimensions but the last. */
static inline int64_t array_count(const array *a)
{
    int64_t n = 1;
    for (int i = 0; i < a->rank; i++) n *= a->dim[i];
    return n;
}

static inline int64_t array_rows(const array *a)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < a->rank; i++) n *= a->dim[i];
    return n;
}

#endif
