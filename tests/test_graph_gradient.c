/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients: of every operation, on the cpu device, against central differences of the same graph
 * in double; of a block of a network with and without segments, to the byte. */
#include <math.h>

#include "foreign.h"
#include "graph_support.h"

#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }
#define INPUT(g, name, ...) graph_input(g, name, DTYPE_F32, DIMS(__VA_ARGS__))
#define WEIGHT(g, name, ...) graph_weight(g, name, DIMS(__VA_ARGS__))
static const conv_pad no_pad = {0}, pad1 = {1, 1, 1, 1};

static graph *fresh(void)
{
    graph *g;
    error e = {0};
    assert_true(graph_open(&g, DTYPE_F32, &e));
    return g;
}

/* ---- one graph, checked ---- */

typedef struct check {
    graph *g;
    tensor *loss;
    size_t forward; /* nodes before the gradient's */
    doubles values;
    weight_set set;
    device_weights *copy;
    tensor *of[32], *grad[32];
    size_t count;
} check;

/* A loss that weighs every element of y differently: the target is a random input. */
static tensor *loss_of(graph *g, tensor *y)
{
    return mse(g, y, graph_input(g, "target", DTYPE_F32, y->rank, y->dim), NULL, NULL);
}

/* Values for all inputs, in the graph's block and in double; ids are small whole numbers. */
static void fill_inputs(check *c)
{
    for (size_t i = 0; i < c->g->inputs.count; i++) {
        tensor *t = c->g->inputs.item[i];
        size_t n = (size_t)tensor_elements(t);
        float *f = must(malloc(n * sizeof *f));
        fill_random(f, n, 100 + (uint32_t)i);
        if (t->plan->is_constant) f[0] = t->plan->constant;
        int32_t *ids = (int32_t *)f;
        for (size_t k = 0; t->type == DTYPE_I32 && k < n; k++) ids[k] = (int32_t)(k * k % 5);
        assert_true(graph_write(c->g, t, f, NULL));
        doubles_set(&c->values, t, f, t->type);
        free(f);
    }
}

static double loss_with(check *c, double *at, double value)
{
    double kept = *at;
    *at = value;
    doubles_run(&c->values, c->g, c->forward);
    *at = kept;
    return c->values.value[c->loss->plan->id][0];
}

/* Of one tensor: up to 40 elements, spread. The error is relative to the whole tensor's largest. */
static void check_tensor(check *c, size_t index)
{
    tensor *t = c->of[index];
    size_t n = (size_t)tensor_elements(t), step = (n + 39) / 40;
    assert_non_null(c->grad[index]);
    assert_true(shape_equal(t, c->grad[index]));
    float *got = must(malloc(n * sizeof *got));
    assert_true(graph_read(c->g, c->grad[index], got, NULL));
    double *x = c->values.value[t->plan->id], worst = 0, largest = 1e-7;
    for (size_t k = 0; k < n; k++) largest = fmax(largest, fabs((double)got[k]));
    for (size_t k = 0; k < n; k += step) {
        const double h = 1e-4;
        double want = (8 * (loss_with(c, &x[k], x[k] + h) - loss_with(c, &x[k], x[k] - h)) -
                       (loss_with(c, &x[k], x[k] + 2 * h) - loss_with(c, &x[k], x[k] - 2 * h))) /
                      (12 * h);
        largest = fmax(largest, fabs(want));
        worst = fmax(worst, fabs(want - (double)got[k]));
    }
    if (!(worst <= 1e-4 * largest))
        fail_msg("gradient of %s is off by %g of %g", t->name, worst, largest);
    free(got);
}

