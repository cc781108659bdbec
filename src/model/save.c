/* SPDX-License-Identifier: Apache-2.0
 *
 * save: see save.h. What a folder holds is copied; what a single file cannot say is written out of
 * the configurations, in the keys of diffusers and transformers. Weights are streamed from where
 * they lie. */
#include "model/save.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "device/device.h"
#include "file/fields.h"
#include "file/json.h"
#include "model/write.h"

enum { CONFIG_LIMIT = 1 << 20 };

#define DIFFUSERS_VERSION "0.42.0" /* whose keys the configurations are in */
#define UNET_WEIGHTS "diffusion_pytorch_model.safetensors"
#define VAE_WEIGHTS "diffusion_pytorch_model.safetensors"
#define CLIP_WEIGHTS "model.safetensors"

/* ---- files ---- */

static bool write_bytes(const char *folder, const char *name, const void *data, size_t size,
                        error *e)
{
    char *path = path_join(folder, name);
    if (!path) return error_memory(e, folder, strlen(folder) + strlen(name));
    bool ok = file_write(path, data, size, e);
    free(path);
    return ok;
}

static bool copy_file(const char *from, const char *folder, const char *name, error *e)
{
    mapped_file map;
    char *path = path_join(from, name);
    if (!path) return error_memory(e, from, strlen(from) + strlen(name));
    bool ok = file_map(&map, path, e);
    if (ok) {
        ok = write_bytes(folder, name, map.data, map.size, e);
        file_unmap(&map);
    }
    free(path);
    return ok;
}

/* Copies it if it is there; *there says so. */
static bool copy_if_there(const char *from, const char *folder, const char *name, bool *there,
                          error *e)
{
    char *path = path_join(from, name);
    if (!path) return error_memory(e, from, strlen(from) + strlen(name));
    *there = path_is_file(path);
    free(path);
    return !*there || copy_file(from, folder, name, e);
}

/* folder/part, made; NULL with an error. */
static char *make_part(const char *folder, const char *part, error *e)
{
    char *path = path_join(folder, part);
    if (!path)
        error_memory(e, folder, strlen(folder) + strlen(part));
    else if (path_make_dir(path, e))
        return path;
    free(path);
    return NULL;
}

/* ---- JSON ---- */

/* Frees root, which may be NULL: memory was out. */
static bool write_json(json_t *root, const char *folder, const char *name, error *e)
{
    char *text = root ? json_text(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    bool ok = text ? write_bytes(folder, name, text, strlen(text), e)
                   : error_memory(e, name, CONFIG_LIMIT);
    free(text);
    return ok;
}

static json_t *list_of_ints(const int *value, int count)
{
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, json_integer(value[i]))) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

/* One number where all are equal. */
static json_t *int_or_list(const int *value, int count)
{
    for (int i = 1; i < count; i++)
        if (value[i] != value[0]) return list_of_ints(value, count);
    return json_integer(value[0]);
}

/* One name a block; chosen: which of the two (NULL: always plain). */
static json_t *block_names(const char *name, const char *chosen_name, const bool *chosen, int count)
{
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, json_string(chosen && chosen[i] ? chosen_name : name))) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

/* ---- configurations ---- */

static json_t *unet_json(const unet_config *c)
{
    const char *mid = !c->mid_block      ? NULL
                      : c->mid_attention ? "UNetMidBlock2DCrossAttn"
                                         : "UNetMidBlock2D";
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:b, s:i, s:o, s:i, s:b, s:f, s:i, s:o, s:i, s:s?, s:f, s:i, "
        "s:i,"
        " s:i, s:o, s:o, s:b}",
        "_class_name", "UNet2DConditionModel", "_diffusers_version", DIFFUSERS_VERSION, "act_fn",
        "silu", "attention_head_dim", int_or_list(c->heads, c->blocks), "block_out_channels",
        list_of_ints(c->channels, c->blocks), "center_input_sample", 0, "cross_attention_dim",
        c->cross_dim, "down_block_types",
        block_names("DownBlock2D", "CrossAttnDownBlock2D", c->down_attention, c->blocks),
        "downsample_padding", c->downsample_padding, "flip_sin_to_cos", c->flip_sin_to_cos,
        "freq_shift", number_as_written(c->freq_shift), "in_channels", c->in_channels,
        "layers_per_block", int_or_list(c->layers, c->blocks), "mid_block_scale_factor", 1,
        "mid_block_type", mid, "norm_eps", number_as_written(c->eps), "norm_num_groups", c->groups,
        "out_channels", c->out_channels, "sample_size", c->sample_size,
        "transformer_layers_per_block", int_or_list(c->transformer_layers, c->blocks),
        "up_block_types",
        block_names("UpBlock2D", "CrossAttnUpBlock2D", c->up_attention, c->blocks),
        "use_linear_projection", c->linear_projection);
}

