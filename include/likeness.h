/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness: pictures from Stable Diffusion 1.x and unconditional DDPM models, on the CPU, the same
 * as diffusers makes, and DreamBooth training. This is the whole public interface. A program that makes one picture:
 *
 *     #include <likeness.h>
 *     #include <stdio.h>
 *
 *     int main(void)
 *     {
 *         lk_context *context = NULL;
 *         lk_model *model = NULL;
 *         lk_picture *picture = NULL;
 *         lk_generate_options options;
 *         lk_error error = {0};
 *
 *         lk_generate_defaults(&options);
 *         options.prompt = "a photo of a dog";
 *         options.seed = 42;
 *         if (!lk_context_open(&context, NULL, &error) ||
 *             !lk_model_open(&model, context, NULL, &error) ||
 *             !lk_generate(&picture, model, &options, &error) ||
 *             !lk_picture_save(picture, "dog.png", &error))
 *             fprintf(stderr, "%s\n", error.text);
 *         lk_picture_close(&picture);
 *         lk_model_close(&model);
 *         lk_context_close(&context);
 *         return error.code != LK_OK;
 *     }
 *
 * Rules. Text is UTF-8. A function that can fail returns false and fills its lk_error, which starts
 * as {0} and keeps the first failure; `error` may be NULL. What an x_open (or lk_generate) gives is
 * the caller's, to be given to x_close, which takes NULL too. Texts and arrays handed out through a
 * pointer go back to lk_free. Nothing is printed, nothing global is changed. Different contexts may
 * be used in different threads at the same time; one context, with its models, only by one at a
 * time. A context has threads of its own, which take no signals, sleep when they have nothing to do, and
 * end with it; a forked child does without them. */
#ifndef LIKENESS_H
#define LIKENESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lk_code {
    LK_OK = 0,
    LK_USAGE,     /* an argument that makes no sense */
    LK_FILE,      /* cannot be opened, read, written; disk full */
    LK_FORMAT,    /* the file is there, but its content is wrong */
    LK_MODEL,     /* a model that is not supported, or has wrong tensors */
    LK_MEMORY,    /* an allocation failed, or would not fit */
    LK_NUMERIC,   /* NaN or infinity */
    LK_CANCELLED, /* the progress callback asked to stop */
} lk_code;

typedef struct lk_error {
    lk_code code;
    char text[2048]; /* one line: what is wrong, where, what to do */
} lk_error;

const char *lk_version(void);
void lk_free(void *memory);

/* ---- context: the processor ---- */

typedef struct lk_context lk_context;

typedef enum lk_precision { LK_F32, LK_BF16 } lk_precision;

typedef struct lk_context_options {
    int threads;            /* 0: every core that this process may use; more than these are never used.
                               Results are the same bytes with any number. */
    lk_precision precision; /* LK_BF16: half the weight memory, faster where the processor has it */
} lk_context_options;

void lk_context_defaults(lk_context_options *options);
bool lk_context_open(lk_context **out, const lk_context_options *options, lk_error *error);
void lk_context_close(lk_context **context);
const char *lk_context_device(const lk_context *context); /* "cpu avx2, 2 threads" */
int lk_context_threads(const lk_context *context);

/* ---- model: a checkpoint, opened in a context ---- */

typedef struct lk_model lk_model;

typedef struct lk_model_options {
    const char *path; /* a diffusers folder or a .safetensors file; NULL: the pocket model, found in
                         $LIKENESS_MODELS, beside the program, or in the source tree */
    const char *vae;       /* NULL, or a folder or file whose autoencoder replaces the model's */
    const char *tokenizer; /* NULL, or the tokenizer folder for a single file */
} lk_model_options;

typedef struct lk_model_info {
    const char *path, *format; /* the model's own memory */
    bool unconditional;        /* takes no prompt */
    int width, height;         /* of the pictures that it was trained on */
    int multiple;              /* sides of pictures are multiples of this */
    int tokens;                /* of a prompt, its frame included; 0 where unconditional */
} lk_model_info;

void lk_model_defaults(lk_model_options *options);
bool lk_model_open(lk_model **out, lk_context *context, const lk_model_options *options,
                   lk_error *error);
void lk_model_close(lk_model **model); /* before its context */
void lk_model_describe(const lk_model *model, lk_model_info *info);

/* ---- pictures ---- */

typedef struct lk_picture lk_picture;

