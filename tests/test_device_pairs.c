/* SPDX-License-Identifier: Apache-2.0
 *
 * test_device_pairs: attention, its gradient and direct gradients by the weight by products of
 * bfloat16 pairs, which the processor's device takes where it multiplies bfloat16, on every
 * instruction set this machine has (those without the instruction have it in others): against
 * double loops on the same numbers, the order of its sums and its zeros, and the same bytes on any
 * number of threads.
 */
#include <math.h>

#include "base/half.h"
#include "device_support.h"

static const char *const levels[] = {"plain", "avx2", "avx512", "avx512bf16"};
enum { LEVELS = sizeof levels / sizeof levels[0] };

/* NULL: this machine lacks the level. Whatever it is, products are bfloat16's. */
static device *device_of(const char *level, int threads)
{
    device *d = NULL;
    error e = {0};
    device_options o = {.threads = threads, .precision = DTYPE_BF16, .level = level};
    if (!device_open(&d, "cpu", &o, &e)) return NULL;
    d->compute = DTYPE_BF16;
    return d;
}

/* Of one, two and three threads; false: the processor has not this level. */
static bool devices_of(const char *level, device *d[3])
{
    if (!(d[0] = device_of(level, 1))) return false;
    for (int k = 1; k < 3; k++) assert_non_null(d[k] = device_of(level, k + 1));
    return true;
}

struct shape {
    int64_t batch, queries, keys, heads, depth;
    bool causal;
};

