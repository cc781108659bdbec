/* SPDX-License-Identifier: Apache-2.0
 *
 * record: what a run leaves about itself in its output folder: train.jsonl, a line an update, and
 * train.json, its settings. */
#ifndef LIKENESS_TRAIN_RECORD_H
#define LIKENESS_TRAIN_RECORD_H

#include "train/trainer.h"

typedef struct record record;

/* Opens train.jsonl. The lines up to update `keep` stay (a resumed run goes on behind them), later ones,
 * which a killed run wrote after its last checkpoint, go. */
bool record_open(record **out, const char *output_dir, int64_t keep, error *e);
void record_close(record **r);
/* One line, written through: step, loss, instance_loss, prior_loss (with prior preservation), lr,
 * grad_norm, seconds, rss_mb (peak). */
bool record_add(record *r, const train_report *report, bool has_prior, double seconds, error *e);
/* train.json: settings, model and its hash, pictures and theirs, version, device. */
bool record_settings(const trainer *t, const char *model_hash, error *e);

#endif
