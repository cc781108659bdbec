/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_study_keep: what a study keeps and what it never touches: foreign files and folders,
 * trained models whose request has changed or not, the plan; and the commands of its page make its
 * pictures. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "program.h"
#include "support.h"
#include "toy.h"

/* A toy, the same trained for 4 updates (or as `train` says) with a prior, one picture by each and
 * one by both. `train` ends the training's settings (", \"seed\": 1"), `settings` are those of the
 * pictures
 * ("": the prompt alone). */
static void write_plan(const char *name, const char *train, const char *settings)
{
    char text[4096];
    int n = snprintf(
        text, sizeof text,
        "{\"title\": \"A toy study\", \"defaults\": {\"steps\": 3, \"guidance\": 3, %s},\n"
        " \"models\": {\"base\": {\"path\": \"toy\"},\n"
        "  \"tuned\": {\"train\": {\"model\": \"base\", \"instance_data_dir\": "
        "\"%s/examples/subject\",\n"
        "   \"instance_prompt\": \"a photo of sks dog\", \"class_prompt\": \"a dog\",\n"
        "   \"with_prior_preservation\": true, \"num_class_images\": 2, \"train_batch_size\": "
        "1%s%s},\n"
        "   \"class_steps\": 2, \"class_guidance\": 2}},\n"
        " \"sections\": [{\"id\": \"all\", \"title\": \"All\", \"rows\": {\"schedule\": [\"base\", "
        "\"tuned\",\n"
        "  \"base x1, tuned rest\"]}, \"columns\": {\"seed\": [1]}}],\n"
        " \"measures\": {\"noises\": 1}}\n",
        *settings ? settings : "\"prompt\": \"a dog\"", SOURCE_DIR,
        strstr(train, "max_train_steps") ? "" : ", \"max_train_steps\": 4", train);
    assert_true(n > 0 && n < (int)sizeof text);
    write_file(in_folder(name), text, (size_t)n);
}

static void study(const char *plan, const char *out)
{
    likeness("study", plan, "-o", out, "-t", "1", NULL);
    done();
}

/* When the trained model was written; it is not when nothing was trained. */
static struct timespec written(const char *out)
{
    struct stat info;
    char name[200];
    snprintf(name, sizeof name, "%s/models/tuned/model_index.json", out);
    assert_int_equal(stat(in_folder(name), &info), 0);
    return info.st_mtim;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void run(const char *command)
{
    char whole[1500];
    snprintf(whole, sizeof whole, "cd '%s' && %s", folder, command);
    if (system(whole) != 0) fail_msg("%s", command);
}

static int count_files(const char *pattern)
{
    char command[900], text[MAX_TEXT];
    snprintf(command, sizeof command, "ls -d %s 2>/dev/null | wc -l >count", pattern);
    run(command);
    slurp(in_folder("count"), text);
    return atoi(text);
}

static void nothing_to_do(const char *plan, const char *out)
{
    likeness("study", plan, "-o", out, "-t", "1", "--dry-run", NULL);
    done();
    says(last.out, " 0 of them to be made");
    if (strstr(last.out, "to be trained")) fail_msg("%s", last.out);
}

/* ---- what is not the study's ------------------------------------------------------------------
 */

static void test_foreign_model(void **state)
{
    (void)state;
    write_plan("plan.json", "", "");
    run("mkdir -p proj/models/tuned && echo x >proj/models/tuned/precious.safetensors");
    likeness("study", "plan.json", "-o", "proj", NULL);
    failed(1, "proj/models/tuned is there, and no study of likeness wrote it");
    assert_true(exists("proj/models/tuned/precious.safetensors"));
    assert_int_equal(count_files("proj/*"), 1);
    run("rm proj/models/tuned/precious.safetensors"); /* an empty one is nobody's */
    study("plan.json", "proj");
    assert_true(exists("proj/models/tuned/model_index.json"));
}

static void test_foreign_files(void **state)
{
    (void)state;
    static const char *const names[] = {"report.html", "cells.csv", "plan.json", "times.json",
                                        "subject"};
    char command[200];
    write_plan("plan.json", "", "");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(command, sizeof command, "rm -rf mine && mkdir mine && echo precious >mine/%s",
                 names[i]);
        run(command);
        likeness("study", "plan.json", "-o", "mine", NULL);
        snprintf(command, sizeof command, "mine/%s is there, and no study of likeness wrote it",
                 names[i]);
        failed(1, command);
        snprintf(command, sizeof command,
                 "grep -q precious mine/%s && [ $(ls -A mine | wc -l) = 1 ]", names[i]);
        run(command);
    }
}

