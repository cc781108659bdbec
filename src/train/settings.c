/* SPDX-License-Identifier: Apache-2.0
 *
 * settings: the table of them, and what can be wrong with a run's. */
#include "train/settings.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

#define ANY                                                                                        \
    {                                                                                              \
        0, 0, false, false, false, false                                                           \
    }
#define AT_LEAST(x)                                                                                \
    {                                                                                              \
        x, INFINITY, false, false, false, false                                                    \
    }
#define AT_LEAST_OR_NONE(x)                                                                        \
    {                                                                                              \
        x, INFINITY, false, false, true, true                                                      \
    }
#define AT_LEAST_OR_UNSET(x)                                                                       \
    {                                                                                              \
        x, INFINITY, false, false, true, false                                                     \
    }
#define ABOVE(x)                                                                                   \
    {                                                                                              \
        x, INFINITY, true, false, false, false                                                     \
    }
#define NUMBER                                                                                     \
    {                                                                                              \
        -INFINITY, INFINITY, true, true, false, false                                              \
    }
#define NUMBER_FROM(x)                                                                             \
    {                                                                                              \
        x, INFINITY, false, true, false, false                                                     \
    }
#define NUMBER_FROM_OR_NONE(x)                                                                     \
    {                                                                                              \
        x, INFINITY, false, true, true, true                                                       \
    }
#define NUMBER_ABOVE(x)                                                                            \
    {                                                                                              \
        x, INFINITY, true, true, false, false                                                      \
    }
#define NUMBER_ABOVE_OR_UNSET(x)                                                                   \
    {                                                                                              \
        x, INFINITY, true, true, true, false                                                       \
    }
#define NUMBER_FROM_TO(x, y)                                                                       \
    {                                                                                              \
        x, y, false, true, false, false                                                            \
    }
#define SETTING(name, kind, effect, standard, range, advice, value, group, help)                   \
    {#name,                                                                                        \
     SETTING_##kind,                                                                               \
     offsetof(train_settings, name),                                                               \
     EFFECT_##effect,                                                                              \
     standard,                                                                                     \
     range,                                                                                        \
     advice,                                                                                       \
     value,                                                                                        \
     GROUP_##group,                                                                                \
     help},

const train_setting train_setting_list[] = {
#include "train/settings_table.h"
    {NULL, SETTING_BOOL, 0, EFFECT_NEVER, 0, ANY, NULL, NULL, GROUP_WHAT, NULL},
};

/* ---- one by one ---- */

static bool is_number(const train_setting *t)
{
    return t->kind == SETTING_INT || t->kind == SETTING_LONG || t->kind == SETTING_DOUBLE;
}

/* Of a setting that is none, 0. */
static double number_at(const train_settings *s, const train_setting *t)
{
    const void *at = (const char *)s + t->at;
    return t->kind == SETTING_INT      ? *(const int *)at
           : t->kind == SETTING_LONG   ? (double)*(const int64_t *)at
           : t->kind == SETTING_DOUBLE ? *(const double *)at
                                       : 0;
}

static void set_number(train_settings *s, const train_setting *t, double v)
{
    void *at = (char *)s + t->at;
    switch (t->kind) {
    case SETTING_BOOL: *(bool *)at = v != 0; break;
    case SETTING_INT: *(int *)at = (int)v; break;
    case SETTING_LONG: *(int64_t *)at = (int64_t)v; break;
    case SETTING_SEED: *(uint64_t *)at = (uint64_t)v; break;
    case SETTING_DOUBLE: *(double *)at = v; break;
    case SETTING_SCHEDULE: *(rate_schedule *)at = (rate_schedule)v; break;
    case SETTING_OPTIMIZER: *(train_optimizer *)at = (train_optimizer)v; break;
    case SETTING_TEXT: *(const char **)at = NULL; break;
    }
}

void train_settings_defaults(train_settings *s)
{
    *s = (train_settings){0};
    for (const train_setting *t = train_setting_list; t->name; t++) set_number(s, t, t->standard);
}

/* NaN is in no range. */
static bool in_range(const train_setting *t, double v, bool given)
{
    const setting_range *r = &t->range;
    if (!is_number(t) || (v == 0 && r->unset && (!given || r->given_zero))) return true;
    return (r->above ? v > r->least : v >= r->least) && (r->below ? v < r->most : v <= r->most);
}

