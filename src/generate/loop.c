/* SPDX-License-Identifier: Apache-2.0
 *
 * loop: denoising. The pictures' samplers ask for an evaluation, which models of the mix predict,
 * and are told what guidance made of it, until they are done; after each step others are told. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "generate/deep.h"
#include "generate/job.h"
#include "pipeline/layout.h"

/* The network's edge: room for one evaluation of all the job's pictures. */
typedef struct edge {
    size_t channels, space; /* of one prediction */
    size_t in;              /* channels that the network reads */
    float *planes;          /* [in,h,w]: a picture's latents, its mask, and masked latents */
    float *x, *out;         /* [pictures,h,w,in] -> [B,h,w,C'] */
    float *part;            /* several models in one step: as out */
    float *guided;          /* [pictures][C',h,w] */
    deep_cache deep;
    bool shallow; /* this evaluation reuses deep features */
} edge;

static void edge_close(edge *r)
{
    free(r->planes);
    free(r->x);
    free(r->out);
    free(r->part);
    free(r->guided);
}

static bool edge_open(edge *r, const job *j, error *e)
{
    size_t batch = (size_t)job_batch(j);
    *r = (edge){.channels = (size_t)job_first(j)->on.model->unet.out_channels,
                .space = (size_t)j->height * (size_t)j->width,
                .in = (size_t)job_first(j)->on.model->unet.in_channels,
                .deep.interval = j->picture[0].o->deep_cache};
    size_t in = (size_t)j->count * r->in * r->space, out = batch * r->channels * r->space;
    r->planes = malloc(r->in * r->space * sizeof(float));
    r->x = malloc(in * sizeof(float));
    r->out = malloc(out * sizeof(float));
    r->part = malloc(out * sizeof(float));
    r->guided = malloc(out / (size_t)j->parts * sizeof(float));
    return (r->planes && r->x && r->out && r->part && r->guided) ||
           error_memory(e, "latents", (in + 3 * out) * sizeof(float));
}

static void apply_guidance(const job *j, edge *r)
{
    size_t n = r->channels * r->space;
    for (int k = 0; k < j->count; k++)
        guide(&j->picture[k].guidance, r->out + (size_t)(k * j->parts) * n, j->parts, r->channels,
              r->space, r->guided + (size_t)k * n);
}

/* What the network reads of picture k: an inpainting one its mask and masked latents, too. */
static const float *read_by(const job *j, int k, edge *r, const evaluation *at)
{
    const job_image *p = &j->picture[k];
    size_t n = job_numbers(j);
    if (!p->masked) return at->x;
    memcpy(r->planes, at->x, n * sizeof *r->planes);
    memcpy(r->planes + n, p->mask, r->space * sizeof *r->planes);
    memcpy(r->planes + n + r->space, p->masked, n * sizeof *r->planes);
    return r->planes;
}

/* What the samplers ask, all of them for the same timestep; its latents in r->x. False: they are
 * done. */
static bool ask(job *j, edge *r, evaluation *at)
{
    double t = 0;
    for (int k = 0; k < j->count; k++) {
        if (!sampler_ask(j->picture[k].sampler, at)) return false;
        assert(k == 0 || at->t == t);
        t = at->t;
        layout_channels_last(r->x + (size_t)k * r->in * r->space, read_by(j, k, r, at), r->in,
                             r->space);
    }
    return true;
}

/* The network's output for r->x, before guidance, in r->out. */
static bool evaluate(generator *g, const job *j, edge *r, const evaluation *at, error *e)
{
    char where[96];
    if (j->scripted && !script_turn(g, j, at, e)) return false;
    snprintf(where, sizeof where, "step %d of %d (timestep %s)", at->step + 1,
             sampler_steps(j->picture[0].sampler), number_exact_float((float)at->t).text);
    return (r->shallow ? denoiser_run_shallow : denoiser_run)(g->denoiser, r->x, (float)at->t,
                                                              r->out, where, e);
}

