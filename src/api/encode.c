/* SPDX-License-Identifier: Apache-2.0
 *
 * encode: lk_encode and lk_decode, the autoencoder's two halves by themselves. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "pipeline/decode.h"
#include "pipeline/encode.h"
#include "pipeline/fit.h"

static const lk_encode_options encode_defaults = {.size = sizeof(lk_encode_options)};

void lk_encode_defaults_sized(lk_encode_options *o, size_t size)
{
    options_give(o, size, &encode_defaults, sizeof encode_defaults);
}

static bool check_model(const lk_session *s, const lk_model *m, error *e)
{
    if (m->context != s->context)
        return error_set(e, ERROR_USAGE, "%s: is open in another context than the session",
                         m->model->path);
    return fit_conditional(m->model) ||
           error_set(e, ERROR_USAGE, "%s: has no autoencoder; its latents are the picture",
                     m->model->path);
}

static bool check_image(const lk_model *m, const image *p, error *e)
{
    int multiple = fit_factor(m->model);
    return (p->width % multiple == 0 && p->height % multiple == 0) ||
           error_set(e, ERROR_USAGE,
                     "a picture of %dx%d: both sides must be multiples of %d; crop or resize it",
                     p->width, p->height, multiple);
}

/* ---- picture to latents ---- */

/* diffusers: latent_dist.mode() or .sample(), times scaling_factor. */
static void take(lk_latents *out, const float *mean, const float *deviation,
                 const lk_encode_options *o, float scaling)
{
    size_t n = (size_t)out->shape[0] * (size_t)out->shape[1] * (size_t)out->shape[2];
    if (o->sample) {
        rng r;
        rng_seed(&r, o->seed);
        rng_randn(&r, out->data, n);
    }
    for (size_t i = 0; i < n; i++)
        out->data[i] = (o->sample ? mean[i] + deviation[i] * out->data[i] : mean[i]) * scaling;
}

static bool encode(lk_latents *out, lk_session *s, const lk_model *m, const image *p,
                   const lk_encode_options *o, error *e)
{
    pipeline on = {s->device, m->model};
    encoder *n = NULL;
    fit_latents(m->model, p->width, p->height, out->shape);
    size_t count = (size_t)out->shape[0] * (size_t)out->shape[1] * (size_t)out->shape[2];
    size_t pixels = 3 * (size_t)p->width * (size_t)p->height;
    float *block = malloc((pixels + 2 * count) * sizeof *block);
    out->data = malloc(count * sizeof *out->data);
    bool ok = (block && out->data) ||
              error_memory(e, "a picture's latents", (pixels + 3 * count) * sizeof *block);
    ok = ok && encoder_open(&n, &on, p->width, p->height, e);
    if (ok) {
        float *mean = block + pixels, *deviation = mean + count;
        encode_pixels(p, 0, 0, p->width, p->height, block);
        ok = encoder_run(n, block, mean, deviation, "encoding the picture", e);
        if (ok) take(out, mean, deviation, o, m->model->vae.scaling_factor);
    }
    encoder_close(&n);
    free(block);
    return ok;
}

bool lk_encode(lk_latents **out, lk_session *s, lk_model *m, const lk_image *p,
               const lk_encode_options *given, lk_error *caller)
{
    error e = {0};
    lk_encode_options o = encode_defaults;
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "latents", sizeof **out)) &&
              api_options(&o, sizeof o, given, "lk_encode_options", &e) && check_model(s, m, &e) &&
              check_image(m, &p->image, &e) && session_enter(s, &e);
    if (ok) {
        ok = encode(*out, s, m, &p->image, &o, &e);
        session_leave(s);
    }
    if (!ok) lk_latents_close(out);
    return api_report(ok, &e, caller);
}

/* ---- latents to picture ---- */

static bool decode(image *out, lk_session *s, const lk_model *m, const lk_latents *l, error *e)
{
    pipeline on = {s->device, m->model};
    decoder *n = NULL;
    bool ok = decoder_open(&n, &on, l->shape[1], l->shape[2], e) && decoder_run(n, l->data, out, e);
    decoder_close(&n);
    return ok;
}

bool lk_decode(lk_image **out, lk_session *s, lk_model *m, const lk_latents *l, lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "a picture", sizeof **out)) && check_model(s, m, &e) &&
              (l->shape[0] == m->model->vae.latent_channels ||
               error_set(&e, ERROR_USAGE, "latents of %d channels; %s has %d", l->shape[0],
                         m->model->path, m->model->vae.latent_channels)) &&
              session_enter(s, &e);
    if (ok) {
        ok = decode(&(*out)->image, s, m, l, &e);
        session_leave(s);
    }
    if (!ok) lk_image_close(out);
    return api_report(ok, &e, caller);
}
