/* SPDX-License-Identifier: Apache-2.0
 *
 * zip: where the members of a mapped zip archive lie. Only stored (not packed) members have bytes
 * that can be used where they are; zip64 is read. */
#ifndef LIKENESS_FILE_ZIP_H
#define LIKENESS_FILE_ZIP_H

#include "base/arena.h"
#include "base/error.h"
#include "base/platform.h"

typedef struct zip_member {
    const char *name; /* in the mapping, without a NUL behind it */
    size_t length;
    uint64_t header, bytes; /* where its own header is; its size */
    uint16_t method, flags;
} zip_member;

typedef struct zip {
    const mapped_file *map;
    const char *path;   /* the caller's */
    zip_member *member; /* sorted by name */
    size_t count;
} zip;

bool zip_is(const void *begin, size_t size); /* by a file's first bytes */
/* Members are in `memory`. */
bool zip_read(zip *out, const mapped_file *map, const char *path, arena *memory, error *e);
const zip_member *zip_find(const zip *z, const char *name, size_t length); /* NULL: none */
/* Its bytes; NULL with an error where they are packed, encrypted, or not all there. */
const uint8_t *zip_data(const zip *z, const zip_member *member, error *e);

#endif
