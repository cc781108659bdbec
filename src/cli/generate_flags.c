/* SPDX-License-Identifier: Apache-2.0
 *
 * generate_flags: the flags of likeness generate, and what they say when asked for help. */
#include <math.h>

#include "cli/generate.h"

const char generate_help[] =
    "likeness generate -p TEXT [flags]       pictures from a prompt\n"
    "\n"
    "What\n"
    "  -p, --prompt TEXT          may be given several times; not for unconditional models\n"
    "  -n, --negative_prompt TEXT what the picture should not be\n"
    "      --prompt-syntax plain|a1111   a1111: (word:1.3), [a:b:0.5], AND, BREAK, "
    "<lora:name:0.8>,\n"
    "                             any length (default plain: signs are text, as in diffusers)\n"
    "  -s, --seed SEEDS           42, or 42,43,44, or 42-45 (default 42); one picture for each;\n"
    "                             -1: a random one, which is told and recorded\n"
    "  -b, --batch N              N pictures from every seed on: 42 and -b 3 are 42,43,44\n"
    "      --like PICTURE         as that picture says of itself; what flags say goes first. A\n"
    "                             model other than pocket is given with -m\n"
    "  -W, --width N  -H, --height N   default: what the model was trained on\n"
    "\n"
    "With\n"
    "  -m, --model PATH           diffusers folder, .safetensors, .ckpt or .gguf file (default:\n"
    "                             pocket)\n"
    "  -m NAME=PATH ...           several models, for a schedule\n"
    "      --schedule \"base x15, tuned x35\"   which predicts which steps (the last: tuned "
    "rest);\n"
    "                             also \"0.3*base+0.7*tuned x10\", and \"base|tuned\": the\n"
    "                             unconditional prediction by base, the conditional by tuned\n"
    "      --lora FILE[:0.8]      merged into the model (LoRA, DoRA, LoCon, LoHa, LoKr); may be\n"
    "                             given several times; NAME=FILE: into that model alone;\n"
    "                             with another NAME a schedule switches it on, beside the "
    "weights:\n"
    "                             \"base x15, base+0.8*dog rest\", \"base+0.8*dog+0.3*style\"\n"
    "      --lora-dir DIR         where the prompts' <lora:name:0.8> lie, in folders below it too\n"
    "                             (--prompt-syntax a1111)\n"
    "      --embedding [WORD=]FILE   a textual inversion: prompts may use its word (of the file,\n"
    "                             or the file's name); of several vectors all are read where it\n"
    "                             has no capital letter, as by diffusers, or with\n"
    "                             --prompt-syntax a1111\n"
    "      --control FILE:IMAGE[:0.8]   a ControlNet of Stable Diffusion 1, and the picture "
    "(edges,\n"
    "                             depth, ...) that it sees; may be given several times\n"
    "      --vae PATH             another autoencoder, folder or file\n"
    "      --taesd PATH           a tiny autoencoder decodes: soon, not as exactly (taesd of "
    "Stable\n"
    "                             Diffusion 1; XL's looks the same inside and is not told apart)\n"
    "      --tokenizer DIR        tokenizer files for a single-file model\n"
    "      --precision f32|bf16|f16   (default f32; f16 is a GPU's)\n"
    "      --device NAME          auto, cpu, cuda, cuda:1 (default auto: the GPU where one "
    "serves)\n"
    "  -t, --threads N            (default 0: every core)\n"
    "\n"
    "From a picture\n"
    "  -i, --init-image FILE      the picture that is changed, of its own size unless -W and -H "
    "say\n"
    "                             another\n"
    "      --strength X           0 to 1: how much of it (default 0.8): so large a share of the\n"
    "                             steps is made, and a schedule counts these\n"
    "      --mask FILE            of its size: what is white is made anew, the rest kept\n"
    "\n"
    "Larger\n"
    "      --hires X              a second pass over latents X times as large, as AUTOMATIC1111's\n"
    "                             Hires. fix; a schedule's last model makes it (default 0: none)\n"
    "      --hires-steps N        (default 0: as --steps)  --hires-strength X  (default 0.7)\n"
    "      --hires-upscaler NAME  latent (the default), latent-antialiased, latent-bicubic,\n"
    "                             latent-bicubic-antialiased, latent-nearest, "
    "latent-nearest-exact\n"
    "      --tile                 large pictures through the autoencoder in tiles: less memory,\n"
    "                             and a picture that differs a little, as with diffusers\n"
    "\n"
    "How\n"
    "      --sampler NAME         likeness samplers lists them (default: the model's); also with\n"
    "                             sigmas, \"DPM++ 2M Karras\"\n"
    "      --sigmas NAME|LIST     model, karras, exponential, beta, trailing, or 14.6,7,2,0\n"
    "      --steps N              (default 50)\n"
    "      --guidance X           also --guidance_scale, --cfg-scale (default 7.5; 1 is off)\n"
    "      --guidance_rescale X   0 to 1 (default 0)\n"
    "      --eta X                DDIM, TCD: 0 no noise, 1 as much as DDPM (default 0)\n"
    "      --variance NAME        DDPM: fixed_small, fixed_large, ... (default: the model's)\n"
    "      --spacing NAME         leading, trailing, linspace (default: the model's)\n"
    "      --clip-skip N          leave out the text encoder's last N layers (default 0)\n"
    "      --deep-cache N         DeepCache: the whole network in every N-th evaluation only\n"
    "                             (3 is about twice as fast; default 0, as 1: always)\n"
    "      --rng cpu|cuda|a1111   whose noise a seed gives: diffusers' (default), or that of a "
    "GPU, as\n"
    "                             AUTOMATIC1111 and stable-diffusion.cpp draw it (cuda: and\n"
    "                             diffusers, where a picture is changed; a1111 is also called\n"
    "                             nv or gpu)\n"
    "      --eta-noise-seed-delta N   AUTOMATIC1111's (its ENSD): the sampler's own noise is of\n"
    "                             the seed + N (default 0: off)\n"
    "      --init-latents FILE    start from this noise: safetensors, \"latents\" [1,4,h,w]\n"
    "      --sweep \"sampler=ddpm,ddim steps=200,50,10\"   every combination; a value may hold\n"
    "                             spaces: \"sampler=euler,DPM++ 2M Karras steps=20,30\"\n"
    "\n"
    "Where (folders are made)\n"
    "  -o, --output FILE.png|DIR/ one picture, or DIR/<prompt>-<seed>.png (default: here)\n"
    "      --save-latents FILE|DIR/  the noise it started from, and the latents before decoding\n"
    "      --preview N            every N steps (default 0: never) the growing picture, beside it\n"
    "                             as NAME-preview.png; gone when the picture is there, or the run\n"
    "                             is stopped\n"
    "      --grid FILE.png        also one labelled grid: a column for each seed\n"
    "      --overwrite            write over files that other settings made\n"
    "\n"
    "Files carry their settings: likeness inspect FILE.png shows them. A file is written over\n"
    "only by the picture that has the same; another in a folder gets a number (cat-42-2.png), and "
    "one\n"
    "that -o, --grid or --save-latents names is refused before the work.\n";
