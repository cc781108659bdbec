/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program: the program as a user runs it: what it makes, what it says, how it exits; and every
 * kind of bad input, each of which must give one clear line, the right status, and no file. PROGRAM
 * and EXAMPLE are the paths of the built likeness and examples/minimal. */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/platform.h"
#include "file/image.h"
#include "file/safetensors.h"
#include "program.h"
#include "support.h"
#include "toy.h"

static char toy_path[300], ddpm_path[300];

/* A one-step picture of the toy at x.png, with more flags. */
#define TOY(...)                                                                                   \
    likeness("generate", "-m", toy_path, "-t", "1", "--steps", "1", "-o", "x.png", __VA_ARGS__,    \
             NULL)

/* ---- what it does -------------------------------------------------------------------------- */

static void test_usage(void **state)
{
    (void)state;
    assert_int_equal(likeness("--version", NULL), 0);
    says(last.out, "likeness 0.");
    assert_int_equal(likeness("--help", NULL), 0);
    says(last.out, "likeness generate -p");
    assert_int_equal(likeness("generate", "--help", NULL), 0);
    says(last.out, "--sweep");
    static const char *const zeros[] = {"default 0: every core", "default 0: none",
                                        "default 0: never", "default 0, as 1: always"};
    for (int i = 0; i < 4; i++) says(last.out, zeros[i]);
    assert_int_equal(likeness("inspect", "-h", NULL), 0);
    assert_int_equal(likeness(NULL), 2);
    likeness("paint", NULL);
    failed(2, "unknown command paint; there are");
    likeness("genrate", NULL);
    failed(2, "unknown command genrate; did you mean generate?");
    TOY("--colour", "red");
    failed(2, "unknown flag --colour; see: likeness generate --help");
    static const char *const near[][2] = {{"--step", "--steps"},
                                          {"--sedes=4", "--seeds"},
                                          {"--negativ-prompt", "--negative-prompt"},
                                          {"--num_inference_step", "--num-inference-steps"},
                                          {"--cfg", "--cfg-scale"},
                                          {"--hieght", "--height"},
                                          {"--output_dir", "--output"},
                                          {"--modle", "--model"},
                                          {"--clipskip", "--clip-skip"}};
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        char words[100];
        TOY(near[i][0], "3");
        snprintf(words, sizeof words, "; did you mean %s?", near[i][1]);
        failed(2, words);
    }
    TOY("-x");
    failed(2, "unknown flag -x; see");
    likeness("train", "--learning_rte", "1", NULL);
    failed(2, "--learning-rate");
    assert_int_equal(likeness("help", NULL), 0);
    says(last.out, "Commands");
    assert_int_equal(likeness("help", "generate", NULL), 0);
    says(last.out, "--sweep");
    assert_int_equal(likeness("help", "convert", NULL), 0);
    says(last.out, "--merge");
    likeness("help", "trian", NULL);
    failed(2, "did you mean train?");
    likeness("generate", "-p", NULL);
    failed(2, "-p wants a value");
    TOY("a dog");
    failed(2, "-p");
    TOY("-p", "a", "--steps=many");
    failed(2, "whole number");
    TOY("-p", "a", "--guidance", "nan");
    failed(2, "number");
    TOY("-p", "a", "--sampler", "eular");
    failed(2, "--sampler: there is no sampler \"eular\"; did you mean euler? There are ddim, ddpm");
    TOY("-p", "a", "--sampler", "euler", "--sigmas", "7,14.6,0");
    failed(2, "--sigmas: sigmas are \"7,14.6,0\"; give model, karras");
    likeness("generate", "-m", toy_path, NULL);
    failed(2, "-p");
    likeness("inspect", NULL);
    failed(2, "inspect what");
}

static void test_image(void **state)
{
    (void)state;
    assert_int_equal(TOY("-p", "a dog, 2 cats: \"x\"", "-n", "rain", "-s", "7"), 0);
    assert_string_equal(last.out, "x.png\n");
    says(last.err, "picture 1 of 1");
    assert_int_equal(TOY("-p", "a dog,\n2\tcats\r", "-o", "lines.png"), 0);
    says(last.err, "picture 1 of 1: a dog, 2 cats , seed 42, ");
    drop("lines.png");
    image m;
    char *text = NULL;
    error e = {0};
    assert_true(image_read(&m, &text, in_folder("x.png"), &e));
    assert_int_equal(m.width, 32);
    assert_int_equal(m.height, 32);
    says(text, "a dog, 2 cats: \"x\"");
    says(text, "Negative prompt: rain");
    says(text, "Seed: 7");
    image_free(&m);
    free(text);
    assert_int_equal(likeness("inspect", "pocket", NULL), 0); /* the name that -m takes */
    says(last.out, "128x128");
    assert_int_equal(likeness("inspect", "x.png", NULL), 0);
    says(last.out, "32x32");
    says(last.out, "Steps: 1");
    assert_int_equal(rename(in_folder("x.png"), in_folder("first.png")), 0);
    assert_int_equal(TOY("-p", "a dog, 2 cats: \"x\"", "--negative-prompt=rain", "-s7"), 0);
    assert_true(same_pixels("x.png", "first.png"));
    drop("x.png");
    drop("first.png");
}

