/* SPDX-License-Identifier: Apache-2.0
 *
 * test_train_inversion: textual inversions of the pocket model, loss for loss, norm for norm and
 * row for row against textual_inversion.py's way of training them (tests/fixtures/train/
 * inversion.json, tools/fixtures/train_inversion.py). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "foreign.h"
#include "support.h"
#include "train/trainer.h"

typedef struct world {
    device *device;
    model *model;
    json_t *runs;
} world;

static int world_open(void **state)
{
    static world w;
    error e = {0};
    json_error_t bad;
    w.runs = json_load_file(SOURCE_DIR "/tests/fixtures/train/inversion.json", 0, &bad);
    if (!w.runs || !device_open(&w.device, test_device(), &(device_options){.threads = 2}, &e) ||
        !model_open(&w.model, SOURCE_DIR "/models/pocket", NULL, NULL, &e)) {
        print_error("%s%s\n", e.text, w.runs ? "" : bad.text);
        return -1;
    }
    *state = &w;
    return 0;
}

static int world_close(void **state)
{
    world *w = *state;
    json_decref(w->runs);
    model_close(&w->model);
    device_close(&w->device);
    return 0;
}

static double number(const json_t *settings, const char *key)
{
    const json_t *v = json_object_get(settings, key);
    assert_non_null(v);
    return json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
}

static const char *text(const json_t *settings, const char *key)
{
    return json_string_value(json_object_get(settings, key));
}

static train_settings settings_of(const json_t *j, char folder[512])
{
    train_settings s;
    train_settings_defaults(&s);
    snprintf(folder, 512, "%s/%s", SOURCE_DIR, text(j, "instance_data_dir"));
    s.output_dir = "unused";
    s.instance_data_dir = folder;
    s.textual_inversion = true;
    s.placeholder_token = text(j, "placeholder_token");
    s.initializer_token = text(j, "initializer_token");
    s.learnable_property = text(j, "learnable_property");
    s.num_vectors = (int)number(j, "num_vectors");
    s.repeats = (int)number(j, "repeats");
    s.resolution = (int)number(j, "resolution");
    s.train_batch_size = (int)number(j, "train_batch_size");
    s.gradient_accumulation_steps = (int)number(j, "gradient_accumulation_steps");
    s.max_train_steps = (int64_t)number(j, "max_train_steps");
    s.learning_rate = number(j, "learning_rate");
    s.scale_lr = number(j, "scale_lr") != 0;
    s.center_crop = number(j, "center_crop") != 0;
    s.seed = (uint64_t)number(j, "seed");
    s.has_seed = true;
    return s;
}

static double value_at(const json_t *run, const char *key, size_t i)
{
    const json_t *list = json_object_get(run, key);
    assert_true(i < json_array_size(list));
    return json_number_value(json_array_get(list, i));
}

static double off(double got, double want) { return fabs(got - want) / (fabs(want) + 1e-12); }

/* The greatest difference of the rows, against how far they have come at most. */
static double rows_off(trainer *t, const json_t *run)
{
    const weight *begun = &t->inversion.begins.item[0];
    error e = {0};
    double worst = 0, way = 0;
    if (!parameters_show(&t->parameters, &e)) fail_msg("%s", e.text);
    const float *got = t->parameters.clip.set.item[0].data, *was = begun->data;
    int64_t wide = begun->dim[0], vectors = begun->dim[1];
    assert_int_equal(json_array_size(json_object_get(run, "learned")), wide * vectors);
    for (int64_t v = 0; v < vectors; v++)
        for (int64_t i = 0; i < wide; i++) {
            double want = value_at(run, "learned", (size_t)(v * wide + i));
            worst = fmax(worst, fabs((double)got[i * vectors + v] - want));
            way = fmax(way, fabs((double)was[i * vectors + v] - want));
        }
    parameters_hide(&t->parameters);
    return worst / way;
}

/* The first run's losses in bfloat16 against autocast's, which rounds in other places (to 1/512).
 */
static void test_bfloat16(void **state)
{
    world *w = *state;
    const json_t *run = json_array_get(json_object_get(w->runs, "runs"), 0);
    size_t count = json_array_size(json_object_get(run, "loss_bf16"));
    char folder[512];
    train_settings s = settings_of(json_object_get(run, "settings"), folder);
    double worst = 0, sum = 0;
    device *d;
    trainer t;
    error e = {0};
    if (strcmp(test_device(), "cpu") != 0) skip();
    if (!device_open(&d, "cpu", &(device_options){.threads = 2, .precision = DTYPE_BF16}, &e))
        fail_msg("%s", e.text);
    /* a processor that has no products of bfloat16 does them in other words */
    d->compute = DTYPE_BF16, d->batches_alike = false;
    if (!trainer_open(&t, d, w->model, &s, NULL, &e) || !trainer_start(&t, &e))
        fail_msg("%s", e.text);
    for (size_t i = 0; i < count; i++) {
        train_report r;
        if (!trainer_batch(&t, &r, &e)) fail_msg("batch %zu: %s", i, e.text);
        double far = off((double)r.loss, value_at(run, "loss_bf16", i));
        worst = fmax(worst, far), sum += far;
    }
    assert_true(trainer_finite(&t, &e));
    trainer_close(&t);
    device_close(&d);
    print_message("bfloat16: %zu losses within %.1e, on average %.1e\n", count, worst,
                  sum / (double)count);
    assert_true(count == 12 && worst <= 1e-2 && sum <= 5e-3 * (double)count);
}

static void check_run(world *w, const json_t *run)
{
    const char *name = text(run, "name");
    char folder[512];
    train_settings s = settings_of(json_object_get(run, "settings"), folder);
    size_t batches = json_array_size(json_object_get(run, "loss")), done = 0;
    double worst = 0, worst_norm = 0;
    trainer t;
    error e = {0};
    if (!trainer_open(&t, w->device, w->model, &s, NULL, &e) || !trainer_start(&t, &e))
        fail_msg("%s: %s", name, e.text);
    assert_int_equal(t.parameters.unet.set.count, 0);
    assert_int_equal(t.parameters.clip.set.count, 1);
    for (size_t i = 0; i < batches; i++) {
        train_report r;
        if (!trainer_batch(&t, &r, &e)) fail_msg("%s, batch %zu: %s", name, i, e.text);
        worst = fmax(worst, off((double)r.loss, value_at(run, "loss", i)));
        bool due = value_at(run, "synced", done) == (double)(i + 1);
        assert_int_equal(r.updated, due);
        if (!due) continue;
        assert_true(off(r.rate, value_at(run, "lr", done)) < 1e-6);
        worst_norm = fmax(worst_norm, off(r.norm, value_at(run, "norm", done)));
        assert_int_equal(r.step, ++done);
    }
    assert_int_equal(t.total, s.max_train_steps);
    assert_int_equal(done, s.max_train_steps);
    double rows = rows_off(&t, run);
    trainer_close(&t);
    print_message("%-30s %2zu losses within %.1e, norms %.1e, rows %.1e of their way\n", name,
                  batches, worst, worst_norm, rows);
    assert_true(worst <= 1e-4);
    assert_true(worst_norm <= 1e-3);
    assert_true(rows <= 1e-3);
}

static void test_runs(void **state)
{
    world *w = *state;
    size_t i;
    const json_t *run;
    bool all = strcmp(test_device(), "foreign") != 0;
    json_array_foreach(json_object_get(w->runs, "runs"), i, run) if (all || i == 2)
        check_run(w, run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_runs),
                                       cmocka_unit_test(test_bfloat16)};
    return cmocka_run_group_tests(tests, world_open, world_close);
}
