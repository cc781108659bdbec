/* SPDX-License-Identifier: Apache-2.0
 *
 * lms: diffusers' LMSDiscreteScheduler: the polynomial through the last four slopes,
 * integrated over the step. */
#include <math.h>

#include "sigmas.h"

enum { ORDER = 4 };

static bool open_lms(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    static const ladder_shape shape = {.history = ORDER - 1};
    return ladder_open(s, c, o, sizeof(ladder), &shape, e);
}

/* Lagrange's polynomial that is 1 at the sigma `which` steps back, and 0 at the others. */
static double lagrange(const float *sigma, int order, int which, double at)
{
    double product = 1;
    for (int k = 0; k < order; k++)
        if (k != which) product *= (at - (double)sigma[-k]) / (double)(sigma[-which] - sigma[-k]);
    return product;
}

/* Its integral from sigma[0] to sigma[1]: it is a cubic, for which two points are enough (Gauss).
 */
static float coefficient(const float *sigma, int order, int which)
{
    double half = ((double)sigma[1] - (double)sigma[0]) / 2, middle = (double)sigma[0] + half;
    double off = half / sqrt(3);
    return (float)(half * (lagrange(sigma, order, which, middle - off) +
                           lagrange(sigma, order, which, middle + off)));
}

static bool tell_lms(sampler *s, const float *output, rng *r, error *e)
{
    ladder *l = s->own;
    const float *sigma = l->sigma + s->done;
    /* where steps are left out, the first ones' curve has points without slopes, as there */
    int order = s->done + 1 < ORDER ? s->done + 1 : ORDER;
    int known = s->done + 1 - s->begun < order ? s->done + 1 - s->begun : order;
    float by[ORDER];
    (void)r, (void)e;
    ladder_clean(s, s->x, output, *sigma, s->clean);
    for (int k = 0; k < order; k++) by[k] = coefficient(sigma, order, k);
    for (size_t i = 0; i < s->n; i++) {
        float sum = by[0] * (l->slope[i] = (s->x[i] - s->clean[i]) / *sigma);
        for (int k = 1; k < known; k++) sum += by[k] * l->past[(size_t)(k - 1) * s->n + i];
        s->x[i] += sum;
    }
    ladder_remember(s, l->slope);
    s->done++;
    return true;
}

const sampler_row sampler_lms = {
    .name = "lms",
    .label = "LMS",
    .aliases = (const char *const[]){"LMSDiscreteScheduler", "sample_lms", "k_lms", NULL},
    .has_sigmas = true,
    .has_clean = true,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_UNKNOWN,
    .open = open_lms,
    .begin = ladder_begin,
    .ask = ladder_ask_step,
    .tell = tell_lms,
    .level = ladder_level,
    .save = ladder_save,
    .load = ladder_load,
    .close = ladder_close,
};