static const struct shape shapes[] = {
    {1, 1, 1, 1, 1, false},     {2, 13, 7, 3, 5, false},    {1, 30, 77, 2, 40, false},
    {1, 100, 100, 2, 24, true}, {1, 67, 700, 1, 33, false}, {1, 25, 300, 1, 260, false},
    {1, 251, 31, 2, 12, false},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* q [B,N,H*D], k, v [B,M,H*D]; o and lse as they should be */
struct data {
    struct shape s;
    float alpha;
    int64_t width;
    uint16_t *q, *k, *v;
    double *o, *lse, *most; /* most [B,H*D]: the largest |v| of a channel */
    float *got_o, *got_lse;
};

static uint16_t *halves(int64_t n, uint32_t seed)
{
    uint16_t *h = malloc((size_t)n * sizeof *h);
    float *x = malloc((size_t)n * sizeof *x);
    assert_true(h && x);
    fill_random(x, (size_t)n, seed);
    convert_from_float(h, DTYPE_BF16, x, (size_t)n);
    free(x);
    return h;
}

static void row_want(struct data *q, int64_t b, int64_t n, int64_t h)
{
    const struct shape *s = &q->s;
    int64_t keys = s->causal ? n + 1 : s->keys;
    double *logit = calloc((size_t)s->keys, sizeof *logit), top = -INFINITY, total = 0;
    assert_non_null(logit);
    for (int64_t j = 0; j < keys; j++) {
        for (int64_t i = 0; i < s->depth; i++)
            logit[j] += (double)bf16_to_float(
                            q->q[(b * s->queries + n) * q->width + h * s->depth + i]) *
                        (double)bf16_to_float(
                            q->k[(b * s->keys + j) * q->width + h * s->depth + i]);
        logit[j] *= (double)q->alpha;
        top = fmax(top, logit[j]);
    }
    for (int64_t j = 0; j < keys; j++) total += exp(logit[j] - top);
    for (int64_t i = h * s->depth; i < (h + 1) * s->depth; i++)
        for (int64_t j = 0; j < keys; j++)
            q->o[(b * s->queries + n) * q->width + i] +=
                exp(logit[j] - top) / total *
                (double)bf16_to_float(q->v[(b * s->keys + j) * q->width + i]);
    q->lse[(b * s->heads + h) * s->queries + n] = top + log(total);
    free(logit);
}

static struct data data_open(const struct shape *s)
{
    struct data q = {.s = *s, .alpha = 1 / sqrtf((float)s->depth), .width = s->heads * s->depth};
    int64_t outs = s->batch * s->queries * q.width, ins = s->batch * s->keys * q.width;
    int64_t stats = s->batch * s->heads * s->queries;
    q.q = halves(outs, 1), q.k = halves(ins, 2), q.v = halves(ins, 3);
    q.o = calloc((size_t)outs, sizeof *q.o);
    q.lse = calloc((size_t)stats, sizeof *q.lse);
    q.most = calloc((size_t)(s->batch * q.width), sizeof *q.most);
    q.got_o = calloc((size_t)outs, sizeof *q.got_o);
    q.got_lse = calloc((size_t)stats, sizeof *q.got_lse);
    assert_true(q.o && q.lse && q.most && q.got_o && q.got_lse);
    for (int64_t b = 0; b < s->batch; b++) {
        for (int64_t j = 0; j < s->keys; j++)
            for (int64_t i = 0; i < q.width; i++) {
                double *most = &q.most[b * q.width + i];
                double v = (double)bf16_to_float(q.v[(b * s->keys + j) * q.width + i]);
                *most = fmax(*most, fabs(v));
            }
        for (int64_t n = 0; n < s->queries; n++)
            for (int64_t h = 0; h < s->heads; h++) row_want(&q, b, n, h);
    }
    return q;
}

static void data_close(struct data *q)
{
    free(q->q), free(q->k), free(q->v), free(q->o), free(q->lse), free(q->most);
    free(q->got_o), free(q->got_lse);
}

static array operand(void *data, dtype type, int64_t a, int64_t b, int64_t c)
{
    array r = {.type = type, .rank = 3, .dim = {a, b, c}};
    operand_put(&r, data);
    return r;
}

static void call_run(device *d, const op_call *call)
{
    error e = {0};
    void *state = NULL;
    size_t size = 0;
    if (!d->prepare(d, call, &state, &size, &e)) fail_msg("%s", e.text);
    void *scratch = aligned_alloc(64, (size + 64) & ~(size_t)63);
    assert_non_null(scratch);
    memset(scratch, 0xff, size);
    if (!run_one(d, call, state, scratch, &e)) fail_msg("%s", e.text);
    d->unprepare(d, call, state);
    free(scratch);
}

static void attend(device *d, struct data *q)
{
    const struct shape *s = &q->s;
    op_call call = {.kind = OP_ATTENTION,
                    .params = {.heads = (int)s->heads, .alpha = q->alpha, .causal = s->causal},
                    .in_count = 3,
                    .out_count = 2,
                    .in = {operand(q->q, DTYPE_BF16, s->batch, s->queries, q->width),
                           operand(q->k, DTYPE_BF16, s->batch, s->keys, q->width),
                           operand(q->v, DTYPE_BF16, s->batch, s->keys, q->width)},
                    .out = {operand(q->got_o, DTYPE_F32, s->batch, s->queries, q->width),
                            operand(q->got_lse, DTYPE_F32, s->batch, s->heads, s->queries)}};
    call_run(d, &call);
}

/* A weight is rounded to 8 bits, so the sum is off by 2^-9 of the largest value at most, and by
 * what the last block's sum was scaled by. */
static void expect_near(const struct data *q, const char *level, int shape)
{
    const struct shape *s = &q->s;
    for (int64_t n = 0; n < s->batch * s->queries; n++)
        for (int64_t i = 0; i < q->width; i++) {
            double off = fabs((double)q->got_o[n * q->width + i] - q->o[n * q->width + i]);
            double bound = (0x1p-9 + 1e-5) * q->most[n / s->queries * q->width + i];
            if (!(off <= bound))
                fail_msg("%s, shape %d: row %d, channel %d is off by %g of %g", level, shape,
                         (int)n, (int)i, off, bound);
        }
    for (int64_t n = 0; n < s->batch * s->heads * s->queries; n++)
        if (!(fabs((double)q->got_lse[n] - q->lse[n]) < 1e-5))
            fail_msg("%s, shape %d: lse %d is %g, should be %g", level, shape, (int)n,
                     (double)q->got_lse[n], q->lse[n]);
}

static void test_products(void **state)
{
    (void)state;
    for (int level = 0; level < LEVELS; level++) {
        device *d[3];
        if (!devices_of(levels[level], d)) continue;
        for (int i = 0; i < SHAPES; i++) {
            struct data q = data_open(&shapes[i]);
            size_t n = (size_t)(q.s.batch * q.s.queries * q.width) * sizeof(float);
            float *one = malloc(n);
            assert_non_null(one);
            for (int threads = 1; threads <= 3; threads++) {
                attend(d[threads - 1], &q);
                expect_near(&q, levels[level], i);
                if (threads == 1) memcpy(one, q.got_o, n);
                assert_memory_equal(one, q.got_o, n);
            }
            free(one);
            data_close(&q);
        }
        for (int i = 0; i < 3; i++) device_close(&d[i]);
    }
}

/* ---- the gradient ---- */

/* dq [B,N,H*D], then dk and dv [B,M,H*D], as they should be, and how far they may be off. */
struct slopes {
    size_t count[3];
    double *want[3], *most[3];
    uint16_t *d_o, *o;
    float *lse, *got[3];
};

/* A head of a sample. Its weights p and ds = p (dp - delta) are rounded to 8 bits before they are
 * multiplied, so each term of a sum may be off by 2^-8 of itself; ds itself in float32. */
static void head_slopes(const struct data *q, struct slopes *g, int64_t b, int64_t h)
{
    const struct shape *s = &q->s;
    double alpha = (double)q->alpha;
    for (int64_t n = 0; n < s->queries; n++) {
        int64_t at = (b * s->queries + n) * q->width + h * s->depth;
        double delta = 0, lse = (double)g->lse[(b * s->heads + h) * s->queries + n];
        for (int64_t i = at; i < at + s->depth; i++)
            delta += (double)bf16_to_float(g->d_o[i]) * (double)bf16_to_float(g->o[i]);
        for (int64_t j = 0; j < (s->causal ? n + 1 : s->keys); j++) {
            int64_t key = (b * s->keys + j) * q->width + h * s->depth;
            double logit = 0, dp = 0, size = fabs(delta);
            for (int64_t i = 0; i < s->depth; i++) {
                double step = (double)bf16_to_float(g->d_o[at + i]) *
                              (double)bf16_to_float(q->v[key + i]);
                logit += (double)bf16_to_float(q->q[at + i]) * (double)bf16_to_float(q->k[key + i]);
                dp += step, size += fabs(step);
            }
            double p = exp(logit * alpha - lse), ds = p * (dp - delta) * alpha;
            double p_off = p * 0x1p-8, ds_off = fabs(ds) * 0x1p-8 + p * size * alpha * 1e-5;
            for (int64_t i = 0; i < s->depth; i++) {
                double query = (double)bf16_to_float(q->q[at + i]);
                double at_key = (double)bf16_to_float(q->k[key + i]);
                double d_o = (double)bf16_to_float(g->d_o[at + i]);
                g->want[0][at + i] += ds * at_key, g->most[0][at + i] += ds_off * fabs(at_key);
                g->want[1][key + i] += ds * query, g->most[1][key + i] += ds_off * fabs(query);
                g->want[2][key + i] += p * d_o, g->most[2][key + i] += p_off * fabs(d_o);
            }
        }
    }
}

static struct slopes slopes_open(const struct data *q)
{
    const struct shape *s = &q->s;
    struct slopes g = {.count = {(size_t)(s->batch * s->queries * q->width)}};
    size_t stats = (size_t)(s->batch * s->heads * s->queries);
    g.count[1] = g.count[2] = (size_t)(s->batch * s->keys * q->width);
    g.d_o = halves((int64_t)g.count[0], 4);
    g.o = malloc(g.count[0] * sizeof *g.o), g.lse = malloc(stats * sizeof *g.lse);
    assert_true(g.o && g.lse);
    for (size_t i = 0; i < g.count[0]; i++) g.o[i] = bf16_from_float((float)q->o[i]);
    for (size_t i = 0; i < stats; i++) g.lse[i] = (float)q->lse[i];
    for (int i = 0; i < 3; i++) {
        g.want[i] = calloc(g.count[i], sizeof *g.want[i]);
        g.most[i] = calloc(g.count[i], sizeof *g.most[i]);
        g.got[i] = calloc(g.count[i], sizeof *g.got[i]);
        assert_true(g.want[i] && g.most[i] && g.got[i]);
    }
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t h = 0; h < s->heads; h++) head_slopes(q, &g, b, h);
    return g;
}

