/* SPDX-License-Identifier: Apache-2.0
 *
 * grad_w: the gradient by the weight, dw[o][c][tap] = sum over rows of dy[row][o] * x[row moved by
 * tap][c]. It is a product whose sum runs over pixels: blocks of pixels of dy are transposed to be
 * the tile's rows, and x's rows are copied into panels. Each thread owns a rectangle of dw (outputs
 * x panels of all taps) and adds every pixel to it in one order, for any number of threads. */
#include <string.h>

#include "device/cpu/product.h"

enum { PIXELS = 256 };

/* dw before its taps are moved innermost: [tap][o][c]. */
static size_t sums_bytes(const product *p)
{
    if (product_taps(p) == 1) return 0;
    return round_line((size_t)(product_taps(p) * p->o * p->c) * sizeof(float));
}

static size_t wide_bytes(dtype type, int64_t n)
{
    return type == DTYPE_F32 ? 0 : round_line((size_t)n * sizeof(float));
}

struct own {
    float *turned;      /* [o][PIXELS] of dy */
    float *panel;       /* [PIXELS][nr] of x */
    const float **rows; /* [o] */
};

static size_t own_bytes(const product *p, int nr, struct own *own, char *at)
{
    size_t turned = round_line((size_t)(p->o * PIXELS) * sizeof(float));
    size_t panel = round_line((size_t)(PIXELS * nr) * sizeof(float));
    if (own) *own = (struct own){(float *)(void *)at, (float *)(void *)(at + turned),
                                 (const float **)(void *)(at + turned + panel)};
    return turned + panel + round_line((size_t)p->o * sizeof(float *));
}

size_t grad_w_scratch(const device *d, const product *p)
{
    return sums_bytes(p) + wide_bytes(p->x_type, p->batch * p->h * p->w * p->c) +
           wide_bytes(p->y_type, product_rows(p) * p->o) +
           (size_t)d->threads * own_bytes(p, cpu_kernels_of(d)->product->nr, NULL, NULL);
}

/* x's rows for output pixels [row, row + count) at `tap`, channels [c, c + n), as a panel. */
static void panel_gather(float *panel, int nr, const product *p, const float *x, int64_t row,
                         int64_t count, int tap, int64_t c, int64_t n)
{
    for (int64_t i = 0; i < count; i++) {
        const float *from = product_row(p, x, row + i, tap) + c;
        float *to = panel + i * nr;
        if (n == nr) {
            memcpy(to, from, (size_t)nr * sizeof(float));
        } else {
            memcpy(to, from, (size_t)n * sizeof(float));
            memset(to + n, 0, (size_t)(nr - n) * sizeof(float));
        }
    }
}

/* Outputs [o0, o1), units [u0, u1) of (tap, panel of c). */
static void rectangle_run(const struct product_kernels *kernel, const product *p, const float *dy,
                          const float *x, float *sums, int64_t o0, int64_t o1, int64_t u0,
                          int64_t u1, const struct own *own)
{
    int64_t rows = product_rows(p), nr = kernel->nr, panels = (p->c + nr - 1) / nr;
    int64_t tiles = (o1 - o0 + kernel->mr - 1) / kernel->mr;
    for (int64_t i = 0; i < o1 - o0; i++) own->rows[i] = own->turned + i * PIXELS;
    for (int64_t row = 0; row < rows; row += PIXELS) {
        int64_t count = rows - row < PIXELS ? rows - row : PIXELS;
        kernel->transpose(own->turned, PIXELS, dy + row * p->o + o0, p->o, count, o1 - o0);
        for (int64_t unit = u0; unit < u1; unit++) {
            int tap = (int)(unit / panels);
            int64_t c = unit % panels * nr, n = p->c - c < nr ? p->c - c : nr;
            panel_gather(own->panel, (int)nr, p, x, row, count, tap, c, n);
            for (int64_t i = 0; i < tiles; i++) {
                int64_t begin = (o1 - o0) * i / tiles, end = (o1 - o0) * (i + 1) / tiles;
                float *out = sums + (tap * p->o + o0 + begin) * p->c + c;
                struct tile_job job = {
                    .rows = own->rows + begin,
                    .taps = 1,
                    .k = count,
                    .b = own->panel,
                    .add = row > 0 ? out : NULL,
                    .add_stride = p->c,
                    .c = out,
                    .c_stride = p->c,
                    .n = n,
                };
                kernel->tile((int)(end - begin), &job);
            }
        }
    }
}

void grad_w_run(device *d, const product *p, const void *dy, const void *x, float *dw,
                char *scratch)
{
    const struct product_kernels *kernel = cpu_kernels_of(d)->product;
    int taps = product_taps(p), threads = d->threads, nr = kernel->nr;
    float *sums = taps == 1 ? dw : (float *)(void *)scratch;
    int64_t x_count = p->batch * p->h * p->w * p->c, y_count = product_rows(p) * p->o;
    scratch += sums_bytes(p);
    if (p->x_type != DTYPE_F32) {
        product_widen(d, threads, (float *)(void *)scratch, x, p->x_type, x_count);
        x = scratch;
        scratch += wide_bytes(p->x_type, x_count);
    }
    if (p->y_type != DTYPE_F32) {
        product_widen(d, threads, (float *)(void *)scratch, dy, p->y_type, y_count);
        dy = scratch;
        scratch += wide_bytes(p->y_type, y_count);
    }
    int64_t units = taps * ((p->c + nr - 1) / nr);
    int grid_m = 1, grid_n = 1;
    grid_choose(threads, p->o, units * nr, kernel->mr, nr, &grid_m, &grid_n);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        int64_t o0, o1, u0, u1;
        thread_range(p->o, kernel->mr, t / grid_n, grid_m, &o0, &o1);
        thread_range(units, 1, t % grid_n, grid_n, &u0, &u1);
        struct own own;
        size_t bytes = own_bytes(p, nr, NULL, NULL);
        own_bytes(p, nr, &own, scratch + (size_t)t * bytes);
        if (o1 > o0 && u1 > u0)
            rectangle_run(kernel, p, dy, x, sums, o0, o1, u0, u1, &own);
    }
    if (taps == 1) return;
    int64_t n = p->o * p->c;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; i++)
        for (int tap = 0; tap < taps; tap++) dw[i * taps + tap] = sums[tap * n + i];
}
