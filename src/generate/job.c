/* SPDX-License-Identifier: Apache-2.0
 *
 * job: all that can be found wrong with a call before its work begins; see job.h. */
#include "generate/job.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/number.h"
#include "base/platform.h"
#include "generate/prompts/prompt.h"
#include "generate/samplers/sigma_text.h"
#include "pipeline/fit.h"

generator *job_first(const job *j) { return j->models[j->mix ? j->mix->step[0].model[0] : 0]; }

generator *job_last(const job *j) { return j->models[j->mix ? mix_last_model(j->mix) : 0]; }

bool job_asks(const job *j, int which)
{
    for (int i = 0; j->mix && i < j->mix->count; i++)
        for (int t = 0; t < j->mix->step[i].terms; t++)
            if (j->mix->step[i].model[t] == which) return true;
    return !j->mix && which == 0;
}

bool job_tiles(const job *j)
{
    return j->picture[0].o->tile && tiles_needed(job_first(j)->on.model, j->height, j->width);
}

size_t job_numbers(const job *j)
{
    return (size_t)j->channels * (size_t)j->height * (size_t)j->width;
}

const char *job_text(const job *j, int k, bool *negative)
{
    const job_image *p = &j->picture[k / j->parts];
    *negative = j->parts > 1 && k % j->parts == 0;
    return *negative ? p->negative : p->prompt;
}

void job_close(job *j)
{
    for (int k = 0; j->picture && k < j->count; k++) {
        sampler_close(&j->picture[k].sampler);
        free(j->picture[k].noise);
        free(j->picture[k].clean);
        free(j->picture[k].mask);
        free(j->picture[k].masked);
    }
    free(j->picture);
    *j = (job){0};
}

/* ---- memory ---- */

/* What the device's copies of the weights will take more than they do: of those that are its own,
 * not of a set below. */
static double copies_to_come(device_weights *copy)
{
    double total = 0;
    for (size_t i = 0; i < copy->set.count; i++) {
        const weight *w = &copy->set.item[i];
        if (device_weights_owner(copy, &w) == copy)
            total += (double)device_copy_bytes(copy->device, w, WEIGHT_READ);
    }
    return fmax(total - (double)device_weights_bytes(copy), 0);
}

/* Whether a model before the k-th, and that is asked, has these too. */
static bool is_counted(const job *j, int k, const device_weights *copy)
{
    for (int i = 0; i < k; i++)
        for (device_weights *w = job_asks(j, i) ? j->models[i]->unet : NULL; w; w = w->below)
            if (w == copy) return true;
    return false;
}

/* Of ControlNets, which all models share. */
static bool controls_to_come(const job *j, double *bytes, error *e)
{
    const generate_options *o = j->picture[0].o;
    *bytes = 0;
    for (int i = 0; i < o->control_count; i++) {
        device_weights *copy;
        const controlnet *net = o->controls[i].net;
        bool counted = false;
        for (int k = 0; k < i; k++) counted |= o->controls[k].net == net;
        if (counted) continue;
        if (!device_weights_open(job_first(j)->on.device, &net->weights, &copy, e)) return false;
        *bytes += copies_to_come(copy);
        device_weights_close(&copy);
    }
    return true;
}

/* tiles: whether decoding in them would help. */
static bool memory_check(device *d, double need, int width, int height, bool tiles, error *e)
{
    double have = (double)d->memory_left(d);
    if (need <= have) return true;
    return error_set(e, ERROR_MEMORY,
                     "a picture of %dx%d needs %s of %s and %s can be had; choose "
                     "a smaller size (-W, -H), %s%s%sor close other programs",
                     width, height, number_bytes(need).text,
                     d->apart ? "the device's memory" : "memory", number_bytes(have).text,
                     tiles ? "--tile, " : "",
                     d->apart && d->weight_type == DTYPE_F32 ? "--precision f16, " : "",
                     d->apart ? "--device cpu, " : "");
}

/* A text encoder's weights, which are there while it reads. */
static double text_bytes(const generator *g)
{
    const weight_set *set = &g->on.model->clip_weights;
    double total = 0;
    for (size_t i = 0; i < set->count; i++)
        total += (double)device_copy_bytes(g->on.device, &set->item[i], WEIGHT_READ);
    return total;
}

