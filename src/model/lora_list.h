/* SPDX-License-Identifier: Apache-2.0
 *
 * lora_list: the LoRA files of a folder and of all below it, and what prompts may call them, as
 * AUTOMATIC1111 has it: a file's name without its ending, or the name that its trainer gave it. */
#ifndef LIKENESS_MODEL_LORA_LIST_H
#define LIKENESS_MODEL_LORA_LIST_H

#include "base/arena.h"
#include "base/error.h"

typedef struct lora_file {
    const char *path, *name;
    const char *alias; /* kohya's ss_output_name in its metadata; NULL: it has none */
    struct lora_file *next;
} lora_file;

/* In the order of their paths, in the arena; *out is NULL where there are none. A link to a folder
 * that it lies in is not followed. */
bool lora_list(const lora_file **out, const char *folder, arena *memory, error *e);
/* The ss_output_name in the metadata of what is open; NULL: it has none. */
struct safetensors;
const char *lora_alias(const struct safetensors *file);

#endif
