/* SPDX-License-Identifier: Apache-2.0
 *
 * photos_plan: see photos_plan.h. The template speaks of "sks dog", which is a "dog", and of a
 * "cat", which is none. */
#include "photos_plan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/fields.h"
#include "file/image.h"
#include "study/engine.h"

enum { FILE_LIMIT = 16 << 20 };

#define SUBJECT "sks dog"
#define CLASS "dog"
#define OTHER "cat"

/* ---- words ----------------------------------------------------------------------------------- */

/* The length of `word` where the text begins with it, as a whole word; else 0. */
static size_t begins(const char *text, const char *word)
{
    size_t n = strlen(word);
    return strncmp(text, word, n) == 0 && !isalnum((unsigned char)text[n]) ? n : 0;
}

/* Only animals that the template was written for run. */
static bool runs(const char *class_name)
{
    return strcmp(class_name, CLASS) == 0 || strcmp(class_name, OTHER) == 0;
}

/* A text of the template in the words of the request; malloc'ed, NULL when memory is out. */
static char *reword(const char *text, const photos_request *r)
{
    char *made = NULL;
    size_t size, n;
    FILE *out = open_memstream(&made, &size);
    if (!out) return NULL;
    for (const char *at = text; *at;) {
        bool starts = at == text || at[-1] == ' ';
        if (starts && (n = begins(at, SUBJECT)) > 0) {
            fputs(r->name, out);
        } else if (starts && (n = begins(at, "a " CLASS)) > 0) {
            bool vowel = strchr("aeiouAEIOU", *r->class_name) != NULL;
            fprintf(out, "%s %s", vowel ? "an" : "a", r->class_name);
        } else if (starts && (n = begins(at, CLASS)) > 0) {
            fputs(r->class_name, out);
        } else if (starts && (n = begins(at, OTHER)) > 0 && strcmp(r->class_name, OTHER) == 0) {
            fputs(CLASS, out);
        } else if ((n = begins(at, " running")) > 0 && !runs(r->class_name)) {
            /* left out */
        } else {
            n = 1;
            fputc(*at, out);
        }
        at += n;
    }
    fclose(out);
    return made;
}

static bool is_prompt(const char *key)
{
    return strcmp(key, "prompt") == 0 || strcmp(key, "instance_prompt") == 0 ||
           strcmp(key, "class_prompt") == 0;
}

/* Rewords every text of a value, which is a text or a list of them. */
static bool reword_value(json_t *value, const photos_request *r)
{
    size_t i;
    json_t *one;
    bool ok = true;
    if (json_is_string(value)) {
        char *text = reword(json_string_value(value), r);
        ok = text && json_string_set(value, text) == 0;
        free(text);
    }
    json_array_foreach(value, i, one) ok = ok && reword_value(one, r);
    return ok;
}

/* Rewords every prompt below a value. */
static bool reword_all(json_t *value, const photos_request *r)
{
    const char *key;
    json_t *inner;
    size_t i;
    bool ok = true;
    json_object_foreach(value, key, inner)
        ok = ok && (is_prompt(key) ? reword_value(inner, r) : reword_all(inner, r));
    json_array_foreach(value, i, inner) ok = ok && reword_all(inner, r);
    return ok;
}

/* ---- models ---------------------------------------------------------------------------------- */

static bool is_default(const photos_request *r)
{
    return !r->model || strcmp(r->model, "pocket") == 0;
}

/* What is usual for a Stable Diffusion whose text encoder is trained too; the template's settings
 * are those of the default model. */
static int set_usual(json_t *train)
{
    static const char *const kept[] = {
        "model",        "instance_data_dir",       "instance_prompt",
        "class_prompt", "with_prior_preservation", "num_class_images",
        "seed"};
    json_t *out = json_pack("{s:b, s:f, s:i, s:i, s:s}", "train_text_encoder", 1, "learning_rate",
                            2e-6, "train_batch_size", 1, "max_train_steps", 800, "optimizer",
                            "adamw8bit");
    int failed = out == NULL;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        json_t *value = json_object_get(train, kept[i]);
        if (value) failed |= json_object_set(out, kept[i], value);
    }
    failed |= json_object_clear(train) | json_object_update(train, out);
    json_decref(out);
    return failed;
}

