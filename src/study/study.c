/* SPDX-License-Identifier: Apache-2.0
 *
 * study: the flow of a study. */
#include "study/study.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/folder.h"
#include "base/number.h"
#include "base/platform.h"
#include "file/json.h"
#include "study/cells.h"
#include "measure/field.h"
#include "study/pace.h"
#include "page/page.h"
#include "plan/read.h"
#include "study/study_folder.h"
#include "study/trained.h"

typedef struct run {
    lk_context *context;
    lk_session *session; /* all threads: trainings, and what works alone */
    crew crew;           /* for pictures and measures */
    const study_options *options;
    const study_events *events;
    study_plan plan;
    study_place place;
    study_source source;
    study_models models;
    cell_work work;
    int lock;
    const char *what;
    pace pace;
    double began;
    double earlier;                  /* seconds that earlier runs took */
    int failed;                      /* pictures that could not be made */
    int64_t all_steps, shared_steps; /* of every picture; of them computed once for several */
} run;

__attribute__((format(printf, 2, 3))) static void say(const run *r, const char *format, ...)
{
    char line[2048];
    va_list args;
    if (!r->events->log) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    r->events->log(r->events->user, LK_LOG_INFO, line);
}

/* So many units more are done; true: stop. */
static bool tell(run *r, pace_kind kind, double units)
{
    pace_add(&r->pace, kind, units, clock_seconds());
    study_progress p = {r->what, pace_done(&r->pace), pace_total(&r->pace), pace_left(&r->pace)};
    return r->events->progress && r->events->progress(r->events->user, &p);
}

/* Before it is known what there is to do. */
static bool stops(void *user)
{
    const run *r = user;
    study_progress p = {.what = ""};
    return r->events->progress && r->events->progress(r->events->user, &p);
}

static void on_say(void *user, const char *line) { say(user, "%s", line); }

/* What a session says of its work. */
static void on_log(void *user, lk_level level, const char *line)
{
    const run *r = user;
    if (r->events->log) r->events->log(r->events->user, level, line);
}

static bool open_session(run *r, error *e)
{
    lk_error why = {0};
    lk_session_options o;
    lk_session_defaults(&o);
    o.log = on_log;
    o.user = r;
    return lk_session_open(&r->session, r->context, &o, &why) || engine_failed(&why, e);
}

/* ---- what there is to do --------------------------------------------------------------------- */

/* Units that an update of this training counts. */
static double update_units(const lk_train_options *o)
{
    return o->with_prior_preservation || o->prior_from_base ? 1.5 : 1;
}

static void count_training(run *r, int i)
{
    const lk_train_options *o = &r->plan.model[i].train;
    if (r->models.is_ready[i]) return;
    if (o->with_prior_preservation && !o->prior_from_base)
        r->pace.wanted[PACE_CLASS] += (double)o->num_class_images * o->class_steps;
    r->pace.wanted[PACE_UPDATES] += (o->max_train_steps ? (double)o->max_train_steps : 100) *
                                    update_units(o);
}

static int distinct_cells(const study_plan *p)
{
    int n = 0;
    for (int i = 0; i < p->sections; i++) n += p->section[i].rows * p->section[i].columns;
    return n;
}

static bool count_work(run *r, error *e)
{
    cell_work all;
    cells_name(&r->plan, r->models.key_text, lk_context_precision(r->context));
    if (!cells_plan(&all, &r->plan, NULL, e)) return false;
    r->all_steps = all.steps;
    r->shared_steps = all.saved;
    cells_work_close(&all);
    if (!cells_plan(&r->work, &r->plan, r->options->folder, e)) return false;
    r->pace.wanted[PACE_STEPS] = (double)(r->work.steps - r->work.saved);
    r->pace.wanted[PACE_MEASURES] = r->work.count;
    for (int i = 0; i < r->plan.models; i++) count_training(r, i);
    return true;
}

