/* SPDX-License-Identifier: Apache-2.0
 *
 * sha256_ni: blocks of SHA-256 by the SHA instructions of x86 processors, about seven times as fast
 * as the plain rounds. Compiled with -msha -msse4.1: called only where sha256_has_ni() says so. */
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>

#include "base/sha256_blocks.h"

/* Asked once: under a hypervisor cpuid costs microseconds. */
bool sha256_has_ni(void)
{
    enum { UNKNOWN, NO, YES };
    static atomic_int known = UNKNOWN;
    int has = atomic_load_explicit(&known, memory_order_relaxed);
    if (has == UNKNOWN) {
        unsigned a, b, c, d, sha = 0, sse = 0;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) sha = b & bit_SHA;
        if (__get_cpuid(1, &a, &b, &c, &d)) sse = (c & bit_SSE4_1) && (c & bit_SSSE3);
        has = sha && sse ? YES : NO;
        atomic_store_explicit(&known, has, memory_order_relaxed);
    }
    return has == YES;
}

/* The instructions hold the eight words as two vectors, {f, e, b, a} and {h, g, d, c} from the
 * lowest lane up, and do two rounds each. w[i] are four words of the schedule. */
void sha256_blocks_ni(uint32_t state[8], const uint8_t *in, size_t blocks)
{
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i low = _mm_loadu_si128((const void *)state);        /* a b c d */
    __m128i high = _mm_loadu_si128((const void *)(state + 4)); /* e f g h */
    low = _mm_shuffle_epi32(low, 0xb1);                        /* b a d c */
    high = _mm_shuffle_epi32(high, 0x1b);                      /* h g f e */
    __m128i abef = _mm_alignr_epi8(low, high, 8);              /* f e b a */
    __m128i cdgh = _mm_blend_epi16(high, low, 0xf0);           /* h g d c */
    for (; blocks > 0; blocks--, in += 64) {
        __m128i abef_before = abef, cdgh_before = cdgh, w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(in + 16 * i)), big_endian);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i k = _mm_loadu_si128((const void *)(sha256_round_constant + 4 * i));
            __m128i sum = _mm_add_epi32(w[i % 4], k);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            if (i >= 12) continue;
            /* words 16 + 4 i ..., from the sixteen before them */
            __m128i next = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
            next = _mm_add_epi32(next, _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
            w[i % 4] = _mm_sha256msg2_epu32(next, w[(i + 3) % 4]);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);  /* a b e f */
    high = _mm_shuffle_epi32(cdgh, 0xb1); /* g h c d */
    _mm_storeu_si128((void *)state, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((void *)(state + 4), _mm_alignr_epi8(high, low, 8));
}
