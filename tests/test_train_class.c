/* SPDX-License-Identifier: Apache-2.0
 *
 * Class pictures: only the missing ones are made, over nothing, and the manifest knows of each. */
#include "support.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "file/fields.h"
#include "train/class_images.h"
#include "train/photos.h"

/* A maker of small pictures whose colour is the seed; fails at its fail_at-th call (from 1). */
typedef struct fake {
    int calls, fail_at;
    bool without_settings;
    uint64_t seed[64];
    char prompt[64];
} fake;

static bool fake_make(void *user, const image_order *order, image *out, char **settings, error *e)
{
    fake *f = user;
    const char *prompt = order->prompt;
    uint64_t seed = order->seed;
    assert_null(order->model);
    *settings = NULL;
    for (int step = 0; step <= 2; step++)
        if (order->progress && order->progress(order->user, step, 2))
            return error_set(e, ERROR_CANCELLED, "stopped at step %d", step);
    f->seed[f->calls++] = seed;
    snprintf(f->prompt, sizeof f->prompt, "%s", prompt);
    if (f->calls == f->fail_at) return error_set(e, ERROR_NUMERIC, "the picture is NaN");
    if (!image_new(out, 9, 7, e)) return false;
    memset(out->pixels, (int)(seed % 251), 9 * 7 * 3);
    if (f->without_settings) return true;
    *settings = string_format("%s\nSteps: 2, Seed: %llu", prompt, (unsigned long long)seed);
    return *settings || error_memory(e, "settings", 64);
}

typedef struct place {
    char text[900];
} place;

static place fresh(void)
{
    place p;
    snprintf(p.text, sizeof p.text, "%s/class", scratch_dir());
    return p;
}

static place at(place base, const char *name)
{
    place p;
    snprintf(p.text, sizeof p.text, "%.700s/%s", base.text, name);
    return p;
}

static class_request request(const place *folder, int wanted)
{
    return (class_request){.folder = folder->text,
                           .prompt = "a photo of dog",
                           .wanted = wanted,
                           .seed = 40,
                           .model_hash = "aaaa"};
}

/* Returns what was made; the warning (or "") in a static text. */
static char warned[2048];
static int make(const class_request *r, fake *f)
{
    image_maker maker = {fake_make, f};
    int made = -1;
    char *warning = NULL;
    error e = {0};
    if (!class_images_make(r, NULL, &maker, &made, &warning, &e)) fail_msg("%s", e.text);
    snprintf(warned, sizeof warned, "%s", warning ? warning : "");
    assert_null(strchr(warned, '\n'));
    free(warning);
    assert_int_equal(made, f->calls);
    return made;
}

static void expect_failure(const class_request *r, fake *f, int made, error_code code,
                           const char *part)
{
    image_maker maker = {fake_make, f};
    int got = -1;
    char *warning = (char *)(uintptr_t) "x";
    error e = {0};
    assert_false(class_images_make(r, NULL, &maker, &got, &warning, &e));
    assert_null(warning);
    assert_int_equal(got, made);
    assert_int_equal(e.code, code);
    if (!strstr(e.text, part)) fail_msg("'%s' should say '%s'", e.text, part);
}

static void says(const char *part)
{
    if (!strstr(warned, part)) fail_msg("'%s' should say '%s'", warned, part);
}

static size_t images_in(place folder)
{
    photo_files files;
    error e = {0};
    assert_true(photo_files_list(&files, folder.text, 0, &e));
    size_t n = files.count;
    photo_files_free(&files);
    return n;
}

static void write_image(place path, int grey)
{
    image m;
    error e = {0};
    assert_true(image_new(&m, 4, 4, &e));
    memset(m.pixels, grey, 4 * 4 * 3);
    assert_true(image_write(&m, path.text, NULL, 100, &e));
    image_free(&m);
}

