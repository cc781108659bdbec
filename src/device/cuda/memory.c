/* SPDX-License-Identifier: Apache-2.0
 *
 * memory: buffers on the card, what goes to and from them, and the look for numbers in them that
 * are not finite. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/half.h"
#include "device/cuda/cuda.h"

static bool within(const buffer *b, size_t at, size_t size)
{
    return b->handle && at <= b->size && size <= b->size - at;
}

bool cuda_buffer_open(device *d, size_t size, const char *what, buffer *out, error *e)
{
    const gpu *g = &cuda_of(d)->gpu;
    void *memory;
    *out = (buffer){0};
    if (!gpu_enter(g, e) || !gpu_alloc(g, size, what, &memory, e)) return false;
    *out = (buffer){.device = d, .handle = memory, .size = size};
    return true;
}

void cuda_buffer_close(buffer *b)
{
    if (b->handle) gpu_free(&cuda_of(b->device)->gpu, b->handle);
    *b = (buffer){0};
}

bool cuda_upload(device *d, const buffer *to, size_t at, const void *from, size_t size, error *e)
{
    const gpu *g = &cuda_of(d)->gpu;
    assert(within(to, at, size));
    return gpu_enter(g, e) && gpu_upload(g, buffer_data(to, at), from, size, e);
}

bool cuda_download(device *d, const buffer *from, size_t at, void *to, size_t size, error *e)
{
    const gpu *g = &cuda_of(d)->gpu;
    assert(within(from, at, size));
    return gpu_enter(g, e) && gpu_download(g, to, buffer_data(from, at), size, e);
}

/* A buffer of another queue: what that one was told comes first. */
static bool settled(device *d, const buffer *b, error *e)
{
    return b->device == d || gpu_wait(&cuda_of(b->device)->gpu, e);
}

bool cuda_copy(device *d, const buffer *to, size_t to_at, const buffer *from, size_t from_at,
               size_t size, error *e)
{
    const gpu *g = &cuda_of(d)->gpu;
    assert(within(to, to_at, size) && within(from, from_at, size));
    return gpu_enter(g, e) && settled(d, from, e) && settled(d, to, e) &&
           gpu_copy(g, buffer_data(to, to_at), buffer_data(from, from_at), size, e) &&
           (to->device == d || gpu_wait(g, e));
}

bool cuda_fill(device *d, const buffer *to, size_t at, float value, size_t count, error *e)
{
    const gpu *g = &cuda_of(d)->gpu;
    assert(within(to, at, count * sizeof(float)));
    if (!gpu_enter(g, e)) return false;
    fill_args a = {.y = {buffer_data(to, at), DTYPE_F32}, .count = (int64_t)count, .value = value};
    if (value == 0) return gpu_zero(g, a.y.data, count * sizeof(float), e);
    fill_launch(&a, g->stream);
    return gpu_launched(g, e);
}

uint64_t cuda_memory_left(device *d) { return gpu_memory_left(&cuda_of(d)->gpu); }

void *cuda_lists(cuda *c, size_t size, error *e)
{
    list_memory *m = &c->lists;
    if (m->size >= size) return m->data;
    size_t more = size + size / 2 + 65536;
    gpu_free(&c->gpu, m->data); /* whoever uses it has ended: freeing waits */
    *m = (list_memory){0};
    if (!gpu_alloc(&c->gpu, more, "lists of tensors", &m->data, e)) return NULL;
    m->size = more;
    return m->data;
}

/* ---- numbers that are not finite ---- */

static bool is_float(dtype t) { return t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16; }

/* The i-th number of x, as float32. */
static bool number_at(cuda *c, gpu_view x, int64_t i, float *out, error *e)
{
    size_t size = dtype_size(x.type);
    uint32_t bits = 0;
    if (!gpu_download(&c->gpu, &bits, (const char *)x.data + (size_t)i * size, size, e))
        return false;
    convert_to_float(out, &bits, x.type, 1);
    return true;
}

/* Where in the list on the card the first is; BAD_NONE: there is none. */
static bool find_in(cuda *c, tensor_item *item, int64_t count, uint64_t *found, error *e)
{
    size_t bytes = (size_t)count * sizeof *item;
    const uint64_t none = BAD_NONE;
    char *memory = cuda_lists(c, bytes + sizeof *found, e);
    if (!memory) return false;
    tensor_list list = {(const tensor_item *)(void *)memory, count, tensor_list_place(item, count)};
    uint64_t *to = (uint64_t *)(void *)(memory + bytes);
    if (!gpu_upload(&c->gpu, memory, item, bytes, e) ||
        !gpu_upload(&c->gpu, to, &none, sizeof none, e))
        return false;
    find_bad_launch(&list, to, c->gpu.stream);
    return gpu_launched(&c->gpu, e) && gpu_download(&c->gpu, found, to, sizeof *found, e);
}

/* A weight that the host has: its own bytes are looked at. */
static bool host_bad(const array *a, bad_value *found, size_t which)
{
    size_t size = dtype_size(a->w->type);
    for (int64_t i = 0, n = weight_elements(a->w); i < n; i++) {
        float value;
        convert_to_float(&value, (const char *)a->w->data + (size_t)i * size, a->w->type, 1);
        if (isfinite(value)) continue;
        *found = (bad_value){which, i, value};
        return true;
    }
    return false;
}

static bool is_host(const array *a) { return a->w && !a->weights->memory; }

bool cuda_find_bad(device *d, const array *list, size_t count, bad_value *found, error *e)
{
    cuda *c = cuda_of(d);
    uint64_t place = BAD_NONE;
    int64_t used = 0;
    *found = (bad_value){.which = count, .index = -1};
    tensor_item *item = calloc(count + 1, sizeof *item);
    size_t *which = calloc(count + 1, sizeof *which);
    bool ok = ((item && which) || error_memory(e, "a list of tensors", count * sizeof *item)) &&
              gpu_enter(&c->gpu, e);
    for (size_t i = 0; ok && i < count; i++) {
        if (!is_float(list[i].type) || !array_count(&list[i]) || is_host(&list[i])) continue;
        item[used] = (tensor_item){.data = array_view(&list[i]), .count = array_count(&list[i])};
        which[used++] = i;
    }
    ok = ok && (!used || find_in(c, item, used, &place, e));
    if (ok && place != BAD_NONE) {
        size_t at = (size_t)(place >> BAD_INDEX_BITS);
        found->which = which[at];
        found->index = (int64_t)(place & (((uint64_t)1 << BAD_INDEX_BITS) - 1));
        ok = number_at(c, item[at].data, found->index, &found->value, e);
    }
    for (size_t i = 0; ok && i < found->which; i++)
        if (is_host(&list[i]) && host_bad(&list[i], found, i)) break;
    free(item);
    free(which);
    return ok;
}
