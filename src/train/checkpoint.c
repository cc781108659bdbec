/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint: saving and resuming a run bit for bit. */
#include "train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/folder.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "file/json.h"
#include "file/safetensors.h"
#include "model/hash.h"
#include "model/names.h"
#include "model/save.h"
#include "train/checkpoint_folder.h"
#include "train/identity.h"

#define UNET_FILE "unet/diffusion_pytorch_model.safetensors"
#define CLIP_FILE "text_encoder/model.safetensors"
#define OPTIMIZER_FILE "optimizer.safetensors"
#define DRAWS "draws"

enum { FILES = 3 };

/* Of the weights of both networks, and the rest; a LoRA has one for both. NULL: there is none. */
static const char *hashed_file(const trainer *t, int i)
{
    bool is_lora = t->settings.lora_rank > 0;
    if (t->settings.textual_inversion && i < 2) return i ? NULL : INVERSION_FILE;
    if (i == 0) return is_lora ? LORA_FILE : UNET_FILE;
    if (i == 1) return is_lora || !t->settings.train_text_encoder ? NULL : CLIP_FILE;
    return OPTIMIZER_FILE;
}

/* Hashes of these, made while they were written. */
typedef struct file_hashes {
    char of[FILES][65];
} file_hashes;

void checkpoint_owner_of(checkpoint_owner *o, const trainer *t)
{
    model_hash(t->model, o->model_hash);
    o->output_dir = t->settings.output_dir;
}

double checkpoint_bytes(const trainer *t)
{
    parameter_sizes z = parameters_sizes(trainer_begins(t, false), trainer_begins(t, true),
                                         &t->settings);
    return (double)z.weights + (double)z.states;
}

/* ---- moments as tensors ---- */

static dtype moment_type(moment_kind kind)
{
    return kind == MOMENTS_8BIT ? DTYPE_U8 : kind == MOMENTS_F16 ? DTYPE_F16 : DTYPE_F32;
}

/* The k-th part of a weight's moments (0..3) as an entry called WEIGHT.part, and where it lies
 * among the set's; false: there is none. */
static bool moment_entry(safetensors_entry *out, size_t *at, const weight *w, const moments *m,
                         int k)
{
    static const char *const part[] = {"exp_avg", "exp_avg_sq", "absmax_exp_avg",
                                       "absmax_exp_avg_sq"};
    const size_t places[] = {m->m, m->v, m->absmax_m, m->absmax_v};
    if (k >= 2 && m->kind != MOMENTS_8BIT) return false;
    char *name = string_format("%s.%s", w->name, part[k]);
    *out = (safetensors_entry){.name = name};
    *at = places[k];
    out->type = k < 2 ? moment_type(m->kind) : DTYPE_F32;
    out->rank = 1;
    out->dim[0] = k < 2 ? m->count : (m->count + MOMENTS_BLOCK - 1) / MOMENTS_BLOCK;
    out->bytes = (uint64_t)out->dim[0] * dtype_size(out->type);
    return true;
}

/* Every moment of the run: the first `first` are the UNet's. */
typedef struct entry_list {
    safetensors_entry *item; /* names malloc'ed; data NULL */
    size_t *at;              /* where each lies in its set's states */
    size_t count, first;
    host_view view[2]; /* of them, while they are saved */
} entry_list;

static void entries_free(entry_list *l)
{
    for (size_t i = 0; i < l->count; i++) free((void *)(uintptr_t)l->item[i].name);
    for (int k = 0; k < 2; k++) host_view_close(&l->view[k]);
    free(l->item);
    free(l->at);
}

static bool entries_open(entry_list *l, const trainer *t, error *e)
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    size_t most = 4 * (sets[0]->set.count + sets[1]->set.count) + 1;
    *l = (entry_list){.item = calloc(most, sizeof *l->item), .at = calloc(most, sizeof *l->at)};
    bool ok = (l->item && l->at) ||
              error_memory(e, "the optimizer's state", most * sizeof *l->item);
    for (int k = 0; ok && k < 2; k++) {
        for (size_t i = 0; ok && i < sets[k]->set.count; i++)
            for (int part = 0; ok && part < 4; part++) {
                if (!moment_entry(&l->item[l->count], &l->at[l->count], &sets[k]->set.item[i],
                                  &sets[k]->moments[i], part))
                    continue;
                ok = l->item[l->count].name || error_memory(e, "the optimizer's state", 64);
                if (ok) l->count++;
            }
        if (k == 0) l->first = l->count;
    }
    if (!ok) entries_free(l);
    return ok;
}

