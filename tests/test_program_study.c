/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_study: likeness study as a user runs it: everything in one folder, nothing made
 * twice, kills at any moment, and bad plans. */
#include <glob.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/random.h"
#include "file/image.h"
#include "program.h"
#include "support.h"
#include "toy.h"

/* A toy, the same trained for 6 updates, 2 prompts x 2 seeds on both, and switching between them.
 */
static void write_plan(const char *name, const char *prompts)
{
    char text[4096];
    int n = snprintf(
        text, sizeof text,
        "{\"title\": \"A toy study\", \"defaults\": {\"steps\": 4, \"guidance\": 3},\n"
        " \"models\": {\"base\": {\"path\": \"%s/toy\"},\n"
        "  \"tuned\": {\"train\": {\"model\": \"base\", \"instance_data_dir\": "
        "\"%s/examples/subject\",\n"
        "   \"instance_prompt\": \"a photo of sks dog\", \"class_prompt\": \"a dog\",\n"
        "   \"with_prior_preservation\": true, \"num_class_images\": 2, \"learning_rate\": 1e-3,\n"
        "   \"train_batch_size\": 1, \"max_train_steps\": 6},\n"
        "   \"class_steps\": 2, \"class_guidance\": 2}},\n"
        " \"sections\": [\n"
        "  {\"id\": \"base\", \"title\": \"Base\", \"settings\": {\"model\": \"base\"}, \"rows\": "
        "{\"prompt\": [%s]},\n"
        "   \"columns\": {\"seed\": [1, 2]}},\n"
        "  {\"id\": \"tuned\", \"title\": \"Tuned\", \"settings\": {\"model\": \"tuned\"}, "
        "\"rows\": {\"prompt\": [%s]},\n"
        "   \"columns\": {\"seed\": [1, 2]}},\n"
        "  {\"id\": \"switching\", \"title\": \"Switching\", \"settings\": {\"prompt\": \"a "
        "dog\"},\n"
        "   \"rows\": {\"switch\": {\"from\": \"base\", \"to\": \"tuned\", \"at\": [0, 1, 2, "
        "4]}},\n"
        "   \"columns\": {\"seed\": [1, 2]}}],\n"
        " \"measures\": {\"noises\": 1}}\n",
        folder, SOURCE_DIR, prompts, prompts);
    assert_true(n > 0 && n < (int)sizeof text);
    write_file(in_folder(name), text, (size_t)n);
}

static int count_files(const char *pattern)
{
    char command[900], text[MAX_TEXT];
    snprintf(command, sizeof command, "cd %s && ls -d %s 2>/dev/null | wc -l >count", folder,
             pattern);
    assert_int_equal(system(command), 0);
    slurp(in_folder("count"), text);
    return atoi(text);
}

/* Everything but what tells of time: times.json, the training's record, the page's last line. */
static void same_folders(const char *a, const char *b)
{
    char command[1800];
    snprintf(
        command, sizeof command,
        "cd %s && for d in %s %s; do (cd $d && find . -type f ! -name times.json ! -name "
        "train.jsonl "
        "! -name report.html ! -name train.json ! -name '*.csv' ! -name manifest.json | sort | "
        "xargs sha256sum; sed '/<footer/,/<\\/footer>/d' report.html | sha256sum; "
        "sha256sum < cells.csv) >$d.sums; done; diff %s.sums %s.sums",
        folder, a, b, a, b);
    if (system(command) != 0) fail_msg("%s and %s differ", a, b);
}

