/* SPDX-License-Identifier: Apache-2.0
 *
 * folder: folders on Linux. */
#include "base/folder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/platform.h"

static bool fail(error *e, const char *path, const char *what)
{
    if (errno == ENOMEM) return error_memory(e, path, 0);
    return error_set(e, ERROR_FILE, "%s: cannot %s: %s", path, what, error_reason(errno));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool push(folder_names *names, size_t *capacity, const char *name)
{
    if (names->count == *capacity) {
        size_t wanted = *capacity ? 2 * *capacity : 32;
        char **more = realloc(names->name, wanted * sizeof *more);
        if (!more) return false;
        names->name = more;
        *capacity = wanted;
    }
    char *copy = strdup(name);
    if (!copy) return false;
    names->name[names->count++] = copy;
    return true;
}

bool folder_list(folder_names *out, const char *path, error *e)
{
    *out = (folder_names){0};
    size_t capacity = 0;
    DIR *dir = opendir(path);
    if (!dir && errno == ENOMEM) return error_memory(e, path, 0);
    if (!dir && (errno == ENOENT || errno == ENOTDIR))
        return error_set(e, ERROR_FILE, "%s: there is no such folder; check the path", path);
    if (!dir)
        return error_set(e, ERROR_FILE, "%s: cannot open the folder: %s; check its permissions",
                         path, error_reason(errno));
    bool ok = true;
    errno = 0;
    for (const struct dirent *entry; ok && (entry = readdir(dir)); errno = 0)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = push(out, &capacity, entry->d_name) || error_memory(e, path, capacity);
    if (ok && errno) ok = fail(e, path, "read the folder");
    closedir(dir);
    if (!ok)
        folder_list_free(out);
    else if (out->count)
        qsort(out->name, out->count, sizeof *out->name, by_name);
    return ok;
}

void folder_list_free(folder_names *names)
{
    for (size_t i = 0; i < names->count; i++) free(names->name[i]);
    free(names->name);
    *names = (folder_names){0};
}

bool folder_remove(const char *path, error *e)
{
    struct stat info;
    if (lstat(path, &info) != 0) return errno == ENOENT || fail(e, path, "look at it");
    if (!S_ISDIR(info.st_mode)) return unlink(path) == 0 || fail(e, path, "remove it");
    folder_names names;
    bool ok = folder_list(&names, path, e);
    for (size_t i = 0; ok && i < names.count; i++) {
        char *below = path_join(path, names.name[i]);
        ok = below ? folder_remove(below, e) : error_memory(e, path, strlen(path));
        free(below);
    }
    folder_list_free(&names);
    return ok && (rmdir(path) == 0 || fail(e, path, "remove the folder"));
}

/* Makes what happened in a folder outlive a power cut, where the file system can. */
static void sync_folder(const char *path)
{
    int file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return;
    (void)!fsync(file);
    close(file);
}

bool folder_can_write(const char *path, error *e)
{
    file_writer *w = NULL;
    char *probe = path_join(path, "likeness");
    bool ok = (probe || error_memory(e, path, strlen(path))) && path_make_dir(path, e) &&
              file_writer_open(&w, probe, e);
    file_writer_abandon(&w);
    free(probe);
    return ok;
}

static bool move_file(const char *from, const char *to, error *e)
{
    return rename(from, to) == 0 || fail(e, to, "move the file into place");
}

static bool install_below(const char *from, const char *to, const char *skipped, error *e);

static bool install_one(const char *from, const char *to, error *e)
{
    struct stat info;
    if (lstat(from, &info) != 0) return fail(e, from, "look at it");
    return S_ISDIR(info.st_mode) ? install_below(from, to, NULL, e) : move_file(from, to, e);
}

static bool install_below(const char *from, const char *to, const char *skipped, error *e)
{
    folder_names names;
    if (!path_make_dir(to, e) || !folder_list(&names, from, e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) {
        if (skipped && strcmp(names.name[i], skipped) == 0) continue;
        char *a = path_join(from, names.name[i]), *b = path_join(to, names.name[i]);
        ok = (a && b) ? install_one(a, b, e) : error_memory(e, from, strlen(from));
        free(a);
        free(b);
    }
    folder_list_free(&names);
    sync_folder(to);
    return ok;
}

bool folder_install(const char *from, const char *to, const char *last, error *e)
{
    char *a = path_join(from, last), *b = path_join(to, last);
    bool ok = (a && b) || error_memory(e, from, strlen(from));
    ok = ok && (unlink(b) == 0 || errno == ENOENT || fail(e, b, "remove it"));
    ok = ok && install_below(from, to, last, e) && move_file(a, b, e);
    if (ok) folder_remove(from, NULL); /* all is in its place: what cannot be removed is empty */
    if (ok) sync_folder(to);
    free(a);
    free(b);
    return ok;
}

/* The process that ".NAME.PID-N.tmp" names (a picture's ending may follow); 0: it is no such name.
 */
static long process_of(const char *name)
{
    const char *end = NULL;
    for (const char *next = name; (next = strstr(next, ".tmp")); next += 4)
        end = next; /* the last */
    const char *at = end;
    if (name[0] != '.' || !end || (end[4] && strcmp(end + 4, ".png") != 0)) return 0;
    while (at > name && isdigit((unsigned char)at[-1])) at--;
    if (at == end || at - 1 <= name || at[-1] != '-') return 0;
    const char *dash = --at;
    while (at > name && isdigit((unsigned char)at[-1])) at--;
    if (at == dash || dash - at > 18 || at - 1 <= name || at[-1] != '.') return 0;
    return strtol(at, NULL, 10);
}

void folder_sweep(const char *path)
{
    folder_names names;
    if (!folder_list(&names, path, NULL)) return;
    for (size_t i = 0; i < names.count; i++) {
        struct stat info;
        long process = process_of(names.name[i]);
        if (process <= 0 || kill((pid_t)process, 0) == 0 || errno != ESRCH) continue;
        char *file = path_join(path, names.name[i]);
        if (file && lstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid())
            unlink(file);
        free(file);
    }
    folder_list_free(&names);
}

bool folder_move(const char *from, const char *to, error *e)
{
    sync_folder(from);
    if (rename(from, to) != 0) return fail(e, to, "move the folder into place");
    const char *slash = strrchr(to, '/');
    char *above = slash ? strndup(to, (size_t)(slash - to) + 1) : strdup(".");
    if (above) sync_folder(above);
    free(above);
    return true;
}

uint64_t folder_space(const char *path)
{
    struct statvfs info;
    char *at = strdup(path);
    bool known = at && statvfs(at, &info) == 0;
    while (at && !known && errno == ENOENT && strcmp(at, ".") != 0 && strcmp(at, "/") != 0) {
        char *slash = strrchr(at, '/');
        if (!slash)
            strcpy(at, ".");
        else
            slash[slash == at] = '\0';
        known = statvfs(at, &info) == 0;
    }
    free(at);
    return known && info.f_blocks ? (uint64_t)info.f_bavail * info.f_frsize : UINT64_MAX;
}

bool folder_lock(int *lock, const char *path, error *e)
{
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) return fail(e, path, "open the folder");
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0) return true;
    bool busy = errno == EWOULDBLOCK;
    if (busy)
        error_set(e, ERROR_FILE,
                  "%s: another run is writing there; wait for it, or choose another "
                  "folder",
                  path);
    else
        fail(e, path, "lock the folder");
    folder_unlock(lock);
    return false;
}

void folder_unlock(int *lock)
{
    if (*lock >= 0) close(*lock);
    *lock = -1;
}
