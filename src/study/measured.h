/* SPDX-License-Identifier: Apache-2.0
 *
 * measured: what the networks say of a study's pictures, kept in folder/likeness.json, so that each
 * picture is run through them once. */
#ifndef LIKENESS_STUDY_MEASURED_H
#define LIKENESS_STUDY_MEASURED_H

#include "study/measure.h"
#include "train/photos.h"

/* A distinct picture of the plan, or a photo. */
typedef struct measured_picture {
    char id[48];            /* the cell's name; "photo-<hash>-<resolution>" */
    const study_cell *cell; /* NULL: a photo */
    const photo *photo;     /* while measuring */
    int resolution;         /* of the photo's centre crop */
    double *likeness;       /* [subjects]; NaN where not measured */
    bool *wanted;           /* [subjects] */
} measured_picture;

/* A trained model. same_base: the first subject whose base and class prompt are the same. */
typedef struct measured_subject {
    int model, base, same_base;
    const char *instance_prompt, *class_prompt, *class_folder;
    int class_pictures;     /* at most; 0: all */
    char key[65];           /* what determines the measure */
    int *photo, photos;     /* indices of pictures: the subject's own, */
    int *of_class, class_count; /* and of its class */
} measured_subject;

/* Pictures of base and trained model that are equal in all else. */
typedef struct measured_pair {
    int subject, base, trained; /* base, trained: pictures */
    double latents;             /* root mean square difference */
} measured_pair;

typedef struct measured {
    measured_picture *picture;
    int pictures, cells;    /* the first `cells` are the plan's, in its order */
    measured_subject *subject;
    int subjects;
    measured_pair *pair;
    int pairs;
} measured;

/* What two cells may differ in. */
enum { ANY_SEED = 1, ANY_MIX = 2, ANY_STEPS = 4 };
bool cells_alike(const study_cell *a, const study_cell *b, int any);

/* Measures what is not known. On failure *out is empty; what was measured is kept in the file. */
bool measured_open(measured *out, const measure_source *s, error *e);
void measured_close(measured *m);
/* A picture's index by its id, or -1; and a cell's pixels. */
int measured_find(const measured *m, const char *name);
bool measured_read(image *out, const measure_source *s, const study_cell *c, error *e);

#endif
