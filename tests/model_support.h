/* SPDX-License-Identifier: Apache-2.0
 *
 * model_support: networks with weights and inputs by formula (NUMERICS.md, 8), for the model room's
 * tests. */
#ifndef LIKENESS_TESTS_MODEL_SUPPORT_H
#define LIKENESS_TESTS_MODEL_SUPPORT_H

#include "foreign.h"
#include "support.h"

#include <math.h>

#include "model/model.h"

static inline int64_t product(int rank, const int64_t *dim)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    return n;
}

static inline int64_t elements(const tensor *t) { return product(t->rank, t->dim); }

static inline int by_name(const void *a, const void *b)
{
    return strcmp(((const weight *)a)->name, ((const weight *)b)->name);
}

/* v = sin(0.37 i + 0.11 len(name)) * s; norms' weights 1 + v. */
static inline void fill_by_formula(float *out, const char *name, int rank, const int64_t *dim)
{
    int64_t n = product(rank, dim);
    double s = rank >= 2 ? 1 / sqrt((double)n / (double)dim[0]) : 0.1;
    size_t length = strlen(name);
    bool norm = rank == 1 && strstr(name, "norm") && !strcmp(name + length - 6, "weight");
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(sin(0.37 * (double)i + 0.11 * (double)length) * s + norm);
}

/* Weights that look random (scatter in tools/fixtures/model.py): sines leave a deep network badly
 * conditioned. */
static inline void fill_scattered(float *out, const char *name, int rank, const int64_t *dim)
{
    int64_t n = product(rank, dim);
    double s = rank >= 2 ? 1 / sqrt((double)n / (double)dim[0]) : 0.1;
    size_t length = strlen(name);
    bool norm = rank == 1 && strstr(name, "norm") && !strcmp(name + length - 6, "weight");
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)i * 2654435761u + 97 * (uint32_t)length;
        x = (x ^ x >> 15) * 73244475u;
        x = (x ^ x >> 13) * 73244475u;
        out[i] = (float)(((double)(x ^ x >> 16) / 2147483648.0 - 1) * s + norm);
    }
}

/* A network on its way: device, graph, and weights by `fill`. */
typedef struct bench {
    device *d;
    graph *g;
    void (*fill)(float *out, const char *name, int rank, const int64_t *dim);
    weight_set set;
    device_weights *weights;
    float *block;
} bench;

static inline void check(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

/* On a processor that has no products of bfloat16, its device does them in other words. */
static inline bench bench_open_in(dtype precision)
{
    bench b = {.fill = fill_by_formula};
    error e = {0};
    check(device_open(&b.d, test_device(), &(device_options){.threads = 2, .precision = precision},
                      &e),
          &e);
    if (strcmp(test_device(), "cpu") == 0) b.d->compute = precision;
    check(graph_open(&b.g, b.d->compute, &e), &e);
    return b;
}

static inline bench bench_open(void) { return bench_open_in(DTYPE_F32); }

static inline void make_weights(bench *b)
{
    size_t count = graph_weight_count(b->g), total = 0;
    for (size_t i = 0; i < count; i++) total += (size_t)elements(graph_weight_at(b->g, i));
    b->set.item = calloc(count, sizeof *b->set.item);
    b->set.count = count;
    float *p = b->block = malloc(total * sizeof *p);
    for (size_t i = 0; i < count; i++) {
        const tensor *t = graph_weight_at(b->g, i);
        weight *w = &b->set.item[i];
        w->name = t->name;
        w->type = DTYPE_F32;
        w->rank = t->rank;
        memcpy(w->dim, t->dim, sizeof w->dim);
        w->data = p;
        b->fill(p, t->name, t->rank, t->dim);
        p += elements(t);
    }
    qsort(b->set.item, count, sizeof *b->set.item, by_name);
}

/* Weights, plan, memory: what is recorded can be run. */
static inline void bench_ready(bench *b)
{
    error e = {0};
    make_weights(b);
    check(graph_plan(b->g, b->d, &e) && graph_allocate(b->g, &e) &&
              device_weights_open(b->d, &b->set, &b->weights, &e) &&
              graph_bind(b->g, &b->weights, 1, &e),
          &e);
}

static inline void bench_run(bench *b)
{
    error e = {0};
    check(graph_run(b->g, &e), &e);
}

static inline void bench_close(bench *b)
{
    graph_close(&b->g);
    device_weights_close(&b->weights);
    weight_set_close(&b->set);
    free(b->block);
    device_close(&b->d);
}

/* Writes cos(rate * flat index), the index counted in PyTorch's order: [B,C,H,W] for a map. */
static inline void write_wave(graph *g, tensor *input, double rate)
{
    int64_t batch = input->dim[0], c = 1, area = elements(input) / batch;
    if (input->rank == 4) {
        c = input->dim[3];
        area /= c;
    }
    float *x = malloc((size_t)elements(input) * sizeof *x);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < area; i++)
            for (int64_t k = 0; k < c; k++)
                x[(b * area + i) * c + k] = (float)cos(rate * (double)((b * c + k) * area + i));
    assert_true(graph_write(g, input, x, NULL));
    free(x);
}

#endif
