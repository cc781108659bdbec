/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of pictures against Pillow: tests/fixtures/image/ is written by tools/fixtures/image.py,
 * whose expected.txt says what each file must become. */
#include "base/platform.h"
#include "file/image.h"
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

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

static int count_files(void)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *f; (f = readdir(d));) n += f->d_name[0] != '.' || strlen(f->d_name) > 2;
    closedir(d);
    return n;
}

static const char *fixture(const char *name)
{
    char relative[256];
    snprintf(relative, sizeof relative, "image/%s", name);
    const char *path = fixture_path(relative);
    if (!path) fail_msg("no fixture %s", name);
    return path;
}

static image read_fixture(const char *name, char **text)
{
    error e = {0};
    image m;
    if (!image_read(&m, text, fixture(name), &e)) fail_msg("%s", e.text);
    return m;
}

static uint64_t hash(const image *m)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < (size_t)3 * (size_t)m->width * (size_t)m->height; i++)
        h = (h ^ m->pixels[i]) * 0x100000001b3u;
    return h;
}

static void expect_image(const char *line, const image *m, int width, int height, uint64_t want)
{
    if (m->width != width || m->height != height)
        fail_msg("%s: %d x %d", line, m->width, m->height);
    if (hash(m) != want) fail_msg("%s: other pixels (%016" PRIx64 ")", line, hash(m));
}

static void check_resize(const char *line, const char *name, const char *filter, int width,
                         int height, uint64_t want)
{
    error e = {0};
    image in = read_fixture(name, NULL), out;
    resize_filter kind = filter[0] == 'l'                       ? RESIZE_LANCZOS
                         : filter[1] == 'i' && filter[2] == 'c' ? RESIZE_BICUBIC
                                                                : RESIZE_BILINEAR;
    assert_true(image_resize(&out, &in, width, height, kind, &e));
    expect_image(line, &out, width, height, want);
    image_free(&in);
    image_free(&out);
}

static void check_jpeg(const char *line, const char *name, int quality, uint64_t want)
{
    error e = {0};
    image in = read_fixture(name, NULL), out;
    assert_true(image_write(&in, in_folder("x.jpg"), NULL, quality, &e));
    assert_true(image_read(&out, NULL, in_folder("x.jpg"), &e));
    expect_image(line, &out, in.width, in.height, want);
    image_free(&in);
    image_free(&out);
}

/* Every line of a list. */
static void check_list(const char *list, int lines)
{
    FILE *f = fopen(fixture(list), "r");
    assert_non_null(f);
    char line[256], name[100], filter[20];
    int width, height, quality, count = 0;
    uint64_t want;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        count++;
        if (sscanf(line, "read %99s %d %d %" SCNx64, name, &width, &height, &want) == 4) {
            image m = read_fixture(name, NULL);
            expect_image(line, &m, width, height, want);
            image_free(&m);
        } else if (sscanf(line, "resize %99s %19s %d %d %" SCNx64, name, filter, &width, &height,
                          &want) == 5)
            check_resize(line, name, filter, width, height, want);
        else if (sscanf(line, "jpeg %99s %d %" SCNx64, name, &quality, &want) == 3)
            check_jpeg(line, name, quality, want);
        else
            fail_msg("%s", line);
    }
    fclose(f);
    assert_int_equal(count, lines);
}

static void test_as_pillow(void **state)
{
    (void)state;
    check_list("expected.txt", 138);
}

/* BMP, GIF, TIFF. */
static void test_other_kinds(void **state)
{
    (void)state;
    check_list("kinds/expected.txt", 62);
    image m = read_fixture("kinds/animated.gif", NULL);
    assert_int_equal(m.frames, 3);
    image_free(&m);
    m = read_fixture("kinds/pages.tif", NULL);
    assert_int_equal(m.frames, 3);
    image_free(&m);
    m = read_fixture("kinds/turned-6.tif", NULL);
    assert_int_equal(m.frames, 1);
    image_free(&m);
}

/* Where the build has libheif. Written without loss; the conversions to their colours and back cost
 * a level. */
