/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_like: likeness generate --like, a picture made again from what it says of itself. */
#include <unistd.h>

#include "file/image.h"
#include "program.h"
#include "support.h"
#include "toy.h"

static char toy_path[300];

/* A picture of the toy at `name`, with more flags. */
#define TOY(name, ...)                                                                             \
    likeness("generate", "-m", toy_path, "-t", "1", "-o", name, __VA_ARGS__, NULL)

/* The bytes of one file of the folder are another's. */
static bool same_file(const char *a, const char *b)
{
    char line[1300];
    snprintf(line, sizeof line, "cmp -s %s %s", in_folder(a), in_folder(b));
    return system(line) == 0;
}

/* first.png with another text about itself, at other.png. */
static void say(const char *text)
{
    image m;
    error e = {0};
    assert_true(image_read(&m, NULL, in_folder("first.png"), &e));
    assert_true(image_write(&m, in_folder("other.png"), text, 90, &e));
    image_free(&m);
}

static void test_again(void **state)
{
    (void)state;
    assert_int_equal(TOY("first.png", "-p", "a dog, 2 cats: \"x\"", "-n", "rain, snow", "-s", "7",
                         "--steps", "3", "--sampler", "DPM++ 2M Karras", "--guidance", "3.3",
                         "--guidance_rescale", "0.25", "-W", "48", "--clip-skip", "1",
                         "--deep-cache", "2"),
                     0);
    assert_int_equal(TOY("x.png", "--like", "first.png"), 0);
    assert_true(same_file("x.png", "first.png"));
    assert_null(strstr(last.err, "warning"));
    drop("x.png");
    assert_int_equal(TOY("eta.png", "-p", "a", "--sampler", "ddim", "--eta", "0.5", "--spacing",
                         "trailing", "--steps", "4", "--deep-cache", "2"),
                     0);
    assert_int_equal(TOY("x.png", "--like", "eta.png"), 0);
    assert_true(same_file("x.png", "eta.png"));
    drop("x.png");
    assert_int_equal(TOY("list.png", "-p", "a", "--sampler", "euler", "--sigmas", "9,3,1,0"), 0);
    assert_int_equal(TOY("x.png", "--like", "list.png"), 0);
    assert_true(same_file("x.png", "list.png"));
}

static void test_flags_go_first(void **state)
{
    (void)state;
    assert_int_equal(TOY("x.png", "--like", "first.png", "-p", "a cat", "-s", "8", "--sampler",
                         "ddim", "--steps", "2", "--guidance", "1.5"),
                     0);
    assert_int_equal(likeness("inspect", "x.png", NULL), 0);
    says(last.out, "a cat\nNegative prompt: rain, snow\nSteps: 2, Sampler: DDIM, CFG scale: 1.5, "
                   "Seed: 8, Size: 48x32,");
    assert_null(strstr(last.out, "Karras")); /* those sigmas were the other sampler's */
}

static void test_schedule(void **state)
{
    (void)state;
#define TWO "-m", "base=toy", "-m", "tuned=toy2"
    assert_int_equal(likeness("generate", TWO, "-t", "1", "-p", "a dog", "--steps", "4",
                              "--schedule", "base x3, tuned rest", "-o", "mixed.png", NULL),
                     0);
    assert_int_equal(
        likeness("generate", TWO, "-t", "1", "--like", "mixed.png", "-o", "x.png", NULL), 0);
    assert_true(same_file("x.png", "mixed.png"));
    drop("x.png");
    likeness("generate", "--like", "mixed.png", "-o", "x.png", NULL);
    failed(2, "it was made by several models (base=toy ");
}

static void test_others(void **state)
{
    (void)state;
    say("a dog\nSteps: 2, Sampler: Euler, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: "
        "32x32, Model hash: 6ce0161689, Model: v1-5, Face restoration: GFPGAN, Version: v1.10.1");
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    says(last.err, "what it also says is not done here: Face restoration: GFPGAN\n");
    assert_null(strstr(last.err, "Model hash")); /* theirs is another kind of hash */
    drop("x.png");
    say("a dog\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 32x32, Model hash: "
        "0123456789, Lora hashes: \"a: b\", Version: likeness 0.1.0");
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    says(last.err, "\"Model hash\" was 0123456789, here it is ");
    says(last.err, "\"Lora hashes\" was a: b, here it is missing");
    drop("x.png");
    likeness("generate", "--like", "other.png", "-o", "x.png", NULL);
    failed(2, "it was made with the model  (0123456789): say where it is with -m PATH");
}

