/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the page of a study: a small study made up here, with pictures of plain colours, is
 * written; its HTML must be well-formed and whole, show every cell with its words, escape every
 * text, claim no more than the numbers; cells.csv must read back. */
#include "support.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "file/image.h"
#include "study/page/chart.h"
#include "study/page/html.h"
#include "study/page/page.h"
#include "study/claims/roles.h"
#include "study/claims/statements.h"

enum { MODELS = 3, SECTIONS = 4, PROMPTS = 6, SEEDS = 3, STEPS = 50, SWEEP = 11 };

static const char *const names[MODELS] = {"base", "plain", "prior"};
static const char *const prompts[PROMPTS] = {"a photo of sks dog", "a photo of a dog",
                                             "a dog on the beach", "a photo of a cat",
                                             "a sailboat at sea",  "it's <b>\"bold\"</b> & more"};

typedef struct study {
    study_plan plan;
    study_measures measures;
    page_source source;
    subject_images shown[1];
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

/* A mean whose interval is so wide to each side. */
static estimate about(double mean, double half)
{
    return (estimate){mean, mean - half, mean + half, SEEDS};
}

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

static void set_cell(study *s, study_cell *c, const char *prompt, int seed, const char *schedule,
                     lk_sampler kind, int steps)
{
    *c = (study_cell){.prompt = prompt,
                      .negative = "",
                      .seed = (uint64_t)seed,
                      .guidance = 5,
                      .schedule = schedule,
                      .sampler = kind,
                      .steps = steps};
    assert_true(lk_schedule_open(&c->mix, schedule, names, MODELS, steps, NULL));
    snprintf(c->name, sizeof c->name, "%016x", 0xabc000 + s->pictures++);
}

static study_section *add_section(study *s, const char *id, const char *title, int rows,
                                  int columns)
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
        n->row_label[i] = arena_format(&s->plan.memory, "%s, %d steps", i < 3 ? "DDPM" : "DDIM",
                                       counts[i % 3]);
        for (int k = 0; k < SEEDS; k++) {
            n->column_label[k] = arena_format(&s->plan.memory, "seed %d", 42 + k);
            set_cell(s, &n->cell[i * SEEDS + k], prompts[1], 42 + k, "base",
                     i < 3 ? LK_DDPM : LK_DDIM, counts[i % 3]);
        }
    }
    n = add_section(s, "leaks", "What training changes", PROMPTS, MODELS * SEEDS);
    n->column_levels = 2;
    n->column_part = need(s, 2 * (size_t)n->columns * sizeof *n->column_part);
    for (int i = 0; i < PROMPTS; i++) {
        n->row_label[i] = prompts[i];
        for (int k = 0; k < MODELS * SEEDS; k++) {
            n->column_label[k] = arena_format(&s->plan.memory, "%s, seed %d", names[k / SEEDS],
                                              42 + k % SEEDS);
            n->column_part[k] = names[k / SEEDS];
            n->column_part[n->columns + k] = arena_format(&s->plan.memory, "seed %d",
                                                          42 + k % SEEDS);
            set_cell(s, &n->cell[i * MODELS * SEEDS + k], prompts[i], 42 + k % SEEDS,
                     names[k / SEEDS], LK_DDIM, STEPS);
        }
    }
    n->cell[0].negative = "blurry, \"dark\"";
    for (int way = 0; way < 2; way++) {
        n = add_section(s, way ? "back" : "forth", way ? "plain first" : "base first", 1, SWEEP);
        n->row_label[0] = "seed 42";
        for (int k = 0; k < SWEEP; k++) {
            n->column_label[k] = arena_format(&s->plan.memory, "after %d", 5 * k);
            set_cell(
                s, &n->cell[k], prompts[0], 42,
                arena_format(&s->plan.memory, "%s x%d, %s rest", names[way], 5 * k, names[1 - way]),
                LK_DDIM, STEPS);
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
        lk_train_defaults(&m->train);
        m->train.instance_prompt = prompts[0];
        m->train.class_prompt = prompts[1];
        m->train.max_train_steps = i == 1 ? 200 : 300;
        m->train.learning_rate = 1.5e-4;
        m->train.train_text_encoder = true;
        m->train.with_prior_preservation = i == 2;
        m->train.num_class_images = 20;
        m->train.class_steps = 25;
        m->train.class_guidance = 5;
        s->hashes[i] = "0f3a742a15ff8020cbbc6d1a352aba651a7b2b7a87a30288035f5ae864ba3579";
        s->seconds[i] = i ? 40.0 + i : 0;
    }
    s->plan.model_name = (const char **)names;
}

