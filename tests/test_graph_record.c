/* SPDX-License-Identifier: Apache-2.0
 *
 * Recording, binding and running: shapes, the first failure, conversions, weights by name, views,
 * values that are not finite, and memory that runs out. */
#include <malloc.h>
#include <math.h>

#include "foreign.h"
#include "graph_support.h"

#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }
static const conv_pad no_pad = {0}, pad1 = {1, 1, 1, 1};

static void assert_shape(const tensor *t, int rank, const int64_t *dim)
{
    assert_int_equal(t->rank, rank);
    for (int i = 0; i < rank; i++) assert_int_equal(t->dim[i], dim[i]);
}

static graph *fresh(dtype compute)
{
    graph *g;
    error e = {0};
    assert_true(graph_open(&g, compute, &e));
    return g;
}

static void test_shapes(void **state)
{
    (void)state;
    graph *g = fresh(DTYPE_F32);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(2, 5, 7, 6));
    tensor *w = graph_weight(g, "w", DIMS(8, 6, 3, 3));
    assert_ptr_equal(w, graph_weight(g, "w", DIMS(8, 6, 3, 3)));
    assert_shape(conv2d(g, x, w, NULL, 1, pad1, NULL), DIMS(2, 5, 7, 8));
    assert_shape(conv2d(g, x, w, NULL, 2, pad1, NULL), DIMS(2, 3, 4, 8));
    assert_shape(conv2d(g, x, w, NULL, 2, (conv_pad){0, 0, 1, 1}, NULL), DIMS(2, 2, 3, 8));
    tensor *point = conv2d(g, x, graph_weight(g, "p", DIMS(4, 6, 1, 1)), NULL, 1, no_pad, NULL);
    assert_shape(point, DIMS(2, 5, 7, 4));
    assert_int_equal(point->from->kind, OP_LINEAR);
    tensor *n = group_norm(g, x, graph_weight(g, "g", DIMS(6)), graph_weight(g, "b", DIMS(6)), 3,
                           1e-5f, true);
    assert_shape(n->from->out[1], DIMS(2, 3, 2));
    assert_shape(upsample(g, x, 9, 14), DIMS(2, 9, 14, 6));
    static const struct {
        int64_t height, width;
    } sizes[] = {{9, 14}, {10, 13}, {10, 14}};
    for (int i = 0; i < 3; i++) {
        tensor *up = upsample(g, x, sizes[i].height, sizes[i].width);
        assert_int_equal(conv2d(g, up, w, NULL, 1, pad1, NULL)->from->params.doubled, i == 2);
    }
    assert_false(conv2d(g, x, w, NULL, 1, pad1, NULL)->from->params.doubled);
    assert_shape(concat(g, x, slice(g, x, 2, 3)), DIMS(2, 5, 7, 9));
    assert_shape(geglu(g, x), DIMS(2, 5, 7, 3));
    tensor *rows = reshape(g, x, DIMS(2, 35, 6));
    assert_shape(attention(g, rows, slice(g, rows, 0, 6), rows, 2, false)->from->out[1],
                 DIMS(2, 2, 35));
    tensor *ids = graph_input(g, "ids", DTYPE_I32, DIMS(2, 4));
    assert_shape(embedding(g, ids, graph_weight(g, "table", DIMS(10, 6))), DIMS(2, 4, 6));
    tensor *t = graph_input(g, "t", DTYPE_F32, DIMS(2));
    assert_shape(time_embedding(g, t, 16, true, 0), DIMS(2, 16));
    tensor *each;
    assert_shape(mse(g, x, scale(g, x, 2), t, &each), DIMS(1));
    assert_shape(each, DIMS(2));
    assert_false(graph_failed(g));
    assert_int_equal(graph_weight_count(g), 5);
    assert_string_equal(graph_weight_at(g, 4)->name, "table");
    graph_close(&g);
    assert_null(g);
}

