/* SPDX-License-Identifier: Apache-2.0
 *
 * ControlNets: what one adds is diffusers'; scales, several at once, mixes, batches, deep cache and
 * guidance; files that are none, or are of another network. */
#include "foreign.h"
#include "support.h"

#include <inttypes.h>
#include <math.h>
#include <unistd.h>

#include "base/platform.h"
#include "file/safetensors.h"
#include "generate/generate.h"
#include "generate/parameters.h"
#include "model_support.h"
#include "toy.h"

enum { STEPS = 4, LATENT = 4 * 16 * 16 };

static device *cpu;
static model *opened, *plain;
static generator *g, *unconditional;
static controlnet *net;
static image seen[2];
static char path_net[400], path_other[400];

static void expect(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    char path[2][400];
    snprintf(path[0], sizeof path[0], "%s/toy", scratch_dir());
    snprintf(path[1], sizeof path[1], "%s/ddpm", scratch_dir());
    snprintf(path_net, sizeof path_net, "%s/control", scratch_dir());
    snprintf(path_other, sizeof path_other, "%s/other", scratch_dir());
    bool ok = toy_stable_diffusion(path[0], &e) && toy_unconditional(path[1], &e) &&
              toy_controlnet(path_net, &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 2}, &e) &&
              model_open(&opened, path[0], NULL, NULL, &e) &&
              model_open(&plain, path[1], NULL, NULL, &e) && generator_open(&g, cpu, opened, &e) &&
              generator_open(&unconditional, cpu, plain, &e) &&
              controlnet_open(&net, path_net, NULL, &e) && image_new(&seen[0], 32, 32, &e) &&
              image_new(&seen[1], 50, 20, &e);
    for (int k = 0; ok && k < 2; k++)
        for (int i = 0; i < seen[k].width * seen[k].height * 3; i++)
            seen[k].pixels[i] = (uint8_t)(i * (k ? 7 : 3) + i / 64);
    if (!ok) print_error("%s\n", e.text);
    return ok ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    generator_close(&g);
    generator_close(&unconditional);
    controlnet_close(&net);
    model_close(&opened);
    model_close(&plain);
    image_free(&seen[0]);
    image_free(&seen[1]);
    device_close(&cpu);
    return 0;
}

/* ---- the network --------------------------------------------------------------------------- */

static void test_diffusers(void **state)
{
    (void)state;
    FILE *f = fopen(fixture_path("model/controlnet.txt"), "r");
    bench b = bench_open();
    tensor *out[8];
    const controlnet_config *c = &net->config;
    int count = unet_skip_count(&c->unet) + 1;
    assert_non_null(f);
    b.fill = fill_scattered;
    tensor *picture = graph_input(b.g, "picture", DTYPE_F32, 4, (int64_t[]){1, 16, 16, 3});
    tensor *x = graph_input(b.g, "x", DTYPE_F32, 4, (int64_t[]){2, 8, 8, 4});
    tensor *t = graph_input(b.g, "t", DTYPE_F32, 1, (int64_t[]){1});
    tensor *text = graph_input(b.g, "text", DTYPE_F32, 3, (int64_t[]){2, 5, 32});
    controlnet_build(b.g, c, x, t, text, NULL, 1, controlnet_build_hint(b.g, c, picture), out);
    for (int i = 0; i < count; i++) graph_output(b.g, out[i]);
    bench_ready(&b);
    write_wave(b.g, x, 0.31);
    write_wave(b.g, text, 0.17);
    write_wave(b.g, picture, 0.07);
    assert_true(graph_write(b.g, t, &(float){321}, NULL));
    bench_run(&b);
    for (int i = 0; i < count; i++) {
        int64_t n;
        assert_int_equal(fscanf(f, "%" SCNd64, &n), 1);
        assert_int_equal(n, elements(out[i]));
        float *y = malloc((size_t)n * sizeof *y);
        assert_true(graph_read(b.g, out[i], y, NULL));
        float most = 0;
        for (int64_t k = 0; k < n; k++) most = fmaxf(most, fabsf(y[k]));
        for (int64_t k = 0; k < n; k += 97) {
            double wanted;
            assert_int_equal(fscanf(f, "%lf", &wanted), 1);
            if (!(fabs(wanted - (double)y[k]) < 2e-5 * (double)most))
                fail_msg("output %d, number %d: %g, should be %g", i, (int)k, (double)y[k], wanted);
        }
        free(y);
    }
    fclose(f);
    bench_close(&b);
}

/* ---- runs ---------------------------------------------------------------------------------- */

static generate_options options(const control *list, int count)
{
    return (generate_options){.prompt = "a dog",
                              .negative = "rain",
                              .seed = 7,
                              .guidance = 3,
                              .controls = list,
                              .control_count = count,
                              .sampler = {.kind = SAMPLER_DDIM, .steps = STEPS}};
}

