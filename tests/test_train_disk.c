/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole run as the library sees it, with a disk that fills up and a person who stops it anywhere.
 * The disk is played: what a run writes and how much room there is go through this file (the
 * linker's --wrap). */
#include "foreign.h"
#include "support.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/platform.h"
#include "file/json.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/train.h"

/* ---- the disk -------------------------------------------------------------------------------- */

static char output_dir[600], toy_path[600];
static double disk_size; /* bytes of the disk; 0: as large as need be */
static int64_t filled;   /* bytes that another program holds */
static int refused;      /* writes that found it full */

static int64_t bytes_below(const char *path)
{
    int64_t sum = 0;
    DIR *dir = opendir(path);
    for (const struct dirent *d; dir && (d = readdir(dir));) {
        char *inner = string_format("%s/%s", path, d->d_name);
        struct stat info;
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && lstat(inner, &info) == 0)
            sum += S_ISDIR(info.st_mode) ? bytes_below(inner) : info.st_size;
        free(inner);
    }
    if (dir) closedir(dir);
    return sum;
}

static double room_left(void)
{
    double left = disk_size - (double)filled - (double)bytes_below(output_dir);
    return left > 0 ? left : 0;
}

uint64_t __wrap_folder_space(const char *path);
bool __real_file_writer_put(file_writer *w, const void *data, size_t size, error *e);
bool __wrap_file_writer_put(file_writer *w, const void *data, size_t size, error *e);

uint64_t __wrap_folder_space(const char *path)
{
    (void)path;
    return disk_size > 0 ? (uint64_t)room_left() : UINT64_MAX;
}

bool __wrap_file_writer_put(file_writer *w, const void *data, size_t size, error *e)
{
    if (disk_size > 0 && (double)size > room_left()) {
        refused++;
        return error_set(e, ERROR_FILE, "the disk is full");
    }
    return __real_file_writer_put(w, data, size, e);
}

/* ---- the run ----------------------------------------------------------------------------------
 */

static device *processor;
static model *base;

static bool fake_make(void *user, const image_order *order, image *out, char **text, error *e)
{
    int *pictures = user;
    *text = NULL;
    for (int step = 0; step <= 3; step++)
        if (order->progress && order->progress(order->user, step, 3))
            return error_set(e, ERROR_CANCELLED, "stopped at step %d of 3", step);
    ++*pictures;
    if (!image_new(out, 32, 32, e)) return false;
    memset(out->pixels, (int)(order->seed % 251), 32 * 32 * 3);
    return true;
}

/* What a run tells, and when it is to stop. */
typedef struct watcher {
    train_phase stop_phase;
    int64_t stop_done; /* -1: never */
    int stop_step;
    int calls[6], after; /* told in each phase; after it was asked to stop */
    bool stopping;
    int pictures;
    int64_t free_at;       /* the update at which the others free the disk; 0: never */
    const char *stop_said; /* stop when this has been said; NULL: never */
    char said[8192];
} watcher;

static bool on_progress(void *user, const train_progress *p)
{
    watcher *w = user;
    w->calls[p->phase]++;
    if (w->free_at && p->phase == TRAIN_STEPS && p->done >= w->free_at) filled = 0;
    if (p->phase != TRAIN_SAVING) w->after += w->stopping;
    if (p->phase == w->stop_phase && p->done == w->stop_done && p->step == w->stop_step)
        w->stopping = true;
    if (w->stop_said && p->phase == TRAIN_STEPS && strstr(w->said, w->stop_said))
        w->stopping = true;
    return w->stopping;
}

static void on_line(void *user, const char *line)
{
    watcher *w = user;
    strncat(w->said, line, sizeof w->said - strlen(w->said) - 2);
    strcat(w->said, "\n");
}

static void heard(const watcher *w, const char *words)
{
    if (!strstr(w->said, words)) fail_msg("\"%s\" was not said: %s", words, w->said);
}

static train_settings settings(void)
{
    train_settings s;
    train_settings_defaults(&s);
    s.instance_data_dir = SOURCE_DIR "/examples/subject";
    s.instance_prompt = "a dog";
    s.output_dir = output_dir;
    s.train_batch_size = 1;
    s.learning_rate = 1e-3;
    s.max_train_steps = 12;
    s.has_seed = true;
    return s;
}

static bool run(const train_settings *s, watcher *w, error *e)
{
    image_maker maker = {fake_make, &w->pictures};
    train_events events = {on_progress, on_line, w};
    *e = (error){0};
    return train_run(processor, base, s, &maker, &events, e);
}

static void run_to_end(const train_settings *s, watcher *w)
{
    error e;
    if (!run(s, w, &e)) fail_msg("%s\n%s", e.text, w->said);
}

static void stopped(const train_settings *s, watcher *w, const char *words)
{
    error e;
    assert_false(run(s, w, &e));
    if (e.code != ERROR_CANCELLED || !strstr(e.text, words))
        fail_msg("wanted %s: %s", words, e.text);
    assert_int_equal(w->after, 0);
}