/* the first failure is kept, later calls are harmless, graph_plan reports it */
static void test_first_failure(void **state)
{
    (void)state;
    graph *g = fresh(DTYPE_F32);
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(1, 4, 4, 6)), *each, *grad[1];
    tensor *y = conv2d(g, x, graph_weight(g, "conv.weight", DIMS(8, 5, 3, 3)), NULL, 1, pad1, NULL);
    tensor *z = add(g, y, x);
    z = attention(g, unary(g, z, UNARY_SILU), z, z, 3, true);
    z = concat(g, geglu(g, z), upsample(g, reshape(g, z, DIMS(7)), 3, 3));
    graph_weight(g, "conv.weight", DIMS(1));
    tensor *loss = mse(g, z, z, z, &each);
    graph_output(g, loss);
    error e = {0};
    assert_false(graph_gradient(g, loss, NULL, &x, 1, grad, &e));
    assert_null(grad[0]);
    e = (error){0};
    assert_false(graph_plan(g, &d.device, &e));
    assert_int_equal(e.code, ERROR_MODEL);
    assert_string_equal(e.text,
                        "conv2d: x [B,H,W,C] and the weight [O,C,kh,kw] do not fit (operands "
                        "x [1, 4, 4, 6], conv.weight [8, 5, 3, 3]); check the model's "
                        "configuration");
    graph_close(&g);
}

static void expect_failure(graph *g, const char *part)
{
    assert_true(graph_failed(g));
    if (!strstr(g->failure.text, part)) fail_msg("\"%s\" lacks \"%s\"", g->failure.text, part);
    graph_close(&g);
}

/* every check of operands, one at a time */
static void test_refusals(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        graph *g = fresh(DTYPE_F32);
        tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(1, 4, 4, 6));
        tensor *s = graph_input(g, "s", DTYPE_F32, DIMS(1, 5, 6));
        tensor *w = graph_weight(g, "w", DIMS(8, 6)), *v = graph_weight(g, "v", DIMS(6));
        const char *part = NULL;
        switch (i) {
        case 0: linear(g, x, v, NULL, NULL), part = "linear: x [..,C]"; break;
        case 1: linear(g, x, w, v, NULL), part = "bias"; break;
        case 2: linear(g, x, w, NULL, x), part = "to be added"; break;
        case 3: linear(g, x, x, NULL, NULL), part = "a value where a weight"; break;
        case 4: unary(g, w, UNARY_GELU), part = "a weight where a value"; break;
        case 5: attention(g, s, s, s, 4, false), part = "attention"; break;
        case 6: attention(g, x, s, s, 2, false), part = "attention"; break;
        case 7: group_norm(g, x, v, v, 4, 1e-5f, false), part = "multiple of the groups"; break;
        case 8: layer_norm(g, x, w, v, 1e-5f), part = "layer_norm"; break;
        case 9: add(g, x, s), part = "add: "; break;
        case 10: add_channel(g, x, s), part = "add_channel"; break;
        case 11: concat(g, x, s), part = "concat"; break;
        case 12: slice(g, x, 3, 4), part = "slice"; break;
        case 13: slice(g, x, -1, 2), part = "slice"; break;
        case 14: upsample(g, s, 2, 2), part = "upsample"; break;
        case 15: reshape(g, x, DIMS(5, 5)), part = "reshape"; break;
        case 16: embedding(g, x, w), part = "element type"; break;
        case 17: mse(g, x, s, NULL, NULL), part = "mse"; break;
        case 18:
            graph_weight(g, "w", DIMS(8, 7)), part = "weight w is used as [8, 6] and as [8, 7]";
            break;
        case 19:
            graph_input(g, "big", DTYPE_F32, DIMS(1 << 30, 1 << 30)), part = "big: a tensor";
            break;
        }
        expect_failure(g, part);
    }
}