static void test_many(void **state)
{
    (void)state;
    assert_int_equal(likeness("generate", "-m", toy_path, "-t", "1", "-p", "A dog!", "-p", "a cat",
                              "-s", "42-43,50", "--steps", "2", "-o", "many/", "--grid", "grid.png",
                              "--guidance-scale", "3", "--save_latents", "many/", NULL),
                     0);
    says(last.out, "many/a-dog-42.png\nmany/a-dog-43.png\nmany/a-dog-50.png\nmany/a-cat-42.png\n");
    says(last.out, "\ngrid.png\n");
    assert_true(exists("many/a-cat-50.png"));
    assert_true(exists("many/a-cat-50.safetensors"));
    assert_int_equal(likeness("generate", "-m", toy_path, "-t", "1", "-p", "a dog", "--sweep",
                              "sampler=ddpm,ddim steps=3,2", "-o", "sweep", "--grid", "sweep.png",
                              NULL),
                     0);
    assert_true(exists("sweep/a-dog-ddpm-3-42.png"));
    assert_true(exists("sweep/a-dog-ddim-2-42.png"));
    assert_true(exists("sweep.png"));
    /* a picture of a sweep is the picture made alone */
    assert_int_equal(likeness("generate", "-m", toy_path, "-t", "1", "-p", "a dog", "--steps", "3",
                              "--sampler", "ddpm", "-o", "x.png", NULL),
                     0);
    assert_true(same_pixels("x.png", "sweep/a-dog-ddpm-3-42.png"));
    drop("x.png");
}

static void test_latents(void **state)
{
    (void)state;
    assert_int_equal(TOY("-p", "a", "--save-latents", "noise.safetensors", "-s", "5"), 0);
    assert_int_equal(rename(in_folder("x.png"), in_folder("first.png")), 0);
    safetensors file;
    error e = {0};
    assert_true(safetensors_open(&file, in_folder("noise.safetensors"), &e));
    const safetensors_entry *t = safetensors_find(&file, "latents");
    assert_non_null(t);
    assert_int_equal(t->rank, 4);
    assert_int_equal(t->dim[1], 4);
    assert_int_equal(t->dim[2], 16);
    assert_non_null(safetensors_find(&file, "final"));
    safetensors_close(&file);
    assert_int_equal(TOY("-p", "a", "--init_latents", "noise.safetensors", "-s", "5"), 0);
    assert_true(same_pixels("x.png", "first.png"));
    drop("x.png");
    TOY("-p", "a", "--init-latents", "noise.safetensors", "-W", "64");
    failed(2, "[1, 4, 16, 32]");
    TOY("-p", "a", "--init-latents", "nothing.safetensors");
    failed(1, "nothing.safetensors");
    drop("first.png");
}

static void test_unconditional(void **state)
{
    (void)state;
    assert_int_equal(likeness("generate", "-m", ddpm_path, "-t", "1", "-s", "42-43", "--steps", "2",
                              "-o", "ddpm/", NULL),
                     0);
    assert_true(exists("ddpm/picture-42.png"));
    assert_true(exists("ddpm/picture-43.png"));
    likeness("generate", "-m", ddpm_path, "-t", "1", "-p", "a dog", "-o", "x.png", NULL);
    failed(2, "takes no prompt");
    assert_int_equal(likeness("inspect", ddpm_path, NULL), 0);
    says(last.out, "unconditional");
}

static void test_inspect_model(void **state)
{
    (void)state;
    assert_int_equal(likeness("inspect", toy_path, NULL), 0);
    says(last.out, "Stable Diffusion");
    says(last.out, "32x32");
    says(last.out, "F32");
    says(last.out, "hash");
    likeness("inspect", "nothing", NULL);
    failed(1, "nothing");
}

/* The model's own, or by any program's name; a list of sigmas says how many steps there are. */
static void test_samplers(void **state)
{
    (void)state;
    assert_int_equal(likeness("samplers", NULL), 0);
    says(last.out, "dpmpp_2m       DPM++ 2M      1 a step  --sigmas\n");
    likeness("samplers", "more", NULL);
    failed(2, "samplers takes no \"more\"");
    assert_int_equal(TOY("-p", "a"), 0);
    assert_int_equal(likeness("inspect", "x.png", NULL), 0);
    says(last.out, "Sampler: DDIM, CFG");
    drop("x.png");
    assert_int_equal(
        likeness("generate", "-m", ddpm_path, "-t", "1", "--steps", "1", "-o", "x.png", NULL), 0);
    assert_int_equal(likeness("inspect", "x.png", NULL), 0);
    says(last.out, "Sampler: DDPM, Seed");
    drop("x.png");
    assert_int_equal(likeness("generate", "-m", toy_path, "-t", "1", "-p", "a", "--sampler",
                              "Euler a Karras", "--sigmas", "7,2,0", "-o", "x.png", NULL),
                     0);
    assert_int_equal(likeness("inspect", "x.png", NULL), 0);
    says(last.out, "Steps: 2, Sampler: Euler a, Sigmas: \"7,2,0\", CFG");
    drop("x.png");
    likeness("generate", "-m", toy_path, "-p", "a", "--sampler", "euler", "--sigmas", "7,2,0",
             "--steps", "3", NULL);
    failed(2, "sigmas list 2 steps, but steps is 3");
}

