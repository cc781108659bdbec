/* SPDX-License-Identifier: Apache-2.0
 *
 * decode: see decode.h. */
#include "pipeline/decode.h"

#include <math.h>
#include <stdlib.h>

#include "model/taesd.h"
#include "pipeline/layout.h"

struct decoder {
    pipeline on;
    int height, width;
    device_weights *weights;
    graph *graph;
    tensor *latent, *image; /* [1,h,w,C] -> [1,H,W,3] */
};

bool decode_pixels(image *out, const float *y, int width, int height, error *e)
{
    if (!image_new(out, width, height, e)) return false;
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++) {
        float v = y[i] / 2 + 0.5f;
        v = v < 0 ? 0 : v > 1 ? 1 : v;
        out->pixels[i] = (uint8_t)rintf(v * 255.0f);
    }
    return true;
}

const weight_set *decoder_weights(const model *m)
{
    return m->tiny ? &m->tiny->weights : &m->vae_weights;
}

static bool plan(decoder *n, error *e)
{
    const vae_config *c = &n->on.model->vae;
    const taesd *tiny = n->on.model->tiny;
    int64_t shape[4] = {1, n->height, n->width, c->latent_channels};
    if (!graph_open(&n->graph, n->on.device->compute, e)) return false;
    n->latent = graph_input(n->graph, "latents", DTYPE_F32, 4, shape);
    tensor *made = tiny ? taesd_build(n->graph, &tiny->config, n->latent)
                        : vae_build_decoder(n->graph, c, n->latent);
    n->image = cast(n->graph, made, DTYPE_F32);
    graph_output(n->graph, n->image);
    return graph_plan(n->graph, n->on.device, e);
}

bool decoder_open(decoder **out, const pipeline *p, int height, int width, error *e)
{
    decoder *n = *out = calloc(1, sizeof *n);
    if (!n) return error_memory(e, "the autoencoder", sizeof *n);
    *n = (decoder){.on = *p, .height = height, .width = width};
    if (device_weights_open(p->device, decoder_weights(p->model), &n->weights, e) && plan(n, e))
        return true;
    decoder_close(out);
    return false;
}

void decoder_close(decoder **n)
{
    if (!*n) return;
    graph_close(&(*n)->graph);
    device_weights_close(&(*n)->weights);
    free(*n);
    *n = NULL;
}

size_t decoder_bytes(const decoder *n) { return graph_bytes(n->graph); }

bool decoder_is(const decoder *n, int height, int width)
{
    return n && n->height == height && n->width == width;
}

/* [C,h,w] -> the input, unscaled; the tiny autoencoder's scaling_factor is its own */
static bool write_latent(decoder *n, const float *latent, error *e)
{
    size_t space = (size_t)n->height * (size_t)n->width, channels = (size_t)n->latent->dim[3];
    float *x = malloc(channels * space * sizeof *x);
    if (!x) return error_memory(e, "latents", channels * space * sizeof *x);
    layout_channels_last(x, latent, channels, space);
    const taesd *tiny = n->on.model->tiny;
    float scaling = tiny ? tiny->config.scaling_factor : n->on.model->vae.scaling_factor;
    for (size_t i = 0; i < channels * space; i++) {
        x[i] /= scaling;
        if (tiny) x[i] = taesd_clamp(x[i]);
    }
    bool ok = graph_write(n->graph, n->latent, x, e);
    free(x);
    return ok;
}

bool decoder_values(decoder *n, const float *latent, float *y, error *e)
{
    bool ok = graph_bind(n->graph, &n->weights, 1, e) && graph_allocate(n->graph, e) &&
              write_latent(n, latent, e) &&
              pipeline_run(n->graph, n->image, y, "decoding the picture", e);
    graph_release(n->graph);
    if (ok && n->on.model->tiny) /* DecoderTiny: 0..1 -> -1..1 */
        for (size_t i = 0; i < pipeline_elements(n->image); i++) y[i] = y[i] * 2 - 1;
    return ok;
}

bool decoder_run(decoder *n, const float *latent, image *out, error *e)
{
    size_t bytes = pipeline_elements(n->image) * sizeof(float);
    float *y = malloc(bytes);
    bool ok = (y || error_memory(e, "the decoded picture", bytes)) &&
              decoder_values(n, latent, y, e) &&
              decode_pixels(out, y, (int)n->image->dim[2], (int)n->image->dim[1], e);
    free(y);
    return ok;
}
