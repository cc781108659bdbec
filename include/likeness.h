/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness: pictures from Stable Diffusion 1.x and unconditional DDPM models, on the CPU, the same
 * as diffusers makes, and DreamBooth training. This is the whole public interface. A program that
 * makes one picture:
 *
 *     #include <likeness.h>
 *     #include <stdio.h>
 *
 *     int main(void)
 *     {
 *         lk_context *context = NULL;
 *         lk_session *session = NULL;
 *         lk_model *model = NULL;
 *         lk_image *picture = NULL;
 *         lk_generate_options options;
 *         lk_error error = {0};
 *
 *         lk_generate_defaults(&options);
 *         options.prompt = "a photo of a dog";
 *         options.seed = 42;
 *         if (!lk_context_open(&context, NULL, &error) ||
 *             !lk_session_open(&session, context, NULL, &error) ||
 *             !lk_model_open(&model, context, NULL, &error) ||
 *             !lk_generate(&picture, session, model, &options, &error) ||
 *             !lk_image_save(picture, "dog.png", &error))
 *             fprintf(stderr, "%s\n", error.text);
 *         lk_image_close(&picture);
 *         lk_model_close(&model);
 *         lk_session_close(&session);
 *         lk_context_close(&context);
 *         return error.code != LK_OK;
 *     }
 *
 * Rules.
 *
 * Text is UTF-8. Nothing is printed, nothing global is changed, no locale is followed.
 *
 * Failing. A function that can fail returns false and fills its lk_error, which starts as {0} ({}
 * in C++) and keeps the first failure; `error` may be NULL. What it would have given is NULL then.
 *
 * Owning. What an x_open (or lk_generate) gives is the caller's, to be given to x_close, which
 * takes NULL too. Texts and arrays handed out through a pointer go back to lk_free. What is handed
 * out as const belongs to what it was asked of.
 *
 * Options begin with their size. lk_x_defaults fills all of them; then the caller sets what he
 * wants otherwise. So a program and a library of other ages go together: fields that the program
 * does not know keep their defaults, and fields that the library does not know must be 0 (else
 * LK_USAGE). A size of 0 is LK_USAGE: the defaults were forgotten. Options may be NULL where
 * nothing in them is needed. Structs that are told to callbacks begin with their size, too, and
 * grow at their end.
 *
 * Threads. A context, and models and pictures that are open, may be used by any number of threads
 * at the same time. Work is done in a session, and a session is one thread's at a time (a second
 * thread that comes while it works gets LK_USAGE); different sessions work at the same time, on the
 * same models too, and give the same bytes as alone. x_close may not be called while another thread
 * still uses x; but for that, sessions and models close in any order, the context last.
 * lk_session_cancel may be called from anywhere, from a signal handler too. Threads of the
 * library's own take no signals, sleep when they have nothing to do, and end with their session or
 * context; a forked child does without them.
 *
 * Callbacks are called by the thread that called the function (lk_generate_many says what it does).
 * They may call anything but what needs the session that is at work. */
#ifndef LIKENESS_H
#define LIKENESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef LK_API
#define LK_API __attribute__((visibility("default")))
#endif

typedef enum lk_code {
    LK_OK = 0,
    LK_USAGE,     /* an argument that makes no sense */
    LK_FILE,      /* cannot be opened, read, written; disk full */
    LK_FORMAT,    /* the file is there, but its content is wrong */
    LK_MODEL,     /* a model that is not supported, or has wrong tensors */
    LK_MEMORY,    /* an allocation failed, or would not fit */
    LK_NUMERIC,   /* NaN or infinity */
    LK_CANCELLED, /* a progress callback or lk_session_cancel asked to stop */
    LK_DEVICE,    /* a GPU that was there failed, or was lost: nothing more can be done with the
                     context; its sessions, models and itself are to be closed as ever */
} lk_code;

typedef struct lk_error {
    lk_code code;
    char text[2048]; /* one line: what is wrong, where, what to do */
} lk_error;

LK_API const char *lk_version(void); /* "0.1.0" */
LK_API void lk_free(void *memory);

/* What long work tells of itself. step of steps: of a picture its denoising steps, 0 before the
 * first; of a model that is opened, hashed, merged or saved the tensors of the network in hand,
 * again from 0 with the next. */
typedef struct lk_progress {
    size_t size;
    int picture, pictures; /* as in the options; 0 where the work makes no pictures */
    int step, steps;
    double seconds; /* since step 0 */
} lk_progress;
/* Nonzero asks to stop: the work ends with LK_CANCELLED as soon as it can. */
typedef int lk_progress_callback(void *user, const lk_progress *progress);

typedef enum lk_level { LK_LOG_INFO, LK_LOG_WARNING } lk_level;
/* One line for a person, without its newline. */
typedef void lk_log_callback(void *user, lk_level level, const char *line);

/* ---- context: the device ---- */

typedef struct lk_context lk_context;

/* In half precisions the inputs of convolutions, products and attention, and the weights' copies;
 * sums, residuals, norms, softmax and losses are float32. On the processor LK_BF16 takes half the
 * weights' memory of a float32 file and as much as LK_F32 of a float16 one, which that reads as it
 * lies; what is trained is float32 and has no copies. LK_F16 is a GPU's alone, and the half type of
 * a Turing card (torch.float16). */
typedef enum lk_precision { LK_F32, LK_BF16, LK_F16 } lk_precision;

/* By "f32", "bf16", "f16", or diffusers' names of --mixed_precision: "no", "bf16", "fp16"; false
 * where there is no such name. */
LK_API bool lk_precision_parse(lk_precision *out, const char *name);
LK_API const char *lk_precision_name(lk_precision precision); /* "f16"; NULL: there is none such */
LK_API const char *lk_mixed_precision_name(lk_precision precision); /* "fp16"; the same */

typedef struct lk_context_options {
    size_t size;
    int threads; /* 0: every core that this process may use; more than these are never used.
                    Results are the same bytes with any number. */
    lk_precision
        precision; /* half ones: half the weight memory, faster where the hardware has it */
    /* NULL, or told what a person may want to know: what a training says of itself, warnings. By
     * several threads at once where sessions work at once. */
    lk_log_callback *log;
    void *user;
    const char *device; /* "auto" or NULL: the GPU where one serves, else the processor; "cpu",
                           "cuda", "cuda:1" */
} lk_context_options;

#define lk_context_defaults(options) lk_context_defaults_sized((options), sizeof *(options))
LK_API void lk_context_defaults_sized(lk_context_options *options, size_t size);
LK_API bool lk_context_open(lk_context **out, const lk_context_options *options, lk_error *error);
LK_API void lk_context_close(lk_context **context);              /* after its sessions and models */
LK_API const char *lk_context_device(const lk_context *context); /* "cpu avx2, 2 threads" */
/* Why device "auto" is not the GPU whose plug-in is there; "": it is, or there is none, or auto was
 * not asked for. */