static void test_heif(void **state)
{
    (void)state;
    static const char *const names[] = {"kinds/scene.heic", "kinds/scene.avif"};
    image wanted = read_fixture("kinds/scene.png", NULL);
    for (int k = 0; k < 2; k++) {
        error e = {0};
        image m;
        if (!image_read(&m, NULL, fixture(names[k]), &e)) {
            image_free(&wanted);
            if (!strstr(e.text, "install libheif-dev")) fail_msg("%s", e.text);
            skip();
        }
        assert_int_equal(m.width, wanted.width);
        assert_int_equal(m.height, wanted.height);
        for (int i = 0; i < 3 * m.width * m.height; i++)
            if (abs(m.pixels[i] - wanted.pixels[i]) > 2)
                fail_msg("%s: value %d is %d, should be %d", names[k], i, m.pixels[i],
                         wanted.pixels[i]);
        image_free(&m);
    }
    image_free(&wanted);
}

/* However a file is cut short or changed: a picture or an error, and nothing left behind. */
static void test_damaged_kinds(void **state)
{
    (void)state;
    static const char *const names[] = {
        "kinds/runs-8.bmp",   "kinds/palette-4.bmp", "kinds/rgb-565.bmp", "kinds/pillow.gif",
        "kinds/animated.gif", "kinds/tiff_lzw.tif",  "kinds/rgba-16.tif", "kinds/fax.tif",
        "kinds/pages.tif",    "kinds/scene.heic",    "kinds/scene.avif"};
    uint32_t random = 1;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char *data;
        size_t size;
        error e = {0};
        assert_true(file_read(fixture(names[k]), 1 << 20, &data, &size, &e));
        for (int i = 0; i < 150; i++) {
            image m;
            error why = {0};
            size_t keep = i < 50 ? size * (size_t)i / 50 : size;
            FILE *f = fopen(in_folder("x"), "wb");
            for (size_t b = 0; b < keep; b++) {
                random = random * 1664525 + 1013904223;
                bool change = i >= 50 && (random >> 8) % size < 3;
                fputc(change ? (int)(random >> 24) : (uint8_t)data[b], f);
            }
            fclose(f);
            if (image_read(&m, NULL, in_folder("x"), &why))
                image_free(&m);
            else if (why.code == ERROR_NONE || !why.text[0] || strchr(why.text, '\n'))
                fail_msg("%s, change %d: \"%s\"", names[k], i, why.text);
        }
        free(data);
    }
}

static void expect_text(const char *name, const char *want)
{
    char *text;
    image m = read_fixture(name, &text);
    if (want)
        assert_string_equal(text, want);
    else
        assert_null(text);
    free(text);
    image_free(&m);
}

#define LATIN1 "a caf\u00e9\nSteps: 20"
#define UNICODE "\u732b and \U0001f431\nSteps: 20"

static void test_read_text(void **state)
{
    (void)state;
    expect_text("text-latin1.png", LATIN1);
    expect_text("text-unicode.png", UNICODE);
    expect_text("text-latin1.jpg", LATIN1);
    expect_text("text-unicode.jpg", UNICODE);
    expect_text("scene.png", NULL);
    expect_text("lossy.webp", NULL);
    expect_text("grey.jpg", NULL);
    char packed[200] = "";
    for (int i = 0; i < 20; i++) strcat(packed, "packed ");
    expect_text("text-packed.png", packed);
}

static bool file_contains(const char *path, const char *bytes)
{
    error e = {0};
    mapped_file f;
    assert_true(file_map(&f, path, &e));
    bool found = memmem(f.data, f.size, bytes, strlen(bytes));
    file_unmap(&f);
    return found;
}

/* Writes with a text, reads both back; returns the largest difference of a value. */
static int round_trip(const image *m, const char *name, const char *text, int quality)
{
    error e = {0};
    image back;
    char *found;
    if (!image_write(m, in_folder(name), text, quality, &e)) fail_msg("%s", e.text);
    if (!image_read(&back, &found, in_folder(name), &e)) fail_msg("%s", e.text);
    if (text)
        assert_string_equal(found, text);
    else
        assert_null(found);
    assert_int_equal(back.width, m->width);
    assert_int_equal(back.height, m->height);
    int worst = 0;
    for (size_t i = 0; i < (size_t)3 * (size_t)m->width * (size_t)m->height; i++) {
        int difference = abs(m->pixels[i] - back.pixels[i]);
        if (difference > worst) worst = difference;
    }
    free(found);
    image_free(&back);
    return worst;
}

