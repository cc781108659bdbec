/* SPDX-License-Identifier: Apache-2.0
 *
 * sha256: FIPS 180-4. Blocks go through the processor's own instructions where it has them
 * (sha256_ni.c), else through the plain rounds here, eight of them unrolled so that the eight
 * working words change names instead of places. */
#include "base/sha256.h"

#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "base/sha256_blocks.h"

const uint32_t sha256_round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* Word i of the block; big-endian. */
static inline uint32_t word_at(const uint8_t *block, int i)
{
    return (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
           (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
}

/* Round i; wi: its word of the schedule. d becomes the next e, h the next a. */
#define ROUND(a, b, c, d, e, f, g, h, i, wi)                                                       \
    do {                                                                                           \
        uint32_t t = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (g ^ (e & (f ^ g))) +    \
                     sha256_round_constant[i] + (wi);                                              \
        d += t;                                                                                    \
        h = t + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) | (c & (a | b)));        \
    } while (0)

/* Word i of the schedule from the sixteen before it, in the place of the oldest. */
static inline uint32_t next_word(uint32_t w[16], int i)
{
    uint32_t a = w[(i + 1) % 16], b = w[(i + 14) % 16];
    return w[i % 16] += (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[(i + 9) % 16] +
                        (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
}

#define EIGHT_ROUNDS(i, word)                                                                      \
    do {                                                                                           \
        ROUND(a, b, c, d, e, f, g, h, (i), word(w, (i)));                                          \
        ROUND(h, a, b, c, d, e, f, g, (i) + 1, word(w, (i) + 1));                                  \
        ROUND(g, h, a, b, c, d, e, f, (i) + 2, word(w, (i) + 2));                                  \
        ROUND(f, g, h, a, b, c, d, e, (i) + 3, word(w, (i) + 3));                                  \
        ROUND(e, f, g, h, a, b, c, d, (i) + 4, word(w, (i) + 4));                                  \
        ROUND(d, e, f, g, h, a, b, c, (i) + 5, word(w, (i) + 5));                                  \
        ROUND(c, d, e, f, g, h, a, b, (i) + 6, word(w, (i) + 6));                                  \
        ROUND(b, c, d, e, f, g, h, a, (i) + 7, word(w, (i) + 7));                                  \
    } while (0)

static inline uint32_t first_word(const uint32_t w[16], int i) { return w[i]; }

void sha256_blocks_plain(uint32_t state[8], const uint8_t *in, size_t blocks)
{
    for (; blocks > 0; blocks--, in += 64) {
        uint32_t w[16];
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 16; i++) w[i] = word_at(in, i);
        EIGHT_ROUNDS(0, first_word);
        EIGHT_ROUNDS(8, first_word);
        for (int i = 16; i < 64; i += 16) {
            EIGHT_ROUNDS(i, next_word);
            EIGHT_ROUNDS(i + 8, next_word);
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

static void add_blocks(sha256 *s, const uint8_t *in, size_t blocks)
{
    if (sha256_has_ni())
        sha256_blocks_ni(s->state, in, blocks);
    else
        sha256_blocks_plain(s->state, in, blocks);
}

void sha256_start(sha256 *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->state, start, sizeof start);
    s->size = 0;
}

void sha256_add(sha256 *s, const void *data, size_t size)
{
    const uint8_t *in = data;
    size_t filled = s->size % 64;
    s->size += size;
    if (filled && size) {
        size_t n = 64 - filled < size ? 64 - filled : size;
        memcpy(s->block + filled, in, n);
        in += n;
        size -= n;
        if (filled + n < 64) return;
        add_blocks(s, s->block, 1);
    }
    if (size >= 64) {
        add_blocks(s, in, size / 64);
        in += size / 64 * 64;
        size %= 64;
    }
    if (size) memcpy(s->block, in, size);
}

void sha256_end(sha256 *s, char hex[65])
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = s->size * 8;
    uint8_t tail[8];
    for (int i = 0; i < 8; i++) tail[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(s, padding, (119 - s->size % 64) % 64 + 1); /* up to 8 bytes before a block's end */
    sha256_add(s, tail, 8);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", s->state[i]);
}

void sha256_of(char hex[65], const void *data, size_t size)
{
    sha256 hash;
    sha256_start(&hash);
    if (size) sha256_add(&hash, data, size);
    sha256_end(&hash, hex);
}

/* What has been read is given back as it goes: the file does not count as this process's memory. */
enum { READ_AT_ONCE = 16 << 20 };

bool sha256_file(char hex[65], const char *path, error *e)
{
    mapped_file file;
    sha256 hash;
    if (!file_map(&file, path, e)) return false;
    sha256_start(&hash);
    for (size_t at = 0, n; at < file.size; at += n) {
        n = file.size - at < READ_AT_ONCE ? file.size - at : READ_AT_ONCE;
        sha256_add(&hash, file.data + at, n);
        file_map_drop(&file);
    }
    sha256_end(&hash, hex);
    file_unmap(&file);
    return true;
}
