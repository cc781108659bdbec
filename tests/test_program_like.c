/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_like: likeness generate --like, a picture made again from what it says of itself. */
#include <unistd.h>

#include "base/random.h"
#include "base/sha256.h"
#include "file/image.h"
#include "file/safetensors.h"
#include "program.h"
#include "support.h"
#include "toy.h"

enum { HIDDEN = 32 }; /* the toy's text encoder's */

static char toy_path[300];

/* A picture of the toy at `name`, with more flags. */
#define TOY(name, ...)                                                                             \
    likeness("generate", "-m", toy_path, "-t", "1", "-o", name, __VA_ARGS__, NULL)

#define A_LORA "A.safetensors"
#define A_WORD "zz.safetensors"

/* Random weights: a LoRA of the toy, and a textual inversion of one row. */
static void write_extras(void)
{
    static float down[4 * 32], up[32 * 4], row[HIDDEN];
    error e = {0};
    fill_random(down, 4 * 32, 1);
    fill_random(up, 32 * 4, 2);
    fill_random(row, HIDDEN, 3);
#define TENSOR(text, a, b, what)                                                                   \
    {                                                                                              \
        .name = text, .rank = 2, .dim = {a, b}, .data = what, .bytes = sizeof what                 \
    }
#define PROJ "lora_unet_mid_block_attentions_0_proj_in."
    const safetensors_entry lora[] = {TENSOR(PROJ "lora_down.weight", 4, 32, down),
                                      TENSOR(PROJ "lora_up.weight", 32, 4, up)},
                            word[] = {TENSOR("emb_params", 1, HIDDEN, row)};
    assert_true(safetensors_write(in_folder(A_LORA), lora, 2, NULL, 0, &e));
    assert_true(safetensors_write(in_folder(A_WORD), word, 1, NULL, 0, &e));
}

/* The last run said these lines on stderr, and nothing but its progress behind them. */
static void warned(const char *lines)
{
    size_t n = strlen(lines);
    if (strncmp(last.err, lines, n) != 0 || strncmp(last.err + n, "picture 1 ", 10) != 0)
        fail_msg("%s", last.err);
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
    failed(2, "by the schedule \"base x3, tuned x1\"; say where each is: -m base=PATH (toy ");
    says(last.err, ") -m tuned=PATH (toy2 ");
    likeness("generate", "--like", "mixed.png", "-m", "tuned=toy2", "-o", "x.png", NULL);
    failed(2, "say where each is: -m base=PATH (toy ");
    assert_null(strstr(last.err, "tuned=PATH"));
}

/* A LoRA of the schedule belongs to the models that are asked for, in a schedule of one part too.
 */
static void test_schedule_lora(void **state)
{
    (void)state;
#define BASE(name, ...)                                                                            \
    likeness("generate", "-m", "base=toy", "-t", "1", "-o", name, __VA_ARGS__, NULL)
    write_extras();
    static const char *const schedules[] = {"base+0.5*d", "base x1, base+0.5*d rest"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(BASE("turns.png", "-p", "a", "--steps", "2", "--lora", "d=" A_LORA,
                              "--schedule", schedules[i], "--overwrite"),
                         0);
        assert_int_equal(BASE("x.png", "--like", "turns.png", "--lora", "d=" A_LORA), 0);
        assert_true(same_file("x.png", "turns.png"));
        warned("");
        drop("x.png");
        likeness("generate", "--like", "turns.png", "-o", "x.png", NULL);
        failed(2, "say where each is: -m base=PATH (toy");
        says(last.err, ") --lora d=FILE; its LoRAs are A: ");
        assert_null(strstr(last.err, "-m base+"));
        BASE("x.png", "--like", "turns.png");
        failed(2, "say where each is: --lora d=FILE; its LoRAs are A: ");
    }
    drop("turns.png");
}

