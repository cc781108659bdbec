/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_norm: the passes of group norm and layer norm and of their gradients over rows of channels.
 * Long sums are float32 over a few rows, then double. */
#include "device/cpu/norm.h"

#include <math.h>

#include "device/cpu/simd.h"
#include "device/cpu/simd_math.h"
#include "device/cpu/simd_view.h"

/* Inner functions (_at) take n, the lanes of one vector, and views whose type is a constant where
 * it is F32: inlined, they lose every branch. */

/* sum[c] += x - pivot[c], square[c] += (x - pivot[c])^2 of `rows` rows from element i on */
SIMD void add_rows_at(view x, int64_t i, int64_t channels, int rows, int64_t n, const float *pivot,
                      float *sum, float *square)
{
    vf p = load_f32(pivot, n), s = load_f32(sum, n), q = load_f32(square, n);
    for (int r = 0; r < rows; r++) {
        vf d = view_load(x, i + r * channels, n) - p;
        s += d;
        q = vf_fma(d, d, q);
    }
    store_f32(sum, n, s);
    store_f32(square, n, q);
}

SIMD void add_rows(view x, int64_t row, int64_t channels, int rows, const float *pivot, float *sum,
                   float *square)
{
    int64_t c = 0, i = row * channels;
    for (; c + LANES <= channels; c += LANES)
        add_rows_at(x, i + c, channels, rows, LANES, pivot + c, sum + c, square + c);
    if (c < channels)
        add_rows_at(x, i + c, channels, rows, channels - c, pivot + c, sum + c, square + c);
}

/* Blocks small enough to be read again from a near cache: the first reading finds a pivot near the
 * block's mean, the second sums deviations from it, so that a large mean costs no accuracy. */
SIMD void moments_of(view x, int64_t begin, int64_t end, int64_t channels, double *mean, double *m2,
                     float *work)
{
    int64_t block = 8192 / channels;
    block = block < 8 ? 8 : block > 64 ? 64 : block;
    float *pivot = work, *sum = work + channels, *square = work + 2 * channels;
    double before = 0;
    for (int64_t c = 0; c < channels; c++) mean[c] = m2[c] = 0;
    for (int64_t row = begin; row < end; row += block) {
        int64_t stop = row + block < end ? row + block : end, r = row;
        double count = (double)(stop - row), total = before + count;
        for (int64_t c = 0; c < channels; c++) pivot[c] = 0;
        for (; r < stop; r++) {
            int64_t c = 0, i = r * channels;
            for (; c + LANES <= channels; c += LANES)
                vf_store(pivot + c, vf_load(pivot + c) + view_load(x, i + c, LANES));
            for (; c < channels; c++) pivot[c] += view_load(x, i + c, 1)[0];
        }
        float part = 1.0f / (float)count;
        for (int64_t c = 0; c < channels; c++) pivot[c] *= part, sum[c] = square[c] = 0;
        for (r = row; r + 4 <= stop; r += 4) add_rows(x, r, channels, 4, pivot, sum, square);
        for (; r < stop; r++) add_rows(x, r, channels, 1, pivot, sum, square);
        double share = count / total, both = before * share, inverse = 1 / count;
        for (int64_t c = 0; c < channels; c++) { /* merge (mean, m2) of the block into the whole */
            double s = (double)sum[c] * inverse, delta = (double)pivot[c] + s - mean[c];
            mean[c] += delta * share;
            m2[c] += (double)square[c] - s * (double)sum[c] + delta * delta * both;
        }
        before = total;
    }
}

static void moments(view x, int64_t begin, int64_t end, int64_t channels, double *mean, double *m2,
                    float *work)
{
    if (x.type == DTYPE_F32)
        moments_of(as_f32(x), begin, end, channels, mean, m2, work);
    else
        moments_of(x, begin, end, channels, mean, m2, work);
}

SIMD void apply_at(view x, view y, int64_t i, int64_t n, const float *mean, const float *scale,
                   const float *beta, bool silu)
{
    vf d = view_load(x, i, n) - load_f32(mean, n);
    vf out = vf_fma(d, load_f32(scale, n), load_f32(beta, n));
    view_store(y, i, n, silu ? out * vf_sigmoid(out) : out);
}

