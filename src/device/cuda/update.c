/* SPDX-License-Identifier: Apache-2.0
 *
 * update: what an optimizer does, over all tensors in a few launches: gradients summed, their norm
 * taken, weights and moments made anew unless a gradient is not finite, which the card itself sees;
 * the host reads the norm and which gradient it was, once a step. */
#include <stdlib.h>
#include <string.h>

#include "device/adamw.h"
#include "device/cuda/cuda.h"

bool cuda_accumulate(device *d, const update_tensor *list, size_t count, error *e)
{
    cuda *c = cuda_of(d);
    size_t bytes = count * sizeof(tensor_item);
    tensor_item *item = calloc(count + 1, sizeof *item);
    if (!item) return error_memory(e, "a list of tensors", bytes);
    for (size_t i = 0; i < count; i++)
        item[i] = (tensor_item){.data = array_view(&list[i].gradient),
                                .sum = array_view(&list[i].sum).data,
                                .count = list[i].moments.count};
    int64_t blocks = tensor_list_place(item, (int64_t)count);
    void *memory = gpu_enter(&c->gpu, e) ? cuda_lists(c, bytes, e) : NULL;
    bool ok = memory && gpu_upload(&c->gpu, memory, item, bytes, e);
    free(item);
    if (!ok || !count) return ok;
    accumulate_launch(&(tensor_list){memory, (int64_t)count, blocks}, c->gpu.stream);
    return gpu_launched(&c->gpu, e);
}

/* ---- the update ---- */

typedef struct step_values {
    adamw_step_constants constants;
    float unscale;
} step_values;

/* What goes to the card for a step, one behind the other, each part aligned: places are offsets. */
typedef struct step_lists {
    tensor_item *gradient;
    adamw_item *weight;
    step_values values;
    int64_t gradient_blocks, weight_blocks;
    size_t at_weight, at_values, at_state, at_scratch, size;
} step_lists;

static size_t aligned(size_t at) { return (at + 255) / 256 * 256; }

static int kind_of(moment_kind kind)
{
    static const int kinds[] = {
        [MOMENTS_F32] = KERNEL_MOMENTS_F32,
        [MOMENTS_8BIT] = KERNEL_MOMENTS_8BIT,
        [MOMENTS_F32_BNB] = KERNEL_MOMENTS_F32_BNB,
        [MOMENTS_F16] = KERNEL_MOMENTS_F16,
    };
    return kinds[kind];
}

static adamw_constants constants_of(moment_kind kind, const adamw_step *s)
{
    struct adamw_values v = adamw_values_of(kind, s);
    return (adamw_constants){v.decay, v.keep1, v.keep2, v.take1,
                             v.take2, v.step,  v.root,  v.epsilon};
}

static adamw_item item_of(const update_tensor *t, gpu_view gradient)
{
    const moments *m = &t->moments;
    bool bytes = m->kind == MOMENTS_8BIT;
    return (adamw_item){
        .weight = buffer_data(t->weights->memory, t->weights->at[t->index]),
        .gradient = gradient.data,
        .m = buffer_data(m->memory, m->m),
        .v = buffer_data(m->memory, m->v),
        .absmax_m = bytes ? buffer_data(m->memory, m->absmax_m) : NULL,
        .absmax_v = bytes ? buffer_data(m->memory, m->absmax_v) : NULL,
        .count = m->count,
        .kind = kind_of(m->kind),
    };
}

