/* SPDX-License-Identifier: Apache-2.0
 *
 * trainer: opening a run, and one batch of it. The order in which random numbers are drawn is
 * train_dreambooth.py's: a batch's posterior noise, noise, offset noise, timesteps. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/number.h"
#include "base/platform.h"
#include "pipeline/fit.h"
#include "pipeline/layout.h"
#include "train/update.h"

/* One batch's numbers, of as many samples as there can be. Planes are in PyTorch's order [C,h,w],
 * maps channels-last. */
struct trainer_buffers {
    example *batch;
    float *latents, *noise, *offset; /* planes; offset [S,C] */
    float *t, *weight, *each;        /* [S] */
    float *noisy, *target;           /* maps */
    int32_t *ids;
    float *context;
    float *places; /* a textual inversion's: [S,N,vectors] */
    size_t plane;  /* C*h*w */
    int channels, height, width, samples;
};

/* ---- opening ------------------------------------------------------------------------------- */

static void buffers_close(struct trainer_buffers *b)
{
    if (!b) return;
    free(b->batch), free(b->latents), free(b->noise), free(b->offset);
    free(b->t), free(b->weight), free(b->each), free(b->noisy), free(b->target);
    free(b->ids), free(b->context), free(b->places);
    free(b);
}

static bool has_prior(const trainer *t)
{
    return t->settings.with_prior_preservation || t->settings.prior_from_base;
}

static bool buffers_open(trainer *t, error *e)
{
    struct trainer_buffers *b = t->buffers = calloc(1, sizeof *b);
    if (!b) return error_memory(e, "a batch", sizeof *b);
    const model *m = t->model;
    size_t batch = (size_t)t->settings.train_batch_size, n = has_prior(t) ? 2 * batch : batch;
    size_t text = n * (size_t)m->clip.positions;
    int shape[3];
    fit_latents(m, t->settings.resolution, t->settings.resolution, shape);
    b->channels = shape[0];
    b->height = shape[1];
    b->width = shape[2];
    b->plane = (size_t)b->channels * (size_t)b->height * (size_t)b->width;
    b->samples = (int)n;
    b->batch = calloc(batch, sizeof *b->batch);
    b->latents = malloc(n * b->plane * sizeof(float));
    b->noise = malloc(n * b->plane * sizeof(float));
    b->offset = malloc(n * (size_t)b->channels * sizeof(float));
    b->t = malloc(n * sizeof(float));
    b->weight = malloc(n * sizeof(float));
    b->each = malloc(n * sizeof(float));
    b->noisy = malloc(n * b->plane * sizeof(float));
    b->target = malloc(n * b->plane * sizeof(float));
    b->ids = malloc(text * sizeof *b->ids);
    b->context = malloc(text * (size_t)m->clip.hidden * sizeof(float));
    b->places = malloc(text * (size_t)t->settings.num_vectors * sizeof *b->places);
    return (b->batch && b->latents && b->noise && b->offset && b->t && b->weight && b->each &&
            b->noisy && b->target && b->ids && b->context && b->places) ||
           error_memory(e, "a batch", 4 * n * b->plane * sizeof(float));
}

static bool has_class_images(const trainer *t)
{
    return t->settings.with_prior_preservation && !t->settings.prior_from_base;
}

static bool open_photos(trainer *t, error *e)
{
    const train_settings *s = &t->settings;
    if (s->textual_inversion)
        return photo_set_open_square(&t->instances, s->instance_data_dir, s->instance_images,
                                     s->instance_count, s->resolution, s->center_crop, t->watch, e);
    if (s->instance_count)
        return photo_set_copy(&t->instances, s->instance_images, s->instance_count, s->resolution,
                              e);
    return photo_set_open_watched(&t->instances, s->instance_data_dir, s->resolution, 0, "instance",
                                  t->watch, e);
}

