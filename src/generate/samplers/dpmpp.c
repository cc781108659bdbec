/* SPDX-License-Identifier: Apache-2.0
 *
 * dpmpp: diffusers' DPMSolverMultistepScheduler of second order by the midpoint rule:
 * DPM++ 2M ("dpmsolver++") and DPM++ 2M SDE ("sde-dpmsolver++"). float32, in the order of its
 * step(). */
#include <math.h>
#include <string.h>

#include "sigmas.h"

typedef struct dpmpp {
    ladder ladder;
    bool simple_end; /* the last step is of first order */
} dpmpp;

static bool open_dpmpp(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    /* where the betas are cosines, timesteps are cut to whole ones, not rounded */
    const ladder_shape shape = {
        .between = true, .whole = c->betas != BETA_SQUAREDCOS, .may_end = true, .history = 1};
    if (c->solver_order != 2 || !strcmp(c->solver, "heun"))
        return error_set(e, ERROR_MODEL,
                         "the model's scheduler wants a solver of order %d%s, and %s is of order "
                         "2 by the midpoint; choose another --sampler",
                         c->solver_order, !strcmp(c->solver, "heun") ? " by Heun's rule" : "",
                         s->row->name);
    if (!ladder_open(s, c, o, sizeof(dpmpp), &shape, e)) return false;
    dpmpp *d = s->own;
    d->simple_end = c->euler_at_final || (c->lower_order_final && s->steps < 15) ||
                    !(d->ladder.sigma[s->steps] > 0);
    return true;
}

static bool tell(sampler *s, const float *m, const float *noise, error *e)
{
    const dpmpp *d = s->own;
    const float *sigma = d->ladder.sigma + s->done;
    mixture to = ladder_mixture(sigma[1]), from = ladder_mixture(sigma[0]);
    if (!mixture_clean(s, from, s->x, m, s->clean, e)) return false;
    float h = to.lambda - from.lambda, keep = to.sigma / from.sigma, add, stir = 0, bend = 0;
    if (noise) {
        keep *= expf(-h);
        add = to.alpha * (1 - expf(-2 * h));
        stir = to.sigma * sqrtf(1 - expf(-2 * h));
    } else {
        add = -(to.alpha * (expf(-h) - 1));
    }
    bool first = s->done == s->begun || (d->simple_end && s->done + 1 == s->steps);
    if (!first) bend = h / (from.lambda - ladder_mixture(sigma[-1]).lambda);
    const float *past = d->ladder.past;
    for (size_t i = 0; i < s->n; i++) {
        float x = keep * s->x[i] + add * s->clean[i];
        if (!first) x += 0.5f * add * (bend * (s->clean[i] - past[i]));
        if (noise) x += stir * noise[i];
        s->x[i] = x;
    }
    ladder_remember(s, s->clean);
    s->done++;
    return true;
}

static bool tell_2m(sampler *s, const float *output, rng *r, error *e)
{
    (void)r;
    return tell(s, output, NULL, e);
}

/* Draws in every step, the last one too, where the noise counts nothing. */
static bool tell_sde(sampler *s, const float *output, rng *r, error *e)
{
    rng_randn(r, s->noise, s->n);
    return tell(s, output, s->noise, e);
}

const sampler_row sampler_dpmpp_2m = {
    .name = "dpmpp_2m",
    .label = "DPM++ 2M",
    .aliases = (const char *const[]){"DPMSolverMultistepScheduler", "sample_dpmpp_2m", "k_dpmpp_2m",
                                     NULL},
    .has_sigmas = true,
    .has_clean = true,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_TINY,
    .open = open_dpmpp,
    .begin = ladder_begin,
    .ask = ladder_ask_plain,
    .tell = tell_2m,
    .level = ladder_level_plain,
    .save = ladder_save,
    .load = ladder_load,
    .close = ladder_close,
};

const sampler_row sampler_dpmpp_2m_sde = {
    .name = "dpmpp_2m_sde",
    .label = "DPM++ 2M SDE",
    .draws = true,
    .aliases = (const char *const[]){"sample_dpmpp_2m_sde", "k_dpmpp_2m_sde", NULL},
    .has_sigmas = true,
    .has_clean = true,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_TINY,
    .open = open_dpmpp,
    .begin = ladder_begin,
    .ask = ladder_ask_plain,
    .tell = tell_sde,
    .level = ladder_level_plain,
    .save = ladder_save,
    .load = ladder_load,
    .close = ladder_close,
};
