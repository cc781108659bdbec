/* SPDX-License-Identifier: Apache-2.0
 *
 * overlay: see overlay.h. */
#include "model/overlay.h"

#include <stdlib.h>
#include <string.h>

typedef struct overlay {
    weight_set below;
    arena memory;
} overlay;

static void overlay_free(void *p)
{
    overlay *o = p;
    weight_set_close(&o->below);
    arena_free(&o->memory);
    free(o);
}

static void overlay_drop(void *p)
{
    const overlay *o = p;
    if (o->below.storage_drop) o->below.storage_drop(o->below.storage);
}

bool weight_set_overlay(weight_set *set, arena *memory, error *e)
{
    overlay *o = calloc(1, sizeof *o);
    weight *item = malloc((set->count + 1) * sizeof *item);
    if (!o || !item) {
        free(o);
        free(item);
        return error_memory(e, "the weights of a model", set->count * sizeof *item);
    }
    if (set->count) memcpy(item, set->item, set->count * sizeof *item);
    *o = (overlay){*set, *memory};
    *memory = (arena){0};
    *set = (weight_set){item, o->below.count, o, overlay_free, overlay_drop, o->below.below};
    return true;
}
