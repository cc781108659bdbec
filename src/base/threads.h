/* SPDX-License-Identifier: Apache-2.0
 *
 * threads: a pool of threads that share out the pieces of a loop. Pieces are dealt one by one to
 * whoever asks next, the caller among them, and a thread that has not come is not waited for: where
 * other programs want the cores too, the caller does what the others cannot. So what a piece
 * computes must not depend on who does it. Waiting threads look again for a few microseconds and
 * then sleep.
 *
 * A pool serves one caller at a time. A call from inside a piece, or from a second thread while the
 * pool is at work, does all its pieces itself, as worker 0; so does a call in a forked child, which
 * has none of its parent's threads. Different pools are independent. */
#ifndef LIKENESS_BASE_THREADS_H
#define LIKENESS_BASE_THREADS_H

#include "base/error.h"

enum { THREADS_MOST = 1024 };

/* How long a waiting thread looks again before it sleeps: between two operations of a small network
 * less time passes than sleeping and waking takes, which is some 50 microseconds on a virtual
 * machine. */
#define THREADS_LOOK_SECONDS 200e-6

typedef struct thread_pool thread_pool;

/* count: 1..THREADS_MOST, the caller's own included. Fails when they cannot all be started. */
bool thread_pool_open(thread_pool **out, int count, error *e);
void thread_pool_close(thread_pool **pool); /* NULL is fine */
int thread_pool_size(const thread_pool *pool);

/* Calls work(context, piece, worker) for every piece of [0, pieces), and returns when all are done.
 * worker is in [0, size), another for each of the pieces that are done at the same time. Pieces are
 * done in the floating-point modes of the caller. pool may be NULL: the caller does all. */
typedef void thread_piece(void *context, int piece, int worker);
void thread_pool_run(thread_pool *pool, int pieces, thread_piece *work, void *context);

/* Threads that each do work of their own for long, such as a picture, while the caller attends to
 * them. */
typedef struct thread_crew thread_crew;

/* `count` threads do work(crew, context, worker), worker in [0, count), each to its end; meanwhile
 * the caller's own calls attend(context) after every thread_crew_tell, and once more when all have
 * ended. They take no signals, and compute in the caller's floating-point modes. With one, or where
 * no thread can be started, the caller does the work itself, and attends in thread_crew_tell; where
 * only some can, the others' work is not done: what there is must be dealt out to who comes. */
void thread_crew_run(int count, void (*work)(thread_crew *crew, void *context, int worker),
                     void (*attend)(void *context), void *context);
void thread_crew_tell(thread_crew *crew);

#endif