static void run(const control *list, int count, float out[LATENT])
{
    generate_result r;
    error e = {0};
    generate_options o = options(list, count);
    expect(generator_run(g, &o, &r, &e), &e);
    memcpy(out, r.final, LATENT * sizeof *out);
    generate_result_free(&r);
}

static bool same(const float *a, const float *b) { return memcmp(a, b, LATENT * sizeof *a) == 0; }

static void test_scales(void **state)
{
    (void)state;
    float off[LATENT], zero[LATENT], one[LATENT], again[LATENT], other[LATENT], two[LATENT];
    run(NULL, 0, off);
    run((control[]){{net, &seen[0], 0}}, 1, zero);
    assert_true(relative_error(zero, off, LATENT) < 1e-6);
    run((control[]){{net, &seen[0], 1}}, 1, one);
    run((control[]){{net, &seen[1], 1}}, 1, other);
    assert_true(relative_error(one, off, LATENT) > 1e-3);
    assert_true(relative_error(other, one, LATENT) > 1e-6);
    run((control[]){{net, &seen[0], 1}}, 1, again); /* after another picture */
    assert_true(same(again, one));
    /* two of them are summed */
    run((control[]){{net, &seen[0], 0.5f}, {net, &seen[0], 0.5f}}, 2, two);
    assert_true(relative_error(two, one, LATENT) < 1e-5);
    run((control[]){{net, &seen[0], 1}, {net, &seen[1], 0}}, 2, two);
    assert_true(relative_error(two, one, LATENT) < 1e-6);
    run(NULL, 0, again);
    assert_true(same(again, off));
}

/* In a batch, in a mix, with deep features, and without guidance. */
static void test_with_others(void **state)
{
    (void)state;
    enum { PICTURES = 2 };
    const control list[] = {{net, &seen[0], 1}};
    float one[LATENT];
    generate_options o[PICTURES];
    generate_result r[PICTURES], deep;
    error e = {0};
    generator *pair[] = {g, g};
    mix m;
    run(list, 1, one);
    for (int k = 0; k < PICTURES; k++) o[k] = options(list, 1);
    o[0].seed = 8;
    o[0].prompt = "two cats";
    expect(generator_run_together(&g, 1, NULL, o, PICTURES, r, &e), &e);
    assert_true(samples_alike(cpu, r[1].final, one, LATENT));
    for (int k = 0; k < PICTURES; k++) generate_result_free(&r[k]);
    expect(mix_parse(&m, "a|b", (const char *const[]){"a", "b"}, 2, STEPS, &e) &&
               generator_run_mixed(pair, 2, &m, &o[1], &r[0], &e),
           &e);
    assert_true(same(r[0].final, one));
    generate_result_free(&r[0]);
    mix_close(&m);
    generate_options whole = o[1];
    whole.deep_cache = 100;
    whole.sampler.steps = 2; /* the second upon the first one's features, and its own first skip */
    expect(generator_run(g, &whole, &deep, &e), &e);
    generate_options without = whole;
    without.controls = NULL;
    without.control_count = 0;
    expect(generator_run(g, &without, &r[0], &e), &e);
    assert_true(relative_error(r[0].final, deep.final, LATENT) > 1e-4);
    generate_result_free(&r[0]);
    generate_result_free(&deep);
    o[1].guidance = 1;
    expect(generator_run(g, &o[1], &r[0], &e), &e);
    assert_false(same(r[0].final, one));
    generate_result_free(&r[0]);
    o[0] = o[1];
    o[0].controls = (control[]){{net, &seen[1], 1}};
    assert_false(generate_alike(&o[0], &o[1]));
}

static void test_settings(void **state)
{
    (void)state;
    char *text = NULL, wanted[200];
    image size = {.width = 32, .height = 32};
    error e = {0};
    const control list[] = {{net, &seen[0], 0.5f}};
    generate_options o = options(list, 1);
    expect(parameters_text(&text, &(image_job){&g, NULL, 1, NULL, &o}, &size, &e), &e);
    snprintf(wanted, sizeof wanted, "ControlNet 0: \"Model: control %.10s, Picture: ", net->hash);
    assert_non_null(strstr(text, wanted));
    assert_non_null(strstr(text, ", Weight: 0.5\""));
    /* another picture of the same bytes */
    char *other = NULL;
    image flat = {.width = 2 * seen[0].width, .height = seen[0].height / 2, seen[0].pixels};
    o.controls = (control[]){{net, &flat, 0.5f}};
    expect(parameters_text(&other, &(image_job){&g, NULL, 1, NULL, &o}, &size, &e), &e);
    assert_string_not_equal(other, text);
    free(other);
    free(text);
}

/* ---- files --------------------------------------------------------------------------------- */

/* The toy's tensors under other names (a %s takes the name), into path_other/x.safetensors; its
 * config beside it. skip: of this name none. */
