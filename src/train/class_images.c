/* SPDX-License-Identifier: Apache-2.0
 *
 * class_images: see class_images.h. A picture is first written under a hidden name, then entered in
 * the manifest, then given its name: a kill in between leaves an entry without a picture, never a
 * picture without an entry. */
#include "train/class_images.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/sha256.h"
#include "file/fields.h"
#include "file/json.h"
#include "train/describe.h"
#include "train/photos.h"

enum { MANIFEST_LIMIT = 64 << 20, PROMPT_SHOWN = 100 };

#define MANIFEST "manifest.json"

/* ---- the manifest ---- */

/* {"pictures": [{file, prompt, seed, model, settings, sha256}, ...]} */
typedef struct manifest {
    char *path;
    json_t *root, *pictures;
} manifest;

static void manifest_close(manifest *m)
{
    json_decref(m->root);
    free(m->path);
    *m = (manifest){0};
}

static bool manifest_read(manifest *m, error *e)
{
    fields f;
    if (!fields_open(&f, m->path, MANIFEST_LIMIT, e)) return false;
    m->root = f.root; /* ours from here */
    m->pictures = json_object_get(m->root, "pictures");
    return json_is_array(m->pictures) ||
           error_set(e, ERROR_FORMAT,
                     "%s: has no list \"pictures\", so it is not Likeness's; move it "
                     "out of the class pictures' folder",
                     m->path);
}

/* The folder's manifest, empty where there is none. */
static bool manifest_open(manifest *m, const char *folder, error *e)
{
    *m = (manifest){.path = path_join(folder, MANIFEST)};
    if (!m->path) return error_memory(e, folder, strlen(folder) + sizeof MANIFEST);
    bool ok;
    if (path_is_file(m->path)) {
        ok = manifest_read(m, e);
    } else {
        m->root = json_pack("{s:[]}", "pictures");
        m->pictures = json_object_get(m->root, "pictures");
        ok = m->root || error_memory(e, m->path, 64);
    }
    if (!ok) manifest_close(m);
    return ok;
}

static const char *entry_text(const json_t *entry, const char *key)
{
    const char *text = json_string_value(json_object_get(entry, key));
    return text ? text : "";
}

/* Seeds past what JSON's readers take for an integer are written as text. */
static json_t *seed_json(uint64_t seed)
{
    char text[32];
    if (seed <= INT64_MAX) return json_integer((json_int_t)seed);
    snprintf(text, sizeof text, "%" PRIu64, seed);
    return json_string(text);
}

/* Enters a picture, in place of an entry of the same file. */
static bool manifest_add(manifest *m, const class_request *r, const char *file, uint64_t seed,
                         const char *settings, const char *hash, error *e)
{
    for (size_t i = json_array_size(m->pictures); i-- > 0;)
        if (!strcmp(entry_text(json_array_get(m->pictures, i), "file"), file))
            json_array_remove(m->pictures, i);
    json_t *entry = json_pack("{s:s, s:s, s:o, s:s, s:s?, s:s}", "file", file, "prompt", r->prompt,
                              "seed", seed_json(seed), "model", r->model_hash, "settings", settings,
                              "sha256", hash);
    return (entry && json_array_append_new(m->pictures, entry) == 0) ||
           error_memory(e, m->path, strlen(r->prompt));
}

/* ---- what the folder's pictures are ---- */

/* How many pictures were there before; of those in the manifest (and unchanged since), how many are
 * of another model, or of this one but another prompt. */
typedef struct census {
    size_t all, listed, other_model, other_prompt;
    const char *prompt; /* one of the other prompts; the manifest's */
} census;

/* The entry of a picture that lies in the folder as it was made; NULL: there is none. */
static const json_t *entry_of(const manifest *m, const photo_file *file)
{
    for (size_t i = 0; i < json_array_size(m->pictures); i++) {
        const json_t *entry = json_array_get(m->pictures, i);
        if (!strcmp(entry_text(entry, "file"), file->name))
            return strcmp(entry_text(entry, "sha256"), file->sha256) == 0 ? entry : NULL;
    }
    return NULL;
}

static void census_add(census *c, const json_t *entry, const class_request *r)
{
    c->all++;
    if (!entry) return;
    c->listed++;
    if (strcmp(entry_text(entry, "model"), r->model_hash) != 0) {
        c->other_model++;
    } else if (strcmp(entry_text(entry, "prompt"), r->prompt) != 0) {
        c->other_prompt++;
        c->prompt = entry_text(entry, "prompt");
    }
}

static bool take_census(census *c, const manifest *m, const class_request *r, error *e)
{
    photo_files files;
    *c = (census){0};
    if (!photo_files_list(&files, r->folder, 0, e)) return false;
    for (size_t i = 0; i < files.count; i++) census_add(c, entry_of(m, &files.item[i]), r);
    photo_files_free(&files);
    return true;
}

