/* SPDX-License-Identifier: Apache-2.0
 *
 * The same picture, byte for byte, on one, two and three threads; and from two host threads that
 * each have a device of their own, at the same time. */
#include <pthread.h>

#include "generate/generate.h"
#include "support.h"

enum { STEPS = 2 };

typedef struct job {
    model *model;
    int threads;
    generate_result result;
    error e;
    bool ok;
} job;

static void *make(void *argument)
{
    job *j = argument;
    device *d = NULL;
    generator *g = NULL;
    generate_options o = {.prompt = "a photo of a dog", .seed = 3, .guidance = 7.5f,
                          .sampler = {.kind = SAMPLER_DDPM, .steps = STEPS}};
    j->ok = device_open_cpu(&d, j->threads, DTYPE_F32, &j->e) &&
            generator_open(&g, d, j->model, &j->e) && generator_run(g, &o, &j->result, &j->e);
    generator_close(&g);
    device_close(&d);
    return NULL;
}

static model *pocket(void)
{
    model *m;
    error e = {0};
    if (!model_open(&m, SOURCE_DIR "/models/pocket", NULL, NULL, &e)) fail_msg("%s", e.text);
    return m;
}

static void expect_same(const job *a, const job *b)
{
    if (!a->ok || !b->ok) fail_msg("%s%s", a->e.text, b->e.text);
    const generate_result *p = &a->result, *q = &b->result;
    assert_memory_equal(p->final, q->final,
                        (size_t)(p->channels * p->height * p->width) * sizeof(float));
    assert_memory_equal(p->picture.pixels, q->picture.pixels,
                        (size_t)(p->picture.width * p->picture.height) * 3);
}

static void test_bytes(void **state)
{
    (void)state;
    model *m = pocket();
    job one = {.model = m, .threads = 1};
    make(&one);
    for (int threads = 2; threads <= 3; threads++) {
        job other = {.model = m, .threads = threads};
        make(&other);
        expect_same(&one, &other);
        generate_result_free(&other.result);
    }
    generate_result_free(&one.result);
    model_close(&m);
}

static void test_at_the_same_time(void **state)
{
    (void)state;
    job jobs[2] = {{.model = pocket(), .threads = 2}, {.model = pocket(), .threads = 2}};
    pthread_t host[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&host[i], NULL, make, &jobs[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(host[i], NULL);
    expect_same(&jobs[0], &jobs[1]);
    for (int i = 0; i < 2; i++) {
        generate_result_free(&jobs[i].result);
        model_close(&jobs[i].model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