/* one conversion per tensor, and in BF16 products and norms give what they should */
static void test_types(void **state)
{
    (void)state;
    graph *g = fresh(DTYPE_BF16);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(1, 4, 4, 6));
    tensor *w = graph_weight(g, "w", DIMS(6, 6, 3, 3)), *l = graph_weight(g, "l", DIMS(6, 6));
    tensor *v = graph_weight(g, "v", DIMS(6));
    tensor *a = conv2d(g, x, w, v, 1, pad1, x), *b = linear(g, x, l, v, NULL);
    assert_int_equal(a->type, DTYPE_F32);
    assert_int_equal(b->type, DTYPE_F32);
    assert_ptr_equal(a->from->in[0], b->from->in[0]);
    assert_int_equal(a->from->in[0]->type, DTYPE_BF16);
    assert_ptr_equal(a->from->in[3], x);
    assert_int_equal(linear_compute(g, x, l, v)->type, DTYPE_BF16);
    tensor *n = group_norm(g, x, v, v, 2, 1e-5f, false);
    assert_int_equal(n->type, DTYPE_BF16);
    assert_int_equal(n->from->out[1]->type, DTYPE_F32);
    assert_int_equal(unary(g, n, UNARY_SILU)->type, DTYPE_BF16);
    assert_int_equal(add(g, n, x)->type, DTYPE_F32);
    assert_int_equal(layer_norm(g, n, v, v, 1e-5f)->type, DTYPE_BF16);
    assert_ptr_equal(cast(g, x, DTYPE_F32), x);
    tensor *half = cast_compute(g, x);
    assert_int_equal(half->type, DTYPE_BF16);
    assert_ptr_equal(cast_compute(g, half), half);
    assert_false(graph_failed(g));
    graph_close(&g);
}

/* a small network with every kind of leaf; out[0] a feature map, out[1] the loss */
static void network(graph *g, tensor **in, tensor **out)
{
    in[0] = graph_input(g, "image", DTYPE_F32, DIMS(2, 4, 5, 3));
    in[1] = graph_input(g, "ids", DTYPE_I32, DIMS(2, 3));
    in[2] = graph_input(g, "time", DTYPE_F32, DIMS(2));
    tensor *x = conv2d(g, in[0], graph_weight(g, "conv_in.weight", DIMS(8, 3, 3, 3)),
                       graph_weight(g, "conv_in.bias", DIMS(8)), 1, pad1, NULL);
    tensor *h = group_norm(g, x, graph_weight(g, "norm.weight", DIMS(8)),
                           graph_weight(g, "norm.bias", DIMS(8)), 4, 1e-5f, true);
    tensor *t = linear(g, time_embedding(g, in[2], 8, true, 0),
                       graph_weight(g, "time.weight", DIMS(8, 8)), NULL, NULL);
    h = add_channel(
        g, conv2d(g, h, graph_weight(g, "conv.weight", DIMS(8, 8, 3, 3)), NULL, 1, pad1, x), t);
    tensor *text = embedding(g, in[1], graph_weight(g, "table", DIMS(11, 8)));
    text = add(g, text, reshape(g, graph_weight(g, "position", DIMS(3, 8)), DIMS(1, 3, 8)));
    tensor *rows = reshape(g, h, DIMS(2, 20, 8));
    tensor *a = attention(g, rows, text, text, 2, false);
    rows = linear(g, a, graph_weight(g, "out.weight", DIMS(8, 8)),
                  graph_weight(g, "out.bias", DIMS(8)), rows);
    out[0] = reshape(g, rows, DIMS(2, 4, 5, 8));
    out[1] = mse(g, out[0], scale(g, out[0], 0.5f), in[2], NULL);
    graph_output(g, out[0]);
    graph_output(g, out[1]);
    unary(g, out[0], UNARY_GELU); /* dead */
}

static void write_inputs(graph *g, tensor **in, doubles *d)
{
    float image[120];
    int32_t ids[6] = {3, 10, 0, 7, 7, 1};
    float time[2] = {0.25f, 3};
    fill_random(image, 120, 5);
    assert_true(graph_write(g, in[0], image, NULL));
    assert_true(graph_write(g, in[1], ids, NULL));
    assert_true(graph_write(g, in[2], time, NULL));
    if (!d) return;
    doubles_set(d, in[0], image, DTYPE_F32);
    doubles_set(d, in[1], ids, DTYPE_I32);
    doubles_set(d, in[2], time, DTYPE_F32);
}

static double error_against(const float *got, const double *want, size_t n)
{
    float *f = must(malloc(n * sizeof *f));
    for (size_t i = 0; i < n; i++) f[i] = (float)want[i];
    double worst = relative_error(got, f, n);
    free(f);
    return worst;
}

/* the values of a run, for weights of every type, two sets bound in turn, memory given back between
 */
