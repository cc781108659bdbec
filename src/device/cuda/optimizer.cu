/* SPDX-License-Identifier: Apache-2.0
 *
 * optimizer: AdamW over a list of tensors in one launch, in torch's and in bitsandbytes' order of operations,
 * each rounded by itself: the bytes are those of the processor's. 8-bit moments have a warp for each block of
 * 256 elements, eight of them a lane, and find their indices by cells (device/moments.h). What memory is to give
 * is asked for before anything is written, so that much of it is under way at once. */
#include <string.h>

#include "device/cuda/lists.h"

enum { MOMENTS = 256, LANE_MOMENTS = MOMENTS / WARP };

int64_t adamw_list_place(adamw_item *list, int64_t count) { return place_blocks(list, count); }

struct element {
    float p, m, v;
};

/* torch.optim.AdamW: p.mul_, m.lerp_, v.mul_().addcmul_, sqrt / root + eps, p.addcdiv_ */
DEVICE element torch_step(const adamw_constants &a, element e, float grad)
{
    e.m = FUSED(a.take1, ADDED(grad, -e.m), e.m);
    e.v = ADDED(MULTIPLIED(e.v, a.keep2), MULTIPLIED(MULTIPLIED(a.take2, grad), grad));
    float below = ADDED(DIVIDED(ROOT(e.v), a.root), a.epsilon);
    e.p = ADDED(MULTIPLIED(e.p, a.decay), DIVIDED(MULTIPLIED(a.step, e.m), below));
    return e;
}

DEVICE float to_half(float x) { return half_bits_value(half_bits_of(x)); }

/* The same on half tensors: torch computes each operation in float32 and rounds what it stores. */
DEVICE element torch_half_step(const adamw_constants &a, element e, float grad)
{
    grad = to_half(grad);
    e.m = to_half(FUSED(a.take1, ADDED(grad, -e.m), e.m));
    e.v = to_half(MULTIPLIED(e.v, a.keep2));
    e.v = to_half(ADDED(e.v, MULTIPLIED(MULTIPLIED(a.take2, grad), grad)));
    float below = to_half(DIVIDED(to_half(ROOT(e.v)), a.root));
    below = to_half(ADDED(below, a.epsilon));
    e.p = to_half(MULTIPLIED(e.p, a.decay));
    e.p = to_half(ADDED(e.p, DIVIDED(MULTIPLIED(a.step, e.m), below)));
    return e;
}

/* bitsandbytes: the step, then decay */
DEVICE element bnb_step(const adamw_constants &a, element e, float grad)
{
    e.m = ADDED(MULTIPLIED(e.m, a.keep1), MULTIPLIED(a.take1, grad));
    e.v = ADDED(MULTIPLIED(e.v, a.keep2), MULTIPLIED(MULTIPLIED(a.take2, grad), grad));
    float ratio = DIVIDED(e.m, ADDED(ROOT(e.v), a.epsilon));
    e.p = MULTIPLIED(ADDED(e.p, MULTIPLIED(a.step, ratio)), a.decay);
    return e;
}

template <int KIND> DEVICE element step_of(const adamw_constants &a, element e, float grad)
{
    if (KIND == KERNEL_MOMENTS_F16) return torch_half_step(a, e, grad);
    return KIND == KERNEL_MOMENTS_F32 ? torch_step(a, e, grad) : bnb_step(a, e, grad);
}

template <int KIND, int N>
DEVICE void step_at(const adamw_item &t, const adamw_constants &a, float scale, int64_t i)
{
    const dtype type = KIND == KERNEL_MOMENTS_F16 ? DTYPE_F16 : DTYPE_F32;
    gpu_view weight = {t.weight, type}, first = {t.m, type}, second = {t.v, type};
    gpu_view gradient = {(void *)t.gradient, DTYPE_F32};
    values<N> p = load<N>(weight, i), m = load<N>(first, i), v = load<N>(second, i);
    values<N> g = load<N>(gradient, i);
    UNROLL
    for (int k = 0; k < N; k++) {
        element e = step_of<KIND>(a, {p.v[k], m.v[k], v.v[k]}, MULTIPLIED(g.v[k], scale));
        p.v[k] = e.p, m.v[k] = e.m, v.v[k] = e.v;
    }
    store<N>(weight, i, p);
    store<N>(first, i, m);
    store<N>(second, i, v);
    if (t.copy.data) store<N>(t.copy, i, p);
}

DEVICE bool item_aligned(const adamw_item &t)
{
    return ((uintptr_t)t.weight | (uintptr_t)t.copy.data | (uintptr_t)t.gradient | (uintptr_t)t.m |
            (uintptr_t)t.v) % 16 == 0;
}

