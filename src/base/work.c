/* SPDX-License-Identifier: Apache-2.0
 *
 * work: see work.h. */
#include "base/work.h"

#include <stddef.h>

bool work_goes_on(const work_watch *w, int64_t done, int64_t total, error *e)
{
    if (!w || !w->tell || !w->tell(w->user, done, total)) return true;
    return error_set(e, ERROR_CANCELLED, "stopped");
}
