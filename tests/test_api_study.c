/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_study: what a study needs of the library, by include/likeness.h alone: schedules step by
 * step, photos as a training reads them, features, vision networks, and what names a training. */
#include "layout.h"

#include <sys/stat.h>

#include "base/platform.h"
#include "file/image.h"
#include "likeness.h"
#include "likeness_study.h"
#include "toy.h"

static char folder[256];
static lk_context *context;
static lk_session *session;
static lk_model *toy, *plain; /* plain: unconditional */

static void open_model(lk_model **out, const char *path)
{
    lk_error why = {0};
    lk_model_options o;
    lk_model_defaults(&o);
    o.path = path;
    if (!lk_model_open(out, context, &o, &why)) fail_msg("%s", why.text);
}

static char *at(const char *name)
{
    char *path = path_join(folder, name);
    assert_non_null(path);
    return path;
}

static void paint(const char *path, int width, int height, int seed)
{
    image m;
    error e = {0};
    assert_true(image_new(&m, width, height, &e));
    for (int i = 0; i < 3 * width * height; i++) m.pixels[i] = (uint8_t)(i * (seed + 3) % 251);
    check(image_write(&m, path, NULL, 100, &e), &e);
    image_free(&m);
}

static int open_all(void **state)
{
    error e = {0};
    lk_error why = {0};
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    char *sd = at("sd"), *ddpm = at("ddpm");
    check(toy_stable_diffusion(sd, &e) && toy_unconditional(ddpm, &e), &e);
    if (!lk_context_open(&context, NULL, &why) || !lk_session_open(&session, context, NULL, &why))
        fail_msg("%s", why.text);
    open_model(&toy, sd);
    open_model(&plain, ddpm);
    free(sd), free(ddpm);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    lk_model_close(&toy);
    lk_model_close(&plain);
    lk_session_close(&session);
    lk_context_close(&context);
    return 0;
}

static void fails(bool ok, lk_error *why, lk_code code, const char *part)
{
    assert_false(ok);
    assert_int_equal(why->code, code);
    if (!strstr(why->text, part)) fail_msg("\"%s\" is not in: %s", part, why->text);
    *why = (lk_error){0};
}

/* ---- schedules ------------------------------------------------------------------------------- */

static void test_schedules(void **state)
{
    static const char *const names[] = {"base", "tuned"};
    lk_error why = {0};
    lk_schedule *a, *b, *sum;
    char *text;
    int first, second, when;
    (void)state;
    assert_true(lk_schedule_open(&a, " base x3,tuned rest", names, 2, 10, &why));
    assert_true(lk_schedule_open(&b, "base x5, tuned x5", names, 2, 10, &why));
    assert_true(
        lk_schedule_open(&sum, "0.25*base+0.75*tuned x4, base|tuned rest", names, 2, 6, &why));
    assert_true(lk_schedule_steps(a) == 10 && lk_schedule_common(a, b) == 3 &&
                lk_schedule_common(b, b) == 10);
    assert_int_equal(lk_schedule_alone(a), -1);
    assert_true(lk_schedule_switch(a, &first, &second, &when) && first == 0 && second == 1 &&
                when == 3);
    assert_false(lk_schedule_switch(sum, &first, &second, &when));
    const lk_schedule_step *s = lk_schedule_at(sum, 0), *split = lk_schedule_at(sum, 5);
    assert_true(s->parts == 2 && !s->split && s->model[1] == 1 && s->share[0] == 0.25f &&
                s->share[1] == 0.75f);
    assert_true(split->parts == 2 && split->split);
    assert_true(lk_schedule_step_same(s, lk_schedule_at(sum, 3)) &&
                !lk_schedule_step_same(s, split));
    assert_true(lk_schedule_text(&text, a, names, &why));
    assert_string_equal(text, "base x3, tuned x7");
    lk_free(text);
    lk_schedule_close(&a);
    assert_true(lk_schedule_open(&a, "tuned", names, 2, 4, &why) && lk_schedule_alone(a) == 1);
    lk_schedule_close(&a);
    assert_null(a);
    fails(lk_schedule_open(&a, "other", names, 2, 4, &why), &why, LK_USAGE, "other");
    assert_null(a);
    lk_schedule_close(&b);
    lk_schedule_close(&sum);
}