LK_API const char *lk_context_device_note(const lk_context *context);
LK_API int lk_context_threads(const lk_context *context);
LK_API lk_precision lk_context_precision(const lk_context *context);

typedef struct lk_device {
    size_t size;
    char name[24];         /* for lk_context_options */
    char text[112];        /* what it is */
    uint64_t memory, left; /* bytes */
    bool bf16, f16;        /* LK_BF16, LK_F16 is to be had; LK_F32 always is */
} lk_device;

/* The i-th device, from 0, the processor first. False: there are no more; the error then says why
 * there is no GPU, or is LK_OK. */
#define lk_device_at(i, out, error) lk_device_at_sized((i), (out), sizeof *(out), (error))
LK_API bool lk_device_at_sized(int i, lk_device *out, size_t size, lk_error *error);

/* ---- session: one thread's work ---- */

/* What a thread needs to work: threads of its own, and what is costly between two pictures of one
 * model (the planned networks, the text's keys and values), which it keeps until the model or it is
 * closed. */
typedef struct lk_session lk_session;

typedef struct lk_session_options {
    size_t size;
    int threads;          /* 0: as many as the context has; more than these are never used */
    lk_log_callback *log; /* NULL: the context's */
    void *user;
} lk_session_options;

#define lk_session_defaults(options) lk_session_defaults_sized((options), sizeof *(options))
LK_API void lk_session_defaults_sized(lk_session_options *options, size_t size);
LK_API bool lk_session_open(lk_session **out, lk_context *context,
                            const lk_session_options *options, lk_error *error);
LK_API void lk_session_close(lk_session **session);
LK_API int lk_session_threads(const lk_session *session);
/* Work that is going on ends with LK_CANCELLED after the operation that it is at (milliseconds), or
 * where it next looks (between two files, two pictures); work begun later ends so at once, until
 * lk_session_resume. */
LK_API void lk_session_cancel(lk_session *session);
LK_API void lk_session_resume(lk_session *session);

/* ---- model: a checkpoint, opened in a context ---- */

/* Never changes once it is open. */
typedef struct lk_model lk_model;

/* What is merged into a model's weights when it is opened: a LoRA, DoRA, LoCon, LoHa, LoKr for
 * Stable Diffusion 1, in kohya's, diffusers', PEFT's or cloneofsimo's spelling. */
typedef struct lk_lora {
    const char *path; /* a file, or a folder of diffusers with pytorch_lora_weights.safetensors */
    float weight;     /* of its change: 1 as it was trained, 0 none; -1000 to 1000 */
} lk_lora;

/* A word that a prompt may use, and its rows of the text encoder's embedding. */
typedef struct lk_embedding {
    const char *path;  /* a textual inversion of diffusers or AUTOMATIC1111 */
    const char *token; /* the word; NULL: as the file says, or the file's name */
} lk_embedding;

typedef struct lk_model_options {
    size_t size;
    /* A diffusers folder, a .safetensors or .ckpt file; NULL: the pocket model, found in
     * $LIKENESS_MODELS, beside the library or program as it is installed or built. */
    const char *path;
    const char *vae;       /* NULL, or a folder or file whose autoencoder replaces the model's */
    const char *tokenizer; /* NULL, or the tokenizer folder for a single file */
    lk_progress_callback *progress; /* NULL, or told while all weights are looked at */
    void *user;
    const lk_lora *loras; /* merged in this order; the weights that they change are float32 then.
                             Keys that fit nothing are told to the context's log. */
    int lora_count;
    const lk_embedding *embeddings; /* a model that is opened with some cannot be saved */
    int embedding_count;
    /* In place of path, vae, tokenizer and embeddings: a model that is open, whose weights this one
     * has too. Only those that the LoRAs change are there twice, in memory and on the device. It
     * may be closed before. */
    lk_model *base;
    /* NULL, or a tiny autoencoder (TAESD of Stable Diffusion 1: a diffusers folder, or a file in
     * diffusers' or the original names) that makes pictures of latents in place of the model's own,
     * which still encodes. That of Stable Diffusion XL has the same tensors, not told apart. */
    const char *taesd;
} lk_model_options;

typedef struct lk_model_info {
    size_t size;
    const char *path, *format; /* the model's own memory */
    bool unconditional;        /* takes no prompt */
    int width, height;         /* of the pictures that it was trained on */
    int multiple;              /* sides of pictures are multiples of this */
    int tokens;                /* of a prompt, its frame included; 0 where unconditional */
} lk_model_info;

#define lk_model_defaults(options) lk_model_defaults_sized((options), sizeof *(options))
LK_API void lk_model_defaults_sized(lk_model_options *options, size_t size);
LK_API bool lk_model_open(lk_model **out, lk_context *context, const lk_model_options *options,
                          lk_error *error);
LK_API void lk_model_close(lk_model **model);
#define lk_model_describe(model, info) lk_model_describe_sized((model), (info), sizeof *(info))
LK_API void lk_model_describe_sized(const lk_model *model, lk_model_info *info, size_t size);
/* Its weights' name, 64 hex digits, of which pictures tell the first as "Model hash". The first
 * call reads all of them, with the context's threads. */
LK_API const char *lk_model_hash(lk_model *model);

/* ---- ControlNet ---- */

/* A network that joins the UNet and makes pictures follow another: its edges, its depth, a pose. Of
 * Stable Diffusion 1.x: a diffusers folder, or a file in diffusers' or the original names. Never
 * changes once it is open; pictures that were made with it may outlive it. */
typedef struct lk_controlnet lk_controlnet;
LK_API bool lk_controlnet_open(lk_controlnet **out, lk_context *context, const char *path,
                               lk_error *error);
LK_API void lk_controlnet_close(lk_controlnet **net);            /* while nothing is made with it */
LK_API const char *lk_controlnet_hash(const lk_controlnet *net); /* of its weights, 64 hex digits */

/* ---- latents ---- */

/* Float32 [C, h, w], as PyTorch lays them out ([1, C, h, w]), in the units that the UNet reads (the
 * autoencoder's times its scaling_factor). Of a Stable Diffusion picture C is 4, h and w its height
 * and width / 8; of an unconditional model they are the picture, [3, H, W] in -1..1. Never change
 * once they are open. */
typedef struct lk_latents lk_latents;

