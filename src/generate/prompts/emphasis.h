/* SPDX-License-Identifier: Apache-2.0
 *
 * emphasis: how much weight each stretch of a prompt has in AUTOMATIC1111's syntax: "(word:1.3)",
 * "(word)" (1.1), "[word]" (1/1.1), nested as one likes; "\(" and its kin are signs of the text. A
 * bracket that is never closed lasts to the end, one that was never opened is text. */
#ifndef LIKENESS_GENERATE_EMPHASIS_H
#define LIKENESS_GENERATE_EMPHASIS_H

#include "base/error.h"

typedef struct emphasis_run {
    char *text;
    double weight;
} emphasis_run;

typedef struct emphasis {
    emphasis_run *run; /* [count], at least one */
    int count;
    char *memory; /* the runs' texts */
} emphasis;

/* False: no memory, or a weight that is no number. */
bool emphasis_read(emphasis *out, const char *text, error *e);
void emphasis_close(emphasis *m);
/* The word BREAK, which ends a chunk. (Within brackets its weight is another, and it is a word.) */
bool emphasis_is_break(const emphasis_run *r);

#endif
