/* SPDX-License-Identifier: Apache-2.0
 *
 * train: likeness train, DreamBooth with the flags of diffusers' train_dreambooth.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const char help[] =
    "likeness train --instance_data_dir DIR --instance_prompt TEXT --output_dir DIR [flags]\n"
    "\n"
    "Teaches a model a subject from about five pictures (DreamBooth). Flags are those of "
    "diffusers'\n"
    "train_dreambooth.py; - and _ are the same in them. Its other flags are known too: each says "
    "why\n"
    "it has no effect here, or what to use instead.\n";

/* A group of the library's settings, and the flags beside them that are the program's own. */
static const struct section {
    const char *group, *heading, *own;
} sections[] = {
    {"What", "What",
     "  -m, --model PATH                    also --pretrained_model_name_or_path (default: "
     "pocket)\n"
     "      --vae PATH                      another autoencoder, folder or file\n"
     "      --tokenizer DIR                 tokenizer files for a single-file model\n"},
    {"LoRA", "LoRA: small matrices beside the weights, in place of all weights", ""},
    {"Textual inversion",
     "Textual inversion: a new word for the model as it is, in place of all weights", ""},
    {"Prior", "Prior preservation: what the model knew of the class", ""},
    {"Length",
     "How long and how fast: 400 to 800 steps at 5e-6 to 2e-6 are usual for Stable Diffusion 1.x, "
     "about\n"
     "300 at 1e-4 to 1.5e-4 for the pocket model",
     ""},
    {"How", "How",
     "      --use_8bit_adam                 as --optimizer adamw8bit\n"
     "      --mixed_precision no|bf16|fp16  (default no; fp16, with a scaled loss, is a GPU's)\n"
     "      --optimizer_precision fp32|fp16   fp16 fails, and shows why (docs/WHY-NAN.md)\n"
     "      --no_cache_latents              encode the pictures anew in every step\n"
     "  --device auto|cpu|cuda|cuda:1       (default auto: the GPU where one serves)\n"
     "  -t, --threads N                     (default 0: every core)\n"},
    {"Where", "Where", ""},
};
enum { SECTIONS = sizeof sections / sizeof *sections };

/* "a, b, c", on lines of their own. */
static void print_choices(const char *list)
{
    enum { MARGIN = 38, WIDTH = 100 };
    for (int at = WIDTH; *list;) {
        int n = (int)strcspn(list, " ");
        if (at + 1 + n > WIDTH)
            at = printf("\n%*s", MARGIN, "") - 1;
        else
            at += printf(" ");
        at += printf("%.*s", n, list);
        list += n + (list[n] == ' ');
    }
}

static void print_setting(const lk_train_setting *s)
{
    char flag[80];
    bool silent = !*s->standard || s->type == LK_SETTING_SWITCH;
    snprintf(flag, sizeof flag, "%s%s%s", s->name, s->value ? " " : "", s->value ? s->value : "");
    printf("      --%-29s %s%s", flag, s->help, s->type == LK_SETTING_CHOICE ? ":" : "");
    if (s->type == LK_SETTING_CHOICE) print_choices(s->range);
    printf(silent ? "\n" : " (default %s)\n", s->standard);
}

static void print_help(void)
{
    lk_train_setting s;
    fputs(help, stdout);
    for (int k = 0; k < SECTIONS; k++) {
        printf("\n%s\n", sections[k].heading);
        for (size_t i = 0; lk_train_setting_at(i, &s); i++)
            if (strcmp(s.group, sections[k].group) == 0) print_setting(&s);
        fputs(sections[k].own, stdout);
    }
}