/* Shares of the subject: without prior its name, the class and its scene take the subject on, cats
 * a little; with it its name and the scene. Sailboats never. */
static const double shares[MODELS][PROMPTS] = {
    {2, 1, -3, -20, -40, -30}, {88, 80, 70, -4, -39, -30}, {84, 3, 34, -19, -41, -30}};
static const double drifts[MODELS][PROMPTS] = {
    {0}, {95, 92, 80, 60, 15, 40}, {90, 22, 70, 30, 12, 35}};

static void build_pairs(study *s)
{
    study_measures *m = &s->measures;
    for (int i = 0; i < PROMPTS; i++) {
        for (int t = 1; t < MODELS; t++) {
            m->change[m->changes++] = (change_row){0,
                                                   t,
                                                   prompts[i],
                                                   about(shares[t][i] - shares[0][i], 6),
                                                   about(50, 5),
                                                   about(drifts[t][i], 8)};
            m->diversity[m->diversities++] = (diversity_row){t, prompts[i], about(40, 4),
                                                             about(i == 2   ? 90
                                                                   : t == 1 ? 30
                                                                            : 80,
                                                                   10)};
        }
        for (int t = 0; t < MODELS; t++)
            m->likeness[m->likenesses++] = (likeness_row){0, t, prompts[i], about(shares[t][i], 5)};
        m->contrast[m->contrasts++] = (contrast_row){0,
                                                     1,
                                                     2,
                                                     prompts[i],
                                                     about(shares[2][i] - shares[1][i], 6),
                                                     about(drifts[2][i] - drifts[1][i], 9)};
        for (int t = 0; t < MODELS && i; t++)
            m->wording[m->wordings++] = (wording_row){0, t, prompts[i],
                                                      about(shares[t][0] - shares[t][i], 7),
                                                      about(i == 1 && t < 2 ? 30 : 105, 20)};
    }
}

static void build_runs(study *s)
{
    study_measures *m = &s->measures;
    for (int way = 0; way < 2; way++)
        for (int k = 0; k < SWEEP; k++) {
            double done = 1 / (1 + exp(-(5 * k - 18) / 5.0)), kept = 100 * k / 10.0;
            double share = way ? 88 * (.3 + .7 * done) : 2 + 86 * (1 - done);
            m->switches[m->switch_count++] = (switch_row){0,
                                                          way,
                                                          1 - way,
                                                          prompts[0],
                                                          5 * k,
                                                          STEPS,
                                                          about(share, 5),
                                                          about(share - 88, 4),
                                                          about(kept, 4)};
        }
    for (int i = 0; i < 6; i++) {
        static const int counts[3] = {200, 50, 10};
        static const double kept[6] = {100, 97, 88, 100, 42, 30},
                            detail[6] = {100, 98, 95, 100, 70, 40};
        m->structure[m->structures++] = (structure_row){i < 3 ? LK_DDIM : LK_DDPM,
                                                        prompts[1],
                                                        counts[i % 3],
                                                        200,
                                                        about(kept[i] / 100, .03),
                                                        about(.1, .02),
                                                        about(kept[i], i % 3 ? 5 : 0),
                                                        about(detail[i], i % 3 ? 6 : 0)};
        if (i < 3) m->crossing[m->crossings++] = (crossing_row){prompts[1], counts[i], about(6, 9)};
    }
    m->repeated = m->same_again = true;
}

