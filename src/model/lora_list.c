/* SPDX-License-Identifier: Apache-2.0
 *
 * lora_list: see lora_list.h. */
#include "model/lora_list.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/folder.h"
#include "base/platform.h"
#include "file/safetensors.h"

enum { DEPTH = 16 };

typedef struct walk {
    arena *memory;
    lora_file *first, **end;
    const char *in[DEPTH]; /* the folders that are being walked */
    error *e;
} walk;

/* The length of a file's name without its ending; 0: it is no LoRA's. */
static size_t stem(const char *file)
{
    static const char *const endings[] = {".safetensors", ".pt", ".ckpt"};
    size_t n = strlen(file);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t m = strlen(endings[i]);
        if (n > m && strcasecmp(file + n - m, endings[i]) == 0) return n - m;
    }
    return 0;
}

const char *lora_alias(const safetensors *file)
{
    for (size_t i = 0; i < file->metadata_count; i++)
        if (strcmp(file->metadata[i].key, "ss_output_name") == 0)
            return *file->metadata[i].value ? file->metadata[i].value : NULL;
    return NULL;
}

/* What is no safetensors file that can be read has none. */
static bool read_alias(walk *w, lora_file *file)
{
    safetensors opened;
    size_t n = strlen(file->path), ending = strlen(".safetensors");
    if (strcasecmp(file->path + n - ending, ".safetensors") != 0) return true;
    if (!safetensors_open(&opened, file->path, NULL)) return true;
    const char *alias = lora_alias(&opened);
    if (alias) file->alias = arena_strdup(w->memory, alias);
    safetensors_close(&opened);
    return !alias || file->alias || error_memory(w->e, file->path, strlen(file->path));
}

static bool add(walk *w, const char *path, const char *name, size_t length)
{
    lora_file *file = arena_alloc(w->memory, sizeof *file);
    char *its = arena_alloc(w->memory, length + 1);
    const char *kept = arena_strdup(w->memory, path);
    if (!file || !its || !kept) return error_memory(w->e, path, sizeof *file);
    memcpy(its, name, length);
    *file = (lora_file){.path = kept, .name = its};
    *w->end = file;
    w->end = &file->next;
    return read_alias(w, file);
}

static bool walk_folder(walk *w, const char *folder, int depth)
{
    folder_names names;
    bool ok = true;
    if (depth == DEPTH) return true;
    for (int i = 0; i < depth; i++)
        if (path_is_same(w->in[i], folder)) return true;
    if (!folder_list(&names, folder, w->e)) return false;
    w->in[depth] = folder;
    for (size_t i = 0; ok && i < names.count; i++) {
        char *path = path_join(folder, names.name[i]);
        size_t n = stem(names.name[i]);
        ok = path || error_memory(w->e, folder, strlen(folder));
        if (ok && path_is_dir(path)) {
            /* what may not be read below the folder is as if it were not there */
            error unread = {0}, *e = w->e;
            w->e = &unread;
            bool walked = walk_folder(w, path, depth + 1);
            w->e = e;
            ok = walked || unread.code != ERROR_MEMORY || error_memory(e, path, 0);
        } else if (ok && n) {
            ok = add(w, path, names.name[i], n);
        }
        free(path);
    }
    folder_list_free(&names);
    return ok;
}

bool lora_list(const lora_file **out, const char *folder, arena *memory, error *e)
{
    walk w = {.memory = memory, .end = &w.first, .e = e};
    bool ok = walk_folder(&w, folder, 0);
    *out = ok ? w.first : NULL;
    return ok;
}
