/* SPDX-License-Identifier: Apache-2.0
 *
 * sigmas: see sigmas.h. What diffusers computes in double (numpy) is double here, what it computes
 * in float32 (torch) is float32. */
#include "sigmas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "beta.h"
#include "sigma_text.h"

/* ---- the list ---- */

static double model_sigma(const sampler *s, int t)
{
    float a = s->schedule.alpha_bar[t];
    return (double)sqrtf((1 - a) / a);
}

/* numpy.interp over the model's sigmas */
static double sigma_at(const sampler *s, double t)
{
    int last = s->schedule.steps - 1, low = (int)fmin(fmax(t, 0), last);
    double at = model_sigma(s, low);
    return low >= last || t <= 0 ? at : (model_sigma(s, low + 1) - at) * (t - low) + at;
}

/* Number i of numpy.linspace(from, to, count). */
static double point(double from, double to, int count, int i)
{
    if (count > 1 && i == count - 1) return to;
    return count > 1 ? i * ((to - from) / (count - 1)) + from : from;
}

static double spaced(const sampler *s, const ladder_shape *shape, int offset, int i)
{
    int all = s->schedule.steps, n = s->steps, left = n - 1 - i;
    switch (s->spacing) {
    case SPACING_TRAILING: return rint(all - i * ((double)all / n)) - 1;
    case SPACING_LEADING:
        return shape->between ? (left + 1) * (all / (n + 1)) + offset : left * (all / n) + offset;
    default:
        return shape->between ? rint(point(0, all - 1, n + 1, left + 1))
                              : (double)(float)point(0, all - 1, n, left);
    }
}

/* Sigma i of n by a rule that needs no more than the ends. */
static double by_rule(sigma_kind kind, double low, double high, int n, int i)
{
    const double rho = 7;
    double a, b, share = point(0, 1, n, i);
    switch (kind) {
    case SIGMAS_KARRAS:
        a = pow(high, 1 / rho);
        b = pow(low, 1 / rho);
        return pow(a + share * (b - a), rho);
    case SIGMAS_EXPONENTIAL: return exp(point(log(high), log(low), n, i));
    default: return low + beta_quantile(1 - share, 0.6, 0.6) * (high - low);
    }
}

static float log_model_sigma(const sampler *s, int t) { return logf((float)model_sigma(s, t)); }

double ladder_timestep(const sampler *s, double sigma)
{
    double wanted = log(fmax(sigma, 1e-10));
    int low = 0, high = s->schedule.steps - 1;
    if (high == 0) return 0;
    while (high - low > 1) { /* the last that is not above it, but for the last of all */
        int middle = low + (high - low) / 2;
        if ((double)log_model_sigma(s, middle) <= wanted)
            low = middle;
        else
            high = middle;
    }
    float from = log_model_sigma(s, low), to = log_model_sigma(s, low + 1);
    double w = ((double)from - wanted) / (double)(from - to);
    w = fmin(fmax(w, 0), 1);
    return (1 - w) * low + w * (low + 1);
}

static void fill_ruled(sampler *s, ladder *l, const ladder_shape *shape, double low, double high)
{
    bool karras = s->sigmas == SIGMAS_KARRAS;
    for (int i = 0; i < s->steps; i++) {
        double sigma = by_rule(s->sigmas, low, high, s->steps, i);
        double t = ladder_timestep(s, sigma);
        l->sigma[i] = (float)sigma;
        if (karras && shape->whole) t = rint(t);
        l->t[i] = shape->between ? trunc(t) : t;
    }
}

static void fill_ladder(sampler *s, ladder *l, const scheduler_config *c, const ladder_shape *shape)
{
    int n = s->steps;
    bool ruled = s->sigmas == SIGMAS_KARRAS || s->sigmas == SIGMAS_EXPONENTIAL ||
                 s->sigmas == SIGMAS_BETA;
    for (int i = 0; i < n; i++) {
        l->t[i] = spaced(s, shape, c->steps_offset, i);
        l->sigma[i] = (float)sigma_at(s, l->t[i]);
    }
    double high = shape->between ? model_sigma(s, s->schedule.steps - 1) : sigma_at(s, l->t[0]);
    double low = shape->between ? model_sigma(s, 0) : sigma_at(s, l->t[n - 1]);
    if (ruled) fill_ruled(s, l, shape, low, high);
    l->sigma[n] = 0;
    if (shape->always_ends || (shape->may_end && c->final_sigma_min))
        l->sigma[n] = ruled && shape->ends_last ? l->sigma[n - 1] : (float)model_sigma(s, 0);
}

/* A list that the user wrote, which sampler_open has found to be one of so many steps. */
static void fill_given(sampler *s, ladder *l, const char *text)
{
    sigma_list_read(text, l->sigma, s->steps + 1);
    for (int i = 0; i < s->steps; i++) l->t[i] = ladder_timestep(s, (double)l->sigma[i]);
}

static bool falls(const sampler *s, const ladder *l, error *e)
{
    for (int i = 1; i < s->steps; i++)
        if (!(l->sigma[i] < l->sigma[i - 1]))
            return error_set(e, ERROR_USAGE,
                             "steps is %d: with these sigmas two of them fall together for %s; "
                             "give fewer steps or another spacing",
                             s->steps, s->row->name);
    return true;
}

