/* SPDX-License-Identifier: Apache-2.0
 *
 * control: ControlNets beside a UNet: their share of an evaluation at (x, t, text), each under a
 * picture of its own, scaled and summed. */
#ifndef LIKENESS_PIPELINE_CONTROL_H
#define LIKENESS_PIPELINE_CONTROL_H

#include "file/image.h"
#include "model/controlnet.h"
#include "pipeline/pipeline.h"

/* One of them: what it sees, and how much what it says counts. */
typedef struct control {
    controlnet *net;
    const image *picture; /* of any size: it is resized to the picture that is made */
    float scale;
} control;

/* Where each picture and evaluation is as the denoiser's. */
typedef struct control_shape {
    int batch, texts, tokens, height, width;
} control_shape;

typedef struct controls controls;

/* Whether such a ControlNet fits the model. */
bool control_fits(const control *c, const model *m, error *e);
/* Planned, so that controls_bytes is known. The list is not kept; the ControlNets are shared. */
bool controls_open(controls **out, const pipeline *p, const control *list, int count,
                   const control_shape *shape, error *e);
void controls_close(controls **c);
void controls_release(controls *c);
size_t controls_bytes(const controls *c);
/* Of these; c NULL: of none. */
bool controls_are(const controls *c, const control *list, int count);

/* Of the texts' states, as denoiser_read. */
bool controls_read(controls *c, const float *states, error *e);
/* What they add, [B * texts,..] each: unet_skip_count + 1 tensors, read where they lie by
 * graph_copy until the next run. */
bool controls_run(controls *c, const float *x, float t, error *e);
int controls_count(const controls *c);
tensor *controls_output(const controls *c, int i);
graph *controls_graph(const controls *c);

#endif
