/* SPDX-License-Identifier: Apache-2.0
 *
 * model: lk_model, a checkpoint opened in a context. */
#include "api/api.h"

#include <stdlib.h>

#include "model/find.h"

void lk_model_defaults(lk_model_options *o) { *o = (lk_model_options){NULL, NULL, NULL}; }

bool lk_model_open(lk_model **out, lk_context *c, const lk_model_options *o, lk_error *caller)
{
    error e = {0};
    lk_model_options defaults;
    lk_model_defaults(&defaults);
    if (!o) o = &defaults;
    *out = NULL;
    char *pocket = o->path ? NULL : find_pocket(&e);
    const char *path = o->path ? o->path : pocket;
    lk_model *m = calloc(1, sizeof *m);
    bool ok = path && (m || error_memory(&e, "a model", sizeof *m)) &&
              model_open_with(&m->model, path, o->vae, o->tokenizer, c->device->pool, &e) &&
              generator_open(&m->generator, c->device, m->model, &e);
    free(pocket);
    if (ok) {
        m->device = c->device;
        *out = m;
    } else {
        if (m) model_close(&m->model);
        free(m);
    }
    return api_report(ok, &e, caller);
}

void lk_model_close(lk_model **m)
{
    if (!*m) return;
    generator_close(&(*m)->generator);
    model_close(&(*m)->model);
    free(*m);
    *m = NULL;
}

void lk_model_describe(const lk_model *m, lk_model_info *info)
{
    *info = (lk_model_info){.path = m->model->path, .format = m->model->format,
                            .unconditional = m->model->kind == MODEL_UNCONDITIONAL};
    if (!info->unconditional) info->tokens = m->model->clip.positions;
    generator_size(m->generator, &info->width, &info->height, &info->multiple);
}
