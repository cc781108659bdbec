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
    "Teaches a model a subject from about five pictures (DreamBooth). Flags are those of diffusers'\n"
    "train_dreambooth.py; - and _ are the same in them. Its other flags are known too: each says why\n"
    "it has no effect here, or what to use instead.\n"
    "\n"
    "What\n"
    "  -m, --model PATH             also --pretrained_model_name_or_path (default: pocket)\n"
    "      --instance_data_dir DIR  pictures of the subject\n"
    "      --instance_prompt TEXT   what they show: \"a photo of sks dog\"\n"
    "      --resolution N           (default: the model's own)     --center_crop\n"
    "      --train_text_encoder     the text encoder too\n"
    "\n"
    "Prior preservation: what the model knew of the class\n"
    "      --with_prior_preservation --class_prompt TEXT --class_data_dir DIR\n"
    "      --num_class_images N     (default 100) missing ones are made\n"
    "      --prior_loss_weight X    (default 1)\n"
    "      --prior_from_base        without pictures: the base model's own predictions are kept\n"
    "\n"
    "How long and how fast: 400 to 800 steps at 5e-6 to 2e-6 are usual for Stable Diffusion 1.x, about\n"
    "300 at 1e-4 to 1.5e-4 for the pocket model\n"
    "      --max_train_steps N      or --num_train_epochs N (default 1)\n"
    "      --train_batch_size N     (default 4)    --gradient_accumulation_steps N (default 1)\n"
    "      --learning_rate X        (default 5e-6) --scale_lr\n"
    "      --lr_scheduler NAME      constant, constant_with_warmup, linear, cosine,\n"
    "                               cosine_with_restarts, polynomial (default constant)\n"
    "      --lr_warmup_steps N      (default 500)  --lr_num_cycles N  --lr_power X\n"
    "\n"
    "How\n"
    "      --use_8bit_adam          a quarter of the memory for the optimizer's state\n"
    "      --gradient_checkpointing less memory, more time\n"
    "      --adam_beta1 X --adam_beta2 X --adam_weight_decay X --adam_epsilon X --max_grad_norm X\n"
    "      --snr_gamma X            min-SNR weights, 5 is usual     --offset_noise\n"
    "      --seed N                 (default: from the clock, recorded; a run that goes on has its own)\n"
    "      --mixed_precision no|bf16  (default no)\n"
    "      --optimizer_precision fp32|fp16  fp16 fails, and shows why (docs/WHY-NAN.md)\n"
    "      --no_cache_latents       encode the pictures anew in every step\n"
    "  -t, --threads N              (default: every core)\n"
    "\n"
    "Where\n"
    "      --output_dir DIR         the trained model, train.jsonl, train.json, checkpoint-N\n"
    "      --checkpointing_steps N  (default 500)  --checkpoints_total_limit N\n"
    "      --resume_from_checkpoint latest|DIR|checkpoint-N\n"
    "      --validation_prompt TEXT --num_validation_images N --validation_steps N\n";

/* Flags of train_dreambooth.py that there is nothing to be done for. */
static const struct other_flag {
    const char *name;
    option_kind kind;      /* OPTION_FLAG or OPTION_TEXT */
    const char *harmless;  /* values that need no word, parted by spaces; NULL: none */
    bool is_refused;
    const char *why;       /* or what to use instead */
} other_flags[] = {
    {"--revision", OPTION_TEXT, NULL, false, "the model is read from its folder or file as it lies there"},
    {"--variant", OPTION_TEXT, NULL, false, "whichever weights the model's folder holds are read"},
    {"--sample_batch_size", OPTION_TEXT, "1", false, "pictures are made one by one"},
    {"--dataloader_num_workers", OPTION_TEXT, "0", false, "pictures are read once, before the first step"},
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
    {"--skip_save_text_encoder", OPTION_FLAG, NULL, false, "the text encoder is saved: the folder is whole"},
    {"--validation_images", OPTION_TEXT, NULL, true,
     "it is for models that begin with a picture; use --validation_prompt"},
    {"--class_labels_conditioning", OPTION_TEXT, NULL, true,
     "Stable Diffusion 1.x takes no class labels; leave it out"},
    {"--validation_scheduler", OPTION_TEXT, NULL, false,
     "validation pictures are those of likeness generate: DDIM, 50 steps"},
};

enum { OTHER_FLAGS = sizeof other_flags / sizeof *other_flags };