/* Data as they are now. */
static bool entries_show(entry_list *l, const trainer *t, error *e)
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    for (int k = 0; k < 2; k++)
        if (sets[k]->set.count && !host_view_open(&l->view[k], &sets[k]->states, e)) return false;
    for (size_t i = 0; i < l->count; i++) l->item[i].data = l->view[i >= l->first].data + l->at[i];
    return true;
}

static bool save_optimizer(const trainer *t, const char *folder, char hash[65], error *e)
{
    entry_list l;
    void *state = NULL;
    size_t size = 0;
    if (!entries_open(&l, t, e)) return false;
    char *path = path_join(folder, OPTIMIZER_FILE), *name = strdup(DRAWS);
    bool ok = (path && name) || error_memory(e, "the optimizer's state", 64);
    ok = ok && entries_show(&l, t, e) && draws_save(&t->draws, &state, &size, e);
    if (ok) {
        l.item[l.count++] = (safetensors_entry){.name = name,
                                                .type = DTYPE_U8,
                                                .rank = 1,
                                                .dim = {(int64_t)size},
                                                .data = state,
                                                .bytes = size};
        ok = safetensors_write_hashed(path, l.item, l.count, NULL, 0, hash, e);
    } else {
        free(name);
    }
    free(state);
    free(path);
    entries_free(&l);
    return ok;
}

/* Copies one tensor of a file into the device's memory; the file has been hashed, so what does not
 * fit is foreign. */
static bool load_entry(const safetensors *file, const safetensors_entry *to, device *d,
                       const buffer *memory, size_t at, const char *path, error *e)
{
    const safetensors_entry *from = safetensors_find(file, to->name);
    if (!from || from->type != to->type || from->bytes != to->bytes)
        return error_set(e, ERROR_FORMAT, "%s: %s is %s; resume from another checkpoint", path,
                         to->name, from ? "of another type or size" : "missing");
    return d->upload(d, memory, at, from->data, from->bytes, e);
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
        for (size_t i = 0; ok && i < l.count; i++)
            ok = load_entry(&file, &l.item[i], t->device,
                            i < l.first ? &t->parameters.unet.states : &t->parameters.clip.states,
                            l.at[i], path, e);
        const safetensors_entry *state = safetensors_find(&file, DRAWS);
        ok = ok && (state || error_set(e, ERROR_FORMAT,
                                       "%s: the state of the draws is missing; "
                                       "resume from another checkpoint",
                                       path));
        ok = ok && draws_load(&t->draws, state->data, state->bytes, e);
        if (l.item) entries_free(&l);
        safetensors_close(&file);
    }
    free(path);
    return ok;
}

static bool load_inversion(trained_set *set, const train_settings *s, const char *folder, error *e)
{
    device *d = set->device;
    const weight *w = &set->set.item[0];
    char *path = path_join(folder, INVERSION_FILE);
    if (!path) return error_memory(e, folder, strlen(folder));
    float *rows = inversion_read(path, w, s, e);
    bool ok = rows && d->upload(d, &set->weights, set->at[0], rows,
                                (size_t)weight_elements(w) * sizeof *rows, e);
    device_weights_touch(set->copy, 0);
    free(rows);
    free(path);
    return ok;
}

/* spell: how the file calls a weight; malloc'ed. */
static bool load_weight(trained_set *set, size_t i, const safetensors *file, char *spelled,
                        const char *path, error *e)
{
    const weight *w = &set->set.item[i];
    safetensors_entry to = {.name = spelled,
                            .type = w->type,
                            .bytes = (uint64_t)weight_elements(w) * dtype_size(w->type)};
    bool ok = spelled ? load_entry(file, &to, set->device, &set->weights, set->at[i], path, e)
                      : error_memory(e, "a weight's name", NAME_LENGTH);
    device_weights_touch(set->copy, i);
    free(spelled);
    return ok;
}

