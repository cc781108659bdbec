/* SPDX-License-Identifier: Apache-2.0
 *
 * record: train.jsonl, a line an update, in a run's output folder. */
#ifndef LIKENESS_TRAIN_RECORD_H
#define LIKENESS_TRAIN_RECORD_H

#include "train/trainer.h"

typedef struct record record;

/* Opens train.jsonl. The lines up to update `keep` stay (a resumed run goes on behind them), later
 * ones, which a killed run wrote after its last checkpoint, go. */
bool record_open(record **out, const char *output_dir, int64_t keep, error *e);
void record_close(record **r);
/* One line: step, loss, instance_loss, prior_loss (with prior preservation), lr, grad_norm, in half
 * precision loss_scale and skipped, seconds, rss_mb (peak); what is not finite is null. Fails only
 * where memory is out. */
bool record_add(record *r, const train_report *of, bool has_prior, double seconds, error *e);
/* Writes what is not in the file yet. Where that fails (ERROR_FILE: a full disk) the rest is kept
 * for the next time. */
bool record_write(record *r, error *e);

#endif
