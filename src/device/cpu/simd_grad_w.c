/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_grad_w: the vector code of the gradients by the weight: the register tile of outer products,
 * what brings dy and x into its order, and Winograd's two transforms that only training has. */
#include "device/cpu/grad_w.h"
#include "device/cpu/simd_transpose.h"

#if defined(LK_ISA_avx512)
enum { MR = 12 };
#else
enum { MR = 6 };
#endif
enum { NR = 2 * LANES, LINE = 16 };

extern const struct grad_w_kernels ISA(grad_w_kernels);

/* One tile of one panel; pairs and m are constants wherever this is inlined. */
SIMD void outer_tile(bool pairs, int m, const struct outer_job *job, const float *a, const float *b,
                     float *c, int64_t n)
{
    vf acc[MR][2];
    int64_t n0 = n < LANES ? n : LANES, n1 = n - n0, stride = job->c_stride;
#pragma GCC unroll 12
    for (int i = 0; i < m; i++) {
        if (!job->go_on) {
            acc[i][0] = acc[i][1] = vf_zero();
        } else if (n == NR) {
            acc[i][0] = vf_load(c + i * stride);
            acc[i][1] = vf_load(c + i * stride + LANES);
        } else {
            acc[i][0] = vf_load_n(c + i * stride, n0);
            acc[i][1] = vf_load_n(c + i * stride + n0, n1);
        }
    }
    for (int64_t k = 0; k < job->k; k++) {
        vf b0 = vf_load(b), b1 = vf_load(b + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < m; i++) {
            acc[i][0] = vf_add_product(pairs, a[i], b0, acc[i][0]);
            acc[i][1] = vf_add_product(pairs, a[i], b1, acc[i][1]);
        }
        a += job->a_stride;
        b += job->b_stride;
    }
#pragma GCC unroll 12
    for (int i = 0; i < m; i++) {
        if (n == NR) {
            vf_store(c + i * stride, acc[i][0]);
            vf_store(c + i * stride + LANES, acc[i][1]);
        } else {
            vf_store_n(c + i * stride, acc[i][0], n0);
            vf_store_n(c + i * stride + n0, acc[i][1], n1);
        }
    }
}

SIMD void outer_rest(bool pairs, int m, const struct outer_job *job, const float *a, const float *b,
                     float *c, int64_t n)
{
    switch (m) {
    case 1: outer_tile(pairs, 1, job, a, b, c, n); break;
    case 2: outer_tile(pairs, 2, job, a, b, c, n); break;
    case 3: outer_tile(pairs, 3, job, a, b, c, n); break;
    case 4: outer_tile(pairs, 4, job, a, b, c, n); break;
    case 5: outer_tile(pairs, 5, job, a, b, c, n); break;
    case 6: outer_tile(pairs, 6, job, a, b, c, n); break;
#if defined(LK_ISA_avx512)
    case 7: outer_tile(pairs, 7, job, a, b, c, n); break;
    case 8: outer_tile(pairs, 8, job, a, b, c, n); break;
    case 9: outer_tile(pairs, 9, job, a, b, c, n); break;
    case 10: outer_tile(pairs, 10, job, a, b, c, n); break;
    case 11: outer_tile(pairs, 11, job, a, b, c, n); break;
    case 12: outer_tile(pairs, 12, job, a, b, c, n); break;
#endif
    }
}

SIMD void outer_of(bool pairs, const struct outer_job *job)
{
    const float *b = job->b;
    for (int64_t j = 0; j < job->n; j += NR) {
        int64_t n = job->n - j < NR ? job->n - j : NR, i = 0;
        const float *a = job->a;
        float *c = job->c + j;
        for (; n == NR && i + MR <= job->m; i += MR) {
            outer_tile(pairs, MR, job, a, b, c + i * job->c_stride, NR);
            a += job->a_tile;
        }
        for (; i < job->m; i += MR) {
            int m = (int)(job->m - i < MR ? job->m - i : MR);
            outer_rest(pairs, m, job, a, b, c + i * job->c_stride, n);
            a += job->a_tile;
        }
        b += job->b_panel;
    }
}

static void outer(const struct outer_job *job) { outer_of(false, job); }

static void outer_pairs(const struct outer_job *job) { outer_of(true, job); }

SIMD void tiles_as(float *out, const void *in, dtype type, int64_t in_stride, int64_t k, int64_t m)
{
    for (int64_t i = 0; i < m; i += MR) {
        int64_t at = i, left = m - i;
        for (int64_t r = 0; r < k; r++) {
#pragma GCC unroll 2
            for (int j = 0; j < MR; j += LANES) {
                int64_t n = left - j;
                vf v = n >= LANES ? vf_load_as(in, type, at + j)
                       : n > 0    ? vf_load_as_n(in, type, at + j, n)
                                  : vf_zero();
                vf_store(out + j, v);
            }
            at += in_stride;
            out += MR;
        }
    }
}

