/* SPDX-License-Identifier: Apache-2.0
 *
 * The time that a run will take: right after ten updates, however slow the first ones were, with
 * all that is done beside them. */
#include "support.h"

#include <math.h>

#include "train/forecast.h"

static model nothing; /* no weights: saving takes next to no time */

static trainer run_of(int64_t total)
{
    trainer t = {.model = &nothing, .total = total};
    train_settings_defaults(&t.settings);
    t.settings.checkpointing_steps = 1000000;
    return t;
}

/* Makes updates, the first two slow. */
static void make(forecast *f, trainer *t, int updates, double seconds)
{
    for (int i = 0; i < updates; i++) {
        train_report r = {.network_seconds = 0.8 * seconds};
        forecast_update(f, &r, t->done < 2 ? 8 * seconds : seconds);
        t->done++;
    }
}

static void within(double got, double want, double share)
{
    if (!(fabs(got - want) <= share * want))
        fail_msg("%g seconds are told, %g it takes", got, want);
}

static void test_slow_beginning(void **state)
{
    (void)state;
    forecast f = {0};
    trainer t = run_of(300);
    assert_true(forecast_left(&f, &t) == 0);
    make(&f, &t, 1, 0.5);
    assert_true(forecast_left(&f, &t) > 0);
    make(&f, &t, 9, 0.5);
    within(forecast_left(&f, &t), 145, 0.02);
    make(&f, &t, 290, 0.5);
    assert_true(forecast_left(&f, &t) < 0.1);
}

/* What is beside the steps, as it took; before it happened once, by a guess of the right size. */
static void test_all_of_it(void **state)
{
    (void)state;
    forecast f = {0};
    trainer t = run_of(100);
    t.settings.train_batch_size = 2;
    t.settings.validation_prompt = "a dog";
    t.settings.validation_steps = 20;
    t.settings.num_validation_images = 3;
    t.settings.checkpointing_steps = 10;
    make(&f, &t, 10, 1);
    /* 90 steps; five times three pictures of fifty evaluations, each a third of a step's network */
    within(forecast_left(&f, &t), 90 + 15 * 50 * 0.8 / 3, 0.02);
    forecast_checkpoint(&f, 4);
    make(&f, &t, 10, 1);
    forecast_checkpoint(&f, 6);
    for (int i = 0; i < 3; i++) forecast_image(&f, 7);
    within(forecast_left(&f, &t), 80 + 8 * 5 + 4 * 3 * 7, 0.02);
}

/* While class pictures are made: a step of so many samples, from one evaluation for a guided
 * picture. */
static void test_guess(void **state)
{
    (void)state;
    trainer t = run_of(100);
    nothing.unet.sample_size = 64;
    nothing.vae.blocks = 4;
    t.settings.resolution = 512;
    t.settings.train_batch_size = 4;
    t.settings.with_prior_preservation = true;
    within(forecast_guess(&t, 0.1), 100 * 3.5 * 0.1 * 4, 0.02);
    t.settings.resolution = 256;
    within(forecast_guess(&t, 0.1), 100 * 3.5 * 0.1, 0.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_beginning),
        cmocka_unit_test(test_all_of_it),
        cmocka_unit_test(test_guess),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
