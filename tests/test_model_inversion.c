/* SPDX-License-Identifier: Apache-2.0
 *
 * Textual inversions in a toy: their words become tokens with the file's rows, several rows one
 * word; what is none, fits not, or is there already is refused in one line. */
#include "layout.h"

#include "model/inversion.h"
#include "model/save.h"
#include "model/write.h"

static char base[200];

static int set_up(void **state)
{
    (void)state;
    char folder[300];
    snprintf(base, sizeof base, "%s", scratch_dir());
    snprintf(folder, sizeof folder, "%s/toy", base);
    layout_write(folder, "new", false, NULL);
    return 0;
}

static model *toy(void)
{
    model *m;
    error e = {0};
    char folder[300];
    snprintf(folder, sizeof folder, "%s/toy", base);
    check(model_open(&m, folder, NULL, NULL, &e), &e);
    return m;
}

static const char *in_base(const char *name)
{
    static char path[4][300];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", base, name);
    return path[turn];
}

/* A file of one tensor [rows, width], or [width] where rows is 0. */
static void write_rows(const char *file, const char *name, int64_t rows, int64_t width, float *data)
{
    error e = {0};
    int64_t n = rows ? rows : 1;
    fill_random(data, (size_t)(n * width), 5 + (uint32_t)strlen(name));
    safetensors_entry t = {.name = name,
                           .rank = rows ? 2 : 1,
                           .dim = {rows ? rows : width, width},
                           .data = data,
                           .bytes = (uint64_t)(n * width) * sizeof *data};
    check(safetensors_write(in_base(file), &t, 1, NULL, 0, &e), &e);
}

static void expect_row(const model *m, int32_t id, const float *row)
{
    const weight *w = weight_find(&m->clip_weights, "text_model.embeddings.token_embedding.weight");
    assert_int_equal(w->type, DTYPE_F32);
    assert_int_equal(w->dim[0], m->clip.vocab);
    assert_true(id < m->clip.vocab);
    assert_memory_equal((const float *)w->data + 12 * id, row, 12 * sizeof *row);
}

static void words(void **state)
{
    (void)state;
    static float one[12], two[24], own[12];
    int32_t ids[8], plain[8];
    error e = {0};
    model *m = toy();
    int vocab = m->clip.vocab, size = tokenizer_vocab_size(m->tokens);
    const float *old = weight_find(&m->clip_weights, "text_model.embeddings.token_embedding.weight")
                           ->data;
    float first[12];
    memcpy(first, old, sizeof first);
    check(tokenizer_encode_prompt(m->tokens, "dog cat", 8, plain, NULL, &e), &e);
    write_rows("a.safetensors", "<Sks>", 0, 12, one);
    write_rows("quux.v2.safetensors", "emb_params", 2, 12, two);
    write_rows("b.safetensors", "ignored", 1, 12, own);
    const inversion_choice list[] = {{in_base("a.safetensors"), NULL},
                                     {in_base("quux.v2.safetensors"), NULL},
                                     {in_base("b.safetensors"), "xyzzy"}};
    check(model_add_inversions(m, list, 3, &e), &e);
    assert_true(m->clip.vocab >= vocab && m->clip.vocab >= size + 4);
    check(tokenizer_encode_prompt(m->tokens, "<sks> dog", 8, ids, NULL, &e), &e);
    assert_int_equal(ids[1], size);
    assert_int_equal(ids[2], plain[1]);
    expect_row(m, ids[1], one);
    check(tokenizer_encode_prompt(m->tokens, "quux.v2 xyzzy", 8, ids, NULL, &e), &e);
    assert_int_equal(ids[1], size + 1);
    assert_int_equal(ids[2], size + 2);
    assert_int_equal(ids[3], size + 3);
    expect_row(m, ids[1], two);
    expect_row(m, ids[2], two + 12);
    expect_row(m, ids[3], own);
    expect_row(m, 0, first);
    check(tokenizer_encode_prompt(m->tokens, "dog cat", 8, ids, NULL, &e), &e);
    assert_memory_equal(ids, plain, sizeof ids);
    assert_int_equal(strlen(m->inversion_hashes),
                     strlen("<Sks>: 0123456789ab, quux.v2: 0123456789ab, xyzzy: 0123456789ab"));
    assert_false(model_save(m, in_base("saved"), NULL, NULL, &e));
    assert_non_null(strstr(e.text, "has textual inversions added to it (<Sks>: "));
    error single = {0};
    assert_false(model_write_single(m, NULL, in_base("saved.safetensors"), NULL, &single));
    assert_string_equal(single.text, e.text);
    model_close(&m);
}

