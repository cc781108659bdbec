/* SPDX-License-Identifier: Apache-2.0
 *
 * record: train.jsonl. Lines are held until they are on the disk. */
#include "train/record.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"
#include "base/platform.h"
#include "file/json.h"

#define LINES "train.jsonl"

struct record {
    FILE *file;
    char *path;
    char *waiting; /* what is not in it yet */
    size_t size;
};

enum { LIMIT = 1 << 30 };

/* The bytes of the first lines whose step is at most `keep`; a torn last line is left out. */
static size_t kept_bytes(const char *text, int64_t keep)
{
    const char *at = text;
    for (const char *end; (end = strchr(at, '\n')); at = end + 1) {
        json_t *line = json_parse(at, (size_t)(end - at), 0, NULL);
        json_int_t number = json_integer_value(json_object_get(line, "step"));
        json_decref(line);
        if (number < 1 || number > keep) break;
    }
    return (size_t)(at - text);
}

/* Writes the lines that stay to a new file in the old one's place. */
static bool keep_lines(const char *path, int64_t keep, error *e)
{
    char *text = NULL;
    if (path_is_file(path) && !file_read(path, LIMIT, &text, NULL, e)) return false;
    bool ok = file_write(path, text, text ? kept_bytes(text, keep) : 0, e);
    free(text);
    return ok;
}

bool record_open(record **out, const char *output_dir, int64_t keep, error *e)
{
    *out = NULL;
    record *r = calloc(1, sizeof *r);
    if (r) r->path = path_join(output_dir, LINES);
    bool ok = (r && r->path) || error_memory(e, LINES, sizeof *r);
    ok = ok && keep_lines(r->path, keep, e) && (r->file = file_append(r->path, e));
    if (ok)
        *out = r;
    else if (r)
        record_close(&r);
    return ok;
}

void record_close(record **r)
{
    if (!*r) return;
    if ((*r)->file) fclose((*r)->file);
    free((*r)->path);
    free((*r)->waiting);
    free(*r);
    *r = NULL;
}

/* JSON has no number that is not finite. */
static const char *or_null(double x, const char *text) { return isfinite(x) ? text : "null"; }

bool record_add(record *r, const train_report *of, bool has_prior, double seconds, error *e)
{
    char prior[64] = "", scale[96] = "", line[640];
    if (has_prior)
        snprintf(prior, sizeof prior, ", \"prior_loss\": %s",
                 or_null((double)of->prior_loss, number_exact_float(of->prior_loss).text));
    if (of->loss_scale > 0)
        snprintf(scale, sizeof scale, ", \"loss_scale\": %s, \"skipped\": %s",
                 number_exact_float(of->loss_scale).text, of->skipped ? "true" : "false");
    int n = snprintf(
        line, sizeof line,
        "{\"step\": %lld, \"loss\": %s, \"instance_loss\": %s%s, \"lr\": %s, "
        "\"grad_norm\": %s%s, \"seconds\": %s, \"rss_mb\": %s}\n",
        (long long)of->step, or_null((double)of->loss, number_exact_float(of->loss).text),
        or_null((double)of->instance_loss, number_exact_float(of->instance_loss).text), prior,
        number_rounded(of->rate, 9).text, or_null(of->norm, number_rounded(of->norm, 6).text),
        scale, number_decimals(seconds, 3).text,
        number_decimals((double)memory_peak() / 1e6, 0).text);
    char *longer = realloc(r->waiting, r->size + (size_t)n);
    if (!longer) return error_memory(e, LINES, r->size + (size_t)n);
    memcpy(longer + r->size, line, (size_t)n);
    r->waiting = longer;
    r->size += (size_t)n;
    return true;
}

bool record_write(record *r, error *e)
{
    size_t done = 0;
    int why = 0;
    while (done < r->size && !why) {
        ssize_t n = write(fileno(r->file), r->waiting + done, r->size - done);
        if (n > 0)
            done += (size_t)n;
        else
            why = n == 0 ? ENOSPC : errno == EINTR ? 0 : errno;
    }
    r->size -= done;
    if (r->size) memmove(r->waiting, r->waiting + done, r->size);
    return !r->size ||
           error_set(e, ERROR_FILE, "%s: cannot be written: %s", r->path, error_reason(why));
}
