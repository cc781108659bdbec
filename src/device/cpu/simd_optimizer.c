/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_optimizer: AdamW over runs of elements, torch's and bitsandbytes' order of operations, each
 * rounded by itself; the 8-bit moments; sums over gradients. */
#include "device/cpu/optimizer.h"

#include <float.h>
#include <stdbool.h>

#include "device/cpu/simd.h"
#include "device/cpu/simd_math.h"
#include "device/cpu/simd_view.h"

typedef uint8_t vb __attribute__((vector_size(LANES)));
typedef uint8_t vb_any __attribute__((vector_size(LANES), aligned(1), may_alias));

SIMD vf vf_sqrt(vf x)
{
#if defined(LK_ISA_avx512)
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(LK_ISA_avx2)
    return (vf)_mm256_sqrt_ps((__m256)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

/* table[index], any table */
SIMD vf vf_gather(const float *table, vi index)
{
#if defined(LK_ISA_avx512)
    return (vf)_mm512_i32gather_ps((__m512i)index, table, 4);
#elif defined(LK_ISA_avx2)
    return (vf)_mm256_i32gather_ps(table, (__m256i)index, 4);
#else
    vf v;
    for (int i = 0; i < LANES; i++) v[i] = table[index[i]];
    return v;
#endif
}

/* table[index], a table of 8 */
SIMD vf vf_pick(const float *table, vi index)
{
#if defined(LK_ISA_avx512)
    __m512 all = _mm512_broadcast_f32x8(_mm256_loadu_ps(table));
    return (vf)_mm512_permutexvar_ps((__m512i)index, all);
#elif defined(LK_ISA_avx2)
    return (vf)_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index);
#else
    return vf_gather(table, index);
#endif
}

/* Bit i: whether lane i of a comparison holds. */
SIMD uint32_t mask_bits(vi mask)
{
#if defined(LK_ISA_avx512)
    return _mm512_movepi32_mask((__m512i)mask);
#elif defined(LK_ISA_avx2)
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#else
    uint32_t bits = 0;
    for (int i = 0; i < LANES; i++) bits |= (uint32_t)(mask[i] & 1) << i;
    return bits;
#endif
}

SIMD vi bytes_load(const uint8_t *p) { return __builtin_convertvector((vb)*(const vb_any *)p, vi); }
SIMD void bytes_store(uint8_t *p, vi v) { *(vb_any *)p = (vb_any)__builtin_convertvector(v, vb); }

/* float32 -------------------------------------------------------------------------------------- */

/* torch.optim.AdamW: p.mul_, m.lerp_, v.mul_().addcmul_, sqrt / root + eps, p.addcdiv_ */
SIMD void f32_at(const struct adamw_values *a, float *p, const float *g, float *m, float *v,
                 int64_t n)
{
    vf grad = load_f32(g, n) * vf_set(a->grad_scale);
    vf first = load_f32(m, n), second = load_f32(v, n);
    first = first + vf_set(a->take1) * (grad - first);
    second = second * vf_set(a->keep2) + vf_set(a->take2) * grad * grad;
    vf below = vf_sqrt(second) / vf_set(a->root) + vf_set(a->epsilon);
    vf value = load_f32(p, n) * vf_set(a->decay);
    store_f32(p, n, value + vf_set(a->step) * first / below);
    store_f32(m, n, first);
    store_f32(v, n, second);
}

static void f32(const struct adamw_values *a, float *p, const float *g, float *m, float *v,
                int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) f32_at(a, p + i, g + i, m + i, v + i, LANES);
    if (i < n) f32_at(a, p + i, g + i, m + i, v + i, n - i);
}

SIMD vf bnb_weight(const struct adamw_values *a, vf value, vf first, vf second)
{
    vf ratio = first / (vf_sqrt(second) + vf_set(a->epsilon));
    return (value + vf_set(a->step) * ratio) * vf_set(a->decay);
}

SIMD vf bnb_first(const struct adamw_values *a, vf m, vf grad)
{
    return m * vf_set(a->keep1) + vf_set(a->take1) * grad;
}

SIMD vf bnb_second(const struct adamw_values *a, vf v, vf grad)
{
    return v * vf_set(a->keep2) + vf_set(a->take2) * grad * grad;
}

