/* SPDX-License-Identifier: Apache-2.0
 *
 * inversion: what a textual inversion's training trains in place of the model's weights: the rows
 * of one new word in the text encoder's embedding; its prompts, and the file that it becomes. */
#ifndef LIKENESS_TRAIN_INVERSION_H
#define LIKENESS_TRAIN_INVERSION_H

#include "model/model.h"
#include "train/settings.h"

#define INVERSION_FILE "learned_embeds.safetensors"
#define INVERSION_WEIGHT "text_model.embeddings.learned_embedding.weight"

/* A prompt as the text encoder reads it. */
typedef struct inversion_prompt {
    float *rows;   /* [positions, hidden], the model's; 0 where a new one stands */
    float *places; /* [positions, vectors], 1 where it is this one */
} inversion_prompt;

typedef struct inversion {
    weight_set
        begins; /* the rows as columns [hidden, vectors], as the word begins; count 0: none */
    inversion_prompt *prompt;
    uint32_t prompts;
} inversion;

/* Nothing where the settings ask for none. Refuses a word that the model's tokenizer has, and one
 * to begin as that is not a token. */
bool inversion_open(inversion *v, const model *m, const train_settings *s, error *e);
void inversion_close(inversion *v);
bool inversion_is_part(const char *name); /* of a graph's weights */

/* {placeholder_token: [vectors, hidden]}, as diffusers writes it and --embedding reads it. hash:
 * NULL, or where the file's goes. learned: as it is now. */
bool inversion_write(const char *path, const weight_set *learned, const train_settings *s,
                     char *hash, error *e);
/* What it holds, in the order in which it is trained; malloc'ed, NULL and an error. */
float *inversion_read(const char *path, const weight *learned, const train_settings *s, error *e);

#endif
