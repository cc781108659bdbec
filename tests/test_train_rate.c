/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the learning rate's schedules (torch's own, and every step of diffusers' runs in
 * fixtures/train/rates.json, made by tools/fixtures/train_rates.py) and of what is found wrong with
 * settings. */
#include "support.h"

#include <jansson.h>
#include <math.h>

#include "train/settings.h"

static void test_golden(void **state)
{
    (void)state;
    static const int steps[] = {0, 50, 100, 550, 999};
    static const double linear[] = {0, 0.5, 1, 0.5, 0.001111};
    static const double cosine[] = {0, 0.5, 1, 0.5, 0.000003};
    for (int i = 0; i < 5; i++) {
        double l = rate_multiplier(RATE_LINEAR, steps[i], 100, 1000, 1, 1, 1e-4);
        double c = rate_multiplier(RATE_COSINE, steps[i], 100, 1000, 1, 1, 1e-4);
        assert_true(fabs(l - linear[i]) < 5e-7 && fabs(c - cosine[i]) < 5e-7);
    }
}

static double number(const json_t *run, const char *key)
{
    const json_t *value = json_object_get(run, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* The last bit or two may be another libm's. */
static void repeat_run(const json_t *run)
{
    const char *name = json_string_value(json_object_get(run, "schedule"));
    const json_t *rates = json_object_get(run, "rates");
    rate_schedule s;
    assert_true(rate_schedule_parse(&s, name));
    assert_string_equal(rate_schedule_name(s), name);
    double base = number(run, "base");
    size_t n = json_array_size(rates);
    assert_true(n == 105);
    for (size_t i = 0; i < n; i++) {
        double want = json_number_value(json_array_get(rates, i));
        double got = base * rate_multiplier(s, (int64_t)i, (int64_t)number(run, "warmup"),
                                            (int64_t)number(run, "total"),
                                            (int)number(run, "cycles"), number(run, "power"), base);
        if (!(fabs(got - want) <= 4e-16 * base))
            fail_msg("%s: step %zu has %.17g, wanted %.17g", name, i, got, want);
    }
}

static void test_diffusers(void **state)
{
    (void)state;
    json_error_t why;
    json_t *runs = json_load_file(fixture_path("train/rates.json"), 0, &why);
    if (!runs) fail_msg("%s", why.text);
    assert_int_equal(json_array_size(runs), 20);
    for (size_t i = 0; i < json_array_size(runs); i++) repeat_run(json_array_get(runs, i));
    json_decref(runs);
}

static void test_names(void **state)
{
    (void)state;
    rate_schedule s = RATE_LINEAR;
    assert_false(rate_schedule_parse(&s, "piecewise_constant"));
    assert_false(rate_schedule_parse(&s, ""));
    assert_int_equal(s, RATE_LINEAR);
}

/* Runs all of whose steps warm up, and one of no steps. */
static void test_no_room(void **state)
{
    (void)state;
    for (int s = RATE_CONSTANT; s <= RATE_POLYNOMIAL; s++) {
        assert_true(isfinite(rate_multiplier((rate_schedule)s, 5, 5, 5, 1, 1, 1e-4)));
        assert_true(isfinite(rate_multiplier((rate_schedule)s, 0, 0, 0, 1, 1, 1e-4)));
    }
}

/* ---- settings ---- */

static train_settings good(void)
{
    train_settings s;
    train_settings_defaults(&s);
    s.instance_data_dir = "pictures";
    s.instance_prompt = "a photo of sks dog";
    s.output_dir = "out";
    return s;
}

static train_settings good_prior(void)
{
    train_settings s = good();
    s.with_prior_preservation = true;
    s.class_data_dir = "dogs";
    s.class_prompt = "a photo of a dog";
    return s;
}

static void expect_good(const train_settings *s)
{
    error e = {0};
    if (!train_settings_check(s, &e)) fail_msg("%s", e.text);
}

static void expect_bad(const train_settings *s, const char *part)
{
    error e = {0};
    assert_false(train_settings_check(s, &e));
    assert_int_equal(e.code, ERROR_USAGE);
    if (!strstr(e.text, part)) fail_msg("\"%s\" is not in: %s", part, e.text);
    assert_null(strchr(e.text, '\n'));
}
#define BAD(part, ...)                                                                             \
    do {                                                                                           \
        train_settings s_ = good();                                                                \
        (void)(s_.__VA_ARGS__);                                                                    \
        expect_bad(&s_, part);                                                                     \
    } while (0)
#define GOOD(...)                                                                                  \
    do {                                                                                           \
        train_settings s_ = good();                                                                \
        (void)(s_.__VA_ARGS__);                                                                    \
        expect_good(&s_);                                                                          \
    } while (0)

static void test_defaults(void **state)
{
    (void)state;
    train_settings s;
    train_settings_defaults(&s);
    assert_true(train_learning_rate(&s) == 5e-6 && s.train_batch_size == 4 &&
                s.lr_warmup_steps == 500);
    s.lora_rank = 4;
    assert_true(train_learning_rate(&s) == 5e-4);
    s.lora_rank = 0;
    assert_true(s.adam_beta1 == .9 && s.adam_beta2 == .999 && s.adam_epsilon == 1e-8);
    assert_true(s.num_class_images == 100 && s.checkpointing_steps == 500 && s.cache_latents);
    assert_true(!s.has_seed && !s.snr_gamma && !s.offset_noise && s.offset_noise_factor == .1);
    expect_bad(&s, "--instance_data_dir is missing");
    s = good();
    expect_good(&s);
}

static void test_texts(void **state)
{
    (void)state;
    BAD("--instance_data_dir", instance_data_dir = "");
    BAD("--instance_prompt", instance_prompt = NULL);
    BAD("--instance_prompt", instance_prompt = "");
    BAD("--output_dir", output_dir = NULL);
    BAD("--resume_from_checkpoint", resume_from_checkpoint = "");

    train_settings s = good_prior();
    expect_good(&s);
    s.class_prompt = NULL;
    expect_bad(&s, "--class_prompt");
    s = good_prior();
    s.class_data_dir = NULL;
    expect_bad(&s, "--class_data_dir");
    s = good_prior();
    s.prior_from_base = true;
    expect_bad(&s, "--class_data_dir");
    s.class_data_dir = NULL;
    expect_good(&s);
    s.class_prompt = "";
    expect_bad(&s, "--class_prompt");
}

static void test_numbers(void **state)
{
    (void)state;
    static const double rates[] = {-1e-6, -1, (double)NAN, (double)INFINITY}; /* 0: unset */
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        BAD("--learning_rate", learning_rate = rates[i]);
    BAD("--train_batch_size must be at least 1, not 0", train_batch_size = 0);
    BAD("--gradient_accumulation_steps", gradient_accumulation_steps = 0);
    BAD("--max_train_steps", max_train_steps = -1);
    BAD("--num_train_epochs", num_train_epochs = 0);
    BAD("--resolution", resolution = 7);
    BAD("--resolution", resolution = -512);
    GOOD(resolution = 8);
    BAD("--lr_warmup_steps", lr_warmup_steps = -1);
    BAD("--lr_num_cycles", lr_num_cycles = 0);
    BAD("--lr_power", lr_power = -1);
    BAD("--lr_power", lr_power = (double)NAN);
    BAD("--adam_beta1", adam_beta1 = 1);
    BAD("--adam_beta1", adam_beta1 = -0.1);
    BAD("--adam_beta2", adam_beta2 = (double)NAN);
    GOOD(adam_beta2 = 0);
    BAD("--adam_epsilon", adam_epsilon = 0);
    BAD("--adam_weight_decay", adam_weight_decay = -1e-2);
    GOOD(adam_weight_decay = 0);
    BAD("--max_grad_norm", max_grad_norm = 0);
    BAD("--max_grad_norm", max_grad_norm = (double)NAN);
    BAD("--snr_gamma", snr_gamma = -1);
    BAD("--offset_noise_factor", offset_noise_factor = (double)NAN);
    BAD("--prior_loss_weight", prior_loss_weight = -1);
    BAD("--num_class_images", num_class_images = 0);
    BAD("--checkpointing_steps", checkpointing_steps = 0);
    BAD("--checkpoints_total_limit", checkpoints_total_limit = -1);
    BAD("--num_validation_images", num_validation_images = 0);
    BAD("--validation_steps", validation_steps = 0);

    train_settings s = good();
    s.lr_scheduler = RATE_POLYNOMIAL;
    s.learning_rate = 1e-7;
    expect_bad(&s, "polynomial");
    s.scale_lr = true; /* batches of 4 */
    expect_good(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),   cmocka_unit_test(test_diffusers),
        cmocka_unit_test(test_names),    cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_texts),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
