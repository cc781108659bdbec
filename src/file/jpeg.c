/* SPDX-License-Identifier: Apache-2.0
 *
 * jpeg: JPEG by libjpeg-turbo. Failures arrive by longjmp; who owns what is as in png.c. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "file/formats.h"

enum { OUT_BYTES = 65536, MAX_MARKER = 65533 };

/* The manager comes first, so that libjpeg's pointer to it is a pointer to this. */
typedef struct jpeg_failure {
    struct jpeg_error_mgr manager;
    jmp_buf jump;
    const char *path;
    error *e;
    bool reading;
} jpeg_failure;

static void on_error(j_common_ptr info)
{
    jpeg_failure *f = (jpeg_failure *)info->err;
    char message[JMSG_LENGTH_MAX];
    f->manager.format_message(info, message);
    if (f->manager.msg_code == JERR_OUT_OF_MEMORY)
        error_memory(f->e, f->path, 0);
    else if (f->manager.msg_code == JWRN_JPEG_EOF)
        error_set(f->e, ERROR_FORMAT, "%s: the JPEG is cut short; fetch it again", f->path);
    else if (f->reading)
        error_set(f->e, ERROR_FORMAT, "%s: the JPEG is damaged (%s)", f->path, message);
    else
        error_set(f->e, ERROR_FILE, "%s: cannot be written as JPEG (%s)", f->path, message);
    longjmp(f->jump, 1);
}

/* libjpeg paints over what is missing and warns. Like Pillow we put up with that, but for a file
 * that ends before the picture does. */
static void on_message(j_common_ptr info, int level)
{
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) on_error(info);
}

static struct jpeg_error_mgr *failure_init(jpeg_failure *f, const char *path, bool reading,
                                           error *e)
{
    jpeg_std_error(&f->manager);
    f->manager.error_exit = on_error;
    f->manager.emit_message = on_message;
    f->path = path;
    f->e = e;
    f->reading = reading;
    return &f->manager;
}

static void find_exif(picture *out, const struct jpeg_decompress_struct *jpeg)
{
    for (jpeg_saved_marker_ptr m = jpeg->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length >= 6 &&
            memcmp(m->data, "Exif\0", 6) == 0) {
            exif_read(out, m->data, m->data_length);
            return;
        }
}

/* Pillow's convert("RGB") of CMYK, after reading the values as inverted, which it always does (as
 * Adobe writes them): c, m, y, k are what is in the file, 255 for no ink. */
static void rgb_from_cmyk(uint8_t *rgb, const uint8_t *cmyk, size_t n)
{
    for (size_t i = 0; i < n; i++, rgb += 3, cmyk += 4)
        for (int c = 0; c < 3; c++) {
            unsigned product = (255u - cmyk[c]) * cmyk[3] + 128;
            rgb[c] = (uint8_t)(cmyk[3] - ((product + (product >> 8)) >> 8));
        }
}

static void read_inner(picture *out, uint8_t **line, struct jpeg_decompress_struct *jpeg,
                       const uint8_t *data, size_t size, jpeg_failure *f)
{
    jpeg_mem_src(jpeg, data, (unsigned long)size);
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(jpeg, TRUE);
    if (!check_image_size(jpeg->image_width, jpeg->image_height, f->path, f->e))
        longjmp(f->jump, 1);
    int channels = jpeg->num_components;
    bool inks = channels == 4;
    if (channels != 1 && channels != 3 && !inks) {
        error_set(f->e, ERROR_FORMAT, "%s: a JPEG of %d channels is not read; convert it to RGB",
                  f->path, channels);
        longjmp(f->jump, 1);
    }
    jpeg->out_color_space = inks ? JCS_CMYK : JCS_RGB;
    find_exif(out, jpeg);
    jpeg_start_decompress(jpeg);
    int width = (int)jpeg->output_width, height = (int)jpeg->output_height;
    if (!image_new(&out->pixels, width, height, f->e)) longjmp(f->jump, 1);
    if (inks && !(*line = malloc((size_t)width * 4))) {
        error_memory(f->e, f->path, (unsigned long long)width * 4);
        longjmp(f->jump, 1);
    }
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *row = out->pixels.pixels + (size_t)3 * (size_t)width * jpeg->output_scanline;
        JSAMPROW target = inks ? *line : row;
        if (jpeg_read_scanlines(jpeg, &target, 1) == 1 && inks)
            rgb_from_cmyk(row, *line, (size_t)width);
    }
    jpeg_finish_decompress(jpeg);
}

static void read_guarded(picture *out, uint8_t **line, struct jpeg_decompress_struct *jpeg,
                         const uint8_t *data, size_t size, jpeg_failure *f)
{
    if (setjmp(f->jump)) return;
    jpeg_create_decompress(jpeg);
    read_inner(out, line, jpeg, data, size, f);
}

