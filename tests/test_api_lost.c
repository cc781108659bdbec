/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_lost: a GPU that is lost, or has no more memory, at any call of it, while a program
 * makes a picture or trains: one line of the right code, everything can be closed, nothing of the
 * card's memory is left behind, no file is half written, and a training goes on from its last
 * checkpoint. The card is the emulated one (tests/cuda), which LIKENESS_EMULATED describes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/folder.h"
#include "base/platform.h"
#include "likeness.h"
#include "painted.h"
#include "support.h"
#include "toy.h"
#include "train/checkpoint.h"

static char folder[256], toy[300], photos[300], output[300], picture[300];

static void hardware(const char *text)
{
    if (text)
        setenv("LIKENESS_EMULATED", text, 1);
    else
        unsetenv("LIKENESS_EMULATED");
}

static uint64_t memory_left(void)
{
    lk_device d;
    lk_error why = {LK_OK, ""};
    if (!lk_device_at(1, &d, &why)) fail_msg("%s", why.text);
    return d.left;
}

/* What a program has open. */
typedef struct program {
    lk_context *context;
    lk_session *session;
    lk_model *model;
} program;

static bool program_open(program *p, const char *on, lk_error *why)
{
    lk_context_options c;
    lk_model_options m;
    *p = (program){0};
    lk_context_defaults(&c);
    c.threads = 1;
    c.device = on;
    lk_model_defaults(&m);
    m.path = toy;
    return lk_context_open(&p->context, &c, why) &&
           lk_session_open(&p->session, p->context, NULL, why) &&
           lk_model_open(&p->model, p->context, &m, why);
}

static void program_close(program *p)
{
    lk_model_close(&p->model);
    lk_session_close(&p->session);
    lk_context_close(&p->context);
}

/* A use of the card from its opening on. */
typedef bool use_function(const char *on, lk_error *why);

/* Two pictures: what the first recorded the second replays. */
static bool use_generate(const char *on, lk_error *why)
{
    program p;
    lk_generate_options o;
    lk_image *made = NULL;
    lk_generate_defaults(&o);
    o.prompt = "a dog";
    o.steps = 2;
    bool ok = program_open(&p, on, why);
    for (int i = 0; ok && i < 2; i++) {
        o.seed = (uint64_t)i;
        lk_image_close(&made);
        ok = lk_generate(&made, p.session, p.model, &o, why);
    }
    ok = ok && lk_image_save(made, picture, why);
    lk_image_close(&made);
    program_close(&p);
    return ok;
}

/* From the last checkpoint on, where there is one. */
static bool use_train(const char *on, lk_error *why)
{
    program p;
    lk_train_options o;
    lk_train_defaults(&o);
    o.instance_data_dir = photos;
    o.instance_prompt = "a dog";
    o.output_dir = output;
    o.train_batch_size = 1;
    o.max_train_steps = 3;
    o.checkpointing_steps = 1;
    if (path_exists(output)) o.resume_from_checkpoint = "latest";
    bool ok = program_open(&p, on, why) && lk_train(p.session, p.model, &o, why);
    program_close(&p);
    return ok;
}

