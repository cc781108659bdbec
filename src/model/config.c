/* SPDX-License-Identifier: Apache-2.0
 *
 * config: config.json of the networks and scheduler_config.json, with the defaults of diffusers and
 * transformers. Whatever changes the mathematics and is not implemented is refused by name, so that
 * no model runs wrongly in silence. */
#include "model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "file/fields.h"

enum { CONFIG_LIMIT = 1 << 20, MAX_CHANNELS = 1 << 14, MAX_LAYERS = 32 };

#define SUPPORTED "Likeness runs Stable Diffusion 1.x and unconditional DDPM models"

/* Fields whose other values would mean other mathematics. */
typedef struct only_field {
    const char *name, *only;
} only_field;

static void check_only(fields *f, const only_field *list, size_t count)
{
    for (size_t i = 0; i < count; i++) field_only(f, list[i].name, list[i].only);
}

static bool refuse(fields *f, const char *what)
{
    return f->ok = error_set(f->e, ERROR_MODEL, "%s: this is %s, not supported: " SUPPORTED,
                             f->where, what);
}

/* ---- UNet ---- */

static const only_field unet_only[] = {
    {"center_input_sample", "false"},
    {"class_embed_type", "null"},
    {"num_class_embeds", "null"},
    {"resnet_time_scale_shift", "\"default\""},
    {"time_embedding_type", "\"positional\""},
    {"time_embedding_dim", "null"},
    {"mid_block_scale_factor", "1"},
};

static const only_field conditional_only[] = {
    {"addition_embed_type", "null"},
    {"attention_type", "\"default\""},
    {"class_embeddings_concat", "false"},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"cross_attention_norm", "null"},
    {"dual_cross_attention", "false"},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"mid_block_only_cross_attention", "false"},
    {"num_attention_heads", "null"}, /* diffusers refuses it too: attention_head_dim is the field */
    {"only_cross_attention", "false"},
    {"projection_class_embeddings_input_dim", "null"},
    {"resnet_out_scale_factor", "1"},
    {"resnet_skip_time_act", "false"},
    {"reverse_transformer_layers_per_block", "null"},
    {"time_cond_proj_dim", "null"},
    {"time_embedding_act_fn", "null"},
    {"timestep_post_act", "null"},
};

static const only_field unconditional_only[] = {
    {"attn_norm_num_groups", "null"},
    {"downsample_type", "\"conv\""},
    {"upsample_type", "\"conv\""},
};

/* SiLU under both of its names. */
static void check_silu(fields *f)
{
    const char *name = field_text(f, "act_fn", "silu");
    if (f->ok && strcmp(name, "silu") && strcmp(name, "swish"))
        f->ok = error_set(f->e, ERROR_MODEL,
                          "%s: \"act_fn\" is \"%.40s\", which is not supported "
                          "(only \"silu\" is)",
                          f->where, name);
}

/* An integer, or [h,w] with h == w. */
static int sample_size(fields *f, int fallback)
{
    const json_t *value = field(f, "sample_size");
    int side[2] = {fallback, fallback};
    if (json_is_array(value))
        field_int_or_list(f, "sample_size", side, 2, fallback, 1, 1 << 16);
    else
        side[0] = side[1] = field_int(f, "sample_size", fallback, 1, 1 << 16);
    if (f->ok && side[0] != side[1])
        f->ok = error_set(f->e, ERROR_MODEL,
                          "%s: \"sample_size\" is %dx%d; only square sizes are "
                          "supported",
                          f->where, side[0], side[1]);
    return side[0];
}

/* A list of block names, each either `plain` or `attention` (may be NULL). Absent: as in fallback,
 * where 'a' stands for attention, any other letter for plain. */
