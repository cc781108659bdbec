/* SPDX-License-Identifier: Apache-2.0
 *
 * score: how much of a subject is in a picture, from how well each place of its photos is found
 * there. */
#ifndef LIKENESS_STUDY_SCORE_H
#define LIKENESS_STUDY_SCORE_H

#include "base/error.h"

/* Matches, [photos * places] each: of the subject's photos, in the order of the photos, and of
 * pictures of its class. Borrowed. */
typedef struct subject_scale {
    const float **own, **of_class; /* [photos], [classes] */
    int photos, places, classes;
    double *sum, *squares; /* [photos * places] over the class, the scale's own */
} subject_scale;

bool scale_open(subject_scale *s, error *e);
void scale_close(subject_scale *s); /* the matches stay */
/* About 0 for the class and 1 for the subject. A photo, or a picture of the class (known by its
 * address), is scored with itself left out of everything. NaN where that leaves fewer than two
 * photos or pictures of the class. */
double scale_score(const subject_scale *s, const float *match);

#endif
