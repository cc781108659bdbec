/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz: what the fuzzers share: bytes as a file that has a path. */
#ifndef LIKENESS_TESTS_FUZZ_H
#define LIKENESS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_write(int fd, const uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, data + done, size - done);
        if (n <= 0) abort();
        done += (size_t)n;
    }
}

/* A file in memory; its path is good until fuzz_close. */
typedef struct fuzz_file {
    int fd;
    char path[64];
} fuzz_file;

static inline fuzz_file fuzz_open(const uint8_t *data, size_t size)
{
    fuzz_file f = {.fd = memfd_create("fuzz", 0)};
    if (f.fd < 0) abort();
    fuzz_write(f.fd, data, size);
    snprintf(f.path, sizeof f.path, "/proc/self/fd/%d", f.fd);
    return f;
}

static inline void fuzz_close(fuzz_file *f) { close(f->fd); }

/* What failed said why; nothing failed in silence. */
static inline void fuzz_check(bool ok, const error *e)
{
    if (!ok && !e->text[0]) abort();
}

#endif
