/* SPDX-License-Identifier: Apache-2.0
 *
 * Our kernels over lists of tensors under the emulator: AdamW in its four kinds has the processor's
 * bytes, and golden values of G8; the norm, its clipping and the loss's scale; what is not finite,
 * and where; sums of batches; packed weights. All that a kernel reads or writes comes from malloc:
 * a card reaches no other memory of a test (managed.h). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "device/cpu/optimizer.h"
#include "problem.h"

_Static_assert((int)KERNEL_MOMENTS_F32 == MOMENTS_F32 && (int)KERNEL_MOMENTS_8BIT == MOMENTS_8BIT &&
                   (int)KERNEL_MOMENTS_F32_BNB == MOMENTS_F32_BNB &&
                   (int)KERNEL_MOMENTS_F16 == MOMENTS_F16,
               "the device's and the kernels' are the same");

/* Zeros, 64-byte aligned */
static void *zeros(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) & ~(size_t)63);
    assert_non_null(p);
    return memset(p, 0, bytes);
}

/* ---- AdamW ---- */

static adamw_step step_at(int64_t step, double rate, float scale)
{
    return (adamw_step){.step = step,
                        .rate = rate,
                        .beta1 = 0.9,
                        .beta2 = 0.999,
                        .epsilon = 1e-8,
                        .weight_decay = 1e-2,
                        .grad_scale = scale};
}

static adamw_constants constants_of(moment_kind kind, const adamw_step *s)
{
    struct adamw_values v = adamw_values_of(kind, s);
    return (adamw_constants){v.decay, v.keep1, v.keep2, v.take1,
                             v.take2, v.step,  v.root,  v.epsilon};
}

typedef struct trained {
    moment_kind kind;
    int64_t count;
    void *weight[2], *m[2], *v[2]; /* of the processor, of the kernels */
    float *absmax_m[2], *absmax_v[2], *gradient;
    uint16_t *copy;
} trained;

static size_t element(const trained *t) { return t->kind == MOMENTS_F16 ? 2 : 4; }
static size_t moment_size(const trained *t) { return t->kind == MOMENTS_8BIT ? 1 : element(t); }
static size_t absmax_bytes(const trained *t) { return (size_t)(t->count + 255) / 256 * 4; }

static trained trained_open(moment_kind kind, int64_t count)
{
    trained t = {.kind = kind,
                 .count = count,
                 .gradient = zeros((size_t)count * 4),
                 .copy = zeros((size_t)count * 2)};
    for (int k = 0; k < 2; k++) {
        t.weight[k] = zeros((size_t)count * element(&t));
        t.m[k] = zeros((size_t)count * moment_size(&t));
        t.v[k] = zeros((size_t)count * moment_size(&t));
        t.absmax_m[k] = zeros(absmax_bytes(&t));
        t.absmax_v[k] = zeros(absmax_bytes(&t));
    }
    gpu_view numbers = {t.weight[0], kind == MOMENTS_F16 ? DTYPE_F16 : DTYPE_F32};
    for (int64_t i = 0; i < count; i++) view_set(numbers, (size_t)i, random_value());
    memcpy(t.weight[1], t.weight[0], (size_t)count * element(&t));
    return t;
}

static void trained_close(trained *t)
{
    for (int k = 0; k < 2; k++) {
        free(t->weight[k]);
        free(t->m[k]);
        free(t->v[k]);
        free(t->absmax_m[k]);
        free(t->absmax_v[k]);
    }
    free(t->gradient);
    free(t->copy);
}

static adamw_item item_of(const trained *t)
{
    return (adamw_item){.weight = t->weight[1],
                        .copy = {t->kind == MOMENTS_F16 ? NULL : t->copy, DTYPE_BF16},
                        .gradient = t->gradient,
                        .m = t->m[1],
                        .v = t->v[1],
                        .absmax_m = t->absmax_m[1],
                        .absmax_v = t->absmax_v[1],
                        .count = t->count,
                        .kind = (int)t->kind};
}

/* What the kernels read of a step */
typedef struct step_memory {
    moment_tables tables;
    adamw_step_constants constants;
    gradient_state state;
    adamw_item items[16];
} step_memory;

