/* SPDX-License-Identifier: Apache-2.0
 *
 * bmp: Windows and OS/2 bitmaps, 1 to 32 bits a pixel, plain, with bit masks or run-length coded.
 * Read here because no small library does; what is odd about a file is taken as Pillow takes it. */
#include <stdlib.h>
#include <string.h>

#include "file/formats.h"

enum { FILE_HEADER = 14, PLAIN = 0, RLE8 = 1, RLE4 = 2, BIT_MASKS = 3 };

typedef struct bmp {
    const uint8_t *data;
    size_t size;
    const char *path;
    error *e;
    uint32_t width, height, bits, compression, colors;
    bool from_top;
    size_t pixels;    /* where they begin */
    uint32_t mask[3]; /* of red, green, blue, where a pixel has 16 bits or more */
    uint8_t palette[256][3];
} bmp;

static uint32_t number(const uint8_t *p, int bytes)
{
    uint32_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static bool damaged(const bmp *b, const char *what)
{
    return error_set(b->e, ERROR_FORMAT, "%s: the BMP %s", b->path, what);
}

static void default_masks(bmp *b)
{
    static const uint32_t wide[3] = {0xff0000, 0xff00, 0xff}, narrow[3] = {0x7c00, 0x3e0, 0x1f};
    memcpy(b->mask, b->bits == 16 ? narrow : wide, sizeof b->mask);
}

/* The palette behind the headers; indices past its end are black. */
static bool read_palette(bmp *b, size_t at, uint32_t entry)
{
    uint32_t n = b->colors < 256 ? b->colors : 256;
    if (at > b->size || (size_t)n * entry > b->size - at)
        return damaged(b, "is cut short; fetch it again");
    for (uint32_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++) b->palette[i][c] = b->data[at + (size_t)i * entry + 2 - c];
    return true;
}

/* The headers of 40 bytes and more. *used: with the masks that follow a short one. */
static bool read_long_header(bmp *b, const uint8_t *h, uint32_t length, size_t *used)
{
    uint32_t height = number(h + 8, 4);
    b->width = number(h + 4, 4);
    b->from_top = h[11] == 0xff;
    b->height = b->from_top ? 0u - height : height;
    b->bits = number(h + 14, 2);
    b->compression = number(h + 16, 4);
    b->colors = number(h + 32, 4);
    default_masks(b);
    if (b->compression != BIT_MASKS) return true;
    if (b->bits != 16 && b->bits != 24 && b->bits != 32)
        return damaged(b, "is damaged (bit masks)");
    if (length < 52) *used += 12;
    if (*used > b->size) return damaged(b, "is cut short; fetch it again");
    uint32_t mask[3];
    for (int c = 0; c < 3; c++) mask[c] = number(h + 40 + 4 * c, 4);
    if (mask[0] | mask[1] | mask[2]) memcpy(b->mask, mask, sizeof mask);
    return true;
}

static bool read_headers(bmp *b)
{
    if (b->size < FILE_HEADER + 12) return damaged(b, "is cut short; fetch it again");
    const uint8_t *h = b->data + FILE_HEADER;
    uint32_t length = number(h, 4);
    size_t used = FILE_HEADER + (size_t)length;
    bool is_short = length == 12;
    if (!is_short && length != 40 && length != 52 && length != 56 && length != 64 &&
        length != 108 && length != 124)
        return damaged(b, "has a header of a kind that is not known");
    if (used > b->size) return damaged(b, "is cut short; fetch it again");
    if (is_short) {
        b->width = number(h + 4, 2);
        b->height = number(h + 6, 2);
        b->bits = number(h + 10, 2);
        default_masks(b);
    } else if (!read_long_header(b, h, length, &used)) {
        return false;
    }
    bool runs = b->compression == RLE8 || b->compression == RLE4;
    if (b->bits != 1 && b->bits != 4 && b->bits != 8 && b->bits != 16 && b->bits != 24 &&
        b->bits != 32)
        return damaged(b, "has a number of bits a pixel that is not known");
    if (runs ? b->bits != (b->compression == RLE8 ? 8u : 4u) || b->from_top
             : b->compression != PLAIN && b->compression != BIT_MASKS)
        return damaged(b, "is compressed in a way that is not known");
    if (!b->colors) b->colors = b->bits <= 8 ? 1u << b->bits : 0;
    b->pixels = number(b->data + 10, 4);
    if (b->bits > 8) return true;
    uint32_t entry = is_short ? 3 : 4;
    if (b->pixels == FILE_HEADER + (size_t)length) b->pixels += (size_t)entry * b->colors;
    return read_palette(b, used, entry);
}

/* The value under a mask, 0 to 255. */
static uint8_t masked(uint32_t pixel, uint32_t mask)
{
    if (!mask) return 0;
    int shift = __builtin_ctz(mask);
    uint64_t most = mask >> shift;
    return (uint8_t)((uint64_t)((pixel & mask) >> shift) * 255 / most);
}

static void read_row(const bmp *b, uint8_t *rgb, const uint8_t *row)
{
    for (uint32_t x = 0; x < b->width; x++, rgb += 3) {
        if (b->bits <= 8) {
            uint32_t per_byte = 8 / b->bits, shift = 8 - b->bits * (x % per_byte + 1);
            uint8_t index = (uint8_t)(row[x / per_byte] >> shift) & (uint8_t)((1u << b->bits) - 1);
            memcpy(rgb, b->palette[index], 3);
            continue;
        }
        uint32_t bytes = b->bits / 8, pixel = number(row + (size_t)x * bytes, (int)bytes);
        for (int c = 0; c < 3; c++) rgb[c] = masked(pixel, b->mask[c]);
    }
}

static bool read_plain(const bmp *b, image *out)
{
    size_t stride = ((size_t)b->width * b->bits + 31) / 32 * 4;
    if (b->pixels > b->size || stride > (b->size - b->pixels) / b->height)
        return damaged(b, "is cut short; fetch it again");
    for (uint32_t y = 0; y < b->height; y++) {
        size_t row = b->from_top ? y : b->height - 1 - y;
        read_row(b, out->pixels + row * 3 * b->width, b->data + b->pixels + y * stride);
    }
    return true;
}

/* ---- runs ---- */

/* One run or literal of n pixels, as far as there is room. packed: two pixels a byte, a run
 * alternates. */
static size_t put_pixels(uint8_t *to, size_t room, const uint8_t *from, size_t n, bool packed,
                         bool run)
{
    if (n > room) n = room;
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = from[run ? 0 : packed ? i / 2 : i];
        to[i] = !packed ? byte : i % 2 ? byte & 15 : byte >> 4;
    }
    return n;
}