/* ---- a dry run ------------------------------------------------------------------------------- */

typedef struct stopwatch {
    run *run;
    double first, last;
    int steps;
} stopwatch;

static int note_step(void *user, const lk_progress *p)
{
    stopwatch *w = user;
    if (p->step > 0) {
        w->last = clock_seconds();
        if (!w->steps++) w->first = w->last;
    }
    return stops(w->run);
}

/* Seconds of one step of the first picture, by running three with a model that is ready. */
static bool time_step(run *r, double *seconds, error *e)
{
    enum { RUN = 3 };
    const study_cell *c = &r->plan.section[0].cell[0];
    stopwatch w = {.run = r};
    lk_error why = {0};
    lk_image *made = NULL;
    int k = 0;
    while (k < r->plan.models && !r->models.is_ready[k]) k++;
    lk_generate_options o;
    lk_generate_defaults(&o);
    o.prompt = c->prompt;
    o.negative = c->negative;
    o.seed = c->seed;
    o.width = c->width;
    o.height = c->height;
    o.sampler = LK_DDIM;
    o.steps = RUN;
    o.guidance = c->guidance;
    o.progress = note_step;
    o.user = &w;
    if (!lk_generate(&made, r->session, r->models.open[k], &o, &why)) return engine_failed(&why, e);
    lk_image_close(&made);
    *seconds = (w.last - w.first) / (RUN - 1);
    return true;
}

static bool say_cost(run *r, error *e)
{
    double step, training = 0;
    if (!time_step(r, &step, e)) return false;
    for (int i = 0; i < r->plan.models; i++)
        if (!r->models.is_ready[i]) {
            int base = r->plan.model[i]
                           .base; /* which may itself be still to be trained: of one size */
            while (!r->models.is_ready[base]) base = r->plan.model[base].base;
            double bytes = (double)lk_train_memory(r->models.open[base], &r->plan.model[i].train);
            training = bytes > training ? bytes : training;
        }
    say(r,
        "about %s s of work at %s s a step, measured just now; memory: pictures %s (measured), "
        "training %s more for weights and optimizer",
        number_decimals(pace_total(&r->pace) * step, 0).text, number_decimals(step, 3).text,
        number_bytes((double)memory_peak()).text, number_bytes(training).text);
    return true;
}

/* What comes of photos on the default model, and what a real one would take here: a step of Stable
 * Diffusion 1.x at 512x512 takes about REAL_STEP of the default model's, an update of batch 1 with
 * the text encoder 2.5 steps, twice that with class pictures. */
static bool say_default(run *r, error *e)
{
    enum { REAL_STEP = 250, REAL_GIB = 11, REAL_UPDATES = 800, REAL_CLASS_STEPS = 50 * 50 };
    double step, steps = (double)(r->all_steps - r->shared_steps) + REAL_CLASS_STEPS +
                         REAL_UPDATES * 2.5 * 3;
    if (!time_step(r, &step, e)) return false;
    say(r,
        "the default model draws emoji and cannot draw photos; a real one (-m MODEL: a diffusers "
        "folder or a "
        ".safetensors of Stable Diffusion 1.x) takes about %d GiB of memory, of which %s are free, "
        "and about %d "
        "hours on this machine",
        REAL_GIB, number_bytes((double)memory_available()).text,
        (int)fmax(1, round(steps * step * REAL_STEP / 3600)));
    return true;
}

/* The plan that is made for photos, line by line. */
static void say_plan(const run *r)
{
    for (const char *at = r->plan.text; *at;) {
        int length = (int)strcspn(at, "\n");
        say(r, "%.*s", length, at);
        at += length + (at[length] == '\n');
    }
}

