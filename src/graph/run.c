/* SPDX-License-Identifier: Apache-2.0
 *
 * run: a planned graph's block, its weights, and its execution. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/internal.h"

/* ---- the block ---- */

static const storage *place_of(tensor *t) { return tensor_root(t)->plan->place; }

static array place(const graph *g, array a, tensor *t)
{
    const storage *s = t ? place_of(t) : NULL;
    if (!s) return a;
    a.memory = &g->block;
    a.offset = s->offset;
    return a;
}

bool graph_allocate(graph *g, error *e)
{
    device *d = g->device;
    assert(d && g->prepared == g->run_count);
    if (g->block.handle) return true;
    if (!d->buffer_open(d, graph_bytes(g), "the values of a graph", &g->block, e)) return false;
    for (size_t k = 0; k < g->run_count; k++) {
        node *n = g->run[k];
        for (int i = 0; i < n->in_count; i++) n->call.in[i] = place(g, n->call.in[i], n->in[i]);
        for (int i = 0; i < n->out_count; i++) n->call.out[i] = place(g, n->call.out[i], n->out[i]);
    }
    for (size_t i = 0; i < g->inputs.count; i++) {
        tensor *t = g->inputs.item[i];
        if (!t->plan->is_constant) continue;
        if (!d->fill(d, &g->block, place_of(t)->offset, t->plan->constant,
                     (size_t)tensor_elements(t), e)) {
            graph_release(g);
            return false;
        }
    }
    return true;
}

void graph_release(graph *g)
{
    if (g->block.handle) g->device->buffer_close(&g->block);
}

/* Numbers that choose rows of a table: hardware would read beside it. */
static bool are_rows(const tensor *input, const int32_t *id, error *e)
{
    int64_t rows = input->plan->rows;
    for (int64_t i = 0, n = rows ? tensor_elements(input) : 0; i < n; i++)
        if (id[i] < 0 || id[i] >= rows)
            return error_set(e, ERROR_MODEL,
                             "%s: number %d at place %lld, and the table has %lld rows; use the "
                             "tokenizer that belongs to the model",
                             input->name, (int)id[i], (long long)i, (long long)rows);
    return true;
}

bool graph_write(graph *g, tensor *input, const void *data, error *e)
{
    assert(g->block.handle && !input->from && !input->is_weight);
    if (!are_rows(input, data, e)) return false;
    return g->device->upload(g->device, &g->block, place_of(input)->offset, data,
                             tensor_bytes(input), e);
}

bool graph_read(graph *g, tensor *output, void *data, error *e)
{
    assert(g->block.handle && output->plan->is_output);
    const tensor_plan *root = tensor_root(output)->plan;
    if (!root->place)
        return device_weights_read(g->device, root->bound_in,
                                   (size_t)(root->bound - root->bound_in->set.item), 0,
                                   tensor_elements(output), data, e);
    return g->device->download(g->device, &g->block, root->place->offset, data,
                               tensor_bytes(output), e);
}

array graph_array(const graph *g, tensor *output)
{
    assert(g->block.handle && output->plan->is_output && place_of(output));
    array a = {.type = output->type, .rank = output->rank};
    memcpy(a.dim, output->dim, sizeof a.dim);
    return place(g, a, output);
}

bool graph_copy(graph *to, tensor *input, graph *from, tensor *output, error *e)
{
    assert(to->block.handle && !input->from && !input->is_weight);
    assert(input->type == output->type && tensor_bytes(input) == tensor_bytes(output));
    array a = graph_array(from, output);
    return to->device->copy(to->device, &to->block, place_of(input)->offset, a.memory, a.offset,
                            tensor_bytes(input), e);
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
            t->plan->bound_in = w ? device_weights_owner(sets[k], &w) : sets[k];
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
        for (int i = 0; i < n->in_count; i++) {
            tensor *root = n->in[i] ? tensor_root(n->in[i]) : NULL;
            if (!root || !root->is_weight) continue;
            n->call.in[i].w = root->plan->bound;
            n->call.in[i].weights = root->plan->bound_in;
            n->call.in[i].type = root->plan->bound->type;
        }
    }
    return g->bound = g->device->bind(g->device, g->steps, g->run_count, e);
}

/* ---- execution ---- */

static bool ready(const graph *g) { return g->block.handle && (g->bound || g->weights.count == 0); }

static bool run_steps(const graph *g, size_t from, size_t count, error *e)
{
    device *d = g->device;
    return d->submit(d, g->steps + from, count, &g->block, g->scratch_at, e) && d->wait(d, e);
}

bool graph_run(graph *g, error *e)
{
    assert(ready(g) && "graph_allocate and graph_bind come first");
    return run_steps(g, 0, g->run_count, e);
}

/* The weight operand of the node, or of the first node before it that has one and that leads to it.
 */
static const array *nearest_weight(const node *n)
{
    for (int step = 0; n && step < 64; step++) {
        for (int i = 0; i < n->in_count; i++)
            if (n->call.in[i].w) return &n->call.in[i];
        const node *before = NULL;
        for (int i = 0; i < n->in_count && !before; i++)
            if (n->in[i]) before = tensor_root(n->in[i])->from;
        n = before;
    }
    return NULL;
}

static const char *bad_name(float value) { return isnan(value) ? "NaN" : "infinity"; }

/* Names what was found in the i-th result of n, or a weight that is itself to blame. */
static bool report_bad(const graph *g, const node *n, const bad_value *bad, error *e)
{
    const array *of = nearest_weight(n);
    const tensor *t = n->out[bad->which];
    char dims[128];
    bad_value in_weight;
    shape_text(dims, sizeof dims, t->rank, t->dim);
    if (of && !g->device->find_bad(g->device, of, 1, &in_weight, e)) return false;
    if (of && in_weight.which == 0)
        return error_set(e, ERROR_NUMERIC, "weight %s holds %s; use another copy of the model",
                         of->w->name, bad_name(in_weight.value));
    return error_set(e, ERROR_NUMERIC,
                     "%s gave %s at element %lld of %s, %s%s; try %s, or another copy of the model",
                     op_record_of(n->kind)->name, bad_name(bad->value), (long long)bad->index, dims,
                     of ? "at weight " : "before any weight", of ? of->w->name : "",
                     g->device->compute == DTYPE_F32 ? "settings that are less extreme"
                                                     : "precision f32");
}

bool graph_run_checked(graph *g, error *e)
{
    device *d = g->device;
    bad_value bad;
    assert(ready(g) && "graph_allocate and graph_bind come first");
    for (size_t i = 0; i < g->inputs.count; i++) {
        tensor *t = g->inputs.item[i];
        array a = place(g, (array){.type = t->type, .rank = t->rank}, t);
        memcpy(a.dim, t->dim, sizeof a.dim);
        if (!d->find_bad(d, &a, 1, &bad, e)) return false;
        if (bad.which == 0)
            return error_set(e, ERROR_NUMERIC, "input %s holds %s; check where it comes from",
                             t->name, bad_name(bad.value));
    }
    for (size_t k = 0; k < g->run_count; k++) {
        const node *n = g->run[k];
        if (!run_steps(g, k, 1, e) || !d->find_bad(d, n->call.out, (size_t)n->out_count, &bad, e))
            return false;
        if (bad.which < (size_t)n->out_count) return report_bad(g, n, &bad, e);
    }
    return true;
}
