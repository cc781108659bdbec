/* SPDX-License-Identifier: Apache-2.0
 *
 * schedule: the tables of a noise schedule (betas, cumulated alphas), value for value as torch
 * makes them in float32: a difference in the last place grows along 200 steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "model/schedule.h"

/* torch.linspace in float32: from the start in the first half, from the end in the second. */
static void linspace(float *out, int n, double from, double to)
{
    float start = (float)from, end = (float)to;
    float step = n > 1 ? (end - start) / (float)(n - 1) : 0;
    for (int i = 0; i < n; i++)
        out[i] = i < n / 2 ? fmaf(step, (float)i, start) : fmaf(-step, (float)(n - 1 - i), end);
    if (n == 1) out[0] = start;
}

/* diffusers' betas_for_alpha_bar with the cosine transform. */
static double cosine_alpha_bar(double t)
{
    double c = cos((t + 0.008) / 1.008 * 3.141592653589793 / 2);
    return c * c;
}

static void fill_betas(float *beta, const scheduler_config *c)
{
    int n = c->train_steps;
    double start = number_as_written(c->beta_start), end = number_as_written(c->beta_end);
    if (c->trained_betas) {
        memcpy(beta, c->trained_betas, (size_t)n * sizeof *beta);
        return;
    }
    switch (c->betas) {
    case BETA_LINEAR: linspace(beta, n, start, end); break;
    case BETA_SCALED_LINEAR:
        linspace(beta, n, sqrt(start), sqrt(end));
        for (int i = 0; i < n; i++) beta[i] *= beta[i];
        break;
    case BETA_SQUAREDCOS:
        for (int i = 0; i < n; i++) {
            double ratio = cosine_alpha_bar((double)(i + 1) / n) / cosine_alpha_bar((double)i / n);
            beta[i] = (float)fmin(1 - ratio, 0.999);
        }
        break;
    case BETA_SIGMOID:
        linspace(beta, n, -6, 6);
        for (int i = 0; i < n; i++)
            beta[i] = 1 / (1 + expf(-beta[i])) * (float)(end - start) + (float)start;
        break;
    }
}

/* torch.cumprod of 1 - beta: products in double, each stored as float32. */
static void cumulate(float *alpha_bar, const float *beta, int n)
{
    double product = 1;
    for (int i = 0; i < n; i++) {
        product *= (double)(1 - beta[i]);
        alpha_bar[i] = (float)product;
    }
}

/* diffusers' rescale_zero_terminal_snr: sqrt(alpha_bar) shifted to end at 0 and scaled to begin
 * where it did; the betas follow as 1 minus the ratios. */
static void rescale_zero_snr(float *beta, float *alpha_bar, int n)
{
    cumulate(alpha_bar, beta, n);
    float first = sqrtf(alpha_bar[0]), last = sqrtf(alpha_bar[n - 1]);
    float scale = first / (first - last);
    for (int i = 0; i < n; i++) {
        float root = (sqrtf(alpha_bar[i]) - last) * scale;
        alpha_bar[i] = root * root;
    }
    for (int i = 0; i < n; i++) beta[i] = 1 - (i ? alpha_bar[i] / alpha_bar[i - 1] : alpha_bar[0]);
}

bool noise_schedule_open(noise_schedule *s, const scheduler_config *c, error *e)
{
    int n = c->train_steps;
    *s = (noise_schedule){.steps = n};
    size_t bytes = (size_t)n * sizeof *s->beta;
    s->beta = malloc(bytes);
    s->alpha_bar = malloc(bytes);
    if (!s->beta || !s->alpha_bar) {
        noise_schedule_close(s);
        return error_memory(e, "the noise schedule", 2 * bytes);
    }
    fill_betas(s->beta, c);
    if (c->zero_snr && n > 1) rescale_zero_snr(s->beta, s->alpha_bar, n);
    cumulate(s->alpha_bar, s->beta, n);
    return true;
}

void noise_schedule_close(noise_schedule *s)
{
    free(s->beta);
    free(s->alpha_bar);
    *s = (noise_schedule){0};
}

/* ---- between timesteps ---- */

static double sigma_of(double alpha_bar) { return sqrt((1 - alpha_bar) / alpha_bar); }

static double log_sigma(const noise_schedule *s, int t)
{
    return log(sigma_of((double)s->alpha_bar[t]));
}

double noise_schedule_sigma(const noise_schedule *s, double t)
{
    double at = fmin(fmax(t, 0), s->steps - 1);
    int low = (int)at;
    double share = at - low;
    if (share == 0) return sigma_of((double)s->alpha_bar[low]);
    return exp((1 - share) * log_sigma(s, low) + share * log_sigma(s, low + 1));
}

double noise_schedule_alpha_bar(const noise_schedule *s, double t)
{
    double at = fmin(fmax(t, 0), s->steps - 1);
    if (at == floor(at)) return (double)s->alpha_bar[(int)at];
    double sigma = noise_schedule_sigma(s, at);
    return 1 / (1 + sigma * sigma);
}

double noise_schedule_timestep(const noise_schedule *s, double sigma)
{
    double wanted = log(sigma);
    int low = 0, high = s->steps - 1;
    if (!(wanted > log_sigma(s, low))) return low;
    if (!(wanted < log_sigma(s, high))) return high;
    while (high - low > 1) { /* log_sigma(low) <= wanted < log_sigma(high) */
        int middle = low + (high - low) / 2;
        if (log_sigma(s, middle) <= wanted)
            low = middle;
        else
            high = middle;
    }
    double from = log_sigma(s, low), to = log_sigma(s, high);
    return isinf(to) ? low : low + (wanted - from) / (to - from);
}
