/* SPDX-License-Identifier: Apache-2.0
 *
 * system: the machine's side of platform.h on Linux: blocks of memory, what memory and cores this
 * process may use (control groups included), the clock. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/platform.h"

enum { HUGE_PAGE = 2 << 20 };

/* Blocks of a huge page or more are whole huge pages, so that the kernel can use these all over. */
static size_t block_size(size_t size)
{
    size_t unit = size >= HUGE_PAGE ? HUGE_PAGE : 4096;
    if (size == 0) size = 1;
    return size > SIZE_MAX - 2 * (size_t)HUGE_PAGE ? 0 : (size + unit - 1) / unit * unit;
}

void *block_alloc(size_t size)
{
    size = block_size(size);
    if (size == 0) return NULL;
    size_t slack = size >= HUGE_PAGE ? HUGE_PAGE : 0;
    char *start = mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
    if (start == MAP_FAILED) return NULL;
    if (slack) { /* mmap aligns to 4 KiB only: take more, give back what is around */
        size_t before = (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE;
        if (before) munmap(start, before);
        if (slack > before) munmap(start + before + size, slack - before);
        start += before;
        madvise(start, size, MADV_HUGEPAGE); /* only a wish: without it the block works, slower */
    }
    return start;
}

void block_free(void *block, size_t size)
{
    if (block) munmap(block, block_size(size));
}

/* Reads a small file of /proc or /sys into text; false where there is none. */
static bool read_small(const char *path, char *text, size_t size)
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

/* The number behind `key` at the start of a line; false where there is none. */
static bool find_number(const char *text, const char *key, uint64_t *out)
{
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, key, length) != 0) continue;
        *out = strtoull(line + length, NULL, 10);
        return true;
    }
    return false;
}

/* The files of one version of control groups. */
typedef struct cgroup_kind {
    const char *root, *memory_limit, *memory_used, *cache_key;
    bool unified;
} cgroup_kind;

static const cgroup_kind cgroup_v2 = {
    .root = "/sys/fs/cgroup",
    .memory_limit = "memory.max",
    .memory_used = "memory.current",
    .cache_key = "inactive_file ",
    .unified = true,
};
static const cgroup_kind cgroup_v1 = {
    .root = "/sys/fs/cgroup/memory",
    .memory_limit = "memory.limit_in_bytes",
    .memory_used = "memory.usage_in_bytes",
    .cache_key = "total_inactive_file ",
    .unified = false,
};

/* This process's path in the unified hierarchy ("0::/a/b") or in version 1's memory hierarchy
 * ("5:memory:/a/b"), "/" where it is not named. */
static void cgroup_path(const cgroup_kind *kind, char *out, size_t size)
{
    char text[4096];
    out[0] = '\0';
    if (!read_small("/proc/self/cgroup", text, sizeof text)) return;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        bool is_unified = path == names + 1;
        bool is_memory = (size_t)(path - names - 1) == 6 && memcmp(names + 1, "memory", 6) == 0;
        if (kind->unified ? is_unified : is_memory) {
            snprintf(out, size, "%s", strcmp(path + 1, "/") == 0 ? "" : path + 1);
            return;
        }
    }
}

/* What this group leaves to be had: its limit less its use, where page cache counts as free. */
static uint64_t cgroup_memory_left(const cgroup_kind *kind, const char *path)
{
    char name[PATH_MAX + 128], text[8192];
    snprintf(name, sizeof name, "%s%s/%s", kind->root, path, kind->memory_limit);
    if (!read_small(name, text, sizeof text) || strncmp(text, "max", 3) == 0) return UINT64_MAX;
    uint64_t limit = strtoull(text, NULL, 10), used = 0, cache = 0;
    snprintf(name, sizeof name, "%s%s/%s", kind->root, path, kind->memory_used);
    if (read_small(name, text, sizeof text)) used = strtoull(text, NULL, 10);
    snprintf(name, sizeof name, "%s%s/memory.stat", kind->root, path);
    if (read_small(name, text, sizeof text)) find_number(text, kind->cache_key, &cache);
    used -= cache < used ? cache : used;
    return limit > used ? limit - used : 0;
}

/* The tightest limit from this process's group up to the root. In a container the path may belong
 * to the host's view and be absent here: then only the root is found, the container's own. */
static uint64_t cgroup_memory(const cgroup_kind *kind)
{
    char path[PATH_MAX];
    cgroup_path(kind, path, sizeof path);
    uint64_t least = UINT64_MAX;
    for (;;) {
        uint64_t left = cgroup_memory_left(kind, path);
        if (left < least) least = left;
        char *slash = strrchr(path, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

uint64_t memory_available(void)
{
    char text[8192];
    uint64_t kib = 0, least = UINT64_MAX;
    if (read_small("/proc/meminfo", text, sizeof text) && find_number(text, "MemAvailable:", &kib))
        least = kib * 1024;
    uint64_t left = cgroup_memory(&cgroup_v2);
    if (left < least) least = left;
    left = cgroup_memory(&cgroup_v1);
    return left < least ? left : least;
}

uint64_t memory_peak(void)
{
    char text[8192];
    uint64_t kib;
    /* not ru_maxrss, which still holds the peak of the process that started this one */
    if (read_small("/proc/self/status", text, sizeof text) && find_number(text, "VmHWM:", &kib))
        return kib * 1024;
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

int cpu_count(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    bool known = sched_getaffinity(0, sizeof set, &set) == 0;
    long count = known ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    char path[PATH_MAX], name[PATH_MAX + 128], text[256];
    cgroup_path(&cgroup_v2, path, sizeof path);
    snprintf(name, sizeof name, "%s%s/cpu.max", cgroup_v2.root, path);
    if (read_small(name, text, sizeof text) && strncmp(text, "max", 3) != 0) { /* "QUOTA PERIOD" */
        char *end;
        long long quota = strtoll(text, &end, 10), period = strtoll(end, NULL, 10);
        long cores = period > 0 ? (long)((quota + period - 1) / period) : count;
        if (cores >= 1 && cores < count) count = cores;
    }
    return count >= 1 ? (int)count : 1;
}

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

uint32_t random_number(void)
{
    uint32_t number;
    if (getrandom(&number, sizeof number, 0) == (ssize_t)sizeof number) return number;
    struct timespec now; /* a kernel without getrandom */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((uint32_t)now.tv_nsec ^ (uint32_t)now.tv_sec ^ (uint32_t)getpid() << 16) * 2654435761u;
}
