/* SPDX-License-Identifier: Apache-2.0
 *
 * test_graph_update: what graphs see of weights that are trained: after every update, and after one
 * that was left out, graphs that share the weights give the bytes of a graph that has the weights
 * as they are then for the first time. On two queues of the same hardware where there are two. */
#include <math.h>

#include "foreign.h"
#include "graph_support.h"

#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

enum { WEIGHTS = 5, X = 2 * 5 * 6 * 7, Y = 2 * 5 * 6 * 65, EVERY_OTHER = 2 * 3 * 3 * 65 };

static const struct {
    const char *name;
    int rank;
    int64_t dim[4];
    moment_kind kind;
} parts[WEIGHTS] = {
    {"conv.bias", 1, {65}, MOMENTS_F32_BNB},
    {"conv.weight", 4, {65, 7, 3, 3}, MOMENTS_8BIT},
    {"linear.bias", 1, {65}, MOMENTS_F32},
    {"linear.weight", 2, {65, 65}, MOMENTS_8BIT},
    {"point.weight", 4, {65, 65, 1, 1}, MOMENTS_F32},
};

typedef struct trained {
    device *d;
    weight item[WEIGHTS];
    size_t at[WEIGHTS];
    buffer weights, gradients, states;
    device_weights *copy;
    update_tensor tensor[WEIGHTS];
} trained;

static buffer buffer_of(device *d, size_t size)
{
    error e = {0};
    buffer b;
    if (!d->buffer_open(d, size, "a test's memory", &b, &e)) fail_msg("%s", e.text);
    return b;
}

static void fill_buffer(const buffer *b, size_t at, size_t n, uint32_t seed)
{
    error e = {0};
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    fill_random(x, n, seed);
    if (!b->device->upload(b->device, b, at, x, n * sizeof *x, &e)) fail_msg("%s", e.text);
    free(x);
}

static void trained_open(trained *t, device *d)
{
    error e = {0};
    size_t bytes = 0, states = 0;
    *t = (trained){.d = d};
    for (int i = 0; i < WEIGHTS; i++) {
        weight *w = &t->item[i];
        *w = (weight){.name = parts[i].name, .type = DTYPE_F32, .rank = parts[i].rank};
        memcpy(w->dim, parts[i].dim, sizeof w->dim);
        t->at[i] = bytes;
        bytes += ((size_t)weight_elements(w) * sizeof(float) + 255) / 256 * 256;
        states += moments_bytes(parts[i].kind, weight_elements(w));
    }
    t->weights = buffer_of(d, bytes);
    t->gradients = buffer_of(d, bytes);
    t->states = buffer_of(d, states);
    weight_set set = {.item = t->item, .count = WEIGHTS};
    if (!device_weights_open_in(d, &set, &t->weights, t->at, &t->copy, &e)) fail_msg("%s", e.text);
    states = 0;
    for (int i = 0; i < WEIGHTS; i++) {
        update_tensor *u = &t->tensor[i];
        int64_t n = weight_elements(&t->item[i]);
        fill_buffer(&t->weights, t->at[i], (size_t)n, (uint32_t)i);
        *u = (update_tensor){.weights = t->copy, .index = (size_t)i, .sum = {.rank = -1}};
        u->gradient = (array){
            .memory = &t->gradients, .offset = t->at[i], .type = DTYPE_F32, .rank = 1, .dim = {n}};
        moments_place(&u->moments, parts[i].kind, n, &t->states, states);
        states += moments_bytes(parts[i].kind, n);
    }
}

static void trained_close(trained *t)
{
    device_weights_close(&t->copy);
    t->d->buffer_close(&t->weights);
    t->d->buffer_close(&t->gradients);
    t->d->buffer_close(&t->states);
}

/* bad: a gradient is infinite, and nothing is to change */
static void update(trained *t, int step, bool bad)
{
    error e = {0};
    update_result r;
    float infinity = INFINITY;
    for (int i = 0; i < WEIGHTS; i++)
        fill_buffer(&t->gradients, t->at[i], (size_t)t->tensor[i].moments.count,
                    (uint32_t)(100 * step + i));
    if (bad)
        assert_true(
            t->d->upload(t->d, &t->gradients, t->at[3] + 8, &infinity, sizeof infinity, &e));
    update_job job = {.tensor = t->tensor, .count = WEIGHTS, .unscale = 1, .max_norm = 1};
    job.step = (adamw_step){.step = step,
                            .rate = 1e-2,
                            .beta1 = 0.9,
                            .beta2 = 0.999,
                            .epsilon = 1e-8,
                            .weight_decay = 1e-2};
    if (!t->d->update(t->d, &job, &r, &e)) fail_msg("%s", e.text);
    assert_int_equal(r.bad, bad ? 3 : WEIGHTS);
}

