/* SPDX-License-Identifier: Apache-2.0
 *
 * formats: what the files of the picture reader share among themselves. Outside this folder only
 * image.h counts. */
#ifndef LIKENESS_FILE_FORMATS_H
#define LIKENESS_FILE_FORMATS_H

#include "base/platform.h"
#include "file/image.h"

/* Larger pictures are refused before memory is taken: a few bytes can claim any size. (Pillow's
 * bound.) */
enum { MAX_PIXELS = 178956970 };
bool check_image_size(uint64_t width, uint64_t height, const char *path, error *e);

/* Readers: whole file in memory -> RGB, unturned; the orientation (1..8, 1 where unknown) and the
 * settings text (malloc'ed, or NULL) are found on the way. On failure nothing is left to free. */
typedef struct picture {
    image pixels;
    int orientation;
    char *text;
} picture;
bool png_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e);
bool jpeg_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e);
bool webp_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e);
bool bmp_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e);
bool gif_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e);
bool tiff_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e);
bool heif_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e);

/* Writers: into an open file; text may be NULL. */
bool png_write(const image *m, file_writer *w, const char *text, const char *path, error *e);
bool jpeg_write(const image *m, file_writer *w, const char *text, int quality, const char *path,
                error *e);
bool webp_write(const image *m, file_writer *w, const char *text, int quality, const char *path,
                error *e);

/* EXIF: the TIFF structure, with or without "Exif\0\0" before it. Fills orientation and, where
 * memory allows, text (the UserComment); what is damaged is passed over, as viewers do. */
void exif_read(picture *out, const uint8_t *data, size_t size);
/* A TIFF structure with one UserComment, as AUTOMATIC1111 writes it; malloc'ed, NULL when memory is
 * out. */
uint8_t *exif_make(const char *text, size_t *size);

/* Reads one code point of *text and moves on; a byte that is not UTF-8 counts as Latin-1. */
uint32_t utf8_next(const char **text);
/* Writes 1 to 4 bytes; returns where to go on. */
char *utf8_put(char *out, uint32_t code);
/* Latin-1 bytes -> UTF-8; malloc'ed, NULL when memory is out. */
char *utf8_from_latin1(const char *bytes, size_t size);

#endif
