/* SPDX-License-Identifier: Apache-2.0
 *
 * optimizer: AdamW in its four kinds, dealt out to the threads in runs (whole blocks of 8-bit
 * moments), so that the bytes do not depend on their number; all tensors are one job. The cells of
 * the 8-bit moments' maps. */
#include "device/cpu/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/cpu.h"
#include "device/cpu/operand.h"

/* PIECE: elements, long enough for what it costs to be dealt out */
enum { STEP = 64, SUMS = 256, PIECE = 1 << 14 };

static int index_at(const struct moment_maps *maps, int32_t place, bool is_signed)
{
    return is_signed ? index_at_place_m(maps->m, maps->threshold_m, place)
                     : index_at_place_v(maps->threshold_v, place);
}

static void cells_fill(const struct moment_maps *maps, int32_t *cell, int count, int bits,
                       bool is_signed)
{
    for (int i = 0; i < count; i++) {
        int32_t begin = i << bits, end = begin + (1 << bits);
        int first = index_at(maps, begin, is_signed);
        bool whole = index_at(maps, end - 1, is_signed) == first;
        int32_t low = whole ? end : begin, high = end; /* where the second index begins */
        while (low < high) {
            int32_t middle = low + (high - low) / 2;
            if (index_at(maps, middle, is_signed) == first)
                low = middle + 1;
            else
                high = middle;
        }
        cell[i] = (first << bits) + (end - high) - begin;
    }
}

void moment_maps_fill(struct moment_maps *maps)
{
    moment_values_fill(maps->m, maps->v, maps->threshold_m, maps->threshold_v);
    cells_fill(maps, maps->cell_m, CELLS_M, CELL_M, true);
    cells_fill(maps, maps->cell_v, CELLS_V, CELL_V, false);
}

/* One tensor of an update, a sum or an addition, cut into pieces anywhere. */
typedef struct tensor_job {
    void *p;
    const float *g;
    struct moment_data m;
    struct adamw_values a;
    int64_t n;
    int first, pieces; /* of all the list's */
    double sums[SUMS];
} tensor_job;

/* A list of tensors, whose pieces are dealt out as one job: no tensor is waited for. */
typedef struct list_job {
    const cpu *c;
    tensor_job *tensor;
    size_t count;
    int64_t n;
    int pieces;
} list_job;

static void list_add(list_job *j, void *p, const float *g, int64_t n)
{
    int64_t pieces = n / PIECE;
    tensor_job *t = &j->tensor[j->count++];
    t->p = p, t->g = g, t->n = n;
    t->first = j->pieces;
    t->pieces = pieces < 1 ? 1 : pieces > SUMS ? SUMS : (int)pieces;
    j->pieces += t->pieces;
    j->n += n;
}

static tensor_job *tensor_at(const list_job *j, int piece)
{
    size_t low = 0, high = j->count; /* it is at low, or between */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (j->tensor[middle].first <= piece)
            low = middle;
        else
            high = middle;
    }
    return &j->tensor[low];
}

static void list_deal(device *d, const list_job *j, thread_piece *work)
{
    cpu_deal(d, j->n, j->pieces, work, j);
}

static bool list_open(list_job *j, const device *d, size_t count, error *e)
{
    *j = (list_job){.c = (const cpu *)(const void *)d};
    j->tensor = malloc((count + 1) * sizeof *j->tensor);
    return j->tensor || error_memory(e, "the update's sums", count * sizeof *j->tensor);
}

static void run_elements(const struct optimizer_kernels *k, const tensor_job *t, int piece)
{
    const struct moment_data *m = &t->m;
    int64_t i, end;
    piece_range(t->n, STEP, piece, t->pieces, &i, &end);
    int64_t n = end - i;
    const float *g = t->g + i;
    if (m->kind == MOMENTS_F16)
        k->f16(&t->a, (uint16_t *)t->p + i, g, (uint16_t *)m->m + i, (uint16_t *)m->v + i, n);
    else if (m->kind == MOMENTS_F32)
        k->f32(&t->a, (float *)t->p + i, g, (float *)m->m + i, (float *)m->v + i, n);
    else
        k->f32_bnb(&t->a, (float *)t->p + i, g, (float *)m->m + i, (float *)m->v + i, n);
}

/* The last, short block: filled up with elements that stay zero. */
static void run_short_block(const cpu *c, const tensor_job *t, int64_t from)
{
    const struct moment_data *m = &t->m;
    float *p = (float *)t->p + from;
    size_t n = (size_t)(t->n - from);
    float value[MOMENTS_BLOCK] = {0}, gradient[MOMENTS_BLOCK] = {0};
    uint8_t first[MOMENTS_BLOCK], second[MOMENTS_BLOCK] = {0};
    uint8_t *to_m = (uint8_t *)m->m + from, *to_v = (uint8_t *)m->v + from;
    memset(first, 127, sizeof first); /* zero */
    memcpy(first, to_m, n);
    memcpy(second, to_v, n);
    memcpy(value, p, n * sizeof *p);
    memcpy(gradient, t->g + from, n * sizeof *gradient);
    c->kernels.optimizer->bytes(&t->a, &c->maps, value, gradient, first, second,
                                m->absmax_m + from / MOMENTS_BLOCK,
                                m->absmax_v + from / MOMENTS_BLOCK, 1);
    memcpy(to_m, first, n);
    memcpy(to_v, second, n);
    memcpy(p, value, n * sizeof *p);
}

