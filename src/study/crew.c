/* SPDX-License-Identifier: Apache-2.0
 *
 * crew: see crew.h. */
#include "study/crew.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/threads.h"

/* ---- sessions -------------------------------------------------------------------------------- */

bool crew_open(crew *c, lk_context *context, int count, error *e)
{
    lk_error why = {0};
    lk_session_options o;
    lk_session_defaults(&o);
    o.threads = 1;
    *c = (crew){.session = calloc((size_t)count, sizeof *c->session)};
    if (!c->session)
        return error_memory(e, "a study's sessions", (size_t)count * sizeof *c->session);
    for (; c->count < count; c->count++)
        if (!lk_session_open(&c->session[c->count], context, &o, &why)) {
            crew_close(c);
            return engine_failed(&why, e);
        }
    return true;
}

void crew_close(crew *c)
{
    for (int i = 0; i < c->count; i++) lk_session_close(&c->session[i]);
    free(c->session);
    *c = (crew){0};
}

/* ---- work ------------------------------------------------------------------------------------ */

struct crew_run {
    const crew_work *work;
    _Atomic(thread_crew *) threads;
    atomic_int next;
    atomic_int_least64_t done;
    int64_t told;
    atomic_bool stop;
    pthread_mutex_t lock; /* of what pieces share */
    pthread_mutex_t failing;
    error why; /* the first that ended it */
};

static void fail(crew_run *r, const error *why)
{
    pthread_mutex_lock(&r->failing);
    if (!r->why.code) r->why = *why; /* none: a piece that it ends will say what it was at */
    pthread_mutex_unlock(&r->failing);
    atomic_store(&r->stop, true);
}

static void work(thread_crew *threads, void *context, int worker)
{
    crew_run *r = context;
    atomic_store(&r->threads, threads);
    for (int i; !atomic_load(&r->stop) && (i = atomic_fetch_add(&r->next, 1)) < r->work->pieces;) {
        error why = {0};
        if (!r->work->piece(r->work->context, r, i, worker, &why)) fail(r, &why);
    }
}

static void attend(void *context)
{
    crew_run *r = context;
    error why = {0};
    int64_t done = atomic_load(&r->done), more = done - r->told;
    r->told = done;
    if (more && !atomic_load(&r->stop) && !r->work->told(r->work->context, r, more, &why))
        fail(r, &why);
}

bool crew_do(const crew *c, const crew_work *w, error *e)
{
    crew_run r = {.work = w};
    pthread_mutex_init(&r.lock, NULL);
    pthread_mutex_init(&r.failing, NULL);
    thread_crew_run(c->count < w->pieces ? c->count : w->pieces, work, attend, &r);
    pthread_mutex_destroy(&r.lock);
    pthread_mutex_destroy(&r.failing);
    if (r.why.code) return error_set(e, r.why.code, "%s", r.why.text);
    return !atomic_load(&r.stop) || error_set(e, ERROR_CANCELLED, "stopped");
}

bool crew_step(crew_run *r)
{
    atomic_fetch_add(&r->done, 1);
    thread_crew_tell(atomic_load(&r->threads));
    return atomic_load(&r->stop);
}

void crew_lock(crew_run *r) { pthread_mutex_lock(&r->lock); }
void crew_unlock(crew_run *r) { pthread_mutex_unlock(&r->lock); }
