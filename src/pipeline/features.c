/* SPDX-License-Identifier: Apache-2.0
 *
 * features: the encoder, and one graph that gives the activations for all draws of noise at once.
 */
#include "pipeline/features.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/random.h"
#include "base/sha256.h"
#include "model/hash.h"
#include "model/schedule.h"
#include "pipeline/encode.h"
#include "pipeline/fit.h"
#include "pipeline/layout.h"
#include "pipeline/text.h"

enum { MOST_DRAWS = 1000 };

#define PICTURE "the picture" /* its name in messages */

struct features {
    pipeline on;
    features_options options;
    float *states; /* the prompt's: [N,hidden] */
    noise_schedule schedule;
    int width, height; /* of the pictures that are planned for; 0: none */
    encoder *encoder;
    device_weights *weights;
    graph *network;
    tensor *x, *t, *context, *maps;   /* [S,h,w,C], [S], [S,N,hidden] -> [S,h',w',channels] */
    float *pixels, *mean, *deviation; /* [H,W,3], [C,h,w] */
    float *noise, *noised, *map;      /* [S,C,h,w], [S,h,w,C] */
};

/* docs/MEASURES.md has the candidates. The seed could be any, but it must stay. */
void features_defaults(features_options *o)
{
    *o = (features_options){.prompt = "", .draws = 2, .seed = 20260, .timestep = 0.1, .block = 1};
}

bool features_check(const model *m, const features_options *o, error *e)
{
    if (!fit_conditional(m))
        return error_set(e, ERROR_USAGE,
                         "%s: features are seen by a model that reads prompts, which this one "
                         "does not",
                         m->path);
    if (model_inpaints(m))
        return error_set(e, ERROR_USAGE,
                         "%s: features are not seen by an inpainting model (9 input channels)",
                         m->path);
    if (o->draws < 1 || o->draws > MOST_DRAWS)
        return error_set(e, ERROR_USAGE, "features of %d draws of noise; give 1 to %d", o->draws,
                         MOST_DRAWS);
    if (!(o->timestep >= 0 && o->timestep < 1))
        return error_set(e, ERROR_USAGE,
                         "features at %s of the noise schedule; give a number from 0 to less "
                         "than 1",
                         number_exact(o->timestep).text);
    return o->block >= 0 ||
           error_set(e, ERROR_USAGE, "features of block %d; blocks count from 0", o->block);
}

static int block_of(const features *f)
{
    int last = f->on.model->unet.blocks - 1;
    return f->options.block < last ? f->options.block : last;
}

static int timestep_of(const features *f) { return (int)(f->options.timestep * f->schedule.steps); }

static bool is_usual(const features_options *o)
{
    features_options usual;
    features_defaults(&usual);
    return !*o->prompt && o->seed == usual.seed && o->timestep == usual.timestep &&
           o->block == usual.block;
}

