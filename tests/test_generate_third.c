/* SPDX-License-Identifier: Apache-2.0
 *
 * A third row in the table of samplers, which only this test has: second order, two evaluations a
 * step at timesteps between the model's, its own scale of noise and input, its own history, noise
 * of its own. The loop, mixes, snapshots, progress, names, sweeps and settings know nothing of it,
 * and must do with it what they do with the others. */
#include <math.h>

#include "generate/parameters.h"
#include "generate/plan.h"
#include "generate/samplers/row.h"
#include "foreign.h"
#include "support.h"
#include "toy.h"

/* ---- the row: Heun's method on k-diffusion's sigmas, its first half helped by the step before
 * -------------- */

enum { THIRD = SAMPLER_DDPM + 1 };

typedef struct third {
    double *sigma; /* [steps + 1], falling, the last 0 */
    int part;
    float eta;
    float *in;           /* [n]: the latent as the network wants it */
    float *slope, *last; /* [n]: d x / d sigma at the step's begin, and at the one before */
    float *trial;        /* [n]: where the first half led */
    bool has_last;
} third;

static bool third_open(sampler *s, const scheduler_config *c, const sampler_options *o, error *e)
{
    third *h = s->own = calloc(1, sizeof *h);
    (void)c;
    if (!h) return error_memory(e, "a sampler", sizeof *h);
    h->eta = o->eta;
    h->sigma = calloc((size_t)s->steps + 1, sizeof *h->sigma);
    if (!h->sigma) return error_memory(e, "a sampler", ((size_t)s->steps + 1) * sizeof *h->sigma);
    double high = log(noise_schedule_sigma(&s->schedule, s->schedule.steps - 1));
    double low = log(noise_schedule_sigma(&s->schedule, 0));
    for (int i = 0; i < s->steps; i++)
        h->sigma[i] = exp(high + (low - high) * i / (s->steps > 1 ? s->steps - 1 : 1));
    return true;
}

static bool third_begin(sampler *s, error *e)
{
    third *h = s->own;
    h->in = malloc(4 * s->n * sizeof *h->in);
    if (!h->in) return error_memory(e, "a sampler's history", 4 * s->n * sizeof *h->in);
    h->slope = h->in + s->n;
    h->last = h->slope + s->n;
    h->trial = h->last + s->n;
    for (size_t i = 0; i < s->n; i++) s->x[i] *= (float)h->sigma[0];
    return true;
}

static double sigma_asked(const sampler *s)
{
    const third *h = s->own;
    return h->sigma[s->done + h->part];
}

static void third_ask(sampler *s, evaluation *out)
{
    third *h = s->own;
    double sigma = sigma_asked(s);
    const float *x = h->part ? h->trial : s->x;
    for (size_t i = 0; i < s->n; i++) h->in[i] = (float)((double)x[i] / sqrt(1 + sigma * sigma));
    out->x = h->in;
    out->part = h->part;
    out->t = noise_schedule_timestep(&s->schedule, sigma);
}

static void third_end(sampler *s, rng *r)
{
    third *h = s->own;
    memcpy(h->last, h->slope, s->n * sizeof *h->last);
    h->has_last = true;
    h->part = 0;
    s->done++;
    if (!(h->eta > 0) || s->done == s->steps) return;
    rng_randn(r, s->noise, s->n);
    for (size_t i = 0; i < s->n; i++)
        s->x[i] += h->eta * 0.01f * (float)h->sigma[s->done] * s->noise[i];
}

static bool third_tell(sampler *s, const float *output, rng *r, error *e)
{
    third *h = s->own;
    double sigma = sigma_asked(s), from = h->sigma[s->done], to = h->sigma[s->done + 1],
           step = to - from;
    const float *x = h->part ? h->trial : s->x;
    if (!sampler_clean(s, (float)(1 / (1 + sigma * sigma)), h->in, output, s->clean, e))
        return false;
    double before = s->done && h->has_last ? from - h->sigma[s->done - 1] : 0;
    for (size_t i = 0; i < s->n; i++) {
        double slope = ((double)x[i] - (double)s->clean[i]) / sigma;
        if (h->part) {
            s->x[i] = (float)((double)s->x[i] + step * ((double)h->slope[i] + slope) / 2);
            continue;
        }
        double bend = before < 0 ? (slope - (double)h->last[i]) / before * step / 2 : 0;
        h->slope[i] = (float)slope;
        h->trial[i] = (float)((double)s->x[i] + step * (slope + bend));
    }
    if (!h->part && to > 0) {
        h->part = 1;
        return true;
    }
    if (!h->part) memcpy(s->x, h->trial, s->n * sizeof *s->x); /* to 0: nothing is asked there */
    third_end(s, r);
    return true;
}

