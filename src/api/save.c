/* SPDX-License-Identifier: Apache-2.0
 *
 * save: lk_model_save, a model in one of the forms that it can have. */
#include "api/api.h"

#include <strings.h>
#include <string.h>

#include "base/platform.h"
#include "model/merge.h"
#include "model/write.h"

static const lk_save_options save_defaults = {.size = sizeof(lk_save_options)};

void lk_save_defaults_sized(lk_save_options *o, size_t size)
{
    options_give(o, size, &save_defaults, sizeof save_defaults);
}

static bool is_single(const char *path)
{
    static const char ending[] = ".safetensors";
    size_t length = strlen(path), n = sizeof ending - 1;
    return length > n && !strcasecmp(path + length - n, ending);
}

static bool save_single(lk_session *s, const model *m, const char *path, const dtype *as,
                        const work_watch *watch, error *e)
{
    if (path_is_dir(path))
        return error_set(e, ERROR_USAGE,
                         "%s: is a folder, and a name that ends so is one file; choose another "
                         "name",
                         path);
    if (path_is_same(m->path, path))
        return error_set(e, ERROR_USAGE, "%s: the model itself lies there; choose another name",
                         path);
    if (!model_write_single(m, as, path, watch, e)) return false;
    const char *lost = model_single_loses(m);
    char line[600];
    if (!lost) return true;
    snprintf(line, sizeof line,
             "warning: %.300s does not tell %s: other programs must be told (diffusers: config=)",
             path, lost);
    session_say(s, line);
    return true;
}

static bool save(lk_session *s, const model *m, const char *path, const lk_save_options *o,
                 error *e)
{
    dtype type, *as = o->dtype ? &type : NULL;
    api_watch watch;
    if (as && !precision_parse(as, o->dtype))
        return error_set(e, ERROR_USAGE, "dtype \"%.40s\": there are f32, f16 and bf16", o->dtype);
    api_watch_start(&watch, o->progress, o->user, s);
    return is_single(path) ? save_single(s, m, path, as, &watch.work, e)
                           : model_save_folder(m, path, as, &watch.work, e);
}

bool lk_model_save(lk_session *s, lk_model *m, const char *path, const lk_save_options *given,
                   lk_error *caller)
{
    error e = {0};
    lk_save_options o = save_defaults;
    bool ok = api_options(&o, sizeof o, given, "lk_save_options", &e) &&
              (path && *path
                   ? true
                   : error_set(&e, ERROR_USAGE, "where should the model go? There is no path")) &&
              session_enter(s, &e);
    if (ok) {
        ok = save(s, m->model, path, &o, &e);
        session_leave(s);
    }
    return api_report(ok, &e, caller);
}
