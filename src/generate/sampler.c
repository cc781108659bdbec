/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler: timesteps and steps of diffusers' DDIMScheduler and DDPMScheduler. Coefficients are
 * float32 and each operation stands alone, in the order of their step(), since torch rounds after
 * each. */
#include "generate/sampler.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

struct sampler {
    sampler_kind kind;
    noise_schedule schedule;
    prediction predicts;
    bool clip, threshold;
    float clip_range, threshold_ratio, sample_max;
    float eta;
    bool use_clipped_output;
    variance variance;
    float final_alpha;   /* DDIM: alpha_bar "before" timestep 0 */
    int stride;          /* DDIM: from a timestep to the one before it */
    int count;
    int *timestep;       /* [count], falling */
};

/* ---- names ---- */

static const char *const kind_names[] = {"ddim", "ddpm"};
static const char *const spacing_names[] = {"leading", "trailing", "linspace"};
static const char *const variance_names[] = {
    "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range",
};

static int find_name(const char *const *names, int count, const char *text)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], text)) return i;
    return -1;
}

bool sampler_kind_parse(sampler_kind *out, const char *text)
{
    int found = find_name(kind_names, 2, text);
    if (found >= 0) *out = (sampler_kind)found;
    return found >= 0;
}

bool variance_parse(variance *out, const char *text)
{
    int found = find_name(variance_names, 6, text);
    if (found >= 0) *out = (variance)found;
    return found >= 0;
}

bool spacing_parse(spacing *out, const char *text)
{
    int found = find_name(spacing_names, 3, text);
    if (found >= 0) *out = (spacing)found;
    return found >= 0;
}

const char *sampler_kind_name(sampler_kind k) { return kind_names[k]; }
const char *variance_name(variance v) { return variance_names[v]; }
const char *spacing_name(spacing s) { return spacing_names[s]; }

/* ---- opening ---- */

/* set_timesteps of both schedulers, in double and rounded half to even as numpy does. Trailing
 * spacing gives N steps for every N: numpy's arange in set_timesteps, by a rounding error, gives
 * one more, at timestep -1, for some (61, 103, 121 ... of 1000). */
