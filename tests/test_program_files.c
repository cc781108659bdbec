/* SPDX-License-Identifier: Apache-2.0
 *
 * test_program_files: what the program says of files that are not what was wanted in their place.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "file/safetensors.h"
#include "base/random.h"
#include "program.h"
#include "support.h"
#include "toy.h"

/* ---- pipes --------------------------------------------------------------------------------- */

/* A pipe that nobody writes to in the place of the file `name` of a copy of the toy. */
static const char *toy_with_pipe(const char *name)
{
    char command[900];
    snprintf(command, sizeof command,
             "cd %s && rm -rf broken && cp -r toy broken && rm -f broken/%s && mkfifo broken/%s",
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

static void write_tensors(const char *name, const safetensors_entry *entry, size_t count)
{
    error e = {0};
    if (!safetensors_write(in_folder(name), entry, count, NULL, 0, &e)) fail_msg("%s", e.text);
}

/* ---- other forms --------------------------------------------------------------------------- */

#define CONVERT(...) likeness("convert", __VA_ARGS__, NULL)

static void test_convert(void **state)
{
    (void)state;
    CONVERT("toy", "other.safetensors", "--dtype", "bf16");
    done();
    assert_string_equal(last.out, "other.safetensors\n");
    says(last.err, "other.safetensors does not tell its sizes");
    CONVERT("toy", "half", "--dtype=f16");
    done();
    assert_string_equal(last.err, "");
    likeness("inspect", "half", NULL);
    done();
    says(last.out, "F16");
    CONVERT("half", "half");
    failed(1, "not empty");
    CONVERT("half", "half", "--overwrite");
    failed(2, "choose another folder");
    CONVERT("toy", "other.safetensors");
    failed(1, "is there already");
    CONVERT("toy", "other.ckpt");
    failed(2, ".ckpt is read, not written");
    CONVERT("toy", "bad", "--dtype", "f8");
    failed(2, "there are f32, f16 and bf16");
    CONVERT("toy");
    failed(2, "convert what?");
    CONVERT("toy", "bad", "-o", "bad");
    failed(2, "names both");
    CONVERT(SOURCE_DIR "/tests/fixtures/torch/runs.pt", "bad");
    failed(1, "wants to run posix.system: not read");
    assert_false(exists("bad"));
}

/* OUT is what its name says, and a flag of another form is no flag. */
static void test_convert_places(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_folder("isdir.safetensors"), 0700), 0);
    CONVERT("toy", "isdir.safetensors");
    failed(2, "isdir.safetensors is a folder");
    CONVERT("toy", "isdir.safetensors", "--overwrite");
    failed(2, "isdir.safetensors is a folder");
    assert_int_equal(rmdir(in_folder("isdir.safetensors")), 0);
    CONVERT("-m", "a=toy", "--merge", "a", "-o", "mg.safetensors");
    failed(2, "--merge writes a folder");
    assert_false(exists("mg.safetensors"));
    CONVERT("toy", "not/yet/there.safetensors");
    done();
    assert_true(exists("not/yet/there.safetensors"));
    CONVERT("toy", "not/yet/there.safetensors/one.safetensors");
    failed(1, "there.safetensors");
    CONVERT("toy", "-");
    failed(2, "not to standard output");
    assert_false(exists("-"));
    CONVERT("toy", "bad", "--rank", "32");
    failed(2, "--rank is for --extract-lora");
    CONVERT("-m", "a=toy", "--merge", "a", "-o", "bad", "--clamp-quantile", "0.99");
    failed(2, "--clamp-quantile is for --extract-lora");
    assert_false(exists("bad"));
}

