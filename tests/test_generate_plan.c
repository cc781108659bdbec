/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of sweeps of settings, and names for files. */
#include "support.h"

#include "base/seeds.h"
#include "generate/plan.h"

static void test_sweep(void **state)
{
    (void)state;
    generate_options base = {.prompt = "p", .guidance = 7.5f, .sampler = {.steps = 30}};
    static const struct {
        sampler_kind kind;
        int steps;
        const char *name, *label;
    } rows[] = {
        {SAMPLER_DDPM, 200, "ddpm-200", "DDPM, 200 steps"},
        {SAMPLER_DDPM, 50, "ddpm-50", "DDPM, 50 steps"},
        {SAMPLER_DDPM, 1, "ddpm-1", "DDPM, 1 step"},
        {SAMPLER_DDIM, 200, "ddim-200", "DDIM, 200 steps"},
        {SAMPLER_DDIM, 50, "ddim-50", "DDIM, 50 steps"},
        {SAMPLER_DDIM, 1, "ddim-1", "DDIM, 1 step"},
    };
    sweep s;
    assert_true(sweep_parse(&s, "sampler=ddpm,ddim  steps=200,50,1 ", &base, NULL));
    assert_int_equal(s.count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(s.row[i].options.sampler.kind, rows[i].kind);
        assert_int_equal(s.row[i].options.sampler.steps, rows[i].steps);
        assert_true(s.row[i].options.guidance == 7.5f);
        assert_string_equal(s.row[i].options.prompt, "p");
        assert_string_equal(s.row[i].name, rows[i].name);
        assert_string_equal(s.row[i].label, rows[i].label);
    }
    sweep_close(&s);
}

/* A value may hold spaces: the next setting begins with the next word that has a '='. */
static void test_spaces(void **state)
{
    (void)state;
    static const char *const names[] = {"euler_a-4",         "euler_a-5", "dpmpp_2m_karras-4",
                                        "dpmpp_2m_karras-5", "ddim-4",    "ddim-5"};
    generate_options base = {.sampler = {.steps = 30}};
    sweep s;
    error e = {0};
    if (!sweep_parse(&s, "sampler=euler_a,DPM++ 2M Karras, ddim steps=4, 5", &base, &e))
        fail_msg("%s", e.text);
    assert_int_equal(s.count, 6);
    for (size_t i = 0; i < 6; i++) assert_string_equal(s.row[i].name, names[i]);
    sweep_close(&s);
}

static void check_row(const char *text, const char *name, const char *label, generate_options *out)
{
    generate_options base = {.sampler = {.steps = 30}};
    sweep s;
    error e = {0};
    if (!sweep_parse(&s, text, &base, &e)) fail_msg("%s: %s", text, e.text);
    assert_int_equal(s.count, 1);
    assert_string_equal(s.row[0].name, name);
    assert_string_equal(s.row[0].label, label);
    *out = s.row[0].options;
    sweep_close(&s);
}

