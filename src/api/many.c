/* SPDX-License-Identifier: Apache-2.0
 *
 * many: lk_generate_many, pictures that are independent of each other: dealt out to sessions side
 * by side, alike ones together, handed to the caller one by one in their order. Which way a picture
 * is made does not change it. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "base/threads.h"
#include "generate/hires.h"
#include "model/hash.h"

static const lk_job job_defaults = {.size = sizeof(lk_job), .count = 1};
static const lk_many_options many_defaults = {.size = sizeof(lk_many_options)};

void lk_job_defaults_sized(lk_job *job, size_t size)
{
    options_give(job, size, &job_defaults, sizeof job_defaults);
}

void lk_many_defaults_sized(lk_many_options *o, size_t size)
{
    options_give(o, size, &many_defaults, sizeof many_defaults);
}

/* One job as we know it. */
typedef struct task {
    lk_job job;
    lk_generate_options o;
    generate_options in; /* the same */
    control *controls;   /* of it; NULL: none */
    lk_image *made;
    int steps; /* of it that were counted */
} task;

typedef struct many {
    lk_many_options o;
    task *task;
    size_t count;
    lk_session *session; /* the caller's */
    lk_session **worker;
    int workers, together;
    int64_t steps; /* of all */
    double start;
    thread_crew *crew;
    atomic_bool stop;     /* nothing more is wanted */
    pthread_mutex_t lock; /* of what follows, and of what was made */
    size_t next;          /* the first that nobody has taken */
    size_t failed;        /* the first that could not be made; count: none */
    error why;
    int64_t stepped;
    size_t told; /* those before it the caller has */
} many;

/* ---- a worker ---- */

/* Made by one call of mixed_run: the same models in the same turns, the same steps. */
static bool alike(const task *a, const task *b)
{
    const lk_job *s = &a->job, *t = &b->job;
    bool schedules = !s->schedule == !t->schedule &&
                     (!s->schedule || strcmp(s->schedule, t->schedule) == 0);
    if (!schedules || s->count != t->count || s->names != t->names) return false;
    for (int i = 0; i < s->count; i++)
        if (s->models[i] != t->models[i]) return false;
    return generate_alike(&a->in, &b->in);
}

/* The next jobs for a worker, from *begin: how many; 0: there are none. Towards the end fewer at
 * once, so that all workers come to theirs at about the same time. */
static int take(many *m, size_t *begin)
{
    pthread_mutex_lock(&m->lock);
    size_t left = m->count - m->next, share = left / (size_t)m->workers, most = (size_t)m->together;
    if (m->workers > 1 && most > share) most = share ? share : 1;
    if (atomic_load(&m->stop) || m->failed < m->count) left = 0;
    size_t n = left ? 1 : 0;
    while (n && n < most && n < left && alike(&m->task[m->next], &m->task[m->next + n])) n++;
    *begin = m->next;
    m->next += n;
    pthread_mutex_unlock(&m->lock);
    return (int)n;
}

typedef struct piece {
    many *all;
    size_t begin;
} piece;

static bool stepped(void *user, int k, int step, int steps)
{
    piece *p = user;
    many *m = p->all;
    task *t = &m->task[p->begin + (size_t)k];
    (void)steps;
    pthread_mutex_lock(&m->lock);
    if (step > t->steps) { /* what is made a second time does not count again */
        m->stepped += step - t->steps;
        t->steps = step;
    }
    bool stop = m->failed < p->begin + (size_t)k;
    pthread_mutex_unlock(&m->lock);
    thread_crew_tell(m->crew);
    return stop || atomic_load(&m->stop) || session_stopped(m->session);
}

static mixed mixed_of(const lk_job *j, lk_session *s, const lk_generate_options *const *given,
                      int n)
{
    return (mixed){.session = s,
                   .model = j->models,
                   .name = j->names,
                   .count = j->count,
                   .schedule = j->schedule,
                   .given = given,
                   .pictures = n};
}

