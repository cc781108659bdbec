/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler: timesteps, and what is the same for every row of the table; see sampler.h. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "row.h"
#include "sigma_text.h"

/* ---- opening ---- */

/* set_timesteps of both schedulers, in double and rounded half to even as numpy does. Trailing
 * spacing gives N steps for every N: numpy's arange in set_timesteps, by a rounding error, gives
 * one more, at timestep -1, for some (61, 103, 121 ... of 1000). */
static void fill_timesteps(int *t, int n, int train_steps, spacing how, int offset)
{
    for (int i = 0; i < n; i++) {
        int left = n - 1 - i;
        switch (how) {
        case SPACING_LEADING: t[i] = left * (train_steps / n) + offset; break;
        case SPACING_TRAILING:
            t[i] = (int)rint(train_steps - i * ((double)train_steps / n)) - 1;
            break;
        case SPACING_LINSPACE: {
            double step = n > 1 ? (double)(train_steps - 1) / (n - 1) : 0;
            t[i] = left && left == n - 1 ? train_steps - 1 : (int)rint(left * step);
            break;
        }
        }
    }
}

static bool check_sigmas(const sampler_options *o, sigma_kind *kind, error *e)
{
    int steps;
    *kind = SIGMAS_MODEL;
    if (!o->sigmas) return true;
    if (!sigmas_read(o->sigmas, kind, &steps, e)) return false;
    if (*kind != SIGMAS_MODEL && !sampler_kind_has_sigmas(o->kind))
        return error_set(e, ERROR_USAGE,
                         "the sampler %s has no sigmas to choose (only those that likeness "
                         "samplers says so of); leave --sigmas out",
                         sampler_kind_name(o->kind));
    if (steps && steps != o->steps)
        return error_set(e, ERROR_USAGE, "sigmas list %d step%s, but steps is %d; make them equal",
                         steps, steps == 1 ? "" : "s", o->steps);
    return true;
}

static bool check_options(const scheduler_config *c, const sampler_options *o, error *e)
{
    if (!sampler_kind_known(o->kind))
        return error_set(e, ERROR_USAGE, "there is no sampler %d", o->kind);
    if (o->steps < 1) return error_set(e, ERROR_USAGE, "steps is %d; give at least 1", o->steps);
    if (o->steps > c->train_steps)
        return error_set(e, ERROR_USAGE,
                         "steps is %d, but the model was trained with %d timesteps; "
                         "give at most %d",
                         o->steps, c->train_steps, c->train_steps);
    if (o->skip < 0 || o->skip >= o->steps)
        return error_set(e, ERROR_USAGE, "of %d steps %d are left out; one at least must be made",
                         o->steps, o->skip);
    if (!(o->eta >= 0 && o->eta <= 1))
        return error_set(e, ERROR_USAGE, "eta is %s; give a number from 0 to 1",
                         number_exact_float(o->eta).text);
    if (c->thresholding && !(c->threshold_ratio >= 0 && c->threshold_ratio <= 1))
        return error_set(e, ERROR_MODEL,
                         "the scheduler's dynamic_thresholding_ratio is %s; it should "
                         "lie between 0 and 1",
                         number_exact_float(c->threshold_ratio).text);
    return true;
}

/* Steps that the schedule cannot take: past its end, or from no signal by predicted noise. */
static bool check_timesteps(const sampler *s, const scheduler_config *c, error *e)
{
    int first = s->timestep[0];
    if (first >= c->train_steps)
        return error_set(
            e, ERROR_USAGE,
            "%d steps with leading spacing and steps_offset %d begin at "
            "timestep %d, past the model's last, %d; give fewer steps or trailing spacing",
            s->steps, c->steps_offset, first, c->train_steps - 1);
    if (s->predicts == PREDICT_EPSILON && !(s->schedule.alpha_bar[first] > 0))
        return error_set(e, ERROR_MODEL,
                         "at timestep %d the model's schedule has no signal left "
                         "(rescale_betas_zero_snr), and predicted noise cannot begin there; use "
                         "leading spacing",
                         first);
    return true;
}

static bool open_schedule(sampler *s, const scheduler_config *c, error *e)
{
    scheduler_config known = *c;
    if (s->row->no_snr == SNR_UNKNOWN) known.zero_snr = false;
    if (!noise_schedule_open(&s->schedule, &known, e)) return false;
    if (known.zero_snr && s->row->no_snr == SNR_TINY)
        s->schedule.alpha_bar[s->schedule.steps - 1] = 0x1p-24f;
    return true;
}

