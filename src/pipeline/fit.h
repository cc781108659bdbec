/* SPDX-License-Identifier: Apache-2.0
 *
 * fit: the sizes that a model works with, and whether models fit each other. That the parts of one
 * model agree, and what a Stable Diffusion pipeline forces in its scheduler, is done once, where
 * the model is opened (model/model.c). */
#ifndef LIKENESS_PIPELINE_FIT_H
#define LIKENESS_PIPELINE_FIT_H

#include "model/model.h"

bool fit_conditional(const model *m); /* takes a prompt, and has an autoencoder */
/* A picture's side by its latents'. */
int fit_factor(const model *m);
/* The size of pictures that the model was trained on, and what both sides must be multiples of. */
void fit_size(const model *m, int *width, int *height, int *multiple);
/* The shape [C,h,w] of the latents of a picture of this size (0: the model's own). */
void fit_latents(const model *m, int width, int height, int shape[3]);
/* What a picture's widest maps alone must take, for a refusal before anything is planned. */
double fit_least_bytes(const model *m, int width, int height);

/* Whether the model makes pictures. */
bool fit_model(const model *m, error *e);
/* Whether both can predict in one run. */
bool fit_pair(const model *a, const model *b, error *e);

#endif
