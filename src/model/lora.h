/* SPDX-License-Identifier: Apache-2.0
 *
 * lora: LoRAs (LoCon, LoHa, LoKr too) read and merged into a model's weights when it is opened. */
#ifndef LIKENESS_MODEL_LORA_H
#define LIKENESS_MODEL_LORA_H

#include "model/model.h"

typedef struct lora_choice {
    const char *path;
    float weight; /* of its change; 1: as it was trained */
} lora_choice;

/* Adds the changes to m's UNet and text encoder, in this order: the weights that they change become
 * float32 copies. *notes: lines about keys that fit nothing, malloc'ed; NULL: there is nothing to
 * say. On failure m is as it was. pool may be NULL. */
bool model_add_loras(model *m, const lora_choice *list, size_t count, thread_pool *pool,
                     char **notes, error *e);

#endif