static bool open_latents(trainer *t, error *e)
{
    const train_settings *s = &t->settings;
    const photo_set *classes = has_class_images(t) ? &t->classes : NULL;
    latents_options o = {&t->instances,  classes,          s->resolution,
                         s->center_crop, s->cache_latents, t->watch};
    if (classes && !photo_set_open_watched(&t->classes, s->class_data_dir, s->resolution,
                                           (size_t)s->num_class_images, "class", t->watch, e))
        return false;
    return draws_open(&t->draws, s->seed, &t->instances, classes, s->center_crop,
                      (uint32_t)s->train_batch_size, e) &&
           (!s->textual_inversion ||
            draws_repeat(&t->draws, s->seed, (uint32_t)s->repeats, t->inversion.prompts, e)) &&
           latents_open(&t->latents, t->device, t->model, &o, e);
}

static bool open_texts(trainer *t, error *e)
{
    const train_settings *s = &t->settings;
    if (s->textual_inversion) return true; /* it has its own */
    return prompt_text_open(&t->instance_text, t->device, t->model, s->instance_prompt, e) &&
           (!has_prior(t) ||
            prompt_text_open(&t->class_text, t->device, t->model, s->class_prompt, e));
}

static bool check_resolution(trainer *t, error *e)
{
    const model *m = t->model;
    int factor = fit_factor(m);
    if (t->settings.resolution == 0) t->settings.resolution = m->unet.sample_size * factor;
    return t->settings.resolution % factor == 0 ||
           error_set(e, ERROR_USAGE,
                     "--resolution %d is not a multiple of %d, which this model's "
                     "autoencoder needs; use %d",
                     t->settings.resolution, factor,
                     t->settings.resolution / factor * factor + factor);
}

static const char *memory_of(const trainer *t)
{
    return t->device->apart ? "the device's memory" : "memory";
}

/* Before anything is read: what the autoencoder's widest maps alone must take, so that an absurd
 * size is not even planned. */
static bool check_memory_least(const trainer *t, error *e)
{
    double need = fit_least_bytes(t->model, t->settings.resolution, t->settings.resolution);
    double have = (double)t->device->memory_left(t->device);
    return need <= have || error_set(e, ERROR_MEMORY,
                                     "--resolution %d needs %s of %s for one picture's latents, "
                                     "and %s can be had; use a smaller one",
                                     t->settings.resolution, number_bytes(need).text, memory_of(t),
                                     number_bytes(have).text);
}

/* The number of updates where an epoch has so many examples, and the learning rate, as the script
 * has them. */
static void count_updates(trainer *t, size_t examples)
{
    train_settings *s = &t->settings;
    int64_t batch = s->train_batch_size, batches = ((int64_t)examples + batch - 1) / batch;
    int64_t accumulation = s->gradient_accumulation_steps;
    int64_t updates = (batches + accumulation - 1) / accumulation;
    t->total = s->max_train_steps ? s->max_train_steps : s->num_train_epochs * updates;
    t->rate = train_learning_rate(s);
    if (s->scale_lr) t->rate *= (double)(accumulation * batch);
}

static step_options options_for(const trainer *t, int samples)
{
    const struct trainer_buffers *b = t->buffers;
    return (step_options){.samples = samples,
                          .height = b->height,
                          .width = b->width,
                          .train_text_encoder = t->settings.train_text_encoder,
                          .recompute = t->settings.gradient_checkpointing,
                          .gradients = true,
                          .lora = lora_branch_of(&t->settings),
                          .vectors = t->settings.textual_inversion ? t->settings.num_vectors : 0};
}

/* Of the base's prediction. */
static step_options prior_options(const trainer *t, int samples)
{
    step_options o = options_for(t, samples);
    o.gradients = o.train_text_encoder = false;
    o.lora = (lora_branch){0};
    return o;
}

/* Of a device apart besides what is counted: memory is taken in blocks, and libraries take their
 * own.
 */
static double loose_bytes(double counted) { return floor(fmin(counted / 6, 256 << 20)); }

/* Of a set as it is trained, or as the base model has it. */
static double copies_of(const trainer *t, const weight_set *set, weight_use use)
{
    double sum = 0;
    for (size_t i = 0; i < set->count; i++) {
        weight w = set->item[i];
        if (use == WEIGHT_TRAINED) w.type = parameters_type(&t->settings);
        sum += (double)device_copy_bytes(t->device, &w, use);
    }
    return sum;
}

