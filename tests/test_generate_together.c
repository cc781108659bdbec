/* SPDX-License-Identifier: Apache-2.0
 *
 * What is asked of a run at once: a second pass, a picture to begin with, a mask, ControlNets, deep
 * features, prompts in AUTOMATIC1111's syntax, tiles; and inpainting networks out of one file. */
#include <stdlib.h>
#include <string.h>

#include "foreign.h"
#include "support.h"

#include "base/platform.h"
#include "generate/parameters.h"
#include "generate/plan.h"
#include "model/load.h"
#include "model/write.h"
#include "toy.h"

enum { STEPS = 4, SIDE = 32, LARGE = 2 * SIDE, SMALL_LATENT = 4 * 16 * 16, PICTURES = 2 };

static device *cpu;
static model *plain, *painter;
static generator *g, *inpainting;
static controlnet *net;
static image seen, init, mask;
static char base[400];

static void expect(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

static const char *inside(const char *name)
{
    static char path[4][500];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", base, name);
    return path[turn];
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    snprintf(base, sizeof base, "%s", scratch_dir());
    bool ok = toy_stable_diffusion(inside("toy"), &e) && toy_inpainting(inside("painter"), &e) &&
              toy_controlnet(inside("control"), &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 2}, &e) &&
              model_open(&plain, inside("toy"), NULL, NULL, &e) &&
              model_open(&painter, inside("painter"), NULL, NULL, &e) &&
              generator_open(&g, cpu, plain, &e) && generator_open(&inpainting, cpu, painter, &e) &&
              controlnet_open(&net, inside("control"), NULL, &e) &&
              image_new(&seen, LARGE, LARGE, &e) && image_new(&init, SIDE, SIDE, &e) &&
              image_new(&mask, SIDE, SIDE, &e);
    for (int i = 0; ok && i < LARGE * LARGE * 3; i++) seen.pixels[i] = (uint8_t)(i * 3 + i / 64);
    for (int i = 0; ok && i < SIDE * SIDE * 3; i++) {
        init.pixels[i] = (uint8_t)(i * 5);
        mask.pixels[i] = i % (SIDE * 3) < SIDE ? 255 : 0;
    }
    if (!ok) print_error("%s\n", e.text);
    return ok ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    generator_close(&g);
    generator_close(&inpainting);
    controlnet_close(&net);
    model_close(&plain);
    model_close(&painter);
    image_free(&seen);
    image_free(&init);
    image_free(&mask);
    device_close(&cpu);
    return 0;
}

static generate_options options(const char *prompt)
{
    return (generate_options){.prompt = prompt,
                              .negative = "rain",
                              .seed = 7,
                              .guidance = 3,
                              .syntax = PROMPT_A1111,
                              .strength = 1,
                              .hires_strength = 0.7,
                              .sampler = {.kind = SAMPLER_DDIM, .steps = STEPS}};
}

/* ---- runs ---------------------------------------------------------------------------------- */

/* A run, and the latents after its first pass's last step. */
typedef struct made {
    generate_result r;
    float first[SMALL_LATENT];
} made;

static void keep(void *user, const generate_snapshot *s)
{
    assert_int_equal(s->numbers, SMALL_LATENT);
    memcpy(((made *)user)->first, s->latent, sizeof(float[SMALL_LATENT]));
}

static void run(generator *by, generate_options o, made *out)
{
    error e = {0};
    o.reached = keep;
    o.user = out;
    expect(generator_run(by, &o, &out->r, &e), &e);
}

static size_t numbers(const made *m)
{
    return (size_t)m->r.channels * (size_t)m->r.height * (size_t)m->r.width;
}

/* Whether their first passes are, and whether they are. */
static void compare(made *a, made *b, bool first, bool whole)
{
    size_t n = numbers(a);
    assert_int_equal(n, numbers(b));
    assert_int_equal(memcmp(a->first, b->first, sizeof a->first) == 0, first);
    assert_int_equal(memcmp(a->r.final, b->r.final, n * sizeof(float)) == 0, whole);
    generate_result_free(&a->r);
    generate_result_free(&b->r);
}

/* The second pass sees the ControlNet's picture at its own size, and not the first one's. */
static void test_control_in_two_passes(void **state)
{
    (void)state;
    image small;
    error e = {0};
    made a, b;
    expect(image_resize(&small, &seen, SIDE, SIDE, RESIZE_LANCZOS, &e), &e);
    generate_options o = options("a dog");
    o.hires = 2;
    o.control_count = 1;
    o.deep_cache = 2;
    o.controls = (control[]){{net, &seen, 4}};
    run(g, o, &a);
    assert_int_equal(a.r.picture.width, LARGE);
    o.controls = (control[]){{net, &small, 4}};
    run(g, o, &b);
    compare(&a, &b, true, false);
    image_free(&small);
}

