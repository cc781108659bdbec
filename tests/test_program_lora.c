/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_lora: likeness train --lora_rank as a user runs it: what it leaves, that --lora
 * reads it, resuming byte for byte, and bad input. Its losses are test_train_losses' business. */
#include <stdlib.h>

#include "file/safetensors.h"
#include "program.h"
#include "support.h"
#include "toy.h"

#define SUBJECT SOURCE_DIR "/examples/subject"
#define FILE_NAME "pytorch_lora_weights.safetensors"
#define KOHYA_NAME "pytorch_lora_weights_kohya.safetensors"

static char toy_path[300];

#define TRAIN(model, out, ...)                                                                     \
    likeness("train", "-m", model, "-t", "2", "--instance_data_dir", SUBJECT, "--instance_prompt", \
             "a photo of sks dog", "--output_dir", out, "--seed", "5", "--train_batch_size", "2",  \
             __VA_ARGS__, NULL)

static void has_tensor(const char *file, const char *name, int64_t rows, int64_t columns)
{
    safetensors s;
    error e = {0};
    if (!safetensors_open(&s, in_folder(file), &e)) fail_msg("%s", e.text);
    const safetensors_entry *t = safetensors_find(&s, name);
    if (!t) fail_msg("%s: %s is missing", file, name);
    assert_int_equal(t->type, DTYPE_F32);
    assert_int_equal(t->rank, columns ? 2 : 0);
    if (columns) assert_true(t->dim[0] == rows && t->dim[1] == columns);
    safetensors_close(&s);
}

/* ---- what it leaves ---- */

static void test_run(void **state)
{
    (void)state;
    TRAIN(toy_path, "run", "--rank", "4", "--lora_alpha", "8", "--train_text_encoder",
          "--output_kohya_format", "--max_train_steps", "4", "--checkpointing_steps", "2",
          "--validation_prompt", "a dog", "--num_validation_images", "1", "--validation_steps",
          "4");
    done();
    assert_string_equal(last.out, "run/" FILE_NAME "\n");
    says(last.err, "the trained LoRA");
    likeness("inspect", "run", NULL);
    done();
    says(last.out, "a LoRA, to be given with --lora FOLDER/" FILE_NAME);
    likeness("generate", "-m", "run", "-p", "a", "-o", "bad.png", NULL);
    failed(1, "run: this is a LoRA, not a model: give the model with -m, and this with --lora");
    assert_true(exists("run/checkpoint-2/" FILE_NAME) && exists("run/train.jsonl"));
    assert_true(exists("run/validation/step-000004-0.png"));
    assert_false(exists("run/model_index.json") || exists("run/checkpoint-2/unet"));
    has_tensor("run/" FILE_NAME,
               "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora.down.weight",
               4, 32);
    has_tensor("run/" FILE_NAME,
               "text_encoder.text_model.encoder.layers.1.self_attn.out_proj.lora_linear_layer.up."
               "weight",
               32, 4);
    has_tensor(
        "run/" KOHYA_NAME,
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_up.weight", 32,
        4);
    has_tensor("run/" KOHYA_NAME, "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha", 0,
               0);
}

/* --lora makes of either file the picture that the trainer made of its own weights beside the
 * base's: alpha, names and matrices are what they were. */
static void test_read_back(void **state)
{
    (void)state;
    TRAIN(toy_path, "strong", "--lora_rank", "4", "--lora_alpha", "8", "--train_text_encoder",
          "--output_kohya_format", "--max_train_steps", "6", "--learning_rate", "3e-2",
          "--validation_prompt", "a dog", "--num_validation_images", "1", "--validation_steps",
          "6");
    done();
    likeness("generate", "-m", toy_path, "-p", "a dog", "-t", "1", "-s", "5", "--sampler", "ddim",
             "--lora", "strong/" FILE_NAME, "-o", "ours.png", NULL);
    done();
    likeness("generate", "-m", toy_path, "-p", "a dog", "-t", "1", "-s", "5", "--sampler", "ddim",
             "--lora", "strong/" KOHYA_NAME, "-o", "kohya.png", NULL);
    done();
    likeness("generate", "-m", toy_path, "-p", "a dog", "-t", "1", "-s", "5", "--sampler", "ddim",
             "-o", "base.png", NULL);
    done();
    assert_true(same_pixels("ours.png", "strong/validation/step-000006-0.png"));
    assert_true(same_pixels("kohya.png", "ours.png"));
    assert_false(same_pixels("base.png", "ours.png"));
}

/* ---- resuming ---- */

