/* SPDX-License-Identifier: Apache-2.0
 *
 * test_study_deep: what a study says a deep cache costs: pictures of which it is known how much of
 * the subject is in them, by a toy as the judge. */
#include <math.h>
#include <unistd.h>

#include "base/platform.h"
#include "painted.h"
#include "study/claims/statements.h"
#include "study/measure/measure.h"
#include "study/page/compare.h"
#include "toy.h"

enum { BASE, TUNED, MODELS, SEEDS = 5, BLOCKS = 6, CELLS = BLOCKS * SEEDS };

/* Blocks of pictures that differ in the seed alone: whose, under what, with which cache, and how
 * strong the subject's mark is in them. */
static const struct block {
    int model;
    const char *prompt;
    int deep_cache, mark;
} blocks[BLOCKS] = {{BASE, "a dog", 0, 0},       {BASE, "a dog", 3, 0},
                    {TUNED, "a sks dog", 0, 95}, {TUNED, "a sks dog", 5, 5},
                    {TUNED, "a sks dog", 3, 80}, {TUNED, "a cat", 2, 90}};

static const char *name_list[] = {"base", "tuned"};
static char folder[300];
static lk_context *context;
static lk_session *session;
static crew one;
static lk_model *models[MODELS];
static study_model names[MODELS];
static study_cell cell[CELLS];
static study_section section = {.id = "one", .rows = BLOCKS, .columns = SEEDS, .cell = cell};
static study_plan plan = {.model = names,
                          .models = MODELS,
                          .model_name = name_list,
                          .section = &section,
                          .sections = 1,
                          .measure_noises = 2};

static char *image_at(const study_cell *c)
{
    char *path = string_format("%s/cells/%s.png", folder, c->name);
    assert_non_null(path);
    return path;
}

static void make_cell(int i)
{
    const struct block *b = &blocks[i / SEEDS];
    int seed = i % SEEDS;
    cell[i] = (study_cell){.prompt = b->prompt,
                           .negative = "",
                           .seed = (uint64_t)seed,
                           .steps = 4,
                           .guidance = 5,
                           .deep_cache = b->deep_cache,
                           .schedule = name_list[b->model]};
    snprintf(cell[i].name, sizeof cell[i].name, "%016d", i);
    assert_true(lk_schedule_open(&cell[i].mix, cell[i].schedule, name_list, MODELS, 4, NULL));
    char *path = image_at(&cell[i]);
    paint(path, 4 + seed + (b->deep_cache == 3), b->mark); /* another ground: a distance */
    free(path);
}

static int open_all(void **state)
{
    error e = {0};
    lk_error why = {0};
    lk_model_options o;
    char path[400];
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i ? "cells" : "photos");
        assert_true(path_make_dir(path, &e));
        if (!i) names[TUNED].train.instance_data_dir = strdup(path);
    }
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/photos/%d.png", folder, i);
        paint(path, i, 100);
    }
    snprintf(path, sizeof path, "%s/model", folder);
    lk_model_defaults(&o);
    o.path = path;
    if (!toy_stable_diffusion(path, &e)) fail_msg("%s", e.text);
    scale_latents(path);
    if (!lk_context_open(&context, NULL, &why) || !lk_session_open(&session, context, NULL, &why))
        fail_msg("%s", why.text);
    for (int i = 0; i < MODELS; i++) {
        if (!lk_model_open(&models[i], context, &o, &why)) fail_msg("%s", why.text);
        names[i].name = name_list[i];
    }
    one = (crew){&session, 1};
    names[BASE].path = "toy";
    names[TUNED].train.instance_prompt = "a sks dog";
    names[TUNED].train.class_prompt = "a dog";
    for (int i = 0; i < CELLS; i++) make_cell(i);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < CELLS; i++) lk_schedule_close(&cell[i].mix);
    free((char *)(uintptr_t)names[TUNED].train.instance_data_dir);
    for (int i = 0; i < MODELS; i++) lk_model_close(&models[i]);
    lk_session_close(&session);
    lk_context_close(&context);
    return 0;
}

static void measure(study_measures *m)
{
    error e = {0};
    measure_source s = {
        .session = session, .crew = &one, .plan = &plan, .models = models, .folder = folder};
    if (!study_measure(m, &s, &e)) fail_msg("%s", e.text);
}

static void is_mean(const estimate *x, const double v[SEEDS])
{
    estimate wanted = estimate_of(v, SEEDS);
    assert_int_equal(x->n, SEEDS);
    assert_true(fabs(x->mean - wanted.mean) <= 1e-9 * (1 + fabs(wanted.mean)));
    assert_true(fabs(x->low - wanted.low) <= 1e-9 * (1 + fabs(wanted.low)));
}

