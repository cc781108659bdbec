/* SPDX-License-Identifier: Apache-2.0
 *
 * operands: an operation of the processor on the host's memory, as bench_kernels and bench_product
 * time it. */
#ifndef LIKENESS_TOOLS_BENCH_OPERANDS_H
#define LIKENESS_TOOLS_BENCH_OPERANDS_H

#include "device/device.h"

/* All of the host's memory as one buffer of the processor, so that an operand can lie anywhere. */
static const buffer host_memory;

static inline array operand_at(array a, void *data)
{
    a.memory = &host_memory;
    a.offset = (size_t)(uintptr_t)data;
    return a;
}

static inline void run_one(device *d, const op_call *call, void *state, void *scratch)
{
    op_step step = {call, state, "bench"};
    d->submit(d, &step, 1, &host_memory, (size_t)(uintptr_t)scratch, NULL);
}

#endif