/* AUTOMATIC1111's base_steps and hires_steps: 1.0 is where the second pass begins. */
static void test_edits_in_two_passes(void **state)
{
    (void)state;
    made a, b;
    generate_options o = options("[ab:yz:1.0]"), other = options("ab");
    o.hires = other.hires = 2;
    run(g, o, &a);
    run(g, other, &b);
    compare(&a, &b, true, false);
    o.prompt = "[ab:yz:1.0] AND q"; /* and under several conditions */
    other.prompt = "[ab:yz:4] AND q";
    run(g, o, &a);
    run(g, other, &b);
    compare(&a, &b, true, true);
    o.prompt = "[ab:yz:0.5]"; /* the same beginning as in one pass */
    other = o;
    other.hires = 0;
    run(g, o, &a);
    run(g, other, &b);
    assert_memory_equal(a.first, b.first, sizeof a.first);
    generate_result_free(&a.r);
    generate_result_free(&b.r);
}

static void edit_is(const char *text, int evaluations, int before, const char *wanted)
{
    edits got;
    error e = {0};
    char line[200] = "";
    expect(edits_read(&got, text, evaluations, before, &e), &e);
    for (int i = 0; i < got.count; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s@%d", i ? " " : "",
                 got.item[i].text, got.item[i].until);
    assert_string_equal(line, wanted);
    edits_close(&got);
}

static void test_edits_count(void **state)
{
    (void)state;
    edit_is("[a:b:0.5]", 10, 0, "a@5 b@10");
    edit_is("[a:b:0.5]", 10, 20, "b@10");
    edit_is("[a:b:1.5]", 10, 20, "a@5 b@10");
    edit_is("[a:b:15]", 10, 20, "b@10");
    edit_is("[a:b:24]", 10, 20, "a@4 b@10");
    edit_is("[a:b:1.5]", 10, 0, "a@10");
}

/* A run that begins with a picture counts as AUTOMATIC1111 does: of all steps. */
static void test_edits_from_a_picture(void **state)
{
    (void)state;
    made a, b;
    generate_options o = options("[ab:yz:0.5]"), other = options("ab");
    o.init = other.init = &init;
    o.strength = other.strength = 0.75;
    run(g, o, &a);
    run(g, other, &b);
    compare(&a, &b, true, true);
    o.prompt = "[ab:yz:1]";
    run(g, o, &a);
    run(g, other, &b);
    compare(&a, &b, false, false);
}

/* ---- all at once --------------------------------------------------------------------------- */

static generate_snapshot *after_one;

static void keep_first(void *user, const generate_snapshot *s)
{
    (void)user;
    if (s->step == 1) after_one = generate_snapshot_copy(s);
}

/* In a batch, and from a snapshot. */
static void all_at_once(generator *by)
{
    const control list[] = {{net, &seen, 1}, {net, &init, 0.5f}};
    generate_options o[PICTURES];
    generate_result r[PICTURES], again;
    error e = {0};
    for (int k = 0; k < PICTURES; k++) {
        o[k] = options("a [(dog:1.2)|cat] AND [b:c:0.25] :0.6");
        o[k].seed += (uint64_t)k;
        o[k].init = &init;
        o[k].mask = &mask;
        o[k].strength = 0.75;
        o[k].deep_cache = 2;
        o[k].controls = list;
        o[k].control_count = 2;
        o[k].tile = true;
        o[k].width = LARGE; /* larger than a tile */
        o[k].sampler.kind = SAMPLER_DDPM;
    }
    o[1].reached = keep_first;
    assert_true(generate_alike(&o[0], &o[1]));
    expect(generator_run_together(&by, 1, NULL, o, PICTURES, r, &e), &e);
    assert_int_equal(r[0].picture.width, LARGE);
    assert_int_equal(r[0].picture.height, SIDE);
    size_t n = 2 * SMALL_LATENT;
    o[1].reached = NULL;
    expect(generator_run(by, &o[1], &again, &e), &e);
    assert_true(samples_alike(cpu, again.final, r[1].final, n));
    generate_result_free(&again);
    assert_non_null(after_one);
    o[1].from = after_one;
    expect(generator_run(by, &o[1], &again, &e), &e);
    assert_true(samples_alike(cpu, again.final, r[1].final, n));
    generate_result_free(&again);
    free(after_one);
    after_one = NULL;
    for (int k = 0; k < PICTURES; k++) generate_result_free(&r[k]);
}

static void test_all_at_once(void **state)
{
    (void)state;
    all_at_once(g);
    all_at_once(inpainting);
}

