/* SPDX-License-Identifier: Apache-2.0
 *
 * measured: whose pictures a plan has, and having each looked at. */
#include "measured.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "base/sha256.h"
#include "study/page/gallery.h"
#include "kept.h"
#include "score.h"

/* A kill loses at most so many pictures; photos and class pictures that judge the scale. */
enum { SAVE_EVERY = 20, MOST_PHOTOS = 50 };

/* ---- cells ----------------------------------------------------------------------------------- */

static bool samplers_alike(const study_cell *a, const study_cell *b, int any)
{
    if ((!(any & ANY_STEPS) && a->steps != b->steps) || a->spacing != b->spacing) return false;
    if (any & ANY_SAMPLER) return true; /* what follows is one sampler's own */
    const char *sigmas = a->sigmas ? a->sigmas : "", *others = b->sigmas ? b->sigmas : "";
    return a->sampler == b->sampler && a->eta == b->eta && a->variance == b->variance &&
           strcmp(sigmas, others) == 0;
}

static bool mixes_alike(const lk_schedule *a, const lk_schedule *b, int any)
{
    int steps = lk_schedule_steps(a);
    if (any & ANY_MIX) return true;
    if (any & ANY_STEPS) /* of models alone */
        return lk_schedule_common(a, b) > 0;
    return steps == lk_schedule_steps(b) && lk_schedule_common(a, b) == steps;
}

bool cells_alike(const study_cell *a, const study_cell *b, int any)
{
    return ((any & ANY_SEED) || a->seed == b->seed) && samplers_alike(a, b, any) &&
           a->guidance == b->guidance && a->guidance_rescale == b->guidance_rescale &&
           a->width == b->width && a->height == b->height && a->clip_skip == b->clip_skip &&
           a->prompt_syntax == b->prompt_syntax && a->rng == b->rng && a->tile == b->tile &&
           a->control == b->control && a->init == b->init && a->strength == b->strength &&
           a->mask == b->mask && a->hires == b->hires && a->hires_strength == b->hires_strength &&
           a->hires_steps == b->hires_steps && a->hires_upscaler == b->hires_upscaler &&
           ((any & ANY_DEEP) || a->deep_cache == b->deep_cache) &&
           ((any & ANY_PROMPT) || strcmp(a->prompt, b->prompt) == 0) &&
           strcmp(a->negative, b->negative) == 0 && mixes_alike(a->mix, b->mix, any);
}

int measured_usual(const measured *m, int *set, int n, int any)
{
    int best = 0, most = 0, kept = 0;
    for (int i = 0; i < n; i++) {
        int alike = 0;
        for (int k = 0; k < n; k++)
            alike += cells_alike(m->picture[set[i]].cell, m->picture[set[k]].cell, any);
        if (alike > most) most = alike, best = set[i];
    }
    for (int i = 0; i < n; i++)
        if (cells_alike(m->picture[set[i]].cell, m->picture[best].cell, any)) set[kept++] = set[i];
    return kept;
}

int measured_find(const measured *m, const char *id)
{
    for (int i = 0; i < m->pictures; i++)
        if (strcmp(m->picture[i].id, id) == 0) return i;
    return -1;
}

int measured_choose(const measured *m, const measured_subject *j, const char *prompt, int which,
                    int *set)
{
    int n = 0, count = 0;
    for (int i = 0; i < m->cells; i++) {
        const measured_image *p = &m->picture[i];
        bool belongs = p->alone == j->base;
        for (int k = 0; k < j->models && !belongs; k++) belongs = p->alone == j->model[k];
        if (belongs && strcmp(p->cell->prompt, prompt) == 0) set[n++] = i;
    }
    n = measured_usual(m, set, n, ANY_SEED | ANY_MIX);
    for (int i = 0; i < n; i++)
        if (m->picture[set[i]].alone == which) set[count++] = set[i];
    return count;
}

void measured_photo_id(const lk_photos *photos, size_t index, int resolution, char id[48])
{
    snprintf(id, 48, "photo-%.16s-%d", lk_photos_hash(photos, index), resolution);
}

