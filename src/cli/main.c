/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness: the program. Finds the command and hands over. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    "  convert    models blended into one\n"
    "  inspect    what a model is, or the settings inside a picture\n"
    "\n"
    "likeness COMMAND --help tells more. likeness --version says which this is.\n";

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

/* GNU OpenMP's threads wait for each other by spinning for milliseconds. Where another program wants
 * the cores too, that makes small models many times slower (pocket model, 50 steps, one other busy
 * process: 16 s against 2.4 s). How long they spin is read before main() begins, so set it and begin
 * again. */
static void wait_briefly(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    wait_briefly(argv);
    const char *command = argc > 1 ? argv[1] : "";
    if (!strcmp(command, "generate")) return command_generate(argc - 2, argv + 2);
    if (!strcmp(command, "train")) return command_train(argc - 2, argv + 2);
    if (!strcmp(command, "study")) return command_study(argc - 2, argv + 2);
    if (!strcmp(command, "convert")) return command_convert(argc - 2, argv + 2);
    if (!strcmp(command, "inspect")) return command_inspect(argc - 2, argv + 2);
    if (!strcmp(command, "--version") || !strcmp(command, "-V")) {
        printf("likeness %s\n", lk_version());
        return STATUS_DONE;
    }
    if (!strcmp(command, "--help") || !strcmp(command, "-h") || !strcmp(command, "help")) {
        fputs(help, stdout);
        return STATUS_DONE;
    }
    if (!*command) {
        fputs(help, stderr);
        return STATUS_WRONG_USAGE;
    }
    return fail(STATUS_WRONG_USAGE,
                "unknown command %s; there are generate, train, study, convert and inspect", command);
}
