/* SPDX-License-Identifier: Apache-2.0
 *
 * pack: a device_weights on the processor: the copies of weights in the forms kernels want. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "device/cpu/product.h"

enum {
    FORM_F32 = 0,
    SLAB_LEAST = 2 << 20,
    SLAB_MOST = 16 << 20,
    BLOCK_FROM = 4 << 20 /* a pack of this size has a block of its own */
};

/* Smaller packs lie side by side in slabs of huge pages, which are given back with the set: a small
 * model's packs by themselves would be thousands of pages to fault in and to unmap. */
typedef struct pack_slab {
    _Alignas(64) struct pack_slab *next;
    size_t size;
} pack_slab;

bool cpu_weights_open(device_weights *w, error *e)
{
    size_t bytes = sizeof(struct cpu_weights) + w->set.count * sizeof(_Atomic(weight_pack *));
    struct cpu_weights *own = w->own = calloc(1, bytes);
    if (!own) return error_memory(e, "a device's weights", bytes);
    pthread_mutex_init(&own->lock, NULL);
    return true;
}

void cpu_weights_close(device_weights *w)
{
    struct cpu_weights *own = w->own;
    for (size_t i = 0; i < w->set.count; i++)
        for (weight_pack *p = atomic_load(&own->packs[i]), *next; p; p = next) {
            next = p->next;
            weight_pack_free(p);
        }
    for (pack_slab *slab = own->slabs, *next; slab; slab = next) {
        next = slab->next;
        block_free(slab, slab->size);
    }
    pthread_mutex_destroy(&own->lock);
    free(own);
}

void cpu_weights_touch(device_weights *w, size_t i)
{
    struct cpu_weights *own = w->own;
    pthread_mutex_lock(&own->lock);
    for (weight_pack *p = atomic_load(&own->packs[i]); p; p = p->next) p->stale = true;
    pthread_mutex_unlock(&own->lock);
}

size_t cpu_weights_bytes(device_weights *w)
{
    struct cpu_weights *own = w->own;
    size_t bytes = 0;
    for (size_t i = 0; i < w->set.count; i++)
        for (const weight_pack *p = atomic_load(&own->packs[i]); p; p = p->next) bytes += p->size;
    return bytes;
}

static struct cpu_weights *weights_of(const array *a) { return a->weights->own; }

static _Atomic(weight_pack *) *list_of(const array *a)
{
    return &weights_of(a)->packs[a->w - a->weights->set.item];
}

void weight_lock(const array *a) { pthread_mutex_lock(&weights_of(a)->lock); }
void weight_unlock(const array *a) { pthread_mutex_unlock(&weights_of(a)->lock); }

weight_pack *weight_packs(const array *a)
{
    return atomic_load_explicit(list_of(a), memory_order_acquire);
}

weight_pack *weight_pack_find(const array *a, uint64_t form)
{
    weight_pack *p = weight_packs(a);
    while (p && p->form != form) p = p->next;
    return p;
}

/* NULL: there is no memory. */
static void *slab_take(struct cpu_weights *own, size_t size)
{
    pack_slab *slab = own->slabs;
    size = round_line(size + 1);
    if (!slab || slab->size - own->filled < size) {
        size_t room = slab ? 2 * slab->size : SLAB_LEAST;
        if (room > SLAB_MOST) room = SLAB_MOST;
        while (room < size + sizeof *slab) room *= 2;
        if (!(slab = block_alloc(room))) return NULL;
        *slab = (pack_slab){own->slabs, room};
        own->slabs = slab;
        own->filled = sizeof *slab;
    }
    void *data = (char *)slab + own->filled;
    own->filled += size;
    return data;
}

weight_pack *weight_pack_new(const array *a, uint64_t form, size_t size, error *e)
{
    weight_pack *p = calloc(1, sizeof *p);
    void *data = NULL;
    if (p) data = size >= BLOCK_FROM ? block_alloc(size) : slab_take(weights_of(a), size);
    if (!data) {
        free(p);
        error_memory(e, a->w->name, size);
        return NULL;
    }
    *p = (weight_pack){.form = form, .data = data, .size = size};
    return p;
}

void weight_pack_list(const array *a, weight_pack *p)
{
    p->next = weight_packs(a);
    atomic_store_explicit(list_of(a), p, memory_order_release);
}

