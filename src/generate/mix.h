/* SPDX-License-Identifier: Apache-2.0
 *
 * mix: which models predict which steps of one denoising run:
 *
 *     base x15, tuned x35              the first 15 steps by base, 35 by tuned
 *     base x15, tuned rest             as many as are left
 *     0.3*base+0.7*tuned x10, tuned rest   10 steps by the sum of both predictions, weighted
 *     base|tuned                       the unconditional prediction from base, the conditional from
 * tuned
 *
 * An entry without a count takes what is left, and is the last. */
#ifndef LIKENESS_GENERATE_MIX_H
#define LIKENESS_GENERATE_MIX_H

#include <stdbool.h>

#include "base/error.h"

enum { MIX_MAX_TERMS = 8, MIX_MAX_STEPS = 1000000 };

/* What predicts one step. One term of share 1: that model alone. */
typedef struct mix_step {
    int terms;
    bool split;               /* term 0 the unconditional, term 1 the conditional prediction */
    int model[MIX_MAX_TERMS]; /* index of the model's name */
    float share[MIX_MAX_TERMS];
} mix_step;

typedef struct mix {
    mix_step *step; /* [count] */
    int count;
} mix;

/* names: the models there are. The counts must add up to `steps`. On failure *out is empty. */
bool mix_parse(mix *out, const char *text, const char *const *names, int models, int steps,
               error *e);
void mix_close(mix *m);
/* The sum of one step alone, "0.5*base+0.5*tuned": neither split nor count. */
bool mix_parse_sum(mix_step *out, const char *text, const char *const *names, int models, error *e);

bool mix_name_character(char c); /* whether names can have it */
bool mix_step_equal(const mix_step *a, const mix_step *b);
int mix_common(const mix *a, const mix *b); /* how many first steps are the same */
int mix_last_model(const mix *m);           /* the last step's (its conditional) model */
/* Whether the run is one model, then another, and from which step on: A1111's refiner. */
bool mix_is_switch(const mix *m, int *first, int *second, int *at);
/* The same run in the syntax above, shortest form; malloc'ed, NULL when memory is out. */
char *mix_text(const mix *m, const char *const *names);

#endif
