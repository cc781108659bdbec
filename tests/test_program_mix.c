/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_mix: models that take turns, and blended weights, as a user has them: likeness
 * generate
 * --schedule, likeness convert --merge, and every kind of bad input. */
#include <math.h>
#include <unistd.h>

#include "base/platform.h"
#include "file/image.h"
#include "file/safetensors.h"
#include "program.h"
#include "support.h"
#include "toy.h"

#define UNET "unet/diffusion_pytorch_model.safetensors"

static char toy_path[300];

/* A picture of four steps at x.png. */
#define MIX(...)                                                                                   \
    likeness("generate", "-t", "1", "--steps", "4", "-p", "a dog", "-o", "x.png", __VA_ARGS__, NULL)
#define TWO "-m", "base=toy", "-m", "tuned=toy2"

static void keep(const char *name)
{
    done();
    assert_int_equal(rename(in_folder("x.png"), in_folder(name)), 0);
}

static void shell(const char *command)
{
    char line[900];
    snprintf(line, sizeof line, "cd %s && %s", folder, command);
    assert_int_equal(system(line), 0);
}

/* ---- against diffusers --------------------------------------------------------------------- */

static void compare_with_fixture(const char *name)
{
    image ours, theirs;
    error e = {0};
    char path[64];
    int worst = 0;
    snprintf(path, sizeof path, "mix/%s.png", name);
    assert_true(image_read(&ours, NULL, in_folder("x.png"), &e));
    if (!image_read(&theirs, NULL, fixture_path(path), &e)) fail_msg("%s", e.text);
    assert_int_equal(ours.width, theirs.width);
    for (int i = 0; i < ours.width * ours.height * 3; i++) {
        int off = abs(ours.pixels[i] - theirs.pixels[i]);
        worst = off > worst ? off : worst;
    }
    print_message("%s: worst %d\n", name, worst);
    assert_true(worst <= 1);
    image_free(&ours);
    image_free(&theirs);
}

/* The pocket model is trained here as tools/fixtures/mix.sh has diffusers train it; then both take
 * turns. */
static void test_diffusers(void **state)
{
    (void)state;
    likeness("train", "--instance_data_dir", SOURCE_DIR "/examples/subject", "--instance_prompt",
             "a photo of sks dog", "--train_batch_size", "1", "--max_train_steps", "20",
             "--learning_rate", "1e-4", "--train_text_encoder", "--seed", "27", "--output_dir",
             "taught", "-m", SOURCE_DIR "/models/pocket", NULL);
    done();
#define TURNS(schedule)                                                                            \
    likeness("generate", "-m", "base=" SOURCE_DIR "/models/pocket", "-m", "tuned=taught", "-p",    \
             "a sailboat at sea", "-s", "42", "--schedule", schedule, "-o", "x.png", NULL)
    TURNS("base x15, tuned rest");
    done();
    compare_with_fixture("base-tuned-15");
    drop("x.png");
    TURNS("tuned x35, base rest");
    done();
    compare_with_fixture("tuned-base-35");
}

/* ---- schedules ----------------------------------------------------------------------------- */

static void test_schedule(void **state)
{
    (void)state;
    char alone[1000];
    MIX("-m", "toy");
    keep("base.png");
    MIX("-m", "tuned=toy2");
    keep("tuned.png");
    MIX(TWO, "--schedule", "base x0, tuned rest");
    keep("zero.png");
    MIX(TWO, "--schedule", "base x4, tuned rest");
    keep("all.png");
    MIX(TWO, "--schedule", "base x1, tuned x3");
    keep("turns.png");
    assert_true(same_pixels("zero.png", "tuned.png"));
    assert_true(same_pixels("all.png", "base.png"));
    assert_false(same_pixels("turns.png", "base.png") || same_pixels("turns.png", "tuned.png"));
    assert_int_equal(likeness("inspect", "turns.png", NULL), 0);
    says(last.out, "Model: toy, Schedule: \"base x1, tuned x3\", Models: \"base=toy ");
    says(last.out, ", Refiner: toy2, Refiner switch at: 0.25, RNG: CPU");
    /* one model alone, however it was said */
    assert_int_equal(likeness("inspect", "tuned.png", NULL), 0);
    says(last.out, "Model: toy2, RNG: CPU");
    snprintf(alone, sizeof alone, "%s", strchr(last.out, '\n'));
    assert_int_equal(likeness("inspect", "zero.png", NULL), 0);
    assert_string_equal(strchr(last.out, '\n'), alone);
    MIX(TWO, "--schedule", "base|tuned x2, 0.5*base+0.5*tuned rest");
    keep("mixed.png");
    assert_int_equal(likeness("inspect", "mixed.png", NULL), 0);
    says(last.out, "Schedule: \"base|tuned x2, 0.5*base+0.5*tuned x2\"");
}