/* What a schedule never uses, and how it is quoted. */
static void test_schedule_unused(void **state)
{
    (void)state;
    assert_int_equal(likeness("generate", TWO, "-t", "1", "-p", "a", "--steps", "1", "--schedule",
                              "base", "-o", "x.png", NULL),
                     0);
    warned("likeness: warning: -m tuned=toy2: the schedule \"base\" never "
           "uses tuned\n");
    drop("x.png");
    write_extras();
    BASE("x.png", "-p", "a", "--steps", "1", "--lora", "d=" A_LORA, "--schedule", "base");
    failed(2, "the schedule \"base\" never uses d, and no model has that name");
    assert_int_equal(likeness("generate", TWO, "-t", "1", "-p", "a", "--steps", "1", "--schedule",
                              "base+d", "--lora", "d=" A_LORA, "-o", "x.png", NULL),
                     0);
    says(last.err, "never uses tuned\n");
    assert_null(strstr(last.err, "never uses base"));
    drop("x.png");
    BASE("x.png", "-p", "a", "--steps", "1", "--schedule", "base+0.8*d x1");
    failed(2, "base+0.8*d x1");
}

/* LoRAs, embeddings and VAE are named where they are not given again. */
static void test_extras(void **state)
{
    (void)state;
#define WITH "--lora", A_LORA ":0.5", "--embedding", A_WORD, "--vae", "toy2"
    write_extras();
    assert_int_equal(TOY("w.png", "-p", "a ZZ", "--steps", "1", WITH), 0);
    warned("");
    assert_int_equal(TOY("x.png", "--like", "w.png", WITH), 0);
    warned("");
    assert_true(same_file("x.png", "w.png"));
    drop("x.png");
    assert_int_equal(TOY("x.png", "--like", "w.png"), 0);
    warned("likeness: warning: --like w.png: the picture will be another: it "
           "was made with --lora A:0.5 --embedding zz --vae toy2, which is "
           "not given here\n");
    drop("x.png");
    assert_int_equal(
        TOY("x.png", "--like", "w.png", "--lora", A_LORA, "--embedding", A_WORD, "--vae", "toy2"),
        0);
    says(last.err, "\"Lora weights\" was A: 0.5, here it is A: 1\n");
    drop("x.png");
    drop("w.png");
#define POCKET(rest)                                                                               \
    "a\nSteps: 2, Sampler: DDIM, Seed: 1, Model hash: 0123456789, Model: " rest                    \
    ", Version: likeness 0.1.0"
    say(POCKET("pocket, Lora hashes: \"A: 0123456789ab, B, C: 0123456789cd\", Lora weights: \"A: "
               "0.7, B, C: 1\", VAE: mse.pt"));
    likeness("generate", "--like", "other.png", "-o", "x.png", NULL);
    failed(2, "it was made with --lora A:0.7 --lora B, C:1 --vae mse.pt: give that too, each by "
              "its file's path");
    say(POCKET("dog, Lora hashes: \"A: 0123456789ab\""));
    likeness("generate", "--like", "other.png", "-o", "x.png", NULL);
    failed(2, "made with the model dog (0123456789) and --lora A: say where it is with -m PATH");
    say(POCKET("pocket"));
    likeness("generate", "--like", "other.png", "-o", "x.png", NULL);
    failed(2, "it was made with the model pocket (0123456789): say where it is with -m PATH");
}

static void test_unused_embedding(void **state)
{
    (void)state;
    write_extras();
    assert_int_equal(TOY("x.png", "-p", "a", "--steps", "1", "--embedding", "<q>=" A_WORD,
                         "--embedding", A_WORD),
                     0);
    warned("likeness: warning: --embedding <q>=" A_WORD ": no prompt has its word: <q>\n"
           "likeness: warning: --embedding " A_WORD ": no prompt has its word: zz\n");
    drop("x.png");
    assert_int_equal(TOY("x.png", "-p", "a", "-n", "a zz", "--steps", "1", "--embedding", A_WORD),
                     0);
    warned("");
}

/* Prompts that the text's form does not show as they are. */
static void test_prompts(void **state)
{
    (void)state;
    static const char *const prompts[][2] = {
        {"", "rain"},
        {"", ""},
        {"a\nNegative prompt: b", "c"},
        {"a", "b\n Negative prompt: c"},
    };
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        assert_int_equal(
            TOY("p.png", "-p", prompts[i][0], "-n", prompts[i][1], "--steps", "1", "--overwrite"),
            0);
        assert_int_equal(TOY("x.png", "--like", "p.png"), 0);
        assert_true(same_file("x.png", "p.png"));
        drop("x.png");
    }
    drop("p.png");
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
        "0123456789, Initial latents: b, Version: likeness 0.1.0");
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    says(last.err, "\"Model hash\" was 0123456789, here it is ");
    says(last.err, "\"Initial latents\" was b, here it is missing");
    drop("x.png");
    likeness("generate", "--like", "other.png", "-o", "x.png", NULL);
    failed(2, "it was made with the model  (0123456789): say where it is with -m PATH");
}

