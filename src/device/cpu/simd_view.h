/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_view: vectors from and to views and float arrays, whole or the last n < LANES elements. */
#ifndef LIKENESS_DEVICE_CPU_SIMD_VIEW_H
#define LIKENESS_DEVICE_CPU_SIMD_VIEW_H

#include "device/cpu/simd.h"
#include "device/cpu/view.h"

/* A view whose type the compiler knows: inlined functions lose their branches. */
SIMD view as_f32(view x) { return (view){x.data, DTYPE_F32}; }

/* Elements of the vector at i of [.., end): LANES, or what is left. */
SIMD int64_t lanes_at(int64_t i, int64_t end) { return end - i < LANES ? end - i : LANES; }

SIMD vf view_load(view x, int64_t i, int64_t n)
{
    return n == LANES ? vf_load_as(x.data, x.type, i) : vf_load_as_n(x.data, x.type, i, n);
}

SIMD void view_store(view x, int64_t i, int64_t n, vf v)
{
    if (n == LANES)
        vf_store_as(x.data, x.type, i, v);
    else
        vf_store_as_n(x.data, x.type, i, v, n);
}

SIMD vf load_f32(const float *p, int64_t n) { return n == LANES ? vf_load(p) : vf_load_n(p, n); }

SIMD void store_f32(float *p, int64_t n, vf v)
{
    if (n == LANES)
        vf_store(p, v);
    else
        vf_store_n(p, v, n);
}

#endif