/* The weighted sum of several models' predictions. Guidance is linear, so the sum is guided as a
 * whole would be; each is guided by itself. */
static bool predict_sum(const job *j, edge *r, const mix_step *s, const evaluation *at, error *e)
{
    size_t n = (size_t)j->count * r->channels * r->space;
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
static bool predict_split(const job *j, edge *r, const mix_step *s, const evaluation *at, error *e)
{
    size_t half = r->channels * r->space, all = (size_t)job_batch(j) * half;
    if (!evaluate(j->models[s->model[0]], j, r, at, e)) return false;
    memcpy(r->part, r->out, all * sizeof *r->part);
    if (!evaluate(j->models[s->model[1]], j, r, at, e)) return false;
    for (size_t i = 0; j->parts > 1 && i < all; i += (size_t)j->parts * half)
        memcpy(r->out + i, r->part + i, half * sizeof *r->part);
    apply_guidance(j, r);
    return true;
}

/* The guided outputs. A mix is of steps; all evaluations of a step are of its models. */
static bool predict(const job *j, edge *r, const evaluation *at, error *e)
{
    const mix_step *s = j->mix ? &j->mix->step[at->step] : NULL;
    r->shallow = deep_next(&r->deep, s);
    if (s && s->split) return predict_split(j, r, s, at, e);
    if (s && (s->terms > 1 || s->share[0] != 1)) return predict_sum(j, r, s, at, e);
    if (!evaluate(j->models[s ? s->model[0] : 0], j, r, at, e)) return false;
    apply_guidance(j, r);
    return true;
}

/* ---- the steps ---- */

static bool progress(const job *j, error *e)
{
    for (int k = 0; k < j->count; k++) {
        const job_image *p = &j->picture[k];
        if (p->o->progress &&
            p->o->progress(p->o->user, sampler_done(p->sampler), sampler_steps(p->sampler)))
            return error_set(e, ERROR_CANCELLED, "stopped");
    }
    return true;
}

static bool tell_reached(const job *j, const edge *r, int k, error *e)
{
    const job_image *p = &j->picture[k];
    void *state = NULL, *deep = NULL;
    size_t size, deep_size;
    if (!p->o->reached) return true;
    if (!sampler_save(p->sampler, &state, &size, e)) return false;
    if (!deep_save(&r->deep, j, k, &deep, &deep_size, e)) {
        free(state);
        return false;
    }
    generate_snapshot now = {.step = sampler_done(p->sampler),
                             .latent = sampler_latent(p->sampler),
                             .numbers = job_numbers(j),
                             .random = &p->rng,
                             .sampler = state,
                             .sampler_size = size,
                             .kind = p->o->sampler.kind,
                             .steps = p->o->sampler.steps,
                             .seed = p->o->seed,
                             .strength = p->o->init ? p->o->strength : 0,
                             .noise = p->o->noise,
                             .noise_delta = p->o->noise_delta,
                             .deep_cache = p->o->deep_cache,
                             .deep = deep,
                             .deep_size = deep_size};
    memcpy(now.begun, p->begun, sizeof now.begun);
    p->o->reached(p->o->user, &now);
    free(state);
    free(deep);
    return true;
}

/* What a picture says of itself has to be so from its first step on. */
static bool is_of(const generate_snapshot *from, const job_image *p, error *e)
{
    const generate_options *o = p->o;
    if (strcmp(from->begun, p->begun) != 0)
        return error_set(e, ERROR_USAGE,
                         "the run to go on from began with another picture, mask or latents than "
                         "this one");
    if (o->init && from->strength != o->strength)
        return error_set(e, ERROR_USAGE,
                         "the run to go on from changes its picture at strength %s; this one has "
                         "%s",
                         number_exact(from->strength).text, number_exact(o->strength).text);
    if (from->deep_cache != o->deep_cache)
        return error_set(e, ERROR_USAGE, "the run to go on from has deep cache %d; this one has %d",
                         from->deep_cache, o->deep_cache);
    if (from->kind == o->sampler.kind && from->steps == o->sampler.steps && from->seed == o->seed)
        return (from->noise == o->noise && from->noise_delta == o->noise_delta) ||
               error_set(e, ERROR_USAGE,
                         "the run to go on from drew its noise by another generator");
    return error_set(e, ERROR_USAGE,
                     "the run to go on from is %s, %d steps, seed %llu; this is %s, %d "
                     "steps, seed %llu",
                     sampler_kind_name(from->kind), from->steps, (unsigned long long)from->seed,
                     sampler_kind_name(o->sampler.kind), o->sampler.steps,
                     (unsigned long long)o->seed);
}

static bool begin(job *j, edge *r, error *e)
{
    for (int k = 0; k < j->count; k++) {
        job_image *p = &j->picture[k];
        const generate_snapshot *from = p->o->from;
        if (!sampler_begin(p->sampler, p->noise, job_numbers(j), e)) return false;
        if (from || p->o->reached) begin_hash(p, job_numbers(j));
        begin_from_image(p);
        if (!from) continue;
        if (!is_of(from, p, e)) return false;
        if (!sampler_load(p->sampler, from->step, from->latent, from->sampler, from->sampler_size,
                          e))
            return false;
        p->rng = *from->random;
    }
    return deep_load(&r->deep, j, e);
}

/* What the picture grows to be: as the last output foretold it, where the sampler knows that. What
 * cannot be shown is no failure of the picture. */
static void preview(const job *j, const job_image *p)
{
    int done = sampler_done(p->sampler);
    const float *x = sampler_foretold(p->sampler);
    image picture = {0};
    if (!p->o->preview || p->o->preview_steps < 1 || done % p->o->preview_steps ||
        done == sampler_steps(p->sampler))
        return;
    if (!x) x = sampler_latent(p->sampler);
    if (job_decode(j, x, &picture, NULL)) p->o->preview(p->o->user, &picture);
    image_free(&picture);
}

/* After a step. */
static bool step_done(const job *j, const edge *r, error *e)
{
    for (int k = 0; k < j->count; k++) {
        const job_image *p = &j->picture[k];
        if (!pipeline_finite(sampler_latent(p->sampler), job_numbers(j)))
            return error_set(e, ERROR_NUMERIC,
                             "step %d of %d: the sampler gave NaN or infinity; try other "
                             "settings (sampler, spacing, guidance)",
                             sampler_done(p->sampler), sampler_steps(p->sampler));
        if (!tell_reached(j, r, k, e)) return false;
        preview(j, p);
    }
    return progress(j, e);
}

static bool tell(job *j, const edge *r, error *e)
{
    size_t n = r->channels * r->space;
    for (int k = 0; k < j->count; k++) {
        job_image *p = &j->picture[k];
        if (!sampler_tell(p->sampler, r->guided + (size_t)k * n, &p->rng, e)) return false;
        if (p->mask && !p->masked) sampler_keep(p->sampler, p->clean, p->noise, p->mask, r->space);
    }
    return true;
}

static bool run(job *j, edge *r, error *e)
{
    evaluation at;
    bool ok = progress(j, e);
    while (ok && ask(j, r, &at)) {
        ok = predict(j, r, &at, e) && tell(j, r, e);
        if (ok && sampler_done(j->picture[0].sampler) > at.step) ok = step_done(j, r, e);
    }
    return ok;
}

bool loop_run(job *j, error *e)
{
    edge r;
    bool ok = edge_open(&r, j, e) && begin(j, &r, e) && run(j, &r, e);
    for (int k = 0; k < j->model_count; k++)
        if (j->models[k]->denoiser)
            denoiser_release(j->models[k]->denoiser); /* not all are asked */
    edge_close(&r);
    return ok;
}
