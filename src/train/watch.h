/* SPDX-License-Identifier: Apache-2.0
 *
 * watch: what a run is at, told between its smallest pieces of work, where it can be stopped. */
#ifndef LIKENESS_TRAIN_WATCH_H
#define LIKENESS_TRAIN_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* What is done and counted in it. */
typedef enum train_phase {
    TRAIN_PHOTOS,         /* photos that are read */
    TRAIN_CLASS_PICTURES, /* class pictures that are made */
    TRAIN_LATENTS,        /* pictures that are encoded */
    TRAIN_STEPS,          /* updates */
    TRAIN_VALIDATION,     /* validation pictures of one update */
    TRAIN_SAVING,         /* a checkpoint or the model: 0 of 1, then 1 of 1 */
} train_phase;

typedef struct train_watch {
    bool (*stop)(void *user, train_phase phase, int64_t done, int64_t total); /* true: stop */
    void *user;
} train_watch;

/* False, with ERROR_CANCELLED, where the watcher wants to stop; w NULL: nobody watches. */
bool train_goes_on(const train_watch *w, train_phase phase, int64_t done, int64_t total, error *e);

#endif