bool lk_picture_open(lk_picture **out, const char *path, lk_error *error); /* PNG, JPEG, WebP */
void lk_picture_close(lk_picture **picture);
int lk_picture_width(const lk_picture *picture);
int lk_picture_height(const lk_picture *picture);
const uint8_t *lk_picture_pixels(const lk_picture *picture); /* RGB, rows from the top */
/* The settings it was made with, as AUTOMATIC1111 writes them ("parameters"); NULL: it has none.
 * "Model hash" in them is the first 10 digits of the hash that lk_inspect shows: SHA-256 over the
 * names, types, shapes and values of all weights of UNet, text encoder and autoencoder, the same
 * for a folder and a single file. */
const char *lk_picture_settings(const lk_picture *picture);
bool lk_picture_set_settings(lk_picture *picture, const char *text, lk_error *error);
/* By the path's ending: .png, .jpg, .jpeg, .webp. Written beside the target, renamed when whole. */
bool lk_picture_save(const lk_picture *picture, const char *path, lk_error *error);
/* The latents of a picture that lk_generate made: safetensors with "latents" [1,C,h,w], the noise
 * it started from (what lk_latents_open reads), and "final" [1,C,h,w], before decoding; its
 * settings are in the file's metadata. */
bool lk_picture_save_latents(const lk_picture *picture, const char *path, lk_error *error);

/* A text of settings with one more key (2 or more letters), for lk_free. */
bool lk_settings_add(char **out, const char *text, const char *key, const char *value,
                     lk_error *error);
/* The settings that a file says it was made with: a picture, or saved latents; for lk_free. NULL:
 * it says none, or is no such file. */
char *lk_file_settings(const char *path);

/* Cells (row by row, NULL: empty) on one labelled sheet. Labels may be NULL. */
bool lk_picture_grid(lk_picture **out, const lk_picture *const *cell, int rows, int columns,
                     const char *const *row_label, const char *const *column_label,
                     lk_error *error);

/* ---- generating ---- */

typedef enum lk_sampler { LK_DDIM, LK_DDPM } lk_sampler;
typedef enum lk_variance {
    LK_VARIANCE_MODEL, /* as the model's scheduler says, else fixed_small */
    LK_VARIANCE_FIXED_SMALL,
    LK_VARIANCE_FIXED_SMALL_LOG,
    LK_VARIANCE_FIXED_LARGE,
    LK_VARIANCE_FIXED_LARGE_LOG,
    LK_VARIANCE_LEARNED,
    LK_VARIANCE_LEARNED_RANGE,
} lk_variance;
typedef enum lk_spacing {
    LK_SPACING_MODEL, /* as the model's scheduler says, else the sampler's default */
    LK_SPACING_LEADING,
    LK_SPACING_TRAILING,
    LK_SPACING_LINSPACE,
} lk_spacing;

/* By diffusers' names ("ddim", "fixed_large", "trailing"); false where there is no such name. */
bool lk_sampler_parse(lk_sampler *out, const char *name);
bool lk_variance_parse(lk_variance *out, const char *name);
bool lk_spacing_parse(lk_spacing *out, const char *name);
const char *lk_sampler_name(lk_sampler sampler);

typedef struct lk_latents lk_latents;
/* Noise to start from: a safetensors file with "latents" [1,C,h,w]. */
bool lk_latents_open(lk_latents **out, const char *path, lk_error *error);
void lk_latents_close(lk_latents **latents);

typedef struct lk_progress {
    int picture, pictures; /* as in the options */
    int step, steps;       /* step 0: about to begin */
    double seconds;        /* since step 0 */
} lk_progress;

typedef struct lk_generate_options {
    const char *prompt, *negative; /* NULL: empty */
    uint64_t seed;
    int width, height;             /* 0: the model's own */
    lk_sampler sampler;
    int steps;
    float guidance;                /* classifier-free guidance; off at 1 and below */
    float guidance_rescale;
    float eta;                     /* DDIM */
    lk_variance variance;          /* DDPM */
    lk_spacing spacing;
    int clip_skip;                 /* layers of the text encoder left out, as in diffusers */
    const lk_latents *latents;     /* NULL: drawn from the seed, as PyTorch's CPU generator draws */
    int picture, pictures;         /* which of how many this one is: for progress alone */
    /* NULL, or called before the first step and after each; nonzero asks to stop (LK_CANCELLED). */
    int (*progress)(void *user, const lk_progress *progress);
    void *user;
} lk_generate_options;

void lk_generate_defaults(lk_generate_options *options);
/* Whatever can be found wrong before the work: sizes, steps, text, memory. *notes (may be NULL),
 * for lk_free: lines about what of the prompts is not read as it may be meant: cut because it is
 * too long, or signs that are commands elsewhere, "(word:1.3)", "<lora:name:1>"; NULL: there is
 * nothing to say. */