/* While the training's own memory stays where it is. */
static double picture_bytes(const trainer *t)
{
    const model *m = t->model;
    int side = m->unet.sample_size * fit_factor(m);
    if (!t->settings.validation_prompt) return 0;
    return copies_of(t, &m->unet_weights, WEIGHT_READ) + lora_applied_bytes(&t->lora) +
           copies_of(t, &m->clip_weights, WEIGHT_READ) +
           copies_of(t, &m->vae_weights, WEIGHT_READ) + fit_least_bytes(m, side, side);
}

static const weight_set none;

const weight_set *trainer_begins(const trainer *t, bool is_clip)
{
    bool is_lora = t->settings.lora_rank > 0;
    if (t->settings.textual_inversion) return is_clip ? &t->inversion.begins : &none;
    if (!is_clip) return is_lora ? &t->lora.unet : &t->model->unet_weights;
    if (!t->settings.train_text_encoder) return &none;
    return is_lora ? &t->lora.clip : &t->model->clip_weights;
}

/* Whether gradients pass through the base's text encoder, and it is not trained. */
static bool clip_is_frozen(const train_settings *s)
{
    return s->textual_inversion || (s->lora_rank && s->train_text_encoder);
}

/* Whether they pass so through its UNet. */
static bool unet_is_frozen(const train_settings *s) { return s->textual_inversion || s->lora_rank; }

/* Of the base as it stands beside a LoRA, and under prior_from_base. */
static double base_bytes(const trainer *t)
{
    const train_settings *s = &t->settings;
    const model *m = t->model;
    double sum = 0;
    if (unet_is_frozen(s) || s->prior_from_base)
        sum += copies_of(t, &m->unet_weights, unet_is_frozen(s) ? WEIGHT_FROZEN : WEIGHT_READ);
    if (clip_is_frozen(s)) sum += copies_of(t, &m->clip_weights, WEIGHT_FROZEN);
    return sum;
}

train_needs trainer_needs(const trainer *t)
{
    const train_settings *s = &t->settings;
    const weight_set *unet = trainer_begins(t, false), *clip = trainer_begins(t, true);
    parameter_sizes z = parameters_sizes(unet, clip, s);
    double weights = (double)z.weights, states = (double)z.states;
    double prior = t->priors[0].graph ? (double)graph_bytes(t->priors[0].graph) : 0;
    train_needs n = {
        .weights = weights + states + (double)z.sums + copies_of(t, unet, WEIGHT_TRAINED) +
                   copies_of(t, clip, WEIGHT_TRAINED) + base_bytes(t),
        .gradients_and_activations = fmax((double)graph_bytes(t->steps[0].graph), prior),
        .encoder = t->latents ? (double)latents_bytes(t->latents) : 0,
        .pictures = picture_bytes(t)};
    if (s->optimizer == OPTIMIZER_ADAMW_F16) n.weights += weights + states; /* update.c's backup */
    n.total = n.weights + n.gradients_and_activations + n.encoder + n.pictures;
    if (t->device->apart) n.total += loose_bytes(n.total), n.host = fmax(weights, states);
    return n;
}

/* Before the weights are copied: what the run will take, against what there is. */
static bool check_memory(const trainer *t, error *e)
{
    train_needs n = trainer_needs(t);
    double have = (double)t->device->memory_left(t->device), host = (double)memory_available();
    const train_settings *s = &t->settings;
    const char *bytes = s->optimizer == OPTIMIZER_ADAMW ? "add --use_8bit_adam, " : "";
    char pictures[96] = "";
    if (t->device->apart) have += n.encoder; /* it is there already */
    if (n.host > host)
        return error_set(e, ERROR_MEMORY,
                         "a checkpoint needs %s of the host's memory on its way to the disk and "
                         "%s can be had; %sclose other programs",
                         number_bytes(n.host).text, number_bytes(host).text, bytes);
    if (n.total <= have) return true;
    if (n.pictures > 0)
        snprintf(pictures, sizeof pictures, ", %s for validation pictures",
                 number_bytes(n.pictures).text);
    return error_set(e, ERROR_MEMORY,
                     "training needs %s of %s (%s for weights and optimizer, %s for gradients "
                     "and activations%s) and %s can be had; %s%s%s%suse a smaller "
                     "--resolution or --train_batch_size, or close other programs",
                     number_bytes(n.total).text, memory_of(t), number_bytes(n.weights).text,
                     number_bytes(n.gradients_and_activations).text, pictures,
                     number_bytes(have).text,
                     s->gradient_checkpointing ? "" : "add --gradient_checkpointing, ", bytes,
                     s->train_text_encoder ? "leave out --train_text_encoder, " : "",
                     s->validation_prompt ? "leave out --validation_prompt, " : "");
}

