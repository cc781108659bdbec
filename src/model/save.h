/* SPDX-License-Identifier: Apache-2.0
 *
 * save: a Stable Diffusion model written as a diffusers folder. */
#ifndef LIKENESS_MODEL_SAVE_H
#define LIKENESS_MODEL_SAVE_H

#include "base/work.h"
#include "model/model.h"

/* Writes `folder` (made with its parents) so that StableDiffusionPipeline.from_pretrained loads it:
 * model_index.json, unet, text_encoder, vae, scheduler, tokenizer. unet, clip: float32 weights that
 * take the place of the model's own (safetensors, names of current diffusers/transformers releases
 * that both old and new read); NULL: the model's own, in their own type. What the model's folder
 * holds (configurations, tokenizer files, feature extractor) is copied as it is; for a single file
 * it is written. safety_checker is left out, and said so in model_index.json as diffusers does
 * (null). Every file is written beside its target and renamed. Unconditional models are refused. */
bool model_save(const model *m, const char *folder, const weight_set *unet, const weight_set *clip,
                error *e);
/* A configuration as its file has it, or would: 0 the UNet's, 1 the text encoder's, 2 the
 * autoencoder's, 3 the scheduler's. malloc'ed. */
char *model_config_text(const model *m, int which, error *e);
/* False with an error for what cannot be saved: an unconditional model, one with textual
 * inversions.
 */
bool model_refuse_unsavable(const model *m, error *e);
/* model_save, watched before each file of weights and after the last. as: the type that all weights
 * are written in; NULL: each in its own. */
bool model_save_unless(const model *m, const char *folder, const weight_set *unet,
                       const weight_set *clip, const dtype *as, const work_watch *watch, error *e);
/* One network's folder alone: config.json and its weights, as save_pretrained writes them. hash:
 * NULL, or where the SHA-256 of the weights' file goes. */
bool model_save_unet(const model *m, const char *folder, const weight_set *unet, char hash[65],
                     error *e);
bool model_save_clip(const model *m, const char *folder, const weight_set *clip, char hash[65],
                     error *e);

#endif
