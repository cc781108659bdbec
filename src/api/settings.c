/* SPDX-License-Identifier: Apache-2.0
 *
 * settings: lk_settings, the text that files carry about how they were made. */
#include "generate/settings.h"

#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "file/latents.h"

struct lk_settings {
    settings read;
};

bool lk_settings_add(char **out, const char *text, const char *key, const char *value,
                     lk_error *caller)
{
    error e = {0};
    *out = NULL;
    if (!text || !key || !value || !key[0] || !key[1])
        return api_report(error_set(&e, ERROR_USAGE,
                                    "settings are a text, a key of 2 or more "
                                    "letters, and a value"),
                          &e, caller);
    return api_report(settings_add(out, text, key, value, &e), &e, caller);
}

char *lk_file_settings(const char *path)
{
    image picture;
    char *text = NULL;
    if (!path_is_file(path)) return NULL;
    if (!image_read(&picture, &text, path, NULL)) return latents_settings(path);
    image_free(&picture);
    return text;
}

bool lk_file_hash(char out[65], const char *path, lk_error *caller)
{
    error e = {0};
    bool ok = (path || error_set(&e, ERROR_USAGE, "no file is given")) &&
              sha256_file(out, path, &e);
    return api_report(ok, &e, caller);
}

bool lk_settings_open(lk_settings **out, const char *text, lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "settings", sizeof **out)) &&
              (text || error_set(&e, ERROR_USAGE, "no settings are given")) &&
              settings_parse(&(*out)->read, text, &e);
    if (!ok) lk_settings_close(out);
    return api_report(ok, &e, caller);
}

void lk_settings_close(lk_settings **s)
{
    if (!s || !*s) return;
    settings_close(&(*s)->read);
    free(*s);
    *s = NULL;
}

const char *lk_settings_prompt(const lk_settings *s)
{
    return s->read.prompt ? s->read.prompt : "";
}

const char *lk_settings_negative(const lk_settings *s)
{
    return s->read.negative ? s->read.negative : "";
}

const char *lk_settings_get(const lk_settings *s, const char *key)
{
    return settings_get(&s->read, key);
}

bool lk_settings_at(const lk_settings *s, size_t i, const char **key, const char **value)
{
    if (i >= s->read.count) return false;
    *key = s->read.list[i].key;
    *value = s->read.list[i].value;
    return true;
}