static bool set_models(json_t *models, const photos_request *r, const char *photos)
{
    const char *name;
    json_t *model;
    int failed = 0;
    char *path = is_default(r) ? strdup("pocket") : path_absolute(r->model);
    json_object_foreach(models, name, model)
    {
        json_t *train = json_object_get(model, "train");
        if (!train) {
            failed |= json_object_set_new(model, "path", json_string(path ? path : ""));
            continue;
        }
        if (!is_default(r)) {
            failed |= set_usual(train);
            json_object_del(model, "class_steps");
            json_object_del(model, "class_guidance");
        }
        failed |= json_object_set_new(train, "instance_data_dir", json_string(photos));
    }
    free(path);
    return path && !failed;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Titles are the template's; what it says about its own subject and settings goes. */
static bool set_texts(json_t *plan, const photos_request *r)
{
    size_t i;
    json_t *section;
    char *title = string_format(
        "What a picture is made of: %s, DreamBooth, and two models in one run", r->name);
    char *about = string_format(
        "The report's experiment with the photos of \"%s\", which is one of \"%s\".", r->name,
        r->class_name);
    int failed = !title || !about || json_object_set_new(plan, "title", json_string(title)) ||
                 json_object_set_new(plan, "about", json_string(about));
    json_array_foreach(json_object_get(plan, "sections"), i, section)
        json_object_del(section, "about");
    free(title);
    free(about);
    return !failed;
}

/* How many pictures of the folder can be decoded. */
static bool count_photos(size_t *count, const char *folder, error *e)
{
    lk_error why = {0};
    lk_photos *photos = NULL;
    bool ok = lk_photos_open(&photos, folder, NULL, &why) || engine_failed(&why, e);
    for (size_t i = 0; ok && i < lk_photos_count(photos); i++) {
        error bad = {0};
        image m = {0};
        if (image_read(&m, NULL, lk_photos_path(photos, i), &bad))
            ++*count;
        else if (bad.code == ERROR_MEMORY)
            ok = error_set(e, bad.code, "%s", bad.text);
        image_free(&m);
    }
    lk_photos_close(&photos);
    return ok;
}

static bool check(const photos_request *r, error *e)
{
    size_t count = 0;
    json_t *text = json_pack("[s, s, s, s]", r->folder, r->name, r->class_name,
                             r->model ? r->model : "");
    bool is_text = text != NULL;
    json_decref(text);
    if (!is_text)
        return error_set(e, ERROR_USAGE,
                         "the photos' folder, the name, the class or the model's path is no UTF-8");
    if (!*r->name || !*r->class_name)
        return error_set(e, ERROR_USAGE,
                         "the subject's name and its class are not to be empty: --name \"sks dog\" "
                         "--class dog");
    size_t n = strlen(r->name), m = strlen(r->class_name);
    if (strcmp(r->name, r->class_name) == 0 ||
        (n == m + 2 && strncmp(r->name, "a ", 2) == 0 && strcmp(r->name + 2, r->class_name) == 0))
        return error_set(e, ERROR_USAGE,
                         "\"%s\" is the class itself; the subject needs a name of its own, a rare "
                         "word and its class: --name \"sks %s\"",
                         r->name, r->class_name);
    if (!path_is_dir(r->folder))
        return error_set(e, ERROR_FILE, "%s: is no folder of photos", r->folder);
    if (!count_photos(&count, r->folder, e)) return false;
    return count > 0 || error_set(e, ERROR_FILE,
                                  "%s: there are no photos in it that can be read; three to "
                                  "five of one subject are usual",
                                  r->folder);
}

bool photos_plan(json_t **out, const photos_request *r, const char *template, error *e)
{
    fields f;
    *out = NULL;
    if (!check(r, e) || !fields_open(&f, template, FILE_LIMIT, e)) return false;
    char *photos = path_absolute(r->folder);
    bool ok = photos && reword_all(f.root, r) && set_texts(f.root, r) &&
              set_models(json_object_get(f.root, "models"), r, photos);
    if (ok)
        *out = json_incref(f.root);
    else
        error_memory(e, template, FILE_LIMIT);
    free(photos);
    fields_close(&f);
    return ok;
}