static void slopes_close(struct slopes *g)
{
    for (int i = 0; i < 3; i++) free(g->want[i]), free(g->most[i]), free(g->got[i]);
    free(g->d_o), free(g->o), free(g->lse);
}

static void slope(device *d, const struct data *q, struct slopes *g)
{
    const struct shape *s = &q->s;
    int64_t b = s->batch, n = s->queries, m = s->keys, w = q->width;
    op_call call = {
        .kind = OP_ATTENTION_GRAD,
        .params = {.heads = (int)s->heads, .alpha = q->alpha, .causal = s->causal},
        .in_count = 6,
        .out_count = 3,
        .in = {operand(g->d_o, DTYPE_BF16, b, n, w), operand(q->q, DTYPE_BF16, b, n, w),
               operand(q->k, DTYPE_BF16, b, m, w), operand(q->v, DTYPE_BF16, b, m, w),
               operand(g->o, DTYPE_BF16, b, n, w), operand(g->lse, DTYPE_F32, b, s->heads, n)},
        .out = {operand(g->got[0], DTYPE_F32, b, n, w), operand(g->got[1], DTYPE_F32, b, m, w),
                operand(g->got[2], DTYPE_F32, b, m, w)}};
    call_run(d, &call);
}

static void expect_slopes(const struct slopes *g, const char *level, int shape)
{
    for (int k = 0; k < 3; k++) {
        double largest = 0;
        for (size_t i = 0; i < g->count[k]; i++) largest = fmax(largest, fabs(g->want[k][i]));
        for (size_t i = 0; i < g->count[k]; i++) {
            double off = fabs((double)g->got[k][i] - g->want[k][i]);
            if (!(off <= g->most[k][i] + 1e-5 * largest))
                fail_msg("%s, shape %d: d%c, number %zu is off by %g of %g", level, shape, "qkv"[k],
                         i, off, g -> most[k][i]);
        }
    }
}

