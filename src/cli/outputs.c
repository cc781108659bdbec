/* SPDX-License-Identifier: Apache-2.0
 *
 * outputs: where a run's files go. No picture takes the place of one that was made with other
 * settings, of another of the same run, or of what the run reads: in a folder, where names are the
 * program's to choose, it gets a number; where the user named the file, he is asked. */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"

typedef enum obstacle {
    CLEAR,
    TAKEN,   /* a file is there that other settings made */
    SHARED,  /* another result of this run has it */
    TWICE,   /* and the same settings */
    INPUT,   /* the run reads it */
    UNKNOWN, /* the settings could not be said; why is on stderr */
} obstacle;

/* A path that a result of this run will have; its text follows it in memory. */
typedef struct claim {
    const char *path;
    output *owner;
} claim;

static int compare_claims(const void *a, const void *b)
{
    return strcmp(((const claim *)a)->path, ((const claim *)b)->path);
}

void outputs_close(outputs *all)
{
    tdestroy(all->claims, free);
    free(all->inputs.item);
    *all = (outputs){0};
}

void output_close(output *out)
{
    for (int i = 0; i < OUTPUT_FILES; i++) {
        free(out->base[i]);
        free(out->path[i]);
    }
    lk_free(out->settings);
    *out = (output){0};
}

/* "cat-42.png", 2: "cat-42-2.png". malloc'ed; NULL when memory is out. */
static char *numbered(const char *path, int number)
{
    const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
    if (!dot || (slash && dot < slash)) dot = path + strlen(path);
    char *out = NULL;
    if (number < 2) return strdup(path);
    return asprintf(&out, "%.*s-%d%s", (int)(dot - path), path, number, dot) < 0 ? NULL : out;
}

static bool is_input(const outputs *all, const struct stat *file)
{
    struct stat input;
    for (size_t i = 0; i < all->inputs.count; i++)
        if (stat(all->inputs.item[i], &input) == 0 && input.st_dev == file->st_dev &&
            input.st_ino == file->st_ino)
            return true;
    return false;
}

/* Where the text names the version of the program, which is no setting: up to it, and from what
 * follows. */
static size_t before_version(const char *text, const char **after)
{
    const char mark[] = ", Version: likeness ";
    const char *at = NULL;
    for (const char *next = text; (next = strstr(next, mark)); next++) at = next;
    *after = at ? at + sizeof mark - 1 + strcspn(at + sizeof mark - 1, ",\n") : "";
    return at ? (size_t)(at - text) : strlen(text);
}

static bool same_settings(const char *a, const char *b)
{
    const char *rest_a, *rest_b;
    size_t n = before_version(a, &rest_a), m = before_version(b, &rest_b);
    return n == m && memcmp(a, b, n) == 0 && strcmp(rest_a, rest_b) == 0;
}

static bool file_has(const char *path, const char *settings)
{
    char *text = lk_file_settings(path);
    bool same = text && same_settings(text, settings);
    lk_free(text);
    return same;
}

static const char *settings_of(outputs *all, output *out)
{
    if (!out->settings) out->settings = all->settings(all->user, out);
    return out->settings;
}

/* Devices and pipes hold nothing that could be lost. */
static obstacle look(outputs *all, output *out, const char *path)
{
    struct stat file;
    claim wanted = {path, out}, **found = tfind(&wanted, &all->claims, compare_claims);
    if (found) {
        if (!settings_of(all, out) || !settings_of(all, (*found)->owner)) return UNKNOWN;
        return same_settings(out->settings, (*found)->owner->settings) ? TWICE : SHARED;
    }
    if (stat(path, &file) != 0) return CLEAR;
    if (S_ISDIR(file.st_mode)) return TAKEN;
    if (!S_ISREG(file.st_mode)) return CLEAR;
    if (is_input(all, &file)) return INPUT;
    if (all->overwrite) return CLEAR;
    if (!settings_of(all, out)) return UNKNOWN;
    return file_has(path, out->settings) ? CLEAR : TAKEN;
}

