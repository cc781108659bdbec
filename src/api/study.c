/* SPDX-License-Identifier: Apache-2.0
 *
 * study: lk_study. */
#include "api/api.h"

#include <stdlib.h>

#include "base/platform.h"
#include "model/find.h"
#include "study/study.h"

static const lk_study_options study_defaults = {.size = sizeof(lk_study_options)};

void lk_study_defaults_sized(lk_study_options *o, size_t size)
{
    api_give(o, size, &study_defaults, sizeof study_defaults);
}

/* What a study's callbacks need to know. */
typedef struct studying {
    lk_session *session;
    lk_study_options o;
} studying;

static bool on_progress(void *user, const study_progress *p)
{
    const studying *s = user;
    lk_study_progress out = {sizeof out, p->what, p->done, p->total, p->left};
    bool stop = s->o.progress && s->o.progress(s->o.user, &out) != 0;
    return stop || session_stopped(s->session);
}

static void on_say(void *user, const char *line)
{
    const studying *s = user;
    session_say(s->session, line);
}

static bool study(studying *s, error *e)
{
    const lk_study_options *o = &s->o;
    char *root = find_root(e), *pocket = root ? find_pocket(e) : NULL;
    char *plan = root && !o->plan ? path_join(root, "examples/report.json") : NULL;
    photos_request photos = {o->photos, o->name, o->class_name, o->model};
    study_options options = {.plan = o->plan ? o->plan : plan,
                             .photos = o->photos ? &photos : NULL,
                             .root = root,
                             .pocket = pocket,
                             .folder = o->folder,
                             .clip = o->clip,
                             .dino = o->dino,
                             .dry_run = o->dry_run,
                             .yes = o->yes,
                             .version = lk_version()};
    study_events events = {on_progress, on_say, s};
    bool ok = pocket && (options.plan || error_memory(e, "a plan", 64)) &&
              (!o->photos || (!o->plan && o->name && o->class_name) ||
               error_set(e, ERROR_USAGE,
                         "a study of photos needs a name and a class, and makes its own plan")) &&
              study_run(s->session->device, &options, &events, e);
    free(root);
    free(pocket);
    free(plan);
    return ok;
}

bool lk_study(lk_session *session, const lk_study_options *given, lk_error *caller)
{
    error e = {0};
    studying s = {session, study_defaults};
    bool ok = api_options(&s.o, sizeof s.o, given, "lk_study_options", &e) && session_enter(session, &e);
    if (ok) {
        ok = study(&s, &e);
        session_leave(session);
    }
    return api_report(ok, &e, caller);
}
