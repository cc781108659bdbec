/* SPDX-License-Identifier: Apache-2.0
 *
 * model: lk_model, a checkpoint opened in a context. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "model/find.h"
#include "model/hash.h"
#include "model/inversion.h"
#include "model/lora.h"
#include "model/taesd.h"
#include "pipeline/fit.h"

static const lk_model_options model_defaults = {.size = sizeof(lk_model_options)};

void lk_model_defaults_sized(lk_model_options *o, size_t size)
{
    options_give(o, size, &model_defaults, sizeof model_defaults);
}

static bool open_weights(lk_model *m, device *d, error *e)
{
    const taesd *tiny = m->model->tiny;
    const weight_set *set[] = {&m->model->unet_weights, &m->model->vae_weights,
                               tiny ? &tiny->weights : NULL};
    bool ok = true;
    for (int i = 0; ok && i < 3; i++)
        ok = !set[i] || !set[i]->count || device_weights_open(d, set[i], &m->weights[i], e);
    return ok;
}

/* Merges the options' LoRAs; what of them fits nothing goes to the context's log. */
static bool add_loras(lk_model *m, lk_context *c, const lk_model_options *o, error *e)
{
    if (o->lora_count < 0 || (o->lora_count && !o->loras))
        return error_set(e, ERROR_USAGE, "%d LoRAs, and no list of them", o->lora_count);
    size_t count = (size_t)o->lora_count;
    lora_choice *list = calloc(count + 1, sizeof *list);
    char *notes = NULL;
    bool ok = list || error_memory(e, "a list of LoRAs", count * sizeof *list);
    for (size_t i = 0; ok && i < count; i++) {
        list[i] = (lora_choice){o->loras[i].path, o->loras[i].weight};
        ok = list[i].path || error_set(e, ERROR_USAGE, "a LoRA has no path");
    }
    ok = ok && model_add_loras(m->model, list, count, c->device->pool, &notes, e);
    free(list);
    char *rest = NULL;
    for (char *line = notes ? strtok_r(notes, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest))
        if (c->log) c->log(c->user, LK_LOG_WARNING, line);
    free(notes);
    if (ok && m->model->copied && c->log) {
        char line[160];
        snprintf(line, sizeof line, "float32 copies of the weights that LoRAs change: %s of memory",
                 number_bytes((double)m->model->copied).text);
        c->log(c->user, LK_LOG_INFO, line);
    }
    return ok;
}

static bool add_embeddings(lk_model *m, const lk_model_options *o, error *e)
{
    if (o->embedding_count < 0 || (o->embedding_count && !o->embeddings))
        return error_set(e, ERROR_USAGE, "%d embeddings, and no list of them", o->embedding_count);
    size_t count = (size_t)o->embedding_count;
    inversion_choice *list = calloc(count + 1, sizeof *list);
    bool ok = list || error_memory(e, "a list of embeddings", count * sizeof *list);
    for (size_t i = 0; ok && i < count; i++) {
        list[i] = (inversion_choice){o->embeddings[i].path, o->embeddings[i].token};
        ok = list[i].path || error_set(e, ERROR_USAGE, "an embedding has no path");
    }
    ok = ok && model_add_inversions(m->model, list, count, e);
    free(list);
    return ok;
}

/* The model that the options name as another's base: its weights, and a share in it. */
static bool derive(lk_model *m, lk_context *c, const lk_model_options *o, error *e)
{
    if (o->path || o->vae || o->tokenizer || o->embedding_count || o->taesd)
        return error_set(e, ERROR_USAGE,
                         "a model that has another's weights takes LoRAs, and neither path, "
                         "autoencoders, tokenizer nor embeddings");
    if (o->base->context != c)
        return error_set(e, ERROR_USAGE, "%s: is open in another context", o->base->model->path);
    if (!model_derive(&m->model, o->base->model, e)) return false;
    pthread_mutex_lock(&c->lock);
    m->base = o->base;
    m->base->shares++;
    pthread_mutex_unlock(&c->lock);
    return add_loras(m, c, o, e) && open_weights(m, c->device, e);
}

static bool open_model(lk_model *m, lk_context *c, const lk_model_options *o, error *e)
{
    if (o->base) return derive(m, c, o, e);
    api_watch watch;
    char *pocket = o->path ? NULL : find_pocket(e);
    const char *path = o->path ? o->path : pocket;
    api_watch_start(&watch, o->progress, o->user, NULL);
    bool ok = path &&
              model_open_with(&m->model, path, o->vae, o->tokenizer, c->device->pool, &watch.work,
                              e) &&
              add_loras(m, c, o, e) && add_embeddings(m, o, e) && fit_model(m->model, e) &&
              (!o->taesd || model_set_taesd(m->model, o->taesd, c->device->pool, e)) &&
              open_weights(m, c->device, e);
    free(pocket);
    return ok;
}

bool lk_model_open(lk_model **out, lk_context *c, const lk_model_options *given, lk_error *caller)
{
    error e = {0};
    lk_model_options o = model_defaults;
    *out = NULL;
    lk_model *m = calloc(1, sizeof *m);
    bool ok = (m || error_memory(&e, "a model", sizeof *m)) &&
              api_options(&o, sizeof o, given, "lk_model_options", &e) && open_model(m, c, &o, &e);
    if (m) m->shares = 1;
    if (ok) {
        m->context = c;
        *out = m;
    } else if (m) {
        pthread_mutex_lock(&c->lock);
        model_release(m);
        pthread_mutex_unlock(&c->lock);
    }
    return api_report(ok, &e, caller);
}

void lk_model_describe_sized(const lk_model *m, lk_model_info *info, size_t size)
{
    lk_model_info own = {.path = m->model->path,
                         .format = m->model->format,
                         .unconditional = !fit_conditional(m->model)};
    fit_size(m->model, &own.width, &own.height, &own.multiple);
    if (!own.unconditional) own.tokens = m->model->clip.positions;
    options_give(info, size, &own, sizeof own);
}

const char *lk_model_hash(lk_model *m)
{
    char hash[65];
    model_hash_with(m->model, m->context->device->pool, hash);
    return m->model->hash;
}
