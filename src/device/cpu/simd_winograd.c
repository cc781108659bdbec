/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_winograd: the three transforms of Winograd's F(4x4,3x3) with the points 0, 1, -1, 2, -2 and
 * infinity, and of F(6x6,3x3) with 1/2 and -1/2 besides, a vector of channels at a time. `side` is
 * that of a tile's input, 6 or 8, and a constant wherever it is inlined. */
#include "device/cpu/simd.h"
#include "device/cpu/winograd.h"

enum { NR = 2 * LANES, LINE = 16, LINE_VECTORS = LINE / LANES };

enum { SIDE_MOST = 8 };

/* Inlined, the sanitizers' checks in them take a compiler most of a minute. */
#ifdef LIKENESS_SANITIZED
#define PART static __attribute__((noinline))
#else
#define PART SIMD
#endif

extern const struct winograd_kernels ISA(winograd_kernels)[WINO_SIZES];

/* The transforms walk 36 or 64 streams at once, more than the machine foresees by itself: they ask
 * for the lines of the next turns (past the end it does no harm). */
PART void prefetch(const void *p, int64_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)bytes));
}

PART void prefetch_to_write(const void *p, int64_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)bytes), 1);
}

/* out[i * out_step] = B' in: one column or row of a 6 x 6 tile, of an 8 x 8 tile. */
PART void input_line_6(vf *out, int out_step, const vf *in)
{
    vf four = vf_set(4), five = vf_set(5), two = vf_set(2);
    vf a = in[4] - four * in[2], b = in[3] - four * in[1];
    vf c = in[4] - in[2], d = two * (in[3] - in[1]);
    out[0] = four * in[0] - five * in[2] + in[4];
    out[out_step] = a + b;
    out[2 * out_step] = a - b;
    out[3 * out_step] = c + d;
    out[4 * out_step] = c - d;
    out[5 * out_step] = four * in[1] - five * in[3] + in[5];
}

PART void input_line_8(vf *out, int out_step, const vf *in)
{
    vf a = in[2] + in[6] - vf_set(4.25f) * in[4], b = in[1] + in[5] - vf_set(4.25f) * in[3];
    vf quarter = vf_set(0.25f), half = vf_set(0.5f), two = vf_set(2), most = vf_set(5.25f);
    vf middle = vf_set(2.5f) * in[3];
    out[0] = in[0] - in[6] + most * (in[4] - in[2]);
    out[out_step] = a + b;
    out[2 * out_step] = a - b;
    a = in[6] + quarter * in[2] - vf_set(1.25f) * in[4];
    b = half * in[1] - middle + two * in[5];
    out[3 * out_step] = a + b;
    out[4 * out_step] = a - b;
    a = in[6] + vf_set(4) * in[2] - vf_set(5) * in[4];
    b = two * in[1] - middle + half * in[5];
    out[5 * out_step] = a + b;
    out[6 * out_step] = a - b;
    out[7 * out_step] = in[7] - in[1] + most * (in[3] - in[5]);
}

PART void input_line(int side, vf *out, int out_step, const vf *in)
{
    if (side == 6)
        input_line_6(out, out_step, in);
    else
        input_line_8(out, out_step, in);
}

/* One line of 16 channels. `type` is a constant where this is inlined. */
PART void input_channels(int side, float *v, int64_t v_stride, const void *const *pixel, dtype type,
                         int64_t c)
{
    vf half[LINE_VECTORS][WINO_POINTS_MOST];
    int64_t ahead = (c + 2 * LINE) * (type == DTYPE_F32 ? 4 : 2);
#pragma GCC unroll 8
    for (int x = 0; x < side; x++) {
#pragma GCC unroll 8
        for (int y = 0; y < side; y++) prefetch(pixel[y * side + x], ahead);
#pragma GCC unroll 4
        for (int i = 0; i < LINE_VECTORS; i++) {
            vf in[SIDE_MOST];
#pragma GCC unroll 8
            for (int y = 0; y < side; y++)
                in[y] = vf_load_as(pixel[y * side + x], type, c + i * LANES);
            input_line(side, &half[i][x], side, in);
        }
    }
    for (int y = 0; y < side; y++) {
        float *to = v + y * side * v_stride;
#pragma GCC unroll 4
        for (int i = 0; i < LINE_VECTORS; i++) {
            vf out[SIDE_MOST];
            input_line(side, out, 1, &half[i][y * side]);
#pragma GCC unroll 8
            for (int x = 0; x < side; x++) vf_store(to + x * v_stride + i * LANES, out[x]);
        }
#pragma GCC unroll 8
        for (int x = 0; x < side; x++) prefetch_to_write(to + x * v_stride, 128);
    }
}

