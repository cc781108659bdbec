/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_train: likeness train as a user runs it: what it leaves, resuming bit for bit, kills
 * at any moment, NaN, full disks, and every kind of bad input. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/random.h"
#include "file/image.h"
#include "model/save.h"
#include "program.h"
#include "support.h"
#include "toy.h"

#define SUBJECT SOURCE_DIR "/examples/subject"
#define CLASS SOURCE_DIR "/tests/fixtures/train/class"
#define POCKET SOURCE_DIR "/models/pocket"

static char toy_path[300];

/* What every run has; more words follow. */
#define TRAIN(model, out, ...)                                                                     \
    likeness("train", "-m", model, "-t", "2", "--instance_data_dir", SUBJECT, "--instance_prompt", \
             "a photo of sks dog", "--output_dir", out, "--seed", "5", "--train_batch_size", "2",  \
             "--learning_rate", "1e-3", __VA_ARGS__, NULL)

static int lines_of(const char *name)
{
    char text[MAX_TEXT];
    int n = 0;
    slurp(in_folder(name), text);
    for (const char *c = text; *c; c++) n += *c == '\n';
    return n;
}

static void remove_all(const char *name)
{
    char command[700];
    snprintf(command, sizeof command, "rm -rf %s", in_folder(name));
    assert_int_equal(system(command), 0);
}

/* ---- what it leaves ------------------------------------------------------------------------ */

static void test_run(void **state)
{
    (void)state;
    TRAIN(toy_path, "run", "--max_train_steps", "4", "--checkpointing_steps", "2",
          "--validation_prompt", "a dog", "--num_validation_images", "2", "--validation_steps", "4",
          "--with_prior_preservation", "--class_prompt", "a dog", "--class_data_dir", "made",
          "--num_class_images", "3", "--train_text_encoder");
    done();
    assert_string_equal(last.out, "run\n");
    says(last.err, "3 class pictures made");
    says(last.err, "a step takes");
    static const char *const left[] = {"run/model_index.json",
                                       "run/unet/diffusion_pytorch_model.safetensors",
                                       "run/text_encoder/model.safetensors",
                                       "run/vae/config.json",
                                       "run/train.json",
                                       "run/checkpoint-2/checkpoint.json",
                                       "run/checkpoint-4/optimizer.safetensors",
                                       "run/validation/step-000004-1.png",
                                       "made/class-0002.png",
                                       "made/manifest.json"};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        if (!exists(left[i])) fail_msg("%s is missing", left[i]);
    assert_int_equal(lines_of("run/train.jsonl"), 4);
    char text[MAX_TEXT];
    slurp(in_folder("run/train.jsonl"), text);
    says(text, "\"prior_loss\": ");
    slurp(in_folder("run/train.json"), text);
    says(text, "\"01.png\": \"");
    likeness("generate", "-m", "run", "-p", "a", "-t", "1", "--steps", "1", "-o", "x.png", NULL);
    done();
    TRAIN(toy_path, "again", "--max_train_steps", "1", "--with_prior_preservation",
          "--class_prompt", "a dog", "--class_data_dir", "made", "--num_class_images", "3");
    done();
    assert_null(strstr(last.err, "made\n"));
    TRAIN(toy_path, "another", "--max_train_steps", "1", "--with_prior_preservation",
          "--class_prompt", "a cat", "--class_data_dir", "made", "--num_class_images", "3");
    done();
    says(last.err, "warning: ");
}

static void test_limit(void **state)
{
    (void)state;
    TRAIN(toy_path, "limit", "--max_train_steps", "5", "--checkpointing_steps", "1",
          "--checkpoints_total_limit", "2");
    done();
    assert_false(exists("limit/checkpoint-3"));
    assert_true(exists("limit/checkpoint-4") && exists("limit/checkpoint-5"));
}

static void test_stray_files(void **state)
{
    (void)state;
    char command[900];
    snprintf(command, sizeof command,
             "cp -r %s %s && cd %s && mkdir .ipynb_checkpoints && "
             "touch .DS_Store notes.txt",
             SUBJECT, in_folder("stray"), in_folder("stray"));
    assert_int_equal(system(command), 0);
    likeness("train", "-m", toy_path, "--instance_data_dir", "stray", "--instance_prompt", "a",
             "--output_dir", "stray-out", "--max_train_steps", "1", "-t", "1", NULL);
    done();
    says(last.err, "warning: ");
    says(last.err, "notes.txt");
    says(last.err, "on 5 pictures");
}

static void test_prior_from_base(void **state)
{
    (void)state;
    TRAIN(toy_path, "base-prior", "--max_train_steps", "3", "--prior_from_base", "--class_prompt",
          "a dog", "--train_text_encoder");
    done();
    char text[MAX_TEXT];
    slurp(in_folder("base-prior/train.jsonl"), text);
    says(text, "\"prior_loss\": ");
    /* the base explains its own predictions: nothing is lost before the first update */
    assert_non_null(strstr(text, "\"prior_loss\": 0,"));
}

