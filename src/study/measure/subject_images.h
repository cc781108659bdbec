/* SPDX-License-Identifier: Apache-2.0
 *
 * subject_images: copies of the pictures that a subject was trained from, as the training's
 * centre crops, and of a few of its class, in folder/subject for the page: 1-01.png,
 * 1-class-01.png; 1: the subject. */
#ifndef LIKENESS_STUDY_SUBJECT_IMAGES_H
#define LIKENESS_STUDY_SUBJECT_IMAGES_H

#include "measure.h"

enum { SUBJECT_PHOTOS_SHOWN = 12, SUBJECT_CLASSES_SHOWN = 6 };

typedef struct subject_images {
    int photos, classes; /* how many were written */
} subject_images;

/* out: [subjects of m]. Folders that are gone leave 0 behind. */
bool subject_images_write(subject_images *out, const measure_source *s, const study_measures *m,
                          error *e);

/* "subject/1-01.png" of subject 0, picture 0. */
void subject_image_name(char out[64], int subject, bool of_class, int index);

#endif
