/* SPDX-License-Identifier: Apache-2.0
 *
 * plan_models: the models of a study's plan: paths, and trainings with their settings. */
#include "study/plan_read.h"

#include <limits.h>
#include <string.h>

enum { CHECKPOINT_EVERY = 100 }; /* steps; only for going on after a kill */

typedef enum train_kind { TRAIN_BOOL, TRAIN_INT, TRAIN_LONG, TRAIN_DOUBLE, TRAIN_TEXT } train_kind;

/* Flags of likeness train that go straight into its settings. */
static const struct {
    const char *name;
    train_kind kind;
    size_t at;
} train_keys[] = {
    {"instance_prompt", TRAIN_TEXT, offsetof(train_settings, instance_prompt)},
    {"class_prompt", TRAIN_TEXT, offsetof(train_settings, class_prompt)},
    {"resolution", TRAIN_INT, offsetof(train_settings, resolution)},
    {"center_crop", TRAIN_BOOL, offsetof(train_settings, center_crop)},
    {"train_batch_size", TRAIN_INT, offsetof(train_settings, train_batch_size)},
    {"gradient_accumulation_steps", TRAIN_INT,
     offsetof(train_settings, gradient_accumulation_steps)},
    {"max_train_steps", TRAIN_LONG, offsetof(train_settings, max_train_steps)},
    {"num_train_epochs", TRAIN_INT, offsetof(train_settings, num_train_epochs)},
    {"learning_rate", TRAIN_DOUBLE, offsetof(train_settings, learning_rate)},
    {"scale_lr", TRAIN_BOOL, offsetof(train_settings, scale_lr)},
    {"lr_warmup_steps", TRAIN_LONG, offsetof(train_settings, lr_warmup_steps)},
    {"lr_num_cycles", TRAIN_INT, offsetof(train_settings, lr_num_cycles)},
    {"lr_power", TRAIN_DOUBLE, offsetof(train_settings, lr_power)},
    {"adam_beta1", TRAIN_DOUBLE, offsetof(train_settings, adam_beta1)},
    {"adam_beta2", TRAIN_DOUBLE, offsetof(train_settings, adam_beta2)},
    {"adam_weight_decay", TRAIN_DOUBLE, offsetof(train_settings, adam_weight_decay)},
    {"adam_epsilon", TRAIN_DOUBLE, offsetof(train_settings, adam_epsilon)},
    {"max_grad_norm", TRAIN_DOUBLE, offsetof(train_settings, max_grad_norm)},
    {"train_text_encoder", TRAIN_BOOL, offsetof(train_settings, train_text_encoder)},
    {"gradient_checkpointing", TRAIN_BOOL, offsetof(train_settings, gradient_checkpointing)},
    {"snr_gamma", TRAIN_DOUBLE, offsetof(train_settings, snr_gamma)},
    {"offset_noise", TRAIN_BOOL, offsetof(train_settings, offset_noise)},
    {"offset_noise_factor", TRAIN_DOUBLE, offsetof(train_settings, offset_noise_factor)},
    {"with_prior_preservation", TRAIN_BOOL, offsetof(train_settings, with_prior_preservation)},
    {"prior_loss_weight", TRAIN_DOUBLE, offsetof(train_settings, prior_loss_weight)},
    {"num_class_images", TRAIN_INT, offsetof(train_settings, num_class_images)},
    {"prior_from_base", TRAIN_BOOL, offsetof(train_settings, prior_from_base)},
    {"cache_latents", TRAIN_BOOL, offsetof(train_settings, cache_latents)},
    {"checkpointing_steps", TRAIN_LONG, offsetof(train_settings, checkpointing_steps)},
    {"checkpoints_total_limit", TRAIN_INT, offsetof(train_settings, checkpoints_total_limit)},
    {"validation_prompt", TRAIN_TEXT, offsetof(train_settings, validation_prompt)},
    {"num_validation_images", TRAIN_INT, offsetof(train_settings, num_validation_images)},
    {"validation_steps", TRAIN_LONG, offsetof(train_settings, validation_steps)},
};

