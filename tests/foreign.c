/* SPDX-License-Identifier: Apache-2.0
 *
 * foreign: see foreign.h. What the processor gets is the same operations on the same addresses,
 * with the rights given for as long; its buffers' handles are these addresses, and their `host` is
 * NULL. */
#include "foreign.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"

typedef struct foreign {
    device device; /* first */
    device *cpu;
} foreign;

/* ---- memory ---- */

/* A mapping, and how many functions are at work in it. */
typedef struct region {
    char *address;
    size_t size;
    int inside;
    struct region *next;
} region;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static region *regions;
static int inside_all; /* functions that are at work in all of them, those to come too */

static void turn(region *r, bool enter)
{
    int before = r->inside;
    r->inside += enter ? 1 : -1;
    if (before && r->inside) return;
    int failed = mprotect(r->address, r->size, r->inside ? PROT_READ | PROT_WRITE : PROT_NONE);
    assert(!failed);
    (void)failed;
}

/* only NULL: into all memory, or out of it */
static void turn_all(const void *only, bool enter)
{
    pthread_mutex_lock(&lock);
    if (!only) inside_all += enter ? 1 : -1;
    for (region *r = regions; r; r = r->next)
        if (!only || r->address == only) turn(r, enter);
    pthread_mutex_unlock(&lock);
}

static void enter(const void *only) { turn_all(only, true); }
static void leave(const void *only) { turn_all(only, false); }

static char *memory_new(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    region *r = malloc(sizeof *r);
    size = (size + page) / page * page;
    void *address = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!r || address == MAP_FAILED) {
        free(r);
        return NULL;
    }
    madvise(address, size, MADV_HUGEPAGE); /* rights are turned in fewer pieces */
    pthread_mutex_lock(&lock);
    *r = (region){address, size, 0, regions};
    for (int i = 0; i < inside_all; i++) turn(r, true);
    regions = r;
    pthread_mutex_unlock(&lock);
    return address;
}

static void memory_free(void *address)
{
    if (!address) return;
    pthread_mutex_lock(&lock);
    region **at = &regions;
    while ((*at)->address != address) at = &(*at)->next;
    region *r = *at;
    *at = r->next;
    pthread_mutex_unlock(&lock);
    munmap(r->address, r->size);
    free(r);
}

static device *cpu_of(const device *d) { return ((const foreign *)(const void *)d)->cpu; }

static bool foreign_buffer_open(device *d, size_t size, const char *what, buffer *out, error *e)
{
    *out = (buffer){0};
    void *memory = memory_new(size);
    if (!memory) return error_memory(e, what, size);
    *out = (buffer){.device = d, .handle = memory, .size = size};
    return true;
}

static void foreign_buffer_close(buffer *b)
{
    memory_free(b->handle);
    *b = (buffer){0};
}

static bool foreign_upload(device *d, const buffer *to, size_t at, const void *from, size_t size,
                           error *e)
{
    enter(to->handle);
    bool ok = cpu_of(d)->upload(cpu_of(d), to, at, from, size, e);
    leave(to->handle);
    return ok;
}

static bool foreign_download(device *d, const buffer *from, size_t at, void *to, size_t size,
                             error *e)
{
    enter(from->handle);
    bool ok = cpu_of(d)->download(cpu_of(d), from, at, to, size, e);
    leave(from->handle);
    return ok;
}

static bool foreign_copy(device *d, const buffer *to, size_t to_at, const buffer *from,
                         size_t from_at, size_t size, error *e)
{
    enter(NULL);
    bool ok = cpu_of(d)->copy(cpu_of(d), to, to_at, from, from_at, size, e);
    leave(NULL);
    return ok;
}

static bool foreign_fill(device *d, const buffer *to, size_t at, float value, size_t count,
                         error *e)
{
    enter(to->handle);
    bool ok = cpu_of(d)->fill(cpu_of(d), to, at, value, count, e);
    leave(to->handle);
    return ok;
}

static uint64_t foreign_memory_left(device *d) { return cpu_of(d)->memory_left(cpu_of(d)); }

/* ---- weights ---- */

/* The processor's set, whose data lie in foreign memory. */
typedef struct foreign_weights {
    weight_set set;
    size_t *at;
    char *copy; /* of the host's set; NULL: the weights are trained, and lie in a buffer */
    device_weights *inner;
} foreign_weights;

static size_t bytes_of(const weight *w) { return (size_t)weight_elements(w) * dtype_size(w->type); }

