/* SPDX-License-Identifier: Apache-2.0
 *
 * lora_names: what the tensors of a LoRA are called, in all the spellings that people have: kohya's
 * and LyCORIS' (lora_unet_..., lora_te_...), diffusers' old and new, PEFT's, cloneofsimo's. */
#ifndef LIKENESS_MODEL_LORA_NAMES_H
#define LIKENESS_MODEL_LORA_NAMES_H

#include "graph/graph.h"
#include "model/names.h"

typedef enum lora_part {
    LORA_DOWN, /* lora_A */
    LORA_UP,   /* lora_B */
    LORA_MID,
    LORA_ALPHA,
    DORA_OUTPUT, /* lora_magnitude_vector: of each output */
    DORA_SCALE,  /* dora_scale: of outputs or inputs, as its shape says */
    LOHA_1A,
    LOHA_1B,
    LOHA_2A,
    LOHA_2B,
    LOHA_T1,
    LOHA_T2,
    LOKR_1,
    LOKR_1A,
    LOKR_1B,
    LOKR_2,
    LOKR_2A,
    LOKR_2B,
    LOKR_T2,
    LORA_PARTS
} lora_part;

typedef struct lora_name {
    lora_part part;
    network network;       /* NETWORK_UNET or NETWORK_CLIP */
    char key[NAME_LENGTH]; /* the changed module's name, dots as underscores */
    int index;             /* cloneofsimo: the module's number, in place of a key; else -1 */
} lora_name;

/* False: no tensor of a LoRA that can be read. */
bool lora_name_read(lora_name *out, const char *name);
/* A weight's name as a key: "mid_block.attentions.0.proj_in.weight" -> "mid_block_attentions_0_
 * proj_in"; false where it is no weight of a module. */
bool lora_key_of(const char *weight_name, char out[NAME_LENGTH]);

/* The place in cloneofsimo's count of the modules of a network, for sorting: those of greater place
 * come later; 0: it is not counted. late: the feed-forward comes after both attentions, as in
 * diffusers from 0.12 on. */
uint64_t lora_place(network n, const char *weight_name, bool late);

#endif
