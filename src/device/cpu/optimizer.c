/* SPDX-License-Identifier: Apache-2.0
 *
 * optimizer: AdamW in its four kinds, dealt out to the threads in runs (whole blocks of 8-bit
 * moments), so that the bytes do not depend on their number; the cells of the 8-bit moments' maps.
 */
#include "device/cpu/optimizer.h"

#include <math.h>
#include <string.h>

#include "device/cpu/cpu.h"
#include "device/cpu/operand.h"

enum { STEP = 64, SUMS = 256 };

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

/* An update, a sum or an addition over n elements, cut into pieces anywhere. */
typedef struct element_job {
    const struct cpu *c;
    const struct adamw_values *a;
    void *p;
    const float *g;
    const struct moment_data *m;
    int64_t n;
    int pieces;
    double *sums;
} element_job;

static element_job job_of(const device *d, int64_t n)
{
    return (element_job){.c = (const cpu *)(const void *)d, .n = n, .pieces = cpu_pieces(d, n)};
}

static void elements_piece(void *context, int piece, int worker)
{
    (void)worker;
    const element_job *j = context;
    const struct optimizer_kernels *k = j->c->kernels.optimizer;
    const struct moment_data *m = j->m;
    int64_t i, end;
    piece_range(j->n, STEP, piece, j->pieces, &i, &end);
    int64_t n = end - i;
    const float *g = j->g + i;
    if (m->kind == MOMENTS_F16)
        k->f16(j->a, (uint16_t *)j->p + i, g, (uint16_t *)m->m + i, (uint16_t *)m->v + i, n);
    else if (m->kind == MOMENTS_F32)
        k->f32(j->a, (float *)j->p + i, g, (float *)m->m + i, (float *)m->v + i, n);
    else
        k->f32_bnb(j->a, (float *)j->p + i, g, (float *)m->m + i, (float *)m->v + i, n);
}

static void run_elements(device *d, const struct adamw_values *a, void *p, const float *g,
                         const struct moment_data *m)
{
    element_job j = job_of(d, m->count);
    j.a = a, j.p = p, j.g = g, j.m = m;
    cpu_deal(d, m->count, j.pieces, elements_piece, &j);
}

/* The last, short block: filled up with elements that stay zero. */
static void run_short_block(device *d, const struct adamw_values *a, float *p, const float *g,
                            const struct moment_data *m, int64_t from)
{
    const cpu *c = (const cpu *)(const void *)d;
    size_t n = (size_t)(m->count - from);
    float value[MOMENTS_BLOCK] = {0}, gradient[MOMENTS_BLOCK] = {0};
    uint8_t first[MOMENTS_BLOCK], second[MOMENTS_BLOCK] = {0};
    uint8_t *to_m = (uint8_t *)m->m + from, *to_v = (uint8_t *)m->v + from;
    memset(first, 127, sizeof first); /* zero */
    memcpy(first, to_m, n);
    memcpy(second, to_v, n);
    memcpy(value, p + from, n * sizeof *p);
    memcpy(gradient, g + from, n * sizeof *g);
    c->kernels.optimizer->bytes(a, &c->maps, value, gradient, first, second,
                                m->absmax_m + from / MOMENTS_BLOCK,
                                m->absmax_v + from / MOMENTS_BLOCK, 1);
    memcpy(to_m, first, n);
    memcpy(to_v, second, n);
    memcpy(p + from, value, n * sizeof *p);
}

static void blocks_piece(void *context, int piece, int worker)
{
    (void)worker;
    const element_job *j = context;
    const struct moment_data *m = j->m;
    int64_t b, end;
    piece_range(m->count / MOMENTS_BLOCK, 1, piece, j->pieces, &b, &end);
    int64_t i = b * MOMENTS_BLOCK;
    j->c->kernels.optimizer->bytes(j->a, &j->c->maps, (float *)j->p + i, j->g + i,
                                   (uint8_t *)m->m + i, (uint8_t *)m->v + i, m->absmax_m + b,
                                   m->absmax_v + b, end - b);
}

static void run_blocks(device *d, const struct adamw_values *a, float *p, const float *g,
                       const struct moment_data *m)
{
    int64_t whole = m->count / MOMENTS_BLOCK * MOMENTS_BLOCK;
    element_job j = job_of(d, m->count);
    j.a = a, j.p = p, j.g = g, j.m = m;
    cpu_deal(d, m->count, j.pieces, blocks_piece, &j);
    if (whole < m->count) run_short_block(d, a, p, g, m, whole);
}

void cpu_adamw(device *d, const adamw_step *step, void *p, const float *g,
               const struct moment_data *m)
{
    struct adamw_values a = adamw_values_of(m->kind, step);
    if (m->kind == MOMENTS_8BIT)
        run_blocks(d, &a, p, g, m);
    else
        run_elements(d, &a, p, g, m);
}

static void accumulate_piece(void *context, int piece, int worker)
{
    (void)worker;
    const element_job *j = context;
    int64_t i, end;
    piece_range(j->n, STEP, piece, j->pieces, &i, &end);
    j->c->kernels.optimizer->accumulate((float *)j->p + i, j->g + i, end - i);
}

void cpu_add_to(device *d, float *a, const float *b, int64_t n)
{
    element_job j = job_of(d, n);
    j.p = a, j.g = b;
    cpu_deal(d, n, j.pieces, accumulate_piece, &j);
}

/* The piece's of the SUMS parts. */
static void squares_piece(void *context, int piece, int worker)
{
    (void)worker;
    const element_job *j = context;
    int64_t part, last, i, end;
    piece_range(SUMS, 1, piece, j->pieces, &part, &last);
    for (; part < last; part++) {
        piece_range(j->n, STEP, (int)part, SUMS, &i, &end);
        j->sums[part] = j->c->kernels.optimizer->sum_squares(j->g + i, end - i);
    }
}

/* In as many parts for any number of threads, summed in their order. */
double cpu_sum_squares(device *d, const float *g, int64_t n)
{
    double sums[SUMS], sum = 0;
    element_job j = job_of(d, n);
    j.g = g, j.sums = sums;
    cpu_deal(d, n, j.pieces, squares_piece, &j);
    for (int part = 0; part < SUMS; part++) sum += sums[part];
    return sum;
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
    (void)e;
    for (size_t i = 0; i < count; i++)
        cpu_add_to(d, array_data(&list[i].sum), array_data(&list[i].gradient),
                   list[i].moments.count);
    return true;
}

bool cpu_update(device *d, const update_job *u, update_result *r, error *e)
{
    double sum = 0;
    (void)e;
    r->bad = u->count;
    for (size_t i = 0; i < u->count; i++) {
        double squares = cpu_sum_squares(d, gradient_of(&u->tensor[i]), u->tensor[i].moments.count);
        if (!isfinite(squares) && r->bad == u->count) r->bad = i;
        sum += squares;
    }
    double unscale = (double)u->unscale;
    r->norm = sqrt(sum) * unscale;
    if (r->bad < u->count) return true;
    double clip = u->max_norm / (r->norm + 1e-6);
    adamw_step step = u->step;
    step.grad_scale = (float)(clip < 1 ? clip * unscale : unscale);
    for (size_t i = 0; i < u->count; i++) {
        const update_tensor *t = &u->tensor[i];
        struct moment_data m = moment_data_of(&t->moments);
        cpu_adamw(d, &step, buffer_data(t->weights->memory, t->weights->at[t->index]),
                  gradient_of(t), &m);
        cpu_weights_touch(t->weights, t->index);
    }
    return true;
}
