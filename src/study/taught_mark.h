/* SPDX-License-Identifier: Apache-2.0
 *
 * taught_mark: whose a folder models/NAME is. study.json in it, its mark, holds the request that
 * the training began with (train/request.h) and its hash, the key. A folder without a mark is not
 * the study's. */
#ifndef LIKENESS_STUDY_TAUGHT_MARK_H
#define LIKENESS_STUDY_TAUGHT_MARK_H

#include <stdbool.h>

#include "base/error.h"

typedef enum taught_state {
    TAUGHT_NOTHING, /* not there, or empty */
    TAUGHT_FOREIGN, /* without a mark */
    TAUGHT_OTHER,   /* by another request */
    TAUGHT_BEGUN,   /* by this one, not ended */
    TAUGHT_WHOLE,   /* by this one */
} taught_state;

/* 64 hex digits that stand for a request. */
void taught_key(const char *request, char key[65]);
taught_state taught_look(const char *folder, const char *key);
/* "FOLDER.KEY8", where the model of a key is kept while another has its place; malloc'ed. */
char *taught_aside(const char *folder, const char *key);
/* Makes the folder, with its mark, where nothing is. */
bool taught_begin(const char *folder, const char *request, error *e);
/* Moves what another request left in the folder to its place aside, which is *kept (malloc'ed);
 * where it is nothing but a mark, it goes, and *kept is NULL. */
bool taught_move_aside(const char *folder, char **kept, error *e);
/* What differs between the folder's request and this one, for people: "learning_rate was 0.0001, is
 * 0.0002"; malloc'ed, NULL when memory is out. */
char *taught_difference(const char *folder, const char *request);

#endif