static bool load_weights(const trainer *t, trained_set *set, const char *folder, const char *name,
                         error *e)
{
    safetensors file;
    bool is_lora = t->settings.lora_rank > 0, is_clip = set == &t->parameters.clip;
    char *path = path_join(folder, name);
    if (!path) return error_memory(e, folder, strlen(folder));
    bool ok = safetensors_open(&file, path, e);
    if (ok) {
        for (size_t i = 0; ok && i < set->set.count; i++) {
            const char *own = set->set.item[i].name;
            ok = load_weight(set, i, &file,
                             is_lora ? lora_spell(LORA_DIFFUSERS, is_clip, own) : strdup(own), path,
                             e);
        }
        safetensors_close(&file);
    }
    free(path);
    return ok;
}

/* ---- checkpoint.json ---- */

/* In torch's names; the scale alone is missing where a run in half precision went on in another. */
static json_t *scaler_json(const trainer *t)
{
    json_t *j = json_object();
    json_put(&j, "skipped_steps", json_integer(t->skipped));
    if (t->scaler.scale > 0) {
        json_put(&j, "scale", json_real((double)t->scaler.scale));
        json_put(&j, "growth_tracker", json_integer(t->scaler.good));
    }
    return j;
}

/* A checkpoint without is one that was made in another precision: the scale is the first. */
static bool load_scaler(trainer *t, const json_t *saved, const char *folder, error *e)
{
    int64_t skipped = json_integer_value(json_object_get(saved, "skipped_steps"));
    const json_t *scale = json_object_get(saved, "scale");
    double good = json_number_value(json_object_get(saved, "growth_tracker"));
    if (skipped < 0 || skipped > t->done ||
        (scale && !loss_scaler_valid(json_number_value(scale), good)))
        return error_set(e, ERROR_FORMAT,
                         "%s: its loss_scaler is damaged; resume from another checkpoint", folder);
    t->skipped = skipped;
    if (scale && t->scaler.scale > 0)
        t->scaler = (loss_scaler){(float)json_number_value(scale), (int)good};
    return true;
}

static bool save_manifest(const checkpoint_owner *o, const trainer *t, const char *folder,
                          const file_hashes *hashes, error *e)
{
    json_t *files = json_object(), *j = identity_json(t, o->model_hash);
    for (int i = 0; i < FILES; i++)
        if (hashed_file(t, i)) json_put(&files, hashed_file(t, i), json_string(hashes->of[i]));
    json_put(&j, "step", json_integer(t->done));
    if (t->scaler.scale > 0 || t->skipped) json_put(&j, "loss_scaler", scaler_json(t));
    json_put(&j, "files", files);
    bool ok = json_write_in(j, folder, "checkpoint.json", e);
    json_decref(j);
    return ok;
}

json_t *checkpoint_read(const char *path, error *e)
{
    char *file = path_join(path, "checkpoint.json");
    json_t *j = NULL;
    if (!file) {
        error_memory(e, path, strlen(path));
    } else if (!path_is_file(file)) {
        error_set(e, ERROR_FILE,
                  "%s: is not a checkpoint of likeness train: it has no checkpoint.json", path);
    } else {
        j = json_read(file, JSON_LIMIT, NULL);
        if (json_integer_value(json_object_get(j, "step")) <= 0) {
            error_set(e, ERROR_FORMAT, "%s: is damaged; resume from another checkpoint", file);
            json_decref(j);
            j = NULL;
        }
    }
    free(file);
    return j;
}

static bool hash_file(const char *folder, const char *name, char out[65], error *e)
{
    char *path = path_join(folder, name);
    bool ok = path ? sha256_file(out, path, e) : error_memory(e, folder, strlen(folder));
    free(path);
    return ok;
}

static bool check_files(const json_t *files, const trainer *t, const char *folder, error *e)
{
    bool ok = true;
    for (int i = 0; ok && i < FILES; i++) {
        char hash[65];
        const char *name = hashed_file(t, i);
        if (!name) continue;
        const char *saved = json_string_value(json_object_get(files, name));
        ok = hash_file(folder, name, hash, e) &&
             ((saved && strcmp(saved, hash) == 0) ||
              error_set(e, ERROR_FORMAT,
                        "%s/%s: has been altered since it was written; resume from "
                        "another checkpoint",
                        folder, name));
    }
    return ok;
}

