/* SPDX-License-Identifier: Apache-2.0
 *
 * layout: toy models in the layouts people have, written out from tests/fixtures/model/layout
 * (names, types and shapes as diffusers saves them) with weights by formula. */
#ifndef LIKENESS_TESTS_LAYOUT_H
#define LIKENESS_TESTS_LAYOUT_H

#include "base/half.h"
#include "file/safetensors.h"
#include "model_support.h"

/* May change an entry (its name, shape, type, data) before it is written; false leaves it out.
 * `data` is the entry's own copy. */
typedef bool layout_edit(safetensors_entry *entry, void *data);

typedef struct layout_tensor {
    char file[96], key[200], name[160], type[8];
    int rank;
    int64_t dim[4];
} layout_tensor;

typedef struct layout_file {
    safetensors_entry entry[600];
    char key[600][200];
    void *data[600];
    size_t count;
    char path[96];
} layout_file;

static inline void layout_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void layout_shell(const char *format, ...)
{
    char command[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    if (system(command)) fail_msg("%s", command);
}

static inline dtype layout_type(const char *name)
{
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (!strcmp(dtype_name((dtype)t), name)) return (dtype)t;
    fail_msg("type %s", name);
    return DTYPE_F32;
}

static inline bool layout_parse(layout_tensor *t, const char *line)
{
    char dims[64] = "";
    if (sscanf(line, "%199s %159s %7s %63s", t->key, t->name, t->type, dims) < 3) return false;
    if (!strcmp(t->name, "=")) strcpy(t->name, t->key);
    t->rank = 0;
    for (char *p = strtok(dims, ","); p; p = strtok(NULL, ",")) t->dim[t->rank++] = atoll(p);
    return true;
}

/* Adds a tensor to the file at hand: by formula, or zeros where its name is "-". */
static inline void layout_add(layout_file *f, const layout_tensor *t, bool half, layout_edit *edit)
{
    size_t n = (size_t)product(t->rank, t->dim);
    safetensors_entry *entry = &f->entry[f->count];
    float *values = calloc(n, sizeof *values);
    void *data = f->data[f->count] = calloc(n, 8);
    *entry = (safetensors_entry){.type = half ? DTYPE_F16 : layout_type(t->type), .rank = t->rank};
    memcpy(entry->dim, t->dim, sizeof t->dim);
    if (strcmp(t->name, "-")) {
        int rank = t->rank; /* squeezed or not, a matrix has the same values */
        while (rank > 2 && strstr(t->name, ".to_") && t->dim[rank - 1] == 1) rank--;
        fill_by_formula(values, t->name, rank, t->dim);
        convert_from_float(data, entry->type, values, n);
    }
    free(values);
    strcpy(f->key[f->count], t->key);
    entry->name = f->key[f->count];
    if (edit && !edit(entry, data)) {
        free(data);
        return;
    }
    entry->data = data;
    entry->bytes = dtype_size(entry->type);
    for (int i = 0; i < entry->rank; i++) entry->bytes *= (uint64_t)entry->dim[i];
    f->count++;
}

static inline void layout_flush(layout_file *f, const char *folder, bool half)
{
    char path[600];
    error e = {0};
    if (*f->path) {
        char *dot = strstr(f->path, ".safetensors");
        *dot = 0;
        snprintf(path, sizeof path, "%s/%s%s.safetensors", folder, f->path, half ? ".fp16" : "");
        check(safetensors_write(path, f->entry, f->count, NULL, 0, &e), &e);
    }
    for (size_t i = 0; i < f->count; i++) free(f->data[i]);
    f->count = 0;
}

/* Writes the layout into the folder. half: as variant fp16. */
static inline void layout_write(const char *folder, const char *name, bool half, layout_edit *edit)
{
    char line[500], path[600];
    snprintf(path, sizeof path, "model/layout/%s", name);
    layout_shell("mkdir -p '%s' && cp -r '%s'/. '%s'", folder, fixture_path(path), folder);
    snprintf(path, sizeof path, "%s/tensors.txt", folder);
    FILE *list = fopen(path, "r");
    assert_non_null(list);
    layout_file *f = calloc(1, sizeof *f);
    layout_tensor t;
    while (fgets(line, sizeof line, list)) {
        if (line[0] == '@') {
            layout_flush(f, folder, half);
            sscanf(line, "@ %95s", f->path);
        } else if (layout_parse(&t, line)) {
            layout_add(f, &t, half, edit);
        }
    }
    layout_flush(f, folder, half);
    fclose(list);
    free(f);
    remove(path);
}

#endif
