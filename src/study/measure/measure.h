/* SPDX-License-Identifier: Apache-2.0
 *
 * measure: numbers about the pictures of a study, computed from its own models, each with its
 * interval.
 *
 * A subject is what one or more trained models of one base were trained (the same pictures under
 * the same name). Every picture that is compared is judged by one judge, the same for all models:
 * docs/MEASURES.md says which and by what evidence. Its score is turned into a share: 0 % is the
 * mean of the class's pictures, 100 % the mean of the subject's own, each scored with itself left
 * out.
 *
 * Pictures are compared in pairs of equal seed (same noise, same settings). Intervals are Student's
 * t at 95 % over the pairs: with three seeds 4.3 standard errors. */
#ifndef LIKENESS_STUDY_MEASURE_H
#define LIKENESS_STUDY_MEASURE_H

#include "study/crew.h"
#include "study/plan/plan.h"

/* A mean over n pictures or pairs and its interval at 95 %; n < 2: no interval (low and high are
 * NaN); n 0: nothing was measured. */
typedef struct estimate {
    double mean, low, high;
    int n;
} estimate;

estimate estimate_of(const double *value, int n);
/* The interval excludes `zero`; false where there is none. */
bool estimate_differs(const estimate *x, double zero);

/* What trained models have been trained. Prompts are texts of the plan; models are indices into
 * plan->model. */
typedef struct subject_row {
    int base;
    const int *model; /* [models] the trained ones, in the plan's order */
    int models;
    const char *instance_prompt, *class_prompt; /* class_prompt NULL: there is none */
    int photos,
        class_images; /* how many judged the scale; class_images may be the base's of the plan */
    estimate raw_subject, raw_class; /* scores with itself left out, in the judge's own unit */
    estimate subject, of_class;      /* the same as shares: means 100 and 0 */
    bool tells_apart; /* the scale holds: the two intervals do not meet; else no shares */
} subject_row;

typedef struct likeness_row { /* a model's pictures of a prompt: how much of the subject is in them
                               */
    int subject;              /* index into study_measures.subject */
    int model;                /* a trained one, or the base */
    const char *prompt;
    estimate share; /* % */
} likeness_row;

typedef struct change_row { /* a trained model against its base, in pairs of equal noise */
    int subject, model;
    const char *prompt;
    estimate share;  /* leakage: share of the trained model's picture minus the base's, % points */
    estimate pixels; /* drift: root mean square difference, grey levels of 255 */
    estimate drift;  /* the same as % of the base's distance between two seeds of the prompt */
} change_row;

typedef struct contrast_row { /* two trained models of one base and subject, in pairs of equal noise
                               */
    int subject, model, other; /* other: the later of the plan */
    const char *prompt;
    estimate share; /* other minus model, % points */
    estimate drift; /* distance from the base: other minus model, in % as change_row.drift */
} contrast_row;

typedef struct wording_row { /* one model under two prompts, in pairs of equal noise */
    int subject, model;      /* the base or a trained one */
    const char *prompt;      /* against the instance prompt */
    estimate share;          /* of the instance prompt's picture minus this one's, % points */
    estimate distance; /* of the two pictures, % of the distance between two seeds of this prompt */
} wording_row;

typedef struct switch_row { /* first model for `at` steps, then the second */
    int subject, first, second;
    const char *prompt;
    int at, steps;  /* at 0: the second alone; at == steps: the first alone */
    estimate share; /* % */
    estimate lost;  /* share minus that of the trained model alone from the same noise, % points */
    estimate kept;  /* of the first model's own picture (at == steps): correlation as kept in
                       structure_row, 100 % the same picture, 0 % another seed's */
} switch_row;

typedef struct structure_row { /* fewer steps against the most steps of the same sampler and noise
                                */
    lk_sampler sampler;
    const char *prompt;
    int steps, most;
    estimate correlation; /* Pearson, of all pixels' values */
    estimate zero;        /* the same with the picture of another seed (of `most` steps) */
    estimate kept;        /* (correlation - zero) / (1 - zero) in pairs, % */
    estimate detail;      /* fine detail (docs/MEASURES.md), % of that at `most` steps */
} structure_row;

typedef struct crossing_row { /* two samplers from the same noise at the same number of steps */
    const char *prompt;
    int steps;
    estimate kept; /* DDPM's picture against DDIM's, as structure_row.kept */
} crossing_row;

typedef struct deep_row { /* a model's pictures with a deep cache against those without, in pairs of
                             equal noise */
    int subject, model;   /* subject -1: of none */
    const char *prompt;
    int deep_cache;
    estimate whole, reused; /* share without, and with: % */
    estimate share;         /* their difference, % points */
    estimate pixels;        /* root mean square difference, grey levels of 255 */
    estimate drift;         /* the same as % of the distance between two seeds without */
} deep_row;

typedef struct diversity_row { /* between the seeds of a model and prompt */
    int model;
    const char *prompt;
    estimate pixels; /* root mean square difference, grey levels; over seeds (mean to the others) */
    estimate of_base; /* trained models: % of the base's under the same prompt; n 0: base itself */
} diversity_row;

/* A measure by networks that the user brought (--clip, --dino). */
typedef struct field_row {
    const char *measure; /* "CLIP-I", "CLIP-T", "DINO", "PRES", "DIV" */
    int subject, model;  /* model -1: the subject's own pictures among themselves */
    const char *prompt;  /* "" where it is over all */
    estimate value;
} field_row;

typedef struct study_measures {
    subject_row *subject;
    int subjects;
    likeness_row *likeness;
    int likenesses;
    change_row *change;
    int changes;
    contrast_row *contrast;
    int contrasts;
    wording_row *wording;
    int wordings;
    switch_row *switches;
    int switch_count;
    structure_row *structure;
    int structures;
    crossing_row *crossing;
    int crossings;
    deep_row *deep;
    int deeps;
    diversity_row *diversity;
    int diversities;
    field_row *field;
    int fields;
    /* Made twice: DDIM's first picture made again; equal pixels. repeated false: not tried. */
    bool repeated, same_again;
    double *cell_share; /* [cells of all sections in order][subjects]: NaN where not measured */
    int cells;
} study_measures;

/* What measuring needs from the study. */
typedef struct measure_source {
    lk_session *session; /* what works alone */
    const crew *crew;    /* and side by side */
    const study_plan *plan;
    lk_model *const *models;         /* [plan->models], open */
    bool again;                      /* whether a picture is made again */
    const char *folder;              /* pictures are folder/cells/<cell name>.png */
    const char *const *class_folder; /* [plan->models]: class pictures of a training; NULL: none */
    const char *clip, *dino;         /* folders of the user's networks; NULL: none */
    bool (*progress)(void *user, int done, int total); /* of pictures; true: stop */
    void *user;
} measure_source;

/* Measures every picture once (what was measured before is kept in the folder) and fills the
 * tables, in the order of the plan. */
bool study_measure(study_measures *out, const measure_source *s, error *e);
void study_measures_close(study_measures *m);
/* measures.json: the tables under their names. */
bool study_measures_write(const study_measures *m, const study_plan *p, const char *folder,
                          error *e);

#endif
