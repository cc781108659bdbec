/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer against transformers' ids (rows made with it) with OpenAI's vocabulary, which lies
 * outside the repository; and its framing, its two file forms and its refusals with the pocket
 * model's. */
#include "support.h"

#include <unistd.h>

#include "base/platform.h"
#include "file/json.h"
#include "model/tokenizer.h"

enum { FRAME = 77, START = 49406, END = 49407 };

typedef struct row {
    const char *text;
    int count;
    int32_t ids[24];
} row;

static const row rows[] = {
    {"a photo of an astronaut riding a horse on mars",
     10,
     {320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496}},
    {"a photo of sks dog", 5, {320, 1125, 539, 48136, 1929}},
    {"it's 2024!! don't", 9, {585, 568, 273, 271, 273, 275, 748, 847, 713}},
    {"hello   world\t!", 3, {3306, 1002, 256}},
    {"a_b-c", 5, {320, 318, 321, 268, 322}},
    {"I'M here", 3, {328, 880, 763}},
    {"naïve café, 日本語 🐶", 9, {1097, 35689, 563, 15304, 267, 39121, 44353, 34002, 508, /* + */}},
    {"résumé naïve 日本語 🐶 don’t",
     15,
     {29106, 7054, 4166, 1097, 35689, 563, 39121, 44353, 34002, 508, 10631, 847, 728, 503, 339}},
    {"I'M here should've", 5, {328, 880, 763, 1535, 1200}},
    {"a <|endoftext|> b", 3, {320, 49407, 321}},
    {"Ünïcødé １２３ ½ ² ⅷ x_y", 24, {6522,  77,    35689, 66,  17483, 67,  4166, 171,
                                      120,   495,   171,   120, 496,   171, 120,  497,
                                      33613, 41175, 158,   227, 371,   343, 318,  344}},
    {"\xef\xac\x81ne ligature", 5, {171, 105, 223, 1422, 19915 /* + 4490 */}},
    {"İstanbul ẞ ß ΑΣ Σ", 11, {328, 16384, 11231, 127, 509, 127, 509, 138, 109, 139, 481 /* + */}},
    {"a\xc2\xa0"
     "b\xe2\x80\x8b"
     "c\xef\xbb\xbf"
     "d\xe3\x80\x80"
     "e",
     9,
     {320, 321, 9844, 322, 171, 119, 379, 323, 324}},
    {"e\xcc\x81 \xe1\x84\x80\xe1\x85\xa1", 3, {4166, 21122, 478}},
    /* beyond the golden file, from transformers 5.24 */
    {"<|ENDOFTEXT|>!", 7, {27, 347, 40786, 4160, 91, 285, 256}},
    {"!<|ENDOFTEXT|>!!", 8, {0, 27, 347, 40786, 4160, 91, 29, 748}},
    {"a<|endoftext|>b", 3, {320, 49407, 321}},
    {"  <|startoftext|>  hi  ", 2, {49406, 1883}},
    {"<|endoftext|<|endoftext|>", 6, {27, 347, 40786, 4160, 347, 49407}},
    {"'S 'LL don'T !'s '", 7, {568, 1342, 847, 713, 13222, 338, 262}},
    {"'re're 'd'", 4, {982, 982, 1896, 262}},
    {"\xc2\x85"
     "a\x1c"
     "b",
     3,
     {320, 472, 321}},
    {"1½x²ⅷ٣", 9, {272, 33613, 343, 41175, 158, 227, 371, 149, 352}},
    {"ﬁ Å \xe2\x84\xab", 7, {171, 105, 479, 127, 354, 127, 354}},
    {" ", 0, {0}},
    {"", 0, {0}},
};

/* A folder with CLIP's merges.txt (and, if whole, its vocab.json); NULL where there is none. */
static const char *clip_folder(bool whole)
{
    const char *shared = shared_path("data/clip-tokenizer"),
               *fetched = SOURCE_DIR "/models/clip-tokenizer";
    return shared ? shared : !whole && path_is_dir(fetched) ? fetched : NULL;
}

static tokenizer *open_clip(void)
{
    const char *folder = clip_folder(false);
    if (!folder) skip();
    error e = {0};
    tokenizer *t;
    double before = clock_seconds();
    if (!tokenizer_open(&t, folder, &e)) fail_msg("%s", e.text);
    print_message("vocabulary of 49408 loaded in %.0f ms\n", 1e3 * (clock_seconds() - before));
    assert_int_equal(tokenizer_vocab_size(t), 49408);
    return t;
}

