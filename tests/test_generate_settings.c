/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the settings text: what is written, that it comes back, and how AUTOMATIC1111's reader
 * takes texts of others, its odd cases too. */
#include "support.h"

#include "generate/settings.h"

static void fill(settings *s, const char *prompt, const char *negative)
{
    assert_true(settings_prompt(s, prompt, negative, NULL));
    assert_true(settings_set(s, NULL, "Steps", "%d", 50));
    assert_true(settings_set(s, NULL, "Sampler", "DDIM"));
    assert_true(settings_set(s, NULL, "CFG scale", "%g", 7.5));
    assert_true(settings_set(s, NULL, "Seed", "%llu", 18446744073709551615ull));
}

static void test_write(void **state)
{
    (void)state;
    settings s = {0};
    char *text;
    fill(&s, "a photo of a dog", "blurry, dark");
    assert_true(settings_set(&s, NULL, "Model", "pocket, \"v1\""));
    assert_true(settings_set(&s, NULL, "Model hash", "0123456789"));
    assert_true(settings_set(&s, NULL, "Note", "two\nlines\tand \\ a\x01"));
    assert_true(settings_set(&s, NULL, "Steps", "20")); /* keeps its place */
    assert_true(settings_write(&text, &s, NULL));
    assert_string_equal(text,
                        "a photo of a dog\n"
                        "Negative prompt: blurry, dark\n"
                        "Steps: 20, Sampler: DDIM, CFG scale: 7.5, Seed: 18446744073709551615, "
                        "Model: \"pocket, \\\"v1\\\"\", Model hash: 0123456789, "
                        "Note: \"two\\nlines\\tand \\\\ a\\u0001\"");
    free(text);
    settings_close(&s);

    fill(&s, NULL, "");
    assert_true(settings_write(&text, &s, NULL));
    assert_string_equal(text,
                        "Steps: 50, Sampler: DDIM, CFG scale: 7.5, Seed: 18446744073709551615");
    free(text);
    settings_close(&s);
}

static void check_round_trip(const char *prompt, const char *negative, const char *value)
{
    settings s = {0}, back;
    char *text;
    fill(&s, prompt, negative);
    assert_true(settings_set(&s, NULL, "Extra key-1/2", "%s", value));
    assert_true(settings_set(&s, NULL, "Version", "likeness"));
    assert_true(settings_write(&text, &s, NULL));
    assert_true(settings_parse(&back, text, NULL));
    assert_string_equal(back.prompt, prompt);
    assert_string_equal(back.negative, negative);
    assert_int_equal(back.count, s.count);
    for (size_t i = 0; i < s.count; i++) {
        assert_string_equal(back.list[i].key, s.list[i].key);
        assert_string_equal(back.list[i].value, s.list[i].value);
    }
    free(text);
    settings_close(&s);
    settings_close(&back);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "a dog",
        "one, two: three",
        "two\nlines",
        "a\n\n\nb",
        "Steps: 20, Sampler: x, Seed: 3",
        "he said \"no\"",
        "\"quoted\"",
        "\"",
        "\"\"",
        "\\",
        "ends with \\",
        "\\\"",
        "\\n",
        "tab\there",
        "r\xC3\xA9sum\xC3\xA9 \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E \xF0\x9F\x90\xB6",
        "{\"json\": [1, 2]}",
        "<lora:name:0.8>",
        "(a:1.2), [b]",
        "100%",
        "%s%n",
        "a\x01z",
        ":",
        ",",
        ",,,",
        ": ,",
        "C:\\new",
        "Size: 5",
        "key: \"a\\",
        "not Negative prompt: this",
        "Negative prompt: this",
        "a\n Negative prompt:this ",
        "bad \xFF\xC3 bytes",
    };
    size_t count = sizeof texts / sizeof *texts;
    for (size_t i = 0; i < count; i++) {
        check_round_trip(texts[i], "", "v");
        check_round_trip("p", texts[i], "v");
        check_round_trip(texts[i], texts[count - 1 - i], texts[i]);
    }
    check_round_trip("p", "", " spaces at both ends ");
    check_round_trip("p", "", "\xC2\xA0 other spaces\xE3\x80\x80");
    check_round_trip("p", "", "\r\n");
}

/* Pairs as key=value; of a text's settings. */
static void check_parse(const char *text, const char *prompt, const char *negative,
                        const char *pairs)
{
    settings s;
    char joined[1000] = "";
    size_t used = 0;
    assert_true(settings_parse(&s, text, NULL));
    assert_string_equal(s.prompt, prompt);
    assert_string_equal(s.negative, negative);
    for (size_t i = 0; i < s.count; i++)
        used += (size_t)snprintf(joined + used, sizeof joined - used, "%s%s=%s", i ? "|" : "",
                                 s.list[i].key, s.list[i].value);
    assert_string_equal(joined, pairs);
    settings_close(&s);
}

