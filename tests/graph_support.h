/* SPDX-License-Identifier: Apache-2.0
 *
 * graph_support: what the tests of graph/ share: a device that runs every forward operation by
 * reference_run, an interpreter of recorded graphs in double, weight sets made from a graph, and a
 * check of a plan that knows nothing of the planner. */
#ifndef LIKENESS_TESTS_GRAPH_SUPPORT_H
#define LIKENESS_TESTS_GRAPH_SUPPORT_H

#include <assert.h>
#include <math.h>

#include "base/half.h"
#include "graph/internal.h"
#include "reference.h"
#include "support.h"

static inline void *must(void *p)
{
    assert(p);
    return p;
}

/* ---- a device in double ---- */

typedef struct reference_device {
    device device;
    int prepared;     /* calls of prepare less calls of unprepare */
    int bound;        /* calls of bind */
    int fail_prepare; /* the prepare that fails, counted from 0; -1: none */
    op_kind fail_run; /* the operation that fails; OP_KIND_COUNT: none */
    size_t scratch;   /* what prepare asks for */
} reference_device;

static inline bool reference_prepare(device *d, const op_call *call, void **state, size_t *scratch,
                                     error *e)
{
    reference_device *r = (reference_device *)d;
    (void)call;
    if (r->prepared == r->fail_prepare)
        return error_set(e, ERROR_USAGE, "prepare fails on purpose");
    r->prepared++;
    *state = NULL;
    *scratch = r->scratch;
    return true;
}

static inline void reference_unprepare(device *d, const op_call *call, void *state)
{
    (void)call;
    (void)state;
    ((reference_device *)d)->prepared--;
}

static inline bool reference_bind(device *d, const op_step *steps, size_t count, error *e)
{
    (void)e;
    for (size_t k = 0; k < count; k++)
        for (int i = 0; i < steps[k].call->in_count; i++)
            if (steps[k].call->in[i].w) ((reference_device *)d)->bound++;
    return true;
}

static inline double *doubles_of(const array *a)
{
    size_t n = array_count(a);
    double *out = must(calloc(n + 1, sizeof *out));
    const void *data = a->w        ? a->w->data
                       : a->memory ? (const char *)a->memory->host + a->offset
                                   : NULL;
    if (a->type == DTYPE_I32) {
        for (size_t i = 0; i < n; i++) out[i] = ((const int32_t *)data)[i];
    } else if (n) {
        float *f = must(malloc(n * sizeof *f));
        convert_to_float(f, data, a->type, n);
        for (size_t i = 0; i < n; i++) out[i] = (double)f[i];
        free(f);
    }
    return out;
}

/* Results are written element by element as float32, and memory beyond them is left alone. */
static inline bool reference_execute(device *d, const op_call *call, void *scratch, error *e)
{
    if (((reference_device *)d)->fail_run == call->kind)
        return error_set(e, ERROR_USAGE, "the device gave up");
    double *in[OP_MAX_IN] = {0}, *out[OP_MAX_OUT] = {0};
    memset(scratch, 0xff, ((reference_device *)d)->scratch); /* so that an overlap would show */
    for (int i = 0; i < call->in_count; i++) in[i] = doubles_of(&call->in[i]);
    for (int i = 0; i < call->out_count; i++)
        out[i] = must(calloc(array_count(&call->out[i]), sizeof(double)));
    reference_run(call, in, out);
    for (int i = 0; i < call->out_count; i++) {
        size_t n = array_count(&call->out[i]);
        float *f = must(malloc(n * sizeof *f));
        for (size_t k = 0; k < n; k++) f[k] = (float)out[i][k];
        convert_from_float((char *)call->out[i].memory->host + call->out[i].offset,
                           call->out[i].type, f, n);
        free(f);
        free(out[i]);
    }
    for (int i = 0; i < call->in_count; i++) free(in[i]);
    return true;
}

static inline bool reference_submit(device *d, const op_step *steps, size_t count,
                                    const buffer *scratch, size_t scratch_at, error *e)
{
    for (size_t i = 0; i < count; i++)
        if (!reference_execute(d, steps[i].call, (char *)scratch->host + scratch_at, e))
            return op_step_failed(&steps[i], e);
    return true;
}

