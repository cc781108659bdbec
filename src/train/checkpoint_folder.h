/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint_folder: what checkpoint.c wants of checkpoint_folder.c, which holds the rest of
 * checkpoint.h. */
#ifndef LIKENESS_TRAIN_CHECKPOINT_FOLDER_H
#define LIKENESS_TRAIN_CHECKPOINT_FOLDER_H

#include "train/checkpoint.h"

/* OUTPUT/checkpoint-STEP, malloc'ed; NULL when memory is out. */
char *checkpoint_path(const char *output_dir, int64_t step);
/* Removes a checkpoint that another is to take the place of; fails where it is not this run's. */
bool checkpoint_give_way(const checkpoint_owner *o, const trainer *t, const char *path, error *e);
/* Removes this run's oldest beyond checkpoints_total_limit, never that of t->done. */
bool checkpoint_limit(const checkpoint_owner *o, const trainer *t, error *e);

#endif
