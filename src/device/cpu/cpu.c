/* SPDX-License-Identifier: Apache-2.0
 *
 * cpu: opens the processor as a device: chooses the instruction set at run time, and hands every
 * call to its operation's row. */
#include "device/cpu/cpu.h"

#include <assert.h>
#include <cpuid.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/platform.h"
#include "device/cpu/winograd.h"

#define KERNELS_OF(set)                                                                            \
    extern const struct product_kernels product_kernels_##set;                                     \
    extern const struct winograd_kernels winograd_kernels_##set[];                                 \
    extern const struct grad_w_kernels grad_w_kernels_##set;                                       \
    extern const struct attention_kernels attention_kernels_##set;                                 \
    extern const struct norm_kernels norm_kernels_##set;                                           \
    extern const struct pointwise_kernels pointwise_kernels_##set;                                 \
    extern const struct optimizer_kernels optimizer_kernels_##set;                                 \
    static const struct cpu_kernels kernels_##set = {                                              \
        .product = &product_kernels_##set,                                                         \
        .winograd = winograd_kernels_##set,                                                        \
        .grad_w = &grad_w_kernels_##set,                                                           \
        .attention = &attention_kernels_##set,                                                     \
        .norm = &norm_kernels_##set,                                                               \
        .pointwise = &pointwise_kernels_##set,                                                     \
        .optimizer = &optimizer_kernels_##set,                                                     \
    };

KERNELS_OF(plain)
KERNELS_OF(avx2)
KERNELS_OF(avx512)
KERNELS_OF(avx512bf16)

static const struct cpu_kernels *const kernels_of[CPU_ISA_COUNT] = {
    [CPU_PLAIN] = &kernels_plain,
    [CPU_AVX2] = &kernels_avx2,
    [CPU_AVX512] = &kernels_avx512,
    [CPU_AVX512BF16] = &kernels_avx512bf16,
};

static const struct cpu_op *const rows[OP_KIND_COUNT] = {
    [OP_CONV2D] = &cpu_conv2d,
    [OP_CONV2D_GRAD_X] = &cpu_conv2d_grad_x,
    [OP_CONV2D_GRAD_W] = &cpu_conv2d_grad_w,
    [OP_LINEAR] = &cpu_linear,
    [OP_LINEAR_GRAD_X] = &cpu_linear_grad_x,
    [OP_LINEAR_GRAD_W] = &cpu_linear_grad_w,
    [OP_ATTENTION] = &cpu_attention,
    [OP_ATTENTION_GRAD] = &cpu_attention_grad,
    [OP_GROUP_NORM] = &cpu_group_norm,
    [OP_GROUP_NORM_GRAD] = &cpu_group_norm_grad,
    [OP_LAYER_NORM] = &cpu_layer_norm,
    [OP_LAYER_NORM_GRAD] = &cpu_layer_norm_grad,
    [OP_UNARY] = &cpu_unary,
    [OP_UNARY_GRAD] = &cpu_unary_grad,
    [OP_GEGLU] = &cpu_geglu,
    [OP_GEGLU_GRAD] = &cpu_geglu_grad,
    [OP_ADD] = &cpu_add,
    [OP_ADD_CHANNEL] = &cpu_add_channel,
    [OP_SCALE] = &cpu_scale,
    [OP_CAST] = &cpu_cast,
    [OP_CONCAT] = &cpu_concat,
    [OP_SLICE] = &cpu_slice,
    [OP_UNSLICE] = &cpu_unslice,
    [OP_UPSAMPLE] = &cpu_upsample,
    [OP_UPSAMPLE_GRAD] = &cpu_upsample_grad,
    [OP_SUM_LEADING] = &cpu_sum_leading,
    [OP_SUM_SPACE] = &cpu_sum_space,
    [OP_EMBEDDING] = &cpu_embedding,
    [OP_EMBEDDING_GRAD] = &cpu_embedding_grad,
    [OP_TIME_EMBEDDING] = &cpu_time_embedding,
    [OP_MSE] = &cpu_mse,
    [OP_MSE_GRAD] = &cpu_mse_grad,
};

static const struct cpu_op *row_of(const op_call *call)
{
    assert(call->kind >= 0 && call->kind < OP_KIND_COUNT);
    return rows[call->kind];
}

