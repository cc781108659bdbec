/* SPDX-License-Identifier: Apache-2.0
 *
 * attention_half_grad: attention's gradient on the card's matrix units, whose operands are all of one
 * half type. A block owns rows of one side and goes over the other: queries for dq, keys for dk and
 * dv. Probabilities are made again from the scores and what the forward kept of each row, so that
 * nothing of [n, m] is written, and every sum is of one warp, in one order. */
#include "device/cuda/attention_half.h"

#include "device/cuda/attention_tiles.h"

/* What a query has: the logarithm (to base 2) that its scores are below, and what softmax's gradient
 * takes off, the sum of dout * o. [batch * heads, padded n, 2]: queries that are not there have
 * probabilities of 0. */
enum { PADDED = 64, LANES_OF_ROW = 8 };

DEVICE int64_t padded(int64_t n) { return (n + PADDED - 1) / PADDED * PADDED; }

KERNEL row_facts_kernel(attention_grad_args a, bool wide, float *facts)
{
    int i = BLOCK_X * (BLOCK / LANES_OF_ROW) + THREAD / LANES_OF_ROW, lane = THREAD % LANES_OF_ROW;
    int head = i / (int)padded(a.n), row = i - head * (int)padded(a.n);
    bool inside = head < a.batch * a.heads && row < a.n;
    int64_t at = half_rows_of(a.o, head, a.heads, a.n, a.depth).at + row * a.heads * a.depth;
    float sum = 0;
    for (int64_t c = lane * 4; inside && c < a.depth; c += LANES_OF_ROW * 4) {
        if (wide) {
            values<4> x = load<4>(a.o, at + c), y = load<4>(a.dout, at + c);
            UNROLL
            for (int k = 0; k < 4; k++) sum += x.v[k] * y.v[k];
        } else {
            for (int64_t k = c; k < c + 4 && k < a.depth; k++)
                sum += load_one(a.o, at + k) * load_one(a.dout, at + k);
        }
    }
    UNROLL
    for (int mask = LANES_OF_ROW / 2; mask > 0; mask /= 2) sum += SHUFFLE_XOR(sum, mask);
    if (lane > 0 || head >= a.batch * a.heads) return;
    facts[2 * (int64_t)i] = inside ? a.lse[head * a.n + row] * LOG2_E : INFINITY;
    facts[2 * (int64_t)i + 1] = inside ? sum : 0.0f;
}

/* What a launch makes: of its own rows' queries dq, or of its own keys the one, the other, or both */
enum gradient { DQ, DK, DV, DK_DV };

/* What a launch goes over: rows of two tensors, and queries' facts where it owns keys */
struct other_side {
    half_rows first, second;
    const float *facts;
};

/* Begins to bring rows [from, from + OTHERS) of both, and the facts of these queries. */
template <int DEPTH, int OTHERS, int SIZE>
DEVICE void others_fetch(uint16_t *to, float *facts, const other_side &y, int from)
{
    half_fetch<DEPTH, OTHERS, SIZE>(to, y.first, from);
    half_fetch<DEPTH, OTHERS, SIZE>(to + OTHERS * half_tile<DEPTH>::STRIDE, y.second, from);
    static_assert(OTHERS / 2 <= SIZE, "a thread brings at most two queries' facts");
    if (y.facts && THREAD < OTHERS / 2)
        copy_start(facts + THREAD * 4, y.facts + from * 2 + THREAD * 4, true);
}

/* Scores into probabilities, and the gradients of these (dp) into the scores'. own, of queries: a
 * lane's two rows' facts; facts, where the rows are keys: those of the columns */
template <int TILES, gradient MAKES>
DEVICE void scores_back(float (&s)[TILES][4], float (&dp)[TILES][4], const float (&own)[2][2],
                        const float *facts, float scale)
{
    UNROLL
    for (int j = 0; j < TILES; j++) {
        packed<float, 4> two = {};
        if (MAKES != DQ) two = *(const packed<float, 4> *)(facts + (j * 8 + THREAD % 4 * 2) * 2);
        UNROLL
        for (int i = 0; i < 4; i++) {
            float log = MAKES == DQ ? own[i / 2][0] : two.v[i % 2 * 2];
            float off = MAKES == DQ ? own[i / 2][1] : two.v[i % 2 * 2 + 1];
            s[j][i] = power_of_2(s[j][i] * scale - log);
            if (MAKES != DV) dp[j][i] = s[j][i] * (dp[j][i] - off);
        }
    }
}

