/* SPDX-License-Identifier: Apache-2.0
 *
 * Several host threads on one device_weights, each with a device beside the first and a graph of
 * its own: the same bytes as alone, the copies made once; and a run that another thread stops. */
#include <pthread.h>

#include "foreign.h"
#include "graph_support.h"

#define DIMS(...)                                                                                  \
    (int64_t[]) { __VA_ARGS__ }

enum { HOSTS = 3, ROUNDS = 12, SIDE = 6, NUMBERS = SIDE * SIDE * 24 };

/* Every way a weight is kept: panels, float32 copies, in the file's own form. */
static tensor *network(graph *g, tensor **ids, int batch)
{
    const conv_pad pad = {1, 1, 1, 1};
    *ids = graph_input(g, "ids", DTYPE_I32, 2, DIMS(batch, SIDE * SIDE));
    tensor *x = embedding(g, *ids, graph_weight(g, "table", 2, DIMS(50, 24)));
    x = layer_norm(g, x, graph_weight(g, "norm.weight", 1, DIMS(24)),
                   graph_weight(g, "norm.bias", 1, DIMS(24)), 1e-5f);
    x = linear(g, x, graph_weight(g, "in.weight", 2, DIMS(24, 24)),
               graph_weight(g, "in.bias", 1, DIMS(24)), NULL);
    x = reshape(g, x, 4, DIMS(batch, SIDE, SIDE, 24));
    x = conv2d(g, x, graph_weight(g, "conv.weight", 4, DIMS(24, 24, 3, 3)),
               graph_weight(g, "conv.bias", 1, DIMS(24)), 1, pad, NULL);
    x = cast(g, x, DTYPE_F32);
    graph_output(g, x);
    return x;
}

typedef struct host {
    device *first;
    const weight_set *set;
    pthread_barrier_t *start;
    int batch, threads;
    float out[2 * NUMBERS];
    error e;
    bool ok;
} host;

static bool compute(host *h, device *d, graph *g)
{
    tensor *ids, *y = network(g, &ids, h->batch);
    device_weights *weights = NULL;
    int32_t tokens[2 * SIDE * SIDE];
    for (int i = 0; i < 2 * SIDE * SIDE; i++) tokens[i] = i * 7 % 50;
    bool ok = device_weights_open(d, h->set, &weights, &h->e) && graph_plan(g, d, &h->e) &&
              graph_allocate(g, &h->e);
    if (h->start) pthread_barrier_wait(h->start);
    ok = ok && graph_bind(g, &weights, 1, &h->e);
    ok = ok && graph_write(g, ids, tokens, &h->e) && graph_run(g, &h->e) &&
         graph_read(g, y, h->out, &h->e);
    if (h->start) pthread_barrier_wait(h->start); /* nobody closes what another has just found */
    graph_close(&g);
    device_weights_close(&weights);
    return ok;
}

static void *work(void *argument)
{
    host *h = argument;
    device *d = NULL;
    graph *g = NULL;
    h->ok = device_open_beside(&d, h->first, h->threads, &h->e) &&
            graph_open(&g, d->compute, &h->e) && compute(h, d, g);
    device_close(&d);
    return NULL;
}

static weight_set set_of(dtype type)
{
    graph *g = NULL;
    tensor *ids;
    error e = {0};
    if (!graph_open(&g, DTYPE_F32, &e)) fail_msg("%s", e.text);
    network(g, &ids, 1);
    weight_set set = weights_for(g, type, 4);
    for (size_t i = 0; i < set.count; i++) set.item[i].name = must(strdup(set.item[i].name));
    graph_close(&g);
    return set;
}

static void set_close(weight_set *set)
{
    for (size_t i = 0; i < set->count; i++) free((void *)(uintptr_t)set->item[i].name);
    weight_set_close(set);
}

