/* SPDX-License-Identifier: Apache-2.0
 *
 * attention_half: attention whose operands are all of one half type, on the card's matrix units. The
 * next tile of keys and values is on its way while one is worked on. */
#include "device/cuda/attention_half.h"

#include "device/cuda/attention_tiles.h"

/* Over the 4 lanes of a row */
DEVICE float four_largest(float x)
{
    x = fmaxf(x, SHUFFLE_XOR(x, 1));
    return fmaxf(x, SHUFFLE_XOR(x, 2));
}

DEVICE float four_sum(float x)
{
    x += SHUFFLE_XOR(x, 1);
    return x + SHUFFLE_XOR(x, 2);
}

/* Scores of keys that are not there, or must not be seen: of rows from `row` on and keys from
 * `column` on */
template <int TILES>
DEVICE void hide(float (&s)[TILES][4], int row, int column, const attention_args &a)
{
    int lane = THREAD % WARP;
    UNROLL
    for (int j = 0; j < TILES; j++) {
        UNROLL
        for (int i = 0; i < 4; i++) {
            int m = column + j * 8 + lane % 4 * 2 + i % 2;
            if (m >= a.m || (a.causal && m > row + lane / 4 + i / 2 * 8)) s[j][i] = -INFINITY;
        }
    }
}

/* What a lane has of 16 rows: rows r * 8 + lane / 4; top: the largest score; sum: the lane's part */
template <int DEPTH> struct mixed_rows {
    float top[2], sum[2];
};

/* Scores into probabilities below the largest so far, and what was summed before to that scale */
template <int DEPTH, int TILES>
DEVICE void soften(float (&s)[TILES][4], float (&o)[DEPTH / 8][4], mixed_rows<DEPTH> &rows,
                   float scale)
{
    UNROLL
    for (int r = 0; r < 2; r++) {
        float most = rows.top[r], part = 0;
        UNROLL
        for (int j = 0; j < TILES; j++) most = fmaxf(most, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
        most = four_largest(most);
        float base = most > -INFINITY ? most * scale : 0.0f;
        float shrink = power_of_2(rows.top[r] * scale - base);
        UNROLL
        for (int j = 0; j < TILES; j++) {
            UNROLL
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                s[j][i] = power_of_2(s[j][i] * scale - base);
                part += s[j][i];
            }
        }
        rows.sum[r] = rows.sum[r] * shrink + part;
        rows.top[r] = most;
        UNROLL
        for (int c = 0; c < DEPTH / 8; c++) {
            o[c][2 * r] *= shrink;
            o[c][2 * r + 1] *= shrink;
        }
    }
}