void weight_pack_free(weight_pack *p)
{
    if (!p) return;
    if (p->close) p->close(p);
    if (p->size >= BLOCK_FROM) block_free(p->data, p->size);
    free(p);
}

void weight_was_copied(const device *d, const array *a)
{
    enum { DROP_EVERY = 256 << 20 };
    struct cpu_weights *own = weights_of(a);
    const weight_set *set = &a->weights->set;
    size_t size = dtype_size(a->w->type);
    if (d->compute != DTYPE_BF16 && dtype_size(d->weight_type) >= size) return;
    own->read += (size_t)weight_elements(a->w) * size;
    if (own->read < DROP_EVERY) return;
    own->read = 0;
    if (set->storage_drop) set->storage_drop(set->storage);
}

/* Whether the weight's own data serve as its float32 copy. */
static bool is_f32(const array *a)
{
    return a->w->type == DTYPE_F32 && (uintptr_t)weight_data(a) % sizeof(float) == 0;
}

static bool f32_bind_locked(const device *d, const array *a, error *e)
{
    weight_pack *p = weight_pack_find(a, FORM_F32);
    if (p && !p->stale) return true;
    size_t n = (size_t)weight_elements(a->w);
    bool fresh = !p;
    if (fresh) p = weight_pack_new(a, FORM_F32, n * sizeof(float), e);
    if (!p) return false;
    p->stale = false;
    convert_to_float(p->data, weight_data(a), a->w->type, n);
    if (fresh) weight_pack_list(a, p);
    weight_was_copied(d, a);
    return true;
}

bool weight_f32_bind(const device *d, const array *a, error *e)
{
    if (is_f32(a)) return true;
    weight_lock(a);
    bool ok = f32_bind_locked(d, a, e);
    weight_unlock(a);
    return ok;
}

const float *weight_f32(const array *a)
{
    return is_f32(a) ? weight_data(a) : weight_pack_find(a, FORM_F32)->data;
}

/* ---- panels ---- */

enum {
    KEEP_BELOW = 512 * 1024,     /* numbers of a weight; more than that is packed while used */
    KEEP_F16_BELOW = 768 * 1024, /* of one whose panels are float16 */
    PIECE = 8192                 /* numbers packed at a time on their way to a half type */
};

/* Where the weight is float16 its panels are too: the same numbers, and a small network stays in
 * the last cache from step to step. */
static dtype type_of_panels(const struct product_kernels *kernel, const weight *w, dtype pack_type)
{
    bool halves = pack_type == DTYPE_F32 && w->type == DTYPE_F16 && kernel->reads_f16;
    return halves ? DTYPE_F16 : pack_type;
}

dtype panels_type(const struct product_kernels *kernel, const array *w, const product *p)
{
    return type_of_panels(kernel, w->w, p->pack_type);
}

/* Whether a large weight has packs: those of what is trained, where products are bfloat16's, would
 * be used once or twice before it changes, and with the transposed ones take as much as the weight:
 * Winograd and the direct product read the weight itself, oneDNN's are made in the run. */
static bool large_are_kept(const device *d, const weight *w, bool trained, dtype type)
{
    if (type == DTYPE_F16) return weight_elements(w) < KEEP_F16_BELOW;
    return !(trained && d->compute == DTYPE_BF16) && dtype_size(type) < dtype_size(w->type);
}

/* What gradients pass through has panels for the product by its transpose too. */
size_t cpu_copy_bytes(const device *d, const weight *w, weight_use use)
{
    bool trained = use == WEIGHT_TRAINED;
    size_t n = (size_t)weight_elements(w);
    dtype type = type_of_panels(cpu_kernels_of(d)->product, w, d->weight_type);
    if (w->rank < 2) return w->type == DTYPE_F32 ? 0 : n * sizeof(float);
    bool kept = n < KEEP_BELOW || large_are_kept(d, w, trained, type) ||
                (d->compute == DTYPE_BF16 && !trained); /* oneDNN's are of every type */
    return kept ? (use == WEIGHT_READ ? 1 : 2) * n * dtype_size(type) : 0;
}

bool panels_may_be_made(const product *p) { return p->o * p->c * product_taps(p) >= KEEP_BELOW; }