/* One update of all by the kernels */
static void run_adamw(const trained *list, int count, const adamw_step *s, uint32_t bad)
{
    step_memory *m = zeros(sizeof *m);
    for (int i = 0; i < count; i++) m->items[i] = item_of(&list[i]);
    m->constants = (adamw_step_constants){constants_of(MOMENTS_F32, s),
                                          constants_of(MOMENTS_8BIT, s)};
    m->state = (gradient_state){.grad_scale = s->grad_scale, .bad = bad};
    moment_tables_fill(&m->tables);
    int64_t blocks = adamw_list_place(m->items, count);
    adamw_launch(&(adamw_args){m->items, count, blocks, &m->constants, &m->tables, &m->state,
                               (uint32_t)count},
                 NULL);
    free(m);
}

static void expect_same(const trained *t)
{
    size_t n = (size_t)t->count;
    assert_memory_equal(t->weight[0], t->weight[1], n * element(t));
    assert_memory_equal(t->m[0], t->m[1], n * moment_size(t));
    assert_memory_equal(t->v[0], t->v[1], n * moment_size(t));
    if (t->kind == MOMENTS_8BIT) {
        assert_memory_equal(t->absmax_m[0], t->absmax_m[1], absmax_bytes(t));
        assert_memory_equal(t->absmax_v[0], t->absmax_v[1], absmax_bytes(t));
    }
    for (size_t i = 0; i < n && t->kind != MOMENTS_F16; i++)
        assert_int_equal(t->copy[i], bf16_from_float(((float *)t->weight[1])[i]));
}

/* Gradients of many sizes, some zero, some whole blocks of zeros */
static void fill_gradient(trained *t, int step)
{
    for (int64_t i = 0; i < t->count; i++) {
        double g = random_value() * pow(10, (double)(-(i % 9)));
        bool none = (i + step) % 37 == 0 || (i / 256 % 3 == 1 && step < 3);
        t->gradient[i] = none ? 0 : (float)g;
    }
}

/* One update of all by both */
static void step_both(device *d, trained *list, int count, const adamw_step *step)
{
    for (int i = 0; i < count; i++) {
        trained *x = &list[i];
        struct moment_data data = {x->kind, x->count,       x->m[0],
                                   x->v[0], x->absmax_m[0], x->absmax_v[0]};
        cpu_adamw(d, step, x->weight[0], x->gradient, &data);
    }
    run_adamw(list, count, step, (uint32_t)count);
    for (int i = 0; i < count; i++) expect_same(&list[i]);
}

static device *processor(void)
{
    device *d = NULL;
    error e = {0};
    assert_true(device_open(&d, "cpu", &(device_options){.threads = 1}, &e));
    return d;
}

static void test_adamw(void **state)
{
    (void)state;
    static const struct {
        moment_kind kind;
        int64_t count;
    } sizes[] = {{MOMENTS_F32, 1},     {MOMENTS_8BIT, 4096},  {MOMENTS_F32, 9001},
                 {MOMENTS_F16, 515},   {MOMENTS_8BIT, 16643}, {MOMENTS_F32_BNB, 77},
                 {MOMENTS_8BIT, 4097}, {MOMENTS_F16, 8}};
    enum { COUNT = sizeof sizes / sizeof sizes[0], STEPS = 4 };
    device *d = processor();
    trained list[COUNT];
    for (int i = 0; i < COUNT; i++) list[i] = trained_open(sizes[i].kind, sizes[i].count);
    for (int t = 1; t <= STEPS; t++) {
        adamw_step step = step_at(t, 1e-3, t == 2 ? 0.3f : 1);
        for (int i = 0; i < COUNT; i++) fill_gradient(&list[i], t);
        step_both(d, list, COUNT, &step);
        run_adamw(list, COUNT, &step, 3); /* a gradient is bad: nothing changes */
        for (int i = 0; i < COUNT; i++) expect_same(&list[i]);
    }
    for (int i = 0; i < COUNT; i++) trained_close(&list[i]);
    device_close(&d);
}

/* A block's gradients: 1, and what `next` gives of the numbers around a threshold. Without betas a
 * first moment is the gradient itself, a second one its square. */
typedef float nearby(const moment_tables *t, int i, int k);

static float around(float x, int steps)
{
    for (; steps > 0; steps--) x = nextafterf(x, INFINITY);
    for (; steps < 0; steps++) x = nextafterf(x, -INFINITY);
    return x;
}

static float around_m(const moment_tables *t, int i, int k)
{
    return around(t->threshold_m[i], k - 1);
}