static void test_default_model(void **state)
{
    (void)state;
    assert_int_equal(likeness("generate", "-p", "", "--steps", "1", "-o", "x.png", NULL), 0);
    drop("x.png");
    assert_int_equal(likeness("generate", "-p", "a dog", "--steps", "1", NULL), 0);
    assert_string_equal(last.out, "a-dog-42.png\n");
    assert_true(exists("a-dog-42.png"));
    setenv("LIKENESS_MODELS", folder, 1);
    likeness("generate", "-p", "a dog", "-o", "x.png", NULL);
    failed(1, "LIKENESS_MODELS");
    unsetenv("LIKENESS_MODELS");
}

static void test_example(void **state)
{
    (void)state;
    const char *args[] = {EXAMPLE, "a photo of a cat", "x.png", NULL};
    finish(start(args, 0));
    assert_int_equal(last.status, 0);
    says(last.err, "step 10 of 10");
    assert_true(exists("x.png"));
    drop("x.png");
}

/* The public headers are whole by themselves, in C and in C++. */
static void test_header(void **state)
{
    (void)state;
    const char *header = "-I" SOURCE_DIR "/include " SOURCE_DIR "/include/likeness_study.h";
    char command[512];
    snprintf(command, sizeof command,
             "cc -std=c11 -pedantic -Wall -Wextra -Werror -fsyntax-only -x c %s", header);
    assert_int_equal(system(command), 0);
    if (system("command -v c++ >/dev/null") != 0) skip();
    snprintf(command, sizeof command, "c++ -pedantic -Wall -Wextra -Werror -fsyntax-only -x c++ %s",
             header);
    assert_int_equal(system(command), 0);
}

/* Ctrl-C after the first picture: it is kept, nothing is half-written, status 130. */
static void test_interrupt(void **state)
{
    (void)state;
    const char *args[] = {PROGRAM, "generate", "-m",     toy_path, "-t",      "1",
                          "-p",    "a",        "-s",     "1-900",  "--steps", "20",
                          "-o",    "stop/",    "--grid", "x.png",  NULL};
    pid_t child = start(args, 0);
    for (int i = 0; i < 3000 && !exists("stop/a-1.png"); i++)
        nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
    for (int i = 0; i < 3; i++) kill(child, SIGINT); /* an impatient one changes nothing */
    finish(child);
    assert_int_equal(last.status, 130);
    says(last.err, "stopped");
    assert_true(exists("stop/a-1.png"));
    assert_false(exists("stop/a-900.png"));
    assert_false(exists("x.png"));
    char command[400];
    snprintf(command, sizeof command, "test -z \"$(find %s -name '.*.tmp')\"", folder);
    assert_int_equal(system(command), 0);
}

/* Who started us ignores it (nohup, a script's &): so do we. */
static void test_ignored_interrupt(void **state)
{
    (void)state;
    const char *args[] = {PROGRAM, "generate", "-m",      toy_path, "-t", "1",        "-p", "a",
                          "-s",    "1-20",     "--steps", "20",     "-o", "ignored/", NULL};
    signal(SIGINT, SIG_IGN);
    pid_t child = start(args, 0);
    signal(SIGINT, SIG_DFL);
    for (int i = 0; i < 3000 && !exists("ignored/a-1.png"); i++)
        nanosleep(&(struct timespec){0, 5 * 1000 * 1000}, NULL);
    kill(child, SIGINT);
    finish(child);
    done();
    assert_true(exists("ignored/a-20.png"));
}

/* Nothing of the bar is left on the screen. */
static void no_remnant(void)
{
    assert_null(strstr(last.out, "/80"));
    assert_null(strchr(last.out, '['));
    assert_null(strstr(last.out, " s left"));
}

/* The bar fits the terminal, whatever its width and the letters; in the end it is gone, also when
 * it goes wrong and after Ctrl-C. */
