/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the samplers that diffusers has under other names and AUTOMATIC1111 in its list: the
 * runs in fixtures/samplers.json (made by tools/fixtures/samplers.py), their names, what they
 * remember, and sigmas as people write them. */
#include "support.h"

#include <jansson.h>
#include <math.h>

#include "generate/samplers/beta.h"
#include "generate/samplers/row.h"
#include "generate/samplers/sigma_text.h"

enum { VALUES = 16, KINDS = 32 };

/* Its coefficients are rounded where torch rounds them. */
static float network(float x, double t) { return 0.5f * x + (float)(0.0002 * t) - x / (1 + x * x); }

/* ---- diffusers' runs ---- */

static int integer(const json_t *run, const char *key)
{
    return (int)json_integer_value(json_object_get(run, key));
}

static void read_config(scheduler_config *c, const json_t *configs, const json_t *run)
{
    char path[1200];
    error e = {0};
    const char *name = json_string_value(json_object_get(run, "config"));
    json_t *all = json_deep_copy(json_object_get(configs, name)), *extra;
    assert_non_null(all);
    if ((extra = json_object_get(run, "extra")))
        assert_int_equal(json_object_update(all, extra), 0);
    snprintf(path, sizeof path, "%s/scheduler_config.json", scratch_dir());
    assert_int_equal(json_dump_file(all, path, 0), 0);
    json_decref(all);
    if (!scheduler_config_read(c, path, &e)) fail_msg("%s", e.text);
}

static sampler_options read_options(const json_t *run)
{
    const char *name = json_string_value(json_object_get(run, "sampler"));
    sampler_options o = {.steps = integer(run, "steps"),
                         .eta = (float)json_number_value(json_object_get(run, "eta")),
                         .sigmas = json_string_value(json_object_get(run, "sigmas"))};
    if (!sampler_kind_parse(&o.kind, name)) fail_msg("no sampler %s", name);
    return o;
}

static double repeat_run(const json_t *configs, const json_t *run)
{
    const json_t *out = json_object_get(run, "out");
    scheduler_config c;
    sampler_options o = read_options(run);
    sampler *s;
    evaluation at;
    error e = {0};
    rng r;
    float x[VALUES], m[VALUES];
    int count = 0;
    read_config(&c, configs, run);
    if (!sampler_open(&s, &c, &o, &e)) fail_msg("seed %d: %s", integer(run, "seed"), e.text);
    rng_seed(&r, (uint64_t)integer(run, "seed"));
    rng_randn(&r, x, VALUES);
    assert_true(sampler_begin(s, x, VALUES, &e));
    while (sampler_ask(s, &at)) {
        for (int k = 0; k < VALUES; k++) m[k] = network(at.x[k], at.t);
        assert_true(sampler_tell(s, m, &r, &e));
        count++;
    }
    if (count != integer(run, "evaluations")) fail_msg("seed %d: %d", integer(run, "seed"), count);
    double off = 0, size = 0;
    for (size_t k = 0; k < json_array_size(out); k++) {
        double wanted = json_number_value(json_array_get(out, k));
        off = fmax(off, fabs((double)sampler_latent(s)[5 * k] - wanted));
        size = fmax(size, fabs(wanted));
    }
    sampler_close(&s);
    scheduler_config_close(&c);
    return off / size;
}

static void test_diffusers(void **state)
{
    (void)state;
    json_error_t why;
    json_t *file = json_load_file(fixture_path("samplers.json"), 0, &why);
    if (!file) fail_msg("%s", why.text);
    const json_t *runs = json_object_get(file, "runs"), *configs = json_object_get(file, "configs");
    double worst[KINDS] = {0};
    int done[KINDS] = {0};
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i);
        double off = repeat_run(configs, run);
        if (!(off < 5e-5)) {
            char *text = json_dumps(run, 0);
            fail_msg("off by %.3g: %s", off, text);
        }
        sampler_kind k = read_options(run).kind;
        worst[k] = fmax(worst[k], off);
        done[k]++;
    }
    for (int k = SAMPLER_DDPM + 1; k < sampler_kind_count(); k++) {
        print_message("%-14s %3d runs of diffusers, worst %.2g\n", sampler_kind_name(k), done[k],
                      worst[k]);
        assert_true(done[k] >= 15);
    }
    json_decref(file);
}

