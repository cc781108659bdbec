/* SPDX-License-Identifier: Apache-2.0
 *
 * pipeline: see pipeline.h. */
#include "pipeline/pipeline.h"

#include <math.h>

size_t pipeline_elements(const tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->dim[i];
    return n;
}

bool pipeline_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* Again, looking at every tensor. The inputs are still there. */
static bool blame(graph *g, const char *where, error *e)
{
    error found = {0};
    if (graph_run_checked(g, &found))
        error_set(&found, ERROR_NUMERIC,
                  "NaN or infinity in the result, but in no tensor before it");
    return error_set(e, found.code, "%s: %s", where, found.text);
}

bool pipeline_run(graph *g, tensor *output, float *to, const char *where, error *e)
{
    if (!graph_run(g, e) || !graph_read(g, output, to, e)) return false;
    return pipeline_finite(to, pipeline_elements(output)) || blame(g, where, e);
}
