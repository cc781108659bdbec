/* SPDX-License-Identifier: Apache-2.0
 *
 * tiff: the first picture of a TIFF, by libtiff's RGBA reader. Where that reader multiplies by
 * alpha, rounds 16 bits or has another rule for inks than Pillow, the pixels go through a function
 * of ours. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

#include "file/formats.h"

typedef struct tiff_input {
    const uint8_t *data;
    size_t size, at;
    char why[256]; /* libtiff's first complaint */
} tiff_input;

/* ---- libtiff's view of memory ---- */

static tmsize_t read_bytes(thandle_t handle, void *out, tmsize_t n)
{
    tiff_input *in = handle;
    size_t left = in->at < in->size ? in->size - in->at : 0,
           got = (size_t)n < left ? (size_t)n : left;
    if (n <= 0 || !got) return 0;
    memcpy(out, in->data + in->at, got);
    in->at += got;
    return (tmsize_t)got;
}

static tmsize_t write_bytes(thandle_t handle, void *data, tmsize_t n)
{
    (void)handle, (void)data, (void)n;
    return 0;
}

static toff_t seek(thandle_t handle, toff_t to, int from)
{
    tiff_input *in = handle;
    in->at = (size_t)to + (from == SEEK_CUR ? in->at : from == SEEK_END ? in->size : 0);
    return in->at;
}

static int close_input(thandle_t handle)
{
    (void)handle;
    return 0;
}

static toff_t input_size(thandle_t handle) { return ((tiff_input *)handle)->size; }

static int map(thandle_t handle, void **base, toff_t *size)
{
    tiff_input *in = handle;
    *base = (void *)(uintptr_t)in->data;
    *size = in->size;
    return 1;
}

static void unmap(thandle_t handle, void *base, toff_t size)
{
    (void)handle, (void)base, (void)size;
}

static int on_error(TIFF *t, void *user, const char *module, const char *format, va_list args)
{
    tiff_input *in = user;
    (void)t, (void)module;
    if (!in->why[0]) vsnprintf(in->why, sizeof in->why, format, args);
    in->why[strcspn(in->why, "\n")] = '\0';
    return 1;
}

static int on_warning(TIFF *t, void *user, const char *module, const char *format, va_list args)
{
    (void)t, (void)user, (void)module, (void)format, (void)args;
    return 1;
}

static TIFF *open_input(tiff_input *in, const char *path, error *e)
{
    TIFFOpenOptions *o = TIFFOpenOptionsAlloc();
    if (!o) {
        error_memory(e, path, 0);
        return NULL;
    }
    TIFFOpenOptionsSetErrorHandlerExtR(o, on_error, in);
    TIFFOpenOptionsSetWarningHandlerExtR(o, on_warning, in);
    TIFFOpenOptionsSetMaxSingleMemAlloc(o, (tmsize_t)1 << 30);
    TIFF *t = TIFFClientOpenExt(path, "rm", in, read_bytes, write_bytes, seek, close_input,
                                input_size, map, unmap, o);
    TIFFOpenOptionsFree(o);
    if (!t) error_set(e, ERROR_FORMAT, "%s: the TIFF is damaged (%.200s)", path, in->why);
    return t;
}

/* ---- pixels ---- */

static uint32_t pack(uint32_t r, uint32_t g, uint32_t b)
{
    return r | g << 8 | b << 16 | 0xff000000u;
}

/* Pillow's "RGBa": what was multiplied by alpha, divided. */
static uint32_t divided(uint32_t v, uint32_t alpha)
{
    v = alpha ? v * 255 / alpha : 0;
    return v > 255 ? 255 : v;
}

/* Pillow's CMYK to RGB, 255 being full ink. */
static uint32_t inked(uint32_t ink, uint32_t key)
{
    uint32_t light = 255 - key, product = ink * light + 128;
    return light - ((product + (product >> 8)) >> 8);
}

/* One pixel of 8-bit samples s[0..3]. */
static uint32_t pixel(const TIFFRGBAImage *m, const uint8_t *s)
{
    switch (m->photometric) {
    case PHOTOMETRIC_MINISWHITE: return pack(255u - s[0], 255u - s[0], 255u - s[0]);
    case PHOTOMETRIC_MINISBLACK: return pack(s[0], s[0], s[0]);
    case PHOTOMETRIC_SEPARATED:
        return pack(inked(s[0], s[3]), inked(s[1], s[3]), inked(s[2], s[3]));
    default: break;
    }
    if (m->alpha != EXTRASAMPLE_ASSOCALPHA) return pack(s[0], s[1], s[2]);
    return pack(divided(s[0], s[3]), divided(s[1], s[3]), divided(s[2], s[3]));
}

/* The high byte of 16 bits, as the machine has them. */
static uint8_t sample(const uint8_t *at, bool wide) { return wide ? at[1] : at[0]; }

static void put_together(TIFFRGBAImage *m, uint32_t *to, uint32_t x, uint32_t y, uint32_t w,
                         uint32_t h, int32_t from_skew, int32_t to_skew, unsigned char *from)
{
    bool wide = m->bitspersample == 16;
    int count = m->samplesperpixel < 4 ? m->samplesperpixel : 4, size = wide ? 2 : 1;
    ptrdiff_t step = (ptrdiff_t)m->samplesperpixel * size;
    (void)x, (void)y;
    for (; h > 0; h--, to += to_skew, from += from_skew * step)
        for (uint32_t i = 0; i < w; i++, from += step) {
            uint8_t s[4] = {0};
            for (int c = 0; c < count; c++) s[c] = sample(from + c * size, wide);
            *to++ = pixel(m, s);
        }
}