static bool there(const char *name)
{
    char *path = path_join(output_dir, name);
    bool is = path && path_exists(path);
    free(path);
    return is;
}

static char *content(const char *folder, const char *name, size_t *size)
{
    char *path = path_join(folder, name), *data;
    error e = {0};
    if (!file_read(path, 1 << 28, &data, size, &e)) fail_msg("%s", e.text);
    free(path);
    return data;
}

#define UNET "unet/diffusion_pytorch_model.safetensors"

static char *unet_of(size_t *size) { return content(output_dir, UNET, size); }

static void same_unet(const char *other, size_t size)
{
    size_t n;
    char *mine = unet_of(&n);
    assert_int_equal(n, size);
    assert_memory_equal(mine, other, n);
    free(mine);
}

/* Lines of train.jsonl: 1, 2, ... to count, each once. */
static void lines_are(int count)
{
    size_t size;
    char *text = content(output_dir, "train.jsonl", &size), *at = text;
    for (int i = 1; i <= count; i++) {
        char *end = strchr(at, '\n');
        if (!end) fail_msg("line %d of %d is missing", i, count);
        json_t *line = json_parse(at, (size_t)(end - at), 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(line, "step")), i);
        json_decref(line);
        at = end + 1;
    }
    assert_int_equal(*at, '\0');
    free(text);
}

static int clean(void **state)
{
    (void)state;
    error e = {0};
    disk_size = 0;
    filled = refused = 0;
    return folder_remove(output_dir, &e) ? 0 : -1;
}

#define NEVER .stop_done = -1

/* ---- a disk that is full -----------------------------------------------------------------------
 */

static double size_of(const char *name)
{
    char *path = path_join(output_dir, name);
    double size = (double)bytes_below(path);
    free(path);
    return size;
}

/* What the model and one checkpoint take, from a run on a disk without end. */
static void measure(double *result, double *checkpoint)
{
    train_settings s = settings();
    watcher w = {NEVER};
    s.max_train_steps = s.checkpointing_steps = 1;
    run_to_end(&s, &w);
    *checkpoint = size_of("checkpoint-1");
    *result = (double)bytes_below(output_dir) - *checkpoint;
    clean(NULL);
}

static const double small_files = 4 << 20;

/* Refused before anything is written. */
static void test_no_room(void **state)
{
    (void)state;
    train_settings s = settings();
    watcher w = {NEVER};
    error e;
    disk_size = 1000;
    assert_false(run(&s, &w, &e));
    assert_non_null(strstr(e.text, "the trained model takes "));
    assert_null(strstr(e.text, " 0.0"));
    assert_false(path_exists(output_dir));
}

/* There is room for the result and two checkpoints: older ones go, said, and the result is whole.
 */
static void test_room_kept(void **state)
{
    (void)state;
    double result, checkpoint;
    measure(&result, &checkpoint);
    train_settings s = settings();
    watcher w = {NEVER};
    s.checkpointing_steps = 2;
    disk_size = result + small_files + 2.5 * checkpoint;
    run_to_end(&s, &w);
    heard(&w, "checkpoint-2 was removed to make room");
    assert_int_equal(refused, 0);
    assert_true(there("model_index.json"));
    assert_true(there("checkpoint-12") && there("checkpoint-10") && !there("checkpoint-2"));
    lines_are(12);
}

/* There is room for the result alone: no checkpoint is written into it. */
static void test_room_for_result(void **state)
{
    (void)state;
    double result, checkpoint;
    measure(&result, &checkpoint);
    train_settings s = settings();
    watcher w = {NEVER};
    s.checkpointing_steps = 2;
    disk_size = result + small_files + 0.5 * checkpoint;
    run_to_end(&s, &w);
    heard(&w, "there is no room for a checkpoint");
    heard(&w, "the checkpoint of step 2 could not be written, training goes on: it takes ");
    assert_true(there("model_index.json") && !there("checkpoint-2"));
    assert_int_equal(refused, 0);
}

/* Another program fills the disk for some steps: the checkpoint that was due comes when there is
 * room. */
static void test_full_for_a_while(void **state)
{
    (void)state;
    double result, checkpoint;
    measure(&result, &checkpoint);
    train_settings s = settings();
    watcher w = {NEVER, .free_at = 20, .stop_said = "checkpoint-"};
    error e;
    s.max_train_steps = 100000;
    s.checkpointing_steps = 10;
    disk_size = 1e9;
    filled = (int64_t)(disk_size - result - small_files - 0.5 * checkpoint);
    assert_false(run(&s, &w, &e));
    heard(&w, "the checkpoint of step 10 could not be written, training goes on: it takes ");
    heard(&w, " was written\n");
    assert_int_equal(e.code, ERROR_CANCELLED);
    assert_non_null(strstr(e.text, "--resume_from_checkpoint latest"));
    assert_false(there("checkpoint-10"));
    assert_true(checkpoint_any(output_dir));
}