/* scipy.stats.beta.ppf(p, 0.6, 0.6) and two others */
static void test_beta(void **state)
{
    (void)state;
    static const struct {
        double p, a, b, x;
    } rows[] = {{1e-06, 0.6, 0.6, 1.8558824624053043e-10}, {0.01, 0.6, 0.6, 0.0008612388215429059},
                {0.1, 0.6, 0.6, 0.03958440558878085},      {0.25, 0.6, 0.6, 0.17568037865269498},
                {0.5, 0.6, 0.6, 0.5000000000000001},       {0.625, 0.6, 0.6, 0.6706185042786161},
                {0.9, 0.6, 0.6, 0.9604155944112192},       {0.999, 0.6, 0.6, 0.9999814412614826},
                {0.3, 2, 5, 0.18180347131894917},          {0.7, 5, 0.5, 0.9845150730912595}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!(fabs(beta_quantile(rows[i].p, rows[i].a, rows[i].b) - rows[i].x) < 1e-11 * rows[i].x))
            fail_msg("%g: %.17g", rows[i].p, beta_quantile(rows[i].p, rows[i].a, rows[i].b));
    assert_true(beta_quantile(0, 0.6, 0.6) == 0 && beta_quantile(1, 0.6, 0.6) == 1);
}

/* ---- what they remember ---- */

enum { STEPS = 7 };

static void advance(sampler *s, rng *r)
{
    evaluation at;
    float m[VALUES];
    int before = sampler_done(s);
    while (sampler_done(s) == before) {
        assert_true(sampler_ask(s, &at));
        assert_int_equal(at.step, before);
        for (int k = 0; k < VALUES; k++) m[k] = network(at.x[k], at.t);
        assert_true(sampler_tell(s, m, r, NULL));
    }
}

static sampler *opened(const sampler_options *o, rng *r)
{
    scheduler_config c;
    sampler *s;
    error e = {0};
    float x[VALUES];
    scheduler_config_sd1(&c);
    c.skip_prk = o->eta > 0.5f; /* PNDM both ways */
    if (!sampler_open(&s, &c, o, &e)) fail_msg("%s", e.text);
    rng_seed(r, 5);
    rng_randn(r, x, VALUES);
    assert_true(sampler_begin(s, x, VALUES, &e));
    return s;
}

/* Left after any step and gone on from in another sampler, a run is the unbroken one. */
static void test_going_on(void **state)
{
    (void)state;
    for (int k = 0; k < sampler_kind_count(); k++)
        for (int eta = 0; eta < 2; eta++)
            for (int left = 0; left < STEPS; left++) {
                sampler_options o = {.kind = k, .steps = STEPS, .eta = (float)eta};
                rng r, again;
                void *kept;
                size_t size;
                sampler *s = opened(&o, &r), *t = opened(&o, &again);
                for (int i = 0; i < left; i++) advance(s, &r);
                assert_true(sampler_save(s, &kept, &size, NULL));
                assert_true(sampler_load(t, left, sampler_latent(s), kept, size, NULL));
                again = r;
                for (int i = left; i < STEPS; i++) advance(s, &r), advance(t, &again);
                assert_memory_equal(sampler_latent(s), sampler_latent(t), VALUES * sizeof(float));
                free(kept);
                sampler_close(&s);
                sampler_close(&t);
            }
}

static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    scheduler_config c;
    scheduler_config_sd1(&c);
    for (int k = 0; k < sampler_kind_count(); k++)
        for (long n = 0;; n++) {
            sampler_options o = {.kind = k, .steps = 2};
            sampler *s = NULL;
            error e = {0};
            float x[VALUES] = {0};
            allocation_fail_at(n);
            bool ok = sampler_open(&s, &c, &o, &e) && sampler_begin(s, x, VALUES, &e);
            bool struck = allocation_fail_end();
            sampler_close(&s);
            assert_int_equal(ok, !struck);
            if (!struck) break;
            assert_int_equal(e.code, ERROR_MEMORY);
        }
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name, *sigmas;
    } rows[] = {
        {"EulerDiscreteScheduler", "euler", NULL},
        {"Euler a", "euler_a", NULL},
        {"euler_a", "euler_a", NULL},
        {"EulerAncestralDiscreteScheduler", "euler_a", NULL},
        {"PNDMScheduler", "pndm", NULL},
        {"plms", "pndm", NULL},
        {"dpm++2m", "dpmpp_2m", NULL},
        {"DPM++ 2M", "dpmpp_2m", NULL},
        {"DPM++ 2M Karras", "dpmpp_2m", "karras"},
        {"dpmpp-2m-karras", "dpmpp_2m", "karras"},
        {"DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential"},
        {"DPM++ SDE Karras", "dpmpp_sde", "karras"},
        {"DPM2 a Karras", "dpm2_a", "karras"},
        {"LMS Karras", "lms", "karras"},
        {"Euler SGM Uniform", "euler", "trailing"},
        {"KDPM2AncestralDiscreteScheduler", "dpm2_a", NULL},
        {"uni_pc", "unipc", NULL},
        {"LCM", "lcm", NULL},
        {"tcd", "tcd", NULL},
        {"DEISMultistepScheduler", "deis", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sampler_options o = {0};
        if (!sampler_choose(&o, rows[i].text)) fail_msg("%s", rows[i].text);
        assert_string_equal(sampler_kind_name(o.kind), rows[i].name);
        assert_int_equal(!o.sigmas, !rows[i].sigmas);
        if (o.sigmas) assert_string_equal(o.sigmas, rows[i].sigmas);
    }
    sampler_options o = {0};
    static const char *const none[] = {"",      "karras", "DDIM Karras", "PLMS Karras",
                                       "dpm++", "eular"};
    for (int i = 0; i < 6; i++) assert_false(sampler_choose(&o, none[i]));
    assert_string_equal(sampler_nearest("eular"), "euler");
    assert_string_equal(sampler_nearest("DPM++ 2N"), "dpmpp_2m");
    assert_string_equal(sampler_nearest("Euler ancestal"), "euler_a");
    assert_null(sampler_nearest("xyz"));
    /* as it was written in a picture, it is read again */
    for (int k = 0; k < sampler_kind_count(); k++) {
        assert_true(sampler_choose(&o, sampler_kind_label(k)) && o.kind == k);
        assert_true(sampler_choose(&o, sampler_kind_name(k)) && o.kind == k);
    }
}

