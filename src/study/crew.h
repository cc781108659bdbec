/* SPDX-License-Identifier: Apache-2.0
 *
 * crew: sessions side by side, which share out the pieces of a study's work: pictures that are
 * independent of each other. What comes of a piece does not depend on who does it, nor on when. */
#ifndef LIKENESS_STUDY_CREW_H
#define LIKENESS_STUDY_CREW_H

#include <stdint.h>

#include "study/engine.h"

typedef struct crew {
    lk_session **session;
    int count;
} crew;

/* Sessions of one thread each. */
bool crew_open(crew *c, lk_context *context, int count, error *e);
void crew_close(crew *c);

typedef struct crew_run crew_run;

typedef struct crew_work {
    int pieces;
    /* Piece i by worker's session; in a thread of its own where the crew has several. False ends it
     * all. */
    bool (*piece)(void *context, crew_run *run, int i, int worker, error *e);
    /* In the caller's thread: done more units are done. False ends it all as soon as it can; with
     * no error set, by ERROR_CANCELLED. */
    bool (*told)(void *context, crew_run *run, int64_t done, error *e);
    void *context;
} crew_work;

/* All pieces, in their order as workers come for them. The error is the first that ended it. */
bool crew_do(const crew *c, const crew_work *w, error *e);
/* By a piece: another unit of it is done. True: it is to end, whatever it fails with. */
bool crew_step(crew_run *run);
/* Around what pieces share. */
void crew_lock(crew_run *run);
void crew_unlock(crew_run *run);

#endif