/* The gradients of loss by every input but the target, and by every weight. */
static void check_gradient(graph *g, tensor *loss)
{
    device *d;
    error e = {0};
    check c = {.g = g, .loss = loss, .forward = g->nodes.count};
    for (size_t i = 0; i < g->inputs.count; i++) {
        tensor *t = g->inputs.item[i];
        if (t->type == DTYPE_F32 && t->name[0] != '_') c.of[c.count++] = t;
    }
    for (size_t i = 0; i < g->weights.count; i++) c.of[c.count++] = g->weights.item[i];
    graph_output(g, loss);
    assert_true(device_open(&d, test_device(), &(device_options){.threads = 2}, &e));
    if (!graph_gradient(g, loss, NULL, c.of, c.count, c.grad, &e) || !graph_plan(g, d, &e) ||
        !graph_allocate(g, &e))
        fail_msg("%s", e.text);
    plan_check(g);
    c.set = weights_for(g, DTYPE_F32, 3);
    c.copy = copy_of(d, &c.set);
    if (!graph_bind(g, &c.copy, 1, &e)) fail_msg("%s", e.text);
    c.values = doubles_new(g);
    doubles_set_weights(&c.values, g, &c.set);
    fill_inputs(&c);
    if (!graph_run_checked(g, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < c.count; i++) check_tensor(&c, i);
    doubles_free(&c.values);
    graph_close(&g);
    device_weights_close(&c.copy);
    weight_set_close(&c.set);
    device_close(&d);
}

/* ---- operations ---- */

static void test_conv2d(void **state)
{
    (void)state;
    static const struct {
        int k, stride;
        conv_pad pad;
    } cases[] = {
        {3, 1, {1, 1, 1, 1}}, {3, 2, {1, 1, 1, 1}}, {3, 2, {0, 0, 1, 1}},
        {1, 2, {0, 0, 0, 0}}, {1, 1, {1, 0, 0, 2}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graph *g = fresh();
        int64_t k = cases[i].k;
        tensor *x = INPUT(g, "x", 2, 5, 7, 6), *w = WEIGHT(g, "w", 4, 6, k, k);
        tensor *y = conv2d(g, x, w, NULL, cases[i].stride, cases[i].pad, NULL);
        tensor *more = graph_input(g, "more", DTYPE_F32, 4, y->dim);
        y = add(g, y, conv2d(g, x, w, WEIGHT(g, "b", 4), cases[i].stride, cases[i].pad, more));
        check_gradient(g, loss_of(g, y));
    }
}

static void test_linear(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        graph *g = fresh();
        tensor *x = INPUT(g, "x", 2, 3, 5, 7), *y;
        if (i == 0)
            y = linear(g, x, WEIGHT(g, "w", 6, 7), WEIGHT(g, "b", 6), INPUT(g, "more", 2, 3, 5, 6));
        else if (i == 1)
            y = conv2d(g, x, WEIGHT(g, "w", 6, 7, 1, 1), WEIGHT(g, "b", 6), 1, no_pad,
                       INPUT(g, "more", 2, 3, 5, 6));
        else
            y = linear_compute(g, x, WEIGHT(g, "w", 6, 7), NULL);
        check_gradient(g, loss_of(g, y));
    }
}

static void test_attention(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        graph *g = fresh();
        tensor *q = INPUT(g, "q", 2, 5, 12), *y;
        if (i < 2) {
            tensor *k = INPUT(g, "k", 2, 7, 12), *v = INPUT(g, "v", 2, 7, 12);
            y = attention(g, q, k, v, i ? 4 : 1, false);
        } else if (i == 2) {
            y = attention(g, q, INPUT(g, "k", 2, 5, 12), INPUT(g, "v", 2, 5, 12), 3, true);
        } else { /* one tensor in every part */
            y = add(g, attention(g, q, q, q, 2, true), scale(g, q, 2));
        }
        check_gradient(g, loss_of(g, y));
    }
}

static void test_norms(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        graph *g = fresh();
        tensor *x = i < 4 ? INPUT(g, "x", 2, 3, 5, 12) : INPUT(g, "x", 3, 17);
        int64_t c = x->dim[x->rank - 1];
        tensor *w = WEIGHT(g, "w", c), *b = WEIGHT(g, "b", c);
        tensor *y = i < 4 ? group_norm(g, x, w, b, i < 2 ? 4 : 12, 1e-5f, i % 2)
                          : layer_norm(g, x, w, b, 1e-5f);
        check_gradient(g, loss_of(g, y));
    }
}

static void test_pointwise(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        graph *g = fresh();
        tensor *x = INPUT(g, "x", 2, 3, 5, 6), *y = NULL;
        switch (i) {
        case 0: y = unary(g, x, UNARY_SILU); break;
        case 1: y = unary(g, x, UNARY_GELU); break;
        case 2: y = unary(g, x, UNARY_QUICK_GELU); break;
        case 3: y = geglu(g, x); break;
        case 9: y = unary(g, x, UNARY_RELU); break;
        case 4: y = add(g, x, INPUT(g, "z", 2, 3, 5, 6)); break;
        case 5: y = add(g, x, INPUT(g, "z", 1, 5, 6)); break;
        case 6: y = add(g, x, WEIGHT(g, "w", 5, 6)); break;
        case 7: y = add_channel(g, scale(g, x, -1.5f), INPUT(g, "v", 2, 6)); break;
        case 8: y = add(g, x, reshape(g, WEIGHT(g, "w", 30), DIMS(1, 1, 5, 6))); break;
        }
        check_gradient(g, loss_of(g, y));
    }
}

