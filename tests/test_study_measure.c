/* SPDX-License-Identifier: Apache-2.0
 *
 * The measures of a study, on pictures of known colours and a toy model as the judge. A subject is
 * a mark, drawn anywhere on any ground; its class is grounds alone. */
#include "painted.h"
#include "support.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/random.h"
#include "file/safetensors.h"
#include "model/schedule.h"
#include "study/page/compare.h"
#include "study/measure/judge.h"
#include "study/measure/measured.h"
#include "study/measure/score.h"
#include "toy.h"
#include "train/text.h"

enum {
    BASE,
    PLAIN,
    PRIOR,
    MODELS,
    SEEDS = 4,
    PHOTOS = 4,
    CLASSES = 5,
    STEPS = 4,
    MOST_CELLS = 64,
    NOISES = 2
};

static char folder[600];
static lk_context *context;
static lk_session *session;
static crew one;
static lk_model *models[MODELS];
static device *cpu; /* of the plain judge */
static model *judging;
static study_model names[MODELS];
static const char *name_list[] = {"base", "plain", "prior"};
static const char *class_folders[MODELS];
static study_cell cell[MOST_CELLS];
static study_section section[2];
static study_plan plan;
static int cells, calls, stop_at = -1;
static bool stop_in_tables;

static char *at(const char *part)
{
    char *path = path_join(folder, part);
    assert_non_null(path);
    return path;
}

/* ---- pictures -------------------------------------------------------------------------------- */

/* Left half of one grey, right half of another. */
static void paint_halves(const study_cell *c, int left, int right)
{
    image m;
    error e = {0};
    char part[64];
    snprintf(part, sizeof part, "cells/%s.png", c->name);
    char *path = at(part);
    assert_true(image_new(&m, 32, 32, &e));
    for (int i = 0; i < 32 * 32 * 3; i++) m.pixels[i] = (uint8_t)(i % 96 < 48 ? left : right);
    assert_true(image_write(&m, path, NULL, 100, &e));
    image_free(&m);
    free(path);
}

static study_cell *add_cell(const char *prompt, uint64_t seed, int steps, const char *schedule)
{
    lk_error why = {0};
    study_cell *c = &cell[cells];
    assert_true(cells < MOST_CELLS);
    *c = (study_cell){.prompt = prompt,
                      .negative = "",
                      .seed = seed,
                      .guidance = 5,
                      .steps = steps,
                      .schedule = schedule};
    snprintf(c->name, sizeof c->name, "%016d", cells++);
    if (!lk_schedule_open(&c->mix, schedule, name_list, MODELS, steps, &why))
        fail_msg("%s", why.text);
    return c;
}

static void add_marked(const char *prompt, const char *schedule, int mark)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        char part[64];
        const study_cell *c = add_cell(prompt, (uint64_t)seed, STEPS, schedule);
        snprintf(part, sizeof part, "cells/%s.png", c->name);
        char *path = at(part);
        paint(path, 20 + seed, mark + seed);
        free(path);
    }
}

/* ---- the study ------------------------------------------------------------------------------- */

static void make_folders(void)
{
    error e = {0};
    static const char *const parts[] = {"cells", "photos", "class"};
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    for (int i = 0; i < 3; i++) {
        char *path = at(parts[i]);
        if (!path_make_dir(path, &e)) fail_msg("%s", e.text);
        if (i == 1)
            for (int k = PLAIN; k <= PRIOR; k++) names[k].train.instance_data_dir = strdup(path);
        if (i == 2) class_folders[PRIOR] = strdup(path);
        free(path);
    }
    for (int i = 0; i < PHOTOS + CLASSES; i++) {
        char part[64];
        bool own = i < PHOTOS;
        snprintf(part, sizeof part, "%s/%d.png", own ? "photos" : "class", i);
        char *path = at(part);
        paint(path, i, own ? 100 : 0);
        free(path);
    }
}

static void make_cells(void)
{
    add_marked("a dog", "base", 0);
    add_marked("a dog", "plain", 60);
    add_marked("a dog", "prior", 30);
    add_marked("a sks dog", "base", 0);
    add_marked("a sks dog", "plain", 95);
    add_marked("a sks dog", "base x1, plain x3", 90);
    add_marked("a sks dog", "base x3, plain x1", 20);
    add_marked("a sks dog", "plain x2, base x2", 70);
    for (int seed = 1; seed <= 3; seed++) { /* a cat: steps and samplers; halves are seeds' own */
        int few = seed == 1 ? 30 : -30, most = seed == 2 ? -40 : 40; /* which half is brighter */
        paint_halves(add_cell("a cat", (uint64_t)seed, 2, "base"), 100 + seed, 100 + few);
        paint_halves(add_cell("a cat", (uint64_t)seed, 8, "base"), 120 - seed, 120 + most);
        study_cell *c = add_cell("a cat", (uint64_t)seed, 8, "base");
        c->sampler = LK_DDPM;
        c->variance = LK_VARIANCE_FIXED_SMALL;
        paint_halves(c, 90, 90 + 10 * seed);
    }
    study_cell *odd = add_cell("a dog", 1, STEPS,
                               "plain"); /* other settings: in no row of the rest */
    odd->guidance = 9;
    paint_halves(odd, 0, 255);
    study_cell *again = add_cell("a dog", 1, STEPS, "base");
    memcpy(again->name, cell[0].name,
           sizeof cell[0].name); /* the same picture in another section */
}

