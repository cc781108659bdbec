/* SPDX-License-Identifier: Apache-2.0
 *
 * lists: one launch over many tensors. Every tensor is cut into spans of as many elements, every
 * block takes one; a block finds its tensor by the number of its first block. */
#ifndef LIKENESS_DEVICE_CUDA_LISTS_H
#define LIKENESS_DEVICE_CUDA_LISTS_H

#include "device/cuda/values.h"

enum { SPAN = 8192 }; /* elements of a block */

/* The last item whose first_block is not after `block` */
template <typename Item> DEVICE int64_t item_of(const Item *item, int64_t count, int64_t block)
{
    int64_t low = 0, high = count;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (item[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Numbers the blocks of a list; empty items have none, and are never found: the next has the same
 * number. */
template <typename Item> static int64_t place_blocks(Item *list, int64_t count)
{
    int64_t blocks = 0;
    for (int64_t i = 0; i < count; i++) {
        list[i].first_block = blocks;
        blocks += divided(list[i].count, SPAN);
    }
    return blocks;
}

#endif
