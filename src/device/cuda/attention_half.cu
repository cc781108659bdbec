/* SPDX-License-Identifier: Apache-2.0
 *
 * attention_half: scores and outputs are products of 16 x 16 by 16 x 8 halves with float32 sums. A warp owns 16
 * rows and goes over tiles of the other side, which lie in shared memory as the tensors have them; scores
 * stay in registers, where they are the left side of the next product once they are halves. Rows are 8 halves
 * apart from what the banks repeat after. */
#include "device/cuda/attention_half.h"

#include "device/cuda/values.h"

/* Exponentials are powers of 2, which the card has an instruction for. */
#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

/* Channels [0, depth) of one head: row r begins at data + r * stride. */
struct half_rows {
    const uint16_t *data;
    int64_t stride, count;
    int depth;
};

DEVICE half_rows half_rows_of(gpu_view x, int64_t head, int64_t heads, int64_t count, int64_t depth)
{
    half_rows h;
    h.data = (const uint16_t *)x.data + head / heads * count * heads * depth + head % heads * depth;
    h.stride = heads * depth;
    h.count = count;
    h.depth = (int)depth;
    return h;
}

/* Rows [from, from + ROWS) into shared memory [ROWS, DEPTH + 8], zeros where there are none */
template <int DEPTH, int ROWS> DEVICE void half_load(uint16_t *to, const half_rows &h, int64_t from)
{
    enum { EIGHTS = DEPTH / 8, STRIDE = DEPTH + 8 };
    bool wide = h.depth % 8 == 0 && ((uintptr_t)h.data | (uintptr_t)(h.stride * 2)) % 16 == 0;
    for (int i = THREAD; i < ROWS * EIGHTS; i += THREADS) {
        int row = i / EIGHTS, c = i % EIGHTS * 8;
        const uint16_t *at = h.data + (from + row) * h.stride + c;
        packed<uint16_t, 8> x = {};
        if (from + row < h.count) {
            if (wide && c < h.depth) {
                x = *(const packed<uint16_t, 8> *)at;
            } else {
                UNROLL
                for (int k = 0; k < 8; k++)
                    if (c + k < h.depth) x.v[k] = at[k];
            }
        }
        *(packed<uint16_t, 8> *)(to + row * STRIDE + c) = x;
    }
}

/* The left side of a product: rows [0, 16) from `rows` on, channels [16 k, 16 k + 16) */
template <int DEPTH> DEVICE void left_load(uint32_t (&a)[4], const uint16_t *rows, int k)
{
    int lane = THREAD % WARP;
    matrix_load(a, rows + (lane % 16) * (DEPTH + 8) + k * 16 + lane / 16 * 8);
}

/* s[j] += the products of the warp's 16 rows with rows [8 j, 8 j + 8) of `other`, over all channels */
template <int DEPTH, int TILES, bool BF16>
DEVICE void score_step(float (&s)[TILES][4], const uint32_t (&a)[4], const uint16_t *other, int k)
{
    int lane = THREAD % WARP;
    UNROLL
    for (int j = 0; j < TILES; j += 2) {
        uint32_t b[4];
        matrix_load(b, other + (j * 8 + lane % 8 + lane / 16 * 8) * (DEPTH + 8) + k * 16 + lane / 8 % 2 * 8);
        tensor_product<BF16>(s[j], a, b[0], b[1]);
        tensor_product<BF16>(s[j + 1], a, b[2], b[3]);
    }
}

/* o += p [16, 8 TILES] times rows [0, 8 TILES) of `other`; o[c]: channels [8 c, 8 c + 8) */
template <int DEPTH, int TILES, bool BF16>
DEVICE void mix_step(float (&o)[DEPTH / 8][4], const float (&p)[TILES][4], const uint16_t *other)
{
    int lane = THREAD % WARP;
    UNROLL
    for (int j = 0; j < TILES; j += 2) {
        uint32_t a[4] = {pair_bits<BF16>(p[j][0], p[j][1]), pair_bits<BF16>(p[j][2], p[j][3]),
                         pair_bits<BF16>(p[j + 1][0], p[j + 1][1]), pair_bits<BF16>(p[j + 1][2], p[j + 1][3])};
        UNROLL
        for (int c = 0; c < DEPTH / 8; c += 2) {
            uint32_t b[4];
            matrix_load_turned(b, other + (j * 8 + lane % 16) * (DEPTH + 8) + c * 8 + lane / 16 * 8);
            tensor_product<BF16>(o[c], a, b[0], b[1]);
            tensor_product<BF16>(o[c + 1], a, b[2], b[3]);
        }
    }
}