/* Of a safetensors file, "latents" [1,C,h,w]. */
LK_API bool lk_latents_open(lk_latents **out, const char *path, lk_error *error);
/* A copy of channels * height * width numbers. */
LK_API bool lk_latents_from_memory(lk_latents **out, const float *data, int channels, int height,
                                   int width, lk_error *error);
LK_API void lk_latents_close(lk_latents **latents);
LK_API const float *lk_latents_data(const lk_latents *latents);
LK_API void lk_latents_shape(const lk_latents *latents, int shape[3]); /* C, h, w */

/* ---- pictures ---- */

/* 8-bit RGB. Only lk_image_set_settings changes one. */
typedef struct lk_image lk_image;

/* PNG, JPEG, WebP, BMP, GIF, TIFF and, where the build has them, HEIC and AVIF, turned as EXIF
 * says, alpha dropped. */
LK_API bool lk_image_open(lk_image **out, const char *path, lk_error *error);
/* The same of a file's bytes. name: what messages call it; NULL: "the picture". */
LK_API bool lk_image_from_memory(lk_image **out, const void *data, size_t bytes, const char *name,
                                 lk_error *error);
/* A copy of pixels: RGB, rows from the top, each `stride` bytes after the last (0: 3 * width). */
LK_API bool lk_image_from_pixels(lk_image **out, const uint8_t *pixels, int width, int height,
                                 size_t stride, lk_error *error);
LK_API void lk_image_close(lk_image **picture);
LK_API int lk_image_width(const lk_image *picture);
LK_API int lk_image_height(const lk_image *picture);
LK_API const uint8_t *lk_image_pixels(
    const lk_image *picture); /* RGB, rows from the top, without gaps */
/* The settings it was made with, as AUTOMATIC1111 writes them ("parameters"); NULL: it has none.
 * "Model hash" in them is the first 10 digits of the hash that lk_inspect shows: SHA-256 over the
 * names, types, shapes and values of all weights of UNet, text encoder and autoencoder, the same
 * for a folder and a single file. */
LK_API const char *lk_image_settings(const lk_image *picture);
LK_API bool lk_image_set_settings(lk_image *picture, const char *text, lk_error *error);
/* By the path's ending: .png, .jpg, .jpeg, .webp. Written beside the target, renamed when whole. */
LK_API bool lk_image_save(const lk_image *picture, const char *path, lk_error *error);
/* The latents of a picture that lk_generate made, before the first step and after the last; NULL of
 * any other. They end with the picture. */
LK_API const lk_latents *lk_image_initial(const lk_image *picture);
LK_API const lk_latents *lk_image_final(const lk_image *picture);
/* Both, as safetensors: "latents" [1,C,h,w], which lk_latents_open reads, and "final" [1,C,h,w];
 * its settings are in the file's metadata. */
LK_API bool lk_image_save_latents(const lk_image *picture, const char *path, lk_error *error);

/* The settings that a file says it was made with: a picture, or saved latents; for lk_free. NULL:
 * it says none, or is no such file. */
LK_API char *lk_file_settings(const char *path);
/* A file's SHA-256 in hex. AUTOMATIC1111's "Model hash" is 10 digits of a model's file. */
LK_API bool lk_file_hash(char out[65], const char *path, lk_error *error);
/* A text of settings with one more key (2 or more letters), for lk_free. */
LK_API bool lk_settings_add(char **out, const char *text, const char *key, const char *value,
                            lk_error *error);

/* Such a text, read as AUTOMATIC1111 reads its own: any text at all can be read. "Size: 512x768" is
 * the keys "Size-1" and "Size-2". Texts handed out end with it. */
typedef struct lk_settings lk_settings;
LK_API bool lk_settings_open(lk_settings **out, const char *text, lk_error *error);
LK_API void lk_settings_close(lk_settings **settings);
LK_API const char *lk_settings_prompt(const lk_settings *settings);   /* "": empty, or none */
LK_API const char *lk_settings_negative(const lk_settings *settings); /* the same */
LK_API const char *lk_settings_get(const lk_settings *settings, const char *key); /* or NULL */
/* The i-th key, from 0; false: there are no more. */
LK_API bool lk_settings_at(const lk_settings *settings, size_t i, const char **key,
                           const char **value);

/* Cells (row by row, NULL: empty) on one labelled grid. Labels may be NULL. */
LK_API bool lk_image_grid(lk_image **out, const lk_image *const *cell, int rows, int columns,
                          const char *const *row_label, const char *const *column_label,
                          lk_error *error);

/* ---- generating ---- */

/* A number from 0 to lk_sampler_count() - 1; later versions have more. */
typedef int lk_sampler;
enum {
    LK_SAMPLER_MODEL = -1, /* the one that the model's scheduler_config.json names */
    LK_DDIM,
    LK_DDPM,
};
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

/* How prompts are read: as diffusers does, where signs are text and what is longer than the text
 * encoder reads is cut; or as AUTOMATIC1111 does: "(word:1.3)", "[word]", BREAK, any length,
 * "[a:b:0.5]", "[a|b]", "a cat AND a dog:0.8", # comments. "<lora:name:0.8>" is taken out there:
 * lk_prompt_loras lists them, and the model is to be opened with them. */
typedef enum lk_prompt_syntax { LK_PROMPT_PLAIN, LK_PROMPT_A1111 } lk_prompt_syntax;

LK_API int lk_sampler_count(void);
/* By diffusers' names ("ddim", "fixed_large", "trailing"), a sampler also by other programs'
 * ("DDIM"); false where there is no such name. */
LK_API bool lk_sampler_parse(lk_sampler *out, const char *name);
LK_API bool lk_variance_parse(lk_variance *out, const char *name);
LK_API bool lk_spacing_parse(lk_spacing *out, const char *name);
/* "ddim", and "DDIM", as in pictures' settings; NULL: there is none of this number. */
LK_API const char *lk_sampler_name(lk_sampler sampler);
LK_API const char *lk_sampler_label(lk_sampler sampler);
/* Whether the option of that name means something to it. */
LK_API bool lk_sampler_has_eta(lk_sampler sampler);
LK_API bool lk_sampler_has_variance(lk_sampler sampler);
LK_API bool lk_sampler_draws(lk_sampler sampler, float eta); /* whether its steps draw noise */
LK_API bool lk_sampler_has_sigmas(lk_sampler sampler);
LK_API int lk_sampler_evaluations(lk_sampler sampler); /* of the UNet in most steps; 0: none */
/* What lk_generate_options takes for sigmas: *steps (may be NULL) is a list's, else 0. */
LK_API bool lk_sigmas_check(const char *sigmas, int *steps, lk_error *error);
LK_API const char *lk_sigmas_name(const char *sigmas);  /* "karras" for "Karras"; NULL: a list */
LK_API const char *lk_sigmas_label(const char *sigmas); /* "Karras", as AUTOMATIC1111 writes it */
/* "latent-bicubic" for "Latent (bicubic)"; NULL: there is none such, and the error names all. */
LK_API const char *lk_upscaler_name(const char *name, lk_error *error);
LK_API const char *lk_variance_name(lk_variance variance); /* NULL: the model's */
LK_API const char *lk_spacing_name(lk_spacing spacing);    /* the same */
/* A "<lora:name:0.8>" of a prompt in AUTOMATIC1111's syntax. */
typedef struct lk_prompt_lora {
    const char *name;
    float weight;
} lk_prompt_lora;
/* Those of a prompt, in order; *list [*count], as the next one's, is one block for lk_free. */
LK_API bool lk_prompt_loras(lk_prompt_lora **list, size_t *count, const char *prompt,
                            lk_error *error);
