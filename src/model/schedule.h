/* SPDX-License-Identifier: Apache-2.0
 *
 * schedule: the tables of a model's noise schedule, for sampling and for training. */
#ifndef LIKENESS_MODEL_SCHEDULE_H
#define LIKENESS_MODEL_SCHEDULE_H

#include "model/config.h"

/* betas and cumulated alphas, T values each. */
typedef struct noise_schedule {
    int steps;
    float *beta, *alpha_bar;
} noise_schedule;
bool noise_schedule_open(noise_schedule *s, const scheduler_config *c, error *e);
void noise_schedule_close(noise_schedule *s);

/* Between timesteps, as k-diffusion has it: sigma = sqrt((1 - alpha_bar) / alpha_bar) has a
 * logarithm that is linear from one timestep to the next. t is held to 0 .. T-1; at a whole one the
 * table's value comes back. */
double noise_schedule_alpha_bar(const noise_schedule *s, double t);
double noise_schedule_sigma(const noise_schedule *s,
                            double t); /* infinite where there is no signal */
double noise_schedule_timestep(const noise_schedule *s, double sigma); /* the other way */

#endif
