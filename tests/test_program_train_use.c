/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_train_use: likeness train among what a user has: folders that hold something
 * already, flags of other programs, Ctrl-C, kills, names and numbers of every kind. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/sha256.h"
#include "program.h"
#include "support.h"
#include "toy.h"

#define SUBJECT SOURCE_DIR "/examples/subject"
#define CLASS SOURCE_DIR "/tests/fixtures/train/class"

static char toy_path[300];

/* A run of two steps; more words follow. */
#define RUN(out, ...)                                                                              \
    likeness("train", "-m", toy_path, "-t", "2", "--instance_data_dir", SUBJECT,                   \
             "--instance_prompt", "sks dog", "--output_dir", out, "--train_batch_size", "2",       \
             __VA_ARGS__, NULL)
#define SEEDED "--seed", "5", "--learning_rate", "1e-3"
#define TWO SEEDED, "--max_train_steps", "2"

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
    char words[1800], command[2100];
    va_list list;
    va_start(list, format);
    vsnprintf(words, sizeof words, format, list);
    va_end(list);
    snprintf(command, sizeof command, "cd %s && %s", folder, words);
    if (system(command) != 0) fail_msg("%s", command);
}

/* A hash of every name and byte below a folder. */
static void state_of(const char *name, char hex[65])
{
    shell("(cd '%s' && find . | sort && find . -type f | sort | xargs -r sha256sum) > state", name);
    error e = {0};
    assert_true(sha256_file(hex, in_folder("state"), &e));
}

/* The last run was refused for its usage, saying so, and the folder is as it was. */
static void refused(const char *words, const char *name, const char *before)
{
    char after[65];
    failed(2, words);
    state_of(name, after);
    assert_string_equal(before, after);
}

static int lines_of(const char *name)
{
    char text[MAX_TEXT];
    int n = 0;
    slurp(in_folder(name), text);
    for (const char *c = text; *c; c++) n += *c == '\n';
    return n;
}

static void pause_for(double seconds)
{
    nanosleep(
        &(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)},
        NULL);
}

static void wait_for(const char *name)
{
    for (int i = 0; i < 6000 && !exists(name); i++) pause_for(.005);
    if (!exists(name)) fail_msg("%s does not come", name);
}

/* ---- folders -----------------------------------------------------------------------------------
 */

static void test_own_folder(void **state)
{
    (void)state;
    char before[65];
    state_of("toy", before);
    shell("ln -s toy model-link");
    RUN("toy", TWO);
    refused("the model itself lies there", "toy", before);
    RUN("./model-link/", TWO);
    refused("the model itself lies there", "toy", before);
}

static void test_image_folders(void **state)
{
    (void)state;
    char before[65];
    shell("cp -r %s photos && ln -s photos photo-link", SUBJECT);
    state_of("photos", before);
#define WITH(photos, classes, out)                                                                 \
    likeness("train", "-m", toy_path, "-t", "1", "--instance_data_dir", photos,                    \
             "--instance_prompt", "sks dog", "--output_dir", out, "--with_prior_preservation",     \
             "--class_prompt", "a dog", "--class_data_dir", classes, "--num_class_images", "9",    \
             "--max_train_steps", "1", NULL)
    WITH("photos", "photo-link", "places");
    refused("--class_data_dir and --instance_data_dir are one folder", "photos", before);
    WITH("photos", "classes", "photos/");
    refused("the instance pictures lie there", "photos", before);
    WITH("photos", "places/", "places");
    refused("the class pictures lie there", "photos", before);
    assert_false(exists("places"));
    /* a broken class picture is found before the others are made */
    shell("mkdir classes && cp photos/01.png classes/a.png && head -c 100 photos/02.png > "
          "classes/b.png");
    WITH("photos", "classes", "places");
    failed(1, "b.png");
    assert_false(exists("places") || exists("classes/class-0000.png"));
}

