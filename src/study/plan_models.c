/* SPDX-License-Identifier: Apache-2.0
 *
 * plan_models: the models of a study's plan: paths, and trainings with their settings. */
#include "study/plan_read.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

enum { CHECKPOINT_EVERY = 100 }; /* steps; only for going on after a kill */

/* Keys of a training that are no settings of it. */
static const char *const own_keys[] = {"model", "use_8bit_adam"};

enum { OWN_KEYS = sizeof own_keys / sizeof *own_keys, MOST_KEYS = 100 };

typedef enum setting_kind {
    SETTING_BOOL, SETTING_INT, SETTING_LONG, SETTING_SEED, SETTING_DOUBLE, SETTING_TEXT,
    SETTING_SCHEDULE, SETTING_OPTIMIZER,
} setting_kind;

#define SETTING(name, kind) {#name, SETTING_##kind, offsetof(lk_train_options, name)}

static const struct train_key { const char *name; setting_kind kind; size_t at; } train_keys[] = {
    SETTING(instance_data_dir, TEXT),
    SETTING(instance_prompt, TEXT),
    SETTING(class_data_dir, TEXT),
    SETTING(class_prompt, TEXT),
    SETTING(resolution, INT),
    SETTING(center_crop, BOOL),
    SETTING(train_batch_size, INT),
    SETTING(gradient_accumulation_steps, INT),
    SETTING(max_train_steps, LONG),
    SETTING(num_train_epochs, INT),
    SETTING(learning_rate, DOUBLE),
    SETTING(scale_lr, BOOL),
    SETTING(lr_scheduler, SCHEDULE),
    SETTING(lr_warmup_steps, LONG),
    SETTING(lr_num_cycles, INT),
    SETTING(lr_power, DOUBLE),
    SETTING(optimizer, OPTIMIZER),
    SETTING(adam_beta1, DOUBLE),
    SETTING(adam_beta2, DOUBLE),
    SETTING(adam_weight_decay, DOUBLE),
    SETTING(adam_epsilon, DOUBLE),
    SETTING(max_grad_norm, DOUBLE),
    SETTING(seed, SEED),
    SETTING(train_text_encoder, BOOL),
    SETTING(gradient_checkpointing, BOOL),
    SETTING(snr_gamma, DOUBLE),
    SETTING(offset_noise, BOOL),
    SETTING(offset_noise_factor, DOUBLE),
    SETTING(with_prior_preservation, BOOL),
    SETTING(prior_loss_weight, DOUBLE),
    SETTING(num_class_images, INT),
    SETTING(prior_from_base, BOOL),
    SETTING(cache_latents, BOOL),
    SETTING(checkpointing_steps, LONG),
    SETTING(checkpoints_total_limit, INT),
    SETTING(validation_prompt, TEXT),
    SETTING(num_validation_images, INT),
    SETTING(validation_steps, LONG),
};

enum { TRAIN_KEYS = sizeof train_keys / sizeof *train_keys };

static bool read_rate(plan_reader *r, const char *name, lk_rate_schedule *out)
{
    return lk_rate_schedule_parse(out, name) ||
           plan_wrong(r,
                      "\"lr_scheduler\" is \"%.60s\"; there are constant, constant_with_warmup, "
                      "linear, cosine, cosine_with_restarts, polynomial",
                      name);
}

/* A setting that the object has. */
static bool read_given(plan_reader *r, json_t *object, const struct train_key *t, lk_train_options *s)
{
    fields f = {object, r->where, r->e, true};
    const char *name = t->name;
    void *at = (char *)s + t->at;
    const json_t *value = field(&f, name);
    switch (t->kind) {
    case SETTING_BOOL: *(bool *)at = field_bool(&f, name, false); return f.ok;
    case SETTING_INT: *(int *)at = field_int(&f, name, 0, INT_MIN, INT_MAX); return f.ok;
    case SETTING_SEED: return plan_read_seed(r, value, at);
    case SETTING_TEXT: return plan_read_text(r, object, name, true, NULL, (const char **)at);
    case SETTING_SCHEDULE: name = field_text(&f, name, ""); return f.ok && read_rate(r, name, at);
    case SETTING_OPTIMIZER: return true; /* read_optimizer */
    case SETTING_LONG:
        *(int64_t *)at = json_integer_value(value);
        return json_is_integer(value) || plan_wrong(r, "\"%s\" should be a whole number", name);
    case SETTING_DOUBLE:
        *(double *)at = json_number_value(value);
        return json_is_number(value) || plan_wrong(r, "\"%s\" should be a number", name);
    }
    return true;
}

static bool read_optimizer(plan_reader *r, json_t *object, lk_train_options *s)
{
    fields f = {object, r->where, r->e, true};
    const char *name = field_text(&f, "optimizer", NULL);
    bool eight = field_bool(&f, "use_8bit_adam", false);
    if (!f.ok) return false;
    bool is_eight = name && strcmp(name, "adamw8bit") == 0;
    if (name && !is_eight && strcmp(name, "adamw") != 0)
        return plan_wrong(r, "\"optimizer\" is \"%.60s\"; it should be adamw or adamw8bit", name);
    if (name && !is_eight && eight)
        return plan_wrong(r,
                          "\"optimizer\" is adamw, and \"use_8bit_adam\" is true; leave one out");
    s->optimizer = eight || is_eight ? LK_ADAMW_8BIT : LK_ADAMW;
    return true;
}

