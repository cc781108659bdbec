/* SPDX-License-Identifier: Apache-2.0
 *
 * embed: one tensor [width] a network and picture. The file holds those of every network that has
 * looked; what the pictures of other networks or plans said stays there. */
#include "embed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/safetensors.h"

#define KEPT_FILE "embeddings.safetensors"

enum { SAVE_EVERY = 20, NAME = 80 };

static void name_of(const embeddings *x, const measured_image *p, char out[NAME])
{
    snprintf(out, NAME, "%.16s.%s", lk_vision_hash(x->network), p->id);
}

/* ---- the file -------------------------------------------------------------------------------- */

static bool is_whole(const embeddings *x, const safetensors_entry *entry)
{
    bool ok = entry && entry->type == DTYPE_F32 && entry->rank == 1 && entry->dim[0] == x->width;
    for (int i = 0; ok && i < x->width; i++) {
        float v;
        memcpy(&v, (const char *)entry->data + (size_t)i * sizeof v, sizeof v);
        ok = isfinite(v);
    }
    return ok;
}

/* It is only kept work: what cannot be read, or does not fit, is looked at again. */
static bool open_kept(safetensors *file, const char *folder)
{
    error ignored = {0};
    char *path = path_join(folder, KEPT_FILE);
    bool there = path && path_is_file(path) && safetensors_open(file, path, &ignored);
    free(path);
    return there;
}

static bool load(embeddings *x, const measured *m, const bool *wanted, const char *folder, error *e)
{
    safetensors file;
    bool ok = true;
    if (!open_kept(&file, folder)) return true;
    for (int i = 0; ok && i < x->pictures; i++) {
        char name[NAME];
        name_of(x, &m->picture[i], name);
        const safetensors_entry *entry = safetensors_find(&file, name);
        if (!wanted[i] || !is_whole(x, entry)) continue;
        x->of[i] = malloc(entry->bytes);
        ok = x->of[i] || error_memory(e, KEPT_FILE, entry->bytes);
        if (ok) memcpy(x->of[i], entry->data, entry->bytes);
    }
    safetensors_close(&file);
    return ok;
}

/* Those of this network anew, of others as they are there. */
static bool save(const embeddings *x, const measured *m, const char *folder, error *e)
{
    safetensors file = {0};
    bool there = open_kept(&file, folder);
    size_t n = 0, most = (size_t)x->pictures + (there ? file.count : 0) + 1;
    safetensors_entry *entry = calloc(most, sizeof *entry);
    char(*name)[NAME] = calloc((size_t)x->pictures + 1, sizeof *name),
    *path = path_join(folder, KEPT_FILE);
    bool ok = (entry && name && path) || error_memory(e, KEPT_FILE, most * sizeof *entry);
    for (size_t k = 0; ok && there && k < file.count; k++)
        if (strncmp(file.entry[k].name, lk_vision_hash(x->network), 16) != 0)
            entry[n++] = file.entry[k];
    for (int i = 0; ok && i < x->pictures; i++) {
        if (!x->of[i]) continue;
        name_of(x, &m->picture[i], name[i]);
        entry[n++] = (safetensors_entry){.name = name[i],
                                         .type = DTYPE_F32,
                                         .rank = 1,
                                         .dim = {x->width},
                                         .data = x->of[i],
                                         .bytes = (uint64_t)x->width * sizeof(float)};
    }
    ok = ok && safetensors_write(path, entry, n, NULL, 0, e);
    if (there) safetensors_close(&file);
    free(entry), free(name), free(path);
    return ok;
}

/* ---- looking --------------------------------------------------------------------------------- */

static void to_unit(float *v, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    double by = sum > 0 ? 1 / sqrt(sum) : 0;
    for (int i = 0; i < n; i++) v[i] = (float)(v[i] * by);
}