static size_t third_save(const sampler *s, void *to)
{
    const third *h = s->own;
    size_t bytes = s->n * sizeof *h->last;
    if (to) memcpy(to, h->last, bytes);
    return bytes;
}

static void third_load(sampler *s, const void *from)
{
    third *h = s->own;
    memcpy(h->last, from, s->n * sizeof *h->last);
    h->has_last = s->done > 0;
}

static void third_close(sampler *s)
{
    third *h = s->own;
    if (!h) return;
    free(h->sigma);
    free(h->in);
}

static const sampler_row sampler_third = {
    .name = "heun",
    .label = "Heun",
    .aliases = (const char *const[]){"HeunDiscreteScheduler", "sample_heun", NULL},
    .has_eta = true,
    .open = third_open,
    .begin = third_begin,
    .ask = third_ask,
    .tell = third_tell,
    .save = third_save,
    .load = third_load,
    .close = third_close,
};

const sampler_row *const sampler_table[] = {&sampler_ddim, &sampler_ddpm, &sampler_third};
const int sampler_table_count = 3;

/* ---- the sampler alone
 * ------------------------------------------------------------------------------------- */

enum { FEW = 8 };

static sampler *opened(const sampler_options *o)
{
    scheduler_config c;
    sampler *s;
    error e = {0};
    scheduler_config_sd1(&c);
    if (!sampler_open(&s, &c, o, &e)) fail_msg("%s", e.text);
    return s;
}

/* Pictures that are normal numbers of deviation 0.5: the network is known, and so is where a run
 * ends. */
static double worst_end(int steps)
{
    const float noise[FEW] = {-2, -1.5f, -1, -0.5f, 0.25f, 0.75f, 1, 2};
    const double spread = 0.25; /* 0.5 squared */
    sampler *s = opened(&(sampler_options){.kind = THIRD, .steps = steps});
    rng r;
    evaluation at;
    rng_seed(&r, 1);
    assert_true(sampler_begin(s, noise, FEW, NULL));
    double first = noise_schedule_sigma(&s->schedule, 999), worst = 0;
    while (sampler_ask(s, &at)) {
        double sigma = noise_schedule_sigma(&s->schedule, at.t), squares = sigma * sigma;
        float out[FEW];
        for (int i = 0; i < FEW; i++)
            out[i] = (float)((double)at.x[i] * sqrt(1 + squares) * sigma / (squares + spread));
        assert_true(sampler_tell(s, out, &r, NULL));
    }
    for (int i = 0; i < FEW; i++) {
        double wanted = (double)noise[i] * first * sqrt(spread / (first * first + spread));
        worst = fmax(worst, fabs((double)sampler_latent(s)[i] - wanted));
    }
    sampler_close(&s);
    return worst;
}

static void test_second_order(void **state)
{
    (void)state;
    double coarse = worst_end(20), fine = worst_end(40);
    print_message("20 steps: off by %.3g, 40: by %.3g\n", coarse, fine);
    assert_true(coarse < 0.05 && coarse / fine > 3);
}

/* Two evaluations a step but in the last, falling, between the model's timesteps. */
static void test_evaluations(void **state)
{
    const float noise[FEW] = {1, -1};
    sampler *s = opened(&(sampler_options){.kind = THIRD, .steps = 5});
    rng r;
    evaluation at, again;
    int count = 0, between = 0;
    (void)state;
    rng_seed(&r, 1);
    assert_true(sampler_begin(s, noise, FEW, NULL));
    while (sampler_ask(s, &at)) {
        assert_true(sampler_ask(s, &again) && again.t == at.t && again.part == at.part);
        assert_int_equal(at.step, count / 2);
        assert_int_equal(at.part, count % 2);
        between += at.t != floor(at.t);
        count++;
        assert_true(sampler_tell(s, (float[FEW]){0}, &r, NULL));
    }
    assert_int_equal(count, 9);
    assert_true(between >= 6);
    sampler_close(&s);
}

/* ---- names
 * -------------------------------------------------------------------------------------------------
 */

