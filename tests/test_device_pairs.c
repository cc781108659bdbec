/* SPDX-License-Identifier: Apache-2.0
 *
 * test_device_pairs: attention by products of bfloat16 pairs, which the processor's device takes
 * where it multiplies bfloat16, on every instruction set this machine has (those without the
 * instruction have it in others): against double loops on the same numbers, the order of its sums
 * and its zeros, and the same bytes on any number of threads.
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

struct shape {
    int64_t batch, queries, keys, heads, depth;
    bool causal;
};

static const struct shape shapes[] = {
    {1, 1, 1, 1, 1, false},     {2, 13, 7, 3, 5, false},    {1, 30, 77, 2, 40, false},
    {1, 100, 100, 2, 24, true}, {1, 67, 700, 1, 33, false}, {1, 25, 300, 1, 260, false},
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
    error e = {0};
    void *state = NULL;
    size_t size = 0;
    if (!d->prepare(d, &call, &state, &size, &e)) fail_msg("%s", e.text);
    void *scratch = aligned_alloc(64, (size + 64) & ~(size_t)63);
    assert_non_null(scratch);
    memset(scratch, 0xff, size);
    if (!run_one(d, &call, state, scratch, &e)) fail_msg("%s", e.text);
    d->unprepare(d, &call, state);
    free(scratch);
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
        device *d[3] = {device_of(levels[level], 1)};
        if (!d[0]) continue;
        d[1] = device_of(levels[level], 2), d[2] = device_of(levels[level], 3);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