static json_t *vae_json(const vae_config *c)
{
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:i, s:i, s:i, s:b, s:i, s:i, s:i, s:f, s:o, s:o, s:b, s:b}",
        "_class_name", "AutoencoderKL", "_diffusers_version", DIFFUSERS_VERSION, "act_fn", "silu",
        "block_out_channels", list_of_ints(c->channels, c->blocks), "down_block_types",
        block_names("DownEncoderBlock2D", NULL, NULL, c->blocks), "in_channels", c->in_channels,
        "latent_channels", c->latent_channels, "layers_per_block", c->layers,
        "mid_block_add_attention", c->mid_attention, "norm_num_groups", c->groups, "out_channels",
        c->out_channels, "sample_size", c->sample_size, "scaling_factor",
        number_as_written(c->scaling_factor), "shift_factor",
        c->shift_factor != 0 ? json_real(number_as_written(c->shift_factor)) : json_null(),
        "up_block_types", block_names("UpDecoderBlock2D", NULL, NULL, c->blocks),
        "use_post_quant_conv", c->post_quant_conv, "use_quant_conv", c->quant_conv);
}

/* The special tokens' ids are those of every Stable Diffusion 1 (and not the tokenizer's: legacy,
 * and of no effect on the hidden states). */
static json_t *clip_json(const clip_config *c)
{
    return json_pack(
        "{s:[s], s:i, s:i, s:s, s:i, s:i, s:f, s:i, s:s, s:i, s:i, s:i, s:i, s:s, s:i}",
        "architectures", "CLIPTextModel", "bos_token_id", 0, "eos_token_id", 2, "hidden_act",
        c->activation == UNARY_GELU ? "gelu" : "quick_gelu", "hidden_size", c->hidden,
        "intermediate_size", c->intermediate, "layer_norm_eps", number_as_written(c->eps),
        "max_position_embeddings", c->positions, "model_type", "clip_text_model",
        "num_attention_heads", c->heads, "num_hidden_layers", c->layers, "pad_token_id", 1,
        "projection_dim", c->hidden, "torch_dtype", "float32", "vocab_size", c->vocab);
}

/* A single file's: the published one, but for what it predicts. timestep_spacing is left to the
 * scheduler that is used, as there. */
static json_t *scheduler_json(const scheduler_config *c)
{
    static const char *const predicts[] = {"epsilon", "v_prediction", "sample"};
    assert(c->betas == BETA_SCALED_LINEAR && !c->trained_betas && !c->has_spacing);
    json_t *root = json_pack(
        "{s:s, s:s, s:f, s:s, s:f, s:b, s:i, s:s, s:b, s:b, s:i, s:n}", "_class_name",
        c->class_name, "_diffusers_version", DIFFUSERS_VERSION, "beta_end",
        number_as_written(c->beta_end), "beta_schedule", "scaled_linear", "beta_start",
        number_as_written(c->beta_start), "clip_sample", c->clip_sample, "num_train_timesteps",
        c->train_steps, "prediction_type", predicts[c->predicts], "set_alpha_to_one",
        c->set_alpha_to_one, "skip_prk_steps", 1, "steps_offset", c->steps_offset, "trained_betas");
    if (root && c->zero_snr && json_object_set_new(root, "rescale_betas_zero_snr", json_true())) {
        json_decref(root);
        root = NULL;
    }
    return root;
}

/* Sets the key where it is there and differs; *changed turns true. Returns false when memory is
 * out. */
static bool change_text(json_t *object, const char *key, const char *text, bool *changed)
{
    const char *old = json_string_value(json_object_get(object, key));
    if (!json_object_get(object, key) || (old && !strcmp(old, text))) return true;
    *changed = true;
    return json_object_set_new(object, key, json_string(text)) == 0;
}

/* Copies a text encoder's config.json, which says in what type to load the weights: in float32,
 * whatever they are stored in, for so does diffusers load the other networks. */
