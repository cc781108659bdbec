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
    o->sampler = (lk_sampler)s->kind;
    o->steps = s->steps;
    o->eta = s->eta;
    o->variance = s->has_variance ? (lk_variance)((int)s->variance + 1) : LK_VARIANCE_MODEL;
    o->spacing = s->has_spacing ? (lk_spacing)((int)s->spacing + 1) : LK_SPACING_MODEL;
}

/* Takes names and labels over from the rows. */
static bool sweep_out(lk_sweep *out, sweep *s, const lk_generate_options *base, error *e)
{
    out->options = calloc(s->count + 1, sizeof *out->options);
    out->name = calloc(s->count + 1, sizeof *out->name);
    out->label = calloc(s->count + 1, sizeof *out->label);
    if (!out->options || !out->name || !out->label)
        return error_memory(e, "a sweep", s->count * sizeof *out->options);
    for (size_t i = 0; i < s->count; i++) {
        out->options[i] = *base;
        options_out(&out->options[i], &s->row[i].options);
        out->name[i] = s->row[i].name;
        out->label[i] = s->row[i].label;
        s->row[i].name = s->row[i].label = NULL;
    }
    out->count = s->count;
    return true;
}

bool lk_sweep_parse(lk_sweep *out, const char *text, const lk_generate_options *base,
                    lk_error *caller)
{
    error e = {0};
    sweep s = {0};
    generate_options options = api_options_in(base);
    *out = (lk_sweep){0, NULL, NULL, NULL};
    bool ok = sweep_parse(&s, text, &options, &e) && sweep_out(out, &s, base, &e);
    sweep_close(&s);
    if (!ok) lk_sweep_close(out);
    return api_report(ok, &e, caller);
}

void lk_sweep_close(lk_sweep *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->name[i]);
        free(s->label[i]);
    }
    free(s->options);
    free(s->name);
    free(s->label);
    *s = (lk_sweep){0, NULL, NULL, NULL};
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