static void test_shapes(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        graph *g = fresh();
        tensor *x = INPUT(g, "x", 2, 3, 5, 6), *y = NULL;
        switch (i) {
        case 0: y = concat(g, x, concat(g, INPUT(g, "z", 2, 3, 5, 3), x)); break;
        case 1: y = concat(g, slice(g, x, 0, 2), slice(g, x, 1, 4)); break;
        case 2: y = upsample(g, x, 6, 10); break;
        case 3: y = upsample(g, x, 4, 11); break;
        case 4: y = add(g, reshape(g, x, DIMS(2, 15, 6)), reshape(g, x, DIMS(2, 15, 6))); break;
        }
        check_gradient(g, loss_of(g, y));
    }
}

static void test_lookup(void **state)
{
    (void)state;
    graph *g = fresh();
    tensor *ids = graph_input(g, "ids", DTYPE_I32, DIMS(2, 4)), *table = WEIGHT(g, "table", 6, 5);
    check_gradient(g, loss_of(g, embedding(g, ids, table)));
    /* two losses, one of weighted samples, as prior preservation has them; no gradient by '_' */
    g = fresh();
    tensor *x = INPUT(g, "x", 3, 2, 2, 3), *z = INPUT(g, "z", 3, 2, 2, 3), *each;
    tensor *loss = mse(g, x, unary(g, z, UNARY_SILU), INPUT(g, "_weights", 3), &each);
    check_gradient(g, add(g, loss, scale(g, mse(g, scale(g, x, 2), z, NULL, NULL), 0.75f)));
}

/* what has no gradient says so, and what does not depend has none */
static void test_none(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        graph *g = fresh();
        tensor *x = INPUT(g, "x", 3, 4), *t = INPUT(g, "t", 3), *each, *of[2] = {t, x}, *grad[2];
        tensor *loss = loss_of(g, add(g, x, time_embedding(g, t, 4, true, 0)));
        const char *part = "time_embedding: this operation has no gradient";
        if (i == 1)
            loss = mse(g, x, scale(g, x, 2), t, NULL), part = "weights of the samples have no";
        if (i == 2) {
            mse(g, x, scale(g, x, 2), NULL, &each);
            loss = mse(g, each, t, NULL, NULL), part = "only its first result has a gradient";
            of[0] = x;
        }
        if (i == 3) {
            loss = mse(g, x, scale(g, x, 2), NULL, NULL);
            assert_true(graph_gradient(g, loss, NULL, of, 2, grad, NULL));
            assert_null(grad[0]);
            assert_non_null(grad[1]);
            graph_close(&g);
            continue;
        }
        if (i == 4) of[0] = x, part = NULL;
        error e = {0};
        assert_true(graph_gradient(g, loss, NULL, of, 2, grad, &e) == !part);
        if (part && !strstr(e.text, part)) fail_msg("\"%s\" lacks \"%s\"", e.text, part);
        graph_close(&g);
    }
}

/* ---- a block of a network ---- */

static tensor *named(graph *g, const char *block, const char *name, int rank, const int64_t *dim)
{
    char text[64];
    snprintf(text, sizeof text, "%s.%s", block, name);
    return graph_weight(g, text, rank, dim);
}

static tensor *resnet(graph *g, const char *n, tensor *x, tensor *t, int64_t c)
{
    int64_t from = x->dim[3];
    tensor *h = group_norm(g, x, named(g, n, "n1.w", DIMS(from)), named(g, n, "n1.b", DIMS(from)),
                           2, 1e-5f, true);
    h = conv2d(g, h, named(g, n, "c1.w", DIMS(c, from, 3, 3)), named(g, n, "c1.b", DIMS(c)), 1,
               pad1, NULL);
    h = add_channel(
        g, h,
        linear(g, unary(g, t, UNARY_SILU), named(g, n, "t.w", DIMS(c, t->dim[1])), NULL, NULL));
    h = group_norm(g, h, named(g, n, "n2.w", DIMS(c)), named(g, n, "n2.b", DIMS(c)), 2, 1e-5f,
                   true);
    if (from != c) x = conv2d(g, x, named(g, n, "s.w", DIMS(c, from, 1, 1)), NULL, 1, no_pad, NULL);
    return conv2d(g, h, named(g, n, "c2.w", DIMS(c, c, 3, 3)), NULL, 1, pad1, x);
}

