/* SPDX-License-Identifier: Apache-2.0
 *
 * step: records the graph that step.h describes. */
#include "train/step.h"

#include <stdlib.h>

#include "train/inversion.h"
#include "train/lora.h"

static void record_inputs(step_graph *s, const model *m)
{
    const step_options *o = &s->options;
    int64_t n = o->samples, map[4] = {n, o->height, o->width, m->unet.in_channels};
    graph *g = s->graph;
    s->x = graph_input(g, "latents", DTYPE_F32, 4, map);
    s->t = graph_input(g, "timesteps", DTYPE_F32, 1, &n);
    if (o->vectors) {
        s->rows = graph_input(g, "token rows", DTYPE_F32, 3,
                              (int64_t[]){n, m->clip.positions, m->clip.hidden});
        s->places = graph_input(g, "places", DTYPE_F32, 3,
                                (int64_t[]){n, m->clip.positions, o->vectors});
    } else if (o->train_text_encoder)
        s->ids = graph_input(g, "tokens", DTYPE_I32, 2, (int64_t[]){n, m->clip.positions});
    else
        s->context = graph_input(g, "text embedding", DTYPE_F32, 3,
                                 (int64_t[]){n, m->clip.positions, m->unet.cross_dim});
    if (!o->gradients) return;
    s->target = graph_input(g, "target", DTYPE_F32, 4, map);
    s->weight = graph_input(g, "loss weights", DTYPE_F32, 1, &n);
    s->start = graph_input(g, "loss scale", DTYPE_F32, 1, (int64_t[]){1});
}

/* The gradient of the loss by every weight that is trained. */
static bool record_gradients(step_graph *s, error *e)
{
    graph *g = s->graph;
    size_t all = graph_weight_count(g);
    s->grad = calloc(all + 1, sizeof *s->grad);
    s->trained = calloc(all + 1, sizeof *s->trained);
    if (!s->grad || !s->trained) return error_memory(e, "the gradients", all * sizeof *s->grad);
    for (size_t i = 0; i < all; i++) {
        const tensor *w = graph_weight_at(g, i);
        bool trained = s->options.vectors ? inversion_is_part(w->name)
                                          : !s->options.lora.rank || lora_is_part(w->name);
        if (trained) s->trained[s->count++] = (tensor *)(uintptr_t)w;
    }
    return graph_gradient(g, s->loss, s->start, s->trained, s->count, s->grad, e);
}

static tensor *record_text(const step_graph *s, const clip_config *c)
{
    graph *g = s->graph;
    if (s->ids) return cast(g, clip_build(g, c, s->ids, 0), DTYPE_F32);
    if (!s->rows) return s->context;
    int64_t learned[2] = {c->hidden, s->options.vectors};
    tensor *rows = linear(g, s->places, graph_weight(g, INVERSION_WEIGHT, 2, learned), NULL,
                          s->rows);
    return cast(g, clip_build_rows(g, c, rows, 0), DTYPE_F32);
}

static bool record_all(step_graph *s, const model *m, error *e)
{
    graph *g = s->graph;
    clip_config clip = m->clip;
    unet_config unet = m->unet;
    clip.lora = unet.lora = s->options.lora;
    if (!s->options.recompute) graph_keep_all(g);
    record_inputs(s, m);
    tensor *context = record_text(s, &clip);
    tensor *out = cast(g, unet_build(g, &unet, s->x, s->t, context), DTYPE_F32);
    if (!s->options.gradients) {
        s->prediction = out;
        graph_output(g, out);
        return true;
    }
    s->loss = mse(g, out, s->target, s->weight, &s->each);
    graph_output(g, s->loss);
    graph_output(g, s->each);
    return record_gradients(s, e);
}

bool step_open(step_graph *s, device *d, const model *m, const step_options *o, error *e)
{
    *s = (step_graph){.options = *o};
    if (graph_open(&s->graph, d->compute, e) && record_all(s, m, e) && graph_plan(s->graph, d, e))
        return true;
    step_close(s);
    return false;
}

void step_close(step_graph *s)
{
    graph_close(&s->graph);
    free(s->trained);
    free(s->grad);
    free(s->updates);
    *s = (step_graph){0};
}
