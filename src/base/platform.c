/* SPDX-License-Identifier: Apache-2.0
 *
 * platform: files and paths on Linux. Memory, cores and the clock are in system.c. */
#include "base/platform.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"

struct file_writer {
    int file;
    char *path;          /* where the file will be; symbolic links resolved */
    struct sha256 *hash; /* of what was put; NULL: nobody wants it */
    char *temporary;     /* the name while writing; NULL for a device such as /dev/stdout */
};

/* What a person can do about an errno of the file system. */
static const char *advice(int code)
{
    switch (code) {
    case ENOENT: return "; check the path";
    case EACCES:
    case EPERM: return "; check its permissions";
    case EROFS: return "; choose a place that can be written";
    case ENOSPC:
    case EDQUOT: return ": the disk is full; free some space or choose another place";
    case EFBIG: return "; the file would be larger than allowed here";
    case EMFILE:
    case ENFILE: return "; too many files are open";
    default: return "";
    }
}

static bool fail_errno(error *e, const char *path, const char *what)
{
    int code = errno;
    if (code == ENOMEM) return error_memory(e, path, 0);
    return error_set(e, ERROR_FILE, "%s: cannot %s: %s%s", path, what, error_reason(code),
                     advice(code));
}

/* flags: besides O_NONBLOCK, with which a pipe that nobody holds at its other end does not hang us.
 */
static int open_regular(const char *path, int flags, uint64_t *size, error *e)
{
    int file = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0666);
    if (file < 0) {
        fail_errno(e, path, "open");
        return -1;
    }
    struct stat info;
    if (fstat(file, &info) != 0)
        fail_errno(e, path, "open");
    else if (S_ISDIR(info.st_mode))
        error_set(e, ERROR_FILE, "%s: is a folder, not a file", path);
    else if (!S_ISREG(info.st_mode))
        error_set(e, ERROR_FILE, "%s: is not a regular file", path);
    else {
        *size = (uint64_t)info.st_size;
        return file;
    }
    close(file);
    return -1;
}

bool file_map(mapped_file *out, const char *path, error *e)
{
    *out = (mapped_file){0};
    uint64_t size;
    int file = open_regular(path, O_RDONLY, &size, e);
    if (file < 0) return false;
    bool ok = true;
    if (size > 0) {
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
        if (data == MAP_FAILED)
            ok = fail_errno(e, path, "map into memory");
        else
            *out = (mapped_file){.data = data, .size = size};
    }
    close(file);
    return ok;
}

void file_unmap(mapped_file *m)
{
    if (m->data) munmap((void *)(uintptr_t)m->data, m->size);
    *m = (mapped_file){0};
}

void file_map_drop(const mapped_file *m)
{
    if (m->data) madvise((void *)(uintptr_t)m->data, m->size, MADV_DONTNEED);
}