static void run_network(device *d, dtype compute, double bound)
{
    graph *g = fresh(compute);
    tensor *in[3], *out[2];
    network(g, in, out);
    error e = {0};
    if (!graph_plan(g, d, &e)) fail_msg("%s", e.text);
    plan_check(g);
    assert_true(graph_bytes(g) > 0 && graph_bytes(g) % 64 == 0);
    weight_set set[3] = {
        weights_for(g, DTYPE_F32, 1),
        weights_for(g, DTYPE_F16, 50),
        weights_for(g, DTYPE_BF16, 90),
    };
    device_weights *copy[3];
    for (int k = 0; k < 3; k++) copy[k] = copy_of(d, &set[k]);
    for (int k = 0; k < 7; k++) {
        if (!graph_allocate(g, &e) || !graph_bind(g, &copy[k % 3], 1, &e)) fail_msg("%s", e.text);
        doubles v = doubles_new(g);
        write_inputs(g, in, &v);
        doubles_set_weights(&v, g, &set[k % 3]);
        doubles_run(&v, g, g->nodes.count);
        float map[320], loss;
        for (int twice = 0; twice < 2; twice++) { /* inputs live on from the first run */
            assert_true(twice ? graph_run_checked(g, &e) : graph_run(g, &e));
            assert_true(graph_read(g, out[0], map, NULL));
            assert_true(graph_read(g, out[1], &loss, NULL));
            assert_true(error_against(map, v.value[out[0]->plan->id], 320) < bound);
            assert_true(error_against(&loss, v.value[out[1]->plan->id], 1) < bound);
        }
        doubles_free(&v);
        if (k % 3 == 2) graph_release(g);
    }
    graph_close(&g);
    for (int k = 0; k < 3; k++) {
        device_weights_close(&copy[k]);
        weight_set_close(&set[k]);
    }
}

/* What chooses a row that the table lacks is refused before hardware sees it. */
static void test_ids(void **state)
{
    (void)state;
    error e = {0};
    device *d;
    assert_true(device_open(&d, test_device(), &(device_options){.threads = 1}, &e));
    graph *g = fresh(DTYPE_F32);
    tensor *ids = graph_input(g, "tokens", DTYPE_I32, DIMS(2, 2));
    graph_output(g, embedding(g, ids, graph_weight(g, "small", DIMS(5, 4))));
    graph_output(g, embedding(g, ids, graph_weight(g, "large", DIMS(9, 4))));
    if (!graph_plan(g, d, &e) || !graph_allocate(g, &e)) fail_msg("%s", e.text);
    assert_true(graph_write(g, ids, (int32_t[]){0, 4, 1, 2}, &e));
    assert_false(graph_write(g, ids, (int32_t[]){0, 4, 1, 5}, &e));
    assert_string_equal(e.text, "tokens: number 5 at place 3, and the table has 5 rows; use the "
                                "tokenizer that belongs to the model");
    assert_int_equal(e.code, ERROR_MODEL);
    assert_false(graph_write(g, ids, (int32_t[]){-1, 4, 1, 2}, NULL));
    graph_close(&g);
    device_close(&d);
}

/* An output becomes another graph's input on the device. */
static void test_copy(void **state)
{
    (void)state;
    error e = {0};
    device *d;
    assert_true(device_open(&d, test_device(), &(device_options){.threads = 1}, &e));
    graph *a = fresh(DTYPE_F32), *b = fresh(DTYPE_F32);
    tensor *x = graph_input(a, "x", DTYPE_F32, DIMS(2, 3)), *y = scale(a, x, 2);
    tensor *z = graph_input(b, "z", DTYPE_F32, DIMS(3, 2)), *w = scale(b, z, 10);
    float data[6] = {1, 2, 3, 4, 5, 6}, got[6];
    graph_output(a, y);
    graph_output(b, w);
    assert_true(graph_plan(a, d, &e) && graph_plan(b, d, &e) && graph_allocate(a, &e) &&
                graph_allocate(b, &e));
    assert_true(graph_write(a, x, data, &e) && graph_run(a, &e) && graph_copy(b, z, a, y, &e));
    graph_close(&a);
    assert_true(graph_run(b, &e) && graph_read(b, w, got, &e));
    for (int i = 0; i < 6; i++) assert_true(got[i] == 20 * data[i]);
    graph_close(&b);
    device_close(&d);
}

