/* SPDX-License-Identifier: Apache-2.0
 *
 * device: what is the same for every device: weight sets, closing. */
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

void device_close(device **d)
{
    if (*d) (*d)->close(*d);
    *d = NULL;
}
