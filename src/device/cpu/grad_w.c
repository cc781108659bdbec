/* SPDX-License-Identifier: Apache-2.0
 *
 * grad_w: the gradient by the weight, dw[o][c][tap] = sum over rows of dy[row][o] * x[row moved by
 * tap][c]. It is a product whose sum runs over pixels: blocks of pixels of dy are transposed to be
 * the tile's rows, and x's rows are copied into panels. dw is dealt out in rectangles (outputs x
 * panels of all taps), and every pixel is added to each in one order, for any number of threads. */
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
    if (own)
        *own = (struct own){(float *)(void *)at, (float *)(void *)(at + turned),
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

typedef struct grad_w_job {
    const struct product_kernels *kernel;
    const product *p;
    const float *dy, *x;
    float *sums, *dw;
    char *scratch; /* of the threads */
    int64_t units; /* of (tap, panel of c) */
    int grid_m, grid_n;
    int pieces; /* of the last pass */
} grad_w_job;

static void rectangle_piece(void *context, int piece, int worker)
{
    const grad_w_job *j = context;
    int64_t o0, o1, u0, u1;
    struct own own;
    size_t bytes = own_bytes(j->p, j->kernel->nr, NULL, NULL);
    own_bytes(j->p, j->kernel->nr, &own, j->scratch + (size_t)worker * bytes);
    piece_range(j->p->o, j->kernel->mr, piece / j->grid_n, j->grid_m, &o0, &o1);
    piece_range(j->units, 1, piece % j->grid_n, j->grid_n, &u0, &u1);
    if (o1 > o0 && u1 > u0)
        rectangle_run(j->kernel, j->p, j->dy, j->x, j->sums, o0, o1, u0, u1, &own);
}

/* The taps moved innermost. */
static void taps_piece(void *context, int piece, int worker)
{
    (void)worker;
    const grad_w_job *j = context;
    int taps = product_taps(j->p);
    int64_t n = j->p->o * j->p->c, i, end;
    piece_range(n, 16, piece, j->pieces, &i, &end);
    for (; i < end; i++)
        for (int tap = 0; tap < taps; tap++) j->dw[i * taps + tap] = j->sums[tap * n + i];
}

void grad_w_run(device *d, const product *p, const void *dy, const void *x, float *dw,
                char *scratch)
{
    int64_t x_count = p->batch * p->h * p->w * p->c, y_count = product_rows(p) * p->o;
    int64_t w_count = product_taps(p) * p->o * p->c;
    grad_w_job j = {.kernel = cpu_kernels_of(d)->product, .p = p, .dw = dw};
    int nr = j.kernel->nr;
    j.sums = product_taps(p) == 1 ? dw : (float *)(void *)scratch;
    scratch += sums_bytes(p);
    if (p->x_type != DTYPE_F32) {
        product_widen(d, (float *)(void *)scratch, x, p->x_type, x_count);
        x = scratch;
        scratch += wide_bytes(p->x_type, x_count);
    }
    if (p->y_type != DTYPE_F32) {
        product_widen(d, (float *)(void *)scratch, dy, p->y_type, y_count);
        dy = scratch;
        scratch += wide_bytes(p->y_type, y_count);
    }
    j.x = x, j.dy = dy, j.scratch = scratch;
    j.units = product_taps(p) * ((p->c + nr - 1) / nr);
    /* each rectangle turns its part of dy and gathers its part of x: few of them */
    grid_choose(d->threads, 1, p->o, j.units * nr, j.kernel->mr, nr, &j.grid_m, &j.grid_n);
    cpu_deal(d, product_rows(p) * w_count, j.grid_m * j.grid_n, rectangle_piece, &j);
    if (product_taps(p) == 1) return;
    j.pieces = cpu_pieces(d, w_count);
    cpu_deal(d, w_count, j.pieces, taps_piece, &j);
}
