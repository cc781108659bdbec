/* SPDX-License-Identifier: Apache-2.0
 *
 * pndm: diffusers' PNDMScheduler. With skip_prk_steps (Stable Diffusion's) the first step
 * is corrected by a second evaluation at its end; without, the first three are Runge-Kutta steps of
 * four evaluations. All others are linear multisteps of one. float32, in the order of its step().
 */
#include <math.h>
#include <string.h>

#include "sigmas.h"

enum { PRK_STEPS = 3, PAST = 3 };

typedef struct pndm {
    ladder ladder; /* its planes alone: no sigmas here */
    bool skip_prk;
    int stride;
    float final_alpha;
} pndm;

static bool open_pndm(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    (void)o;
    if (!c->skip_prk && s->steps <= PRK_STEPS)
        return error_set(e, ERROR_USAGE,
                         "steps is %d: pndm with this model (no skip_prk_steps) begins with three "
                         "Runge-Kutta steps; give at least 4",
                         s->steps);
    if (!c->skip_prk && s->begun)
        return error_set(e, ERROR_USAGE,
                         "pndm with this model (no skip_prk_steps) cannot leave out its first "
                         "steps; choose another --sampler, or strength 1");
    if (!ladder_make(s, sizeof(pndm), PAST, e)) return false;
    pndm *p = s->own;
    p->skip_prk = c->skip_prk;
    p->stride = c->train_steps / s->steps;
    p->final_alpha = c->has_set_alpha_to_one && c->set_alpha_to_one ? 1 : s->schedule.alpha_bar[0];
    return true;
}

static bool is_prk(const sampler *s)
{
    const pndm *p = s->own;
    return !p->skip_prk && s->done < PRK_STEPS;
}

/* A Runge-Kutta step asks at its begin, twice in its middle, and at its end. */
static int timestep_asked(const sampler *s)
{
    const pndm *p = s->own;
    int part = p->ladder.part;
    /* diffusers' list has the second timestep twice: begun later, the first step asks one earlier
     */
    if (!is_prk(s) && s->done == s->begun)
        return s->timestep[s->begun + part - (s->begun + part > 1)];
    if (!is_prk(s)) return s->timestep[s->done];
    if (part == 0) return s->timestep[s->done];
    return s->timestep[s->done + 1] + (part < 3 ? p->stride / 2 : 0);
}

static void ask_pndm(sampler *s, evaluation *out)
{
    const pndm *p = s->own;
    out->part = p->ladder.part;
    out->x = p->ladder.part ? p->ladder.trial : s->x;
    out->t = timestep_asked(s);
}

/* _get_prev_sample: from x at timestep t to `out` at `before`, by the output m. */
static void carry(const sampler *s, const float *x, int t, int before, const float *m, float *out)
{
    const pndm *p = s->own;
    float at = s->schedule.alpha_bar[t];
    float ap = before >= 0 ? s->schedule.alpha_bar[before] : p->final_alpha;
    float bt = 1 - at, bp = 1 - ap, a = sqrtf(at), b = sqrtf(bt);
    float keep = sqrtf(ap / at), change = ap - at, by = at * sqrtf(bp) + sqrtf(at * bt * ap);
    for (size_t i = 0; i < s->n; i++) {
        float epsilon = m[i];
        if (s->predicts == PREDICT_V) epsilon = a * m[i] + b * x[i];
        if (s->predicts == PREDICT_SAMPLE) epsilon = (x[i] - a * m[i]) / b;
        out[i] = keep * x[i] - change * epsilon / by;
    }
}

/* The sum of outputs grows in `slope`; it is remembered as it was at the step's begin. */
static void tell_prk(sampler *s, const float *m)
{
    pndm *p = s->own;
    ladder *l = &p->ladder;
    static const float share[] = {(float)(1.0 / 6), (float)(1.0 / 3), (float)(1.0 / 3),
                                  (float)(1.0 / 6)};
    int begin = s->timestep[s->done], before = timestep_asked(s);
    if (l->part % 2 == 0) before -= p->stride / 2;
    if (!l->part) ladder_remember(s, m);
    for (size_t i = 0; i < s->n; i++)
        l->slope[i] = (l->part ? l->slope[i] : 0) + share[l->part] * m[i];
    bool last = l->part == 3;
    carry(s, s->x, begin, before, last ? l->slope : m, last ? s->x : l->trial);
    l->part = last ? 0 : l->part + 1;
    s->done += last;
}

/* The first step of PLMS: Euler's, then again along the mean of both outputs. */
static void tell_first(sampler *s, const float *m)
{
    pndm *p = s->own;
    ladder *l = &p->ladder;
    int t = timestep_asked(s);
    if (!l->part) {
        ladder_remember(s, m);
        carry(s, s->x, t, t - p->stride, m, l->trial);
    } else {
        for (size_t i = 0; i < s->n; i++) l->slope[i] = (m[i] + l->past[i]) / 2;
        carry(s, s->x, t + p->stride, t, l->slope, l->trial);
    }
    if (!l->part && s->steps > 1) {
        l->part = 1;
        return;
    }
    memcpy(s->x, l->trial, s->n * sizeof *s->x);
    l->part = 0;
    s->done++;
}

static void tell_plms(sampler *s, const float *m)
{
    const pndm *p = s->own;
    const ladder *l = &p->ladder;
    int t = s->timestep[s->done];
    for (size_t i = 0; i < s->n; i++) {
        float a = l->past[i], b = l->past[s->n + i], c = l->past[2 * s->n + i];
        if (s->done == s->begun + 1)
            l->slope[i] = (3 * m[i] - a) / 2;
        else if (s->done == s->begun + 2)
            l->slope[i] = (23 * m[i] - 16 * a + 5 * b) / 12;
        else
            l->slope[i] = (float)(1.0 / 24) * (55 * m[i] - 59 * a + 37 * b - 9 * c);
    }
    ladder_remember(s, m);
    carry(s, s->x, t, t - p->stride, l->slope, s->x);
    s->done++;
}

static bool tell_pndm(sampler *s, const float *output, rng *r, error *e)
{
    (void)r, (void)e;
    if (is_prk(s))
        tell_prk(s, output);
    else if (s->done == s->begun)
        tell_first(s, output);
    else
        tell_plms(s, output);
    return true;
}

const sampler_row sampler_pndm = {
    .name = "pndm",
    .label = "PLMS",
    .aliases = (const char *const[]){"PNDMScheduler", NULL},
    .no_snr = SNR_UNKNOWN,
    .open = open_pndm,
    .begin = ladder_begin,
    .ask = ask_pndm,
    .tell = tell_pndm,
    .latent = ladder_latent,
    .save = ladder_save,
    .load = ladder_load,
    .close = ladder_close,
};
