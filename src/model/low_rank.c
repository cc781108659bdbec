/* SPDX-License-Identifier: Apache-2.0
 *
 * low_rank: see low_rank.h. Subspace iteration from random vectors (Halko, Martinsson and Tropp
 * 2011), a few more than are wanted, in double; what is left is a small square matrix, whose
 * decomposition is made by Jacobi's rotations. Panels [length, k] are row by row. */
#include "model/low_rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

enum { MORE = 16, ITERATIONS = 4, BLOCK = 64, SWEEPS = 40 };

typedef struct problem {
    const float *a;
    int64_t rows, columns;
    int k;
    thread_pool *pool;
    double *z, *y, *turned; /* [columns, k], [rows, k], room for one of them by columns */
} problem;

/* ---- products ---- */

/* y = a z, of one block of rows */
static void times_piece(void *context, int piece, int worker)
{
    const problem *p = context;
    int64_t end = (int64_t)(piece + 1) * BLOCK, k = p->k;
    (void)worker;
    for (int64_t i = (int64_t)piece * BLOCK; i < end && i < p->rows; i++) {
        double *y = p->y + i * k;
        memset(y, 0, (size_t)k * sizeof *y);
        for (int64_t x = 0; x < p->columns; x++) {
            double v = (double)p->a[i * p->columns + x];
            const double *z = p->z + x * k;
            for (int64_t c = 0; c < k; c++) y[c] += v * z[c];
        }
    }
}

/* z = a' y, of one block of columns */
static void times_turned_piece(void *context, int piece, int worker)
{
    const problem *p = context;
    int64_t from = (int64_t)piece * BLOCK, end = from + BLOCK, k = p->k;
    (void)worker;
    if (end > p->columns) end = p->columns;
    memset(p->z + from * k, 0, (size_t)((end - from) * k) * sizeof *p->z);
    for (int64_t i = 0; i < p->rows; i++) {
        const double *y = p->y + i * k;
        for (int64_t x = from; x < end; x++) {
            double v = (double)p->a[i * p->columns + x], *z = p->z + x * k;
            for (int64_t c = 0; c < k; c++) z[c] += v * y[c];
        }
    }
}

static int blocks(int64_t n) { return (int)((n + BLOCK - 1) / BLOCK); }

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* ---- orthonormal columns ---- */

static void turn(double *to, const double *from, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < columns; c++) to[c * rows + i] = from[i * columns + c];
}

/* Gram and Schmidt's, twice for each column; a column that the ones before it make up becomes 0. */
static void make_orthonormal(const problem *p, double *x, int64_t length)
{
    double *by_column = p->turned;
    turn(by_column, x, length, p->k);
    for (int c = 0; c < p->k; c++) {
        double *column = by_column + c * length, was = sqrt(dot(column, column, length));
        for (int twice = 0; twice < 2; twice++)
            for (int b = 0; b < c; b++) {
                const double *before = by_column + b * length;
                double share = dot(before, column, length);
                for (int64_t i = 0; i < length; i++) column[i] -= share * before[i];
            }
        double norm = sqrt(dot(column, column, length));
        double by = norm > was * 1e-12 ? 1 / norm : 0;
        for (int64_t i = 0; i < length; i++) column[i] *= by;
    }
    turn(x, by_column, p->k, length);
}

/* ---- the small matrix ---- */

/* One-sided Jacobi: columns r[c] (length k, one behind the other) become orthogonal, v [k][k]
 * follows. True when they were already. */
