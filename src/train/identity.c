/* SPDX-License-Identifier: Apache-2.0
 *
 * identity: see identity.h. */
#include "train/identity.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/json.h"
#include "train/describe.h"

static const char *precision_of(const trainer *t)
{
    return precision_mixed_name(t->device->weight_type);
}

json_t *identity_json(const trainer *t, const char *model_hash)
{
    json_t *j = json_object();
    json_put(&j, "model", describe_text(t->model->path));
    json_put(&j, "model_hash", json_string(model_hash));
    json_put(&j, "precision", json_string(precision_of(t)));
    json_put(&j, "device", json_string(t->device->name));
    json_put(&j, "steps", json_integer(t->total));
    json_put(&j, "learning_rate", json_real(t->rate));
    json_put(&j, "settings", describe_settings(&t->settings));
    json_put(&j, "pictures", describe_images(t));
    return j;
}

static const char *text_of(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

/* ---- settings ---- */

/* Those that change no weight; in a run that goes on, also how long it is, and how many class
 * pictures there are, which are compared themselves. */
static bool may_differ(const train_settings *s, const char *key, bool goes_on)
{
    static const char *const length[] = {"max_train_steps", "num_train_epochs", "num_class_images"};
    for (size_t i = 0; goes_on && i < sizeof length / sizeof *length; i++)
        if (strcmp(key, length[i]) == 0) return true;
    return !train_setting_determines(s, key);
}

static bool other_setting(const char *where, const char *key, const json_t *was, const json_t *now,
                          error *e)
{
    char *a = json_text(was, JSON_ENCODE_ANY), *b = json_text(now, JSON_ENCODE_ANY);
    error_set(e, ERROR_USAGE,
              "%s: was made with --%s %s, this run has %s; give the same settings, or "
              "choose another --output_dir",
              where, key, a ? a : "another", b ? b : "another");
    free(a);
    free(b);
    return false;
}

/* What the file does not have is from before there was such a setting: then it had the default. */
static bool same_settings(const json_t *saved, const trainer *t, bool goes_on, const char *where,
                          error *e)
{
    train_settings unset;
    train_settings_defaults(&unset);
    json_t *mine = describe_settings(&t->settings), *defaults = describe_settings(&unset), *value;
    const char *key;
    bool ok = (mine && defaults) || error_memory(e, where, 4096);
    json_object_foreach(mine, key, value)
    {
        const json_t *other = json_object_get(saved, key);
        if (!other) other = json_object_get(defaults, key);
        if (ok && !may_differ(&t->settings, key, goes_on) && !json_equal(value, other))
            ok = other_setting(where, key, other, value, e);
    }
    json_decref(mine);
    json_decref(defaults);
    return ok;
}

/* ---- pictures ---- */

/* mine and saved: {name: sha256}. */
static bool same_files(const json_t *saved, const json_t *mine, const char *what, const char *where,
                       error *e)
{
    const char *name, *how = NULL;
    json_t *hash;
    const char *found = "";
    json_object_foreach((json_t *)(uintptr_t)mine, name, hash)
    {
        const json_t *other = json_object_get(saved, name);
        if (how || json_equal(hash, other)) continue;
        how = other ? "has changed since" : "was not among them";
        found = name;
    }
    json_object_foreach((json_t *)(uintptr_t)saved, name, hash)
    {
        if (how || json_object_get(mine, name)) continue;
        how = "was among them";
        found = name;
    }
    return !how || error_set(e, ERROR_USAGE,
                             "%s: was made with other pictures: the %s picture %s %s; give "
                             "the same ones, or choose another --output_dir",
                             where, what, found, how);
}

static bool same_images(const json_t *saved, const trainer *t, const char *where, error *e)
{
    json_t *mine = describe_images(t);
    const json_t *classes = json_object_get(mine, "class"),
                 *others = json_object_get(saved, "class");
    bool ok = (mine || error_memory(e, where, 4096)) &&
              same_files(json_object_get(saved, "instance"), json_object_get(mine, "instance"),
                         "instance", where, e) &&
              (!classes || !others || same_files(others, classes, "class", where, e));
    json_decref(mine);
    return ok;
}

/* ---- the whole ---- */

bool identity_same(const json_t *saved, const trainer *t, const char *model_hash, bool goes_on,
                   const char *where, error *e)
{
    const json_t *settings = json_object_get(saved, "settings");
    if (!json_is_object(settings) || !*text_of(saved, "model_hash"))
        return error_set(e, ERROR_FORMAT, "%s: is damaged, or of another program", where);
    if (strcmp(text_of(saved, "model_hash"), model_hash) != 0)
        return error_set(e, ERROR_USAGE,
                         "%s: was made from another base model (%.12s, this is %.12s); give "
                         "that one (-m), or choose another --output_dir",
                         where, text_of(saved, "model_hash"), model_hash);
    if (!goes_on && strcmp(text_of(saved, "precision"), precision_of(t)) != 0)
        return error_set(e, ERROR_USAGE,
                         "%s: was made with --mixed_precision %s, this run has %s; give the "
                         "same, or choose another --output_dir",
                         where, text_of(saved, "precision"), precision_of(t));
    return same_settings(settings, t, goes_on, where, e) &&
           same_images(json_object_get(saved, "pictures"), t, where, e);
}

/* "cpu avx2" of "cpu avx2, 2 threads". */
static int kind_length(const char *name) { return (int)strcspn(name, ","); }

/* Whether two names of devices are of equal hardware, whichever of several equal cards it is. */
static bool same_hardware(const char *a, const char *b)
{
    static const char card[] = "cuda:";
    size_t n = strlen(card);
    if (strncmp(a, card, n) == 0 && strncmp(b, card, n) == 0) {
        a += n + strspn(a + n, "0123456789");
        b += n + strspn(b + n, "0123456789");
    }
    return kind_length(a) == kind_length(b) && strncmp(a, b, (size_t)kind_length(a)) == 0;
}

char *identity_warning(const json_t *saved, const trainer *t, const char *where)
{
    const char *was = text_of(saved, "device"), *now = t->device->name;
    if (strcmp(text_of(saved, "precision"), precision_of(t)) != 0)
        return string_format(
            "%s was made on %.*s with --mixed_precision %s, and the run goes on on %.*s with %s: "
            "its numbers will not be those of an unbroken run",
            where, kind_length(was), was, text_of(saved, "precision"), kind_length(now), now,
            precision_of(t));
    if (same_hardware(was, now)) return NULL;
    return string_format("%s was made on %.*s, and the run goes on on %.*s: its numbers will be "
                         "those of an unbroken run but for rounding, not its bytes",
                         where, kind_length(was), was, kind_length(now), now);
}

bool identity_seed(const json_t *saved, uint64_t *seed)
{
    const json_t *j = json_object_get(json_object_get(saved, "settings"), "seed");
    if (json_is_integer(j)) *seed = (uint64_t)json_integer_value(j);
    return json_is_integer(j);
}