static void test_names(void **state)
{
    sampler_kind k;
    sweep rows;
    error e = {0};
    generate_options base = {.sampler = {.steps = 20}};
    (void)state;
    const char *const names[] = {"heun", "Heun", "HeunDiscreteScheduler", "SAMPLE_HEUN"};
    for (int i = 0; i < 4; i++) assert_true(sampler_kind_parse(&k, names[i]) && k == THIRD);
    assert_string_equal(sampler_kind_choices().text, "ddim, ddpm or heun");
    assert_true(sweep_parse(&rows, "sampler=heun,ddim steps=20", &base, &e));
    assert_int_equal(rows.row[0].options.sampler.kind, THIRD);
    assert_string_equal(rows.row[0].name, "heun-20");
    assert_string_equal(rows.row[0].label, "Heun, 20 steps");
    sweep_close(&rows);
    assert_false(sweep_parse(&rows, "sampler=euler", &base, &e));
    assert_string_equal(e.text, "sweep: sampler cannot be \"euler\"; give ddim, ddpm or heun");
}

/* ---- runs of models
 * ---------------------------------------------------------------------------------------- */

enum { STEPS = 5, BASE = 0, TUNED = 1, MODELS = 2, LATENT = 4 * 16 * 16 };

static const char *const model_names[] = {"base", "tuned"};
static device *cpu;
static model *base, tuned;
static generator *generators[MODELS];

/* What a run told. */
typedef struct witness {
    generate_snapshot *after[STEPS + 1]; /* [0] stays NULL */
    int progress, snapshots;
} witness;

static bool on_progress(void *user, int step, int steps)
{
    witness *w = user;
    assert_int_equal(steps, STEPS);
    assert_int_equal(step, w->progress);
    w->progress++;
    return false;
}

static void on_reached(void *user, const generate_snapshot *s)
{
    witness *w = user;
    assert_int_equal(s->step, ++w->snapshots);
    assert_int_equal(s->numbers, LATENT);
    w->after[s->step] = generate_snapshot_copy(s);
    assert_non_null(w->after[s->step]);
}

static void witness_close(witness *w)
{
    for (int i = 0; i <= STEPS; i++) free(w->after[i]);
}

static generate_options options(float eta)
{
    return (generate_options){.prompt = "a dog",
                              .negative = "rain",
                              .seed = 7,
                              .guidance = 3,
                              .sampler = {.kind = THIRD, .steps = STEPS, .eta = eta}};
}

static generate_result run(const char *schedule, const generate_options *o)
{
    generate_result r;
    mix m;
    error e = {0};
    if (!mix_parse(&m, schedule, model_names, MODELS, STEPS, &e) ||
        !generator_run_mixed(generators, MODELS, &m, o, &r, &e))
        fail_msg("%s: %s", schedule, e.text);
    mix_close(&m);
    for (int i = 0; i < LATENT; i++) assert_true(isfinite(r.final[i]));
    return r;
}

static generate_result witnessed(const char *schedule, generate_options o, witness *w)
{
    *w = (witness){0};
    o.progress = on_progress;
    o.reached = on_reached;
    o.user = w;
    generate_result r = run(schedule, &o);
    assert_int_equal(w->progress, STEPS + 1);
    assert_int_equal(w->snapshots, STEPS);
    return r;
}

static void check_same(const generate_result *a, const generate_result *b)
{
    assert_memory_equal(a->final, b->final, LATENT * sizeof(float));
    assert_memory_equal(a->picture.pixels, b->picture.pixels,
                        (size_t)a->picture.width * (size_t)a->picture.height * 3);
}

/* Left after any step and gone on from, a run is the unbroken one; its history is part of that. */
static void test_going_on(void **state)
{
    static const char *const schedules[] = {"base", "base x2, tuned rest",
                                            "base|tuned x3, 0.5*base+0.5*tuned rest"};
    (void)state;
    for (size_t i = 0; i < sizeof schedules / sizeof *schedules; i++)
        for (int eta = 0; eta < 2; eta++) {
            witness w;
            generate_options o = options((float)eta);
            generate_result whole = witnessed(schedules[i], o, &w);
            for (int at = 1; at <= STEPS; at++) {
                o.from = w.after[at];
                assert_int_equal(o.from->sampler_size, LATENT * sizeof(float));
                generate_result rest = run(schedules[i], &o);
                check_same(&whole, &rest);
                generate_result_free(&rest);
            }
            o.from = w.after[2];
            memset((void *)(uintptr_t)o.from->sampler, 0, o.from->sampler_size);
            generate_result other = run(schedules[i], &o);
            assert_memory_not_equal(whole.final, other.final, LATENT * sizeof(float));
            generate_result_free(&other);
            generate_result_free(&whole);
            witness_close(&w);
        }
}

