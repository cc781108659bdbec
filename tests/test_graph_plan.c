/* SPDX-License-Identifier: Apache-2.0
 *
 * The planner: no two values that are needed at once share memory, results go in place where they
 * may, dead nodes vanish, and random graphs give the values that an interpreter without a planner
 * gives. */
#include "graph_support.h"

#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

static graph *fresh(void)
{
    graph *g;
    error e = {0};
    assert_true(graph_open(&g, DTYPE_F32, &e));
    return g;
}

static void plan(graph *g, reference_device *d)
{
    error e = {0};
    if (!graph_plan(g, &d->device, &e)) fail_msg("%s", e.text);
}

static size_t offset_of(tensor *t) { return tensor_root(t)->plan->place->offset; }

/* a chain of results that each may take its operand's memory needs the input and one value */
static void test_in_place(void **state)
{
    (void)state;
    graph *g = fresh();
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(1, 4, 4, 16));
    tensor *v = graph_input(g, "v", DTYPE_F32, DIMS(1, 16));
    tensor *a = scale(g, x, 2), *b = unary(g, a, UNARY_SILU);
    tensor *c = add_channel(g, reshape(g, b, DIMS(1, 16, 16)), v);
    tensor *e = add(g, c, reshape(g, x, DIMS(1, 16, 16)));
    tensor *f = add(g, reshape(g, x, DIMS(1, 16, 16)), e); /* takes the second operand's */
    tensor *h = linear(g, f, graph_weight(g, "w", DIMS(16, 16)), NULL, NULL);
    tensor *k = linear(g, h, graph_weight(g, "w", DIMS(16, 16)), NULL, f); /* takes what is added */
    graph_output(g, k);
    plan(g, &d);
    plan_check(g);
    assert_int_not_equal(offset_of(a), offset_of(x));
    assert_int_equal(offset_of(b), offset_of(a));
    assert_int_equal(offset_of(c), offset_of(a));
    assert_int_equal(offset_of(e), offset_of(a));
    assert_int_equal(offset_of(f), offset_of(a));
    assert_int_not_equal(offset_of(h), offset_of(a));
    assert_int_equal(offset_of(k), offset_of(a));
    assert_int_equal(g->activation_bytes, 3 * 1024 + 256);
    assert_int_equal(graph_bytes(g), 3 * 1024 + 256 + 256); /* and the scratch */
    graph_close(&g);
}

/* memory is not taken where the operand is an output, is read later, is of another size, or is read
 * as something else by the same node */
static void test_not_in_place(void **state)
{
    (void)state;
    graph *g = fresh();
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(2, 16));
    tensor *a = scale(g, x, 2), *b = scale(g, a, 2), *c = scale(g, a, 3);
    graph_output(g, b);
    tensor *h = add(g, scale(g, b, 2), reshape(g, scale(g, slice(g, c, 0, 8), 2), DIMS(16)));
    tensor *s = scale(g, h, 2);
    tensor *k = linear(g, s, graph_weight(g, "w", DIMS(16, 16)), NULL, s);
    tensor *twice = add(g, k, k);
    graph_output(g, reshape(g, twice, DIMS(32)));
    plan(g, &d);
    plan_check(g);
    assert_int_not_equal(offset_of(b), offset_of(a));
    assert_int_equal(offset_of(c), offset_of(a));
    assert_int_not_equal(offset_of(h), offset_of(b));
    assert_int_not_equal(offset_of(k), offset_of(s));
    graph_close(&g);
}

