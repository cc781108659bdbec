/* SPDX-License-Identifier: Apache-2.0
 *
 * ddpm: diffusers' DDPMScheduler. Coefficients are float32 and each operation stands alone,
 * in the order of its step(), since torch rounds after each. */
#include <math.h>
#include <stdlib.h>

#include "row.h"

typedef struct ddpm {
    variance variance;
} ddpm;

static bool open_ddpm(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    ddpm *d = s->own = calloc(1, sizeof *d);
    if (!d) return error_memory(e, "a sampler", sizeof *d);
    d->variance = o->has_variance ? o->variance : c->variance;
    s->learned = d->variance == VARIANCE_LEARNED || d->variance == VARIANCE_LEARNED_RANGE;
    return true;
}

static void ask_ddpm(sampler *s, evaluation *out) { out->t = s->timestep[s->done]; }

/* The factor of the noise where it is the same for all values: _get_variance's fixed kinds. There,
 * fixed_small_log is a deviation already, and fixed_large_log takes the square root of a logarithm,
 * which is NaN; here it is what it means, the deviation whose logarithm that is half of. */
static float fixed_deviation(variance kind, float small, float large)
{
    switch (kind) {
    case VARIANCE_FIXED_SMALL: return sqrtf(small);
    case VARIANCE_FIXED_SMALL_LOG: return expf(0.5f * logf(small));
    case VARIANCE_FIXED_LARGE: return sqrtf(large);
    default: return expf(0.5f * logf(large));
    }
}

/* DDPMScheduler.step: the posterior's mean, and noise unless noise is NULL. learned: the second
 * half of the network's output. */
static void step(const sampler *s, int i, const float *learned, const float *noise)
{
    const float *x0 = s->clean;
    float *x = s->x;
    size_t n = s->n;
    variance kind = ((const ddpm *)s->own)->variance;
    float at = s->schedule.alpha_bar[s->timestep[i]];
    float ap = i + 1 < s->steps ? s->schedule.alpha_bar[s->timestep[i + 1]] : 1;
    float alpha = at / ap, beta = 1 - alpha;
    float clean = sqrtf(ap) * beta / (1 - at);
    float keep = sqrtf(alpha) * (1 - ap) / (1 - at);
    for (size_t k = 0; k < n; k++) x[k] = clean * x0[k] + keep * x[k];
    if (!noise) return;

    float small = fmaxf((1 - ap) / (1 - at) * beta, 1e-20f);
    if (kind == VARIANCE_LEARNED) {
        for (size_t k = 0; k < n; k++) x[k] += sqrtf(learned[k]) * noise[k];
    } else if (kind == VARIANCE_LEARNED_RANGE) {
        float low = logf(small), high = logf(beta);
        for (size_t k = 0; k < n; k++) {
            float share = (learned[k] + 1) / 2;
            x[k] += expf(0.5f * (share * high + (1 - share) * low)) * noise[k];
        }
    } else {
        float deviation = fixed_deviation(kind, small, beta);
        for (size_t k = 0; k < n; k++) x[k] += deviation * noise[k];
    }
}

/* Draws in every step but at timestep 0. */
static bool tell_ddpm(sampler *s, const float *output, rng *r, error *e)
{
    int t = s->timestep[s->done];
    if (!sampler_clean(s, s->schedule.alpha_bar[t], s->x, output, s->clean, e)) return false;
    if (t > 0) rng_randn(r, s->noise, s->n);
    step(s, s->done, output + s->n, t > 0 ? s->noise : NULL);
    s->done++;
    return true;
}

const sampler_row sampler_ddpm = {
    .name = "ddpm",
    .label = "DDPM",
    .draws = true,
    .aliases = (const char *const[]){"DDPMScheduler", NULL},
    .has_variance = true,
    .has_clean = true,
    .open = open_ddpm,
    .ask = ask_ddpm,
    .tell = tell_ddpm,
};
