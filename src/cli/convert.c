/* SPDX-License-Identifier: Apache-2.0
 *
 * convert: likeness convert: a model in another form, and models made out of models (--merge). */
#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

static const char help[] =
    "likeness convert IN OUT [--dtype f16]\n"
    "likeness convert --merge \"0.5*base+0.5*tuned\" -m base=PATH -m tuned=PATH -o DIR\n"
    "likeness convert --extract-lora BASE TRAINED -o FILE.safetensors [--rank 32]\n"
    "\n"
    "IN OUT: a model in another form. IN: a diffusers folder, .safetensors, .ckpt or .gguf "
    "file,\n"
    "or pocket.\n"
    "OUT that ends with .safetensors is one file in the original names, as AUTOMATIC1111, "
    "ComfyUI,\n"
    "stable-diffusion.cpp and diffusers' from_single_file read it; else it is a diffusers folder.\n"
    "\n"
    "      --dtype TYPE           weights as f32, f16 or bf16 (default: each as it is)\n"
    "      --lora FILE[:0.8]      (--merge-lora) merged into the weights, which are float32 then\n"
    "                             where --dtype says nothing else; may be given several times\n"
    "      --vae PATH             another autoencoder, folder or file, in place of the model's\n"
    "      --tokenizer DIR        tokenizer files for a single-file model\n"
    "\n"
    "--merge: one model whose weights (UNet and text encoder) are the weighted sum of several, in\n"
    "float32, as a diffusers folder. All else is that of the first model in the sum.\n"
    "\n"
    "      --merge SUM            weights may be any numbers; they need not add up to 1\n"
    "  -m, --model NAME=PATH      diffusers folder, .safetensors, .ckpt or .gguf file; "
    "pocket:\n"
    "                             the pocket model\n"
    "  -o, --output DIR           made if it is not there; one file: convert DIR OUT.safetensors\n"
    "\n"
    "--extract-lora: what a training changed as a LoRA in kohya's spelling, by the first singular\n"
    "values of each layer's difference. How much of it is kept is told.\n"
    "\n"
    "      --rank N               of every layer (default 32)\n"
    "      --clamp-quantile X     0.5 to 1: the factors are cut off where this share of their\n"
    "                             numbers is below (default 0.99, as kohya's script; 1: nowhere)\n"
    "      --dtype TYPE           f32 (default), f16, bf16\n"
    "\n"
    "      --overwrite            also where something is there already\n";

enum { NOT_GIVEN = INT_MIN }; /* --rank */

typedef struct task {
    bool help, overwrite, extract;
    lk_extract_options how;
    int rank;        /* NOT_GIVEN */
    double quantile; /* NaN: not given */
    char *word[2];   /* NAME=PATH of --extract-lora */
    const char *merge, *output, *dtype, *vae, *tokenizer;
    text_list rest;
    model_list models;
    workplace work;
    lk_error error;
} task;

static int flags_read(task *t, int argc, char **argv)
{
    const option list[] = {
        {"-h --help", OPTION_FLAG, &t->help},
        {"--merge", OPTION_TEXT, &t->merge},
        {"--extract_lora", OPTION_FLAG, &t->extract},
        {"--rank", OPTION_INT, &t->rank},
        {"--clamp_quantile", OPTION_DOUBLE, &t->quantile},
        {"-m --model", OPTION_TEXTS, &t->models.given},
        {"-o --output", OPTION_TEXT, &t->output},
        {"--overwrite", OPTION_FLAG, &t->overwrite},
        {"--dtype", OPTION_TEXT, &t->dtype},
        {"--lora --merge-lora", OPTION_TEXTS, &t->models.loras},
        {"--vae", OPTION_TEXT, &t->vae},
        {"--tokenizer", OPTION_TEXT, &t->tokenizer},
        {NULL, OPTION_FLAG, NULL},
    };
    return options_parse(list, argc, argv, "convert", &t->rest);
}

/* Whether a folder is not there, or empty; what is no folder is for the library to refuse. */
static bool is_vacant(const char *path)
{
    DIR *folder = opendir(path);
    int entries = 0;
    if (!folder) return true;
    while (entries <= 2 && readdir(folder)) entries++; /* . and .. */
    closedir(folder);
    return entries <= 2;
}