static void block_types(fields *f, const char *name, const char *plain, const char *attention,
                        const char *fallback, int blocks, bool *has_attention)
{
    const json_t *list = field(f, name);
    if (list && !json_is_array(list)) {
        f->ok = error_set(f->e, ERROR_FORMAT, "%s: \"%s\" should be a list", f->where, name);
        return;
    }
    int count = list ? (int)json_array_size(list) : (int)strlen(fallback);
    if (count != blocks) {
        f->ok = error_set(f->e, ERROR_FORMAT,
                          "%s: \"%s\" has %d entries, \"block_out_channels\" %d", f->where, name,
                          count, blocks);
        return;
    }
    for (int i = 0; i < blocks; i++) {
        if (!list) {
            has_attention[i] = fallback[i] == 'a';
            continue;
        }
        const char *type = json_string_value(json_array_get(list, (size_t)i));
        if (!type) {
            f->ok = error_set(f->e, ERROR_FORMAT, "%s: \"%s\" should be a list of strings",
                              f->where, name);
            return;
        }
        if (!strncmp(type, "UNetRes", 7)) /* as diffusers' get_down_block does */
            type += 7;
        has_attention[i] = attention && !strcmp(type, attention);
        if (!has_attention[i] && strcmp(type, plain)) {
            f->ok = error_set(f->e, ERROR_MODEL,
                              "%s: \"%s\" names block \"%.60s\", which is not "
                              "supported (only %s%s%s)",
                              f->where, name, type, plain, attention ? " and " : "",
                              attention ? attention : "");
            return;
        }
    }
}

/* Says what a text-conditioned UNet is when it is a known relative of Stable Diffusion 1. */
static bool unet_family(fields *f, const char *class_name)
{
    const char *addition = field_text(f, "addition_embed_type", "");
    const json_t *cross = field(f, "cross_attention_dim");
    if (json_is_array(cross)) cross = json_array_get(cross, 0);
    int cross_dim = json_is_integer(cross) ? (int)json_integer_value(cross) : 0;
    int in = field_int(f, "in_channels", 4, 1, MAX_CHANNELS);
    if (!f->ok) return false;
    if (!strncmp(class_name, "SD3", 3)) return refuse(f, "Stable Diffusion 3");
    if (!strncmp(class_name, "Flux", 4)) return refuse(f, "Flux");
    if (!strcmp(addition, "text_time")) return refuse(f, "Stable Diffusion XL");
    if (in == 8) return refuse(f, "an InstructPix2Pix model (8 input channels)");
    if (cross_dim == 1024) return refuse(f, "Stable Diffusion 2 (text width 1024)");
    return true;
}

static bool unet_is_conditional(fields *f, const char *class_name, bool *conditional)
{
    if (!strcmp(class_name, "UNet2DConditionModel"))
        *conditional = true;
    else if (!strcmp(class_name, "UNet2DModel"))
        *conditional = false;
    else if (!*class_name)
        *conditional = field(f, "cross_attention_dim") != NULL;
    else
        return f->ok = error_set(f->e, ERROR_MODEL,
                                 "%s: \"_class_name\" is \"%.60s\", which is not "
                                 "supported: " SUPPORTED,
                                 f->where, class_name);
    return true;
}

static void unet_mid(fields *f, unet_config *c)
{
    const char *wanted = c->conditional ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D";
    const json_t *given = json_object_get(f->root, "mid_block_type");
    c->mid_block = !json_is_null(given); /* absent: the default; null: no mid block */
    const char *type = field_text(f, "mid_block_type", wanted);
    if (!f->ok || !c->mid_block) return;
    if (!strcmp(type, wanted))
        c->mid_attention = c->conditional || field_bool(f, "add_attention", true);
    else if (strcmp(type, "UNetMidBlock2D")) /* conditional: one resnet, no attention */
        f->ok = error_set(f->e, ERROR_MODEL,
                          "%s: \"mid_block_type\" is \"%.60s\", which is not "
                          "supported (only %s is)",
                          f->where, type, wanted);
}

static void unet_conditional(fields *f, unet_config *c)
{
    int width[CONFIG_MAX_BLOCKS];
    block_types(f, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D", "aaad", c->blocks,
                c->down_attention);
    field_int_or_list(f, "layers_per_block", c->layers, c->blocks, 2, 1, MAX_LAYERS);
    field_int_or_list(f, "attention_head_dim", c->heads, c->blocks, 8, 1, MAX_CHANNELS);
    field_int_or_list(f, "transformer_layers_per_block", c->transformer_layers, c->blocks, 1, 1,
                      MAX_LAYERS);
    field_int_or_list(f, "cross_attention_dim", width, c->blocks, 1280, 1, MAX_CHANNELS);
    c->cross_dim = f->ok ? width[0] : 0;
    for (int i = 0; f->ok && i < c->blocks; i++)
        if (width[i] != width[0])
            f->ok = error_set(f->e, ERROR_MODEL,
                              "%s: \"cross_attention_dim\" differs between blocks, "
                              "which is not supported",
                              f->where);
    c->linear_projection = field_bool(f, "use_linear_projection", false);
    check_only(f, conditional_only, sizeof conditional_only / sizeof *conditional_only);
}