static void open_model(lk_model **out, const char *path)
{
    lk_error why = {0};
    lk_model_options o;
    lk_model_defaults(&o);
    o.path = path;
    if (!lk_model_open(out, context, &o, &why)) fail_msg("%s", why.text);
}

static int open_all(void **state)
{
    error e = {0};
    lk_error why = {0};
    (void)state;
    make_folders();
    char *path = at("model");
    if (!toy_stable_diffusion(path, &e) ||
        !device_open(&cpu, "cpu", &(device_options){.threads = 1}, &e))
        fail_msg("%s", e.text);
    scale_latents(path);
    if (!lk_context_open(&context, NULL, &why) || !lk_session_open(&session, context, NULL, &why) ||
        !model_open(&judging, path, NULL, NULL, &e))
        fail_msg("%s%s", why.text, e.text);
    for (int i = 0; i < MODELS; i++) {
        open_model(&models[i], path);
        names[i].name = name_list[i];
        names[i].train.instance_prompt = i ? "a sks dog" : NULL;
    }
    free(path);
    one = (crew){&session, 1};
    names[BASE].path = "toy";
    names[PRIOR].train.class_prompt = "a dog";
    make_cells();
    section[0] = (study_section){.id = "one", .rows = 1, .columns = cells - 1, .cell = cell};
    section[1] = (study_section){.id = "two", .rows = 1, .columns = 1, .cell = &cell[cells - 1]};
    plan = (study_plan){.model = names,
                        .models = MODELS,
                        .model_name = name_list,
                        .section = section,
                        .sections = 2,
                        .measure_noises = NOISES};
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < cells; i++) lk_schedule_close(&cell[i].mix);
    free((char *)(uintptr_t)class_folders[PRIOR]);
    for (int i = 0; i < MODELS; i++) {
        free((char *)(uintptr_t)names[i].train.instance_data_dir);
        lk_model_close(&models[i]);
    }
    lk_session_close(&session);
    lk_context_close(&context);
    model_close(&judging);
    device_close(&cpu);
    return 0;
}

static bool on_progress(void *user, int done, int total)
{
    (void)user;
    calls += total > 1; /* 1 of 1: the tables */
    return stop_at >= 0 && done >= stop_at && (total > 1 || stop_in_tables);
}

static measure_source source(void)
{
    return (measure_source){.session = session,
                            .crew = &one,
                            .plan = &plan,
                            .models = models,
                            .folder = folder,
                            .class_folder = class_folders,
                            .progress = on_progress};
}

static bool measure(study_measures *m, error *e)
{
    measure_source s = source();
    calls = 0;
    *e = (error){0};
    return study_measure(m, &s, e);
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-5 * (1 + fabs(b)))) fail_msg("%.9g is not %.9g", a, b);
}

/* Cosines are kept in single precision, and small differences of them count. */
static void near_share(double a, double b)
{
    if (!(fabs(a - b) <= 5e-3)) fail_msg("%.9g %% is not %.9g %%", a, b);
}

static char *read_all(const char *name, size_t *size)
{
    char *path = at(name), *text;
    error e = {0};
    if (!file_read(path, 1 << 24, &text, size, &e)) fail_msg("%s", e.text);
    free(path);
    return text;
}

/* ---- the judge, in double precision ---------------------------------------------------------- */

enum { PLACES = 256, WIDTH = 16 };

