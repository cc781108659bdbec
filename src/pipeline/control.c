/* SPDX-License-Identifier: Apache-2.0
 *
 * control: a chain of ControlNets, each of which adds its share to that of the one before; see
 * control.h. What a picture is to one is computed once a run, its keys and values once a text. */
#include "pipeline/control.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "pipeline/fit.h"

/* One link of the chain. */
typedef struct link {
    controlnet *net;
    device_weights *weights;
    float scale;
    image picture; /* of the size that is made */
    graph *hint, *text, *main;
    tensor *pixels, *hint_out, *context, **kv_out; /* of hint and text */
    tensor *x, *t, *hint_in, **kv_in, **sum, **out;
    size_t kv_count;
} link;

struct controls {
    pipeline on;
    control_shape shape;
    int outputs, count;
    float *latents; /* [B,h,w,C] of what an inpainting network reads; NULL: it is none */
    bool active;
    link item[];
};

bool control_fits(const control *c, const model *m, error *e)
{
    const unet_config *a = &c->net->config.unet, *b = &m->unet;
    if (!fit_conditional(m))
        return error_set(e, ERROR_USAGE, "%s is an unconditional model: it takes no ControlNet",
                         m->path);
    if (!isfinite(c->scale)) return error_set(e, ERROR_USAGE, "a ControlNet's scale: no number");
    bool same = a->blocks == b->blocks && a->in_channels == m->vae.latent_channels &&
                a->cross_dim == b->cross_dim && 1 << (c->net->config.hints - 1) == fit_factor(m);
    for (int i = 0; same && i < a->blocks; i++)
        same = a->channels[i] == b->channels[i] && a->layers[i] == b->layers[i];
    return same || error_set(e, ERROR_MODEL,
                             "%s: this ControlNet does not fit %s: it is of a network of other "
                             "sizes (%d channels, text width %d; the model has %d and %d)",
                             c->net->path, m->path, a->channels[0], a->cross_dim, b->channels[0],
                             b->cross_dim);
}

/* ---- planning ---- */

static bool plan_text(link *k, const controls *c, error *e)
{
    const unet_config *u = &k->net->config.unet;
    const control_shape *s = &c->shape;
    k->kv_count = unet_text_count_lower(u);
    k->kv_out = calloc(k->kv_count + 1, sizeof *k->kv_out);
    k->kv_in = calloc(k->kv_count + 1, sizeof *k->kv_in);
    if (!k->kv_out || !k->kv_in) return error_memory(e, "the text's keys", k->kv_count);
    if (!graph_open(&k->text, c->on.device->compute, e)) return false;
    k->context = graph_input(k->text, "text embedding", DTYPE_F32, 3,
                             (int64_t[]){s->batch * s->texts, s->tokens, u->cross_dim});
    unet_build_text_lower(k->text, u, k->context, k->kv_out);
    for (size_t i = 0; i < k->kv_count; i++) graph_output(k->text, k->kv_out[i]);
    return graph_plan(k->text, c->on.device, e);
}

static bool plan_hint(link *k, const controls *c, error *e)
{
    int64_t shape[4] = {1, k->picture.height, k->picture.width, 3};
    if (!graph_open(&k->hint, c->on.device->compute, e)) return false;
    k->pixels = graph_input(k->hint, "picture", DTYPE_F32, 4, shape);
    k->hint_out = cast(k->hint, controlnet_build_hint(k->hint, &k->net->config, k->pixels),
                       DTYPE_F32);
    graph_output(k->hint, k->hint_out);
    return graph_plan(k->hint, c->on.device, e);
}

