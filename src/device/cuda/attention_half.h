/* SPDX-License-Identifier: Apache-2.0
 *
 * attention_half: attention whose operands are all of one half type, on the card's matrix units. */
#ifndef LIKENESS_DEVICE_CUDA_ATTENTION_HALF_H
#define LIKENESS_DEVICE_CUDA_ATTENTION_HALF_H

#include "device/cuda/kernels.h"

/* False where it does not serve, and nothing was launched. */
bool attention_half_launch(const attention_args *a, gpu_stream stream);
size_t attention_half_grad_scratch(const attention_grad_args *a);
bool attention_half_grad_launch(const attention_grad_args *a, void *scratch, gpu_stream stream);

#endif