/* A LoRA's file, and what prompts may call it: alias is kohya's ss_output_name in it, or NULL. */
typedef struct lk_lora_file {
    const char *path, *name, *alias;
} lk_lora_file;
/* Those in a folder and in all below it (.safetensors, .pt, .ckpt), by path. */
LK_API bool lk_lora_files(lk_lora_file **list, size_t *count, const char *folder, lk_error *error);
/* "plain", "a1111" */
LK_API bool lk_prompt_syntax_parse(lk_prompt_syntax *out, const char *name);
LK_API const char *lk_prompt_syntax_name(lk_prompt_syntax syntax); /* NULL: there is none such */

/* A run after some of its steps: latents, random numbers' state, what the sampler remembers. */
typedef struct lk_snapshot lk_snapshot;
LK_API bool lk_snapshot_copy(lk_snapshot **out, const lk_snapshot *snapshot, lk_error *error);
LK_API void lk_snapshot_close(lk_snapshot **snapshot);    /* of a copy */
LK_API int lk_snapshot_step(const lk_snapshot *snapshot); /* steps that are done */

/* A ControlNet at work. */
typedef struct lk_control {
    lk_controlnet *net;
    const lk_image *picture; /* what it sees, of any size: it is resized */
    float scale;             /* of what it adds: 1 as it was trained, 0 nothing */
} lk_control;

/* Whose noise a seed gives: PyTorch's generator on the processor; the one on a GPU (Philox); or
 * this as AUTOMATIC1111 ("NV", "GPU") and stable-diffusion.cpp use it, which differs where a
 * picture is changed: its noise is the seed's first draw, with diffusers the second. */
typedef enum lk_rng { LK_RNG_CPU, LK_RNG_CUDA, LK_RNG_A1111 } lk_rng;
LK_API bool lk_rng_parse(lk_rng *out, const char *name); /* "cpu", "cuda", "a1111", "nv", "gpu" */
LK_API const char *lk_rng_name(lk_rng rng); /* the first three; NULL: there is none such */

typedef struct lk_generate_options {
    size_t size;
    const char *prompt, *negative; /* NULL: empty */
    uint64_t seed;
    int width, height;      /* 0: the model's own; multiples of lk_model_info's `multiple` */
    lk_sampler sampler;     /* LK_SAMPLER_MODEL */
    int steps;              /* 1 or more; 50 */
    float guidance;         /* classifier-free guidance; off at 1 and below; 7.5 */
    float guidance_rescale; /* 0 to 1 */
    float eta;              /* DDIM and TCD, 0 to 1 */
    lk_variance variance;   /* DDPM */
    lk_spacing spacing;
    int clip_skip;             /* layers of the text encoder left out, as in diffusers */
    const lk_latents *latents; /* NULL: drawn from the seed, as PyTorch's CPU generator draws */
    int picture, pictures;     /* which of how many this one is: for progress alone */
    lk_progress_callback *progress; /* NULL, or called before the first step and after each */
    /* NULL, or a copy of what another run of the same options reached: this one goes on from there.
     * Options that count from a later step only (the schedule's) may differ. */
    const lk_snapshot *from;
    /* NULL, or told the state after each step, which lasts as long as the call. */
    void (*reached)(void *user, const lk_snapshot *state);
    void *user;
    /* How noise falls from step to step, where the sampler has sigmas: "model" (the timesteps'),
     * "karras", "exponential", "beta", "trailing", or their list itself, which falls to 0 and has
     * one number more than there are steps ("14.6,7,2,0"). NULL: as the model's scheduler says. */
    const char *sigmas;
    /* DeepCache: only every so many evaluations of the UNet are of all of it; those between reuse
     * its deep features. Faster, and another picture. 0, 1: all are. */
    int deep_cache;
    lk_prompt_syntax prompt_syntax; /* LK_PROMPT_PLAIN */
    /* NULL, or the picture that is changed, as diffusers' StableDiffusionImg2ImgPipeline does: of
     * its size where width and height are 0, cut to a multiple; else resized. Its latents are
     * noised, and the last steps made: a schedule of models and progress count these
     * (lk_generate_steps). Not with latents, nor for unconditional models. */
    const lk_image *init_image;
    double strength; /* 0 to 1: the share of the steps that is made; 0.8 */
    /* NULL, or a picture of init_image's size: what is white in it (128 and more of grey) is made
     * anew, and the rest kept, as diffusers' StableDiffusionInpaintPipeline does. An inpainting
     * model (9 input channels) reads it, and makes no picture without. */
    const lk_image *mask;
    /* A second pass over a larger picture, as AUTOMATIC1111's "Hires. fix" makes it: the latents
     * grow by this factor (0: none), are noised by the same seed, and steps are made again, by the
     * model of a schedule's last step. lk_image_initial is the first pass's. */
    double hires;
    int hires_steps;            /* 0: as many as steps */
    double hires_strength;      /* 0 to 1; 0.7 */
    const char *hires_upscaler; /* as lk_upscaler_name has them; NULL: "latent" */
    const lk_control *controls; /* what they add is summed */
    int control_count;
    /* A picture that is larger than those that the autoencoder was trained on is decoded (and
     * init_image encoded) in tiles that overlap by a quarter, as diffusers' enable_vae_tiling has
     * it: no more memory than for one of them, and nearly the same picture. */
    bool tile;
    lk_rng rng; /* what draws the noise, the first and the samplers' */
    /* Every so many steps (0: never) the growing picture is told, decoded from what the sampler
     * foretells where it does, else from its latents; the last step's is the picture itself. By
     * whichever thread makes it; it ends with the call, which may give it settings. Changes no
     * picture. */
    int preview_steps;
    void (*preview)(void *user, lk_image *picture);
    /* The samplers' own noise is that of seed + this: AUTOMATIC1111's "Eta noise seed delta" (its
     * pictures' ENSD). 0: the seed's, behind the first noise. */
    uint64_t noise_seed_delta;
} lk_generate_options;
/* How many of its steps a picture really makes (of two passes the first), which a schedule counts;
 * 0: its strength leaves none. */
