/* SPDX-License-Identifier: Apache-2.0
 *
 * program: running likeness as a user does, in a folder of the test, and what came of it. PROGRAM
 * is the path of the built likeness. */
#ifndef LIKENESS_TESTS_PROGRAM_H
#define LIKENESS_TESTS_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

enum { MAX_ARGS = 64, MAX_TEXT = 64 * 1024 };

extern char folder[256]; /* everything lies here: to be set first */
extern struct outcome {
    int status;
    char out[MAX_TEXT], err[MAX_TEXT];
} last;

/* A path in the folder; eight buffers in turn. */
const char *in_folder(const char *name);
bool exists(const char *name);
void drop(const char *name);
void slurp(const char *path, char *text);
void write_file(const char *path, const void *data, size_t size);

/* Starts a program (NULL ends args) in the folder, its output in files out and err; no file may
 * pass file_limit bytes (0: any may). */
pid_t start(const char *const *args, rlim_t file_limit);
void finish(pid_t child); /* waits for it; fills last */
/* Runs a program in the folder, on a terminal of so many columns, and presses Ctrl-C when its
 * screen holds `at` (NULL: never). last.out: what is on the screen in the end, what is too wide on
 * several lines. A letter outside ASCII is two columns wide. */
void run_on_terminal(const char *const *args, int columns, const char *at);
/* likeness with these words; NULL ends them. Returns the exit status. */
int likeness(const char *first, ...);

/* The last run failed with this status and one line on stderr that holds `words`, and left no
 * x.png. */
void failed(int status, const char *words);
void says(const char *text, const char *words);
void done(void);                                /* the last run exited with 0 */
bool same_pixels(const char *a, const char *b); /* two pictures of the folder */
bool same_file(const char *a, const char *b);   /* two files of it, byte for byte */
/* Fails where the files of this name in two folders of it differ. */
void same_in(const char *a, const char *b, const char *name);

/* The arguments of a training of the toy at toy_path, on one thread, that a test runs as a child.
 */
#define TRAINING(...)                                                                              \
    {                                                                                              \
        PROGRAM, "train", "-m", toy_path, "-t", "1", "--instance_data_dir",                        \
            SOURCE_DIR "/examples/subject", __VA_ARGS__, NULL                                      \
    }

#endif