/* What lies in a folder that is not a run's stays, alone. */
static void test_not_ours(void **state)
{
    (void)state;
    char before[65];
    shell("mkdir mine && echo precious > mine/precious.safetensors");
    state_of("mine", before);
    RUN("mine", TWO);
    refused("precious.safetensors lies there", "mine", before);
    /* checkpoints of another program are never taken for ours */
    shell("mkdir -p theirs/checkpoint-2 && echo state > theirs/checkpoint-2/random_states_0.pkl");
    state_of("theirs", before);
    RUN("theirs", TWO, "--checkpointing_steps", "1", "--checkpoints_total_limit", "1");
    failed(1, "is not a checkpoint of likeness train");
    RUN("theirs", TWO, "--resume_from_checkpoint", "latest");
    failed(1, "is not a checkpoint of likeness train");
    char after[65];
    state_of("theirs", after);
    assert_string_equal(before, after);
    /* a log in the folder, and its own picture folders, are no obstacle */
    shell("mkdir logged && echo > logged/train.log && cp -r %s logged/photos", SUBJECT);
    likeness("train", "-m", toy_path, "-t", "1", "--instance_data_dir", "logged/photos",
             "--instance_prompt", "sks dog", "--output_dir", "logged", "--max_train_steps", "1",
             NULL);
    done();
}

/* Another run's folder is refused by what differs; the same run may do its work again. */
static void test_other_run(void **state)
{
    (void)state;
    char before[65], again[65];
    RUN("one", TWO, "--checkpointing_steps", "1");
    done();
    state_of("one", before);
    RUN("one", SEEDED, "--max_train_steps", "2", "--lr_scheduler", "linear");
    refused("was made with --lr_scheduler \"constant\", this run has \"linear\"", "one", before);
    RUN("one", "--seed", "5", "--learning_rate", "1.5e-4", "--max_train_steps", "2");
    refused("--learning_rate 0.001, this run has 0.00015;", "one", before);
    RUN("one", SEEDED, "--max_train_steps", "3");
    refused("--max_train_steps 2, this run has 3", "one", before);
    RUN("one", TWO, "--mixed_precision", "bf16");
    refused("--mixed_precision no, this run has bf16", "one", before);
    RUN("one", "--seed", "6", "--learning_rate", "1e-3", "--max_train_steps", "2");
    refused("--seed 5, this run has 6", "one", before);
    likeness("train", "-m", toy_path, "-t", "2", "--instance_data_dir", CLASS, "--instance_prompt",
             "sks dog", "--output_dir", "one", "--train_batch_size", "2", TWO, NULL);
    refused("was made with other pictures", "one", before);
    likeness("train", "-t", "2", "--instance_data_dir", SUBJECT, "--instance_prompt", "sks dog",
             "--output_dir", "one", "--train_batch_size", "2", "--resolution", "32", TWO, NULL);
    refused("was made from another base model", "one", before);
    /* the same, wherever its pictures are and however often it saves; no seed means the run's own
     */
    shell("cp -r %s moved", SUBJECT);
    likeness("train", "-m", toy_path, "-t", "2", "--instance_data_dir", "moved",
             "--instance_prompt", "sks dog", "--output_dir", "one", "--train_batch_size", "2",
             "--learning_rate", "1e-3", "--max_train_steps", "2", "--gradient_checkpointing", NULL);
    done();
    says(last.err, "it starts anew");
    shell("sha256sum < one/unet/diffusion_pytorch_model.safetensors > a && "
          "sha256sum < one/checkpoint-2/unet/diffusion_pytorch_model.safetensors > b && cmp a b");
    state_of("one", again);
    /* gone on from, it may be longer */
    RUN("one", SEEDED, "--max_train_steps", "3", "--resume_from_checkpoint", "latest");
    done();
    assert_int_equal(lines_of("one/train.jsonl"), 3);
}

/* ---- going on ----------------------------------------------------------------------------------
 */

/* Until the run in the making has said something. */
static void wait_for_words(const char *words)
{
    char text[MAX_TEXT];
    for (int i = 0; i < 6000; i++, pause_for(.005)) {
        if (!exists("err")) continue;
        slurp(in_folder("err"), text);
        if (strstr(text, words)) return;
    }
    fail_msg("\"%s\" is not said", words);
}

