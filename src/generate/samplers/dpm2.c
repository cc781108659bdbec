/* SPDX-License-Identifier: Apache-2.0
 *
 * dpm2: diffusers' KDPM2DiscreteScheduler and its ancestral kin: the slope in a step's
 * middle, between the logarithms of its ends, leads all of it. float32, in the order of their
 * step(). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sigmas.h"

typedef struct dpm2 {
    ladder ladder;
    float *middle;    /* [steps]: the sigma in each step's middle; 0: the step has none */
    double *middle_t; /* [steps] */
} dpm2;

/* Where the slope leads, and how much noise is added to it. */
typedef struct way {
    float down, up;
} way;

static way way_of(float from, float to, bool ancestral)
{
    if (!ancestral) return (way){to, 0};
    float up = sqrtf(to * to * (from * from - to * to) / (from * from));
    return (way){sqrtf(to * to - up * up), up};
}

static bool open_either(sampler *s, const scheduler_config *c, const sampler_options *o,
                        bool ancestral, error *e)
{
    static const ladder_shape shape = {.whole = true};
    if (!ladder_open(s, c, o, sizeof(dpm2), &shape, e)) return false;
    dpm2 *d = s->own;
    size_t steps = (size_t)s->steps;
    d->middle = calloc(steps, sizeof *d->middle);
    d->middle_t = calloc(steps, sizeof *d->middle_t);
    if (!d->middle || !d->middle_t)
        return error_memory(e, "sigmas", steps * (sizeof *d->middle + sizeof *d->middle_t));
    for (int i = 0; i + 1 < s->steps; i++) {
        float from = d->ladder.sigma[i];
        float low = logf(way_of(from, d->ladder.sigma[i + 1], ancestral).down);
        /* torch.lerp at one half */
        float middle = ancestral ? low - (low - logf(from)) * 0.5f
                                 : logf(from) - (logf(from) - low) * 0.5f;
        d->middle[i] = expf(middle);
        d->middle_t[i] = ladder_timestep(s, (double)d->middle[i]);
    }
    return true;
}

static bool open_dpm2(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    return open_either(s, c, o, false, e);
}

static bool open_ancestral(sampler *s, const scheduler_config *c, const sampler_options *o,
                           error *e)
{
    return open_either(s, c, o, true, e);
}

static void ask_dpm2(sampler *s, evaluation *out)
{
    const dpm2 *d = s->own;
    const ladder *l = &d->ladder;
    if (l->part)
        ladder_ask(s, out, l->trial, d->middle[s->done], d->middle_t[s->done]);
    else
        ladder_ask(s, out, s->x, l->sigma[s->done], l->t[s->done]);
}

static bool tell(sampler *s, const float *m, bool ancestral, rng *r)
{
    dpm2 *d = s->own;
    ladder *l = &d->ladder;
    float from = l->sigma[s->done], middle = d->middle[s->done];
    way w = way_of(from, l->sigma[s->done + 1], ancestral);
    const float *x = l->part ? l->trial : s->x;
    float at = l->part ? middle : from, to = l->part ? w.down : middle;
    ladder_clean(s, x, m, at, s->clean);
    bool last = s->done + 1 == s->steps; /* to 0, without a middle */
    float *out = l->part || last ? s->x : l->trial;
    for (size_t i = 0; i < s->n; i++) out[i] = s->x[i] + (x[i] - s->clean[i]) / at * (to - from);
    if (!l->part && !last) {
        l->part = 1;
        return true;
    }
    if (l->part && ancestral) {
        rng_randn(r, s->noise, s->n);
        for (size_t i = 0; i < s->n; i++) s->x[i] += s->noise[i] * w.up;
    }
    l->part = 0;
    s->done++;
    return true;
}

static bool tell_dpm2(sampler *s, const float *output, rng *r, error *e)
{
    (void)e;
    return tell(s, output, false, r);
}

static bool tell_ancestral(sampler *s, const float *output, rng *r, error *e)
{
    (void)e;
    return tell(s, output, true, r);
}

static void close_dpm2(sampler *s)
{
    dpm2 *d = s->own;
    if (!d) return;
    free(d->middle);
    free(d->middle_t);
    ladder_close(s);
}

const sampler_row sampler_dpm2 = {
    .name = "dpm2",
    .label = "DPM2",
    .aliases = (const char *const[]){"KDPM2DiscreteScheduler", "sample_dpm_2", "dpm_2", "k_dpm_2",
                                     NULL},
    .has_sigmas = true,
    .has_clean = true,
    .evaluations = 2,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_UNKNOWN,
    .open = open_dpm2,
    .begin = ladder_begin,
    .ask = ask_dpm2,
    .tell = tell_dpm2,
    .level = ladder_level,
    .latent = ladder_latent,
    .close = close_dpm2,
};

const sampler_row sampler_dpm2_a = {
    .name = "dpm2_a",
    .label = "DPM2 a",
    .draws = true,
    .aliases = (const char *const[]){"KDPM2AncestralDiscreteScheduler", "sample_dpm_2_ancestral",
                                     "dpm_2_ancestral", "k_dpm_2_a", NULL},
    .has_sigmas = true,
    .has_clean = true,
    .evaluations = 2,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_UNKNOWN,
    .open = open_ancestral,
    .begin = ladder_begin,
    .ask = ask_dpm2,
    .tell = tell_ancestral,
    .level = ladder_level,
    .latent = ladder_latent,
    .close = close_dpm2,
};
