/* SPDX-License-Identifier: Apache-2.0
 *
 * command: the line for a shell that makes a picture of a study, or all of it, when it is run in
 * the study's folder. */
#ifndef LIKENESS_STUDY_COMMAND_H
#define LIKENESS_STUDY_COMMAND_H

#include "study/plan/plan.h"

/* "likeness generate ... -o NAME.png": the very pixels of cells/NAME.png. precision: what the study
 * computes in. malloc'ed; NULL when memory is out. */
char *command_of_cell(const study_plan *p, const study_cell *c, lk_precision precision);
/* "likeness study plan.json -o .": everything again, of which what is there is kept. clip, dino:
 * the networks of the user's, or NULL. malloc'ed. */
char *command_of_study(lk_precision precision, const char *clip, const char *dino);

#endif