/* One sample through graphs of its own; all else in plain loops. */
static void plain_view(const char *path, double out[PLACES][WIDTH])
{
    error e = {0};
    image picture;
    graph *enc, *net = NULL;
    prompt_text text;
    noise_schedule schedule;
    rng random;
    const model *m = judging;
    device_weights *vae, *unet;
    static float pixels[3072], moment[2048], noise[1024], noised[1024], map[PLACES * WIDTH];
    const float t = 100;
    assert_true(image_read(&picture, NULL, path, &e) && prompt_text_open(&text, cpu, m, "", &e) &&
                noise_schedule_open(&schedule, &m->scheduler, &e));
    assert_true(graph_open(&enc, DTYPE_F32, &e) && graph_open(&net, DTYPE_F32, &e));
    tensor *in = graph_input(enc, "picture", DTYPE_F32, 4, (int64_t[]){1, 32, 32, 3});
    tensor *mean = vae_build_encoder(enc, &m->vae, in);
    graph_output(enc, mean);
    tensor *x = graph_input(net, "x", DTYPE_F32, 4, (int64_t[]){1, 16, 16, 4});
    tensor *at_t = graph_input(net, "t", DTYPE_F32, 1, (int64_t[]){1});
    tensor *words = graph_input(net, "c", DTYPE_F32, 3, (int64_t[]){1, 16, 32});
    tensor *maps = unet_build_features(net, &m->unet, x, at_t, words, 1);
    graph_output(net, maps);
    if (!graph_plan(enc, cpu, &e) || !device_weights_open(cpu, &m->vae_weights, &vae, &e) ||
        !graph_bind(enc, &vae, 1, &e) || !graph_allocate(enc, &e) || !graph_plan(net, cpu, &e) ||
        !device_weights_open(cpu, &m->unet_weights, &unet, &e) || !graph_bind(net, &unet, 1, &e) ||
        !graph_allocate(net, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < 3072; i++) pixels[i] = ((float)picture.pixels[i] / 255.0f - 0.5f) / 0.5f;
    assert_true(graph_write(enc, in, pixels, NULL));
    assert_true(graph_run(enc, &e));
    assert_true(graph_read(enc, mean, moment, NULL));
    memset(out, 0, PLACES * sizeof *out);
    rng_seed(&random, 20260);
    for (int k = 0; k < NOISES; k++) {
        double signal = sqrt((double)schedule.alpha_bar[100]);
        rng_randn(&random, noise, 1024);
        for (int i = 0; i < 256; i++)
            for (int c = 0; c < 4; c++)
                noised[i * 4 + c] = (float)(signal * 30 * (double)moment[i * 8 + c] +
                                            sqrt(1 - signal * signal) * (double)noise[c * 256 + i]);
        assert_true(graph_write(net, x, noised, NULL));
        assert_true(graph_write(net, at_t, &t, NULL));
        assert_true(graph_write(net, words, text.embedding, NULL));
        assert_true(graph_run(net, &e));
        assert_true(graph_read(net, maps, map, NULL));
        for (int i = 0; i < PLACES * WIDTH; i++)
            out[i / WIDTH][i % WIDTH] += (double)map[i] / NOISES;
    }
    graph_close(&enc);
    graph_close(&net);
    device_weights_close(&vae);
    device_weights_close(&unet);
    prompt_text_close(&text);
    noise_schedule_close(&schedule);
    image_free(&picture);
}

static double plain_cosine(const double *a, const double *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (int c = 0; c < WIDTH; c++) ab += a[c] * b[c], aa += a[c] * a[c], bb += b[c] * b[c];
    return ab / sqrt(aa * bb);
}

typedef double seen[PLACES][WIDTH];

/* How well place p of one is found in another. */
static double plain_found(const double *place, seen other)
{
    double most = -1;
    for (int q = 0; q < PLACES; q++) most = fmax(most, plain_cosine(place, other[q]));
    return exp((most - 1) / 0.2);
}

/* As docs/MEASURES.md writes it; photos and class pictures without those that are `but`. */
static double plain_score(seen x, seen *ours, seen *other, int but_photo, int but_class)
{
    double sum = 0, all = 0;
    for (int k = 0; k < PHOTOS; k++)
        for (int p = 0; p < PLACES && k != but_photo; p++) {
            double own = 0, mean = 0, spread = 0, found[CLASSES];
            int owns = 0, n = 0;
            for (int o = 0; o < PHOTOS; o++)
                if (o != k && o != but_photo) own += plain_found(ours[k][p], ours[o]), owns++;
            own /= owns;
            for (int c = 0; c < CLASSES; c++)
                if (c != but_class) found[n++] = plain_found(ours[k][p], other[c]);
            for (int c = 0; c < n; c++) mean += found[c] / n;
            for (int c = 0; c < n; c++) spread += (found[c] - mean) * (found[c] - mean) / n;
            if (own <= mean) continue;
            double much = pow((own - mean) / (sqrt(spread) + 0.02 * mean), 3);
            sum += much * fmin((plain_found(ours[k][p], x) - mean) / (own - mean), 1);
            all += much;
        }
    return sum / all;
}

static void test_against_plain(void **state)
{
    error e;
    study_measures m;
    static seen ours[PHOTOS], other[CLASSES], x;
    double zero = 0, whole = 0;
    (void)state;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < PHOTOS + CLASSES; i++) {
        char part[64];
        snprintf(part, sizeof part, "%s/%d.png", i < PHOTOS ? "photos" : "class", i);
        char *path = at(part);
        plain_view(path, i < PHOTOS ? ours[i] : other[i - PHOTOS]);
        free(path);
    }
    for (int i = 0; i < PHOTOS; i++) whole += plain_score(ours[i], ours, other, i, -1) / PHOTOS;
    for (int i = 0; i < CLASSES; i++) zero += plain_score(other[i], ours, other, -1, i) / CLASSES;
    assert_int_equal(m.subjects, 1);
    near_share(100 * m.subject[0].raw_subject.mean, 100 * whole);
    near_share(100 * m.subject[0].raw_class.mean, 100 * zero);
    assert_true(m.subject[0].tells_apart);
    near(m.subject[0].subject.mean, 100);
    near(m.subject[0].of_class.mean, 0);
    static const int some[] = {0, SEEDS, 2 * SEEDS, 4 * SEEDS};
    for (int i = 0; i < 4; i++) {
        char part[64];
        snprintf(part, sizeof part, "cells/%s.png", cell[some[i]].name);
        char *path = at(part);
        plain_view(path, x);
        near_share(m.cell_share[some[i]],
                   100 * (plain_score(x, ours, other, -1, -1) - zero) / (whole - zero));
        free(path);
    }
    study_measures_close(&m);
}

