/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint: saving and resuming a run bit for bit. */
#include "train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/folder.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "file/json.h"
#include "file/safetensors.h"
#include "model/hash.h"
#include "model/save.h"
#include "train/describe.h"

#define PREFIX "checkpoint-"
#define PARTIAL ".partial-"
#define UNET_FILE "unet/diffusion_pytorch_model.safetensors"
#define CLIP_FILE "text_encoder/model.safetensors"
#define OPTIMIZER_FILE "optimizer.safetensors"
#define DRAWS "draws"

void checkpoint_owner_of(checkpoint_owner *o, const trainer *t)
{
    model_hash(t->model, o->model_hash);
    o->output_dir = t->settings.output_dir;
}

/* ---- moments as tensors ---- */

static dtype moment_type(moment_kind kind)
{
    return kind == MOMENTS_8BIT ? DTYPE_U8 : kind == MOMENTS_F16 ? DTYPE_F16 : DTYPE_F32;
}

/* The k-th part of a weight's moments (0..3) as an entry called WEIGHT.part; false: there is none. */
static bool moment_entry(safetensors_entry *out, const weight *w, const moments *m, int k)
{
    static const char *const part[] = {"exp_avg", "exp_avg_sq", "absmax_exp_avg",
                                       "absmax_exp_avg_sq"};
    void *data[] = {m->m, m->v, m->absmax_m, m->absmax_v};
    if (!data[k]) return false;
    char *name = string_format("%s.%s", w->name, part[k]);
    *out = (safetensors_entry){.name = name, .data = data[k]};
    out->type = k < 2 ? moment_type(m->kind) : DTYPE_F32;
    out->rank = 1;
    out->dim[0] = k < 2 ? m->count : (m->count + MOMENTS_BLOCK - 1) / MOMENTS_BLOCK;
    out->bytes = (uint64_t)out->dim[0] * dtype_size(out->type);
    return true;
}

typedef struct entry_list {
    safetensors_entry *item;
    size_t count;
} entry_list;

static void entries_free(entry_list *l)
{
    for (size_t i = 0; i < l->count; i++) free((void *)(uintptr_t)l->item[i].name);
    free(l->item);
}

/* Every moment of the run; names malloc'ed. */
static bool entries_open(entry_list *l, const trainer *t, error *e)
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    size_t most = 4 * (sets[0]->set.count + sets[1]->set.count) + 1;
    *l = (entry_list){calloc(most, sizeof *l->item), 0};
    bool ok = l->item || error_memory(e, "the optimizer's state", most * sizeof *l->item);
    for (int k = 0; ok && k < 2; k++)
        for (size_t i = 0; ok && i < sets[k]->set.count; i++)
            for (int part = 0; ok && part < 4; part++) {
                if (!moment_entry(&l->item[l->count], &sets[k]->set.item[i], &sets[k]->moments[i],
                                  part))
                    continue;
                ok = l->item[l->count].name || error_memory(e, "the optimizer's state", 64);
                if (ok) l->count++;
            }
    if (!ok) entries_free(l);
    return ok;
}

static bool save_optimizer(const trainer *t, const char *folder, error *e)
{
    entry_list l;
    void *state = NULL;
    size_t size = 0;
    if (!entries_open(&l, t, e)) return false;
    char *path = path_join(folder, OPTIMIZER_FILE), *name = strdup(DRAWS);
    bool ok = (path && name) || error_memory(e, "the optimizer's state", 64);
    ok = ok && draws_save(&t->draws, &state, &size, e);
    if (ok) {
        l.item[l.count++] = (safetensors_entry){.name = name, .type = DTYPE_U8, .rank = 1,
                                                .dim = {(int64_t)size}, .data = state,
                                                .bytes = size};
        ok = safetensors_write(path, l.item, l.count, NULL, 0, e);
    } else {
        free(name);
    }
    free(state);
    free(path);
    entries_free(&l);
    return ok;
}