static float around_v(const moment_tables *t, int i, int k)
{
    return around(sqrtf(t->threshold_v[i]), k - 1);
}

static float around_cell(const moment_tables *t, int i, int k)
{
    int32_t bits = PLACE_LEAST + (i << CELL_M) + k - 1;
    float x;
    (void)t;
    memcpy(&x, &bits, sizeof x);
    return i % 2 ? x : -x;
}

static void check_nearby(device *d, nearby *of, int numbers)
{
    enum { EACH = 3 };
    moment_tables tables;
    adamw_step step = step_at(1, 1e-3, 1);
    step.beta1 = step.beta2 = 0;
    int blocks = numbers * EACH / (MOMENTS_BLOCK - 1) + 1;
    trained x = trained_open(MOMENTS_8BIT, (int64_t)blocks * MOMENTS_BLOCK);
    moment_tables_fill(&tables);
    for (int i = 0; i < x.count; i++) {
        int at = i / MOMENTS_BLOCK * (MOMENTS_BLOCK - 1) + i % MOMENTS_BLOCK - 1;
        bool other = i % MOMENTS_BLOCK && at < numbers * EACH;
        x.gradient[i] = other ? of(&tables, at / EACH, at % EACH) : 1;
    }
    step_both(d, &x, 1, &step);
    trained_close(&x);
}

/* Numbers at which the nearest of a map changes, and where cells begin; blocks that no number can
 * be divided by. */
static void test_thresholds(void **state)
{
    (void)state;
    device *d = processor();
    check_nearby(d, around_m, MAP_SIZE - 1);
    check_nearby(d, around_v, MAP_SIZE - 1);
    check_nearby(d, around_cell, CELLS_M / 2 - 1);
    static const float odd[] = {0, -0.0f, 1e-45f, -1e-45f, 0x1p-23f, -0x1p-23f, 1e-20f, -1e-20f};
    trained x = trained_open(MOMENTS_8BIT, 4 * MOMENTS_BLOCK + 9);
    for (int i = 0; i < x.count; i++) x.gradient[i] = odd[i % 8];
    x.gradient[MOMENTS_BLOCK + 3] = 1;
    x.gradient[2 * MOMENTS_BLOCK + 5] = 3e38f; /* its square is infinite */
    for (int i = 3 * MOMENTS_BLOCK; i < 4 * MOMENTS_BLOCK; i++) x.gradient[i] = odd[i % 2];
    adamw_step step = step_at(1, 1e-3, 1);
    step.beta1 = step.beta2 = 0;
    step_both(d, &x, 1, &step);
    trained_close(&x);
    device_close(&d);
}

/* In every cell at most two indices meet: its first and the one after it. */
static void test_cells(void **state)
{
    (void)state;
    moment_tables t;
    moment_tables_fill(&t);
    for (int i = 0; i < CELLS_M; i++) {
        int32_t end = ((i + 1) << CELL_M) - 1;
        int last = index_at_place_m(t.m, t.threshold_m, end < 2 * PLACE_ZERO_M ? end : 0);
        assert_in_range(last - t.cell_m[i], 0, 1);
    }
    for (int i = 0; i < CELLS_V; i++)
        assert_in_range(index_at_place_v(t.threshold_v, ((i + 1) << CELL_V) - 1) - t.cell_v[i], 0,
                        1);
}

/* G8: sums of weights and of bytes over three steps */
static void test_golden_8bit(void **state)
{
    (void)state;
    static const double want_p[] = {152.791961, 153.301275, 152.169294};
    static const int want_m[] = {520224, 520249, 520102}, want_v[] = {186107, 219210, 264799};
    trained t = trained_open(MOMENTS_8BIT, 4096);
    float *p = t.weight[1];
    for (int i = 0; i < 4096; i++) p[i] = sinf(0.013f * (float)i);
    for (int step = 1; step <= 3; step++) {
        int m = 0, v = 0;
        double sum = 0;
        for (int i = 0; i < 4096; i++)
            t.gradient[i] = (float)(cos(0.7 * i + step) * pow(10, -(i % 5)));
        adamw_step s = step_at(step, 1e-3, 1);
        run_adamw(&t, 1, &s, 1);
        for (int i = 0; i < 4096; i++) {
            sum += (double)p[i];
            m += ((uint8_t *)t.m[1])[i];
            v += ((uint8_t *)t.v[1])[i];
        }
        assert_true(fabs(sum - want_p[step - 1]) < 2e-3);
        assert_true(abs(m - want_m[step - 1]) <= 8); /* ties */
        assert_true(abs(v - want_v[step - 1]) <= 8);
    }
    trained_close(&t);
}