static void test_dead_nodes(void **state)
{
    (void)state;
    graph *g = fresh();
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(2, 16)),
           *unused = graph_input(g, "u", DTYPE_F32, DIMS(5));
    tensor *dead = unary(g, concat(g, x, x), UNARY_GELU);
    tensor *y = scale(g, x, 3);
    scale(g, dead, 2);
    graph_output(g, y);
    graph_output(g, y);
    plan(g, &d);
    assert_int_equal(g->run_count, 1);
    assert_int_equal(d.prepared, 1);
    assert_null(dead->plan->place);
    error e = {0};
    assert_true(graph_allocate(g, &e));
    assert_true(graph_write(g, unused, (float[5]){1, 2, 3, 4, 5}, NULL));
    float in[32], out[32];
    fill_random(in, 32, 1);
    assert_true(graph_write(g, x, in, NULL));
    assert_true(graph_run(g, &e));
    assert_true(graph_read(g, y, out, NULL));
    for (int i = 0; i < 32; i++) assert_true(out[i] == 3 * in[i]);
    graph_close(&g);
    assert_int_equal(d.prepared, 0);
}

/* ---- random graphs ---- */

enum { MAX_VALUES = 80 };

typedef struct forest {
    graph *g;
    uint32_t seed;
    tensor *value[MAX_VALUES]; /* all of rank 3: [2, n, c] */
    int count;
} forest;

static int below(forest *f, int n)
{
    f->seed = f->seed * 1664525u + 1013904223u;
    return (int)((f->seed >> 8) % (uint32_t)n);
}

/* mostly a recent value, now and then an old one (a skip connection) */
static tensor *pick(forest *f)
{
    int back = below(f, 5) ? below(f, f->count < 4 ? f->count : 4) : below(f, f->count);
    return f->value[f->count - 1 - back];
}

/* another value of a's shape, or a itself */
static tensor *partner(forest *f, const tensor *a)
{
    for (int i = 0; i < 10; i++) {
        tensor *b = pick(f);
        if (shape_equal(a, b)) return b;
    }
    return (tensor *)a;
}

static tensor *grow(forest *f)
{
    graph *g = f->g;
    tensor *a = pick(f);
    int64_t n = a->dim[1], c = a->dim[2];
    char name[32];
    switch (below(f, 9)) {
    case 0: return unary(g, a, (unary_kind)below(f, 3));
    case 1: return add(g, a, partner(f, a));
    case 2: return scale(g, a, 0.5f);
    case 3: return c > 12 ? slice(g, a, 1, c - 2) : concat(g, a, partner(f, a));
    case 4:
        return add_channel(g, a,
                           reshape(g, slice(g, reshape(g, a, DIMS(2, n * c)), 0, c), DIMS(2, c)));
    case 5: return n % 2 ? scale(g, a, -1) : reshape(g, a, DIMS(2, n / 2, c * 2));
    case 6:
        snprintf(name, sizeof name, "w.%d", (int)c);
        return linear(g, a, graph_weight(g, name, DIMS(c, c)), NULL,
                      below(f, 2) ? partner(f, a) : NULL);
    case 7:
        snprintf(name, sizeof name, "n.%d", (int)c);
        return layer_norm(g, a, graph_weight(g, name, DIMS(c)), graph_weight(g, name, DIMS(c)),
                          1e-5f);
    default: return attention(g, a, partner(f, a), partner(f, a), 1, below(f, 2));
    }
}

static void check_values(graph *g, reference_device *d, tensor *x)
{
    error e = {0};
    assert_true(graph_allocate(g, &e));
    memset(g->block.host, 0xff, graph_bytes(g)); /* NaN wherever nothing was written */
    weight_set set = weights_for(g, DTYPE_F32, 7);
    device_weights *copy = copy_of(g->device, &set);
    assert_true(graph_bind(g, &copy, 1, &e));
    size_t n = (size_t)tensor_elements(x);
    float *data = must(malloc(n * sizeof *data));
    fill_random(data, n, 3);
    assert_true(graph_write(g, x, data, NULL));
    doubles v = doubles_new(g);
    doubles_set(&v, x, data, DTYPE_F32);
    doubles_set_weights(&v, g, &set);
    doubles_run(&v, g, g->nodes.count);
    for (int twice = 0; twice < 2; twice++) {
        assert_true(graph_run(g, &e));
        for (size_t i = 0; i < g->outputs.count; i++) {
            tensor *t = g->outputs.item[i];
            size_t m = (size_t)tensor_elements(t);
            float *got = must(malloc(2 * m * sizeof *got)), *want = got + m;
            assert_true(graph_read(g, t, got, NULL));
            for (size_t k = 0; k < m; k++) want[k] = (float)v.value[t->plan->id][k];
            double worst = relative_error(got, want, m);
            if (!(worst < 1e-3)) fail_msg("output %zu differs by %g", i, worst);
            free(got);
        }
    }
    (void)d;
    doubles_free(&v);
    free(data);
    device_weights_close(&copy);
    weight_set_close(&set);
}