/* Reads until `size` bytes or the end. */
static bool read_bytes(int file, const char *path, char *out, size_t size, size_t *done, error *e)
{
    *done = 0;
    while (*done < size) {
        ssize_t n = read(file, out + *done, size - *done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(e, path, "read");
        if (n == 0) break; /* it may have become shorter since it was opened */
        *done += (size_t)n;
    }
    return true;
}

bool file_begin(const char *path, void *out, size_t size, size_t *got, error *e)
{
    uint64_t length;
    *got = 0;
    int file = open_regular(path, O_RDONLY, &length, e);
    if (file < 0) return false;
    bool ok = read_bytes(file, path, out, size, got, e);
    close(file);
    return ok;
}

bool file_read(const char *path, size_t limit, char **data, size_t *size, error *e)
{
    *data = NULL;
    if (size) *size = 0;
    uint64_t length;
    int file = open_regular(path, O_RDONLY, &length, e);
    if (file < 0) return false;
    if (length > limit) {
        close(file);
        return error_set(e, ERROR_FORMAT, "%s: has %llu bytes, at most %zu make sense here", path,
                         (unsigned long long)length, limit);
    }
    char *text = malloc(length + 1);
    if (!text) {
        close(file);
        return error_memory(e, path, length + 1);
    }
    size_t done;
    bool ok = read_bytes(file, path, text, length, &done, e);
    close(file);
    if (!ok) {
        free(text);
        return false;
    }
    text[done] = '\0';
    *data = text;
    if (size) *size = done;
    return true;
}

static void writer_free(file_writer **w)
{
    free((*w)->path);
    free((*w)->temporary);
    free(*w);
    *w = NULL;
}

/* Creates FOLDER/.NAME.PID-N.tmp beside w->path. The mode is that of the file it will replace, else
 * what the umask leaves. */
static bool create_temporary(file_writer *w, const struct stat *old, error *e)
{
    const char *slash = strrchr(w->path, '/'), *name = slash ? slash + 1 : w->path;
    int folder = (int)(name - w->path);
    for (int i = 0; i < 1000; i++) {
        free(w->temporary);
        w->temporary = string_format("%.*s.%.200s.%ld-%d.tmp", folder, w->path, name,
                                     (long)getpid(), i);
        if (!w->temporary) return error_memory(e, w->path, strlen(w->path) + 32);
        w->file = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->file >= 0) {
            if (old) fchmod(w->file, old->st_mode & 07777);
            return true;
        }
        if (errno != EEXIST) break;
    }
    return fail_errno(e, w->path, "create");
}

bool file_writer_open(file_writer **out, const char *path, error *e)
{
    *out = NULL;
    struct stat old;
    bool exists = stat(path, &old) == 0;
    if (exists && S_ISDIR(old.st_mode))
        return error_set(e, ERROR_FILE, "%s: is a folder; give the name of a file", path);
    if (path[0] == '\0' || path[strlen(path) - 1] == '/')
        return error_set(e, ERROR_FILE, "'%s' is not the name of a file", path);
    file_writer *w = calloc(1, sizeof *w);
    if (!w) return error_memory(e, path, sizeof *w);
    w->file = -1;
    w->path = exists ? realpath(path, NULL) : strdup(path);
    bool ok;
    if (!w->path)
        ok = error_memory(e, path, strlen(path) + 1);
    else if (exists && !S_ISREG(old.st_mode)) { /* a device is written to, never replaced */
        /* a pipe without a reader: ENXIO */
        w->file = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        ok = (w->file >= 0 && fcntl(w->file, F_SETFL, 0) == 0) ||
             fail_errno(e, path, "open for writing");
    } else
        ok = create_temporary(w, exists ? &old : NULL, e);
    if (!ok) {
        writer_free(&w);
        return false;
    }
    *out = w;
    return true;
}

void file_writer_hash(file_writer *w, struct sha256 *hash) { w->hash = hash; }

