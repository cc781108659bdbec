/* SPDX-License-Identifier: Apache-2.0
 *
 * training: a training step's inputs, as bench_train and bench_deal run it. */
#ifndef LIKENESS_TOOLS_BENCH_TRAINING_H
#define LIKENESS_TOOLS_BENCH_TRAINING_H

#include "train/update.h"

enum { STEP_BATCH = 16 }; /* at most */

bool step_fill(step_graph *s, error *e);

#endif
