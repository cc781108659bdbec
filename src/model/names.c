/* SPDX-License-Identifier: Apache-2.0
 *
 * names: see names.h. The original names number the UNet's blocks through; where a block's count
 * starts follows from the configuration, so that any block layout converts. */
#include "model/names.h"

#include <stdio.h>
#include <string.h>

typedef struct rename {
    const char *from, *to;
} rename_pair;

/* Replaces the head of `name` by the first pair whose `from` it begins with, on a dot's boundary.
 */
static void rename_head(const rename_pair *pairs, const char *name, char out[NAME_LENGTH])
{
    for (; pairs->from; pairs++) {
        size_t length = strlen(pairs->from);
        if (!strncmp(name, pairs->from, length) && (name[length] == '.' || !name[length])) {
            snprintf(out, NAME_LENGTH, "%s%s", pairs->to, name + length);
            return;
        }
    }
    snprintf(out, NAME_LENGTH, "%s", name);
}

/* ---- the UNet's original names ---- */

static const rename_pair unet_top[] = {
    {"time_embedding.linear_1", "time_embed.0"},
    {"time_embedding.linear_2", "time_embed.2"},
    {"conv_in", "input_blocks.0.0"},
    {"conv_norm_out", "out.0"},
    {"conv_out", "out.2"},
    {"mid_block.attentions.0", "middle_block.1"},
    {NULL, NULL},
};

static const rename_pair unet_resnet[] = {
    {"norm1", "in_layers.0"},
    {"conv1", "in_layers.2"},
    {"time_emb_proj", "emb_layers.1"},
    {"norm2", "out_layers.0"},
    {"conv2", "out_layers.3"},
    {"conv_shortcut", "skip_connection"},
    {NULL, NULL},
};

/* Number of the first layer of down block i: conv_in, then per block its layers and a downsampler.
 */
static int first_input(const unet_config *c, int i)
{
    int n = 1;
    for (int b = 0; b < i && b < c->blocks; b++) n += c->layers[b] + 1;
    return n;
}

static int up_layers(const unet_config *c, int i)
{
    return i < c->blocks ? c->layers[c->blocks - 1 - i] + 1 : 0;
}

static int first_output(const unet_config *c, int i)
{
    int n = 0;
    for (int b = 0; b < i; b++) n += up_layers(c, b);
    return n;
}

static void unet_name(const unet_config *c, const char *name, char out[NAME_LENGTH])
{
    char rest[NAME_LENGTH];
    int i, j, at = 0;
    if (sscanf(name, "down_blocks.%d.resnets.%d.%n", &i, &j, &at) == 2 && at) {
        rename_head(unet_resnet, name + at, rest);
        snprintf(out, NAME_LENGTH, "input_blocks.%d.0.%.200s", first_input(c, i) + j, rest);
    } else if (sscanf(name, "down_blocks.%d.attentions.%d.%n", &i, &j, &at) == 2 && at) {
        snprintf(out, NAME_LENGTH, "input_blocks.%d.1.%s", first_input(c, i) + j, name + at);
    } else if (sscanf(name, "down_blocks.%d.downsamplers.0.conv.%n", &i, &at) == 1 && at) {
        snprintf(out, NAME_LENGTH, "input_blocks.%d.0.op.%s", first_input(c, i + 1) - 1, name + at);
    } else if (sscanf(name, "mid_block.resnets.%d.%n", &j, &at) == 1 && at) {
        rename_head(unet_resnet, name + at, rest);
        snprintf(out, NAME_LENGTH, "middle_block.%d.%.200s", c->mid_attention ? 2 * j : j, rest);
    } else if (sscanf(name, "up_blocks.%d.resnets.%d.%n", &i, &j, &at) == 2 && at) {
        rename_head(unet_resnet, name + at, rest);
        snprintf(out, NAME_LENGTH, "output_blocks.%d.0.%.200s", first_output(c, i) + j, rest);
    } else if (sscanf(name, "up_blocks.%d.attentions.%d.%n", &i, &j, &at) == 2 && at) {
        snprintf(out, NAME_LENGTH, "output_blocks.%d.1.%s", first_output(c, i) + j, name + at);
    } else if (sscanf(name, "up_blocks.%d.upsamplers.0.conv.%n", &i, &at) == 1 && at) {
        bool behind_attention = i < c->blocks && c->up_attention[i];
        snprintf(out, NAME_LENGTH, "output_blocks.%d.%d.conv.%s", first_output(c, i + 1) - 1,
                 behind_attention ? 2 : 1, name + at);
    } else {
        rename_head(unet_top, name, out);
    }
}