static bool make(many *m, lk_session *s, size_t begin, int n, error *e)
{
    const lk_generate_options **given = calloc((size_t)n, sizeof *given);
    lk_image **made = calloc((size_t)n, sizeof *made);
    piece p = {m, begin};
    mixed t = mixed_of(&m->task[begin].job, s, given, n);
    t.stepped = stepped;
    t.user = &p;
    bool ok = (given && made) || error_memory(e, "pictures", (size_t)n * sizeof *made);
    for (int k = 0; ok && k < n; k++) given[k] = &m->task[begin + (size_t)k].o;
    ok = ok && mixed_run(made, &t, e);
    pthread_mutex_lock(&m->lock);
    for (int k = 0; ok && k < n; k++) m->task[begin + (size_t)k].made = made[k];
    pthread_mutex_unlock(&m->lock);
    free(given);
    free(made);
    if (ok) thread_crew_tell(m->crew);
    return ok;
}

/* What one picture cannot be is no failure of those that were to be made with it. */
static void make_piece(many *m, lk_session *s, size_t begin, int n)
{
    error why = {0};
    if (make(m, s, begin, n, &why)) return;
    bool stopped = why.code == ERROR_CANCELLED;
    if (n > 1 && !stopped) {
        for (int k = 0; k < n; k++) make_piece(m, s, begin + (size_t)k, 1);
        return;
    }
    pthread_mutex_lock(&m->lock);
    if (!stopped && begin < m->failed) {
        m->failed = begin;
        m->why = why;
    }
    pthread_mutex_unlock(&m->lock);
    if (stopped && session_stopped(m->session)) atomic_store(&m->stop, true);
}

static void work(thread_crew *crew, void *context, int worker)
{
    many *m = context;
    size_t begin;
    pthread_mutex_lock(&m->lock);
    m->crew = crew;
    pthread_mutex_unlock(&m->lock);
    for (int n; (n = take(m, &begin));) make_piece(m, m->worker[worker], begin, n);
}

/* ---- the caller ---- */

/* Hands over what is made; in order, or (all) with gaps where some could not be. */
static void hand_over(many *m, bool all)
{
    while (m->told < m->count) {
        pthread_mutex_lock(&m->lock);
        task *t = &m->task[m->told];
        lk_image *picture = t->made;
        t->made = NULL;
        pthread_mutex_unlock(&m->lock);
        if (!picture && !all) return;
        size_t i = m->told++;
        if (picture && m->o.made) {
            if (m->o.made(m->o.user, i, picture) != 0) {
                atomic_store(&m->stop, true);
                m->o.made = NULL; /* it wants no more */
            }
        } else {
            lk_image_close(&picture);
        }
    }
}

static void attend(void *context)
{
    many *m = context;
    hand_over(m, false);
    pthread_mutex_lock(&m->lock);
    lk_progress p = {sizeof p,        (int)m->told,  (int)m->count,
                     (int)m->stepped, (int)m->steps, clock_seconds() - m->start};
    pthread_mutex_unlock(&m->lock);
    if (m->o.progress && !atomic_load(&m->stop) && m->o.progress(m->o.user, &p) != 0)
        atomic_store(&m->stop, true);
}

/* ---- before ---- */

static bool take_jobs(many *m, const lk_job *const *jobs, error *e)
{
    m->task = calloc(m->count + 1, sizeof *m->task);
    if (!m->task) return error_memory(e, "pictures", m->count * sizeof *m->task);
    for (size_t i = 0; i < m->count; i++) {
        task *t = &m->task[i];
        t->job = job_defaults;
        if (!api_options(&t->job, sizeof t->job, jobs[i], "lk_job", e) ||
            !generate_options_take(&t->o, t->job.options, e) ||
            !api_options_all(&t->in, &t->controls, &t->o, e))
            return false;
        if (t->job.count < 1 || !t->job.models)
            return error_set(e, ERROR_USAGE, "lk_job: job %zu has no model", i);
        if (t->job.schedule && !t->job.names)
            return error_set(e, ERROR_USAGE, "lk_job: job %zu has a schedule and no names", i);
        t->steps = t->o.from ? t->o.from->state.step : 0;
        m->steps += generate_steps(&t->in) + hires_steps(&t->in) - t->steps;
    }
    return true;
}

