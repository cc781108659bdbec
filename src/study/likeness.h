/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness: how well a model under a prompt explains a picture: its error in predicting the noise that
 * was added to the picture's latents, at fixed timesteps and with fixed noise, the same for every
 * picture of a size. The difference of two such errors is the diffusion classifier of measure.h. */
#ifndef LIKENESS_STUDY_LIKENESS_H
#define LIKENESS_STUDY_LIKENESS_H

#include "file/image.h"
#include "model/schedule.h"
#include "train/text.h"

typedef struct likeness likeness; /* the planned graphs; they are remade where a picture's size changes */

/* A model under a prompt, read by its own text encoder. */
typedef struct likeness_view {
    const model *model;
    const char *prompt;
    prompt_text text;
    noise_schedule schedule;
} likeness_view;

/* The scaled mean of a picture's posterior. */
typedef struct latents_of_picture {
    int channels, height, width;
    float *value; /* [C,h,w]; malloc'ed */
} latents_of_picture;

/* The timestep k of `count`, of a schedule of `steps`: spread evenly over its middle. */
int likeness_timestep(int k, int count, int steps);

/* timesteps x noises samples of every picture. The device is borrowed. */
bool likeness_open(likeness **out, device *d, int timesteps, int noises, error *e);
void likeness_close(likeness **l);

/* The model and the prompt are borrowed. On failure *v is empty. */
bool likeness_view_open(likeness_view *v, device *d, const model *m, const char *prompt, error *e);
void likeness_view_close(likeness_view *v);

/* By the model's autoencoder. where: the picture's name, for messages. On failure *out is empty. */
bool likeness_encode(likeness *l, const model *m, const image *picture, const char *where,
                     latents_of_picture *out, error *e);
void latents_of_picture_free(latents_of_picture *x);
/* The mean squared error of the view's predictions, over all samples. */
bool likeness_error(likeness *l, const likeness_view *v, const latents_of_picture *x,
                    const char *where, double *out, error *e);
/* The mean squared error of each sample of the run before: [timesteps * noises], timestep by timestep. */
const double *likeness_each(const likeness *l);

#endif
