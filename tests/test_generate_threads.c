/* SPDX-License-Identifier: Apache-2.0
 *
 * The same picture, byte for byte, on one, two and three threads; and from two host threads that
 * each have a device of their own, beside one another's, and one model, at the same time. */
#include <pthread.h>

#include "generate/generate.h"
#include "foreign.h"
#include "support.h"

enum { STEPS = 2 };

typedef struct job {
    const model *model;
    device *first; /* NULL: the job's own device is the first of its kind */
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
    generate_options o = {.prompt = "a photo of a dog",
                          .seed = 3,
                          .guidance = 7.5f,
                          .sampler = {.kind = SAMPLER_DDPM, .steps = STEPS}};
    j->ok = (j->first ? device_open_beside(&d, j->first, j->threads, &j->e)
                      : device_open(&d, test_device(), &(device_options){.threads = j->threads},
                                    &j->e)) &&
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
    device *first;
    error e = {0};
    model *m = pocket();
    if (!device_open(&first, test_device(), &(device_options){.threads = 1}, &e))
        fail_msg("%s", e.text);
    job jobs[2] = {{.model = m, .threads = 1, .first = first},
                   {.model = m, .threads = 2, .first = first}};
    job alone = {.model = m, .threads = 2};
    pthread_t host[2];
    make(&alone);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&host[i], NULL, make, &jobs[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(host[i], NULL);
    for (int i = 0; i < 2; i++) {
        expect_same(&alone, &jobs[i]);
        generate_result_free(&jobs[i].result);
    }
    generate_result_free(&alone.result);
    device_close(&first);
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