static bool look(embeddings *x, const measure_source *s, const measured_image *p, int i, error *e)
{
    lk_error why = {0};
    lk_image *picture = NULL;
    float *out = malloc((size_t)x->width * sizeof *out);
    if (!out) return error_memory(e, KEPT_FILE, (size_t)x->width * sizeof *out);
    bool ok = measured_read(&picture, s, p, e);
    if (ok && !lk_vision_embed(out, x->network, picture, &why)) ok = engine_failed(&why, e);
    lk_image_close(&picture);
    if (ok) to_unit(out, x->width);
    if (ok)
        x->of[i] = out;
    else
        free(out);
    return ok;
}

typedef struct looking {
    embeddings *to;
    const measured *m;
    const measure_source *source;
    const bool *wanted;
    int done, total;
} looking;

static bool look_once(looking *l, const measured_image *p, int i, error *e)
{
    const measure_source *s = l->source;
    if (!l->wanted[i] || l->to->of[i]) return true;
    if (s->progress && s->progress(s->user, l->done, l->total))
        return error_set(e, ERROR_CANCELLED, "stopped after %d of %d pictures were looked at",
                         l->done, l->total);
    if (!look(l->to, s, p, i, e)) return false;
    return ++l->done % SAVE_EVERY != 0 || save(l->to, l->m, s->folder, e);
}

/* The photos of a subject, whose pixels are no longer at hand. */
static bool look_at_photos(looking *l, const measured_subject *j, error *e)
{
    lk_photos *set = NULL;
    const char *folder = l->source->plan->model[j->model[0]].train.instance_data_dir;
    int resolution = j->photos ? l->m->picture[j->photo[0]].resolution : 0;
    if (!resolution) return true;
    if (!measured_photos(&set, folder, resolution, (size_t)j->photos, false, e)) return false;
    bool ok = true;
    for (size_t k = 0; ok && k < lk_photos_count(set); k++) {
        char id[48];
        measured_photo_id(set, k, resolution, id);
        int i = measured_find(l->m, id);
        if (i < 0) continue;
        measured_image p = l->m->picture[i];
        p.photos = set;
        p.photo = k;
        ok = look_once(l, &p, i, e);
    }
    lk_photos_close(&set);
    return ok;
}

static bool look_at_all(embeddings *x, const measured *m, const bool *wanted,
                        const measure_source *s, error *e)
{
    looking l = {.to = x, .m = m, .source = s, .wanted = wanted};
    bool ok = true;
    for (int i = 0; i < m->pictures; i++) l.total += wanted[i] && !x->of[i];
    if (!l.total) return true;
    for (int k = 0; ok && k < m->subjects; k++) ok = look_at_photos(&l, &m->subject[k], e);
    for (int i = 0; ok && i < m->cells; i++) ok = look_once(&l, &m->picture[i], i, e);
    error ignored = {0};
    return save(x, m, s->folder, ok ? e : &ignored) && ok;
}

bool embeddings_open(embeddings *out, const char *network, const measured *m, const bool *wanted,
                     const measure_source *s, error *e)
{
    *out = (embeddings){.pictures = m->pictures};
    lk_error why = {0};
    bool ok = lk_vision_open(&out->network, s->session, network, &why) || engine_failed(&why, e);
    if (ok) out->width = lk_vision_width(out->network);
    out->of = calloc((size_t)m->pictures + 1, sizeof *out->of);
    if (ok && !out->of) ok = error_memory(e, KEPT_FILE, (size_t)m->pictures * sizeof *out->of);
    ok = ok && load(out, m, wanted, s->folder, e) && look_at_all(out, m, wanted, s, e);
    if (!ok) embeddings_close(out);
    return ok;
}

void embeddings_close(embeddings *x)
{
    for (int i = 0; x->of && i < x->pictures; i++) free(x->of[i]);
    free(x->of);
    lk_vision_close(&x->network);
    *x = (embeddings){0};
}

bool embeddings_of_text(embeddings *x, const char *text, float *out, error *e)
{
    lk_error why = {0};
    if (!lk_vision_embed_text(out, x->network, text, &why)) return engine_failed(&why, e);
    to_unit(out, x->width);
    return true;
}

double embeddings_cosine(const embeddings *x, const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < x->width; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}
