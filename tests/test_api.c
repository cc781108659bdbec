/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api: the library as a program uses it that knows include/likeness.h alone: options of other
 * ages, sessions in several threads, cancelling, snapshots, pictures and latents from memory. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/folder.h"
#include "base/platform.h"
#include "likeness.h"
#include "support.h"
#include "toy.h"

enum { STEPS = 4 };

static char folder[256], toy[300];
static lk_context *context;
static lk_session *session;
static lk_model *opened;

static void setup(void)
{
    error e = {0};
    lk_error why = {LK_OK, ""};
    lk_model_options m;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy, sizeof toy, "%s/toy", folder);
    assert_true(toy_stable_diffusion(toy, &e));
    lk_model_defaults(&m);
    m.path = toy;
    if (!lk_context_open(&context, NULL, &why) || !lk_session_open(&session, context, NULL, &why) ||
        !lk_model_open(&opened, context, &m, &why))
        fail_msg("%s", why.text);
}

static lk_generate_options options_for(uint64_t seed)
{
    lk_generate_options o;
    lk_generate_defaults(&o);
    o.prompt = "a dog";
    o.seed = seed;
    o.steps = STEPS;
    o.sampler = LK_DDPM; /* which draws in every step */
    return o;
}

static lk_image *make(lk_session *s, const lk_generate_options *o)
{
    lk_image *p = NULL;
    lk_error why = {LK_OK, ""};
    if (!lk_generate(&p, s, opened, o, &why)) fail_msg("%s", why.text);
    return p;
}

static size_t bytes_of(const lk_image *p)
{
    return 3 * (size_t)lk_image_width(p) * (size_t)lk_image_height(p);
}

static void check_same(const lk_image *a, const lk_image *b)
{
    assert_int_equal(bytes_of(a), bytes_of(b));
    assert_memory_equal(lk_image_pixels(a), lk_image_pixels(b), bytes_of(a));
    assert_string_equal(lk_image_settings(a), lk_image_settings(b));
}

/* ---- options of other ages ---- */

/* lk_generate_options as a program knew it that was built before `guidance` was there, and as one
 * will that is built after some field was added. */
typedef struct older_options {
    size_t size;
    const char *prompt, *negative;
    uint64_t seed;
    int width, height;
    lk_sampler sampler;
    int steps;
} older_options;

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

/* ---- snapshots ---- */

typedef struct keeper {
    lk_snapshot *kept;
    int told;
} keeper;

static void keep(void *user, const lk_snapshot *s)
{
    keeper *k = user;
    assert_int_equal(lk_snapshot_step(s), ++k->told);
    if (lk_snapshot_step(s) == 2) assert_true(lk_snapshot_copy(&k->kept, s, NULL));
}

static void test_snapshot(void **state)
{
    (void)state;
    keeper k = {NULL, 0};
    lk_generate_options o = options_for(5);
    o.reached = keep;
    o.user = &k;
    lk_image *whole = make(session, &o);
    assert_int_equal(k.told, STEPS);
    assert_int_equal(lk_snapshot_step(k.kept), 2);
    o = options_for(5);
    o.from = k.kept;
    lk_image *rest = make(session, &o);
    check_same(whole, rest);
    lk_model_info info;
    lk_error why = {LK_OK, ""};
    lk_model_describe(opened, &info);
    o.width = 2 * info.width;
    lk_image *p = NULL;
    assert_false(lk_generate(&p, session, opened, &o, &why));
    assert_int_equal(why.code, LK_USAGE);
    lk_image_close(&whole);
    lk_image_close(&rest);
    why = (lk_error){LK_OK, ""};
    o.width = 0;
    o.seed++; /* another picture's beginning */
    assert_false(lk_generate(&p, session, opened, &o, &why));
    assert_int_equal(why.code, LK_USAGE);
    lk_snapshot_close(&k.kept);
}

/* ---- from memory ---- */