template <int DEPTH, int WARPS, int TALL, int KEYS, bool BF16>
KERNEL THREADS_AT_MOST(WARPS *WARP) attention_half_kernel(attention_args a)
{
    enum { SIZE = WARPS * WARP, OWN = TALL * 16, QUERIES = WARPS * OWN, TILES = KEYS / 8 };
    enum { STRIDE = half_tile<DEPTH>::STRIDE, STAGE = 2 * KEYS * STRIDE }; /* keys and values */
    /* Queries are brought to where the second stage will be. */
    SHARED_ALIGNED(uint16_t, shared, STAGE + (QUERIES > 2 * KEYS ? QUERIES * STRIDE : STAGE));
    int first = BLOCK_X * QUERIES + THREAD / WARP * OWN; /* of the warp's */
    int head = BLOCK_Y;
    half_rows keys = half_rows_of(a.k, head, a.heads, a.m, a.depth);
    half_rows contents = half_rows_of(a.v, head, a.heads, a.m, a.depth);
    uint32_t q[TALL][half_tile<DEPTH>::STEPS][4];
    float o[TALL][DEPTH / 8][4] = {}, scale = a.alpha * LOG2_E;
    mixed_rows<DEPTH> rows[TALL];
    int end = a.causal && (BLOCK_X + 1) * QUERIES < a.m ? (BLOCK_X + 1) * QUERIES : (int)a.m;
    half_fetch<DEPTH, QUERIES, SIZE>(
        shared + STAGE, half_rows_of(a.q, head, a.heads, a.n, a.depth), BLOCK_X * QUERIES);
    half_fetch<DEPTH, KEYS, SIZE>(shared, keys, 0);
    half_fetch<DEPTH, KEYS, SIZE>(shared + KEYS * STRIDE, contents, 0);
    copies_wait();
    BARRIER();
    UNROLL
    for (int t = 0; t < TALL; t++) {
        left_load<DEPTH>(q[t], shared + STAGE + (THREAD / WARP * OWN + t * 16) * STRIDE);
        rows[t] = {{-INFINITY, -INFINITY}, {0, 0}};
    }
    for (int m = 0, stage = 0; m < end; m += KEYS, stage = STAGE - stage) {
        const uint16_t *k = shared + stage, *v = k + KEYS * STRIDE;
        float s[TALL][TILES][4] = {};
        copies_wait();
        BARRIER();
        if (m + KEYS < end) {
            uint16_t *next = shared + STAGE - stage;
            half_fetch<DEPTH, KEYS, SIZE>(next, keys, m + KEYS);
            half_fetch<DEPTH, KEYS, SIZE>(next + KEYS * STRIDE, contents, m + KEYS);
        }
        add_scores<DEPTH, TALL, TILES, BF16>(s, q, k);
        UNROLL
        for (int t = 0; t < TALL; t++) {
            if (m + KEYS > a.m || (a.causal && m + KEYS > first + t * 16 + 1))
                hide(s[t], first + t * 16, m, a);
            soften<DEPTH>(s[t], o[t], rows[t], scale);
        }
        add_mixed<DEPTH, TALL, TILES, BF16>(o, s, v);
    }
    BARRIER();
    UNROLL
    for (int t = 0; t < TALL; t++) {
        float factor[2];
        UNROLL
        for (int r = 0; r < 2; r++) {
            int row = first + t * 16 + THREAD % WARP / 4 + r * 8;
            float sum = four_sum(rows[t].sum[r]);
            factor[r] = 1.0f / sum;
            if (a.lse && row < a.n && THREAD % 4 == 0)
                a.lse[head * a.n + row] = rows[t].top[r] * a.alpha + logf(sum);
        }
        half_store<DEPTH, BF16>(a.o, half_rows_of(a.o, head, a.heads, a.n, a.depth), first + t * 16,
                                o[t], factor, shared + (THREAD / WARP * OWN + t * 16) * STRIDE);
    }
}

template <int DEPTH, int WARPS, int TALL, int KEYS>
static void half_run(const attention_args *a, gpu_stream stream)
{
    int64_t blocks = divided(a->n, WARPS * TALL * 16), heads = a->batch * a->heads;
    if (a->q.type == DTYPE_BF16)
        LAUNCH((attention_half_kernel<DEPTH, WARPS, TALL, KEYS, true>), blocks, heads, 1,
               WARPS * WARP, stream, *a);
    else
        LAUNCH((attention_half_kernel<DEPTH, WARPS, TALL, KEYS, false>), blocks, heads, 1,
               WARPS * WARP, stream, *a);
}

static bool is_half(gpu_view x, dtype type) { return x.type == type && type != DTYPE_F32; }

bool attention_half_launch(const attention_args *a, gpu_stream stream)
{
    dtype type = a->q.type;
    if (!is_half(a->q, type) || !is_half(a->k, type) || !is_half(a->v, type)) return false;
    if (!(a->alpha > 0) || a->n > INT32_MAX / 2 || a->m > INT32_MAX / 2) return false;
    if (a->depth <= 40)
        half_run<40, 4, 2, 64>(a, stream);
    else if (a->depth <= 64)
        half_run<64, 4, 2, 64>(a, stream);
    else if (a->depth <= 80)
        half_run<80, 4, 1, 64>(a, stream);
    else if (a->depth <= 128)
        half_run<128, 4, 1, 32>(a, stream);
    else
        half_run<160, 2, 1, 32>(a, stream);
    return true;
}
