/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf_blocks: see gguf_blocks.h. Layouts are those of ggml's block_q* structs, little-endian;
 * every number is a float32 product (and sum) in ggml's order. */
#include "file/gguf_blocks.h"

#include <string.h>

#include "base/half.h"

static float half_at(const uint8_t *p) { return half_to_float((uint16_t)(p[0] | p[1] << 8)); }

/* ---- blocks of 32 ---- */

/* scale, 16 bytes: low nibbles, then high ones */
static void read_q4_0(float *out, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)((b[2 + i] & 15) - 8) * d;
        out[16 + i] = (float)((b[2 + i] >> 4) - 8) * d;
    }
}

static void read_q4_1(float *out, const uint8_t *b)
{
    float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)(b[4 + i] & 15) * d + m;
        out[16 + i] = (float)(b[4 + i] >> 4) * d + m;
    }
}

/* The fifth bit of number i. */
static int fifth(const uint8_t *bits, int i) { return (bits[i / 8] >> i % 8 & 1) << 4; }

static void read_q5_0(float *out, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)(((b[6 + i] & 15) | fifth(b + 2, i)) - 16) * d;
        out[16 + i] = (float)((b[6 + i] >> 4 | fifth(b + 2, 16 + i)) - 16) * d;
    }
}

static void read_q5_1(float *out, const uint8_t *b)
{
    float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)((b[8 + i] & 15) | fifth(b + 4, i)) * d + m;
        out[16 + i] = (float)(b[8 + i] >> 4 | fifth(b + 4, 16 + i)) * d + m;
    }
}

static void read_q8_0(float *out, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)b[2 + i] * d;
}

/* ---- blocks of 256 ---- */

static void read_q2_k(float *out, const uint8_t *b)
{
    const uint8_t *scale = b, *q = b + 16;
    float d = half_at(b + 80), least = half_at(b + 82);
    for (int i = 0; i < 256; i++) {
        /* halves of 128 share 32 bytes, which hold a quarter's numbers in two bits each */
        int s = scale[i / 16], value = q[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        out[i] = d * (float)(s & 15) * (float)value - least * (float)(s >> 4);
    }
}

/* The i-th of eight scales and minima of six bits each, in 12 bytes. */
static void six_bits(const uint8_t *s, int i, int *scale, int *least)
{
    if (i < 4) {
        *scale = s[i] & 63;
        *least = s[i + 4] & 63;
    } else {
        *scale = (s[i + 4] & 15) | s[i - 4] >> 6 << 4;
        *least = s[i + 4] >> 4 | s[i] >> 6 << 4;
    }
}

/* Q4_K, and with a fifth bit Q5_K: eight runs of 32, low and high nibbles of the same 32 bytes. */
static void read_45_k(float *out, const uint8_t *b, const uint8_t *q, const uint8_t *high)
{
    float d = half_at(b), least = half_at(b + 2);
    for (int run = 0; run < 8; run++) {
        int scale, low;
        six_bits(b + 4, run, &scale, &low);
        float by = d * (float)scale, from = least * (float)low;
        for (int i = 0; i < 32; i++) {
            int value = q[run / 2 * 32 + i] >> run % 2 * 4 & 15;
            if (high) value += (high[i] >> run & 1) << 4;
            out[run * 32 + i] = by * (float)value - from;
        }
    }
}

static void read_q4_k(float *out, const uint8_t *b) { read_45_k(out, b, b + 16, NULL); }

static void read_q5_k(float *out, const uint8_t *b) { read_45_k(out, b, b + 48, b + 16); }

static void read_q6_k(float *out, const uint8_t *b)
{
    const uint8_t *low = b, *high = b + 128, *scale = b + 192;
    float d = half_at(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i % 128 / 32, l = i % 32;
        int four = low[half * 64 + quarter % 2 * 32 + l] >> quarter / 2 * 4 & 15;
        int two = high[half * 32 + l] >> quarter * 2 & 3;
        out[i] = d * (float)(int8_t)scale[i / 16] * (float)((four | two << 4) - 32);
    }
}

/* ---- the table ---- */

static const struct {
    uint32_t type;
    gguf_block block;
} blocks[] = {
    {2, {"Q4_0", 32, 18, read_q4_0}},    {3, {"Q4_1", 32, 20, read_q4_1}},
    {6, {"Q5_0", 32, 22, read_q5_0}},    {7, {"Q5_1", 32, 24, read_q5_1}},
    {8, {"Q8_0", 32, 34, read_q8_0}},    {10, {"Q2_K", 256, 84, read_q2_k}},
    {12, {"Q4_K", 256, 144, read_q4_k}}, {13, {"Q5_K", 256, 176, read_q5_k}},
    {14, {"Q6_K", 256, 210, read_q6_k}},
};

static const char *const names[] = {
    [9] = "Q8_1",     [11] = "Q3_K",  [15] = "Q8_K",   [16] = "IQ2_XXS", [17] = "IQ2_XS",
    [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",   [22] = "IQ2_S",
    [23] = "IQ4_XS",  [29] = "IQ1_M", [34] = "TQ1_0",  [35] = "TQ2_0",   [39] = "MXFP4",
};

const gguf_block *gguf_block_of(uint32_t type)
{
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (blocks[i].type == type) return &blocks[i].block;
    return NULL;
}

const char *gguf_type_name(uint32_t type)
{
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}
