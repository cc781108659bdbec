/* SPDX-License-Identifier: Apache-2.0
 *
 * The same training, byte for byte, on one, two and three threads: losses, norms, every trained
 * weight and every moment of the optimizer. */
#include "foreign.h"
#include "support.h"
#include "train/trainer.h"

enum { UPDATES = 3, BLOCKS = 4 };

static train_settings settings_with(train_optimizer optimizer)
{
    train_settings s;
    train_settings_defaults(&s);
    s.output_dir = "unused";
    s.instance_data_dir = SOURCE_DIR "/examples/subject";
    s.instance_prompt = "a photo of sks dog";
    s.resolution = 96;
    s.train_batch_size = 2;
    s.max_train_steps = UPDATES;
    s.learning_rate = 1e-4;
    s.train_text_encoder = true;
    s.optimizer = optimizer;
    s.seed = 5;
    s.has_seed = true;
    return s;
}

/* What came of a run: of each update the numbers; the weights and moments of both networks. */
typedef struct result {
    double number[UPDATES][2];
    void *block[BLOCKS];
    size_t size[BLOCKS];
} result;

static void keep(result *r, int i, const buffer *block)
{
    error e = {0};
    r->size[i] = block->size;
    r->block[i] = malloc(block->size);
    assert_non_null(r->block[i]);
    assert_true(block->device->download(block->device, block, 0, r->block[i], block->size, &e));
}

static result train(const model *m, train_optimizer optimizer, int threads)
{
    result out = {0};
    train_settings s = settings_with(optimizer);
    device *d;
    trainer t;
    error e = {0};
    if (!device_open(&d, test_device(), &(device_options){.threads = threads}, &e) ||
        !trainer_open(&t, d, m, &s, NULL, &e) || !trainer_start(&t, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < UPDATES; i++) {
        train_report r;
        if (!trainer_batch(&t, &r, &e)) fail_msg("%s", e.text);
        assert_true(r.updated);
        out.number[i][0] = (double)r.loss;
        out.number[i][1] = r.norm;
    }
    const trained_set *unet = &t.parameters.unet, *clip = &t.parameters.clip;
    assert_true(unet->weights.size > 0 && clip->weights.size > 0);
    keep(&out, 0, &unet->weights);
    keep(&out, 1, &unet->states);
    keep(&out, 2, &clip->weights);
    keep(&out, 3, &clip->states);
    trainer_close(&t);
    device_close(&d);
    return out;
}

static void result_free(result *r)
{
    for (int i = 0; i < BLOCKS; i++) free(r->block[i]);
}

static void test_bytes(void **state)
{
    (void)state;
    static const train_optimizer optimizers[] = {OPTIMIZER_ADAMW, OPTIMIZER_ADAMW_8BIT};
    model *m;
    error e = {0};
    if (!model_open(&m, SOURCE_DIR "/models/pocket", NULL, NULL, &e)) fail_msg("%s", e.text);
    for (int k = 0; k < 2; k++) {
        result one = train(m, optimizers[k], 1);
        for (int threads = 2; threads <= 3; threads++) {
            result other = train(m, optimizers[k], threads);
            assert_memory_equal(one.number, other.number, sizeof one.number);
            for (int i = 0; i < BLOCKS; i++) {
                assert_int_equal(one.size[i], other.size[i]);
                if (memcmp(one.block[i], other.block[i], one.size[i]) != 0)
                    fail_msg("block %d differs on %d threads", i, threads);
            }
            result_free(&other);
        }
        result_free(&one);
    }
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
