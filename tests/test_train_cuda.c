/* SPDX-License-Identifier: Apache-2.0
 *
 * test_train_cuda: trainings on the GPU's device, against the same on the processor: losses and
 * norms agree to rounding, runs repeat and resume to the byte, a checkpoint of one goes on on the
 * other; and what a GPU that is not there, too small, too old or lost has to say. Where there is no
 * card it is the emulated one (tests/cuda), whose hardware LIKENESS_EMULATED describes. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/platform.h"
#include "support.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/train.h"

enum { STEPS = 4 };

static model *base;
static device *cpu, *gpu;
static char output[600];

static train_settings settings(train_optimizer optimizer)
{
    train_settings s;
    train_settings_defaults(&s);
    s.instance_data_dir = SOURCE_DIR "/examples/subject";
    s.instance_prompt = "a dog";
    s.output_dir = output;
    s.learning_rate = 1e-3;
    s.max_train_steps = STEPS;
    s.checkpointing_steps = 2;
    s.optimizer = optimizer;
    s.has_seed = true;
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

static void agree(const train_settings *s)
{
    history a = losses(cpu, s), b = losses(gpu, s), again = losses(gpu, s);
    for (int i = 0; i < STEPS; i++) {
        if (fabs(a.loss[i] - b.loss[i]) > 1e-4 * a.loss[i] ||
            fabs(a.norm[i] - b.norm[i]) > 1e-3 * a.norm[i])
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
    agree(&s);
}

static void test_8bit(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW_8BIT);
    (void)state;
    s.gradient_checkpointing = true;
    agree(&s);
}

/* ---- whole runs ---- */

static bool run(device *d, const train_settings *s, error *e)
{
    train_events events = {0};
    *e = (error){0};
    return train_run(d, base, s, NULL, &events, e);
}

static char *result(size_t *size)
{
    char path[700], *data;
    error e = {0};
    snprintf(path, sizeof path, "%s/checkpoint-4/optimizer.safetensors", output);
    if (!file_read(path, (size_t)1 << 30, &data, size, &e)) fail_msg("%s", e.text);
    return data;
}

/* The run from checkpoint-2 on: its last checkpoint. */
static char *resumed(device *d, size_t *size)
{
    train_settings s = settings(OPTIMIZER_ADAMW);
    char path[700];
    error e = {0};
    snprintf(path, sizeof path, "%s/checkpoint-4", output);
    if (!folder_remove(path, &e)) fail_msg("%s", e.text);
    s.resume_from_checkpoint = "checkpoint-2";
    if (!run(d, &s, &e)) fail_msg("%s", e.text);
    return result(size);
}

static void test_resume(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW);
    size_t size, other;
    error e = {0};
    (void)state;
    if (!run(gpu, &s, &e)) fail_msg("%s", e.text);
    char *whole = result(&size), *on_gpu = resumed(gpu, &other);
    assert_int_equal(size, other);
    assert_memory_equal(whole, on_gpu, size);
    free(resumed(cpu, &other));
    assert_int_equal(size, other);
    free(whole);
    free(on_gpu);
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
    refused("major=6", "cuda", DTYPE_F32, "is too old (compute capability 6.0");
    refused("major=7,minor=5", "cuda", DTYPE_BF16, "has no bfloat16: use --precision f16");
}

/* Wherever the memory ends: one line, and nothing is left behind. */
static void test_little_memory(void **state)
{
    train_settings s = settings(OPTIMIZER_ADAMW);
    (void)state;
    if (!strstr(gpu->name, "emulated")) skip();
    for (long memory = 1000; memory < 100000000; memory *= 10) {
        char text[64];
        error e = {0};
        trainer t;
        snprintf(text, sizeof text, "memory=%ld", memory);
        hardware(text);
        bool ok = trainer_open(&t, gpu, base, &s, NULL, &e) && trainer_start(&t, &e);
        if (!ok && (e.code != ERROR_MEMORY || strchr(e.text, '\n')))
            fail_msg("%s: %s", text, e.text);
        if (memory == 1000) assert_false(ok);
        trainer_close(&t);
    }
    hardware(NULL);
}

/* The card is lost at some call: the run ends with one line, and what it has saved by then is good.
 */
static void test_lost(void **state)
{
    (void)state;
    int ended = 0;
    if (!strstr(gpu->name, "emulated")) skip();
    for (long at = 1000; at <= 4000; at *= 4) {
        train_settings s = settings(OPTIMIZER_ADAMW);
        char text[64];
        error e = {0};
        device *d;
        if (!device_open(&d, "cuda", &(device_options){.threads = 1}, &e)) fail_msg("%s", e.text);
        snprintf(text, sizeof text, "fail=%ld", at);
        hardware(text);
        bool ok = run(d, &s, &e);
        hardware(NULL);
        if (!ok && (!strstr(e.text, "the GPU failed") || strchr(e.text, '\n')))
            fail_msg("%s: %s", text, e.text);
        ended += !ok;
        device_close(&d);
        s.resume_from_checkpoint = "latest";
        if (!ok && checkpoint_any(output) && !run(cpu, &s, &e)) fail_msg("%s", e.text);
        e = (error){0};
        if (path_exists(output) && !folder_remove(output, &e)) fail_msg("%s", e.text);
    }
    assert_int_equal(ended, 2);
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
        device_open(&gpu, "cuda", &(device_options){.threads = 2}, &e))
        return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

static int close_all(void **state)
{
    (void)state;
    device_close(&cpu);
    device_close(&gpu);
    model_close(&base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float32),       cmocka_unit_test(test_8bit),
        cmocka_unit_test(test_resume),        cmocka_unit_test(test_no_card),
        cmocka_unit_test(test_little_memory), cmocka_unit_test(test_lost),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
