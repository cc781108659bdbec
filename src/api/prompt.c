/* SPDX-License-Identifier: Apache-2.0
 *
 * prompt: what a prompt asks of the model that is to be opened for it, and which files may be that.
 */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "generate/prompts/script.h"
#include "model/lora_list.h"

/* Lists the LoRAs of a text that has no comments. */
static bool list_loras(lk_prompt_lora **list, size_t *count, const char *text, error *e)
{
    const char *at = text;
    size_t most = 0;
    while (script_next_tag(&at).length) most++;
    size_t room = most * sizeof **list, bytes = room + strlen(text) + most + 1;
    char *name = malloc(bytes);
    if (!name) return error_memory(e, "a prompt's LoRAs", bytes);
    *list = (lk_prompt_lora *)(void *)name;
    name += room;
    at = text;
    for (script_tag t; (t = script_next_tag(&at)).length;) {
        lk_prompt_lora *own = &(*list)[*count];
        if (!script_tag_is_lora(&t)) continue;
        if (!script_tag_weight(&t, &own->weight, e)) return false;
        memcpy(name, t.name, t.name_length);
        name[t.name_length] = '\0';
        own->name = name;
        name += t.name_length + 1;
        ++*count;
    }
    return true;
}

bool lk_prompt_loras(lk_prompt_lora **list, size_t *count, const char *prompt, lk_error *caller)
{
    error e = {0};
    char *text = script_uncomment(prompt);
    *list = NULL;
    *count = 0;
    bool ok = (text || error_memory(&e, "a prompt", strlen(prompt))) &&
              list_loras(list, count, text, &e);
    free(text);
    if (!ok) {
        free(*list);
        *list = NULL;
        *count = 0;
    }
    return api_report(ok, &e, caller);
}

/* ---- files ---- */

static size_t room_of(const char *text) { return text ? strlen(text) + 1 : 0; }

static const char *put(char **at, const char *text)
{
    char *to = *at;
    if (!text) return NULL;
    *at += strlen(text) + 1;
    return strcpy(to, text);
}

/* All of them in one block. */
static bool copy_files(lk_lora_file **list, size_t *count, const lora_file *first, error *e)
{
    size_t n = 0, bytes = 1;
    for (const lora_file *f = first; f; f = f->next, n++)
        bytes += sizeof **list + room_of(f->path) + room_of(f->name) + room_of(f->alias);
    *list = malloc(bytes);
    if (!*list) return error_memory(e, "a list of LoRAs", bytes);
    char *at = (char *)(*list + n);
    for (const lora_file *f = first; f; f = f->next)
        (*list)[(*count)++] = (lk_lora_file){put(&at, f->path), put(&at, f->name),
                                             put(&at, f->alias)};
    return true;
}

bool lk_lora_files(lk_lora_file **list, size_t *count, const char *folder, lk_error *caller)
{
    error e = {0};
    arena memory = {0};
    const lora_file *first;
    *list = NULL;
    *count = 0;
    bool ok = lora_list(&first, folder, &memory, &e) && copy_files(list, count, first, &e);
    arena_free(&memory);
    return api_report(ok, &e, caller);
}
