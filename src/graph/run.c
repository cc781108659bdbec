/* SPDX-License-Identifier: Apache-2.0
 *
 * run: a planned graph's block, its weights, and its execution. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "graph/internal.h"

/* ---- the block ---- */

static void *data_of(const graph *g, tensor *t)
{
    const storage *s = tensor_root(t)->plan->place;
    return s ? (char *)g->block + s->offset : NULL;
}

bool graph_allocate(graph *g, error *e)
{
    assert(g->device && g->prepared == g->run_count);
    if (g->block) return true;
    g->block = block_alloc(graph_bytes(g));
    if (!g->block) return error_memory(e, "the values of a graph", graph_bytes(g));
    for (size_t k = 0; k < g->run_count; k++) {
        node *n = g->run[k];
        for (int i = 0; i < n->in_count; i++)
            if (n->in[i]) n->call.in[i].data = data_of(g, n->in[i]);
        for (int i = 0; i < n->out_count; i++) n->call.out[i].data = data_of(g, n->out[i]);
    }
    for (size_t i = 0; i < g->inputs.count; i++) {
        tensor *t = g->inputs.item[i];
        float *data = data_of(g, t);
        for (int64_t k = 0; t->plan->is_constant && k < tensor_elements(t); k++)
            data[k] = t->plan->constant;
    }
    return true;
}

void graph_release(graph *g)
{
    if (!g->block) return;
    block_free(g->block, graph_bytes(g));
    g->block = NULL;
}

void graph_write(graph *g, tensor *input, const void *data)
{
    assert(g->block && !input->from && !input->is_weight);
    memcpy(data_of(g, input), data, tensor_bytes(input));
}

void graph_read(graph *g, tensor *output, void *data)
{
    assert(g->block && output->plan->is_output);
    const tensor *root = tensor_root(output);
    if (root->is_weight) {
        const weight *w = root->plan->bound;
        convert_to_float(data, w->data, w->type, (size_t)tensor_elements(output));
    } else {
        memcpy(data, data_of(g, output), tensor_bytes(output));
    }
}

const void *graph_data(const graph *g, tensor *output)
{
    assert(g->block && output->plan->is_output && !tensor_root(output)->is_weight);
    return data_of(g, output);
}

/* ---- weights ---- */

/* What is wrong with a weight that was found (or not), as text; false where nothing is. */
static bool weight_trouble(const tensor *t, const weight *w, char *text, size_t size)
{
    char wanted[128], found[128];
    shape_text(wanted, sizeof wanted, t->rank, t->dim);
    if (!w) {
        snprintf(text, size, "%s %s is missing", t->name, wanted);
        return true;
    }
    shape_text(found, sizeof found, w->rank, w->dim);
    if (w->rank != t->rank || memcmp(w->dim, t->dim, (size_t)t->rank * sizeof *t->dim) != 0) {
        snprintf(text, size, "%s is %s, should be %s", t->name, found, wanted);
        return true;
    }
    if (w->type != DTYPE_F32 && w->type != DTYPE_F16 && w->type != DTYPE_BF16) {
        snprintf(text, size, "%s has type %s, should be F32, F16 or BF16", t->name,
                 dtype_name(w->type));
        return true;
    }
    return false;
}

/* Finds all weights; reports everything that is wrong in one message. */
static bool find_weights(graph *g, device_weights *const *sets, size_t count, error *e)
{
    enum { SHOWN = 10 };
    char list[sizeof e->text - 200] = "";
    size_t wrong = 0, at = 0;
    for (size_t i = 0; i < g->weights.count; i++) {
        tensor *t = g->weights.item[i];
        char text[512];
        const weight *w = NULL;
        for (size_t k = 0; k < count && !w; k++) {
            w = weight_find(&sets[k]->set, t->name);
            t->plan->bound_in = sets[k];
        }
        t->plan->bound = w;
        if (!weight_trouble(t, w, text, sizeof text)) continue;
        if (wrong++ < SHOWN && at < sizeof list)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", at ? "; " : "", text);
    }
    if (!wrong) return true;
    char more[64] = "";
    if (wrong > SHOWN) snprintf(more, sizeof more, "; and %zu more", wrong - SHOWN);
    return error_set(e, ERROR_MODEL, "%zu of %zu weights do not fit the model: %s%s", wrong,
                     g->weights.count, list, more);
}

