/* SPDX-License-Identifier: Apache-2.0
 *
 * The field's own measures on toy towers and painted pictures, against plain loops over the same
 * embeddings; what is kept is not looked at again; the prompt without the subject's words. */
#include "layout.h"

#include "model/vit.h"

#include "study/measure/field.h"
#include "study/claims/roles.h"
#include "study/measure/statistics.h"

enum {
    BASE,
    TRAINED,
    MODELS,
    SEEDS = 3,
    PROMPTS = 2,
    CELLS = MODELS * SEEDS * PROMPTS,
    PHOTOS = 3,
    SIDE = 24
};

static const char *const prompts[PROMPTS] = {"a photo of sks dog", "a photo of a dog"};
static char folder[600], clip_folder[700], dino_folder[700], photo_folder[700];
static lk_context *context;
static lk_session *session;
static device *cpu; /* of the plain loops */
static study_model names[MODELS];
static study_plan plan = {.model = names, .models = MODELS};
static study_cell cell[CELLS];
static measured all;
static measured_image picture[CELLS + PHOTOS];
static measured_subject subject;
static int trained[] = {TRAINED}, photo_at[PHOTOS];

static void paint(const char *path, int seed)
{
    image m;
    error e = {0};
    assert_true(image_new(&m, SIDE, SIDE, &e));
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        m.pixels[i] = (uint8_t)(127 + 120 * sin(0.013 * i * (seed % 7 + 1) + seed));
    check(image_write(&m, path, NULL, 100, &e), &e);
    image_free(&m);
}

static void make_cells(void)
{
    for (int i = 0; i < CELLS; i++) {
        char path[800];
        cell[i] = (study_cell){.prompt = prompts[i / SEEDS % PROMPTS],
                               .negative = "",
                               .guidance = 5,
                               .seed = (uint64_t)(i % SEEDS),
                               .steps = 2};
        const char *list[] = {"base", "trained"};
        bool base = i < CELLS / 2;
        assert_true(
            lk_schedule_open(&cell[i].mix, base ? "base" : "trained", list, MODELS, 2, NULL));
        snprintf(cell[i].name, sizeof cell[i].name, "%016d", i);
        snprintf(path, sizeof path, "%s/cells/%s.png", folder, cell[i].name);
        paint(path, i);
        picture[i] = (measured_image){.cell = &cell[i], .alone = base ? BASE : TRAINED};
        strcpy(picture[i].id, cell[i].name);
    }
}

static void make_photos(void)
{
    lk_photos *set = NULL;
    error e = {0};
    for (int i = 0; i < PHOTOS; i++) {
        char path[800];
        snprintf(path, sizeof path, "%s/%d.png", photo_folder, i);
        paint(path, 100 + i);
    }
    check(measured_photos(&set, photo_folder, SIDE, 0, false, &e), &e);
    assert_int_equal(lk_photos_count(set), PHOTOS);
    for (int i = 0; i < PHOTOS; i++) {
        picture[CELLS + i] = (measured_image){.alone = -1, .resolution = SIDE};
        measured_photo_id(set, (size_t)i, SIDE, picture[CELLS + i].id);
        photo_at[i] = CELLS + i;
    }
    lk_photos_close(&set);
}

static int open_all(void **state)
{
    error e = {0};
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(clip_folder, sizeof clip_folder, "%s/clip", folder);
    snprintf(dino_folder, sizeof dino_folder, "%s/dino", folder);
    snprintf(photo_folder, sizeof photo_folder, "%s/photos", folder);
    layout_shell("mkdir -p '%s/cells' '%s'", folder, photo_folder);
    layout_write(clip_folder, "clip", false, NULL);
    layout_write(dino_folder, "dino", false, NULL);
    check(device_open(&cpu, "cpu", &(device_options){.threads = 2}, &e), &e);
    assert_true(lk_context_open(&context, NULL, NULL) &&
                lk_session_open(&session, context, NULL, NULL));
    names[TRAINED].train.instance_data_dir = photo_folder;
    make_cells();
    make_photos();
    subject = (measured_subject){.base = BASE,
                                 .model = trained,
                                 .models = 1,
                                 .instance_prompt = prompts[0],
                                 .class_prompt = "a photo of dog",
                                 .photo = photo_at,
                                 .photos = PHOTOS};
    all = (measured){.picture = picture,
                     .pictures = CELLS + PHOTOS,
                     .cells = CELLS,
                     .subject = &subject,
                     .subjects = 1};
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < CELLS; i++) lk_schedule_close(&cell[i].mix);
    device_close(&cpu);
    lk_session_close(&session);
    lk_context_close(&context);
    return 0;
}

