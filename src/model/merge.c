/* SPDX-License-Identifier: Apache-2.0
 *
 * merge: see merge.h. A sum is held in one block; what it is made of is read from where it lies,
 * one weight at a time. */
#include "model/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/folder.h"
#include "base/half.h"
#include "base/platform.h"
#include "model/load.h"

/* "[320, 4, 3, 3]" */
static void shape_text(char out[96], const weight *w)
{
    size_t n = (size_t)snprintf(out, 96, "[");
    for (int i = 0; i < w->rank && n < 80; i++)
        n += (size_t)snprintf(out + n, 96 - n, "%s%lld", i ? ", " : "", (long long)w->dim[i]);
    snprintf(out + n, 96 - n, "]");
}

bool weights_alike(const weight_set *a, const char *where_a, const weight_set *b,
                   const char *where_b, const char *what, error *e)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        const weight *x = &a->item[i], *y = &b->item[i];
        int order = strcmp(x->name, y->name);
        if (order)
            return error_set(e, ERROR_MODEL, "%s and %s cannot be %s: only %s has %s", where_a,
                             where_b, what, order < 0 ? where_a : where_b,
                             order < 0 ? x->name : y->name);
        if (x->rank != y->rank || memcmp(x->dim, y->dim, (size_t)x->rank * sizeof *x->dim) != 0) {
            char one[96], other[96];
            shape_text(one, x);
            shape_text(other, y);
            return error_set(e, ERROR_MODEL,
                             "%s and %s cannot be %s: %s is %s in one and %s in the other", where_a,
                             where_b, what, x->name, one, other);
        }
    }
    const weight_set *longer = a->count > b->count ? a : b;
    return a->count == b->count ||
           error_set(e, ERROR_MODEL, "%s and %s cannot be %s: only %s has %s", where_a, where_b,
                     what, longer == a ? where_a : where_b,
                     longer->item[a->count < b->count ? a->count : b->count].name);
}

/* One weight's sum; part has room for one of its terms. */
static void add_up(float *out, float *part, const weight_set *const *set, const float *share,
                   int count, size_t i)
{
    size_t n = (size_t)weight_elements(&set[0]->item[i]);
    for (int k = 0; k < count; k++) {
        const weight *w = &set[k]->item[i];
        convert_to_float(part, w->data, w->type, n);
        for (size_t x = 0; x < n; x++)
            out[x] = k ? out[x] + share[k] * part[x] : share[k] * part[x];
    }
}

static void drop(const weight_set *const *set, int count)
{
    for (int k = 0; k < count; k++)
        if (set[k]->storage_drop) set[k]->storage_drop(set[k]->storage);
}

