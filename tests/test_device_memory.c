/* SPDX-License-Identifier: Apache-2.0
 *
 * Buffers, the look for what is not finite, and the update over all tensors: on the processor and
 * on the foreign device, which must be told and asked in the same way. */
#include <math.h>

#include "device/cpu/cpu.h"
#include "foreign.h"
#include "support.h"

/* N: of several pieces, and no whole blocks */
enum { N = 33000, TENSORS = 3, DEVICES = 2 };

static device *devices[DEVICES];

static void checked(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

static buffer buffer_of(device *d, size_t size)
{
    error e = {0};
    buffer b;
    checked(d->buffer_open(d, size, "a test's memory", &b, &e), &e);
    return b;
}

static void put(const buffer *b, size_t at, const void *from, size_t size)
{
    error e = {0};
    checked(b->device->upload(b->device, b, at, from, size, &e), &e);
}

static void get(const buffer *b, size_t at, void *to, size_t size)
{
    error e = {0};
    checked(b->device->download(b->device, b, at, to, size, &e), &e);
}

static void test_buffers(void **state)
{
    (void)state;
    for (int k = 0; k < DEVICES; k++) {
        device *d = devices[k];
        error e = {0};
        float x[N], y[N];
        buffer a = buffer_of(d, sizeof x), b = buffer_of(d, sizeof x), none = {0};
        assert_true((a.host != NULL) == (d == devices[0]));
        get(&a, 0, x, sizeof x);
        for (int i = 0; i < N; i++) assert_true(x[i] == 0);
        fill_random(x, N, 1);
        put(&a, 0, x, sizeof x);
        assert_true(d->fill(d, &a, 100 * sizeof(float), 2.5f, 7, &e));
        assert_true(
            d->copy(d, &b, 8 * sizeof(float), &a, 96 * sizeof(float), 20 * sizeof(float), &e));
        get(&b, 0, y, sizeof y);
        for (int i = 0; i < N; i++) {
            float want = i < 8 || i >= 28 ? 0 : i < 12 || i >= 19 ? x[i + 88] : 2.5f;
            assert_true(y[i] == want);
        }
        host_view v;
        assert_true(host_view_open(&v, &b, &e));
        assert_true((v.copy == NULL) == (d == devices[0]));
        assert_memory_equal(v.data, y, sizeof y);
        host_view_close(&v);
        assert_true(d->memory_left(d) > 0 && d->wait(d, &e));
        d->buffer_close(&a);
        d->buffer_close(&b);
        d->buffer_close(&none);
        assert_null(a.handle);
    }
}

static array vector(const buffer *b, size_t at, dtype type, int64_t n)
{
    return (array){.memory = b, .offset = at, .type = type, .rank = 1, .dim = {n}};
}

static void test_find_bad(void **state)
{
    (void)state;
    for (int k = 0; k < DEVICES; k++) {
        device *d = devices[k];
        error e = {0};
        bad_value bad;
        float x[N];
        uint16_t half[4] = {0x3c00, 0x7bff, 0xfc00, 0x7c00};
        int32_t ids[2] = {-1, 0x7f800000};
        fill_random(x, N, 2);
        buffer b = buffer_of(d, sizeof x + 256);
        put(&b, 0, x, sizeof x);
        put(&b, sizeof x, half, sizeof half);
        put(&b, sizeof x + 64, ids, sizeof ids);
        array list[] = {vector(&b, 0, DTYPE_F32, N), vector(&b, sizeof x + 64, DTYPE_I32, 2),
                        vector(&b, sizeof x, DTYPE_F16, 2), vector(&b, sizeof x, DTYPE_F16, 4)};
        assert_true(d->find_bad(d, list, 3, &bad, &e));
        assert_int_equal(bad.which, 3);
        assert_true(d->find_bad(d, list, 0, &bad, &e));
        assert_int_equal(bad.which, 0);
        assert_true(d->find_bad(d, list, 4, &bad, &e));
        assert_int_equal(bad.which, 3);
        assert_int_equal(bad.index, 2);
        assert_true(isinf(bad.value) && bad.value < 0);
        x[N - 1] = NAN;
        put(&b, 0, x, sizeof x);
        assert_true(d->find_bad(d, list, 4, &bad, &e));
        assert_int_equal(bad.which, 0);
        assert_int_equal(bad.index, N - 1);
        assert_true(isnan(bad.value));
        d->buffer_close(&b);
    }
}

/* ---- the update ---- */

typedef struct trained {
    weight item[TENSORS];
    buffer weights, gradients, sums, states;
    size_t at[TENSORS];
    device_weights *copy;
    update_tensor tensor[TENSORS];
} trained;

static const moment_kind kinds[TENSORS] = {MOMENTS_F32, MOMENTS_8BIT, MOMENTS_F32_BNB};
static const char *const names[TENSORS] = {"a", "b", "c"};

static void trained_open(trained *t, device *d, bool sums)
{
    error e = {0};
    float x[N];
    size_t state_at = 0;
    *t = (trained){.weights = buffer_of(d, TENSORS * sizeof x),
                   .gradients = buffer_of(d, TENSORS * sizeof x),
                   .sums = buffer_of(d, TENSORS * sizeof x),
                   .states = buffer_of(d, TENSORS * (moments_bytes(MOMENTS_F32, N) + 64))};
    for (int i = 0; i < TENSORS; i++) {
        t->item[i] = (weight){.name = names[i], .type = DTYPE_F32, .rank = 1, .dim = {N}};
        t->at[i] = (size_t)i * sizeof x;
        fill_random(x, N, (uint32_t)i);
        put(&t->weights, t->at[i], x, sizeof x);
        fill_random(x, N, (uint32_t)(10 + i));
        put(&t->gradients, t->at[i], x, sizeof x);
    }
    weight_set set = {.item = t->item, .count = TENSORS};
    checked(device_weights_open_in(d, &set, &t->weights, t->at, &t->copy, &e), &e);
    for (int i = 0; i < TENSORS; i++) {
        update_tensor *u = &t->tensor[i];
        *u = (update_tensor){.weights = t->copy, .index = (size_t)i, .sum = {.rank = -1}};
        u->gradient = vector(&t->gradients, t->at[i], DTYPE_F32, N);
        if (sums) u->sum = vector(&t->sums, t->at[i], DTYPE_F32, N);
        moments_place(&u->moments, kinds[i], N, &t->states, state_at);
        state_at += moments_bytes(kinds[i], N);
    }
}

static void trained_close(trained *t, device *d)
{
    device_weights_close(&t->copy);
    d->buffer_close(&t->weights);
    d->buffer_close(&t->gradients);
    d->buffer_close(&t->sums);
    d->buffer_close(&t->states);
}

static const adamw_step step = {
    .step = 1, .rate = 1e-2, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 1e-2};

/* What the update is made of, one tensor after the other: twice the gradient where it was summed
 * twice. */
static void plain_update(float p[TENSORS][N], float times, double max_norm, double *norm)
{
    float g[TENSORS][N];
    double squares = 0;
    for (int i = 0; i < TENSORS; i++) {
        fill_random(p[i], N, (uint32_t)i);
        fill_random(g[i], N, (uint32_t)(10 + i));
        for (int k = 0; k < N; k++) g[i][k] *= times;
        squares += cpu_sum_squares(devices[0], g[i], N);
    }
    *norm = sqrt(squares);
    double clip = max_norm / (*norm + 1e-6);
    adamw_step s = step;
    s.grad_scale = clip < 1 ? (float)clip : 1;
    for (int i = 0; i < TENSORS; i++) {
        size_t bytes = moments_bytes(kinds[i], N);
        buffer block = buffer_of(devices[0], bytes);
        moments m;
        moments_place(&m, kinds[i], N, &block, 0);
        struct moment_data data = moment_data_of(&m);
        cpu_adamw(devices[0], &s, p[i], g[i], &data);
        devices[0]->buffer_close(&block);
    }
}

static void scale_gradients(const trained *t, float scale)
{
    float g[N];
    for (int i = 0; i < TENSORS; i++) {
        get(&t->gradients, t->at[i], g, sizeof g);
        for (int k = 0; k < N; k++) g[k] *= scale;
        put(&t->gradients, t->at[i], g, sizeof g);
    }
}

static void test_update(void **state)
{
    (void)state;
    static const double norms[] = {0.5, 1e9}; /* clipped, and not */
    const float scale = 65536;                /* of the gradients, which is undone */
    for (int k = 0; k < 2 * 2 * DEVICES; k++) {
        device *d = devices[k % DEVICES];
        bool sums = k / DEVICES % 2;
        double max_norm = norms[k / DEVICES / 2], norm;
        float want[TENSORS][N], got[TENSORS][N];
        trained t;
        error e = {0};
        update_result r;
        trained_open(&t, d, sums);
        scale_gradients(&t, scale);
        for (int i = 0; sums && i < 2; i++) assert_true(d->accumulate(d, t.tensor, TENSORS, &e));
        update_job job = {.tensor = t.tensor,
                          .count = TENSORS,
                          .step = step,
                          .unscale = 1 / scale,
                          .max_norm = max_norm};
        assert_true(d->update(d, &job, &r, &e));
        plain_update(want, sums ? 2 : 1, max_norm, &norm);
        assert_int_equal(r.bad, TENSORS);
        /* a card cuts its sum in other pieces, in double precision too */
        assert_true(fabs(r.norm - norm) <= (strcmp(test_device(), "cuda") ? 0 : 1e-13 * norm));
        get(&t.weights, 0, got, sizeof got);
        assert_memory_equal(got, want, sizeof got);
        float part[10];
        assert_true(device_weights_read(d, t.copy, 2, N - 10, 10, part, &e));
        assert_memory_equal(part, want[2] + N - 10, sizeof part);
        trained_close(&t, d);
    }
}

/* The first tensor with a bad gradient is told; nothing is changed. */
static void test_bad_gradient(void **state)
{
    (void)state;
    for (int k = 0; k < DEVICES; k++) {
        device *d = devices[k];
        float before[TENSORS][N], after[TENSORS][N], nan = NAN, infinity = INFINITY;
        trained t;
        error e = {0};
        update_result r;
        trained_open(&t, d, false);
        size_t size = t.states.size;
        char *moments_before = malloc(size), *moments_after = malloc(size);
        assert_true(moments_before && moments_after);
        get(&t.weights, 0, before, sizeof before);
        get(&t.states, 0, moments_before, size);
        put(&t.gradients, t.at[1] + 77 * sizeof nan, &nan, sizeof nan);
        put(&t.gradients, t.at[2] + 5 * sizeof nan, &infinity, sizeof nan);
        update_job job = {
            .tensor = t.tensor, .count = TENSORS, .step = step, .unscale = 1, .max_norm = 1};
        assert_true(d->update(d, &job, &r, &e));
        assert_int_equal(r.bad, 1);
        get(&t.weights, 0, after, sizeof after);
        get(&t.states, 0, moments_after, size);
        assert_memory_equal(before, after, sizeof before);
        assert_memory_equal(moments_before, moments_after, size);
        free(moments_before);
        free(moments_after);
        trained_close(&t, d);
    }
}

static int open_all(void **state)
{
    (void)state;
    error e = {0};
    device_options o = {.threads = 2};
    const char *other = getenv("LIKENESS_TEST_DEVICE") ? test_device() : foreign_device();
    return device_open(&devices[0], "cpu", &o, &e) && device_open(&devices[1], other, &o, &e) ? 0
                                                                                              : -1;
}

static int close_all(void **state)
{
    (void)state;
    for (int k = 0; k < DEVICES; k++) device_close(&devices[k]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_find_bad),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_bad_gradient),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
