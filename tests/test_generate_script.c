/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of prompts in AUTOMATIC1111's syntax: what is made of texts against
 * fixtures/prompts.json (made in other words by tools/fixtures/prompts.py), and that pictures of
 * the toy are what they must equal, bit for bit, whichever way a prompt says it. */
#include "foreign.h"
#include "support.h"

#include <jansson.h>

#include "generate/prompts/chunks.h"
#include "generate/prompts/emphasis.h"
#include "generate/generate.h"
#include "toy.h"

enum { STEPS = 4, LATENT = 4 * 16 * 16 };

static device *cpu;
static model *toy;
static generator *own;

static json_t *rows(json_t **file, const char *key)
{
    json_error_t why;
    *file = json_load_file(fixture_path("prompts.json"), JSON_ALLOW_NUL, &why);
    if (!*file) fail_msg("%s", why.text);
    json_t *list = json_object_get(*file, key);
    assert_true(json_array_size(list) > 10);
    return list;
}

static const char *text_at(const json_t *list, size_t i)
{
    return json_string_value(json_array_get(list, i));
}

static double number_at(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

/* ---- texts ---- */

static void test_weights(void **state)
{
    (void)state;
    json_t *file, *list = rows(&file, "weights");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *wanted = json_array_get(row, 1);
        emphasis got;
        error e = {0};
        if (!emphasis_read(&got, text_at(row, 0), &e)) fail_msg("%s: %s", text_at(row, 0), e.text);
        print_message("%s\n", text_at(row, 0));
        assert_int_equal(got.count, json_array_size(wanted));
        for (int k = 0; k < got.count; k++) {
            const json_t *run = json_array_get(wanted, (size_t)k);
            assert_string_equal(got.run[k].text, text_at(run, 0));
            assert_true(got.run[k].weight == number_at(run, 1));
        }
        emphasis_close(&got);
    }
    json_decref(file);
}

static void test_edits(void **state)
{
    (void)state;
    json_t *file, *list = rows(&file, "edits");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *wanted = json_array_get(row, 2);
        edits got;
        error e = {0};
        print_message("%s\n", text_at(row, 0));
        assert_true(edits_read(&got, text_at(row, 0), (int)number_at(row, 1), 0, &e));
        assert_int_equal(got.count, json_array_size(wanted));
        for (int k = 0; k < got.count; k++) {
            const json_t *row_of = json_array_get(wanted, (size_t)k);
            assert_int_equal(got.item[k].until, (int)number_at(row_of, 0));
            assert_string_equal(got.item[k].text, text_at(row_of, 1));
        }
        edits_close(&got);
    }
    json_decref(file);
}

/* The text of evaluation `until` is the one before the change: the first is evaluation 0. */
static void test_evaluations(void **state)
{
    (void)state;
    edits got;
    error e = {0};
    assert_true(edits_read(&got, "[a:b:3]", 10, 0, &e));
    for (int i = 0; i < 10; i++) assert_int_equal(edits_at(&got, i), i > 3);
    assert_int_equal(edits_at(&got, 12), 1);
    edits_close(&got);
}

static void test_scripts(void **state)
{
    (void)state;
    json_t *file, *list = rows(&file, "scripts");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *wanted = json_array_get(row, 1);
        script got;
        error e = {0};
        print_message("%s\n", text_at(row, 0));
        assert_true(script_open(&got, text_at(row, 0), "x AND y:2 # z", 3, 0, &e));
        assert_int_equal(got.conditions, json_array_size(wanted));
        for (int k = 0; k < got.conditions; k++) {
            const json_t *part = json_array_get(wanted, (size_t)k);
            assert_true(got.part[1 + k].weight == (float)number_at(part, 0));
            assert_string_equal(got.part[1 + k].texts.item[0].text, text_at(part, 1));
        }
        assert_string_equal(got.part[0].texts.item[0].text, "x AND y:2 \n");
        script_close(&got);
    }
    json_decref(file);
}

/* [[value, how many]] against so many numbers. */
static void check_run(const json_t *runs, const int32_t *ids, const float *weights, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i);
        for (int k = 0; k < (int)number_at(run, 1); k++, at++) {
            assert_true(at < n);
            if (ids)
                assert_int_equal(ids[at], (int)number_at(run, 0));
            else
                assert_true(weights[at] == (float)number_at(run, 0));
        }
    }
    assert_int_equal(at, n);
}