/* ` ("a prompt")`, on one line and not too long; malloc'ed, NULL when memory is out. */
static char *show_prompt(const char *prompt)
{
    if (!prompt || strlen(prompt) > PROMPT_SHOWN) return strdup("");
    char *text = string_format(" (\"%s\")", prompt);
    for (char *c = text; c && *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return text;
}

/* The warning, or NULL in *out where there is nothing to warn of. total: pictures by now. */
static bool describe_census(char **out, const census *c, const char *folder, size_t total, error *e)
{
    size_t unlisted = c->all - c->listed, foreign = unlisted + c->other_model + c->other_prompt;
    *out = NULL;
    if (!foreign) return true;
    char part[3][96] = {"", "", ""}, *prompt = show_prompt(c->prompt);
    if (c->other_model) snprintf(part[0], sizeof part[0], "%zu by another model", c->other_model);
    if (c->other_prompt)
        snprintf(part[1], sizeof part[1], "%s%zu for another prompt", *part[0] ? ", " : "",
                 c->other_prompt);
    if (unlisted)
        snprintf(part[2], sizeof part[2], "%s%zu without an entry in " MANIFEST,
                 *part[0] || *part[1] ? ", " : "", unlisted);
    if (prompt)
        *out = string_format(
            "%s: %zu of %zu class pictures were not made by this model%s: %s%s%s%s; "
            "choose another folder, or remove them to have them made anew",
            folder, foreign, total, foreign > c->other_model ? " for this prompt" : "", part[0],
            part[1], c->other_prompt ? prompt : "", part[2]);
    free(prompt);
    return *out || error_memory(e, "a warning", sizeof part);
}

/* ---- making ---- */

/* A picture on its way: where it will lie, and where it does until it is entered, under a name that
 * folder_sweep knows. */
typedef struct target {
    char name[32], *path, *hidden;
} target;

static void target_close(target *t)
{
    free(t->path);
    free(t->hidden);
    *t = (target){0};
}

static bool target_open(target *t, const char *folder, uint64_t number, error *e)
{
    snprintf(t->name, sizeof t->name, "class-%04" PRIu64 ".png", number);
    t->path = path_join(folder, t->name);
    t->hidden = string_format("%s/.%s.%ld-0.tmp.png", folder, t->name, (long)getpid());
    if (t->path && t->hidden) return true;
    target_close(t);
    return error_memory(e, folder, strlen(folder) + sizeof t->name);
}

/* The first number from *number on whose file is not there; a link to nowhere counts as a file. */
static bool find_free(target *t, const char *folder, uint64_t *number, error *e)
{
    struct stat info;
    for (;; ++*number) {
        if (!target_open(t, folder, *number, e)) return false;
        if (lstat(t->path, &info) != 0) return true;
        target_close(t);
    }
}

/* Gives the picture its name, which another program must not have taken meanwhile. */
static bool give_name(const target *t, error *e)
{
    if (renameat2(AT_FDCWD, t->hidden, AT_FDCWD, t->path, RENAME_NOREPLACE) == 0) return true;
    if (errno == EINVAL || errno == ENOSYS) /* a file system that cannot promise this */
        if (rename(t->hidden, t->path) == 0) return true;
    return errno == EEXIST ? error_set(e, ERROR_FILE,
                                       "%s: appeared while it was made here; is another run making "
                                       "class pictures in that folder?",
                                       t->path)
                           : error_set(e, ERROR_FILE, "%s: cannot be written: %s", t->path,
                                       error_reason(errno));
}

static bool keep_image(manifest *list, const class_request *r, const target *t,
                       const image *picture, uint64_t seed, const char *settings, error *e)
{
    char hash[65];
    return image_write(picture, t->hidden, settings, 100, e) && sha256_file(hash, t->hidden, e) &&
           manifest_add(list, r, t->name, seed, settings, hash, e) &&
           json_write(list->root, list->path, e) && give_name(t, e);
}

static bool make_one(manifest *list, const class_request *r, const model *m,
                     const image_maker *maker, uint64_t *number, error *e)
{
    target t;
    if (!find_free(&t, r->folder, number, e)) return false;
    image picture = {0};
    char *settings = NULL;
    image_order order = {m, r->prompt, r->seed + *number, r->step, r->user};
    bool ok = maker->make(maker->user, &order, &picture, &settings, e) &&
              keep_image(list, r, &t, &picture, order.seed, settings, e);
    if (!ok) unlink(t.hidden);
    image_free(&picture);
    free(settings);
    target_close(&t);
    ++*number;
    return ok;
}

static bool make_missing(manifest *list, const class_request *r, const model *m,
                         const image_maker *maker, int missing, int *made, error *e)
{
    uint64_t number = 0;
    for (; *made < missing; ++*made) {
        error why = {0};
        if (!train_goes_on(r->watch, TRAIN_CLASS_PICTURES, *made, missing, e)) return false;
        if (make_one(list, r, m, maker, &number, &why)) continue;
        return why.code == ERROR_CANCELLED
                   ? error_set(e, ERROR_CANCELLED, "stopped after %d of %d class pictures", *made,
                               missing)
                   : error_set(e, why.code, "%s", why.text);
    }
    return true;
}

static int missing_of(const class_request *r, size_t there)
{
    assert(r->wanted >= 0);
    return there < (size_t)r->wanted ? r->wanted - (int)there : 0;
}

bool class_images_make(const class_request *r, const model *m, const image_maker *maker, int *made,
                       char **warning, error *e)
{
    manifest list;
    census c;
    *made = 0;
    *warning = NULL;
    if (!manifest_open(&list, r->folder, e)) return false;
    bool ok = take_census(&c, &list, r, e);
    int missing = ok ? missing_of(r, c.all) : 0;
    /* The warning is put together first: entries that it names may be replaced. */
    ok = ok && describe_census(warning, &c, r->folder, c.all + (size_t)missing, e);
    if (ok && missing)
        ok = path_make_dir(r->folder, e) && make_missing(&list, r, m, maker, missing, made, e);
    manifest_close(&list);
    if (!ok) {
        free(*warning);
        *warning = NULL;
    }
    return ok;
}

/* Whether it can be decoded, as it will have to be. */
static bool look_at_image(const char *folder, const char *name, error *e)
{
    image picture = {0};
    char *path = path_join(folder, name);
    bool ok = path ? image_read(&picture, NULL, path, e) : error_memory(e, folder, strlen(folder));
    image_free(&picture);
    free(path);
    return ok;
}

bool class_images_check(const class_request *r, int *missing, error *e)
{
    manifest list;
    photo_files files;
    if (!manifest_open(&list, r->folder, e)) return false;
    manifest_close(&list);
    if (!photo_files_list(&files, r->folder, 0, e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < files.count && i < (size_t)r->wanted; i++)
        ok = train_goes_on(r->watch, TRAIN_PHOTOS, (int64_t)i, (int64_t)files.count, e) &&
             look_at_image(r->folder, files.item[i].name, e);
    *missing = missing_of(r, files.count);
    photo_files_free(&files);
    return ok;
}

/* Whether the settings that a picture was made with are the request's. */
static bool is_alike(const json_t *entry, const class_request *r)
{
    static const char key[] = "Precision: ";
    const char *text = entry_text(entry, "settings"),
               *at = r->maker ? strstr(text, r->maker) : NULL, *found = strstr(at ? at : text, key);
    char word[8] = "f32"; /* which is not told */
    dtype made, wanted;
    if (found) sscanf(found + strlen(key), "%7[a-z0-9]", word);
    return (!r->maker || (at && at[strlen(r->maker)] == ',')) &&
           (!r->precision || (precision_parse(&made, word) &&
                              precision_parse(&wanted, r->precision) && made == wanted));
}

/* Whether the manifest says that this file, as it is, was made for the request. */
static bool is_made(const manifest *list, const class_request *r, const photo_file *file)
{
    uint64_t number;
    char end;
    const json_t *entry = entry_of(list, file);
    if (!entry || !r->model_hash ||
        sscanf(file->name, "class-%" SCNu64 ".pn%c", &number, &end) != 2)
        return false;
    json_t *seed = seed_json(r->seed + number);
    bool made = !strcmp(entry_text(entry, "model"), r->model_hash) &&
                !strcmp(entry_text(entry, "prompt"), r->prompt) &&
                json_equal(json_object_get(entry, "seed"), seed) && is_alike(entry, r);
    json_decref(seed);
    return made;
}

bool class_images_foreign(const class_request *r, json_t **out, error *e)
{
    manifest list;
    photo_files files;
    *out = NULL;
    if (!manifest_open(&list, r->folder, e)) return false;
    bool ok = photo_files_list(&files, r->folder, (size_t)r->wanted, e);
    json_t *foreign = ok ? json_array() : NULL;
    for (size_t i = 0; ok && i < files.count; i++) {
        const photo_file *f = &files.item[i];
        if (is_made(&list, r, f)) continue;
        char *name = describe_name(f->name);
        json_t *pair = name ? json_pack("[s, s]", name, f->sha256) : NULL;
        ok = (pair && json_array_append_new(foreign, pair) == 0) || error_memory(e, r->folder, 64);
        free(name);
    }
    photo_files_free(&files);
    manifest_close(&list);
    if (ok)
        *out = foreign;
    else
        json_decref(foreign);
    return ok;
}