/* Stops it when a file is there, and words were said (NULL: none). */
static void interrupt(const char *const *args, const char *when, const char *words)
{
    drop("err");
    pid_t child = start(args, 0);
    if (words) wait_for_words(words);
    wait_for(when);
    pause_for(.05);
    kill(child, SIGINT);
    finish(child);
    if (last.status != 130) fail_msg("status %d: %s", last.status, last.err);
}

static void wait_for_lines(const char *name, int count)
{
    for (int i = 0; i < 6000 && lines_of(name) < count; i++) pause_for(.005);
}

/* No seed is given, Ctrl-C, and the very command that the message recommends. */
static void test_no_seed(void **state)
{
    (void)state;
    const char *args[] = TRAINING("--instance_prompt", "sks dog", "--max_train_steps", "100000",
                                  "--output_dir", "seedless", "--checkpointing_steps", "5",
                                  "--checkpoints_total_limit", "1", NULL, NULL);
    enum { MORE = 18 };
    char name[64];
    interrupt(args, "seedless/checkpoint-5", NULL);
    says(last.err, "the same command goes on with --resume_from_checkpoint latest");
    shell("ls -d seedless/checkpoint-* | wc -l > count && grep -qx 1 count");
    shell("sleep 1"); /* the clock gives another seed */
    args[MORE] = "--resume_from_checkpoint";
    args[MORE + 1] = "latest";
    interrupt(args, "seedless/train.jsonl", "going on from seedless/checkpoint-");
    /* anew, while a checkpoint of the first try is there: a new one is never the oldest that goes
     */
    args[MORE] = NULL;
    shell("mv seedless/checkpoint-* kept && mv kept seedless/checkpoint-90000 && "
          "sed -i 's/\"step\": [0-9]*/\"step\": 90000/' seedless/checkpoint-90000/checkpoint.json");
    drop("err");
    pid_t child = start(args, 0);
    wait_for_words("a step takes"); /* ten are made, of this run */
    wait_for_lines("seedless/train.jsonl", 12);
    kill(child, SIGINT);
    finish(child);
    assert_int_equal(last.status, 130);
    says(last.err, "it starts anew");
    says(last.err, "goes on with --resume_from_checkpoint latest");
    snprintf(name, sizeof name, "seedless/checkpoint-%d", lines_of("seedless/train.jsonl"));
    assert_true(exists(name));
    assert_false(exists("seedless/checkpoint-90000"));
}

static void test_latest(void **state)
{
    (void)state;
    RUN("first", TWO, "--resume_from_checkpoint", "latest", "--checkpointing_steps", "1");
    done();
    says(last.err, "first: there is no checkpoint yet, training starts anew");
    /* by name, from where it lies, and by its path */
    RUN("first", SEEDED, "--max_train_steps", "3", "--resume_from_checkpoint", "checkpoint-1");
    done();
    says(last.err, "going on from first/checkpoint-1\n");
    RUN("second", SEEDED, "--max_train_steps", "3", "--resume_from_checkpoint",
        "first/checkpoint-2");
    done();
    says(last.err, "going on from first/checkpoint-2\n");
    RUN("first", SEEDED, "--max_train_steps", "4", "--resume_from_checkpoint", "checkpoint-7");
    failed(1, "checkpoint-7: no such checkpoint, neither there nor in first");
    /* killed while the result was saved: there is nothing left to do but that */
    shell("cp -r first/unet saved-unet && rm -r first/unet first/model_index.json && "
          "mkdir first/.partial-model");
    RUN("first", SEEDED, "--max_train_steps", "2", "--resume_from_checkpoint", "checkpoint-2");
    done();
    assert_true(exists("first/model_index.json") && !exists("first/.partial-model"));
    shell("cmp first/unet/diffusion_pytorch_model.safetensors "
          "first/checkpoint-2/unet/diffusion_pytorch_model.safetensors");
}

