/* SPDX-License-Identifier: Apache-2.0
 *
 * measure: the tables. Where a prompt was drawn with several settings, a row is of those that most
 * of its pictures share, so that no mean mixes settings. */
#include "measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study/page/compare.h"
#include "field.h"
#include "study/page/gallery.h"
#include "measured.h"
#include "statistics.h"

/* Values of one row, as they come; those that are not numbers are left out. */
typedef struct sample {
    double *value;
    int n;
} sample;

enum { SAMPLES = 5 };

typedef struct tables {
    const measure_source *source;
    measured all;
    gallery *pictures;
    study_measures *out;
    const study_cell **cell; /* [cells] */
    const char **prompt;     /* distinct, in the order of the plan */
    int prompts;
    int *set;          /* [cells] room for choosing */
    sample s[SAMPLES]; /* [cells] */
} tables;

typedef double comparison(const image *, const image *);

static void start(tables *t)
{
    for (int i = 0; i < SAMPLES; i++) t->s[i].n = 0;
}

static void take(sample *s, double v)
{
    if (isfinite(v)) s->value[s->n++] = v;
}

static estimate estimated(const sample *s) { return estimate_of(s->value, s->n); }

/* ---- pictures -------------------------------------------------------------------------------- */

static bool is_of(const tables *t, int i, const char *prompt)
{
    return strcmp(t->cell[i]->prompt, prompt) == 0;
}

/* The first picture by this model alone that is as picture i but for `any`; -1: there is none. */
static int partner(const tables *t, int i, int which, int any)
{
    for (int k = 0; k < t->all.cells; k++)
        if (t->all.picture[k].alone == which && cells_alike(t->cell[i], t->cell[k], any)) return k;
    return -1;
}

static bool compare(tables *t, int a, int b, comparison *how, double *out, error *e)
{
    const image *x, *y;
    if (!gallery_pair(t->pictures, a, b, &x, &y, e)) return false;
    *out = how(x, y);
    return true;
}

/* Pictures are all looked at by now: what is told is that nothing is left to be done. */
static bool is_stopped(const measure_source *s)
{
    return s->progress && s->progress(s->user, 1, 1);
}

/* The mean comparison of picture a with those that differ from `of` in the seed alone; NaN: none
 * do. */
static bool compare_others(tables *t, int a, int of, comparison *how, double *out, error *e)
{
    double sum = 0, one;
    int n = 0;
    if (is_stopped(t->source))
        return error_set(e, ERROR_CANCELLED, "stopped while pictures were compared");
    for (int k = 0; k < t->all.cells; k++) {
        if (k == of || t->cell[k]->seed == t->cell[of]->seed ||
            !cells_alike(t->cell[of], t->cell[k], ANY_SEED))
            continue;
        if (!compare(t, a, k, how, &one, e)) return false;
        sum += one;
        n++;
    }
    *out = n ? sum / n : NAN;
    return true;
}

static double share_of(const tables *t, int i, int subject)
{
    return t->all.picture[i].share[subject];
}

/* How much of picture `whole` is in `part`: their correlation on a scale from 0 %, that of `part`
 * with other seeds' pictures made as `whole` is, to 100 %. plain and zero may be NULL. */
static bool kept(tables *t, int part, int whole, double *out, double *plain, double *zero, error *e)
{
    double c, z;
    if (!compare(t, part, whole, image_correlation, &c, e) ||
        !compare_others(t, part, whole, image_correlation, &z, e))
        return false;
    *out = z < 1 ? 100 * (c - z) / (1 - z) : NAN;
    if (plain) *plain = c;
    if (zero) *zero = z;
    return true;
}

/* The distance of two pictures as % of that of `of` to other seeds' pictures. */
static bool relative_distance(tables *t, int a, int b, int of, double *out, double *pixels,
                              error *e)
{
    double d, apart;
    if (!compare(t, a, b, image_distance, &d, e) ||
        !compare_others(t, of, of, image_distance, &apart, e))
        return false;
    *out = apart > 0 ? 100 * d / apart : NAN;
    if (pixels) *pixels = d;
    return true;
}

static int choose(tables *t, const measured_subject *j, const char *prompt, int which)
{
    return measured_choose(&t->all, j, prompt, which, t->set);
}