static double distance(int a, int b)
{
    image x, y;
    char *first = image_at(&cell[a]), *second = image_at(&cell[b]);
    assert_true(image_read(&x, NULL, first, NULL) && image_read(&y, NULL, second, NULL));
    double d = image_distance(&x, &y);
    image_free(&x), image_free(&y);
    free(first), free(second);
    return d;
}

/* A row is of the pictures of two blocks, pair by pair. */
static void check_row(const study_measures *m, const deep_row *r, int whole, int reused)
{
    double share[3][SEEDS], pixels[SEEDS], drift[SEEDS];
    assert_int_equal(r->model, blocks[reused].model);
    assert_string_equal(r->prompt, blocks[reused].prompt);
    assert_int_equal(r->deep_cache, blocks[reused].deep_cache);
    assert_int_equal(r->subject, 0);
    for (int i = 0; i < SEEDS; i++) {
        int a = whole * SEEDS + i, b = reused * SEEDS + i;
        double apart = 0;
        for (int k = 0; k < SEEDS; k++)
            if (k != i) apart += distance(a, whole * SEEDS + k) / (SEEDS - 1);
        share[0][i] = m->cell_share[a];
        share[1][i] = m->cell_share[b];
        share[2][i] = share[1][i] - share[0][i];
        pixels[i] = distance(a, b);
        drift[i] = 100 * pixels[i] / apart;
    }
    is_mean(&r->whole, share[0]);
    is_mean(&r->reused, share[1]);
    is_mean(&r->share, share[2]);
    is_mean(&r->pixels, pixels);
    is_mean(&r->drift, drift);
}

static void test_rows(void **state)
{
    study_measures m;
    (void)state;
    measure(&m);
    assert_true(m.subjects == 1 && m.subject[0].tells_apart);
    assert_int_equal(m.deeps, 3); /* of the cat there is none without */
    check_row(&m, &m.deep[0], 0, 1);
    check_row(&m, &m.deep[1], 2, 3);
    check_row(&m, &m.deep[2], 2, 4);
    assert_true(m.deep[2].share.mean < 0 && m.deep[1].share.mean < m.deep[2].share.mean);
    /* no other row mixes pictures with a cache and without */
    for (int i = 0; i < m.likenesses; i++) assert_int_equal(m.likeness[i].share.n, SEEDS);
    assert_int_equal(m.changes, 0);
    study_measures_close(&m);
}

#define NEAR "&rsquo;s pictures are nearly those of the whole network."
#define DRAWS " still draws the subject under <q>a sks dog</q>."

static const statement *find(const statements *all, const char *claim)
{
    for (int i = 0; i < all->count; i++)
        if (!strcmp(all->list[i].claim, claim)) return &all->list[i];
    fail_msg("%s", claim);
    return NULL;
}

static void test_statements(void **state)
{
    study_measures m;
    statements all;
    arena memory = {0};
    (void)state;
    measure(&m);
    assert_true(statements_make(&all, &memory, &plan, &m));
    const statement *three = find(&all, "At deep cache 3 <i>tuned</i>" DRAWS),
                    *five = find(&all, "At deep cache 5 <i>tuned</i>" DRAWS);
    assert_int_equal(three->verdict, VERDICT_SHOWN);
    assert_int_equal(five->verdict, VERDICT_NOT_SHOWN);
    assert_int_equal(three->section, 0);
    assert_string_equal(three->group, "Deep cache 3");
    assert_non_null(strstr(three->answer, "Its pictures are "));
    assert_non_null(strstr(three->answer, " points ("));
    assert_int_equal(find(&all, "At deep cache 5 <i>tuned</i>" NEAR)->verdict, VERDICT_NOT_SHOWN);
    assert_non_null(strstr(find(&all, "At deep cache 3 <i>tuned</i>" NEAR)->answer,
                           "Reusing deep features in 2 of 3 evaluations, they differ by "));
    find(&all, "At deep cache 3 <i>base</i>" NEAR);
    study_measures_close(&m);
    arena_free(&memory);

    /* pictures alike, and no training: no word of a subject */
    for (int i = 0; i < SEEDS; i++) {
        char *path = image_at(&cell[SEEDS + i]);
        paint(path, 4 + i, i == 0);
        free(path);
    }
    plan.models = 1;
    section.rows = 2;
    measure(&m);
    assert_true(m.subjects == 0 && m.deeps == 1 && m.deep[0].subject == -1);
    assert_int_equal(m.deep[0].share.n, 0);
    assert_true(statements_make(&all, &memory, &plan, &m));
    const statement *alike = find(&all, "At deep cache 3 <i>base</i>" NEAR);
    assert_int_equal(alike->verdict, VERDICT_SHOWN);
    assert_null(strstr(alike->answer, "Likeness"));
    study_measures_close(&m);
    arena_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_statements)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