/* Copies one tensor of a file over `to`; the file has been hashed, so what does not fit is foreign. */
static bool load_entry(const safetensors *file, const safetensors_entry *to, const char *path,
                       error *e)
{
    const safetensors_entry *from = safetensors_find(file, to->name);
    if (!from || from->type != to->type || from->bytes != to->bytes)
        return error_set(e, ERROR_FORMAT, "%s: %s is %s; resume from another checkpoint", path,
                         to->name, from ? "of another type or size" : "missing");
    memcpy((void *)(uintptr_t)to->data, from->data, from->bytes);
    return true;
}

static bool load_optimizer(trainer *t, const char *folder, error *e)
{
    entry_list l = {0};
    safetensors file;
    char *path = path_join(folder, OPTIMIZER_FILE);
    if (!path) return error_memory(e, folder, strlen(folder));
    bool ok = safetensors_open(&file, path, e);
    if (ok) {
        ok = entries_open(&l, t, e);
        for (size_t i = 0; ok && i < l.count; i++) ok = load_entry(&file, &l.item[i], path, e);
        const safetensors_entry *state = safetensors_find(&file, DRAWS);
        ok = ok && (state || error_set(e, ERROR_FORMAT, "%s: the state of the draws is missing; "
                                       "resume from another checkpoint", path));
        ok = ok && draws_load(&t->draws, state->data, state->bytes, e);
        if (l.item) entries_free(&l);
        safetensors_close(&file);
    }
    free(path);
    return ok;
}

static bool load_weights(trained_set *set, const char *folder, const char *name, error *e)
{
    safetensors file;
    char *path = path_join(folder, name);
    if (!path) return error_memory(e, folder, strlen(folder));
    bool ok = safetensors_open(&file, path, e);
    if (ok) {
        for (size_t i = 0; ok && i < set->set.count; i++) {
            weight *w = &set->set.item[i];
            safetensors_entry to = {.name = w->name, .type = w->type, .data = w->data,
                                    .bytes = (uint64_t)weight_elements(w) * dtype_size(w->type)};
            ok = load_entry(&file, &to, path, e);
            device_touch(w);
        }
        safetensors_close(&file);
    }
    free(path);
    return ok;
}

/* ---- checkpoint.json ---- */

static bool hash_file(const char *folder, const char *name, char out[65], error *e)
{
    char *path = path_join(folder, name);
    bool ok = path ? sha256_file(out, path, e) : error_memory(e, folder, strlen(folder));
    free(path);
    return ok;
}

static const char *const hashed_files[] = {UNET_FILE, CLIP_FILE, OPTIMIZER_FILE};

static bool is_written(const trainer *t, int file)
{
    return file != 1 || t->settings.train_text_encoder;
}

static bool save_manifest(const checkpoint_owner *o, const trainer *t, const char *folder, error *e)
{
    json_t *files = json_object(), *j = json_object();
    bool ok = true;
    for (int i = 0; ok && i < 3; i++) {
        char hash[65];
        if (!is_written(t, i)) continue;
        ok = hash_file(folder, hashed_files[i], hash, e);
        if (ok) json_object_set_new(files, hashed_files[i], json_string(hash));
    }
    json_object_set_new(j, "step", json_integer(t->done));
    json_object_set_new(j, "model", json_string(o->model_hash));
    json_object_set_new(j, "settings", describe_settings(&t->settings));
    json_object_set_new(j, "pictures", describe_pictures(t));
    json_object_set_new(j, "files", files);
    ok = ok && describe_write(j, folder, "checkpoint.json", e);
    json_decref(j);
    return ok;
}

/* Settings that may differ when a run goes on: those that change no weight, how long it is, and how many
 * class pictures there are, which are compared themselves. */
static bool may_differ(const train_settings *s, const char *key)
{
    return !train_setting_determines(s, key) || strcmp(key, "max_train_steps") == 0 ||
           strcmp(key, "num_train_epochs") == 0 || strcmp(key, "num_class_images") == 0;
}