static void test_foreign_folders(void **state)
{
    (void)state;
    write_plan("plan.json", "", "");
    run("rm -rf photos && cp -r " SOURCE_DIR "/examples/subject photos");
    likeness("study", "plan.json", "-o", SOURCE_DIR, NULL);
    failed(2, "is the folder of likeness itself");
    likeness("study", "plan.json", "-o", SOURCE_DIR "/models", NULL);
    failed(2, "where the models of likeness lie");
    likeness("study", "plan.json", "-o", SOURCE_DIR "/models/new", NULL);
    failed(2, "where the models of likeness lie");
    likeness("study", "plan.json", "-o", "toy", NULL);
    failed(2, "toy is a model's folder");
    likeness("study", "plan.json", "-o", "toy/unet/new", NULL);
    failed(2, "the folder of the model \"base\", or lies in it");
    likeness("study", "plan.json", "-o", SOURCE_DIR "/examples/subject", NULL);
    failed(2, "is the folder of the subject's pictures");
    write_plan("class.json", ", \"class_data_dir\": \"photos\"", "");
    likeness("study", "class.json", "-o", "photos", NULL);
    failed(2, "is the folder of the class's pictures");
    write_plan("plain.json", "", "");
    run("mkdir album && cp photos/01.png album");
    likeness("study", "plain.json", "-o", "album", NULL);
    failed(2, "album holds pictures that no study made");
    run("rm -r album");
    assert_int_equal(count_files("photos/*"), 5);
    assert_false(exists("toy/study.json") || exists("toy/unet/new"));
    /* photos where the page's copies of them would lie */
    run("rm -rf own && mkdir own && cp -r " SOURCE_DIR "/examples/subject own/subject && "
        "sed 's#\"instance_data_dir\": \"[^\"]*\"#\"instance_data_dir\": \"own/subject\"#' "
        "plan.json >own.json");
    likeness("study", "own.json", "-o", "own", NULL);
    failed(2, "holds the subject's pictures under the name of their copies");
    assert_int_equal(count_files("own/subject/*"), 5);
}

/* ---- when a model is trained again
 * --------------------------------------------------------------- */

/* A class folder that the training fills itself, or fills up, is the same request again. */
static void test_class_folder(void **state)
{
    (void)state;
    write_plan("plan.json", ", \"class_data_dir\": \"classes\"", "");
    for (int given = 0; given < 2; given++) {
        run("rm -rf classes o");
        if (given)
            run("mkdir classes && cp " SOURCE_DIR "/examples/subject/01.png classes/mine.png");
        study("plan.json", "o");
        struct timespec first = written("o");
        assert_int_equal(count_files("classes/*.png"), 2);
        for (int again = 0; again < 2; again++) {
            nothing_to_do("plan.json", "o");
            study("plan.json", "o");
            assert_true(same_time(first, written("o")));
        }
        assert_int_equal(count_files("o/cells/*.png"), 3);
        assert_int_equal(count_files("o/models/*"), 1);
    }
    /* another picture of the user's is another request */
    run("cp " SOURCE_DIR "/examples/subject/02.png classes/mine.png");
    likeness("study", "plan.json", "-o", "o", "-t", "1", NULL);
    done();
    says(last.err, "model tuned: the class's pictures have changed: trained anew; the old one is "
                   "kept in o/models/tuned.");
    assert_int_equal(count_files("o/models/tuned.*/model_index.json"), 1);
}

/* kill -9 in the middle of a training that fills the class folder: the next run goes on, and ends
 * as one that was left alone. */
