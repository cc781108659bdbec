/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: what diffusers' StableDiffusionPipeline.__call__ and DDPMPipeline.__call__ do: a job is
 * opened (job.c), its prompts are read (read.c), denoised (loop.c), and decoded; see generate.h. */
#include "generate/generate.h"

#include <stdlib.h>
#include <string.h>

#include "generate/hires.h"
#include "generate/job.h"
#include "pipeline/fit.h"
#include "pipeline/layout.h"

bool generator_open(generator **out, device *d, const model *m, error *e)
{
    *out = NULL;
    if (!fit_model(m, e)) return false;
    generator *g = calloc(1, sizeof *g);
    if (!g) return error_memory(e, "a generator", sizeof *g);
    g->on = (pipeline){.device = d, .model = m};
    if (device_weights_open(d, &m->unet_weights, &g->unet, e) &&
        device_weights_open(d, decoder_weights(m), &g->vae, e)) {
        *out = g;
        return true;
    }
    generator_close(&g);
    return false;
}

void generator_close(generator **g)
{
    if (!*g) return;
    denoiser_close(&(*g)->denoiser);
    decoder_close(&(*g)->decoder);
    tiled_decoder_close(&(*g)->tiled);
    text_forget(&(*g)->text);
    script_state_close(&(*g)->script);
    begin_forget(*g);
    device_weights_close(&(*g)->unet);
    device_weights_close(&(*g)->vae);
    free(*g);
    *g = NULL;
}

const model *generator_model(const generator *g) { return g->on.model; }

device *generator_device(const generator *g) { return g->on.device; }

void generator_size(const generator *g, int *width, int *height, int *multiple)
{
    fit_size(g->on.model, width, height, multiple);
}

void generator_size_of(const generator *g, const generate_options *o, int *width, int *height)
{
    begin_size(o, g->on.model, width, height);
}

void generator_latents(const generator *g, int width, int height, int shape[3])
{
    fit_latents(g->on.model, width, height, shape);
}

/* ---- checking ---- */

/* The job that is largest of what the options want: the second pass, where there is one. */
static bool open_largest(job *j, generator *const *models, int count, const mix *m,
                         const generate_options *o, error *e)
{
    generate_options second;
    mix turns;
    const model *first = generator_model(models[m ? m->step[0].model[0] : 0]);
    *j = (job){0};
    if (o->hires == 0) return job_open(j, models, count, m, o, 1, NULL, e);
    bool ok = hires_second(&second, &turns, m, o, first, e) &&
              job_open(j, models, count, m ? &turns : NULL, &second, 1, NULL, e);
    j->mix = NULL; /* gone, and not asked for what a size is */
    mix_close(&turns);
    return ok;
}

bool generator_check_mixed(generator *const *models, int count, const mix *m,
                           const generate_options *o, char **notes, error *e)
{
    job j;
    generate_options one = *o;
    if (notes) *notes = NULL;
    one.hires = 0;
    bool ok = job_open(&j, models, count, m, &one, 1, notes, e);
    job_close(&j);
    if (ok && o->hires != 0) {
        ok = open_largest(&j, models, count, m, o, e) &&
             (!notes || hires_notes(notes, o, job_first(&j)->on.model, e));
        job_close(&j);
    }
    if (!ok && notes) { /* notes are for a check that went well */
        free(*notes);
        *notes = NULL;
    }
    return ok;
}

