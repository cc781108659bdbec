/* SPDX-License-Identifier: Apache-2.0
 *
 * judge: a base model as an eye. A picture's latents are noised a little, and the UNet's activations at
 * each place of its map, averaged over fixed draws of noise, are what the eye sees there (DIFT). The model
 * has never seen the subject, and the same eye sees every picture that is compared: docs/MEASURES.md
 * says which activations, and why these. */
#ifndef LIKENESS_STUDY_JUDGE_H
#define LIKENESS_STUDY_JUDGE_H

#include "file/image.h"
#include "model/model.h"

typedef struct judge judge; /* the planned graphs; they are remade where a picture's size changes */

/* What is seen at each place: directions of unit length, so that a product of two is their cosine. */
typedef struct view {
    int places, size;
    float *value; /* [places][size]; malloc'ed */
} view;

/* Of what determines a view. */
void judge_key(const model *m, const device *d, int noises, char key[65]);

/* The device and the model are borrowed. noises: draws at the one timestep. */
bool judge_open(judge **out, device *d, const model *m, int noises, error *e);
void judge_close(judge **j);
/* where: the picture's name, for messages. On failure *out is empty. */
bool judge_look(judge *j, const image *picture, const char *where, view *out, error *e);
void view_close(view *v);

/* For each place of `of` the cosine of the place of x that is most like it: [of->places]. */
void view_match(const view *of, const view *x, float *cosine);

#endif