static void test_killed(void **state)
{
    (void)state;
    const char *args[] = {PROGRAM, "study", "plan.json", "-o", "o", "-t", "1", NULL};
    run("rm -rf classes o w");
    write_plan(
        "plan.json",
        ", \"class_data_dir\": \"classes\", \"max_train_steps\": 40, \"checkpointing_steps\": 2",
        "");
    pid_t child = start(args, 0);
    for (int i = 0; i < 60000 && count_files("o/models/tuned/checkpoint-*") == 0; i++) usleep(1000);
    assert_int_equal(kill(child, SIGKILL), 0);
    finish(child);
    assert_int_equal(last.status, 1000 + SIGKILL);
    assert_int_equal(count_files("classes/*.png"), 2);
    likeness("study", "plan.json", "-o", "o", "-t", "1", NULL);
    done();
    says(last.err, "going on from o/models/tuned/checkpoint-");
    if (strstr(last.err, "trained anew")) fail_msg("%s", last.err);
    study("plan.json", "w");
    run("for f in unet/diffusion_pytorch_model.safetensors study.json model_index.json; do "
        "cmp o/models/tuned/$f w/models/tuned/$f || exit 1; done; diff -r o/cells w/cells");
    assert_int_equal(count_files("o/models/*"), 1);
}

/* Pictures that were made for the class in another way are as somebody else's: they stay and count.
 */
static void test_class_maker(void **state)
{
    (void)state;
    run("rm -rf classes o");
    write_plan("plan.json", ", \"class_data_dir\": \"classes\"", "");
    study("plan.json", "o");
    run("sed -i 's/\"class_steps\": 2/\"class_steps\": 3/' plan.json");
    likeness("study", "plan.json", "-o", "o", "-t", "1", "--dry-run", NULL);
    says(last.out, "the making of class pictures was \"Steps: 2, Sampler: DDIM, CFG scale: 2\", is "
                   "\"Steps: 3, ");
    says(last.out, "the class's pictures have changed");
    study("plan.json", "o");
    nothing_to_do("plan.json", "o");
    run("grep -q class-0000.png o/models/tuned/study.json");
}

static void test_cosmetic(void **state)
{
    (void)state;
    run("rm -rf o");
    write_plan("plan.json", "", "");
    study("plan.json", "o");
    write_plan(
        "other.json",
        ", \"validation_steps\": 5, \"num_validation_images\": 1, \"checkpointing_steps\": 2, "
        "\"checkpoints_total_limit\": 3, \"cache_latents\": false, \"gradient_checkpointing\": "
        "true, "
        "\"lr_warmup_steps\": 7, \"lr_power\": 2, \"num_train_epochs\": 9",
        "");
    nothing_to_do("other.json", "o");
    struct timespec before = written("o");
    study("other.json", "o");
    assert_true(same_time(before, written("o")));
    assert_int_equal(count_files("o/cells/*.png"), 3);
}

/* Another learning rate is another model; the old one is kept, and comes back. */
static void test_changed(void **state)
{
    (void)state;
    run("rm -rf o");
    write_plan("plan.json", ", \"learning_rate\": 1e-4", "");
    study("plan.json", "o");
    struct timespec first = written("o");
    run("cp -r o/models/tuned tuned-before");
    write_plan("faster.json", ", \"learning_rate\": 2e-4", "");
    likeness("study", "faster.json", "-o", "o", "--dry-run", NULL);
    done();
    says(last.out, "model tuned: to be trained anew: learning_rate was 0.0001, is 0.0002; the old "
                   "one is kept\n");
    assert_true(same_time(first, written("o")));
    likeness("study", "faster.json", "-o", "o", "-t", "1", NULL);
    done();
    says(last.err, "model tuned: learning_rate was 0.0001, is 0.0002: trained anew; the old one is "
                   "kept in o/models/tuned.");
    assert_false(same_time(first, written("o")));
    run("diff -r tuned-before o/models/tuned.*");
    likeness("study", "plan.json", "-o", "o", "-t", "1", NULL);
    done();
    says(last.err, "learning_rate was 0.0002, is 0.0001: the one trained so before is taken back; "
                   "the old one is kept in ");
    assert_true(same_time(first, written("o")));
    run("diff -r tuned-before o/models/tuned");
    assert_int_equal(count_files("o/models/*"), 2);
    nothing_to_do("plan.json", "o");
}

