/* SPDX-License-Identifier: Apache-2.0
 *
 * test_train_cuda: trainings on the GPU's device, against the same on the processor: losses and
 * norms agree to rounding, runs repeat and resume to the byte, a checkpoint of one goes on on the
 * other; half precision, and steps that are too large for it; and what a GPU that is not there, or
 * too old, has to say. Where there is no card it is the emulated one (tests/cuda), whose hardware
 * LIKENESS_EMULATED describes. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/half.h"
#include "base/platform.h"
#include "support.h"
#include "toy.h"
#include "train/train.h"

enum { STEPS = 4 };

static model *base;
static device *cpu, *gpu, *half; /* half: the GPU in float16 */
static char output[600];

static train_settings settings(train_optimizer optimizer)
{
    train_settings s;
    train_settings_defaults(&s);
    s.instance_data_dir = SOURCE_DIR "/examples/subject";
    s.instance_prompt = "a dog";
    s.output_dir = output;
    s.learning_rate = 1e-3;
    s.resolution = 16; /* latents of 8 x 8: half the toy's own, an emulated card is slow */
    s.train_batch_size = 1;
    s.max_train_steps = STEPS;
    s.checkpointing_steps = 2;
    s.optimizer = optimizer;
    s.has_seed = true;
    return s;
}

/* A LoRA's training, or a new word's. */
static train_settings part_settings(bool word)
{
    train_settings s = settings(OPTIMIZER_ADAMW);
    s.resolution = 8;
    s.lora_rank = word ? 0 : 2;
    s.train_text_encoder = s.lora_rank;
    s.textual_inversion = word;
    if (!word) return s;
    s.instance_prompt = NULL;
    s.placeholder_token = "<new>";
    s.initializer_token = "a";
    s.num_vectors = 2;
    return s;
}

typedef struct history {
    double loss[STEPS], norm[STEPS];
} history;

static history losses(device *d, const train_settings *s)
{
    trainer t;
    train_report r;
    error e = {0};
    history h;
    if (!trainer_open(&t, d, base, s, NULL, &e) || !trainer_start(&t, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < STEPS;) {
        if (!trainer_batch(&t, &r, &e)) fail_msg("%s: %s", d->name, e.text);
        if (!r.updated) continue;
        h.loss[i] = (double)r.loss, h.norm[i++] = r.norm;
    }
    trainer_close(&t);
    return h;
}

/* Those on d against the processor's, relative. */
static void agree(device *d, const train_settings *s, double most, double most_norm)
{
    history a = losses(cpu, s), b = losses(d, s), again = losses(d, s);
    for (int i = 0; i < STEPS; i++) {
        if (fabs(a.loss[i] - b.loss[i]) > most * a.loss[i] ||
            fabs(a.norm[i] - b.norm[i]) > most_norm * a.norm[i])
            fail_msg("step %d: loss %.9g, norm %.9g; on the GPU %.9g, %.9g", i + 1, a.loss[i],
                     a.norm[i], b.loss[i], b.norm[i]);
        assert_true(b.loss[i] == again.loss[i] && b.norm[i] == again.norm[i]);
    }
}

static void test_float32(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW);
    (void)state;
    s.train_text_encoder = true;
    s.gradient_accumulation_steps = 2;
    s.train_batch_size = 2;
    agree(gpu, &s, 1e-4, 1e-3);
}

static void test_8bit(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW_8BIT);
    (void)state;
    s.gradient_checkpointing = true;
    agree(gpu, &s, 1e-4, 1e-3);
}