/* The thread's two rows of 16, from row `first` on, each times its factor */
template <int DEPTH>
DEVICE void half_store(gpu_view y, int64_t head, int64_t heads, int64_t count, int64_t depth, int64_t first,
                       const float (&o)[DEPTH / 8][4], float factor0, float factor1)
{
    int64_t at = head / heads * count * heads * depth + head % heads * depth;
    int lane = THREAD % WARP;
    UNROLL
    for (int c = 0; c < DEPTH / 8; c++) {
        UNROLL
        for (int i = 0; i < 4; i++) {
            int64_t row = first + lane / 4 + i / 2 * 8;
            int channel = c * 8 + lane % 4 * 2 + i % 2;
            if (row < count && channel < depth)
                store_one(y, at + row * heads * depth + channel, o[c][i] * (i / 2 ? factor1 : factor0));
        }
    }
}

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

/* ---- forward ---- */

template <int DEPTH, int KEYS, bool BF16>
KERNEL THREADS_AT_MOST(128) attention_half_kernel(attention_args a)
{
    enum { QUERIES = 64, STRIDE = DEPTH + 8, TILES = KEYS / 8, LOADED = KEYS < QUERIES ? QUERIES : KEYS };
    SHARED_ALIGNED(uint16_t, shared, (LOADED > 2 * KEYS ? LOADED : 2 * KEYS) * STRIDE); /* queries; keys and values */
    uint16_t *k = shared, *v = shared + KEYS * STRIDE;
    int64_t head = BLOCK_Y, first = (int64_t)BLOCK_X * QUERIES, own = first + THREAD / WARP * 16;
    int lane = THREAD % WARP;
    half_rows keys = half_rows_of(a.k, head, a.heads, a.m, a.depth);
    half_rows contents = half_rows_of(a.v, head, a.heads, a.m, a.depth);
    uint32_t q[DEPTH / 16][4];
    float scale = a.alpha * LOG2_E, o[DEPTH / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    half_load<DEPTH, QUERIES>(shared, half_rows_of(a.q, head, a.heads, a.n, a.depth), first);
    BARRIER();
    UNROLL
    for (int c = 0; c < DEPTH / 16; c++) left_load<DEPTH>(q[c], shared + THREAD / WARP * 16 * STRIDE, c);
    int64_t end = a.causal && first + QUERIES < a.m ? first + QUERIES : a.m;
    for (int64_t m = 0; m < end; m += KEYS) {
        float s[TILES][4] = {};
        BARRIER();
        half_load<DEPTH, KEYS>(k, keys, m);
        half_load<DEPTH, KEYS>(v, contents, m);
        BARRIER();
        UNROLL
        for (int c = 0; c < DEPTH / 16; c++) score_step<DEPTH, TILES, BF16>(s, q[c], k, c);
        UNROLL
        for (int r = 0; r < 2; r++) {
            int64_t row = own + lane / 4 + r * 8;
            float most = top[r], part = 0;
            UNROLL
            for (int j = 0; j < TILES; j++) {
                UNROLL
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    int64_t column = m + j * 8 + lane % 4 * 2 + i % 2;
                    bool seen = column < a.m && (!a.causal || column <= row);
                    s[j][i] = seen ? s[j][i] * scale : -INFINITY;
                    most = fmaxf(most, s[j][i]);
                }
            }
            most = four_largest(most);
            float shrink = most > -INFINITY ? exp2f(top[r] - most) : 1.0f, base = most > -INFINITY ? most : 0.0f;
            UNROLL
            for (int j = 0; j < TILES; j++) {
                UNROLL
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    s[j][i] = exp2f(s[j][i] - base);
                    part += s[j][i];
                }
            }
            sum[r] = sum[r] * shrink + part;
            top[r] = most;
            UNROLL
            for (int c = 0; c < DEPTH / 8; c++) {
                o[c][2 * r] *= shrink;
                o[c][2 * r + 1] *= shrink;
            }
        }
        mix_step<DEPTH, TILES, BF16>(o, s, v);
    }
    UNROLL
    for (int r = 0; r < 2; r++) {
        int64_t row = own + lane / 4 + r * 8;
        sum[r] = four_sum(sum[r]);
        if (a.lse && row < a.n && lane % 4 == 0) a.lse[head * a.n + row] = top[r] * LN_2 + logf(sum[r]);
    }
    half_store<DEPTH>(a.o, head, a.heads, a.n, a.depth, own, o, 1.0f / sum[0], 1.0f / sum[1]);
}

