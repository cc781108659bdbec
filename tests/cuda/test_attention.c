/* SPDX-License-Identifier: Apache-2.0
 *
 * Our attention kernels under the emulator against the plain double loops of reference.c: heads of
 * every size that a tile is made for and odd ones between, more queries than keys and fewer,
 * causal, every type; and their gradients against differences of the references. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "problem.h"

static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
enum { TYPES = sizeof types / sizeof types[0] };

typedef struct size {
    int64_t batch, n, m, heads, depth;
    bool causal;
} size;

static const size sizes[] = {
    {1, 1, 1, 1, 1, false},     {2, 5, 33, 3, 7, false},    {1, 70, 77, 2, 40, false},
    {2, 33, 31, 1, 64, true},   {1, 65, 9, 1, 80, false},   {1, 77, 77, 1, 32, true},
    {1, 37, 40, 1, 128, true},  {1, 34, 35, 2, 160, false}, {1, 20, 50, 1, 131, false},
    {1, 129, 200, 1, 40, true}, {1, 200, 129, 2, 24, true}, {1, 130, 192, 1, 40, false},
    {1, 66, 128, 1, 96, false}, {2, 16, 97, 1, 152, true},  {1, 80, 64, 2, 50, true},
};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* Probabilities, and in gradients those of the scores, are rounded to the operands' type before
 * they are multiplied. */
static double bound_of(dtype type)
{
    return type == DTYPE_F32 ? 1e-5 : type == DTYPE_F16 ? 0x1p-10 : 0x1p-7;
}

static problem problem_at(const size *s, dtype type, dtype to, double spread, int shift)
{
    problem p = problem_of(OP_ATTENTION, shift);
    p.call.params = (op_params){
        .heads = (int)s->heads, .causal = s->causal, .alpha = 1 / sqrtf((float)s->depth)};
    IN(&p, type, 0, spread, s->batch, s->n, s->heads * s->depth);
    IN(&p, type, 0, spread, s->batch, s->m, s->heads * s->depth);
    IN(&p, type, 0, spread, s->batch, s->m, s->heads * s->depth);
    OUT(&p, to, s->batch, s->n, s->heads * s->depth);
    OUT(&p, DTYPE_F32, s->batch, s->heads, s->n);
    return p;
}

static void test_forward(void **state)
{
    (void)state;
    for (int i = 0; i < SIZES; i++)
        for (int t = 0; t < TYPES; t++) {
            problem p = problem_at(&sizes[i], types[t], types[(i + t) % TYPES], t ? 2 : 4,
                                   t == 1 && i % 2);
            reference_run(&p.call, p.in, p.out);
            problem_run(&p);
            problem_check(&p, 0, bound_of(types[t]));
            problem_check(&p, 1, 1e-5);
            problem_close(&p);
        }
}

/* Logits of hundreds, which exp alone would not hold */
static void test_large_logits(void **state)
{
    (void)state;
    problem p = problem_at(&sizes[2], DTYPE_F32, DTYPE_F32, 20, 0);
    reference_run(&p.call, p.in, p.out);
    problem_run(&p);
    problem_check(&p, 0, 1e-4);
    problem_check(&p, 1, 1e-5);
    problem_close(&p);
}

/* Scores that are turned about, or all the same */
static void test_odd_scales(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        problem p = problem_at(&sizes[2], DTYPE_F16, DTYPE_F16, 2, 0);
        p.call.params.alpha = k ? 0.0f : -0.3f;
        reference_run(&p.call, p.in, p.out);
        problem_run(&p);
        problem_check(&p, 0, bound_of(DTYPE_F16));
        problem_check(&p, 1, 1e-5);
        problem_close(&p);
    }
}

static gpu_view open_view(dtype type, size_t n, void **block)
{
    assert_int_equal(posix_memalign(block, 64, n * dtype_size(type)), 0);
    memset(*block, 0xff, n * dtype_size(type));
    return (gpu_view){*block, type};
}

/* Some elements of each input's gradient, every row among them in small ones */
static void check_gradients(problem *p, const double *dy, const gpu_view *got, double bound)
{
    for (int i = 0; i < 3; i++) {
        if (!got[i].data) continue;
        enum { SOME = 60, FEW = 12 };
        size_t n = array_count(&p->call.in[i]), place[SOME];
        int some = p->call.in[0].dim[1] * p->call.in[1].dim[1] > 8000 ? FEW : SOME;
        double want[SOME], largest = 0;
        for (int k = 0; k < some; k++) {
            place[k] = n <= SOME ? (size_t)k % n
                                 : (size_t)((random_value() + 1) / 2 * (double)(n - 1));
            want[k] = problem_slope(p, dy, i, place[k]);
            largest = fmax(largest, fabs(want[k]));
        }
        for (int k = 0; k < some; k++)
            check_near(view_get(got[i], place[k]), want[k], largest, got[i].type, bound);
    }
}

/* `type`: of q, k, v; `dout_type`: of the gradient that comes; `to`: of those that are made, of
 * which `wanted` has a bit each */
static void expect_gradient(const size *s, dtype type, dtype dout_type, dtype to, int wanted,
                            double bound)
{
    problem p = problem_at(s, type, DTYPE_F32, 2, 0);
    problem_run(&p);
    size_t n = array_count(&p.call.out[0]);
    double *dy = malloc(n * sizeof *dy);
    void *block[4], *scratch;
    gpu_view dout = open_view(dout_type, n, &block[3]), of[3];
    for (size_t at = 0; at < n; at++) {
        view_set(dout, at, random_value());
        dy[at] = view_get(dout, at);
    }
    for (int k = 0; k < 3; k++) {
        block[k] = NULL, of[k] = (gpu_view){NULL, to};
        if (wanted >> k & 1) of[k] = open_view(to, array_count(&p.call.in[k]), &block[k]);
    }
    attention_grad_args a = {
        dout,     p.x[0], p.x[1], p.x[2],   p.y[0],   p.y[1].data,         of[0],    of[1], of[2],
        s->batch, s->n,   s->m,   s->heads, s->depth, p.call.params.alpha, s->causal};
    assert_int_equal(posix_memalign(&scratch, 64, attention_grad_scratch(&a)), 0);
    attention_grad_launch(&a, scratch, NULL);
    check_gradients(&p, dy, of, bound);
    for (int k = 0; k < 4; k++) free(block[k]);
    free(scratch);
    free(dy);
    problem_close(&p);
}

enum { ALL = 7 };

static void test_gradient(void **state)
{
    (void)state;
    for (int i = 0; i < SIZES; i++)
        expect_gradient(&sizes[i], DTYPE_F32, types[i % TYPES], DTYPE_F32, ALL, 2e-5);
    expect_gradient(&sizes[2], DTYPE_F16, DTYPE_F32, DTYPE_F32, ALL,
                    2 * bound_of(DTYPE_F16)); /* two types: not by the matrix units */
}

static void test_gradient_half(void **state)
{
    (void)state;
    for (int i = 0; i < SIZES; i++) {
        dtype half = types[1 + i % 2];
        expect_gradient(&sizes[i], half, half, i / 2 % 2 ? half : DTYPE_F32, ALL,
                        2 * bound_of(half));
    }
    for (int wanted = 1; wanted < ALL; wanted++)
        expect_gradient(&sizes[wanted % 2 ? 2 : 4], DTYPE_F16, DTYPE_F16, DTYPE_F16, wanted,
                        2 * bound_of(DTYPE_F16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),       cmocka_unit_test(test_large_logits),
        cmocka_unit_test(test_odd_scales),    cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_gradient_half),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
