/* SPDX-License-Identifier: Apache-2.0
 *
 * image: a picture as memory, which format a file has, and the turning that EXIF asks for. The
 * formats are in files of their names. */
#include "file/image.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/sha256.h"
#include "file/formats.h"

bool image_new(image *out, int width, int height, error *e)
{
    *out = (image){0};
    uint64_t bytes = (uint64_t)width * (uint64_t)height * 3;
    uint8_t *pixels = width < 1 || height < 1 || bytes > INT64_MAX / 2 ? NULL : malloc(bytes);
    if (!pixels) return error_memory(e, "a picture", bytes);
    memset(pixels, 255, bytes);
    *out = (image){.width = width, .height = height, .pixels = pixels};
    return true;
}

void image_free(image *m)
{
    free(m->pixels);
    *m = (image){0};
}

void image_hash(char hex[65], const image *m)
{
    sha256 hash;
    int32_t size[2] = {m->width, m->height};
    sha256_start(&hash);
    sha256_add(&hash, size, sizeof size);
    sha256_add(&hash, m->pixels, 3 * (size_t)m->width * (size_t)m->height);
    sha256_end(&hash, hex);
}

bool check_image_size(uint64_t width, uint64_t height, const char *path, error *e)
{
    if (width == 0 || height == 0)
        return error_set(e, ERROR_FORMAT, "%s: the picture is empty", path);
    if (width > INT_MAX || height > INT_MAX || width > MAX_PIXELS / height)
        return error_set(e, ERROR_FORMAT,
                         "%s: a picture of %llu x %llu is too large (at most %d pixels)", path,
                         (unsigned long long)width, (unsigned long long)height, MAX_PIXELS);
    return true;
}

/* Pillow's ImageOps.exif_transpose: orientations from 5 on exchange width and height. */
static bool turn(image *m, int orientation, error *e)
{
    if (orientation == 1) return true;
    bool crossed = orientation >= 5;
    bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    image out;
    int frames = m->frames;
    if (!image_new(&out, crossed ? m->height : m->width, crossed ? m->width : m->height, e))
        return false;
    uint8_t *to = out.pixels;
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++, to += 3) {
            int sx = crossed ? y : x, sy = crossed ? x : y;
            if (from_right) sx = m->width - 1 - sx;
            if (from_bottom) sy = m->height - 1 - sy;
            memcpy(to, m->pixels + 3 * ((size_t)sy * (size_t)m->width + (size_t)sx), 3);
        }
    image_free(m);
    *m = out;
    m->frames = frames;
    return true;
}

static bool starts_with(const void *data, size_t size, size_t at, const char *bytes, size_t n)
{
    return size >= at + n && memcmp((const char *)data + at, bytes, n) == 0;
}

/* "BM" begins many texts: the two reserved numbers behind the file's size are 0 in a bitmap. */
static bool is_bmp(const void *data, size_t size)
{
    return starts_with(data, size, 6, "\0\0\0\0", 4);
}

/* A file of ISO boxes whose brand is a picture's, not a film's. */
static bool is_heif(const void *data, size_t size)
{
    static const char brands[][5] = {"heic", "heix", "heim", "heis", "hevc",
                                     "hevx", "mif1", "msf1", "avif", "avis"};
    if (!starts_with(data, size, 4, "ftyp", 4)) return false;
    for (size_t i = 0; i < sizeof brands / sizeof *brands; i++)
        if (starts_with(data, size, 8, brands[i], 4)) return true;
    return false;
}

typedef bool reader(picture *out, const uint8_t *data, size_t size, const char *path, error *e);

static reader *reader_of(const void *data, size_t size)
{
    if (starts_with(data, size, 0, "\x89PNG\r\n\x1a\n", 8)) return png_read;
    if (starts_with(data, size, 0, "\xff\xd8\xff", 3)) return jpeg_read;
    if (starts_with(data, size, 0, "RIFF", 4) && starts_with(data, size, 8, "WEBP", 4))
        return webp_read;
    if (starts_with(data, size, 0, "GIF87a", 6) || starts_with(data, size, 0, "GIF89a", 6))
        return gif_read;
    if (starts_with(data, size, 0, "BM", 2) && is_bmp(data, size)) return bmp_read;
    if (starts_with(data, size, 0, "II*\0", 4) || starts_with(data, size, 0, "MM\0*", 4) ||
        starts_with(data, size, 0, "II+\0", 4) || starts_with(data, size, 0, "MM\0+", 4))
        return tiff_read;
    return is_heif(data, size) ? heif_read : NULL;
}

bool image_known(const void *data, size_t size) { return reader_of(data, size); }

static bool read_by_content(picture *out, const uint8_t *data, size_t size, const char *path,
                            error *e)
{
    reader *read = reader_of(data, size);
    if (read) return read(out, data, size, path, e);
    return error_set(
        e, ERROR_FORMAT,
        "%s: is not a PNG, JPEG, WebP, BMP, GIF, TIFF, HEIC or AVIF picture%s; convert it to one "
        "of these",
        path, size == 0 ? " (it is empty)" : "");
}

bool image_read_memory(image *out, char **text, const void *data, size_t size, const char *path,
                       error *e)
{
    *out = (image){0};
    if (text) *text = NULL;
    picture p = {.orientation = 1};
    if (!read_by_content(&p, data, size, path, e)) return false;
    if (!turn(&p.pixels, p.orientation, e)) {
        image_free(&p.pixels);
        free(p.text);
        return false;
    }
    *out = p.pixels;
    if (text)
        *text = p.text;
    else
        free(p.text);
    return true;
}

bool image_read(image *out, char **text, const char *path, error *e)
{
    mapped_file file;
    *out = (image){0};
    if (text) *text = NULL;
    if (!file_map(&file, path, e)) return false;
    bool ok = image_read_memory(out, text, file.data, file.size, path, e);
    file_unmap(&file);
    return ok;
}

static bool ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && strcasecmp(path + n - m, ending) == 0;
}

bool image_write(const image *m, const char *path, const char *text, int quality, error *e)
{
    bool jpeg = ends_with(path, ".jpg") || ends_with(path, ".jpeg"),
         webp = ends_with(path, ".webp");
    if (!jpeg && !webp && !ends_with(path, ".png"))
        return error_set(e, ERROR_USAGE,
                         "%s: a picture's name must end in .png, .jpg, .jpeg or .webp", path);
    file_writer *w;
    if (!file_writer_open(&w, path, e)) return false;
    bool ok = jpeg   ? jpeg_write(m, w, text, quality, path, e)
              : webp ? webp_write(m, w, text, quality, path, e)
                     : png_write(m, w, text, path, e);
    if (ok) return file_writer_commit(&w, e);
    file_writer_abandon(&w);
    return false;
}
