/* SPDX-License-Identifier: Apache-2.0
 *
 * trained_mark: whose a folder models/NAME is. study.json in it, its mark, holds the request that
 * the training began with (train/request.h) and its hash, the key. A folder without a mark is not
 * the study's. */
#ifndef LIKENESS_STUDY_TRAINED_MARK_H
#define LIKENESS_STUDY_TRAINED_MARK_H

#include <stdbool.h>

#include "base/error.h"

/* What a training of a LoRA leaves in place of a model. */
#define TRAINED_LORA "pytorch_lora_weights.safetensors"

typedef enum trained_state {
    TRAINED_NOTHING, /* not there, or empty */
    TRAINED_FOREIGN, /* without a mark */
    TRAINED_OTHER,   /* by another request */
    TRAINED_BEGUN,   /* by this one, not ended */
    TRAINED_WHOLE,   /* by this one */
} trained_state;

/* 64 hex digits that stand for a request. */
void trained_key(const char *request, char key[65]);
trained_state trained_look(const char *folder, const char *key);
/* "FOLDER.KEY8", where the model of a key is kept while another has its place; malloc'ed. */
char *trained_aside(const char *folder, const char *key);
/* Makes the folder, with its mark, where nothing is. */
bool trained_begin(const char *folder, const char *request, error *e);
/* Moves what another request left in the folder to its place aside, which is *kept (malloc'ed);
 * where it is nothing but a mark, it goes, and *kept is NULL. */
bool trained_move_aside(const char *folder, char **kept, error *e);
/* What differs between the folder's request and this one, for people: "learning_rate was 0.0001, is
 * 0.0002"; malloc'ed, NULL when memory is out. */
char *trained_difference(const char *folder, const char *request);

#endif
