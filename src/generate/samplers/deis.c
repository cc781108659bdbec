/* SPDX-License-Identifier: Apache-2.0
 *
 * deis: diffusers' DEISMultistepScheduler of second order (log-rho): the noise of the last
 * two steps as a line over the logarithm of sigma, integrated over the step. float32, in the order
 * of its step(). */
#include <math.h>

#include "sigmas.h"

typedef struct deis {
    ladder ladder;
    bool lower_at_end;
} deis;

static bool open_deis(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    static const ladder_shape shape = {
        .between = true, .whole = true, .ends_last = true, .always_ends = true, .history = 1};
    if (c->solver_order != 2)
        return error_set(e, ERROR_MODEL,
                         "the model's scheduler wants a solver of order %d, and deis is of order "
                         "2; choose another --sampler",
                         c->solver_order);
    if (!ladder_open(s, c, o, sizeof(deis), &shape, e)) return false;
    ((deis *)s->own)->lower_at_end = c->lower_order_final && s->steps < 15;
    return true;
}

/* The integral's antiderivative at t, of the line that is 1 at b and 0 at c. */
static float antiderivative(float t, float b, float c)
{
    return t * (-logf(c) + logf(t) - 1) / (logf(b) - logf(c));
}

static bool tell_deis(sampler *s, const float *output, rng *r, error *e)
{
    const deis *d = s->own;
    const ladder *l = &d->ladder;
    const float *sigma = l->sigma + s->done;
    mixture to = ladder_mixture(sigma[1]), from = ladder_mixture(sigma[0]);
    (void)r;
    if (!mixture_clean(s, from, s->x, output, s->clean, e)) return false;
    for (size_t i = 0; i < s->n; i++)
        l->slope[i] = (s->x[i] - from.alpha * s->clean[i]) / from.sigma;
    if (!(sigma[1] > 0)) { /* a list of the user's ends there */
        for (size_t i = 0; i < s->n; i++) s->x[i] = s->clean[i];
    } else if (s->done == s->begun || (d->lower_at_end && s->done + 1 == s->steps)) {
        float keep = to.alpha / from.alpha, along = to.sigma * (expf(to.lambda - from.lambda) - 1);
        for (size_t i = 0; i < s->n; i++) s->x[i] = keep * s->x[i] - along * l->slope[i];
    } else {
        mixture past = ladder_mixture(sigma[-1]);
        float t = to.sigma / to.alpha, b = from.sigma / from.alpha, c = past.sigma / past.alpha;
        float now = antiderivative(t, b, c) - antiderivative(b, b, c);
        float before = antiderivative(t, c, b) - antiderivative(b, c, b);
        for (size_t i = 0; i < s->n; i++)
            s->x[i] = to.alpha * (s->x[i] / from.alpha + now * l->slope[i] + before * l->past[i]);
    }
    ladder_remember(s, l->slope);
    s->done++;
    return true;
}

const sampler_row sampler_deis = {
    .name = "deis",
    .label = "DEIS",
    .aliases = (const char *const[]){"DEISMultistepScheduler", NULL},
    .has_sigmas = true,
    .has_clean = true,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_UNKNOWN,
    .open = open_deis,
    .begin = ladder_begin,
    .ask = ladder_ask_plain,
    .tell = tell_deis,
    .level = ladder_level_plain,
    .save = ladder_save,
    .load = ladder_load,
    .close = ladder_close,
};