/* Elements [from, end) by the threads of a block */
template <int KIND>
DEVICE void step_span(const adamw_item &t, const adamw_constants &a, float scale, int64_t from, int64_t end)
{
    int64_t fours = item_aligned(t) ? from + (end - from) / 4 * 4 : from;
    for (int64_t i = from + THREAD * 4; i < fours; i += BLOCK * 4) step_at<KIND, 4>(t, a, scale, i);
    for (int64_t i = fours + THREAD; i < end; i += BLOCK) step_at<KIND, 1>(t, a, scale, i);
}

/* ---- 8 bits ---- */

/* How many thresholds x has reached: the index of the nearest value. NaN: 0, as in bitsandbytes. */
DEVICE int searched(const float *threshold, float x)
{
    int index = 0;
    for (int half = MAP_SIZE / 2; half > 0; half /= 2)
        if (x >= threshold[index + half - 1]) index += half;
    return index;
}

/* A sign that is lost is put right, so that nothing negative becomes zero. In a block of zeros (0 / 0) that
 * turns 0 into 255. */
DEVICE int searched_m(const moment_tables &t, float x, float scaled)
{
    int index = searched(t.threshold_m, scaled);
    if (signbit(t.m[index]) != signbit(x)) index += x > 0 ? 1 : -1;
    return index;
}

