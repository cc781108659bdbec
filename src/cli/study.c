/* SPDX-License-Identifier: Apache-2.0
 *
 * study: likeness study, the whole comparison as one page. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const char help[] =
    "likeness study [PLAN.json] [-o DIR] [flags]\n"
    "likeness study --photos DIR --name \"sks dog\" --class dog [-m MODEL] [-o DIR] [flags]\n"
    "\n"
    "Makes every picture of a plan, trains the models that it asks for, measures what leaks from "
    "one prompt\n"
    "into another, and writes DIR/report.html. Without a plan: the report's experiment, all five "
    "parts, on the\n"
    "pocket model. Run again, it makes only what is missing or has changed. docs/STUDY.md tells of "
    "plans.\n"
    "With --photos: the report's experiment with your own photos of one subject, three to five of "
    "them.\n"
    "\n"
    "      --photos DIR           the photos\n"
    "      --name TEXT            what prompts call the subject: a rare word and its class, \"sks "
    "dog\"\n"
    "      --class TEXT           what it is one of: dog, cat, backpack\n"
    "  -m, --model PATH           diffusers folder, .safetensors, .ckpt or .gguf file (default: "
    "pocket, which draws no photos)\n"
    "  -o, --output DIR           (default: study)\n"
    "      --dry-run              say what would be made, and how many steps it takes\n"
    "      --clip DIR             a CLIP as transformers saves it: CLIP-I and CLIP-T besides\n"
    "      --dino DIR             a DINO or DINOv2 so: DINO, PRES and DIV besides\n"
    "      --yes                  make thousands of pictures without asking\n"
    "      --precision f32|bf16|f16   (default f32; f16 is a GPU's)\n"
    "      --device NAME          auto, cpu, cuda, cuda:1 (default auto: the GPU where one "
    "serves)\n"
    "  -t, --threads N            (default 0: every core)\n";

typedef struct task {
    bool help;
    text_list rest;
    const char *output, *precision, *device;
    int threads;
    lk_study_options options;
    progress_line line;
    workplace work;
    lk_error error;
} task;

static int on_progress(void *user, const lk_study_progress *p)
{
    task *t = user;
    if (p->total > 0) progress_study(&t->line, p);
    return interrupt_seen();
}

static void on_line(void *user, lk_level level, const char *line)
{
    task *t = user;
    progress_clear(&t->line);
    fprintf(t->options.dry_run ? stdout : stderr, "%s%s\n",
            level == LK_LOG_WARNING ? "warning: " : "", line);
}

static int work(task *t)
{
    lk_context_options context;
    lk_context_defaults(&context);
    if (!lk_precision_parse(&context.precision, t->precision))
        return fail(STATUS_WRONG_USAGE, "--precision %s: there are f32, bf16, f16", t->precision);
    lk_study_options *o = &t->options;
    if (o->photos && (!o->name || !o->class_name))
        return fail(STATUS_WRONG_USAGE,
                    "--photos wants --name, what prompts call the subject, and --class, what it "
                    "is one of: --name \"sks dog\" --class dog");
    if (!o->photos && (o->name || o->class_name || o->model))
        return fail(STATUS_WRONG_USAGE,
                    "--name, --class and -m go with --photos; a plan names its own");
    if (o->photos && t->rest.count)
        return fail(STATUS_WRONG_USAGE, "--photos makes a plan of its own; leave out \"%s\"",
                    t->rest.item[0]);
    if (t->rest.count > 1)
        return fail(STATUS_WRONG_USAGE, "one plan at a time, not also \"%s\"", t->rest.item[1]);
    context.threads = t->threads;
    context.device = t->device;
    t->options.plan = t->rest.count ? t->rest.item[0] : NULL;
    t->options.folder = t->output;
    t->options.progress = on_progress;
    t->options.log = on_line;
    t->options.user = t;
    progress_start(&t->line);
    interrupt_watch();
    bool ok = workplace_open(&t->work, &context, &t->error) &&
              lk_study(t->work.context, &t->options, &t->error);
    progress_clear(&t->line);
    if (!ok) return fail_error(&t->error);
    if (!t->options.dry_run) printf("%s/report.html\n", t->output);
    return STATUS_DONE;
}

int command_study(int argc, char **argv)
{
    task t = {.output = "study", .precision = "f32"};
    const option list[] = {
        {"-h --help", OPTION_FLAG, &t.help},
        {"-o --output", OPTION_TEXT, &t.output},
        {"--photos", OPTION_TEXT, &t.options.photos},
        {"--name", OPTION_TEXT, &t.options.name},
        {"--class", OPTION_TEXT, &t.options.class_name},
        {"-m --model", OPTION_TEXT, &t.options.model},
        {"--dry_run", OPTION_FLAG, &t.options.dry_run},
        {"--clip", OPTION_TEXT, &t.options.clip},
        {"--dino", OPTION_TEXT, &t.options.dino},
        {"--yes", OPTION_FLAG, &t.options.yes},
        {"--precision", OPTION_TEXT, &t.precision},
        {"--device", OPTION_TEXT, &t.device},
        {"-t --threads", OPTION_INT, &t.threads},
        {NULL, OPTION_FLAG, NULL},
    };
    lk_study_defaults(&t.options);
    int status = options_parse(list, argc, argv, "study", &t.rest);
    if (status == STATUS_DONE && t.help)
        fputs(help, stdout);
    else if (status == STATUS_DONE)
        status = work(&t);
    workplace_close(&t.work);
    free(t.rest.item);
    return status;
}
