/* SPDX-License-Identifier: Apache-2.0
 *
 * dpmpp_sde: diffusers' DPMSolverSDEScheduler (DPM++ SDE). There the noise is the path of a
 * Brownian motion out of torchsde, from a seed of its own that no generator gives. Here a step
 * draws twice from the picture's generator: the path's way to the step's middle, and from there to
 * its end; what the second part needs is the sum of both. So the noise has the law that it has
 * there, but not its numbers. */
#include <math.h>
#include <stdlib.h>

#include "sigmas.h"

typedef struct dpmpp_sde {
    ladder ladder;
    double *middle_t; /* [steps] */
} dpmpp_sde;

static float middle_of(const ladder *l, int step)
{
    float t = -logf(l->sigma[step]), next = -logf(l->sigma[step + 1]);
    return expf(-(t + (next - t) * 0.5f));
}

static bool open_sde(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    static const ladder_shape shape = {.history = 0};
    if (!ladder_open(s, c, o, sizeof(dpmpp_sde), &shape, e)) return false;
    dpmpp_sde *d = s->own;
    d->middle_t = calloc((size_t)s->steps, sizeof *d->middle_t);
    if (!d->middle_t) return error_memory(e, "sigmas", (size_t)s->steps * sizeof *d->middle_t);
    for (int i = 0; i + 1 < s->steps; i++)
        d->middle_t[i] = ladder_timestep(s, (double)middle_of(&d->ladder, i));
    return true;
}

static void ask_sde(sampler *s, evaluation *out)
{
    const dpmpp_sde *d = s->own;
    const ladder *l = &d->ladder;
    if (l->part)
        ladder_ask(s, out, l->trial, middle_of(l, s->done), d->middle_t[s->done]);
    else
        ladder_ask(s, out, s->x, l->sigma[s->done], l->t[s->done]);
}

/* From sigma `from` to `to`, by the clean picture and the noise, into `out`. */
static void carry(const sampler *s, float from, float to, const float *noise, float *out)
{
    float up = sqrtf(to * to * (from * from - to * to) / (from * from));
    if (up > to) up = to;
    float t = -logf(from), low = -logf(sqrtf(to * to - up * up));
    float keep = expf(-low) / expf(-t), toward = expm1f(t - low);
    for (size_t i = 0; i < s->n; i++)
        out[i] = keep * s->x[i] - toward * s->clean[i] + noise[i] * up;
}

static bool tell_sde(sampler *s, const float *output, rng *r, error *e)
{
    dpmpp_sde *d = s->own;
    ladder *l = &d->ladder;
    float from = l->sigma[s->done], to = l->sigma[s->done + 1];
    (void)e;
    if (s->done + 1 == s->steps) { /* to 0 */
        ladder_clean(s, s->x, output, from, s->clean);
        for (size_t i = 0; i < s->n; i++) s->x[i] += (s->x[i] - s->clean[i]) / from * (to - from);
        s->done++;
        return true;
    }
    float middle = middle_of(l, s->done);
    rng_randn(r, s->noise, s->n);
    if (!l->part) {
        ladder_clean(s, s->x, output, from, s->clean);
        carry(s, from, middle, s->noise, l->trial);
        for (size_t i = 0; i < s->n; i++) l->slope[i] = s->noise[i] * sqrtf(from - middle);
        l->part = 1;
        return true;
    }
    ladder_clean(s, l->trial, output, middle, s->clean);
    for (size_t i = 0; i < s->n; i++)
        s->noise[i] = (l->slope[i] + s->noise[i] * sqrtf(middle - to)) / sqrtf(from - to);
    carry(s, from, to, s->noise, s->x);
    l->part = 0;
    s->done++;
    return true;
}

static void close_sde(sampler *s)
{
    dpmpp_sde *d = s->own;
    if (!d) return;
    free(d->middle_t);
    ladder_close(s);
}

const sampler_row sampler_dpmpp_sde = {
    .name = "dpmpp_sde",
    .label = "DPM++ SDE",
    .draws = true,
    .aliases = (const char *const[]){"DPMSolverSDEScheduler", "sample_dpmpp_sde", "k_dpmpp_sde",
                                     NULL},
    .has_sigmas = true,
    .has_clean = true,
    .evaluations = 2,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_UNKNOWN,
    .open = open_sde,
    .begin = ladder_begin,
    .ask = ask_sde,
    .tell = tell_sde,
    .level = ladder_level,
    .latent = ladder_latent,
    .close = close_sde,
};