static void unet_conditional_up(fields *f, unet_config *c)
{
    block_types(f, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D", "uaaa", c->blocks,
                c->up_attention);
}

static void unet_unconditional(fields *f, unet_config *c)
{
    block_types(f, "down_block_types", "DownBlock2D", "AttnDownBlock2D", "daaa", c->blocks,
                c->down_attention);
    if (f->ok)
        block_types(f, "up_block_types", "UpBlock2D", "AttnUpBlock2D", "aaau", c->blocks,
                    c->up_attention);
    int layers = field_int(f, "layers_per_block", 2, 1, MAX_LAYERS);
    for (int i = 0; i < c->blocks; i++) c->layers[i] = layers;
    bool null_heads = json_is_null(json_object_get(f->root, "attention_head_dim"));
    c->head_size = null_heads ? 0 : field_int(f, "attention_head_dim", 8, 1, MAX_CHANNELS);
    check_only(f, unconditional_only, sizeof unconditional_only / sizeof *unconditional_only);
}

/* Channels must divide into groups and heads; said here, where the field's name is known. */
static void unet_check_division(fields *f, const unet_config *c)
{
    for (int i = 0; f->ok && i < c->blocks; i++) {
        int n = c->channels[i];
        bool last = i == c->blocks - 1;
        bool attention = c->down_attention[i] || c->up_attention[c->blocks - 1 - i] ||
                         (last && c->mid_attention);
        if (n % c->groups)
            f->ok = error_set(f->e, ERROR_FORMAT,
                              "%s: %d channels do not divide into "
                              "\"norm_num_groups\" %d",
                              f->where, n, c->groups);
        else if (attention && c->conditional && n % c->heads[i])
            f->ok = error_set(f->e, ERROR_FORMAT,
                              "%s: %d channels do not divide into %d attention "
                              "heads",
                              f->where, n, c->heads[i]);
        else if (attention && !c->conditional && c->head_size && n % c->head_size)
            f->ok = error_set(f->e, ERROR_FORMAT,
                              "%s: %d channels do not divide into attention heads "
                              "of size %d",
                              f->where, n, c->head_size);
    }
    if (f->ok && c->channels[0] % 2)
        f->ok = error_set(f->e, ERROR_FORMAT, "%s: the first of \"block_out_channels\" is odd",
                          f->where);
}

/* Files older than 0.9 say 32 and mean 64 (StableDiffusionPipeline.__init__). */
static int unet_sample_size(fields *f, bool conditional)
{
    int size = sample_size(f, conditional ? 64 : 0);
    const char *version = field_text(f, "_diffusers_version", "1.0");
    int major = 1, minor = 0;
    if (sscanf(version, "%d.%d", &major, &minor) == 2 && conditional && size < 64 && major == 0 &&
        minor < 9)
        return 64;
    if (f->ok && size == 0)
        f->ok = error_set(f->e, ERROR_FORMAT, "%s: \"sample_size\" is missing", f->where);
    return size;
}

/* What UNets of both kinds and ControlNets have. */
static void unet_common(fields *f, unet_config *c)
{
    static const int channels[2][4] = {{224, 448, 672, 896}, {320, 640, 1280, 1280}};
    c->blocks = field_int_list(f, "block_out_channels", c->channels, CONFIG_MAX_BLOCKS, 1,
                               MAX_CHANNELS);
    if (!field(f, "block_out_channels")) {
        c->blocks = 4;
        memcpy(c->channels, channels[c->conditional], sizeof channels[0]);
    }
    if (!f->ok) return;
    c->in_channels = field_int(f, "in_channels", c->conditional ? 4 : 3, 1, MAX_CHANNELS);
    c->groups = field_int(f, "norm_num_groups", 32, 1, MAX_CHANNELS);
    c->eps = field_float(f, "norm_eps", 1e-5f);
    c->downsample_padding = field_int(f, "downsample_padding", 1, 0, 1);
    c->flip_sin_to_cos = field_bool(f, "flip_sin_to_cos", true);
    c->freq_shift = field_float(f, "freq_shift", 0);
}