SIMD void apply_rows(view x, view y, int64_t begin, int64_t end, int64_t channels,
                     const channel_values *v, bool silu)
{
    const float *mean = v->mean, *scale = v->scale, *beta = v->beta;
    for (int64_t r = begin; r < end; r++) {
        int64_t c = 0, i = r * channels;
        for (; c + LANES <= channels; c += LANES)
            apply_at(x, y, i + c, LANES, mean + c, scale + c, beta + c, silu);
        if (c < channels) apply_at(x, y, i + c, channels - c, mean + c, scale + c, beta + c, silu);
    }
}

static void apply(view x, view y, int64_t begin, int64_t end, int64_t channels,
                  const channel_values *v, bool silu)
{
    bool f32 = x.type == DTYPE_F32 && y.type == DTYPE_F32;
    if (f32 && silu)
        apply_rows(as_f32(x), as_f32(y), begin, end, channels, v, true);
    else if (f32)
        apply_rows(as_f32(x), as_f32(y), begin, end, channels, v, false);
    else
        apply_rows(x, y, begin, end, channels, v, silu);
}

/* dy through the gradient of SiLU at the norm's output for normalised x */
SIMD vf grad_in(view dy, int64_t i, int64_t n, vf normal, const channel_values *v, int64_t c,
                bool silu)
{
    vf g = view_load(dy, i, n);
    if (!silu) return g;
    vf out = vf_fma(normal, load_f32(v->gamma + c, n), load_f32(v->beta + c, n));
    vf s = vf_sigmoid(out);
    return g * s * (vf_set(1.0f) + out * (vf_set(1.0f) - s));
}

static void add_to_double(double *sum, float *part, int64_t n)
{
    for (int64_t c = 0; c < n; c++) {
        sum[c] += (double)part[c];
        part[c] = 0;
    }
}

SIMD void grad_sums_at(view dy, view x, int64_t i, int64_t c, int64_t n, const channel_values *v,
                       bool silu, float *part, float *part_x)
{
    vf normal = (view_load(x, i, n) - load_f32(v->mean + c, n)) * load_f32(v->inverse + c, n);
    vf g = grad_in(dy, i, n, normal, v, c, silu);
    store_f32(part + c, n, load_f32(part + c, n) + g);
    store_f32(part_x + c, n, vf_fma(g, normal, load_f32(part_x + c, n)));
}

SIMD void grad_sums_of(view dy, view x, int64_t begin, int64_t end, int64_t channels,
                       const channel_values *values, bool silu, double *sum, double *sum_x,
                       float *work)
{
    const channel_values v = *values;
    float *part = work, *part_x = work + channels;
    for (int64_t c = 0; c < channels; c++) sum[c] = sum_x[c] = part[c] = part_x[c] = 0;
    for (int64_t r = begin; r < end; r++) {
        int64_t c = 0, i = r * channels;
        for (; c + LANES <= channels; c += LANES)
            grad_sums_at(dy, x, i + c, c, LANES, &v, silu, part, part_x);
        if (c < channels) grad_sums_at(dy, x, i + c, c, channels - c, &v, silu, part, part_x);
        if ((r - begin) % 32 == 31 || r + 1 == end) {
            add_to_double(sum, part, channels);
            add_to_double(sum_x, part_x, channels);
        }
    }
}

static void grad_sums(view dy, view x, int64_t begin, int64_t end, int64_t channels,
                      const channel_values *v, bool silu, double *sum, double *sum_x, float *work)
{
    if (dy.type == DTYPE_F32 && x.type == DTYPE_F32)
        grad_sums_of(as_f32(dy), as_f32(x), begin, end, channels, v, silu, sum, sum_x, work);
    else
        grad_sums_of(dy, x, begin, end, channels, v, silu, sum, sum_x, work);
}

SIMD void grad_apply_at(view dy, view x, view dx, int64_t i, int64_t c, int64_t n,
                        const channel_values *v, bool silu)
{
    vf inverse = load_f32(v->inverse + c, n);
    vf normal = (view_load(x, i, n) - load_f32(v->mean + c, n)) * inverse;
    vf g = grad_in(dy, i, n, normal, v, c, silu) * load_f32(v->gamma + c, n);
    vf d = g - load_f32(v->m1 + c, n) - normal * load_f32(v->m2 + c, n);
    view_store(dx, i, n, d * inverse);
}