static void test_random_graphs(void **state)
{
    (void)state;
    double sum = 0;
    for (int round = 0; round < 60; round++) {
        reference_device d = reference_device_of(DTYPE_F32);
        forest f = {.g = fresh(), .seed = (uint32_t)round * 77u + 1, .count = 1};
        tensor *x = f.value[0] = graph_input(f.g, "x", DTYPE_F32, DIMS(2, 4, 6));
        while (f.count < 20 + round) f.value[f.count] = grow(&f), f.count++;
        graph_output(f.g, f.value[f.count - 1]);
        graph_output(f.g, pick(&f));
        graph_output(f.g, f.value[below(&f, f.count)]);
        plan(f.g, &d);
        size_t least = plan_check(f.g);
        sum += (double)f.g->activation_bytes / (double)(least + 1);
        check_values(f.g, &d, x);
        graph_close(&f.g);
        assert_int_equal(d.prepared, 0);
    }
    print_message("planned bytes over the most needed at once: %.3f on average\n", sum / 60);
    assert_true(sum / 60 < 1.05);
}

/* a long chain with skips, as a UNet's: the plan is close to what is needed at the worst moment */
static void test_close_to_least(void **state)
{
    (void)state;
    graph *g = fresh();
    reference_device d = reference_device_of(DTYPE_F32);
    tensor *x = graph_input(g, "x", DTYPE_F32, DIMS(1, 64, 64, 8)), *skip_from[4];
    tensor *h = x;
    for (int level = 0; level < 4; level++) {
        int64_t c = h->dim[3], size = h->dim[1] / 2;
        char name[32];
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "down.%d.%d", level, i);
            h = conv2d(g, unary(g, h, UNARY_SILU), graph_weight(g, name, DIMS(c, c, 3, 3)), NULL, 1,
                       (conv_pad){1, 1, 1, 1}, h);
        }
        skip_from[level] = h;
        snprintf(name, sizeof name, "half.%d", level);
        h = conv2d(g, h, graph_weight(g, name, DIMS(2 * c, c, 3, 3)), NULL, 2,
                   (conv_pad){1, 1, 1, 1}, NULL);
        assert_int_equal(h->dim[1], size);
    }
    for (int level = 3; level >= 0; level--) {
        tensor *s = skip_from[level];
        char name[32];
        h = concat(g, upsample(g, h, s->dim[1], s->dim[2]), s);
        snprintf(name, sizeof name, "up.%d", level);
        h = conv2d(g, h, graph_weight(g, name, DIMS(s->dim[3], h->dim[3], 3, 3)), NULL, 1,
                   (conv_pad){1, 1, 1, 1}, NULL);
    }
    graph_output(g, h);
    plan(g, &d);
    size_t least = plan_check(g);
    print_message("planned %zu bytes, %zu needed at the worst moment\n", g->activation_bytes,
                  least);
    assert_true((double)g->activation_bytes <= 1.05 * (double)least);
    graph_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_place),       cmocka_unit_test(test_not_in_place),
        cmocka_unit_test(test_dead_nodes),     cmocka_unit_test(test_random_graphs),
        cmocka_unit_test(test_close_to_least),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
