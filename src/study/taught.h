/* SPDX-License-Identifier: Apache-2.0
 *
 * taught: the models of a study: opened from their paths, or taught in folder/models/<name> from another
 * model of the study, once, and again only when something that determines them has changed. */
#ifndef LIKENESS_STUDY_TAUGHT_H
#define LIKENESS_STUDY_TAUGHT_H

#include "study/plan.h"
#include "train/train.h"

typedef struct study_models {
    int count;
    model **open;            /* [count] NULL: not open yet */
    generator **generator;   /* [count] */
    char (*hash)[65];        /* [count] of the weights; of a taught one, what determines them */
    const char **hash_text;  /* [count] the same, as pointers */
    char **folder;           /* [count] path, or folder/models/<name> */
    char **class_folder;     /* [count] class pictures of a training; NULL: none */
    bool *is_ready;          /* [count] opened from a path, or taught and whole */
    double *seconds;         /* [count] that its training took, as its record has it */
} study_models;

/* Opens what is there and finds out what must be taught. */
bool study_models_open(study_models *out, device *d, const study_plan *p, const char *folder,
                       const char *pocket, error *e);
void study_models_close(study_models *m);

/* Teaches model i (its base is open) and opens it. */
bool study_models_teach(study_models *m, int i, device *d, const study_plan *p, const char *folder,
                        const train_events *events, error *e);

#endif
