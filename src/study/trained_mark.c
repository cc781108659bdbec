/* SPDX-License-Identifier: Apache-2.0
 *
 * trained_mark: see trained_mark.h. A folder is made under a hidden name, marked, and renamed: so
 * what a killed run leaves under the model's name has its mark. */
#include "study/trained_mark.h"

#include <errno.h>
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

/* ---- reading --------------------------------------------------------------------------------- */

void trained_key(const char *request, char key[65]) { sha256_of(key, request, strlen(request)); }

/* For json_decref; NULL: there is none. */
static json_t *read_mark(const char *folder)
{
    char *path = path_join(folder, MARK_FILE);
    json_t *mark = path && path_is_file(path) ? json_read(path, JSON_LIMIT, NULL) : NULL;
    free(path);
    if (json_is_string(json_object_get(mark, "determined_by"))) return mark;
    json_decref(mark);
    return NULL;
}

/* Whether nothing is there; what cannot be looked into is something. */
static bool is_empty(const char *folder)
{
    folder_names names = {0};
    if (access(folder, F_OK) != 0) return errno == ENOENT;
    bool empty = path_is_dir(folder) && folder_list(&names, folder, NULL) && names.count == 0;
    folder_list_free(&names);
    return empty;
}

trained_state trained_look(const char *folder, const char *key)
{
    json_t *mark = read_mark(folder);
    trained_state state;
    if (!mark)
        state = is_empty(folder) ? TRAINED_NOTHING : TRAINED_FOREIGN;
    else if (strcmp(json_string_value(json_object_get(mark, "determined_by")), key) != 0)
        state = TRAINED_OTHER;
    else
        state = path_is_in(folder, "model_index.json") || path_is_in(folder, TRAINED_LORA)
                    ? TRAINED_WHOLE
                    : TRAINED_BEGUN;
    json_decref(mark);
    return state;
}

/* ---- writing --------------------------------------------------------------------------------- */

char *trained_aside(const char *folder, const char *key)
{
    return string_format("%s.%.8s", folder, key);
}

static bool write_mark(const char *folder, const char *request, error *e)
{
    char key[65];
    trained_key(request, key);
    json_t *asked = json_parse(request, strlen(request), 0, NULL);
    json_t *mark = json_pack("{s:s, s:o*}", "determined_by", key, "request", asked);
    bool ok = (mark || error_memory(e, folder, 64)) && json_write_in(mark, folder, MARK_FILE, e);
    json_decref(mark);
    return ok;
}

/* models/tuned -> models/.tuned.new */
static char *hidden_name(const char *folder)
{
    const char *slash = strrchr(folder, '/');
    int above = slash ? (int)(slash - folder) + 1 : 0;
    return string_format("%.*s.%s.new", above, folder, folder + above);
}

bool trained_begin(const char *folder, const char *request, error *e)
{
    char *hidden = hidden_name(folder);
    bool ok = hidden ? path_make_dir(hidden, e) && write_mark(hidden, request, e)
                     : error_memory(e, folder, strlen(folder));
    ok = ok && folder_move(hidden, folder, e); /* an empty folder makes room */
    free(hidden);
    return ok;
}

bool trained_move_aside(const char *folder, char **kept, error *e)
{
    folder_names names;
    *kept = NULL;
    if (!folder_list(&names, folder, e)) return false;
    bool bare = names.count <= 1; /* the mark */
    folder_list_free(&names);
    if (bare) {
        char *path = path_join(folder, MARK_FILE);
        bool ok = path ? folder_remove(path, e) : error_memory(e, folder, strlen(folder));
        free(path);
        return ok;
    }
    json_t *mark = read_mark(folder);
    const char *key = json_string_value(json_object_get(mark, "determined_by"));
    *kept = key ? trained_aside(folder, key) : NULL;
    for (int i = 2; *kept && access(*kept, F_OK) == 0; i++) { /* the same request, trained twice */
        free(*kept);
        *kept = string_format("%s.%.8s-%d", folder, key, i);
    }
    json_decref(mark);
    return *kept ? folder_move(folder, *kept, e) : error_memory(e, folder, strlen(folder));
}

/* ---- what differs ---------------------------------------------------------------------------- */

/* A value as a person writes it, at most so long; malloc'ed. */
static char *value_text(const json_t *value)
{
    enum { MOST = 60 };
    char *text = value ? json_text(value, JSON_ENCODE_ANY) : strdup("unset");
    if (!text || strlen(text) <= MOST) return text;
    char *cut = string_format("%.*s...", MOST, text);
    free(text);
    return cut;
}

/* Absent is equal to absent. */
static bool is_same(const json_t *a, const json_t *b) { return (!a && !b) || json_equal(a, b); }

static void add_change(FILE *out, const char *name, const json_t *was, const json_t *is)
{
    char *a = value_text(was), *b = value_text(is);
    if (ftell(out) > 0) fputs(", ", out);
    if (a && b) fprintf(out, "%s was %s, is %s", name, a, b);
    free(a);
    free(b);
}

static void add_other(FILE *out, const json_t *was, const json_t *is, const char *key,
                      const char *words)
{
    if (is_same(json_object_get(was, key), json_object_get(is, key))) return;
    fprintf(out, "%s%s", ftell(out) > 0 ? ", " : "", words);
}

static void add_settings(FILE *out, json_t *was, json_t *is)
{
    const char *name;
    json_t *value;
    json_object_foreach(is, name, value)
    {
        const json_t *old = json_object_get(was, name);
        if (!json_equal(old, value)) add_change(out, name, old, value);
    }
    json_object_foreach(was, name, value) if (!json_object_get(is, name))
        add_change(out, name, value, NULL);
}

char *trained_difference(const char *folder, const char *request)
{
    json_t *mark = read_mark(folder), *is = json_parse(request, strlen(request), 0, NULL);
    json_t *was = json_object_get(mark, "request");
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out && was && is) {
        add_settings(out, json_object_get(was, "settings"), json_object_get(is, "settings"));
        if (!is_same(json_object_get(was, "precision"), json_object_get(is, "precision")))
            add_change(out, "precision", json_object_get(was, "precision"),
                       json_object_get(is, "precision"));
        if (!is_same(json_object_get(was, "class_maker"), json_object_get(is, "class_maker")))
            add_change(out, "the making of class pictures", json_object_get(was, "class_maker"),
                       json_object_get(is, "class_maker"));
        add_other(out, was, is, "model", "the model it starts from is another");
        add_other(out, was, is, "instance_pictures", "the subject's pictures have changed");
        add_other(out, was, is, "class_pictures", "the class's pictures have changed");
    }
    if (out && ftell(out) == 0) fputs("it was trained by another request", out);
    if (out) fclose(out);
    json_decref(mark);
    json_decref(is);
    return text;
}
