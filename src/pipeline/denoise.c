/* SPDX-License-Identifier: Apache-2.0
 *
 * denoise: two graphs, the UNet, and beside it its cross-attention's keys and values; see
 * denoise.h. */
#include "pipeline/denoise.h"

#include <stdlib.h>

struct denoiser {
    pipeline on;
    int batch, texts, height, width;
    device_weights *weights;
    graph *unet, *text;                 /* text NULL: the model takes none */
    tensor *x, *t, *out;                /* [B,h,w,C], [1] -> [B*texts,h,w,C'] */
    tensor *context, **kv_out, **kv_in; /* [B*texts,N,cross] -> kv_out, copied into kv_in */
    size_t kv_count;
    bool has_text; /* kv_out hold the text in hand, and the text graph its memory */
    bool active;   /* the UNet is bound, has its memory, and the text in it */
};

/* The text graph, for its keys' and values' shapes; then the UNet that has them as inputs. */
static bool plan_text(denoiser *n, error *e)
{
    const unet_config *c = &n->on.model->unet;
    int64_t shape[3] = {n->batch * n->texts, n->on.model->clip.positions, c->cross_dim};
    n->kv_count = unet_text_count(c);
    n->kv_out = calloc(n->kv_count + 1, sizeof *n->kv_out);
    n->kv_in = calloc(n->kv_count + 1, sizeof *n->kv_in);
    if (!n->kv_out || !n->kv_in) return error_memory(e, "the text's keys", n->kv_count);
    if (!graph_open(&n->text, n->on.device->compute, e)) return false;
    n->context = graph_input(n->text, "text embedding", DTYPE_F32, 3, shape);
    unet_build_text(n->text, c, n->context, n->kv_out);
    for (size_t i = 0; i < n->kv_count; i++) graph_output(n->text, n->kv_out[i]);
    return graph_plan(n->text, n->on.device, e);
}

static bool plan_unet(denoiser *n, error *e)
{
    const unet_config *c = &n->on.model->unet;
    int64_t shape[4] = {n->batch, n->height, n->width, c->in_channels};
    if (!graph_open(&n->unet, n->on.device->compute, e)) return false;
    n->x = graph_input(n->unet, "latents", DTYPE_F32, 4, shape);
    n->t = graph_input(n->unet, "timestep", DTYPE_F32, 1, (int64_t[]){1});
    for (size_t i = 0; i < n->kv_count; i++)
        n->kv_in[i] = graph_input(n->unet, i % 2 ? "text values" : "text keys", n->kv_out[i]->type,
                                  n->kv_out[i]->rank, n->kv_out[i]->dim);
    tensor *out = n->text ? unet_build_cached(n->unet, c, n->x, n->t, n->kv_in, n->texts)
                          : unet_build(n->unet, c, n->x, n->t, NULL);
    n->out = cast(n->unet, out, DTYPE_F32);
    graph_output(n->unet, n->out);
    return graph_plan(n->unet, n->on.device, e);
}

bool denoiser_open(denoiser **out, const pipeline *p, int batch, int texts, int height, int width,
                   error *e)
{
    denoiser *n = *out = calloc(1, sizeof *n);
    if (!n) return error_memory(e, "the network's plan", sizeof *n);
    *n = (denoiser){.on = *p, .batch = batch, .texts = texts, .height = height, .width = width};
    bool ok = device_weights_open(p->device, &p->model->unet_weights, &n->weights, e) &&
              (p->model->kind != MODEL_STABLE_DIFFUSION || plan_text(n, e)) && plan_unet(n, e);
    if (!ok) denoiser_close(out);
    return ok;
}

void denoiser_close(denoiser **n)
{
    if (!*n) return;
    graph_close(&(*n)->unet);
    graph_close(&(*n)->text);
    device_weights_close(&(*n)->weights);
    free((*n)->kv_out);
    free((*n)->kv_in);
    free(*n);
    *n = NULL;
}

void denoiser_release(denoiser *n)
{
    graph_release(n->unet);
    n->active = false;
}

size_t denoiser_bytes(const denoiser *n) { return graph_bytes(n->unet); }

bool denoiser_is(const denoiser *n, int batch, int texts, int height, int width)
{
    return n && n->batch == batch && n->texts == texts && n->height == height && n->width == width;
}

bool denoiser_has_text(const denoiser *n) { return n->has_text; }

bool denoiser_read(denoiser *n, const float *states, error *e)
{
    denoiser_release(n);
    n->has_text = graph_bind(n->text, &n->weights, 1, e) && graph_allocate(n->text, e) &&
                  graph_write(n->text, n->context, states, e) && graph_run(n->text, e);
    if (!n->has_text) graph_release(n->text);
    return n->has_text;
}

/* Inputs live to the end of a run, so the text is written once for all predictions. */
static bool activate(denoiser *n, error *e)
{
    if (n->active) return true;
    if (!graph_bind(n->unet, &n->weights, 1, e) || !graph_allocate(n->unet, e)) return false;
    for (size_t i = 0; i < n->kv_count; i++)
        if (!graph_copy(n->unet, n->kv_in[i], n->text, n->kv_out[i], e)) return false;
    return n->active = true;
}

bool denoiser_run(denoiser *n, const float *x, float t, float *out, const char *where, error *e)
{
    if (!activate(n, e)) return false;
    return graph_write(n->unet, n->x, x, e) && graph_write(n->unet, n->t, &t, e) &&
           pipeline_run(n->unet, n->out, out, where, e);
}