static void say_model(const run *r, int i)
{
    const study_models *m = &r->models;
    const char *name = r->plan.model[i].name;
    char *why = m->state[i] == TRAINED_OTHER ? trained_difference(m->folder[i], m->request[i])
                                             : NULL;
    if (why)
        say(r, "model %s: %s: %s; the old one is kept", name,
            m->is_ready[i] ? "to be taken back from before" : "to be trained anew", why);
    else
        say(r, "model %s: %s", name, m->is_ready[i] ? m->folder[i] : "to be trained");
    free(why);
}

static bool dry_run(run *r, error *e)
{
    if (r->options->photos) say_plan(r);
    for (int i = 0; i < r->plan.models; i++) say_model(r, i);
    for (int i = 0; i < r->plan.sections; i++) {
        const study_section *s = &r->plan.section[i];
        say(r, "%s: %d x %d pictures", s->title, s->rows, s->columns);
    }
    say(r,
        "%d pictures in all, %d of them to be made: %lld steps, %lld with shared beginnings "
        "computed once",
        distinct_cells(&r->plan), r->work.count, (long long)r->work.steps,
        (long long)(r->work.steps - r->work.saved));
    if (pace_total(&r->pace) > 0 && !say_cost(r, e)) return false;
    for (int i = 0; i < r->work.count; i++) {
        const study_cell *c = r->work.task[i].cell;
        say(r, "%s  %s, seed %llu, %d steps (%d shared), %s", c->name, c->prompt,
            (unsigned long long)c->seed, c->steps, r->work.task[i].shared, c->schedule);
    }
    return true;
}

/* So many pictures are made only when they are meant. */
static bool check_cost(const run *r, error *e)
{
    enum { MANY = 5000 };
    if (r->work.count < MANY || r->options->yes) return true;
    return error_set(e, ERROR_USAGE,
                     "%s asks for %d pictures, %lld steps (%lld with shared beginnings "
                     "computed once); see --dry-run, or say --yes",
                     r->options->plan, r->work.count, (long long)r->work.steps,
                     (long long)(r->work.steps - r->work.saved));
}

/* ---- training -------------------------------------------------------------------------------- */

typedef struct training {
    run *run;
    const lk_train_options *options;
    double classes, updates; /* steps of class pictures, and updates, that were told of */
} training;

static int on_training(void *user, const lk_train_progress *p)
{
    training *t = user;
    double more = 0;
    pace_kind kind = PACE_UPDATES;
    if (p->phase == LK_TRAIN_CLASS_PICTURES) {
        double now = (double)p->done * t->options->class_steps + (p->steps ? p->step : 0);
        kind = PACE_CLASS;
        more = now > t->classes ? now - t->classes : 0;
        t->classes += more;
    } else if (p->phase == LK_TRAIN_STEPS) {
        more = (double)p->done > t->updates ? (double)p->done - t->updates : 0;
        t->updates += more;
        more *= update_units(t->options);
    }
    return tell(t->run, kind, more);
}

static bool train_all(run *r, error *e)
{
    for (int i = 0; i < r->plan.models; i++) {
        char what[200];
        training t = {.run = r, .options = &r->plan.model[i].train};
        train_events events = {on_training, &t};
        if (r->models.is_ready[i]) continue;
        snprintf(what, sizeof what, "training %s", r->plan.model[i].name);
        r->what = what;
        pace_rest(&r->pace); /* what is there already is told of at once */
        if (!study_models_train(&r->models, i, &r->source, &events, e)) return false;
        r->what = "";
    }
    pace_rest(&r->pace);
    return true;
}

/* ---- pictures -------------------------------------------------------------------------------- */

static bool on_step(void *user)
{
    run *r = user;
    return tell(r, PACE_STEPS, 1);
}

/* Where a picture does not keep all threads busy, as many sessions of one thread as there are
 * threads. */