typedef struct task {
    bool help, use_8bit_adam, no_cache;
    text_list rest;
    const char *model, *vae, *tokenizer, *mixed_precision, *optimizer_precision, *lr_scheduler, *seed;
    int threads;
    int64_t max_train_steps; /* INT64_MIN: not given */
    bool other_given[OTHER_FLAGS];
    const char *other_value[OTHER_FLAGS];
    lk_train_options options;
    progress_line line;
    workplace work;
    lk_model *opened;
    lk_error error;
} task;

static int flags_read(task *t, int argc, char **argv)
{
    lk_train_options *o = &t->options;
    const option own[] = {
        {"-h --help", OPTION_FLAG, &t->help},
        {"-m --model --pretrained_model_name_or_path", OPTION_TEXT, &t->model},
        {"--vae", OPTION_TEXT, &t->vae},
        {"--tokenizer --tokenizer_name", OPTION_TEXT, &t->tokenizer},
        {"--instance_data_dir", OPTION_TEXT, &o->instance_data_dir},
        {"--instance_prompt", OPTION_TEXT, &o->instance_prompt},
        {"--class_data_dir", OPTION_TEXT, &o->class_data_dir},
        {"--class_prompt", OPTION_TEXT, &o->class_prompt},
        {"--output_dir", OPTION_TEXT, &o->output_dir},
        {"--resolution", OPTION_INT, &o->resolution},
        {"--center_crop", OPTION_FLAG, &o->center_crop},
        {"--train_batch_size", OPTION_INT, &o->train_batch_size},
        {"--gradient_accumulation_steps", OPTION_INT, &o->gradient_accumulation_steps},
        {"--max_train_steps", OPTION_LONG, &t->max_train_steps},
        {"--num_train_epochs", OPTION_INT, &o->num_train_epochs},
        {"--learning_rate", OPTION_DOUBLE, &o->learning_rate},
        {"--scale_lr", OPTION_FLAG, &o->scale_lr},
        {"--lr_scheduler", OPTION_TEXT, &t->lr_scheduler},
        {"--lr_warmup_steps", OPTION_LONG, &o->lr_warmup_steps},
        {"--lr_num_cycles", OPTION_INT, &o->lr_num_cycles},
        {"--lr_power", OPTION_DOUBLE, &o->lr_power},
        {"--use_8bit_adam", OPTION_FLAG, &t->use_8bit_adam},
        {"--adam_beta1", OPTION_DOUBLE, &o->adam_beta1},
        {"--adam_beta2", OPTION_DOUBLE, &o->adam_beta2},
        {"--adam_weight_decay", OPTION_DOUBLE, &o->adam_weight_decay},
        {"--adam_epsilon", OPTION_DOUBLE, &o->adam_epsilon},
        {"--max_grad_norm", OPTION_DOUBLE, &o->max_grad_norm},
        {"--seed", OPTION_TEXT, &t->seed},
        {"--train_text_encoder", OPTION_FLAG, &o->train_text_encoder},
        {"--gradient_checkpointing", OPTION_FLAG, &o->gradient_checkpointing},
        {"--snr_gamma", OPTION_DOUBLE, &o->snr_gamma},
        {"--offset_noise", OPTION_FLAG, &o->offset_noise},
        {"--with_prior_preservation", OPTION_FLAG, &o->with_prior_preservation},
        {"--prior_loss_weight", OPTION_DOUBLE, &o->prior_loss_weight},
        {"--num_class_images", OPTION_INT, &o->num_class_images},
        {"--prior_from_base", OPTION_FLAG, &o->prior_from_base},
        {"--cache_latents", OPTION_FLAG, &o->cache_latents},
        {"--no_cache_latents", OPTION_FLAG, &t->no_cache},
        {"--checkpointing_steps", OPTION_LONG, &o->checkpointing_steps},
        {"--checkpoints_total_limit", OPTION_INT, &o->checkpoints_total_limit},
        {"--resume_from_checkpoint", OPTION_TEXT, &o->resume_from_checkpoint},
        {"--validation_prompt", OPTION_TEXT, &o->validation_prompt},
        {"--num_validation_images", OPTION_INT, &o->num_validation_images},
        {"--validation_steps", OPTION_LONG, &o->validation_steps},
        {"--mixed_precision --precision", OPTION_TEXT, &t->mixed_precision},
        {"--optimizer_precision", OPTION_TEXT, &t->optimizer_precision},
        {"-t --threads", OPTION_INT, &t->threads},
    };
    enum { OWN = sizeof own / sizeof *own };
    option list[OWN + OTHER_FLAGS + 1] = {{NULL, OPTION_FLAG, NULL}};
    memcpy(list, own, sizeof own);
    for (int i = 0; i < OTHER_FLAGS; i++) {
        bool flag = other_flags[i].kind == OPTION_FLAG;
        list[OWN + i] = (option){other_flags[i].name, other_flags[i].kind,
                                 flag ? (void *)&t->other_given[i] : (void *)&t->other_value[i]};
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
        return fail(STATUS_WRONG_USAGE, "--optimizer_precision fp16 and --use_8bit_adam: choose one");
    t->options.optimizer = half ? LK_ADAMW_F16 : t->use_8bit_adam ? LK_ADAMW_8BIT : LK_ADAMW;
    return STATUS_DONE;
}

/* PyTorch's generator takes any 64 bits; train.json holds them as a signed number. */
static int seed_read(task *t)
{
    char *end;
    t->options.any_seed = !t->seed || strcmp(t->seed, "-1") == 0;
    if (t->options.any_seed) return STATUS_DONE;
    unsigned long long v = strtoull(t->seed, &end, 10);
    if (end == t->seed || *end || t->seed[0] == '-' || v > INT64_MAX)
        return fail(STATUS_WRONG_USAGE, "--seed wants a whole number from 0 to 2^63-1, or -1 for any, not "
                    "\"%s\"", t->seed);
    t->options.seed = v;
    return STATUS_DONE;
}

static int flags_check(task *t, lk_context_options *context)
{
    const char *p = t->mixed_precision;
    int status = others_tell(t); /* first: one of them takes several words */
    if (status != STATUS_DONE) return status;
    if (t->rest.count)
        return fail(STATUS_WRONG_USAGE, "\"%s\" is no flag; see: likeness train --help",
                    t->rest.item[0]);
    if (!lk_rate_schedule_parse(&t->options.lr_scheduler, t->lr_scheduler))
        return fail(STATUS_WRONG_USAGE, "--lr_scheduler %s: there are constant, constant_with_warmup, "
                    "linear, cosine, cosine_with_restarts, polynomial", t->lr_scheduler);
    if (strcmp(p, "f32") == 0 || strcmp(p, "fp32") == 0) p = "no";
    if (strcmp(p, "no") != 0 && strcmp(p, "bf16") != 0)
        return fail(STATUS_WRONG_USAGE, "--mixed_precision %s: there are no and bf16%s", p,
                    strcmp(p, "fp16") == 0 ? " (half precision is what makes NaN: docs/WHY-NAN.md)"
                                           : "");
    if (t->max_train_steps != INT64_MIN && t->max_train_steps < 1)
        return fail(STATUS_WRONG_USAGE, "--max_train_steps must be at least 1, not %lld; leave it out to train "
                    "--num_train_epochs epochs", (long long)t->max_train_steps);
    t->options.max_train_steps = t->max_train_steps == INT64_MIN ? 0 : t->max_train_steps;
    context->precision = strcmp(p, "bf16") == 0 ? LK_BF16 : LK_F32;
    context->threads = t->threads;
    if (t->no_cache) t->options.cache_latents = false;
    status = optimizer_choose(t);
    return status == STATUS_DONE ? seed_read(t) : status;
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
    progress_start(&t->line, "training");
    interrupt_watch();
    bool ok = workplace_open(&t->work, context, &t->error) &&
              lk_model_open(&t->opened, t->work.context, &model, &t->error) &&
              lk_train(t->work.session, t->opened, &t->options, &t->error);
    progress_clear(&t->line);
    if (!ok) return fail_error(&t->error);
    puts(t->options.output_dir);
    return STATUS_DONE;
}

int command_train(int argc, char **argv)
{
    task t = {.mixed_precision = "no", .optimizer_precision = "fp32", .lr_scheduler = "constant",
              .max_train_steps = INT64_MIN};
    lk_context_options context;
    lk_train_defaults(&t.options);
    lk_context_defaults(&context);
    int status = flags_read(&t, argc, argv);
    if (status == STATUS_DONE && t.help) {
        fputs(help, stdout);
    } else {
        if (status == STATUS_DONE) status = flags_check(&t, &context);
        if (status == STATUS_DONE) status = work(&t, &context);
    }
    lk_model_close(&t.opened);
    workplace_close(&t.work);
    free(t.rest.item);
    return status;
}
