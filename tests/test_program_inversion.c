/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_inversion: likeness train --textual_inversion as a user runs it: what it leaves,
 * that
 * --embedding reads it, resuming byte for byte, and bad input. Its losses are
 * test_train_inversion's business. */
#include <stdlib.h>

#include "file/safetensors.h"
#include "program.h"
#include "support.h"
#include "toy.h"

#define SUBJECT SOURCE_DIR "/examples/subject"
#define FILE_NAME "learned_embeds.safetensors"

enum { POCKET_HIDDEN = 160 }; /* the pocket model's text encoder's */

static char toy_path[300];

#define TRAIN(out, ...)                                                                            \
    likeness("train", "-m", toy_path, "-t", "2", "--instance_data_dir", SUBJECT, "--output_dir",   \
             out, "--seed", "5", "--train_batch_size", "2", "--textual_inversion", __VA_ARGS__,    \
             NULL)
#define WORD "--placeholder_token", "<new>", "--initializer_token", "a"

static void picture(const char *prompt, const char *embedding, const char *out)
{
    likeness("generate", "-m", toy_path, "-p", prompt, "-t", "1", "-s", "5", "--steps", "4", "-o",
             out, embedding ? "--embedding" : NULL, embedding, NULL);
    done();
}

/* What it leaves is read back: the new word's picture is not that of the word that it was. */
static void test_run(void **state)
{
    (void)state;
    safetensors s;
    error e = {0};
    TRAIN("run", WORD, "--num_vectors", "2", "--max_train_steps", "4", "--checkpointing_steps", "2",
          "--learning_rate", "0.3");
    done();
    assert_string_equal(last.out, "run/" FILE_NAME "\n");
    says(last.err, "the trained word <new>");
    assert_true(exists("run/checkpoint-2/" FILE_NAME) && exists("run/train.jsonl"));
    assert_false(exists("run/model_index.json") || exists("run/checkpoint-2/unet"));
    if (!safetensors_open(&s, in_folder("run/" FILE_NAME), &e)) fail_msg("%s", e.text);
    assert_int_equal(s.count, 1);
    assert_string_equal(s.entry[0].name, "<new>");
    assert_true(s.entry[0].rank == 2 && s.entry[0].dim[0] == 2 && s.entry[0].dim[1] == 32);
    safetensors_close(&s);
    likeness("inspect", "run/" FILE_NAME, NULL);
    done();
    says(last.out, "a textual inversion, to be given with --embedding");
    likeness("inspect", "run", NULL);
    done();
    says(last.out, "a textual inversion, to be given with --embedding FOLDER/" FILE_NAME);
    picture("<new>", "run/" FILE_NAME, "new.png");
    picture("a a", NULL, "old.png");
    assert_false(same_pixels("new.png", "old.png"));
}

/* Before it is trained, the word is the one that it begins as. */
static void test_begins(void **state)
{
    (void)state;
    TRAIN("still", WORD, "--max_train_steps", "1", "--learning_rate", "1e-30");
    done();
    picture("<new>", "still/" FILE_NAME, "still.png");
    picture("a", NULL, "a.png");
    assert_true(same_pixels("still.png", "a.png"));
}