/* small tensors only */
static void f32_bnb(const struct adamw_values *a, float *p, const float *g, float *m, float *v,
                    int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t lanes = lanes_at(i, n);
        vf grad = load_f32(g + i, lanes) * vf_set(a->grad_scale);
        vf first = bnb_first(a, load_f32(m + i, lanes), grad);
        vf second = bnb_second(a, load_f32(v + i, lanes), grad);
        store_f32(p + i, lanes, bnb_weight(a, load_f32(p + i, lanes), first, second));
        store_f32(m + i, lanes, first);
        store_f32(v + i, lanes, second);
    }
}

/* float16 -------------------------------------------------------------------------------------- */

SIMD vf round_half(vf v)
{
    uint16_t half[LANES];
    vf_store_f16(half, v);
    return vf_load_f16(half);
}

SIMD vf load_half(const uint16_t *p, int64_t n)
{
    uint16_t part[LANES] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return vf_load_f16(part);
}

SIMD void store_half(uint16_t *p, int64_t n, vf v)
{
    uint16_t part[LANES];
    vf_store_f16(part, v);
    memcpy(p, part, (size_t)n * sizeof *p);
}

/* As f32: torch computes each operation in float32 and rounds what it stores. */
static void f16(const struct adamw_values *a, uint16_t *p, const float *g, uint16_t *m, uint16_t *v,
                int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t lanes = lanes_at(i, n);
        vf grad = round_half(load_f32(g + i, lanes) * vf_set(a->grad_scale));
        vf first = load_half(m + i, lanes), second = load_half(v + i, lanes);
        first = round_half(first + vf_set(a->take1) * (grad - first));
        second = round_half(second * vf_set(a->keep2));
        second = round_half(second + vf_set(a->take2) * grad * grad);
        vf below = round_half(round_half(vf_sqrt(second)) / vf_set(a->root));
        below = round_half(below + vf_set(a->epsilon));
        vf value = round_half(load_half(p + i, lanes) * vf_set(a->decay));
        store_half(p + i, lanes, value + vf_set(a->step) * first / below);
        store_half(m + i, lanes, first);
        store_half(v + i, lanes, second);
    }
}

/* 8 bits --------------------------------------------------------------------------------------- */

/* The index of the nearest value: how many thresholds x has reached. NaN: 0, as the search that
 * only ever goes down. */
static int nearest(const struct moment_map *map, float x)
{
    int index = 0;
    for (int half = MAP_SIZE / 2; half > 0; half /= 2)
        if (x >= map->threshold[index + half - 1]) index += half;
    return index;
}

/* The same for magnitudes x, counted from `zero` on, but in *unsure lanes: the numbers of a decade
 * are n evenly spaced cells, so that the index is n + floor(position in the decade * n). A cell's
 * bound computed thus is off by at most 1e-4 of a cell (thresholds are rounded): lanes that near to
 * one are unsure. The bounds between decades are compared as they are; the last cell of a decade
 * reaches a little beyond it. one: 1 for the map whose first decade has two values. */
SIMD vi nearest_lanes(const struct moment_map *map, vf x, int one, vi *unsure)
{
    vi decade = {0};
#pragma GCC unroll 8
    for (int e = 0; e < MAP_DECADES; e++) decade -= (vi)(x >= vf_set(map->decade[e]));
    vf n = (vf)((decade + (126 + one)) << 23);
    vf at = n * (x * vf_pick(map->scale, decade) + vf_set(8.0f / 9));
    at = vf_min(n + n - vf_set(0.5f), at);
    if (one) at = vf_max(vf_set(1.1f), at); /* below the decades */
    vi index = __builtin_convertvector(at, vi);
    vf rest = at - __builtin_convertvector(index, vf);
    const float near = 1.0f / 4096;
    *unsure = ~((vi)(rest > vf_set(near)) & (vi)(rest < vf_set(1 - near)));
    return index - one - (vi)(x >= vf_set(map->threshold[MAP_SIZE - 2]));
}

/* A sign that the value's byte has lost is put right: nothing negative becomes zero. */
static uint8_t nearest_m(const struct moment_map *map, float x)
{
    int index = nearest(map, x);
    bool negative = __builtin_signbit(x);
    if (index == 127 && negative) index = 126;
    if (index < 127 && !negative) index = x > 0 ? index + 1 : (index + 255) % 256; /* x is NaN */
    return (uint8_t)index;
}

/* 0 / 0 for every element: byte 0, which the sign then moves to 255. */
static void quantise_zeros(const float *x, uint8_t *out)
{
    for (int i = 0; i < MOMENTS_BLOCK; i++) out[i] = __builtin_signbit(x[i]) ? 0 : 255;
}

