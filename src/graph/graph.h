/* SPDX-License-Identifier: Apache-2.0
 *
 * graph: record, then run. Calls such as conv2d(g, ...) only record; the first failure while
 * recording is kept in the graph (later calls then do nothing and return a harmless tensor) and is
 * reported once by graph_plan(), so that a model reads like the mathematics. A graph is built once
 * per (network, shapes, precision, training or not) and run with any weight set of the network.
 *
 * Memory has three lifetimes: weights (the caller's), nodes (the graph's arena), activations (one
 * block, planned by lifetimes). Owner of everything a graph returns: the graph. */
#ifndef LIKENESS_GRAPH_GRAPH_H
#define LIKENESS_GRAPH_GRAPH_H

#include "device/device.h"

typedef struct graph graph;
typedef struct node node;

typedef struct tensor {
    dtype type;
    int rank;
    int64_t dim[ARRAY_MAX_RANK];
    const char *name; /* of an input or a weight; else NULL */
    node *from;       /* NULL for inputs and weights */
    bool is_weight;
    struct tensor_plan *plan;
} tensor;

/* compute: device->compute, the type products read (F32, F16 or BF16). */
bool graph_open(graph **out, dtype compute, error *e);
void graph_close(graph **g);

/* ---- leaves ---- */
tensor *graph_input(graph *g, const char *name, dtype type, int rank, const int64_t *dim);
/* A weight by its checkpoint name; asked for twice, it is the same tensor (shapes must agree). */
tensor *graph_weight(graph *g, const char *name, int rank, const int64_t *dim);
size_t graph_weight_count(const graph *g);
const tensor *graph_weight_at(const graph *g, size_t i);
/* False, and the error, where recording has failed so far (graph_plan would say the same). */
bool graph_recorded(const graph *g, error *e);
/* Keeps a tensor's value to the end of a run, so that graph_read can have it. */
void graph_output(graph *g, tensor *t);

/* ---- operations: shapes and formulas stand with op_kind in device.h ---- */
typedef struct conv_pad {
    int top, left, bottom, right;
} conv_pad;
/* b and add may be NULL. Output F32 (a residual). x is cast to the compute type when it is not. */
tensor *conv2d(graph *g, tensor *x, tensor *w, tensor *b, int stride, conv_pad pad, tensor *add_to);
tensor *linear(graph *g, tensor *x, tensor *w, tensor *b, tensor *add_to);
/* As linear, the output in the compute type (it feeds attention or GEGLU). */
tensor *linear_compute(graph *g, tensor *x, tensor *w, tensor *b);
/* Attention and norms give the compute type. */
tensor *attention(graph *g, tensor *q, tensor *k, tensor *v, int heads, bool causal);
tensor *group_norm(graph *g, tensor *x, tensor *gamma, tensor *beta, int groups, float eps,
                   bool silu);
tensor *layer_norm(graph *g, tensor *x, tensor *gamma, tensor *beta, float eps);
tensor *unary(graph *g, tensor *x, unary_kind kind); /* keeps x's type */
tensor *geglu(graph *g, tensor *x);
tensor *add(graph *g, tensor *a, tensor *b);
tensor *add_channel(graph *g, tensor *x, tensor *v);
tensor *scale(graph *g, tensor *x, float alpha);
tensor *cast(graph *g, tensor *x, dtype type); /* x itself where the type is the same */
/* To the compute type: where products alone read what becomes of x, moving it is cheaper so. */
tensor *cast_compute(graph *g, tensor *x);
tensor *reshape(graph *g, tensor *x, int rank, const int64_t *dim);
tensor *concat(graph *g, tensor *a, tensor *b);
tensor *slice(graph *g, tensor *x, int64_t start, int64_t count);
tensor *upsample(graph *g, tensor *x, int64_t height, int64_t width);
tensor *embedding(graph *g, tensor *ids, tensor *table);
tensor *time_embedding(graph *g, tensor *t, int64_t dim, bool flip_sin_to_cos, float freq_shift);
tensor *mse(graph *g, tensor *pred, tensor *target, tensor *weight, tensor **per_sample);

/* ---- training ---- */
/* Nodes recorded between begin and end form a segment whose inner values are not kept for the
 * backward pass but computed again there. Segments do not nest. */
void graph_segment_begin(graph *g);
void graph_segment_end(graph *g);
/* From here on segments are not marked: every value that a gradient reads is kept. */
void graph_keep_all(graph *g);
/* Records the gradient of a scalar F32 loss [1] with respect to of[0..n-1] (weights or inputs) and
 * marks grad[0..n-1] (F32, of's shape) as outputs. loss_scale: the number the chain starts from, an
 * input tensor [1], or NULL for 1. A tensor the loss does not depend on gets grad NULL. */
bool graph_gradient(graph *g, tensor *loss, tensor *loss_scale, tensor *const *of, size_t n,
                    tensor **grad, error *e);

/* ---- planning and running ---- */
/* Ends recording: reports the first failure, drops what no output needs, gives every activation its
 * place, prepares every operation. */
bool graph_plan(graph *g, device *d, error *e);
size_t graph_bytes(const graph *g);      /* activations + scratch; known after graph_plan */
bool graph_allocate(graph *g, error *e); /* takes the block out of the device's memory */
void graph_release(graph *g);            /* gives it back; plan and binding stay */
/* Finds every weight by name in the first of the sets that has it (all missing or misshapen ones
 * reported at once), and has the device make the copies that it wants. The sets are borrowed. */
bool graph_bind(graph *g, device_weights *const *sets, size_t count, error *e);
/* Whole tensors, in their own type. An input stays to the end of every run, until it is written
 * again; one that an embedding reads is refused where it chooses a row that the table lacks. */
bool graph_write(graph *g, tensor *input, const void *data, error *e);
bool graph_read(graph *g, tensor *output, void *data, error *e);
/* A computed output of one graph becomes an input of another of the same hardware (type and size
 * are the same), without passing through the host. */
bool graph_copy(graph *to, tensor *input, graph *from, tensor *output, error *e);
/* Where a computed output lies on the device, until the next run or release. */
array graph_array(const graph *g, tensor *output);
/* The whole plan, and waits for it. */
bool graph_run(graph *g, error *e);
/* As graph_run, but looks at every value: the first NaN or infinity is ERROR_NUMERIC naming node
 * and nearest weight. For finding out where a bad output came from. */
bool graph_run_checked(graph *g, error *e);

#endif
