/* SPDX-License-Identifier: Apache-2.0
 *
 * heun: diffusers' HeunDiscreteScheduler: a step along the slope at its begin, and again
 * along the mean of that and the slope where it led. float32, in the order of its step(). */
#include <string.h>

#include "sigmas.h"

static bool open_heun(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    static const ladder_shape shape = {.history = 0};
    return ladder_open(s, c, o, sizeof(ladder), &shape, e);
}

/* The step's end is asked in the second part. */
static void ask_heun(sampler *s, evaluation *out)
{
    const ladder *l = s->own;
    int at = s->done + l->part;
    ladder_ask(s, out, l->part ? l->trial : s->x, l->sigma[at], l->t[at]);
}

static bool tell_heun(sampler *s, const float *output, rng *r, error *e)
{
    ladder *l = s->own;
    const float *x = l->part ? l->trial : s->x;
    float from = l->sigma[s->done], to = l->sigma[s->done + 1], at = l->part ? to : from;
    (void)r;
    ladder_clean(s, x, output, at, s->clean);
    if (s->clip && !sampler_limit(s, s->clean, e)) return false;
    for (size_t i = 0; i < s->n; i++) {
        float slope = (x[i] - s->clean[i]) / at;
        if (l->part)
            s->x[i] += (l->slope[i] + slope) / 2 * (to - from);
        else
            l->trial[i] = s->x[i] + (l->slope[i] = slope) * (to - from);
    }
    if (!l->part && s->done + 1 < s->steps) {
        l->part = 1;
        return true;
    }
    if (!l->part) memcpy(s->x, l->trial, s->n * sizeof *s->x); /* to 0: nothing is asked there */
    l->part = 0;
    s->done++;
    return true;
}

const sampler_row sampler_heun = {
    .name = "heun",
    .label = "Heun",
    .aliases = (const char *const[]){"HeunDiscreteScheduler", "sample_heun", "k_heun", NULL},
    .has_sigmas = true,
    .has_clean = true,
    .evaluations = 2,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_UNKNOWN,
    .open = open_heun,
    .begin = ladder_begin,
    .ask = ask_heun,
    .tell = tell_heun,
    .level = ladder_level,
    .latent = ladder_latent,
    .close = ladder_close,
};
