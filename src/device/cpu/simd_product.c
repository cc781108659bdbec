/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_product: the register tile that every float32 product and convolution is made of. The sums
 * of a tile stay in registers: mr rows of two vectors; each k costs two loads of the packed weight
 * and one broadcast per row. */
#include "device/cpu/product.h"
#include "device/cpu/simd.h"

#if defined(LK_ISA_avx512)
enum { MR = 12 };
#elif defined(LK_ISA_avx2)
enum { MR = 6 };
#else
enum { MR = 6 };
#endif
enum { NR = 2 * LANES };

extern const struct product_kernels ISA(product_kernels);

SIMD void tile_start(vf acc[][2], int m, const struct tile_job *job)
{
    vf bias[2] = {vf_zero(), vf_zero()};
    int64_t n0 = job->n < LANES ? job->n : LANES, n1 = job->n - n0;
    if (job->bias && job->n == NR) {
        bias[0] = vf_load(job->bias);
        bias[1] = vf_load(job->bias + LANES);
    } else if (job->bias) {
        bias[0] = vf_load_n(job->bias, n0);
        bias[1] = vf_load_n(job->bias + n0, n1);
    }
#pragma GCC unroll 12
    for (int i = 0; i < m; i++) {
        acc[i][0] = bias[0];
        acc[i][1] = bias[1];
    }
    if (!job->add) return;
    const float *add = job->add;
    if (job->n == NR) {
#pragma GCC unroll 12
        for (int i = 0; i < m; i++) {
            acc[i][0] += vf_load(add + i * job->add_stride);
            acc[i][1] += vf_load(add + i * job->add_stride + LANES);
        }
    } else {
#pragma GCC unroll 12
        for (int i = 0; i < m; i++) {
            acc[i][0] += vf_load_n(add + i * job->add_stride, n0);
            acc[i][1] += vf_load_n(add + i * job->add_stride + n0, n1);
        }
    }
}

SIMD void tile_finish(vf acc[][2], int m, const struct tile_job *job)
{
    float *c = job->c;
    if (job->n == NR) {
#pragma GCC unroll 12
        for (int i = 0; i < m; i++) {
            vf_store(c + i * job->c_stride, acc[i][0]);
            vf_store(c + i * job->c_stride + LANES, acc[i][1]);
        }
        return;
    }
    int64_t n0 = job->n < LANES ? job->n : LANES, n1 = job->n - n0;
#pragma GCC unroll 12
    for (int i = 0; i < m; i++) {
        vf_store_n(c + i * job->c_stride, acc[i][0], n0);
        vf_store_n(c + i * job->c_stride + n0, acc[i][1], n1);
    }
}

/* m is a constant wherever this is inlined. */
SIMD void tile_of(int m, const struct tile_job *job)
{
    vf acc[MR][2];
    tile_start(acc, m, job);
    const float *b = job->b;
    for (int64_t tap = 0; tap < job->taps; tap++) {
        const float *a[MR];
#pragma GCC unroll 12
        for (int i = 0; i < m; i++) a[i] = job->rows[tap * m + i] + job->offset;
        for (int64_t k = 0; k < job->k; k++) {
            vf b0 = vf_load(b), b1 = vf_load(b + LANES);
            b += NR;
#pragma GCC unroll 12
            for (int i = 0; i < m; i++) {
                vf s = vf_set(a[i][k]);
                acc[i][0] = vf_fma(s, b0, acc[i][0]);
                acc[i][1] = vf_fma(s, b1, acc[i][1]);
            }
        }
    }
    tile_finish(acc, m, job);
}

static void tile(int m, const struct tile_job *job)
{
    switch (m) {
    case 1: tile_of(1, job); break;
    case 2: tile_of(2, job); break;
    case 3: tile_of(3, job); break;
    case 4: tile_of(4, job); break;
    case 5: tile_of(5, job); break;
    case 6: tile_of(6, job); break;
#if defined(LK_ISA_avx512)
    case 7: tile_of(7, job); break;
    case 8: tile_of(8, job); break;
    case 9: tile_of(9, job); break;
    case 10: tile_of(10, job); break;
    case 11: tile_of(11, job); break;
    case 12: tile_of(12, job); break;
#endif
    }
}

static void expand(float *out, const uint16_t *in, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) vf_store(out + i, vf_load_bf16(in + i));
    for (; i < n; i++) out[i] = bf16_to_float(in[i]);
}

static void narrow(uint16_t *out, const float *in, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) vf_store_bf16(out + i, vf_load(in + i));
    for (; i < n; i++) out[i] = bf16_from_float(in[i]);
}

/* Blocks of 8 x 8, which the compiler keeps in registers and cache lines. */
static void transpose(float *restrict out, int64_t out_stride, const float *restrict in,
                      int64_t in_stride, int64_t rows, int64_t columns)
{
    for (int64_t r0 = 0; r0 < rows; r0 += 8) {
        int64_t r1 = r0 + 8 < rows ? r0 + 8 : rows;
        for (int64_t c = 0; c < columns; c++)
            for (int64_t r = r0; r < r1; r++) out[c * out_stride + r] = in[r * in_stride + c];
    }
}

const struct product_kernels ISA(product_kernels) = {
    .mr = MR,
    .nr = NR,
    .tile = tile,
    .expand = expand,
    .narrow = narrow,
    .transpose = transpose,
};
