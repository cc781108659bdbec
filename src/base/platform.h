/* SPDX-License-Identifier: Apache-2.0
 *
 * platform: what the operating system gives: mapped files, whole-file reads, files written beside
 * their target and renamed, memory, clock, paths. */
#ifndef LIKENESS_BASE_PLATFORM_H
#define LIKENESS_BASE_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* A file mapped for reading. An empty file maps to size 0, data NULL. Fails for folders. */
typedef struct mapped_file {
    const uint8_t *data;
    size_t size;
} mapped_file;
bool file_map(mapped_file *out, const char *path, error *e);
void file_unmap(mapped_file *m);
void file_map_drop(const mapped_file *m); /* gives its resident pages back; data stays readable */

/* Files are opened for reading only by what follows, so that a pipe, a socket or a device given in
 * a file's place is an error and never a wait; tools/ci/check_layers.sh sees to it. */

/* The first bytes of a file, at most `size`; *got of them are there. */
bool file_begin(const char *path, void *out, size_t size, size_t *got, error *e);

/* Reads a whole file of at most `limit` bytes; *data is NUL-terminated and the caller's to free();
 * NULL on failure. size may be NULL. */
bool file_read(const char *path, size_t limit, char **data, size_t *size, error *e);

struct sha256;
/* Writes beside `path` (same folder, hidden temporary name) and renames when whole, so that a
 * failure leaves the old file as it was. A device (/dev/stdout) is written to directly. */
typedef struct file_writer file_writer;
bool file_writer_open(file_writer **out, const char *path, error *e);
void file_writer_hash(file_writer *w, struct sha256 *hash); /* what is put goes into it too */
bool file_writer_put(file_writer *w, const void *data, size_t size, error *e);
bool file_writer_commit(file_writer **w, error *e); /* fsync, rename; *w is NULL in any case */
void file_writer_abandon(file_writer **w);          /* NULL is fine */
bool file_write(const char *path, const void *data, size_t size, error *e); /* all of it at once */
/* A regular file to add lines to, made where it is not there; for fclose. NULL on failure. */
FILE *file_append(const char *path, error *e);

bool path_exists(const char *path); /* as whatever it is */
bool path_is_dir(const char *path);
bool path_is_file(const char *path);
bool path_make_dir(const char *path, error *e); /* with its parents; fine if it exists */
/* a + "/" + b, malloc'ed; NULL when memory is out. */
char *path_join(const char *a, const char *b);
/* The same place from "/" on, wherever the program stands; what is there may be a link, and need
 * not be there. malloc'ed; NULL when memory is out. */
char *path_absolute(const char *path);
bool path_is_in(const char *folder, const char *name); /* something of that name is */
/* Whether both are there, and one and the same file or folder. */
bool path_is_same(const char *a, const char *b);
/* malloc'ed; NULL when memory is out. */
char *string_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *path_of_program(void); /* folder of the running program, malloc'ed */
/* What comes with us: the first of FOLDER/PLACEBELOW that is_it, for the folder of the program,
 * then of the library that this code is in, and each of the places ("", "../"). malloc'ed; NULL
 * where none is, or memory is out. */
char *path_found(const char *const *places, int count, const char *below,
                 bool (*is_it)(const char *path));
/* A folder that comes with us ("models/pocket"), beside the program or the library that this code
 * is in, as they are built or installed. malloc'ed; NULL where it is not there, or memory is out.
 */
char *path_beside(const char *below);

/* A block of zeroed memory, 64-byte aligned, huge pages asked for; NULL when memory is out. */
void *block_alloc(size_t size);
void block_free(void *block, size_t size);
uint64_t memory_available(void); /* bytes the system says can be had now (cgroup limit too) */
uint64_t memory_peak(void);      /* peak resident bytes of this process */
int cpu_count(void);             /* cores this process may use */
double clock_seconds(void);      /* monotonic */
uint32_t random_number(void);    /* the system's; another at each call */

#endif
