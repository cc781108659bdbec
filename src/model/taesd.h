/* SPDX-License-Identifier: Apache-2.0
 *
 * taesd: diffusers AutoencoderTiny's decoder (madebyollin's TAESD): a small network that makes
 * pictures of the UNet's latents, about as the VAE does and much sooner. */
#ifndef LIKENESS_MODEL_TAESD_H
#define LIKENESS_MODEL_TAESD_H

#include "model/model.h"

typedef struct taesd {
    char *path;
    taesd_config config;
    weight_set weights;
    char hash[65]; /* weight_set_hash */
} taesd;

/* Gives m (which must not decode yet) one in place of its VAE. path: a folder of diffusers, or a
 * file in diffusers' or the original names, whose sizes are TAESD's unless a config.json of
 * AutoencoderTiny lies beside it. pool may be NULL. */
bool model_set_taesd(model *m, const char *path, thread_pool *pool, error *e);
void taesd_close(taesd **t);

/* What its decoder begins with, of a number of the latents divided by scaling_factor. */
float taesd_clamp(float latent);
/* latent [B,h,w,latent_channels], clamped -> [B,H,W,3] in 0..1, which may be overstepped. */
tensor *taesd_build(graph *g, const taesd_config *c, tensor *latent);

#endif