/* before: NULL for the first. */
static bool plan_main(link *k, const controls *c, const link *before, error *e)
{
    const control_shape *s = &c->shape;
    const controlnet_config *n = &k->net->config;
    k->sum = calloc((size_t)c->outputs, sizeof *k->sum);
    k->out = calloc((size_t)c->outputs, sizeof *k->out);
    if (!k->sum || !k->out) return error_memory(e, "a ControlNet's plan", (size_t)c->outputs);
    if (!graph_open(&k->main, c->on.device->compute, e)) return false;
    graph *g = k->main;
    k->x = graph_input(g, "latents", DTYPE_F32, 4,
                       (int64_t[]){s->batch, s->height, s->width, n->unet.in_channels});
    k->t = graph_input(g, "timestep", DTYPE_F32, 1, (int64_t[]){1});
    k->hint_in = graph_input(g, "the control picture", DTYPE_F32, 4, k->hint_out->dim);
    for (size_t i = 0; i < k->kv_count; i++)
        k->kv_in[i] = graph_input(g, i % 2 ? "text values" : "text keys", k->kv_out[i]->type,
                                  k->kv_out[i]->rank, k->kv_out[i]->dim);
    controlnet_build(g, n, k->x, k->t, NULL, k->kv_in, s->texts, k->hint_in, k->out);
    for (int i = 0; i < c->outputs; i++) {
        tensor *own = k->scale == 1 ? k->out[i] : scale(g, k->out[i], k->scale);
        if (before) {
            k->sum[i] = graph_input(g, "another ControlNet", DTYPE_F32, 4, own->dim);
            own = add(g, own, k->sum[i]);
        }
        graph_output(g, k->out[i] = own);
    }
    return graph_plan(g, c->on.device, e);
}

static bool open_link(link *k, const controls *c, const control *from, const link *before, error *e)
{
    int factor = fit_factor(c->on.model);
    k->net = controlnet_share(from->net);
    k->scale = from->scale;
    return image_resize(&k->picture, from->picture, c->shape.width * factor,
                        c->shape.height * factor, RESIZE_LANCZOS, e) &&
           device_weights_open(c->on.device, &k->net->weights, &k->weights, e) &&
           plan_text(k, c, e) && plan_hint(k, c, e) && plan_main(k, c, before, e);
}

static size_t latent_places(const controls *c)
{
    return (size_t)c->shape.batch * (size_t)c->shape.height * (size_t)c->shape.width;
}

static bool allocate_latents(controls *c, error *e)
{
    size_t n = latent_places(c) * (size_t)c->on.model->vae.latent_channels;
    c->latents = malloc(n * sizeof *c->latents);
    return c->latents || error_memory(e, "latents", n * sizeof *c->latents);
}

bool controls_open(controls **out, const pipeline *p, const control *list, int count,
                   const control_shape *shape, error *e)
{
    size_t bytes = sizeof(controls) + (size_t)count * sizeof(link);
    controls *c = *out = calloc(1, bytes);
    if (!c) return error_memory(e, "ControlNets", bytes);
    c->on = *p;
    c->shape = *shape;
    c->outputs = unet_skip_count(&p->model->unet) + 1;
    bool ok = !model_inpaints(p->model) || allocate_latents(c, e);
    for (int i = 0; ok && i < count; i++) {
        ok = control_fits(&list[i], p->model, e);
        c->count += ok;
        ok = ok && open_link(&c->item[i], c, &list[i], i ? &c->item[i - 1] : NULL, e);
    }
    if (!ok) controls_close(out);
    return ok;
}

void controls_close(controls **handle)
{
    controls *c = *handle;
    if (!c) return;
    for (int i = 0; i < c->count; i++) {
        link *k = &c->item[i];
        graph_close(&k->hint);
        graph_close(&k->text);
        graph_close(&k->main);
        device_weights_close(&k->weights);
        image_free(&k->picture);
        free(k->kv_out);
        free(k->kv_in);
        free(k->sum);
        free(k->out);
        controlnet_close(&k->net);
    }
    free(c->latents);
    free(c);
    *handle = NULL;
}

void controls_release(controls *c)
{
    for (int i = 0; c && i < c->count; i++) graph_release(c->item[i].main);
    if (c) c->active = false;
}

/* All at once, and the largest picture's way down beside them. */
size_t controls_bytes(const controls *c)
{
    size_t total = 0, hint = 0;
    for (int i = 0; c && i < c->count; i++) {
        total += graph_bytes(c->item[i].main);
        if (graph_bytes(c->item[i].hint) > hint) hint = graph_bytes(c->item[i].hint);
    }
    return total + hint;
}

