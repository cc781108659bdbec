/* SPDX-License-Identifier: Apache-2.0
 *
 * A tiny autoencoder in place of the VAE: its pictures are diffusers' AutoencoderTiny's
 * (fixtures/model/taesd, made by tools/fixtures/taesd.py) in every spelling of its names; what
 * pictures say of it; files that are none, or are of another network. */
#include "foreign.h"
#include "support.h"

#include <math.h>
#include <unistd.h>

#include "base/platform.h"
#include "file/safetensors.h"
#include "generate/generate.h"
#include "generate/parameters.h"
#include "model/taesd.h"
#include "pipeline/decode.h"
#include "toy.h"

enum { HIGH = 5, WIDE = 3, SPACE = HIGH * WIDE, STEPS = 2, LATENT = 4 * 16 * 16 };

static device *cpu;
static model *opened, *with, *plain;
static char path_toy[400], path_tiny[1024], path_other[400];

static void expect(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    char ddpm[400];
    snprintf(path_toy, sizeof path_toy, "%s/toy", scratch_dir());
    snprintf(ddpm, sizeof ddpm, "%s/ddpm", scratch_dir());
    snprintf(path_other, sizeof path_other, "%s/other", scratch_dir());
    snprintf(path_tiny, sizeof path_tiny, "%s", fixture_path("model/taesd"));
    bool ok = toy_stable_diffusion(path_toy, &e) && toy_unconditional(ddpm, &e) &&
              path_make_dir(path_other, &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 2}, &e) &&
              model_open(&opened, path_toy, NULL, NULL, &e) &&
              model_open(&with, path_toy, NULL, NULL, &e) &&
              model_open(&plain, ddpm, NULL, NULL, &e) &&
              model_set_taesd(with, path_tiny, NULL, &e);
    if (!ok) print_error("%s\n", e.text);
    return ok ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    model_close(&opened);
    model_close(&with);
    model_close(&plain);
    device_close(&cpu);
    return 0;
}

/* ---- the network --------------------------------------------------------------------------- */

static void test_diffusers(void **state)
{
    (void)state;
    char path[1100];
    float latent[4 * SPACE], y[12 * SPACE], wanted[12 * SPACE];
    pipeline on = {cpu, with};
    decoder *n;
    error e = {0};
    snprintf(path, sizeof path, "%s/picture.txt", path_tiny);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (int i = 0; i < 12 * SPACE; i++) assert_int_equal(fscanf(f, "%f", &wanted[i]), 1);
    fclose(f);
    for (int i = 0; i < 4 * SPACE; i++) latent[i] = (float)(4 * cos(0.31 * i));
    with->vae.scaling_factor = 0.5f; /* which is not its */
    expect(decoder_open(&n, &on, HIGH, WIDE, &e) && decoder_values(n, latent, y, &e), &e);
    with->vae.scaling_factor = 1;
    decoder_close(&n);
    assert_true(relative_error(y, wanted, 12 * SPACE) < 2e-6);
}

/* ---- runs ---------------------------------------------------------------------------------- */

static generate_options options(void)
{
    return (generate_options){.prompt = "a dog",
                              .seed = 7,
                              .guidance = 3,
                              .sampler = {.kind = SAMPLER_DDIM, .steps = STEPS}};
}

static void run(const model *m, const generate_options *o, generate_result *out)
{
    error e = {0};
    generator *g;
    expect(generator_open(&g, cpu, m, &e) && generator_run(g, o, out, &e), &e);
    generator_close(&g);
}

static void keep_preview(void *user, const image *picture)
{
    image *kept = user;
    error e = {0};
    expect(image_new(kept, picture->width, picture->height, &e), &e);
    memcpy(kept->pixels, picture->pixels, (size_t)picture->width * (size_t)picture->height * 3);
}

/* It decodes the growing picture too. */
static void test_preview(void **state)
{
    (void)state;
    const model *by[] = {opened, with};
    generate_options o = options();
    generate_result r;
    image kept[2] = {0};
    o.preview = keep_preview;
    o.preview_steps = 1;
    for (int k = 0; k < 2; k++) {
        o.user = &kept[k];
        run(by[k], &o, &r);
        assert_non_null(kept[k].pixels);
        generate_result_free(&r);
    }
    assert_true(memcmp(kept[0].pixels, kept[1].pixels, 32 * 32 * 3) != 0);
    image_free(&kept[0]);
    image_free(&kept[1]);
}