static bool fill(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    size_t bytes = (size_t)o->steps * sizeof *s->timestep;
    s->predicts = c->predicts;
    s->clip = c->clip_sample && !c->thresholding;
    s->threshold = c->thresholding;
    s->clip_range = c->clip_range;
    s->threshold_ratio = c->threshold_ratio;
    s->sample_max = c->sample_max;
    s->steps = o->steps;
    s->begun = s->done = o->skip;
    s->timestep = malloc(bytes);
    if (!s->timestep) return error_memory(e, "timesteps", bytes);
    if (!open_schedule(s, c, e) || !check_sigmas(o, &s->sigmas, e)) return false;
    s->spacing = s->sigmas == SIGMAS_TRAILING ? SPACING_TRAILING
                 : o->has_spacing             ? o->spacing
                 : c->has_spacing             ? c->spacing
                                              : s->row->spacing;
    fill_timesteps(s->timestep, s->steps, c->train_steps, s->spacing, c->steps_offset);
    return check_timesteps(s, c, e) && (!s->row->open || (*s->row->open)(s, c, o, e));
}

bool sampler_open(sampler **out, const scheduler_config *c, const sampler_options *o, error *e)
{
    *out = NULL;
    if (!check_options(c, o, e)) return false;
    sampler *s = calloc(1, sizeof *s);
    if (!s) return error_memory(e, "a sampler", sizeof *s);
    s->row = sampler_table[o->kind];
    if (fill(s, c, o, e))
        *out = s;
    else
        sampler_close(&s);
    return *out;
}

void sampler_close(sampler **handle)
{
    sampler *s = *handle;
    if (!s) return;
    if (s->row->close) s->row->close(s);
    noise_schedule_close(&s->schedule);
    free(s->timestep);
    free(s->x);
    free(s->clean);
    free(s->noise);
    free(s->own);
    free(s);
    *handle = NULL;
}

int sampler_steps(const sampler *s) { return s->steps - s->begun; }

bool sampler_learned(const sampler *s) { return s->learned; }

/* ---- a run ---- */

bool sampler_begin(sampler *s, const float *noise, size_t n, error *e)
{
    assert(n > 0 && !s->x);
    s->n = n;
    s->x = malloc(n * sizeof *s->x);
    s->clean = malloc(n * sizeof *s->clean);
    s->noise = malloc(n * sizeof *s->noise);
    if (!s->x || !s->clean || !s->noise)
        return error_memory(e, "a sampler's latents", 3 * n * sizeof *s->x);
    memcpy(s->x, noise, n * sizeof *s->x);
    return !s->row->begin || s->row->begin(s, e);
}

bool sampler_ask(sampler *s, evaluation *out)
{
    if (s->done == s->steps) return false;
    *out = (evaluation){.step = s->done - s->begun, .x = s->x};
    s->row->ask(s, out);
    return true;
}

bool sampler_tell(sampler *s, const float *output, rng *r, error *e)
{
    assert(s->x && s->done < s->steps);
    return s->row->tell(s, output, r, e);
}

int sampler_done(const sampler *s) { return s->done - s->begun; }

const float *sampler_latent(const sampler *s) { return s->x; }

const float *sampler_foretold(const sampler *s)
{
    return s->row->has_clean && s->done > s->begun ? s->clean : NULL;
}

/* ---- pictures that are not begun from noise alone ---- */

static void level(sampler *s, float *alpha, float *sigma)
{
    evaluation next = {.t = 0};
    *alpha = 1;
    *sigma = 0;
    if (s->done == s->steps) return;
    if (s->row->level) {
        (*s->row->level)(s, alpha, sigma);
        return;
    }
    s->row->ask(s, &next);
    float bar = s->schedule.alpha_bar[(int)next.t];
    *alpha = sqrtf(bar);
    *sigma = sqrtf(1 - bar);
}

void sampler_add_noise(sampler *s, const float *clean, const float *noise)
{
    float alpha, sigma;
    level(s, &alpha, &sigma);
    for (size_t i = 0; i < s->n; i++) s->x[i] = alpha * clean[i] + sigma * noise[i];
}

void sampler_keep(sampler *s, const float *clean, const float *noise, const float *mask,
                  size_t space)
{
    float alpha, sigma, *x = s->row->latent ? (*s->row->latent)(s) : s->x;
    level(s, &alpha, &sigma);
    for (size_t i = 0; i < s->n; i++) {
        float m = mask[i % space];
        x[i] = (1 - m) * (alpha * clean[i] + sigma * noise[i]) + m * x[i];
    }
}

bool sampler_save(const sampler *s, void **state, size_t *size, error *e)
{
    *size = s->row->save ? s->row->save(s, NULL) : 0;
    *state = *size ? malloc(*size) : NULL;
    if (!*size) return true;
    if (!*state) return error_memory(e, "a sampler's state", *size);
    s->row->save(s, *state);
    return true;
}

bool sampler_load(sampler *s, int step, const float *latent, const void *state, size_t size,
                  error *e)
{
    assert(s->x);
    if (step < 0 || step > sampler_steps(s))
        return error_set(e, ERROR_USAGE, "a run of %d steps cannot go on from step %d",
                         sampler_steps(s), step);
    if (size != (s->row->save ? s->row->save(s, NULL) : 0))
        return error_set(e, ERROR_USAGE,
                         "a run by the sampler %s cannot go on from another sampler's",
                         s->row->name);
    memcpy(s->x, latent, s->n * sizeof *s->x);
    s->done = s->begun + step;
    if (size) s->row->load(s, state);
    return true;
}
