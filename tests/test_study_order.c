/* SPDX-License-Identifier: Apache-2.0
 *
 * The measure on the real pocket model: pictures of the example subject, each unknown to the rest,
 * then other dogs, then other things, in that order; none of them has trained anything.
 * docs/MEASURES.md has the whole evidence. */
#include "support.h"

#include "study/measure/judge.h"
#include "study/measure/score.h"

enum { PHOTOS = 5, DOGS = 6, THINGS = 4, STEPS = 10 };

static lk_context *context;
static lk_session *session;
static lk_model *pocket;
static lk_features *eye;

static int open_all(void **state)
{
    lk_error why = {0};
    lk_model_options o;
    lk_features_options look = judge_options(2);
    (void)state;
    lk_model_defaults(&o);
    o.path = SOURCE_DIR "/models/pocket";
    if (!lk_context_open(&context, NULL, &why) || !lk_session_open(&session, context, NULL, &why) ||
        !lk_model_open(&pocket, context, &o, &why) ||
        !lk_features_open(&eye, session, pocket, &look, &why))
        fail_msg("%s", why.text);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    lk_features_close(&eye);
    lk_model_close(&pocket);
    lk_session_close(&session);
    lk_context_close(&context);
    return 0;
}

static void see(lk_image **picture, view *out)
{
    error e = {0};
    if (!judge_look(eye, *picture, "a picture", out, &e)) fail_msg("%s", e.text);
    lk_image_close(picture);
}

static void see_photos(view *out)
{
    lk_error why = {0};
    lk_photos *photos = NULL;
    lk_photos_options o;
    lk_photos_defaults(&o);
    o.resolution = 128;
    if (!lk_photos_open(&photos, SOURCE_DIR "/examples/subject", &o, &why))
        fail_msg("%s", why.text);
    assert_int_equal(lk_photos_count(photos), PHOTOS);
    for (int i = 0; i < PHOTOS; i++) {
        lk_image *picture = NULL;
        if (!lk_photos_image(&picture, photos, (size_t)i, &why)) fail_msg("%s", why.text);
        see(&picture, &out[i]);
    }
    lk_photos_close(&photos);
}

static void see_made(const char *prompt, int n, view *out)
{
    lk_error why = {0};
    for (int i = 0; i < n; i++) {
        lk_image *made = NULL;
        lk_generate_options o;
        lk_generate_defaults(&o);
        o.prompt = prompt;
        o.seed = 42 + (uint64_t)i;
        o.guidance = 5;
        o.steps = STEPS;
        if (!lk_generate(&made, session, pocket, &o, &why)) fail_msg("%s", why.text);
        see(&made, &out[i]);
    }
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
    subject_scale s = {.own = match,
                       .of_class = match + PHOTOS,
                       .photos = PHOTOS,
                       .classes = DOGS,
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