/* Folders that go beside a model are told as their files are. */
static void test_inspect_parts(void **state)
{
    (void)state;
    static const struct {
        const char *class_name, *words;
    } rows[] = {{"ControlNetModel", "a ControlNet, to be given with --control FOLDER:IMAGE\n"},
                {"AutoencoderTiny", "a tiny autoencoder, to be given with --taesd FOLDER\n"},
                {"AutoencoderKL", "a VAE, to be given with --vae FOLDER\n"}};
    assert_int_equal(mkdir(in_folder("part"), 0700), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        FILE *f = fopen(in_folder("part/config.json"), "wb");
        assert_non_null(f);
        fprintf(f, "{\"_class_name\": \"%s\"}", rows[i].class_name);
        fclose(f);
        likeness("inspect", "part", NULL);
        done();
        says(last.out, rows[i].words);
        likeness("generate", "-m", "part", "-p", "a", "-o", "x.png", NULL);
        failed(1, "not a model: give the model with -m, and this with --");
    }
}

/* What is called a picture and is none, and a word for a model. */
static void test_inspect_kinds(void **state)
{
    (void)state;
    static float row[64];
    FILE *f = fopen(in_folder("empty.png"), "wb");
    assert_non_null(f);
    fclose(f);
    likeness("inspect", "empty.png", NULL);
    failed(1, "empty.png: is no picture: it is empty");
    const safetensors_entry word = {
        .name = "emb_params", .rank = 2, .dim = {1, 64}, .data = row, .bytes = sizeof row};
    write_tensors("word.safetensors", &word, 1);
    likeness("inspect", "word.safetensors", NULL);
    done();
    says(last.out, "a textual inversion, to be given with --embedding");
    CONVERT("word.safetensors", "bad");
    failed(1, "with --embedding");
    CONVERT("-m", "a=toy", "--merge", "1e39*a", "-o", "bad");
    failed(2, "is no number");
    CONVERT("-m", "a=toy", "--merge", "3e38*a+3e38*a", "-o", "bad");
    failed(2, "has a weight beyond 1000");
    assert_false(exists("bad"));
}

/* What was asked of the sampler and means nothing to it is said, and not told in the picture. */
static void test_sampler_notes(void **state)
{
    (void)state;
    likeness("generate", "-m", "toy", "-p", "a", "--steps", "1", "--sampler", "euler", "--eta",
             "0.5", "--variance", "fixed_large", "-o", "eta.png", NULL);
    done();
    says(last.err, "warning: eta means nothing to the sampler euler");
    says(last.err, "warning: variance means nothing to the sampler euler");
    likeness("generate", "-m", "toy", "-p", "a", "--sampler", "euler", "--sigmas", "7,2,0",
             "--spacing", "trailing", "-o", "spacing.png", NULL);
    done();
    says(last.err, "warning: spacing means nothing beside a list of sigmas");
    likeness("inspect", "spacing.png", NULL);
    done();
    assert_null(strstr(last.out, "Spacing"));
    likeness("generate", "-m", "toy", "-p", "a", "--steps", "1", "--sampler", "ddim", "--eta",
             "0.5", "--spacing", "trailing", "-o", "heard.png", NULL);
    done();
    assert_null(strstr(last.err, "means nothing"));
}

#define TRAIN(...)                                                                                 \
    likeness("train", "-m", "toy", "--instance_prompt", "a dog", "--max_train_steps", "1",         \
             "--train_batch_size", "1", "--output_dir", "taught", __VA_ARGS__, NULL)

/* Each would wait for ever if it were opened as fopen does. */
static void test_pipes(void **state)
{
    (void)state;
    const char *const subject = SOURCE_DIR "/examples/subject",
                      *const pipe = "is not a regular file";
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
    likeness("generate", "-m", toy_with_pipe("unet/diffusion_pytorch_model.safetensors"), "-p", "a",
             NULL);
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
    says(last.err, "pipes: 1 class picture made");
    assert_int_equal(mkdir(in_folder("checkpoint-1"), 0700), 0);
    assert_int_equal(mkfifo(in_folder("checkpoint-1/checkpoint.json"), 0600), 0);
    TRAIN("--instance_data_dir", subject, "--resume_from_checkpoint", "checkpoint-1",
          "--output_dir", "taught-on");
    failed(1, "checkpoint-1");
    alarm(0);
}