bool unet_config_read(unet_config *c, const char *path, error *e)
{
    return unet_config_parse(c, NULL, path, e);
}

bool vae_config_read(vae_config *c, const char *path, error *e)
{
    return vae_config_parse(c, NULL, path, e);
}

bool clip_config_read(clip_config *c, const char *path, error *e)
{
    return clip_config_parse(c, NULL, path, e);
}

bool scheduler_config_read(scheduler_config *c, const char *path, error *e)
{
    return scheduler_config_parse(c, NULL, path, e);
}

/* text NULL: of the file at path. */
static bool open_fields(fields *f, const char *text, const char *path, error *e)
{
    return text ? fields_parse(f, text, path, e) : fields_open(f, path, CONFIG_LIMIT, e);
}

bool unet_config_parse(unet_config *c, const char *text, const char *path, error *e)
{
    fields f;
    memset(c, 0, sizeof *c);
    if (!open_fields(&f, text, path, e)) return false;
    const char *class_name = field_text(&f, "_class_name", "");
    if (!f.ok || !unet_family(&f, class_name) ||
        !unet_is_conditional(&f, class_name, &c->conditional))
        goto done;
    unet_common(&f, c);
    if (!f.ok) goto done;
    c->out_channels = field_int(&f, "out_channels", c->conditional ? 4 : 3, 1, MAX_CHANNELS);
    if (f.ok) (c->conditional ? unet_conditional : unet_unconditional)(&f, c);
    if (f.ok && c->conditional) unet_conditional_up(&f, c);
    if (f.ok) unet_mid(&f, c);
    check_only(&f, unet_only, sizeof unet_only / sizeof *unet_only);
    check_silu(&f);
    if (f.ok) c->sample_size = unet_sample_size(&f, c->conditional);
    unet_check_division(&f, c);
done:
    fields_close(&f);
    return f.ok;
}

static const int hint_sd1[] = {16, 32, 96, 256};

bool controlnet_config_read(controlnet_config *c, const char *path, error *e)
{
    static const only_field only[] = {{"controlnet_conditioning_channel_order", "\"rgb\""},
                                      {"global_pool_conditions", "false"},
                                      {"conditioning_channels", "3"}};
    fields f;
    unet_config *u = &c->unet;
    memset(c, 0, sizeof *c);
    if (!fields_open(&f, path, CONFIG_LIMIT, e)) return false;
    const char *class_name = field_text(&f, "_class_name", "");
    if (f.ok && strcmp(class_name, "ControlNetModel") != 0)
        f.ok = error_set(e, ERROR_MODEL, "%s: \"_class_name\" is \"%.60s\", not ControlNetModel",
                         f.where, class_name);
    if (f.ok && unet_family(&f, class_name)) {
        u->conditional = true;
        unet_common(&f, u);
        u->out_channels = u->in_channels;
        u->sample_size = 64;
    }
    if (f.ok) unet_conditional(&f, u);
    for (int i = 0; i < u->blocks; i++) u->up_attention[i] = u->down_attention[u->blocks - 1 - i];
    if (f.ok) unet_mid(&f, u);
    if (f.ok && !u->mid_block) f.ok = error_set(e, ERROR_MODEL, "%s: has no middle block", f.where);
    check_only(&f, unet_only, sizeof unet_only / sizeof *unet_only);
    check_only(&f, only, sizeof only / sizeof *only);
    check_silu(&f);
    unet_check_division(&f, u);
    if (f.ok)
        c->hints = field_int_list(&f, "conditioning_embedding_out_channels", c->hint,
                                  CONFIG_MAX_BLOCKS, 1, MAX_CHANNELS);
    if (f.ok && !field(&f, "conditioning_embedding_out_channels")) {
        c->hints = 4;
        memcpy(c->hint, hint_sd1, sizeof hint_sd1);
    }
    fields_close(&f);
    return f.ok;
}

void controlnet_config_sd1(controlnet_config *c)
{
    unet_config_sd1(&c->unet);
    c->hints = 4;
    memcpy(c->hint, hint_sd1, sizeof hint_sd1);
}