/* ---- lists ---- */

enum { TENSORS = 4 };
static const int64_t counts[TENSORS] = {5, 20000, 0, 8193};
static const dtype kinds[TENSORS] = {DTYPE_F32, DTYPE_BF16, DTYPE_F32, DTYPE_F16};

typedef struct tensors {
    tensor_item *item;
    tensor_list list;
} tensors;

static void tensors_open(tensors *t, bool all_f32)
{
    t->item = zeros(TENSORS * sizeof *t->item);
    for (int i = 0; i < TENSORS; i++) {
        dtype type = all_f32 ? DTYPE_F32 : kinds[i];
        t->item[i] = (tensor_item){.data = {zeros((size_t)counts[i] * dtype_size(type)), type},
                                   .sum = zeros((size_t)counts[i] * 4),
                                   .count = counts[i]};
        for (int64_t k = 0; k < counts[i]; k++)
            view_set(t->item[i].data, (size_t)k, random_value());
    }
    t->list = (tensor_list){t->item, TENSORS, tensor_list_place(t->item, TENSORS)};
}

static void tensors_close(tensors *t)
{
    for (int i = 0; i < TENSORS; i++) {
        free(t->item[i].data.data);
        free(t->item[i].sum);
    }
    free(t->item);
}

static void expect_bad(const tensors *t, uint64_t want)
{
    uint64_t *found = zeros(sizeof *found);
    find_bad_launch(&t->list, found, NULL);
    assert_true(*found == want);
    free(found);
}

static void test_find_bad(void **state)
{
    (void)state;
    tensors t;
    tensors_open(&t, false);
    expect_bad(&t, BAD_NONE);
    view_set(t.item[3].data, 8192, (double)INFINITY);
    expect_bad(&t, 3ull << BAD_INDEX_BITS | 8192);
    view_set(t.item[3].data, 77, (double)-INFINITY);
    expect_bad(&t, 3ull << BAD_INDEX_BITS | 77);
    view_set(t.item[1].data, 19999, (double)NAN);
    view_set(t.item[1].data, 8191, (double)NAN);
    expect_bad(&t, 1ull << BAD_INDEX_BITS | 8191);
    view_set(t.item[0].data, 4, (double)NAN);
    expect_bad(&t, 4);
    tensors_close(&t);
}

static void test_accumulate(void **state)
{
    (void)state;
    tensors t;
    tensors_open(&t, false);
    for (int i = 0; i < 3; i++) accumulate_launch(&t.list, NULL);
    for (int i = 0; i < TENSORS; i++)
        for (int64_t k = 0; k < counts[i]; k++) {
            float x = (float)view_get(t.item[i].data, (size_t)k);
            assert_true(t.item[i].sum[k] == x + x + x);
        }
    tensors_close(&t);
}

/* unscale 0: there is none */
static gradient_state norm_of(const tensors *t, double max_norm, float unscale)
{
    gradient_state *to = zeros(sizeof *to);
    float *factor = zeros(sizeof *factor);
    *factor = unscale;
    gradient_norm_args a = {t->list, max_norm, unscale == 0 ? NULL : factor, to};
    void *scratch = zeros(gradient_norm_scratch(&a));
    gradient_norm_launch(&a, scratch, NULL);
    gradient_state s = *to;
    free(scratch);
    free(factor);
    free(to);
    return s;
}

