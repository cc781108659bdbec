/* SPDX-License-Identifier: Apache-2.0
 *
 * pack: weights as the checkpoint has them -> as products want them: another type, and filters
 * channels-last, their input channels padded with zeros. What is turned goes through shared memory a tile
 * at a time, so that memory is read and written in order. */
#include "device/cuda/lists.h"

/* A tile has all of a side that is at most NARROW long, and WIDE of the other; TILE of both otherwise. */
enum { NARROW = 16, WIDE = 256, TILE = 64, TILE_MOST = NARROW * WIDE };

HOST_DEVICE bool same_order(const pack_item &p) { return p.in == p.in_padded && (p.space == 1 || p.in == 1); }
HOST_DEVICE bool is_turned(const pack_item &p) { return p.in == p.in_padded && !same_order(p); }

/* How long a tile's side is */
HOST_DEVICE int tile_side(int64_t side, int64_t other)
{
    return side <= NARROW ? (int)side : other <= NARROW ? WIDE : TILE;
}

/* y's element i: [out, space, in_padded] */
DEVICE float packed_value(const pack_item &p, int64_t i)
{
    uint32_t padded = (uint32_t)p.in_padded, row = (uint32_t)i / padded, c = (uint32_t)i % padded;
    uint32_t o = row / (uint32_t)p.space, s = row % (uint32_t)p.space;
    if (c >= p.in) return 0;
    return load_one(p.x, ((int64_t)o * p.in + c) * p.space + s);
}

/* Elements [from, end) of y by the threads of a block; from is a multiple of 4. */
DEVICE void pack_span(const pack_item &p, int64_t from, int64_t end)
{
    if (!same_order(p)) {
        for (int64_t i = from + THREAD; i < end; i += BLOCK) store_one(p.y, i, packed_value(p, i));
        return;
    }
    bool aligned = ((uintptr_t)p.x.data | (uintptr_t)p.y.data) % 16 == 0; /* a mapped file's are not always */
    int64_t fours = aligned ? from + (end - from) / 4 * 4 : from;
    for (int64_t i = from + THREAD * 4; i < fours; i += BLOCK * 4) store<4>(p.y, i, load<4>(p.x, i));
    for (int64_t i = fours + THREAD; i < end; i += BLOCK) store_one(p.y, i, load_one(p.x, i));
}

/* i / by, for what a tile has: exact, being at least 0.5 / by away from where it would be another number */
struct quick_division {
    int by;
    float inverse;
    MEMBER int quotient(int i) const { return (int)(((float)i + 0.5f) * inverse); }
};

DEVICE quick_division divided_by(int by)
{
    quick_division d = {by, 1.0f / (float)by};
    return d;
}

/* x [channels, space] of a filter -> y [space, channels]; from channel c, space s on, `channels` by `space` */
struct tile {
    int64_t x, y; /* where its first element lies */
    int channels, space, stride;
};

DEVICE tile tile_of(const pack_item &p, int64_t block)
{
    int wide = tile_side(p.in, p.space), high = tile_side(p.space, p.in);
    uint32_t across = (uint32_t)((p.in + wide - 1) / wide), down = (uint32_t)((p.space + high - 1) / high);
    uint32_t o = (uint32_t)block / (across * down), within = (uint32_t)block % (across * down);
    int64_t c = (int64_t)(within / down) * wide, s = (int64_t)(within % down) * high;
    int64_t channels = p.in - c, space = p.space - s;
    return {(o * p.in + c) * p.space + s, (o * p.space + s) * p.in + c, (int)(channels < wide ? channels : wide),
            (int)(space < high ? space : high), high | 1};
}

/* Several at once, so that they are under way together: all that a thread has of a 3 x 3 filter's tile */
template <dtype TYPE> DEVICE void tile_read(const pack_item &p, const tile &t, float *numbers)
{
    enum { TOGETHER = 9 };
    const gpu_view x = {p.x.data, TYPE};
    quick_division row = divided_by(t.space);
    int count = t.channels * t.space;
    for (int i = THREAD; i < count; i += BLOCK * TOGETHER) {
        float v[TOGETHER];
        UNROLL
        for (int k = 0; k < TOGETHER; k++) {
            int at = i + k * BLOCK, c = row.quotient(at);
            v[k] = at < count ? load_one(x, t.x + (int64_t)c * p.space + (at - c * row.by)) : 0;
        }
        UNROLL
        for (int k = 0; k < TOGETHER; k++) {
            int at = i + k * BLOCK, c = row.quotient(at);
            if (at < count) numbers[c * t.stride + at - c * row.by] = v[k];
        }
    }
}

template <dtype TYPE> DEVICE void tile_write(const pack_item &p, const tile &t, const float *numbers)
{
    const gpu_view y = {p.y.data, TYPE};
    quick_division row = divided_by(t.channels);
    for (int i = THREAD; i < t.channels * t.space; i += BLOCK) {
        int s = row.quotient(i), c = i - s * row.by;
        store_one(y, t.y + (int64_t)s * p.in + c, numbers[c * t.stride + s]);
    }
}

DEVICE void pack_tile(const pack_item &p, int64_t block)
{
    SHARED(float, numbers, TILE_MOST + WIDE);
    tile t = tile_of(p, block);
    switch (p.x.type) {
    case DTYPE_F32: tile_read<DTYPE_F32>(p, t, numbers); break;
    case DTYPE_BF16: tile_read<DTYPE_BF16>(p, t, numbers); break;
    default: tile_read<DTYPE_F16>(p, t, numbers);
    }
    BARRIER();
    switch (p.y.type) {
    case DTYPE_F32: tile_write<DTYPE_F32>(p, t, numbers); return;
    case DTYPE_BF16: tile_write<DTYPE_BF16>(p, t, numbers); return;
    default: tile_write<DTYPE_F16>(p, t, numbers);
    }
}

DEVICE void pack_block(const pack_item &p, int64_t block)
{
    if (is_turned(p)) {
        pack_tile(p, block);
        return;
    }
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
    if (!is_turned(*p)) return divided(n, SPAN);
    return p->out * divided(p->in, tile_side(p->in, p->space)) * divided(p->space, tile_side(p->space, p->in));
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
