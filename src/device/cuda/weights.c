/* SPDX-License-Identifier: Apache-2.0
 *
 * weights: a device_weights on the card. A weight goes there when an operation that wants it is
 * bound, straight from the mapped file, and is put into the form that is wanted there; it stays
 * where it is. All that a graph wants is looked at first, so that its memory is taken at once. What
 * is trained lies on the card already, and serves itself where it is in the right form. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda/cuda.h"

enum { PIECE = 8 << 20, DROP_EVERY = 256 << 20 };

/* A weight in one form. */
typedef struct weight_copy {
    struct weight_copy *next;
    weight_form form;
    bool stale; /* it is to be made, or made anew: the weight has changed */
    void *data; /* NULL: it is wanted, and has no memory yet */
    size_t size;
} weight_copy;

/* Memory that copies are cut from: all that the graphs bound at one time had wanted. */
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
    size_t wanted; /* bytes of the copies that have no memory yet */
    size_t bytes;  /* of those that have */
    size_t read;   /* of the files, since their pages were given back */
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
    gpu_mark_close(&own->written);
    pthread_mutex_destroy(&own->lock);
    free(own);
}

uintptr_t cuda_weights_id(const device_weights *w) { return ((const cuda_weights *)w->own)->id; }

void cuda_weights_changed(device_weights *w, size_t i, const void *copy)
{
    cuda_weights *own = w->own;
    pthread_mutex_lock(&own->lock);
    for (weight_copy *p = own->copies[i]; p; p = p->next) p->stale = !copy || p->data != copy;
    pthread_mutex_unlock(&own->lock);
}