/* ---- what files are ------------------------------------------------------------------------ */

/* A LoRA is named wherever a model is wanted, and described where it is looked at. */
static void test_lora(void **state)
{
    (void)state;
    static float zero[64];
#define TENSOR(text, rows, columns)                                                                \
    {                                                                                              \
        .name = text, .type = DTYPE_F32, .rank = 2, .dim = {rows, columns}, .data = zero,          \
        .bytes = 4 * (rows) * (columns)                                                            \
    }
    static const safetensors_entry lora[] = {
        TENSOR("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", 4, 8),
        TENSOR("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", 8, 4),
        TENSOR("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", 2, 8),
        TENSOR("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", 8, 2),
    };
    static const safetensors_entry locon[] = {
        {.name = "lora_unet_conv_in.lora_down.weight",
         .type = DTYPE_F32,
         .rank = 4,
         .dim = {1, 2, 3, 3},
         .data = zero,
         .bytes = 72},
    };
    static const safetensors_entry dora[] = {
        TENSOR("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", 4, 8),
        TENSOR("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", 8, 4),
        TENSOR("lora_unet_mid_block_attentions_0_proj_in.dora_scale", 1, 8),
    };
    write_tensors("lora.safetensors", lora, 4);
    write_tensors("dora.safetensors", dora, 3);
    write_tensors("locon.safetensors", locon, 1);
    likeness("inspect", "lora.safetensors", NULL);
    done();
    says(last.out,
         "a LoRA (kohya), ranks 2 to 4, 1 modules of the UNet and 1 of the text encoder\n");
    likeness("inspect", "locon.safetensors", NULL);
    done();
    says(last.out, "a LoRA of convolutions too (LoCon), rank 1, 1 modules of the UNet\n");
    likeness("inspect", "dora.safetensors", NULL);
    done();
    says(last.out, "a LoRA (kohya) with lengths (DoRA), rank 4, 1 modules of the UNet\n");
    likeness("generate", "-m", "lora.safetensors", "-p", "a", "-o", "x.png", NULL);
    failed(1, "this is a LoRA (kohya)");
    says(last.err, "give the model with -m, and this with --lora");
    likeness("generate", "-m", "toy", "--vae", "lora.safetensors", "-p", "a", "-o", "x.png", NULL);
    failed(1, "has no VAE");
}

#define TOY(...) likeness("generate", "-m", "toy", "-p", "a", "--steps", "1", __VA_ARGS__, NULL)

#define TURNS(...)                                                                                 \
    likeness("generate", "-m", "base=toy", "-p", "a", "--steps", "3", __VA_ARGS__, NULL)

#define ASKS(prompt, ...)                                                                          \
    likeness("generate", "-m", "toy", "--prompt-syntax", "a1111", "--steps", "1", "-p", prompt,    \
             __VA_ARGS__, NULL)

/* dog.safetensors at another path, with the name that its trainer gave it. */
static void write_named(const char *name, const char *given)
{
    safetensors s;
    error e = {0};
    const safetensors_pair pair = {"ss_output_name", given};
    if (!safetensors_open(&s, in_folder("dog.safetensors"), &e) ||
        !safetensors_write(in_folder(name), s.entry, s.count, &pair, 1, &e))
        fail_msg("%s", e.text);
    safetensors_close(&s);
}

