/* SPDX-License-Identifier: Apache-2.0
 *
 * direct: products and convolutions as they stand. The rows of the register tile are pointers into
 * the input map, one per tap and output pixel, so nothing is copied: a convolution is a product
 * whose rows move. Only maps of few channels are gathered first, because a tap of 3 or 4 channels
 * is too short a sum.
 *
 * The output is dealt out in rectangles, and each is gone through in blocks: rows (their input
 * stays near), then pieces of the sum, then panels, then tiles. A piece of a packed panel comes out
 * of the second-level cache as fast as it is used: pieces are long, so that sums are put down
 * seldom. Every sum has one order, for any number of threads. */
#include <string.h>

#include "device/cpu/product.h"

enum {
    ROW_BLOCK = 96,      /* rows of a block: a multiple of every mr */
    K_BLOCK = 1280,      /* channels (of all taps together) of a piece */
    GATHER_BELOW = 16,   /* channels */
    MADE_BYTES = 2 << 20 /* of panels that a thread packs at a time, where they are not kept */
};

/* Of a row or a column that a rectangle reads, in products with one; of a column that it packs. */
enum { COST_EDGE = 16, COST_MADE = 32, PIECES_A_THREAD = 8 };

/* How often the time of one piece passes until `pieces` are done. Where all threads run alike: in
 * whole rounds; where they do not: all pieces over all threads, and then, on average, half a piece
 * more, of those that wait for the last. Which of both it is nobody knows: their mean. */
static double rounds(int64_t pieces, int threads)
{
    double whole = (double)ceil_div(pieces, threads), mean = (double)pieces / threads + 0.5;
    return threads == 1 ? whole : (whole + mean) / 2;
}

void grid_cut(const struct grid *g, int *grid_m, int *grid_n)
{
    int64_t strips = ceil_div(g->m, g->mr), panels = ceil_div(g->n, g->nr);
    int64_t strips_most = g->m_most ? g->m_most / g->mr : strips;
    int64_t panels_most = g->n_most ? g->n_most / g->nr : panels;
    int64_t gm_least = ceil_div(strips, strips_most < 1 ? 1 : strips_most);
    int64_t gn_least = ceil_div(panels, panels_most < 1 ? 1 : panels_most);
    int64_t most = g->threads == 1 ? 1 : g->a_thread * g->threads;
    if (most < gm_least * gn_least) most = gm_least * gn_least;
    double best = 0;
    for (int64_t gm = gm_least; gm * gn_least <= most && gm <= strips; gm++) {
        for (int64_t gn = gn_least; gm * gn <= most && gn <= panels; gn++) {
            double rows = (double)(ceil_div(strips, gm) * g->mr);
            double columns = (double)(ceil_div(panels, gn) * g->nr);
            double one = rows * columns + g->edge_m * rows + g->edge_n * columns;
            double cost = one * rounds(gm * gn, g->threads);
            if (best > 0 && cost >= best) continue;
            best = cost;
            *grid_m = (int)gm;
            *grid_n = (int)gn;
        }
    }
}

void direct_cut(const device *d, product *p)
{
    const struct product_kernels *kernel = cpu_kernels_of(d)->product;
    grid_cut(&(struct grid){.threads = d->threads,
                            .a_thread = PIECES_A_THREAD,
                            .m = p->spread > 1 ? 1 : product_rows(p), /* classes: columns only */
                            .n = p->o,
                            .mr = kernel->mr,
                            .nr = kernel->nr,
                            .edge_m = COST_EDGE,
                            .edge_n = panels_may_be_made(p) ? COST_MADE : COST_EDGE},
             &p->grid_m, &p->grid_n);
}

/* Where the input is spread, rows are gone through class by class: the pixels of a class meet the
 * same taps, and the others, which meet only gaps, are left out. */
static bool is_classed(const product *p)
{
    return p->spread > 1 && !(p->c < GATHER_BELOW && product_taps(p) > 1);
}

