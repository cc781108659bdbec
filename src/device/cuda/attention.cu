/* SPDX-License-Identifier: Apache-2.0
 *
 * attention: OP_ATTENTION and its gradient without a matrix of all scores. A block has a tile of queries (or,
 * for dk and dv, of keys) of one head and goes over the tiles of the other side, all of them float32 in
 * shared memory. Its 128 threads are 16 rows by 8 columns: a thread has every 16th row of a tile, and of
 * scores every 8th column, of outputs every 8th pair of channels. What a row has of maxima and sums is
 * spread over 8 neighbouring lanes. Operands of one half type go to the matrix units (attention_half.cu). */
#include "device/cuda/attention_half.h"
#include "device/cuda/values.h"

enum { ATTENTION_THREADS = 128, DOWN = 16, ACROSS = 8 };

/* Channels [0, depth) of one head: row r begins at at + r * stride. */
struct head_view {
    gpu_view data;
    int64_t at, stride, count;
    int depth;
};

DEVICE head_view head_of(gpu_view x, int64_t head, int64_t heads, int64_t count, int64_t depth)
{
    head_view h;
    h.data = x;
    h.at = head / heads * count * heads * depth + head % heads * depth;
    h.stride = heads * depth;
    h.count = count;
    h.depth = (int)depth;
    return h;
}

/* DEPTH: the head's size rounded up to 16. Rows are 4 numbers apart from what the banks repeat after. */
template <int DEPTH> struct tile {
    enum { STRIDE = DEPTH + 4 };
};

/* Rows [from, from + ROWS) of a head into shared memory, zeros where there are none */
template <int DEPTH, int ROWS> DEVICE void tile_load(float *to, const head_view &h, int64_t from)
{
    enum { FOURS = DEPTH / 4, STRIDE = tile<DEPTH>::STRIDE };
    bool wide = h.depth % 4 == 0 && (uintptr_t)h.data.data % 16 == 0;
    for (int i = THREAD; i < ROWS * FOURS; i += ATTENTION_THREADS) {
        int row = i / FOURS, c = i % FOURS * 4;
        int64_t at = h.at + (from + row) * h.stride + c;
        values<4> x = {};
        if (from + row < h.count) {
            if (wide && c < h.depth) {
                x = load<4>(h.data, at);
            } else {
                UNROLL
                for (int k = 0; k < 4; k++)
                    if (c + k < h.depth) x.v[k] = load_one(h.data, at + k);
            }
        }
        packed<float, 4> p = {{x.v[0], x.v[1], x.v[2], x.v[3]}};
        *(packed<float, 4> *)(to + row * STRIDE + c) = p;
    }
}

/* s[i][j] += the product of row down + DOWN i of a with row across + ACROSS j of b */
template <int DEPTH, int I, int J>
DEVICE void tile_scores(float (&s)[I][J], const float *a, const float *b)
{
    enum { STRIDE = tile<DEPTH>::STRIDE };
    const float *row = a + THREAD / ACROSS * STRIDE, *column = b + THREAD % ACROSS * STRIDE;
    for (int d = 0; d < DEPTH; d += 4) {
        packed<float, 4> x[I], y[J];
        UNROLL
        for (int i = 0; i < I; i++) x[i] = *(const packed<float, 4> *)(row + i * DOWN * STRIDE + d);
        UNROLL
        for (int j = 0; j < J; j++) y[j] = *(const packed<float, 4> *)(column + j * ACROSS * STRIDE + d);
        UNROLL
        for (int i = 0; i < I; i++) {
            UNROLL
            for (int j = 0; j < J; j++) {
                UNROLL
                for (int k = 0; k < 4; k++) s[i][j] += x[i].v[k] * y[j].v[k];
            }
        }
    }
}

/* Channel pair c of a thread: channels 2 * (across + ACROSS c) and the next */
DEVICE int pair_at(int c) { return 2 * (THREAD % ACROSS + ACROSS * c); }

