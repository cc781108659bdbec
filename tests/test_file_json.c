/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of JSON: fractions have the fewest digits that read back, in any locale. */
#include "file/json.h"
#include "support.h"

static void same_text(json_t *j, const char *wanted)
{
    char *text = json_text(j, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_non_null(text);
    assert_string_equal(text, wanted);
    json_t *back = json_parse(text, strlen(text), JSON_DECODE_ANY, NULL);
    assert_true(json_equal(j, back));
    json_decref(back);
    json_decref(j);
    free(text);
}

static void check_texts(void)
{
    same_text(json_real(0.3), "0.3");
    same_text(json_real(5e-6), "5e-06");
    same_text(json_real(-0.1 - 0.2), "-0.30000000000000004");
    same_text(json_real(10), "10.0");
    same_text(json_real(1e22), "1e22");
    same_text(json_integer(-12345678901234), "-12345678901234");
    same_text(json_pack("[s, f, s, i, b]", "a \"0.30000000000000004\" \\", 0.7, "\\", 7, 1),
              "[\"a \\\"0.30000000000000004\\\" \\\\\",0.7,\"\\\\\",7,true]");
    same_text(json_pack("{s: f, s: {s: [f, f]}}", "0.10", 2.5, "x", "y", 1e-4, 1e300),
              "{\"0.10\":2.5,\"x\":{\"y\":[0.0001,1e+300]}}");
    assert_null(json_text(NULL, 0));
}

static void test_texts(void **state)
{
    (void)state;
    check_texts();
}

/* jansson alone stops the process here: it takes the point for one byte. */
static void test_arabic_point(void **state)
{
    (void)state;
    if (!locale_with("<U066B>")) skip();
    check_texts();
    locale_with(".");
}

static void test_files(void **state)
{
    (void)state;
    char path[300], text[64] = "";
    error e = {0};
    snprintf(path, sizeof path, "%s/a.json", scratch_dir());
    json_t *j = json_pack("{s:f}", "rate", 5e-4);
    assert_true(json_write(j, path, &e));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    assert_string_equal(text, "{\n  \"rate\": 0.0005\n}\n");
    json_t *back = json_read(path, 1000, &e);
    assert_true(json_equal(j, back));
    json_decref(back);
    json_decref(j);
    assert_null(json_read(path, 5, &e));
    assert_non_null(strstr(e.text, "at most 5 make sense"));
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"a\": 1,\n \"a\": 2}", f);
    fclose(f);
    e = (error){0};
    assert_null(json_read(path, 1000, &e));
    assert_non_null(strstr(e.text, "not valid JSON (line 2: duplicate"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_arabic_point),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