static bool copy_clip_config(const char *from, const char *folder, error *e)
{
    static const char *const keys[] = {"torch_dtype", "dtype"}, type[] = "float32";
    char *path = path_join(from, "config.json");
    fields f;
    bool changed = false,
         ok = path ? fields_open(&f, path, CONFIG_LIMIT, e) : error_memory(e, from, strlen(from));
    if (ok) {
        json_t *text = json_object_get(f.root, "text_config"); /* of a whole CLIP */
        for (int i = 0; ok && i < 2; i++)
            ok = change_text(f.root, keys[i], type, &changed) &&
                 change_text(text, keys[i], type, &changed);
        if (!ok)
            error_memory(e, path, CONFIG_LIMIT);
        else if (changed)
            ok = write_json(json_incref(f.root), folder, "config.json", e);
        else
            ok = copy_file(from, folder, "config.json", e);
        fields_close(&f);
    }
    free(path);
    return ok;
}

static bool from_folder(const model *m) { return path_is_dir(m->path); }

/* Where the UNet's or the scheduler's files lie: flat repositories have them at the root. */
static char *part_of_source(const model *m, const char *part)
{
    char *inner = path_join(m->path, part);
    if (!inner || path_is_dir(inner)) return inner;
    free(inner);
    return strdup(m->path);
}

char *model_config_text(const model *m, int which, error *e)
{
    static const char *const parts[] = {"unet", "text_encoder", NULL, "scheduler"};
    char *folder = NULL, *text = NULL;
    if (m->told[which] && (which != 2 || !m->vae_folder)) {
        if (!(text = strdup(m->told[which]))) error_memory(e, m->path, CONFIG_LIMIT);
        return text;
    }
    if (which == 2 ? m->vae_folder != NULL : from_folder(m)) {
        folder = which == 2 ? strdup(m->vae_folder) : part_of_source(m, parts[which]);
        if (!folder) {
            error_memory(e, m->path, strlen(m->path));
            return NULL;
        }
        char *path = path_join(folder, which == 3 ? "scheduler_config.json" : "config.json");
        if (!path)
            error_memory(e, folder, 64);
        else if (!file_read(path, CONFIG_LIMIT, &text, NULL, e))
            text = NULL;
        free(path);
        free(folder);
        return text;
    }
    json_t *root = which == 0   ? unet_json(&m->unet)
                   : which == 1 ? clip_json(&m->clip)
                   : which == 2 ? vae_json(&m->vae)
                                : scheduler_json(&m->scheduler);
    text = root ? json_text(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) error_memory(e, m->path, CONFIG_LIMIT);
    return text;
}

/* ---- networks ---- */

static bool write_weights(const weight_set *set, const dtype *as, const char *folder,
                          const char *name, char *hash, error *e)
{
    char *path = path_join(folder, name);
    bool ok = path ? weights_write(set, as, path, hash, e) : error_memory(e, folder, strlen(name));
    free(path);
    return ok;
}

/* Copies one file out of a part of the model's folder. */
static bool copy_from_part(const model *m, const char *part, const char *folder, const char *name,
                           error *e)
{
    char *from = part_of_source(m, part);
    bool ok = from ? copy_file(from, folder, name, e) : error_memory(e, m->path, strlen(m->path));
    free(from);
    return ok;
}

bool model_refuse_unsavable(const model *m, error *e)
{
    if (m->inversion_hashes)
        return error_set(e, ERROR_MODEL,
                         "%s: has textual inversions added to it (%s), which cannot be saved with "
                         "it; open it without them",
                         m->path, m->inversion_hashes);
    return m->kind == MODEL_STABLE_DIFFUSION ||
           error_set(e, ERROR_MODEL,
                     "%s: is an unconditional model; only Stable Diffusion models are "
                     "saved",
                     m->path);
}

static bool save_unet(const model *m, const char *folder, const weight_set *unet, const dtype *as,
                      char *hash, error *e)
{
    if (!model_refuse_unsavable(m, e) || !path_make_dir(folder, e)) return false;
    bool ok = from_folder(m) ? copy_from_part(m, "unet", folder, "config.json", e)
                             : write_json(unet_json(&m->unet), folder, "config.json", e);
    return ok && write_weights(unet ? unet : &m->unet_weights, as, folder, UNET_WEIGHTS, hash, e);
}

bool model_save_unet(const model *m, const char *folder, const weight_set *unet, char hash[65],
                     error *e)
{
    return save_unet(m, folder, unet, NULL, hash, e);
}