static void test_latents(void **state)
{
    (void)state;
    lk_generate_options o = options_for(6);
    lk_error why = {LK_OK, ""};
    lk_image *first = make(session, &o);
    const lk_latents *noise = lk_image_initial(first);
    int shape[3];
    lk_latents *copy = NULL;
    lk_latents_shape(noise, shape);
    assert_true(
        lk_latents_from_memory(&copy, lk_latents_data(noise), shape[0], shape[1], shape[2], &why));
    o.sampler = LK_DDIM; /* which draws nothing but the noise */
    lk_image *drawn = make(session, &o);
    o.latents = copy;
    lk_image *given = make(session, &o);
    assert_memory_equal(lk_image_pixels(drawn), lk_image_pixels(given), bytes_of(drawn));
    assert_memory_equal(lk_latents_data(lk_image_final(drawn)),
                        lk_latents_data(lk_image_final(given)),
                        (size_t)(shape[0] * shape[1] * shape[2]) * sizeof(float));
    lk_latents_close(&copy);
    assert_false(lk_latents_from_memory(&copy, lk_latents_data(noise), 4, 0, 4, &why));
    assert_int_equal(why.code, LK_USAGE);
    lk_image_close(&first);
    lk_image_close(&drawn);
    lk_image_close(&given);
}

/* The latents that a picture was decoded from are decoded to it again; a picture's own are near
 * them. */
static void test_autoencoder(void **state)
{
    (void)state;
    lk_generate_options o = options_for(8);
    lk_error why = {LK_OK, ""};
    lk_encode_options c;
    lk_image *p = make(session, &o), *again = NULL;
    lk_latents *mean = NULL, *drawn = NULL, *same = NULL;
    int shape[3], its[3];
    if (!lk_decode(&again, session, opened, lk_image_final(p), &why)) fail_msg("%s", why.text);
    assert_memory_equal(lk_image_pixels(p), lk_image_pixels(again), bytes_of(p));
    lk_encode_defaults(&c);
    c.sample = true;
    c.seed = 4;
    if (!lk_encode(&mean, session, opened, p, NULL, &why) ||
        !lk_encode(&drawn, session, opened, p, &c, &why) ||
        !lk_encode(&same, session, opened, p, &c, &why))
        fail_msg("%s", why.text);
    lk_latents_shape(lk_image_final(p), shape);
    lk_latents_shape(mean, its);
    assert_memory_equal(shape, its, sizeof shape);
    size_t bytes = (size_t)(shape[0] * shape[1] * shape[2]) * sizeof(float);
    assert_memory_equal(lk_latents_data(drawn), lk_latents_data(same), bytes);
    assert_memory_not_equal(lk_latents_data(drawn), lk_latents_data(mean), bytes);
    lk_latents_close(&mean);
    const uint8_t odd[3 * 8 * 9] = {0};
    lk_image_close(&again);
    assert_true(lk_image_from_pixels(&again, odd, 9, 8, 0, &why));
    assert_false(lk_encode(&mean, session, opened, again, NULL, &why));
    assert_int_equal(why.code, LK_USAGE);
    lk_latents_close(&drawn);
    lk_latents_close(&same);
    lk_image_close(&again);
    lk_image_close(&p);
}

static void test_images(void **state)
{
    (void)state;
    /* 2x2, rows of 8 bytes, of which 2 are no pixels */
    const uint8_t rows[16] = {1, 2, 3, 4, 5, 6, 99, 99, 7, 8, 9, 10, 11, 12, 99, 99};
    lk_error why = {LK_OK, ""};
    lk_image *p = NULL, *q = NULL;
    char path[400];
    assert_true(lk_image_from_pixels(&p, rows, 2, 2, 8, &why));
    for (int i = 0; i < 12; i++) assert_int_equal(lk_image_pixels(p)[i], i + 1);
    assert_null(lk_image_settings(p));
    assert_null(lk_image_initial(p));
    assert_true(lk_image_set_settings(p, "Steps: 3", &why));
    snprintf(path, sizeof path, "%s/four.png", folder);
    assert_true(lk_image_save(p, path, &why));
    uint8_t file[4096];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(file, 1, sizeof file, f);
    fclose(f);
    assert_true(lk_image_from_memory(&q, file, n, NULL, &why));
    check_same(p, q);
    lk_image_close(&q);
    assert_false(lk_image_from_memory(&q, file, 20, "upload", &why));
    assert_non_null(strstr(why.text, "upload"));
    assert_false(lk_image_from_pixels(&q, rows, 2, 2, 5, NULL));
    assert_null(q);
    lk_image_close(&p);
}

