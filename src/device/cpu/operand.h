/* SPDX-License-Identifier: Apache-2.0
 *
 * operand: the operands of our own kernels: activations as views, small weights as float32. */
#ifndef LIKENESS_DEVICE_CPU_OPERAND_H
#define LIKENESS_DEVICE_CPU_OPERAND_H

#include "device/cpu/cpu.h"
#include "device/cpu/view.h"

static inline bool is_activation(const array *a)
{
    return a->rank > 0 && (a->type == DTYPE_F32 || a->type == DTYPE_BF16);
}

static inline bool is_f32_operand(const array *a)
{
    return a->w || (a->rank > 0 && a->type == DTYPE_F32);
}

/* Whether every operand of the call is an activation: all that the simpler operations ask. */
static inline bool operands_prepare(device *d, const op_call *call, void **state, size_t *scratch,
                                    error *e)
{
    (void)d;
    (void)state;
    (void)scratch;
    bool fits = true;
    for (int i = 0; i < call->in_count; i++)
        fits &= call->in[i].w || is_activation(&call->in[i]) || !array_present(&call->in[i]);
    fits &= is_activation(&call->out[0]);
    return fits ||
           error_set(e, ERROR_USAGE, "the cpu's operation %d takes and gives only F32 and BF16",
                     (int)call->kind);
}

/* Every weight of the call as float32: a row's bind. */
static inline bool operands_bind(device *d, const op_call *call, void *state, error *e)
{
    (void)state;
    for (int i = 0; i < call->in_count; i++)
        if (call->in[i].w && !weight_f32_bind(d, &call->in[i], e)) return false;
    return true;
}

static inline const float *operand_f32(const array *a)
{
    return a->w ? weight_f32(a) : array_data(a);
}

static inline bool output_wanted(const op_call *call, int i)
{
    return i < call->out_count && call->out[i].rank > 0 && call->out[i].memory;
}

static inline int64_t array_channels(const array *a) { return a->dim[a->rank - 1]; }

/* An array from element `from` on. */
static inline view view_of(const array *a, int64_t from)
{
    return (view){(char *)array_data(a) + (size_t)from * dtype_size(a->type), a->type};
}

/* A small weight as float32 (bound), or an activation. */
static inline view view_of_operand(const array *a)
{
    return a->w ? (view){(void *)(uintptr_t)weight_f32(a), DTYPE_F32} : view_of(a, 0);
}

/* In how many parts to sum rows of so many channels: by the shape alone, so that the sums are the
 * same whatever the number of threads. */
enum { SUM_PARTS_MOST = 32, SUM_PART_NUMBERS = 16384, SUM_PART_ROWS = 16 };

static inline int sum_parts(int64_t rows, int64_t channels)
{
    int64_t parts = rows * channels / SUM_PART_NUMBERS;
    if (parts > rows / SUM_PART_ROWS) parts = rows / SUM_PART_ROWS;
    return (int)(parts < 1 ? 1 : parts > SUM_PARTS_MOST ? SUM_PARTS_MOST : parts);
}

/* What the pieces of an operation's run are told. */
typedef struct op_run {
    const device *d;
    const op_call *call;
    void *scratch;
    int pieces;
} op_run;

/* Deals a run that may be cut anywhere: piece i of op_run.pieces. */
static inline void op_deal(const device *d, const op_call *call, void *scratch, int64_t elements,
                           thread_piece *work)
{
    op_run r = {d, call, scratch, cpu_pieces(d, elements)};
    cpu_deal(d, elements, r.pieces, work, &r);
}

#endif
