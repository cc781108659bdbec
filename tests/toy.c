/* SPDX-License-Identifier: Apache-2.0
 *
 * toy: see toy.h. Which weights a network has is found by recording it. */
#include "toy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/safetensors.h"
#include "model/controlnet.h"

static const char clip_json[] =
    "{\"architectures\": [\"CLIPTextModel\"], \"hidden_act\": \"quick_gelu\", \"hidden_size\": 32,"
    " \"intermediate_size\": 64, \"layer_norm_eps\": 1e-05, \"max_position_embeddings\": 16,"
    " \"num_attention_heads\": 2, \"num_hidden_layers\": 2, \"vocab_size\": 514,"
    " \"model_type\": \"clip_text_model\"}";
#define UNET_OF(in)                                                                                \
    "{\"_class_name\": \"UNet2DConditionModel\", \"in_channels\": " in ", \"out_channels\": 4,"    \
    " \"sample_size\": 16, \"block_out_channels\": [16, 32], \"layers_per_block\": 1,"             \
    " \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"],"                          \
    " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"],"                                \
    " \"cross_attention_dim\": 32, \"attention_head_dim\": 2, \"norm_num_groups\": 8}"
static const char unet_json[] = UNET_OF("4"), inpainting_json[] = UNET_OF("9");
static const char vae_json[] =
    "{\"_class_name\": \"AutoencoderKL\", \"in_channels\": 3, \"out_channels\": 3, "
    "\"latent_channels\": 4,"
    " \"block_out_channels\": [16, 16], \"layers_per_block\": 1, \"norm_num_groups\": 8,"
    " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
    " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"], \"sample_size\": 32,"
    " \"scaling_factor\": 1.0}";
static const char scheduler_json[] =
    "{\"_class_name\": \"DDIMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
    " \"beta_schedule\": \"scaled_linear\", \"num_train_timesteps\": 1000, \"steps_offset\": 1,"
    " \"set_alpha_to_one\": false, \"clip_sample\": false}";
static const char index_json[] =
    "{\"_class_name\": \"StableDiffusionPipeline\", \"_diffusers_version\": \"0.42.1\","
    " \"scheduler\": [\"diffusers\", \"DDIMScheduler\"], \"text_encoder\": [\"transformers\","
    " \"CLIPTextModel\"], \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"], \"unet\": "
    "[\"diffusers\","
    " \"UNet2DConditionModel\"], \"vae\": [\"diffusers\", \"AutoencoderKL\"]}";
static const char ddpm_json[] =
    "{\"_class_name\": \"UNet2DModel\", \"in_channels\": 3, \"out_channels\": 3, \"sample_size\": "
    "16,"
    " \"block_out_channels\": [16, 16], \"layers_per_block\": 1, \"norm_num_groups\": 8,"
    " \"down_block_types\": [\"DownBlock2D\", \"AttnDownBlock2D\"],"
    " \"up_block_types\": [\"AttnUpBlock2D\", \"UpBlock2D\"], \"attention_head_dim\": null,"
    " \"norm_eps\": 1e-06, \"downsample_padding\": 0, \"flip_sin_to_cos\": false, \"freq_shift\": "
    "1}";
static const char ddpm_scheduler_json[] =
    "{\"_class_name\": \"DDPMScheduler\", \"beta_start\": 0.0001, \"beta_end\": 0.02,"
    " \"beta_schedule\": \"linear\", \"num_train_timesteps\": 1000, \"clip_sample\": true,"
    " \"variance_type\": \"fixed_large\"}";

static const char control_json[] =
    "{\"_class_name\": \"ControlNetModel\", \"in_channels\": 4, \"block_out_channels\": [16, 32],"
    " \"layers_per_block\": 1, \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"],"
    " \"cross_attention_dim\": 32, \"attention_head_dim\": 2, \"norm_num_groups\": 8,"
    " \"conditioning_embedding_out_channels\": [16, 32]}";

static bool write_text(const char *folder, const char *name, const char *text, size_t size,
                       error *e)
{
    char *path = path_join(folder, name);
    bool ok = path && file_write(path, text, size, e);
    free(path);
    return ok;
}

/* Norms near one, the rest small and random: values stay finite through any depth. */
static void fill(float *out, const tensor *t, size_t n, uint32_t *seed)
{
    bool gamma = t->rank == 1 && strstr(t->name, "norm") && strstr(t->name, "weight");
    for (size_t i = 0; i < n; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        float v = ((float)(*seed >> 8) / 8388608.0f - 1) * 0.1f;
        out[i] = gamma ? 1 + v : v;
    }
}

static bool write_weights(graph *g, const char *folder, const char *name, error *e)
{
    size_t count = graph_weight_count(g);
    uint32_t seed = (uint32_t)count;
    safetensors_entry *entry = calloc(count, sizeof *entry);
    char *path = path_join(folder, name);
    bool ok = entry && path;
    for (size_t i = 0; ok && i < count; i++) {
        const tensor *t = graph_weight_at(g, i);
        size_t n = 1;
        for (int k = 0; k < t->rank; k++) n *= (size_t)t->dim[k];
        float *data = malloc(n * sizeof *data);
        ok = data;
        if (!ok) break;
        fill(data, t, n, &seed);
        entry[i] = (safetensors_entry){.name = t->name,
                                       .type = DTYPE_F32,
                                       .rank = t->rank,
                                       .data = data,
                                       .bytes = n * sizeof *data};
        memcpy(entry[i].dim, t->dim, sizeof t->dim);
    }
    ok = ok && safetensors_write(path, entry, count, NULL, 0, e);
    for (size_t i = 0; entry && i < count; i++) free((void *)entry[i].data);
    free(entry);
    free(path);
    return ok;
}

