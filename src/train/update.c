/* SPDX-License-Identifier: Apache-2.0
 *
 * update: the second half of a training step, and its guard. */
#include "train/update.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"

/* The gradient by the step's i-th weight, and the weight; gradient NULL: the loss does not depend on it. */
static const float *gradient_of(const trainer *t, const step_graph *s, size_t i, parameter *p)
{
    *p = parameter_find(&t->parameters, graph_weight_at(s->graph, i)->name);
    if (!s->grad[i]) return NULL;
    return p->sum ? p->sum : graph_data(s->graph, s->grad[i]);
}

void update_accumulate(trainer *t, const step_graph *s)
{
    for (size_t i = 0; i < s->count; i++) {
        parameter p = parameter_find(&t->parameters, graph_weight_at(s->graph, i)->name);
        if (s->grad[i])
            t->device->accumulate(t->device, p.sum, graph_data(s->graph, s->grad[i]),
                                  weight_elements(p.weight));
    }
}

/* ---- the guard ---- */

static const char why[] = "the usual causes are a --learning_rate that is too high, weights or moments "
                          "in half precision, and a broken picture or model (docs/WHY-NAN.md)";

static bool guard(const trainer *t, const char *found, error *e)
{
    return error_set(e, ERROR_NUMERIC, "step %lld: %s; training stopped with the weights of step "
                     "%lld; %s", (long long)t->done + 1, found, (long long)t->done, why);
}

bool update_blame(trainer *t, const step_graph *s, const char *what, error *e)
{
    error found = {0};
    char text[sizeof found.text];
    if (graph_run_checked(s->graph, &found)) strcpy(found.text, what);
    snprintf(text, sizeof text, "%.1500s", found.text);
    return guard(t, text, e);
}

/* The first bad one of n halves or floats, or -1. */
static int64_t first_bad(const weight *w)
{
    int64_t n = weight_elements(w);
    const uint16_t *half = w->data;
    const float *single = w->data;
    for (int64_t i = 0; i < n; i++)
        if (w->type == DTYPE_F16 ? (half[i] & 0x7c00) == 0x7c00 : !isfinite(single[i])) return i;
    return -1;
}

static bool set_finite(const trainer *t, const trained_set *set, error *e)
{
    for (size_t i = 0; i < set->set.count; i++) {
        const weight *w = &set->set.item[i];
        const moments *m = &set->moments[i];
        bool ok = w->type == DTYPE_F32
                      ? isfinite(t->device->sum_squares(t->device, w->data, weight_elements(w)))
                      : first_bad(w) < 0;
        if (ok && (m->kind == MOMENTS_F32 || m->kind == MOMENTS_F32_BNB))
            ok = isfinite(t->device->sum_squares(t->device, m->m, m->count)) &&
                 isfinite(t->device->sum_squares(t->device, m->v, m->count));
        if (ok && m->kind == MOMENTS_8BIT) {
            int64_t blocks = (m->count + MOMENTS_BLOCK - 1) / MOMENTS_BLOCK;
            ok = isfinite(t->device->sum_squares(t->device, m->absmax_m, blocks)) &&
                 isfinite(t->device->sum_squares(t->device, m->absmax_v, blocks));
        }
        if (!ok)
            return error_set(e, ERROR_NUMERIC, "weight %s or its moments hold NaN or infinity",
                             w->name);
    }
    return true;
}

bool trainer_finite(const trainer *t, error *e)
{
    return set_finite(t, &t->parameters.unet, e) && set_finite(t, &t->parameters.clip, e);
}

/* Weights and moments before a half-precision update, which may ruin them. */
typedef struct backup { void *copy[4]; } backup;

static void *copy_of(const void *from, size_t size)
{
    void *to = size ? block_alloc(size) : NULL;
    return to ? memcpy(to, from, size) : NULL;
}

static void backup_close(backup *b, const trainer *t)
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    for (int k = 0; k < 2; k++) {
        if (b->copy[2 * k]) block_free(b->copy[2 * k], sets[k]->weights_size);
        if (b->copy[2 * k + 1]) block_free(b->copy[2 * k + 1], sets[k]->states_size);
    }
}

