/* SPDX-License-Identifier: Apache-2.0
 *
 * loop: denoising, step by step: which models predict, what is made of their predictions, and who is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* The network's output at step i, before guidance, in r->out. */
static bool evaluate(generator *g, const job *j, edge *r, int i, error *e)
{
    int timestep = sampler_timestep(j->sampler, i);
    size_t n = job_numbers(j);
    char where[80];
    snprintf(where, sizeof where, "step %d of %d (timestep %d)", i + 1, sampler_count(j->sampler),
             timestep);
    layout_channels_last(r->x, j->latent, (size_t)j->channels, r->space);
    if (j->batch > 1) memcpy(r->x + n, r->x, n * sizeof *r->x);
    if (!denoiser_run(g->denoiser, r->x, (float)timestep, r->out, where, e)) return false;
    return g->unet_packed = true;
}

/* The weighted sum of several models' predictions. Guidance is linear, so the sum is guided as a whole
 * would be; each is guided by itself. */
static bool predict_sum(const job *j, edge *r, const mix_step *s, int i, error *e)
{
    size_t n = r->channels * r->space;
    memset(r->part, 0, n * sizeof *r->part);
    for (int k = 0; k < s->terms; k++) {
        if (!evaluate(j->models[s->model[k]], j, r, i, e)) return false;
        apply_guidance(j, r);
        for (size_t x = 0; x < n; x++) r->part[x] += s->share[k] * r->guided[x];
    }
    memcpy(r->guided, r->part, n * sizeof *r->part);
    return true;
}

/* The unconditional half from one model, the conditional from another. */
static bool predict_split(const job *j, edge *r, const mix_step *s, int i, error *e)
{
    size_t half = r->channels * r->space;
    if (!evaluate(j->models[s->model[0]], j, r, i, e)) return false;
    memcpy(r->part, r->out, half * sizeof *r->part);
    if (!evaluate(j->models[s->model[1]], j, r, i, e)) return false;
    if (j->batch > 1) memcpy(r->out, r->part, half * sizeof *r->part);
    apply_guidance(j, r);
    return true;
}

/* The guided output at step i. */
static bool predict(const job *j, edge *r, int i, error *e)
{
    const mix_step *s = j->mix ? &j->mix->step[i] : NULL;
    if (s && s->split) return predict_split(j, r, s, i, e);
    if (s && (s->terms > 1 || s->share[0] != 1)) return predict_sum(j, r, s, i, e);
    if (!evaluate(j->models[s ? s->model[0] : 0], j, r, i, e)) return false;
    apply_guidance(j, r);
    return true;
}

/* ---- the steps ---- */

static bool progress(const job *j, int step, error *e)
{
    if (!j->o->progress || !j->o->progress(j->o->user, step, sampler_count(j->sampler)))
        return true;
    return error_set(e, ERROR_CANCELLED, "stopped");
}

static void tell_reached(const job *j, int step)
{
    generate_snapshot now = {.step = step, .latent = j->latent, .numbers = job_numbers(j), .random = &j->rng};
    if (j->o->reached) j->o->reached(j->o->user, &now);
}

static bool start_from(job *j, error *e)
{
    const generate_snapshot *from = j->o->from;
    if (!from) return true;
    if (from->step < 0 || from->step > sampler_count(j->sampler))
        return error_set(e, ERROR_USAGE, "a run of %d steps cannot go on from step %d",
                         sampler_count(j->sampler), from->step);
    memcpy(j->latent, from->latent, job_numbers(j) * sizeof *j->latent);
    j->rng = *from->random;
    return true;
}

static bool steps(job *j, edge *r, error *e)
{
    size_t n = job_numbers(j);
    int count = sampler_count(j->sampler), first = j->o->from ? j->o->from->step : 0;
    bool ok = progress(j, first, e);
    for (int i = first; ok && i < count; i++) {
        ok = predict(j, r, i, e) && sampler_step(j->sampler, i, j->latent, r->guided, n, &j->rng, e);
        if (ok && !pipeline_finite(j->latent, n))
            ok = error_set(e, ERROR_NUMERIC, "step %d of %d: the sampler gave NaN or infinity; try "
                           "other settings (sampler, spacing, guidance)", i + 1, count);
        if (ok) tell_reached(j, i + 1);
        ok = ok && progress(j, i + 1, e);
    }
    return ok;
}

bool loop_run(job *j, error *e)
{
    edge r;
    bool ok = edge_open(&r, j, e) && start_from(j, e) && steps(j, &r, e);
    for (int k = 0; k < j->model_count; k++)
        if (j->models[k]->denoiser) denoiser_release(j->models[k]->denoiser); /* not all are asked */
    edge_close(&r);
    return ok;
}
