/* SPDX-License-Identifier: Apache-2.0
 *
 * measure: numbers about the pictures of a study, computed from its own models.
 *
 * likeness of a picture to the subject of a trained model T with base B: the latents of the picture
 * (mean of the autoencoder's posterior, scaled) are noised at fixed timesteps with fixed noise, the same
 * for every picture; likeness is the mean over them of
 *     |B(x_t, class prompt) - noise|^2  -  |T(x_t, instance prompt) - noise|^2      (means per number)
 * that is, how much better T under the subject's name explains it than B under the class's: a diffusion
 * classifier (Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier"). High for the
 * subject's own photos; about zero for the class where prior preservation kept it, below zero where the
 * training forgot it. Only differences and the calibration say what a value means. */
#ifndef LIKENESS_STUDY_MEASURE_H
#define LIKENESS_STUDY_MEASURE_H

#include "study/plan.h"

/* A mean over n pictures or pairs and its standard error (0 where n < 2). */
typedef struct estimate {
    double mean, error;
    int n;
} estimate;

/* Prompts are texts of the plan; models are indices into plan->model. */
typedef struct drift_row {      /* pictures of base and trained model from equal noise and settings */
    int model;
    const char *prompt;
    estimate pixels;            /* root mean square difference, grey levels of 255 */
    estimate latents;           /* of scaled latents */
    estimate leakage;           /* likeness of the trained model's picture minus the base's */
} drift_row;

typedef struct likeness_row {   /* one model's pictures of a prompt, measured against `subject` */
    int model, subject;         /* subject: the trained model whose subject is meant */
    const char *prompt;
    estimate likeness;
} likeness_row;

typedef struct switch_row {     /* first model for `at` steps, then the second */
    int first, second, subject;
    const char *prompt;
    int at, steps;
    estimate likeness;
} switch_row;

typedef struct structure_row {  /* fewer steps against the most steps of the same sampler and noise */
    sampler_kind sampler;
    const char *prompt;
    int steps, most;
    estimate correlation;       /* Pearson, of all pixels' values */
} structure_row;

typedef struct diversity_row {  /* between the seeds of a model and prompt */
    int model;
    const char *prompt;
    estimate pixels;            /* root mean square difference of pairs, grey levels */
} diversity_row;

typedef struct calibration_row { /* what likeness means for a trained model */
    int model;
    estimate subject, class_pictures; /* n 0: there were no class pictures */
} calibration_row;

typedef struct study_measures {
    drift_row *drift;                 int drifts;
    likeness_row *likeness;           int likenesses;
    switch_row *switches;             int switch_count;
    structure_row *structure;         int structures;
    diversity_row *diversity;         int diversities;
    calibration_row *calibration;     int calibrations;
    double *cell_likeness;            /* [cells of all sections in order][models]: NaN where not measured */
    int cells;
} study_measures;

/* What measuring needs from the study. */
typedef struct measure_source {
    device *device;
    const study_plan *plan;
    model *const *models;             /* [plan->models], open */
    const char *folder;               /* pictures are folder/cells/<cell name>.png */
    const char *const *class_folder;  /* [plan->models]: class pictures of a training; NULL: none */
    /* Likenesses measured before, by cell name: folder/likeness.json is read and kept up to date. */
    bool (*progress)(void *user, int done, int total); /* of pictures; true: stop */
    void *user;
} measure_source;

/* Measures every picture once and fills the tables, in the order of the plan. */
bool study_measure(study_measures *out, const measure_source *s, error *e);
void study_measures_close(study_measures *m);
/* measures.json: the tables under their names. */
bool study_measures_write(const study_measures *m, const study_plan *p, const char *folder, error *e);

#endif
