/* SPDX-License-Identifier: Apache-2.0
 *
 * run: the state of a run, shared by train.c (the flow) and keep.c (what is written while it goes).
 */
#ifndef LIKENESS_TRAIN_RUN_H
#define LIKENESS_TRAIN_RUN_H

#include "train/checkpoint.h"
#include "train/forecast.h"
#include "train/output.h"
#include "train/record.h"
#include "train/train.h"

typedef struct run {
    trainer trainer;
    const image_maker *maker;
    const train_events *events;
    train_watch watch; /* tells events, and notes what follows */
    train_phase phase;
    int64_t done, total; /* of the phase */
    checkpoint_owner owner;
    output output;
    record *record;
    char *from;        /* the checkpoint that is gone on from; NULL: none */
    int64_t saved;     /* the update of the last checkpoint; 0: none */
    bool due;          /* a checkpoint that could not be written waits */
    double try_at;     /* for when */
    bool record_fails; /* train.jsonl could not be written, and that was said */
    double began;      /* the process */
    int64_t began_at;  /* the updates that were done then */
    double evaluation; /* seconds of one step of a class picture; 0: not known */
    double step_at;    /* when the last step of a picture was told */
    forecast forecast;
    train_report report; /* of the last update, and its seconds */
    double seconds;
} run;

void run_say(const run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As train_goes_on with the run's own watch. */
bool run_goes_on(run *r, train_phase phase, int64_t done, int64_t total, error *e);
/* The progress of a picture in the making, for a image_order of the run. */
bool run_image_step(void *user, int step, int steps);

/* ---- keep.c: what is written ---- */

/* The checkpoint of the update that is done. On a disk that is full, or would be too full for the
 * result (keep_room), this run's oldest go first, else it waits: that is said, and no failure. */
bool keep_checkpoint(run *r, bool keep_room, error *e);
/* A checkpoint that waits, when its time has come. */
bool keep_waiting(run *r, error *e);
/* The last update's line in train.jsonl; a full disk is said once, and no failure. */
bool keep_line(run *r, error *e);
/* The validation pictures of the update that is done. */
bool keep_validation(run *r, error *e);
/* The trained model in the output folder. Waits for room for a while where the disk is full. */
bool keep_result(run *r, error *e);

#endif
