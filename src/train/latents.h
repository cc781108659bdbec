/* SPDX-License-Identifier: Apache-2.0
 *
 * latents: photos through the autoencoder. Where crops are fixed, each photo's posterior (mean and
 * deviation) is computed once and kept, so that sampling it each step draws what the script draws.
 */
#ifndef LIKENESS_TRAIN_LATENTS_H
#define LIKENESS_TRAIN_LATENTS_H

#include "model/model.h"
#include "train/draws.h"
#include "train/watch.h"

typedef struct latents latents;

typedef struct latents_options {
    const photo_set *instances, *classes; /* classes NULL: none */
    int resolution;
    bool center_crop, cache;
    const train_watch *watch; /* told before each picture that is kept */
} latents_options;

/* The device, the model and the photo sets are borrowed. With cache, everything is encoded here. */
bool latents_open(latents **out, device *d, const model *m, const latents_options *o, error *e);
void latents_close(latents **l);
bool latents_cached(const latents *l);
/* Bytes of the encoder's graph, which is there only where nothing is cached. */
size_t latents_bytes(const latents *l);

/* Latents of a batch: `count` instances, then (with classes) `count` class pictures, scaled as the
 * UNet wants them. The posterior's noise is one draw of the whole batch. out [S,C,h,w]. */
bool latents_sample(latents *l, const example *batch, uint32_t count, rng *random, float *out,
                    error *e);

#endif
