/* SPDX-License-Identifier: Apache-2.0
 *
 * attention: OP_ATTENTION and its gradient: shapes, scratch, and who does what. A few heads at a
 * time are packed, then tasks of some rows of one head are handed to the threads. No row's
 * arithmetic depends on which thread does it, and the parts that a gradient is summed in are cut by
 * the shape alone, so results do not depend on the number of threads. */
#include "device/cpu/attention.h"

#include <stdlib.h>

#include "device/cpu/cpu.h"

enum {
    PACKED_AT_ONCE = 4 << 20, /* floats of packed heads at once: about a third-level cache */
    TASKS_A_THREAD = 8,       /* at least, where there are rows enough */
    /* Backward: floats of the heads at once, sums included; parts of a sample, so that many threads
     * have some; queries of a part at least */
    GRAD_AT_ONCE = 16 << 20,
    GRAD_PARTS = 32,
    GRAD_PART_ROWS = ATTENTION_GRAD_ROWS
};

typedef struct attention_plan {
    bool pairs;
    int64_t batch, heads, depth, depth_padded;
    int64_t queries;
    side keys;
    int64_t query_rows;  /* of one task */
    int64_t tasks;       /* of one head: in a gradient its parts */
    int64_t pack_floats; /* packs of one head, after which the sums of parts lie */
    int64_t head_floats;
    int64_t heads_at_once;
    int64_t thread_floats;
} attention_plan;

static int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

/* Forward: blocks of keys whose two packs take about 256 KiB, half of a second-level cache. */
static side side_of(int64_t count, int64_t depth, bool grad)
{
    int64_t block = grad ? ATTENTION_GRAD_BLOCK : 65536 / (2 * depth) / 32 * 32;
    if (block > ATTENTION_BLOCK) block = ATTENTION_BLOCK;
    if (block < 32) block = 32;
    if (!grad && block > round_up(count, 32)) block = round_up(count, 32);
    return (side){.count = count, .block = block, .blocks = (count + block - 1) / block};
}

static int64_t side_rows_padded(const side *s) { return s->blocks * s->block; }

/* Rows of a task: as many strips as fit the cache, fewer where threads would be idle. */
static int64_t task_rows(int64_t count, int64_t depth, int64_t heads, int threads)
{
    int64_t strips = (count + ATTENTION_STRIP - 1) / ATTENTION_STRIP;
    int64_t most = 98304 / (2 * ATTENTION_STRIP * depth);
    most = most < 1 ? 1 : most > ATTENTION_STRIPS ? ATTENTION_STRIPS : most;
    int64_t tasks = (strips + most - 1) / most;
    int64_t wanted = (TASKS_A_THREAD * threads + heads - 1) / heads;
    if (tasks < wanted) tasks = wanted < strips ? wanted : strips;
    return (strips + tasks - 1) / tasks * ATTENTION_STRIP;
}

/* Rows of a part of a gradient, by the shape of a sample. */
static int64_t part_rows(int64_t count, int64_t heads)
{
    int64_t parts = (GRAD_PARTS + heads - 1) / heads, most = count / GRAD_PART_ROWS;
    if (parts > most) parts = most < 1 ? 1 : most;
    return round_up((count + parts - 1) / parts, ATTENTION_STRIP);
}

static bool float_array(const array *a)
{
    return a->rank == 3 && (a->type == DTYPE_F32 || a->type == DTYPE_BF16);
}

static bool shapes_fit(const op_call *call, bool grad)
{
    const array *q = &call->in[grad ? 1 : 0], *k = q + 1, *v = q + 2;
    int heads = call->params.heads;
    if (!float_array(q) || !float_array(k) || !float_array(v)) return false;
    if (grad && (!float_array(&call->in[0]) || !float_array(&call->in[4]))) return false;
    for (int i = 0; i < 3; i++)
        if (k->dim[i] != v->dim[i] || (i != 1 && k->dim[i] != q->dim[i])) return false;
    return heads > 0 && q->dim[2] > 0 && q->dim[2] % heads == 0 && q->dim[1] > 0 && k->dim[1] > 0;
}

