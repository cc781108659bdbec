/* SPDX-License-Identifier: Apache-2.0
 *
 * load: weight sets out of files of tensors (safetensors, PyTorch's). What a network wants follows
 * from recording it; what the files hold is compared with that, and everything missing, surplus or
 * misshapen is reported at once. Weights stay in the mapped files, in their own type (F64 becomes
 * F32). */
#ifndef LIKENESS_MODEL_LOAD_H
#define LIKENESS_MODEL_LOAD_H

#include "base/work.h"
#include "file/safetensors.h"
#include "model/model.h"
#include "model/names.h"

/* One or several mapped files, counted: sets that share them keep them open. */
typedef struct weight_files weight_files;
bool weight_files_open(weight_files **out, char *const *paths, size_t count, error *e);
void weight_files_release(weight_files **files); /* gives up one share; NULL is fine */
const safetensors_entry *weight_files_find(const weight_files *files, const char *name);
/* The i-th tensor of all files; NULL past the last. */
const safetensors_entry *weight_files_entry(const weight_files *files, size_t i);
/* What the first file says under a key of its metadata; NULL: nothing. */
const char *weight_files_told(const weight_files *files, const char *key);
bool weight_files_have_prefix(const weight_files *files, const char *prefix);

/* The weights of a network recorded in `expected`. where: the beginning of every message. The set
 * takes a share of the files. */
bool weights_load(weight_set *out, weight_files *files, const naming *names, const graph *expected,
                  const char *where, error *e);
/* Fails naming the first tensor that holds a NaN or an infinity. pool may be NULL. */
bool weights_check_finite(const weight_set *set, const char *where, thread_pool *pool,
                          const work_watch *watch, error *e);

/* Opens the weights of a component's folder: base.safetensors, its shards, or a variant of it
 * (fp16, bf16, ...), or the same as PyTorch's .bin. */
bool component_open(weight_files **out, const char *folder, const char *base, error *e);

/* A single file in the original names with sizes other than Stable Diffusion's (NULL: its).
 * to_look: it needs no tokenizer. */
typedef struct single_sizes {
    const clip_config *clip;
    const unet_config *unet;
    const vae_config *vae;
} single_sizes;
bool model_open_single(model **out, const char *path, const char *vae_path,
                       const char *tokenizer_path, const single_sizes *sizes, bool to_look,
                       error *e);

#endif