static void test_chunks(void **state)
{
    (void)state;
    enum { LENGTH = 77 };
    tokenizer *t = NULL;
    error e = {0};
    assert_true(tokenizer_open(&t, SOURCE_DIR "/models/pocket/tokenizer", &e));
    json_t *file, *list = rows(&file, "chunks");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *wanted = json_array_get(row, 1);
        chunks got;
        print_message("%s\n", text_at(row, 0));
        assert_true(chunks_make(&got, t, LENGTH, text_at(row, 0), &e));
        assert_int_equal(got.count, json_array_size(wanted));
        for (int k = 0; k < got.count; k++) {
            const json_t *chunk = json_array_get(wanted, (size_t)k);
            check_run(json_array_get(chunk, 0), got.ids + k * LENGTH, NULL, LENGTH);
            check_run(json_array_get(chunk, 1), NULL, got.weight + k * LENGTH, LENGTH);
        }
        chunks_close(&got);
    }
    json_decref(file);
    tokenizer_close(&t);
}

/* A word of several vectors stays in one chunk. */
static void test_placeholder(void **state)
{
    (void)state;
    tokenizer *t = NULL;
    error e = {0};
    int32_t first, second, third;
    assert_true(tokenizer_open(&t, SOURCE_DIR "/models/pocket/tokenizer", &e) &&
                tokenizer_add(t, "<sks>", &first, &e) && tokenizer_add(t, "<sks>_1", &second, &e) &&
                tokenizer_add(t, "<sks>_2", &third, &e));
    chunks got;
    assert_true(chunks_make(&got, t, 8, "a dog a dog <sks>", &e));
    assert_int_equal(got.count, 2);
    assert_int_equal(got.ids[5], tokenizer_token(t, "<|endoftext|>"));
    assert_int_equal(got.ids[8 + 1], first);
    assert_int_equal(got.ids[8 + 2], second);
    assert_int_equal(got.ids[8 + 3], third);
    chunks_close(&got);
    tokenizer_close(&t);
}

/* Capital letters or small ones, in the word or the prompt: all vectors. */
static void test_placeholder_case(void **state)
{
    (void)state;
    static const char *const prompts[] = {"a QQX dog", "a qqx dog", "a Qqx dog"};
    tokenizer *t = NULL;
    error e = {0};
    int32_t first, second;
    assert_true(tokenizer_open(&t, SOURCE_DIR "/models/pocket/tokenizer", &e) &&
                tokenizer_add(t, "QQX", &first, &e) && tokenizer_add(t, "QQX_1", &second, &e));
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        chunks got;
        assert_true(chunks_make(&got, t, 8, prompts[i], &e));
        assert_int_equal(got.ids[2], first);
        assert_int_equal(got.ids[3], second);
        assert_int_equal(got.ids[4], tokenizer_token(t, "dog</w>"));
        chunks_close(&got);
    }
    tokenizer_close(&t);
}

/* ---- bad input ---- */

static void refuse(const char *prompt, const char *words)
{
    script s;
    error e = {0};
    emphasis runs;
    bool ok = script_open(&s, prompt, "", 10, 0, &e);
    if (ok) script_close(&s);
    ok = ok && emphasis_read(&runs, prompt, &e);
    if (ok) emphasis_close(&runs);
    assert_false(ok);
    if (!strstr(e.text, words)) fail_msg("\"%s\" is not in: %s", words, e.text);
}

static void test_bad_texts(void **state)
{
    (void)state;
    enum { MANY = SCRIPT_BYTES + 1 };
    char *text = malloc(MANY + 1);
    refuse("(a:1.2.3)", "weight \"1.2.3\" is no number; (word:1.3) is right");
    refuse("(a:.)", "weight \".\" is no number");
    refuse("a:9999999999999999999999999999999999999999", "is too large");
    text[0] = 0;
    for (int i = 0; i <= SCRIPT_PARTS; i++) strcat(text, "a AND ");
    refuse(text, "more than 32 parts joined by AND");
    memset(text, 'a', MANY);
    text[MANY] = 0;
    refuse(text, "the prompt has 32769 bytes; at most 32768 are taken");
    free(text);
}

/* As deep as a prompt can be: no stack is left, and text that is not closed is text. */
static void test_deep(void **state)
{
    (void)state;
    enum { DEEP = 8000 };
    char *text = malloc(4 * DEEP + 2);
    edits got;
    emphasis runs;
    error e = {0};
    memset(text, '[', DEEP);
    text[DEEP] = 'a';
    for (int i = 0; i < DEEP; i++) memcpy(text + DEEP + 1 + 3 * i, ":2]", 3);
    text[4 * DEEP + 1] = 0;
    assert_true(edits_read(&got, text, 5, 0, &e));
    assert_int_equal(got.count, 2);
    assert_string_equal(got.item[0].text, "");
    assert_string_equal(got.item[1].text, "a");
    edits_close(&got);
    text[DEEP] = 0;
    assert_true(edits_read(&got, text, 5, 0, &e) && emphasis_read(&runs, text, &e));
    assert_int_equal(got.count, 1);
    assert_string_equal(got.item[0].text, text);
    assert_string_equal(runs.run[0].text, "");
    edits_close(&got);
    emphasis_close(&runs);
    free(text);
}

