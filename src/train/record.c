/* SPDX-License-Identifier: Apache-2.0
 *
 * record: train.jsonl and train.json. */
#include "train/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "file/json.h"
#include "train/describe.h"

#define LINES "train.jsonl"

struct record {
    FILE *file;
    char *path;
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
    file_writer *w = NULL;
    bool ok = file_writer_open(&w, path, e) &&
              (!text || file_writer_put(w, text, kept_bytes(text, keep), e));
    if (ok)
        ok = file_writer_commit(&w, e);
    else
        file_writer_abandon(&w);
    free(text);
    return ok;
}

bool record_open(record **out, const char *output_dir, int64_t keep, error *e)
{
    *out = NULL;
    record *r = calloc(1, sizeof *r);
    if (r) r->path = path_join(output_dir, LINES);
    bool ok = (r && r->path) || error_memory(e, LINES, sizeof *r);
    ok = ok && keep_lines(r->path, keep, e);
    ok = ok && (r->file = file_append(r->path, e));
    if (ok)
        *out = r;
    else
        record_close(&r);
    return ok;
}

void record_close(record **r)
{
    if (!*r) return;
    if ((*r)->file) fclose((*r)->file);
    free((*r)->path);
    free(*r);
    *r = NULL;
}

bool record_add(record *r, const train_report *report, bool has_prior, double seconds, error *e)
{
    fprintf(r->file, "{\"step\": %lld, \"loss\": %s, \"instance_loss\": %s",
            (long long)report->step, number_exact_float(report->loss).text,
            number_exact_float(report->instance_loss).text);
    if (has_prior)
        fprintf(r->file, ", \"prior_loss\": %s", number_exact_float(report->prior_loss).text);
    fprintf(r->file, ", \"lr\": %s, \"grad_norm\": %s, \"seconds\": %s, \"rss_mb\": %s}\n",
            number_rounded(report->rate, 9).text, number_rounded(report->norm, 6).text,
            number_decimals(seconds, 3).text, number_decimals((double)memory_peak() / 1e6, 0).text);
    return (fflush(r->file) == 0 && !ferror(r->file)) ||
           error_set(e, ERROR_FILE, "%s: cannot be written: is the disk full?", r->path);
}

bool record_settings(const trainer *t, const char *model_hash, error *e)
{
    json_t *j = json_object();
    json_object_set_new(j, "model", json_string(t->model->path));
    json_object_set_new(j, "model_hash", json_string(model_hash));
    json_object_set_new(j, "device", json_string(t->device->name));
    json_object_set_new(j, "precision",
                        json_string(t->device->weight_type == DTYPE_F32 ? "no" : "bf16"));
    json_object_set_new(j, "steps", json_integer(t->total));
    json_object_set_new(j, "learning_rate", json_real(t->rate));
    json_object_set_new(j, "settings", describe_settings(&t->settings));
    json_object_set_new(j, "pictures", describe_pictures(t));
    bool ok = describe_write(j, t->settings.output_dir, "train.json", e);
    json_decref(j);
    return ok;
}
