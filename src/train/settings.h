/* SPDX-License-Identifier: Apache-2.0
 *
 * settings: what a DreamBooth run is asked to do, with the names, defaults and meaning of
 * diffusers' train_dreambooth.py (NUMERICS.md, 6), and what can be found wrong with it before
 * anything is opened. */
#ifndef LIKENESS_TRAIN_SETTINGS_H
#define LIKENESS_TRAIN_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "train/rate.h"

typedef enum train_optimizer {
    OPTIMIZER_ADAMW,      /* torch.optim.AdamW, float32 */
    OPTIMIZER_ADAMW_8BIT, /* bitsandbytes AdamW8bit: moments in 8 bits, arithmetic in float32 */
    OPTIMIZER_ADAMW_F16, /* weights and moments in half precision: made to fail (docs/WHY-NAN.md) */
} train_optimizer;

typedef struct train_settings {
    const char *instance_data_dir, *instance_prompt; /* needed */
    const struct image *const *instance_images; /* in place of the folder: in memory, borrowed */
    size_t instance_count;
    const char *class_data_dir, *class_prompt; /* needed with prior preservation */
    const char *output_dir;                    /* needed */
    int resolution;                            /* 0: the model's own */
    bool center_crop;
    int train_batch_size;            /* 4 */
    int gradient_accumulation_steps; /* 1 */
    int64_t max_train_steps;         /* 0: num_train_epochs decides */
    int num_train_epochs;            /* 1 */
    double learning_rate;            /* 0: 5e-6, with lora_rank or textual_inversion 5e-4 */
    bool scale_lr;
    rate_schedule lr_scheduler; /* constant */
    int64_t lr_warmup_steps;    /* 500; constant has none */
    int lr_num_cycles;          /* 1 */
    double lr_power;            /* 1 */
    train_optimizer optimizer;
    double adam_beta1, adam_beta2, adam_weight_decay, adam_epsilon; /* .9 .999 1e-2 1e-8 */
    double max_grad_norm;                                           /* 1 */
    uint64_t seed;
    bool has_seed; /* false: taken from the clock, and recorded */
    bool train_text_encoder;
    int lora_rank;     /* 0: all weights are trained */
    double lora_alpha; /* 0: the rank */
    bool output_kohya_format;
    bool textual_inversion; /* rows of the text encoder's embedding are trained, nothing else */
    const char *placeholder_token, *initializer_token; /* needed with it */
    const char *learnable_property;                    /* "object" or "style" */
    int num_vectors;                                   /* 1 */
    int repeats;                                       /* of the pictures in an epoch: 100 */
    bool gradient_checkpointing;
    double snr_gamma; /* 0: off */
    bool offset_noise;
    double offset_noise_factor; /* 0.1 */
    bool with_prior_preservation;
    double prior_loss_weight;           /* 1 */
    int num_class_images;               /* 100 */
    bool prior_from_base;               /* the base model's prediction in place of class pictures */
    bool cache_latents;                 /* where crops are fixed; true */
    int64_t checkpointing_steps;        /* 500 */
    int checkpoints_total_limit;        /* 0: all are kept */
    const char *resume_from_checkpoint; /* NULL, "latest", or a checkpoint's folder */
    const char *validation_prompt;      /* NULL: none */
    int num_validation_images;          /* 4 */
    int64_t validation_steps;           /* 100 */
} train_settings;

void train_settings_defaults(train_settings *s);
/* Everything that needs neither the model nor the disk: texts that are missing, numbers out of
 * range. Messages name the flag. */
bool train_settings_check(const train_settings *s, error *e);
/* What is used where none is given: the defaults that follow from other settings. */
double train_learning_rate(const train_settings *s);
/* The same of every setting that has one: two runs with equal settings are then alike. */
void train_settings_resolve(train_settings *s);
/* Sets one by its name, as a flag would: text is kept where it is a text; "true" and "false"
 * switch; a seed of
 * "-1" is none. What is no value of it, or out of its range, is refused. */
bool train_setting_set(train_settings *s, const char *name, const char *text, error *e);

typedef enum setting_kind {
    SETTING_BOOL,
    SETTING_INT,
    SETTING_LONG,
    SETTING_SEED,
    SETTING_DOUBLE,
    SETTING_TEXT,
    SETTING_SCHEDULE,
    SETTING_OPTIMIZER,
} setting_kind;

/* When a setting can change a byte of the trained model. */
typedef enum setting_effect {
    EFFECT_NEVER, /* what is written beside, how it is computed, and folders: what lies in them
                     counts */
    EFFECT_ALWAYS,
    EFFECT_WITH_EPOCHS, /* where epochs and not steps are counted */
    EFFECT_WITH_WARMUP,
    EFFECT_WITH_CYCLES,
    EFFECT_WITH_POWER,  /* under schedules that have it */
    EFFECT_WITH_OFFSET, /* with offset noise */
    EFFECT_WITH_LORA,
    EFFECT_WITH_INVERSION,
    EFFECT_WITH_PRIOR,
    EFFECT_WITH_CLASS_PICTURES,
} setting_effect;

/* What a number may be: from least on (above: beyond it), up to most (below: short of it). */
typedef struct setting_range {
    double least, most;
    bool above, below;
    bool unset;      /* 0 stands for a setting that is not given */
    bool given_zero; /* and may be given so */
} setting_range;

/* What help has it beside. */
typedef enum setting_group {
    GROUP_WHAT,
    GROUP_LORA,
    GROUP_INVERSION,
    GROUP_PRIOR,
    GROUP_LENGTH,
    GROUP_HOW,
    GROUP_WHERE
} setting_group;

/* Every setting (settings_table.h) under the name of its flag; `name` NULL ends the list. */
typedef struct train_setting {
    const char *name;
    setting_kind kind;
    size_t at;
    setting_effect effect;
    double standard;     /* its default, where it is no text */
    setting_range range; /* of INT, LONG, DOUBLE */
    const char *advice;  /* what a message says besides; NULL: nothing */
    const char *value;   /* what stands for its value in help; NULL: it is a switch */
    setting_group group;
    const char *help;
} train_setting;
extern const train_setting train_setting_list[];

/* The values of a setting, in words for people ("at least 1", "a number above 0"), and its default
 * ("": none). */
typedef struct setting_words {
    char text[160];
} setting_words;
setting_words train_setting_range(const train_setting *t);
setting_words train_setting_standard(const train_setting *t);
/* An optimizer's name as flags and plans have it. */
const char *train_optimizer_name(train_optimizer o);

/* Whether this setting, beside the others of s, can change a byte of the trained model; false for a
 * name that is none. The precision is no setting but the device's, and always can. */
bool train_setting_determines(const train_settings *s, const char *name);

#endif