/* ---- stops -------------------------------------------------------------------------------------
 */

/* Stopped in every phase, at once, and gone on from to the same bytes. */
static void test_stops(void **state)
{
    (void)state;
    train_settings s = settings();
    watcher whole = {NEVER};
    size_t size;
    char classes[700];
    snprintf(classes, sizeof classes, "%s-class", output_dir);
    s.class_data_dir = classes;
    s.class_prompt = "a cat";
    s.with_prior_preservation = true;
    s.num_class_images = 4;
    s.validation_prompt = "a dog";
    s.validation_steps = 6;
    s.num_validation_images = 3;
    s.gradient_accumulation_steps = 2;
    s.checkpointing_steps = 5;
    run_to_end(&s, &whole);
    for (int phase = TRAIN_PHOTOS; phase <= TRAIN_VALIDATION; phase++)
        assert_true(whole.calls[phase] > 1);
    char *unet = unet_of(&size);
    clean(NULL);
    error e = {0};
    assert_true(folder_remove(classes, &e));

    s.resume_from_checkpoint = "latest";
#define STOP(phase, done, step) (watcher){.stop_phase = phase, .stop_done = done, .stop_step = step}
    watcher w = STOP(TRAIN_PHOTOS, 1, 0);
    stopped(&s, &w, "stopped after 1 of 5 pictures were read");
    assert_false(path_exists(output_dir));
    w = STOP(TRAIN_CLASS_PICTURES, 2, 1);
    stopped(&s, &w, "stopped after 2 of 4 class pictures");
    assert_int_equal(w.pictures, 2);
    w = STOP(TRAIN_LATENTS, 3, 0);
    stopped(&s, &w, "stopped after 3 of 9 pictures were encoded");
    assert_int_equal(w.pictures, 2);
    w = STOP(TRAIN_STEPS, 7, 0);
    stopped(&s, &w,
            "stopped after 7 of 12 steps; the same command goes on with --resume_from_checkpoint "
            "latest");
    heard(&w, "there is no checkpoint yet, training starts anew");
    assert_true(there("checkpoint-7"));
    w = (watcher){NEVER};
    run_to_end(&s, &w);
    heard(&w, "going on from ");
    same_unet(unet, size);
    lines_are(12);

    clean(NULL);
    w = STOP(TRAIN_VALIDATION, 1, 2);
    stopped(&s, &w, "stopped after 6 of 12 steps; the same command goes on");
    assert_int_equal(w.pictures, 1);
    assert_false(there("validation/step-000006-2.png"));
    w = (watcher){NEVER};
    run_to_end(&s, &w);
    assert_true(there("validation/step-000006-2.png") && there("validation/step-000012-2.png"));
    same_unet(unet, size);
    free(unet);
    assert_true(folder_remove(classes, &e));
}

/* Between the batches of one update: what was summed up by then is forgotten, and drawn again. */
typedef struct half_way {
    watcher watcher;
    int batches, stop_at;
} half_way;

static bool on_batches(void *user, const train_progress *p)
{
    half_way *h = user;
    h->batches += p->phase == TRAIN_STEPS;
    return h->batches == h->stop_at;
}

static void test_stop_between_batches(void **state)
{
    (void)state;
    train_settings s = settings();
    watcher w = {NEVER};
    size_t size;
    s.max_train_steps = 4;
    s.gradient_accumulation_steps = 3;
    run_to_end(&s, &w);
    char *unet = unet_of(&size);
    clean(NULL);
    half_way h = {.stop_at = 5}; /* one before the steps, one a batch: in the second update */
    image_maker maker = {fake_make, &h.watcher.pictures};
    train_events events = {on_batches, NULL, &h};
    error e = {0};
    assert_false(train_run(processor, base, &s, &maker, &events, &e));
    if (!strstr(e.text, "stopped after 1 of 4 steps")) fail_msg("%s", e.text);
    s.resume_from_checkpoint = "latest";
    run_to_end(&s, &w);
    same_unet(unet, size);
    free(unet);
}

static int open_all(void **state)
{
    (void)state;
    error e = {0};
    snprintf(output_dir, sizeof output_dir, "%s/out", scratch_dir());
    snprintf(toy_path, sizeof toy_path, "%s/toy", scratch_dir());
    if (toy_stable_diffusion(toy_path, &e) && model_open(&base, toy_path, NULL, NULL, &e) &&
        device_open(&processor, test_device(), &(device_options){.threads = 1}, &e))
        return 0;
    fprintf(stderr, "%s\n", e.text);
    return -1;
}

static int close_all(void **state)
{
    (void)state;
    model_close(&base);
    device_close(&processor);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_no_room, clean),
        cmocka_unit_test_setup(test_room_kept, clean),
        cmocka_unit_test_setup(test_room_for_result, clean),
        cmocka_unit_test_setup(test_full_for_a_while, clean),
        cmocka_unit_test_setup(test_stops, clean),
        cmocka_unit_test_setup(test_stop_between_batches, clean),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