static void foreign_weights_close(device_weights *w)
{
    foreign_weights *own = w->own;
    device_weights_close(&own->inner);
    memory_free(own->copy);
    free(own->set.item);
    free(own->at);
    free(own);
}

static void copy_one(const foreign_weights *own, const weight_set *set, size_t i)
{
    memcpy(own->copy + own->at[i], set->item[i].data, bytes_of(&set->item[i]));
}

static bool copy_all(foreign_weights *own, const weight_set *set, error *e)
{
    size_t bytes = 0;
    for (size_t i = 0; i < set->count; i++) {
        own->at[i] = bytes;
        bytes += (bytes_of(&set->item[i]) + 63) / 64 * 64;
    }
    own->copy = memory_new(bytes);
    if (!own->copy) return error_memory(e, "foreign weights", bytes);
    enter(own->copy);
    for (size_t i = 0; i < set->count; i++) copy_one(own, set, i);
    leave(own->copy);
    for (size_t i = 0; i < set->count; i++) own->set.item[i].data = own->copy + own->at[i];
    return true;
}

static bool foreign_weights_open(device_weights *w, error *e)
{
    size_t count = w->set.count;
    foreign_weights *own = w->own = calloc(1, sizeof *own);
    if (!own) return error_memory(e, "foreign weights", sizeof *own);
    own->set = (weight_set){.item = calloc(count + 1, sizeof *own->set.item), .count = count};
    own->at = calloc(count + 1, sizeof *own->at);
    bool ok = (own->set.item && own->at) || error_memory(e, "foreign weights", count);
    for (size_t i = 0; ok && i < count; i++) {
        own->set.item[i] = w->set.item[i];
        own->set.item[i].data = NULL;
    }
    ok = ok && (w->memory || copy_all(own, &w->set, e)) &&
         device_weights_open_in(cpu_of(w->device), &own->set, w->memory, w->at, &own->inner, e);
    if (!ok) foreign_weights_close(w);
    return ok;
}

static void foreign_weights_touch(device_weights *w, size_t i)
{
    foreign_weights *own = w->own;
    if (own->copy) {
        enter(own->copy);
        copy_one(own, &w->set, i);
        leave(own->copy);
    }
    device_weights_touch(own->inner, i);
}

static size_t foreign_weights_bytes(device_weights *w)
{
    return device_weights_bytes(((foreign_weights *)w->own)->inner);
}

static size_t foreign_copy_bytes(const device *d, const weight *w, weight_use use)
{
    return bytes_of(w) + device_copy_bytes(cpu_of(d), w, use);
}

/* ---- operations ---- */

static array inner_array(array a)
{
    if (!a.w) return a;
    const foreign_weights *own = a.weights->own;
    a.w = &own->set.item[a.w - a.weights->set.item];
    a.weights = own->inner;
    return a;
}

static op_call inner_call(const op_call *call)
{
    op_call c = *call;
    for (int i = 0; i < c.in_count; i++) c.in[i] = inner_array(c.in[i]);
    return c;
}

static bool foreign_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    return cpu_of(d)->prepare(cpu_of(d), call, state, scratch, e);
}

static void foreign_unprepare(device *d, const op_call *call, void *state)
{
    cpu_of(d)->unprepare(cpu_of(d), call, state);
}

/* Where a call's weights lie. */
static const void *memory_of(const device_weights *w)
{
    return w->memory ? w->memory->handle : ((const foreign_weights *)w->own)->copy;
}

static bool foreign_bind(device *d, const op_step *steps, size_t count, error *e)
{
    bool ok = true;
    for (size_t k = 0; ok && k < count; k++) {
        const op_call *call = steps[k].call;
        op_call inner = inner_call(call);
        for (int i = 0; i < call->in_count; i++)
            if (call->in[i].w) enter(memory_of(call->in[i].weights));
        ok = cpu_of(d)->bind(cpu_of(d), &(op_step){&inner, steps[k].state, steps[k].name}, 1, e);
        for (int i = 0; i < call->in_count; i++)
            if (call->in[i].w) leave(memory_of(call->in[i].weights));
    }
    return ok;
}

static bool foreign_submit(device *d, const op_step *steps, size_t count, const buffer *scratch,
                           size_t scratch_at, error *e)
{
    bool ok = true;
    cpu_of(d)->stop = d->stop;
    enter(NULL);
    for (size_t i = 0; ok && i < count; i++) {
        op_call inner = inner_call(steps[i].call);
        op_step step = {&inner, steps[i].state, steps[i].name};
        ok = cpu_of(d)->submit(cpu_of(d), &step, 1, scratch, scratch_at, e);
    }
    leave(NULL);
    return ok;
}