static void build_measures(study *s)
{
    static const int trained[2] = {1, 2};
    study_measures *m = &s->measures;
    m->subject = need(s, sizeof *m->subject);
    m->change = need(s, 2 * PROMPTS * sizeof *m->change);
    m->contrast = need(s, PROMPTS * sizeof *m->contrast);
    m->wording = need(s, MODELS * PROMPTS * sizeof *m->wording);
    m->likeness = need(s, MODELS * PROMPTS * sizeof *m->likeness);
    m->diversity = need(s, MODELS * PROMPTS * sizeof *m->diversity);
    m->switches = need(s, 2 * SWEEP * sizeof *m->switches);
    m->structure = need(s, 6 * sizeof *m->structure);
    m->crossing = need(s, 3 * sizeof *m->crossing);
    m->subject[m->subjects++] = (subject_row){.base = 0,
                                              .model = trained,
                                              .models = 2,
                                              .instance_prompt = prompts[0],
                                              .class_prompt = prompts[1],
                                              .photos = 5,
                                              .class_images = 20,
                                              .raw_subject = about(.21, .02),
                                              .raw_class = about(-.08, .03),
                                              .subject = about(100, 8),
                                              .of_class = about(0, 5),
                                              .tells_apart = true};
    build_pairs(s);
    build_runs(s);
    m->cells = s->pictures;
    m->cell_share = need(s, (size_t)m->cells * sizeof(double));
    for (int i = 0; i < m->cells; i++) m->cell_share[i] = i % 2 ? i : NAN;
}

/* A line a step, as likeness train writes them. */
static void write_losses(study *s, const char *name, int steps, bool prior)
{
    char *folder = string_format("%s/models/%s", s->folder, name),
         *path = string_format("%s/train.jsonl", folder);
    assert_true(folder && path && path_make_dir(folder, NULL));
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (int i = 1; i <= steps; i++) {
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
    *s = (study){.folder = folder, .shown = {{5, 4}}};
    s->plan.title = "Likeness <pocket>";
    s->plan.about = "What DDPM and DDIM do at few steps, what DreamBooth changes, what leaks & "
                    "what prior preservation saves.";
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
    s->source = (page_source){.plan = &s->plan,
                              .measures = &s->measures,
                              .folder = folder,
                              .model_hash = s->hashes,
                              .device = "cpu avx2, 2 threads",
                              .precision = LK_F32,
                              .pictures = s->shown,
                              .version = "0.1.0",
                              .steps = 6000,
                              .steps_shared = 1500,
                              .seconds = 251,
                              .peak_mb = 1034,
                              .training_seconds = s->seconds};
}

static void study_free(study *s)
{
    for (int i = 0; i < s->plan.sections; i++)
        for (int k = 0; k < s->plan.section[i].rows * s->plan.section[i].columns; k++)
            lk_schedule_close(&s->plan.section[i].cell[k].mix);
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
    return !strcmp(name, "meta") || !strcmp(name, "img") || !strcmp(name, "!DOCTYPE") ||
           !strcmp(name, "br") || !strcmp(name, "col");
}

/* Reads a tag at <; its name, whether it closes, whether it ends itself. Attributes must be quoted.
 */
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
    assert_int_equal(count(text, "<img "), s.pictures + 5 + 4);
    assert_int_equal(count(text, "alt=\"\xe2\x80\x9c"), s.pictures);
    assert_int_equal(count(text, "alt=\"the subject, picture 5 of 5\""), 1);
    assert_int_equal(count(text, "src=\"subject/1-class-04.png\""), 1);
    for (int i = 0; i < s.plan.sections; i++)
        for (int k = 0; k < s.plan.section[i].rows * s.plan.section[i].columns; k++) {
            char link[64];
            snprintf(link, sizeof link, "<a href=\"cells/%s.png\"", s.plan.section[i].cell[k].name);
            assert_int_equal(count(text, link), 1);
        }
    /* two levels of column heads: each model once, over its seeds */
    assert_int_equal(count(text, "<th scope=\"colgroup\" class=\"outer\" colspan=\"3\">"), MODELS);
    assert_int_equal(count(text, "<th scope=\"colgroup\" class=\"outer\" colspan=\"3\">plain</th>"),
                     1);
    assert_int_equal(count(text, "<th scope=\"col\">seed 43</th>"), 1 + MODELS);
    assert_int_equal(count(text, "plain, seed 43"), 2 * PROMPTS); /* alt texts, lists of commands */
    /* nothing from outside, and no text as markup */
    assert_int_equal(count(text, "http"), count(text, "xmlns=\"http://www.w3.org/2000/svg\""));
    assert_int_equal(count(text, "<b>\"bold"), 0);
    assert_true(count(text, "it&#39;s &lt;b&gt;&quot;bold&quot;&lt;/b&gt; &amp; more") > 10);
    assert_int_equal(count(text, "<script"), 1);
    /* the prompt within a shell's single quotes, themselves escaped */
    assert_true(count(text, "-p &#39;it&#39;\\&#39;&#39;s &lt;b&gt;") > 0);
    assert_true(count(text, "likeness generate -m models/plain -p &#39;a photo of sks dog&#39; -s "
                            "43 --sampler ddim "
                            "--steps 50 --guidance 5 -o ") > 0);
    assert_true(count(text, "likeness generate -m base=pocket -m plain=models/plain --schedule "
                            "&#39;base x15, plain rest&#39; -p") > 0);
    assert_true(
        count(text,
              "likeness generate -p &#39;a photo of a dog&#39; -s 42 --sampler ddpm --steps 200") >
        0);
    assert_true(count(text, "-n &#39;blurry, &quot;dark&quot;&#39;") > 0);
    /* a row of the models' table shows the first digits of a hash */
    assert_int_equal(count(text, "<code>0f3a742a15ff8020</code>"), MODELS);
    /* charts: losses; structure and detail; share, drift, diversity; two sweeps */
    assert_int_equal(count(text, "role=\"img\""), 2 + 2 + 3 + 2);
    free(text);
    study_free(&s);
}

