/* SPDX-License-Identifier: Apache-2.0
 *
 * session: lk_session, one thread's work in a context: who is at work in it, what it keeps for
 * which model, and how it is stopped from elsewhere. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"

static const lk_session_options session_defaults = {.size = sizeof(lk_session_options)};

void lk_session_defaults_sized(lk_session_options *o, size_t size)
{
    options_give(o, size, &session_defaults, sizeof session_defaults);
}

bool lk_session_open(lk_session **out, lk_context *c, const lk_session_options *given,
                     lk_error *caller)
{
    error e = {0};
    lk_session_options o = session_defaults;
    *out = NULL;
    lk_session *s = calloc(1, sizeof *s);
    bool ok = (s || error_memory(&e, "a session", sizeof *s)) &&
              api_options(&o, sizeof o, given, "lk_session_options", &e) &&
              (o.threads >= 0 ||
               error_set(&e, ERROR_USAGE, "%d threads: not a number of threads", o.threads));
    int most = c->device->threads;
    ok = ok && device_open_beside(&s->device, c->device,
                                  o.threads > 0 && o.threads < most ? o.threads : most, &e);
    if (ok) {
        s->context = c;
        s->device->stop = &s->stop;
        s->log = o.log ? o.log : c->log;
        s->user = o.log ? o.user : c->user;
        atomic_init(&s->stop, false);
        pthread_mutex_lock(&c->lock);
        s->next = c->sessions;
        c->sessions = s;
        pthread_mutex_unlock(&c->lock);
        *out = s;
    } else {
        free(s);
    }
    return api_report(ok, &e, caller);
}

/* The session gives up its share in a model, m NULL: in all. The context's lock is held. */
static void forget(lk_session *s, const lk_model *m)
{
    for (session_model **at = &s->models; *at;) {
        session_model *one = *at;
        if (m && one->model != m) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        generator_close(&one->generator);
        model_release(one->model);
        free(one);
    }
}

void lk_session_close(lk_session **session)
{
    if (!session) return;
    lk_session *s = *session;
    if (!s) return;
    pthread_mutex_lock(&s->context->lock);
    forget(s, NULL);
    lk_session **at = &s->context->sessions;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    pthread_mutex_unlock(&s->context->lock);
    device_close(&s->device);
    free(s);
    *session = NULL;
}

int lk_session_threads(const lk_session *s) { return s->device->threads; }

void lk_session_cancel(lk_session *s) { atomic_store(&s->stop, true); }
void lk_session_resume(lk_session *s) { atomic_store(&s->stop, false); }
bool session_stopped(const lk_session *s) { return atomic_load(&s->stop); }

/* ---- who is at work ---- */

bool session_enter(lk_session *s, error *e)
{
    if (session_stopped(s))
        return error_set(e, ERROR_CANCELLED,
                         "cancelled; lk_session_resume lets the session work again");
    pthread_mutex_lock(&s->context->lock);
    bool idle = !s->busy;
    s->busy = true;
    pthread_mutex_unlock(&s->context->lock);
    if (!idle)
        return error_set(e, ERROR_USAGE, "the session is at work; another thread needs its own");
    return true;
}

void session_leave(lk_session *s)
{
    pthread_mutex_lock(&s->context->lock);
    for (session_model *one = s->models, *next; one; one = next) {
        next = one->next;
        if (one->model->closed) forget(s, one->model);
    }
    s->busy = false;
    pthread_mutex_unlock(&s->context->lock);
}

generator *session_generator(lk_session *s, lk_model *m, error *e)
{
    for (session_model *one = s->models; one; one = one->next)
        if (one->model == m) return one->generator;
    if (m->context != s->context) {
        error_set(e, ERROR_USAGE, "%s: is open in another context than the session",
                  m->model->path);
        return NULL;
    }
    session_model *one = calloc(1, sizeof *one);
    if (!one) {
        error_memory(e, "a session's model", sizeof *one);
        return NULL;
    }
    if (!generator_open(&one->generator, s->device, m->model, e)) {
        free(one);
        return NULL;
    }
    one->model = m;
    pthread_mutex_lock(&s->context->lock);
    m->shares++;
    one->next = s->models;
    s->models = one;
    pthread_mutex_unlock(&s->context->lock);
    return one->generator;
}

/* ---- models, as the caller closes them ---- */

void model_release(lk_model *m)
{
    if (--m->shares) return;
    for (int i = 0; i < 3; i++) device_weights_close(&m->weights[i]);
    model_close(&m->model);
    if (m->base) model_release(m->base);
    free(m);
}

void lk_model_close(lk_model **closed)
{
    lk_model *m = closed ? *closed : NULL;
    if (!m) return;
    lk_context *c = m->context;
    pthread_mutex_lock(&c->lock);
    m->closed = true;
    for (lk_session *s = c->sessions; s; s = s->next)
        if (!s->busy) forget(s, m);
    model_release(m);
    pthread_mutex_unlock(&c->lock);
    *closed = NULL;
}

/* ---- side by side ---- */

enum { SESSION_BYTES = 256 << 20 }; /* of memory left, for each session beside the others */

int session_room(const lk_session *s, int wanted)
{
    double left = (double)s->device->memory_left(s->device);
    while (wanted > 1 && left < (double)wanted * SESSION_BYTES) wanted--;
    return wanted;
}

/* ---- the log ---- */

void session_say(lk_session *s, const char *line)
{
    static const char mark[] = "warning: ";
    bool warns = strncmp(line, mark, sizeof mark - 1) == 0;
    if (s->log)
        s->log(s->user, warns ? LK_LOG_WARNING : LK_LOG_INFO,
               warns ? line + sizeof mark - 1 : line);
}
