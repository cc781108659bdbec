/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: what diffusers' StableDiffusionPipeline.__call__ and DDPMPipeline.__call__ do: a job is
 * opened (job.c), its prompts are read (read.c), denoised (loop.c), and decoded; see generate.h. */
#include "generate/generate.h"

#include <stdlib.h>
#include <string.h>

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
        device_weights_open(d, &m->vae_weights, &g->vae, e)) {
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
    text_forget(&(*g)->text);
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

void generator_latents(const generator *g, int width, int height, int shape[3])
{
    fit_latents(g->on.model, width, height, shape);
}

/* ---- checking ---- */

bool generator_check_mixed(generator *const *models, int count, const mix *m,
                           const generate_options *o, char **notes, error *e)
{
    job j;
    if (notes) *notes = NULL;
    bool ok = job_open(&j, models, count, m, o, notes, e);
    job_close(&j);
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

/* ---- running ---- */

void generate_result_free(generate_result *r)
{
    image_free(&r->picture);
    free(r->initial);
    free(r->final);
    *r = (generate_result){0};
}

/* The noise that the run begins with. */
static bool draw_noise(job *j, error *e)
{
    size_t n = job_numbers(j);
    j->noise = malloc(n * sizeof *j->noise);
    if (!j->noise) return error_memory(e, "latents", n * sizeof *j->noise);
    rng_seed(&j->rng, j->o->seed);
    if (j->o->latents)
        memcpy(j->noise, j->o->latents, n * sizeof *j->noise);
    else
        rng_randn(&j->rng, j->noise, n); /* torch.randn([1,C,h,w]) */
    return pipeline_finite(j->noise, n) ||
           error_set(e, ERROR_NUMERIC, "the initial latents hold NaN or infinity");
}

static bool result_start(const job *j, generate_result *out, error *e)
{
    size_t bytes = job_numbers(j) * sizeof(float);
    out->channels = j->channels;
    out->height = j->height;
    out->width = j->width;
    out->initial = malloc(bytes);
    out->final = malloc(bytes);
    if (!out->initial || !out->final) return error_memory(e, "latents", 2 * bytes);
    memcpy(out->initial, j->noise, bytes);
    return true;
}

/* Unconditional: the last sample [3,s,s] is the picture. */
static bool picture_of_sample(const job *j, image *out, error *e)
{
    size_t n = job_numbers(j);
    float *y = malloc(n * sizeof *y);
    if (!y) return error_memory(e, "the picture", n * sizeof *y);
    layout_channels_last(y, sampler_latent(j->sampler), 3, n / 3);
    bool ok = decode_pixels(out, y, j->width, j->height, e);
    free(y);
    return ok;
}

static bool finish(const job *j, generate_result *out, error *e)
{
    generator *last = job_last(j);
    memcpy(out->final, sampler_latent(j->sampler), job_numbers(j) * sizeof(float));
    if (!fit_conditional(last->on.model)) return picture_of_sample(j, &out->picture, e);
    if (!decoder_run(last->decoder, out->final, &out->picture, e)) return false;
    return last->vae_packed = true;
}

bool generator_run_mixed(generator *const *models, int count, const mix *m, const generate_options *o,
                         generate_result *out, error *e)
{
    job j;
    *out = (generate_result){0};
    bool ok = job_open(&j, models, count, m, o, NULL, e) && read_texts(&j, e) && draw_noise(&j, e) &&
              result_start(&j, out, e) && loop_run(&j, e) && finish(&j, out, e);
    job_close(&j);
    if (!ok) generate_result_free(out);
    return ok;
}

bool generator_run(generator *g, const generate_options *o, generate_result *out, error *e)
{
    return generator_run_mixed(&g, 1, NULL, o, out, e);
}