/* ---- leaving out ----------------------------------------------------------------------------- */

/* A photo's own entry, and what its places find, do not touch its score; nor does a class
 * picture's. */
static void test_leave_one_out(void **state)
{
    enum { N = PHOTOS * 3 };
    static float own[PHOTOS][N], other[CLASSES][N];
    const float *owns[PHOTOS], *others[CLASSES];
    error e = {0};
    (void)state;
    for (int i = 0; i < PHOTOS; i++) fill_random(own[i], N, 5u + (uint32_t)i), owns[i] = own[i];
    for (int i = 0; i < CLASSES; i++)
        fill_random(other[i], N, 50u + (uint32_t)i), others[i] = other[i];
    for (int i = 0; i < PHOTOS; i++)
        for (int k = 0; k < N; k++) own[i][k] = own[i][k] * 0.1f + 0.8f;
    subject_scale s = {
        .own = owns, .of_class = others, .photos = PHOTOS, .classes = CLASSES, .places = 3};
    assert_true(scale_open(&s, &e));
    double before = scale_score(&s, own[1]), of_class = scale_score(&s, other[2]);
    double first = scale_score(&s, own[0]);
    float copy[N], as_class[N];
    memcpy(copy, own[1], sizeof copy);
    memcpy(as_class, other[2], sizeof as_class);
    assert_true(fabs(scale_score(&s, copy) - before) >
                1e-3); /* by its address, not by what it is */
    scale_close(&s);
    for (int k = 0; k < PHOTOS; k++) /* the others' matches with this photo's own places */
        for (int p = 0; p < 3; p++) own[k][3 + p] = -0.5f;
    assert_true(scale_open(&s, &e));
    near(scale_score(&s, own[1]), before);
    assert_true(fabs(scale_score(&s, own[0]) - first) > 1e-6);
    scale_close(&s);
    for (int k = 3; k < 6; k++)
        for (int i = 0; i < PHOTOS; i++) own[i][k] = 0.8f;
    /* a class picture is as if it were not there */
    assert_true(scale_open(&s, &e));
    of_class = scale_score(&s, other[2]);
    scale_close(&s);
    others[2] = others[CLASSES - 1];
    s.classes--;
    assert_true(scale_open(&s, &e));
    near(scale_score(&s, as_class), of_class);
    s.classes = 1;
    assert_true(isnan(scale_score(&s, as_class)));
    s.classes = CLASSES - 1;
    s.photos = 2; /* with one left out there is none to say what its marks are */
    assert_true(isnan(scale_score(&s, own[0])) && !isnan(scale_score(&s, as_class)));
    scale_close(&s);
}

/* ---- what is kept ---------------------------------------------------------------------------- */

