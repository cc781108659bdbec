/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_winograd: the three transforms of Winograd's F(4x4,3x3) with the points 0, 1, -1, 2, -2 and
 * infinity, a vector of channels at a time. */
#include "device/cpu/simd.h"
#include "device/cpu/winograd.h"

enum { NR = 2 * LANES, LINE = 16, LINE_VECTORS = LINE / LANES };

extern const struct winograd_kernels ISA(winograd_kernels);

/* The transforms walk 36 streams at once, more than the machine foresees by itself: they ask for
 * the lines of the next turns (past the end it does no harm). */
SIMD void prefetch(const void *p, int64_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)bytes));
}

SIMD void prefetch_to_write(const void *p, int64_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)bytes), 1);
}

/* out[i * out_step] = B' in: one column or row of a 6 x 6 tile. */
SIMD void input_line(vf *out, int out_step, const vf *in)
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

SIMD vf pixel_load(const void *p, dtype type, int64_t c, int64_t left)
{
    if (left >= LANES) return vf_load_as(p, type, c);
    return left <= 0 ? vf_zero() : vf_load_as_n(p, type, c, left);
}

/* One line of 16 channels; `left` of them are there. `type` and whether the line is whole are
 * constants where this is inlined. */
SIMD void input_channels(float *v, int64_t v_stride, const void *const *pixel, dtype type,
                         int64_t c, int64_t left)
{
    vf half[LINE_VECTORS][WINO_POINTS];
    int64_t ahead = (c + 2 * LINE) * (type == DTYPE_F32 ? 4 : 2);
#pragma GCC unroll 6
    for (int x = 0; x < WINO_IN; x++) {
#pragma GCC unroll 6
        for (int y = 0; y < WINO_IN; y++) prefetch(pixel[y * WINO_IN + x], ahead);
#pragma GCC unroll 4
        for (int i = 0; i < LINE_VECTORS; i++) {
            vf in[WINO_IN];
#pragma GCC unroll 6
            for (int y = 0; y < WINO_IN; y++)
                in[y] = pixel_load(pixel[y * WINO_IN + x], type, c + i * LANES, left - i * LANES);
            input_line(&half[i][x], WINO_IN, in);
        }
    }
    for (int y = 0; y < WINO_IN; y++) {
        float *to = v + y * WINO_IN * v_stride + c;
#pragma GCC unroll 4
        for (int i = 0; i < LINE_VECTORS; i++) {
            vf out[WINO_IN];
            input_line(out, 1, &half[i][y * WINO_IN]);
#pragma GCC unroll 6
            for (int x = 0; x < WINO_IN; x++) vf_store(to + x * v_stride + i * LANES, out[x]);
        }
#pragma GCC unroll 6
        for (int x = 0; x < WINO_IN; x++) prefetch_to_write(to + x * v_stride, 128);
    }
}

static void input(float *v, int64_t v_stride, const void *const *pixel, dtype type, int64_t c)
{
    int64_t i = 0;
    if (type == DTYPE_F32)
        for (; i + LINE <= c; i += LINE) input_channels(v, v_stride, pixel, DTYPE_F32, i, LINE);
    else
        for (; i + LINE <= c; i += LINE) input_channels(v, v_stride, pixel, DTYPE_BF16, i, LINE);
    if (i < c) input_channels(v, v_stride, pixel, type, i, c - i);
}

/* out[i * out_step] = G in */
SIMD void filter_line(vf *out, int out_step, vf g0, vf g1, vf g2)
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

SIMD void filter_as(float *u, int64_t u_stride, const void *w, dtype type, int64_t tap_stride,
                    int64_t count)
{
    for (int64_t i = 0; i < count * NR; i += LANES) {
        vf g[WINO_TAPS], half[WINO_IN * 3], out[WINO_IN];
#pragma GCC unroll 9
        for (int t = 0; t < WINO_TAPS; t++) {
            int64_t at = t * tap_stride + i;
            g[t] = vf_load_as(w, type, at);
            prefetch(w, type == DTYPE_F32 ? at * 4 + 256 : at * 2 + 256);
        }
#pragma GCC unroll 3
        for (int x = 0; x < 3; x++) filter_line(&half[x], 3, g[x], g[3 + x], g[6 + x]);
#pragma GCC unroll 6
        for (int y = 0; y < WINO_IN; y++) {
            filter_line(out, 1, half[3 * y], half[3 * y + 1], half[3 * y + 2]);
#pragma GCC unroll 6
            for (int x = 0; x < WINO_IN; x++)
                vf_store(u + (y * WINO_IN + x) * u_stride + i, out[x]);
        }
    }
}

static void filter(float *u, int64_t u_stride, const void *w, dtype type, int64_t tap_stride,
                   int64_t count)
{
    if (type == DTYPE_F32)
        filter_as(u, u_stride, w, DTYPE_F32, tap_stride, count);
    else
        filter_as(u, u_stride, w, DTYPE_BF16, tap_stride, count);
}

/* out[i * out_step] = A' in: 6 numbers to 4 */
SIMD void output_line(vf *out, int out_step, const vf *in)
{
    vf a = in[1] + in[2], b = in[1] - in[2], c = in[3] + in[4], d = in[3] - in[4];
    out[0] = in[0] + a + c;
    out[out_step] = b + vf_set(2) * d;
    out[2 * out_step] = a + vf_set(4) * c;
    out[3 * out_step] = b + vf_set(8) * d + in[5];
}

SIMD void output_columns(const struct winograd_output *job, int64_t first, int64_t n)
{
    vf half[WINO_OUT * WINO_IN];
#pragma GCC unroll 6
    for (int x = 0; x < WINO_IN; x++) {
        vf in[WINO_IN];
#pragma GCC unroll 6
        for (int y = 0; y < WINO_IN; y++) {
            const float *m = job->m + (y * WINO_IN + x) * job->m_stride + first;
            in[y] = vf_load(m);
            prefetch(m, 256);
        }
        output_line(&half[x], WINO_IN, in);
    }
    vf bias = vf_zero();
    if (job->bias) bias = n == LANES ? vf_load(job->bias + first) : vf_load_n(job->bias + first, n);
    for (int y = 0; y < job->rows; y++) {
        vf out[WINO_OUT];
        output_line(out, 1, &half[y * WINO_IN]);
        for (int x = 0; x < job->columns; x++) {
            int64_t at = job->at + y * job->y_row + x * job->y_column + first;
            vf sum = out[x] + bias;
            if (n == LANES) {
                if (job->add) sum += vf_load_as(job->add, job->add_type, at);
                vf_store_as(job->y, job->y_type, at, sum);
            } else {
                if (job->add) sum += vf_load_as_n(job->add, job->add_type, at, n);
                vf_store_as_n(job->y, job->y_type, at, sum, n);
            }
        }
    }
}

static void output(const struct winograd_output *job)
{
    int64_t i = 0;
    for (; i + LANES <= job->n; i += LANES) output_columns(job, i, LANES);
    if (i < job->n) output_columns(job, i, job->n - i);
}

const struct winograd_kernels ISA(winograd_kernels) = {
    .input = input,
    .filter = filter,
    .output = output,
};