/* "base x2" is two steps, both evaluations of each. */
static void test_mix_counts_steps(void **state)
{
    witness alone, mixed;
    (void)state;
    generate_result a = witnessed("base", options(0), &alone);
    generate_result b = witnessed("base x2, tuned rest", options(0), &mixed);
    for (int at = 1; at <= STEPS; at++) {
        bool equal = memcmp(alone.after[at]->latent, mixed.after[at]->latent,
                            LATENT * sizeof(float)) == 0;
        assert_int_equal(equal, at <= 2);
    }
    generate_options o = options(0); /* a shared beginning */
    o.from = alone.after[2];
    generate_result c = run("base x2, tuned rest", &o);
    check_same(&b, &c);
    generate_result_free(&a), generate_result_free(&b), generate_result_free(&c);
    witness_close(&alone);
    witness_close(&mixed);
}

/* Side by side in one batch, each with its own history. */
static void test_together(void **state)
{
    generate_options o[2] = {options(0.5f), options(0.5f)};
    generate_result both[2];
    mix m;
    error e = {0};
    (void)state;
    o[1].seed = 8;
    assert_true(mix_parse(&m, "base x2, tuned rest", model_names, MODELS, STEPS, &e));
    if (!generator_run_together(generators, MODELS, &m, o, 2, both, &e)) fail_msg("%s", e.text);
    mix_close(&m);
    for (int k = 0; k < 2; k++) {
        generate_result alone = run("base x2, tuned rest", &o[k]);
        assert_true(samples_alike(cpu, alone.final, both[k].final, LATENT));
        if (cpu->batches_alike) check_same(&alone, &both[k]);
        generate_result_free(&alone);
    }
    assert_memory_not_equal(both[0].final, both[1].final, LATENT * sizeof(float));
    for (int k = 0; k < 2; k++) generate_result_free(&both[k]);
}

/* The state of one sampler is none of another's. */
static void test_other_state(void **state)
{
    witness w;
    generate_result r;
    error e = {0};
    (void)state;
    generate_result whole = witnessed("base", options(0), &w);
    generate_options o = options(0);
    o.from = w.after[1];
    o.sampler.kind = SAMPLER_DDIM;
    assert_false(generator_run(generators[BASE], &o, &r, &e));
    assert_string_equal(e.text, "the run to go on from is heun, 5 steps, seed 7; this is ddim, 5 "
                                "steps, seed 7");
    generate_result_free(&whole);
    witness_close(&w);
}

static void test_settings(void **state)
{
    char *text;
    error e = {0};
    generate_options o = options(0.5f);
    image_job job = {.models = generators, .count = 1, .options = &o};
    (void)state;
    assert_true(parameters_text(&text, &job, &(image){.width = 32, .height = 32}, &e));
    assert_non_null(strstr(text, "Steps: 5, Sampler: Heun, "));
    assert_non_null(strstr(text, "Eta: 0.5"));
    free(text);
}

/* The base with other numbers in its UNet. */
static bool make_tuned(error *e)
{
    const weight_set *from = &base->unet_weights;
    tuned = *base;
    tuned.hash = NULL;
    tuned.unet_weights = (weight_set){.item = calloc(from->count, sizeof *from->item),
                                      .count = from->count};
    bool ok = tuned.unet_weights.item || error_memory(e, "a model", from->count);
    for (size_t i = 0; ok && i < from->count; i++) {
        weight *w = &tuned.unet_weights.item[i];
        size_t n = (size_t)weight_elements(&from->item[i]);
        float *data = malloc(n * sizeof *data);
        *w = from->item[i];
        w->data = data;
        ok = w->type == DTYPE_F32 && (data || error_memory(e, "a model", n));
        const float *its = from->item[i].data;
        for (size_t k = 0; ok && k < n; k++) data[k] = its[k] * (1 + 0.1f * (float)sin((double)k));
    }
    return ok;
}

static int set_up(void **state)
{
    error e = {0};
    char folder[1200];
    (void)state;
    snprintf(folder, sizeof folder, "%s/base", scratch_dir());
    bool ok = toy_stable_diffusion(folder, &e) && model_open(&base, folder, NULL, NULL, &e) &&
              make_tuned(&e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 1}, &e) &&
              generator_open(&generators[BASE], cpu, base, &e) &&
              generator_open(&generators[TUNED], cpu, &tuned, &e);
    if (!ok) print_error("%s\n", e.text);
    return ok ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) generator_close(&generators[i]);
    for (size_t i = 0; i < tuned.unet_weights.count; i++)
        free((void *)(uintptr_t)tuned.unet_weights.item[i].data);
    free(tuned.unet_weights.item);
    model_close(&base);
    device_close(&cpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_order),
        cmocka_unit_test(test_evaluations),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_mix_counts_steps),
        cmocka_unit_test(test_other_state),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
