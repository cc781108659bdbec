/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_deal: how busy a network or a training step would keep many cores (deal.h): for each number
 * of cores the seconds, the efficiency (one thread's time over cores times seconds), the memory of
 * the graph with its threads' scratch, and what loses most at 32.
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

enum { LOSSES_SHOWN = 10 };

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

/* Seconds of all cores together: lost, and of that the work that one thread has not. */
typedef struct loss {
    const char *label;
    double seconds, work;
} loss;

static int by_loss(const void *a, const void *b)
{
    double x = ((const loss *)a)->seconds, y = ((const loss *)b)->seconds;
    return (x < y) - (x > y);
}

/* The work of each label, whoever does it. */
static void add_work(const recording *r, loss *list)
{
    for (size_t i = 0; i < r->deal_count; i++) {
        const deal *d = &r->deals[i];
        list[d->label].work += d->alone;
        for (int k = 0; k < d->pieces; k++) list[d->label].work += r->piece[d->first + (size_t)k];
    }
}

/* What each operation takes all cores, less what it takes one thread. */
static void print_losses(const recording *r, const double *by_label, const recording *one,
                         const double *one_label, int cores, double whole)
{
    loss *list = calloc(r->label_count, sizeof *list);
    if (!list) return;
    add_work(r, list);
    for (size_t i = 0; i < r->label_count; i++) {
        list[i].label = r->labels[i];
        list[i].seconds = cores * by_label[i];
        for (size_t k = 0; k < one->label_count; k++) {
            if (strcmp(one->labels[k], r->labels[i]) != 0) continue;
            list[i].seconds -= one_label[k];
            list[i].work -= one_label[k];
        }
    }
    qsort(list, r->label_count, sizeof *list, by_loss);
    printf("  what %d cores lose of all their time (of that by work that one thread has not):\n",
           cores);
    for (size_t i = 0; i < r->label_count && i < LOSSES_SHOWN; i++)
        printf("  %6.2f %% (%5.2f)  %s\n", 100 * list[i].seconds / (cores * whole),
               100 * list[i].work / (cores * whole), list[i].label);
    free(list);
}

static bool simulate(const bench *b, int cores, bool losses, error *e)
{
    recording r = {0};
    size_t bytes = 0;
    bool ok = record(b, cores, &r, &bytes, e);
    double *each = ok ? calloc(r.label_count + 1, sizeof *each) : NULL;
    double *one = ok ? calloc(b->one.label_count + 1, sizeof *one) : NULL;
    if (each && one) {
        double seconds = deal_simulate(&r, &b->costs, cores, each), work = 0;
        deal_simulate(&b->one, &b->costs, 1, one);
        for (size_t i = 0; i < r.piece_count; i++) work += r.piece[i];
        for (size_t i = 0; i < r.deal_count; i++) work += r.deals[i].alone;
        printf("%7d %9.4f %9.1f %% %9.3f %8zu %9.0f\n", cores, seconds,
               100 * b->one_seconds / (cores * seconds), work, r.piece_count,
               (double)bytes / 1048576);
        if (losses) print_losses(&r, each, &b->one, one, cores, seconds);
        fflush(stdout);
    }
    free(each);
    free(one);
    recording_close(&r);
    return ok;
}

static bool run(bench *b, const char *folder, const char *cores, error *e)
{
    model *m = NULL;
    size_t bytes = 0;
    bool ok = model_open(&m, folder, NULL, NULL, e) && deal_costs_measure(&b->costs, e);
    b->model = m;
    ok = ok && record(b, 1, &b->one, &bytes, e);
    if (ok) {
        b->one_seconds = deal_simulate(&b->one, &b->costs, 1, NULL);
        printf("%s, %s, %lldx%lld: %.3f s of one thread, %.0f MB; pool: ticket %.2f us, a thread "
               "that looks %.1f, that sleeps %.1f and %.1f of the caller, end %.1f\n",
               b->row, precision_name(b->precision), (long long)b->size, (long long)b->size,
               b->one_seconds, (double)bytes / 1048576, 1e6 * b->costs.ticket,
               1e6 * b->costs.notice, 1e6 * b->costs.wake, 1e6 * b->costs.wake_each,
               1e6 * b->costs.finish);
        printf("%7s %9s %11s %9s %8s %9s\n", "cores", "seconds", "efficiency", "all work", "pieces",
               "graph MB");
    }
    for (const char *at = cores; ok && *at; at += strcspn(at, ","), at += *at == ',') {
        int count = atoi(at);
        ok = (count >= 1 && count <= THREADS_MOST) ||
             error_set(e, ERROR_USAGE, "cores: numbers with commas between them, not %s", at);
        ok = ok && simulate(b, count, count == 32, e);
    }
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
