/* SPDX-License-Identifier: Apache-2.0
 *
 * figures: the measures of a study, and the losses of its trainings, as charts. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/json.h"
#include "chart.h"
#include "html.h"
#include "parts.h"

static const char *name_of(const page *p, int who) { return p->s->plan->model[who].name; }

static chart_point point_of(double x, const estimate *e)
{
    return (chart_point){x, e->mean, e->low, e->high};
}

/* ---- losses -------------------------------------------------------------------------------- */

enum { SMOOTH = 25, LINES_LIMIT = 1 << 28 };

typedef struct loss_curve {
    chart_point *raw, *smooth;
    int count;
} loss_curve;

/* The mean of the last SMOOTH losses, or of as many as there are. */
static void curve_smooth(loss_curve *c)
{
    double sum = 0;
    for (int i = 0; i < c->count; i++) {
        sum += c->raw[i].y;
        if (i >= SMOOTH) sum -= c->raw[i - SMOOTH].y;
        c->smooth[i] = (chart_point){c->raw[i].x, sum / (i < SMOOTH ? i + 1 : SMOOTH), NAN, NAN};
    }
}

/* Reads "step" and `key` of every line of a train.jsonl. */
static void curve_read(page *p, loss_curve *c, const char *text, const char *key)
{
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) lines++;
    *c = (loss_curve){0};
    chart_point *raw = page_alloc(p, (size_t)lines * sizeof *raw);
    chart_point *smooth = page_alloc(p, (size_t)lines * sizeof *smooth);
    if (!raw || !smooth) return;
    *c = (loss_curve){raw, smooth, 0};
    for (const char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
        json_t *line = json_parse(at, (size_t)(end - at), 0, NULL);
        const json_t *step = json_object_get(line, "step"), *value = json_object_get(line, key);
        if (json_is_integer(step) && json_is_number(value))
            raw[c->count++] = (chart_point){(double)json_integer_value(step),
                                            json_number_value(value), NAN, NAN};
        json_decref(line);
    }
    curve_smooth(c);
}

static void loss_chart(page *p, int index, const char *text)
{
    static const char *const key[2] = {"instance_loss", "prior_loss"};
    static const char *const what[2] = {"loss on the subject\xe2\x80\x99s pictures",
                                        "loss on class pictures"};
    const char *name = name_of(p, index);
    chart_series series[4];
    int count = 0;
    for (int i = 0; i < 2; i++) {
        loss_curve c;
        curve_read(p, &c, text, key[i]);
        if (!c.count) continue;
        series[count++] = (chart_series){what[i], c.raw, c.count, i, true, true};
        series[count++] = (chart_series){what[i], c.smooth, c.count, i, false, true};
    }
    const char *title = arena_format(&p->memory, "Losses of %s", name);
    const char *id = arena_format(&p->memory, "chart-loss-%d", index);
    if (!title || !id) p->no_memory = true;
    if (!count || !title || !id) return;
    chart c = {
        .id = id,
        .title = title,
        .about =
            "The mean of the last 25 steps; each step is drawn faintly behind. A step draws its "
            "own timesteps, so single losses vary much.",
        .x_name = "step",
        .y_name = "loss",
        .from_zero = true,
        .series = series,
        .count = count};
    chart_write(p->out, &c);
}

void figures_losses(page *p)
{
    const study_plan *plan = p->s->plan;
    for (int i = 0; i < plan->models; i++) {
        if (!is_trained(&plan->model[i])) continue;
        char *path = string_format("%s/models/%s/train.jsonl", p->s->folder, plan->model[i].name);
        char *text = NULL;
        if (!path) p->no_memory = true;
        if (path && path_is_file(path) && file_read(path, LINES_LIMIT, &text, NULL, NULL))
            loss_chart(p, i, text);
        free(path);
        free(text);
    }
}

/* ---- rows of dots: prompts down, a few series across ---------------------------------------- */

typedef struct dots {
    const char **prompt;
    int prompts;
    chart_series *series; /* [count] */
    chart_point **point;  /* [count] the same points, writable */
    int count;
} dots;