static bool open_crew(run *r, error *e)
{
    const study_cell *c = r->work.count ? r->work.task[0].cell : &r->plan.section[0].cell[0];
    lk_generate_options o = cell_options(c);
    int sessions = lk_generate_sessions(r->session,
                                        r->models.open[lk_schedule_at(c->mix, 0)->model[0]], &o);
    if (sessions > 1) return crew_open(&r->crew, r->context, sessions, e);
    r->crew.session = calloc(1, sizeof *r->crew.session);
    if (!r->crew.session) return error_memory(e, "a study's sessions", sizeof *r->crew.session);
    r->crew.session[r->crew.count++] = r->session;
    return true;
}

static void close_crew(run *r)
{
    if (r->crew.count && r->crew.session[0] == r->session) r->crew.count = 0;
    crew_close(&r->crew);
}

static bool make_images(run *r, error *e)
{
    char *cells = path_join(r->options->folder, "cells");
    cell_maker maker = {.crew = &r->crew,
                        .models = r->models.open,
                        .folder = r->options->folder,
                        .stepped = on_step,
                        .user = r};
    bool ok = cells ? path_make_dir(cells, e) : error_memory(e, "a folder's name", 64);
    if (ok) folder_sweep(cells);
    r->what = "pictures";
    ok = ok && cells_make(&r->work, &maker, &r->plan, &r->failed, e);
    free(cells);
    return ok;
}

/* ---- measures and page ----------------------------------------------------------------------- */

static bool on_measure(void *user, int done, int total)
{
    run *r = user;
    if (total > 1) r->pace.wanted[PACE_MEASURES] = total; /* 1 of 1: the tables */
    double more = done - r->pace.done[PACE_MEASURES];
    return tell(r, PACE_MEASURES, more > 0 && total > 1 ? more : 0);
}

/* Seconds that earlier runs of this folder took, which times.json sums up. */
static double earlier_seconds(const char *folder)
{
    char *path = path_join(folder, "times.json");
    json_t *j = path && path_is_file(path) ? json_read(path, JSON_LIMIT, NULL) : NULL;
    double seconds = json_number_value(json_object_get(j, "seconds"));
    json_decref(j);
    free(path);
    return seconds;
}

static bool save_times(const run *r, error *e)
{
    json_t *j = json_pack("{s:f, s:f}", "seconds", r->earlier + clock_seconds() - r->began,
                          "peak_mb", (double)memory_peak() / 1e6);
    bool ok = json_write_in(j, r->options->folder, "times.json", e);
    json_decref(j);
    return ok;
}

/* The hashes of the models' weights, which inspect and the pictures tell too; each computed once.
 */
static const char **hash_models(run *r, error *e)
{
    const char **hash = arena_alloc(&r->plan.memory, ((size_t)r->models.count + 1) * sizeof *hash);
    if (!hash) error_memory(e, "a study's models", 64);
    for (int i = 0; hash && i < r->models.count; i++) hash[i] = lk_model_hash(r->models.open[i]);
    return hash;
}

static bool write_page(run *r, const measure_source *from, const study_measures *m, error *e)
{
    const char **hash = hash_models(r, e);
    size_t subjects = (size_t)m->subjects + 1;
    subject_images *pictures = arena_alloc(&r->plan.memory, subjects * sizeof *pictures);
    if (!hash) return false;
    if (!pictures) return error_memory(e, "the subject's pictures", subjects * sizeof *pictures);
    if (!subject_images_write(pictures, from, m, e)) return false;
    page_source s = {.plan = &r->plan,
                     .measures = m,
                     .pictures = pictures,
                     .folder = r->options->folder,
                     .model_hash = hash,
                     .device = lk_context_device(r->context),
                     .precision = lk_context_precision(r->context),
                     .clip = r->options->clip,
                     .dino = r->options->dino,
                     .version = lk_version(),
                     .steps = r->all_steps,
                     .steps_shared = r->shared_steps,
                     .seconds = r->earlier + clock_seconds() - r->began,
                     .peak_mb = (double)memory_peak() / 1e6,
                     .training_seconds = r->models.seconds};
    return study_measures_write(m, &r->plan, r->options->folder, e) && page_write_cells(&s, e) &&
           page_write(&s, e);
}