/* In folders below, by the file's name or its trainer's; what two are called is refused. */
static void test_lora_folders(void)
{
    assert_int_equal(mkdir(in_folder("loras"), 0777), 0);
    assert_int_equal(mkdir(in_folder("loras/animals"), 0777), 0);
    assert_int_equal(symlink("..", in_folder("loras/animals/again")), 0);
    write_named("loras/animals/hound.safetensors", "good dog");
    ASKS("a <lora:hound:0.5>", "--lora-dir", "loras", "-o", "hound.png");
    done();
    ASKS("a <lora:good dog:0.5>", "--lora-dir", "loras/", "-o", "good.png");
    done();
    assert_null(strstr(last.err, "warning"));
    assert_true(same_pixels("tag.png", "hound.png") && same_pixels("tag.png", "good.png"));
    ASKS("a <lora:houn:0.5>", "--lora-dir", "loras", "-o", "x.png");
    failed(1, "in loras; did you mean hound?");
    /* a file's own name goes before another's alias */
    write_named("loras/good dog.safetensors", "hound");
    ASKS("a <lora:hound:0.5><lora:good dog:0.5>", "--lora-dir", "loras", "-o", "both.png");
    done();
    write_named("loras/hound.safetensors", "another");
    ASKS("a <lora:hound:0.5>", "--lora-dir", "loras", "-o", "x.png");
    failed(2, "<lora:hound>: loras/animals/hound.safetensors and loras/hound.safetensors are both "
              "called so");
    write_named("loras/more.safetensors", "another");
    ASKS("a <lora:another:0.5>", "--lora-dir", "loras", "-o", "x.png");
    failed(2,
           "<lora:another>: loras/hound.safetensors and loras/more.safetensors are both called so");
}

/* A folder's is the file that diffusers leaves there; dog.safetensors at 0.5 is in flag.png. */
static void test_lora_in_folder(void)
{
    assert_int_equal(mkdir(in_folder("left"), 0777), 0);
    TOY("-o", "x.png", "--lora", "left:0.5");
    failed(1, "left: this folder holds no pytorch_lora_weights.safetensors; give the LoRA's file");
    assert_int_equal(
        symlink("../dog.safetensors", in_folder("left/pytorch_lora_weights.safetensors")), 0);
    TOY("-o", "left.png", "--lora", "left:0.5");
    done();
    assert_true(same_pixels("left.png", "flag.png"));
    likeness("inspect", "left.png", NULL);
    done();
    says(last.out, "Lora weights: \"pytorch_lora_weights: 0.5\"");
}

/* Asked for in the prompt: merged as with --lora, each prompt's into models of its own. */
static void test_lora_tags(void)
{
    ASKS("a <lora:dog:0.5>", "--lora-dir", ".", "-o", "tag.png");
    done();
    assert_null(strstr(last.err, "warning"));
    TOY("--lora", "dog.safetensors:0.5", "-o", "flag.png");
    done();
    TOY("-o", "untagged.png");
    done();
    assert_true(same_pixels("tag.png", "flag.png") && !same_pixels("tag.png", "untagged.png"));
    likeness("inspect", "tag.png", NULL);
    done();
    says(last.out, "a <lora:dog:0.5>\n");
    says(last.out, "Prompt syntax: a1111");
    says(last.out, "Lora weights: \"dog: 0.5\"");
    ASKS("a b <lora:dog:0.5>", "-p", "a b", "-p", "a b <lyco:dog:0.5:0.5>", "--lora-dir", ".", "-o",
         "tags/");
    done();
    assert_true(same_pixels("tags/a-b-lora-dog-0-5-42.png", "tags/a-b-lyco-dog-0-5-0-5-42.png"));
    assert_false(same_pixels("tags/a-b-42.png", "tags/a-b-lora-dog-0-5-42.png"));
    ASKS("a <lora:dog>", "-o", "x.png");
    failed(2, "the prompt's <lora:dog>: say with --lora-dir DIR where such files lie");
    ASKS("a <lora:dogs:1>", "--lora-dir", ".", "-o", "x.png");
    failed(1, "there is no dogs.safetensors, .pt or .ckpt in .; did you mean dog?");
    ASKS("a <lora:DOG:1>", "--lora-dir", ".", "-o", "x.png");
    failed(1, "there is no DOG.safetensors, .pt or .ckpt in .; did you mean dog?");
    ASKS("a <lora:../dog:1>", "--lora-dir", ".", "-o", "x.png");
    failed(1, "there is no ../dog.safetensors");
    ASKS("a <lora:dog:1>", "--lora-dir", "nowhere", "-o", "x.png");
    failed(1, "--lora-dir nowhere: there is no such folder; check the path");
    ASKS("a", "--lora-dir", "nowhere", "-o", "x.png"); /* where no prompt has one, too */
    failed(1, "--lora-dir nowhere: there is no such folder; check the path");
    ASKS("a <lora:dog:much>", "--lora-dir", ".", "-o", "x.png");
    failed(2, "one number is taken as its weight, as in <lora:dog:0.8>");
    ASKS("a <lora:dog:1:0.5>", "--lora-dir", ".", "-o", "x.png");
    failed(2, "one number is taken as its weight");
    ASKS("a <lora:dog:inf>", "--lora-dir", ".", "-o", "x.png");
    failed(2, "one number is taken as its weight");
    TOY("--lora-dir", ".", "-o", "x.png");
    failed(2, "which --prompt-syntax a1111 reads");
    ASKS("a <hypernet:dog:1>", "-o", "hypernet.png");
    done();
    says(last.err, "<hypernet:dog:1> is left out");
}

