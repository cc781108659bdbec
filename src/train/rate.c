/* SPDX-License-Identifier: Apache-2.0
 *
 * rate: the six schedules, in double and in diffusers' order of operations, so that a rate is the
 * same number there and here. */
#include "train/rate.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {
    [RATE_CONSTANT] = "constant",
    [RATE_CONSTANT_WITH_WARMUP] = "constant_with_warmup",
    [RATE_LINEAR] = "linear",
    [RATE_COSINE] = "cosine",
    [RATE_COSINE_WITH_RESTARTS] = "cosine_with_restarts",
    [RATE_POLYNOMIAL] = "polynomial",
};

bool rate_schedule_parse(rate_schedule *out, const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], name)) {
            *out = (rate_schedule)i;
            return true;
        }
    return false;
}

const char *rate_schedule_name(rate_schedule s) { return names[s]; }

static double at_least_one(int64_t n) { return n > 1 ? (double)n : 1; }

/* From the base rate down to 1e-7, and there it stays. */
static double polynomial(int64_t step, int64_t warmup, int64_t total, double power,
                         double base_rate)
{
    if (step > total || total <= warmup) return RATE_POLYNOMIAL_END / base_rate;
    double remaining = 1 - (double)(step - warmup) / (double)(total - warmup);
    double rate = (base_rate - RATE_POLYNOMIAL_END) * pow(remaining, power) + RATE_POLYNOMIAL_END;
    return rate / base_rate;
}

double rate_multiplier(rate_schedule s, int64_t step, int64_t warmup, int64_t total, int cycles,
                       double power, double base_rate)
{
    if (s == RATE_CONSTANT) return 1;
    if (step < warmup) return (double)step / at_least_one(warmup);
    double span = at_least_one(total - warmup), progress = (double)(step - warmup) / span;
    switch (s) {
    case RATE_CONSTANT:
    case RATE_CONSTANT_WITH_WARMUP: break;
    case RATE_LINEAR: return fmax(0, (double)(total - step) / span);
    case RATE_COSINE: return fmax(0, 0.5 * (1 + cos(M_PI * progress)));
    case RATE_COSINE_WITH_RESTARTS:
        if (progress >= 1) return 0;
        return fmax(0, 0.5 * (1 + cos(M_PI * fmod(cycles * progress, 1))));
    case RATE_POLYNOMIAL: return polynomial(step, warmup, total, power, base_rate);
    }
    return 1;
}
