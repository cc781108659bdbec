/* SPDX-License-Identifier: Apache-2.0
 *
 * update: from a step's gradients to new weights: accumulation, the guard against NaN, clipping by
 * the norm of all gradients, AdamW. */
#ifndef LIKENESS_TRAIN_UPDATE_H
#define LIKENESS_TRAIN_UPDATE_H

#include "train/trainer.h"

/* Adds the step's gradients to the sums. */
bool update_accumulate(trainer *t, step_graph *s, error *e);
/* Forgets the sums, and the batches that are in them. */
bool update_forget(trainer *t, error *e);
/* The update itself; fills the report's second half. A gradient or a new weight that is not finite
 * leaves the weights and moments as they were: a step that is skipped where the loss is scaled. */
bool update_run(trainer *t, step_graph *s, train_report *r, error *e);
/* Runs the step again looking at every tensor, and fails naming the first that is not finite. */
bool update_blame(trainer *t, const step_graph *s, const char *what, error *e);

#endif
