/* SPDX-License-Identifier: Apache-2.0
 *
 * read: see read.h. */
#include "read.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"
#include "base/platform.h"
#include "base/seeds.h"

/* ---- places and messages -------------------------------------------------------------------- */

bool plan_wrong(const plan_reader *r, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(r->e, ERROR_FORMAT, "%s: %s", r->where, text);
}

bool plan_no_memory(const plan_reader *r)
{
    return error_memory(r->e, r->path, sizeof(study_cell));
}

size_t plan_enter(plan_reader *r, const char *format, ...)
{
    size_t before = strlen(r->where), used = before;
    va_list args;
    if (before == r->file_length) used += (size_t)snprintf(r->where + used, PLACE - used, ": ");
    va_start(args, format);
    vsnprintf(r->where + used, PLACE - used, format, args);
    va_end(args);
    return before;
}

void plan_leave(plan_reader *r, size_t before) { r->where[before] = '\0'; }

const char *plan_list_models(const plan_reader *r, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < r->plan->models && used < size; i++) {
        int n = snprintf(out + used, size - used, "%s%s", i ? ", " : "", r->plan->model_name[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    return out;
}

int plan_find_model(const study_plan *p, const char *name)
{
    for (int i = 0; i < p->models; i++)
        if (strcmp(p->model_name[i], name) == 0) return i;
    return -1;
}

bool plan_unknown_model(const plan_reader *r, const char *key, const char *name)
{
    char list[512];
    return plan_wrong(r, "\"%s\" names \"%.60s\", and no model has that name; there are %s", key,
                      name, plan_list_models(r, list, sizeof list));
}

/* ---- JSON ----------------------------------------------------------------------------------- */

bool plan_is_object(const plan_reader *r, const json_t *value, const char *what)
{
    if (!value) return plan_wrong(r, "\"%s\" is missing", what);
    return json_is_object(value) || plan_wrong(r, "\"%s\" should be an object: {...}", what);
}

bool plan_keys_known(const plan_reader *r, json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;
    char list[800] = "";
    json_object_foreach(object, key, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0) i++;
        if (known[i]) continue;
        for (size_t used = 0, k = 0; known[k] && used < sizeof list; k++)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", k ? ", " : "",
                                     known[k]);
        return plan_wrong(r, "unknown key \"%.60s\"; there are %s", key, list);
    }
    return true;
}

bool plan_read_text(plan_reader *r, json_t *object, const char *key, bool needed,
                    const char *fallback, const char **out)
{
    fields f = {object, r->where, r->e, true};
    const char *text = field_text(&f, key, needed ? NULL : fallback);
    if (!f.ok) return false;
    if (needed && (!text || !*text))
        return plan_wrong(r, "\"%s\" is %s", key, text ? "empty" : "missing");
    *out = text ? arena_strdup(&r->plan->memory, text) : NULL;
    return !text || *out || plan_no_memory(r);
}

/* ---- values ---------------------------------------------------------------------------------- */

bool plan_read_seed(plan_reader *r, const json_t *value, uint64_t *out)
{
    if (json_is_integer(value)) {
        if (json_integer_value(value) < 0)
            return plan_wrong(r, "\"seed\" is negative; seeds are 0 to 18446744073709551615");
        *out = (uint64_t)json_integer_value(value);
        return true;
    }
    if (!json_is_string(value)) return plan_wrong(r, "\"seed\" should be a whole number");
    uint64_t *list;
    size_t count;
    error why = {0};
    if (!seeds_parse(&list, &count, json_string_value(value), false, &why))
        return why.code == ERROR_MEMORY ? plan_no_memory(r) : plan_wrong(r, "%.400s", why.text);
    *out = list[0];
    free(list);
    return count == 1 ||
           plan_wrong(r, "\"seed\" should be one seed; lists of them belong in rows and "
                         "columns, as {\"seed\": \"42-45\"}");
}

bool plan_read_share(plan_reader *r, fields *f, const char *key, double high, float *out)
{
    *out = field_float(f, key, 0);
    if (!f->ok) return false;
    return ((double)*out >= 0 && (double)*out <= high) ||
           plan_wrong(r, "\"%s\" is %s; it should be a number from 0 to %s", key,
                      number_exact_float(*out).text, number_exact(high).text);
}

/* Where the folders above are not named in UTF-8, JSON cannot say it: there the object keeps what
 * it had. */
static bool keep_path(plan_reader *r, json_t *object, const char *key, const char *path,
                      const char **out)
{
    char *whole = path_absolute(path);
    *out = whole ? arena_strdup(&r->plan->memory, whole) : NULL;
    json_t *text = whole ? json_string(whole) : NULL;
    if (text) json_object_set_new(object, key, text);
    free(whole);
    return *out || plan_no_memory(r);
}

bool plan_read_path(plan_reader *r, json_t *object, const char *key, bool needed, bool may_miss,
                    const char **out)
{
    const char *given;
    if (!plan_read_text(r, object, key, needed, NULL, &given)) return false;
    *out = given;
    if (!given) return true;
    if (!*given) return plan_wrong(r, "\"%s\" is empty", key);
    arena *a = &r->plan->memory;
    const char *own = *given == '/' ? given : arena_format(a, "%s/%s", r->folder, given);
    const char *other = *given == '/' || !r->root ? own : arena_format(a, "%s/%s", r->root, given);
    if (!own || !other) return plan_no_memory(r);
    const char *found = access(own, F_OK) != 0 && access(other, F_OK) == 0 ? other : own;
    if (may_miss || access(found, F_OK) == 0) return keep_path(r, object, key, found, out);
    if (own == other) return plan_wrong(r, "\"%s\": there is no %.400s", key, own);
    return plan_wrong(r, "\"%s\": there is no %.400s, and no %.400s", key, own, other);
}
