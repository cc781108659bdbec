/* SPDX-License-Identifier: Apache-2.0
 *
 * ddim: diffusers' DDIMScheduler. Coefficients are float32 and each operation stands alone,
 * in the order of its step(), since torch rounds after each. */
#include <math.h>
#include <stdlib.h>

#include "row.h"

typedef struct ddim {
    float eta;
    float final_alpha; /* alpha_bar "before" timestep 0 */
    int stride;        /* from a timestep to the one before it */
} ddim;

static bool open_ddim(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    ddim *d = s->own = calloc(1, sizeof *d);
    if (!d) return error_memory(e, "a sampler", sizeof *d);
    d->eta = o->eta;
    d->final_alpha = c->set_alpha_to_one ? 1 : s->schedule.alpha_bar[0];
    d->stride = c->train_steps / o->steps;
    return true;
}

static void ask_ddim(sampler *s, evaluation *out) { out->t = s->timestep[s->done]; }

/* DDIMScheduler.step: toward x0 and back along the predicted noise. Before timestep t comes
 * t - T//N whatever the spacing, as there (not linspace's, nor trailing's where N does not
 * divide T). */
static void step(const sampler *s, int t, const float *m, const float *noise)
{
    const ddim *d = s->own;
    const float *x0 = s->clean;
    float *x = s->x;
    int before = t - d->stride;
    float at = s->schedule.alpha_bar[t];
    float ap = before >= 0 ? s->schedule.alpha_bar[before] : d->final_alpha;
    float a = sqrtf(at), b = sqrtf(1 - at);
    float v = (1 - ap) / (1 - at) * (1 - at / ap);
    float sigma = d->eta * sqrtf(v);
    /* Without signal at t, sigma^2 is all of 1 - ap; rounded, it may be more (NaN there). */
    float along = sqrtf(fmaxf(1 - ap - sigma * sigma, 0)), toward = sqrtf(ap);
    for (size_t i = 0; i < s->n; i++) {
        float epsilon = m[i];
        if (s->predicts == PREDICT_SAMPLE)
            epsilon = (x[i] - a * m[i]) / b;
        else if (s->predicts == PREDICT_V)
            epsilon = a * m[i] + b * x[i];
        x[i] = toward * x0[i] + along * epsilon;
        if (noise) x[i] += sigma * noise[i];
    }
}

/* Draws in every step once eta is above 0. */
static bool tell_ddim(sampler *s, const float *output, rng *r, error *e)
{
    const ddim *d = s->own;
    int t = s->timestep[s->done];
    if (!sampler_clean(s, s->schedule.alpha_bar[t], s->x, output, s->clean, e)) return false;
    if (d->eta > 0) rng_randn(r, s->noise, s->n);
    step(s, t, output, d->eta > 0 ? s->noise : NULL);
    s->done++;
    return true;
}

const sampler_row sampler_ddim = {
    .name = "ddim",
    .label = "DDIM",
    .aliases = (const char *const[]){"DDIMScheduler", "k_ddim", NULL},
    .has_eta = true,
    .has_clean = true,
    .open = open_ddim,
    .ask = ask_ddim,
    .tell = tell_ddim,
};
