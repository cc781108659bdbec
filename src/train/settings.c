/* SPDX-License-Identifier: Apache-2.0
 *
 * settings: the defaults of train_dreambooth.py, and what can be wrong with a run's settings. Every
 * range is written so that NaN falls out of it. */
#include "train/settings.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/number.h"

void train_settings_defaults(train_settings *s)
{
    *s = (train_settings){
        .train_batch_size = 4,
        .gradient_accumulation_steps = 1,
        .num_train_epochs = 1,
        .learning_rate = 5e-6,
        .lr_scheduler = RATE_CONSTANT,
        .lr_warmup_steps = 500,
        .lr_num_cycles = 1,
        .lr_power = 1,
        .optimizer = OPTIMIZER_ADAMW,
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_weight_decay = 1e-2,
        .adam_epsilon = 1e-8,
        .max_grad_norm = 1,
        .offset_noise_factor = 0.1,
        .prior_loss_weight = 1,
        .num_class_images = 100,
        .cache_latents = true,
        .checkpointing_steps = 500,
        .num_validation_images = 4,
        .validation_steps = 100,
    };
}

static bool missing(const char *text) { return !text || !*text; }

static bool check_texts(const train_settings *s, error *e)
{
    if (missing(s->instance_data_dir))
        return error_set(e, ERROR_USAGE, "--instance_data_dir is missing; name the folder with the "
                                         "pictures of your subject");
    if (missing(s->instance_prompt))
        return error_set(e, ERROR_USAGE, "--instance_prompt is missing; say what the pictures "
                                         "show, such as \"a photo of sks dog\"");
    if (missing(s->output_dir))
        return error_set(e, ERROR_USAGE,
                         "--output_dir is missing; name the folder for the trained model");
    if (s->resume_from_checkpoint && !*s->resume_from_checkpoint)
        return error_set(e, ERROR_USAGE, "--resume_from_checkpoint is empty; give \"latest\" or a "
                                         "checkpoint's folder");
    return true;
}

static bool check_prior(const train_settings *s, error *e)
{
    if (s->prior_from_base) {
        if (s->class_data_dir)
            return error_set(e, ERROR_USAGE, "--prior_from_base uses no class pictures; leave out "
                                             "either it or --class_data_dir");
        if (missing(s->class_prompt))
            return error_set(e, ERROR_USAGE, "--prior_from_base needs --class_prompt, such as "
                                             "\"a photo of a dog\"");
    } else if (s->with_prior_preservation) {
        if (missing(s->class_data_dir))
            return error_set(e, ERROR_USAGE,
                             "--with_prior_preservation needs --class_data_dir, the folder for the "
                             "class pictures (or --prior_from_base in its place)");
        if (missing(s->class_prompt))
            return error_set(e, ERROR_USAGE, "--with_prior_preservation needs --class_prompt, such "
                                             "as \"a photo of a dog\"");
    }
    return true;
}

/* A flag that counts something, and the least that makes sense. */
static bool check_count(const char *flag, int64_t value, int64_t least, error *e)
{
    return value >= least || error_set(e, ERROR_USAGE, "%s must be at least %lld, not %lld", flag,
                                       (long long)least, (long long)value);
}

static bool check_counts(const train_settings *s, error *e)
{
    if (s->resolution != 0 && s->resolution < 8)
        return error_set(e, ERROR_USAGE, "--resolution must be at least 8, not %d; leave it out "
                                         "for the model's own size", s->resolution);
    if (s->max_train_steps < 0)
        return error_set(e, ERROR_USAGE, "--max_train_steps must be at least 1, not %lld; leave it "
                                         "out to train --num_train_epochs epochs",
                         (long long)s->max_train_steps);
    if (s->checkpoints_total_limit < 0)
        return error_set(e, ERROR_USAGE, "--checkpoints_total_limit must be at least 1, not %d; "
                                         "leave it out to keep all checkpoints",
                         s->checkpoints_total_limit);
    return check_count("--train_batch_size", s->train_batch_size, 1, e) &&
           check_count("--gradient_accumulation_steps", s->gradient_accumulation_steps, 1, e) &&
           check_count("--num_train_epochs", s->num_train_epochs, 1, e) &&
           check_count("--lr_warmup_steps", s->lr_warmup_steps, 0, e) &&
           check_count("--lr_num_cycles", s->lr_num_cycles, 1, e) &&
           check_count("--num_class_images", s->num_class_images, 1, e) &&
           check_count("--checkpointing_steps", s->checkpointing_steps, 1, e) &&
           check_count("--num_validation_images", s->num_validation_images, 1, e) &&
           check_count("--validation_steps", s->validation_steps, 1, e);
}

/* lr, and what the schedule makes of it; scale_lr multiplies it only by 1 or more. */
static bool check_rate(const train_settings *s, error *e)
{
    double scaled = s->learning_rate;
    if (!(s->learning_rate > 0) || isinf(s->learning_rate))
        return error_set(e, ERROR_USAGE, "--learning_rate must be a number above 0, not %s; try "
                                         "5e-6, or 2e-6 together with --train_text_encoder",
                         number_exact(s->learning_rate).text);
    if (s->scale_lr) scaled *= (double)s->train_batch_size * s->gradient_accumulation_steps;
    if (isinf(scaled))
        return error_set(e, ERROR_USAGE, "--learning_rate %s is too large for --scale_lr; try 5e-6",
                         number_exact(s->learning_rate).text);
    if (s->lr_scheduler == RATE_POLYNOMIAL && !(scaled > RATE_POLYNOMIAL_END))
        return error_set(e, ERROR_USAGE, "--learning_rate %s is not above %s, where --lr_scheduler "
                                         "polynomial ends; raise it or choose another schedule",
                         number_exact(s->learning_rate).text,
                         number_exact(RATE_POLYNOMIAL_END).text);
    if (!(s->lr_power >= 0) || isinf(s->lr_power))
        return error_set(e, ERROR_USAGE, "--lr_power must be 0 or a number above, not %s; 1 is "
                                         "usual", number_exact(s->lr_power).text);
    return true;
}