static void test_precision(void **state)
{
    (void)state;
    run("rm -rf o");
    write_plan("plan.json", "", "");
    study("plan.json", "o");
    struct timespec first = written("o");
    likeness("study", "plan.json", "-o", "o", "-t", "1", "--precision", "bf16", NULL);
    done();
    says(last.err,
         "model tuned: precision was \"no\", is \"bf16\": trained anew; the old one is kept");
    assert_false(same_time(first, written("o")));
    run("grep -q '\"precision\": \"bf16\"' o/models/tuned/train.json");
}

/* ---- again -------------------------------------------------------------------------------------
 */

/* The plan in the folder is the study, wherever one stands; one that was edited by hand is never
 * lost. */
static void test_plan(void **state)
{
    (void)state;
    run("rm -rf o");
    write_plan("plan.json", ", \"class_data_dir\": \"kinds\"", "");
    study("plan.json", "o");
    run("cd o && " PROGRAM " study plan.json -o . -t 1 --dry-run >../again");
    run("grep -q ' 0 of them to be made' again && ! grep 'to be trained' again");
    run("cp o/plan.json before && cd o && " PROGRAM
        " study plan.json -o . -t 1 >../again 2>&1 && cmp plan.json ../before");
    run("mkdir -p else && cd else && " PROGRAM
        " study ../o/plan.json -o ../o -t 1 --dry-run | grep -q ' 0 of them to be made'");
    run("sed -i s/A.toy.study/Mine/ o/plan.json && cp o/plan.json edited");
    likeness("study", "plan.json", "-o", "o", "-t", "1", NULL);
    done();
    says(last.err, "the plan.json that was changed by hand is now o/plan-");
    run("cmp edited o/plan-????????.json && cmp before o/plan.json");
}

/* Each command of a page, as a shell takes it in the page's folder, makes the picture that is shown
 * there. */
static void check_commands(const char *out, int wanted)
{
    char command[700];
    snprintf(command, sizeof command,
             "cd %s && grep -o '<li>.*likeness generate.*</li>' report.html | sed -e "
             "'s/.*<code>//' -e 's/<.code>.*//' "
             "-e \"s/&#39;/'/g\" -e 's/&quot;/\"/g' -e 's/&gt;/>/g' -e 's/&lt;/</g' -e "
             "'s/&amp;/\\&/g' >commands",
             out);
    run(command);
    snprintf(command, sizeof command, "[ $(wc -l <%s/commands) = %d ]", out, wanted);
    run(command);
    run("mkdir -p bin && ln -sf " PROGRAM " bin/likeness");
    snprintf(command, sizeof command, "cd %s && PATH=../bin:$PATH sh -e commands >out 2>&1", out);
    run(command);
    snprintf(command, sizeof command, "cd %s/cells && ls *.png >../../made", out);
    run(command);
    FILE *list = fopen(in_folder("made"), "r");
    char name[64], a[300], b[300];
    int count = 0;
    assert_non_null(list);
    for (; fscanf(list, "%60s", name) == 1; count++) {
        snprintf(a, sizeof a, "%s/%s", out, name);
        snprintf(b, sizeof b, "%s/cells/%s", out, name);
        assert_true(same_pixels(a, b));
        snprintf(command, sizeof command, "cmp %s %s", a, b); /* and says the same of itself */
        run(command);
    }
    fclose(list);
    assert_int_equal(count, wanted);
}

static void test_commands(void **state)
{
    (void)state;
    run("rm -rf o p");
    write_plan(
        "plan.json", "",
        "\"prompt\": \"it's <\\\"> & $A\", \"negative\": \"-x; y\", "
        "\"spacing\": \"trailing\", \"guidance_rescale\": 0.3, \"clip_skip\": 1, \"eta\": 0.5");
    study("plan.json", "o");
    check_commands("o", 3);
    run("rm -rf 'a b' && mkdir 'a b' && cp -r toy 'a b/toy' && sed 's/\"toy\"/\"a b\\/toy\"/' "
        "plan.json >spaced.json");
    likeness("study", "spaced.json", "-o", "p", "-t", "1", "--precision", "bf16", NULL);
    done();
    check_commands("p", 3);
    run("grep -q 'likeness study plan.json -o . --precision bf16' p/report.html");
}