/* The ControlNet and its picture have to be given again, and are compared. */
static void test_control(void **state)
{
    (void)state;
    error e = {0};
    image m;
    assert_true(toy_controlnet(in_folder("net"), &e) && image_new(&m, 20, 30, &e));
    for (int i = 0; i < 20 * 30 * 3; i++) m.pixels[i] = (uint8_t)(i * 5);
    assert_true(image_write(&m, in_folder("edges.png"), NULL, 90, &e));
    image_free(&m);
    assert_int_equal(TOY("c.png", "-p", "a", "--steps", "2", "--control", "net:edges.png:0.5"), 0);
    assert_int_equal(TOY("x.png", "--like", "c.png", "--control", "net:edges.png:0.5"), 0);
    assert_null(strstr(last.err, "warning"));
    assert_true(same_file("x.png", "c.png"));
    assert_int_equal(TOY("y.png", "--like", "c.png"), 0);
    says(last.err, "\"ControlNet 0\" was Model: net ");
    says(last.err, ", Weight: 0.5, here it is missing");
    assert_false(same_file("y.png", "c.png"));
    assert_int_equal(TOY("z.png", "--like", "c.png", "--control", "net:edges.png", "--control",
                         "net:edges.png:0.5"),
                     0);
    says(last.err, "here it is Model: net ");
    says(last.err, "\"ControlNet 1\" was not told, here it is ");
    drop("c.png");
    drop("x.png");
    drop("y.png");
    drop("z.png");
    TOY("edges.png", "-p", "a", "--overwrite", "--control", "net:edges.png");
    failed(2, "edges.png is what this run reads");
    TOY("q.png", "-p", "a", "--control", "toy/unet:edges.png");
    failed(1, "no ControlNet");
    drop("edges.png");
}

/* Which tiny autoencoder decoded is told and compared; its pictures do not go over the VAE's. */
static void test_taesd(void **state)
{
    (void)state;
    char tiny[1000];
    snprintf(tiny, sizeof tiny, "%s", fixture_path("model/taesd"));
    assert_int_equal(TOY("t.png", "-p", "a", "--steps", "2", "--taesd", tiny), 0);
    assert_int_equal(likeness("inspect", "t.png", NULL), 0);
    says(last.out, ", VAE: taesd, ");
    assert_int_equal(TOY("x.png", "--like", "t.png", "--taesd", tiny), 0);
    assert_null(strstr(last.err, "warning"));
    assert_true(same_file("x.png", "t.png"));
    drop("x.png");
    TOY("t.png", "-p", "a", "--steps", "2");
    failed(1, "t.png");
    assert_int_equal(TOY("y.png", "--like", "t.png"), 0);
    says(last.err, "\"VAE hash\" was ");
    says(last.err, "here it is missing");
    assert_false(same_file("y.png", "t.png"));
    drop("y.png");
    TOY("q.png", "-p", "a", "--taesd", "toy/vae");
    failed(1, "give it with --vae");
    snprintf(tiny, sizeof tiny, "%s/taesd_decoder.pth", fixture_path("model/taesd"));
    assert_int_equal(likeness("inspect", tiny, NULL), 0);
    says(last.out, "a tiny autoencoder (original names), to be given with --taesd");
    drop("t.png");
}

static void test_bad_input(void **state)
{
    (void)state;
    TOY("x.png", "--like", "nowhere.png");
    failed(1, "nowhere.png: cannot open");
    say(NULL);
    TOY("x.png", "--like", "other.png");
    failed(1, "it does not say how it was made");
    say("a dog");
    TOY("x.png", "--like", "other.png");
    failed(1, "has no steps");
    say("a\nSteps: many, Sampler: DDIM, Seed: 1");
    TOY("x.png", "--like", "other.png");
    failed(2, "--like other.png: Steps wants a whole number, not \"many\"");
    say("a\nSteps: 2, Sampler: Foo, Seed: 1");
    TOY("x.png", "--like", "other.png");
    failed(2, "there is no sampler \"Foo\"");
    say("a\nSteps: 2, Sampler: DDIM, Seed: 1, Rows: a, Columns: b");
    TOY("x.png", "--like", "other.png");
    failed(2, "it is a grid of several pictures");
    TOY("x.png", "--like");
    failed(2, "--like wants a value");
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    unsetenv("LIKENESS_MODELS");
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy_path, sizeof toy_path, "%s/toy", folder);
    if (toy_stable_diffusion(toy_path, &e) && toy_stable_diffusion(in_folder("toy2"), &e)) return 0;
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
        TEST(test_again),   TEST(test_flags_go_first), TEST(test_schedule),  TEST(test_others),
        TEST(test_control), TEST(test_taesd),          TEST(test_bad_input),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
