/* SPDX-License-Identifier: Apache-2.0
 *
 * font: labels on picture grids, drawn by FreeType. One font at one size, no kerning, left to
 * right. */
#include <stdlib.h>
#include <string.h>

#include <ft2build.h>
#include <freetype/freetype.h>

#include "file/formats.h"

enum { INK = 40 }; /* dark grey */

/* FreeType's own hinter: the one in the font's bytecode crashes when an allocation fails inside it.
 */
enum { LOAD = FT_LOAD_FORCE_AUTOHINT };

struct font {
    FT_Library library;
    FT_Face face;
    int ascent, line_height;
};

static const char *const usual_places[] = {
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",   /* Debian, Ubuntu */
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf", /* Fedora */
    "/usr/share/fonts/TTF/DejaVuSans.ttf",               /* Arch */
    "/usr/share/fonts/dejavu/DejaVuSans.ttf",            /* Alpine, older Fedora */
    "/usr/local/share/fonts/dejavu/DejaVuSans.ttf",
};

static const char *find_font(error *e)
{
    const char *chosen = getenv("LIKENESS_FONT");
    if (chosen && *chosen) {
        if (path_is_file(chosen)) return chosen;
        error_set(e, ERROR_FILE, "LIKENESS_FONT=%s: there is no such file", chosen);
        return NULL;
    }
    for (size_t i = 0; i < sizeof usual_places / sizeof *usual_places; i++)
        if (path_is_file(usual_places[i])) return usual_places[i];
    error_set(
        e, ERROR_FILE,
        "no font to label pictures with: install DejaVu Sans (apt install fonts-dejavu-core) or "
        "name a font file in LIKENESS_FONT");
    return NULL;
}

bool font_open(font **out, int pixel_size, error *e)
{
    *out = NULL;
    const char *path = find_font(e);
    if (!path) return false;
    font *f = calloc(1, sizeof *f);
    if (!f) return error_memory(e, "a font", sizeof *f);
    FT_Error problem = FT_Init_FreeType(&f->library);
    if (!problem) problem = FT_New_Face(f->library, path, 0, &f->face);
    if (!problem) problem = FT_Set_Pixel_Sizes(f->face, 0, (FT_UInt)pixel_size);
    if (problem) {
        font_close(&f);
        if (problem == FT_Err_Out_Of_Memory) return error_memory(e, path, 0);
        return error_set(e, ERROR_FORMAT,
                         "%s: is not a font that can be used at %d pixels (FreeType error %d)",
                         path, pixel_size, (int)problem);
    }
    const FT_Size_Metrics *size = &f->face->size->metrics;
    f->ascent = (int)((size->ascender + 63) >> 6);
    f->line_height = (int)((size->height + 63) >> 6);
    *out = f;
    return true;
}

void font_close(font **f)
{
    if (!*f) return;
    if ((*f)->face) FT_Done_Face((*f)->face);
    if ((*f)->library) FT_Done_FreeType((*f)->library);
    free(*f);
    *f = NULL;
}

int font_line_height(const font *f) { return f->line_height; }

/* Pixels to the next character; 0 for one that cannot be loaded. */
static int advance(const font *f, uint32_t code)
{
    if (FT_Load_Char(f->face, code, LOAD)) return 0;
    return (int)(f->face->glyph->advance.x >> 6);
}

int font_text_width(font *f, const char *utf8)
{
    int width = 0;
    while (*utf8 && *utf8 != '\n') width += advance(f, utf8_next(&utf8));
    return width;
}

/* Mixes a glyph's coverage over the picture, its top left at (x, y). */
static void blend(image *m, int x, int y, const FT_Bitmap *glyph)
{
    if (glyph->pixel_mode != FT_PIXEL_MODE_GRAY) return;
    for (int row = 0; row < (int)glyph->rows; row++)
        for (int column = 0; column < (int)glyph->width; column++) {
            int px = x + column, py = y + row;
            if (px < 0 || py < 0 || px >= m->width || py >= m->height) continue;
            int cover = glyph->buffer[(ptrdiff_t)row * glyph->pitch + column];
            uint8_t *p = m->pixels + 3 * ((size_t)py * (size_t)m->width + (size_t)px);
            for (int c = 0; c < 3; c++)
                p[c] = (uint8_t)((p[c] * (255 - cover) + INK * cover + 127) / 255);
        }
}

void font_draw(font *f, image *m, int x, int y, const char *utf8)
{
    while (*utf8 && *utf8 != '\n') {
        if (FT_Load_Char(f->face, utf8_next(&utf8), LOAD | FT_LOAD_RENDER)) continue;
        const FT_GlyphSlot glyph = f->face->glyph;
        blend(m, x + glyph->bitmap_left, y + f->ascent - glyph->bitmap_top, &glyph->bitmap);
        x += (int)(glyph->advance.x >> 6);
    }
}

char *font_wrap(font *f, const char *utf8, int width)
{
    char *out = malloc(2 * strlen(utf8) + 1),
         *at = out; /* at worst a newline after every character */
    if (!out) return NULL;
    char *space = NULL; /* the last one of this line, and how wide the line is after it */
    int used = 0, used_at_space = 0;
    while (*utf8) {
        const char *start = utf8;
        uint32_t code = utf8_next(&utf8);
        if (code == '\n') {
            *at++ = '\n';
            space = NULL;
            used = 0;
            continue;
        }
        int step = advance(f, code);
        if (used > 0 && used + step > width && code == ' ') { /* the line ends here anyway */
            *at++ = '\n';
            space = NULL;
            used = 0;
            continue;
        }
        if (used > 0 && used + step > width && space) {
            *space = '\n';
            space = NULL;
            used -= used_at_space;
        }
        if (used > 0 && used + step > width) {
            *at++ = '\n';
            used = 0;
        }
        memcpy(at, start, (size_t)(utf8 - start));
        at += utf8 - start;
        used += step;
        if (code == ' ') {
            space = at - 1;
            used_at_space = used;
        }
    }
    *at = '\0';
    return out;
}
