/* SPDX-License-Identifier: Apache-2.0
 *
 * embed: what a network that the user brought (CLIP, DINO) says of a study's pictures: one
 * embedding each, kept in folder/embeddings.safetensors, so that a killed or repeated run looks
 * only at what is new. */
#ifndef LIKENESS_STUDY_EMBED_H
#define LIKENESS_STUDY_EMBED_H

#include "measured.h"

typedef struct embeddings {
    lk_vision *network;
    int width;
    int pictures;
    float **of; /* [pictures] of unit length, [width] each; NULL: not looked at */
} embeddings;

/* Looks at the pictures of m that are wanted [m->pictures]. Photos are read again from their
 * folders. On failure *out is empty. */
bool embeddings_open(embeddings *out, const char *network, const measured *m, const bool *wanted,
                     const measure_source *s, error *e);
void embeddings_close(embeddings *x);
/* Of unit length too. The network is a CLIP. */
bool embeddings_of_text(embeddings *x, const char *text, float *out, error *e);
double embeddings_cosine(const embeddings *x, const float *a, const float *b);

#endif
