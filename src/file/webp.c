/* SPDX-License-Identifier: Apache-2.0
 *
 * webp: WebP by libwebp. The file around the picture is RIFF: chunks of a four-letter name, a
 * length and data, padded to even length; EXIF is one of these, read and written here. */
#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/encode.h>

#include "file/formats.h"

enum { RIFF_HEADER = 12, CHUNK_HEADER = 8, EXTENDED_BYTES = 10, HAS_EXIF = 0x08 };

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void find_exif(picture *out, const uint8_t *data, size_t size)
{
    for (size_t at = RIFF_HEADER; size >= CHUNK_HEADER && at <= size - CHUNK_HEADER;) {
        size_t length = read_u32(data + at + 4), room = size - at - CHUNK_HEADER;
        if (length > room) return;
        if (memcmp(data + at, "EXIF", 4) == 0) {
            exif_read(out, data + at + CHUNK_HEADER, length);
            return;
        }
        at += CHUNK_HEADER + length + (length & 1);
    }
}

static bool fail_status(error *e, const char *path, VP8StatusCode status)
{
    if (status ==
        VP8_STATUS_OUT_OF_MEMORY) /* what libwebp 1.3 and later say of a damaged alpha, too */
        return error_set(e, ERROR_FORMAT, "%s: the WebP is damaged, or memory is out", path);
    if (status == VP8_STATUS_NOT_ENOUGH_DATA)
        return error_set(e, ERROR_FORMAT, "%s: the WebP is cut short; fetch it again", path);
    return error_set(e, ERROR_FORMAT, "%s: the WebP is damaged", path);
}

bool webp_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e)
{
    *out = (picture){.orientation = 1};
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return error_set(e, ERROR_FILE, "%s: the libwebp installed here does not fit; reinstall it",
                         path);
    VP8StatusCode status = WebPGetFeatures(data, size, &config.input);
    if (status != VP8_STATUS_OK) return fail_status(e, path, status);
    if (config.input.has_animation)
        return error_set(e, ERROR_FORMAT, "%s: is an animated WebP; save one frame of it", path);
    int width = config.input.width, height = config.input.height;
    if (!check_image_size((uint64_t)width, (uint64_t)height, path, e) ||
        !image_new(&out->pixels, width, height, e))
        return false;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = out->pixels.pixels;
    config.output.u.RGBA.stride = 3 * width;
    config.output.u.RGBA.size = (size_t)3 * (size_t)width * (size_t)height;
    status = WebPDecode(data, size, &config);
    WebPFreeDecBuffer(&config.output);
    if (status != VP8_STATUS_OK) {
        image_free(&out->pixels);
        return fail_status(e, path, status);
    }
    find_exif(out, data, size);
    return true;
}

/* The picture as a RIFF file in `out` (to be cleared in any case). */
static bool encode(const image *m, int quality, WebPMemoryWriter *out, const char *path, error *e)
{
    WebPConfig config;
    WebPPicture p;
    if (!WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, (float)quality) || !WebPPictureInit(&p) ||
        (quality == 100 && !WebPConfigLosslessPreset(&config, 6)))
        return error_set(e, ERROR_FILE, "%s: the libwebp installed here does not fit; reinstall it",
                         path);
    p.use_argb = quality == 100;
    p.width = m->width;
    p.height = m->height;
    p.writer = WebPMemoryWrite;
    p.custom_ptr = out;
    bool ok = WebPPictureImportRGB(&p, m->pixels, 3 * m->width) && WebPEncode(&config, &p);
    WebPEncodingError code = p.error_code;
    WebPPictureFree(&p);
    if (ok) return true;
    if (code == VP8_ENC_ERROR_OUT_OF_MEMORY || code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY ||
        code == VP8_ENC_ERROR_BAD_WRITE) /* the last: out's memory did not grow */
        return error_memory(e, path,
                            (unsigned long long)m->width * (unsigned long long)m->height * 4);
    return error_set(e, ERROR_FILE, "%s: cannot be written as WebP (libwebp error %d)", path,
                     (int)code);
}

static void put_chunk_header(uint8_t *out, const char *name, uint32_t length)
{
    memcpy(out, name, 4);
    for (int i = 0; i < 4; i++) out[4 + i] = (uint8_t)(length >> 8 * i);
}

/* Extended form: RIFF header, VP8X (flags, canvas size), the picture's own chunk, EXIF. */
static bool put_with_exif(const image *m, file_writer *w, const WebPMemoryWriter *plain,
                          const uint8_t *exif, size_t exif_size, error *e)
{
    uint8_t head[RIFF_HEADER + CHUNK_HEADER + EXTENDED_BYTES] = {0}, tail[CHUNK_HEADER];
    size_t body = plain->size - RIFF_HEADER, padding = exif_size & 1;
    size_t total = sizeof head + body + sizeof tail + exif_size + padding;
    put_chunk_header(head, "RIFF", (uint32_t)(total - CHUNK_HEADER));
    memcpy(head + CHUNK_HEADER, "WEBP", 4);
    put_chunk_header(head + RIFF_HEADER, "VP8X", EXTENDED_BYTES);
    uint8_t *fields = head + RIFF_HEADER + CHUNK_HEADER;
    fields[0] = HAS_EXIF;
    for (int i = 0; i < 3; i++) {
        fields[4 + i] = (uint8_t)((m->width - 1) >> 8 * i);
        fields[7 + i] = (uint8_t)((m->height - 1) >> 8 * i);
    }
    put_chunk_header(tail, "EXIF", (uint32_t)exif_size);
    return file_writer_put(w, head, sizeof head, e) &&
           file_writer_put(w, plain->mem + RIFF_HEADER, body, e) &&
           file_writer_put(w, tail, sizeof tail, e) && file_writer_put(w, exif, exif_size, e) &&
           file_writer_put(w, "", padding, e);
}

bool webp_write(const image *m, file_writer *w, const char *text, int quality, const char *path,
                error *e)
{
    if (m->width > WEBP_MAX_DIMENSION || m->height > WEBP_MAX_DIMENSION)
        return error_set(e, ERROR_USAGE, "%s: WebP holds at most %d pixels a side; write a PNG",
                         path, WEBP_MAX_DIMENSION);
    size_t exif_size = 0;
    uint8_t *exif = text ? exif_make(text, &exif_size) : NULL;
    if (text && !exif) return error_memory(e, path, strlen(text));
    WebPMemoryWriter plain;
    WebPMemoryWriterInit(&plain);
    bool ok = encode(m, quality, &plain, path, e);
    if (ok)
        ok = exif ? put_with_exif(m, w, &plain, exif, exif_size, e)
                  : file_writer_put(w, plain.mem, plain.size, e);
    WebPMemoryWriterClear(&plain);
    free(exif);
    return ok;
}
