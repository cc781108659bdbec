/* SPDX-License-Identifier: Apache-2.0
 *
 * train: a whole DreamBooth run, from folders of pictures to a saved model: class pictures, forecast,
 * steps, checkpoints, validation pictures, the record, and the result. */
#ifndef LIKENESS_TRAIN_TRAIN_H
#define LIKENESS_TRAIN_TRAIN_H

#include "train/class_pictures.h"
#include "train/trainer.h"

typedef struct train_progress {
    int64_t done, total;        /* class pictures or updates */
    bool class_pictures;        /* which of both */
    train_report report;        /* of the update */
    double seconds;             /* of the update, all in */
    double left;                /* seconds to the end, about */
} train_progress;

typedef struct train_events {
    /* After each class picture and update, and before the first; true: stop. A run stopped so has saved
     * a checkpoint. May be NULL. */
    bool (*progress)(void *user, const train_progress *p);
    /* One line for a person: a warning, the forecast, a file that was written. May be NULL. */
    void (*say)(void *user, const char *line);
    void *user;
} train_events;

/* Output: settings->output_dir becomes a diffusers folder, with train.jsonl, train.json, checkpoint-N and
 * validation/ in it. The model is borrowed; maker makes class and validation pictures. */
bool train_run(device *d, const model *m, const train_settings *settings, const picture_maker *maker,
               const train_events *events, error *e);

#endif