/* Another instruction set, another precision: the run goes on, and says that it will differ. */
static void test_other_machine(void **state)
{
    (void)state;
    RUN("machine", TWO, "--checkpointing_steps", "2");
    done();
    char text[MAX_TEXT];
    slurp(in_folder("machine/checkpoint-2/checkpoint.json"), text);
    says(text, "\"precision\": \"no\"");
    says(text, "\"device\": \"cpu ");
    RUN("machine", SEEDED, "--max_train_steps", "3", "--resume_from_checkpoint", "latest");
    done();
    assert_null(strstr(last.err, "unbroken"));
    shell("rm -r machine/checkpoint-3 2>/dev/null; true");
    setenv("LIKENESS_CPU", "plain", 1);
    RUN("machine", SEEDED, "--max_train_steps", "3", "--resume_from_checkpoint", "latest");
    unsetenv("LIKENESS_CPU");
    done();
    says(last.err, "its numbers will be those of an unbroken run but for rounding, not its bytes");
    RUN("machine", SEEDED, "--max_train_steps", "3", "--resume_from_checkpoint", "latest",
        "--mixed_precision", "bf16");
    done();
    says(last.err, "with --mixed_precision no, and the run goes on on cpu ");
}

/* ---- stops and kills ---------------------------------------------------------------------------
 */

/* A signal that the parent ignores (nohup, &) stays ignored. */
static void test_ignored(void **state)
{
    (void)state;
    const char *args[] = TRAINING("--instance_prompt", "sks dog", "--max_train_steps", "40",
                                  "--output_dir", "ignored");
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    pid_t child = start(args, 0);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    wait_for("ignored/train.jsonl");
    kill(child, SIGINT);
    kill(child, SIGHUP);
    finish(child);
    done();
    assert_int_equal(lines_of("ignored/train.jsonl"), 40);
}

/* The terminal goes away: as Ctrl-C. */
static void test_hang_up(void **state)
{
    (void)state;
    const char *args[] = TRAINING("--instance_prompt", "sks dog", "--max_train_steps", "100000",
                                  "--output_dir", "hung");
    pid_t child = start(args, 0);
    wait_for("hung/train.jsonl");
    while (!lines_of("hung/train.jsonl")) pause_for(.01);
    kill(child, SIGHUP);
    finish(child);
    assert_int_equal(last.status, 130);
    shell("ls -d hung/checkpoint-* > list");
}

/* In the midst of many pictures a stop is a matter of one of their steps. */
static void test_stop_in_images(void **state)
{
    (void)state;
    const char *validating[] = TRAINING("--instance_prompt", "sks dog", "--max_train_steps", "3",
                                        "--output_dir", "watching", "--validation_prompt", "a dog",
                                        "--num_validation_images", "400", "--validation_steps",
                                        "1");
    interrupt(validating, "watching/validation/step-000001-0.png", NULL);
    says(last.err, "stopped after 1 of 3 steps; the same command goes on");
    assert_false(exists("watching/validation/step-000001-399.png"));
    const char *classes[] = TRAINING("--instance_prompt", "sks dog", "--max_train_steps", "3",
                                     "--output_dir", "making", "--with_prior_preservation",
                                     "--class_prompt", "a dog", "--class_data_dir", "class-of-400",
                                     "--num_class_images", "400");
    interrupt(classes, "class-of-400/class-0000.png", NULL);
    says(last.err, "of 400 class pictures");
    assert_false(exists("class-of-400/class-0399.png"));
    shell("test -z \"$(find class-of-400 making -name '.*')\"");
}

/* What killed runs left is collected: theirs alone, and only where they are dead. */
static void test_leftovers(void **state)
{
    (void)state;
    pid_t dead = fork();
    if (dead == 0) _exit(0);
    waitpid(dead, NULL, 0);
    shell("mkdir -p left/validation left-class && touch left/.train.json.%d-0.tmp "
          "left/validation/.a.png.%d-2.tmp "
          "left-class/.manifest.json.%d-0.tmp left-class/.class-0003.png.%d-0.tmp.png "
          "left/.train.json.%d-0.tmp "
          "left/.tmp left/.x.tmp left/.x.12a-0.tmp left/.swp.tmp",
          dead, dead, dead, dead, (int)getpid());
    RUN("left", TWO, "--with_prior_preservation", "--class_prompt", "a dog", "--class_data_dir",
        "left-class", "--num_class_images", "1");
    failed(2, "validation lies there"); /* nobody's folder, as yet */
    shell("rmdir left/validation 2>/dev/null || rm -r left/validation");
    RUN("left", TWO, "--with_prior_preservation", "--class_prompt", "a dog", "--class_data_dir",
        "left-class", "--num_class_images", "1");
    done();
    shell("ls -A left left-class > list && ! grep -q '%d-' list && grep -q '%d-0.tmp' list && grep "
          "-qx .tmp list "
          "&& grep -qx .x.tmp list && grep -qx .x.12a-0.tmp list && grep -qx .swp.tmp list",
          dead, (int)getpid());
    shell("mkdir -p left/validation && touch left/validation/.a.png.%d-2.tmp", dead);
    RUN("left", TWO, "--with_prior_preservation", "--class_prompt", "a dog", "--class_data_dir",
        "left-class", "--num_class_images", "1");
    done();
    shell("test -z \"$(ls -A left/validation)\"");
}

