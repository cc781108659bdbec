/* SPDX-License-Identifier: Apache-2.0
 *
 * simd_product: the register tile that every float32 product and convolution is made of. The sums
 * of a tile stay in registers: mr rows of two vectors; each k costs two loads of the packed weight
 * and one broadcast per row. */
#include "device/cpu/product.h"
#include "device/cpu/simd_transpose.h"

#if defined(LK_ISA_avx512)
enum { MR = 12 };
#elif defined(LK_ISA_avx2)
enum { MR = 6 };
#else
enum { MR = 6 };
#endif
enum { NR = 2 * LANES };
enum { ROWS_AHEAD = 16 }; /* of a weight that is read across its rows */

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

SIMD vf load_panel(const char *b, dtype type, int64_t i)
{
    return type == DTYPE_F16 ? vf_load_f16((const uint16_t *)(const void *)b + i)
                             : vf_load((const float *)(const void *)b + i);
}

/* m and type are constants wherever this is inlined. */
SIMD void tile_as(int m, const struct tile_job *job, dtype type)
{
    vf acc[MR][2];
    tile_start(acc, m, job);
    const char *b = job->b;
    for (int64_t tap = 0; tap < job->taps; tap++) {
        const float *a[MR];
#pragma GCC unroll 12
        for (int i = 0; i < m; i++) a[i] = job->rows[tap * m + i] + job->offset;
        for (int64_t k = 0; k < job->k; k++) {
            vf b0 = load_panel(b, type, 0), b1 = load_panel(b, type, LANES);
            b += NR * (type == DTYPE_F16 ? 2 : 4);
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

SIMD void tile_of(int m, const struct tile_job *job) { tile_as(m, job, DTYPE_F32); }
SIMD void tile_of_f16(int m, const struct tile_job *job) { tile_as(m, job, DTYPE_F16); }

SIMD void points_of(int m, const struct points_job *job)
{
    const float *a = job->a, *b = job->b;
    float *c = job->c;
    for (int64_t point = 0; point < job->points; point++) {
        vf acc[MR][2];
#pragma GCC unroll 12
        for (int i = 0; i < m; i++) {
            acc[i][0] = job->go_on ? vf_load(c + i * NR) : vf_zero();
            acc[i][1] = job->go_on ? vf_load(c + i * NR + LANES) : vf_zero();
        }
        for (int64_t k = 0; k < job->k; k++) {
            vf b0 = vf_load(b + k * job->b_row), b1 = vf_load(b + k * job->b_row + LANES);
#pragma GCC unroll 12
            for (int i = 0; i < m; i++) {
                vf s = vf_set(a[i * job->a_row + k]);
                acc[i][0] = vf_fma(s, b0, acc[i][0]);
                acc[i][1] = vf_fma(s, b1, acc[i][1]);
            }
        }
#pragma GCC unroll 12
        for (int i = 0; i < m; i++) {
            vf_store(c + i * NR, acc[i][0]);
            vf_store(c + i * NR + LANES, acc[i][1]);
        }
        a += job->a_stride;
        b += job->b_stride;
        c += job->c_stride;
    }
}

/* `of` for each number of rows, which is a constant in it */
#if defined(LK_ISA_avx512)
#define MORE_ROWS(of)                                                                              \
    case 7: of(7, job); break;                                                                     \
    case 8: of(8, job); break;                                                                     \
    case 9: of(9, job); break;                                                                     \
    case 10: of(10, job); break;                                                                   \
    case 11: of(11, job); break;                                                                   \
    case 12:                                                                                       \
        of(12, job);                                                                               \
        break;
#else
#define MORE_ROWS(of)
#endif
#define ROWS(of)                                                                                   \
    switch (m) {                                                                                   \
    case 1: of(1, job); break;                                                                     \
    case 2: of(2, job); break;                                                                     \
    case 3: of(3, job); break;                                                                     \
    case 4: of(4, job); break;                                                                     \
    case 5: of(5, job); break;                                                                     \
    case 6:                                                                                        \
        of(6, job);                                                                                \
        break;                                                                                     \
        MORE_ROWS(of)                                                                              \
    }

static void tile(int m, const struct tile_job *job)
{
    if (job->b_type == DTYPE_F16)
        ROWS(tile_of_f16)
    else
        ROWS(tile_of)
}

static void points(int m, const struct points_job *job) { ROWS(points_of) }

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

static void halve(uint16_t *out, const float *in, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) vf_store_f16(out + i, vf_load(in + i));
    for (; i < n; i++) out[i] = half_from_float(in[i]);
}

SIMD vf load_weight(const void *p, dtype type, int64_t i)
{
    if (type == DTYPE_F32) return vf_load((const float *)p + i);
    return type == DTYPE_F16 ? vf_load_f16((const uint16_t *)p + i)
                             : vf_load_bf16((const uint16_t *)p + i);
}

SIMD vf load_weight_n(const void *p, dtype type, int64_t i, int64_t n)
{
    if (n == LANES) return load_weight(p, type, i);
    if (type == DTYPE_F32) return vf_load_n((const float *)p + i, n);
    uint16_t part[LANES] = {0};
    memcpy(part, (const uint16_t *)p + i, (size_t)n * sizeof part[0]);
    return load_weight(part, type, 0);
}

/* Numbers i of a row of the weight are (k, tap) = (i / taps, i % taps). */
SIMD void pack_straight(const struct pack_job *job, dtype type)
{
    int64_t numbers = job->count * job->taps;
    for (int64_t half = 0; half < NR; half += LANES) {
        float *k_out = job->out + half;
        int tap = 0;
        for (int64_t i = 0; i < numbers; i += LANES) {
            int64_t n = numbers - i < LANES ? numbers - i : LANES;
            vf row[LANES];
#pragma GCC unroll 16
            for (int r = 0; r < LANES; r++)
                row[r] = half + r < job->columns
                             ? load_weight_n(job->w, type, (half + r) * job->row + i, n)
                             : vf_zero();
            transpose_square(row);
            for (int l = 0; l < n; l++) {
                vf_store(k_out + tap * job->tap_stride, row[l]);
                if (++tap < job->taps) continue;
                tap = 0;
                k_out += NR;
            }
        }
    }
}

/* n numbers of the weight from i on as float32: where they lie, or in `wide`. */
SIMD const float *widened(float *wide, const void *w, dtype type, int64_t i, int64_t n)
{
    if (type == DTYPE_F32 && (uintptr_t)w % sizeof(float) == 0) return (const float *)w + i;
    for (int64_t j = 0; j < n; j += LANES)
        vf_store(wide + j, load_weight_n(w, type, i + j, n - j < LANES ? n - j : LANES));
    return wide;
}

/* One tap: a row of the panel is a piece of a row of the weight. */
SIMD void pack_rows(const struct pack_job *job, dtype type)
{
    int64_t n0 = job->columns < LANES ? job->columns : LANES, n1 = job->columns - n0;
    int64_t size = type == DTYPE_F32 ? 4 : 2;
    for (int64_t k = 0; k < job->count; k++) {
        const char *ahead = (const char *)job->w + (k + ROWS_AHEAD) * job->row * size;
        if (k + ROWS_AHEAD < job->count) __builtin_prefetch(ahead);
        vf_store(job->out + k * NR, load_weight_n(job->w, type, k * job->row, n0));
        vf_store(job->out + k * NR + LANES, load_weight_n(job->w, type, k * job->row + n0, n1));
    }
}

/* LANES columns of one k, `there` of them in the weight: `in` [there][taps], which ends at `end`.
 * The taps run backwards. */
SIMD void turn_taps(float *out, int64_t tap_stride, const float *in, const float *end, int there,
                    int taps)
{
    int tap = 0;
    for (; taps - tap > 1; tap += LANES) {
        int64_t n = taps - tap < LANES ? taps - tap : LANES;
        vf row[LANES];
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++) {
            const float *from = in + j * taps + tap;
            row[j] = j >= there            ? vf_zero()
                     : end - from >= LANES ? vf_load(from)
                                           : vf_load_n(from, n);
        }
        transpose_square(row);
        for (int l = 0; l < n; l++) vf_store(out + (taps - 1 - tap - l) * tap_stride, row[l]);
    }
    if (tap >= taps) return;
    float last[LANES] = {0};
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++)
        if (j < there) last[j] = in[j * taps + tap];
    vf_store(out + (taps - 1 - tap) * tap_stride, vf_load(last));
}

