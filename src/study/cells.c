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

/* What the first studies did not know stands behind what they did, where a cell has it. */
static void add_word(sha256 *h, const char *name, const char *value)
{
    sha256_add(h, name, strlen(name));
    sha256_add(h, value, strlen(value));
}

static void add_number(sha256 *h, const char *name, double value)
{
    add_word(h, name, number_exact(value).text);
}

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
    sha256_add(h, line, strlen(line));
    if (c->deep_cache) add_number(h, " deep cache ", c->deep_cache);
    if (c->prompt_syntax) add_number(h, " prompt syntax ", c->prompt_syntax);
    if (c->rng) add_number(h, " rng ", c->rng);
    if (c->init) {
        add_word(h, " from ", c->init->hash);
        add_number(h, " strength ", c->strength);
    }
    if (c->mask) add_word(h, " mask ", c->mask->hash);
    if (c->hires > 0) {
        add_number(h, " hires ", c->hires);
        add_number(h, " steps ", cell_second_steps(c));
        add_number(h, " strength ", c->hires_strength);
        add_word(h, " by ", c->hires_upscaler ? c->hires_upscaler : "latent");
    }
    if (c->tile) add_word(h, " tiles", "");
    for (int i = 0; c->control && i < c->control->count; i++) {
        add_word(h, " control ", lk_controlnet_hash(c->control->item[i].net->open));
        add_word(h, " by ", c->control->item[i].picture->hash);
        add_number(h, " scale ", (double)c->control->item[i].scale);
    }
    add_text(h, "");
    if (c->sigmas) add_text(h, c->sigmas);
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
        w->steps += cell_steps(c) + cell_second_steps(c);
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

/* Pictures of which each begins as the one before it does. */
typedef struct group {
    int begin, end, steps;
    char shape[65]; /* a hash of all that groups whose pictures take their steps together share */
} group;

/* Groups of one shape: their first pictures are made together, then their second ones. One worker's
 * business. */
enum { LANES_MOST = 6 };
typedef struct piece {
    int first, lanes; /* groups */
} piece;

typedef struct all_making {
    const cell_work *work;
    const cell_maker *maker;
    study_plan *plan;
    group *group;
    piece *piece;
    int groups, pieces;
    int *failed;
} all_making;

typedef struct making {
    const all_making *all;
    int at;              /* the task in hand */
    lk_snapshot **stack; /* states of its run that tasks to come go on from, by rising step */
    int depth, room;
    bool out_of_memory;
    bool made;
} making;

/* A piece in hand: a run for each of its groups. */
typedef struct lanes {
    const all_making *all;
    crew_run *run;
    lk_session *session;
    making lane[LANES_MOST];
    int count;
    int first, told, steps; /* of the call in hand: its first lane, its steps so far, and in all */
    error why;              /* of a picture that could not be saved */
} lanes;

/* Whether a task to come goes on from this step of the task in hand: some later neighbour shares
 * exactly so many steps with it, all in between sharing no fewer. */
static bool is_wanted(const making *m, int step)
{
    int least = cell_steps(m->all->work->task[m->at].cell);
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
    lanes *l = user;
    bool stop = false;
    for (; l->told < p->step && l->told < l->steps; l->told++) stop |= crew_step(l->run);
    return stop;
}

static int save(void *user, size_t k, lk_image *picture)
{
    lanes *l = user;
    making *m = &l->lane[l->first + (int)k];
    lk_error why = {0};
    char *path = image_path(l->all->maker->folder, l->all->work->task[m->at].cell->name);
    m->made = path ? lk_image_save(picture, path, &why) || engine_failed(&why, &l->why)
                   : error_memory(&l->why, "a picture's name", 64);
    lk_image_close(&picture);
    free(path);
    return !m->made;
}

