/* SPDX-License-Identifier: Apache-2.0
 *
 * denoise: graphs of the UNet, of its cross-attention's keys and values beside it, and of what is
 * outermost of the UNet where deep features are kept; see denoise.h. */
#include "pipeline/denoise.h"

#include <assert.h>
#include <stdlib.h>

struct denoiser {
    pipeline on;
    int batch, texts, tokens, height, width;
    bool deep;
    controls *controls;  /* NULL: none */
    tensor **control_in; /* [controls_count] of the UNet */
    device_weights *weights;
    graph *unet, *text;                 /* text NULL: the model takes none */
    tensor *x, *t, *out;                /* [B,h,w,C], [1] -> [B*texts,h,w,C'] */
    tensor *context, **kv_out, **kv_in; /* [B*texts,N,cross] -> kv_out, copied into kv_in */
    size_t kv_count;
    graph *shallow; /* NULL: deep features are not kept */
    tensor *shallow_x, *shallow_t, *shallow_out, **shallow_kv, *shallow_control;
    tensor *deep_out, *deep_in; /* [B*texts,h,w,C] of the UNet, copied into the shallow graph */
    bool has_text;              /* kv_out hold the text in hand, and the text graph its memory */
    bool active;                /* the UNet is bound, has its memory, and the text in it */
};

