/* SPDX-License-Identifier: Apache-2.0
 *
 * extract: see extract.h. What kohya's extract_lora_from_models.py does: the first singular values
 * of each layer's difference, the factors clamped. (It leaves the whole text encoder out where no
 * weight of it differs by 0.01; here each layer counts for itself.) */
#include "model/extract.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/half.h"
#include "file/safetensors.h"
#include "model/low_rank.h"
#include "model/lora_names.h"
#include "model/merge.h"

enum { PARTS = 3 }; /* down, up, alpha */

typedef struct extracting {
    const extract_options *o;
    thread_pool *pool;
    const work_watch *watch;
    arena memory; /* of the file's tensors */
    safetensors_entry *entry;
    size_t count, done, total;
    double all, left, beyond; /* sums of squares: of the difference; of what is not in the LoRA */
    size_t layers;
    error *e;
} extracting;

/* Whether people's programs know such a layer of a LoRA. */
static bool is_layer(const weight *w, bool text)
{
    static const char *const parts[2][5] = {
        {".attentions.", ".resnets.", ".downsamplers.", ".upsamplers.", NULL},
        {".self_attn.", ".mlp.", NULL}};
    if (w->rank != 2 && w->rank != 4) return false;
    for (int i = 0; parts[text][i]; i++)
        if (strstr(w->name, parts[text][i])) return true;
    return false;
}

static bool no_room(const extracting *x, size_t n)
{
    return error_memory(x->e, "a layer's difference", n * sizeof(float));
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* torch.quantile's value among both, then both cut off there. */
static bool clamp(const extracting *x, float *up, size_t n, float *down, size_t m)
{
    if (x->o->quantile >= 1) return true;
    float *all = malloc((n + m) * sizeof *all);
    if (!all) return no_room(x, n + m);
    memcpy(all, up, n * sizeof *all);
    memcpy(all + n, down, m * sizeof *all);
    qsort(all, n + m, sizeof *all, compare_floats);
    double at = x->o->quantile * (double)(n + m - 1);
    size_t below = (size_t)at, above = below + 1 < n + m ? below + 1 : below;
    float high = all[below] + (float)(at - (double)below) * (all[above] - all[below]);
    free(all);
    for (size_t i = 0; i < n; i++) up[i] = fminf(fmaxf(up[i], -high), high);
    for (size_t i = 0; i < m; i++) down[i] = fminf(fmaxf(down[i], -high), high);
    return true;
}

/* In the file's type; the numbers themselves become those that a reader will have. */
static bool put(extracting *x, const char *key, const char *end, float *value, int rank,
                const int64_t *dim, size_t n)
{
    safetensors_entry *t = &x->entry[x->count++];
    dtype type = x->o->type;
    char name[NAME_LENGTH + 32];
    snprintf(name, sizeof name, "%s%s", key, end);
    *t = (safetensors_entry){.name = arena_strdup(&x->memory, name), .type = type, .rank = rank};
    void *data = arena_alloc(&x->memory, n * dtype_size(type));
    if (!t->name || !data) return no_room(x, n);
    t->data = data;
    t->bytes = n * dtype_size(type);
    for (int i = 0; i < rank; i++) t->dim[i] = dim[i];
    if (type == DTYPE_F32) {
        memcpy(data, value, n * sizeof *value);
    } else {
        convert_from_float(data, type, value, n);
        convert_to_float(value, data, type, n);
    }
    return true;
}

/* The squares of what up down leaves of the difference. */
static double rest_of(const float *by, const float *up, const float *down, int64_t rows,
                      int64_t columns, int rank, double *row)
{
    double sum = 0;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = 0; k < columns; k++) row[k] = (double)by[i * columns + k];
        for (int r = 0; r < rank; r++) {
            double a = (double)up[i * rank + r];
            const float *b = down + r * columns;
            for (int64_t k = 0; k < columns; k++) row[k] -= a * (double)b[k];
        }
        for (int64_t k = 0; k < columns; k++) sum += row[k] * row[k];
    }
    return sum;
}

static bool extract_layer(extracting *x, const weight *w, const char *prefix, const float *by,
                          double square)
{
    int64_t rows = w->dim[0], columns = weight_elements(w) / rows;
    int rank = x->o->rank;
    if (rank > rows) rank = (int)rows;
    if (rank > columns) rank = (int)columns;
    size_t n = (size_t)rows * (size_t)rank, m = (size_t)columns * (size_t)rank;
    float *up = malloc((n + m) * sizeof *up), *down = up ? up + n : NULL;
    double *row = malloc((size_t)columns * sizeof *row);
    bool ok = (up && row) || no_room(x, n + m);
    ok = ok && low_rank(up, down, by, rows, columns, rank, x->pool, x->e) &&
         clamp(x, up, n, down, m);
    if (ok) {
        char key[NAME_LENGTH + 16], module[NAME_LENGTH];
        float alpha = (float)rank;
        int64_t above[4] = {rows, rank, 1, 1}, below[4] = {rank};
        memcpy(below + 1, w->dim + 1, (size_t)(w->rank - 1) * sizeof *below);
        lora_key_of(w->name, module);
        snprintf(key, sizeof key, "%s%s", prefix, module);
        ok = put(x, key, ".lora_up.weight", up, w->rank, above, n) &&
             put(x, key, ".lora_down.weight", down, w->rank, below, m) &&
             put(x, key, ".alpha", &alpha, 0, NULL, 1);
        x->left += rest_of(by, up, down, rows, columns, rank, row);
        x->all += square;
        x->layers++;
    }
    free(up);
    free(row);
    return ok;
}