/* A tensor alone has no name in its file; the file's is the word. */
static void bare(void **state)
{
    (void)state;
    float row[12];
    int32_t ids[8];
    error e = {0};
    model *m = toy();
    int32_t size = tokenizer_vocab_size(m->tokens);
    for (int i = 0; i < 12; i++) row[i] = (float)i / 8;
    const inversion_choice list[] = {{fixture_path("torch/bare.pt"), NULL}};
    check(model_add_inversions(m, list, 1, &e), &e);
    check(tokenizer_encode_prompt(m->tokens, "bare", 8, ids, NULL, &e), &e);
    assert_int_equal(ids[1], size);
    expect_row(m, size, row);
    assert_int_equal(strncmp(m->inversion_hashes, "bare: ", 6), 0);
    model_close(&m);
}

static void refused(const inversion_choice *list, size_t count, const char *part)
{
    model *m = toy();
    error e = {0};
    if (model_add_inversions(m, list, count, &e)) fail_msg("taken, though: %s", part);
    if (!strstr(e.text, part) || strchr(e.text, '\n')) fail_msg("'%s': %s", e.text, part);
    model_close(&m);
}

static void refusals(void **state)
{
    (void)state;
    static float data[2048];
    write_rows("a.safetensors", "<sks>", 1, 12, data);
    refused(
        (inversion_choice[]){{in_base("a.safetensors"), NULL}, {in_base("a.safetensors"), NULL}}, 2,
        "has a token \"<sks>\" already; give it another name (WORD=FILE)");
    refused((inversion_choice[]){{in_base("a.safetensors"), "<|endoftext|>"}}, 1, "already");
    write_rows("b.safetensors", "<sks>", 1, 13, data);
    refused((inversion_choice[]){{in_base("b.safetensors"), NULL}}, 1,
            "is 13 wide, this model's is 12");
    write_rows("b.safetensors", "<sks>", 80, 12, data);
    refused((inversion_choice[]){{in_base("b.safetensors"), NULL}}, 1, "80 vectors; 1 to 75 fit");
    refused((inversion_choice[]){{in_base("a.safetensors"), ""}}, 1, "there is no word");
    write_rows("b.safetensors", "clip_g", 1, 12, data);
    refused((inversion_choice[]){{in_base("b.safetensors"), NULL}}, 1, "Stable Diffusion XL");
    refused((inversion_choice[]){{fixture_path("torch/zip.pt"), NULL}}, 1, "it holds 15 tensors");
    refused((inversion_choice[]){{fixture_path("torch/embedding.pt"), NULL}}, 1,
            "is 4 wide, this model's is 12");
    write_rows("c.safetensors", "<nan>", 1, 12, data);
    data[3] = NAN;
    error e = {0};
    safetensors_entry t = {
        .name = "<nan>", .rank = 1, .dim = {12}, .data = data, .bytes = 12 * sizeof *data};
    check(safetensors_write(in_base("c.safetensors"), &t, 1, NULL, 0, &e), &e);
    refused((inversion_choice[]){{in_base("c.safetensors"), NULL}}, 1, "a NaN or an infinity");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(words), cmocka_unit_test(bare),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