static tensor *transformer(graph *g, const char *n, tensor *x, tensor *text)
{
    int64_t c = x->dim[3], space = x->dim[1] * x->dim[2], m = text->dim[2];
    tensor *h = reshape(g, x, DIMS(x->dim[0], space, c));
    tensor *y = layer_norm(g, h, named(g, n, "l1.w", DIMS(c)), named(g, n, "l1.b", DIMS(c)), 1e-5f);
    tensor *q = linear_compute(g, y, named(g, n, "q.w", DIMS(c, c)), NULL);
    tensor *k = linear_compute(g, text, named(g, n, "k.w", DIMS(c, m)), NULL);
    tensor *v = linear_compute(g, text, named(g, n, "v.w", DIMS(c, m)), NULL);
    y = attention(g, q, k, v, 2, false);
    h = linear(g, y, named(g, n, "o.w", DIMS(c, c)), named(g, n, "o.b", DIMS(c)), h);
    y = layer_norm(g, h, named(g, n, "l2.w", DIMS(c)), named(g, n, "l2.b", DIMS(c)), 1e-5f);
    y = geglu(g, linear_compute(g, y, named(g, n, "f1.w", DIMS(8 * c, c)), NULL));
    h = linear(g, y, named(g, n, "f2.w", DIMS(c, 4 * c)), NULL, h);
    return reshape(g, h, 4, x->dim);
}

/* A UNet in small: down, middle, up, with a skip connection; each block a segment where wanted. */
static tensor *small_unet(graph *g, bool segments, int64_t size, int64_t c)
{
    tensor *x = INPUT(g, "x", 2, size, size + 1, 4), *text = INPUT(g, "text", 2, 3, 6);
    tensor *time = time_embedding(g, INPUT(g, "_t", 2), 6, true, 0);
    time = linear(g, time, WEIGHT(g, "time.w", 6, 6), NULL, NULL);
    tensor *h = conv2d(g, x, WEIGHT(g, "in.w", c, 4, 3, 3), WEIGHT(g, "in.b", c), 1, pad1, NULL);
    if (segments) graph_segment_begin(g);
    h = transformer(g, "down.t", resnet(g, "down.r", h, time, c), text);
    tensor *skip_from = h;
    h = conv2d(g, h, WEIGHT(g, "half.w", c, c, 3, 3), NULL, 2, pad1, NULL);
    if (segments) graph_segment_end(g);
    if (segments) graph_segment_begin(g);
    h = resnet(g, "mid.2", transformer(g, "mid.t", resnet(g, "mid.1", h, time, c), text), time, c);
    if (segments) graph_segment_end(g);
    if (segments) graph_segment_begin(g);
    h = concat(g, upsample(g, h, size, size + 1), skip_from);
    h = transformer(g, "up.t", resnet(g, "up.r", h, time, c), text);
    if (segments) graph_segment_end(g);
    h = group_norm(g, h, WEIGHT(g, "out.n.w", c), WEIGHT(g, "out.n.b", c), 2, 1e-5f, true);
    return conv2d(g, h, WEIGHT(g, "out.w", 4, c, 3, 3), NULL, 1, pad1, NULL);
}

/* every gradient of it by differences; few elements each, for the reference is slow */
static void test_block(void **state)
{
    (void)state;
    graph *g = fresh();
    tensor *x = INPUT(g, "x", 1, 3, 2, 4), *text = INPUT(g, "text", 1, 3, 6),
           *t = INPUT(g, "t", 1, 6);
    graph_segment_begin(g);
    tensor *h = resnet(g, "r", x, t, 6);
    graph_segment_end(g);
    h = transformer(g, "t", h, text);
    check_gradient(g, loss_of(g, h));
}

typedef struct outcome {
    size_t bytes, count;
    float *data; /* the loss, then every gradient */
    size_t length;
} outcome;

