/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness: one graph that encodes a picture, one that predicts the noise of all samples at once. */
#include "study/likeness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "train/step.h"

/* The seed of the noise; any would do, but it must stay. */
enum { NOISE_SEED = 20260 };

struct likeness {
    device *device;
    int timesteps, noises, samples;
    /* the autoencoder of `encodes`, for pictures of this size */
    graph *encoder;
    const model *encodes;
    tensor *image, *moments;
    int width, height;
    float *pixels, *moment;  /* [H,W,3], [h,w,2C] */
    /* the network, for latents of this size; bound to `predicts` */
    step_graph step;
    unet_config network;
    const model *predicts;
    float *noise;            /* [S,C,h,w] */
    float *x, *target, *out; /* [S,h,w,C]; out has as many channels as the network gives */
    float *t, *context;      /* [S]; [S,N,hidden] */
    double *each;            /* [S] */
};

int likeness_timestep(int k, int count, int steps)
{
    /* On the pocket model's trainings six timesteps from 0.15 to 0.775 of the schedule, one draw each, hold
     * the subject's photos 10 to 13 standard deviations above class pictures; past them the difference
     * itself vanishes (0.008 at 0.775, 0.1 at 0.15). */
    return (int)(steps * (0.15 + 0.75 * k / count));
}

/* ---- views ----------------------------------------------------------------------------------- */

bool likeness_view_open(likeness_view *v, device *d, const model *m, const char *prompt, error *e)
{
    *v = (likeness_view){.model = m, .prompt = prompt};
    if (prompt_text_open(&v->text, d, m, prompt, e) &&
        noise_schedule_open(&v->schedule, &m->scheduler, e))
        return true;
    likeness_view_close(v);
    return false;
}

void likeness_view_close(likeness_view *v)
{
    prompt_text_close(&v->text);
    noise_schedule_close(&v->schedule);
    *v = (likeness_view){0};
}

/* ---- opening --------------------------------------------------------------------------------- */

bool likeness_open(likeness **out, device *d, int timesteps, int noises, error *e)
{
    likeness *l = *out = calloc(1, sizeof *l);
    if (!l) return error_memory(e, "the likeness measure", sizeof *l);
    l->device = d;
    l->timesteps = timesteps;
    l->noises = noises;
    l->samples = timesteps * noises;
    l->each = calloc((size_t)l->samples, sizeof *l->each);
    if (l->each) return true;
    likeness_close(out);
    return error_memory(e, "the likeness measure", (size_t)timesteps * sizeof(double));
}

static void close_encoder(likeness *l)
{
    graph_close(&l->encoder);
    free(l->pixels), free(l->moment);
    l->pixels = l->moment = NULL;
    l->encodes = NULL;
}

static void close_network(likeness *l)
{
    step_close(&l->step);
    free(l->noise), free(l->x), free(l->target), free(l->out), free(l->t), free(l->context);
    l->noise = l->x = l->target = l->out = l->t = l->context = NULL;
    l->predicts = NULL;
}

void likeness_close(likeness **l)
{
    if (!*l) return;
    close_encoder(*l);
    close_network(*l);
    free((*l)->each);
    free(*l);
    *l = NULL;
}

const double *likeness_each(const likeness *l) { return l->each; }

/* ---- pictures to latents --------------------------------------------------------------------- */

static bool plan_encoder(likeness *l, const model *m, const image *picture, error *e)
{
    int h = picture->height, w = picture->width, factor = 1 << (m->vae.blocks - 1);
    size_t pixels = (size_t)h * (size_t)w * 3;
    size_t numbers = (size_t)(h / factor) * (size_t)(w / factor) * 2 * (size_t)m->vae.latent_channels;
    l->encodes = m;
    l->height = h;
    l->width = w;
    l->pixels = malloc(pixels * sizeof *l->pixels);
    l->moment = malloc(numbers * sizeof *l->moment);
    if (!l->pixels || !l->moment) return error_memory(e, "a picture's latents", pixels * sizeof(float));
    if (!graph_open(&l->encoder, l->device->compute, e)) return false;
    l->image = graph_input(l->encoder, "picture", DTYPE_F32, 4,
                           (int64_t[]){1, h, w, m->vae.in_channels});
    l->moments = cast(l->encoder, vae_build_encoder(l->encoder, &m->vae, l->image), DTYPE_F32);
    graph_output(l->encoder, l->moments);
    return graph_plan(l->encoder, l->device, e) && graph_bind(l->encoder, &m->vae_weights, e) &&
           graph_allocate(l->encoder, e);
}

