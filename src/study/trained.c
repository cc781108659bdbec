/* SPDX-License-Identifier: Apache-2.0
 *
 * trained: opening and training a study's models. A model is whole when its folder has the mark of
 * its request (trained_mark.h) and its model_index.json, written last, is there too; a LoRA, when
 * its file is. */
#include "study/trained.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/folder.h"
#include "base/number.h"
#include "base/platform.h"
#include "file/json.h"

#define CHECKPOINT "checkpoint-" /* and the step: as trainings name them */

__attribute__((format(printf, 2, 3))) static void say(const study_source *s, const char *format,
                                                      ...)
{
    char line[2048];
    va_list args;
    if (!s->say) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    s->say(s->user, line);
}

/* ---- what determines a model ---------------------------------------------------------------- */

static const char *precision_of(const study_source *s)
{
    return lk_mixed_precision_name(lk_context_precision(s->context));
}

/* The model from a path that model i goes back to. */
static int origin(const study_plan *p, int i)
{
    while (!p->model[i].path) i = p->model[i].base;
    return i;
}

/* How class pictures are made, in the words of their settings. */
static char *class_maker(const lk_train_options *o)
{
    return string_format("Steps: %d, Sampler: DDIM, CFG scale: %s", o->class_steps,
                         number_exact_float(o->class_guidance).text);
}

/* folder/class/a-photo-of-dog-1a2b3c4d: the pictures of one model for one prompt in one way, shared
 * by all trainings that ask for them. malloc'ed. */
static char *own_class_folder(const study_models *m, const study_source *s, int i)
{
    const study_model *t = &s->plan->model[i];
    char *maker = class_maker(&t->train), *slug = lk_slug(t->train.class_prompt, 180), hash[65],
         *folder = NULL;
    char *text = string_format("%s|%s|%s|%llu|%s", m->key[t->base], t->train.class_prompt,
                               maker ? maker : "", (unsigned long long)t->train.seed,
                               precision_of(s));
    if (maker && slug && text) {
        trained_key(text, hash);
        folder = string_format("%s/class/%s-%.8s", s->folder, slug, hash);
    }
    free(text);
    free(slug);
    free(maker);
    return folder;
}

