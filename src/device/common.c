/* SPDX-License-Identifier: Apache-2.0
 *
 * common: what devices ask of the room, those in a plug-in too, which has its own copy of this
 * file: how large a weight is, whether to go on, of which operation a failure is. */
#include <stdio.h>

#include "device/device.h"

int64_t weight_elements(const weight *w)
{
    int64_t n = 1;
    for (int i = 0; i < w->rank; i++) n *= w->dim[i];
    return n;
}

bool op_step_failed(const op_step *step, error *e)
{
    char where[512];
    const char *with = NULL;
    for (int i = 0; i < step->call->in_count && !with; i++)
        if (step->call->in[i].w) with = step->call->in[i].w->name;
    snprintf(where, sizeof where, "%s%s%s", step->name, with ? " with weight " : "",
             with ? with : "");
    return error_prefix(e, where);
}

bool device_goes_on(const device *d, error *e)
{
    return !d->stop || !atomic_load(d->stop) || error_set(e, ERROR_CANCELLED, "cancelled");
}