bool weights_merge(weight_set *out, const weight_set *const *set, const float *share,
                   const char *const *where, int count, const work_watch *watch, error *e)
{
    size_t total = 0, largest = 0;
    *out = (weight_set){0};
    for (int k = 1; k < count; k++)
        if (!weights_alike(set[0], where[0], set[k], where[k], "blended", e)) return false;
    for (size_t i = 0; i < set[0]->count; i++) {
        size_t n = (size_t)weight_elements(&set[0]->item[i]);
        total += n;
        if (n > largest) largest = n;
    }
    float *sum = malloc((total + 1) * sizeof *sum), *part = malloc((largest + 1) * sizeof *part);
    weight *item = calloc(set[0]->count + 1, sizeof *item);
    bool ok = (sum && part && item) || error_memory(e, "blended weights", total * sizeof *sum);
    if (ok) *out = (weight_set){item, set[0]->count, sum, free, NULL, NULL};
    for (size_t i = 0, at = 0; ok && i < set[0]->count; i++) {
        item[i] = set[0]->item[i];
        item[i].type = DTYPE_F32;
        item[i].data = sum + at;
        add_up(sum + at, part, set, share, count, i);
        ok = work_goes_on(watch, (int64_t)i, (int64_t)set[0]->count, e);
        at += (size_t)weight_elements(&item[i]);
    }
    drop(set, count);
    free(part);
    if (!ok) {
        free(item);
        free(sum);
        *out = (weight_set){0};
        return false;
    }
    ok = weights_check_finite(out, "the blend", NULL, NULL, e);
    if (!ok) weight_set_close(out);
    if (!ok && e && e->code == ERROR_NUMERIC) { /* the models' own were looked at */
        *e = (error){0};
        error_set(e, ERROR_NUMERIC,
                  "the blend holds numbers past float32's end; give smaller weights in the sum");
    }
    return ok;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Whether what is written to folder/name would be written to `source`, or where its own `name`
 * lies: by whatever paths and links. */
static bool lies_there(const char *source, const char *folder, const char *name, bool *lies,
                       error *e)
{
    char *here = path_join(folder, name), *there = path_join(source, name);
    bool ok = (here && there) || error_memory(e, folder, strlen(folder));
    *lies = ok && (same_file(here, there) || same_file(here, source));
    free(here);
    free(there);
    return ok;
}

static bool refuse_part_folder(const model *m, const char *folder, error *e)
{
    static const char *const names[] = {".",
                                        "unet",
                                        "unet/diffusion_pytorch_model.safetensors",
                                        "text_encoder",
                                        "text_encoder/model.safetensors",
                                        "vae",
                                        "vae/diffusion_pytorch_model.safetensors",
                                        "tokenizer",
                                        "scheduler"};
    const char *const sources[] = {m->path, m->tokenizer_folder, m->vae_folder};
    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; sources[s] && i < sizeof names / sizeof *names; i++) {
            bool lies;
            if (!lies_there(sources[s], folder, names[i], &lies, e)) return false;
            if (lies)
                return error_set(e, ERROR_USAGE,
                                 "%s: one of the models lies there; choose another folder "
                                 "to save to",
                                 folder);
        }
    return true;
}

static bool fits(const model *first, const model *m, error *e)
{
    if (first->kind != m->kind)
        return error_set(e, ERROR_MODEL,
                         "%s and %s cannot be blended: one makes pictures from a prompt, "
                         "the other without",
                         first->path, m->path);
    return first->scheduler.predicts == m->scheduler.predicts ||
           error_set(e, ERROR_MODEL,
                     "%s and %s cannot be blended: one predicts noise, the other "
                     "velocity",
                     first->path, m->path);
}

bool model_merge(const model *const *part, const float *share, int count, const char *folder,
                 const work_watch *watch, error *e)
{
    const weight_set *unet[16], *clip[16];
    const char *where[16];
    if (count < 1 || count > 16)
        return error_set(e, ERROR_USAGE, "a blend of %d models; there can be 1 to 16", count);
    for (int k = 0; k < count; k++) {
        if (!fits(part[0], part[k], e) || !refuse_part_folder(part[k], folder, e)) return false;
        unet[k] = &part[k]->unet_weights;
        clip[k] = &part[k]->clip_weights;
        where[k] = part[k]->path;
    }
    weight_set u = {0}, c = {0};
    struct stat there;
    bool was_there = lstat(folder, &there) == 0;
    bool ok = weights_merge(&u, unet, share, where, count, watch, e) &&
              weights_merge(&c, clip, share, where, count, watch, e) &&
              model_save_unless(part[0], folder, &u, &c, NULL, watch, e);
    if (!ok && !was_there) folder_remove(folder, NULL); /* what is not whole is of no use */
    weight_set_close(&u);
    weight_set_close(&c);
    return ok;
}

bool model_save_folder(const model *m, const char *folder, const dtype *as, const work_watch *watch,
                       error *e)
{
    struct stat there;
    if (!refuse_part_folder(m, folder, e)) return false;
    bool was_there = lstat(folder, &there) == 0;
    bool ok = model_save_unless(m, folder, NULL, NULL, as, watch, e);
    if (!ok && !was_there) folder_remove(folder, NULL);
    return ok;
}
