/* SPDX-License-Identifier: Apache-2.0
 *
 * deal: how well a network's pieces would keep many cores busy, told on a machine of few. A device
 * is opened with as many threads as the cores that are asked about, so that it cuts its work as it
 * would there; one thread then does all pieces one after the other, and each is timed (recording).
 * deal_simulate gives them to imagined cores as base/threads.c would, with the pool's own costs as
 * they are measured here.
 *
 * What it counts: what the caller does alone, waking threads and their looking, tickets one after
 * the other, pieces that are too few or unequal, and work that is done more often because it is
 * cut. What it leaves out: that cores share the memory's speed and the last cache (the bytes a
 * second that the operands alone ask for are printed), that a piece may find its input in another
 * core's cache, that all cores at work run slower than one, and what tickets cost when more than
 * two threads take them at once. So it tells where the deal loses, not what a machine of so many
 * cores reaches. */
#ifndef LIKENESS_TOOLS_BENCH_DEAL_H
#define LIKENESS_TOOLS_BENCH_DEAL_H

#include "device/device.h"

enum { LABEL_SIZE = 96 };
typedef char label[LABEL_SIZE];

/* What the caller does alone, and then a deal. */
typedef struct deal {
    int label;
    double alone;
    int pieces; /* 0: none, the caller's last work */
    size_t first;
} deal;

/* Labels: the operations, by name and shapes. Seconds of the thread's processor time. */
typedef struct recording {
    label *labels;
    deal *deals;
    double *piece;
    size_t label_count, deal_count, piece_count;
    size_t label_room, deal_room, piece_room;
    double bytes; /* of all operands, each counted once a call */
} recording;

/* The least of each over `repeats` runs of `work`, whose operations are the device's. The program
 * must be linked with --wrap=thread_pool_run. */
bool recording_make(recording *r, device *d, int repeats, bool (*work)(void *context, error *e),
                    void *context, error *e);
void recording_close(recording *r);

/* Of a pool, in seconds: a piece's ticket, which is taken by one thread after the other; from the
 * deal to the first piece of a thread that looks, or of one that sleeps; what waking each of those
 * takes the caller; from the last piece to the caller. */
typedef struct deal_costs {
    double ticket, notice, wake, wake_each, finish;
} deal_costs;

/* Measured again, the least counts: other programs on the machine are not to. *out begins as zero.
 */
bool deal_costs_measure(deal_costs *out, error *e);

/* What an operation takes, in seconds: from its begin to its end; the caller alone; all pieces. */
typedef struct deal_share {
    double seconds, alone, work;
    size_t pieces, deals;
} deal_share;

/* Of the whole on so many cores, and of each label (by_label, or NULL). */
deal_share deal_simulate(const recording *r, const deal_costs *c, int cores, deal_share *by_label);

#endif
