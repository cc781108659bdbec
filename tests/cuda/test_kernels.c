/* SPDX-License-Identifier: Apache-2.0
 *
 * Our CUDA kernels under the emulator against the plain double loops of reference.c, on random
 * input at odd sizes and at sizes of four, in every type, and their gradients against differences
 * of the references. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "problem.h"

_Static_assert((int)KERNEL_SILU == UNARY_SILU && (int)KERNEL_GELU == UNARY_GELU &&
                   (int)KERNEL_QUICK_GELU == UNARY_QUICK_GELU && (int)KERNEL_RELU == UNARY_RELU,
               "the device's and the kernels' are the same");

static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
enum { TYPES = sizeof types / sizeof types[0] };

/* Runs and compares all outputs, and ends the problem. */
static void expect(problem *p, double bound)
{
    reference_run(&p->call, p->in, p->out);
    problem_run(p);
    for (int i = 0; i < p->call.out_count; i++) problem_check(p, i, bound);
    problem_close(p);
}

/* ---- gradients ---- */

/* A gradient's operands beside its problem: dy, and one gradient for each input. */
typedef struct gradient {
    double *dy;
    gpu_view out, of[OP_MAX_IN];
    void *block[OP_MAX_IN + 1];
} gradient;

static gpu_view open_view(dtype type, size_t n, void **block)
{
    assert_int_equal(posix_memalign(block, 64, n * dtype_size(type)), 0);
    memset(*block, 0xff, n * dtype_size(type));
    return (gpu_view){*block, type};
}

static gradient gradient_of(const problem *p, dtype dy_type, dtype type)
{
    gradient g = {0};
    size_t n = array_count(&p->call.out[0]);
    g.dy = malloc(n * sizeof *g.dy);
    g.out = open_view(dy_type, n, &g.block[0]);
    for (size_t at = 0; at < n; at++) {
        view_set(g.out, at, random_value());
        g.dy[at] = view_get(g.out, at);
    }
    for (int i = 0; i < p->call.in_count; i++)
        g.of[i] = open_view(type, array_count(&p->call.in[i]), &g.block[i + 1]);
    return g;
}

/* Inputs [0, count): all elements of small ones, some of large ones. */
static void expect_gradient(problem *p, gradient *g, int count, double bound)
{
    for (int i = 0; i < count; i++) {
        enum { MOST = 120 };
        size_t n = array_count(&p->call.in[i]), some = n < MOST ? n : MOST;
        double want[MOST], largest = 0;
        size_t place[MOST];
        for (size_t k = 0; k < some; k++) {
            place[k] = n < MOST ? k : (size_t)((random_value() + 1) / 2 * (double)(n - 1));
            want[k] = problem_slope(p, g->dy, i, place[k]);
            largest = fmax(largest, fabs(want[k]));
        }
        for (size_t k = 0; k < some; k++)
            check_near(view_get(g->of[i], place[k]), want[k], largest, g->of[i].type, bound);
    }
    free(g->dy);
    for (int i = 0; i <= OP_MAX_IN; i++) free(g->block[i]);
    problem_close(p);
}

static void *scratch_of(size_t size)
{
    void *scratch = NULL;
    assert_int_equal(posix_memalign(&scratch, 64, size ? size : 1), 0);
    return memset(scratch, 0xff, size);
}

/* ---- norms ---- */

static problem group_problem(dtype type, dtype to, int64_t batch, int64_t space, int64_t channels,
                             int groups, bool silu, double mean, int shift)
{
    problem p = problem_of(OP_GROUP_NORM, shift);
    p.call.params = (op_params){.groups = groups, .silu = silu, .eps = 1e-5f};
    IN(&p, type, mean, 1, batch, space, channels);
    IN(&p, DTYPE_F32, 1, 0.5, channels);
    IN(&p, DTYPE_F16, 0, 0.5, channels);
    OUT(&p, to, batch, space, channels);
    OUT(&p, DTYPE_F32, batch, groups, 2);
    return p;
}