/* The optimizer that is in half precision itself fails on both alike, or gets by. */
static void test_half_optimizer(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW_F16);
    device *const devices[] = {cpu, gpu};
    char text[2][2048];
    (void)state;
    for (int k = 0; k < 2; k++) {
        trainer t;
        train_report r;
        error e = {0};
        if (!trainer_open(&t, devices[k], base, &s, NULL, &e) || !trainer_start(&t, &e))
            fail_msg("%s", e.text);
        assert_false(trainer_batch(&t, &r, &e));
        assert_int_equal(e.code, ERROR_NUMERIC);
        snprintf(text[k], sizeof text[k], "%s", e.text);
        trainer_close(&t);
    }
    assert_string_equal(text[0], text[1]);
    assert_non_null(strstr(text[0], "step 1: the update makes element"));
    s.adam_epsilon = 1e-4;
    agree(gpu, &s, 5e-3, 5e-2);
}

/* ---- half precision: the loss is scaled ---- */

static void open_half(trainer *t, const train_settings *s)
{
    error e = {0};
    if (!trainer_open(t, half, base, s, NULL, &e) || !trainer_start(t, &e)) fail_msg("%s", e.text);
    assert_true(t->scaler.scale == LOSS_SCALE_FIRST);
}

static void test_float16(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW);
    (void)state;
    s.gradient_accumulation_steps = 2;
    agree(half, &s, 5e-3, 2e-2);
}

/* A LoRA's matrices, and a new word's rows: the base's weights are rounded once, theirs are not. */
static void test_float16_parts(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        train_settings s = part_settings(k);
        agree(half, &s, 5e-3, 2e-2);
    }
}

static void *bytes_of(const buffer *b)
{
    void *data = malloc(b->size);
    error e = {0};
    assert_non_null(data);
    if (!half->download(half, b, 0, data, b->size, &e)) fail_msg("%s", e.text);
    return data;
}

/* Of them too a step that is too large is skipped, and leaves their bytes. */
static void test_overflow_parts(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        train_settings s = part_settings(k);
        trainer t;
        train_report r;
        error e = {0};
        s.max_train_steps = 40;
        open_half(&t, &s);
        const buffer *b = k ? &t.parameters.clip.weights : &t.parameters.unet.weights;
        t.scaler.scale = 0x1p60f;
        void *before = bytes_of(b), *after;
        if (!trainer_batch(&t, &r, &e)) fail_msg("%s", e.text);
        assert_true(r.skipped && isfinite(r.loss) && t.scaler.scale == 0x1p59f);
        after = bytes_of(b);
        assert_memory_equal(before, after, b->size);
        free(after);
        for (t.scaler.scale = LOSS_SCALE_FIRST, r.skipped = true; r.skipped;)
            if (!trainer_batch(&t, &r, &e)) fail_msg("%s", e.text);
        after = bytes_of(b);
        assert_true(memcmp(before, after, b->size) != 0);
        assert_true(trainer_finite(&t, &e));
        free(before);
        free(after);
        trainer_close(&t);
    }
}

/* Gradients that are really infinite: steps are skipped until the scale fits, then it learns. */
static void test_overflow(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW_8BIT);
    trainer t;
    train_report r;
    error e = {0};
    (void)state;
    s.max_train_steps = 40;
    open_half(&t, &s);
    size_t size = t.parameters.unet.weights.size;
    float scale = t.scaler.scale = 0x1p22f; /* too large by some powers of two */
    void *before = bytes_of(&t.parameters.unet.weights), *after;
    for (r.skipped = true; r.skipped; scale /= 2) {
        if (!trainer_batch(&t, &r, &e)) fail_msg("%s", e.text);
        assert_true(r.updated && r.loss_scale == scale && isfinite(r.loss));
        assert_int_equal(isfinite(r.norm), !r.skipped);
        after = bytes_of(&t.parameters.unet.weights);
        assert_int_equal(memcmp(before, after, size) == 0, r.skipped);
        free(after);
    }
    assert_true(t.skipped >= 1 && t.done == t.skipped + 1 && t.scaler.good == 1);
    assert_true(t.scaler.scale == scale * 2);
    assert_true(trainer_finite(&t, &e));
    free(before);
    trainer_close(&t);
}

