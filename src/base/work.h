/* SPDX-License-Identifier: Apache-2.0
 *
 * work: how long work beside the device's tells how far it is, and is stopped. */
#ifndef LIKENESS_BASE_WORK_H
#define LIKENESS_BASE_WORK_H

#include <stdint.h>

#include "base/error.h"

typedef struct work_watch {
    bool (*tell)(void *user, int64_t done, int64_t total); /* true: stop; NULL: nobody watches */
    void *user;
} work_watch;

/* False, with ERROR_CANCELLED, where the watcher wants to stop; w NULL: nobody watches. */
bool work_goes_on(const work_watch *w, int64_t done, int64_t total, error *e);

#endif