static void run(study_measures *out)
{
    error e = {0};
    measure_source s = {.session = session,
                        .plan = &plan,
                        .folder = folder,
                        .clip = clip_folder,
                        .dino = dino_folder};
    *out = (study_measures){0};
    check(field_measure(out, &all, &s, &e), &e);
}

static const field_row *find(const study_measures *m, const char *measure, int which,
                             const char *prompt)
{
    for (int i = 0; i < m->fields; i++) {
        const field_row *r = &m->field[i];
        if (!strcmp(r->measure, measure) && r->model == which && !strcmp(r->prompt, prompt))
            return r;
    }
    fail_msg("no row of %s, model %d, \"%s\"", measure, which, prompt);
    return NULL;
}

/* ---- plain loops ----------------------------------------------------------------------------- */

static int width;
static double plain[CELLS + PHOTOS][32];

static void look_plainly(vit *v)
{
    error e = {0};
    width = vit_width(v);
    for (int i = 0; i < CELLS + PHOTOS; i++) {
        char path[800];
        float out[32];
        image m;
        if (i < CELLS)
            snprintf(path, sizeof path, "%s/cells/%s.png", folder, cell[i].name);
        else
            snprintf(path, sizeof path, "%s/%d.png", photo_folder, i - CELLS);
        check(image_read(&m, NULL, path, &e) && vit_embed(v, &m, out, &e), &e);
        for (int k = 0; k < width; k++) plain[i][k] = out[k];
        image_free(&m);
    }
}

static double cosine(const double *a, const double *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (int k = 0; k < width; k++) ab += a[k] * b[k], aa += a[k] * a[k], bb += b[k] * b[k];
    return ab / sqrt(aa * bb);
}

/* Of one model's pictures under a prompt: their mean cosine with the photos. */
static double mean_likeness(int which, int prompt)
{
    double sum = 0;
    for (int seed = 0; seed < SEEDS; seed++)
        for (int k = 0; k < PHOTOS; k++)
            sum += cosine(plain[(which * PROMPTS + prompt) * SEEDS + seed], plain[CELLS + k]);
    return sum / (SEEDS * PHOTOS);
}

static void near(double is, double should)
{
    if (!(fabs(is - should) < 1e-5)) fail_msg("%.8f should be %.8f", is, should);
}

static double mean_apart(int which, int prompt)
{
    double sum = 0;
    for (int a = 0; a < SEEDS; a++)
        for (int b = 0; b < SEEDS; b++)
            if (a != b)
                sum += 1 - cosine(plain[(which * PROMPTS + prompt) * SEEDS + a],
                                  plain[(which * PROMPTS + prompt) * SEEDS + b]);
    return sum / (SEEDS * (SEEDS - 1));
}

static void dino_rows(void **state)
{
    study_measures m;
    error e = {0};
    vit *v;
    (void)state;
    run(&m);
    check(vit_open(&v, cpu, dino_folder, &e), &e);
    look_plainly(v);
    for (int which = 0; which < MODELS; which++) {
        for (int p = 0; p < PROMPTS; p++) {
            const field_row *r = find(&m, "DINO", which, prompts[p]);
            near(r->value.mean, mean_likeness(which, p));
            assert_int_equal(r->value.n, SEEDS);
            assert_true(r->value.low < r->value.mean && r->value.mean < r->value.high);
        }
        near(find(&m, "PRES", which, "")->value.mean, mean_likeness(which, 1));
        near(find(&m, "DIV", which, prompts[0])->value.mean, mean_apart(which, 0));
    }
    double own = 0;
    for (int a = 0; a < PHOTOS; a++)
        for (int b = 0; b < PHOTOS; b++)
            if (a != b) own += cosine(plain[CELLS + a], plain[CELLS + b]) / (PHOTOS * (PHOTOS - 1));
    near(find(&m, "DINO", -1, "")->value.mean, own);
    vit_close(&v);
    study_measures_close(&m);
}

