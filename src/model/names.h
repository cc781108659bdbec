/* SPDX-License-Identifier: Apache-2.0
 *
 * names: how a network's weights are called in a file. The canonical names are those diffusers and
 * transformers 4 write (what clip.c, unet.c and vae.c ask for); a naming gives, for each, the
 * spellings to look for, and says what else in the file may be passed over. */
#ifndef LIKENESS_MODEL_NAMES_H
#define LIKENESS_MODEL_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "model/config.h"

enum { NAME_LENGTH = 256 };

typedef enum network {
    NETWORK_CLIP,
    NETWORK_UNET,
    NETWORK_VAE,
    NETWORK_VIT,
    NETWORK_CONTROLNET,
    NETWORK_TAESD
} network;

typedef struct naming {
    network network;
    bool ldm;                /* original Stable Diffusion names; else diffusers' */
    const char *prefix;      /* before every name; "" for none */
    const unet_config *unet; /* block counts, for the network at hand; unused else */
    const vae_config *vae;
    int hints; /* of a ControlNet's configuration */
    int first; /* a TAESD's original number of its first layer */
} naming;

/* The attempt-th spelling (0, 1, ...) of a canonical name; false where there is no such attempt. */
bool naming_spell(const naming *n, const char *canonical, int attempt, char out[NAME_LENGTH]);
/* A name of the file that is no weight of the network, and does no harm. */
bool naming_ignores(const naming *n, const char *name);

#endif
