/* SPDX-License-Identifier: Apache-2.0
 *
 * schedule: the tables of a model's noise schedule, for sampling and for training. */
#ifndef LIKENESS_MODEL_SCHEDULE_H
#define LIKENESS_MODEL_SCHEDULE_H

#include "model/config.h"

/* betas and cumulated alphas, T values each. */
typedef struct noise_schedule { int steps; float *beta, *alpha_bar; } noise_schedule;
bool noise_schedule_open(noise_schedule *s, const scheduler_config *c, error *e);
void noise_schedule_close(noise_schedule *s);

#endif