static bool prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    bool grad = call->kind == OP_ATTENTION_GRAD;
    const array *q = &call->in[grad ? 1 : 0], *k = q + 1;
    if (!shapes_fit(call, grad)) {
        return error_set(e, ERROR_USAGE,
                         "attention: queries, keys and values must be [B,N,H*D] in "
                         "F32 or BF16, with H = %d heads",
                         call->params.heads);
    }
    attention_plan *p = calloc(1, sizeof *p);
    if (!p) return error_memory(e, "attention", sizeof *p);
    int lanes = cpu_kernels_of(d)->attention->lanes;
    p->batch = q->dim[0];
    p->heads = call->params.heads;
    p->depth = q->dim[2] / p->heads;
    p->depth_padded = round_up(p->depth, lanes);
    p->pairs = d->compute == DTYPE_BF16 && q->type == DTYPE_BF16 && k->type == DTYPE_BF16 &&
               k[1].type == DTYPE_BF16 && (!grad || call->in[0].type == DTYPE_BF16);
    head_task sizes = {.pairs = p->pairs, .depth = p->depth};
    p->queries = q->dim[1];
    p->keys = side_of(k->dim[1], p->depth, grad);
    int64_t keys = side_rows_padded(&p->keys), total = p->batch * p->heads;
    p->pack_floats = round_up(keys * (grad ? 2 : 1) * attention_steps(&sizes) +
                                  attention_rows(&sizes, keys) * p->depth_padded,
                              16);
    p->head_floats = p->pack_floats;
    if (grad) {
        p->query_rows = part_rows(p->queries, p->heads);
        p->tasks = (p->queries + p->query_rows - 1) / p->query_rows;
        p->head_floats += p->tasks * attention_part(&p->keys, p->depth_padded);
    }
    int64_t fit = (grad ? GRAD_AT_ONCE : PACKED_AT_ONCE) / p->head_floats;
    int64_t groups = fit < 1 ? total : (total + fit - 1) / fit;
    p->heads_at_once = (total + groups - 1) / groups; /* as many each time */
    if (!grad) {
        p->query_rows = task_rows(p->queries, p->depth, p->heads_at_once, d->threads);
        p->tasks = (p->queries + p->query_rows - 1) / p->query_rows;
    }
    p->thread_floats = round_up(grad ? attention_grad_scratch(p->depth, p->depth_padded)
                                     : attention_scratch(p->depth, p->depth_padded),
                                16);
    *state = p;
    *scratch = sizeof(float) *
               (size_t)(p->heads_at_once * p->head_floats + d->threads * p->thread_floats);
    return true;
}

static void unprepare(device *d, const op_call *call, void *state)
{
    (void)d;
    (void)call;
    free(state);
}

/* The rows of head h of sample b of an operand; an absent one has no data. */
static head_rows rows_of(const attention_plan *p, const array *a, int64_t head)
{
    int64_t b = head / p->heads, h = head % p->heads;
    if (a->rank < 0 || !a->memory) return (head_rows){0};
    int64_t at = b * a->dim[1] * a->dim[2] + h * p->depth;
    return (head_rows){.data = (char *)array_data(a) + (size_t)at * dtype_size(a->type),
                       .type = a->type,
                       .stride = a->dim[2],
                       .count = a->dim[1]};
}

/* The next `floats` of a block of memory. */
static float *take(float **at, int64_t floats)
{
    float *p = *at;
    *at += floats;
    return p;
}

static head_task task_of(const attention_plan *p, const op_call *call, int64_t head, float *packs)
{
    bool grad = call->kind == OP_ATTENTION_GRAD;
    const array *q = &call->in[grad ? 1 : 0], *lse = grad ? &call->in[5] : &call->out[1];
    head_task t = {.depth = p->depth,
                   .depth_padded = p->depth_padded,
                   .keys = p->keys,
                   .alpha = call->params.alpha,
                   .pairs = p->pairs,
                   .causal = call->params.causal};
    t.q = rows_of(p, q, head);
    t.k = rows_of(p, q + 1, head);
    t.v = rows_of(p, q + 2, head);
    t.o = rows_of(p, grad ? &call->in[4] : &call->out[0], head);
    if ((grad || call->out_count > 1) && lse->rank >= 0 && lse->memory)
        t.lse = (float *)array_data(lse) + head * p->queries;
    int64_t keys = side_rows_padded(&p->keys);
    t.k_columns = take(&packs, keys * attention_steps(&t));
    if (!grad) {
        t.v_rows = take(&packs, attention_rows(&t, keys) * p->depth_padded);
        return t;
    }
    t.d_o = rows_of(p, &call->in[0], head);
    t.d_q = rows_of(p, &call->out[0], head);
    t.d_k = rows_of(p, &call->out[1], head);
    t.d_v = rows_of(p, &call->out[2], head);
    t.v_columns = take(&packs, keys * attention_steps(&t));
    t.k_rows = take(&packs, attention_rows(&t, keys) * p->depth_padded);
    return t;
}

