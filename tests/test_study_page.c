/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the page of a study: a small study made up here, with pictures of plain colours, is written;
 * its HTML must be well-formed and whole, show every cell with its words, escape every text, claim no
 * more than the numbers; cells.csv must read back. */
#include "support.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "study/chart.h"
#include "study/html.h"
#include "study/page.h"

enum { MODELS = 3, SECTIONS = 3, PROMPTS = 4, SEEDS = 3, STEPS = 50, SWEEP = 11 };

static const char *const names[MODELS] = {"base", "plain", "prior"};
static const char *const prompts[PROMPTS] = {"a photo of sks dog", "a photo of a dog", "a sailboat at sea",
                                             "it's <b>\"bold\"</b> & more"};

typedef struct study {
    study_plan plan;
    study_measures measures;
    page_source source;
    const char *hashes[MODELS];
    double seconds[MODELS];
    const char *folder;
    int pictures; /* named so far */
} study;

static void *need(study *s, size_t size)
{
    void *p = arena_alloc(&s->plan.memory, size);
    assert_non_null(p);
    return p;
}

static estimate about(double mean, double spread) { return (estimate){mean, spread, SEEDS}; }

/* A picture of one colour under the cell's name. */
static void draw(study *s, const study_cell *c)
{
    image m;
    char *path = string_format("%s/cells/%s.png", s->folder, c->name);
    assert_non_null(path);
    assert_true(image_new(&m, 128, 128, NULL));
    for (int i = 0; i < 128 * 128; i++) {
        m.pixels[3 * i] = (uint8_t)(60 + s->pictures * 37 % 160);
        m.pixels[3 * i + 1] = (uint8_t)(90 + s->pictures * 11 % 120);
        m.pixels[3 * i + 2] = (uint8_t)(200 - s->pictures * 53 % 150);
    }
    assert_true(image_write(&m, path, NULL, 90, NULL));
    image_free(&m);
    free(path);
}

static void set_cell(study *s, study_cell *c, const char *prompt, int seed, const char *schedule, sampler_kind kind,
                     int steps)
{
    *c = (study_cell){.prompt = prompt, .negative = "", .seed = (uint64_t)seed, .guidance = 5, .schedule = schedule,
                      .sampler = {.kind = kind, .steps = steps}};
    assert_true(mix_parse(&c->mix, schedule, names, MODELS, steps, NULL));
    snprintf(c->name, sizeof c->name, "%016x", 0xabc000 + s->pictures++);
}

static study_section *add_section(study *s, const char *id, const char *title, int rows, int columns)
{
    study_section *n = &s->plan.section[s->plan.sections++];
    *n = (study_section){.id = id, .title = title, .about = "", .rows = rows, .columns = columns};
    n->row_label = need(s, (size_t)rows * sizeof *n->row_label);
    n->column_label = need(s, (size_t)columns * sizeof *n->column_label);
    n->cell = need(s, (size_t)(rows * columns) * sizeof *n->cell);
    return n;
}

static void build_sections(study *s)
{
    static const int counts[3] = {200, 50, 10};
    s->plan.section = need(s, SECTIONS * sizeof *s->plan.section);
    study_section *n = add_section(s, "samplers", "DDPM and DDIM at few steps", 6, SEEDS);
    n->about = "The same noise, fewer steps.";
    for (int i = 0; i < 6; i++) {
        n->row_label[i] = arena_format(&s->plan.memory, "%s, %d steps", i < 3 ? "DDPM" : "DDIM", counts[i % 3]);
        for (int k = 0; k < SEEDS; k++) {
            n->column_label[k] = arena_format(&s->plan.memory, "seed %d", 42 + k);
            set_cell(s, &n->cell[i * SEEDS + k], prompts[1], 42 + k, "base", i < 3 ? SAMPLER_DDPM : SAMPLER_DDIM,
                     counts[i % 3]);
        }
    }
    n = add_section(s, "leaks", "What training changes", PROMPTS, MODELS * SEEDS);
    for (int i = 0; i < PROMPTS; i++) {
        n->row_label[i] = prompts[i];
        for (int k = 0; k < MODELS * SEEDS; k++) {
            n->column_label[k] = arena_format(&s->plan.memory, "%s, seed %d", names[k / SEEDS], 42 + k % SEEDS);
            set_cell(s, &n->cell[i * MODELS * SEEDS + k], prompts[i], 42 + k % SEEDS, names[k / SEEDS], SAMPLER_DDIM,
                     STEPS);
        }
    }
    n->cell[0].negative = "blurry, \"dark\"";
    n = add_section(s, "switch", "When identity appears", 2, SWEEP);
    for (int i = 0; i < 2; i++) {
        n->row_label[i] = i ? "plain, then base" : "base, then plain";
        for (int k = 0; k < SWEEP; k++) {
            n->column_label[k] = arena_format(&s->plan.memory, "switch at %d", 5 * k);
            set_cell(s, &n->cell[i * SWEEP + k], prompts[0], 42,
                     arena_format(&s->plan.memory, "%s x%d, %s rest", names[i], 5 * k, names[1 - i]), SAMPLER_DDIM, STEPS);
        }
    }
}

