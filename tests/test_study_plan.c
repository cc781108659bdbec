/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of studies' plans: the report's, every form of an axis, which layer wins, and what is said
 * of plans that are wrong. */
#include "support.h"

#include "study/page/command.h"
#include "study/plan/plan.h"

static const char *plan_path(void)
{
    static char path[1100];
    if (!path[0]) snprintf(path, sizeof path, "%s/plan.json", scratch_dir());
    return path;
}

static void write_plan(const char *text)
{
    FILE *out = fopen(plan_path(), "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static void read_plan(study_plan *p, const char *text)
{
    error e = {0};
    write_plan(text);
    if (!study_plan_read(p, plan_path(), SOURCE_DIR "/examples", &e)) fail_msg("%s", e.text);
}

/* The message, without the plan's path, is `wanted`, or begins with it where that ends in "...". */
static void check_bad(const char *text, const char *wanted)
{
    study_plan p, empty = {0};
    error e = {0};
    write_plan(text);
    assert_false(study_plan_read(&p, plan_path(), SOURCE_DIR "/examples", &e));
    assert_memory_equal(&p, &empty, sizeof p);
    assert_int_equal(e.code, ERROR_FORMAT);
    assert_null(strchr(e.text, '\n'));
    size_t n = strlen(plan_path()), length = strlen(wanted);
    assert_memory_equal(e.text, plan_path(), n);
    const char *said = e.text + n;
    bool begins = length > 3 && strcmp(wanted + length - 3, "...") == 0;
    if (begins ? strncmp(said, wanted, length - 3) != 0 : strcmp(said, wanted) != 0)
        fail_msg("said \"%s\", not \"%s\"", said, wanted);
}

#define MODELS                                                                                     \
    "\"models\": {\"base\": {\"path\": \"pocket\"}, \"tuned\": {\"train\": {\"model\": \"base\", " \
    "\"instance_data_dir\": \"subject\", \"instance_prompt\": \"sks\"}}}"
#define AXES "\"rows\": {\"prompt\": [\"a\"]}, \"columns\": {\"seed\": [1]}"
/* A plan whose one section ends as told. */
#define SECTION(rest)                                                                              \
    "{" MODELS ", \"sections\": [{\"id\": \"one\", \"title\": \"One\", " rest "}]}"
#define AT ": sections[0]"

/* A plan with one model more, and the training's keys. */
#define TRAINING(rest)                                                                             \
    "{\"models\": {\"base\": {\"path\": \"pocket\"}, \"t\": {\"train\": {" rest "}}}, "            \
    "\"sections\": [{\"id\": \"one\", \"title\": \"One\", " AXES ", "                              \
    "\"settings\": {\"model\": \"t\"}}]}"
#define NEEDED                                                                                     \
    "\"model\": \"base\", \"instance_data_dir\": \"subject\", \"instance_prompt\": \"sks\", "

/* ---- the report ----------------------------------------------------------------------------- */

static void test_report(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        int rows, columns;
        const char *schedule;
        bool hidden;
    } wanted[] = {
        {"samplers", 4, 6, "base", false},
        {"before-after", 8, 9, "prior", false},
        {"sweep-base-to-tuned", 3, 9, "base", false},
        {"sweep-tuned-to-base", 3, 8, "tuned", false},
        {"base-to-tuned", 3, 9, "base x40, tuned x10", false},
        {"tuned-to-base", 3, 9, "tuned", false},
        {"samplers-more", 4, 6, "base", true},
        {"before-after-more", 6, 9, "prior", true},
        {"sweep-base-to-tuned-more", 3, 7, "base x40, tuned x10", true},
        {"sweep-tuned-to-base-more", 3, 6, "tuned x45, base x5", true},
    };
    enum { COUNT = sizeof wanted / sizeof *wanted };
    study_plan p;
    error e = {0};
    if (!study_plan_read(&p, SOURCE_DIR "/examples/report.json", NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(p.sections, COUNT);
    for (int i = 0; i < COUNT; i++) {
        const study_section *s = &p.section[i];
        int count = s->rows * s->columns;
        assert_string_equal(s->id, wanted[i].id);
        assert_int_equal(s->rows, wanted[i].rows);
        assert_int_equal(s->columns, wanted[i].columns);
        assert_string_equal(s->cell[count - 1].schedule, wanted[i].schedule);
        assert_int_equal(s->hidden, wanted[i].hidden);
        assert_true(s->hidden || *s->about != '\0');
        for (int k = 0; k < count; k++) {
            assert_int_equal(s->cell[k].steps, s->cell[k].steps);
            assert_true(s->cell[k].guidance == (strncmp(s->id, "samplers", 8) ? 7.5f : 1));
        }
    }

    const study_cell *c = &p.section[0].cell[0];
    assert_int_equal(c->sampler, LK_DDPM);
    assert_int_equal(c->steps, 200);
    assert_true(c->variance == LK_VARIANCE_FIXED_LARGE);
    assert_int_equal(p.section[0].cell[3].variance, LK_VARIANCE_MODEL); /* DDIM looks at none */
    assert_string_equal(p.section[0].column_label[1], "DDPM, 50 steps");
    assert_string_equal(p.section[0].row_label[3], "seed 45");
    assert_string_equal(p.section[4].column_label[4], "base, then tuned after 15, seed 43");
    assert_string_equal(p.section[4].cell[4].schedule, "base x15, tuned x35");
    assert_string_equal(p.section[4].cell[0].schedule, "tuned");
    assert_int_equal(cell_model(&p.section[4].cell[0]), 1);
    assert_int_equal(cell_model(&p.section[4].cell[4]), -1);
    int first, second, at;
    assert_true(lk_schedule_switch(p.section[3].cell[1].mix, &first, &second, &at));
    assert_true(first == 1 && second == 0 && at == 10);

    assert_int_equal(p.models, 3);
    assert_string_equal(p.model[0].path, "pocket");
    const study_model *prior = &p.model[2];
    assert_string_equal(p.model_name[2], "prior");
    assert_null(prior->path);
    assert_int_equal(prior->base, 0);
    assert_string_equal(prior->train.instance_data_dir, SOURCE_DIR "/examples/subject");
    assert_true(prior->train.with_prior_preservation && !p.model[1].train.with_prior_preservation);
    assert_null(prior->train.class_data_dir);
    assert_true(prior->train.train_text_encoder && prior->train.seed == 0);
    assert_int_equal(prior->train.max_train_steps, 300);
    assert_true(prior->train.learning_rate == 1.5e-4);
    assert_int_equal(prior->train.class_steps, 25);
    assert_true(prior->train.class_guidance == 5);
    assert_int_equal(p.measure_noises, 2);
    study_plan_close(&p);
}

/* ---- forms ---------------------------------------------------------------------------------- */

static void check_labels(const char *axis, const char *const *labels, int count)
{
    char text[2000];
    study_plan p;
    snprintf(text, sizeof text,
             SECTION("\"settings\": {\"prompt\": \"p\", \"model\": \"base\"}, "
                     "\"rows\": %s, \"columns\": [{\"label\": \"c\"}]"),
             axis);
    read_plan(&p, text);
    assert_int_equal(p.section[0].rows, count);
    assert_int_equal(p.section[0].columns, 1);
    for (int i = 0; i < count; i++) assert_string_equal(p.section[0].row_label[i], labels[i]);
    study_plan_close(&p);
}

#define CHECK_LABELS(axis, ...)                                                                    \
    check_labels(axis, (const char *const[]){__VA_ARGS__},                                         \
                 (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

static void test_axes(void **state)
{
    (void)state;
    CHECK_LABELS("{\"prompt\": [\"a cat\", \"\"]}", "a cat", "no prompt");
    CHECK_LABELS("{\"negative\": [\"dark\", \"\"]}", "negative: dark", "negative: none");
    CHECK_LABELS("{\"seed\": [42, \"18446744073709551615\"]}", "seed 42",
                 "seed 18446744073709551615");
    CHECK_LABELS("{\"seed\": \"7,42-43\"}", "seed 7", "seed 42", "seed 43");
    CHECK_LABELS("{\"sampler\": [\"ddpm\", \"ddim\"]}", "DDPM", "DDIM");
    CHECK_LABELS("{\"sampler\": [\"DPM++ 2M Karras\", \"euler_a\"]}", "DPM++ 2M Karras", "Euler a");
    CHECK_LABELS("{\"steps\": [1, 50]}", "1 step", "50 steps");
    CHECK_LABELS("{\"guidance\": [1, 7.5]}", "guidance 1", "guidance 7.5");
    CHECK_LABELS("{\"guidance_rescale\": [0.7]}", "guidance rescale 0.7");
    CHECK_LABELS("{\"eta\": [0, 0.5]}", "eta 0", "eta 0.5");
    CHECK_LABELS("[{\"sampler\": [\"ddpm\"]}, {\"variance\": [\"fixed_small\"]}]",
                 "DDPM, fixed_small");
    CHECK_LABELS("{\"spacing\": [\"trailing\"]}", "trailing");
    CHECK_LABELS("{\"width\": [64]}", "width 64");
    CHECK_LABELS("{\"height\": [64]}", "height 64");
    CHECK_LABELS("{\"clip_skip\": [1]}", "clip skip 1");
    CHECK_LABELS("{\"deep_cache\": [1, 2, 3]}", "no deep cache", "deep cache 2", "deep cache 3");
    CHECK_LABELS("{\"prompt_syntax\": [\"plain\", \"a1111\"]}", "prompts as plain",
                 "prompts as a1111");
    CHECK_LABELS("{\"rng\": [\"cpu\", \"cuda\", \"NV\"]}", "noise of cpu", "noise of cuda",
                 "noise of a1111");
    CHECK_LABELS("{\"init_image\": [\"subject/01.png\", \"subject/02.png\"]}", "01.png", "02.png");
    CHECK_LABELS("{\"control\": [[], [{\"file\": \"subject\", \"image\": \"subject/02.png\", "
                 "\"scale\": 0.5}, {\"file\": \"subject\", \"image\": \"subject/01.png\"}]]}",
                 "no control", "subject of 02.png at 0.5, subject of 01.png at 1");
    CHECK_LABELS("{\"tile\": [false, true]}", "not in tiles", "in tiles");
    CHECK_LABELS("{\"hires\": [1, 2.5]}", "no hires", "hires 2.5");
    CHECK_LABELS("{\"model\": [\"base\", \"tuned\"]}", "base", "tuned");
    CHECK_LABELS("{\"schedule\": [\"base|tuned\"]}", "base|tuned");
    CHECK_LABELS("{\"switch\": {\"from\": \"base\", \"to\": \"tuned\", \"at\": [0, 50]}}",
                 "base, then tuned after 0", "base, then tuned after 50");
    CHECK_LABELS("[{\"steps\": [10]}]", "10 steps");
    CHECK_LABELS("[{\"steps\": [10, 20]}, {\"seed\": [1, 2]}, {\"eta\": [0]}]",
                 "10 steps, seed 1, eta 0", "10 steps, seed 2, eta 0", "20 steps, seed 1, eta 0",
                 "20 steps, seed 2, eta 0");
    CHECK_LABELS("[{\"label\": \"x\", \"steps\": 10, \"seed\": 3}, {\"label\": \"y\"}]", "x", "y");
}

/* The parts of labels: the outermost turns slowest; a switch has two. */
static void test_parts(void **state)
{
    (void)state;
    static const char *const wanted[3][4] = {
        {"base, then tuned", "base, then tuned", "base, then tuned", "base, then tuned"},
        {"after 0", "after 0", "after 15", "after 15"},
        {"seed 1", "seed 2", "seed 1", "seed 2"},
    };
    study_plan p;
    read_plan(
        &p,
        SECTION(
            "\"rows\": {\"prompt\": [\"a\", \"b\"]}, \"shown\": false, \"columns\": [{\"switch\": "
            "{\"from\": \"base\", \"to\": \"tuned\", \"at\": [0, 15]}}, {\"seed\": [1, 2]}]"));
    const study_section *s = &p.section[0];
    assert_true(s->hidden);
    assert_int_equal(s->row_levels, 1);
    assert_string_equal(s->row_part[1], "b");
    assert_int_equal(s->column_levels, 3);
    for (int level = 0; level < 3; level++)
        for (int i = 0; i < 4; i++)
            assert_string_equal(s->column_part[level * 4 + i], wanted[level][i]);
    study_plan_close(&p);
}

static void test_layers(void **state)
{
    (void)state;
    study_plan p;
    read_plan(
        &p, "{" MODELS ", \"defaults\": {\"prompt\": \"d\", \"steps\": 10, \"seed\": 1, \"model\": "
            "\"base\", \"negative\": \"n\", \"width\": 64, \"clip_skip\": 1, \"spacing\": null, "
            "\"eta\": 0.5}, "
            "\"sections\": [{\"id\": \"one\", \"title\": \"One\", \"settings\": {\"seed\": 2, "
            "\"steps\": 20, \"schedule\": \" 0.5*base + 0.5*tuned \", \"sampler\": \"ddpm\"}, "
            "\"rows\": [{\"label\": \"r\", \"steps\": 30, \"guidance\": 3}, "
            "{\"label\": \"alone\", \"schedule\": \"tuned x9, tuned rest\"}], "
            "\"columns\": [{\"label\": \"c\", \"seed\": 3, \"guidance\": 3.0}, "
            "{\"label\": \"none\"}]}]}");
    const study_cell *c = p.section[0].cell;
    assert_string_equal(c[0].prompt, "d");
    assert_string_equal(c[0].negative, "n");
    assert_int_equal(c[0].seed, 3);
    assert_int_equal(c[1].seed, 2);
    assert_int_equal(c[0].steps, 30);
    assert_int_equal(c[2].steps, 20);
    assert_true(c[0].guidance == 3 && c[1].guidance == 3 && c[2].guidance == 3 &&
                c[3].guidance == 7.5f);
    assert_true(c[0].width == 64 && c[0].height == 0 && c[0].clip_skip == 1);
    assert_int_equal(c[0].spacing, LK_SPACING_MODEL);
    assert_true(c[0].eta == 0); /* the section's DDPM looks at none */
    assert_string_equal(c[0].schedule, "0.5*base+0.5*tuned x30");
    assert_int_equal(cell_model(&c[0]), -1);
    assert_string_equal(c[3].schedule, "tuned");
    assert_int_equal(cell_model(&c[3]), 1);
    assert_string_equal(p.title, "A study");
    assert_string_equal(p.about, "");
    study_plan_close(&p);

    /* Sigmas, by the sampler's name or their own; a sampler that has none and is chosen over them
     * has none. */
    read_plan(&p, "{\"models\": {\"only\": {\"path\": \"subject\"}}, \"defaults\": {\"prompt\": "
                  "\"d\", \"steps\": 3, \"sigmas\": \"Beta\"}, \"sections\": [{\"id\": \"one\", "
                  "\"title\": \"One\", \"rows\": {\"seed\": [1]}, \"columns\": {\"sampler\": "
                  "[\"DPM++ 2M Karras\", \"euler\", \"ddim\"]}}, {\"id\": \"two\", \"title\": "
                  "\"Two\", \"settings\": {\"sampler\": \"lms\"}, \"rows\": {\"seed\": [1]}, "
                  "\"columns\": {\"sigmas\": [\"7,2,1,0\", \"simple\"]}}]}");
    c = p.section[0].cell;
    assert_string_equal(c[0].sigmas, "karras");
    assert_string_equal(c[1].sigmas, "beta");
    assert_null(c[2].sigmas);
    assert_string_equal(p.section[1].cell[0].sigmas, "7,2,1,0");
    assert_string_equal(p.section[1].column_label[0], "sigmas 7,2,1,0");
    assert_string_equal(p.section[1].column_label[1], "SGM Uniform");
    lk_generate_options o = cell_options(&c[0]);
    assert_string_equal(o.sigmas, "karras");
    study_plan_close(&p);

    /* LoRAs beside a path: in the plan that is kept, and in the commands. */
    read_plan(&p, "{\"models\": {\"base\": {\"path\": \"pocket\"}, \"dog\": {\"path\": "
                  "\"pocket\", \"lora\": [{\"file\": \"subject\", \"weight\": 0.8}, {\"file\": "
                  "\"subject\"}]}}, \"defaults\": {\"prompt\": \"d\", \"steps\": 3}, \"sections\": "
                  "[{\"id\": \"one\", \"title\": \"One\", \"rows\": {\"seed\": [1]}, "
                  "\"columns\": {\"schedule\": [\"base x1, dog rest\", \"dog\"]}}]}");
    assert_int_equal(p.model[0].loras, 0);
    assert_int_equal(p.model[1].loras, 2);
    assert_string_equal(p.model[1].lora[0].path, SOURCE_DIR "/examples/subject");
    assert_true(p.model[1].lora[0].weight == 0.8f && p.model[1].lora[1].weight == 1);
    assert_non_null(strstr(p.text, SOURCE_DIR "/examples/subject\""));
    char *turns = command_of_cell(&p, &p.section[0].cell[0], LK_F32),
         *alone = command_of_cell(&p, &p.section[0].cell[1], LK_F32);
    assert_non_null(strstr(turns, "-m base=pocket -m dog=pocket --lora dog=" SOURCE_DIR
                                  "/examples/subject:0.8 --lora dog=" SOURCE_DIR
                                  "/examples/subject:1 --schedule"));
    assert_non_null(strstr(alone, " --lora " SOURCE_DIR "/examples/subject:0.8 --lora "));
    free(turns);
    free(alone);
    study_plan_close(&p);

    /* The only model needs no naming. */
    read_plan(&p,
              "{\"models\": {\"only\": {\"path\": \"subject\"}}, \"measures\": {\"noises\": 3}, "
              "\"sections\": [{\"id\": \"one\", \"title\": \"One\", " AXES "}]}");
    assert_string_equal(p.section[0].cell[0].schedule, "only");
    assert_string_equal(p.model[0].path, SOURCE_DIR "/examples/subject");
    assert_int_equal(p.measure_noises, 3);
    study_plan_close(&p);
}

#define FROM "\"model\": \"base\", \"init_image\": \"subject/01.png\""
#define BY(settings, columns)                                                                      \
    SECTION("\"settings\": {" settings "}, \"rows\": {\"prompt\": [\"a\"]}, "                      \
            "\"columns\": " columns)

/* A picture to begin with, its mask, and a second pass: read once, found in the plan that is kept,
 * and only where they mean something. */
static void test_passes(void **state)
{
    (void)state;
    study_plan p;
    read_plan(&p, BY(FROM ", \"mask\": \"subject/01.png\"", "{\"strength\": [0.5, 1]}"));
    const study_cell *c = p.section[0].cell;
    assert_string_equal(p.section[0].column_label[0], "strength 0.5");
    assert_string_equal(c[0].init->path, SOURCE_DIR "/examples/subject/01.png");
    assert_ptr_equal(c[0].init, c[1].mask);
    assert_null(p.picture->next);
    assert_int_equal(strlen(c[0].init->hash), 64);
    assert_true(cell_steps(&c[0]) == 25 && cell_steps(&c[1]) == 50 && c[0].steps == 50);
    lk_generate_options o = cell_options(&c[0]);
    assert_true(o.init_image == c[0].init->image && o.mask == o.init_image && o.strength == 0.5);
    char *command = command_of_cell(&p, &c[0], LK_F32);
    assert_non_null(strstr(command, " -i " SOURCE_DIR "/examples/subject/01.png --strength 0.5 "
                                    "--mask " SOURCE_DIR "/examples/subject/01.png "));
    free(command);
    study_plan_close(&p);

    read_plan(&p, BY("\"model\": \"base\"", "{\"init_image\": [\"subject/01.png\", "
                                            "\"subject/02.png\"]}"));
    c = p.section[0].cell;
    assert_true(c[0].strength == 0.8 && cell_steps(&c[0]) == 40);
    assert_string_not_equal(c[0].init->hash, c[1].init->hash);
    assert_non_null(strstr(p.text, "\"" SOURCE_DIR "/examples/subject/02.png\"")); /* in a list */
    study_plan_close(&p);

    /* a schedule counts the steps that are made */
    read_plan(&p, BY("\"init_image\": \"subject/01.png\", \"strength\": 0.5",
                     "{\"schedule\": [\"base x5, tuned x20\"]}"));
    assert_string_equal(p.section[0].cell[0].schedule, "base x5, tuned x20");
    study_plan_close(&p);

    read_plan(&p, BY("\"model\": \"base\", \"hires_strength\": 0.5, \"hires_steps\": 20, "
                     "\"hires_upscaler\": \"Latent (nearest)\"",
                     "[{\"hires\": [1, 2]}, {\"steps\": [50, 20]}]"));
    c = p.section[0].cell;
    assert_true(c[0].hires == 0 && c[0].hires_strength == 0.7 && !c[0].hires_upscaler);
    assert_true(cell_second_steps(&c[0]) == 0 && cell_second_steps(&c[2]) == 20);
    assert_true(c[2].hires_steps == 20 && c[3].hires_steps == 0 && cell_second_steps(&c[3]) == 20);
    command = command_of_cell(&p, &c[2], LK_F32);
    assert_non_null(strstr(command, " --hires 2 --hires-strength 0.5 --hires-steps 20 "
                                    "--hires-upscaler latent-nearest "));
    free(command);
    study_plan_close(&p);
}

static void test_bad_passes(void **state)
{
    (void)state;
#define BASE "\"model\": \"base\""
#define ONE "{\"seed\": [1]}"
    check_bad(BY(BASE ", \"init_image\": \"no-such.png\"", ONE),
              AT ".settings: \"init_image\": there is no /tmp/...");
    check_bad(BY(BASE ", \"init_image\": \"plan.json\"", ONE),
              AT ".settings: \"init_image\": /tmp/...");
    check_bad(BY(BASE ", \"init_image\": \"\"", ONE), AT ".settings: \"init_image\" is empty");
    check_bad(BY(BASE ", \"mask\": 1", ONE),
              AT ".settings: \"mask\" should be a string, not an integer");
    check_bad(BY(BASE ", \"mask\": \"subject/01.png\"", ONE),
              AT ".rows[0] x columns[0]: has a \"mask\" and no \"init_image\", of which it is");
    check_bad(BY(FROM ", \"mask\": \"" SOURCE_DIR "/tests/fixtures/image/dot.png\"", ONE), AT
              ".rows[0] x columns[0]: the \"mask\" is 1x1, the \"init_image\" 256x256; give ...");
    check_bad(BY(BASE, "{\"strength\": [0.5]}"),
              AT ".rows[0] x columns[0]: has a \"strength\" and no \"init_image\", of which it is");
    check_bad(BY(FROM, "{\"strength\": [0]}"), AT ".columns.strength[0]: \"strength\" is 0; it "
                                                  "should be a number above 0, up to 1");
    check_bad(BY(FROM, "{\"strength\": [0.5, 1.5]}"), AT
              ".columns.strength[1]: \"strength\" is 1.5; it should be a number above 0, up to 1");
    check_bad(BY(FROM, "{\"strength\": [\"much\"]}"),
              AT ".columns.strength[0]: \"strength\" should be a number");
    check_bad(BY(FROM, "{\"strength\": [0.01]}"),
              AT ".rows[0] x columns[0]: \"strength\" 0.01 of 50 \"steps\" leaves none to make");
    check_bad(BY(FROM ", \"strength\": 0.5", "{\"switch\": {\"from\": \"base\", \"to\": "
                                             "\"tuned\", \"at\": [30]}}"),
              AT ".rows[0] x columns[0]: the schedule \"base x30, tuned rest\" has more steps ...");
    check_bad(BY(FROM, "{\"hires\": [2]}"),
              AT ".rows[0] x columns[0]: has both \"init_image\" and \"hires\", ...");
    check_bad(BY(BASE, "{\"hires\": [0.5]}"),
              AT ".columns.hires[0]: \"hires\" is 0.5; it should be a number from 1, up to 16");
    check_bad(BY(BASE, "{\"hires\": [17]}"), AT ".columns.hires[0]: \"hires\" is 17; ...");
#define EDGES "{\"file\": \"subject\", \"image\": \"subject/01.png\"}"
    check_bad(BY(BASE ", \"control\": " EDGES, ONE),
              AT ".settings: \"control\" should be a list of at most 8, such as ...");
    check_bad(BY(BASE ", \"control\": [5]", ONE),
              AT ".settings.control[0]: should be an object such as ...");
    check_bad(BY(BASE ", \"control\": [" EDGES ", {\"image\": \"x\"}]", ONE),
              AT ".settings.control[1]: \"file\" is missing");
    check_bad(BY(BASE ", \"control\": [{\"file\": \"subject\", \"image\": \"x.png\"}]", ONE),
              AT ".settings.control[0]: \"image\": there is no /tmp/...");
    check_bad(BY(BASE ", \"control\": [{\"file\": \"none\", \"image\": \"x.png\"}]", ONE),
              AT ".settings.control[0]: \"file\": there is no /tmp/...");
    check_bad(BY(BASE ", \"control\": [{\"file\": \"subject\", \"image\": \"subject/01.png\", "
                      "\"weight\": 1}]",
                 ONE),
              AT ".settings.control[0]: unknown key \"weight\"; there are file, image, scale");
    check_bad(BY(BASE ", \"control\": [{\"file\": \"subject\", \"image\": \"subject/01.png\", "
                      "\"scale\": \"1\"}]",
                 ONE),
              AT ".settings.control[0]: \"scale\" should be a number...");
    check_bad(BY(BASE, "{\"tile\": [1]}"),
              AT ".columns.tile[0]: \"tile\" should be true or false, not an integer");
    check_bad(BY(BASE ", \"hires_steps\": 5", ONE),
              AT ".rows[0] x columns[0]: has \"hires_steps\" and no \"hires\", of which it is");
    check_bad(BY(BASE ", \"hires\": 2, \"hires_steps\": 0", ONE),
              AT ".settings: \"hires_steps\" is 0; it should be in 1..10000");
    check_bad(BY(BASE ", \"hires\": 2, \"hires_strength\": 2", ONE),
              AT ".settings: \"hires_strength\" is 2; ...");
    check_bad(BY(BASE ", \"hires\": 2, \"hires_upscaler\": \"ESRGAN\"", ONE),
              AT ".settings: \"hires_upscaler\": hires upscaler \"ESRGAN\": there are latent, ...");
}

static void test_training(void **state)
{
    (void)state;
    study_plan p;
    read_plan(&p,
              TRAINING(NEEDED "\"lr_scheduler\": \"cosine\", \"use_8bit_adam\": true, \"seed\": 7, "
                              "\"class_data_dir\": \"made-later\", \"class_prompt\": \"a dog\", "
                              "\"with_prior_preservation\": true, \"snr_gamma\": 5, "
                              "\"checkpointing_steps\": 10000000000, \"cache_latents\": false"));
    const lk_train_options *s = &p.model[1].train;
    assert_int_equal(s->lr_scheduler, LK_RATE_COSINE);
    assert_int_equal(s->optimizer, LK_ADAMW_8BIT);
    assert_int_equal(s->seed, 7);
    assert_true(!s->cache_latents && s->snr_gamma == 5);
    assert_true(s->checkpointing_steps == 10000000000);
    assert_int_equal(s->num_class_images, 100);
    assert_int_equal(p.model[1].train.class_steps, 50);
    assert_true(p.model[1].train.class_guidance == 7.5f);
    char wanted[1200];
    snprintf(wanted, sizeof wanted, "%s", plan_path());
    strcpy(strrchr(wanted, '/') + 1, "made-later");
    assert_string_equal(s->class_data_dir, wanted);
    study_plan_close(&p);

    read_plan(&p, TRAINING(NEEDED "\"optimizer\": \"adamw8bit\""));
    assert_int_equal(p.model[1].train.optimizer, LK_ADAMW_8BIT);
    study_plan_close(&p);
}

/* ---- wrong plans ---------------------------------------------------------------------------- */

static void test_bad_top(void **state)
{
    (void)state;
    study_plan p;
    error e = {0};
    assert_false(study_plan_read(&p, "/nonexistent/plan.json", NULL, &e));
    assert_int_equal(e.code, ERROR_FILE);
    check_bad("{\"title\": ", ": not valid JSON (line 1: ...");
    check_bad("{\"title\": \"a\", \"title\": \"b\"}", ": not valid JSON (line 1: ...");
    check_bad("[]", ": should be a JSON object");
    check_bad("{\"titel\": \"x\"}",
              ": unknown key \"titel\"; there are title, about, defaults, models, "
              "sections, measures");
    check_bad("{\"title\": 5}", ": \"title\" should be a string, not an integer");
    check_bad("{}", ": \"models\" is missing");
    check_bad("{\"models\": []}", ": \"models\" should be an object: {...}");
    check_bad("{\"models\": {}}", ": \"models\" is empty; ...");
    check_bad("{" MODELS "}", ": \"sections\" should be a list with at least one section");
    check_bad("{" MODELS ", \"sections\": []}",
              ": \"sections\" should be a list with at least one section");
    check_bad("{" MODELS ", \"sections\": [5]}", AT ": should be an object: {...}");
    check_bad("{" MODELS ", \"defaults\": 3}", ": \"defaults\" should be an object: {...}");
    check_bad("{" MODELS ", \"defaults\": {\"stepz\": 3}}",
              ": defaults: unknown key \"stepz\"; there are "
              "prompt, negative, seed, sampler, sigmas, steps, guidance, guidance_rescale, eta, "
              "variance, spacing, "
              "width, height, clip_skip, deep_cache, prompt_syntax, rng, init_image, strength, "
              "mask, hires, hires_steps, "
              "hires_strength, hires_upscaler, tile, control, model, schedule");
    check_bad("{\"measures\": {\"noises\": 0}}",
              ": measures: \"noises\" is 0; it should be in 1..1000");
    check_bad("{\"measures\": {\"draws\": 1}}",
              ": measures: unknown key \"draws\"; there are noises");
}

static void test_bad_models(void **state)
{
    (void)state;
    check_bad("{\"models\": {\"a/b\": {\"path\": \"pocket\"}}}",
              ": \"a/b\" cannot be a model's name; ...");
    check_bad("{\"models\": {\"a\": 1}}", ": models.a: should be an object such as ...");
    check_bad("{\"models\": {\"a\": {}}}", ": models.a: should have either \"path\" or \"train\"");
    check_bad("{\"models\": {\"a\": {\"path\": 1}}}",
              ": models.a: \"path\" should be a string, not an integer");
    check_bad("{\"models\": {\"a\": {\"path\": \"pocket\", \"class_steps\": 5}}}",
              ": models.a: \"class_steps\" and \"class_guidance\" belong beside \"train\"");
    check_bad("{\"models\": {\"a\": {\"path\": \"pocket\", \"lora\": \"x\"}}}",
              ": models.a: \"lora\" should be a list such as ...");
    check_bad("{\"models\": {\"a\": {\"path\": \"pocket\", \"lora\": [{\"file\": \"no-such\"}]}}}",
              ": models.a.lora[0]: \"file\": there is no /tmp/...");
    check_bad("{\"models\": {\"a\": {\"path\": \"pocket\", \"lora\": [{\"file\": \"subject\", "
              "\"weight\": \"1\"}]}}}",
              ": models.a.lora[0]: \"weight\" should be ...");
    check_bad("{\"models\": {\"a\": {\"train\": {}, \"lora\": []}}}",
              ": models.a: \"lora\" belongs beside \"path\"");
    check_bad("{\"models\": {\"a\": {\"train\": {}, \"taesd\": \"x\"}}}",
              ": models.a: \"taesd\" belongs beside \"path\"");
    check_bad("{\"models\": {\"a\": {\"path\": \"pocket\", \"taesd\": \"no-such\"}}}",
              ": models.a: \"taesd\": there is no /tmp/...");
    check_bad("{\"models\": {\"a\": {\"path\": \"pocket\", \"taesd\": 1}}}",
              ": models.a: \"taesd\" should be a string, not an integer");
    check_bad("{\"models\": {\"a\": {\"path\": \"pocket\", \"taesd\": \"subject\"}, \"b\": "
              "{\"train\": {\"model\": \"a\"}}}}",
              ": models.b.train: \"model\" names \"a\", whose pictures a \"taesd\" makes; ...");
    check_bad("{\"models\": {\"a\": {\"path\": \"/no/such\"}}}",
              ": models.a: \"path\": there is no /no/such");
    check_bad("{\"models\": {\"a\": {\"path\": \"no-such\"}}}",
              ": models.a: \"path\": there is no /tmp/...");
    check_bad("{\"models\": {\"a\": {\"path\": \"pocket\", \"vae\": \"x\"}}}",
              ": models.a: unknown key \"vae\"; there are path, lora, taesd, train, class_steps, "
              "class_guidance");
    check_bad("{\"models\": {\"a\": {\"train\": {\"model\": \"a\"}}}}",
              ": models.a.train: \"model\" names the training itself; name an earlier model");
    check_bad(
        "{\"models\": {\"a\": {\"train\": {\"model\": \"b\"}}, \"b\": {\"train\": {\"model\": "
        "\"a\"}}}}",
        ": models.a.train: \"model\" names \"b\", which comes later; put it before its trainings");
    check_bad(TRAINING("\"model\": \"c\""),
              ": models.t.train: \"model\" names \"c\", and no model has that "
              "name; there are base");
    check_bad(TRAINING("\"seed\": 1"), ": models.t.train: \"model\" is missing");
    check_bad(TRAINING("\"model\": \"base\""),
              ": models.t.train: \"instance_data_dir\" is missing");
    check_bad(TRAINING(NEEDED "\"steps\": 5"),
              ": models.t.train: unknown key \"steps\"; there are model, ...");
    check_bad(TRAINING(NEEDED "\"output_dir\": \"x\""),
              ": models.t.train: \"output_dir\" is the study's business; leave it out");
    check_bad(TRAINING(NEEDED "\"learning_rate\": \"big\""),
              ": models.t.train: \"learning_rate\" should be a number");
    check_bad(TRAINING(NEEDED "\"learning_rate\": 0"),
              ": models.t.train: --learning_rate must be a number above 0, not 0; ...");
    check_bad(TRAINING(NEEDED "\"max_train_steps\": 1.5"),
              ": models.t.train: \"max_train_steps\" should be an integer, not a number");
    check_bad(TRAINING(NEEDED "\"train_batch_size\": true"),
              ": models.t.train: \"train_batch_size\" should be an integer, not a boolean");
    check_bad(TRAINING(NEEDED "\"train_text_encoder\": 1"),
              ": models.t.train: \"train_text_encoder\" should be true or false, not an integer");
    check_bad(TRAINING(NEEDED "\"with_prior_preservation\": true"),
              ": models.t.train: --with_prior_preservation needs --class_prompt, ...");
    check_bad(TRAINING(NEEDED "\"lr_scheduler\": \"fast\""),
              ": models.t.train: \"lr_scheduler\" is \"fast\"; ...");
    check_bad(TRAINING(NEEDED "\"optimizer\": \"sgd\""),
              ": models.t.train: \"optimizer\" is \"sgd\"; it should be adamw or adamw8bit");
    check_bad(
        TRAINING(NEEDED "\"optimizer\": \"adamw\", \"use_8bit_adam\": true"),
        ": models.t.train: \"optimizer\" is adamw, and \"use_8bit_adam\" is true; leave one out");
}

static void test_bad_sections(void **state)
{
    (void)state;
    check_bad(SECTION(AXES ", \"colums\": []"),
              AT ": unknown key \"colums\"; there are id, title, about, "
                 "settings, rows, columns, shown");
    check_bad("{" MODELS ", \"sections\": [{\"title\": \"x\"}]}", AT ": \"id\" is missing");
    check_bad("{" MODELS ", \"sections\": [{\"id\": \"A b\"}]}", AT ": \"id\" is \"A b\"; ...");
    check_bad("{" MODELS ", \"sections\": [{\"id\": \"x\"}]}", AT ": \"title\" is missing");
    check_bad("{" MODELS
              ", \"defaults\": {\"model\": \"base\"}, \"sections\": [{\"id\": \"x\", \"title\": "
              "\"x\", " AXES "}, {\"id\": \"x\"}]}",
              ": sections[1]: \"id\" is \"x\", as that of sections[0]; give it its own");
    check_bad(SECTION("\"rows\": {\"seed\": [1]}"), AT ": \"columns\" is missing");
    check_bad(SECTION("\"settings\": 5"), AT ": \"settings\" should be an object: {...}");
    check_bad(SECTION(AXES),
              AT ".rows[0] x columns[0]: has no \"model\" and no \"schedule\"; give one");
    check_bad(SECTION("\"rows\": {\"seed\": [1]}, \"columns\": {\"model\": [\"base\"]}"),
              AT ".rows[0] x columns[0]: has no \"prompt\"; ...");
    check_bad(
        SECTION(
            "\"rows\": {\"seed\": [1]}, \"columns\": {\"seed\": [1, 2]}, \"settings\": {\"model\": "
            "\"base\", \"prompt\": \"p\"}"),
        AT ".rows[0] x columns[1]: row and column both give \"seed\", and differ; ...");
    check_bad(SECTION("\"rows\": {\"prompt\": [\"a\"]}, \"columns\": {\"prompt\": [\"b\"]}"),
              AT ".rows[0] x columns[0]: row and column both give \"prompt\", and differ; ...");
    check_bad(
        SECTION("\"rows\": {\"model\": [\"base\"]}, \"columns\": {\"schedule\": [\"tuned\"]}"), AT
        ".rows[0] x columns[0]: row and column both give \"model or schedule\", and differ; ...");
    check_bad(SECTION(AXES ", \"settings\": {\"model\": \"base\", \"schedule\": \"base\"}"),
              AT ".settings: gives both \"model\" and \"schedule\"; leave one out");
    check_bad(SECTION("\"rows\": {\"seed\": \"0-199\"}, \"columns\": {\"prompt\": [\"a\"]}, "
                      "\"settings\": {\"model\": \"base\", \"steps\": 10001}"),
              AT ".settings: \"steps\" is 10001; it should be in 1..10000");
    check_bad(
        SECTION("\"rows\": {\"seed\": \"0-599\"}, \"columns\": {\"prompt\": [\"a\"]}, "
                "\"settings\": {\"model\": \"base\", \"steps\": 10000}"),
        AT
        ".rows[500] x columns[0]: more than 5000000 steps in all; make the study smaller or split "
        "it");
    check_bad(
        SECTION("\"rows\": {\"seed\": \"0-199\"}, \"columns\": [{\"steps\": [1,2,3]}, {\"eta\": "
                "[0,0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09]}, {\"guidance\": [1,2,3,4]}], "
                "\"settings\": {\"model\": \"base\", \"prompt\": \"p\"}"),
        AT
        ": its 200 x 120 pictures are more than the 20000 that a study may have; make it smaller "
        "or split it");
    check_bad(SECTION("\"rows\": {\"seed\": \"0-20000\"}, \"columns\": {\"prompt\": [\"a\"]}"),
              AT ".rows.seed: more than 20000 entries; make the study smaller or split it");
}

static void test_bad_axes(void **state)
{
    (void)state;
#define ROWS(axis) SECTION("\"columns\": {\"prompt\": [\"a\"]}, \"rows\": " axis)
    check_bad(ROWS("[]"), AT ".rows: is empty; give at least one entry");
    check_bad(ROWS("5"),
              AT ".rows: should be a list of labelled settings, or an object such as ...");
    check_bad(ROWS("null"),
              AT ".rows: should be a list of labelled settings, or an object such as ...");
    check_bad(ROWS("{}"), AT ".rows: has 0 keys; ...");
    check_bad(ROWS("{\"seed\": [1], \"steps\": [2]}"), AT ".rows: has 2 keys; ...");
    check_bad(ROWS("{\"label\": \"x\"}"), AT ".rows: should be a list of labelled settings: ...");
    check_bad(ROWS("{\"seeds\": [1]}"),
              AT ".rows.seeds: unknown key \"seeds\"; there are switch and ...");
    check_bad(ROWS("{\"seed\": []}"), AT ".rows.seed: is empty; give at least one value");
    check_bad(ROWS("{\"seed\": 42}"), AT ".rows.seed: should be a list: [...]");
    check_bad(ROWS("{\"seed\": [null]}"), AT ".rows.seed[0]: null is no value");
    check_bad(ROWS("{\"seed\": [1, -1]}"), AT ".rows.seed[1]: \"seed\" is negative; ...");
    check_bad(ROWS("{\"seed\": [1.5]}"), AT ".rows.seed[0]: \"seed\" should be a whole number");
    check_bad(ROWS("{\"seed\": [\"1-3\"]}"), AT ".rows.seed[0]: \"seed\" should be one seed; ...");
    check_bad(ROWS("{\"seed\": \"9-1\"}"), AT ".rows.seed: seeds: \"9-1\" ends before it begins");
    check_bad(ROWS("{\"sigmas\": [\"7,8,0\"]}"),
              AT ".rows.sigmas[0]: sigmas are \"7,8,0\"; give model, karras, ...");
#define BASE_ROWS(axis)                                                                            \
    SECTION("\"settings\": {\"model\": \"base\"}, \"columns\": {\"prompt\": [\"a\"]}, "            \
            "\"rows\": " axis)
#define NO_SIGMAS(name)                                                                            \
    "\"sigmas\" is \"" name "\", but the sampler ddim has no sigmas to choose (only those that "   \
    "likeness samplers says so of); give another \"sampler\", or leave \"sigmas\" out"
    check_bad(BASE_ROWS("{\"sigmas\": [\"model\", \"karras\"]}"),
              AT ".rows[1] x columns[0]: " NO_SIGMAS("karras"));
    check_bad(BASE_ROWS("[{\"sigmas\": [\"beta\"]}, {\"sampler\": [\"euler\", \"ddim\"]}]"),
              AT ".rows[1] x columns[0]: " NO_SIGMAS("beta"));
    check_bad(SECTION("\"settings\": {\"prompt\": \"a\", \"model\": \"base\"}, \"rows\": "
                      "{\"sampler\": [\"euler\", \"ddim\"]}, \"columns\": {\"sigmas\": "
                      "[\"karras\"]}"),
              AT ".rows[1] x columns[0]: " NO_SIGMAS("karras"));
    check_bad(SECTION("\"settings\": {\"model\": \"base\", \"sigmas\": \"karras\"}, " AXES),
              AT ".rows[0] x columns[0]: " NO_SIGMAS("karras"));
#define NONE(key, value, sampler, none)                                                            \
    "\"" key "\" is " value ", but the sampler " sampler " has " none                              \
    " (only those that likeness samplers says so of); give another \"sampler\", or leave \"" key   \
    "\" out"
    check_bad(BASE_ROWS("[{\"sampler\": [\"ddim\", \"euler\"]}, {\"eta\": [0, 0.5]}]"),
              AT ".rows[3] x columns[0]: " NONE("eta", "0.5", "euler", "none"));
    check_bad(
        BASE_ROWS("{\"variance\": [\"fixed_large\"]}"),
        AT ".rows[0] x columns[0]: " NONE("variance", "\"fixed_large\"", "ddim", "none to choose"));
    check_bad(
        SECTION("\"settings\": {\"model\": \"base\", \"sampler\": \"lms\", \"eta\": 1}, " AXES),
        AT ".rows[0] x columns[0]: " NONE("eta", "1", "lms", "none"));
    check_bad(ROWS("{\"sampler\": [\"eular\"]}"), AT
              ".rows.sampler[0]: \"sampler\": there is no sampler \"eular\"; did you mean euler? "
              "There are ddim, ddpm, pndm, euler, euler_a, heun, lms, dpm2, dpm2_a, dpmpp_2m, "
              "dpmpp_2m_sde, dpmpp_sde, unipc, deis, lcm or tcd");
    check_bad(ROWS("{\"variance\": [\"big\"]}"),
              AT ".rows.variance[0]: \"variance\" is \"big\"; ...");
    check_bad(ROWS("{\"spacing\": [1]}"),
              AT ".rows.spacing[0]: \"spacing\" should be a string, not an integer");
    check_bad(ROWS("{\"guidance\": [-1]}"),
              AT ".rows.guidance[0]: \"guidance\" is -1; it should be a number from 0 to 1e+06");
    check_bad(ROWS("{\"eta\": [2]}"),
              AT ".rows.eta[0]: \"eta\" is 2; it should be a number from 0 to 1");
    check_bad(ROWS("{\"width\": [0]}"),
              AT ".rows.width[0]: \"width\" is 0; it should be in 1..16384");
    check_bad(ROWS("{\"deep_cache\": [0]}"),
              AT ".rows.deep_cache[0]: \"deep_cache\" is 0; it should be in 1..10000");
    check_bad(ROWS("{\"deep_cache\": [1, 2.5]}"),
              AT ".rows.deep_cache[1]: \"deep_cache\" should be an integer, not a number");
    check_bad(ROWS("{\"deep_cache\": [2, 2]}"),
              AT ".rows: two entries are labelled \"deep cache 2\"; give each its own label");
    check_bad(ROWS("{\"prompt_syntax\": [\"comfy\"]}"),
              AT ".rows.prompt_syntax[0]: \"prompt_syntax\" is \"comfy\"; it should be plain or "
                 "a1111");
    check_bad(ROWS("{\"rng\": [\"mps\"]}"),
              AT ".rows.rng[0]: \"rng\" is \"mps\"; it should be cpu, cuda or a1111 (also "
                 "called nv or gpu)");
    check_bad(ROWS("{\"rng\": [1]}"),
              AT ".rows.rng[0]: \"rng\" should be a string, not an integer");
    check_bad(SECTION("\"settings\": {\"model\": \"base\", \"prompt_syntax\": \"a1111\"}, "
                      "\"rows\": {\"prompt\": [\"a cat\", \"a <lora:fur:0.8> cat\"]}, "
                      "\"columns\": {\"seed\": [1]}"),
              AT ".rows[1] x columns[0]: \"prompt\" names <lora:fur>; give it to the model ...");
    check_bad(ROWS("{\"prompt\": [7]}"),
              AT ".rows.prompt[0]: \"prompt\" should be a string, not an integer");
    check_bad(ROWS("{\"steps\": [5, 5]}"),
              AT ".rows: two entries are labelled \"5 steps\"; give each its own label");
    check_bad(ROWS("{\"model\": [\"tunde\"]}"),
              AT ".rows.model[0]: \"model\" names \"tunde\", and no model "
                 "has that name; there are base, tuned");
    check_bad(ROWS("[{\"seed\": [1]}, {\"label\": \"x\"}]"),
              AT ".rows[0]: has no \"label\", and others of the list have one");
    check_bad(ROWS("[{\"label\": \"x\"}, 5]"),
              AT ".rows[1]: has no \"label\", and others of the list have one");
    check_bad(ROWS("[{\"label\": 5}]"),
              AT ".rows[0]: \"label\" should be a string, not an integer");
    check_bad(ROWS("[{\"label\": \"\"}]"), AT ".rows[0]: \"label\" is empty");
    check_bad(ROWS("[{\"label\": \"x\", \"sede\": 1}]"),
              AT ".rows[0]: unknown key \"sede\"; there are label, ...");
    check_bad(ROWS("[{\"label\": \"x\"}, {\"label\": \"x\"}]"),
              AT ".rows: two entries are labelled \"x\"; give each its own label");
    check_bad(ROWS("[5]"), AT ".rows[0]: should be an object such as ...");
    check_bad(ROWS("[{\"seed\": [1]}, {\"seed\": [2]}]"),
              AT ".rows[1]: gives \"seed\" twice; put its values into one list");
    check_bad(ROWS("[{\"model\": [\"base\"]}, {\"switch\": {\"from\": \"base\", \"to\": \"tuned\", "
                   "\"at\": [1]}}]"),
              AT
              ".rows[1]: gives \"model, schedule or switch\" twice; put its values into one list");
    check_bad(ROWS("[{\"seed\": \"0-199\"}, {\"steps\": [1,2,3,4,5,6,7,8,9,10,11]}, {\"eta\": "
                   "[0,0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09]}]"),
              AT ".rows[2]: more than 20000 entries; make the study smaller or split it");
}

static void test_bad_schedules(void **state)
{
    (void)state;
    check_bad(ROWS("{\"switch\": [1]}"), AT ".rows.switch: should be an object such as ...");
    check_bad(ROWS("{\"switch\": {\"from\": \"base\", \"to\": \"tuned\"}}"),
              AT ".rows.switch: \"at\" should be a list of steps: [0, 5, 10]");
    check_bad(ROWS("{\"switch\": {\"from\": \"base\", \"to\": \"tuned\", \"at\": [5, -1]}}"),
              AT ".rows.switch: \"at\"[1] should be a whole number from 0 to 10000");
    check_bad(ROWS("{\"switch\": {\"from\": \"base\", \"at\": [5]}}"),
              AT ".rows.switch: \"to\" is missing");
    check_bad(
        ROWS("{\"switch\": {\"from\": \"bse\", \"to\": \"tuned\", \"at\": [5]}}"), AT
        ".rows.switch: \"from\" names \"bse\", and no model has that name; there are base, tuned");
    check_bad(ROWS("{\"switch\": {\"frm\": 1}}"),
              AT ".rows.switch: unknown key \"frm\"; there are from, to, at");
    check_bad(ROWS("{\"switch\": {\"from\": \"base\", \"to\": \"tuned\", \"at\": [5, 51]}}"),
              AT ".rows[1] x columns[0]: the schedule \"base x51, tuned rest\" has more steps than "
                 "the run, ...");
    check_bad(ROWS("{\"schedule\": [\"base x15, tuned x34\"]}"),
              AT ".rows[0] x columns[0]: the schedule "
                 "\"base x15, tuned x34\" has 49 steps and the run has 50; make them add up, or "
                 "end with rest");
    check_bad(ROWS("{\"schedule\": [\"tunde\"]}"),
              AT ".rows[0] x columns[0]: the schedule \"tunde\" names tunde, and no model has that "
                 "name; there "
                 "are base, tuned");
    check_bad(ROWS("{\"schedule\": [\"base x\"]}"),
              AT ".rows[0] x columns[0]: the schedule \"base x\" ...");
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Fails each allocation in turn; what jansson asks for itself does not fail. */
static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    write_plan(
        SECTION("\"settings\": {\"model\": \"base\", \"mask\": \"" SOURCE_DIR
                "/tests/fixtures/image/dot.png\", \"init_image\": \"" SOURCE_DIR
                "/tests/fixtures/image/dot.png\"}, \"rows\": [{\"prompt\": [\"a\", \"b\"]}, "
                "{\"seed\": \"1-3\"}], \"columns\": {\"schedule\": [\"base x5, tuned rest\", "
                "\"base|tuned\"]}"));
    study_plan p, empty = {0};
    bool ok = false;
    long n = 0;
    for (; !ok && n < 1000; n++) {
        error e = {0};
        allocation_fail_at(n);
        ok = study_plan_read(&p, plan_path(), SOURCE_DIR "/examples", &e);
        bool struck = allocation_fail_end();
        if (ok && !struck) break;
        if (ok) { /* something did without */
            study_plan_close(&p);
            ok = false;
            continue;
        }
        if (!struck) fail_msg("without a failure: %s", e.text);
        if (e.code != ERROR_MEMORY && e.code != ERROR_FILE)
            fail_msg("allocation %ld: %s", n, e.text);
        assert_memory_equal(&p, &empty, sizeof p);
    }
    assert_true(ok && n > 10);
    study_plan_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report),     cmocka_unit_test(test_axes),
        cmocka_unit_test(test_parts),      cmocka_unit_test(test_layers),
        cmocka_unit_test(test_passes),     cmocka_unit_test(test_bad_passes),
        cmocka_unit_test(test_training),   cmocka_unit_test(test_bad_top),
        cmocka_unit_test(test_bad_models), cmocka_unit_test(test_bad_sections),
        cmocka_unit_test(test_bad_axes),   cmocka_unit_test(test_bad_schedules),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
