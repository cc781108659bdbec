/* SPDX-License-Identifier: Apache-2.0
 *
 * latents: one graph that encodes one picture, and the posteriors that it gave. */
#include "train/latents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct latents {
    device *device;
    const model *model;
    latents_options options;
    size_t plane;           /* numbers of one picture's latents, C*h*w */
    int channels, side;
    graph *graph;           /* NULL once everything is cached */
    tensor *image, *moments;
    float *pixels, *moment; /* [resolution, resolution, 3], [h, w, 2C] */
    float *posterior;       /* cached: [photos][mean, deviation][C,h,w] */
    float *one;             /* not cached: the posterior in hand */
};

static bool plan_encoder(latents *l, error *e)
{
    const model *m = l->model;
    int64_t side = l->options.resolution, dim[4] = {1, side, side, m->vae.in_channels};
    if (!graph_open(&l->graph, l->device->compute, e)) return false;
    l->image = graph_input(l->graph, "picture", DTYPE_F32, 4, dim);
    l->moments = cast(l->graph, vae_build_encoder(l->graph, &m->vae, l->image), DTYPE_F32);
    graph_output(l->graph, l->moments);
    if (!graph_plan(l->graph, l->device, e) || !graph_bind(l->graph, &m->vae_weights, e) ||
        !graph_allocate(l->graph, e))
        return false;
    size_t pixels = (size_t)(side * side) * 3, moment = 2 * l->plane;
    l->pixels = malloc(pixels * sizeof *l->pixels);
    l->moment = malloc(moment * sizeof *l->moment);
    l->one = malloc(moment * sizeof *l->one);
    return (l->pixels && l->moment && l->one) ||
           error_memory(e, "the autoencoder's pictures", (pixels + 2 * moment) * sizeof(float));
}

/* diffusers DiagonalGaussianDistribution: mean and deviation [C,h,w] out of moments [h,w,2C]. */
static bool encode(latents *l, const photo *p, crop c, float *posterior, error *e)
{
    int channels = l->channels;
    size_t pixels = l->plane / (size_t)channels;
    photo_pixels(p, c, l->options.resolution, l->pixels);
    graph_write(l->graph, l->image, l->pixels);
    if (!graph_run(l->graph, e)) return false;
    graph_read(l->graph, l->moments, l->moment);
    for (size_t i = 0; i < 2 * l->plane; i++)
        if (!isfinite(l->moment[i]))
            return error_set(e, ERROR_NUMERIC, "%s: the autoencoder gives NaN or infinity for it; "
                             "use another copy of the model, or precision f32", p->path);
    for (int k = 0; k < channels; k++)
        for (size_t i = 0; i < pixels; i++) {
            float mean = l->moment[i * 2 * (size_t)channels + (size_t)k];
            float logvar = l->moment[i * 2 * (size_t)channels + (size_t)(channels + k)];
            logvar = logvar < -30 ? -30 : logvar > 20 ? 20 : logvar;
            posterior[(size_t)k * pixels + i] = mean;
            posterior[l->plane + (size_t)k * pixels + i] = expf(0.5f * logvar);
        }
    return true;
}

static crop fixed_crop(const latents *l, const photo *p)
{
    return l->options.center_crop ? photo_center(p, l->options.resolution) : (crop){0, 0};
}

static bool fill_cache(latents *l, error *e)
{
    const photo_set *sets[] = {l->options.instances, l->options.classes};
    size_t photos = sets[0]->count + (sets[1] ? sets[1]->count : 0), at = 0;
    l->posterior = malloc(photos * 2 * l->plane * sizeof *l->posterior);
    if (!l->posterior)
        return error_memory(e, "the photos' latents", photos * 2 * l->plane * sizeof(float));
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; sets[k] && i < sets[k]->count; i++, at++)
            if (!train_goes_on(l->options.watch, TRAIN_LATENTS, (int64_t)at, (int64_t)photos, e) ||
                !encode(l, &sets[k]->item[i], fixed_crop(l, &sets[k]->item[i]),
                        l->posterior + at * 2 * l->plane, e))
                return false;
    graph_close(&l->graph);
    return true;
}

bool latents_open(latents **out, device *d, const model *m, const latents_options *o, error *e)
{
    *out = NULL;
    latents *l = calloc(1, sizeof *l);
    if (!l) return error_memory(e, "the photos' latents", sizeof *l);
    l->device = d;
    l->model = m;
    l->options = *o;
    l->channels = m->vae.latent_channels;
    l->side = o->resolution >> (m->vae.blocks - 1);
    l->plane = (size_t)l->channels * (size_t)l->side * (size_t)l->side;
    bool cache = o->cache && photo_set_fixed(o->instances, o->center_crop) &&
                 (!o->classes || photo_set_fixed(o->classes, o->center_crop));
    if (!plan_encoder(l, e) || (cache && !fill_cache(l, e))) {
        latents_close(&l);
        return false;
    }
    *out = l;
    return true;
}

void latents_close(latents **l)
{
    if (!*l) return;
    graph_close(&(*l)->graph);
    free((*l)->pixels);
    free((*l)->moment);
    free((*l)->one);
    free((*l)->posterior);
    free(*l);
    *l = NULL;
}

bool latents_cached(const latents *l) { return l->posterior != NULL; }

size_t latents_bytes(const latents *l) { return l->graph ? graph_bytes(l->graph) : 0; }

/* The posterior of one picture of the batch; NULL and an error. */
static const float *posterior_of(latents *l, const example *x, bool of_class, error *e)
{
    const photo_set *set = of_class ? l->options.classes : l->options.instances;
    size_t i = of_class ? x->class_picture : x->instance;
    if (l->posterior)
        return l->posterior + (i + (of_class ? l->options.instances->count : 0)) * 2 * l->plane;
    crop c = of_class ? x->class_crop : x->instance_crop;
    return encode(l, &set->item[i], c, l->one, e) ? l->one : NULL;
}

bool latents_sample(latents *l, const example *batch, uint32_t count, rng *random, float *out,
                    error *e)
{
    uint32_t samples = l->options.classes ? 2 * count : count;
    float scaling = l->model->vae.scaling_factor;
    rng_randn(random, out, samples * l->plane);
    for (uint32_t k = 0; k < samples; k++) {
        const float *p = posterior_of(l, &batch[k % count], k >= count, e);
        if (!p) return false;
        float *to = out + k * l->plane;
        for (size_t i = 0; i < l->plane; i++) to[i] = (p[i] + p[l->plane + i] * to[i]) * scaling;
    }
    return true;
}