static void build_models(study *s)
{
    s->plan.models = MODELS;
    s->plan.model = need(s, MODELS * sizeof *s->plan.model);
    for (int i = 0; i < MODELS; i++) {
        study_model *m = &s->plan.model[i];
        m->name = names[i];
        m->path = i ? NULL : "pocket";
        train_settings_defaults(&m->train);
        m->train.instance_prompt = prompts[0];
        m->train.class_prompt = prompts[1];
        m->train.max_train_steps = i == 1 ? 200 : 300;
        m->train.learning_rate = 1.5e-4;
        m->train.has_seed = true;
        m->train.train_text_encoder = true;
        m->train.with_prior_preservation = i == 2;
        m->train.num_class_images = 20;
        m->class_steps = 25;
        m->class_guidance = 5;
        s->hashes[i] = "0f3a742a15ff8020cbbc6d1a352aba651a7b2b7a87a30288035f5ae864ba3579";
        s->seconds[i] = i ? 40.0 + i : 0;
    }
    s->plan.model_name = (const char **)names;
}

/* Without prior the word and the class take the subject on; with it only the word. Sailboats do not. */
static void build_measures(study *s)
{
    static const double gain[MODELS][PROMPTS] = {{0}, {.031, .022, .0004, .002}, {.034, .001, -.0003, .0004}};
    study_measures *m = &s->measures;
    m->drift = need(s, 2 * PROMPTS * sizeof *m->drift);
    m->likeness = need(s, 2 * MODELS * PROMPTS * sizeof *m->likeness);
    m->diversity = need(s, MODELS * PROMPTS * sizeof *m->diversity);
    m->calibration = need(s, 2 * sizeof *m->calibration);
    m->switches = need(s, 2 * SWEEP * sizeof *m->switches);
    m->structure = need(s, 6 * sizeof *m->structure);
    for (int t = 1; t < MODELS; t++) {
        m->calibration[m->calibrations++] = (calibration_row){t, {.036, .0015, 5}, {.0011, .0006, 20}};
        for (int i = 0; i < PROMPTS; i++)
            m->drift[m->drifts++] = (drift_row){t, prompts[i], about(80 * gain[t][i] * 30 + 9, 3), about(.5 + gain[t][i], .03),
                                                about(gain[t][i], .0009)};
        for (int of = 0; of < MODELS; of++)
            for (int i = 0; i < PROMPTS; i++)
                m->likeness[m->likenesses++] = (likeness_row){of, t, prompts[i], about(gain[of][i] - .002, .0012)};
    }
    for (int of = 0; of < MODELS; of++)
        for (int i = 0; i < PROMPTS; i++)
            m->diversity[m->diversities++] = (diversity_row){of, prompts[i], about(of == 1 ? 40 : 62 - of, 4)};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < SWEEP; k++) {
            double done = 1 / (1 + exp(-(5 * k - 18) / 5.0));
            m->switches[m->switch_count++] =
                (switch_row){i, 1 - i, 1, prompts[0], 5 * k, STEPS, about(.031 * (i ? done : 1 - done), .0015)};
        }
    for (int i = 0; i < 6; i++) {
        static const int counts[3] = {200, 50, 10};
        static const double kept[6] = {1, .98, .9, 1, .42, .3};
        m->structure[m->structures++] = (structure_row){i < 3 ? SAMPLER_DDIM : SAMPLER_DDPM, prompts[1], counts[i % 3], 200,
                                                        about(kept[i], i % 3 ? .03 : 0)};
    }
    m->cells = s->pictures;
    m->cell_likeness = need(s, (size_t)(m->cells * MODELS) * sizeof(double));
    for (int i = 0; i < m->cells * MODELS; i++) m->cell_likeness[i] = i % MODELS == 1 ? i * 1e-4 : NAN;
}

