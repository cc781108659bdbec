/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_transpose: squares of numbers, a vector a row, turned in registers. */
#ifndef LIKENESS_DEVICE_CPU_SIMD_TRANSPOSE_H
#define LIKENESS_DEVICE_CPU_SIMD_TRANSPOSE_H

#include "device/cpu/simd.h"

/* One round of a transposition: the off-diagonal blocks of s lanes change places. */
#define LANE_TO_A(i, s) ((i) & (s) ? (i) + LANES - (s) : (i))
#define LANE_TO_B(i, s) ((i) & (s) ? (i) + LANES : (i) + (s))
#define EXCHANGE_BLOCKS(row, s)                                                                    \
    for (int r = 0; r < LANES; r++) {                                                              \
        if (r & (s)) continue;                                                                     \
        vf a = __builtin_shufflevector(row[r], row[r + (s)], EACH_LANE(LANE_TO_A, s));             \
        row[r + (s)] = __builtin_shufflevector(row[r], row[r + (s)], EACH_LANE(LANE_TO_B, s));     \
        row[r] = a;                                                                                \
    }

/* LANES x LANES numbers: element l of row r becomes element r of row l. */
SIMD void transpose_square(vf row[LANES])
{
#pragma GCC unroll 16
    EXCHANGE_BLOCKS(row, 1)
#pragma GCC unroll 16
    EXCHANGE_BLOCKS(row, 2)
#if defined(LK_ISA_avx2) || defined(LK_ISA_avx512)
#pragma GCC unroll 16
    EXCHANGE_BLOCKS(row, 4)
#endif
#if defined(LK_ISA_avx512)
#pragma GCC unroll 16
    EXCHANGE_BLOCKS(row, 8)
#endif
}

#endif
