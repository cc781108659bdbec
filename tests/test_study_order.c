/* SPDX-License-Identifier: Apache-2.0
 *
 * The measure on the real pocket model: pictures of the example subject, each unknown to the rest, then other
 * dogs, then other things, in that order; none of them has taught anything. docs/MEASURES.md has the
 * whole evidence. */
#include "support.h"

#include "generate/generate.h"
#include "study/judge.h"
#include "study/score.h"
#include "train/photos.h"

enum { PHOTOS = 5, DOGS = 6, THINGS = 4, STEPS = 10 };

static device *cpu;
static model *pocket;
static judge *eye;

static int open_all(void **state)
{
    error e = {0};
    (void)state;
    if (!device_open(&cpu, "cpu", &(device_options){.threads = 2}, &e) ||
        !model_open(&pocket, SOURCE_DIR "/models/pocket", NULL, NULL, &e) ||
        !judge_open(&eye, cpu, pocket, 2, &e))
        fail_msg("%s", e.text);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    judge_close(&eye);
    model_close(&pocket);
    device_close(&cpu);
    return 0;
}

static void see(const image *picture, view *out)
{
    error e = {0};
    if (!judge_look(eye, picture, "a picture", out, &e)) fail_msg("%s", e.text);
}

static void see_photos(view *out)
{
    error e = {0};
    photo_set set;
    if (!photo_set_open(&set, SOURCE_DIR "/examples/subject", 128, 0, "instance", &e)) fail_msg("%s", e.text);
    assert_int_equal(set.count, PHOTOS);
    for (int i = 0; i < PHOTOS; i++) {
        assert_true(set.item[i].picture.width == 128 && set.item[i].picture.height == 128);
        see(&set.item[i].picture, &out[i]);
    }
    photo_set_close(&set);
}

static void see_made(const char *prompt, int n, view *out)
{
    error e = {0};
    generator *g;
    assert_true(generator_open(&g, cpu, pocket, &e));
    for (int i = 0; i < n; i++) {
        generate_result made;
        generate_options o = {.prompt = prompt, .seed = 42 + (uint64_t)i, .guidance = 5,
                              .sampler = {.kind = SAMPLER_DDIM, .steps = STEPS}};
        if (!generator_run(g, &o, &made, &e)) fail_msg("%s", e.text);
        see(&made.picture, &out[i]);
        generate_result_free(&made);
    }
    generator_close(&g);
}

static void test_order(void **state)
{
    static view seen[PHOTOS + DOGS + 2 * THINGS];
    const float *match[PHOTOS + DOGS + 2 * THINGS];
    double score[PHOTOS + DOGS + 2 * THINGS], zero = 0, whole = 0;
    error e = {0};
    int all = PHOTOS + DOGS + 2 * THINGS;
    (void)state;
    see_photos(seen);
    see_made("a photo of dog", DOGS, seen + PHOTOS);
    see_made("a sailboat at sea", THINGS, seen + PHOTOS + DOGS);
    see_made("a photo of a cat", THINGS, seen + PHOTOS + DOGS + THINGS);
    for (int i = 0; i < all; i++) {
        float *to = malloc(PHOTOS * (size_t)seen[0].places * sizeof *to);
        for (int k = 0; k < PHOTOS; k++) view_match(&seen[k], &seen[i], to + k * seen[0].places);
        match[i] = to;
    }
    subject_scale s = {.own = match, .of_class = match + PHOTOS, .photos = PHOTOS, .classes = DOGS,
                       .places = seen[0].places};
    assert_true(scale_open(&s, &e));
    for (int i = 0; i < all; i++) score[i] = scale_score(&s, match[i]);
    for (int i = 0; i < PHOTOS; i++) whole += score[i] / PHOTOS;
    for (int i = PHOTOS; i < PHOTOS + DOGS; i++) zero += score[i] / DOGS;
    for (int i = 0; i < all; i++) {
        double share = 100 * (score[i] - zero) / (whole - zero);
        assert_true(i < PHOTOS ? share > 60 : share < 40);
    }
    scale_close(&s);
    for (int i = 0; i < all; i++) free((float *)(uintptr_t)match[i]), view_close(&seen[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