/* rows: at most so many points of a series. */
static bool dots_new(page *p, dots *d, int rows, int series)
{
    *d = (dots){page_alloc(p, (size_t)rows * sizeof *d->prompt), 0,
                page_alloc(p, (size_t)series * sizeof *d->series),
                page_alloc(p, (size_t)series * sizeof *d->point), series};
    if (p->no_memory) return false;
    for (int i = 0; i < series; i++) {
        d->point[i] = page_alloc(p, (size_t)rows * sizeof **d->point);
        d->series[i] = (chart_series){.point = d->point[i], .style = i};
    }
    return !p->no_memory;
}

static void dots_add(dots *d, int series, const char *name, const char *prompt, const estimate *e)
{
    if (!e->n) return;
    int k = 0;
    while (k < d->prompts && strcmp(d->prompt[k], prompt)) k++;
    if (k == d->prompts) d->prompt[d->prompts++] = prompt;
    chart_series *s = &d->series[series];
    s->name = name;
    d->point[series][s->count++] = point_of(k, e);
}

/* Where a section's grid has a prompt first; behind all where it has not. */
static int place_in(const study_section *s, const char *prompt)
{
    int k = 0;
    while (k < section_cells(s) && strcmp(s->cell[k].prompt, prompt) != 0) k++;
    return k;
}

/* Brings the prompts into the order of a section's grid. */
static void dots_sort(page *p, dots *d, const study_section *s)
{
    const char **sorted = page_alloc(p, (size_t)d->prompts * sizeof *sorted);
    int *rank = page_alloc(p, (size_t)d->prompts * sizeof *rank);
    if (p->no_memory) return;
    for (int k = 0; k < d->prompts; k++)
        for (int i = 0; i < d->prompts; i++) {
            int a = place_in(s, d->prompt[i]), b = place_in(s, d->prompt[k]);
            rank[k] += a < b || (a == b && i < k);
        }
    for (int k = 0; k < d->prompts; k++) sorted[rank[k]] = d->prompt[k];
    for (int i = 0; i < d->count; i++)
        for (int k = 0; k < d->series[i].count; k++) d->point[i][k].x = rank[(int)d->point[i][k].x];
    d->prompt = sorted;
}

static void dots_write(page *p, dots *d, const study_section *s, const chart *about)
{
    chart c = *about;
    int count = 0;
    dots_sort(p, d, s);
    for (int i = 0; i < d->count; i++) /* those without points go */
        if (d->series[i].count) d->series[count++] = d->series[i];
    if (!count || p->no_memory) return;
    for (int k = 0; k < d->prompts; k++)
        if (!*d->prompt[k]) d->prompt[k] = "(empty prompt)";
    c.category = d->prompt;
    c.categories = d->prompts;
    c.series = d->series;
    c.count = count;
    chart_write(p->out, &c);
}

static const char *page_text(page *p, const char *text)
{
    if (!text) p->no_memory = true;
    return text;
}

static const char per_cent[] = "%";

/* The class's pictures and the subject's own, as levels; their number. */
static int levels_of(const page *p, int subject, chart_level level[2])
{
    const subject_row *s = &p->s->measures->subject[subject];
    if (!s->tells_apart) return 0;
    level[0] = (chart_level){"the subject\xe2\x80\x99s own pictures", s->subject.mean,
                             s->subject.low, s->subject.high};
    level[1] = (chart_level){"the class\xe2\x80\x99s pictures", s->of_class.mean, s->of_class.low,
                             s->of_class.high};
    return 2;
}

static void share_chart(page *p, const study_section *s, int subject)
{
    const study_measures *m = p->s->measures;
    dots d;
    chart_level level[2];
    if (!dots_new(p, &d, m->likenesses, p->s->plan->models)) return;
    for (int i = 0; i < m->likenesses; i++) {
        const likeness_row *r = &m->likeness[i];
        if (r->subject == subject)
            dots_add(&d, r->model, name_of(p, r->model), r->prompt, &r->share);
    }
    const char *id = page_text(p, arena_format(&p->memory, "chart-share-%d", subject));
    const char *title = page_text(
        p, arena_format(&p->memory, "How much of \xe2\x80\x9c%s\xe2\x80\x9d is in the pictures",
                        m->subject[subject].instance_prompt));
    if (!id || !title) return;
    chart about = {.id = id,
                   .title = title,
                   .about = "On the way from the class (0 %) to the subject (100 %): mean over "
                            "seeds and interval at "
                            "95 %. The bands are the pictures that make the scale.",
                   .y_name = per_cent,
                   .level = level,
                   .levels = levels_of(p, subject, level)};
    dots_write(p, &d, s, &about);
}

