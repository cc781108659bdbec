/* SPDX-License-Identifier: Apache-2.0
 *
 * cells: names and order of a study's pictures, and making them. Pictures that differ in nothing but the
 * mix of models are sorted by their mixes, step by step; then the steps that a picture shares with any
 * earlier one are shared with the one just before it, and a stack of snapshots is all that must be kept. */
#include "study/cells.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "generate/parameters.h"

/* ---- names ---------------------------------------------------------------------------------- */

static void add_text(sha256 *h, const char *text) { sha256_add(h, text, strlen(text) + 1); }

/* Everything but the mix. */
static void hash_settings(sha256 *h, const study_cell *c)
{
    char line[512];
    const sampler_options *s = &c->sampler;
    snprintf(line, sizeof line, "%llu %d %d %s %d %d %d %d %d %s %s %d %d %d",
             (unsigned long long)c->seed, (int)s->kind, s->steps,
             number_rounded((double)s->eta, 9).text,
             0, s->has_variance, s->has_variance ? (int)s->variance : 0,
             s->has_spacing, s->has_spacing ? (int)s->spacing : 0,
             number_rounded((double)c->guidance, 9).text,
             number_rounded((double)c->guidance_rescale, 9).text, c->width, c->height, c->clip_skip);
    add_text(h, line);
    add_text(h, c->prompt);
    add_text(h, c->negative);
}

static void hash_mix(sha256 *h, const mix *m, const char *const *model_hash)
{
    for (int i = 0, next; i < m->count; i = next) {
        const mix_step *s = &m->step[i];
        char line[128];
        for (next = i + 1; next < m->count && mix_step_equal(s, &m->step[next]);) next++;
        snprintf(line, sizeof line, "%d steps by %d%s", next - i, s->terms, s->split ? " split" : "");
        add_text(h, line);
        for (int k = 0; k < s->terms; k++) {
            add_text(h, number_rounded((double)s->share[k], 9).text);
            add_text(h, model_hash[s->model[k]]);
        }
    }
}

bool cells_name(study_plan *p, const char *const *model_hash, dtype precision, error *e)
{
    (void)e;
    for (int i = 0; i < p->sections; i++) {
        study_section *s = &p->section[i];
        for (int k = 0; k < s->rows * s->columns; k++) {
            sha256 h;
            char hex[65];
            sha256_start(&h);
            add_text(&h, "likeness cell 1");
            add_text(&h, dtype_name(precision));
            hash_settings(&h, &s->cell[k]);
            hash_mix(&h, &s->cell[k].mix, model_hash);
            sha256_end(&h, hex);
            snprintf(s->cell[k].name, sizeof s->cell[k].name, "%.16s", hex);
        }
    }
    return true;
}

/* ---- order ---------------------------------------------------------------------------------- */

static int compare_numbers(double a, double b) { return (a > b) - (a < b); }

