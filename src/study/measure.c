/* SPDX-License-Identifier: Apache-2.0
 *
 * measure: the tables. Where a prompt was drawn with several settings, a row is of those that most of its
 * pictures share, so that no mean mixes settings. */
#include "study/measure.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study/measured.h"
#include "train/describe.h"

typedef struct tables {
    const measure_source *source;
    measured all;
    study_measures *out;
    const char **prompt; /* distinct, in the order of the plan */
    int prompts;
    int *set, *other;    /* [pictures] room for choosing */
} tables;

/* ---- numbers --------------------------------------------------------------------------------- */

typedef struct running { double mean, squares; int n; } running;

static void take(running *r, double v)
{
    double from = v - r->mean;
    r->mean += from / ++r->n;
    r->squares += from * (v - r->mean);
}

static estimate estimate_of(const running *r)
{
    estimate x = {.mean = r->mean, .n = r->n};
    if (r->n > 1) x.error = sqrt(r->squares / (r->n - 1) / r->n);
    return x;
}

static size_t numbers(const image *a) { return 3 * (size_t)a->width * (size_t)a->height; }

static double pixel_rms(const image *a, const image *b)
{
    double sum = 0;
    for (size_t i = 0; i < numbers(a); i++) {
        double d = (double)a->pixels[i] - (double)b->pixels[i];
        sum += d * d;
    }
    return sqrt(sum / (double)numbers(a));
}

/* Pearson's; pictures of one colour are as like as they are equal. */
static double correlation(const image *a, const image *b)
{
    double n = (double)numbers(a), x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < numbers(a); i++) {
        double p = a->pixels[i], q = b->pixels[i];
        x += p, y += q, xx += p * p, yy += q * q, xy += p * q;
    }
    double across = n * xy - x * y, spread = (n * xx - x * x) * (n * yy - y * y);
    return spread > 0 ? across / sqrt(spread) : pixel_rms(a, b) == 0;
}