/* Fills width x height indices, from the last row up; what no code reaches stays 0. */
static void read_codes(const bmp *b, uint8_t *index)
{
    bool packed = b->compression == RLE4;
    size_t total = (size_t)b->width * b->height, at = 0, i = b->pixels, x = 0;
    while (at < total && i < b->size && b->size - i >= 2) {
        const uint8_t *code = b->data + i;
        size_t n = code[0], value = code[1];
        i += 2;
        if (n) {
            size_t room = x < b->width ? b->width - x : 0;
            if (room > total - at) room = total - at;
            n = put_pixels(index + at, room, code + 1, n, packed, true);
            at += n;
            x += n;
        } else if (value == 0) {
            at += (b->width - at % b->width) % b->width;
            x = 0;
        } else if (value == 1) {
            return;
        } else if (value == 2) {
            if (b->size - i < 2) return;
            at += code[2] + (size_t)code[3] * b->width;
            x = at % b->width;
            i += 2;
        } else {
            size_t bytes = packed ? (value + 1) / 2 : value;
            if (b->size - i < bytes) return;
            at += put_pixels(index + at, total - at, code + 2, value, packed, false);
            x += value;
            i += bytes + (i + bytes) % 2;
        }
    }
}

static bool read_runs(const bmp *b, image *out)
{
    uint8_t *index = calloc(b->width, b->height);
    if (!index) return error_memory(b->e, b->path, (unsigned long long)b->width * b->height);
    read_codes(b, index);
    for (uint32_t y = 0; y < b->height; y++)
        for (uint32_t x = 0; x < b->width; x++)
            memcpy(out->pixels + 3 * ((size_t)(b->height - 1 - y) * b->width + x),
                   b->palette[index[(size_t)y * b->width + x]], 3);
    free(index);
    return true;
}

bool bmp_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e)
{
    bmp b = {.data = data, .size = size, .path = path, .e = e};
    *out = (picture){.orientation = 1};
    if (!read_headers(&b) || !check_image_size(b.width, b.height, path, e) ||
        !image_new(&out->pixels, (int)b.width, (int)b.height, e))
        return false;
    bool runs = b.compression == RLE8 || b.compression == RLE4;
    if (runs ? read_runs(&b, &out->pixels) : read_plain(&b, &out->pixels)) return true;
    image_free(&out->pixels);
    return false;
}
