/* SPDX-License-Identifier: Apache-2.0
 *
 * claims: what the files that make statements share (samplers.c, models.c, switches.c, deep.c;
 * statements.c puts them in order). */
#ifndef LIKENESS_STUDY_CLAIMS_H
#define LIKENESS_STUDY_CLAIMS_H

#include <stdio.h>

#include "study/page/html.h"
#include "statements.h"

typedef struct claims {
    const study_plan *plan;
    const study_measures *m;
    FILE *out;       /* all texts, each ended by a NUL */
    statement *list; /* claim and answer: where they begin in that, until all are made */
    long *claim_at, *answer_at, *group_at;
    int count, room;
    arena *memory;
    bool no_memory;
} claims;

/* One statement: its claim is printed to ->out, then claim_answer, its answer, claim_end. */
void claim_begin(claims *c, int section, const char *group);
void claim_answer(claims *c);
void claim_end(claims *c, verdict v);

/* All statements of their kind. */
void claims_samplers(claims *c);
void claims_models(claims *c);
void claims_switches(claims *c);
void claims_deep(claims *c);

/* Which side of a value the whole interval is on; neither where there is no interval. */
bool is_above(const estimate *e, double value);
bool is_below(const estimate *e, double value);
bool has_interval(const estimate *e);
/* The two intervals do not meet. */
bool are_apart(const estimate *a, const estimate *b);

void put_quoted(claims *c, const char *prompt); /* “prompt” */
void put_share(claims *c, const estimate *e);   /* "87 % (71 to 103)" */
void put_points(claims *c, const estimate *e);  /* "+84 points (60 to 108)" */
/* What to write between items of a list: "", ", " or " and ". */
const char *list_comma(int index, int count);

static inline const char *claim_name(const claims *c, int who) { return c->plan->model[who].name; }
static inline const char *claim_base(const claims *c, const subject_row *s)
{
    return c->plan->model[s->base].name;
}

const likeness_row *likeness_of(const claims *c, int subject, int who, const char *prompt);

#endif