/* A line an update, as likeness train writes them. */
static void write_losses(study *s, const char *name, int updates, bool prior)
{
    char *folder = string_format("%s/models/%s", s->folder, name), *path = string_format("%s/train.jsonl", folder);
    assert_true(folder && path && path_make_dir(folder, NULL));
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (int i = 1; i <= updates; i++) {
        double noise = .05 * ((i * 7919) % 13) / 13, loss = .05 + .15 * exp(-i / 60.0) + noise;
        fprintf(out, "{\"step\": %d, \"loss\": %.6f, \"instance_loss\": %.6f", i, loss, loss);
        if (prior) fprintf(out, ", \"prior_loss\": %.6f", .09 + noise / 2);
        fputs("}\n", out);
    }
    fclose(out);
    free(folder);
    free(path);
}

static void study_make(study *s, const char *folder)
{
    *s = (study){.folder = folder};
    s->plan.title = "Likeness <pocket>";
    s->plan.about = "What DDPM and DDIM do at few steps, what DreamBooth changes, what leaks & what prior preservation saves.";
    s->plan.measure_timesteps = 6;
    s->plan.measure_noises = 1;
    build_models(s);
    build_sections(s);
    build_measures(s);
    char *cells = string_format("%s/cells", folder);
    assert_true(cells && path_make_dir(cells, NULL));
    free(cells);
    for (int i = 0; i < s->plan.sections; i++)
        for (int k = 0; k < s->plan.section[i].rows * s->plan.section[i].columns; k++)
            draw(s, &s->plan.section[i].cell[k]);
    write_losses(s, "plain", 200, false);
    write_losses(s, "prior", 300, true);
    s->source = (page_source){.plan = &s->plan, .measures = &s->measures, .folder = folder, .model_hash = s->hashes,
                              .device = "cpu avx2, 2 threads", .version = "0.1.0", .steps = 6000, .steps_shared = 1500,
                              .seconds = 251, .peak_mb = 1034, .training_seconds = s->seconds};
}

static void study_free(study *s)
{
    for (int i = 0; i < s->plan.sections; i++)
        for (int k = 0; k < s->plan.section[i].rows * s->plan.section[i].columns; k++)
            mix_close(&s->plan.section[i].cell[k].mix);
    arena_free(&s->plan.memory);
}

static char *read_text(const char *folder, const char *name)
{
    char *path = path_join(folder, name), *text = NULL;
    assert_true(path && file_read(path, 1 << 26, &text, NULL, NULL));
    free(path);
    return text;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}

/* ---- HTML ---------------------------------------------------------------------------------- */

/* Elements that have no end. */
static bool is_void(const char *name)
{
    return !strcmp(name, "meta") || !strcmp(name, "img") || !strcmp(name, "!DOCTYPE") || !strcmp(name, "br");
}

/* Reads a tag at <; its name, whether it closes, whether it ends itself. Attributes must be quoted. */
static const char *read_tag(const char *at, char name[32], bool *closes, bool *empty)
{
    *closes = *++at == '/';
    at += *closes;
    size_t n = strcspn(at, " \n/>");
    assert_in_range(n, 1, 31);
    memcpy(name, at, n);
    name[n] = 0;
    for (at += n; *at && *at != '>'; at++) {
        assert_int_not_equal(*at, '<');
        if (*at != '"') continue;
        const char *end = strchr(at + 1, '"');
        assert_non_null(end);
        assert_null(memchr(at, '<', (size_t)(end - at)));
        at = end;
    }
    assert_int_equal(*at, '>');
    *empty = at[-1] == '/';
    return at + 1;
}

/* Every element is closed by its own tag, in order; every & begins a reference. */
static void check_balanced(const char *text)
{
    char open[64][32], name[32];
    int depth = 0;
    for (const char *at = text; *at;) {
        if (*at == '&') {
            size_t n = strspn(at + 1, "abcdefghijklmnopqrstuvwxyz#0123456789");
            assert_true(n && at[1 + n] == ';');
        }
        if (*at != '<') {
            at++;
            continue;
        }
        bool closes, empty;
        at = read_tag(at, name, &closes, &empty);
        if (closes) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (!empty && !is_void(name)) {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        }
        if (!closes && (!strcmp(name, "style") || !strcmp(name, "script"))) at = strstr(at, "</");
    }
    assert_int_equal(depth, 0);
}

/* No two ids are the same. */
static void check_ids(const char *text)
{
    for (const char *at = text; (at = strstr(at, " id=\"")); at++) {
        size_t n = strcspn(at + 5, "\"") + 6;
        char id[128];
        assert_true(n < sizeof id);
        memcpy(id, at, n);
        id[n] = 0;
        assert_int_equal(count(text, id), 1);
    }
}

