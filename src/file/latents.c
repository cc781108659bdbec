/* SPDX-License-Identifier: Apache-2.0
 *
 * latents: reading and writing files of latents. */
#include "file/latents.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "file/safetensors.h"

#define SETTINGS_KEY "parameters" /* of the metadata */

static bool check_latents(const safetensors_entry *t, const char *path, error *e)
{
    if (!t || t->rank != 4 || t->dim[0] != 1)
        return error_set(e, ERROR_FORMAT,
                         "%s: initial latents are one tensor \"latents\" [1, channels, height, "
                         "width]",
                         path);
    if (t->type != DTYPE_F32 && t->type != DTYPE_F16 && t->type != DTYPE_BF16)
        return error_set(e, ERROR_FORMAT, "%s: latents of type %s; they must be F32, F16 or BF16",
                         path, dtype_name(t->type));
    for (int i = 1; i < 4; i++)
        if (t->dim[i] <= 0 || t->dim[i] > 1 << 20)
            return error_set(e, ERROR_FORMAT, "%s: latents of no size that a picture could have",
                             path);
    return true;
}

bool latents_read(float **data, int shape[3], const char *path, error *e)
{
    safetensors file;
    *data = NULL;
    if (!safetensors_open(&file, path, e)) return false;
    const safetensors_entry *t = safetensors_find(&file, "latents");
    bool ok = check_latents(t, path, e);
    if (ok) {
        for (int i = 0; i < 3; i++) shape[i] = (int)t->dim[i + 1];
        size_t n = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
        *data = malloc(n * sizeof **data);
        ok = *data || error_memory(e, path, n * sizeof **data);
        if (ok) convert_to_float(*data, t->data, t->type, n);
    }
    safetensors_close(&file);
    return ok;
}

static uint64_t bytes_of(const int shape[3])
{
    return sizeof(float) * (uint64_t)shape[0] * (uint64_t)shape[1] * (uint64_t)shape[2];
}

bool latents_write(const char *path, const float *initial, const int initial_shape[3],
                   const float *final, const int shape[3], const char *settings, error *e)
{
    const int *begun = initial_shape;
    safetensors_entry entry[2] = {
        {.name = "latents",
         .rank = 4,
         .dim = {1, begun[0], begun[1], begun[2]},
         .data = initial,
         .bytes = bytes_of(begun)},
        {.name = "final",
         .rank = 4,
         .dim = {1, shape[0], shape[1], shape[2]},
         .data = final,
         .bytes = bytes_of(shape)},
    };
    safetensors_pair about = {SETTINGS_KEY, settings};
    return safetensors_write(path, entry, 2, &about, settings ? 1 : 0, e);
}

char *latents_settings(const char *path)
{
    safetensors file;
    char *text = NULL;
    if (!safetensors_open(&file, path, NULL)) return NULL;
    for (size_t i = 0; !text && i < file.metadata_count; i++)
        if (strcmp(file.metadata[i].key, SETTINGS_KEY) == 0) text = strdup(file.metadata[i].value);
    safetensors_close(&file);
    return text;
}
