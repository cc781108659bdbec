/* SPDX-License-Identifier: Apache-2.0
 *
 * sigmas: the ladder of noise levels that most samplers go down, and what they share on it. A rung
 * is sigma = sqrt((1 - alpha_bar) / alpha_bar) with the timestep that the network is asked at. For
 * the files of this folder alone. */
#ifndef LIKENESS_GENERATE_SIGMAS_H
#define LIKENESS_GENERATE_SIGMAS_H

#include "row.h"

/* How diffusers' classes differ in making the list. */
typedef struct ladder_shape {
    bool between;     /* N of N + 1 points, at whole timesteps; Karras and others over all the
                         model's sigmas (DPMSolverMultistepScheduler); else N points, and those
                         over the ends of the list (EulerDiscreteScheduler) */
    bool whole;       /* Karras' timesteps are rounded */
    bool class_own;   /* the config's use_karras_sigmas and its kin are nothing to the class */
    bool may_end;     /* final_sigmas_type "sigma_min" is heard */
    bool ends_last;   /* ... and is the list's last sigma where they are Karras' and the like */
    bool always_ends; /* as if it were always given (DEIS) */
    int history;      /* planes of n numbers that are remembered from step to step */
} ladder_shape;

/* The beginning of what such a sampler has of its own; sampler->own points to it. */
typedef struct ladder {
    float *sigma; /* [steps + 1], falling */
    double *t;    /* [steps] */
    int history;
    int part;     /* of the step that is under way */
    float scale;  /* of the noise that a run begins with */
    float *in;    /* [n]: the latent as the network wants it */
    float *trial; /* [n]: where a step's first part led */
    float *slope; /* [n]: what it found there */
    float *past;  /* [history][n], the newest first */
} ladder;

/* s->own is a struct of `size` bytes that begins with a ladder. */
bool ladder_make(sampler *s, size_t size, int history, error *e); /* without sigmas */
bool ladder_open(sampler *s, const scheduler_config *c, const sampler_options *o, size_t size,
                 const ladder_shape *shape, error *e);
bool ladder_begin(sampler *s, error *e);
void ladder_close(sampler *s);
size_t ladder_save(const sampler *s, void *to);
void ladder_load(sampler *s, const void *from);

/* The timestep at a sigma: linear in the logarithms of the model's (_sigma_to_t). */
double ladder_timestep(const sampler *s, double sigma);
/* x scaled for the network (scale_model_input) into the ladder's `in`, and asked for at t. */
void ladder_ask(sampler *s, evaluation *out, const float *x, float sigma, double t);
/* What `ask` is where a step has one evaluation, at its begin: of the latent scaled, or as it is.
 */
void ladder_ask_step(sampler *s, evaluation *out);
void ladder_ask_plain(sampler *s, evaluation *out);
/* `latent` and `level` of the rows: what is in hand between two evaluations, and where on the
 * ladder it stands: sigma times noise on the picture, or (plain) their mixture. */
float *ladder_latent(const sampler *s);
void ladder_level(const sampler *s, float *alpha, float *sigma);
void ladder_level_plain(const sampler *s, float *alpha, float *sigma);
/* x0 of the output m at a latent x that holds sigma times noise. */
void ladder_clean(const sampler *s, const float *x, const float *m, float sigma, float *x0);
/* A plane into the past; the oldest is forgotten. */
void ladder_remember(sampler *s, const float *plane);

/* The same level as a mixture alpha x0 + sigma noise, and the logarithm of alpha / sigma. */
typedef struct mixture {
    float alpha, sigma, lambda;
} mixture;
mixture ladder_mixture(float sigma);
/* x0 of the output m at such a mixture, limited by thresholding alone, as diffusers' DPM-Solver
 * has it. */
bool mixture_clean(const sampler *s, mixture at, const float *x, const float *m, float *x0,
                   error *e);

#endif