static void race(dtype precision, dtype type)
{
    static host alone[2], hosts[HOSTS];
    error e = {0};
    device *first;
    weight_set set = set_of(type);
    pthread_barrier_t start;
    device_options o = {.threads = 2, .precision = precision};
    if (!device_open(&first, test_device(), &o, &e)) fail_msg("%s", e.text);
    for (int k = 0; k < 2; k++) {
        alone[k] = (host){.first = first, .set = &set, .batch = 1 + k, .threads = 1};
        work(&alone[k]);
        if (!alone[k].ok) fail_msg("%s", alone[k].e.text);
    }
    pthread_barrier_init(&start, NULL, HOSTS);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t thread[HOSTS];
        for (int i = 0; i < HOSTS; i++) {
            hosts[i] = (host){.first = first,
                              .set = &set,
                              .start = &start,
                              .batch = 1 + i % 2,
                              .threads = 1 + i % 2};
            assert_int_equal(pthread_create(&thread[i], NULL, work, &hosts[i]), 0);
        }
        for (int i = 0; i < HOSTS; i++) pthread_join(thread[i], NULL);
        for (int i = 0; i < HOSTS; i++) {
            if (!hosts[i].ok) fail_msg("%s", hosts[i].e.text);
            assert_memory_equal(hosts[i].out, alone[i % 2].out,
                                (size_t)(1 + i % 2) * NUMBERS * sizeof(float));
        }
    }
    pthread_barrier_destroy(&start);
    set_close(&set);
    device_close(&first);
}

static void test_float32(void **state)
{
    (void)state;
    race(DTYPE_F32, DTYPE_F16);
}
static void test_bfloat16(void **state)
{
    (void)state;
    race(DTYPE_BF16, DTYPE_F32);
}

/* Opened again, also on a device beside, it is the same copy; binding twice copies nothing more. */
static void test_shared(void **state)
{
    (void)state;
    error e = {0};
    device *first, *other = NULL;
    device_weights *a, *b = NULL;
    weight_set set = set_of(DTYPE_F16), second = set_of(DTYPE_F16);
    assert_true(device_open(&first, test_device(), &(device_options){.threads = 1}, &e) &&
                device_open_beside(&other, first, 2, &e));
    assert_string_equal(strrchr(other->name, ','), ", 2 threads");
    assert_true(device_weights_open(first, &set, &a, &e) &&
                device_weights_open(other, &set, &b, &e));
    assert_ptr_equal(a, b);
    device_weights_close(&b);
    assert_true(device_weights_open(other, &second, &b, &e));
    assert_ptr_not_equal(a, b);
    device_weights_close(&b);
    size_t bytes = 0;
    for (int k = 0; k < 2; k++) {
        graph *g;
        tensor *ids;
        assert_true(graph_open(&g, DTYPE_F32, &e));
        network(g, &ids, 1 + k);
        assert_true(graph_plan(g, k ? other : first, &e) && graph_bind(g, &a, 1, &e));
        if (k) assert_int_equal(device_weights_bytes(a), bytes);
        bytes = device_weights_bytes(a);
        assert_true(bytes > 0);
        graph_close(&g);
    }
    device_weights_close(&a);
    device_close(&other);
    device_close(&first);
    set_close(&set);
    set_close(&second);
}

static void test_stop(void **state)
{
    (void)state;
    error e = {0};
    atomic_bool stop = false;
    device *d;
    graph *g = NULL;
    tensor *ids;
    int32_t tokens[SIDE * SIDE] = {0};
    weight_set set = set_of(DTYPE_F32);
    assert_true(device_open(&d, test_device(), &(device_options){.threads = 1}, &e) &&
                graph_open(&g, DTYPE_F32, &e));
    d->stop = &stop;
    network(g, &ids, 1);
    device_weights *copy = copy_of(d, &set);
    assert_true(graph_plan(g, d, &e) && graph_allocate(g, &e) && graph_bind(g, &copy, 1, &e));
    assert_true(graph_write(g, ids, tokens, NULL));
    assert_true(graph_run(g, &e));
    stop = true;
    assert_false(graph_run(g, &e));
    assert_int_equal(e.code, ERROR_CANCELLED);
    assert_string_equal(e.text, "cancelled");
    stop = false;
    assert_true(graph_run(g, &e));
    graph_close(&g);
    device_weights_close(&copy);
    device_close(&d);
    set_close(&set);
}

static void test_names(void **state)
{
    (void)state;
    error e = {0};
    device *d;
    assert_false(device_open(&d, "abacus:0", &(device_options){.threads = 1}, &e));
    assert_int_equal(e.code, ERROR_USAGE);
    assert_non_null(strstr(e.text, "device abacus:0 is unknown: there is auto, cpu, cuda"));
    assert_null(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float32), cmocka_unit_test(test_bfloat16),
        cmocka_unit_test(test_shared),  cmocka_unit_test(test_stop),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