/* ---- subjects -------------------------------------------------------------------------------- */

/* The model that a training started from, through trainings of trainings: it has seen no subject.
 */
static int root_of(const study_plan *p, int i)
{
    while (!p->model[i].path) i = p->model[i].base;
    return i;
}

static bool same_photos(const lk_photos *a, const lk_photos *b)
{
    if (lk_photos_count(a) != lk_photos_count(b)) return false;
    for (size_t i = 0; i < lk_photos_count(a); i++)
        if (strcmp(lk_photos_hash(a, i), lk_photos_hash(b, i)) != 0) return false;
    return true;
}

/* A match is determined by the judge and the photos. */
static bool make_key(measured_subject *j, const measure_source *s, const lk_photos *photos,
                     error *e)
{
    lk_error why = {0};
    sha256 h;
    char key[65];
    lk_features_options o = judge_options(s->plan->measure_noises);
    if (!lk_features_key(key, s->models[j->judge], &o, &why)) return engine_failed(&why, e);
    sha256_start(&h);
    sha256_add(&h, key, 64);
    for (size_t i = 0; i < lk_photos_count(photos); i++)
        sha256_add(&h, lk_photos_hash(photos, i), 64);
    sha256_end(&h, j->key);
    return true;
}

/* Where the pictures of its class are: those of its first training that has any. */
static void find_class(measured_subject *j, const measure_source *s)
{
    for (int k = 0; k < j->models; k++) {
        const lk_train_options *of = &s->plan->model[j->model[k]].train;
        const char *folder = s->class_folder ? s->class_folder[j->model[k]] : NULL;
        if (!of->class_prompt) continue;
        if (!j->class_prompt) j->class_prompt = of->class_prompt;
        if (folder && path_is_dir(folder) && !j->class_folder &&
            strcmp(of->class_prompt, j->class_prompt) == 0) {
            j->class_folder = folder;
            j->class_images = of->num_class_images;
        }
    }
}

bool measured_photos(lk_photos **out, const char *folder, int resolution, size_t most,
                     bool of_class, error *e)
{
    lk_error why = {0};
    lk_photos_options o;
    lk_photos_defaults(&o);
    o.resolution = resolution;
    o.limit = most;
    o.of_class = of_class;
    return lk_photos_open(out, folder, &o, &why) || engine_failed(&why, e);
}

/* sets[2k]: the photos of subject k; sets[2k + 1]: its class pictures. */
static bool list_subjects(measured *m, const measure_source *s, lk_photos **sets, error *e)
{
    const study_plan *p = s->plan;
    for (int i = 0; i < p->models; i++) {
        const study_model *of = &p->model[i];
        lk_photos **photos = &sets[2 * m->subjects];
        measured_subject *j = NULL;
        if (of->path) continue;
        int resolution = engine_resolution(s->models[root_of(p, i)]);
        if (!measured_photos(photos, of->train.instance_data_dir, resolution, MOST_PHOTOS, false,
                             e))
            return false;
        for (int k = 0; k < m->subjects && !j; k++)
            if (m->subject[k].base == of->base && same_photos(sets[2 * k], *photos) &&
                strcmp(m->subject[k].instance_prompt, of->train.instance_prompt) == 0)
                j = &m->subject[k];
        if (j) {
            lk_photos_close(photos);
        } else {
            j = &m->subject[m->subjects++];
            *j = (measured_subject){.base = of->base,
                                    .judge = root_of(p, i),
                                    .instance_prompt = of->train.instance_prompt};
            if (!make_key(j, s, *photos, e)) return false;
            j->model = malloc((size_t)p->models * sizeof *j->model);
            if (!j->model)
                return error_memory(e, "a study's measures", (size_t)p->models * sizeof(int));
        }
        j->model[j->models++] = i;
    }
    for (int k = 0; k < m->subjects; k++) {
        measured_subject *j = &m->subject[k];
        find_class(j, s);
        size_t most = j->class_images > 0 && j->class_images < MOST_PHOTOS ? (size_t)j->class_images
                                                                           : MOST_PHOTOS;
        int resolution = engine_resolution(s->models[j->judge]);
        if (j->class_folder &&
            !measured_photos(&sets[2 * k + 1], j->class_folder, resolution, most, true, e))
            return false;
    }
    return true;
}