static void test_run(void **state)
{
    (void)state;
    reference_device d = reference_device_of(DTYPE_F32);
    run_network(&d.device, DTYPE_F32, 1e-5);
    assert_int_equal(d.prepared, 0);
    d = reference_device_of(DTYPE_BF16);
    run_network(&d.device, DTYPE_BF16, 5e-2);
    device *cpu;
    error e = {0};
    assert_true(device_open(&cpu, test_device(), &(device_options){.threads = 2}, &e));
    run_network(cpu, cpu->compute, 1e-5);
    device_close(&cpu);
}

/* all that is wrong with a set stands in one message */
static void test_bind_errors(void **state)
{
    (void)state;
    graph *g = fresh(DTYPE_F32);
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(1, 6));
    for (int i = 0; i < 14; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer.%02d.weight", i);
        x = linear(g, x, graph_weight(g, name, DIMS(6, 6)), NULL, NULL);
    }
    graph_output(g, x);
    error e = {0};
    assert_true(graph_plan(g, &d.device, &e));
    weight_set all = weights_for(g, DTYPE_F32, 1);
    weight_set few = {.item = all.item + 12, .count = 2};
    device_weights *copy = copy_of(&d.device, &all), *part = copy_of(&d.device, &few);
    assert_false(graph_bind(g, &part, 1, &e));
    assert_int_equal(e.code, ERROR_MODEL);
    assert_non_null(strstr(e.text,
                           "12 of 14 weights do not fit the model: layer.00.weight [6, 6] is "
                           "missing; layer.01.weight"));
    assert_non_null(strstr(e.text, "layer.09.weight [6, 6] is missing; and 2 more"));
    assert_null(strstr(e.text, "layer.10"));
    all.item[3].dim[1] = 5;
    all.item[5].type = DTYPE_I64;
    all.item[7].rank = 3;
    all.item[7].dim[2] = 1;
    e = (error){0};
    assert_false(graph_bind(g, &copy, 1, &e));
    assert_string_equal(e.text,
                        "3 of 14 weights do not fit the model: layer.03.weight is [6, 5], should "
                        "be [6, 6]; layer.05.weight has type I64, should be F32, F16 or BF16; "
                        "layer.07.weight is [6, 6, 1], should be [6, 6]");
    assert_int_equal(d.bound, 0);
    all.item[3].dim[1] = 6;
    all.item[5].type = DTYPE_F32;
    all.item[7].rank = 2;
    assert_true(graph_bind(g, &copy, 1, &e));
    assert_int_equal(d.bound, 14);
    graph_close(&g);
    device_weights_close(&part);
    device_weights_close(&copy);
    weight_set_close(&all);
}

/* what is not finite is named: the operation and its nearest weight, the weight, or the input */
static void test_run_checked(void **state)
{
    (void)state;
    graph *g = fresh(DTYPE_F32);
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "latent", DTYPE_F32, DIMS(1, 4));
    tensor *y = linear(g, x, graph_weight(g, "first.weight", DIMS(4, 4)), NULL, NULL);
    y = scale(g, scale(g, y, 1e30f), 1e30f);
    y = linear(g, y, graph_weight(g, "second.weight", DIMS(4, 4)), NULL, NULL);
    graph_output(g, y);
    error e = {0};
    assert_true(graph_plan(g, &d.device, &e) && graph_allocate(g, &e));
    weight_set set = weights_for(g, DTYPE_F32, 1);
    device_weights *copy = copy_of(&d.device, &set);
    assert_true(graph_bind(g, &copy, 1, &e));
    assert_true(graph_write(g, x, (float[]){1, 2, 3, 4}, NULL));
    assert_true(graph_run(g, &e));
    assert_false(graph_run_checked(g, &e));
    assert_int_equal(e.code, ERROR_NUMERIC);
    assert_non_null(
        strstr(e.text, "scale gave infinity at element 0 of [1, 4], at weight first.weight"));
    assert_true(graph_write(g, x, (float[]){1, 2, NAN, 4}, NULL));
    e = (error){0};
    assert_false(graph_run_checked(g, &e));
    assert_non_null(strstr(e.text, "input latent holds NaN"));
    assert_true(graph_write(g, x, (float[]){0, 0, 0, 0}, NULL));
    ((float *)set.item[1].data)[5] = INFINITY;
    e = (error){0};
    assert_false(graph_run_checked(g, &e));
    assert_non_null(strstr(e.text, "weight second.weight holds infinity"));
    graph_close(&g);
    device_weights_close(&copy);
    weight_set_close(&set);
}

