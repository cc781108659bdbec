/* SPDX-License-Identifier: Apache-2.0
 *
 * text: a prompt as what the networks read: its tokens and its embedding by the base text encoder.
 */
#ifndef LIKENESS_TRAIN_TEXT_H
#define LIKENESS_TRAIN_TEXT_H

#include "model/model.h"

typedef struct prompt_text {
    int32_t *ids;     /* [positions] */
    float *embedding; /* [positions, hidden] */
    char *cut; /* the end of the prompt that did not fit; NULL: it did. All three malloc'ed */
} prompt_text;

/* On failure *out is empty. */
bool prompt_text_open(prompt_text *out, device *d, const model *m, const char *prompt, error *e);
void prompt_text_close(prompt_text *t);

#endif
