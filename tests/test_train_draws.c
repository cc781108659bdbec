/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of what a run draws: pictures, crops and what the steps take in between, against torch's
 * DataLoader, accelerate and torchvision (fixtures/train/draws.json, made by
 * tools/fixtures/train_draws.py); continuing from saved bytes; bytes that are wrong. */
#include "support.h"

#include <jansson.h>

#include "train/draws.h"

enum { MOST_EXAMPLES = 16, MOST_VALUES = 16 * 2 * 4 * 16 };

/* ---- pictures that are only sizes ---- */

typedef struct sizes {
    photo item[MOST_EXAMPLES];
    photo_set set;
} sizes;

static void sizes_add(sizes *s, int width, int height)
{
    assert_true(s->set.count < MOST_EXAMPLES);
    s->item[s->set.count++].picture = (image){.width = width, .height = height};
    s->set.item = s->item;
}

static void sizes_read(sizes *s, const json_t *list, int resolution)
{
    *s = (sizes){.set.resolution = resolution};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        sizes_add(s, (int)json_integer_value(json_array_get(pair, 0)),
                  (int)json_integer_value(json_array_get(pair, 1)));
    }
}

/* ---- torch's runs ---- */

static int integer(const json_t *run, const char *key)
{
    const json_t *value = json_object_get(run, key);
    assert_true(json_is_integer(value));
    return (int)json_integer_value(value);
}

static void check_example(const char *name, size_t step, const json_t *want, const example *got,
                          bool classes)
{
    const int values[] = {(int)got->instance,    got->instance_crop.top, got->instance_crop.left,
                          (int)got->class_image, got->class_crop.top,    got->class_crop.left};
    assert_int_equal(json_array_size(want), classes ? 6 : 3);
    for (size_t i = 0; i < json_array_size(want); i++) {
        int wanted = (int)json_integer_value(json_array_get(want, i));
        if (values[i] != wanted)
            fail_msg("%s, step %zu: value %zu is %d, wanted %d", name, step, i, values[i], wanted);
    }
}

/* What a step takes from the generator: two latents and the time steps. */
static void check_step_draws(const char *name, size_t step, const json_t *want, rng *r, size_t n,
                             size_t latent)
{
    static float x[MOST_VALUES];
    assert_true(n * latent <= MOST_VALUES);
    for (size_t i = 0; i < 2; i++) {
        rng_randn(r, x, n * latent);
        float wanted = (float)json_number_value(json_array_get(json_object_get(want, "ends"), i));
        float off = x[n * latent - 1] - wanted;
        if (!(off < 1e-6f && off > -1e-6f)) fail_msg("%s, step %zu: noise differs", name, step);
    }
    const json_t *times = json_object_get(want, "times");
    assert_int_equal(json_array_size(times), n);
    for (size_t i = 0; i < n; i++)
        if (rng_below(r, 1000) != json_integer_value(json_array_get(times, i)))
            fail_msg("%s, step %zu: time step %zu differs", name, step, i);
}

static void repeat_run(const json_t *run)
{
    const char *name = json_string_value(json_object_get(run, "name"));
    const json_t *steps = json_object_get(run, "steps");
    sizes instances, classes;
    sizes_read(&instances, json_object_get(run, "instances"), integer(run, "size"));
    sizes_read(&classes, json_object_get(run, "classes"), integer(run, "size"));
    bool prior = classes.set.count > 0;
    size_t latent = 4 * (size_t)integer(run, "side") * (size_t)integer(run, "side");
    draws d;
    error e = {0};
    uint32_t seed = (uint32_t)integer(run, "seed"), batch = (uint32_t)integer(run, "batch");
    assert_true(
        draws_open(&d, seed, &instances.set, prior ? &classes.set : NULL, false, batch, &e));
    int epochs = 0;
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i), *want = json_object_get(step, "examples");
        example out[MOST_EXAMPLES];
        uint32_t count;
        bool last;
        draws_next(&d, out, &count, &last);
        assert_int_equal(d.epoch, epochs);
        if (count != json_array_size(want)) fail_msg("%s, step %zu: a batch of %u", name, i, count);
        for (size_t k = 0; k < count; k++)
            check_example(name, i, json_array_get(want, k), &out[k], prior);
        check_step_draws(name, i, step, &d.random, count * (prior ? 2 : 1), latent);
        assert_int_equal(last, json_is_true(json_object_get(step, "last")));
        epochs += last;
    }
    assert_int_equal(epochs, 3);
    draws_close(&d);
}