static void test_group_norm(void **state)
{
    (void)state;
    static const struct {
        int64_t batch, space, channels;
        int groups;
    } sizes[] = {{1, 1, 4, 2},    {2, 49, 40, 4},  {2, 35, 21, 7},
                 {3, 300, 12, 3}, {1, 9, 1284, 6}, {2, 1025, 16, 1},
                 {2, 150, 96, 2}, {1, 5200, 8, 2}, {1, 2, 4096, 2}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int t = 0; t < TYPES; t++) {
            problem p = group_problem(types[t], types[(t + (int)s) % TYPES], sizes[s].batch,
                                      sizes[s].space, sizes[s].channels, sizes[s].groups,
                                      s % 2 == 0, 0, t % 2);
            expect(&p, 1e-5);
        }
}

/* A mean far from zero costs float32 the digits that its numbers do not have, and no more. */
static void test_group_norm_mean(void **state)
{
    (void)state;
    problem p = group_problem(DTYPE_F32, DTYPE_F32, 1, 600, 32, 8, false, 100, 0);
    expect(&p, 1e-5);
    p = group_problem(DTYPE_F32, DTYPE_F32, 1, 64, 8, 2, false, 0, 0);
    for (int i = 0; i < 64 * 8; i++) p.in[0][i] = i == 4 ? 1e3 : p.in[0][i]; /* at a pivot */
    problem_set(&p, 0, p.in[0]);
    expect(&p, 1e-5);
}

static void test_group_norm_gradient(void **state)
{
    (void)state;
    static const struct {
        int64_t batch, space, channels;
        int groups;
    } sizes[] = {{1, 5, 4, 2}, {2, 19, 40, 4}, {2, 15, 21, 7}, {1, 70, 132, 2}, {2, 700, 16, 4}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        dtype type = types[s % TYPES];
        problem p = group_problem(type, DTYPE_F32, sizes[s].batch, sizes[s].space,
                                  sizes[s].channels, sizes[s].groups, s % 2 == 0, 0, s == 3);
        problem_run(&p);
        gradient g = gradient_of(&p, types[(s + 1) % TYPES], DTYPE_F32);
        group_norm_grad_args a = {g.out,
                                  p.x[0],
                                  p.x[1],
                                  p.x[2],
                                  p.y[1].data,
                                  g.of[0],
                                  g.of[1].data,
                                  g.of[2].data,
                                  sizes[s].batch,
                                  sizes[s].space,
                                  sizes[s].channels,
                                  sizes[s].groups,
                                  s % 2 == 0};
        void *scratch = scratch_of(group_norm_grad_scratch(&a));
        group_norm_grad_launch(&a, scratch, NULL);
        free(scratch);
        expect_gradient(&p, &g, 3, 2e-5);
    }
}

static problem layer_problem(dtype type, dtype to, int64_t rows, int64_t channels, int shift)
{
    problem p = problem_of(OP_LAYER_NORM, shift);
    p.call.params.eps = 1e-5f;
    IN(&p, type, 0.3, 1, rows, channels);
    IN(&p, DTYPE_F32, 1, 0.5, channels);
    IN(&p, DTYPE_BF16, 0, 0.5, channels);
    OUT(&p, to, rows, channels);
    OUT(&p, DTYPE_F32, rows, 2);
    return p;
}

static void test_layer_norm(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 4},    {3, 7},   {19, 40},  {9, 129},
                                       {21, 320}, {5, 520}, {6, 1280}, {2, 1284}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int t = 0; t < TYPES; t++) {
            problem p = layer_problem(types[t], types[(t + 1) % TYPES], sizes[s][0], sizes[s][1],
                                      (int)s % 2);
            expect(&p, 1e-5);
            p = layer_problem(types[t], DTYPE_F32, sizes[s][0], sizes[s][1], 0);
            problem_run(&p);
            gradient g = gradient_of(&p, types[(t + 2) % TYPES], DTYPE_F32);
            layer_norm_grad_args a = {g.out,        p.x[0],       p.x[1],      p.y[1].data, g.of[0],
                                      g.of[1].data, g.of[2].data, sizes[s][0], sizes[s][1]};
            void *scratch = scratch_of(layer_norm_grad_scratch(&a));
            layer_norm_grad_launch(&a, scratch, NULL);
            free(scratch);
            expect_gradient(&p, &g, 3, 2e-5);
        }
}

