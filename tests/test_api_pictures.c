/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_pictures: pictures as a program has them made: snapshots, pictures and latents from
 * memory, sweeps, progress, many of them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api_session.h"

/* ---- snapshots ---- */

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
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot),    cmocka_unit_test(test_latents),
        cmocka_unit_test(test_autoencoder), cmocka_unit_test(test_images),
        cmocka_unit_test(test_sweep),       cmocka_unit_test(test_progress),
        cmocka_unit_test(test_many),        cmocka_unit_test(test_many_fails),
        cmocka_unit_test(test_many_go_on),
    };
    api_open();
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    api_close();
    return status;
}
