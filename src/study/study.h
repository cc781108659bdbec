/* SPDX-License-Identifier: Apache-2.0
 *
 * study: the whole experiment: models opened or trained, every picture made, everything measured,
 * one page written. What a folder holds already is not made again; a run that was killed goes on.
 */
#ifndef LIKENESS_STUDY_STUDY_H
#define LIKENESS_STUDY_STUDY_H

#include "plan/photos_plan.h"
#include "plan/plan.h"

typedef struct study_options {
    const char *plan;             /* JSON; with photos the template of their plan */
    const photos_request *photos; /* NULL, or whose photos the plan is made for */
    const char *root;   /* where relative paths of a plan may start from, besides its own folder */
    const char *folder; /* of the study; made */
    const char *clip,
        *dino;    /* folders of networks for the field's measures (field.h); NULL: none */
    bool yes;     /* so many pictures are meant */
    bool dry_run; /* tell what would be done, and do nothing */
} study_options;

typedef struct study_progress {
    const char *what; /* "training tuned", "pictures", "measuring" */
    double done,
        total;   /* of the whole study, in steps of about equal length; total 0: not known yet */
    double left; /* seconds, about; 0: not known yet */
} study_progress;

typedef struct study_events {
    bool (*progress)(void *user, const study_progress *p); /* true: stop */
    lk_log_callback *log;
    void *user;
} study_events;

bool study_run(lk_context *context, const study_options *o, const study_events *events, error *e);

#endif
