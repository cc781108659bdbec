/* SPDX-License-Identifier: Apache-2.0
 *
 * controlnet: diffusers ControlNetModel of Stable Diffusion 1.x: the UNet's way down and middle
 * once more, which sees a picture and adds to the UNet's skips. */
#ifndef LIKENESS_MODEL_CONTROLNET_H
#define LIKENESS_MODEL_CONTROLNET_H

#include <stdatomic.h>

#include "model/model.h"

/* Does not change once it is open. Shared by all who use it, on several threads. */
typedef struct controlnet {
    char *path;
    controlnet_config config;
    weight_set weights;
    char hash[65]; /* weight_set_hash */
    atomic_int shares;
} controlnet;

/* path: a folder of diffusers, or a file in diffusers' or the original names, whose sizes are
 * Stable Diffusion 1's unless a config.json lies beside it. pool may be NULL. */
bool controlnet_open(controlnet **out, const char *path, thread_pool *pool, error *e);
controlnet *controlnet_share(controlnet *c);
void controlnet_close(controlnet **c); /* gives up one share */

/* The picture [1,H,W,3] in 0..1 -> [1,h,w,channels[0]]: the same in all evaluations. */
tensor *controlnet_build_hint(graph *g, const controlnet_config *c, tensor *picture);
/* What it adds to each skip, and to the middle, into out (unet_skip_count + 1), [B * texts,..].
 * The text comes as context or as kv, as unet_build_lower has it. */
void controlnet_build(graph *g, const controlnet_config *c, tensor *x, tensor *t, tensor *context,
                      tensor *const *kv, int texts, tensor *hint, tensor **out);

#endif