bool graph_bind(graph *g, device_weights *const *sets, size_t count, error *e)
{
    assert(g->device && g->prepared == g->run_count);
    g->bound = false;
    if (!find_weights(g, sets, count, e)) return false;
    for (size_t k = 0; k < g->run_count; k++) {
        node *n = g->run[k];
        bool has_weight = false;
        for (int i = 0; i < n->in_count; i++) {
            tensor *root = n->in[i] ? tensor_root(n->in[i]) : NULL;
            if (!root || !root->is_weight) continue;
            n->call.in[i].w = root->plan->bound;
            n->call.in[i].weights = root->plan->bound_in;
            n->call.in[i].type = root->plan->bound->type;
            has_weight = true;
        }
        if (has_weight && !g->device->bind(g->device, &n->call, n->state, e)) return false;
    }
    g->bound = true;
    return true;
}

/* ---- execution ---- */

static bool ready(const graph *g) { return g->block && (g->bound || g->weights.count == 0); }

static const weight *weight_of(const node *n)
{
    for (int i = 0; i < n->in_count; i++)
        if (n->call.in[i].w) return n->call.in[i].w;
    return NULL;
}

/* A failure is the device's, and names the operation; or it is to stop. */
static bool run_node(const graph *g, const node *n, error *e)
{
    const atomic_bool *stop = g->device->stop;
    if (stop && atomic_load(stop)) return error_set(e, ERROR_CANCELLED, "cancelled");
    void *scratch = (char *)g->block + g->activation_bytes;
    if (g->device->run(g->device, &n->call, n->state, scratch, e)) return true;
    const weight *w = weight_of(n);
    char where[512];
    snprintf(where, sizeof where, "%s%s%s", op_record_of(n->kind)->name, w ? " with weight " : "",
             w ? w->name : "");
    return error_prefix(e, where);
}

bool graph_run(graph *g, error *e)
{
    assert(ready(g) && "graph_allocate and graph_bind come first");
    for (size_t k = 0; k < g->run_count; k++)
        if (!run_node(g, g->run[k], e)) return false;
    return true;
}

/* The index of the first NaN or infinity among n elements, or -1. */
static int64_t first_bad(const void *data, dtype type, int64_t n, float *value)
{
    enum { PIECE = 1024 };
    float piece[PIECE];
    if (type != DTYPE_F32 && type != DTYPE_F16 && type != DTYPE_BF16) return -1;
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t count = n - at < PIECE ? n - at : PIECE;
        const char *from = (const char *)data + (size_t)at * dtype_size(type);
        convert_to_float(piece, from, type, (size_t)count);
        for (int64_t i = 0; i < count; i++)
            if (!isfinite(piece[i])) {
                *value = piece[i];
                return at + i;
            }
    }
    return -1;
}

/* The weight of the node, or of the first node before it that has one and that leads to it. */
static const weight *nearest_weight(const node *n)
{
    for (int step = 0; n && step < 64; step++) {
        const weight *w = weight_of(n);
        if (w) return w;
        const node *before = NULL;
        for (int i = 0; i < n->in_count && !before; i++)
            if (n->in[i]) before = tensor_root(n->in[i])->from;
        n = before;
    }
    return NULL;
}

/* Names what was found in a result of n, and a weight that is itself to blame. */
static bool report_bad(const node *n, const tensor *t, int64_t index, float value, error *e)
{
    const weight *w = nearest_weight(n);
    char dims[128];
    float in_weight;
    shape_text(dims, sizeof dims, t->rank, t->dim);
    if (w && first_bad(w->data, w->type, weight_elements(w), &in_weight) >= 0)
        return error_set(e, ERROR_NUMERIC, "weight %s holds %s; use another copy of the model",
                         w->name, isnan(in_weight) ? "NaN" : "infinity");
    return error_set(e, ERROR_NUMERIC,
                     "%s gave %s at element %lld of %s, %s%s; try precision f32, or "
                     "another copy of the model",
                     op_record_of(n->kind)->name, isnan(value) ? "NaN" : "infinity",
                     (long long)index, dims, w ? "at weight " : "before any weight",
                     w ? w->name : "");
}

bool graph_run_checked(graph *g, error *e)
{
    assert(ready(g) && "graph_allocate and graph_bind come first");
    float value;
    for (size_t i = 0; i < g->inputs.count; i++) {
        tensor *t = g->inputs.item[i];
        if (first_bad(data_of(g, t), t->type, tensor_elements(t), &value) >= 0)
            return error_set(e, ERROR_NUMERIC, "input %s holds %s; check where it comes from",
                             t->name, isnan(value) ? "NaN" : "infinity");
    }
    for (size_t k = 0; k < g->run_count; k++) {
        const node *n = g->run[k];
        if (!run_node(g, n, e)) return false;
        for (int i = 0; i < n->out_count; i++) {
            const tensor *t = n->out[i];
            int64_t at = first_bad(n->call.out[i].data, t->type, tensor_elements(t), &value);
            if (at >= 0) return report_bad(n, t, at, value, e);
        }
    }
    return true;
}