/* as_is: the configuration says what the source's says. */
static bool save_clip(const model *m, const char *folder, const weight_set *clip, const dtype *as,
                      bool as_is, char *hash, error *e)
{
    if (!from_folder(m))
        return write_json(clip_json(&m->clip), folder, "config.json", e) &&
               write_weights(clip, as, folder, CLIP_WEIGHTS, hash, e);
    char *from = path_join(m->path, "text_encoder");
    bool ok = !from   ? error_memory(e, m->path, strlen(m->path))
              : as_is ? copy_file(from, folder, "config.json", e)
                      : copy_clip_config(from, folder, e);
    free(from);
    return ok && write_weights(clip, as, folder, CLIP_WEIGHTS, hash, e);
}

bool model_save_clip(const model *m, const char *folder, const weight_set *clip, char hash[65],
                     error *e)
{
    return model_refuse_unsavable(m, e) && path_make_dir(folder, e) &&
           save_clip(m, folder, clip ? clip : &m->clip_weights, NULL, !clip, hash, e);
}

static bool save_vae(const model *m, const char *folder, const dtype *as, error *e)
{
    bool ok = m->vae_folder ? copy_file(m->vae_folder, folder, "config.json", e)
                            : write_json(vae_json(&m->vae), folder, "config.json", e);
    return ok && write_weights(&m->vae_weights, as, folder, VAE_WEIGHTS, NULL, e);
}

/* ---- the rest of a folder ---- */

static bool save_scheduler(const model *m, const char *folder, const dtype *as, error *e)
{
    (void)as;
    if (from_folder(m)) return copy_from_part(m, "scheduler", folder, "scheduler_config.json", e);
    const char *told = m->told[3];
    if (told) return write_bytes(folder, "scheduler_config.json", told, strlen(told), e);
    return write_json(scheduler_json(&m->scheduler), folder, "scheduler_config.json", e);
}

/* By name: a single file's tokenizer may lie in a folder of many other files. Without
 * tokenizer_config.json transformers would not know how long a prompt may be. */
