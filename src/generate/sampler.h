/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler: timesteps, and the DDPM and DDIM steps of diffusers (docs/NUMERICS.md,
 * 4). A sampler sees latents as plain float arrays in PyTorch's order ([C,h,w] of one
 * picture) and knows nothing of networks. Arithmetic is float32 in diffusers' order, so that a long
 * run does not drift. */
#ifndef LIKENESS_GENERATE_SAMPLER_H
#define LIKENESS_GENERATE_SAMPLER_H

#include "base/random.h"
#include "model/schedule.h"

typedef enum sampler_kind { SAMPLER_DDIM, SAMPLER_DDPM } sampler_kind;

typedef struct sampler_options {
    sampler_kind kind;
    int steps;
    float eta;                          /* DDIM, 0 to 1 */
    bool use_clipped_output;            /* DDIM */
    bool has_variance; variance variance; /* DDPM; else the config's, else fixed_small */
    bool has_spacing; spacing spacing;  /* else by the config's rule */
} sampler_options;

/* Keys that the config lacks take the sampler's own defaults (leading, offset 0, clip_sample,
 * set_alpha_to_one): both samplers have the same ones, and config.h fills them in. What a Stable
 * Diffusion pipeline forces (steps_offset 1, no clip_sample) is its caller's to put into the
 * config. */
typedef struct sampler sampler;
bool sampler_open(sampler **out, const scheduler_config *c, const sampler_options *o, error *e);
void sampler_close(sampler **s);
/* By diffusers' names: "ddim"; "fixed_small"; "leading". */
bool sampler_kind_parse(sampler_kind *out, const char *text);
bool variance_parse(variance *out, const char *text);
bool spacing_parse(spacing *out, const char *text);
const char *sampler_kind_name(sampler_kind k);
const char *variance_name(variance v);
const char *spacing_name(spacing s);
int sampler_count(const sampler *s);            /* network evaluations */
int sampler_timestep(const sampler *s, int i);  /* i = 0 is the noisiest */
bool sampler_draws(const sampler *s, int i);    /* step i draws noise */
bool sampler_learned(const sampler *s);         /* output must hold 2n: the variance is learned */
/* One step in place: latent and output hold n values of one picture; output holds 2n where the
 * variance is learned (mean half first). noise is drawn from r only when the sampler needs it. */
bool sampler_step(const sampler *s, int i, float *latent, const float *output, size_t n, rng *r,
                  error *e);
/* The same with the noise given: n values, not read (may be NULL) where the step draws none. */
bool sampler_step_with(const sampler *s, int i, float *latent, const float *output, size_t n,
                       const float *noise, error *e);

#endif