/* The last line, of which `left` channels are there: it is filled up with zeros beside the tile. */
PART void input_rest(int side, float *v, int64_t v_stride, const void *const *pixel, dtype type,
                     int64_t c, int64_t left)
{
    float whole[WINO_POINTS_MOST][LINE] = {{0}};
    const void *lines[WINO_POINTS_MOST];
    for (int p = 0; p < side * side; p++) {
        for (int64_t i = 0; i < left; i += LANES) {
            int64_t n = left - i < LANES ? left - i : LANES;
            vf_store(whole[p] + i, vf_load_as_n(pixel[p], type, c + i, n));
        }
        lines[p] = whole[p];
    }
    input_channels(side, v, v_stride, lines, DTYPE_F32, 0);
}

PART void input_of(int side, float *v, int64_t v_stride, int64_t line_stride,
                   const void *const *pixel, dtype type, int64_t c)
{
    int64_t i = 0;
    if (type == DTYPE_F32)
        for (; i + LINE <= c; i += LINE, v += line_stride)
            input_channels(side, v, v_stride, pixel, DTYPE_F32, i);
    else
        for (; i + LINE <= c; i += LINE, v += line_stride)
            input_channels(side, v, v_stride, pixel, DTYPE_BF16, i);
    if (i < c) input_rest(side, v, v_stride, pixel, type, i, c - i);
}

/* out[i * out_step] = G in */
PART void filter_line_6(vf *out, int out_step, vf g0, vf g1, vf g2)
{
    vf sixth = vf_set(-1.0f / 6), even = vf_set(1.0f / 24) * g0 + vf_set(1.0f / 6) * g2;
    vf outer = sixth * (g0 + g2), inner = sixth * g1, odd = vf_set(1.0f / 12) * g1;
    out[0] = vf_set(0.25f) * g0;
    out[out_step] = outer + inner;
    out[2 * out_step] = outer - inner;
    out[3 * out_step] = even + odd;
    out[4 * out_step] = even - odd;
    out[5 * out_step] = g2;
}

PART void filter_line_8(vf *out, int out_step, vf g0, vf g1, vf g2)
{
    vf ninths = vf_set(-2.0f / 9), outer = ninths * (g0 + g2), inner = ninths * g1;
    vf small = vf_set(1.0f / 90) * g0 + vf_set(2.0f / 45) * g2, odd = vf_set(1.0f / 45) * g1;
    vf large = vf_set(32.0f / 45) * g0 + vf_set(8.0f / 45) * g2, odds = vf_set(16.0f / 45) * g1;
    out[0] = g0;
    out[out_step] = outer + inner;
    out[2 * out_step] = outer - inner;
    out[3 * out_step] = small + odd;
    out[4 * out_step] = small - odd;
    out[5 * out_step] = large + odds;
    out[6 * out_step] = large - odds;
    out[7 * out_step] = g2;
}

PART void filter_line(int side, vf *out, int out_step, vf g0, vf g1, vf g2)
{
    if (side == 6)
        filter_line_6(out, out_step, g0, g1, g2);
    else
        filter_line_8(out, out_step, g0, g1, g2);
}

SIMD vf load_tap(const void *w, dtype type, int64_t i)
{
    return type == DTYPE_F16 ? vf_load_f16((const uint16_t *)w + i) : vf_load_as(w, type, i);
}

/* Row y of G g G', or y and y + 1, whose sums have parts in common: few numbers at a time, so that
 * none but the results are stored. */
PART void filter_rows(int side, int y, int rows, float *u, int64_t u_stride, const void *w,
                      dtype type, int64_t tap_stride)
{
    vf half[3][SIDE_MOST], out[SIDE_MOST];
#pragma GCC unroll 3
    for (int x = 0; x < 3; x++)
        filter_line(side, half[x], 1, load_tap(w, type, x * tap_stride),
                    load_tap(w, type, (3 + x) * tap_stride),
                    load_tap(w, type, (6 + x) * tap_stride));
#pragma GCC unroll 2
    for (int i = y; i < y + rows; i++) {
        filter_line(side, out, 1, half[0][i], half[1][i], half[2][i]);
#pragma GCC unroll 8
        for (int x = 0; x < side; x++) vf_store(u + (i * side + x) * u_stride, out[x]);
    }
}

PART void filter_as(int side, float *u, int64_t u_stride, int64_t u_row, const void *w, dtype type,
                    int64_t tap_stride, int64_t count)
{
    int64_t size = type == DTYPE_F32 ? 4 : 2;
    for (int64_t i = 0; i < count * NR; i += LANES) {
        const char *from = (const char *)w + i * size;
        float *to = u + i / NR * u_row + i % NR;
#pragma GCC unroll 9
        for (int t = 0; t < WINO_TAPS; t++) prefetch(from, t * tap_stride * size + 256);
#pragma GCC unroll 5
        for (int pair = 0; pair <= side / 2; pair++) {
            bool single = pair == 0 || pair == side / 2; /* the first row, the last */
            filter_rows(side, pair ? 2 * pair - 1 : 0, single ? 1 : 2, to, u_stride, from, type,
                        tap_stride);
        }
    }
}