void unet_config_sd1(unet_config *c)
{
    *c = (unet_config){
        .conditional = true,
        .in_channels = 4,
        .out_channels = 4,
        .sample_size = 64,
        .blocks = 4,
        .channels = {320, 640, 1280, 1280},
        .layers = {2, 2, 2, 2},
        .down_attention = {true, true, true, false},
        .up_attention = {false, true, true, true},
        .heads = {8, 8, 8, 8},
        .transformer_layers = {1, 1, 1, 1},
        .cross_dim = 768,
        .mid_block = true,
        .mid_attention = true,
        .groups = 32,
        .eps = 1e-5f,
        .downsample_padding = 1,
        .flip_sin_to_cos = true,
    };
}

/* ---- the tiny autoencoder ---- */

bool taesd_config_read(taesd_config *c, const char *path, error *e)
{
    static const only_field only[] = {{"act_fn", "\"relu\""},
                                      {"upsample_fn", "\"nearest\""},
                                      {"upsampling_scaling_factor", "2"},
                                      {"out_channels", "3"},
                                      {"shift_factor", "0.0"}};
    fields f;
    int width[CONFIG_MAX_BLOCKS];
    taesd_config_sd1(c);
    if (!fields_open(&f, path, CONFIG_LIMIT, e)) return false;
    const char *class_name = field_text(&f, "_class_name", "");
    if (f.ok && strcmp(class_name, "AutoencoderTiny") != 0)
        f.ok = error_set(e, ERROR_MODEL, "%s: \"_class_name\" is \"%.60s\", not AutoencoderTiny",
                         f.where, class_name);
    check_only(&f, only, sizeof only / sizeof *only);
    c->latent_channels = field_int(&f, "latent_channels", 4, 1, MAX_CHANNELS);
    c->scaling_factor = field_float(&f, "scaling_factor", 1);
    if (f.ok && field(&f, "num_decoder_blocks"))
        c->stages = field_int_list(&f, "num_decoder_blocks", c->blocks, CONFIG_MAX_BLOCKS, 1,
                                   MAX_LAYERS);
    if (f.ok && field(&f, "decoder_block_out_channels")) {
        int count = field_int_list(&f, "decoder_block_out_channels", width, CONFIG_MAX_BLOCKS, 1,
                                   MAX_CHANNELS);
        bool even = count == c->stages;
        for (int i = 1; i < count; i++) even = even && width[i] == width[0];
        if (f.ok && !even)
            f.ok = error_set(e, ERROR_MODEL,
                             "%s: \"decoder_block_out_channels\" should be one number, once for "
                             "each of \"num_decoder_blocks\"",
                             f.where);
        c->channels = width[0];
    }
    if (f.ok && !(c->scaling_factor > 0))
        f.ok = error_set(e, ERROR_MODEL, "%s: \"scaling_factor\" should be above 0", f.where);
    fields_close(&f);
    return f.ok;
}

void taesd_config_sd1(taesd_config *c)
{
    *c = (taesd_config){.latent_channels = 4,
                        .channels = 64,
                        .stages = 4,
                        .blocks = {3, 3, 3, 1},
                        .scaling_factor = 1};
}

/* ---- VAE ---- */

