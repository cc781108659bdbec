/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler_row: what a sampler is made of, and what rows of the table share. For sampler_*.c alone.
 */
#ifndef LIKENESS_GENERATE_SAMPLER_ROW_H
#define LIKENESS_GENERATE_SAMPLER_ROW_H

#include "generate/sampler.h"

/* A function that is NULL has nothing to do. */
typedef struct sampler_row {
    const char *name, *label;   /* "ddim", "DDIM" */
    const char *const *aliases; /* other names that are read, in any case; ends with NULL */
    bool has_eta, has_variance; /* which options mean something to it */
    bool (*open)(sampler *s, const scheduler_config *c, const sampler_options *o, error *e);
    bool (*begin)(sampler *s, error *e);      /* s->x holds the noise */
    void (*ask)(sampler *s, evaluation *out); /* step, part 0 and x are filled in already */
    bool (*tell)(sampler *s, const float *output, rng *r,
                 error *e);                     /* a step's last adds 1 to s->done */
    size_t (*save)(const sampler *s, void *to); /* its size; to NULL: that alone */
    void (*load)(sampler *s, const void *from); /* of save's size */
    void (*close)(sampler *s);
} sampler_row;

/* sampler_table.c holds nothing else, so that a test may have a table of its own. */
extern const sampler_row *const sampler_table[];
extern const int sampler_table_count;
extern const sampler_row sampler_ddim, sampler_ddpm;

struct sampler {
    const sampler_row *row;
    noise_schedule schedule;
    prediction predicts;
    bool clip, threshold;
    float clip_range, threshold_ratio, sample_max;
    int steps, done;
    int *timestep; /* [steps], falling: set_timesteps of diffusers' schedulers */
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

#endif
