/* SPDX-License-Identifier: Apache-2.0
 *
 * update: the second half of a training step, and its guard. */
#include "train/update.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"

/* Every trained tensor of the step that the loss depends on, with its gradient and its sum. */
static bool list_updates(const trainer *t, step_graph *s, error *e)
{
    if (s->updates) return true;
    update_tensor *list = s->updates = calloc(s->count + 1, sizeof *list);
    if (!list) return error_memory(e, "the gradients", s->count * sizeof *list);
    for (size_t i = 0; i < s->count; i++) {
        size_t k;
        if (!s->grad[i]) continue;
        const trained_set *of = parameter_find(&t->parameters, s->trained[i]->name, &k);
        array gradient = graph_array(s->graph, s->grad[i]), sum = {.rank = -1};
        if (of->sums.handle) {
            sum = gradient;
            sum.memory = &of->sums;
            sum.offset = of->sum_at[k];
        }
        list[s->update_count++] = (update_tensor){of->copy, k, gradient, sum, of->moments[k]};
    }
    return true;
}

bool update_accumulate(trainer *t, step_graph *s, error *e)
{
    return list_updates(t, s, e) &&
           t->device->accumulate(t->device, s->updates, s->update_count, e);
}

/* ---- the guard ---- */

static const char why[] =
    "the usual causes are a --learning_rate that is too high, weights or moments "
    "in half precision, and a broken picture or model (docs/WHY-NAN.md)";

static bool guard(const trainer *t, const char *found, error *e)
{
    return error_set(e, ERROR_NUMERIC,
                     "step %lld: %s%s; training stopped with the weights of step "
                     "%lld; %s",
                     (long long)t->done + 1, found,
                     t->scaler.scale > 0 ? ", though the loss scale has come down to 1" : "",
                     (long long)t->done, why);
}

bool update_blame(trainer *t, const step_graph *s, const char *what, error *e)
{
    error found = {0};
    char text[sizeof found.text];
    if (graph_run_checked(s->graph, &found)) strcpy(found.text, what);
    snprintf(text, sizeof text, "%.1500s", found.text);
    return guard(t, text, e);
}

static array plain(const buffer *memory, size_t at, dtype type, int64_t n)
{
    return (array){.memory = memory, .offset = at, .type = type, .rank = 1, .dim = {n}};
}

/* The weight, and the moments that can be other than finite. */
enum { PARTS = 3 };

static void parts_of(const trained_set *set, size_t i, array part[PARTS])
{
    const weight *w = &set->set.item[i];
    const moments *m = &set->moments[i];
    int64_t blocks = (m->count + MOMENTS_BLOCK - 1) / MOMENTS_BLOCK;
    bool bytes = m->kind == MOMENTS_8BIT;
    part[0] = plain(&set->weights, set->at[i], w->type, m->count);
    part[1] = part[2] = part[0];
    if (m->kind == MOMENTS_F16) return;
    part[1] = plain(m->memory, bytes ? m->absmax_m : m->m, DTYPE_F32, bytes ? blocks : m->count);
    part[2] = plain(m->memory, bytes ? m->absmax_v : m->v, DTYPE_F32, bytes ? blocks : m->count);
}

static bool set_finite(const trained_set *set, error *e)
{
    size_t count = PARTS * set->set.count;
    bad_value bad;
    if (!count) return true;
    array *list = malloc(count * sizeof *list);
    if (!list) return error_memory(e, "the trained weights", count * sizeof *list);
    for (size_t i = 0; i < set->set.count; i++) parts_of(set, i, list + PARTS * i);
    bool ok = set->device->find_bad(set->device, list, count, &bad, e);
    free(list);
    if (ok && bad.which < count)
        return error_set(e, ERROR_NUMERIC, "weight %s or its moments hold NaN or infinity",
                         set->set.item[bad.which / PARTS].name);
    return ok;
}

bool trainer_finite(const trainer *t, error *e)
{
    return set_finite(&t->parameters.unet, e) && set_finite(&t->parameters.clip, e);
}

/* Weights and moments before a half-precision update, which may ruin them. */
typedef struct backup {
    buffer copy[4];
} backup;

static void of_trainer(const trainer *t, const buffer *of[4])
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    for (int k = 0; k < 4; k++) of[k] = k % 2 ? &sets[k / 2]->states : &sets[k / 2]->weights;
}

static void backup_close(backup *b, device *d)
{
    for (int k = 0; k < 4; k++)
        if (b->copy[k].handle) d->buffer_close(&b->copy[k]);
}

static bool backup_open(backup *b, const trainer *t, error *e)
{
    device *d = t->device;
    const buffer *of[4];
    bool ok = true;
    *b = (backup){0};
    of_trainer(t, of);
    for (int k = 0; ok && k < 4; k++)
        if (of[k]->handle)
            ok = d->buffer_open(d, of[k]->size, "a copy of the weights", &b->copy[k], e) &&
                 d->copy(d, &b->copy[k], 0, of[k], 0, of[k]->size, e);
    if (!ok) backup_close(b, d);
    return ok;
}

