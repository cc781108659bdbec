/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_attention: packing, the two small matrix products, softmax and its gradient of attention,
 * for a few strips of rows of one head (see attention.h). */
#include "device/cpu/attention.h"

#include <math.h>

#include "device/cpu/simd.h"
#include "device/cpu/simd_math.h"

enum {
    STRIP = ATTENTION_STRIP,
    BLOCK = ATTENTION_BLOCK,
    TILE = 2 * LANES,
    TILE_ROWS = LANES == 16 ? 12 : 6, /* rows of sums held in registers at once */
    DEPTH_PART = 128,
    AHEAD = 8,
};
#define LOG2_E 1.44269504088896340736f
#define LN_2 0.69314718055994530942f

static int64_t round_tile(int64_t n) { return (n + TILE - 1) / TILE * TILE; }

/* Element i of an activation; bfloat16 is the upper half of a float32. */
SIMD float load_as(const void *p, dtype type, int64_t i)
{
    if (type == DTYPE_F32) return ((const float *)p)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void pack_columns(const head_task *t, const head_rows *in, const side *s, int64_t block,
                         float *out)
{
    int64_t rows = side_block_rows(s, block), padded = round_tile(rows), depth = t->depth;
    for (int64_t j = 0; j < padded; j++) {
        float *to = out + j / TILE * TILE * depth + j % TILE;
        int64_t from = (block * s->block + j) * in->stride;
        if (j >= rows)
            for (int64_t d = 0; d < depth; d++) to[d * TILE] = 0;
        else if (in->type == DTYPE_F32)
            for (int64_t d = 0; d < depth; d++) to[d * TILE] = ((const float *)in->data)[from + d];
        else
            for (int64_t d = 0; d < depth; d++)
                to[d * TILE] = load_as(in->data, DTYPE_BF16, from + d);
    }
}

static void pack_rows(const head_task *t, const head_rows *in, const side *s, int64_t block,
                      float *out)
{
    int64_t rows = side_block_rows(s, block), padded = round_tile(rows);
    for (int64_t j = 0; j < padded; j++)
        for (int64_t d = 0; d < t->depth_padded; d += LANES) {
            int64_t c = d / TILE * TILE, left = t->depth - d;
            int64_t width = t->depth_padded - c < TILE ? LANES : TILE;
            int64_t from = (block * s->block + j) * in->stride + d;
            vf v = j >= rows       ? vf_zero()
                   : left >= LANES ? vf_load_as(in->data, in->type, from)
                                   : vf_load_as_n(in->data, in->type, from, left);
            vf_store(out + c * padded + j * width + d - c, v);
        }
}

static void pack_stats(const head_task *t, int64_t block)
{
    int64_t rows = side_block_rows(&t->queries, block), padded = round_tile(rows);
    for (int64_t j = 0; j < padded; j++) {
        int64_t n = block * t->queries.block + j;
        float sum = 0;
        for (int64_t d = 0; j < rows && d < t->depth; d++)
            sum += load_as(t->d_o.data, t->d_o.type, n * t->d_o.stride + d) *
                   load_as(t->o.data, t->o.type, n * t->o.stride + d);
        t->delta[n] = sum;
        t->lse2[n] = j < rows ? t->lse[n] * LOG2_E : 0;
    }
}

/* Rows of a head lie far apart, where the processor does not foresee them. */
static void fetch_row(const head_task *t, const head_rows *in, int64_t from)
{
    int64_t size = in->type == DTYPE_F32 ? 4 : 2;
    const char *p = (const char *)in->data + from * size;
    for (int64_t i = 0; i < t->depth * size; i += 64) __builtin_prefetch(p + i);
}

/* Rows [begin, end) as strips [depth][12], scaled; rows past the end are zero. */
static void pack_strips(const head_task *t, const head_rows *in, int64_t begin, int64_t end,
                        float scale, float *out)
{
    for (int64_t n = begin; n < end; n += STRIP, out += STRIP * t->depth)
        for (int r = 0; r < STRIP; r++) {
            int64_t from = (n + r) * in->stride;
            const float *f = (const float *)in->data + from;
            if (n + r + AHEAD < end) fetch_row(t, in, from + AHEAD * in->stride);
            if (n + r >= end)
                for (int64_t d = 0; d < t->depth; d++) out[d * STRIP + r] = 0;
            else if (in->type == DTYPE_F32)
                for (int64_t d = 0; d < t->depth; d++) out[d * STRIP + r] = f[d] * scale;
            else
                for (int64_t d = 0; d < t->depth; d++)
                    out[d * STRIP + r] = load_as(in->data, DTYPE_BF16, from + d) * scale;
        }
}

/* Products [12][depth_padded] of strips to the activation's rows, each row times scale[row]. */
static void unpack_strips(const head_task *t, const head_rows *out, int64_t begin, int64_t end,
                          const float *scale, const float *in)
{
    if (!out->data) return; /* a gradient that is not wanted */
    for (int64_t n = begin; n < end; n++, in += t->depth_padded) {
        vf s = vf_set(scale ? scale[n - begin] : 1.0f);
        for (int64_t d = 0; d < t->depth; d += LANES) {
            vf v = vf_load(in + d) * s;
            if (t->depth - d >= LANES)
                vf_store_as(out->data, out->type, n * out->stride + d, v);
            else
                vf_store_as_n(out->data, out->type, n * out->stride + d, v, t->depth - d);
        }
    }
}

/* out [12][BLOCK] = strip [depth][12]^T x block, `rows` (whole tiles) columns of it. A long depth
 * is cut so that its part of the strip stays in the first-level cache. */
static void scores(const float *strip, const float *block, int64_t depth, int64_t rows, float *out)
{
    for (int64_t from = 0; from < depth; from += DEPTH_PART) {
        int64_t part = depth - from < DEPTH_PART ? depth - from : DEPTH_PART;
        for (int64_t j = 0; j < rows; j += TILE)
            for (int i = 0; i < STRIP; i += TILE_ROWS) {
                const float *a = strip + from * STRIP + i, *b = block + j * depth + from * TILE;
                float *o = out + i * BLOCK + j;
                vf sum[TILE_ROWS][2] = {{{0}}};
                for (int64_t d = 0; d < part; d++, a += STRIP, b += TILE) {
                    vf b0 = vf_load(b), b1 = vf_load(b + LANES);
#pragma GCC unroll 12
                    for (int r = 0; r < TILE_ROWS; r++) {
                        vf ar = vf_set(a[r]);
                        sum[r][0] = vf_fma(ar, b0, sum[r][0]);
                        sum[r][1] = vf_fma(ar, b1, sum[r][1]);
                    }
                }
#pragma GCC unroll 12
                for (int r = 0; r < TILE_ROWS; r++, o += BLOCK) {
                    if (from > 0) {
                        sum[r][0] += vf_load(o);
                        sum[r][1] += vf_load(o + LANES);
                    }
                    vf_store(o, sum[r][0]);
                    vf_store(o + LANES, sum[r][1]);
                }
            }
    }
}

/* out [12][width] += weights [12][BLOCK] x block, `rows` rows of it (`padded` in memory) */
static void accumulate(const float *weights, const float *block, int64_t rows, int64_t padded,
                       int64_t width, float *out)
{
    int64_t c = 0;
    for (; c + TILE <= width; c += TILE)
        for (int i = 0; i < STRIP; i += TILE_ROWS) {
            vf sum[TILE_ROWS][2];
            float *o = out + i * width + c;
#pragma GCC unroll 12
            for (int r = 0; r < TILE_ROWS; r++) {
                sum[r][0] = vf_load(o + r * width);
                sum[r][1] = vf_load(o + r * width + LANES);
            }
            const float *a = weights + i * BLOCK, *b = block + c * padded;
            for (int64_t j = 0; j < rows; j++, a++, b += TILE) {
                vf b0 = vf_load(b), b1 = vf_load(b + LANES);
#pragma GCC unroll 12
                for (int r = 0; r < TILE_ROWS; r++) {
                    vf ar = vf_set(a[r * BLOCK]);
                    sum[r][0] = vf_fma(ar, b0, sum[r][0]);
                    sum[r][1] = vf_fma(ar, b1, sum[r][1]);
                }
            }
#pragma GCC unroll 12
            for (int r = 0; r < TILE_ROWS; r++) {
                vf_store(o + r * width, sum[r][0]);
                vf_store(o + r * width + LANES, sum[r][1]);
            }
        }
    if (c == width) return;
    vf sum[STRIP]; /* one vector of channels is left */
#pragma GCC unroll 12
    for (int r = 0; r < STRIP; r++) sum[r] = vf_load(out + r * width + c);
    const float *a = weights, *b = block + c * padded;
    for (int64_t j = 0; j < rows; j++, a++, b += LANES) {
        vf b0 = vf_load(b);
#pragma GCC unroll 12
        for (int r = 0; r < STRIP; r++) sum[r] = vf_fma(vf_set(a[r * BLOCK]), b0, sum[r]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < STRIP; r++) vf_store(out + r * width + c, sum[r]);
}

/* Keys of this block that a query sees; `rows` where there is no mask. */
static int64_t visible(const head_task *t, int64_t query, int64_t key0, int64_t rows)
{
    if (!t->causal) return rows;
    int64_t seen = query - key0 + 1;
    return seen < 0 ? 0 : seen < rows ? seen : rows;
}

/* Online softmax of one row of logits (base 2) against the running maximum and sum; the row becomes
 * weights, and the factor for what was summed before is returned. */
static float softmax_row(float *row, int64_t seen, int64_t padded, float *top, float *total)
{
    for (int64_t j = seen; j < padded; j++) row[j] = -INFINITY;
    vf m0 = vf_set(*top), m1 = m0;
    for (int64_t j = 0; j < padded; j += TILE) {
        m0 = vf_max(m0, vf_load(row + j));
        m1 = vf_max(m1, vf_load(row + j + LANES));
    }
    float now = vf_hmax(vf_max(m0, m1));
    vf shift = vf_set(now), s0 = vf_zero(), s1 = vf_zero();
    for (int64_t j = 0; j < padded; j += TILE) {
        vf p0 = vf_exp2(vf_load(row + j) - shift), p1 = vf_exp2(vf_load(row + j + LANES) - shift);
        vf_store(row + j, p0);
        vf_store(row + j + LANES, p1);
        s0 += p0;
        s1 += p1;
    }
    float factor = *top == now ? 1.0f : exp2f(*top - now);
    *total = *total * factor + vf_sum(s0 + s1);
    *top = now;
    return factor;
}

static void scale_row(float *row, int64_t width, float factor)
{
    for (int64_t i = 0; i < width; i += LANES) vf_store(row + i, vf_load(row + i) * vf_set(factor));
}

static void forward(const head_task *t, int64_t begin, int64_t end, float *scratch)
{
    int64_t strips = (end - begin + STRIP - 1) / STRIP, width = t->depth_padded;
    float *q = scratch, *o = q + strips * STRIP * t->depth, *table = o + strips * STRIP * width;
    float *top = table + STRIP * BLOCK, *total = top + strips * STRIP;
    pack_strips(t, &t->q, begin, end, t->alpha * LOG2_E, q);
    for (int64_t i = 0; i < strips * STRIP * width; i++) o[i] = 0;
    for (int64_t i = 0; i < strips * STRIP; i++) top[i] = -INFINITY, total[i] = 0;

    for (int64_t b = 0; b < t->keys.blocks; b++) {
        int64_t key0 = b * t->keys.block, rows = side_block_rows(&t->keys, b);
        int64_t padded = round_tile(rows);
        for (int64_t s = 0; s < strips; s++) {
            int64_t n = begin + s * STRIP;
            if (visible(t, n + STRIP - 1, key0, rows) == 0) continue;
            scores(q + s * STRIP * t->depth, t->k_columns + key0 * t->depth, t->depth, padded,
                   table);
            for (int r = 0; r < STRIP; r++) {
                int64_t at = s * STRIP + r;
                float factor = softmax_row(table + r * BLOCK, visible(t, n + r, key0, rows), padded,
                                           top + at, total + at);
                if (factor != 1.0f) scale_row(o + at * width, width, factor);
            }
            accumulate(table, t->v_rows + key0 * width, rows, padded, width, o + s * STRIP * width);
        }
    }
    for (int64_t n = begin; n < end; n++) {
        if (t->lse) t->lse[n] = (top[n - begin] + log2f(total[n - begin])) * LN_2;
        total[n - begin] = 1.0f / total[n - begin];
    }
    unpack_strips(t, &t->o, begin, end, total, o);
}

/* dq = ds x k, ds = p * (dp - delta) * alpha, p = 2^(scores - lse2), dp = do x v^T */
static void backward_q(const head_task *t, int64_t begin, int64_t end, float *scratch)
{
    int64_t strips = (end - begin + STRIP - 1) / STRIP, width = t->depth_padded, depth = t->depth;
    int64_t strip_size = STRIP * depth;
    float *q = scratch, *d_o = q + strips * strip_size, *d_q = d_o + strips * strip_size;
    float *p = d_q + strips * STRIP * width, *d_p = p + STRIP * BLOCK;
    pack_strips(t, &t->q, begin, end, t->alpha * LOG2_E, q);
    pack_strips(t, &t->d_o, begin, end, 1.0f, d_o);
    for (int64_t i = 0; i < strips * STRIP * width; i++) d_q[i] = 0;

    for (int64_t b = 0; b < t->keys.blocks; b++) {
        int64_t key0 = b * t->keys.block, rows = side_block_rows(&t->keys, b);
        int64_t padded = round_tile(rows);
        for (int64_t s = 0; s < strips; s++) {
            int64_t n0 = begin + s * STRIP;
            if (visible(t, n0 + STRIP - 1, key0, rows) == 0) continue;
            scores(q + s * strip_size, t->k_columns + key0 * depth, depth, padded, p);
            scores(d_o + s * strip_size, t->v_columns + key0 * depth, depth, padded, d_p);
            for (int r = 0; r < STRIP; r++) {
                int64_t n = n0 + r < end ? n0 + r : end - 1; /* rows past the end are thrown away */
                int64_t seen = visible(t, n, key0, rows);
                float *row = p + r * BLOCK;
                for (int64_t j = 0; j < padded; j += LANES) {
                    vf w = vf_exp2(vf_load(row + j) - vf_set(t->lse2[n])) * vf_set(t->alpha);
                    vf_store(row + j, w * (vf_load(d_p + r * BLOCK + j) - vf_set(t->delta[n])));
                }
                for (int64_t j = seen; j < padded; j++) row[j] = 0;
            }
            accumulate(p, t->k_rows + key0 * width, rows, padded, width, d_q + s * STRIP * width);
        }
    }
    unpack_strips(t, &t->d_q, begin, end, NULL, d_q);
}

/* Strips are keys, blocks are queries: dv = p^T x do, dk = ds^T x q. */
static void backward_kv(const head_task *t, int64_t begin, int64_t end, float *scratch)
{
    int64_t strips = (end - begin + STRIP - 1) / STRIP, width = t->depth_padded, depth = t->depth;
    int64_t strip_size = STRIP * depth, out_size = STRIP * width;
    float *k = scratch, *v = k + strips * strip_size, *d_k = v + strips * strip_size;
    float *d_v = d_k + strips * out_size, *p = d_v + strips * out_size, *d_p = p + STRIP * BLOCK;
    pack_strips(t, &t->k, begin, end, t->alpha * LOG2_E, k);
    pack_strips(t, &t->v, begin, end, 1.0f, v);
    for (int64_t i = 0; i < 2 * strips * out_size; i++) d_k[i] = 0;

    for (int64_t b = 0; b < t->queries.blocks; b++) {
        int64_t n0 = b * t->queries.block, rows = side_block_rows(&t->queries, b);
        int64_t padded = round_tile(rows);
        for (int64_t s = 0; s < strips; s++) {
            int64_t m0 = begin + s * STRIP;
            if (t->causal && n0 + rows <= m0) continue;
            scores(k + s * strip_size, t->q_columns + n0 * depth, depth, padded, p);
            scores(v + s * strip_size, t->do_columns + n0 * depth, depth, padded, d_p);
            for (int r = 0; r < STRIP; r++) {
                int64_t unseen = t->causal && m0 + r > n0 ? m0 + r - n0 : 0;
                float *row = p + r * BLOCK, *d_row = d_p + r * BLOCK;
                for (int64_t j = 0; j < padded; j += LANES) {
                    vf w = vf_exp2(vf_load(row + j) - vf_load(t->lse2 + n0 + j));
                    vf d = vf_load(d_row + j) - vf_load(t->delta + n0 + j);
                    vf_store(row + j, w);
                    vf_store(d_row + j, w * d * vf_set(t->alpha));
                }
                for (int64_t j = 0; j < unseen && j < padded; j++) row[j] = d_row[j] = 0;
            }
            accumulate(p, t->do_rows + n0 * width, rows, padded, width, d_v + s * out_size);
            accumulate(d_p, t->q_rows + n0 * width, rows, padded, width, d_k + s * out_size);
        }
    }
    unpack_strips(t, &t->d_k, begin, end, NULL, d_k);
    unpack_strips(t, &t->d_v, begin, end, NULL, d_v);
}

extern const struct attention_kernels ISA(attention_kernels);
const struct attention_kernels ISA(attention_kernels) = {
    .lanes = LANES,
    .pack_columns = pack_columns,
    .pack_rows = pack_rows,
    .pack_stats = pack_stats,
    .forward = forward,
    .backward_q = backward_q,
    .backward_kv = backward_kv,
};