/* Settings that later studies know: what an older one left is kept, each makes a picture of its
 * own, in turns too, and the command of each that picture. */
static void test_settings(void **state)
{
    (void)state;
    static const char columns[] =
        "[{\"label\": \"as ever\", \"seed\": 0},"
        " {\"label\": \"cached\", \"deep_cache\": 2},"
        " {\"label\": \"signs\", \"prompt_syntax\": \"a1111\", \"prompt\": \"a (dog:1.3) AND "
        "[sea]\"},"
        " {\"label\": \"noise\", \"rng\": \"a1111\"},"
        " {\"label\": \"changed\", \"init_image\": \"dog.png\", \"strength\": 0.7, \"width\": 32, "
        "\"height\": 32},"
        " {\"label\": \"masked\", \"init_image\": \"dog.png\", \"mask\": \"dog.png\", \"width\": "
        "32, "
        "\"height\": 32},"
        " {\"label\": \"larger\", \"hires\": 2, \"hires_steps\": 2, \"hires_upscaler\": "
        "\"latent-bicubic\", \"tile\": true},"
        " {\"label\": \"controlled\", \"control\": [{\"file\": \"net\", \"image\": "
        "\"dog.png\", \"scale\": 0.6}]}]";
    error e = {0};
    char command[2000];
    assert_true(toy_controlnet(in_folder("net"), &e));
    run("rm -rf p && cp " SOURCE_DIR "/examples/subject/01.png dog.png");
    write_plan("plan.json", "", "\"prompt\": \"a dog\"");
    run("sed 's/.seed.: .1./\"seed\": [0]/' plan.json >old.json");
    snprintf(command, sizeof command,
             "sed 's/\"columns\": {.seed.: .1.}/\"columns\": %s/' plan.json >new.json", columns);
    run(command);
    study("old.json", "p");
    likeness("study", "new.json", "-o", "p", "-t", "1", "--dry-run", NULL);
    done();
    says(last.out, "24 pictures in all, 21 of them to be made: 63 steps");
    study("new.json", "p");
    nothing_to_do("new.json", "p");
    check_commands("p", 24);
    run("grep -q '<dt>deep cache</dt><dd>2</dd>' p/report.html");
    run("grep -q '<dt>prompts as</dt><dd>a1111</dd>' p/report.html");
    run("grep -q '<dt>noise of</dt><dd>a1111</dd>' p/report.html");
    run("grep -q '<dt>strength</dt><dd>0.7: 2 steps</dd>' p/report.html");
    run("grep -q '<dt>control</dt><dd>/.*/net of /.*/dog.png at 0.6</dd>' p/report.html");
    run("grep -q '<dt>mask</dt><dd>/.*/dog.png</dd>' p/report.html");
    run("grep -q '<dt>hires</dt><dd>2, 2 steps, strength 0.7, latent-bicubic</dd>' p/report.html");
    run("grep -q '<h3>Deep cache 2</h3>' p/report.html");
    run("grep -q '\"deep_cache\": 2' p/measures.json");
    run("grep -q ',0,ddim,3,3,2,plain,cpu,,,,,false,base,' p/cells.csv");
    run("grep -q ',0,ddim,3,3,1,a1111,cpu,,,,,false,base,' p/cells.csv");
    run("grep -q ',0,ddim,3,3,1,plain,a1111,,,,,false,base,' p/cells.csv");
    run("grep -q ',0,ddim,3,3,1,plain,cpu,/.*dog.png,0.8,/.*dog.png,,false,base,' p/cells.csv");
    run("grep -q ',0,ddim,3,3,1,plain,cpu,,,,2,true,base,' p/cells.csv");
    run("touch dog.png"); /* the picture counts, not its file */
    nothing_to_do("new.json", "p");
    run("cp " SOURCE_DIR "/examples/subject/02.png dog.png");
    likeness("study", "new.json", "-o", "p", "-t", "1", "--dry-run", NULL);
    says(last.out, "24 pictures in all, 9 of them to be made");
}

