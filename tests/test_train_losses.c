/* SPDX-License-Identifier: Apache-2.0
 *
 * test_train_losses: training runs on the pocket model, loss for loss and norm for norm against
 * diffusers' way of doing them (tests/fixtures/train/losses.json, tools/fixtures/train.py); every
 * optimizer on another device against the processor's. On a card, all of it:
 * LIKENESS_TEST_DEVICE=cuda LIKENESS_CUDA=path/to/liblikeness-cuda.so test_train_losses */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/half.h"
#include "foreign.h"
#include "support.h"
#include "train/trainer.h"

/* Under the sanitizers, which look at memory and not at numbers, a few batches of each run do. */
#ifdef LIKENESS_SANITIZED
enum { MOST_BATCHES = 3 };
#else
enum { MOST_BATCHES = 1000 };
#endif

typedef struct world {
    device *device;
    model *model;
    json_t *runs, *lora_runs;
    bool is_emulated; /* a card that is none (tests/cuda): a step takes many seconds */
    size_t most;      /* batches of a run */
} world;

static int world_open(void **state)
{
    static world w;
    error e = {0};
    json_error_t bad;
    w.runs = json_load_file(SOURCE_DIR "/tests/fixtures/train/losses.json", 0, &bad);
    w.lora_runs = json_load_file(SOURCE_DIR "/tests/fixtures/train/lora.json", 0, &bad);
    if (!w.runs || !w.lora_runs ||
        !device_open(&w.device, test_device(), &(device_options){.threads = 1}, &e) ||
        !model_open(&w.model, SOURCE_DIR "/models/pocket", NULL, NULL, &e)) {
        print_error("%s%s\n", e.text, w.runs ? "" : bad.text);
        return -1;
    }
    w.is_emulated = strstr(w.device->name, "emulated") != NULL;
    bool is_foreign = strcmp(test_device(), "foreign") == 0; /* its bytes are the processor's */
    w.most = w.is_emulated ? 2 : is_foreign && MOST_BATCHES > 10 ? 10 : MOST_BATCHES;
    *state = &w;
    return 0;
}

static int world_close(void **state)
{
    world *w = *state;
    json_decref(w->runs);
    json_decref(w->lora_runs);
    model_close(&w->model);
    device_close(&w->device);
    return 0;
}

static double number(const json_t *settings, const char *key, double otherwise)
{
    const json_t *v = json_object_get(settings, key);
    return json_is_boolean(v) ? json_is_true(v) : v ? json_number_value(v) : otherwise;
}

/* A path of the fixture, which is relative to the source tree. */
static const char *place(const json_t *settings, const char *key, char out[512])
{
    const char *path = json_string_value(json_object_get(settings, key));
    if (!path) return NULL;
    snprintf(out, 512, "%s/%s", SOURCE_DIR, path);
    return out;
}

static train_settings settings_of(const json_t *j, char folder[2][512])
{
    train_settings s;
    train_settings_defaults(&s);
    s.output_dir = "unused";
    s.instance_data_dir = place(j, "instance_data_dir", folder[0]);
    s.class_data_dir = place(j, "class_data_dir", folder[1]);
    s.instance_prompt = json_string_value(json_object_get(j, "instance_prompt"));
    s.class_prompt = json_string_value(json_object_get(j, "class_prompt"));
    s.resolution = (int)number(j, "resolution", 0);
    s.train_batch_size = (int)number(j, "train_batch_size", 0);
    s.gradient_accumulation_steps = (int)number(j, "gradient_accumulation_steps", 0);
    s.max_train_steps = (int64_t)number(j, "max_train_steps", 0);
    s.learning_rate = number(j, "learning_rate", 0);
    s.scale_lr = number(j, "scale_lr", 0) != 0;
    assert_true(rate_schedule_parse(&s.lr_scheduler,
                                    json_string_value(json_object_get(j, "lr_scheduler"))));
    s.lr_warmup_steps = (int64_t)number(j, "lr_warmup_steps", 0);
    s.lr_num_cycles = (int)number(j, "lr_num_cycles", 1);
    s.lr_power = number(j, "lr_power", 1);
    s.adam_beta1 = number(j, "adam_beta1", 0);
    s.adam_beta2 = number(j, "adam_beta2", 0);
    s.adam_weight_decay = number(j, "adam_weight_decay", 0);
    s.adam_epsilon = number(j, "adam_epsilon", 0);
    s.max_grad_norm = number(j, "max_grad_norm", 0);
    s.center_crop = number(j, "center_crop", 0) != 0;
    s.train_text_encoder = number(j, "train_text_encoder", 0) != 0;
    s.offset_noise = number(j, "offset_noise", 0) != 0;
    s.with_prior_preservation = number(j, "with_prior_preservation", 0) != 0;
    s.prior_loss_weight = number(j, "prior_loss_weight", 1);
    s.num_class_images = (int)number(j, "num_class_images", 100);
    s.lora_rank = (int)number(j, "rank", 0);
    s.lora_alpha = number(j, "lora_alpha", 0);
    s.snr_gamma = number(j, "snr_gamma", 0);
    s.seed = (uint64_t)number(j, "seed", 0);
    s.has_seed = true;
    return s;
}