static void fill_timesteps(int *t, int n, int train_steps, spacing how, int offset)
{
    for (int i = 0; i < n; i++) {
        int left = n - 1 - i;
        switch (how) {
        case SPACING_LEADING:
            t[i] = left * (train_steps / n) + offset;
            break;
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

static bool check_options(const scheduler_config *c, const sampler_options *o, error *e)
{
    if (o->steps < 1)
        return error_set(e, ERROR_USAGE, "steps is %d; give at least 1", o->steps);
    if (o->steps > c->train_steps)
        return error_set(e, ERROR_USAGE,
                         "steps is %d, but the model was trained with %d timesteps; "
                         "give at most %d",
                         o->steps, c->train_steps, c->train_steps);
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
            s->count, c->steps_offset, first, c->train_steps - 1);
    if (s->predicts == PREDICT_EPSILON && !(s->schedule.alpha_bar[first] > 0))
        return error_set(e, ERROR_MODEL, "at timestep %d the model's schedule has no signal left "
                         "(rescale_betas_zero_snr), and predicted noise cannot begin there; use "
                         "leading spacing", first);
    return true;
}

bool sampler_open(sampler **out, const scheduler_config *c, const sampler_options *o, error *e)
{
    *out = NULL;
    if (!check_options(c, o, e)) return false;
    sampler *s = calloc(1, sizeof *s);
    if (!s) return error_memory(e, "a sampler", sizeof *s);
    s->kind = o->kind;
    s->predicts = c->predicts;
    s->clip = c->clip_sample && !c->thresholding;
    s->threshold = c->thresholding;
    s->clip_range = c->clip_range;
    s->threshold_ratio = c->threshold_ratio;
    s->sample_max = c->sample_max;
    s->eta = o->eta;
    s->use_clipped_output = o->use_clipped_output;
    s->variance = o->has_variance ? o->variance : c->variance;
    s->stride = c->train_steps / o->steps;
    s->count = o->steps;
    s->timestep = malloc((size_t)s->count * sizeof *s->timestep);
    if (!s->timestep) error_memory(e, "timesteps", (size_t)s->count * sizeof *s->timestep);
    if (!s->timestep || !noise_schedule_open(&s->schedule, c, e)) {
        sampler_close(&s);
        return false;
    }
    s->final_alpha = c->set_alpha_to_one ? 1 : s->schedule.alpha_bar[0];
    fill_timesteps(s->timestep, s->count, c->train_steps, o->has_spacing ? o->spacing : c->spacing,
                   c->steps_offset);
    if (!check_timesteps(s, c, e)) {
        sampler_close(&s);
        return false;
    }
    *out = s;
    return true;
}

void sampler_close(sampler **s)
{
    if (!*s) return;
    noise_schedule_close(&(*s)->schedule);
    free((*s)->timestep);
    free(*s);
    *s = NULL;
}

int sampler_count(const sampler *s) { return s->count; }

int sampler_timestep(const sampler *s, int i)
{
    assert(i >= 0 && i < s->count);
    return s->timestep[i];
}

/* DDIM draws in every step once eta is above 0; DDPM in all but timestep 0. */
bool sampler_draws(const sampler *s, int i)
{
    return s->kind == SAMPLER_DDIM ? s->eta > 0 : s->timestep[i] > 0;
}

bool sampler_learned(const sampler *s)
{
    return s->kind == SAMPLER_DDPM &&
           (s->variance == VARIANCE_LEARNED || s->variance == VARIANCE_LEARNED_RANGE);
}

/* ---- the clean picture ---- */

/* x0 from the network's output m at latent x. */
static void predict_clean(const sampler *s, float alpha_bar, const float *x, const float *m,
                          float *x0, size_t n)
{
    float a = sqrtf(alpha_bar), b = sqrtf(1 - alpha_bar);
    for (size_t i = 0; i < n; i++) {
        switch (s->predicts) {
        case PREDICT_EPSILON: x0[i] = (x[i] - b * m[i]) / a; break;
        case PREDICT_V:       x0[i] = a * x[i] - b * m[i]; break;
        case PREDICT_SAMPLE:  x0[i] = m[i]; break;
        }
    }
}

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* _threshold_sample: clamps to the quantile of |x0| (at least 1) and divides by it. The quantile is
 * torch's: linear between order statistics, its rank and weight in float32. */
static bool threshold_clean(const sampler *s, float *x0, size_t n, error *e)
{
    float *sorted = malloc(n * sizeof *sorted);
    if (!sorted) return error_memory(e, "thresholding", n * sizeof *sorted);
    for (size_t i = 0; i < n; i++) sorted[i] = fabsf(x0[i]);
    qsort(sorted, n, sizeof *sorted, compare_floats);
    float rank = s->threshold_ratio * (float)(n - 1);
    size_t below = (size_t)rank, above = (size_t)ceilf(rank);
    if (above > n - 1) above = n - 1; /* past 2^24 values n - 1 may have been rounded up */
    if (below > above) below = above;
    float weight = clamp(rank - (float)below, 0, 1), rise = sorted[above] - sorted[below];
    float limit = weight < 0.5f ? sorted[below] + weight * rise
                                : sorted[above] - rise * (1 - weight);
    free(sorted);
    limit = fminf(fmaxf(limit, 1), s->sample_max); /* torch.clamp: the upper bound wins */
    for (size_t i = 0; i < n; i++) x0[i] = clamp(x0[i], -limit, limit) / limit;
    return true;
}

static bool limit_clean(const sampler *s, float *x0, size_t n, error *e)
{
    if (s->threshold) return threshold_clean(s, x0, n, e);
    if (s->clip)
        for (size_t i = 0; i < n; i++) x0[i] = clamp(x0[i], -s->clip_range, s->clip_range);
    return true;
}

/* ---- steps ---- */

/* DDIMScheduler.step: toward x0 and back along the predicted noise. Before timestep t comes
 * t - T//N whatever the spacing, as there (not linspace's, nor trailing's where N does not
 * divide T). */
static void ddim_step(const sampler *s, int t, float *x, const float *m, const float *x0, size_t n,
                      const float *noise)
{
    int before = t - s->stride;
    float at = s->schedule.alpha_bar[t];
    float ap = before >= 0 ? s->schedule.alpha_bar[before] : s->final_alpha;
    float a = sqrtf(at), b = sqrtf(1 - at);
    float v = (1 - ap) / (1 - at) * (1 - at / ap);
    float sigma = s->eta * sqrtf(v);
    /* Without signal at t, sigma^2 is all of 1 - ap; rounded, it may be more (NaN there). */
    float along = sqrtf(fmaxf(1 - ap - sigma * sigma, 0)), toward = sqrtf(ap);
    for (size_t i = 0; i < n; i++) {
        float epsilon = m[i];
        if (s->use_clipped_output)
            epsilon = (x[i] - a * x0[i]) / b;
        else if (s->predicts == PREDICT_SAMPLE)
            epsilon = (x[i] - a * m[i]) / b;
        else if (s->predicts == PREDICT_V)
            epsilon = a * m[i] + b * x[i];
        x[i] = toward * x0[i] + along * epsilon;
        if (noise) x[i] += sigma * noise[i];
    }
}

/* The factor of the noise where it is the same for all values: _get_variance's fixed kinds. There,
 * fixed_small_log is a deviation already, and fixed_large_log takes the square root of a logarithm,
 * which is NaN; here it is what it means, the deviation whose logarithm that is half of. */
static float fixed_deviation(variance kind, float small, float large)
{
    switch (kind) {
    case VARIANCE_FIXED_SMALL:     return sqrtf(small);
    case VARIANCE_FIXED_SMALL_LOG: return expf(0.5f * logf(small));
    case VARIANCE_FIXED_LARGE:     return sqrtf(large);
    default:                       return expf(0.5f * logf(large));
    }
}

/* DDPMScheduler.step: the posterior's mean, and noise unless noise is NULL. learned: the second
 * half of the network's output. */
static void ddpm_step(const sampler *s, int i, float *x, const float *learned, const float *x0,
                      size_t n, const float *noise)
{
    float at = s->schedule.alpha_bar[s->timestep[i]];
    float ap = i + 1 < s->count ? s->schedule.alpha_bar[s->timestep[i + 1]] : 1;
    float alpha = at / ap, beta = 1 - alpha;
    float clean = sqrtf(ap) * beta / (1 - at);
    float keep = sqrtf(alpha) * (1 - ap) / (1 - at);
    for (size_t k = 0; k < n; k++) x[k] = clean * x0[k] + keep * x[k];
    if (!noise) return;

    float small = fmaxf((1 - ap) / (1 - at) * beta, 1e-20f);
    if (s->variance == VARIANCE_LEARNED) {
        for (size_t k = 0; k < n; k++) x[k] += sqrtf(learned[k]) * noise[k];
    } else if (s->variance == VARIANCE_LEARNED_RANGE) {
        float low = logf(small), high = logf(beta);
        for (size_t k = 0; k < n; k++) {
            float share = (learned[k] + 1) / 2;
            x[k] += expf(0.5f * (share * high + (1 - share) * low)) * noise[k];
        }
    } else {
        float deviation = fixed_deviation(s->variance, small, beta);
        for (size_t k = 0; k < n; k++) x[k] += deviation * noise[k];
    }
}

bool sampler_step_with(const sampler *s, int i, float *latent, const float *output, size_t n,
                       const float *noise, error *e)
{
    assert(i >= 0 && i < s->count && n > 0);
    int t = s->timestep[i];
    float *x0 = malloc(n * sizeof *x0);
    if (!x0) return error_memory(e, "a sampler's step", n * sizeof *x0);
    predict_clean(s, s->schedule.alpha_bar[t], latent, output, x0, n);
    bool ok = limit_clean(s, x0, n, e);
    if (!sampler_draws(s, i)) noise = NULL;
    if (ok && s->kind == SAMPLER_DDIM)
        ddim_step(s, t, latent, output, x0, n, noise);
    else if (ok)
        ddpm_step(s, i, latent, output + n, x0, n, noise);
    free(x0);
    return ok;
}

bool sampler_step(const sampler *s, int i, float *latent, const float *output, size_t n, rng *r,
                  error *e)
{
    if (!sampler_draws(s, i)) return sampler_step_with(s, i, latent, output, n, NULL, e);
    float *noise = malloc(n * sizeof *noise);
    if (!noise) return error_memory(e, "a step's noise", n * sizeof *noise);
    rng_randn(r, noise, n);
    bool ok = sampler_step_with(s, i, latent, output, n, noise, e);
    free(noise);
    return ok;
}
