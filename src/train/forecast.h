/* SPDX-License-Identifier: Apache-2.0
 *
 * forecast: what a run will take: time, from how long its parts took so far, and room on the disk.
 */
#ifndef LIKENESS_TRAIN_FORECAST_H
#define LIKENESS_TRAIN_FORECAST_H

#include "train/trainer.h"

/* Begins as zeros. */
typedef struct forecast {
    int64_t seen, counted; /* updates; the first ones are slower than the rest and do not count */
    double steps;          /* seconds of those that count; before any does, of the last */
    double network;        /* of the last update */
    int64_t checkpoints, pictures;
    double checkpoint_seconds, image_seconds;
} forecast;

void forecast_update(forecast *f, const train_report *r, double seconds);
void forecast_checkpoint(forecast *f, double seconds);
void forecast_image(forecast *f, double seconds); /* of validation */

/* Seconds from here to the end: updates, checkpoints, validation pictures, saving. 0: no update was
 * made. */
double forecast_left(const forecast *f, const trainer *t);
double forecast_step(const forecast *f); /* seconds of an update */
/* Before the first update: of the whole training, guessed from one evaluation of the UNet for a
 * guided picture. */
double forecast_guess(const trainer *t, double evaluation);

/* Bytes of the trained model on the disk, about. */
double forecast_result(const trainer *t);

#endif