/* ---- resuming ------------------------------------------------------------------------------ */

/* 8 updates at once, and 4 + 4, leave the same bytes. */
static void resume_check(const char *base, const char *name, const char *const *more)
{
    const char *args[MAX_ARGS] = {PROGRAM,
                                  "train",
                                  "-m",
                                  base,
                                  "-t",
                                  "2",
                                  "--instance_data_dir",
                                  SUBJECT,
                                  "--instance_prompt",
                                  "a photo of sks dog",
                                  "--seed",
                                  "5",
                                  "--train_batch_size",
                                  "2",
                                  "--learning_rate",
                                  "1e-3",
                                  "--checkpointing_steps",
                                  "4",
                                  "--output_dir"};
    char straight[64], parts[64], checkpoint[2][160];
    int n = 19;
    snprintf(straight, sizeof straight, "%s-straight", name);
    snprintf(parts, sizeof parts, "%s-parts", name);
    args[n + 1] = "--max_train_steps";
    int m = n + 3;
    while (more[m - n - 3]) args[m] = more[m - n - 3], m++;
    args[n] = straight;
    args[n + 2] = "8";
    finish(start(args, 0));
    done();
    args[n] = parts;
    args[n + 2] = "4";
    finish(start(args, 0));
    done();
    args[n + 2] = "8";
    args[m] = "--resume_from_checkpoint";
    args[m + 1] = "latest";
    finish(start(args, 0));
    done();
    says(last.err, "going on from");
    same_in(straight, parts, "unet/diffusion_pytorch_model.safetensors");
    same_in(straight, parts, "text_encoder/model.safetensors");
    snprintf(checkpoint[0], sizeof checkpoint[0], "%s/checkpoint-8", straight);
    snprintf(checkpoint[1], sizeof checkpoint[1], "%s/checkpoint-8", parts);
    same_in(checkpoint[0], checkpoint[1], "optimizer.safetensors");
    char lines[100];
    snprintf(lines, sizeof lines, "%s/train.jsonl", parts);
    assert_int_equal(lines_of(lines), 8);
}

static void test_resume(void **state)
{
    (void)state;
    resume_check(toy_path, "plain", (const char *const[]){NULL});
    resume_check(toy_path, "accumulate",
                 (const char *const[]){"--gradient_accumulation_steps", "2", "--lr_scheduler",
                                       "constant_with_warmup", "--lr_warmup_steps", "6", NULL});
    resume_check(toy_path, "text",
                 (const char *const[]){"--train_text_encoder", "--offset_noise", NULL});
    resume_check(toy_path, "prior",
                 (const char *const[]){"--with_prior_preservation", "--class_prompt", "a dog",
                                       "--class_data_dir", CLASS, "--num_class_images", "7", NULL});
    resume_check(
        POCKET, "eight",
        (const char *const[]){"--use_8bit_adam", "--resolution", "64", "--no_cache_latents", NULL});
}

static bool any_checkpoint(const char *name)
{
    char command[700];
    snprintf(command, sizeof command, "ls -d %s/checkpoint-* >/dev/null 2>&1", in_folder(name));
    return system(command) == 0;
}

/* Kills at random moments: the last checkpoint stays good, and the end is that of an unbroken run.
 */
static void test_kills(void **state)
{
    (void)state;
    const char *args[] = TRAINING("--instance_prompt", "a", "--seed", "5", "--train_batch_size",
                                  "1", "--checkpointing_steps", "3", "--checkpoints_total_limit",
                                  "3", "--max_train_steps", "90", "--output_dir", "whole", NULL,
                                  NULL);
    enum { OUTPUT = 21, KILLS = 10 };
    rng r;
    rng_seed(&r, 1);
    finish(start(args, 0));
    done();
    args[OUTPUT] = "killed";
    for (int i = 0; i <= KILLS; i++) {
        bool resume = any_checkpoint("killed");
        args[OUTPUT + 1] = resume ? "--resume_from_checkpoint" : NULL;
        args[OUTPUT + 2] = resume ? "latest" : NULL;
        pid_t child = start(args, 0);
        if (i < KILLS) {
            nanosleep(&(struct timespec){0, (long)(rng_uniform(&r) * 6e8)}, NULL);
            kill(child, SIGKILL);
        }
        finish(child);
    }
    done();
    same_in("whole", "killed", "checkpoint-90/unet/diffusion_pytorch_model.safetensors");
    same_in("whole", "killed", "checkpoint-90/optimizer.safetensors");
}

