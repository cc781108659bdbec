/* SPDX-License-Identifier: Apache-2.0
 *
 * product_plain: product.h in plain loops. The sums are in double: what the device's numbers are
 * then held against is not their rounding. */
#include <assert.h>
#include <stdlib.h>

#include "device/cuda/product.h"
#include "emulated.h"
#include "numbers.h"

struct product_library {
    int unused;
};
struct product_plan {
    product_shape shape;
};

bool product_library_open(product_library **out, const gpu *g, error *e)
{
    (void)g;
    *out = calloc(1, sizeof **out);
    return *out || error_memory(e, "a library", sizeof **out);
}

void product_library_close(product_library **l)
{
    free(*l);
    *l = NULL;
}

enum { SCRATCH = 64 }; /* so that somebody sees to it */

bool product_open(product_plan **out, product_library *l, const product_shape *s, size_t *scratch,
                  error *e)
{
    (void)l;
    *scratch = SCRATCH;
    *out = calloc(1, sizeof **out);
    if (!*out) return error_memory(e, "a product", sizeof **out);
    (*out)->shape = *s;
    return true;
}

void product_close(product_plan **p)
{
    free(*p);
    *p = NULL;
}

typedef struct product_job {
    product_shape s;
    const void *a, *b, *bias, *add;
    void *y;
} product_job;

/* A matrix as float32, [rows, columns], or turned. */
static float *matrix(const void *data, dtype type, int64_t rows, int64_t columns, bool turned)
{
    float *m = numbers_read(data, type, rows * columns), *t = m;
    if (!turned) return m;
    t = malloc((size_t)(rows * columns + 1) * sizeof *t);
    if (!t) abort();
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) t[j * rows + i] = m[i * columns + j];
    free(m);
    return t;
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum[4] = {0};
    for (int64_t k = 0; k < n; k++) sum[k % 4] += (double)a[k] * (double)b[k];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

static void run(void *context)
{
    const product_job *p = context;
    const product_shape *s = &p->s;
    bool forward = s->way == PRODUCT_FORWARD, by_weights = s->way == PRODUCT_BY_WEIGHTS;
    int64_t rows = by_weights ? s->out : s->rows, columns = forward ? s->out : s->in;
    int64_t depth = forward ? s->in : by_weights ? s->rows : s->out;
    float *a = matrix(p->a, s->type, by_weights ? depth : rows, by_weights ? rows : depth,
                      by_weights);
    float *b = matrix(p->b, s->type, forward ? columns : depth, forward ? depth : columns,
                      !forward);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            double sum = dot(a + i * depth, b + j * depth, depth);
            if (s->bias) sum += (double)number_get(p->bias, s->result, j);
            if (s->add) sum += (double)number_get(p->add, s->result, i * columns + j);
            number_set(p->y, s->result, i * columns + j, (float)sum);
        }
    free(a);
    free(b);
}

bool product_run(const product_plan *p, const void *a, const void *b, const void *bias,
                 const void *add, void *y, void *scratch, error *e)
{
    product_job j = {p->shape, a, b, bias, add, y};
    (void)e;
    assert(a && b && y && !p->shape.bias == !bias && !p->shape.add == !add);
    ((char *)scratch)[SCRATCH - 1] = 1;
    emulated_do(run, &j, sizeof j);
    return true;
}