/* ---- a subject's rows ------------------------------------------------------------------------ */

static void fill_likeness(tables *t, int subject, const char *prompt)
{
    const measured_subject *j = &t->all.subject[subject];
    for (int k = -1; k < j->models; k++) {
        int which = k < 0 ? j->base : j->model[k], n = choose(t, j, prompt, which);
        start(t);
        for (int i = 0; i < n; i++) take(&t->s[0], share_of(t, t->set[i], subject));
        if (t->s[0].n)
            t->out->likeness[t->out->likenesses++] = (likeness_row){subject, which, prompt,
                                                                    estimated(&t->s[0])};
    }
}

static bool fill_change(tables *t, int subject, int which, const char *prompt, error *e)
{
    const measured_subject *j = &t->all.subject[subject];
    int n = choose(t, j, prompt, which), pairs = 0;
    start(t);
    for (int i = 0; i < n; i++) {
        int trained = t->set[i], base = partner(t, trained, j->base, ANY_MIX);
        double pixels, drift;
        if (base < 0) continue;
        if (!relative_distance(t, base, trained, base, &drift, &pixels, e)) return false;
        take(&t->s[0], share_of(t, trained, subject) - share_of(t, base, subject));
        take(&t->s[1], pixels);
        take(&t->s[2], drift);
        pairs++;
    }
    if (pairs)
        t->out->change[t->out->changes++] = (change_row){
            subject, which, prompt, estimated(&t->s[0]), estimated(&t->s[1]), estimated(&t->s[2])};
    return true;
}

static bool fill_contrast(tables *t, int subject, int which, int other, const char *prompt,
                          error *e)
{
    const measured_subject *j = &t->all.subject[subject];
    int n = choose(t, j, prompt, which), pairs = 0;
    start(t);
    for (int i = 0; i < n; i++) {
        int a = t->set[i], b = partner(t, a, other, ANY_MIX),
            base = partner(t, a, j->base, ANY_MIX);
        double of_a, of_b;
        if (b < 0) continue;
        pairs++;
        take(&t->s[0], share_of(t, b, subject) - share_of(t, a, subject));
        if (base < 0) continue;
        if (!relative_distance(t, base, a, base, &of_a, NULL, e) ||
            !relative_distance(t, base, b, base, &of_b, NULL, e))
            return false;
        take(&t->s[1], of_b - of_a);
    }
    if (pairs)
        t->out->contrast[t->out->contrasts++] = (contrast_row){
            subject, which, other, prompt, estimated(&t->s[0]), estimated(&t->s[1])};
    return true;
}

static bool fill_wording(tables *t, int subject, int which, const char *prompt, error *e)
{
    const measured_subject *j = &t->all.subject[subject];
    int n = choose(t, j, j->instance_prompt, which), pairs = 0;
    start(t);
    for (int i = 0; i < n; i++) {
        int instance = t->set[i], other = -1;
        double distance;
        for (int k = 0; k < t->all.cells && other < 0; k++)
            if (is_of(t, k, prompt) && cells_alike(t->cell[instance], t->cell[k], ANY_PROMPT))
                other = k;
        if (other < 0) continue;
        if (!relative_distance(t, instance, other, other, &distance, NULL, e)) return false;
        take(&t->s[0], share_of(t, instance, subject) - share_of(t, other, subject));
        take(&t->s[1], distance);
        pairs++;
    }
    if (pairs)
        t->out->wording[t->out->wordings++] = (wording_row){
            subject, which, prompt, estimated(&t->s[0]), estimated(&t->s[1])};
    return true;
}

/* ---- switches -------------------------------------------------------------------------------- */

/* Where a cell stands in a direction: steps of the first model, or -1; alone: a pure end. */
static int switch_at(const tables *t, int i, int first, int second)
{
    int a, b, at;
    if (t->all.picture[i].alone == first) return cell_steps(t->cell[i]);
    if (t->all.picture[i].alone == second) return 0;
    if (t->all.picture[i].alone >= 0 || !lk_schedule_switch(t->cell[i]->mix, &a, &b, &at))
        return -1;
    return a == first && b == second ? at : -1;
}