/* Beside the weights, switched on by the schedule: the picture is that of two whole models. */
static void test_lora_turns(void)
{
    TURNS("--lora", "dog=dog.safetensors", "--schedule", "base x1, base+0.5*dog rest", "-o",
          "turns.png");
    done();
    TURNS("-m", "dog=toy", "--lora", "dog=dog.safetensors:0.5", "--schedule", "base x1, dog rest",
          "-o", "whole.png");
    done();
    assert_true(same_pixels("turns.png", "whole.png"));
    likeness("inspect", "turns.png", NULL);
    done();
    says(last.out, "Lora hashes: \"dog: ");
    says(last.out, "Lora weights: \"dog: 0.5\", Schedule: \"base x1, base+0.5*dog x2\", "
                   "Models: \"base=toy ");
    says(last.out, ", base+0.5*dog=toy ");
    TURNS("--lora", "dog=dog.safetensors", "--lora", "cat=dog.safetensors", "--schedule",
          "base+0.5*dog+0*cat", "-o", "two.png");
    done();
    TURNS("--lora", "dog=dog.safetensors", "--schedule", "base+0.5*dog", "-o", "one.png");
    done();
    assert_true(same_pixels("two.png", "one.png"));
    TURNS("--lora", "dog=dog.safetensors", "--schedule", "base x1, cat+dog rest", "-o", "x.png");
    failed(2, "names cat, and no model has that name");
    TURNS("--lora", "dog=dog.safetensors", "--schedule", "base", "-o", "x.png");
    failed(2, "the schedule \"base\" never uses dog");
    TURNS("--lora", "dog=dog.safetensors:0.5", "--schedule", "base+dog", "-o", "x.png");
    failed(2, "gets its weight from the schedule");
    TURNS("--lora", "dog=dog.safetensors", "--lora", "dog=dog.safetensors", "--schedule",
          "base+dog", "-o", "x.png");
    failed(2, "two LoRAs have the name dog");
    TURNS("--lora", "dog=nowhere.safetensors", "--schedule", "base+dog", "-o", "x.png");
    failed(1, "nowhere.safetensors");
    TOY("--lora", "dog=dog.safetensors", "-o", "x.png");
    failed(2, "no such LoRA in a schedule");
}

