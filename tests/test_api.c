/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api: the library as a program uses it that knows include/likeness.h alone: options of other
 * ages, sessions in several threads, cancelling, the settings of a training. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "api_session.h"
#include "base/folder.h"
#include "base/platform.h"

/* ---- options of other ages ---- */

/* As one will know it that is built after some field was added. */
typedef struct later_options {
    lk_generate_options known;
    void *added;
} later_options;

static void test_older_caller(void **state)
{
    (void)state;
    struct {
        older_options o;
        unsigned char behind[64];
    } old;
    memset(&old, 0xAB, sizeof old);
    lk_generate_defaults_sized((lk_generate_options *)&old.o, sizeof old.o);
    for (size_t i = 0; i < sizeof old.behind; i++) assert_int_equal(old.behind[i], 0xAB);
    assert_int_equal(old.o.size, sizeof old.o);
    assert_int_equal(old.o.steps, 50);
    old.o.prompt = "a dog";
    old.o.seed = 7;
    old.o.steps = STEPS;
    old.o.sampler = LK_DDPM;
    lk_generate_options o = options_for(7);
    lk_image *a = make(session, (const lk_generate_options *)&old.o), *b = make(session, &o);
    check_same(a, b);
    lk_image_close(&a);
    lk_image_close(&b);
}

static void test_later_caller(void **state)
{
    (void)state;
    later_options later;
    lk_error why = {LK_OK, ""};
    lk_image *p = NULL;
    memset(&later, 0xAB, sizeof later);
    lk_generate_defaults_sized(&later.known, sizeof later);
    assert_int_equal(later.known.size, sizeof later);
    assert_null(later.added);
    later.known.prompt = "a dog";
    later.known.steps = 1;
    p = make(session, &later.known);
    lk_image_close(&p);
    later.added = &later;
    assert_false(lk_generate(&p, session, opened, &later.known, &why));
    assert_int_equal(why.code, LK_USAGE);
    assert_null(p);
}

static void test_no_size(void **state)
{
    (void)state;
    lk_error why = {LK_OK, ""};
    lk_image *p = NULL;
    lk_generate_options o = {.prompt = "a dog", .steps = 1};
    assert_false(lk_generate(&p, session, opened, &o, &why));
    assert_int_equal(why.code, LK_USAGE);
    assert_non_null(strstr(why.text, "defaults"));
    o = options_for(1);
    o.sampler = (lk_sampler)99;
    why = (lk_error){LK_OK, ""};
    assert_false(lk_generate(&p, session, opened, &o, &why));
    assert_int_equal(why.code, LK_USAGE);
    lk_model_info info;
    memset(&info, 0xAB, sizeof info);
    lk_model_describe_sized(opened, &info, offsetof(lk_model_info, tokens));
    assert_int_equal(info.size, offsetof(lk_model_info, tokens));
    assert_int_equal(info.tokens, (int)0xABABABAB);
}

/* ---- sessions ---- */

typedef struct job {
    uint64_t seed;
    lk_session *session;
    lk_image *picture[2];
} job;

static void *work(void *user)
{
    job *j = user;
    for (int i = 0; i < 2; i++) {
        lk_generate_options o = options_for(j->seed + (uint64_t)i);
        lk_error why = {LK_OK, ""};
        lk_generate(&j->picture[i], j->session, opened, &o, &why);
    }
    return NULL;
}

/* Two threads, each in its own session, on one model: what each makes alone. */
static void test_two_threads(void **state)
{
    (void)state;
    job jobs[2] = {{.seed = 10}, {.seed = 20}};
    pthread_t thread[2];
    lk_error why = {LK_OK, ""};
    lk_session_options s;
    lk_session_defaults(&s);
    s.threads = 1;
    for (int i = 0; i < 2; i++)
        if (!lk_session_open(&jobs[i].session, context, &s, &why)) fail_msg("%s", why.text);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, work, &jobs[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 2; k++) {
            lk_generate_options o = options_for(jobs[i].seed + (uint64_t)k);
            lk_image *alone = make(session, &o);
            assert_non_null(jobs[i].picture[k]);
            check_same(alone, jobs[i].picture[k]);
            lk_image_close(&alone);
            lk_image_close(&jobs[i].picture[k]);
        }
        lk_session_close(&jobs[i].session);
    }
}

