/* SPDX-License-Identifier: Apache-2.0
 *
 * winograd: 3x3 convolutions of stride 1 by F(4x4,3x3): 36 products per tile of 16 pixels in place
 * of 144; or, where the map's sides waste little of larger tiles, by F(6x6,3x3): 64 per tile of 36
 * pixels in place of 324. The transformed weight is 4 or 7 times the weight, so it is never kept:
 * it is made in every call, which costs as much as the product of two or three tiles. Of the two
 * transformed operands the smaller is made whole first. Then rectangles (some tiles, some panels of
 * the weight) are dealt out, and each makes its part of the other operand, does the products and
 * transforms their sums:
 *
 *   weights first (large maps): input -> v; products; output
 *   input first (small maps):   filter -> u; products; output
 *
 * So rectangles of the same tiles, or of the same panels, make the same part each for itself: that
 * is a small share of their products, and nobody waits for it.
 *
 * Of a map that was upsampled to twice its size the transform is zero in the row and the column of
 * the point -1, where two equal pixels after each other cancel: 25 products are left of 36, 49 of
 * 64.
 *
 * Layouts: v [points][tiles][channels], u [panels][points][k][nr], m [points][panels][tiles][nr];
 * the strides of the points are kept off powers of two, which would all fall into the same lines of
 * the cache. */
#include "device/cpu/winograd.h"

#include <string.h>

enum { LINE = 16, K_BLOCK = 640, TILE_BLOCK = 48 }; /* weights first */
enum { MADE_K = 64 }; /* channels of a panel that are packed at a time, where it is not kept */

/* Input first: how much of u and m is made at a time, by the number of tiles. u is used once per
 * tile, so with few tiles it should stay in the second-level cache; with many, v is what is read
 * most, once per block of columns. Measured on Zen 3 (1280 channels at 8 and 16, 640 at 32, 512 at
 * 64). */
static const struct {
    int64_t tiles_below, k_block, columns;
} input_first_blocks[] = {{17, 16, 16}, {64, 320, 32}, {INT64_MAX, 640, 128}};
enum { INPUT_FIRST_TILES = 256 }; /* of a rectangle, at most */

/* Costs in multiply-adds; they are measured, for tiles of 36 points: per weight, and per tile and
 * channel. SAMPLES is the batch that they are compared for, whatever the true one: a sample has the
 * same bytes in every batch. */
enum { COST_FILTER = 80, COST_INPUT = 200, COST_OUTPUT = 150, SAMPLES = 2 };
/* What a tile or a column of a rectangle costs besides its products, in products of one with the
 * other: making its part of an operand (the two above, over 36), or reading it from the memory. */
enum { COST_EDGE = 6, RECTANGLES_A_THREAD = 8 };

enum { POINT_MINUS_1 = 2 }; /* its row, and its column, of a transformed tile */

struct plan {
    const struct winograd_kernels *kernel; /* of the size of tiles that costs less */
    int64_t tiles_y, tiles_x, tiles;
    int64_t panels, c_lines;
    bool weights_first, thin;
    bool squares;         /* the points of row and column POINT_MINUS_1 are zero */
    int64_t block, group; /* tiles and panels of the largest rectangle */
    int64_t k_block;
    int64_t v_row, v_stride, v_line;  /* floats: of a tile, of a point, from 16 channels to 16 */
    int64_t u_row, u_stride, u_panel; /* of a channel, of a point, of a panel */
    int64_t m_panel, m_stride;
    size_t shared, own; /* bytes of scratch: of all, of each thread */
    size_t v_bytes, u_bytes, m_bytes, made_bytes;
};

static double cost_of(const product *p, int nr, int out, int points)
{
    double c = (double)p->c, o = (double)(ceil_div(p->o, nr) * nr);
    double tiles = (double)(SAMPLES * ceil_div(p->oh, out) * ceil_div(p->ow, out));
    double transforms = COST_FILTER * c * o + tiles * c * COST_INPUT + tiles * o * COST_OUTPUT;
    return tiles * points * c * o + transforms * points / WINO_POINTS;
}