/* What is merged changes the picture, which says so; what cannot be merged is said in one line. */
static void test_lora_merged(void **state)
{
    (void)state;
    static float down[4 * 32], up[32 * 4], odd[4];
    fill_random(down, 4 * 32, 1);
    fill_random(up, 32 * 4, 2);
    const safetensors_entry lora[] = {
        {.name = "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight",
         .rank = 2,
         .dim = {4, 32},
         .data = down,
         .bytes = sizeof down},
        {.name = "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight",
         .rank = 2,
         .dim = {32, 4},
         .data = up,
         .bytes = sizeof up},
        {.name = "odd", .rank = 1, .dim = {4}, .data = odd, .bytes = sizeof odd},
    };
    write_tensors("dog.safetensors", lora, 3);
    TOY("-o", "without.png");
    done();
    TOY("-o", "with.png", "--lora", "dog.safetensors:0.5");
    done();
    says(last.err, "dog.safetensors: 1 of its tensors fit nothing in this model (odd)");
    assert_false(same_pixels("without.png", "with.png"));
    likeness("inspect", "with.png", NULL);
    done();
    says(last.out, "Lora hashes: \"dog: ");
    says(last.out, "Lora weights: \"dog: 0.5\"");
    TOY("-o", "none.png", "--lora", "dog.safetensors:0");
    done();
    assert_true(same_pixels("without.png", "none.png"));
    likeness("generate", "-m", "a=toy", "-m", "b=toy", "--lora", "b=dog.safetensors", "--schedule",
             "a x1, b x1", "-p", "a", "--steps", "2", "-o", "mixed.png", NULL);
    done();
    test_lora_tags();
    test_lora_folders();
    test_lora_turns();
    likeness("convert", "toy", "baked", "--lora", "dog.safetensors:0.5", NULL);
    done();
    likeness("generate", "-m", "baked", "-p", "a", "--steps", "1", "-o", "baked.png", NULL);
    done();
    assert_true(same_pixels("with.png", "baked.png"));
    test_lora_in_folder();
    TOY("-o", "x.png", "--embedding", "dog.safetensors");
    failed(1, "dog.safetensors: is no textual inversion: it holds 3 tensors");
    TOY("-o", "x.png", "--lora", "lora.safetensors");
    failed(1, "lora.safetensors: is for a model of other sizes");
    TOY("-o", "x.png", "--lora", "dog.safetensors:high");
    failed(2, "\"high\" is no number");
    TOY("-o", "x.png", "--lora", "");
    failed(2, "there is no file");
    TOY("-o", "x.png", "--embedding", "=dog.safetensors");
    failed(2, "WORD=FILE is right");
    TOY("-o", "x.png", "--lora", "dog.safetensors:1e30");
    failed(2, "dog.safetensors: its weight is 1e+30; give one from -1000 to 1000");
    TOY("-o", "x.png", "--lora", "nowhere.safetensors");
    failed(1, "nowhere.safetensors");
    TOY("-o", "x.png", "--lora", "without.png");
    failed(1, "without.png: is not a safetensors file");
    assert_false(exists("x.png"));
}