/* ---- sweeps, samplers ---- */

static void test_sweep(void **state)
{
    (void)state;
    lk_error why = {LK_OK, ""};
    lk_sweep *s = NULL;
    lk_generate_options o = options_for(1);
    assert_true(lk_sweep_parse(&s, "sampler=ddpm,ddim steps=9,3", &o, &why));
    assert_int_equal(lk_sweep_count(s), 4);
    assert_string_equal(lk_sweep_name(s, 3), "ddim-3");
    lk_sweep_apply(s, 3, &o);
    assert_int_equal(o.steps, 3);
    assert_int_equal(o.sampler, LK_DDIM);
    assert_string_equal(o.prompt, "a dog");
    older_options old;
    lk_generate_defaults_sized((lk_generate_options *)&old, sizeof old);
    lk_sweep_apply(s, 0, (lk_generate_options *)&old);
    assert_int_equal(old.steps, 9);
    assert_int_equal(old.size, sizeof old);
    lk_sweep_close(&s);
    assert_string_equal(lk_sampler_name(LK_DDIM), "ddim");
    int count = 0;
    while (lk_sampler_name(count)) count++;
    assert_in_range(count, 2, 100);
    assert_int_equal(count, lk_sampler_count());
    assert_string_equal(lk_sampler_label(LK_DDPM), "DDPM");
    assert_null(lk_sampler_label(count));
    assert_true(lk_sampler_has_eta(LK_DDIM) && !lk_sampler_has_variance(LK_DDIM));
    assert_true(lk_sampler_has_variance(LK_DDPM) && !lk_sampler_has_eta(LK_DDPM));
    assert_false(lk_sampler_has_eta(count) || lk_sampler_has_variance(-1));
    lk_sampler found;
    assert_true(lk_sampler_parse(&found, "DDPMScheduler") && found == LK_DDPM);
    lk_generate_options chosen;
    lk_generate_defaults(&chosen);
    assert_int_equal(chosen.sampler, LK_SAMPLER_MODEL);
    assert_null(lk_sampler_name(chosen.sampler));
    assert_true(lk_sampler_choose(&chosen, "DPM++ 2M Karras", &why));
    assert_string_equal(lk_sampler_label(chosen.sampler), "DPM++ 2M");
    assert_string_equal(chosen.sigmas, "karras");
    assert_true(lk_sampler_has_sigmas(chosen.sampler) && !lk_sampler_has_sigmas(LK_DDIM));
    assert_true(lk_sampler_evaluations(chosen.sampler) == 1 && lk_sampler_evaluations(-1) == 0);
    assert_true(lk_sampler_parse(&found, "heun") && lk_sampler_evaluations(found) == 2);
    assert_true(lk_sampler_choose((lk_generate_options *)&old, "Euler a Karras", &why));
    assert_string_equal(lk_sampler_name(old.sampler), "euler_a"); /* without sigmas, no more */
    int listed;
    assert_true(lk_sigmas_check("7,2,0", &listed, &why) && listed == 2);
    assert_string_equal(lk_sigmas_label("karras"), "Karras");
    assert_false(lk_sampler_choose(&chosen, "eular", &why));
    assert_non_null(strstr(why.text, "did you mean euler?"));
    lk_precision type = LK_BF16;
    assert_true(lk_precision_parse(&type, "f16") && type == LK_F16);
    assert_true(lk_precision_parse(&type, "no") && type == LK_F32);
    assert_false(lk_precision_parse(&type, "half"));
    assert_string_equal(lk_precision_name(LK_F16), "f16");
    assert_string_equal(lk_mixed_precision_name(LK_F16), "fp16");
    assert_string_equal(lk_mixed_precision_name(LK_F32), "no");
    assert_null(lk_precision_name((lk_precision)3));
    assert_null(lk_mixed_precision_name((lk_precision)-1));
}

static int last_of(void *user, const lk_progress *p)
{
    int *told = user;
    assert_true(p->step <= p->steps);
    ++*told;
    return *told == 3;
}

