/* SPDX-License-Identifier: Apache-2.0
 *
 * begin: what a run begins with: noise from the seed, and a picture's latents where it is to be
 * changed (diffusers' StableDiffusionImg2ImgPipeline and StableDiffusionInpaintPipeline), with what
 * of it is to be kept. Draws are in the order of theirs. */
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/sha256.h"
#include "generate/job.h"
#include "pipeline/encode.h"
#include "pipeline/fit.h"

/* ---- the options ---- */

int generate_steps(const generate_options *o)
{
    int steps = o->sampler.steps;
    if (o->last_steps) return o->last_steps;
    if (!o->init || !(o->strength < 1)) return steps;
    return o->strength > 0 ? (int)(steps * o->strength) : 0;
}

void begin_size(const generate_options *o, const model *m, int *width, int *height)
{
    int own[2], multiple;
    fit_size(m, &own[0], &own[1], &multiple);
    if (o->init) {
        own[0] = o->init->width - o->init->width % multiple;
        own[1] = o->init->height - o->init->height % multiple;
    }
    *width = o->width ? o->width : own[0];
    *height = o->height ? o->height : own[1];
}

bool generate_strength_check(const generate_options *o, error *e)
{
    if (!o->init) return true;
    if (!(o->strength >= 0 && o->strength <= 1))
        return error_set(e, ERROR_USAGE, "strength is %s; give a number from 0 to 1",
                         number_exact(o->strength).text);
    return generate_steps(o) > 0 ||
           error_set(e, ERROR_USAGE,
                     "strength %s of %d steps leaves none to make; give more steps or a "
                     "strength of at least %s",
                     number_exact(o->strength).text, o->sampler.steps,
                     number_rounded(1.0 / o->sampler.steps, 4).text);
}

static bool check_mask(const generate_options *o, const model *m, error *e)
{
    const image *init = o->init, *mask = o->mask;
    if (model_inpaints(m) && !mask)
        return error_set(e, ERROR_USAGE,
                         "%s is an inpainting model (9 input channels): it changes a part of a "
                         "picture; give --init-image and --mask",
                         m->path);
    if (!mask) return true;
    if (!init)
        return error_set(e, ERROR_USAGE,
                         "a mask says what of a picture is made anew; give that picture with "
                         "--init-image");
    return (mask->width == init->width && mask->height == init->height) ||
           error_set(e, ERROR_USAGE,
                     "the mask is %dx%d, the picture %dx%d; give a mask of the picture's size",
                     mask->width, mask->height, init->width, init->height);
}

bool begin_check(const generate_options *o, const model *m, error *e)
{
    if ((o->init || o->mask) && !fit_conditional(m))
        return error_set(e, ERROR_USAGE,
                         "%s is an unconditional model: it has no autoencoder to begin with a "
                         "picture; leave out --init-image and --mask",
                         m->path);
    if (!check_mask(o, m, e)) return false;
    if (!o->init) return true;
    if (o->latents)
        return error_set(e, ERROR_USAGE,
                         "a run begins with a picture (--init-image) or with noise "
                         "(--init-latents), not both");
    return generate_strength_check(o, e);
}

/* ---- encoding ---- */

static void forget(encoded *x)
{
    free(x->mean);
    *x = (encoded){0};
}

void begin_forget(generator *g)
{
    for (int i = 0; i < ENCODED; i++) forget(&g->encoded[i]);
}

