/* SPDX-License-Identifier: Apache-2.0
 *
 * encode: see encode.h. */
#include "pipeline/encode.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct encoder {
    device_weights *weights;
    graph *graph;
    tensor *picture, *moments; /* [1,H,W,3] -> [1,h,w,2C] */
    float *moment;             /* as read */
};

void encode_pixels(const image *m, int top, int left, int width, int height, float *out)
{
    assert(top >= 0 && top + height <= m->height);
    assert(left >= 0 && left + width <= m->width);
    float value[256];
    for (int i = 0; i < 256; i++) value[i] = ((float)i / 255.0f - 0.5f) / 0.5f;
    for (int y = 0; y < height; y++) {
        const uint8_t *row = m->pixels + 3 * ((size_t)(top + y) * (size_t)m->width + (size_t)left);
        for (int x = 0; x < 3 * width; x++) *out++ = value[row[x]];
    }
}

static bool plan(encoder *n, const pipeline *p, int width, int height, error *e)
{
    const model *m = p->model;
    int64_t shape[4] = {1, height, width, m->vae.in_channels};
    if (!graph_open(&n->graph, p->device->compute, e)) return false;
    n->picture = graph_input(n->graph, "picture", DTYPE_F32, 4, shape);
    n->moments = cast(n->graph, vae_build_encoder(n->graph, &m->vae, n->picture), DTYPE_F32);
    graph_output(n->graph, n->moments);
    if (!graph_plan(n->graph, p->device, e) ||
        !device_weights_open(p->device, &m->vae_weights, &n->weights, e) ||
        !graph_bind(n->graph, &n->weights, 1, e) || !graph_allocate(n->graph, e))
        return false;
    size_t bytes = pipeline_elements(n->moments) * sizeof *n->moment;
    n->moment = malloc(bytes);
    return n->moment || error_memory(e, "a picture's latents", bytes);
}

bool encoder_open(encoder **out, const pipeline *p, int width, int height, error *e)
{
    encoder *n = *out = calloc(1, sizeof *n);
    if (!n) return error_memory(e, "the autoencoder", sizeof *n);
    if (plan(n, p, width, height, e)) return true;
    encoder_close(out);
    return false;
}

void encoder_close(encoder **n)
{
    if (!*n) return;
    graph_close(&(*n)->graph);
    device_weights_close(&(*n)->weights);
    free((*n)->moment);
    free(*n);
    *n = NULL;
}

size_t encoder_bytes(const encoder *n)
{
    return graph_bytes(n->graph) + device_weights_bytes(n->weights);
}

bool encoder_moments(encoder *n, const float *pixels, float *out, const char *where, error *e)
{
    if (!graph_write(n->graph, n->picture, pixels, e) || !graph_run(n->graph, e) ||
        !graph_read(n->graph, n->moments, out, e))
        return false;
    return pipeline_finite(out, pipeline_elements(n->moments)) ||
           error_set(e, ERROR_NUMERIC,
                     "%s: the autoencoder gives NaN or infinity for it; use another "
                     "copy of the model, or precision f32",
                     where);
}

void encode_posterior(const float *moment, size_t space, size_t channels, float *mean,
                      float *deviation)
{
    for (size_t k = 0; k < channels; k++)
        for (size_t i = 0; i < space; i++) {
            float logvar = moment[i * 2 * channels + channels + k];
            logvar = logvar < -30 ? -30 : logvar > 20 ? 20 : logvar;
            mean[k * space + i] = moment[i * 2 * channels + k];
            deviation[k * space + i] = expf(0.5f * logvar);
        }
}

bool encoder_run(encoder *n, const float *pixels, float *mean, float *deviation, const char *where,
                 error *e)
{
    if (!encoder_moments(n, pixels, n->moment, where, e)) return false;
    encode_posterior(n->moment, (size_t)(n->moments->dim[1] * n->moments->dim[2]),
                     (size_t)n->moments->dim[3] / 2, mean, deviation);
    return true;
}
