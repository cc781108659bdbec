/* SPDX-License-Identifier: Apache-2.0
 *
 * detect: what a file or folder is, from its names alone. Whatever is not run is refused by the
 * name people know it under. */
#ifndef LIKENESS_MODEL_DETECT_H
#define LIKENESS_MODEL_DETECT_H

#include "model/load.h"

/* Refuses a single file that is not Stable Diffusion 1.x in the original names. */
bool detect_single(const weight_files *files, const char *path, error *e);
/* Refuses a folder whose model_index.json names a pipeline we do not run, and one without it that
 * goes beside a model (a ControlNet, an autoencoder, what a LoRA's or word's training left). */
bool detect_folder(const char *folder, error *e);

/* What a single file or folder is that is no model but belongs to one (a LoRA, a VAE, a tiny
 * autoencoder), in lines for people, malloc'ed; *text NULL: it is none of these. */
bool detect_describe(char **text, const char *path, error *e);

/* Refuses a file that was given as a LoRA and is another thing that is known: says what it is and
 * which flag takes it. What is not known is let by. */
bool detect_for_lora(const char *path, error *e);

/* Where a VAE's tensors are in a single file: the names' prefix and style. */
bool detect_vae(const weight_files *files, naming *out);
/* The same of a tiny autoencoder's decoder. */
bool detect_taesd(const weight_files *files, naming *out);

#endif
