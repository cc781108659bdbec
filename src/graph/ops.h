/* SPDX-License-Identifier: Apache-2.0
 *
 * ops: the records of all operations (each defined in one ops_*.c) and what their shape checks
 * share. */
#ifndef LIKENESS_GRAPH_OPS_H
#define LIKENESS_GRAPH_OPS_H

#include "graph/internal.h"

/* ops_product.c */
extern const op_record op_conv2d, op_conv2d_grad_x, op_conv2d_grad_w;
extern const op_record op_linear, op_linear_grad_x, op_linear_grad_w;
extern const op_record op_attention, op_attention_grad;
/* ops_norm.c */
extern const op_record op_group_norm, op_group_norm_grad, op_layer_norm, op_layer_norm_grad;
/* ops_pointwise.c */
extern const op_record op_unary, op_unary_grad, op_geglu, op_geglu_grad;
extern const op_record op_add, op_add_channel, op_scale, op_cast, op_sum_leading, op_sum_space;
/* ops_shape.c */
extern const op_record op_reshape, op_concat, op_slice, op_unslice, op_upsample, op_upsample_grad;
/* ops_lookup.c */
extern const op_record op_embedding, op_embedding_grad, op_time_embedding, op_mse, op_mse_grad;

static inline int64_t last_dim(const tensor *t) { return t->rank ? t->dim[t->rank - 1] : 1; }
int64_t tensor_rows(const tensor *t);             /* product of all dimensions but the last */
bool same_rows(const tensor *a, const tensor *b); /* equal in all dimensions but the last */
static inline bool is_vector(const tensor *t, int64_t n) { return t->rank == 1 && t->dim[0] == n; }

#endif