static bool is_folder(const char *path)
{
    struct stat there;
    return stat(path, &there) == 0 && S_ISDIR(there.st_mode);
}

static int on_work(void *user, const lk_progress *p)
{
    (void)user;
    (void)p;
    return interrupt_seen();
}

static int told(const char *path)
{
    puts(path);
    return fflush(stdout) == 0 ? STATUS_DONE
                               : fail(STATUS_FAILED, "standard output cannot be written");
}

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text), n = strlen(ending);
    return length > n && !strcasecmp(text + length - n, ending);
}

/* ---- one model out of several ---- */

static int merge(task *t)
{
    if (t->rest.count)
        return fail(STATUS_WRONG_USAGE, "\"%s\" is no flag; see: likeness convert --help",
                    t->rest.item[0]);
    if (!t->output || !*t->output)
        return fail(STATUS_WRONG_USAGE, "where should the model go? Say it with -o DIR");
    const char *other = t->dtype                ? "--dtype"
                        : t->models.loras.count ? "--lora"
                        : t->vae                ? "--vae"
                        : t->tokenizer          ? "--tokenizer"
                                                : NULL;
    if (other)
        return fail(STATUS_WRONG_USAGE,
                    "%s is for likeness convert IN OUT; what --merge writes can be converted so",
                    other);
    if (ends_with(t->output, ".safetensors"))
        return fail(STATUS_WRONG_USAGE,
                    "-o %s: --merge writes a folder; then likeness convert FOLDER %s", t->output,
                    t->output);
    if (!t->overwrite && !is_vacant(t->output))
        return fail(STATUS_FAILED, "%s is not empty; choose another folder, or say --overwrite",
                    t->output);
    int status = models_read(&t->models, "--merge");
    if (status != STATUS_DONE) return status;
    lk_context_options context;
    lk_merge_options options;
    lk_context_defaults(&context);
    lk_merge_defaults(&options);
    options.progress = on_work;
    if (!workplace_open(&t->work, &context, &t->error) ||
        !models_open(&t->models, t->work.context, NULL, NULL, &t->error))
        return fail_error(&t->error);
    interrupt_watch(); /* from here on there is something to put away */
    if (!lk_merge(t->work.session, t->models.opened, (const char *const *)t->models.name,
                  (int)t->models.count, t->merge, t->output, &options, &t->error))
        return fail_error(&t->error);
    return told(t->output);
}

/* ---- what a training changed ---- */

static int extract_check(task *t)
{
    static const char *const names[] = {"base", "trained"};
    if (t->rest.count != 2 || !*t->rest.item[0] || !*t->rest.item[1] || !t->output || !*t->output)
        return fail(
            STATUS_WRONG_USAGE,
            "write it as: likeness convert --extract-lora BASE TRAINED -o FILE.safetensors");
    if (t->merge || t->models.given.count || t->models.loras.count || t->vae || t->tokenizer)
        return fail(STATUS_WRONG_USAGE,
                    "--extract-lora takes --rank, --clamp-quantile, --dtype and --overwrite");
    if (!ends_with(t->output, ".safetensors"))
        return fail(STATUS_WRONG_USAGE, "-o %s: a LoRA is written as FILE.safetensors", t->output);
    if (!t->overwrite && access(t->output, F_OK) == 0)
        return fail(STATUS_FAILED, "%s is there already; choose another name, or say --overwrite",
                    t->output);
    for (int i = 0; i < 2; i++)
        if (asprintf(&t->word[i], "%s=%s", names[i], t->rest.item[i]) < 0 ||
            !text_list_add(&t->models.given, t->word[i])) {
            return fail(STATUS_FAILED, "not enough memory");
        }
    return models_read(&t->models, "--extract-lora");
}