bool vae_config_parse(vae_config *c, const char *text, const char *path, error *e)
{
    fields f;
    memset(c, 0, sizeof *c);
    if (!open_fields(&f, text, path, e)) return false;
    const char *class_name = field_text(&f, "_class_name", "AutoencoderKL");
    if (f.ok && strcmp(class_name, "AutoencoderKL"))
        f.ok = error_set(e, ERROR_MODEL,
                         "%s: \"_class_name\" is \"%.60s\", which is not supported "
                         "(only AutoencoderKL is; AutoencoderTiny is given with --taesd)",
                         path, class_name);
    c->blocks = field_int_list(&f, "block_out_channels", c->channels, CONFIG_MAX_BLOCKS, 1,
                               MAX_CHANNELS);
    if (!field(&f, "block_out_channels")) {
        c->blocks = 1;
        c->channels[0] = 64;
    }
    c->in_channels = field_int(&f, "in_channels", 3, 1, MAX_CHANNELS);
    c->out_channels = field_int(&f, "out_channels", 3, 1, MAX_CHANNELS);
    c->latent_channels = field_int(&f, "latent_channels", 4, 1, MAX_CHANNELS);
    c->layers = field_int(&f, "layers_per_block", 1, 1, MAX_LAYERS);
    c->groups = field_int(&f, "norm_num_groups", 32, 1, MAX_CHANNELS);
    c->scaling_factor = field_float(&f, "scaling_factor", 0.18215f);
    c->shift_factor = field_float(&f, "shift_factor", 0);
    c->quant_conv = field_bool(&f, "use_quant_conv", true);
    c->post_quant_conv = field_bool(&f, "use_post_quant_conv", true);
    c->mid_attention = field_bool(&f, "mid_block_add_attention", true);
    bool none[CONFIG_MAX_BLOCKS];
    if (f.ok) block_types(&f, "down_block_types", "DownEncoderBlock2D", NULL, "d", c->blocks, none);
    if (f.ok) block_types(&f, "up_block_types", "UpDecoderBlock2D", NULL, "u", c->blocks, none);
    check_silu(&f);
    if (f.ok) c->sample_size = sample_size(&f, 32);
    for (int i = 0; f.ok && i < c->blocks; i++)
        if (c->channels[i] % c->groups)
            f.ok = error_set(e, ERROR_FORMAT,
                             "%s: %d channels do not divide into "
                             "\"norm_num_groups\" %d",
                             path, c->channels[i], c->groups);
    if (f.ok && !(c->scaling_factor > 0))
        f.ok = error_set(e, ERROR_FORMAT, "%s: \"scaling_factor\" should be above 0", path);
    fields_close(&f);
    return f.ok;
}

void vae_config_sd1(vae_config *c)
{
    *c = (vae_config){
        .in_channels = 3,
        .out_channels = 3,
        .latent_channels = 4,
        .sample_size = 512,
        .blocks = 4,
        .channels = {128, 256, 512, 512},
        .layers = 2,
        .groups = 32,
        .scaling_factor = 0.18215f,
        .quant_conv = true,
        .post_quant_conv = true,
        .mid_attention = true,
    };
}

/* ---- text encoder ---- */

bool clip_config_parse(clip_config *c, const char *text, const char *path, error *e)
{
    fields f;
    memset(c, 0, sizeof *c);
    if (!open_fields(&f, text, path, e)) return false;
    json_t *whole = f.root, *inner = field(&f, "text_config"); /* a whole CLIPModel */
    const char *type = field_text(&f, "model_type", "clip_text_model");
    if (f.ok && strncmp(type, "clip", 4))
        f.ok = error_set(e, ERROR_MODEL,
                         "%s: \"model_type\" is \"%.60s\", which is not supported "
                         "(only CLIP's text encoder is)",
                         path, type);
    if (json_is_object(inner)) f.root = inner;
    c->hidden = field_int(&f, "hidden_size", 512, 1, MAX_CHANNELS);
    c->intermediate = field_int(&f, "intermediate_size", 2048, 1, 1 << 16);
    c->layers = field_int(&f, "num_hidden_layers", 12, 1, 256);
    c->heads = field_int(&f, "num_attention_heads", 8, 1, MAX_CHANNELS);
    c->positions = field_int(&f, "max_position_embeddings", 77, 2, 1 << 16);
    c->vocab = field_int(&f, "vocab_size", 49408, 1, 1 << 24);
    c->eps = field_float(&f, "layer_norm_eps", 1e-5f);
    const char *activation = field_text(&f, "hidden_act", "quick_gelu");
    c->activation = strcmp(activation, "gelu") ? UNARY_QUICK_GELU : UNARY_GELU;
    if (f.ok && strcmp(activation, "gelu") && strcmp(activation, "quick_gelu"))
        f.ok = error_set(e, ERROR_MODEL,
                         "%s: \"hidden_act\" is \"%.40s\", which is not supported "
                         "(only quick_gelu and gelu are)",
                         path, activation);
    if (f.ok && c->hidden % c->heads)
        f.ok = error_set(e, ERROR_FORMAT, "%s: \"hidden_size\" %d does not divide into %d heads",
                         path, c->hidden, c->heads);
    f.root = whole;
    fields_close(&f);
    return f.ok;
}