/* o[i][2c..] += sum over m of p[row i][m] * v[m]; STEP: from one m of p to the next; ROW: from one row */
template <int DEPTH, int I, int ROWS, int STEP, int ROW>
DEVICE void tile_mix(float (&o)[I][DEPTH / ACROSS], const float *p, const float *v)
{
    enum { STRIDE = tile<DEPTH>::STRIDE, PAIRS = DEPTH / 16 };
    const float *row = p + THREAD / ACROSS * ROW;
    for (int m = 0; m < ROWS; m++) {
        float weight[I];
        UNROLL
        for (int i = 0; i < I; i++) weight[i] = row[i * DOWN * ROW + m * STEP];
        UNROLL
        for (int c = 0; c < PAIRS; c++) {
            packed<float, 2> x = *(const packed<float, 2> *)(v + m * STRIDE + pair_at(c));
            UNROLL
            for (int i = 0; i < I; i++) {
                o[i][2 * c] += weight[i] * x.v[0];
                o[i][2 * c + 1] += weight[i] * x.v[1];
            }
        }
    }
}

/* Rows `from` + down + DOWN i of a head from a thread's channels, each row times factor[i] */
template <int DEPTH, int I>
DEVICE void tile_store(const head_view &h, int64_t from, const float (&o)[I][DEPTH / ACROSS], const float (&factor)[I])
{
    UNROLL
    for (int i = 0; i < I; i++) {
        int64_t row = from + THREAD / ACROSS + DOWN * i;
        UNROLL
        for (int c = 0; c < DEPTH / ACROSS; c++) {
            int channel = pair_at(c / 2) + c % 2;
            if (row < h.count && channel < h.depth)
                store_one(h.data, h.at + row * h.stride + channel, o[i][c] * factor[i]);
        }
    }
}

/* Over the 8 lanes of a row */
DEVICE float row_largest(float x)
{
    UNROLL
    for (int mask = ACROSS / 2; mask > 0; mask /= 2) x = fmaxf(x, SHUFFLE_XOR(x, mask));
    return x;
}

DEVICE float row_sum(float x)
{
    UNROLL
    for (int mask = ACROSS / 2; mask > 0; mask /= 2) x += SHUFFLE_XOR(x, mask);
    return x;
}

/* Whether key m may be seen by query n */
DEVICE bool is_seen(int64_t n, int64_t m, int64_t keys, bool causal) { return m < keys && (!causal || m <= n); }

/* ---- forward ---- */

