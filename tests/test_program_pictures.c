/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_pictures: likeness generate from pictures (--init-image, --strength, --mask), in two
 * passes (--hires), and several of a seed (--batch). */
#include <signal.h>
#include <time.h>

#include "file/image.h"
#include "program.h"
#include "support.h"
#include "toy.h"

static char toy_path[300];

#define TOY(name, ...)                                                                             \
    likeness("generate", "-m", toy_path, "-t", "1", "-p", "a dog", "--steps", "4", "-o", name,     \
             __VA_ARGS__, NULL)

static void paint(const char *name, int width, int height, int kind)
{
    image m;
    error e = {0};
    assert_true(image_new(&m, width, height, &e));
    for (int i = 0; i < 3 * width * height; i++)
        m.pixels[i] = kind ? (uint8_t)(i % (3 * width) < width ? 0 : 255) : (uint8_t)(i * 7 % 251);
    assert_true(image_write(&m, in_folder(name), NULL, 90, &e));
    image_free(&m);
}

static void test_from_a_picture(void **state)
{
    (void)state;
    assert_int_equal(TOY("from.png", "--init-image", "init.png", "--strength", "0.5"), 0);
    likeness("inspect", "from.png", NULL);
    says(last.out, "40x32");
    says(last.out, "Denoising strength: 0.5, Init image hash: ");
    assert_int_equal(TOY("again.png", "--like", "from.png", "-i", "init.png"), 0);
    assert_true(same_file("again.png", "from.png"));
    assert_int_equal(TOY("again.png", "--like", "from.png", "-i", "mask.png", "--overwrite"), 0);
    says(last.err, "\"Init image hash\" was ");
    assert_int_equal(TOY("masked.png", "-i", "init.png", "--strength", "0.5", "--mask", "mask.png"),
                     0);
    assert_false(same_file("masked.png", "from.png"));
    likeness("inspect", "masked.png", NULL);
    says(last.out, "Mask hash: ");
    /* the same name for another strength is refused, and what is read is never written over */
    TOY("from.png", "--init-image", "init.png", "--strength", "0.75");
    assert_int_equal(last.status, 1);
    TOY("init.png", "--init-image", "init.png", "--overwrite");
    assert_int_equal(last.status, 2);
    says(last.err, "is what this run reads");
    /* a schedule counts the steps that are made */
    char a[320], b[320];
    snprintf(a, sizeof a, "a=%s", toy_path);
    snprintf(b, sizeof b, "b=%s", toy_path);
    likeness("generate", "-m", a, "-m", b, "-p", "a dog", "--steps", "4", "--schedule",
             "a x1, b x1", "-i", "init.png", "--strength", "0.5", "-o", "x.png", NULL);
    done();
    drop("x.png");
    likeness("generate", "-m", a, "-m", b, "-p", "a dog", "--steps", "4", "--schedule",
             "a x3, b rest", "-i", "init.png", "--strength", "0.5", "-o", "x.png", NULL);
    failed(2, "has more steps than the run, which has 2");
}

static void test_refused(void **state)
{
    (void)state;
    paint("dot.png", 1, 1, 0);
    TOY("x.png", "-i", "dot.png");
    failed(2, "the init image is 1x1, too small: this model needs 2x2 at least");
    TOY("x.png", "-i", "init.png", "--strength", "1.2");
    failed(2, "strength is 1.2; give a number from 0 to 1");
    TOY("x.png", "-i", "init.png", "--strength", "0.2");
    failed(2, "strength 0.2 of 4 steps leaves none to make");
    TOY("x.png", "-i", "init.png", "--mask", "small.png");
    failed(2, "the mask is 8x8, the picture 41x33");
    TOY("x.png", "--mask", "mask.png");
    failed(2, "give that picture with --init-image");
    TOY("x.png", "-i", "none.png");
    failed(1, "none.png: cannot open");
    TOY("x.png", "--hires", "1");
    failed(2, "hires is 1; give a number above 1");
    TOY("x.png", "--strength", "0.8");
    failed(2, "--strength is of a picture that is changed: give it with -i FILE");
    TOY("x.png", "--hires-steps", "2");
    failed(2, "--hires-steps is of a second pass");
    TOY("x.png", "--hires-strength", "0.7");
    failed(2, "--hires-strength is of a second pass");
    TOY("x.png", "--hires-upscaler", "latent");
    failed(2, "--hires-upscaler is of a second pass");
    TOY("x.png", "--like", "from.png", "--strength", "0.5");
    failed(2, "--strength is of a picture");
    TOY("x.png", "-b", "0");
    failed(2, "-b 0: give 1 to 100000");
}