static bool lists_make(cuda *c, step_lists *l, const update_job *u, error *e)
{
    l->gradient = calloc(u->count + 1, sizeof *l->gradient);
    l->weight = calloc(u->count + 1, sizeof *l->weight);
    if (!l->gradient || !l->weight)
        return error_memory(e, "lists of tensors", u->count * sizeof *l->weight);
    for (size_t i = 0; i < u->count; i++) {
        const update_tensor *t = &u->tensor[i];
        gpu_view g = array_view(array_present(&t->sum) ? &t->sum : &t->gradient);
        l->gradient[i] = (tensor_item){.data = g, .count = t->moments.count};
        l->weight[i] = item_of(t, g);
        if (!cuda_weights_changing(c, t->weights, t->index, &l->weight[i].copy, e)) return false;
    }
    l->gradient_blocks = tensor_list_place(l->gradient, (int64_t)u->count);
    l->weight_blocks = adamw_list_place(l->weight, (int64_t)u->count);
    l->values.constants.torch = constants_of(MOMENTS_F32, &u->step);
    l->values.constants.bnb = constants_of(MOMENTS_8BIT, &u->step);
    l->values.unscale = u->unscale;
    gradient_norm_args norm = {.list = {NULL, (int64_t)u->count, l->gradient_blocks}};
    l->at_weight = aligned(u->count * sizeof *l->gradient);
    l->at_values = aligned(l->at_weight + u->count * sizeof *l->weight);
    l->at_state = aligned(l->at_values + sizeof l->values);
    l->at_scratch = aligned(l->at_state + sizeof(gradient_state));
    l->size = l->at_scratch + gradient_norm_scratch(&norm);
    return true;
}

/* The maps of the 8-bit moments, on the card from the first update on. */
static bool maps_ready(cuda *c, error *e)
{
    moment_tables tables;
    if (c->maps) return true;
    moment_tables_fill(&tables);
    return gpu_alloc(&c->gpu, sizeof tables, "the maps of moments", &c->maps, e) &&
           gpu_upload(&c->gpu, c->maps, &tables, sizeof tables, e);
}

static bool lists_run(cuda *c, const step_lists *l, const update_job *u, gradient_state *out,
                      error *e)
{
    const gpu *g = &c->gpu;
    int64_t count = (int64_t)u->count;
    char *m = cuda_lists(c, l->size, e);
    if (!m || !gpu_upload(g, m, l->gradient, u->count * sizeof *l->gradient, e) ||
        !gpu_upload(g, m + l->at_weight, l->weight, u->count * sizeof *l->weight, e) ||
        !gpu_upload(g, m + l->at_values, &l->values, sizeof l->values, e))
        return false;
    gradient_state *state = (gradient_state *)(void *)(m + l->at_state);
    const step_values *values = (const step_values *)(void *)(m + l->at_values);
    gradient_norm_args norm = {.list = {(const tensor_item *)(void *)m, count, l->gradient_blocks},
                               .max_norm = u->max_norm,
                               .unscale = &values->unscale,
                               .state = state};
    gradient_norm_launch(&norm, m + l->at_scratch, g->stream);
    adamw_args step = {.item = (const adamw_item *)(void *)(m + l->at_weight),
                       .count = count,
                       .blocks = l->weight_blocks,
                       .constants = &values->constants,
                       .tables = c->maps,
                       .state = state,
                       .bad_none = (uint32_t)count};
    adamw_launch(&step, g->stream);
    return gpu_launched(g, e) && gpu_download(g, out, state, sizeof *out, e);
}

bool cuda_update(device *d, const update_job *u, update_result *r, error *e)
{
    cuda *c = cuda_of(d);
    step_lists l = {0};
    gradient_state state = {0};
    *r = (update_result){.bad = u->count};
    if (!u->count) return true;
    bool ok = gpu_enter(&c->gpu, e) && maps_ready(c, e) && lists_make(c, &l, u, e) &&
              lists_run(c, &l, u, &state, e);
    if (ok) {
        r->norm = state.norm;
        r->bad = state.bad;
    }
    for (size_t i = 0; ok && r->bad == u->count && i < u->count; i++) /* all of it has been done */
        cuda_weights_changed(u->tensor[i].weights, u->tensor[i].index, l.weight[i].copy.data);
    free(l.gradient);
    free(l.weight);
    return ok;
}