template <int DEPTH, int QUERIES, int KEYS>
KERNEL THREADS_AT_MOST(ATTENTION_THREADS) attention_kernel(attention_args a)
{
    enum { STRIDE = tile<DEPTH>::STRIDE, I = QUERIES / DOWN, J = KEYS / ACROSS, P_STRIDE = KEYS + 4 };
    SHARED_ALIGNED(float, q, QUERIES * STRIDE);
    SHARED_ALIGNED(float, kv, KEYS * STRIDE); /* keys, then values */
    SHARED_ALIGNED(float, p, QUERIES * P_STRIDE);
    int64_t head = BLOCK_Y, first = (int64_t)BLOCK_X * QUERIES;
    head_view keys = head_of(a.k, head, a.heads, a.m, a.depth), values_ = head_of(a.v, head, a.heads, a.m, a.depth);
    head_view queries = head_of(a.q, head, a.heads, a.n, a.depth), out = head_of(a.o, head, a.heads, a.n, a.depth);
    float o[I][DEPTH / ACROSS] = {}, top[I], sum[I] = {};
    UNROLL
    for (int i = 0; i < I; i++) top[i] = -INFINITY;
    int64_t end = a.causal && first + QUERIES < a.m ? first + QUERIES : a.m;
    tile_load<DEPTH, QUERIES>(q, queries, first);
    for (int64_t m = 0; m < end; m += KEYS) {
        float s[I][J] = {};
        BARRIER();
        tile_load<DEPTH, KEYS>(kv, keys, m);
        BARRIER();
        tile_scores<DEPTH>(s, q, kv);
        UNROLL
        for (int i = 0; i < I; i++) {
            int row = THREAD / ACROSS + DOWN * i;
            float most = top[i], part = 0;
            UNROLL
            for (int j = 0; j < J; j++) {
                bool seen = is_seen(first + row, m + THREAD % ACROSS + ACROSS * j, a.m, a.causal);
                s[i][j] = seen ? s[i][j] * a.alpha : -INFINITY;
                most = fmaxf(most, s[i][j]);
            }
            most = row_largest(most);
            float shrink = most > -INFINITY ? expf(top[i] - most) : 1.0f;
            UNROLL
            for (int j = 0; j < J; j++) {
                float e = s[i][j] > -INFINITY ? expf(s[i][j] - most) : s[i][j] == -INFINITY ? 0.0f : s[i][j];
                p[row * P_STRIDE + THREAD % ACROSS + ACROSS * j] = e;
                part += e;
            }
            sum[i] = sum[i] * shrink + part;
            top[i] = most;
            UNROLL
            for (int c = 0; c < DEPTH / ACROSS; c++) o[i][c] *= shrink;
        }
        BARRIER();
        tile_load<DEPTH, KEYS>(kv, values_, m);
        BARRIER();
        tile_mix<DEPTH, I, KEYS, 1, P_STRIDE>(o, p, kv);
    }
    float factor[I];
    UNROLL
    for (int i = 0; i < I; i++) {
        int64_t row = first + THREAD / ACROSS + DOWN * i;
        sum[i] = row_sum(sum[i]);
        factor[i] = 1.0f / sum[i];
        if (a.lse && row < a.n && THREAD % ACROSS == 0) a.lse[head * a.n + row] = top[i] + logf(sum[i]);
    }
    tile_store<DEPTH>(out, first, o, factor);
}

template <int DEPTH, int QUERIES, int KEYS>
static void attention_run(const attention_args *a, gpu_stream stream)
{
    LAUNCH((attention_kernel<DEPTH, QUERIES, KEYS>), divided(a->n, QUERIES), a->batch * a->heads, 1,
           ATTENTION_THREADS, stream, *a);
}

void attention_launch(const attention_args *a, gpu_stream stream)
{
    assert(a->depth > 0 && a->depth <= ATTENTION_DEPTH);
    if (attention_half_launch(a, stream)) return;
    if (a->depth <= 32)
        attention_run<32, 64, 32>(a, stream);
    else if (a->depth <= 48)
        attention_run<48, 64, 32>(a, stream);
    else if (a->depth <= 64)
        attention_run<64, 64, 32>(a, stream);
    else if (a->depth <= 80)
        attention_run<80, 64, 32>(a, stream);
    else if (a->depth <= 128)
        attention_run<128, 32, 32>(a, stream);
    else
        attention_run<160, 32, 32>(a, stream);
}

/* ---- gradient ---- */

/* delta [batch, heads, n] = the sum over a head of dout * o: what softmax's gradient takes off. A warp a row */
KERNEL delta_kernel(attention_grad_args a, float *delta)
{
    int64_t row = (int64_t)BLOCK_X * (BLOCK / WARP) + THREAD / WARP, rows = a.batch * a.heads * a.n;
    if (row >= rows) return;
    int64_t head = row / a.n;
    head_view h = head_of(a.o, head, a.heads, a.n, a.depth);
    float sum = 0;
    for (int c = THREAD % WARP; c < h.depth; c += WARP) {
        int64_t at = h.at + row % a.n * h.stride + c;
        sum += load_one(a.o, at) * load_one(a.dout, at);
    }
    sum = warp_sum(sum);
    if (THREAD % WARP == 0) delta[row] = sum;
}