/* A ControlNet reads an inpainting network's latents, not its mask. */
static void test_control_of_inpainting(void **state)
{
    (void)state;
    const control one = {net, &seen, 1};
    const control_shape shape = {1, 1, 16, 16, 16};
    float x[2][9 * 16 * 16], states[16 * 32], out[2][3000];
    error e = {0};
    for (int i = 0; i < 16 * 32; i++) states[i] = (float)(i % 7) / 7;
    for (int i = 0; i < 16 * 16; i++)
        for (int c = 0; c < 9; c++) {
            x[1][9 * i + c] = (float)((i * 9 + c) % 13) / 13;
            if (c < 4) x[0][4 * i + c] = x[1][9 * i + c];
        }
    for (int k = 0; k < 2; k++) {
        controls *c;
        pipeline on = {.device = cpu, .model = k ? painter : plain};
        expect(controls_open(&c, &on, &one, 1, &shape, &e) && controls_read(c, states, &e) &&
                   controls_run(c, x[k], 500, &e),
               &e);
        tensor *last = controls_output(c, controls_count(c) - 1);
        assert_true(pipeline_elements(last) <= 3000);
        memset(out[k], 0, sizeof out[k]);
        expect(graph_read(controls_graph(c), last, out[k], &e), &e);
        controls_close(&c);
    }
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    assert_true(relative_error(out[0], (float[3000]){0}, 3000) > 0);
}

/* ---- what a picture says ------------------------------------------------------------------- */

/* The same before it is made, when its first pass's size is what is known, and afterwards. */
static void test_tiles_are_told(void **state)
{
    (void)state;
    char *before, *after;
    error e = {0};
    generate_options o = options("a dog");
    image_job job = {&g, NULL, 1, NULL, &o};
    o.width = o.height = SIDE;
    o.hires = 2;
    o.tile = true;
    expect(parameters_text(&before, &job, &(image){.width = SIDE, .height = SIDE}, &e) &&
               parameters_text(&after, &job, &(image){.width = LARGE, .height = LARGE}, &e),
           &e);
    assert_string_equal(before, after);
    assert_non_null(strstr(after, "VAE tiling: True"));
    free(before);
    free(after);
}

static void test_strength_is_swept(void **state)
{
    (void)state;
    sweep s;
    error e = {0};
    generate_options o = options("a dog");
    assert_false(sweep_parse(&s, "strength=0.5,1", &o, &e));
    assert_string_equal(e.text, "sweep: strength is of a picture that is changed; give that "
                                "picture with --init-image");
    o.init = &init;
    expect(sweep_parse(&s, "strength=0.55,1 steps=8", &o, &e), &e);
    assert_int_equal(s.count, 2);
    assert_true(s.row[0].options.strength == 0.55 && s.row[1].options.strength == 1);
    assert_string_equal(s.row[0].name, "strength-0.55-8");
    assert_string_equal(s.row[0].label, "strength 0.55, 8 steps");
    sweep_close(&s);
    e = (error){0};
    assert_false(sweep_parse(&s, "strength=1.5", &o, &e));
    assert_non_null(strstr(e.text, "strength cannot be \"1.5\"; give a number from 0 to 1"));
}

/* ---- inpainting networks in files ---------------------------------------------------------- */

static void paints_alike(model *m)
{
    generator *own;
    generate_result r, wanted;
    error e = {0};
    generate_options o = options("a dog");
    o.init = &init;
    o.mask = &mask;
    assert_true(model_inpaints(m));
    expect(generator_open(&own, cpu, m, &e) && generator_run(own, &o, &r, &e) &&
               generator_run(inpainting, &o, &wanted, &e),
           &e);
    assert_memory_equal(r.final, wanted.final, sizeof(float[SMALL_LATENT]));
    generate_result_free(&r);
    generate_result_free(&wanted);
    generator_close(&own);
    model_close(&m);
}

/* In the original names, with and without sizes of its own in it. */
static void test_inpainting_in_one_file(void **state)
{
    (void)state;
    error e = {0};
    char path[500], words[500];
    model *m;
    snprintf(path, sizeof path, "%s", inside("painter.safetensors"));
    snprintf(words, sizeof words, "%s", inside("painter/tokenizer"));
    expect(model_write_single(painter, NULL, path, NULL, &e), &e);
    expect(model_open(&m, path, NULL, words, &e), &e);
    paints_alike(m);
    single_sizes sizes = {&plain->clip, &plain->unet, &plain->vae};
    assert_int_equal(plain->unet.in_channels, 4);
    expect(model_open_single(&m, path, NULL, words, &sizes, false, &e), &e);
    paints_alike(m);
}

/* As diffusers' own inpainting models call themselves. */
static void test_inpainting_in_a_folder(void **state)
{
    (void)state;
    error e = {0};
    model *m;
    expect(toy_inpainting(inside("named"), &e), &e);
    FILE *f = fopen(inside("named/model_index.json"), "w");
    fputs("{\"_class_name\": \"StableDiffusionInpaintPipeline\"}", f);
    fclose(f);
    expect(model_open(&m, inside("named"), NULL, NULL, &e), &e);
    paints_alike(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_in_two_passes),
        cmocka_unit_test(test_edits_in_two_passes),
        cmocka_unit_test(test_edits_count),
        cmocka_unit_test(test_edits_from_a_picture),
        cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_control_of_inpainting),
        cmocka_unit_test(test_tiles_are_told),
        cmocka_unit_test(test_strength_is_swept),
        cmocka_unit_test(test_inpainting_in_one_file),
        cmocka_unit_test(test_inpainting_in_a_folder),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