/* The output's pixel that is the row-th; rows of its kind from there on. */
static int64_t pixel_of(const product *p, int64_t row, int64_t *left)
{
    int64_t s = p->spread;
    *left = product_rows(p) - row;
    if (!is_classed(p)) return row;
    for (int64_t class = 0;; class ++) {
        int64_t y0 = class / s, x0 = class % s;
        int64_t height = (p->oh - y0 + s - 1) / s, width = (p->ow - x0 + s - 1) / s;
        int64_t rows = p->batch * height * width;
        if (row >= rows) {
            row -= rows;
            continue;
        }
        int64_t y = y0 + row / width % height * s, x = x0 + row % width * s;
        *left = rows - row;
        return (row / (width * height) * p->oh + y) * p->ow + x;
    }
}

static bool tap_meets(const product *p, int64_t pixel, int tap)
{
    int64_t y = pixel / p->ow % p->oh - p->pad_top + tap / p->kw;
    int64_t x = pixel % p->ow - p->pad_left + tap % p->kw;
    return y % p->spread == 0 && x % p->spread == 0;
}

/* The row of the input that output `row` reads at `tap`; p->zero where that is padding. */
static const float *product_row(const product *p, const float *x, int64_t row, int tap)
{
    int64_t ox = row % p->ow, oy = row / p->ow % p->oh, b = row / (p->ow * p->oh);
    int64_t y = oy * p->stride - p->pad_top + tap / p->kw;
    int64_t z = ox * p->stride - p->pad_left + tap % p->kw;
    if (y < 0 || z < 0 || y % p->spread || z % p->spread) return p->zero;
    y /= p->spread;
    z /= p->spread;
    if (y >= p->h || z >= p->w) return p->zero;
    return x + ((b * p->h + y) * p->w + z) * p->c;
}

static bool is_plain(const product *p) /* row r of the input is row r of the output */
{
    return product_taps(p) == 1 && p->stride == 1 && p->spread == 1 && p->pad_top == 0 &&
           p->pad_left == 0 && p->h == p->oh && p->w == p->ow;
}

static bool is_gathered(const product *p) { return p->c < GATHER_BELOW && product_taps(p) > 1; }

/* One thread's buffers. */
struct block {
    const float **rows; /* [tiles][taps][rows of the tile] */
    float *gathered;    /* [ROW_BLOCK][taps * c] */
    float *panel;       /* [K_BLOCK or a tap's channels][nr], expanded from bfloat16 */
    float *made;        /* [made_panels][taps][c][nr], packed for the moment */
    float *sums;        /* [ROW_BLOCK][columns] of a class, whose rows lie apart in y */
};

/* Panels from `first` on, packed. */
struct packed {
    const void *data;
    dtype type;
    int64_t first;
};

static int64_t made_panels(const product *p, int nr)
{
    int64_t fit = MADE_BYTES / ((int64_t)sizeof(float) * product_taps(p) * p->c * nr);
    int64_t panels = (p->o + nr - 1) / nr;
    return fit < 1 ? 1 : fit < panels ? fit : panels;
}

static size_t block_bytes(const product *p, int nr, struct block *b, char *at)
{
    size_t taps = (size_t)product_taps(p), c = (size_t)p->c;
    size_t rows = round_line(ROW_BLOCK * taps * sizeof(float *));
    size_t gathered = is_gathered(p) ? round_line(ROW_BLOCK * taps * c * sizeof(float)) : 0;
    size_t panel = p->pack_type == DTYPE_BF16 ? round_line((size_t)K_BLOCK * (size_t)nr * 4) : 0;
    size_t made = panels_may_be_made(p)
                      ? round_line((size_t)(made_panels(p, nr) * nr) * taps * c * sizeof(float))
                      : 0;
    int64_t panels = (p->o + nr - 1) / nr;
    if (panels_may_be_made(p) && made_panels(p, nr) < panels) panels = made_panels(p, nr);
    size_t sums = is_classed(p) ? round_line((size_t)(ROW_BLOCK * panels * nr) * sizeof(float)) : 0;
    if (b) {
        b->rows = (const float **)(void *)at;
        b->gathered = (float *)(void *)(at + rows);
        b->panel = (float *)(void *)(at + rows + gathered);
        b->made = (float *)(void *)(at + rows + gathered + panel);
        b->sums = (float *)(void *)(at + rows + gathered + panel + made);
    }
    return rows + gathered + panel + made + sums;
}

