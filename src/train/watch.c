/* SPDX-License-Identifier: Apache-2.0
 *
 * watch: see watch.h. */
#include "train/watch.h"

bool train_goes_on(const train_watch *w, train_phase phase, int64_t done, int64_t total, error *e)
{
    static const char *const what[] = {
        [TRAIN_PHOTOS] = "pictures were read",      [TRAIN_CLASS_PICTURES] = "class pictures",
        [TRAIN_LATENTS] = "pictures were encoded",  [TRAIN_STEPS] = "steps",
        [TRAIN_VALIDATION] = "validation pictures", [TRAIN_SAVING] = "files",
    };
    if (!w || !w->stop(w->user, phase, done, total)) return true;
    return error_set(e, ERROR_CANCELLED, "stopped after %lld of %lld %s", (long long)done,
                     (long long)total, what[phase]);
}