static bool check_size(const model *m, const image *picture, const char *where, error *e)
{
    int factor = 1 << (m->vae.blocks - 1);
    return (picture->width % factor == 0 && picture->height % factor == 0) ||
           error_set(e, ERROR_FORMAT, "%s: is %d x %d, and this model's pictures have sides that are "
                     "multiples of %d; remove it, and run the study again", where, picture->width,
                     picture->height, factor);
}

/* Moments [h,w,2C] to the scaled means [C,h,w]. */
static bool take_means(const likeness *l, const model *m, latents_of_picture *out, const char *where,
                       error *e)
{
    size_t pixels = (size_t)out->height * (size_t)out->width, channels = (size_t)out->channels;
    float scaling = m->vae.scaling_factor;
    for (size_t k = 0; k < channels; k++)
        for (size_t i = 0; i < pixels; i++) {
            float mean = l->moment[i * 2 * channels + k];
            if (!isfinite(mean))
                return error_set(e, ERROR_NUMERIC, "%s: the autoencoder gives NaN or infinity for it; "
                                 "use another copy of the model, or precision f32", where);
            out->value[k * pixels + i] = mean * scaling;
        }
    return true;
}

bool likeness_encode(likeness *l, const model *m, const image *picture, const char *where,
                     latents_of_picture *out, error *e)
{
    *out = (latents_of_picture){0};
    if (!check_size(m, picture, where, e)) return false;
    if (l->encodes != m || l->width != picture->width || l->height != picture->height) {
        close_encoder(l);
        if (!plan_encoder(l, m, picture, e)) {
            close_encoder(l);
            return false;
        }
    }
    int factor = 1 << (m->vae.blocks - 1);
    *out = (latents_of_picture){.channels = m->vae.latent_channels,
                                .height = l->height / factor,
                                .width = l->width / factor};
    size_t n = (size_t)out->channels * (size_t)out->height * (size_t)out->width;
    out->value = malloc(n * sizeof *out->value);
    bool ok = out->value || error_memory(e, "a picture's latents", n * sizeof *out->value);
    float value[256]; /* as photo_pixels has them */
    for (int i = 0; i < 256; i++) value[i] = ((float)i / 255.0f - 0.5f) / 0.5f;
    size_t numbers = (size_t)l->height * (size_t)l->width * 3;
    for (size_t i = 0; i < numbers; i++) l->pixels[i] = value[picture->pixels[i]];
    graph_write(l->encoder, l->image, l->pixels);
    ok = ok && graph_run(l->encoder, e);
    if (ok) graph_read(l->encoder, l->moments, l->moment);
    ok = ok && take_means(l, m, out, where, e);
    if (!ok) latents_of_picture_free(out);
    return ok;
}

void latents_of_picture_free(latents_of_picture *x)
{
    free(x->value);
    *x = (latents_of_picture){0};
}

/* ---- predictions ----------------------------------------------------------------------------- */

static bool plan_network(likeness *l, const model *m, const latents_of_picture *x, error *e)
{
    step_options o = {.samples = l->samples, .height = x->height, .width = x->width};
    size_t samples = (size_t)l->samples, pixels = (size_t)x->height * (size_t)x->width;
    size_t numbers = samples * pixels * (size_t)x->channels;
    size_t text = (size_t)m->clip.positions * (size_t)m->clip.hidden;
    l->network = m->unet;
    l->noise = malloc(numbers * sizeof(float));
    l->x = malloc(numbers * sizeof(float));
    l->target = malloc(numbers * sizeof(float));
    l->out = malloc(samples * pixels * (size_t)m->unet.out_channels * sizeof(float));
    l->t = malloc(samples * sizeof(float));
    l->context = malloc(samples * text * sizeof(float));
    if (!l->noise || !l->x || !l->target || !l->out || !l->t || !l->context)
        return error_memory(e, "noised latents", 4 * numbers * sizeof(float));
    rng random;
    rng_seed(&random, NOISE_SEED);
    for (size_t k = 0; k < samples; k++) /* a draw a sample, so that more samples keep the first ones */
        rng_randn(&random, l->noise + k * (numbers / samples), numbers / samples);
    return step_open(&l->step, l->device, m, &o, e) && graph_allocate(l->step.graph, e);
}

