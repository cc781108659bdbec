/* SPDX-License-Identifier: Apache-2.0
 *
 * pipeline: a model on a device, and what every flow does with it: text to states, picture to
 * latents, a prediction of the UNet, latents to picture. What a file here opens belongs to one
 * thread, with the device that it was opened on; the model is shared and never changed.
 *
 * Values at the edge are float32. Pictures and networks' maps are channels-last ([B,H,W,C]),
 * latents outside the networks are planes in PyTorch's order ([C,h,w]); layout.h has both ways. */
#ifndef LIKENESS_PIPELINE_PIPELINE_H
#define LIKENESS_PIPELINE_PIPELINE_H

#include "model/model.h"

/* Both are borrowed; copied by value into whatever is opened on it. */
typedef struct pipeline {
    device *device;
    const model *model;
} pipeline;

size_t pipeline_elements(const tensor *t);
bool pipeline_finite(const float *x, size_t n);

/* Runs a graph that is bound, has its memory and its inputs, and reads its output. A value that is
 * not finite is ERROR_NUMERIC, naming `where` and the operation that it came from. */
bool pipeline_run(graph *g, tensor *output, float *to, const char *where, error *e);

#endif
