/* SPDX-License-Identifier: Apache-2.0
 *
 * deal_record: takes the time of every piece. The linker gives it the pool's calls in place of the
 * pool, and the device's functions are replaced in the struct: neither the program nor its library
 * knows of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/threads.h"
#include "deal.h"

void __real_thread_pool_run(thread_pool *pool, int pieces, thread_piece *work, void *context);
void __wrap_thread_pool_run(thread_pool *pool, int pieces, thread_piece *work, void *context);

/* The one recording at work, and what it stands in for. */
static struct {
    recording *to; /* NULL: none */
    device before;
    int label;
    double last, clock_cost; /* when the caller's own work began; of a look at the clock */
} now;

/* Of this thread alone: what others do on the machine is not in it. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double clock_cost(void)
{
    enum { LOOKS = 2000 };
    double start = cpu_seconds();
    for (int i = 0; i < LOOKS; i++) cpu_seconds();
    return (cpu_seconds() - start) / LOOKS;
}

/* Room for one more; out of memory ends the tool. */
static void *grow(void *data, size_t count, size_t *room, size_t size)
{
    if (count < *room) return data;
    *room = *room ? 2 * *room : 1024;
    data = realloc(data, *room * size);
    if (data) return data;
    fprintf(stderr, "bench_deal: memory is out\n");
    exit(1);
}

static double since(double start)
{
    double seconds = cpu_seconds() - start - now.clock_cost;
    return seconds > 0 ? seconds : 0;
}

/* The caller's own work until here, and so many pieces after it. */
static void deal_add(int pieces)
{
    recording *r = now.to;
    r->deals = grow(r->deals, r->deal_count, &r->deal_room, sizeof *r->deals);
    r->deals[r->deal_count++] = (deal){now.label, since(now.last), pieces, r->piece_count};
}

void __wrap_thread_pool_run(thread_pool *pool, int pieces, thread_piece *work, void *context)
{
    recording *r = now.to;
    if (!r || thread_pool_size(pool) == 1 || pieces <= 1) {
        __real_thread_pool_run(r ? NULL : pool, pieces, work, context);
        return;
    }
    deal_add(pieces);
    for (int i = 0; i < pieces; i++) {
        double start = cpu_seconds();
        work(context, i, 0);
        r->piece = grow(r->piece, r->piece_count, &r->piece_room, sizeof *r->piece);
        r->piece[r->piece_count++] = since(start);
    }
    now.last = cpu_seconds();
}

static void label_set(const char *text)
{
    recording *r = now.to;
    size_t i = 0;
    while (i < r->label_count && strcmp(r->labels[i], text) != 0) i++;
    if (i == r->label_count) {
        r->labels = grow(r->labels, i, &r->label_room, sizeof *r->labels);
        snprintf(r->labels[i], LABEL_SIZE, "%s", text);
        r->label_count++;
    }
    now.label = (int)i;
}

/* What the caller has done alone until here is the last label's; from here on it is another's. */
static void label_change(const char *text)
{
    deal_add(0);
    label_set(text);
    now.last = cpu_seconds();
}

static int print_shape(char *out, size_t size, const array *a)
{
    int n = 0;
    for (int i = 0; i < a->rank && n < (int)size; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%lld", i ? "x" : "", (long long)a->dim[i]);
    return n;
}

static void label_of(const op_step *s, char *out)
{
    char in[32], to[32];
    *in = *to = 0;
    print_shape(in, sizeof in, &s->call->in[0]);
    print_shape(to, sizeof to, &s->call->out[0]);
    snprintf(out, LABEL_SIZE, "%s %s > %s", s->name, in, to);
}

static double bytes_of(const array *a, int count)
{
    double bytes = 0;
    for (int i = 0; i < count; i++) {
        double n = a[i].rank >= 0 ? (double)dtype_size(a[i].w ? a[i].w->type : a[i].type) : 0;
        for (int k = 0; k < a[i].rank; k++) n *= (double)a[i].dim[k];
        bytes += n;
    }
    return bytes;
}

static bool submit(device *d, const op_step *steps, size_t count, const buffer *scratch,
                   size_t scratch_at, error *e)
{
    for (size_t i = 0; i < count; i++) {
        char text[LABEL_SIZE];
        deal_add(0); /* a label takes time that is not the program's */
        label_of(&steps[i], text);
        now.to->bytes += bytes_of(steps[i].call->in, steps[i].call->in_count) +
                         bytes_of(steps[i].call->out, steps[i].call->out_count);
        now.last = cpu_seconds();
        label_change(text);
        if (!now.before.submit(d, &steps[i], 1, scratch, scratch_at, e)) return false;
    }
    label_change("between operations");
    return true;
}

static bool bind(device *d, const op_step *steps, size_t count, error *e)
{
    label_change("weights packed");
    bool ok = now.before.bind(d, steps, count, e);
    label_change("between operations");
    return ok;
}

static bool update(device *d, const update_job *u, update_result *r, error *e)
{
    label_change("update");
    enum { READ_AND_WRITTEN = 20 }; /* of a weight: the gradient twice, master, 8-bit moments */
    for (size_t i = 0; i < u->count; i++)
        now.to->bytes += READ_AND_WRITTEN * (double)u->tensor[i].moments.count;
    bool ok = now.before.update(d, u, r, e);
    label_change("between operations");
    return ok;
}

static bool record_once(recording *r, device *d, bool (*work)(void *context, error *e),
                        void *context, error *e)
{
    *r = (recording){0};
    now.to = r;
    now.before = *d;
    now.clock_cost = clock_cost();
    label_set("between operations");
    d->submit = submit, d->bind = bind, d->update = update;
    now.last = cpu_seconds();
    bool ok = work(context, e);
    deal_add(0);
    d->submit = now.before.submit, d->bind = now.before.bind, d->update = now.before.update;
    now.to = NULL;
    return ok;
}

/* The least of both, which are of the same work. */
static bool recording_merge(recording *r, const recording *more, error *e)
{
    if (r->deal_count != more->deal_count || r->piece_count != more->piece_count)
        return error_set(e, ERROR_USAGE,
                         "two runs were dealt out differently: they cannot be "
                         "compared");
    for (size_t i = 0; i < r->deal_count; i++)
        if (more->deals[i].alone < r->deals[i].alone) r->deals[i].alone = more->deals[i].alone;
    for (size_t i = 0; i < r->piece_count; i++)
        if (more->piece[i] < r->piece[i]) r->piece[i] = more->piece[i];
    return true;
}

bool recording_make(recording *r, device *d, int repeats, bool (*work)(void *context, error *e),
                    void *context, error *e)
{
    bool ok = record_once(r, d, work, context, e);
    for (int i = 1; ok && i < repeats; i++) {
        recording more;
        ok = record_once(&more, d, work, context, e) && recording_merge(r, &more, e);
        recording_close(&more);
    }
    return ok;
}

void recording_close(recording *r)
{
    free(r->labels);
    free(r->deals);
    free(r->piece);
    *r = (recording){0};
}