static void test_bar(void **state)
{
    (void)state;
    static const int columns[] = {1, 7, 20, 44, 80, 200};
    const char *args[] = {
        PROGRAM, "generate", "-m",      toy_path, "-t", "1",  "-p", "\u732b\u306e\u5199\u771f",
        "-s",    "1-2",      "--steps", "40",     "-o", "b/", NULL, NULL};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        run_on_terminal(args, columns[i], NULL);
        done();
        no_remnant();
    }
    run_on_terminal(args, 44, "/80");
    assert_int_equal(last.status, 130);
    says(last.out, "likeness: stopped; ");
    no_remnant();
    assert_null(strstr(last.out, "^C"));
    assert_int_equal(symlink("/dev/full", in_folder("no-room.png")), 0);
    args[9] = "1";
    args[13] = "no-room.png";
    run_on_terminal(args, 80, NULL);
    assert_int_equal(last.status, 1);
    says(last.out, "/dev/full");
    no_remnant();
}

/* ---- bad flags ----------------------------------------------------------------------------- */

static void test_bad_values(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "--init-image", "--mask",  "--init-latents", "--save-latents", "--lora-dir",
        "--vae",        "--taesd", "--tokenizer",    "--grid",         "-m"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        likeness("generate", "-p", "a", "-o", "bad.png", paths[i], "", NULL);
        failed(2, paths[i]);
        says(last.err, " is empty: give a ");
        assert_false(exists("bad.png"));
    }
    static const char *const seeds[] = {"42-", "-2", "18446744073709551616", "", "a", "1,,2",
                                        "5-3", "1 2"};
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        TOY("-p", "a", "-s", seeds[i]);
        failed(2, "seed");
    }
    TOY("-p", "a", "--steps", "0");
    failed(2, "step");
    TOY("-p", "a", "--steps", "1001");
    failed(2, "1000");
    TOY("-p", "a", "-W", "33");
    failed(2, "multiple");
    TOY("-p", "a", "-W", "-32");
    failed(2, "-W and -H are sides in pixels");
    TOY("-p", "a", "-W", "200000", "-H", "200000");
    failed(1, "GiB");
    TOY("-p", "a", "-W", "2147483646", "-H", "2147483646");
    failed(1, "GiB");
    TOY("-p", "a", "--clip-skip", "2");
    failed(2, "clip skip");
    TOY("-p", "a", "--deep-cache", "-1");
    failed(2, "deep-cache");
    TOY("-p", "a", "--control", "nothing");
    failed(2, "FILE:IMAGE");
    TOY("-p", "a", "--control", "nothing:nowhere.png:0.5");
    failed(1, "nowhere.png");
    TOY("-p", "a", "--control", "nothing:" SOURCE_DIR "/examples/subject/01.png:x");
    failed(2, "/01.png:x: \"x\" is no number; FILE:IMAGE:0.8 is right");
    TOY("-p", "a", "-t", "-3");
    failed(2, "thread");
    TOY("-p", "a", "--sweep", "sampler=ddim colour=red");
    failed(2, "colour");
    TOY("-p", "a", "--sampler", "ddpm", "--variance", "learned");
    failed(2, "variance");
    setenv("LIKENESS_CPU", "avx1024", 1);
    TOY("-p", "a");
    failed(2, "LIKENESS_CPU=avx1024");
    unsetenv("LIKENESS_CPU");
    TOY("-p", "not UTF-8: \xff");
    failed(2, "UTF-8");
}

/* The whole of stderr but the progress: one line. */
#define WARNS(words) says(last.err, "likeness: warning: the " words "\n")

/* More threads than the machine has are not started, and that is said; the picture is the same. */
static void test_threads(void **state)
{
    (void)state;
    assert_int_equal(TOY("-p", "a"), 0);
    assert_null(strstr(last.err, "core"));
    assert_int_equal(TOY("-p", "a", "-t", "20000", "-o", "many.png"), 0);
    says(last.err, "likeness: -t 20000: there ");
    says(last.err, "for this program, so");
    assert_true(same_pixels("x.png", "many.png"));
    drop("x.png");
    drop("many.png");
}

static void test_prompts(void **state)
{
    (void)state;
    assert_int_equal(TOY("-p", ""), 0);
    drop("x.png");
    char words[300 * 7 + 1] = "";
    for (int i = 0; i < 300; i++) snprintf(words + 7 * i, 8, "Word%02d ", i % 100);
    assert_int_equal(TOY("-p", words), 0);
    /* the toy's 14 tokens are bytes: 6 of each word */
    WARNS("prompt is too long for the model, which reads 14 tokens: it is cut from \"rd02\" on, "
          "within \"Word02\"");
    assert_null(strstr(last.err, "negative"));
    drop("x.png");
    assert_int_equal(TOY("-p", "a", "-n", words), 0);
    WARNS("negative prompt is too long for the model, which reads 14 tokens: it is cut from "
          "\"rd02\" on, within \"Word02\"");
    drop("x.png");
    assert_int_equal(TOY("-p",
                         "\u732b\u306e\u5199\u771f\u732b\u306e\u5199\u771f\u732b\u306e\u5199\u771f"
                         "\u732b\u306e\u5199\u771f"),
                     0);
    WARNS("prompt is too long for the model, which reads 14 tokens: it is cut from "
          "\"\u732b\u306e\u5199\u771f\u732b\u306e\u5199\u771f\u732b\u306e\u5199\u771f\" on, within "
          "\"\u732b\u306e\u5199\u771f\u732b\u306e\u5199\u771f\u732b\u306e\u5199\u771f\u732b...\"");
    drop("x.png");
    assert_int_equal(TOY("-p", "abcde fgh ijklmn opqr"), 0);
    WARNS("prompt is too long for the model, which reads 14 tokens: it is cut from \"opqr\" on");
    drop("x.png");
    assert_int_equal(TOY("-p", "a dog", "-n", ""), 0);
    assert_null(strstr(last.err, "warning"));
    drop("x.png");
}