static void test_cancelled_then_whole(void **state)
{
    error e;
    study_measures m;
    size_t resumed_size, whole_size;
    char *path = at("matches.safetensors");
    (void)state;
    unlink(path);
    stop_at = 3;
    assert_false(measure(&m, &e));
    assert_int_equal(e.code, ERROR_CANCELLED);
    assert_null(m.change);
    stop_at = -1;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    int all = cells - 1 + PHOTOS + CLASSES;        /* the cell that is there twice counts once */
    assert_int_equal(calls, PHOTOS + all - 3 + 1); /* before each photo, too */
    study_measures_close(&m);
    char *resumed = read_all("matches.safetensors", &resumed_size);
    unlink(path);
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(calls, PHOTOS + all + 1);
    assert_true(study_measures_write(&m, &plan, folder, &e));
    study_measures_close(&m);
    char *whole = read_all("matches.safetensors", &whole_size),
         *first = read_all("measures.json", NULL);
    assert_true(resumed_size == whole_size && memcmp(resumed, whole, whole_size) == 0);
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(calls, 0);
    assert_true(study_measures_write(&m, &plan, folder, &e));
    study_measures_close(&m);
    stop_at = 1;
    stop_in_tables = true;
    assert_false(measure(&m, &e));
    assert_int_equal(e.code, ERROR_CANCELLED);
    stop_at = -1;
    stop_in_tables = false;
    char *second = read_all("measures.json", NULL);
    assert_string_equal(first, second);
    free(first), free(second), free(whole), free(resumed);
    /* a damaged file is measured again, other noises are another measure */
    assert_int_equal(truncate(path, 100), 0);
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(calls, PHOTOS + all + 1);
    study_measures_close(&m);
    plan.measure_noises = NOISES + 1;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(calls, PHOTOS + all + 1);
    study_measures_close(&m);
    plan.measure_noises = NOISES;
    free(path);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static double share_at(const study_measures *m, int i) { return m->cell_share[i]; }

static void is_mean(const estimate *x, const double *value, int n)
{
    estimate right = estimate_of(value, n);
    assert_int_equal(x->n, n);
    near(x->mean, right.mean);
    if (n > 1) near(x->low, right.low), near(x->high, right.high);
}

static image image_of(int i)
{
    image m;
    error e = {0};
    char part[64];
    snprintf(part, sizeof part, "cells/%s.png", cell[i].name);
    char *path = at(part);
    assert_true(image_read(&m, NULL, path, &e));
    free(path);
    return m;
}

static double compared(int a, int b, double (*how)(const image *, const image *))
{
    image x = image_of(a), y = image_of(b);
    double v = how(&x, &y);
    image_free(&x), image_free(&y);
    return v;
}

/* The mean comparison of a with the three other seeds of `of`, whose seeds begin at `first`. */
static double others(int a, int of, int first, double (*how)(const image *, const image *))
{
    double sum = 0;
    for (int k = first; k < first + SEEDS; k++)
        if (k != of) sum += compared(a, k, how) / (SEEDS - 1);
    return sum;
}

/* Where each block of add_marked begins. */
enum {
    DOG_BASE = 0,
    DOG_PLAIN = 4,
    DOG_PRIOR = 8,
    SKS_BASE = 12,
    SKS_PLAIN = 16,
    AT_1 = 20,
    AT_3 = 24,
    BACK_2 = 28,
    CAT = 32
};

static void test_shares(void **state)
{
    error e;
    study_measures m;
    double v[SEEDS], w[SEEDS], d[SEEDS];
    (void)state;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    const subject_row *j = &m.subject[0];
    assert_int_equal(m.subjects, 1);
    assert_true(j->base == BASE && j->models == 2 && j->model[0] == PLAIN && j->model[1] == PRIOR);
    assert_string_equal(j->instance_prompt, "a sks dog");
    assert_string_equal(j->class_prompt, "a dog");
    assert_true(j->photos == PHOTOS && j->class_images == CLASSES);
    near(share_at(&m, cells - 1), share_at(&m, 0));
    /* the order of eyes: more of the mark is more of the subject */
    static const int rising[] = {DOG_BASE, DOG_PRIOR, DOG_PLAIN, SKS_PLAIN};
    for (int i = 0; i < SEEDS; i++)
        for (int k = 1; k < 4; k++)
            assert_true(share_at(&m, rising[k] + i) > share_at(&m, rising[k - 1] + i));
    /* a dog: base, plain, prior; a sks dog: base, plain; a cat: base */
    assert_int_equal(m.likenesses, 6);
    static const int starts[] = {DOG_BASE, DOG_PLAIN, DOG_PRIOR, SKS_BASE, SKS_PLAIN};
    static const int makers[] = {BASE, PLAIN, PRIOR, BASE, PLAIN};
    for (int k = 0; k < 5; k++) {
        for (int i = 0; i < SEEDS; i++) v[i] = share_at(&m, starts[k] + i);
        assert_int_equal(m.likeness[k].model, makers[k]);
        assert_string_equal(m.likeness[k].prompt, k < 3 ? "a dog" : "a sks dog");
        is_mean(&m.likeness[k].share, v, SEEDS);
    }
    assert_int_equal(m.changes, 3); /* plain: a dog, a sks dog; prior: a dog */
    for (int i = 0; i < SEEDS; i++) {
        v[i] = share_at(&m, DOG_PRIOR + i) - share_at(&m, DOG_BASE + i);
        w[i] = compared(DOG_PRIOR + i, DOG_BASE + i, image_distance);
        d[i] = 100 * w[i] / others(DOG_BASE + i, DOG_BASE + i, DOG_BASE, image_distance);
    }
    assert_int_equal(m.change[2].model, PRIOR);
    is_mean(&m.change[2].share, v, SEEDS);
    is_mean(&m.change[2].pixels, w, SEEDS);
    is_mean(&m.change[2].drift, d, SEEDS);
    assert_true(estimate_differs(&m.change[0].share, 0));
    assert_int_equal(m.contrasts, 1);
    for (int i = 0; i < SEEDS; i++) {
        double apart = others(DOG_BASE + i, DOG_BASE + i, DOG_BASE, image_distance);
        v[i] = share_at(&m, DOG_PRIOR + i) - share_at(&m, DOG_PLAIN + i);
        w[i] = d[i] - 100 * compared(DOG_PLAIN + i, DOG_BASE + i, image_distance) / apart;
    }
    assert_true(m.contrast[0].model == PLAIN && m.contrast[0].other == PRIOR);
    is_mean(&m.contrast[0].share, v, SEEDS);
    is_mean(&m.contrast[0].drift, w, SEEDS);
    assert_int_equal(m.wordings, 2); /* base and plain, "a dog" */
    for (int i = 0; i < SEEDS; i++) {
        v[i] = share_at(&m, SKS_PLAIN + i) - share_at(&m, DOG_PLAIN + i);
        w[i] = 100 * compared(SKS_PLAIN + i, DOG_PLAIN + i, image_distance) /
               others(DOG_PLAIN + i, DOG_PLAIN + i, DOG_PLAIN, image_distance);
    }
    assert_int_equal(m.wording[1].model, PLAIN);
    assert_string_equal(m.wording[1].prompt, "a dog");
    is_mean(&m.wording[1].share, v, SEEDS);
    is_mean(&m.wording[1].distance, w, SEEDS);
    study_measures_close(&m);
}

static double kept_of(int part, int whole, int first)
{
    double zero = others(part, whole, first, image_correlation);
    return 100 * (compared(part, whole, image_correlation) - zero) / (1 - zero);
}

static void test_switches(void **state)
{
    error e;
    study_measures m;
    double v[SEEDS], w[SEEDS], k[SEEDS];
    static const int begins[] = {SKS_PLAIN, AT_1, AT_3, SKS_BASE, SKS_BASE, BACK_2, SKS_PLAIN};
    static const int ats[] = {0, 1, 3, 4, 0, 2, 4};
    (void)state;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(m.switch_count, 7);
    for (int r = 0; r < 7; r++) {
        const switch_row *row = &m.switches[r];
        assert_true(row->at == ats[r] && row->steps == STEPS);
        assert_true(row->first == (r < 4 ? BASE : PLAIN) && row->second == (r < 4 ? PLAIN : BASE));
        for (int i = 0; i < SEEDS; i++) {
            int first = r < 4 ? SKS_BASE : SKS_PLAIN;
            v[i] = share_at(&m, begins[r] + i);
            w[i] = v[i] - share_at(&m, SKS_PLAIN + i);
            k[i] = kept_of(begins[r] + i, first + i, first);
        }
        is_mean(&row->share, v, SEEDS);
        is_mean(&row->lost, w, SEEDS);
        is_mean(&row->kept, k, SEEDS);
    }
    near(m.switches[3].kept.mean, 100);
    study_measures_close(&m);
}

static void test_structure(void **state)
{
    error e;
    study_measures m;
    double plain[3], zero[3], kept[3], across[3], detail[3];
    (void)state;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(m.structures, 1);
    for (int i = 0; i < 3; i++) {
        int few = CAT + 3 * i, most = few + 1, ddpm = few + 2;
        double cross = compared(ddpm, most, image_correlation), none = 0;
        plain[i] = compared(few, most, image_correlation);
        zero[i] = 0;
        for (int k = 0; k < 3; k++)
            if (k != i) {
                zero[i] += compared(few, CAT + 3 * k + 1, image_correlation) / 2;
                none += compared(ddpm, CAT + 3 * k + 1, image_correlation) / 2;
            }
        kept[i] = 100 * (plain[i] - zero[i]) / (1 - zero[i]);
        across[i] = 100 * (cross - none) / (1 - none);
        image x = image_of(few), y = image_of(most);
        detail[i] = 100 * image_detail(&x) / image_detail(&y);
        image_free(&x), image_free(&y);
    }
    const structure_row *row = &m.structure[0];
    assert_true(row->sampler == LK_DDIM && row->steps == 2 && row->most == 8);
    is_mean(&row->correlation, plain, 3);
    is_mean(&row->zero, zero, 3);
    is_mean(&row->kept, kept, 3);
    near(row->kept.mean, 100. / 3); /* two seeds keep their halves, one turns them round */
    is_mean(&row->detail, detail, 3);
    assert_int_equal(m.crossings, 1);
    assert_int_equal(m.crossing[0].steps, 8);
    across[1] = across[2]; /* the second seed's is as like the others': nothing can be said of it */
    is_mean(&m.crossing[0].kept, across, 2);
    study_measures_close(&m);
}

static void test_diversity(void **state)
{
    error e;
    study_measures m;
    double ratio = 0, base = 0, plain = 0;
    (void)state;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < SEEDS; i++) {
        base += others(DOG_BASE + i, DOG_BASE + i, DOG_BASE, image_distance) / SEEDS;
        plain += others(DOG_PLAIN + i, DOG_PLAIN + i, DOG_PLAIN, image_distance) / SEEDS;
    }
    ratio = 100 * plain / base;
    assert_int_equal(m.diversities, 6); /* a dog: three; a sks dog: two; a cat: one */
    assert_true(m.diversity[0].model == BASE && m.diversity[1].model == PLAIN);
    near(m.diversity[0].pixels.mean, base);
    near(m.diversity[1].pixels.mean, plain);
    near(m.diversity[1].of_base.mean, ratio);
    assert_int_equal(m.diversity[0].of_base.n, 0);
    assert_int_equal(m.diversity[1].of_base.n, SEEDS);
    assert_true(m.diversity[1].of_base.high > ratio && m.diversity[1].pixels.high > plain);
    study_measures_close(&m);
}

