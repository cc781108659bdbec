/* SPDX-License-Identifier: Apache-2.0
 *
 * judge: a base model as an eye. A picture's latents are noised a little, and what the UNet's activations
 * say of them, averaged over fixed draws of noise, is the picture's features (DIFT). The model has never
 * seen the subject, and the same eye sees every picture that is compared: docs/MEASURES.md says which
 * activations, and why these. */
#ifndef LIKENESS_STUDY_JUDGE_H
#define LIKENESS_STUDY_JUDGE_H

#include "file/image.h"
#include "model/model.h"

typedef struct judge judge; /* the planned graphs; they are remade where a picture's size changes */

/* The device and the model are borrowed. noises: draws at the one timestep. */
bool judge_open(judge **out, device *d, const model *m, int noises, error *e);
void judge_close(judge **j);

int judge_size(const model *m); /* numbers in a picture's features */
/* where: the picture's name, for messages. features: [judge_size]. */
bool judge_look(judge *j, const image *picture, const char *where, float *features, error *e);

#endif
