/* SPDX-License-Identifier: Apache-2.0
 *
 * json: see json.h. */
#include "file/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/locale.h"
#include "base/number.h"
#include "base/platform.h"

json_t *json_parse(const char *text, size_t size, size_t flags, json_error_t *why)
{
    locale_change c = locale_enter();
    json_t *j = json_loadb(text, size, flags, why);
    locale_leave(c);
    return j;
}

/* Python writes infinities, which JSON has not (diffusers' lambda_min_clipped is -Infinity by
 * default): null in their places. */
static void drop_infinities(char *text, size_t size)
{
    static const char word[] = "Infinity";
    const size_t n = sizeof word - 1;
    bool quoted = false;
    for (size_t i = 0; i + n <= size; i++) {
        if (text[i] == '"') quoted = !quoted;
        if (quoted && text[i] == '\\') i++;
        if (quoted || memcmp(text + i, word, n) != 0) continue;
        memcpy(text + i, "null    ", n);
        if (i && text[i - 1] == '-') text[i - 1] = ' ';
    }
}

json_t *json_read(const char *path, size_t limit, error *e)
{
    char *text;
    size_t size;
    if (!file_read(path, limit, &text, &size, e)) return NULL;
    json_error_t why;
    drop_infinities(text, size);
    json_t *j = json_parse(text, size, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (j) return j;
    if (json_error_code(&why) == json_error_out_of_memory)
        error_memory(e, path, size);
    else
        error_set(e, ERROR_FORMAT, "%s: not valid JSON (line %d: %s)", path, why.line, why.text);
    return NULL;
}

/* A fraction's characters at text; 0 where there is none (a whole number). */
static size_t fraction_length(const char *text)
{
    size_t n = strspn(text, "+-.0123456789eE");
    return n > strcspn(text, ".eE") ? n : 0;
}

/* Writes fractions (jansson's have 17 digits) with fewer digits, in place. */
static void shorten(char *text)
{
    char *out = text;
    for (const char *at = text; *at;) {
        double v;
        size_t n = strchr("-0123456789", *at) ? fraction_length(at) : 0;
        if (*at == '"') { /* a string is passed over */
            for (*out++ = *at++; *at != '"'; *out++ = *at++)
                if (*at == '\\') *out++ = *at++;
            *out++ = *at++;
        } else if (n && number_parse(at, NULL, &v)) {
            number_text exact = number_exact(v);
            if (!strpbrk(exact.text, ".e")) strcat(exact.text, ".0"); /* it stays a fraction */
            size_t length = strlen(exact.text);
            bool shorter = length < n;
            memmove(out, shorter ? exact.text : at, shorter ? length : n);
            out += shorter ? length : n;
            at += n;
        } else
            *out++ = *at++;
    }
    *out = '\0';
}

void json_put(json_t **object, const char *key, json_t *value)
{
    if (json_object_set_new(*object, key, value) == 0) return;
    json_decref(*object);
    *object = NULL;
}

void json_add(json_t **list, json_t *value)
{
    if (json_array_append_new(*list, value) == 0) return;
    json_decref(*list);
    *list = NULL;
}

char *json_text(const json_t *j, size_t flags)
{
    locale_change c = locale_enter();
    char *text = json_dumps(j, flags | JSON_REAL_PRECISION(17));
    locale_leave(c);
    if (text) shorten(text);
    return text;
}

bool json_write(const json_t *j, const char *path, error *e)
{
    char *text = json_text(j, JSON_INDENT(2));
    file_writer *w = NULL;
    bool ok = text || error_memory(e, path, 4096);
    ok = ok && file_writer_open(&w, path, e) && file_writer_put(w, text, strlen(text), e) &&
         file_writer_put(w, "\n", 1, e) && file_writer_commit(&w, e);
    file_writer_abandon(&w);
    free(text);
    return ok;
}

bool json_write_in(const json_t *j, const char *folder, const char *name, error *e)
{
    char *path = path_join(folder, name);
    bool ok = path ? json_write(j, path, e) : error_memory(e, name, 4096);
    free(path);
    return ok;
}
