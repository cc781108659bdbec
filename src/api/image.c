/* SPDX-License-Identifier: Apache-2.0
 *
 * image: lk_image, and grids of images. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "generate/grid.h"

enum { PICTURE_QUALITY = 95 }; /* of JPEG and WebP */

bool lk_image_open(lk_image **out, const char *path, lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "a picture", sizeof **out)) &&
              image_read(&(*out)->image, &(*out)->settings, path, &e);
    if (!ok) lk_image_close(out);
    return api_report(ok, &e, caller);
}

bool lk_image_from_memory(lk_image **out, const void *data, size_t bytes, const char *name,
                          lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "a picture", sizeof **out)) &&
              image_read_memory(&(*out)->image, &(*out)->settings, data, bytes,
                                name ? name : "the picture", &e);
    if (!ok) lk_image_close(out);
    return api_report(ok, &e, caller);
}

bool lk_image_from_pixels(lk_image **out, const uint8_t *pixels, int width, int height,
                          size_t stride, lk_error *caller)
{
    error e = {0};
    size_t row = width > 0 ? 3 * (size_t)width : 0;
    *out = NULL;
    if (!pixels || width < 1 || height < 1 || (stride && stride < row))
        return api_report(error_set(&e, ERROR_USAGE,
                                    "pixels of %dx%d, %zu bytes a row: not a picture's", width,
                                    height, stride),
                          &e, caller);
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "a picture", sizeof **out)) &&
              image_new(&(*out)->image, width, height, &e);
    for (int y = 0; ok && y < height; y++)
        memcpy((*out)->image.pixels + (size_t)y * row, pixels + (size_t)y * (stride ? stride : row),
               row);
    if (!ok) lk_image_close(out);
    return api_report(ok, &e, caller);
}

void lk_image_close(lk_image **p)
{
    if (!p || !*p) return;
    image_free(&(*p)->image);
    free((*p)->initial.data);
    free((*p)->final.data);
    free((*p)->settings);
    free(*p);
    *p = NULL;
}

int lk_image_width(const lk_image *p) { return p->image.width; }
int lk_image_height(const lk_image *p) { return p->image.height; }
const uint8_t *lk_image_pixels(const lk_image *p) { return p->image.pixels; }
const char *lk_image_settings(const lk_image *p) { return p->settings; }

bool lk_image_set_settings(lk_image *p, const char *text, lk_error *caller)
{
    error e = {0};
    if (!text) return api_report(error_set(&e, ERROR_USAGE, "no settings are given"), &e, caller);
    char *copy = strdup(text);
    if (!copy)
        return api_report(error_memory(&e, "a picture's settings", strlen(text)), &e, caller);
    free(p->settings);
    p->settings = copy;
    return true;
}

bool lk_image_save(const lk_image *p, const char *path, lk_error *caller)
{
    error e = {0};
    return api_report(image_write(&p->image, path, p->settings, PICTURE_QUALITY, &e), &e, caller);
}

bool lk_image_grid(lk_image **out, const lk_image *const *cell, int rows, int columns,
                   const char *const *row_label, const char *const *column_label, lk_error *caller)
{
    error e = {0};
    size_t count = rows > 0 && columns > 0 ? (size_t)rows * (size_t)columns : 0;
    const image **images = calloc(count + 1, sizeof *images);
    *out = calloc(1, sizeof **out);
    bool ok = (images && *out) || error_memory(&e, "a grid of pictures", count * sizeof *images);
    ok = ok && (count || error_set(&e, ERROR_USAGE, "a grid of %d rows and %d columns is none",
                                   rows, columns));
    for (size_t i = 0; ok && i < count; i++) images[i] = cell[i] ? &cell[i]->image : NULL;
    ok = ok && grid_make(&(*out)->image, images, rows, columns, row_label, column_label, &e);
    free(images);
    if (!ok) lk_image_close(out);
    return api_report(ok, &e, caller);
}
