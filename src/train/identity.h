/* SPDX-License-Identifier: Apache-2.0
 *
 * identity: which run it is that left something on the disk: its base model, its pictures, its
 * settings; and whether that is the run in hand. */
#ifndef LIKENESS_TRAIN_IDENTITY_H
#define LIKENESS_TRAIN_IDENTITY_H

#include <jansson.h>

#include "train/trainer.h"

/* {"model", "model_hash", "precision", "device", "steps", "learning_rate", "settings", "pictures"}:
 * what train.json and checkpoint.json begin with. */
json_t *identity_json(const trainer *t, const char *model_hash);

/* Whether what such a file says is this run; else the first thing that differs, by the name of its
 * flag or file. goes_on: it is to be gone on with, so that its length, and the precision, may be
 * others. Class pictures are compared where both sides know of them. where: the beginning of the
 * message. */
bool identity_same(const json_t *saved, const trainer *t, const char *model_hash, bool goes_on,
                   const char *where, error *e);
/* One line, malloc'ed, where going on from what the file describes gives other bytes than an
 * unbroken run: another precision, another instruction set. NULL: it gives the same. */
char *identity_warning(const json_t *saved, const trainer *t, const char *where);

/* The seed that the file gives; false: none. */
bool identity_seed(const json_t *saved, uint64_t *seed);

#endif
