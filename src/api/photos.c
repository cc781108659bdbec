/* SPDX-License-Identifier: Apache-2.0
 *
 * photos: lk_photos, a folder of pictures as a training reads them. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "train/photos.h"

/* Decoded, or only listed: `files` then, with whole paths. */
struct lk_photos {
    photo_set set;
    photo_files files;
};

void lk_photos_defaults_sized(lk_photos_options *o, size_t size)
{
    static const lk_photos_options usual = {.size = sizeof(lk_photos_options)};
    options_give(o, size, &usual, sizeof usual);
}

/* Names become paths. */
static bool files_open(photo_files *f, const char *folder, size_t limit, error *e)
{
    if (!photo_files_list(f, folder, limit, e)) return false;
    for (size_t i = 0; i < f->count; i++) {
        char *path = path_join(folder, f->item[i].name);
        if (!path) return error_memory(e, folder, strlen(folder));
        free(f->item[i].name);
        f->item[i].name = path;
    }
    return true;
}

bool lk_photos_open(lk_photos **out, const char *folder, const lk_photos_options *given,
                    lk_error *caller)
{
    error e = {0};
    lk_photos_options o = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "a folder's photos", sizeof **out)) &&
              api_options(&o, sizeof o, given, "lk_photos_options", &e);
    ok = ok && (o.resolution >= 0 || error_set(&e, ERROR_USAGE,
                                               "photos at a resolution of %d; give 1 or more, or 0 "
                                               "to have them listed only",
                                               o.resolution));
    if (ok)
        ok = o.resolution ? photo_set_open(&(*out)->set, folder, o.resolution, o.limit,
                                           o.of_class ? "class" : "instance", &e)
                          : files_open(&(*out)->files, folder, o.limit, &e);
    if (!ok) lk_photos_close(out);
    return api_report(ok, &e, caller);
}

void lk_photos_close(lk_photos **p)
{
    if (!p || !*p) return;
    photo_set_close(&(*p)->set);
    photo_files_free(&(*p)->files);
    free(*p);
    *p = NULL;
}

size_t lk_photos_count(const lk_photos *p)
{
    return p->set.resolution ? p->set.count : p->files.count;
}

const char *lk_photos_path(const lk_photos *p, size_t i)
{
    return p->set.resolution ? p->set.item[i].path : p->files.item[i].name;
}

const char *lk_photos_hash(const lk_photos *p, size_t i)
{
    return p->set.resolution ? p->set.item[i].sha256 : p->files.item[i].sha256;
}

bool lk_photos_image(lk_image **out, const lk_photos *p, size_t i, lk_error *caller)
{
    error e = {0};
    int side = p->set.resolution;
    *out = NULL;
    if (side && i >= p->set.count)
        return api_report(error_set(&e, ERROR_USAGE, "there is no photo %zu: there are %zu", i,
                                    (size_t)p->set.count),
                          &e, caller);
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "a picture", sizeof **out)) &&
              (side ||
               error_set(&e, ERROR_USAGE, "%s was listed only; open its folder with a resolution",
                         lk_photos_path(p, i))) &&
              image_new(&(*out)->image, side, side, &e);
    if (ok) {
        const image *whole = &p->set.item[i].picture;
        crop c = photo_center(&p->set.item[i], side);
        size_t row = 3 * (size_t)side;
        for (int y = 0; y < side; y++)
            memcpy((*out)->image.pixels + (size_t)y * row,
                   whole->pixels +
                       3 * ((size_t)(c.top + y) * (size_t)whole->width + (size_t)c.left),
                   row);
    }
    if (!ok) lk_image_close(out);
    return api_report(ok, &e, caller);
}