bool winograd_pays(const product *p, int nr)
{
    if (p->kh != 3 || p->kw != 3 || p->stride != 1 || p->spread != 1 || p->c < LINE) return false;
    double c = (double)p->c, o = (double)(ceil_div(p->o, nr) * nr);
    double direct = (double)(SAMPLES * p->oh * p->ow) * WINO_TAPS * c * o;
    return cost_of(p, nr, WINO_OUT, WINO_POINTS) < direct;
}

/* Larger tiles round more, and long sums do: with more channels than that smaller tiles are taken.
 */
enum { LARGER_CHANNELS = 1024 };

/* The size of tiles that costs less. */
static const struct winograd_kernels *size_of(const device *d, const product *p)
{
    const struct winograd_kernels *k = cpu_kernels_of(d)->winograd;
    int nr = cpu_kernels_of(d)->product->nr;
    bool larger = cost_of(p, nr, k[1].out, k[1].points) < cost_of(p, nr, k[0].out, k[0].points);
    return &k[larger && p->c <= LARGER_CHANNELS ? 1 : 0];
}

/* The shape's part of a plan. */
static struct plan plan_shape(const device *d, const product *p)
{
    const struct winograd_kernels *size = size_of(d, p);
    int64_t nr = cpu_kernels_of(d)->product->nr;
    struct plan q = {.kernel = size,
                     .tiles_y = ceil_div(p->oh, size->out),
                     .tiles_x = ceil_div(p->ow, size->out)};
    q.tiles = p->batch * q.tiles_y * q.tiles_x;
    q.panels = ceil_div(p->o, nr);
    q.c_lines = ceil_div(p->c, LINE);
    q.weights_first = q.panels * nr <= q.tiles;
    /* a tile's second pixel begins a square */
    q.squares = p->doubled && p->pad_top == 1 && p->pad_left == 1 && p->h % 2 + p->w % 2 == 0;
    return q;
}

static int input_first_row(const struct plan *q)
{
    int row = 0;
    while (q->tiles >= input_first_blocks[row].tiles_below) row++;
    return row;
}

void winograd_cut(const device *d, product *p)
{
    const struct product_kernels *kernel = cpu_kernels_of(d)->product;
    struct plan q = plan_shape(d, p);
    int64_t columns = input_first_blocks[input_first_row(&q)].columns;
    grid_cut(&(struct grid){.threads = d->threads,
                            .a_thread = RECTANGLES_A_THREAD,
                            .m = q.tiles,
                            .n = p->o,
                            .mr = kernel->mr,
                            .nr = kernel->nr,
                            .edge_m = COST_EDGE,
                            .edge_n = COST_EDGE,
                            .m_most = q.weights_first ? TILE_BLOCK : INPUT_FIRST_TILES,
                            .n_most = q.weights_first ? 0 : columns},
             &p->grid_m, &p->grid_n);
}

/* The largest piece of n in steps, cut as piece_range does. */
static int64_t piece_most(int64_t n, int64_t step, int pieces)
{
    int64_t most = ceil_div(ceil_div(n, step), pieces) * step;
    return most < n ? most : n;
}

