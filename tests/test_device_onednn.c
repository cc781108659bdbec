/* SPDX-License-Identifier: Apache-2.0
 *
 * oneDNN's products, which the cpu device takes for bfloat16 alone, in float32, so that any
 * processor tests them: against plain double loops, in place, with weights of every type, on
 * several threads; and what happens when oneDNN fails, which CMake lets this program decide
 * (--wrap). */
#include "device/cpu/onednn.h"
#include "device_support.h"

#include <dirent.h>
#include <dnnl.h>
#include <time.h>

#include "base/half.h"

static dnnl_status_t execute_status; /* what the next executions answer */

dnnl_status_t __real_dnnl_primitive_execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream,
                                            int count, const dnnl_exec_arg_t *args);
dnnl_status_t __wrap_dnnl_primitive_execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream,
                                            int count, const dnnl_exec_arg_t *args);
dnnl_status_t __wrap_dnnl_primitive_execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream,
                                            int count, const dnnl_exec_arg_t *args)
{
    if (execute_status != dnnl_success) return execute_status;
    return __real_dnnl_primitive_execute(primitive, stream, count, args);
}

/* rows x c by [c][o] (as [o][c], or transposed). */
struct shape {
    int64_t rows, c, o;
    bool transposed, bias, add;
};

static const struct shape shapes[] = {
    {1, 17, 5, false, true, false},     {2, 64, 130, false, false, true},
    {77, 40, 72, false, true, true},    {35, 40, 72, true, false, false},
    {301, 33, 64, false, true, true},   {1000, 20, 48, true, false, true},
    {64, 128, 96, false, false, false}, {4099, 24, 40, false, true, true},
    {40, 190, 700, false, true, false}, {40, 190, 700, true, false, false},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

struct data {
    float *x, *w, *bias, *add, *y;
    double *want;
    size_t y_count;
    void *stored; /* the weight in its type */
};

static float *values(size_t n, uint32_t seed)
{
    float *v = malloc(n * sizeof *v);
    assert_non_null(v);
    fill_random(v, n, seed);
    for (size_t i = 0; i < n; i++) v[i] = bf16_to_float(bf16_from_float(v[i]));
    return v;
}

static struct data data_open(const struct shape *s, dtype type)
{
    size_t wn = (size_t)(s->c * s->o);
    struct data q = {.y_count = (size_t)(s->rows * s->o)};
    q.x = values((size_t)(s->rows * s->c), 1);
    q.w = values(wn, 2);
    q.bias = values((size_t)s->o, 3);
    q.add = values(q.y_count, 4);
    q.y = malloc(q.y_count * sizeof *q.y);
    q.want = calloc(q.y_count, sizeof *q.want);
    q.stored = malloc(wn * dtype_size(type));
    assert_true(q.y && q.want && q.stored);
    convert_from_float(q.stored, type, q.w, wn);
    convert_to_float(q.w, q.stored, type, wn);
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t o = 0; o < s->o; o++) {
            double *sum = &q.want[r * s->o + o];
            *sum = (s->bias ? (double)q.bias[o] : 0) + (s->add ? (double)q.add[r * s->o + o] : 0);
            for (int64_t c = 0; c < s->c; c++)
                *sum += (double)q.x[r * s->c + c] *
                        (double)q.w[s->transposed ? c * s->o + o : o * s->c + c];
        }
    return q;
}

static void data_close(struct data *q)
{
    free(q->x), free(q->w), free(q->bias), free(q->add), free(q->y), free(q->want);
    free(q->stored);
}

static weight weight_of(const struct shape *s, const struct data *q, dtype type)
{
    weight w = {.name = "weight", .type = type, .rank = 2, .data = q->stored};
    w.dim[0] = s->transposed ? s->c : s->o;
    w.dim[1] = s->transposed ? s->o : s->c;
    return w;
}

static product product_of(const struct shape *s)
{
    return (product){.batch = 1,
                     .h = 1,
                     .w = s->rows,
                     .c = s->c,
                     .oh = 1,
                     .ow = s->rows,
                     .o = s->o,
                     .kh = 1,
                     .kw = 1,
                     .stride = 1,
                     .spread = 1,
                     .transposed = s->transposed,
                     .has_bias = s->bias,
                     .has_add = s->add,
                     .x_type = DTYPE_F32,
                     .y_type = DTYPE_F32,
                     .add_type = DTYPE_F32,
                     .pack_type = DTYPE_F32,
                     .method = PRODUCT_ONEDNN,
                     .form = 3};
}