static void test_write(void **state)
{
    (void)state;
    const char *texts[] = {NULL, "", "plain, Size: 5x5", LATIN1, UNICODE};
    image m = read_fixture("scene.png", NULL), dot = read_fixture("dot.png", NULL);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(round_trip(&m, "a.png", texts[i], 0), 0);
        assert_int_equal(round_trip(&m, "a.WebP", texts[i], 100), 0);
        assert_in_range(round_trip(&m, "a.webp", texts[i], 80), 1, 250);
        assert_in_range(round_trip(&m, "a.JPG", texts[i], 95), 1, 250);
        assert_int_equal(round_trip(&dot, "dot.png", texts[i], 0), 0);
        assert_int_equal(round_trip(&dot, "dot.webp", texts[i], 100), 0);
        round_trip(&dot, "dot.jpeg", texts[i], 75);
    }
    image_free(&dot);
    /* as A1111: tEXt where Latin-1 has every character, else iTXt */
    round_trip(&m, "a.png", LATIN1, 0);
    assert_true(file_contains(in_folder("a.png"), "tEXtparameters"));
    assert_true(file_contains(in_folder("a.png"), "a caf\xe9\nSteps: 20"));
    round_trip(&m, "a.png", UNICODE, 0);
    assert_true(file_contains(in_folder("a.png"), "iTXtparameters"));
    assert_true(file_contains(in_folder("a.png"), UNICODE));
    image_free(&m);
}

#define expect_error(e, what, part)                                                                \
    do {                                                                                           \
        if (!strstr((e).text, part)) fail_msg("'%s' does not say '%s'", (e).text, part);           \
        assert_int_equal((e).code, what);                                                          \
    } while (0)

static void refuse_write(const image *m, const char *path, const char *text, error_code code,
                         const char *part)
{
    error e = {0};
    assert_false(image_write(m, path, text, 90, &e));
    expect_error(e, code, part);
    assert_int_equal(count_files(), 0);
}

static void test_write_errors(void **state)
{
    (void)state;
    error e = {0};
    image m = read_fixture("scene.png", NULL), wide;
    refuse_write(&m, in_folder("a.gif"), NULL, ERROR_USAGE, "must end in .png, .jpg");
    refuse_write(&m, in_folder("png"), NULL, ERROR_USAGE, "must end in");
    refuse_write(&m, in_folder("none/a.png"), NULL, ERROR_FILE, "none/a.png: cannot create");
    char full[3][1024];
    const char *endings[] = {"png", "jpg", "webp"};
    for (int i = 0; i < 3; i++) { /* a device that is always full, under a picture's name */
        snprintf(full[i], sizeof full[i], "%s/full.%s", scratch_dir(), endings[i]);
        assert_int_equal(symlink("/dev/full", full[i]), 0);
        refuse_write(&m, full[i], NULL, ERROR_FILE, "the disk is full");
        refuse_write(&m, full[i], "text", ERROR_FILE, "the disk is full");
    }
    char *text = malloc(40001);
    memset(text, 'x', 40000);
    text[40000] = '\0';
    refuse_write(&m, in_folder("a.jpg"), text, ERROR_USAGE, "do not fit into a JPEG");
    free(text);
    assert_true(image_new(&wide, 70000, 1, &e));
    refuse_write(&wide, in_folder("a.jpg"), NULL, ERROR_USAGE, "JPEG holds at most 65500");
    refuse_write(&wide, in_folder("a.webp"), NULL, ERROR_USAGE, "WebP holds at most 16383");
    assert_int_equal(round_trip(&wide, "a.png", NULL, 0), 0);
    image_free(&wide);
    image_free(&m);
}

