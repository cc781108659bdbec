/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_device: devices and precisions by include/likeness.h: which there are, what a context
 * takes and refuses, pictures in half types, and the words by which commands name a precision. The
 * GPU is the emulated one (tests/cuda). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "layout.h"
#include "likeness.h"
#include "study/page/command.h"
#include "study/engine.h"
#include "toy.h"

static char path[300];

static lk_context *context_of(const char *name, lk_precision precision, lk_error *why)
{
    lk_context *c;
    lk_context_options o;
    lk_context_defaults(&o);
    o.device = name;
    o.precision = precision;
    o.threads = 1;
    lk_context_open(&c, &o, why);
    return c;
}

static void refused(const char *name, lk_precision precision, const char *words)
{
    lk_error why = {0};
    assert_null(context_of(name, precision, &why));
    assert_int_equal(why.code, LK_USAGE);
    if (!strstr(why.text, words) || strchr(why.text, '\n')) fail_msg("%s", why.text);
}

static void test_devices(void **state)
{
    (void)state;
    lk_device d;
    lk_error why = {0};
    assert_false(lk_device_at(-1, &d, &why));
    assert_true(lk_device_at(0, &d, &why));
    assert_true(strcmp(d.name, "cpu") == 0 && d.bf16 && !d.f16);
    assert_true(lk_device_at(1, &d, &why));
    assert_true(strcmp(d.name, "cuda:0") == 0 && d.bf16 && d.f16);
    setenv("LIKENESS_EMULATED", "major=7,minor=5", 1);
    assert_true(lk_device_at(1, &d, &why));
    assert_true(!d.bf16 && d.f16);
    refused("cuda", LK_BF16, "has no bfloat16: use --precision f16");
    setenv("LIKENESS_EMULATED", "cards=0", 1);
    refused("auto", LK_F16, "cuda: the NVIDIA driver finds no GPU");
    unsetenv("LIKENESS_EMULATED");
    refused("cpu", LK_F16, "the processor does not compute in precision f16: use bf16");
    refused("cuda", (lk_precision)3, "there are LK_F32, LK_BF16 and LK_F16");
}

static lk_image *picture(lk_precision precision)
{
    lk_error why = {0};
    lk_context *c = context_of("cuda", precision, &why);
    lk_session *s = NULL;
    lk_model *m = NULL;
    lk_image *out = NULL;
    lk_model_options mo;
    lk_generate_options o;
    lk_model_defaults(&mo);
    lk_generate_defaults(&o);
    mo.path = path;
    o.prompt = "a dog";
    o.steps = 2;
    if (!c || !lk_session_open(&s, c, NULL, &why) || !lk_model_open(&m, c, &mo, &why) ||
        !lk_generate(&out, s, m, &o, &why))
        fail_msg("%s", why.text);
    assert_int_equal(lk_context_precision(c), precision);
    lk_model_close(&m);
    lk_session_close(&s);
    lk_context_close(&c);
    return out;
}

static void test_pictures(void **state)
{
    (void)state;
    static const char *const told[] = {NULL, "Precision: bf16,", "Precision: f16,"};
    double off[3] = {0}; /* of the latents from float32's */
    lk_image *exact = picture(LK_F32);
    for (lk_precision p = LK_F32; p <= LK_F16; p++) {
        lk_image *m = picture(p);
        const char *settings = lk_image_settings(m);
        assert_true(told[p] ? strstr(settings, told[p]) != NULL : !strstr(settings, "Precision"));
        int shape[3];
        lk_latents_shape(lk_image_final(m), shape);
        for (int i = 0; i < shape[0] * shape[1] * shape[2]; i++)
            off[p] += fabs((double)lk_latents_data(lk_image_final(m))[i] -
                           (double)lk_latents_data(lk_image_final(exact))[i]);
        lk_image_close(&m);
    }
    lk_image_close(&exact);
    assert_true(off[LK_F32] == 0 && off[LK_F16] > 0 && off[LK_F16] < off[LK_BF16]);
}

/* Commands that a study's page gives say what it was made in; names of its pictures differ. */
static void test_words(void **state)
{
    (void)state;
    static const char *const command[] = {"likeness study plan.json -o .",
                                          "likeness study plan.json -o . --precision bf16",
                                          "likeness study plan.json -o . --precision f16"},
                             *const engine[] = {"F32", "BF16", "F16"};
    for (lk_precision p = LK_F32; p <= LK_F16; p++) {
        char *text = command_of_study(p, NULL, NULL);
        assert_string_equal(text, command[p]);
        free(text);
        assert_string_equal(engine_precision(p), engine[p]);
    }
}

static int open_all(void **state)
{
    error e = {0};
    (void)state;
    snprintf(path, sizeof path, "%s/toy", scratch_dir());
    check(toy_stable_diffusion(path, &e), &e);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, open_all, NULL);
}