static const char *rewrite(const char *format, const char *skip, const char *extra)
{
    static char to[440];
    char from[440], config[440];
    safetensors file;
    error e = {0};
    char *text;
    size_t size;
    snprintf(to, sizeof to, "%s/x.safetensors", path_other);
    snprintf(from, sizeof from, "%s/diffusion_pytorch_model.safetensors", path_net);
    expect(path_make_dir(path_other, &e) && safetensors_open(&file, from, &e), &e);
    safetensors_entry *entry = calloc(file.count + 1, sizeof *entry);
    size_t n = 0;
    for (size_t i = 0; i < file.count; i++) {
        char *name = malloc(300);
        if (strcmp(file.entry[i].name, skip) == 0) {
            free(name);
            continue;
        }
        snprintf(name, 300, format, file.entry[i].name);
        entry[n] = file.entry[i];
        entry[n++].name = name;
    }
    if (extra) {
        entry[n] = entry[0];
        entry[n++].name = strdup(extra);
    }
    expect(safetensors_write(to, entry, n, NULL, 0, &e), &e);
    for (size_t i = 0; i < n; i++) free((char *)(uintptr_t)entry[i].name);
    free(entry);
    safetensors_close(&file);
    snprintf(from, sizeof from, "%s/config.json", path_net);
    snprintf(config, sizeof config, "%s/config.json", path_other);
    FILE *in = fopen(from, "r"), *out = fopen(config, "w");
    text = malloc(4096);
    size = fread(text, 1, 4096, in);
    assert_int_equal(fwrite(text, 1, size, out), size);
    fclose(in);
    fclose(out);
    free(text);
    return to;
}

static void refused(const char *path, const char *words)
{
    controlnet *c;
    error e = {0};
    assert_false(controlnet_open(&c, path, NULL, &e));
    assert_null(c);
    if (!strstr(e.text, words)) fail_msg("\"%s\" is not in: %s", words, e.text);
}

static void test_files(void **state)
{
    (void)state;
    controlnet *c;
    error e = {0};
    expect(controlnet_open(&c, rewrite("%s", "", NULL), NULL, &e), &e); /* a file, and its config */
    assert_string_equal(c->hash, net->hash);
    controlnet_close(&c);
    refused("/nowhere", "/nowhere: no such ControlNet");
    refused(rewrite("model.%s", "", NULL), "this is no ControlNet");
    refused(rewrite("%s", "", "add_embedding.linear_1.weight"), "Stable Diffusion XL");
    refused(rewrite("%s", "controlnet_mid_block.weight", NULL),
            "1 missing (controlnet_mid_block.weight)");
    const char *path = rewrite("%s", "", NULL);
    expect(truncate(path, 5000) == 0, &e);
    refused(path, path);
    path = rewrite("%s", "", NULL);
    char config[440];
    snprintf(config, sizeof config, "%s/config.json", path_other);
    unlink(config); /* then it has to have Stable Diffusion's sizes */
    refused(path, "its tensors do not fit the network");
    FILE *f = fopen(config, "w");
    fputs("{\"_class_name\": \"ControlNetModel\", \"global_pool_conditions\": true}", f);
    fclose(f);
    refused(path, "global_pool_conditions");
    f = fopen(config, "w");
    fputs("{\"_class_name\": \"ControlNetModel\", \"addition_embed_type\": \"text_time\"}", f);
    fclose(f);
    refused(path, "Stable Diffusion XL");
    f = fopen(config, "w");
    fputs("{\"_class_name\": \"UNet2DConditionModel\"}", f);
    fclose(f);
    refused(path, "not ControlNetModel");
}

static void test_misfits(void **state)
{
    (void)state;
    error e = {0};
    controlnet other = *net;
    other.config.unet.cross_dim = 48;
    generate_options o = options((control[]){{&other, &seen[0], 1}}, 1);
    assert_false(generator_check(g, &o, NULL, &e));
    assert_non_null(strstr(e.text, "this ControlNet does not fit"));
    assert_non_null(strstr(e.text, "text width 48; the model has 16 and 32"));
    o = options((control[]){{net, &seen[0], NAN}}, 1);
    e = (error){0};
    assert_false(generator_check(g, &o, NULL, &e));
    assert_non_null(strstr(e.text, "scale"));
    o = options((control[]){{net, &seen[0], 1}}, 1);
    o.prompt = o.negative = NULL;
    e = (error){0};
    assert_false(generator_check(unconditional, &o, NULL, &e));
    assert_non_null(strstr(e.text, "it takes no ControlNet"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diffusers),   cmocka_unit_test(test_scales),
        cmocka_unit_test(test_with_others), cmocka_unit_test(test_settings),
        cmocka_unit_test(test_files),       cmocka_unit_test(test_misfits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