/* AUTOMATIC1111's hash of a model is its file's. */
static void test_their_model(void **state)
{
    (void)state;
#define ONE "one.safetensors"
#define LIKE_ONE                                                                                   \
    likeness("generate", "-m", ONE, "--tokenizer", "toy/tokenizer", "-t", "1", "--like",           \
             "other.png", "-o", "x.png", NULL)
#define THEIRS "a\nSteps: 1, Sampler: Euler, Seed: 1, Size: 32x32, Model hash: %s, Model: v1-5"
    error e = {0};
    char hash[65], text[300];
    assert_int_equal(likeness("convert", "toy", ONE, NULL), 0);
    assert_true(sha256_file(hash, in_folder(ONE), &e));
    hash[10] = '\0';
    snprintf(text, sizeof text, THEIRS, hash);
    say(text);
    assert_int_equal(LIKE_ONE, 0);
    warned("");
    drop("x.png");
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    says(last.err, "it was made with the model v1-5 (");
    says(last.err, "), which cannot be compared with /");
    drop("x.png");
    snprintf(text, sizeof text, THEIRS, "0123456789");
    say(text);
    assert_int_equal(LIKE_ONE, 0);
    says(last.err,
         "the picture will be another: it was made with the model v1-5 (0123456789), " ONE " is ");
    drop("x.png");
    snprintf(text, sizeof text, THEIRS, "81761151"); /* the old one, of a part of the file */
    say(text);
    assert_int_equal(LIKE_ONE, 0);
    says(last.err, "(81761151), which cannot be compared with " ONE "\n");
}

/* Files that AUTOMATIC1111's picture was made with and that are not given, and what has no flag. */
static void test_their_extras(void **state)
{
    (void)state;
#define THEIR_OTHER(more) "a zz\nSteps: 2, Sampler: Euler, Seed: 1, Size: 32x32, " more
#define ANOTHER "likeness: warning: --like other.png: the picture will be another: it was made "
    char text[600], hash[100];
    write_extras();
    say(THEIR_OTHER("Denoising strength: 0.5"));
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned(ANOTHER "from a picture (Denoising strength 0.5) that is not given: -i FILE\n");
    drop("x.png");
    assert_int_equal(TOY("x.png", "--like", "other.png", "-i", "first.png"), 0);
    warned("");
    drop("x.png");
    /* decoded by what is not given here */
    say(THEIR_OTHER("VAE Decoder: TAESD"));
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned("likeness: warning: --like other.png: the picture will be another: a tiny autoencoder "
           "decoded it (VAE Decoder: TAESD) that is not given: --taesd FILE\n");
    drop("x.png");
    say(THEIR_OTHER("Denoising strength: 0.5, Hires upscale: 2"));
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned("");
    drop("x.png");
    say(THEIR_OTHER("VAE hash: 735e4c3a44, VAE: mse.pt, Lora hashes: \"dog: 0123456789ab\", TI "
                    "hashes: \"zz: ab0123456789\", Refiner: fine [0123456789], Refiner switch "
                    "at: 0.8"));
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned("likeness: warning: --like other.png: what it also says is not done here: Refiner: fine "
           "[0123456789], Refiner switch at: 0.8\n" ANOTHER
           "with --lora dog --embedding zz --vae mse.pt, which is not given here\n");
    drop("x.png");
    assert_int_equal(TOY("w.png", "-p", "a", "--steps", "1", "--lora", A_LORA), 0);
    assert_int_equal(likeness("inspect", "w.png", NULL), 0);
    const char *at = strstr(last.out, "Lora hashes: A: ");
    if (!at) at = strstr(last.out, "Lora hashes: \"A: ");
    assert_non_null(at);
    snprintf(hash, sizeof hash, "%.12s", strstr(at, "A: ") + 3);
    snprintf(text, sizeof text, THEIR_OTHER("Lora hashes: \"other name: %s\""), hash);
    say(text);
    assert_int_equal(TOY("x.png", "--like", "other.png", "--lora", A_LORA), 0);
    warned("");
    drop("x.png");
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned(ANOTHER "with --lora other name, which is not given here\n");
    drop("w.png");
}

