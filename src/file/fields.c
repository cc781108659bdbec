/* SPDX-License-Identifier: Apache-2.0
 *
 * fields: see fields.h. Jansson does the parsing (it bounds nesting by itself). */
#include "file/fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "file/json.h"

bool fields_open(fields *f, const char *path, size_t limit, error *e)
{
    json_t *root = json_read(path, limit, e);
    if (!root) return false;
    if (!json_is_object(root)) {
        json_decref(root);
        return error_set(e, ERROR_FORMAT, "%s: should be a JSON object", path);
    }
    *f = (fields){root, path, e, true};
    return true;
}

bool fields_parse(fields *f, const char *text, const char *where, error *e)
{
    json_t *root = json_parse(text, strlen(text), JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        return error_set(e, ERROR_FORMAT, "%s: should be a JSON object", where);
    }
    *f = (fields){root, where, e, true};
    return true;
}

void fields_close(fields *f)
{
    json_decref(f->root);
    f->root = NULL;
}

json_t *field(const fields *f, const char *name)
{
    json_t *value = json_object_get(f->root, name);
    return json_is_null(value) ? NULL : value;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    default: return "null";
    }
}

static void wrong_type(fields *f, const char *name, const char *wanted, const json_t *value)
{
    f->ok = error_set(f->e, ERROR_FORMAT, "%s: \"%s\" should be %s, not %s", f->where, name, wanted,
                      type_name(value));
}

/* One integer, inside [low, high]; 0 after a failure. 4.0 counts as an integer. */
static int one_int(fields *f, const char *name, const json_t *value, int low, int high)
{
    double number = json_number_value(value);
    if (!json_is_number(value) || number != floor(number)) {
        wrong_type(f, name, "an integer", value);
        return 0;
    }
    if (number < low || number > high) {
        f->ok = error_set(f->e, ERROR_FORMAT, "%s: \"%s\" is %s; it should be in %d..%d", f->where,
                          name, number_exact(number).text, low, high);
        return 0;
    }
    return (int)number;
}

int field_int(fields *f, const char *name, int fallback, int low, int high)
{
    const json_t *value = field(f, name);
    return value ? one_int(f, name, value, low, high) : fallback;
}

float field_float(fields *f, const char *name, float fallback)
{
    const json_t *value = field(f, name);
    if (!value) return fallback;
    if (!json_is_number(value)) {
        wrong_type(f, name, "a number", value);
        return fallback;
    }
    return (float)json_number_value(value);
}

bool field_bool(fields *f, const char *name, bool fallback)
{
    const json_t *value = field(f, name);
    if (!value) return fallback;
    if (!json_is_boolean(value)) {
        wrong_type(f, name, "true or false", value);
        return fallback;
    }
    return json_is_true(value);
}

const char *field_text(fields *f, const char *name, const char *fallback)
{
    const json_t *value = field(f, name);
    if (!value) return fallback;
    if (!json_is_string(value)) {
        wrong_type(f, name, "a string", value);
        return fallback;
    }
    return json_string_value(value);
}

void field_int_or_list(fields *f, const char *name, int *out, int count, int fallback, int low,
                       int high)
{
    const json_t *value = field(f, name);
    if (json_is_array(value) && (int)json_array_size(value) != count) {
        f->ok = error_set(f->e, ERROR_FORMAT, "%s: \"%s\" has %d entries; there are %d blocks",
                          f->where, name, (int)json_array_size(value), count);
        return;
    }
    for (int i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, (size_t)i) : value;
        out[i] = item ? one_int(f, name, item, low, high) : fallback;
    }
}

int field_int_list(fields *f, const char *name, int *out, int max, int low, int high)
{
    const json_t *value = field(f, name);
    if (!value) return 0;
    if (!json_is_array(value)) {
        wrong_type(f, name, "a list", value);
        return 0;
    }
    int count = (int)json_array_size(value);
    if (count < 1 || count > max) {
        f->ok = error_set(f->e, ERROR_MODEL, "%s: \"%s\" has %d entries; 1 to %d are supported",
                          f->where, name, count, max);
        return 0;
    }
    for (int i = 0; i < count; i++)
        out[i] = one_int(f, name, json_array_get(value, (size_t)i), low, high);
    return count;
}

void field_only(fields *f, const char *name, const char *only)
{
    json_t *value = field(f, name);
    if (!value || !f->ok) return;
    json_t *wanted = json_parse(only, strlen(only), JSON_DECODE_ANY, NULL);
    bool same = wanted && (json_equal(value, wanted) ||
                           (json_is_number(value) && json_is_number(wanted) &&
                            json_number_value(value) == json_number_value(wanted)));
    json_decref(wanted);
    if (same) return;
    char *text = json_text(value, JSON_ENCODE_ANY | JSON_COMPACT);
    f->ok = error_set(f->e, ERROR_MODEL, "%s: \"%s\" is %.80s, which is not supported (only %s is)",
                      f->where, name, text ? text : "something else", only);
    free(text);
}
