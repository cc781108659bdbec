/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the pool of threads: every piece is done once, by one worker at a time; calls inside
 * calls, from several threads, in a forked child; the caller's floating-point modes; threads that
 * cannot be started (CMake lets this program decide that, by --wrap). */
#include "base/threads.h"
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xmmintrin.h>

static int start_at_most = 1 << 20; /* threads that can still be started */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *),
                          void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *),
                          void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *),
                          void *argument)
{
    if (start_at_most-- <= 0) return EAGAIN;
    return __real_pthread_create(thread, how, run, argument);
}

static int threads_of_process(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = -2; /* . and .. */
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

/* A thread that has been joined may be listed for a moment yet. */
static void expect_threads(int n)
{
    for (int i = 0; i < 5000 && threads_of_process() != n; i++) usleep(1000);
    assert_int_equal(threads_of_process(), n);
}

static thread_pool *open_pool(int count)
{
    thread_pool *p;
    error e = {0};
    if (!thread_pool_open(&p, count, &e)) fail_msg("%s", e.text);
    assert_int_equal(thread_pool_size(p), count);
    return p;
}

enum { MOST = 300, WORKERS = 5 };

typedef struct job {
    thread_pool *pool;
    int size;
    atomic_int done[MOST];
    atomic_bool at_work[WORKERS];
    atomic_int wrong;
    atomic_long sum;
    unsigned modes;
} job;

static void piece(void *context, int i, int worker)
{
    job *j = context;
    if (worker < 0 || worker >= j->size || atomic_exchange(&j->at_work[worker], true))
        atomic_fetch_add(&j->wrong, 1);
    atomic_fetch_add(&j->done[i], 1);
    atomic_fetch_add(&j->sum, i);
    atomic_store(&j->at_work[worker], false);
}

static void expect_done(job *j, int pieces)
{
    assert_int_equal(atomic_load(&j->wrong), 0);
    for (int i = 0; i < MOST; i++) assert_int_equal(atomic_load(&j->done[i]), i < pieces);
    assert_int_equal(atomic_load(&j->sum), (long)pieces * (pieces - 1) / 2);
}

static void test_pieces(void **state)
{
    (void)state;
    for (int size = 1; size <= WORKERS; size++) {
        thread_pool *p = open_pool(size);
        for (int repeat = 0; repeat < 2000; repeat++) {
            job j = {.size = size};
            int pieces = repeat % 40 == 39 ? MOST : repeat % 13;
            thread_pool_run(p, pieces, piece, &j);
            expect_done(&j, pieces);
            if (repeat % 500 == 0) usleep(2000); /* so that all sleep */
        }
        thread_pool_close(&p);
        assert_null(p);
        thread_pool_close(&p);
    }
    job j = {.size = 1};
    thread_pool_run(NULL, 7, piece, &j);
    expect_done(&j, 7);
    assert_int_equal(thread_pool_size(NULL), 1);
}

/* A piece that itself deals out pieces. */
static void outer(void *context, int i, int worker)
{
    job *j = context;
    (void)i, (void)worker;
    job inner = {.size = 1};
    thread_pool_run(j->pool, 11, piece, &inner);
    atomic_fetch_add(&j->sum, atomic_load(&inner.sum));
    atomic_fetch_add(&j->wrong, atomic_load(&inner.wrong));
}

static void test_inside(void **state)
{
    (void)state;
    job j = {.pool = open_pool(3)};
    thread_pool_run(j.pool, 20, outer, &j);
    assert_int_equal(atomic_load(&j.sum), 20 * 55);
    assert_int_equal(atomic_load(&j.wrong), 0);
    thread_pool_close(&j.pool);
}

/* Host threads that share a pool, which they should not, still get their work done. */
static void *host(void *argument)
{
    thread_pool *p = argument;
    for (int i = 0; i < 500; i++) {
        job j = {.size = 3};
        thread_pool_run(p, i % 20, piece, &j);
        if (atomic_load(&j.sum) != (long)(i % 20) * (i % 20 - 1) / 2) return p;
    }
    return NULL;
}

static void test_hosts(void **state)
{
    (void)state;
    thread_pool *p = open_pool(3);
    pthread_t hosts[3];
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&hosts[i], NULL, host, p), 0);
    for (int i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(hosts[i], &wrong);
        assert_null(wrong);
    }
    thread_pool_close(&p);
}