/* x, and the sums before they become bfloat16, as float32. */
static size_t wide_x_bytes(const product *p)
{
    if (p->x_type == DTYPE_F32) return 0;
    return round_line((size_t)(p->batch * p->h * p->w * p->c) * sizeof(float));
}

static size_t wide_y_bytes(const product *p)
{
    if (p->y_type == DTYPE_F32) return 0;
    return round_line((size_t)(product_rows(p) * p->o) * sizeof(float));
}

size_t direct_scratch(const device *d, const product *p)
{
    int nr = cpu_kernels_of(d)->product->nr;
    return wide_x_bytes(p) + wide_y_bytes(p) + (size_t)d->threads * block_bytes(p, nr, NULL, NULL);
}

/* Fills the block's row pointers for output rows [row, row + count), cut into tiles. */
static void block_rows(const product *p, const float *x, int64_t row, int64_t count, int tiles,
                       struct block *b)
{
    const float **out = b->rows;
    int taps = product_taps(p);
    if (is_gathered(p)) {
        for (int64_t i = 0; i < count; i++)
            for (int t = 0; t < taps; t++)
                memcpy(b->gathered + (i * taps + t) * p->c, product_row(p, x, row + i, t),
                       (size_t)p->c * sizeof(float));
        for (int64_t i = 0; i < count; i++) out[i] = b->gathered + i * taps * p->c;
        return;
    }
    if (is_plain(p)) {
        for (int64_t i = 0; i < count; i++) out[i] = x + (row + i) * p->c;
        return;
    }
    for (int i = 0; i < tiles; i++) {
        int64_t begin = count * i / tiles, end = count * (i + 1) / tiles, left;
        for (int t = 0; t < taps; t++)
            for (int64_t r = begin; r < end; r++)
                *out++ = product_row(p, x, pixel_of(p, row + r, &left), t);
    }
}

/* A piece of the sum: taps [tap, tap + taps), channels [k, k + count). */
struct piece {
    int tap, taps;
    int64_t k, count;
};

/* The piece that begins at (tap, k); whole taps where several fit into one piece. */
static struct piece piece_at(int tap, int64_t k, int taps, int64_t c)
{
    if (c <= K_BLOCK) {
        int group = (int)(K_BLOCK / c);
        return (struct piece){tap, taps - tap < group ? taps - tap : group, 0, c};
    }
    int64_t pieces = (c + K_BLOCK - 1) / K_BLOCK;
    int64_t size = (c + pieces - 1) / pieces;
    return (struct piece){tap, 1, k, c - k < size ? c - k : size};
}

/* A block of rows: where their sums lie, from panel n0 on, and what is added to them. */
struct strip {
    int64_t count;
    int tiles, taps; /* taps: those of b->rows */
    int64_t c, n0, n1;
    float *y;
    const float *add; /* or NULL */
    int64_t stride;
};

/* One piece of the sums of a block; `first`: nothing is there yet. */
static void piece_run(const struct product_kernels *kernel, const product *p, const float *bias,
                      const struct packed *packed, const struct strip *s, const struct piece *q,
                      bool first, const struct block *b)
{
    int64_t nr = kernel->nr, panel_size = s->taps * s->c * nr;
    for (int64_t panel = s->n0; panel < s->n1; panel++) {
        int64_t n = panel * nr, y = n - s->n0 * nr;
        int64_t at = (panel - packed->first) * panel_size + (q->tap * s->c + q->k) * nr;
        struct tile_job job = {
            .offset = q->k,
            .taps = q->taps,
            .k = q->count,
            .b = (const char *)packed->data + (size_t)at * dtype_size(packed->type),
            .b_type = packed->type,
            .bias = first && bias ? bias + n : NULL,
            .add_stride = s->stride,
            .c_stride = s->stride,
            .n = p->o - n < nr ? p->o - n : nr,
        };
        if (packed->type == DTYPE_BF16) {
            kernel->expand(b->panel, (const uint16_t *)packed->data + at, q->taps * q->count * nr);
            job.b = b->panel;
            job.b_type = DTYPE_F32;
        }
        for (int i = 0; i < s->tiles; i++) {
            int64_t begin = s->count * i / s->tiles, rows = s->count * (i + 1) / s->tiles - begin;
            job.rows = b->rows + begin * s->taps + q->tap * rows;
            job.c = s->y + begin * s->stride + y;
            job.add = !first ? job.c : s->add ? s->add + begin * s->stride + y : NULL;
            kernel->tile((int)rows, &job);
        }
    }
}