LK_API int lk_generate_steps(const lk_generate_options *options);
/* Sets `sampler` by a name that any of these programs has for it, and `sigmas` where it names them
 * too ("DPM++ 2M Karras"). The error names the nearest. */
LK_API bool lk_sampler_choose(lk_generate_options *options, const char *name, lk_error *error);

#define lk_generate_defaults(options) lk_generate_defaults_sized((options), sizeof *(options))
LK_API void lk_generate_defaults_sized(lk_generate_options *options, size_t size);
/* Whatever can be found wrong before the work: sizes, steps, text, memory. *notes (may be NULL),
 * for lk_free: lines about what of the prompts is not read as it may be meant: cut because it is
 * too long, or signs that are commands elsewhere, "(word:1.3)", "<lora:name:1>"; NULL: there is
 * nothing to say. */
LK_API bool lk_generate_check(lk_session *session, lk_model *model,
                              const lk_generate_options *options, char **notes, lk_error *error);
/* The settings that the picture will carry, without making it; for lk_free. The first time it reads
 * all of the model, for its hash. */
LK_API bool lk_generate_settings(char **text, lk_session *session, lk_model *model,
                                 const lk_generate_options *options, lk_error *error);
LK_API bool lk_generate(lk_image **out, lk_session *session, lk_model *model,
                        const lk_generate_options *options, lk_error *error);
/* How many sessions of one thread each, side by side, make pictures like this one sooner than this
 * session alone does one after the other: 1 where one picture keeps its threads busy, or memory is
 * short. */
LK_API int lk_generate_sessions(lk_session *session, lk_model *model,
                                const lk_generate_options *options);

/* ---- the autoencoder by itself ---- */

typedef struct lk_encode_options {
    size_t size;
    bool sample;   /* drawn from the posterior, as diffusers' latent_dist.sample(); else its mean */
    uint64_t seed; /* for that, as PyTorch's CPU generator draws */
} lk_encode_options;
#define lk_encode_defaults(options) lk_encode_defaults_sized((options), sizeof *(options))
LK_API void lk_encode_defaults_sized(lk_encode_options *options, size_t size);
/* A picture's latents; its sides must be multiples of the autoencoder's factor (8). LK_USAGE for a
 * model that has none, or for other sides. */
LK_API bool lk_encode(lk_latents **out, lk_session *session, lk_model *model,
                      const lk_image *picture, const lk_encode_options *options, lk_error *error);
/* The picture of latents: of lk_image_final, the picture that has them. It carries no settings. */
LK_API bool lk_decode(lk_image **out, lk_session *session, lk_model *model,
                      const lk_latents *latents, lk_error *error);

/* ---- several models in one picture ---- */

/* models: of one context, each with a name. schedule: which predicts which steps,
 * "base x15, tuned x35" (or "tuned rest"); a step may be predicted by a sum of models
 * ("0.3*base+0.7*tuned x10"), or its unconditional part by one and its conditional by another
 * ("base|tuned"). Each model reads the prompt with its own text encoder. The steps must add up. */
LK_API bool lk_schedule_check(const char *schedule, const char *const *names, int count, int steps,
                              lk_error *error); /* the text alone */
LK_API bool lk_generate_check_mixed(lk_session *session, lk_model *const *models,
                                    const char *const *names, int count, const char *schedule,
                                    const lk_generate_options *options, char **notes,
                                    lk_error *error);
LK_API bool lk_generate_settings_mixed(char **text, lk_session *session, lk_model *const *models,
                                       const char *const *names, int count, const char *schedule,
                                       const lk_generate_options *options, lk_error *error);
LK_API bool lk_generate_mixed(lk_image **out, lk_session *session, lk_model *const *models,
                              const char *const *names, int count, const char *schedule,
                              const lk_generate_options *options, lk_error *error);

typedef struct lk_merge_options {
    size_t size;
    lk_progress_callback *progress; /* NULL, or told of the tensors */
    void *user;
} lk_merge_options;
#define lk_merge_defaults(options) lk_merge_defaults_sized((options), sizeof *(options))
LK_API void lk_merge_defaults_sized(lk_merge_options *options, size_t size);
/* A model whose UNet and text encoder are the weighted sum ("0.5*base+0.5*tuned") of several, in
 * float32, as a diffusers folder; all else is the first's of the sum. A folder that was not there
 * before is removed when it fails. */
LK_API bool lk_merge(lk_session *session, lk_model *const *models, const char *const *names,
                     int count, const char *sum, const char *folder,
                     const lk_merge_options *options, lk_error *error);

typedef struct lk_extract_options {
    size_t size;
    int rank;          /* of every layer (32) */
    double quantile;   /* 0.5 to 1: the factors are cut off at the value that this share of their
                          numbers is below (0.99, as kohya's script does); 1: they are not */
    const char *dtype; /* of the file: "f32" (NULL), "f16", "bf16" */
    lk_progress_callback *progress; /* NULL, or told of the tensors */
    void *user;
} lk_extract_options;
#define lk_extract_defaults(options) lk_extract_defaults_sized((options), sizeof *(options))
LK_API void lk_extract_defaults_sized(lk_extract_options *options, size_t size);
/* The difference of two models as a LoRA in kohya's spelling: the first singular values of each
 * layer's, linear ones and convolutions. *told (may be NULL), for lk_free: a line on how much of
 * the difference it keeps. */
LK_API bool lk_lora_extract(lk_session *session, lk_model *base, lk_model *trained,
                            const char *path, const lk_extract_options *options, char **told,
                            lk_error *error);

/* ---- a model in another form ---- */

typedef struct lk_save_options {
    size_t size;
    const char *dtype;              /* of the weights: "f32", "f16", "bf16"; NULL: each as it is */
    lk_progress_callback *progress; /* NULL, or told of the tensors, or files */
    void *user;
} lk_save_options;
#define lk_save_defaults(options) lk_save_defaults_sized((options), sizeof *(options))
LK_API void lk_save_defaults_sized(lk_save_options *options, size_t size);
/* A path that ends with ".safetensors": one file in the original names, as AUTOMATIC1111, ComfyUI,
 * stable-diffusion.cpp and diffusers' from_single_file read it. Else a diffusers folder, which is
 * removed when it fails and was not there before. LK_MODEL for an unconditional model. What the
 * form cannot tell of the model (sizes, schedules) is told to the session's log. */