static void test_gradient(void **state)
{
    (void)state;
    for (int level = 0; level < LEVELS; level++) {
        device *d[3];
        if (!devices_of(levels[level], d)) continue;
        for (int i = 0; i < SHAPES; i++) {
            struct data q = data_open(&shapes[i]);
            struct slopes one = slopes_open(&q), more = slopes_open(&q);
            slope(d[0], &q, &one);
            expect_slopes(&one, levels[level], i);
            for (int k = 1; k < 3; k++) {
                slope(d[k], &q, &more);
                for (int j = 0; j < 3; j++)
                    assert_memory_equal(one.got[j], more.got[j], one.count[j] * sizeof(float));
            }
            d[0]->compute =
                DTYPE_F32; /* not pairs: other bytes, where there is anything to round */
            slope(d[0], &q, &more);
            d[0]->compute = DTYPE_BF16;
            assert_int_equal(memcmp(one.got[0], more.got[0], one.count[0] * sizeof(float)) == 0,
                             shapes[i].keys == 1);
            slopes_close(&one), slopes_close(&more);
            data_close(&q);
        }
        for (int i = 0; i < 3; i++) device_close(&d[i]);
    }
}

/* ---- the gradient by the weight ---- */

/* A convolution of k x k over h x w, or (k 0) h x w rows of a linear layer: c channels to o */
struct weight_shape {
    int64_t batch, h, w, c, o;
    int k, stride, pad;
};

static const struct weight_shape weight_shapes[] = {
    {1, 1, 1, 1, 1, 0, 0, 0},     {1, 1, 2, 5, 3, 0, 0, 0},    {1, 1, 17, 33, 19, 0, 0, 0},
    {1, 1, 515, 70, 41, 0, 0, 0}, {1, 1, 40, 530, 7, 0, 0, 0}, {2, 13, 11, 19, 35, 3, 2, 1},
    {1, 7, 9, 3, 13, 3, 1, 1},    {2, 9, 8, 20, 6, 2, 1, 0},   {1, 37, 35, 7, 17, 1, 2, 0},
};