static int compare_mix(const mix *a, const mix *b)
{
    int n = mix_common(a, b);
    if (n == a->count || n == b->count) return a->count - b->count;
    const mix_step *x = &a->step[n], *y = &b->step[n];
    if (x->terms != y->terms) return x->terms - y->terms;
    if (x->split != y->split) return x->split - y->split;
    for (int k = 0; k < x->terms; k++) {
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
    return by_settings ? by_settings : compare_mix(&x->mix, &y->mix);
}

static char *picture_path(const char *folder, const char *name)
{
    return string_format("%s/cells/%s.png", folder, name);
}

static bool is_made(const char *folder, const char *name, bool *made, error *e)
{
    *made = false;
    if (!folder) return true;
    char *path = picture_path(folder, name);
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
        w->steps += c->mix.count;
        if (before && compare_settings(before, c) == 0)
            w->task[i].shared = mix_common(&before->mix, &c->mix);
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

typedef struct making {
    const cell_work *work;
    const cell_maker *maker;
    int at;              /* the task in hand */
    generate_snapshot **stack; /* for the tasks that come, by rising step */
    int depth, room;
    bool out_of_memory;
} making;

/* Whether a task to come goes on from this step of the task in hand: some later neighbour shares exactly
 * so many steps with it, all in between sharing no fewer. */
static bool is_wanted(const making *m, int step)
{
    int least = m->work->task[m->at].cell->mix.count;
    for (int i = m->at + 1; i < m->work->count && least > 0; i++) {
        int shared = m->work->task[i].shared;
        if (shared < least) least = shared;
        if (least == step) return step > 0;
        if (least < step) return false;
    }
    return false;
}

static void keep(void *user, const generate_snapshot *now)
{
    making *m = user;
    if (!is_wanted(m, now->step)) return;
    if (m->depth && m->stack[m->depth - 1]->step >= now->step) return;
    if (m->depth == m->room) {
        int room = m->room ? 2 * m->room : 8;
        generate_snapshot **more = realloc(m->stack, (size_t)room * sizeof *more);
        if (!more) {
            m->out_of_memory = true;
            return;
        }
        m->stack = more;
        m->room = room;
    }
    generate_snapshot *copy = generate_snapshot_copy(now);
    if (copy)
        m->stack[m->depth++] = copy;
    else
        m->out_of_memory = true;
}

static void drop_above(making *m, int step)
{
    while (m->depth && m->stack[m->depth - 1]->step > step) free(m->stack[--m->depth]);
}

static bool stepped(void *user, int step, int steps)
{
    making *m = user;
    (void)steps;
    int first = m->work->task[m->at].shared;
    return step > first && m->maker->stepped && m->maker->stepped(m->maker->user);
}

static bool save(const making *m, const picture_job *job, const image *picture, error *e)
{
    const study_cell *c = m->work->task[m->at].cell;
    char *path = picture_path(m->maker->folder, c->name), *text = NULL;
    bool ok = path || error_memory(e, "a picture's name", 64);
    ok = ok && parameters_text(&text, job, picture, e) &&
         image_write(picture, path, text, 100, e);
    free(text);
    free(path);
    return ok;
}

static bool make_one(making *m, const study_plan *p, error *e)
{
    const cell_task *task = &m->work->task[m->at];
    const study_cell *c = task->cell;
    generator *const *generators = m->maker->generators;
    generate_result made;
    drop_above(m, task->shared);
    generate_options o = {.prompt = c->prompt,
                          .negative = c->negative,
                          .seed = c->seed,
                          .width = c->width,
                          .height = c->height,
                          .sampler = c->sampler,
                          .guidance = c->guidance,
                          .guidance_rescale = c->guidance_rescale,
                          .clip_skip = c->clip_skip,
                          .from = m->depth ? m->stack[m->depth - 1] : NULL,
                          .progress = stepped,
                          .reached = keep,
                          .user = m};
    bool ok = generator_run_mixed(generators, m->maker->models, &c->mix, &o, &made, e);
    if (ok && m->out_of_memory) ok = error_memory(e, "a run's state", sizeof(generate_snapshot));
    picture_job job = {generators, p->model_name, m->maker->models, &c->mix, &o};
    ok = ok && save(m, &job, &made.picture, e);
    generate_result_free(&made);
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

bool cells_make(const cell_work *w, const cell_maker *maker, study_plan *p, int *failed, error *e)
{
    making m = {.work = w, .maker = maker};
    bool ok = true;
    *failed = 0;
    for (m.at = 0; ok && m.at < w->count; m.at++) {
        error why = {0};
        if (make_one(&m, p, &why)) continue;
        ok = is_own(why.code) ? note_failure(p, w->task[m.at].cell->name, why.text, e)
                              : error_set(e, why.code, "%s", why.text);
        ++*failed;
    }
    drop_above(&m, -1);
    free(m.stack);
    return ok;
}
