/* SPDX-License-Identifier: Apache-2.0
 *
 * kept: one tensor [photos, places] a subject and picture. */
#include "kept.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/safetensors.h"

#define KEPT_FILE "matches.safetensors"

enum { NAME = 80 };

static void name_of(const measured_subject *j, const measured_image *p, char out[NAME])
{
    snprintf(out, NAME, "%.16s.%s", j->key, p->id);
}

static bool is_whole(const safetensors_entry *x, const measured_subject *j)
{
    bool ok = x && x->type == DTYPE_F32 && x->rank == 2 && x->dim[0] == j->photos &&
              x->dim[1] > 0 && (!j->places || x->dim[1] == j->places);
    for (uint64_t i = 0; ok && i < x->bytes / sizeof(float); i++) {
        float v;
        memcpy(&v, (const char *)x->data + i * sizeof v, sizeof v);
        ok = isfinite(v);
    }
    return ok;
}

static bool take(measured_subject *j, measured_image *p, int k, const safetensors *file, error *e)
{
    char name[NAME];
    name_of(j, p, name);
    const safetensors_entry *entry = safetensors_find(file, name);
    if (!p->wanted[k] || !is_whole(entry, j)) return true;
    p->match[k] = malloc(entry->bytes);
    if (!p->match[k]) return error_memory(e, KEPT_FILE, entry->bytes);
    memcpy(p->match[k], entry->data, entry->bytes);
    j->places = (int)entry->dim[1];
    return true;
}

bool kept_load(measured *m, const char *folder, error *e)
{
    safetensors file;
    error ignored = {0};
    char *path = path_join(folder, KEPT_FILE);
    if (!path) return error_memory(e, folder, strlen(folder));
    bool there = path_is_file(path) && safetensors_open(&file, path, &ignored), ok = true;
    free(path);
    for (int k = 0; there && k < m->subjects; k++)
        for (int i = 0; ok && i < m->pictures; i++)
            ok = take(&m->subject[k], &m->picture[i], k, &file, e);
    if (there) safetensors_close(&file);
    return ok;
}

/* The same photos under another name have the same matches. */
static bool is_written(const measured *m, int k, int i)
{
    bool found = false;
    for (int o = 0; o < k && !found; o++)
        found = m->picture[i].match[o] && strcmp(m->subject[o].key, m->subject[k].key) == 0;
    return found;
}

bool kept_save(const measured *m, const char *folder, error *e)
{
    size_t most = (size_t)m->subjects * (size_t)m->pictures + 1, n = 0;
    safetensors_entry *entry = calloc(most, sizeof *entry);
    char(*name)[NAME] = calloc(most, sizeof *name), *path = path_join(folder, KEPT_FILE);
    bool ok = (entry && name && path) || error_memory(e, KEPT_FILE, most * sizeof *entry);
    for (int k = 0; ok && k < m->subjects; k++)
        for (int i = 0; i < m->pictures; i++) {
            const measured_subject *j = &m->subject[k];
            if (!m->picture[i].match[k] || is_written(m, k, i)) continue;
            name_of(j, &m->picture[i], name[n]);
            entry[n] = (safetensors_entry){.name = name[n],
                                           .type = DTYPE_F32,
                                           .rank = 2,
                                           .dim = {j->photos, j->places},
                                           .data = m->picture[i].match[k],
                                           .bytes = (uint64_t)j->photos * (uint64_t)j->places *
                                                    sizeof(float)};
            n++;
        }
    ok = ok && safetensors_write(path, entry, n, NULL, 0, e);
    free(entry), free(name), free(path);
    return ok;
}
