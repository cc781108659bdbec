/* SPDX-License-Identifier: Apache-2.0
 *
 * view: where the elements of an activation begin, and their type; what kernels take. */
#ifndef LIKENESS_DEVICE_CPU_VIEW_H
#define LIKENESS_DEVICE_CPU_VIEW_H

#include <stdint.h>

#include "base/types.h"

typedef struct view {
    void *data;
    dtype type; /* F32 or BF16 */
} view;

#endif
