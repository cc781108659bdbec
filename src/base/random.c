/* SPDX-License-Identifier: Apache-2.0
 *
 * random: MT19937 (Matsumoto and Nishimura 1998) and the distributions that torch builds on it on
 * the CPU. Which draw takes which output is torch's choice and is kept exactly, because a seed must
 * give the same picture.
 *
 * Normal values of large draws are torch's bit for bit (its AVX2 build on x86-64). That build takes
 * logarithm, sine and cosine from the polynomials of Cephes (S. L. Moshier), fused multiply-adds
 * included, so this file evaluates the same polynomials in the same order with fmaf. */
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
    r->is_cuda = false;
    r->key[0] = r->key[1] = r->calls = 0;
}

/* MT19937's init_by_array, of the seed's 32-bit digits. */
void rng_seed_python(rng *r, uint64_t seed)
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, digits = key[1] ? 2 : 1;
    uint32_t i = 1, k, *s = r->state;
    rng_seed(r, 19650218);
    for (k = 0; k < STATE_SIZE; k++) {
        s[i] = (s[i] ^ (s[i - 1] ^ s[i - 1] >> 30) * 1664525u) + key[k % digits] + k % digits;
        if (++i < STATE_SIZE) continue;
        s[0] = s[STATE_SIZE - 1];
        i = 1;
    }
    for (k = 1; k < STATE_SIZE; k++) {
        s[i] = (s[i] ^ (s[i - 1] ^ s[i - 1] >> 30) * 1566083941u) - i;
        if (++i < STATE_SIZE) continue;
        s[0] = s[STATE_SIZE - 1];
        i = 1;
    }
    s[0] = 0x80000000u;
}

uint32_t rng_choice(rng *r, uint32_t n)
{
    uint32_t bits = 0, k;
    while (bits < 32 && n >> bits) bits++;
    do k = rng_u32(r) >> (32 - bits);
    while (k >= n);
    return k;
}

void rng_seed_cuda(rng *r, uint64_t seed)
{
    rng_seed(r, 0);
    r->is_cuda = true;
    r->key[0] = (uint32_t)seed;
    r->key[1] = (uint32_t)(seed >> 32);
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

uint64_t rng_random64(rng *r) { return next_u64(r) & INT64_MAX; }

float rng_uniform(rng *r) { return (float)(rng_u32(r) & 0xffffff) * 0x1p-24f; }

double rng_uniform_double(rng *r) { return (double)(next_u64(r) & ((1ull << 53) - 1)) * 0x1p-53; }

/* One normal value of a draw of fewer than 16: Box-Muller in double, each second value kept. */
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

/* Horner's rule: c[0] x^(n-1) + ... + c[n-1]. */
static float polynomial(const float *c, int n, float x)
{
    float y = c[0];
    for (int i = 1; i < n; i++) y = fmaf(y, x, c[i]);
    return y;
}

/* ln(x) for normal x > 0: x = m 2^e with m in [sqrt(1/2), sqrt(2)), a polynomial in m - 1, and
 * ln(2) in two parts so that e ln(2) loses nothing. */
static float log_as_torch(float x)
{
    static const float c[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                              -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                              2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    int exponent;
    float m = frexpf(x, &exponent); /* [1/2, 1) */
    if (m < 0.707106781186547524f) {
        exponent--;
        m = m - 1 + m;
    } else {
        m = m - 1;
    }
    float square = m * m, e = (float)exponent;
    float y = fmaf(polynomial(c, 9, m) * m, square, e * -2.12194440e-4f);
    y = fmaf(-square, 0.5f, y);
    return fmaf(e, 0.693359375f, m + y);
}

/* sin and cos of x >= 0: the octant's even multiple of pi/4 is taken off in three parts, and two
 * polynomials on [-pi/4, pi/4] change roles and signs by octant. */
static void sincos_as_torch(float x, float *sine, float *cosine)
{
    static const float cos_c[] = {2.443315711809948e-5f, -1.388731625493765e-3f,
                                  4.166664568298827e-2f};
    static const float sin_c[] = {-1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f};
    int octant = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float turns = (float)octant;
    x = fmaf(-turns, 0.78515625f, x);
    x = fmaf(-turns, 2.4187564849853515625e-4f, x);
    x = fmaf(-turns, 3.77489497744594108e-8f, x);
    float z = x * x;
    float c = fmaf(polynomial(cos_c, 3, z) * z, z, -(z * 0.5f)) + 1;
    float s = fmaf(polynomial(sin_c, 3, z) * z, x, x);
    bool swapped = octant & 2;
    *sine = (octant & 4 ? -1.0f : 1.0f) * (swapped ? c : s);
    *cosine = ((octant + 2) & 4 ? -1.0f : 1.0f) * (swapped ? s : c);
}

/* x[16] uniform -> normal: values j and j + 8 are a Box-Muller pair. */
static void normal_block(float *x)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        float sine, cosine, radius = sqrtf(-2 * log_as_torch(1 - x[j]));
        sincos_as_torch((float)(2 * M_PI) * x[j + BLOCK / 2], &sine, &cosine);
        x[j] = radius * cosine;
        x[j + BLOCK / 2] = radius * sine;
    }
}

/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011): x becomes random. */
static void philox(uint32_t x[4], const uint32_t key[2])
{
    uint32_t a = key[0], b = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)x[0] * 0xd2511f53u, q = (uint64_t)x[2] * 0xcd9e8d57u;
        x[0] = (uint32_t)(q >> 32) ^ x[1] ^ a;
        x[2] = (uint32_t)(p >> 32) ^ x[3] ^ b;
        x[1] = (uint32_t)q;
        x[3] = (uint32_t)p;
        a += 0x9e3779b9u;
        b += 0xbb67ae85u;
    }
}

/* Each number is a thread's: its own sequence (the counter's third word), of which this call takes
 * one counter, and of that the first of cuRAND's normal values; in double, as AUTOMATIC1111 has it.
 */
static void randn_cuda(rng *r, float *out, size_t n)
{
    const double unit = 0x1p-32, turn = 0x1p-32 * (double)(float)(2 * M_PI);
    for (size_t i = 0; i < n; i++) {
        uint32_t x[4] = {r->calls, 0, (uint32_t)i, (uint32_t)((uint64_t)i >> 32)};
        philox(x, r->key);
        double u = x[0] * unit + unit / 2, v = x[1] * turn + turn / 2;
        out[i] = (float)(sqrt(-2 * log(u)) * sin(v));
    }
    r->calls++;
}

void rng_randn(rng *r, float *out, size_t n)
{
    if (r->is_cuda) {
        randn_cuda(r, out, n);
        return;
    }
    if (n < BLOCK) {
        rng_randn_strided(r, out, n);
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = rng_uniform(r);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK) normal_block(out + i);
    if (n % BLOCK) { /* torch draws the last 16 anew, over values that were normal already */
        float *last = out + n - BLOCK;
        for (int i = 0; i < BLOCK; i++) last[i] = rng_uniform(r);
        normal_block(last);
    }
}

void rng_randn_strided(rng *r, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = small_normal(r);
}

uint32_t rng_below(rng *r, uint32_t n)
{
    assert(n > 0);
    if (n >= 1u << 28) return (uint32_t)(next_u64(r) % n); /* torch 2.15; before: from 2^32 on */
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
