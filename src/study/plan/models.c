/* SPDX-License-Identifier: Apache-2.0
 *
 * models: the models of a study's plan: paths, and trainings with their settings. */
#include "read.h"

#include <assert.h>
#include <string.h>

#include "base/number.h"

enum { CHECKPOINT_EVERY = 100 }; /* steps; only for going on after a kill */

/* Keys of a training that are no settings of it; and its settings that a study does not take. */
static const char *const own_keys[] = {"model", "use_8bit_adam"};
static const char *const no_keys[] = {
    "output_dir",        "resume_from_checkpoint", "textual_inversion", "placeholder_token",
    "initializer_token", "learnable_property",     "num_vectors",       "repeats"};

enum {
    OWN_KEYS = sizeof own_keys / sizeof *own_keys,
    NO_KEYS = sizeof no_keys / sizeof *no_keys,
    MOST_KEYS = 100,
};

static bool is_no_key(const char *name)
{
    for (int i = 0; i < NO_KEYS; i++)
        if (strcmp(no_keys[i], name) == 0) return true;
    return false;
}

/* The value of a setting that the object has, as the text that lk_train_set takes; in the plan's
 * memory. */
static bool setting_text(plan_reader *r, json_t *object, const lk_train_setting *t,
                         const char **out)
{
    fields f = {object, r->where, r->e, true};
    arena *a = &r->plan->memory;
    const json_t *value = field(&f, t->name);
    switch (t->type) {
    case LK_SETTING_SWITCH: *out = field_bool(&f, t->name, false) ? "true" : "false"; return f.ok;
    case LK_SETTING_WHOLE:
        if (!json_is_integer(value)) field_int(&f, t->name, 0, 0, 0); /* says so */
        if (!f.ok) return false;
        *out = arena_format(a, "%lld", (long long)json_integer_value(value));
        break;
    case LK_SETTING_NUMBER:
        if (!json_is_number(value)) return plan_wrong(r, "\"%s\" should be a number", t->name);
        *out = arena_strdup(a, number_exact(json_number_value(value)).text);
        break;
    case LK_SETTING_TEXT: return plan_read_text(r, object, t->name, true, NULL, out);
    case LK_SETTING_CHOICE: *out = field_text(&f, t->name, ""); return f.ok;
    }
    return *out || plan_no_memory(r);
}

static bool read_given(plan_reader *r, json_t *object, const lk_train_setting *t,
                       lk_train_options *o)
{
    lk_error why = {0};
    const char *text = NULL;
    if (strcmp(t->name, "optimizer") == 0) return true; /* read_optimizer */
    if (strcmp(t->name, "seed") == 0)
        return plan_read_seed(r, json_object_get(object, t->name), &o->seed);
    if (!setting_text(r, object, t, &text)) return false;
    if (lk_train_set(o, t->name, text, &why)) return true;
    if (t->type == LK_SETTING_CHOICE)
        return plan_wrong(r, "\"%s\" is \"%.60s\"; there are %s", t->name, text, t->range);
    return plan_wrong(r, "%.600s", why.text);
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
    if (out->base >= 0 && r->plan->model[out->base].taesd)
        return plan_wrong(r,
                          "\"model\" names \"%.60s\", whose pictures a \"taesd\" makes; train one "
                          "that has none",
                          name);
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
    lk_train_setting t;
    for (size_t i = 0; lk_train_setting_at(i, &t); i++)
        if (!is_no_key(t.name)) known[keys++] = t.name;
    assert(keys < MOST_KEYS);
    if (json_object_get(object, "output_dir"))
        return plan_wrong(r, "\"output_dir\" is the study's business; leave it out");
    if (!plan_keys_known(r, object, known) || !read_base(r, object, models, out)) return false;
    fields f = {object, r->where, r->e, true};
    for (size_t i = 0; lk_train_setting_at(i, &t); i++)
        if (!is_no_key(t.name) && field(&f, t.name) && !read_given(r, object, &t, s)) return false;
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

/* [{"file": "dog.safetensors", "weight": 0.8}, ...] */
static bool read_loras(plan_reader *r, json_t *list, study_model *out)
{
    static const char *const known[] = {"file", "weight", NULL};
    if (!list) return true;
    size_t count = json_array_size(list), i;
    json_t *one;
    if (!count)
        return plan_wrong(r, "\"lora\" should be a list such as [{\"file\": "
                             "\"dog.safetensors\", \"weight\": 0.8}]");
    out->lora = arena_alloc(&r->plan->memory, count * sizeof *out->lora);
    if (!out->lora) return plan_no_memory(r);
    json_array_foreach(list, i, one)
    {
        size_t place = plan_enter(r, ".lora[%zu]", i);
        lk_lora *lora = &out->lora[out->loras++];
        if (!json_is_object(one))
            return plan_wrong(r, "should be an object such as {\"file\": \"dog.safetensors\"}");
        if (!plan_keys_known(r, one, known)) return false;
        fields f = {one, r->where, r->e, true};
        lora->weight = field_float(&f, "weight", 1);
        if (!f.ok || !plan_read_path(r, one, "file", true, false, &lora->path)) return false;
        plan_leave(r, place);
    }
    return true;
}

static bool read_model(plan_reader *r, const char *name, json_t *object, json_t *models)
{
    static const char *const known[] = {"path",        "lora",           "taesd", "train",
                                        "class_steps", "class_guidance", NULL};
    study_plan *p = r->plan;
    study_model *m = &p->model[p->models];
    if (!name_check(r, name)) return false;
    size_t place = plan_enter(r, "models.%s", name);
    *m = (study_model){.name = arena_strdup(&p->memory, name), .base = -1};
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
        if (!read_loras(r, field(&f, "lora"), m) ||
            !plan_read_path(r, object, "taesd", false, false, &m->taesd))
            return false;
    } else {
        const char *beside = field(&f, "lora") ? "lora" : field(&f, "taesd") ? "taesd" : NULL;
        if (beside) return plan_wrong(r, "\"%s\" belongs beside \"path\"", beside);
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
    json_object_foreach(models, name,
                        object) if (!read_model(r, name, object, models)) return false;
    return true;
}