static void test_torch(void **state)
{
    (void)state;
    json_error_t why;
    json_t *runs = json_load_file(fixture_path("train/draws.json"), 0, &why);
    if (!runs) fail_msg("%s", why.text);
    assert_int_equal(json_array_size(runs), 11);
    for (size_t i = 0; i < json_array_size(runs); i++) repeat_run(json_array_get(runs, i));
    json_decref(runs);
}

/* ---- a run of our own ---- */

enum { RESOLUTION = 8 };

static void make_images(sizes *instances, sizes *classes)
{
    *instances = *classes = (sizes){.set.resolution = RESOLUTION};
    for (int i = 0; i < 5; i++) sizes_add(instances, RESOLUTION + 3 * i, RESOLUTION);
    for (int i = 0; i < 7; i++) sizes_add(classes, RESOLUTION, RESOLUTION + i % 3);
}

/* One step as a trainer does it; what it saw is hashed into *seen. */
static void step(draws *d, uint64_t *seen)
{
    example out[MOST_EXAMPLES];
    uint32_t count;
    bool last;
    float noise[7];
    draws_next(d, out, &count, &last);
    rng_randn(&d->random, noise, 7); /* odd and small: a spare value is kept */
    uint32_t words[] = {count, last, rng_below(&d->random, 1000), (uint32_t)d->epoch, d->given};
    const struct {
        const void *data;
        size_t size;
    } parts[] = {{out, count * sizeof *out}, {noise, sizeof noise}, {words, sizeof words}};
    for (int i = 0; i < 3; i++)
        for (size_t k = 0; k < parts[i].size; k++)
            *seen = (*seen ^ ((const uint8_t *)parts[i].data)[k]) * 0x100000001b3u;
}

static void test_center_crop(void **state)
{
    (void)state;
    sizes instances, classes;
    make_images(&instances, &classes);
    draws centred, bare;
    error e = {0};
    example out[2];
    uint32_t count;
    bool last;
    assert_true(draws_open(&centred, 9, &instances.set, &classes.set, true, 2, &e));
    draws_next(&centred, out, &count, &last);
    for (int i = 0; i < 2; i++) {
        crop a = photo_center(&instances.item[out[i].instance], RESOLUTION);
        crop b = photo_center(&classes.item[out[i].class_image], RESOLUTION);
        assert_memory_equal(&out[i].instance_crop, &a, sizeof a);
        assert_memory_equal(&out[i].class_crop, &b, sizeof b);
    }
    rng r; /* nothing but the two seeds was drawn */
    rng_seed(&r, 9);
    rng_random64(&r);
    rng_random64(&r);
    assert_int_equal(rng_u32(&r), rng_u32(&centred.random));
    draws_close(&centred);

    for (size_t i = 0; i < instances.set.count; i++)
        instances.item[i].picture.width = instances.item[i].picture.height = RESOLUTION;
    assert_true(draws_open(&bare, 9, &instances.set, NULL, false, 2, &e));
    draws_next(&bare, out, &count, &last);
    rng_seed(&r, 9);
    rng_random64(&r);
    rng_random64(&r);
    assert_int_equal(rng_u32(&r), rng_u32(&bare.random));
    draws_close(&bare);
}

/* From every position of two epochs and more, a fresh run that loads the saved bytes goes on as the
 * saved run did. */
static void check_continue(uint32_t batch, bool prior)
{
    enum { STEPS = 24, BEYOND = 9 };
    sizes instances, classes;
    make_images(&instances, &classes);
    const photo_set *class_set = prior ? &classes.set : NULL;
    draws d;
    error e = {0};
    void *saved[STEPS];
    size_t size[STEPS];
    uint64_t seen[STEPS + BEYOND];
    assert_true(draws_open(&d, 11, &instances.set, class_set, false, batch, &e));
    for (int i = 0; i < STEPS + BEYOND; i++) {
        if (i < STEPS) assert_true(draws_save(&d, &saved[i], &size[i], &e));
        seen[i] = 1;
        step(&d, &seen[i]);
    }
    draws_close(&d);
    for (int i = 0; i < STEPS; i++) {
        assert_true(draws_open(&d, 99, &instances.set, class_set, false, batch, &e));
        if (!draws_load(&d, saved[i], size[i], &e)) fail_msg("%s", e.text);
        for (int k = i; k < i + BEYOND; k++) {
            uint64_t again = 1;
            step(&d, &again);
            if (again != seen[k]) fail_msg("saved at %d, step %d: differs", i, k);
        }
        draws_close(&d);
        free(saved[i]);
    }
}

