/* SPDX-License-Identifier: Apache-2.0
 *
 * cells: names and order of a study's pictures, and making them. Pictures that differ in nothing
 * but the mix of models are sorted by their mixes, step by step; then the steps that a picture
 * shares with any earlier one are shared with the one just before it, and a stack of snapshots is
 * all that must be kept. */
#include "study/cells.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "base/sha256.h"

/* ---- names ---------------------------------------------------------------------------------- */

static void add_text(sha256 *h, const char *text) { sha256_add(h, text, strlen(text) + 1); }

/* Everything but the mix. The numbers' places are as they were in the first studies, whose pictures
 * count. */
static void hash_settings(sha256 *h, const study_cell *c)
{
    char line[512];
    snprintf(line, sizeof line, "%llu %d %d %s 0 %d %d %d %d %s %s %d %d %d",
             (unsigned long long)c->seed, (int)c->sampler, c->steps,
             number_rounded((double)c->eta, 9).text, c->variance != LK_VARIANCE_MODEL,
             c->variance ? (int)c->variance - 1 : 0, c->spacing != LK_SPACING_MODEL,
             c->spacing ? (int)c->spacing - 1 : 0, number_rounded((double)c->guidance, 9).text,
             number_rounded((double)c->guidance_rescale, 9).text, c->width, c->height,
             c->clip_skip);
    add_text(h, line);
    add_text(h, c->prompt);
    add_text(h, c->negative);
}

static void hash_mix(sha256 *h, const lk_schedule *mix, const char *const *model_hash)
{
    for (int i = 0, next, count = lk_schedule_steps(mix); i < count; i = next) {
        const lk_schedule_step *s = lk_schedule_at(mix, i);
        char line[128];
        for (next = i + 1; next < count && lk_schedule_step_same(s, lk_schedule_at(mix, next));)
            next++;
        snprintf(line, sizeof line, "%d steps by %d%s", next - i, s->parts,
                 s->split ? " split" : "");
        add_text(h, line);
        for (int k = 0; k < s->parts; k++) {
            add_text(h, number_rounded((double)s->share[k], 9).text);
            add_text(h, model_hash[s->model[k]]);
        }
    }
}

void cells_name(study_plan *p, const char *const *model_hash, lk_precision precision)
{
    for (int i = 0; i < p->sections; i++) {
        study_section *s = &p->section[i];
        for (int k = 0; k < s->rows * s->columns; k++) {
            sha256 h;
            char hex[65];
            sha256_start(&h);
            add_text(&h, "likeness cell 1");
            add_text(&h, engine_precision(precision));
            hash_settings(&h, &s->cell[k]);
            hash_mix(&h, s->cell[k].mix, model_hash);
            sha256_end(&h, hex);
            snprintf(s->cell[k].name, sizeof s->cell[k].name, "%.16s", hex);
        }
    }
}

/* ---- order ---------------------------------------------------------------------------------- */

static int compare_numbers(double a, double b) { return (a > b) - (a < b); }

static int compare_mix(const lk_schedule *a, const lk_schedule *b)
{
    int n = lk_schedule_common(a, b), steps_a = lk_schedule_steps(a),
        steps_b = lk_schedule_steps(b);
    if (n == steps_a || n == steps_b) return steps_a - steps_b;
    const lk_schedule_step *x = lk_schedule_at(a, n), *y = lk_schedule_at(b, n);
    if (x->parts != y->parts) return x->parts - y->parts;
    if (x->split != y->split) return x->split - y->split;
    for (int k = 0; k < x->parts; k++) {
        if (x->model[k] != y->model[k]) return x->model[k] - y->model[k];
        if (x->share[k] != y->share[k])
            return compare_numbers((double)x->share[k], (double)y->share[k]);
    }
    return 0;
}

/* 0: nothing but the mixes can differ. */
static int compare_settings(const study_cell *a, const study_cell *b)
{
    sha256 h;
    char x[65], y[65];
    sha256_start(&h);
    hash_settings(&h, a);
    sha256_end(&h, x);
    sha256_start(&h);
    hash_settings(&h, b);
    sha256_end(&h, y);
    return strcmp(x, y);
}

