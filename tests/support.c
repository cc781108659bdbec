/* SPDX-License-Identifier: Apache-2.0
 *
 * support: see support.h. */
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>
#include <locale.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef LIKENESS_SANITIZED

bool allocation_can_fail(void) { return false; }
void allocation_fail_at(long n) { (void)n; }
bool allocation_fail_end(void) { return false; }

#else

/* The program's malloc comes before libc's for every library; glibc's own has a second name. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static _Thread_local long countdown = -1; /* allocations until one fails; -1: none will */
static _Thread_local bool struck;

/* jansson 2.14 does not look whether its buffer for a token could grow and writes past it; libwebp
 * 1.2.4 crashes while decoding lossless pictures; giflib and libtiff call a failed allocation
 * damage. What these allocate themselves is spared. */
static bool spared(const void *caller)
{
    Dl_info info;
    long kept = countdown;
    countdown = -1; /* dladdr may allocate */
    bool found = dladdr(caller, &info) && info.dli_fname;
    bool fragile = found &&
                   (strstr(info.dli_fname, "libjansson") || strstr(info.dli_fname, "libwebp") ||
                    strstr(info.dli_fname, "libgif") || strstr(info.dli_fname, "libtiff"));
    countdown = kept;
    return fragile;
}

static bool fails_now(const void *caller)
{
    if (countdown < 0 || spared(caller) || countdown-- > 0) return false;
    struck = true;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

bool allocation_can_fail(void) { return true; }

void allocation_fail_at(long n)
{
    countdown = n;
    struck = false;
}

bool allocation_fail_end(void)
{
    countdown = -1;
    return struck;
}

#endif

/* The next of four buffers, so that two or three results can be used in one call. */
static char *next_buffer(void)
{
    static char buffer[4][1024];
    static int next;
    return buffer[next++ % 4];
}

const char *fixture_path(const char *name)
{
    char *path = next_buffer();
    snprintf(path, 1024, "%s/tests/fixtures/%s", SOURCE_DIR, name);
    return access(path, F_OK) == 0 ? path : NULL;
}

const char *shared_path(const char *name)
{
    char *path = next_buffer();
    snprintf(path, 1024, "%s/../shared/%s", SOURCE_DIR, name);
    return access(path, F_OK) == 0 ? path : NULL;
}

static char scratch[64];

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

static void remove_scratch(void) { nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

/* Every call gives a new folder inside one that is removed at exit. */
const char *scratch_dir(void)
{
    static int count;
    if (!scratch[0]) {
        strcpy(scratch, "/tmp/likeness-test-XXXXXX");
        if (!mkdtemp(scratch)) {
            perror("mkdtemp");
            abort();
        }
        atexit(remove_scratch);
    }
    char *path = next_buffer();
    snprintf(path, 1024, "%s/%d", scratch, count++);
    if (mkdir(path, 0777) != 0) {
        perror(path);
        abort();
    }
    return path;
}

bool locale_with(const char *point)
{
    if (!strcmp(point, ".")) return setlocale(LC_ALL, "C") != NULL;
    static int count; /* the C library keeps locales by name */
    const char *folder = scratch_dir();
    char path[256], name[32], command[1024];
    snprintf(path, sizeof path, "%s/source", folder);
    snprintf(name, sizeof name, "numbers%d", count++);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "LC_NUMERIC\ndecimal_point \"%s\"\nthousands_sep \".\"\ngrouping 3;3\nEND LC_NUMERIC\n",
            point);
    assert_int_equal(fclose(f), 0);
    snprintf(command, sizeof command, "localedef -c -i %s -f %s %s/%s >/dev/null 2>&1", path,
             *point == '<' ? "UTF-8" : "ANSI_X3.4-1968", folder, name);
    if (system(command) == -1) return false;
    setenv("LOCPATH", folder, 1);
    return setlocale(LC_ALL, name) != NULL;
}

double relative_error(const float *a, const float *b, size_t n)
{
    double worst = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)a[i] - (double)b[i]), size = fabs((double)b[i]);
        if (isnan(difference)) return HUGE_VAL;
        if (difference > worst) worst = difference;
        if (size > largest) largest = size;
    }
    return largest > 0 ? worst / largest : worst;
}

void fill_random(float *out, size_t n, uint32_t seed)
{
    uint64_t state = seed * 2654435761u + 12345;
    for (size_t i = 0; i < n; i++) { /* a 64-bit linear congruence, its high bits */
        state = state * 6364136223846793005u + 1442695040888963407u;
        out[i] = (float)((double)(state >> 40) / (1 << 23) - 1.0);
    }
}
