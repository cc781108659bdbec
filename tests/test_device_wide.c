/* SPDX-License-Identifier: Apache-2.0
 *
 * test_device_wide: attention with one head wider than most, as autoencoders have it, on the device
 * that the environment names against the processor, and its gradient: more queries than a piece
 * has, and an odd rest.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "foreign.h"
#include "support.h"

enum {
    BATCH = 2,
    N = 515,
    M = 37,
    DEPTH = 200,
    Q = BATCH * N * DEPTH,
    K = BATCH * M * DEPTH,
    LSE = BATCH * N,
    NUMBERS = 4 * Q + 4 * K + LSE
};

/* Numbers in the order dout q k v o lse dq dk dv, each an operand of its own */
enum { DOUT, QUERIES, KEYS, VALUES, OUT, STATS, DQ, DK, DV, OPERANDS };
static const int count_of[OPERANDS] = {Q, Q, K, K, Q, LSE, Q, K, K};

/* As floats on the host, as `type` on the device; lse is always float32. */
typedef struct numbers {
    float *x[OPERANDS];
    dtype type;
} numbers;

static dtype type_at(const numbers *n, int i) { return i == STATS ? DTYPE_F32 : n->type; }

static void numbers_open(numbers *n, dtype type)
{
    n->type = type;
    for (int i = 0; i < OPERANDS; i++)
        if (!(n->x[i] = calloc((size_t)count_of[i], sizeof(float)))) fail();
    for (int i = DOUT; i <= VALUES; i++) fill_random(n->x[i], (size_t)count_of[i], 3 + (unsigned)i);
}

static void numbers_close(numbers *n)
{
    for (int i = 0; i < OPERANDS; i++) free(n->x[i]);
}

static array operand_at(const buffer *b, const numbers *n, int i)
{
    size_t at = 0;
    for (int k = 0; k < i; k++) at += (size_t)count_of[k] * sizeof(float);
    array a = {.memory = b, .offset = at, .type = type_at(n, i), .rank = 3};
    a.dim[0] = BATCH, a.dim[2] = i == STATS ? N : DEPTH;
    a.dim[1] = count_of[i] / a.dim[0] / a.dim[2];
    return a;
}

/* An operand to the device, rounded to its type, and back, so that the host has what the device has
 */
static void move(device *d, const array *a, float *x, int count, bool there)
{
    uint16_t *half = malloc((size_t)count * sizeof *half);
    error e = {0};
    bool ok = half != NULL, is_half = a->type != DTYPE_F32;
    if (ok && there && is_half) {
        convert_from_float(half, a->type, x, (size_t)count);
        convert_to_float(x, half, a->type, (size_t)count);
    }
    size_t size = (size_t)count * (is_half ? sizeof *half : sizeof *x);
    ok = ok && (there ? d->upload(d, a->memory, a->offset, is_half ? (void *)half : x, size, &e)
                      : d->download(d, a->memory, a->offset, is_half ? (void *)half : x, size, &e));
    if (!ok) fail_msg("%s", e.text);
    if (!there && is_half) convert_to_float(x, half, a->type, (size_t)count);
    free(half);
}

static void run(device *d, op_call *call)
{
    error e = {0};
    buffer scratch;
    void *state;
    size_t size;
    if (!d->prepare(d, call, &state, &size, &e) ||
        !d->buffer_open(d, size + 1, "scratch", &scratch, &e) ||
        !d->submit(d, &(op_step){call, state, "attention"}, 1, &scratch, 0, &e) || !d->wait(d, &e))
        fail_msg("%s", e.text);
    d->unprepare(d, call, state);
    d->buffer_close(&scratch);
}

/* o and lse, and where `gradient`, dq, dk and dv from what n has of o and lse */
static void attend(const char *name, numbers *n, bool gradient)
{
    error e = {0};
    device *d;
    buffer b;
    if (!device_open(&d, name, &(device_options){.threads = 1}, &e) ||
        !d->buffer_open(d, NUMBERS * sizeof(float), "numbers", &b, &e))
        fail_msg("%s: %s", name, e.text);
    op_call call = {.kind = gradient ? OP_ATTENTION_GRAD : OP_ATTENTION,
                    .params = {.heads = 1, .alpha = 0.07f, .type = n->type},
                    .in_count = gradient ? 6 : 3,
                    .out_count = gradient ? 3 : 2};
    int first = gradient ? DOUT : QUERIES, made = gradient ? DQ : OUT;
    for (int i = 0; i < call.in_count; i++) {
        call.in[i] = operand_at(&b, n, first + i);
        move(d, &call.in[i], n->x[first + i], count_of[first + i], true);
    }
    for (int i = 0; i < call.out_count; i++) call.out[i] = operand_at(&b, n, made + i);
    run(d, &call);
    for (int i = 0; i < call.out_count; i++)
        move(d, &call.out[i], n->x[made + i], count_of[made + i], false);
    d->buffer_close(&b);
    device_close(&d);
}

static void expect_near(const numbers *want, const numbers *got, int first, int last, float bound)
{
    for (int k = first; k <= last; k++) {
        float largest = 0;
        for (int i = 0; i < count_of[k]; i++) largest = fmaxf(largest, fabsf(want->x[k][i]));
        for (int i = 0; i < count_of[k]; i++)
            if (!(fabsf(want->x[k][i] - got->x[k][i]) <= bound * largest))
                fail_msg("operand %d, number %d is %.9g, should be %.9g", k, i,
                         (double)got->x[k][i], (double)want->x[k][i]);
    }
}

/* The processor in float32 on the same numbers; bound: of the largest */
static void expect_wide(dtype type, float bound)
{
    numbers want, got;
    numbers_open(&want, DTYPE_F32);
    numbers_open(&got, type);
    attend(test_device(), &got, false);
    for (int i = QUERIES; i <= VALUES; i++)
        memcpy(want.x[i], got.x[i], (size_t)count_of[i] * sizeof(float));
    attend("cpu", &want, false);
    expect_near(&want, &got, OUT, OUT, bound);
    expect_near(&want, &got, STATS, STATS, 1e-5f);
    attend(test_device(), &got, true);
    for (int i = DOUT; i <= STATS; i++)
        memcpy(want.x[i], got.x[i], (size_t)count_of[i] * sizeof(float));
    attend("cpu", &want, true);
    expect_near(&want, &got, DQ, DV, 2 * bound);
    numbers_close(&want);
    numbers_close(&got);
}

static void test_wide(void **state)
{
    (void)state;
    expect_wide(DTYPE_F32, 1e-5f);
}

/* Probabilities and their gradients are rounded to the operands' type between the products. */
static void test_wide_half(void **state)
{
    (void)state;
    expect_wide(DTYPE_F16, 0x1p-10f);
    expect_wide(DTYPE_BF16, 0x1p-7f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wide),
                                       cmocka_unit_test(test_wide_half)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