enum { TRAIN_KEYS = sizeof train_keys / sizeof *train_keys };

/* Those that need more than a copy. */
static const char *const train_others[] = {
    "model",     "instance_data_dir", "class_data_dir", "lr_scheduler",
    "optimizer", "use_8bit_adam",     "seed",
};

enum { TRAIN_OTHERS = sizeof train_others / sizeof *train_others };

static bool read_train_key(plan_reader *r, json_t *object, int k, train_settings *s)
{
    fields f = {object, r->where, r->e, true};
    const char *name = train_keys[k].name;
    void *at = (char *)s + train_keys[k].at;
    const json_t *value = field(&f, name);
    if (!value) return true;
    switch (train_keys[k].kind) {
    case TRAIN_BOOL: *(bool *)at = field_bool(&f, name, false); return f.ok;
    case TRAIN_INT: *(int *)at = field_int(&f, name, 0, INT_MIN, INT_MAX); return f.ok;
    case TRAIN_TEXT: return plan_read_text(r, object, name, true, NULL, (const char **)at);
    case TRAIN_LONG:
        *(int64_t *)at = json_integer_value(value);
        return json_is_integer(value) || plan_wrong(r, "\"%s\" should be a whole number", name);
    default:
        *(double *)at = json_number_value(value);
        return json_is_number(value) || plan_wrong(r, "\"%s\" should be a number", name);
    }
}

static bool read_optimizer(plan_reader *r, json_t *object, train_settings *s)
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
    s->optimizer = eight || is_eight ? OPTIMIZER_ADAMW_8BIT : OPTIMIZER_ADAMW;
    return true;
}

/* What likeness train would refuse is refused here; what the study supplies counts as given. */
static bool check_training(plan_reader *r, const train_settings *s)
{
    train_settings whole = *s;
    error why = {0};
    whole.output_dir = "the study's";
    if (s->with_prior_preservation && !s->prior_from_base && !s->class_data_dir)
        whole.class_data_dir = "the study's";
    return train_settings_check(&whole, &why) || plan_wrong(r, "%.600s", why.text);
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
    const char *known[TRAIN_KEYS + TRAIN_OTHERS + 1] = {0};
    train_settings *s = &out->train;
    fields f = {object, r->where, r->e, true};
    for (int i = 0; i < TRAIN_OTHERS; i++) known[i] = train_others[i];
    for (int i = 0; i < TRAIN_KEYS; i++) known[TRAIN_OTHERS + i] = train_keys[i].name;
    if (json_object_get(object, "output_dir"))
        return plan_wrong(r, "\"output_dir\" is the study's business; leave it out");
    if (!plan_keys_known(r, object, known) || !read_base(r, object, models, out)) return false;
    for (int k = 0; k < TRAIN_KEYS; k++)
        if (!read_train_key(r, object, k, s)) return false;
    const char *rate = field_text(&f, "lr_scheduler", "constant");
    if (!f.ok) return false;
    if (!rate_schedule_parse(&s->lr_scheduler, rate))
        return plan_wrong(
            r,
            "\"lr_scheduler\" is \"%.60s\"; there are constant, constant_with_warmup, "
            "linear, cosine, cosine_with_restarts, polynomial",
            rate);
    s->has_seed = true; /* 0 where none is given: a study can be repeated */
    const json_t *seed = field(&f, "seed");
    if (seed && !plan_read_seed(r, seed, &s->seed)) return false;
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
                       .base = -1,
                       .class_steps = 50,
                       .class_guidance = 7.5f};
    train_settings_defaults(&m->train);
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
        m->class_steps = field_int(&f, "class_steps", 50, 1, MAX_STEPS);
        if (field(&f, "class_guidance") &&
            !plan_read_share(r, &f, "class_guidance", 1e6, &m->class_guidance))
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
    json_object_foreach (models, name, object)
        if (!read_model(r, name, object, models)) return false;
    return true;
}