typedef struct number {
    const char *flag;
    double value;
    bool ok;
    const char *range;
} number;

static bool check_numbers(const train_settings *s, error *e)
{
    const double b1 = s->adam_beta1, b2 = s->adam_beta2;
    const number list[] = {
        {"--adam_beta1", b1, b1 >= 0 && b1 < 1, "must be at least 0 and below 1; 0.9 is usual"},
        {"--adam_beta2", b2, b2 >= 0 && b2 < 1, "must be at least 0 and below 1; 0.999 is usual"},
        {"--adam_epsilon", s->adam_epsilon, s->adam_epsilon > 0 && isfinite(s->adam_epsilon),
         "must be a number above 0; 1e-8 is usual"},
        {"--adam_weight_decay", s->adam_weight_decay,
         s->adam_weight_decay >= 0 && isfinite(s->adam_weight_decay),
         "must be 0 or a number above; 1e-2 is usual"},
        {"--max_grad_norm", s->max_grad_norm, s->max_grad_norm > 0,
         "must be above 0; 1 is usual, and a very large number turns clipping off"},
        {"--snr_gamma", s->snr_gamma, s->snr_gamma >= 0 && isfinite(s->snr_gamma),
         "must be a number above 0; 5 is usual, and without the flag it is off"},
        {"--offset_noise_factor", s->offset_noise_factor, isfinite(s->offset_noise_factor),
         "must be a number; 0.1 is usual"},
        {"--prior_loss_weight", s->prior_loss_weight,
         s->prior_loss_weight >= 0 && isfinite(s->prior_loss_weight),
         "must be 0 or a number above; 1 is usual"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (!list[i].ok)
            return error_set(e, ERROR_USAGE, "%s %s: %s", list[i].flag,
                             number_exact(list[i].value).text, list[i].range);
    return true;
}

bool train_settings_check(const train_settings *s, error *e)
{
    return check_texts(s, e) && check_prior(s, e) && check_counts(s, e) && check_rate(s, e) &&
           check_numbers(s, e);
}

/* ---- one by one ---- */

#define SETTING(name, kind, effect) \
    {#name, SETTING_##kind, offsetof(train_settings, name), EFFECT_##effect}

const train_setting train_setting_list[] = {
    SETTING(instance_data_dir, TEXT, NEVER),
    SETTING(instance_prompt, TEXT, ALWAYS),
    SETTING(class_data_dir, TEXT, NEVER),
    SETTING(class_prompt, TEXT, WITH_PRIOR),
    SETTING(output_dir, TEXT, NEVER),
    SETTING(resolution, INT, ALWAYS),
    SETTING(center_crop, BOOL, ALWAYS),
    SETTING(train_batch_size, INT, ALWAYS),
    SETTING(gradient_accumulation_steps, INT, ALWAYS),
    SETTING(max_train_steps, LONG, ALWAYS),
    SETTING(num_train_epochs, INT, WITH_EPOCHS),
    SETTING(learning_rate, DOUBLE, ALWAYS),
    SETTING(scale_lr, BOOL, ALWAYS),
    SETTING(lr_scheduler, SCHEDULE, ALWAYS),
    SETTING(lr_warmup_steps, LONG, WITH_WARMUP),
    SETTING(lr_num_cycles, INT, WITH_CYCLES),
    SETTING(lr_power, DOUBLE, WITH_POWER),
    SETTING(optimizer, OPTIMIZER, ALWAYS),
    SETTING(adam_beta1, DOUBLE, ALWAYS),
    SETTING(adam_beta2, DOUBLE, ALWAYS),
    SETTING(adam_weight_decay, DOUBLE, ALWAYS),
    SETTING(adam_epsilon, DOUBLE, ALWAYS),
    SETTING(max_grad_norm, DOUBLE, ALWAYS),
    SETTING(seed, SEED, ALWAYS),
    SETTING(train_text_encoder, BOOL, ALWAYS),
    SETTING(gradient_checkpointing, BOOL, NEVER),
    SETTING(snr_gamma, DOUBLE, ALWAYS),
    SETTING(offset_noise, BOOL, ALWAYS),
    SETTING(offset_noise_factor, DOUBLE, WITH_OFFSET),
    SETTING(with_prior_preservation, BOOL, ALWAYS),
    SETTING(prior_loss_weight, DOUBLE, WITH_PRIOR),
    SETTING(num_class_images, INT, WITH_CLASS_PICTURES),
    SETTING(prior_from_base, BOOL, ALWAYS),
    SETTING(cache_latents, BOOL, NEVER),
    SETTING(checkpointing_steps, LONG, NEVER),
    SETTING(checkpoints_total_limit, INT, NEVER),
    SETTING(resume_from_checkpoint, TEXT, NEVER),
    SETTING(validation_prompt, TEXT, NEVER),
    SETTING(num_validation_images, INT, NEVER),
    SETTING(validation_steps, LONG, NEVER),
    {NULL, SETTING_BOOL, 0, EFFECT_NEVER},
};

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