static int nested(void *user, const lk_progress *p)
{
    lk_error *why = user;
    lk_generate_options o = options_for(1);
    lk_image *picture = NULL;
    assert_int_equal(p->size, sizeof *p);
    if (p->step == 1) assert_false(lk_generate(&picture, session, opened, &o, why));
    return 0;
}

/* A session at work is nobody else's, and a model belongs to its context. */
static void test_whose(void **state)
{
    (void)state;
    lk_error why = {LK_OK, ""};
    lk_generate_options o = options_for(1);
    o.progress = nested;
    o.user = &why;
    lk_image *p = make(session, &o);
    assert_int_equal(why.code, LK_USAGE);
    lk_image_close(&p);
    lk_context *other = NULL;
    lk_session *foreign = NULL;
    why = (lk_error){LK_OK, ""};
    assert_true(lk_context_open(&other, NULL, &why) &&
                lk_session_open(&foreign, other, NULL, &why));
    o = options_for(1);
    assert_false(lk_generate(&p, foreign, opened, &o, &why));
    assert_int_equal(why.code, LK_USAGE);
    lk_session_close(&foreign);
    lk_context_close(&other);
}

/* Models and sessions close in any order; a session works on afterwards. */
static void test_closing(void **state)
{
    (void)state;
    lk_context_close(NULL);
    lk_session_close(NULL);
    lk_model_close(NULL);
    lk_image_close(NULL);
    lk_latents_close(NULL);
    lk_snapshot_close(NULL);
    lk_sweep_close(NULL);
    lk_schedule_close(NULL);
    lk_photos_close(NULL);
    lk_features_close(NULL);
    lk_vision_close(NULL);
    lk_error why = {LK_OK, ""};
    lk_model *second = NULL;
    lk_session *own = NULL;
    lk_image *p = NULL;
    lk_model_options m;
    lk_generate_options o = options_for(1);
    lk_model_defaults(&m);
    m.path = toy;
    assert_true(lk_model_open(&second, context, &m, &why) &&
                lk_session_open(&own, context, NULL, &why));
    assert_true(lk_generate(&p, own, second, &o, &why) &&
                lk_generate_check(session, second, &o, NULL, &why));
    lk_image_close(&p);
    lk_model_close(&second);
    p = make(own, &o);
    lk_image_close(&p);
    lk_session_close(&own);
}

/* ---- cancelling ---- */

typedef struct canceller {
    atomic_int step;
    atomic_bool cancelled;
    lk_session *session;
} canceller;

static int wait_for_cancel(void *user, const lk_progress *p)
{
    canceller *c = user;
    atomic_store(&c->step, p->step);
    while (p->step == 1 && !atomic_load(&c->cancelled)) sched_yield();
    return 0;
}

static void *cancel(void *user)
{
    canceller *c = user;
    while (atomic_load(&c->step) < 1) sched_yield();
    lk_session_cancel(c->session);
    atomic_store(&c->cancelled, true);
    return NULL;
}

static void test_cancel(void **state)
{
    (void)state;
    canceller c = {.session = session};
    pthread_t thread;
    lk_error why = {LK_OK, ""};
    lk_image *p = NULL;
    lk_generate_options o = options_for(3);
    o.progress = wait_for_cancel;
    o.user = &c;
    assert_int_equal(pthread_create(&thread, NULL, cancel, &c), 0);
    assert_false(lk_generate(&p, session, opened, &o, &why));
    pthread_join(thread, NULL);
    assert_int_equal(why.code, LK_CANCELLED);
    assert_int_equal(atomic_load(&c.step), 1);
    assert_null(p);
    o = options_for(3); /* it stays so until it is resumed */
    why = (lk_error){LK_OK, ""};
    assert_false(lk_generate(&p, session, opened, &o, &why));
    assert_int_equal(why.code, LK_CANCELLED);
    lk_session_resume(session);
    p = make(session, &o);
    lk_image_close(&p);
}

/* Once a step is done, wherever in the next ones the training is. */
static void *cancel_soon(void *user)
{
    canceller *c = user;
    while (atomic_load(&c->step) < 1) sched_yield();
    lk_session_cancel(c->session);
    return NULL;
}