static bool same_settings(const json_t *saved, const trainer *t, const char *path, error *e)
{
    json_t *mine = describe_settings(&t->settings), *value;
    const char *key;
    bool ok = true;
    json_object_foreach(mine, key, value) {
        const json_t *other = json_object_get(saved, key);
        if (!ok || may_differ(&t->settings, key) || json_equal(value, other)) continue;
        char *was = other ? json_text(other, JSON_ENCODE_ANY) : NULL;
        char *now = json_text(value, JSON_ENCODE_ANY);
        ok = error_set(e, ERROR_USAGE, "%s: was made with --%s %s, this run has %s; give the same "
                       "settings, or start anew in another folder", path, key, was ? was : "unset",
                       now ? now : "another");
        free(was);
        free(now);
    }
    json_decref(mine);
    return ok;
}

static bool same_pictures(const json_t *saved, const trainer *t, const char *path, error *e)
{
    json_t *mine = describe_pictures(t);
    bool ok = json_equal(saved, mine) ||
              error_set(e, ERROR_USAGE, "%s: was made with other pictures (or some have changed); "
                        "give the same ones, or start anew in another folder", path);
    json_decref(mine);
    return ok;
}

static bool check_files(const json_t *files, const trainer *t, const char *folder, error *e)
{
    bool ok = true;
    for (int i = 0; ok && i < 3; i++) {
        char hash[65];
        if (!is_written(t, i)) continue;
        const char *saved = json_string_value(json_object_get(files, hashed_files[i]));
        ok = hash_file(folder, hashed_files[i], hash, e) &&
             ((saved && strcmp(saved, hash) == 0) ||
              error_set(e, ERROR_FORMAT, "%s/%s: has been altered since it was written; resume from "
                        "another checkpoint", folder, hashed_files[i]));
    }
    return ok;
}

static bool load_manifest(const checkpoint_owner *o, trainer *t, const char *folder, error *e)
{
    char *path = path_join(folder, "checkpoint.json");
    if (!path) return error_memory(e, folder, strlen(folder));
    if (!path_is_file(path)) {
        error_set(e, ERROR_FILE, "%s: is not a checkpoint of likeness train: it has no "
                  "checkpoint.json", folder);
        free(path);
        return false;
    }
    json_t *j = json_read(path, JSON_LIMIT, NULL);
    const json_t *settings = json_object_get(j, "settings");
    int64_t done = json_integer_value(json_object_get(j, "step"));
    const char *base = json_string_value(json_object_get(j, "model"));
    bool ok = (done > 0 && settings && base) ||
              error_set(e, ERROR_FORMAT, "%s: is damaged; resume from another checkpoint", path);
    ok = ok && (strcmp(base, o->model_hash) == 0 ||
                error_set(e, ERROR_USAGE, "%s: was made from another base model; give that one (-m)",
                          folder));
    ok = ok && same_settings(settings, t, folder, e) &&
         same_pictures(json_object_get(j, "pictures"), t, folder, e) &&
         check_files(json_object_get(j, "files"), t, folder, e);
    if (ok) t->done = done;
    json_decref(j);
    free(path);
    return ok;
}

/* ---- folders ---- */

/* The step of a folder's name; 0: it is no checkpoint's. */
static int64_t step_of(const char *name)
{
    size_t n = strlen(PREFIX);
    char *end;
    if (strncmp(name, PREFIX, n) != 0 || name[n] < '1' || name[n] > '9') return 0;
    long long number = strtoll(name + n, &end, 10);
    return *end ? 0 : number;
}

/* The checkpoint with the highest step (or, oldest, the lowest), malloc'ed; NULL: there is none. */
static char *find(const char *output_dir, bool oldest, size_t *count)
{
    folder_names names;
    int64_t best = 0;
    char *found = NULL;
    *count = 0;
    if (!folder_list(&names, output_dir, NULL)) return NULL;
    for (size_t i = 0; i < names.count; i++) {
        int64_t this = step_of(names.name[i]);
        if (!this) continue;
        ++*count;
        if (best && (oldest ? this >= best : this <= best)) continue;
        best = this;
        free(found);
        found = path_join(output_dir, names.name[i]);
    }
    folder_list_free(&names);
    return found;
}