static bool is_half(gpu_view x, dtype type) { return x.type == type && type != DTYPE_F32; }

template <int DEPTH, int KEYS> static void half_run(const attention_args *a, gpu_stream stream)
{
    int64_t blocks = divided(a->n, 64), heads = a->batch * a->heads;
    if (a->q.type == DTYPE_BF16)
        LAUNCH((attention_half_kernel<DEPTH, KEYS, true>), blocks, heads, 1, 128, stream, *a);
    else
        LAUNCH((attention_half_kernel<DEPTH, KEYS, false>), blocks, heads, 1, 128, stream, *a);
}

bool attention_half_launch(const attention_args *a, gpu_stream stream)
{
    if (!is_half(a->q, a->q.type) || !is_half(a->k, a->q.type) || !is_half(a->v, a->q.type)) return false;
    if (a->depth <= 48)
        half_run<48, 64>(a, stream);
    else if (a->depth <= 64)
        half_run<64, 64>(a, stream);
    else if (a->depth <= 80)
        half_run<80, 64>(a, stream);
    else if (a->depth <= 128)
        half_run<128, 64>(a, stream);
    else
        half_run<160, 32>(a, stream);
    return true;
}

/* ---- gradient ----
 *
 * KEYS_OWN: rows are keys (x1 k, x2 v), the other side's queries (y1 q, y2 dout), sums dk and dv; else rows are
 * queries (x1 q, x2 dout), the other side's keys (y1 k, y2 v), the sum dq. */
