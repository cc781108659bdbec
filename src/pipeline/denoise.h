/* SPDX-License-Identifier: Apache-2.0
 *
 * denoise: the UNet's prediction at (x, t, text). */
#ifndef LIKENESS_PIPELINE_DENOISE_H
#define LIKENESS_PIPELINE_DENOISE_H

#include "pipeline/control.h"

typedef struct denoiser denoiser;

/* What an evaluation does besides. */
typedef struct denoiser_extras {
    bool deep;           /* deep features are kept, for denoiser_run_shallow */
    const control *list; /* ControlNets that join in, and what they see */
    int controls;
} denoiser_extras;

/* Planned, so that denoiser_bytes is known; memory is taken by the first prediction, and held until
 * denoiser_release. batch: samples, each under `texts` texts (1 where there is none) of N tokens
 * (0: as many as the text encoder reads); height, width: of the latents; with: NULL: nothing
 * besides. */
bool denoiser_open(denoiser **out, const pipeline *p, int batch, int texts, int tokens, int height,
                   int width, const denoiser_extras *with, error *e);
void denoiser_close(denoiser **n);
void denoiser_release(denoiser *n);
size_t denoiser_bytes(const denoiser *n);
/* Of these; false where n is NULL. */
bool denoiser_is(const denoiser *n, int batch, int texts, int tokens, int height, int width,
                 const denoiser_extras *with);

/* The texts' states [B * texts,N,hidden], each sample's one behind the other: cross-attention's
 * keys and values are computed here. Once at least before the first prediction of a model that
 * takes a prompt; again where the texts change, and then the UNet keeps its memory. */
bool denoiser_read(denoiser *n, const float *states, error *e);
bool denoiser_has_text(const denoiser *n);

/* x [B,h,w,C] at timestep t, which may lie between the model's -> out
 * [B * texts,h,w,C']. where: for messages. */
bool denoiser_run(denoiser *n, const float *x, float t, float *out, const char *where, error *e);
/* DeepCache: the same by what is outermost of the network alone, upon the deep features of the last
 * denoiser_run (since denoiser_release), or of those that were written. */
bool denoiser_run_shallow(denoiser *n, const float *x, float t, float *out, const char *where,
                          error *e);
size_t denoiser_deep_numbers(const denoiser *n); /* float32, of a sample under one text */
bool denoiser_read_deep(denoiser *n, float *deep, error *e); /* [B * texts] of these */
bool denoiser_write_deep(denoiser *n, const float *deep, error *e);

#endif
