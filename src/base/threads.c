/* SPDX-License-Identifier: Apache-2.0
 *
 * threads: the pool on Linux: POSIX threads that sleep on futexes.
 *
 * The ticket holds how many pieces the job has and how many were taken from its front and from its
 * back; taking a piece is one atomic addition, whose answer says everything about the claim. Every
 * second thread takes from the back, so that in one operation after another a thread finds the part
 * of the numbers that it made itself, in its own cache. A thread that comes late takes a piece
 * of whatever job is open then, or none, and the caller never has to wait for it to notice
 * anything. A job's other fields are read only by who has a piece of it, which keeps the job from
 * ending. */
#include "base/threads.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/platform.h"

#define BRIEF_SECONDS 400e-6
enum { LOOKS_LEAST = 8 };

typedef struct worker {
    thread_pool *pool;
    pthread_t thread;
    int number; /* 1.. */
} worker;

struct thread_pool {
    int size, started;
    int looks_most; /* in THREADS_LOOK_SECONDS */
    int looks;      /* the caller's */
    pid_t process;
    worker *workers;
    atomic_bool busy, closing;
    /* the job: the caller writes these while no piece is to be had */
    thread_piece *work;
    void *context;
    unsigned modes;
    _Alignas(64) atomic_uint_least64_t ticket; /* pieces, taken from the back, from the front */
    _Alignas(64) atomic_uint finished;         /* pieces done; the caller sleeps on it */
    atomic_uint caller_sleeps;
    _Alignas(64) atomic_uint posted; /* jobs so far; idle threads sleep on it */
    atomic_uint sleepers;
};

static void futex_wait(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

#if defined(__x86_64__)
static void look_again_later(void) { __builtin_ia32_pause(); }
static unsigned modes_now(void) { return __builtin_ia32_stmxcsr() & ~0x3fu; } /* without flags */
static void modes_set(unsigned modes) { __builtin_ia32_ldmxcsr(modes); }
#else
static void look_again_later(void) { atomic_signal_fence(memory_order_seq_cst); }
static unsigned modes_now(void) { return 0; }
static void modes_set(unsigned modes) { (void)modes; }
#endif

/* Waits until `word` is no longer `value`; *sleepers counts who sleeps. *looks: how often to look
 * before sleeping. A long sleep halves it and a short one doubles it: where the other thread is not
 * running, for want of a core, that core is left to it at once. */
static void wait_while(atomic_uint *word, unsigned value, atomic_uint *sleepers, int *looks,
                       int most)
{
    for (int i = 0; i < *looks; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != value) {
            *looks = most;
            return;
        }
        look_again_later();
    }
    double start = clock_seconds();
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == value) futex_wait(word, value);
    atomic_fetch_sub(sleepers, 1);
    bool brief = clock_seconds() - start < BRIEF_SECONDS;
    *looks = brief ? 2 * *looks : *looks / 2;
    *looks = *looks > most ? most : *looks < LOOKS_LEAST ? LOOKS_LEAST : *looks;
}

/* A ticket's three counts. The two below may pass the end, by few for each thread. */
enum { COUNT_BITS = 21, PIECES_MOST = (1 << COUNT_BITS) - 1 - 2 * THREADS_MOST };
#define ONE_FROM_BACK ((uint64_t)1 << COUNT_BITS)
#define COUNT_MASK (ONE_FROM_BACK - 1)

static unsigned ticket_pieces(uint64_t t) { return (unsigned)(t >> 2 * COUNT_BITS); }
static unsigned ticket_front(uint64_t t) { return (unsigned)(t & COUNT_MASK); }
static unsigned ticket_back(uint64_t t) { return (unsigned)(t >> COUNT_BITS & COUNT_MASK); }
static bool has_more(uint64_t t) { return ticket_front(t) + ticket_back(t) < ticket_pieces(t); }

/* Does pieces of the open job until there are none left. */
static void work_on(thread_pool *p, int number)
{
    unsigned done = 0, pieces = 0;
    bool from_back = number % 2;
    for (;;) {
        uint64_t ticket = atomic_load_explicit(&p->ticket, memory_order_relaxed);
        if (!has_more(ticket)) break;
        ticket = atomic_fetch_add_explicit(&p->ticket, from_back ? ONE_FROM_BACK : 1,
                                           memory_order_acquire);
        if (!has_more(ticket)) break;
        pieces = ticket_pieces(ticket);
        if (!done && modes_now() != p->modes) modes_set(p->modes);
        p->work(p->context,
                (int)(from_back ? pieces - 1 - ticket_back(ticket) : ticket_front(ticket)), number);
        done++;
    }
    if (done && atomic_fetch_add(&p->finished, done) + done == pieces &&
        atomic_load(&p->caller_sleeps))
        futex_wake(&p->finished, 1);
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    thread_pool *p = w->pool;
    int looks = p->looks_most;
    for (unsigned seen = 0;;) {
        if (atomic_load_explicit(&p->posted, memory_order_acquire) == seen)
            wait_while(&p->posted, seen, &p->sleepers, &looks, p->looks_most);
        if (atomic_load(&p->closing)) return NULL;
        seen = atomic_load_explicit(&p->posted, memory_order_acquire);
        work_on(p, w->number);
    }
}

static void run_alone(int pieces, thread_piece *work, void *context)
{
    for (int i = 0; i < pieces; i++) work(context, i, 0);
}