/* ---- side by side ---------------------------------------------------------------------------- */

static void test_sessions(void **state)
{
    lk_generate_options o;
    lk_session_options one;
    lk_session *alone;
    (void)state;
    lk_generate_defaults(&o);
    int many = lk_generate_sessions(session, toy, &o);
    assert_true(many >= 1 && many <= lk_session_threads(session));
    o.width = o.height = 1024; /* keeps all threads busy */
    assert_int_equal(lk_generate_sessions(session, toy, &o), 1);
    lk_session_defaults(&one);
    one.threads = 1;
    assert_true(lk_session_open(&alone, context, &one, NULL));
    assert_int_equal(lk_generate_sessions(alone, toy, NULL), 1);
    lk_session_close(&alone);
}

/* ---- photos ---------------------------------------------------------------------------------- */

static void test_photos(void **state)
{
    lk_error why = {0};
    lk_photos *listed, *read;
    lk_photos_options o;
    lk_image *p;
    char *photos = at("photos"), *first = at("photos/a.png"), *second = at("photos/b.png"),
         *text = at("photos/c.txt");
    (void)state;
    assert_int_equal(mkdir(photos, 0777), 0);
    assert_true(lk_photos_open(&listed, photos, NULL, &why)); /* none are none */
    assert_int_equal(lk_photos_count(listed), 0);
    lk_photos_close(&listed);
    paint(second, 60, 30, 1);
    paint(first, 20, 20, 2);
    FILE *f = fopen(text, "w");
    fputs("no picture", f);
    fclose(f);
    assert_true(lk_photos_open(&listed, photos, NULL, &why));
    lk_photos_defaults(&o);
    o.resolution = 15;
    assert_true(lk_photos_open(&read, photos, &o, &why));
    assert_true(lk_photos_count(listed) == 2 && lk_photos_count(read) == 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(lk_photos_path(read, i), i ? second : first);
        assert_string_equal(lk_photos_path(listed, i), lk_photos_path(read, i));
        assert_string_equal(lk_photos_hash(listed, i), lk_photos_hash(read, i));
        assert_int_equal(strlen(lk_photos_hash(read, i)), 64);
        assert_true(lk_photos_image(&p, read, i, &why));
        assert_true(lk_image_width(p) == 15 && lk_image_height(p) == 15);
        lk_image_close(&p);
    }
    fails(lk_photos_image(&p, listed, 0, &why), &why, LK_USAGE, "listed only");
    assert_null(p);
    lk_photos_close(&listed);
    lk_photos_close(&read);
    o.limit = 1;
    assert_true(lk_photos_open(&read, photos, &o, &why) && lk_photos_count(read) == 1);
    lk_photos_close(&read);
    fails(lk_photos_open(&read, "/no/such/folder", &o, &why), &why, LK_FILE, "/no/such/folder");
    o.resolution = -1;
    fails(lk_photos_open(&read, photos, &o, &why), &why, LK_USAGE, "-1");
    free(photos), free(first), free(second), free(text);
}

/* ---- features -------------------------------------------------------------------------------- */

static lk_image *grey(int side, int value)
{
    lk_image *p;
    uint8_t *pixels = malloc(3 * (size_t)side * (size_t)side);
    memset(pixels, value, 3 * (size_t)side * (size_t)side);
    assert_true(lk_image_from_pixels(&p, pixels, side, side, 0, NULL));
    free(pixels);
    return p;
}

