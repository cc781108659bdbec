/* SPDX-License-Identifier: Apache-2.0
 *
 * job: one call of generator_run, its options made definite; and what generators keep between calls.
 * For generate.c, job.c, read.c and loop.c alone. */
#ifndef LIKENESS_GENERATE_JOB_H
#define LIKENESS_GENERATE_JOB_H

#include "generate/generate.h"
#include "generate/guide.h"
#include "pipeline/decode.h"
#include "pipeline/denoise.h"

/* The text that the denoiser's keys and values are of. */
typedef struct text_state {
    char *prompt, *negative;          /* NULL: none was read */
    int clip_skip, batch;
    float *states;                    /* [batch,N,hidden] */
} text_state;

struct generator {
    pipeline on;
    device_weights *unet, *vae;       /* the device's copies, kept from one denoiser to the next */
    denoiser *denoiser;               /* of the last size; NULL: none yet */
    decoder *decoder;
    text_state text;
    bool unet_packed, vae_packed;     /* the device holds its copy of the weights */
};

typedef struct job {
    const generate_options *o;
    const char *prompt, *negative;
    generator *const *models;         /* what takes turns, as `mix` says */
    int model_count;
    const mix *mix;                   /* NULL: models[0] alone */
    int channels, height, width, batch; /* of the latents */
    guidance guidance;
    sampler *sampler;
    rng rng;
    float *noise;                     /* [C,h,w], what the run begins with */
} job;

/* ---- job.c ---- */
/* Everything but the work: checks all options, plans every model that the mix asks, and compares the
 * memory needed with what there is. notes: NULL, or lines are added to it. j is to be closed in any case. */
bool job_open(job *j, generator *const *models, int count, const mix *m, const generate_options *o,
              char **notes, error *e);
void job_close(job *j);
generator *job_first(const job *j); /* whose model begins */
generator *job_last(const job *j);  /* whose model decodes */
bool job_asks(const job *j, int which); /* whether any step does */
size_t job_numbers(const job *j); /* of the latents */

/* ---- read.c ---- */
/* Reads the job's prompts, for every model that is asked, unless it has them read already. */
bool read_texts(const job *j, error *e);
void text_forget(text_state *t);

/* ---- loop.c ---- */
/* All steps, from the job's noise or where it goes on from; the sampler holds the last latent. */
bool loop_run(job *j, error *e);

#endif
