/* SPDX-License-Identifier: Apache-2.0
 *
 * pack: weights as the checkpoint has them -> as products want them: another type, and filters
 * channels-last, their input channels padded with zeros. */
#include "device/cuda/lists.h"

/* y's element i: [out, space, in_padded] */
DEVICE float packed_value(const pack_item &p, int64_t i)
{
    uint32_t padded = (uint32_t)p.in_padded, row = (uint32_t)i / padded, c = (uint32_t)i % padded;
    uint32_t o = row / (uint32_t)p.space, s = row % (uint32_t)p.space;
    if (c >= p.in) return 0;
    return load_one(p.x, ((int64_t)o * p.in + c) * p.space + s);
}

DEVICE bool is_conversion(const pack_item &p)
{
    return p.space == 1 && p.in == p.in_padded && (p.out * p.in) % 4 == 0;
}

/* Elements [from, end) of y by the threads of a block; from is a multiple of 4. */
DEVICE void pack_span(const pack_item &p, int64_t from, int64_t end)
{
    bool aligned = ((uintptr_t)p.x.data | (uintptr_t)p.y.data) % 16 == 0; /* a mapped file's are not always */
    if (is_conversion(p) && aligned) {
        for (int64_t i = from + THREAD * 4; i < end; i += BLOCK * 4) store<4>(p.y, i, load<4>(p.x, i));
        return;
    }
    for (int64_t i = from + THREAD; i < end; i += BLOCK) store_one(p.y, i, packed_value(p, i));
}

DEVICE void pack_block(const pack_item &p, int64_t block)
{
    int64_t n = p.out * p.space * p.in_padded, from = block * SPAN;
    pack_span(p, from, from + SPAN < n ? from + SPAN : n);
}

KERNEL pack_kernel(pack_item p) { pack_block(p, BLOCK_X); }

KERNEL pack_list_kernel(const pack_item *list, int64_t count)
{
    const pack_item p = list[item_of(list, count, BLOCK_X)];
    pack_block(p, BLOCK_X - p.first_block);
}

static int64_t pack_blocks(const pack_item *p)
{
    int64_t n = p->out * p->space * p->in_padded;
    assert(n < INT32_MAX);
    return divided(n, SPAN);
}

void pack_launch(const pack_item *p, gpu_stream stream)
{
    LAUNCH(pack_kernel, pack_blocks(p), 1, 1, BLOCK, stream, *p);
}

int64_t pack_list_place(pack_item *list, int64_t count)
{
    int64_t blocks = 0;
    for (int64_t i = 0; i < count; i++) {
        list[i].first_block = blocks;
        blocks += pack_blocks(&list[i]);
    }
    return blocks;
}

void pack_list_launch(const pack_item *list, int64_t count, int64_t blocks, gpu_stream stream)
{
    if (blocks) LAUNCH(pack_list_kernel, blocks, 1, 1, BLOCK, stream, list, count);
}
