/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda: opens a card as a device, and is its queue. A list of steps runs as it is the first time,
 * is recorded the second time, and is replayed from then on: one call in place of thousands, for as
 * long as its operands lie where they lay. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "device/cuda/cuda.h"
#include "device/plugin.h"

/* ---- replays ---- */

enum { REPLAYS_MOST = 16 };

typedef struct replay {
    struct replay *next; /* less lately used */
    size_t count, words;
    uintptr_t *key;       /* all that a list's work depends on */
    const op_call *first; /* of the list */
    gpu_record record;    /* NULL: it was run once, or cannot be recorded */
    bool plain;           /* the latter */
} replay;

enum { STEP_WORDS = 2 + 2 * (OP_MAX_IN + OP_MAX_OUT) };

static void operand_key(const array *a, uintptr_t key[2])
{
    bool is_weight = a->rank >= 0 && a->w;
    key[0] = is_weight ? cuda_weights_id(a->weights) : a->memory ? (uintptr_t)a->memory->handle : 0;
    key[1] = is_weight ? (uintptr_t)(a->w - a->weights->set.item) : a->offset;
}

static void step_key(const op_step *s, uintptr_t key[STEP_WORDS])
{
    const op_call *c = s->call;
    memset(key, 0, STEP_WORDS * sizeof *key);
    *key++ = (uintptr_t)c;
    *key++ = (uintptr_t)s->state;
    for (int i = 0; i < c->in_count; i++) operand_key(&c->in[i], key + 2 * i);
    for (int i = 0; i < c->out_count; i++) operand_key(&c->out[i], key + 2 * (OP_MAX_IN + i));
}

static bool key_is(const replay *r, const op_step *steps, size_t count, uintptr_t scratch)
{
    uintptr_t key[STEP_WORDS];
    if (r->count != count || r->first != steps[0].call || r->key[0] != scratch) return false;
    for (size_t i = 0; i < count; i++) {
        step_key(&steps[i], key);
        if (memcmp(key, r->key + 1 + i * STEP_WORDS, sizeof key) != 0) return false;
    }
    return true;
}

static void replay_close(replay *r)
{
    gpu_record_close(&r->record);
    free(r->key);
    free(r);
}

/* Those that begin with the call; NULL: all. */
static void replays_drop(cuda *c, const op_call *first)
{
    for (replay **at = &c->replays; *at;) {
        replay *r = *at;
        if (first && r->first != first) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        replay_close(r);
    }
}

/* The list's, put first; NULL: it has not been seen. */
static replay *replay_find(cuda *c, const op_step *steps, size_t count, uintptr_t scratch)
{
    for (replay **at = &c->replays; *at; at = &(*at)->next) {
        replay *r = *at;
        if (!key_is(r, steps, count, scratch)) continue;
        *at = r->next;
        r->next = c->replays;
        return c->replays = r;
    }
    return NULL;
}

/* Remembers that the list was run; without memory it is not, and runs as it is. */
static void replay_note(cuda *c, const op_step *steps, size_t count, uintptr_t scratch)
{
    replay *r = calloc(1, sizeof *r);
    uintptr_t *key = malloc((1 + count * STEP_WORDS) * sizeof *key);
    int left = REPLAYS_MOST - 1;
    if (!r || !key) {
        free(r);
        free(key);
        return;
    }
    key[0] = scratch;
    for (size_t i = 0; i < count; i++) step_key(&steps[i], key + 1 + i * STEP_WORDS);
    *r = (replay){.next = c->replays, .count = count, .key = key, .first = steps[0].call};
    c->replays = r;
    while (r && left--) r = r->next;
    while (r && r->next) {
        replay *old = r->next;
        r->next = old->next;
        replay_close(old);
    }
}

/* ---- the queue ---- */

static bool run_steps(cuda *c, const op_step *steps, size_t count, void *scratch, error *e)
{
    for (size_t i = 0; i < count; i++) {
        const op_step *s = &steps[i];
        if (!device_goes_on(&c->device, e)) return false;
        if (!cuda_op_of(s->call->kind)->run(c, s->call, s->state, scratch, e))
            return op_step_failed(s, e);
    }
    return true;
}