/* All models of a mix are resident at once; their graphs are planned. What texts, denoising and
 * decoding want beside the weights they take one after the other. */
static bool memory_check_planned(const job *j, error *e)
{
    const generator *last = job_last(j);
    double blocks = 0, weights = 0, picture = 0, text = 0;
    if (!controls_to_come(j, &weights, e)) return false;
    for (int k = 0; k < j->model_count; k++) {
        const generator *g = j->models[k];
        if (!job_asks(j, k)) continue;
        blocks += (double)denoiser_bytes(g->denoiser);
        for (device_weights *w = g->unet; w; w = w->below)
            if (!is_counted(j, k, w)) weights += copies_to_come(w);
        text = fmax(text, text_bytes(g));
    }
    if (fit_conditional(last->on.model)) {
        picture = (double)(last->tiled ? tiled_decoder_bytes(last->tiled)
                                       : decoder_bytes(last->decoder));
        weights += copies_to_come(last->vae);
    }
    /* a preview is decoded while the denoisers have their memory */
    double both = j->picture[0].o->preview ? blocks + picture : fmax(blocks, picture);
    int factor = fit_factor(last->on.model);
    return memory_check(last->on.device, fmax(both + weights, text), j->width * factor,
                        j->height * factor,
                        !j->picture[0].o->tile && picture > blocks &&
                            tiles_needed(last->on.model, j->height, j->width),
                        e);
}

/* ---- the options ---- */

static bool check_size(job *j, const generate_options *o, const model *m, error *e)
{
    int width, height, multiple, shape[3];
    fit_size(m, &width, &height, &multiple);
    begin_size(o, m, &width, &height);
    if (o->init && ((!o->width && !width) || (!o->height && !height)))
        return error_set(e, ERROR_USAGE,
                         "the init image is %dx%d, too small: this model needs %dx%d at least; "
                         "give a larger one, or a size (--width, --height)",
                         o->init->width, o->init->height, multiple, multiple);
    if (width < multiple || height < multiple || width % multiple || height % multiple)
        return error_set(e, ERROR_USAGE,
                         "a size of %dx%d: width and height must be multiples of %d "
                         "with this model, such as %dx%d",
                         width, height, multiple,
                         width < multiple ? multiple : width / multiple * multiple,
                         height < multiple ? multiple : height / multiple * multiple);
    fit_latents(m, width, height, shape);
    bool tiles = tiles_needed(m, shape[1], shape[2]);
    double need = fit_least_bytes(m, width, height);
    if (o->tile && tiles) need = fit_least_bytes(m, m->vae.sample_size, m->vae.sample_size);
    if (!memory_check(job_first(j)->on.device, need, width, height, tiles && !o->tile, e))
        return false;
    j->channels = shape[0];
    j->height = shape[1];
    j->width = shape[2];
    return true;
}

/* notes: NULL, or what the model will not read as it may be meant is added. */
static bool check_text(const job_image *p, const model *m, char **notes, error *e)
{
    const clip_config *c = &m->clip;
    if (!fit_conditional(m))
        return !*p->prompt ||
               error_set(e, ERROR_USAGE, "%s is an unconditional model: it takes no prompt",
                         m->path);
    if (p->o->clip_skip < 0 || p->o->clip_skip >= c->layers)
        return error_set(e, ERROR_USAGE,
                         "clip skip %d: this text encoder has %d layers, so 0 to %d "
                         "can be left out",
                         p->o->clip_skip, c->layers, c->layers - 1);
    if (p->o->syntax == PROMPT_A1111) return true;
    char *unasked = NULL;
    if (!notes) notes = &unasked;
    bool ok = prompt_notes(notes, m, "prompt", p->prompt, e) &&
              prompt_notes(notes, m, "negative prompt", p->negative, e);
    free(unasked);
    return ok;
}