/* A pair that has the same colours has no distance; three pixels of blur take a sharp edge's
 * detail. */
static void test_comparisons(void **state)
{
    error e = {0};
    image sharp, soft;
    (void)state;
    assert_true(image_new(&sharp, 24, 8, &e) && image_new(&soft, 24, 8, &e));
    assert_true(image_detail(&sharp) == 0 && image_correlation(&sharp, &soft) == 1);
    for (int i = 0; i < 24 * 8 * 3; i++) {
        int x = i / 3 % 24;
        sharp.pixels[i] = (uint8_t)(x < 12 ? 30 : 210);
        soft.pixels[i] = (uint8_t)(x < 6 ? 30 : x < 18 ? 30 + 15 * (x - 5) : 210);
    }
    near(image_detail(&sharp), 2. / 3); /* a step of one pixel becomes three of a third */
    assert_true(image_detail(&soft) < 0.1);
    near(image_distance(&sharp, &sharp), 0);
    assert_true(image_correlation(&sharp, &soft) > 0.9);
    image_free(&sharp), image_free(&soft);
}

/* ---- side by side ---------------------------------------------------------------------------- */

static void test_side_by_side(void **state)
{
    error e;
    study_measures m;
    size_t size, many_size;
    crew before = one;
    char *path = at("matches.safetensors");
    (void)state;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_true(study_measures_write(&m, &plan, folder, &e));
    study_measures_close(&m);
    char *alone = read_all("matches.safetensors", &size), *tables = read_all("measures.json", NULL);
    unlink(path);
    assert_true(crew_open(&one, context, 3, &e));
    stop_at = 2;
    assert_false(measure(&m, &e));
    assert_int_equal(e.code, ERROR_CANCELLED);
    stop_at = -1;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_true(study_measures_write(&m, &plan, folder, &e));
    study_measures_close(&m);
    char *many = read_all("matches.safetensors", &many_size),
         *same = read_all("measures.json", NULL);
    assert_true(size == many_size && memcmp(alone, many, size) == 0);
    assert_string_equal(tables, same);
    crew_close(&one);
    one = before;
    free(alone), free(many), free(tables), free(same), free(path);
}

