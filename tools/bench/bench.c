/* SPDX-License-Identifier: Apache-2.0
 *
 * bench: times one network of a model folder and prints one line of JSON: the median seconds of a
 * run, the seconds from start to the first run, and this process's peak resident memory. One row
 * per process, so that the peak is the row's own; tools/bench/bench.sh runs every row and the
 * peer's.
 *
 *   bench MODEL unet|vae|text f32|bf16|f16 [THREADS=2 [REPEATS=3 [SIZE=512 [DEVICE=cpu]]]]
 *
 * unet is one evaluation at batch 2 with the whole network (cross-attention's keys and values
 * included, as the peer computes them); vae decodes one latent; text encodes two prompts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "network.h"

enum { MAX_REPEATS = 100 };

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
static bool job_time(job *j, int repeats, double *median, error *e)
{
    double seconds[MAX_REPEATS];
    for (int i = -1; i < repeats; i++) {
        double start = clock_seconds();
        if (!graph_run(j->g, e)) return false;
        if (i >= 0) seconds[i] = clock_seconds() - start;
    }
    qsort(seconds, (size_t)repeats, sizeof *seconds, by_value);
    *median = seconds[repeats / 2];
    return true;
}

/* What the device has before anything is put there. */
static bool memory_begins(device *d, uint64_t *left)
{
    *left = d->memory_left(d);
    return true;
}

static bool bench(char **argv, int threads, int repeats, int64_t size, error *e)
{
    model *m = NULL;
    device *d = NULL;
    device_weights *weights = NULL;
    job j = {0};
    double start = clock_seconds(), median = 0, ready = 0;
    static const char *const types[] = {"float32", "float16", "bfloat16"}; /* as PyTorch has them */
    dtype precision;
    uint64_t left = 0;
    bool ok = (precision_parse(&precision, argv[3]) ||
               error_set(e, ERROR_USAGE, "there is no type %s", argv[3])) &&
              device_open(&d, argv[7] ? argv[7] : "cpu",
                          &(device_options){.threads = threads, .precision = precision}, e) &&
              memory_begins(d, &left) &&
              model_open_with(&m, argv[1], NULL, NULL, d->pool, NULL, e) &&
              graph_open(&j.g, d->compute, e) && job_record(&j, m, argv[2], size, e) &&
              graph_plan(j.g, d, e) && graph_allocate(j.g, e) &&
              device_weights_open(d, j.weights, &weights, e) && graph_bind(j.g, &weights, 1, e) &&
              job_fill(&j, e);
    ready = clock_seconds() - start;
    ok = ok && job_time(&j, repeats, &median, e) && job_finite(&j, e);
    if (ok)
        printf("{\"row\": \"%s\", \"type\": \"%s\", \"seconds\": %.6f, \"ready\": %.3f, "
               "\"graph_mb\": %.1f, \"peak_mb\": %.1f, \"device_mb\": %.1f, \"device\": \"%s\"}\n",
               argv[2], types[precision], median, ready, (double)graph_bytes(j.g) / 1048576,
               (double)memory_peak() / 1048576,
               ((double)left - (double)d->memory_left(d)) / 1048576, d->name);
    graph_close(&j.g);
    device_weights_close(&weights);
    device_close(&d);
    model_close(&m);
    return ok;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 8) {
        fprintf(stderr, "use: bench MODEL unet|vae|text f32|bf16|f16 [THREADS [REPEATS [SIZE "
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
    if (!bench(argv, threads, repeats, size, &e)) {
        fprintf(stderr, "bench: %s\n", e.text);
        return 1;
    }
    return 0;
}