/* ---- statements ------------------------------------------------------------------------------ */

/* The one statement whose claim is this. */
static const statement *find_claim(const statements *all, const char *claim)
{
    const statement *found = NULL;
    for (int i = 0; i < all->count; i++) {
        if (strcmp(all->list[i].claim, claim) != 0) continue;
        assert_null(found);
        found = &all->list[i];
    }
    return found;
}

static void check_claim(const statements *all, const char *claim, verdict v, const char *part,
                        int section)
{
    const statement *s = find_claim(all, claim);
    if (!s) fail_msg("no such claim: %s", claim);
    if (!strstr(s->answer, part)) fail_msg("%s: %s", claim, s->answer);
    if (s->verdict != v) fail_msg("%s: verdict %d: %s", claim, (int)s->verdict, s->answer);
    assert_int_equal(s->section, section);
}

static void make_statements(study *s, statements *out)
{
    assert_true(statements_make(out, &s->plan.memory, &s->plan, &s->measures));
}

#define SKS "<q>a photo of sks dog</q>"
#define DOG "<q>a photo of a dog</q>"
#define PC "\xc2\xa0%"

static void test_statements(void **state)
{
    (void)state;
    study s;
    statements all;
    study_make(&s, scratch_dir());
    make_statements(&s, &all);
    check_claim(&all, "DDPM is detailed at 200 steps and blurred at 10.", VERDICT_SHOWN,
                "40" PC " (34 to 46)", 0);
    check_claim(&all, "DDIM at 10 steps keeps the structure of 200.", VERDICT_SHOWN,
                "DDPM keeps 30" PC " (25 to 35): DDIM keeps more.", 0);
    check_claim(&all, "DDPM&rsquo;s noise leads elsewhere, even from equal noise.", VERDICT_SHOWN,
                "6" PC " (\xe2\x88\x92"
                "3 to 15)",
                0);
    check_claim(&all, "DDIM is deterministic.", VERDICT_SHOWN, "every pixel is the same", 0);
    check_claim(&all, "To <i>base</i>, " SKS " means " DOG ".", VERDICT_SHOWN,
                "30" PC " (10 to 50) under " DOG, 1);
    check_claim(&all, "<i>plain</i> has learnt the subject.", VERDICT_SHOWN,
                "+86 points (80 to 92)", 1);
    check_claim(&all, "To <i>plain</i>, " DOG " is nearly " SKS ".", VERDICT_SHOWN,
                "+8 points (1 to 15)", 1);
    check_claim(&all, "<i>prior</i> keeps " DOG " apart from " SKS ".", VERDICT_SHOWN,
                "+81 points (74 to 88)", 1);
    check_claim(
        &all, "In <i>plain</i> other things take on marks of the subject.", VERDICT_SHOWN,
        "more under <q>a photo of a cat</q> +16 points (10 to 22); no measurable difference under "
        "<q>a sailboat at sea</q>",
        1);
    check_claim(&all, "In <i>prior</i> some of the subject remains under prompts for the class.",
                VERDICT_SHOWN,
                "more under <q>a dog on the beach</q> +37 points (31 to 43); no measurable "
                "difference under " DOG,
                1);
    check_claim(&all, "In <i>prior</i> some of the subject remains under prompts for other things.",
                VERDICT_NOT_SHOWN, "no measurable difference under", 1);
    check_claim(&all, "Prior preservation by " DOG " carries over to other prompts for the class.",
                VERDICT_NOT_SHOWN, "It does not to 1 of 1: <q>a dog on the beach</q> +37", 1);
    check_claim(&all, "In <i>plain</i> some other things hardly change.", VERDICT_SHOWN,
                "Least: <q>a sailboat at sea</q>.", 1);
    check_claim(&all, "In <i>plain</i> scenes with the class stay diverse.", VERDICT_SHOWN,
                "90" PC " (80 to 100)", 1);
    check_claim(&all, "With prior preservation less of the subject leaks.", VERDICT_SHOWN,
                "less under " DOG " \xe2\x88\x92"
                "77 points",
                1);
    check_claim(&all, "With prior preservation other pictures stay nearer to <i>base</i>&rsquo;s.",
                VERDICT_SHOWN,
                "<q>a sailboat at sea</q> \xe2\x88\x92"
                "3 points",
                1);
    check_claim(&all,
                "With <i>base</i> first, a switch after 5 brings the subject, and one after 45 "
                "hardly changes the picture.",
                VERDICT_SHOWN, "half-way between switches after 15 and 20", 2);
    check_claim(&all,
                "With <i>plain</i> first the subject is decided in the first half of the steps.",
                VERDICT_SHOWN,
                "from a switch after 15 on; there the loss, from equal noise, is \xe2\x88\x92"
                "40 points (\xe2\x88\x92"
                "44 to "
                "\xe2\x88\x92"
                "36). More than half of that is lost with a switch after 10 or earlier.",
                3);
    assert_non_null(find_claim(&all, "A switch after 20 is the best compromise."));
    study_free(&s);
}