static void test_sweep_keys(void **state)
{
    (void)state;
    generate_options o;
    check_row("guidance=7.5", "guidance-7.5", "guidance 7.5", &o);
    assert_true(o.guidance == 7.5f);
    check_row("cfg-scale=3", "guidance-3", "guidance 3", &o);
    assert_true(o.guidance == 3);
    check_row("guidance-scale=1 guidance_rescale=0.7", "guidance-1-guidance-rescale-0.7",
              "guidance 1, guidance rescale 0.7", &o);
    assert_true(o.guidance_rescale == 0.7f);
    check_row("eta=0.50", "eta-0.5", "eta 0.5", &o);
    assert_true(o.sampler.eta == 0.5f);
    check_row("variance=fixed_large", "fixed-large", "fixed_large", &o);
    assert_true(o.sampler.has_variance && o.sampler.variance == VARIANCE_FIXED_LARGE);
    check_row("spacing=trailing", "trailing", "trailing", &o);
    assert_true(o.sampler.has_spacing && o.sampler.spacing == SPACING_TRAILING);
    check_row("sampler=dpm++2m", "dpmpp_2m", "DPM++ 2M", &o);
    assert_null(o.sampler.sigmas);
    check_row("sampler=dpm++2m-karras steps=20", "dpmpp_2m_karras-20", "DPM++ 2M Karras, 20 steps",
              &o);
    assert_string_equal(o.sampler.sigmas, "karras");
    check_row("sampler=euler_a schedule_type=Exponential", "euler_a-exponential",
              "Euler a, Exponential", &o);
    assert_string_equal(o.sampler.sigmas, "exponential");
    check_row("sampler=DPM++ 2M  Karras \n steps=20", "dpmpp_2m_karras-20",
              "DPM++ 2M Karras, 20 steps", &o);
    assert_string_equal(o.sampler.sigmas, "karras");
    check_row("steps= 20 ", "20", "20 steps", &o);
    check_row("clip_skip=1 width=96 height=64", "clip-skip-1-width-96-height-64",
              "clip skip 1, width 96, height 64", &o);
    assert_true(o.clip_skip == 1 && o.width == 96 && o.height == 64);
}

static void check_bad_sweep(const char *text, const char *message)
{
    generate_options base = {0};
    sweep s;
    error e = {0};
    assert_false(sweep_parse(&s, text, &base, &e));
    assert_null(s.row);
    assert_string_equal(e.text, message);
}

static void test_bad_sweep(void **state)
{
    (void)state;
    check_bad_sweep("", "sweep: nothing is given; write it as \"sampler=ddpm,ddim steps=200,50\"");
    check_bad_sweep(
        "stepz=3",
        "sweep: there is no setting \"stepz\"; there are sampler, sigmas, steps, guidance, "
        "guidance_rescale, eta, variance, spacing, clip_skip, width, height, strength");
    check_bad_sweep("steps",
                    "sweep: \"steps\" should be a setting and its values, such as steps=200,50");
    check_bad_sweep("sampler=ddim,eular",
                    "sweep: sampler cannot be \"eular\"; give euler (or another: ddim, ddpm, pndm, "
                    "euler, euler_a, heun, lms, dpm2, dpm2_a, dpmpp_2m, dpmpp_2m_sde, dpmpp_sde, "
                    "unipc, deis, lcm or tcd)");
    check_bad_sweep("sigmas=karas", "sweep: sigmas cannot be \"karas\"; give model, karras, "
                                    "exponential, beta or trailing");
    check_bad_sweep("sampler=euler_a,DPM++ 2N steps=4",
                    "sweep: sampler cannot be \"DPM++ 2N\"; give dpmpp_2m (or another: ddim, "
                    "ddpm, pndm, euler, euler_a, heun, lms, dpm2, dpm2_a, dpmpp_2m, dpmpp_2m_sde, "
                    "dpmpp_sde, unipc, deis, lcm or tcd)");
    check_bad_sweep("steps=4 ddim", "sweep: steps cannot be \"4 ddim\"; give a whole number from 1 "
                                    "on");
    check_bad_sweep("ddim steps=4", "sweep: \"ddim\" should be a setting and its values, such as "
                                    "steps=200,50");
    check_bad_sweep("steps=4 stepz=3,a b",
                    "sweep: there is no setting \"stepz\"; there are sampler, sigmas, steps, "
                    "guidance, guidance_rescale, eta, variance, spacing, clip_skip, width, height, "
                    "strength");
    check_bad_sweep(" \n", "sweep: nothing is given; write it as \"sampler=ddpm,ddim "
                           "steps=200,50\"");
    check_bad_sweep("steps=10,0", "sweep: steps cannot be \"0\"; give a whole number from 1 on");
    check_bad_sweep("steps=", "sweep: steps cannot be \"\"; give a whole number from 1 on");
    check_bad_sweep(
        "steps=99999999999999999999",
        "sweep: steps cannot be \"99999999999999999999\"; give a whole number from 1 on");
    check_bad_sweep("eta=1.5", "sweep: eta cannot be \"1.5\"; give a number from 0 to 1");
    check_bad_sweep("guidance=nan", "sweep: guidance cannot be \"nan\"; give a number from 0 on");
    check_bad_sweep("spacing=even",
                    "sweep: spacing cannot be \"even\"; give leading, trailing or linspace");
    check_bad_sweep("steps=1 steps=2",
                    "sweep: \"steps\" is given twice; put its values into one list");
    check_bad_sweep("guidance=1 cfg_scale=2",
                    "sweep: \"cfg_scale\" is given twice; put its values into one list");
}