static setting_words words(const char *format, ...) __attribute__((format(printf, 1, 2)));
static setting_words words(const char *format, ...)
{
    setting_words w;
    va_list list;
    va_start(list, format);
    vsnprintf(w.text, sizeof w.text, format, list);
    va_end(list);
    return w;
}

setting_words train_setting_range(const train_setting *t)
{
    const setting_range *r = &t->range;
    switch (t->kind) {
    case SETTING_BOOL: return words("true or false");
    case SETTING_TEXT: return words("a text");
    case SETTING_SEED: return words("from 0 to 2^63-1");
    case SETTING_SCHEDULE:
        return words(
            "constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial");
    case SETTING_OPTIMIZER: return words("adamw, adamw8bit, adamw_f16");
    case SETTING_INT:
    case SETTING_LONG: return words("at least %s", number_exact(r->least).text);
    case SETTING_DOUBLE: break;
    }
    if (isinf(r->least)) return words("a number");
    if (!isinf(r->most))
        return words("at least %s and below %s", number_exact(r->least).text,
                     number_exact(r->most).text);
    return words("%s %s",
                 r->above ? (r->below ? "a number above" : "above") : "a number of at least",
                 number_exact(r->least).text);
}

setting_words train_setting_standard(const train_setting *t)
{
    if (t->kind == SETTING_TEXT || t->kind == SETTING_SEED || t->range.unset)
        return words("%s", "");
    if (t->kind == SETTING_BOOL) return words("%s", t->standard != 0 ? "true" : "false");
    if (t->kind == SETTING_SCHEDULE)
        return words("%s", rate_schedule_name((rate_schedule)t->standard));
    if (t->kind == SETTING_OPTIMIZER)
        return words("%s", train_optimizer_name((train_optimizer)t->standard));
    return words("%s", number_exact(t->standard).text);
}

static bool wrong_range(const train_setting *t, double v, error *e)
{
    return error_set(e, ERROR_USAGE, "--%s must be %s, not %s%s%s", t->name,
                     train_setting_range(t).text, number_exact(v).text, t->advice ? "; " : "",
                     t->advice ? t->advice : "");
}

/* ---- set by name ---- */

static const char *const optimizer_names[] = {"adamw", "adamw8bit", "adamw_f16"};

const char *train_optimizer_name(train_optimizer o) { return optimizer_names[o]; }

static bool set_whole(train_settings *s, const train_setting *t, const char *text, error *e)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool fits = t->kind == SETTING_LONG || (v <= INT_MAX && v >= INT_MIN);
    if (end == text || *end || errno || !fits)
        return error_set(e, ERROR_USAGE, "--%s wants a whole number, not \"%s\"", t->name, text);
    if (!in_range(t, (double)v, true)) return wrong_range(t, (double)v, e);
    void *at = (char *)s + t->at;
    if (t->kind == SETTING_LONG)
        *(int64_t *)at = v;
    else
        *(int *)at = (int)v;
    return true;
}

static bool set_fraction(train_settings *s, const train_setting *t, const char *text, error *e)
{
    const char *end;
    double v;
    if (!number_parse(text, &end, &v) || *end || !isfinite(v))
        return error_set(e, ERROR_USAGE, "--%s wants a number, not \"%s\"", t->name, text);
    if (!in_range(t, v, true)) return wrong_range(t, v, e);
    set_number(s, t, v);
    return true;
}

/* PyTorch's generator takes any 64 bits; train.json holds them as a signed number. */
static bool set_seed(train_settings *s, const char *text, error *e)
{
    char *end;
    s->has_seed = strcmp(text, "-1") != 0;
    if (!s->has_seed) return true;
    unsigned long long v = strtoull(text, &end, 10);
    if (end == text || *end || text[0] == '-' || v > INT64_MAX)
        return error_set(e, ERROR_USAGE,
                         "--seed wants a whole number from 0 to 2^63-1, or -1 for any, not \"%s\"",
                         text);
    s->seed = v;
    return true;
}

static bool set_optimizer(train_settings *s, const char *text)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(text, optimizer_names[i]) == 0) {
            s->optimizer = (train_optimizer)i;
            return true;
        }
    return false;
}