static void test_many(void **state)
{
    (void)state;
    likeness("generate", "-t", "1", TWO, "--schedule", "base x2, tuned rest", "-p", "a dog", "-p",
             "a cat", "-s", "42-43", "--sweep", "steps=3,4", "-o", "many/", "--grid", "grid.png",
             NULL);
    done();
    assert_true(exists("grid.png") && exists("many/a-cat-3-43.png"));
    MIX(TWO, "--schedule", "base x2, tuned x2");
    keep("one.png");
    assert_true(same_pixels("one.png", "many/a-dog-4-42.png"));
    /* counts that do not add up in one of the settings: found before any work */
    likeness("generate", "-t", "1", TWO, "--schedule", "base x2, tuned x2", "-p", "a dog",
             "--sweep", "steps=4,5", "-o", "none/", NULL);
    failed(2, "has 4 steps and the run has 5");
    assert_false(exists("none"));
}

static void test_pocket(void **state)
{
    (void)state;
    MIX("-m", "a=pocket", "-W", "32", "-H", "32", "--schedule", "a");
    keep("pocket.png");
    assert_int_equal(likeness("inspect", "pocket.png", NULL), 0);
    says(last.out, "Model: pocket");
    shell("cp -r toy pocket");
    MIX("-m", "a=pocket", "--schedule", "a");
    keep("pocket2.png");
    assert_true(same_pixels("pocket2.png", "base.png"));
    shell("mv pocket a=b");
    MIX("-m", "a=b");
    done();
    drop("x.png");
}

static void test_bad_schedules(void **state)
{
    (void)state;
    MIX(TWO, "--schedule", "base x1, tune x3");
    failed(2, "names tune, and no model has that name");
    MIX(TWO, "--schedule", "base x1, tuned x2");
    failed(2, "has 3 steps and the run has 4");
    MIX(TWO, "--schedule", "base x3, tuned x2");
    failed(2, "more steps than the run");
    MIX(TWO, "--schedule", "base x1; tuned x3");
    failed(2, "something it should not");
    MIX(TWO, "--schedule", "");
    failed(2, "lacks the name of a model");
    MIX(TWO, "--schedule", "base", "--steps", "0");
    failed(2, "steps is 0");
    MIX("-m", "base=toy", "-m", "base=toy2", "--schedule", "base");
    failed(2, "two models have the name base");
    MIX("--schedule", "base");
    failed(2, "--schedule needs models with names");
    MIX("-m", "toy", "--schedule", "base");
    failed(2, "-m toy: with --schedule every model has a name");
    MIX("-m", "base=", "--schedule", "base");
    failed(2, "no path after the name");
    MIX(TWO);
    failed(2, "several models need a schedule");
    MIX("-m", "toy", "-m", "toy2");
    failed(2, "several models need a schedule");
    MIX("-m", "base=toy", "-m", "tuned=nothing-here", "--schedule", "base");
    failed(1, "nothing-here");
    MIX("-m", "base=toy", "-m", "ddpm=ddpm-toy", "--schedule", "0.5*base+0.5*ddpm");
    failed(2, "cannot take turns");
    MIX("-m", "base=toy", "-m", "p=pocket", "--schedule", "base x2, p rest", "-W", "32", "-H",
        "32");
    failed(2, "cannot take turns");
}

/* ---- blended weights ----------------------------------------------------------------------- */

/* The largest difference of any weight. */
static double difference(const char *a, const char *b)
{
    safetensors x, y;
    error e = {0};
    double worst = 0;
    if (!safetensors_open(&x, in_folder(a), &e) || !safetensors_open(&y, in_folder(b), &e))
        fail_msg("%s", e.text);
    assert_int_equal(x.count, y.count);
    for (size_t i = 0; i < x.count; i++) {
        const safetensors_entry *other = safetensors_find(&y, x.entry[i].name);
        assert_non_null(other);
        assert_int_equal(x.entry[i].bytes, other->bytes);
        const float *p = x.entry[i].data, *q = other->data;
        for (size_t k = 0; k < x.entry[i].bytes / sizeof(float); k++)
            worst = fmax(worst, fabs((double)p[k] - (double)q[k]));
    }
    safetensors_close(&x);
    safetensors_close(&y);
    return worst;
}

