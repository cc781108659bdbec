/* SPDX-License-Identifier: Apache-2.0
 *
 * Our kernels over lists of tensors under the emulator: AdamW in its four kinds has the processor's
 * bytes, and golden values of G8; the norm, its clipping and the loss's scale; what is not finite,
 * and where; sums of batches; packed weights. */
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

static void fill_maps(float *maps) { moment_values_fill(maps, maps + 256, maps + 512, maps + 768); }

/* One update of all by the kernels */
static void run_adamw(const trained *list, int count, const adamw_step *s, uint32_t bad)
{
    static float maps[1024] __attribute__((aligned(16)));
    adamw_item items[16];
    for (int i = 0; i < count; i++) items[i] = item_of(&list[i]);
    adamw_step_constants constants = {constants_of(MOMENTS_F32, s), constants_of(MOMENTS_8BIT, s)};
    gradient_state state = {.grad_scale = s->grad_scale, .bad = bad};
    fill_maps(maps);
    int64_t blocks = adamw_list_place(items, count);
    adamw_launch(&(adamw_args){items, count, blocks, &constants, maps, &state, (uint32_t)count},
                 NULL);
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
    device *d = NULL;
    error e = {0};
    assert_true(device_open(&d, "cpu", &(device_options){.threads = 1}, &e));
    trained list[COUNT];
    for (int i = 0; i < COUNT; i++) list[i] = trained_open(sizes[i].kind, sizes[i].count);
    for (int t = 1; t <= STEPS; t++) {
        adamw_step step = step_at(t, 1e-3, t == 2 ? 0.3f : 1);
        for (int i = 0; i < COUNT; i++) {
            trained *x = &list[i];
            struct moment_data data = {x->kind, x->count,       x->m[0],
                                       x->v[0], x->absmax_m[0], x->absmax_v[0]};
            fill_gradient(x, t);
            cpu_adamw(d, &step, x->weight[0], x->gradient, &data);
        }
        run_adamw(list, COUNT, &step, COUNT);
        for (int i = 0; i < COUNT; i++) expect_same(&list[i]);
        run_adamw(list, COUNT, &step, 3); /* a gradient is bad: nothing changes */
        for (int i = 0; i < COUNT; i++) expect_same(&list[i]);
    }
    for (int i = 0; i < COUNT; i++) trained_close(&list[i]);
    device_close(&d);
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
    tensor_item item[TENSORS];
    tensor_list list;
} tensors;

static void tensors_open(tensors *t, bool all_f32)
{
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
}

static void expect_bad(const tensors *t, uint64_t want)
{
    uint64_t found = 7;
    find_bad_launch(&t->list, &found, NULL);
    assert_true(found == want);
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

static gradient_state norm_of(const tensors *t, double max_norm, const float *unscale)
{
    gradient_state s;
    gradient_norm_args a = {t->list, max_norm, unscale, &s};
    void *scratch = zeros(gradient_norm_scratch(&a));
    gradient_norm_launch(&a, scratch, NULL);
    free(scratch);
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
    gradient_state s = norm_of(&t, 1, NULL);
    assert_true(fabs(s.norm - norm) < 1e-12 * norm);
    assert_true(s.grad_scale == (float)(1 / (s.norm + 1e-6)));
    assert_int_equal(s.bad, TENSORS);
    s = norm_of(&t, 1e9, NULL);
    assert_true(s.grad_scale == 1);
    float unscale = 0x1p-10f;
    s = norm_of(&t, 1e9, &unscale);
    assert_true(fabs(s.norm - norm / 1024) < 1e-12 * norm && s.grad_scale == unscale);
    s = norm_of(&t, 0.01, &unscale);
    assert_true(fabs((double)s.grad_scale - 0.01 / (norm / 1024 + 1e-6) / 1024) < 1e-9);
    ((float *)t.item[1].data.data)[100] = 1e30f; /* its square is no float32 */
    s = norm_of(&t, 1, NULL);
    assert_true(s.bad == TENSORS && fabs(s.norm - 1e30) < 1e24);
    ((float *)t.item[3].data.data)[100] = INFINITY;
    assert_int_equal(norm_of(&t, 1, NULL).bad, 3);
    ((float *)t.item[1].data.data)[19999] = NAN;
    assert_int_equal(norm_of(&t, 1, NULL).bad, 1);
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

static void test_pack(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {
        {5, 3, 9, 8}, {40, 36, 9, 36}, {64, 160, 1, 160}, {1, 7, 1, 7}, {3, 5, 1, 8}};
    static const dtype from[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16},
                       to[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    for (int k = 0; k < 3; k++) {
        pack_item list[COUNT];
        void *block[COUNT];
        for (int i = 0; i < COUNT; i++) {
            const int64_t *z = sizes[i];
            size_t n = (size_t)(z[0] * z[1] * z[2]), shift = i == 3 ? dtype_size(from[k]) : 0;
            char *x = block[i] = zeros(n * 4 + 4);
            list[i] = (pack_item){.x = {x + shift, from[k]},
                                  .y = {zeros((size_t)(z[0] * z[2] * z[3]) * 4), to[(k + i) % 3]},
                                  .out = z[0],
                                  .in = z[1],
                                  .space = z[2],
                                  .in_padded = z[3]};
            for (size_t at = 0; at < n; at++) view_set(list[i].x, at, random_value());
            pack_launch(&list[i], NULL);
            expect_packed(&list[i]);
            memset(list[i].y.data, 0xff, (size_t)(z[0] * z[2] * z[3]) * dtype_size(list[i].y.type));
        }
        pack_list_launch(list, COUNT, pack_list_place(list, COUNT), NULL);
        for (int i = 0; i < COUNT; i++) {
            expect_packed(&list[i]);
            free(block[i]);
            free(list[i].y.data);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),    cmocka_unit_test(test_golden_8bit),
        cmocka_unit_test(test_find_bad), cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_norm),     cmocka_unit_test(test_pack),
    };
    return cmocka_run_group_tests_name("lists", tests, NULL, NULL);
}
