/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler: noise schedules, timesteps, and the DDPM and DDIM steps of diffusers (numerics.md section 4).
 * A sampler sees latents as plain float arrays in PyTorch's order ([C,h,w] of one picture) and knows
 * nothing of networks. */
#ifndef LIKENESS_GENERATE_SAMPLER_H
#define LIKENESS_GENERATE_SAMPLER_H

#include "base/random.h"
#include "model/config.h"

/* betas and cumulated alphas, T values each. */
typedef struct noise_schedule { int steps; float *beta, *alpha_bar; } noise_schedule;
bool noise_schedule_open(noise_schedule *s, const scheduler_config *c, error *e);
void noise_schedule_close(noise_schedule *s);

typedef enum sampler_kind { SAMPLER_DDIM, SAMPLER_DDPM } sampler_kind;

typedef struct sampler_options {
    sampler_kind kind;
    int steps;
    float eta;                          /* DDIM */
    bool use_clipped_output;            /* DDIM */
    bool has_variance; variance variance; /* DDPM; else the config's, else fixed_small */
    bool has_spacing; spacing spacing;  /* else by the config's rule */
} sampler_options;

typedef struct sampler sampler;
bool sampler_open(sampler **out, const scheduler_config *c, const sampler_options *o, error *e);
void sampler_close(sampler **s);
bool sampler_kind_parse(sampler_kind *out, const char *text);
bool variance_parse(variance *out, const char *text);
int sampler_count(const sampler *s);            /* network evaluations */
int sampler_timestep(const sampler *s, int i);  /* i = 0 is the noisiest */
/* One step in place: latent and output hold n values of one picture; output holds 2n where the
 * variance is learned (mean half first). noise is drawn from r only when the sampler needs it. */
bool sampler_step(const sampler *s, int i, float *latent, const float *output, size_t n, rng *r, error *e);

#endif
