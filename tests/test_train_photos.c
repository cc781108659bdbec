/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of training pictures: pixels against torchvision and Pillow (fixtures/train/photos.txt,
 * made by tools/fixtures/train_photos.py), what of a folder is taken, and what is refused. */
#include "support.h"

#include <inttypes.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"
#include "train/photos.h"

static char folder[512];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    return 0;
}

static const char *in_folder(const char *name)
{
    static char path[4][1024];
    static int next;
    char *out = path[next++ % 4];
    snprintf(out, 1024, "%s/%s", folder, name);
    return out;
}

static void put_text(const char *name, const char *text)
{
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A picture of one shade: in sets it tells which is which. */
static void put_image(const char *name, int width, int height, uint8_t shade)
{
    error e = {0};
    image m;
    assert_true(image_new(&m, width, height, &e));
    memset(m.pixels, shade, (size_t)3 * (size_t)width * (size_t)height);
    if (!image_write(&m, in_folder("made.png"), NULL, 90, &e)) fail_msg("%s", e.text);
    assert_int_equal(rename(in_folder("made.png"), in_folder(name)), 0);
    image_free(&m);
}

static photo_set opened(int resolution, size_t limit)
{
    error e = {0};
    photo_set s;
    if (!photo_set_open(&s, folder, resolution, limit, "instance", &e)) fail_msg("%s", e.text);
    return s;
}

/* ---- pixels ---- */

static uint64_t hash_crop(const photo *p, crop c, int resolution)
{
    size_t n = (size_t)3 * (size_t)resolution * (size_t)resolution;
    float *x = malloc(n * sizeof *x);
    photo_pixels(p, c, resolution, x);
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n * sizeof *x; i++) h = (h ^ ((uint8_t *)x)[i]) * 0x100000001b3u;
    free(x);
    return h;
}

static void check_line(const char *line)
{
    char name[256], from[1024];
    int resolution, width, height, top, left;
    uint64_t centre, corner;
    assert_int_equal(sscanf(line, "%255s %d %d %d %d %d %" SCNx64 " %" SCNx64, name, &resolution,
                            &width, &height, &top, &left, &centre, &corner),
                     8);
    snprintf(from, sizeof from, "%s/%s", SOURCE_DIR, name);
    assert_int_equal(symlink(from, in_folder("it")), 0);
    photo_set s = opened(resolution, 0);
    assert_int_equal(s.count, 1);
    const photo *p = &s.item[0];
    crop c = photo_center(p, resolution);
    if (p->picture.width != width || p->picture.height != height || c.top != top || c.left != left)
        fail_msg("%s: %d x %d, centre at %d %d", line, p->picture.width, p->picture.height, c.top,
                 c.left);
    if (hash_crop(p, c, resolution) != centre ||
        hash_crop(p, (crop){height - resolution, width - resolution}, resolution) != corner)
        fail_msg("%s: other pixels", line);
    photo_set_close(&s);
    unlink(in_folder("it"));
}

static void test_torchvision(void **state)
{
    (void)state;
    FILE *f = fopen(fixture_path("train/photos.txt"), "r");
    assert_non_null(f);
    char line[1024];
    int count = 0;
    for (; fgets(line, sizeof line, f); count++) {
        line[strcspn(line, "\n")] = '\0';
        check_line(line);
    }
    fclose(f);
    assert_int_equal(count, 83);
}

/* 16-bit grey by its high byte, where Pillow would give white. */
static void test_grey_16(void **state)
{
    (void)state;
    assert_int_equal(symlink(fixture_path("image/grey-16.png"), in_folder("it")), 0);
    photo_set s = opened(13, 0);
    float x[3 * 13 * 13], least = 1;
    photo_pixels(&s.item[0], (crop){0, 0}, 13, x);
    for (int i = 0; i < 3 * 13 * 13; i++) least = fminf(least, x[i]);
    assert_true(least < 0.5f);
    photo_set_close(&s);
}

/* ---- crops ---- */

static void test_center(void **state)
{
    (void)state;
    static const int spare_top[][2] = {{0, 0}, {1, 0}, {2, 1}, {3, 2}, {4, 2},
                                       {5, 2}, {7, 4}, {9, 4}, {11, 6}};
    for (size_t i = 0; i < sizeof spare_top / sizeof *spare_top; i++) {
        photo p = {.picture = {.width = 8, .height = 8 + spare_top[i][0]}};
        crop c = photo_center(&p, 8);
        assert_int_equal(c.top, spare_top[i][1]);
        assert_int_equal(c.left, 0);
    }
}