/* What likeness train would refuse is refused here; what the study supplies counts as given. */
static bool check_training(plan_reader *r, const lk_train_options *s)
{
    lk_train_options whole = *s;
    lk_error why = {0};
    whole.output_dir = "the study's";
    if (s->with_prior_preservation && !s->prior_from_base && !s->class_data_dir)
        whole.class_data_dir = "the study's";
    return lk_train_check(&whole, &why) || plan_wrong(r, "%.600s", why.text);
}

/* The model that a training starts from. */
static bool read_base(plan_reader *r, json_t *object, json_t *models, study_model *out)
{
    const char *name;
    if (!plan_read_text(r, object, "model", true, NULL, &name)) return false;
    out->base = plan_find_model(r->plan, name);
    if (out->base >= 0) return true;
    if (strcmp(name, out->name) == 0)
        return plan_wrong(r, "\"model\" names the training itself; name an earlier model");
    if (json_object_get(models, name))
        return plan_wrong(
            r, "\"model\" names \"%.60s\", which comes later; put it before its trainings", name);
    return plan_unknown_model(r, "model", name);
}

static bool read_training(plan_reader *r, json_t *object, json_t *models, study_model *out)
{
    const char *known[MOST_KEYS] = {0};
    lk_train_options *s = &out->train;
    int keys = 0;
    for (; keys < OWN_KEYS; keys++) known[keys] = own_keys[keys];
    for (int i = 0; i < TRAIN_KEYS; i++) known[keys++] = train_keys[i].name;
    assert(keys < MOST_KEYS);
    if (json_object_get(object, "output_dir"))
        return plan_wrong(r, "\"output_dir\" is the study's business; leave it out");
    if (!plan_keys_known(r, object, known) || !read_base(r, object, models, out)) return false;
    fields f = {object, r->where, r->e, true};
    for (int i = 0; i < TRAIN_KEYS; i++)
        if (field(&f, train_keys[i].name) && !read_given(r, object, &train_keys[i], s)) return false;
    return read_optimizer(r, object, s) &&
           plan_read_path(r, object, "instance_data_dir", true, false, &s->instance_data_dir) &&
           plan_read_path(r, object, "class_data_dir", false, true, &s->class_data_dir) &&
           check_training(r, s);
}

static bool name_check(plan_reader *r, const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t n = strlen(name);
    bool plain = n && n <= MAX_NAME && strchr(letters, name[0]) && strcmp(name, "rest") != 0;
    for (size_t i = 0; plain && i < n; i++)
        plain = strchr(letters, name[i]) || strchr("-_.", name[i]);
    return plain ||
           plan_wrong(r,
                      "\"%.80s\" cannot be a model's name; use at most %d letters, digits, -, _ "
                      "and ., a letter or digit first",
                      name, MAX_NAME);
}

static bool read_model(plan_reader *r, const char *name, json_t *object, json_t *models)
{
    static const char *const known[] = {"path", "train", "class_steps", "class_guidance", NULL};
    study_plan *p = r->plan;
    study_model *m = &p->model[p->models];
    if (!name_check(r, name)) return false;
    size_t place = plan_enter(r, "models.%s", name);
    *m = (study_model){.name = arena_strdup(&p->memory, name),
                       .base = -1};
    lk_train_defaults(&m->train);
    m->train.checkpointing_steps = CHECKPOINT_EVERY;
    m->train.checkpoints_total_limit = 1;
    if (!m->name) return plan_no_memory(r);
    if (!json_is_object(object))
        return plan_wrong(
            r, "should be an object such as {\"path\": \"pocket\"} or {\"train\": {...}}");
    if (!plan_keys_known(r, object, known)) return false;
    fields f = {object, r->where, r->e, true};
    json_t *path = field(&f, "path"), *train = field(&f, "train");
    if (!path == !train) return plan_wrong(r, "should have either \"path\" or \"train\"");
    if (path) {
        if (field(&f, "class_steps") || field(&f, "class_guidance"))
            return plan_wrong(r, "\"class_steps\" and \"class_guidance\" belong beside \"train\"");
        bool pocket = json_is_string(path) && strcmp(json_string_value(path), "pocket") == 0;
        m->path = "pocket";
        if (!pocket && !plan_read_path(r, object, "path", true, false, &m->path)) return false;
    } else {
        m->train.class_steps = field_int(&f, "class_steps", m->train.class_steps, 1, MAX_STEPS);
        if (field(&f, "class_guidance") &&
            !plan_read_share(r, &f, "class_guidance", 1e6, &m->train.class_guidance))
            return false;
        if (!f.ok || !plan_is_object(r, train, "train")) return false;
        size_t inner = plan_enter(r, ".train");
        if (!read_training(r, train, models, m)) return false;
        plan_leave(r, inner);
    }
    plan_leave(r, place);
    p->model_name[p->models++] = m->name; /* from here on others can name it */
    return true;
}

bool plan_read_models(plan_reader *r, json_t *root)
{
    study_plan *p = r->plan;
    json_t *models = json_object_get(root, "models"), *object;
    const char *name;
    if (!plan_is_object(r, models, "models")) return false;
    size_t count = json_object_size(models);
    if (!count)
        return plan_wrong(r,
                          "\"models\" is empty; give at least {\"base\": {\"path\": \"pocket\"}}");
    p->model = arena_alloc(&p->memory, count * sizeof *p->model);
    p->model_name = arena_alloc(&p->memory, count * sizeof *p->model_name);
    if (!p->model || !p->model_name) return plan_no_memory(r);
    json_object_foreach(models, name, object)
        if (!read_model(r, name, object, models)) return false;
    return true;
}