/* The tasks in hand of `count` lanes from the first on. */
static bool make_together(lanes *l, int first, int count, error *e)
{
    const study_plan *p = l->all->plan;
    lk_generate_options o[LANES_MOST];
    lk_job job[LANES_MOST];
    const lk_job *jobs[LANES_MOST];
    lk_many_options many;
    lk_error why = {0};
    l->first = first;
    l->told = l->steps = 0;
    l->why = (error){0};
    for (int k = 0; k < count; k++) {
        making *m = &l->lane[first + k];
        const cell_task *task = &l->all->work->task[m->at];
        drop_above(m, task->shared);
        m->made = false;
        o[k] = cell_options(task->cell);
        o[k].from = m->depth ? m->stack[m->depth - 1] : NULL;
        o[k].reached = keep;
        o[k].user = m;
        lk_job_defaults(&job[k]);
        job[k].models = l->all->maker->models;
        job[k].names = p->model_name;
        job[k].count = p->models;
        job[k].schedule = task->cell->schedule;
        job[k].options = &o[k];
        jobs[k] = &job[k];
        l->steps += cell_steps(task->cell) + cell_second_steps(task->cell) - task->shared;
    }
    lk_many_defaults(&many);
    many.made = save;
    many.progress = stepped;
    many.user = l;
    bool ok = lk_generate_many(l->session, jobs, (size_t)count, &many, &why);
    if (l->why.code) return error_set(e, l->why.code, "%s", l->why.text);
    if (!ok) return engine_failed(&why, e);
    for (int k = first; k < first + count; k++)
        if (l->lane[k].out_of_memory) return error_memory(e, "a run's state", sizeof *l);
    return true;
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

/* As make_together; one that fails does not keep the others. */
static bool make_next(lanes *l, int first, int count, error *e)
{
    const all_making *all = l->all;
    error why = {0};
    if (make_together(l, first, count, &why)) return true;
    if (is_own(why.code) && count > 1) {
        for (int k = 0; k < count; k++)
            if (!l->lane[k].made && !make_next(l, k, 1, e)) return false;
        return true;
    }
    crew_lock(l->run);
    bool ok = is_own(why.code)
                  ? note_failure(all->plan, all->work->task[l->lane[first].at].cell->name, why.text,
                                 e)
                  : error_set(e, why.code, "%s", why.text);
    ++*all->failed;
    crew_unlock(l->run);
    return ok;
}

static bool make_piece(void *context, crew_run *run, int i, int worker, error *e)
{
    const all_making *all = context;
    const piece *p = &all->piece[i];
    const group *g = &all->group[p->first];
    lanes l = {
        .all = all, .run = run, .session = all->maker->crew->session[worker], .count = p->lanes};
    bool ok = true;
    for (int k = 0; k < l.count; k++) l.lane[k] = (making){.all = all, .at = g[k].begin};
    for (int task = g->begin; ok && task < g->end; task++) {
        ok = make_next(&l, 0, l.count, e);
        for (int k = 0; k < l.count; k++) l.lane[k].at++;
    }
    for (int k = 0; k < l.count; k++) {
        drop_above(&l.lane[k], -1);
        free(l.lane[k].stack);
    }
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

/* Longest first, so that workers end together; then by shape. */
static int compare_groups(const void *a, const void *b)
{
    const group *x = a, *y = b;
    int by_shape = strcmp(x->shape, y->shape);
    if (x->steps != y->steps) return y->steps - x->steps;
    return by_shape ? by_shape : x->begin - y->begin;
}

/* Of each picture all but its seed and, where they may differ, its texts. */
static void find_shape(const cell_work *w, group *g)
{
    sha256 h;
    sha256_start(&h);
    for (int i = g->begin; i < g->end; i++) {
        study_cell c = *w->task[i].cell;
        c.seed = 0;
        if (c.prompt_syntax == LK_PROMPT_PLAIN) c.prompt = c.negative = "";
        hash_settings(&h, &c);
        add_text(&h, c.schedule);
        add_text(&h, number_exact(w->task[i].shared).text);
    }
    sha256_end(&h, g->shape);
}

static void find_groups(all_making *all)
{
    const cell_work *w = all->work;
    for (int i = 0; i < w->count; i++) {
        if (!i || !w->task[i].shared) all->group[all->groups++].begin = i;
        all->group[all->groups - 1].end = i + 1;
        const study_cell *c = w->task[i].cell;
        all->group[all->groups - 1].steps += cell_steps(c) + cell_second_steps(c) -
                                             w->task[i].shared;
    }
    for (int i = 0; i < all->groups; i++) find_shape(w, &all->group[i]);
    qsort(all->group, (size_t)all->groups, sizeof *all->group, compare_groups);
}

/* As many groups of a shape together as leaves each worker some. */
static void find_pieces(all_making *all)
{
    int workers = all->maker->crew->count;
    for (int i = 0, end; i < all->groups; i = end) {
        for (end = i + 1; end < all->groups; end++)
            if (strcmp(all->group[i].shape, all->group[end].shape) != 0) break;
        int together = (end - i + workers - 1) / workers;
        if (together > LANES_MOST) together = LANES_MOST;
        for (int k = i; k < end; k += together)
            all->piece[all->pieces++] = (piece){k, end - k < together ? end - k : together};
    }
}

bool cells_make(const cell_work *w, const cell_maker *maker, study_plan *p, int *failed, error *e)
{
    size_t most = (size_t)w->count + 1;
    all_making all = {.work = w,
                      .maker = maker,
                      .plan = p,
                      .failed = failed,
                      .group = calloc(most, sizeof *all.group),
                      .piece = calloc(most, sizeof *all.piece)};
    bool ok = (all.group && all.piece) ||
              error_memory(e, "a study's pictures", most * sizeof *all.group);
    *failed = 0;
    if (ok) {
        find_groups(&all);
        find_pieces(&all);
        ok = crew_do(maker->crew, &(crew_work){all.pieces, make_piece, told, &all}, e);
    }
    free(all.group);
    free(all.piece);
    return ok;
}