/* A vocabulary that follows from the merges is written out: others do not derive it. */
static bool save_tokenizer(const model *m, const char *folder, const dtype *as, error *e)
{
    (void)as;
    static const char settings[] = "tokenizer_config.json";
    static const char *const names[] = {"tokenizer.json",    "vocab.json",
                                        "merges.txt",        "special_tokens_map.json",
                                        "added_tokens.json", settings};
    enum { FAST, VOCAB, SETTINGS = 5, COUNT };
    bool there[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        if (!copy_if_there(m->tokenizer_folder, folder, names[i], &there[i], e)) return false;
    if (!there[FAST] && !there[VOCAB] &&
        !write_json(tokenizer_vocab(m->tokens), folder, names[VOCAB], e))
        return false;
    return there[SETTINGS] ||
           write_json(json_pack("{s:b, s:s, s:b, s:s, s:s, s:i, s:s, s:s, s:s}", "add_prefix_space",
                                0, "bos_token", "<|startoftext|>", "do_lower_case", 1, "eos_token",
                                "<|endoftext|>", "errors", "replace", "model_max_length",
                                m->clip.positions, "pad_token", "<|endoftext|>", "tokenizer_class",
                                "CLIPTokenizer", "unk_token", "<|endoftext|>"),
                      folder, settings, e);
}

/* Copies what makes a component without weights; *there: the model has one. */
static bool save_feature_extractor(const model *m, const char *folder, bool *there, error *e)
{
    static const char *const names[] = {"preprocessor_config.json", "processor_config.json"};
    char *from = path_join(m->path, "feature_extractor"), *to = NULL;
    bool ok = from || error_memory(e, m->path, strlen(m->path));
    *there = false;
    if (ok && path_is_dir(from)) {
        to = make_part(folder, "feature_extractor", e);
        ok = to;
        for (int i = 0; ok && i < 2; i++) {
            bool found;
            ok = copy_if_there(from, to, names[i], &found, e);
            *there = *there || found;
        }
    }
    free(to);
    free(from);
    return ok;
}

/* A component that the pipeline has: [library, class], both texts. */
static bool names_component(const json_t *value)
{
    return json_is_string(json_array_get(value, 0)) && json_is_string(json_array_get(value, 1));
}

/* model_index.json out of the source's (NULL: there is none); NULL when memory is out. */
static json_t *index_json(const model *m, const json_t *source, bool feature_extractor)
{
    json_t *root = json_pack(
        "{s:s, s:s, s:[nn], s:[nn], s:b, s:[nn], s:[ss], s:[ss], s:[ss], s:[ss], s:[ss]}",
        "_class_name", "StableDiffusionPipeline", "_diffusers_version", DIFFUSERS_VERSION,
        "feature_extractor", "image_encoder", "requires_safety_checker", 0, "safety_checker",
        "scheduler", "diffusers",
        *m->scheduler.class_name ? m->scheduler.class_name : "PNDMScheduler", "text_encoder",
        "transformers", "CLIPTextModel", "tokenizer", "transformers", "CLIPTokenizer", "unet",
        "diffusers", "UNet2DConditionModel", "vae", "diffusers", "AutoencoderKL");
    bool ok = root;
    for (void *i = json_object_iter((json_t *)(uintptr_t)source); ok && i;
         i = json_object_iter_next((json_t *)(uintptr_t)source, i)) {
        const char *key = json_object_iter_key(i);
        json_t *value = json_object_iter_value(i);
        bool left_out = !strcmp(key, "safety_checker") || !strcmp(key, "requires_safety_checker") ||
                        !strcmp(key, "image_encoder") ||
                        (!strcmp(key, "feature_extractor") && !feature_extractor);
        bool nothing_there = names_component(json_object_get(root, key)) && !names_component(value);
        if (!left_out && !nothing_there) ok = json_object_set(root, key, value) == 0;
    }
    if (ok) return root;
    json_decref(root);
    return NULL;
}

static bool save_index(const model *m, const char *folder, bool feature_extractor, error *e)
{
    static const char name[] = "model_index.json";
    fields f = {0};
    char *path = path_join(m->path, name);
    bool ok = path || error_memory(e, m->path, strlen(m->path));
    if (ok && path_is_file(path)) ok = fields_open(&f, path, CONFIG_LIMIT, e);
    ok = ok && write_json(index_json(m, f.root, feature_extractor), folder, name, e);
    fields_close(&f);
    free(path);
    return ok;
}

/* ---- the whole ---- */

static bool refuse_own_folder(const model *m, const char *folder, error *e)
{
    char *mine = realpath(m->path, NULL), *other = realpath(folder, NULL);
    bool same = mine && other && !strcmp(mine, other);
    free(mine);
    free(other);
    return !same || error_set(e, ERROR_USAGE,
                              "%s: the model itself lies there; choose another folder to "
                              "save to",
                              folder);
}

typedef bool save_part(const model *m, const char *folder, const dtype *as, error *e);

static bool save_in(const model *m, const char *folder, const char *part, save_part *save,
                    const dtype *as, error *e)
{
    char *path = make_part(folder, part, e);
    bool ok = path && save(m, path, as, e);
    free(path);
    return ok;
}

enum { SAVE_STEPS = 3 }; /* autoencoder, text encoder, UNet */

/* A text encoder that stays half beside a UNet in float32 would not run with it as diffusers loads
 * them. */
static bool save_networks(const model *m, const char *folder, const weight_set *unet,
                          const weight_set *clip, const dtype *as, const work_watch *watch,
                          error *e)
{
    char *unet_folder = make_part(folder, "unet", e);
    char *clip_folder = unet_folder ? make_part(folder, "text_encoder", e) : NULL;
    bool ok = clip_folder &&
              save_clip(m, clip_folder, clip ? clip : &m->clip_weights, as, !clip && !unet && !as,
                        NULL, e) &&
              work_goes_on(watch, 2, SAVE_STEPS, e) && save_unet(m, unet_folder, unet, as, NULL, e);
    free(clip_folder);
    free(unet_folder);
    return ok;
}

bool model_save(const model *m, const char *folder, const weight_set *unet, const weight_set *clip,
                error *e)
{
    return model_save_unless(m, folder, unet, clip, NULL, NULL, e);
}

/* The index comes last: a folder that has it is whole. */
bool model_save_unless(const model *m, const char *folder, const weight_set *unet,
                       const weight_set *clip, const dtype *as, const work_watch *watch, error *e)
{
    bool feature_extractor = false;
    return model_refuse_unsavable(m, e) && refuse_own_folder(m, folder, e) &&
           path_make_dir(folder, e) && save_in(m, folder, "scheduler", save_scheduler, as, e) &&
           save_in(m, folder, "tokenizer", save_tokenizer, as, e) &&
           save_feature_extractor(m, folder, &feature_extractor, e) &&
           work_goes_on(watch, 0, SAVE_STEPS, e) && save_in(m, folder, "vae", save_vae, as, e) &&
           work_goes_on(watch, 1, SAVE_STEPS, e) &&
           save_networks(m, folder, unet, clip, as, watch, e) &&
           work_goes_on(watch, SAVE_STEPS, SAVE_STEPS, e) &&
           save_index(m, folder, feature_extractor, e);
}