/* The network planned for these latents, and bound to the model. */
static bool ready_network(likeness *l, const model *m, const latents_of_picture *x, error *e)
{
    const step_options *o = &l->step.options;
    bool fits = l->step.graph && o->height == x->height && o->width == x->width &&
                memcmp(&l->network, &m->unet, sizeof m->unet) == 0;
    if (!fits) {
        close_network(l);
        if (!plan_network(l, m, x, e)) {
            close_network(l);
            return false;
        }
    }
    if (l->predicts == m) return true;
    l->predicts = NULL;
    if (!graph_bind(l->step.graph, &m->unet_weights, e)) return false;
    l->predicts = m;
    return true;
}

/* Sample k's noised latents and what the network should say of them, channels-last. */
static void noise_sample(likeness *l, const likeness_view *v, const latents_of_picture *x, int k)
{
    size_t pixels = (size_t)x->height * (size_t)x->width, channels = (size_t)x->channels;
    size_t first = (size_t)k * pixels * channels;
    int t = likeness_timestep(k / l->noises, l->timesteps, v->schedule.steps);
    float alpha_bar = v->schedule.alpha_bar[t];
    float signal = sqrtf(alpha_bar), sigma = sqrtf(1 - alpha_bar);
    prediction predicts = v->model->scheduler.predicts;
    l->t[k] = (float)t;
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < pixels; i++) {
            float clean = x->value[c * pixels + i], noise = l->noise[first + c * pixels + i];
            size_t at = first + i * channels + c;
            l->x[at] = signal * clean + sigma * noise;
            l->target[at] = predicts == PREDICT_V        ? signal * noise - sigma * clean
                            : predicts == PREDICT_SAMPLE ? clean
                                                         : noise;
        }
}

/* The mean squared error of each sample. */
static bool compare(likeness *l, const latents_of_picture *x, const char *where, error *e)
{
    size_t pixels = (size_t)x->height * (size_t)x->width, channels = (size_t)x->channels;
    size_t given = (size_t)l->network.out_channels;
    for (size_t k = 0; k < (size_t)l->samples; k++) {
        double sum = 0;
        for (size_t i = k * pixels; i < (k + 1) * pixels; i++)
            for (size_t c = 0; c < channels; c++) {
                double d = (double)l->out[i * given + c] - (double)l->target[i * channels + c];
                sum += d * d;
            }
        l->each[k] = sum / (double)(pixels * channels);
        if (!isfinite(sum))
            return error_set(e, ERROR_NUMERIC, "%s: %s gives NaN or infinity for its latents; use another "
                             "copy of the model, or precision f32", where, l->predicts->path);
    }
    return true;
}

bool likeness_error(likeness *l, const likeness_view *v, const latents_of_picture *x,
                    const char *where, double *out, error *e)
{
    const model *m = v->model;
    if (!ready_network(l, m, x, e)) return false;
    size_t text = (size_t)m->clip.positions * (size_t)m->clip.hidden;
    for (int k = 0; k < l->samples; k++) {
        noise_sample(l, v, x, k);
        memcpy(l->context + (size_t)k * text, v->text.embedding, text * sizeof(float));
    }
    graph_write(l->step.graph, l->step.x, l->x);
    graph_write(l->step.graph, l->step.t, l->t);
    graph_write(l->step.graph, l->step.context, l->context);
    if (!graph_run(l->step.graph, e)) return false;
    graph_read(l->step.graph, l->step.prediction, l->out);
    if (!compare(l, x, where, e)) return false;
    *out = 0;
    for (int k = 0; k < l->samples; k++) *out += l->each[k] / l->samples;
    return true;
}