/* DDIM's eta is --eta; that of ancestral samplers, of which only 1 is done, is not. */
static void test_their_eta(void **state)
{
    (void)state;
#define WITH_ETA(sampler, eta) "a\nSteps: 2, Sampler: " sampler ", Seed: 1, Size: 32x32, " eta
#define NO_ETA                                                                                     \
    "likeness: warning: --like other.png: the picture will be another: AUTOMATIC1111's Eta of "    \
    "ancestral samplers (Euler a, Eta: 0.5) is not done here, where it is 1\n"
    say(WITH_ETA("DDIM", "Eta DDIM: 0.5"));
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned("");
    assert_int_equal(TOY("e.png", "--like", "other.png", "--eta", "0"), 0);
    assert_false(same_pixels("e.png", "x.png"));
    drop("e.png");
    drop("x.png");
    say(WITH_ETA("Euler a", "Eta: 0.5"));
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned(NO_ETA);
    drop("x.png");
    say(WITH_ETA("Euler a", "Eta: 1"));
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned("");
    drop("x.png");
    assert_int_equal(TOY("x.png", "--like", "other.png", "--sampler", "ddim", "--eta", "0.5"), 0);
    warned("");
}

/* Their second pass by its size is one by a factor where both sides have the same. */
static void test_their_second_size(void **state)
{
    (void)state;
#define TWO_PASSES(size, how)                                                                      \
    "a\nSteps: 2, Sampler: Euler, Seed: 1, Size: " size ", Denoising strength: 0.6, " how          \
    ", Hires upscaler: Latent"
    static const char *const same[] = {"64x48", "64x0", "0x48", "66x48", "64x52"};
    say(TWO_PASSES("32x24", "Hires upscale: 2"));
    assert_int_equal(TOY("two.png", "--like", "other.png"), 0);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char text[300];
        snprintf(text, sizeof text, TWO_PASSES("32x24", "Hires resize: %s"), same[i]);
        say(text);
        assert_int_equal(TOY("x.png", "--like", "other.png", "--overwrite"), 0);
        warned("");
        assert_true(same_pixels("x.png", "two.png"));
    }
    drop("x.png");
    drop("two.png");
    say(TWO_PASSES("32x24", "Hires resize: 64x64"));
    assert_int_equal(TOY("x.png", "--like", "other.png"), 0);
    warned("likeness: warning: --like other.png: the picture will be another: \"Hires resize: "
           "64x64\" is no factor of its size, so the second pass is not made; --hires X makes "
           "one\n");
    likeness("inspect", "x.png", NULL);
    says(last.out, "32x24");
    assert_int_equal(TOY("x.png", "--like", "other.png", "--hires", "2", "--overwrite"), 0);
    warned("");
}

/* Samplers of theirs that are not here are refused as the picture's. */
static void test_their_samplers(void **state)
{
    (void)state;
    static const char *const names[] = {"DPM++ 3M SDE", "DPM++ 2S a", "DPM fast", "DPM adaptive",
                                        "Restart"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[200], line[200];
        snprintf(text, sizeof text, "a\nSteps: 2, Sampler: %s, Seed: 1, Size: 32x32", names[i]);
        say(text);
        TOY("x.png", "--like", "other.png");
        snprintf(line, sizeof line, "--like other.png: there is no sampler \"%s\"", names[i]);
        failed(2, line);
        says(last.err, "; --sampler NAME takes another in its place\n");
        assert_null(strstr(last.err, "--sampler: "));
    }
    assert_int_equal(TOY("x.png", "--like", "other.png", "--sampler", "euler_a"), 0);
    drop("x.png");
    TOY("x.png", "--like", "other.png", "--sampler", "DPM fast");
    failed(2, "--sampler: there is no sampler \"DPM fast\"");
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
    says(last.err, "it was made with --taesd taesd, which is not given here");
    assert_null(strstr(last.err, "hash\" was"));
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
        TEST(test_again),
        TEST(test_flags_go_first),
        TEST(test_schedule),
        TEST(test_others),
        TEST(test_control),
        TEST(test_bad_input),
        TEST(test_schedule_lora),
        TEST(test_schedule_unused),
        TEST(test_extras),
        TEST(test_unused_embedding),
        TEST(test_prompts),
        TEST(test_their_model),
        TEST(test_taesd),
        TEST(test_their_extras),
        TEST(test_their_eta),
        TEST(test_their_samplers),
        TEST(test_their_second_size),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
