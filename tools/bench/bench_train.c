/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_train: times the training step of a model folder's UNet (DreamBooth, latents and text
 * at hand; all weights, or as "lora" a LoRA of rank 4 with AdamW) and prints one line of JSON: the
 * median seconds of forward, backward and update, and this process's peak resident memory.
 * tools/bench/bench.sh prints it beside the peer's.
 *
 *   bench_train MODEL f32|bf16|f16 adamw|adamw8bit|lora [no|yes: gradient checkpointing [THREADS=2
 * [REPEATS=2 [SIZE=512 [DEVICE=cpu [BATCH=1]]]]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "training.h"

enum { MAX_REPEATS = 100 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *seconds, int n)
{
    qsort(seconds, (size_t)n, sizeof *seconds, by_value);
    return (seconds[(n - 1) / 2] + seconds[n / 2]) / 2;
}

/* The weights: what is trained, beside a LoRA the base's too. */
static bool bind(trainer *t, step_graph *s, error *e)
{
    device_weights *sets[] = {t->parameters.unet.copy, t->base};
    return graph_bind(s->graph, sets, t->base ? 2 : 1, e);
}

/* The forward pass alone, in a graph of its own that is gone afterwards. */
static bool time_forward(trainer *t, step_options o, int repeats, double *seconds, error *e)
{
    step_graph s = {0};
    double each[MAX_REPEATS];
    o.gradients = false;
    bool ok = step_open(&s, t->device, t->model, &o, e) && graph_allocate(s.graph, e) &&
              bind(t, &s, e) && step_fill(&s, e);
    for (int i = -1; ok && i < repeats; i++) {
        double began = clock_seconds();
        ok = graph_run(s.graph, e);
        if (i >= 0) each[i] = clock_seconds() - began;
    }
    step_close(&s);
    if (ok) *seconds = median(each, repeats);
    return ok;
}

/* Whole steps: binding (packs made anew), forward, backward, clipping, AdamW. */
static bool time_steps(trainer *t, step_options o, int repeats, double *network, double *update,
                       uint64_t *left, error *e)
{
    step_graph s = {0};
    double each[MAX_REPEATS], last[MAX_REPEATS];
    bool ok = step_open(&s, t->device, t->model, &o, e) && graph_allocate(s.graph, e);
    for (int i = -1; ok && i < repeats; i++) {
        train_report r = {0};
        double began = clock_seconds();
        ok = bind(t, &s, e) && step_fill(&s, e) && graph_run(s.graph, e);
        double ran = clock_seconds();
        ok = ok && update_run(t, &s, &r, e);
        if (i < 0) continue;
        each[i] = ran - began;
        last[i] = clock_seconds() - ran;
    }
    *left = t->device->memory_left(t->device);
    step_close(&s);
    if (!ok) return false;
    *network = median(each, repeats);
    *update = median(last, repeats);
    return true;
}

/* What is trained, as t's settings say. */
static bool open_weights(trainer *t, error *e)
{
    const weight_set none = {0}, *unet = &t->model->unet_weights;
    rng random;
    rng_seed(&random, 0);
    if (t->settings.lora_rank) {
        if (!lora_open(&t->lora, t->model, &t->settings, e) || !lora_draw(&t->lora, &random, e) ||
            !device_weights_open(t->device, unet, &t->base, e))
            return false;
        unet = &t->lora.unet;
    }
    return parameters_open(&t->parameters, t->device, unet, &none, &t->settings, e);
}

static bool bench(char **argv, int argc, error *e)
{
    int threads = argc > 5 ? atoi(argv[5]) : 2, repeats = argc > 6 ? atoi(argv[6]) : 2;
    int size = argc > 7 ? atoi(argv[7]) : 512;
    static const char *const types[] = {"float32", "float16", "bfloat16"}; /* as PyTorch has them */
    dtype precision;
    bool recompute = argc > 4 && !strcmp(argv[4], "yes");
    model *m = NULL;
    device *d = NULL;
    trainer t = {0};
    double forward, network, update;
    uint64_t left = 0, least = 0;
    int batch = argc > 9 ? atoi(argv[9]) : 1;
    if (threads < 1 || repeats < 1 || repeats > MAX_REPEATS || size < 8 || batch < 1 ||
        batch > STEP_BATCH)
        return error_set(
            e, ERROR_USAGE,
            "threads, repeats (at most %d) and batch (at most %d) start at 1, size at 8",
            MAX_REPEATS, STEP_BATCH);
    if (!precision_parse(&precision, argv[2]))
        return error_set(e, ERROR_USAGE, "there is no type %s", argv[2]);
    if (strcmp(argv[3], "adamw") && strcmp(argv[3], "adamw8bit") && strcmp(argv[3], "lora"))
        return error_set(e, ERROR_USAGE, "there is no optimizer %s", argv[3]);
    train_settings_defaults(&t.settings);
    t.settings.optimizer = strcmp(argv[3], "adamw8bit") ? OPTIMIZER_ADAMW : OPTIMIZER_ADAMW_8BIT;
    t.settings.lora_rank = strcmp(argv[3], "lora") ? 0 : 4;
    train_settings_resolve(&t.settings);
    t.rate = train_learning_rate(&t.settings);
    t.total = repeats + 1;
    device_options options = {.threads = threads, .precision = precision};
    bool ok = model_open(&m, argv[1], NULL, NULL, e) &&
              device_open(&d, argc > 8 ? argv[8] : "cpu", &options, e);
    if (ok) {
        left = d->memory_left(d);
        step_options o = {.samples = batch,
                          .height = size / 8,
                          .width = size / 8,
                          .recompute = recompute,
                          .gradients = true,
                          .lora = lora_branch_of(&t.settings)};
        t.device = d;
        t.model = m;
        ok = open_weights(&t, e) && time_forward(&t, o, repeats, &forward, e) &&
             time_steps(&t, o, repeats, &network, &update, &least, e);
    }
    if (ok)
        printf("{\"row\": \"train\", \"type\": \"%s\", \"optimizer\": \"%s\", \"checkpointing\": "
               "\"%s\", \"forward_s\": %.4f, \"backward_s\": %.4f, \"optimizer_s\": %.4f, "
               "\"seconds\": %.4f, \"peak_mb\": %.1f, \"device_mb\": %.1f, \"batch\": %d, "
               "\"device\": \"%s\"}\n",
               types[precision], argv[3], recompute ? "yes" : "no", forward, network - forward,
               update, network + update, (double)memory_peak() / 1048576,
               ((double)left - (double)least) / 1048576, batch, d->name);
    parameters_close(&t.parameters);
    device_weights_close(&t.base);
    lora_close(&t.lora);
    device_close(&d);
    model_close(&m);
    return ok;
}

int main(int argc, char **argv)
{
    error e = {0};
    if (argc < 4 || argc > 10) {
        fprintf(
            stderr,
            "use: bench_train MODEL f32|bf16|f16 adamw|adamw8bit|lora [no|yes [THREADS [REPEATS "
            "[SIZE [DEVICE [BATCH]]]]]]\n");
        return 2;
    }
    if (bench(argv, argc, &e)) return 0;
    fprintf(stderr, "bench_train: %s\n", e.text);
    return 1;
}