static device *device_with(int threads)
{
    device *d;
    error e = {0};
    if (!device_open(&d, "cpu", &(device_options){.threads = threads}, &e)) fail_msg("%s", e.text);
    return d;
}

/* in_place: y begins as what is added, as the planner lays it out. */
static bool run(device *d, const product *p, struct data *q, const array *w, bool in_place,
                error *e)
{
    size_t size = onednn_scratch(p);
    struct product_data data = {.x = q->x, .w = w, .bias = p->has_bias ? q->bias : NULL, .y = q->y};
    data.scratch = aligned_alloc(64, (size + 64) & ~(size_t)63);
    assert_non_null(data.scratch);
    memset(data.scratch, 0xff, size);
    memset(q->y, 0xff, q->y_count * sizeof *q->y);
    if (in_place) memcpy(q->y, q->add, q->y_count * sizeof *q->y);
    if (p->has_add) data.add = in_place ? q->y : q->add;
    bool ok = onednn_run(d, p, &data, e);
    free(data.scratch);
    return ok;
}

static void expect_product(const struct data *q, int shape)
{
    for (size_t i = 0; i < q->y_count; i++) {
        double off = (double)q->y[i] - q->want[i];
        if (!(off < 1e-4 && off > -1e-4)) fail_msg("shape %d: [%zu] is off by %g", shape, i, off);
    }
}