static void test_interrupt(void **state)
{
    (void)state;
    const char *args[] = TRAINING("--instance_prompt", "a", "--max_train_steps", "100000",
                                  "--output_dir", "stop");
    pid_t child = start(args, 0);
    for (int i = 0; i < 3000 && (!exists("stop/train.jsonl") || !lines_of("stop/train.jsonl")); i++)
        nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
    /* a second run may not write there */
    const char *other[] = {PROGRAM,
                           "train",
                           "-m",
                           toy_path,
                           "--instance_data_dir",
                           SUBJECT,
                           "--instance_prompt",
                           "a",
                           "--output_dir",
                           "stop",
                           NULL};
    finish(start(other, 0));
    failed(1, "another run is writing there");
    kill(child, SIGINT);
    finish(child);
    assert_int_equal(last.status, 130);
    assert_true(any_checkpoint("stop"));
}

/* ---- NaN ----------------------------------------------------------------------------------- */

static void test_nan(void **state)
{
    (void)state;
    TRAIN(POCKET, "half", "--resolution", "64", "--optimizer_precision", "fp16",
          "--max_train_steps", "20", "--checkpointing_steps", "1000");
    assert_int_equal(last.status, 1);
    says(last.err, "NaN or infinity");
    says(last.err, "docs/WHY-NAN.md");
    assert_false(exists("half/model_index.json"));
    TRAIN(POCKET, "eight-bit", "--resolution", "64", "--use_8bit_adam", "--max_train_steps", "20");
    done();
    TRAIN(toy_path, "too-fast", "--max_train_steps", "500", "--learning_rate", "1e30");
    assert_int_equal(last.status, 1);
    says(last.err, "step ");
    says(last.err, "--learning_rate");
    assert_false(exists("too-fast/model_index.json"));
}

/* ---- bad input ----------------------------------------------------------------------------- */

static void bad(int status, const char *words, const char *const *more)
{
    const char *args[MAX_ARGS] = {PROGRAM, "train", "-m", toy_path, "-t", "1"};
    int n = 6;
    for (int i = 0; more[i]; i++) args[n++] = more[i];
    finish(start(args, 0));
    failed(status, words);
    assert_false(exists("bad"));
}

#define BAD(words, ...) bad(1, words, (const char *const[]){__VA_ARGS__, NULL})
#define BAD_USE(words, ...) bad(2, words, (const char *const[]){__VA_ARGS__, NULL})
#define GOOD_FLAGS "--instance_data_dir", SUBJECT, "--instance_prompt", "a", "--output_dir", "bad"

static void test_bad_flags(void **state)
{
    (void)state;
    BAD_USE("--instance_data_dir", "--instance_prompt", "a", "--output_dir", "bad");
    BAD_USE("--instance_prompt", "--instance_data_dir", SUBJECT, "--output_dir", "bad");
    BAD_USE("--output_dir", "--instance_data_dir", SUBJECT, "--instance_prompt", "a");
    BAD_USE("--class_prompt", GOOD_FLAGS, "--with_prior_preservation", "--class_data_dir", "c");
    BAD_USE("--class_data_dir", GOOD_FLAGS, "--with_prior_preservation", "--class_prompt", "c");
    BAD_USE("--learning_rate", GOOD_FLAGS, "--learning_rate", "0");
    BAD_USE("--learning_rate", GOOD_FLAGS, "--learning_rate", "-1e-5");
    BAD_USE("--resolution 33", GOOD_FLAGS, "--resolution", "33");
    BAD_USE("--train_batch_size", GOOD_FLAGS, "--train_batch_size", "0");
    BAD_USE("--max_train_steps", GOOD_FLAGS, "--max_train_steps", "-3");
    TRAIN(toy_path, "bad", "--learning_rate", "nan");
    failed(2, "--learning_rate");
    TRAIN(toy_path, "bad", "--mixed_precision", "fp16", "--device", "cpu");
    failed(2, "the processor does not compute in precision f16: use bf16");
    TRAIN(toy_path, "bad", "--mixed_precision", "fp8");
    failed(2, "--mixed_precision fp8: there are no, bf16 and fp16");
    TRAIN(toy_path, "bad", "--seed", "-4");
    failed(2, "--seed");
    BAD_USE("--max_train_steps", GOOD_FLAGS, "--max_train_steps", "0");
    BAD("memory", GOOD_FLAGS, "--resolution", "32768");
}

static void test_bad_folders(void **state)
{
    (void)state;
    error e = {0};
    BAD("no-such", "--instance_data_dir", "no-such", "--instance_prompt", "a", "--output_dir",
        "bad");
    assert_true(path_make_dir(in_folder("empty"), &e));
    BAD("empty", "--instance_data_dir", "empty", "--instance_prompt", "a", "--output_dir", "bad");
    write_file(in_folder("empty/broken.png"), "\x89PNG\r\n\x1a\n broken", 16);
    BAD("broken.png", "--instance_data_dir", "empty", "--instance_prompt", "a", "--output_dir",
        "bad");
    BAD("/proc/likeness", "--instance_data_dir", SUBJECT, "--instance_prompt", "a", "--output_dir",
        "/proc/likeness");
    likeness("train", "-m", "no-model", GOOD_FLAGS, NULL);
    failed(1, "no-model");
}