static bool backup_restore(const backup *b, const trainer *t, error *e)
{
    device *d = t->device;
    const buffer *of[4];
    of_trainer(t, of);
    for (int k = 0; k < 4; k++)
        if (of[k]->handle && !d->copy(d, of[k], 0, &b->copy[k], 0, of[k]->size, e)) return false;
    return true;
}

/* ---- the update ---- */

/* Whether the new weights are finite: the first that is not is told. */
static bool new_weights_finite(const trainer *t, const step_graph *s, error *e)
{
    array *list = malloc((s->update_count + 1) * sizeof *list);
    bad_value bad;
    if (!list) return error_memory(e, "the trained weights", s->update_count * sizeof *list);
    for (size_t i = 0; i < s->update_count; i++) {
        const update_tensor *u = &s->updates[i];
        const device_weights *w = u->weights;
        list[i] = plain(w->memory, w->at[u->index], w->set.item[u->index].type, u->moments.count);
    }
    bool ok = t->device->find_bad(t->device, list, s->update_count, &bad, e);
    free(list);
    if (!ok || bad.which == s->update_count) return ok;
    const update_tensor *u = &s->updates[bad.which];
    char text[512];
    snprintf(text, sizeof text, "the update makes element %lld of weight %s NaN or infinity",
             (long long)bad.index, u->weights->set.item[u->index].name);
    return guard(t, text, e);
}

/* The device's update; in half precision weights that are not finite afterwards are put back. */
static bool apply(const trainer *t, const step_graph *s, const update_job *u, update_result *r,
                  error *e)
{
    device *d = t->device;
    backup b;
    if (t->settings.optimizer != OPTIMIZER_ADAMW_F16) return d->update(d, u, r, e);
    if (!backup_open(&b, t, e)) return false;
    bool ok = d->update(d, u, r, e) && (r->bad < u->count || new_weights_finite(t, s, e));
    if (!ok) backup_restore(&b, t, e);
    backup_close(&b, d);
    return ok;
}

bool update_forget(trainer *t, error *e)
{
    const trained_set *sets[] = {&t->parameters.unet, &t->parameters.clip};
    device *d = t->device;
    for (int k = 0; k < 2; k++)
        if (sets[k]->sums.handle &&
            !d->fill(d, &sets[k]->sums, 0, 0, sets[k]->sums.size / sizeof(float), e))
            return false;
    t->batches = 0;
    return true;
}

/* A gradient is not finite: in half precision, at a scale that can be less, the step is skipped, a
 * loss that is not finite included; else that is the end. */
static bool skip(trainer *t, const step_graph *s, size_t bad, error *e)
{
    const update_tensor *u = &s->updates[bad];
    char text[512];
    if (t->scaler.scale > 0 && loss_scaler_next(&t->scaler, true)) {
        t->skipped++;
        return true;
    }
    snprintf(text, sizeof text, "the gradient by weight %s is not finite",
             u->weights->set.item[u->index].name);
    return update_blame(t, s, text, e);
}

bool update_run(trainer *t, step_graph *s, train_report *r, error *e)
{
    const train_settings *o = &t->settings;
    double began = clock_seconds();
    if (!list_updates(t, s, e)) return false;
    int64_t made = t->done - t->skipped; /* accelerate's scheduler stands still in a skipped step */
    double rate = t->rate * rate_multiplier(o->lr_scheduler, made, o->lr_warmup_steps, t->total,
                                            o->lr_num_cycles, o->lr_power, t->rate);
    update_job u = {.tensor = s->updates,
                    .count = s->update_count,
                    .unscale = 1 / loss_scale(&t->scaler),
                    /* textual_inversion.py does not clip */
                    .max_norm = o->textual_inversion ? INFINITY : o->max_grad_norm,
                    .step = {.step = made + 1,
                             .rate = rate,
                             .beta1 = o->adam_beta1,
                             .beta2 = o->adam_beta2,
                             .epsilon = o->adam_epsilon,
                             .weight_decay = o->adam_weight_decay}};
    update_result done;
    if (!apply(t, s, &u, &done, e)) return false;
    r->loss_scale = t->scaler.scale;
    r->skipped = done.bad < u.count;
    if (r->skipped ? !skip(t, s, done.bad, e) : !loss_scaler_next(&t->scaler, false)) return false;
    if (!update_forget(t, e)) return false;
    t->done++;
    r->updated = true;
    r->step = t->done;
    r->rate = rate;
    r->norm = done.norm;
    r->optimizer_seconds = clock_seconds() - began;
    return true;
}
