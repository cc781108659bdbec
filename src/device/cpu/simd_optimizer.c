/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_optimizer: AdamW over runs of elements in torch's and bitsandbytes' order of operations (the
 * file is compiled without contraction); the 8-bit moments; sums over gradients. */
#include "device/cpu/optimizer.h"

#include <float.h>
#include <stdbool.h>

#include "device/cpu/simd.h"
#include "device/cpu/simd_math.h"
#include "device/cpu/simd_view.h"

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

/* Lanes from tables in the nearest cache, one by one: faster than AVX2's gather. */
#define FOUR(get, i) get(i), get(i + 1), get(i + 2), get(i + 3)
#if defined(LK_ISA_avx512)
#define LANES_OF(get)                                                                              \
    {                                                                                              \
        FOUR(get, 0), FOUR(get, 4), FOUR(get, 8), FOUR(get, 12)                                    \
    }
#elif defined(LK_ISA_avx2)
#define LANES_OF(get)                                                                              \
    {                                                                                              \
        FOUR(get, 0), FOUR(get, 4)                                                                 \
    }
#else
#define LANES_OF(get)                                                                              \
    {                                                                                              \
        FOUR(get, 0)                                                                               \
    }
#endif

SIMD vf bytes_lookup(const float *table, const uint8_t *index)
{
#define GET(i) table[index[i]]
    return (vf)LANES_OF(GET);
#undef GET
}

/* Indices in memory: taken out of a vector one by one they cost more than stored and read again. */
SIMD vi vi_lookup(const int32_t *table, const int32_t *index)
{
    typedef float any __attribute__((may_alias)); /* floats are put together faster */
    const any *t = (const any *)table;
#define GET(i) t[(uint32_t)index[i]]
    return (vi)(vf)LANES_OF(GET);
#undef GET
}

SIMD vi vi_load(const int32_t *p) { return (vi)vf_load((const float *)(const void *)p); }
SIMD void vi_store(int32_t *p, vi v) { vf_store((float *)(void *)p, (vf)v); }

/* lanes in 0..255 */
SIMD void bytes_store(uint8_t *p, vi v)
{
#if defined(LK_ISA_avx512)
    _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8((__m512i)v));
#elif defined(LK_ISA_avx2)
    __m256i wide = (__m256i)v;
    __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((void *)p, _mm_packus_epi16(half, half));
#else
    for (int i = 0; i < LANES; i++) p[i] = (uint8_t)v[i];
#endif
}

/* a * b + c rounded once, as torch's lerp has it: in float16 it tells at ties */
SIMD vf vf_fused(vf a, vf b, vf c)
{
#if defined(LK_ISA_avx512)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(LK_ISA_avx2)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    for (int i = 0; i < LANES; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

/* float32 -------------------------------------------------------------------------------------- */

/* torch.optim.AdamW: p.mul_, m.lerp_, v.mul_().addcmul_, sqrt / root + eps, p.addcdiv_ */
SIMD void f32_at(const struct adamw_values *a, float *p, const float *g, float *m, float *v,
                 int64_t n)
{
    vf grad = load_f32(g, n) * vf_set(a->grad_scale);
    vf first = load_f32(m, n), second = load_f32(v, n);
    first = vf_fused(vf_set(a->take1), grad - first, first);
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
#if defined(LK_ISA_avx512)
    return (vf)_mm512_cvtph_ps(_mm512_cvtps_ph((__m512)v, 0));
#elif defined(LK_ISA_avx2)
    return (vf)_mm256_cvtph_ps(_mm256_cvtps_ph((__m256)v, 0));
#else
    for (int i = 0; i < LANES; i++) v[i] = half_to_float(half_from_float(v[i]));
    return v;
#endif
}

SIMD vf load_half(const uint16_t *p, int64_t n)
{
    if (n == LANES) return vf_load_f16(p);
    uint16_t part[LANES] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return vf_load_f16(part);
}

SIMD void store_half(uint16_t *p, int64_t n, vf v)
{
    if (n == LANES) {
        vf_store_f16(p, v);
        return;
    }
    uint16_t part[LANES];
    vf_store_f16(part, v);
    memcpy(p, part, (size_t)n * sizeof *p);
}

/* As f32_at: torch computes each operation in float32 and rounds what it stores. */
SIMD void f16_at(const struct adamw_values *a, uint16_t *p, const float *g, uint16_t *m,
                 uint16_t *v, int64_t n)
{
    vf grad = round_half(load_f32(g, n) * vf_set(a->grad_scale));
    vf first = load_half(m, n), second = load_half(v, n);
    first = round_half(vf_fused(vf_set(a->take1), grad - first, first));
    second = round_half(second * vf_set(a->keep2));
    second = round_half(second + vf_set(a->take2) * grad * grad);
    vf below = round_half(round_half(vf_sqrt(second)) / vf_set(a->root));
    below = round_half(below + vf_set(a->epsilon));
    vf value = round_half(load_half(p, n) * vf_set(a->decay));
    store_half(p, n, value + vf_set(a->step) * first / below);
    store_half(m, n, first);
    store_half(v, n, second);
}

static void f16(const struct adamw_values *a, uint16_t *p, const float *g, uint16_t *m, uint16_t *v,
                int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) f16_at(a, p + i, g + i, m + i, v + i, LANES);
    if (i < n) f16_at(a, p + i, g + i, m + i, v + i, n - i);
}