static inline bool reference_find_bad(device *d, const array *list, size_t count, bad_value *found,
                                      error *e)
{
    (void)d;
    (void)e;
    *found = (bad_value){.which = count, .index = -1};
    for (size_t i = 0; i < count && found->which == count; i++) {
        double *x = doubles_of(&list[i]);
        for (size_t k = 0; k < array_count(&list[i]) && found->which == count; k++)
            if (!isfinite(x[k])) *found = (bad_value){i, (int64_t)k, (float)x[k]};
        free(x);
    }
    return true;
}

/* Its memory is the processor's. */
static inline reference_device reference_device_of(dtype compute)
{
    error e = {0};
    device *cpu;
    if (!device_open(&cpu, "cpu", &(device_options){.threads = 1}, &e)) fail_msg("%s", e.text);
    device d = {
        .name = "reference",
        .threads = 1,
        .compute = compute,
        .weight_type = DTYPE_F32,
        .prepare = reference_prepare,
        .unprepare = reference_unprepare,
        .bind = reference_bind,
        .submit = reference_submit,
        .find_bad = reference_find_bad,
        .wait = cpu->wait,
        .buffer_open = cpu->buffer_open,
        .buffer_close = cpu->buffer_close,
        .upload = cpu->upload,
        .download = cpu->download,
        .copy = cpu->copy,
        .fill = cpu->fill,
    };
    device_close(&cpu);
    return (reference_device){
        .device = d,
        .fail_prepare = -1,
        .fail_run = OP_KIND_COUNT,
        .scratch = 100,
    };
}

/* ---- weights ---- */

static inline int weight_order(const void *a, const void *b)
{
    return strcmp(((const weight *)a)->name, ((const weight *)b)->name);
}

/* A set with every weight of the graph, of any float type, random values; names are the graph's. */
static inline weight_set weights_for(const graph *g, dtype type, uint32_t seed)
{
    weight_set set = {.count = graph_weight_count(g)};
    set.item = must(calloc(set.count + 1, sizeof *set.item));
    size_t bytes = 0;
    for (size_t i = 0; i < set.count; i++)
        bytes += (size_t)tensor_elements(graph_weight_at(g, i)) * dtype_size(type);
    char *bytes_of = must(malloc(bytes + 1));
    set.storage = bytes_of;
    set.storage_free = free;
    for (size_t i = 0; i < set.count; i++) {
        const tensor *t = graph_weight_at(g, i);
        size_t n = (size_t)tensor_elements(t);
        float *f = must(malloc(n * sizeof *f));
        fill_random(f, n, seed + (uint32_t)i);
        convert_from_float(bytes_of, type, f, n);
        free(f);
        set.item[i] = (weight){.name = t->name, .type = type, .rank = t->rank, .data = bytes_of};
        memcpy(set.item[i].dim, t->dim, sizeof t->dim);
        bytes_of += n * dtype_size(type);
    }
    qsort(set.item, set.count, sizeof *set.item, weight_order);
    return set;
}

/* The device's copy of a set. */
static inline device_weights *copy_of(device *d, const weight_set *set)
{
    error e = {0};
    device_weights *copy;
    if (!device_weights_open(d, set, &copy, &e)) fail_msg("%s", e.text);
    return copy;
}

/* ---- an interpreter in double ---- */

typedef struct doubles {
    double **value; /* by tensor id; NULL where unknown */
    size_t count;
} doubles;

static inline doubles doubles_new(const graph *g)
{
    return (doubles){must(calloc(g->tensor_count, sizeof(double *))), g->tensor_count};
}

static inline void doubles_free(doubles *d)
{
    for (size_t i = 0; i < d->count; i++) free(d->value[i]);
    free(d->value);
}

static inline double *doubles_set(doubles *d, const tensor *t, const void *data, dtype type)
{
    buffer memory = {.host = (void *)(uintptr_t)data};
    array a = {.memory = &memory, .type = type, .rank = t->rank};
    memcpy(a.dim, t->dim, sizeof a.dim);
    free(d->value[t->plan->id]);
    return d->value[t->plan->id] = doubles_of(&a);
}

static inline void doubles_set_weights(doubles *d, const graph *g, const weight_set *set)
{
    for (size_t i = 0; i < graph_weight_count(g); i++) {
        const tensor *t = graph_weight_at(g, i);
        const weight *w = weight_find(set, t->name);
        doubles_set(d, t, w->data, w->type);
    }
}

static inline array plain_array(const tensor *t)
{
    array a = {.rank = t ? t->rank : -1};
    if (t) memcpy(a.dim, t->dim, sizeof a.dim);
    return a;
}