int generate_flags_read(task *t, int argc, char **argv)
{
    /* apart from what --like's picture says: lone_check is of flags */
    double strength = NAN, hires_strength = NAN;
    int hires_steps = NOT_GIVEN, width = NOT_GIVEN, height = NOT_GIVEN;
    const char *upscaler = NULL;
    const option list[] = {
        {"-h --help", OPTION_FLAG, &t->help},
        {"-p --prompt", OPTION_TEXTS, &t->prompts},
        {"--like", OPTION_TEXT, &t->like},
        {"-n --negative_prompt --negative", OPTION_TEXT, &t->negative},
        {"--prompt_syntax", OPTION_TEXT, &t->prompt_syntax},
        {"-m --model", OPTION_TEXTS, &t->models.given},
        {"--schedule", OPTION_TEXT, &t->schedule},
        {"-s --seed --seeds", OPTION_TEXT, &t->seed_text},
        {"--steps --num_inference_steps", OPTION_INT, &t->steps},
        {"--sampler --sampling_method", OPTION_TEXT, &t->sampler},
        {"--sigmas --scheduler --schedule_type", OPTION_TEXT, &t->sigmas},
        {"--guidance --guidance_scale --cfg_scale", OPTION_FLOAT, &t->guidance},
        {"--guidance_rescale", OPTION_FLOAT, &t->guidance_rescale},
        {"-W --width", OPTION_INT, &width},
        {"-H --height", OPTION_INT, &height},
        {"--eta", OPTION_FLOAT, &t->eta},
        {"--rng", OPTION_TEXT, &t->rng},
        {"--eta_noise_seed_delta --ensd", OPTION_INT, &t->noise_delta},
        {"--variance", OPTION_TEXT, &t->variance},
        {"--spacing", OPTION_TEXT, &t->spacing},
        {"--clip_skip", OPTION_INT, &t->clip_skip},
        {"--deep_cache", OPTION_INT, &t->deep_cache},
        {"--init_latents", OPTION_TEXT, &t->init_latents},
        {"-i --init_image --init_img", OPTION_TEXT, &t->init_image},
        {"--strength --denoising_strength", OPTION_DOUBLE, &strength},
        {"--mask --mask_image", OPTION_TEXT, &t->mask},
        {"--hires --hires_scale --hr_scale", OPTION_DOUBLE, &t->hires},
        {"--preview --preview_steps", OPTION_INT, &t->preview},
        {"--tile --vae_tiling", OPTION_FLAG, &t->tile},
        {"--hires_steps", OPTION_INT, &hires_steps},
        {"--hires_strength --hires_denoising_strength", OPTION_DOUBLE, &hires_strength},
        {"--hires_upscaler", OPTION_TEXT, &upscaler},
        {"-b --batch --batch_count", OPTION_INT, &t->batch},
        {"--save_latents", OPTION_TEXT, &t->save_latents},
        {"--precision", OPTION_TEXT, &t->precision},
        {"--device", OPTION_TEXT, &t->context_options.device},
        {"-t --threads", OPTION_INT, &t->threads},
        {"-o --output", OPTION_TEXT, &t->output},
        {"--grid", OPTION_TEXT, &t->grid},
        {"--overwrite", OPTION_FLAG, &t->outputs.overwrite},
        {"--sweep", OPTION_TEXT, &t->sweep_text},
        {"--lora_dir", OPTION_TEXT, &t->lora_dir},
        {"--lora", OPTION_TEXTS, &t->models.loras},
        {"--embedding", OPTION_TEXTS, &t->models.embeddings},
        {"--control", OPTION_TEXTS, &t->control_given},
        {"--vae", OPTION_TEXT, &t->vae},
        {"--taesd", OPTION_TEXT, &t->models.taesd},
        {"--tokenizer", OPTION_TEXT, &t->tokenizer},
        {NULL, OPTION_FLAG, NULL},
    };
    int status = options_parse(list, argc, argv, "generate", &t->rest);
    t->strength_given = !isnan(strength);
    t->hires_given = upscaler                   ? "--hires-upscaler"
                     : !isnan(hires_strength)   ? "--hires-strength"
                     : hires_steps != NOT_GIVEN ? "--hires-steps"
                                                : NULL;
    t->no_size = (width != NOT_GIVEN && width < 1) || (height != NOT_GIVEN && height < 1);
    if (width != NOT_GIVEN) t->width = width;
    if (height != NOT_GIVEN) t->height = height;
    if (t->strength_given) t->strength = strength;
    if (!isnan(hires_strength)) t->hires_strength = hires_strength;
    if (hires_steps != NOT_GIVEN) t->hires_steps = hires_steps;
    if (upscaler) t->hires_upscaler = upscaler;
    return status;
}

