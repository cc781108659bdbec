/* SPDX-License-Identifier: Apache-2.0
 *
 * rate: the learning rate over a run: diffusers' get_scheduler (NUMERICS.md, 6). */
#ifndef LIKENESS_TRAIN_RATE_H
#define LIKENESS_TRAIN_RATE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum rate_schedule {
    RATE_CONSTANT,
    RATE_CONSTANT_WITH_WARMUP,
    RATE_LINEAR,
    RATE_COSINE,
    RATE_COSINE_WITH_RESTARTS,
    RATE_POLYNOMIAL,
} rate_schedule;

/* Where the polynomial ends; its base rate must be above. */
#define RATE_POLYNOMIAL_END 1e-7

/* By diffusers' names ("cosine_with_restarts"); false where there is no such name. */
bool rate_schedule_parse(rate_schedule *out, const char *name);
const char *rate_schedule_name(rate_schedule s);

/* What the base rate is multiplied with in update `step` (0: the first). base_rate matters to the
 * polynomial's floor alone. */
double rate_multiplier(rate_schedule s, int64_t step, int64_t warmup, int64_t total, int cycles,
                       double power, double base_rate);

#endif