/* ---- made again ------------------------------------------------------------------------------ */

static void test_made_again(void **state)
{
    error e = {0};
    study_measures m;
    lk_image *made = NULL;
    measure_source s = source();
    lk_generate_options o = cell_options(&cell[CAT]);
    char part[64];
    (void)state;
    s.again = true;
    if (!study_measure(&m, &s, &e)) fail_msg("%s", e.text);
    assert_true(m.repeated && !m.same_again); /* it was painted */
    study_measures_close(&m);
    assert_true(lk_generate(&made, session, models[BASE], &o, NULL));
    snprintf(part, sizeof part, "cells/%s.png", cell[CAT].name);
    char *path = at(part);
    image before = image_of(CAT);
    assert_true(lk_image_save(made, path, NULL));
    lk_image_close(&made);
    if (!study_measure(&m, &s, &e)) fail_msg("%s", e.text);
    assert_true(m.repeated && m.same_again);
    study_measures_close(&m);
    assert_true(image_write(&before, path, NULL, 100, &e));
    image_free(&before);
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_false(m.repeated);
    study_measures_close(&m);
    free(path);
}

/* ---- what is not there ----------------------------------------------------------------------- */

/* Without class pictures the base's own of the class prompt serve, then those of the instance
 * prompt. */
static void test_own_class(void **state)
{
    error e;
    study_measures m;
    const char *before = class_folders[PRIOR];
    (void)state;
    class_folders[PRIOR] = NULL;
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_true(m.subject[0].class_images == SEEDS && m.subject[0].tells_apart);
    double sum = 0;
    for (int i = 0; i < SEEDS; i++) sum += share_at(&m, DOG_BASE + i) / SEEDS;
    near(sum, 0);
    study_measures_close(&m);
    names[PRIOR].train.class_prompt = "a dog that nobody drew";
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(m.subject[0].class_images, SEEDS);
    sum = 0;
    for (int i = 0; i < SEEDS; i++) sum += share_at(&m, SKS_BASE + i) / SEEDS;
    near(sum, 0);
    study_measures_close(&m);
    for (int k = PLAIN; k <= PRIOR; k++) names[k].train.instance_prompt = "a sks cow";
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_true(m.subject[0].class_images == 0 && !m.subject[0].tells_apart && m.likenesses == 0);
    assert_int_equal(m.subject[0].raw_class.n, 0);
    assert_int_equal(m.subject[0].subject.n, 0);
    assert_true(isnan(share_at(&m, 0)));
    assert_true(m.changes == 3 && m.change[0].share.n == 0 && m.change[0].drift.n == SEEDS);
    study_measures_close(&m);
    for (int k = PLAIN; k <= PRIOR; k++) names[k].train.instance_prompt = "a sks dog";
    names[PRIOR].train.class_prompt = "a dog";
    class_folders[PRIOR] = before;
}

