/* SPDX-License-Identifier: Apache-2.0
 *
 * judge: one graph that encodes a picture, one that gives the activations for all draws of noise at once. */
#include "study/judge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/sha256.h"
#include "model/hash.h"
#include "model/schedule.h"
#include "train/text.h"

/* docs/MEASURES.md has the candidates. The seed could be any, but it must stay. */
enum { UP_BLOCK = 1, NOISE_SEED = 20260 };
static const double timestep = 0.1; /* of the schedule's length */
static const char prompt[] = "";

struct judge {
    device *device;
    const model *model;
    int noises;
    device_weights *vae, *unet;
    prompt_text text;
    noise_schedule schedule;
    int width, height;          /* of the pictures that are planned for; 0: none */
    graph *encoder, *network;
    tensor *picture, *moments;  /* [1,H,W,3] -> [1,h,w,2C] */
    tensor *x, *t, *context, *maps; /* [S,h,w,C], [S], [S,N,hidden] -> [S,h',w',channels] */
    float *pixels, *moment, *noise, *noised, *map; /* noise: [S,C,h,w] */
};

static int last_block(const model *m) { return UP_BLOCK < m->unet.blocks ? UP_BLOCK : m->unet.blocks - 1; }

void judge_key(const model *m, const device *d, int noises, char key[65])
{
    sha256 h;
    char line[128], hash[65];
    model_hash(m, hash);
    sha256_start(&h);
    snprintf(line, sizeof line, "likeness view 1: %d noises, %s, %s", noises, dtype_name(d->compute),
             dtype_name(d->weight_type));
    sha256_add(&h, line, strlen(line) + 1);
    sha256_add(&h, hash, 64);
    sha256_end(&h, key);
}

/* ---- opening --------------------------------------------------------------------------------- */

bool judge_open(judge **out, device *d, const model *m, int noises, error *e)
{
    judge *j = *out = calloc(1, sizeof *j);
    if (!j) return error_memory(e, "the measure of likeness", sizeof *j);
    *j = (judge){.device = d, .model = m, .noises = noises};
    if (device_weights_open(d, &m->vae_weights, &j->vae, e) &&
        device_weights_open(d, &m->unet_weights, &j->unet, e) && prompt_text_open(&j->text, d, m, prompt, e) &&
        noise_schedule_open(&j->schedule, &m->scheduler, e))
        return true;
    judge_close(out);
    return false;
}

static void close_graphs(judge *j)
{
    graph_close(&j->encoder);
    graph_close(&j->network);
    free(j->pixels), free(j->moment), free(j->noise), free(j->noised), free(j->map);
    j->pixels = j->moment = j->noise = j->noised = j->map = NULL;
    j->width = j->height = 0;
}

void judge_close(judge **j)
{
    if (!*j) return;
    close_graphs(*j);
    device_weights_close(&(*j)->vae);
    device_weights_close(&(*j)->unet);
    prompt_text_close(&(*j)->text);
    noise_schedule_close(&(*j)->schedule);
    free(*j);
    *j = NULL;
}

/* ---- planning for a size --------------------------------------------------------------------- */

static int factor_of(const model *m) { return 1 << (m->vae.blocks - 1); }

static size_t elements(const tensor *x)
{
    size_t n = 1;
    for (int i = 0; i < x->rank; i++) n *= (size_t)x->dim[i];
    return n;
}

static bool plan_encoder(judge *j, error *e)
{
    const model *m = j->model;
    int64_t shape[4] = {1, j->height, j->width, m->vae.in_channels};
    if (!graph_open(&j->encoder, j->device->compute, e)) return false;
    j->picture = graph_input(j->encoder, "picture", DTYPE_F32, 4, shape);
    j->moments = cast(j->encoder, vae_build_encoder(j->encoder, &m->vae, j->picture), DTYPE_F32);
    graph_output(j->encoder, j->moments);
    return graph_plan(j->encoder, j->device, e) && graph_bind(j->encoder, &j->vae, 1, e) &&
           graph_allocate(j->encoder, e);
}

static bool plan_network(judge *j, error *e)
{
    const model *m = j->model;
    int64_t n = j->noises, h = j->height / factor_of(m), w = j->width / factor_of(m);
    if (!graph_open(&j->network, j->device->compute, e)) return false;
    graph *g = j->network;
    j->x = graph_input(g, "latents", DTYPE_F32, 4, (int64_t[]){n, h, w, m->unet.in_channels});
    j->t = graph_input(g, "timesteps", DTYPE_F32, 1, &n);
    j->context = graph_input(g, "text embedding", DTYPE_F32, 3,
                             (int64_t[]){n, m->clip.positions, m->unet.cross_dim});
    j->maps = cast(g, unet_build_features(g, &m->unet, j->x, j->t, j->context, last_block(m)), DTYPE_F32);
    graph_output(g, j->maps);
    return graph_plan(g, j->device, e) && graph_bind(g, &j->unet, 1, e) && graph_allocate(g, e);
}

static bool make_room(judge *j, error *e)
{
    size_t latents = elements(j->x);
    rng random;
    j->pixels = malloc(elements(j->picture) * sizeof(float));
    j->moment = malloc(elements(j->moments) * sizeof(float));
    j->noise = malloc(latents * sizeof(float));
    j->noised = malloc(latents * sizeof(float));
    j->map = malloc(elements(j->maps) * sizeof(float));
    if (!j->pixels || !j->moment || !j->noise || !j->noised || !j->map)
        return error_memory(e, "the measure of likeness", (latents + elements(j->maps)) * sizeof(float));
    rng_seed(&random, NOISE_SEED);
    for (int k = 0; k < j->noises; k++) /* a draw a sample, so that more samples keep the first ones */
        rng_randn(&random, j->noise + (size_t)k * (latents / (size_t)j->noises), latents / (size_t)j->noises);
    return true;
}