static void tiles(float *out, const void *in, dtype type, int64_t in_stride, int64_t k, int64_t m)
{
    if (type == DTYPE_F32)
        tiles_as(out, in, DTYPE_F32, in_stride, k, m);
    else
        tiles_as(out, in, DTYPE_BF16, in_stride, k, m);
}

SIMD void panel_as(float *out, const void *in, dtype type, int64_t in_stride, int64_t k, int64_t n)
{
    for (int64_t r = 0; r < k; r++) {
        for (int j = 0; j < NR; j += LANES) {
            vf v = n - j >= LANES ? vf_load_as(in, type, r * in_stride + j)
                   : n > j        ? vf_load_as_n(in, type, r * in_stride + j, n - j)
                                  : vf_zero();
            vf_store(out + r * NR + j, v);
        }
    }
}

static void panel(float *out, const void *in, dtype type, int64_t in_stride, int64_t k, int64_t n)
{
    if (type == DTYPE_F32 && n == NR)
        panel_as(out, in, DTYPE_F32, in_stride, k, NR);
    else if (n == NR)
        panel_as(out, in, DTYPE_BF16, in_stride, k, NR);
    else
        panel_as(out, in, type, in_stride, k, n);
}

static void tiles_pairs(float *out, const uint16_t *in, int64_t in_stride, int64_t k, int64_t m)
{
    int64_t steps = (k + 1) / 2;
    for (int64_t i = 0; i < m; i += MR)
        for (int64_t r = 0; r < steps; r++, out += MR) {
            const uint16_t *first = in + r * in_stride + i, *second = first + steps * in_stride;
#pragma GCC unroll 2
            for (int j = 0; j < MR; j += LANES) {
                vu pair = vu_load_bf16(first + j, m - i - j);
                if (r + steps < k) pair |= vu_load_bf16(second + j, m - i - j) << 16;
                vf_store(out + j, (vf)pair);
            }
        }
}

SIMD void panel_pairs_as(float *out, const uint16_t *in, int64_t in_stride, int64_t k, int64_t n,
                         bool second)
{
    for (int64_t r = 0; r < k; r++, in += in_stride, out += NR)
#pragma GCC unroll 2
        for (int j = 0; j < NR; j += LANES) {
            vu half = vu_load_bf16(in + j, n - j);
            vf_store(out + j, (vf)(second ? (vu)vf_load(out + j) | half << 16 : half));
        }
}

static void panel_pairs(float *out, const uint16_t *in, int64_t in_stride, int64_t k, int64_t n,
                        bool second)
{
    if (n == NR)
        panel_pairs_as(out, in, in_stride, k, NR, second);
    else
        panel_pairs_as(out, in, in_stride, k, n, second);
}

/* out[i * out_step] = A in: 4 numbers to 6 */
SIMD void spread_line(vf *out, int out_step, const vf *in)
{
    vf even = in[0] + in[2], odd = in[1] + in[3];
    vf four = in[0] + vf_set(4) * in[2], eight = vf_set(2) * in[1] + vf_set(8) * in[3];
    out[0] = in[0];
    out[out_step] = even + odd;
    out[2 * out_step] = even - odd;
    out[3 * out_step] = four + eight;
    out[4 * out_step] = four - eight;
    out[5 * out_step] = in[3];
}

/* A vector of outputs of a tile, of which `left` are there. */
SIMD void spread_outputs(float *v, int64_t v_stride, const void *const *pixel, dtype type,
                         int64_t at, int64_t left)
{
    vf half[WINO_IN * WINO_OUT];
#pragma GCC unroll 4
    for (int x = 0; x < WINO_OUT; x++) {
        vf in[WINO_OUT];
#pragma GCC unroll 4
        for (int y = 0; y < WINO_OUT; y++) {
            const void *from = pixel[y * WINO_OUT + x];
            in[y] = left >= LANES ? vf_load_as(from, type, at)
                    : left > 0    ? vf_load_as_n(from, type, at, left)
                                  : vf_zero();
        }
        spread_line(&half[x], WINO_OUT, in);
    }
#pragma GCC unroll 6
    for (int y = 0; y < WINO_IN; y++) {
        vf out[WINO_IN];
        spread_line(out, 1, &half[y * WINO_OUT]);
#pragma GCC unroll 6
        for (int x = 0; x < WINO_IN; x++) vf_store(v + (y * WINO_IN + x) * v_stride + at, out[x]);
    }
}