/* Opening, inspecting and merging tell how far they are, and can be stopped there. */
static void test_progress(void **state)
{
    (void)state;
    lk_error why = {LK_OK, ""};
    lk_model *m = NULL;
    int told = 10;
    lk_model_options o;
    lk_model_defaults(&o);
    o.path = toy;
    o.progress = last_of;
    o.user = &told;
    assert_true(lk_model_open(&m, context, &o, &why));
    assert_true(told > 10);
    lk_model_close(&m);
    told = 2;
    assert_false(lk_model_open(&m, context, &o, &why));
    assert_int_equal(why.code, LK_CANCELLED);
    char *text = NULL;
    lk_inspect_options i;
    lk_inspect_defaults(&i);
    i.progress = last_of;
    i.user = &told;
    told = 10;
    why = (lk_error){LK_OK, ""};
    assert_true(lk_inspect(&text, toy, &i, &why));
    assert_true(told > 14);
    lk_free(text);
    char out[400];
    const char *names[] = {"a"};
    lk_merge_options g;
    lk_merge_defaults(&g);
    g.progress = last_of;
    g.user = &told;
    told = 0;
    snprintf(out, sizeof out, "%s/merged", folder);
    assert_false(lk_merge(session, &opened, names, 1, "1*a", out, &g, &why));
    assert_int_equal(why.code, LK_CANCELLED);
    assert_int_equal(told, 3);
}

/* ---- many pictures ---- */

enum { MANY = 11 };

typedef struct many {
    lk_generate_options o[MANY];
    lk_job jobs[MANY];
    const lk_job *job[MANY];
    lk_image *made[MANY];
    size_t next; /* the least index that may come */
    int stop_at; /* the index with which it wants no more; -1: never */
    int step, steps, told;
} many;

static int many_made(void *user, size_t i, lk_image *p)
{
    many *m = user;
    assert_true(i >= m->next);
    m->made[i] = p;
    m->next = i + 1;
    return (int)i == m->stop_at;
}

static int many_progress(void *user, const lk_progress *p)
{
    many *m = user;
    assert_true(p->step >= m->step && p->step <= p->steps && p->pictures == MANY &&
                p->picture <= MANY);
    m->step = p->step;
    m->steps = p->steps;
    m->told++;
    return 0;
}

/* Three settings: a run of alike ones, others, and one by a schedule. */
static void many_setup(many *m, const char *const *names)
{
    memset(m, 0, sizeof *m);
    m->stop_at = -1;
    for (int i = 0; i < MANY; i++) {
        m->o[i] = options_for((uint64_t)i);
        if (i > 6) m->o[i].sampler = LK_DDIM;
        if (i > 8) m->o[i].steps = 2;
        lk_job_defaults(&m->jobs[i]);
        m->jobs[i].models = &opened;
        m->jobs[i].names = names;
        m->jobs[i].options = &m->o[i];
        if (i == MANY - 1) m->jobs[i].schedule = "a x2";
        m->job[i] = &m->jobs[i];
    }
}

static bool many_run(many *m, lk_session *s, lk_error *why)
{
    lk_many_options o;
    lk_many_defaults(&o);
    o.made = many_made;
    o.progress = many_progress;
    o.user = m;
    return lk_generate_many(s, m->job, MANY, &o, why);
}

static int many_close(many *m)
{
    int count = 0;
    for (int i = 0; i < MANY; i++) {
        count += m->made[i] != NULL;
        lk_image_close(&m->made[i]);
    }
    return count;
}

/* By one thread and by several: in order, each with the bytes that it has alone. */
static void test_many(void **state)
{
    (void)state;
    static const char *const names[] = {"a"};
    for (int threads = 1; threads <= 2; threads++) {
        many m;
        lk_error why = {LK_OK, ""};
        lk_session *s = NULL;
        lk_session_options o;
        lk_session_defaults(&o);
        o.threads = threads;
        many_setup(&m, names);
        assert_true(lk_session_open(&s, context, &o, &why));
        if (!many_run(&m, s, &why)) fail_msg("%s", why.text);
        assert_int_equal(m.step, 9 * STEPS + 2 * 2);
        assert_int_equal(m.steps, m.step);
        assert_true(m.told > MANY);
        for (int i = 0; i < MANY - 1; i++) {
            lk_image *alone = make(session, &m.o[i]);
            check_same(alone, m.made[i]);
            lk_image_close(&alone);
        }
        lk_image *mixed = NULL;
        assert_true(
            lk_generate_mixed(&mixed, session, &opened, names, 1, "a x2", &m.o[MANY - 1], &why));
        check_same(mixed, m.made[MANY - 1]);
        lk_image_close(&mixed);
        assert_int_equal(many_close(&m), MANY);
        lk_session_close(&s);
    }
    assert_true(lk_generate_many(session, NULL, 0, NULL, NULL));
}

