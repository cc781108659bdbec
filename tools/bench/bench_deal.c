/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_deal: how busy a network or a training step would keep many cores (deal.h): for each number
 * of cores the seconds, the efficiency (one thread's time over cores times seconds), the memory of
 * the graph with its threads' scratch, what the operands alone would ask of the memory, and what
 * loses most at 32.
 *
 *   bench_deal MODEL unet|vae|text|train f32|bf16 [CORES=8,16,32,64 [REPEATS=2 [SIZE=512]]]
 *
 * It takes one core, and about as much time as 2 * REPEATS runs for each number of cores. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deal.h"
#include "network.h"
#include "training.h"

enum { LOSSES_SHOWN = 8 };
#define BUSY_NOTICE 20e-6

typedef struct bench {
    const char *row;
    const model *model;
    dtype precision;
    int repeats;
    int64_t size;
    deal_costs costs;
    recording one; /* a single thread's */
    double one_seconds;
} bench;

static bool graph_again(void *context, error *e) { return graph_run(context, e); }

static bool record_network(const bench *b, device *d, recording *r, size_t *bytes, error *e)
{
    device_weights *weights = NULL;
    job j = {0};
    bool ok = graph_open(&j.g, d->compute, e) && job_record(&j, b->model, b->row, b->size, e) &&
              graph_plan(j.g, d, e) && graph_allocate(j.g, e) &&
              device_weights_open(d, j.weights, &weights, e) && graph_bind(j.g, &weights, 1, e) &&
              job_fill(&j, e) && recording_make(r, d, b->repeats, graph_again, j.g, e);
    if (ok) *bytes = graph_bytes(j.g);
    graph_close(&j.g);
    device_weights_close(&weights);
    return ok;
}

typedef struct training {
    trainer t;
    step_graph s;
} training;

static bool step_again(void *context, error *e)
{
    training *k = context;
    train_report r = {0};
    return graph_bind(k->s.graph, &k->t.parameters.unet.copy, 1, e) && step_fill(&k->s, e) &&
           graph_run(k->s.graph, e) && update_run(&k->t, &k->s, &r, e);
}

static bool record_training(const bench *b, device *d, recording *r, size_t *bytes, error *e)
{
    training k = {.t = {.device = d, .model = b->model}};
    step_options o = {
        .samples = 1, .height = (int)b->size / 8, .width = (int)b->size / 8, .gradients = true};
    train_settings_defaults(&k.t.settings);
    k.t.settings.optimizer = OPTIMIZER_ADAMW_8BIT;
    k.t.rate = k.t.settings.learning_rate;
    k.t.total = b->repeats;
    const weight_set none = {0};
    bool ok = parameters_open(&k.t.parameters, d, &b->model->unet_weights, &none, &k.t.settings,
                              e) &&
              step_open(&k.s, d, b->model, &o, e) && graph_allocate(k.s.graph, e) &&
              recording_make(r, d, b->repeats, step_again, &k, e);
    if (ok) *bytes = graph_bytes(k.s.graph);
    step_close(&k.s);
    parameters_close(&k.t.parameters);
    return ok;
}

static bool record(const bench *b, int threads, recording *r, size_t *bytes, error *e)
{
    device *d = NULL;
    device_options o = {.threads = threads, .precision = b->precision};
    bool ok = device_open(&d, "cpu", &o, e) &&
              (strcmp(b->row, "train") ? record_network(b, d, r, bytes, e)
                                       : record_training(b, d, r, bytes, e));
    device_close(&d);
    return ok;
}

/* Seconds of all cores together, of an operation or of all: lost against one thread, and of that
 * work that one thread has not, others' waiting while the caller works alone, and waiting for
 * pieces: to be woken, for want of one, and for who has the last. */
typedef struct loss {
    const char *label; /* NULL: of all */
    double all, work, alone, wait;
    size_t pieces, deals;
} loss;

static loss loss_of(const char *name, const deal_share *share, double one, int cores)
{
    double work = share->alone + share->work;
    loss l = {.label = name, .pieces = share->pieces, .deals = share->deals};
    l.all = cores * share->seconds - one;
    l.work = work - one;
    l.alone = (cores - 1) * share->alone;
    l.wait = l.all - l.work - l.alone;
    return l;
}

static int by_loss(const void *a, const void *b)
{
    double x = ((const loss *)a)->all, y = ((const loss *)b)->all;
    return (x < y) - (x > y);
}

static void print_loss(const loss *l, double whole)
{
    printf("%9.2f %8.2f %8.2f %8.2f %9.1f  %s\n", 100 * l->all / whole, 100 * l->work / whole,
           100 * l->alone / whole, 100 * l->wait / whole,
           l->deals ? (double)l->pieces / (double)l->deals : 1, l->label ? l->label : "all");
}

static void print_losses(const bench *b, const recording *r, const deal_share *all,
                         const deal_share *by_label, const deal_share *one_label, int cores)
{
    loss *list = calloc(r->label_count, sizeof *list), whole;
    if (!list) return;
    whole = loss_of(NULL, all, b->one_seconds, cores);
    for (size_t i = 0; i < r->label_count; i++) {
        double one = 0;
        for (size_t k = 0; k < b->one.label_count; k++)
            if (strcmp(b->one.labels[k], r->labels[i]) == 0) one = one_label[k].seconds;
        list[i] = loss_of(r->labels[i], &by_label[i], one, cores);
    }
    qsort(list, r->label_count, sizeof *list, by_loss);
    printf("what %d cores lose, %% of all their time: all, by work that one thread has not, while "
           "the caller works alone, while pieces are waited for\n%9s %8s %8s %8s %9s\n",
           cores, "all", "work", "alone", "waiting", "pieces");
    print_loss(&whole, cores * all->seconds);
    for (size_t i = 0; i < r->label_count && i < LOSSES_SHOWN; i++)
        print_loss(&list[i], cores * all->seconds);
    free(list);
}

static bool simulate(bench *b, int cores, bool losses, error *e)
{
    recording r = {0};
    size_t bytes = 0;
    bool ok = record(b, cores, &r, &bytes, e) && deal_costs_measure(&b->costs, e);
    deal_share *each = ok ? calloc(r.label_count + 1, sizeof *each) : NULL;
    deal_share *one = ok ? calloc(b->one.label_count + 1, sizeof *one) : NULL;
    if (each && one) {
        deal_share all = deal_simulate(&r, &b->costs, cores, each);
        deal_simulate(&b->one, &b->costs, 1, one);
        printf("%7d %9.4f %9.1f %% %9.3f %8zu %9.0f %7.0f\n", cores, all.seconds,
               100 * b->one_seconds / (cores * all.seconds), all.alone + all.work, all.pieces,
               (double)bytes / 1048576, 1e-9 * r.bytes / all.seconds);
        if (losses) print_losses(b, &r, &all, each, one, cores);
        fflush(stdout);
    }
    free(each);
    free(one);
    recording_close(&r);
    return ok;
}

static void print_head(const bench *b, size_t bytes)
{
    printf("%s, %s, %lldx%lld: %.3f s of one thread, %.0f MB\n", b->row,
           precision_name(b->precision), (long long)b->size, (long long)b->size, b->one_seconds,
           (double)bytes / 1048576);
    printf("%7s %9s %11s %9s %8s %9s %7s\n", "cores", "seconds", "efficiency", "all work", "pieces",
           "graph MB", "GB/s");
}

static void print_costs(const deal_costs *c)
{
    printf(
        "the pool, in microseconds: a ticket %.2f; until a thread that looks has its piece %.1f, "
        "one that sleeps %.1f and %.1f of the caller; to the caller %.1f%s\n",
        1e6 * c->ticket, 1e6 * c->notice, 1e6 * c->wake, 1e6 * c->wake_each, 1e6 * c->finish,
        c->notice > BUSY_NOTICE ? " (too much: other programs have the cores)" : "");
}

static bool run(bench *b, const char *folder, const char *cores, error *e)
{
    model *m = NULL;
    size_t bytes = 0;
    bool ok = model_open(&m, folder, NULL, NULL, e) && deal_costs_measure(&b->costs, e);
    b->model = m;
    ok = ok && record(b, 1, &b->one, &bytes, e) && deal_costs_measure(&b->costs, e);
    if (ok) {
        b->one_seconds = deal_simulate(&b->one, &b->costs, 1, NULL).seconds;
        print_head(b, bytes);
    }
    for (const char *at = cores; ok && *at; at += strcspn(at, ","), at += *at == ',') {
        int count = atoi(at);
        ok = (count >= 1 && count <= THREADS_MOST) ||
             error_set(e, ERROR_USAGE, "cores: numbers with commas between them, not %s", at);
        ok = ok && simulate(b, count, count == 32, e);
    }
    if (ok) print_costs(&b->costs);
    recording_close(&b->one);
    model_close(&m);
    return ok;
}

int main(int argc, char **argv)
{
    error e = {0};
    bench b = {.row = argc > 2 ? argv[2] : "", .repeats = argc > 5 ? atoi(argv[5]) : 2};
    b.size = argc > 6 ? atoi(argv[6]) : 512;
    if (argc < 4 || argc > 7 || b.repeats < 1 || b.size < 8 ||
        !precision_parse(&b.precision, argv[3])) {
        fprintf(stderr, "use: bench_deal MODEL unet|vae|text|train f32|bf16 [CORES=8,16,32,64 "
                        "[REPEATS [SIZE]]]\n");
        return 2;
    }
    if (run(&b, argv[1], argc > 4 ? argv[4] : "8,16,32,64", &e)) return 0;
    fprintf(stderr, "bench_deal: %s\n", e.text);
    return 1;
}