bool ladder_make(sampler *s, size_t size, int history, error *e)
{
    ladder *l = s->own = calloc(1, size);
    if (!l) return error_memory(e, "a sampler", size);
    l->history = history;
    l->scale = 1;
    return true;
}

bool ladder_open(sampler *s, const scheduler_config *c, const sampler_options *o, size_t size,
                 const ladder_shape *shape, error *e)
{
    size_t rungs = (size_t)s->steps + 1;
    if (*c->unknown)
        return error_set(e, ERROR_MODEL,
                         "the model's scheduler has %s, which %s does not follow here; choose "
                         "another --sampler, such as ddim",
                         c->unknown, s->row->name);
    if (!ladder_make(s, size, shape->history, e)) return false;
    ladder *l = s->own;
    l->sigma = calloc(rungs, sizeof *l->sigma);
    l->t = calloc(rungs, sizeof *l->t);
    if (!l->sigma || !l->t)
        return error_memory(e, "sigmas", rungs * (sizeof *l->sigma + sizeof *l->t));
    if (!o->sigmas) s->sigmas = shape->class_own ? SIGMAS_MODEL : c->sigmas;
    if (s->sigmas == SIGMAS_GIVEN)
        fill_given(s, l, o->sigmas);
    else
        fill_ladder(s, l, c, shape);
    if (!shape->between)
        l->scale = s->spacing == SPACING_LEADING ? sqrtf(l->sigma[0] * l->sigma[0] + 1)
                                                 : l->sigma[0];
    return falls(s, l, e);
}

/* ---- a run ---- */

bool ladder_begin(sampler *s, error *e)
{
    ladder *l = s->own;
    size_t planes = 3 + (size_t)l->history;
    l->in = calloc(planes * s->n, sizeof *l->in);
    if (!l->in) return error_memory(e, "a sampler's history", planes * s->n * sizeof *l->in);
    l->trial = l->in + s->n;
    l->slope = l->trial + s->n;
    l->past = l->slope + s->n;
    for (size_t i = 0; l->scale != 1 && i < s->n; i++) s->x[i] *= l->scale;
    return true;
}

void ladder_close(sampler *s)
{
    ladder *l = s->own;
    if (!l) return;
    free(l->sigma);
    free(l->t);
    free(l->in);
}

size_t ladder_save(const sampler *s, void *to)
{
    const ladder *l = s->own;
    size_t bytes = (size_t)l->history * s->n * sizeof *l->past;
    if (to) memcpy(to, l->past, bytes);
    return bytes;
}

void ladder_load(sampler *s, const void *from)
{
    ladder *l = s->own;
    l->part = 0;
    memcpy(l->past, from, (size_t)l->history * s->n * sizeof *l->past);
}

void ladder_remember(sampler *s, const float *plane)
{
    ladder *l = s->own;
    size_t kept = ((size_t)l->history - 1) * s->n;
    memmove(l->past + s->n, l->past, kept * sizeof *l->past);
    memcpy(l->past, plane, s->n * sizeof *l->past);
}

void ladder_ask(sampler *s, evaluation *out, const float *x, float sigma, double t)
{
    ladder *l = s->own;
    float by = sqrtf(sigma * sigma + 1);
    for (size_t i = 0; i < s->n; i++) l->in[i] = x[i] / by;
    out->x = l->in;
    out->part = l->part;
    out->t = (double)(float)t;
}

void ladder_ask_step(sampler *s, evaluation *out)
{
    const ladder *l = s->own;
    ladder_ask(s, out, s->x, l->sigma[s->done], l->t[s->done]);
}

void ladder_ask_plain(sampler *s, evaluation *out)
{
    const ladder *l = s->own;
    out->t = l->t[s->done];
}

float *ladder_latent(const sampler *s)
{
    const ladder *l = s->own;
    return l->part ? l->trial : s->x;
}

void ladder_level(const sampler *s, float *alpha, float *sigma)
{
    const ladder *l = s->own;
    *alpha = 1;
    *sigma = l->sigma[s->done + (l->part > 0)];
}

void ladder_level_plain(const sampler *s, float *alpha, float *sigma)
{
    const ladder *l = s->own;
    mixture m = ladder_mixture(l->sigma[s->done]);
    *alpha = m.alpha;
    *sigma = m.sigma;
}

void ladder_clean(const sampler *s, const float *x, const float *m, float sigma, float *x0)
{
    float square = sigma * sigma + 1, by = -sigma / sqrtf(square);
    for (size_t i = 0; i < s->n; i++) {
        switch (s->predicts) {
        case PREDICT_EPSILON: x0[i] = x[i] - sigma * m[i]; break;
        case PREDICT_V: x0[i] = m[i] * by + x[i] / square; break;
        case PREDICT_SAMPLE: x0[i] = m[i]; break;
        }
    }
}

mixture ladder_mixture(float sigma)
{
    mixture m = {.alpha = 1 / sqrtf(sigma * sigma + 1)};
    m.sigma = sigma * m.alpha;
    m.lambda = logf(m.alpha) - logf(m.sigma);
    return m;
}

bool mixture_clean(const sampler *s, mixture at, const float *x, const float *m, float *x0,
                   error *e)
{
    sampler_predict(s, at.alpha, at.sigma, x, m, x0);
    return !s->threshold || sampler_limit(s, x0, e);
}
