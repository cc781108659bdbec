/* SPDX-License-Identifier: Apache-2.0
 *
 * advice: what a person would want to know before the first step of a run that is allowed: settings
 * that will not do what they are for. */
#ifndef LIKENESS_TRAIN_ADVICE_H
#define LIKENESS_TRAIN_ADVICE_H

#include "train/trainer.h"

/* Tells each line (without "warning: "); t is open. */
bool advice_give(const trainer *t, void (*tell)(void *user, const char *line), void *user,
                 error *e);

#endif
