/* SPDX-License-Identifier: Apache-2.0
 *
 * system: the machine's side of platform.h on Linux: blocks of memory, what memory and cores this
 * process may use (control groups included), the clock. */
#include <sched.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/cgroup.h"
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
    char *start = mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                       0);
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

static const cgroup_place cgroups = {"/sys/fs/cgroup", "/proc/self/cgroup"};

uint64_t memory_available(void)
{
    char text[8192];
    uint64_t kib = 0, least = UINT64_MAX;
    if (read_small("/proc/meminfo", text, sizeof text) && find_number(text, "MemAvailable:", &kib))
        least = kib * 1024;
    uint64_t left = cgroup_memory_left(&cgroups);
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
    int limit = cgroup_processors(&cgroups);
    if (count > limit) count = limit;
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
