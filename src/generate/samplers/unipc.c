/* SPDX-License-Identifier: Apache-2.0
 *
 * unipc: diffusers' UniPCMultistepScheduler of second order ("bh2", predict_x0): what a
 * step led to is corrected by the output that is found there, and the next one goes on from that.
 * float32, in the order of its step(). */
#include <math.h>
#include <string.h>

#include "sigmas.h"

typedef struct unipc {
    ladder ladder; /* past: the clean pictures of the last two steps, and where the last began */
    bool lower_at_end;
} unipc;

static bool open_unipc(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    static const ladder_shape shape = {
        .between = true, .whole = true, .may_end = true, .ends_last = true, .history = 3};
    if (c->solver_order != 2 || !strcmp(c->solver, "bh1"))
        return error_set(e, ERROR_MODEL,
                         "the model's scheduler wants a solver of order %d%s, and unipc is of "
                         "order 2 (bh2); choose another --sampler",
                         c->solver_order, !strcmp(c->solver, "bh1") ? " (bh1)" : "");
    if (!ladder_open(s, c, o, sizeof(unipc), &shape, e)) return false;
    ((unipc *)s->own)->lower_at_end = c->lower_order_final;
    return true;
}

static int order_of(const sampler *s, int step)
{
    const unipc *u = s->own;
    return step == s->begun || (u->lower_at_end && step + 1 == s->steps) ? 1 : 2;
}

/* What predictor and corrector share, for a step between sigma[0] and sigma[1]. */
typedef struct stretch {
    float keep, toward, bend; /* x = keep * x - toward * m0 - bend * (...) */
    float rk;                 /* where the step before began, in this one's lengths */
    float share[2];           /* of the difference to the step before, and to the new output */
} stretch;

static stretch stretch_of(const float *sigma, int order)
{
    mixture to = ladder_mixture(sigma[1]), from = ladder_mixture(sigma[0]);
    float h = to.lambda - from.lambda, hh = -h, phi = expm1f(hh);
    stretch out = {.keep = to.sigma / from.sigma,
                   .toward = to.alpha * phi,
                   .bend = to.alpha * phi,
                   .share = {0, 0.5f}};
    if (order == 1) return out;
    out.rk = (ladder_mixture(sigma[-1]).lambda - from.lambda) / h;
    float first = phi / hh - 1, second = first / hh - 0.5f;
    float b1 = first / phi, b2 = second * 2 / phi;
    out.share[0] = (b1 - b2) / (1 - out.rk); /* two equations: 1 1 | b1, rk 1 | b2 */
    out.share[1] = b1 - out.share[0];
    return out;
}

/* s->x, which the step before led to, once more, by the clean picture that is found there. */
static void correct(sampler *s)
{
    const ladder *l = s->own;
    int order = order_of(s, s->done - 1);
    stretch p = stretch_of(l->sigma + s->done - 1, order);
    const float *m0 = l->past, *m1 = m0 + s->n, *begin = m1 + s->n;
    for (size_t i = 0; i < s->n; i++) {
        float more = p.share[1] * (s->clean[i] - m0[i]);
        if (order == 2) more += p.share[0] * ((m1[i] - m0[i]) / p.rk);
        s->x[i] = p.keep * begin[i] - p.toward * m0[i] - p.bend * more;
    }
}

static bool tell_unipc(sampler *s, const float *output, rng *r, error *e)
{
    ladder *l = s->own;
    (void)r;
    if (!mixture_clean(s, ladder_mixture(l->sigma[s->done]), s->x, output, s->clean, e))
        return false;
    if (s->done > s->begun) correct(s);
    memcpy(l->past + s->n, l->past, s->n * sizeof *l->past);
    memcpy(l->past, s->clean, s->n * sizeof *l->past);
    memcpy(l->past + 2 * s->n, s->x, s->n * sizeof *l->past);
    int order = order_of(s, s->done);
    stretch p = stretch_of(l->sigma + s->done, order);
    const float *m0 = l->past, *m1 = m0 + s->n;
    for (size_t i = 0; i < s->n; i++) {
        s->x[i] = p.keep * s->x[i] - p.toward * m0[i];
        if (order == 2) s->x[i] -= p.bend * (0.5f * ((m1[i] - m0[i]) / p.rk));
    }
    s->done++;
    return true;
}

const sampler_row sampler_unipc = {
    .name = "unipc",
    .label = "UniPC",
    .aliases = (const char *const[]){"UniPCMultistepScheduler", "uni_pc", "uni_pc_bh2", NULL},
    .has_sigmas = true,
    .has_clean = true,
    .spacing = SPACING_LINSPACE,
    .no_snr = SNR_TINY,
    .open = open_unipc,
    .begin = ladder_begin,
    .ask = ladder_ask_plain,
    .tell = tell_unipc,
    .level = ladder_level_plain,
    .save = ladder_save,
    .load = ladder_load,
    .close = ladder_close,
};