/* Probabilities and the scores' gradients of a tile of queries (rows of q and dout, from n on) and of keys (rows
 * of k and v, from m on), into p and ds [ROWS, ROWS + 4]; p NULL: they are not wanted */
template <int DEPTH, int ROWS>
DEVICE void tile_back(const attention_grad_args &a, const float *delta, int64_t n, int64_t m, const float *q,
                      const float *dout, const float *k, const float *v, float *p, float *ds)
{
    enum { I = ROWS / DOWN, J = ROWS / ACROSS, P_STRIDE = ROWS + 4 };
    float s[I][J] = {}, dp[I][J] = {};
    tile_scores<DEPTH>(s, q, k);
    tile_scores<DEPTH>(dp, dout, v);
    UNROLL
    for (int i = 0; i < I; i++) {
        int row = THREAD / ACROSS + DOWN * i;
        bool inside = n + row < a.n;
        int64_t at = (int64_t)BLOCK_Y * a.n + n + row;
        float lse = inside ? a.lse[at] : 0, off = inside ? delta[at] : 0;
        UNROLL
        for (int j = 0; j < J; j++) {
            int column = THREAD % ACROSS + ACROSS * j;
            bool seen = inside && is_seen(n + row, m + column, a.m, a.causal);
            float probability = seen ? expf(s[i][j] * a.alpha - lse) : 0;
            if (p) p[row * P_STRIDE + column] = probability;
            ds[row * P_STRIDE + column] = seen ? probability * (dp[i][j] - off) * a.alpha : 0;
        }
    }
}

template <int DEPTH, int ROWS>
KERNEL THREADS_AT_MOST(ATTENTION_THREADS) attention_grad_q_kernel(attention_grad_args a, const float *delta)
{
    enum { STRIDE = tile<DEPTH>::STRIDE, I = ROWS / DOWN, P_STRIDE = ROWS + 4 };
    SHARED_ALIGNED(float, q, ROWS * STRIDE);
    SHARED_ALIGNED(float, dout, ROWS * STRIDE);
    SHARED_ALIGNED(float, k, ROWS * STRIDE);
    SHARED_ALIGNED(float, v, ROWS * STRIDE);
    SHARED_ALIGNED(float, ds, ROWS * P_STRIDE);
    int64_t head = BLOCK_Y, first = (int64_t)BLOCK_X * ROWS;
    float dq[I][DEPTH / ACROSS] = {}, factor[I];
    tile_load<DEPTH, ROWS>(q, head_of(a.q, head, a.heads, a.n, a.depth), first);
    tile_load<DEPTH, ROWS>(dout, head_of(a.dout, head, a.heads, a.n, a.depth), first);
    int64_t end = a.causal && first + ROWS < a.m ? first + ROWS : a.m;
    for (int64_t m = 0; m < end; m += ROWS) {
        BARRIER();
        tile_load<DEPTH, ROWS>(k, head_of(a.k, head, a.heads, a.m, a.depth), m);
        tile_load<DEPTH, ROWS>(v, head_of(a.v, head, a.heads, a.m, a.depth), m);
        BARRIER();
        tile_back<DEPTH, ROWS>(a, delta, first, m, q, dout, k, v, NULL, ds);
        BARRIER();
        tile_mix<DEPTH, I, ROWS, 1, P_STRIDE>(dq, ds, k);
    }
    UNROLL
    for (int i = 0; i < I; i++) factor[i] = 1;
    tile_store<DEPTH>(head_of(a.dq, head, a.heads, a.n, a.depth), first, dq, factor);
}