static double value_at(const json_t *run, const char *key, size_t i)
{
    const json_t *list = json_object_get(run, key);
    assert_true(i < json_array_size(list));
    return json_number_value(json_array_get(list, i));
}

static double off(double got, double want) { return fabs(got - want) / (fabs(want) + 1e-12); }

/* How far the first ten losses, the later ones, and the norms may be off, relative. */
typedef struct bounds {
    double first, later, norm;
} bounds;

static void check_run(world *w, device *d, const json_t *run, bounds most)
{
    const char *name = json_string_value(json_object_get(run, "name"));
    const char *type = json_string_value(json_object_get(run, "prediction_type"));
    char folder[2][512];
    train_settings s = settings_of(json_object_get(run, "settings"), folder);
    size_t batches = json_array_size(json_object_get(run, "loss"));
    size_t updates = json_array_size(json_object_get(run, "synced")), done = 0;
    double worst[2] = {0, 0}, worst_norm = 0;
    if (batches > w->most) batches = w->most;
    trainer t;
    error e = {0};
    w->model->scheduler.predicts = strcmp(type, "epsilon") == 0 ? PREDICT_EPSILON : PREDICT_V;
    if (!trainer_open(&t, d, w->model, &s, NULL, &e) || !trainer_start(&t, &e))
        fail_msg("%s: %s", name, e.text);
    for (size_t i = 0; i < batches; i++) {
        train_report r;
        if (!trainer_batch(&t, &r, &e)) fail_msg("%s, batch %zu: %s", name, i, e.text);
        worst[i >= 10] = fmax(worst[i >= 10], off(r.loss, value_at(run, "loss", i)));
        worst[i >= 10] = fmax(worst[i >= 10], off(r.instance_loss, value_at(run, "instance", i)));
        if (s.with_prior_preservation)
            worst[i >= 10] = fmax(worst[i >= 10], off(r.prior_loss, value_at(run, "prior", i)));
        bool due = done < updates && value_at(run, "synced", done) == (double)(i + 1);
        assert_int_equal(r.updated, due);
        if (!due) continue;
        if (off(r.rate, value_at(run, "lr", done)) > 1e-6)
            fail_msg("%s, update %zu: rate %g, should be %g", name, done, r.rate,
                     value_at(run, "lr", done));
        worst_norm = fmax(worst_norm, off(r.norm, value_at(run, "norm", done)));
        assert_int_equal(r.step, ++done);
    }
    assert_int_equal(t.total, s.max_train_steps);
    assert_int_equal(t.skipped, 0);
    assert_true(trainer_finite(&t, &e));
    trainer_close(&t);
    w->model->scheduler.predicts = PREDICT_EPSILON;
    print_message("%-26s %2zu losses: the first ten within %.1e, the rest %.1e; norms %.1e\n", name,
                  batches, worst[0], worst[1], worst_norm);
    assert_true(worst[0] <= most.first);
    assert_true(worst[1] <= most.later);
    assert_true(worst_norm <= most.norm);
}

static bool is_among(const char *name, const char *const list[2])
{
    return strcmp(name, list[0]) == 0 || strcmp(name, list[1]) == 0;
}

static void test_runs(void **state)
{
    world *w = *state;
    size_t i;
    const json_t *run;
    /* the foreign device is slow: of both networks' kinds one */
    static const char *const few[] = {"accumulation", "text encoder prior"};
    bool all = strcmp(test_device(), "foreign") != 0 && !w->is_emulated;
    json_array_foreach(json_object_get(w->runs, "runs"), i, run)
    {
        const char *name = json_string_value(json_object_get(run, "name"));
        if (all || is_among(name, few)) check_run(w, w->device, run, (bounds){1e-4, 1e-4, 1e-3});
    }
}