static bool make_request(study_models *m, const study_source *s, int i, error *e)
{
    const study_model *t = &s->plan->model[i];
    lk_error why = {0};
    lk_train_options options = t->train;
    lk_train_base base;
    lk_train_base_defaults(&base);
    options.class_data_dir = m->class_folder[i];
    base.name = m->key[t->base];
    base.hash = m->open[t->base] ? lk_model_hash(m->open[t->base]) : NULL;
    base.precision = lk_context_precision(s->context);
    base.resolution = engine_resolution(m->open[origin(s->plan, i)]);
    if (!lk_train_request(&m->request[i], &options, &base, &why)) return engine_failed(&why, e);
    trained_key(m->request[i], m->key[i]);
    return true;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* A model that is open with the same weights, but for LoRAs, as model i will have; or NULL. */
static lk_model *base_of(const study_models *m, const study_source *s, int i)
{
    const study_model *of = s->plan->model;
    for (int k = 0; of[i].loras && !of[i].taesd && k < i; k++)
        if (of[k].path && !of[k].loras && !of[k].taesd && strcmp(of[k].path, of[i].path) == 0)
            return m->open[k];
    return NULL;
}

/* path NULL: the default model. */
static bool open_one(study_models *m, int i, const study_source *s, const char *path, error *e)
{
    lk_error why = {0};
    lk_model_options o;
    lk_model_defaults(&o);
    o.base = base_of(m, s, i);
    o.path = o.base ? NULL : path;
    o.loras = s->plan->model[i].lora;
    o.lora_count = s->plan->model[i].loras;
    o.taesd = s->plan->model[i].taesd;
    m->is_ready[i] = lk_model_open(&m->open[i], s->context, &o, &why);
    return m->is_ready[i] || engine_failed(&why, e);
}

/* What a training left in its folder: a model, or a LoRA for the model that it started from. */
static bool open_trained(study_models *m, int i, const study_source *s, const char *folder,
                         error *e)
{
    const study_model *t = &s->plan->model[i];
    lk_error why = {0};
    lk_lora lora = {.weight = 1};
    lk_model_options o;
    if (!t->train.lora_rank) return open_one(m, i, s, folder, e);
    char *path = path_join(folder, TRAINED_LORA);
    if (!path) return error_memory(e, folder, strlen(folder));
    lk_model_defaults(&o);
    lora.path = path;
    o.base = m->open[t->base];
    o.loras = &lora;
    o.lora_count = 1;
    m->is_ready[i] = lk_model_open(&m->open[i], s->context, &o, &why);
    free(path);
    return m->is_ready[i] || engine_failed(&why, e);
}

/* The seconds of train.jsonl's lines. */
static double training_seconds(const char *folder)
{
    char *path = path_join(folder, "train.jsonl"), *text = NULL;
    double sum = 0;
    if (path && path_is_file(path)) file_read(path, 1 << 28, &text, NULL, NULL);
    for (const char *line = text; line && *line;) {
        size_t length = strcspn(line, "\n");
        json_t *j = json_parse(line, length, 0, NULL);
        sum += json_number_value(json_object_get(j, "seconds"));
        json_decref(j);
        line += length + (line[length] == '\n');
    }
    free(text);
    free(path);
    return sum;
}

/* What is not among the weights that the model's hash is of. */
static bool add_taesd(study_models *m, const study_source *s, int i, error *e)
{
    lk_error why = {0};
    lk_generate_options o;
    char *text = NULL, *both = NULL;
    lk_settings *settings = NULL;
    if (!s->plan->model[i].taesd) return true;
    lk_generate_defaults(&o);
    bool ok = lk_generate_settings(&text, s->session, m->open[i], &o, &why) &&
              lk_settings_open(&settings, text, &why);
    if (!ok) engine_failed(&why, e);
    const char *tiny = ok ? lk_settings_get(settings, "VAE hash") : NULL;
    if (ok) both = string_format("%s decoded by %s", m->key[i], tiny ? tiny : "");
    if (ok && !both) ok = error_memory(e, "a model's name", 64);
    if (ok) trained_key(both, m->key[i]);
    lk_settings_close(&settings);
    lk_free(text);
    free(both);
    return ok;
}

static bool open_path(study_models *m, const study_source *s, int i, error *e)
{
    const char *path = s->plan->model[i].path;
    lk_model_info info;
    m->state[i] = TRAINED_WHOLE;
    if (!open_one(m, i, s, strcmp(path, "pocket") == 0 ? NULL : path, e)) return false;
    lk_model_describe(m->open[i], &info);
    m->folder[i] = strdup(info.path);
    snprintf(m->key[i], sizeof m->key[i], "%s", lk_model_hash(m->open[i]));
    return (m->folder[i] || error_memory(e, "a model's path", 64)) && add_taesd(m, s, i, e);
}

static bool name_folders(study_models *m, const study_source *s, int i, error *e)
{
    const study_model *t = &s->plan->model[i];
    bool classes = t->train.with_prior_preservation && !t->train.prior_from_base;
    m->folder[i] = string_format("%s/models/%s", s->folder, t->name);
    if (classes)
        m->class_folder[i] = t->train.class_data_dir ? strdup(t->train.class_data_dir)
                                                     : own_class_folder(m, s, i);
    return (m->folder[i] && (!classes || m->class_folder[i])) ||
           error_memory(e, "a model's path", 64);
}

static bool find_trained(study_models *m, const study_source *s, int i, error *e)
{
    if (!name_folders(m, s, i, e) || !make_request(m, s, i, e)) return false;
    char *aside = trained_aside(m->folder[i], m->key[i]);
    if (!aside) return error_memory(e, "a model's path", 64);
    m->state[i] = trained_look(m->folder[i], m->key[i]);
    bool ok = m->state[i] != TRAINED_FOREIGN ||
              error_set(e, ERROR_FILE,
                        "%s is there, and no study of likeness wrote it; move it, name the "
                        "model \"%s\" otherwise, or give the study another folder (-o)",
                        m->folder[i], s->plan->model[i].name);
    const char *found = m->state[i] == TRAINED_WHOLE                      ? m->folder[i]
                        : trained_look(aside, m->key[i]) == TRAINED_WHOLE ? aside
                                                                          : NULL;
    if (ok && found) {
        m->seconds[i] = training_seconds(found);
        /* beside a base that is still to be trained a LoRA is opened when that is done */
        const study_model *t = &s->plan->model[i];
        if (!t->train.lora_rank || m->is_ready[t->base]) ok = open_trained(m, i, s, found, e);
    }
    free(aside);
    return ok;
}

bool study_models_open(study_models *out, const study_source *s, error *e)
{
    const study_plan *p = s->plan;
    size_t n = (size_t)p->models + 1;
    *out = (study_models){.count = p->models,
                          .open = calloc(n, sizeof *out->open),
                          .key = calloc(n, sizeof *out->key),
                          .key_text = calloc(n, sizeof *out->key_text),
                          .request = calloc(n, sizeof *out->request),
                          .folder = calloc(n, sizeof *out->folder),
                          .class_folder = calloc(n, sizeof *out->class_folder),
                          .state = calloc(n, sizeof *out->state),
                          .is_ready = calloc(n, sizeof *out->is_ready),
                          .seconds = calloc(n, sizeof *out->seconds)};
    bool ok = (out->open && out->key && out->key_text && out->request && out->folder &&
               out->class_folder && out->state && out->is_ready && out->seconds) ||
              error_memory(e, "a study's models", n * sizeof *out->key);
    for (int i = 0; ok && i < p->models; i++) {
        out->key_text[i] = out->key[i];
        ok = !(s->stop && s->stop(s->user)) || error_set(e, ERROR_CANCELLED, "stopped");
        ok = ok && (p->model[i].path ? open_path(out, s, i, e) : find_trained(out, s, i, e));
    }
    if (!ok) study_models_close(out);
    return ok;
}

void study_models_close(study_models *m)
{
    for (int i = 0; i < m->count; i++) {
        if (m->open) lk_model_close(&m->open[i]);
        if (m->request) free(m->request[i]);
        if (m->folder) free(m->folder[i]);
        if (m->class_folder) free(m->class_folder[i]);
    }
    free(m->open);
    free(m->key);
    free(m->key_text);
    free(m->request);
    free(m->folder);
    free(m->class_folder);
    free(m->state);
    free(m->is_ready);
    free(m->seconds);
    *m = (study_models){0};
}

/* ---- whose folder --------------------------------------------------------------------------- */

/* Another request's model leaves models/<name>. */
static bool make_room(study_models *m, int i, const study_source *s, bool comes_back, error *e)
{
    const char *name = s->plan->model[i].name;
    char *why = trained_difference(m->folder[i], m->request[i]), *kept = NULL;
    bool ok = (why || error_memory(e, "a training's request", 64)) &&
              trained_move_aside(m->folder[i], &kept, e);
    if (ok)
        say(s, "model %s: %s: %s%s%s", name, why,
            comes_back ? "the one trained so before is taken back" : "trained anew",
            kept ? "; the old one is kept in " : "", kept ? kept : "");
    free(why);
    free(kept);
    return ok;
}

/* What killed runs left half-written in the study's own folders of a model. */
static void sweep_folders(const study_models *m, int i, const study_source *s)
{
    const study_model *of = &s->plan->model[i];
    if (of->path) return;
    folder_sweep(m->folder[i]);
    if (m->class_folder[i] && !of->train.class_data_dir) folder_sweep(m->class_folder[i]);
}

bool study_models_claim(study_models *m, int i, const study_source *s, error *e)
{
    sweep_folders(m, i, s);
    if (m->state[i] == TRAINED_BEGUN || m->state[i] == TRAINED_WHOLE) return true;
    char *aside = trained_aside(m->folder[i], m->key[i]);
    trained_state kept = aside ? trained_look(aside, m->key[i]) : TRAINED_NOTHING;
    bool comes_back = kept == TRAINED_WHOLE || kept == TRAINED_BEGUN;
    bool ok = aside || error_memory(e, "a model's path", 64);
    if (ok && m->state[i] == TRAINED_OTHER) ok = make_room(m, i, s, comes_back, e);
    if (ok)
        ok = comes_back ? folder_move(aside, m->folder[i], e)
                        : trained_begin(m->folder[i], m->request[i], e);
    if (ok) m->state[i] = comes_back ? kept : TRAINED_BEGUN;
    free(aside);
    return ok;
}

/* ---- training ------------------------------------------------------------------------------- */

static bool is_checkpoint(const char *name)
{
    size_t digits = strncmp(name, CHECKPOINT, strlen(CHECKPOINT)) == 0
                        ? strspn(name + strlen(CHECKPOINT), "0123456789")
                        : 0;
    return digits && !name[strlen(CHECKPOINT) + digits];
}

/* How many checkpoints the folder has; each is removed where `removes`. */
static bool checkpoints(size_t *count, const char *folder, bool removes, error *e)
{
    folder_names names;
    bool ok = true;
    *count = 0;
    if (!folder_list(&names, folder, e)) return false;
    for (size_t i = 0; ok && i < names.count; i++) {
        if (!is_checkpoint(names.name[i])) continue;
        ++*count;
        char *path = removes ? path_join(folder, names.name[i]) : NULL;
        if (removes) ok = path ? folder_remove(path, e) : error_memory(e, folder, strlen(folder));
        free(path);
    }
    folder_list_free(&names);
    return ok;
}

bool study_models_train(study_models *m, int i, const study_source *s, const train_events *events,
                        error *e)
{
    const study_model *t = &s->plan->model[i];
    lk_error why = {0};
    lk_train_options o = t->train;
    size_t there;
    if (m->state[i] == TRAINED_WHOLE) return open_trained(m, i, s, m->folder[i], e);
    o.output_dir = m->folder[i];
    o.class_data_dir = m->class_folder[i];
    o.progress = events->progress;
    o.user = events->user;
    if (!checkpoints(&there, m->folder[i], false, e)) return false;
    if (there) o.resume_from_checkpoint = "latest";
    if (!lk_train(s->session, m->open[t->base], &o, &why))
        return why.code == LK_CANCELLED /* train's advice is for its own command */
                   ? error_set(e, ERROR_CANCELLED,
                               "stopped in the training of %s; what is done is kept, and the "
                               "study run again goes on from there",
                               t->name)
                   : engine_failed(&why, e);
    if (!checkpoints(&there, m->folder[i], true, e)) return false;
    m->seconds[i] = training_seconds(m->folder[i]);
    m->state[i] = TRAINED_WHOLE;
    return open_trained(m, i, s, m->folder[i], e);
}
