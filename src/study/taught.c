/* SPDX-License-Identifier: Apache-2.0
 *
 * taught: opening and teaching a study's models. folder/models/<name>/study.json is written when a
 * training begins and names what determines it; the model is whole when its model_index.json, written
 * last, is there too. */
#include "study/taught.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/folder.h"
#include "base/number.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "generate/parameters.h"
#include "model/hash.h"
#include "train/checkpoint.h"
#include "train/describe.h"

enum { CHECKPOINT_EVERY = 100 };

#define KEY_FILE "study.json"

/* ---- what determines a model ---------------------------------------------------------------- */

/* The bytes of every file of the folder that holds the subject's pictures. */
static bool hash_folder(sha256 *h, const char *folder, error *e)
{
    folder_names names;
    if (!folder_list(&names, folder, e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) {
        mapped_file map;
        char *path = path_join(folder, names.name[i]);
        ok = path || error_memory(e, folder, strlen(folder));
        if (ok && path_is_file(path) && (ok = file_map(&map, path, e))) {
            sha256_add(h, names.name[i], strlen(names.name[i]) + 1);
            sha256_add(h, map.data, map.size);
            file_unmap(&map);
        }
        free(path);
    }
    folder_list_free(&names);
    return ok;
}

static bool hash_training(const study_model *m, const char *base_hash, char out[65], error *e)
{
    train_settings s = m->train;
    s.output_dir = s.instance_data_dir = s.class_data_dir = "";
    json_t *j = describe_settings(&s);
    char *text = json_dumps(j, JSON_REAL_PRECISION(17) | JSON_SORT_KEYS), line[64];
    json_decref(j);
    if (!text) return error_memory(e, "a training's settings", 4096);
    sha256 h;
    sha256_start(&h);
    sha256_add(&h, base_hash, 64);
    sha256_add(&h, text, strlen(text));
    snprintf(line, sizeof line, " class %d %s ", m->class_steps,
             number_rounded((double)m->class_guidance, 9).text);
    sha256_add(&h, line, strlen(line));
    free(text);
    bool ok = hash_folder(&h, m->train.instance_data_dir, e) &&
              (!m->train.class_data_dir || !path_is_dir(m->train.class_data_dir) ||
               hash_folder(&h, m->train.class_data_dir, e));
    sha256_end(&h, out);
    return ok;
}

/* ---- opening -------------------------------------------------------------------------------- */

static bool open_one(study_models *m, int i, device *d, error *e)
{
    return model_open(&m->open[i], m->folder[i], NULL, NULL, e) &&
           generator_open(&m->generator[i], d, m->open[i], e) && (m->is_ready[i] = true);
}

/* Whether folder/study.json names this training. */
static bool has_key(const char *folder, const char *key)
{
    char *path = path_join(folder, KEY_FILE);
    json_t *j = path ? json_load_file(path, 0, NULL) : NULL;
    const char *found = json_string_value(json_object_get(j, "determined_by"));
    bool same = found && strcmp(found, key) == 0;
    json_decref(j);
    free(path);
    return same;
}

static bool is_whole(const char *folder, const char *key)
{
    char *index = path_join(folder, "model_index.json");
    bool whole = index && path_is_file(index) && has_key(folder, key);
    free(index);
    return whole;
}

/* The seconds of train.jsonl's lines. */
static double training_seconds(const char *folder)
{
    char *path = path_join(folder, "train.jsonl"), *text = NULL;
    double sum = 0, seconds;
    if (path && path_is_file(path) && file_read(path, 1 << 28, &text, NULL, NULL))
        for (const char *at = text; (at = strstr(at, "\"seconds\": ")); at += 11)
            if (number_parse(at + 11, NULL, &seconds)) sum += seconds;
    free(text);
    free(path);
    return sum;
}

static bool find_one(study_models *m, int i, device *d, const study_plan *p, const char *folder,
                     const char *pocket, error *e)
{
    const study_model *s = &p->model[i];
    if (s->path) {
        m->folder[i] = strdup(strcmp(s->path, "pocket") == 0 && pocket ? pocket : s->path);
        if (!m->folder[i]) return error_memory(e, "a model's path", 64);
        if (!open_one(m, i, d, e)) return false;
        model_hash(m->open[i], m->hash[i]);
        return true;
    }
    m->folder[i] = string_format("%s/models/%s", folder, s->name);
    bool classes = s->train.with_prior_preservation && !s->train.prior_from_base;
    if (classes)
        m->class_folder[i] = s->train.class_data_dir ? strdup(s->train.class_data_dir)
                                                     : string_format("%s/class/%s", folder, s->name);
    if (!m->folder[i] || (classes && !m->class_folder[i]))
        return error_memory(e, "a model's path", 64);
    if (!hash_training(s, m->hash[s->base], m->hash[i], e)) return false;
    if (!is_whole(m->folder[i], m->hash[i])) return true;
    m->seconds[i] = training_seconds(m->folder[i]);
    return open_one(m, i, d, e);
}

bool study_models_open(study_models *out, device *d, const study_plan *p, const char *folder,
                       const char *pocket, error *e)
{
    size_t n = (size_t)p->models + 1;
    *out = (study_models){.count = p->models,
                          .open = calloc(n, sizeof *out->open),
                          .generator = calloc(n, sizeof *out->generator),
                          .hash = calloc(n, sizeof *out->hash),
                          .hash_text = calloc(n, sizeof *out->hash_text),
                          .folder = calloc(n, sizeof *out->folder),
                          .class_folder = calloc(n, sizeof *out->class_folder),
                          .is_ready = calloc(n, sizeof *out->is_ready),
                          .seconds = calloc(n, sizeof *out->seconds)};
    bool ok = (out->open && out->generator && out->hash && out->hash_text && out->folder && out->class_folder &&
               out->is_ready && out->seconds) ||
              error_memory(e, "a study's models", n * sizeof *out->hash);
    for (int i = 0; ok && i < p->models; i++) out->hash_text[i] = out->hash[i];
    for (int i = 0; ok && i < p->models; i++) ok = find_one(out, i, d, p, folder, pocket, e);
    if (!ok) study_models_close(out);
    return ok;
}

void study_models_close(study_models *m)
{
    for (int i = 0; i < m->count; i++) {
        if (m->generator) generator_close(&m->generator[i]);
        if (m->open) model_close(&m->open[i]);
        if (m->folder) free(m->folder[i]);
        if (m->class_folder) free(m->class_folder[i]);
    }
    free(m->open);
    free(m->generator);
    free(m->hash);
    free(m->hash_text);
    free(m->folder);
    free(m->class_folder);
    free(m->is_ready);
    free(m->seconds);
    *m = (study_models){0};
}

/* ---- teaching ------------------------------------------------------------------------------- */

typedef struct teacher {
    generator *base;
    const study_model *settings;
} teacher;

/* A picture of the class by the base model. */
static bool make_picture(void *user, const model *m, const char *prompt, uint64_t seed, image *out,
                         char **text, error *e)
{
    const teacher *t = user;
    generate_options o = {.prompt = prompt,
                          .seed = seed,
                          .sampler = {.kind = SAMPLER_DDIM, .steps = t->settings->class_steps},
                          .guidance = t->settings->class_guidance};
    generate_result made;
    picture_job job = {.models = &t->base, .count = 1, .options = &o};
    (void)m;
    if (!generator_run(t->base, &o, &made, e)) return false;
    if (!parameters_text(text, &job, &made.picture, e)) {
        generate_result_free(&made);
        return false;
    }
    *out = made.picture;
    made.picture = (image){0};
    generate_result_free(&made);
    return true;
}

/* Begins anew where the folder is another training's, and says what this one is. */
static bool claim_folder(const char *folder, const char *key, error *e)
{
    if (has_key(folder, key)) return true;
    if (path_is_dir(folder) && !folder_remove(folder, e)) return false;
    json_t *j = json_pack("{s:s}", "determined_by", key);
    bool ok = path_make_dir(folder, e) && describe_write(j, folder, KEY_FILE, e);
    json_decref(j);
    return ok;
}

bool study_models_teach(study_models *m, int i, device *d, const study_plan *p, const char *folder,
                        const train_events *events, error *e)
{
    const study_model *s = &p->model[i];
    teacher t = {m->generator[s->base], s};
    picture_maker maker = {make_picture, &t};
    train_settings settings = s->train;
    (void)folder;
    settings.output_dir = m->folder[i];
    settings.class_data_dir = m->class_folder[i];
    settings.checkpointing_steps = CHECKPOINT_EVERY;
    settings.checkpoints_total_limit = 1;
    if (!claim_folder(m->folder[i], m->hash[i], e)) return false;
    if (checkpoint_any(m->folder[i])) settings.resume_from_checkpoint = "latest";
    if (!train_run(d, m->open[s->base], &settings, &maker, events, e) ||
        !checkpoint_remove_all(m->folder[i], e))
        return false;
    m->seconds[i] = training_seconds(m->folder[i]);
    return open_one(m, i, d, e);
}
