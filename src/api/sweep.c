/* SPDX-License-Identifier: Apache-2.0
 *
 * sweep: what a user writes for many pictures (seeds, sweeps), and where they can be written. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/folder.h"
#include "base/platform.h"
#include "base/seeds.h"
#include "generate/plan.h"

bool lk_seeds_parse(uint64_t **seeds, size_t *count, const char *text, lk_error *caller)
{
    error e = {0};
    *seeds = NULL;
    *count = 0;
    return api_report(seeds_parse(seeds, count, text, true, &e), &e, caller);
}

/* The fields that a sweep can change. */
static void options_out(lk_generate_options *o, const generate_options *in)
{
    const sampler_options *s = &in->sampler;
    o->width = in->width;
    o->height = in->height;
    o->guidance = in->guidance;
    o->guidance_rescale = in->guidance_rescale;
    o->clip_skip = in->clip_skip;
    o->strength = in->strength;
    o->sampler = (lk_sampler)s->kind;
    o->steps = s->steps;
    o->eta = s->eta;
    o->sigmas = s->sigmas;
    o->variance = s->has_variance ? (lk_variance)((int)s->variance + 1) : LK_VARIANCE_MODEL;
    o->spacing = s->has_spacing ? (lk_spacing)((int)s->spacing + 1) : LK_SPACING_MODEL;
}

struct lk_sweep {
    sweep rows;
};

bool lk_sweep_parse(lk_sweep **out, const char *text, const lk_generate_options *base,
                    lk_error *caller)
{
    error e = {0};
    lk_generate_options own;
    lk_sweep *s = calloc(1, sizeof *s);
    *out = NULL;
    bool ok = (s || error_memory(&e, "a sweep", sizeof *s)) &&
              generate_options_take(&own, base, &e);
    if (ok) {
        generate_options options = api_options_in(&own);
        ok = sweep_parse(&s->rows, text, &options, &e);
    }
    if (ok)
        *out = s;
    else
        lk_sweep_close(&s);
    return api_report(ok, &e, caller);
}

void lk_sweep_close(lk_sweep **s)
{
    if (!s || !*s) return;
    sweep_close(&(*s)->rows);
    free(*s);
    *s = NULL;
}

size_t lk_sweep_count(const lk_sweep *s) { return s->rows.count; }
const char *lk_sweep_name(const lk_sweep *s, size_t i) { return s->rows.row[i].name; }
const char *lk_sweep_label(const lk_sweep *s, size_t i) { return s->rows.row[i].label; }

void lk_sweep_apply(const lk_sweep *s, size_t i, lk_generate_options *options)
{
    lk_generate_options own;
    size_t size = options->size;
    if (!generate_options_take(&own, options, NULL))
        return; /* the caller's call with them will say why */
    options_out(&own, &s->rows.row[i].options);
    memcpy(options, &own, size < sizeof own ? size : sizeof own);
    options->size = size;
}

char *lk_slug(const char *text, size_t limit) { return slug_make(text, limit); }

bool lk_can_write(const char *path, bool make_folder, lk_error *caller)
{
    error e = {0};
    file_writer *w = NULL;
    const char *slash = strrchr(path, '/');
    bool ok = true;
    if (make_folder && slash && slash != path) {
        char *folder = string_format("%.*s", (int)(slash - path), path);
        ok = folder ? path_make_dir(folder, &e) : error_memory(&e, path, strlen(path));
        if (ok) folder_sweep(folder);
        free(folder);
    }
    if (make_folder && !slash) folder_sweep(".");
    ok = ok && file_writer_open(&w, path, &e);
    file_writer_abandon(&w);
    return api_report(ok, &e, caller);
}