/* A GPU's noise, in the first latents and the sampler's own; told, so that --like has it again. */
static void test_rng(void **state)
{
    (void)state;
    TOY("--sampler", "ddpm", "-o", "cpu.png");
    done();
    TOY("--sampler", "ddpm", "--rng", "cpu", "-o", "cpu2.png");
    done();
    TOY("--sampler", "ddpm", "--rng", "cuda", "--save-latents", "cuda.safetensors", "-o",
        "cuda.png");
    done();
    TOY("--sampler", "ddpm", "--rng", "A1111", "-o", "nv.png");
    done();
    assert_true(same_pixels("cpu.png", "cpu2.png") && same_pixels("cuda.png", "nv.png"));
    assert_false(same_pixels("cpu.png", "cuda.png"));
    likeness("inspect", "cuda.png", NULL);
    done();
    says(last.out, ", RNG: NV");
    safetensors s;
    error e = {0};
    if (!safetensors_open(&s, in_folder("cuda.safetensors"), &e)) fail_msg("%s", e.text);
    const safetensors_entry *latents = safetensors_find(&s, "latents");
    float want[16];
    rng r;
    rng_seed_cuda(&r, 42);
    rng_randn(&r, want, 16);
    assert_non_null(latents);
    assert_memory_equal(latents->data, want, sizeof want);
    safetensors_close(&s);
    likeness("generate", "-m", "toy", "--like", "cuda.png", "-o", "like.png", NULL);
    done();
    assert_true(same_pixels("like.png", "cuda.png"));
    /* the sampler's noise of another seed, told and made again */
#define NOISY(...)                                                                                 \
    likeness("generate", "-m", "toy", "-p", "a", "--steps", "3", "--sampler", "ddpm", "--rng",     \
             "a1111", __VA_ARGS__, NULL)
    NOISY("-o", "noisy.png");
    done();
    NOISY("--eta-noise-seed-delta", "31337", "-o", "ensd.png");
    done();
    assert_false(same_pixels("ensd.png", "noisy.png"));
    likeness("inspect", "ensd.png", NULL);
    done();
    says(last.out, ", RNG: NV, ENSD: 31337");
    likeness("generate", "-m", "toy", "--like", "ensd.png", "-o", "like2.png", NULL);
    done();
    assert_true(same_pixels("like2.png", "ensd.png"));
    TOY("--eta-noise-seed-delta", "-1", "-o", "x.png");
    failed(2, "--eta-noise-seed-delta -1: it cannot be negative");
    TOY("--rng", "dice", "-o", "x.png");
    failed(2, "--rng dice: there are cpu, cuda, a1111 (also called nv, gpu)");
    /* noise of the sampler's alone, where the first is given */
    TOY("--init-latents", "cuda.safetensors", "--rng", "cuda", "-o", "given.png");
    done();
    likeness("inspect", "given.png", NULL);
    done();
    says(last.out, "Initial latents: ");
    says(last.out, ", RNG: NV");
}

static void write_told(const char *name, const char *key, const char *value)
{
    static float zero[4];
    const safetensors_entry parts[] = {
        {.name = "model.diffusion_model.a", .rank = 1, .dim = {4}, .data = zero, .bytes = 16},
        {.name = "cond_stage_model.transformer.a",
         .rank = 1,
         .dim = {4},
         .data = zero,
         .bytes = 16}};
    const safetensors_pair pairs[] = {{key, value},
                                      {"likeness.text_encoder", "{}"},
                                      {"likeness.vae", "{}"},
                                      {"likeness.scheduler", "{}"}};
    error e = {0};
    if (!safetensors_write(in_folder(name), parts, 2, pairs, 4, &e)) fail_msg("%s", e.text);
}

/* One file tells sizes that are not Stable Diffusion's, and opens again to the same pictures. */
static void test_one_file(void **state)
{
    (void)state;
    TOY("-o", "folder.png");
    done();
    likeness("convert", "toy", "toy/one.safetensors", NULL);
    done();
    likeness("generate", "-m", "toy/one.safetensors", "-p", "a", "--steps", "1", "-o", "single.png",
             NULL);
    done();
    assert_true(same_pixels("folder.png", "single.png"));
    likeness("convert", "toy/one.safetensors", "again", NULL);
    done();
    likeness("generate", "-m", "again", "-p", "a", "--steps", "1", "-o", "again.png", NULL);
    done();
    assert_true(same_pixels("folder.png", "again.png"));
    likeness("convert", "toy/one.safetensors", "toy/two.safetensors", NULL);
    done();
    char command[600];
    snprintf(command, sizeof command, "cd %s && cmp toy/one.safetensors toy/two.safetensors",
             folder);
    assert_int_equal(system(command), 0);
    write_told("told.safetensors", "likeness.other", "{}");
    likeness("generate", "-m", "told.safetensors", "-p", "a", "-o", "x.png", NULL);
    failed(1, "its metadata tell only a part of its sizes");
    write_told("told.safetensors", "likeness.unet", "{");
    likeness("generate", "-m", "told.safetensors", "-p", "a", "-o", "x.png", NULL);
    failed(1, "told.safetensors: should be a JSON object");
    write_told("told.safetensors", "likeness.unet", "{\"block_out_channels\": [7]}");
    likeness("generate", "-m", "told.safetensors", "-p", "a", "-o", "x.png", NULL);
    failed(1, "told.safetensors: ");
    /* the pocket model's tokenizer is known, and another's must be given */
    snprintf(command, sizeof command,
             "cd %s && mkdir -p own/tokenizer && cp toy/one.safetensors own && cp -r toy odd && "
             "echo '#more' >>odd/tokenizer/merges.txt",
             folder);
    assert_int_equal(system(command), 0);
    likeness("generate", "-m", "own/one.safetensors", "-p", "a", "--steps", "1", "--tokenizer",
             "toy/tokenizer", "-o", "told.png", NULL);
    done();
    assert_true(same_pixels("folder.png", "told.png"));
    likeness("generate", "-m", "own/one.safetensors", "-p", "a", "-o", "x.png", NULL);
    failed(1, "has a tokenizer of its own, which is not in the file");
}

