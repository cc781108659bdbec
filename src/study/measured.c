/* SPDX-License-Identifier: Apache-2.0
 *
 * measured: which pictures are measured against which trained models, and the file that keeps it. Numbers
 * are rounded to nine digits as they are measured, so that those read back are the same. */
#include "study/measured.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "file/json.h"
#include "model/hash.h"
#include "study/likeness.h"

/* A kill loses at most so many pictures; photos and class pictures that calibrate a measure. */
enum { SAVE_EVERY = 20, MOST_PHOTOS = 32 };

#define KEPT_FILE "likeness.json"

static double rounded(double v)
{
    double out = v;
    number_parse(number_rounded(v, 9).text, NULL, &out);
    return out;
}

/* ---- cells ----------------------------------------------------------------------------------- */

static bool samplers_alike(const sampler_options *a, const sampler_options *b, int any)
{
    return a->kind == b->kind && ((any & ANY_STEPS) || a->steps == b->steps) && a->eta == b->eta &&
           a->use_clipped_output == b->use_clipped_output && a->has_variance == b->has_variance &&
           (!a->has_variance || a->variance == b->variance) && a->has_spacing == b->has_spacing &&
           (!a->has_spacing || a->spacing == b->spacing);
}

static bool mixes_alike(const mix *a, const mix *b, int any)
{
    if (any & ANY_MIX) return true;
    if (any & ANY_STEPS) /* of models alone */
        return a->count && b->count && mix_step_equal(&a->step[0], &b->step[0]);
    return a->count == b->count && mix_common(a, b) == a->count;
}

bool cells_alike(const study_cell *a, const study_cell *b, int any)
{
    return ((any & ANY_SEED) || a->seed == b->seed) && samplers_alike(&a->sampler, &b->sampler, any) &&
           a->guidance == b->guidance && a->guidance_rescale == b->guidance_rescale &&
           a->width == b->width && a->height == b->height && a->clip_skip == b->clip_skip &&
           strcmp(a->prompt, b->prompt) == 0 && strcmp(a->negative, b->negative) == 0 &&
           mixes_alike(&a->mix, &b->mix, any);
}

int measured_find(const measured *m, const char *name)
{
    for (int i = 0; i < m->pictures; i++)
        if (strcmp(m->picture[i].id, name) == 0) return i;
    return -1;
}

bool measured_read(image *out, const measure_source *s, const study_cell *c, error *e)
{
    *out = (image){0};
    char *path = string_format("%s/cells/%s.png", s->folder, c->name);
    if (!path) return error_memory(e, "a picture's name", 64);
    bool ok = path_is_file(path) ||
              error_set(e, ERROR_FILE, "%s: this picture of the study is missing; run the study again, "
                        "which makes it", path);
    ok = ok && image_read(out, NULL, path, e);
    free(path);
    return ok;
}

/* ---- what there is to measure ---------------------------------------------------------------- */

static bool new_picture(measured *m, const char *id, measured_picture **out, error *e)
{
    measured_picture *p = *out = &m->picture[m->pictures];
    size_t n = (size_t)m->subjects + 1;
    snprintf(p->id, sizeof p->id, "%s", id);
    p->likeness = malloc(n * sizeof *p->likeness);
    p->wanted = calloc(n, sizeof *p->wanted);
    m->pictures++;
    if (!p->likeness || !p->wanted) return error_memory(e, "a study's measures", n * sizeof(double));
    for (int k = 0; k < m->subjects; k++) p->likeness[k] = NAN;
    return true;
}

static bool is_within(const mix *m, int a, int b)
{
    for (int i = 0; i < m->count; i++)
        for (int k = 0; k < m->step[i].terms; k++)
            if (m->step[i].model[k] != a && m->step[i].model[k] != b) return false;
    return m->count > 0;
}

static bool list_cells(measured *m, const study_plan *p, error *e)
{
    for (int i = 0; i < p->sections; i++)
        for (int k = 0; k < p->section[i].rows * p->section[i].columns; k++) {
            const study_cell *c = &p->section[i].cell[k];
            measured_picture *of;
            if (c->why || measured_find(m, c->name) >= 0) continue;
            if (!new_picture(m, c->name, &of, e)) return false;
            of->cell = c;
            for (int j = 0; j < m->subjects; j++)
                of->wanted[j] = is_within(&c->mix, m->subject[j].model, m->subject[j].base);
        }
    m->cells = m->pictures;
    return true;
}