/* The pictures [n] of one switch point. */
static bool fill_switch(tables *t, int subject, const switch_row *of, const int *set, int n,
                        error *e)
{
    int trained = of->first == t->all.subject[subject].base ? of->second : of->first;
    switch_row row = *of;
    start(t);
    for (int i = 0; i < n; i++) {
        int alone = partner(t, set[i], trained, ANY_MIX),
            whole = partner(t, set[i], of->first, ANY_MIX);
        double of_first;
        take(&t->s[0], share_of(t, set[i], subject));
        if (alone >= 0) take(&t->s[1], share_of(t, set[i], subject) - share_of(t, alone, subject));
        if (whole < 0) continue;
        if (!kept(t, set[i], whole, &of_first, NULL, NULL, e)) return false;
        take(&t->s[2], of_first);
    }
    row.share = estimated(&t->s[0]);
    row.lost = estimated(&t->s[1]);
    row.kept = estimated(&t->s[2]);
    t->out->switches[t->out->switch_count++] = row;
    return true;
}

/* One direction under a prompt: its switches, and the ends that have a switch's seed. */
static bool fill_switches(tables *t, int subject, int first, int second, const char *prompt,
                          error *e)
{
    int n = 0, *at = t->set + t->all.cells;
    for (int i = 0; i < t->all.cells; i++)
        if (is_of(t, i, prompt) && t->all.picture[i].alone < 0 &&
            switch_at(t, i, first, second) >= 0)
            t->set[n++] = i;
    n = measured_usual(&t->all, t->set, n, ANY_SEED | ANY_MIX);
    for (int steps = n ? cell_steps(t->cell[t->set[0]]) : 0, k = 0; n && k <= steps; k++) {
        int count = 0;
        for (int i = 0; i < t->all.cells; i++) {
            bool belongs = false;
            if (switch_at(t, i, first, second) != k) continue;
            for (int m = 0; m < n && !belongs; m++)
                belongs = cells_alike(t->cell[i], t->cell[t->set[m]], ANY_MIX);
            if (belongs) at[count++] = i;
        }
        switch_row row = {.subject = subject,
                          .first = first,
                          .second = second,
                          .prompt = prompt,
                          .at = k,
                          .steps = steps};
        if (count && !fill_switch(t, subject, &row, at, count, e)) return false;
    }
    return true;
}

static bool fill_subject(tables *t, int subject, error *e)
{
    const measured_subject *j = &t->all.subject[subject];
    bool ok = true;
    for (int k = 0; k < t->prompts; k++) fill_likeness(t, subject, t->prompt[k]);
    for (int m = 0; m < j->models; m++)
        for (int k = 0; ok && k < t->prompts; k++)
            ok = fill_change(t, subject, j->model[m], t->prompt[k], e);
    for (int m = 0; m < j->models; m++)
        for (int other = m + 1; other < j->models; other++)
            for (int k = 0; ok && k < t->prompts; k++)
                ok = fill_contrast(t, subject, j->model[m], j->model[other], t->prompt[k], e);
    for (int m = -1; m < j->models; m++)
        for (int k = 0; ok && k < t->prompts; k++)
            if (strcmp(t->prompt[k], j->instance_prompt) != 0)
                ok = fill_wording(t, subject, m < 0 ? j->base : j->model[m], t->prompt[k], e);
    for (int m = 0; m < j->models; m++)
        for (int back = 0; back < 2; back++)
            for (int k = 0; ok && k < t->prompts; k++)
                ok = fill_switches(t, subject, back ? j->model[m] : j->base,
                                   back ? j->base : j->model[m], t->prompt[k], e);
    return ok;
}

/* ---- samplers -------------------------------------------------------------------------------- */

/* The picture equal but for having the most steps. */
static int with_most_steps(const tables *t, int i)
{
    int best = i;
    for (int k = 0; k < t->all.cells; k++)
        if (t->cell[k]->steps > t->cell[best]->steps &&
            t->all.picture[k].alone == t->all.picture[i].alone &&
            cells_alike(t->cell[i], t->cell[k], ANY_STEPS))
            best = k;
    return best;
}