static void test_features(void **state)
{
    lk_error why = {0};
    lk_features_options o, other;
    lk_features *eye, *alone;
    lk_session *second;
    lk_session_options one;
    lk_image *p = grey(32, 90), *odd = grey(31, 90);
    char key[65], same[65], different[65];
    float *a, *b;
    int shape[3];
    (void)state;
    lk_features_defaults(&o);
    assert_true(lk_features_key(key, toy, NULL, &why) && lk_features_key(same, toy, &o, &why));
    assert_string_equal(key, same);
    for (int i = 0; i < 5; i++) { /* each of them is seen otherwise */
        lk_features_defaults(&other);
        if (i == 0) other.draws = 3;
        if (i == 1) other.seed = 1;
        if (i == 2) other.timestep = 0.2;
        if (i == 3) other.block = 0;
        if (i == 4) other.prompt = "a dog";
        assert_true(lk_features_key(different, toy, &other, &why));
        assert_string_not_equal(key, different);
    }
    lk_session_defaults(&one);
    one.threads = 1;
    assert_true(lk_session_open(&second, context, &one, &why));
    assert_true(lk_features_open(&eye, session, toy, NULL, &why) &&
                lk_features_open(&alone, second, toy, &o, &why));
    assert_true(lk_features_look(&a, shape, eye, p, &why));
    size_t n = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    assert_true(shape[0] > 0 && shape[0] == shape[1] && shape[2] > 0);
    assert_true(lk_features_look(&b, shape, alone, p, &why)); /* with any number of threads */
    assert_memory_equal(a, b, n * sizeof *a);
    lk_free(a);
    lk_free(b);
    fails(lk_features_look(&a, shape, eye, odd, &why), &why, LK_FORMAT, "31 x 31");
    assert_null(a);
    lk_features_close(&eye);
    fails(lk_features_open(&eye, session, plain, NULL, &why), &why, LK_USAGE, "prompts");
    o.draws = 0;
    fails(lk_features_open(&eye, session, toy, &o, &why), &why, LK_USAGE, "0 draws");
    lk_session_cancel(second);
    fails(lk_features_look(&b, shape, alone, p, &why), &why, LK_CANCELLED, "cancelled");
    lk_features_close(&alone);
    lk_session_close(&second);
    lk_image_close(&p);
    lk_image_close(&odd);
}

/* ---- vision ---------------------------------------------------------------------------------- */

static void test_vision(void **state)
{
    lk_error why = {0};
    lk_vision *clip, *dino;
    lk_image *p = grey(24, 77);
    char *clip_folder = at("clip"), *dino_folder = at("dino");
    (void)state;
    layout_write(clip_folder, "clip", false, NULL);
    layout_write(dino_folder, "dino", false, NULL);
    if (!lk_vision_open(&clip, session, clip_folder, &why) ||
        !lk_vision_open(&dino, session, dino_folder, &why))
        fail_msg("%s", why.text);
    assert_true(lk_vision_kind_of(clip) == LK_VISION_CLIP &&
                lk_vision_kind_of(dino) == LK_VISION_DINO);
    assert_int_equal(strlen(lk_vision_hash(dino)), 64);
    float *of_image = calloc((size_t)lk_vision_width(clip), sizeof *of_image), sum = 0;
    assert_true(lk_vision_embed(of_image, clip, p, &why) &&
                lk_vision_embed_text(of_image, clip, "a dog", &why));
    for (int i = 0; i < lk_vision_width(clip); i++) sum += of_image[i] * of_image[i];
    assert_true(sum > 0);
    fails(lk_vision_embed_text(of_image, dino, "a dog", &why), &why, LK_USAGE, "give a CLIP");
    lk_vision_close(&clip);
    lk_vision_close(&dino);
    fails(lk_vision_open(&clip, session, folder, &why), &why, LK_FILE, "config.json");
    assert_null(clip);
    lk_image_close(&p);
    free(of_image), free(clip_folder), free(dino_folder);
}

/* ---- trainings ------------------------------------------------------------------------------- */

static char *request(const lk_train_options *o, const lk_train_base *base)
{
    char *text = NULL;
    lk_error why = {0};
    if (!lk_train_request(&text, o, base, &why)) fail_msg("%s", why.text);
    return text;
}