static bool list_photos(measured *m, const photo_set *set, int resolution, int subject, int **list,
                        int *count, error *e)
{
    *list = malloc((set->count + 1) * sizeof **list);
    if (!*list) return error_memory(e, "a study's measures", set->count * sizeof **list);
    for (size_t i = 0; i < set->count; i++) {
        char id[48];
        snprintf(id, sizeof id, "photo-%.16s-%d", set->item[i].sha256, resolution);
        int at = measured_find(m, id);
        if (at < 0) {
            measured_picture *of;
            at = m->pictures;
            if (!new_picture(m, id, &of, e)) return false;
            of->photo = &set->item[i];
            of->resolution = resolution;
        }
        m->picture[at].wanted[subject] = true;
        (*list)[(*count)++] = at;
    }
    return true;
}

static bool list_pairs(measured *m, error *e)
{
    size_t most = (size_t)m->cells * (size_t)m->subjects + 1;
    m->pair = malloc(most * sizeof *m->pair);
    if (!m->pair) return error_memory(e, "a study's measures", most * sizeof *m->pair);
    for (int j = 0; j < m->subjects; j++)
        for (int t = 0; t < m->cells; t++) {
            const study_cell *c = m->picture[t].cell;
            if (cell_model(c) != m->subject[j].model) continue;
            for (int b = 0; b < m->cells; b++)
                if (cell_model(m->picture[b].cell) == m->subject[j].base &&
                    cells_alike(c, m->picture[b].cell, ANY_MIX)) {
                    m->pair[m->pairs++] = (measured_pair){j, b, t, NAN};
                    break;
                }
        }
    return true;
}

/* ---- the trained models ---------------------------------------------------------------------- */

/* The class that a model was taught beside; one taught without is measured against the class of
 * another model of the same base and subject, else the base is asked the instance prompt. */
static void find_class(measured_subject *j, const measure_source *s)
{
    const study_plan *p = s->plan;
    const study_model *m = &p->model[j->model];
    for (int k = -1; k < p->models; k++) {
        const study_model *other = &p->model[k < 0 ? j->model : k];
        const char *folder = s->class_folder ? s->class_folder[k < 0 ? j->model : k] : NULL;
        if (other->path || other->base != m->base || !other->train.instance_prompt ||
            strcmp(other->train.instance_prompt, m->train.instance_prompt) != 0)
            continue;
        if (!j->class_prompt) j->class_prompt = other->train.class_prompt;
        if (folder && !j->class_folder && other->train.class_prompt &&
            strcmp(other->train.class_prompt, j->class_prompt) == 0) {
            j->class_folder = folder;
            j->class_pictures = other->train.num_class_images;
        }
    }
    if (!j->class_prompt) j->class_prompt = j->instance_prompt;
}

static void add_model(sha256 *h, const model *m)
{
    char hex[65];
    model_hash(m, hex);
    sha256_add(h, hex, 64);
}

static void make_key(measured_subject *j, const measure_source *s)
{
    sha256 h;
    char line[128];
    const study_plan *p = s->plan;
    sha256_start(&h);
    snprintf(line, sizeof line, "likeness measure 1: %d timesteps, %d noises, %s, %s",
             p->measure_timesteps, p->measure_noises, dtype_name(s->device->compute),
             dtype_name(s->device->weight_type));
    sha256_add(&h, line, strlen(line) + 1);
    sha256_add(&h, j->class_prompt, strlen(j->class_prompt) + 1);
    sha256_add(&h, j->instance_prompt, strlen(j->instance_prompt) + 1);
    add_model(&h, s->models[j->base]);
    add_model(&h, s->models[j->model]);
    sha256_end(&h, j->key);
}

