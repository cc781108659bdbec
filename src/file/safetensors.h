/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors: reading (memory-mapped) and writing, with every check of the format: header length,
 * JSON, dtypes, shapes, offsets without gap or overlap, no duplicate names. */
#ifndef LIKENESS_FILE_SAFETENSORS_H
#define LIKENESS_FILE_SAFETENSORS_H

#include "base/arena.h"
#include "base/error.h"
#include "base/platform.h"
#include "base/types.h"

enum { SAFETENSORS_MAX_RANK = 8 };

typedef struct safetensors_entry {
    const char *name;
    dtype type;
    int rank;
    int64_t dim[SAFETENSORS_MAX_RANK];
    const void *data; /* in the mapping when reading, at any address: a file need not align it */
    uint64_t bytes;
} safetensors_entry;

typedef struct safetensors_pair {
    const char *key, *value;
} safetensors_pair;

typedef struct safetensors {
    mapped_file map;
    arena memory;
    safetensors_entry *entry; /* sorted by name */
    size_t count;
    safetensors_pair *metadata; /* __metadata__, file order */
    size_t metadata_count;
    bool bare; /* PyTorch's: a tensor alone, which has no name in the file */
} safetensors;

/* On failure *out is empty and needs no close. Messages name the file and the tensor. */
bool safetensors_open(safetensors *out, const char *path, error *e);
void safetensors_close(safetensors *s);
const safetensors_entry *safetensors_find(const safetensors *s, const char *name);

/* Writes entries in the order and layout of the Python library (widest element type first, then by
 * name), with the given metadata and {"format":"pt"} unless that names a format. Names, keys and
 * values are UTF-8. */
bool safetensors_write(const char *path, const safetensors_entry *entry, size_t count,
                       const safetensors_pair *metadata, size_t metadata_count, error *e);
/* The same, and the hash of the file, made while it is written. */
bool safetensors_write_hashed(const char *path, const safetensors_entry *entry, size_t count,
                              const safetensors_pair *metadata, size_t metadata_count,
                              char hash[65], error *e);

/* Puts an entry's bytes, which need not be in memory as they are to be written. */
typedef bool safetensors_put(void *context, const safetensors_entry *entry, file_writer *w,
                             error *e);
/* The same of entries whose `data` is put's business alone. hash: NULL, or where it goes. */
bool safetensors_write_with(const char *path, const safetensors_entry *entry, size_t count,
                            const safetensors_pair *metadata, size_t metadata_count, char *hash,
                            safetensors_put *put, void *context, error *e);

#endif