/* 8 bits --------------------------------------------------------------------------------------- */

/* Whether numbers can be divided by it */
SIMD bool divides(float absmax) { return absmax > 0 && absmax <= FLT_MAX; }

SIMD vi bits_of_size(vf x) { return (vi)vf_max(vf_abs(x), vf_set(0x1p-23f)); }

/* Where a block's numbers lie in their map: places, and the cells these are of. */
typedef struct block_places {
    int32_t place[MOMENTS_BLOCK], cell[MOMENTS_BLOCK];
} block_places;

SIMD void place_at(block_places *to, int i, vi place, int bits)
{
    vi_store(to->place + i, place);
    vi_store(to->cell + i, place >> bits);
}

SIMD void indices_of(const block_places *at, const int32_t *cell, int bits, uint8_t *out)
{
    for (int i = 0; i < MOMENTS_BLOCK; i += LANES)
        bytes_store(out + i, (vi_lookup(cell, at->cell + i) + vi_load(at->place + i)) >> bits);
}

static void quantise_m(const struct moment_maps *maps, const float *x, float absmax, uint8_t *out)
{
    if (!divides(absmax)) {
        for (int i = 0; i < MOMENTS_BLOCK; i++)
            out[i] = nearest_m(maps->m, maps->threshold_m, x[i], x[i] / absmax);
        return;
    }
    block_places at;
    for (int i = 0; i < MOMENTS_BLOCK; i += LANES) {
        vf value = vf_load(x + i) / vf_set(absmax);
        vi negative = (vi)value >> 31, upward = (bits_of_size(value) ^ negative) - negative;
        vi place = upward + (PLACE_ZERO_M - PLACE_LEAST) +
                   (negative & (PLACE_ONE - (PLACE_ZERO_M - PLACE_LEAST)));
        place_at(&at, i, place, CELL_M);
    }
    indices_of(&at, maps->cell_m, CELL_M, out);
}

static void quantise_v(const struct moment_maps *maps, const float *x, float absmax, uint8_t *out)
{
    if (!divides(absmax)) {
        for (int i = 0; i < MOMENTS_BLOCK; i++)
            out[i] = (uint8_t)nearest(maps->threshold_v, x[i] / absmax);
        return;
    }
    block_places at;
    for (int i = 0; i < MOMENTS_BLOCK; i += LANES)
        place_at(&at, i, bits_of_size(vf_load(x + i) / vf_set(absmax)) - PLACE_LEAST, CELL_V);
    indices_of(&at, maps->cell_v, CELL_V, out);
}

/* Asks for a cache line each of what comes two blocks on: four streams are more than a processor
 * follows well by itself. */
SIMD void fetch(const float *p, const float *g, const uint8_t *m, const uint8_t *v)
{
    enum { AHEAD = 2 * MOMENTS_BLOCK };
    __builtin_prefetch(p + AHEAD, 1);
    __builtin_prefetch(g + AHEAD);
    __builtin_prefetch(m + AHEAD, 1);
    __builtin_prefetch(v + AHEAD, 1);
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
            if (i % 16 == 0) fetch(p + i, g + i, m + i, v + i);
            vf raw = vf_load(g + i), grad = raw * vf_set(a->grad_scale);
            vi finite = (vi)(vf_abs(raw) <= vf_set(FLT_MAX));
            vf old_m = bytes_lookup(maps->m, m + i) * scale_m;
            vf old_v = bytes_lookup(maps->v, v + i) * scale_v;
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
        quantise_m(maps, first, absmax_m[b], m);
        quantise_v(maps, second, absmax_v[b], v);
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