static void drift_chart(page *p, const study_section *s)
{
    static const chart about = {.id = "chart-drift",
                                .title = "How far pictures move from the base model\xe2\x80\x99s",
                                .about = "From equal noise, in % of what two seeds of the base "
                                         "model differ under the same prompt: 0 is the "
                                         "same picture, 100 another one.",
                                .y_name = per_cent,
                                .from_zero = true};
    const study_measures *m = p->s->measures;
    dots d;
    if (!dots_new(p, &d, m->changes, p->s->plan->models)) return;
    for (int i = 0; i < m->changes; i++) {
        const change_row *r = &m->change[i];
        dots_add(&d, r->model, name_of(p, r->model), r->prompt, &r->drift);
    }
    dots_write(p, &d, s, &about);
}

static void diversity_chart(page *p, const study_section *s)
{
    static const chart about = {.id = "chart-diversity",
                                .title = "How much pictures differ from seed to seed",
                                .about = "In % of what those of the base model do under the same "
                                         "prompt: 100 is as diverse, 0 always the "
                                         "same picture.",
                                .y_name = per_cent,
                                .from_zero = true};
    const study_measures *m = p->s->measures;
    dots d;
    if (!dots_new(p, &d, m->diversities, p->s->plan->models)) return;
    for (int i = 0; i < m->diversities; i++) {
        const diversity_row *r = &m->diversity[i];
        dots_add(&d, r->model, name_of(p, r->model), r->prompt, &r->of_base);
    }
    dots_write(p, &d, s, &about);
}

/* ---- samplers ------------------------------------------------------------------------------- */

static int by_x(const void *a, const void *b)
{
    double x = ((const chart_point *)a)->x, y = ((const chart_point *)b)->x;
    return (x > y) - (x < y);
}

/* Of one prompt: a line for each sampler, of what is kept or of detail. */
static void structure_chart(page *p, int serial, const char *prompt, bool detail)
{
    const study_measures *m = p->s->measures;
    chart_series *series = page_alloc(p, (size_t)lk_sampler_count() * sizeof *series);
    int count = 0, most = 0;
    for (lk_sampler kind = 0; series && kind < lk_sampler_count(); kind++) {
        chart_point *point = page_alloc(p, ((size_t)m->structures + 1) * sizeof *point);
        if (!point) return;
        int points = 0;
        for (int i = 0; i < m->structures; i++) {
            const structure_row *r = &m->structure[i];
            const estimate *e = detail ? &r->detail : &r->kept;
            if (r->sampler != kind || strcmp(r->prompt, prompt) || !e->n) continue;
            if (r->steps >= r->most) continue;
            point[points++] = point_of(r->steps, e);
            most = r->most;
        }
        if (points) point[points++] = (chart_point){most, 100, NAN, NAN}; /* itself */
        qsort(point, (size_t)points, sizeof *point, by_x);
        if (points)
            series[count++] = (chart_series){
                .name = lk_sampler_label(kind), .point = point, .count = points, .style = kind};
    }
    const char *what = detail ? "Fine detail" : "Structure kept";
    const char *title = *prompt ? arena_format(&p->memory, "%s: \xe2\x80\x9c%s\xe2\x80\x9d", what,
                                               prompt)
                                : what;
    const char *id = arena_format(&p->memory, "chart-%s-%d", detail ? "detail" : "structure",
                                  serial);
    const char *about =
        detail
            ? arena_format(&p->memory, "In %% of that of the same sampler at %d steps.", most)
            : arena_format(&p->memory,
                           "Of the same sampler\xe2\x80\x99s picture of %d steps from "
                           "the same noise: 100 %% is the same picture, 0 %% no more like it than "
                           "another seed\xe2\x80\x99s.",
                           most);
    if (!page_text(p, title) || !page_text(p, id) || !page_text(p, about) || !count) return;
    chart c = {.id = id,
               .title = title,
               .about = about,
               .x_name = "steps",
               .y_name = per_cent,
               .log_x = true,
               .from_zero = true,
               .series = series,
               .count = count};
    chart_write(p->out, &c);
}

static void structure_charts(page *p)
{
    const study_measures *m = p->s->measures;
    int serial = 0;
    for (int i = 0; i < m->structures; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++) seen |= !strcmp(m->structure[k].prompt, m->structure[i].prompt);
        if (seen) continue;
        structure_chart(p, serial, m->structure[i].prompt, false);
        structure_chart(p, serial++, m->structure[i].prompt, true);
    }
}