/* The same latents, another picture: the decoder's of them. */
static void test_run(void **state)
{
    (void)state;
    generate_options o = options();
    generate_result by_vae, by_tiny, derived;
    pipeline on = {cpu, with};
    model *variant;
    decoder *n;
    image alone;
    error e = {0};
    run(opened, &o, &by_vae);
    run(with, &o, &by_tiny);
    assert_memory_equal(by_tiny.final, by_vae.final, LATENT * sizeof(float));
    size_t bytes = (size_t)by_tiny.picture.width * (size_t)by_tiny.picture.height * 3;
    assert_int_equal(bytes, 32 * 32 * 3);
    assert_true(memcmp(by_tiny.picture.pixels, by_vae.picture.pixels, bytes) != 0);
    expect(decoder_open(&n, &on, 16, 16, &e) && decoder_run(n, by_tiny.final, &alone, &e), &e);
    assert_memory_equal(alone.pixels, by_tiny.picture.pixels, bytes);
    decoder_close(&n);
    image_free(&alone);
    /* a model with the same weights, which LoRAs might change */
    expect(model_derive(&variant, with, &e), &e);
    run(variant, &o, &derived);
    assert_memory_equal(derived.picture.pixels, by_tiny.picture.pixels, bytes);
    model_close(&variant);
    generate_result_free(&derived);
    generate_result_free(&by_vae);
    generate_result_free(&by_tiny);
    /* in tiles, of a picture larger than one */
    o.width = 48;
    o.tile = true;
    run(with, &o, &by_tiny);
    assert_int_equal(by_tiny.picture.width, 48);
    generate_result_free(&by_tiny);
}

static char *text_of(const model *m)
{
    generate_options o = options();
    image size = {.width = 32, .height = 32};
    generator *g;
    char *text = NULL;
    error e = {0};
    expect(generator_open(&g, cpu, m, &e), &e);
    expect(parameters_text(&text, &(image_job){&g, NULL, 1, NULL, &o}, &size, &e), &e);
    generator_close(&g);
    return text;
}

static void test_settings(void **state)
{
    (void)state;
    char wanted[100], *text = text_of(with);
    snprintf(wanted, sizeof wanted, "VAE hash: %.10s, VAE: taesd,", with->tiny->hash);
    assert_non_null(strstr(text, wanted));
    free(text);
    text = text_of(opened);
    assert_null(strstr(text, "VAE"));
    free(text);
}

/* ---- files --------------------------------------------------------------------------------- */

typedef struct rewriting {
    const char *prefix; /* of original names; NULL: diffusers' */
    int first;          /* the first layer's number */
    const char *skip;   /* a tensor that is left out, by its diffusers name */
    const char *bent;   /* one whose dimensions are turned round */
    const char *spoilt; /* one that holds a NaN */
} rewriting;

/* The fixture's decoder in another file, path_other/x.safetensors; with its config.json or without.
 */
static const char *rewrite(const rewriting *r, bool config)
{
    static char to[440], name[64][300];
    static float bad[4096];
    char from[1100];
    safetensors file;
    safetensors_entry entry[64];
    size_t count = 0;
    error e = {0};
    int layer, at;
    snprintf(to, sizeof to, "%s/x.safetensors", path_other);
    snprintf(from, sizeof from, "%s/diffusion_pytorch_model.safetensors", path_tiny);
    expect(safetensors_open(&file, from, &e), &e);
    for (size_t i = 0; i < file.count; i++) {
        safetensors_entry *t = &entry[count];
        *t = file.entry[i];
        if (sscanf(t->name, "decoder.layers.%d%n", &layer, &at) != 1) continue;
        if (r->skip && !strcmp(t->name, r->skip)) continue;
        if (r->bent && !strcmp(t->name, r->bent)) {
            t->dim[0] = file.entry[i].dim[3];
            t->dim[3] = file.entry[i].dim[0];
        }
        if (r->spoilt && !strcmp(t->name, r->spoilt)) {
            memcpy(bad, t->data, t->bytes);
            bad[1] = NAN;
            t->data = bad;
        }
        if (r->prefix)
            snprintf(name[count], sizeof *name, "%s%d%s", r->prefix, layer + r->first,
                     t->name + at);
        else
            snprintf(name[count], sizeof *name, "%s", t->name);
        t->name = name[count++];
    }
    expect(safetensors_write(to, entry, count, NULL, 0, &e), &e);
    safetensors_close(&file);
    char line[1600];
    if (config)
        snprintf(line, sizeof line, "cp '%s/config.json' '%s'", path_tiny, path_other);
    else
        snprintf(line, sizeof line, "rm -f '%s/config.json'", path_other);
    assert_int_equal(system(line), 0);
    return to;
}

static void accepted(const char *path)
{
    model *m;
    error e = {0};
    expect(model_open(&m, path_toy, NULL, NULL, &e) && model_set_taesd(m, path, NULL, &e), &e);
    assert_string_equal(m->tiny->hash, with->tiny->hash);
    model_close(&m);
}

static void test_names(void **state)
{
    (void)state;
    static const rewriting spellings[] = {{.first = 0},
                                          {.prefix = "", .first = 1},
                                          {.prefix = "", .first = 0},
                                          {.prefix = "decoder.", .first = 1},
                                          {.prefix = "decoder.", .first = 0},
                                          {.prefix = "taesd_decoder.", .first = 1}};
    char path[1100];
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        accepted(rewrite(&spellings[i], true));
    snprintf(path, sizeof path, "%s/taesd_decoder.pth", path_tiny);
    accepted(path);
}

