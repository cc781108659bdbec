/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_math: functions of vectors beyond simd.h's vf_exp, for the kernels of attention, norms and
 * pointwise operations. Polynomials are our own minimax fits (Lawson iteration in double). */
#ifndef LIKENESS_DEVICE_CPU_SIMD_MATH_H
#define LIKENESS_DEVICE_CPU_SIMD_MATH_H

#include "device/cpu/simd.h"

/* 2^f, f in -0.5 .. 0.5 */
SIMD vf vf_exp2_fraction(vf f)
{
    vf p = vf_set(0.00132764668f);
    p = vf_fma(p, f, vf_set(0.00967554129f));
    p = vf_fma(p, f, vf_set(0.0555071329f));
    p = vf_fma(p, f, vf_set(0.240221197f));
    p = vf_fma(p, f, vf_set(0.693146967f));
    return vf_fma(p, f, vf_set(1.00000007f));
}

/* 2^x for x <= 127, relative error below 2e-7; 2^-126 for all x below -126; NaN stays NaN.
 * Adding 1.5 * 2^23 + 127 rounds x to an integer n and leaves n + 127 in the low bits: 2^n once
 * they are shifted to the exponent. */
SIMD vf vf_exp2(vf x)
{
    x = vf_max(vf_set(-126.0f), x);
    vf shifted = x + vf_set(12582912.0f + 127.0f);
    vf f = x - (shifted - vf_set(12582912.0f + 127.0f)); /* -0.5 .. 0.5 */
    return vf_exp2_fraction(f) * (vf)((vi)shifted << 23);
}

/* 2^(x - top) for an integer top that no x is above, as vf_exp2 in one step less: top is in what
 * rounds. Exact in top up to EXP2_TOP_MOST. */
#define EXP2_TOP_MOST 4e6f

SIMD vf vf_exp2_below(vf x, float top)
{
    x = vf_max(vf_set(top - 126.0f), x);
    vf rounds = vf_set(12582912.0f + 127.0f - top), shifted = x + rounds;
    return vf_exp2_fraction(x - (shifted - rounds)) * (vf)((vi)shifted << 23);
}

/* 1 / (1 + e^-x) */
SIMD vf vf_sigmoid(vf x) { return vf_set(1.0f) / (vf_set(1.0f) + vf_exp(-x)); }

SIMD vf vf_abs(vf x) { return (vf)((vi)x & 0x7fffffff); }

/* The normal distribution: *density = e^(-x^2/2), returns P(X < x) = (1 + erf(x / sqrt 2)) / 2 with
 * small relative error in both tails. erfc(a) = e^(-a^2) t p(t), t = 1 / (1 + 0.35 a). */
SIMD vf vf_normal(vf x, vf *density)
{
    vf t = vf_set(1.0f) / vf_fma(vf_abs(x), vf_set(0.35f * 0.70710678f), vf_set(1.0f));
    vf p = vf_set(0.038401353f);
    p = vf_fma(p, t, vf_set(-0.158929913f));
    p = vf_fma(p, t, vf_set(0.181465048f));
    p = vf_fma(p, t, vf_set(-0.0277107402f));
    p = vf_fma(p, t, vf_set(0.0870229825f));
    p = vf_fma(p, t, vf_set(0.146039923f));
    p = vf_fma(p, t, vf_set(0.151186968f));
    p = vf_fma(p, t, vf_set(0.187902235f));
    p = vf_fma(p, t, vf_set(0.197138374f));
    p = vf_fma(p, t, vf_set(0.197483777f));
    *density = vf_exp(x * x * vf_set(-0.5f));
    vf tail = vf_set(0.5f) * *density * (t * p);
    return vf_select(x > vf_zero(), vf_set(1.0f) - tail, tail);
}

#endif