static void test_merge(void **state)
{
    (void)state;
    likeness("convert", "--merge", "1*base+0*tuned", TWO, "-o", "m/one", NULL);
    done();
    assert_string_equal(last.out, "m/one\n");
    assert_true(difference("m/one/" UNET, "toy/" UNET) == 0);
    assert_true(difference("m/one/text_encoder/model.safetensors",
                           "toy/text_encoder/model.safetensors") == 0);
    likeness("convert", "--merge=0.5*tuned + 0.5*base", TWO, "-o", "half", NULL);
    done();
    double to_base = difference("half/" UNET, "toy/" UNET),
           to_tuned = difference("half/" UNET, "toy2/" UNET);
    assert_true(to_base > 1e-4 && fabs(to_base - to_tuned) < 1e-6);
    assert_true(difference("half/vae/diffusion_pytorch_model.safetensors",
                           "toy2/vae/diffusion_pytorch_model.safetensors") == 0);
    MIX("-m", "m/one");
    keep("merged.png");
    assert_true(same_pixels("merged.png", "base.png"));
    MIX("-m", "half");
    keep("half.png");
    assert_false(same_pixels("half.png", "base.png") || same_pixels("half.png", "tuned.png"));
}

#define CONVERT(...) likeness("convert", __VA_ARGS__, NULL)

static void test_bad_merges(void **state)
{
    (void)state;
    CONVERT("--help");
    done();
    says(last.out, "--merge");
    CONVERT("in");
    failed(2, "There is --merge");
    CONVERT("--merge", "base", "-m", "base=toy");
    failed(2, "-o DIR");
    CONVERT("--merge", "base", "-o", "bad");
    failed(2, "--merge needs models with names");
    CONVERT("--merge", "base", "-m", "toy", "-o", "bad");
    failed(2, "every model has a name");
    CONVERT("--merge", "0.5*base+0.5*tune", TWO, "-o", "bad");
    failed(2, "the blend \"0.5*base+0.5*tune\" names tune");
    CONVERT("--merge", "base|tuned", TWO, "-o", "bad");
    failed(2, "for schedules");
    CONVERT("--merge", "1e38*base", TWO, "-o", "bad");
    failed(2, "the blend \"1e38*base\" has a weight beyond 1000");
    CONVERT("--extract-lora", "toy", "", "-o", "bad.safetensors");
    failed(2, "write it as: likeness convert --extract-lora BASE TRAINED");
    CONVERT("--merge", "base x5", TWO, "-o", "bad");
    failed(2, "something it should not");
    CONVERT("--merge", "0.5*base+0.5*p", "-m", "base=toy", "-m", "p=" SOURCE_DIR "/models/pocket",
            "-o", "bad");
    failed(1, "cannot be blended");
    CONVERT("--merge", "0.5*base+0.5*ddpm", "-m", "base=toy", "-m", "ddpm=ddpm-toy", "-o", "bad");
    failed(1, "cannot be blended");
    CONVERT("--merge", "d", "-m", "d=ddpm-toy", "-o", "bad");
    failed(1, "unconditional");
    CONVERT("--merge", "0.5*base+0.5*tuned", TWO, "-o", "toy2/../toy2");
    failed(1, "toy2/../toy2 is not empty; choose another folder, or say --overwrite");
    CONVERT("--merge", "0.5*base+0.5*tuned", TWO, "-o", "toy2/../toy2", "--overwrite");
    failed(2, "one of the models lies there");
    shell("mkdir links && ln -s ../toy2/unet links/unet");
    CONVERT("--merge", "0.5*base+0.5*tuned", TWO, "-o", "links", "--overwrite");
    failed(2, "one of the models lies there");
    shell("rm links/unet && mkdir links/vae && ln toy2/vae/*.safetensors links/vae");
    CONVERT("--merge", "0.5*base+0.5*tuned", TWO, "-o", "links", "--overwrite");
    failed(2, "one of the models lies there");
    assert_false(exists("bad"));
    write_file(in_folder("file"), "x", 1);
    CONVERT("--merge", "base", "-m", "base=toy", "-o", "file");
    failed(1, "file");
    const char *args[] = {PROGRAM,    "convert", "--merge", "base", "-m",
                          "base=toy", "-o",      "full",    NULL};
    finish(start(args, 4096)); /* no file may pass 4 KiB */
    assert_int_equal(last.status, 1);
    says(last.err, "full");
    assert_false(exists("full"));
    assert_true(exists("file"));
}

