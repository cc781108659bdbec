/* SPDX-License-Identifier: Apache-2.0
 *
 * device: what is the same for every device: weight sets, where moments lie, closing. */
#include "device/device.h"

#include <stdlib.h>
#include <string.h>

int64_t weight_elements(const weight *w)
{
    int64_t n = 1;
    for (int i = 0; i < w->rank; i++) n *= w->dim[i];
    return n;
}

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
    for (size_t i = 0; i < set->count; i++) device_forget(&set->item[i]);
    free(set->item);
    if (set->storage_free) set->storage_free(set->storage);
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

void moments_place(moments *m, moment_kind kind, int64_t n, void *block)
{
    size_t part = part_bytes(n, moment_size(kind));
    char *at = block;
    *m = (moments){.kind = kind, .count = n, .m = at, .v = at + part};
    if (kind != MOMENTS_8BIT) return;
    at += 2 * part;
    m->absmax_m = (float *)(void *)at;
    m->absmax_v = (float *)(void *)(at + part_bytes(moment_blocks(n), sizeof(float)));
}

void device_close(device **d)
{
    if (*d) (*d)->close(*d);
    *d = NULL;
}