LK_API bool lk_model_save(lk_session *session, lk_model *model, const char *path,
                          const lk_save_options *options, lk_error *error);

/* ---- many pictures ---- */

/* A picture that is to be made, of one model or several (as in lk_generate_mixed). */
typedef struct lk_job {
    size_t size;
    lk_model *const *models;
    const char *const *names; /* NULL without a schedule */
    int count;                /* 1 */
    const char *schedule;     /* NULL: the first model alone */
    /* Its `progress` is not called; `reached` is by whichever thread makes the picture, for a step
     * that is made a second time again. */
    const lk_generate_options *options;
} lk_job;
#define lk_job_defaults(job) lk_job_defaults_sized((job), sizeof *(job))
LK_API void lk_job_defaults_sized(lk_job *job, size_t size);

typedef struct lk_many_options {
    size_t size;
    /* NULL, or given each picture, which is the callee's to close, by its index and in the order of
     * the jobs, as soon as it and all before it are made. Nonzero: no more are wanted
     * (LK_CANCELLED). */
    int (*made)(void *user, size_t index, lk_image *picture);
    /* NULL, or told before the first step and after steps. `picture`: how many of `pictures` were
     * given to `made`; step and steps: of all pictures together. */
    lk_progress_callback *progress;
    void *user;
} lk_many_options;
#define lk_many_defaults(options) lk_many_defaults_sized((options), sizeof *(options))
LK_API void lk_many_defaults_sized(lk_many_options *options, size_t size);
/* Makes pictures that are independent of each other, each with the bytes that it has alone,
 * whichever way it is made:
 *
 *   - side by side, in as many threads as the session has, each working alone on its own picture,
 * where every picture is small: where what its UNet needs for one evaluation is at most 32 MB, so
 * that it fits a core's caches and leaves other cores idle; and where 256 MB of memory can be had
 * for each;
 *   - else one after the other, all threads of the session on each;
 *   - either way alike ones (same models, size, sampler, steps, guided or not) that follow each
 * other take their steps together, up to 16, as long as that stays below 64 MB.
 *
 * Callbacks are called by the calling thread. Where one picture fails, those before it are still
 * made and handed over, and the result is its error; where the work is stopped, those that are
 * finished are handed over. */
LK_API bool lk_generate_many(lk_session *session, const lk_job *const *jobs, size_t count,
                             const lk_many_options *options, lk_error *error);

/* "42", "42,43,44", "42-45" and mixtures; -1 is a random one below 2^32. */
LK_API bool lk_seeds_parse(uint64_t **seeds, size_t *count, const char *text, lk_error *error);
/* "sampler=ddpm,ddim steps=200,50,10": every combination, each with its own values and, for what
 * the text does not name, base's. Each has a name for files ("ddpm-200") and a label for people. */
typedef struct lk_sweep lk_sweep;
LK_API bool lk_sweep_parse(lk_sweep **out, const char *text, const lk_generate_options *base,
                           lk_error *error);
LK_API void lk_sweep_close(lk_sweep **sweep);
LK_API size_t lk_sweep_count(const lk_sweep *sweep);
LK_API const char *lk_sweep_name(const lk_sweep *sweep, size_t i); /* i below the count */
LK_API const char *lk_sweep_label(const lk_sweep *sweep, size_t i);
/* Puts the values of combination i into options, which have their defaults or other values so far.
 * What no sweep can name (prompts, seed, latents, callbacks) stays. */
LK_API void lk_sweep_apply(const lk_sweep *sweep, size_t i, lk_generate_options *options);
/* "A photo of a dog!" -> "a-photo-of-a-dog", for lk_free; NULL when memory is out. Letters and
 * digits of every script stay; cut at `limit` bytes (10 or more; files' names have 255). */
LK_API char *lk_slug(const char *text, size_t limit);
/* Whether a file can be written at path, found out without leaving anything. make_folder: the
 * folders above it are made, and what killed runs left half-written beside it is removed. */
LK_API bool lk_can_write(const char *path, bool make_folder, lk_error *error);

/* ---- training ---- */

typedef enum lk_rate_schedule {
    LK_RATE_CONSTANT,
    LK_RATE_CONSTANT_WITH_WARMUP,
    LK_RATE_LINEAR,
    LK_RATE_COSINE,
    LK_RATE_COSINE_WITH_RESTARTS,
    LK_RATE_POLYNOMIAL,
} lk_rate_schedule;
LK_API bool lk_rate_schedule_parse(lk_rate_schedule *out, const char *name); /* diffusers' names */
LK_API const char *lk_rate_schedule_name(lk_rate_schedule schedule);

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
    LK_TRAIN_VALIDATION, /* validation pictures are made */
    LK_TRAIN_SAVING,     /* a checkpoint, or the model */
} lk_train_phase;

typedef struct lk_train_progress {
    size_t size;
    lk_train_phase phase;
    int64_t done, total;                   /* of the phase: pictures, updates; files being saved */
    int step, steps;                       /* of the picture in the making; steps 0: none is */
    float loss, instance_loss, prior_loss; /* of the last update, as all that follows */
    double rate, norm;                     /* learning rate; the gradient's norm before clipping */
    double seconds;
    double left;      /* seconds to the end of the whole run, about; 0: not known yet */
    float loss_scale; /* in LK_F16: that the update was made with; else 0 */
    bool skipped;     /* the update changed nothing: a gradient was beyond half precision, as the
                         loss or the norm may be (infinite, or NaN) */
} lk_train_progress;

/* DreamBooth. Names, meaning and defaults are those of diffusers' train_dreambooth.py; what that
 * has not is said here. */