void thread_pool_run(thread_pool *p, int pieces, thread_piece *work, void *context)
{
    if (!p || p->size == 1 || pieces <= 1 || pieces > PIECES_MOST ||
        atomic_exchange(&p->busy, true)) {
        run_alone(pieces, work, context);
        return;
    }
    p->work = work;
    p->context = context;
    p->modes = modes_now();
    atomic_store_explicit(&p->finished, 0, memory_order_relaxed);
    atomic_store_explicit(&p->ticket, (uint64_t)pieces << 2 * COUNT_BITS, memory_order_release);
    atomic_fetch_add(&p->posted, 1);
    int asleep = (int)atomic_load(&p->sleepers);
    if (asleep) futex_wake(&p->posted, asleep < pieces - 1 ? asleep : pieces - 1);
    work_on(p, 0);
    unsigned finished;
    while ((finished = atomic_load_explicit(&p->finished, memory_order_acquire)) !=
           (unsigned)pieces)
        wait_while(&p->finished, finished, &p->caller_sleeps, &p->looks, p->looks_most);
    atomic_store(&p->busy, false);
}

/* ---- opening and closing ---- */

static int looks_in(double seconds)
{
    enum { SAMPLE = 500 };
    double start = clock_seconds();
    for (int i = 0; i < SAMPLE; i++) look_again_later();
    double each = (clock_seconds() - start) / SAMPLE;
    double looks = seconds / (each > 1e-9 ? each : 1e-9);
    return looks < LOOKS_LEAST ? LOOKS_LEAST : (int)looks;
}

/* Signals are for the threads of the program. */
static bool start_workers(thread_pool *p, error *e)
{
    sigset_t all, before;
    int code = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; !code && p->started < p->size - 1; p->started += !code) {
        worker *w = &p->workers[p->started];
        *w = (worker){.pool = p, .number = p->started + 1};
        code = pthread_create(&w->thread, NULL, worker_main, w);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !code ||
           error_set(e, ERROR_MEMORY, "cannot start thread %d of %d (%s); use fewer threads",
                     p->started + 2, p->size, error_reason(code));
}

bool thread_pool_open(thread_pool **out, int count, error *e)
{
    assert(count >= 1 && count <= THREADS_MOST);
    *out = NULL;
    thread_pool *p = aligned_alloc(64, sizeof *p);
    worker *workers = calloc((size_t)count, sizeof *workers);
    if (!p || !workers) {
        free(p);
        free(workers);
        return error_memory(e, "threads", (unsigned long long)count * sizeof *workers);
    }
    memset(p, 0, sizeof *p);
    p->size = count;
    p->process = getpid();
    p->workers = workers;
    p->looks = p->looks_most = looks_in(THREADS_LOOK_SECONDS);
    if (!start_workers(p, e)) {
        thread_pool_close(&p);
        return false;
    }
    *out = p;
    return true;
}

void thread_pool_close(thread_pool **pool)
{
    thread_pool *p = *pool;
    if (!p) return;
    *pool = NULL;
    if (p->process == getpid()) { /* a forked child has no threads to end */
        atomic_store(&p->closing, true);
        atomic_fetch_add(&p->posted, 1);
        futex_wake(&p->posted, p->size);
        for (int i = 0; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
    }
    free(p->workers);
    free(p);
}

int thread_pool_size(const thread_pool *p) { return p ? p->size : 1; }

/* ---- crews ---- */

struct thread_crew {
    void (*work)(thread_crew *crew, void *context, int worker);
    void (*attend)(void *context);
    void *context;
    bool alone; /* the caller works itself */
    unsigned modes;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int at_work;
    bool told;
};

typedef struct crew_member {
    thread_crew *crew;
    pthread_t thread;
    int number;
} crew_member;

static void crew_change(thread_crew *c, int ended)
{
    pthread_mutex_lock(&c->lock);
    c->at_work -= ended;
    c->told = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void *member_main(void *argument)
{
    crew_member *m = argument;
    modes_set(m->crew->modes);
    m->crew->work(m->crew, m->crew->context, m->number);
    crew_change(m->crew, 1);
    return NULL;
}

void thread_crew_tell(thread_crew *c)
{
    if (c->alone)
        c->attend(c->context);
    else
        crew_change(c, 0);
}

/* Until all have ended. */
static void attend(thread_crew *c)
{
    pthread_mutex_lock(&c->lock);
    while (c->at_work || c->told) { /* all may have ended before this begins */
        while (!c->told) pthread_cond_wait(&c->changed, &c->lock);
        c->told = false;
        pthread_mutex_unlock(&c->lock);
        c->attend(c->context);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

void thread_crew_run(int count, void (*work)(thread_crew *crew, void *context, int worker),
                     void (*attends)(void *context), void *context)
{
    thread_crew c = {.work = work,
                     .attend = attends,
                     .context = context,
                     .modes = modes_now(),
                     .at_work = count};
    crew_member *member = count > 1 ? calloc((size_t)count, sizeof *member) : NULL;
    int started = 0;
    sigset_t all, before;
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.changed, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; member && started < count; started++) {
        member[started] = (crew_member){.crew = &c, .number = started};
        if (pthread_create(&member[started].thread, NULL, member_main, &member[started]) != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) {
        crew_change(&c, count - started);
        attend(&c);
        for (int i = 0; i < started; i++) pthread_join(member[i].thread, NULL);
    } else {
        c.alone = true;
        work(&c, context, 0);
        attends(context);
    }
    free(member);
    pthread_cond_destroy(&c.changed);
    pthread_mutex_destroy(&c.lock);
}
