/* SPDX-License-Identifier: Apache-2.0
 *
 * attention_half: attention whose operands are all of one half type, on the card's matrix units. */
#ifndef LIKENESS_DEVICE_CUDA_ATTENTION_HALF_H
#define LIKENESS_DEVICE_CUDA_ATTENTION_HALF_H

#include "device/cuda/kernels.h"

/* False where it does not serve, and nothing was launched. delta: as in attention.cu */
bool attention_half_launch(const attention_args *a, gpu_stream stream);
bool attention_half_grad_launch(const attention_grad_args *a, const float *delta,
                                gpu_stream stream);

#endif
