/* SPDX-License-Identifier: Apache-2.0
 *
 * attention_tiles: what attention and its gradient on the matrix units share: a head's rows into
 * shared memory and out again, and the two products of which all is made. A warp owns TALL times 16
 * rows and goes over tiles of the other side, which lie in shared memory as the tensors have them;
 * scores stay in registers, where they are the left side of the next product once they are halves.
 *
 * DEPTH is a multiple of 8; the last 8 channels of an odd one are products of half the length. */
#ifndef LIKENESS_DEVICE_CUDA_ATTENTION_TILES_H
#define LIKENESS_DEVICE_CUDA_ATTENTION_TILES_H

#include "device/cuda/values.h"

/* Exponentials are powers of 2, which the card has an instruction for. */
#define LOG2_E 1.4426950408889634f

/* Rows in shared memory are an odd number of 16 bytes apart: 8 of them meet all banks. */
template <int DEPTH> struct half_tile {
    enum { STRIDE = DEPTH / 8 % 2 ? DEPTH : DEPTH + 8, STEPS = (DEPTH + 8) / 16 };
};

/* Channels [0, depth) of one head: row r begins at data + r * stride. */
struct half_rows {
    uint16_t *data;
    int64_t at, stride; /* at: of row 0 in the whole tensor */
    int count, depth;
    bool wide; /* 16 bytes may be moved at once */
};

/* head: of all the batch's */
DEVICE half_rows half_rows_of(gpu_view x, int head, int64_t heads, int64_t count, int64_t depth)
{
    half_rows h;
    int item = head / (int)heads; /* a division of 64 bits takes far longer */
    h.at = (item * count * heads + head - item * heads) * depth;
    h.data = (uint16_t *)x.data + h.at;
    h.stride = heads * depth;
    h.count = (int)count;
    h.depth = (int)depth;
    h.wide = depth % 8 == 0 && (uintptr_t)x.data % 16 == 0;
    return h;
}

/* Begins to bring rows [from, from + ROWS) into shared memory [ROWS, STRIDE], zeros where there are
 * none. SIZE: threads of the block, a multiple of ROWS or a part of it */
template <int DEPTH, int ROWS, int SIZE>
DEVICE void half_fetch(uint16_t *to, const half_rows &h, int from)
{
    enum { EIGHTS = DEPTH / 8, STRIDE = half_tile<DEPTH>::STRIDE };
    enum { LANES = SIZE > ROWS ? SIZE / ROWS : 1, TURNS = ROWS * LANES / SIZE };
    UNROLL
    for (int turn = 0; turn < TURNS; turn++) {
        int row = THREAD / LANES + turn * (SIZE / LANES);
        bool inside = from + row < h.count;
        const uint16_t *at = h.data + (inside ? from + row : 0) * h.stride;
        UNROLL
        for (int k = 0; k < EIGHTS; k += LANES) {
            int c = (k + THREAD % LANES) * 8;
            if (EIGHTS % LANES && c >= DEPTH) continue;
            uint16_t *place = to + row * STRIDE + c;
            if (h.wide) {
                bool there = inside && c < h.depth;
                copy_start(place, there ? at + c : h.data, there);
                continue;
            }
            packed<uint16_t, 8> x = {};
            UNROLL
            for (int i = 0; i < 8; i++)
                if (inside && c + i < h.depth) x.v[i] = at[c + i];
            *(packed<uint16_t, 8> *)place = x;
        }
    }
}

/* The left side of products: 16 rows from `rows` on; of each step of 16 channels what a lane has of
 * it, of half a step the first two */
template <int DEPTH>
DEVICE void left_load(uint32_t (&a)[half_tile<DEPTH>::STEPS][4], const uint16_t *rows)
{
    int lane = THREAD % WARP;
    rows += lane % 16 * half_tile<DEPTH>::STRIDE;
    UNROLL
    for (int k = 0; k < DEPTH / 16; k++) matrix_load(a[k], rows + k * 16 + lane / 16 * 8);
    if (DEPTH % 16) matrix_load(a[DEPTH / 16], rows + DEPTH - 8);
}

/* s[t][j] += the products of the warp's 16 rows t with rows [8 j, 8 j + 8) of `other`, over all
 * channels */