/* A path that is empty is a script's mistake, not a file's. */
static int paths_check(const task *t)
{
    const struct {
        const char *flag, *path;
    } given[] = {
        {"--init-image", t->init_image},
        {"--mask", t->mask},
        {"--init-latents", t->init_latents},
        {"--save-latents", t->save_latents},
        {"--like", t->like},
        {"--lora-dir", t->lora_dir},
        {"--vae", t->vae},
        {"--taesd", t->models.taesd},
        {"--tokenizer", t->tokenizer},
        {"--grid", t->grid},
    };
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        if (given[i].path && !*given[i].path)
            return fail(STATUS_WRONG_USAGE, "%s is empty: give a path", given[i].flag);
    for (size_t i = 0; i < t->models.given.count; i++)
        if (!*t->models.given.item[i])
            return fail(STATUS_WRONG_USAGE, "-m is empty: give a model's path");
    return STATUS_DONE;
}

/* Flags that would do nothing without another. */
static int lone_check(const task *t)
{
    if (t->strength_given && !t->init_image)
        return fail(STATUS_WRONG_USAGE, "--strength is of a picture that is changed: give it with "
                                        "-i FILE");
    if (t->hires_given && t->hires == 0)
        return fail(STATUS_WRONG_USAGE,
                    "%s is of a second pass: give that with --hires, as in "
                    "--hires 2",
                    t->hires_given);
    return STATUS_DONE;
}