/* ---- a ControlNet's original names ---- */

/* hints: sizes of the picture's way down, which has a convolution at every second place. */
static void controlnet_name(const unet_config *c, int hints, const char *name,
                            char out[NAME_LENGTH])
{
    int i, at = 0;
    if (sscanf(name, "controlnet_cond_embedding.blocks.%d.%n", &i, &at) == 1 && at)
        snprintf(out, NAME_LENGTH, "input_hint_block.%d.%s", 2 + 2 * i, name + at);
    else if (sscanf(name, "controlnet_down_blocks.%d.%n", &i, &at) == 1 && at)
        snprintf(out, NAME_LENGTH, "zero_convs.%d.0.%s", i, name + at);
    else if (!strncmp(name, "controlnet_mid_block.", 21))
        snprintf(out, NAME_LENGTH, "middle_block_out.0.%s", name + 21);
    else if (!strncmp(name, "controlnet_cond_embedding.conv_in.", 34))
        snprintf(out, NAME_LENGTH, "input_hint_block.0.%s", name + 34);
    else if (!strncmp(name, "controlnet_cond_embedding.conv_out.", 35))
        snprintf(out, NAME_LENGTH, "input_hint_block.%d.%s", 4 * hints - 2, name + 35);
    else
        unet_name(c, name, out);
}

/* ---- a tiny autoencoder's original names ---- */

/* decoder.layers.N: numbered from `first`, behind the clamp. */
static void taesd_name(int first, const char *name, char out[NAME_LENGTH])
{
    int i, at = 0;
    if (sscanf(name, "decoder.layers.%d.%n", &i, &at) == 1 && at)
        snprintf(out, NAME_LENGTH, "%d.%s", first + i, name + at);
}

/* ---- the VAE's original names ---- */

static const rename_pair vae_part[] = {
    {"mid_block.resnets.0", "mid.block_1"},
    {"mid_block.resnets.1", "mid.block_2"},
    {"mid_block.attentions.0.group_norm", "mid.attn_1.norm"},
    {"mid_block.attentions.0.to_q", "mid.attn_1.q"},
    {"mid_block.attentions.0.to_k", "mid.attn_1.k"},
    {"mid_block.attentions.0.to_v", "mid.attn_1.v"},
    {"mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"},
    {"conv_norm_out", "norm_out"},
    {NULL, NULL},
};

static const rename_pair vae_resnet[] = {{"conv_shortcut", "nin_shortcut"}, {NULL, NULL}};

static void vae_name(const vae_config *c, const char *name, char out[NAME_LENGTH])
{
    char rest[NAME_LENGTH];
    int i, j, at = 0;
    const char *half = !strncmp(name, "encoder.", 8) ? "encoder" : "decoder";
    if (strncmp(name, "encoder.", 8) && strncmp(name, "decoder.", 8)) {
        snprintf(out, NAME_LENGTH, "%s", name); /* quant_conv, post_quant_conv */
        return;
    }
    name += 8;
    if (sscanf(name, "down_blocks.%d.resnets.%d.%n", &i, &j, &at) == 2 && at) {
        rename_head(vae_resnet, name + at, rest);
        snprintf(out, NAME_LENGTH, "%s.down.%d.block.%d.%.200s", half, i, j, rest);
    } else if (sscanf(name, "down_blocks.%d.downsamplers.0.%n", &i, &at) == 1 && at) {
        snprintf(out, NAME_LENGTH, "%s.down.%d.downsample.%s", half, i, name + at);
    } else if (sscanf(name, "up_blocks.%d.resnets.%d.%n", &i, &j, &at) == 2 && at) {
        rename_head(vae_resnet, name + at, rest);
        snprintf(out, NAME_LENGTH, "%s.up.%d.block.%d.%.200s", half, c->blocks - 1 - i, j, rest);
    } else if (sscanf(name, "up_blocks.%d.upsamplers.0.%n", &i, &at) == 1 && at) {
        snprintf(out, NAME_LENGTH, "%s.up.%d.upsample.%s", half, c->blocks - 1 - i, name + at);
    } else {
        rename_head(vae_part, name, rest);
        snprintf(out, NAME_LENGTH, "%s.%.200s", half, rest);
    }
}