static struct plan plan_of(const device *d, const product *p)
{
    const struct product_kernels *kernel = cpu_kernels_of(d)->product;
    int64_t nr = kernel->nr;
    struct plan q = plan_shape(d, p);
    int64_t points = q.kernel->points;
    int64_t k_most = q.weights_first ? K_BLOCK : input_first_blocks[input_first_row(&q)].k_block;
    q.block = piece_most(q.tiles, kernel->mr, p->grid_m);
    q.group = piece_most(q.panels, 1, p->grid_n);
    q.thin = !q.weights_first && input_first_row(&q) == 0;
    q.k_block = q.thin ? k_most : ceil_div(p->c, ceil_div(p->c, k_most));
    int64_t u_rows = q.weights_first ? p->c : q.k_block;
    q.u_row = q.thin ? points * nr : nr;
    q.u_stride = q.thin ? nr : u_rows * nr + LINE;
    q.u_panel = q.thin ? u_rows * q.u_row : points * q.u_stride;
    int64_t v_tiles = q.weights_first ? q.block : q.tiles;
    int64_t u_panels = q.weights_first ? q.panels : q.group;
    q.v_row = q.thin ? LINE : (q.c_lines | 1) * LINE;
    q.v_stride = v_tiles * q.v_row + LINE;
    q.v_line = q.thin ? points * q.v_stride : LINE;
    q.m_panel = q.block * nr;
    q.m_stride = q.group * q.m_panel + LINE;
    q.v_bytes = round_line((size_t)(points * q.v_stride * (q.thin ? q.c_lines : 1)) *
                           sizeof(float));
    q.u_bytes = round_line((size_t)(u_panels * q.u_panel) * sizeof(float));
    q.m_bytes = round_line((size_t)(points * q.m_stride) * sizeof(float));
    q.shared = q.weights_first ? q.u_bytes : q.v_bytes;
    q.made_bytes = round_line((size_t)(MADE_K * WINO_TAPS * nr) * sizeof(float));
    q.own = (q.weights_first ? q.v_bytes : q.u_bytes) + q.m_bytes + q.made_bytes;
    return q;
}

size_t winograd_scratch(const device *d, const product *p)
{
    struct plan q = plan_of(d, p);
    return q.shared + (size_t)d->threads * q.own;
}

/* Transforms the input of tiles [begin, end) into v. */
static void input_run(const product *p, const struct plan *q, const void *x, int64_t begin,
                      int64_t end, float *v)
{
    size_t size = dtype_size(p->x_type) * (size_t)p->c;
    for (int64_t tile = begin; tile < end; tile++) {
        int64_t x0 = tile % q->tiles_x * q->kernel->out - p->pad_left;
        int64_t y0 = tile / q->tiles_x % q->tiles_y * q->kernel->out - p->pad_top;
        int64_t b = tile / (q->tiles_x * q->tiles_y);
        const void *pixel[WINO_POINTS_MOST];
        for (int i = 0; i < q->kernel->points; i++) {
            int64_t y = y0 + i / q->kernel->in, z = x0 + i % q->kernel->in;
            bool inside = y >= 0 && y < p->h && z >= 0 && z < p->w;
            pixel[i] = inside ? (const char *)x + (size_t)((b * p->h + y) * p->w + z) * size
                              : (const void *)p->zero;
        }
        q->kernel->input(v + (tile - begin) * q->v_row, q->v_stride, q->v_line, pixel, p->x_type,
                         p->c);
    }
}

/* Transforms panels [begin, end), k from `k` on, of the weight into u. made: [MADE_K][taps][nr]. */
static void filter_run(const struct cpu_kernels *kernels, const product *p, const struct plan *q,
                       const array *w, int64_t begin, int64_t end, int64_t k, int64_t count,
                       float *u, float *made)
{
    const void *kept = panels_of(w, p);
    dtype type = panels_type(kernels->product, w, p);
    int64_t nr = kernels->product->nr, tap_stride = p->c * nr;
    for (int64_t panel = begin; panel < end; panel++) {
        float *to = u + (panel - begin) * q->u_panel;
        if (kept) {
            int64_t at = panel * WINO_TAPS * tap_stride + k * nr;
            q->kernel->filter(to, q->u_stride, q->u_row,
                              (const char *)kept + (size_t)at * dtype_size(type), type, tap_stride,
                              count);
            continue;
        }
        for (int64_t i = 0; i < count; i += MADE_K) {
            int64_t some = count - i < MADE_K ? count - i : MADE_K;
            panels_make(kernels->product, made, w, p, panel, k + i, some);
            q->kernel->filter(to + i * q->u_row, q->u_stride, q->u_row, made, DTYPE_F32, some * nr,
                              some);
        }
    }
}

