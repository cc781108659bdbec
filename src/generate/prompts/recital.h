/* SPDX-License-Identifier: Apache-2.0
 *
 * recital: a script (script.h) as one model reads it. Every text is cut into chunks and
 * encoded once; the states of its tokens are multiplied by their weights, and their mean restored,
 * over all texts of a part's way at once, as AUTOMATIC1111 does (NUMERICS.md). What an evaluation
 * is under is written into one [samples,N,hidden]. */
#ifndef LIKENESS_GENERATE_RECITAL_H
#define LIKENESS_GENERATE_RECITAL_H

#include "chunks.h"
#include "script.h"
#include "pipeline/pipeline.h"

/* The texts of a part on its way, without repetition. */
typedef struct recital_part {
    int texts, *of; /* of: [the part's edits] which of them each is */
    int *times;     /* [texts] how many edits have it */
    chunks *text;   /* [texts], all of one count */
    float *states;  /* [texts,chunks * length,hidden]; NULL: not read yet */
} recital_part;

typedef struct recital {
    const script *script; /* borrowed */
    recital_part *part;   /* [1 + conditions] */
    int tokens;           /* N */
    int tail;             /* tokens of the longest condition */
} recital;

/* Cuts the texts; *r is to be closed in any case. negative: whether its part will be asked for. */
bool recital_open(recital *r, const script *s, const model *m, bool negative, error *e);
/* Reads them: clip_skip layers of the text encoder are left out, for the negative prompt too. */
bool recital_read(recital *r, const pipeline *on, int clip_skip, error *e);
/* Which text of each part (from the first asked for) an evaluation has; whether any is another. */
bool recital_turn(const recital *r, int evaluation, int *now);
/* Their states [samples,N,hidden], for so many pictures. */
void recital_write(const recital *r, int hidden, const int *now, int pictures, float *out);
int recital_samples(const recital *r); /* of one picture */
void recital_close(recital *r);

#endif
