/* SPDX-License-Identifier: Apache-2.0
 *
 * detect: see detect.h. */
#include "model/detect.h"

#include <stdlib.h>
#include <string.h>

#include "file/fields.h"
#include "model/adapter.h"

#define SUPPORTED "Likeness runs Stable Diffusion 1.x and unconditional DDPM models"
#define UNET "model.diffusion_model."

/* A tensor whose presence (any dim < 0) or whose dimension tells what a file is. */
typedef struct mark {
    const char *name;
    int dim;
    int64_t size;
    const char *what;
} mark;

static const mark single_marks[] = {
    {UNET "joint_blocks.0.x_block.attn.qkv.weight", -1, 0, "Stable Diffusion 3"},
    {"joint_blocks.0.x_block.attn.qkv.weight", -1, 0, "Stable Diffusion 3"},
    {UNET "double_blocks.0.img_attn.qkv.weight", -1, 0, "Flux"},
    {"double_blocks.0.img_attn.qkv.weight", -1, 0, "Flux"},
    {"conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight", -1, 0,
     "Stable Diffusion XL"},
    {UNET "label_emb.0.0.weight", -1, 0, "Stable Diffusion XL"},
    {"cond_stage_model.model.token_embedding.weight", -1, 0, "Stable Diffusion 2"},
    {UNET "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1, 1024, "Stable Diffusion 2"},
    {UNET "input_blocks.0.0.weight", 1, 8, "an InstructPix2Pix model (8 input channels)"},
};

static bool has_part(const weight_files *files, const char *prefix)
{
    return weight_files_have_prefix(files, prefix);
}

/* diffusers' file of one tensor, a row or some, under the word, of a small model's width too where
 * it has no dots or colons, as the names of weights do; AUTOMATIC1111's names. */
static bool is_inversion(const weight_files *files)
{
    const safetensors_entry *first = weight_files_entry(files, 0);
    bool alone = first && !weight_files_entry(files, 1);
    return weight_files_find(files, "emb_params") ||
           weight_files_find(files, "string_to_param.*") ||
           (alone && first->rank >= 1 && first->rank <= 2 &&
            first->dim[first->rank - 1] % (strpbrk(first->name, ".:") ? 64 : 16) == 0 &&
            (first->rank == 1 || first->dim[0] <= 75));
}

bool detect_single(const weight_files *files, const char *path, error *e)
{
    if (weight_files_find(files, "control_model.input_blocks.0.0.weight"))
        return error_set(
            e, ERROR_MODEL,
            "%s: this is a ControlNet, not a model: give it with --control FILE:IMAGE, "
            "and the model with -m",
            path);
    for (size_t i = 0; i < sizeof single_marks / sizeof *single_marks; i++) {
        const mark *m = &single_marks[i];
        const safetensors_entry *found = weight_files_find(files, m->name);
        if (found && (m->dim < 0 || (m->dim < found->rank && found->dim[m->dim] == m->size)))
            return error_set(e, ERROR_MODEL, "%s: this is %s, not supported: " SUPPORTED, path,
                             m->what);
    }
    naming vae;
    if (is_inversion(files))
        return error_set(e, ERROR_MODEL,
                         "%s: this is a textual inversion, a word for a model: give the model with "
                         "-m, and this with --embedding",
                         path);
    adapter a = adapter_look(files);
    if (a.what) {
        char text[200];
        adapter_text(&a, text, sizeof text);
        return error_set(
            e, ERROR_MODEL,
            "%s: this is %s; it changes a model and is not one: give the model with -m, and this "
            "with --lora",
            path, text);
    }
    if (has_part(files, "down_blocks.") || has_part(files, "text_model."))
        return error_set(e, ERROR_MODEL,
                         "%s: this is one network of a diffusers folder; give the folder "
                         "that has model_index.json",
                         path);
    if (!has_part(files, UNET) && detect_vae(files, &vae))
        return error_set(e, ERROR_MODEL,
                         "%s: this is only a VAE; give a model with -m, and this with "
                         "--vae",
                         path);
    if (detect_taesd(files, &vae))
        return error_set(e, ERROR_MODEL,
                         "%s: this is only a tiny autoencoder; give a model with -m, and this with "
                         "--taesd",
                         path);
    if (!has_part(files, UNET))
        return error_set(
            e, ERROR_MODEL,
            "%s: holds no model that is known (no tensor is called " UNET "...): " SUPPORTED, path);
    if (!has_part(files, "cond_stage_model.transformer."))
        return error_set(e, ERROR_MODEL,
                         "%s: has no text encoder (cond_stage_model.transformer...); take "
                         "a full checkpoint",
                         path);
    return true;
}

bool detect_for_lora(const char *path, error *e)
{
    weight_files *files;
    naming vae;
    const char *what = NULL, *flag = NULL;
    if (!weight_files_open(&files, (char *[]){(char *)(uintptr_t)path}, 1, e)) return false;
    if (weight_files_find(files, "control_model.input_blocks.0.0.weight"))
        what = "a ControlNet", flag = "--control FILE:IMAGE";
    else if (has_part(files, UNET))
        what = "a whole model", flag = "-m";
    else if (is_inversion(files))
        what = "a textual inversion, a word for a model", flag = "--embedding";
    else if (has_part(files, "down_blocks.") || has_part(files, "text_model."))
        what = "one network of a diffusers folder", flag = "-m, the folder";
    else if (detect_vae(files, &vae))
        what = "a VAE", flag = "--vae";
    else if (detect_taesd(files, &vae))
        what = "a tiny autoencoder", flag = "--taesd";
    weight_files_release(&files);
    return !what || error_set(e, ERROR_MODEL, "%s: this is %s, not a LoRA: give it with %s", path,
                              what, flag);
}

/* What is no model but goes beside one, by its config.json's class, or by the file in it. */
static const struct part {
    const char *class_name, *file, *what, *flag;
} parts[] = {{"ControlNetModel", "config.json", "a ControlNet", "--control FOLDER:IMAGE"},
             {"AutoencoderTiny", "config.json", "a tiny autoencoder", "--taesd FOLDER"},
             {"AutoencoderKL", "config.json", "a VAE", "--vae FOLDER"},
             {NULL, "pytorch_lora_weights.safetensors", "a LoRA",
              "--lora FOLDER/pytorch_lora_weights.safetensors"},
             {NULL, "learned_embeds.safetensors", "a textual inversion",
              "--embedding FOLDER/learned_embeds.safetensors"}};

static bool is_there(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool there = path && path_is_file(path);
    free(path);
    return there;
}

/* NULL: none of them, or a model that such a file lies in. */
static const struct part *part_in(const char *folder)
{
    const struct part *found = NULL;
    bool config = is_there(folder, "config.json");
    fields f;
    if (is_there(folder, "model_index.json") || is_there(folder, "unet/config.json")) return NULL;
    char *path = config ? path_join(folder, "config.json") : NULL;
    error unread = {0}; /* what cannot be read is told where a model is wanted of it */
    bool open = path && fields_open(&f, path, 1 << 20, &unread);
    const char *class_name = open ? field_text(&f, "_class_name", "") : "";
    for (size_t i = 0; !found && i < sizeof parts / sizeof *parts; i++)
        if (parts[i].class_name ? strcmp(class_name, parts[i].class_name) == 0
                                : !config && is_there(folder, parts[i].file))
            found = &parts[i];
    if (open) fields_close(&f);
    free(path);
    return found;
}

bool detect_folder(const char *folder, error *e)
{
    const struct part *part = part_in(folder);
    if (part)
        return error_set(e, ERROR_MODEL,
                         "%s: this is %s, not a model: give the model with -m, and this with %s",
                         folder, part->what, part->flag);
    static const struct {
        const char *class_part, *what;
    } known[] = {{"StableDiffusionXL", "Stable Diffusion XL"},
                 {"StableDiffusion3", "Stable Diffusion 3"},
                 {"Flux", "Flux"},
                 {"InstructPix2Pix", "an InstructPix2Pix model"},
                 {"Upscale", "an upscaling model"},
                 {"Depth2Img", "a depth-conditioned model"},
                 {"ControlNet", "a ControlNet pipeline"},
                 {"Kandinsky", "Kandinsky"},
                 {"Wuerstchen", "Wuerstchen"},
                 {"PixArt", "PixArt"},
                 {"LatentConsistency", "a latent consistency model"}};
    char *path = path_join(folder, "model_index.json");
    if (!path) return error_memory(e, folder, strlen(folder));
    fields f;
    bool there = path_is_file(path), ok = true;
    if (there && fields_open(&f, path, 1 << 20, e)) {
        const char *class_name = field_text(&f, "_class_name", "");
        for (size_t i = 0; f.ok && i < sizeof known / sizeof *known; i++)
            if (strstr(class_name, known[i].class_part))
                f.ok = error_set(e, ERROR_MODEL,
                                 "%s: this is %s (%.60s), not supported: " SUPPORTED, folder,
                                 known[i].what, class_name);
        ok = f.ok;
        fields_close(&f);
    } else if (there) {
        ok = false;
    }
    free(path);
    return ok;
}

bool detect_describe(char **text, const char *path, error *e)
{
    weight_files *files;
    naming vae;
    char what[200] = "";
    *text = NULL;
    if (path_is_dir(path)) {
        const struct part *part = part_in(path);
        if (!part) return true;
        *text = string_format("%s\n  %-14s%s, to be given with %s\n", path, "folder", part->what,
                              part->flag);
        return *text || error_memory(e, path, sizeof what);
    }
    if (!weight_files_open(&files, (char *[]){(char *)(uintptr_t)path}, 1, e)) return false;
    adapter a = adapter_look(files);
    if (a.what)
        adapter_text(&a, what, sizeof what);
    else if (is_inversion(files))
        snprintf(what, sizeof what, "a textual inversion, to be given with --embedding");
    else if (!has_part(files, UNET) && detect_vae(files, &vae))
        snprintf(what, sizeof what, "a VAE (%s names), to be given with --vae",
                 vae.ldm ? "original" : "diffusers'");
    else if (detect_taesd(files, &vae))
        snprintf(what, sizeof what, "a tiny autoencoder (%s names), to be given with --taesd",
                 vae.ldm ? "original" : "diffusers'");
    weight_files_release(&files);
    if (!*what) return true;
    *text = string_format("%s\n  %-14s%s\n", path, "file", what);
    return *text || error_memory(e, path, sizeof what);
}

bool detect_taesd(const weight_files *files, naming *out)
{
    static const char *const prefixes[] = {"", "decoder.", "taesd_decoder."};
    *out = (naming){.network = NETWORK_TAESD, .prefix = ""};
    if (weight_files_find(files, "decoder.layers.2.conv.0.weight")) return true;
    out->ldm = true;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        for (int first = 0; first < 2; first++) { /* what has no weights may be counted or not */
            char conv[64], block[64];
            snprintf(conv, sizeof conv, "%s%d.weight", prefixes[i], first);
            snprintf(block, sizeof block, "%s%d.conv.0.weight", prefixes[i], first + 2);
            if (!weight_files_find(files, conv) || !weight_files_find(files, block)) continue;
            out->prefix = prefixes[i];
            out->first = first;
            return true;
        }
    return false;
}

bool detect_vae(const weight_files *files, naming *out)
{
    static const struct {
        const char *prefix;
        bool ldm;
        const char *sign;
    } styles[] = {
        {"first_stage_model.", true, "first_stage_model.decoder.mid.block_1.norm1.weight"},
        {"vae.", true, "vae.decoder.mid.block_1.norm1.weight"},
        {"", true, "decoder.mid.block_1.norm1.weight"},
        {"", false, "decoder.mid_block.resnets.0.norm1.weight"}};
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++)
        if (weight_files_find(files, styles[i].sign)) {
            *out = (naming){
                .network = NETWORK_VAE, .ldm = styles[i].ldm, .prefix = styles[i].prefix};
            return true;
        }
    return false;
}