static void spread(float *v, int64_t v_stride, const void *const *pixel, dtype type, int64_t n)
{
    int64_t i = 0;
    if (type == DTYPE_F32)
        for (; i + LANES <= n; i += LANES) spread_outputs(v, v_stride, pixel, DTYPE_F32, i, LANES);
    else
        for (; i + LANES <= n; i += LANES) spread_outputs(v, v_stride, pixel, DTYPE_BF16, i, LANES);
    for (; i < n || i % LINE; i += LANES) spread_outputs(v, v_stride, pixel, type, i, n - i);
}

/* out[i * out_step] = G' in: 6 numbers to 3 */
SIMD void fold_line(vf *out, int out_step, const vf *in)
{
    vf sixth = vf_set(1.0f / 6), a = in[1] + in[2], b = in[3] + in[4];
    vf c = in[2] - in[1], d = in[3] - in[4];
    out[0] = vf_set(0.25f) * in[0] - sixth * a + vf_set(1.0f / 24) * b;
    out[out_step] = sixth * c + vf_set(1.0f / 12) * d;
    out[2 * out_step] = sixth * (b - a) + in[5];
}

/* Moves 9 vectors, a tap each, to dw[channel][tap]. */
SIMD void taps_store(float *dw, const vf tap[WINO_TAPS], bool go_on)
{
    enum { WHOLE = WINO_TAPS / LANES * LANES, REST = WINO_TAPS - WHOLE };
#pragma GCC unroll 2
    for (int t = 0; t < WHOLE; t += LANES) {
        vf row[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) row[i] = tap[t + i];
        transpose_square(row);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            float *to = dw + i * WINO_TAPS + t;
            vf_store(to, go_on ? vf_load(to) + row[i] : row[i]);
        }
    }
#if defined(LK_ISA_avx512)
    vf row[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) row[i] = i < REST ? tap[WHOLE + i] : vf_zero();
    transpose_square(row);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        float *to = dw + i * WINO_TAPS;
        vf_store_n(to, go_on ? vf_load_n(to, REST) + row[i] : row[i], REST);
    }
#else
    float last[LANES];
    _Static_assert(REST == 1, "one tap is left");
    vf_store(last, tap[WHOLE]);
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++) {
        float *to = dw + i * WINO_TAPS + WHOLE;
        *to = go_on ? *to + last[i] : last[i];
    }
#endif
}

/* A vector of channels: 36 sums of s folded into 9, or 9 as they are. */
SIMD void store_channels(float *dw, const float *s, int64_t s_stride, bool folded, bool go_on)
{
    vf half[3 * WINO_IN], tap[WINO_TAPS];
    if (!folded) {
#pragma GCC unroll 9
        for (int t = 0; t < WINO_TAPS; t++) tap[t] = vf_load(s + t * s_stride);
    } else {
#pragma GCC unroll 6
        for (int x = 0; x < WINO_IN; x++) {
            vf in[WINO_IN];
#pragma GCC unroll 6
            for (int y = 0; y < WINO_IN; y++) in[y] = vf_load(s + (y * WINO_IN + x) * s_stride);
            fold_line(&half[x], WINO_IN, in);
        }
#pragma GCC unroll 3
        for (int y = 0; y < 3; y++) fold_line(&tap[3 * y], 1, &half[y * WINO_IN]);
    }
    taps_store(dw, tap, go_on);
}

SIMD void store_all(float *dw, const float *s, int64_t s_stride, int64_t n, bool folded, bool go_on)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store_channels(dw + i * WINO_TAPS, s + i, s_stride, folded, go_on);
    if (i == n) return;
    float part[LANES * WINO_TAPS];
    store_channels(part, s + i, s_stride, folded, false);
    dw += i * WINO_TAPS;
    for (int64_t j = 0; j < (n - i) * WINO_TAPS; j++) dw[j] = go_on ? dw[j] + part[j] : part[j];
}

static void fold(float *dw, const float *s, int64_t s_stride, int64_t n, bool go_on)
{
    if (go_on)
        store_all(dw, s, s_stride, n, true, true);
    else
        store_all(dw, s, s_stride, n, true, false);
}

static void nine_taps(float *dw, const float *s, int64_t s_stride, int64_t n)
{
    store_all(dw, s, s_stride, n, false, false);
}

const struct grad_w_kernels ISA(grad_w_kernels) = {
    .outer = outer,
    .outer_pairs = outer_pairs,
    .tiles = tiles,
    .tiles_pairs = tiles_pairs,
    .panel = panel,
    .panel_pairs = panel_pairs,
    .spread = spread,
    .fold = fold,
    .nine_taps = nine_taps,
};
