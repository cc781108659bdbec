/* SPDX-License-Identifier: Apache-2.0
 *
 * figures: the measures of a study, and the losses of its trainings, as charts. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/json.h"
#include "study/chart.h"
#include "study/html.h"
#include "study/page_parts.h"

void *page_alloc(page *p, size_t size)
{
    void *block = arena_alloc(&p->memory, size ? size : 1);
    if (!block) p->no_memory = true;
    return block;
}

static const char *name_of(const page *p, int who) { return p->s->plan->model[who].name; }

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
        c->smooth[i] = (chart_point){c->raw[i].x, sum / (i < SMOOTH ? i + 1 : SMOOTH), 0};
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
            raw[c->count++] = (chart_point){(double)json_integer_value(step), json_number_value(value), 0};
        json_decref(line);
    }
    curve_smooth(c);
}

static void loss_chart(page *p, int index, const char *text)
{
    static const char *const key[2] = {"instance_loss", "prior_loss"};
    static const char *const what[2] = {"loss on the subject\xe2\x80\x99s pictures", "loss on class pictures"};
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
    chart c = {.id = id, .title = title,
               .about = "The mean of the last 25 updates; each update is drawn faintly behind. An update "
                        "draws its own timesteps, so single losses vary much.",
               .x_name = "update", .y_name = "loss", .from_zero = true, .series = series, .count = count};
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

/* ---- rows of dots: prompts down, a series for each model ----------------------------------- */

typedef struct dots {
    const char **prompt;
    int prompts, room;
    chart_series *series; /* [models] */
    chart_point **point;  /* [models] the same points, writable */
    int models;
} dots;

static bool dots_new(page *p, dots *d, int rows)
{
    int models = p->s->plan->models;
    *d = (dots){page_alloc(p, (size_t)rows * sizeof *d->prompt), 0, rows,
                page_alloc(p, (size_t)models * sizeof *d->series),
                page_alloc(p, (size_t)models * sizeof *d->point), models};
    if (p->no_memory) return false;
    for (int i = 0; i < models; i++) {
        d->point[i] = page_alloc(p, (size_t)rows * sizeof **d->point);
        d->series[i] = (chart_series){.name = name_of(p, i), .point = d->point[i], .style = i};
    }
    return !p->no_memory;
}

static void dots_add(dots *d, int who, const char *prompt, const estimate *e)
{
    if (!e->n) return;
    int k = 0;
    while (k < d->prompts && strcmp(d->prompt[k], prompt)) k++;
    if (k == d->prompts) d->prompt[d->prompts++] = prompt;
    chart_series *s = &d->series[who];
    d->point[who][s->count++] = (chart_point){k, e->mean, e->error};
}

static void dots_write(page *p, dots *d, const chart *about)
{
    chart c = *about;
    int count = 0;
    for (int i = 0; i < d->models; i++) /* models without pictures go */
        if (d->series[i].count) d->series[count++] = d->series[i];
    if (!count) return;
    for (int k = 0; k < d->prompts; k++)
        if (!*d->prompt[k]) d->prompt[k] = "(empty prompt)";
    c.category = d->prompt;
    c.categories = d->prompts;
    c.series = d->series;
    c.count = count;
    chart_write(p->out, &c);
}

static void drift_charts(page *p)
{
    static const chart about[3] = {
        {.id = "chart-leakage", .title = "Leakage by prompt",
         .about = "Likeness of a trained model\xe2\x80\x99s pictures to its subject, minus that of its base\xe2\x80\x99s from the "
                  "same noise: mean and standard error over seeds. Above 0 they are more like the subject.",
         .y_name = "leakage", .from_zero = true},
        {.id = "chart-drift", .title = "Drift by prompt",
         .about = "How far a trained model\xe2\x80\x99s pictures are from its base\xe2\x80\x99s from equal noise: root mean square "
                  "of pixels, mean and standard error over seeds.",
         .y_name = "grey levels of 255", .from_zero = true},
        {.id = "chart-drift-latents", .title = "Drift by prompt, in latents",
         .about = "The same of the latents, before the autoencoder draws them.",
         .y_name = "scaled latents", .from_zero = true},
    };
    const study_measures *m = p->s->measures;
    for (int kind = 0; kind < 3; kind++) {
        dots d;
        if (!dots_new(p, &d, m->drifts)) return;
        for (int i = 0; i < m->drifts; i++) {
            const drift_row *r = &m->drift[i];
            dots_add(&d, r->model, r->prompt, kind == 0 ? &r->leakage : kind == 1 ? &r->pixels : &r->latents);
        }
        dots_write(p, &d, &about[kind]);
    }
}