static bool sweep(double *r, double *v, int k)
{
    bool done = true;
    for (int a = 0; a < k; a++)
        for (int b = a + 1; b < k; b++) {
            double *x = r + a * k, *y = r + b * k;
            double xx = dot(x, x, k), yy = dot(y, y, k), xy = dot(x, y, k);
            if (fabs(xy) <= 1e-15 * sqrt(xx * yy) || xy == 0) continue;
            done = false;
            double zeta = (yy - xx) / (2 * xy);
            double t = (zeta < 0 ? -1 : 1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
            double cosine = 1 / sqrt(1 + t * t), sine = cosine * t;
            for (int side = 0; side < 2; side++) {
                double *one = side ? v + a * k : x, *other = side ? v + b * k : y;
                for (int i = 0; i < k; i++) {
                    double was = one[i];
                    one[i] = cosine * was - sine * other[i];
                    other[i] = sine * was + cosine * other[i];
                }
            }
        }
    return done;
}

/* The order of columns by their length, the longest first. */
static void sort_columns(int *order, const double *r, int k)
{
    for (int c = 0; c < k; c++) {
        int at = c;
        double length = dot(r + c * k, r + c * k, k);
        for (; at > 0; at--) {
            const double *before = r + order[at - 1] * k;
            if (dot(before, before, k) >= length) break;
            order[at] = order[at - 1];
        }
        order[at] = c;
    }
}

/* q [rows, k] orthonormal, z [columns, k] the same, y = a z: r = q'y is decomposed, and a is about
 * (q r v) (z v)'. r, v: room for [k, k]. */
static void decompose(const problem *p, const double *q, double *r, double *v, int *order)
{
    int64_t k = p->k;
    memset(r, 0, (size_t)(k * k) * sizeof *r);
    memset(v, 0, (size_t)(k * k) * sizeof *v);
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t c = 0; c < k; c++)
            for (int64_t b = 0; b < k; b++) r[c * k + b] += q[i * k + b] * p->y[i * k + c];
    for (int64_t c = 0; c < k; c++) v[c * k + c] = 1;
    for (int n = 0; n < SWEEPS && !sweep(r, v, p->k); n++)
        ;
    sort_columns(order, r, p->k);
}

bool low_rank(float *left, float *right, const float *a, int64_t rows, int64_t columns, int rank,
              thread_pool *pool, error *e)
{
    int64_t least = rows < columns ? rows : columns, longest = rows + columns - least;
    int k = rank + MORE < least ? rank + MORE : (int)least;
    size_t small = (size_t)k * (size_t)k;
    problem p = {.a = a, .rows = rows, .columns = columns, .k = k, .pool = pool};
    size_t count = (size_t)(columns + 2 * rows + longest) * (size_t)k + 2 * small;
    double *block = malloc(count * sizeof *block);
    int *order = malloc((size_t)k * sizeof *order);
    float *drawn = malloc((size_t)(columns * k) * sizeof *drawn);
    rng *random = malloc(sizeof *random);
    bool ok = (block && order && drawn && random) ||
              error_memory(e, "a decomposition", count * sizeof *block);
    if (ok) {
        double *q = block + (columns + rows) * k, *r = q + rows * k;
        p.z = block;
        p.y = block + columns * k;
        p.turned = r + 2 * small;
        rng_seed(random, 0);
        rng_randn(random, drawn, (size_t)(columns * k));
        for (int64_t i = 0; i < columns * k; i++) p.z[i] = (double)drawn[i];
        for (int n = 0; n < ITERATIONS; n++) {
            thread_pool_run(pool, blocks(rows), times_piece, &p);
            make_orthonormal(&p, p.y, rows);
            thread_pool_run(pool, blocks(columns), times_turned_piece, &p);
            make_orthonormal(&p, p.z, columns);
        }
        thread_pool_run(pool, blocks(rows), times_piece, &p);
        memcpy(q, p.y, (size_t)(rows * k) * sizeof *q);
        make_orthonormal(&p, q, rows);
        decompose(&p, q, r, r + small, order);
        for (int c = 0; c < rank; c++) {
            const double *by = r + order[c] * k, *turned = r + small + (size_t)(order[c] * k);
            for (int64_t i = 0; i < rows; i++) left[i * rank + c] = (float)dot(q + i * k, by, k);
            for (int64_t x = 0; x < columns; x++)
                right[c * columns + x] = (float)dot(p.z + x * k, turned, k);
        }
    }
    free(random);
    free(drawn);
    free(order);
    free(block);
    return ok;
}
