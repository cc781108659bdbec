/* SPDX-License-Identifier: Apache-2.0
 *
 * arena: a list of chunks, each handed out from its start; nothing is freed singly. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024 - 64, ALIGNMENT = 16 };

typedef struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used;
    _Alignas(ALIGNMENT) unsigned char bytes[];
} arena_chunk;

void *arena_alloc(arena *a, size_t size)
{
    if (size > SIZE_MAX - sizeof(arena_chunk) - ALIGNMENT) return NULL;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size == 0) size = ALIGNMENT; /* every allocation has an address of its own */
    arena_chunk *first = a->first;
    if (!first || first->size - first->used < size) {
        size_t bytes = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        arena_chunk *fresh = calloc(1, sizeof *fresh + bytes);
        if (!fresh) return NULL;
        fresh->size = bytes;
        if (first && size > CHUNK_BYTES) { /* a big one goes behind: the first keeps its rest */
            fresh->used = size;
            fresh->next = first->next;
            first->next = fresh;
            return fresh->bytes;
        }
        fresh->next = first;
        a->first = first = fresh;
    }
    void *out = first->bytes + first->used;
    first->used += size;
    return out;
}

char *arena_strdup(arena *a, const char *text)
{
    size_t size = strlen(text) + 1;
    char *out = arena_alloc(a, size);
    if (out) memcpy(out, text, size);
    return out;
}

char *arena_format(arena *a, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    char *out = length < 0 ? NULL : arena_alloc(a, (size_t)length + 1);
    if (out) vsnprintf(out, (size_t)length + 1, format, again);
    va_end(again);
    va_end(args);
    return out;
}

void arena_free(arena *a)
{
    for (arena_chunk *c = a->first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    a->first = NULL;
}