/* A diffusers VAE's own file has its sizes beside it; one that does not fit says what to do. */
static void test_vae_files(void **state)
{
    (void)state;
    const char *const file = "toy/vae/diffusion_pytorch_model.safetensors";
    char command[700];
    TOY("-o", "plain.png");
    done();
    TOY("--vae", file, "-o", "file.png");
    done();
    assert_true(same_pixels("plain.png", "file.png"));
    likeness("inspect", file, NULL);
    done();
    says(last.out, "a VAE (diffusers' names), to be given with --vae\n");
    snprintf(command, sizeof command, "cd %s && cp %s alone.safetensors", folder, file);
    assert_int_equal(system(command), 0);
    TOY("--vae", "alone.safetensors", "-o",
        "x.png"); /* without its config.json: Stable Diffusion's sizes */
    failed(1, "give a VAE that fits with --vae");
    TOY("--vae", SOURCE_DIR "/models/pocket/unet", "-o", "x.png");
    failed(1, "only AutoencoderKL is");
    likeness("generate", "-m", "alone.safetensors", "-p", "a", "-o", "x.png", NULL);
    failed(1, "this is only a VAE; give a model with -m, and this with --vae");
}

/* ---- pictures ------------------------------------------------------------------------------ */

/* Pictures of other kinds are trained on; of an animation the first, which is said. */
static void test_other_images(void **state)
{
    (void)state;
    char command[1000];
    snprintf(command, sizeof command,
             "mkdir -p %s/other && cd %s/tests/fixtures/image/kinds && "
             "cp animated.gif rgb.bmp tiff_lzw.tif turned-6.tif %s/other",
             folder, SOURCE_DIR, folder);
    assert_int_equal(system(command), 0);
    TRAIN("--instance_data_dir", "other", "--output_dir", "taught-other");
    done();
    says(last.err, "on 4 pictures");
    says(last.err, "other/animated.gif: holds 3 pictures, of which the first is taken");
    likeness("inspect", "other/animated.gif", NULL);
    done();
    says(last.out, "23x19, the first of 3 pictures\n");
    likeness("inspect", "other/turned-6.tif", NULL);
    done();
    says(last.out, "17x23\n");
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
        cmocka_unit_test(test_convert),       cmocka_unit_test(test_convert_places),
        cmocka_unit_test(test_inspect_parts), cmocka_unit_test(test_sampler_notes),
        cmocka_unit_test(test_inspect_kinds), cmocka_unit_test(test_pipes),
        cmocka_unit_test(test_lora),          cmocka_unit_test(test_lora_merged),
        cmocka_unit_test(test_one_file),      cmocka_unit_test(test_rng),
        cmocka_unit_test(test_vae_files),     cmocka_unit_test(test_other_images),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