/* PEFT's matrices beside the weights, as train_dreambooth_lora.py trains them. */
static void test_lora(void **state)
{
    world *w = *state;
    size_t i;
    const json_t *run;
    static const char *const few[] = {"lora text encoder prior", "lora rank 3 alpha 5 batch 2"};
    bool all = strcmp(test_device(), "foreign") != 0 && !w->is_emulated;
    json_array_foreach(json_object_get(w->lora_runs, "runs"), i, run)
    {
        const char *name = json_string_value(json_object_get(run, "name"));
        if (all || is_among(name, few)) check_run(w, w->device, run, (bounds){1e-4, 1e-4, 1e-3});
    }
}

/* On a processor that has no products of bfloat16, its device does them in other words. */
static device *half_device(dtype precision)
{
    error e = {0};
    device *d;
    device_options o = {.threads = 1, .precision = precision};
    if (!device_open(&d, test_device(), &o, &e)) fail_msg("%s", e.text);
    if (strcmp(test_device(), "cpu") == 0) d->compute = precision, d->batches_alike = false;
    return d;
}

static void check_half(world *w, dtype precision, bounds most)
{
    static const char *const few[] = {"snr_gamma prior", "text encoder prior"},
                             *const few_loras[] = {"lora text encoder prior",
                                                   "lora rank 3 alpha 5 batch 2"};
    size_t i;
    const json_t *run;
    device *d = half_device(precision);
    json_array_foreach(json_object_get(w->runs, "runs"), i, run)
    {
        const char *name = json_string_value(json_object_get(run, "name"));
        if (is_among(name, few)) check_run(w, d, run, most);
    }
    json_array_foreach(json_object_get(w->lora_runs, "runs"), i, run)
    {
        const char *name = json_string_value(json_object_get(run, "name"));
        if (is_among(name, few_loras)) check_run(w, d, run, most);
    }
    device_close(&d);
}

/* In bfloat16 (mixed precision: weights, sums and losses stay float32) the losses are those of
 * diffusers' float32 but for what products are given being rounded (to 1/512): seen, 1.5 % at most
 * of a loss and 2.7 % of a norm. */
static void test_bfloat16(void **state)
{
    world *w = *state;
    if (w->is_emulated) skip();
    check_half(w, DTYPE_BF16, (bounds){3e-2, 3e-2, 5e-2});
}

/* The UNet's weights begin as the base's: matrices within the step of float16 that those stand for,
 * evenly spread over it, and never the number midway between two of bfloat16 but by chance. */
static void check_beginnings(const world *w, trainer *t)
{
    error e = {0};
    size_t numbers = 0, midway[2] = {0, 0};
    double sum = 0;
    if (!parameters_show(&t->parameters, &e)) fail_msg("%s", e.text);
    const weight_set *set = &t->parameters.unet.set, *base = &w->model->unet_weights;
    assert_int_equal(set->count, base->count);
    for (size_t i = 0; i < set->count; i++) {
        const uint16_t *from = base->item[i].data;
        const float *got = set->item[i].data;
        assert_int_equal(base->item[i].type, DTYPE_F16);
        for (int64_t k = 0; k < weight_elements(&set->item[i]); k++) {
            float x = half_to_float(from[k]), next = half_to_float((uint16_t)(from[k] + 1)), y;
            double moved = ((double)got[k] - (double)x) / ((double)next - (double)x);
            assert_true(set->item[i].rank > 1 && x != 0 ? fabs(moved) <= 0.5 : got[k] == x);
            if (set->item[i].rank < 2) continue;
            numbers++, sum += moved;
            uint32_t bits[2];
            y = got[k];
            memcpy(&bits[0], &x, sizeof x), memcpy(&bits[1], &y, sizeof y);
            for (int j = 0; j < 2; j++) midway[j] += (bits[j] & 0xffff) == 0x8000;
        }
    }
    parameters_hide(&t->parameters);
    assert_true(fabs(sum) <= 1e-3 * (double)numbers);
    assert_true(midway[0] > numbers / 10 && midway[1] < numbers / 1000);
}