static int note_step(void *user, const lk_train_progress *p)
{
    canceller *c = user;
    if (p->phase == LK_TRAIN_STEPS) atomic_store(&c->step, (int)p->done);
    return 0;
}

static bool from_memory;

static bool train(lk_train_options *o, const char *name, lk_error *why)
{
    static char out[400];
    snprintf(out, sizeof out, "%s/%s", folder, name);
    o->output_dir = out;
    if (!from_memory) o->instance_data_dir = SOURCE_DIR "/examples/subject";
    o->instance_prompt = "a photo of a dog";
    o->train_batch_size = 1;
    if (!o->max_train_steps) o->max_train_steps = 40;
    o->any_seed = false;
    o->seed = 4;
    return lk_train(session, opened, o, why);
}

static void read_weights(const char *name, char **data, size_t *size)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s/unet/diffusion_pytorch_model.safetensors", folder, name);
    assert_true(file_read(path, 1 << 28, data, size, NULL));
}

/* A training that was cancelled keeps what it had done, and goes on to the unbroken one's end. */
static void test_cancel_training(void **state)
{
    (void)state;
    canceller c = {.session = session};
    pthread_t thread;
    lk_error why = {LK_OK, ""};
    lk_train_options o;
    lk_train_defaults(&o);
    if (!train(&o, "whole", &why)) fail_msg("%s", why.text);
    o.progress = note_step;
    o.user = &c;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &c), 0);
    bool done = train(&o, "broken", &why);
    pthread_join(thread, NULL);
    lk_session_resume(session);
    assert_false(done);
    assert_int_equal(why.code, LK_CANCELLED);
    assert_non_null(strstr(why.text, "--resume_from_checkpoint latest"));
    lk_train_defaults(&o);
    o.resume_from_checkpoint = "latest";
    why = (lk_error){LK_OK, ""};
    if (!train(&o, "broken", &why)) fail_msg("%s", why.text);
    char *a, *b;
    size_t n, m;
    read_weights("whole", &a, &n);
    read_weights("broken", &b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

/* Pictures that were read by the program train as those of the folder do. */
static void test_train_from_memory(void **state)
{
    (void)state;
    enum { MOST = 10 };
    lk_image *picture[MOST] = {NULL};
    lk_error why = {LK_OK, ""};
    lk_train_options o;
    folder_names names;
    error e = {0};
    size_t count = 0;
    assert_true(folder_list(&names, SOURCE_DIR "/examples/subject", &e));
    for (size_t i = 0; i < names.count; i++) {
        char path[800];
        snprintf(path, sizeof path, SOURCE_DIR "/examples/subject/%s", names.name[i]);
        if (count < MOST && lk_image_open(&picture[count], path, NULL)) count++;
    }
    folder_list_free(&names);
    assert_in_range(count, 2, MOST);
    lk_train_defaults(&o);
    o.max_train_steps = 3;
    if (!train(&o, "folder", &why)) fail_msg("%s", why.text);
    lk_train_defaults(&o);
    o.instance_images = (const lk_image *const *)picture;
    o.instance_count = count;
    o.max_train_steps = 3;
    assert_false(train(&o, "both", &why)); /* the folder, too */
    assert_int_equal(why.code, LK_USAGE);
    why = (lk_error){LK_OK, ""};
    from_memory = true;
    o.instance_data_dir = NULL;
    o.instance_prompt = "a photo of sks dog";
    o.output_dir = "out";
    if (!lk_train_check(&o, &why)) fail_msg("%s", why.text);
    const lk_image *none[1] = {NULL};
    o.instance_images = none;
    assert_false(lk_train_check(&o, &why));
    assert_int_equal(why.code, LK_USAGE);
    why = (lk_error){LK_OK, ""};
    o.instance_images = (const lk_image *const *)picture;
    bool done = train(&o, "memory", &why);
    from_memory = false;
    if (!done) fail_msg("%s", why.text);
    char *a, *b;
    size_t n, m;
    read_weights("folder", &a, &n);
    read_weights("memory", &b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
    for (size_t i = 0; i < count; i++) lk_image_close(&picture[i]);
}

/* ---- the settings of a training ---- */

/* docs/TRAINING.md has a line for each setting, as the library tells it. */
static void test_settings_document(void **state)
{
    (void)state;
    static char page[1 << 16], row[1024];
    static const char *const type[] = {"switch", "whole number", "number", "text", "choice"};
    lk_train_setting s;
    FILE *f = fopen(SOURCE_DIR "/docs/TRAINING.md", "r");
    bool whole = true;
    assert_non_null(f);
    page[fread(page, 1, sizeof page - 1, f)] = '\0';
    fclose(f);
    for (size_t i = 0; lk_train_setting_at(i, &s); i++) {
        bool plain = s.type == LK_SETTING_SWITCH || s.type == LK_SETTING_TEXT;
        snprintf(row, sizeof row, "| `%s` | %s | %s | %s | %s | %s |\n", s.name, type[s.type],
                 plain ? "" : s.range, s.standard, s.determines ? "yes" : "no", s.help);
        if (strstr(page, row)) continue;
        print_error("docs/TRAINING.md should have: %s", row);
        whole = false;
    }
    assert_true(whole);
}

static void refused(const char *name, const char *text, const char *part)
{
    lk_train_options o;
    lk_error why = {LK_OK, ""};
    lk_train_defaults(&o);
    assert_false(lk_train_set(&o, name, text, &why));
    assert_int_equal(why.code, LK_USAGE);
    if (!strstr(why.text, part)) fail_msg("\"%s\" is not in: %s", part, why.text);
}

static void test_settings(void **state)
{
    (void)state;
    lk_train_options o;
    lk_error why = {LK_OK, ""};
    lk_train_defaults(&o);
    static const char *const good[][2] = {{"learning_rate", "2.5e-4"},
                                          {"max_train_steps", "5000000000"},
                                          {"center_crop", "true"},
                                          {"cache_latents", "false"},
                                          {"lr_scheduler", "cosine"},
                                          {"optimizer", "adamw8bit"},
                                          {"instance_prompt", "a photo"},
                                          {"seed", "-1"},
                                          {"resolution", "0"},
                                          {"snr_gamma", "0"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!lk_train_set(&o, good[i][0], good[i][1], &why)) fail_msg("%s", why.text);
    assert_true(o.learning_rate == 2.5e-4 && o.max_train_steps == 5000000000 && o.center_crop);
    assert_true(!o.cache_latents && o.lr_scheduler == LK_RATE_COSINE &&
                o.optimizer == LK_ADAMW_8BIT);
    assert_true(o.any_seed && o.train_batch_size == 4);
    assert_string_equal(o.instance_prompt, "a photo");
    assert_true(lk_train_set(&o, "seed", "12", &why) && !o.any_seed && o.seed == 12);
    refused("learning_rate", "0", "--learning_rate must be a number above 0, not 0; try");
    refused("learning_rate", "fast", "--learning_rate wants a number, not \"fast\"");
    refused("adam_beta1", "1", "--adam_beta1 must be at least 0 and below 1, not 1; 0.9 is usual");
    refused("train_batch_size", "0", "--train_batch_size must be at least 1, not 0");
    refused("train_batch_size", "5000000000", "wants a whole number");
    refused("max_train_steps", "0", "--max_train_steps must be at least 1, not 0; leave it out");
    refused("lr_scheduler", "round", "there are constant, ");
    refused("center_crop", "maybe", "true or false");
    refused("colour", "red", "no setting \"colour\"");
    assert_true(lk_train_determines(&o, "learning_rate") &&
                lk_train_determines(&o, "lr_warmup_steps"));
    o.lr_scheduler = LK_RATE_CONSTANT;
    assert_false(lk_train_determines(&o, "lr_warmup_steps") ||
                 lk_train_determines(&o, "output_dir"));
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older_caller),
        cmocka_unit_test(test_later_caller),
        cmocka_unit_test(test_no_size),
        cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_whose),
        cmocka_unit_test(test_closing),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_training),
        cmocka_unit_test(test_train_from_memory),
        cmocka_unit_test(test_settings_document),
        cmocka_unit_test(test_settings),
    };
    api_open();
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    api_close();
    return status;
}