/* Computes the results of the first n nodes from the leaves' values. */
static inline void doubles_run(doubles *d, const graph *g, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        const node *p = node_at(g, k);
        op_call call = {.kind = p->kind,
                        .params = p->params,
                        .in_count = p->in_count,
                        .out_count = p->out_count};
        double *in[OP_MAX_IN] = {0}, *out[OP_MAX_OUT] = {0};
        for (int i = 0; i < p->in_count; i++) {
            call.in[i] = plain_array(p->in[i]);
            if (p->in[i]) in[i] = must(d->value[p->in[i]->plan->id]);
        }
        for (int i = 0; i < p->out_count; i++) {
            double **at = &d->value[p->out[i]->plan->id];
            call.out[i] = plain_array(p->out[i]);
            if (!*at) *at = must(calloc((size_t)tensor_elements(p->out[i]), sizeof(double)));
            out[i] = *at;
        }
        reference_run(&call, in, out);
    }
}

/* ---- a check of a plan ---- */

typedef struct life {
    const tensor *value;
    size_t begin, end; /* bytes */
    int64_t born, last;
} life;

static inline bool plan_may_share(const graph *g, const life *dying, const life *born)
{
    const node *n = g->run[born->born];
    unsigned allowed = op_record_of(n->kind)->in_place;
    int uses = 0;
    bool listed = false;
    for (int i = 0; i < n->in_count; i++) {
        if (!n->in[i] || tensor_root(n->in[i]) != dying->value) continue;
        uses++;
        listed = listed || (allowed >> i & 1);
    }
    return n->out[0] == born->value && uses == 1 && listed && dying->begin == born->begin &&
           dying->end == born->end;
}

/* Does node k write its result where value i, which dies there, was? */
static inline bool taken_at(const life *lives, size_t count, size_t i, int64_t k)
{
    if (lives[i].last != k || lives[i].born == k) return false;
    for (size_t j = 0; j < count; j++)
        if (lives[j].born == k && lives[j].begin == lives[i].begin) return true;
    return false;
}

/* Asserts that no two values that are needed at the same time share memory; returns the most bytes
 * that are needed at any one time. Works from nodes, outputs and offsets alone. */
static inline size_t plan_check(const graph *g)
{
    size_t count = 0, most = 0;
    life *lives = must(calloc(g->inputs.count + g->run_count * OP_MAX_OUT, sizeof *lives));
    for (size_t i = 0; i < g->inputs.count; i++)
        lives[count++] = (life){
            .value = g->inputs.item[i], .born = -1, .last = (int64_t)g->run_count};
    for (size_t k = 0; k < g->run_count; k++)
        for (int i = 0; i < g->run[k]->out_count; i++)
            lives[count++] = (life){
                .value = g->run[k]->out[i], .born = (int64_t)k, .last = (int64_t)k};
    for (size_t i = 0; i < count; i++) {
        life *l = &lives[i];
        for (size_t k = 0; k < g->run_count; k++)
            for (int j = 0; j < g->run[k]->in_count; j++)
                if (g->run[k]->in[j] && tensor_root(g->run[k]->in[j]) == l->value &&
                    (int64_t)k > l->last)
                    l->last = (int64_t)k;
        for (size_t k = 0; k < g->outputs.count; k++)
            if (tensor_root(g->outputs.item[k]) == l->value) l->last = (int64_t)g->run_count;
        l->begin = l->value->plan->place->offset;
        l->end = l->begin + tensor_bytes(l->value);
        assert_int_equal(l->begin % 64, 0);
        assert_true(l->end <= g->activation_bytes);
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) {
            const life *a = &lives[j], *b = &lives[i]; /* a is born first or with b */
            if (a->last < b->born || a->end <= b->begin || b->end <= a->begin) continue;
            if (a->born < b->born && a->last == b->born && plan_may_share(g, a, b)) continue;
            fail_msg("values %zu and %zu overlap at node %lld", j, i, (long long)b->born);
        }
    for (int64_t k = 0; k < (int64_t)g->run_count; k++) {
        size_t now = 0;
        for (size_t i = 0; i < count; i++)
            if (lives[i].born <= k && k <= lives[i].last && !taken_at(lives, count, i, k))
                now += (lives[i].end - lives[i].begin + 255) / 256 * 256;
        most = now > most ? now : most;
    }
    free(lives);
    return most;
}

#endif
