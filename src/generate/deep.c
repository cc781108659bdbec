/* SPDX-License-Identifier: Apache-2.0
 *
 * deep: see deep.h. What is remembered: how many evaluations there were, then each model's features
 * of the picture's samples, in the order of the mix. */
#include "generate/deep.h"

#include <stdlib.h>
#include <string.h>

bool deep_next(deep_cache *d, const mix_step *s)
{
    if (d->interval < 2) return false;
    bool same = s && d->now ? mix_step_equal(s, d->now) : s == d->now;
    if (!same) d->done = 0;
    d->now = s;
    return d->done++ % d->interval != 0;
}

static int model_count(const deep_cache *d) { return d->now ? d->now->terms : 1; }

static generator *model_at(const deep_cache *d, const job *j, int i)
{
    return j->models[d->now ? d->now->model[i] : 0];
}

/* Numbers of one picture under one model. */
static size_t picture_numbers(const job *j, const generator *g)
{
    return (size_t)j->parts * denoiser_deep_numbers(g->denoiser);
}

static size_t saved_size(const deep_cache *d, const job *j)
{
    size_t numbers = 0;
    for (int i = 0; i < model_count(d); i++) numbers += picture_numbers(j, model_at(d, j, i));
    return sizeof d->done + numbers * sizeof(float);
}

static float *room(const job *j, const generator *g, error *e)
{
    size_t bytes = (size_t)j->count * picture_numbers(j, g) * sizeof(float);
    float *all = malloc(bytes);
    if (!all) error_memory(e, "deep features", bytes);
    return all;
}

bool deep_save(const deep_cache *d, const job *j, int k, void **out, size_t *size, error *e)
{
    *out = NULL;
    *size = 0;
    if (d->interval < 2) return true;
    size_t bytes = saved_size(d, j);
    char *state = malloc(bytes), *at = state + sizeof d->done;
    bool ok = state || error_memory(e, "deep features", bytes);
    if (ok) memcpy(state, &d->done, sizeof d->done);
    for (int i = 0; ok && i < model_count(d); i++) {
        const generator *g = model_at(d, j, i);
        size_t one = picture_numbers(j, g);
        float *all = room(j, g, e);
        ok = all && denoiser_read_deep(g->denoiser, all, e);
        if (ok) memcpy(at, all + (size_t)k * one, one * sizeof *all);
        at += one * sizeof *all;
        free(all);
    }
    if (ok) {
        *out = state;
        *size = bytes;
    } else {
        free(state);
    }
    return ok;
}

/* What the snapshots remember of one model, `at` bytes into each. */
static bool load_model(const job *j, const generator *g, size_t at, error *e)
{
    size_t one = picture_numbers(j, g);
    float *all = room(j, g, e);
    for (int k = 0; all && k < j->count; k++)
        memcpy(all + (size_t)k * one, (const char *)j->picture[k].o->from->deep + at,
               one * sizeof *all);
    bool ok = all && denoiser_write_deep(g->denoiser, all, e);
    free(all);
    return ok;
}

bool deep_load(deep_cache *d, const job *j, error *e)
{
    const generate_snapshot *from = j->picture[0].o->from;
    if (d->interval < 2 || !from || !from->step) return true;
    d->now = j->mix ? &j->mix->step[from->step - 1] : NULL;
    size_t size = saved_size(d, j);
    for (int k = 0; k < j->count; k++) {
        const generate_snapshot *its = j->picture[k].o->from;
        if (its->deep_size != size || memcmp(its->deep, from->deep, sizeof d->done) != 0)
            return error_set(e, ERROR_USAGE,
                             "the run to go on from was of other models before step %d",
                             from->step + 1);
    }
    memcpy(&d->done, from->deep, sizeof d->done);
    size_t at = sizeof d->done;
    for (int i = 0; i < model_count(d); i++) {
        const generator *g = model_at(d, j, i);
        if (!load_model(j, g, at, e)) return false;
        at += picture_numbers(j, g) * sizeof(float);
    }
    return true;
}