static bool load_manifest(const checkpoint_owner *o, trainer *t, const char *folder, error *e)
{
    json_t *j = checkpoint_read(folder, e);
    bool ok = j && identity_same(j, t, o->model_hash, true, folder, e) &&
              check_files(json_object_get(j, "files"), t, folder, e);
    if (ok) t->done = json_integer_value(json_object_get(j, "step"));
    ok = ok && load_scaler(t, json_object_get(j, "loss_scaler"), folder, e);
    json_decref(j);
    return ok;
}

/* ---- saving and loading ---- */

static bool save_lora(const trainer *t, const char *folder, char hash[65], error *e)
{
    char *path = path_join(folder, LORA_FILE);
    bool ok = path ? lora_write(path, LORA_DIFFUSERS, &t->parameters.unet.set,
                                &t->parameters.clip.set, &t->settings, hash, e)
                   : error_memory(e, folder, strlen(folder));
    free(path);
    return ok;
}

static bool save_inversion(const trainer *t, const char *folder, char hash[65], error *e)
{
    char *path = path_join(folder, INVERSION_FILE);
    bool ok = path ? inversion_write(path, &t->parameters.clip.set, &t->settings, hash, e)
                   : error_memory(e, folder, strlen(folder));
    free(path);
    return ok;
}

static bool save_networks(const trainer *t, const char *folder, file_hashes *hashes, error *e)
{
    char *unet = path_join(folder, "unet"), *clip = path_join(folder, "text_encoder");
    bool ok = (unet && clip) || error_memory(e, folder, strlen(folder));
    ok = ok && model_save_unet(t->model, unet, &t->parameters.unet.set, hashes->of[0], e) &&
         (!t->settings.train_text_encoder ||
          model_save_clip(t->model, clip, &t->parameters.clip.set, hashes->of[1], e));
    free(unet);
    free(clip);
    return ok;
}

static bool save_into(const checkpoint_owner *o, trainer *t, const char *folder, error *e)
{
    file_hashes hashes;
    bool ok = path_make_dir(folder, e) && parameters_show(&t->parameters, e) &&
              (t->settings.textual_inversion ? save_inversion(t, folder, hashes.of[0], e)
               : t->settings.lora_rank       ? save_lora(t, folder, hashes.of[0], e)
                                             : save_networks(t, folder, &hashes, e));
    parameters_hide(&t->parameters);
    return ok && save_optimizer(t, folder, hashes.of[2], e) &&
           save_manifest(o, t, folder, &hashes, e);
}

bool checkpoint_save(const checkpoint_owner *o, trainer *t, error *e)
{
    char name[32];
    snprintf(name, sizeof name, "%lld", (long long)t->done);
    char *partial = checkpoint_partial(o->output_dir, name),
         *final = checkpoint_path(o->output_dir, t->done);
    bool ok = (partial && final) || error_memory(e, "a checkpoint's name", 64);
    ok = ok && trainer_finite(t, e) && folder_remove(partial, e) && save_into(o, t, partial, e) &&
         checkpoint_give_way(o, t, final, e) && folder_move(partial, final, e);
    if (!ok && partial) folder_remove(partial, NULL);
    free(partial);
    free(final);
    return ok && checkpoint_limit(o, t, e);
}

bool checkpoint_load(const checkpoint_owner *o, trainer *t, const char *path, error *e)
{
    const char *unet = hashed_file(t, 0), *clip = hashed_file(t, 1);
    if (t->settings.textual_inversion)
        return load_manifest(o, t, path, e) &&
               load_inversion(&t->parameters.clip, &t->settings, path, e) &&
               load_optimizer(t, path, e);
    return load_manifest(o, t, path, e) && load_weights(t, &t->parameters.unet, path, unet, e) &&
           (!t->settings.train_text_encoder ||
            load_weights(t, &t->parameters.clip, path, clip ? clip : unet, e)) &&
           load_optimizer(t, path, e);
}
