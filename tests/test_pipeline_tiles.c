/* SPDX-License-Identifier: Apache-2.0
 *
 * The autoencoder in tiles: what diffusers' gives of the pocket model's (fixtures/tiles.json, made
 * by tools/fixtures/tiles.py), what memory it takes, and when it is not tiles. */
#include <jansson.h>
#include <math.h>

#include "base/random.h"
#include "pipeline/decode.h"
#include "pipeline/encode.h"
#include "pipeline/tiles.h"
#include "foreign.h"
#include "support.h"

enum { HIGH = 20, WIDE = 26, SPACE = HIGH * WIDE, EVERY = 61 };

static model *pocket;
static device *cpu;

static json_t *expected(void)
{
    json_error_t why;
    json_t *file = json_load_file(fixture_path("tiles.json"), 0, &why);
    if (!file) fail_msg("%s", why.text);
    return file;
}

/* Tiles of three sizes one way, of two the other. */
static void test_decode(void **state)
{
    (void)state;
    pipeline on = {cpu, pocket};
    error e = {0};
    image out;
    tiled_decoder *n;
    decoder *whole;
    static float latent[4 * SPACE];
    rng r;
    json_t *file = expected(), *wanted = json_object_get(file, "picture");
    rng_seed(&r, 5);
    rng_randn(&r, latent, 4 * SPACE);
    assert_true(tiles_needed(pocket, HIGH, WIDE));
    assert_true(tiles_needed(pocket, 16, 17) && tiles_needed(pocket, 17, 16));
    assert_false(tiles_needed(pocket, 16, 16));
    if (!tiled_decoder_open(&n, &on, HIGH, WIDE, &e) || !tiled_decoder_run(n, latent, &out, &e))
        fail_msg("%s", e.text);
    assert_int_equal(out.width, 8 * WIDE);
    assert_int_equal(out.height, 8 * HIGH);
    for (size_t i = 0; i < json_array_size(wanted); i++) {
        double v = json_number_value(json_array_get(wanted, i)) / 2 + 0.5;
        v = 255 * fmin(fmax(v, 0), 1);
        if (!(fabs(out.pixels[EVERY * i] - v) < 0.6))
            fail_msg("%zu: %d, not %g", i, out.pixels[EVERY * i], v);
    }
    assert_int_equal(json_array_size(wanted), (64 * 3 * SPACE + EVERY - 1) / EVERY);
    assert_true(tiled_decoder_is(n, HIGH, WIDE) && !tiled_decoder_is(n, WIDE, HIGH));
    assert_true(decoder_open(&whole, &on, HIGH, WIDE, &e));
    assert_true(tiled_decoder_bytes(n) < decoder_bytes(whole));
    decoder_close(&whole);
    tiled_decoder_close(&n);
    image_free(&out);
    json_decref(file);
}

static void test_encode(void **state)
{
    (void)state;
    pipeline on = {cpu, pocket};
    error e = {0};
    image m;
    static float pixels[64 * 3 * SPACE], moment[8 * SPACE];
    json_t *file = expected(), *wanted = json_object_get(file, "moments");
    assert_true(image_new(&m, 8 * WIDE, 8 * HIGH, &e));
    for (int i = 0; i < 64 * 3 * SPACE; i++) {
        int x = i / 3 % (8 * WIDE), y = i / 3 / (8 * WIDE);
        m.pixels[i] = (uint8_t)((x * 7 + y * 5 + i % 3 * 60) % 256);
    }
    encode_pixels(&m, 0, 0, m.width, m.height, pixels);
    if (!tiles_encode(&on, pixels, m.width, m.height, moment, moment + 4 * SPACE, "a test", &e))
        fail_msg("%s", e.text);
    for (size_t i = 0; i < json_array_size(wanted); i++) {
        double v = json_number_value(json_array_get(wanted, i));
        if (!(fabs((double)moment[EVERY * i] - v) < 2e-4 * fmax(1, fabs(v))))
            fail_msg("%zu: %g, not %g", i, (double)moment[EVERY * i], v);
    }
    assert_int_equal(json_array_size(wanted), (8 * SPACE + EVERY - 1) / EVERY);
    image_free(&m);
    json_decref(file);
}

static void test_refused(void **state)
{
    (void)state;
    pipeline on = {cpu, pocket};
    error e = {0};
    image out;
    tiled_decoder *n;
    static float latent[4 * SPACE];
    int own = pocket->vae.sample_size;
    pocket->vae.sample_size = 144; /* 18 latents */
    assert_true(tiled_decoder_open(&n, &on, HIGH, WIDE, &e));
    assert_false(tiled_decoder_run(n, latent, &out, &e));
    assert_non_null(strstr(e.text, "tiles of 144 (the autoencoder's sample_size) cannot overlap"));
    assert_int_equal(e.code, ERROR_MODEL);
    tiled_decoder_close(&n);
    pocket->vae.sample_size = own;
}

static int open_pocket(void **state)
{
    (void)state;
    error e = {0};
    bool ok = model_open(&pocket, SOURCE_DIR "/models/pocket", NULL, NULL, &e) &&
              device_open(&cpu, test_device(), &(device_options){.threads = 2}, &e);
    if (!ok) print_error("%s\n", e.text);
    return ok ? 0 : -1;
}

static int close_pocket(void **state)
{
    (void)state;
    device_close(&cpu);
    model_close(&pocket);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, open_pocket, close_pocket);
}
