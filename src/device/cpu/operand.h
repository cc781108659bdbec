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
    return fits || error_set(e, ERROR_USAGE,
                             "the cpu's operation %d takes and gives only F32 and BF16",
                             (int)call->kind);
}

/* Every weight of the call as float32: a row's bind. */
static inline bool operands_bind(device *d, const op_call *call, void *state, error *e)
{
    (void)d;
    (void)state;
    for (int i = 0; i < call->in_count; i++)
        if (call->in[i].w && !weight_f32_bind(call->in[i].w, e)) return false;
    return true;
}

static inline const float *operand_f32(const array *a) { return a->w ? weight_f32(a->w) : a->data; }

static inline bool output_wanted(const op_call *call, int i)
{
    return i < call->out_count && call->out[i].rank > 0 && call->out[i].data;
}

static inline int64_t array_channels(const array *a) { return a->dim[a->rank - 1]; }

/* An array from element `from` on. */
static inline view view_of(const array *a, int64_t from)
{
    return (view){(char *)a->data + (size_t)from * dtype_size(a->type), a->type};
}

/* A small weight as float32 (bound), or an activation. */
static inline view view_of_operand(const array *a)
{
    return a->w ? (view){(void *)(uintptr_t)weight_f32(a->w), DTYPE_F32} : view_of(a, 0);
}

/* Fewer elements than this are not worth waking other threads for. */
static inline int threads_for(const device *d, int64_t elements)
{
    return elements < 16384 ? 1 : d->threads;
}

#endif