static void test_refused_together(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW_F16);
    trainer t;
    error e = {0};
    (void)state;
    assert_false(trainer_open(&t, half, base, &s, NULL, &e));
    assert_int_equal(e.code, ERROR_USAGE);
    assert_non_null(strstr(e.text, "--mixed_precision fp16 and --optimizer_precision fp16"));
}

/* ---- whole runs ---- */

static int changes; /* how often a run said that it goes on elsewhere */

static void on_say(void *user, const char *line)
{
    (void)user;
    changes += strstr(line, "those of an unbroken run but for rounding, not its bytes") != NULL;
}

static bool run(device *d, const train_settings *s, error *e)
{
    train_events events = {.say = on_say};
    *e = (error){0};
    changes = 0;
    return train_run(d, base, s, NULL, &events, e);
}

enum { FILES = 2 };

static const char *const files[FILES] = {"unet/diffusion_pytorch_model.safetensors",
                                         "optimizer.safetensors"};

/* The last checkpoint of a run. */
typedef struct kept {
    char *data[FILES];
    size_t size[FILES];
} kept;

static kept result(void)
{
    kept k;
    for (int i = 0; i < FILES; i++) {
        char path[800];
        error e = {0};
        snprintf(path, sizeof path, "%s/checkpoint-4/%s", output, files[i]);
        if (!file_read(path, (size_t)1 << 30, &k.data[i], &k.size[i], &e)) fail_msg("%s", e.text);
    }
    return k;
}

static void kept_free(kept *k)
{
    for (int i = 0; i < FILES; i++) free(k->data[i]);
}

/* The whole run on one device, and from its checkpoint-2 on on another. */
static kept whole_on(device *d, train_settings s)
{
    error e = {0};
    if (path_exists(output) && !folder_remove(output, &e)) fail_msg("%s", e.text);
    if (!run(d, &s, &e)) fail_msg("%s", e.text);
    return result();
}

static kept resumed_on(device *d, train_settings s, bool elsewhere)
{
    char path[700];
    error e = {0};
    snprintf(path, sizeof path, "%s/checkpoint-4", output);
    if (!folder_remove(path, &e)) fail_msg("%s", e.text);
    s.resume_from_checkpoint = "checkpoint-2";
    if (!run(d, &s, &e)) fail_msg("%s", e.text);
    assert_int_equal(changes, elsewhere);
    return result();
}

static void same_bytes(device *d, const train_settings *s)
{
    kept a = whole_on(d, *s), b = resumed_on(d, *s, false);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(a.size[i], b.size[i]);
        assert_memory_equal(a.data[i], b.data[i], a.size[i]);
    }
    kept_free(&a);
    kept_free(&b);
}

/* How far weights of a checkpoint have moved away from those of another, in their steps. */
static double distance(const kept *a, const kept *b, dtype type)
{
    size_t item = dtype_size(type);
    uint64_t header;
    double worst = 0;
    assert_int_equal(a->size[0], b->size[0]);
    memcpy(&header, a->data[0], sizeof header);
    for (size_t at = sizeof header + (size_t)header; at + item <= a->size[0]; at += item) {
        float x, y;
        convert_to_float(&x, a->data[0] + at, type, 1);
        convert_to_float(&y, b->data[0] + at, type, 1);
        worst = fmax(worst, fabs((double)x - (double)y));
    }
    return worst / 1e-3; /* the learning rate: about how far one step goes */
}

/* A checkpoint of one device goes on on the other: the numbers are those of its own run. */
static void crosses(device *from, device *to, const train_settings *s, double most)
{
    dtype type = s->optimizer == OPTIMIZER_ADAMW_F16 ? DTYPE_F16 : DTYPE_F32;
    kept a = whole_on(from, *s), b = resumed_on(to, *s, true);
    double far = distance(&a, &b, type);
    if (far > most) fail_msg("%s to %s: %.3g steps apart", from->name, to->name, far);
    kept_free(&a);
    kept_free(&b);
}

