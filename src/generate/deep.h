/* SPDX-License-Identifier: Apache-2.0
 *
 * deep: which evaluations of a run are of the whole network, and which reuse its deep features
 * (DeepCache). Evaluations are counted, not steps, from where the models in force took over: the
 * first is whole, and then every interval-th. Each model has its own features. */
#ifndef LIKENESS_GENERATE_DEEP_H
#define LIKENESS_GENERATE_DEEP_H

#include "generate/job.h"

typedef struct deep_cache {
    int interval;        /* 0, 1: all are whole */
    const mix_step *now; /* the models in force; NULL: the job's first alone, or none yet */
    int64_t done;        /* evaluations by these */
} deep_cache;

/* Whether the next evaluation, by the models of s (NULL: there is no mix), reuses; it counts. */
bool deep_next(deep_cache *d, const mix_step *s);

/* What picture k's part of the run has to remember between two steps, malloc'ed (NULL, size 0:
 * nothing). */
bool deep_save(const deep_cache *d, const job *j, int k, void **out, size_t *size, error *e);
/* The job's pictures go on from their snapshots. */
bool deep_load(deep_cache *d, const job *j, error *e);

#endif
