/* SPDX-License-Identifier: Apache-2.0
 *
 * grad_w: what the gradients by the weight and their vector code share. Every one of them is a sum
 * of outer products: c[i][j] (+)= sum over k of a[k][i] * b[k][j], where k runs over pixels
 * (direct) or over tiles (Winograd), i over outputs, j over channels. Where products are
 * bfloat16's, the direct one multiplies pairs of rows: k and k + half of a block's, two in a
 * float's place. */
#ifndef LIKENESS_DEVICE_CPU_GRAD_W_H
#define LIKENESS_DEVICE_CPU_GRAD_W_H

#include "device/cpu/winograd.h"

/* i goes by tiles of mr, j by panels of nr (product_kernels). b may be read up to a whole panel;
 * c is written for m x n alone. */
struct outer_job {
    const float *a;
    int64_t a_stride, a_tile; /* from k to k, from tile to tile */
    const float *b;
    int64_t b_stride, b_panel; /* from k to k, from panel to panel */
    float *c;
    int64_t c_stride;
    int64_t m, n, k;
    bool go_on; /* with the sums that c has */
};

struct grad_w_kernels {
    void (*outer)(const struct outer_job *job);
    void (*outer_pairs)(const struct outer_job *job);
    /* A tile's outputs side by side: out[tile][k][mr] of in[k * in_stride + i] for i < m, zero up
     * to a whole tile. A vector more is written than the last tile has. */
    void (*tiles)(float *out, const void *in, dtype type, int64_t in_stride, int64_t k, int64_t m);
    /* Pairs of rows r and r + steps, of (k + 1) / 2 steps, an absent row's numbers zero. */
    void (*tiles_pairs)(float *out, const uint16_t *in, int64_t in_stride, int64_t k, int64_t m);
    /* A panel: out[k][nr] of in[k * in_stride + j] for j < n, zero up to nr. */
    void (*panel)(float *out, const void *in, dtype type, int64_t in_stride, int64_t k, int64_t n);
    /* The first numbers of k pairs, the second of which are zero; then those. */
    void (*panel_pairs)(float *out, const uint16_t *in, int64_t in_stride, int64_t k, int64_t n,
                        bool second);
    /* Winograd: v[point * v_stride + output] = A y A' for n outputs, zero up to a whole line of 16;
     * pixel[16] are the pixels of a tile of dy, row by row. */
    void (*spread)(float *v, int64_t v_stride, const void *const *pixel, dtype type, int64_t n);
    /* dw[channel * 9 + tap] for n channels; s may be read up to a whole vector. Winograd: (+)= G' s
     * G of s[point * s_stride + channel]; else s[tap * s_stride + channel] as it is. */
    void (*fold)(float *dw, const float *s, int64_t s_stride, int64_t n, bool go_on);
    void (*nine_taps)(float *dw, const float *s, int64_t s_stride, int64_t n);
};

/* winograd_grad_w.c */
bool winograd_grad_w_pays(const product *p, const struct product_kernels *kernel);
size_t winograd_grad_w_scratch(const device *d, const product *p);
void winograd_grad_w_run(device *d, const product *p, const void *dy, const void *x, float *dw,
                         char *scratch);

#endif
