/* SPDX-License-Identifier: Apache-2.0
 *
 * The measures of a study, on pictures of known colours and a toy model whose taught twin is itself with
 * other weights. */
#include "support.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "study/likeness.h"
#include "study/measured.h"
#include "toy.h"
#include "train/step.h"

enum { BASE, TAUGHT, CELLS = 9, STEPS = 4 };

static char folder[600];
static model *models[2];
static device *cpu;
static study_model names[2];
static const char *name_list[] = {"base", "taught"};
static const char *class_folders[2];
static study_cell cell[CELLS];
static study_section section;
static study_plan plan;
static int calls, stop_at;

static char *at(const char *part)
{
    char *path = path_join(folder, part);
    assert_non_null(path);
    return path;
}

/* Left half of one grey, right half of another. */
static void paint(const char *path, int left, int right)
{
    image m;
    error e = {0};
    assert_true(image_new(&m, 32, 32, &e));
    for (int i = 0; i < 32 * 32 * 3; i++) m.pixels[i] = (uint8_t)(i % 96 < 48 ? left : right);
    assert_true(image_write(&m, path, NULL, 100, &e));
    image_free(&m);
}

static void paint_cell(const study_cell *c, int left, int right)
{
    char part[64];
    snprintf(part, sizeof part, "cells/%s.png", c->name);
    char *path = at(part);
    paint(path, left, right);
    free(path);
}

static void make_cell(int i, const char *prompt, uint64_t seed, int steps, const char *schedule,
                      int left, int right)
{
    error e = {0};
    study_cell *c = &cell[i];
    *c = (study_cell){.prompt = prompt, .negative = "", .seed = seed, .guidance = 5,
                      .sampler = {.kind = SAMPLER_DDIM, .steps = steps}, .schedule = schedule};
    snprintf(c->name, sizeof c->name, "%016d", i);
    if (!mix_parse(&c->mix, schedule, name_list, 2, steps, &e)) fail_msg("%s", e.text);
    paint_cell(c, left, right);
}

static int open_all(void **state)
{
    error e = {0};
    char *path;
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    const char *parts[] = {"cells", "photos", "class"};
    for (int i = 0; i < 3; i++) {
        path = at(parts[i]);
        if (!path_make_dir(path, &e)) fail_msg("%s", e.text);
        names[TAUGHT].train.instance_data_dir = i == 1 ? strdup(path)
                                                       : names[TAUGHT].train.instance_data_dir;
        if (i == 2)
            class_folders[TAUGHT] = path;
        else
            free(path);
    }
    path = at("model");
    if (!toy_stable_diffusion(path, &e) || !model_open(&models[BASE], path, NULL, NULL, &e) ||
        !model_open(&models[TAUGHT], path, NULL, NULL, &e) || !device_open_cpu(&cpu, 1, DTYPE_F32, &e))
        fail_msg("%s", e.text);
    free(path);
    /* the taught model's last convolution is turned round, in memory of its own */
    weight *w = weight_find(&models[TAUGHT]->unet_weights, "conv_out.weight");
    assert_non_null(w);
    assert_int_equal(w->type, DTYPE_F32);
    size_t n = (size_t)weight_elements(w);
    float *turned = malloc(n * sizeof *turned);
    for (size_t i = 0; i < n; i++) turned[i] = -2 * ((const float *)w->data)[i];
    w->data = turned;
    path = at("photos/one.png");
    paint(path, 200, 30);
    free(path);
    path = at("class/one.png");
    paint(path, 90, 80);
    free(path);
    names[BASE] = (study_model){.name = "base", .path = "toy"};
    names[TAUGHT].name = "taught";
    names[TAUGHT].base = BASE;
    names[TAUGHT].train.instance_prompt = "a sks dog";
    names[TAUGHT].train.class_prompt = "a dog";
    make_cell(0, "a dog", 1, STEPS, "base", 100, 100);
    make_cell(1, "a dog", 2, STEPS, "base", 50, 150);
    make_cell(2, "a dog", 1, STEPS, "taught", 110, 110); /* 10 everywhere */
    make_cell(3, "a dog", 2, STEPS, "taught", 50, 190);  /* 0 and 40: 28.28 */
    make_cell(4, "a dog", 1, STEPS, "base x1, taught x3", 10, 20);
    make_cell(5, "a cat", 1, 2, "base", 10, 20);
    make_cell(6, "a cat", 1, 3, "base", 40, 20);
    make_cell(7, "a cat", 1, 8, "base", 20, 40);
    make_cell(8, "a dog", 1, STEPS, "base", 100, 100);
    memcpy(cell[8].name, cell[0].name, sizeof cell[0].name); /* the same picture again */
    section = (study_section){.id = "one", .rows = 1, .columns = CELLS, .cell = cell};
    plan = (study_plan){.model = names, .models = 2, .model_name = name_list, .section = &section,
                        .sections = 1, .measure_timesteps = 3, .measure_noises = 2};
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    weight *w = weight_find(&models[TAUGHT]->unet_weights, "conv_out.weight");
    device_forget(w);
    free((void *)(uintptr_t)w->data);
    for (int i = 0; i < CELLS; i++) mix_close(&cell[i].mix);
    free((void *)(uintptr_t)names[TAUGHT].train.instance_data_dir);
    free((void *)(uintptr_t)class_folders[TAUGHT]);
    model_close(&models[BASE]);
    model_close(&models[TAUGHT]);
    device_close(&cpu);
    return 0;
}