/* What is too large for float16 becomes infinity, which reaches the result and is named where it
 * arose; bfloat16 holds it. */
static void overflow_in(dtype half, const float *x_of, const char *const *wanted)
{
    device *d;
    error e = {0};
    if (!device_open(&d, test_device(), &(device_options){.threads = 1, .precision = half}, &e))
        fail_msg("%s", e.text);
    graph *g = fresh(d->compute);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(1, 4));
    tensor *h = linear_compute(g, x, graph_weight(g, "first.weight", DIMS(4, 4)), NULL);
    tensor *y = linear(g, geglu(g, h), graph_weight(g, "second.weight", DIMS(4, 2)), NULL, NULL);
    graph_output(g, y);
    assert_true(graph_plan(g, d, &e) && graph_allocate(g, &e));
    weight_set set = weights_for(g, DTYPE_F32, 1);
    for (size_t i = 0; i < set.count; i++)
        for (int64_t k = 0; k < weight_elements(&set.item[i]); k++)
            ((float *)(uintptr_t)set.item[i].data)[k] = 1;
    device_weights *copy = copy_of(d, &set);
    assert_true(graph_bind(g, &copy, 1, &e));
    for (int i = 0; i < 4; i++) {
        float got[4];
        assert_true(graph_write(g, x, (float[]){x_of[i], x_of[i], x_of[i], x_of[i]}, NULL));
        assert_true(graph_run(g, &e) && graph_read(g, y, got, &e));
        assert_int_equal(isfinite(got[0]) && isfinite(got[3]), !wanted[i]);
        assert_int_equal(graph_run_checked(g, &e), !wanted[i]);
        if (wanted[i] && !strstr(e.text, wanted[i])) fail_msg("%s", e.text);
        e = (error){0};
    }
    graph_close(&g);
    device_weights_close(&copy);
    weight_set_close(&set);
    device_close(&d);
}

static void test_half_overflow(void **state)
{
    (void)state;
    static const float x[] = {20, 200, 30000, 1e5f};
    static const char *const wanted[] = {
        NULL, "geglu gave infinity at element 0 of [1, 2], at weight first.weight",
        "linear gave infinity at element 0 of [1, 4], at weight first.weight",
        "cast gave infinity at element 0 of [1, 4], before any weight"};
    static const char *const nothing[4] = {NULL};
    if (strcmp(test_device(), "cuda") == 0) overflow_in(DTYPE_F16, x, wanted);
    overflow_in(DTYPE_BF16, x, nothing);
}

/* a device that gives up says so, and the operation and its weight are named */
static void test_run_fails(void **state)
{
    (void)state;
    graph *g = fresh(DTYPE_F32);
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "latent", DTYPE_F32, DIMS(1, 4));
    tensor *y = linear(g, x, graph_weight(g, "first.weight", DIMS(4, 4)), NULL, NULL);
    graph_output(g, unary(g, y, UNARY_SILU));
    error e = {0};
    assert_true(graph_plan(g, &d.device, &e) && graph_allocate(g, &e));
    weight_set set = weights_for(g, DTYPE_F32, 1);
    device_weights *copy = copy_of(&d.device, &set);
    assert_true(graph_bind(g, &copy, 1, &e));
    assert_true(graph_write(g, x, (float[]){1, 2, 3, 4}, NULL));
    assert_true(graph_run(g, &e) && graph_run_checked(g, &e));
    d.fail_run = OP_LINEAR;
    assert_false(graph_run(g, &e));
    assert_string_equal(e.text, "linear with weight first.weight: the device gave up");
    e = (error){0};
    assert_false(graph_run_checked(g, &e));
    assert_string_equal(e.text, "linear with weight first.weight: the device gave up");
    d.fail_run = OP_UNARY;
    e = (error){0};
    assert_false(graph_run(g, &e));
    assert_string_equal(e.text, "unary: the device gave up");
    graph_close(&g);
    device_weights_close(&copy);
    weight_set_close(&set);
}