/* Loss and gradients of the small UNet. */
static outcome run_unet(device *d, bool segments)
{
    error e = {0};
    graph *g = fresh();
    tensor *of[100], *grad[100];
    outcome o = {0};
    tensor *y = small_unet(g, segments, 8, 16);
    tensor *loss = loss_of(g, y), *half = INPUT(g, "_scale", 1);
    of[o.count++] = g->inputs.item[0];
    for (size_t i = 0; i < graph_weight_count(g); i++)
        of[o.count++] = (tensor *)graph_weight_at(g, i);
    graph_output(g, loss);
    if (!graph_gradient(g, loss, half, of, o.count, grad, &e) || !graph_plan(g, d, &e) ||
        !graph_allocate(g, &e))
        fail_msg("%s", e.text);
    size_t least = plan_check(g);
    print_message("%s segments: %zu nodes, %zu bytes of values (%zu needed at the worst moment)\n",
                  segments ? "with" : "without", g->run_count, g->activation_bytes, least);
    weight_set set = weights_for(g, DTYPE_F32, 11);
    check c = {.g = g, .values = doubles_new(g)};
    device_weights *copy = copy_of(d, &set);
    assert_true(graph_bind(g, &copy, 1, &e));
    fill_inputs(&c);
    assert_true(graph_write(g, half, (float[]){0.5f}, NULL));
    doubles_free(&c.values);
    o.bytes = g->activation_bytes;
    o.data = must(malloc(1 << 20));
    for (int twice = 0; twice < 2; twice++) {
        assert_true(graph_run(g, &e));
        assert_true(graph_read(g, loss, o.data, NULL));
        o.length = 1;
        for (size_t i = 0; i < o.count; i++) {
            assert_non_null(grad[i]);
            float *at = o.data + o.length;
            size_t n = (size_t)tensor_elements(grad[i]);
            o.length += n;
            assert_true(o.length < (1 << 20) / sizeof(float));
            float *before = must(malloc(n * sizeof *before));
            memcpy(before, at, n * sizeof *before);
            assert_true(graph_read(g, grad[i], at, NULL));
            if (twice) assert_memory_equal(before, at, n * sizeof *before);
            free(before);
        }
    }
    graph_close(&g);
    device_weights_close(&copy);
    weight_set_close(&set);
    return o;
}

static void test_segments(void **state)
{
    (void)state;
    device *d;
    error e = {0};
    assert_true(device_open(&d, test_device(), &(device_options){.threads = 2}, &e));
    outcome kept = run_unet(d, false), computed = run_unet(d, true);
    assert_int_equal(kept.length, computed.length);
    assert_memory_equal(kept.data, computed.data, kept.length * sizeof(float));
    assert_true((double)computed.bytes < 0.8 * (double)kept.bytes);
    free(kept.data);
    free(computed.data);
    device_close(&d);
}

/* in BF16 what enters products is converted once, and gradients stay F32 */
static void test_types(void **state)
{
    (void)state;
    graph *g;
    error e = {0};
    assert_true(graph_open(&g, DTYPE_BF16, &e));
    tensor *loss = loss_of(g, small_unet(g, true, 8, 16)), *of[100], *grad[100];
    size_t count = 0;
    of[count++] = g->inputs.item[0];
    for (size_t i = 0; i < graph_weight_count(g); i++)
        of[count++] = (tensor *)graph_weight_at(g, i);
    if (!graph_gradient(g, loss, NULL, of, count, grad, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < count; i++) assert_int_equal(grad[i]->type, DTYPE_F32);
    for (size_t i = 0; i < g->nodes.count; i++) {
        const node *n = node_at(g, i);
        bool product = n->kind <= OP_ATTENTION_GRAD;
        for (int k = 0; product && k < n->in_count && k != 2; k++)
            if (n->in[k] && !n->in[k]->is_weight) assert_int_equal(n->in[k]->type, DTYPE_BF16);
        if (n->kind == OP_CAST) assert_int_not_equal(n->in[0]->type, n->out[0]->type);
        /* a conversion made in one segment is not kept for another */
        const node *from = product ? n->in[0]->from : NULL;
        if (from && from->kind == OP_CAST) assert_int_equal(from->segment, n->segment);
    }
    reference_device d = reference_device_of(DTYPE_BF16);
    if (!graph_plan(g, &d.device, &e)) fail_msg("%s", e.text);
    plan_check(g);
    graph_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv2d),    cmocka_unit_test(test_linear),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_norms),
        cmocka_unit_test(test_pointwise), cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_lookup),    cmocka_unit_test(test_none),
        cmocka_unit_test(test_block),     cmocka_unit_test(test_segments),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
