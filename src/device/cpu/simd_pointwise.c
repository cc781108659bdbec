/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_pointwise: runs of elements: activations and their gradients, sums, copies between types. */
#include "device/cpu/pointwise.h"

#include "device/cpu/simd.h"
#include "device/cpu/simd_math.h"
#include "device/cpu/simd_view.h"

#define ONE vf_set(1.0f)
#define INVERSE_SQRT_2_PI vf_set(0.39894228040143267794f)

SIMD vf unary_of(unary_kind kind, vf x)
{
    vf density;
    switch (kind) {
    case UNARY_SILU: return x * vf_sigmoid(x);
    case UNARY_GELU: return x * vf_normal(x, &density);
    case UNARY_RELU: return vf_max(vf_zero(), x); /* NaN stays NaN */
    default: return x * vf_sigmoid(x * vf_set(1.702f));
    }
}

SIMD vf gelu_slope(vf x, vf *gelu)
{
    vf density, p = vf_normal(x, &density);
    *gelu = x * p;
    return vf_fma(x * INVERSE_SQRT_2_PI, density, p);
}

SIMD vf slope_of(unary_kind kind, vf x)
{
    if (kind == UNARY_GELU) {
        vf gelu;
        return gelu_slope(x, &gelu);
    }
    if (kind == UNARY_RELU) return vf_select(x > vf_zero(), ONE, vf_zero());
    vf steep = vf_set(kind == UNARY_SILU ? 1.0f : 1.702f);
    vf s = vf_sigmoid(x * steep);
    return s * (ONE + steep * x * (ONE - s));
}

SIMD void unary_of_type(unary_kind kind, view x, view y, int64_t i, int64_t end)
{
    for (; i + LANES <= end; i += LANES)
        view_store(y, i, LANES, unary_of(kind, view_load(x, i, LANES)));
    if (i < end) view_store(y, i, end - i, unary_of(kind, view_load(x, i, end - i)));
}

SIMD void unary_run(unary_kind kind, view x, view y, int64_t i, int64_t end)
{
    if (x.type == DTYPE_F32 && y.type == DTYPE_F32)
        unary_of_type(kind, as_f32(x), as_f32(y), i, end);
    else
        unary_of_type(kind, x, y, i, end);
}

static void unary(unary_kind kind, view x, view y, int64_t i, int64_t n)
{
    switch (kind) {
    case UNARY_SILU: unary_run(UNARY_SILU, x, y, i, i + n); break;
    case UNARY_GELU: unary_run(UNARY_GELU, x, y, i, i + n); break;
    case UNARY_QUICK_GELU: unary_run(UNARY_QUICK_GELU, x, y, i, i + n); break;
    case UNARY_RELU: unary_run(UNARY_RELU, x, y, i, i + n); break;
    }
}

SIMD void unary_grad_run(unary_kind kind, view dy, view x, view dx, int64_t i, int64_t end)
{
    for (; i < end; i += LANES) {
        int64_t n = lanes_at(i, end);
        view_store(dx, i, n, view_load(dy, i, n) * slope_of(kind, view_load(x, i, n)));
    }
}

static void unary_grad(unary_kind kind, view dy, view x, view dx, int64_t i, int64_t n)
{
    switch (kind) {
    case UNARY_SILU: unary_grad_run(UNARY_SILU, dy, x, dx, i, i + n); break;
    case UNARY_GELU: unary_grad_run(UNARY_GELU, dy, x, dx, i, i + n); break;
    case UNARY_QUICK_GELU: unary_grad_run(UNARY_QUICK_GELU, dy, x, dx, i, i + n); break;
    case UNARY_RELU: unary_grad_run(UNARY_RELU, dy, x, dx, i, i + n); break;
    }
}

static void scale(view x, view y, float alpha, int64_t i, int64_t n)
{
    int64_t end = i + n;
    for (; i + LANES <= end; i += LANES)
        vf_store_as(y.data, y.type, i, vf_load_as(x.data, x.type, i) * vf_set(alpha));
    if (i < end) view_store(y, i, end - i, view_load(x, i, end - i) * vf_set(alpha));
}