static bool list_subjects(measured *m, const measure_source *s, error *e)
{
    const study_plan *p = s->plan;
    m->subject = calloc((size_t)p->models + 1, sizeof *m->subject);
    if (!m->subject) return error_memory(e, "a study's measures", sizeof *m->subject);
    for (int i = 0; i < p->models; i++) {
        if (p->model[i].path) continue;
        measured_subject *j = &m->subject[m->subjects++];
        *j = (measured_subject){.model = i, .base = p->model[i].base, .same_base = m->subjects - 1,
                                .instance_prompt = p->model[i].train.instance_prompt,
                                .class_prompt = p->model[i].train.class_prompt};
        find_class(j, s);
        make_key(j, s);
        for (int k = m->subjects - 2; k >= 0; k--)
            if (m->subject[k].base == j->base &&
                strcmp(m->subject[k].class_prompt, j->class_prompt) == 0)
                j->same_base = k;
    }
    return true;
}

/* ---- the file -------------------------------------------------------------------------------- */

static void pair_id(const measured *m, const measured_pair *p, char out[100])
{
    snprintf(out, 100, "%s-%s", m->picture[p->base].id, m->picture[p->trained].id);
}

static void take_number(double *to, const json_t *from)
{
    if (json_is_number(from)) *to = json_number_value(from);
}

/* It is only kept work: what cannot be read is measured again. */
static bool load(measured *m, const measure_source *s, error *e)
{
    char *path = path_join(s->folder, KEPT_FILE);
    if (!path) return error_memory(e, s->folder, strlen(s->folder));
    json_t *j = path_is_file(path) ? json_read(path, JSON_LIMIT, NULL) : NULL;
    for (int k = 0; j && k < m->subjects; k++) {
        const json_t *of = json_object_get(j, s->plan->model[m->subject[k].model].name);
        const char *key = json_string_value(json_object_get(of, "determined_by"));
        if (!key || strcmp(key, m->subject[k].key) != 0) continue;
        const json_t *known = json_object_get(of, "likeness"), *drift = json_object_get(of, "drift");
        for (int i = 0; i < m->pictures; i++)
            if (m->picture[i].wanted[k])
                take_number(&m->picture[i].likeness[k], json_object_get(known, m->picture[i].id));
        for (int i = 0; i < m->pairs; i++) {
            char id[100];
            pair_id(m, &m->pair[i], id);
            if (m->pair[i].subject == k) take_number(&m->pair[i].latents, json_object_get(drift, id));
        }
    }
    json_decref(j);
    free(path);
    return true;
}

static json_t *subject_json(const measured *m, int k)
{
    json_t *known = json_object(), *drift = json_object();
    bool ok = known && drift;
    for (int i = 0; ok && i < m->pictures; i++)
        if (!isnan(m->picture[i].likeness[k]))
            ok = !json_object_set_new(known, m->picture[i].id, json_real(m->picture[i].likeness[k]));
    for (int i = 0; ok && i < m->pairs; i++) {
        char id[100];
        pair_id(m, &m->pair[i], id);
        if (m->pair[i].subject == k && !isnan(m->pair[i].latents))
            ok = !json_object_set_new(drift, id, json_real(m->pair[i].latents));
    }
    json_t *j = ok ? json_pack("{s:s, s:O, s:O}", "determined_by", m->subject[k].key, "likeness", known,
                               "drift", drift) : NULL;
    json_decref(known);
    json_decref(drift);
    return j;
}

static bool save(const measured *m, const measure_source *s, error *e)
{
    if (!m->subjects) return true;
    json_t *j = json_object();
    bool ok = j;
    for (int k = 0; ok && k < m->subjects; k++)
        ok = !json_object_set_new(j, s->plan->model[m->subject[k].model].name, subject_json(m, k));
    char *path = path_join(s->folder, KEPT_FILE);
    ok = (ok && path) ? json_write(j, path, e) : error_memory(e, KEPT_FILE, 4096);
    free(path);
    json_decref(j);
    return ok;
}

/* ---- measuring ------------------------------------------------------------------------------- */

typedef struct measuring {
    measured *all;
    const measure_source *source;
    likeness *meter;
    likeness_view *base, *trained; /* [subjects]; opened when first asked */
    double *base_error;            /* [subjects] of the picture in hand; NaN: not asked yet */
    latents_of_picture now;        /* of the picture in hand, by the autoencoder of: */
    int picture, by;               /* -1: none */
} measuring;