bool jpeg_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e)
{
    error own = {0};
    jpeg_failure f;
    struct jpeg_decompress_struct jpeg = {.err = failure_init(&f, path, true, &own)};
    uint8_t *line = NULL;
    *out = (picture){.orientation = 1};
    read_guarded(out, &line, &jpeg, data, size, &f);
    jpeg_destroy_decompress(&jpeg);
    free(line);
    if (own.code == ERROR_NONE) return true;
    image_free(&out->pixels);
    free(out->text);
    *out = (picture){.orientation = 1};
    return error_set(e, own.code, "%s", own.text);
}

/* Output goes to the file writer in pieces. The manager comes first, as above. */
typedef struct jpeg_output {
    struct jpeg_destination_mgr manager;
    file_writer *writer;
    jpeg_failure *failure;
    uint8_t bytes[OUT_BYTES];
} jpeg_output;

static void output_start(j_compress_ptr jpeg)
{
    jpeg_output *o = (jpeg_output *)jpeg->dest;
    o->manager.next_output_byte = o->bytes;
    o->manager.free_in_buffer = OUT_BYTES;
}

static boolean output_full(
    j_compress_ptr jpeg) /* libjpeg asks for all of it, whatever it has used */
{
    jpeg_output *o = (jpeg_output *)jpeg->dest;
    if (!file_writer_put(o->writer, o->bytes, OUT_BYTES, o->failure->e))
        longjmp(o->failure->jump, 1);
    output_start(jpeg);
    return TRUE;
}

static void output_end(j_compress_ptr jpeg)
{
    jpeg_output *o = (jpeg_output *)jpeg->dest;
    size_t used = OUT_BYTES - o->manager.free_in_buffer;
    if (!file_writer_put(o->writer, o->bytes, used, o->failure->e)) longjmp(o->failure->jump, 1);
}

static void write_inner(const image *m, struct jpeg_compress_struct *jpeg, jpeg_output *o,
                        const uint8_t *exif, size_t exif_size, int quality)
{
    o->manager.init_destination = output_start;
    o->manager.empty_output_buffer = output_full;
    o->manager.term_destination = output_end;
    jpeg->dest = &o->manager;
    jpeg->image_width = (JDIMENSION)m->width;
    jpeg->image_height = (JDIMENSION)m->height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg); /* colour at half size both ways, as Pillow leaves it */
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    if (exif) jpeg_write_marker(jpeg, JPEG_APP0 + 1, exif, (unsigned)exif_size);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = m->pixels + (size_t)3 * (size_t)m->width * jpeg->next_scanline;
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
}

static void write_guarded(const image *m, struct jpeg_compress_struct *jpeg, jpeg_output *o,
                          const uint8_t *exif, size_t exif_size, int quality)
{
    if (setjmp(o->failure->jump)) return;
    jpeg_create_compress(jpeg);
    write_inner(m, jpeg, o, exif, exif_size, quality);
}

/* The EXIF marker's content, "Exif\0\0" and all. */
static uint8_t *make_marker(const char *text, size_t *size, const char *path, error *e)
{
    size_t tiff_size;
    uint8_t *tiff = exif_make(text, &tiff_size), *marker = tiff ? malloc(tiff_size + 6) : NULL;
    if (marker) {
        memcpy(marker, "Exif\0", 6);
        memcpy(marker + 6, tiff, tiff_size);
        *size = tiff_size + 6;
    } else
        error_memory(e, path, strlen(text));
    free(tiff);
    if (!marker || *size <= MAX_MARKER) return marker;
    free(marker);
    error_set(e, ERROR_USAGE, "%s: the settings (%zu bytes) do not fit into a JPEG; write a PNG",
              path, *size);
    return NULL;
}

bool jpeg_write(const image *m, file_writer *w, const char *text, int quality, const char *path,
                error *e)
{
    if (m->width > JPEG_MAX_DIMENSION || m->height > JPEG_MAX_DIMENSION)
        return error_set(e, ERROR_USAGE, "%s: JPEG holds at most %ld pixels a side; write a PNG",
                         path, JPEG_MAX_DIMENSION);
    size_t exif_size = 0;
    uint8_t *exif = text ? make_marker(text, &exif_size, path, e) : NULL;
    if (text && !exif) return false;
    jpeg_output *o = malloc(sizeof *o);
    if (!o) {
        free(exif);
        return error_memory(e, path, sizeof *o);
    }
    error own = {0};
    jpeg_failure f;
    struct jpeg_compress_struct jpeg = {.err = failure_init(&f, path, false, &own)};
    o->writer = w;
    o->failure = &f;
    write_guarded(m, &jpeg, o, exif, exif_size, quality);
    jpeg_destroy_compress(&jpeg);
    free(o);
    free(exif);
    return own.code == ERROR_NONE || error_set(e, own.code, "%s", own.text);
}
