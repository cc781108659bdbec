/* SPDX-License-Identifier: Apache-2.0
 *
 * train: a whole DreamBooth run, from folders of pictures to a saved model: class pictures,
 * forecast, steps, checkpoints, validation pictures, the record, and the result. */
#ifndef LIKENESS_TRAIN_TRAIN_H
#define LIKENESS_TRAIN_TRAIN_H

#include "train/class_images.h"
#include "train/trainer.h"

typedef struct train_progress {
    train_phase phase; /* which says what is counted */
    int64_t done, total;
    int step, steps;     /* of the picture in the making; steps 0: none is */
    train_report report; /* of the last update */
    double seconds;      /* of it, all in */
    double left;         /* seconds to the end of the run, about; 0: not known yet */
} train_progress;

typedef struct train_events {
    /* Between the smallest pieces of work; true: stop. Whatever updates there are by then are in a
     * checkpoint afterwards. May be NULL. */
    bool (*progress)(void *user, const train_progress *p);
    /* One line for a person: a warning, the forecast, a file that was written. May be NULL. */
    void (*say)(void *user, const char *line);
    void *user;
} train_events;

/* Output: settings->output_dir becomes a diffusers folder, with train.jsonl, train.json,
 * checkpoint-N and validation/ in it. The model is borrowed; maker makes class and validation
 * pictures. What would be refused in the end is refused before anything is written. A full disk
 * does not end a run: room for the result is kept back, what cannot be written is tried again. */
bool train_run(device *d, const model *m, const train_settings *settings, const image_maker *maker,
               const train_events *events, error *e);

#endif
