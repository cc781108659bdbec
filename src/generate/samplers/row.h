/* SPDX-License-Identifier: Apache-2.0
 *
 * row: what a sampler is made of, and what rows of the table share. For the files of this
 * folder alone.
 */
#ifndef LIKENESS_GENERATE_SAMPLER_ROW_H
#define LIKENESS_GENERATE_SAMPLER_ROW_H

#include "sampler.h"

/* What its class of diffusers makes of rescale_betas_zero_snr: its table, that with a last value
 * just above 0, or nothing (it does not know the key). */
typedef enum snr_rule { SNR_TABLE, SNR_TINY, SNR_UNKNOWN } snr_rule;

/* A function that is NULL has nothing to do. */
typedef struct sampler_row {
    const char *name, *label;   /* "ddim", "DDIM" */
    const char *const *aliases; /* other names that are read, in any case; ends with NULL */
    bool has_eta, has_variance, has_sigmas; /* which options mean something to it */
    bool draws;      /* its steps draw noise; with has_eta where eta is above 0, too */
    bool has_clean;  /* s->clean is what the last output foretold */
    int evaluations; /* of the network in most steps; 0: one */
    spacing spacing; /* its class's own, where neither option nor config says */
    snr_rule no_snr;
    bool (*open)(sampler *s, const scheduler_config *c, const sampler_options *o, error *e);
    bool (*begin)(sampler *s, error *e);      /* s->x holds the noise */
    void (*ask)(sampler *s, evaluation *out); /* step, part 0 and x are filled in already */
    bool (*tell)(sampler *s, const float *output, rng *r,
                 error *e); /* a step's last adds 1 to s->done */
    /* Where the latent stands that is asked next: alpha * picture + sigma * noise; NULL: at
     * alpha_bar of the timestep that is asked. And that latent; NULL: s->x. */
    void (*level)(const sampler *s, float *alpha, float *sigma);
    float *(*latent)(const sampler *s);
    size_t (*save)(const sampler *s, void *to); /* its size; to NULL: that alone */
    void (*load)(sampler *s, const void *from); /* of save's size */
    void (*close)(sampler *s);
} sampler_row;

/* table.c holds nothing else, so that a test may have a table of its own. */
extern const sampler_row *const sampler_table[];
extern const int sampler_table_count;
extern const sampler_row sampler_ddim, sampler_ddpm, sampler_pndm, sampler_euler, sampler_euler_a,
    sampler_heun, sampler_lms, sampler_dpm2, sampler_dpm2_a, sampler_dpmpp_2m, sampler_dpmpp_2m_sde,
    sampler_dpmpp_sde, sampler_unipc, sampler_deis, sampler_lcm, sampler_tcd;

struct sampler {
    const sampler_row *row;
    noise_schedule schedule;
    prediction predicts;
    bool clip, threshold;
    float clip_range, threshold_ratio, sample_max;
    spacing spacing;
    sigma_kind sigmas;      /* as the options say; SIGMAS_MODEL where they say nothing */
    int steps, done, begun; /* begun: the first that is made */
    int *timestep;          /* [steps], falling: set_timesteps of diffusers' schedulers */
    bool learned;
    size_t n;
    float *x;             /* [n]: the latent after `done` steps */
    float *clean, *noise; /* [n] each, for the row to use */
    void *own;            /* the row's; row->close frees what it holds */
};

/* x0 from the network's output m at latent x, limited as the config wants it (clip_sample,
 * thresholding). */
bool sampler_clean(const sampler *s, float alpha_bar, const float *x, const float *m, float *x0,
                   error *e);
/* Without limits, at a latent that is a times the picture and b times noise; and the limits alone.
 */
void sampler_predict(const sampler *s, float a, float b, const float *x, const float *m, float *x0);
bool sampler_limit(const sampler *s, float *x0, error *e);

#endif