/* Fewer steps against the most: of the pictures [n] those with `steps`. */
static bool fill_steps(tables *t, const structure_row *of, const int *set, int n, error *e)
{
    structure_row row = *of;
    start(t);
    for (int i = 0; i < n; i++) {
        int whole = with_most_steps(t, set[i]);
        double share, plain, zero;
        const image *x, *y;
        if (t->cell[set[i]]->steps != of->steps) continue;
        row.most = t->cell[whole]->steps;
        if (!kept(t, set[i], whole, &share, &plain, &zero, e) ||
            !gallery_pair(t->pictures, set[i], whole, &x, &y, e))
            return false;
        double most = image_detail(y);
        take(&t->s[0], plain);
        take(&t->s[1], zero);
        take(&t->s[2], share);
        take(&t->s[3], most > 0 ? 100 * image_detail(x) / most : NAN);
    }
    row.correlation = estimated(&t->s[0]);
    row.zero = estimated(&t->s[1]);
    row.kept = estimated(&t->s[2]);
    row.detail = estimated(&t->s[3]);
    t->out->structure[t->out->structures++] = row;
    return true;
}

static bool fill_structure(tables *t, lk_sampler kind, const char *prompt, error *e)
{
    int n = 0;
    for (int i = 0; i < t->all.cells; i++)
        if (is_of(t, i, prompt) && t->cell[i]->sampler == kind && t->all.picture[i].alone >= 0 &&
            with_most_steps(t, i) != i)
            t->set[n++] = i;
    n = measured_usual(&t->all, t->set, n, ANY_SEED | ANY_STEPS);
    for (int i = 0; i < n; i++) {
        int steps = t->cell[t->set[i]]->steps;
        bool is_first = true;
        for (int k = 0; k < i && is_first; k++) is_first = t->cell[t->set[k]]->steps != steps;
        structure_row row = {.sampler = kind, .prompt = prompt, .steps = steps};
        if (is_first && !fill_steps(t, &row, t->set, n, e)) return false;
    }
    return true;
}

/* DDPM's picture against DDIM's of the same noise. */
static bool fill_crossing(tables *t, const char *prompt, error *e)
{
    int n = 0, *other = t->set + t->all.cells;
    for (int i = 0; i < t->all.cells; i++) {
        int alone = t->all.picture[i].alone;
        if (!is_of(t, i, prompt) || t->cell[i]->sampler != LK_DDPM || alone < 0) continue;
        for (int k = 0; k < t->all.cells; k++)
            if (t->cell[k]->sampler == LK_DDIM && t->all.picture[k].alone == alone &&
                cells_alike(t->cell[i], t->cell[k], ANY_SAMPLER)) {
                other[i] = k;
                t->set[n++] = i;
                break;
            }
    }
    n = measured_usual(&t->all, t->set, n, ANY_SEED | ANY_STEPS);
    for (int i = 0; i < n; i++) {
        int steps = t->cell[t->set[i]]->steps;
        bool is_first = true;
        start(t);
        for (int k = 0; k < i && is_first; k++) is_first = t->cell[t->set[k]]->steps != steps;
        for (int k = i; k < n && is_first; k++) {
            double share;
            if (t->cell[t->set[k]]->steps != steps) continue;
            if (!kept(t, t->set[k], other[t->set[k]], &share, NULL, NULL, e)) return false;
            take(&t->s[0], share);
        }
        if (is_first)
            t->out->crossing[t->out->crossings++] = (crossing_row){prompt, steps,
                                                                   estimated(&t->s[0])};
    }
    return true;
}

/* ---- deep cache ------------------------------------------------------------------------------ */

/* The same picture without a deep cache; -1: there is none. */
static int without_cache(const tables *t, int i)
{
    for (int k = 0; k < t->all.cells; k++)
        if (!t->cell[k]->deep_cache && t->all.picture[k].alone == t->all.picture[i].alone &&
            cells_alike(t->cell[i], t->cell[k], ANY_DEEP))
            return k;
    return -1;
}