static int compare_tasks(const void *a, const void *b)
{
    const study_cell *x = ((const cell_task *)a)->cell, *y = ((const cell_task *)b)->cell;
    int by_settings = compare_settings(x, y);
    return by_settings ? by_settings : compare_mix(x->mix, y->mix);
}

static char *image_path(const char *folder, const char *name)
{
    return string_format("%s/cells/%s.png", folder, name);
}

static bool is_made(const char *folder, const char *name, bool *made, error *e)
{
    *made = false;
    if (!folder) return true;
    char *path = image_path(folder, name);
    if (!path) return error_memory(e, "a picture's name", 64);
    *made = path_is_file(path);
    free(path);
    return true;
}

static bool is_listed(const cell_work *w, const study_cell *c)
{
    for (int i = 0; i < w->count; i++)
        if (strcmp(w->task[i].cell->name, c->name) == 0) return true;
    return false;
}

static void count_steps(cell_work *w)
{
    for (int i = 0; i < w->count; i++) {
        const study_cell *c = w->task[i].cell, *before = i ? w->task[i - 1].cell : NULL;
        w->steps += c->steps;
        if (before && compare_settings(before, c) == 0)
            w->task[i].shared = lk_schedule_common(before->mix, c->mix);
        w->saved += w->task[i].shared;
    }
}

bool cells_plan(cell_work *out, const study_plan *p, const char *folder, error *e)
{
    size_t cells = 0;
    for (int i = 0; i < p->sections; i++)
        cells += (size_t)p->section[i].rows * (size_t)p->section[i].columns;
    *out = (cell_work){.task = calloc(cells + 1, sizeof *out->task)};
    bool ok = out->task || error_memory(e, "a study's pictures", cells * sizeof *out->task);
    for (int i = 0; ok && i < p->sections; i++) {
        const study_section *s = &p->section[i];
        for (int k = 0; ok && k < s->rows * s->columns; k++) {
            bool made;
            ok = is_made(folder, s->cell[k].name, &made, e);
            if (ok && !made && !is_listed(out, &s->cell[k]))
                out->task[out->count++].cell = &s->cell[k];
        }
    }
    if (!ok) {
        cells_work_close(out);
        return false;
    }
    if (out->count) qsort(out->task, (size_t)out->count, sizeof *out->task, compare_tasks);
    count_steps(out);
    return true;
}

void cells_work_close(cell_work *w)
{
    free(w->task);
    *w = (cell_work){0};
}

/* ---- making --------------------------------------------------------------------------------- */

/* Pictures of which each begins as the one before it does: one worker's business. */
typedef struct group {
    int begin, end, steps;
} group;

typedef struct all_making {
    const cell_work *work;
    const cell_maker *maker;
    study_plan *plan;
    group *group;
    int groups;
    int *failed;
} all_making;

typedef struct making {
    const all_making *all;
    crew_run *run;
    lk_session *session;
    int at;              /* the task in hand */
    lk_snapshot **stack; /* states of its run that tasks to come go on from, by rising step */
    int depth, room;
    bool out_of_memory;
} making;

/* Whether a task to come goes on from this step of the task in hand: some later neighbour shares
 * exactly so many steps with it, all in between sharing no fewer. */
static bool is_wanted(const making *m, int step)
{
    int least = m->all->work->task[m->at].cell->steps;
    for (int i = m->at + 1; i < m->all->work->count && least > 0; i++) {
        int shared = m->all->work->task[i].shared;
        if (shared < least) least = shared;
        if (least == step) return step > 0;
        if (least < step) return false;
    }
    return false;
}

static void keep(void *user, const lk_snapshot *now)
{
    making *m = user;
    int step = lk_snapshot_step(now);
    if (!is_wanted(m, step)) return;
    if (m->depth && lk_snapshot_step(m->stack[m->depth - 1]) >= step) return;
    if (m->depth == m->room) {
        int room = m->room ? 2 * m->room : 8;
        lk_snapshot **more = realloc(m->stack, (size_t)room * sizeof *more);
        if (more) m->stack = more, m->room = room;
    }
    if (m->depth < m->room && lk_snapshot_copy(&m->stack[m->depth], now, NULL))
        m->depth++;
    else
        m->out_of_memory = true;
}