static bool on_progress(void *user, int done, int total)
{
    (void)user;
    (void)total;
    calls++;
    return stop_at >= 0 && done >= stop_at;
}

static bool measure(study_measures *m, error *e)
{
    measure_source s = {.device = cpu, .plan = &plan, .models = models, .folder = folder,
                        .class_folder = class_folders, .progress = on_progress};
    calls = 0;
    *e = (error){0};
    return study_measure(m, &s, e);
}

static void near(double a, double b) { assert_true(fabs(a - b) <= 1e-6 * (1 + fabs(b))); }

static char *kept(void)
{
    char *path = at("likeness.json"), *text;
    error e = {0};
    if (!file_read(path, 1 << 20, &text, NULL, &e)) fail_msg("%s", e.text);
    free(path);
    return text;
}

/* The error of a model, sample by sample through a graph of one. */
static double plain_error(const likeness_view *v, const latents_of_picture *x)
{
    error e = {0};
    step_graph g;
    step_options o = {.samples = 1, .height = x->height, .width = x->width};
    if (!step_open(&g, cpu, v->model, &o, &e) || !graph_bind(g.graph, &v->model->unet_weights, &e) ||
        !graph_allocate(g.graph, &e))
        fail_msg("%s", e.text);
    static float noise[1024], map[1024], out[1024];
    const float times[] = {150, 400, 650};
    size_t pixels = (size_t)x->height * (size_t)x->width, n = 4 * pixels;
    assert_int_equal(n, 1024);
    double sum = 0;
    rng random;
    rng_seed(&random, 20260);
    for (int k = 0; k < 6; k++) {
        double signal = sqrt((double)v->schedule.alpha_bar[(int)times[k / 2]]);
        rng_randn(&random, noise, n);
        for (size_t i = 0; i < n; i++)
            map[i % pixels * 4 + i / pixels] =
                (float)(signal * (double)x->value[i] + sqrt(1 - signal * signal) * (double)noise[i]);
        graph_write(g.graph, g.x, map);
        graph_write(g.graph, g.t, &times[k / 2]);
        graph_write(g.graph, g.context, v->text.embedding);
        assert_true(graph_run(g.graph, &e));
        graph_read(g.graph, g.prediction, out);
        for (size_t i = 0; i < n; i++) {
            double d = (double)out[i % pixels * 4 + i / pixels] - (double)noise[i];
            sum += d * d / (double)n / 6;
        }
    }
    step_close(&g);
    return sum;
}

/* A picture's likeness as measure.h has it, from likeness.h's halves, and those by hand. */
static double by_hand(const study_cell *c)
{
    error e = {0};
    likeness *l;
    likeness_view b, t;
    latents_of_picture x;
    image picture;
    double of_base, of_taught;
    measure_source s = {.folder = folder};
    assert_true(measured_read(&picture, &s, c, &e) && likeness_open(&l, cpu, 3, 2, &e) &&
                likeness_view_open(&b, cpu, models[BASE], "a dog", &e) &&
                likeness_view_open(&t, cpu, models[TAUGHT], "a sks dog", &e) &&
                likeness_encode(l, models[BASE], &picture, "it", &x, &e) &&
                likeness_error(l, &t, &x, "it", &of_taught, &e) &&
                likeness_error(l, &b, &x, "it", &of_base, &e));
    double sum = 0;
    for (int k = 0; k < 6; k++) sum += likeness_each(l)[k];
    near(sum / 6, of_base);
    near(plain_error(&t, &x), of_taught);
    near(plain_error(&b, &x), of_base);
    latents_of_picture_free(&x);
    likeness_view_close(&b);
    likeness_view_close(&t);
    likeness_close(&l);
    image_free(&picture);
    return of_base - of_taught;
}

