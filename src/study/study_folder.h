/* SPDX-License-Identifier: Apache-2.0
 *
 * study_folder: the folder that a study is written to: which may be one, the mark by which a later
 * run knows it (study.json), and the plan that is kept in it. What bears no mark is not the
 * study's: it is never written over, moved or removed. */
#ifndef LIKENESS_STUDY_STUDY_FOLDER_H
#define LIKENESS_STUDY_STUDY_FOLDER_H

#include "plan/plan.h"

typedef struct study_place {
    const char *folder, *plan; /* plan: the file that it was read from; NULL: none */
    const char *root; /* the source tree, or where examples and models are installed; may be NULL */
    const char *version;
} study_place;

/* Refuses, before anything is made: the source tree, a model's folder or what lies in one, the
 * folder of the subject's or the class's pictures, and a folder whose files the study would write
 * over though it did not write them. */
bool study_folder_check(const study_place *at, const study_plan *p, error *e);
/* Marks the folder and keeps the plan in it as plan.json, but where that is the file it was read
 * from. A plan.json that was changed by hand is renamed first; *moved (malloc'ed, or NULL) is then
 * its new path. */
bool study_folder_begin(const study_place *at, const study_plan *p, char **moved, error *e);

#endif