PART void filter_of(int side, float *u, int64_t u_stride, int64_t u_row, const void *w, dtype type,
                    int64_t tap_stride, int64_t count)
{
    if (type == DTYPE_F32)
        filter_as(side, u, u_stride, u_row, w, DTYPE_F32, tap_stride, count);
    else if (type == DTYPE_F16)
        filter_as(side, u, u_stride, u_row, w, DTYPE_F16, tap_stride, count);
    else
        filter_as(side, u, u_stride, u_row, w, DTYPE_BF16, tap_stride, count);
}

/* out[i * out_step] = A' in: 6 numbers to 4, 8 to 6 */
PART void output_line_6(vf *out, int out_step, const vf *in)
{
    vf a = in[1] + in[2], b = in[1] - in[2], c = in[3] + in[4], d = in[3] - in[4];
    out[0] = in[0] + a + c;
    out[out_step] = b + vf_set(2) * d;
    out[2 * out_step] = a + vf_set(4) * c;
    out[3 * out_step] = b + vf_set(8) * d + in[5];
}

PART void output_line_8(vf *out, int out_step, const vf *in)
{
    vf a = in[1] + in[2], b = in[1] - in[2], c = in[3] + in[4], d = in[3] - in[4];
    vf e = in[5] + in[6], f = in[5] - in[6];
    out[0] = in[0] + a + c + e;
    out[out_step] = b + vf_set(2) * d + vf_set(0.5f) * f;
    out[2 * out_step] = a + vf_set(4) * c + vf_set(0.25f) * e;
    out[3 * out_step] = b + vf_set(8) * d + vf_set(0.125f) * f;
    out[4 * out_step] = a + vf_set(16) * c + vf_set(0.0625f) * e;
    out[5 * out_step] = b + vf_set(32) * d + vf_set(0.03125f) * f + in[7];
}

PART void output_line(int side, vf *out, int out_step, const vf *in)
{
    if (side == 6)
        output_line_6(out, out_step, in);
    else
        output_line_8(out, out_step, in);
}

/* One pixel of the output; n is LANES, or what is left. */
PART void output_pixel(const struct winograd_output *job, int64_t at, vf sum, int64_t n)
{
    if (n == LANES) {
        if (job->add) sum += vf_load_as(job->add, job->add_type, at);
        vf_store_as(job->y, job->y_type, at, sum);
    } else {
        if (job->add) sum += vf_load_as_n(job->add, job->add_type, at, n);
        vf_store_as_n(job->y, job->y_type, at, sum, n);
    }
}

PART void output_columns(int side, const struct winograd_output *job, int64_t first, int64_t n)
{
    vf half[SIDE_MOST * WINO_OUT_MOST];
#pragma GCC unroll 8
    for (int x = 0; x < side; x++) {
        vf in[SIDE_MOST];
#pragma GCC unroll 8
        for (int y = 0; y < side; y++) {
            const float *m = job->m + (y * side + x) * job->m_stride + first;
            in[y] = vf_load(m);
            prefetch(m, 256);
        }
        output_line(side, &half[x], side, in);
    }
    vf bias = vf_zero();
    if (job->bias) bias = n == LANES ? vf_load(job->bias + first) : vf_load_n(job->bias + first, n);
    for (int y = 0; y < job->rows; y++) {
        vf out[WINO_OUT_MOST];
        output_line(side, out, 1, &half[y * side]);
        int64_t at = job->at + y * job->y_row + first;
        for (int x = 0; x < job->columns && x < side - 2; x++, at += job->y_column)
            output_pixel(job, at, out[x] + bias, n);
    }
}

PART void output_of(int side, const struct winograd_output *job)
{
    int64_t i = 0;
    for (; i + LANES <= job->n; i += LANES) output_columns(side, job, i, LANES);
    if (i < job->n) output_columns(side, job, i, job->n - i);
}

#define KERNELS(side)                                                                              \
    static void input_##side(float *v, int64_t v_stride, int64_t line_stride,                      \
                             const void *const *pixel, dtype type, int64_t c)                      \
    {                                                                                              \
        input_of(side, v, v_stride, line_stride, pixel, type, c);                                  \
    }                                                                                              \
    static void filter_##side(float *u, int64_t u_stride, int64_t u_row, const void *w,            \
                              dtype type, int64_t tap_stride, int64_t count)                       \
    {                                                                                              \
        filter_of(side, u, u_stride, u_row, w, type, tap_stride, count);                           \
    }                                                                                              \
    static void output_##side(const struct winograd_output *job) { output_of(side, job); }

KERNELS(6)
KERNELS(8)

const struct winograd_kernels ISA(winograd_kernels)[WINO_SIZES] = {
    {4, 6, 36, input_6, filter_6, output_6},
    {6, 8, 64, input_8, filter_8, output_8},
};
