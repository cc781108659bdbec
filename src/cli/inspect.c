/* SPDX-License-Identifier: Apache-2.0
 *
 * inspect: likeness inspect MODEL|PICTURE. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

static const char help[] =
    "likeness inspect MODEL|PICTURE...\n"
    "\n"
    "MODEL    a diffusers folder, a .safetensors, .ckpt or .gguf file: what it is, its networks'\n"
    "         sizes, the type of its weights, its hash; or all that is missing or wrong.\n"
    "PICTURE  PNG, JPEG, WebP and others: its size and the settings it was made with.\n";

int command_inspect(int argc, char **argv)
{
    bool wants_help = false;
    text_list path = {0};
    const option list[] = {{"-h --help", OPTION_FLAG, &wants_help}, {NULL, OPTION_FLAG, NULL}};
    int status = options_parse(list, argc, argv, "inspect", &path);
    if (status == STATUS_DONE && wants_help) {
        fputs(help, stdout);
    } else if (status == STATUS_DONE && !path.count) {
        status = fail(STATUS_WRONG_USAGE, "inspect what? Give a model or a picture");
    } else {
        for (size_t i = 0; status == STATUS_DONE && i < path.count; i++) {
            char *text = NULL;
            lk_error error = {LK_OK, ""};
            if (lk_inspect(&text, path.item[i], NULL, &error))
                printf("%s%s", i ? "\n" : "", text);
            else
                status = fail_error(&error);
            lk_free(text);
        }
    }
    free(path.item);
    if (status == STATUS_DONE && fflush(stdout) != 0)
        status = fail(STATUS_FAILED, "standard output cannot be written");
    return status;
}
