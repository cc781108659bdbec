/* SPDX-License-Identifier: Apache-2.0
 *
 * memory: buffers on the processor, and the look for numbers in them that are not finite. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "device/cpu/cpu.h"

bool cpu_buffer_open(device *d, size_t size, const char *what, buffer *out, error *e)
{
    *out = (buffer){0};
    void *block = block_alloc(size);
    if (!block) return error_memory(e, what, size);
    *out = (buffer){.device = d, .handle = block, .size = size, .host = block};
    return true;
}

void cpu_buffer_close(buffer *b)
{
    if (b->handle) block_free(b->handle, b->size);
    *b = (buffer){0};
}

static bool within(const buffer *b, size_t at, size_t size)
{
    return b->handle && at <= b->size && size <= b->size - at;
}

bool cpu_upload(device *d, const buffer *to, size_t at, const void *from, size_t size, error *e)
{
    (void)d, (void)e;
    assert(within(to, at, size));
    memcpy(buffer_data(to, at), from, size);
    return true;
}

bool cpu_download(device *d, const buffer *from, size_t at, void *to, size_t size, error *e)
{
    (void)d, (void)e;
    assert(within(from, at, size));
    memcpy(to, buffer_data(from, at), size);
    return true;
}

bool cpu_copy(device *d, const buffer *to, size_t to_at, const buffer *from, size_t from_at,
              size_t size, error *e)
{
    (void)d, (void)e;
    assert(within(to, to_at, size) && within(from, from_at, size));
    memcpy(buffer_data(to, to_at), buffer_data(from, from_at), size);
    return true;
}

bool cpu_fill(device *d, const buffer *to, size_t at, float value, size_t count, error *e)
{
    (void)d, (void)e;
    assert(within(to, at, count * sizeof(float)));
    float *data = buffer_data(to, at);
    for (size_t i = 0; i < count; i++) data[i] = value;
    return true;
}

uint64_t cpu_memory_left(device *d)
{
    (void)d;
    return memory_available();
}

/* The index of the first of n numbers that is not finite, or -1. */
static int64_t first_bad(const void *data, dtype type, int64_t n, float *value)
{
    enum { PIECE = 1024 };
    float piece[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t count = n - at < PIECE ? n - at : PIECE;
        const char *from = (const char *)data + (size_t)at * dtype_size(type);
        convert_to_float(piece, from, type, (size_t)count);
        for (int64_t i = 0; i < count; i++)
            if (!isfinite(piece[i])) {
                *value = piece[i];
                return at + i;
            }
    }
    return -1;
}

bool cpu_find_bad(device *d, const array *list, size_t count, bad_value *found, error *e)
{
    (void)e;
    *found = (bad_value){.which = count, .index = -1};
    for (size_t i = 0; i < count; i++) {
        const array *a = &list[i];
        const void *data = a->w ? weight_data(a) : array_data(a);
        if (a->type != DTYPE_F32 && a->type != DTYPE_F16 && a->type != DTYPE_BF16) continue;
        if (a->type == DTYPE_F32 && isfinite(cpu_sum_squares(d, data, array_count(a)))) continue;
        found->index = first_bad(data, a->type, array_count(a), &found->value);
        if (found->index < 0) continue;
        found->which = i;
        return true;
    }
    return true;
}
