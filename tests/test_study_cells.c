/* SPDX-License-Identifier: Apache-2.0
 *
 * test_study_cells: a study's pictures, made with shared beginnings by one session or by several
 * side by side, are the pictures made alone; the number of steps that are run is the number
 * promised; a second run makes nothing. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "file/image.h"
#include "study/cells.h"
#include "support.h"
#include "toy.h"

enum { STEPS = 6, MODELS = 2 };

static const char *const names[MODELS] = {"base", "tuned"};
static const char *const hashes[MODELS] = {"hash of base", "hash of tuned"};

typedef struct world {
    lk_context *context;
    lk_session *session;
    lk_model *model[MODELS];
    char folder[300];
    int stepped;
    int stop_after; /* 0: never */
} world;

/* A toy with other weights: signs in the UNet's file are turned. */
static void turn_signs(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", folder);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    for (long i = 1; i <= 400; i++) {
        fseek(f, -4 * i + 3, SEEK_END);
        int byte = fgetc(f);
        fseek(f, -4 * i + 3, SEEK_END);
        fputc(byte ^ 0x80, f);
    }
    fclose(f);
}

static void world_open(world *w)
{
    error e = {0};
    lk_error why = {0};
    *w = (world){0};
    snprintf(w->folder, sizeof w->folder, "%s", scratch_dir());
    assert_true(lk_context_open(&w->context, NULL, &why) &&
                lk_session_open(&w->session, w->context, NULL, &why));
    for (int i = 0; i < MODELS; i++) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", w->folder, names[i]);
        if (!toy_stable_diffusion(path, &e)) fail_msg("%s", e.text);
        if (i) turn_signs(path);
        lk_model_options o;
        lk_model_defaults(&o);
        o.path = path;
        if (!lk_model_open(&w->model[i], w->context, &o, &why)) fail_msg("%s", why.text);
    }
    char cells[400];
    snprintf(cells, sizeof cells, "%s/cells", w->folder);
    assert_int_equal(mkdir(cells, 0777), 0);
}

static void world_close(world *w)
{
    for (int i = 0; i < MODELS; i++) lk_model_close(&w->model[i]);
    lk_session_close(&w->session);
    lk_context_close(&w->context);
}

static const char *const schedules[] = {"base",
                                        "tuned",
                                        "base x2, tuned rest",
                                        "base x4, tuned rest",
                                        "tuned x2, base rest",
                                        "base x2, tuned x2, base x2",
                                        "0.5*base+0.5*tuned x3, base x3",
                                        "base|tuned",
                                        "base x6"};
enum { SCHEDULES = sizeof schedules / sizeof *schedules, SEEDS = 2 };

/* What two columns differ in. */
typedef enum columns { SEED, CACHE, SIGNS } columns;

static void set_column(study_cell *c, columns by, int column)
{
    static const char *const signs[SEEDS] = {"a (dog:1.3)", "a dog AND a cat"};
    if (by == SEED) c->seed += (uint64_t)column;
    if (by == CACHE) c->deep_cache = 3 * column;
    if (by != SIGNS) return;
    c->prompt_syntax = LK_PROMPT_A1111;
    c->prompt = signs[column];
}

/* One section: schedules x two columns, the last row being the first again under another text. */
static void plan_fill(study_plan *p, study_section *s, study_cell *cell, lk_sampler kind,
                      columns by)
{
    lk_error why = {0};
    *p = (study_plan){.models = MODELS,
                      .model_name = (const char **)(uintptr_t)names,
                      .section = s,
                      .sections = 1};
    *s = (study_section){.rows = SCHEDULES, .columns = SEEDS, .cell = cell};
    for (int i = 0; i < SCHEDULES * SEEDS; i++) {
        cell[i] = (study_cell){.prompt = "a dog",
                               .negative = "",
                               .seed = 7,
                               .sampler = kind,
                               .steps = STEPS,
                               .guidance = 3,
                               .schedule = schedules[i / SEEDS]};
        set_column(&cell[i], by, i % SEEDS);
        if (!lk_schedule_open(&cell[i].mix, cell[i].schedule, names, MODELS, STEPS, &why))
            fail_msg("%s", why.text);
    }
}

static bool stepped(void *user)
{
    world *w = user;
    w->stepped++;
    return w->stop_after && w->stepped == w->stop_after;
}