template <int DEPTH, int WARPS, int OTHERS, bool KEYS_OWN, bool BF16>
KERNEL THREADS_AT_MOST(WARPS * WARP) attention_half_grad_kernel(attention_grad_args a, const float *delta)
{
    enum { ROWS = WARPS * 16, STRIDE = DEPTH + 8, TILES = OTHERS / 8 };
    SHARED_ALIGNED(uint16_t, x1, ROWS * STRIDE);
    SHARED_ALIGNED(uint16_t, x2, ROWS * STRIDE);
    SHARED_ALIGNED(uint16_t, y1, OTHERS * STRIDE);
    SHARED_ALIGNED(uint16_t, y2, OTHERS * STRIDE);
    int64_t head = BLOCK_Y, first = (int64_t)BLOCK_X * ROWS, own = first + THREAD / WARP * 16;
    int lane = THREAD % WARP;
    half_rows q = half_rows_of(a.q, head, a.heads, a.n, a.depth), k = half_rows_of(a.k, head, a.heads, a.m, a.depth);
    half_rows v = half_rows_of(a.v, head, a.heads, a.m, a.depth);
    half_rows dout = half_rows_of(a.dout, head, a.heads, a.n, a.depth);
    const float *lse = a.lse + head * a.n, *off = delta + head * a.n;
    float sum1[DEPTH / 8][4] = {}, sum2[DEPTH / 8][4] = {};
    half_load<DEPTH, ROWS>(x1, KEYS_OWN ? k : q, first);
    half_load<DEPTH, ROWS>(x2, KEYS_OWN ? v : dout, first);
    int64_t begin = KEYS_OWN && a.causal ? first / OTHERS * OTHERS : 0, end = KEYS_OWN ? a.n : a.m;
    if (!KEYS_OWN && a.causal && first + ROWS < end) end = first + ROWS;
    for (int64_t other = begin; other < end; other += OTHERS) {
        float s[TILES][4] = {}, ds[TILES][4] = {};
        BARRIER();
        half_load<DEPTH, OTHERS>(y1, KEYS_OWN ? q : k, other);
        half_load<DEPTH, OTHERS>(y2, KEYS_OWN ? dout : v, other);
        BARRIER();
        UNROLL
        for (int c = 0; c < DEPTH / 16; c++) {
            uint32_t left[4];
            left_load<DEPTH>(left, x1 + THREAD / WARP * 16 * STRIDE, c);
            score_step<DEPTH, TILES, BF16>(s, left, y1, c);
            left_load<DEPTH>(left, x2 + THREAD / WARP * 16 * STRIDE, c);
            score_step<DEPTH, TILES, BF16>(ds, left, y2, c);
        }
        UNROLL
        for (int j = 0; j < TILES; j++) {
            UNROLL
            for (int i = 0; i < 4; i++) {
                int64_t row = own + lane / 4 + i / 2 * 8, column = other + j * 8 + lane % 4 * 2 + i % 2;
                int64_t query = KEYS_OWN ? column : row, key = KEYS_OWN ? row : column;
                bool seen = query < a.n && key < a.m && (!a.causal || key <= query);
                float p = seen ? exp2f((s[j][i] * a.alpha - lse[query]) * LOG2_E) : 0;
                ds[j][i] = seen ? p * (ds[j][i] - off[query]) * a.alpha : 0;
                s[j][i] = p;
            }
        }
        mix_step<DEPTH, TILES, BF16>(sum1, ds, y1);
        if (KEYS_OWN) mix_step<DEPTH, TILES, BF16>(sum2, s, y2);
    }
    if (!KEYS_OWN) {
        half_store<DEPTH>(a.dq, head, a.heads, a.n, a.depth, own, sum1, 1, 1);
        return;
    }
    if (a.dk.data) half_store<DEPTH>(a.dk, head, a.heads, a.m, a.depth, own, sum1, 1, 1);
    if (a.dv.data) half_store<DEPTH>(a.dv, head, a.heads, a.m, a.depth, own, sum2, 1, 1);
}

template <int DEPTH, int WARPS, int OTHERS, bool BF16>
static void half_grad_run(const attention_grad_args *a, const float *delta, gpu_stream stream)
{
    int64_t heads = a->batch * a->heads;
    if (a->dq.data)
        LAUNCH((attention_half_grad_kernel<DEPTH, WARPS, OTHERS, false, BF16>), divided(a->n, WARPS * 16), heads, 1,
               WARPS * WARP, stream, *a, delta);
    if (a->dk.data || a->dv.data)
        LAUNCH((attention_half_grad_kernel<DEPTH, WARPS, OTHERS, true, BF16>), divided(a->m, WARPS * 16), heads, 1,
               WARPS * WARP, stream, *a, delta);
}

template <bool BF16>
static void half_grad_choose(const attention_grad_args *a, const float *delta, gpu_stream stream)
{
    if (a->depth <= 48)
        half_grad_run<48, 4, 64, BF16>(a, delta, stream);
    else if (a->depth <= 64)
        half_grad_run<64, 4, 64, BF16>(a, delta, stream);
    else if (a->depth <= 80)
        half_grad_run<80, 4, 32, BF16>(a, delta, stream);
    else if (a->depth <= 128)
        half_grad_run<128, 2, 16, BF16>(a, delta, stream);
    else
        half_grad_run<160, 2, 16, BF16>(a, delta, stream);
}

bool attention_half_grad_launch(const attention_grad_args *a, const float *delta, gpu_stream stream)
{
    dtype type = a->q.type;
    if (!is_half(a->q, type) || !is_half(a->k, type) || !is_half(a->v, type) || !is_half(a->dout, type)) return false;
    if (type == DTYPE_BF16)
        half_grad_choose<true>(a, delta, stream);
    else
        half_grad_choose<false>(a, delta, stream);
    return true;
}