static bool set_one(train_settings *s, const train_setting *t, const char *text, error *e)
{
    bool yes = strcmp(text, "true") == 0, ok = true;
    switch (t->kind) {
    case SETTING_TEXT: *(const char **)((char *)s + t->at) = text; return true;
    case SETTING_SEED: return set_seed(s, text, e);
    case SETTING_INT:
    case SETTING_LONG: return set_whole(s, t, text, e);
    case SETTING_DOUBLE: return set_fraction(s, t, text, e);
    case SETTING_BOOL:
        ok = yes || strcmp(text, "false") == 0;
        if (ok) set_number(s, t, yes);
        break;
    case SETTING_SCHEDULE: ok = rate_schedule_parse(&s->lr_scheduler, text); break;
    case SETTING_OPTIMIZER: ok = set_optimizer(s, text); break;
    }
    return ok || error_set(e, ERROR_USAGE, "--%s %s: there are %s", t->name, text,
                           train_setting_range(t).text);
}

bool train_setting_set(train_settings *s, const char *name, const char *text, error *e)
{
    for (const train_setting *t = train_setting_list; t->name; t++)
        if (strcmp(t->name, name) == 0) return set_one(s, t, text, e);
    return error_set(e, ERROR_USAGE, "a training has no setting \"%s\"", name);
}

/* ---- checked ---- */

/* Whether the number of that name is not its default. */
static bool differs(const train_settings *s, const char *name)
{
    for (const train_setting *t = train_setting_list; t->name; t++)
        if (strcmp(t->name, name) == 0) return number_at(s, t) != t->standard;
    return false;
}

static bool missing(const char *text) { return !text || !*text; }

static bool check_texts(const train_settings *s, error *e)
{
    if (s->instance_count && s->instance_data_dir)
        return error_set(e, ERROR_USAGE,
                         "pictures of the subject are given, and --instance_data_dir too; leave "
                         "one out");
    if (!s->instance_count && missing(s->instance_data_dir))
        return error_set(e, ERROR_USAGE,
                         "--instance_data_dir is missing; name the folder with the "
                         "pictures of your subject");
    if (missing(s->instance_prompt) && !s->textual_inversion)
        return error_set(e, ERROR_USAGE,
                         "--instance_prompt is missing; say what the pictures "
                         "show, such as \"a photo of sks dog\"");
    if (missing(s->output_dir))
        return error_set(e, ERROR_USAGE,
                         "--output_dir is missing; name the folder for the trained model");
    if (s->resume_from_checkpoint && !*s->resume_from_checkpoint)
        return error_set(e, ERROR_USAGE,
                         "--resume_from_checkpoint is empty; give \"latest\" or a "
                         "checkpoint's folder");
    return true;
}

/* What a textual inversion is not trained with. */
static const char *beside_inversion(const train_settings *s)
{
    return s->lora_rank                          ? "--lora_rank"
           : s->lora_alpha > 0                   ? "--lora_alpha"
           : s->output_kohya_format              ? "--output_kohya_format"
           : s->train_text_encoder               ? "--train_text_encoder"
           : s->prior_from_base                  ? "--prior_from_base"
           : s->with_prior_preservation          ? "--with_prior_preservation"
           : s->validation_prompt                ? "--validation_prompt"
           : s->optimizer == OPTIMIZER_ADAMW_F16 ? "--optimizer_precision fp16"
           : s->instance_prompt                  ? "--instance_prompt (its prompts are its own)"
                                                 : NULL;
}

/* What only a textual inversion has, and only a LoRA: given without it, all weights would be
 * trained in its place, and nothing said so. */
static bool check_alone(const train_settings *s, error *e)
{
    if (!s->textual_inversion &&
        (s->placeholder_token || s->initializer_token || s->learnable_property ||
         differs(s, "num_vectors") || differs(s, "repeats")))
        return error_set(e, ERROR_USAGE,
                         "--placeholder_token, --initializer_token, --learnable_property, "
                         "--num_vectors and --repeats are for --textual_inversion; give that too, "
                         "or leave them out");
    return s->textual_inversion || s->lora_rank ||
           (!(s->lora_alpha > 0) && !s->output_kohya_format) ||
           error_set(e, ERROR_USAGE,
                     "--lora_alpha and --output_kohya_format are for --lora_rank; give that too, "
                     "or leave them out");
}

static bool check_inversion(const train_settings *s, error *e)
{
    const char *property = s->learnable_property;
    if (!s->textual_inversion) return true;
    if (beside_inversion(s))
        return error_set(e, ERROR_USAGE,
                         "--textual_inversion is not trained with %s; leave one of them out",
                         beside_inversion(s));
    if (missing(s->placeholder_token) || missing(s->initializer_token))
        return error_set(e, ERROR_USAGE,
                         "--textual_inversion needs --placeholder_token, the new word, such as "
                         "\"<dog>\", and --initializer_token, a word that it begins as, such as "
                         "dog");
    return !property || strcmp(property, "object") == 0 || strcmp(property, "style") == 0 ||
           error_set(e, ERROR_USAGE, "--learnable_property %s: there are object, style", property);
}