static void check_alone(world *w, const study_cell *c)
{
    lk_error why = {0};
    lk_image *alone = NULL, *made = NULL;
    char path[400];
    lk_generate_options o = cell_options(c);
    if (!lk_generate_mixed(&alone, w->session, w->model, names, MODELS, c->schedule, &o, &why))
        fail_msg("%s", why.text);
    snprintf(path, sizeof path, "%s/cells/%s.png", w->folder, c->name);
    if (!lk_image_open(&made, path, &why)) fail_msg("%s", why.text);
    assert_string_equal(lk_image_settings(made), lk_image_settings(alone));
    int width = lk_image_width(made), height = lk_image_height(made);
    assert_int_equal(width, lk_image_width(alone));
    assert_memory_equal(lk_image_pixels(made), lk_image_pixels(alone),
                        (size_t)width * (size_t)height * 3);
    lk_image_close(&made);
    lk_image_close(&alone);
}

/* By so many sessions. */
static void check_sampler(world *w, lk_sampler kind, columns by, int sessions)
{
    error e = {0};
    study_plan p;
    study_section s;
    study_cell cell[SCHEDULES * SEEDS];
    cell_work work;
    plan_fill(&p, &s, cell, kind, by);
    cells_name(&p, hashes, LK_F32);
    assert_string_equal(cell[0].name, cell[SCHEDULES * SEEDS - SEEDS].name);
    assert_string_not_equal(cell[0].name, cell[1].name);
    assert_true(cells_plan(&work, &p, w->folder, &e));
    assert_int_equal(work.count, (SCHEDULES - 1) * SEEDS);
    assert_int_equal(work.steps, (SCHEDULES - 1) * SEEDS * STEPS);
    /* base; 4 of base x4; 2 of base x2, and 4 of its sister with 2 more by tuned; 2 of tuned x2 */
    assert_int_equal(work.saved, (4 + 2 + 4 + 2) * SEEDS);
    crew many = {&w->session, 1};
    if (sessions > 1) assert_true(crew_open(&many, w->context, sessions, &e));
    cell_maker maker = {&many, w->model, w->folder, stepped, w};
    int bad;
    w->stepped = 0;
    w->stop_after = 20;
    assert_false(cells_make(&work, &maker, &p, &bad, &e));
    assert_int_equal(e.code, ERROR_CANCELLED);
    cells_work_close(&work);
    e = (error){0};
    assert_true(cells_plan(&work, &p, w->folder, &e));
    int64_t promised = work.steps - work.saved;
    w->stepped = w->stop_after = 0;
    if (!cells_make(&work, &maker, &p, &bad, &e)) fail_msg("%s", e.text);
    assert_int_equal(w->stepped, promised);
    assert_int_equal(bad, 0);
    cells_work_close(&work);
    for (int i = 0; i < SCHEDULES * SEEDS; i++) check_alone(w, &cell[i]);
    assert_true(cells_plan(&work, &p, w->folder, &e));
    assert_int_equal(work.count, 0);
    cells_work_close(&work);
    if (sessions > 1) crew_close(&many);
    for (int i = 0; i < SCHEDULES * SEEDS; i++) lk_schedule_close(&cell[i].mix);
}

static void test_ddim(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    check_sampler(&w, LK_DDIM, SEED, 1);
    world_close(&w);
}

/* The state of a picture's generator goes on too. */
static void test_ddpm(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    check_sampler(&w, LK_DDPM, SEED, 1);
    world_close(&w);
}

static void test_side_by_side(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    check_sampler(&w, LK_DDPM, SEED, 3);
    world_close(&w);
}

/* A run goes on with its own deep features, and never from one with another cache. */
static void test_deep_cache(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    check_sampler(&w, LK_DDIM, CACHE, 1);
    world_close(&w);
}

/* Prompts of several lengths and parts take no steps together. */
static void test_signs(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    check_sampler(&w, LK_DDIM, SIGNS, 1);
    world_close(&w);
}