/* False: the list is to run as it is, this time and later. */
static bool record(cuda *c, replay *r, const op_step *steps, size_t count, void *scratch)
{
    error ignored = {0};
    const atomic_bool *stop = c->device.stop;
    c->device.stop = NULL;
    bool ok = gpu_record_begin(&c->gpu, &ignored);
    if (ok) {
        ok = run_steps(c, steps, count, scratch, &ignored);
        ok = gpu_record_end(&c->gpu, &r->record, &ignored) && ok;
    }
    c->device.stop = stop;
    if (!ok) gpu_record_close(&r->record);
    r->plain = !ok;
    return ok;
}

static bool cuda_submit(device *d, const op_step *steps, size_t count, const buffer *scratch,
                        size_t scratch_at, error *e)
{
    cuda *c = cuda_of(d);
    void *memory = buffer_data(scratch, scratch_at);
    if (!count) return true;
    if (!gpu_enter(&c->gpu, e) || !device_goes_on(d, e)) return false;
    replay *r = count > 1 ? replay_find(c, steps, count, (uintptr_t)memory) : NULL;
    if (r && !r->plain && (r->record || record(c, r, steps, count, memory)))
        return gpu_record_replay(&c->gpu, r->record, e);
    if (!run_steps(c, steps, count, memory, e)) return false;
    if (!r && count > 1) replay_note(c, steps, count, (uintptr_t)memory);
    return true;
}

static bool cuda_wait(device *d, error *e)
{
    const gpu *g = &cuda_of(d)->gpu;
    return gpu_enter(g, e) && gpu_wait(g, e);
}

static bool cuda_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    cuda *c = cuda_of(d);
    const struct cuda_op *op = cuda_op_of(call->kind);
    *state = NULL;
    *scratch = 0;
    if (!op)
        return error_set(e, ERROR_USAGE, "the cuda device has no operation %d", (int)call->kind);
    return gpu_enter(&c->gpu, e) && (!op->prepare || op->prepare(c, call, state, scratch, e));
}

static void cuda_unprepare(device *d, const op_call *call, void *state)
{
    const struct cuda_op *op = cuda_op_of(call->kind);
    replays_drop(cuda_of(d), call);
    if (op && op->unprepare) op->unprepare(state);
}

/* ---- opening ---- */

static bool cuda_beside(device **out, device *first, int threads, error *e);

static void cuda_close(device *d)
{
    cuda *c = cuda_of(d);
    replays_drop(c, NULL);
    product_library_close(&c->product);
    conv_library_close(&c->conv);
    gpu_free(&c->gpu, c->lists.data);
    gpu_free(&c->gpu, c->maps);
    gpu_close(&c->gpu);
    thread_pool_close(&d->pool);
    pthread_mutex_destroy(&d->lock);
    free(c);
}

static device device_of(cuda *c, dtype precision)
{
    return (device){
        .name = c->name,
        .threads = 1,
        .compute = precision,
        .weight_type = precision,
        .apart = true,
        .prepare = cuda_prepare,
        .unprepare = cuda_unprepare,
        .bind = cuda_bind,
        .submit = cuda_submit,
        .wait = cuda_wait,
        .find_bad = cuda_find_bad,
        .buffer_open = cuda_buffer_open,
        .buffer_close = cuda_buffer_close,
        .upload = cuda_upload,
        .download = cuda_download,
        .copy = cuda_copy,
        .fill = cuda_fill,
        .memory_left = cuda_memory_left,
        .accumulate = cuda_accumulate,
        .update = cuda_update,
        .weights_open = cuda_weights_open,
        .weights_close = cuda_weights_close,
        .weights_touch = cuda_weights_touch,
        .weights_bytes = cuda_weights_bytes,
        .copy_bytes = cuda_copy_bytes,
        .beside = cuda_beside,
        .close = cuda_close,
    };
}