/* What AUTOMATIC1111 takes for commands: said once, in one line for each text. */
static void test_signs(void **state)
{
    (void)state;
    static const char *const signs[] = {"<lora:dog:0.8>", "(dog:1.3)", "((dog), cat:1.3)",
                                        "[dog:cat:0.5]",  "[dog:10]",  "[dog|cat]",
                                        "BREAK",          "AND"};
    static const char *const plain[] = {"a (dog)", "[dog]", "5:30",    "\\(dog:1.3\\)", "BREAKFAST",
                                        "SAND",    "<3",    "and",     "(a:b)",         "(a",
                                        "[a",      "a)",    "dog: 1.3"};
    char text[100];
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        snprintf(text, sizeof text, "a %s b", signs[i]);
        assert_int_equal(TOY("-p", text), 0);
        snprintf(text, sizeof text, "warning: the prompt is read literally: %s are words",
                 signs[i]);
        says(last.err, text);
        drop("x.png");
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        assert_int_equal(TOY("-p", plain[i]), 0);
        assert_null(strstr(last.err, "literally"));
        drop("x.png");
    }
    assert_int_equal(likeness("generate", "-m", toy_path, "-t", "1", "-p", "a", "-p", "b", "-n",
                              "(x:1.1) (y:1.2) (z:1.3) [a|b]", "--steps", "1", "-o", "signs/",
                              NULL),
                     0);
    WARNS("negative prompt is read literally: (x:1.1), (y:1.2), (z:1.3), ... are words like others "
          "here, not "
          "commands (--prompt-syntax a1111 reads them as such)");
    const char *line = strstr(last.err, "literally");
    assert_null(strstr(line + 1, "literally"));
    assert_int_equal(likeness("generate", "-m", toy_path, "-t", "1", "-p", "a (b:1.3) [c|d]",
                              "--prompt-syntax", "a1111", "--steps", "1", "-o", "signs/", NULL),
                     0);
    assert_null(strstr(last.err, "literally"));
    TOY("-p", "a", "--prompt-syntax", "comfy");
    failed(2, "--prompt-syntax comfy: there are plain, a1111");
}

static void test_bad_output(void **state)
{
    (void)state;
    TOY("-p", "a", "-s", "1,2");
    failed(2, "give a folder");
    likeness("generate", "-m", toy_path, "-t", "1", "-p", "a", "-o", "/proc/likeness/", NULL);
    failed(1, "/proc/likeness");
    likeness("generate", "-m", toy_path, "-t", "1", "-p", "a", "-o", "/proc/likeness/x.png", NULL);
    failed(1, "/proc/likeness");
    likeness("generate", "-m", toy_path, "-t", "1", "-p", "a", "-o", "x.bmp", NULL);
    failed(2, "x.bmp");
    likeness("generate", "-m", toy_path, "-t", "1", "-p", "a!", "-p", "a!", "-o", "twice/", NULL);
    failed(2, "two results");
    assert_false(exists("twice"));
    TOY("-p", "a", "--save-latents", "x.png");
    failed(2, "two results");
    TOY("-p", "a", "--grid", "x.png");
    failed(2, "two results");
    assert_int_equal(likeness("generate", "-m", toy_path, "-t", "1", "-p", "a", "--steps", "1",
                              "-o", "new/one/x.png", "--save-latents", "new/two/x.safetensors",
                              "--grid", "new/three/x.png", NULL),
                     0);
    assert_true(exists("new/one/x.png") && exists("new/two/x.safetensors") &&
                exists("new/three/x.png"));
}

/* ---- names of files ------------------------------------------------------------------------ */

#define NAMED(...)                                                                                 \
    likeness("generate", "-m", toy_path, "-t", "1", "--steps", "1", __VA_ARGS__, NULL)

static void test_random_seed(void **state)
{
    (void)state;
    char words[80];
    unsigned seed;
    assert_int_equal(TOY("-p", "a", "-s", "-1"), 0);
    assert_int_equal(sscanf(last.err, "seed %u\n", &seed), 1);
    assert_int_equal(likeness("inspect", "x.png", NULL), 0);
    snprintf(words, sizeof words, "Seed: %u, Size", seed);
    says(last.out, words);
    drop("x.png");
    assert_int_equal(TOY("-p", "a", "-s", "42-42"), 0);
    assert_null(strstr(last.err, "seed 42\n"));
    drop("x.png");
}

