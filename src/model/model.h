/* SPDX-License-Identifier: Apache-2.0
 *
 * model: a loaded checkpoint: configurations, tokenizer and weight sets of its networks. Networks
 * are functions that record themselves into a graph; what weights a network has follows from
 * recording it, so names and shapes stand in one place only (clip.c, unet.c, vae.c). */
#ifndef LIKENESS_MODEL_MODEL_H
#define LIKENESS_MODEL_MODEL_H

#include "base/work.h"
#include "graph/graph.h"
#include "model/config.h"
#include "model/tokenizer.h"

typedef enum model_kind { MODEL_STABLE_DIFFUSION, MODEL_UNCONDITIONAL } model_kind;

typedef struct model {
    model_kind kind;
    char *path;
    const char *format;     /* "diffusers folder", "single file (LDM names)", ... */
    char *tokenizer_folder; /* where the tokenizer's files lie; NULL when unconditional */
    char *vae_folder;       /* where the VAE's config.json lies; NULL: it came from a single file */
    char *vae_given;        /* the path of a VAE that is not the checkpoint's own; NULL: it is */
    clip_config clip;
    unet_config unet;
    vae_config vae;
    scheduler_config scheduler;
    tokenizer *tokens;                                  /* NULL when unconditional */
    weight_set clip_weights, unet_weights, vae_weights; /* count 0 where absent */
    struct taesd *tiny;      /* decodes in place of the VAE; NULL: the VAE does */
    thread_pool *pool;       /* while it is opened: who looks at its weights; NULL: one thread */
    const work_watch *watch; /* while it is opened; NULL: nobody watches */
    char *lora_hashes;  /* "name: 0123456789ab, ..." of what was merged into it; NULL: nothing */
    char *lora_weights; /* "name: 0.8, ..." */
    char *lora_aliases; /* "\nother name\n...": what else prompts call them (lora_list.h) */
    char *inversion_hashes; /* the same of textual inversions */
    char *inversion_words;  /* "dog, cat": words of the tokenizer that these took; NULL: none */
    char *told[4];          /* of a single file that tells its configurations, in told.c's order */
    char *hash;             /* [65], kept by model_hash, "" until then; NULL: it is not kept */
    size_t copied;          /* bytes of the float32 copies that LoRAs made of its weights */
    /* Whose weights it has (model_derive), and whose tokenizer, scheduler and autoencoder these
     * are; NULL: its own. */
    const struct model *base;
} model;

/* path: a diffusers folder, an unconditional UNet2DModel folder, or a single file
 * (safetensors, PyTorch's).
 * vae_path: NULL, or a VAE folder or file that replaces or supplies the VAE. tokenizer files for a
 * single file come from tokenizer_path, NULL: found as docs/MODEL.md says. */
bool model_open(model **out, const char *path, const char *vae_path, const char *tokenizer_path,
                error *e);
/* The same, with threads that share the look at all weights (NULL: none), which is watched (NULL:
 * it is not): before each 128 MB, in tensors of the network in hand. */
bool model_open_with(model **out, const char *path, const char *vae_path,
                     const char *tokenizer_path, thread_pool *pool, const work_watch *watch,
                     error *e);
/* To be looked at only: a single file may do without a tokenizer (tokens is NULL then). */
bool model_open_to_look(model **out, const char *path, thread_pool *pool, const work_watch *watch,
                        error *e);
/* A model with the base's weights, which are not copied, for model_add_loras to change. The base is
 * borrowed, and closed later. */
bool model_derive(model **out, const model *base, error *e);
void model_close(model **m);
/* A UNet that reads, beside the latents, a mask and the latents of what is not masked. */
bool model_inpaints(const model *m);

/* x NHWC F32 [B,h,w,in], t F32 [B], or [1] for all, context F32 [B,N,cross] (NULL: unconditional).
 * Returns [B,h,w,out]. */
tensor *unet_build(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *context);
/* The activations [B,h',w',channels] behind the last layer of an up block, before it is enlarged;
 * nothing behind them is recorded. */
tensor *unet_build_features(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *context,
                            int block);
/* Cross-attention's keys and values are constant over a run. unet_build_text records only these
 * (compute type; kv[0..unet_text_count-1], in the order in which unet_build_cached wants them). */
size_t unet_text_count(const unet_config *c);
void unet_build_text(graph *g, const unet_config *c, tensor *context, tensor **kv);
/* Each sample of x under `texts` texts, kv's samples: t is [1], and what comes before the first
 * text is computed once. -> [B * texts,h,w,out]. kv is NULL where there is no text. control:
 * NULL, or what ControlNets add to each skip and, the last, to the middle (unet_skip_count + 1).
 * deep (may be NULL): is set to the activations [B * texts,h,w,C] that the last layer of all reads.
 */
tensor *unet_build_cached(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *const *kv,
                          int texts, tensor *const *control, tensor **deep);
/* DeepCache: what is outermost of the same network alone (first convolution, last layer, output),
 * upon the deep activations of an earlier evaluation; kv: the last unet_text_last of all; control:
 * NULL, or the first of all. */
tensor *unet_build_shallow(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *deep,
                           tensor *const *kv, int texts, tensor *control);
/* The way down and the middle alone, as a ControlNet has them: the middle's activations, and the
 * skips (unet_skip_count), all [B * texts,..]. hint [1 or B,h,w,C] joins the first convolution.
 * The text comes as context or as kv (NULL: as the other), of which these have fewer. */
int unet_skip_count(const unet_config *c);
tensor *unet_build_lower(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *context,
                         tensor *const *kv, int texts, tensor *hint, tensor **skip);
size_t unet_text_count_lower(const unet_config *c);
void unet_build_text_lower(graph *g, const unet_config *c, tensor *context, tensor **kv);
size_t unet_text_last(const unet_config *c);
/* ids I32 [B,N] -> last hidden state after the final layer norm [B,N,hidden]; clip_skip as
 * diffusers'. */
#define CLIP_TOKENS "text_model.embeddings.token_embedding.weight"
tensor *clip_build(graph *g, const clip_config *c, tensor *ids, int clip_skip);
/* The same of the tokens' rows [B,N,hidden] of that embedding. */
tensor *clip_build_rows(graph *g, const clip_config *c, tensor *rows, int clip_skip);
/* image F32 [B,H,W,3] in -1..1 -> moments [B,h,w,2*latent] (mean, logvar; logvar not clamped). */
tensor *vae_build_encoder(graph *g, const vae_config *c, tensor *image);
/* latent [B,h,w,latent], already divided by scaling_factor -> [B,H,W,3]. */
tensor *vae_build_decoder(graph *g, const vae_config *c, tensor *latent);

#endif
