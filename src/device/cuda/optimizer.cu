/* SPDX-License-Identifier: Apache-2.0
 *
 * optimizer: AdamW over a list of tensors in one launch, in torch's and in bitsandbytes' order of operations,
 * each rounded by itself: the bytes are those of the processor's. 8-bit moments have a warp for each block of
 * 256 elements, eight of them a lane. */
#include "device/cuda/lists.h"

enum { MAP = 256, MOMENTS = 256, LANE_MOMENTS = MOMENTS / WARP };

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

DEVICE element step_of(int kind, const adamw_constants &a, element e, float grad)
{
    if (kind == KERNEL_MOMENTS_F16) return torch_half_step(a, e, grad);
    return kind == KERNEL_MOMENTS_F32 ? torch_step(a, e, grad) : bnb_step(a, e, grad);
}

template <int N>
DEVICE void step_at(const adamw_item &t, const adamw_constants &a, float scale, int64_t i)
{
    dtype type = t.kind == KERNEL_MOMENTS_F16 ? DTYPE_F16 : DTYPE_F32;
    gpu_view weight = {t.weight, type}, first = {t.m, type}, second = {t.v, type};
    gpu_view gradient = {(void *)t.gradient, DTYPE_F32};
    values<N> p = load<N>(weight, i), m = load<N>(first, i), v = load<N>(second, i);
    values<N> g = load<N>(gradient, i);
    UNROLL
    for (int k = 0; k < N; k++) {
        element e = step_of(t.kind, a, {p.v[k], m.v[k], v.v[k]}, MULTIPLIED(g.v[k], scale));
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
DEVICE void step_span(const adamw_item &t, const adamw_constants &a, float scale, int64_t from, int64_t end)
{
    int64_t fours = item_aligned(t) ? from + (end - from) / 4 * 4 : from;
    for (int64_t i = from + THREAD * 4; i < fours; i += BLOCK * 4) step_at<4>(t, a, scale, i);
    for (int64_t i = fours + THREAD; i < end; i += BLOCK) step_at<1>(t, a, scale, i);
}

/* ---- 8 bits ---- */

/* How many thresholds x has reached: the index of the nearest value. NaN: 0, as in bitsandbytes. */
DEVICE int nearest(const float *threshold, float x)
{
    int index = 0;
    UNROLL
    for (int half = MAP / 2; half > 0; half /= 2)
        if (x >= threshold[index + half - 1]) index += half;
    return index;
}

/* A sign that is lost is put right, so that nothing negative becomes zero. In a block of zeros (0 / 0) that
 * turns 0 into 255. */
DEVICE uint8_t nearest_m(const float *map, const float *threshold, float x, float absmax)
{
    int index = nearest(threshold, DIVIDED(x, absmax));
    if (signbit(map[index]) != signbit(x)) index += x > 0 ? 1 : -1;
    return (uint8_t)index;
}

/* Of all lanes; passes over NaN. */
DEVICE float warp_largest(float x)
{
    UNROLL
    for (int mask = WARP / 2; mask > 0; mask /= 2) x = fmaxf(x, SHUFFLE_XOR(x, mask));
    return x;
}

/* Four of a lane's elements, those below n of them; the rest is zero. */
template <typename T> DEVICE packed<T, 4> load_some(const T *from, bool whole, int64_t n, T nothing)
{
    if (whole) return *(const packed<T, 4> *)from;
    packed<T, 4> p;
    UNROLL
    for (int k = 0; k < 4; k++) p.v[k] = k < n ? from[k] : nothing;
    return p;
}

template <typename T> DEVICE void store_some(T *to, bool whole, int64_t n, const packed<T, 4> &p)
{
    if (whole) {
        *(packed<T, 4> *)to = p;
        return;
    }
    UNROLL
    for (int k = 0; k < 4; k++)
        if (k < n) to[k] = p.v[k];
}

/* One block of moments, from element `from` on, by a warp */
DEVICE void step_bytes(const adamw_item &t, const adamw_constants &a, float scale, const float *maps,
                       int64_t from, bool is_aligned)
{
    const float *map_m = maps, *map_v = maps + MAP;
    int64_t block = from / MOMENTS;
    float absmax_m = t.absmax_m[block], absmax_v = t.absmax_v[block], most_m = 0, most_v = 0;
    float first[LANE_MOMENTS], second[LANE_MOMENTS];
    UNROLL
    for (int half = 0; half < 2; half++) {
        int64_t i = from + half * (MOMENTS / 2) + THREAD % WARP * 4, n = t.count - i;
        bool whole = is_aligned && n >= 4;
        packed<float, 4> p = load_some((const float *)t.weight + i, whole, n, 0.0f);
        packed<float, 4> g = load_some(t.gradient + i, whole, n, 0.0f);
        packed<uint8_t, 4> m = load_some((const uint8_t *)t.m + i, whole, n, (uint8_t)(MAP / 2 - 1));
        packed<uint8_t, 4> v = load_some((const uint8_t *)t.v + i, whole, n, (uint8_t)0);
        UNROLL
        for (int k = 0; k < 4; k++) {
            element e = {p.v[k], MULTIPLIED(map_m[m.v[k]], absmax_m), MULTIPLIED(map_v[v.v[k]], absmax_v)};
            e = bnb_step(a, e, MULTIPLIED(g.v[k], scale));
            bool finite = fabsf(g.v[k]) <= 3.402823466e38f;
            p.v[k] = finite ? e.p : p.v[k];
            first[half * 4 + k] = finite ? e.m : 0;
            second[half * 4 + k] = finite ? e.v : 0;
            most_m = fmaxf(most_m, fabsf(first[half * 4 + k]));
            most_v = fmaxf(most_v, fabsf(second[half * 4 + k]));
        }
        store_some((float *)t.weight + i, whole, n, p);
        for (int k = 0; k < 4 && t.copy.data; k++)
            if (k < n) store_one(t.copy, i + k, p.v[k]);
    }
    most_m = warp_largest(most_m);
    most_v = warp_largest(most_v);
    if (THREAD % WARP == 0) {
        t.absmax_m[block] = most_m;
        t.absmax_v[block] = most_v;
    }
    UNROLL
    for (int half = 0; half < 2; half++) {
        int64_t i = from + half * (MOMENTS / 2) + THREAD % WARP * 4, n = t.count - i;
        packed<uint8_t, 4> m, v;
        UNROLL
        for (int k = 0; k < 4; k++) {
            m.v[k] = nearest_m(map_m, maps + 2 * MAP, first[half * 4 + k], most_m);
            v.v[k] = (uint8_t)nearest(maps + 3 * MAP, DIVIDED(second[half * 4 + k], most_v));
        }
        store_some((uint8_t *)t.m + i, is_aligned && n >= 4, n, m);
        store_some((uint8_t *)t.v + i, is_aligned && n >= 4, n, v);
    }
}

KERNEL adamw_kernel(adamw_args a)
{
    SHARED(float, maps, 4 * MAP);
    if (a.state->bad != a.bad_none) return;
    const adamw_item t = a.item[item_of(a.item, a.count, BLOCK_X)];
    float scale = a.state->grad_scale;
    int64_t from = (BLOCK_X - t.first_block) * SPAN, end = from + SPAN < t.count ? from + SPAN : t.count;
    if (t.kind != KERNEL_MOMENTS_8BIT) {
        bool torch = t.kind != KERNEL_MOMENTS_F32_BNB;
        const adamw_constants constants = torch ? a.constants->torch : a.constants->bnb;
        step_span(t, constants, scale, from, end);
        return;
    }
    const adamw_constants constants = a.constants->bnb;
    for (int i = THREAD; i < 4 * MAP; i += BLOCK) maps[i] = a.maps[i];
    BARRIER();
    for (int64_t i = from + THREAD / WARP * MOMENTS; i < end; i += BLOCK / WARP * MOMENTS)
        step_bytes(t, constants, scale, maps, i, item_aligned(t));
}

void adamw_launch(const adamw_args *a, gpu_stream stream)
{
    if (a->blocks) LAUNCH(adamw_kernel, a->blocks, 1, 1, BLOCK, stream, *a);
}