/* Letters of every script; two prompts of one name; a run beside an earlier one. */
static void test_names(void **state)
{
    (void)state;
    assert_int_equal(NAMED("-p", "\u732b\u306e\u5199\u771f", "-p", "\u041a\u043e\u0442!", "-p",
                           "\u041a\u043e\u0442?", "-s", "7,8", "-o", "names/"),
                     0);
    assert_string_equal(
        last.out, "names/\u732b\u306e\u5199\u771f-7.png\nnames/\u732b\u306e\u5199\u771f-8.png\n"
                  "names/\u043a\u043e\u0442-7.png\nnames/\u043a\u043e\u0442-8.png\n"
                  "names/\u043a\u043e\u0442-7-2.png\nnames/\u043a\u043e\u0442-8-2.png\n");
    says(last.err, "names/\u043a\u043e\u0442-7.png is another picture; this one is written to "
                   "names/\u043a\u043e\u0442-7-2.png, and others are numbered too");
    /* the same again is the same file; other settings are another, latents beside it */
    assert_int_equal(NAMED("-p", "\u041a\u043e\u0442?", "-s", "7", "-o", "names/"), 0);
    assert_string_equal(last.out, "names/\u043a\u043e\u0442-7-2.png\n");
    assert_int_equal(NAMED("-p", "\u732b\u306e\u5199\u771f", "-s", "7", "--guidance", "2", "-o",
                           "names/", "--save-latents", "names/"),
                     0);
    assert_string_equal(last.out, "names/\u732b\u306e\u5199\u771f-7-2.png\n");
    assert_true(exists("names/\u732b\u306e\u5199\u771f-7-2.safetensors"));
    assert_int_equal(NAMED("-p", "\u732b\u306e\u5199\u771f", "-s", "7", "--guidance", "3", "-o",
                           "names/", "--save-latents", "names/"),
                     0);
    assert_string_equal(last.out, "names/\u732b\u306e\u5199\u771f-7-3.png\n");
    assert_int_equal(NAMED("-p", "\u732b\u306e\u5199\u771f", "-s", "7", "--guidance", "4", "-o",
                           "names/", "--overwrite"),
                     0);
    assert_string_equal(last.out, "names/\u732b\u306e\u5199\u771f-7.png\n");
    assert_null(strstr(last.err, "another picture"));
    /* the longest prompt, with the longest setting */
    char words[4000] = "";
    for (int i = 0; i < 300; i++) strcat(words, "\u732b");
    assert_int_equal(
        NAMED("-p", words, "-s", "18446744073709551615", "-o", "names/", "--sweep",
              "sampler=ddpm steps=1 guidance=7.125 guidance_rescale=0.125 eta=0.125 "
              "variance=fixed_small_log spacing=trailing clip_skip=1 width=32 height=32"),
        0);
}

static void test_overwriting(void **state)
{
    (void)state;
    char photo[] = "a photo of mine";
    assert_int_equal(NAMED("-p", "a", "-o", "mine.png", "--grid", "sheet.png", "--save-latents",
                           "mine.safetensors"),
                     0);
    assert_int_equal(NAMED("-p", "a", "-o", "mine.png", "--grid", "sheet.png", "--save-latents",
                           "mine.safetensors"),
                     0);
    NAMED("-p", "b", "-o", "mine.png");
    failed(1, "mine.png is there, and was not made with these settings; choose another name, or "
              "say --overwrite");
    NAMED("-p", "b", "-o", "x.png", "--grid", "sheet.png");
    failed(1, "sheet.png is there");
    NAMED("-p", "a", "-p", "b", "-o", "more/", "--grid", "sheet.png");
    failed(1, "sheet.png is there");
    assert_false(exists("more"));
    NAMED("-p", "b", "-o", "x.png", "--save-latents", "mine.safetensors");
    failed(1, "mine.safetensors is there");
    /* another version of the program is no other setting */
    char command[400];
    snprintf(command, sizeof command, "sed -i 's/Version: likeness 0.1/Version: likeness 0.0/' %s",
             in_folder("mine.safetensors"));
    assert_int_equal(system(command), 0);
    assert_int_equal(NAMED("-p", "a", "-o", "mine.png", "--save-latents", "mine.safetensors"), 0);
    write_file(in_folder("photo.png"), photo, sizeof photo - 1);
    NAMED("-p", "a", "-o", "photo.png");
    failed(1, "photo.png is there");
    assert_int_equal(likeness("inspect", "sheet.png", NULL), 0);
    says(last.out, "Rows: a, Columns: seed 42\n");
    assert_int_equal(NAMED("-p", "b", "-o", "mine.png", "--overwrite"), 0);
    assert_int_equal(likeness("inspect", "mine.png", NULL), 0);
    says(last.out, "\nb\n");
    /* not even then what the run reads */
    NAMED("-p", "b", "-o", "x.png", "--overwrite", "--init-latents", "mine.safetensors",
          "--save-latents", "./mine.safetensors");
    failed(2, "mine.safetensors is what this run reads");
    drop("photo.png");
}