bool file_writer_put(file_writer *w, const void *data, size_t size, error *e)
{
    const char *at = data;
    if (w->hash) sha256_add(w->hash, data, size);
    while (size > 0) {
        ssize_t n = write(w->file, at, size < (1u << 30) ? size : 1u << 30);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(e, w->path, "write");
        if (n == 0) {
            errno = ENOSPC;
            return fail_errno(e, w->path, "write");
        }
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* Makes the rename itself outlive a power cut; a file system that cannot do this is fine too. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? string_format("%.*s", (int)(slash - path + 1), path) : NULL;
    int file = open(folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file >= 0) {
        (void)!fsync(file);
        close(file);
    }
    free(folder);
}

bool file_writer_commit(file_writer **writer, error *e)
{
    file_writer *w = *writer;
    bool ok = true;
    if (w->temporary && fsync(w->file) != 0) ok = fail_errno(e, w->path, "write");
    /* NFS reports a full disk only here. */
    if (close(w->file) != 0 && ok) ok = fail_errno(e, w->path, "write");
    w->file = -1;
    if (ok && w->temporary && rename(w->temporary, w->path) != 0)
        ok = fail_errno(e, w->path, "write");
    if (w->temporary) {
        if (ok)
            sync_folder(w->path);
        else
            unlink(w->temporary);
    }
    writer_free(writer);
    return ok;
}

void file_writer_abandon(file_writer **writer)
{
    file_writer *w = *writer;
    if (!w) return;
    if (w->file >= 0) close(w->file);
    if (w->temporary) unlink(w->temporary);
    writer_free(writer);
}

bool file_write(const char *path, const void *data, size_t size, error *e)
{
    file_writer *w = NULL;
    if (file_writer_open(&w, path, e) && file_writer_put(w, data, size, e))
        return file_writer_commit(&w, e);
    file_writer_abandon(&w);
    return false;
}

FILE *file_append(const char *path, error *e)
{
    uint64_t size;
    int file = open_regular(path, O_WRONLY | O_APPEND | O_CREAT, &size, e);
    FILE *out = file >= 0 ? fdopen(file, "a") : NULL;
    if (!out && file >= 0) {
        error_memory(e, path, BUFSIZ);
        close(file);
    }
    return out;
}

bool path_exists(const char *path) { return access(path, F_OK) == 0; }

bool path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool path_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool path_make_dir(const char *path, error *e)
{
    char *part = strdup(path);
    if (!part) return error_memory(e, path, strlen(path) + 1);
    bool ok = true;
    for (char *at = part; ok && *at;) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        char kept = *at;
        *at = '\0';
        int why = *part && mkdir(part, 0777) != 0 ? errno : 0;
        if (why && !path_is_dir(part)) {
            errno = why; /* path_is_dir has its own */
            if (why == EEXIST)
                ok = error_set(e, ERROR_FILE, "%s: is a file, where a folder is needed", part);
            else if (errno == ENOENT) /* what is above was there, or has just been made */
                ok = error_set(e, ERROR_FILE,
                               "%s: cannot make the folder: no folder can be made there; choose "
                               "another place",
                               part);
            else
                ok = fail_errno(e, part, "make the folder");
        }
        *at = kept;
    }
    free(part);
    return ok;
}

char *string_format(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    char *out = length < 0 ? NULL : malloc((size_t)length + 1);
    if (out) vsnprintf(out, (size_t)length + 1, format, again);
    va_end(again);
    va_end(args);
    return out;
}

char *path_join(const char *a, const char *b)
{
    size_t n = strlen(a);
    if (n == 0) return strdup(b);
    return string_format("%s%s%s", a, a[n - 1] == '/' ? "" : "/", b);
}

char *path_absolute(const char *path)
{
    if (!*path) path = ".";
    if (path_is_dir(path)) return realpath(path, NULL);
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t name = end;
    while (name > 0 && path[name - 1] != '/') name--;
    char *above = name ? string_format("%.*s", (int)name, path) : strdup(".");
    char *whole = above ? path_absolute(above) : NULL, *last = strndup(path + name, end - name);
    char *out = whole && last ? path_join(whole, last) : NULL;
    free(above);
    free(whole);
    free(last);
    return out;
}

bool path_is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool path_is_in(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

char *path_of_program(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) return NULL;
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = '\0'; /* keep the root's own slash */
    return strdup(path);
}

/* The folder of the file that this code is in; NULL: it is not known. */
static char *path_of_library(void)
{
    Dl_info info;
    char path[PATH_MAX];
    if (!dladdr((const void *)(uintptr_t)path_of_library, &info) || !info.dli_fname ||
        !realpath(info.dli_fname, path))
        return NULL;
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = '\0';
    return strdup(path);
}

char *path_found(const char *const *places, int count, const char *below,
                 bool (*is_it)(const char *path))
{
    char *from[] = {path_of_program(), path_of_library()}, *found = NULL;
    for (int i = 0; i < 2 * count && !found; i++) {
        const char *folder = from[i / count];
        char *path = folder ? string_format("%s/%s%s", folder, places[i % count], below) : NULL;
        if (path && is_it(path))
            found = path;
        else
            free(path);
    }
    free(from[0]);
    free(from[1]);
    return found;
}

char *path_beside(const char *below)
{
    static const char *const places[] = {"", "../", "../share/likeness/"};
    return path_found(places, 3, below, path_is_dir);
}