static bool read_picture(const measuring *g, const measured_picture *p, image *out, error *e)
{
    if (p->cell) return measured_read(out, g->source, p->cell, e);
    crop c = photo_center(p->photo, p->resolution);
    if (!image_new(out, p->resolution, p->resolution, e)) return false;
    size_t row = 3 * (size_t)p->resolution;
    for (int y = 0; y < p->resolution; y++)
        memcpy(out->pixels + (size_t)y * row,
               p->photo->picture.pixels +
                   3 * ((size_t)(c.top + y) * (size_t)p->photo->picture.width + (size_t)c.left), row);
    return true;
}

static bool encode(const measuring *g, int i, int base, latents_of_picture *out, error *e)
{
    image picture;
    const measured_picture *p = &g->all->picture[i];
    if (!read_picture(g, p, &picture, e)) return false;
    bool ok = likeness_encode(g->meter, g->source->models[base], &picture,
                              p->cell ? p->id : p->photo->path, out, e);
    image_free(&picture);
    return ok;
}

/* The latents of picture i are in hand. */
static bool ready(measuring *g, int i, int base, error *e)
{
    if (g->picture == i && g->by == base) return true;
    latents_of_picture_free(&g->now);
    g->picture = -1;
    if (!encode(g, i, base, &g->now, e)) return false;
    g->picture = i;
    g->by = base;
    return true;
}

static bool error_of(measuring *g, likeness_view *v, int which, const char *prompt, double *out,
                     error *e)
{
    const measured_picture *p = &g->all->picture[g->picture];
    if (!v->model &&
        !likeness_view_open(v, g->source->device, g->source->models[which], prompt, e))
        return false;
    return likeness_error(g->meter, v, &g->now, p->id, out, e);
}

static bool measure_likeness(measuring *g, int i, int k, error *e)
{
    const measured_subject *j = &g->all->subject[k];
    double trained, *base = &g->base_error[j->same_base];
    if (!ready(g, i, j->base, e) ||
        (isnan(*base) && !error_of(g, &g->base[j->same_base], j->base, j->class_prompt, base, e)) ||
        !error_of(g, &g->trained[k], j->model, j->instance_prompt, &trained, e))
        return false;
    g->all->picture[i].likeness[k] = rounded(*base - trained);
    return true;
}

static bool measure_pair(measuring *g, measured_pair *p, error *e)
{
    latents_of_picture other;
    int base = g->all->subject[p->subject].base;
    if (!ready(g, p->trained, base, e) || !encode(g, p->base, base, &other, e)) return false;
    size_t n = (size_t)other.channels * (size_t)other.height * (size_t)other.width;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)other.value[i] - (double)g->now.value[i];
        sum += d * d;
    }
    latents_of_picture_free(&other);
    p->latents = rounded(sqrt(sum / (double)n));
    return true;
}

static bool is_missing(const measured *m, int i)
{
    for (int k = 0; k < m->subjects; k++)
        if (m->picture[i].wanted[k] && isnan(m->picture[i].likeness[k])) return true;
    for (int k = 0; k < m->pairs; k++)
        if (m->pair[k].trained == i && isnan(m->pair[k].latents)) return true;
    return false;
}

static bool measure_picture(measuring *g, int i, error *e)
{
    measured *m = g->all;
    for (int k = 0; k < m->subjects; k++) g->base_error[k] = NAN;
    for (int k = 0; k < m->subjects; k++)
        if (m->picture[i].wanted[k] && isnan(m->picture[i].likeness[k]) &&
            !measure_likeness(g, i, k, e))
            return false;
    for (int k = 0; k < m->pairs; k++)
        if (m->pair[k].trained == i && isnan(m->pair[k].latents) && !measure_pair(g, &m->pair[k], e))
            return false;
    return true;
}

static bool measure_missing(measuring *g, error *e)
{
    const measure_source *s = g->source;
    int total = 0, done = 0;
    for (int i = 0; i < g->all->pictures; i++) total += is_missing(g->all, i);
    for (int i = 0; i < g->all->pictures; i++) {
        if (!is_missing(g->all, i)) continue;
        if (s->progress && s->progress(s->user, done, total))
            return error_set(e, ERROR_CANCELLED, "stopped after %d of %d pictures were measured", done,
                             total);
        if (!measure_picture(g, i, e)) return false;
        if (++done % SAVE_EVERY == 0 && !save(g->all, s, e)) return false;
    }
    if (total && s->progress) s->progress(s->user, total, total);
    return true;
}

