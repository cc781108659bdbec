/* SPDX-License-Identifier: Apache-2.0
 *
 * grad_w: the gradient by the weight as it stands, dw[o][c][tap] = sum over rows of dy[row][o] *
 * x[row moved by tap][c]. dw is cut into blocks (outputs x channels) that are gone through one by
 * one: per block of rows, dy's are laid in tiles that stay in the second-level cache, then x's,
 * tap by tap, in panels that stay in the first. Every row is added in one order, for any number of
 * threads. */
#include "device/cpu/grad_w.h"

enum {
    STEPS = 128,      /* of a block: rows, or pairs of them */
    O_MOST = 192,     /* outputs of a block */
    C_MOST_ONE = 512, /* channels of a block of one tap, whose sums lie in dw */
    C_STEP = 32,
    SUMS_MOST = 56 << 10, /* numbers of a block of several taps, whose sums lie in scratch */
    BLOCKS_A_THREAD = 8,
    COST_EDGE = 10 /* of an output or a channel of a block, to be laid in order, in products */
};

struct plan {
    int64_t o_block, c_block;                    /* the largest */
    size_t tiles_bytes, panel_bytes, sums_bytes; /* of each thread */
};

void grad_w_cut(const device *d, product *p)
{
    const struct product_kernels *kernel = cpu_kernels_of(d)->product;
    int64_t c_most = C_MOST_ONE;
    if (product_taps(p) > 1) c_most = SUMS_MOST / (product_taps(p) * O_MOST) / C_STEP * C_STEP;
    grid_cut(&(struct grid){.threads = d->threads,
                            .a_thread = BLOCKS_A_THREAD,
                            .m = p->o,
                            .n = p->c,
                            .mr = kernel->mr,
                            .nr = kernel->nr,
                            .edge_m = COST_EDGE,
                            .edge_n = COST_EDGE,
                            .m_most = O_MOST,
                            .n_most = c_most < C_STEP ? C_STEP : c_most},
             &p->grid_m, &p->grid_n);
}

/* The largest of n's blocks, in whole steps. */
static int64_t block_of(int64_t n, int64_t step, int blocks)
{
    return ceil_div(ceil_div(n, step), blocks) * step;
}

static struct plan plan_of(const device *d, const product *p)
{
    const struct product_kernels *kernel = cpu_kernels_of(d)->product;
    int taps = product_taps(p);
    struct plan q = {.o_block = block_of(p->o, kernel->mr, p->grid_m),
                     .c_block = block_of(p->c, kernel->nr, p->grid_n)};
    /* a vector more, which the last tile's may go past it by */
    q.tiles_bytes = round_line((size_t)(q.o_block * STEPS) * sizeof(float)) + 64;
    q.panel_bytes = round_line((size_t)(STEPS * kernel->nr) * sizeof(float));
    if (taps > 1) q.sums_bytes = round_line((size_t)(taps * q.o_block * q.c_block) * sizeof(float));
    return q;
}

static size_t own_bytes(const struct plan *q)
{
    return q->tiles_bytes + q->panel_bytes + q->sums_bytes;
}

size_t grad_w_scratch(const device *d, const product *p)
{
    if (p->method == PRODUCT_WINOGRAD) return winograd_grad_w_scratch(d, p);
    struct plan q = plan_of(d, p);
    return (size_t)d->threads * own_bytes(&q);
}

typedef struct grad_w_job {
    const struct cpu_kernels *kernels;
    const product *p;
    const struct plan *q;
    const void *dy, *x;
    float *dw;
    char *scratch;
} grad_w_job;

/* x's rows for output pixels [row, row + count) at `tap`, n channels from c on, as a panel, or as
 * the first or second numbers of one's pairs: a run of pixels of one line of the map at a time. */
static void panel_gather(const grad_w_job *j, float *panel, int64_t row, int64_t count, int tap,
                         int64_t c, int64_t n, bool second)
{
    const product *p = j->p;
    size_t size = dtype_size(p->x_type);
    int64_t nr = j->kernels->product->nr, shift = tap % p->kw - p->pad_left;
    while (count > 0) {
        int64_t ox = row % p->ow, oy = row / p->ow % p->oh, b = row / (p->ow * p->oh);
        int64_t y = oy * p->stride - p->pad_top + tap / p->kw, x = ox * p->stride + shift;
        int64_t run = least(count, p->ow - ox), step = p->c * p->stride;
        const void *from = p->zero;
        if (y < 0 || y >= p->h || x >= p->w) {
            step = 0;
        } else if (x < 0) {
            run = least(run, ceil_div(-x, p->stride));
            step = 0;
        } else {
            run = least(run, ceil_div(p->w - x, p->stride));
            from = (const char *)j->x + (size_t)(((b * p->h + y) * p->w + x) * p->c + c) * size;
        }
        if (p->pairs)
            j->kernels->grad_w->panel_pairs(panel, from, step, run, n, second);
        else
            j->kernels->grad_w->panel(panel, from, p->x_type, step, run, n);
        panel += run * nr;
        row += run;
        count -= run;
    }
}