/* 4 updates at once, and 2 + 2, leave the same bytes. */
static void resume_check(const char *name, const char *a, const char *b, const char *c)
{
    char whole[40], parts[40];
    snprintf(whole, sizeof whole, "%s-whole", name);
    snprintf(parts, sizeof parts, "%s-parts", name);
    TRAIN(whole, WORD, "--checkpointing_steps", "2", "--max_train_steps", "4", a, b, c);
    done();
    TRAIN(parts, WORD, "--checkpointing_steps", "2", "--max_train_steps", "2", a, b, c);
    done();
    TRAIN(parts, WORD, "--checkpointing_steps", "2", "--max_train_steps", "4",
          "--resume_from_checkpoint", "latest", a, b, c);
    done();
    says(last.err, "going on from");
    static const char of_checkpoint[] = "checkpoint-4/" FILE_NAME;
    static const char *const files[] = {FILE_NAME, of_checkpoint,
                                        "checkpoint-4/optimizer.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) same_in(whole, parts, files[i]);
}

static void test_resume(void **state)
{
    (void)state;
    resume_check("plain", "--num_vectors", "3", NULL);
    resume_check("eight", "--use_8bit_adam", "--gradient_accumulation_steps", "2");
    TRAIN("kept", WORD, "--max_train_steps", "2");
    done();
    TRAIN("recomputed", WORD, "--max_train_steps", "2", "--gradient_checkpointing");
    done();
    same_in("kept", "recomputed", FILE_NAME);
}

/* ---- bad input ---- */

/* An embedding may take an ordinary word's place, and says so. */
static void test_ordinary_word(void **state)
{
    (void)state;
    error e = {0};
    static float row[POCKET_HIDDEN];
    const safetensors_entry word = {.name = "emb_params",
                                    .rank = 2,
                                    .dim = {1, POCKET_HIDDEN},
                                    .data = row,
                                    .bytes = sizeof row};
    assert_true(safetensors_write(in_folder("row.safetensors"), &word, 1, NULL, 0, &e));
#define POCKET(embedding)                                                                          \
    likeness("generate", "-m", "pocket", "-p", "a dog <x>", "-W", "32", "-H", "32", "--steps",     \
             "1", "-o", "word.png", "--overwrite", "--embedding", embedding, NULL)
    POCKET("dog=row.safetensors");
    done();
    says(last.err, "warning: the model had the word dog, and an embedding is in its place now");
    POCKET("<x>=row.safetensors");
    done();
    assert_null(strstr(last.err, "warning"));
}

static void refuses(int status, const char *words)
{
    failed(status, words);
    assert_false(exists("bad"));
}

static void test_bad(void **state)
{
    (void)state;
    char ddpm[300];
    error e = {0};
    TRAIN("bad", "--placeholder_token", "a", "--initializer_token", "a");
    refuses(2, "--placeholder_token a: the model's tokenizer has a already; choose another word");
    /* "dog</w>" of a vocabulary that has words */
    likeness("train", "-m", SOURCE_DIR "/models/pocket", "--instance_data_dir", SUBJECT,
             "--output_dir", "bad", "--textual_inversion", "--placeholder_token", "dog",
             "--initializer_token", "cat", NULL);
    refuses(2, "--placeholder_token dog: the model's tokenizer has that word already");
    TRAIN("bad", "--placeholder_token", "<new>", "--initializer_token", "a dog");
    refuses(2, "tokens, not one; give a shorter or more usual word");
    TRAIN("bad", "--placeholder_token", "<new>", "--initializer_token", " ");
    refuses(2, "is 0 tokens, not one");
    TRAIN("bad", "--initializer_token", "a");
    refuses(2, "--textual_inversion needs --placeholder_token");
    TRAIN("bad", WORD, "--num_vectors", "0");
    refuses(2, "--num_vectors must be at least 1, not 0");
    TRAIN("bad", WORD, "--num_vectors", "15");
    refuses(2, "--num_vectors 15 is more than the 14 tokens that the model reads");
    TRAIN("bad", WORD, "--repeats", "2000000000");
    refuses(2, "--repeats 2000000000 of 5 pictures is too much; 100 is usual");
    TRAIN("bad", WORD, "--learnable_property", "thing");
    refuses(2, "--learnable_property thing: there are object, style");
    TRAIN("bad", WORD, "--lora_rank", "4");
    refuses(2, "--textual_inversion is not trained with --lora_rank; leave one of them out");
    TRAIN("bad", WORD, "--train_text_encoder");
    refuses(2, "--textual_inversion is not trained with --train_text_encoder");
    TRAIN("bad", WORD, "--with_prior_preservation", "--class_data_dir", "c", "--class_prompt", "d");
    refuses(2, "--textual_inversion is not trained with --with_prior_preservation");
    TRAIN("bad", WORD, "--prior_from_base", "--class_prompt", "d");
    refuses(2, "--textual_inversion is not trained with --prior_from_base");
    TRAIN("bad", WORD, "--validation_prompt", "d");
    refuses(2, "--textual_inversion is not trained with --validation_prompt");
    TRAIN("bad", WORD, "--instance_prompt", "d");
    refuses(2, "--textual_inversion is not trained with --instance_prompt");
    TRAIN("bad", WORD, "--optimizer_precision", "fp16");
    refuses(2, "--textual_inversion is not trained with --optimizer_precision fp16");
    likeness("train", "-m", toy_path, "--instance_data_dir", SUBJECT, "--instance_prompt", "a dog",
             "--output_dir", "bad", WORD, NULL);
    refuses(2, "are for --textual_inversion; give that too");
    static const char *const alone[] = {"--num_vectors", "--repeats"};
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        likeness("train", "-m", toy_path, "--instance_data_dir", SUBJECT, "--instance_prompt",
                 "a dog", "--output_dir", "bad", alone[i], "4", NULL);
        refuses(2, "are for --textual_inversion; give that too");
    }
    TRAIN("bad", WORD, "--lora_alpha", "3");
    refuses(2, "--textual_inversion is not trained with --lora_alpha");
    TRAIN("bad", WORD, "--output_kohya_format");
    refuses(2, "--textual_inversion is not trained with --output_kohya_format");
    snprintf(ddpm, sizeof ddpm, "%s/ddpm", folder);
    if (!toy_unconditional(ddpm, &e)) fail_msg("%s", e.text);
    likeness("train", "-m", ddpm, "--instance_data_dir", SUBJECT, "--textual_inversion", WORD,
             "--output_dir", "bad", NULL);
    refuses(1, "is an unconditional model");
    TRAIN("too-fast", WORD, "--max_train_steps", "50", "--learning_rate", "1e38");
    assert_int_equal(last.status, 1);
    says(last.err, "training stopped with the weights of step");
    assert_false(exists("too-fast/" FILE_NAME));
}

/* A folder belongs to the run that it was begun with. */
static void test_folders(void **state)
{
    (void)state;
    TRAIN("own", WORD, "--max_train_steps", "2", "--checkpointing_steps", "1");
    done();
    TRAIN("own", "--placeholder_token", "<other>", "--initializer_token", "a", "--max_train_steps",
          "4", "--resume_from_checkpoint", "latest");
    failed(2, "was made with --placeholder_token \"<new>\", this run has \"<other>\"");
    TRAIN("own", WORD, "--learnable_property", "style", "--max_train_steps", "4",
          "--resume_from_checkpoint", "latest");
    failed(2, "was made with --learnable_property \"object\", this run has \"style\"");
}

static int setup(void **state)
{
    (void)state;
    error e = {0};
    unsetenv("LIKENESS_MODELS");
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy_path, sizeof toy_path, "%s/toy", folder);
    if (!toy_stable_diffusion(toy_path, &e)) {
        print_error("%s\n", e.text);
        return -1;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),     cmocka_unit_test(test_begins),
        cmocka_unit_test(test_resume),  cmocka_unit_test(test_bad),
        cmocka_unit_test(test_folders), cmocka_unit_test(test_ordinary_word),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