bool generator_check(generator *g, const generate_options *o, char **notes, error *e)
{
    return generator_check_mixed(&g, 1, NULL, o, notes, e);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_reading(const generate_options *a, const generate_options *b)
{
    return a->syntax == b->syntax &&
           (a->syntax == PROMPT_PLAIN ||
            (same_text(a->prompt, b->prompt) && same_text(a->negative, b->negative)));
}

static bool same_hires(const generate_options *a, const generate_options *b)
{
    return a->hires == b->hires && a->hires_steps == b->hires_steps &&
           a->hires_strength == b->hires_strength && a->last_steps == b->last_steps &&
           same_text(a->hires_upscaler, b->hires_upscaler);
}

static bool same_controls(const generate_options *a, const generate_options *b)
{
    bool same = a->control_count == b->control_count;
    for (int i = 0; same && i < a->control_count; i++)
        same = a->controls[i].net == b->controls[i].net &&
               a->controls[i].picture == b->controls[i].picture &&
               a->controls[i].scale == b->controls[i].scale;
    return same;
}

bool generate_alike(const generate_options *a, const generate_options *b)
{
    const sampler_options *s = &a->sampler, *t = &b->sampler;
    return a->width == b->width && a->height == b->height &&
           (a->guidance > 1) == (b->guidance > 1) && a->clip_skip == b->clip_skip &&
           a->deep_cache == b->deep_cache && same_controls(a, b) && same_reading(a, b) &&
           s->kind == t->kind && s->steps == t->steps && s->has_spacing == t->has_spacing &&
           (!s->has_spacing || s->spacing == t->spacing) && same_text(s->sigmas, t->sigmas) &&
           (a->from ? a->from->step : 0) == (b->from ? b->from->step : 0) && a->tile == b->tile &&
           same_hires(a, b) && a->init == b->init && a->mask == b->mask &&
           (!a->init || a->strength == b->strength);
}

/* ---- running ---- */

void generate_result_free(generate_result *r)
{
    image_free(&r->picture);
    free(r->initial);
    free(r->final);
    *r = (generate_result){0};
}

static bool result_start(const job *j, const job_image *p, generate_result *out, error *e)
{
    size_t bytes = job_numbers(j) * sizeof(float);
    out->channels = j->channels;
    out->height = j->height;
    out->width = j->width;
    out->begun_height = j->height;
    out->begun_width = j->width;
    out->initial = malloc(bytes);
    out->final = malloc(bytes);
    if (!out->initial || !out->final) return error_memory(e, "latents", 2 * bytes);
    memcpy(out->initial, p->noise, bytes);
    return true;
}

static bool start(const job *j, generate_result *out, error *e)
{
    for (int k = 0; k < j->count; k++)
        if (!begin_draw(j, &j->picture[k], e) || !result_start(j, &j->picture[k], &out[k], e))
            return false;
    return true;
}

/* Unconditional: the sample [3,s,s] is the picture. */
static bool image_of_sample(const job *j, const float *x, image *out, error *e)
{
    size_t n = job_numbers(j);
    float *y = malloc(n * sizeof *y);
    if (!y) return error_memory(e, "the picture", n * sizeof *y);
    layout_channels_last(y, x, 3, n / 3);
    bool ok = decode_pixels(out, y, j->width, j->height, e);
    free(y);
    return ok;
}

bool job_decode(const job *j, const float *latent, image *out, error *e)
{
    generator *last = job_last(j);
    if (!fit_conditional(last->on.model)) return image_of_sample(j, latent, out, e);
    if (last->tiled) return tiled_decoder_run(last->tiled, latent, out, e);
    return decoder_run(last->decoder, latent, out, e);
}

static bool finish(const job *j, const job_image *p, generate_result *out, error *e)
{
    memcpy(out->final, sampler_latent(p->sampler), job_numbers(j) * sizeof(float));
    return p->o->undecoded || job_decode(j, out->final, &out->picture, e);
}

bool generator_run_together(generator *const *models, int count, const mix *m,
                            const generate_options *o, int pictures, generate_result *out, error *e)
{
    job j;
    if (o->hires != 0) return hires_run(models, count, m, o, pictures, out, e);
    memset(out, 0, (size_t)pictures * sizeof *out);
    bool ok = job_open(&j, models, count, m, o, pictures, NULL, e) && read_texts(&j, e) &&
              start(&j, out, e) && loop_run(&j, e);
    for (int k = 0; ok && k < pictures; k++) ok = finish(&j, &j.picture[k], &out[k], e);
    job_close(&j);
    for (int k = 0; !ok && k < pictures; k++) generate_result_free(&out[k]);
    return ok;
}

bool generator_run_mixed(generator *const *models, int count, const mix *m,
                         const generate_options *o, generate_result *out, error *e)
{
    return generator_run_together(models, count, m, o, 1, out, e);
}

bool generator_run(generator *g, const generate_options *o, generate_result *out, error *e)
{
    return generator_run_mixed(&g, 1, NULL, o, out, e);
}

/* ---- how many together ---- */

enum { TOGETHER_BYTES = 64 << 20, TOGETHER_MOST = 12 };

bool generator_is_small(generator *const *models, int count, const mix *m,
                        const generate_options *o)
{
    job j;
    bool small = open_largest(&j, models, count, m, o, NULL) &&
                 denoiser_bytes(job_first(&j)->denoiser) <= TOGETHER_BYTES / 2;
    job_close(&j);
    return small;
}

int generator_together(generator *const *models, int count, const mix *m, const generate_options *o)
{
    job j;
    int most = 1;
    if (open_largest(&j, models, count, m, o, NULL) && job_first(&j)->on.device->batches_alike) {
        size_t one = denoiser_bytes(job_first(&j)->denoiser), fit = one ? TOGETHER_BYTES / one : 1;
        most = fit < 1 ? 1 : fit > TOGETHER_MOST ? TOGETHER_MOST : (int)fit;
    }
    job_close(&j);
    return most;
}