static int extract(task *t)
{
    int status = extract_check(t);
    if (status != STATUS_DONE) return status;
    lk_context_options context;
    char *kept = NULL;
    lk_context_defaults(&context);
    t->how.progress = on_work;
    t->how.dtype = t->dtype;
    if (t->rank != NOT_GIVEN) t->how.rank = t->rank;
    if (!isnan(t->quantile)) t->how.quantile = t->quantile;
    interrupt_watch();
    if (!workplace_open(&t->work, &context, &t->error) ||
        !models_open(&t->models, t->work.context, NULL, NULL, &t->error) ||
        !lk_can_write(t->output, true, &t->error) ||
        !lk_lora_extract(t->work.session, t->models.opened[0], t->models.opened[1], t->output,
                         &t->how, &kept, &t->error))
        return fail_error(&t->error);
    fprintf(stderr, "likeness: %s\n", kept);
    lk_free(kept);
    return told(t->output);
}

/* ---- one model in another form ---- */

/* Whether OUT is something that is written, and where it may be. */
static int output_check(const task *t, const char *path)
{
    static const char *const others[] = {".ckpt", ".pt", ".pth", ".bin", ".gguf"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (ends_with(path, others[i]))
            return fail(STATUS_WRONG_USAGE,
                        "%s: %s is read, not written; there are FILE.safetensors and folders", path,
                        others[i]);
    if (!*path || !strcmp(path, "-"))
        return fail(STATUS_WRONG_USAGE,
                    "OUT is \"%s\": a model goes to a folder or FILE.safetensors, not to standard "
                    "output",
                    path);
    if (ends_with(path, ".safetensors") && is_folder(path))
        return fail(STATUS_WRONG_USAGE,
                    "%s is a folder, and a name that ends so is one file; choose another name",
                    path);
    if (t->overwrite) return STATUS_DONE;
    if (ends_with(path, ".safetensors") && access(path, F_OK) == 0)
        return fail(STATUS_FAILED, "%s is there already; choose another name, or say --overwrite",
                    path);
    if (!is_vacant(path))
        return fail(STATUS_FAILED, "%s is not empty; choose another folder, or say --overwrite",
                    path);
    return STATUS_DONE;
}

static int convert(task *t)
{
    const char *in = t->rest.item[0], *out = t->rest.item[1];
    if (t->output || t->models.given.count)
        return fail(STATUS_WRONG_USAGE,
                    "convert IN OUT names both; -m and -o are for --merge, see: likeness convert "
                    "--help");
    int status = output_check(t, out);
    if (status == STATUS_DONE && !text_list_add(&t->models.given, in))
        status = fail(STATUS_FAILED, "not enough memory");
    if (status == STATUS_DONE) status = models_read(&t->models, NULL);
    if (status != STATUS_DONE) return status;
    lk_context_options context;
    lk_save_options options;
    lk_context_defaults(&context);
    lk_save_defaults(&options);
    context.log = tell_warning;
    options.progress = on_work;
    options.dtype = t->dtype;
    interrupt_watch();
    if (!workplace_open(&t->work, &context, &t->error) ||
        !models_open(&t->models, t->work.context, t->vae, t->tokenizer, &t->error) ||
        (ends_with(out, ".safetensors") && !lk_can_write(out, true, &t->error)) ||
        !lk_model_save(t->work.session, t->models.opened[0], out, &options, &t->error))
        return fail_error(&t->error);
    return told(out);
}

static int work(task *t)
{
    if (t->extract) return extract(t);
    if (t->rank != NOT_GIVEN || !isnan(t->quantile))
        return fail(STATUS_WRONG_USAGE, "%s is for --extract-lora",
                    t->rank != NOT_GIVEN ? "--rank" : "--clamp-quantile");
    if (t->merge) return merge(t);
    if (t->rest.count == 2) return convert(t);
    return fail(STATUS_WRONG_USAGE,
                "convert what? There is --merge \"0.5*base+0.5*tuned\", and IN OUT; see: "
                "likeness convert --help");
}

int command_convert(int argc, char **argv)
{
    task t = {.rank = NOT_GIVEN, .quantile = NAN};
    lk_extract_defaults(&t.how);
    int status = flags_read(&t, argc, argv);
    if (status == STATUS_DONE && t.help)
        fputs(help, stdout);
    else if (status == STATUS_DONE)
        status = work(&t);
    models_close(&t.models);
    workplace_close(&t.work);
    for (int i = 0; i < 2; i++) free(t.word[i]);
    free(t.rest.item);
    return status;
}
