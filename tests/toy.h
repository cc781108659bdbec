/* SPDX-License-Identifier: Apache-2.0
 *
 * toy: models of a few thousand random weights in diffusers' folders, for tests that are about
 * everything but the pictures. */
#ifndef LIKENESS_TESTS_TOY_H
#define LIKENESS_TESTS_TOY_H

#include "model/model.h"

/* Text of 16 tokens (bytes are words), pictures of 32x32, latents of 16x16. */
bool toy_stable_diffusion(const char *folder, error *e);
/* The same, whose UNet reads 9 channels: an inpainting model. */
bool toy_inpainting(const char *folder, error *e);
/* UNet2DModel, pictures of 16x16, files flat at the root. */
bool toy_unconditional(const char *folder, error *e);
/* A ControlNet of the first: ControlNetModel. */
bool toy_controlnet(const char *folder, error *e);

#endif
