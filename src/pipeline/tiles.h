/* SPDX-License-Identifier: Apache-2.0
 *
 * tiles: the autoencoder on a large picture piece by piece, as diffusers' enable_vae_tiling has it:
 * tiles of the size that it was trained on, a quarter of which overlaps the next and is blended.
 * The memory that it takes is a tile's, however large the picture is. */
#ifndef LIKENESS_PIPELINE_TILES_H
#define LIKENESS_PIPELINE_TILES_H

#include "file/image.h"
#include "pipeline/pipeline.h"

/* Whether a picture of such latents is larger than a tile. */
bool tiles_needed(const model *m, int height, int width);

typedef struct tiled_decoder tiled_decoder;
/* As a decoder (decode.h), for latents that are larger than a tile. */
bool tiled_decoder_open(tiled_decoder **out, const pipeline *p, int height, int width, error *e);
void tiled_decoder_close(tiled_decoder **n);
size_t tiled_decoder_bytes(const tiled_decoder *n);
bool tiled_decoder_is(const tiled_decoder *n, int height, int width);
bool tiled_decoder_run(tiled_decoder *n, const float *latent, image *out, error *e);

/* encoder_run (encode.h) of a picture that is larger than a tile. */
bool tiles_encode(const pipeline *p, const float *pixels, int width, int height, float *mean,
                  float *deviation, const char *where, error *e);

#endif
