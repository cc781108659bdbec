/* SPDX-License-Identifier: Apache-2.0
 *
 * device: what is the same for every device: weight sets and whose copies of them are open, where
 * moments lie, the kinds of hardware there are. */
#include "device/device.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "device/plugin.h"

weight *weight_find(const weight_set *set, const char *name)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(set->item[middle].name, name);
        if (order == 0) return &set->item[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void weight_set_close(weight_set *set)
{
    free(set->item);
    if (set->storage_free && set->storage) set->storage_free(set->storage);
    *set = (weight_set){0};
}

static size_t moment_size(moment_kind kind)
{
    return kind == MOMENTS_8BIT ? 1 : kind == MOMENTS_F16 ? 2 : 4;
}

/* bytes of a part, up to where the next begins */
static size_t part_bytes(int64_t n, size_t size) { return ((size_t)n * size + 63) & ~(size_t)63; }

static int64_t moment_blocks(int64_t n) { return (n + MOMENTS_BLOCK - 1) / MOMENTS_BLOCK; }

size_t moments_bytes(moment_kind kind, int64_t n)
{
    size_t bytes = 2 * part_bytes(n, moment_size(kind));
    if (kind == MOMENTS_8BIT) bytes += 2 * part_bytes(moment_blocks(n), sizeof(float));
    return bytes;
}

void moments_place(moments *m, moment_kind kind, int64_t n, const buffer *memory, size_t at)
{
    size_t part = part_bytes(n, moment_size(kind));
    *m = (moments){.kind = kind, .count = n, .memory = memory, .m = at, .v = at + part};
    if (kind != MOMENTS_8BIT) return;
    m->absmax_m = at + 2 * part;
    m->absmax_v = m->absmax_m + part_bytes(moment_blocks(n), sizeof(float));
}

/* ---- memory as the host sees it ---- */

bool host_view_open(host_view *v, const buffer *b, error *e)
{
    *v = (host_view){.data = b->host, .size = b->size};
    if (v->data) return b->device->wait(b->device, e);
    v->data = v->copy = block_alloc(b->size);
    if (!v->copy) return error_memory(e, "a copy of a device's memory", b->size);
    if (b->device->download(b->device, b, 0, v->copy, b->size, e)) return true;
    host_view_close(v);
    return false;
}

void host_view_close(host_view *v)
{
    if (v->copy) block_free(v->copy, v->size);
    *v = (host_view){0};
}

/* ---- kinds of hardware ---- */

enum { KINDS_MOST = 8 };

static const device_kind *kinds[KINDS_MOST] = {&device_kind_cpu, &device_kind_cuda};
static int kind_count = 2;

void device_register(const device_kind *kind)
{
    assert(kind_count < KINDS_MOST);
    kinds[kind_count++] = kind;
}

const device_kind *device_kind_at(int i) { return i < kind_count ? kinds[i] : NULL; }

/* The GPU; where there is none that serves, the processor. */
static bool open_best(device **out, const device_options *o, error *e)
{
    error why = {0};
    if (device_kind_cuda.make(out, device_kind_cuda.name, o, &why)) return true;
    if (o->passed_over && plugin_is_there()) *o->passed_over = why;
    error failed = {0};
    if (device_kind_cpu.make(out, device_kind_cpu.name, o, &failed)) return true;
    bool wanted = o->precision == DTYPE_F16; /* a GPU's alone */
    return error_set(e, failed.code, "%s%s%s", failed.text, wanted ? "; cuda: " : "",
                     wanted ? why.text : "");
}

bool device_open(device **out, const char *name, const device_options *o, error *e)
{
    char known[256] = "auto";
    size_t length = strcspn(name, ":"), at = strlen(known);
    *out = NULL;
    if (strcmp(name, known) == 0) return open_best(out, o, e);
    for (int i = 0; i < kind_count; i++) {
        const char *kind = kinds[i]->name;
        if (strlen(kind) == length && memcmp(kind, name, length) == 0)
            return kinds[i]->make(out, name, o, e);
        if (at < sizeof known) at += (size_t)snprintf(known + at, sizeof known - at, ", %s", kind);
    }
    return error_set(e, ERROR_USAGE, "device %s is unknown: there is %s", name, known);
}

bool device_open_beside(device **out, device *first, int threads, error *e)
{
    assert(!first->first);
    *out = NULL;
    return first->beside(out, first, threads, e);
}

void device_close(device **d)
{
    if (!*d) return;
    assert(!(*d)->weights && "weights are closed before their device");
    (*d)->close(*d);
    *d = NULL;
}

/* ---- a device's copy of a weight set ---- */

static device *first_of(device *d) { return d->first ? d->first : d; }

static device_weights *weights_new(device *first, const weight_set *set, const buffer *memory,
                                   const size_t *at, error *e)
{
    device_weights *w = calloc(1, sizeof *w);
    if (!w) {
        error_memory(e, "a device's weights", sizeof *w);
        return NULL;
    }
    *w = (device_weights){.device = first, .set = *set, .memory = memory, .at = at, .shares = 1};
    if (first->weights_open && !first->weights_open(w, e)) {
        free(w);
        return NULL;
    }
    return w;
}

bool device_weights_open_in(device *d, const weight_set *set, const buffer *memory,
                            const size_t *at, device_weights **out, error *e)
{
    device *first = first_of(d);
    device_weights *below = NULL;
    *out = NULL;
    if (set->below && !device_weights_open(d, set->below, &below, e)) return false;
    pthread_mutex_lock(&first->lock);
    device_weights *w = first->weights;
    while (w && (w->set.item != set->item || w->set.count != set->count)) w = w->next;
    if (w) {
        w->shares++;
    } else if ((w = weights_new(first, set, memory, at, e))) {
        w->next = first->weights;
        first->weights = w;
        w->below = below;
        below = NULL;
    }
    pthread_mutex_unlock(&first->lock);
    device_weights_close(&below);
    *out = w;
    return w != NULL;
}

bool device_weights_open(device *d, const weight_set *set, device_weights **out, error *e)
{
    return device_weights_open_in(d, set, NULL, NULL, out, e);
}

void device_weights_close(device_weights **handle)
{
    device_weights *w = *handle;
    *handle = NULL;
    if (!w) return;
    device *first = w->device;
    pthread_mutex_lock(&first->lock);
    bool last = --w->shares == 0;
    if (last) {
        device_weights **at = &first->weights;
        while (*at != w) at = &(*at)->next;
        *at = w->next;
    }
    pthread_mutex_unlock(&first->lock);
    if (!last) return;
    if (first->weights_close) first->weights_close(w);
    device_weights_close(&w->below);
    free(w);
}

device_weights *device_weights_owner(device_weights *w, const weight **of)
{
    for (; w->below; w = w->below) {
        const weight *same = weight_find(&w->below->set, (*of)->name);
        if (!same || same->data != (*of)->data) break;
        *of = same;
    }
    return w;
}

bool device_weights_read(device *d, device_weights *w, size_t i, int64_t from, int64_t n,
                         float *out, error *e)
{
    enum { PIECE = 4096 };
    const weight *of = &w->set.item[i];
    size_t size = dtype_size(of->type);
    if (!w->memory) {
        convert_to_float(out, (const char *)of->data + (size_t)from * size, of->type, (size_t)n);
        return true;
    }
    for (int64_t at = 0; at < n; at += PIECE) {
        float piece[PIECE];
        size_t count = n - at < PIECE ? (size_t)(n - at) : PIECE;
        if (!d->download(d, w->memory, w->at[i] + (size_t)(from + at) * size, piece, count * size,
                         e))
            return false;
        convert_to_float(out + at, piece, of->type, count);
    }
    return true;
}

void device_weights_touch(device_weights *w, size_t i)
{
    if (w->device->weights_touch) w->device->weights_touch(w, i);
}

size_t device_weights_bytes(device_weights *w)
{
    return w->device->weights_bytes ? w->device->weights_bytes(w) : 0;
}

size_t device_copy_bytes(const device *d, const weight *w, weight_use use)
{
    return d->copy_bytes ? d->copy_bytes(d, w, use) : 0;
}