void features_key(const pipeline *p, const features_options *o, char key[65])
{
    sha256 h;
    char line[128], hash[65];
    model_hash_with(p->model, p->device->pool, hash);
    sha256_start(&h);
    snprintf(line, sizeof line, "likeness view 1: %d noises, %s, %s", o->draws,
             dtype_name(p->device->compute), dtype_name(p->device->weight_type));
    sha256_add(&h, line, strlen(line) + 1);
    sha256_add(&h, hash, 64);
    if (!is_usual(o)) {
        snprintf(line, sizeof line, "seed %llu, timestep %s, block %d, prompt ",
                 (unsigned long long)o->seed, number_exact(o->timestep).text, o->block);
        sha256_add(&h, line, strlen(line));
        sha256_add(&h, o->prompt, strlen(o->prompt) + 1);
    }
    sha256_end(&h, key);
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool read_prompt(features *f, const char *prompt, error *e)
{
    const model *m = f->on.model;
    size_t positions = (size_t)m->clip.positions, numbers = positions * (size_t)m->clip.hidden;
    int32_t *ids = malloc(positions * sizeof *ids);
    f->states = malloc(numbers * sizeof *f->states);
    bool ok = (ids && f->states) ||
              error_memory(e, "a prompt's embedding", numbers * sizeof *f->states);
    ok = ok && tokenizer_encode_prompt(m->tokens, prompt, m->clip.positions, ids, NULL, e) &&
         text_encode(&f->on, ids, 1, 0, f->states, e);
    free(ids);
    return ok;
}

bool features_open(features **out, const pipeline *p, const features_options *o, error *e)
{
    *out = NULL;
    if (!features_check(p->model, o, e)) return false;
    features *f = *out = calloc(1, sizeof *f);
    if (!f) return error_memory(e, "a model's features", sizeof *f);
    *f = (features){.on = *p, .options = *o};
    f->options.prompt = NULL;
    if (device_weights_open(p->device, &p->model->unet_weights, &f->weights, e) &&
        read_prompt(f, o->prompt, e) && noise_schedule_open(&f->schedule, &p->model->scheduler, e))
        return true;
    features_close(out);
    return false;
}

static void close_graphs(features *f)
{
    encoder_close(&f->encoder);
    graph_close(&f->network);
    free(f->pixels), free(f->mean), free(f->deviation), free(f->noise), free(f->noised),
        free(f->map);
    f->pixels = f->mean = f->deviation = f->noise = f->noised = f->map = NULL;
    f->width = f->height = 0;
}

void features_close(features **f)
{
    if (!*f) return;
    close_graphs(*f);
    device_weights_close(&(*f)->weights);
    free((*f)->states);
    noise_schedule_close(&(*f)->schedule);
    free(*f);
    *f = NULL;
}

/* ---- planning for a size --------------------------------------------------------------------- */

static bool plan_network(features *f, error *e)
{
    const model *m = f->on.model;
    int64_t n = f->options.draws, h = f->height / fit_factor(m), w = f->width / fit_factor(m);
    if (!graph_open(&f->network, f->on.device->compute, e)) return false;
    graph *g = f->network;
    f->x = graph_input(g, "latents", DTYPE_F32, 4, (int64_t[]){n, h, w, m->unet.in_channels});
    f->t = graph_input(g, "timesteps", DTYPE_F32, 1, &n);
    f->context = graph_input(g, "text embedding", DTYPE_F32, 3,
                             (int64_t[]){n, m->clip.positions, m->unet.cross_dim});
    f->maps = cast(g, unet_build_features(g, &m->unet, f->x, f->t, f->context, block_of(f)),
                   DTYPE_F32);
    graph_output(g, f->maps);
    return graph_plan(g, f->on.device, e) && graph_bind(g, &f->weights, 1, e) &&
           graph_allocate(g, e);
}

static bool make_room(features *f, error *e)
{
    size_t latents = pipeline_elements(f->x), one = latents / (size_t)f->options.draws;
    size_t map = pipeline_elements(f->maps);
    rng random;
    f->pixels = malloc(3 * (size_t)f->width * (size_t)f->height * sizeof(float));
    f->mean = malloc(one * sizeof(float));
    f->deviation = malloc(one * sizeof(float));
    f->noise = malloc(latents * sizeof(float));
    f->noised = malloc(latents * sizeof(float));
    f->map = malloc(map * sizeof(float));
    if (!f->pixels || !f->mean || !f->deviation || !f->noise || !f->noised || !f->map)
        return error_memory(e, "a model's features", (latents + map) * sizeof(float));
    rng_seed(&random, f->options.seed);
    for (int k = 0; k < f->options.draws; k++) /* one by one, so that more keep the first */
        rng_randn(&random, f->noise + (size_t)k * one, one);
    return true;
}

/* What is the same for all pictures of a size. */
static bool write_constants(features *f, error *e)
{
    const clip_config *c = &f->on.model->clip;
    size_t text = (size_t)c->positions * (size_t)c->hidden, n = (size_t)f->options.draws;
    float *room = malloc((n * text + n) * sizeof *room);
    if (!room) return error_memory(e, "a model's features", n * text * sizeof *room);
    for (size_t k = 0; k < n; k++) {
        memcpy(room + k * text, f->states, text * sizeof *room);
        room[n * text + k] = (float)timestep_of(f);
    }
    bool ok = graph_write(f->network, f->context, room, e) &&
              graph_write(f->network, f->t, room + n * text, e);
    free(room);
    return ok;
}

static bool plan(features *f, const image *picture, error *e)
{
    int factor = fit_factor(f->on.model);
    if (picture->width % factor || picture->height % factor)
        return error_set(e, ERROR_FORMAT,
                         PICTURE ": is %d x %d, and this model's pictures have sides that are "
                                 "multiples of %d",
                         picture->width, picture->height, factor);
    if (f->width == picture->width && f->height == picture->height) return true;
    close_graphs(f);
    f->width = picture->width;
    f->height = picture->height;
    if (encoder_open(&f->encoder, &f->on, f->width, f->height, e) && plan_network(f, e) &&
        make_room(f, e) && write_constants(f, e))
        return true;
    close_graphs(f);
    return false;
}

/* ---- looking --------------------------------------------------------------------------------- */

/* The picture's scaled latents, noised by each draw, channels-last, into `noised`. */
static bool noise_image(features *f, const image *picture, error *e)
{
    const vae_config *vae = &f->on.model->vae;
    size_t draws = (size_t)f->options.draws, channels = (size_t)vae->latent_channels;
    size_t one = pipeline_elements(f->x) / draws, space = one / channels;
    float alpha_bar = f->schedule.alpha_bar[timestep_of(f)];
    float signal = sqrtf(alpha_bar) * vae->scaling_factor, sigma = sqrtf(1 - alpha_bar);
    encode_pixels(picture, 0, 0, f->width, f->height, f->pixels);
    if (!encoder_run(f->encoder, f->pixels, f->mean, f->deviation, PICTURE, e)) return false;
    for (size_t k = 0; k < draws; k++) {
        for (size_t i = 0; i < one; i++) /* over the deviation, which is not asked for */
            f->deviation[i] = signal * f->mean[i] + sigma * f->noise[k * one + i];
        layout_channels_last(f->noised + k * one, f->deviation, channels, space);
    }
    return true;
}

/* The mean over the draws at each place. */
static bool average(const features *f, feature_map *out, error *e)
{
    size_t numbers = (size_t)out->height * (size_t)out->width * (size_t)out->channels;
    size_t draws = (size_t)f->options.draws;
    for (size_t i = 0; i < numbers; i++) {
        double sum = 0;
        for (size_t k = 0; k < draws; k++) sum += (double)f->map[k * numbers + i];
        out->value[i] = (float)(sum / (double)draws);
        if (!isfinite(out->value[i]))
            return error_set(e, ERROR_NUMERIC,
                             PICTURE
                             ": %s gives NaN or infinity for it; use another copy of the model, "
                             "or precision f32",
                             f->on.model->path);
    }
    return true;
}

bool features_look(features *f, const image *picture, feature_map *out, error *e)
{
    *out = (feature_map){0};
    if (!plan(f, picture, e) || !noise_image(f, picture, e)) return false;
    if (!graph_write(f->network, f->x, f->noised, e) || !graph_run(f->network, e) ||
        !graph_read(f->network, f->maps, f->map, e))
        return false;
    const int64_t *dim = f->maps->dim;
    *out = (feature_map){.height = (int)dim[1], .width = (int)dim[2], .channels = (int)dim[3]};
    size_t bytes = (size_t)(dim[1] * dim[2] * dim[3]) * sizeof(float);
    out->value = malloc(bytes);
    bool ok = out->value || error_memory(e, "a model's features", bytes);
    ok = ok && average(f, out, e);
    if (!ok) feature_map_free(out);
    return ok;
}

void feature_map_free(feature_map *map)
{
    free(map->value);
    *map = (feature_map){0};
}