static bool check_prior(const train_settings *s, error *e)
{
    if (s->prior_from_base) {
        if (s->class_data_dir)
            return error_set(e, ERROR_USAGE,
                             "--prior_from_base uses no class pictures; leave out "
                             "either it or --class_data_dir");
        if (missing(s->class_prompt))
            return error_set(e, ERROR_USAGE,
                             "--prior_from_base needs --class_prompt, such as "
                             "\"a photo of a dog\"");
    } else if (s->with_prior_preservation) {
        if (missing(s->class_data_dir))
            return error_set(e, ERROR_USAGE,
                             "--with_prior_preservation needs --class_data_dir, the folder for the "
                             "class pictures (or --prior_from_base in its place)");
        if (missing(s->class_prompt))
            return error_set(e, ERROR_USAGE,
                             "--with_prior_preservation needs --class_prompt, such "
                             "as \"a photo of a dog\"");
    }
    return true;
}

double train_learning_rate(const train_settings *s)
{
    return s->learning_rate > 0                   ? s->learning_rate
           : s->lora_rank || s->textual_inversion ? 5e-4
                                                  : 5e-6;
}

void train_settings_resolve(train_settings *s)
{
    s->learning_rate = train_learning_rate(s);
    if (!(s->lora_alpha > 0)) s->lora_alpha = s->lora_rank;
    if (s->prior_from_base) s->with_prior_preservation = true;
    if (s->textual_inversion && !s->learnable_property) s->learnable_property = "object";
}

/* What the schedule makes of the rate; scale_lr multiplies it only by 1 or more. */
static bool check_rate(const train_settings *s, error *e)
{
    double rate = train_learning_rate(s), scaled = rate;
    if (s->scale_lr) scaled *= (double)s->train_batch_size * s->gradient_accumulation_steps;
    if (isinf(scaled))
        return error_set(e, ERROR_USAGE, "--learning_rate %s is too large for --scale_lr; try 5e-6",
                         number_exact(rate).text);
    if (s->lr_scheduler == RATE_POLYNOMIAL && !(scaled > RATE_POLYNOMIAL_END))
        return error_set(e, ERROR_USAGE,
                         "--learning_rate %s is not above %s, where --lr_scheduler "
                         "polynomial ends; raise it or choose another schedule",
                         number_exact(rate).text, number_exact(RATE_POLYNOMIAL_END).text);
    return true;
}

bool train_settings_check(const train_settings *s, error *e)
{
    if (!check_texts(s, e) || !check_prior(s, e) || !check_inversion(s, e)) return false;
    for (const train_setting *t = train_setting_list; t->name; t++)
        if (!in_range(t, number_at(s, t), false)) return wrong_range(t, number_at(s, t), e);
    return check_alone(s, e) && check_rate(s, e);
}

/* ---- what determines the result ---- */

static bool has_effect(const train_settings *s, setting_effect effect)
{
    switch (effect) {
    case EFFECT_NEVER: return false;
    case EFFECT_ALWAYS: return true;
    case EFFECT_WITH_EPOCHS: return !s->max_train_steps;
    case EFFECT_WITH_WARMUP: return s->lr_scheduler != RATE_CONSTANT;
    case EFFECT_WITH_CYCLES: return s->lr_scheduler == RATE_COSINE_WITH_RESTARTS;
    case EFFECT_WITH_POWER: return s->lr_scheduler == RATE_POLYNOMIAL;
    case EFFECT_WITH_OFFSET: return s->offset_noise;
    case EFFECT_WITH_INVERSION: return s->textual_inversion;
    case EFFECT_WITH_LORA: return s->lora_rank > 0;
    case EFFECT_WITH_PRIOR: return s->with_prior_preservation || s->prior_from_base;
    case EFFECT_WITH_CLASS_PICTURES: return s->with_prior_preservation && !s->prior_from_base;
    }
    return true;
}

bool train_setting_determines(const train_settings *s, const char *name)
{
    for (const train_setting *one = train_setting_list; one->name; one++)
        if (strcmp(one->name, name) == 0) return has_effect(s, one->effect);
    return false;
}