static void write_text(place path, const char *text)
{
    FILE *f = fopen(path.text, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void hash_of(place path, char hex[65])
{
    char *data;
    size_t size;
    error e = {0};
    sha256 s;
    assert_true(file_read(path.text, 1 << 20, &data, &size, &e));
    sha256_start(&s);
    sha256_add(&s, data, size);
    sha256_end(&s, hex);
    free(data);
}

/* The manifest has exactly these pictures made by seed 40 and on, in this order, and they are as
 * entered. */
static void expect_manifest(place folder, const int *number, size_t count)
{
    fields f;
    error e = {0};
    place path = at(folder, "manifest.json");
    if (!fields_open(&f, path.text, 1 << 20, &e)) fail_msg("%s", e.text);
    json_t *list = json_object_get(f.root, "pictures");
    assert_int_equal(json_array_size(list), count);
    for (size_t i = 0; i < count; i++) {
        json_t *entry = json_array_get(list, i);
        char name[32], hex[65], settings[64], *text;
        image m;
        snprintf(name, sizeof name, "class-%04d.png", number[i]);
        snprintf(settings, sizeof settings, "a photo of dog\nSteps: 2, Seed: %d", 40 + number[i]);
        hash_of(at(folder, name), hex);
        assert_string_equal(json_string_value(json_object_get(entry, "file")), name);
        assert_string_equal(json_string_value(json_object_get(entry, "prompt")), "a photo of dog");
        assert_int_equal(json_integer_value(json_object_get(entry, "seed")), 40 + number[i]);
        assert_string_equal(json_string_value(json_object_get(entry, "model")), "aaaa");
        assert_string_equal(json_string_value(json_object_get(entry, "settings")), settings);
        assert_string_equal(json_string_value(json_object_get(entry, "sha256")), hex);
        assert_true(image_read(&m, &text, at(folder, name).text, &e));
        assert_int_equal(m.pixels[0], 40 + number[i]);
        assert_string_equal(text, settings);
        image_free(&m);
        free(text);
    }
    fields_close(&f);
}

/* ---- what is made ---- */

static void shortfall(void **state)
{
    (void)state;
    place folder = fresh();
    class_request r = request(&folder, 3);
    fake f = {0};
    assert_int_equal(make(&r, &f), 3);
    assert_string_equal(warned, "");
    assert_string_equal(f.prompt, "a photo of dog");
    expect_manifest(folder, (int[]){0, 1, 2}, 3);
    /* enough is there */
    f = (fake){0};
    assert_int_equal(make(&r, &f), 0);
    r.wanted = 1;
    assert_int_equal(make(&r, &f), 0);
    /* more is wanted */
    r.wanted = 5;
    assert_int_equal(make(&r, &f), 2);
    assert_int_equal(f.seed[0], 43);
    expect_manifest(folder, (int[]){0, 1, 2, 3, 4}, 5);
    /* one is gone: made anew as it was, its entry replaced */
    char before[65], after[65];
    hash_of(at(folder, "class-0001.png"), before);
    unlink(at(folder, "class-0001.png").text);
    f = (fake){0};
    assert_int_equal(make(&r, &f), 1);
    assert_int_equal(f.seed[0], 41);
    hash_of(at(folder, "class-0001.png"), after);
    assert_string_equal(before, after);
    expect_manifest(folder, (int[]){0, 2, 3, 4, 1}, 5);
    assert_string_equal(warned, "");
}

/* Own pictures count, and stay as they are; so does what another kill left. */
static void nothing_overwritten(void **state)
{
    (void)state;
    place folder = fresh();
    error e = {0};
    assert_true(path_make_dir(folder.text, &e));
    write_image(at(folder, "mine.jpg"), 9);
    write_image(at(folder, "class-0001.png"), 200);
    write_image(at(folder, "class-0000.png"), 100);
    write_text(at(folder, "notes.txt"), "x");
    write_text(at(folder, ".class-0002.png"), "another program's");
    char before[2][65], after[2][65];
    hash_of(at(folder, "class-0000.png"), before[0]);
    hash_of(at(folder, "class-0001.png"), before[1]);
    class_request r = request(&folder, 5);
    fake f = {0};
    assert_int_equal(make(&r, &f), 2);
    says(": 3 of 5 class pictures were not made by this model for this prompt: 3 without an entry "
         "in "
         "manifest.json; choose another folder");
    expect_manifest(folder, (int[]){2, 3}, 2);
    hash_of(at(folder, "class-0000.png"), after[0]);
    hash_of(at(folder, "class-0001.png"), after[1]);
    assert_string_equal(before[0], after[0]);
    assert_string_equal(before[1], after[1]);
    assert_int_equal(images_in(folder), 5);
    assert_int_equal(access(at(folder, ".class-0002.png").text, F_OK), 0);
}

/* ---- kills and stops ---- */

static void killed(void **state)
{
    (void)state;
    place folder = fresh();
    class_request r = request(&folder, 5);
    fake f = {.fail_at = 3};
    expect_failure(&r, &f, 2, ERROR_NUMERIC, "the picture is NaN");
    expect_manifest(folder, (int[]){0, 1}, 2);
    assert_int_equal(images_in(folder), 2);
    /* killed between the entry and the name: the entry holds no picture */
    assert_int_equal(rename(at(folder, "class-0001.png").text, at(folder, ".class-0001.png").text),
                     0);
    f = (fake){0};
    assert_int_equal(make(&r, &f), 4);
    assert_int_equal(f.seed[0], 41);
    assert_string_equal(warned, "");
    expect_manifest(folder, (int[]){0, 1, 2, 3, 4}, 5);
}

typedef struct watch {
    int calls, stop_at, steps, stop_at_step, total;
} watch;

static bool watching(void *user, train_phase phase, int64_t done, int64_t total)
{
    watch *w = user;
    assert_int_equal(phase, TRAIN_CLASS_PICTURES);
    assert_int_equal(done, w->calls);
    w->total = (int)total;
    return ++w->calls == w->stop_at;
}

static bool stepping(void *user, int step, int steps)
{
    watch *w = user;
    assert_int_equal(step, w->steps % 3);
    assert_int_equal(steps, 2);
    return ++w->steps == w->stop_at_step;
}

static void progress(void **state)
{
    (void)state;
    place folder = fresh();
    class_request r = request(&folder, 3);
    watch w = {.stop_at = 2};
    train_watch to = {watching, &w};
    fake f = {0};
    r.watch = &to;
    r.step = stepping;
    r.user = &w;
    expect_failure(&r, &f, 1, ERROR_CANCELLED, "stopped after 1 of 3 class pictures");
    assert_int_equal(w.total, 3);
    assert_int_equal(w.steps, 3);
    expect_manifest(folder, (int[]){0}, 1);
    /* in the middle of a picture, which leaves nothing */
    w = (watch){.stop_at_step = 5};
    f = (fake){0};
    expect_failure(&r, &f, 1, ERROR_CANCELLED, "stopped after 1 of 2 class pictures");
    assert_int_equal(w.steps, 5);
    expect_manifest(folder, (int[]){0, 1}, 2);
    w = (watch){0};
    f = (fake){0};
    assert_int_equal(make(&r, &f), 1);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.total, 1);
}

/* What there is is looked at before anything is made. */
static void check(void **state)
{
    (void)state;
    place folder = fresh();
    class_request r = request(&folder, 3);
    error e = {0};
    int missing = -1;
    assert_true(class_images_check(&r, &missing, &e));
    assert_int_equal(missing, 3);
    assert_int_not_equal(access(folder.text, F_OK), 0);
    fake f = {0};
    make(&r, &f);
    r.wanted = 4;
    assert_true(class_images_check(&r, &missing, &e));
    assert_int_equal(missing, 1);
    write_text(at(folder, "aaa.jpg"), "no picture");
    assert_false(class_images_check(&r, &missing, &e));
    if (!strstr(e.text, "aaa.jpg")) fail_msg("%s", e.text);
}

/* ---- pictures of another origin ---- */

static void warnings(void **state)
{
    (void)state;
    place folder = fresh();
    class_request r = request(&folder, 2);
    fake f = {0};
    make(&r, &f);
    r.wanted = 3;
    r.prompt = "a photo\nof cat";
    f = (fake){.without_settings = true};
    assert_int_equal(make(&r, &f), 1);
    says("2 of 3 class pictures were not made by this model for this prompt: 2 for another prompt "
         "(\"a "
         "photo of dog\"); choose another folder, or remove them");
    r.prompt = "a photo of dog";
    f = (fake){0};
    make(&r, &f);
    says("1 of 3 class pictures were not made by this model for this prompt: 1 for another prompt "
         "(\"a "
         "photo?of cat\"); ");
    r.model_hash = "bbbb";
    make(&r, &f);
    says("3 of 3 class pictures were not made by this model: 3 by another model; ");
    /* a picture that was changed is no longer what its entry says */
    write_image(at(folder, "class-0000.png"), 3);
    r.model_hash = "aaaa";
    make(&r, &f);
    says("2 of 3 class pictures were not made by this model for this prompt: 1 for another prompt "
         "(\"a "
         "photo?of cat\"), 1 without an entry in manifest.json; ");
}

static void large_seed(void **state)
{
    (void)state;
    place folder = fresh();
    class_request r = request(&folder, 2);
    r.seed = UINT64_MAX;
    fake f = {0};
    make(&r, &f);
    assert_true(f.seed[0] == UINT64_MAX && f.seed[1] == 0);
    char *text;
    error e = {0};
    assert_true(file_read(at(folder, "manifest.json").text, 1 << 20, &text, NULL, &e));
    assert_non_null(strstr(text, "\"18446744073709551615\""));
    free(text);
}

/* ---- what goes wrong ---- */

static void bad_manifest(void **state)
{
    (void)state;
    static const char *const texts[] = {"{\"pictures\": [", "{\"short_name\": \"an app\"}", "[]"};
    static const char *const parts[] = {"not valid JSON", "is not Likeness's",
                                        "should be a JSON object"};
    for (int i = 0; i < 3; i++) {
        place folder = fresh();
        class_request r = request(&folder, 1);
        error e = {0};
        fake f = {0};
        assert_true(path_make_dir(folder.text, &e));
        write_text(at(folder, "manifest.json"), texts[i]);
        expect_failure(&r, &f, 0, ERROR_FORMAT, parts[i]);
        assert_int_equal(images_in(folder), 0);
    }
    /* entries that make no sense hold nothing */
    place folder = fresh();
    class_request r = request(&folder, 1);
    error e = {0};
    fake f = {0};
    assert_true(path_make_dir(folder.text, &e));
    write_text(at(folder, "manifest.json"),
               "{\"pictures\": [3, {\"file\": \"../x\"}, {\"file\": 4}]}");
    assert_int_equal(make(&r, &f), 1);
    assert_string_equal(warned, "");
}

static void assert_no_hidden(place folder)
{
    folder_names names;
    error e = {0};
    assert_true(folder_list(&names, folder.text, &e));
    for (size_t i = 0; i < names.count; i++)
        if (names.name[i][0] == '.') fail_msg("%s is left", names.name[i]);
    folder_list_free(&names);
}

static void bad_folder(void **state)
{
    (void)state;
    place base = fresh(), file = at(base, "file");
    error e = {0};
    fake f = {0};
    assert_true(path_make_dir(base.text, &e));
    write_text(file, "x");
    class_request r = request(&file, 1);
    expect_failure(&r, &f, 0, ERROR_FILE, "is a file, where a folder is needed");
    assert_int_equal(f.calls, 0);
    /* a full disk */
    assert_int_equal(symlink("/dev/full", at(base, "manifest.json").text), 0);
    r = request(&base, 1);
    expect_failure(&r, &f, 0, ERROR_FILE, "the disk is full");
    assert_int_equal(images_in(base), 0);
    assert_no_hidden(base);
}

static void memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) return;
    int failures = 0;
    for (bool struck = true; struck; failures += struck) {
        place folder = fresh();
        class_request r = request(&folder, 2);
        fake f = {0};
        image_maker maker = {fake_make, &f};
        int made;
        char *warning;
        error e = {0};
        assert_true(path_make_dir(folder.text, &e));
        write_image(at(folder, "a.png"), 5);
        allocation_fail_at(failures);
        bool ok = class_images_make(&r, NULL, &maker, &made, &warning, &e);
        struck = allocation_fail_end();
        assert_true(ok || struck);
        if (!ok) assert_int_equal(e.code, ERROR_MEMORY);
        if (ok) assert_int_equal(images_in(folder), 2);
        assert_true(!ok || struck || warning);
        free(warning);
    }
    assert_true(failures > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shortfall),  cmocka_unit_test(nothing_overwritten),
        cmocka_unit_test(killed),     cmocka_unit_test(progress),
        cmocka_unit_test(check),      cmocka_unit_test(warnings),
        cmocka_unit_test(large_seed), cmocka_unit_test(bad_manifest),
        cmocka_unit_test(bad_folder), cmocka_unit_test(memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