static void test_norm(void **state)
{
    (void)state;
    tensors t;
    tensors_open(&t, true);
    double sum = 0;
    for (int i = 0; i < TENSORS; i++)
        for (int64_t k = 0; k < counts[i]; k++) sum += pow(view_get(t.item[i].data, (size_t)k), 2);
    double norm = sqrt(sum);
    gradient_state s = norm_of(&t, 1, 0);
    assert_true(fabs(s.norm - norm) < 1e-12 * norm);
    assert_true(s.grad_scale == (float)(1 / (s.norm + 1e-6)));
    assert_int_equal(s.bad, TENSORS);
    s = norm_of(&t, 1e9, 0);
    assert_true(s.grad_scale == 1);
    float unscale = 0x1p-10f;
    s = norm_of(&t, 1e9, unscale);
    assert_true(fabs(s.norm - norm / 1024) < 1e-12 * norm && s.grad_scale == unscale);
    s = norm_of(&t, 0.01, unscale);
    assert_true(fabs((double)s.grad_scale - 0.01 / (norm / 1024 + 1e-6) / 1024) < 1e-9);
    ((float *)t.item[1].data.data)[100] = 1e30f; /* its square is no float32 */
    s = norm_of(&t, 1, 0);
    assert_true(s.bad == TENSORS && fabs(s.norm - 1e30) < 1e24);
    ((float *)t.item[3].data.data)[100] = INFINITY;
    assert_int_equal(norm_of(&t, 1, 0).bad, 3);
    ((float *)t.item[1].data.data)[19999] = NAN;
    assert_int_equal(norm_of(&t, 1, 0).bad, 1);
    tensors_close(&t);
}

/* ---- packing ---- */

static void expect_packed(const pack_item *p)
{
    for (int64_t o = 0; o < p->out; o++)
        for (int64_t s = 0; s < p->space; s++)
            for (int64_t c = 0; c < p->in_padded; c++) {
                double want = c < p->in ? view_get(p->x, (size_t)((o * p->in + c) * p->space + s))
                                        : 0;
                double got = view_get(p->y, (size_t)((o * p->space + s) * p->in_padded + c));
                check_near(got, want, 0, p->y.type, 0);
            }
}

typedef struct pack_case {
    int64_t out, in, space, in_padded;
    int shift; /* x begins so many elements past where vectors may */
} pack_case;

static pack_item pack_open(const pack_case *z, dtype from, dtype to, void **block)
{
    size_t n = (size_t)(z->out * z->in * z->space);
    char *x = *block = zeros(n * 4 + 4);
    pack_item p = {.x = {x + (size_t)z->shift * dtype_size(from), from},
                   .y = {zeros((size_t)(z->out * z->space * z->in_padded) * 4), to},
                   .out = z->out,
                   .in = z->in,
                   .space = z->space,
                   .in_padded = z->in_padded};
    for (size_t at = 0; at < n; at++) view_set(p.x, at, random_value());
    return p;
}

/* One by one, and in a list: conversions, filters and the gradients of filters, whole tiles and
 * parts of them, both sides longer than a tile is narrow. */
static void test_pack(void **state)
{
    (void)state;
    static const pack_case cases[] = {
        {5, 3, 9, 8, 0},     {40, 36, 9, 36, 0},  {64, 160, 1, 160, 0}, {1, 7, 1, 7, 1},
        {3, 5, 1, 8, 0},     {3, 300, 9, 300, 1}, {4, 9, 300, 9, 0},    {2, 3, 256, 3, 0},
        {2, 70, 130, 70, 0}, {3, 4, 9, 4, 0},     {2, 9, 4, 9, 1},      {2, 16, 257, 16, 0},
        {1, 17, 17, 17, 0},  {5, 1, 49, 1, 0},    {1, 1, 8195, 1, 0},
    };
    static const dtype from[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16},
                       to[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    enum { COUNT = sizeof cases / sizeof cases[0] };
    pack_item *list = zeros(COUNT * sizeof *list);
    for (int k = 0; k < 3; k++) {
        void *block[COUNT];
        for (int i = 0; i < COUNT; i++) {
            pack_item *p = &list[i];
            *p = pack_open(&cases[i], from[k], to[(k + i) % 3], &block[i]);
            pack_launch(p, NULL);
            expect_packed(p);
            memset(p->y.data, 0xff,
                   (size_t)(p->out * p->space * p->in_padded) * dtype_size(p->y.type));
        }
        pack_list_launch(list, COUNT, pack_list_place(list, COUNT), NULL);
        for (int i = 0; i < COUNT; i++) {
            expect_packed(&list[i]);
            free(block[i]);
            free(list[i].y.data);
        }
    }
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),    cmocka_unit_test(test_golden_8bit),
        cmocka_unit_test(test_cells),    cmocka_unit_test(test_thresholds),
        cmocka_unit_test(test_find_bad), cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_norm),     cmocka_unit_test(test_pack),
    };
    return cmocka_run_group_tests_name("lists", tests, NULL, NULL);
}