static int threads_listed(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = -2; /* . and .. */
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

/* Of at most `most`, which are waited for: one that was joined is listed a moment longer. */
static int threads_of_process(int most)
{
    int n = threads_listed();
    for (int i = 0; i < 1000 && n > most; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        n = threads_listed();
    }
    return n;
}

/* y is the same bytes on any number of threads, and oneDNN starts none of its own. */
static void test_threads(void **state)
{
    (void)state;
    int before = threads_listed();
    for (int i = 0; i < SHAPES; i++) {
        struct data q = data_open(&shapes[i], DTYPE_F32);
        float *one = malloc(q.y_count * sizeof *one);
        assert_non_null(one);
        for (int threads = 1; threads <= 4; threads++) {
            device *d = device_with(threads);
            weight w = weight_of(&shapes[i], &q, DTYPE_F32);
            array a = weight_array(weights_alone(d, &w));
            product p = product_of(&shapes[i]);
            error e = {0};
            if (!onednn_open(d, &p, &e) || !p.onednn || !onednn_bind(d, &p, &a, &e) ||
                !run(d, &p, &q, &a, false, &e))
                fail_msg("%s", e.text);
            if (threads == 1) memcpy(one, q.y, q.y_count * sizeof *one);
            assert_memory_equal(one, q.y, q.y_count * sizeof *one);
            int most = before + threads - 1;
            assert_int_equal(threads_of_process(most), most);
            onednn_close(p.onednn);
            device_weights_close(&a.weights);
            device_close(&d);
        }
        free(one);
        data_close(&q);
    }
}

static void test_products(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    device *d = device_with(3);
    for (int i = 0; i < 3 * SHAPES; i++) {
        const struct shape *s = &shapes[i / 3];
        struct data q = data_open(s, types[i % 3]);
        weight w = weight_of(s, &q, types[i % 3]);
        array a = weight_array(weights_alone(d, &w));
        product p = product_of(s);
        error e = {0};
        if (!onednn_open(d, &p, &e) || !p.onednn || !onednn_bind(d, &p, &a, &e))
            fail_msg("%s", e.text);
        for (int in_place = 0; in_place <= s->add; in_place++) {
            if (!run(d, &p, &q, &a, in_place, &e)) fail_msg("%s", e.text);
            expect_product(&q, i / 3);
        }
        onednn_close(p.onednn);
        device_weights_close(&a.weights);
        data_close(&q);
    }
    device_close(&d);
}

/* A weight that has changed is packed anew. */
static void test_touch(void **state)
{
    (void)state;
    device *d = device_with(2);
    struct data q = data_open(&shapes[3], DTYPE_F32);
    weight w = weight_of(&shapes[3], &q, DTYPE_F32);
    array a = weight_array(weights_alone(d, &w));
    product p = product_of(&shapes[3]);
    error e = {0};
    float *values_of_w = q.stored;
    assert_true(onednn_open(d, &p, &e) && onednn_bind(d, &p, &a, &e));
    for (size_t i = 0; i < (size_t)(p.c * p.o); i++) values_of_w[i] *= 2;
    device_weights_touch(a.weights, 0);
    assert_true(onednn_bind(d, &p, &a, &e) && run(d, &p, &q, &a, false, &e));
    for (size_t i = 0; i < q.y_count; i++) q.want[i] *= 2;
    expect_product(&q, 3);
    onednn_close(p.onednn);
    device_weights_close(&a.weights);
    data_close(&q);
    device_close(&d);
}

/* What is trained has no pack: a run reads it as it is by then. */
static void test_trained(void **state)
{
    (void)state;
    device *d = device_with(3);
    for (int i = 0; i < SHAPES; i++) {
        const struct shape *s = &shapes[i];
        struct data q = data_open(s, DTYPE_F32);
        weight w = weight_of(s, &q, DTYPE_F32);
        size_t bytes = (size_t)(s->c * s->o) * sizeof(float), at[1] = {64};
        weight_set set = {.item = &w, .count = 1};
        product p = product_of(s);
        array a = {.w = &w, .type = DTYPE_F32, .rank = 2};
        buffer memory;
        error e = {0};
        w.data = NULL;
        if (!d->buffer_open(d, at[0] + bytes, "weights", &memory, &e) ||
            !device_weights_open_in(d, &set, &memory, at, &a.weights, &e) ||
            !onednn_open(d, &p, &e) || !p.onednn)
            fail_msg("%s", e.text);
        for (int times = 1; times <= 2; times++) {
            if (!d->upload(d, &memory, at[0], q.stored, bytes, &e) || !onednn_bind(d, &p, &a, &e) ||
                !run(d, &p, &q, &a, false, &e))
                fail_msg("%s", e.text);
            expect_product(&q, i);
            assert_null(weight_packs(&a));
            for (size_t k = 0; k < bytes / sizeof(float); k++) ((float *)q.stored)[k] *= -1;
            for (size_t k = 0; k < q.y_count; k++) {
                size_t o = k % (size_t)s->o;
                double kept = (s->bias ? (double)q.bias[o] : 0) + (s->add ? (double)q.add[k] : 0);
                q.want[k] = 2 * kept - q.want[k];
            }
        }
        execute_status = dnnl_runtime_error; /* at the packing, now */
        assert_false(run(d, &p, &q, &a, false, &e));
        execute_status = dnnl_success;
        onednn_close(p.onednn);
        device_weights_close(&a.weights);
        d->buffer_close(&memory);
        data_close(&q);
    }
    device_close(&d);
}

static void test_failures(void **state)
{
    (void)state;
    device *d = device_with(2);
    struct data q = data_open(&shapes[2], DTYPE_F32);
    weight w = weight_of(&shapes[2], &q, DTYPE_F32);
    array a = weight_array(weights_alone(d, &w));
    product p = product_of(&shapes[2]);
    error e = {0};
    assert_true(onednn_open(d, &p, &e) && onednn_bind(d, &p, &a, &e));
    execute_status = dnnl_runtime_error;
    assert_false(run(d, &p, &q, &a, false, &e));
    assert_int_equal(e.code, ERROR_USAGE);
    assert_non_null(strstr(e.text, "use precision f32"));
    e = (error){0};
    execute_status = dnnl_out_of_memory;
    assert_false(run(d, &p, &q, &a, false, &e));
    assert_int_equal(e.code, ERROR_MEMORY);
    execute_status = dnnl_success;
    assert_true(run(d, &p, &q, &a, false, &e));
    expect_product(&q, 2);

    device_weights_close(&a.weights); /* the packing itself is an execution */
    a = weight_array(weights_alone(d, &w));
    execute_status = dnnl_runtime_error;
    e = (error){0};
    assert_false(onednn_bind(d, &p, &a, &e));
    assert_int_equal(e.code, ERROR_USAGE);
    assert_null(weight_packs(&a));
    execute_status = dnnl_success;
    onednn_close(p.onednn);
    device_weights_close(&a.weights);
    data_close(&q);
    device_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_touch),    cmocka_unit_test(test_trained),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