template <int DEPTH, int ROWS>
KERNEL THREADS_AT_MOST(ATTENTION_THREADS) attention_grad_kv_kernel(attention_grad_args a, const float *delta)
{
    enum { STRIDE = tile<DEPTH>::STRIDE, I = ROWS / DOWN, P_STRIDE = ROWS + 4 };
    SHARED_ALIGNED(float, k, ROWS * STRIDE);
    SHARED_ALIGNED(float, v, ROWS * STRIDE);
    SHARED_ALIGNED(float, q, ROWS * STRIDE);
    SHARED_ALIGNED(float, dout, ROWS * STRIDE);
    SHARED_ALIGNED(float, p, ROWS * P_STRIDE);
    SHARED_ALIGNED(float, ds, ROWS * P_STRIDE);
    int64_t head = BLOCK_Y, first = (int64_t)BLOCK_X * ROWS;
    float dk[I][DEPTH / ACROSS] = {}, dv[I][DEPTH / ACROSS] = {}, factor[I];
    tile_load<DEPTH, ROWS>(k, head_of(a.k, head, a.heads, a.m, a.depth), first);
    tile_load<DEPTH, ROWS>(v, head_of(a.v, head, a.heads, a.m, a.depth), first);
    for (int64_t n = a.causal ? first : 0; n < a.n; n += ROWS) {
        BARRIER();
        tile_load<DEPTH, ROWS>(q, head_of(a.q, head, a.heads, a.n, a.depth), n);
        tile_load<DEPTH, ROWS>(dout, head_of(a.dout, head, a.heads, a.n, a.depth), n);
        BARRIER();
        tile_back<DEPTH, ROWS>(a, delta, n, first, q, dout, k, v, p, ds);
        BARRIER();
        tile_mix<DEPTH, I, ROWS, P_STRIDE, 1>(dv, p, dout);
        tile_mix<DEPTH, I, ROWS, P_STRIDE, 1>(dk, ds, q);
    }
    UNROLL
    for (int i = 0; i < I; i++) factor[i] = 1;
    if (a.dk.data) tile_store<DEPTH>(head_of(a.dk, head, a.heads, a.m, a.depth), first, dk, factor);
    if (a.dv.data) tile_store<DEPTH>(head_of(a.dv, head, a.heads, a.m, a.depth), first, dv, factor);
}

template <int DEPTH, int ROWS>
static void attention_grad_run(const attention_grad_args *a, const float *delta, gpu_stream stream)
{
    if (a->dq.data)
        LAUNCH((attention_grad_q_kernel<DEPTH, ROWS>), divided(a->n, ROWS), a->batch * a->heads, 1,
               ATTENTION_THREADS, stream, *a, delta);
    if (a->dk.data || a->dv.data)
        LAUNCH((attention_grad_kv_kernel<DEPTH, ROWS>), divided(a->m, ROWS), a->batch * a->heads, 1,
               ATTENTION_THREADS, stream, *a, delta);
}

size_t attention_grad_scratch(const attention_grad_args *a)
{
    size_t own = (size_t)(a->batch * a->heads * a->n) * sizeof(float),
           half = attention_half_grad_scratch(a);
    return own > half ? own : half;
}

void attention_grad_launch(const attention_grad_args *a, void *scratch, gpu_stream stream)
{
    float *delta = (float *)scratch;
    assert(a->depth > 0 && a->depth <= ATTENTION_DEPTH);
    if (attention_half_grad_launch(a, scratch, stream)) return;
    LAUNCH(delta_kernel, divided(a->batch * a->heads * a->n, BLOCK / WARP), 1, 1, BLOCK, stream, *a, delta);
    if (a->depth <= 32)
        attention_grad_run<32, 32>(a, delta, stream);
    else if (a->depth <= 48)
        attention_grad_run<48, 32>(a, delta, stream);
    else if (a->depth <= 64)
        attention_grad_run<64, 32>(a, delta, stream);
    else if (a->depth <= 80)
        attention_grad_run<80, 16>(a, delta, stream);
    else if (a->depth <= 128)
        attention_grad_run<128, 16>(a, delta, stream);
    else
        attention_grad_run<160, 16>(a, delta, stream);
}