/* ---- pictures ---- */

static generate_options options(const char *prompt, const char *negative)
{
    return (generate_options){.prompt = prompt,
                              .negative = negative,
                              .seed = 7,
                              .guidance = 4,
                              .syntax = PROMPT_A1111,
                              .sampler = {.kind = SAMPLER_DDIM, .steps = STEPS}};
}

/* The last latent, malloc'ed. */
static float *run(const generate_options *o)
{
    generate_result r;
    error e = {0};
    if (!generator_run(own, o, &r, &e)) fail_msg("%s: %s", o->prompt, e.text);
    float *last = r.final;
    r.final = NULL;
    generate_result_free(&r);
    return last;
}

static float *run_text(const char *prompt, const char *negative)
{
    generate_options o = options(prompt, negative);
    return run(&o);
}

static double difference(const char *a, const char *b)
{
    float *x = run_text(a, "c"), *y = run_text(b, "c");
    double off = relative_error(x, y, LATENT);
    free(x);
    free(y);
    return off;
}

static void test_same_pictures(void **state)
{
    (void)state;
    generate_options plain = options("ab cd", "c");
    plain.syntax = PROMPT_PLAIN;
    float *x = run_text("ab cd", "c"), *y = run(&plain);
    assert_memory_equal(x, y, LATENT * sizeof *x);
    free(x);
    free(y);
    assert_true(difference("(ab:1) cd", "ab cd") == 0);
    assert_true(difference("[ab cd:ef:4]", "ab cd") == 0);
    assert_true(difference("[ef:ab cd:0]", "ab cd") == 0);
    assert_true(difference("ab cd <lora:x:0.5># ef", "ab cd ") == 0);
    assert_true(difference("ab cd:1", "ab cd") == 0);
    /* twice half of it is once all of it, but for rounding; and texts repeated for their length */
    assert_true(difference("ab cd:0.5 AND ab cd:0.5", "ab cd") < 1e-5);
    assert_true(difference("ab cd AND [ef:gh:2]:0", "ab cd") < 1e-5);
}

static void test_other_pictures(void **state)
{
    (void)state;
    static const char *const others[] = {
        "(ab:1.5) cd", "[ab|ef] cd",     "ab BREAK cd",       "ab cd AND ef",
        "ab cd:0.5",   "[ab:ef:0.5] cd", "[ab cd:ef gh:0.3]", "ab cd, ab cd, ab cd, ab cd"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        print_message("%s: %g\n", others[i], difference(others[i], "ab cd"));
        assert_true(difference(others[i], "ab cd") > 1e-5);
    }
    assert_true(difference("ab cd ef gh ij kl mn op qr st uv", "ab cd ef gh ij kl mn op") > 1e-4);
}

/* A change in mid-run is the first part of one run and the rest of another. */
static generate_snapshot *kept;
static void keep(void *user, const generate_snapshot *s)
{
    if (s->step == *(const int *)user) kept = generate_snapshot_copy(s);
}

static void test_gone_on_from(void **state)
{
    (void)state;
    int at = 3;
    /* evaluations 0 to 2 have the first text: the third step is the last with it */
    generate_options whole = options("[ab:ef:2] cd", "[c|d]"), first = options("ab cd", "[c|d]");
    float *wanted = run(&whole);
    first.reached = keep;
    first.user = &at;
    free(run(&first));
    assert_non_null(kept);
    generate_options rest = whole;
    rest.from = kept;
    float *got = run(&rest);
    assert_memory_equal(got, wanted, LATENT * sizeof *got);
    free(got);
    free(kept);
    whole.reached = keep;
    whole.user = &at;
    free(run(&whole));
    rest.from = kept;
    got = run(&rest);
    assert_memory_equal(got, wanted, LATENT * sizeof *got);
    free(got);
    free(wanted);
    free(kept);
}

/* Pictures in one evaluation have the bytes that they have alone, under several conditions too. */
static void test_together(void **state)
{
    (void)state;
    enum { PICTURES = 3 };
    generate_options o[PICTURES];
    generate_result r[PICTURES];
    error e = {0};
    for (int k = 0; k < PICTURES; k++) {
        o[k] = options("(ab:1.3) AND [cd|ef]:0.5 AND gh", "c");
        o[k].seed = (uint64_t)k;
        assert_true(generate_alike(&o[0], &o[k]));
    }
    assert_true(generator_run_together(&own, 1, NULL, o, PICTURES, r, &e));
    for (int k = 0; k < PICTURES; k++) {
        float *alone = run(&o[k]);
        assert_memory_equal(alone, r[k].final, LATENT * sizeof *alone);
        free(alone);
        generate_result_free(&r[k]);
    }
    o[1].prompt = "ab";
    assert_false(generate_alike(&o[0], &o[1]));
    o[1] = o[0];
    o[1].syntax = PROMPT_PLAIN;
    assert_false(generate_alike(&o[0], &o[1]));
}