/* What x's pixel for (row, tap) is, or NULL in the padding. */
static const uint16_t *pixel_of(const struct weight_shape *s, const uint16_t *x, int64_t row,
                                int64_t tap, int64_t oh, int64_t ow)
{
    if (!s->k) return x + row * s->c;
    int64_t y = row / ow % oh * s->stride - s->pad + tap / s->k;
    int64_t z = row % ow * s->stride - s->pad + tap % s->k;
    if (y < 0 || z < 0 || y >= s->h || z >= s->w) return NULL;
    return x + ((row / (ow * oh) * s->h + y) * s->w + z) * s->c;
}

/* Every product is exact in float32, and so the sum but for float32's own roundings. */
static void expect_weight(device *const d[3], const struct weight_shape *s)
{
    int64_t k = s->k ? s->k : 1, taps = k * k;
    int64_t oh = s->k ? (s->h + 2 * s->pad - k) / s->stride + 1 : s->h;
    int64_t ow = s->k ? (s->w + 2 * s->pad - k) / s->stride + 1 : s->w;
    int64_t rows = s->batch * oh * ow, n = s->o * s->c * taps;
    uint16_t *x = halves(s->batch * s->h * s->w * s->c, 5), *dy = halves(rows * s->o, 6);
    double *want = calloc((size_t)n, sizeof *want), *size = calloc((size_t)n, sizeof *size);
    float *got = calloc((size_t)n, sizeof *got), *first = calloc((size_t)n, sizeof *first);
    assert_true(want && size && got && first);
    for (int64_t i = 0; i < rows * taps; i++) {
        const uint16_t *from = pixel_of(s, x, i / taps, i % taps, oh, ow);
        for (int64_t j = 0; from && j < s->o * s->c; j++) {
            double step = (double)bf16_to_float(dy[i / taps * s->o + j / s->c]) *
                          (double)bf16_to_float(from[j % s->c]);
            want[j * taps + i % taps] += step, size[j * taps + i % taps] += fabs(step);
        }
    }
    op_call call = {.kind = s->k ? OP_CONV2D_GRAD_W : OP_LINEAR_GRAD_W, .in_count = 2};
    call.params = (op_params){.stride = s->stride, .pad_top = s->pad, .pad_left = s->pad};
    call.params.pad_bottom = call.params.pad_right = s->pad;
    call.out_count = 1;
    call.in[0] = (array){.type = DTYPE_BF16, .rank = 4, .dim = {s->batch, oh, ow, s->o}};
    call.in[1] = (array){.type = DTYPE_BF16, .rank = 4, .dim = {s->batch, s->h, s->w, s->c}};
    call.out[0] = (array){.type = DTYPE_F32, .rank = 4, .dim = {s->o, s->c, k, k}};
    operand_put(&call.in[0], dy), operand_put(&call.in[1], x);
    for (int i = 0; i < 3; i++) {
        operand_put(&call.out[0], i ? got : first);
        call_run(d[i], &call);
        if (i) assert_memory_equal(first, got, (size_t)n * sizeof *got);
    }
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)first[i] - want[i]) <= 2e-6 * size[i]))
            fail_msg("%s, %d rows, %d channels: number %d is %g, not %g", d[0]->name, (int)rows,
                     (int)s->c, (int)i, (double)first[i], want[i]);
    free(x), free(dy), free(want), free(size), free(got), free(first);
}

/* Rows in pairs, the second of one first: 2^24 + 1 - 2^24 + 1 (one by one it would be 2); what is
 * below the least normal number is zero. */
