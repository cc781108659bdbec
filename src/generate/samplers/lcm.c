/* SPDX-License-Identifier: Apache-2.0
 *
 * lcm: diffusers' LCMScheduler and TCDScheduler, for models that were distilled to few
 * steps: each goes to the clean picture, and back to the next timestep by fresh noise. float32, in
 * the order of their step(). */
#include <math.h>
#include <stdlib.h>

#include "row.h"

typedef struct few {
    float eta;
    float scaling;
} few;

/* Those of the timesteps that the distillation knew (every 20th) that lie evenly. */
static bool open_few(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    few *f = s->own = calloc(1, sizeof *f);
    int known = c->original_steps < c->train_steps ? c->original_steps : c->train_steps;
    if (!f) return error_memory(e, "a sampler", sizeof *f);
    if (s->steps > known)
        return error_set(e, ERROR_USAGE,
                         "steps is %d, but %s takes at most %d (the scheduler's "
                         "original_inference_steps); it is made for 4 to 8",
                         s->steps, s->row->name, known);
    f->eta = o->eta;
    f->scaling = c->timestep_scaling;
    for (int i = 0; i < s->steps; i++) {
        int left = known - (int)floor(i * ((double)known / s->steps));
        s->timestep[i] = left * (c->train_steps / known) - 1;
    }
    if (s->predicts == PREDICT_EPSILON && !(s->schedule.alpha_bar[s->timestep[0]] > 0))
        return error_set(e, ERROR_MODEL,
                         "at timestep %d the model's schedule has no signal left "
                         "(rescale_betas_zero_snr), and %s begins there; choose another --sampler",
                         s->timestep[0], s->row->name);
    return true;
}

static void ask_few(sampler *s, evaluation *out) { out->t = s->timestep[s->done]; }

/* Draws in every step but the last. */
static bool tell_lcm(sampler *s, const float *output, rng *r, error *e)
{
    const few *f = s->own;
    int t = s->timestep[s->done];
    bool last = s->done + 1 == s->steps;
    float scaled = (float)t * f->scaling, square = scaled * scaled + 0.25f;
    float skip = 0.25f / square, out = scaled / sqrtf(square);
    if (!sampler_clean(s, s->schedule.alpha_bar[t], s->x, output, s->clean, e)) return false;
    for (size_t i = 0; i < s->n; i++) s->x[i] = out * s->clean[i] + skip * s->x[i];
    if (!last) {
        float next = s->schedule.alpha_bar[s->timestep[s->done + 1]];
        float a = sqrtf(next), b = sqrtf(1 - next);
        rng_randn(r, s->noise, s->n);
        for (size_t i = 0; i < s->n; i++) s->x[i] = a * s->x[i] + b * s->noise[i];
    }
    s->done++;
    return true;
}

/* Goes below the next timestep by the share eta, and back up to it by noise. */
static bool tell_tcd(sampler *s, const float *output, rng *r, error *e)
{
    const few *f = s->own;
    int t = s->timestep[s->done];
    bool last = s->done + 1 == s->steps;
    int next = last ? 0 : s->timestep[s->done + 1];
    int below = (int)floorf((float)(1 - (double)f->eta) * (float)next);
    float at = s->schedule.alpha_bar[t], ap = s->schedule.alpha_bar[next],
          as = s->schedule.alpha_bar[below];
    float a = sqrtf(at), b = sqrtf(1 - at), toward = sqrtf(as), along = sqrtf(1 - as);
    (void)e;
    for (size_t i = 0; i < s->n; i++) {
        float m = output[i], x = s->x[i], clean = (x - b * m) / a, epsilon = m;
        if (s->predicts == PREDICT_V) clean = a * x - b * m, epsilon = a * m + b * x;
        if (s->predicts == PREDICT_SAMPLE) clean = m, epsilon = (x - a * m) / b;
        s->x[i] = toward * clean + along * epsilon;
    }
    if (f->eta > 0 && !last) {
        float keep = sqrtf(ap / as), stir = sqrtf(1 - ap / as);
        rng_randn(r, s->noise, s->n);
        for (size_t i = 0; i < s->n; i++) s->x[i] = keep * s->x[i] + stir * s->noise[i];
    }
    s->done++;
    return true;
}

const sampler_row sampler_lcm = {
    .name = "lcm",
    .label = "LCM",
    .draws = true,
    .aliases = (const char *const[]){"LCMScheduler", "sample_lcm", NULL},
    .has_clean = true,
    .open = open_few,
    .ask = ask_few,
    .tell = tell_lcm,
};

const sampler_row sampler_tcd = {
    .name = "tcd",
    .label = "TCD",
    .aliases = (const char *const[]){"TCDScheduler", NULL},
    .has_eta = true,
    .open = open_few,
    .ask = ask_few,
    .tell = tell_tcd,
};
