/* SPDX-License-Identifier: Apache-2.0
 *
 * samplers: likeness samplers, what --sampler takes. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

static const char help[] =
    "likeness samplers\n"
    "\n"
    "What --sampler takes: name, label (AUTOMATIC1111's), how often a step asks the UNet, and the\n"
    "options that mean something to it. Names of diffusers' classes (EulerDiscreteScheduler), of\n"
    "AUTOMATIC1111 (\"DPM++ 2M Karras\") and of stable-diffusion.cpp (euler_a) are taken too.\n";

int command_samplers(int argc, char **argv)
{
    bool wants_help = false;
    text_list rest = {0};
    const option list[] = {{"-h --help", OPTION_FLAG, &wants_help}, {NULL, OPTION_FLAG, NULL}};
    int status = options_parse(list, argc, argv, "samplers", &rest);
    if (status == STATUS_DONE && wants_help) {
        fputs(help, stdout);
    } else if (status == STATUS_DONE && rest.count) {
        status = fail(STATUS_WRONG_USAGE, "samplers takes no \"%s\"", rest.item[0]);
    } else if (status == STATUS_DONE) {
        for (lk_sampler k = 0; k < lk_sampler_count(); k++)
            printf("%-13s  %-12s  %d a step%s%s%s\n", lk_sampler_name(k), lk_sampler_label(k),
                   lk_sampler_evaluations(k), lk_sampler_has_sigmas(k) ? "  --sigmas" : "",
                   lk_sampler_has_eta(k) ? "  --eta" : "",
                   lk_sampler_has_variance(k) ? "  --variance" : "");
    }
    free(rest.item);
    if (status == STATUS_DONE && fflush(stdout) != 0)
        status = fail(STATUS_FAILED, "standard output cannot be written");
    return status;
}