static void put_apart(TIFFRGBAImage *m, uint32_t *to, uint32_t x, uint32_t y, uint32_t w,
                      uint32_t h, int32_t from_skew, int32_t to_skew, unsigned char *r,
                      unsigned char *g, unsigned char *b, unsigned char *a)
{
    bool wide = m->bitspersample == 16;
    ptrdiff_t size = wide ? 2 : 1, at = 0;
    (void)x, (void)y;
    for (; h > 0; h--, to += to_skew, at += from_skew * size)
        for (uint32_t i = 0; i < w; i++, at += size) {
            uint8_t s[4] = {sample(r + at, wide), sample(g + at, wide), sample(b + at, wide),
                            a ? sample(a + at, wide) : 0};
            *to++ = pixel(m, s);
        }
}

static void choose_functions(TIFFRGBAImage *m, TIFF *t)
{
    uint16_t count = 0, *extra = NULL;
    bool ours = m->photometric == PHOTOMETRIC_MINISWHITE ||
                m->photometric == PHOTOMETRIC_MINISBLACK || m->photometric == PHOTOMETRIC_RGB ||
                m->photometric == PHOTOMETRIC_SEPARATED;
    if (!ours || (m->bitspersample != 8 && m->bitspersample != 16)) return;
    if (m->photometric ==
        PHOTOMETRIC_RGB) { /* libtiff takes an extra sample of unknown kind for alpha */
        TIFFGetFieldDefaulted(t, TIFFTAG_EXTRASAMPLES, &count, &extra);
        m->alpha = count && extra ? extra[0] : 0;
    }
    if (m->isContig)
        m->put.contig = put_together;
    else
        m->put.separate = put_apart;
}

static bool read_pixels(image *out, TIFF *t, tiff_input *in, const char *path, error *e)
{
    TIFFRGBAImage m;
    char why[1024] = "";
    if (!TIFFRGBAImageOK(t, why) || !TIFFRGBAImageBegin(&m, t, 1, why))
        return error_set(e, ERROR_FORMAT,
                         "%s: a TIFF of a kind that is not read (%.200s); convert it to PNG", path,
                         why[0] ? why : in->why);
    size_t count = (size_t)m.width * m.height;
    uint32_t *raster = malloc(count * sizeof *raster);
    bool ok = raster || error_memory(e, path, count * sizeof *raster);
    m.orientation = m.req_orientation = ORIENTATION_TOPLEFT; /* turned by the caller */
    choose_functions(&m, t);
    if (ok && !TIFFRGBAImageGet(&m, raster, m.width, m.height))
        ok = error_set(e, ERROR_FORMAT, "%s: the TIFF is damaged (%.200s)", path, in->why);
    ok = ok && image_new(out, (int)m.width, (int)m.height, e);
    for (size_t i = 0; ok && i < count; i++) {
        out->pixels[3 * i] = TIFFGetR(raster[i]);
        out->pixels[3 * i + 1] = TIFFGetG(raster[i]);
        out->pixels[3 * i + 2] = TIFFGetB(raster[i]);
    }
    TIFFRGBAImageEnd(&m);
    free(raster);
    return ok;
}

/* A camera's raw file begins with a small preview; its picture is of a kind that is not read. */
static bool check_kind(TIFF *t, const char *path, error *e)
{
    uint32_t kind = 0, length;
    void *version;
    TIFFGetField(t, TIFFTAG_SUBFILETYPE, &kind);
    return !(kind & FILETYPE_REDUCEDIMAGE ||
             TIFFGetField(t, TIFFTAG_DNGVERSION, &version, &length)) ||
           error_set(e, ERROR_FORMAT,
                     "%s: is a camera's raw file, of which only a preview could be read; "
                     "develop it to PNG or JPEG",
                     path);
}

static int count_pages(TIFF *t)
{
    enum { MOST = 1000 };
    int count = 1;
    for (uint32_t kind = 0; count < MOST && TIFFReadDirectory(t); kind = 0) {
        TIFFGetField(t, TIFFTAG_SUBFILETYPE, &kind);
        count += !(kind & FILETYPE_REDUCEDIMAGE);
    }
    return count;
}

bool tiff_read(picture *out, const uint8_t *data, size_t size, const char *path, error *e)
{
    tiff_input in = {.data = data, .size = size};
    uint32_t width = 0, height = 0;
    uint16_t orientation = 1;
    *out = (picture){.orientation = 1};
    TIFF *t = open_input(&in, path, e);
    if (!t) return false;
    TIFFGetField(t, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(t, TIFFTAG_IMAGELENGTH, &height);
    TIFFGetFieldDefaulted(t, TIFFTAG_ORIENTATION, &orientation);
    bool ok = check_kind(t, path, e) && check_image_size(width, height, path, e) &&
              read_pixels(&out->pixels, t, &in, path, e);
    if (ok) {
        exif_read(out, data, size);
        out->orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
        out->pixels.frames = count_pages(t);
    }
    TIFFClose(t);
    return ok;
}
