/* SPDX-License-Identifier: Apache-2.0
 *
 * graph: opening and closing, leaves, and the first failure that is kept until graph_plan. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"

bool graph_open(graph **out, dtype compute, error *e)
{
    assert(type_is_value(compute));
    *out = NULL;
    graph *g = calloc(1, sizeof *g);
    if (!g) return error_memory(e, "a graph", sizeof *g);
    g->compute = compute;
    g->harmless = (tensor){
        .type = DTYPE_F32,
        .rank = 4,
        .dim = {1, 1, 1, 1},
        .plan = &g->harmless_plan,
    };
    *out = g;
    return true;
}

void graph_close(graph **handle)
{
    graph *g = *handle;
    if (!g) return;
    graph_release(g);
    plan_unprepare(g);
    free(g->nodes.item);
    free(g->inputs.item);
    free(g->weights.item);
    free(g->outputs.item);
    arena_free(&g->arena);
    free(g);
    *handle = NULL;
}

void graph_fail(graph *g, error_code code, const char *format, ...)
{
    if (graph_failed(g)) return;
    char text[sizeof g->failure.text];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    error_set(&g->failure, code, "%s", text);
}

void shape_text(char *out, size_t size, int rank, const int64_t *dim)
{
    size_t at = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (at < size) snprintf(out + at, size - at, "]");
}

bool node_fail(graph *g, const node *n, const char *why)
{
    char operands[1024] = "";
    size_t at = 0;
    for (int i = 0; i < n->in_count && at < sizeof operands; i++) {
        const tensor *t = n->in[i];
        if (!t) continue;
        char dims[128];
        shape_text(dims, sizeof dims, t->rank, t->dim);
        at += (size_t)snprintf(operands + at, sizeof operands - at, "%s%s%s%s%s", at ? ", " : "",
                               t->name ? t->name : "", t->name ? " " : "",
                               t->type == DTYPE_F32 ? "" : dtype_name(t->type), dims);
    }
    graph_fail(g, ERROR_MODEL, "%s: %s (operands %s); check the model's configuration",
               op_record_of(n->kind)->name, why, operands);
    return false;
}

bool list_push(graph *g, pointer_list *list, void *item)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        void **grown = realloc(list->item, capacity * sizeof *grown);
        if (!grown) {
            error_memory(&g->failure, "the graph's list of nodes", capacity * sizeof *grown);
            return false;
        }
        list->item = grown;
        list->capacity = capacity;
    }
    list->item[list->count++] = item;
    return true;
}

shape shape_of(const tensor *t)
{
    shape s = {.rank = t->rank};
    memcpy(s.dim, t->dim, sizeof s.dim);
    return s;
}

int64_t tensor_elements(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

size_t tensor_bytes(const tensor *t) { return (size_t)tensor_elements(t) * dtype_size(t->type); }

tensor *tensor_root(tensor *t)
{
    while (t->from && t->from->kind == OP_RESHAPE) t = t->from->in[0];
    return t;
}

tensor *tensor_new(graph *g, dtype type, const shape *s)
{
    assert(s->rank >= 0 && s->rank <= ARRAY_MAX_RANK);
    /* small enough that sums of sizes over a whole graph stay exact */
    const int64_t most = (int64_t)1 << 40;
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 1 || s->dim[i] > most / n) {
            char dims[128];
            shape_text(dims, sizeof dims, s->rank, s->dim);
            graph_fail(g, ERROR_MODEL,
                       "a tensor of shape %s is empty or too large; use another size", dims);
            return NULL;
        }
        n *= s->dim[i];
    }
    struct {
        tensor t;
        tensor_plan plan;
    } *made = arena_alloc(&g->arena, sizeof *made);
    if (!made) {
        error_memory(&g->failure, "a graph's tensor", sizeof *made);
        return NULL;
    }
    made->t.type = type;
    made->t.rank = s->rank;
    memcpy(made->t.dim, s->dim, sizeof made->t.dim);
    made->t.plan = &made->plan;
    made->plan.id = g->tensor_count++;
    return &made->t;
}

/* A named tensor without a node. */
static tensor *leaf(graph *g, pointer_list *list, const char *name, dtype type, int rank,
                    const int64_t *dim)
{
    shape s = {.rank = rank};
    for (int i = 0; i < rank; i++) s.dim[i] = dim[i];
    tensor *t = tensor_new(g, type, &s);
    if (!t) {
        error_prefix(&g->failure, name);
        return &g->harmless;
    }
    t->name = arena_strdup(&g->arena, name);
    if (!t->name) {
        error_memory(&g->failure, "a tensor's name", strlen(name) + 1);
        return &g->harmless;
    }
    return list_push(g, list, t) ? t : &g->harmless;
}

tensor *graph_input(graph *g, const char *name, dtype type, int rank, const int64_t *dim)
{
    assert(!g->device && rank >= 0 && rank <= ARRAY_MAX_RANK);
    assert(type_is_value(type) || type == DTYPE_I32);
    if (graph_failed(g)) return &g->harmless;
    return leaf(g, &g->inputs, name, type, rank, dim);
}

tensor *graph_weight(graph *g, const char *name, int rank, const int64_t *dim)
{
    assert(!g->device && rank >= 0 && rank <= ARRAY_MAX_RANK);
    if (graph_failed(g)) return &g->harmless;
    for (size_t i = 0; i < g->weights.count; i++) {
        tensor *t = g->weights.item[i];
        if (strcmp(t->name, name) != 0) continue;
        if (t->rank == rank && memcmp(t->dim, dim, (size_t)rank * sizeof *dim) == 0) return t;
        char had[128], wanted[128];
        shape_text(had, sizeof had, t->rank, t->dim);
        shape_text(wanted, sizeof wanted, rank, dim);
        graph_fail(g, ERROR_MODEL,
                   "weight %s is used as %s and as %s; check the model's configuration", name, had,
                   wanted);
        return &g->harmless;
    }
    tensor *t = leaf(g, &g->weights, name, DTYPE_F32, rank, dim);
    t->is_weight = t != &g->harmless;
    return t;
}

size_t graph_weight_count(const graph *g) { return g->weights.count; }

const tensor *graph_weight_at(const graph *g, size_t i)
{
    assert(i < g->weights.count);
    return g->weights.item[i];
}

bool graph_recorded(const graph *g, error *e)
{
    return !graph_failed(g) || error_set(e, g->failure.code, "%s", g->failure.text);
}

void graph_output(graph *g, tensor *t)
{
    assert(!g->device);
    if (graph_failed(g) || t->plan->is_output) return;
    if (list_push(g, &g->outputs, t)) t->plan->is_output = true;
}

void graph_segment_begin(graph *g)
{
    assert(!g->segment && "segments do not nest");
    if (!g->keep_all) g->segment = ++g->segment_count;
}

void graph_segment_end(graph *g)
{
    assert(g->segment || g->keep_all);
    g->segment = 0;
}

void graph_keep_all(graph *g) { g->keep_all = true; }
