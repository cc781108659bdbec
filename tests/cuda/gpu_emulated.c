/* SPDX-License-Identifier: Apache-2.0
 *
 * gpu_emulated: gpu.h on the processor. A stream does its work at once; a record keeps it. The
 * environment says what hardware there is: LIKENESS_EMULATED is a list such as
 * "cards=2,major=7,memory=1000000,fail=40", memory in bytes; driver=0: there is none, driver=12: an
 * old one. fail: the card is lost so many calls after the environment says so first, with
 * call=upload so many calls of gpu_upload; full: its memory is used up after so many allocations.
 * Where `memory` is not given, a stream, a mark and a record take a byte of it, so that one left
 * behind is seen. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda/gpu.h"
#include "emulated.h"

/* ---- the hardware ---- */

/* What stands behind NAME=; NULL: it is not in the list. */
static const char *text_of(const char *name)
{
    const char *list = getenv("LIKENESS_EMULATED");
    size_t length = strlen(name);
    for (; list && *list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL)
        if (strncmp(list, name, length) == 0 && list[length] == '=') return list + length + 1;
    return NULL;
}

static long setting(const char *name, long otherwise)
{
    const char *text = text_of(name);
    return text ? atol(text) : otherwise;
}

static atomic_long calls, allocations, used, things;

/* Each call of the hardware: true until the card is lost. call: gpu_CALL */
static bool works(const char *call, error *e)
{
    const char *which = text_of("call");
    long fail = setting("fail", 0);
    if (!fail) atomic_store(&calls, 0);
    if (!text_of("full")) atomic_store(&allocations, 0);
    bool counts = !which || strncmp(which, call, strcspn(which, ",")) == 0;
    return !fail || atomic_fetch_add(&calls, counts) + counts < fail ||
           error_set(e, ERROR_DEVICE, "the GPU failed (%s): it is lost", call);
}

/* Whether one more allocation finds room. */
static bool has_room(void)
{
    long full = setting("full", 0);
    return !full || atomic_fetch_add(&allocations, 1) + 1 < full;
}

/* What is not memory; a byte of it all the same. */
static void *thing_new(size_t size)
{
    void *thing = calloc(1, size);
    if (thing) atomic_fetch_add(&things, 1);
    return thing;
}

static void thing_free(void *thing)
{
    if (thing) atomic_fetch_sub(&things, 1);
    free(thing);
}

bool gpu_count(int *count, error *e)
{
    long driver = setting("driver", 13);
    *count = (int)setting("cards", 1);
    if (driver == 0)
        return error_set(e, ERROR_USAGE,
                         "there is no NVIDIA driver: install it, or use --device cpu");
    if (driver < 13)
        return error_set(
            e, ERROR_USAGE,
            "the NVIDIA driver is too old (it has CUDA %ld.0, this is built with 13.0): "
            "update it, or use --device cpu",
            driver);
    return *count > 0 ||
           error_set(e, ERROR_USAGE, "the NVIDIA driver finds no GPU: use --device cpu");
}

static uint64_t memory_all(void) { return (uint64_t)setting("memory", 1L << 34); }

static uint64_t memory_free(void)
{
    long more = text_of("memory") ? 0 : atomic_load(&things);
    uint64_t all = memory_all(), taken = (uint64_t)(atomic_load(&used) + more);
    return taken < all ? all - taken : 0;
}

bool gpu_card_read(int card, gpu_card *out, error *e)
{
    (void)card;
    if (!works("card_read", e)) return false;
    *out = (gpu_card){.name = "emulated",
                      .major = (int)setting("major", 9),
                      .minor = (int)setting("minor", 0),
                      .memory = memory_all(),
                      .left = memory_free()};
    return true;
}

bool gpu_open(gpu *g, int card, error *e)
{
    *g = (gpu){.card = card};
    if (!works("open", e)) return false;
    g->stream = thing_new(1);
    return g->stream != NULL || error_memory(e, "a stream", 1);
}

void gpu_close(gpu *g)
{
    thing_free(g->stream);
    *g = (gpu){0};
}

bool gpu_enter(const gpu *g, error *e)
{
    (void)g;
    return works("enter", e);
}

/* ---- records ---- */

typedef struct work {
    struct work *next;
    void (*run)(void *context);
    max_align_t context[];
} work;

typedef struct record {
    work *first, **last;
} record;

static _Thread_local record *open_record;

void emulated_do(void (*run)(void *context), const void *context, size_t size)
{
    if (!open_record) {
        run((void *)(uintptr_t)context);
        return;
    }
    work *w = calloc(1, sizeof *w + size);
    if (!w) abort();
    w->run = run;
    memcpy(w->context, context, size);
    *open_record->last = w;
    open_record->last = &w->next;
}

bool gpu_record_begin(const gpu *g, error *e)
{
    (void)g;
    if (!works("record_begin", e)) return false;
    record *r = thing_new(sizeof *r);
    if (!r) return error_memory(e, "a record", sizeof *r);
    r->last = &r->first;
    open_record = r;
    return true;
}