typedef struct lk_train_options {
    size_t size;
    const char *instance_data_dir, *instance_prompt, *output_dir; /* needed */
    const lk_image *const *instance_images; /* in place of instance_data_dir: the subject's pictures
                                        from memory, which are copied */
    size_t instance_count;
    const char *class_data_dir, *class_prompt;
    int resolution; /* 0: the model's own */
    bool center_crop;
    int train_batch_size, gradient_accumulation_steps;
    int64_t max_train_steps; /* 0: num_train_epochs decides */
    int num_train_epochs;
    double learning_rate; /* 0: 5e-6; of a LoRA or a textual inversion 5e-4 */
    bool scale_lr;
    lk_rate_schedule lr_scheduler;
    int64_t lr_warmup_steps;
    int lr_num_cycles;
    double lr_power;
    lk_optimizer optimizer;
    double adam_beta1, adam_beta2, adam_weight_decay, adam_epsilon, max_grad_norm;
    uint64_t seed;
    bool any_seed; /* seed is not looked at: a run that goes on has its own, a new one
                      takes one from the clock; train.json has it */
    bool train_text_encoder, gradient_checkpointing;
    double snr_gamma; /* 0: off; each sample by its own weight, also with a prior */
    bool offset_noise;
    double offset_noise_factor; /* 0.1 */
    bool with_prior_preservation;
    double prior_loss_weight;
    int num_class_images; /* the missing ones are made; never more are used */
    int class_steps;      /* of the class pictures that are made: steps of DDIM (50) */
    float class_guidance; /* and guidance (7.5) */
    bool prior_from_base; /* no class pictures: the base model's own prediction is kept */
    bool cache_latents;   /* encode once, where crops are fixed; true */
    int64_t checkpointing_steps;
    int checkpoints_total_limit;        /* 0: all are kept */
    const char *resume_from_checkpoint; /* NULL, "latest", or a checkpoint's folder */
    const char *validation_prompt;      /* NULL: none */
    int num_validation_images;
    int64_t validation_steps;
    /* NULL, or called before the first step, after each, and after each class picture; nonzero asks
     * to stop: a checkpoint is saved first (LK_CANCELLED). */
    int (*progress)(void *user, const lk_train_progress *progress);
    void *user;
    int lora_rank; /* above 0: a LoRA of this rank is trained, as train_dreambooth_lora.py does */
    double lora_alpha;        /* 0: the rank */
    bool output_kohya_format; /* besides pytorch_lora_weights.safetensors, in kohya's names */
    bool textual_inversion;   /* a new word is trained alone, as textual_inversion.py does */
    const char *placeholder_token, *initializer_token; /* the word; what it begins as */
    const char *learnable_property;                    /* "object" (NULL) or "style" */
    int num_vectors;                                   /* rows of the word: 1 */
    int repeats;                                       /* of the pictures in an epoch of it: 100 */
} lk_train_options;

#define lk_train_defaults(options) lk_train_defaults_sized((options), sizeof *(options))
LK_API void lk_train_defaults_sized(lk_train_options *options, size_t size);

/* The settings of a training one by one: the fields of lk_train_options, but for pictures and
 * callback, by their names.
 * docs/TRAINING.md is the table of them. */
typedef enum lk_setting_type {
    LK_SETTING_SWITCH, /* "true", "false" */
    LK_SETTING_WHOLE,  /* "200" */
    LK_SETTING_NUMBER, /* "5e-6" */
    LK_SETTING_TEXT,
    LK_SETTING_CHOICE, /* one of the range */
} lk_setting_type;
typedef struct lk_train_setting {
    size_t size;
    const char *name; /* "learning_rate" */
    lk_setting_type type;
    char range[160];    /* "a number above 0"; of a choice what there is, "a, b, c" */
    char standard[160]; /* the default as text; "": none */
    const char *value;  /* what stands for it in help: "N", "DIR"; NULL of a switch */
    const char *group;  /* what it is beside in help: "What", "LoRA", "Textual inversion",
                          "Prior", "Length", "How", "Where" */
    const char *help;   /* what it does, in a line */
    bool determines;    /* can change a byte of the trained model */
} lk_train_setting;
/* The i-th; false past the last. */
#define lk_train_setting_at(i, setting) lk_train_setting_at_sized((i), (setting), sizeof *(setting))
LK_API bool lk_train_setting_at_sized(size_t i, lk_train_setting *out, size_t size);
/* Sets one by its name. text must last as long as the options where the setting is a text. A seed
 * of "-1" is any. LK_USAGE where there is no such setting, or the text is out of its range. */
LK_API bool lk_train_set(lk_train_options *options, const char *name, const char *text,
                         lk_error *error);
/* Whether this setting, beside the others, can change a byte of the trained model. */
LK_API bool lk_train_determines(const lk_train_options *options, const char *name);

/* The learning rate, or what it is where the options have none. */
LK_API double lk_train_learning_rate(const lk_train_options *options);

/* Trains the model's UNet (and text encoder) on a subject; the model itself stays as it is.
 * output_dir becomes a diffusers folder of the trained model (of a LoRA, which is named in
 * lk_model_options.loras then, pytorch_lora_weights.safetensors; of a textual inversion
 * learned_embeds.safetensors), with train.jsonl, train.json,
 * checkpoint-N and validation beside it. NaN stops it (LK_NUMERIC); what was good is kept.
 * Warnings, the forecast and what is written are told to the log. */
LK_API bool lk_train(lk_session *session, lk_model *model, const lk_train_options *options,
                     lk_error *error);

/* ---- schedules: which model predicts which step ---- */

/* A schedule's text, read for so many steps; the syntax is lk_generate_mixed's. Immutable, and
 * without the names: two with names in the same order can be compared. */
typedef struct lk_schedule lk_schedule;

enum { LK_SCHEDULE_PARTS = 8 };

/* What predicts one step. */
typedef struct lk_schedule_step {
    int parts;  /* 1 of share 1: that model alone */
    bool split; /* part 0 gives the unconditional prediction, part 1 the conditional */
    int model[LK_SCHEDULE_PARTS]; /* which of the names */
    float share[LK_SCHEDULE_PARTS];
} lk_schedule_step;

LK_API bool lk_schedule_open(lk_schedule **out, const char *text, const char *const *names,
                             int count, int steps, lk_error *error);
LK_API void lk_schedule_close(lk_schedule **schedule);
LK_API int lk_schedule_steps(const lk_schedule *schedule);
LK_API const lk_schedule_step *lk_schedule_at(const lk_schedule *schedule,
                                              int step); /* the schedule's memory */
LK_API bool lk_schedule_step_same(const lk_schedule_step *a, const lk_schedule_step *b);
LK_API int lk_schedule_common(const lk_schedule *a,
                              const lk_schedule *b); /* how many first steps are the same */
/* Which model predicts every step alone; -1: several take part. */
LK_API int lk_schedule_alone(const lk_schedule *schedule);
/* Whether it is one model, then another, and after how many steps. */
LK_API bool lk_schedule_switch(const lk_schedule *schedule, int *first, int *second, int *at);
/* A model of a schedule with LoRAs beside its weights: "base x15, base+0.8*dog rest". */
typedef struct lk_schedule_variant {
    const char *name;            /* "base+0.8*dog" */
    int model;                   /* which of the models' names */
    int loras;                   /* 1 or more */
    int lora[LK_SCHEDULE_PARTS]; /* which of the LoRAs' names */
    float weight[LK_SCHEDULE_PARTS];
} lk_schedule_variant;