/* ---- validation --------------------------------------------------------------------------------
 */

/* The pictures of the last step are, to the byte, what generate makes of the result. */
static void validation_check(const char *name, const char *precision)
{
    char path[200];
    RUN(name, SEEDED, "--max_train_steps", "3", "--validation_prompt", "sks dog",
        "--validation_steps", "3", "--num_validation_images", "2", "--train_text_encoder",
        "--precision", precision);
    done();
    likeness("generate", "-m", name, "-p", "sks dog", "-s", "6", "-t", "2", "-o", "x.png",
             "--precision", precision, NULL);
    done();
    snprintf(path, sizeof path, "cmp x.png %s/validation/step-000003-1.png", name);
    shell("%s", path);
    likeness("inspect", "x.png", NULL);
    snprintf(path, sizeof path, "Model: %s,", name);
    says(last.out, path);
    drop("x.png");
    likeness("generate", "-m", toy_path, "-p", "sks dog", "-s", "6", "-t", "2", "-o", "x.png",
             "--precision", precision, NULL);
    done();
    snprintf(path, sizeof path, "%s/validation/step-000003-1.png", name);
    assert_false(same_pixels("x.png", path));
    drop("x.png");
}

static void test_validation(void **state)
{
    (void)state;
    validation_check("valid", "f32");
    validation_check("valid-bf16", "bf16");
}

/* ---- names and numbers -------------------------------------------------------------------------
 */

/* Names that are no UTF-8 are in the record, and a picture that was replaced is noticed. */
static void test_names(void **state)
{
    (void)state;
    char text[MAX_TEXT];
    shell("mkdir odd && cp %s/01.png \"$(printf 'odd/caf\\351.png')\" && cp %s/02.png "
          "\"$(printf 'odd/caf\\350.png')\"",
          SUBJECT, SUBJECT);
#define ODD(...)                                                                                   \
    likeness("train", "-m", toy_path, "-t", "1", "--instance_data_dir", "odd",                     \
             "--instance_prompt", "sks dog", "--output_dir", "odd-out", "--seed", "5",             \
             "--checkpointing_steps", "1", __VA_ARGS__, NULL)
    ODD("--max_train_steps", "1");
    done();
    slurp(in_folder("odd-out/train.json"), text);
    says(text, "\"caf\\\\xe9.png\": \"");
    says(text, "\"caf\\\\xe8.png\": \"");
    shell("cp %s/03.png \"$(printf 'odd/caf\\351.png')\"", SUBJECT);
    ODD("--max_train_steps", "2", "--resume_from_checkpoint", "latest");
    failed(2, "the instance picture caf\\xe9.png has changed since");
}

static void test_advice(void **state)
{
    (void)state;
    RUN("advice", "--seed", "5", "--lr_scheduler", "linear", "--learning_rate", "1.5e-4");
    done();
    says(last.err, "warning: --lr_warmup_steps 500 is as long as the run of 3 steps or longer");
    says(last.err, "in place of 0.00015\n");
    says(last.err, "3 steps at a learning rate of 0.00015 will change next to nothing; usual for a "
                   "model of this "
                   "size are about 300 steps at 1e-4");
    assert_null(strstr(last.err, "0.0001499"));
    RUN("advice-far", "--learning_rate", "1e-2"); /* as few, and a long way */
    done();
    assert_null(strstr(last.err, "next to nothing"));
    likeness("train", "-m", toy_path, "-t", "1", "--instance_data_dir", SUBJECT,
             "--instance_prompt", "a long way before sks dog", "--output_dir", "cut",
             "--max_train_steps", "1", "--validation_prompt", "sks dog on a beach at noon", NULL);
    done();
    says(last.err,
         "warning: --instance_prompt is longer than the 14 tokens that the model reads: \"");
    says(last.err, "sks dog\" is not seen by it");
    says(last.err, "warning: --validation_prompt is longer");
    assert_null(strstr(last.err, "--class_prompt"));
}

