/* SPDX-License-Identifier: Apache-2.0
 *
 * weights: a device_weights on the card. A weight goes there when an operation that wants it is
 * bound, straight from the mapped file, and is put into the form that is wanted there; it stays
 * where it is. What is trained lies on the card already, and serves itself where it is in the right
 * form. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda/cuda.h"

enum { BLOCK_MOST = 64 << 20, DROP_EVERY = 256 << 20 };

/* A weight in one form. */
typedef struct weight_copy {
    struct weight_copy *next;
    weight_form form;
    bool stale; /* the weight has changed since */
    void *data;
    size_t size;
} weight_copy;

/* Memory that copies are cut from. */
typedef struct block {
    struct block *next;
    char *data;
    size_t size, used;
} block;

/* device_weights.own; the lock is for all of it. */
typedef struct cuda_weights {
    pthread_mutex_t lock;
    uintptr_t id;
    gpu gpu; /* the first device's, for freeing */
    block *blocks;
    void *staging; /* where what must be converted arrives */
    size_t staging_size;
    size_t bytes, read; /* of the copies; of the files, since their pages were given back */
    gpu_mark written;
    const cuda *writer; /* the last whose stream has written; NULL: none */
    weight_copy *copies[];
} cuda_weights;

static size_t bytes_of(const weight *w, dtype type)
{
    return (size_t)weight_elements(w) * dtype_size(type);
}

bool cuda_weights_open(device_weights *w, error *e)
{
    static atomic_uintptr_t last;
    size_t bytes = sizeof(cuda_weights) + w->set.count * sizeof(weight_copy *);
    cuda_weights *own = w->own = calloc(1, bytes);
    if (!own) return error_memory(e, "a device's weights", bytes);
    own->gpu = cuda_of(w->device)->gpu;
    own->id = atomic_fetch_add(&last, 1) + 1;
    pthread_mutex_init(&own->lock, NULL);
    if (gpu_mark_open(&own->gpu, &own->written, e)) return true;
    cuda_weights_close(w);
    return false;
}