/* The text graph, for its keys' and values' shapes; then the UNet that has them as inputs. */
static bool plan_text(denoiser *n, error *e)
{
    const unet_config *c = &n->on.model->unet;
    int64_t shape[3] = {n->batch * n->texts, n->tokens, c->cross_dim};
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

static tensor *latents_input(const denoiser *n, graph *g)
{
    int64_t shape[4] = {n->batch, n->height, n->width, n->on.model->unet.in_channels};
    return graph_input(g, "latents", DTYPE_F32, 4, shape);
}

/* Keys and values of the text from the given one on, into kv. */
static void text_inputs(const denoiser *n, graph *g, size_t from, tensor **kv)
{
    for (size_t i = from; i < n->kv_count; i++)
        kv[i] = graph_input(g, i % 2 ? "text values" : "text keys", n->kv_out[i]->type,
                            n->kv_out[i]->rank, n->kv_out[i]->dim);
}

static tensor *control_input(const denoiser *n, graph *g, int i)
{
    const tensor *from = controls_output(n->controls, i);
    return graph_input(g, "ControlNet", from->type, from->rank, from->dim);
}

static bool plan_controls(denoiser *n, const denoiser_extras *with, error *e)
{
    const control_shape shape = {n->batch, n->texts, n->tokens, n->height, n->width};
    if (!with->controls) return true;
    if (!controls_open(&n->controls, &n->on, with->list, with->controls, &shape, e)) return false;
    size_t bytes = (size_t)controls_count(n->controls) * sizeof *n->control_in;
    n->control_in = calloc(1, bytes);
    return n->control_in || error_memory(e, "the network's plan", bytes);
}

static bool plan_unet(denoiser *n, error *e)
{
    const unet_config *c = &n->on.model->unet;
    if (!graph_open(&n->unet, n->on.device->compute, e)) return false;
    n->x = latents_input(n, n->unet);
    n->t = graph_input(n->unet, "timestep", DTYPE_F32, 1, (int64_t[]){1});
    text_inputs(n, n->unet, 0, n->kv_in);
    for (int i = 0; n->controls && i < controls_count(n->controls); i++)
        n->control_in[i] = control_input(n, n->unet, i);
    tensor *out = unet_build_cached(n->unet, c, n->x, n->t, n->kv_in, n->texts, n->control_in,
                                    n->deep ? &n->deep_out : NULL);
    n->out = cast(n->unet, out, DTYPE_F32);
    graph_output(n->unet, n->out);
    if (n->deep) graph_output(n->unet, n->deep_out);
    return graph_plan(n->unet, n->on.device, e);
}

static size_t shallow_text(const denoiser *n)
{
    return n->kv_count - unet_text_last(&n->on.model->unet);
}

static bool plan_shallow(denoiser *n, error *e)
{
    const unet_config *c = &n->on.model->unet;
    n->shallow_kv = calloc(n->kv_count + 1, sizeof *n->shallow_kv);
    if (!n->shallow_kv) return error_memory(e, "the text's keys", n->kv_count);
    if (!graph_open(&n->shallow, n->on.device->compute, e)) return false;
    n->shallow_x = latents_input(n, n->shallow);
    n->shallow_t = graph_input(n->shallow, "timestep", DTYPE_F32, 1, (int64_t[]){1});
    n->deep_in = graph_input(n->shallow, "deep features", n->deep_out->type, n->deep_out->rank,
                             n->deep_out->dim);
    text_inputs(n, n->shallow, shallow_text(n), n->shallow_kv);
    if (n->controls) n->shallow_control = control_input(n, n->shallow, 0);
    tensor *out = unet_build_shallow(n->shallow, c, n->shallow_x, n->shallow_t, n->deep_in,
                                     n->shallow_kv + shallow_text(n), n->texts, n->shallow_control);
    n->shallow_out = cast(n->shallow, out, DTYPE_F32);
    graph_output(n->shallow, n->shallow_out);
    graph_output(n->shallow, n->deep_in);
    return graph_plan(n->shallow, n->on.device, e);
}

static int tokens_of(const pipeline *p, int tokens)
{
    return tokens ? tokens : p->model->clip.positions;
}

bool denoiser_open(denoiser **out, const pipeline *p, int batch, int texts, int tokens, int height,
                   int width, const denoiser_extras *with, error *e)
{
    static const denoiser_extras none;
    if (!with) with = &none;
    denoiser *n = *out = calloc(1, sizeof *n);
    if (!n) return error_memory(e, "the network's plan", sizeof *n);
    *n = (denoiser){.on = *p,
                    .batch = batch,
                    .texts = texts,
                    .tokens = tokens_of(p, tokens),
                    .height = height,
                    .width = width,
                    .deep = with->deep};
    bool ok = device_weights_open(p->device, &p->model->unet_weights, &n->weights, e) &&
              (p->model->kind != MODEL_STABLE_DIFFUSION || plan_text(n, e)) &&
              plan_controls(n, with, e) && plan_unet(n, e) && (!n->deep || plan_shallow(n, e));
    if (!ok) denoiser_close(out);
    return ok;
}

void denoiser_close(denoiser **n)
{
    if (!*n) return;
    graph_close(&(*n)->unet);
    graph_close(&(*n)->shallow);
    graph_close(&(*n)->text);
    controls_close(&(*n)->controls);
    free((*n)->control_in);
    device_weights_close(&(*n)->weights);
    free((*n)->kv_out);
    free((*n)->kv_in);
    free((*n)->shallow_kv);
    free(*n);
    *n = NULL;
}

void denoiser_release(denoiser *n)
{
    graph_release(n->unet);
    if (n->shallow) graph_release(n->shallow);
    controls_release(n->controls);
    n->active = false;
}

size_t denoiser_bytes(const denoiser *n)
{
    return graph_bytes(n->unet) + (n->shallow ? graph_bytes(n->shallow) : 0) +
           controls_bytes(n->controls);
}

bool denoiser_is(const denoiser *n, int batch, int texts, int tokens, int height, int width,
                 const denoiser_extras *with)
{
    return n && n->batch == batch && n->texts == texts && n->tokens == tokens_of(&n->on, tokens) &&
           n->height == height && n->width == width && n->deep == (with && with->deep) &&
           controls_are(n->controls, with ? with->list : NULL, with ? with->controls : 0);
}

bool denoiser_has_text(const denoiser *n) { return n->has_text; }

/* Inputs live to the end of a run, so a text is written once for all its predictions. */
static bool copy_text(denoiser *n, graph *g, tensor *const *kv, size_t from, error *e)
{
    for (size_t i = from; i < n->kv_count; i++)
        if (!graph_copy(g, kv[i], n->text, n->kv_out[i], e)) return false;
    return true;
}

static bool copy_texts(denoiser *n, error *e)
{
    return copy_text(n, n->unet, n->kv_in, 0, e) &&
           (!n->shallow || copy_text(n, n->shallow, n->shallow_kv, shallow_text(n), e));
}

bool denoiser_read(denoiser *n, const float *states, error *e)
{
    bool again = n->active && n->has_text;
    if (!again) denoiser_release(n);
    n->has_text = (again ||
                   (graph_bind(n->text, &n->weights, 1, e) && graph_allocate(n->text, e))) &&
                  graph_write(n->text, n->context, states, e) && graph_run(n->text, e) &&
                  (!again || copy_texts(n, e)) &&
                  (!n->controls || controls_read(n->controls, states, e));
    if (n->has_text) return true;
    denoiser_release(n);
    graph_release(n->text);
    return false;
}

static bool make_room(denoiser *n, graph *g, error *e)
{
    return graph_bind(g, &n->weights, 1, e) && graph_allocate(g, e);
}

static bool activate(denoiser *n, error *e)
{
    if (n->active) return true;
    return n->active = make_room(n, n->unet, e) && (!n->shallow || make_room(n, n->shallow, e)) &&
                       copy_texts(n, e);
}

/* What the ControlNets add; to the shallow graph the first of it alone. */
static bool run_controls(denoiser *n, graph *g, tensor *const *in, int count, const float *x,
                         float t, const char *where, error *e)
{
    if (!n->controls) return true;
    if (!controls_run(n->controls, x, t, e)) return error_prefix(e, where);
    for (int i = 0; i < count; i++)
        if (!graph_copy(g, in[i], controls_graph(n->controls), controls_output(n->controls, i), e))
            return false;
    return true;
}

bool denoiser_run(denoiser *n, const float *x, float t, float *out, const char *where, error *e)
{
    if (!activate(n, e) ||
        !run_controls(n, n->unet, n->control_in, n->controls ? controls_count(n->controls) : 0, x,
                      t, where, e))
        return false;
    return graph_write(n->unet, n->x, x, e) && graph_write(n->unet, n->t, &t, e) &&
           pipeline_run(n->unet, n->out, out, where, e) &&
           (!n->shallow || graph_copy(n->shallow, n->deep_in, n->unet, n->deep_out, e));
}

bool denoiser_run_shallow(denoiser *n, const float *x, float t, float *out, const char *where,
                          error *e)
{
    assert(n->active);
    return run_controls(n, n->shallow, &n->shallow_control, 1, x, t, where, e) &&
           graph_write(n->shallow, n->shallow_x, x, e) &&
           graph_write(n->shallow, n->shallow_t, &t, e) &&
           pipeline_run(n->shallow, n->shallow_out, out, where, e);
}

size_t denoiser_deep_numbers(const denoiser *n)
{
    return pipeline_elements(n->deep_in) / (size_t)n->deep_in->dim[0];
}

bool denoiser_read_deep(denoiser *n, float *deep, error *e)
{
    assert(n->active);
    return graph_read(n->shallow, n->deep_in, deep, e);
}

bool denoiser_write_deep(denoiser *n, const float *deep, error *e)
{
    return activate(n, e) && graph_write(n->shallow, n->deep_in, deep, e);
}