bool lk_generate_check(lk_model *model, const lk_generate_options *options, char **notes,
                       lk_error *error);
/* The settings that the picture will carry, without making it; for lk_free. */
bool lk_generate_settings(char **text, lk_model *model, const lk_generate_options *options,
                          lk_error *error);
bool lk_generate(lk_picture **out, lk_model *model, const lk_generate_options *options,
                 lk_error *error);

/* ---- several models in one picture ---- */

/* models: of one context, each with a name. schedule: which predicts which steps,
 * "base x15, tuned x35" (or "tuned rest"); a step may be predicted by a sum of models
 * ("0.3*base+0.7*tuned x10"), or its unconditional part by one and its conditional by another
 * ("base|tuned"). Each model reads the prompt with its own text encoder. The steps must add up. */
bool lk_schedule_check(const char *schedule, const char *const *names, int count, int steps,
                       lk_error *error); /* the text alone */
bool lk_generate_check_mixed(lk_model *const *models, const char *const *names, int count,
                             const char *schedule, const lk_generate_options *options, char **notes,
                             lk_error *error);
bool lk_generate_settings_mixed(char **text, lk_model *const *models, const char *const *names,
                                int count, const char *schedule, const lk_generate_options *options,
                                lk_error *error);
bool lk_generate_mixed(lk_picture **out, lk_model *const *models, const char *const *names,
                       int count, const char *schedule, const lk_generate_options *options,
                       lk_error *error);
/* A model whose UNet and text encoder are the weighted sum ("0.5*base+0.5*tuned") of several, in
 * float32, as a diffusers folder; all else is the first's of the sum. stop: NULL, or asked now and
 * then; nonzero gives up (LK_CANCELLED). A folder that was not there before is removed when it
 * fails. */
bool lk_merge(lk_model *const *models, const char *const *names, int count, const char *sum,
              const char *folder, int (*stop)(void *user), void *user, lk_error *error);

/* ---- many pictures ---- */

/* "42", "42,43,44", "42-45" and mixtures; -1 is a random one below 2^32. */
bool lk_seeds_parse(uint64_t **seeds, size_t *count, const char *text, lk_error *error);
/* "sampler=ddpm,ddim steps=200,50,10": every combination, each a copy of base with its own values.
 * Each has a name for files ("ddpm-200") and a label for people. For lk_sweep_close. */
typedef struct lk_sweep {
    size_t count;
    lk_generate_options *options;
    char **name, **label;
} lk_sweep;
bool lk_sweep_parse(lk_sweep *out, const char *text, const lk_generate_options *base,
                    lk_error *error);
void lk_sweep_close(lk_sweep *sweep);
/* "A photo of a dog!" -> "a-photo-of-a-dog", for lk_free; NULL when memory is out. Letters and
 * digits of every script stay; cut at `limit` bytes (10 or more; names of files have at most 255). */
char *lk_slug(const char *text, size_t limit);
/* Whether a file can be written at path, found out without leaving anything. make_folder: the
 * folders above it are made, and what killed runs left half-written beside it is removed. */
bool lk_can_write(const char *path, bool make_folder, lk_error *error);

/* ---- training ---- */

typedef enum lk_rate_schedule {
    LK_RATE_CONSTANT,
    LK_RATE_CONSTANT_WITH_WARMUP,
    LK_RATE_LINEAR,
    LK_RATE_COSINE,
    LK_RATE_COSINE_WITH_RESTARTS,
    LK_RATE_POLYNOMIAL,
} lk_rate_schedule;
bool lk_rate_schedule_parse(lk_rate_schedule *out, const char *name); /* diffusers' names */

typedef enum lk_optimizer {
    LK_ADAMW,      /* torch.optim.AdamW */
    LK_ADAMW_8BIT, /* bitsandbytes' AdamW8bit: a quarter of the memory for its state */
    LK_ADAMW_F16,  /* weights and state in half precision, which fails: docs/WHY-NAN.md */
} lk_optimizer;

typedef enum lk_train_phase {
    LK_TRAIN_PHOTOS,         /* pictures are read */
    LK_TRAIN_CLASS_PICTURES, /* pictures of the class are made */
    LK_TRAIN_LATENTS,        /* pictures are encoded */
    LK_TRAIN_STEPS,
    LK_TRAIN_VALIDATION,     /* validation pictures are made */
    LK_TRAIN_SAVING,         /* a checkpoint, or the model */
} lk_train_phase;