/* Reads two cells and compares their pixels. */
static bool compare(const tables *t, int a, int b, double (*how)(const image *, const image *),
                    running *r, error *e)
{
    image x = {0}, y = {0};
    const study_cell *first = t->all.picture[a].cell, *second = t->all.picture[b].cell;
    bool ok = measured_read(&x, t->source, first, e) && measured_read(&y, t->source, second, e);
    if (ok && (x.width != y.width || x.height != y.height))
        ok = error_set(e, ERROR_FORMAT, "%s/cells: %s.png and %s.png differ in size; remove both and run "
                       "the study again", t->source->folder, first->name, second->name);
    if (ok) take(r, how(&x, &y));
    image_free(&x);
    image_free(&y);
    return ok;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* Of a set of pictures only those stay whose settings most have; the first such where there are several. */
static int keep_usual(const tables *t, int *set, int n, int any)
{
    int best = 0, most = 0, kept = 0;
    for (int i = 0; i < n; i++) {
        int alike = 0;
        for (int k = 0; k < n; k++)
            alike += cells_alike(t->all.picture[set[i]].cell, t->all.picture[set[k]].cell, any);
        if (alike > most) most = alike, best = set[i];
    }
    for (int i = 0; i < n; i++)
        if (cells_alike(t->all.picture[set[i]].cell, t->all.picture[best].cell, any))
            set[kept++] = set[i];
    return kept;
}

static bool is_of(const tables *t, int i, const char *prompt)
{
    return strcmp(t->all.picture[i].cell->prompt, prompt) == 0;
}

static const measured_pair *pair_of(const tables *t, int subject, int trained)
{
    for (int i = 0; i < t->all.pairs; i++)
        if (t->all.pair[i].subject == subject && t->all.pair[i].trained == trained)
            return &t->all.pair[i];
    return NULL;
}

/* The trained model's pictures of a prompt that have a partner of the base's. */
static int choose_pairs(const tables *t, int subject, const char *prompt)
{
    int n = 0;
    for (int i = 0; i < t->all.pairs; i++)
        if (t->all.pair[i].subject == subject && is_of(t, t->all.pair[i].trained, prompt))
            t->set[n++] = t->all.pair[i].trained;
    return keep_usual(t, t->set, n, ANY_SEED);
}

static estimate mean_likeness(const tables *t, const int *set, int n, int subject)
{
    running r = {0};
    for (int i = 0; i < n; i++) take(&r, t->all.picture[set[i]].likeness[subject]);
    return estimate_of(&r);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static bool fill_drift(tables *t, int subject, const char *prompt, error *e)
{
    running pixels = {0}, apart = {0}, leakage = {0};
    int n = choose_pairs(t, subject, prompt);
    for (int i = 0; i < n; i++) {
        const measured_pair *p = pair_of(t, subject, t->set[i]);
        if (!compare(t, p->base, p->trained, pixel_rms, &pixels, e)) return false;
        take(&apart, p->latents);
        take(&leakage, t->all.picture[p->trained].likeness[subject] -
                           t->all.picture[p->base].likeness[subject]);
    }
    if (n)
        t->out->drift[t->out->drifts++] =
            (drift_row){t->all.subject[subject].model, prompt, estimate_of(&pixels),
                        estimate_of(&apart), estimate_of(&leakage)};
    return true;
}

/* Base, then trained: of the pairs, or where there are none, of what there is. */
static void fill_likeness(tables *t, int subject, const char *prompt)
{
    const measured_subject *j = &t->all.subject[subject];
    const int of[2] = {j->base, j->model};
    int pairs = choose_pairs(t, subject, prompt), n = 0;
    for (int k = 0; !pairs && k < t->all.cells; k++) {
        int alone = cell_model(t->all.picture[k].cell);
        if ((alone == of[0] || alone == of[1]) && is_of(t, k, prompt)) t->set[n++] = k;
    }
    if (!pairs) n = keep_usual(t, t->set, n, ANY_SEED | ANY_MIX);
    for (int side = 0; side < 2; side++) {
        int count = 0;
        for (int i = 0; i < pairs; i++)
            t->other[count++] = side ? t->set[i] : pair_of(t, subject, t->set[i])->base;
        for (int i = 0; i < n; i++)
            if (cell_model(t->all.picture[t->set[i]].cell) == of[side])
                t->other[count++] = t->set[i];
        if (count)
            t->out->likeness[t->out->likenesses++] =
                (likeness_row){of[side], j->model, prompt, mean_likeness(t, t->other, count, subject)};
    }
}

/* Where a cell stands in a direction: steps of the first model, or -1; alone: a pure end. */
static int switch_at(const study_cell *c, int first, int second)
{
    int a, b, at, alone = cell_model(c);
    if (alone == first) return c->mix.count;
    if (alone == second) return 0;
    return mix_is_switch(&c->mix, &a, &b, &at) && a == first && b == second ? at : -1;
}

static void fill_switches(tables *t, int subject, int first, int second, const char *prompt)
{
    int switches = 0, n = 0;
    for (int i = 0; i < t->all.cells; i++) {
        const study_cell *c = t->all.picture[i].cell;
        if (is_of(t, i, prompt) && cell_model(c) < 0 && switch_at(c, first, second) >= 0)
            t->set[switches++] = i;
    }
    switches = keep_usual(t, t->set, switches, ANY_SEED | ANY_MIX);
    if (!switches) return;
    int steps = t->all.picture[t->set[0]].cell->mix.count;
    for (int at = 0; at <= steps; at++) {
        n = 0;
        for (int i = 0; i < t->all.cells; i++) {
            const study_cell *c = t->all.picture[i].cell;
            bool belongs = false; /* an end belongs where a switch has its seed */
            if (switch_at(c, first, second) != at) continue;
            for (int k = 0; k < switches && !belongs; k++)
                belongs = cells_alike(c, t->all.picture[t->set[k]].cell, ANY_MIX);
            if (belongs) t->other[n++] = i;
        }
        if (n)
            t->out->switches[t->out->switch_count++] =
                (switch_row){first, second, t->all.subject[subject].model, prompt, at, steps,
                             mean_likeness(t, t->other, n, subject)};
    }
}

/* The picture equal but for having the most steps. */
static int with_most_steps(const tables *t, int i)
{
    int best = i;
    const study_cell *c = t->all.picture[i].cell;
    for (int k = 0; k < t->all.cells; k++) {
        const study_cell *other = t->all.picture[k].cell;
        if (other->sampler.steps > t->all.picture[best].cell->sampler.steps &&
            cell_model(other) == cell_model(c) && cells_alike(c, other, ANY_STEPS))
            best = k;
    }
    return best;
}

static bool fill_structure(tables *t, sampler_kind kind, const char *prompt, error *e)
{
    int n = 0;
    for (int i = 0; i < t->all.cells; i++) {
        const study_cell *c = t->all.picture[i].cell;
        if (is_of(t, i, prompt) && c->sampler.kind == kind && cell_model(c) >= 0 &&
            with_most_steps(t, i) != i)
            t->set[n++] = i;
    }
    n = keep_usual(t, t->set, n, ANY_SEED | ANY_STEPS);
    for (int i = 0; i < n; i++) {
        running r = {0};
        int steps = t->all.picture[t->set[i]].cell->sampler.steps, most = 0;
        bool is_first = true;
        for (int k = 0; k < i; k++)
            is_first = is_first && t->all.picture[t->set[k]].cell->sampler.steps != steps;
        for (int k = i; is_first && k < n; k++) {
            int whole = with_most_steps(t, t->set[k]);
            if (t->all.picture[t->set[k]].cell->sampler.steps != steps) continue;
            most = t->all.picture[whole].cell->sampler.steps;
            if (!compare(t, t->set[k], whole, correlation, &r, e)) return false;
        }
        if (is_first)
            t->out->structure[t->out->structures++] =
                (structure_row){kind, prompt, steps, most, estimate_of(&r)};
    }
    return true;
}

static bool fill_diversity(tables *t, const char *prompt, error *e)
{
    int n = 0;
    for (int i = 0; i < t->all.cells; i++)
        if (is_of(t, i, prompt) && cell_model(t->all.picture[i].cell) >= 0) t->set[n++] = i;
    n = keep_usual(t, t->set, n, ANY_SEED | ANY_MIX);
    for (int which = 0; which < t->source->plan->models; which++) {
        running r = {0};
        for (int i = 0; i < n; i++)
            for (int k = i + 1; k < n; k++)
                if (cell_model(t->all.picture[t->set[i]].cell) == which &&
                    cell_model(t->all.picture[t->set[k]].cell) == which &&
                    !compare(t, t->set[i], t->set[k], pixel_rms, &r, e))
                    return false;
        if (r.n)
            t->out->diversity[t->out->diversities++] =
                (diversity_row){which, prompt, estimate_of(&r)};
    }
    return true;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void fill_cells(tables *t)
{
    const study_plan *p = t->source->plan;
    double *to = t->out->cell_likeness;
    for (int i = 0; i < p->sections; i++)
        for (int k = 0; k < p->section[i].rows * p->section[i].columns; k++, to += p->models) {
            int at = measured_find(&t->all, p->section[i].cell[k].name);
            for (int j = 0; j < p->models; j++) to[j] = NAN;
            for (int j = 0; at >= 0 && j < t->all.subjects; j++)
                to[t->all.subject[j].model] = t->all.picture[at].likeness[j];
        }
}

static bool fill(tables *t, error *e)
{
    for (int j = 0; j < t->all.subjects; j++) {
        const measured_subject *s = &t->all.subject[j];
        for (int k = 0; k < t->prompts; k++) {
            if (!fill_drift(t, j, t->prompt[k], e)) return false;
            fill_likeness(t, j, t->prompt[k]);
        }
        for (int k = 0; k < t->prompts; k++) fill_switches(t, j, s->base, s->model, t->prompt[k]);
        for (int k = 0; k < t->prompts; k++) fill_switches(t, j, s->model, s->base, t->prompt[k]);
        t->out->calibration[t->out->calibrations++] =
            (calibration_row){s->model, mean_likeness(t, s->photo, s->photos, j),
                              mean_likeness(t, s->of_class, s->class_count, j)};
    }
    for (int k = 0; k < t->prompts; k++)
        if (!fill_structure(t, SAMPLER_DDIM, t->prompt[k], e) ||
            !fill_structure(t, SAMPLER_DDPM, t->prompt[k], e) || !fill_diversity(t, t->prompt[k], e))
            return false;
    fill_cells(t);
    return true;
}

/* Room for as many rows as there can be. */
static bool make_room(tables *t, error *e)
{
    study_measures *m = t->out;
    const study_plan *p = t->source->plan;
    size_t models = (size_t)p->models + 1, pictures = (size_t)t->all.pictures + 1;
    for (int i = 0; i < p->sections; i++) m->cells += p->section[i].rows * p->section[i].columns;
    t->prompt = malloc(pictures * sizeof *t->prompt);
    t->set = malloc(pictures * sizeof *t->set);
    t->other = malloc(pictures * sizeof *t->other);
    m->drift = calloc(models * pictures, sizeof *m->drift);
    m->likeness = calloc(2 * models * pictures, sizeof *m->likeness);
    /* a switch gives at most itself and two ends, for one subject */
    m->switches = calloc(3 * pictures, sizeof *m->switches);
    m->structure = calloc(pictures, sizeof *m->structure);
    m->diversity = calloc(models * pictures, sizeof *m->diversity);
    m->calibration = calloc(models, sizeof *m->calibration);
    m->cell_likeness = malloc(((size_t)m->cells + 1) * models * sizeof *m->cell_likeness);
    return (t->prompt && t->set && t->other && m->drift && m->likeness && m->switches &&
            m->structure && m->diversity && m->calibration && m->cell_likeness) ||
           error_memory(e, "a study's tables", models * pictures * sizeof *m->drift);
}

static void list_prompts(tables *t)
{
    for (int i = 0; i < t->all.cells; i++) {
        bool known = false;
        for (int k = 0; k < t->prompts && !known; k++) known = is_of(t, i, t->prompt[k]);
        if (!known) t->prompt[t->prompts++] = t->all.picture[i].cell->prompt;
    }
}

bool study_measure(study_measures *out, const measure_source *s, error *e)
{
    tables t = {.source = s, .out = out};
    *out = (study_measures){0};
    bool ok = measured_open(&t.all, s, e) && make_room(&t, e);
    if (ok) list_prompts(&t);
    ok = ok && fill(&t, e);
    free(t.prompt), free(t.set), free(t.other);
    measured_close(&t.all);
    if (!ok) study_measures_close(out);
    return ok;
}

void study_measures_close(study_measures *m)
{
    free(m->drift), free(m->likeness), free(m->switches), free(m->structure);
    free(m->diversity), free(m->calibration), free(m->cell_likeness);
    *m = (study_measures){0};
}

/* ---- measures.json --------------------------------------------------------------------------- */

static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *estimate_json(estimate x)
{
    return json_pack("{s:o, s:o, s:i}", "mean", number(x.mean), "error", number(x.error), "n", x.n);
}

static json_t *drift_json(const study_measures *m, const study_plan *p, int i)
{
    const drift_row *r = &m->drift[i];
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "model", p->model[r->model].name, "prompt",
                     r->prompt, "pixels", estimate_json(r->pixels), "latents",
                     estimate_json(r->latents), "leakage", estimate_json(r->leakage));
}

static json_t *likeness_json(const study_measures *m, const study_plan *p, int i)
{
    const likeness_row *r = &m->likeness[i];
    return json_pack("{s:s, s:s, s:s, s:o}", "model", p->model[r->model].name, "subject",
                     p->model[r->subject].name, "prompt", r->prompt, "likeness",
                     estimate_json(r->likeness));
}

static json_t *switch_json(const study_measures *m, const study_plan *p, int i)
{
    const switch_row *r = &m->switches[i];
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:o}", "first", p->model[r->first].name,
                     "second", p->model[r->second].name, "subject", p->model[r->subject].name,
                     "prompt", r->prompt, "at", r->at, "steps", r->steps, "likeness",
                     estimate_json(r->likeness));
}

