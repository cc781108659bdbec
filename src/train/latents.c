/* SPDX-License-Identifier: Apache-2.0
 *
 * latents: the posteriors of photos, and drawing from them. */
#include "train/latents.h"

#include <stdlib.h>

#include "pipeline/encode.h"
#include "pipeline/fit.h"

struct latents {
    pipeline on;
    latents_options options;
    size_t plane;     /* numbers of one picture's latents, C*h*w */
    encoder *encoder; /* NULL once everything is cached */
    float *pixels;    /* [resolution, resolution, 3] */
    float *posterior; /* cached: [photos][mean, deviation][C,h,w] */
    float *one;       /* not cached: the posterior in hand */
};

static bool open_encoder(latents *l, error *e)
{
    int side = l->options.resolution;
    size_t pixels = (size_t)side * (size_t)side * 3, posterior = 2 * l->plane;
    if (!encoder_open(&l->encoder, &l->on, side, side, e)) return false;
    l->pixels = malloc(pixels * sizeof *l->pixels);
    l->one = malloc(posterior * sizeof *l->one);
    return (l->pixels && l->one) ||
           error_memory(e, "the autoencoder's pictures", (pixels + posterior) * sizeof(float));
}

/* Mean and deviation [C,h,w] of a photo's crop. */
static bool encode(latents *l, const photo *p, crop c, float *posterior, error *e)
{
    photo_pixels(p, c, l->options.resolution, l->pixels);
    return encoder_run(l->encoder, l->pixels, posterior, posterior + l->plane, p->path, e);
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
    encoder_close(&l->encoder);
    return true;
}

bool latents_open(latents **out, device *d, const model *m, const latents_options *o, error *e)
{
    *out = NULL;
    latents *l = calloc(1, sizeof *l);
    if (!l) return error_memory(e, "the photos' latents", sizeof *l);
    int shape[3];
    fit_latents(m, o->resolution, o->resolution, shape);
    l->on = (pipeline){d, m};
    l->options = *o;
    l->plane = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    bool cache = o->cache && photo_set_fixed(o->instances, o->center_crop) &&
                 (!o->classes || photo_set_fixed(o->classes, o->center_crop));
    if (!open_encoder(l, e) || (cache && !fill_cache(l, e))) {
        latents_close(&l);
        return false;
    }
    *out = l;
    return true;
}

void latents_close(latents **l)
{
    if (!*l) return;
    encoder_close(&(*l)->encoder);
    free((*l)->pixels);
    free((*l)->one);
    free((*l)->posterior);
    free(*l);
    *l = NULL;
}

bool latents_cached(const latents *l) { return l->posterior != NULL; }

size_t latents_bytes(const latents *l) { return l->encoder ? encoder_bytes(l->encoder) : 0; }

/* The posterior of one picture of the batch; NULL and an error. */
static const float *posterior_of(latents *l, const example *x, bool of_class, error *e)
{
    const photo_set *set = of_class ? l->options.classes : l->options.instances;
    size_t i = of_class ? x->class_image : x->instance;
    if (l->posterior)
        return l->posterior + (i + (of_class ? l->options.instances->count : 0)) * 2 * l->plane;
    crop c = of_class ? x->class_crop : x->instance_crop;
    return encode(l, &set->item[i], c, l->one, e) ? l->one : NULL;
}

bool latents_sample(latents *l, const example *batch, uint32_t count, rng *random, float *out,
                    error *e)
{
    uint32_t samples = l->options.classes ? 2 * count : count;
    float scaling = l->on.model->vae.scaling_factor;
    rng_randn(random, out, samples * l->plane);
    for (uint32_t k = 0; k < samples; k++) {
        const float *p = posterior_of(l, &batch[k % count], k >= count, e);
        if (!p) return false;
        float *to = out + k * l->plane;
        for (size_t i = 0; i < l->plane; i++) to[i] = (p[i] + p[l->plane + i] * to[i]) * scaling;
    }
    return true;
}
