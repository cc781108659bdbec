/* SPDX-License-Identifier: Apache-2.0
 *
 * convert: likeness convert, models made out of models: --merge. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

static const char help[] =
    "likeness convert --merge \"0.5*base+0.5*tuned\" -m base=PATH -m tuned=PATH -o DIR\n"
    "\n"
    "Writes one model whose weights (UNet and text encoder) are the weighted sum of several, in\n"
    "float32, as a diffusers folder. All else is that of the first model in the sum.\n"
    "\n"
    "      --merge SUM            weights may be any numbers; they need not add up to 1\n"
    "  -m, --model NAME=PATH      diffusers folder, .safetensors or .ckpt file; pocket: the pocket "
    "model\n"
    "  -o, --output DIR           made if it is not there\n"
    "      --overwrite            also where something is in it\n";

typedef struct task {
    bool help, overwrite;
    const char *merge, *output;
    text_list rest;
    model_list models;
    workplace work;
    lk_error error;
} task;

static int flags_read(task *t, int argc, char **argv)
{
    const option list[] = {
        {"-h --help", OPTION_FLAG, &t->help},           {"--merge", OPTION_TEXT, &t->merge},
        {"-m --model", OPTION_TEXTS, &t->models.given}, {"-o --output", OPTION_TEXT, &t->output},
        {"--overwrite", OPTION_FLAG, &t->overwrite},    {NULL, OPTION_FLAG, NULL},
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

static int on_merge(void *user, const lk_progress *p)
{
    (void)user;
    (void)p;
    return interrupt_seen();
}

static int work(task *t)
{
    if (!t->merge)
        return fail(STATUS_WRONG_USAGE,
                    "convert what? There is --merge \"0.5*base+0.5*tuned\"; see: "
                    "likeness convert --help");
    if (t->rest.count)
        return fail(STATUS_WRONG_USAGE, "\"%s\" is no flag; see: likeness convert --help",
                    t->rest.item[0]);
    if (!t->output || !*t->output)
        return fail(STATUS_WRONG_USAGE, "where should the model go? Say it with -o DIR");
    if (!t->overwrite && !is_vacant(t->output))
        return fail(STATUS_FAILED, "%s is not empty; choose another folder, or say --overwrite",
                    t->output);
    int status = models_read(&t->models, "--merge");
    if (status != STATUS_DONE) return status;
    lk_context_options context;
    lk_merge_options merge;
    lk_context_defaults(&context);
    lk_merge_defaults(&merge);
    merge.progress = on_merge;
    if (!workplace_open(&t->work, &context, &t->error) ||
        !models_open(&t->models, t->work.context, NULL, NULL, &t->error))
        return fail_error(&t->error);
    interrupt_watch(); /* from here on there is something to put away */
    if (!lk_merge(t->work.session, t->models.opened, (const char *const *)t->models.name,
                  (int)t->models.count, t->merge, t->output, &merge, &t->error))
        return fail_error(&t->error);
    puts(t->output);
    return fflush(stdout) == 0 ? STATUS_DONE
                               : fail(STATUS_FAILED, "standard output cannot be written");
}

int command_convert(int argc, char **argv)
{
    task t = {0};
    int status = flags_read(&t, argc, argv);
    if (status == STATUS_DONE && t.help)
        fputs(help, stdout);
    else if (status == STATUS_DONE)
        status = work(&t);
    models_close(&t.models);
    workplace_close(&t.work);
    free(t.rest.item);
    return status;
}