static void refuse_read(const char *path, error_code code, const char *part)
{
    error e = {0};
    image m;
    char *text;
    if (image_read(&m, &text, path, &e)) fail_msg("read, though: %s", part);
    expect_error(e, code, part);
    if (!strstr(e.text, path)) fail_msg("'%s' does not name the file", e.text);
    assert_null(m.pixels);
    assert_null(text);
}

static void refuse_bytes(const char *bytes, size_t n, const char *part)
{
    FILE *f = fopen(in_folder("x"), "wb");
    fwrite(bytes, 1, n, f);
    fclose(f);
    refuse_read(in_folder("x"), ERROR_FORMAT, part);
}

static void test_read_errors(void **state)
{
    (void)state;
    refuse_read("/nowhere/a.png", ERROR_FILE, "cannot open");
    refuse_read(folder, ERROR_FILE, "is a folder");
    refuse_read(fixture("expected.txt"), ERROR_FORMAT,
                "is not a PNG, JPEG, WebP, BMP, GIF, TIFF, HEIC or AVIF picture");
    refuse_read(fixture("animated.webp"), ERROR_FORMAT, "is an animated WebP");
    refuse_bytes("", 0, "(it is empty)");
    refuse_bytes("GIF89a", 6, "the GIF is damaged");
    refuse_bytes("GIF89a\2\0\2\0\0\0\0;", 14, "the GIF is damaged (no picture in it)");
    refuse_bytes("BM\0\0\0\0\0\0\0\0\x36\0\0\0", 14, "the BMP is cut short");
    refuse_bytes("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0", 26,
                 "the BMP has a header of a kind that is not known");
    refuse_bytes("BMade of text", 13, "is not a PNG");
    refuse_bytes("II*\0\x08\0\0\0", 8, "the TIFF is damaged");
    refuse_bytes("\0\0\0\x18"
                 "ftypheic",
                 12, "HEIC");
    refuse_bytes("\0\0\0\x18"
                 "ftypmp42",
                 12, "is not a PNG");
    refuse_bytes("\x89PNG\r\n\x1a\n", 8, "the PNG is cut short");
    refuse_bytes("\xff\xd8\xff\xd9", 4, "the JPEG is damaged");
    refuse_bytes("RIFF\4\0\0\0WEBP", 12, "the WebP is");
}

/* Files of a few bytes that claim to be huge. */
static void test_bombs(void **state)
{
    (void)state;
    refuse_bytes(
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\b\2\0\0\0\xb8\x89\xab\x70",
        33, "the PNG");
    char *whole;
    size_t size;
    error e = {0};
    assert_true(file_read(fixture("sampled-420.jpg"), 100000, &whole, &size, &e));
    char *frame = memmem(whole, size, "\xff\xc0\0\x11\b", 5);
    assert_non_null(frame);
    refuse_bytes("GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;", 28,
                 "65535 x 65535 is too large");
    refuse_bytes("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\0\xff\0\0\0\xff\0\0\1\0\x18\0\0\0\0\0\0\0"
                 "\0\0\0\0\0\0\0\0\0"
                 "\0\0\0\0\0\0\0\0",
                 54, "65280 x 65280 is too large");
    memcpy(frame + 5, "\xff\xdc\xff\xdc", 4);
    refuse_bytes(whole, size, "a picture of 65500 x 65500 is too large");
    free(whole);
}