static void test_request(void **state)
{
    lk_error why = {0};
    lk_train_options o;
    lk_train_base base;
    char *text = NULL, *photos = at("of it"), *photo = at("of it/a.png");
    (void)state;
    assert_int_equal(mkdir(photos, 0777), 0);
    paint(photo, 20, 20, 5);
    lk_train_defaults(&o);
    lk_train_base_defaults(&base);
    fails(lk_train_check(&o, &why), &why, LK_USAGE, "instance_data_dir");
    fails(lk_train_request(&text, &o, &base, &why), &why, LK_USAGE, "instance_data_dir");
    o.instance_data_dir = photos;
    o.instance_prompt = "a sks dog";
    o.output_dir = "anywhere";
    base.name = base.hash = lk_model_hash(toy);
    base.resolution = 32;
    assert_int_equal(strlen(base.name), 64);
    assert_true(lk_train_check(&o, &why) && lk_train_memory(toy, &o) > 0);
    lk_train_options word = o; /* some rows, in place of all weights */
    word.textual_inversion = true;
    assert_int_equal(lk_train_memory(toy, &word), 0); /* of no word */
    word.placeholder_token = "<new>";
    word.initializer_token = "a";
    assert_true(lk_train_memory(toy, &word) > 0 && lk_train_memory(toy, &word) < 4096);
    char *first = request(&o, &base);
    o.output_dir = "elsewhere"; /* changes no byte of the result */
    o.checkpointing_steps = 7;
    o.class_steps = 9;
    char *second = request(&o, &base);
    assert_string_equal(first, second);
    assert_null(strchr(first, '\n'));
    o.learning_rate = 1e-3;
    char *third = request(&o, &base);
    assert_string_not_equal(first, third);
    base.precision = LK_BF16;
    char *fourth = request(&o, &base);
    assert_string_not_equal(third, fourth);
    base.precision = LK_F16;
    char *half = request(&o, &base);
    assert_non_null(strstr(half, "\"precision\":\"fp16\""));
    lk_free(half);
    base.precision = (lk_precision)3;
    fails(lk_train_request(&text, &o, &base, &why), &why, LK_USAGE, "there is no precision 3");
    base.precision = LK_BF16;
    paint(photo, 20, 20, 6);
    char *fifth = request(&o, &base);
    assert_string_not_equal(fourth, fifth);
    lk_free(first), lk_free(second), lk_free(third), lk_free(fourth), lk_free(fifth);
    free(photos), free(photo);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool try_all(const char *photos, lk_error *why)
{
    static const char *const names[] = {"base", "tuned"};
    lk_schedule *s = NULL;
    lk_photos *read = NULL;
    lk_image *p = NULL;
    lk_features *eye = NULL;
    float *value = NULL;
    char *text = NULL;
    int shape[3];
    lk_photos_options o;
    lk_photos_defaults(&o);
    o.resolution = 16;
    bool ok = lk_schedule_open(&s, "base x1, tuned rest", names, 2, 4, why) &&
              lk_schedule_text(&text, s, names, why) && lk_photos_open(&read, photos, &o, why) &&
              lk_photos_image(&p, read, 0, why) &&
              lk_features_open(&eye, session, toy, NULL, why) &&
              lk_features_look(&value, shape, eye, p, why);
    lk_free(value), lk_free(text);
    lk_features_close(&eye);
    lk_image_close(&p);
    lk_photos_close(&read);
    lk_schedule_close(&s);
    return ok;
}

/* Each allocation that fails ends in its error, with nothing left behind. */
static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    char *photos = at("few"), *photo = at("few/a.png");
    bool struck = true;
    assert_int_equal(mkdir(photos, 0777), 0);
    paint(photo, 20, 20, 5);
    for (long n = 0, step = 1; struck; n += step, step = n / 40 + 1) {
        lk_error why = {0};
        allocation_fail_at(n);
        bool ok = try_all(photos, &why);
        struck = allocation_fail_end();
        if (!ok) assert_true(why.code == LK_MEMORY || why.code == LK_FORMAT || why.code == LK_FILE);
    }
    free(photos), free(photo);
}

/* ---- a study --------------------------------------------------------------------------------- */

static void test_study_options(void **state)
{
    struct {
        lk_study_options known;
        void *added;
    } later;
    lk_study_options o;
    lk_error why = {0};
    (void)state;
    memset(&later, 0xAB, sizeof later);
    lk_study_defaults_sized(&later.known, sizeof later);
    assert_true(later.known.size == sizeof later && !later.added && !later.known.folder);
    later.added = &later;
    fails(lk_study(context, &later.known, &why), &why, LK_USAGE, "does not know");
    memset(&o, 0, sizeof o);
    fails(lk_study(context, &o, &why), &why, LK_USAGE, "defaults function");
    lk_study_defaults(&o);
    fails(lk_study(context, &o, &why), &why, LK_USAGE, "folder");
    o.folder = folder;
    o.photos = folder;
    fails(lk_study(context, &o, &why), &why, LK_USAGE, "name and a class");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules), cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_photos),    cmocka_unit_test(test_features),
        cmocka_unit_test(test_vision),    cmocka_unit_test(test_request),
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_study_options),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