/* Rows whose ids continue past the list are compared as far as it goes, but must not be shorter. */
static void check_row(const tokenizer *t, const row *r)
{
    int32_t ids[FRAME];
    error e = {0};
    if (!tokenizer_encode(t, r->text, FRAME, ids, NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(ids[0], START);
    for (int i = 0; i < r->count; i++)
        if (ids[1 + i] != r->ids[i])
            fail_msg("\"%s\": id %d is %d, should be %d", r->text, i, ids[1 + i], r->ids[i]);
    assert_int_equal(ids[FRAME - 1], END);
}

static void ids_equal_transformers(void **state)
{
    (void)state;
    tokenizer *t = open_clip();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_row(t, &rows[i]);
    int32_t ids[FRAME];
    error e = {0};
    assert_true(tokenizer_encode(t, "", FRAME, ids, NULL, &e));
    for (int i = 1; i < FRAME; i++) assert_int_equal(ids[i], END);
    static const row tails[] = {
        /* the ends of the rows cut above */
        {"🐶", 1, {10631}},
        {"\xef\xac\x81ne ligature", 6, {171, 105, 223, 1422, 19915, 4490}},
        {"ΑΣ Σ", 6, {138, 109, 139, 481, 139, 481}},
    };
    for (size_t i = 0; i < 3; i++) check_row(t, &tails[i]);
    tokenizer_close(&t);
    assert_null(t);
}

/* The 49,408 words out of the merges alone, as vocab.json has them. */
static void clip_vocabulary_follows_from_its_merges(void **state)
{
    (void)state;
    const char *folder = clip_folder(true), *alone = scratch_dir();
    char command[700];
    error e = {0};
    tokenizer *t;
    if (!folder) skip();
    snprintf(command, sizeof command, "cp %s/merges.txt %s", folder, alone);
    assert_int_equal(system(command), 0);
    if (!tokenizer_open(&t, alone, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_row(t, &rows[i]);
    char *path = path_join(folder, "vocab.json");
    json_t *wanted = json_read(path, JSON_LIMIT, &e), *vocab = tokenizer_vocab(t);
    assert_non_null(wanted);
    assert_int_equal(json_object_size(wanted), 49408);
    assert_true(json_equal(vocab, wanted));
    json_decref(vocab);
    json_decref(wanted);
    free(path);
    tokenizer_close(&t);
}

static tokenizer *open_pocket(void)
{
    error e = {0};
    tokenizer *t;
    if (!tokenizer_open(&t, SOURCE_DIR "/models/pocket/tokenizer", &e)) fail_msg("%s", e.text);
    return t;
}

static void a_small_vocabulary_uses_its_own_ids(void **state)
{
    (void)state;
    tokenizer *t = open_pocket();
    int32_t ids[32];
    error e = {0};
    assert_int_equal(tokenizer_vocab_size(t), 4072);
    assert_true(tokenizer_encode(t, "a photo of sks dog", 32, ids, NULL, &e));
    assert_int_equal(ids[0], 4070);
    assert_int_equal(ids[31], 4071);
    tokenizer_close(&t);
}

static void what_does_not_fit_is_given_back(void **state)
{
    (void)state;
    tokenizer *t = open_pocket();
    int32_t ids[8];
    char *cut;
    error e = {0};
    assert_true(tokenizer_encode(t, "a a a a a a", 8, ids, &cut, &e));
    assert_null(cut);
    assert_true(tokenizer_encode(t, "a a A a a a  B  c", 8, ids, &cut, &e));
    assert_string_equal(cut, "b c");
    free(cut);
    assert_int_equal(ids[7], 4071);
    assert_true(tokenizer_encode(t, "a a a a a 日", 8, ids, &cut, &e));
    assert_string_equal(cut, "日"); /* bytes of one sign are not torn apart in the message */
    free(cut);
    tokenizer_close(&t);
}

static void bad_text_is_refused(void **state)
{
    (void)state;
    tokenizer *t = open_pocket();
    int32_t ids[32];
    static const char *const bad[] = {"caf\xe9", "\xed\xa0\x80", "\xc0\xaf", "a\xf5", "a\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error e = {0};
        assert_false(tokenizer_encode(t, bad[i], 32, ids, NULL, &e));
        assert_int_equal(e.code, ERROR_USAGE);
        assert_non_null(strstr(e.text, "UTF-8"));
    }
    char *big = malloc(40001);
    memset(big, 'a', 40000);
    big[40000] = 0;
    error e = {0};
    assert_false(tokenizer_encode(t, big, 32, ids, NULL, &e));
    assert_non_null(strstr(e.text, "40000 bytes"));
    big[32000] = 0; /* a single word this long is slow work, but bounded */
    assert_true(tokenizer_encode(t, big, 32, ids, NULL, &e));
    free(big);
    tokenizer_close(&t);
}

/* Words added to the tokenizer, in every way that files have it. */
static void added_words_equal_transformers(void **state)
{
    (void)state;
    error e = {0};
    const char *form;
    json_t *forms = json_read(fixture_path("model/tokenizer/ids.json"), JSON_LIMIT, &e), *rows_of,
           *one;
    if (!forms) fail_msg("%s", e.text);
    json_object_foreach(forms, form, rows_of)
    {
        char folder[100];
        size_t k;
        tokenizer *t;
        snprintf(folder, sizeof folder, "model/tokenizer/%s", form);
        if (!tokenizer_open(&t, fixture_path(folder), &e)) fail_msg("%s", e.text);
        json_array_foreach(rows_of, k, one)
        {
            const json_t *wanted = json_object_get(one, "ids");
            const char *text = json_string_value(json_object_get(one, "text"));
            int32_t ids[32];
            assert_int_equal(json_array_size(wanted), 32);
            assert_true(tokenizer_encode(t, text, 32, ids, NULL, &e));
            for (size_t i = 0; i < 32; i++)
                if (ids[i] != (int32_t)json_integer_value(json_array_get(wanted, i)))
                    fail_msg("%s: \"%s\": id %zu is %d, should be %d", form, text, i, (int)ids[i],
                             (int)json_integer_value(json_array_get(wanted, i)));
        }
        tokenizer_close(&t);
    }
    json_decref(forms);
}

/* A placeholder of several vectors is written out in prompts for pictures, and not in training's.
 */
static void placeholders_are_written_out(void **state)
{
    (void)state;
    error e = {0};
    tokenizer *t;
    int32_t whole[16], by_hand[16];
    char *cut;
    assert_true(tokenizer_open(&t, fixture_path("model/tokenizer/encoder"), &e));
    assert_true(tokenizer_encode_prompt(t, "a <sks-dog> on <sks-dog>", 16, whole, NULL, &e));
    assert_true(tokenizer_encode(t, "a <sks-dog> <sks-dog>_1 on <sks-dog> <sks-dog>_1", 16, by_hand,
                                 NULL, &e));
    assert_memory_equal(whole, by_hand, sizeof whole);
    assert_true(tokenizer_encode(t, "a <sks-dog> on <sks-dog>", 16, by_hand, NULL, &e));
    assert_memory_not_equal(whole, by_hand, sizeof whole);
    assert_true(tokenizer_encode_prompt(t, "a a <sks-dog>", 5, whole, &cut, &e));
    assert_string_equal(cut, "<sks-dog>_1");
    free(cut);
    tokenizer_close(&t);
}

/* diffusers' conversion finds words as they were found in the prompt, which is in small letters:
 * a word with a capital one is its first vector alone. */
static void capital_placeholders(void **state)
{
    (void)state;
    error e = {0};
    tokenizer *t;
    int32_t ids[8], first, second;
    assert_true(tokenizer_open(&t, fixture_path("model/tokenizer/encoder"), &e));
    assert_true(tokenizer_add(t, "QQX", &first, &e) && tokenizer_add(t, "QQX_1", &second, &e));
    assert_true(tokenizer_encode_prompt(t, "QQX", 8, ids, NULL, &e));
    assert_true(ids[1] == first && ids[2] != second);
    assert_true(tokenizer_encode_prompt(t, "qqx", 8, ids, NULL, &e));
    assert_true(ids[1] == first && ids[2] != second);
    tokenizer_close(&t);
}

static const char *path_of(const char *folder, const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *folder, const char *name, const char *text)
{
    FILE *f = fopen(path_of(folder, name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define SMALL_VOCAB "{\"a\":0,\"b</w>\":1,\"ab</w>\":2,\"<|startoftext|>\":3,\"<|endoftext|>\":4"

static void both_file_forms_are_read(void **state)
{
    (void)state;
    const char *folder = scratch_dir();
    int32_t ids[4];
    error e = {0};
    tokenizer *t;
    write_file(folder, "vocab.json", SMALL_VOCAB "}");
    write_file(folder, "merges.txt", "#version: 0.2\na b</w>\n");
    assert_true(tokenizer_open(&t, folder, &e));
    assert_true(tokenizer_encode(t, "AB ab", 4, ids, NULL, &e));
    assert_memory_equal(ids, ((int32_t[]){3, 2, 2, 4}), sizeof ids);
    tokenizer_close(&t);
    static const char *const merges[] = {"[\"a\",\"b</w>\"]", "\"a b</w>\""};
    for (int i = 0; i < 2; i++) {
        char text[600];
        snprintf(text, sizeof text,
                 "{\"added_tokens\":[{\"id\":4,\"content\":\"<|endoftext|>\"}],\"model\":"
                 "{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",\"vocab\":" SMALL_VOCAB
                 "},\"merges\":"
                 "[%s]}}",
                 merges[i]);
        write_file(folder, "tokenizer.json", text);
        write_file(folder, "tokenizer_config.json", "{\"pad_token\":{\"content\":\"b</w>\"}}");
        assert_true(tokenizer_open(&t, folder, &e));
        assert_true(tokenizer_encode(t, "ab", 4, ids, NULL, &e));
        assert_memory_equal(ids, ((int32_t[]){3, 2, 4, 1}), sizeof ids);
        tokenizer_close(&t);
    }
}

static void expect_refusal(const char *folder, const char *part)
{
    error e = {0};
    tokenizer *t;
    assert_false(tokenizer_open(&t, folder, &e));
    assert_null(t);
    if (!strstr(e.text, part)) fail_msg("\"%s\" does not say \"%s\"", e.text, part);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    const char *folder = scratch_dir();
    expect_refusal(folder, "no tokenizer there");
    write_file(folder, "merges.txt", "#version: 0.2\na b</w>\n");
    expect_refusal(folder,
                   "holds 1 merges; without a vocab.json beside them they must be CLIP's 48894");
    write_file(folder, "vocab.json", "[1]");
    expect_refusal(folder, "should be a JSON object");
    write_file(folder, "vocab.json", "{}");
    expect_refusal(folder, "has no vocabulary");
    write_file(folder, "vocab.json", "{\"a\":\"x\"}");
    expect_refusal(folder, "token \"a\" has no valid id");
    write_file(folder, "vocab.json", "{\"a\":0,");
    expect_refusal(folder, "not valid JSON");
    write_file(folder, "vocab.json", "{\"a\":0,\"b</w>\":1,\"ab</w>\":2}");
    expect_refusal(folder, "lacks <|startoftext|>");
    write_file(folder, "vocab.json", SMALL_VOCAB "}");
    write_file(folder, "merges.txt", "a b</w>\na c\n");
    expect_refusal(folder, "merge 2 (\"a\" \"c\") names a token");
    write_file(folder, "merges.txt", "ab\n");
    expect_refusal(folder, "merge 1 is not a pair");
    write_file(folder, "tokenizer.json", "{\"model\":{\"type\":\"Unigram\"}}");
    expect_refusal(folder, "is not CLIP's tokenizer");
    unlink(path_of(folder, "tokenizer.json"));
    write_file(folder, "merges.txt", "a b</w>\n");
    write_file(folder, "added_tokens.json", "{\"<dog>\":5,\"<cat>\":7}");
    expect_refusal(
        folder,
        "the added token \"<cat>\" has id 7, where its row in the text encoder should be 6");
    write_file(folder, "added_tokens.json", "{\"ab</w>\":5}");
    expect_refusal(folder, "should be 2, as in the vocabulary");
    write_file(folder, "added_tokens.json", "{\"<dog>\":\"5\"}");
    expect_refusal(folder, "the added token \"<dog>\" has no valid id");
    write_file(folder, "tokenizer_config.json",
               "{\"added_tokens_decoder\":{\"5x\":{\"content\":\"<dog>\"}}}");
    expect_refusal(folder, "the added token \"<dog>\" has no valid id");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_equal_transformers),
        cmocka_unit_test(clip_vocabulary_follows_from_its_merges),
        cmocka_unit_test(a_small_vocabulary_uses_its_own_ids),
        cmocka_unit_test(what_does_not_fit_is_given_back),
        cmocka_unit_test(bad_text_is_refused),
        cmocka_unit_test(added_words_equal_transformers),
        cmocka_unit_test(placeholders_are_written_out),
        cmocka_unit_test(capital_placeholders),
        cmocka_unit_test(both_file_forms_are_read),
        cmocka_unit_test(bad_files_are_refused),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