static bool limit_count(const checkpoint_owner *o, int limit, error *e)
{
    for (bool ok = limit > 0; ok;) {
        size_t count;
        char *oldest = find(o->output_dir, true, &count);
        if (!oldest || count <= (size_t)limit) {
            free(oldest);
            return true;
        }
        char *away = string_format("%s/" PARTIAL "old", o->output_dir);
        ok = (away && folder_remove(away, e) && folder_move(oldest, away, e) &&
              folder_remove(away, e)) ||
             error_memory(e, "a checkpoint's name", 64);
        free(away);
        free(oldest);
        if (!ok) return false;
    }
    return true;
}

/* Removes the folders whose names `is_meant`. */
static bool remove_folders(const char *output_dir, bool (*is_meant)(const char *), error *e)
{
    folder_names names;
    if (!folder_list(&names, output_dir, e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) {
        if (!is_meant(names.name[i])) continue;
        char *path = path_join(output_dir, names.name[i]);
        ok = path ? folder_remove(path, e) : error_memory(e, output_dir, strlen(output_dir));
        free(path);
    }
    folder_list_free(&names);
    return ok;
}

static bool is_partial(const char *name) { return strncmp(name, PARTIAL, strlen(PARTIAL)) == 0; }
static bool is_checkpoint(const char *name) { return step_of(name) > 0; }

bool checkpoint_sweep(const char *output_dir, error *e)
{
    return remove_folders(output_dir, is_partial, e);
}

bool checkpoint_any(const char *output_dir)
{
    size_t count;
    free(find(output_dir, false, &count));
    return count > 0;
}

bool checkpoint_remove_all(const char *output_dir, error *e)
{
    return remove_folders(output_dir, is_checkpoint, e);
}

/* ---- saving and loading ---- */

static bool save_into(const checkpoint_owner *o, const trainer *t, const char *folder, error *e)
{
    char *unet = path_join(folder, "unet"), *clip = path_join(folder, "text_encoder");
    bool ok = (unet && clip) || error_memory(e, folder, strlen(folder));
    ok = ok && path_make_dir(folder, e) &&
         model_save_unet(t->model, unet, &t->parameters.unet.set, e) &&
         (!t->settings.train_text_encoder ||
          model_save_clip(t->model, clip, &t->parameters.clip.set, e)) &&
         save_optimizer(t, folder, e) && save_manifest(o, t, folder, e);
    free(unet);
    free(clip);
    return ok;
}

bool checkpoint_save(const checkpoint_owner *o, const trainer *t, error *e)
{
    char *partial = string_format("%s/" PARTIAL "%lld", o->output_dir, (long long)t->done);
    char *final = string_format("%s/" PREFIX "%lld", o->output_dir, (long long)t->done);
    bool ok = (partial && final) || error_memory(e, "a checkpoint's name", 64);
    ok = ok && trainer_finite(t, e) && folder_remove(partial, e) && save_into(o, t, partial, e) &&
         folder_remove(final, e) && folder_move(partial, final, e);
    if (!ok && partial) folder_remove(partial, NULL);
    free(partial);
    free(final);
    return ok && limit_count(o, t->settings.checkpoints_total_limit, e);
}

bool checkpoint_load(const checkpoint_owner *o, trainer *t, const char *from, char **path, error *e)
{
    size_t count;
    bool latest = strcmp(from, "latest") == 0;
    *path = latest ? find(o->output_dir, false, &count) : strdup(from);
    if (!*path)
        return latest ? error_set(e, ERROR_FILE, "%s: there is no checkpoint to resume from; leave "
                                  "out --resume_from_checkpoint", o->output_dir)
                      : error_memory(e, from, strlen(from));
    bool ok = path_is_dir(*path) ||
              error_set(e, ERROR_FILE, "%s: no such checkpoint", *path);
    ok = ok && load_manifest(o, t, *path, e) &&
         load_weights(&t->parameters.unet, *path, UNET_FILE, e) &&
         (!t->settings.train_text_encoder ||
          load_weights(&t->parameters.clip, *path, CLIP_FILE, e)) &&
         load_optimizer(t, *path, e);
    if (!ok) {
        free(*path);
        *path = NULL;
    }
    return ok;
}
