/* SPDX-License-Identifier: Apache-2.0
 *
 * image: 8-bit RGB pictures, read from and written to PNG, JPEG, WebP (libpng, libjpeg, libwebp),
 * and read from BMP, GIF, TIFF (giflib, libtiff) and, where the build has libheif, HEIC and AVIF.
 * Reading does what Pillow's ImageOps.exif_transpose + convert("RGB") does: orientation applied,
 * alpha dropped, grey, palette, CMYK and 16 bit brought to 8-bit RGB (16-bit grey too by its high
 * byte, where Pillow clips). */
#ifndef LIKENESS_FILE_IMAGE_H
#define LIKENESS_FILE_IMAGE_H

#include "base/error.h"
#include "base/types.h"

typedef struct image {
    int width, height;
    uint8_t *pixels; /* RGB, rows from the top; malloc'ed */
    int frames;      /* pictures in the file that this is the first of; 1 or less: it is alone */
} image;

/* Functions that make a picture leave *out empty when they fail. */
bool image_new(image *out, int width, int height, error *e); /* white */
void image_free(image *m);
/* Which picture: the hash of its size and pixels. */
void image_hash(char hex[65], const image *m);
/* By content, not by name. *text (may be NULL): the PNG's "parameters" text (tEXt or iTXt, UTF-8),
 * or the EXIF UserComment of a JPEG or WebP, malloc'ed; NULL where there is none. */
bool image_read(image *out, char **text, const char *path, error *e);
/* The same of a file's bytes; path: what messages call it. */
bool image_read_memory(image *out, char **text, const void *data, size_t size, const char *path,
                       error *e);
/* Whether a file's bytes begin as a picture's do; 16 of them are enough. */
bool image_known(const void *data, size_t size);
/* By the path's ending (.png .jpg .jpeg .webp). text: settings, may be NULL; PNG carries it as
 * "parameters". quality 1..100 for JPEG and WebP (100: lossless WebP). */
bool image_write(const image *m, const char *path, const char *text, int quality, error *e);

typedef enum resize_filter { RESIZE_BILINEAR, RESIZE_BICUBIC, RESIZE_LANCZOS } resize_filter;
/* Pillow's Image.resize, bit for bit. out is made new; sizes are at least 1. */
bool image_resize(image *out, const image *in, int width, int height, resize_filter filter,
                  error *e);

/* Text drawn with FreeType in DejaVu Sans (fonts-dejavu-core), or in $LIKENESS_FONT's file. A
 * newline ends a text as NUL does, so a pointer into a wrapped text is one line of it. */
typedef struct font font;
bool font_open(font **out, int pixel_size, error *e);
void font_close(font **f);
int font_line_height(const font *f);
int font_text_width(font *f, const char *utf8);
/* Draws one line, (x, y) its top left, dark grey; clipped to the picture. */
void font_draw(font *f, image *m, int x, int y, const char *utf8);
/* A copy with newlines, so that no line is wider than width (words are broken only when wider than
 * a whole line); malloc'ed, NULL when memory is out. */
char *font_wrap(font *f, const char *utf8, int width);

#endif