/* Columns lie side by side in a row of the weight, their taps innermost. */
SIMD void pack_transposed(const struct pack_job *job, dtype type)
{
    float wide[NR * PACK_TAPS_MAX];
    int taps = job->taps, columns = (int)job->columns;
    if (taps == 1) {
        pack_rows(job, type);
        return;
    }
    for (int64_t k = 0; k < job->count; k++) {
        const float *in = widened(wide, job->w, type, k * job->row, columns * taps);
        const float *end = in + columns * taps;
        float *out = job->out + k * NR;
        bool more = k + 1 < job->count; /* what follows may be read */
        if (more && type == DTYPE_F32)
            for (int i = 0; i < columns * taps; i += 16) __builtin_prefetch(in + job->row + i);
        if (more && columns == NR) {
            turn_taps(out, job->tap_stride, in, end + LANES, LANES, taps);
            turn_taps(out + LANES, job->tap_stride, in + LANES * taps, end + LANES, LANES, taps);
        } else {
            turn_taps(out, job->tap_stride, in, end, columns, taps);
            turn_taps(out + LANES, job->tap_stride, in + LANES * taps, end, columns - LANES, taps);
        }
    }
}

static void pack(const struct pack_job *job)
{
    switch (job->type) {
    case DTYPE_F32:
        if (job->transposed)
            pack_transposed(job, DTYPE_F32);
        else
            pack_straight(job, DTYPE_F32);
        break;
    case DTYPE_F16:
        if (job->transposed)
            pack_transposed(job, DTYPE_F16);
        else
            pack_straight(job, DTYPE_F16);
        break;
    default:
        if (job->transposed)
            pack_transposed(job, DTYPE_BF16);
        else
            pack_straight(job, DTYPE_BF16);
    }
}

const struct product_kernels ISA(product_kernels) = {
    .mr = MR,
    .nr = NR,
    .reads_f16 = LANES > 4, /* by an instruction */
    .pack = pack,
    .tile = tile,
    .points = points,
    .expand = expand,
    .narrow = narrow,
    .halve = halve,
};
