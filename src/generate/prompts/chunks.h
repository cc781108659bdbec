/* SPDX-License-Identifier: Apache-2.0
 *
 * chunks: a text of any length as AUTOMATIC1111 cuts it: pieces as long as the text encoder reads,
 * each with its own start and end token; BREAK ends one, and one that is full ends behind a comma
 * where there is one among its last 20 tokens. Every token has a weight (emphasis.h). */
#ifndef LIKENESS_GENERATE_CHUNKS_H
#define LIKENESS_GENERATE_CHUNKS_H

#include "model/tokenizer.h"

typedef struct chunks {
    int length, count; /* tokens of a chunk, start and end among them; at least one chunk */
    int32_t *ids;      /* [count,length] */
    float *weight;     /* [count,length] */
} chunks;

bool chunks_make(chunks *out, const tokenizer *t, int length, const char *text, error *e);
/* Empty ones behind them, until there are so many. */
bool chunks_fill(chunks *c, const tokenizer *t, int count, error *e);
void chunks_close(chunks *c);

#endif
