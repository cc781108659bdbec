/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint: the whole state of a run on disk: OUTPUT/checkpoint-N with unet/ (and text_encoder/)
 * as diffusers saves them, optimizer.safetensors (moments, and the state of the draws), and
 * checkpoint.json (step, loss scaler, whose it is (identity.h), and a hash of each file). A
 * checkpoint is written beside, and renamed when whole: what is named checkpoint-N is good or
 * altered, never half. */
#ifndef LIKENESS_TRAIN_CHECKPOINT_H
#define LIKENESS_TRAIN_CHECKPOINT_H

#include <jansson.h>

#include "train/trainer.h"

/* What a run's checkpoints share. */
typedef struct checkpoint_owner {
    const char *output_dir;
    char model_hash[65]; /* of the base model */
} checkpoint_owner;

void checkpoint_owner_of(checkpoint_owner *o, const trainer *t);

/* Bytes of a checkpoint, about. */
double checkpoint_bytes(const trainer *t);
/* Writes checkpoint-<done>; refuses weights or moments that are not finite (ERROR_NUMERIC).
 * Afterwards this run's oldest beyond checkpoints_total_limit are removed, never the one just
 * written. */
bool checkpoint_save(const checkpoint_owner *o, trainer *t, error *e);

/* Which one `from` means: "latest" of the output folder, a folder, or the name of one in the output
 * folder. *path is malloc'ed; NULL where latest is asked for and there is none. */
bool checkpoint_find(char **path, const char *output_dir, const char *from, error *e);
/* Its checkpoint.json; NULL with an error. */
json_t *checkpoint_read(const char *path, error *e);
/* Into a trainer just started. Every file's hash, the model, the pictures and the settings must
 * agree; says which does not. */
bool checkpoint_load(const checkpoint_owner *o, trainer *t, const char *path, error *e);

/* The steps of the output folder's checkpoints that are this run's, in order; malloc'ed. */
bool checkpoint_own(const checkpoint_owner *o, const trainer *t, int64_t **steps, size_t *count,
                    error *e);
/* Fails naming a checkpoint in the output folder that is another run's, or another program's; where
 * the run has not entered the folder, also one that is damaged. */
bool checkpoint_none_foreign(const checkpoint_owner *o, const trainer *t, bool entered, error *e);
/* Removes this run's oldest checkpoint, but not its only one; *step: which, 0 where none was. */
bool checkpoint_drop_oldest(const checkpoint_owner *o, const trainer *t, int64_t *step, error *e);

/* A hidden folder in the output folder for what is not whole yet: name "model" gives
 * OUTPUT/.partial-model; malloc'ed, NULL when memory is out. */
char *checkpoint_partial(const char *output_dir, const char *name);
/* Removes what a killed run left half-written in the output folder. */
bool checkpoint_sweep(const char *output_dir, error *e);
bool checkpoint_is_one(const char *name);    /* whether a folder's name is a checkpoint's */
bool checkpoint_any(const char *output_dir); /* whether there is one to resume from */

#endif
