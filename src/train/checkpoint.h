/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint: the whole state of a run on disk: OUTPUT/checkpoint-N with unet/ (and text_encoder/) as
 * diffusers saves them, optimizer.safetensors (moments, and the state of the draws), and
 * checkpoint.json (step, settings, hashes of the base model, the pictures and each file). A checkpoint
 * is written beside, and renamed when whole: what is named checkpoint-N is good or altered, never half. */
#ifndef LIKENESS_TRAIN_CHECKPOINT_H
#define LIKENESS_TRAIN_CHECKPOINT_H

#include "train/trainer.h"

/* What a run's checkpoints share. */
typedef struct checkpoint_owner {
    const char *output_dir;
    char model_hash[65]; /* of the base model */
} checkpoint_owner;

void checkpoint_owner_of(checkpoint_owner *o, const trainer *t);

/* Writes checkpoint-<done>; refuses weights or moments that are not finite (ERROR_NUMERIC). Afterwards the
 * oldest beyond checkpoints_total_limit are removed. */
bool checkpoint_save(const checkpoint_owner *o, const trainer *t, error *e);
/* Into a trainer just opened. from: "latest" or a folder; the folder taken is malloc'ed into *path.
 * Every file's hash, the model, the pictures and the settings must agree; says which does not. */
bool checkpoint_load(const checkpoint_owner *o, trainer *t, const char *from, char **path, error *e);
/* Removes what a killed run left half-written in the output folder. */
bool checkpoint_sweep(const char *output_dir, error *e);
bool checkpoint_any(const char *output_dir); /* whether there is one to resume from */
bool checkpoint_remove_all(const char *output_dir, error *e);

#endif