static void test_fork(void **state)
{
    (void)state;
    thread_pool *p = open_pool(3);
    job j = {.size = 3};
    thread_pool_run(p, 50, piece, &j);
    pid_t child = fork();
    if (child == 0) { /* it has none of the threads, and does the work nevertheless */
        job own = {.size = 3};
        thread_pool_run(p, 50, piece, &own);
        bool done = atomic_load(&own.sum) == 50 * 49 / 2;
        thread_pool_close(&p);
        _exit(done && !p ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    j = (job){.size = 3};
    thread_pool_run(p, 50, piece, &j); /* and the parent has them still */
    expect_done(&j, 50);
    thread_pool_close(&p);
}

/* What a host may have set: subnormal numbers flushed to zero, another rounding. */
enum { MODES_USUAL = 0x1f80, MODES_FLUSH = 0x9fc0, MODES_UPWARD = 0x5f80, MODES = 0xffc0 };

static void modes_piece(void *context, int i, int worker)
{
    job *j = context;
    (void)i, (void)worker;
    if ((_mm_getcsr() & MODES) != j->modes) atomic_fetch_add(&j->wrong, 1);
    usleep(200); /* so that others take pieces too */
}

static void test_modes(void **state)
{
    (void)state;
    thread_pool *p = open_pool(3);
    static const unsigned modes[] = {MODES_FLUSH, MODES_USUAL, MODES_UPWARD, MODES_USUAL};
    for (int i = 0; i < 4; i++) {
        job j = {.modes = modes[i]};
        _mm_setcsr(modes[i]);
        thread_pool_run(p, 30, modes_piece, &j);
        _mm_setcsr(MODES_USUAL);
        assert_int_equal(atomic_load(&j.wrong), 0);
    }
    thread_pool_close(&p);
}

static void blocked_piece(void *context, int i, int worker)
{
    job *j = context;
    sigset_t blocked;
    (void)i;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (worker && !sigismember(&blocked, SIGINT)) atomic_fetch_add(&j->wrong, 1);
    usleep(200);
}

/* Signals are the host's threads' own. */
static void test_signals(void **state)
{
    (void)state;
    thread_pool *p = open_pool(3);
    job j = {0};
    sigset_t blocked;
    thread_pool_run(p, 30, blocked_piece, &j);
    assert_int_equal(atomic_load(&j.wrong), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    assert_false(sigismember(&blocked, SIGINT));
    thread_pool_close(&p);
}

static void test_start(void **state)
{
    (void)state;
    usleep(20000); /* those of the tests before are gone */
    int before = threads_of_process();
    thread_pool *p = open_pool(4);
    expect_threads(before + 3);
    thread_pool_close(&p);
    expect_threads(before);
    error e = {0};
    start_at_most = 2;
    assert_false(thread_pool_open(&p, 6, &e));
    start_at_most = 1 << 20;
    assert_null(p);
    assert_int_equal(e.code, ERROR_MEMORY);
    assert_non_null(strstr(e.text, "thread 4 of 6"));
    assert_non_null(strstr(e.text, "fewer threads"));
    expect_threads(before);
}

/* ---- crews ---- */

typedef struct crewing {
    pthread_t caller;
    atomic_int next, workers, told, modes; /* modes: 1: the caller's */
    int attended;
    bool elsewhere; /* attended by another thread than the caller */
} crewing;

static void do_some(thread_crew *crew, void *context, int worker)
{
    crewing *c = context;
    assert_true(worker >= 0 && worker < 3);
    atomic_fetch_add(&c->workers, 1);
    if (_mm_getcsr() & 0x8000) atomic_store(&c->modes, 1);
    while (atomic_fetch_add(&c->next, 1) < 100) {
        atomic_fetch_add(&c->told, 1);
        thread_crew_tell(crew);
    }
}

static void attend(void *context)
{
    crewing *c = context;
    c->elsewhere |= !pthread_equal(pthread_self(), c->caller);
    c->attended = atomic_load(&c->told);
}

static void test_crew(void **state)
{
    (void)state;
    static const struct {
        int count, can_start, workers;
    } row[] = {{3, 100, 3}, {1, 100, 1}, {3, 0, 1}, {3, 2, 2}};
    int before = threads_of_process();
    unsigned modes = _mm_getcsr();
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        crewing c = {.caller = pthread_self()};
        start_at_most = row[i].can_start;
        _mm_setcsr(modes | 0x8000); /* denormals are zero */
        thread_crew_run(row[i].count, do_some, attend, &c);
        _mm_setcsr(modes);
        start_at_most = 1 << 20;
        assert_int_equal(c.workers, row[i].workers);
        assert_int_equal(c.told, 100);
        assert_int_equal(c.attended, 100); /* at the end, whatever was missed before */
        assert_false(c.elsewhere);
        assert_int_equal(c.modes, 1);
        assert_int_equal(threads_of_process(), before);
    }
}

/* What the first piece sees of the others. */
typedef struct ends {
    atomic_int first, taken; /* the piece that was taken first beside piece 0, -1: none yet */
} ends;

static void note_ends(void *context, int piece, int worker)
{
    ends *x = context;
    int none = -1;
    (void)worker;
    if (piece) atomic_compare_exchange_strong(&x->first, &none, piece);
    while (!piece && atomic_load(&x->first) < 0) usleep(100);
    atomic_fetch_add(&x->taken, 1);
}

/* The second thread begins at the other end, so that each keeps to its part of the numbers. */
static void test_both_ends(void **state)
{
    (void)state;
    thread_pool *p = open_pool(2);
    for (int i = 0; i < 50; i++) {
        ends x = {-1, 0};
        thread_pool_run(p, 7, note_ends, &x);
        assert_int_equal(x.first, 6);
        assert_int_equal(x.taken, 7);
    }
    thread_pool_close(&p);
}

static void count_piece(void *context, int piece, int worker)
{
    (void)worker;
    ((uint8_t *)context)[piece]++;
}

/* More pieces than a ticket can count. */
static void test_many_pieces(void **state)
{
    enum { PIECES = 1 << 22 };
    uint8_t *times = calloc(PIECES, 1);
    (void)state;
    assert_non_null(times);
    thread_pool *p = open_pool(3);
    thread_pool_run(p, PIECES, count_piece, times);
    for (int i = 0; i < PIECES; i++)
        if (times[i] != 1) fail_msg("piece %d was done %d times", i, times[i]);
    thread_pool_close(&p);
    free(times);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ends), cmocka_unit_test(test_many_pieces),
        cmocka_unit_test(test_pieces),    cmocka_unit_test(test_inside),
        cmocka_unit_test(test_hosts),     cmocka_unit_test(test_fork),
        cmocka_unit_test(test_modes),     cmocka_unit_test(test_signals),
        cmocka_unit_test(test_start),     cmocka_unit_test(test_crew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
