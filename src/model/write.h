/* SPDX-License-Identifier: Apache-2.0
 *
 * write: weights as safetensors files, in the type they have or in another, and a Stable Diffusion
 * model as one file in the original names. */
#ifndef LIKENESS_MODEL_WRITE_H
#define LIKENESS_MODEL_WRITE_H

#include "base/work.h"
#include "model/model.h"

/* A network's file, under the names that the set has. as: the type; NULL: as they are. hash: NULL,
 * or where the file's SHA-256 goes. A weight that float16 cannot hold is refused. */
bool weights_write(const weight_set *set, const dtype *as, const char *path, char *hash, error *e);

/* One file that AUTOMATIC1111, ComfyUI, stable-diffusion.cpp and diffusers' from_single_file load:
 * UNet, text encoder and autoencoder in the names of CompVis' code. Watched before each tensor. */
bool model_write_single(const model *m, const dtype *as, const char *path, const work_watch *watch,
                        error *e);
/* What the model has that such a file cannot tell, for whoever reads it as Stable Diffusion 1;
 * NULL: nothing. */
const char *model_single_loses(const model *m);

#endif