/* ---- pointwise ---- */

static void test_unary(void **state)
{
    (void)state;
    for (int kind = 0; kind <= KERNEL_RELU; kind++)
        for (int t = 0; t < TYPES; t++)
            for (int64_t n = 77; n < 3000; n += 1023) {
                problem p = problem_of(OP_UNARY, n % 2 == 0);
                p.call.params.unary = (unary_kind)kind;
                IN(&p, types[t], 0, 6, n);
                OUT(&p, types[(t + 1) % TYPES], n);
                expect(&p, 1e-6);
                p = problem_of(OP_UNARY, 0);
                p.call.params.unary = (unary_kind)kind;
                IN(&p, types[t], 0, 6, n + 3);
                OUT(&p, DTYPE_F32, n + 3);
                gradient g = gradient_of(&p, types[(t + 2) % TYPES], types[t]);
                unary_grad_launch(&(unary_args){p.x[0], g.of[0], g.out, n + 3, kind}, NULL);
                expect_gradient(&p, &g, 1, 1e-6);
            }
}

static void test_geglu(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{3, 5}, {7, 40}, {2, 1028}};
    for (size_t s = 0; s < 3; s++)
        for (int t = 0; t < TYPES; t++) {
            int64_t rows = sizes[s][0], width = sizes[s][1];
            problem p = problem_of(OP_GEGLU, t == 1);
            IN(&p, types[t], 0, 4, rows, 2 * width);
            OUT(&p, types[(t + 1) % TYPES], rows, width);
            expect(&p, 1e-6);
            p = problem_of(OP_GEGLU, 0);
            IN(&p, types[t], 0, 4, rows, 2 * width);
            OUT(&p, DTYPE_F32, rows, width);
            gradient g = gradient_of(&p, types[(t + 2) % TYPES], DTYPE_F32);
            geglu_grad_launch(&(geglu_args){p.x[0], g.of[0], g.out, rows, width}, NULL);
            expect_gradient(&p, &g, 1, 1e-6);
        }
}

