/* SPDX-License-Identifier: Apache-2.0
 *
 * inversion: textual inversions: words whose rows of the text encoder's embedding come from files.
 */
#ifndef LIKENESS_MODEL_INVERSION_H
#define LIKENESS_MODEL_INVERSION_H

#include "model/model.h"

typedef struct inversion_choice {
    const char *path;
    const char *token; /* what a prompt calls it; NULL: as the file says, or the file's name */
} inversion_choice;

/* Adds their words to m's tokenizer, and their rows to its text encoder (a file of several: "dog",
 * "dog_1", ..., and a prompt's "dog" means all). On failure m is to be closed. */
bool model_add_inversions(model *m, const inversion_choice *list, size_t count, error *e);

#endif