/* The subject's own pictures and class pictures, as levels; their number. */
static int levels_of(page *p, int subject, chart_level level[2])
{
    const study_measures *m = p->s->measures;
    for (int i = 0; i < m->calibrations; i++) {
        const calibration_row *c = &m->calibration[i];
        if (c->model != subject) continue;
        level[0] = (chart_level){"the subject\xe2\x80\x99s pictures", c->subject.mean, c->subject.error};
        level[1] = (chart_level){"class pictures", c->class_pictures.mean, c->class_pictures.error};
        return c->class_pictures.n ? 2 : 1;
    }
    return 0;
}

static void likeness_chart(page *p, int subject)
{
    const study_measures *m = p->s->measures;
    dots d;
    chart_level level[2];
    if (!dots_new(p, &d, m->likenesses)) return;
    for (int i = 0; i < m->likenesses; i++)
        if (m->likeness[i].subject == subject)
            dots_add(&d, m->likeness[i].model, m->likeness[i].prompt, &m->likeness[i].likeness);
    const char *title = arena_format(&p->memory, "Likeness by prompt, measured by %s", name_of(p, subject));
    const char *id = arena_format(&p->memory, "chart-likeness-%d", subject);
    if (!title || !id) p->no_memory = true;
    if (!title || !id) return;
    chart about = {.id = id, .title = title,
                   .about = "Likeness of each model\xe2\x80\x99s pictures to the subject: mean and standard error over seeds. The "
                            "bands are the subject\xe2\x80\x99s own pictures and class pictures (2 standard errors).",
                   .y_name = "likeness", .level = level, .levels = levels_of(p, subject, level)};
    dots_write(p, &d, &about);
}

static void diversity_chart(page *p)
{
    static const chart about = {
        .id = "chart-diversity", .title = "Diversity over seeds",
        .about = "How far the pictures of one model and prompt are from each other: root mean square of pixels, over "
                 "pairs of seeds. Pairs share pictures, so the error is a rough one.",
        .y_name = "grey levels of 255", .from_zero = true};
    const study_measures *m = p->s->measures;
    dots d;
    if (!dots_new(p, &d, m->diversities)) return;
    for (int i = 0; i < m->diversities; i++)
        dots_add(&d, m->diversity[i].model, m->diversity[i].prompt, &m->diversity[i].pixels);
    dots_write(p, &d, &about);
}

/* ---- lines --------------------------------------------------------------------------------- */

static int by_x(const void *a, const void *b)
{
    double x = ((const chart_point *)a)->x, y = ((const chart_point *)b)->x;
    return (x > y) - (x < y);
}