/* How many pictures of the pattern have the same pixels and say the same of themselves as x.png. */
static int count_twins(const char *pattern)
{
    glob_t found;
    image wanted, one;
    char *wanted_text, *text;
    error e = {0};
    int twins = 0;
    assert_true(image_read(&wanted, &wanted_text, in_folder("x.png"), &e));
    assert_int_equal(glob(in_folder(pattern), 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        if (!image_read(&one, &text, found.gl_pathv[i], &e)) fail_msg("%s", e.text);
        size_t bytes = (size_t)wanted.width * (size_t)wanted.height * 3;
        assert_non_null(text);
        twins += one.width == wanted.width && one.height == wanted.height &&
                 !memcmp(one.pixels, wanted.pixels, bytes) && !strcmp(text, wanted_text);
        image_free(&one);
        free(text);
    }
    globfree(&found);
    image_free(&wanted);
    free(wanted_text);
    drop("x.png");
    return twins;
}

/* What a study makes is what `generate` makes, settings included: alone, in turns, and for the
 * class. */
static void check_twins(void)
{
#define X(...) likeness("generate", "-t", "1", "-p", "a dog", "-o", "x.png", __VA_ARGS__, NULL)
    X("-m", "toy", "-s", "2", "--steps", "4", "--guidance", "3");
    assert_int_equal(count_twins("one/cells/*.png"), 1);
    X("-m", "one/models/tuned", "-s", "1", "--steps", "4", "--guidance", "3");
    assert_int_equal(count_twins("one/cells/*.png"), 1);
    X("-m", "base=toy", "-m", "tuned=one/models/tuned", "--schedule", "base x2, tuned x2", "-s",
      "1", "--steps", "4", "--guidance", "3");
    assert_int_equal(count_twins("one/cells/*.png"), 1);
    X("-m", "toy", "-s", "1", "--steps", "2", "--guidance", "2");
    assert_int_equal(count_twins("one/class/a-dog-*/*.png"), 1);
#undef X
}

static void test_study(void **state)
{
    (void)state;
    struct stat before, after;
    write_plan("plan.json", "\"a dog\", \"a cat\"");
    likeness("study", "plan.json", "-o", "one", "-t", "1", "--dry-run", NULL);
    done();
    says(last.out, "model tuned: to be trained");
    says(last.out, "16 pictures in all, 12 of them to be made: 48 steps");
    says(last.out, " s of work at ");
    says(last.out, "B (measured)");
    assert_false(exists("one"));
    likeness("study", "plan.json", "-o", "one", "-t", "1", NULL);
    done();
    assert_string_equal(last.out, "one/report.html\n");
    assert_int_equal(count_files("one/cells/*.png"), 12);
    assert_int_equal(count_files("one/class/a-dog-*/*.png"), 2);
    check_twins();
    assert_true(exists("one/models/tuned/model_index.json"));
    assert_true(exists("one/measures.json") && exists("one/cells.csv"));
    assert_false(exists("one/models/tuned/checkpoint-6"));
    assert_int_equal(stat(in_folder("one/models/tuned/model_index.json"), &before), 0);
    likeness("study", "plan.json", "-o", "one", "-t", "1", NULL);
    done();
    assert_int_equal(stat(in_folder("one/models/tuned/model_index.json"), &after), 0);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    likeness("study", "plan.json", "-o", "one", "-t", "1", "--dry-run", NULL);
    says(last.out, "0 of them to be made");
    /* another prompt: its pictures alone are new */
    write_plan("more.json", "\"a dog\", \"a cat\", \"a ship\"");
    likeness("study", "more.json", "-o", "one", "-t", "1", "--dry-run", NULL);
    says(last.out, "4 of them to be made");
    likeness("study", "plan.json", "-o", "two", "-t", "1", NULL);
    done();
    same_folders("one", "two");
}

static void test_kills(void **state)
{
    (void)state;
    enum { KILLS = 10 };
    rng r;
    rng_seed(&r, 3);
    write_plan("plan.json", "\"a dog\", \"a cat\"");
    const char *args[] = {PROGRAM, "study", "plan.json", "-o", "whole", "-t", "1", NULL};
    double began = clock_seconds();
    finish(start(args, 0));
    done();
    double one = clock_seconds() - began;
    args[4] = "killed";
    for (int i = 0; i <= KILLS; i++) {
        pid_t child = start(args, 0);
        if (i < KILLS) {
            long nanoseconds = (long)((double)rng_uniform(&r) * one * 0.7e9);
            nanosleep(&(struct timespec){nanoseconds / 1000000000, nanoseconds % 1000000000}, NULL);
            kill(child, SIGKILL);
        }
        finish(child);
    }
    done();
    same_folders("whole", "killed"); /* what the killed runs left half-written is gone too */
}

static void test_bad_plans(void **state)
{
    (void)state;
    likeness("study", "no-plan.json", "-o", "bad", NULL);
    failed(1, "no-plan.json");
    write_file(in_folder("bad.json"), "{\"title\": ", 10);
    likeness("study", "bad.json", "-o", "bad", NULL);
    failed(1, "bad.json");
    write_plan("plan.json", "\"a dog\", 5");
    likeness("study", "plan.json", "-o", "bad", NULL);
    failed(1, "sections[0]");
    write_plan("plan.json", "\"a dog\"");
    likeness("study", "plan.json", "another.json", "-o", "bad", NULL);
    failed(2, "another.json");
    likeness("study", "plan.json", "-o", "/proc/study", NULL);
    failed(1, "/proc/study");
    assert_false(exists("bad"));
}

/* One picture that its model cannot make: the others are made, and the page says which and why. */
static void test_failing_cell(void **state)
{
    (void)state;
    char text[2048], *page;
    error e = {0};
    int n = snprintf(
        text, sizeof text,
        "{\"title\": \"t\", \"defaults\": {\"steps\": 2, \"prompt\": \"a dog\"},\n"
        " \"models\": {\"base\": {\"path\": \"%s/toy\"}}, \"sections\": [{\"id\": \"s\",\n"
        " \"title\": \"s\", \"rows\": [{\"label\": \"good\", \"width\": 32}, {\"label\": \"bad\",\n"
        " \"width\": 33}], \"columns\": {\"seed\": [1, 2]}}]}",
        folder);
    write_file(in_folder("plan.json"), text, (size_t)n);
    likeness("study", "plan.json", "-o", "failing", "-t", "1", NULL);
    assert_int_equal(last.status, 1);
    says(last.err, "2 of 4 pictures could not be made");
    assert_int_equal(count_files("failing/cells/*.png"), 2);
    assert_true(file_read(in_folder("failing/report.html"), 1 << 22, &page, NULL, &e));
    says(page, "Not made: a size of 33x32");
    free(page);
}

/* Another model where the old one was: its pictures, and those of what was trained from it, are
 * new. */
static void test_changed_model(void **state)
{
    (void)state;
    char command[900];
    write_plan("plan.json", "\"a dog\"");
    likeness("study", "plan.json", "-o", "changed", "-t", "1", NULL);
    done();
    snprintf(command, sizeof command,
             "cd %s && cp -r toy kept && printf '\\001' | dd "
             "of=toy/unet/diffusion_pytorch_model.safetensors "
             "bs=1 conv=notrunc seek=$(($(stat -c %%s "
             "toy/unet/diffusion_pytorch_model.safetensors) - 3)) "
             "2>/dev/null",
             folder);
    assert_int_equal(system(command), 0);
    likeness("study", "plan.json", "-o", "changed", "-t", "1", "--dry-run", NULL);
    done();
    says(last.out, "model tuned: to be trained anew: the model it starts from is another; the old "
                   "one is kept");
    says(last.out, "8 of them to be made");
    snprintf(command, sizeof command, "cd %s && rm -r toy && mv kept toy", folder);
    assert_int_equal(system(command), 0);
}

static void test_full_disk(void **state)
{
    (void)state;
    const char *args[] = {PROGRAM, "study", "plan.json", "-o", "full", "-t", "1", NULL};
    write_plan("plan.json", "\"a dog\"");
    finish(start(args, 1024)); /* no file may pass 1 KiB */
    assert_int_equal(last.status, 1);
    says(last.err, "full");
    assert_false(exists("full/report.html"));
}

static void test_many(void **state)
{
    (void)state;
    char text[2048];
    int n = snprintf(
        text, sizeof text,
        "{\"title\": \"t\", \"defaults\": {\"steps\": 2, \"prompt\": \"a dog\"},\n"
        " \"models\": {\"base\": {\"path\": \"%s/toy\"}}, \"sections\": [{\"id\": \"s\",\n"
        " \"title\": \"s\", \"rows\": {\"seed\": \"1-100\"}, \"columns\": [{\"guidance\": [2, 3, "
        "4, 5, 6,\n"
        " 7, 8, 9, 10, 11]}, {\"steps\": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}]}]}",
        folder);
    write_file(in_folder("plan.json"), text, (size_t)n);
    likeness("study", "plan.json", "-o", "many", NULL);
    failed(2, "asks for 10000 pictures, 55000 steps");
    assert_false(exists("many"));
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    char toy[300];
    unsetenv("LIKENESS_MODELS");
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy, sizeof toy, "%s/toy", folder);
    if (toy_stable_diffusion(toy, &e)) return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_study),         cmocka_unit_test(test_kills),
        cmocka_unit_test(test_bad_plans),     cmocka_unit_test(test_failing_cell),
        cmocka_unit_test(test_changed_model), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_many)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