void clip_config_sd1(clip_config *c)
{
    *c = (clip_config){.hidden = 768,
                       .intermediate = 3072,
                       .layers = 12,
                       .heads = 12,
                       .positions = 77,
                       .vocab = 49408,
                       .eps = 1e-5f,
                       .activation = UNARY_QUICK_GELU};
}

/* ---- scheduler ---- */

/* Which of `words` (in the enum's order) the field holds; the fallback where it is absent. */
static int field_word(fields *f, const char *name, const char *const *words, int count,
                      int fallback)
{
    const char *text = field_text(f, name, NULL);
    if (!text) return fallback;
    for (int i = 0; i < count; i++)
        if (!strcmp(text, words[i])) return i;
    char list[256] = "";
    for (int i = 0; i < count; i++) {
        strcat(list, i ? ", " : "");
        strcat(list, words[i]);
    }
    f->ok = error_set(f->e, ERROR_MODEL, "%s: \"%s\" is \"%.40s\", which is not supported (%s are)",
                      f->where, name, text, list);
    return fallback;
}

static void read_trained_betas(fields *f, scheduler_config *c)
{
    const json_t *list = field(f, "trained_betas");
    if (!list || !f->ok) return;
    if (!json_is_array(list) || (int)json_array_size(list) != c->train_steps) {
        f->ok = error_set(f->e, ERROR_FORMAT,
                          "%s: \"trained_betas\" should be a list of "
                          "\"num_train_timesteps\" (%d) numbers",
                          f->where, c->train_steps);
        return;
    }
    c->trained_betas = malloc((size_t)c->train_steps * sizeof(float));
    if (!c->trained_betas) {
        f->ok = error_memory(f->e, "trained_betas", (size_t)c->train_steps * sizeof(float));
        return;
    }
    for (int i = 0; i < c->train_steps; i++) {
        double beta = json_number_value(json_array_get(list, (size_t)i));
        c->trained_betas[i] = (float)beta;
        if (!(beta > 0 && beta < 1))
            f->ok = error_set(f->e, ERROR_FORMAT,
                              "%s: \"trained_betas\" entry %d is not a number "
                              "between 0 and 1",
                              f->where, i);
    }
}

static bool is_odd(fields *f, const char *name, const char *usual)
{
    return strcmp(field_text(f, name, usual), usual) != 0;
}

/* The first key of those that ladders do not follow. */
static const char *unknown_key(fields *f)
{
    static const char *const flags[] = {"use_lu_lambdas", "use_flow_sigmas",
                                        "use_dynamic_shifting"};
    static const char *const numbers[] = {"lambda_min_clipped", "sigma_min", "sigma_max"};
    for (int i = 0; i < 3; i++)
        if (field_bool(f, flags[i], false)) return flags[i];
    for (int i = 0; i < 3; i++)
        if (field(f, numbers[i])) return numbers[i];
    if (!field_bool(f, "predict_x0", true)) return "predict_x0";
    if (is_odd(f, "interpolation_type", "linear")) return "interpolation_type";
    return is_odd(f, "timestep_type", "discrete") ? "timestep_type" : "";
}

/* What only some classes have; a key that the file lacks takes their default. */
static void read_solver(fields *f, scheduler_config *c)
{
    static const char *const final_words[] = {"zero", "sigma_min"};
    static const char *const rules[] = {"use_karras_sigmas", "use_exponential_sigmas",
                                        "use_beta_sigmas"};
    for (int i = 0; i < 3; i++)
        if (field_bool(f, rules[i], false)) c->sigmas = (sigma_kind)(SIGMAS_KARRAS + i);
    c->final_sigma_min = field_word(f, "final_sigmas_type", final_words, 2, 0) == 1;
    c->skip_prk = field_bool(f, "skip_prk_steps", false);
    c->solver_order = field_int(f, "solver_order", 2, 1, 3);
    c->lower_order_final = field_bool(f, "lower_order_final", true);
    c->euler_at_final = field_bool(f, "euler_at_final", false);
    snprintf(c->algorithm, sizeof c->algorithm, "%s", field_text(f, "algorithm_type", ""));
    snprintf(c->solver, sizeof c->solver, "%s", field_text(f, "solver_type", ""));
    snprintf(c->unknown, sizeof c->unknown, "%s", unknown_key(f));
    c->original_steps = field_int(f, "original_inference_steps", 50, 1, 1 << 20);
    c->timestep_scaling = field_float(f, "timestep_scaling", 10);
}

