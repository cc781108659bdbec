/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint_folder: the checkpoints of an output folder: which there are, whose they are, which
 * go. */
#include "train/checkpoint_folder.h"

#include <stdlib.h>
#include <string.h>

#include "base/folder.h"
#include "base/platform.h"
#include "train/identity.h"

#define PREFIX "checkpoint-"
#define PARTIAL ".partial-"

/* ---- names ---- */

char *checkpoint_path(const char *output_dir, int64_t step)
{
    return string_format("%s/" PREFIX "%lld", output_dir, (long long)step);
}

char *checkpoint_partial(const char *output_dir, const char *name)
{
    return string_format("%s/" PARTIAL "%s", output_dir, name);
}

/* The step of a folder's name; 0: it is no checkpoint's. */
static int64_t step_of(const char *name)
{
    size_t n = strlen(PREFIX);
    char *end;
    if (strncmp(name, PREFIX, n) != 0 || name[n] < '1' || name[n] > '9') return 0;
    long long number = strtoll(name + n, &end, 10);
    return *end ? 0 : number;
}

bool checkpoint_is_one(const char *name) { return step_of(name) > 0; }

/* ---- finding ---- */

static int64_t latest_step(const char *output_dir)
{
    folder_names names;
    int64_t best = 0;
    if (!folder_list(&names, output_dir, NULL)) return 0;
    for (size_t i = 0; i < names.count; i++) {
        int64_t step = step_of(names.name[i]);
        if (step > best) best = step;
    }
    folder_list_free(&names);
    return best;
}

bool checkpoint_any(const char *output_dir) { return latest_step(output_dir) > 0; }

bool checkpoint_find(char **path, const char *output_dir, const char *from, error *e)
{
    *path = NULL;
    if (strcmp(from, "latest") == 0) {
        int64_t step = latest_step(output_dir);
        if (step) *path = checkpoint_path(output_dir, step);
        return !step || *path || error_memory(e, output_dir, strlen(output_dir));
    }
    char *inside = path_join(output_dir, from), *given = strdup(from);
    bool bare = !strchr(from, '/'), ok = (inside && given) || error_memory(e, from, strlen(from));
    bool in = ok && path_is_dir(inside), out = ok && path_is_dir(given);
    if (in || out) {
        bool inner = in && (bare || !out);
        *path = inner ? inside : given;
        free(inner ? given : inside);
        return true;
    }
    if (ok)
        ok = error_set(e, ERROR_FILE,
                       "%s: no such checkpoint, neither there nor in %s; see what there is, or "
                       "give \"latest\" (--resume_from_checkpoint)",
                       from, output_dir);
    free(inside);
    free(given);
    return ok;
}

/* ---- whose they are ---- */

/* A checkpoint of this program that is damaged is nobody's. */
typedef enum ownership { DAMAGED, OWN, FOREIGN } ownership;

/* e: what is wrong with one that is not OWN. */
static ownership owner_of(const checkpoint_owner *o, const trainer *t, const char *path, error *e)
{
    error why = {0};
    json_t *j = checkpoint_read(path, &why);
    if (!j) {
        error_set(e, why.code, "%s", why.text);
        return why.code == ERROR_FORMAT ? DAMAGED : FOREIGN;
    }
    bool own = identity_same(j, t, o->model_hash, true, path, e);
    json_decref(j);
    return own ? OWN : FOREIGN;
}

static int by_step(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

bool checkpoint_own(const checkpoint_owner *o, const trainer *t, int64_t **steps, size_t *count,
                    error *e)
{
    folder_names names;
    *steps = NULL;
    *count = 0;
    if (!folder_list(&names, o->output_dir, e)) return false;
    *steps = calloc(names.count + 1, sizeof **steps);
    bool ok = *steps || error_memory(e, o->output_dir, names.count);
    for (size_t i = 0; ok && i < names.count; i++) {
        if (!checkpoint_is_one(names.name[i])) continue;
        char *path = path_join(o->output_dir, names.name[i]);
        ok = path || error_memory(e, o->output_dir, strlen(o->output_dir));
        if (ok && owner_of(o, t, path, NULL) == OWN) (*steps)[(*count)++] = step_of(names.name[i]);
        free(path);
    }
    folder_list_free(&names);
    if (!ok) {
        free(*steps);
        *steps = NULL;
    } else {
        qsort(*steps, *count, sizeof **steps, by_step);
    }
    return ok;
}

bool checkpoint_none_foreign(const checkpoint_owner *o, const trainer *t, bool entered, error *e)
{
    folder_names names;
    if (!folder_list(&names, o->output_dir, e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) {
        error why = {0};
        if (!checkpoint_is_one(names.name[i])) continue;
        char *path = path_join(o->output_dir, names.name[i]);
        ownership whose = path ? owner_of(o, t, path, &why) : FOREIGN;
        ok = whose == OWN || (whose == DAMAGED && entered);
        if (!path) error_memory(e, names.name[i], 64);
        if (!ok) error_set(e, why.code, "%s", why.text);
        free(path);
    }
    folder_list_free(&names);
    return ok;
}

/* ---- removing ---- */

/* Out of sight first, so that what is named checkpoint-N stays whole. */
static bool remove_one(const checkpoint_owner *o, const char *path, error *e)
{
    char *away = checkpoint_partial(o->output_dir, "old");
    bool ok = (path && away) || error_memory(e, "a checkpoint's name", 64);
    ok = ok && folder_remove(away, e) && folder_move(path, away, e) && folder_remove(away, e);
    free(away);
    return ok;
}

static bool remove_step(const checkpoint_owner *o, int64_t step, error *e)
{
    char *path = checkpoint_path(o->output_dir, step);
    bool ok = remove_one(o, path, e);
    free(path);
    return ok;
}

bool checkpoint_give_way(const checkpoint_owner *o, const trainer *t, const char *path, error *e)
{
    error why = {0};
    if (!path_exists(path)) return true;
    if (owner_of(o, t, path, &why) == FOREIGN) return error_set(e, why.code, "%s", why.text);
    return remove_one(o, path, e);
}

bool checkpoint_limit(const checkpoint_owner *o, const trainer *t, error *e)
{
    size_t count, limit = (size_t)t->settings.checkpoints_total_limit;
    int64_t *steps;
    if (!limit) return true;
    if (!checkpoint_own(o, t, &steps, &count, e)) return false;
    bool ok = true;
    for (size_t i = 0, left = count; ok && left > limit && i < count; i++) {
        if (steps[i] == t->done) continue;
        ok = remove_step(o, steps[i], e);
        left--;
    }
    free(steps);
    return ok;
}

bool checkpoint_drop_oldest(const checkpoint_owner *o, const trainer *t, int64_t *step, error *e)
{
    size_t count;
    int64_t *steps;
    *step = 0;
    if (!checkpoint_own(o, t, &steps, &count, e)) return false;
    bool ok = count < 2 || remove_step(o, steps[0], e);
    if (ok && count >= 2) *step = steps[0];
    free(steps);
    return ok;
}

bool checkpoint_sweep(const char *output_dir, error *e)
{
    folder_names names;
    if (!folder_list(&names, output_dir, e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) {
        if (strncmp(names.name[i], PARTIAL, strlen(PARTIAL)) != 0) continue;
        char *path = path_join(output_dir, names.name[i]);
        ok = path ? folder_remove(path, e) : error_memory(e, output_dir, strlen(output_dir));
        free(path);
    }
    folder_list_free(&names);
    return ok;
}
