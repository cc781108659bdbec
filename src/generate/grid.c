/* SPDX-License-Identifier: Apache-2.0
 *
 * grid: the layout of a grid of pictures; see grid.h. Sizes follow the pictures': letters and gaps
 * grow with them, so that a grid of small pictures and one of large look alike. */
#include "generate/grid.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { EMPTY_CELL = 64, LONGEST_SIDE = 1 << 20 };

/* A label, broken into lines. */
typedef struct block {
    char *text; /* lines end in NUL, the last too; NULL: no label */
    int lines, width;
} block;

typedef struct grid {
    font *font;
    int rows, columns;
    int cell_width, cell_height;
    int margin, gap;                 /* around everything; between pictures */
    int line;                        /* height of a line of text */
    block *row_label, *column_label; /* [rows], [columns] */
    int left, top;                   /* of the first picture */
} grid;

static int largest(int a, int b) { return a > b ? a : b; }
static int between(int low, int x, int high) { return x < low ? low : x > high ? high : x; }

/* ---- labels ---- */

static bool block_make(block *out, font *f, const char *text, int width, error *e)
{
    free(out->text);
    *out = (block){0};
    if (!text || !*text) return true;
    out->text = font_wrap(f, text, width);
    if (!out->text) return error_memory(e, "a label", strlen(text));
    char *rest;
    for (char *line = out->text; line; line = rest) {
        rest = strchr(line, '\n');
        if (rest) *rest++ = '\0';
        out->width = largest(out->width, font_text_width(f, line));
        out->lines++;
    }
    return true;
}

/* centred: each line in the middle of width, else all at x. */
static void block_draw(const block *b, const grid *s, image *m, int x, int y, int width,
                       bool centred)
{
    const char *line = b->text;
    for (int i = 0; i < b->lines; i++, line += strlen(line) + 1, y += s->line) {
        int spare = centred ? (width - font_text_width(s->font, line)) / 2 : 0;
        font_draw(s->font, m, x + spare, y, line);
    }
}

static int most_lines(const block *b, int count)
{
    int lines = 0;
    for (int i = 0; i < count; i++) lines = largest(lines, b[i].lines);
    return lines;
}

static int widest(const block *b, int count)
{
    int width = 0;
    for (int i = 0; i < count; i++) width = largest(width, b[i].width);
    return width;
}

/* Row labels are wrapped to about a picture's width; wider where they would be higher than it. */
static bool wrap_row_labels(grid *s, const char *const *label, error *e)
{
    int width = between(7 * s->line, s->cell_width * 5 / 4, 14 * s->line);
    int limit = largest(4 * s->cell_width, width);
    for (;; width = largest(width * 5 / 4, width + 1)) {
        for (int i = 0; i < s->rows; i++)
            if (!block_make(&s->row_label[i], s->font, label[i], width, e)) return false;
        if (width >= limit || most_lines(s->row_label, s->rows) * s->line <= s->cell_height)
            return true;
    }
}

/* Column labels are wrapped to a picture's width; columns of tiny pictures become wider. */
static bool wrap_column_labels(grid *s, const char *const *label, error *e)
{
    int width = largest(s->cell_width, 4 * s->line);
    for (int i = 0; i < s->columns; i++)
        if (!block_make(&s->column_label[i], s->font, label[i], width, e)) return false;
    s->cell_width = largest(s->cell_width, widest(s->column_label, s->columns));
    return true;
}

/* ---- layout ---- */

static void measure_cells(grid *s, const image *const *cell)
{
    for (size_t i = 0; i < (size_t)s->rows * (size_t)s->columns; i++) {
        if (!cell[i]) continue;
        s->cell_width = largest(s->cell_width, cell[i]->width);
        s->cell_height = largest(s->cell_height, cell[i]->height);
    }
    if (!s->cell_width) s->cell_width = s->cell_height = EMPTY_CELL;
}

