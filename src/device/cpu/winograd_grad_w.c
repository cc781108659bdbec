/* SPDX-License-Identifier: Apache-2.0
 *
 * winograd_grad_w: the gradient by the weight of 3x3 convolutions of stride 1, by the transforms of
 * F(4x4,3x3): dw = G' [ sum over tiles of (A dy A') * (B' x B) ] G, 36 products per tile of 16
 * pixels in place of 144. Both operands are transformed once, in blocks that a thread can keep
 * near:
 *
 *   d [blocks of outputs][36][tiles][o_width], v [blocks of channels][36][tiles][c_width]
 *
 * Then each pair of blocks is a piece: 36 products over the tiles, whose sums stay in the
 * second-level cache until they are folded into dw. Where there are too many tiles for d and v at
 * once they are taken in turns. Tiles are added in one order for any number of threads. */
#include "device/cpu/grad_w.h"

enum {
    LINE = 16,
    O_BLOCK = 48, /* a multiple of every mr, an odd number of lines */
    C_BLOCK = 48,
    O_LEAST = 12, /* what a piece's outputs are cut down to, for every thread to have some */
    PIECES_A_THREAD = 4,
    K_BLOCK = 128,           /* tiles: a block of them of d stays in the first-level cache */
    OPERANDS_MOST = 48 << 20 /* bytes of d and v */
};

/* Costs in multiply-adds; they are measured: per weight, and per tile and channel or output. */
enum { COST_FOLD = 200, COST_TILE = 200 };

struct plan {
    int64_t tiles_y, tiles_x, tiles;
    int64_t o_block, c_block; /* outputs, channels of a block */
    int64_t o_width, c_width; /* as they lie in d, in v */
    int64_t o_blocks, c_blocks;
    int64_t o_part;                       /* outputs of a block that are a piece's */
    int64_t turn;                         /* tiles at a time */
    int64_t d_stride, v_stride, s_stride; /* from point to point */
    size_t d_bytes, v_bytes, s_bytes;
};

/* An odd number of lines: whatever stands so far apart is spread in the cache. */
static int64_t width_of(int64_t n) { return (ceil_div(n, LINE) | 1) * LINE; }

static int64_t parts_of(const struct plan *q) { return ceil_div(q->o_block, q->o_part); }
static int64_t pieces_of(const struct plan *q) { return q->o_blocks * parts_of(q) * q->c_blocks; }

static struct plan plan_of(const device *d, const product *p)
{
    int64_t nr = cpu_kernels_of(d)->product->nr;
    struct plan q = {.tiles_y = ceil_div(p->oh, WINO_OUT), .tiles_x = ceil_div(p->ow, WINO_OUT)};
    q.tiles = p->batch * q.tiles_y * q.tiles_x;
    q.o_block = least(p->o, O_BLOCK);
    q.c_block = ceil_div(least(p->c, C_BLOCK), nr) * nr;
    q.o_width = width_of(q.o_block);
    q.c_width = width_of(q.c_block);
    q.o_blocks = ceil_div(p->o, q.o_block);
    q.c_blocks = ceil_div(p->c, q.c_block);
    int64_t numbers = WINO_POINTS * (q.o_blocks * q.o_width + q.c_blocks * q.c_width);
    int64_t turns = ceil_div(q.tiles * numbers * (int64_t)sizeof(float), OPERANDS_MOST);
    q.turn = ceil_div(q.tiles, turns);
    q.d_stride = q.turn * q.o_width + LINE;
    q.v_stride = q.turn * q.c_width + LINE;
    q.o_part = q.o_block;
    while (d->threads > 1 && q.o_part > O_LEAST && pieces_of(&q) < PIECES_A_THREAD * d->threads)
        q.o_part /= 2;
    q.s_stride = q.o_part * q.c_block + LINE;
    q.d_bytes = round_line((size_t)(q.o_blocks * WINO_POINTS * q.d_stride) * sizeof(float));
    q.v_bytes = round_line((size_t)(q.c_blocks * WINO_POINTS * q.v_stride) * sizeof(float));
    q.s_bytes = round_line((size_t)(WINO_POINTS * q.s_stride) * sizeof(float));
    return q;
}

bool winograd_grad_w_pays(const product *p, const struct product_kernels *kernel)
{
    if (p->kh != 3 || p->kw != 3 || p->stride != 1 || p->spread != 1) return false;
    double c = (double)(ceil_div(p->c, kernel->nr) * kernel->nr), o = (double)p->o;
    double tiles = (double)(p->batch * ceil_div(p->oh, WINO_OUT) * ceil_div(p->ow, WINO_OUT));
    double direct = (double)product_rows(p) * WINO_TAPS * c * o;
    double winograd = tiles * WINO_POINTS * c * o + COST_FOLD * c * o + COST_TILE * tiles * (c + o);
    return winograd < direct;
}

size_t winograd_grad_w_scratch(const device *d, const product *p)
{
    struct plan q = plan_of(d, p);
    return q.d_bytes + q.v_bytes + (size_t)d->threads * q.s_bytes;
}

/* A run; first, count: the tiles of this turn. */
typedef struct wino_job {
    const struct cpu_kernels *kernels;
    const product *p;
    const struct plan *q;
    const void *dy, *x;
    float *d, *v, *dw;
    char *scratch; /* of the threads */
    int64_t first, count;
    int pieces; /* of the transforms */
} wino_job;