static void test_fixed(void **state)
{
    (void)state;
    put_image("a.png", 20, 20, 1);
    photo_set s = opened(8, 0);
    assert_true(photo_set_fixed(&s, false));
    photo_set_close(&s);
    put_image("b.png", 21, 20, 1); /* 8.4 becomes 8: no crop to draw */
    s = opened(8, 0);
    assert_int_equal(s.count, 2);
    assert_true(photo_set_fixed(&s, false));
    photo_set_close(&s);
    put_image("c.png", 20, 23, 1);
    s = opened(8, 0);
    assert_false(photo_set_fixed(&s, false));
    assert_true(photo_set_fixed(&s, true));
    photo_set_close(&s);
}

/* ---- what is taken ---- */

static void expect_order(const photo_set *s, const char *names, size_t count)
{
    assert_int_equal(s->count, count);
    for (size_t i = 0; i < count; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%.*s", folder, (int)strcspn(names, " "), names);
        assert_string_equal(s->item[i].path, path);
        names += strcspn(names, " ") + 1;
    }
}

static void test_order(void **state)
{
    (void)state;
    put_image("b.png", 9, 9, 2);
    put_image("B.jpg", 9, 9, 1);
    put_image("c", 9, 9, 3); /* by its content */
    put_image("10.webp", 9, 9, 0);
    put_text("manifest.json", "{}");
    photo_set s = opened(9, 0);
    expect_order(&s, "10.webp B.jpg b.png c ", 4);
    for (int i = 0; i < 4; i++) assert_int_equal(s.item[i].picture.pixels[0], i);
    assert_null(s.skipped);
    photo_set_close(&s);
    s = opened(9, 2);
    expect_order(&s, "10.webp B.jpg ", 2);
    photo_set_close(&s);
    s = opened(9, 9);
    assert_int_equal(s.count, 4);
    photo_set_close(&s);
}

static void test_hash(void **state)
{
    (void)state;
    char hex[65], text[4096];
    sha256 hash;
    put_image("a.png", 9, 9, 77);
    FILE *f = fopen(in_folder("a.png"), "r");
    size_t size = fread(text, 1, sizeof text, f);
    fclose(f);
    sha256_start(&hash);
    sha256_add(&hash, text, size);
    sha256_end(&hash, hex);
    photo_set s = opened(4, 0);
    assert_string_equal(s.item[0].sha256, hex);
    photo_set_close(&s);
}