/* The sums of a class's rows from m on to their pixels; y: the first pixel's column of panel n0,
 * `columns` of them. none: no tap meets these rows. */
static void class_finish(const product *p, const struct strip *s, int64_t m, bool none, float *y,
                         int64_t columns)
{
    int64_t left;
    for (int64_t i = 0; i < s->count; i++) {
        float *to = y + pixel_of(p, m + i, &left) * p->o;
        if (none)
            memset(to, 0, (size_t)columns * sizeof *to);
        else
            memcpy(to, s->y + i * s->stride, (size_t)columns * sizeof *to);
    }
}

/* One thread's rectangle: rows [m0, m1), panels [n0, n1). */
static void rectangle_run(const struct product_kernels *kernel, const product *p,
                          const struct product_data *data, const struct packed *packed, int64_t m0,
                          int64_t m1, int64_t n0, int64_t n1, struct block *b)
{
    bool classed = is_classed(p), gathered = is_gathered(p);
    struct strip s = {.taps = gathered ? 1 : product_taps(p),
                      .c = gathered ? product_taps(p) * p->c : p->c,
                      .n0 = n0,
                      .n1 = n1,
                      .y = b->sums,
                      .stride = classed ? (n1 - n0) * kernel->nr : p->o};
    for (int64_t m = m0; m < m1; m += s.count) {
        int64_t left = m1 - m, pixel = pixel_of(p, m, &left), at = m * p->o + n0 * kernel->nr;
        if (left > m1 - m) left = m1 - m;
        s.count = left < ROW_BLOCK ? left : ROW_BLOCK;
        s.tiles = (int)((s.count + kernel->mr - 1) / kernel->mr);
        if (!classed) s.y = (float *)data->y + at;
        if (data->add) s.add = (const float *)data->add + at;
        block_rows(p, data->x, m, s.count, s.tiles, b);
        bool first = true;
        struct piece q = {0};
        for (int tap = 0; tap < s.taps; tap += q.taps)
            for (int64_t k = 0; k < s.c; k += q.count) {
                q = piece_at(tap, k, s.taps, s.c);
                if (classed) q.taps = 1;
                if (classed && !tap_meets(p, pixel, tap)) continue;
                piece_run(kernel, p, data->bias, packed, &s, &q, first, b);
                first = false;
            }
        if (classed)
            class_finish(p, &s, m, first, (float *)data->y + n0 * kernel->nr,
                         n1 * kernel->nr < p->o ? s.stride : p->o - n0 * kernel->nr);
    }
}

/* As rectangle_run, with panels that are packed here, as many at a time as there is room for. */
static void rectangle_make_run(const struct product_kernels *kernel, const product *p,
                               const struct product_data *data, int64_t m0, int64_t m1, int64_t n0,
                               int64_t n1, struct block *b)
{
    int64_t group = made_panels(p, kernel->nr);
    int64_t panel_size = product_taps(p) * p->c * kernel->nr;
    for (int64_t n = n0; n < n1; n += group) {
        int64_t end = n1 - n < group ? n1 : n + group;
        for (int64_t i = n; i < end; i++)
            panels_make(kernel, b->made + (i - n) * panel_size, data->w, p, i, 0, p->c);
        rectangle_run(kernel, p, data, &(struct packed){b->made, DTYPE_F32, n}, m0, m1, n, end, b);
    }
}

/* A conversion of n numbers. */
typedef struct convert_job {
    const struct product_kernels *kernel;
    float *wide;
    const void *in;
    dtype type;
    uint16_t *narrow;
    int64_t n;
    int pieces;
} convert_job;