/* A batch larger than the data is one smaller batch, as in the script. */
static void test_large_batch(void **state)
{
    (void)state;
    TRAIN(toy_path, "large", "--train_batch_size", "64", "--max_train_steps", "2");
    done();
}

static void test_full_disk(void **state)
{
    (void)state;
    /* the record and the manifest fit, the weights do not */
    const char *args[] = TRAINING("--instance_prompt", "a", "--max_train_steps", "4",
                                  "--checkpointing_steps", "2", "--output_dir", "full");
    finish(start(args, 16 * 1024));
    assert_int_equal(last.status, 1);
    says(last.err, "could not be written, training goes on");
    says(last.err, "full/");
    assert_int_equal(lines_of("full/train.jsonl"), 4);
    assert_false(exists("full/checkpoint-2"));
    assert_false(exists("full/model_index.json"));
    char command[700];
    snprintf(command, sizeof command, "test -z \"$(find %s -name '.*')\"", in_folder("full"));
    assert_int_equal(system(command), 0);
}

/* As failed, where lines of a run that had begun are before it. */
static void failed_after(const char *words)
{
    char all[MAX_TEXT];
    const char *line = strstr(last.err, "likeness: ");
    if (!line) fail_msg("no such line in: %s", last.err);
    snprintf(all, sizeof all, "%s", line);
    strcpy(last.err, all);
    failed(1, words);
}

static void copy_checkpoint(void)
{
    char command[1400];
    remove_all("work");
    snprintf(command, sizeof command, "mkdir %s && cp -r %s %s", in_folder("work"),
             in_folder("source/checkpoint-2"), in_folder("work/checkpoint-2"));
    assert_int_equal(system(command), 0);
}

static void test_bad_checkpoints(void **state)
{
    (void)state;
    TRAIN(toy_path, "source", "--max_train_steps", "2", "--checkpointing_steps", "2");
    done();
#define RESUME(from, ...)                                                                          \
    TRAIN(toy_path, "work", "--max_train_steps", "4", "--resume_from_checkpoint", from, __VA_ARGS__)
    copy_checkpoint();
    RESUME("nowhere", "--lr_power", "1");
    failed(1, "nowhere");
    truncate(in_folder("work/checkpoint-2/optimizer.safetensors"), 1000);
    RESUME("latest", "--lr_power", "1");
    failed_after("has been altered");
    copy_checkpoint();
    FILE *f = fopen(in_folder("work/checkpoint-2/unet/diffusion_pytorch_model.safetensors"), "r+b");
    assert_non_null(f);
    fseek(f, -3, SEEK_END);
    fputc(77, f);
    fclose(f);
    RESUME("work/checkpoint-2", "--lr_power", "1");
    failed_after("has been altered");
    copy_checkpoint();
    write_file(in_folder("work/checkpoint-2/checkpoint.json"), "{\"step\": 2", 10);
    RESUME("latest", "--lr_power", "1");
    failed(1, "is damaged");
    copy_checkpoint();
    RESUME("latest", "--adam_beta1", "0.8");
    failed(2, "--adam_beta1 0.9,");
    RESUME("latest", "--train_text_encoder");
    failed(2, "--train_text_encoder");
    TRAIN(POCKET, "work", "--max_train_steps", "4", "--resume_from_checkpoint", "latest",
          "--resolution", "32");
    failed(2, "another base model");
    TRAIN(toy_path, "work", "--max_train_steps", "1", "--resume_from_checkpoint", "latest");
    failed(2, "2 updates already");
    likeness("train", "-m", toy_path, "-t", "2", "--instance_data_dir", CLASS, "--instance_prompt",
             "a photo of sks dog", "--output_dir", "work", "--seed", "5", "--train_batch_size", "2",
             "--learning_rate", "1e-3", "--max_train_steps", "4", "--resume_from_checkpoint",
             "latest", NULL);
    failed(2, "other pictures");
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    unsetenv("LIKENESS_MODELS");
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy_path, sizeof toy_path, "%s/toy", folder);
    if (toy_stable_diffusion(toy_path, &e)) return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

static int clean(void **state)
{
    (void)state;
    drop("x.png");
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_run),
        TEST(test_limit),
        TEST(test_stray_files),
        TEST(test_prior_from_base),
        TEST(test_resume),
        TEST(test_kills),
        TEST(test_interrupt),
        TEST(test_nan),
        TEST(test_bad_flags),
        TEST(test_bad_folders),
        TEST(test_large_batch),
        TEST(test_full_disk),
        TEST(test_bad_checkpoints),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