/* A model whose pictures a tiny autoencoder makes, beside itself with its own, and in turns. */
static void test_taesd(void **state)
{
    (void)state;
    static const char plan[] =
        "{\"defaults\": {\"steps\": 3, \"guidance\": 3, \"prompt\": \"a dog\"}, \"models\": "
        "{\"base\": {\"path\": \"toy\"}, \"tiny\": {\"path\": \"toy\", \"taesd\": "
        "\"tiny\"}}, \"sections\": [{\"id\": \"all\", \"title\": \"All\", \"rows\": "
        "{\"schedule\": [\"base\", \"tiny\", \"base x1, tiny rest\", \"tiny x1, base rest\"]}, "
        "\"columns\": {\"seed\": [1]}}], \"measures\": {\"noises\": 1}}";
    run("rm -rf o tiny && cp -r " SOURCE_DIR "/tests/fixtures/model/taesd tiny");
    write_file(in_folder("tiny.json"), plan, sizeof plan - 1);
    study("tiny.json", "o");
    run("[ $(ls o/cells | wc -l) = 4 ]");
    check_commands("o", 4);
    run("grep -q ', decoded by /.*/tiny</td>' o/report.html");
    nothing_to_do("tiny.json", "o");
}

/* A LoRA and a training of all weights, side by side; what is trained from a LoRA's model too. The
 * LoRA is kept, or trained anew, as a model is. */
static void test_lora(void **state)
{
    (void)state;
    static const char training[] =
        "{\"train\": {\"model\": \"%s\", \"instance_data_dir\": \"" SOURCE_DIR
        "/examples/subject\", \"instance_prompt\": \"a\", \"train_batch_size\": 1, "
        "\"learning_rate\": 0.02, \"max_train_steps\": 3%s}}";
    char text[4096], full[600], lora[600], more[600];
    run("rm -rf o");
    for (int rank = 4; rank <= 8; rank += 4) {
        char settings[60];
        snprintf(settings, sizeof settings, ", \"lora_rank\": %d, \"train_text_encoder\": true",
                 rank);
        snprintf(full, sizeof full, training, "base", "");
        snprintf(lora, sizeof lora, training, "base", settings);
        snprintf(more, sizeof more, training, "lora", ", \"lora_rank\": 2");
        int n = snprintf(text, sizeof text,
                         "{\"defaults\": {\"steps\": 3, \"guidance\": 3, \"prompt\": \"a dog\"}, "
                         "\"models\": {\"base\": {\"path\": \"toy\"}, \"full\": %s, \"lora\": %s, "
                         "\"more\": %s}, \"sections\": [{\"id\": \"all\", \"title\": \"All\", "
                         "\"rows\": {\"schedule\": [\"base\", \"full\", \"lora\", \"more\", "
                         "\"base x1, lora rest\"]}, \"columns\": {\"seed\": [1]}}], "
                         "\"measures\": {\"noises\": 1}}",
                         full, lora, more);
        assert_true(n < (int)sizeof text);
        write_file(in_folder("lora.json"), text, (size_t)n);
        study("lora.json", "o");
        if (rank == 4) check_commands("o", 5);
        snprintf(text, sizeof text,
                 "grep -q 'LoRA of rank %d (alpha %d) beside the attentions of the UNet and text "
                 "encoder' o/report.html",
                 rank, rank);
        run(text);
        likeness("study", "lora.json", "-o", "o", "-t", "1", NULL);
        done();
        assert_null(strstr(last.err, "to be trained"));
    }
    assert_int_equal(count_files("o/models/lora.*"), 1);
    assert_int_equal(count_files("o/models/full.*"), 0);
}

/* A model has one hash: on the page, by inspect, and in the manifest of the class pictures it made.
 */