/* Finds what the text asks for of models with LoRAs: a LoRA belongs to the model before it. Open
 * each (lk_model_options.base) and put it among the models under its name; then *schedule is the
 * same schedule, with that name in its place. Both for lk_free; no variants: *variants is NULL. */
LK_API bool lk_schedule_variants(char **schedule, lk_schedule_variant **variants, int *count,
                                 const char *text, const char *const *names, int models,
                                 const char *const *lora_names, int loras, lk_error *error);
/* The same in the shortest form of the syntax, for lk_free. */
LK_API bool lk_schedule_text(char **out, const lk_schedule *schedule, const char *const *names,
                             lk_error *error);

/* ---- photos: a folder of pictures as a training reads them ---- */

/* The pictures of a folder by the order of their names; what is no picture is passed over. */
typedef struct lk_photos lk_photos;

typedef struct lk_photos_options {
    size_t size;
    int resolution; /* the shorter side becomes it; 0: files are found and hashed, not decoded */
    size_t limit;   /* at most so many; 0: all */
    bool of_class;  /* for messages: pictures of the class, not of the subject */
} lk_photos_options;

#define lk_photos_defaults(options) lk_photos_defaults_sized((options), sizeof *(options))
LK_API void lk_photos_defaults_sized(lk_photos_options *options, size_t size);
/* A folder without pictures is an error where they are decoded, and else none. */
LK_API bool lk_photos_open(lk_photos **out, const char *folder, const lk_photos_options *options,
                           lk_error *error);
LK_API void lk_photos_close(lk_photos **photos);
LK_API size_t lk_photos_count(const lk_photos *photos);
LK_API const char *lk_photos_path(const lk_photos *photos, size_t index);
LK_API const char *lk_photos_hash(const lk_photos *photos,
                                  size_t index); /* SHA-256 of the file, 64 hex digits */
/* The middle of a decoded one, resolution x resolution: what --center_crop trains on. */
LK_API bool lk_photos_image(lk_image **out, const lk_photos *photos, size_t index, lk_error *error);

/* ---- features: what a model's UNet sees in a picture ---- */

/* DIFT: the picture's latents are noised to one timestep, and the activations behind a block of the
 * UNet's way up, averaged over draws of noise, are what is seen at each place of its map. Serves
 * one thread, its session's. */
typedef struct lk_features lk_features;

typedef struct lk_features_options {
    size_t size;
    const char *prompt; /* NULL: empty */
    int draws;          /* of noise; the first ones are the same whatever their number (2) */
    uint64_t seed;      /* of them (20260) */
    double timestep;    /* 0 to 1: of the length of the model's noise schedule (0.1) */
    int block;          /* of the way up, from 0; the last where there are fewer (1) */
} lk_features_options;

#define lk_features_defaults(options) lk_features_defaults_sized((options), sizeof *(options))
LK_API void lk_features_defaults_sized(lk_features_options *options, size_t size);
/* 64 hex digits of all that determines what is seen, but the picture: who keeps features keeps them
 * under it. */
LK_API bool lk_features_key(char key[65], lk_model *model, const lk_features_options *options,
                            lk_error *error);
/* The model is of the session's context, and reads prompts. Both outlive the features. */
LK_API bool lk_features_open(lk_features **out, lk_session *session, lk_model *model,
                             const lk_features_options *options, lk_error *error);
LK_API void lk_features_close(lk_features **features);
/* *value: [height][width][channels], its shape, for lk_free. Pictures of one size after each other
 * are fastest. */
LK_API bool lk_features_look(float **value, int shape[3], lk_features *features,
                             const lk_image *picture, lk_error *error);

/* ---- vision: networks that look at pictures ---- */

/* CLIP (transformers' CLIPModel with its tokenizer), DINO (ViTModel), DINOv2 (Dinov2Model), from a
 * folder as transformers saves it. Serves one thread, its session's. */
typedef struct lk_vision lk_vision;

typedef enum lk_vision_kind { LK_VISION_CLIP, LK_VISION_DINO, LK_VISION_DINOV2 } lk_vision_kind;

LK_API bool lk_vision_open(lk_vision **out, lk_session *session, const char *folder,
                           lk_error *error);
LK_API void lk_vision_close(lk_vision **vision); /* before its session */
LK_API lk_vision_kind lk_vision_kind_of(const lk_vision *vision);
LK_API const char *lk_vision_hash(
    const lk_vision *vision);                        /* SHA-256 of its weights, 64 hex digits */
LK_API int lk_vision_width(const lk_vision *vision); /* numbers of an embedding */
/* An embedding [width] as the network gives it, not normalised: CLIP's projected features, the
 * class token of the others. */
LK_API bool lk_vision_embed(float *out, lk_vision *vision, const lk_image *picture,
                            lk_error *error);
LK_API bool lk_vision_embed_text(float *out, lk_vision *vision, const char *text,
                                 lk_error *error); /* CLIP */

/* ---- trainings, before they are made ---- */

/* Whatever can be found wrong without the model and the disk. */
LK_API bool lk_train_check(const lk_train_options *options, lk_error *error);
/* Bytes of memory for the trained weights and the optimizer's state, besides the model's. */
LK_API size_t lk_train_memory(const lk_model *model, const lk_train_options *options);

typedef struct lk_train_base {
    size_t size;
    const char *name; /* of the model trained from: its hash, or its own request's */
    const char *hash; /* lk_model_hash of it; NULL: it is not there yet */
    lk_precision precision;
    int resolution; /* of the model's pictures, where the options give none */
} lk_train_base;

#define lk_train_base_defaults(base) lk_train_base_defaults_sized((base), sizeof *(base))
LK_API void lk_train_base_defaults_sized(lk_train_base *base, size_t size);
/* What determines the trained weights, all of it and nothing else, as one line of JSON: known
 * before the training, and unchanged by it. Who keeps trained models can name them by its hash. The
 * pictures' folders are looked into. For lk_free. */
LK_API bool lk_train_request(char **text, const lk_train_options *options,
                             const lk_train_base *base, lk_error *error);

/* ---- inspecting ---- */

typedef struct lk_inspect_options {
    size_t size;
    int threads;                    /* 0: every core that this process may use */
    lk_progress_callback *progress; /* NULL, or told of the tensors that are looked at and hashed */
    void *user;
} lk_inspect_options;
#define lk_inspect_defaults(options) lk_inspect_defaults_sized((options), sizeof *(options))
LK_API void lk_inspect_defaults_sized(lk_inspect_options *options, size_t size);
/* What a model or a picture is, in lines for people, for lk_free. */
LK_API bool lk_inspect(char **text, const char *path, const lk_inspect_options *options,
                       lk_error *error);

#ifdef __cplusplus
}
#endif

#endif
