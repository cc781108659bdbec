/* SPDX-License-Identifier: Apache-2.0
 *
 * euler: diffusers' EulerDiscreteScheduler (without churn) and its ancestral kin. float32,
 * in the order of their step(). */
#include <math.h>

#include "sigmas.h"

static bool open_euler(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    static const ladder_shape shape = {.may_end = true};
    return ladder_open(s, c, o, sizeof(ladder), &shape, e);
}

/* Its class has no rules for sigmas; other programs' have. */
static bool open_ancestral(sampler *s, const scheduler_config *c, const sampler_options *o,
                           error *e)
{
    static const ladder_shape shape = {.class_own = true};
    return ladder_open(s, c, o, sizeof(ladder), &shape, e);
}

/* Along the slope to the sigma `down`. */
static void go(sampler *s, const float *m, float down)
{
    const ladder *l = s->own;
    float sigma = l->sigma[s->done], step = down - sigma;
    ladder_clean(s, s->x, m, sigma, s->clean);
    for (size_t i = 0; i < s->n; i++) s->x[i] += (s->x[i] - s->clean[i]) / sigma * step;
}

static bool tell_euler(sampler *s, const float *output, rng *r, error *e)
{
    const ladder *l = s->own;
    (void)r, (void)e;
    go(s, output, l->sigma[s->done + 1]);
    s->done++;
    return true;
}

/* Draws in every step, the last one too, where the noise counts nothing. */
static bool tell_ancestral(sampler *s, const float *output, rng *r, error *e)
{
    const ladder *l = s->own;
    float from = l->sigma[s->done], to = l->sigma[s->done + 1];
    float up = sqrtf(to * to * (from * from - to * to) / (from * from));
    (void)e;
    go(s, output, sqrtf(to * to - up * up));
    rng_randn(r, s->noise, s->n);
    for (size_t i = 0; i < s->n; i++) s->x[i] += s->noise[i] * up;
    s->done++;
    return true;
}

const sampler_row sampler_euler = {
    .name = "euler",
    .label = "Euler",
    .aliases = (const char *const[]){"EulerDiscreteScheduler", "sample_euler", "k_euler", NULL},
    .has_sigmas = true,
    .has_clean = true,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_TINY,
    .open = open_euler,
    .begin = ladder_begin,
    .ask = ladder_ask_step,
    .tell = tell_euler,
    .level = ladder_level,
    .close = ladder_close,
};

const sampler_row sampler_euler_a = {
    .name = "euler_a",
    .label = "Euler a",
    .draws = true,
    .aliases = (const char *const[]){"EulerAncestralDiscreteScheduler", "euler_ancestral",
                                     "sample_euler_ancestral", "k_euler_a", NULL},
    .has_sigmas = true,
    .has_clean = true,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_TINY,
    .open = open_ancestral,
    .begin = ladder_begin,
    .ask = ladder_ask_step,
    .tell = tell_ancestral,
    .level = ladder_level,
    .close = ladder_close,
};
