/* SPDX-License-Identifier: Apache-2.0
 *
 * statements: what the numbers of a study answer to its questions: a claim, an answer with its
 * numbers and their intervals, and a verdict. The claims are those of a DreamBooth report (samplers
 * at few steps, what training changes and where it leaks, prior preservation, two models in one
 * run), asked of whatever prompts and models the plan has; a question that the plan does not ask
 * has no statement.
 *
 * A claim counts as shown only where the whole interval lies on its side. Where a claim says
 * "most", "nearly" or "hardly", its side is that of the half: nearer to the one end of a scale than
 * to the other. */
#ifndef LIKENESS_STUDY_STATEMENTS_H
#define LIKENESS_STUDY_STATEMENTS_H

#include "study/measure/measure.h"

typedef enum verdict { VERDICT_SHOWN, VERDICT_NOT_SHOWN, VERDICT_NOT_MEASURABLE } verdict;

typedef struct statement {
    int section;       /* of the plan: where its pictures are; -1: none that is shown */
    const char *group; /* what it stands under, "" where it needs nothing; HTML, as the next two */
    verdict verdict;
    const char *claim, *answer;
} statement;

typedef struct statements {
    statement *list;
    int count;
} statements;

/* The first shown section where this model alone makes pictures with a deep cache; -1: none. */
int deep_section(const study_plan *p, int model);

/* In the order of the page. Text is of the arena. False: memory is out. */
bool statements_make(statements *out, arena *memory, const study_plan *p, const study_measures *m);

#endif
