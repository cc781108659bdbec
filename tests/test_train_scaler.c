/* SPDX-License-Identifier: Apache-2.0
 *
 * test_train_scaler: the scale of the loss, step by step as torch's GradScaler has it with
 * accelerate's optimizer and schedule (tests/fixtures/train/scaler.json, tools/fixtures/scaler.py);
 * what a run does with a step that is skipped: record, checkpoint, and where it ends. A device that
 * reports an overflow in chosen steps stands for half precision. */
#include <math.h>

#include <jansson.h>

#include "base/folder.h"
#include "base/platform.h"
#include "file/json.h"
#include "foreign.h"
#include "support.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/record.h"
#include "train/update.h"

enum { COUNT = 6 };

static model *base;
static device *dev;
static char folder[600];

/* ---- against torch --------------------------------------------------------------------------- */

static double number(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static void numbers(const json_t *list, float out[COUNT])
{
    assert_int_equal(json_array_size(list), COUNT);
    for (size_t i = 0; i < COUNT; i++) out[i] = (float)json_number_value(json_array_get(list, i));
}

/* One weight in the device's memory, with its gradient, sum and moments. */
typedef struct subject {
    weight item;
    weight_set set;
    size_t at;
    buffer weights, gradient, sum, states;
    device_weights *copy;
    update_tensor tensor;
} subject;

static array vector(const buffer *b)
{
    return (array){.memory = b, .type = DTYPE_F32, .rank = 1, .dim = {COUNT}};
}

static void subject_open(subject *s, const float *first, bool sums)
{
    error e = {0};
    *s = (subject){.item = {.name = "w", .type = DTYPE_F32, .rank = 1, .dim = {COUNT}}};
    s->set = (weight_set){.item = &s->item, .count = 1};
    size_t bytes = COUNT * sizeof *first, state = moments_bytes(MOMENTS_F32, COUNT);
    assert_true(dev->buffer_open(dev, bytes, "weights", &s->weights, &e));
    assert_true(dev->buffer_open(dev, bytes, "gradients", &s->gradient, &e));
    assert_true(dev->buffer_open(dev, bytes, "sums", &s->sum, &e));
    assert_true(dev->buffer_open(dev, state, "moments", &s->states, &e));
    assert_true(dev->upload(dev, &s->weights, 0, first, bytes, &e));
    assert_true(device_weights_open_in(dev, &s->set, &s->weights, &s->at, &s->copy, &e));
    s->tensor = (update_tensor){
        .weights = s->copy, .gradient = vector(&s->gradient), .sum = {.rank = -1}};
    if (sums) s->tensor.sum = vector(&s->sum);
    moments_place(&s->tensor.moments, MOMENTS_F32, COUNT, &s->states, 0);
}

static void subject_close(subject *s)
{
    device_weights_close(&s->copy);
    dev->buffer_close(&s->weights);
    dev->buffer_close(&s->gradient);
    dev->buffer_close(&s->sum);
    dev->buffer_close(&s->states);
}

static trainer trainer_for(const json_t *run, const subject *s)
{
    trainer t = {.device = dev,
                 .total = (int64_t)number(run, "steps"),
                 .rate = number(run, "learning_rate"),
                 .scaler = loss_scaler_on((float)number(run, "init_scale"))};
    train_settings_defaults(&t.settings);
    t.settings.max_grad_norm = number(run, "max_grad_norm");
    t.settings.lr_warmup_steps = (int64_t)number(run, "lr_warmup_steps");
    t.settings.gradient_accumulation_steps = (int)number(run, "gradient_accumulation_steps");
    assert_true(rate_schedule_parse(&t.settings.lr_scheduler,
                                    json_string_value(json_object_get(run, "lr_scheduler"))));
    t.parameters.unet.sums = t.settings.gradient_accumulation_steps > 1 ? s->sum : (buffer){0};
    return t;
}

static bool is_bad(const json_t *run, int64_t batch)
{
    const json_t *bad = json_object_get(run, "bad"), *one;
    size_t i;
    json_array_foreach(bad, i, one) if (json_integer_value(one) == batch) return true;
    return false;
}

/* What the graph would give for micro-batch `batch` of the step. */
static void write_gradient(const trainer *t, const subject *s, const json_t *all, const json_t *run,
                           int64_t batch)
{
    float g[COUNT], start = loss_scale(&t->scaler) / (float)t->settings.gradient_accumulation_steps;
    const json_t *list = json_object_get(all, "gradients");
    error e = {0};
    numbers(json_array_get(list, (size_t)batch % json_array_size(list)), g);
    bool nan = !strcmp(json_string_value(json_object_get(run, "value")), "nan");
    for (int i = 0; i < COUNT; i++) {
        g[i] *= start;
        if (is_bad(run, batch)) g[i] = nan ? NAN : copysignf(INFINITY, g[i]);
    }
    assert_true(dev->upload(dev, &s->gradient, 0, g, sizeof g, &e));
}

static void compare(const char *name, const trainer *t, const subject *s, const train_report *r,
                    const json_t *told)
{
    float got[COUNT], want[COUNT];
    error e = {0};
    int step = (int)number(told, "step");
    bool skipped = json_is_true(json_object_get(told, "skipped"));
    if (r->skipped != skipped || (double)r->loss_scale != number(told, "scale") ||
        t->scaler.good != (int)number(told, "good"))
        fail_msg("%s, step %d: scale %g, %d good, skipped %d", name, step, (double)r->loss_scale,
                 t->scaler.good, r->skipped);
    double rate = number(told, "rate");
    if (fabs(r->rate - rate) > 1e-12 * rate)
        fail_msg("%s, step %d: rate %.17g, should be %.17g", name, step, r->rate, rate);
    if (!skipped && fabs(r->norm - number(told, "norm")) > 1e-6 * number(told, "norm"))
        fail_msg("%s, step %d: norm %.9g, should be %.9g", name, step, r->norm,
                 number(told, "norm"));
    assert_int_equal(isfinite(r->norm), !skipped);
    numbers(json_object_get(told, "weights"), want);
    assert_true(dev->download(dev, &s->weights, 0, got, sizeof got, &e));
    if (relative_error(got, want, COUNT) > 1e-6)
        fail_msg("%s, step %d: weights differ by %.2g", name, step,
                 relative_error(got, want, COUNT));
}

static void repeat(const json_t *all, const json_t *run)
{
    float first[COUNT];
    subject s;
    error e = {0};
    numbers(json_object_get(all, "weights"), first);
    subject_open(&s, first, number(run, "gradient_accumulation_steps") > 1);
    trainer t = trainer_for(run, &s);
    step_graph step = {.count = 1, .updates = &s.tensor, .update_count = 1};
    const json_t *told = json_object_get(run, "told");
    size_t next = 0;
    int64_t batch = 0;
    while (t.done < t.total) {
        train_report r = {0};
        for (int i = 0; i < t.settings.gradient_accumulation_steps; i++) {
            write_gradient(&t, &s, all, run, batch++);
            if (t.parameters.unet.sums.handle) assert_true(update_accumulate(&t, &step, &e));
        }
        if (!update_run(&t, &step, &r, &e)) fail_msg("%s", e.text);
        assert_true(r.updated && r.step == t.done);
        const json_t *one = json_array_get(told, next);
        if (!one || (int64_t)number(one, "step") != t.done - 1) continue;
        compare(json_string_value(json_object_get(run, "name")), &t, &s, &r, one);
        next++;
    }
    assert_int_equal(next, json_array_size(told));
    subject_close(&s);
}

static void test_torch(void **state)
{
    json_error_t bad;
    json_t *all = json_load_file(SOURCE_DIR "/tests/fixtures/train/scaler.json", 0, &bad);
    size_t i;
    const json_t *run;
    (void)state;
    assert_non_null(all);
    assert_true(json_array_size(json_object_get(all, "runs")) == 8);
    json_array_foreach(json_object_get(all, "runs"), i, run) repeat(all, run);
    json_decref(all);
}

static void test_least(void **state)
{
    loss_scaler s = loss_scaler_on(LOSS_SCALE_FIRST), off = {0};
    (void)state;
    for (int i = 0; i < 16; i++) assert_true(loss_scaler_next(&s, true));
    assert_true(s.scale == 1);
    s.good = 3;
    assert_false(loss_scaler_next(&s, true));
    assert_true(s.scale == 1 && s.good == 3);
    s = (loss_scaler){0x1p127f, LOSS_SCALE_GROWS - 1}; /* twice that is infinite: as in torch */
    assert_true(loss_scaler_next(&s, false) && s.scale == 0x1p127f && !s.good);
    assert_true(loss_scale(&off) == 1);
    assert_true(loss_scaler_next(&off, false) && off.scale == 0 && !off.good);
    assert_true(loss_scaler_valid(1, 0) && loss_scaler_valid(0x1p127, 1999));
    assert_false(loss_scaler_valid(0.5, 0) || loss_scaler_valid(3, 0) ||
                 loss_scaler_valid(65536, 2000) || loss_scaler_valid(65536, -1) ||
                 loss_scaler_valid(0x1p128, 0) || loss_scaler_valid((double)NAN, 0));
}

/* ---- a trainer ------------------------------------------------------------------------------- */

static bool (*real_update)(device *d, const update_job *u, update_result *r, error *e);
static bool (*overflows)(int64_t step);
static int64_t calls;

static bool update_or_overflow(device *d, const update_job *u, update_result *r, error *e)
{
    if (!overflows(++calls)) return real_update(d, u, r, e);
    *r = (update_result){.norm = (double)INFINITY, .bad = 0};
    return true;
}

static train_settings settings(void)
{
    train_settings s;
    train_settings_defaults(&s);
    s.instance_data_dir = SOURCE_DIR "/examples/subject";
    s.instance_prompt = "a dog";
    s.output_dir = folder;
    s.learning_rate = 1e-3;
    s.train_batch_size = 1;
    s.max_train_steps = 8;
    s.lr_scheduler = RATE_LINEAR;
    s.lr_warmup_steps = 2;
    s.has_seed = true;
    return s;
}

static void open_trainer(trainer *t, bool (*when)(int64_t step), float scale)
{
    train_settings s = settings();
    error e = {0};
    if (!trainer_open(t, dev, base, &s, NULL, &e) || !trainer_start(t, &e)) fail_msg("%s", e.text);
    t->scaler.scale = scale;
    real_update = dev->update;
    dev->update = update_or_overflow;
    overflows = when;
    calls = 0;
}

static void close_trainer(trainer *t)
{
    trainer_close(t);
    dev->update = real_update;
}

static bool never(int64_t step) { return step < 0; }
static bool always(int64_t step) { return step > 0; }
static bool second_and_fifth(int64_t step) { return step == 2 || step == 5; }

static train_report batch(trainer *t)
{
    train_report r;
    error e = {0};
    if (!trainer_batch(t, &r, &e)) fail_msg("%s", e.text);
    return r;
}

/* A power of two more or less in the scale changes no bit of a loss or a weight. */
static void test_scale_is_exact(void **state)
{
    float loss[2][8];
    double norm[2][8];
    (void)state;
    for (int k = 0; k < 2; k++) {
        trainer t;
        open_trainer(&t, never, k ? LOSS_SCALE_FIRST : 0);
        for (int i = 0; i < 8; i++) {
            train_report r = batch(&t);
            assert_true(r.loss_scale == (k ? LOSS_SCALE_FIRST : 0) && !r.skipped);
            loss[k][i] = r.loss;
            norm[k][i] = r.norm;
        }
        assert_int_equal(t.scaler.good, k ? 8 : 0);
        close_trainer(&t);
    }
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    assert_memory_equal(norm[0], norm[1], sizeof norm[0]);
}

static char *file_of(const char *name, size_t *size)
{
    char path[700], *data;
    error e = {0};
    snprintf(path, sizeof path, "%s/checkpoint-8/%s", folder, name);
    if (!file_read(path, (size_t)1 << 30, &data, size, &e)) fail_msg("%s", e.text);
    return data;
}

/* From a checkpoint behind a skipped step on: the same files. */
static void test_resume(void **state)
{
    static const char *const names[] = {"checkpoint.json", "optimizer.safetensors",
                                        "unet/diffusion_pytorch_model.safetensors"};
    trainer t, again;
    checkpoint_owner owner;
    error e = {0};
    char *whole[3], at[700], last[700];
    size_t size[3];
    (void)state;
    snprintf(at, sizeof at, "%s/checkpoint-3", folder);
    snprintf(last, sizeof last, "%s/checkpoint-8", folder);
    assert_true(path_make_dir(folder, &e));
    open_trainer(&t, second_and_fifth, LOSS_SCALE_FIRST);
    checkpoint_owner_of(&owner, &t);
    while (t.done < 8) {
        train_report r = batch(&t);
        assert_int_equal(r.skipped, second_and_fifth(r.step));
        if ((t.done == 3 || t.done == 8) && !checkpoint_save(&owner, &t, &e))
            fail_msg("%s", e.text);
    }
    assert_true(t.skipped == 2 && t.scaler.scale == LOSS_SCALE_FIRST / 4 && t.scaler.good == 3);
    for (int i = 0; i < 3; i++) whole[i] = file_of(names[i], &size[i]);
    close_trainer(&t);
    if (!folder_remove(last, &e)) fail_msg("%s", e.text);
    open_trainer(&again, second_and_fifth, LOSS_SCALE_FIRST);
    if (!checkpoint_load(&owner, &again, at, &e)) fail_msg("%s", e.text);
    assert_true(again.skipped == 1 && again.scaler.scale == LOSS_SCALE_FIRST / 2);
    assert_int_equal(again.scaler.good, 1);
    calls = 3;
    while (again.done < 8) batch(&again);
    if (!checkpoint_save(&owner, &again, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < 3; i++) {
        size_t n;
        char *got = file_of(names[i], &n);
        assert_int_equal(n, size[i]);
        assert_memory_equal(got, whole[i], n);
        free(got);
        free(whole[i]);
    }
    close_trainer(&again);
}

/* A checkpoint of the test above, with another state of the scaler. */
static void load_changed(const char *scaler, bool on, const char *message)
{
    char path[800], at[700];
    trainer t;
    checkpoint_owner owner;
    error e = {0};
    snprintf(at, sizeof at, "%s/checkpoint-3", folder);
    snprintf(path, sizeof path, "%s/checkpoint.json", at);
    json_t *j = json_load_file(path, 0, NULL);
    assert_non_null(j);
    if (scaler)
        json_object_set_new(j, "loss_scaler", json_loads(scaler, 0, NULL));
    else
        json_object_del(j, "loss_scaler");
    assert_int_equal(json_dump_file(j, path, 0), 0);
    json_decref(j);
    open_trainer(&t, never, on ? LOSS_SCALE_FIRST : 0);
    checkpoint_owner_of(&owner, &t);
    bool ok = checkpoint_load(&owner, &t, at, &e);
    if (message) {
        assert_false(ok);
        if (!strstr(e.text, message)) fail_msg("%s", e.text);
    } else {
        if (!ok) fail_msg("%s", e.text);
        assert_true(t.scaler.scale == (on ? LOSS_SCALE_FIRST : 0) && !t.scaler.good);
        assert_int_equal(t.skipped, scaler ? 1 : 0);
    }
    close_trainer(&t);
}

static void test_other_checkpoints(void **state)
{
    (void)state;
    load_changed("{\"skipped_steps\": 1, \"scale\": 3.0, \"growth_tracker\": 0}", true, "damaged");
    load_changed("{\"skipped_steps\": 4, \"scale\": 2.0, \"growth_tracker\": 0}", true, "damaged");
    load_changed("{\"skipped_steps\": -1}", true, "damaged");
    load_changed("{\"skipped_steps\": 1}", true, NULL); /* went on in float32 in between */
    load_changed("{\"skipped_steps\": 1, \"scale\": 2.0, \"growth_tracker\": 7}", false, NULL);
    load_changed(NULL, true, NULL); /* was made in float32 */
}

/* At the least scale it ends, and what is kept is the last good state. */
static void test_end(void **state)
{
    trainer t;
    train_report r;
    error e = {0};
    (void)state;
    open_trainer(&t, always, LOSS_SCALE_FIRST);
    t.total = 100;
    size_t n = t.parameters.unet.weights.size;
    char *before = malloc(n), *after = malloc(n);
    assert_true(before && after);
    assert_true(dev->download(dev, &t.parameters.unet.weights, 0, before, n, &e));
    for (int i = 1; i <= 16; i++) {
        r = batch(&t);
        assert_true(r.skipped && r.step == i && t.skipped == i);
    }
    assert_false(trainer_batch(&t, &r, &e));
    assert_int_equal(e.code, ERROR_NUMERIC);
    if (!strstr(e.text, "step 17: the gradient by weight ") ||
        !strstr(e.text, "though the loss scale has come down to 1; training stopped with the "
                        "weights of step 16;"))
        fail_msg("%s", e.text);
    assert_true(t.done == 16 && t.skipped == 16 && t.scaler.scale == 1);
    assert_true(dev->download(dev, &t.parameters.unet.weights, 0, after, n, &e));
    assert_memory_equal(before, after, n);
    e = (error){0};
    assert_true(trainer_rewind(&t, &e) && trainer_finite(&t, &e));
    free(before);
    free(after);
    close_trainer(&t);
}

/* ---- the record ------------------------------------------------------------------------------ */

static void test_record(void **state)
{
    const char *lines = scratch_dir();
    char path[700], *text;
    record *r;
    error e = {0};
    size_t size;
    (void)state;
    train_report bad = {.step = 1, .loss = NAN, .instance_loss = NAN, .norm = (double)INFINITY};
    train_report good = {.step = 2, .loss = 0.5f, .instance_loss = 0.25f, .norm = 2};
    bad.prior_loss = INFINITY;
    bad.skipped = true;
    bad.loss_scale = 65536;
    good.loss_scale = 32768;
    assert_true(record_open(&r, lines, 0, &e));
    assert_true(record_add(r, &bad, true, 1, &e) && record_add(r, &good, false, 1, &e));
    good.loss_scale = 0;
    good.step = 3;
    assert_true(record_add(r, &good, false, 1, &e) && record_write(r, &e));
    record_close(&r);
    snprintf(path, sizeof path, "%s/train.jsonl", lines);
    assert_true(file_read(path, 10000, &text, &size, &e));
    char *second = strchr(text, '\n'), *third = second ? strchr(second + 1, '\n') : NULL;
    assert_true(second && third);
    json_t *one = json_parse(text, (size_t)(second - text), 0, NULL);
    json_t *two = json_parse(second + 1, (size_t)(third - second - 1), 0, NULL);
    assert_true(json_is_null(json_object_get(one, "loss")));
    assert_true(json_is_null(json_object_get(one, "instance_loss")));
    assert_true(json_is_null(json_object_get(one, "prior_loss")));
    assert_true(json_is_null(json_object_get(one, "grad_norm")));
    assert_true(json_is_true(json_object_get(one, "skipped")));
    assert_true(number(one, "loss_scale") == 65536);
    assert_true(json_is_false(json_object_get(two, "skipped")));
    assert_true(number(two, "loss_scale") == 32768 && number(two, "loss") == 0.5);
    assert_null(strstr(third, "scale"));
    json_decref(one);
    json_decref(two);
    free(text);
    assert_true(record_open(&r, lines, 2, &e)); /* a line with nulls is a line */
    record_close(&r);
    assert_true(file_read(path, 10000, &text, &size, &e));
    assert_non_null(strstr(text, "\"step\": 2"));
    assert_null(strstr(text, "\"step\": 3"));
    free(text);
}

static int open_all(void **state)
{
    (void)state;
    error e = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/toy", scratch_dir());
    snprintf(folder, sizeof folder, "%s/out", scratch_dir());
    if (toy_stable_diffusion(path, &e) && model_open(&base, path, NULL, NULL, &e) &&
        device_open(&dev, test_device(), &(device_options){.threads = 2}, &e))
        return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

static int close_all(void **state)
{
    (void)state;
    model_close(&base);
    device_close(&dev);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch),
        cmocka_unit_test(test_least),
        cmocka_unit_test(test_scale_is_exact),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_other_checkpoints),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_record),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