/* Both directions, and every model, of one prompt and subject. */
static void switch_chart(page *p, int serial, const switch_row *of)
{
    const study_measures *m = p->s->measures;
    int room = m->switch_count, count = 0;
    chart_series *series = page_alloc(p, (size_t)room * sizeof *series);
    const switch_row **first = page_alloc(p, (size_t)room * sizeof *first); /* of each series */
    chart_point *point = page_alloc(p, (size_t)room * sizeof *point);
    if (p->no_memory) return;
    for (int i = 0, used = 0; i < room; i++) {
        const switch_row *r = &m->switches[i];
        bool seen = r->subject != of->subject || strcmp(r->prompt, of->prompt) || !r->likeness.n;
        for (int k = 0; k < count; k++) seen |= first[k]->first == r->first && first[k]->second == r->second;
        if (seen) continue;
        const char *name = arena_format(&p->memory, "%s, then %s", name_of(p, r->first), name_of(p, r->second));
        if (!name) p->no_memory = true;
        if (!name) return;
        chart_point *begin = &point[used];
        for (int k = i; k < room; k++) {
            const switch_row *o = &m->switches[k];
            if (o->subject == r->subject && o->first == r->first && o->second == r->second &&
                !strcmp(o->prompt, r->prompt) && o->likeness.n)
                point[used++] = (chart_point){o->at, o->likeness.mean, o->likeness.error};
        }
        size_t points = (size_t)(&point[used] - begin);
        qsort(begin, points, sizeof *begin, by_x);
        first[count] = r;
        series[count] = (chart_series){.name = name, .point = begin, .count = (int)points, .style = count};
        count++;
    }
    chart_level level[2];
    const char *title = arena_format(&p->memory, "\xe2\x80\x9c%s\xe2\x80\x9d: likeness by switch point, measured by %s",
                                     of->prompt, name_of(p, of->subject));
    const char *id = arena_format(&p->memory, "chart-switch-%d", serial);
    if (!title || !id) p->no_memory = true;
    if (!title || !id || !count) return;
    chart c = {.id = id, .title = title,
               .about = "One model predicts the first steps, another the rest: likeness to the subject against the step "
                        "of the switch, mean and standard error over seeds.",
               .x_name = "switch after step", .y_name = "likeness", .series = series, .count = count,
               .level = level, .levels = levels_of(p, of->subject, level)};
    chart_write(p->out, &c);
}

static void switch_charts(page *p)
{
    const study_measures *m = p->s->measures;
    int serial = 0;
    for (int i = 0; i < m->switch_count; i++) {
        const switch_row *r = &m->switches[i];
        bool seen = false;
        for (int k = 0; k < i; k++)
            seen |= m->switches[k].subject == r->subject && !strcmp(m->switches[k].prompt, r->prompt);
        if (!seen) switch_chart(p, serial++, r);
    }
}

static void structure_chart(page *p, int serial, const char *prompt)
{
    const study_measures *m = p->s->measures;
    chart_series series[2];
    int count = 0, most = 0;
    for (int kind = 0; kind < 2; kind++) {
        chart_point *point = page_alloc(p, (size_t)m->structures * sizeof *point);
        if (!point) return;
        int points = 0;
        for (int i = 0; i < m->structures; i++) {
            const structure_row *r = &m->structure[i];
            if ((int)r->sampler != kind || strcmp(r->prompt, prompt) || !r->correlation.n) continue;
            point[points++] = (chart_point){r->steps, r->correlation.mean, r->correlation.error};
            most = r->most;
        }
        qsort(point, (size_t)points, sizeof *point, by_x);
        if (points)
            series[count++] = (chart_series){.name = kind == SAMPLER_DDIM ? "DDIM" : "DDPM", .point = point,
                                             .count = points, .style = kind};
    }
    const char *title = *prompt ? arena_format(&p->memory, "\xe2\x80\x9c%s\xe2\x80\x9d: structure kept", prompt)
                                : "Structure kept";
    const char *id = arena_format(&p->memory, "chart-structure-%d", serial);
    const char *about = arena_format(&p->memory, "Correlation of all pixels with the picture of %d steps from the same "
                                     "noise: mean and standard error over seeds. 1 is the same picture.", most);
    if (!title || !id || !about) p->no_memory = true;
    if (!title || !id || !about || !count) return;
    chart c = {.id = id, .title = title, .about = about, .x_name = "steps", .y_name = "correlation",
               .log_x = true, .from_zero = true, .series = series, .count = count};
    chart_write(p->out, &c);
}

static void structure_charts(page *p)
{
    const study_measures *m = p->s->measures;
    int serial = 0;
    for (int i = 0; i < m->structures; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++) seen |= !strcmp(m->structure[k].prompt, m->structure[i].prompt);
        if (!seen) structure_chart(p, serial++, m->structure[i].prompt);
    }
}

bool figures_any(const page_source *s)
{
    const study_measures *m = s->measures;
    return m->drifts || m->likenesses || m->switch_count || m->structures || m->diversities;
}

void figures_measures(page *p)
{
    structure_charts(p);
    for (int i = 0; i < p->s->plan->models; i++)
        if (is_trained(&p->s->plan->model[i])) likeness_chart(p, i);
    drift_charts(p);
    switch_charts(p);
    diversity_chart(p);
}