static void test_cancelled_then_whole(void **state)
{
    error e;
    study_measures m;
    (void)state;
    stop_at = 3;
    assert_false(measure(&m, &e));
    assert_int_equal(e.code, ERROR_CANCELLED);
    assert_null(m.drift);
    stop_at = -1;
    assert_true(measure(&m, &e));
    assert_int_equal(calls, 10 - 3 + 1); /* 8 pictures, two photos; three were known */
    study_measures_close(&m);
    char *resumed = kept(), *path = at("likeness.json");
    unlink(path);
    free(path);
    assert_true(measure(&m, &e));
    assert_int_equal(calls, 10 + 1);
    study_measures_close(&m);
    char *whole = kept();
    assert_string_equal(resumed, whole);
    assert_true(measure(&m, &e));
    assert_int_equal(calls, 0);
    study_measures_close(&m);
    free(whole);
    whole = kept();
    assert_string_equal(resumed, whole);
    free(whole);
    free(resumed);
}

static void test_tables(void **state)
{
    error e;
    study_measures m;
    (void)state;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(m.drifts, 1);
    double far = sqrt(800), mean = (10 + far) / 2;
    near(m.drift[0].pixels.mean, mean);
    near(m.drift[0].pixels.error, (far - 10) / 2);
    assert_int_equal(m.drift[0].pixels.n, 2);
    assert_true(m.drift[0].latents.mean > 0);
    const double *like = m.cell_likeness;
    near(like[2 * 2 + TAUGHT], by_hand(&cell[2]));
    near(like[8 * 2 + TAUGHT], like[0 * 2 + TAUGHT]);
    assert_true(isnan(like[BASE]));
    near(m.drift[0].leakage.mean, (like[2 * 2 + 1] + like[3 * 2 + 1] - like[1] - like[2 + 1]) / 2);
    assert_int_equal(m.likenesses, 3); /* a dog: base and taught; a cat: base */
    near(m.likeness[1].likeness.mean, (like[2 * 2 + 1] + like[3 * 2 + 1]) / 2);
    assert_int_equal(m.switch_count, 3);
    const int ats[] = {0, 1, STEPS};
    for (int i = 0; i < 3; i++) assert_int_equal(m.switches[i].at, ats[i]);
    near(m.switches[0].likeness.mean, like[2 * 2 + 1]);
    near(m.switches[1].likeness.mean, like[4 * 2 + 1]);
    near(m.switches[2].likeness.mean, like[1]);
    assert_int_equal(m.structures, 2);
    near(m.structure[0].correlation.mean, 1);
    near(m.structure[1].correlation.mean, -1);
    assert_int_equal(m.structure[1].most, 8);
    assert_int_equal(m.diversities, 2);
    near(m.diversity[0].pixels.mean, 50);
    near(m.diversity[1].pixels.mean, sqrt((60. * 60 + 80 * 80) / 2));
    assert_int_equal(m.calibration[0].subject.n, 1);
    assert_int_equal(m.calibration[0].class_pictures.n, 1);
    if (!study_measures_write(&m, &plan, folder, &e)) fail_msg("%s", e.text);
    study_measures_close(&m);
}

static void test_missing_picture(void **state)
{
    error e;
    study_measures m;
    (void)state;
    char *path = at("cells/0000000000000003.png");
    unlink(path);
    free(path);
    assert_false(measure(&m, &e));
    assert_non_null(strstr(e.text, "0000000000000003.png: this picture of the study is missing"));
    assert_null(strchr(e.text, '\n'));
    paint_cell(&cell[3], 50, 190);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cancelled_then_whole),
                                       cmocka_unit_test(test_tables),
                                       cmocka_unit_test(test_missing_picture)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
