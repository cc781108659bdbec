/* SPDX-License-Identifier: Apache-2.0
 *
 * decode: latents to a picture. */
#ifndef LIKENESS_PIPELINE_DECODE_H
#define LIKENESS_PIPELINE_DECODE_H

#include "file/image.h"
#include "pipeline/pipeline.h"

/* Of what decodes: the tiny autoencoder, or the VAE. */
const weight_set *decoder_weights(const model *m);

/* diffusers' VaeImageProcessor: y [height,width,3] in -1..1 -> a picture, rounded half to even. */
bool decode_pixels(image *out, const float *y, int width, int height, error *e);

typedef struct decoder decoder;

/* Planned, so that decoder_bytes is known. height, width: of the latents. */
bool decoder_open(decoder **out, const pipeline *p, int height, int width, error *e);
void decoder_close(decoder **n);
size_t decoder_bytes(const decoder *n);
bool decoder_is(const decoder *n, int height, int width); /* of these; false where n is NULL */

/* latent [C,h,w], as a run ends with it. Takes its memory, and gives it back. */
bool decoder_run(decoder *n, const float *latent, image *out, error *e);
/* The same before it is cut to 8 bits: y [H,W,3]. */
bool decoder_values(decoder *n, const float *latent, float *y, error *e);

#endif