/* There is no picture, and the training, if it began, goes on without the card. */
static void nothing_half(bool checkpoints)
{
    folder_names list;
    error e = {0};
    lk_error why = {LK_OK, ""};
    if (!folder_list(&list, folder, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < list.count; i++)
        if (strcmp(list.name[i], "toy") != 0 && strcmp(list.name[i], "photos") != 0 &&
            strcmp(list.name[i], "output") != 0)
            fail_msg("%s was left behind", list.name[i]);
    folder_list_free(&list);
    if (checkpoints && !use_train("cpu", &why)) fail_msg("%s", why.text);
}

static void start_anew(void)
{
    error e = {0};
    if (path_exists(output) && !folder_remove(output, &e)) fail_msg("%s", e.text);
    remove(picture);
}

/* One use with this hardware; whether it went well. */
static bool one(use_function *use, const char *text, lk_code code, const char *words)
{
    lk_error why = {LK_OK, ""};
    uint64_t before = memory_left();
    start_anew();
    hardware(text);
    bool ok = use("cuda", &why);
    hardware(NULL);
    if (memory_left() != before)
        fail_msg("%s: %lld bytes of the card are left behind", text,
                 (long long)before - (long long)memory_left());
    if (ok) return true;
    if (why.code != code || !strstr(why.text, words) || strchr(why.text, '\n'))
        fail_msg("%s: code %d, \"%s\"", text, (int)why.code, why.text);
    nothing_half(checkpoint_any(output));
    return false;
}

/* n grows until the use does not come so far; so many times at least it does. */
static void at_every(use_function *use, const char *format, long factor, int least, lk_code code,
                     const char *words)
{
    int failures = 0;
    char text[96];
    for (long n = 1;; n = n * factor + 1, failures++) {
        snprintf(text, sizeof text, format, n);
        if (one(use, text, code, words)) break;
    }
    if (failures < least) fail_msg("%s: it failed %d times", format, failures);
}

static const char *const calls[] = {
    "open",     "enter", "record_begin", "record_end", "record_replay", "alloc",   "upload",
    "download", "copy",  "launched",     "wait",       "mark_open",     "mark_set"};

/* At the first call of each function, and at ever later ones of any. */
static void lost(use_function *use, long factor)
{
    char text[96];
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        snprintf(text, sizeof text, "fail=1,call=%s", calls[i]);
        if (one(use, text, LK_DEVICE, "the GPU failed")) fail_msg("%s: it went well", text);
    }
    at_every(use, "fail=%ld", factor, 4, LK_DEVICE, "the GPU failed");
}

static void test_generate_lost(void **state)
{
    (void)state;
    lost(use_generate, 2);
}

static void test_generate_full(void **state)
{
    (void)state;
    at_every(use_generate, "full=%ld", 1, 4, LK_MEMORY, "not enough memory on the GPU for ");
}

static void test_choice(void **state)
{
    program p;
    lk_error why = {LK_OK, ""};
    (void)state;
    for (int i = 0; i < 2; i++) { /* the card by itself */
        if (!program_open(&p, i ? "auto" : NULL, &why)) fail_msg("%s", why.text);
        assert_non_null(strstr(lk_context_device(p.context), "cuda:0 emulated"));
        assert_string_equal(lk_context_device_note(p.context), "");
        program_close(&p);
    }
    hardware("cards=0");
    if (!program_open(&p, NULL, &why)) fail_msg("%s", why.text);
    hardware(NULL);
    assert_int_equal(strncmp(lk_context_device(p.context), "cpu", 3), 0);
    assert_non_null(strstr(lk_context_device_note(p.context), "finds no GPU"));
    program_close(&p);
    assert_false(program_open(&p, "cuda:9", &why));
    assert_int_equal(why.code, LK_USAGE);
    assert_string_equal(why.text, "device cuda:9: there is one GPU, cuda:0");
    program_close(&p);
}

/* What does not fit is refused before anything of the card's memory is taken. */
static void test_forecast(void **state)
{
    (void)state;
    assert_false(
        one(use_generate, "memory=102400,full=1", LK_MEMORY,
            "of the device's memory and 100 KiB can be had; choose a smaller size (-W, -H), "
            "--precision f16, --device cpu, or close other programs"));
    assert_false(one(use_generate, "memory=135000,full=1", LK_MEMORY,
                     "of the device's memory and 132 KiB can be had"));
    assert_false(one(use_train, "memory=102400,full=1", LK_MEMORY,
                     "of the device's memory for one picture's latents, and 100 KiB can be had"));
}

static void test_train_lost(void **state)
{
    (void)state;
    lost(use_train, 4);
}

static void test_train_full(void **state)
{
    (void)state;
    at_every(use_train, "full=%ld", 1, 4, LK_MEMORY, "not enough memory on the GPU for ");
}

static int open_all(void **state)
{
    error e = {0};
    char path[320];
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy, sizeof toy, "%s/toy", folder);
    snprintf(output, sizeof output, "%s/output", folder);
    snprintf(picture, sizeof picture, "%s/picture.png", folder);
    snprintf(photos, sizeof photos, "%s/photos", folder);
    if (!toy_stable_diffusion(toy, &e) || mkdir(photos, 0777) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return -1;
    }
    snprintf(path, sizeof path, "%s/photo.png", photos);
    paint(path, 1, 100);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generate_lost), cmocka_unit_test(test_generate_full),
        cmocka_unit_test(test_choice),        cmocka_unit_test(test_forecast),
        cmocka_unit_test(test_train_lost),    cmocka_unit_test(test_train_full),
    };
    return cmocka_run_group_tests(tests, open_all, NULL);
}
