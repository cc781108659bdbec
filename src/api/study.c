/* SPDX-License-Identifier: Apache-2.0
 *
 * study: lk_study. */
#include "api/api.h"

#include <stdlib.h>

#include "base/platform.h"
#include "model/find.h"
#include "study/study.h"

static bool on_study_progress(void *user, const study_progress *p)
{
    const lk_study_options *o = user;
    lk_study_progress out = {p->what, p->done, p->total, p->left};
    return o->progress && o->progress(o->user, &out) != 0;
}

static void on_study_say(void *user, const char *line)
{
    const lk_study_options *o = user;
    if (o->say) o->say(o->user, line);
}

bool lk_study(lk_context *c, const lk_study_options *o, lk_error *caller)
{
    error e = {0};
    char *root = find_root(&e), *pocket = root ? find_pocket(&e) : NULL;
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
    study_events events = {on_study_progress, on_study_say, (void *)(uintptr_t)o};
    bool ok = pocket && (options.plan || error_memory(&e, "a plan", 64)) &&
              (!o->photos || (!o->plan && o->name && o->class_name) ||
               error_set(&e, ERROR_USAGE,
                         "a study of photos needs a name and a class, and makes its own plan")) &&
              study_run(c->device, &options, &events, &e);
    free(root);
    free(pocket);
    free(plan);
    return api_report(ok, &e, caller);
}
