/* SPDX-License-Identifier: Apache-2.0
 *
 * pace: see pace.h. */
#include "study/pace.h"

/* A unit in steps of a picture: on the default model, whose update of four pictures is mostly the
 * optimizer's. Only a first guess: a larger model's update of one picture is 2.5. */
static const double unit[PACE_KINDS] = {
    [PACE_CLASS] = 1, [PACE_UPDATES] = 6, [PACE_STEPS] = 1, [PACE_MEASURES] = 3};

void pace_add(pace *p, pace_kind kind, double units, double clock)
{
    p->done[kind] += units;
    if (p->done[kind] > p->wanted[kind]) p->wanted[kind] = p->done[kind];
    if (p->told > 0) {
        p->seconds[kind] += clock - p->told;
        p->timed[kind] += units;
    }
    p->told = clock;
}

void pace_rest(pace *p) { p->told = 0; }

static double in_steps(const double units[PACE_KINDS])
{
    double sum = 0;
    for (int k = 0; k < PACE_KINDS; k++) sum += units[k] * unit[k];
    return sum;
}

double pace_done(const pace *p) { return in_steps(p->done); }
double pace_total(const pace *p) { return in_steps(p->wanted); }

double pace_left(const pace *p)
{
    double seconds = 0, left = 0;
    for (int k = 0; k < PACE_KINDS; k++) seconds += p->seconds[k];
    if (seconds < 1 || in_steps(p->timed) <= 0) return 0;
    double step = seconds / in_steps(p->timed);
    for (int k = 0; k < PACE_KINDS; k++) {
        double each = p->timed[k] > 0 ? p->seconds[k] / p->timed[k] : unit[k] * step;
        left += (p->wanted[k] - p->done[k]) * each;
    }
    return left;
}
