/* SPDX-License-Identifier: Apache-2.0
 *
 * describe: see describe.h. */
#include "train/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file/formats.h"
#include "file/json.h"

/* Bytes of the UTF-8 character that s begins with; 0: it begins with none. */
static size_t character(const char *s)
{
    const char *next = s;
    utf8_next(&next);
    return next == s + 1 && (unsigned char)*s >= 0x80 ? 0 : (size_t)(next - s);
}

static bool is_utf8(const char *s)
{
    size_t n = 1;
    for (; *s && n; s += n) n = character(s);
    return n > 0;
}

char *describe_name(const char *name)
{
    char *out = malloc(4 * strlen(name) + 1), *at = out;
    while (out && *name) {
        size_t n = character(name);
        if (!n) {
            at += sprintf(at, "\\x%02x", (unsigned char)*name++);
            continue;
        }
        if (*name == '\\') *at++ = '\\';
        memcpy(at, name, n);
        at += n;
        name += n;
    }
    if (out) *at = '\0';
    return out;
}

static json_t *escaped(const char *s)
{
    char *name = describe_name(s);
    json_t *j = name ? json_string(name) : NULL;
    free(name);
    return j;
}

json_t *describe_text(const char *s)
{
    if (!s) return json_null();
    return is_utf8(s) ? json_string(s) : escaped(s);
}

static const char *optimizer_name(train_optimizer o)
{
    static const char *const names[] = {"AdamW", "AdamW8bit", "AdamW in float16"};
    return names[o];
}

static json_t *value_of(const train_settings *s, const train_setting *one)
{
    const void *at = (const char *)s + one->at;
    switch (one->kind) {
    case SETTING_BOOL: return json_boolean(*(const bool *)at);
    case SETTING_INT: return json_integer(*(const int *)at);
    case SETTING_LONG: return json_integer(*(const int64_t *)at);
    case SETTING_SEED: return json_integer((json_int_t) * (const uint64_t *)at);
    case SETTING_DOUBLE: return json_real(*(const double *)at);
    case SETTING_TEXT: return describe_text(*(const char *const *)at);
    case SETTING_SCHEDULE: return describe_text(rate_schedule_name(*(const rate_schedule *)at));
    case SETTING_OPTIMIZER: return describe_text(optimizer_name(*(const train_optimizer *)at));
    }
    return json_null();
}

json_t *describe_settings(const train_settings *given)
{
    json_t *j = json_object();
    train_settings s = *given;
    train_settings_resolve(&s);
    for (const train_setting *one = train_setting_list; one->name; one++)
        json_put(&j, one->name, value_of(&s, one));
    return j;
}

static json_t *hashes(const photo_set *set)
{
    json_t *j = json_object();
    for (size_t i = 0; i < set->count; i++) {
        const char *slash = strrchr(set->item[i].path, '/');
        char *name = describe_name(slash ? slash + 1 : set->item[i].path);
        json_put(&j, name, json_string(set->item[i].sha256));
        free(name);
    }
    return j;
}

json_t *describe_images(const trainer *t)
{
    json_t *j = json_object();
    json_put(&j, "instance", hashes(&t->instances));
    if (t->classes.count) json_put(&j, "class", hashes(&t->classes));
    return j;
}
