/* SPDX-License-Identifier: Apache-2.0
 *
 * device_support: what the tests of device/ share. */
#ifndef LIKENESS_TESTS_DEVICE_SUPPORT_H
#define LIKENESS_TESTS_DEVICE_SUPPORT_H

#include "device/device.h"
#include "support.h"

/* All of the host's memory as one buffer of the processor, so that an operand can lie anywhere. */
static const buffer host_memory;

static inline void operand_put(array *a, void *data)
{
    a->memory = data ? &host_memory : NULL;
    a->offset = (size_t)(uintptr_t)data;
}

static inline void *operand_data(const array *a) { return (void *)(uintptr_t)a->offset; }

static inline bool run_one(device *d, const op_call *call, void *state, void *scratch, error *e)
{
    op_step step = {call, state, "test"};
    return d->submit(d, &step, 1, &host_memory, (size_t)(uintptr_t)scratch, e) && d->wait(d, e);
}

static inline bool bind_one(device *d, const op_call *call, void *state, error *e)
{
    return d->bind(d, &(op_step){call, state, "test"}, 1, e);
}

/* A device's copy of one weight. */
static inline device_weights *weights_alone(device *d, weight *w)
{
    error e = {0};
    device_weights *out;
    if (!device_weights_open(d, &(weight_set){.item = w, .count = 1}, &out, &e))
        fail_msg("%s", e.text);
    return out;
}

/* The operand that it is. */
static inline array weight_array(device_weights *weights)
{
    const weight *w = weights->set.item;
    array a = {.w = w, .weights = weights, .type = w->type, .rank = w->rank};
    memcpy(a.dim, w->dim, sizeof a.dim);
    return a;
}

#endif