/* ---- pictures -------------------------------------------------------------------------------- */

static bool new_image(measured *m, const char *id, measured_image **out, error *e)
{
    measured_image *p = *out = &m->picture[m->pictures];
    size_t n = (size_t)m->subjects + 1;
    snprintf(p->id, sizeof p->id, "%s", id);
    p->match = calloc(n, sizeof *p->match);
    p->wanted = calloc(n, sizeof *p->wanted);
    p->share = malloc(n * sizeof *p->share);
    p->alone = -1;
    m->pictures++;
    if (!p->match || !p->wanted || !p->share)
        return error_memory(e, "a study's measures", n * sizeof(double));
    for (int k = 0; k < m->subjects; k++) p->share[k] = NAN;
    return true;
}

static bool is_of(const measured_subject *j, int which)
{
    bool found = which == j->base;
    for (int k = 0; k < j->models && !found; k++) found = which == j->model[k];
    return found;
}

static bool is_within(const lk_schedule *mix, const measured_subject *j)
{
    for (int i = 0; i < lk_schedule_steps(mix); i++) {
        const lk_schedule_step *s = lk_schedule_at(mix, i);
        for (int k = 0; k < s->parts; k++)
            if (!is_of(j, s->model[k])) return false;
    }
    return lk_schedule_steps(mix) > 0;
}

static bool list_cells(measured *m, const study_plan *p, error *e)
{
    for (int i = 0; i < p->sections; i++)
        for (int k = 0; k < p->section[i].rows * p->section[i].columns; k++) {
            const study_cell *c = &p->section[i].cell[k];
            measured_image *of;
            if (c->why || measured_find(m, c->name) >= 0) continue;
            if (!new_image(m, c->name, &of, e)) return false;
            of->cell = c;
            of->alone = cell_model(c);
            for (int j = 0; j < m->subjects; j++)
                if (is_within(c->mix, &m->subject[j])) of->wanted[j] = true;
        }
    m->cells = m->pictures;
    return true;
}

static bool is_listed(const int *list, int n, int at)
{
    bool found = false;
    for (int i = 0; i < n && !found; i++) found = list[i] == at;
    return found;
}

static bool list_photos(measured *m, const lk_photos *set, int resolution, int subject, int **list,
                        int *count, error *e)
{
    size_t photos = set ? lk_photos_count(set) : 0;
    *list = malloc((photos + 1) * sizeof **list);
    if (!*list) return error_memory(e, "a study's measures", photos * sizeof **list);
    for (size_t i = 0; i < photos; i++) {
        char id[48];
        measured_photo_id(set, i, resolution, id);
        int at = measured_find(m, id);
        if (at < 0) {
            measured_image *of;
            at = m->pictures;
            if (!new_image(m, id, &of, e)) return false;
            of->photos = set;
            of->photo = i;
            of->resolution = resolution;
        }
        if (is_listed(*list, *count, at)) continue; /* a copy of another */
        m->picture[at].wanted[subject] = true;
        (*list)[(*count)++] = at;
    }
    return true;
}

/* Where a training has no pictures of the class, the base's own of the plan serve. To the base the
 * instance prompt is the class. */
static bool list_own_class(measured *m, measured_subject *j, error *e)
{
    const char *prompt[2] = {j->class_prompt, j->instance_prompt};
    free(j->of_class);
    j->of_class = malloc(((size_t)m->cells + 1) * sizeof *j->of_class);
    if (!j->of_class) return error_memory(e, "a study's measures", (size_t)m->cells * sizeof(int));
    for (int k = 0; k < 2 && j->class_count == 0; k++) {
        for (int i = 0; prompt[k] && i < m->cells; i++)
            if (m->picture[i].alone == j->base &&
                strcmp(m->picture[i].cell->prompt, prompt[k]) == 0)
                j->of_class[j->class_count++] = i;
        j->class_count = measured_usual(m, j->of_class, j->class_count, ANY_SEED);
    }
    return true;
}

