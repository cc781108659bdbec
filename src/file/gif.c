/* SPDX-License-Identifier: Apache-2.0
 *
 * gif: the first picture of a GIF, by giflib, on the file's whole screen as Pillow has it. */
#include <gif_lib.h>
#include <stdlib.h>
#include <string.h>

#include "file/formats.h"

typedef struct gif_input {
    const uint8_t *data;
    size_t size;
} gif_input;

static int read_bytes(GifFileType *gif, GifByteType *out, int n)
{
    gif_input *in = gif->UserData;
    size_t got = (size_t)n < in->size ? (size_t)n : in->size;
    memcpy(out, in->data, got);
    in->data += got;
    in->size -= got;
    return (int)got;
}

static bool damaged(int code, const char *path, error *e)
{
    const char *why = GifErrorString(code);
    if (code == D_GIF_ERR_NOT_ENOUGH_MEM) return error_memory(e, path, 0);
    if (code == D_GIF_ERR_READ_FAILED || code == D_GIF_ERR_EOF_TOO_SOON)
        return error_set(e, ERROR_FORMAT, "%s: the GIF is cut short; fetch it again", path);
    return error_set(e, ERROR_FORMAT, "%s: the GIF is damaged (%s)", path,
                     why ? why : "no picture in it");
}

/* Passes over an extension; *clear: the index that a graphics control block calls transparent. */
static bool read_extension(GifFileType *gif, int *clear)
{
    int code;
    GifByteType *block;
    if (DGifGetExtension(gif, &code, &block) == GIF_ERROR) return false;
    while (block) {
        if (code == GRAPHICS_EXT_FUNC_CODE && block[0] >= 4 && block[1] & 1) *clear = block[4];
        if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) return false;
    }
    return true;
}

/* The next picture's header; *clear as read_extension has it. False at the end, or after an error.
 */
static bool next_image(GifFileType *gif, int *clear)
{
    GifRecordType kind;
    while (DGifGetRecordType(gif, &kind) == GIF_OK && kind != TERMINATE_RECORD_TYPE) {
        if (kind == IMAGE_DESC_RECORD_TYPE) return DGifGetImageDesc(gif) == GIF_OK;
        if (kind == EXTENSION_RECORD_TYPE && !read_extension(gif, clear)) return false;
    }
    return false;
}

/* Colours by index: those that a palette lacks are black, and greys where there is no palette. */
static void make_colours(uint8_t colour[256][3], const GifFileType *gif)
{
    const ColorMapObject *map = gif->Image.ColorMap ? gif->Image.ColorMap : gif->SColorMap;
    for (int i = 0; i < 256; i++) {
        memset(colour[i], map ? 0 : i, 3);
        if (map && i < map->ColorCount) {
            const GifColorType *c = &map->Colors[i];
            memcpy(colour[i], (uint8_t[]){c->Red, c->Green, c->Blue}, 3);
        }
    }
}

static bool read_rows(GifFileType *gif, image *out, uint8_t colour[256][3], uint8_t *line)
{
    static const int first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
    const GifImageDesc *d = &gif->Image;
    for (int pass = d->Interlace ? 0 : 3; pass < 4; pass++)
        for (int y = d->Interlace ? first[pass] : 0; y < d->Height;
             y += d->Interlace ? step[pass] : 1) {
            if (DGifGetLine(gif, line, d->Width) == GIF_ERROR) return false;
            uint8_t *to = out->pixels +
                          3 * ((size_t)(d->Top + y) * (size_t)out->width + (size_t)d->Left);
            for (int x = 0; x < d->Width; x++) memcpy(to + 3 * x, colour[line[x]], 3);
        }
    return true;
}

/* The picture whose header was just read. */
static bool read_image(GifFileType *gif, image *out, int clear, const char *path, error *e)
{
    const GifImageDesc *d = &gif->Image;
    int right = d->Left + d->Width, bottom = d->Top + d->Height;
    int width = right > gif->SWidth ? right : gif->SWidth;
    int height = bottom > gif->SHeight ? bottom : gif->SHeight;
    uint8_t colour[256][3];
    if (!check_image_size((uint64_t)width, (uint64_t)height, path, e) ||
        !check_image_size((uint64_t)d->Width, (uint64_t)d->Height, path, e))
        return false;
    uint8_t *line = malloc((size_t)d->Width);
    bool ok = line ? image_new(out, width, height, e)
                   : error_memory(e, path, (unsigned long long)d->Width);
    if (ok) {
        make_colours(colour, gif);
        const uint8_t *around = colour[clear >= 0 ? clear : 0];
        for (size_t i = 0; i < (size_t)width * (size_t)height; i++)
            memcpy(out->pixels + 3 * i, around, 3);
        ok = read_rows(gif, out, colour, line) || damaged(gif->Error, path, e);
        if (!ok) image_free(out);
    }
    free(line);
    return ok;
}

/* How many pictures follow, as far as they can be read. */
static int count_rest(GifFileType *gif)
{
    int count = 0, clear, size;
    GifByteType *code;
    while (next_image(gif, &clear)) {
        bool ok = DGifGetCode(gif, &size, &code) == GIF_OK;
        while (ok && code) ok = DGifGetCodeNext(gif, &code) == GIF_OK;
        if (!ok) break;
        count++;
    }
    return count;
}

bool gif_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e)
{
    gif_input in = {data, size};
    int code = 0, clear = -1;
    *out = (picture){.orientation = 1};
    GifFileType *gif = DGifOpen(&in, read_bytes, &code);
    if (!gif) return damaged(code, path, e);
    bool ok = next_image(gif, &clear) ? read_image(gif, &out->pixels, clear, path, e)
                                      : damaged(gif->Error, path, e);
    if (ok) out->pixels.frames = 1 + count_rest(gif);
    DGifCloseFile(gif, &code);
    return ok;
}
