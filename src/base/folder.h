/* SPDX-License-Identifier: Apache-2.0
 *
 * folder: whole folders: listing, removing, moving into place, and holding one against other runs.
 */
#ifndef LIKENESS_BASE_FOLDER_H
#define LIKENESS_BASE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Names in a folder (without . and ..), sorted by strcmp; for folder_list_free. */
typedef struct folder_names {
    char **name;
    size_t count;
} folder_names;
bool folder_list(folder_names *out, const char *path, error *e);
void folder_list_free(folder_names *names);

/* Removes a folder and all below it; fine if it is not there. Links are removed, not followed. */
bool folder_remove(const char *path, error *e);
/* Makes the folder, with its parents, and finds out whether files can be written there, leaving
 * none. */
bool folder_can_write(const char *path, error *e);
/* Moves every file below one folder to its place below another, over what has its name there;
 * folders are made, and the first is gone in the end, or empty where it cannot be removed. `last`:
 * a file's name that is moved after all others, and whose old one is removed before them. Both
 * folders must lie in one file system. */
bool folder_install(const char *from, const char *to, const char *last, error *e);
/* Removes what killed processes left half-written in a folder (not below it): the hidden files that
 * a file_writer names .NAME.PID-N.tmp, where no process has that number now. What cannot be removed
 * stays. */
void folder_sweep(const char *path);
/* Renames a folder; what is at `to` must not exist. The rename outlives a power cut. */
bool folder_move(const char *from, const char *to, error *e);

/* Bytes that can be written below path now, or where it would be made; UINT64_MAX where the system
 * does not say. */
uint64_t folder_space(const char *path);

/* Holds a folder for this process: another's folder_lock fails until unlock or the process's end,
 * however it ends. *lock is -1 on failure. */
bool folder_lock(int *lock, const char *path, error *e);
void folder_unlock(int *lock);

#endif
