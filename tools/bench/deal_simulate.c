/* SPDX-License-Identifier: Apache-2.0
 *
 * deal_simulate: the pool's costs, measured here, and a recording's pieces given to imagined cores
 * in their order, each to the core that is free first. A core that has been idle for longer than
 * the pool's threads look sleeps, and is woken by the caller one by one, at most as many as there
 * are pieces for. */
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/platform.h"
#include "base/threads.h"
#include "deal.h"

void __real_thread_pool_run(thread_pool *pool, int pieces, thread_piece *work, void *context);

/* ---- the pool's costs ---- */

enum { TRIES = 100, MANY = 8, PIECES = 1000 };

/* Two pieces that wait for each other, so that two threads take them. */
typedef struct meeting {
    atomic_int come;
    double start[2], end[2]; /* by worker */
} meeting;

static void meeting_piece(void *context, int piece, int worker)
{
    (void)piece;
    meeting *m = context;
    double start = clock_seconds();
    atomic_fetch_add(&m->come, 1);
    while (atomic_load(&m->come) < 2 && clock_seconds() - start < 1e-3) continue;
    if (worker < 2) m->start[worker] = start, m->end[worker] = clock_seconds();
}

static void first_start(void *context, int piece, int worker)
{
    double *start = context;
    (void)piece;
    if (worker == 0 && *start == 0) *start = clock_seconds();
}

static void nothing(void *context, int piece, int worker)
{
    (void)context, (void)piece, (void)worker;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What one in ten stays below: other programs on the machine are not to count. */
static double usual(double *seconds, int n)
{
    qsort(seconds, (size_t)n, sizeof *seconds, by_value);
    return n ? seconds[n / 10] : 0;
}

static void rest(void) /* until the pool's threads sleep */
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* From the deal to the second thread's piece, and from the last end to the caller. */
static double measure_meetings(thread_pool *pool, bool asleep, double *finish)
{
    double notice[TRIES], back[TRIES];
    int n = 0;
    for (int i = 0; i < TRIES; i++) {
        meeting m = {0}, before = {0};
        rest();
        if (!asleep) __real_thread_pool_run(pool, 2, meeting_piece, &before);
        double start = clock_seconds();
        __real_thread_pool_run(pool, 2, meeting_piece, &m);
        double end = clock_seconds();
        if (m.start[0] == 0 || m.start[1] == 0) continue; /* one thread took both */
        notice[n] = m.start[1] - start;
        back[n++] = end - (m.end[0] > m.end[1] ? m.end[0] : m.end[1]);
    }
    *finish = usual(back, n);
    return usual(notice, n);
}

/* From the deal to the caller's first piece while all others sleep. */
static double measure_post(thread_pool *pool)
{
    double seconds[TRIES];
    for (int i = 0; i < TRIES; i++) {
        double first = 0;
        rest();
        double start = clock_seconds();
        __real_thread_pool_run(pool, thread_pool_size(pool) + 1, first_start, &first);
        seconds[i] = (first ? first : clock_seconds()) - start;
    }
    return usual(seconds, TRIES);
}

static double measure_ticket(thread_pool *pool)
{
    double seconds[TRIES];
    for (int i = 0; i < TRIES; i++) {
        meeting before = {0};
        rest();
        __real_thread_pool_run(pool, 2, meeting_piece, &before);
        double start = clock_seconds();
        __real_thread_pool_run(pool, PIECES, nothing, NULL);
        seconds[i] = (clock_seconds() - start) / PIECES;
    }
    return usual(seconds, TRIES);
}

static void keep_least(double *least, double seconds) /* 0: it was not met */
{
    if (seconds > 0 && (*least == 0 || seconds < *least)) *least = seconds;
}

bool deal_costs_measure(deal_costs *out, error *e)
{
    thread_pool *two = NULL, *many = NULL;
    bool ok = thread_pool_open(&two, 2, e) && thread_pool_open(&many, 1 + MANY, e);
    if (ok) {
        double finish, unused;
        keep_least(&out->notice, measure_meetings(two, false, &finish));
        keep_least(&out->finish, finish);
        keep_least(&out->wake, measure_meetings(two, true, &unused));
        keep_least(&out->ticket, measure_ticket(two));
        double each = (measure_post(many) - measure_post(two)) / (MANY - 1);
        keep_least(&out->wake_each, each);
    }
    thread_pool_close(&two);
    thread_pool_close(&many);
    return ok;
}

/* ---- the simulation ---- */

typedef struct cores {
    int count;
    double *idle; /* since when; core 0 is the caller */
    double *come; /* when it can take a piece of this deal */
} cores;

/* When each core comes to a deal that begins at t. */
static void cores_come(cores *k, const deal_costs *c, int pieces, double t)
{
    int woken = 0;
    for (int i = 1; i < k->count; i++) {
        if (t - k->idle[i] <= THREADS_LOOK_SECONDS)
            k->come[i] = t + c->notice;
        else if (woken < pieces - 1)
            k->come[i] = t + c->wake_each * woken++ + c->wake;
        else
            k->come[i] = -1;
    }
    k->come[0] = t + c->wake_each * woken;
}

static int first_free(const cores *k)
{
    int best = 0;
    for (int i = 1; i < k->count; i++)
        if (k->come[i] >= 0 && k->come[i] < k->come[best]) best = i;
    return best;
}

/* Deals d's pieces out from t on, to every second core those from the back; when the caller goes
 * on.
 */
static double deal_out(cores *k, const recording *r, const deal_costs *c, const deal *d, double t)
{
    const double *front = r->piece + d->first, *back = front + d->pieces;
    double ticket = t, last = t;
    cores_come(k, c, d->pieces, t);
    while (front < back) {
        int core = first_free(k);
        double start = k->come[core] > ticket ? k->come[core] : ticket;
        ticket = start + c->ticket;
        k->come[core] = ticket + (core % 2 ? *--back : *front++);
        if (k->come[core] > last) last = k->come[core];
    }
    for (int i = 1; i < k->count; i++) /* those that found none left have looked, too */
        if (k->come[i] >= 0) k->idle[i] = k->come[i];
    return k->come[0] >= last ? last : last + c->finish;
}

static void share_add(deal_share *to, const recording *r, const deal *d, double seconds)
{
    to->seconds += seconds;
    to->alone += d->alone;
    to->deals += d->pieces > 0;
    to->pieces += (size_t)d->pieces;
    for (int i = 0; i < d->pieces; i++) to->work += r->piece[d->first + (size_t)i];
}

deal_share deal_simulate(const recording *r, const deal_costs *c, int count, deal_share *by_label)
{
    cores k = {count, calloc((size_t)count, sizeof(double)), calloc((size_t)count, sizeof(double))};
    deal_share all = {0};
    for (size_t i = 0; by_label && i < r->label_count; i++) by_label[i] = (deal_share){0};
    for (size_t i = 0; k.idle && k.come && i < r->deal_count; i++) {
        const deal *d = &r->deals[i];
        double t = all.seconds + d->alone;
        if (d->pieces) t = deal_out(&k, r, c, d, t);
        if (by_label) share_add(&by_label[d->label], r, d, t - all.seconds);
        share_add(&all, r, d, t - all.seconds);
    }
    free(k.idle);
    free(k.come);
    return all;
}