typedef struct network {
    graph *g;
    tensor *x, *y, *small;
} network;

static tensor *part(graph *g, int i)
{
    return graph_weight(g, parts[i].name, parts[i].rank, parts[i].dim);
}

/* The last weight is there in two forms, a matrix and a filter. */
static network network_of(device *d)
{
    network n;
    error e = {0};
    assert_true(graph_open(&n.g, d->compute, &e));
    n.x = graph_input(n.g, "x", DTYPE_F32, DIMS(2, 5, 6, 7));
    tensor *h = conv2d(n.g, n.x, part(n.g, 1), part(n.g, 0), 1, (conv_pad){1, 1, 1, 1}, NULL);
    h = linear(n.g, h, part(n.g, 3), part(n.g, 2), NULL);
    n.y = linear(n.g, h, part(n.g, 4), NULL, NULL);
    n.small = conv2d(n.g, h, part(n.g, 4), NULL, 2, (conv_pad){0}, NULL);
    graph_output(n.g, n.y);
    graph_output(n.g, n.small);
    if (!graph_plan(n.g, d, &e) || !graph_allocate(n.g, &e)) fail_msg("%s", e.text);
    return n;
}

static void run(const network *n, device_weights *copy, float *y)
{
    error e = {0};
    float x[X];
    fill_random(x, X, 77);
    if (!graph_bind(n->g, &copy, 1, &e) || !graph_write(n->g, n->x, x, &e) ||
        !graph_run(n->g, &e) || !graph_read(n->g, n->y, y, &e) ||
        !graph_read(n->g, n->small, y + Y, &e))
        fail_msg("%s", e.text);
}

/* What a graph gives that finds the weights as they are now */
static void run_fresh(const trained *t, float *y)
{
    error e = {0};
    weight item[WEIGHTS];
    device_weights *copy;
    memcpy(item, t->item, sizeof item);
    weight_set set = {.item = item, .count = WEIGHTS};
    if (!device_weights_open_in(t->d, &set, &t->weights, t->at, &copy, &e)) fail_msg("%s", e.text);
    network n = network_of(t->d);
    run(&n, copy, y);
    graph_close(&n.g);
    device_weights_close(&copy);
}

/* The graphs are bound before the update as they come: the one, the other, none. */
static void follow(device *d, device *beside)
{
    enum { STEPS = 6 };
    float want[Y + EVERY_OTHER], got[Y + EVERY_OTHER], before[Y + EVERY_OTHER];
    trained t;
    trained_open(&t, d);
    network n[2] = {network_of(d), network_of(beside)};
    run_fresh(&t, before);
    for (int step = 1; step <= STEPS; step++) {
        bool bad = step == 3;
        if (step > 1) update(&t, step, bad);
        if (step == 5) fill_buffer(&t.weights, t.at[4], 65 * 65, 9); /* as a checkpoint does */
        if (step == 5) device_weights_touch(t.copy, 4);
        run_fresh(&t, want);
        assert_true((memcmp(want, before, sizeof want) == 0) == (bad || step == 1));
        memcpy(before, want, sizeof want);
        for (int k = 0; k < 2 && step != 4; k++) {
            run(&n[(step + k) % 2], t.copy, got);
            assert_memory_equal(got, want, sizeof want);
        }
    }
    for (int k = 0; k < 2; k++) graph_close(&n[k].g);
    trained_close(&t);
}

static void test_follow(void **state)
{
    (void)state;
    static const dtype precisions[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    bool is_gpu = strncmp(test_device(), "cuda", 4) == 0;
    for (int i = 0; i < (is_gpu ? 3 : 1); i++) {
        device *d, *beside;
        error e = {0};
        device_options o = {.threads = 2, .precision = precisions[i]};
        if (!device_open(&d, test_device(), &o, &e) || !device_open_beside(&beside, d, 1, &e))
            fail_msg("%s", e.text);
        follow(d, beside);
        device_close(&beside);
        device_close(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_follow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