static void test_page(void **state)
{
    (void)state;
    study s;
    error e = {0};
    study_make(&s, scratch_dir());
    assert_true(page_write(&s.source, &e));
    char *text = read_text(s.folder, "report.html");
    check_balanced(text);
    check_ids(text);
    assert_int_equal(count(text, "<h1>"), 1);
    assert_int_equal(count(text, "<h1>Likeness &lt;pocket&gt;</h1>"), 1);
    assert_int_equal(count(text, "<img "), s.pictures);
    assert_int_equal(count(text, "alt=\"\xe2\x80\x9c"), s.pictures);
    for (int i = 0; i < s.plan.sections; i++)
        for (int k = 0; k < s.plan.section[i].rows * s.plan.section[i].columns; k++) {
            char link[64];
            snprintf(link, sizeof link, "<a href=\"cells/%s.png\"", s.plan.section[i].cell[k].name);
            assert_int_equal(count(text, link), 1);
        }
    /* nothing from outside, and no text as markup */
    assert_int_equal(count(text, "http"), count(text, "xmlns=\"http://www.w3.org/2000/svg\""));
    assert_int_equal(count(text, "<b>\"bold"), 0);
    assert_true(count(text, "it&#39;s &lt;b&gt;&quot;bold&quot;&lt;/b&gt; &amp; more") > 10);
    assert_int_equal(count(text, "<script"), 1);
    /* the prompt within a shell's single quotes, themselves escaped */
    assert_true(count(text, "-p &#39;it&#39;\\&#39;&#39;s &lt;b&gt;") > 0);
    assert_true(count(text, "likeness generate -m models/plain -p &#39;a photo of sks dog&#39; -s 43 --sampler ddim "
                            "--steps 50 --guidance 5 -o ") > 0);
    assert_true(count(text, "likeness generate -m base=pocket -m plain=models/plain --schedule &#39;base x15, plain rest&#39; -p") > 0);
    assert_true(count(text, "likeness generate -p &#39;a photo of a dog&#39; -s 42 --sampler ddpm --steps 200") > 0);
    assert_true(count(text, "-n &#39;blurry, &quot;dark&quot;&#39;") > 0);
    /* a row of the models' table shows the first digits of a hash */
    assert_int_equal(count(text, "<code>0f3a742a15ff8020</code>"), MODELS);
    /* charts: losses, likeness and switches by prompt, leakage, drift twice, structure, diversity */
    assert_int_equal(count(text, "role=\"img\""), 2 + 2 + 1 + 1 + 2 + 1 + 1);
    free(text);
    study_free(&s);
}

/* Sentences claim what exceeds two standard errors, and say where there is nothing to claim. */
static void test_findings(void **state)
{
    (void)state;
    study s;
    study_make(&s, scratch_dir());
    assert_true(page_write(&s.source, NULL));
    char *text = read_text(s.folder, "report.html");
    assert_non_null(strstr(text, "Of 3 prompts that do not name the subject, 2 took on likeness to it in plain: <q>a photo of a dog</q> "
                                 "+0.0220 \xc2\xb1 0.0009"));
    assert_non_null(strstr(text, "Of 3 prompts that do not name the subject, 0 took on likeness to it in prior. No measurable "
                                 "difference: <q>a photo of a dog</q>"));
    assert_non_null(strstr(text, "half-way between switches at 15 and 20"));
    assert_non_null(strstr(text, "DDIM keeps more."));
    assert_non_null(strstr(text, "<b>Prior preservation.</b> Measured by plain, of 3"));
    free(text);
    /* the same means with errors that hide all of it */
    for (int i = 0; i < s.measures.drifts; i++) s.measures.drift[i].leakage.error = .05;
    for (int i = 0; i < s.measures.switch_count; i++) s.measures.switches[i].likeness.error = .05;
    for (int i = 0; i < s.measures.structures; i++) s.measures.structure[i].correlation.error = .9;
    assert_true(page_write(&s.source, NULL));
    text = read_text(s.folder, "report.html");
    assert_null(strstr(text, "keeps more"));
    assert_null(strstr(text, "half-way"));
    assert_int_equal(count(text, ", 0 took on likeness"), 2);
    free(text);
    study_free(&s);
}

/* The same study gives the same bytes; a picture that is not there has its place, and the reason. */
static void test_missing(void **state)
{
    (void)state;
    study s;
    study_make(&s, scratch_dir());
    assert_true(page_write(&s.source, NULL));
    char *first = read_text(s.folder, "report.html");
    assert_true(page_write(&s.source, NULL));
    char *again = read_text(s.folder, "report.html");
    assert_string_equal(first, again);
    free(again);
    char *path = string_format("%s/cells/%s.png", s.folder, s.plan.section[0].cell[1].name);
    assert_non_null(path);
    assert_int_equal(unlink(path), 0);
    free(path);
    s.plan.section[0].cell[1].why = "steps <2>";
    assert_true(page_write(&s.source, NULL));
    again = read_text(s.folder, "report.html");
    check_balanced(again);
    assert_int_equal(count(again, "<img "), s.pictures - 1);
    assert_int_equal(count(again, "Not made: steps &lt;2&gt;"), 1);
    assert_non_null(strstr(again, "<strong>1 could not be made</strong>"));
    free(again);
    free(first);
    study_free(&s);
}

