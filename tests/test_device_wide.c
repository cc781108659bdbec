/* SPDX-License-Identifier: Apache-2.0
 *
 * test_device_wide: attention with one head wider than most, as autoencoders have it, on the device
 * that the environment names against the processor: more queries than a piece has, and an odd rest.
 */
#include <math.h>
#include <string.h>

#include "foreign.h"
#include "support.h"

enum {
    BATCH = 2,
    N = 515,
    M = 37,
    DEPTH = 200,
    Q = BATCH * N * DEPTH,
    K = BATCH * M * DEPTH,
    LSE = BATCH * N
};
enum { NUMBERS = 2 * Q + 2 * K + LSE };

static array part(const buffer *b, size_t at, int64_t rows, int64_t depth)
{
    return (array){.memory = b,
                   .offset = at * sizeof(float),
                   .type = DTYPE_F32,
                   .rank = 3,
                   .dim = {BATCH, rows, depth}};
}

/* o and lse, from q, k and v */
static void attend(const char *name, const float *in, float *out)
{
    error e = {0};
    device *d;
    buffer b, scratch;
    void *state;
    size_t size;
    if (!device_open(&d, name, &(device_options){.threads = 1}, &e) ||
        !d->buffer_open(d, NUMBERS * sizeof(float), "numbers", &b, &e))
        fail_msg("%s", e.text);
    op_call call = {.kind = OP_ATTENTION,
                    .params = {.heads = 1, .alpha = 0.07f, .type = DTYPE_F32},
                    .in_count = 3,
                    .out_count = 2};
    call.in[0] = part(&b, 0, N, DEPTH), call.in[1] = part(&b, Q, M, DEPTH),
    call.in[2] = part(&b, Q + K, M, DEPTH);
    call.out[0] = part(&b, Q + 2 * K, N, DEPTH);
    call.out[1] = part(&b, 2 * Q + 2 * K, 1, N);
    if (!d->upload(d, &b, 0, in, (Q + 2 * K) * sizeof(float), &e) ||
        !d->prepare(d, &call, &state, &size, &e) ||
        !d->buffer_open(d, size + 1, "scratch", &scratch, &e) ||
        !d->submit(d, &(op_step){&call, state, "attention"}, 1, &scratch, 0, &e) ||
        !d->wait(d, &e) ||
        !d->download(d, &b, (Q + 2 * K) * sizeof(float), out, (Q + LSE) * sizeof(float), &e))
        fail_msg("%s: %s", name, e.text);
    d->unprepare(d, &call, state);
    d->buffer_close(&scratch);
    d->buffer_close(&b);
    device_close(&d);
}

static void test_wide(void **state)
{
    static float in[Q + 2 * K], want[Q + LSE], got[Q + LSE];
    (void)state;
    fill_random(in, Q + 2 * K, 3);
    attend("cpu", in, want);
    attend(test_device(), in, got);
    for (int i = 0; i < Q + LSE; i++)
        if (!(fabsf(want[i] - got[i]) <= 1e-5f * (1 + fabsf(want[i]))))
            fail_msg("number %d is %.9g, should be %.9g", i, (double)got[i], (double)want[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wide)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