static void test_many_rows(void **state)
{
    (void)state;
    char text[3000] = "steps=1", more[1200] = " width=8";
    for (int i = 0; i < 500; i++) strcat(text, ",1");
    for (int i = 0; i < 500; i++) strcat(more, ",8");
    strcat(text, more);
    check_bad_sweep(text, "sweep: more than 10000 combinations");
}

static void test_slug(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"A photo of a dog!", "a-photo-of-a-dog"},
        {"a photo of sks dog", "a-photo-of-sks-dog"},
        {"  -- 2 Dogs,\n\tone   cat -- ", "2-dogs-one-cat"},
        {"R\u00c9sum\u00e9 \u65e5", "r\u00e9sum\u00e9-\u65e5"},
        {"e\u0301", "\u00e9"},
        {"\u732b\u306e\u5199\u771f", "\u732b\u306e\u5199\u771f"},
        {"\u041a\u041e\u0422!", "\u043a\u043e\u0442"},
        {"\u0939\u093f\u0902\u0926\u0940 \u0968", "\u0939\u093f\u0902\u0926\u0940-\u0968"},
        {"\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
         "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"},
        {"\u0301a \u0301 b", "a-b"},
        {"\U0001f436 dog \U0001f436", "dog"},
        {"a_b", "a-b"},
        {"no \xff text", "no-text"},
        {"", "picture"},
        {"?!", "picture"},
        {"\U0001f436", "picture"},
        {"../../etc/passwd", "etc-passwd"},
        {"[Z]{@}`", "z"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char *got = slug_make(pairs[i][0], 180);
        assert_string_equal(got, pairs[i][1]);
        free(got);
    }
    char text[1000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = i % 12 == 11 ? ' ' : 'x';
    text[sizeof text - 1] = '\0';
    char *got = slug_make(text, 180);
    assert_int_equal(strlen(got), 179); /* 180 ends in '-' */
    assert_int_equal(got[178], 'x');
    free(got);
    /* whole letters, with their marks: 3 bytes each, or 3 and 3 */
    char *at = text;
    for (int i = 0; i < 100; i++) at += sprintf(at, "\u732b");
    got = slug_make(text, 180);
    assert_int_equal(strlen(got), 180);
    free(got);
    at = text + sprintf(text, "ab");
    for (int i = 0; i < 100; i++) at += sprintf(at, "\u0939\u0940");
    got = slug_make(text, 180);
    assert_int_equal(strlen(got), 2 + 29 * 6);
    free(got);
}

static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    bool struck = true;
    for (long n = 0; struck; n++) {
        generate_options base = {0};
        error e = {0};
        uint64_t *seeds;
        size_t count;
        sweep s = {0};
        allocation_fail_at(n);
        bool ok = seeds_parse(&seeds, &count, "1,2,5-9", false, &e) &&
                  sweep_parse(&s, "sampler=ddim,ddpm steps=1,2", &base, &e);
        char *name = ok ? slug_make("a", 180) : NULL;
        struck = allocation_fail_end();
        assert_true(name || struck); /* utf8proc bears one that fails */
        if (name) assert_string_equal(name, "a");
        if (!ok) assert_int_equal(e.code, ERROR_MEMORY);
        free(seeds);
        free(name);
        sweep_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sweep),      cmocka_unit_test(test_spaces),
        cmocka_unit_test(test_sweep_keys), cmocka_unit_test(test_bad_sweep),
        cmocka_unit_test(test_many_rows),  cmocka_unit_test(test_slug),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