/* One that cannot be made keeps none from those before it; one that wants no more ends it. */
static void test_many_fails(void **state)
{
    (void)state;
    static const char *const names[] = {"a"};
    many m;
    lk_error why = {LK_OK, ""};
    const float bad[4 * 16 * 16] = {(float)NAN};
    lk_latents *noise = NULL;
    many_setup(&m, names);
    assert_true(lk_latents_from_memory(&noise, bad, 4, 16, 16, &why));
    m.o[5].latents = noise;
    assert_false(many_run(&m, session, &why));
    assert_int_equal(why.code, LK_NUMERIC);
    for (int i = 0; i < MANY; i++) assert_true(i < 5 ? m.made[i] != NULL : i != 5 || !m.made[i]);
    many_close(&m);
    lk_latents_close(&noise);
    many_setup(&m, names);
    m.stop_at = 2;
    why = (lk_error){LK_OK, ""};
    assert_false(many_run(&m, session, &why));
    assert_int_equal(why.code, LK_CANCELLED);
    assert_int_equal(many_close(&m), 3);
    many_setup(&m, names);
    lk_session_cancel(session);
    why = (lk_error){LK_OK, ""};
    assert_false(many_run(&m, session, &why));
    assert_int_equal(why.code, LK_CANCELLED);
    lk_session_resume(session);
    many_close(&m);
    m.jobs[3].count = 0;
    why = (lk_error){LK_OK, ""};
    assert_false(many_run(&m, session, &why));
    assert_int_equal(why.code, LK_USAGE);
}

/* What pictures reached together is told, and they go on from there together. */
static void test_many_go_on(void **state)
{
    (void)state;
    enum { PICTURES = 2 };
    keeper k[PICTURES] = {{NULL, 0}};
    lk_generate_options o[PICTURES];
    lk_job jobs[PICTURES];
    const lk_job *list[PICTURES];
    lk_error why = {LK_OK, ""};
    lk_session *s = NULL;
    lk_session_options one;
    lk_many_options given;
    lk_session_defaults(&one);
    one.threads = 1;
    assert_true(lk_session_open(&s, context, &one, &why));
    for (int i = 0; i < PICTURES; i++) {
        o[i] = options_for((uint64_t)i + 5);
        o[i].reached = keep;
        o[i].user = &k[i];
        lk_job_defaults(&jobs[i]);
        jobs[i].models = &opened;
        jobs[i].options = &o[i];
        list[i] = &jobs[i];
    }
    many whole = {.stop_at = -1}, rest = {.stop_at = -1};
    lk_many_defaults(&given);
    given.made = many_made;
    given.user = &whole;
    if (!lk_generate_many(s, list, PICTURES, &given, &why)) fail_msg("%s", why.text);
    for (int i = 0; i < PICTURES; i++) {
        assert_int_equal(k[i].told, STEPS);
        o[i].reached = NULL;
        o[i].from = k[i].kept;
    }
    given.user = &rest;
    if (!lk_generate_many(s, list, PICTURES, &given, &why)) fail_msg("%s", why.text);
    for (int i = 0; i < PICTURES; i++) {
        lk_generate_options alone_options = options_for((uint64_t)i + 5);
        lk_image *alone = make(session, &alone_options);
        check_same(alone, whole.made[i]);
        check_same(alone, rest.made[i]);
        lk_image_close(&alone);
        lk_snapshot_close(&k[i].kept);
    }
    many_close(&whole);
    many_close(&rest);
    lk_session_close(&s);
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
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_latents),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_autoencoder),
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_many_fails),
        cmocka_unit_test(test_many_go_on),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_settings_document),
    };
    setup();
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    lk_model_close(&opened);
    lk_session_close(&session);
    lk_context_close(&context);
    return status;
}