static void test_hires(void **state)
{
    (void)state;
    assert_int_equal(TOY("large.png", "--hires", "2", "--hires-steps", "2", "--save-latents",
                         "large.safetensors"),
                     0);
    likeness("inspect", "large.png", NULL);
    says(last.out, "64x64");
    says(last.out, "Size: 32x32, ");
    says(last.out, "Hires upscale: 2, Hires steps: 2, Hires upscaler: Latent");
    assert_int_equal(TOY("again.png", "--like", "large.png", "--overwrite"), 0);
    assert_true(same_file("again.png", "large.png"));
    /* the noise that it began with is the small picture's */
    assert_int_equal(TOY("small-again.png", "--init-latents", "large.safetensors"), 0);
}

/* One colour is no mask, which is told; so is a second pass that is cut to whole latents. */
static void test_notes(void **state)
{
    (void)state;
    image m;
    error e = {0};
    for (int white = 0; white < 2; white++) {
        assert_true(image_new(&m, 41, 33, &e));
        memset(m.pixels, white ? 128 : 127, 3 * 41 * 33);
        assert_true(image_write(&m, in_folder("one.png"), NULL, 90, &e));
        image_free(&m);
        assert_int_equal(TOY("one-made.png", "-i", "init.png", "--mask", "one.png", "--overwrite"),
                         0);
        says(last.err, white ? "the mask is all white, so all of the picture is made anew; its "
                               "colours are read (white is made anew), its alpha is not the mask"
                             : "the mask is all black, so nothing of the picture is made anew; ");
    }
    assert_int_equal(TOY("one-made.png", "-i", "init.png", "--mask", "mask.png", "--overwrite"), 0);
    assert_null(strstr(last.err, "the mask is"));
    assert_int_equal(TOY("cut.png", "-W", "34", "--hires", "1.42"), 0);
    says(last.err, "warning: hires 1.42 makes this 48x44: as much as is whole latents\n");
    likeness("inspect", "cut.png", NULL);
    says(last.out, "Hires upscale: 1.42, Hires resize: 48x44, ");
    assert_int_equal(TOY("again.png", "--like", "cut.png", "--overwrite"), 0);
    assert_true(same_file("again.png", "cut.png"));
}

/* What is no larger than a tile is as ever; a larger one says that it is not. */
static void test_tile(void **state)
{
    (void)state;
    assert_int_equal(TOY("plain.png", "-W", "32"), 0);
    assert_int_equal(TOY("tiled.png", "-W", "32", "--tile"), 0);
    assert_true(same_file("plain.png", "tiled.png"));
    assert_int_equal(TOY("tiled-large.png", "-W", "72", "-H", "56", "--tile"), 0);
    likeness("inspect", "tiled-large.png", NULL);
    says(last.out, "VAE tiling: True");
    assert_int_equal(TOY("again.png", "--like", "tiled-large.png", "--overwrite"), 0);
    assert_true(same_file("again.png", "tiled-large.png"));
    assert_int_equal(TOY("plain-large.png", "-W", "72", "-H", "56"), 0);
    assert_false(same_pixels("plain-large.png", "tiled-large.png"));
    assert_int_equal(TOY("tiled-from.png", "-i", "init.png", "-W", "72", "--tile"), 0);
}

/* Previews change no byte, leave nothing, and take no other file's place. */
static void test_preview(void **state)
{
    (void)state;
    assert_int_equal(TOY("shown.png", "--preview", "1"), 0);
    assert_false(exists("shown-preview.png"));
    assert_int_equal(TOY("unshown.png", "-s", "42"), 0);
    assert_true(same_file("shown.png", "unshown.png"));
    assert_int_equal(TOY("shown.png", "--preview", "2", "--hires", "2", "--overwrite"), 0);
    paint("kept-preview.png", 8, 8, 0);
    TOY("kept.png", "--preview", "1");
    assert_int_equal(last.status, 1);
    says(last.err, "kept-preview.png is there, and is no preview");
    assert_false(exists("kept.png"));
    TOY("x.png", "--preview", "-1");
    failed(2, "--preview -1: steps cannot be negative");
}

