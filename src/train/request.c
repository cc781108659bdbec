/* SPDX-License-Identifier: Apache-2.0
 *
 * request: see request.h. */
#include "train/request.h"

#include <jansson.h>

#include "file/json.h"
#include "train/class_images.h"
#include "train/describe.h"

static json_t *determining_settings(const train_request *r)
{
    train_settings s = *r->settings;
    if (!s.resolution) s.resolution = r->resolution;
    train_settings_resolve(&s);
    json_t *all = describe_settings(&s), *some = json_object(), *value;
    const char *name;
    json_object_foreach(all, name, value) if (train_setting_determines(&s, name))
        json_put(&some, name, json_incref(value));
    if (!all) json_decref(some), some = NULL;
    json_decref(all);
    /* trainings of all weights are called as they were before there were others */
    if (!s.lora_rank) json_object_del(some, "lora_rank");
    if (!s.textual_inversion) json_object_del(some, "textual_inversion");
    return some;
}

static bool instance_hashes(json_t **out, const train_settings *s, error *e)
{
    photo_files files = {0};
    if (!s->instance_count && !photo_files_list(&files, s->instance_data_dir, 0, e)) return false;
    *out = json_array();
    for (size_t i = 0; i < s->instance_count; i++) {
        char hash[65];
        photo_hash(s->instance_images[i], hash);
        json_add(out, json_string(hash));
    }
    for (size_t i = 0; i < files.count; i++) json_add(out, json_string(files.item[i].sha256));
    photo_files_free(&files);
    return true;
}

/* Prompt, count and seed are among the settings. */
static bool class_part(json_t **whole, const train_request *r, error *e)
{
    const train_settings *s = r->settings;
    if (!train_setting_determines(s, "num_class_images")) return true;
    class_request made = {.folder = s->class_data_dir,
                          .prompt = s->class_prompt,
                          .wanted = s->num_class_images,
                          .seed = s->seed,
                          .model_hash = r->class_model,
                          .maker = r->class_maker,
                          .precision = r->precision};
    json_t *foreign = NULL;
    if (!class_images_foreign(&made, &foreign, e)) return false;
    json_put(whole, "class_maker", json_string(r->class_maker ? r->class_maker : ""));
    json_put(whole, "class_pictures", foreign);
    return true;
}

bool train_request_text(char **out, const train_request *r, error *e)
{
    json_t *whole = json_object(), *instances = NULL;
    *out = NULL;
    json_put(&whole, "model", json_string(r->model));
    json_put(&whole, "precision", json_string(r->precision));
    json_put(&whole, "settings", determining_settings(r));
    bool ok = instance_hashes(&instances, r->settings, e);
    json_put(&whole, "instance_pictures", instances);
    ok = ok && class_part(&whole, r, e);
    if (ok) *out = json_text(whole, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(whole);
    return ok && (*out || error_memory(e, "a training's request", 4096));
}
