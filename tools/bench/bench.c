/* SPDX-License-Identifier: Apache-2.0
 *
 * bench: times one network of a model folder and prints one line of JSON: the median seconds of a
 * run, the seconds from start to the first run, and this process's peak resident memory. One row
 * per process, so that the peak is the row's own; tools/bench/bench.sh runs every row and the
 * peer's.
 *
 *   bench MODEL guided|unet|vae|text f32|bf16|f16 [THREADS=2 [REPEATS=3 [SIZE=512 [DEVICE=cpu]]]]
 *
 * guided is a step of a picture with guidance, as generate makes it: one latent under two texts
 * that were read before. unet is the same evaluation of two latents with the whole network (cross-
 * attention's keys and values included), as the peer makes it in either case; vae decodes one
 * latent; text encodes two prompts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "base/random.h"
#include "network.h"
#include "pipeline/denoise.h"

enum { MAX_REPEATS = 100 };

/* What a row tells. */
typedef struct timing {
    double median, ready; /* seconds of a run, and from start to the first */
    size_t graph_bytes;
    uint64_t left; /* of the device's memory, with all in place */
} timing;

static bool job_finite(job *j, error *e)
{
    size_t n = tensor_count(j->output), bad = 0;
    float *value = malloc(n * sizeof *value);
    if (!value) return error_memory(e, "the output", n * sizeof *value);
    bool ok = graph_read(j->g, j->output, value, e);
    for (size_t i = 0; ok && i < n && j->output->type == DTYPE_F32; i++) bad += !isfinite(value[i]);
    free(value);
    return ok && (bad == 0 ||
                  error_set(e, ERROR_NUMERIC, "%zu of %zu output values are not finite", bad, n));
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One run to warm up, then the median of the others. */
static bool run_timed(bool (*run)(void *, error *), void *what, int repeats, double *median,
                      error *e)
{
    double seconds[MAX_REPEATS];
    for (int i = -1; i < repeats; i++) {
        double start = clock_seconds();
        if (!run(what, e)) return false;
        if (i >= 0) seconds[i] = clock_seconds() - start;
    }
    qsort(seconds, (size_t)repeats, sizeof *seconds, by_value);
    *median = (seconds[(repeats - 1) / 2] + seconds[repeats / 2]) / 2;
    return true;
}

static bool run_job(void *j, error *e) { return graph_run(((job *)j)->g, e); }

static bool time_network(const char *row, device *d, const model *m, int64_t size, int repeats,
                         double start, timing *out, error *e)
{
    job j = {0};
    device_weights *weights = NULL;
    bool ok = graph_open(&j.g, d->compute, e) && job_record(&j, m, row, size, e) &&
              graph_plan(j.g, d, e) && graph_allocate(j.g, e) &&
              device_weights_open(d, j.weights, &weights, e) && graph_bind(j.g, &weights, 1, e) &&
              job_fill(&j, e);
    out->ready = clock_seconds() - start;
    ok = ok && run_timed(run_job, &j, repeats, &out->median, e) && job_finite(&j, e);
    if (ok) out->graph_bytes = graph_bytes(j.g), out->left = d->memory_left(d);
    graph_close(&j.g);
    device_weights_close(&weights);
    return ok;
}

typedef struct guided {
    denoiser *n;
    float *x, *out; /* [1,h,w,C], [2,h,w,C'] */
} guided;

static bool run_guided(void *what, error *e)
{
    guided *g = what;
    return denoiser_run(g->n, g->x, 500, g->out, "a step", e);
}

static bool time_guided(device *d, const model *m, int64_t size, int repeats, double start,
                        timing *out, error *e)
{
    pipeline p = {d, m};
    guided g = {0};
    int side = (int)size / 8;
    size_t map = (size_t)side * (size_t)side;
    size_t n = map * (size_t)m->unet.in_channels, predicted = map * (size_t)m->unet.out_channels,
           text = 2 * (size_t)m->clip.positions * (size_t)m->unet.cross_dim;
    float *states = malloc((text + 1) * sizeof *states);
    rng r;
    rng_seed(&r, 0);
    g.x = malloc((n + 1) * sizeof *g.x);
    g.out = malloc((2 * predicted + 1) * sizeof *g.out);
    bool ok = (states && g.x && g.out) || error_memory(e, "an input", n * sizeof *g.x);
    if (ok) rng_randn(&r, g.x, n), rng_randn(&r, states, text);
    ok = ok && denoiser_open(&g.n, &p, 1, m->unet.conditional ? 2 : 1, 0, side, side, NULL, e) &&
         (!m->unet.conditional || denoiser_read(g.n, states, e));
    out->ready = clock_seconds() - start;
    ok = ok && run_timed(run_guided, &g, repeats, &out->median, e);
    if (ok) out->graph_bytes = denoiser_bytes(g.n), out->left = d->memory_left(d);
    denoiser_close(&g.n);
    free(states), free(g.x), free(g.out);
    return ok;
}

/* What the device has before anything is put there. */
static bool memory_begins(device *d, uint64_t *left)
{
    *left = d->memory_left(d);
    return true;
}

static bool bench(char **argv, const char *where, int threads, int repeats, int64_t size, error *e)
{
    model *m = NULL;
    device *d = NULL;
    timing t = {0};
    double start = clock_seconds();
    static const char *const types[] = {"float32", "float16", "bfloat16"}; /* as PyTorch has them */
    dtype precision;
    uint64_t left = 0;
    bool ok = (precision_parse(&precision, argv[3]) ||
               error_set(e, ERROR_USAGE, "there is no type %s", argv[3])) &&
              device_open(&d, where, &(device_options){.threads = threads, .precision = precision},
                          e) &&
              memory_begins(d, &left) &&
              model_open_with(&m, argv[1], NULL, NULL, d->pool, NULL, e) &&
              (strcmp(argv[2], "guided") ? time_network(argv[2], d, m, size, repeats, start, &t, e)
                                         : time_guided(d, m, size, repeats, start, &t, e));
    if (ok)
        printf("{\"row\": \"%s\", \"type\": \"%s\", \"seconds\": %.6f, \"ready\": %.3f, "
               "\"graph_mb\": %.1f, \"peak_mb\": %.1f, \"device_mb\": %.1f, \"device\": \"%s\"}\n",
               argv[2], types[precision], t.median, t.ready, (double)t.graph_bytes / 1048576,
               (double)memory_peak() / 1048576, ((double)left - (double)t.left) / 1048576, d->name);
    device_close(&d);
    model_close(&m);
    return ok;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 8) {
        fprintf(stderr,
                "use: bench MODEL guided|unet|vae|text f32|bf16|f16 [THREADS [REPEATS [SIZE "
                "[DEVICE]]]]\n");
        return 2;
    }
    int threads = argc > 4 ? atoi(argv[4]) : 2;
    int repeats = argc > 5 ? atoi(argv[5]) : 3;
    int size = argc > 6 ? atoi(argv[6]) : 512;
    if (threads < 1 || repeats < 1 || repeats > MAX_REPEATS || size < 8) {
        fprintf(stderr, "bench: threads and repeats (at most %d) start at 1, size at 8\n",
                MAX_REPEATS);
        return 2;
    }
    error e = {0};
    if (!bench(argv, argc > 7 ? argv[7] : "cpu", threads, repeats, size, &e)) {
        fprintf(stderr, "bench: %s\n", e.text);
        return 1;
    }
    return 0;
}