static bool open_steps(trainer *t, error *e)
{
    step_options o = options_for(t, t->buffers->samples);
    const train_settings *s = &t->settings;
    const model *m = t->model;
    if (!step_open(&t->steps[0], t->device, m, &o, e) ||
        ((unet_is_frozen(s) || s->prior_from_base) &&
         !device_weights_open(t->device, &m->unet_weights, &t->base, e)) ||
        (clip_is_frozen(s) && !device_weights_open(t->device, &m->clip_weights, &t->base_clip, e)))
        return false;
    if (!s->prior_from_base) return true;
    o = prior_options(t, o.samples / 2);
    return step_open(&t->priors[0], t->device, m, &o, e);
}

bool trainer_open(trainer *t, device *d, const model *m, const train_settings *s,
                  const train_watch *watch, error *e)
{
    *t = (trainer){.device = d, .model = m, .settings = *s, .watch = watch};
    if (d->compute == DTYPE_F16) t->scaler = loss_scaler_on(LOSS_SCALE_FIRST);
    if (t->scaler.scale > 0 && s->optimizer == OPTIMIZER_ADAMW_F16)
        return error_set(e, ERROR_USAGE,
                         "--mixed_precision fp16 and --optimizer_precision fp16: a scaled loss "
                         "wants float32 weights (torch refuses the two together as well); choose "
                         "one");
    if (m->kind != MODEL_STABLE_DIFFUSION)
        return error_set(e, ERROR_MODEL,
                         "%s: is an unconditional model; DreamBooth needs one that "
                         "takes a prompt (Stable Diffusion 1.x)",
                         m->path);
    if (model_inpaints(m))
        return error_set(e, ERROR_MODEL,
                         "%s: is an inpainting model (9 input channels), which is not trained "
                         "here; give one that makes whole pictures",
                         m->path);
    bool ok = train_settings_check(s, e);
    train_settings_resolve(&t->settings);
    if (ok && lora_open(&t->lora, m, s, e) && inversion_open(&t->inversion, m, s, e) &&
        check_resolution(t, e) && check_memory_least(t, e) && open_photos(t, e) &&
        (!s->textual_inversion || draws_can_repeat(&t->instances, (uint32_t)s->repeats, e)) &&
        open_texts(t, e) && noise_schedule_open(&t->schedule, &m->scheduler, e) &&
        buffers_open(t, e) && open_steps(t, e) && check_memory(t, e)) {
        size_t classes = has_class_images(t) ? (size_t)s->num_class_images : 0;
        size_t own = t->instances.count - t->instances.mirrored;
        if (s->textual_inversion) own *= (size_t)s->repeats;
        count_updates(t, classes > own ? classes : own);
        return true;
    }
    trainer_close(t);
    return false;
}

bool trainer_start(trainer *t, error *e)
{
    if (!open_latents(t, e) || !check_memory(t, e) || !lora_draw(&t->lora, &t->draws.random, e) ||
        !parameters_open(&t->parameters, t->device, trainer_begins(t, false),
                         trainer_begins(t, true), &t->settings, e))
        return false;
    count_updates(t, t->draws.length);
    return true;
}

/* Before the first batch of an update. */
static bool mark_draws(trainer *t, error *e)
{
    return t->mark || draws_save(&t->draws, &t->mark, &t->mark_size, e);
}

static void unmark_draws(trainer *t)
{
    free(t->mark);
    t->mark = NULL;
}