static bool cpu_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    const struct cpu_op *row = row_of(call);
    *state = NULL;
    *scratch = 0;
    if (!row) {
        return error_set(e, ERROR_USAGE, "the cpu device has no operation %d", (int)call->kind);
    }
    return !row->prepare || row->prepare(d, call, state, scratch, e);
}

static void cpu_unprepare(device *d, const op_call *call, void *state)
{
    const struct cpu_op *row = row_of(call);
    if (row && row->unprepare) row->unprepare(d, call, state);
}

static bool cpu_bind(device *d, const op_step *steps, size_t count, error *e)
{
    for (size_t i = 0; i < count; i++) {
        const struct cpu_op *row = row_of(steps[i].call);
        if (row->bind && !row->bind(d, steps[i].call, steps[i].state, e)) return false;
    }
    return true;
}

static bool run_step(device *d, const op_step *s, void *scratch, error *e)
{
    const struct cpu_op *row = row_of(s->call);
    if (!device_goes_on(d, e)) return false;
    if (row->try_run) return row->try_run(d, s->call, s->state, scratch, e) || op_step_failed(s, e);
    row->run(d, s->call, s->state, scratch);
    return true;
}

/* The queue is the caller: what is submitted is done when it returns. */
static bool cpu_submit(device *d, const op_step *steps, size_t count, const buffer *scratch,
                       size_t scratch_at, error *e)
{
    for (size_t i = 0; i < count; i++)
        if (!run_step(d, &steps[i], buffer_data(scratch, scratch_at), e)) return false;
    return true;
}

static bool cpu_wait(device *d, error *e)
{
    (void)d, (void)e;
    return true;
}

static bool cpu_beside(device **out, device *first, int threads, error *e);

static void cpu_close(device *d)
{
    thread_pool_close(&d->pool);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

enum { WORTH_WAKING = 16384, PIECE_LEAST = 8192, PIECES_A_THREAD = 4 };

void cpu_deal(const device *d, int64_t elements, int pieces, thread_piece *work,
              const void *context)
{
    thread_pool *pool = elements < WORTH_WAKING ? NULL : d->pool;
    thread_pool_run(pool, pieces, work, (void *)(uintptr_t)context);
}

int cpu_pieces(const device *d, int64_t elements)
{
    int64_t most = PIECES_A_THREAD * (int64_t)d->threads, fit = elements / PIECE_LEAST;
    if (d->threads == 1 || elements < WORTH_WAKING) return 1;
    return (int)(fit < most ? fit : most);
}

/* What the machine has, best last; the words LIKENESS_CPU takes. */
static const struct {
    const char *word;
    enum cpu_isa isa;
    bool bf16;
} levels[] = {
    {"plain", CPU_PLAIN, false},
    {"avx2", CPU_AVX2, false},
    {"avx512", CPU_AVX512, false},
    {"avx512bf16", CPU_AVX512BF16, true},
};
enum { LEVEL_COUNT = sizeof levels / sizeof levels[0] };

/* Two that not every compiler has a name for: leaf 1, bit 29 of ecx; leaf 7, part 1, bit 5 of eax.
 */
static bool has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 29);
}

static bool has_avx512bf16(void)
{
    unsigned a = 0, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
}

static int level_of_machine(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return 1;
    return has_avx512bf16() ? 3 : 2;
}

static bool level_choose(int *level, const char *wanted, error *e)
{
    int best = level_of_machine();
    *level = best;
    if (!*wanted) return true;
    for (int i = 0; i < LEVEL_COUNT; i++) {
        if (strcmp(wanted, levels[i].word) != 0) continue;
        if (i > best) {
            return error_set(e, ERROR_USAGE,
                             "LIKENESS_CPU=%s: this processor has only %s; unset it or lower it",
                             wanted, levels[best].word);
        }
        *level = i;
        return true;
    }
    return error_set(e, ERROR_USAGE,
                     "LIKENESS_CPU=%s is unknown: use plain, avx2, avx512 or avx512bf16", wanted);
}