/* Other pictures, or another name, are another subject. */
static void test_two_subjects(void **state)
{
    error e;
    study_measures m;
    (void)state;
    names[PRIOR].train.instance_prompt = "a dog";
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    assert_int_equal(m.subjects, 2);
    assert_int_equal(m.contrasts, 0);
    assert_true(m.subject[0].models == 1 && m.subject[1].models == 1 &&
                m.subject[1].model[0] == PRIOR);
    assert_true(isnan(m.cell_share[2 * DOG_PRIOR]) && !isnan(m.cell_share[2 * DOG_PRIOR + 1]));
    study_measures_close(&m);
    names[PRIOR].train.instance_prompt = "a sks dog";
}

static void test_missing_image(void **state)
{
    error e;
    study_measures m;
    image before = image_of(3);
    char *path = at("cells/0000000000000003.png"), *known = at("matches.safetensors");
    (void)state;
    unlink(path);
    assert_false(measure(&m, &e)); /* its pixels are wanted, though it was looked at */
    assert_non_null(strstr(e.text, "0000000000000003.png: this picture of the study is missing"));
    assert_null(strchr(e.text, '\n'));
    unlink(known);
    assert_false(measure(&m, &e));
    assert_non_null(strstr(e.text, "0000000000000003.png: this picture of the study is missing"));
    FILE *garbled = fopen(path, "w");
    fputs("no picture", garbled);
    fclose(garbled);
    assert_false(measure(&m, &e));
    assert_non_null(strstr(e.text, "remove it, and the study run again makes it anew"));
    assert_true(image_write(&before, path, NULL, 100, &e));
    image_free(&before);
    free(path), free(known);
}

/* A model whose UNet's first bias is past what its sums can hold. */
static void break_model(const char *folder_of_model)
{
    error e = {0};
    safetensors file;
    char *path = path_join(folder_of_model, "unet/diffusion_pytorch_model.safetensors");
    assert_true(path && safetensors_open(&file, path, &e));
    safetensors_entry *entry = calloc(file.count, sizeof *entry);
    float *bad = NULL;
    for (size_t i = 0; i < file.count; i++) {
        entry[i] = file.entry[i];
        if (strcmp(entry[i].name, "conv_in.bias") != 0) continue;
        bad = malloc(entry[i].bytes);
        for (size_t k = 0; k < entry[i].bytes / sizeof *bad; k++) bad[k] = 3e38f;
        entry[i].data = bad;
    }
    assert_non_null(bad);
    if (!safetensors_write(path, entry, file.count, NULL, 0, &e)) fail_msg("%s", e.text);
    safetensors_close(&file);
    free(entry), free(bad), free(path);
}

static void test_not_a_number(void **state)
{
    error e;
    study_measures m;
    lk_model *before = models[BASE];
    char *known = at("matches.safetensors"), *path = at("broken");
    (void)state;
    assert_true(toy_stable_diffusion(path, &e));
    break_model(path);
    open_model(&models[BASE], path);
    unlink(known);
    assert_false(measure(&m, &e));
    assert_int_equal(e.code, ERROR_NUMERIC);
    assert_non_null(strstr(e.text, "gives NaN or infinity"));
    assert_non_null(strstr(e.text, "/photos/"));
    lk_model_close(&models[BASE]);
    models[BASE] = before;
    free(known), free(path);
}

/* Each allocation that fails ends in its error, and the next run is whole. */
static void test_memory(void **state)
{
    error e;
    study_measures m;
    long n = 0, step = 1;
    (void)state;
    if (!allocation_can_fail()) skip();
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    study_measures_close(&m);
    for (bool struck = true; struck; n += step, step = n / 40 + 1) {
        measure_source s = source();
        error why = {0};
        allocation_fail_at(n);
        bool ok = study_measure(&m, &s, &why);
        struck = allocation_fail_end();
        if (ok)
            study_measures_close(&m);
        else
            assert_true(why.code == ERROR_MEMORY || why.code == ERROR_FORMAT ||
                        why.code == ERROR_FILE);
    }
    assert_true(n > 100);
    if (!measure(&m, &e)) fail_msg("%s", e.text);
    study_measures_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_plain),
                                       cmocka_unit_test(test_leave_one_out),
                                       cmocka_unit_test(test_cancelled_then_whole),
                                       cmocka_unit_test(test_shares),
                                       cmocka_unit_test(test_switches),
                                       cmocka_unit_test(test_structure),
                                       cmocka_unit_test(test_diversity),
                                       cmocka_unit_test(test_comparisons),
                                       cmocka_unit_test(test_side_by_side),
                                       cmocka_unit_test(test_made_again),
                                       cmocka_unit_test(test_own_class),
                                       cmocka_unit_test(test_two_subjects),
                                       cmocka_unit_test(test_missing_image),
                                       cmocka_unit_test(test_not_a_number),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