bool trainer_rewind(trainer *t, error *e)
{
    if (!t->mark) return true;
    bool ok = update_forget(t, e) && draws_load(&t->draws, t->mark, t->mark_size, e);
    unmark_draws(t);
    return ok;
}

void trainer_close(trainer *t)
{
    for (int i = 0; i < TRAINER_STEPS; i++) {
        step_close(&t->steps[i]);
        step_close(&t->priors[i]);
    }
    buffers_close(t->buffers);
    parameters_close(&t->parameters);
    device_weights_close(&t->base);
    device_weights_close(&t->base_clip);
    lora_close(&t->lora);
    inversion_close(&t->inversion);
    noise_schedule_close(&t->schedule);
    prompt_text_close(&t->instance_text);
    prompt_text_close(&t->class_text);
    latents_close(&t->latents);
    draws_close(&t->draws);
    photo_set_close(&t->instances);
    photo_set_close(&t->classes);
    unmark_draws(t);
    *t = (trainer){0};
}

bool trainer_model_open(model *m, trainer *t, error *e)
{
    const train_settings *s = &t->settings;
    *m = *t->model;
    m->hash = NULL;
    m->path = (char *)(uintptr_t)s->output_dir;
    bool ok = parameters_show(&t->parameters, e);
    if (!s->lora_rank) {
        m->unet_weights = t->parameters.unet.set;
        if (s->train_text_encoder) m->clip_weights = t->parameters.clip.set;
        return ok;
    }
    m->unet_weights = (weight_set){0};
    if (s->train_text_encoder) m->clip_weights = (weight_set){0};
    if (ok &&
        lora_apply(&m->unet_weights, &t->model->unet_weights, &t->parameters.unet.set, s, e) &&
        (!s->train_text_encoder ||
         lora_apply(&m->clip_weights, &t->model->clip_weights, &t->parameters.clip.set, s, e)))
        return true;
    trainer_model_close(m, t);
    return false;
}

void trainer_model_close(model *m, trainer *t)
{
    if (t->settings.lora_rank) {
        weight_set_close(&m->unet_weights);
        if (t->settings.train_text_encoder) weight_set_close(&m->clip_weights);
    }
    parameters_hide(&t->parameters);
}

/* ---- one batch ------------------------------------------------------------------------------ */

/* Whether the script's latents, and so its randn_like(latents), are channels-last in memory: then
 * PyTorch draws the noise in that order, one value at a time. On the CPU the attention in the
 * autoencoder's middle leaves the maps of two or more pictures so (seen with diffusers 0.42,
 * torch 2.15 at every size tried). */
static bool noise_is_channels_last(const trainer *t, int samples)
{
    return t->model->vae.mid_attention && samples > 1;
}

static void draw_noise(trainer *t, int samples)
{
    struct trainer_buffers *b = t->buffers;
    size_t n = (size_t)samples * b->plane, channels = (size_t)b->channels;
    if (!noise_is_channels_last(t, samples)) {
        rng_randn(&t->draws.random, b->noise, n);
        return;
    }
    float *maps = b->target; /* free until the noise is there */
    rng_randn_strided(&t->draws.random, maps, n);
    for (size_t at = 0; at < n; at += b->plane)
        layout_planes(b->noise + at, maps + at, channels, b->plane / channels);
}

/* Draws noise and timesteps; noised latents and target of each sample (diffusers'
 * DDPMScheduler.add_noise and get_velocity). */