/* A list of sigmas says how many steps there are, unless the user does. */
static int sigmas_check(task *t)
{
    int steps = 0;
    if (!t->sigmas) return STATUS_DONE;
    if (!lk_sigmas_check(t->sigmas, &steps, &t->error))
        return fail(STATUS_WRONG_USAGE, "--sigmas: %s", t->error.text);
    t->base.sigmas = lk_sigmas_name(t->sigmas);
    if (!t->base.sigmas) t->base.sigmas = t->sigmas;
    if (t->steps == NOT_GIVEN && steps) t->steps = steps;
    return STATUS_DONE;
}

int generate_flags_check(task *t)
{
    lk_generate_options *o = &t->base;
    if (t->rest.count)
        return fail(STATUS_WRONG_USAGE, "\"%s\" is no flag; a prompt is given with -p",
                    t->rest.item[0]);
    if (paths_check(t) != STATUS_DONE || lone_check(t) != STATUS_DONE) return STATUS_WRONG_USAGE;
    if (t->sampler && !lk_sampler_choose(o, t->sampler, &t->error))
        return fail(STATUS_WRONG_USAGE, "--sampler: %s", t->error.text);
    if (sigmas_check(t) != STATUS_DONE) return STATUS_WRONG_USAGE;
    if (t->variance && !lk_variance_parse(&o->variance, t->variance))
        return fail(STATUS_WRONG_USAGE,
                    "--variance %s: there are fixed_small, fixed_small_log, fixed_large, "
                    "fixed_large_log, learned, learned_range",
                    t->variance);
    if (t->rng && !lk_rng_parse(&o->rng, t->rng))
        return fail(STATUS_WRONG_USAGE,
                    "--rng %s: there are cpu, cuda, a1111 (also called nv, gpu)", t->rng);
    if (t->noise_delta < 0)
        return fail(STATUS_WRONG_USAGE, "--eta-noise-seed-delta %d: it cannot be negative",
                    t->noise_delta);
    o->noise_seed_delta = (uint64_t)t->noise_delta;
    if (t->spacing && !lk_spacing_parse(&o->spacing, t->spacing))
        return fail(STATUS_WRONG_USAGE, "--spacing %s: there are leading, trailing, linspace",
                    t->spacing);
    if (t->prompt_syntax && !lk_prompt_syntax_parse(&o->prompt_syntax, t->prompt_syntax))
        return fail(STATUS_WRONG_USAGE, "--prompt-syntax %s: there are plain, a1111",
                    t->prompt_syntax);
    if (!lk_precision_parse(&t->context_options.precision, t->precision))
        return fail(STATUS_WRONG_USAGE, "--precision %s: there are f32, bf16, f16", t->precision);
    if (t->threads < 0)
        return fail(STATUS_WRONG_USAGE, "-t %d: threads cannot be negative", t->threads);
    if (t->deep_cache < 0)
        return fail(STATUS_WRONG_USAGE, "--deep-cache %d: 0 or 1 (off), or more", t->deep_cache);
    if (t->no_size)
        return fail(STATUS_WRONG_USAGE,
                    "-W and -H are sides in pixels: give multiples of 8, or neither, for the size "
                    "that the model was trained on");
    t->context_options.threads = t->threads;
    o->negative = t->negative;
    o->width = t->width;
    o->height = t->height;
    if (t->steps != NOT_GIVEN) o->steps = t->steps;
    o->guidance = t->guidance;
    o->guidance_rescale = t->guidance_rescale;
    o->eta = t->eta;
    o->clip_skip = t->clip_skip;
    o->deep_cache = t->deep_cache;
    o->strength = t->strength;
    o->tile = t->tile;
    if (t->preview < 0)
        return fail(STATUS_WRONG_USAGE, "--preview %d: steps cannot be negative", t->preview);
    o->preview_steps = t->preview;
    o->hires = t->hires;
    o->hires_steps = t->hires_steps;
    o->hires_strength = t->hires_strength;
    o->hires_upscaler = t->hires_upscaler;
    if (t->batch < 1 || t->batch > 100000)
        return fail(STATUS_WRONG_USAGE, "-b %d: give 1 to 100000 pictures a seed", t->batch);
    return STATUS_DONE;
}