/* Neither of keys that are not there nor of pairs that must not be seen: of rows from `row` on */
template <int TILES, gradient MAKES>
DEVICE void clear_hidden(float (&s)[TILES][4], float (&ds)[TILES][4], int row, int column,
                         const attention_grad_args &a)
{
    int lane = THREAD % WARP;
    UNROLL
    for (int j = 0; j < TILES; j++) {
        UNROLL
        for (int i = 0; i < 4; i++) {
            int own = row + lane / 4 + i / 2 * 8, other = column + j * 8 + lane % 4 * 2 + i % 2;
            int key = MAKES == DQ ? other : own, query = MAKES == DQ ? own : other;
            if (key >= a.m || (a.causal && key > query)) s[j][i] = ds[j][i] = 0;
        }
    }
}

/* Whether a warp's 16 rows from `row` on see all of the tile's */
template <int OTHERS, gradient MAKES>
DEVICE bool sees_all(int row, int other, const attention_grad_args &a)
{
    if (MAKES != DQ) return !a.causal || other >= row + 15;
    return other + OTHERS <= a.m && (!a.causal || other + OTHERS <= row + 1);
}

template <int DEPTH, int WARPS, int TALL, int OTHERS, gradient MAKES, bool BF16>
KERNEL THREADS_AT_MOST(WARPS *WARP) attention_half_grad_kernel(attention_grad_args a,
                                                               const float *facts)
{
    enum { SIZE = WARPS * WARP, OWN = TALL * 16, ROWS = WARPS * OWN, TILES = OTHERS / 8 };
    enum { STRIDE = half_tile<DEPTH>::STRIDE, STAGE = 2 * OTHERS * STRIDE };
    enum { KEYS_OWN = MAKES != DQ, DKQ = MAKES != DV, MAKES_DV = MAKES == DV || MAKES == DK_DV };
    SHARED_ALIGNED(uint16_t, shared, ROWS > 2 * OTHERS ? 2 * ROWS * STRIDE : 2 * STAGE);
    SHARED_ALIGNED(float, columns, 2 * 2 * OTHERS);
    int head = BLOCK_Y;
    half_rows q = half_rows_of(a.q, head, a.heads, a.n, a.depth);
    half_rows k = half_rows_of(a.k, head, a.heads, a.m, a.depth);
    half_rows v = half_rows_of(a.v, head, a.heads, a.m, a.depth);
    half_rows dout = half_rows_of(a.dout, head, a.heads, a.n, a.depth);
    const float *rows = facts + head * padded(a.n) * 2;
    other_side y = {KEYS_OWN ? q : k, KEYS_OWN ? dout : v, KEYS_OWN ? rows : NULL};
    int block = BLOCK_X * ROWS, mine = THREAD / WARP * OWN, first = block + mine;
    uint32_t x1[TALL][half_tile<DEPTH>::STEPS][4], x2[TALL][half_tile<DEPTH>::STEPS][4];
    float sum1[TALL][DEPTH / 8][4] = {}, sum2[TALL][DEPTH / 8][4] = {}, own[TALL][2][2] = {};
    half_fetch<DEPTH, ROWS, SIZE>(shared, KEYS_OWN ? k : q, block);
    half_fetch<DEPTH, ROWS, SIZE>(shared + ROWS * STRIDE, KEYS_OWN ? v : dout, block);
    copies_wait();
    BARRIER();
    UNROLL
    for (int t = 0; t < TALL; t++) {
        left_load<DEPTH>(x1[t], shared + (mine + t * 16) * STRIDE);
        left_load<DEPTH>(x2[t], shared + (ROWS + mine + t * 16) * STRIDE);
        UNROLL
        for (int i = 0; i < (KEYS_OWN ? 0 : 4); i++) {
            int row = first + t * 16 + THREAD % WARP / 4 + i / 2 * 8;
            own[t][i / 2][i % 2] = row < a.n ? rows[row * 2 + i % 2] : 0.0f;
        }
    }
    BARRIER();
    int begin = KEYS_OWN && a.causal ? block / OTHERS * OTHERS : 0;
    int end = (int)(KEYS_OWN ? a.n : a.causal && block + ROWS < a.m ? block + ROWS : a.m);
    if (begin < end) others_fetch<DEPTH, OTHERS, SIZE>(shared, columns, y, begin);
    for (int other = begin, stage = 0; other < end; other += OTHERS, stage = 1 - stage) {
        const uint16_t *y1 = shared + stage * STAGE, *y2 = y1 + OTHERS * STRIDE;
        float s[TALL][TILES][4] = {}, ds[TALL][TILES][4] = {};
        copies_wait();
        BARRIER();
        if (other + OTHERS < end)
            others_fetch<DEPTH, OTHERS, SIZE>(shared + (1 - stage) * STAGE,
                                              columns + (1 - stage) * 2 * OTHERS, y, other + OTHERS);
        add_scores<DEPTH, TALL, TILES, BF16>(s, x1, y1);
        if (DKQ) add_scores<DEPTH, TALL, TILES, BF16>(ds, x2, y2);
        UNROLL
        for (int t = 0; t < TALL; t++) {
            scores_back<TILES, MAKES>(s[t], ds[t], own[t], columns + stage * 2 * OTHERS,
                                      a.alpha * LOG2_E);
            if (!sees_all<OTHERS, MAKES>(first + t * 16, other, a))
                clear_hidden<TILES, MAKES>(s[t], ds[t], first + t * 16, other, a);
        }
        if (DKQ) add_mixed<DEPTH, TALL, TILES, BF16>(sum1, ds, y1);
        if (MAKES_DV) add_mixed<DEPTH, TALL, TILES, BF16>(sum2, s, y2);
    }
    BARRIER();
    gpu_view to = KEYS_OWN ? a.dk : a.dq;
    const float alpha[2] = {a.alpha, a.alpha}, one[2] = {1, 1};
    UNROLL
    for (int t = 0; t < TALL; t++) {
        uint16_t *place = shared + (mine + t * 16) * STRIDE;
        if (DKQ && to.data)
            half_store<DEPTH, BF16>(
                to, half_rows_of(to, head, a.heads, KEYS_OWN ? a.m : a.n, a.depth), first + t * 16,
                sum1[t], alpha, place);
        if (MAKES_DV && a.dv.data)
            half_store<DEPTH, BF16>(a.dv, half_rows_of(a.dv, head, a.heads, a.m, a.depth),
                                    first + t * 16, sum2[t], one, place + ROWS * STRIDE);
    }
}