static void run_blocks(const cpu *c, const tensor_job *t, int piece)
{
    const struct moment_data *m = &t->m;
    int64_t whole = t->n / MOMENTS_BLOCK, b, end;
    piece_range(whole, 1, piece, t->pieces, &b, &end);
    int64_t i = b * MOMENTS_BLOCK;
    c->kernels.optimizer->bytes(&t->a, &c->maps, (float *)t->p + i, t->g + i, (uint8_t *)m->m + i,
                                (uint8_t *)m->v + i, m->absmax_m + b, m->absmax_v + b, end - b);
    if (piece == t->pieces - 1 && whole * MOMENTS_BLOCK < t->n)
        run_short_block(c, t, whole * MOMENTS_BLOCK);
}

static void update_piece(void *context, int piece, int worker)
{
    (void)worker;
    const list_job *j = context;
    const tensor_job *t = tensor_at(j, piece);
    if (t->m.kind == MOMENTS_8BIT)
        run_blocks(j->c, t, piece - t->first);
    else
        run_elements(j->c->kernels.optimizer, t, piece - t->first);
}

void cpu_adamw(device *d, const adamw_step *step, void *p, const float *g,
               const struct moment_data *m)
{
    tensor_job t = {.m = *m, .a = adamw_values_of(m->kind, step)};
    list_job j = {.c = (const cpu *)(const void *)d, .tensor = &t};
    list_add(&j, p, g, m->count);
    list_deal(d, &j, update_piece);
}

static void accumulate_piece(void *context, int piece, int worker)
{
    (void)worker;
    const list_job *j = context;
    const tensor_job *t = tensor_at(j, piece);
    int64_t i, end;
    piece_range(t->n, STEP, piece - t->first, t->pieces, &i, &end);
    j->c->kernels.optimizer->accumulate((float *)t->p + i, t->g + i, end - i);
}

/* The piece's of the SUMS parts. */
static void squares_piece(void *context, int piece, int worker)
{
    (void)worker;
    const list_job *j = context;
    tensor_job *t = tensor_at(j, piece);
    int64_t part, last, i, end;
    piece_range(SUMS, 1, piece - t->first, t->pieces, &part, &last);
    for (; part < last; part++) {
        piece_range(t->n, STEP, (int)part, SUMS, &i, &end);
        t->sums[part] = j->c->kernels.optimizer->sum_squares(t->g + i, end - i);
    }
}

/* In as many parts for any number of threads, summed in their order. */
static double squares_of(const tensor_job *t)
{
    double sum = 0;
    for (int part = 0; part < SUMS; part++) sum += t->sums[part];
    return sum;
}

double cpu_sum_squares(device *d, const float *g, int64_t n)
{
    tensor_job t;
    list_job j = {.c = (const cpu *)(const void *)d, .tensor = &t};
    list_add(&j, NULL, g, n);
    list_deal(d, &j, squares_piece);
    return squares_of(&t);
}

/* ---- over all tensors ---- */

struct moment_data moment_data_of(const moments *m)
{
    struct moment_data data = {.kind = m->kind, .count = m->count};
    data.m = buffer_data(m->memory, m->m);
    data.v = buffer_data(m->memory, m->v);
    if (m->kind != MOMENTS_8BIT) return data;
    data.absmax_m = buffer_data(m->memory, m->absmax_m);
    data.absmax_v = buffer_data(m->memory, m->absmax_v);
    return data;
}

static const float *gradient_of(const update_tensor *t)
{
    return array_data(array_present(&t->sum) ? &t->sum : &t->gradient);
}

bool cpu_accumulate(device *d, const update_tensor *list, size_t count, error *e)
{
    list_job j;
    if (!list_open(&j, d, count, e)) return false;
    for (size_t i = 0; i < count; i++)
        list_add(&j, array_data(&list[i].sum), array_data(&list[i].gradient),
                 list[i].moments.count);
    list_deal(d, &j, accumulate_piece);
    free(j.tensor);
    return true;
}

/* The norm of all gradients, and the first of them that is not finite. */
static void find_norm(device *d, const list_job *j, const update_job *u, update_result *r)
{
    double sum = 0;
    list_deal(d, j, squares_piece);
    r->bad = u->count;
    for (size_t i = 0; i < u->count; i++) {
        double squares = squares_of(&j->tensor[i]);
        if (!isfinite(squares) && r->bad == u->count) r->bad = i;
        sum += squares;
    }
    r->norm = sqrt(sum) * (double)u->unscale;
}

bool cpu_update(device *d, const update_job *u, update_result *r, error *e)
{
    list_job j;
    if (!list_open(&j, d, u->count, e)) return false;
    for (size_t i = 0; i < u->count; i++) {
        const update_tensor *t = &u->tensor[i];
        list_add(&j, buffer_data(t->weights->memory, t->weights->at[t->index]), gradient_of(t),
                 t->moments.count);
    }
    find_norm(d, &j, u, r);
    double unscale = (double)u->unscale, clip = u->max_norm / (r->norm + 1e-6);
    adamw_step step = u->step;
    step.grad_scale = (float)(clip < 1 ? clip * unscale : unscale);
    bool finite = r->bad == u->count;
    for (size_t i = 0; finite && i < u->count; i++) {
        j.tensor[i].m = moment_data_of(&u->tensor[i].moments);
        j.tensor[i].a = adamw_values_of(j.tensor[i].m.kind, &step);
    }
    if (finite) list_deal(d, &j, update_piece);
    for (size_t i = 0; finite && i < u->count; i++)
        cpu_weights_touch(u->tensor[i].weights, u->tensor[i].index);
    free(j.tensor);
    return true;
}