/* ---- switches ------------------------------------------------------------------------------- */

/* Whether a section has the switch of a row: the same direction and point, under its prompt. */
static bool has_switch(const study_section *s, const switch_row *r)
{
    for (int k = 0; k < section_cells(s); k++) {
        const study_cell *c = &s->cell[k];
        int first, second, at;
        if (strcmp(c->prompt, r->prompt) != 0 || cell_steps(c) != r->steps) continue;
        if (lk_schedule_switch(c->mix, &first, &second, &at) && first == r->first &&
            second == r->second && at == r->at)
            return true;
    }
    return false;
}

/* The direction of a row has a switch in the section: then the ends, each model alone, belong there
 * too. */
static bool has_direction(const page *p, const study_section *s, const switch_row *r)
{
    const study_measures *m = p->s->measures;
    for (int i = 0; i < m->switch_count; i++) {
        const switch_row *o = &m->switches[i];
        if (o->first == r->first && o->second == r->second && o->subject == r->subject &&
            o->steps == r->steps && !strcmp(o->prompt, r->prompt) && has_switch(s, o))
            return true;
    }
    return false;
}

static bool belongs(const page *p, const study_section *s, const switch_row *r)
{
    return r->at == 0 || r->at == r->steps ? has_direction(p, s, r) : has_switch(s, r);
}

/* One prompt's whole sweep: what there is of the subject, and of the first model's picture. */
static void sweep_chart(page *p, const study_section *s, const switch_row *of)
{
    const study_measures *m = p->s->measures;
    chart_point *point[2];
    int count[2] = {0};
    for (int k = 0; k < 2; k++) point[k] = page_alloc(p, (size_t)m->switch_count * sizeof **point);
    if (p->no_memory) return;
    for (int i = 0; i < m->switch_count; i++) {
        const switch_row *r = &m->switches[i];
        if (r->subject != of->subject || r->first != of->first || r->second != of->second ||
            strcmp(r->prompt, of->prompt) != 0 || !belongs(p, s, r))
            continue;
        if (r->share.n) point[0][count[0]++] = point_of(r->at, &r->share);
        if (r->kept.n) point[1][count[1]++] = point_of(r->at, &r->kept);
    }
    for (int k = 0; k < 2; k++) qsort(point[k], (size_t)count[k], sizeof **point, by_x);
    const char *kept = page_text(p, arena_format(&p->memory,
                                                 "structure kept of %s\xe2\x80\x99s own picture",
                                                 name_of(p, of->first)));
    const char *title = page_text(
        p, arena_format(&p->memory, "%s first, then %s: \xe2\x80\x9c%s\xe2\x80\x9d",
                        name_of(p, of->first), name_of(p, of->second), of->prompt));
    const char *id = page_text(
        p, arena_format(&p->memory, "chart-sweep-%s-%d", s->id, (int)(of - m->switches)));
    if (!kept || !title || !id) return;
    chart_series series[2] = {
        {"on the way from class to subject", point[0], count[0], 0, false, false},
        {kept, point[1], count[1], 1, false, false}};
    chart c = {.id = id,
               .title = title,
               .about = "By the step of the switch: mean over seeds and interval at 95 %. At the "
                        "ends one model makes "
                        "the whole picture.",
               .x_name = "switch after step",
               .y_name = per_cent,
               .from_zero = true,
               .series = series,
               .count = 2};
    chart_write(p->out, &c);
}

/* Whether a row is one of those that a chart of few points shows. */
static bool in_points(const page *p, const study_section *s, const switch_row *of,
                      const switch_row *r, bool kept)
{
    return r->subject == of->subject && r->first == of->first && r->second == of->second &&
           !(kept && r->at == r->steps) && belongs(p, s, r);
}