/* A sub-folder (or the folder itself, "") with one network's config.json and weights. */
static bool write_network(const char *folder, const char *part, const char *json, size_t size,
                          error *e)
{
    char *at = path_join(folder, part), *config = at ? path_join(at, "config.json") : NULL;
    graph *g = NULL;
    bool ok = config && path_make_dir(at, e) && write_text(at, "config.json", json, size, e) &&
              graph_open(&g, DTYPE_F32, e);
    const char *weights = "diffusion_pytorch_model.safetensors";
    if (ok && strcmp(part, "text_encoder") == 0) {
        clip_config c;
        ok = clip_config_read(&c, config, e);
        if (ok) clip_build(g, &c, graph_input(g, "ids", DTYPE_I32, 2, (int64_t[]){1, 16}), 0);
        weights = "model.safetensors";
    } else if (ok && strcmp(part, "vae") == 0) {
        vae_config c;
        ok = vae_config_read(&c, config, e);
        if (ok) {
            vae_build_encoder(g, &c,
                              graph_input(g, "image", DTYPE_F32, 4, (int64_t[]){1, 32, 32, 3}));
            vae_build_decoder(g, &c,
                              graph_input(g, "latent", DTYPE_F32, 4, (int64_t[]){1, 16, 16, 4}));
        }
    } else if (ok) {
        unet_config c;
        ok = unet_config_read(&c, config, e);
        if (ok)
            unet_build(g, &c,
                       graph_input(g, "x", DTYPE_F32, 4, (int64_t[]){1, 16, 16, c.in_channels}),
                       graph_input(g, "t", DTYPE_F32, 1, (int64_t[]){1}),
                       c.conditional ? graph_input(g, "text", DTYPE_F32, 3, (int64_t[]){1, 16, 32})
                                     : NULL);
    }
    ok = ok && write_weights(g, at, weights, e);
    graph_close(&g);
    free(config);
    free(at);
    return ok;
}

/* The 256 signs of the byte-level alphabet, twice, and the two special tokens; no merges. */
static bool write_tokenizer(const char *folder, error *e)
{
    char *at = path_join(folder, "tokenizer"), *text = malloc(64 * 1024);
    bool ok = at && text && path_make_dir(at, e);
    if (ok) {
        size_t n = (size_t)sprintf(text, "{");
        for (int id = 0, end = 0; end < 2; end++)
            for (int round = 0; round < 2; round++)
                for (int byte = 0, extra = 0; byte < 256; byte++) {
                    bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
                                  byte >= 174;
                    int sign = itself ? byte : 256 + extra++;
                    if (itself == (round == 0))
                        n += (size_t)sprintf(text + n, "\"\\u%04x%s\": %d, ", (unsigned)sign,
                                             end ? "</w>" : "", id++);
                }
        n += (size_t)sprintf(text + n, "\"<|startoftext|>\": 512, \"<|endoftext|>\": 513}");
        ok = write_text(at, "vocab.json", text, n, e) &&
             write_text(at, "merges.txt", "#version: 0.2\n", 14, e);
    }
    free(text);
    free(at);
    return ok;
}

static bool write_model(const char *folder, const char *unet, size_t unet_size, error *e)
{
    char *scheduler = path_join(folder, "scheduler");
    bool ok = scheduler && path_make_dir(scheduler, e) &&
              write_text(folder, "model_index.json", index_json, sizeof index_json - 1, e) &&
              write_text(scheduler, "scheduler_config.json", scheduler_json,
                         sizeof scheduler_json - 1, e) &&
              write_network(folder, "text_encoder", clip_json, sizeof clip_json - 1, e) &&
              write_network(folder, "unet", unet, unet_size, e) &&
              write_network(folder, "vae", vae_json, sizeof vae_json - 1, e) &&
              write_tokenizer(folder, e);
    free(scheduler);
    return ok;
}

bool toy_stable_diffusion(const char *folder, error *e)
{
    return write_model(folder, unet_json, sizeof unet_json - 1, e);
}

bool toy_inpainting(const char *folder, error *e)
{
    return write_model(folder, inpainting_json, sizeof inpainting_json - 1, e);
}

bool toy_unconditional(const char *folder, error *e)
{
    return path_make_dir(folder, e) &&
           write_text(folder, "scheduler_config.json", ddpm_scheduler_json,
                      sizeof ddpm_scheduler_json - 1, e) &&
           write_network(folder, "", ddpm_json, sizeof ddpm_json - 1, e);
}

bool toy_controlnet(const char *folder, error *e)
{
    char *config = path_join(folder, "config.json");
    controlnet_config c;
    tensor *out[8];
    graph *g = NULL;
    bool ok = config && path_make_dir(folder, e) &&
              write_text(folder, "config.json", control_json, sizeof control_json - 1, e) &&
              controlnet_config_read(&c, config, e) && graph_open(&g, DTYPE_F32, e);
    if (ok) {
        tensor *picture = graph_input(g, "picture", DTYPE_F32, 4, (int64_t[]){1, 32, 32, 3});
        controlnet_build(g, &c, graph_input(g, "x", DTYPE_F32, 4, (int64_t[]){1, 16, 16, 4}),
                         graph_input(g, "t", DTYPE_F32, 1, (int64_t[]){1}),
                         graph_input(g, "text", DTYPE_F32, 3, (int64_t[]){1, 16, 32}), NULL, 1,
                         controlnet_build_hint(g, &c, picture), out);
    }
    ok = ok && write_weights(g, folder, "diffusion_pytorch_model.safetensors", e);
    graph_close(&g);
    free(config);
    return ok;
}
