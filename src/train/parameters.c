/* SPDX-License-Identifier: Apache-2.0
 *
 * parameters: blocks for the trained weights, filled from the model. */
#include "train/parameters.h"

#include <stdlib.h>

#include "base/half.h"
#include "base/platform.h"

enum { ALIGNMENT = 64 };

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static dtype trained_type(const train_settings *s)
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

static void sizes_of(const weight_set *base, const train_settings *s, trained_set *t)
{
    for (size_t i = 0; i < base->count; i++) {
        int64_t n = weight_elements(&base->item[i]);
        t->weights_size += aligned((size_t)n * dtype_size(trained_type(s)));
        t->states_size += aligned(moments_bytes(kind_for(s, n), n));
        if (s->gradient_accumulation_steps > 1) t->sums_size += aligned((size_t)n * sizeof(float));
    }
}

size_t parameters_bytes(const model *m, const train_settings *s)
{
    trained_set t = {0};
    sizes_of(&m->unet_weights, s, &t);
    if (s->train_text_encoder) sizes_of(&m->clip_weights, s, &t);
    return t.weights_size + t.states_size + t.sums_size;
}

static void trained_close(trained_set *t)
{
    device_weights_close(&t->copy);
    free(t->set.item);
    free(t->moments);
    free(t->sum_at);
    if (t->weights) block_free(t->weights, t->weights_size);
    if (t->states) block_free(t->states, t->states_size);
    if (t->sums) block_free(t->sums, t->sums_size);
    *t = (trained_set){0};
}

static void fill_half(uint16_t *out, const weight *from, size_t n)
{
    enum { PIECE = 4096 };
    float piece[PIECE];
    for (size_t at = 0; at < n; at += PIECE) {
        size_t count = n - at < PIECE ? n - at : PIECE;
        convert_to_float(piece, (const char *)from->data + at * dtype_size(from->type), from->type,
                         count);
        convert_from_float(out + at, DTYPE_F16, piece, count);
    }
}

/* Everything from the base, in its own place. */
static void fill(trained_set *t, const weight_set *base, const train_settings *s)
{
    size_t at = 0, state_at = 0, sum_at = 0;
    dtype type = trained_type(s);
    for (size_t i = 0; i < base->count; i++) {
        const weight *from = &base->item[i];
        weight *to = &t->set.item[i];
        size_t n = (size_t)weight_elements(from);
        moment_kind kind = kind_for(s, (int64_t)n);
        void *data = (char *)t->weights + at;
        *to = *from;
        to->type = type;
        to->data = data;
        if (type == DTYPE_F32)
            convert_to_float(data, from->data, from->type, n);
        else
            fill_half(data, from, n);
        moments_place(&t->moments[i], kind, (int64_t)n, (char *)t->states + state_at);
        t->sum_at[i] = sum_at;
        at += aligned(n * dtype_size(type));
        state_at += aligned(moments_bytes(kind, (int64_t)n));
        sum_at += aligned(n * sizeof(float)) / sizeof(float);
        if (base->storage_drop && at % ((size_t)256 << 20) < n * sizeof(float))
            base->storage_drop(base->storage);
    }
}

static bool trained_open(trained_set *t, device *d, const weight_set *base, const train_settings *s,
                         error *e)
{
    sizes_of(base, s, t);
    t->set.item = calloc(base->count + 1, sizeof *t->set.item);
    t->moments = calloc(base->count + 1, sizeof *t->moments);
    t->sum_at = calloc(base->count + 1, sizeof *t->sum_at);
    t->weights = block_alloc(t->weights_size);
    t->states = block_alloc(t->states_size);
    if (t->sums_size) t->sums = block_alloc(t->sums_size);
    if (!t->set.item || !t->moments || !t->sum_at || !t->weights || !t->states ||
        (t->sums_size && !t->sums)) {
        error_memory(e, "the trained weights", t->weights_size + t->states_size + t->sums_size);
        trained_close(t);
        return false;
    }
    t->set.count = base->count;
    fill(t, base, s);
    if (device_weights_open(d, &t->set, &t->copy, e)) return true;
    trained_close(t);
    return false;
}

bool parameters_open(parameters *p, device *d, const model *m, const train_settings *s, error *e)
{
    *p = (parameters){0};
    if (trained_open(&p->unet, d, &m->unet_weights, s, e) &&
        (!s->train_text_encoder || trained_open(&p->clip, d, &m->clip_weights, s, e)))
        return true;
    parameters_close(p);
    return false;
}

void parameters_close(parameters *p)
{
    trained_close(&p->unet);
    trained_close(&p->clip);
}

parameter parameter_find(const parameters *p, const char *name)
{
    const trained_set *sets[] = {&p->unet, &p->clip};
    for (int i = 0; i < 2; i++) {
        const weight *w = weight_find(&sets[i]->set, name);
        if (!w) continue;
        size_t at = (size_t)(w - sets[i]->set.item);
        return (parameter){sets[i]->copy, at, w, &sets[i]->moments[at],
                           sets[i]->sums ? sets[i]->sums + sets[i]->sum_at[at] : NULL};
    }
    return (parameter){0};
}
