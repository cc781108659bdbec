/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: ends the recording. Drops nodes that no output needs, finds from when to when each value is
 * needed, lets results take the memory of operands that die there, prepares the device's
 * operations, and gives every remaining storage, and what operations want of scratch, its place in
 * one block.
 *
 * Positions: node k of g->run executes at position k. Inputs are written before position 0 and live
 * to the end, so that a graph can be run again without writing them anew; so do outputs. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"

enum { ALIGNMENT = 256 };

static size_t align_up(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* ---- what is run ---- */

static bool any_output_needed(const node *n, const bool *needed)
{
    for (int i = 0; i < n->out_count; i++)
        if (needed[n->out[i]->plan->id]) return true;
    return false;
}

/* Fills g->run with the live nodes, views left out. */
static bool collect_live(graph *g)
{
    bool *needed = calloc(g->tensor_count + 1, sizeof *needed);
    g->run = arena_alloc(&g->arena, (g->nodes.count + 1) * sizeof *g->run);
    if (!needed || !g->run) {
        free(needed);
        return error_memory(&g->failure, "a graph's plan", g->nodes.count * sizeof *g->run);
    }
    for (size_t i = 0; i < g->outputs.count; i++)
        needed[((tensor *)g->outputs.item[i])->plan->id] = true;
    for (size_t i = g->nodes.count; i-- > 0;) {
        node *n = node_at(g, i);
        n->live = any_output_needed(n, needed);
        for (int k = 0; n->live && k < n->in_count; k++)
            if (n->in[k]) needed[n->in[k]->plan->id] = true;
    }
    free(needed);
    for (size_t i = 0; i < g->nodes.count; i++) {
        node *n = node_at(g, i);
        if (n->live && n->kind != OP_RESHAPE) g->run[g->run_count++] = n;
    }
    return true;
}

/* ---- lifetimes ---- */

static bool storage_new(graph *g, tensor *t, int64_t first, int64_t last)
{
    storage *s = arena_alloc(&g->arena, sizeof *s);
    if (!s) return error_memory(&g->failure, "a graph's plan", sizeof *s);
    *s = (storage){
        .id = t->plan->id, .bytes = align_up(tensor_bytes(t)), .first = first, .last = last};
    t->plan->place = s;
    return true;
}

/* Where t's memory is, through views; NULL for weights and for values that are not computed. */
static storage *place_of(tensor *t) { return tensor_root(t)->plan->place; }

/* A storage of its own for every value, from its node to its last reader. */
static bool find_lifetimes(graph *g)
{
    int64_t end = (int64_t)g->run_count;
    for (size_t i = 0; i < g->inputs.count; i++)
        if (!storage_new(g, g->inputs.item[i], -1, end)) return false;
    for (int64_t k = 0; k < end; k++) {
        node *n = g->run[k];
        for (int i = 0; i < n->in_count; i++) {
            storage *s = n->in[i] ? place_of(n->in[i]) : NULL;
            if (s && s->last < k) s->last = k;
        }
        for (int i = 0; i < n->out_count; i++)
            if (!storage_new(g, n->out[i], k, k)) return false;
    }
    for (size_t i = 0; i < g->outputs.count; i++) {
        storage *s = place_of(g->outputs.item[i]);
        if (s) s->last = end;
    }
    return true;
}

/* May node k's first result take the memory of operand i? It dies here, nothing else reads it here,
 * and the result is as large and of the same type. */
static bool may_take(const node *n, int i, int64_t k)
{
    tensor *t = n->in[i];
    if (!t || t->type != n->out[0]->type || tensor_bytes(t) != tensor_bytes(n->out[0]))
        return false;
    const storage *s = place_of(t);
    if (!s || s->last != k) return false;
    for (int j = 0; j < n->in_count; j++)
        if (j != i && n->in[j] && place_of(n->in[j]) == s) return false;
    return true;
}

static void reuse_in_place(graph *g)
{
    for (size_t k = 0; k < g->run_count; k++) {
        node *n = g->run[k];
        unsigned allowed = op_record_of(n->kind)->in_place;
        for (int i = 0; i < n->in_count; i++) {
            if (!(allowed >> i & 1) || !may_take(n, i, (int64_t)k)) continue;
            storage *s = place_of(n->in[i]);
            s->last = n->out[0]->plan->place->last;
            n->out[0]->plan->place = s;
            break;
        }
    }
}

/* ---- offsets ---- */

/* Largest first, then earliest: large values leave gaps that small ones fill. */
static int by_size(const void *a, const void *b)
{
    const storage *x = *(storage *const *)a, *y = *(storage *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The smallest gap that fits between those of `placed` (sorted by offset) that live when s does. */
static size_t best_offset(const storage *s, storage *const *placed, size_t count)
{
    size_t best = 0, best_gap = SIZE_MAX, top = 0;
    for (size_t i = 0; i < count; i++) {
        const storage *p = placed[i];
        if (p->first > s->last || s->first > p->last) continue;
        if (p->offset > top) {
            size_t gap = p->offset - top;
            if (gap >= s->bytes && gap < best_gap) {
                best = top;
                best_gap = gap;
            }
        }
        if (p->offset + p->bytes > top) top = p->offset + p->bytes;
    }
    return best_gap == SIZE_MAX ? top : best;
}

/* Every storage in use once, sorted by size; returns how many. */
static size_t list_storages(const graph *g, storage **list)
{
    size_t count = 0;
    for (size_t i = 0; i < g->inputs.count; i++)
        list[count++] = ((tensor *)g->inputs.item[i])->plan->place;
    for (size_t k = 0; k < g->run_count; k++)
        for (int i = 0; i < g->run[k]->out_count; i++) {
            const tensor_plan *p = g->run[k]->out[i]->plan;
            if (p->place->id == p->id) list[count++] = p->place; /* not one that was taken over */
        }
    qsort(list, count, sizeof *list, by_size);
    return count;
}

/* Gives each of the list its offset, beside those that are placed and stay where they are; returns
 * where the last one ends. */
static size_t place_storages(storage *const *list, size_t count, storage **placed, size_t fixed)
{
    size_t end = 0;
    for (size_t i = 0; i < fixed; i++)
        if (placed[i]->bytes > end) end = placed[i]->bytes;
    for (size_t i = 0; i < count; i++) {
        storage *s = list[i];
        s->offset = best_offset(s, placed, fixed + i);
        size_t at = fixed + i;
        for (; at > 0 && placed[at - 1]->offset > s->offset; at--) placed[at] = placed[at - 1];
        placed[at] = s;
        if (s->offset + s->bytes > end) end = s->offset + s->bytes;
    }
    return end;
}

/* What each operation wants of scratch, at the beginning of the block and for as long as it runs.
 */
static size_t list_scratch(const graph *g, storage *scratch, storage **list)
{
    size_t count = 0;
    for (size_t k = 0; k < g->run_count; k++) {
        if (!g->run[k]->scratch) continue;
        scratch[count] = (storage){
            .bytes = align_up(g->run[k]->scratch), .first = (int64_t)k, .last = (int64_t)k};
        list[count] = &scratch[count];
        count++;
    }
    return count;
}

/* The scratch lies behind the values, or among them, before those that live when it is wanted:
 * whichever makes the smaller block. */
static bool place_all(graph *g, error *e)
{
    size_t most = g->inputs.count + g->run_count * OP_MAX_OUT + 1;
    storage **list = malloc((2 * most + g->run_count) * sizeof *list);
    storage *scratch = malloc((g->run_count + 1) * sizeof *scratch);
    bool ok = (list && scratch) || error_memory(e, "a graph's plan", 3 * most * sizeof *list);
    if (ok) {
        storage **placed = list + most;
        size_t count = list_storages(g, list), behind = place_storages(list, count, placed, 0);
        size_t fixed = list_scratch(g, scratch, placed);
        g->activation_bytes = place_storages(list, count, placed, fixed);
        if (g->activation_bytes >= behind + g->scratch_bytes)
            g->activation_bytes = g->scratch_at = place_storages(list, count, placed, 0);
    }
    free(list);
    free(scratch);
    return ok;
}

/* ---- the device's part ---- */

static array array_of(const tensor *t)
{
    if (!t) return (array){.rank = -1};
    array a = {.type = t->type, .rank = t->rank};
    memcpy(a.dim, t->dim, sizeof a.dim);
    return a;
}

static bool prepare_all(graph *g, error *e)
{
    g->steps = arena_alloc(&g->arena, (g->run_count + 1) * sizeof *g->steps);
    if (!g->steps) return error_memory(e, "a graph's plan", g->run_count * sizeof *g->steps);
    for (size_t k = 0; k < g->run_count; k++) {
        node *n = g->run[k];
        n->call = (op_call){
            .kind = n->kind,
            .params = n->params,
            .in_count = n->in_count,
            .out_count = n->out_count,
        };
        for (int i = 0; i < OP_MAX_IN; i++) n->call.in[i] = array_of(n->in[i]);
        for (int i = 0; i < OP_MAX_OUT; i++) n->call.out[i] = array_of(n->out[i]);
        size_t scratch = 0;
        if (!g->device->prepare(g->device, &n->call, &n->state, &scratch, e)) return false;
        g->prepared = k + 1;
        n->scratch = scratch;
        if (scratch > g->scratch_bytes) g->scratch_bytes = scratch;
        g->steps[k] = (op_step){&n->call, n->state, op_record_of(n->kind)->name};
    }
    g->scratch_bytes = align_up(g->scratch_bytes);
    return true;
}

void plan_unprepare(graph *g)
{
    for (size_t k = 0; k < g->prepared; k++)
        g->device->unprepare(g->device, &g->run[k]->call, g->run[k]->state);
    g->prepared = 0;
}

bool graph_plan(graph *g, device *d, error *e)
{
    assert(!g->device && !g->segment && d->compute == g->compute);
    g->device = d;
    if (!graph_failed(g)) {
        assert(g->outputs.count && "a graph without outputs computes nothing");
        if (collect_live(g) && find_lifetimes(g)) reuse_in_place(g);
    }
    if (graph_failed(g)) return error_set(e, g->failure.code, "%s", g->failure.text);
    return prepare_all(g, e) && place_all(g, e);
}

size_t graph_bytes(const graph *g)
{
    size_t scratch = g->scratch_at + g->scratch_bytes;
    return g->activation_bytes > scratch ? g->activation_bytes : scratch;
}