void cuda_weights_close(device_weights *w)
{
    cuda_weights *own = w->own;
    for (size_t i = 0; i < w->set.count; i++)
        for (weight_copy *p = own->copies[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    for (block *b = own->blocks, *next; b; b = next) {
        next = b->next;
        gpu_free(&own->gpu, b->data);
        free(b);
    }
    gpu_free(&own->gpu, own->staging);
    gpu_mark_close(&own->written);
    pthread_mutex_destroy(&own->lock);
    free(own);
}

uintptr_t cuda_weights_id(const device_weights *w) { return ((const cuda_weights *)w->own)->id; }

void cuda_weights_touch(device_weights *w, size_t i)
{
    cuda_weights *own = w->own;
    pthread_mutex_lock(&own->lock);
    for (weight_copy *p = own->copies[i]; p; p = p->next) p->stale = true;
    pthread_mutex_unlock(&own->lock);
}

size_t cuda_weights_bytes(device_weights *w)
{
    cuda_weights *own = w->own;
    pthread_mutex_lock(&own->lock);
    size_t bytes = own->bytes;
    pthread_mutex_unlock(&own->lock);
    return bytes;
}

/* As the products want it, in which most of a model is. What is trained is its own copy where it is
 * no filter and in the right type. */
size_t cuda_copy_bytes(const device *d, const weight *w, bool trained)
{
    if (trained && (w->rank < 2 || (w->rank == 2 && w->type == d->weight_type))) return 0;
    return rounded(bytes_of(w, w->rank < 2 ? w->type : d->weight_type));
}

/* ---- views ---- */

/* Whether the weight as it is serves as the form. */
static bool is_own(const weight *w, weight_form form)
{
    return form.layout == WEIGHT_OWN || (form.layout == WEIGHT_TYPED && form.type == w->type);
}

static weight_form form_for(const weight *w, weight_form form)
{
    return is_own(w, form) ? (weight_form){WEIGHT_OWN, w->type} : form;
}

static void *trained_data(const array *a)
{
    const device_weights *s = a->weights;
    return buffer_data(s->memory, s->at[a->w - s->set.item]);
}

static weight_copy *find(const array *a, weight_form form)
{
    const cuda_weights *own = a->weights->own;
    weight_copy *p = own->copies[a->w - a->weights->set.item];
    while (p && (p->form.layout != form.layout || p->form.type != form.type)) p = p->next;
    return p;
}

gpu_view weight_view(const array *a, weight_form wanted)
{
    cuda_weights *own = a->weights->own;
    weight_form form = form_for(a->w, wanted);
    if (form.layout == WEIGHT_OWN && a->weights->memory)
        return (gpu_view){trained_data(a), a->w->type};
    pthread_mutex_lock(&own->lock);
    const weight_copy *p = find(a, form);
    pthread_mutex_unlock(&own->lock);
    assert(p);
    return (gpu_view){p->data, form.type};
}

gpu_view array_view(const array *a)
{
    if (!array_present(a)) return (gpu_view){NULL, DTYPE_F32};
    if (a->w) return weight_view(a, (weight_form){WEIGHT_OWN, a->w->type});
    return (gpu_view){buffer_data(a->memory, a->offset), a->type};
}

/* ---- copies ---- */

static bool memory_for(cuda *c, const array *a, size_t size, void **out, error *e)
{
    cuda_weights *own = a->weights->own;
    block *b = own->blocks;
    size_t all = 0;
    size = rounded(size);
    if (!b || b->size - b->used < size) {
        for (size_t i = 0; i < a->weights->set.count && all < BLOCK_MOST; i++)
            all += rounded(bytes_of(&a->weights->set.item[i], DTYPE_F32));
        if (all > BLOCK_MOST) all = BLOCK_MOST;
        b = calloc(1, sizeof *b);
        if (!b) return error_memory(e, a->w->name, sizeof *b);
        b->size = size > all ? size : all;
        void *data;
        if (!gpu_alloc(&c->gpu, b->size, a->w->name, &data, e)) {
            free(b);
            return false;
        }
        b->data = data;
        b->next = own->blocks;
        own->blocks = b;
    }
    *out = b->data + b->used;
    b->used += size;
    own->bytes += size;
    return true;
}

/* What has been read of the file is given back as it goes, so that both are not in memory together.
 */
static void was_read(const array *a, size_t bytes)
{
    cuda_weights *own = a->weights->own;
    const weight_set *set = &a->weights->set;
    own->read += bytes;
    if (own->read < DROP_EVERY) return;
    own->read = 0;
    if (set->storage_drop) set->storage_drop(set->storage);
}

/* The weight as it is, on the card: in the buffer it is trained in, or uploaded to be converted. */
static bool source(cuda *c, const array *a, gpu_view *out, error *e)
{
    cuda_weights *own = a->weights->own;
    size_t size = bytes_of(a->w, a->w->type);
    out->type = a->w->type;
    if (a->weights->memory) {
        out->data = trained_data(a);
        return true;
    }
    if (own->staging_size < size) {
        gpu_free(&c->gpu, own->staging);
        own->staging = NULL;
        own->staging_size = 0;
        if (!gpu_alloc(&c->gpu, size, a->w->name, &own->staging, e)) return false;
        own->staging_size = size;
    }
    out->data = own->staging;
    was_read(a, size);
    return gpu_upload(&c->gpu, own->staging, a->w->data, size, e);
}

static bool make(cuda *c, const array *a, weight_copy *p, error *e)
{
    size_t size = bytes_of(a->w, a->w->type);
    bool filter = p->form.layout == WEIGHT_FILTER;
    if (p->form.layout == WEIGHT_OWN) {
        was_read(a, size);
        return gpu_upload(&c->gpu, p->data, a->w->data, size, e);
    }
    pack_item item = {.y = {p->data, p->form.type}, .out = filter ? a->w->dim[0] : 1, .space = 1};
    if (!source(c, a, &item.x, e)) return false;
    item.in = filter ? a->w->dim[1] : weight_elements(a->w);
    if (filter) item.space = a->w->dim[2] * a->w->dim[3];
    item.in_padded = item.in;
    pack_launch(&item, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

/* Before this stream reads or writes what another has written. */
static bool await_writer(cuda *c, const cuda_weights *own, error *e)
{
    return !own->writer || own->writer == c || gpu_mark_await(&c->gpu, own->written, e);
}

static bool was_written(cuda *c, cuda_weights *own, error *e)
{
    own->writer = c;
    return gpu_mark_set(&c->gpu, own->written, e);
}

static bool bind_locked(cuda *c, const array *a, weight_form wanted, error *e)
{
    cuda_weights *own = a->weights->own;
    weight_form form = form_for(a->w, wanted);
    if (!await_writer(c, own, e)) return false;
    if (form.layout == WEIGHT_OWN && a->weights->memory) return true;
    weight_copy *p = find(a, form);
    if (p && !p->stale) return true;
    bool fresh = !p;
    if (fresh) {
        p = calloc(1, sizeof *p);
        if (!p) return error_memory(e, a->w->name, sizeof *p);
        *p = (weight_copy){.form = form, .size = bytes_of(a->w, form.type)};
        if (!memory_for(c, a, p->size, &p->data, e)) {
            free(p);
            return false;
        }
    }
    bool ok = make(c, a, p, e) && was_written(c, own, e);
    p->stale = !ok;
    weight_copy **list = &own->copies[a->w - a->weights->set.item];
    if (fresh) {
        p->next = *list;
        *list = p;
    }
    return ok;
}

bool cuda_bind(device *d, const op_call *call, void *state, error *e)
{
    cuda *c = cuda_of(d);
    (void)state;
    if (!gpu_enter(&c->gpu, e)) return false;
    for (int i = 0; i < call->in_count; i++) {
        const array *a = &call->in[i];
        if (!a->w) continue;
        cuda_weights *own = a->weights->own;
        pthread_mutex_lock(&own->lock);
        bool ok = bind_locked(c, a, weight_form_of(call, i), e);
        pthread_mutex_unlock(&own->lock);
        if (!ok) return false;
    }
    return true;
}
