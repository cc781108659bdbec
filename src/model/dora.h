/* SPDX-License-Identifier: Apache-2.0
 *
 * dora: weights with a LoRA whose lengths are trained apart from their directions (DoRA: Liu and
 * others 2024): m (W + change) / |W + change|, of each output's weights, or of each input's. */
#ifndef LIKENESS_MODEL_DORA_H
#define LIKENESS_MODEL_DORA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Changes weight [out,in,places] so, by scale * change of its shape; magnitude: [out], or [in]
 * where by_input. strength: how much of the way from the weight to what it becomes, as
 * AUTOMATIC1111 and ComfyUI have it (PEFT's weight of an adapter is one of the change alone: the
 * same at 1). False: no memory. */
bool dora_merge(float *weight, const float *change, const int64_t dim[3], float scale,
                const float *magnitude, bool by_input, float strength, error *e);

#endif
