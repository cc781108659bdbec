/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness: the program. Finds the command and hands over. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const char help[] =
    "likeness makes pictures from words with Stable Diffusion 1.x, and without words with DDPM.\n"
    "\n"
    "  likeness generate -p \"a photo of a dog\" -s 42 -o dog.png\n"
    "  likeness inspect dog.png\n"
    "\n"
    "Commands\n"
    "  generate   pictures from a prompt\n"
    "  train      teach a model a subject from about five pictures (DreamBooth)\n"
    "  study      the whole comparison, measured, as one page (report.html)\n"
    "  convert    a model in another form, models blended into one, a LoRA out of two\n"
    "  inspect    what a model is, or the settings inside a picture\n"
    "  samplers   how a picture can be reached, and what each takes\n"
    "  devices    what pictures can be made on\n"
    "\n"
    "likeness help COMMAND tells more. likeness --version says which this is.\n";

int fail(int status, const char *format, ...)
{
    char text[2560];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    /* A file name or prompt must not move the cursor or break the line. */
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = ' ';
    fprintf(stderr, "likeness: %s\n", text);
    return status;
}

int fail_error(const lk_error *error)
{
    int status = error->code == LK_USAGE       ? STATUS_WRONG_USAGE
                 : error->code == LK_CANCELLED ? STATUS_INTERRUPTED
                                               : STATUS_FAILED;
    return fail(status, "%s", error->text);
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"generate", command_generate}, {"train", command_train},     {"study", command_study},
    {"convert", command_convert},   {"inspect", command_inspect}, {"devices", command_devices},
    {"samplers", command_samplers},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static const struct command *command_find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name)) return &commands[i];
    return NULL;
}

static int unknown_command(const char *word)
{
    const char *nearest = NULL;
    int best = 100;
    for (int i = 0; i < COMMANDS; i++)
        name_nearest(commands[i].name, word, strlen(word), &nearest, &best);
    return fail(STATUS_WRONG_USAGE,
                "unknown command %s%s%s%s generate, train, study, convert, "
                "inspect, devices and samplers",
                word, nearest ? "; did you mean " : "", nearest ? nearest : "",
                nearest ? "? There are" : "; there are");
}

/* likeness help, likeness help COMMAND */
static int help_on(const char *name)
{
    char *flag = (char[]){"--help"};
    const struct command *c = name ? command_find(name) : NULL;
    if (c) return c->run(1, &flag);
    if (name) return unknown_command(name);
    fputs(help, stdout);
    return STATUS_DONE;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    const struct command *c = command_find(command);
    if (c) return c->run(argc - 2, argv + 2);
    if (!strcmp(command, "--version") || !strcmp(command, "-V")) {
        printf("likeness %s\n", lk_version());
        return STATUS_DONE;
    }
    if (!strcmp(command, "--help") || !strcmp(command, "-h") || !strcmp(command, "help"))
        return help_on(argc > 2 ? argv[2] : NULL);
    if (!*command) {
        fputs(help, stderr);
        return STATUS_WRONG_USAGE;
    }
    return unknown_command(command);
}