bool scheduler_config_parse(scheduler_config *c, const char *text, const char *path, error *e)
{
    static const char *const beta_words[] = {"linear", "scaled_linear", "squaredcos_cap_v2",
                                             "sigmoid"};
    static const char *const spacing_words[] = {"leading", "trailing", "linspace"};
    static const char *const prediction_words[] = {"epsilon", "v_prediction", "sample"};
    static const char *const variance_words[] = {"fixed_small", "fixed_small_log",
                                                 "fixed_large", "fixed_large_log",
                                                 "learned",     "learned_range"};
    fields f;
    memset(c, 0, sizeof *c);
    if (!open_fields(&f, text, path, e)) return false;
    snprintf(c->class_name, sizeof c->class_name, "%s", field_text(&f, "_class_name", ""));
    c->train_steps = field_int(&f, "num_train_timesteps", 1000, 1, 1 << 20);
    c->beta_start = field_float(&f, "beta_start", 1e-4f);
    c->beta_end = field_float(&f, "beta_end", 0.02f);
    c->betas = field_word(&f, "beta_schedule", beta_words, 4, BETA_LINEAR);
    c->zero_snr = field_bool(&f, "rescale_betas_zero_snr", false);
    c->predicts = field_word(&f, "prediction_type", prediction_words, 3, PREDICT_EPSILON);
    c->has_spacing = field(&f, "timestep_spacing") != NULL;
    c->spacing = field_word(&f, "timestep_spacing", spacing_words, 3, SPACING_LEADING);
    c->has_steps_offset = field(&f, "steps_offset") != NULL;
    c->steps_offset = field_int(&f, "steps_offset", 0, 0, 1 << 20);
    c->has_clip_sample = field(&f, "clip_sample") != NULL;
    c->clip_sample = field_bool(&f, "clip_sample", true);
    c->clip_range = field_float(&f, "clip_sample_range", 1);
    c->thresholding = field_bool(&f, "thresholding", false);
    c->threshold_ratio = field_float(&f, "dynamic_thresholding_ratio", 0.995f);
    c->sample_max = field_float(&f, "sample_max_value", 1);
    c->has_set_alpha_to_one = field(&f, "set_alpha_to_one") != NULL;
    c->set_alpha_to_one = field_bool(&f, "set_alpha_to_one", true);
    c->has_variance = field(&f, "variance_type") != NULL;
    c->variance = field_word(&f, "variance_type", variance_words, 6, VARIANCE_FIXED_SMALL);
    read_solver(&f, c);
    read_trained_betas(&f, c);
    if (f.ok && !c->trained_betas &&
        !(c->beta_start > 0 && c->beta_start < 1 && c->beta_end > 0 && c->beta_end < 1))
        f.ok = error_set(e, ERROR_FORMAT,
                         "%s: \"beta_start\" and \"beta_end\" should lie between 0 "
                         "and 1",
                         path);
    fields_close(&f);
    if (!f.ok) scheduler_config_close(c);
    return f.ok;
}

void scheduler_config_close(scheduler_config *c)
{
    free(c->trained_betas);
    c->trained_betas = NULL;
}

/* The scheduler of the published Stable Diffusion 1.x folders. */
void scheduler_config_sd1(scheduler_config *c)
{
    *c = (scheduler_config){
        .class_name = "PNDMScheduler",
        .train_steps = 1000,
        .beta_start = 0.00085f,
        .beta_end = 0.012f,
        .betas = BETA_SCALED_LINEAR,
        .predicts = PREDICT_EPSILON,
        .spacing = SPACING_LEADING,
        .steps_offset = 1,
        .has_steps_offset = true,
        .clip_sample = false,
        .has_clip_sample = true,
        .clip_range = 1,
        .threshold_ratio = 0.995f,
        .sample_max = 1,
        .set_alpha_to_one = false,
        .has_set_alpha_to_one = true,
        .skip_prk = true,
        .solver_order = 2,
        .lower_order_final = true,
        .original_steps = 50,
        .timestep_scaling = 10,
        .variance = VARIANCE_FIXED_SMALL,
    };
}