/* The same means with intervals that hide all of it: nothing is shown, and nothing named. */
static void test_wide_intervals(void **state)
{
    (void)state;
    study s;
    statements all;
    study_make(&s, scratch_dir());
    study_measures *m = &s.measures;
    for (int i = 0; i < m->changes; i++)
        m->change[i].share = m->change[i].drift = about(m->change[i].share.mean, 300);
    for (int i = 0; i < m->contrasts; i++)
        m->contrast[i].share = m->contrast[i].drift = about(m->contrast[i].share.mean, 300);
    for (int i = 0; i < m->wordings; i++)
        m->wording[i].share = m->wording[i].distance = about(m->wording[i].share.mean, 300);
    for (int i = 0; i < m->switch_count; i++)
        m->switches[i].share = m->switches[i].kept = m->switches[i].lost = about(
            m->switches[i].share.mean, 300);
    for (int i = 0; i < m->structures; i++)
        m->structure[i].kept = m->structure[i].detail = about(m->structure[i].kept.mean, 300);
    for (int i = 0; i < m->crossings; i++) m->crossing[i].kept = about(300, 280);
    for (int i = 0; i < m->diversities; i++) m->diversity[i].of_base = about(90, 300);
    make_statements(&s, &all);
    for (int i = 0; i < all.count; i++) {
        const statement *one = &all.list[i];
        if (!strcmp(one->claim, "DDIM is deterministic.")) continue;
        if (one->verdict == VERDICT_SHOWN) fail_msg("%s %s", one->claim, one->answer);
        assert_null(strstr(one->answer, "keeps more"));
        assert_null(strstr(one->answer, "half-way"));
        assert_null(strstr(one->answer, "Least:"));
    }
    assert_non_null(strstr(find_claim(&all, "<i>plain</i> has learnt the subject.")->answer,
                           "no measurable difference"));
    study_free(&s);
}

