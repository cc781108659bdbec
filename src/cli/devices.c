/* SPDX-License-Identifier: Apache-2.0
 *
 * devices: likeness devices, what --device takes on this machine. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

static const char help[] = "likeness devices\n"
                           "\n"
                           "What --device takes on this machine: each with its memory and the "
                           "precisions it has, or why there\n"
                           "is no GPU.\n";

/* Tenths of 10^9 bytes */
static unsigned tenths(uint64_t bytes) { return (unsigned)((bytes + 50000000) / 100000000); }

static void show(const lk_device *d)
{
    unsigned all = tenths(d->memory), left = tenths(d->left);
    printf("%-8s %s; %u.%u GB, %u.%u free; f32%s%s\n", d->name, d->text, all / 10, all % 10,
           left / 10, left % 10, d->f16 ? ", f16" : "", d->bf16 ? ", bf16" : "");
}

int command_devices(int argc, char **argv)
{
    bool wants_help = false;
    text_list rest = {0};
    const option list[] = {{"-h --help", OPTION_FLAG, &wants_help}, {NULL, OPTION_FLAG, NULL}};
    int status = options_parse(list, argc, argv, "devices", &rest);
    if (status == STATUS_DONE && wants_help) {
        fputs(help, stdout);
    } else if (status == STATUS_DONE && rest.count) {
        status = fail(STATUS_WRONG_USAGE, "devices takes no \"%s\"", rest.item[0]);
    } else if (status == STATUS_DONE) {
        lk_device d;
        lk_error why = {LK_OK, ""};
        for (int i = 0; lk_device_at(i, &d, &why); i++) show(&d);
        if (why.code != LK_OK) printf("cuda     %s\n", why.text);
    }
    free(rest.item);
    if (status == STATUS_DONE && fflush(stdout) != 0)
        status = fail(STATUS_FAILED, "standard output cannot be written");
    return status;
}