static json_t *structure_json(const study_measures *m, const study_plan *p, int i)
{
    const structure_row *r = &m->structure[i];
    (void)p;
    return json_pack("{s:s, s:s, s:i, s:i, s:o}", "sampler", sampler_kind_name(r->sampler), "prompt",
                     r->prompt, "steps", r->steps, "most", r->most, "correlation",
                     estimate_json(r->correlation));
}

static json_t *diversity_json(const study_measures *m, const study_plan *p, int i)
{
    const diversity_row *r = &m->diversity[i];
    return json_pack("{s:s, s:s, s:o}", "model", p->model[r->model].name, "prompt", r->prompt,
                     "pixels", estimate_json(r->pixels));
}

static json_t *calibration_json(const study_measures *m, const study_plan *p, int i)
{
    const calibration_row *r = &m->calibration[i];
    return json_pack("{s:s, s:o, s:o}", "model", p->model[r->model].name, "subject",
                     estimate_json(r->subject), "class_pictures", estimate_json(r->class_pictures));
}

static bool put_rows(json_t *j, const char *name, int count, const study_measures *m,
                     const study_plan *p, json_t *(*row)(const study_measures *, const study_plan *, int))
{
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, row(m, p, i))) {
            json_decref(list);
            return false;
        }
    return list && !json_object_set_new(j, name, list);
}

bool study_measures_write(const study_measures *m, const study_plan *p, const char *folder, error *e)
{
    json_t *j = json_object();
    bool ok = (j && put_rows(j, "drift", m->drifts, m, p, drift_json) &&
               put_rows(j, "likeness", m->likenesses, m, p, likeness_json) &&
               put_rows(j, "switches", m->switch_count, m, p, switch_json) &&
               put_rows(j, "structure", m->structures, m, p, structure_json) &&
               put_rows(j, "diversity", m->diversities, m, p, diversity_json) &&
               put_rows(j, "calibration", m->calibrations, m, p, calibration_json)) ||
              error_memory(e, "measures.json", 4096);
    ok = ok && describe_write(j, folder, "measures.json", e);
    json_decref(j);
    return ok;
}