/* Every shortened form is refused or (where only what follows the pixels is lost) read whole. */
static void test_truncated(void **state)
{
    (void)state;
    const char *names[] = {"turned-6.png",       "palette-4-interlaced.png",
                           "text-unicode.png",   "turned-6.jpg",
                           "progressive.jpg",    "cmyk.jpg",
                           "turned-6.webp",      "lossy.webp",
                           "alpha-lossless.webp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *whole;
        size_t size;
        error e = {0};
        assert_true(file_read(fixture(names[i]), 100000, &whole, &size, &e));
        int file = open(in_folder("x"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        assert_int_equal(write(file, whole, size), size);
        size_t accepted = 0;
        for (size_t n = size; n-- > 0; n -= n > 200 ? 4 : 0) {
            assert_int_equal(ftruncate(file, (off_t)n), 0);
            image m;
            e = (error){0};
            bool ok = image_read(&m, NULL, in_folder("x"), &e);
            accepted += ok;
            if (!ok) assert_int_equal(e.code, ERROR_FORMAT);
            if (!ok) assert_null(strchr(e.text, '\n'));
            image_free(&m);
        }
        close(file);
        if (accepted > 40) fail_msg("%s: %zu cut forms of %zu are read", names[i], accepted, size);
        free(whole);
    }
}

/* Bytes changed here and there: refused or read, nothing else (see the sanitizers). */
static void test_damaged(void **state)
{
    (void)state;
    const char *names[] = {
        "turned-6.png",     "palette-4-interlaced.png", "text-packed.png", "turned-6.jpg",
        "text-unicode.jpg", "progressive.jpg",          "ycck.jpg",        "turned-6.webp",
        "alpha-lossy.webp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *whole;
        size_t size;
        error e = {0};
        assert_true(file_read(fixture(names[i]), 100000, &whole, &size, &e));
        int file = open(in_folder("x"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        assert_int_equal(write(file, whole, size), size);
        for (size_t n = 0; n < size; n += n < 200 ? 1 : 5) {
            char changed = (char)(whole[n] ^ 1 << (n % 8));
            assert_int_equal(pwrite(file, &changed, 1, (off_t)n), 1);
            image m;
            char *text;
            e = (error){0};
            if (!image_read(&m, &text, in_folder("x"), &e)) assert_true(e.code == ERROR_FORMAT);
            free(text);
            image_free(&m);
            assert_int_equal(pwrite(file, whole + n, 1, (off_t)n), 1);
        }
        close(file);
        free(whole);
    }
}

static bool read_and_write(const char *name, const char *to, error *e)
{
    image m = {0}, small = {0};
    char *text = NULL;
    bool ok = image_read(&m, &text, name, e) && image_resize(&small, &m, 9, 8, RESIZE_LANCZOS, e) &&
              image_write(&small, to, text ? text : "x", 100, e);
    if (!ok && e->code != ERROR_MEMORY) fail_msg("%s: %s", name, e->text);
    free(text);
    image_free(&m);
    image_free(&small);
    return ok;
}

static void test_allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    const char *pairs[][2] = {{"text-unicode.png", "a.png"},
                              {"text-latin1.png", "a.png"},
                              {"palette-4-interlaced.png", "a.png"},
                              {"turned-6.jpg", "a.jpg"},
                              {"text-unicode.jpg", "a.jpg"},
                              {"progressive.jpg", "a.png"},
                              {"cmyk.jpg", "a.jpg"},
                              {"turned-6.webp", "a.webp"},
                              {"kinds/animated.gif", "a.png"},
                              {"kinds/runs-8.bmp", "a.png"},
                              {"kinds/rgb-565.bmp", "a.png"},
                              {"kinds/tiff_lzw.tif", "a.png"},
                              {"kinds/turned-6.tif", "a.png"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char from[1024], to[1024];
        snprintf(from, sizeof from, "%s", fixture(pairs[i][0]));
        snprintf(to, sizeof to, "%s", in_folder(pairs[i][1]));
        for (long n = 0;; n++) {
            error e = {0};
            allocation_fail_at(n);
            bool ok = read_and_write(from, to, &e);
            bool struck = allocation_fail_end();
            if (!ok) assert_int_equal(count_files(), 0);
            unlink(to);
            if (struck) continue;
            assert_true(ok && n > 5);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_as_pillow, setup),
        cmocka_unit_test_setup(test_other_kinds, setup),
        cmocka_unit_test_setup(test_heif, setup),
        cmocka_unit_test_setup(test_damaged_kinds, setup),
        cmocka_unit_test_setup(test_read_text, setup),
        cmocka_unit_test_setup(test_write, setup),
        cmocka_unit_test_setup(test_write_errors, setup),
        cmocka_unit_test_setup(test_read_errors, setup),
        cmocka_unit_test_setup(test_bombs, setup),
        cmocka_unit_test_setup(test_truncated, setup),
        cmocka_unit_test_setup(test_damaged, setup),
        cmocka_unit_test_setup(test_allocations, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