/* Whether a file of the folder is called so. */
static bool any_preview(const char *where)
{
    char command[400];
    snprintf(command, sizeof command, "test -n \"$(find %s -name '*-preview.png')\"",
             in_folder(where));
    return system(command) == 0;
}

/* What Ctrl-C leaves is finished. */
static void test_stopped_preview(void **state)
{
    (void)state;
    const char *args[] = {PROGRAM, "generate", "-m",        toy_path, "-t", "1",
                          "-p",    "a",        "--steps",   "900",    "-o", "stop/",
                          "-s",    "1-900",    "--preview", "1",      NULL};
    pid_t child = start(args, 0);
    for (int i = 0; i < 3000 && !(exists("stop") && any_preview("stop")); i++)
        nanosleep(&(struct timespec){0, 5 * 1000 * 1000}, NULL);
    assert_true(any_preview("stop"));
    kill(child, SIGINT);
    finish(child);
    assert_int_equal(last.status, 130);
    assert_false(any_preview("stop"));
}

/* What would do nothing is said or refused. */
static void test_nothing_done(void **state)
{
    (void)state;
    assert_int_equal(TOY("begun.png", "--save-latents", "begun.safetensors", "-s", "5"), 0);
    TOY("equal/", "--init-latents", "begun.safetensors", "-b", "2");
    assert_int_equal(last.status, 2);
    says(last.err, "--init-latents begun.safetensors: all 2 seeds would begin with it, and DDIM "
                   "draws no noise of its own: the pictures would be equal; give one seed");
    assert_false(exists("equal"));
    assert_int_equal(
        TOY("drawn/", "--init-latents", "begun.safetensors", "-b", "2", "--sampler", "euler_a"), 0);
    assert_false(same_pixels("drawn/a-dog-42.png", "drawn/a-dog-43.png"));
    assert_int_equal(TOY("away.png", "-n", "cats", "--guidance", "1"), 0);
    says(last.err, "the negative prompt is not read: guidance is 1, and leads away from it only "
                   "above 1");
    assert_int_equal(TOY("away2.png", "-n", "cats", "--guidance", "1.5"), 0);
    assert_null(strstr(last.err, "negative"));
    static const char *const flags[][2] = {{"-W", "0"}, {"-H", "0"}, {"-H", "-8"}};
    for (int i = 0; i < 3; i++) {
        TOY("x.png", flags[i][0], flags[i][1]);
        failed(2, "-W and -H are sides in pixels: give multiples of 8, or neither, for the size ");
    }
    TOY("x.png", "--steps", "0");
    failed(2, "steps is 0; give at least 1");
}

static void test_batch(void **state)
{
    (void)state;
    assert_int_equal(TOY("few/", "-s", "7,20", "-b", "2"), 0);
    assert_true(exists("few/a-dog-7.png") && exists("few/a-dog-8.png"));
    assert_true(exists("few/a-dog-20.png") && exists("few/a-dog-21.png"));
    assert_int_equal(TOY("eight.png", "-s", "8"), 0);
    assert_true(same_file("few/a-dog-8.png", "eight.png"));
}

static int prepare(void **state)
{
    (void)state;
    error e = {0};
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy_path, sizeof toy_path, "%s/toy", folder);
    if (!toy_stable_diffusion(toy_path, &e)) return -1;
    paint("init.png", 41, 33, 0);
    paint("mask.png", 41, 33, 1);
    paint("small.png", 8, 8, 1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_a_picture), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_hires),          cmocka_unit_test(test_notes),
        cmocka_unit_test(test_tile),           cmocka_unit_test(test_stopped_preview),
        cmocka_unit_test(test_nothing_done),   cmocka_unit_test(test_preview),
        cmocka_unit_test(test_batch),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