/* pool may be NULL: one thread */
static bool cpu_new(device **out, int level, thread_pool *pool, dtype precision, error *e)
{
    cpu *c = calloc(1, sizeof *c);
    if (!c) {
        thread_pool_close(&pool);
        return error_memory(e, "the cpu device", sizeof *c);
    }
    dtype compute = precision == DTYPE_BF16 && levels[level].bf16 ? DTYPE_BF16 : DTYPE_F32;
    c->level = level;
    c->kernels = *kernels_of[levels[level].isa];
    c->device = (device){
        .name = c->name,
        .threads = pool ? thread_pool_size(pool) : 1,
        .pool = pool,
        .compute = compute,
        .weight_type = precision,
        .batches_alike = compute == DTYPE_F32, /* oneDNN promises nothing of the kind */
        .prepare = cpu_prepare,
        .unprepare = cpu_unprepare,
        .bind = cpu_bind,
        .submit = cpu_submit,
        .wait = cpu_wait,
        .find_bad = cpu_find_bad,
        .buffer_open = cpu_buffer_open,
        .buffer_close = cpu_buffer_close,
        .upload = cpu_upload,
        .download = cpu_download,
        .copy = cpu_copy,
        .fill = cpu_fill,
        .memory_left = cpu_memory_left,
        .accumulate = cpu_accumulate,
        .update = cpu_update,
        .weights_open = cpu_weights_open,
        .weights_close = cpu_weights_close,
        .weights_touch = cpu_weights_touch,
        .weights_bytes = cpu_weights_bytes,
        .copy_bytes = cpu_copy_bytes,
        .beside = cpu_beside,
        .close = cpu_close,
    };
    pthread_mutex_init(&c->device.lock, NULL);
    moment_maps_fill(&c->maps);
    snprintf(c->name, sizeof c->name, "cpu %s, %d thread%s", levels[level].word, c->device.threads,
             c->device.threads == 1 ? "" : "s");
    *out = &c->device;
    return true;
}

static bool check_threads(int threads, error *e)
{
    return (threads >= 0 && threads <= THREADS_MOST) ||
           error_set(e, ERROR_USAGE, "%d threads: give 1 to %d, or 0 for every core", threads,
                     THREADS_MOST);
}

static bool cpu_beside(device **out, device *first, int threads, error *e)
{
    thread_pool *pool = NULL;
    if (!check_threads(threads, e)) return false;
    if (threads == 0) threads = cpu_count();
    if ((threads > 1 && !thread_pool_open(&pool, threads, e)) ||
        !cpu_new(out, ((const cpu *)(const void *)first)->level, pool, first->weight_type, e))
        return false;
    (*out)->first = first;
    return true;
}

/* The environment is read once: a host may change it in another thread. */
static char level_word[32];

static void level_read(void)
{
    const char *word = getenv("LIKENESS_CPU");
    snprintf(level_word, sizeof level_word, "%s", word ? word : "");
}

static bool cpu_open(device **out, const char *name, const device_options *o, error *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, level_read);
    if (strcmp(name, device_kind_cpu.name) != 0)
        return error_set(e, ERROR_USAGE, "device %s: the processor is one device, cpu", name);
    int level = 0;
    if (!level_choose(&level, o->level ? o->level : level_word, e) || !check_threads(o->threads, e))
        return false;
    if (o->precision != DTYPE_F32 && o->precision != DTYPE_BF16) {
        return error_set(e, ERROR_USAGE,
                         "the processor does not compute in precision %s: use bf16, which takes as "
                         "little memory, or f32, or a GPU (--device cuda)",
                         precision_name(o->precision));
    }
    thread_pool *pool;
    return thread_pool_open(&pool, o->threads > 0 ? o->threads : cpu_count(), e) &&
           cpu_new(out, level, pool, o->precision, e);
}

static bool cpu_card(int i, device_card *out, error *e)
{
    (void)e;
    int level = level_of_machine(), cores = cpu_count();
    if (i > 0) return false;
    *out = (device_card){
        .name = "cpu",
        .memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
        .left = memory_available(),
        .bf16 = true,
    };
    snprintf(out->text, sizeof out->text, "processor, %s, %d core%s", levels[level].word, cores,
             cores == 1 ? "" : "s");
    return true;
}

const device_kind device_kind_cpu = {"cpu", cpu_open, cpu_card};