/* photo_files_list finds these, with the hashes that photo_set_open has. */
static void expect_files(const char *names, size_t limit)
{
    photo_files f;
    error e = {0};
    char list[512] = "";
    if (!photo_files_list(&f, folder, limit, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < f.count; i++) {
        char hex[65];
        assert_true(sha256_file(hex, in_folder(f.item[i].name), &e));
        assert_string_equal(hex, f.item[i].sha256);
        strcat(strcat(list, f.item[i].name), " ");
    }
    assert_string_equal(list, names);
    photo_files_free(&f);
}

static void test_stray(void **state)
{
    (void)state;
    put_image("a.png", 9, 9, 2);
    put_image("z.png", 9, 9, 3);
    put_image(".hidden.png", 9, 9, 3);
    put_text(".DS_Store", "x");
    put_text("notes.txt", "five photos");
    put_text("empty", "");
    mkdir(in_folder(".ipynb_checkpoints"), 0777);
    photo_set s = opened(9, 0);
    char want[1024];
    snprintf(want, sizeof want,
             "%s: skipped what is no picture: .DS_Store, .hidden.png, "
             ".ipynb_checkpoints, empty, notes.txt",
             folder);
    expect_order(&s, "a.png z.png ", 2);
    assert_string_equal(s.skipped, want);
    photo_set_close(&s);

    put_text("b\nad.txt", "");
    mkdir(in_folder("more.png"), 0777); /* a folder, whatever its name */
    assert_int_equal(mkfifo(in_folder("pipe"), 0666), 0);
    assert_int_equal(symlink("/nowhere", in_folder("link")), 0);
    s = opened(9, 0);
    snprintf(want, sizeof want,
             "%s: skipped what is no picture: .DS_Store, .hidden.png, "
             ".ipynb_checkpoints, b?ad.txt, empty and 4 more",
             folder);
    expect_order(&s, "a.png z.png ", 2);
    assert_string_equal(s.skipped, want);
    photo_set_close(&s);
    expect_files("a.png z.png ", 0);
}

static void test_files(void **state)
{
    (void)state;
    photo_files f;
    error e = {0};
    assert_true(photo_files_list(&f, "/nowhere/at/all", 0, &e));
    assert_int_equal(f.count, 0);
    expect_files("", 0);
    put_image("b.jpg", 9, 9, 2);
    put_image("a.png", 9, 9, 2);
    put_text("broken.jpg", "\xff\xd8\xff\xe0 and no more");
    put_text("manifest.json", "{}");
    expect_files("a.png b.jpg broken.jpg ", 0);
    expect_files("a.png b.jpg ", 2);
}

/* ---- what is refused ---- */

static void expect_refused(const char *where, const char *what, error_code code, const char *part)
{
    error e = {0};
    photo_set s;
    assert_false(photo_set_open(&s, where, 512, 0, what, &e));
    assert_int_equal(e.code, code);
    if (!strstr(e.text, part)) fail_msg("\"%s\" is not in: %s", part, e.text);
    if (!strstr(e.text, where)) fail_msg("\"%s\" is not in: %s", where, e.text);
    assert_null(strchr(e.text, '\n'));
    assert_true(!s.item && !s.count && !s.skipped);
}

static void test_refused(void **state)
{
    (void)state;
    expect_refused(in_folder("none"), "instance", ERROR_FILE, "no such folder; check --instance_");
    expect_refused(folder, "class", ERROR_FILE, "the folder is empty; put pictures");
    expect_refused(folder, "class", ERROR_FILE, "--class_data_dir");
    put_text("notes.txt", "x");
    expect_refused(in_folder("notes.txt"), "instance", ERROR_FILE, "no such folder");
    expect_refused(folder, "instance", ERROR_FILE, "notes.txt; nothing is left: put 3 to 10");
    put_text("manifest.json", "{}");
    unlink(in_folder("notes.txt"));
    expect_refused(folder, "instance", ERROR_FILE, "empty");

    put_image("a.png", 9, 9, 2);
    put_text("b.JPG", "a text");
    expect_refused(folder, "instance", ERROR_FORMAT, "b.JPG: is not a PNG, JPEG, WebP, BMP");
    unlink(in_folder("b.JPG"));
    put_text("b.heic", "????ftypheic");
    expect_refused(folder, "instance", ERROR_FORMAT,
                   "HEIC or AVIF"); /* damaged, or not read by this build */
    unlink(in_folder("b.heic"));
    put_text("b.png", "");
    expect_refused(folder, "instance", ERROR_FORMAT, "b.png");
    unlink(in_folder("b.png"));
    put_text("b", "\x89PNG\r\n\x1a\n and no more"); /* a picture by its content */
    expect_refused(folder, "instance", ERROR_FORMAT, "/b: ");
    unlink(in_folder("b"));
    assert_int_equal(symlink("/nowhere", in_folder("b.png")), 0);
    expect_refused(folder, "instance", ERROR_FILE, "b.png");
    unlink(in_folder("b.png"));

    put_image("c.png", 1, 600000, 2);
    expect_refused(folder, "instance", ERROR_FORMAT, "c.png: a picture of 1 x 600000");
}

static void test_cut_short(void **state)
{
    (void)state;
    put_image("a.png", 9, 9, 2);
    assert_int_equal(truncate(in_folder("a.png"), 60), 0);
    expect_refused(folder, "instance", ERROR_FORMAT, "a.png");
}

static void test_allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) return;
    put_image("a.png", 9, 12, 2);
    put_image("b.png", 12, 9, 2);
    put_text("notes.txt", "x");
    for (long n = 0;; n++) {
        error e = {0};
        photo_set s;
        photo_files files = {0};
        allocation_fail_at(n);
        bool open = photo_set_open(&s, folder, 8, 0, "instance", &e);
        bool ok = open && photo_files_list(&files, folder, 0, &e);
        bool struck = allocation_fail_end();
        if (open)
            photo_set_close(&s);
        else
            assert_true(!s.item && !s.skipped);
        if (!struck) {
            assert_true(ok && files.count == 2 && n > 30);
            photo_files_free(&files);
            return;
        }
        if (ok) fail_msg("allocation %ld failed unseen", n);
        if (e.code != ERROR_MEMORY) fail_msg("allocation %ld: %s", n, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_torchvision, setup),
        cmocka_unit_test_setup(test_grey_16, setup),
        cmocka_unit_test(test_center),
        cmocka_unit_test_setup(test_fixed, setup),
        cmocka_unit_test_setup(test_order, setup),
        cmocka_unit_test_setup(test_hash, setup),
        cmocka_unit_test_setup(test_stray, setup),
        cmocka_unit_test_setup(test_files, setup),
        cmocka_unit_test_setup(test_refused, setup),
        cmocka_unit_test_setup(test_cut_short, setup),
        cmocka_unit_test_setup(test_allocations, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