/* outputs that are an input, a weight, a view of each, a value and its view */
static void test_views(void **state)
{
    (void)state;
    graph *g = fresh(DTYPE_F32);
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(2, 3)), *w = graph_weight(g, "w", DIMS(6));
    tensor *out[5] = {x, reshape(g, x, DIMS(6)), w, reshape(g, w, DIMS(3, 2))};
    assert_ptr_equal(reshape(g, x, DIMS(2, 3)), x);
    out[4] = reshape(g, scale(g, reshape(g, reshape(g, x, DIMS(6)), DIMS(1, 6)), 2), DIMS(3, 2));
    for (int i = 0; i < 5; i++) graph_output(g, out[i]);
    error e = {0};
    assert_true(graph_plan(g, &d.device, &e) && graph_allocate(g, &e));
    assert_int_equal(g->run_count, 1);
    weight_set set = weights_for(g, DTYPE_BF16, 1);
    device_weights *copy = copy_of(&d.device, &set);
    assert_true(graph_bind(g, &copy, 1, &e));
    const float data[6] = {1, 2, 3, 4, 5, 6};
    float got[5][6], weights[6];
    convert_to_float(weights, set.item[0].data, DTYPE_BF16, 6);
    assert_true(graph_write(g, x, data, NULL));
    assert_true(graph_run(g, &e));
    for (int i = 0; i < 5; i++) assert_true(graph_read(g, out[i], got[i], NULL));
    assert_memory_equal(got[0], data, sizeof data);
    assert_memory_equal(got[1], data, sizeof data);
    assert_memory_equal(got[2], weights, sizeof data);
    assert_memory_equal(got[3], weights, sizeof data);
    for (int i = 0; i < 6; i++) assert_true(got[4][i] == 2 * data[i]);
    graph_close(&g);
    device_weights_close(&copy);
    weight_set_close(&set);
}

static void test_prepare_fails(void **state)
{
    (void)state;
    reference_device d = reference_device_of(DTYPE_F32);
    for (d.fail_prepare = 0; d.fail_prepare < 5; d.fail_prepare++) {
        graph *g = fresh(DTYPE_F32);
        tensor *in[3], *out[2];
        network(g, in, out);
        error e = {0};
        assert_false(graph_plan(g, &d.device, &e));
        assert_string_equal(e.text, "prepare fails on purpose");
        graph_close(&g);
        assert_int_equal(d.prepared, 0);
    }
}

/* Opens, records, differentiates, plans, allocates, closes, while allocation number `at` fails.
 * Returns whether it was reached. */
static bool live_with_failure(reference_device *d, long at)
{
    error e = {0};
    graph *g = NULL;
    tensor *in[3], *out[2], *of[2], *grad[2];
    allocation_fail_at(at);
    bool fine = graph_open(&g, DTYPE_F32, &e);
    if (fine) {
        graph_segment_begin(g);
        network(g, in, out);
        graph_segment_end(g);
        of[0] = in[0];
        of[1] = graph_weight(g, "conv.weight", DIMS(8, 8, 3, 3));
        fine = graph_gradient(g, out[1], NULL, of, 2, grad, &e);
        fine = graph_plan(g, &d->device, fine ? &e : NULL) && fine && graph_allocate(g, &e);
    }
    bool struck = allocation_fail_end();
    assert_true(fine != struck);
    if (struck) {
        assert_int_equal(e.code, ERROR_MEMORY);
        assert_non_null(strstr(e.text, "memory"));
    }
    graph_close(&g);
    assert_int_equal(d->prepared, 0);
    return struck;
}

/* every allocation of a graph's life fails in turn; a second round leaves no more memory in use */
static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    reference_device d = reference_device_of(DTYPE_F32);
    size_t used[2];
    for (int round = 0; round < 2; round++) {
        long at = 0;
        while (live_with_failure(&d, at)) at++;
        assert_true(at > 10);
        used[round] = mallinfo2().uordblks;
    }
    assert_true(used[1] <= used[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),        cmocka_unit_test(test_first_failure),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_types),
        cmocka_unit_test(test_copy),          cmocka_unit_test(test_run),
        cmocka_unit_test(test_ids),           cmocka_unit_test(test_bind_errors),
        cmocka_unit_test(test_run_checked),   cmocka_unit_test(test_half_overflow),
        cmocka_unit_test(test_run_fails),     cmocka_unit_test(test_views),
        cmocka_unit_test(test_prepare_fails), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
