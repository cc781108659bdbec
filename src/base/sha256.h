/* SPDX-License-Identifier: Apache-2.0
 *
 * sha256: FIPS 180-4, for the hash that names a model. */
#ifndef LIKENESS_BASE_SHA256_H
#define LIKENESS_BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    uint8_t block[64];
} sha256;

void sha256_start(sha256 *s);
void sha256_add(sha256 *s, const void *data, size_t size);
void sha256_end(sha256 *s, char hex[65]);
/* The hash of one piece of memory; data may be NULL where size is 0. */
void sha256_of(char hex[65], const void *data, size_t size);
/* The hash of a whole file. */
bool sha256_file(char hex[65], const char *path, error *e);

#endif