/* How many points from this one on one call multiplies; 0: the sums of this one are zero. */
static int64_t together(const struct plan *q, int64_t point)
{
    int64_t in = q->kernel->in, row = point / in, column = point % in;
    if (!q->squares) return q->thin ? q->kernel->points : 1;
    if (row == POINT_MINUS_1 || column == POINT_MINUS_1) return 0;
    if (!q->thin) return 1;
    return column < POINT_MINUS_1 ? POINT_MINUS_1 - column : in - column;
}

/* m (+)= v u over `count` channels for `tiles` rows of v, which begins at the first of them, and
 * `panels`; u begins at that channel, too. */
static void multiply(const struct product_kernels *kernel, const struct plan *q, const float *v,
                     int64_t tiles, int64_t count, const float *u, int64_t panels, bool go_on,
                     float *m)
{
    int64_t pieces = ceil_div(tiles, kernel->mr), points = q->kernel->points;
    for (int64_t point = 0, some; point < points; point += some ? some : 1) {
        some = together(q, point);
        for (int64_t panel = 0; panel < panels; panel++) {
            if (!some) {
                memset(m + point * q->m_stride + panel * q->m_panel, 0,
                       (size_t)(tiles * kernel->nr) * sizeof *m);
                continue;
            }
            struct points_job job = {
                .points = some,
                .k = count,
                .a_row = q->v_row,
                .a_stride = q->v_stride,
                .b = u + panel * q->u_panel + point * q->u_stride,
                .b_row = q->u_row,
                .b_stride = q->u_stride,
                .c_stride = q->m_stride,
                .go_on = go_on,
            };
            for (int64_t i = 0; i < pieces; i++) {
                int64_t begin = tiles * i / pieces, end = tiles * (i + 1) / pieces;
                job.a = v + point * q->v_stride + begin * q->v_row;
                job.c = m + point * q->m_stride + panel * q->m_panel + begin * kernel->nr;
                kernel->points((int)(end - begin), &job);
            }
        }
    }
}

/* Transforms the sums of tiles [begin, end), panels [panel, panel + panels) into y. */
static void output_run(const product *p, const struct plan *q, const struct product_data *data,
                       int nr, int64_t begin, int64_t end, int64_t panel, int64_t panels,
                       const float *m)
{
    int out = q->kernel->out;
    struct winograd_output job = {
        .m_stride = q->m_stride,
        .add = data->add,
        .y = data->y,
        .add_type = p->add_type,
        .y_type = p->y_type,
        .y_row = p->ow * p->o,
        .y_column = p->o,
    };
    for (int64_t tile = begin; tile < end; tile++) {
        int64_t x0 = tile % q->tiles_x * out, y0 = tile / q->tiles_x % q->tiles_y * out;
        int64_t b = tile / (q->tiles_x * q->tiles_y);
        job.rows = (int)(p->oh - y0 < out ? p->oh - y0 : out);
        job.columns = (int)(p->ow - x0 < out ? p->ow - x0 : out);
        for (int64_t i = 0; i < panels; i++) {
            int64_t n = (panel + i) * nr;
            job.m = m + i * q->m_panel + (tile - begin) * nr;
            job.bias = data->bias ? data->bias + n : NULL;
            job.at = ((b * p->oh + y0) * p->ow + x0) * p->o + n;
            job.n = p->o - n < nr ? p->o - n : nr;
            q->kernel->output(&job);
        }
    }
}

/* A run; pieces: those of its first pass, which makes an operand whole. */
typedef struct wino_job {
    const struct cpu_kernels *kernels;
    const product *p;
    const struct plan *q;
    const struct product_data *data;
    int pieces;
} wino_job;

/* One thread's own scratch. */
struct own {
    float *operand, *m; /* operand: v (weights first) or u (input first) */
    float *made;
};

static struct own own_of(const wino_job *j, int worker)
{
    const struct plan *q = j->q;
    char *at = j->data->scratch + q->shared + (size_t)worker * q->own;
    size_t operand = q->weights_first ? q->v_bytes : q->u_bytes;
    return (struct own){(float *)(void *)at, (float *)(void *)(at + operand),
                        (float *)(void *)(at + operand + q->m_bytes)};
}

