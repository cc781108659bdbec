/* SPDX-License-Identifier: Apache-2.0
 *
 * study_folder: see study_folder.h. */
#include "study/study_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/folder.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "file/json.h"

#define MARK_FILE "study.json"
#define PLAN_FILE "plan.json"
#define PICTURES "subject" /* copies for the page (subject_images.h) */

/* ---- which folder --------------------------------------------------------------------------- */

static bool refuse(const study_place *at, const char *why, error *e)
{
    return error_set(e, ERROR_USAGE, "%s %s; give the study a folder of its own (-o)", at->folder,
                     why);
}

/* Whether the folder, which need not be there, is `other` or lies below it. */
static bool is_within(const char *folder, const char *other)
{
    char *path = path_absolute(folder);
    bool within = path && path_is_same(path, other);
    for (char *slash; path && !within && (slash = strrchr(path, '/')) && slash > path;) {
        *slash = '\0';
        within = path_is_same(path, other);
    }
    free(path);
    return within;
}

static bool check_model(const study_place *at, const study_model *m, error *e)
{
    if (m->path && strcmp(m->path, "pocket") != 0 && path_is_dir(m->path) &&
        is_within(at->folder, m->path))
        return error_set(e, ERROR_USAGE,
                         "%s is the folder of the model \"%s\", or lies in it; give the "
                         "study a folder of its own (-o)",
                         at->folder, m->name);
    if (m->path) return true;
    char *copies = path_join(at->folder, PICTURES);
    bool is_copies = copies && path_is_same(copies, m->train.instance_data_dir);
    free(copies);
    if (is_copies)
        return refuse(at, "holds the subject's pictures under the name of their copies", e);
    if (path_is_same(at->folder, m->train.instance_data_dir))
        return refuse(at, "is the folder of the subject's pictures", e);
    if (m->train.class_data_dir && path_is_same(at->folder, m->train.class_data_dir))
        return refuse(at, "is the folder of the class's pictures", e);
    return true;
}

/* The mark, for json_decref; NULL: there is none. */
static json_t *read_mark(const char *folder)
{
    char *path = path_join(folder, MARK_FILE);
    json_t *mark = path && path_is_file(path) ? json_read(path, JSON_LIMIT, NULL) : NULL;
    free(path);
    if (json_is_string(json_object_get(mark, "study"))) return mark;
    json_decref(mark);
    return NULL;
}

/* Whether PLAN_FILE in the folder is the plan itself. */
static bool is_plan_of_folder(const study_place *at)
{
    char *path = path_join(at->folder, PLAN_FILE);
    bool same = path && at->plan && path_is_same(path, at->plan);
    free(path);
    return same;
}

/* Somebody's pictures are no place for a study. */
static bool check_images(const study_place *at, error *e)
{
    lk_error why = {0};
    lk_photos *found = NULL;
    lk_photos_options o;
    lk_photos_defaults(&o);
    o.limit = 1;
    if (!path_is_dir(at->folder)) return true;
    if (!lk_photos_open(&found, at->folder, &o, &why)) return engine_failed(&why, e);
    bool ok = !lk_photos_count(found) || refuse(at, "holds pictures that no study made", e);
    lk_photos_close(&found);
    return ok;
}

static bool check_files(const study_place *at, error *e)
{
    static const char *const written[] = {
        MARK_FILE,    PLAN_FILE, "report.html", "cells.csv", "measures.json", "matches.safetensors",
        "times.json", "cells",   "class",       PICTURES};
    json_t *mark = read_mark(at->folder);
    bool ok = true;
    for (size_t i = 0; ok && !mark && i < sizeof written / sizeof *written; i++)
        if (path_is_in(at->folder, written[i]) && (i != 1 || !is_plan_of_folder(at)))
            ok = error_set(e, ERROR_FILE,
                           "%s/%s is there, and no study of likeness wrote it; move it, or "
                           "give the study another folder (-o)",
                           at->folder, written[i]);
    if (ok && !mark) ok = check_images(at, e);
    json_decref(mark);
    return ok;
}

bool study_folder_check(const study_place *at, const study_plan *p, error *e)
{
    char *models = at->root ? path_join(at->root, "models") : NULL;
    bool is_source = at->root && path_is_same(at->folder, at->root);
    bool in_models = models && is_within(at->folder, models);
    free(models);
    if (is_source) return refuse(at, "is the folder of likeness itself", e);
    if (in_models) return refuse(at, "is where the models of likeness lie", e);
    if (path_is_in(at->folder, "model_index.json")) return refuse(at, "is a model's folder", e);
    for (int i = 0; i < p->models; i++)
        if (!check_model(at, &p->model[i], e)) return false;
    return check_files(at, e);
}

/* ---- the mark and the plan ------------------------------------------------------------------- */

/* Out of the way goes a plan that the study did not write: its name gets the begin of its hash. */
static bool move_plan(const study_place *at, const char *path, const char *written, char **moved,
                      error *e)
{
    char hash[65];
    if (!path_is_file(path)) return true;
    if (!sha256_file(hash, path, e)) return false;
    if (written && strcmp(hash, written) == 0) return true;
    *moved = string_format("%s/plan-%.8s.json", at->folder, hash);
    if (!*moved) return error_memory(e, path, strlen(path));
    return rename(path, *moved) == 0 ||
           error_set(e, ERROR_FILE, "%s: cannot be renamed to %s", path, *moved);
}

static bool keep_plan(const study_place *at, const char *text, const json_t *mark, char **moved,
                      error *e)
{
    const char *written = json_string_value(json_object_get(mark, "plan"));
    char *path = path_join(at->folder, PLAN_FILE), hash[65];
    sha256_of(hash, text, strlen(text));
    json_t *new_mark = json_pack("{s:s, s:s}", "study", at->version, "plan", hash);
    bool ok = (path && new_mark) || error_memory(e, at->folder, 64);
    ok = ok && move_plan(at, path, written, moved, e) &&
         json_write_in(new_mark, at->folder, MARK_FILE, e) &&
         file_write(path, text, strlen(text), e);
    json_decref(new_mark);
    free(path);
    return ok;
}

bool study_folder_begin(const study_place *at, const study_plan *p, char **moved, error *e)
{
    json_t *mark = read_mark(at->folder);
    bool ok = true;
    *moved = NULL;
    if (!is_plan_of_folder(at)) {
        ok = keep_plan(at, p->text, mark, moved, e);
    } else if (!mark) {
        json_t *new_mark = json_pack("{s:s}", "study", at->version);
        ok = json_write_in(new_mark, at->folder, MARK_FILE, e);
        json_decref(new_mark);
    }
    json_decref(mark);
    return ok;
}
