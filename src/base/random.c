/* SPDX-License-Identifier: Apache-2.0
 *
 * random: MT19937 (Matsumoto and Nishimura 1998) and the distributions that torch builds on it on the
 * CPU. Which draw takes which output is torch's choice and is kept exactly, because a seed must give
 * the same picture. */
#include "base/random.h"

#include <assert.h>
#include <math.h>

enum { STATE_SIZE = 624, STATE_SHIFT = 397, BLOCK = 16 };

void rng_seed(rng *r, uint64_t seed)
{
    r->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < STATE_SIZE; i++) {
        uint32_t before = r->state[i - 1];
        r->state[i] = 1812433253u * (before ^ before >> 30) + i;
    }
    r->next = STATE_SIZE;
    r->has_spare = false;
    r->spare = 0;
}

static uint32_t twist(uint32_t high, uint32_t low)
{
    uint32_t y = (high & 0x80000000u) | (low & 0x7fffffffu);
    return y >> 1 ^ (low & 1 ? 0x9908b0dfu : 0);
}

static void next_state(rng *r)
{
    uint32_t *s = r->state;
    int i = 0;
    for (; i < STATE_SIZE - STATE_SHIFT; i++) s[i] = s[i + STATE_SHIFT] ^ twist(s[i], s[i + 1]);
    for (; i < STATE_SIZE - 1; i++) s[i] = s[i + STATE_SHIFT - STATE_SIZE] ^ twist(s[i], s[i + 1]);
    s[i] = s[STATE_SHIFT - 1] ^ twist(s[i], s[0]);
    r->next = 0;
}

uint32_t rng_u32(rng *r)
{
    if (r->next >= STATE_SIZE) next_state(r);
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static uint64_t next_u64(rng *r)
{
    uint64_t high = rng_u32(r);
    return high << 32 | rng_u32(r);
}

uint64_t rng_random64(rng *r)
{
    return next_u64(r) & INT64_MAX;
}

float rng_uniform(rng *r)
{
    return (float)(rng_u32(r) & 0xffffff) * 0x1p-24f;
}

double rng_uniform_double(rng *r)
{
    return (double)(next_u64(r) & ((1ull << 53) - 1)) * 0x1p-53;
}

/* One normal value of a draw of fewer than 16: Box-Muller in double, every second value kept back. */
static float small_normal(rng *r)
{
    if (r->has_spare) {
        r->has_spare = false;
        return (float)r->spare;
    }
    double u1 = rng_uniform_double(r), u2 = rng_uniform_double(r);
    double radius = sqrt(-2.0 * log1p(-u2)), angle = 2.0 * M_PI * u1;
    r->spare = radius * sin(angle);
    r->has_spare = true;
    return (float)(radius * cos(angle));
}

/* x[16] uniform -> normal: values j and j + 8 are a Box-Muller pair. */
static void normal_block(float *x)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        float u1 = 1 - x[j], u2 = x[j + BLOCK / 2];
        float radius = sqrtf(-2 * logf(u1)), angle = (float)(2 * M_PI) * u2;
        x[j] = radius * cosf(angle);
        x[j + BLOCK / 2] = radius * sinf(angle);
    }
}

void rng_randn(rng *r, float *out, size_t n)
{
    if (n < BLOCK) {
        for (size_t i = 0; i < n; i++) out[i] = small_normal(r);
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = rng_uniform(r);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK) normal_block(out + i);
    if (n % BLOCK) { /* torch draws the last 16 anew, overwriting values that were already normal */
        float *last = out + n - BLOCK;
        for (int i = 0; i < BLOCK; i++) last[i] = rng_uniform(r);
        normal_block(last);
    }
}

uint32_t rng_below(rng *r, uint32_t n)
{
    assert(n > 0);
    return rng_u32(r) % n;
}

void rng_permutation(rng *r, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) out[i] = i;
    for (uint32_t i = 0; i + 1 < n; i++) {
        uint32_t j = i + rng_below(r, n - i), swapped = out[i];
        out[i] = out[j];
        out[j] = swapped;
    }
}
