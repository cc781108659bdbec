/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness_study: lk_study. */
#include <likeness_study.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "base/platform.h"
#include "study/study.h"

/* The folder that holds `examples`; a plan of the caller's can do without. malloc'ed. */
static char *find_root(bool needed, error *e)
{
    char *examples = path_beside("examples"), *above = examples ? path_join(examples, "..") : NULL;
    char *root = above ? path_absolute(above) : NULL;
    free(examples);
    free(above);
    if (!root && needed)
        error_set(e, ERROR_FILE,
                  "the examples are not beside the program: it is not whole; install it anew");
    else if (!root && !(root = strdup(".")))
        error_memory(e, "a path", 2);
    return root;
}

static const lk_study_options defaults = {.size = sizeof(lk_study_options)};

void lk_study_defaults_sized(lk_study_options *o, size_t size)
{
    options_give(o, size, &defaults, sizeof defaults);
}

static bool on_progress(void *user, const study_progress *p)
{
    const lk_study_options *o = user;
    lk_study_progress out = {sizeof out, p->what, p->done, p->total, p->left};
    return o->progress && o->progress(o->user, &out) != 0;
}

static void on_log(void *user, lk_level level, const char *line)
{
    const lk_study_options *o = user;
    if (o->log) o->log(o->user, level, line);
}

static bool study(lk_context *context, lk_study_options *o, error *e)
{
    char *root = find_root(!o->plan, e);
    char *plan = root && !o->plan ? path_join(root, "examples/report.json") : NULL;
    photos_request photos = {o->photos, o->name, o->class_name, o->model};
    study_options options = {.plan = o->plan ? o->plan : plan,
                             .photos = o->photos ? &photos : NULL,
                             .root = root,
                             .folder = o->folder,
                             .clip = o->clip,
                             .dino = o->dino,
                             .dry_run = o->dry_run,
                             .yes = o->yes};
    study_events events = {on_progress, on_log, o};
    bool ok = root && (options.plan || error_memory(e, "a plan", 64)) &&
              (o->folder || error_set(e, ERROR_USAGE, "a study needs a folder to write to")) &&
              (!o->photos || (!o->plan && o->name && o->class_name) ||
               error_set(e, ERROR_USAGE,
                         "a study of photos needs a name and a class, and makes its own plan")) &&
              study_run(context, &options, &events, e);
    free(root);
    free(plan);
    return ok;
}

bool lk_study(lk_context *context, const lk_study_options *given, lk_error *caller)
{
    error e = {0};
    lk_study_options o = defaults;
    bool ok = options_take(&o, sizeof o, given, "lk_study_options", lk_version(), &e) &&
              study(context, &o, &e);
    if (!ok && caller && caller->code == LK_OK) {
        caller->code = (lk_code)e.code;
        snprintf(caller->text, sizeof caller->text, "%s", e.text);
    }
    return ok;
}