/* ---- flags -------------------------------------------------------------------------------------
 */

/* Every flag of train_dreambooth.py (diffusers 0.42), and a value that it takes. */
static const char *const script[][2] = {
    {"--pretrained_model_name_or_path", "toy"},
    {"--revision", "main"},
    {"--variant", "fp16"},
    {"--tokenizer_name", "toy/tokenizer"},
    {"--instance_data_dir", "photos"},
    {"--class_data_dir", "class"},
    {"--instance_prompt", "a"},
    {"--class_prompt", "a"},
    {"--with_prior_preservation", NULL},
    {"--prior_loss_weight", "1"},
    {"--num_class_images", "9"},
    {"--output_dir", "out"},
    {"--seed", "1"},
    {"--resolution", "32"},
    {"--center_crop", NULL},
    {"--train_text_encoder", NULL},
    {"--train_batch_size", "1"},
    {"--sample_batch_size", "4"},
    {"--num_train_epochs", "1"},
    {"--max_train_steps", "1"},
    {"--checkpointing_steps", "1"},
    {"--checkpoints_total_limit", "1"},
    {"--resume_from_checkpoint", "latest"},
    {"--gradient_accumulation_steps", "1"},
    {"--gradient_checkpointing", NULL},
    {"--learning_rate", "1e-3"},
    {"--scale_lr", NULL},
    {"--lr_scheduler", "constant"},
    {"--lr_warmup_steps", "0"},
    {"--lr_num_cycles", "1"},
    {"--lr_power", "1"},
    {"--use_8bit_adam", NULL},
    {"--dataloader_num_workers", "2"},
    {"--adam_beta1", "0.9"},
    {"--adam_beta2", "0.999"},
    {"--adam_weight_decay", "1e-2"},
    {"--adam_epsilon", "1e-8"},
    {"--max_grad_norm", "1"},
    {"--push_to_hub", NULL},
    {"--hub_token", "t"},
    {"--hub_model_id", "m"},
    {"--logging_dir", "logs"},
    {"--allow_tf32", NULL},
    {"--report_to", "wandb"},
    {"--validation_prompt", "a"},
    {"--num_validation_images", "1"},
    {"--validation_steps", "1"},
    {"--mixed_precision", "no"},
    {"--prior_generation_precision", "fp32"},
    {"--local_rank", "-1"},
    {"--enable_xformers_memory_efficient_attention", NULL},
    {"--set_grads_to_none", NULL},
    {"--offset_noise", NULL},
    {"--snr_gamma", "5"},
    {"--pre_compute_text_embeddings", NULL},
    {"--tokenizer_max_length", "77"},
    {"--text_encoder_use_attention_mask", NULL},
    {"--skip_save_text_encoder", NULL},
    {"--validation_images", "a.png"},
    {"--class_labels_conditioning", "t"},
    {"--validation_scheduler", "DDPMScheduler"},
};

enum { FLAGS = sizeof script / sizeof *script };
_Static_assert(FLAGS == 61, "as many as the script has");

