/* SPDX-License-Identifier: Apache-2.0
 *
 * reference: every operation in plain double-precision loops, in device.h's layouts and operand
 * order. Kernels are compared with these, and gradients with finite differences of these. */
#ifndef LIKENESS_TESTS_REFERENCE_H
#define LIKENESS_TESTS_REFERENCE_H

#include "device/device.h"

/* Runs a forward operation (no gradient kinds) in double. in[i] and out[i] are double arrays of the
 * shapes in call (types and data pointers of the call are ignored; ids are doubles too). out[i] may
 * be NULL for outputs not wanted. */
void reference_run(const op_call *call, double *const in[], double *const out[]);
/* The gradients of sum(out[0] * dy) by the inputs, of operations other than products
 * (reference_gradient.c); slope[i]: what is not wanted is NULL, but the norms' and attention's are
 * all wanted. */
void reference_gradient(const op_call *call, double *const in[], const double *dy,
                        double *const slope[]);
size_t array_count(const array *a); /* elements; 0 where rank is -1 */

#endif
