/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_attention: packing, the two small matrix products, softmax and its gradient of attention,
 * for a few strips of rows of one head (see attention.h). */
#include "device/cpu/attention.h"

#include <math.h>

#include "device/cpu/simd.h"
#include "device/cpu/simd_math.h"
#include "device/cpu/simd_view.h"

enum {
    STRIP = ATTENTION_STRIP,
    BLOCK = ATTENTION_BLOCK,
    GRAD_BLOCK = ATTENTION_GRAD_BLOCK,
    GRAD_ROWS = ATTENTION_GRAD_ROWS,
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

/* Channels 2i and 2i + 1 of a row of bfloat16 that begins at p, as they lie. */
SIMD float pair_at(const uint16_t *p, int64_t i, int64_t depth)
{
    uint32_t bits = p[2 * i] | (2 * i + 1 < depth ? (uint32_t)p[2 * i + 1] << 16 : 0);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void pack_columns_pairs(const head_task *t, const head_rows *in, const side *s,
                               int64_t block, float *out)
{
    int64_t rows = side_block_rows(s, block), padded = round_tile(rows);
    int64_t steps = attention_steps(t);
    for (int64_t j = 0; j < padded; j++) {
        float *to = out + j / TILE * TILE * steps + j % TILE;
        const uint16_t *from = (const uint16_t *)in->data + (block * s->block + j) * in->stride;
        for (int64_t i = 0; i < steps; i++)
            to[i * TILE] = j < rows ? pair_at(from, i, t->depth) : 0;
    }
}

static void pack_columns(const head_task *t, const head_rows *in, const side *s, int64_t block,
                         float *out)
{
    if (t->pairs) {
        pack_columns_pairs(t, in, s, block, out);
        return;
    }
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

/* A vector of channels from d on of a row, zero past the end; row `rows` and what follows are. */
SIMD vf row_vector(const head_task *t, const head_rows *in, int64_t begin, int64_t j, int64_t rows,
                   int64_t d)
{
    int64_t left = t->depth - d, from = (begin + j) * in->stride + d;
    return j >= rows       ? vf_zero()
           : left >= LANES ? vf_load_as(in->data, in->type, from)
                           : vf_load_as_n(in->data, in->type, from, left);
}

/* Rows [begin, begin + rows) as [column tile][padded][width]; those past `rows` are zero. */
static void pack_channels(const head_task *t, const head_rows *in, int64_t begin, int64_t rows,
                          int64_t padded, float *out)
{
    for (int64_t j = 0; j < padded; j++)
        for (int64_t d = 0; d < t->depth_padded; d += LANES) {
            int64_t c = d / TILE * TILE, width = t->depth_padded - c < TILE ? LANES : TILE;
            vf v = row_vector(t, in, begin, j, rows, d);
            vf_store(out + c * padded + j * width + d - c, v);
        }
}

/* The same of pairs of rows 2j and 2j + 1, padded / 2 of them. */
static void pack_channels_pairs(const head_task *t, const head_rows *in, int64_t begin,
                                int64_t rows, int64_t padded, float *out)
{
    for (int64_t j = 0; j < padded / 2; j++)
        for (int64_t d = 0; d < t->depth_padded; d += LANES) {
            int64_t c = d / TILE * TILE, width = t->depth_padded - c < TILE ? LANES : TILE;
            vf first = row_vector(t, in, begin, 2 * j, rows, d);
            vf second = row_vector(t, in, begin, 2 * j + 1, rows, d);
            vf_store(out + c * (padded / 2) + j * width + d - c, (vf)vu_pair_bf16(first, second));
        }
}

static void pack_rows_pairs(const head_task *t, const head_rows *in, const side *s, int64_t block,
                            float *out)
{
    int64_t rows = side_block_rows(s, block), padded = round_tile(rows) / 2;
    int64_t begin = block * s->block;
    for (int64_t j = 0; j < padded; j++)
        for (int64_t d = 0; d < t->depth_padded; d += LANES) {
            int64_t c = d / TILE * TILE, row = j / LANES * TILE + j % LANES;
            int64_t width = t->depth_padded - c < TILE ? LANES : TILE;
            vf first = row_vector(t, in, begin, row, rows, d);
            vf second = row_vector(t, in, begin, row + LANES, rows, d);
            vf_store(out + c * padded + j * width + d - c, (vf)vu_pair_bf16(first, second));
        }
}

static void pack_rows(const head_task *t, const head_rows *in, const side *s, int64_t block,
                      float *out)
{
    if (t->pairs) {
        pack_rows_pairs(t, in, s, block, out);
        return;
    }
    int64_t rows = side_block_rows(s, block);
    pack_channels(t, in, block * s->block, rows, round_tile(rows), out);
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

/* The same as pairs [pair of channels][12], as they lie. */
static void pack_strips_pairs(const head_task *t, const head_rows *in, int64_t begin, int64_t end,
                              float *out)
{
    int64_t steps = attention_steps(t);
    for (int64_t n = begin; n < end; n += STRIP, out += STRIP * steps)
        for (int r = 0; r < STRIP; r++) {
            const uint16_t *from = (const uint16_t *)in->data + (n + r) * in->stride;
            if (n + r + AHEAD < end) fetch_row(t, in, (n + r + AHEAD) * in->stride);
            for (int64_t i = 0; i < steps; i++)
                out[i * STRIP + r] = n + r < end ? pair_at(from, i, t->depth) : 0;
        }
}

/* Products [12][depth_padded] of strips to the activation's rows, each row times scale[row], or all
 * times `factor`. */
static void unpack_strips(const head_task *t, const head_rows *out, int64_t begin, int64_t end,
                          const float *scale, float factor, const float *in)
{
    if (!out->data) return; /* a gradient that is not wanted */
    for (int64_t n = begin; n < end; n++, in += t->depth_padded) {
        vf s = vf_set(scale ? scale[n - begin] : factor);
        for (int64_t d = 0; d < t->depth; d += LANES) {
            vf v = vf_load(in + d) * s;
            if (t->depth - d >= LANES)
                vf_store_as(out->data, out->type, n * out->stride + d, v);
            else
                vf_store_as_n(out->data, out->type, n * out->stride + d, v, t->depth - d);
        }
    }
}

/* out [12][table] = strip [depth][12]^T x block, `rows` (whole tiles) columns of it. A long depth
 * is cut so that its part of the strip stays in the first-level cache. peaks: NULL, or the largest
 * of each row and of what is there, lane by lane. */
SIMD void scores(bool pairs, const float *strip, const float *block, int64_t depth, int64_t rows,
                 float *out, int64_t table, vf *peaks)
{
    for (int64_t from = 0; from < depth; from += DEPTH_PART) {
        int64_t part = depth - from < DEPTH_PART ? depth - from : DEPTH_PART;
        for (int64_t j = 0; j < rows; j += TILE)
            for (int i = 0; i < STRIP; i += TILE_ROWS) {
                const float *a = strip + from * STRIP + i, *b = block + j * depth + from * TILE;
                float *o = out + i * table + j;
                vf sum[TILE_ROWS][2] = {{{0}}};
                for (int64_t d = 0; d < part; d++, a += STRIP, b += TILE) {
                    vf b0 = vf_load(b), b1 = vf_load(b + LANES);
#pragma GCC unroll 12
                    for (int r = 0; r < TILE_ROWS; r++) {
                        sum[r][0] = vf_add_product(pairs, a[r], b0, sum[r][0]);
                        sum[r][1] = vf_add_product(pairs, a[r], b1, sum[r][1]);
                    }
                }
#pragma GCC unroll 12
                for (int r = 0; r < TILE_ROWS; r++, o += table) {
                    if (from > 0) {
                        sum[r][0] += vf_load(o);
                        sum[r][1] += vf_load(o + LANES);
                    }
                    vf_store(o, sum[r][0]);
                    vf_store(o + LANES, sum[r][1]);
                    if (peaks && from + part == depth)
                        peaks[i + r] = vf_max(peaks[i + r], vf_max(sum[r][0], sum[r][1]));
                }
            }
    }
}

/* out [rows][vectors] += weights x b, `count` rows of it; the weight of row r and j is at r * row +
 * j * step. Rows, vectors, row and step are constants where this is inlined. */
SIMD void add_tile(bool pairs, const float *weights, int64_t row, int64_t step, const float *b,
                   int64_t count, float *out, int64_t width, int rows, int vectors)
{
    vf sum[STRIP][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int i = 0; i < vectors; i++) sum[r][i] = vf_load(out + r * width + i * LANES);
    for (int64_t j = 0; j < count; j++, weights += step, b += vectors * LANES) {
        vf b0 = vf_load(b), b1 = vectors > 1 ? vf_load(b + LANES) : b0;
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            float w = weights[r * row];
            sum[r][0] = vf_add_product(pairs, w, b0, sum[r][0]);
            if (vectors > 1) sum[r][1] = vf_add_product(pairs, w, b1, sum[r][1]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int i = 0; i < vectors; i++) vf_store(out + r * width + i * LANES, sum[r][i]);
}

/* out [rows][width] += weights x block, `count` rows of it (`padded` in memory); rows: whole
 * strips. A last vector of channels that is alone goes a strip at a time. */
SIMD void accumulate(bool pairs, const float *weights, int64_t row, int64_t step,
                     const float *block, int64_t count, int64_t padded, int64_t width, float *out,
                     int64_t rows)
{
    int64_t c = 0;
    for (; c + TILE <= width; c += TILE)
        for (int64_t i = 0; i < rows; i += TILE_ROWS)
            add_tile(pairs, weights + i * row, row, step, block + c * padded, count,
                     out + i * width + c, width, TILE_ROWS, 2);
    for (int64_t i = 0; c < width && i < rows; i += STRIP)
        add_tile(pairs, weights + i * row, row, step, block + c * padded, count,
                 out + i * width + c, width, STRIP, 1);
}

/* Keys of this block that a query sees; `rows` where there is no mask. */
static int64_t visible(const head_task *t, int64_t query, int64_t key0, int64_t rows)
{
    if (!t->causal) return rows;
    int64_t seen = query - key0 + 1;
    return seen < 0 ? 0 : seen < rows ? seen : rows;
}

static void scale_row(float *row, int64_t width, float factor)
{
    for (int64_t i = 0; i < width; i += LANES) vf_store(row + i, vf_load(row + i) * vf_set(factor));
}

/* The largest logit of each row and of what was there before, lane by lane; what a row does not see
 * becomes -inf. */
static void strip_peaks(const head_task *t, int64_t query, int64_t key0, int64_t rows, float *table,
                        vf *peaks)
{
    int64_t padded = round_tile(rows);
    for (int r = 0; r < STRIP; r++, table += BLOCK) {
        for (int64_t j = visible(t, query + r, key0, rows); j < padded; j++) table[j] = -INFINITY;
        vf m0 = peaks[r], m1 = m0;
        for (int64_t j = 0; j < padded; j += TILE) {
            m0 = vf_max(m0, vf_load(table + j));
            m1 = vf_max(m1, vf_load(table + j + LANES));
        }
        peaks[r] = vf_max(m0, m1);
    }
}

/* A row of logits (base 2) to weights 2^(logit - top), whose sums are returned lane by lane. */
static vf weights_row(float *row, int64_t padded, float top)
{
    vf s0 = vf_zero(), s1 = vf_zero();
    if (fabsf(top) > EXP2_TOP_MOST) {
        for (int64_t j = 0; j < padded; j += LANES) vf_store(row + j, vf_load(row + j) - top);
        top = 0;
    }
    for (int64_t j = 0; j < padded; j += TILE) {
        vf p0 = vf_exp2_below(vf_load(row + j), top);
        vf p1 = vf_exp2_below(vf_load(row + j + LANES), top);
        vf_store(row + j, p0);
        vf_store(row + j + LANES, p1);
        s0 += p0;
        s1 += p1;
    }
    return s0 + s1;
}

/* Online softmax of a strip against the running tops and sums: logits become weights, and o, what
 * was summed before, is scaled. Tops are integers: they seldom move, and nothing is rounded where
 * they do. What goes across lanes is done for all rows at once, so that no row waits for another.
 */
static void softmax_strip(float *table, int64_t padded, const vf *peaks, float *top, float *total,
                          float *o, int64_t width)
{
    float now[STRIP];
    vf sum[STRIP];
    for (int r = 0; r < STRIP; r++) now[r] = ceilf(vf_hmax(peaks[r]));
    for (int r = 0; r < STRIP; r++) {
        if (now[r] == top[r]) continue;
        float factor = exp2f(top[r] - now[r]);
        total[r] *= factor;
        scale_row(o + r * width, width, factor);
        top[r] = now[r];
    }
    for (int r = 0; r < STRIP; r++) sum[r] = weights_row(table + r * BLOCK, padded, now[r]);
    for (int r = 0; r < STRIP; r++) total[r] += vf_sum(sum[r]);
}

/* A row of weights as pairs, in its own place. */
static void row_to_pairs(float *row, int64_t padded)
{
    for (int64_t j = 0; j < padded; j += TILE)
        vf_store(row + j / 2, (vf)vu_pair_bf16(vf_load(row + j), vf_load(row + j + LANES)));
}

SIMD void forward_of(bool pairs, const head_task *t, int64_t begin, int64_t end, float *scratch)
{
    int64_t strips = (end - begin + STRIP - 1) / STRIP, width = t->depth_padded;
    int64_t depth = attention_steps(t);
    float *q = scratch, *o = q + strips * STRIP * depth, *table = o + strips * STRIP * width;
    float *top = table + STRIP * BLOCK, *total = top + strips * STRIP, scale = t->alpha * LOG2_E;
    if (pairs)
        pack_strips_pairs(t, &t->q, begin, end, q);
    else
        pack_strips(t, &t->q, begin, end, scale, q);
    for (int64_t i = 0; i < strips * STRIP * width; i++) o[i] = 0;
    for (int64_t i = 0; i < strips * STRIP; i++) top[i] = -INFINITY, total[i] = 0;

    for (int64_t b = 0; b < t->keys.blocks; b++) {
        int64_t key0 = b * t->keys.block, rows = side_block_rows(&t->keys, b);
        int64_t padded = round_tile(rows);
        bool whole = !pairs && !t->causal && rows == padded; /* every row sees every column */
        for (int64_t s = 0; s < strips; s++) {
            int64_t n = begin + s * STRIP;
            if (visible(t, n + STRIP - 1, key0, rows) == 0) continue;
            vf peaks[STRIP];
            for (int r = 0; r < STRIP; r++) peaks[r] = vf_set(top[s * STRIP + r]);
            scores(pairs, q + s * STRIP * depth, t->k_columns + key0 * depth, depth, padded, table,
                   BLOCK, whole ? peaks : NULL);
            if (pairs)
                for (int r = 0; r < STRIP; r++) scale_row(table + r * BLOCK, padded, scale);
            if (!whole) strip_peaks(t, n, key0, rows, table, peaks);
            softmax_strip(table, padded, peaks, top + s * STRIP, total + s * STRIP,
                          o + s * STRIP * width, width);
            if (pairs)
                for (int r = 0; r < STRIP; r++) row_to_pairs(table + r * BLOCK, padded);
            accumulate(pairs, table, BLOCK, 1, t->v_rows + attention_rows(t, key0) * width,
                       pairs ? padded / 2 : rows, attention_rows(t, padded), width,
                       o + s * STRIP * width, STRIP);
        }
    }
    for (int64_t n = begin; n < end; n++) {
        if (t->lse) t->lse[n] = (top[n - begin] + log2f(total[n - begin])) * LN_2;
        total[n - begin] = 1.0f / total[n - begin];
    }
    unpack_strips(t, &t->o, begin, end, total, 1.0f, o);
}

static void forward(const head_task *t, int64_t begin, int64_t end, float *scratch)
{
    forward_of(false, t, begin, end, scratch);
}

static void forward_pairs(const head_task *t, int64_t begin, int64_t end, float *scratch)
{
    forward_of(true, t, begin, end, scratch);
}

/* A block of queries [begin, end) on its way through the keys. */
typedef struct grad_rows {
    int64_t begin, end, strips;
    float *q, *d_o;          /* strips; q is scaled */
    float *q_rows, *do_rows; /* as pack_channels has them, GRAD_ROWS */
    float *d_q;              /* [GRAD_ROWS][depth_padded] */
    float *p, *d_s;          /* [GRAD_ROWS][GRAD_BLOCK] */
    float *lse2, *delta;     /* lse * log2(e), sum(do * o) */
} grad_rows;

static void grad_rows_pack(const head_task *t, grad_rows *g)
{
    int64_t rows = g->end - g->begin;
    g->strips = (rows + STRIP - 1) / STRIP;
    if (t->pairs) {
        pack_strips_pairs(t, &t->q, g->begin, g->end, g->q);
        pack_strips_pairs(t, &t->d_o, g->begin, g->end, g->d_o);
        pack_channels_pairs(t, &t->q, g->begin, rows, GRAD_ROWS, g->q_rows);
        pack_channels_pairs(t, &t->d_o, g->begin, rows, GRAD_ROWS, g->do_rows);
    } else {
        pack_strips(t, &t->q, g->begin, g->end, t->alpha * LOG2_E, g->q);
        pack_strips(t, &t->d_o, g->begin, g->end, 1.0f, g->d_o);
        pack_channels(t, &t->q, g->begin, rows, GRAD_ROWS, g->q_rows);
        pack_channels(t, &t->d_o, g->begin, rows, GRAD_ROWS, g->do_rows);
    }
    for (int64_t r = 0; r < g->strips * STRIP; r++) {
        int64_t n = g->begin + r;
        vf sum = vf_zero();
        for (int64_t d = 0; r < rows && d < t->depth; d += LANES) {
            int64_t left = t->depth - d, lanes = left < LANES ? left : LANES;
            sum = vf_fma(view_load((view){t->d_o.data, t->d_o.type}, n * t->d_o.stride + d, lanes),
                         view_load((view){t->o.data, t->o.type}, n * t->o.stride + d, lanes), sum);
        }
        g->delta[r] = vf_sum(sum);
        g->lse2[r] = r < rows ? t->lse[n] * LOG2_E : 0;
    }
    for (int64_t i = 0; i < g->strips * STRIP * t->depth_padded; i++) g->d_q[i] = 0;
}

/* A vector of p = 2^(scale scores - lse2) and of ds = p * (dp - delta), row r of a strip; ds is
 * what the gradients by q and k are sums of, but for alpha. Keys from `seen` on have none. */
SIMD void grad_vector(const grad_rows *g, int64_t row, int64_t j, int64_t seen, float scale, vf *p,
                      vf *d_s)
{
    const float *at = g->p + row * GRAD_BLOCK + j, *d_at = g->d_s + row * GRAD_BLOCK + j;
    *p = vf_exp2(vf_fma(vf_load(at), vf_set(scale), vf_set(-g->lse2[row])));
    *d_s = *p * (vf_load(d_at) - vf_set(g->delta[row]));
    if (seen - j >= LANES) return;
    int64_t left = seen > j ? seen - j : 0;
    float part[LANES];
    vf_store(part, *p);
    *p = vf_load_n(part, left);
    vf_store(part, *d_s);
    *d_s = vf_load_n(part, left);
}

/* A row of the tables, from scores and dp. */
static void grad_row(const head_task *t, const grad_rows *g, int64_t row, int64_t key0,
                     int64_t rows)
{
    int64_t seen = visible(t, g->begin + row, key0, rows), padded = round_tile(rows);
    for (int64_t j = 0; j < padded; j += LANES) {
        vf p, d_s;
        grad_vector(g, row, j, seen, 1.0f, &p, &d_s);
        vf_store(g->p + row * GRAD_BLOCK + j, p);
        vf_store(g->d_s + row * GRAD_BLOCK + j, d_s);
    }
}

/* Rows `row` and the next, as pairs: p of both in p's first, ds of both in p's second; and each
 * row's ds by itself, pairs of keys in its own place. */
static void grad_row_pairs(const head_task *t, const grad_rows *g, int64_t row, int64_t key0,
                           int64_t rows)
{
    int64_t padded = round_tile(rows);
    float *to = g->p + row * GRAD_BLOCK, *own = g->d_s + row * GRAD_BLOCK;
    float scale = t->alpha * LOG2_E;
    int64_t seen[2] = {visible(t, g->begin + row, key0, rows),
                       visible(t, g->begin + row + 1, key0, rows)};
    for (int64_t tile = 0; tile < padded; tile += TILE) {
        vf p[2][2], d_s[2][2]; /* [row][vector] */
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < 2; i++)
                grad_vector(g, row + r, tile + i * LANES, seen[r], scale, &p[r][i], &d_s[r][i]);
        for (int i = 0; i < 2; i++) {
            float *at = to + tile + i * LANES;
            vf_store(at, (vf)vu_pair_bf16(p[0][i], p[1][i]));
            vf_store(at + GRAD_BLOCK, (vf)vu_pair_bf16(d_s[0][i], d_s[1][i]));
        }
        for (int r = 0; r < 2; r++)
            vf_store(own + r * GRAD_BLOCK + tile / 2, (vf)vu_pair_bf16(d_s[r][0], d_s[r][1]));
    }
}

/* One strip and a block of keys. */
SIMD void grad_strip(bool pairs, const head_task *t, const grad_rows *g, int64_t strip,
                     int64_t key0, int64_t rows)
{
    int64_t depth = attention_steps(t), padded = round_tile(rows), at = strip * STRIP;
    float *p = g->p + at * GRAD_BLOCK, *d_s = g->d_s + at * GRAD_BLOCK;
    scores(pairs, g->q + at * depth, t->k_columns + key0 * depth, depth, padded, p, GRAD_BLOCK,
           NULL);
    scores(pairs, g->d_o + at * depth, t->v_columns + key0 * depth, depth, padded, d_s, GRAD_BLOCK,
           NULL);
    for (int r = 0; r < STRIP; r += pairs ? 2 : 1) {
        if (pairs)
            grad_row_pairs(t, g, at + r, key0, rows);
        else
            grad_row(t, g, at + r, key0, rows);
    }
}

/* What a block of keys has of the queries at work; d_kv: its sums. Of pairs those of keys are in
 * ds, those of queries in p, one row p's and one ds's. */
SIMD void grad_block(bool pairs, const head_task *t, const grad_rows *g, int64_t block, float *d_kv)
{
    int64_t width = t->depth_padded, key0 = block * GRAD_BLOCK;
    int64_t rows = side_block_rows(&t->keys, block), padded = round_tile(rows);
    int64_t key_rows = (rows + STRIP - 1) / STRIP * STRIP, count = g->end - g->begin;
    for (int64_t s = 0; s < g->strips; s++) grad_strip(pairs, t, g, s, key0, rows);
    const float *k_rows = t->k_rows + attention_rows(t, key0) * width;
    const float *d_s = pairs ? g->p + GRAD_BLOCK : g->d_s;
    int64_t step = pairs ? 2 * GRAD_BLOCK : GRAD_BLOCK, steps = pairs ? (count + 1) / 2 : count;
    int64_t query_rows = attention_rows(t, GRAD_ROWS);
    accumulate(pairs, g->d_s, GRAD_BLOCK, 1, k_rows, pairs ? padded / 2 : rows,
               attention_rows(t, padded), width, g->d_q, g->strips * STRIP);
    accumulate(pairs, d_s, 1, step, g->q_rows, steps, query_rows, width, d_kv, key_rows);
    accumulate(pairs, g->p, 1, step, g->do_rows, steps, query_rows, width,
               d_kv + GRAD_BLOCK * width, key_rows);
}

/* The scores of queries [begin, end) are made once, a block of them and of the keys at a time, and
 * give all three gradients: dq = ds x k, dv += p^T x do, dk += ds^T x q. d_kv: the sums of this
 * part of the queries, [block][2][GRAD_BLOCK][depth_padded]. */
SIMD void backward_of(bool pairs, const head_task *t, int64_t begin, int64_t end, float *d_kv,
                      float *scratch)
{
    int64_t width = t->depth_padded, depth = attention_steps(t), size = GRAD_BLOCK * width;
    int64_t query_rows = attention_rows(t, GRAD_ROWS);
    grad_rows g = {.q = scratch};
    g.d_o = g.q + GRAD_ROWS * depth;
    g.q_rows = g.d_o + GRAD_ROWS * depth;
    g.do_rows = g.q_rows + query_rows * width;
    g.d_q = g.do_rows + query_rows * width;
    g.p = g.d_q + GRAD_ROWS * width;
    g.d_s = g.p + GRAD_ROWS * GRAD_BLOCK;
    g.lse2 = g.d_s + GRAD_ROWS * GRAD_BLOCK;
    g.delta = g.lse2 + GRAD_ROWS;
    memset(d_kv, 0, (size_t)(2 * t->keys.blocks * size) * sizeof *d_kv);
    for (g.begin = begin; g.begin < end; g.begin = g.end) {
        g.end = g.begin + GRAD_ROWS < end ? g.begin + GRAD_ROWS : end;
        grad_rows_pack(t, &g);
        for (int64_t b = 0; b < t->keys.blocks; b++) {
            int64_t key0 = b * GRAD_BLOCK;
            if (visible(t, g.end - 1, key0, side_block_rows(&t->keys, b)) == 0) break;
            grad_block(pairs, t, &g, b, d_kv + 2 * b * size);
        }
        unpack_strips(t, &t->d_q, g.begin, g.end, NULL, t->alpha, g.d_q);
    }
}

static void backward(const head_task *t, int64_t begin, int64_t end, float *d_kv, float *scratch)
{
    backward_of(false, t, begin, end, d_kv, scratch);
}

static void backward_pairs(const head_task *t, int64_t begin, int64_t end, float *d_kv,
                           float *scratch)
{
    backward_of(true, t, begin, end, d_kv, scratch);
}

/* One block of keys: the parts' sums together, in their order, to dk and dv. */
static void backward_sum(const head_task *t, int64_t block, float *d_kv, int parts)
{
    int64_t size = GRAD_BLOCK * t->depth_padded, part = 2 * t->keys.blocks * size;
    int64_t begin = block * GRAD_BLOCK, end = begin + side_block_rows(&t->keys, block);
    float *sum = d_kv + 2 * block * size;
    for (int i = 1; i < parts; i++)
        for (int64_t j = 0; j < 2 * size; j += LANES)
            vf_store(sum + j, vf_load(sum + j) + vf_load(sum + i * part + j));
    unpack_strips(t, &t->d_k, begin, end, NULL, t->alpha, sum);
    unpack_strips(t, &t->d_v, begin, end, NULL, 1.0f, sum + size);
}

extern const struct attention_kernels ISA(attention_kernels);
const struct attention_kernels ISA(attention_kernels) = {
    .lanes = LANES,
    .pack_columns = pack_columns,
    .pack_rows = pack_rows,
    .forward = forward,
    .forward_pairs = forward_pairs,
    .backward = backward,
    .backward_pairs = backward_pairs,
    .backward_sum = backward_sum,
};
