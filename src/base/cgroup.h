/* SPDX-License-Identifier: Apache-2.0
 *
 * cgroup: what Linux's control groups, of either version, leave this process: the tightest limit of
 * its own group and of all above it. */
#ifndef LIKENESS_BASE_CGROUP_H
#define LIKENESS_BASE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the system keeps them: "/sys/fs/cgroup" and "/proc/self/cgroup", but for tests. */
typedef struct cgroup_place {
    const char *groups, *self;
} cgroup_place;

/* Bytes that can be had, page cache counted as free; UINT64_MAX: no limit. */
uint64_t cgroup_memory_left(const cgroup_place *place);
/* Processors, a part of one counted as a whole; INT32_MAX: no limit. */
int cgroup_processors(const cgroup_place *place);

/* Reads a small file of /proc or /sys into text; false where there is none. */
bool read_small(const char *path, char *text, size_t size);
/* The number behind `key` at the start of a line; false where there is none. */
bool find_number(const char *text, const char *key, uint64_t *out);

#endif