static bool grid_open(grid *s, const image *const *cell, const char *const *row_label,
                      const char *const *column_label, error *e)
{
    measure_cells(s, cell);
    int side = s->cell_width < s->cell_height ? s->cell_width : s->cell_height;
    int letters = between(13, 9 + side / 22, 36);
    s->gap = between(4, side / 28, 16);
    s->margin = letters * 3 / 2;
    s->row_label = calloc((size_t)s->rows, sizeof *s->row_label);
    s->column_label = calloc((size_t)s->columns, sizeof *s->column_label);
    if (!s->row_label || !s->column_label)
        return error_memory(e, "labels", (size_t)(s->rows + s->columns) * sizeof(block));
    if (!font_open(&s->font, letters, e)) return false;
    s->line = font_line_height(s->font);
    if ((row_label && !wrap_row_labels(s, row_label, e)) ||
        (column_label && !wrap_column_labels(s, column_label, e)))
        return false;
    int label = widest(s->row_label, s->rows), lines = most_lines(s->column_label, s->columns);
    s->left = s->margin + (label ? label + s->margin : 0);
    s->top = s->margin + (lines ? lines * s->line + s->gap + s->gap / 2 : 0);
    return true;
}

static void grid_close(grid *s)
{
    for (int i = 0; s->row_label && i < s->rows; i++) free(s->row_label[i].text);
    for (int i = 0; s->column_label && i < s->columns; i++) free(s->column_label[i].text);
    free(s->row_label);
    free(s->column_label);
    font_close(&s->font);
}

/* A row is as high as its pictures, or as its label where that is higher. */
static int row_height(const grid *s, int row)
{
    return largest(s->cell_height, s->row_label[row].lines * s->line);
}

/* ---- drawing ---- */

static void paste(image *m, const image *picture, int x, int y)
{
    for (int row = 0; row < picture->height; row++)
        memcpy(m->pixels + 3 * ((size_t)(y + row) * (size_t)m->width + (size_t)x),
               picture->pixels + 3 * (size_t)row * (size_t)picture->width,
               3 * (size_t)picture->width);
}

static void draw(const grid *s, image *m, const image *const *cell)
{
    for (int column = 0; column < s->columns; column++) {
        const block *label = &s->column_label[column];
        int x = s->left + column * (s->cell_width + s->gap);
        int y = s->top - s->gap - label->lines * s->line; /* they end at the pictures */
        block_draw(label, s, m, x, y, s->cell_width, true);
    }
    int y = s->top;
    for (int row = 0; row < s->rows; row++) {
        const block *label = &s->row_label[row];
        int height = row_height(s, row);
        block_draw(label, s, m, s->margin, y + (height - label->lines * s->line) / 2, 0, false);
        for (int column = 0; column < s->columns; column++) {
            const image *picture = cell[(size_t)row * (size_t)s->columns + (size_t)column];
            int x = s->left + column * (s->cell_width + s->gap);
            if (picture)
                paste(m, picture, x + (s->cell_width - picture->width) / 2,
                      y + (height - picture->height) / 2);
        }
        y += height + s->gap;
    }
}

bool grid_make(image *out, const image *const *cell, int rows, int columns,
               const char *const *row_label, const char *const *column_label, error *e)
{
    assert(rows > 0 && columns > 0);
    grid s = {.rows = rows, .columns = columns};
    *out = (image){0};
    bool ok = grid_open(&s, cell, row_label, column_label, e);
    if (ok) {
        int64_t width = s.left + columns * (int64_t)(s.cell_width + s.gap) - s.gap + s.margin;
        int64_t height = s.top - s.gap + s.margin;
        for (int i = 0; i < rows; i++) height += row_height(&s, i) + s.gap;
        if (width > LONGEST_SIDE || height > LONGEST_SIDE)
            ok = error_set(e, ERROR_USAGE,
                           "the grid would be %lld x %lld pixels, and %d is the longest "
                           "side; put fewer pictures on it",
                           (long long)width, (long long)height, LONGEST_SIDE);
        else
            ok = image_new(out, (int)width, (int)height, e);
    }
    if (ok) draw(&s, out, cell);
    grid_close(&s);
    return ok;
}