static int refuse(obstacle why, const char *path)
{
    if (why == UNKNOWN) return STATUS_FAILED;
    if (why == INPUT)
        return fail(STATUS_WRONG_USAGE, "%s is what this run reads; give its result another name",
                    path);
    if (why == TWICE)
        return fail(STATUS_WRONG_USAGE,
                    "two results would be written to %s: a prompt, setting or seed is "
                    "given twice",
                    path);
    if (why == SHARED)
        return fail(STATUS_WRONG_USAGE, "two results would be written to %s; give each a name",
                    path);
    return fail(STATUS_FAILED,
                "%s is there, and was not made with these settings; choose another name, or "
                "say --overwrite",
                path);
}

/* Gives the result paths with this number; where something is in the way, *why and *where (a base)
 * say so. */
static bool try_number(outputs *all, output *out, int number, obstacle *why, int *where)
{
    bool ok = true;
    *why = CLEAR;
    for (int i = 0; ok && *why == CLEAR && i < OUTPUT_FILES; i++) {
        if (!out->base[i]) continue;
        free(out->path[i]);
        out->path[i] = numbered(out->base[i], out->is_named[i] ? 1 : number);
        ok = out->path[i] != NULL;
        if (ok) *why = look(all, out, out->path[i]);
        if (ok && i && out->path[0] && strcmp(out->path[0], out->path[i]) == 0) *why = SHARED;
        *where = i;
    }
    return ok;
}

static bool claim_path(outputs *all, output *out, const char *path)
{
    size_t size = strlen(path) + 1;
    claim *c = malloc(sizeof *c + size);
    if (!c) return false;
    *c = (claim){memcpy(c + 1, path, size), out};
    if (tsearch(c, &all->claims, compare_claims)) return true;
    free(c);
    return false;
}

static bool claim_paths(outputs *all, output *out)
{
    bool ok = true;
    for (int i = 0; ok && i < OUTPUT_FILES; i++)
        ok = !out->path[i] || claim_path(all, out, out->path[i]);
    return ok;
}

int output_settle(outputs *all, output *out)
{
    obstacle why = TAKEN;
    int where = 0, number = 0;
    while (why != CLEAR) {
        if (!try_number(all, out, ++number, &why, &where))
            return fail(STATUS_FAILED, "not enough memory");
        bool passes = why == CLEAR || ((why == TAKEN || why == SHARED) && !out->is_named[where]);
        if (!passes) return refuse(why, out->path[where]);
    }
    out->number = number;
    if (number > 1 && all->numbered++ == 0) all->first_numbered = out;
    return claim_paths(all, out) ? STATUS_DONE : fail(STATUS_FAILED, "not enough memory");
}

void outputs_tell(const outputs *all)
{
    const output *out = all->first_numbered;
    if (out)
        fail(STATUS_DONE, "%s is another picture; this one is written to %s%s", out->base[0],
             out->path[0], all->numbered > 1 ? ", and others are numbered too" : "");
}

/* Whether a name can be had no more. */
static bool is_gone(const outputs *all, const char *path)
{
    struct stat file;
    claim wanted = {path, NULL};
    return stat(path, &file) == 0 || tfind(&wanted, &all->claims, compare_claims);
}

bool output_recheck(outputs *all, output *out, const char *settings)
{
    struct stat file;
    for (int i = 0; !all->overwrite && i < OUTPUT_FILES; i++) {
        const char *path = out->path[i];
        if (!path || stat(path, &file) != 0 || !S_ISREG(file.st_mode) || file_has(path, settings))
            continue;
        char *other = NULL;
        for (int k = out->number + 1; !other || is_gone(all, other); k++) {
            free(other);
            other = numbered(out->base[i], k);
            if (!other) return false;
        }
        fail(STATUS_DONE, "warning: %s was written by another run meanwhile; this one is %s", path,
             other);
        free(out->path[i]);
        out->path[i] = other;
    }
    return true;
}