/* 6 updates at once, and 3 + 3, leave the same bytes. */
static void resume_check(const char *name, const char *a, const char *b, const char *c)
{
    char whole[40], parts[40];
    snprintf(whole, sizeof whole, "%s-whole", name);
    snprintf(parts, sizeof parts, "%s-parts", name);
    TRAIN(toy_path, whole, "--lora_rank", "4", "--checkpointing_steps", "3", "--max_train_steps",
          "6", a, b, c);
    done();
    TRAIN(toy_path, parts, "--lora_rank", "4", "--checkpointing_steps", "3", "--max_train_steps",
          "3", a, b, c);
    done();
    TRAIN(toy_path, parts, "--lora_rank", "4", "--checkpointing_steps", "3",
          "--resume_from_checkpoint", "latest", "--max_train_steps", "6", a, b, c);
    done();
    says(last.err, "going on from");
    static const char of_checkpoint[] = "checkpoint-6/" FILE_NAME;
    static const char *const files[] = {FILE_NAME, of_checkpoint,
                                        "checkpoint-6/optimizer.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) same_in(whole, parts, files[i]);
}

static void test_resume(void **state)
{
    (void)state;
    resume_check("text", "--train_text_encoder", "--gradient_checkpointing", NULL);
    resume_check("eight", "--use_8bit_adam", "--gradient_accumulation_steps", "2");
    resume_check("prior", "--prior_from_base", "--class_prompt", "a dog");
}

/* Gradient checkpointing computes the same again. */
static void test_checkpointing(void **state)
{
    (void)state;
    TRAIN(toy_path, "kept", "--lora_rank", "2", "--max_train_steps", "3");
    done();
    TRAIN(toy_path, "recomputed", "--lora_rank", "2", "--max_train_steps", "3",
          "--gradient_checkpointing");
    done();
    same_in("kept", "recomputed", FILE_NAME);
}

/* ---- bad input ---- */

static void refuses(int status, const char *words, const char *out)
{
    failed(status, words);
    assert_false(exists(out));
}

static void test_bad(void **state)
{
    (void)state;
    char ddpm[300];
    error e = {0};
    TRAIN(toy_path, "bad", "--lora_rank", "0");
    refuses(2, "--lora_rank must be at least 1, not 0; 4 is usual", "bad");
    TRAIN(toy_path, "bad", "--lora_rank", "33");
    refuses(2, "--lora_rank 33 is more than down_blocks.1.attentions.0.transformer_blocks.0.attn1",
            "bad");
    TRAIN(toy_path, "bad", "--lora_alpha", "3");
    refuses(2, "are for --lora_rank; give that too", "bad");
    TRAIN(toy_path, "bad", "--output_kohya_format");
    refuses(2, "are for --lora_rank; give that too", "bad");
    TRAIN(toy_path, "bad", "--lora_rank", "4", "--lora_alpha", "-1");
    refuses(2, "--lora_alpha must be a number above 0, not -1", "bad");
    TRAIN(toy_path, "bad", "--lora_rank", "4", "--lora_dropout", "0.1");
    refuses(2, "--lora_dropout: a LoRA is trained without dropout", "bad");
    TRAIN(toy_path, "bad", "--lora_rank", "4", "--use_dora");
    refuses(2, "--use_dora: DoRA is not trained", "bad");
    snprintf(ddpm, sizeof ddpm, "%s/ddpm", folder);
    if (!toy_unconditional(ddpm, &e)) fail_msg("%s", e.text);
    TRAIN(ddpm, "bad", "--lora_rank", "4");
    refuses(1, "is an unconditional model; DreamBooth needs one that takes a prompt", "bad");
    TRAIN(toy_path, "too-fast", "--lora_rank", "4", "--max_train_steps", "50", "--learning_rate",
          "1e30");
    assert_int_equal(last.status, 1);
    says(last.err, "training stopped with the weights of step");
    assert_false(exists("too-fast/" FILE_NAME));
}

/* A folder belongs to the run that it was begun with. */
static void test_folders(void **state)
{
    (void)state;
    TRAIN(toy_path, "own", "--lora_rank", "4", "--max_train_steps", "2", "--checkpointing_steps",
          "1");
    done();
    TRAIN(toy_path, "own", "--lora_rank", "8", "--max_train_steps", "4", "--resume_from_checkpoint",
          "latest");
    failed(2, "was made with --lora_rank 4, this run has 8");
    TRAIN(toy_path, "own", "--lora_rank", "4", "--lora_alpha", "1", "--max_train_steps", "4",
          "--resume_from_checkpoint", "latest");
    failed(2, "was made with --lora_alpha 4.0, this run has 1.0");
    TRAIN(toy_path, "own", "--max_train_steps", "2");
    failed(2, "was made with --learning_rate 0.0005");
    TRAIN(toy_path, "own", "--max_train_steps", "2", "--learning_rate", "5e-4");
    failed(2, "was made with --lora_rank 4, this run has 0");
    TRAIN(toy_path, "full", "--max_train_steps", "1", "--learning_rate", "5e-4");
    done();
    TRAIN(toy_path, "full", "--lora_rank", "4", "--max_train_steps", "1");
    failed(2, "was made with --lora_rank 0, this run has 4");
    TRAIN(toy_path, "own", "--lora_rank", "4", "--lora_alpha", "4", "--max_train_steps", "3",
          "--resume_from_checkpoint", "latest"); /* what it was by default */
    done();
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
        cmocka_unit_test(test_run),    cmocka_unit_test(test_read_back),
        cmocka_unit_test(test_resume), cmocka_unit_test(test_checkpointing),
        cmocka_unit_test(test_bad),    cmocka_unit_test(test_folders),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