/* What differs between two models as a LoRA: at full rank it makes the one of the other. */
static void test_extract(void **state)
{
    (void)state;
    CONVERT("--extract-lora", "toy", "toy2", "-o", "x.safetensors", "--rank", "400",
            "--clamp-quantile", "1");
    done();
    assert_string_equal(last.out, "x.safetensors\n");
    says(last.err, " % of the difference (its squares); ");
    CONVERT("toy", "back", "--merge-lora", "x.safetensors");
    done();
    assert_true(difference("back/text_encoder/model.safetensors",
                           "toy/text_encoder/model.safetensors") > 1e-4);
    CONVERT("--extract-lora", "toy", "toy2", "-o", "not/there/x.safetensors", "--rank", "2");
    done();
    assert_true(exists("not/there/x.safetensors"));
    CONVERT("--extract-lora", "toy", "toy2", "-o", "x.safetensors");
    failed(1, "x.safetensors is there already");
    CONVERT("--extract-lora", "toy", "toy2", "-o", "x.safetensors", "--rank", "0", "--overwrite");
    failed(2, "a LoRA's rank of 0; give 1 to 4096");
    CONVERT("--extract-lora", "toy", "toy2", "-o", "x.safetensors", "--clamp-quantile", "0.1",
            "--overwrite");
    failed(2, "a share from 0.5 to 1");
    CONVERT("--extract-lora", "toy", "-o", "y.safetensors");
    failed(2, "--extract-lora BASE TRAINED");
    CONVERT("--extract-lora", "toy", "toy2", "-o", "y");
    failed(2, "a LoRA is written as FILE.safetensors");
    CONVERT("--extract-lora", "toy", "toy", "-o", "y.safetensors");
    failed(1, "do not differ");
    CONVERT("--extract-lora", "toy", SOURCE_DIR "/models/pocket", "-o", "y.safetensors");
    failed(1, "cannot be compared");
    CONVERT("--extract-lora", "toy", "ddpm-toy", "-o", "y.safetensors");
    failed(1, "unconditional");
    CONVERT("--extract-lora", "toy", "toy2", "-o", "y.safetensors", "--dtype", "f8");
    failed(2, "there are f32, f16 and bf16");
    assert_false(exists("y.safetensors"));
}

/* ---- all ----------------------------------------------------------------------------------- */

/* Every weight a tenth larger or smaller. */
static bool perturb(const char *file, error *e)
{
    safetensors f;
    if (!safetensors_open(&f, in_folder(file), e)) return false;
    safetensors_entry *entry = calloc(f.count, sizeof *entry);
    bool ok = entry;
    for (size_t i = 0; ok && i < f.count; i++) {
        float *data = malloc(f.entry[i].bytes);
        ok = data;
        if (!ok) break;
        memcpy(data, f.entry[i].data, f.entry[i].bytes);
        for (size_t x = 0; x < f.entry[i].bytes / sizeof *data; x++)
            data[x] *= (x * 7 + i) % 3 ? 1.1f : 0.9f;
        entry[i] = f.entry[i];
        entry[i].data = data;
    }
    ok = ok && safetensors_write(in_folder(file), entry, f.count, NULL, 0, e);
    for (size_t i = 0; entry && i < f.count; i++) free((void *)(uintptr_t)entry[i].data);
    free(entry);
    safetensors_close(&f);
    return ok;
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    unsetenv("LIKENESS_MODELS");
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy_path, sizeof toy_path, "%s/toy", folder);
    if (toy_stable_diffusion(toy_path, &e) && toy_stable_diffusion(in_folder("toy2"), &e) &&
        toy_unconditional(in_folder("ddpm-toy"), &e) && perturb("toy2/" UNET, &e) &&
        perturb("toy2/text_encoder/model.safetensors", &e))
        return 0;
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
        TEST(test_diffusers),     TEST(test_schedule), TEST(test_many),       TEST(test_pocket),
        TEST(test_bad_schedules), TEST(test_merge),    TEST(test_bad_merges), TEST(test_extract),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
