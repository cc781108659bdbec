/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf_blocks: ggml's quantised blocks as numbers. For gguf.c alone. */
#ifndef LIKENESS_FILE_GGUF_BLOCKS_H
#define LIKENESS_FILE_GGUF_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

typedef struct gguf_block {
    const char *name; /* "Q8_0" */
    int numbers, bytes;
    void (*read)(float *out, const uint8_t *block);
} gguf_block;

/* The type with this number in ggml, or NULL: it is not read. */
const gguf_block *gguf_block_of(uint32_t type);
/* Its name where it is one of ggml's that is not read; NULL: no such type is known. */
const char *gguf_type_name(uint32_t type);

#endif
