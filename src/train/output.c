/* SPDX-License-Identifier: Apache-2.0
 *
 * output: see output.h. */
#include "train/output.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/folder.h"
#include "base/number.h"
#include "base/platform.h"
#include "file/json.h"
#include "train/forecast.h"
#include "train/identity.h"

#define RECORD "train.json"

/* ---- folders that may not be one ---- */

/* Whether two paths are one folder, by whatever names; where one is not there yet, by their names.
 */
static bool same_place(const char *a, const char *b)
{
    struct stat x, y;
    if (!a || !b) return false;
    if (stat(a, &x) == 0 && stat(b, &y) == 0) return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
    size_t n = strlen(a), m = strlen(b);
    while (n > 1 && a[n - 1] == '/') n--;
    while (m > 1 && b[m - 1] == '/') m--;
    return n == m && memcmp(a, b, n) == 0;
}

static bool check_places(const trainer *t, error *e)
{
    const train_settings *s = &t->settings;
    const char *classes = train_setting_determines(s, "num_class_images") ? s->class_data_dir
                                                                          : NULL;
    if (same_place(s->output_dir, t->model->path))
        return error_set(e, ERROR_USAGE,
                         "--output_dir %s: the model itself lies there; choose another folder",
                         s->output_dir);
    if (same_place(s->output_dir, s->instance_data_dir) || same_place(s->output_dir, classes))
        return error_set(
            e, ERROR_USAGE, "--output_dir %s: the %s pictures lie there; choose another folder",
            s->output_dir, same_place(s->output_dir, s->instance_data_dir) ? "instance" : "class");
    if (same_place(classes, s->instance_data_dir))
        return error_set(
            e, ERROR_USAGE,
            "--class_data_dir and --instance_data_dir are one folder, %s: class "
            "pictures would be taken for pictures of the subject; choose another for one of them",
            classes);
    return true;
}

/* ---- what lies there ---- */

static json_t *record_of(const char *folder, error *e)
{
    char *path = path_join(folder, RECORD);
    json_t *j = NULL;
    if (!path)
        error_memory(e, folder, strlen(folder));
    else if (path_is_file(path))
        j = json_read(path, JSON_LIMIT, e);
    free(path);
    return j;
}

bool output_seed(const char *folder, uint64_t *seed)
{
    json_t *j = record_of(folder, NULL);
    bool known = identity_seed(j, seed);
    json_decref(j);
    return known;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* What may lie in a folder that no run has entered: hidden files, the study's mark, checkpoints
 * (looked at by themselves), somebody's log of this run, and the run's own picture folders. */
static bool is_harmless(const trainer *t, const char *folder, const char *name)
{
    static const char *const logs[] = {".log", ".out", ".err", ".txt"};
    if (name[0] == '.' || strcmp(name, "study.json") == 0 || checkpoint_is_one(name)) return true;
    char *path = path_join(folder, name);
    bool harmless = path && (same_place(path, t->settings.instance_data_dir) ||
                             same_place(path, t->settings.class_data_dir));
    for (size_t i = 0; path && !harmless && i < sizeof logs / sizeof *logs; i++)
        harmless = path_is_file(path) && ends_with(name, logs[i]);
    free(path);
    return harmless;
}

static bool check_not_taken(const trainer *t, const char *folder, error *e)
{
    folder_names names;
    if (!folder_list(&names, folder, e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++)
        if (!is_harmless(t, folder, names.name[i]))
            ok = error_set(e, ERROR_USAGE,
                           "--output_dir %s: is not empty (%s lies there) and holds no run of "
                           "likeness train; choose another folder",
                           folder, names.name[i]);
    folder_list_free(&names);
    return ok;
}

static bool check_contents(output *o, const trainer *t, const checkpoint_owner *owner, bool goes_on,
                           error *e)
{
    const char *folder = t->settings.output_dir;
    error why = {0};
    json_t *j = record_of(folder, &why);
    bool ok = true;
    if (j) {
        ok = identity_same(j, t, owner->model_hash, goes_on, folder, e);
        o->saved_steps = json_integer_value(json_object_get(j, "saved_steps"));
        o->was_here = true;
    } else {
        ok = why.code ? error_set(e, why.code, "%s", why.text) : check_not_taken(t, folder, e);
    }
    json_decref(j);
    return ok && checkpoint_none_foreign(owner, t, o->was_here, e);
}

static bool check_room(const trainer *t, error *e)
{
    const char *folder = t->settings.output_dir;
    double result = forecast_result(t), space = (double)folder_space(folder);
    return result <= space ||
           error_set(e, ERROR_FILE,
                     "--output_dir %s: the trained model takes %s and the disk has %s left; "
                     "free some space or choose another folder",
                     folder, number_bytes(result).text, number_bytes(space).text);
}

bool output_look(output *o, const trainer *t, const checkpoint_owner *owner, bool goes_on, error *e)
{
    const char *folder = t->settings.output_dir;
    *o = (output){.lock = -1};
    if (!check_places(t, e)) return false;
    if (path_is_dir(folder) &&
        (!folder_lock(&o->lock, folder, e) || !check_contents(o, t, owner, goes_on, e)))
        return false;
    return check_room(t, e);
}

/* ---- taking it ---- */

bool output_take(output *o, const trainer *t, error *e)
{
    const char *folder = t->settings.output_dir;
    if (!folder_can_write(folder, e) || (o->lock < 0 && !folder_lock(&o->lock, folder, e)) ||
        !checkpoint_sweep(folder, e))
        return false;
    char *pictures = path_join(folder, "validation");
    if (!pictures) return error_memory(e, folder, strlen(folder));
    folder_sweep(folder);
    folder_sweep(pictures);
    free(pictures);
    return true;
}

bool output_enter(const output *o, const trainer *t, const checkpoint_owner *owner, error *e)
{
    json_t *j = identity_json(t, owner->model_hash);
    json_put(&j, "saved_steps", json_integer(o->saved_steps));
    bool ok = json_write_in(j, t->settings.output_dir, RECORD, e);
    json_decref(j);
    return ok;
}

void output_release(output *o) { folder_unlock(&o->lock); }
