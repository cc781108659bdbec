/* SPDX-License-Identifier: Apache-2.0
 *
 * parameters: memory for the trained weights, filled from what they begin as. */
#include "train/parameters.h"

#include <stdlib.h>

#include "base/half.h"

enum { ALIGNMENT = 64 };

static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

dtype parameters_type(const train_settings *s)
{
    return s->optimizer == OPTIMIZER_ADAMW_F16 ? DTYPE_F16 : DTYPE_F32;
}

static moment_kind kind_for(const train_settings *s, int64_t n)
{
    switch (s->optimizer) {
    case OPTIMIZER_ADAMW: return MOMENTS_F32;
    case OPTIMIZER_ADAMW_F16: return MOMENTS_F16;
    default: return n < MOMENTS_8BIT_FROM ? MOMENTS_F32_BNB : MOMENTS_8BIT;
    }
}

static parameter_sizes sizes_of(const weight_set *base, const train_settings *s)
{
    parameter_sizes z = {0};
    for (size_t i = 0; i < base->count; i++) {
        int64_t n = weight_elements(&base->item[i]);
        z.weights += aligned((size_t)n * dtype_size(parameters_type(s)));
        z.states += aligned(moments_bytes(kind_for(s, n), n));
        if (s->gradient_accumulation_steps > 1) z.sums += aligned((size_t)n * sizeof(float));
    }
    return z;
}

parameter_sizes parameters_sizes(const weight_set *unet, const weight_set *clip,
                                 const train_settings *s)
{
    parameter_sizes z = sizes_of(unet, s), more = sizes_of(clip, s);
    z.weights += more.weights;
    z.states += more.states;
    z.sums += more.sums;
    return z;
}

static void trained_close(trained_set *t)
{
    device_weights_close(&t->copy);
    host_view_close(&t->view);
    free(t->set.item);
    free(t->moments);
    free(t->at);
    free(t->sum_at);
    if (t->weights.handle) t->device->buffer_close(&t->weights);
    if (t->states.handle) t->device->buffer_close(&t->states);
    if (t->sums.handle) t->device->buffer_close(&t->sums);
    *t = (trained_set){0};
}

/* Where products read float32 weights as bfloat16, an eighth of those that come from float16 lie
 * midway between two of its numbers: the first step, however small, would decide which one each of
 * them is read as, all down the gradient, which is a far larger step than the one that was taken.
 * So numbers [at, at + count) of a matrix begin somewhere in the step of float16 that they stand
 * for, evenly spread (by multiples of the golden ratio), and no step moves what products read by
 * more than itself on average. */
static void spread_over_step(float *value, size_t at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half = half_from_float(value[i]);
        if ((half & 0x7fff) == 0 || (half & 0x7fff) >= 0x7bff)
            continue; /* 0; the largest, and on */
        float step = half_to_float((uint16_t)(half + 1)) - half_to_float(half);
        float share = (float)((uint32_t)(at + i) * 0x9e3779b1u >> 8) * 0x1p-24f;
        value[i] += (share - 0.5f) * step;
    }
}

static bool is_spread(const trained_set *t, const weight *from, dtype type)
{
    return from->type == DTYPE_F16 && type == DTYPE_F32 && from->rank > 1 &&
           t->device->weight_type == DTYPE_BF16;
}

/* A weight of the base in the type that is trained, piece by piece. */
static bool fill_weight(trained_set *t, size_t i, const weight *from, error *e)
{
    enum { PIECE = 16384 };
    float single[PIECE];
    uint16_t half[PIECE];
    size_t n = (size_t)weight_elements(from), size = dtype_size(t->set.item[i].type);
    for (size_t at = 0; at < n; at += PIECE) {
        size_t count = n - at < PIECE ? n - at : PIECE;
        const void *piece = single;
        convert_to_float(single, (const char *)from->data + at * dtype_size(from->type), from->type,
                         count);
        if (is_spread(t, from, t->set.item[i].type)) spread_over_step(single, at, count);
        if (size < sizeof *single) {
            convert_from_float(half, DTYPE_F16, single, count);
            piece = half;
        }
        if (!t->device->upload(t->device, &t->weights, t->at[i] + at * size, piece, count * size,
                               e))
            return false;
    }
    return true;
}