void cuda_weights_touch(device_weights *w, size_t i) { cuda_weights_changed(w, i, NULL); }

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
size_t cuda_copy_bytes(const device *d, const weight *w, weight_use use)
{
    if (use == WEIGHT_TRAINED && (w->rank < 2 || (w->rank == 2 && w->type == d->weight_type)))
        return 0;
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

static void *trained_data(const device_weights *s, const weight *w)
{
    return buffer_data(s->memory, s->at[w - s->set.item]);
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
        return (gpu_view){trained_data(a->weights, a->w), a->w->type};
    pthread_mutex_lock(&own->lock);
    const weight_copy *p = find(a, form);
    pthread_mutex_unlock(&own->lock);
    assert(p && p->data);
    return (gpu_view){p->data, form.type};
}

gpu_view array_view(const array *a)
{
    if (!array_present(a)) return (gpu_view){NULL, DTYPE_F32};
    if (a->w) return weight_view(a, (weight_form){WEIGHT_OWN, a->w->type});
    return (gpu_view){buffer_data(a->memory, a->offset), a->type};
}

/* ---- copies ---- */

static bool is_trained(const array *a, weight_form form)
{
    return form.layout == WEIGHT_OWN && a->weights->memory;
}

/* Notes that there is to be such a copy. */
static bool want(cuda *c, const array *a, weight_form wanted, error *e)
{
    cuda_weights *own = a->weights->own;
    weight_form form = form_for(a->w, wanted);
    (void)c;
    if (is_trained(a, form) || find(a, form)) return true;
    weight_copy **list = &own->copies[a->w - a->weights->set.item], *p = calloc(1, sizeof *p);
    if (!p) return error_memory(e, a->w->name, sizeof *p);
    *p = (weight_copy){
        .next = *list, .form = form, .stale = true, .size = bytes_of(a->w, form.type)};
    *list = p;
    own->wanted += rounded(p->size);
    return true;
}

/* Gives a copy its memory, out of what all that have none take together. */
static bool place(cuda *c, cuda_weights *own, weight_copy *p, error *e)
{
    size_t size = rounded(p->size);
    block *b = own->blocks;
    if (!b || b->size - b->used < size) {
        void *data;
        b = calloc(1, sizeof *b);
        if (!b) return error_memory(e, "weights", sizeof *b);
        if (!gpu_alloc(&c->gpu, own->wanted, "weights", &data, e)) {
            free(b);
            return false;
        }
        *b = (block){.next = own->blocks, .data = data, .size = own->wanted};
        own->blocks = b;
    }
    p->data = b->data + b->used;
    b->used += size;
    own->bytes += size;
    own->wanted -= size;
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

/* A weight of the host in another form: it comes piece by piece, and is converted on the card. */
static bool convert_pieces(cuda *c, const array *a, pack_item whole, error *e)
{
    bool filter = whole.space > 1;
    int64_t rows = filter ? whole.out : whole.in; /* of what a piece can be cut from */
    size_t row = filter ? (size_t)(whole.in * whole.space) : 1;
    size_t from = row * dtype_size(a->w->type), to = row * dtype_size(whole.y.type);
    int64_t most = from < PIECE ? (int64_t)(PIECE / from) : 1;
    for (int64_t at = 0; at < rows; at += most) {
        int64_t count = rows - at < most ? rows - at : most;
        size_t size = (size_t)count * from;
        void *staging = cuda_lists(c, size, e);
        if (!staging ||
            !gpu_upload(&c->gpu, staging, (const char *)a->w->data + (size_t)at * from, size, e))
            return false;
        pack_item piece = whole;
        *(filter ? &piece.out : &piece.in) = count;
        piece.in_padded = piece.in;
        piece.x.data = staging;
        piece.y.data = (char *)whole.y.data + (size_t)at * to;
        pack_launch(&piece, c->gpu.stream);
        was_read(a, size);
    }
    return gpu_launched(&c->gpu, e);
}

/* What makes the copy, of data that lie at x */
static pack_item item_of(const weight *w, const weight_copy *p, void *x)
{
    pack_item item = {.x = {x, w->type},
                      .y = {p->data, p->form.type},
                      .out = 1,
                      .in = weight_elements(w),
                      .space = 1};
    if (p->form.layout == WEIGHT_FILTER) {
        item.out = w->dim[0];
        item.in = w->dim[1];
        item.space = w->dim[2] * w->dim[3];
    }
    if (item.space == 1) item.in *= item.out, item.out = 1;
    item.in_padded = item.in;
    return item;
}

static bool make(cuda *c, const array *a, weight_copy *p, error *e)
{
    if (p->form.layout != WEIGHT_OWN) return convert_pieces(c, a, item_of(a->w, p, NULL), e);
    was_read(a, p->size);
    return gpu_upload(&c->gpu, p->data, a->w->data, p->size, e);
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

bool cuda_weights_changing(cuda *c, device_weights *w, size_t i, gpu_view *copy, error *e)
{
    cuda_weights *own = w->own;
    pthread_mutex_lock(&own->lock);
    const weight_copy *p = own->copies[i];
    while (p && (p->form.layout != WEIGHT_TYPED || !p->data)) p = p->next;
    *copy = p ? (gpu_view){p->data, p->form.type} : (gpu_view){NULL, DTYPE_F32};
    bool ok = await_writer(c, own, e);
    pthread_mutex_unlock(&own->lock);
    return ok;
}

/* The copies of trained weights that are to be made, each with its memory; NULL, and the error. */
static pack_item *stale_items(cuda *c, const device_weights *s, int64_t *count, error *e)
{
    cuda_weights *own = s->own;
    size_t most = 1;
    *count = 0;
    for (size_t i = 0; i < s->set.count; i++)
        for (weight_copy *p = own->copies[i]; p; p = p->next, most++)
            if (!p->data && !place(c, own, p, e)) return NULL;
    pack_item *list = calloc(most, sizeof *list);
    if (!list) error_memory(e, "a list of weights", most * sizeof *list);
    for (size_t i = 0; list && i < s->set.count; i++) {
        const weight *w = &s->set.item[i];
        for (const weight_copy *p = own->copies[i]; p; p = p->next)
            if (p->stale) list[(*count)++] = item_of(w, p, trained_data(s, w));
    }
    return list;
}

/* Makes them in one launch: a graph that wants one will want most of the others. */
static bool make_stale(cuda *c, device_weights *s, error *e)
{
    cuda_weights *own = s->own;
    int64_t count;
    pack_item *list = stale_items(c, s, &count, e);
    if (!list) return false;
    size_t bytes = (size_t)count * sizeof *list;
    int64_t blocks = pack_list_place(list, count);
    void *memory = cuda_lists(c, bytes, e);
    bool ok = memory && gpu_upload(&c->gpu, memory, list, bytes, e);
    free(list);
    if (!ok) return false;
    pack_list_launch(memory, count, blocks, c->gpu.stream);
    if (!gpu_launched(&c->gpu, e) || !was_written(c, own, e)) return false;
    for (size_t i = 0; i < s->set.count; i++)
        for (weight_copy *p = own->copies[i]; p; p = p->next) p->stale = false;
    return true;
}

/* Makes the copy that was wanted, unless it is there. */
static bool fulfil(cuda *c, const array *a, weight_form wanted, error *e)
{
    cuda_weights *own = a->weights->own;
    weight_form form = form_for(a->w, wanted);
    if (!await_writer(c, own, e)) return false;
    if (is_trained(a, form)) return true;
    weight_copy *p = find(a, form);
    assert(p);
    if (!p->stale) return true;
    if (a->weights->memory) return make_stale(c, a->weights, e);
    if (!p->data && !place(c, own, p, e)) return false;
    bool ok = make(c, a, p, e) && was_written(c, own, e);
    p->stale = !ok;
    return ok;
}

/* Does it for every weight among the operands. */
static bool each(cuda *c, const op_step *steps, size_t count,
                 bool (*what)(cuda *c, const array *a, weight_form wanted, error *e), error *e)
{
    for (size_t k = 0; k < count; k++) {
        const op_call *call = steps[k].call;
        for (int i = 0; i < call->in_count; i++) {
            const array *a = &call->in[i];
            if (!a->w) continue;
            cuda_weights *own = a->weights->own;
            pthread_mutex_lock(&own->lock);
            bool ok = what(c, a, weight_form_of(call, i), e);
            pthread_mutex_unlock(&own->lock);
            if (!ok) return false;
        }
    }
    return true;
}

bool cuda_bind(device *d, const op_step *steps, size_t count, error *e)
{
    cuda *c = cuda_of(d);
    return gpu_enter(&c->gpu, e) && each(c, steps, count, want, e) &&
           each(c, steps, count, fulfil, e);
}