/* Of the pictures [n] those with the row's deep cache. subject -1: no shares. */
static bool fill_cache(tables *t, const deep_row *of, const int *set, int n, error *e)
{
    deep_row row = *of;
    start(t);
    for (int i = 0; i < n; i++) {
        int whole = without_cache(t, set[i]);
        double pixels, drift;
        if (t->cell[set[i]]->deep_cache != of->deep_cache) continue;
        if (!relative_distance(t, set[i], whole, whole, &drift, &pixels, e)) return false;
        take(&t->s[0], pixels);
        take(&t->s[1], drift);
        if (of->subject < 0) continue;
        take(&t->s[2], share_of(t, whole, of->subject));
        take(&t->s[3], share_of(t, set[i], of->subject));
        take(&t->s[4], share_of(t, set[i], of->subject) - share_of(t, whole, of->subject));
    }
    row.pixels = estimated(&t->s[0]);
    row.drift = estimated(&t->s[1]);
    row.whole = estimated(&t->s[2]);
    row.reused = estimated(&t->s[3]);
    row.share = estimated(&t->s[4]);
    t->out->deep[t->out->deeps++] = row;
    return true;
}

static bool fill_caches(tables *t, int subject, int which, const char *prompt, error *e)
{
    int n = 0;
    for (int i = 0; i < t->all.cells; i++)
        if (is_of(t, i, prompt) && t->cell[i]->deep_cache && t->all.picture[i].alone == which &&
            without_cache(t, i) >= 0)
            t->set[n++] = i;
    n = measured_usual(&t->all, t->set, n, ANY_SEED | ANY_DEEP);
    for (int i = 0; i < n; i++) {
        int every = t->cell[t->set[i]]->deep_cache;
        bool is_first = true;
        for (int k = 0; k < i && is_first; k++) is_first = t->cell[t->set[k]]->deep_cache != every;
        deep_row row = {.subject = subject, .model = which, .prompt = prompt, .deep_cache = every};
        if (is_first && !fill_cache(t, &row, t->set, n, e)) return false;
    }
    return true;
}

static bool has_model(const measured_subject *j, int which)
{
    bool has = which == j->base;
    for (int k = 0; k < j->models && !has; k++) has = which == j->model[k];
    return has;
}

/* A model's rows for each subject that it has a part in; else one. */
static bool fill_deep(tables *t, int which, error *e)
{
    bool ok = true, any = false;
    for (int j = 0; j < t->all.subjects; j++) {
        if (!has_model(&t->all.subject[j], which)) continue;
        any = true;
        for (int k = 0; ok && k < t->prompts; k++) ok = fill_caches(t, j, which, t->prompt[k], e);
    }
    for (int k = 0; ok && !any && k < t->prompts; k++)
        ok = fill_caches(t, -1, which, t->prompt[k], e);
    return ok;
}

/* ---- diversity ------------------------------------------------------------------------------- */

/* For each picture [n] its mean distance to the others. */
static bool spread(tables *t, const int *set, int n, sample *to, error *e)
{
    for (int i = 0; i < n; i++) {
        double sum = 0, one = 0;
        for (int k = 0; k < n; k++) {
            if (k != i && !compare(t, set[i], set[k], image_distance, &one, e)) return false;
            if (k != i) sum += one;
        }
        take(to, n > 1 ? sum / (n - 1) : NAN);
    }
    return true;
}

static bool fill_diversity(tables *t, const char *prompt, error *e)
{
    const study_plan *p = t->source->plan;
    int n = 0, *own = t->set + t->all.cells, *base = own + t->all.cells;
    for (int i = 0; i < t->all.cells; i++)
        if (is_of(t, i, prompt) && t->all.picture[i].alone >= 0) t->set[n++] = i;
    n = measured_usual(&t->all, t->set, n, ANY_SEED | ANY_MIX);
    for (int which = 0; which < p->models; which++) {
        int count = 0, both = 0;
        start(t);
        for (int i = 0; i < n; i++)
            if (t->all.picture[t->set[i]].alone == which) own[count++] = t->set[i];
        if (!spread(t, own, count, &t->s[0], e)) return false;
        for (int i = 0; i < count && !p->model[which].path; i++) {
            base[both] = partner(t, own[i], p->model[which].base, ANY_MIX);
            both += base[both] >= 0;
        }
        if (both && both == count && !spread(t, base, both, &t->s[1], e)) return false;
        for (int i = 0; i < t->s[0].n && t->s[1].n; i++) t->s[2].value[i] = 100 * t->s[0].value[i];
        if (t->s[0].n)
            t->out->diversity[t->out->diversities++] = (diversity_row){
                which, prompt, estimate_of_pairs(t->s[0].value, NULL, t->s[0].n),
                estimate_of_pairs(t->s[2].value, t->s[1].value, t->s[1].n)};
    }
    return true;
}