template <int DEPTH, int WARPS, int TALL, int OTHERS, gradient MAKES>
static void half_grad_run(const attention_grad_args *a, const float *facts, gpu_stream stream)
{
    int64_t rows = MAKES == DQ ? a->n : a->m, blocks = divided(rows, WARPS * TALL * 16);
    int64_t heads = a->batch * a->heads;
    if (a->q.type == DTYPE_BF16)
        LAUNCH((attention_half_grad_kernel<DEPTH, WARPS, TALL, OTHERS, MAKES, true>), blocks, heads,
               1, WARPS * WARP, stream, *a, facts);
    else
        LAUNCH((attention_half_grad_kernel<DEPTH, WARPS, TALL, OTHERS, MAKES, false>), blocks,
               heads, 1, WARPS * WARP, stream, *a, facts);
}

/* TOGETHER: dk and dv in one launch, where a warp's registers hold both */
template <int DEPTH, int WARPS, int TALL, int OTHERS, bool TOGETHER>
static void half_grad_all(const attention_grad_args *a, const float *facts, gpu_stream stream)
{
    if (a->dq.data) half_grad_run<DEPTH, WARPS, TALL, OTHERS, DQ>(a, facts, stream);
    if constexpr (TOGETHER) {
        if (a->dk.data || a->dv.data)
            half_grad_run<DEPTH, WARPS, TALL, OTHERS, DK_DV>(a, facts, stream);
    } else {
        if (a->dk.data) half_grad_run<DEPTH, WARPS, TALL, OTHERS, DK>(a, facts, stream);
        if (a->dv.data) half_grad_run<DEPTH, WARPS, TALL, OTHERS, DV>(a, facts, stream);
    }
}

size_t attention_half_grad_scratch(const attention_grad_args *a)
{
    return (size_t)(a->batch * a->heads * divided(a->n, PADDED) * PADDED) * 2 * sizeof(float);
}

bool attention_half_grad_launch(const attention_grad_args *a, void *scratch, gpu_stream stream)
{
    float *facts = (float *)scratch;
    dtype type = a->q.type;
    if (type == DTYPE_F32 || a->k.type != type || a->v.type != type || a->dout.type != type)
        return false;
    int64_t rows = a->batch * a->heads * divided(a->n, PADDED) * PADDED;
    if (rows > INT32_MAX / 2 || a->m > INT32_MAX / 2) return false;
    bool wide = a->depth % 4 == 0 && is_wide(a->o) && is_wide(a->dout);
    LAUNCH(row_facts_kernel, divided(rows * LANES_OF_ROW, BLOCK), 1, 1, BLOCK, stream, *a, wide, facts);
    if (a->depth <= 40)
        half_grad_all<40, 4, 2, 32, true>(a, facts, stream);
    else if (a->depth <= 64)
        half_grad_all<64, 4, 1, 64, true>(a, facts, stream);
    else if (a->depth <= 80)
        half_grad_all<80, 4, 1, 32, true>(a, facts, stream);
    else if (a->depth <= 128)
        half_grad_all<128, 4, 1, 32, false>(a, facts, stream);
    else
        half_grad_all<160, 2, 1, 32, false>(a, facts, stream);
    return true;
}