static bool are_kept(const device *d, const array *w, const product *p)
{
    return !panels_may_be_made(p) || large_are_kept(d, w->w, w->weights->memory != NULL,
                                                    panels_type(cpu_kernels_of(d)->product, w, p));
}

/* The job of k [k, k + count) of one panel. */
static struct pack_job job_of(const array *w, const product *p, int nr, int64_t panel, int64_t k,
                              int64_t count)
{
    int taps = product_taps(p);
    int64_t n = panel * nr, row = (p->transposed ? p->o : p->c) * taps;
    int64_t from = p->transposed ? k * row + n * taps : n * row + k * taps;
    return (struct pack_job){
        .w = (const char *)weight_data(w) + (size_t)from * dtype_size(w->w->type),
        .type = w->w->type,
        .row = row,
        .columns = p->o - n < nr ? p->o - n : nr,
        .count = count,
        .taps = taps,
        .transposed = p->transposed,
    };
}

void panels_make(const struct product_kernels *kernel, float *out, const array *w, const product *p,
                 int64_t panel, int64_t k, int64_t count)
{
    struct pack_job job = job_of(w, p, kernel->nr, panel, k, count);
    job.out = out;
    job.tap_stride = count * kernel->nr;
    kernel->pack(&job);
}

/* One whole panel, as bfloat16 or float16. */
static void panel_narrow(const struct product_kernels *kernel, uint16_t *out, dtype type,
                         const array *w, const product *p, int64_t panel)
{
    void (*narrow)(uint16_t *, const float *, int64_t) = type == DTYPE_F16 ? kernel->halve
                                                                           : kernel->narrow;
    float piece[PIECE];
    int64_t nr = kernel->nr, taps = product_taps(p), step = PIECE / (taps * nr);
    for (int64_t k = 0; k < p->c; k += step) {
        int64_t count = p->c - k < step ? p->c - k : step;
        panels_make(kernel, piece, w, p, panel, k, count);
        for (int64_t tap = 0; tap < taps; tap++)
            narrow(out + (tap * p->c + k) * nr, piece + tap * count * nr, count * nr);
    }
}

typedef struct panels_job {
    const struct product_kernels *kernel;
    const array *w;
    const product *p;
    weight_pack *pack;
    dtype type;
    int64_t panels, one; /* numbers of a panel */
    int pieces;
} panels_job;

static void panels_piece(void *context, int piece, int worker)
{
    (void)worker;
    const panels_job *j = context;
    int64_t i, end;
    piece_range(j->panels, 1, piece, j->pieces, &i, &end);
    for (; i < end; i++) {
        if (j->type != DTYPE_F32)
            panel_narrow(j->kernel, (uint16_t *)j->pack->data + i * j->one, j->type, j->w, j->p, i);
        else
            panels_make(j->kernel, (float *)j->pack->data + i * j->one, j->w, j->p, i, 0, j->p->c);
    }
}

static bool panels_bind_locked(const device *d, const array *w, const product *p, error *e)
{
    panels_job j = {
        .kernel = cpu_kernels_of(d)->product, .w = w, .p = p, .pack = weight_pack_find(w, p->form)};
    if (j.pack && !j.pack->stale) return true;
    j.panels = (p->o + j.kernel->nr - 1) / j.kernel->nr;
    j.one = product_taps(p) * p->c * j.kernel->nr;
    j.type = panels_type(j.kernel, w, p);
    size_t bytes = (size_t)(j.panels * j.one) * dtype_size(j.type);
    bool fresh = !j.pack;
    if (fresh) j.pack = weight_pack_new(w, p->form, bytes, e);
    if (!j.pack) return false;
    j.pack->stale = false;
    assert(product_taps(p) * j.kernel->nr <= PIECE);
    j.pieces = cpu_pieces(d, j.panels * j.one);
    cpu_deal(d, j.panels * j.one, j.pieces, panels_piece, &j);
    if (fresh) weight_pack_list(w, j.pack);
    weight_was_copied(d, w);
    return true;
}

bool panels_bind(const device *d, const array *w, const product *p, error *e)
{
    if (!are_kept(d, w, p)) return true;
    weight_lock(w);
    bool ok = panels_bind_locked(d, w, p, e);
    weight_unlock(w);
    return ok;
}

const void *panels_of(const array *w, const product *p)
{
    const weight_pack *pack = weight_pack_find(w, p->form);
    return pack ? pack->data : NULL;
}
