/* SPDX-License-Identifier: Apache-2.0
 *
 * The emulator itself: barriers, shuffles and matrices do what a card's do, and what a card would not
 * forgive ends the process. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

#include "emulator.h"

/* Every thread reads what its neighbour wrote before the barrier, three times. */
KERNEL rotate_kernel(int *out)
{
    SHARED(int, place, 96);
    place[THREAD] = 1000 * BLOCK_X + THREAD;
    for (int i = 0; i < 3; i++) {
        BARRIER();
        int next = place[(THREAD + 1) % THREADS];
        BARRIER();
        place[THREAD] = next;
    }
    out[(BLOCK_Y * BLOCKS_X + BLOCK_X) * THREADS + THREAD] = place[THREAD];
}

static void test_barrier(void **)
{
    int out[2 * 3 * 96];
    LAUNCH(rotate_kernel, 3, 2, 1, 96, nullptr, out);
    for (int i = 0; i < 2 * 3 * 96; i++) assert_int_equal(out[i], i / 96 % 3 * 1000 + (i % 96 + 3) % 96);
}

KERNEL shuffle_kernel(double *out)
{
    double x = THREAD;
    for (int mask = 16; mask > 0; mask /= 2) x += SHUFFLE_XOR(x, mask);
    out[THREAD] = x;
}

static void test_shuffle(void **)
{
    double out[64];
    LAUNCH(shuffle_kernel, 1, 1, 1, 64, nullptr, out);
    for (int i = 0; i < 64; i++) assert_true(out[i] == (i < 32 ? 496 : 496 + 1024));
}

/* c = a b by fragments, a [16, 16] and b [16, 8] (as rows of 16) in shared memory */
template <bool BF16> KERNEL product_kernel(const uint16_t *from_a, const uint16_t *from_b, float *out)
{
    SHARED_ALIGNED(uint16_t, a, 16 * 24);
    SHARED_ALIGNED(uint16_t, b, 16 * 24);
    for (int i = THREAD; i < 256; i += THREADS) {
        a[i / 16 * 24 + i % 16] = from_a[i];
        b[i / 16 * 24 + i % 16] = i % 16 < 8 ? from_b[i / 16 * 8 + i % 16] : 0;
    }
    BARRIER();
    uint32_t left[4], right[4];
    float c[4] = {};
    int lane = THREAD;
    matrix_load(left, a + lane % 16 * 24 + lane / 16 * 8);
    matrix_load_turned(right, b + lane % 16 * 24 + lane / 16 * 8);
    tensor_product<BF16>(c, left, right[0], right[1]);
    for (int i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
}

static void test_product(void **)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        uint16_t a[256], b[128];
        float out[128];
        for (int i = 0; i < 256; i++) a[i] = bf16 ? bf16_from_float((float)(i % 7 - 3)) : half_from_float((float)(i % 7 - 3));
        for (int i = 0; i < 128; i++) b[i] = bf16 ? bf16_from_float((float)(i % 5)) : half_from_float((float)(i % 5));
        if (bf16)
            LAUNCH(product_kernel<true>, 1, 1, 1, 32, nullptr, a, b, out);
        else
            LAUNCH(product_kernel<false>, 1, 1, 1, 32, nullptr, a, b, out);
        for (int i = 0; i < 128; i++) {
            int sum = 0;
            for (int k = 0; k < 16; k++) sum += ((i / 8 * 16 + k) % 7 - 3) * ((k * 8 + i % 8) % 5);
            assert_true(out[i] == (float)sum);
        }
    }
}

/* Four numbers to each thread's neighbour: nothing is there until they have been waited for. */
KERNEL copy_kernel(const float *from, float *early, float *out)
{
    SHARED_ALIGNED(float, place, 4 * 64);
    for (int k = 0; k < 4; k++) place[4 * THREAD + k] = 1;
    BARRIER();
    int next = (THREAD + 1) % THREADS;
    copy_start(place + 4 * next, from + 4 * THREAD, THREAD % 3 > 0);
    early[THREAD] = place[4 * next];
    copies_wait();
    BARRIER();
    for (int k = 0; k < 4; k++) out[4 * THREAD + k] = place[4 * THREAD + k];
}

static void test_copy(void **)
{
    alignas(16) float from[256];
    float early[64], out[256];
    for (int i = 0; i < 256; i++) from[i] = (float)i;
    LAUNCH(copy_kernel, 1, 1, 1, 64, nullptr, from, early, out);
    for (int i = 0; i < 64; i++) {
        int before = (i + 63) % 64;
        assert_true(early[i] != early[i]);
        for (int k = 0; k < 4; k++)
            assert_true(out[4 * i + k] == (before % 3 > 0 ? from[4 * before + k] : 0.0f));
    }
}

KERNEL unwritten_kernel(float *out)
{
    SHARED(float, place, 32);
    out[BLOCK_X] = place[3];
    place[3] = 1;
}

static void test_shared_is_nothing(void **)
{
    float out[3];
    LAUNCH(unwritten_kernel, 3, 1, 1, 1, nullptr, out);
    for (int i = 0; i < 3; i++) assert_true(out[i] != out[i]);
}

/* ---- what ends the process ---- */

KERNEL torn_kernel(float *x)
{
    if (THREAD < 16)
        BARRIER();
    else
        *x = SHUFFLE_XOR(*x, 1);
}

KERNEL gone_kernel(float *x)
{
    if (THREAD == 5) return;
    *x = SHUFFLE_XOR(*x, 1);
}

KERNEL large_kernel(float *x)
{
    SHARED(float, place, 13000);
    place[0] = *x;
}

KERNEL left_kernel(float *x)
{
    SHARED_ALIGNED(float, place, 4);
    copy_start(place, x, false);
}

/* A warp begins to bring the next matrix to where the other one still reads; or reads what has come
 * without a barrier. */
template <bool EARLY> KERNEL race_kernel(float *x)
{
    SHARED_ALIGNED(uint16_t, place, 32 * 8);
    uint32_t a[4];
    for (int turn = 0; turn < 2; turn++) {
        if (THREAD < 32) copy_start(place + THREAD * 8, x, false);
        copies_wait();
        if (EARLY || turn == 0) BARRIER();
        matrix_load(a, place + THREAD % 32 * 8);
        if (!EARLY) BARRIER();
    }
}

static void expect_end(void (*kernel)(float *), int blocks, int threads = 32)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        float x = 1;
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr)) _exit(2);
        LAUNCH(kernel, 1, blocks, 1, threads, nullptr, &x);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_ends(void **)
{
    expect_end(torn_kernel, 1);
    expect_end(gone_kernel, 1);
    expect_end(large_kernel, 1);
    expect_end(left_kernel, 1);
    expect_end(race_kernel<true>, 1, 64);
    expect_end(race_kernel<false>, 1, 64);
    expect_end(unwritten_kernel, 70000);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barrier), cmocka_unit_test(test_shuffle), cmocka_unit_test(test_product),
        cmocka_unit_test(test_copy), cmocka_unit_test(test_shared_is_nothing), cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests_name("emulator", tests, NULL, NULL);
}
