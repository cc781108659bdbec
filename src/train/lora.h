/* SPDX-License-Identifier: Apache-2.0
 *
 * lora: the matrices that a training of a LoRA trains in place of the model's weights: which there
 * are, what they begin with (PEFT's "gaussian"), the files that they become, and the model that
 * they make. */
#ifndef LIKENESS_TRAIN_LORA_H
#define LIKENESS_TRAIN_LORA_H

#include "base/random.h"
#include "model/model.h"
#include "train/settings.h"

#define LORA_FILE "pytorch_lora_weights.safetensors"
#define LORA_KOHYA_FILE "pytorch_lora_weights_kohya.safetensors"

/* F32, LAYER.lora_A.weight [rank, in] and LAYER.lora_B.weight [out, rank] of each adapted layer;
 * count 0: there are none. */
typedef struct lora_sets {
    weight_set unet, clip;
} lora_sets;

/* What the networks are recorded with; rank 0 where all weights are trained. */
lora_branch lora_branch_of(const train_settings *s);
/* Names and shapes; data is NULL. Nothing where the settings have no rank; refuses a rank that is
 * more than a layer has. */
bool lora_open(lora_sets *l, const model *m, const train_settings *s, error *e);
/* What they begin with, in train_dreambooth_lora.py's order of draws. */
bool lora_draw(lora_sets *l, rng *random, error *e);
void lora_close(lora_sets *l);
/* Whether this weight of a graph is one of them. */
bool lora_is_part(const char *name);

typedef enum lora_spelling { LORA_DIFFUSERS, LORA_KOHYA } lora_spelling;
/* A matrix's name in a file; malloc'ed, NULL when memory is out. */
char *lora_spell(lora_spelling spelling, bool is_clip, const char *name);
/* The sets as they are now (clip may have none), in one file that diffusers, or with LORA_KOHYA
 * the other programs too, read. hash: NULL, or where the file's goes. */
bool lora_write(const char *path, lora_spelling spelling, const weight_set *unet,
                const weight_set *clip, const train_settings *s, char *hash, error *e);

/* The base's weights with the matrices' products added: float32 copies of those, the others are the
 * base's, which outlives them. To be closed. */
bool lora_apply(weight_set *out, const weight_set *base, const weight_set *lora,
                const train_settings *s, error *e);
double lora_applied_bytes(const lora_sets *l); /* of those copies */

#endif