/* ---- diffusers' own older names ---- */

/* AttentionBlock of diffusers before 0.15: query, key, value, proj_attn. */
static bool legacy_attention(const char *name, char out[NAME_LENGTH])
{
    static const rename_pair list[] = {{".to_q.", ".query."},
                                       {".to_k.", ".key."},
                                       {".to_v.", ".value."},
                                       {".to_out.0.", ".proj_attn."},
                                       {NULL, NULL}};
    for (const rename_pair *p = list; p->from; p++) {
        const char *at = strstr(name, p->from);
        if (at && !strstr(name, "transformer_blocks")) {
            snprintf(out, NAME_LENGTH, "%.*s%s%s", (int)(at - name), name, p->to,
                     at + strlen(p->from));
            return true;
        }
    }
    return false;
}

/* transformers 5 saves the text encoder without its first level; some merged files lack it too. */
static bool without_text_model(const char *name, char out[NAME_LENGTH])
{
    if (strncmp(name, "text_model.", 11)) return false;
    snprintf(out, NAME_LENGTH, "%s", name + 11);
    return true;
}

bool naming_spell(const naming *n, const char *canonical, int attempt, char out[NAME_LENGTH])
{
    char name[NAME_LENGTH];
    snprintf(name, sizeof name, "%s", canonical);
    if (attempt > 1) return false;
    if (attempt == 1) {
        if (n->network == NETWORK_CLIP ? !without_text_model(canonical, name)
                                       : n->ldm || !legacy_attention(canonical, name))
            return false;
    } else if (n->ldm && n->network == NETWORK_UNET) {
        unet_name(n->unet, canonical, name);
    } else if (n->ldm && n->network == NETWORK_CONTROLNET) {
        controlnet_name(n->unet, n->hints, canonical, name);
    } else if (n->ldm && n->network == NETWORK_TAESD) {
        taesd_name(n->first, canonical, name);
    } else if (n->ldm && n->network == NETWORK_VAE) {
        vae_name(n->vae, canonical, name);
    }
    snprintf(out, NAME_LENGTH, "%s%.200s", n->prefix, name);
    return true;
}

static bool begins(const char *text, const char *head)
{
    return !strncmp(text, head, strlen(head));
}

bool naming_ignores(const naming *n, const char *name)
{
    size_t prefix = strlen(n->prefix);
    if (strncmp(name, n->prefix, prefix)) return true; /* another network's */
    name += prefix;
    switch (n->network) {
    case NETWORK_CLIP: /* a stored counter, and the other half of a whole CLIP model */
        return strstr(name, "position_ids") || begins(name, "text_projection") ||
               begins(name, "logit_scale") || begins(name, "vision_model.") ||
               begins(name, "visual_projection.");
    case NETWORK_VIT: /* the text half of a whole CLIP model; what only training and classifying use
                       */
        return strstr(name, "position_ids") || begins(name, "text_model.") ||
               begins(name, "text_projection") || begins(name, "logit_scale") ||
               begins(name, "pooler.") || !strcmp(name, "embeddings.mask_token");
    case NETWORK_VAE: /* the discriminator of its training */
        return n->ldm && (begins(name, "loss.") || begins(name, "model_ema."));
    case NETWORK_TAESD: return !n->ldm && begins(name, "encoder.");
    default: return false;
    }
}