static void test_flags(void **state)
{
    (void)state;
    for (int i = 0; i < FLAGS; i++) {
        likeness("train", "--help", script[i][0], script[i][1], NULL);
        if (last.status != 0) fail_msg("%s is not known: %s", script[i][0], last.err);
    }
    RUN("flags", TWO, "--revision", "main", "--variant", "fp16", "--sample_batch_size", "4",
        "--dataloader_num_workers", "2", "--logging_dir", "logs", "--report_to", "wandb",
        "--allow_tf32", "--prior_generation_precision", "fp16", "--local_rank", "-1",
        "--set_grads_to_none", "--enable_xformers_memory_efficient_attention",
        "--pre_compute_text_embeddings", "--skip_save_text_encoder", "--validation_scheduler",
        "DDPMScheduler", "--tokenizer_max_length=77");
    done();
    int told = 0;
    for (const char *at = last.err; (at = strstr(at, " has no effect here: ")); at++) told++;
    assert_int_equal(told, 13);
    says(last.err, "--report_to has no effect here: the log is train.jsonl in --output_dir\n");
    assert_null(strstr(last.err, "--local_rank"));
    static const char *const no[][3] = {{"--push_to_hub", NULL, "hf upload"},
                                        {"--hub_token", "x", "hf upload"},
                                        {"--hub_model_id", "x", "hf upload"},
                                        {"--local_rank", "1", "one process"},
                                        {"--tokenizer_max_length", "40", "leave it out"},
                                        {"--text_encoder_use_attention_mask", NULL, "leave it out"},
                                        {"--validation_images", "a.png", "--validation_prompt"},
                                        {"--class_labels_conditioning", "timesteps", "labels"}};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        RUN("refused", TWO, no[i][0], no[i][1]);
        failed(2, no[i][0]);
        says(last.err, no[i][2]);
        assert_false(exists("refused"));
    }
    likeness("train", "--validation_images", "a.png", "b.png", NULL);
    failed(2, "--validation_prompt");
}

/* ---- a disk that is full for a while ------------------------------------------------------------
 */

/* Files may not grow past some size for a second and a half: lines and checkpoints wait, the run
 * goes on. */
static void test_full_for_a_while(void **state)
{
    (void)state;
    const char *args[] = TRAINING("--instance_prompt", "sks dog", "--max_train_steps", "100000",
                                  "--output_dir", "tight", "--checkpointing_steps", "50");
    const struct rlimit tight = {6000, RLIM_INFINITY}, wide = {RLIM_INFINITY, RLIM_INFINITY};
    struct stat info;
    pid_t child = start(args, RLIM_INFINITY); /* SIGXFSZ is ignored */
    wait_for("tight/train.jsonl");
    assert_int_equal(prlimit(child, RLIMIT_FSIZE, &tight, NULL), 0);
    for (int i = 0;
         i < 2000 && (stat(in_folder("tight/train.jsonl"), &info) != 0 || info.st_size < 6000); i++)
        pause_for(.01);
    pause_for(1.5);
    assert_int_equal(prlimit(child, RLIMIT_FSIZE, &wide, NULL), 0);
    for (int i = 0; i < 2000; i++) {
        char text[MAX_TEXT];
        slurp(in_folder("err"), text);
        if (strstr(text, " was written\n") && strstr(text, "is written again")) break;
        pause_for(.01);
    }
    kill(child, SIGINT);
    finish(child);
    assert_int_equal(last.status, 130);
    says(last.err, "warning: tight/train.jsonl: cannot be written: ");
    says(last.err, "could not be written, training goes on");
    says(last.err, "tight/train.jsonl is written again");
    says(last.err, " was written\n");
    assert_ptr_equal(strstr(strstr(last.err, "train.jsonl: cannot") + 1, "train.jsonl: cannot"),
                     NULL);
    /* every line, once */
    shell("sed 's/{\"step\": \\([0-9]*\\),.*}$/\\1/' tight/train.jsonl > steps && seq $(wc -l < "
          "steps) | cmp - steps");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_folder),    cmocka_unit_test(test_image_folders),
        cmocka_unit_test(test_not_ours),      cmocka_unit_test(test_other_run),
        cmocka_unit_test(test_no_seed),       cmocka_unit_test(test_latest),
        cmocka_unit_test(test_other_machine), cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_hang_up),       cmocka_unit_test(test_stop_in_images),
        cmocka_unit_test(test_leftovers),     cmocka_unit_test(test_validation),
        cmocka_unit_test(test_names),         cmocka_unit_test(test_advice),
        cmocka_unit_test(test_flags),         cmocka_unit_test(test_full_for_a_while),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