static void test_of_model(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"PNDMScheduler", "", "pndm"},
        {"DPMSolverMultistepScheduler", "dpmsolver++", "dpmpp_2m"},
        {"DPMSolverMultistepScheduler", "sde-dpmsolver++", "dpmpp_2m_sde"},
        {"EulerDiscreteScheduler", "", "euler"},
    };
    scheduler_config c;
    sampler_kind k;
    error e = {0};
    scheduler_config_sd1(&c);
    for (int i = 0; i < 4; i++) {
        snprintf(c.class_name, sizeof c.class_name, "%s", rows[i][0]);
        snprintf(c.algorithm, sizeof c.algorithm, "%s", rows[i][1]);
        assert_true(sampler_of_model(&k, &c, &e));
        assert_string_equal(sampler_kind_name(k), rows[i][2]);
    }
    snprintf(c.class_name, sizeof c.class_name, "DPMSolverMultistepScheduler");
    snprintf(c.algorithm, sizeof c.algorithm, "sde-dpmsolver");
    assert_false(sampler_of_model(&k, &c, &e));
    assert_non_null(strstr(e.text, "with algorithm_type sde-dpmsolver, which is none"));
    e = (error){0};
    snprintf(c.class_name, sizeof c.class_name, "FlowMatchScheduler");
    assert_false(sampler_of_model(&k, &c, &e));
    assert_string_equal(e.text, "the model's scheduler is \"FlowMatchScheduler\", which is none of "
                                "the samplers here; choose one with --sampler (likeness samplers "
                                "lists them)");
}

/* What diffusers saves for DPM-Solver is no JSON; and keys that would change the sigmas. */
static void test_config(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"\"lambda_min_clipped\": -Infinity, \"x\": \"a \\\" Infinity\"", ""},
        {"\"lambda_min_clipped\": -5.1", "lambda_min_clipped"},
        {"\"use_flow_sigmas\": true", "use_flow_sigmas"},
        {"\"interpolation_type\": \"log_linear\"", "interpolation_type"},
        {"\"predict_x0\": false", "predict_x0"},
    };
    char path[1200], wanted[300];
    snprintf(path, sizeof path, "%s/scheduler_config.json", scratch_dir());
    for (int i = 0; i < 5; i++) {
        scheduler_config c;
        sampler_options o = {.steps = 5};
        sampler *s;
        error e = {0};
        FILE *f = fopen(path, "w");
        fprintf(f, "{%s}", rows[i][0]);
        fclose(f);
        if (!scheduler_config_read(&c, path, &e)) fail_msg("%s", e.text);
        assert_string_equal(c.unknown, rows[i][1]);
        assert_true(sampler_open(&s, &c, &o, &e)); /* DDIM looks at none of them */
        sampler_close(&s);
        assert_true(sampler_choose(&o, "dpmpp_2m"));
        assert_int_equal(sampler_open(&s, &c, &o, &e), !*rows[i][1]);
        sampler_close(&s);
        snprintf(
            wanted, sizeof wanted,
            "the model's scheduler has %s, which dpmpp_2m does not follow here; choose another "
            "--sampler, such as ddim",
            rows[i][1]);
        if (*rows[i][1]) assert_string_equal(e.text, wanted);
    }
}

/* ---- sigmas ---- */

static void check_bad(const char *name, int steps, const char *sigmas, const char *text)
{
    scheduler_config c;
    sampler_options o = {.steps = steps, .sigmas = sigmas};
    sampler *s;
    error e = {0};
    scheduler_config_sd1(&c);
    assert_true(sampler_kind_parse(&o.kind, name));
    assert_false(sampler_open(&s, &c, &o, &e));
    assert_string_equal(e.text, text);
}