static bool extract_weight(extracting *x, const weight *from, const weight *to, bool text)
{
    size_t n = (size_t)weight_elements(from);
    float *by = malloc(2 * n * sizeof *by + 1);
    double square = 0;
    bool ok = by || no_room(x, 2 * n);
    ok = ok && work_goes_on(x->watch, (int64_t)x->done++, (int64_t)x->total, x->e);
    if (ok) {
        convert_to_float(by, to->data, to->type, n);
        convert_to_float(by + n, from->data, from->type, n);
        for (size_t i = 0; i < n; i++) {
            by[i] -= by[n + i];
            square += (double)by[i] * (double)by[i];
        }
        if (square > 0 && is_layer(from, text)) {
            ok = extract_layer(x, from, text ? "lora_te_" : "lora_unet_", by, square);
        } else {
            x->all += square;
            x->beyond += square;
        }
    }
    free(by);
    return ok;
}

static bool write_file(const extracting *x, const char *path)
{
    char rank[16];
    snprintf(rank, sizeof rank, "%d", x->o->rank);
    const safetensors_pair pairs[] = {{"ss_base_model_version", "sd_v1"},
                                      {"ss_network_module", "networks.lora"},
                                      {"ss_network_dim", rank},
                                      {"ss_network_alpha", rank}};
    return safetensors_write(path, x->entry, x->count, pairs, sizeof pairs / sizeof *pairs, x->e);
}

static bool check(const model *base, const model *trained, const extract_options *o, error *e)
{
    const weight_set *a[] = {&base->unet_weights, &base->clip_weights},
                     *b[] = {&trained->unet_weights, &trained->clip_weights};
    if (o->rank < 1 || o->rank > 4096)
        return error_set(e, ERROR_USAGE, "a LoRA's rank of %d; give 1 to 4096", o->rank);
    if (!(o->quantile >= 0.5 && o->quantile <= 1))
        return error_set(e, ERROR_USAGE, "the clamp's quantile is a share from 0.5 to 1");
    if (base->kind != MODEL_STABLE_DIFFUSION || trained->kind != MODEL_STABLE_DIFFUSION)
        return error_set(e, ERROR_MODEL, "%s: is an unconditional model, which LoRAs are not for",
                         (base->kind == MODEL_STABLE_DIFFUSION ? trained : base)->path);
    for (int k = 0; k < 2; k++)
        if (!weights_alike(a[k], base->path, b[k], trained->path, "compared", e)) return false;
    return true;
}

bool lora_extract(const model *base, const model *trained, const extract_options *o,
                  const char *path, thread_pool *pool, const work_watch *watch, extract_result *out,
                  error *e)
{
    const weight_set *from[] = {&base->unet_weights, &base->clip_weights},
                     *to[] = {&trained->unet_weights, &trained->clip_weights};
    extracting x = {.o = o, .pool = pool, .watch = watch, .e = e};
    *out = (extract_result){0};
    if (!check(base, trained, o, e)) return false;
    x.total = from[0]->count + from[1]->count;
    x.entry = calloc(PARTS * x.total + 1, sizeof *x.entry);
    bool ok = x.entry || error_memory(e, path, PARTS * x.total * sizeof *x.entry);
    for (int k = 0; ok && k < 2; k++)
        for (size_t i = 0; ok && i < from[k]->count; i++)
            ok = extract_weight(&x, &from[k]->item[i], &to[k]->item[i], k == 1);
    if (ok && !x.layers)
        ok = error_set(e, ERROR_MODEL, "%s and %s do not differ in any layer that a LoRA has",
                       base->path, trained->path);
    ok = ok && write_file(&x, path);
    if (ok)
        *out = (extract_result){.layers = x.layers,
                                .kept = 1 - (x.left + x.beyond) / x.all,
                                .beyond = x.beyond / x.all};
    for (int k = 0; k < 2; k++) {
        if (from[k]->storage_drop) from[k]->storage_drop(from[k]->storage);
        if (to[k]->storage_drop) to[k]->storage_drop(to[k]->storage);
    }
    free(x.entry);
    arena_free(&x.memory);
    return ok;
}