static void refused_by(model *m, const char *path, const char *words)
{
    const struct taesd *before = m->tiny;
    error e = {0};
    assert_false(model_set_taesd(m, path, NULL, &e));
    assert_ptr_equal(m->tiny, before);
    if (!strstr(e.text, words)) fail_msg("\"%s\" is not in: %s", words, e.text);
}

static void refused(const char *path, const char *words) { refused_by(opened, path, words); }

static void test_refused(void **state)
{
    (void)state;
    char path[500];
    const char *x;
    error e = {0};
    refused("/nowhere", "/nowhere: no such tiny autoencoder");
    refused_by(plain, path_tiny, "is an unconditional model");
    refused_by(with, "/nowhere", "no such"); /* which keeps the one that it has */
    snprintf(path, sizeof path, "%s/vae", path_toy);
    refused(path, "this is a whole VAE, not a tiny one: give it with --vae");
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", path_toy);
    refused(path, "this is no tiny autoencoder");
    refused(rewrite(&(rewriting){.skip = "decoder.layers.5.conv.2.weight"}, true),
            "1 missing (decoder.layers.5.conv.2.weight)");
    refused(
        rewrite(&(rewriting){.prefix = "", .first = 1, .bent = "decoder.layers.2.conv.4.weight"},
                true),
        "3.conv.4.weight is 3x6x3x6, should be 6x6x3x3");
    refused(rewrite(&(rewriting){.spoilt = "decoder.layers.7.bias"}, true),
            "decoder.layers.7.bias");
    /* sizes that are not TAESD's, and nothing that says which */
    refused(rewrite(&(rewriting){0}, false), "8 times as large as their latents");
    x = rewrite(&(rewriting){0}, true);
    expect(truncate(x, 5000) == 0, &e);
    refused(x, x);
}

/* A file of zeros under names in the encoder's or another autoencoder's form. */
static const char *write_zeros(const char *const *name, const int64_t (*dim)[4], size_t count)
{
    static char to[440];
    static const float zero[64 * 64 * 9];
    safetensors_entry entry[4] = {0};
    error e = {0};
    snprintf(to, sizeof to, "%s/zeros.safetensors", path_other);
    for (size_t i = 0; i < count; i++) {
        entry[i] = (safetensors_entry){.name = name[i], .rank = 4, .data = zero};
        memcpy(entry[i].dim, dim[i], sizeof *dim);
        entry[i].bytes = (uint64_t)(dim[i][0] * dim[i][1] * 9) * sizeof *zero;
    }
    expect(safetensors_write(to, entry, count, NULL, 0, &e), &e);
    return to;
}

static void test_others(void **state)
{
    (void)state;
    model *m;
    char config[440];
    error e = {0};
    refused(write_zeros((const char *const[]){"0.weight", "1.conv.0.weight"},
                        (const int64_t[][4]){{64, 3, 3, 3}, {64, 64, 3, 3}}, 2),
            "encoder alone: give its decoder");
    refused(write_zeros((const char *const[]){"1.weight", "3.conv.0.weight"},
                        (const int64_t[][4]){{64, 16, 3, 3}, {64, 64, 3, 3}}, 2),
            "for latents of 16 channels, and this model's have 4");
    /* where another kind of file is wanted */
    const char *x = rewrite(&(rewriting){.prefix = "", .first = 1}, true);
    assert_false(model_open(&m, path_toy, x, NULL, &e));
    assert_non_null(strstr(e.text, "this is a tiny autoencoder: give it with --taesd"));
    e = (error){0};
    assert_false(model_open(&m, x, NULL, NULL, &e));
    assert_non_null(strstr(e.text, "give a model with -m, and this with --taesd"));
    e = (error){0};
    assert_false(model_open(&m, path_toy, path_tiny, NULL, &e));
    assert_non_null(strstr(e.text, "AutoencoderTiny is given with --taesd"));
    /* a configuration that would mean other mathematics */
    snprintf(config, sizeof config, "%s/config.json", path_other);
    static const struct {
        const char *json, *words;
    } bad[] = {{"\"act_fn\": \"gelu\"", "\"act_fn\" is \"gelu\""},
               {"\"upsampling_scaling_factor\": 4", "upsampling_scaling_factor"},
               {"\"num_decoder_blocks\": [1, 2], \"decoder_block_out_channels\": [6, 8]",
                "should be one number"},
               {"\"num_decoder_blocks\": [1, 0]", "num_decoder_blocks"},
               {"\"scaling_factor\": 0", "should be above 0"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        FILE *f = fopen(config, "w");
        fprintf(f, "{\"_class_name\": \"AutoencoderTiny\", %s}", bad[i].json);
        fclose(f);
        refused(x, bad[i].words);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diffusers), cmocka_unit_test(test_run),
        cmocka_unit_test(test_preview),   cmocka_unit_test(test_settings),
        cmocka_unit_test(test_names),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
