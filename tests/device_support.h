/* SPDX-License-Identifier: Apache-2.0
 *
 * device_support: what the tests of device/ share. */
#ifndef LIKENESS_TESTS_DEVICE_SUPPORT_H
#define LIKENESS_TESTS_DEVICE_SUPPORT_H

#include "device/device.h"
#include "support.h"

/* A device's copy of one weight. */
static inline device_weights *weights_alone(device *d, weight *w)
{
    error e = {0};
    device_weights *out;
    if (!device_weights_open(d, &(weight_set){.item = w, .count = 1}, &out, &e)) fail_msg("%s", e.text);
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
