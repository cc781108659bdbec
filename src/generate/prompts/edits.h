/* SPDX-License-Identifier: Apache-2.0
 *
 * edits: a prompt that changes on the way, in AUTOMATIC1111's syntax: "[a:b:0.5]" (a, then b),
 * "[b:10]" (from there on), "[a::0.5]" (until there), "[a|b|c]" (in turn), in each other as one
 * likes. A number with a point is a part of the way, one without counts evaluations; in a second
 * pass (generate/hires.h) 1.5 is half of it, and the first one's evaluations count. */
#ifndef LIKENESS_GENERATE_EDITS_H
#define LIKENESS_GENERATE_EDITS_H

#include "base/error.h"

typedef struct edit {
    int until; /* the last evaluation (from 0) that has this text */
    char *text;
} edit;

typedef struct edits {
    edit *item; /* [count], `until` rising to the number of evaluations */
    int count;
} edits;

/* Any text is read: what is none of these stays text. before: evaluations of the pass before, 0:
 * there was none. */
bool edits_read(edits *out, const char *text, int evaluations, int before, error *e);
void edits_close(edits *l);
/* Which of them an evaluation (from 0) has. */
int edits_at(const edits *l, int evaluation);

#endif