static void test_continue(void **state)
{
    (void)state;
    for (uint32_t batch = 1; batch <= 8; batch++) {
        check_continue(batch, false);
        check_continue(batch, true);
    }
}

/* ---- bytes that are wrong ---- */

static void expect_refused(draws *d, const void *data, size_t size, const char *part)
{
    error e = {0};
    draws before = *d;
    assert_false(draws_load(d, data, size, &e));
    assert_memory_equal(d, &before, sizeof before);
    if (!strstr(e.text, part)) fail_msg("\"%s\" is not in: %s", part, e.text);
}

static void test_refused(void **state)
{
    (void)state;
    sizes instances, classes;
    make_images(&instances, &classes);
    draws d;
    error e = {0};
    uint8_t *data;
    size_t size;
    uint64_t seen = 1;
    assert_true(draws_open(&d, 4, &instances.set, &classes.set, false, 2, &e));
    step(&d, &seen);
    assert_true(draws_save(&d, (void **)&data, &size, &e));

    uint8_t *longer = calloc(1, size + 1); /* of exactly that many bytes, for the sanitizer */
    memcpy(longer, data, size);
    expect_refused(&d, longer, size + 1, "damaged");
    free(longer);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, data, n);
        expect_refused(&d, cut, n, "damaged");
        free(cut);
    }
    data[0] ^= 1;
    expect_refused(&d, data, size, "damaged");
    data[0] ^= 1;
    /* Whatever else is changed is refused, or gives a state that can be gone on from. */
    for (size_t at = 8; at < size; at++)
        for (int bit = 0; bit < 8; bit += 7) {
            error ignored = {0};
            draws other;
            assert_true(draws_open(&other, 4, &instances.set, &classes.set, false, 2, &e));
            data[at] ^= (uint8_t)(1 << bit);
            if (draws_load(&other, data, size, &ignored))
                for (int i = 0; i < 5; i++) step(&other, &seen);
            else
                assert_true(*ignored.text);
            data[at] ^= (uint8_t)(1 << bit);
            draws_close(&other);
        }
    assert_true(draws_load(&d, data, size, &e));
    draws_close(&d);

    const struct {
        uint32_t batch;
        bool center, prior, one_less;
        const char *part;
    } runs[] = {
        {3, false, true, false, "--train_batch_size 2, this one has 3"},
        {2, true, true, false, "--center_crop"},
        {2, false, false, false, "class pictures of 7, this one has 0"},
        {2, false, true, true, "instance pictures of 5, this one has 4"},
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        instances.set.count = runs[i].one_less ? 4 : 5;
        assert_true(draws_open(&d, 4, &instances.set, runs[i].prior ? &classes.set : NULL,
                               runs[i].center, runs[i].batch, &e));
        expect_refused(&d, data, size, runs[i].part);
        draws_close(&d);
    }
    instances.set.count = 5;
    instances.set.resolution = classes.set.resolution = 4;
    assert_true(draws_open(&d, 4, &instances.set, &classes.set, false, 2, &e));
    expect_refused(&d, data, size, "--resolution 8");
    draws_close(&d);
    free(data);
}

static void test_allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) return;
    sizes instances, classes;
    make_images(&instances, &classes);
    for (long n = 0;; n++) {
        error e = {0};
        draws d, other = {0};
        void *data = NULL;
        size_t size;
        allocation_fail_at(n);
        bool open = draws_open(&d, 4, &instances.set, &classes.set, false, 2, &e);
        bool second = open && draws_open(&other, 5, &instances.set, &classes.set, false, 2, &e);
        bool ok = second && draws_save(&d, &data, &size, &e) && draws_load(&other, data, size, &e);
        bool struck = allocation_fail_end();
        if (open) draws_close(&d);
        if (second) draws_close(&other);
        free(data);
        assert_int_equal(ok, !struck);
        if (!struck) {
            assert_int_equal(n, 7);
            return;
        }
        assert_int_equal(e.code, ERROR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch),       cmocka_unit_test(test_center_crop),
        cmocka_unit_test(test_continue),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