/* What is the same for all pictures of a size. */
static bool write_constants(judge *j, error *e)
{
    size_t text = (size_t)j->model->clip.positions * (size_t)j->model->clip.hidden, n = (size_t)j->noises;
    float *room = malloc((n * text + n) * sizeof *room);
    if (!room) return error_memory(e, "the measure of likeness", n * text * sizeof *room);
    for (size_t k = 0; k < n; k++) {
        memcpy(room + k * text, j->text.embedding, text * sizeof *room);
        room[n * text + k] = (float)(int)(timestep * j->schedule.steps);
    }
    graph_write(j->network, j->context, room);
    graph_write(j->network, j->t, room + n * text);
    free(room);
    return true;
}

static bool plan(judge *j, const image *picture, const char *where, error *e)
{
    int factor = factor_of(j->model);
    if (picture->width % factor || picture->height % factor)
        return error_set(e, ERROR_FORMAT, "%s: is %d x %d, and this model's pictures have sides that are "
                         "multiples of %d; remove it, and run the study again", where, picture->width,
                         picture->height, factor);
    if (j->width == picture->width && j->height == picture->height) return true;
    close_graphs(j);
    j->width = picture->width;
    j->height = picture->height;
    if (plan_encoder(j, e) && plan_network(j, e) && make_room(j, e) && write_constants(j, e)) return true;
    close_graphs(j);
    return false;
}

/* ---- looking --------------------------------------------------------------------------------- */

/* The picture's scaled latents, noised by each draw, channels-last, into `noised`. */
static bool noise_picture(judge *j, const image *picture, error *e)
{
    size_t numbers = elements(j->picture), channels = (size_t)j->model->vae.latent_channels;
    size_t pixels = elements(j->moments) / (2 * channels);
    float alpha_bar = j->schedule.alpha_bar[(int)(timestep * j->schedule.steps)];
    float signal = sqrtf(alpha_bar) * j->model->vae.scaling_factor, sigma = sqrtf(1 - alpha_bar);
    for (size_t i = 0; i < numbers; i++) /* as photo_pixels has them */
        j->pixels[i] = ((float)picture->pixels[i] / 255.0f - 0.5f) / 0.5f;
    graph_write(j->encoder, j->picture, j->pixels);
    if (!graph_run(j->encoder, e)) return false;
    graph_read(j->encoder, j->moments, j->moment);
    for (size_t k = 0; k < (size_t)j->noises; k++)
        for (size_t i = 0; i < pixels; i++)
            for (size_t c = 0; c < channels; c++)
                j->noised[(k * pixels + i) * channels + c] =
                    signal * j->moment[i * 2 * channels + c] +
                    sigma * j->noise[(k * channels + c) * pixels + i];
    return true;
}

/* The mean over the draws at each place, brought to unit length. */
static bool average(const judge *j, view *out, const char *where, error *e)
{
    size_t size = (size_t)out->size, places = (size_t)out->places, samples = (size_t)j->noises;
    for (size_t p = 0; p < places; p++) {
        float *to = out->value + p * size;
        double squares = 0;
        for (size_t c = 0; c < size; c++) {
            double sum = 0;
            for (size_t k = 0; k < samples; k++) sum += (double)j->map[(k * places + p) * size + c];
            to[c] = (float)(sum / (double)samples);
            squares += (double)to[c] * (double)to[c];
        }
        if (!isfinite(squares))
            return error_set(e, ERROR_NUMERIC, "%s: %s gives NaN or infinity for it; use another copy of the "
                             "model, or precision f32", where, j->model->path);
        for (size_t c = 0; c < size; c++) to[c] = (float)((double)to[c] / (squares > 0 ? sqrt(squares) : 1));
    }
    return true;
}

bool judge_look(judge *j, const image *picture, const char *where, view *out, error *e)
{
    *out = (view){0};
    if (!plan(j, picture, where, e) || !noise_picture(j, picture, e)) return false;
    graph_write(j->network, j->x, j->noised);
    if (!graph_run(j->network, e)) return false;
    graph_read(j->network, j->maps, j->map);
    *out = (view){.places = (int)(j->maps->dim[1] * j->maps->dim[2]), .size = (int)j->maps->dim[3]};
    size_t bytes = (size_t)out->places * (size_t)out->size * sizeof(float);
    out->value = malloc(bytes);
    bool ok = out->value || error_memory(e, "the measure of likeness", bytes);
    ok = ok && average(j, out, where, e);
    if (!ok) view_close(out);
    return ok;
}

void view_close(view *v)
{
    free(v->value);
    *v = (view){0};
}

void view_match(const view *of, const view *x, float *cosine)
{
    size_t size = (size_t)of->size;
    for (int p = 0; p < of->places; p++) {
        const float *a = of->value + (size_t)p * size;
        double most = -1;
        for (int q = 0; q < x->places; q++) {
            const float *b = x->value + (size_t)q * size;
            double sum = 0;
            for (size_t c = 0; c < size; c++) sum += (double)a[c] * (double)b[c];
            if (sum > most) most = sum;
        }
        cosine[p] = (float)most;
    }
}