template <int DEPTH, int TALL, int TILES, bool BF16>
DEVICE void add_scores(float (&s)[TALL][TILES][4],
                       const uint32_t (&a)[TALL][half_tile<DEPTH>::STEPS][4], const uint16_t *other)
{
    enum { STRIDE = half_tile<DEPTH>::STRIDE };
    int lane = THREAD % WARP;
    const uint16_t *at = other + (lane % 8 + lane / 16 * 8) * STRIDE + lane / 8 % 2 * 8;
    UNROLL
    for (int k = 0; k < DEPTH / 16; k++) {
        UNROLL
        for (int j = 0; j < TILES; j += 2) {
            uint32_t b[4];
            matrix_load(b, at + j * 8 * STRIDE + k * 16);
            UNROLL
            for (int t = 0; t < TALL; t++) {
                tensor_product<BF16>(s[t][j], a[t][k], b[0], b[1]);
                tensor_product<BF16>(s[t][j + 1], a[t][k], b[2], b[3]);
            }
        }
    }
    UNROLL
    for (int j = 0; j < (DEPTH % 16 ? TILES : 0); j += 4) {
        uint32_t b[4];
        matrix_load(b, other + (j * 8 + lane) * STRIDE + DEPTH - 8);
        UNROLL
        for (int t = 0; t < TALL; t++) {
            const uint32_t(&last)[4] = a[t][half_tile<DEPTH>::STEPS - 1];
            UNROLL
            for (int i = 0; i < 4; i++)
                tensor_product_short<BF16>(s[t][j + i], last[0], last[1], b[i]);
        }
    }
}

/* o[t] += p[t] [16, 8 TILES] times rows [0, 8 TILES) of `other`; o[t][c]: channels [8 c, 8 c + 8)
 */
template <int DEPTH, int TALL, int TILES, bool BF16>
DEVICE void add_mixed(float (&o)[TALL][DEPTH / 8][4], const float (&p)[TALL][TILES][4],
                      const uint16_t *other)
{
    enum { STRIDE = half_tile<DEPTH>::STRIDE, LAST = DEPTH / 8 - 1 };
    int lane = THREAD % WARP;
    uint32_t last[4] = {};
    UNROLL
    for (int j = 0; j < TILES; j += 2) {
        uint32_t a[TALL][4];
        UNROLL
        for (int t = 0; t < TALL; t++) {
            UNROLL
            for (int i = 0; i < 4; i++)
                a[t][i] = pair_bits<BF16>(p[t][j + i / 2][i % 2 * 2],
                                          p[t][j + i / 2][i % 2 * 2 + 1]);
        }
        UNROLL
        for (int c = 0; c + 1 < DEPTH / 8; c += 2) {
            uint32_t b[4];
            matrix_load_turned(b, other + (j * 8 + lane % 16) * STRIDE + c * 8 + lane / 16 * 8);
            UNROLL
            for (int t = 0; t < TALL; t++) {
                tensor_product<BF16>(o[t][c], a[t], b[0], b[1]);
                tensor_product<BF16>(o[t][c + 1], a[t], b[2], b[3]);
            }
        }
        if (DEPTH % 16 == 0) continue;
        if (j % 4 == 0) matrix_load_turned(last, other + (j * 8 + lane) * STRIDE + DEPTH - 8);
        UNROLL
        for (int t = 0; t < TALL; t++)
            tensor_product<BF16>(o[t][LAST], a[t], last[j % 4], last[j % 4 + 1]);
    }
}

/* 16 of a warp's rows, from `first` on of the head's and in shared memory at `place`, which is the
 * warp's own: each row of o times its factor, by way of there where that makes wide stores of it */
template <int DEPTH, bool BF16>
DEVICE void half_store(gpu_view y, const half_rows &h, int first, const float (&o)[DEPTH / 8][4],
                       const float (&factor)[2], uint16_t *place)
{
    enum { STRIDE = half_tile<DEPTH>::STRIDE, EIGHTS = DEPTH / 8 };
    int lane = THREAD % WARP, row = lane / 4, column = lane % 4 * 2;
    bool wide = h.wide && y.type == (BF16 ? DTYPE_BF16 : DTYPE_F16);
    bool even = h.depth % 2 == 0 && (uintptr_t)y.data % 8 == 0;
    UNROLL
    for (int c = 0; c < EIGHTS; c++) {
        UNROLL
        for (int r = 0; r < 2; r++) {
            float x0 = o[c][2 * r] * factor[r], x1 = o[c][2 * r + 1] * factor[r];
            int channel = c * 8 + column;
            int64_t at = h.at + (first + row + r * 8) * h.stride + channel;
            if (wide) {
                *(uint32_t *)(place + (row + r * 8) * STRIDE + channel) = pair_bits<BF16>(x0, x1);
                continue;
            }
            if (first + row + r * 8 >= h.count) continue;
            if (even && channel < h.depth) {
                values<2> pair = {{x0, x1}};
                store<2>(y, at, pair);
                continue;
            }
            if (channel < h.depth) store_one(y, at, x0);
            if (channel + 1 < h.depth) store_one(y, at + 1, x1);
        }
    }
    if (!wide) return;
    WARP_BARRIER();
    UNROLL
    for (int k = 0; k < EIGHTS; k += 2) {
        int c = (k + lane % 2) * 8;
        if (first + lane / 2 < h.count && c < h.depth)
            *(packed<uint16_t, 8> *)(h.data + (first + lane / 2) * h.stride + c) = *(
                const packed<uint16_t, 8> *)(place + lane / 2 * STRIDE + c);
    }
}

#endif