static void widen_piece(void *context, int piece, int worker)
{
    (void)worker;
    const convert_job *j = context;
    int64_t begin, end;
    piece_range(j->n, 64, piece, j->pieces, &begin, &end);
    if (j->type == DTYPE_F32)
        memcpy(j->wide + begin, (const float *)j->in + begin,
               (size_t)(end - begin) * sizeof *j->wide);
    else
        j->kernel->expand(j->wide + begin, (const uint16_t *)j->in + begin, end - begin);
}

static void narrow_piece(void *context, int piece, int worker)
{
    (void)worker;
    const convert_job *j = context;
    int64_t begin, end;
    piece_range(j->n, 64, piece, j->pieces, &begin, &end);
    j->kernel->narrow(j->narrow + begin, j->wide + begin, end - begin);
}

/* n numbers of either type to float32. */
static void product_widen(const device *d, float *out, const void *in, dtype type, int64_t n)
{
    convert_job j = {.kernel = cpu_kernels_of(d)->product,
                     .wide = out,
                     .in = in,
                     .type = type,
                     .n = n,
                     .pieces = cpu_pieces(d, n)};
    cpu_deal(d, n, j.pieces, widen_piece, &j);
}

static void product_narrow(const device *d, uint16_t *out, float *in, int64_t n)
{
    convert_job j = {.kernel = cpu_kernels_of(d)->product,
                     .wide = in,
                     .narrow = out,
                     .n = n,
                     .pieces = cpu_pieces(d, n)};
    cpu_deal(d, n, j.pieces, narrow_piece, &j);
}

typedef struct wide_job {
    const struct product_kernels *kernel;
    const product *p;
    const struct product_data *data;
    struct packed kept;
    char *scratch;
} wide_job;

static void rectangle_piece(void *context, int piece, int worker)
{
    const wide_job *j = context;
    const product *p = j->p;
    const struct product_kernels *kernel = j->kernel;
    int64_t panels = (p->o + kernel->nr - 1) / kernel->nr, m0, m1, n0, n1;
    piece_range(product_rows(p), kernel->mr, piece / p->grid_n, p->grid_m, &m0, &m1);
    piece_range(panels, 1, piece % p->grid_n, p->grid_n, &n0, &n1);
    struct block b;
    size_t bytes = block_bytes(p, kernel->nr, NULL, NULL);
    block_bytes(p, kernel->nr, &b, j->scratch + (size_t)worker * bytes);
    if (n1 > n0 && j->kept.data)
        rectangle_run(kernel, p, j->data, &j->kept, m0, m1, n0, n1, &b);
    else if (n1 > n0 && m1 > m0)
        rectangle_make_run(kernel, p, j->data, m0, m1, n0, n1, &b);
}

/* The problem in float32: x, add and y are. */
static void wide_run(device *d, const product *p, const struct product_data *data, char *scratch)
{
    wide_job j = {
        .kernel = cpu_kernels_of(d)->product,
        .p = p,
        .data = data,
        .kept = {panels_of(data->w, p), panels_type(cpu_kernels_of(d)->product, data->w, p), 0},
        .scratch = scratch};
    int64_t products = product_rows(p) * p->o * p->c * product_taps(p);
    cpu_deal(d, products, p->grid_m * p->grid_n, rectangle_piece, &j);
}

void direct_run(device *d, const product *p, const struct product_data *data)
{
    struct product_data wide = *data;
    float *wide_x = (float *)(void *)data->scratch;
    float *wide_y = (float *)(void *)(data->scratch + wide_x_bytes(p));
    int64_t y_count = product_rows(p) * p->o;
    if (p->x_type != DTYPE_F32) {
        product_widen(d, wide_x, data->x, p->x_type, p->batch * p->h * p->w * p->c);
        wide.x = wide_x;
    }
    if (p->y_type != DTYPE_F32) wide.y = wide_y;
    if (data->add && p->add_type != DTYPE_F32) {
        product_widen(d, wide.y, data->add, p->add_type, y_count);
        wide.add = wide.y;
    }
    wide_run(d, p, &wide, data->scratch + wide_x_bytes(p) + wide_y_bytes(p));
    if (p->y_type != DTYPE_F32) product_narrow(d, data->y, wide_y, y_count);
}