static void test_parse(void **state)
{
    (void)state;
    check_parse("", "", "", "");
    check_parse("  \n\n ", "", "", "");
    check_parse("a dog", "a dog", "", "");
    check_parse("a dog\nSteps: 20, Sampler: Euler a, Seed: 965400086, Size: 512x768, "
                "Model hash: 45dee52b",
                "a dog", "",
                "Steps=20|Sampler=Euler a|Seed=965400086|Size-1=512|Size-2=768|"
                "Model hash=45dee52b");
    /* two pairs are no settings */
    check_parse("a dog\nSteps: 20, Sampler: Euler a", "a dog\nSteps: 20, Sampler: Euler a", "", "");
    /* settings alone; keys begin at their first letter, are two or more long; the last one wins */
    check_parse("Steps: 1, x: 2, -ab: 3, , cd/: 4, Steps: 5", "", "", "Steps=5|ab=3|cd/=4");
    /* lines are stripped; from the mark on they are the negative prompt's */
    check_parse(" a \n  b\nNegative prompt:c \n d\nNegative prompt: e\nAb: 1, Cd: 2, Ef: 3", "a\nb",
                "c\nd\ne", "Ab=1|Cd=2|Ef=3");
    /* no value: not read; quotes with nothing in them: the empty text */
    check_parse("Ab: , Cd: \"\", Ef: 3", "", "", "Cd=|Ef=3");
    /* quotes that close too early or never are part of a value that ends at a comma */
    check_parse("Ab: \"x\"y, Cd: \"z, Ef: 3", "", "", "Ab=\"x\"y|Cd=\"z|Ef=3");
    check_parse("Ab: \"a, b: c\", Cd: \"\\\"\\u00e9\\ud83d\\udc36\\/\", Ef: \"\\q\"", "", "",
                "Ab=a, b: c|Cd=\"\xC3\xA9\xF0\x9F\x90\xB6/|Ef=\"\\q\"");
    /* half a pair and U+0000 have no place in UTF-8 and C's strings */
    check_parse("Ab: \"\\ud83d\", Cd: \"\\u0000\", Ef: \"\\u00\"", "", "",
                "Ab=\xEF\xBF\xBD|Cd=\xEF\xBF\xBD|Ef=\"\\u00\"");
    /* a value may hold colons; words of any script are keys */
    check_parse("Hashes: {a: b}, \xC3\x89t\xC3\xA9: 1, Size: 5x, Wide: x5, Both: 1x2x3", "", "",
                "Hashes={a: b}|\xC3\x89t\xC3\xA9=1|Size=5x|Wide=x5|Both=1x2x3");
    /* the prompts themselves can stand among the settings */
    check_parse("q\nPrompt: \"a, b\", Negative prompt: c, Steps: 3", "a, b", "c", "Steps=3");
}

static void test_get(void **state)
{
    (void)state;
    settings s;
    assert_true(settings_parse(&s, "Steps: 1, Seed: 2, Size: 3x4", NULL));
    assert_string_equal(settings_get(&s, "Seed"), "2");
    assert_string_equal(settings_get(&s, "Size-2"), "4");
    assert_null(settings_get(&s, "Size"));
    settings_close(&s);
}

/* A line made to be slow to search. */
static void test_long(void **state)
{
    (void)state;
    size_t n = 1 << 20;
    char *text = malloc(n + 1);
    settings s;
    assert_non_null(text);
    static const char *const patterns[] = {"a", "a ", "\"", "a:", "aa:\"", "\\", " ", "a,"};
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        size_t length = strlen(patterns[p]);
        for (size_t i = 0; i < n; i++) text[i] = patterns[p][i % length];
        text[n] = '\0';
        assert_true(settings_parse(&s, text, NULL));
        settings_close(&s);
    }
    free(text);
}

static bool write_and_read(error *e)
{
    settings s = {0}, back = {0};
    char *text = NULL;
    bool ok = settings_prompt(&s, "a", "b", e);
    for (int i = 0; ok && i < 40; i++) {
        char key[16];
        snprintf(key, sizeof key, "Key %d", i);
        ok = settings_set(&s, e, key, "%s", i % 2 ? "a, b" : "3x4");
    }
    ok = ok && settings_write(&text, &s, e) && settings_parse(&back, text, e);
    free(text);
    settings_close(&s);
    settings_close(&back);
    return ok;
}

static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    bool struck = true;
    for (long n = 0; struck; n++) {
        error e = {0};
        allocation_fail_at(n);
        bool ok = write_and_read(&e);
        struck = allocation_fail_end();
        assert_int_equal(ok, !struck);
        if (struck) assert_int_equal(e.code, ERROR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_parse), cmocka_unit_test(test_get),
        cmocka_unit_test(test_long),  cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