/* What was asked of the sampler and means nothing to it. */
static bool sampler_notes(char **notes, const sampler_options *how, error *e)
{
    sigma_kind kind;
    int listed = 0;
    bool ok = !how->sigmas || sigmas_read(how->sigmas, &kind, &listed, e);
    if (ok && how->eta > 0 && !sampler_kind_has_eta(how->kind))
        ok = prompt_note_line(notes,
                              string_format("eta means nothing to the sampler %s: it is left out",
                                            sampler_kind_name(how->kind)),
                              e);
    if (ok && how->has_variance && !sampler_kind_has_variance(how->kind))
        ok = prompt_note_line(
            notes,
            string_format("variance means nothing to the sampler %s: it is left out",
                          sampler_kind_name(how->kind)),
            e);
    if (ok && how->has_spacing && listed)
        ok = prompt_note_line(
            notes, string_format("spacing means nothing beside a list of sigmas: it is left out"),
            e);
    return ok;
}

/* A mask of one kind alone, as one is whose shape lies in its alpha. */
static bool mask_notes(const generate_options *o, char **notes, error *e)
{
    bool has[2]; /* black, white */
    if (!o->mask) return true;
    begin_mask_has(o->mask, has);
    return (has[0] && has[1]) ||
           prompt_note_line(notes,
                            string_format("the mask is all %s, so %s of the picture is made anew; "
                                          "its colours are read (white is made anew), its alpha is "
                                          "not the mask",
                                          has[0] ? "black" : "white", has[0] ? "nothing" : "all"),
                            e);
}

/* Words of the tokenizer that embeddings took. */
static bool word_notes(const job *j, char **notes, error *e)
{
    bool ok = true;
    for (int i = 0; ok && i < j->model_count; i++) {
        const char *words = generator_model(j->models[i])->inversion_words;
        ok = !words ||
             prompt_note_line(notes,
                              string_format("the model had the word %s, and an embedding is in its "
                                            "place now; WORD=FILE gives that another word",
                                            words),
                              e);
    }
    return ok;
}

/* A negative prompt is what guidance leads away from. */
static bool negative_note(const job *j, char **notes, error *e)
{
    return j->parts > 1 || !*j->picture[0].negative || !fit_conditional(job_first(j)->on.model) ||
           prompt_note_line(notes,
                            string_format("the negative prompt is not read: guidance is %s, and "
                                          "leads away from it only above 1",
                                          number_exact_float(j->picture[0].o->guidance).text),
                            e);
}

/* A learned variance is a second half of the network's output channels; the sampler must know of
 * it. */
static bool check_variance(const job_image *p, const model *m, error *e)
{
    int in = model_inpaints(m) ? m->vae.latent_channels : m->unet.in_channels;
    int out = m->unet.out_channels;
    bool learned = sampler_learned(p->sampler);
    if (out == (learned ? 2 * in : in)) return true;
    if (learned)
        return error_set(e, ERROR_USAGE,
                         "a learned variance needs a network with %d output channels, and "
                         "this one has %d; choose --variance fixed_small or fixed_large",
                         2 * in, out);
    return error_set(e, ERROR_MODEL,
                     "the network reads %d channels and makes %d; this is only understood "
                     "with --sampler ddpm --variance learned or learned_range and %d channels",
                     in, out, 2 * in);
}

/* ---- planning ---- */

/* Plans for the job's size, unless that is what was planned last. */
static bool plan(generator *g, const job *j, error *e)
{
    const generate_options *o = j->picture[0].o;
    denoiser_extras with = {o->deep_cache > 1, o->controls, o->control_count};
    if (j->scripted && !script_cut(g, j, e)) return false;
    int tokens = j->scripted ? g->script.recital.tokens : 0;
    if (!denoiser_is(g->denoiser, j->count, j->parts, tokens, j->height, j->width, &with)) {
        denoiser_close(&g->denoiser);
        if (!denoiser_open(&g->denoiser, &g->on, j->count, j->parts, tokens, j->height, j->width,
                           &with, e))
            return false;
    }
    if (!fit_conditional(g->on.model)) return true;
    if (job_tiles(j)) {
        decoder_close(&g->decoder);
        if (tiled_decoder_is(g->tiled, j->height, j->width)) return true;
        tiled_decoder_close(&g->tiled);
        return tiled_decoder_open(&g->tiled, &g->on, j->height, j->width, e);
    }
    tiled_decoder_close(&g->tiled);
    if (decoder_is(g->decoder, j->height, j->width)) return true;
    decoder_close(&g->decoder);
    return decoder_open(&g->decoder, &g->on, j->height, j->width, e);
}

