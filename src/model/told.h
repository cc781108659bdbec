/* SPDX-License-Identifier: Apache-2.0
 *
 * told: what one file in the original names says of itself where it is no ordinary Stable Diffusion
 * 1: the configurations of diffusers' folder, and whose tokenizer it needs, in its metadata. */
#ifndef LIKENESS_MODEL_TOLD_H
#define LIKENESS_MODEL_TOLD_H

#include "base/arena.h"
#include "model/load.h"

enum { TOLD_PAIRS = 5 };

/* The pairs for m's file: *count of them, in memory; 0: there is nothing to say. */
bool told_write(safetensors_pair pair[TOLD_PAIRS], size_t *count, const model *m, arena *memory,
                error *e);
/* Sets m's configurations as the file says, where it does; *told: whether. */
bool told_read(model *m, const weight_files *files, bool *told, error *e);
/* The name of the tokenizer that the file needs; NULL: CLIP's, or it does not say. */
const char *told_tokenizer(const weight_files *files);
/* The name of the one in a folder: a hash of its merges; "" where there is none. */
bool told_tokenizer_of(const char *folder, char name[65], error *e);

#endif