static void test_hash(void **state)
{
    (void)state;
    run("rm -rf o");
    write_plan("plan.json", "", "");
    study("plan.json", "o");
    run("for m in toy o/models/tuned; do h=$(" PROGRAM
        " inspect $m | awk '$1 == \"hash\" {print substr($2, 1, 16)}');"
        " [ ${#h} = 16 ] && grep -q \"<code>$h\" o/report.html || exit 1; done");
    run("b=$(" PROGRAM " inspect toy | awk '$1 == \"hash\" {print $2}') t=$(" PROGRAM
        " inspect o/models/tuned | "
        "awk '$1 == \"hash\" {print $2}'); grep -q \",base=$b tuned=$t,cells/\" o/cells.csv && "
        "grep -q \",tuned,tuned=$t,cells/\" o/cells.csv");
    run("h=$(" PROGRAM " inspect toy | awk '$1 == \"hash\" {print $2}'); grep -q \"\\\"model\\\": "
        "\\\"$h\" o/class/*/manifest.json");
}

/* ---- interrupted -------------------------------------------------------------------------------
 */

/* Ctrl-C once a file is there. */
static void interrupt_at(const char *name)
{
    const char *args[] = {PROGRAM, "study", "plan.json", "-o", "o", "-t", "1", NULL};
    pid_t child = start(args, 0);
    for (int i = 0; i < 60000 && !exists(name); i++) usleep(1000);
    assert_int_equal(kill(child, SIGINT), 0);
    finish(child);
    if (last.status != 130) fail_msg("status %d: %s", last.status, last.err);
}

/* A picture of thousands of steps is not ended first, be it of the class, of the validation, or of
 * the study. */
static void test_interrupts(void **state)
{
    (void)state;
    run("rm -rf o classes");
    write_plan("plan.json", ", \"class_data_dir\": \"classes\"", "");
    run("sed -i 's/\"class_steps\": 2/\"class_steps\": 990/' plan.json");
    interrupt_at("classes");
    assert_int_equal(count_files("classes/*.png"), 0);
    run("rm -rf o classes");
    write_plan("plan.json",
               ", \"validation_prompt\": \"a dog\", \"validation_steps\": 2, "
               "\"num_validation_images\": 500",
               "");
    interrupt_at("o/models/tuned/validation");
    assert_true(count_files("o/models/tuned/validation/*.png") < 500);
    assert_int_equal(count_files("o/models/tuned/checkpoint-*"), 1);
    write_plan("plan.json", ", \"validation_prompt\": \"a dog\"",
               "\"prompt\": \"a dog\", \"steps\": 990");
    run("sed -i 's/\"steps\": 3, //' plan.json");
    interrupt_at("o/cells");
    says(last.err, "going on from o/models/tuned/checkpoint-2");
    assert_int_equal(count_files("o/cells/*.png"), 0);
}

/* Validation pictures are the trained model's: those of the last step are what generate makes with
 * it. */
static void test_validation(void **state)
{
    (void)state;
    run("rm -rf o");
    write_plan("plan.json",
               ", \"validation_prompt\": \"a cat\", \"validation_steps\": 4, "
               "\"num_validation_images\": 2, \"seed\": 5, \"learning_rate\": 1e-3",
               "");
    study("plan.json", "o");
    likeness("generate", "-m", "o/models/tuned", "-p", "a cat", "-s", "6", "-t", "1", "-o",
             "made.png", NULL);
    done();
    run("cmp made.png o/models/tuned/validation/step-000004-1.png");
    likeness("generate", "-m", "toy", "-p", "a cat", "-s", "6", "-t", "1", "-o", "base.png", NULL);
    assert_false(same_pixels("base.png", "made.png"));
}

/* ---- one's own photos --------------------------------------------------------------------------
 */

static void test_photos_wrong(void **state)
{
    (void)state;
    likeness("study", "--photos", "photos", NULL);
    failed(2, "--photos wants --name, what prompts call the subject, and --class");
    likeness("study", "--name", "sks dog", NULL);
    failed(2, "--name, --class and -m go with --photos");
    likeness("study", "plan.json", "--photos", "photos", "--name", "sks dog", "--class", "dog",
             NULL);
    failed(2, "leave out \"plan.json\"");
    likeness("study", "--photos", "nowhere", "--name", "sks dog", "--class", "dog", "-o", "q",
             NULL);
    failed(1, "nowhere: is no folder of photos");
    run("mkdir -p nothing && echo x >nothing/x.txt");
    likeness("study", "--photos", "nothing", "--name", "sks dog", "--class", "dog", "-o", "q",
             NULL);
    failed(1, "nothing: there are no photos in it");
    likeness("study", "--photos", "nothing", "--name", "", "--class", "dog", "-o", "q", NULL);
    failed(2, "are not to be empty");
    likeness("study", "--photos", "nothing", "--name", "dog", "--class", "dog", "-o", "q", NULL);
    failed(2, "a rare word and its class: --name \"sks dog\"");
    assert_false(exists("q"));
}

