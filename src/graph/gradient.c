/* SPDX-License-Identifier: Apache-2.0
 *
 * gradient: the gradient of a graph is more graph. Nodes are walked backwards; each record gives
 * its operands their parts, and parts of one tensor are added in the order in which they arrive,
 * which is fixed. All gradients are F32.
 *
 * A segment's nodes are recorded a second time, just before their gradients, from the values that
 * cross into the segment. Gradients then read the copies, so that the values of the forward pass
 * end with it; copies that no gradient reads are dropped by graph_plan as every dead node is. */
#include <assert.h>
#include <stdlib.h>

#include "graph/internal.h"

struct backward {
    graph *g;
    size_t count;  /* of tensors when the backward pass began: the tables' size */
    size_t nodes;  /* and of nodes */
    bool *depends; /* on anything asked for */
    tensor **grad; /* what has arrived so far; NULL: nothing */
    tensor **copy; /* recomputed values of segments */
    int segment;   /* of the node whose gradient is being recorded */
    int copied;    /* the segment that was copied last */
};

graph *backward_graph(const struct backward *b) { return b->g; }

tensor *backward_value(const struct backward *b, tensor *t)
{
    bool inner = b->segment && t->from && t->from->segment == b->segment;
    return inner ? b->copy[t->plan->id] : t;
}

bool backward_wants(const struct backward *b, const tensor *t)
{
    return t && b->depends[t->plan->id];
}

void backward_give(struct backward *b, const tensor *t, tensor *d)
{
    if (!backward_wants(b, t) || graph_failed(b->g)) return;
    assert(d->type == DTYPE_F32 && shape_equal(t, d));
    tensor **sum = &b->grad[t->plan->id];
    *sum = *sum ? add(b->g, *sum, d) : d;
}

tensor *backward_record(struct backward *b, op_kind kind, op_params params, tensor *const *in,
                        const tensor *like)
{
    params.type = DTYPE_F32;
    shape want = {0};
    if (like) want = shape_of(like);
    return record(b->g, kind, &params, in, like ? &want : NULL);
}

tensor *backward_cast(struct backward *b, tensor *dy) { return cast(b->g, dy, b->g->compute); }

/* Marks every tensor that depends on of[0..n-1]. */
static void mark_dependents(struct backward *b, tensor *const *of, size_t n)
{
    for (size_t i = 0; i < n; i++) b->depends[of[i]->plan->id] = true;
    for (size_t i = 0; i < b->nodes; i++) {
        const node *p = node_at(b->g, i);
        bool depends = false;
        for (int k = 0; k < p->in_count; k++) depends = depends || backward_wants(b, p->in[k]);
        for (int k = 0; depends && k < p->out_count; k++) b->depends[p->out[k]->plan->id] = true;
    }
}

/* Records the nodes of the segment that ends with node `last` once more. */
static void copy_segment(struct backward *b, size_t last)
{
    size_t first = last;
    while (first > 0 && node_at(b->g, first - 1)->segment == b->segment) first--;
    for (size_t i = first; i <= last; i++) {
        const node *n = node_at(b->g, i);
        tensor *in[OP_MAX_IN];
        for (int k = 0; k < n->in_count; k++) in[k] = n->in[k] ? backward_value(b, n->in[k]) : NULL;
        const node *made = record_copy(b->g, n, in);
        if (!made) return;
        for (int k = 0; k < n->out_count; k++) b->copy[n->out[k]->plan->id] = made->out[k];
    }
}

static void walk_back(struct backward *b)
{
    for (size_t i = b->nodes; i-- > 0 && !graph_failed(b->g);) {
        const node *n = node_at(b->g, i);
        tensor *dy = b->grad[n->out[0]->plan->id];
        for (int k = 1; k < n->out_count; k++) {
            if (!b->grad[n->out[k]->plan->id]) continue;
            node_fail(b->g, n, "only its first result has a gradient");
            return;
        }
        if (!dy) continue;
        const op_record *r = op_record_of(n->kind);
        if (!r->gradient) {
            node_fail(b->g, n, "this operation has no gradient");
            return;
        }
        b->segment = n->segment;
        if (b->segment && b->copied != b->segment) {
            b->copied = b->segment;
            copy_segment(b, i);
            if (graph_failed(b->g)) return;
        }
        r->gradient(b, n, dy);
    }
}

/* The input [1] that graph_allocate fills with 1. */
static tensor *constant_one(graph *g)
{
    if (g->one) return g->one;
    tensor *t = graph_input(g, "one", DTYPE_F32, 1, (int64_t[]){1});
    if (graph_failed(g)) return t;
    t->plan->is_constant = true;
    t->plan->constant = 1;
    return g->one = t;
}

bool graph_gradient(graph *g, tensor *loss, tensor *loss_scale, tensor *const *of, size_t n,
                    tensor **grad, error *e)
{
    assert(!g->device && !g->segment);
    for (size_t i = 0; i < n; i++) grad[i] = NULL;
    struct backward b = {.g = g};
    tensor *start = loss_scale ? loss_scale : constant_one(g);
    if (!graph_failed(g)) {
        assert(loss->type == DTYPE_F32 && loss->rank == 1 && loss->dim[0] == 1);
        assert(shape_equal(loss, start) && start->type == DTYPE_F32);
        b.count = g->tensor_count;
        b.nodes = g->nodes.count;
        b.depends = calloc(b.count, sizeof *b.depends);
        b.grad = calloc(b.count, sizeof *b.grad);
        b.copy = calloc(b.count, sizeof *b.copy);
        if (!b.depends || !b.grad || !b.copy)
            error_memory(&g->failure, "a graph's gradient", b.count * sizeof *b.grad);
    }
    if (!graph_failed(g)) {
        mark_dependents(&b, of, n);
        backward_give(&b, loss, start);
        walk_back(&b);
    }
    for (size_t i = 0; i < n && !graph_failed(g); i++) {
        grad[i] = b.grad[of[i]->plan->id];
        if (grad[i]) graph_output(g, grad[i]);
    }
    free(b.depends);
    free(b.grad);
    free(b.copy);
    if (!graph_failed(g)) return true;
    for (size_t i = 0; i < n; i++) grad[i] = NULL;
    return error_set(e, g->failure.code, "%s", g->failure.text);
}
