/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of labels: what is drawn stays inside its box and the picture, and wrapping keeps to a
 * width. Skipped where the font is not installed. */
#include <unistd.h>

#include "file/image.h"
#include "support.h"

static font *open_font(int size)
{
    error e = {0};
    font *f;
    if (font_open(&f, size, &e)) return f;
    assert_int_equal(e.code, ERROR_FILE);
    assert_non_null(strstr(e.text, "fonts-dejavu-core"));
    skip();
    return NULL;
}

static void test_draw(void **state)
{
    (void)state;
    error e = {0};
    font *f = open_font(16);
    int height = font_line_height(f), width = font_text_width(f, "Agjq \u00e9\u00fc");
    assert_in_range(height, 16, 24);
    assert_in_range(width, 40, 90);
    assert_int_equal(font_text_width(f, ""), 0);
    assert_int_equal(font_text_width(f, "Agjq \u00e9\u00fc\nsecond"),
                     width); /* up to the newline */
    image m;
    assert_true(image_new(&m, width + 20, height + 20, &e));
    font_draw(f, &m, 10, 10, "Agjq \u00e9\u00fc\nsecond");
    int dark = 0;
    for (int y = 0; y < m.height; y++)
        for (int x = 0; x < m.width; x++) {
            const uint8_t *p = m.pixels + 3 * (y * m.width + x);
            assert_true(p[0] == p[1] && p[1] == p[2] && p[0] >= 40);
            if (p[0] == 255) continue;
            dark++;
            if (x < 9 || y < 10 || x > 10 + width || y >= 10 + height)
                fail_msg("ink at %d, %d", x, y);
        }
    assert_in_range(dark, 150, 1500);
    image_free(&m);
    font_close(&f);
    assert_null(f);
    font_close(&f);
}

static void test_clipped(void **state)
{
    (void)state;
    error e = {0};
    font *f = open_font(20);
    image m;
    assert_true(image_new(&m, 7, 5, &e));
    for (int y = -30; y < 10; y += 3)
        for (int x = -300; x < 12; x += 5)
            font_draw(f, &m, x, y, "Wrong \xff\xc3 \U0001f431 bytes\t\x01");
    image_free(&m);
    font_close(&f);
}

/* Every line fits, and taking the newlines for spaces gives the text again. */
static void expect_wrapped(font *f, const char *text, int width)
{
    char *wrapped = font_wrap(f, text, width);
    assert_non_null(wrapped);
    for (char *line = wrapped; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        size_t n = strcspn(line, "\n");
        char copy[500];
        snprintf(copy, sizeof copy, "%.*s", (int)n, line);
        if (font_text_width(f, copy) > width && n > 4) fail_msg("'%s' is too wide", copy);
    }
    for (char *p = wrapped; *p; p++)
        if (*p == '\n') *p = ' ';
    assert_string_equal(wrapped, text);
    free(wrapped);
}

static void test_wrap(void **state)
{
    (void)state;
    font *f = open_font(14);
    for (int width = 80; width < 400; width += 7)
        expect_wrapped(
            f, "a photo of sks dog in the style of a woodcut, \u00e9t\u00e9 caf\u00e9  two spaces",
            width);
    char *wrapped = font_wrap(f, "unbreakablewordthatislong x", font_text_width(f, "unbreakable"));
    assert_true(strncmp(wrapped, "unbreakable\n", 12) == 0);
    free(wrapped);
    wrapped = font_wrap(f, "\u00e9\u00e9", 1); /* never less than a character a line */
    assert_string_equal(wrapped, "\u00e9\n\u00e9");
    free(wrapped);
    wrapped = font_wrap(f, "one\ntwo", 1000);
    assert_string_equal(wrapped, "one\ntwo");
    free(wrapped);
    wrapped = font_wrap(f, "", 10);
    assert_string_equal(wrapped, "");
    free(wrapped);
    font_close(&f);
}

static void test_errors(void **state)
{
    (void)state;
    error e = {0};
    font *f;
    setenv("LIKENESS_FONT", "/nowhere/a.ttf", 1);
    assert_false(font_open(&f, 16, &e));
    assert_int_equal(e.code, ERROR_FILE);
    assert_string_equal(e.text, "LIKENESS_FONT=/nowhere/a.ttf: there is no such file");
    assert_null(f);
    setenv("LIKENESS_FONT", fixture_path("image/scene.png"), 1);
    e = (error){0};
    assert_false(font_open(&f, 16, &e));
    assert_int_equal(e.code, ERROR_FORMAT);
    assert_non_null(strstr(e.text, "scene.png: is not a font"));
    unsetenv("LIKENESS_FONT");
}

static void test_allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    font *f = open_font(16);
    font_close(&f);
    for (long n = 0;; n++) {
        error e = {0};
        allocation_fail_at(n);
        bool ok = font_open(&f, 16, &e);
        char *wrapped = ok ? font_wrap(f, "some words", 30) : NULL;
        bool struck = allocation_fail_end();
        /* FreeType tries its next reader when memory is out for one, and says what the last one
         * says */
        if (!ok) assert_true(e.code == ERROR_MEMORY || strstr(e.text, "is not a font that can be"));
        free(wrapped);
        font_close(&f);
        if (struck) continue;
        assert_true(ok);
        break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draw),        cmocka_unit_test(test_clipped),
        cmocka_unit_test(test_wrap),        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
