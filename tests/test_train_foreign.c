/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole trainings on a device whose memory the host cannot touch (foreign.h), against the same on
 * the processor: every file of weights and moments has the same bytes, and every message is the
 * same. */
#include "foreign.h"
#include "support.h"

#include <math.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/platform.h"
#include "pipeline/denoise.h"
#include "pipeline/text.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/train.h"

enum { DEVICES = 2, SIDE = 16, CHANNELS = 4, NUMBERS = SIDE * SIDE * CHANNELS };

static model *base;
static device *devices[DEVICES];
static char folders[DEVICES][600];

/* A prediction of the model in training as a picture: its UNet and text encoder where the trainer
 * has them. */
static bool predict(pipeline *p, const char *prompt, float *out, error *e)
{
    size_t states = (size_t)p->model->clip.positions * (size_t)p->model->clip.hidden;
    int32_t *ids = malloc((size_t)p->model->clip.positions * sizeof *ids);
    float x[NUMBERS], *text = malloc(states * sizeof *text);
    denoiser *d = NULL;
    fill_random(x, NUMBERS, 7);
    bool ok = ids && text &&
              tokenizer_encode(p->model->tokens, prompt, p->model->clip.positions, ids, NULL, e) &&
              text_encode(p, ids, 1, 0, text, e) &&
              denoiser_open(&d, p, 1, 1, 0, SIDE, SIDE, NULL, e) && denoiser_read(d, text, e) &&
              denoiser_run(d, x, 500, out, "a prediction", e);
    denoiser_close(&d);
    free(ids);
    free(text);
    return ok;
}

static bool make(void *user, const image_order *order, image *out, char **text, error *e)
{
    float numbers[NUMBERS];
    *text = NULL;
    if (!predict(&(pipeline){user, order->model}, order->prompt, numbers, e) ||
        !image_new(out, 32, 32, e))
        return false;
    memcpy(out->pixels, numbers, 32 * 32 * 3);
    return true;
}

static train_settings settings(int k)
{
    train_settings s;
    train_settings_defaults(&s);
    s.instance_data_dir = SOURCE_DIR "/examples/subject";
    s.instance_prompt = "a dog";
    s.output_dir = folders[k];
    s.train_batch_size = 2;
    s.learning_rate = 1e-3;
    s.max_train_steps = 4;
    s.checkpointing_steps = 2;
    s.has_seed = true;
    return s;
}

static bool run(int k, const train_settings *s, error *e)
{
    image_maker maker = {make, devices[k]};
    train_events events = {0};
    *e = (error){0};
    return train_run(devices[k], base, s, &maker, &events, e);
}

static void same_file(const char *name)
{
    char *data[DEVICES];
    size_t size[DEVICES];
    error e = {0};
    for (int k = 0; k < DEVICES; k++) {
        char path[1300];
        snprintf(path, sizeof path, "%s/%s", folders[k], name);
        if (!file_read(path, (size_t)1 << 30, &data[k], &size[k], &e)) fail_msg("%s", e.text);
    }
    if (size[0] != size[1] || memcmp(data[0], data[1], size[0]) != 0) fail_msg("%s differs", name);
    for (int k = 0; k < DEVICES; k++) free(data[k]);
}

static void same_result(bool text_encoder)
{
    static const char *const names[] = {
        "unet/diffusion_pytorch_model.safetensors",
        "checkpoint-2/unet/diffusion_pytorch_model.safetensors",
        "checkpoint-2/optimizer.safetensors",
        "checkpoint-4/optimizer.safetensors",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) same_file(names[i]);
    if (!text_encoder) return;
    same_file("text_encoder/model.safetensors");
    same_file("checkpoint-4/text_encoder/model.safetensors");
}

static void run_both(void (*change)(train_settings *s))
{
    error e;
    for (int k = 0; k < DEVICES; k++) {
        train_settings s = settings(k);
        change(&s);
        if (!folder_remove(folders[k], &e) || !run(k, &s, &e))
            fail_msg("%s: %s", devices[k]->name, e.text);
    }
}

static void accumulated(train_settings *s)
{
    s->gradient_accumulation_steps = 2;
    s->train_text_encoder = true;
    s->validation_prompt = "a dog";
    s->validation_steps = 2;
    s->num_validation_images = 1;
}

static void bytes(train_settings *s)
{
    s->optimizer = OPTIMIZER_ADAMW_8BIT;
    s->prior_from_base = true;
    s->class_prompt = "a";
    s->train_batch_size = 1;
    s->gradient_checkpointing = true;
}

static void test_accumulation(void **state)
{
    (void)state;
    run_both(accumulated);
    same_result(true);
    same_file("validation/step-000002-0.png");
    same_file("validation/step-000004-0.png");
}

static void test_8bit(void **state)
{
    (void)state;
    run_both(bytes);
    same_result(false);
}

/* From checkpoint-2, on the other device than made it, to the same end. */
static void test_resume(void **state)
{
    (void)state;
    error e;
    run_both(accumulated);
    char *whole;
    size_t size, resumed_size;
    for (int k = 0; k < DEVICES; k++) {
        char path[1300], *resumed, from[1300];
        train_settings s = settings(k);
        accumulated(&s);
        snprintf(path, sizeof path, "%s/checkpoint-4/optimizer.safetensors", folders[k]);
        if (!file_read(path, (size_t)1 << 30, &whole, &size, &e)) fail_msg("%s", e.text);
        snprintf(from, sizeof from, "%s/checkpoint-4", folders[k]);
        assert_true(folder_remove(from, &e));
        s.resume_from_checkpoint = "checkpoint-2";
        if (!run(k, &s, &e)) fail_msg("%s", e.text);
        if (!file_read(path, (size_t)1 << 30, &resumed, &resumed_size, &e)) fail_msg("%s", e.text);
        assert_int_equal(size, resumed_size);
        assert_memory_equal(whole, resumed, size);
        free(whole);
        free(resumed);
    }
    same_result(true);
}

/* A half-precision update that ruins the weights is taken back, and told of in the same words. */
static void test_half(void **state)
{
    (void)state;
    error e[DEVICES];
    for (int k = 0; k < DEVICES; k++) {
        train_settings s = settings(k);
        s.optimizer = OPTIMIZER_ADAMW_F16;
        trainer t;
        train_report r;
        e[k] = (error){0};
        if (!trainer_open(&t, devices[k], base, &s, NULL, &e[k]) || !trainer_start(&t, &e[k]))
            fail_msg("%s", e[k].text);
        for (int i = 0; i < 4 && trainer_batch(&t, &r, &e[k]); i++)
            ;
        assert_int_equal(e[k].code, ERROR_NUMERIC);
        assert_non_null(strstr(e[k].text, "the update makes element"));
        error finite = {0};
        assert_true(trainer_finite(&t, &finite));
        trainer_close(&t);
    }
    assert_string_equal(e[0].text, e[1].text);
}

static int open_all(void **state)
{
    (void)state;
    error e = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/toy", scratch_dir());
    for (int k = 0; k < DEVICES; k++)
        snprintf(folders[k], sizeof folders[k], "%s/out-%d", scratch_dir(), k);
    if (toy_stable_diffusion(path, &e) && model_open(&base, path, NULL, NULL, &e) &&
        device_open(&devices[0], "cpu", &(device_options){.threads = 2}, &e) &&
        device_open(&devices[1], foreign_device(), &(device_options){.threads = 2}, &e))
        return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

static int close_all(void **state)
{
    (void)state;
    for (int k = 0; k < DEVICES; k++) device_close(&devices[k]);
    model_close(&base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_8bit),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_half),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