/* Every model that is asked must fit the first, and have its graphs. */
static bool plan_all(const job *j, error *e)
{
    const model *first = job_first(j)->on.model;
    if (!plan(job_first(j), j, e)) return false;
    for (int k = 0; k < j->model_count; k++) {
        generator *g = j->models[k];
        if (!job_asks(j, k) || g == job_first(j)) continue;
        if (!fit_pair(first, g->on.model, e)) return false;
        for (int i = 0; i < j->count; i++)
            if (!check_text(&j->picture[i], g->on.model, NULL, e)) return false;
        if (!plan(g, j, e)) return false;
    }
    return true;
}

static bool open_image(job_image *p, const generate_options *o, const model *first, char **notes,
                       error *e)
{
    *p = (job_image){.o = o,
                     .prompt = o->prompt ? o->prompt : "",
                     .negative = o->negative ? o->negative : "",
                     .guidance = {.scale = o->guidance, .rescale = o->guidance_rescale}};
    if (!check_text(p, first, notes, e) || !begin_check(o, first, e) ||
        (notes && (!sampler_notes(notes, &o->sampler, e) || !mask_notes(o, notes, e))))
        return false;
    sampler_options how = o->sampler;
    how.skip = how.steps - generate_steps(o);
    return sampler_open(&p->sampler, &first->scheduler, &how, e) && check_variance(p, first, e);
}

/* The parts of a script are conditions with weights, which count without guidance too. */
static bool open_script(job *j, char **notes, error *e)
{
    generator *g = job_first(j);
    if (!script_cut(g, j, e)) return false;
    const script *s = &g->script.script;
    j->parts = recital_samples(&g->script.recital);
    for (int i = 0; i < s->conditions; i++) j->weight[i] = s->part[1 + i].weight;
    for (int k = 0; k < j->count; k++) {
        guidance *its = &j->picture[k].guidance;
        its->scale = fmaxf(its->scale, 1);
        its->weight = j->weight;
    }
    return !notes || script_notes(notes, g->on.model, j->picture[0].prompt, e);
}

bool job_open(job *j, generator *const *models, int count, const mix *m, const generate_options *o,
              int pictures, char **notes, error *e)
{
    *j = (job){.models = models, .model_count = count, .mix = m, .count = pictures};
    const model *first = job_first(j)->on.model;
    j->parts = fit_conditional(first) && o->guidance > 1 ? 2 : 1;
    j->scripted = fit_conditional(first) && o->syntax == PROMPT_A1111;
    j->picture = calloc((size_t)pictures, sizeof *j->picture);
    if (!j->picture) return error_memory(e, "pictures", (size_t)pictures * sizeof *j->picture);
    for (int k = 0; k < pictures; k++) {
        assert(k == 0 || generate_alike(&o[0], &o[k]));
        if (!isfinite(o[k].guidance) || !isfinite(o[k].guidance_rescale))
            return error_set(e, ERROR_USAGE, "guidance must be a number");
        if (o[k].guidance_rescale < 0 || o[k].guidance_rescale > 1)
            return error_set(e, ERROR_USAGE, "guidance rescale is %s; give a number from 0 to 1",
                             number_exact_float(o[k].guidance_rescale).text);
        if (o[k].deep_cache < 0)
            return error_set(e, ERROR_USAGE,
                             "deep cache %d: every how many evaluations the whole network is run; "
                             "give 1 (always) or more",
                             o[k].deep_cache);
    }
    if (!check_size(j, o, first, e)) return false;
    for (int k = 0; k < pictures; k++)
        if (!open_image(&j->picture[k], &o[k], first, notes, e)) return false;
    if (j->scripted && !open_script(j, notes, e)) return false;
    if (notes && (!negative_note(j, notes, e) || !word_notes(j, notes, e))) return false;
    assert(!m || m->count == sampler_steps(j->picture[0].sampler));
    return plan_all(j, e) && memory_check_planned(j, e);
}