/* The posterior of pixels [height,width,3], which `x` holds from then on. */
static bool encode(generator *g, encoded *x, const float *pixels, const job *j, error *e)
{
    int width = j->width * fit_factor(g->on.model), height = j->height * fit_factor(g->on.model);
    size_t n = job_numbers(j);
    char key[65];
    sha256 hash;
    encoder *network = NULL;
    sha256_start(&hash);
    sha256_add(&hash, pixels, 3 * (size_t)width * (size_t)height * sizeof *pixels);
    sha256_add(&hash, &j->width, sizeof j->width);
    sha256_add(&hash, (bool[]){job_tiles(j)}, sizeof(bool));
    sha256_end(&hash, key);
    if (x->n == n && strcmp(x->key, key) == 0) return true;
    forget(x);
    x->mean = malloc(2 * n * sizeof *x->mean);
    if (!x->mean) return error_memory(e, "a picture's latents", 2 * n * sizeof *x->mean);
    x->deviation = x->mean + n;
    static const char what[] = "encoding the picture";
    bool ok = job_tiles(j)
                  ? tiles_encode(&g->on, pixels, width, height, x->mean, x->deviation, what, e)
                  : encoder_open(&network, &g->on, width, height, e) &&
                        encoder_run(network, pixels, x->mean, x->deviation, what, e);
    encoder_close(&network);
    if (!ok) {
        forget(x);
        return false;
    }
    x->n = n;
    memcpy(x->key, key, sizeof key);
    return true;
}

static void seed(rng *r, const generate_options *o, uint64_t more)
{
    (o->noise == NOISE_CPU ? rng_seed : rng_seed_cuda)(r, o->seed + more);
}

/* latent_dist.sample(generator) * scaling_factor. AUTOMATIC1111 draws it from what no seed decides,
 * stable-diffusion.cpp from the seed, which it sets anew for the noise: so it is here. */
static bool draw_latents(float **out, const generator *g, const encoded *x, job_image *p, error *e)
{
    float scaling = g->on.model->vae.scaling_factor;
    rng own, *r = &p->rng;
    if (p->o->noise == NOISE_A1111) seed(r = &own, p->o, 0);
    float *z = *out = malloc(x->n * sizeof *z);
    if (!z) return error_memory(e, "latents", x->n * sizeof *z);
    rng_randn(r, z, x->n);
    for (size_t i = 0; i < x->n; i++) z[i] = scaling * (x->mean[i] + x->deviation[i] * z[i]);
    return true;
}

/* ---- the pictures ---- */

/* Of the run's size, as VaeImageProcessor makes it so. */
static bool fit_image(image *out, const image *given, const job *j, error *e)
{
    int factor = fit_factor(job_first(j)->on.model);
    return image_resize(out, given, j->width * factor, j->height * factor, RESIZE_LANCZOS, e);
}

/* Pillow's convert("L"), and VaeImageProcessor.binarize. */
static bool is_white(const uint8_t *rgb)
{
    return ((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 0x8000) >> 16) >= 128;
}

void begin_mask_has(const image *mask, bool has[2])
{
    has[0] = has[1] = false;
    for (size_t i = 0; i < (size_t)mask->width * (size_t)mask->height; i++)
        has[is_white(mask->pixels + 3 * i)] = true;
}

/* The mask at each place of the latents (torch's interpolate: the nearest above left); what is
 * masked becomes 0 in the pixels. */
static bool read_mask(job_image *p, const job *j, const image *mask, float *pixels, error *e)
{
    int factor = fit_factor(job_first(j)->on.model);
    size_t space = (size_t)j->height * (size_t)j->width;
    p->mask = malloc(space * sizeof *p->mask);
    if (!p->mask) return error_memory(e, "a mask", space * sizeof *p->mask);
    for (int y = 0; y < j->height; y++)
        for (int x = 0; x < j->width; x++) {
            size_t at = (size_t)(y * factor) * (size_t)mask->width + (size_t)(x * factor);
            p->mask[(size_t)y * (size_t)j->width + (size_t)x] = is_white(mask->pixels + 3 * at);
        }
    for (size_t i = 0; i < (size_t)mask->width * (size_t)mask->height; i++)
        if (is_white(mask->pixels + 3 * i)) memset(pixels + 3 * i, 0, 3 * sizeof *pixels);
    return true;
}

static bool allocate_noise(const job *j, job_image *p, error *e)
{
    size_t bytes = job_numbers(j) * sizeof *p->noise;
    p->noise = malloc(bytes);
    return p->noise || error_memory(e, "latents", bytes);
}

/* An inpainting network reads the masked picture; others are told by blending what is kept, but
 * the masked picture's latents are drawn there all the same. */
