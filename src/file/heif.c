/* SPDX-License-Identifier: Apache-2.0
 *
 * heif: HEIC and AVIF, by libheif where the build has found it (libheif-dev); it turns pictures
 * itself. */
#include <stdio.h>
#include <string.h>

#include "file/formats.h"

#ifdef LK_HEIF

#include <libheif/heif.h>

static bool failed(struct heif_error why, const char *path, error *e)
{
    char line[200]; /* libheif's may have several */
    if (why.code == heif_error_Memory_allocation_error) return error_memory(e, path, 0);
    snprintf(line, sizeof line, "%.*s", (int)strcspn(why.message, "\n"), why.message);
    return error_set(e, ERROR_FORMAT, "%s: this HEIC or AVIF picture cannot be read (%s)", path,
                     line);
}

static bool read_pixels(image *out, const struct heif_image_handle *handle, const char *path,
                        error *e)
{
    struct heif_image *decoded = NULL;
    int width = heif_image_handle_get_width(handle), height = heif_image_handle_get_height(handle),
        stride;
    if (!check_image_size((uint64_t)(width > 0 ? width : 0), (uint64_t)(height > 0 ? height : 0),
                          path, e))
        return false;
    struct heif_error why = heif_decode_image(handle, &decoded, heif_colorspace_RGB,
                                              heif_chroma_interleaved_RGB, NULL);
    if (why.code != heif_error_Ok) return failed(why, path, e);
    width = heif_image_get_primary_width(decoded);
    height = heif_image_get_primary_height(decoded);
    const uint8_t *rows = heif_image_get_plane_readonly(decoded, heif_channel_interleaved, &stride);
    bool ok = rows && image_new(out, width, height, e);
    for (int y = 0; ok && y < height; y++)
        memcpy(out->pixels + (size_t)3 * (size_t)width * (size_t)y,
               rows + (size_t)stride * (size_t)y, (size_t)3 * (size_t)width);
    heif_image_release(decoded);
    return ok || error_set(e, ERROR_FORMAT, "%s: this HEIC or AVIF picture holds no colours", path);
}

bool heif_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e)
{
    struct heif_image_handle *handle = NULL;
    *out = (picture){.orientation = 1};
    struct heif_context *context = heif_context_alloc();
    if (!context) return error_memory(e, path, 0);
    struct heif_error why = heif_context_read_from_memory_without_copy(context, data, size, NULL);
    if (why.code == heif_error_Ok) why = heif_context_get_primary_image_handle(context, &handle);
    bool ok = why.code == heif_error_Ok ? read_pixels(&out->pixels, handle, path, e)
                                        : failed(why, path, e);
    if (ok) out->pixels.frames = heif_context_get_number_of_top_level_images(context);
    if (handle) heif_image_handle_release(handle);
    heif_context_free(context);
    return ok;
}

#else

bool heif_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e)
{
    (void)data, (void)size;
    *out = (picture){.orientation = 1};
    return error_set(e, ERROR_FORMAT,
                     "%s: is a HEIC or AVIF picture, which this build does not read: install "
                     "libheif-dev and build again, or convert it to PNG or JPEG",
                     path);
}

#endif