/* The pixels [y0, y0 + side) x [x0, x0 + side) of sample b of a map, from channel c on. */
static void pixels_of(const void *pixel[], const void *map, size_t size, int64_t b, int64_t h,
                      int64_t w, int64_t channels, int64_t y0, int64_t x0, int side, int64_t c,
                      const float *zero)
{
    for (int i = 0; i < side * side; i++) {
        int64_t y = y0 + i / side, x = x0 + i % side;
        bool inside = y >= 0 && y < h && x >= 0 && x < w;
        int64_t at = ((b * h + y) * w + x) * channels + c;
        pixel[i] = inside ? (const char *)map + (size_t)at * size : (const void *)zero;
    }
}

/* Transforms one block of one tile: the blocks of outputs come first. */
static void transform(const wino_job *j, int64_t tile, int64_t block)
{
    const product *p = j->p;
    const struct plan *q = j->q;
    int64_t at = tile - j->first, x0 = tile % q->tiles_x * WINO_OUT;
    int64_t y0 = tile / q->tiles_x % q->tiles_y * WINO_OUT, b = tile / (q->tiles_x * q->tiles_y);
    const void *pixel[WINO_POINTS];
    if (block < q->o_blocks) {
        int64_t o = block * q->o_block;
        pixels_of(pixel, j->dy, dtype_size(p->y_type), b, p->oh, p->ow, p->o, y0, x0, WINO_OUT, o,
                  p->zero);
        j->kernels->grad_w->spread(j->d + block * WINO_POINTS * q->d_stride + at * q->o_width,
                                   q->d_stride, pixel, p->y_type, least(p->o - o, q->o_block));
        return;
    }
    block -= q->o_blocks;
    int64_t c = block * q->c_block;
    pixels_of(pixel, j->x, dtype_size(p->x_type), b, p->h, p->w, p->c, y0 - p->pad_top,
              x0 - p->pad_left, WINO_IN, c, p->zero);
    j->kernels->winograd->input(j->v + block * WINO_POINTS * q->v_stride + at * q->c_width,
                                q->v_stride, LINE, pixel, p->x_type, least(p->c - c, q->c_block));
}

static void transform_piece(void *context, int piece, int worker)
{
    (void)worker;
    const wino_job *j = context;
    int64_t blocks = j->q->o_blocks + j->q->c_blocks, i, end;
    piece_range(j->count * blocks, 1, piece, j->pieces, &i, &end);
    for (; i < end; i++) transform(j, j->first + i / blocks, i % blocks);
}

/* A part of a block of outputs by a block of channels: the sums s [36][o_part][c_block], then dw.
 */
static void block_piece(void *context, int piece, int worker)
{
    const wino_job *j = context;
    const product *p = j->p;
    const struct plan *q = j->q;
    int64_t nr = j->kernels->product->nr, parts = parts_of(q), in_block = piece % parts * q->o_part;
    int64_t ob = piece / parts % q->o_blocks, cb = piece / parts / q->o_blocks;
    int64_t o = ob * q->o_block + in_block, m = least(q->o_block - in_block, q->o_part);
    int64_t c = cb * q->c_block, n = least(p->c - c, q->c_block);
    if (o >= p->o) return;
    float *s = (float *)(void *)(j->scratch + (size_t)worker * q->s_bytes);
    struct outer_job job = {.a_stride = q->o_width,
                            .a_tile = j->kernels->product->mr,
                            .b_stride = q->c_width,
                            .b_panel = nr,
                            .c_stride = q->c_block,
                            .m = least(p->o - o, m),
                            .n = ceil_div(n, nr) * nr};
    for (int64_t point = 0; point < WINO_POINTS; point++) {
        job.c = s + point * q->s_stride;
        for (int64_t k = 0; k < j->count; k += K_BLOCK) {
            job.a = j->d + (ob * WINO_POINTS + point) * q->d_stride + k * q->o_width + in_block;
            job.b = j->v + (cb * WINO_POINTS + point) * q->v_stride + k * q->c_width;
            job.k = least(j->count - k, K_BLOCK);
            job.go_on = k > 0;
            j->kernels->grad_w->outer(&job);
        }
    }
    for (int64_t i = 0; i < job.m; i++)
        j->kernels->grad_w->fold(j->dw + ((o + i) * p->c + c) * WINO_TAPS, s + i * q->c_block,
                                 q->s_stride, n, j->first > 0);
}

void winograd_grad_w_run(device *d, const product *p, const void *dy, const void *x, float *dw,
                         char *scratch)
{
    struct plan q = plan_of(d, p);
    wino_job j = {.kernels = cpu_kernels_of(d), .p = p, .q = &q, .dy = dy, .x = x, .dw = dw};
    j.d = (float *)(void *)scratch;
    j.v = (float *)(void *)(scratch + q.d_bytes);
    j.scratch = scratch + q.d_bytes + q.v_bytes;
    for (; j.first < q.tiles; j.first += q.turn) {
        j.count = least(q.tiles - j.first, q.turn);
        int64_t numbers = WINO_POINTS * j.count * (p->c + p->o);
        j.pieces = cpu_pieces(d, numbers);
        cpu_deal(d, numbers, j.pieces, transform_piece, &j);
        cpu_deal(d, WINO_POINTS * j.count * p->c * p->o, (int)pieces_of(&q), block_piece, &j);
    }
}
