/* SPDX-License-Identifier: Apache-2.0
 *
 * told: see told.h. Other programs pass over keys that they do not know. */
#include "model/told.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "base/sha256.h"
#include "model/save.h"
#include "model/write.h"

enum { CONFIG_LIMIT = 1 << 20, MERGES_LIMIT = 64 << 20 };

#define TOKENIZER "likeness.tokenizer"

static const char *const keys[] = {"likeness.unet", "likeness.text_encoder", "likeness.vae",
                                   "likeness.scheduler"};

bool told_tokenizer_of(const char *folder, char name[65], error *e)
{
    char *path = path_join(folder, "merges.txt"), *text = NULL;
    size_t size = 0;
    bool ok = path || error_memory(e, folder, strlen(folder)), there = ok && path_is_file(path);
    *name = '\0';
    if (there && (ok = file_read(path, MERGES_LIMIT, &text, &size, e))) sha256_of(name, text, size);
    free(text);
    free(path);
    return ok;
}

/* Whether a reader who takes the file for Stable Diffusion 1 makes other pictures of it. */
static bool is_ordinary(const model *m)
{
    scheduler_config usual;
    scheduler_config_sd1(&usual);
    return !model_single_loses(m) && !strcmp(m->scheduler.class_name, usual.class_name) &&
           !m->scheduler.has_spacing;
}

bool told_write(safetensors_pair pair[TOLD_PAIRS], size_t *count, const model *m, arena *memory,
                error *e)
{
    char name[65];
    *count = 0;
    if (is_ordinary(m)) return true;
    for (int i = 0; i < 4; i++) {
        char *text = model_config_text(m, i, e);
        const char *kept = text ? arena_strdup(memory, text) : NULL;
        free(text);
        if (!kept) return error_memory(e, m->path, CONFIG_LIMIT);
        pair[(*count)++] = (safetensors_pair){keys[i], kept};
    }
    if (m->tokenizer_folder && !told_tokenizer_of(m->tokenizer_folder, name, e)) return false;
    if (m->tokenizer_folder && *name) {
        const char *kept = arena_strdup(memory, name);
        if (!kept) return error_memory(e, m->path, sizeof name);
        pair[(*count)++] = (safetensors_pair){TOKENIZER, kept};
    }
    return true;
}

bool told_read(model *m, const weight_files *files, bool *told, error *e)
{
    const char *text[4];
    size_t found = 0;
    for (int i = 0; i < 4; i++) found += (text[i] = weight_files_told(files, keys[i])) != NULL;
    *told = found == 4;
    if (!found) return true;
    if (found < 4)
        return error_set(e, ERROR_FORMAT, "%s: its metadata tell only a part of its sizes",
                         m->path);
    for (int i = 0; i < 4; i++)
        if (!(m->told[i] = strdup(text[i]))) return error_memory(e, m->path, strlen(text[i]));
    return unet_config_parse(&m->unet, text[0], m->path, e) &&
           clip_config_parse(&m->clip, text[1], m->path, e) &&
           vae_config_parse(&m->vae, text[2], m->path, e) &&
           scheduler_config_parse(&m->scheduler, text[3], m->path, e) &&
           (m->unet.conditional ||
            error_set(e, ERROR_MODEL, "%s: its metadata tell of an unconditional model", m->path));
}

const char *told_tokenizer(const weight_files *files)
{
    return weight_files_told(files, TOKENIZER);
}
