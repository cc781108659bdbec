/* SPDX-License-Identifier: Apache-2.0
 *
 * trained: the models of a study: opened from their paths, or trained in folder/models/<name> from
 * another model of the study, once, and again only when something that determines them has changed.
 */
#ifndef LIKENESS_STUDY_TRAINED_H
#define LIKENESS_STUDY_TRAINED_H

#include "plan/plan.h"
#include "study/trained_mark.h"

typedef struct study_models {
    int count;
    lk_model **open;       /* [count] NULL: not open yet */
    char (*key)[65];       /* [count] what names its pictures: the hash of a model from a path; of a
                              trained one's request, which is known before it is trained */
    const char **key_text; /* [count] the same, as pointers */
    char **request;        /* [count] of a trained one, as text; NULL: from a path */
    char **folder;         /* [count] path, or folder/models/<name> */
    char **class_folder;   /* [count] class pictures of a training; NULL: none */
    trained_state *state;  /* [count] of folder; of a model from a path TRAINED_WHOLE */
    bool *is_ready;        /* [count] open, or about to be taken back from where it was kept */
    double *seconds;       /* [count] that its training took, as its record has it */
} study_models;

/* What the models are opened with. */
typedef struct study_source {
    lk_context *context;
    lk_session *session; /* of it: what trains */
    const study_plan *plan;
    const char *folder; /* of the study */
    /* Asked before each model: true: stop. NULL: never. */
    bool (*stop)(void *user);
    /* One line for a person. */
    void (*say)(void *user, const char *line);
    void *user;
} study_source;

typedef struct train_events {
    int (*progress)(void *user, const lk_train_progress *p); /* nonzero: stop */
    void *user;
} train_events;

/* Opens what is there and finds out what must be trained; writes nothing. A models/<name> that is
 * not the study's is an error. */
bool study_models_open(study_models *out, const study_source *s, error *e);
void study_models_close(study_models *m);

/* Makes models/<name> ready for model i: what another request left there moves aside, and what this
 * one left aside comes back. What happens is said. */
bool study_models_claim(study_models *m, int i, const study_source *s, error *e);
/* Trains model i (claimed; its base is open) and opens it. */
bool study_models_train(study_models *m, int i, const study_source *s, const train_events *events,
                        error *e);

#endif