/* One seed has no interval: not measurable, whatever the means. */
static void test_one_seed(void **state)
{
    (void)state;
    study s;
    statements all;
    study_make(&s, scratch_dir());
    study_measures *m = &s.measures;
    const estimate one = {60, NAN, NAN, 1}, none = {0, NAN, NAN, 0};
    for (int i = 0; i < m->changes; i++) m->change[i].share = m->change[i].drift = one;
    for (int i = 0; i < m->likenesses; i++) m->likeness[i].share = one;
    for (int i = 0; i < m->contrasts; i++) m->contrast[i].share = m->contrast[i].drift = one;
    for (int i = 0; i < m->wordings; i++) m->wording[i].share = m->wording[i].distance = one;
    for (int i = 0; i < m->switch_count; i++)
        m->switches[i].share = m->switches[i].kept = m->switches[i].lost = one;
    for (int i = 0; i < m->structures; i++) m->structure[i].kept = m->structure[i].detail = one;
    for (int i = 0; i < m->crossings; i++) m->crossing[i].kept = one;
    for (int i = 0; i < m->diversities; i++) m->diversity[i].of_base = none;
    m->repeated = false;
    make_statements(&s, &all);
    assert_true(all.count > 10);
    for (int i = 0; i < all.count; i++)
        assert_int_equal(all.list[i].verdict, VERDICT_NOT_MEASURABLE);
    assert_null(find_claim(&all, "DDIM is deterministic."));
    assert_null(find_claim(&all, "In <i>plain</i> scenes with the class stay diverse."));
    assert_true(page_write(&s.source, NULL));
    char *text = read_text(s.folder, "report.html");
    check_balanced(text);
    assert_null(strstr(text, "nan"));
    free(text);
    study_free(&s);
}

/* Without pictures of the class there is no scale: what needs shares says so. */
static void test_no_scale(void **state)
{
    (void)state;
    study s;
    statements all;
    study_make(&s, scratch_dir());
    s.measures.subject[0].tells_apart = false;
    s.measures.subject[0].class_images = 0;
    make_statements(&s, &all);
    check_claim(&all, "<i>plain</i> has learnt the subject.", VERDICT_NOT_MEASURABLE,
                "no pictures of the class", 1);
    assert_null(find_claim(&all, "A switch after 20 is the best compromise."));
    s.measures.subject[0].class_prompt = NULL;
    make_statements(&s, &all);
    check_claim(&all, "In <i>plain</i> other prompts take on marks of the subject.",
                VERDICT_NOT_MEASURABLE, "no pictures of the class", 1);
    assert_true(page_write(&s.source, NULL));
    char *text = read_text(s.folder, "report.html");
    check_balanced(text);
    free(text);
    study_free(&s);
}

/* A section that is measured but not shown is neither drawn nor linked; its pictures are in the
 * table. */