static bool measure_all(measured *m, const measure_source *s, error *e)
{
    size_t n = (size_t)m->subjects + 1;
    measuring g = {.all = m, .source = s, .picture = -1, .base = calloc(n, sizeof *g.base),
                   .trained = calloc(n, sizeof *g.trained),
                   .base_error = calloc(n, sizeof *g.base_error)};
    bool ok = (g.base && g.trained && g.base_error) || error_memory(e, "a study's measures", n * 64);
    ok = ok && likeness_open(&g.meter, s->device, s->plan->measure_timesteps, s->plan->measure_noises,
                             e) && measure_missing(&g, e);
    error ignored = {0};
    ok = save(m, s, ok ? e : &ignored) && ok;
    likeness_close(&g.meter);
    for (int k = 0; g.base && g.trained && k < m->subjects; k++) {
        likeness_view_close(&g.base[k]);
        likeness_view_close(&g.trained[k]);
    }
    latents_of_picture_free(&g.now);
    free(g.base), free(g.trained), free(g.base_error);
    return ok;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int own_resolution(const model *m) { return m->unet.sample_size << (m->vae.blocks - 1); }

/* The photos that say what a trained model's numbers mean: its subject's, sets[0], and the class's. */
static bool open_photos(const measured *m, const measure_source *s, photo_set *sets, error *e)
{
    for (int k = 0; k < m->subjects; k++) {
        const measured_subject *j = &m->subject[k];
        int resolution = own_resolution(s->models[j->base]);
        size_t most = j->class_pictures > 0 && j->class_pictures < MOST_PHOTOS
                          ? (size_t)j->class_pictures : MOST_PHOTOS;
        if (!photo_set_open(&sets[2 * k], s->plan->model[j->model].train.instance_data_dir, resolution,
                            MOST_PHOTOS, "instance", e))
            return false;
        if (j->class_folder && path_is_dir(j->class_folder) &&
            !photo_set_open(&sets[2 * k + 1], j->class_folder, resolution, most, "class", e))
            return false;
    }
    return true;
}

static bool list_all(measured *m, const measure_source *s, const photo_set *sets, error *e)
{
    size_t most = 1;
    for (int i = 0; i < s->plan->sections; i++)
        most += (size_t)s->plan->section[i].rows * (size_t)s->plan->section[i].columns;
    for (int k = 0; k < 2 * m->subjects; k++) most += sets[k].count;
    m->picture = calloc(most, sizeof *m->picture);
    if (!m->picture) return error_memory(e, "a study's measures", most * sizeof *m->picture);
    if (!list_cells(m, s->plan, e)) return false;
    for (int k = 0; k < m->subjects; k++) {
        measured_subject *j = &m->subject[k];
        int resolution = own_resolution(s->models[j->base]);
        if (!list_photos(m, &sets[2 * k], resolution, k, &j->photo, &j->photos, e) ||
            !list_photos(m, &sets[2 * k + 1], resolution, k, &j->of_class, &j->class_count, e))
            return false;
    }
    return list_pairs(m, e);
}

bool measured_open(measured *out, const measure_source *s, error *e)
{
    *out = (measured){0};
    photo_set *sets = calloc(2 * (size_t)s->plan->models + 2, sizeof *sets);
    bool ok = sets || error_memory(e, "a study's measures", sizeof *sets);
    ok = ok && list_subjects(out, s, e) && open_photos(out, s, sets, e) && list_all(out, s, sets, e) &&
         load(out, s, e) && measure_all(out, s, e);
    for (int k = 0; sets && k < 2 * out->subjects; k++) photo_set_close(&sets[k]);
    for (int i = 0; ok && i < out->pictures; i++) out->picture[i].photo = NULL;
    free(sets);
    if (!ok) measured_close(out);
    return ok;
}

void measured_close(measured *m)
{
    for (int i = 0; m->picture && i < m->pictures; i++) {
        free(m->picture[i].likeness);
        free(m->picture[i].wanted);
    }
    for (int k = 0; m->subject && k < m->subjects; k++) {
        free(m->subject[k].photo);
        free(m->subject[k].of_class);
    }
    free(m->picture);
    free(m->subject);
    free(m->pair);
    *m = (measured){0};
}
