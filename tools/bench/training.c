/* SPDX-License-Identifier: Apache-2.0
 *
 * training: see training.h. */
#include "training.h"

#include <stdlib.h>

#include "base/random.h"

static bool fill(graph *g, tensor *input, rng *r, error *e)
{
    size_t n = 1;
    for (int i = 0; i < input->rank; i++) n *= (size_t)input->dim[i];
    float *noise = malloc(n * sizeof *noise);
    if (!noise) return error_memory(e, "an input", n * sizeof *noise);
    rng_randn(r, noise, n);
    bool ok = graph_write(g, input, noise, e);
    free(noise);
    return ok;
}

bool step_fill(step_graph *s, error *e)
{
    rng r;
    float one[STEP_BATCH], t[STEP_BATCH];
    rng_seed(&r, 0);
    for (int i = 0; i < STEP_BATCH; i++) one[i] = 1, t[i] = 500;
    return graph_write(s->graph, s->t, t, e) &&
           (!s->weight || (graph_write(s->graph, s->weight, one, e) &&
                           graph_write(s->graph, s->start, one, e))) &&
           fill(s->graph, s->x, &r, e) && fill(s->graph, s->context, &r, e) &&
           (!s->target || fill(s->graph, s->target, &r, e));
}