static void test_hidden(void **state)
{
    (void)state;
    study s;
    statements all;
    study_make(&s, scratch_dir());
    s.plan.section[0].hidden = true;
    make_statements(&s, &all);
    check_claim(&all, "DDIM is deterministic.", VERDICT_SHOWN, "every pixel", -1);
    assert_true(page_write(&s.source, NULL) && page_write_cells(&s.source, NULL));
    char *text = read_text(s.folder, "report.html"), *table = read_text(s.folder, "cells.csv");
    check_balanced(text);
    assert_null(strstr(text, "part-samplers"));
    assert_non_null(strstr(text, "DDIM is deterministic."));
    assert_non_null(strstr(text, "18 of them measured and not shown"));
    assert_int_equal(count(table, "\r\n"), s.pictures + 1);
    free(text);
    free(table);
    study_free(&s);
}

/* The subject's pictures are copied as the training crops them; folders that are gone leave none.
 */
static void test_subject_images(void **state)
{
    (void)state;
    study s;
    error e = {0};
    study_make(&s, scratch_dir());
    const char *classes[MODELS] = {NULL, NULL, SOURCE_DIR "/examples/subject"};
    measure_source from = {.plan = &s.plan, .class_folder = classes, .folder = s.folder};
    lk_train_options *t = &s.plan.model[1].train;
    t->instance_data_dir = SOURCE_DIR "/examples/subject";
    t->resolution = 48;
    subject_images made[1];
    assert_true(subject_images_write(made, &from, &s.measures, &e));
    assert_int_equal(made[0].photos, 5);
    assert_int_equal(made[0].classes, 5);
    image m;
    char *path = string_format("%s/subject/1-class-05.png", s.folder);
    assert_true(path && image_read(&m, NULL, path, &e));
    assert_true(m.width == 48 && m.height == 48);
    image_free(&m);
    free(path);
    t->instance_data_dir = "/no/such/folder";
    classes[2] = NULL;
    assert_true(subject_images_write(made, &from, &s.measures, &e));
    assert_true(made[0].photos == 0 && made[0].classes == 0);
    s.source.pictures = made;
    assert_true(page_write(&s.source, &e));
    char *text = read_text(s.folder, "report.html");
    check_balanced(text);
    assert_null(strstr(text, "class=\"subject\""));
    free(text);
    study_free(&s);
}

static void test_roles(void **state)
{
    (void)state;
    static const struct {
        const char *instance, *of_class, *prompt;
        prompt_role role;
    } wanted[] = {
        {"a photo of sks dog", "a photo of dog", "a photo of sks dog", ROLE_SUBJECT},
        {"a photo of sks dog", "a photo of dog", "Sks dog, on the beach", ROLE_SUBJECT},
        {"a photo of sks dog", "a photo of dog", "a photo of a dog", ROLE_CLASS},
        {"a photo of sks dog", "a photo of dog", "dog", ROLE_CLASS},
        {"a photo of sks dog", "a photo of dog", "a photo of a dog in the park", ROLE_SCENE},
        {"a photo of sks dog", "a photo of dog", "a dog running on the beach", ROLE_SCENE},
        {"a photo of sks dog", "a photo of dog", "a photo of a hotdog", ROLE_OTHER},
        {"a photo of sks dog", "a photo of dog", "a photo of a cat", ROLE_OTHER},
        {"a photo of sks dog", "a dog", "a photo of a cat", ROLE_OTHER},
        {"a photo of sks dog", "a dog", "a photo of a dog", ROLE_SCENE},
        {"a photo of sks teddy bear", "a photo of a teddy bear", "a bear", ROLE_OTHER},
        {"a photo of sks teddy bear", "a photo of a teddy bear", "a teddy bear", ROLE_CLASS},
        {"a dog named zwx", "a dog", "zwx at sea", ROLE_SUBJECT},
        {"a dog named zwx", "a dog", "a dog", ROLE_CLASS},
        {"zwx", "a dog", "a dog in the park", ROLE_SCENE},
        {"a photo of sks dog", NULL, "a photo of a dog", ROLE_OTHER},
        {"a photo of sks dog", NULL, "a photo of sks dog", ROLE_SUBJECT},
        {"a photo of sks dog", "", "a photo of a dog", ROLE_OTHER},
        {"a photo of sks dog", "a photo of dog", "", ROLE_OTHER},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (prompt_role_of(wanted[i].prompt, wanted[i].instance, wanted[i].of_class) !=
            wanted[i].role)
            fail_msg("%s: %d", wanted[i].prompt, (int)i);
}

/* The same study gives the same bytes; a picture that is not there has its place, and the reason.
 */
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
    assert_int_equal(count(again, "<img "), s.pictures + 5 + 4 - 1);
    assert_int_equal(count(again, "Not made: steps &lt;2&gt;"), 1);
    assert_non_null(strstr(again, "<strong>1 of the pictures could not be made</strong>"));
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
    assert_null(strstr(text, "id=\"answers\""));
    assert_null(strstr(text, "class=\"subject\""));
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
    assert_non_null(strstr(text, "section,row,column,prompt,negative,seed,sampler,steps,guidance,"
                                 "deep_cache,prompt_syntax,rng,init_image,strength,mask,hires,tile,"
                                 "schedule,models,file,share_of_subject_1\r\n"));
    assert_non_null(strstr(text,
                           "samplers,\"DDPM, 200 steps\",seed 42,a photo of a dog,,42,ddpm,"
                           "200,5,1,plain,cpu,,,,,false,base,base=0f3a742a15ff8020cbbc6d1a352aba65"
                           "1a7b2b7a87a30288035f5ae864ba3579,cells/0000000000abc000.png,\r\n"));
    assert_non_null(strstr(text, "\"blurry, \"\"dark\"\"\""));
    assert_non_null(strstr(text, "\"it's <b>\"\"bold\"\"</b> & more\""));
    free(text);
    study_free(&s);
}