/* Weights first: the filters of some panels. */
static void filter_piece(void *context, int piece, int worker)
{
    const wino_job *j = context;
    float *u = (float *)(void *)j->data->scratch;
    int64_t begin, end;
    piece_range(j->q->panels, 1, piece, j->pieces, &begin, &end);
    filter_run(j->kernels, j->p, j->q, j->data->w, begin, end, 0, j->p->c,
               u + begin * j->q->u_panel, own_of(j, worker).made);
}

/* Tiles [begin, end) and panels [first, last) of a rectangle. Those of the same panels follow each
 * other, so that who works at the same time reads the same part of the weight. */
static void rectangle_of(const wino_job *j, int piece, int64_t *begin, int64_t *end, int64_t *first,
                         int64_t *last)
{
    const product *p = j->p;
    piece_range(j->q->tiles, j->kernels->product->mr, piece % p->grid_m, p->grid_m, begin, end);
    piece_range(j->q->panels, 1, piece / p->grid_m, p->grid_n, first, last);
}

/* Weights first: a rectangle. */
static void tiles_piece(void *context, int piece, int worker)
{
    const wino_job *j = context;
    const struct plan *q = j->q;
    const product *p = j->p;
    struct own own = own_of(j, worker);
    int64_t begin, end, panel, last;
    rectangle_of(j, piece, &begin, &end, &panel, &last);
    const float *u = (const float *)(const void *)j->data->scratch + panel * q->u_panel;
    input_run(p, q, j->data->x, begin, end, own.operand);
    for (int64_t k = 0; k < p->c; k += q->k_block) {
        int64_t count = p->c - k < q->k_block ? p->c - k : q->k_block;
        multiply(j->kernels->product, q, own.operand + k, end - begin, count,
                 u + k * j->kernels->product->nr, last - panel, k > 0, own.m);
    }
    output_run(p, q, j->data, j->kernels->product->nr, begin, end, panel, last - panel, own.m);
}

/* Input first: the input of some tiles. */
static void input_piece(void *context, int piece, int worker)
{
    (void)worker;
    const wino_job *j = context;
    float *v = (float *)(void *)j->data->scratch;
    int64_t begin, end;
    piece_range(j->q->tiles, 1, piece, j->pieces, &begin, &end);
    input_run(j->p, j->q, j->data->x, begin, end, v + begin * j->q->v_row);
}

/* Input first: a rectangle. */
static void panels_piece(void *context, int piece, int worker)
{
    const wino_job *j = context;
    const struct plan *q = j->q;
    const product *p = j->p;
    struct own own = own_of(j, worker);
    int64_t begin, end, panel, last;
    rectangle_of(j, piece, &begin, &end, &panel, &last);
    const float *v = (const float *)(const void *)j->data->scratch + begin * q->v_row;
    for (int64_t k = 0; k < p->c; k += q->k_block) {
        int64_t count = p->c - k < q->k_block ? p->c - k : q->k_block;
        filter_run(j->kernels, p, q, j->data->w, panel, last, k, count, own.operand, own.made);
        multiply(j->kernels->product, q, v + k / LINE * q->v_line + k % LINE, end - begin, count,
                 own.operand, last - panel, k > 0, own.m);
    }
    output_run(p, q, j->data, j->kernels->product->nr, begin, end, panel, last - panel, own.m);
}

void winograd_run(device *d, const product *p, const struct product_data *data)
{
    struct plan q = plan_of(d, p);
    wino_job j = {cpu_kernels_of(d), p, &q, data, 0};
    int64_t numbers = q.weights_first ? q.kernel->points * q.panels * j.kernels->product->nr * p->c
                                      : q.kernel->points * q.tiles * p->c;
    j.pieces = cpu_pieces(d, numbers);
    cpu_deal(d, numbers, j.pieces, q.weights_first ? filter_piece : input_piece, &j);
    cpu_deal(d, q.tiles * p->c * p->o, p->grid_m * p->grid_n,
             q.weights_first ? tiles_piece : panels_piece, &j);
}