static void noise_batch(trainer *t, int samples)
{
    struct trainer_buffers *b = t->buffers;
    const noise_schedule *schedule = &t->schedule;
    size_t n = (size_t)samples, pixels = b->plane / (size_t)b->channels;
    draw_noise(t, samples);
    if (t->settings.offset_noise) {
        float factor = (float)t->settings.offset_noise_factor;
        rng_randn(&t->draws.random, b->offset, n * (size_t)b->channels);
        for (size_t i = 0; i < n * b->plane; i++) b->noise[i] += factor * b->offset[i / pixels];
    }
    for (int k = 0; k < samples; k++)
        b->t[k] = (float)rng_below(&t->draws.random, (uint32_t)schedule->steps);
    bool velocity = t->model->scheduler.predicts == PREDICT_V;
    for (int k = 0; k < samples; k++) {
        float *x = b->latents + (size_t)k * b->plane, *z = b->noise + (size_t)k * b->plane;
        float alpha_bar = schedule->alpha_bar[(int)b->t[k]];
        float signal = sqrtf(alpha_bar), sigma = sqrtf(1 - alpha_bar);
        for (size_t i = 0; i < b->plane; i++) {
            float noisy = signal * x[i] + sigma * z[i];
            if (velocity) z[i] = signal * z[i] - sigma * x[i];
            x[i] = noisy;
        }
        layout_channels_last(b->noisy + (size_t)k * b->plane, x, (size_t)b->channels, pixels);
        layout_channels_last(b->target + (size_t)k * b->plane, z, (size_t)b->channels, pixels);
    }
}

/* prior_from_base: the class half is the instance half again, under the class prompt. */
static void repeat_half(struct trainer_buffers *b, int half)
{
    size_t n = (size_t)half;
    memcpy(b->noisy + n * b->plane, b->noisy, n * b->plane * sizeof(float));
    memcpy(b->t + n, b->t, n * sizeof *b->t);
}

/* The loss is the mean of weight * mse over all samples: instance half (weighted by min-SNR) plus
 * prior_loss_weight times the class half, each half's own mean. */
static void weigh_batch(trainer *t, int count, int samples)
{
    struct trainer_buffers *b = t->buffers;
    double gamma = t->settings.snr_gamma;
    for (int k = 0; k < samples; k++) {
        float share = (float)samples / (float)count;
        if (k >= count) {
            b->weight[k] = share * (float)t->settings.prior_loss_weight;
            continue;
        }
        float alpha_bar = t->schedule.alpha_bar[(int)b->t[k]], snr = alpha_bar / (1 - alpha_bar);
        float share_of_snr = fminf(snr, (float)gamma) /
                             (t->model->scheduler.predicts == PREDICT_V ? snr + 1 : snr);
        b->weight[k] = gamma > 0 ? share * share_of_snr : share;
    }
}

/* The step of this many samples with its memory taken; the other gives its own back. */
static step_graph *step_for(trainer *t, step_graph *steps, int samples, const step_options *o,
                            error *e)
{
    step_graph *s = NULL;
    for (int i = 0; i < TRAINER_STEPS && !s; i++)
        if (!steps[i].graph || steps[i].options.samples == samples) s = &steps[i];
    if (!s->graph && !step_open(s, t->device, t->model, o, e)) return NULL;
    if (t->active != s) {
        if (t->active) graph_release(t->active->graph);
        t->active = NULL;
        if (!graph_allocate(s->graph, e)) return NULL;
        t->active = s;
    }
    return s;
}

static bool write_rows(trainer *t, const step_graph *s, error *e)
{
    struct trainer_buffers *b = t->buffers;
    size_t positions = (size_t)t->model->clip.positions;
    size_t numbers = positions * (size_t)t->model->clip.hidden;
    size_t places = positions * (size_t)s->options.vectors;
    for (int k = 0; k < s->options.samples; k++) {
        const inversion_prompt *p = &t->inversion.prompt[b->batch[k].prompt];
        memcpy(b->context + (size_t)k * numbers, p->rows, numbers * sizeof(float));
        memcpy(b->places + (size_t)k * places, p->places, places * sizeof(float));
    }
    return graph_write(s->graph, s->rows, b->context, e) &&
           graph_write(s->graph, s->places, b->places, e);
}

static bool write_text(trainer *t, const step_graph *s, int count, bool all_class, error *e)
{
    if (s->rows) return write_rows(t, s, e);
    struct trainer_buffers *b = t->buffers;
    size_t positions = (size_t)t->model->clip.positions;
    size_t numbers = positions * (size_t)t->model->clip.hidden;
    for (int k = 0; k < s->options.samples; k++) {
        const prompt_text *text = k >= count || all_class ? &t->class_text : &t->instance_text;
        memcpy(b->ids + (size_t)k * positions, text->ids, positions * sizeof *b->ids);
        memcpy(b->context + (size_t)k * numbers, text->embedding, numbers * sizeof(float));
    }
    return s->ids ? graph_write(s->graph, s->ids, b->ids, e)
                  : graph_write(s->graph, s->context, b->context, e);
}