SIMD void grad_apply_of(view dy, view x, view dx, int64_t begin, int64_t end, int64_t channels,
                        const channel_values *values, bool silu)
{
    const channel_values v = *values;
    for (int64_t r = begin; r < end; r++) {
        int64_t c = 0, i = r * channels;
        for (; c + LANES <= channels; c += LANES)
            grad_apply_at(dy, x, dx, i + c, c, LANES, &v, silu);
        if (c < channels) grad_apply_at(dy, x, dx, i + c, c, channels - c, &v, silu);
    }
}

static void grad_apply(view dy, view x, view dx, int64_t begin, int64_t end, int64_t channels,
                       const channel_values *v, bool silu)
{
    if (dy.type == DTYPE_F32 && x.type == DTYPE_F32 && dx.type == DTYPE_F32)
        grad_apply_of(as_f32(dy), as_f32(x), as_f32(dx), begin, end, channels, v, silu);
    else
        grad_apply_of(dy, x, dx, begin, end, channels, v, silu);
}

static void layer(view x, view y, int64_t begin, int64_t end, int64_t channels, const float *gamma,
                  const float *beta, float eps, float *stats)
{
    for (int64_t r = begin; r < end; r++) {
        vf sum = vf_zero(), square = vf_zero();
        for (int64_t c = 0; c < channels; c += LANES)
            sum += view_load(x, r * channels + c, lanes_at(c, channels));
        float mean = vf_sum(sum) / (float)channels;
        for (int64_t c = 0; c < channels; c += LANES) {
            int64_t n = lanes_at(c, channels);
            vf d = view_load(x, r * channels + c, n) - vf_set(mean);
            if (n < LANES) {
                float zero[LANES] = {0}; /* the lanes past the end are no deviations */
                vf_store_n(zero, d, n);
                d = vf_load(zero);
            }
            square = vf_fma(d, d, square);
        }
        float inverse = 1.0f / sqrtf(vf_sum(square) / (float)channels + eps);
        for (int64_t c = 0; c < channels; c += LANES) {
            int64_t n = lanes_at(c, channels), i = r * channels + c;
            vf d = (view_load(x, i, n) - vf_set(mean)) * vf_set(inverse);
            view_store(y, i, n, vf_fma(d, load_f32(gamma + c, n), load_f32(beta + c, n)));
        }
        if (stats) {
            stats[2 * r] = mean;
            stats[2 * r + 1] = inverse;
        }
    }
}

static void layer_grad(view dy, view x, view dx, int64_t begin, int64_t end, int64_t channels,
                       const float *gamma, const float *stats, double *dgamma, double *dbeta,
                       float *work)
{
    float *part = work, *part_x = work + channels;
    for (int64_t c = 0; c < 2 * channels; c++) work[c] = 0;
    for (int64_t r = begin; r < end; r++) {
        vf mean = vf_set(stats[2 * r]), inverse = vf_set(stats[2 * r + 1]);
        vf s1 = vf_zero(), s2 = vf_zero();
        for (int64_t c = 0; c < channels; c += LANES) {
            int64_t n = lanes_at(c, channels), i = r * channels + c;
            vf normal = (view_load(x, i, n) - mean) * inverse, d = view_load(dy, i, n);
            vf g = d * load_f32(gamma + c, n); /* zero past the end */
            s1 += g;
            s2 = vf_fma(g, normal, s2);
            store_f32(part + c, n, load_f32(part + c, n) + d);
            store_f32(part_x + c, n, vf_fma(d, normal, load_f32(part_x + c, n)));
        }
        vf m1 = vf_set(vf_sum(s1) / (float)channels), m2 = vf_set(vf_sum(s2) / (float)channels);
        for (int64_t c = 0; dx.data && c < channels; c += LANES) {
            int64_t n = lanes_at(c, channels), i = r * channels + c;
            vf normal = (view_load(x, i, n) - mean) * inverse;
            vf g = view_load(dy, i, n) * load_f32(gamma + c, n);
            view_store(dx, i, n, (g - m1 - normal * m2) * inverse);
        }
        if ((r - begin) % 32 == 31 || r + 1 == end) {
            add_to_double(dbeta, part, channels);
            add_to_double(dgamma, part_x, channels);
        }
    }
}

extern const struct norm_kernels ISA(norm_kernels);
const struct norm_kernels ISA(norm_kernels) = {
    .moments = moments,
    .apply = apply,
    .grad_sums = grad_sums,
    .grad_apply = grad_apply,
    .layer = layer,
    .layer_grad = layer_grad,
};
