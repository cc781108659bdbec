/* SPDX-License-Identifier: Apache-2.0
 *
 * attention: what attention.c (shapes, threads, scratch) and simd_attention.c (arithmetic) share.
 *
 * All work is done on one head. One side of a product is a strip of 12 rows; the other side is
 * walked in blocks of `block` rows that were packed once per head, in two forms:
 *   columns: [block][tile][depth][tile width]  rows lie across the vector: scores = strip x block^T
 *   rows:    [block][column tile][row][width]  channels lie across it: out += weights x block
 * Where products are bfloat16's, pairs of numbers are multiplied, two in the place of a float:
 * channels 2d and 2d + 1 of a row in place of channel d in the columns, rows i and i + half a tile
 * of every tile in place of row i in the rows.
 * The backward pass goes through the scores once: a part of the queries against all keys, with sums
 * for dk and dv of its own, so that no two threads ever add to the same place. */
#ifndef LIKENESS_DEVICE_CPU_ATTENTION_H
#define LIKENESS_DEVICE_CPU_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/types.h"

enum {
    ATTENTION_STRIP = 12,
    ATTENTION_STRIPS = 8,  /* most strips of one task: a block is fetched once for all of them */
    ATTENTION_BLOCK = 256, /* most rows of a block; what the scores of a strip are laid out for */
    /* Backward: keys of a block, whole tiles and strips of every set; queries at a time */
    ATTENTION_GRAD_BLOCK = 96,
    ATTENTION_GRAD_ROWS = 48,
};

/* The rows of one head in an activation [B,N,H*D]. */
typedef struct head_rows {
    void *data;     /* row 0, channel 0 of the head; NULL: not there */
    dtype type;     /* F32 or BF16 */
    int64_t stride; /* elements from row to row: H*D */
    int64_t count;  /* rows */
} head_rows;

/* Sizes of one packed side: rows padded to whole tiles, channels to whole vectors. */
typedef struct side {
    int64_t count; /* rows */
    int64_t block; /* rows of a block, a multiple of the tile */
    int64_t blocks;
} side;

typedef struct head_task {
    int64_t depth, depth_padded;
    float alpha;
    bool causal;
    bool pairs; /* of bfloat16 */
    side keys;
    head_rows q, k, v, o, d_o, d_q, d_k, d_v;
    float *lse; /* [N], NULL: not wanted */
    /* packs of this head */
    float *k_columns, *v_columns; /* v_columns, k_rows: backward */
    float *k_rows, *v_rows;
} head_task;

struct attention_kernels {
    int lanes; /* floats of a vector; a tile is two vectors */
    /* Packs one block; `out` is the block's own place. */
    void (*pack_columns)(const head_task *t, const head_rows *in, const side *s, int64_t block,
                         float *out);
    void (*pack_rows)(const head_task *t, const head_rows *in, const side *s, int64_t block,
                      float *out);
    /* Rows [begin, end), at most STRIPS * STRIP of them: o and lse. */
    void (*forward)(const head_task *t, int64_t begin, int64_t end, float *scratch);
    void (*forward_pairs)(const head_task *t, int64_t begin, int64_t end, float *scratch);
    /* Rows [begin, end), any number: dq, and their part of dk and dv (attention_part). */
    void (*backward)(const head_task *t, int64_t begin, int64_t end, float *d_kv, float *scratch);
    void (*backward_pairs)(const head_task *t, int64_t begin, int64_t end, float *d_kv,
                           float *scratch);
    /* dk and dv of a block of keys: the sum of all parts, which lie one after the other. */
    void (*backward_sum)(const head_task *t, int64_t block, float *d_kv, int parts);
};

/* Steps of a sum over the channels; rows in memory of a packed block of so many. */
static inline int64_t attention_steps(const head_task *t)
{
    return t->pairs ? (t->depth + 1) / 2 : t->depth;
}
static inline int64_t attention_rows(const head_task *t, int64_t rows)
{
    return t->pairs ? rows / 2 : rows;
}

/* Floats of one thread's scratch: inputs and outputs of strips, the table of scores, two sums. */
static inline int64_t attention_scratch(int64_t depth, int64_t depth_padded)
{
    int64_t rows = ATTENTION_STRIPS * ATTENTION_STRIP;
    return rows * (depth + depth_padded) + ATTENTION_STRIP * ATTENTION_BLOCK + 2 * rows;
}

/* Backward: strips and rows of q and do, dq, two tables, two numbers a row. */
static inline int64_t attention_grad_scratch(int64_t depth, int64_t depth_padded)
{
    return ATTENTION_GRAD_ROWS * (2 * depth + 3 * depth_padded + 2 * ATTENTION_GRAD_BLOCK + 2);
}

/* Floats of one part's sums for dk and dv: [block][2][GRAD_BLOCK][depth_padded]. */
static inline int64_t attention_part(const side *keys, int64_t depth_padded)
{
    return 2 * keys->blocks * ATTENTION_GRAD_BLOCK * depth_padded;
}

/* Where the packed block begins; where it ends up in the whole. */
static inline int64_t side_block_rows(const side *s, int64_t block)
{
    int64_t left = s->count - block * s->block;
    return left < s->block ? left : s->block;
}

#endif
