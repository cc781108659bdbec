/* SPDX-License-Identifier: Apache-2.0
 *
 * arena: many small allocations that die together. */
#ifndef LIKENESS_BASE_ARENA_H
#define LIKENESS_BASE_ARENA_H

#include <stddef.h>

typedef struct arena {
    struct arena_chunk *first;
} arena; /* {0} is an empty arena */

/* Zeroed, 16-byte aligned; all three: NULL when memory is out. */
void *arena_alloc(arena *a, size_t size);
char *arena_strdup(arena *a, const char *text);
char *arena_format(arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_free(arena *a); /* frees everything; the arena is empty again */

#endif