/* A mix of a model with itself is it, whatever the prompt does. */
static void test_mixed(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b"}, *const mixes[] = {"a x2, b rest", "a|b",
                                                                     "0.5*a+0.5*b"};
    generate_options o = options("(ab:1.3) AND [cd:ef, ab ab ab ab ab ab ab ab:2]:0.5", "[c|d]");
    float *wanted = run(&o);
    generator *both[2] = {own, NULL};
    error e = {0};
    assert_true(generator_open(&both[1], cpu, toy, &e));
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        mix m;
        generate_result r;
        assert_true(mix_parse(&m, mixes[i], names, 2, STEPS, &e));
        if (!generator_run_mixed(both, 2, &m, &o, &r, &e)) fail_msg("%s", e.text);
        assert_true(relative_error(r.final, wanted, LATENT) < 1e-5);
        generate_result_free(&r);
        mix_close(&m);
    }
    free(wanted);
    generator_close(&both[1]);
}

/* Without guidance one text of weight 1 is asked for alone, others with the negative prompt. */
static void test_unguided(void **state)
{
    (void)state;
    generate_options o = options("ab", "c"), p = options("ab:2", "c"), q = options("ab", "c");
    o.guidance = p.guidance = 1;
    q.guidance = 2;
    float *x = run(&o), *y = run(&p), *z = run(&q);
    assert_true(relative_error(x, y, LATENT) > 1e-4);
    assert_true(relative_error(y, z, LATENT) < 1e-5);
    free(x);
    free(y);
    free(z);
}

static void fails(const char *prompt, const char *negative, const char *words)
{
    generate_options o = options(prompt, negative);
    generate_result r;
    error e = {0};
    assert_false(generator_run(own, &o, &r, &e));
    if (!strstr(e.text, words)) fail_msg("\"%s\" is not in: %s", words, e.text);
    free(run_text("ab", "c")); /* as if nothing had been */
}

static void test_bad_prompts(void **state)
{
    (void)state;
    char no[1200] = "", yes[1200] = "";
    for (int i = 0; i < 23; i++) strcat(no, "a BREAK ");
    for (int i = 0; i < 24; i++) strcat(yes, "b BREAK ");
    strcat(yes, "b");
    fails("(ab:1.2.3)", "c", "is no number");
    fails("ab", "(c:.)", "is no number");
    fails("(ab:999999999999999999999999999999999999999)", "c",
          "the prompt's weights give NaN or infinity; choose some nearer to 1");
    fails("a \xff b", "c", "UTF-8");
    fails(yes, no, "25 and 23 chunks of 14 tokens, too many together; shorten one of them");
    free(run_text("", ""));
    free(run_text("a \\", "]"));
}

static void test_notes(void **state)
{
    (void)state;
    char *notes = NULL;
    error e = {0};
    generate_options o = options("(ab:1.3) <lora:dog:0.5>", "");
    assert_true(generator_check(own, &o, &notes, &e));
    assert_string_equal(notes, "<lora:dog:0.5> is left out: the model was not opened with it\n");
    free(notes);
    toy->lora_hashes = strdup("cat: 0123, dog: 4567");
    o.prompt = "a <lora:dog:0.5> # <lora:bird:1>";
    assert_true(generator_check(own, &o, &notes, &e));
    assert_null(notes);
    free(toy->lora_hashes);
    toy->lora_hashes = NULL;
}

static int setup(void **state)
{
    (void)state;
    char path[300];
    error e = {0};
    snprintf(path, sizeof path, "%s/toy", scratch_dir());
    bool ok = toy_stable_diffusion(path, &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 1}, &e) &&
              model_open(&toy, path, NULL, NULL, &e) && generator_open(&own, cpu, toy, &e);
    if (!ok) print_error("%s\n", e.text);
    return ok ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    generator_close(&own);
    model_close(&toy);
    device_close(&cpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_evaluations),
        cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_placeholder),
        cmocka_unit_test(test_placeholder_case),
        cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_same_pictures),
        cmocka_unit_test(test_other_pictures),
        cmocka_unit_test(test_gone_on_from),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_unguided),
        cmocka_unit_test(test_bad_prompts),
        cmocka_unit_test(test_notes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
