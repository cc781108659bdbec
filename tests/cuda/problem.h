/* SPDX-License-Identifier: Apache-2.0
 *
 * problem: an operation of device.h with random operands, as doubles for the references and as a
 * device has them for our kernels, and the bounds within which the two agree. */
#ifndef LIKENESS_TESTS_CUDA_PROBLEM_H
#define LIKENESS_TESTS_CUDA_PROBLEM_H

#include "device/cuda/kernels.h"
#include "reference.h"

typedef struct problem {
    op_call call;
    double *in[OP_MAX_IN],
        *out[OP_MAX_OUT]; /* as the references see them; inputs are numbers of their type */
    gpu_view x[OP_MAX_IN], y[OP_MAX_OUT]; /* as kernels do; outputs begin as NaN */
    void *block[OP_MAX_IN + OP_MAX_OUT];
    int shift; /* data begin so many elements past where vectors may */
} problem;

double random_value(void); /* -1 .. 1, the same in every run */

problem problem_of(op_kind kind, int shift);
/* An input of random numbers around `mean`, `spread` wide. */
void problem_in(problem *p, dtype type, double mean, double spread, int rank, const int64_t *dim);
void problem_out(problem *p, dtype type, int rank, const int64_t *dim);
void problem_set(problem *p, int i, const double *from); /* input i, rounded to its type */
double problem_got(const problem *p, int i, size_t at);  /* element of output i */
void problem_close(problem *p);

/* A view's element, and memory of any type filled with numbers */
double view_get(gpu_view v, size_t at);
void view_set(gpu_view v, size_t at, double x);

/* Output i is what the reference has (out[i]): within `bound` of the largest, and a rounding of its
 * type. */
void problem_check(const problem *p, int i, double bound);
/* The same of numbers that are anywhere. */
void check_near(double got, double want, double largest, dtype type, double bound);

/* The derivative of sum(dy * out[0]) by element `at` of input i, by differences of the reference */
double problem_slope(problem *p, const double *dy, int i, size_t at);

#define DIMS(...)                                                                                  \
    (const int64_t[]) { __VA_ARGS__ }
#define RANK(...) (int)(sizeof(DIMS(__VA_ARGS__)) / sizeof(int64_t))
#define IN(p, type, mean, spread, ...)                                                             \
    problem_in(p, type, mean, spread, RANK(__VA_ARGS__), DIMS(__VA_ARGS__))
#define OUT(p, type, ...) problem_out(p, type, RANK(__VA_ARGS__), DIMS(__VA_ARGS__))

/* Kernels that serve one operation, from the problem's operands */
void problem_run(problem *p);

#endif