static bool foreign_wait(device *d, error *e) { return cpu_of(d)->wait(cpu_of(d), e); }

static bool foreign_find_bad(device *d, const array *list, size_t count, bad_value *found, error *e)
{
    array *inner = malloc((count + 1) * sizeof *inner);
    if (!inner) return error_memory(e, "a list of arrays", count * sizeof *inner);
    for (size_t i = 0; i < count; i++) inner[i] = inner_array(list[i]);
    enter(NULL);
    bool ok = cpu_of(d)->find_bad(cpu_of(d), inner, count, found, e);
    leave(NULL);
    free(inner);
    return ok;
}

static bool foreign_accumulate(device *d, const update_tensor *list, size_t count, error *e)
{
    enter(NULL);
    bool ok = cpu_of(d)->accumulate(cpu_of(d), list, count, e);
    leave(NULL);
    return ok;
}

static bool foreign_update(device *d, const update_job *u, update_result *r, error *e)
{
    update_tensor *inner = malloc((u->count + 1) * sizeof *inner);
    if (!inner) return error_memory(e, "a list of tensors", u->count * sizeof *inner);
    for (size_t i = 0; i < u->count; i++) {
        inner[i] = u->tensor[i];
        inner[i].weights = ((const foreign_weights *)u->tensor[i].weights->own)->inner;
    }
    update_job job = *u;
    job.tensor = inner;
    enter(NULL);
    bool ok = cpu_of(d)->update(cpu_of(d), &job, r, e);
    leave(NULL);
    free(inner);
    return ok;
}

/* ---- opening ---- */

static bool foreign_beside(device **out, device *first, int threads, error *e);

static void foreign_close(device *d)
{
    device_close(&((foreign *)(void *)d)->cpu);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static bool foreign_new(device **out, device *cpu, error *e)
{
    foreign *f = calloc(1, sizeof *f);
    if (!f) {
        device_close(&cpu);
        return error_memory(e, "a foreign device", sizeof *f);
    }
    *f = (foreign){
        .device =
            {
                .name = cpu->name,
                .threads = cpu->threads,
                .pool = cpu->pool,
                .compute = cpu->compute,
                .apart = true,
                .weight_type = cpu->weight_type,
                .batches_alike = cpu->batches_alike,
                .buffer_open = foreign_buffer_open,
                .buffer_close = foreign_buffer_close,
                .upload = foreign_upload,
                .download = foreign_download,
                .copy = foreign_copy,
                .fill = foreign_fill,
                .memory_left = foreign_memory_left,
                .prepare = foreign_prepare,
                .unprepare = foreign_unprepare,
                .bind = foreign_bind,
                .submit = foreign_submit,
                .wait = foreign_wait,
                .find_bad = foreign_find_bad,
                .accumulate = foreign_accumulate,
                .update = foreign_update,
                .weights_open = foreign_weights_open,
                .weights_close = foreign_weights_close,
                .weights_touch = foreign_weights_touch,
                .weights_bytes = foreign_weights_bytes,
                .copy_bytes = foreign_copy_bytes,
                .beside = foreign_beside,
                .close = foreign_close,
            },
        .cpu = cpu,
    };
    pthread_mutex_init(&f->device.lock, NULL);
    *out = &f->device;
    return true;
}

static bool foreign_beside(device **out, device *first, int threads, error *e)
{
    device *cpu;
    if (!device_open_beside(&cpu, cpu_of(first), threads, e) || !foreign_new(out, cpu, e))
        return false;
    (*out)->first = first;
    return true;
}

static bool foreign_make(device **out, const char *name, const device_options *o, error *e)
{
    device *cpu;
    (void)name;
    return device_open(&cpu, "cpu", o, e) && foreign_new(out, cpu, e);
}

const char *foreign_device(void)
{
    static const device_kind kind = {.name = "foreign", .make = foreign_make};
    static bool known;
    if (!known) device_register(&kind);
    known = true;
    return kind.name;
}

const char *test_device(void)
{
    const char *wanted = getenv("LIKENESS_TEST_DEVICE");
    if (!wanted) return "cpu";
    return strcmp(wanted, "foreign") == 0 ? foreign_device() : wanted;
}

bool samples_alike(const device *d, const float *a, const float *b, size_t count)
{
    return d->batches_alike ? memcmp(a, b, count * sizeof *a) == 0
                            : relative_error(a, b, count) < 1e-4;
}