/* Everything from the base, in its own place. */
static bool fill(trained_set *t, const weight_set *base, const train_settings *s, error *e)
{
    size_t at = 0, state_at = 0, sum_at = 0;
    dtype type = parameters_type(s);
    for (size_t i = 0; i < base->count; i++) {
        const weight *from = &base->item[i];
        size_t n = (size_t)weight_elements(from);
        moment_kind kind = kind_for(s, (int64_t)n);
        t->set.item[i] = *from;
        t->set.item[i].type = type;
        t->set.item[i].data = NULL;
        t->at[i] = at;
        t->sum_at[i] = sum_at;
        moments_place(&t->moments[i], kind, (int64_t)n, &t->states, state_at);
        if (!fill_weight(t, i, from, e)) return false;
        at += aligned(n * dtype_size(type));
        state_at += aligned(moments_bytes(kind, (int64_t)n));
        sum_at += aligned(n * sizeof(float));
        if (base->storage_drop && at % ((size_t)256 << 20) < n * sizeof(float))
            base->storage_drop(base->storage);
    }
    return true;
}

static bool open_buffers(trained_set *t, const parameter_sizes *z, error *e)
{
    static const char what[] = "the trained weights";
    device *d = t->device;
    return d->buffer_open(d, z->weights, what, &t->weights, e) &&
           d->buffer_open(d, z->states, what, &t->states, e) &&
           (!z->sums || d->buffer_open(d, z->sums, what, &t->sums, e));
}

static bool trained_open(trained_set *t, device *d, const weight_set *base, const train_settings *s,
                         error *e)
{
    parameter_sizes z = sizes_of(base, s);
    t->device = d;
    t->set.item = calloc(base->count + 1, sizeof *t->set.item);
    t->moments = calloc(base->count + 1, sizeof *t->moments);
    t->at = calloc(base->count + 1, sizeof *t->at);
    t->sum_at = calloc(base->count + 1, sizeof *t->sum_at);
    bool ok = (t->set.item && t->moments && t->at && t->sum_at) ||
              error_memory(e, "the trained weights", base->count * sizeof *t->set.item);
    t->set.count = base->count;
    ok = ok && open_buffers(t, &z, e) && fill(t, base, s, e) &&
         device_weights_open_in(d, &t->set, &t->weights, t->at, &t->copy, e);
    if (!ok) trained_close(t);
    return ok;
}

bool parameters_open(parameters *p, device *d, const weight_set *unet, const weight_set *clip,
                     const train_settings *s, error *e)
{
    *p = (parameters){0};
    if ((!unet->count || trained_open(&p->unet, d, unet, s, e)) &&
        (!clip->count || trained_open(&p->clip, d, clip, s, e)))
        return true;
    parameters_close(p);
    return false;
}

void parameters_close(parameters *p)
{
    trained_close(&p->unet);
    trained_close(&p->clip);
}

static bool show(trained_set *t, error *e)
{
    if (!t->set.count) return true;
    if (!host_view_open(&t->view, &t->weights, e)) return false;
    for (size_t i = 0; i < t->set.count; i++) t->set.item[i].data = t->view.data + t->at[i];
    return true;
}

static void hide(trained_set *t)
{
    for (size_t i = 0; i < t->set.count; i++) t->set.item[i].data = NULL;
    host_view_close(&t->view);
}

bool parameters_show(parameters *p, error *e)
{
    if (show(&p->unet, e) && show(&p->clip, e)) return true;
    parameters_hide(p);
    return false;
}

void parameters_hide(parameters *p)
{
    hide(&p->unet);
    hide(&p->clip);
}

const trained_set *parameter_find(const parameters *p, const char *name, size_t *index)
{
    const trained_set *sets[] = {&p->unet, &p->clip};
    for (int i = 0; i < 2; i++) {
        const weight *w = weight_find(&sets[i]->set, name);
        if (!w) continue;
        *index = (size_t)(w - sets[i]->set.item);
        return sets[i];
    }
    return NULL;
}