static void expect_row_order(device *d)
{
    float values[4] = {1, 1, 0x1p24f, -0x1p24f}, small[1] = {0x1p-127f}, large[1] = {0x1p127f}, got;
    uint16_t a[4], b[4] = {0x3f80, 0x3f80, 0x3f80, 0x3f80};
    convert_from_float(a, DTYPE_BF16, values, 4);
    op_call call = {.kind = OP_LINEAR_GRAD_W,
                    .in_count = 2,
                    .out_count = 1,
                    .in = {operand(a, DTYPE_BF16, 1, 4, 1), operand(b, DTYPE_BF16, 1, 4, 1)},
                    .out = {{.type = DTYPE_F32, .rank = 2, .dim = {1, 1}}}};
    operand_put(&call.out[0], &got);
    call_run(d, &call);
    assert_true(got == 1);
    convert_from_float(a, DTYPE_BF16, small, 1);
    convert_from_float(b, DTYPE_BF16, large, 1);
    call.in[0].dim[1] = call.in[1].dim[1] = 1;
    call_run(d, &call);
    assert_true(got == 0);
}

static void test_weights(void **state)
{
    (void)state;
    for (int level = 0; level < LEVELS; level++) {
        device *d[3];
        if (!devices_of(levels[level], d)) continue;
        for (size_t i = 0; i < sizeof weight_shapes / sizeof weight_shapes[0]; i++)
            expect_weight(d, &weight_shapes[i]);
        expect_row_order(d[0]);
        for (int i = 0; i < 3; i++) device_close(&d[i]);
    }
}

/* ---- the instruction ---- */

/* What the instruction does, a number at a time. */
static float flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

static float dot(float sum, const uint16_t *a, const uint16_t *b)
{
    for (int i = 1; i >= 0; i--) {
        float x = flush(bf16_to_float(a[i])), y = flush(bf16_to_float(b[i]));
        sum = flush((float)((double)x * (double)y + (double)flush(sum)));
    }
    return sum;
}

/* One key: lse is the logit, whose sum has the instruction's order, rounding and zeros. */
static void expect_logit(device *d, const float *x, const float *y, int depth, float alpha)
{
    uint16_t a[8] = {0}, b[8] = {0};
    convert_from_float(a, DTYPE_BF16, x, (size_t)depth);
    convert_from_float(b, DTYPE_BF16, y, (size_t)depth);
    struct data q = data_open(&(struct shape){1, 1, 1, 1, depth, false});
    memcpy(q.q, a, (size_t)depth * sizeof *a), memcpy(q.k, b, (size_t)depth * sizeof *b);
    q.alpha = alpha;
    attend(d, &q);
    float sum = 0;
    for (int i = 0; i < depth; i += 2) sum = dot(sum, a + i, b + i);
    double want = (double)sum * (double)alpha, off = fabs((double)q.got_lse[0] - want);
    if (!(off < 1e-6 * fmax(1, fabs(want)))) fail_msg("%.9g, not %.9g", want + off, want);
    data_close(&q);
}

static void test_order(void **state)
{
    (void)state;
    for (int level = 0; level < LEVELS; level++) {
        device *d = device_of(levels[level], 1);
        if (!d) continue;
        /* 2^24 + 1 - 2^24 + 1: 1 of the upper first, 2 or 0 otherwise */
        expect_logit(d, (float[]){1, 0x1p24f, 1, -0x1p24f}, (float[]){1, 1, 1, 1}, 4, 1);
        expect_logit(d, (float[]){0x1p24f, 1, -0x1p24f, 1}, (float[]){1, 1, 1, 1}, 4, 1);
        expect_logit(d, (float[]){1, 3, 0x1p-20f, 5, 7}, (float[]){0.3f, 0.7f, 11, -13, 0.01f}, 5,
                     1);
        /* below the least normal number: an operand, a product, a sum */
        expect_logit(d, (float[]){0x1p-127f, 0}, (float[]){0x1p127f, 0}, 2, 1);
        expect_logit(d, (float[]){0x1p-70f, 0x1p-70f}, (float[]){0x1p-60f, 0x1p-60f}, 2, 0x1p126f);
        expect_logit(d, (float[]){0x1p-63f, -0x1.8p-63f}, (float[]){0x1p-63f, 0x1p-63f}, 2,
                     0x1p126f);
        device_close(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products), cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_weights), cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