/* The sums of a block, [tap][o_block][c_block], to dw. */
static void sums_store(const grad_w_job *j, const float *sums, int64_t o, int64_t m, int64_t c,
                       int64_t n)
{
    int taps = product_taps(j->p);
    int64_t stride = j->q->c_block, from_tap = j->q->o_block * stride;
    for (int64_t i = 0; i < m; i++) {
        float *to = j->dw + ((o + i) * j->p->c + c) * taps;
        const float *from = sums + i * stride;
        if (taps == WINO_TAPS) {
            j->kernels->grad_w->nine_taps(to, from, from_tap, n);
            continue;
        }
        for (int64_t k = 0; k < n; k++)
            for (int tap = 0; tap < taps; tap++) *to++ = from[tap * from_tap + k];
    }
}

static void block_piece(void *context, int piece, int worker)
{
    const grad_w_job *j = context;
    const product *p = j->p;
    const struct plan *q = j->q;
    const struct grad_w_kernels *k = j->kernels->grad_w;
    char *own = j->scratch + (size_t)worker * own_bytes(q);
    float *tiles = (float *)(void *)own, *panel = (float *)(void *)(own + q->tiles_bytes);
    float *sums = (float *)(void *)(own + q->tiles_bytes + q->panel_bytes);
    int taps = product_taps(p), mr = j->kernels->product->mr, nr = j->kernels->product->nr;
    int64_t o, o_end, c, c_end;
    piece_range(p->o, mr, piece / p->grid_n, p->grid_m, &o, &o_end);
    piece_range(p->c, nr, piece % p->grid_n, p->grid_n, &c, &c_end);
    int64_t m = o_end - o;
    float *to = taps > 1 ? sums : j->dw + o * p->c + c;
    struct outer_job job = {.a = tiles,
                            .a_stride = mr,
                            .b = panel,
                            .b_stride = nr,
                            .c_stride = taps > 1 ? q->c_block : p->c,
                            .m = m};
    int64_t most = p->pairs ? 2 * STEPS : STEPS;
    for (int64_t row = 0; row < product_rows(p); row += most) {
        int64_t count = least(product_rows(p) - row, most);
        job.k = p->pairs ? ceil_div(count, 2) : count;
        job.a_tile = job.k * mr;
        job.go_on = row > 0;
        const char *dy = (const char *)j->dy + (size_t)(row * p->o + o) * dtype_size(p->y_type);
        if (p->pairs)
            k->tiles_pairs(tiles, (const void *)dy, p->o, count, m);
        else
            k->tiles(tiles, dy, p->y_type, p->o, count, m);
        for (int tap = 0; tap < taps; tap++) {
            for (int64_t i = c; i < c_end; i += nr) {
                job.n = least(c_end - i, nr);
                panel_gather(j, panel, row, job.k, tap, i, job.n, false);
                if (p->pairs)
                    panel_gather(j, panel, row + job.k, count - job.k, tap, i, job.n, true);
                job.c = to + tap * q->o_block * q->c_block + i - c;
                (p->pairs ? k->outer_pairs : k->outer)(&job);
            }
        }
    }
    if (taps > 1) sums_store(j, sums, o, m, c, c_end - c);
}

void grad_w_run(device *d, const product *p, const void *dy, const void *x, float *dw,
                char *scratch)
{
    if (p->method == PRODUCT_WINOGRAD) {
        winograd_grad_w_run(d, p, dy, x, dw, scratch);
        return;
    }
    struct plan q = plan_of(d, p);
    grad_w_job j = {cpu_kernels_of(d), p, &q, dy, x, dw, scratch};
    cpu_deal(d, product_rows(p) * product_taps(p) * p->c * p->o, p->grid_m * p->grid_n, block_piece,
             &j);
}
