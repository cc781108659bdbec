/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler: how a picture is reached from noise. A sampler asks for the network's output at a
 * timestep, is told it, and goes on: once or several times a step, at timesteps that may lie
 * between the model's, with a memory of its own. It sees latents as plain float arrays in PyTorch's
 * order ([C,h,w] of one picture) and knows nothing of networks, guidance or mixes. Each is a row of
 * a table (row.h). */
#ifndef LIKENESS_GENERATE_SAMPLER_H
#define LIKENESS_GENERATE_SAMPLER_H

#include "base/random.h"
#include "model/schedule.h"

/* A row of the table, from 0 to sampler_kind_count() - 1. */
typedef int sampler_kind;
enum {
    SAMPLER_MODEL = -1, /* the one that the model's scheduler_config.json names */
    SAMPLER_DDIM,
    SAMPLER_DDPM,
};

typedef struct sampler_options {
    sampler_kind kind;
    int steps;
    float eta; /* 0 to 1; where sampler_kind_has_eta */
    bool has_variance;
    variance variance; /* where sampler_kind_has_variance; else the config's */
    bool has_spacing;
    spacing spacing;    /* else by the config's rule */
    const char *sigmas; /* where sampler_kind_has_sigmas: "karras" and the like, or a list
                           ("14.6,7,2,0"); NULL: by the config's rule */
    int skip;           /* steps that are left out at the beginning: diffusers' set_begin_index */
} sampler_options;

/* ---- names ---- */

int sampler_kind_count(void);
bool sampler_kind_known(sampler_kind k);
/* By diffusers' names ("ddim", "fixed_small", "leading"); a sampler by those of other programs too,
 * in any case, spaces, - and _ being the same. */
bool sampler_kind_parse(sampler_kind *out, const char *text);
/* The same, and sigmas where the name ends with theirs: "DPM++ 2M Karras". */
bool sampler_choose(sampler_options *o, const char *text);
/* The name nearest to one that is none, or NULL: none is near. */
const char *sampler_nearest(const char *text);
/* The one that a model names; false: it is none of these. */
bool sampler_of_model(sampler_kind *out, const scheduler_config *c, error *e);
bool variance_parse(variance *out, const char *text);
bool spacing_parse(spacing *out, const char *text);
const char *sampler_kind_name(sampler_kind k);  /* "ddim" */
const char *sampler_kind_label(sampler_kind k); /* "DDIM", as AUTOMATIC1111 writes it */
const char *variance_name(variance v);
const char *spacing_name(spacing s);
/* Whether an option of that name means anything to it. */
bool sampler_kind_has_eta(sampler_kind k);
bool sampler_kind_draws(sampler_kind k, float eta); /* whether its steps draw noise */
bool sampler_kind_has_variance(sampler_kind k);
bool sampler_kind_has_sigmas(sampler_kind k);
int sampler_kind_evaluations(sampler_kind k); /* of the network in most steps */
/* "ddim or ddpm": all there are, for messages. */
typedef struct sampler_choices {
    char text[256];
} sampler_choices;
sampler_choices sampler_kind_choices(void);
/* The same for a name that is none, the nearest first: "euler (or another: ddim, ddpm)". */
sampler_choices sampler_advice(const char *text);

/* ---- a run ---- */

/* Keys that the config lacks take the sampler's own defaults (leading, offset 0, clip_sample,
 * set_alpha_to_one): config.h fills them in. What a Stable Diffusion pipeline forces (steps_offset
 * 1, no clip_sample) is in the config of such a model. */
typedef struct sampler sampler;
bool sampler_open(sampler **out, const scheduler_config *c, const sampler_options *o, error *e);
void sampler_close(sampler **s);
int sampler_steps(const sampler *s);    /* that are made, without those that are left out */
bool sampler_learned(const sampler *s); /* outputs must hold 2n numbers: the variance is learned */

/* A run begins with noise of deviation 1, n numbers, which is copied (and enlarged where the
 * sampler wants it so: diffusers' init_noise_sigma). */
bool sampler_begin(sampler *s, const float *noise, size_t n, error *e);
/* After sampler_begin: the run begins with a picture's latents instead, and noise on the level
 * where it begins (diffusers' add_noise). [n] each. */
void sampler_add_noise(sampler *s, const float *clean, const float *noise);
/* After sampler_tell: where the mask [space] is 0, what the next evaluation is asked of is the
 * picture's latents, with noise on the level that is reached; clean, noise [n], n a multiple of
 * space. */
void sampler_keep(sampler *s, const float *clean, const float *noise, const float *mask,
                  size_t space);

/* What the network is to be asked. */
typedef struct evaluation {
    int step, part; /* of which step, from 0; and which of its evaluations, from 0 */
    double t;       /* the timestep, which may lie between the model's */
    const float *x; /* [n], scaled as the network wants it; until sampler_tell */
} evaluation;

/* False: the run is done. Asked again before it is told, it asks the same. */
bool sampler_ask(sampler *s, evaluation *out);
/* The guided output at what was asked last: n numbers, 2n where the variance is learned (mean half
 * first). Noise is drawn from r only when the sampler needs it. */
bool sampler_tell(sampler *s, const float *output, rng *r, error *e);

int sampler_done(const sampler *s);            /* steps that are done */
const float *sampler_latent(const sampler *s); /* [n] after these */
/* The clean picture that the last output foretold, [n]; NULL: this sampler has none. */
const float *sampler_foretold(const sampler *s);

/* Between two steps: what it remembers beside its latent, malloc'ed (NULL, size 0: nothing); and a
 * run that has begun goes on from such a state. */
bool sampler_save(const sampler *s, void **state, size_t *size, error *e);
bool sampler_load(sampler *s, int step, const float *latent, const void *state, size_t size,
                  error *e);

#endif