static void test_numbers(void **state)
{
    (void)state;
    assert_string_equal(number_interval(87.3, 71.2, 103.4, " %", false).text, "87 % (71 to 103)");
    assert_string_equal(number_interval(84.2, 60.4, 108, " points", true).text,
                        "+84 points (60 to 108)");
    assert_string_equal(number_interval(-.26, -.31, -.21, "", true).text, "\xe2\x88\x92"
                                                                          "0.26 (\xe2\x88\x92"
                                                                          "0.31 to \xe2\x88\x92"
                                                                          "0.21)");
    assert_string_equal(number_interval(.03123, .0291, .0333, "", false).text,
                        "0.0312 (0.0291 to 0.0333)");
    assert_string_equal(number_interval(.2, -.4, .8, " points", true).text,
                        "+0.2 points (\xe2\x88\x92"
                        "0.4 to 0.8)");
    assert_string_equal(number_interval(87.3, NAN, NAN, " %", false).text, "87 %");
    assert_string_equal(number_interval(100, 100 - 2e-14, 100 + 2e-14, "", false).text, "100");
    assert_string_equal(number_interval(.5, NAN, NAN, "", false).text, "0.500");
    assert_string_equal(number_fixed(-.0001, 2).text, "0.00");
    assert_string_equal(number_plain(0).text, "0");
    assert_string_equal(number_count(1234567).text, "1,234,567");
    assert_string_equal(number_count(999).text, "999");
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
    static const chart_point one[1] = {{0, .5, NAN, NAN}}, none[1] = {{3, NAN, NAN, NAN}},
                             equal[2] = {{1, 2, 2, 2}, {2, 2, NAN, NAN}};
    const chart_series series[3] = {{"one", one, 1, 0, false, false},
                                    {"none", none, 1, 1, false, false},
                                    {"equal", equal, 2, 8, false, false}};
    for (int i = 0; i < 3; i++) {
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        chart c = {.id = "c",
                   .title = "a < b",
                   .about = "",
                   .x_name = "x",
                   .y_name = "y",
                   .log_x = true,
                   .series = &series[i],
                   .count = 1};
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
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_statements),
        cmocka_unit_test(test_wide_intervals),
        cmocka_unit_test(test_one_seed),
        cmocka_unit_test(test_no_scale),
        cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_subject_images),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_bare),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_odd_charts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