static bool measure(run *r, error *e)
{
    study_measures measures;
    measure_source s = {.session = r->session,
                        .crew = &r->crew,
                        .plan = &r->plan,
                        .models = r->models.open,
                        .again = true,
                        .folder = r->options->folder,
                        .class_folder = (const char *const *)r->models.class_folder,
                        .clip = r->options->clip,
                        .dino = r->options->dino,
                        .progress = on_measure,
                        .user = r};
    r->what = "measuring";
    pace_rest(&r->pace);
    if (!study_measure(&measures, &s, e)) return false;
    bool ok = write_page(r, &s, &measures, e);
    study_measures_close(&measures);
    return ok;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* The folder is the study's from here on, and every trained model has its place in it. */
static bool claim(run *r, error *e)
{
    char *moved = NULL;
    bool ok = path_make_dir(r->options->folder, e) &&
              folder_lock(&r->lock, r->options->folder, e) &&
              study_folder_begin(&r->place, &r->plan, &moved, e);
    if (ok) folder_sweep(r->options->folder); /* what killed runs left half-written */
    if (moved) say(r, "the plan.json that was changed by hand is now %s", moved);
    free(moved);
    for (int i = 0; ok && i < r->plan.models; i++)
        ok = study_models_claim(&r->models, i, &r->source, e);
    return ok;
}

static bool work(run *r, error *e)
{
    bool begun = claim(r, e);
    r->earlier = begun ? earlier_seconds(r->options->folder) : 0;
    bool ok = begun && train_all(r, e) && open_crew(r, e) && make_images(r, e) && measure(r, e);
    close_crew(r);
    if (begun) {
        error ignored = {0};
        ok = save_times(r, ok ? e : &ignored) && ok;
    }
    folder_unlock(&r->lock);
    return ok;
}

static bool read_plan(run *r, error *e)
{
    const study_options *o = r->options;
    json_t *json;
    if (!o->photos) return study_plan_read(&r->plan, o->plan, o->root, e);
    if (!photos_plan(&json, o->photos, o->plan, e)) return false;
    bool ok = plan_read_json(&r->plan, json, o->plan, ".", o->root, e);
    json_decref(json);
    return ok;
}

bool study_run(lk_context *context, const study_options *o, const study_events *events, error *e)
{
    run r = {.context = context,
             .options = o,
             .events = events,
             .lock = -1,
             .what = "",
             .began = clock_seconds()};
    bool ok = read_plan(&r, e);
    if (!ok) return false;
    ok = open_session(&r, e);
    r.place = (study_place){o->folder, o->photos ? NULL : o->plan, o->root, lk_version()};
    r.source = (study_source){.context = context,
                              .session = r.session,
                              .plan = &r.plan,
                              .folder = o->folder,
                              .stop = stops,
                              .say = on_say,
                              .user = &r};
    ok = ok && field_check(r.session, o->clip, o->dino, e) &&
         study_folder_check(&r.place, &r.plan, e) && study_models_open(&r.models, &r.source, e) &&
         plan_open_nets(&r.plan, context, e) && count_work(&r, e);
    if (ok && o->photos && strcmp(r.plan.model[0].path, "pocket") == 0) ok = say_default(&r, e);
    if (ok && o->dry_run)
        ok = dry_run(&r, e);
    else
        ok = ok && check_cost(&r, e) && work(&r, e);
    if (ok && !o->dry_run) say(&r, "%s/report.html", o->folder);
    if (ok && r.failed)
        ok = error_set(e, ERROR_NUMERIC,
                       "%d of %d pictures could not be made; %s/report.html says which and "
                       "why",
                       r.failed, r.work.count, o->folder);
    cells_work_close(&r.work);
    study_models_close(&r.models);
    lk_session_close(&r.session);
    study_plan_close(&r.plan);
    return ok;
}