#define GIVE                                                                                       \
    "give model, karras, exponential, beta or trailing, or falling numbers that end with 0, "      \
    "such as 14.6,7,2,0.5,0 "

static void test_sigmas(void **state)
{
    (void)state;
    sigma_kind kind;
    int steps;
    error e = {0};
    assert_true(sigmas_read("Karras", &kind, &steps, &e) && kind == SIGMAS_KARRAS && !steps);
    assert_true(sigmas_read("SGM Uniform", &kind, &steps, &e) && kind == SIGMAS_TRAILING);
    assert_true(sigmas_read(" 14.6, 7,0 ", &kind, &steps, &e) && kind == SIGMAS_GIVEN);
    assert_int_equal(steps, 2);
    assert_string_equal(sigmas_name("KARRAS"), "karras");
    assert_string_equal(sigmas_label("simple"), "SGM Uniform");
    assert_null(sigmas_name("1,0"));
    check_bad("euler", 3, "7,14.6,2,0", "sigmas are \"7,14.6,2,0\"; " GIVE "(one does not fall)");
    check_bad("euler", 2, "7,7,0", "sigmas are \"7,7,0\"; " GIVE "(one does not fall)");
    check_bad("euler", 1, "7,2", "sigmas are \"7,2\"; " GIVE "(the last is not 0)");
    check_bad("euler", 1, "0", "sigmas are \"0\"; " GIVE "(one alone is no list)");
    check_bad("euler", 1, "7,,0", "sigmas are \"7,,0\"; " GIVE "(this is neither)");
    check_bad("euler", 1, "karas", "sigmas are \"karas\"; " GIVE "(this is neither)");
    check_bad("euler", 1, "inf,0", "sigmas are \"inf,0\"; " GIVE "(one is out of range)");
    check_bad("euler", 1, "-1", "sigmas are \"-1\"; " GIVE "(one is out of range)");
    check_bad("euler", 50, "7,2,0", "sigmas list 2 steps, but steps is 50; make them equal");
    check_bad("ddim", 5, "karras",
              "the sampler ddim has no sigmas to choose (only those that likeness samplers says so "
              "of); leave --sigmas out");
    check_bad("lcm", 51, NULL,
              "steps is 51, but lcm takes at most 50 (the scheduler's original_inference_steps); "
              "it is made for 4 to 8");
}

/* Those that say so end elsewhere with another seed, the others do not. */
static void test_draws(void **state)
{
    (void)state;
    for (int k = 0; k < sampler_kind_count(); k++)
        for (int eta = 0; eta < 2; eta++) {
            float end[2][4];
            for (uint64_t seed = 0; seed < 2; seed++) {
                scheduler_config c;
                sampler_options o = {.kind = (sampler_kind)k, .steps = 4, .eta = (float)eta};
                sampler *s;
                error e = {0};
                evaluation at;
                rng r;
                rng_seed(&r, seed);
                scheduler_config_sd1(&c);
                if (!sampler_open(&s, &c, &o, &e)) fail_msg("%s", e.text);
                assert_true(sampler_begin(s, (const float[]){1, -1, 0.5f, 0}, 4, NULL));
                while (sampler_ask(s, &at)) {
                    float m[4];
                    for (int i = 0; i < 4; i++) m[i] = network(at.x[i], at.t);
                    assert_true(sampler_tell(s, m, &r, NULL));
                }
                memcpy(end[seed], sampler_latent(s), sizeof end[seed]);
                sampler_close(&s);
            }
            assert_int_equal(memcmp(end[0], end[1], sizeof end[0]) != 0,
                             sampler_kind_draws((sampler_kind)k, (float)eta));
        }
}

/* 1000 of 1001 leading points are all the first. */
static void test_together(void **state)
{
    (void)state;
    scheduler_config c;
    sampler_options o = {.steps = 1000, .has_spacing = true, .spacing = SPACING_LEADING};
    sampler *s;
    error e = {0};
    scheduler_config_sd1(&c);
    c.steps_offset = 0;
    assert_true(sampler_kind_parse(&o.kind, "dpmpp_2m"));
    assert_false(sampler_open(&s, &c, &o, &e));
    assert_string_equal(e.text, "steps is 1000: with these sigmas two of them fall together for "
                                "dpmpp_2m; give fewer steps or another spacing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diffusers), cmocka_unit_test(test_beta),
        cmocka_unit_test(test_going_on),  cmocka_unit_test(test_memory),
        cmocka_unit_test(test_names),     cmocka_unit_test(test_of_model),
        cmocka_unit_test(test_config),    cmocka_unit_test(test_sigmas),
        cmocka_unit_test(test_draws),     cmocka_unit_test(test_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
