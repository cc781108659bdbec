/* SPDX-License-Identifier: Apache-2.0
 *
 * output: the folder that a run writes to. What another run left there, or anybody else, is neither
 * mixed with this run nor touched: the folder is refused before anything is written. */
#ifndef LIKENESS_TRAIN_OUTPUT_H
#define LIKENESS_TRAIN_OUTPUT_H

#include "train/checkpoint.h"

typedef struct output {
    int lock;            /* -1: not held */
    int64_t saved_steps; /* updates of the trained model that lies there; 0: none does */
    bool was_here;       /* this run has been there before */
} output;

/* Whether the folder will do, found out without writing: it is not the model's own or the
 * pictures', it is empty or this run's, and the disk has room for the result. goes_on: a checkpoint
 * is gone on from. A folder that is there is held from here on, until output_release. */
bool output_look(output *o, const trainer *t, const checkpoint_owner *owner, bool goes_on,
                 error *e);
/* Makes it, holds it, and removes what a killed run left half-written. */
bool output_take(output *o, const trainer *t, error *e);
/* Writes train.json: whose the folder is. */
bool output_enter(const output *o, const trainer *t, const checkpoint_owner *owner, error *e);
void output_release(output *o);

/* The seed of the run that lies in a folder; false: there is none. */
bool output_seed(const char *folder, uint64_t *seed);

#endif