/* The losses of run i of a fixture, which has them under `key`, in bfloat16. */
static void check_losses(const world *w, const json_t *runs, size_t i, const char *key, double most,
                         double mean)
{
    const json_t *run = json_array_get(json_object_get(runs, "runs"), i);
    size_t count = json_array_size(json_object_get(run, key));
    const char *name = json_string_value(json_object_get(run, "name"));
    char folder[2][512];
    train_settings s = settings_of(json_object_get(run, "settings"), folder);
    double worst = 0, sum = 0;
    device *d = half_device(DTYPE_BF16);
    trainer t;
    train_report r;
    error e = {0};
    if (count > w->most) count = w->most;
    if (!trainer_open(&t, d, w->model, &s, NULL, &e) || !trainer_start(&t, &e))
        fail_msg("%s: %s", name, e.text);
    if (!s.lora_rank) check_beginnings(w, &t);
    for (size_t k = 0; k < count; k++) {
        if (!trainer_batch(&t, &r, &e)) fail_msg("%s, batch %zu: %s", name, k, e.text);
        double far = off(r.loss, value_at(run, key, k));
        worst = fmax(worst, far), sum += far;
    }
    trainer_close(&t);
    device_close(&d);
    print_message("%-26s in bfloat16, %zu losses against %s: within %.1e, on average %.1e\n", name,
                  count, key, worst, sum / (double)count);
    assert_true(worst <= most && sum <= mean * (double)count);
}

/* Runs of 50 steps are float32's within 2 % at every step and 0.5 % on average, at a rate too that
 * moves few weights from one number of bfloat16 to the next. */
static void test_bfloat16_losses(void **state)
{
    const world *w = *state;
    if (w->is_emulated || strcmp(test_device(), "foreign") == 0) skip();
    check_losses(w, w->runs, 4, "loss", 2e-2, 5e-3);
    check_losses(w, w->runs, 0, "loss", 2e-2, 5e-3);
    /* latents of 4 x 4: fewer numbers in a loss, so less of their rounding is averaged out */
    check_losses(w, w->lora_runs, 0, "loss_bf16", 2e-2, 5e-3);
}

/* Float16 rounds to 1/4096, and the scale that gradients begin with is not too large here. */
static void test_float16(void **state)
{
    world *w = *state;
    if (strncmp(w->device->name, "cuda", 4) != 0) skip();
    check_half(w, DTYPE_F16, (bounds){1e-2, 1e-2, 2e-2});
}

/* ---- every optimizer, on a device that is not the processor ---- */

enum { LOSSES = 50 };

/* The losses of the first fixture's run under another optimizer; how many there are before it ends
 * with what is in e. */
static int losses_with(const world *w, device *d, const train_settings *s, double loss[LOSSES],
                       error *e)
{
    trainer t;
    train_report r;
    int n = 0;
    *e = (error){0};
    if (!trainer_open(&t, d, w->model, s, NULL, e) || !trainer_start(&t, e))
        fail_msg("%s", e->text);
    while (n < LOSSES && trainer_batch(&t, &r, e)) loss[n++] = (double)r.loss;
    trainer_close(&t);
    return n;
}

static void compare_optimizer(const world *w, train_settings *s, double most, const char *name)
{
    double want[LOSSES], got[LOSSES], worst = 0;
    error e, why;
    device *cpu;
    if (!device_open(&cpu, "cpu", &(device_options){0}, &e)) fail_msg("%s", e.text);
    int n = losses_with(w, cpu, s, want, &e), m = losses_with(w, w->device, s, got, &why);
    device_close(&cpu);
    for (int i = 0; i < n && i < m; i++) worst = fmax(worst, off(got[i], want[i]));
    print_message("%-26s %2d losses within %.1e of the processor's; %s\n", name, m, worst,
                  why.text);
    assert_int_equal(n, m);
    assert_string_equal(e.text, why.text);
    assert_true(worst <= most);
}

static void test_optimizers(void **state)
{
    world *w = *state;
    char folder[2][512];
    if (strncmp(w->device->name, "cuda", 4) != 0 || w->is_emulated) skip();
    const json_t *run = json_array_get(json_object_get(w->runs, "runs"), 0);
    train_settings s = settings_of(json_object_get(run, "settings"), folder);
    assert_int_equal(json_array_size(json_object_get(run, "loss")), LOSSES);
    compare_optimizer(w, &s, 1e-4, "adamw");
    s.optimizer = OPTIMIZER_ADAMW_8BIT;
    compare_optimizer(w, &s, 1e-4, "adamw8bit");
    s.optimizer = OPTIMIZER_ADAMW_F16; /* ends in its first step, on both in the same words */
    compare_optimizer(w, &s, 1e-4, "adamw_f16");
    s.adam_epsilon = 1e-4; /* it gets by; each step rounds its weights to 1/2048 */
    compare_optimizer(w, &s, 1e-2, "adamw_f16, epsilon 1e-4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),     cmocka_unit_test(test_lora),
        cmocka_unit_test(test_bfloat16), cmocka_unit_test(test_bfloat16_losses),
        cmocka_unit_test(test_float16),  cmocka_unit_test(test_optimizers)};
    return cmocka_run_group_tests(tests, world_open, world_close);
}