/* A run, and the heads that are at work. */
typedef struct attention_job {
    const attention_plan *plan;
    const struct attention_kernels *k;
    const op_call *call;
    float *own, *packs; /* of each thread; of each head at work */
    int64_t first;
} attention_job;

/* The task of the h-th head at work; its memory. */
static float *head_packs(const attention_job *j, int64_t h)
{
    return j->packs + h * j->plan->head_floats;
}

static head_task task_at(const attention_job *j, int64_t h)
{
    return task_of(j->plan, j->call, j->first + h, head_packs(j, h));
}

static void pack_piece(void *context, int piece, int worker)
{
    (void)worker;
    const attention_job *j = context;
    const struct attention_kernels *k = j->k;
    int64_t block = piece % j->plan->keys.blocks;
    head_task t = task_at(j, piece / j->plan->keys.blocks);
    int64_t columns = block * t.keys.block * attention_steps(&t);
    int64_t rows = block * attention_rows(&t, t.keys.block) * t.depth_padded;
    k->pack_columns(&t, &t.k, &t.keys, block, t.k_columns + columns);
    if (t.v_columns) k->pack_columns(&t, &t.v, &t.keys, block, t.v_columns + columns);
    if (t.k_rows) k->pack_rows(&t, &t.k, &t.keys, block, t.k_rows + rows);
    if (t.v_rows) k->pack_rows(&t, &t.v, &t.keys, block, t.v_rows + rows);
}

static void rows_piece(void *context, int piece, int worker)
{
    const attention_job *j = context;
    const attention_plan *p = j->plan;
    int64_t h = piece / p->tasks, at = piece % p->tasks;
    head_task t = task_at(j, h);
    float *own = j->own + worker * p->thread_floats, *sums = head_packs(j, h) + p->pack_floats;
    int64_t begin = at * p->query_rows, end = begin + p->query_rows;
    if (end > p->queries) end = p->queries;
    sums += at * attention_part(&p->keys, p->depth_padded);
    if (j->call->kind == OP_ATTENTION_GRAD)
        (p->pairs ? j->k->backward_pairs : j->k->backward)(&t, begin, end, sums, own);
    else if (p->pairs)
        j->k->forward_pairs(&t, begin, end, own);
    else
        j->k->forward(&t, begin, end, own);
}

/* The gradients of a block of keys. */
static void sum_piece(void *context, int piece, int worker)
{
    (void)worker;
    const attention_job *j = context;
    const attention_plan *p = j->plan;
    int64_t h = piece / p->keys.blocks;
    head_task t = task_at(j, h);
    j->k->backward_sum(&t, piece % p->keys.blocks, head_packs(j, h) + p->pack_floats,
                       (int)p->tasks);
}

static void run(device *d, const op_call *call, void *state, void *scratch)
{
    const attention_plan *p = state;
    bool grad = call->kind == OP_ATTENTION_GRAD;
    int64_t total = p->batch * p->heads;
    attention_job j = {.plan = p,
                       .k = cpu_kernels_of(d)->attention,
                       .call = call,
                       .own = scratch,
                       .packs = (float *)scratch + d->threads * p->thread_floats};
    for (; j.first < total; j.first += p->heads_at_once) {
        int64_t left = total - j.first, heads = left < p->heads_at_once ? left : p->heads_at_once;
        int64_t products = heads * p->queries * p->keys.count * p->depth;
        int blocks = (int)(heads * p->keys.blocks);
        cpu_deal(d, heads * p->pack_floats, blocks, pack_piece, &j);
        cpu_deal(d, products, (int)(heads * p->tasks), rows_piece, &j);
        if (grad) cpu_deal(d, heads * p->head_floats, blocks, sum_piece, &j);
    }
}

const struct cpu_op cpu_attention = {.prepare = prepare, .unprepare = unprepare, .run = run};
const struct cpu_op cpu_attention_grad = {.prepare = prepare, .unprepare = unprepare, .run = run};