/* What a killed run left half-written goes; what a run that lives is writing stays. */
static void test_left_over(void **state)
{
    (void)state;
    char living[80];
    assert_int_equal(mkdir(in_folder("left"), 0777), 0);
    pid_t gone = fork();
    if (gone == 0) _exit(0);
    assert_int_equal(waitpid(gone, NULL, 0), gone);
    char dead[80];
    snprintf(dead, sizeof dead, "left/.a-42.png.%d-0.tmp", (int)gone);
    snprintf(living, sizeof living, "left/.a-42.png.%d-0.tmp", (int)getpid());
    write_file(in_folder(dead), "half", 4);
    write_file(in_folder(living), "half", 4);
    assert_int_equal(NAMED("-p", "a", "-o", "left/"), 0);
    assert_false(exists(dead));
    assert_true(exists(living));
}

/* Another run wrote the file while this one worked: its picture stays, this one gets a number. */
static void test_meanwhile(void **state)
{
    (void)state;
    const char *args[] = {PROGRAM, "generate", "-m",      toy_path, "-t", "1",          "-p", "a",
                          "-s",    "1-40",     "--steps", "40",     "-o", "meanwhile/", NULL};
    pid_t child = start(args, 0);
    for (int i = 0; i < 3000 && !exists("meanwhile/a-1.png"); i++)
        nanosleep(&(struct timespec){0, 5 * 1000 * 1000}, NULL);
    write_file(in_folder("meanwhile/a-40.png"), "mine", 4);
    finish(child);
    done();
    says(last.out, "meanwhile/a-40-2.png\n");
    says(last.err, "warning: meanwhile/a-40.png was written by another run meanwhile");
    assert_true(exists("meanwhile/a-40-2.png"));
    char text[MAX_TEXT];
    slurp(in_folder("meanwhile/a-40.png"), text);
    assert_string_equal(text, "mine");
}

static void test_full_disk(void **state)
{
    (void)state;
    const char *args[] = {PROGRAM, "generate", "-m", toy_path, "-t",    "1", "-p",
                          "a",     "--steps",  "1",  "-o",     "x.png", NULL};
    finish(start(args, 1024)); /* no file may pass 1 KiB */
    assert_int_equal(last.status, 1);
    says(last.err, "x.png");
    assert_false(exists("x.png"));
    assert_int_equal(symlink("/dev/full", in_folder("full.png")), 0);
    assert_int_equal(likeness("generate", "-m", toy_path, "-t", "1", "-p", "a", "--steps", "1",
                              "-o", "full.png", NULL),
                     1);
    says(last.err, "/dev/full");
}

/* ---- bad models ---------------------------------------------------------------------------- */

/* A fresh toy to damage, at bad/. */
static void bad_toy(void)
{
    error e = {0};
    if (!toy_stable_diffusion(in_folder("bad"), &e)) fail_msg("%s", e.text);
}

static void refused(const char *words)
{
    likeness("generate", "-m", "bad", "-p", "a", "-t", "1", "--steps", "1", "-o", "x.png", NULL);
    failed(1, words);
}

static void test_bad_folder(void **state)
{
    (void)state;
    likeness("generate", "-m", "nothing", "-p", "a", "-o", "x.png", NULL);
    failed(1, "nothing");
    static const char *const part[][2] = {
        /* a file that is not there, what the message must name */
        {"unet/config.json", "unet/config.json"},
        {"vae/config.json", "vae/config.json"},
        {"text_encoder/config.json", "text_encoder/config.json"},
        {"unet/diffusion_pytorch_model.safetensors", "bad/unet"},
        {"vae/diffusion_pytorch_model.safetensors", "bad/vae"},
        {"text_encoder/model.safetensors", "bad/text_encoder"},
        {"tokenizer/vocab.json", "bad/tokenizer"},
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        char path[300];
        bad_toy();
        snprintf(path, sizeof path, "bad/%s", part[i][0]);
        drop(path);
        refused(part[i][1]);
    }
    bad_toy();
    char json[] = "{\"_class_name\": \"UNet2DConditionModel\", \"block_out_channels\": [32],"
                  " \"down_block_types\": [\"StrangeDownBlock\"], \"up_block_types\": "
                  "[\"UpBlock2D\"]}";
    write_file(in_folder("bad/unet/config.json"), json, sizeof json - 1);
    refused("StrangeDownBlock");
    char wrong[] = "{\"_class_name\": \"UNet2DConditionModel\", \"layers_per_block\": \"two\"}";
    write_file(in_folder("bad/unet/config.json"), wrong, sizeof wrong - 1);
    refused("layers_per_block");
    write_file(in_folder("bad/unet/config.json"), "{", 1);
    refused("unet/config.json");
}

