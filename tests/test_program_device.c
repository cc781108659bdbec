/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_device: --device and likeness devices as a user has them, with a GPU and without;
 * the GPU is the emulated one (tests/cuda), whose hardware LIKENESS_EMULATED describes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/image.h"
#include "program.h"
#include "support.h"
#include "toy.h"

static void make_on(const char *card, const char *output)
{
    likeness("generate", "--device", card, "-p", "a dog", "--steps", "1", "-W", "32", "-H", "32",
             "-o", output, NULL);
}

static void test_picture(void **state)
{
    image a, b;
    error e = {0};
    (void)state;
    make_on("cuda", "gpu.png");
    done();
    says(last.err, "likeness: on cuda:0 emulated, 17 GB");
    make_on("cpu", "cpu.png");
    done();
    assert_true(image_read(&a, NULL, in_folder("gpu.png"), &e) &&
                image_read(&b, NULL, in_folder("cpu.png"), &e));
    assert_int_equal(a.width * a.height, b.width * b.height);
    for (int i = 0; i < a.width * a.height * 3; i++)
        assert_in_range(a.pixels[i] - b.pixels[i] + 1, 0, 2);
    image_free(&a);
    image_free(&b);
}

/* A picture in a half type says so, is written over by the same settings alone, and is another. */
static void test_half(void **state)
{
    image a, b;
    error e = {0};
    (void)state;
    static const char *const types[] = {"f16", "bf16", "fp16"};
    for (int i = 0; i < 3; i++) {
        likeness("generate", "--device", "cuda", "--precision", types[i], "-p", "a dog", "--steps",
                 "1", "-W", "32", "-H", "32", "-o", i == 1 ? "bf16.png" : "f16.png", NULL);
        done(); /* the last: the same picture again */
    }
    likeness("inspect", "f16.png", NULL);
    done();
    says(last.out, "Precision: f16, Version");
    make_on("cuda", "f16.png");
    assert_int_equal(last.status, 1);
    says(last.err, "f16.png is there, and was not made with these settings");
    make_on("cuda", "f32.png");
    assert_true(image_read(&a, NULL, in_folder("f32.png"), &e) &&
                image_read(&b, NULL, in_folder("f16.png"), &e));
    double squares = 0;
    int n = a.width * a.height * 3;
    for (int i = 0; i < n; i++) squares += pow(a.pixels[i] - b.pixels[i], 2);
    assert_true(10 * log10(255.0 * 255 * n / squares) >= 35); /* dB */
    image_free(&a);
    image_free(&b);
}

static void test_no_gpu(void **state)
{
    (void)state;
    make_on("cuda:9", "x.png");
    failed(2, "device cuda:9: there is one GPU, cuda:0");
    setenv("LIKENESS_EMULATED", "driver=0", 1);
    make_on("cuda", "x.png");
    failed(2, "there is no NVIDIA driver");
    make_on("auto", "auto.png");
    done();
    says(last.err, "likeness: on cpu");
    says(last.err, "; there is no NVIDIA driver");
    setenv("LIKENESS_EMULATED", "major=7,minor=5", 1);
    likeness("generate", "--device", "cuda", "--precision", "bf16", "-p", "a dog", "-o", "x.png",
             NULL);
    failed(2, "cuda:0, emulated, has no bfloat16: use --precision f16");
    likeness("devices", NULL);
    done();
    says(last.out, "free; f32, f16\n");
    setenv("LIKENESS_EMULATED", "driver=0", 1);
    likeness("generate", "--precision", "f16", "-p", "a dog", "-o", "x.png", NULL);
    failed(2, "the processor does not compute in precision f16: use bf16");
    failed(2, "; cuda: there is no NVIDIA driver");
    likeness("generate", "--precision", "f12", "-p", "a dog", "-o", "x.png", NULL);
    failed(2, "--precision f12: there are f32, bf16, f16");
    likeness("study", "--precision", "half", NULL);
    failed(2, "--precision half: there are f32, bf16, f16");
    setenv("LIKENESS_EMULATED", "memory=3000000", 1);
    make_on("cuda", "x.png");
    assert_int_equal(last.status, 1);
    says(last.err,
         "of the device's memory and 2.86 MiB can be had; choose a smaller size (-W, -H), "
         "--precision f16, --device cpu, or close other programs");
    assert_false(exists("x.png"));
    unsetenv("LIKENESS_EMULATED");
}