static bool list_images(measured *m, const measure_source *s, lk_photos *const *sets, error *e)
{
    size_t most = 1;
    for (int i = 0; i < s->plan->sections; i++)
        most += (size_t)s->plan->section[i].rows * (size_t)s->plan->section[i].columns;
    for (int k = 0; k < 2 * m->subjects; k++) most += sets[k] ? lk_photos_count(sets[k]) : 0;
    m->picture = calloc(most, sizeof *m->picture);
    if (!m->picture) return error_memory(e, "a study's measures", most * sizeof *m->picture);
    if (!list_cells(m, s->plan, e)) return false;
    for (int k = 0; k < m->subjects; k++) {
        measured_subject *j = &m->subject[k];
        int resolution = engine_resolution(s->models[j->judge]);
        if (!list_photos(m, sets[2 * k], resolution, k, &j->photo, &j->photos, e) ||
            !list_photos(m, sets[2 * k + 1], resolution, k, &j->of_class, &j->class_count, e) ||
            (!j->class_count && !list_own_class(m, j, e)))
            return false;
    }
    return true;
}

/* ---- looking --------------------------------------------------------------------------------- */

bool measured_read(lk_image **out, const measure_source *s, const measured_image *p, error *e)
{
    lk_error why = {0};
    if (p->cell) return cell_image_open(out, s->folder, p->cell, e);
    return lk_photos_image(out, p->photos, p->photo, &why) || engine_failed(&why, e);
}

static bool is_missing(const measured *m, int i, int by)
{
    bool missing = false;
    for (int k = 0; k < m->subjects && !missing; k++)
        missing = m->subject[k].judge == by && m->picture[i].wanted[k] && !m->picture[i].match[k];
    return missing;
}

/* Photo `at` of a subject. */
typedef struct spot {
    int subject, at;
} spot;

/* One judge, as many eyes as there are sessions, and what they see in the photos of its subjects.
 */
typedef struct looking {
    measured *all;
    const measure_source *source;
    lk_features **eye; /* [workers] opened by those who come */
    int model, *done, total, unsaved;
    view **own;  /* [subjects][photos]; NULL: another judge's */
    spot *photo; /* [photos] of its subjects */
    int photos;
    int *picture; /* [pictures] that are to be looked at */
    int pictures;
} looking;

static bool open_eye(looking *l, int worker, error *e)
{
    const measure_source *s = l->source;
    lk_features_options o = judge_options(s->plan->measure_noises);
    lk_error why = {0};
    return l->eye[worker] ||
           lk_features_open(&l->eye[worker], s->crew->session[worker], s->models[l->model], &o,
                            &why) ||
           engine_failed(&why, e);
}

static bool look(looking *l, const measured_image *p, int worker, view *out, error *e)
{
    lk_image *picture = NULL;
    if (!open_eye(l, worker, e) || !measured_read(&picture, l->source, p, e)) return false;
    bool ok = judge_look(l->eye[worker], picture,
                         p->cell ? p->id : lk_photos_path(p->photos, p->photo), out, e);
    lk_image_close(&picture);
    return ok;
}

static bool look_at_photo(void *context, crew_run *run, int i, int worker, error *e)
{
    looking *l = context;
    spot at = l->photo[i];
    const measured_image *p = &l->all->picture[l->all->subject[at.subject].photo[at.at]];
    bool ok = look(l, p, worker, &l->own[at.subject][at.at], e);
    if (ok) crew_step(run);
    return ok;
}

/* How well the photos' places are found in a picture. */
static bool match(void *context, crew_run *run, int i, int worker, error *e)
{
    looking *l = context;
    measured *m = l->all;
    measured_image *p = &m->picture[l->picture[i]];
    view seen = {0};
    bool ok = look(l, p, worker, &seen, e);
    for (int k = 0; ok && k < m->subjects; k++) {
        const measured_subject *j = &m->subject[k];
        size_t n = (size_t)j->photos * (size_t)j->places;
        if (!l->own[k] || !p->wanted[k] || p->match[k]) continue;
        float *to = malloc(n * sizeof *to);
        ok = to || error_memory(e, "a study's measures", n * sizeof *to);
        for (int a = 0; ok && a < j->photos; a++)
            view_match(&l->own[k][a], &seen, to + a * j->places);
        crew_lock(run); /* what is there may be saved at any time */
        p->match[k] = to;
        crew_unlock(run);
    }
    view_close(&seen);
    if (ok) crew_step(run);
    return ok;
}

