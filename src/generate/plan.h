/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: how many pictures of one call are written: sweeps of settings, names of files. */
#ifndef LIKENESS_GENERATE_PLAN_H
#define LIKENESS_GENERATE_PLAN_H

#include "generate/generate.h"

enum { PLAN_MAX_ROWS = 10000 };

/* "sampler=ddpm,ddim steps=200,50,10": every combination, the first key turning slowest. Keys:
 * sampler, sigmas (schedule_type), steps, guidance (cfg_scale, guidance_scale), guidance_rescale,
 * eta, variance, spacing, clip_skip, width, height; - and _ are the same. */
typedef struct sweep_row {
    generate_options options; /* base with this row's values */
    char *name;  /* for files: "ddpm-200"; a number other than steps is named: "eta-0.5" */
    char *label; /* for people: "DDPM, 200 steps" */
} sweep_row;
typedef struct sweep {
    sweep_row *row;
    size_t count;
} sweep;
bool sweep_parse(sweep *out, const char *text, const generate_options *base, error *e);
void sweep_close(sweep *s);

/* "A photo of a dog!" -> "a-photo-of-a-dog", "猫の写真" -> itself: letters and digits of every
 * script in lower case (NFC), every run of others one '-', trimmed; "picture" where nothing is
 * left; cut at `limit` bytes (10 or more) between letters. malloc'ed; NULL when memory is out. */
char *slug_make(const char *text, size_t limit);

#endif