/* A safetensors file with this header (its length as claimed, or its own where 0) and data. */
static void lie(const char *header, uint64_t claimed, size_t data)
{
    static uint8_t zero[4096];
    uint64_t length = claimed ? claimed : strlen(header);
    FILE *f = fopen(in_folder("bad/vae/diffusion_pytorch_model.safetensors"), "wb");
    assert_non_null(f);
    fwrite(&length, 8, 1, f); /* this test runs on little-endian machines, as the program does */
    fwrite(header, 1, strlen(header), f);
    fwrite(zero, 1, data, f);
    fclose(f);
    refused("vae/diffusion_pytorch_model.safetensors");
}

static void test_lying_files(void **state)
{
    (void)state;
    bad_toy();
    const char *one = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    lie(one, 200 * 1000 * 1000, 8);
    lie(one, UINT64_MAX, 8);
    lie(one, 4000, 8);
    lie(one, 0, 4);
    lie(one, 0, 12);
    lie("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 0, 8);
    lie("{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 8);
    lie("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 0, 8);
    lie("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", 0,
        8);
    lie("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 0, 8);
    lie("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,18446744073709551615]}}", 0,
        8);
    lie("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
        0, 12);
    lie("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}}",
        0, 20);
    lie("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
        0, 16);
    lie("[]", 0, 0);
    lie("{\"a\":", 0, 0);
    char *bomb = malloc(100001);
    memset(bomb, '[', 100000);
    bomb[100000] = '\0';
    memcpy(bomb, "{\"a\":", 5);
    lie(bomb, 0, 0);
    free(bomb);
    write_file(in_folder("bad/vae/diffusion_pytorch_model.safetensors"), "abc", 3);
    refused("vae/diffusion_pytorch_model.safetensors");
    write_file(in_folder("bad/vae/diffusion_pytorch_model.safetensors"), "", 0);
    refused("vae/diffusion_pytorch_model.safetensors");
}

/* Puts a value into the first number of a tensor. */
static void poison(const char *part, const char *tensor_name, float value)
{
    safetensors file;
    error e = {0};
    bad_toy();
    assert_true(safetensors_open(&file, in_folder(part), &e));
    const safetensors_entry *t = safetensors_find(&file, tensor_name);
    assert_non_null(t);
    off_t at = (off_t)((const uint8_t *)t->data - file.map.data);
    safetensors_close(&file);
    int f = open(in_folder(part), O_WRONLY);
    assert_true(f >= 0);
    assert_int_equal(pwrite(f, &value, sizeof value, at), sizeof value);
    close(f);
    refused(tensor_name);
}

static void test_bad_weights(void **state)
{
    (void)state;
    poison("bad/unet/diffusion_pytorch_model.safetensors", "conv_in.weight", NAN);
    poison("bad/vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight", INFINITY);
    poison("bad/text_encoder/model.safetensors", "text_model.final_layer_norm.bias", NAN);
    bad_toy();
    struct stat info;
    const char *path = in_folder("bad/unet/diffusion_pytorch_model.safetensors");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - 4), 0);
    refused("unet/diffusion_pytorch_model.safetensors");
    /* missing, surplus and misshapen tensors: all are named at once */
    bad_toy();
    error e = {0};
    float number[2] = {0};
    safetensors_entry entry[2] = {
        {.name = "conv_in.weight", .rank = 1, .dim = {2}, .data = number, .bytes = 8},
        {.name = "surplus.weight", .rank = 1, .dim = {2}, .data = number, .bytes = 8},
    };
    assert_true(safetensors_write(path, entry, 2, NULL, 0, &e));
    refused("time_embedding.linear_1.bias");
    says(last.err, "conv_in.weight");
    says(last.err, "surplus.weight");
}

/* ---- all ----------------------------------------------------------------------------------- */

static int clean(void **state)
{
    (void)state;
    drop("x.png");
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    unsetenv("LIKENESS_MODELS");
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy_path, sizeof toy_path, "%s/toy", folder);
    snprintf(ddpm_path, sizeof ddpm_path, "%s/ddpm-toy", folder);
    if (toy_stable_diffusion(toy_path, &e) && toy_unconditional(ddpm_path, &e)) return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

#define TEST(name) cmocka_unit_test_setup(name, clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_usage),      TEST(test_image),         TEST(test_many),
        TEST(test_latents),    TEST(test_unconditional), TEST(test_inspect_model),
        TEST(test_samplers),   TEST(test_default_model), TEST(test_example),
        TEST(test_header),     TEST(test_interrupt),     TEST(test_ignored_interrupt),
        TEST(test_bar),        TEST(test_bad_values),    TEST(test_threads),
        TEST(test_prompts),    TEST(test_signs),         TEST(test_random_seed),
        TEST(test_names),      TEST(test_overwriting),   TEST(test_left_over),
        TEST(test_meanwhile),  TEST(test_bad_output),    TEST(test_full_disk),
        TEST(test_bad_folder), TEST(test_lying_files),   TEST(test_bad_weights),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