DEVICE int32_t float_bits(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* NaN is as small as can be */
DEVICE int32_t bits_of_size(float x) { return float_bits(fmaxf(fabsf(x), 0x1p-23f)); }

/* The same for numbers of [-1, 1]: a cell's first index, or the one after it */
DEVICE int index_m(const moment_tables &t, float x)
{
    bool negative = float_bits(x) < 0;
    int32_t size = bits_of_size(x);
    int32_t place = negative ? PLACE_ONE - size : size + (PLACE_ZERO_M - PLACE_LEAST);
    int index = t.cell_m[place >> CELL_M];
    index += x >= t.threshold_m[index];
    return negative && index == MAP_SIZE / 2 - 1 ? index - 1 : index; /* that is zero's */
}

DEVICE int index_v(const moment_tables &t, float x)
{
    int index = t.cell_v[(bits_of_size(x) - PLACE_LEAST) >> CELL_V];
    return index + (x >= t.threshold_v[index]);
}

DEVICE bool divides(float absmax) { return absmax > 0 && absmax <= 3.402823466e38f; }

/* A lane's part of a block: four elements, and four more MOMENTS / 2 further on */
typedef packed<uint8_t, 4> four_bytes;

/* x / absmax of the lane's moments */
template <bool SIGNED>
DEVICE void quantise(const moment_tables &t, const float (&x)[LANE_MOMENTS], float absmax, four_bytes (&out)[2])
{
    bool quick = divides(absmax);
    UNROLL
    for (int k = 0; k < LANE_MOMENTS; k++) {
        float scaled = DIVIDED(x[k], absmax);
        int index;
        if (quick)
            index = SIGNED ? index_m(t, scaled) : index_v(t, scaled);
        else
            index = SIGNED ? searched_m(t, x[k], scaled) : searched(t.threshold_v, scaled);
        out[k / 4].v[k % 4] = (uint8_t)index;
    }
}

/* Of all lanes; passes over NaN. */
DEVICE float warp_largest(float x)
{
    UNROLL
    for (int mask = WARP / 2; mask > 0; mask /= 2) x = fmaxf(x, SHUFFLE_XOR(x, mask));
    return x;
}

/* Four elements; unless they are whole those below n of them, the rest is as given. */
template <bool WHOLE, typename T> DEVICE packed<T, 4> load_some(const T *from, int64_t n, T nothing)
{
    if constexpr (WHOLE) {
        return *(const packed<T, 4> *)from;
    } else {
        packed<T, 4> p;
        UNROLL
        for (int k = 0; k < 4; k++) p.v[k] = k < n ? from[k] : nothing;
        return p;
    }
}

template <bool WHOLE, typename T> DEVICE void store_some(T *to, int64_t n, const packed<T, 4> &p)
{
    if constexpr (WHOLE) {
        *(packed<T, 4> *)to = p;
    } else {
        UNROLL
        for (int k = 0; k < 4; k++)
            if (k < n) to[k] = p.v[k];
    }
}

template <bool WHOLE> DEVICE void store_copy(gpu_view to, int64_t i, int64_t n, const packed<float, 4> &p)
{
    if (!to.data) return;
    if constexpr (WHOLE) {
        values<4> all = {{p.v[0], p.v[1], p.v[2], p.v[3]}};
        store<4>(to, i, all);
    } else {
        for (int k = 0; k < 4; k++)
            if (k < n) store_one(to, i + k, p.v[k]);
    }
}

/* One block of moments, from element `from` on, by a warp. WHOLE: it has all of them, aligned. */
template <bool WHOLE>
DEVICE void step_bytes(const adamw_item &t, const adamw_constants &a, float scale, const moment_tables &maps,
                       int64_t from)
{
    int64_t block = from / MOMENTS, at[2] = {from + THREAD % WARP * 4, from + MOMENTS / 2 + THREAD % WARP * 4};
    packed<float, 4> p[2], g[2];
    four_bytes m[2], v[2];
    UNROLL
    for (int half = 0; half < 2; half++) {
        int64_t i = at[half], n = t.count - i;
        p[half] = load_some<WHOLE>((const float *)t.weight + i, n, 0.0f);
        g[half] = load_some<WHOLE>(t.gradient + i, n, 0.0f);
        m[half] = load_some<WHOLE>((const uint8_t *)t.m + i, n, (uint8_t)(MAP_SIZE / 2 - 1));
        v[half] = load_some<WHOLE>((const uint8_t *)t.v + i, n, (uint8_t)0);
    }
    float absmax_m = t.absmax_m[block], absmax_v = t.absmax_v[block], most_m = 0, most_v = 0;
    float first[LANE_MOMENTS], second[LANE_MOMENTS];
    UNROLL
    for (int k = 0; k < LANE_MOMENTS; k++) {
        float &value = p[k / 4].v[k % 4], grad = g[k / 4].v[k % 4];
        element e = {value, MULTIPLIED(maps.m[m[k / 4].v[k % 4]], absmax_m),
                     MULTIPLIED(maps.v[v[k / 4].v[k % 4]], absmax_v)};
        e = bnb_step(a, e, MULTIPLIED(grad, scale));
        bool finite = fabsf(grad) <= 3.402823466e38f;
        value = finite ? e.p : value;
        first[k] = finite ? e.m : 0;
        second[k] = finite ? e.v : 0;
        most_m = fmaxf(most_m, fabsf(first[k]));
        most_v = fmaxf(most_v, fabsf(second[k]));
    }
    most_m = warp_largest(most_m);
    most_v = warp_largest(most_v);
    quantise<true>(maps, first, most_m, m);
    quantise<false>(maps, second, most_v, v);
    UNROLL
    for (int half = 0; half < 2; half++) {
        int64_t i = at[half], n = t.count - i;
        store_some<WHOLE>((float *)t.weight + i, n, p[half]);
        store_copy<WHOLE>(t.copy, i, n, p[half]);
        store_some<WHOLE>((uint8_t *)t.m + i, n, m[half]);
        store_some<WHOLE>((uint8_t *)t.v + i, n, v[half]);
    }
    if (THREAD % WARP) return;
    t.absmax_m[block] = most_m;
    t.absmax_v[block] = most_v;
}

/* Elements [from, end) by the threads of a block */
DEVICE void bytes_span(const adamw_item &t, const adamw_constants &a, float scale, const moment_tables &maps,
                       int64_t from, int64_t end)
{
    bool aligned = item_aligned(t);
    for (int64_t i = from + THREAD / WARP * MOMENTS; i < end; i += BLOCK / WARP * MOMENTS) {
        if (aligned && i + MOMENTS <= end)
            step_bytes<true>(t, a, scale, maps, i);
        else
            step_bytes<false>(t, a, scale, maps, i);
    }
}

KERNEL adamw_kernel(adamw_args a)
{
    SHARED_ALIGNED(moment_tables, maps, 1);
    if (a.state->bad != a.bad_none) return;
    const adamw_item t = a.item[item_of(a.item, a.count, BLOCK_X)];
    bool torch = t.kind == KERNEL_MOMENTS_F32 || t.kind == KERNEL_MOMENTS_F16;
    const adamw_constants constants = torch ? a.constants->torch : a.constants->bnb;
    float scale = a.state->grad_scale;
    int64_t from = (BLOCK_X - t.first_block) * SPAN, end = from + SPAN < t.count ? from + SPAN : t.count;
    switch (t.kind) {
    case KERNEL_MOMENTS_F32: step_span<KERNEL_MOMENTS_F32>(t, constants, scale, from, end); return;
    case KERNEL_MOMENTS_F16: step_span<KERNEL_MOMENTS_F16>(t, constants, scale, from, end); return;
    case KERNEL_MOMENTS_F32_BNB: step_span<KERNEL_MOMENTS_F32_BNB>(t, constants, scale, from, end); return;
    default: break;
    }
    typedef packed<float, 4> piece;
    for (int i = THREAD; i < (int)(sizeof(moment_tables) / sizeof(piece)); i += BLOCK)
        ((piece *)maps)[i] = ((const piece *)a.tables)[i];
    BARRIER();
    bytes_span(t, constants, scale, *maps, from, end);
}

void adamw_launch(const adamw_args *a, gpu_stream stream)
{
    if (a->blocks) LAUNCH(adamw_kernel, a->blocks, 1, 1, BLOCK, stream, *a);
}