static void add(view a, int64_t ai, view b, int64_t bi, view y, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store_as(y.data, y.type, ai + i,
                    vf_load_as(a.data, a.type, ai + i) + vf_load_as(b.data, b.type, bi + i));
    if (i < n)
        view_store(y, ai + i, n - i, view_load(a, ai + i, n - i) + view_load(b, bi + i, n - i));
}

static void copy(view x, int64_t xi, view y, int64_t yi, int64_t n)
{
    if (x.type == y.type) {
        int64_t size = x.type == DTYPE_F32 ? 4 : 2;
        memcpy((char *)y.data + yi * size, (const char *)x.data + xi * size, (size_t)(n * size));
        return;
    }
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store_as(y.data, y.type, yi + i, vf_load_as(x.data, x.type, xi + i));
    if (i < n) view_store(y, yi + i, n - i, view_load(x, xi + i, n - i));
}

SIMD void geglu_at(view x, view y, int64_t i, int64_t channels, int64_t to, int64_t n)
{
    vf gate = unary_of(UNARY_GELU, view_load(x, i + channels, n));
    view_store(y, to, n, view_load(x, i, n) * gate);
}

SIMD void geglu_rows(view x, view y, int64_t begin, int64_t end, int64_t channels)
{
    for (int64_t r = begin; r < end; r++) {
        int64_t c = 0, i = r * 2 * channels, to = r * channels;
        for (; c + LANES <= channels; c += LANES) geglu_at(x, y, i + c, channels, to + c, LANES);
        if (c < channels) geglu_at(x, y, i + c, channels, to + c, channels - c);
    }
}

static void geglu(view x, view y, int64_t begin, int64_t end, int64_t channels)
{
    if (x.type == DTYPE_F32 && y.type == DTYPE_F32)
        geglu_rows(as_f32(x), as_f32(y), begin, end, channels);
    else
        geglu_rows(x, y, begin, end, channels);
}

static void geglu_grad(view dy, view x, view dx, int64_t begin, int64_t end, int64_t channels)
{
    for (int64_t r = begin; r < end; r++)
        for (int64_t c = 0; c < channels; c += LANES) {
            int64_t n = lanes_at(c, channels), i = r * 2 * channels + c;
            vf d = view_load(dy, r * channels + c, n), gate;
            vf slope = gelu_slope(view_load(x, i + channels, n), &gate);
            vf value = view_load(x, i, n);
            view_store(dx, i, n, d * gate);
            view_store(dx, i + channels, n, d * value * slope);
        }
}

static void add_to(view x, int64_t i, float *sum, int64_t n)
{
    for (int64_t j = 0; j < n; j += LANES) {
        int64_t lanes = lanes_at(j, n);
        store_f32(sum + j, lanes, load_f32(sum + j, lanes) + view_load(x, i + j, lanes));
    }
}

static float square_error(view a, view b, int64_t i, int64_t n)
{
    vf sum = vf_zero();
    for (int64_t end = i + n; i < end; i += LANES) {
        int64_t lanes = lanes_at(i, end);
        vf d = view_load(a, i, lanes) - view_load(b, i, lanes); /* zero past the end */
        sum = vf_fma(d, d, sum);
    }
    return vf_sum(sum);
}

static void difference(view a, view b, view y, float factor, int64_t i, int64_t n)
{
    for (int64_t end = i + n; i < end; i += LANES) {
        int64_t lanes = lanes_at(i, end);
        vf d = view_load(a, i, lanes) - view_load(b, i, lanes);
        view_store(y, i, lanes, d * vf_set(factor));
    }
}

extern const struct pointwise_kernels ISA(pointwise_kernels);
const struct pointwise_kernels ISA(pointwise_kernels) = {
    .unary = unary,
    .unary_grad = unary_grad,
    .scale = scale,
    .add = add,
    .copy = copy,
    .geglu = geglu,
    .geglu_grad = geglu_grad,
    .add_to = add_to,
    .square_error = square_error,
    .difference = difference,
};