bool gpu_record_end(const gpu *g, gpu_record *out, error *e)
{
    (void)g;
    *out = open_record;
    open_record = NULL;
    if (works("record_end", e)) return true;
    gpu_record_close(out);
    return false;
}

bool gpu_record_replay(const gpu *g, gpu_record r, error *e)
{
    (void)g;
    if (!works("record_replay", e)) return false;
    for (work *w = ((record *)r)->first; w; w = w->next) w->run(w->context);
    return true;
}

void gpu_record_close(gpu_record *handle)
{
    record *r = *handle;
    *handle = NULL;
    for (work *w = r ? r->first : NULL, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    thing_free(r);
}

/* ---- memory ---- */

enum { ALIGNMENT = 256 }; /* before an allocation lies its size */

bool gpu_alloc(const gpu *g, size_t size, const char *what, void **out, error *e)
{
    (void)g;
    size_t whole = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + ALIGNMENT;
    *out = NULL;
    if (open_record) abort(); /* no memory is taken, given back or waited for in a record */
    if (!works("alloc", e)) return false;
    if (!has_room() || size > memory_free())
        return error_set(e, ERROR_MEMORY,
                         "not enough memory on the GPU for %s (%zu bytes, %llu are free)", what,
                         size, (unsigned long long)memory_free());
    char *data = aligned_alloc(ALIGNMENT, whole);
    if (!data) return error_memory(e, what, size);
    memset(data, 0, whole);
    memcpy(data, &size, sizeof size);
    atomic_fetch_add(&used, (long)size);
    *out = data + ALIGNMENT;
    return true;
}

void gpu_free(const gpu *g, void *memory)
{
    size_t size;
    (void)g;
    if (!memory) return;
    if (open_record) abort();
    char *data = (char *)memory - ALIGNMENT;
    memcpy(&size, data, sizeof size);
    atomic_fetch_sub(&used, (long)size);
    free(data);
}

uint64_t gpu_memory_left(const gpu *g)
{
    (void)g;
    return memory_free();
}

bool gpu_upload(const gpu *g, void *to, const void *from, size_t size, error *e)
{
    (void)g;
    if (open_record) abort(); /* a card's memory that is not page-locked is not copied so */
    if (!works("upload", e)) return false;
    if (size) memcpy(to, from, size);
    return true;
}

bool gpu_download(const gpu *g, void *to, const void *from, size_t size, error *e)
{
    (void)g;
    if (open_record) abort();
    if (!works("download", e)) return false;
    if (size) memcpy(to, from, size);
    return true;
}

typedef struct box_job {
    gpu_box to, from;
    size_t width, height, depth;
} box_job;

static void copy_box(void *context)
{
    const box_job *j = context;
    for (size_t d = 0; d < j->depth; d++)
        for (size_t h = 0; h < j->height; h++)
            memcpy((char *)j->to.data + d * j->to.slice + h * j->to.row,
                   (const char *)j->from.data + d * j->from.slice + h * j->from.row, j->width);
}

bool gpu_copy_box(const gpu *g, gpu_box to, gpu_box from, size_t width, size_t height, size_t depth,
                  error *e)
{
    box_job j = {to, from, width, height, depth};
    (void)g;
    if (!works("copy", e)) return false;
    emulated_do(copy_box, &j, sizeof j);
    return true;
}

bool gpu_copy(const gpu *g, void *to, const void *from, size_t size, error *e)
{
    gpu_box source = {(void *)(uintptr_t)from, size, size}, target = {to, size, size};
    return gpu_copy_box(g, target, source, size, 1, 1, e);
}

static void zero(void *context)
{
    const box_job *j = context;
    memset(j->to.data, 0, j->width);
}

bool gpu_zero(const gpu *g, void *to, size_t size, error *e)
{
    box_job j = {.to = {.data = to}, .width = size};
    (void)g;
    if (!works("zero", e)) return false;
    emulated_do(zero, &j, sizeof j);
    return true;
}

/* ---- order: there is none but the calls' own ---- */

bool gpu_launched(const gpu *g, error *e)
{
    (void)g;
    return works("launched", e);
}

bool gpu_wait(const gpu *g, error *e)
{
    (void)g;
    if (open_record) abort();
    return works("wait", e);
}

bool gpu_mark_open(const gpu *g, gpu_mark *out, error *e)
{
    (void)g;
    *out = NULL;
    if (!works("mark_open", e)) return false;
    *out = thing_new(1);
    return *out != NULL || error_memory(e, "a mark", 1);
}

void gpu_mark_close(gpu_mark *m)
{
    thing_free(*m);
    *m = NULL;
}

bool gpu_mark_set(const gpu *g, gpu_mark m, error *e)
{
    (void)g, (void)m;
    return works("mark_set", e);
}

bool gpu_mark_await(const gpu *g, gpu_mark m, error *e)
{
    (void)g, (void)m;
    return works("mark_await", e);
}