/* Flags of train_dreambooth.py that there is nothing to be done for. */
static const struct other_flag {
    const char *name;
    option_kind kind;     /* OPTION_FLAG or OPTION_TEXT */
    const char *harmless; /* values that need no word, parted by spaces; NULL: none */
    bool is_refused;
    const char *why; /* or what to use instead */
} other_flags[] = {
    {"--revision", OPTION_TEXT, NULL, false,
     "the model is read from its folder or file as it lies there"},
    {"--variant", OPTION_TEXT, NULL, false, "whichever weights the model's folder holds are read"},
    {"--sample_batch_size", OPTION_TEXT, "1", false, "pictures are made one by one"},
    {"--dataloader_num_workers", OPTION_TEXT, "0", false,
     "pictures are read once, before the first step"},
    {"--push_to_hub", OPTION_FLAG, NULL, true,
     "nothing is sent anywhere; upload the output folder afterwards (hf upload NAME DIR)"},
    {"--hub_token", OPTION_TEXT, NULL, true,
     "nothing is sent anywhere; upload the output folder afterwards (hf upload NAME DIR)"},
    {"--hub_model_id", OPTION_TEXT, NULL, true,
     "nothing is sent anywhere; upload the output folder afterwards (hf upload NAME DIR)"},
    {"--logging_dir", OPTION_TEXT, NULL, false, "the log is train.jsonl in --output_dir"},
    {"--report_to", OPTION_TEXT, NULL, false, "the log is train.jsonl in --output_dir"},
    {"--allow_tf32", OPTION_FLAG, NULL, false, "it is a matter of NVIDIA's processors"},
    {"--prior_generation_precision", OPTION_TEXT, NULL, false,
     "class pictures are made in the precision of --mixed_precision"},
    {"--local_rank", OPTION_TEXT, "-1 0", true, "one process trains, on all cores; start it once"},
    {"--enable_xformers_memory_efficient_attention", OPTION_FLAG, NULL, false,
     "attention saves memory by itself"},
    {"--set_grads_to_none", OPTION_FLAG, NULL, false, "gradients take no memory between steps"},
    {"--pre_compute_text_embeddings", OPTION_FLAG, NULL, false,
     "prompts are encoded once in any case, unless the text encoder is trained"},
    {"--tokenizer_max_length", OPTION_TEXT, "77", true,
     "prompts are as long as the model's text encoder was made for; leave it out"},
    {"--text_encoder_use_attention_mask", OPTION_FLAG, NULL, true,
     "Stable Diffusion 1.x reads its prompts without a mask; leave it out"},
    {"--skip_save_text_encoder", OPTION_FLAG, NULL, false,
     "the text encoder is saved: the folder is whole"},
    {"--validation_images", OPTION_TEXT, NULL, true,
     "it is for models that begin with a picture; use --validation_prompt"},
    {"--class_labels_conditioning", OPTION_TEXT, NULL, true,
     "Stable Diffusion 1.x takes no class labels; leave it out"},
    {"--lora_dropout", OPTION_TEXT, "0 0.0", true,
     "a LoRA is trained without dropout, as that script does by default; leave it out"},
    {"--use_dora", OPTION_FLAG, NULL, true, "DoRA is not trained; leave it out for a LoRA"},
    {"--validation_scheduler", OPTION_TEXT, NULL, false,
     "validation pictures are those of likeness generate: DDIM, 50 steps"},
};

enum { OTHER_FLAGS = sizeof other_flags / sizeof *other_flags, MOST_SETTINGS = 100 };

/* A setting of the library's as a flag. */
typedef struct setting_flag {
    char names[40];
    lk_train_setting setting;
    option_call call;
} setting_flag;

typedef struct task {
    bool help, use_8bit_adam, no_cache;
    text_list rest;
    const char *model, *vae, *tokenizer, *mixed_precision, *optimizer_precision, *device;
    int threads;
    setting_flag setting[MOST_SETTINGS];
    bool other_given[OTHER_FLAGS];
    const char *other_value[OTHER_FLAGS];
    lk_train_options options;
    progress_line line;
    workplace work;
    lk_model *opened;
    lk_error error;
} task;

static int set_setting(void *user, const char *name, const char *text)
{
    task *t = user;
    return lk_train_set(&t->options, name, text, &t->error) ? STATUS_DONE : fail_error(&t->error);
}

/* The library's settings as flags; how many. */
static int settings_list(task *t, option *list)
{
    int n = 0;
    for (; n < MOST_SETTINGS && lk_train_setting_at((size_t)n, &t->setting[n].setting); n++) {
        setting_flag *f = &t->setting[n];
        snprintf(f->names, sizeof f->names, "--%s%s", f->setting.name,
                 strcmp(f->setting.name, "lora_rank") == 0 ? " --rank" : ""); /* diffusers' */
        f->call = (option_call){set_setting, t, f->setting.name};
        list[n] = (option){f->names,
                           f->setting.type == LK_SETTING_SWITCH ? OPTION_CALL_FLAG : OPTION_CALL,
                           &f->call};
    }
    return n;
}

static int flags_read(task *t, int argc, char **argv)
{
    const option own[] = {
        {"-h --help", OPTION_FLAG, &t->help},
        {"-m --model --pretrained_model_name_or_path", OPTION_TEXT, &t->model},
        {"--vae", OPTION_TEXT, &t->vae},
        {"--tokenizer --tokenizer_name", OPTION_TEXT, &t->tokenizer},
        {"--use_8bit_adam", OPTION_FLAG, &t->use_8bit_adam},
        {"--no_cache_latents", OPTION_FLAG, &t->no_cache},
        {"--mixed_precision --precision", OPTION_TEXT, &t->mixed_precision},
        {"--optimizer_precision", OPTION_TEXT, &t->optimizer_precision},
        {"--device", OPTION_TEXT, &t->device},
        {"-t --threads", OPTION_INT, &t->threads},
    };
    enum { OWN = sizeof own / sizeof *own };
    option list[MOST_SETTINGS + OWN + OTHER_FLAGS + 1] = {{NULL, OPTION_FLAG, NULL}};
    int n = settings_list(t, list);
    memcpy(list + n, own, sizeof own);
    for (int i = 0; i < OTHER_FLAGS; i++) {
        bool flag = other_flags[i].kind == OPTION_FLAG;
        list[n + OWN + i] = (option){other_flags[i].name, other_flags[i].kind,
                                     flag ? (void *)&t->other_given[i]
                                          : (void *)&t->other_value[i]};
    }
    return options_parse(list, argc, argv, "train", &t->rest);
}

