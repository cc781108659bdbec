/* SPDX-License-Identifier: Apache-2.0
 *
 * judge: a base model as an eye. What its UNet sees at each place of a picture (lk_features) is
 * brought to unit length, so that a product of two places is their cosine. The model has never seen
 * the subject, and the same eye sees every picture that is compared: docs/MEASURES.md says what it
 * looks at, and why that. */
#ifndef LIKENESS_STUDY_JUDGE_H
#define LIKENESS_STUDY_JUDGE_H

#include "study/engine.h"

/* What is seen at each place. */
typedef struct view {
    int places, size;
    float *value; /* [places][size]; for view_close */
} view;

/* How a picture is looked at. noises: draws of noise, at one timestep. */
lk_features_options judge_options(int noises);
/* where: the picture's name, for messages. On failure *out is empty. */
bool judge_look(lk_features *eye, const lk_image *picture, const char *where, view *out, error *e);
void view_close(view *v);

/* For each place of `of` the cosine of the place of x that is most like it: [of->places]. */
void view_match(const view *of, const view *x, float *cosine);

#endif