/* ---- made twice ------------------------------------------------------------------------------ */

static int on_step(void *user, const lk_progress *progress)
{
    (void)progress;
    return is_stopped(user);
}

/* Of DDIM's pictures by one model, without noise of their own, the first of those with fewest
 * steps. */
static int deterministic(const tables *t)
{
    int best = -1;
    for (int i = 0; i < t->all.cells; i++) {
        const study_cell *c = t->cell[i];
        if (c->sampler == LK_DDIM && c->eta == 0 && t->all.picture[i].alone >= 0 &&
            (best < 0 || c->steps < t->cell[best]->steps))
            best = i;
    }
    return best;
}

static bool make_again(tables *t, error *e)
{
    const measure_source *s = t->source;
    int i = deterministic(t);
    if (!s->again || i < 0) return true;
    lk_error why = {0};
    lk_image *made = NULL;
    lk_generate_options o = cell_options(t->cell[i]);
    o.progress = on_step;
    o.user = (void *)(uintptr_t)s;
    if (!lk_generate(&made, s->session, s->models[t->all.picture[i].alone], &o, &why))
        return engine_failed(&why, e);
    const image *before = gallery_image(t->pictures, i, e);
    if (before) {
        int width = lk_image_width(made), height = lk_image_height(made);
        t->out->repeated = true;
        t->out->same_again = before->width == width && before->height == height &&
                             memcmp(before->pixels, lk_image_pixels(made),
                                    3 * (size_t)width * (size_t)height) == 0;
    }
    lk_image_close(&made);
    return before;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void fill_cells(tables *t)
{
    const study_plan *p = t->source->plan;
    double *to = t->out->cell_share;
    for (int i = 0; i < p->sections; i++)
        for (int k = 0; k < p->section[i].rows * p->section[i].columns; k++)
            for (int j = 0; j < t->all.subjects; j++) {
                int at = measured_find(&t->all, p->section[i].cell[k].name);
                *to++ = at < 0 ? NAN : share_of(t, at, j);
            }
}

/* On a share's scale. */
static estimate shared(const measured_subject *j, estimate raw)
{
    double zero = j->raw_class.mean, whole = j->raw_subject.mean - zero;
    if (!j->tells_apart) return (estimate){NAN, NAN, NAN, 0};
    return (estimate){100 * (raw.mean - zero) / whole, 100 * (raw.low - zero) / whole,
                      100 * (raw.high - zero) / whole, raw.n};
}

/* The subjects' own rows; their lists of models now belong to the tables. */
static void list_subjects(tables *t)
{
    for (int k = 0; k < t->all.subjects; k++) {
        measured_subject *j = &t->all.subject[k];
        t->out->subject[t->out->subjects++] = (subject_row){.base = j->base,
                                                            .model = j->model,
                                                            .models = j->models,
                                                            .instance_prompt = j->instance_prompt,
                                                            .class_prompt = j->class_prompt,
                                                            .photos = j->photos,
                                                            .class_images = j->class_count,
                                                            .raw_subject = j->raw_subject,
                                                            .raw_class = j->raw_class,
                                                            .subject = shared(j, j->raw_subject),
                                                            .of_class = shared(j, j->raw_class),
                                                            .tells_apart = j->tells_apart};
        j->model = NULL;
    }
}

static bool fill(tables *t, error *e)
{
    bool ok = true;
    for (int j = 0; ok && j < t->all.subjects; j++) ok = fill_subject(t, j, e);
    for (int k = 0; ok && k < t->prompts; k++) {
        for (lk_sampler s = 0; ok && s < lk_sampler_count(); s++)
            ok = fill_structure(t, s, t->prompt[k], e);
        ok = ok && fill_crossing(t, t->prompt[k], e) && fill_diversity(t, t->prompt[k], e);
    }
    for (int which = 0; ok && which < t->source->plan->models; which++) ok = fill_deep(t, which, e);
    ok = ok && field_measure(t->out, &t->all, t->source, e) && make_again(t, e);
    if (ok) fill_cells(t);
    if (ok) list_subjects(t);
    return ok;
}

static void list_prompts(tables *t)
{
    for (int i = 0; i < t->all.cells; i++) {
        bool known = false;
        for (int k = 0; k < t->prompts && !known; k++) known = is_of(t, i, t->prompt[k]);
        if (!known) t->prompt[t->prompts++] = t->cell[i]->prompt;
    }
}

static bool make_lists(tables *t, error *e)
{
    size_t cells = (size_t)t->all.cells + 1;
    t->cell = malloc(cells * sizeof *t->cell);
    t->prompt = malloc(cells * sizeof *t->prompt);
    t->set = malloc(3 * cells * sizeof *t->set);
    bool ok = t->cell && t->prompt && t->set;
    for (int i = 0; i < SAMPLES; i++) {
        t->s[i].value = malloc(cells * sizeof *t->s[i].value);
        ok = ok && t->s[i].value;
    }
    if (!ok) return error_memory(e, "a study's tables", 8 * cells * sizeof(double));
    for (int i = 0; i < t->all.cells; i++) t->cell[i] = t->all.picture[i].cell;
    list_prompts(t);
    return gallery_open(&t->pictures, t->source->folder, t->cell, t->all.cells, e);
}

/* Room for as many rows as there can be. */
static bool make_room(tables *t, error *e)
{
    study_measures *m = t->out;
    const study_plan *p = t->source->plan;
    size_t models = (size_t)p->models + 1, prompts = (size_t)t->prompts + 1;
    size_t cells = (size_t)t->all.cells + 1, subjects = (size_t)t->all.subjects + 1;
    for (int i = 0; i < p->sections; i++) m->cells += p->section[i].rows * p->section[i].columns;
    m->subject = calloc(subjects, sizeof *m->subject);
    m->likeness = calloc(2 * models * prompts,
                         sizeof *m->likeness); /* each subject's base besides */
    m->change = calloc(models * prompts, sizeof *m->change);
    m->contrast = calloc(models * models * prompts, sizeof *m->contrast);
    m->wording = calloc(2 * models * prompts, sizeof *m->wording);
    /* a switch gives at most itself and two ends, for one subject */
    m->switches = calloc(3 * cells, sizeof *m->switches);
    m->structure = calloc(cells, sizeof *m->structure);
    m->crossing = calloc(cells, sizeof *m->crossing);
    m->deep = calloc(cells * subjects, sizeof *m->deep); /* a picture gives at most one of each */
    m->diversity = calloc(models * prompts, sizeof *m->diversity);
    m->cell_share = malloc(((size_t)m->cells + 1) * subjects * sizeof *m->cell_share);
    return (m->subject && m->likeness && m->change && m->contrast && m->wording && m->switches &&
            m->structure && m->crossing && m->deep && m->diversity && m->cell_share) ||
           error_memory(e, "a study's tables", models * models * prompts * sizeof *m->contrast);
}

bool study_measure(study_measures *out, const measure_source *s, error *e)
{
    tables t = {.source = s, .out = out};
    *out = (study_measures){0};
    bool ok = measured_open(&t.all, s, e) && make_lists(&t, e) && make_room(&t, e) && fill(&t, e);
    for (int i = 0; i < SAMPLES; i++) free(t.s[i].value);
    free(t.cell), free(t.prompt), free(t.set);
    gallery_close(&t.pictures);
    measured_close(&t.all);
    if (!ok) study_measures_close(out);
    return ok;
}

void study_measures_close(study_measures *m)
{
    for (int i = 0; i < m->subjects; i++) free((int *)(uintptr_t)m->subject[i].model);
    free(m->subject), free(m->likeness), free(m->change), free(m->contrast), free(m->wording);
    free(m->switches), free(m->structure), free(m->crossing), free(m->deep);
    free(m->diversity);
    free(m->field), free(m->cell_share);
    *m = (study_measures){0};
}