static bool draw_masked(const job *j, job_image *p, float *pixels, error *e)
{
    generator *g = job_first(j);
    image fitted = {0};
    bool ok = fit_image(&fitted, p->o->mask, j, e) && read_mask(p, j, &fitted, pixels, e);
    image_free(&fitted);
    if (!ok) return false;
    if (model_inpaints(g->on.model))
        return encode(g, &g->encoded[1], pixels, j, e) &&
               draw_latents(&p->masked, g, &g->encoded[1], p, e);
    if (p->o->noise == NOISE_A1111) return true;
    float *unused = malloc(job_numbers(j) * sizeof *unused);
    if (!unused) return error_memory(e, "latents", job_numbers(j) * sizeof *unused);
    rng_randn(&p->rng, unused, job_numbers(j));
    free(unused);
    return true;
}

static bool draw_from_pixels(const job *j, job_image *p, float *pixels, error *e)
{
    generator *g = job_first(j);
    bool masked = p->o->mask != NULL;
    /* an inpainting model that makes all steps does not look at the picture itself */
    if (!(masked && model_inpaints(g->on.model) && p->o->strength == 1) &&
        (!encode(g, &g->encoded[0], pixels, j, e) ||
         !draw_latents(&p->clean, g, &g->encoded[0], p, e)))
        return false;
    rng_randn(&p->rng, p->noise, job_numbers(j));
    return !masked || draw_masked(j, p, pixels, e);
}

static bool draw_from_image(const job *j, job_image *p, error *e)
{
    image fitted = {0};
    float *pixels = NULL;
    bool ok = fit_image(&fitted, p->o->init, j, e);
    if (ok) {
        size_t n = 3 * (size_t)fitted.width * (size_t)fitted.height;
        pixels = malloc(n * sizeof *pixels);
        ok = pixels || error_memory(e, "a picture's pixels", n * sizeof *pixels);
    }
    if (ok) encode_pixels(&fitted, 0, 0, fitted.width, fitted.height, pixels);
    ok = ok && draw_from_pixels(j, p, pixels, e);
    free(pixels);
    image_free(&fitted);
    return ok;
}

static bool draw(const job *j, job_image *p, error *e)
{
    size_t n = job_numbers(j);
    if (p->o->clean) {
        p->clean = malloc(n * sizeof *p->clean);
        if (!p->clean) return error_memory(e, "latents", n * sizeof *p->clean);
        memcpy(p->clean, p->o->clean, n * sizeof *p->clean);
    }
    if (p->o->init) return draw_from_image(j, p, e);
    if (p->o->latents)
        memcpy(p->noise, p->o->latents, n * sizeof *p->noise);
    else
        rng_randn(&p->rng, p->noise, n); /* torch.randn([1,C,h,w]) */
    return pipeline_finite(p->noise, n) ||
           error_set(e, ERROR_NUMERIC, "the initial latents hold NaN or infinity");
}

bool begin_draw(const job *j, job_image *p, error *e)
{
    if (!allocate_noise(j, p, e)) return false;
    seed(&p->rng, p->o, 0);
    if (!draw(j, p, e)) return false;
    if (p->o->noise_delta) seed(&p->rng, p->o, p->o->noise_delta);
    return true;
}

void begin_hash(job_image *p, size_t numbers)
{
    const image *given[] = {p->o->init, p->o->mask};
    sha256 hash;
    if (!p->o->init && !p->o->latents) return;
    sha256_start(&hash);
    for (int i = 0; i < 2; i++) {
        char hex[65];
        if (!given[i]) continue;
        image_hash(hex, given[i]);
        sha256_add(&hash, hex, sizeof hex);
    }
    if (p->o->latents) sha256_add(&hash, p->o->latents, numbers * sizeof *p->o->latents);
    sha256_end(&hash, p->begun);
}

/* Inpainting of strength 1 begins with noise alone; a picture without a mask always counts. */
void begin_from_image(const job_image *p)
{
    if (p->clean && !(p->mask && p->o->strength == 1))
        sampler_add_noise(p->sampler, p->clean, p->noise);
}