static void clip_rows(void **state)
{
    study_measures m;
    error e = {0};
    vit *v;
    float of[2][32];
    (void)state;
    run(&m);
    check(vit_open(&v, cpu, clip_folder, &e), &e);
    look_plainly(v);
    check(vit_embed_text(v, "a photo of dog", of[0], &e) &&
              vit_embed_text(v, prompts[1], of[1], &e),
          &e);
    for (int which = 0; which < MODELS; which++)
        for (int p = 0; p < PROMPTS; p++) {
            double text[32], sum = 0;
            for (int k = 0; k < width; k++) text[k] = of[p][k];
            for (int seed = 0; seed < SEEDS; seed++)
                sum += cosine(plain[(which * PROMPTS + p) * SEEDS + seed], text) / SEEDS;
            near(find(&m, "CLIP-I", which, prompts[p])->value.mean, mean_likeness(which, p));
            near(find(&m, "CLIP-T", which, prompts[p])->value.mean, sum);
        }
    vit_close(&v);
    study_measures_close(&m);
}

/* The pictures are gone, and their embeddings are there. */
static void what_is_kept(void **state)
{
    study_measures before, after;
    (void)state;
    run(&before);
    layout_shell("rm '%s'/cells/*.png", folder);
    run(&after);
    assert_int_equal(before.fields, after.fields);
    for (int i = 0; i < before.fields; i++)
        assert_true(before.field[i].value.mean == after.field[i].value.mean);
    layout_shell("rm '%s'/embeddings.safetensors", folder);
    error e = {0};
    measure_source s = {.session = session, .plan = &plan, .folder = folder, .dino = dino_folder};
    study_measures none = {0};
    assert_false(field_measure(&none, &all, &s, &e));
    assert_non_null(strstr(e.text, "missing"));
    study_measures_close(&none);
    study_measures_close(&before);
    study_measures_close(&after);
}

static void the_wrong_flag(void **state)
{
    error e = {0};
    measure_source s = {.session = session, .plan = &plan, .folder = folder, .clip = dino_folder};
    study_measures m = {0};
    (void)state;
    assert_false(field_measure(&m, &all, &s, &e));
    assert_non_null(strstr(e.text, "--dino"));
    study_measures_close(&m);
    e = (error){0};
    check(field_check(session, clip_folder, dino_folder, &e) &&
              field_check(session, NULL, NULL, &e),
          &e);
    assert_false(field_check(session, NULL, clip_folder, &e));
    assert_non_null(strstr(e.text, "--clip"));
    e = (error){0};
    assert_false(field_check(session, photo_folder, NULL, &e));
    assert_non_null(strstr(e.text, "config.json"));
}

static void without_the_subject(void **state)
{
    static const struct {
        const char *prompt, *instance, *of_class, *want;
    } row[] = {
        {"a photo of sks dog", "a photo of sks dog", "a photo of dog", "a photo of dog"},
        {"sks dog on the beach, a sks dog", "a photo of sks dog", "a photo of dog",
         "dog on the beach, a dog"},
        {"a photo of a cat", "a photo of sks dog", "a photo of dog", "a photo of a cat"},
        {"a photo of sks dog", "a photo of sks dog", NULL, "a photo of sks dog"},
        {"", "a photo of sks dog", "a photo of dog", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char *text = prompt_without_subject(row[i].prompt, row[i].instance, row[i].of_class);
        assert_string_equal(text, row[i].want);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dino_rows),           cmocka_unit_test(clip_rows),
        cmocka_unit_test(the_wrong_flag),      cmocka_unit_test(what_is_kept),
        cmocka_unit_test(without_the_subject),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
