/* SPDX-License-Identifier: Apache-2.0
 *
 * config: the networks' sizes, read from their config.json with the defaults of diffusers and
 * transformers; whatever we do not run is refused by name. */
#ifndef LIKENESS_MODEL_CONFIG_H
#define LIKENESS_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { CONFIG_MAX_BLOCKS = 8 };

/* A LoRA's matrices beside the products of the attentions, while they are trained: what they give
 * is multiplied with scale. Rank 0: there are none. */
typedef struct lora_branch {
    int rank;
    float scale;
} lora_branch;

typedef struct clip_config {
    int hidden, intermediate, layers, heads, positions, vocab;
    float eps;
    int activation; /* unary_kind: quick_gelu or gelu */
    lora_branch lora;
} clip_config;

typedef struct unet_config {
    bool conditional; /* UNet2DConditionModel, else UNet2DModel */
    int in_channels, out_channels, sample_size;
    int blocks;
    int channels[CONFIG_MAX_BLOCKS];
    int layers[CONFIG_MAX_BLOCKS];          /* layers_per_block, of each down block */
    bool down_attention[CONFIG_MAX_BLOCKS]; /* CrossAttnDownBlock2D / AttnDownBlock2D */
    bool up_attention[CONFIG_MAX_BLOCKS];
    int heads[CONFIG_MAX_BLOCKS]; /* conditional: number of heads in each down block */
    int head_size;                /* UNet2DModel: channels of a head, 0: one head */
    int transformer_layers[CONFIG_MAX_BLOCKS];
    int cross_dim;
    bool linear_projection; /* use_linear_projection */
    bool mid_block;         /* distilled models have none */
    bool mid_attention;
    int groups;
    float eps;
    int downsample_padding;
    bool flip_sin_to_cos;
    float freq_shift;
    lora_branch lora;
} unet_config;

/* diffusers ControlNetModel: a UNet's way down and middle; its way up is not used. */
typedef struct controlnet_config {
    unet_config unet;
    int hints, hint[CONFIG_MAX_BLOCKS]; /* channels of the picture's way down, one a size */
} controlnet_config;

typedef struct vae_config {
    int in_channels, out_channels, latent_channels, sample_size;
    int blocks;
    int channels[CONFIG_MAX_BLOCKS];
    int layers;
    int groups;
    float scaling_factor, shift_factor;
    bool quant_conv, post_quant_conv, mid_attention;
} vae_config;

/* AutoencoderTiny's decoder */
typedef struct taesd_config {
    int latent_channels, channels; /* the same in all stages */
    int stages;
    int blocks[CONFIG_MAX_BLOCKS]; /* of a stage; behind each but the last it doubles the size */
    float scaling_factor;
} taesd_config;

typedef enum beta_schedule {
    BETA_LINEAR,
    BETA_SCALED_LINEAR,
    BETA_SQUAREDCOS,
    BETA_SIGMOID
} beta_schedule;
typedef enum spacing { SPACING_LEADING, SPACING_TRAILING, SPACING_LINSPACE } spacing;
typedef enum prediction { PREDICT_EPSILON, PREDICT_V, PREDICT_SAMPLE } prediction;
typedef enum variance {
    VARIANCE_FIXED_SMALL,
    VARIANCE_FIXED_SMALL_LOG,
    VARIANCE_FIXED_LARGE,
    VARIANCE_FIXED_LARGE_LOG,
    VARIANCE_LEARNED,
    VARIANCE_LEARNED_RANGE,
} variance;

/* How a ladder of sigmas is made: by the timesteps' spacing, by a rule between its ends, by
 * trailing timesteps, or as the user lists it. */
typedef enum sigma_kind {
    SIGMAS_MODEL,
    SIGMAS_KARRAS,
    SIGMAS_EXPONENTIAL,
    SIGMAS_BETA,
    SIGMAS_TRAILING,
    SIGMAS_GIVEN,
} sigma_kind;

/* scheduler_config.json. has_*: the file says so (a key that the file lacks takes the default of
 * the scheduler that is used, not of the one that is named; NUMERICS.md, 1). */
typedef struct scheduler_config {
    char class_name[64];
    int train_steps;
    float beta_start, beta_end;
    beta_schedule betas;
    float *trained_betas; /* train_steps values or NULL; malloc'ed */
    bool zero_snr;
    prediction predicts;
    spacing spacing;
    bool has_spacing;
    int steps_offset;
    bool has_steps_offset;
    bool clip_sample;
    bool has_clip_sample;
    float clip_range;
    bool thresholding;
    float threshold_ratio, sample_max;
    bool set_alpha_to_one;
    bool has_set_alpha_to_one;
    variance variance;
    bool has_variance;
    sigma_kind sigmas;    /* use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas */
    bool final_sigma_min; /* final_sigmas_type "sigma_min" */
    bool skip_prk;        /* PNDM: skip_prk_steps */
    int solver_order;     /* DPM-Solver, DEIS, UniPC */
    bool lower_order_final, euler_at_final;
    char algorithm[24], solver[16]; /* algorithm_type, solver_type; "" where the file has none */
    char unknown[32]; /* a key that changes what sigmas do, and is not done here; "": there is none
                       */
    int original_steps;     /* LCM, TCD: original_inference_steps */
    float timestep_scaling; /* LCM */
} scheduler_config;

/* Each reads a JSON file; messages begin with its path. A model that is known but not run (SDXL,
 * Stable Diffusion 2, inpainting, ...) is refused by that name. */
bool clip_config_read(clip_config *c, const char *path, error *e);
bool unet_config_read(unet_config *c, const char *path, error *e);
bool controlnet_config_read(controlnet_config *c, const char *path, error *e);
bool vae_config_read(vae_config *c, const char *path, error *e);
bool taesd_config_read(taesd_config *c, const char *path, error *e);
bool scheduler_config_read(scheduler_config *c, const char *path, error *e);
/* The same of a text in memory; path: for messages. */
bool clip_config_parse(clip_config *c, const char *text, const char *path, error *e);
bool unet_config_parse(unet_config *c, const char *text, const char *path, error *e);
bool vae_config_parse(vae_config *c, const char *text, const char *path, error *e);
bool scheduler_config_parse(scheduler_config *c, const char *text, const char *path, error *e);
void scheduler_config_close(scheduler_config *c); /* frees trained_betas */
/* Stable Diffusion 1.x, for single files. */
void clip_config_sd1(clip_config *c);
void unet_config_sd1(unet_config *c);
void controlnet_config_sd1(controlnet_config *c);
void vae_config_sd1(vae_config *c);
void taesd_config_sd1(taesd_config *c);
void scheduler_config_sd1(scheduler_config *c);

#endif