/* The base model's prediction for the instance half under the class prompt: the class half's
 * target. */
static bool predict_prior(trainer *t, int count, error *e)
{
    struct trainer_buffers *b = t->buffers;
    step_options o = prior_options(t, count);
    step_graph *s = step_for(t, t->priors, count, &o, e);
    if (!s || !graph_bind(s->graph, &t->base, 1, e)) return false;
    return write_text(t, s, 0, true, e) && graph_write(s->graph, s->x, b->noisy, e) &&
           graph_write(s->graph, s->t, b->t, e) && graph_run(s->graph, e) &&
           graph_read(s->graph, s->prediction, b->target + (size_t)count * b->plane, e);
}

static bool run_step(trainer *t, step_graph *s, int count, error *e)
{
    struct trainer_buffers *b = t->buffers;
    device_weights *all[] = {t->parameters.unet.copy, t->parameters.clip.copy,
                             unet_is_frozen(&t->settings) ? t->base : NULL, t->base_clip},
                   *sets[4];
    size_t n = 0;
    float start = loss_scale(&t->scaler) / (float)t->settings.gradient_accumulation_steps;
    for (int k = 0; k < 4; k++)
        if (all[k]) sets[n++] = all[k];
    if (!graph_bind(s->graph, sets, n, e)) return false;
    graph *g = s->graph;
    return write_text(t, s, count, false, e) && graph_write(g, s->x, b->noisy, e) &&
           graph_write(g, s->t, b->t, e) && graph_write(g, s->target, b->target, e) &&
           graph_write(g, s->weight, b->weight, e) && graph_write(g, s->start, &start, e) &&
           graph_run(g, e);
}

static bool read_losses(trainer *t, const step_graph *s, int count, train_report *r, error *e)
{
    struct trainer_buffers *b = t->buffers;
    int samples = s->options.samples;
    double instance = 0, prior = 0;
    if (!graph_read(s->graph, s->each, b->each, e) || !graph_read(s->graph, s->loss, &r->loss, e))
        return false;
    for (int k = 0; k < samples; k++) {
        double share = (double)samples / count;
        if (k < count)
            instance += (double)b->each[k] * b->weight[k] / share / count;
        else
            prior += (double)b->each[k] / (samples - count);
    }
    r->instance_loss = (float)instance;
    r->prior_loss = (float)prior;
    return true;
}

bool trainer_batch(trainer *t, train_report *r, error *e)
{
    struct trainer_buffers *b = t->buffers;
    uint32_t given;
    bool last;
    double began = clock_seconds();
    if (!mark_draws(t, e)) return false;
    draws_next(&t->draws, b->batch, &given, &last);
    int count = (int)given, samples = has_prior(t) ? 2 * count : count;
    int drawn = t->settings.prior_from_base ? count : samples;
    *r = (train_report){0};
    if (!latents_sample(t->latents, b->batch, given, &t->draws.random, b->latents, e)) return false;
    noise_batch(t, drawn);
    if (t->settings.prior_from_base) {
        repeat_half(b, count);
        if (!predict_prior(t, count, e)) return false;
    }
    weigh_batch(t, count, samples);
    step_options o = options_for(t, samples);
    step_graph *s = step_for(t, t->steps, samples, &o, e);
    if (!s || !run_step(t, s, count, e) || !read_losses(t, s, count, r, e)) return false;
    if (!isfinite(r->loss) && !t->scaler.scale) /* else its gradients say so, as in torch */
        return update_blame(t, s, "the loss is not a number", e);
    t->batches++;
    if (t->settings.gradient_accumulation_steps > 1 && !update_accumulate(t, s, e)) return false;
    r->network_seconds = clock_seconds() - began;
    bool due = last || t->batches % t->settings.gradient_accumulation_steps == 0;
    if (!due) return true;
    if (!update_run(t, s, r, e)) return false;
    unmark_draws(t);
    return true;
}
