/* SPDX-License-Identifier: Apache-2.0
 *
 * measured: what the judges say of a study's pictures: which pictures there are, whose they are,
 * and how much of a subject is in each. What was found is kept in folder/matches.safetensors, so
 * that each picture is looked at once. */
#ifndef LIKENESS_STUDY_MEASURED_H
#define LIKENESS_STUDY_MEASURED_H

#include "judge.h"
#include "measure.h"

/* A distinct picture of the plan, or a photo. */
typedef struct measured_image {
    char id[48];             /* the cell's name; "photo-<hash>-<resolution>" */
    const study_cell *cell;  /* NULL: a photo */
    int alone;               /* the model that made it alone, or -1 */
    const lk_photos *photos; /* while measuring, of a photo: its folder, */
    size_t photo;            /* and which of it */
    int resolution;          /* of the photo's centre crop */
    bool *wanted;            /* [subjects] */
    float **match;           /* [subjects] malloc'ed; NULL: not looked at */
    double *share;           /* [subjects]; NaN where not measured */
} measured_image;

typedef struct measured_subject {
    int base, judge;    /* judge: the model that looks */
    int *model, models; /* the trained ones, in the plan's order */
    const char *instance_prompt, *class_prompt, *class_folder;
    int class_images;           /* at most; 0: all */
    int *photo, photos;         /* indices of pictures: the subject's own, */
    int *of_class, class_count; /* and of its class */
    char key[65];               /* of what determines the matches: */
    int places; /* how well each place of each photo is found in a picture, [photos * places] */
    estimate raw_subject, raw_class;
    bool tells_apart;
} measured_subject;

typedef struct measured {
    measured_image *picture;
    int pictures, cells; /* the first `cells` are the plan's, in its order */
    measured_subject *subject;
    int subjects;
} measured;

/* What two cells may differ in. */
enum { ANY_SEED = 1, ANY_MIX = 2, ANY_STEPS = 4, ANY_PROMPT = 8, ANY_SAMPLER = 16, ANY_DEEP = 32 };
bool cells_alike(const study_cell *a, const study_cell *b, int any);
/* Of a set of pictures only those stay whose settings, but for `any`, most have; the first such
 * where there are several. Returns how many. */
int measured_usual(const measured *m, int *set, int n, int any);

/* The pictures of a prompt by a model alone, of the settings that are usual among those of all the
 * subject's models, into set (room for all cells). Returns how many. */
int measured_choose(const measured *m, const measured_subject *j, const char *prompt, int model,
                    int *set);

/* Measures what is not known. On failure *out is empty; what was measured is kept in the file. */
bool measured_open(measured *out, const measure_source *s, error *e);
void measured_close(measured *m);
/* A picture's index by its id, or -1; and a photo's id. */
int measured_find(const measured *m, const char *id);
void measured_photo_id(const lk_photos *photos, size_t index, int resolution, char id[48]);
/* A folder's first `most` photos. of_class: for messages. */
bool measured_photos(lk_photos **out, const char *folder, int resolution, size_t most,
                     bool of_class, error *e);
/* A cell's picture, or a photo's centre crop (p->photos is at hand). */
bool measured_read(lk_image **out, const measure_source *s, const measured_image *p, error *e);

#endif
