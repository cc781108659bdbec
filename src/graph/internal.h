/* SPDX-License-Identifier: Apache-2.0
 *
 * internal: what the files of graph/ share. A node is one recorded operation; an op_record says
 * what an operation is (operands, output shapes, gradient); a storage is a place in the one block
 * of activations, shared by a value, its views, and the values computed in its place. */
#ifndef LIKENESS_GRAPH_INTERNAL_H
#define LIKENESS_GRAPH_INTERNAL_H

#include "base/arena.h"
#include "graph/graph.h"

typedef struct shape {
    int rank;
    int64_t dim[ARRAY_MAX_RANK];
} shape;

/* Positions count executed nodes; an input is there before the first, an output after the last. */
typedef struct storage {
    size_t id;
    size_t bytes, offset;
    int64_t first, last; /* positions of the first writer and the last reader, both included */
} storage;

typedef struct tensor_plan {
    size_t id;
    tensor *cast[2]; /* this value as F32, as the half type, where that was recorded before */
    bool is_output;
    int64_t rows;     /* of the smallest table that this input's numbers choose from; 0: none */
    bool is_constant; /* an input that graph_allocate fills with `constant` */
    float constant;
    storage *place;      /* of a value or an input; NULL for weights, views and dead values */
    const weight *bound; /* of a weight, and the copy of its set */
    device_weights *bound_in;
} tensor_plan;

struct node {
    op_kind kind;
    op_params params;
    int in_count, out_count;
    tensor *in[OP_MAX_IN]; /* NULL: an optional operand that is absent */
    tensor *out[OP_MAX_OUT];
    int segment; /* 0: none */
    bool live;
    op_call call;
    void *state;    /* the device's */
    size_t scratch; /* bytes that running it wants */
};

typedef struct pointer_list {
    void **item;
    size_t count, capacity;
} pointer_list;

struct graph {
    arena arena;
    dtype compute;
    error failure;                         /* the first one; code ERROR_NONE while all is well */
    pointer_list nodes;                    /* node *, in the order of recording */
    pointer_list inputs, weights, outputs; /* tensor * */
    size_t tensor_count;
    int segment, segment_count;
    bool keep_all;   /* segments are not marked */
    tensor harmless; /* what recording returns after a failure */
    tensor_plan harmless_plan;
    tensor *one; /* the constant 1 that a gradient starts from */

    device *device; /* set by graph_plan */
    node **run;     /* live nodes but views, in order; the first `prepared` have a state */
    size_t run_count, prepared;
    op_step *steps;                         /* of `run`, as the device takes them */
    size_t activation_bytes, scratch_bytes; /* where each ends; the block holds both */
    size_t scratch_at;
    buffer block; /* handle NULL: no memory */
    bool bound;
};

static inline node *node_at(const graph *g, size_t i) { return g->nodes.item[i]; }
static inline bool graph_failed(const graph *g) { return g->failure.code != ERROR_NONE; }

/* ---- graph.c ---- */
/* Keeps the first failure. */
void graph_fail(graph *g, error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Keeps "OP: why (in0 [..], in1 name [..])"; returns false. */
bool node_fail(graph *g, const node *n, const char *why);
tensor *tensor_new(graph *g, dtype type, const shape *s); /* NULL after a failure, which is kept */
bool list_push(graph *g, pointer_list *list, void *item);
shape shape_of(const tensor *t);
/* What numbers are held in between operations: float32, or a half type */
static inline bool type_is_value(dtype t)
{
    return t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16;
}
int64_t tensor_elements(const tensor *t);
size_t tensor_bytes(const tensor *t);
/* The tensor whose memory t lies in: t itself, or what t is a view of. */
tensor *tensor_root(tensor *t);
void shape_text(char *out, size_t size, int rank, const int64_t *dim); /* "[1, 64, 64, 4]" */

/* ---- ops.c: the table, and how a node is recorded ---- */
struct backward;
typedef struct op_record {
    const char *name;
    int in_count, out_count;
    unsigned optional;     /* bit i: operand i may be absent */
    unsigned weight;       /* bit i: operand i is a weight */
    unsigned maybe_weight; /* bit i: operand i may be one */
    unsigned ids;          /* bit i: operand i is I32, not a number of type_is_value */
    unsigned in_place;     /* bit i: the first output may take operand i's memory (device.h) */
    /* Checks the operands and fills the outputs' shapes; out[0] holds the wanted shape where the
     * operands do not determine it. Fails with node_fail. */
    bool (*shapes)(graph *g, const node *n, shape out[OP_MAX_OUT]);
    /* Records the gradient, dy being the first output's, and gives each operand its part. NULL: the
     * operation has none. */
    void (*gradient)(struct backward *b, const node *n, tensor *dy);
} op_record;

const op_record *op_record_of(op_kind kind);
/* Records an operation with op_record.in_count operands; `want` is the first output's shape, NULL
 * where the operands determine it. Returns the first output; the others are result->from->out[i].
 */
tensor *record(graph *g, op_kind kind, const op_params *params, tensor *const *in,
               const shape *want);
/* As recorded, with other operands: for recomputation. NULL after a failure. */
node *record_copy(graph *g, const node *n, tensor *const *in);
bool shape_equal(const tensor *a, const tensor *b);

/* ---- gradient.c: what a gradient function works with ---- */
/* A value of the forward pass: itself, or its recomputed copy. */
tensor *backward_value(const struct backward *b, tensor *t);
bool backward_wants(const struct backward *b, const tensor *t);     /* false for NULL */
void backward_give(struct backward *b, const tensor *t, tensor *d); /* no-op when not wanted */
/* Records a gradient operation on F32 output of the shape of `like` (NULL: determined). */
tensor *backward_record(struct backward *b, op_kind kind, op_params params, tensor *const *in,
                        const tensor *like);
tensor *backward_cast(struct backward *b, tensor *dy); /* to the compute type, for a product */
graph *backward_graph(const struct backward *b);

/* ---- plan.c ---- */
void plan_unprepare(graph *g);

#endif
