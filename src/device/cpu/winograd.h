/* SPDX-License-Identifier: Apache-2.0
 *
 * winograd: what winograd.c and its vector code share. F(4x4,3x3): a tile of 4 x 4 output pixels
 * comes from 6 x 6 input pixels; each of the 36 numbers of a transformed tile is one product. And
 * F(6x6,3x3): 6 x 6 pixels from 8 x 8 by 64 products, a fifth fewer, with twice the rounding. */
#ifndef LIKENESS_DEVICE_CPU_WINOGRAD_H
#define LIKENESS_DEVICE_CPU_WINOGRAD_H

#include "device/cpu/product.h"

enum { WINO_OUT = 4, WINO_IN = 6, WINO_POINTS = 36, WINO_TAPS = 9 }; /* F(4x4,3x3) */
enum { WINO_SIZES = 2, WINO_OUT_MOST = 6, WINO_POINTS_MOST = 64 };

struct winograd_output;

/* Of one size of tiles; of each instruction set there are two, F(4x4,3x3) first. */
struct winograd_kernels {
    int out, in, points; /* of a tile: pixels a side, in the output and the input; products */
    /* v[point * v_stride + line * line_stride + i] = B' d B for channels line * 16 + i of [0, c),
     * zero up to a whole line; pixel[points] are the tile's input pixels of `type`, row by row. */
    void (*input)(float *v, int64_t v_stride, int64_t line_stride, const void *const *pixel,
                  dtype type, int64_t c);
    /* u[point * u_stride + k * u_row + column] = G g G' for k in [0, count); w is a packed panel at
     * its first k, tap_stride numbers from tap to tap. */
    void (*filter)(float *u, int64_t u_stride, int64_t u_row, const void *w, dtype type,
                   int64_t tap_stride, int64_t count);
    /* A' m A of one tile for n <= nr columns: m[point * m_stride + column] -> y[row * y_row +
     * column * y_column + n] of `rows` x `columns` pixels, + bias (or NULL) + add (or NULL). */
    void (*output)(const struct winograd_output *job);
};

struct winograd_output {
    const float *m;
    int64_t m_stride;
    const float *bias;
    const void *add;
    void *y;
    dtype add_type, y_type;
    int64_t at;              /* of the tile's first pixel and column, in y and add */
    int64_t y_row, y_column; /* from pixel row to pixel row, from pixel to pixel */
    int rows, columns;       /* 1..out */
    int64_t n;
};

#endif