/* How many together, and side by side: as little as the largest kind of picture wants. */
static bool plan(many *m, error *e)
{
    m->together = 1 << 20;
    m->workers = lk_session_threads(m->session);
    for (size_t i = 0; i < m->count; i++) {
        const task *t = &m->task[i];
        const lk_generate_options *given = &t->o;
        mixed one = mixed_of(&t->job, m->session, &given, 1);
        int together;
        bool small;
        if (i && alike(t, &m->task[i - 1])) continue;
        if (!mixed_size(&one, &together, &small, e)) return false;
        if (together < m->together) m->together = together;
        if (!small) m->workers = 1;
    }
    if ((size_t)m->workers > m->count) m->workers = (int)m->count;
    m->workers = session_room(m->session, m->workers);
    return true;
}

/* Once, by all threads, before every picture's settings want it. */
static bool hash_models(const many *m, error *e)
{
    char hash[65];
    api_watch watch;
    api_watch_start(&watch, NULL, NULL, m->session);
    for (size_t i = 0; i < m->count; i++)
        for (int k = 0; k < m->task[i].job.count; k++)
            if (!model_hash_watched(m->task[i].job.models[k]->model, m->session->device->pool,
                                    &watch.work, hash, e))
                return false;
    return true;
}

static bool open_workers(many *m, error *e)
{
    lk_session_options o;
    lk_error why = {LK_OK, ""};
    lk_session_defaults(&o);
    o.threads = 1;
    m->worker = calloc((size_t)m->workers, sizeof *m->worker);
    if (!m->worker) return error_memory(e, "sessions", (size_t)m->workers * sizeof *m->worker);
    if (m->workers == 1) m->worker[0] = m->session;
    for (int i = 0; m->workers > 1 && i < m->workers; i++) {
        if (!lk_session_open(&m->worker[i], m->session->context, &o, &why))
            return error_set(e, (error_code)why.code, "%s", why.text);
        m->worker[i]->device->stop = &m->session->stop; /* the caller's cancels all */
    }
    return true;
}

static void close_all(many *m)
{
    for (int i = 0; m->worker && m->workers > 1 && i < m->workers; i++)
        lk_session_close(&m->worker[i]);
    for (size_t i = 0; m->task && i < m->count; i++) {
        lk_image_close(&m->task[i].made);
        free(m->task[i].controls);
    }
    free(m->worker);
    free(m->task);
    pthread_mutex_destroy(&m->lock);
}

static bool run(many *m, error *e)
{
    bool side_by_side = m->workers > 1;
    if (side_by_side && !session_enter(m->session, e)) return false;
    m->start = clock_seconds();
    attend(m); /* step 0 */
    thread_crew_run(m->workers, work, attend, m);
    hand_over(m, true);
    if (side_by_side) session_leave(m->session);
    if (m->why.code) return error_set(e, m->why.code, "%s", m->why.text);
    return (!atomic_load(&m->stop) && !session_stopped(m->session)) ||
           error_set(e, ERROR_CANCELLED, "stopped");
}

bool lk_generate_many(lk_session *session, const lk_job *const *jobs, size_t count,
                      const lk_many_options *given, lk_error *caller)
{
    error e = {0};
    many m = {.o = many_defaults, .count = count, .failed = count, .session = session};
    pthread_mutex_init(&m.lock, NULL);
    bool ok = api_options(&m.o, sizeof m.o, given, "lk_many_options", &e) &&
              (count <= INT32_MAX || error_set(&e, ERROR_USAGE, "%zu pictures at once", count)) &&
              take_jobs(&m, jobs, &e) &&
              (!count ||
               (plan(&m, &e) && hash_models(&m, &e) && open_workers(&m, &e) && run(&m, &e)));
    close_all(&m);
    return api_report(ok, &e, caller);
}