/* Whether somebody wants to stop. */
static bool goes_on(const looking *l, error *e)
{
    const measure_source *s = l->source;
    return !s->progress || !s->progress(s->user, *l->done, l->total) ||
           error_set(e, ERROR_CANCELLED, "stopped after %d of %d pictures were measured", *l->done,
                     l->total);
}

static bool photos_told(void *context, crew_run *run, int64_t done, error *e)
{
    (void)run, (void)done;
    return goes_on(context, e);
}

static bool matches_told(void *context, crew_run *run, int64_t done, error *e)
{
    looking *l = context;
    *l->done += (int)done;
    l->unsaved += (int)done;
    if (l->unsaved >= SAVE_EVERY) {
        l->unsaved = 0;
        crew_lock(run);
        bool ok = kept_save(l->all, l->source->folder, e);
        crew_unlock(run);
        if (!ok) return false;
    }
    return goes_on(l, e);
}

/* What there is to be looked at, and room for it. */
static bool list_looks(looking *l, error *e)
{
    const measured *m = l->all;
    size_t subjects = (size_t)m->subjects + 1, pictures = (size_t)m->pictures + 1, photos = 1;
    for (int k = 0; k < m->subjects; k++) photos += (size_t)m->subject[k].photos;
    l->own = calloc(subjects, sizeof *l->own);
    l->eye = calloc((size_t)l->source->crew->count, sizeof *l->eye);
    l->photo = calloc(photos, sizeof *l->photo);
    l->picture = calloc(pictures, sizeof *l->picture);
    bool ok = l->own && l->eye && l->photo && l->picture;
    for (int k = 0; ok && k < m->subjects; k++) {
        if (m->subject[k].judge != l->model) continue;
        l->own[k] = calloc((size_t)m->subject[k].photos + 1, sizeof *l->own[k]);
        ok = l->own[k];
        for (int i = 0; i < m->subject[k].photos; i++) l->photo[l->photos++] = (spot){k, i};
    }
    for (int i = 0; ok && i < m->pictures; i++)
        if (is_missing(m, i, l->model)) l->picture[l->pictures++] = i;
    return ok || error_memory(e, "a study's measures", pictures * sizeof *l->picture);
}

static void close_looks(looking *l)
{
    for (int k = 0; l->own && k < l->all->subjects; k++) {
        for (int i = 0; l->own[k] && i < l->all->subject[k].photos; i++) view_close(&l->own[k][i]);
        free(l->own[k]);
    }
    for (int i = 0; l->eye && i < l->source->crew->count; i++) lk_features_close(&l->eye[i]);
    free(l->own), free(l->eye), free(l->photo), free(l->picture);
}

static bool let_judge_look(measured *m, const measure_source *s, int by, int *done, int total,
                           error *e)
{
    looking l = {.all = m, .source = s, .model = by, .done = done, .total = total};
    bool ok = list_looks(&l, e) && goes_on(&l, e) &&
              crew_do(s->crew, &(crew_work){l.photos, look_at_photo, photos_told, &l}, e);
    for (int k = 0; ok && k < m->subjects; k++)
        if (l.own[k]) m->subject[k].places = l.own[k][0].places;
    ok = ok && crew_do(s->crew, &(crew_work){l.pictures, match, matches_told, &l}, e);
    close_looks(&l);
    return ok;
}

static bool look_at_missing(measured *m, const measure_source *s, error *e)
{
    int total = 0, done = 0, models = s->plan->models, here;
    bool ok = true;
    for (int k = 0; k < models; k++)
        for (int i = 0; i < m->pictures; i++) total += is_missing(m, i, k);
    for (int k = 0; ok && total && k < models; k++) {
        here = 0;
        for (int i = 0; i < m->pictures; i++) here += is_missing(m, i, k);
        ok = !here || let_judge_look(m, s, k, &done, total, e);
    }
    error ignored = {0};
    if (total) ok = kept_save(m, s->folder, ok ? e : &ignored) && ok;
    return ok;
}

