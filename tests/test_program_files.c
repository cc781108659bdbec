/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_files: what the program says of files that are not what was wanted in their place. */
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"
#include "support.h"
#include "toy.h"

/* ---- pipes --------------------------------------------------------------------------------- */

/* A pipe that nobody writes to in the place of the file `name` of a copy of the toy. */
static const char *toy_with_pipe(const char *name)
{
    char command[900];
    snprintf(command, sizeof command, "cd %s && rm -rf broken && cp -r toy broken && rm -f broken/%s && mkfifo broken/%s",
             folder, name, name);
    assert_int_equal(system(command), 0);
    return "broken";
}

static void make_folder_of_pipe(const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/pipe.png", in_folder(name));
    assert_int_equal(mkdir(in_folder(name), 0700), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
}

#define TRAIN(...) likeness("train", "-m", "toy", "--instance_prompt", "a dog", "--max_train_steps", "1", \
                            "--train_batch_size", "1", "--output_dir", "taught", __VA_ARGS__, NULL)

/* Each would wait for ever if it were opened as fopen does. */
static void test_pipes(void **state)
{
    (void)state;
    const char *const subject = SOURCE_DIR "/examples/subject", *const pipe = "is not a regular file";
    alarm(60);
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    likeness("inspect", "pipe", NULL);
    failed(1, pipe);
    likeness("convert", "-m", "a=pipe", "--merge", "a", "-o", "there", NULL);
    failed(1, pipe);
    likeness("study", "pipe", "-o", "page", NULL);
    failed(1, pipe);
    likeness("generate", "-m", "pipe", "-p", "a", NULL);
    failed(1, pipe);
    likeness("generate", "-m", "toy", "-p", "a", "--vae", "pipe", NULL);
    failed(1, pipe);
    likeness("generate", "-m", "toy", "-p", "a", "--steps", "1", "--init-latents", "pipe", NULL);
    failed(1, pipe);
    likeness("generate", "-m", toy_with_pipe("unet/config.json"), "-p", "a", NULL);
    failed(1, "unet/config.json");
    likeness("generate", "-m", toy_with_pipe("unet/diffusion_pytorch_model.safetensors"), "-p", "a", NULL);
    failed(1, "unet");
    likeness("generate", "-m", toy_with_pipe("tokenizer/vocab.json"), "-p", "a", NULL);
    failed(1, "vocab.json");
    likeness("generate", "-m", "toy", "-p", "a", "--steps", "1", "-o", "pipe", NULL);
    failed(2, "pipe");
    make_folder_of_pipe("pipes");
    TRAIN("--instance_data_dir", "pipes");
    failed(1, "pipe");
    TRAIN("--instance_data_dir", subject, "--with_prior_preservation", "--class_prompt", "a dog",
          "--class_data_dir", "pipes", "--num_class_images", "1");
    done(); /* it does not count as a class picture: one is made */
    says(last.err, "pipes: 1 class pictures made");
    assert_int_equal(mkdir(in_folder("checkpoint-1"), 0700), 0);
    assert_int_equal(mkfifo(in_folder("checkpoint-1/checkpoint.json"), 0600), 0);
    TRAIN("--instance_data_dir", subject, "--resume_from_checkpoint", "checkpoint-1");
    failed(1, "checkpoint-1");
    alarm(0);
}

/* ---- all ----------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    unsetenv("LIKENESS_MODELS");
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    if (toy_stable_diffusion(in_folder("toy"), &e)) return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipes),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
