/* SPDX-License-Identifier: Apache-2.0
 *
 * png: PNG by libpng. libpng reports failures by longjmp: each half is an outer function that sets
 * the jump and owns everything, and an inner one that may be left at any point. */
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "file/formats.h"

/* libpng's error and input or output pointer both lead here. */
typedef struct png_state {
    const char *path;
    error *e;
    const uint8_t *data; /* reading: what is left */
    size_t size;
    file_writer *writer; /* writing */
    bool reading;
    uint8_t **rows;
    char *latin1;
} png_state;

static void on_error(png_structp png, png_const_charp message)
{
    png_state *s = png_get_error_ptr(png);
    if (s->reading)
        error_set(s->e, ERROR_FORMAT, "%s: the PNG is damaged (%s)", s->path, message);
    else
        error_set(s->e, ERROR_FILE, "%s: cannot be written as PNG (%s)", s->path, message);
    png_longjmp(png, 1);
}

/* libpng's allocations, so that running out of memory is told from a damaged file. */
static png_voidp on_malloc(png_structp png, png_alloc_size_t size)
{
    png_state *s = png_get_mem_ptr(png);
    void *p = malloc(size);
    if (!p) error_memory(s->e, s->path, size);
    return p;
}

static void on_free(png_structp png, png_voidp p)
{
    (void)png;
    free(p);
}

static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    png_state *s = png_get_io_ptr(png);
    if (n > s->size) {
        error_set(s->e, ERROR_FORMAT, "%s: the PNG is cut short; fetch it again", s->path);
        png_longjmp(png, 1);
    }
    memcpy(out, s->data, n);
    s->data += n;
    s->size -= n;
}

static void write_bytes(png_structp png, png_bytep data, size_t n)
{
    png_state *s = png_get_io_ptr(png);
    if (!file_writer_put(s->writer, data, n, s->e)) png_longjmp(png, 1);
}

static void flush_bytes(png_structp png) { (void)png; }

/* The "parameters" text of the chunks read so far. */
static void find_text(picture *out, png_structp png, png_infop info)
{
    png_textp texts;
    int count = 0;
    if (out->text || !png_get_text(png, info, &texts, &count)) return;
    for (int i = 0; i < count && !out->text; i++) {
        if (strcmp(texts[i].key, "parameters") != 0 || !texts[i].text) continue;
        bool utf8 = texts[i].compression >= PNG_ITXT_COMPRESSION_NONE;
        if (utf8)
            out->text = strdup(texts[i].text);
        else
            out->text = utf8_from_latin1(texts[i].text, texts[i].text_length);
        png_state *s = png_get_error_ptr(png);
        if (!out->text && !error_memory(s->e, s->path, texts[i].text_length)) png_longjmp(png, 1);
    }
}

static void find_exif(picture *out, png_structp png, png_infop info)
{
    png_uint_32 size = 0;
    png_bytep exif = NULL;
    if (png_get_eXIf_1(png, info, &size, &exif) && exif) exif_read(out, exif, size);
}

static void read_inner(png_state *s, picture *out, png_structp png, png_infop info)
{
    png_set_benign_errors(png, 1);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* check_image_size judges */
    png_read_info(png, info);
    png_uint_32 width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    if (!check_image_size(width, height, s->path, s->e)) png_longjmp(png, 1);
    /* Pillow clips 16-bit grey at 255, which makes it white; the high byte is what viewers show. */
    png_set_strip_16(png);
    png_set_expand(png); /* palette and grey of fewer bits to 8 bits, tRNS to alpha */
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (!image_new(&out->pixels, (int)width, (int)height, s->e)) png_longjmp(png, 1);
    s->rows = malloc(height * sizeof *s->rows);
    if (!s->rows && !error_memory(s->e, s->path, height * sizeof *s->rows)) png_longjmp(png, 1);
    for (png_uint_32 y = 0; y < height; y++)
        s->rows[y] = out->pixels.pixels + (size_t)3 * width * y;
    if (png_get_rowbytes(png, info) != (size_t)3 * width) png_error(png, "unknown kind of pixels");
    png_read_image(png, s->rows);
    png_read_end(png, info);
    find_text(out, png, info);
    find_exif(out, png, info);
}

static void read_guarded(png_state *s, picture *out, png_structp png, png_infop info)
{
    if (setjmp(png_jmpbuf(png)) == 0) read_inner(s, out, png, info);
}

bool png_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e)
{
    error own = {
        0}; /* the callers' may be NULL or set already; here it also says whether to go on */
    png_state s = {.path = path, .e = &own, .data = data, .size = size, .reading = true};
    *out = (picture){.orientation = 1};
    png_structp png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning, &s,
                                               on_malloc, on_free);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_read_struct(&png, NULL, NULL);
        return error_memory(e, path, size);
    }
    png_set_read_fn(png, &s, read_bytes);
    read_guarded(&s, out, png, info);
    png_destroy_read_struct(&png, &info, NULL);
    free(s.rows);
    if (own.code == ERROR_NONE) return true;
    image_free(&out->pixels);
    free(out->text);
    *out = (picture){.orientation = 1};
    return error_set(e, own.code, "%s", own.text);
}

/* UTF-8 -> Latin-1 where every character has one; else s->latin1 stays NULL. */
static bool make_latin1(png_state *s, const char *text)
{
    s->latin1 = malloc(strlen(text) + 1);
    if (!s->latin1) return error_memory(s->e, s->path, strlen(text) + 1);
    char *at = s->latin1;
    while (*text) {
        uint32_t code = utf8_next(&text);
        if (code > 0xff) {
            free(s->latin1);
            s->latin1 = NULL;
            return true;
        }
        *at++ = (char)code;
    }
    *at = '\0';
    return true;
}

static void write_inner(png_state *s, const image *m, const char *text, png_structp png,
                        png_infop info)
{
    png_set_write_fn(png, s, write_bytes, flush_bytes);
    png_set_IHDR(png, info, (png_uint_32)m->width, (png_uint_32)m->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (text) { /* Pillow's PngInfo.add_text, which AUTOMATIC1111 uses: tEXt if it can be, else iTXt
                 */
        if (!make_latin1(s, text)) png_longjmp(png, 1);
        png_text chunk = {.key = (char *)(uintptr_t) "parameters"};
        chunk.compression = s->latin1 ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        chunk.text = s->latin1 ? s->latin1 : (char *)(uintptr_t)text;
        chunk.text_length = strlen(chunk.text);
        png_set_text(png, info, &chunk, 1);
    }
    png_write_info(png, info);
    for (int y = 0; y < m->height; y++)
        png_write_row(png, m->pixels + (size_t)3 * (size_t)m->width * (size_t)y);
    png_write_end(png, info);
}

static void write_guarded(png_state *s, const image *m, const char *text, png_structp png,
                          png_infop info)
{
    if (setjmp(png_jmpbuf(png)) == 0) write_inner(s, m, text, png, info);
}

bool png_write(const image *m, file_writer *w, const char *text, const char *path, error *e)
{
    error own = {0};
    png_state s = {.path = path, .e = &own, .writer = w};
    png_structp png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning, &s,
                                                on_malloc, on_free);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_write_struct(&png, NULL);
        return error_memory(e, path, 0);
    }
    write_guarded(&s, m, text, png, info);
    png_destroy_write_struct(&png, &info);
    free(s.latin1);
    return own.code == ERROR_NONE || error_set(e, own.code, "%s", own.text);
}