/* What would not fit is refused before anything is written. */
static void test_small_card(void **state)
{
    (void)state;
    setenv("LIKENESS_EMULATED", "memory=200000000", 1);
    likeness("train", "--device", "cuda", "--instance_data_dir", SOURCE_DIR "/examples/subject",
             "--instance_prompt", "a dog", "--train_batch_size", "1", "--output_dir", "small",
             NULL);
    assert_int_equal(last.status, 1);
    says(last.err, "of the device's memory (");
    says(last.err, "can be had; add --gradient_checkpointing, add --use_8bit_adam, use a smaller "
                   "--resolution or --train_batch_size");
    assert_false(exists("small"));
    unsetenv("LIKENESS_EMULATED");
}

static void teach(const char *output, const char *precision, const char *optimizer)
{
    likeness("train", "--device", "cuda", "-m", in_folder("toy"), "--instance_data_dir",
             SOURCE_DIR "/examples/subject", "--instance_prompt", "a dog", "--train_batch_size",
             "1", "--max_train_steps", "2", "--learning_rate", "1e-3", "--seed", "3",
             "--checkpointing_steps", "1", "--output_dir", output, "--mixed_precision", precision,
             "--optimizer_precision", optimizer, NULL);
}

static void holds(const char *path, const char *part)
{
    char *text;
    size_t size;
    error e = {0};
    if (!file_read(in_folder(path), 1 << 20, &text, &size, &e)) fail_msg("%s", e.text);
    if (!strstr(text, part)) fail_msg("%s: %s", path, text);
    free(text);
}

/* fp16: the scale of the loss is recorded and kept, and the precision is part of the identity. */
static void test_train_half(void **state)
{
    error e = {0};
    (void)state;
    if (!toy_stable_diffusion(in_folder("toy"), &e)) fail_msg("%s", e.text);
    teach("both", "fp16", "fp16");
    assert_int_equal(last.status, 2);
    says(last.err, "--mixed_precision fp16 and --optimizer_precision fp16: a scaled loss wants");
    assert_false(exists("both"));
    teach("half", "fp16", "fp32");
    done();
    holds("half/train.jsonl", "\"loss_scale\": 65536, \"skipped\": false, \"seconds\"");
    holds("half/checkpoint-2/checkpoint.json", "\"loss_scaler\"");
    holds("half/checkpoint-2/checkpoint.json", "\"growth_tracker\": 2");
    holds("half/train.json", "\"precision\": \"fp16\"");
    teach("half", "no", "fp32");
    assert_int_equal(last.status, 2);
    says(last.err, "was made with --mixed_precision fp16, this run has no");
}

/* Every command that works with a model takes a device, and says in a line which it is. */
static void test_commands(void **state)
{
    (void)state;
    likeness("train", "--device", "cuda:9", "--instance_data_dir", SOURCE_DIR "/examples/subject",
             "--instance_prompt", "a dog", "--output_dir", "taught", NULL);
    failed(2, "device cuda:9: there is one GPU, cuda:0");
    likeness("study", "--device", "cuda:9", "-o", "study", NULL);
    failed(2, "device cuda:9: there is one GPU, cuda:0");
    assert_false(exists("taught") || exists("study"));
    setenv("LIKENESS_EMULATED", "memory=1000000", 1);
    likeness("train", "--instance_data_dir", SOURCE_DIR "/examples/subject", "--instance_prompt",
             "a dog", "--output_dir", "taught", NULL);
    assert_int_equal(last.status, 1);
    says(last.err, "likeness: on cuda:0 emulated");
    says(last.err, "of the device's memory");
    unsetenv("LIKENESS_EMULATED");
}

static void test_devices(void **state)
{
    (void)state;
    setenv("LIKENESS_EMULATED", "cards=2,memory=16000000000", 1);
    likeness("devices", NULL);
    done();
    says(last.out, "cpu      processor, ");
    says(last.out, "cuda:1   emulated; 16.0 GB, 16.0 free; f32, f16, bf16\n");
    setenv("LIKENESS_EMULATED", "cards=0", 1);
    likeness("devices", NULL);
    done();
    says(last.out, "\ncuda     the NVIDIA driver finds no GPU");
    unsetenv("LIKENESS_EMULATED");
    likeness("devices", "more", NULL);
    failed(2, "devices takes no \"more\"");
}

static int open_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_picture),    cmocka_unit_test(test_half),
        cmocka_unit_test(test_no_gpu),     cmocka_unit_test(test_small_card),
        cmocka_unit_test(test_train_half), cmocka_unit_test(test_commands),
        cmocka_unit_test(test_devices),
    };
    return cmocka_run_group_tests(tests, open_folder, NULL);
}
