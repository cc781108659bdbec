/* SPDX-License-Identifier: Apache-2.0
 *
 * text: see text.h. */
#include "pipeline/text.h"

#include <string.h>

static bool encode(graph *g, const pipeline *p, device_weights *weights, const int32_t *ids,
                   int count, int clip_skip, float *states, error *e)
{
    const clip_config *c = &p->model->clip;
    tensor *in = graph_input(g, "tokens", DTYPE_I32, 2, (int64_t[]){count, c->positions});
    tensor *out = cast(g, clip_build(g, c, in, clip_skip), DTYPE_F32);
    graph_output(g, out);
    if (!graph_plan(g, p->device, e) || !graph_bind(g, &weights, 1, e) || !graph_allocate(g, e))
        return false;
    return graph_write(g, in, ids, e) && pipeline_run(g, out, states, "text encoder", e);
}

bool text_encode(const pipeline *p, const int32_t *ids, int count, int clip_skip, float *states,
                 error *e)
{
    device_weights *weights = NULL;
    graph *g = NULL;
    bool ok = device_weights_open(p->device, &p->model->clip_weights, &weights, e) &&
              graph_open(&g, p->device->compute, e) &&
              encode(g, p, weights, ids, count, clip_skip, states, e);
    graph_close(&g);
    device_weights_close(&weights);
    return ok;
}

static bool same_weights(const weight_set *a, const weight_set *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        const weight *x = &a->item[i], *y = &b->item[i];
        size_t bytes = (size_t)weight_elements(x) * dtype_size(x->type);
        if (strcmp(x->name, y->name) != 0 || x->type != y->type ||
            weight_elements(x) != weight_elements(y) || memcmp(x->data, y->data, bytes) != 0)
            return false;
    }
    return true;
}

bool text_encoders_equal(const model *a, const model *b)
{
    return memcmp(&a->clip, &b->clip, sizeof a->clip) == 0 &&
           same_weights(&a->clip_weights, &b->clip_weights);
}