static void test_resume(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW), bytes = settings(OPTIMIZER_ADAMW_8BIT),
                   f16 = settings(OPTIMIZER_ADAMW_F16);
    error e = {0};
    (void)state;
    f16.adam_epsilon = 1e-4;
    same_bytes(gpu, &s);
    same_bytes(half, &bytes);
    crosses(gpu, cpu, &s, 0.1);
    crosses(cpu, gpu, &bytes, 0.1);
    crosses(cpu, gpu, &f16, 0.5);
    assert_true(folder_remove(output, &e));
}

/* ---- what goes wrong ---- */

static void hardware(const char *text)
{
    if (text)
        setenv("LIKENESS_EMULATED", text, 1);
    else
        unsetenv("LIKENESS_EMULATED");
}

static void refused(const char *what, const char *name, dtype precision, const char *part)
{
    device *d;
    error e = {0}, why = {0};
    device_options o = {.threads = 1, .precision = precision};
    hardware(what);
    assert_false(device_open(&d, name, &o, &e));
    if (!strstr(e.text, part)) fail_msg("%s: %s", what, e.text);
    assert_null(strchr(e.text, '\n'));
    o.passed_over = &why;
    e = (error){0};
    if (strchr(name, ':') == NULL) { /* auto goes on with the processor, and knows why */
        assert_true(device_open(&d, "auto", &o, &e));
        assert_int_equal(strncmp(d->name, "cpu", 3), 0);
        assert_non_null(strstr(why.text, part));
        device_close(&d);
    }
    hardware(NULL);
}

static void test_no_card(void **state)
{
    (void)state;
    if (!strstr(gpu->name, "emulated")) skip();
    refused("driver=0", "cuda", DTYPE_F32, "there is no NVIDIA driver");
    refused("driver=12", "cuda", DTYPE_F32, "driver is too old (it has CUDA 12.0");
    refused("cards=0", "cuda", DTYPE_F32, "finds no GPU");
    refused("cards=1", "cuda:9", DTYPE_F32, "device cuda:9: there is one GPU, cuda:0");
    refused("cards=2", "cuda:2", DTYPE_F32, "there are 2 GPUs, cuda:0 to cuda:1");
    refused("cards=1", "cuda:x", DTYPE_F32, "write cuda, or cuda: and a number");
    refused("cards=1", "cuda: 0", DTYPE_F32, "write cuda, or cuda: and a number");
    refused("major=6", "cuda", DTYPE_F32, "is too old (compute capability 6.0");
    refused("major=7,minor=5", "cuda", DTYPE_BF16, "has no bfloat16: use --precision f16 or f32");
}

/* ---- the forecast of memory ---- */

#define ENOUGH ((uint64_t)1 << 40)

static uint64_t free_memory = ENOUGH; /* of the host, as the forecast hears */
uint64_t __wrap_memory_available(void);
uint64_t __wrap_memory_available(void) { return free_memory; }

/* The card has so much left. */
static void leave(double bytes)
{
    char text[64];
    hardware(NULL);
    uint64_t left = gpu->memory_left(gpu);
    snprintf(text, sizeof text, "memory=%.0f", (double)((uint64_t)1 << 34) - (double)left + bytes);
    hardware(text);
}

static void tries(const train_settings *s, trainer *t, error *e)
{
    train_report r;
    *e = (error){0};
    if (!trainer_open(t, gpu, base, s, NULL, e)) return;
    if (trainer_start(t, e)) trainer_batch(t, &r, e);
}

/* What is foretold is enough, and not far from what is used; with less it is refused before
 * anything is there, and says what would help. */