/* The report's prompts in the words of another subject; on a model that is not the default, other
 * settings. */
static void test_photos(void **state)
{
    (void)state;
    run("rm -rf photos q && cp -r " SOURCE_DIR "/examples/subject photos");
    likeness("study", "--photos", "photos", "--name", "sks cat", "--class", "cat", "-o", "q",
             "--dry-run", NULL);
    done();
    says(last.out, "the default model draws emoji and cannot draw photos; a real one (-m MODEL: ");
    says(last.out, "\"instance_prompt\": \"a photo of sks cat\"");
    says(last.out, "\"a photo of a dog\",\n"); /* the other class */
    says(last.out, "\"a photo of sks cat\",\n");
    says(last.out, "\"a cat running on the beach\",\n");
    says(last.out, "\"learning_rate\": 0.00015");
    says(last.out, "/photos\"");
    likeness("study", "--photos", "photos", "--name", "zwx", "--class", "orange toy", "-m", "toy",
             "--dry-run", NULL);
    done();
    if (strstr(last.out, "the default model")) fail_msg("%s", last.out);
    says(last.out, "\"instance_prompt\": \"a photo of zwx\"");
    says(last.out, "\"a photo of an orange toy in the park\"");
    says(last.out, "\"an orange toy on the beach\"");
    says(last.out, "\"a photo of a cat\"");
    says(last.out, "\"learning_rate\": 2e-06");
    says(last.out, "/toy\"");
    assert_null(strstr(last.out, "dog"));
    assert_false(exists("q"));
}

/* It is a study like any other: its plan lies in its folder. */
static void test_photos_plan(void **state)
{
    (void)state;
    const char *args[] = {PROGRAM,   "study",   "--photos", "photos", "--name",
                          "sks dog", "--class", "dog",      "-m",     "toy",
                          "-o",      "q",       "-t",       "1",      NULL};
    run("rm -rf photos q && cp -r " SOURCE_DIR "/examples/subject photos");
    pid_t child = start(args, 0);
    for (int i = 0; i < 6000 && !exists("q/class"); i++) usleep(10000);
    assert_int_equal(kill(child, SIGINT), 0);
    finish(child);
    assert_int_equal(last.status, 130);
    assert_true(exists("q/plan.json"));
    run("cd q && " PROGRAM " study plan.json -o . -t 1 --dry-run >/dev/null && rm -r ../photos");
    likeness("study", "q/plan.json", "-o", "q", NULL);
    failed(1, "q/plan.json: models.");
    says(last.err, "/photos");
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_foreign_model),
                                       cmocka_unit_test(test_foreign_files),
                                       cmocka_unit_test(test_foreign_folders),
                                       cmocka_unit_test(test_class_folder),
                                       cmocka_unit_test(test_class_maker),
                                       cmocka_unit_test(test_killed),
                                       cmocka_unit_test(test_cosmetic),
                                       cmocka_unit_test(test_changed),
                                       cmocka_unit_test(test_precision),
                                       cmocka_unit_test(test_plan),
                                       cmocka_unit_test(test_commands),
                                       cmocka_unit_test(test_settings),
                                       cmocka_unit_test(test_taesd),
                                       cmocka_unit_test(test_hash),
                                       cmocka_unit_test(test_lora),
                                       cmocka_unit_test(test_interrupts),
                                       cmocka_unit_test(test_validation),
                                       cmocka_unit_test(test_photos_wrong),
                                       cmocka_unit_test(test_photos),
                                       cmocka_unit_test(test_photos_plan)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
