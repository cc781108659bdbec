/* SPDX-License-Identifier: Apache-2.0
 *
 * loop: denoising. The sampler asks for an evaluation, which models of the mix predict, and is told what
 * guidance made of it, until it is done; after each step others are told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "generate/job.h"
#include "pipeline/layout.h"

/* The network's edge: room for one evaluation. */
typedef struct edge {
    size_t channels, space;  /* of one prediction */
    float *x, *out;          /* [B,h,w,C], [B,h,w,C'] */
    float *part;             /* several models in one step: as out */
    float *guided;           /* [C',h,w] */
} edge;

static void edge_close(edge *r)
{
    free(r->x);
    free(r->out);
    free(r->part);
    free(r->guided);
}

static bool edge_open(edge *r, const job *j, error *e)
{
    size_t batch = (size_t)j->batch;
    *r = (edge){.channels = (size_t)job_first(j)->on.model->unet.out_channels,
                .space = (size_t)j->height * (size_t)j->width};
    size_t in = batch * job_numbers(j), out = batch * r->channels * r->space;
    r->x = malloc(in * sizeof(float));
    r->out = malloc(out * sizeof(float));
    r->part = malloc(out * sizeof(float));
    r->guided = malloc(r->channels * r->space * sizeof(float));
    return (r->x && r->out && r->part && r->guided) ||
           error_memory(e, "latents", (in + 3 * out) * sizeof(float));
}

static void apply_guidance(const job *j, edge *r)
{
    guide(&j->guidance, r->out, j->batch, r->channels, r->space, r->guided);
}

/* The network's output where the sampler wants it, before guidance, in r->out. */
static bool evaluate(generator *g, const job *j, edge *r, const evaluation *at, error *e)
{
    size_t n = job_numbers(j);
    char where[96];
    snprintf(where, sizeof where, "step %d of %d (timestep %s)", at->step + 1, sampler_steps(j->sampler),
             number_exact_float((float)at->t).text);
    layout_channels_last(r->x, at->x, (size_t)j->channels, r->space);
    if (j->batch > 1) memcpy(r->x + n, r->x, n * sizeof *r->x);
    if (!denoiser_run(g->denoiser, r->x, (float)at->t, r->out, where, e)) return false;
    return g->unet_packed = true;
}

/* The weighted sum of several models' predictions. Guidance is linear, so the sum is guided as a whole
 * would be; each is guided by itself. */
static bool predict_sum(const job *j, edge *r, const mix_step *s, const evaluation *at,
                        error *e)
{
    size_t n = r->channels * r->space;
    memset(r->part, 0, n * sizeof *r->part);
    for (int k = 0; k < s->terms; k++) {
        if (!evaluate(j->models[s->model[k]], j, r, at, e)) return false;
        apply_guidance(j, r);
        for (size_t x = 0; x < n; x++) r->part[x] += s->share[k] * r->guided[x];
    }
    memcpy(r->guided, r->part, n * sizeof *r->part);
    return true;
}

/* The unconditional half from one model, the conditional from another. */
static bool predict_split(const job *j, edge *r, const mix_step *s, const evaluation *at,
                        error *e)
{
    size_t half = r->channels * r->space;
    if (!evaluate(j->models[s->model[0]], j, r, at, e)) return false;
    memcpy(r->part, r->out, half * sizeof *r->part);
    if (!evaluate(j->models[s->model[1]], j, r, at, e)) return false;
    if (j->batch > 1) memcpy(r->out, r->part, half * sizeof *r->part);
    apply_guidance(j, r);
    return true;
}

/* The guided output. A mix is of steps; all evaluations of a step are of its models. */
static bool predict(const job *j, edge *r, const evaluation *at, error *e)
{
    const mix_step *s = j->mix ? &j->mix->step[at->step] : NULL;
    if (s && s->split) return predict_split(j, r, s, at, e);
    if (s && (s->terms > 1 || s->share[0] != 1)) return predict_sum(j, r, s, at, e);
    if (!evaluate(j->models[s ? s->model[0] : 0], j, r, at, e)) return false;
    apply_guidance(j, r);
    return true;
}

/* ---- the steps ---- */

static bool progress(const job *j, error *e)
{
    if (!j->o->progress ||
        !j->o->progress(j->o->user, sampler_done(j->sampler), sampler_steps(j->sampler)))
        return true;
    return error_set(e, ERROR_CANCELLED, "stopped");
}

static bool tell_reached(const job *j, error *e)
{
    void *state = NULL;
    size_t size;
    if (!j->o->reached) return true;
    if (!sampler_save(j->sampler, &state, &size, e)) return false;
    generate_snapshot now = {.step = sampler_done(j->sampler),
                             .latent = sampler_latent(j->sampler),
                             .numbers = job_numbers(j),
                             .random = &j->rng,
                             .sampler = state,
                             .sampler_size = size};
    j->o->reached(j->o->user, &now);
    free(state);
    return true;
}

static bool begin(job *j, error *e)
{
    const generate_snapshot *from = j->o->from;
    if (!sampler_begin(j->sampler, j->noise, job_numbers(j), e)) return false;
    if (!from) return true;
    if (!sampler_load(j->sampler, from->step, from->latent, from->sampler, from->sampler_size, e))
        return false;
    j->rng = *from->random;
    return true;
}

/* After a step. */
static bool step_done(const job *j, error *e)
{
    if (!pipeline_finite(sampler_latent(j->sampler), job_numbers(j)))
        return error_set(e, ERROR_NUMERIC, "step %d of %d: the sampler gave NaN or infinity; try other "
                         "settings (sampler, spacing, guidance)", sampler_done(j->sampler),
                         sampler_steps(j->sampler));
    return tell_reached(j, e) && progress(j, e);
}

static bool run(job *j, edge *r, error *e)
{
    evaluation at;
    bool ok = progress(j, e);
    while (ok && sampler_ask(j->sampler, &at)) {
        ok = predict(j, r, &at, e) && sampler_tell(j->sampler, r->guided, &j->rng, e);
        if (ok && sampler_done(j->sampler) > at.step) ok = step_done(j, e);
    }
    return ok;
}

bool loop_run(job *j, error *e)
{
    edge r;
    bool ok = edge_open(&r, j, e) && begin(j, e) && run(j, &r, e);
    for (int k = 0; k < j->model_count; k++)
        if (j->models[k]->denoiser) denoiser_release(j->models[k]->denoiser); /* not all are asked */
    edge_close(&r);
    return ok;
}