static void forecast_holds(const train_settings *s, const char *advice)
{
    trainer t;
    error e;
    hardware(NULL);
    tries(s, &t, &e); /* what a device keeps for good is there from here on */
    if (e.code) fail_msg("%s", e.text);
    train_needs n = trainer_needs(&t);
    trainer_close(&t);
    leave(n.total);
    uint64_t before = gpu->memory_left(gpu);
    tries(s, &t, &e);
    if (e.code) fail_msg("%.0f foretold: %s", n.total, e.text);
    double used = (double)(before - gpu->memory_left(gpu));
    trainer_close(&t);
    if (used < 0.6 * n.total) fail_msg("%.0f foretold, %.0f used", n.total, used);
    leave(0.9 * n.total);
    before = gpu->memory_left(gpu);
    assert_false(trainer_open(&t, gpu, base, s, NULL, &e));
    assert_int_equal(e.code, ERROR_MEMORY);
    if (!strstr(e.text, "of the device's memory") || !strstr(e.text, advice))
        fail_msg("%s", e.text);
    assert_true(gpu->memory_left(gpu) == before);
    hardware(NULL);
    free_memory = (uint64_t)n.host - 1;
    e = (error){0};
    assert_false(trainer_open(&t, gpu, base, s, NULL, &e));
    free_memory = ENOUGH;
    assert_int_equal(e.code, ERROR_MEMORY);
    assert_non_null(strstr(e.text, "a checkpoint needs"));
}

static void test_forecast(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW);
    (void)state;
    if (!strstr(gpu->name, "emulated")) skip();
    forecast_holds(&s, "can be had; add --gradient_checkpointing, add --use_8bit_adam, use a");
    s.train_text_encoder = s.prior_from_base = true;
    s.class_prompt = "a cat";
    forecast_holds(&s, "add --use_8bit_adam, leave out --train_text_encoder, use a smaller");
    s = settings(OPTIMIZER_ADAMW_8BIT);
    s.gradient_checkpointing = true;
    s.gradient_accumulation_steps = 2;
    forecast_holds(&s, "can be had; use a smaller --resolution or --train_batch_size");
    s = settings(OPTIMIZER_ADAMW_F16);
    s.adam_epsilon = 1e-4;
    forecast_holds(&s, "add --gradient_checkpointing, use a smaller");
}

/* Validation makes pictures beside all that. */
static void test_forecast_pictures(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW);
    trainer t;
    error e = {0};
    (void)state;
    assert_true(trainer_open(&t, gpu, base, &s, NULL, &e));
    train_needs without = trainer_needs(&t);
    trainer_close(&t);
    s.validation_prompt = "a dog";
    assert_true(trainer_open(&t, gpu, base, &s, NULL, &e));
    train_needs with = trainer_needs(&t);
    trainer_close(&t);
    double copies = 0;
    const weight_set *sets[] = {&base->unet_weights, &base->vae_weights, &base->clip_weights};
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < sets[k]->count; i++)
            copies += (double)weight_elements(&sets[k]->item[i]) * sizeof(float);
    assert_true(with.pictures >= copies && with.total >= without.total + copies);
    assert_true(without.pictures == 0 && with.weights == without.weights);
}

static int open_all(void **state)
{
    (void)state;
    error e = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/toy", scratch_dir());
    snprintf(output, sizeof output, "%s/out", scratch_dir());
    if (toy_stable_diffusion(path, &e) && model_open(&base, path, NULL, NULL, &e) &&
        device_open(&cpu, "cpu", &(device_options){.threads = 2}, &e) &&
        device_open(&gpu, "cuda", &(device_options){.threads = 2}, &e) &&
        device_open(&half, "cuda", &(device_options){.threads = 2, .precision = DTYPE_F16}, &e))
        return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

static int close_all(void **state)
{
    (void)state;
    device_close(&cpu);
    device_close(&gpu);
    device_close(&half);
    model_close(&base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float32),        cmocka_unit_test(test_8bit),
        cmocka_unit_test(test_half_optimizer), cmocka_unit_test(test_float16),
        cmocka_unit_test(test_float16_parts),  cmocka_unit_test(test_overflow_parts),
        cmocka_unit_test(test_overflow),       cmocka_unit_test(test_refused_together),
        cmocka_unit_test(test_resume),         cmocka_unit_test(test_no_card),
        cmocka_unit_test(test_forecast),       cmocka_unit_test(test_forecast_pictures),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
