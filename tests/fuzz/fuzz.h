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
#include "file/safetensors.h"

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

/* Bytes as a file of tensors of one kind: opened or refused; of an opened one every byte can be
 * read. */
static inline void fuzz_tensors(const uint8_t *data, size_t size,
                                bool (*open)(safetensors *, const char *, error *))
{
    error e = {0};
    safetensors s;
    fuzz_file f = fuzz_open(data, size);
    bool ok = open(&s, f.path, &e);
    fuzz_check(ok, &e);
    for (size_t i = 0; ok && i < s.count; i++) {
        const volatile uint8_t *bytes = s.entry[i].data;
        if (safetensors_find(&s, s.entry[i].name) != &s.entry[i]) abort();
        for (uint64_t k = 0; k < s.entry[i].bytes && k < 1 << 20; k++) (void)bytes[k];
        if (s.entry[i].bytes) (void)bytes[s.entry[i].bytes - 1];
    }
    if (ok) safetensors_close(&s);
    fuzz_close(&f);
}

#endif