static bool backup_open(backup *b, const trainer *t, error *e)
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    *b = (backup){0};
    for (int k = 0; k < 2; k++) {
        if (!sets[k]->set.count) continue;
        b->copy[2 * k] = copy_of(sets[k]->weights, sets[k]->weights_size);
        b->copy[2 * k + 1] = copy_of(sets[k]->states, sets[k]->states_size);
        if (!b->copy[2 * k] || !b->copy[2 * k + 1]) {
            backup_close(b, t);
            return error_memory(e, "a copy of the weights", sets[k]->weights_size);
        }
    }
    return true;
}

static void backup_restore(const backup *b, const trainer *t)
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    for (int k = 0; k < 2; k++) {
        if (!sets[k]->set.count) continue;
        memcpy(sets[k]->weights, b->copy[2 * k], sets[k]->weights_size);
        memcpy(sets[k]->states, b->copy[2 * k + 1], sets[k]->states_size);
    }
}

/* ---- the update ---- */

/* The norm of all gradients together; not finite: the first bad gradient's weight in *bad. */
static double norm_of(const trainer *t, const step_graph *s, const char **bad)
{
    double sum = 0;
    *bad = NULL;
    for (size_t i = 0; i < s->count; i++) {
        parameter p;
        const float *g = gradient_of(t, s, i, &p);
        if (!g) continue;
        double squares = t->device->sum_squares(t->device, g, weight_elements(p.weight));
        if (!isfinite(squares) && !*bad) *bad = p.weight->name;
        sum += squares;
    }
    return sqrt(sum);
}

static void apply(const trainer *t, const step_graph *s, const adamw_step *a)
{
    for (size_t i = 0; i < s->count; i++) {
        parameter p;
        const float *g = gradient_of(t, s, i, &p);
        if (!g) continue;
        t->device->adamw(t->device, a, (void *)(uintptr_t)p.weight->data, g, p.moments);
        device_weights_touch(p.set, p.index);
    }
}

/* As apply, in half precision: weights that are not finite afterwards are put back. */
static bool apply_half(const trainer *t, const step_graph *s, const adamw_step *a, error *e)
{
    backup b;
    if (!backup_open(&b, t, e)) return false;
    apply(t, s, a);
    bool ok = true;
    for (size_t i = 0; ok && i < s->count; i++) {
        parameter p;
        if (!gradient_of(t, s, i, &p)) continue;
        int64_t at = first_bad(p.weight);
        if (at < 0) continue;
        char text[512];
        snprintf(text, sizeof text, "the update makes element %lld of weight %s NaN or infinity",
                 (long long)at, p.weight->name);
        ok = guard(t, text, e);
    }
    if (!ok) backup_restore(&b, t);
    backup_close(&b, t);
    return ok;
}

void update_forget(trainer *t)
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    for (int k = 0; k < 2; k++)
        if (sets[k]->sums) memset(sets[k]->sums, 0, sets[k]->sums_size);
    t->batches = 0;
}

bool update_run(trainer *t, const step_graph *s, train_report *r, error *e)
{
    const train_settings *o = &t->settings;
    const char *bad;
    double began = clock_seconds(), norm = norm_of(t, s, &bad);
    if (bad) {
        char text[512];
        snprintf(text, sizeof text, "the gradient by weight %s is not finite", bad);
        return update_blame(t, s, text, e);
    }
    double clip = o->max_grad_norm / (norm + 1e-6);
    double rate = t->rate * rate_multiplier(o->lr_scheduler, t->done, o->lr_warmup_steps, t->total,
                                            o->lr_num_cycles, o->lr_power, t->rate);
    adamw_step a = {.step = t->done + 1,
                    .rate = rate,
                    .beta1 = o->adam_beta1,
                    .beta2 = o->adam_beta2,
                    .epsilon = o->adam_epsilon,
                    .weight_decay = o->adam_weight_decay,
                    .grad_scale = clip < 1 ? (float)clip : 1};
    if (o->optimizer == OPTIMIZER_ADAMW_F16) {
        if (!apply_half(t, s, &a, e)) return false;
    } else {
        apply(t, s, &a);
    }
    update_forget(t);
    t->done++;
    r->updated = true;
    r->step = t->done;
    r->rate = rate;
    r->norm = norm;
    r->optimizer_seconds = clock_seconds() - began;
    return true;
}