static void drop_above(making *m, int step)
{
    while (m->depth && lk_snapshot_step(m->stack[m->depth - 1]) > step)
        lk_snapshot_close(&m->stack[--m->depth]);
}

static int stepped(void *user, const lk_progress *p)
{
    making *m = user;
    return p->step > m->all->work->task[m->at].shared && crew_step(m->run);
}

static bool make_one(making *m, error *e)
{
    const study_plan *p = m->all->plan;
    const cell_task *task = &m->all->work->task[m->at];
    const study_cell *c = task->cell;
    lk_error why = {0};
    lk_image *made = NULL;
    lk_generate_options o = cell_options(c);
    drop_above(m, task->shared);
    o.from = m->depth ? m->stack[m->depth - 1] : NULL;
    o.progress = stepped;
    o.reached = keep;
    o.user = m;
    char *path = image_path(m->all->maker->folder, c->name);
    bool ok = path || error_memory(e, "a picture's name", 64);
    if (ok && !lk_generate_mixed(&made, m->session, m->all->maker->models, p->model_name, p->models,
                                 c->schedule, &o, &why))
        ok = engine_failed(&why, e);
    if (ok && m->out_of_memory) ok = error_memory(e, "a run's state", sizeof *m);
    if (ok && !lk_image_save(made, path, &why)) ok = engine_failed(&why, e);
    lk_image_close(&made);
    free(path);
    return ok;
}

/* Whether a failure is the picture's own. */
static bool is_own(error_code code)
{
    return code == ERROR_USAGE || code == ERROR_MODEL || code == ERROR_NUMERIC;
}

static bool note_failure(study_plan *p, const char *name, const char *why, error *e)
{
    const char *copy = arena_strdup(&p->memory, why);
    if (!copy) return error_memory(e, "a picture's failure", strlen(why));
    for (int i = 0; i < p->sections; i++)
        for (int k = 0; k < p->section[i].rows * p->section[i].columns; k++)
            if (strcmp(p->section[i].cell[k].name, name) == 0) p->section[i].cell[k].why = copy;
    return true;
}

static bool make_group(void *context, crew_run *run, int i, int worker, error *e)
{
    const all_making *all = context;
    making m = {.all = all,
                .run = run,
                .session = all->maker->crew->session[worker],
                .at = all->group[i].begin};
    bool ok = true;
    for (; ok && m.at < all->group[i].end; m.at++) {
        error why = {0};
        if (make_one(&m, &why)) continue;
        crew_lock(run);
        ok = is_own(why.code)
                 ? note_failure(all->plan, all->work->task[m.at].cell->name, why.text, e)
                 : error_set(e, why.code, "%s", why.text);
        ++*all->failed;
        crew_unlock(run);
    }
    drop_above(&m, -1);
    free(m.stack);
    return ok;
}

static bool told(void *context, crew_run *run, int64_t done, error *e)
{
    const cell_maker *maker = ((const all_making *)context)->maker;
    (void)run, (void)e;
    for (; done && maker->stepped; done--)
        if (maker->stepped(maker->user)) return false;
    return true;
}

static int compare_groups(const void *a, const void *b)
{
    const group *x = a, *y = b;
    return x->steps != y->steps ? y->steps - x->steps : x->begin - y->begin;
}

bool cells_make(const cell_work *w, const cell_maker *maker, study_plan *p, int *failed, error *e)
{
    all_making all = {.work = w,
                      .maker = maker,
                      .plan = p,
                      .failed = failed,
                      .group = calloc((size_t)w->count + 1, sizeof *all.group)};
    *failed = 0;
    if (!all.group)
        return error_memory(e, "a study's pictures", (size_t)w->count * sizeof *all.group);
    for (int i = 0; i < w->count; i++) {
        if (!i || !w->task[i].shared) all.group[all.groups++].begin = i;
        all.group[all.groups - 1].end = i + 1;
        all.group[all.groups - 1].steps += w->task[i].cell->steps - w->task[i].shared;
    }
    /* The longest first, so that workers end together. */
    if (maker->crew->count > 1)
        qsort(all.group, (size_t)all.groups, sizeof *all.group, compare_groups);
    bool ok = crew_do(maker->crew, &(crew_work){all.groups, make_group, told, &all}, e);
    free(all.group);
    return ok;
}