static bool same_picture(const link *k, const image *picture)
{
    image now;
    bool same = image_resize(&now, picture, k->picture.width, k->picture.height, RESIZE_LANCZOS,
                             NULL);
    if (!same) return false;
    same = memcmp(now.pixels, k->picture.pixels, (size_t)now.width * (size_t)now.height * 3) == 0;
    image_free(&now);
    return same;
}

bool controls_are(const controls *c, const control *list, int count)
{
    bool same = (c ? c->count : 0) == count;
    for (int i = 0; same && i < count; i++)
        same = c->item[i].net == list[i].net && c->item[i].scale == list[i].scale &&
               same_picture(&c->item[i], list[i].picture);
    return same;
}

/* ---- running ---- */

static bool copy_text(link *k, error *e)
{
    for (size_t i = 0; i < k->kv_count; i++)
        if (!graph_copy(k->main, k->kv_in[i], k->text, k->kv_out[i], e)) return false;
    return true;
}

bool controls_read(controls *c, const float *states, error *e)
{
    for (int i = 0; i < c->count; i++) {
        link *k = &c->item[i];
        if (!graph_bind(k->text, &k->weights, 1, e) || !graph_allocate(k->text, e) ||
            !graph_write(k->text, k->context, states, e) || !graph_run(k->text, e) ||
            (c->active && !copy_text(k, e)))
            return false;
    }
    return true;
}

/* The picture's way down, into the main graph. */
static bool look(link *k, error *e)
{
    size_t n = (size_t)k->picture.width * (size_t)k->picture.height * 3;
    float *pixels = malloc(n * sizeof *pixels);
    if (!pixels) return error_memory(e, "a control picture", n * sizeof *pixels);
    for (size_t i = 0; i < n; i++) pixels[i] = (float)k->picture.pixels[i] / 255.0f;
    bool ok = graph_bind(k->hint, &k->weights, 1, e) && graph_allocate(k->hint, e) &&
              graph_write(k->hint, k->pixels, pixels, e) && graph_run(k->hint, e) &&
              graph_copy(k->main, k->hint_in, k->hint, k->hint_out, e);
    graph_release(k->hint);
    free(pixels);
    return ok;
}

static bool activate(controls *c, error *e)
{
    bool ok = true;
    for (int i = 0; ok && !c->active && i < c->count; i++) {
        link *k = &c->item[i];
        ok = graph_bind(k->main, &k->weights, 1, e) && graph_allocate(k->main, e) &&
             copy_text(k, e) && look(k, e);
    }
    return c->active = ok;
}

/* What ControlNets read of an inpainting network's x: no mask (StableDiffusionControlNetInpaint's
 * control_model_input). */
static const float *latents_of(controls *c, const float *x)
{
    const model *m = c->on.model;
    size_t from = (size_t)m->unet.in_channels, to = (size_t)m->vae.latent_channels;
    if (!c->latents) return x;
    for (size_t i = 0, n = latent_places(c); i < n; i++)
        memcpy(c->latents + i * to, x + i * from, to * sizeof *x);
    return c->latents;
}

bool controls_run(controls *c, const float *x, float t, error *e)
{
    if (!activate(c, e)) return false;
    x = latents_of(c, x);
    for (int i = 0; i < c->count; i++) {
        link *k = &c->item[i], *before = i ? &c->item[i - 1] : NULL;
        for (int o = 0; before && o < c->outputs; o++)
            if (!graph_copy(k->main, k->sum[o], before->main, before->out[o], e)) return false;
        if (!graph_write(k->main, k->x, x, e) || !graph_write(k->main, k->t, &t, e) ||
            !graph_run(k->main, e))
            return false;
    }
    return true;
}

int controls_count(const controls *c) { return c->outputs; }

tensor *controls_output(const controls *c, int i) { return c->item[c->count - 1].out[i]; }

graph *controls_graph(const controls *c) { return c->item[c->count - 1].main; }