/* ---- shares ---------------------------------------------------------------------------------- */

/* Each picture's score by subject k, NaN where it was not looked at. */
static bool score_all(const measured *m, int k, double *raw, error *e)
{
    const measured_subject *j = &m->subject[k];
    subject_scale of = {.photos = j->photos, .places = j->places, .classes = j->class_count};
    of.own = malloc((size_t)j->photos * sizeof *of.own);
    of.of_class = malloc(((size_t)j->class_count + 1) * sizeof *of.of_class);
    bool ok = (of.own && of.of_class) || error_memory(e, "a study's measures", sizeof of);
    for (int i = 0; ok && i < j->photos; i++) of.own[i] = m->picture[j->photo[i]].match[k];
    for (int i = 0; ok && i < j->class_count; i++)
        of.of_class[i] = m->picture[j->of_class[i]].match[k];
    ok = ok && scale_open(&of, e);
    for (int i = 0; ok && i < m->pictures; i++)
        raw[i] = m->picture[i].match[k] ? scale_score(&of, m->picture[i].match[k]) : NAN;
    scale_close(&of);
    free(of.own), free(of.of_class);
    return ok;
}

static estimate estimate_among(const double *raw, const int *list, int n, double *room)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(raw[list[i]])) room[count++] = raw[list[i]];
    return estimate_of(room, count);
}

static bool fill_shares(measured *m, int k, error *e)
{
    measured_subject *j = &m->subject[k];
    size_t n = (size_t)(m->pictures + j->photos + j->class_count);
    double *raw = malloc((n + 1) * sizeof *raw);
    if (!raw) return error_memory(e, "a study's measures", n * sizeof *raw);
    bool ok = score_all(m, k, raw, e);
    if (ok) {
        j->raw_subject = estimate_among(raw, j->photo, j->photos, raw + m->pictures);
        j->raw_class = estimate_among(raw, j->of_class, j->class_count, raw + m->pictures);
        j->tells_apart = j->raw_subject.low > j->raw_class.high;
    }
    double zero = j->raw_class.mean, whole = j->raw_subject.mean - zero;
    for (int i = 0; ok && i < m->pictures && j->tells_apart; i++)
        m->picture[i].share[k] = 100 * (raw[i] - zero) / whole;
    free(raw);
    return ok;
}

/* ---- all of it ------------------------------------------------------------------------------- */

bool measured_open(measured *out, const measure_source *s, error *e)
{
    size_t n = (size_t)s->plan->models + 1;
    lk_photos **sets = calloc(2 * n, sizeof *sets);
    *out = (measured){.subject = calloc(n, sizeof *out->subject)};
    bool ok = (sets && out->subject) || error_memory(e, "a study's measures", n * sizeof *sets);
    ok = ok && list_subjects(out, s, sets, e) && list_images(out, s, sets, e) &&
         kept_load(out, s->folder, e) && look_at_missing(out, s, e);
    for (int k = 0; ok && k < out->subjects; k++) ok = fill_shares(out, k, e);
    for (size_t k = 0; sets && k < 2 * n; k++) lk_photos_close(&sets[k]);
    for (int i = 0; i < out->pictures; i++) out->picture[i].photos = NULL;
    free(sets);
    if (!ok) measured_close(out);
    return ok;
}

void measured_close(measured *m)
{
    for (int i = 0; i < m->pictures; i++) {
        measured_image *p = &m->picture[i];
        for (int k = 0; p->match && k < m->subjects; k++) free(p->match[k]);
        free(p->match), free(p->wanted), free(p->share);
    }
    for (int k = 0; k < m->subjects; k++)
        free(m->subject[k].model), free(m->subject[k].photo), free(m->subject[k].of_class);
    free(m->picture), free(m->subject);
    *m = (measured){0};
}