static void quantise_m(const struct moment_map *map, const float *x, float absmax, uint8_t *out)
{
    if (absmax == 0) {
        quantise_zeros(x, out);
        return;
    }
    for (int i = 0; i < MOMENTS_BLOCK; i += LANES) {
        vf value = vf_load(x + i) / vf_set(absmax);
        vi unsure, negative = (vi)value >> 31;
        vi away = nearest_lanes(map, vf_abs(value), 0, &unsure); /* 0..128 from the middle */
        vi below = away - (vi)(away < 1) + (vi)(away > 127); /* 1..127: no -0, no -1.0 */
        bytes_store(out + i, 127 + (away & ~negative) - (below & negative));
        for (uint32_t bits = mask_bits(unsure); bits; bits &= bits - 1) {
            int j = i + __builtin_ctz(bits);
            out[j] = nearest_m(map, x[j] / absmax);
        }
    }
}

static void quantise_v(const struct moment_map *map, const float *x, float absmax, uint8_t *out)
{
    if (absmax == 0) {
        memset(out, 0, MOMENTS_BLOCK);
        return;
    }
    for (int i = 0; i < MOMENTS_BLOCK; i += LANES) {
        vi unsure, index = nearest_lanes(map, vf_load(x + i) / vf_set(absmax), 1, &unsure);
        bytes_store(out + i, index);
        for (uint32_t bits = mask_bits(unsure); bits; bits &= bits - 1) {
            int j = i + __builtin_ctz(bits);
            out[j] = (uint8_t)nearest(map, x[j] / absmax);
        }
    }
}

static void bytes(const struct adamw_values *a, const struct moment_maps *maps, float *p,
                  const float *g, uint8_t *m, uint8_t *v, float *absmax_m, float *absmax_v,
                  int64_t blocks)
{
    float first[MOMENTS_BLOCK], second[MOMENTS_BLOCK];
    for (int64_t b = 0; b < blocks; b++) {
        vf scale_m = vf_set(absmax_m[b]), scale_v = vf_set(absmax_v[b]);
        vf most_m = vf_zero(), most_v = vf_zero();
        for (int i = 0; i < MOMENTS_BLOCK; i += LANES) {
            vf raw = vf_load(g + i), grad = raw * vf_set(a->grad_scale);
            vi finite = (vi)(vf_abs(raw) <= vf_set(FLT_MAX));
            vf old_m = vf_gather(maps->m.value, bytes_load(m + i)) * scale_m;
            vf old_v = vf_gather(maps->v.value, bytes_load(v + i)) * scale_v;
            vf new_m = (vf)((vi)bnb_first(a, old_m, grad) & finite);
            vf new_v = (vf)((vi)bnb_second(a, old_v, grad) & finite);
            vf value = vf_load(p + i);
            vf_store(p + i, vf_select(finite, bnb_weight(a, value, new_m, new_v), value));
            vf_store(first + i, new_m);
            vf_store(second + i, new_v);
            most_m = vf_max(vf_abs(new_m), most_m); /* passes over NaN */
            most_v = vf_max(vf_abs(new_v), most_v);
        }
        absmax_m[b] = vf_hmax(most_m);
        absmax_v[b] = vf_hmax(most_v);
        quantise_m(&maps->m, first, absmax_m[b], m);
        quantise_v(&maps->v, second, absmax_v[b], v);
        p += MOMENTS_BLOCK, g += MOMENTS_BLOCK, m += MOMENTS_BLOCK, v += MOMENTS_BLOCK;
    }
}

/* gradients ------------------------------------------------------------------------------------ */

static void accumulate(float *a, const float *b, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) vf_store(a + i, vf_load(a + i) + vf_load(b + i));
    for (; i < n; i++) a[i] += b[i];
}

/* Sixteen sums whatever the width of a vector: the same bytes. */
static double sum_squares(const float *g, int64_t n)
{
    enum { SUMS = 16 };
    double sums[SUMS] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (int j = 0; j < SUMS; j++) sums[j] += (double)g[i + j] * (double)g[i + j];
    for (; i < n; i++) sums[i % SUMS] += (double)g[i] * (double)g[i];
    for (int j = 0; j < SUMS; j++) sum += sums[j];
    return sum;
}

extern const struct optimizer_kernels ISA(optimizer_kernels);
const struct optimizer_kernels ISA(optimizer_kernels) = {
    .f32 = f32,
    .f32_bnb = f32_bnb,
    .f16 = f16,
    .bytes = bytes,
    .quantise_m = quantise_m,
    .quantise_v = quantise_v,
    .accumulate = accumulate,
    .sum_squares = sum_squares,
};