typedef struct lk_train_progress {
    lk_train_phase phase;
    int64_t done, total;   /* of the phase: pictures, updates; files being saved */
    int step, steps;       /* of the picture in the making; steps 0: none is */
    float loss, instance_loss, prior_loss; /* of the last update, as all that follows */
    double rate, norm;     /* learning rate; the gradient's norm before clipping */
    double seconds;
    double left;           /* seconds to the end of the whole run, about; 0: not known yet */
} lk_train_progress;

/* DreamBooth. Names, meaning and defaults are those of diffusers' train_dreambooth.py; what that has
 * not is said here. */
typedef struct lk_train_options {
    const char *instance_data_dir, *instance_prompt, *output_dir; /* needed */
    const char *class_data_dir, *class_prompt;
    int resolution;                  /* 0: the model's own */
    bool center_crop;
    int train_batch_size, gradient_accumulation_steps;
    int64_t max_train_steps;         /* 0: num_train_epochs decides */
    int num_train_epochs;
    double learning_rate;
    bool scale_lr;
    lk_rate_schedule lr_scheduler;
    int64_t lr_warmup_steps;
    int lr_num_cycles;
    double lr_power;
    lk_optimizer optimizer;
    double adam_beta1, adam_beta2, adam_weight_decay, adam_epsilon, max_grad_norm;
    uint64_t seed;
    bool any_seed;                   /* seed is not looked at: a run that goes on has its own, a new one
                                        takes one from the clock; train.json has it */
    bool train_text_encoder, gradient_checkpointing;
    double snr_gamma;                /* 0: off; each sample by its own weight, also with a prior */
    bool offset_noise;
    bool with_prior_preservation;
    double prior_loss_weight;
    int num_class_images;            /* the missing ones are made; never more are used */
    bool prior_from_base;            /* no class pictures: the base model's own prediction is kept */
    bool cache_latents;              /* encode once, where crops are fixed; true */
    int64_t checkpointing_steps;
    int checkpoints_total_limit;     /* 0: all are kept */
    const char *resume_from_checkpoint; /* NULL, "latest", or a checkpoint's folder */
    const char *validation_prompt;   /* NULL: none */
    int num_validation_images;
    int64_t validation_steps;
    /* NULL, or called before the first step, after each, and after each class picture; nonzero asks to
     * stop: a checkpoint is saved first (LK_CANCELLED). */
    int (*progress)(void *user, const lk_train_progress *progress);
    void (*say)(void *user, const char *line); /* NULL, or told warnings, forecast, files written */
    void *user;
} lk_train_options;

void lk_train_defaults(lk_train_options *options);
/* Trains the model's UNet (and text encoder) on a subject; the model itself stays as it is. output_dir
 * becomes a diffusers folder of the trained model, with train.jsonl, train.json, checkpoint-N and
 * validation beside it. NaN stops it (LK_NUMERIC); what was good is kept. */
bool lk_train(lk_model *model, const lk_train_options *options, lk_error *error);

/* ---- a study: models, pictures, measures, one page ---- */

typedef struct lk_study_progress {
    const char *what;    /* "training tuned", "pictures", "measuring" */
    double done, total;  /* of the whole study, in steps of about equal length; total 0: not known yet */
    double left;         /* seconds, about; 0: not known yet */
} lk_study_progress;

typedef struct lk_study_options {
    const char *plan;    /* a plan in JSON (docs/STUDY.md); NULL: the report's experiment */
    /* NULL, or a folder of photos of one subject, which is called `name` ("sks dog") and is one of
     * class_name ("dog"): the report's experiment with it, on the model at `model` (NULL: the
     * default). */
    const char *photos, *name, *class_name, *model;
    const char *folder;  /* where everything goes: report.html, cells/, models/ */
    /* NULL, or folders as transformers saves them, for the measures of the DreamBooth paper: clip a CLIPModel
     * with its tokenizer (CLIP-I, CLIP-T), dino a ViTModel (DINO) or a Dinov2Model (DINO, PRES, DIV). */
    const char *clip, *dino;
    bool dry_run;        /* tell what would be done (through say), and do nothing */
    bool yes;            /* thousands of pictures are meant */
    int (*progress)(void *user, const lk_study_progress *progress); /* NULL; nonzero: stop */
    void (*say)(void *user, const char *line);                      /* NULL, or told what happens */
    void *user;
} lk_study_options;

/* What the folder holds already is not made again; a run that was killed or stopped goes on. A picture that
 * cannot be made does not keep the others: the page says why, and the result is false. */
bool lk_study(lk_context *context, const lk_study_options *options, lk_error *error);

/* ---- inspecting ---- */

/* What a model or a picture is, in lines for people, for lk_free. */
bool lk_inspect(char **text, const char *path, lk_error *error);

#ifdef __cplusplus
}
#endif

#endif