/* threads: of the host, for work beside the operations */
static bool cuda_new(device **out, int card, const char *card_text, dtype precision, int threads,
                     error *e)
{
    if (threads < 0 || threads > THREADS_MOST)
        return error_set(e, ERROR_USAGE, "%d threads: give 1 to %d, or 0 for every core", threads,
                         THREADS_MOST);
    if (threads == 0) threads = cpu_count();
    cuda *c = calloc(1, sizeof *c);
    if (!c) return error_memory(e, "the cuda device", sizeof *c);
    snprintf(c->card, sizeof c->card, "%s", card_text);
    c->device = device_of(c, precision);
    pthread_mutex_init(&c->device.lock, NULL);
    bool ok = gpu_open(&c->gpu, card, e) && product_library_open(&c->product, &c->gpu, e) &&
              conv_library_open(&c->conv, &c->gpu, e) &&
              (threads == 1 || thread_pool_open(&c->device.pool, threads, e));
    if (!ok) {
        cuda_close(&c->device);
        return false;
    }
    c->device.threads = threads;
    snprintf(c->name, sizeof c->name, "%s, %d thread%s", c->card, threads, threads == 1 ? "" : "s");
    *out = &c->device;
    return true;
}

static bool cuda_beside(device **out, device *first, int threads, error *e)
{
    const cuda *c = cuda_of(first);
    if (!cuda_new(out, c->gpu.card, c->card, first->weight_type, threads, e)) return false;
    (*out)->first = first;
    return true;
}

/* What of the cards this is built for: Turing and later; float16 in all of them, bfloat16 from
 * Ampere on. */
static bool serves(const gpu_card *g) { return g->major > 7 || (g->major == 7 && g->minor >= 5); }
static bool has_bf16(const gpu_card *g) { return g->major >= 8; }

/* "cuda": 0, "cuda:3": 3 */
static bool card_number(const char *name, int count, int *card, error *e)
{
    const char *text = strchr(name, ':');
    char *end = NULL;
    long number = text ? strtol(text + 1, &end, 10) : 0;
    if (text && (text[1] < '0' || text[1] > '9' || *end))
        return error_set(e, ERROR_USAGE, "device %s: write cuda, or cuda: and a number from 0 on",
                         name);
    if (number < count) {
        *card = (int)number;
        return true;
    }
    if (count == 1) return error_set(e, ERROR_USAGE, "device %s: there is one GPU, cuda:0", name);
    return error_set(e, ERROR_USAGE, "device %s: there are %d GPUs, cuda:0 to cuda:%d", name, count,
                     count - 1);
}

static bool cuda_make(device **out, const char *name, const device_options *o, error *e)
{
    int count, card = 0;
    gpu_card g;
    char text[128];
    *out = NULL;
    if (!gpu_count(&count, e) || !card_number(name, count, &card, e) || !gpu_card_read(card, &g, e))
        return false;
    if (!serves(&g))
        return error_set(
            e, ERROR_USAGE,
            "cuda:%d, %s, is too old (compute capability %d.%d, 7.5 is the least): use "
            "--device cpu",
            card, g.name, g.major, g.minor);
    if (o->precision == DTYPE_BF16 && !has_bf16(&g))
        return error_set(e, ERROR_USAGE,
                         "cuda:%d, %s, has no bfloat16: use --precision f16 or f32 (in training "
                         "--mixed_precision fp16 or no)",
                         card, g.name);
    snprintf(text, sizeof text, "cuda:%d %s, %llu GB", card, g.name,
             (unsigned long long)(g.memory / 1000000000));
    return cuda_new(out, card, text, o->precision, o->threads, e);
}

static bool cuda_card(int i, device_card *out, error *e)
{
    int count;
    gpu_card g;
    if (!gpu_count(&count, e) || i >= count || !gpu_card_read(i, &g, e)) return false;
    *out = (device_card){.memory = g.memory, .left = g.left, .f16 = true, .bf16 = has_bf16(&g)};
    snprintf(out->name, sizeof out->name, "cuda:%d", i);
    snprintf(out->text, sizeof out->text, "%s%s", g.name, serves(&g) ? "" : " (too old)");
    return true;
}

/* ---- the plug-in ---- */

device_plugin_function likeness_device_plugin;
__attribute__((visibility("default"))) const device_plugin *likeness_device_plugin(void)
{
    static const device_plugin plugin = {
        DEVICE_ABI, sizeof(device), LIKENESS_VERSION, {"cuda", cuda_make, cuda_card}};
    return &plugin;
}