/* Two mixes that begin alike, of so many steps that are made: what each makes and tells. */
static void check_two(world *w, const study_cell *how, const char *const mixes[2], int made,
                      int second)
{
    error e = {0};
    lk_error why = {0};
    study_cell cell[2] = {*how, *how};
    study_section s = {.rows = 2, .columns = 1, .cell = cell};
    study_plan p = {.models = MODELS,
                    .model_name = (const char **)(uintptr_t)names,
                    .section = &s,
                    .sections = 1};
    cell_work work;
    crew alone = {&w->session, 1};
    cell_maker maker = {&alone, w->model, w->folder, stepped, w};
    int bad;
    for (int i = 0; i < 2; i++) {
        cell[i].schedule = mixes[i];
        if (!lk_schedule_open(&cell[i].mix, mixes[i], names, MODELS, made, &why))
            fail_msg("%s", why.text);
    }
    cells_name(&p, hashes, LK_F32);
    w->stepped = w->stop_after = 0;
    assert_true(cells_plan(&work, &p, w->folder, &e));
    assert_int_equal(work.steps, 2 * (made + second));
    assert_int_equal(work.saved, 2);
    if (!cells_make(&work, &maker, &p, &bad, &e)) fail_msg("%s", e.text);
    assert_int_equal(bad, 0);
    assert_int_equal(w->stepped, work.steps - work.saved);
    cells_work_close(&work);
    for (int i = 0; i < 2; i++) {
        check_alone(w, &cell[i]);
        lk_schedule_close(&cell[i].mix);
    }
}

/* A picture that is changed, and one with a second pass, share what steps they have alike. */
static void test_passes(void **state)
{
    static const char *const few[] = {"base x2, tuned rest", "base"};
    static uint8_t pixels[40 * 40 * 3];
    study_picture from = {.hash = "of it"};
    study_cell c = {.prompt = "a dog",
                    .negative = "",
                    .seed = 7,
                    .sampler = LK_DDIM,
                    .steps = STEPS,
                    .guidance = 3,
                    .strength = 0.8};
    lk_error why = {0};
    world w;
    (void)state;
    world_open(&w);
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 7 % 251);
    assert_true(lk_image_from_pixels(&from.image, pixels, 40, 40, 0, &why));
    c.init = c.mask = &from;
    check_two(&w, &c, few, 4, 0);
    c.init = c.mask = NULL;
    c.hires = 2;
    c.hires_strength = 0.7;
    c.hires_steps = 3;
    check_two(&w, &c, few, STEPS, 3);
    lk_image_close(&from.image);
    world_close(&w);
}

/* What the first studies have in their folders is found under its name by all later ones. */
static void test_old_names(void **state)
{
    (void)state;
    study_plan p;
    study_section s;
    study_cell cell[SCHEDULES * SEEDS];
    plan_fill(&p, &s, cell, LK_DDIM, SEED);
    cells_name(&p, hashes, LK_F32);
    assert_string_equal(cell[0].name, "5b65c3c891099c67");
    for (int i = 0; i < SCHEDULES * SEEDS; i++) lk_schedule_close(&cell[i].mix);
}

/* A picture that cannot be made keeps no other; what a piece shares with the rest is told once. */
static void test_one_fails(void **state)
{
    (void)state;
    error e = {0};
    world w;
    study_plan p;
    study_section s;
    study_cell cell[SCHEDULES * SEEDS];
    cell_work work;
    crew many;
    int bad;
    world_open(&w);
    plan_fill(&p, &s, cell, LK_DDIM, SEED);
    cell[3].width = 33; /* no size of this model */
    cells_name(&p, hashes, LK_F32);
    assert_true(cells_plan(&work, &p, w.folder, &e) && crew_open(&many, w.context, 2, &e));
    cell_maker maker = {&many, w.model, w.folder, NULL, NULL};
    if (!cells_make(&work, &maker, &p, &bad, &e)) fail_msg("%s", e.text);
    assert_int_equal(bad, 1);
    assert_non_null(cell[3].why);
    assert_non_null(strstr(cell[3].why, "33"));
    cells_work_close(&work);
    assert_true(cells_plan(&work, &p, w.folder, &e));
    assert_int_equal(work.count, 1);
    cells_work_close(&work);
    crew_close(&many);
    for (int i = 0; i < SCHEDULES * SEEDS; i++) lk_schedule_close(&cell[i].mix);
    arena_free(&p.memory);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ddim),         cmocka_unit_test(test_ddpm),
        cmocka_unit_test(test_side_by_side), cmocka_unit_test(test_deep_cache),
        cmocka_unit_test(test_signs),        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_old_names),    cmocka_unit_test(test_one_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