/* A study of one model, with nothing measured. */
static void test_bare(void **state)
{
    (void)state;
    study s;
    study_make(&s, scratch_dir());
    s.plan.models = 1;
    s.plan.sections = 1;
    study_measures none = {0};
    s.source.measures = &none;
    assert_true(page_write(&s.source, NULL));
    assert_true(page_write_cells(&s.source, NULL));
    char *text = read_text(s.folder, "report.html");
    check_balanced(text);
    assert_null(strstr(text, "Findings"));
    assert_null(strstr(text, "id=\"training\""));
    assert_null(strstr(text, "id=\"measures\""));
    free(text);
    s.plan.sections = SECTIONS;
    study_free(&s);
}

static void test_csv(void **state)
{
    (void)state;
    study s;
    study_make(&s, scratch_dir());
    assert_true(page_write_cells(&s.source, NULL));
    char *text = read_text(s.folder, "cells.csv");
    assert_int_equal(count(text, "\r\n"), s.pictures + 1);
    assert_non_null(strstr(text, "section,row,column,prompt,negative,seed,sampler,steps,guidance,schedule,file,"
                                 "likeness_plain,likeness_prior\r\n"));
    assert_non_null(strstr(text, "samplers,\"DDPM, 200 steps\",seed 42,a photo of a dog,,42,ddpm,200,5,base,"
                                 "cells/0000000000abc000.png,0.0001,\r\n"));
    assert_non_null(strstr(text, "\"blurry, \"\"dark\"\"\""));
    assert_non_null(strstr(text, "\"it's <b>\"\"bold\"\"</b> & more\""));
    free(text);
    study_free(&s);
}

static void test_numbers(void **state)
{
    (void)state;
    assert_string_equal(number_estimate(.031234, .0021).text, "0.0312 \xc2\xb1 0.0021");
    assert_string_equal(number_estimate(-45.13, 12.7).text, "\xe2\x88\x92" "45 \xc2\xb1 13");
    assert_string_equal(number_estimate(83.4, 3.04).text, "83 \xc2\xb1 3");
    assert_string_equal(number_estimate(.5, 0).text, "0.500");
    assert_string_equal(number_signed(.5, .1).text, "+0.50 \xc2\xb1 0.10");
    assert_string_equal(number_fixed(-.0001, 2).text, "0.00");
    assert_string_equal(number_plain(0).text, "0");
    assert_string_equal(number_count(1234567).text, "1,234,567");
    assert_string_equal(number_count(999).text, "999");
    assert_true(is_measurable(-.3, .1));
    assert_false(is_measurable(.2, .1));
    assert_false(is_measurable(.2, 0));
}

/* Each allocation in turn fails: an error, no leak, and the old page as it was. */
static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    study s;
    study_make(&s, scratch_dir());
    for (long n = 0;; n += n < 40 ? 1 : 97) {
        error e = {0};
        allocation_fail_at(n);
        bool ok = page_write(&s.source, &e);
        if (!allocation_fail_end()) {
            assert_true(ok);
            break;
        }
    }
    study_free(&s);
}

/* A chart with one point, with none that is a number, and with equal values. */
static void test_odd_charts(void **state)
{
    (void)state;
    static const chart_point one[1] = {{0, .5, 0}}, none[1] = {{3, NAN, 0}}, equal[2] = {{1, 2, 0}, {2, 2, 0}};
    const chart_series series[3] = {{"one", one, 1, 0, false, false}, {"none", none, 1, 1, false, false},
                                    {"equal", equal, 2, 8, false, false}};
    for (int i = 0; i < 3; i++) {
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        chart c = {.id = "c", .title = "a < b", .about = "", .x_name = "x", .y_name = "y", .log_x = true,
                   .series = &series[i], .count = 1};
        chart_write(out, &c);
        fclose(out);
        check_balanced(text);
        assert_null(strstr(text, "nan"));
        assert_null(strstr(text, "inf"));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page),    cmocka_unit_test(test_findings), cmocka_unit_test(test_missing),
        cmocka_unit_test(test_bare),    cmocka_unit_test(test_csv),      cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_odd_charts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