/* A convolution's bias and residual, each there or not, into its own memory or another's */
static void test_finish(void **state)
{
    enum { ROWS = 9, MOST = ROWS * 64 };
    static const dtype forms[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    static const int64_t widths[] = {64, 20, 7};
    (void)state;
    for (int k = 0; k < 3 * 3 * 4; k++) {
        int64_t channels = widths[k % 3], n = ROWS * channels;
        dtype type = forms[k / 3 % 3];
        gpu_view x, bias, add, y;
        void *block[4];
        x = open_view(type, MOST, &block[0]), bias = open_view(DTYPE_F32, 64, &block[1]);
        add = open_view(forms[k % 2], MOST, &block[2]), y = open_view(DTYPE_F32, MOST, &block[3]);
        for (size_t i = 0; i < (size_t)n; i++) {
            view_set(x, i, random_value());
            view_set(add, i, random_value());
            if (i < 64) view_set(bias, i, random_value());
        }
        finish_args a = {.x = x, .y = y, .count = n, .channels = channels, .scale = k % 2 ? 8 : 1};
        if (k / 9 % 2) a.bias = bias;
        if (k / 18) a.add = add;
        finish_launch(&a, NULL);
        for (size_t i = 0; i < (size_t)n; i++) {
            double want = view_get(x, i) * (double)a.scale;
            if (a.bias.data) want += view_get(bias, i % (size_t)channels);
            if (a.add.data) want += view_get(add, i);
            check_near(view_get(y, i), want, 10, DTYPE_F32, 1e-6);
        }
        a.y = x;
        finish_launch(&a, NULL);
        for (size_t i = 0; i < (size_t)n; i++)
            check_near(view_get(x, i), view_get(y, i), 10, type, 1e-6);
        for (int i = 0; i < 4; i++) free(block[i]);
    }
}

static void test_add(void **state)
{
    (void)state;
    for (int t = 0; t < TYPES; t++)
        for (int64_t width = 7; width <= 40; width += 33) {
            problem p = problem_of(OP_ADD, t == 2);
            IN(&p, types[t], 0, 1, 3, 5, width);
            IN(&p, types[(t + 1) % TYPES], 0, 1, 5, width);
            OUT(&p, types[(t + 2) % TYPES], 3, 5, width);
            expect(&p, 1e-7);
            p = problem_of(OP_ADD_CHANNEL, t == 2);
            IN(&p, types[t], 0, 1, 3, 5, 2, width);
            IN(&p, types[(t + 1) % TYPES], 0, 1, 3, width);
            OUT(&p, types[(t + 2) % TYPES], 3, 5, 2, width);
            expect(&p, 1e-7);
            p = problem_of(OP_SCALE, t == 2);
            p.call.params.alpha = -0.3f;
            IN(&p, types[t], 0, 1, 3, 5, width);
            OUT(&p, types[(t + 1) % TYPES], 3, 5, width);
            expect(&p, 1e-7);
            p = problem_of(OP_CAST, 0);
            IN(&p, types[t], 0, 1000, 70, 5, width);
            OUT(&p, types[(t + 1) % TYPES], 70, 5, width);
            expect(&p, 0);
        }
}

/* ---- shape ---- */

static void test_channels(void **state)
{
    (void)state;
    for (int t = 0; t < TYPES; t++)
        for (int64_t width = 4; width <= 13; width += 3) {
            dtype to = types[(t + 1) % TYPES];
            problem p = problem_of(OP_CONCAT, t == 2);
            IN(&p, types[t], 0, 1, 11, width);
            IN(&p, types[t], 0, 1, 11, 2 * width);
            OUT(&p, to, 11, 3 * width);
            expect(&p, 0);
            p = problem_of(OP_SLICE, 0);
            p.call.params.start = width;
            IN(&p, types[t], 0, 1, 11, 3 * width);
            OUT(&p, to, 11, width);
            expect(&p, 0);
            p = problem_of(OP_UNSLICE, 0);
            p.call.params.start = width;
            IN(&p, types[t], 0, 1, 11, width);
            OUT(&p, to, 11, 3 * width);
            expect(&p, 0);
        }
}

static void test_upsample(void **state)
{
    (void)state;
    static const int64_t sizes[][5] = {
        {3, 5, 6, 10, 4}, {4, 3, 7, 8, 5}, {5, 5, 3, 4, 8}, {1, 2, 1, 9, 3}};
    for (size_t s = 0; s < 4; s++)
        for (int t = 0; t < TYPES; t++) {
            const int64_t *z = sizes[s];
            problem p = problem_of(OP_UPSAMPLE, t == 1);
            IN(&p, types[t], 0, 1, 2, z[0], z[1], z[4]);
            OUT(&p, types[(t + 1) % TYPES], 2, z[2], z[3], z[4]);
            expect(&p, 0);
            p = problem_of(OP_UPSAMPLE, 0);
            IN(&p, types[t], 0, 1, 2, z[0], z[1], z[4]);
            OUT(&p, DTYPE_F32, 2, z[2], z[3], z[4]);
            gradient g = gradient_of(&p, types[t], DTYPE_F32);
            upsample_grad_launch(&(upsample_args){g.of[0], g.out, 2, z[0], z[1], z[2], z[3], z[4]},
                                 NULL);
            expect_gradient(&p, &g, 1, 1e-6);
        }
}

static void test_sums(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {
        {1, 1, 1}, {2, 33, 20}, {3, 1000, 24}, {2, 77, 1285}, {1, 40000, 3}};
    for (size_t s = 0; s < 5; s++)
        for (int t = 0; t < TYPES; t++) {
            const int64_t *z = sizes[s];
            problem p = problem_of(OP_SUM_SPACE, t == 1);
            IN(&p, types[t], 0.1, 1, z[0], z[1], z[2]);
            OUT(&p, DTYPE_F32, z[0], z[2]);
            expect(&p, 1e-6);
            p = problem_of(OP_SUM_LEADING, 0);
            IN(&p, types[t], 0.1, 1, z[0], z[1], z[2]);
            OUT(&p, DTYPE_F32, z[2]);
            expect(&p, 1e-6);
        }
}

/* ---- lookup, loss ---- */

static void test_embedding(void **state)
{
    (void)state;
    for (int t = 0; t < TYPES; t++)
        for (int64_t width = 7; width <= 40; width += 33) {
            problem p = problem_of(OP_EMBEDDING, 0);
            IN(&p, DTYPE_I32, 5, 4.9, 2, 13);
            IN(&p, types[t], 0, 1, 11, width);
            OUT(&p, DTYPE_F32, 2, 13, width);
            gradient g = gradient_of(&p, types[(t + 1) % TYPES], DTYPE_F32);
            embedding_grad_launch(&(embedding_args){p.x[0].data, g.of[1], g.out, 26, 11, width},
                                  NULL);
            for (int64_t c = 0; c < width; c++)
                for (int64_t id = 0; id < 11; id++) {
                    double sum = 0;
                    for (int64_t i = 0; i < 26; i++)
                        if ((int64_t)p.in[0][i] == id) sum += g.dy[i * width + c];
                    check_near(view_get(g.of[1], (size_t)(id * width + c)), sum, 10, DTYPE_F32,
                               1e-6);
                }
            free(g.dy);
            for (int i = 0; i <= OP_MAX_IN; i++) free(g.block[i]);
            expect(&p, 0);
        }
}

static void test_time_embedding(void **state)
{
    (void)state;
    for (int flip = 0; flip < 2; flip++)
        for (int64_t width = 320; width >= 31; width -= 289) {
            problem p = problem_of(OP_TIME_EMBEDDING, 0);
            p.call.params = (op_params){.flip_sin_to_cos = flip, .freq_shift = (float)(1 - flip)};
            IN(&p, DTYPE_F32, 500, 499, 3);
            OUT(&p, types[flip], 3, width);
            expect(&p, 1e-4); /* float32 angles of hundreds */
        }
}

static void test_mse(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 77, 4096, 9000};
    for (int s = 0; s < 4; s++)
        for (int t = 0; t < TYPES; t++)
            for (int weighted = 0; weighted < 2; weighted++) {
                problem p = problem_of(OP_MSE, s == 2);
                IN(&p, types[t], 0, 1, 3, sizes[s]);
                IN(&p, types[(t + 1) % TYPES], 0, 1, 3, sizes[s]);
                if (weighted) IN(&p, DTYPE_F32, 1, 1, 3);
                OUT(&p, DTYPE_F32, 1);
                OUT(&p, DTYPE_F32, 3);
                gradient g = gradient_of(&p, DTYPE_F32, DTYPE_F32);
                mse_grad_launch(&(mse_grad_args){g.out.data, p.x[0], p.x[1],
                                                 weighted ? p.x[2].data : NULL, g.of[0], 3,
                                                 sizes[s]},
                                NULL);
                problem_run(&p);
                reference_run(&p.call, p.in, p.out);
                problem_check(&p, 0, 1e-6);
                problem_check(&p, 1, 1e-6);
                expect_gradient(&p, &g, 1, 1e-5);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_norm),
        cmocka_unit_test(test_group_norm_mean),
        cmocka_unit_test(test_group_norm_gradient),
        cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_geglu),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_finish),
        cmocka_unit_test(test_channels),
        cmocka_unit_test(test_upsample),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_time_embedding),
        cmocka_unit_test(test_mse),
    };
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
