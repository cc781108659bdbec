/* SPDX-License-Identifier: Apache-2.0
 *
 * grad_w: the gradient by the weight as it stands, dw[o][c][tap] = sum over rows of dy[row][o] *
 * x[row moved by tap][c]. dw is cut into blocks (outputs x channels) that are gone through one by
 * one: per block of rows, dy's are laid in tiles that stay in the second-level cache, then x's,
 * tap by tap, in panels that stay in the first. Every row is added in one order, for any number of
 * threads. */
#include "device/cpu/grad_w.h"

enum {
    STEPS = 128,          /* of a block: rows, or pairs of them */
    O_MOST = 192,         /* outputs of a block */
    C_MOST_ONE = 512,     /* channels of a block of one tap, whose sums lie in dw */
    SUMS_MOST = 56 << 10, /* numbers of a block of several taps, whose sums lie in scratch */
    O_LEAST = 48,
    C_LEAST = 32, /* what blocks are cut down to, for every thread to have some */
    BLOCKS_A_THREAD = 4
};

struct plan {
    int64_t o_block, c_block, o_blocks, c_blocks;
    size_t tiles_bytes, panel_bytes, sums_bytes; /* of each thread */
};

/* n cut into equal blocks of at most `most`, in steps of `step`. */
static int64_t block_of(int64_t n, int64_t most, int64_t step)
{
    return ceil_div(ceil_div(n, ceil_div(n, most)), step) * step;
}

static struct plan plan_of(const device *d, const product *p)
{
    const struct product_kernels *kernel = cpu_kernels_of(d)->product;
    int taps = product_taps(p);
    int64_t o_most = O_MOST, c_most = C_MOST_ONE, wanted = BLOCKS_A_THREAD * (int64_t)d->threads;
    if (taps > 1) {
        c_most = SUMS_MOST / (taps * O_MOST) / C_LEAST * C_LEAST;
        if (c_most < C_LEAST) c_most = C_LEAST;
    }
    struct plan q = {0};
    for (bool cut = true; cut;) {
        q.o_block = block_of(p->o, o_most, kernel->mr);
        q.c_block = block_of(p->c, c_most, kernel->nr);
        q.o_blocks = ceil_div(p->o, q.o_block);
        q.c_blocks = ceil_div(p->c, q.c_block);
        cut = d->threads > 1 && q.o_blocks * q.c_blocks < wanted;
        if (cut && q.c_block > C_LEAST && (q.c_block >= q.o_block || q.o_block <= O_LEAST))
            c_most = q.c_block / 2;
        else if (cut && q.o_block > O_LEAST)
            o_most = q.o_block / 2;
        else
            cut = false;
    }
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
    int64_t o = piece / q->c_blocks * q->o_block, c = piece % q->c_blocks * q->c_block;
    int64_t m = least(p->o - o, q->o_block), c_end = least(p->c, c + q->c_block);
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
    cpu_deal(d, product_rows(p) * product_taps(p) * p->c * p->o, (int)(q.o_blocks * q.c_blocks),
             block_piece, &j);
}
