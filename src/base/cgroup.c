/* SPDX-License-Identifier: Apache-2.0
 *
 * cgroup: see cgroup.h. In version 2 all limits lie in one tree, in version 1 each kind has its
 * own. In a container the path of a process's group may belong to the host's view and be absent:
 * then only the root is found, which is the container's own. */
#include "base/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool read_small(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    size_t done = 0;
    while (done < size - 1) {
        ssize_t n = read(file, text + done, size - 1 - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    close(file);
    text[done] = '\0';
    return done > 0;
}

bool find_number(const char *text, const char *key, uint64_t *out)
{
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, key, length) != 0) continue;
        *out = strtoull(line + length, NULL, 10);
        return true;
    }
    return false;
}

/* A tree of groups: its folder below place->groups ("": itself), and the name by which this
 * process's path in it is listed ("": version 2's). */
typedef struct tree {
    const char *folder, *name;
} tree;

static const tree unified = {"", ""}, memory_tree = {"/memory", "memory"},
                  cpu_tree = {"/cpu", "cpu"};

/* Whether a list "cpu,cpuacct" of `length` has the name; an empty list is version 2's. */
static bool names_tree(const char *list, size_t length, const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || length == 0) return n == length;
    for (const char *end = list + length; list < end; list += strcspn(list, ",:") + 1)
        if (strcspn(list, ",:") == n && memcmp(list, name, n) == 0) return true;
    return false;
}

/* This process's group in the tree, from lines "5:memory:/a/b"; "" for the root or where it is not
 * named. */
static void group_path(const cgroup_place *place, const tree *t, char *out, size_t size)
{
    char text[4096];
    out[0] = '\0';
    if (!read_small(place->self, text, sizeof text)) return;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path || !names_tree(names + 1, (size_t)(path - names - 1), t->name)) continue;
        snprintf(out, size, "%s", strcmp(path + 1, "/") == 0 ? "" : path + 1);
        return;
    }
}

/* A file of one group. */
static bool read_of_group(const cgroup_place *place, const tree *t, const char *group,
                          const char *file, char *text, size_t size)
{
    char name[2 * PATH_MAX];
    snprintf(name, sizeof name, "%s%s%s/%s", place->groups, t->folder, group, file);
    return read_small(name, text, size);
}

/* The least of `limit` from this process's group up to the root. */
static uint64_t least_of(const cgroup_place *place, const tree *t,
                         uint64_t (*limit)(const cgroup_place *, const tree *, const char *))
{
    char group[PATH_MAX];
    group_path(place, t, group, sizeof group);
    for (uint64_t least = UINT64_MAX;;) {
        uint64_t this = limit(place, t, group);
        if (this < least) least = this;
        char *slash = strrchr(group, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

/* ---- memory ---- */

static uint64_t memory_left(const cgroup_place *place, const tree *t, const char *group,
                            const char *limit_file, const char *used_file, const char *cache_key)
{
    char text[8192];
    if (!read_of_group(place, t, group, limit_file, text, sizeof text) ||
        strncmp(text, "max", 3) == 0)
        return UINT64_MAX;
    uint64_t limit = strtoull(text, NULL, 10), used = 0, cache = 0;
    if (read_of_group(place, t, group, used_file, text, sizeof text))
        used = strtoull(text, NULL, 10);
    if (read_of_group(place, t, group, "memory.stat", text, sizeof text))
        find_number(text, cache_key, &cache);
    used -= cache < used ? cache : used;
    return limit > used ? limit - used : 0;
}

static uint64_t memory_left_2(const cgroup_place *place, const tree *t, const char *group)
{
    return memory_left(place, t, group, "memory.max", "memory.current", "inactive_file ");
}

static uint64_t memory_left_1(const cgroup_place *place, const tree *t, const char *group)
{
    return memory_left(place, t, group, "memory.limit_in_bytes", "memory.usage_in_bytes",
                       "total_inactive_file ");
}

uint64_t cgroup_memory_left(const cgroup_place *place)
{
    uint64_t two = least_of(place, &unified, memory_left_2);
    uint64_t one = least_of(place, &memory_tree, memory_left_1);
    return two < one ? two : one;
}

/* ---- processors ---- */

/* Time a period, in whole processors. */
static uint64_t processors(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) return UINT64_MAX; /* version 1 says -1 for none */
    return ((uint64_t)quota + (uint64_t)period - 1) / (uint64_t)period;
}

static uint64_t processors_2(const cgroup_place *place, const tree *t, const char *group)
{
    char text[256], *end;
    if (!read_of_group(place, t, group, "cpu.max", text, sizeof text) ||
        strncmp(text, "max", 3) == 0)
        return UINT64_MAX;
    long long quota = strtoll(text, &end, 10); /* "QUOTA PERIOD" */
    return processors(quota, strtoll(end, NULL, 10));
}

static uint64_t processors_1(const cgroup_place *place, const tree *t, const char *group)
{
    char quota[64], period[64];
    if (!read_of_group(place, t, group, "cpu.cfs_quota_us", quota, sizeof quota) ||
        !read_of_group(place, t, group, "cpu.cfs_period_us", period, sizeof period))
        return UINT64_MAX;
    return processors(strtoll(quota, NULL, 10), strtoll(period, NULL, 10));
}

int cgroup_processors(const cgroup_place *place)
{
    uint64_t two = least_of(place, &unified, processors_2);
    uint64_t one = least_of(place, &cpu_tree, processors_1);
    uint64_t least = two < one ? two : one;
    return least < INT32_MAX ? (int)least : INT32_MAX;
}