/* Several prompts at a few switch points. */
static void points_chart(page *p, const study_section *s, const switch_row *of, bool kept)
{
    const study_measures *m = p->s->measures;
    int points = 0;
    dots d;
    if (!dots_new(p, &d, m->switch_count, m->switch_count)) return;
    for (int at = 0; at <= of->steps; at++) {
        const char *name = at == 0 || at == of->steps
                               ? arena_format(&p->memory, "%s alone",
                                              name_of(p, at ? of->first : of->second))
                               : arena_format(&p->memory, "switch after %d", at);
        if (!page_text(p, name)) return;
        for (int i = 0; i < m->switch_count; i++) {
            const switch_row *r = &m->switches[i];
            if (r->at == at && in_points(p, s, of, r, kept))
                dots_add(&d, points, name, r->prompt, kept ? &r->kept : &r->share);
        }
        points += points < d.count && d.series[points].count > 0;
    }
    const char *first = name_of(p, of->first);
    const char *title = kept ? arena_format(&p->memory,
                                            "%s first: structure kept of its own picture", first)
                             : arena_format(&p->memory,
                                            "%s first: how much of the subject is in the pictures",
                                            first);
    const char *id = arena_format(&p->memory, "chart-%s-%s-%d", kept ? "kept" : "switch", s->id,
                                  (int)(of - m->switches));
    if (!page_text(p, title) || !page_text(p, id)) return;
    chart about = {
        .id = id,
        .title = title,
        .about =
            kept ? "0 % is no more than another seed\xe2\x80\x99s picture, 100 % the same picture."
                 : "On the way from the class (0 %) to the subject (100 %).",
        .y_name = per_cent,
        .from_zero = kept};
    dots_write(p, &d, s, &about);
}

static void switch_charts(page *p, const study_section *s)
{
    enum { SWEEP = 5 }; /* from so many points on a line says more than rows */
    const study_measures *m = p->s->measures;
    bool pointed[2] = {false, false};
    for (int i = 0; i < m->switch_count; i++) {
        const switch_row *r = &m->switches[i];
        int points = 0;
        bool first = has_switch(s, r);
        for (int k = 0; k < m->switch_count; k++) {
            const switch_row *o = &m->switches[k];
            bool same = o->subject == r->subject && o->first == r->first &&
                        o->second == r->second && o->steps == r->steps &&
                        !strcmp(o->prompt, r->prompt) && has_switch(s, o);
            points += same;
            first &= !same || k >= i;
        }
        if (!first) continue;
        if (points >= SWEEP) {
            sweep_chart(p, s, r);
        } else if (!pointed[r->first > r->second]) {
            pointed[r->first > r->second] = true;
            points_chart(p, s, r, false);
            points_chart(p, s, r, true);
        }
    }
}

/* ---- sections ------------------------------------------------------------------------------- */

/* What a section is about, by its pictures. */
typedef enum section_kind { KIND_MODELS, KIND_SAMPLERS, KIND_SWITCHES } section_kind;

static section_kind kind_of(const study_section *s)
{
    section_kind kind = KIND_MODELS;
    for (int k = 0; k < section_cells(s); k++) {
        const study_cell *c = &s->cell[k];
        if (cell_model(c) < 0) return KIND_SWITCHES;
        if (c->sampler != s->cell[0].sampler || c->steps != s->cell[0].steps) kind = KIND_SAMPLERS;
    }
    return kind;
}

static int count_models(const study_plan *plan, const study_section *s)
{
    int n = 0;
    for (int i = 0; i < plan->models; i++) {
        bool has = false;
        for (int k = 0; k < section_cells(s) && !has; k++) has = cell_model(&s->cell[k]) == i;
        n += has;
    }
    return n;
}

/* The first shown section of a kind, of those with the most models; -1: none. Charts of all models
 * stand there. */
static int place_of(const page *p, section_kind kind)
{
    const study_plan *plan = p->s->plan;
    int best = -1, most = 0;
    for (int i = 0; i < plan->sections; i++) {
        const study_section *s = &plan->section[i];
        if (s->hidden || kind_of(s) != kind || count_models(plan, s) <= most) continue;
        most = count_models(plan, s);
        best = i;
    }
    return best;
}

void figures_section(page *p, int section)
{
    const study_section *s = &p->s->plan->section[section];
    section_kind kind = kind_of(s);
    fputs("<div class=\"charts\">\n", p->out);
    if (kind == KIND_SWITCHES) switch_charts(p, s);
    if (kind == KIND_SAMPLERS && place_of(p, kind) == section) structure_charts(p);
    if (kind == KIND_MODELS && place_of(p, kind) == section) {
        for (int i = 0; i < p->s->measures->subjects; i++) share_chart(p, s, i);
        drift_chart(p, s);
        diversity_chart(p, s);
    }
    figures_deep(p, section);
    fputs("</div>\n", p->out);
}