static bool is_among(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; at && *at; at += strcspn(at, " "), at += strspn(at, " "))
        if (strcspn(at, " ") == n && memcmp(at, word, n) == 0) return true;
    return false;
}

/* A word for each flag that was given and does nothing. */
static int others_tell(const task *t)
{
    for (int i = 0; i < OTHER_FLAGS; i++) {
        const struct other_flag *f = &other_flags[i];
        const char *value = t->other_value[i];
        if (value ? is_among(f->harmless, value) : !t->other_given[i]) continue;
        if (f->is_refused) return fail(STATUS_WRONG_USAGE, "%s: %s", f->name, f->why);
        fprintf(stderr, "%s has no effect here: %s\n", f->name, f->why);
    }
    return STATUS_DONE;
}

static int optimizer_choose(task *t)
{
    const char *p = t->optimizer_precision;
    bool half = strcmp(p, "fp16") == 0;
    if (!half && strcmp(p, "fp32") != 0 && strcmp(p, "f32") != 0)
        return fail(STATUS_WRONG_USAGE, "--optimizer_precision %s: there are fp32 and fp16", p);
    if (half && t->use_8bit_adam)
        return fail(STATUS_WRONG_USAGE,
                    "--optimizer_precision fp16 and --use_8bit_adam: choose one");
    lk_optimizer *o = &t->options.optimizer, wanted = half               ? LK_ADAMW_F16
                                                      : t->use_8bit_adam ? LK_ADAMW_8BIT
                                                                         : *o;
    if (*o != LK_ADAMW && *o != wanted)
        return fail(STATUS_WRONG_USAGE, "--optimizer and %s: choose one",
                    half ? "--optimizer_precision fp16" : "--use_8bit_adam");
    *o = wanted;
    return STATUS_DONE;
}

static int flags_check(task *t, lk_context_options *context)
{
    int status = others_tell(t); /* first: one of them takes several words */
    if (status != STATUS_DONE) return status;
    if (t->rest.count)
        return fail(STATUS_WRONG_USAGE, "\"%s\" is no flag; see: likeness train --help",
                    t->rest.item[0]);
    if (!lk_precision_parse(&context->precision, t->mixed_precision))
        return fail(STATUS_WRONG_USAGE, "--mixed_precision %s: there are no, bf16 and fp16",
                    t->mixed_precision);
    context->threads = t->threads;
    context->device = t->device;
    if (t->no_cache) t->options.cache_latents = false;
    return optimizer_choose(t);
}

static int on_progress(void *user, const lk_train_progress *p)
{
    task *t = user;
    progress_train(&t->line, p);
    return interrupt_seen();
}

static void on_line(void *user, lk_level level, const char *line)
{
    task *t = user;
    progress_clear(&t->line);
    fprintf(stderr, "%s%s\n", level == LK_LOG_WARNING ? "warning: " : "", line);
}

static int work(task *t, lk_context_options *context)
{
    lk_model_options model;
    lk_model_defaults(&model);
    model.path = t->model;
    model.vae = t->vae;
    model.tokenizer = t->tokenizer;
    t->options.progress = on_progress;
    context->log = on_line;
    context->user = t;
    t->options.user = t;
    progress_start(&t->line);
    interrupt_watch();
    bool ok = workplace_open(&t->work, context, &t->error) &&
              lk_model_open(&t->opened, t->work.context, &model, &t->error) &&
              lk_train(t->work.session, t->opened, &t->options, &t->error);
    progress_clear(&t->line);
    if (!ok) return fail_error(&t->error);
    printf("%s%s\n", t->options.output_dir,
           t->options.textual_inversion ? "/learned_embeds.safetensors"
           : t->options.lora_rank       ? "/pytorch_lora_weights.safetensors"
                                        : "");
    return STATUS_DONE;
}

int command_train(int argc, char **argv)
{
    task t = {.mixed_precision = "no", .optimizer_precision = "fp32"};
    lk_context_options context;
    lk_train_defaults(&t.options);
    t.options.any_seed = true;
    lk_context_defaults(&context);
    int status = flags_read(&t, argc, argv);
    if (status == STATUS_DONE && t.help) {
        print_help();
    } else {
        if (status == STATUS_DONE) status = flags_check(&t, &context);
        if (status == STATUS_DONE) status = work(&t, &context);
    }
    lk_model_close(&t.opened);
    workplace_close(&t.work);
    free(t.rest.item);
    return status;
}
