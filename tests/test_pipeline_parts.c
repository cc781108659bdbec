/* SPDX-License-Identifier: Apache-2.0
 *
 * The pipeline's parts by themselves: orders of numbers, texts read together and alone, keys and
 * values that stay over predictions, fractional timesteps, a picture to latents and back, what is
 * said of bad weights. */
#include <math.h>
#include <pthread.h>

#include "pipeline/decode.h"
#include "pipeline/denoise.h"
#include "pipeline/encode.h"
#include "pipeline/fit.h"
#include "pipeline/layout.h"
#include "pipeline/text.h"
#include "foreign.h"
#include "support.h"
#include "toy.h"

static pipeline toy;
static model *opened;

enum { SIDE = 16, SPACE = SIDE * SIDE, MOST = 2 * SPACE * 4 };

static int set_up(void **state)
{
    error e = {0};
    char folder[1200];
    (void)state;
    snprintf(folder, sizeof folder, "%s/toy", scratch_dir());
    if (!toy_stable_diffusion(folder, &e) || !model_open(&opened, folder, NULL, NULL, &e) ||
        !device_open(&toy.device, test_device(), &(device_options){.threads = 2}, &e)) {
        print_error("%s\n", e.text);
        return -1;
    }
    toy.model = opened;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    model_close(&opened);
    device_close(&toy.device);
    return 0;
}

static void expect(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

static void test_layout(void **state)
{
    float planes[6] = {1, 2, 3, 10, 20, 30}, last[6], again[6];
    const float wanted[6] = {1, 10, 2, 20, 3, 30};
    (void)state;
    layout_channels_last(last, planes, 2, 3);
    assert_memory_equal(last, wanted, sizeof wanted);
    layout_planes(again, last, 2, 3);
    assert_memory_equal(again, planes, sizeof planes);
}

/* ---- text ---- */

static float *states_of(const int32_t *ids, int count, int clip_skip)
{
    const clip_config *c = &toy.model->clip;
    error e = {0};
    float *states = malloc((size_t)count * (size_t)c->positions * (size_t)c->hidden *
                           sizeof *states);
    assert_non_null(states);
    expect(text_encode(&toy, ids, count, clip_skip, states, &e), &e);
    return states;
}

static void test_texts_together(void **state)
{
    const clip_config *c = &toy.model->clip;
    int n = c->positions;
    size_t one = (size_t)n * (size_t)c->hidden, bytes = one * sizeof(float);
    int32_t ids[256];
    error e = {0};
    (void)state;
    assert_true(3 * n <= 256);
    expect(tokenizer_encode(toy.model->tokens, "a b", n, ids, NULL, &e) &&
               tokenizer_encode(toy.model->tokens, "", n, ids + n, NULL, &e) &&
               tokenizer_encode(toy.model->tokens, "c d e", n, ids + 2 * n, NULL, &e),
           &e);
    for (int skip = 0; skip < 2; skip++) {
        float *all = states_of(ids, 3, skip);
        for (int k = 0; k < 3; k++) {
            float *alone = states_of(ids + k * n, 1, skip);
            assert_true(samples_alike(toy.device, all + (size_t)k * one, alone, one));
            free(alone);
        }
        assert_memory_not_equal(all, all + 2 * one, bytes);
        free(all);
    }
}

/* ---- the network ---- */

static void fill(float *x, size_t n, int seed)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)sin(0.37 * (double)i + seed);
}

static float *text_by_formula(int batch, int seed, size_t *numbers)
{
    *numbers = (size_t)batch * (size_t)toy.model->clip.positions * (size_t)toy.model->clip.hidden;
    float *states = malloc(*numbers * sizeof *states);
    assert_non_null(states);
    fill(states, *numbers, seed);
    return states;
}

static void predict(denoiser *n, float t, float out[MOST])
{
    float x[MOST];
    error e = {0};
    fill(x, MOST, 1);
    expect(denoiser_run(n, x, t, out, "here", &e), &e);
}

static denoiser *denoiser_for(int batch, int seed)
{
    denoiser *n;
    size_t numbers;
    error e = {0};
    float *states = text_by_formula(batch, seed, &numbers);
    expect(denoiser_open(&n, &toy, batch, 1, 0, SIDE, SIDE, NULL, &e) &&
               denoiser_read(n, states, &e),
           &e);
    free(states);
    return n;
}

/* A text stays over predictions and over giving the memory back, and goes when another is read. */
static void test_text_stays(void **state)
{
    float first[MOST] = {0}, again[MOST] = {0};
    size_t numbers;
    error e = {0};
    (void)state;
    denoiser *n = denoiser_for(2, 3), *other = denoiser_for(2, 4);
    predict(n, 500, first);
    predict(n, 400, again);
    assert_memory_not_equal(first, again, sizeof first);
    predict(n, 500, again);
    assert_memory_equal(first, again, sizeof first);
    denoiser_release(n);
    predict(n, 500, again);
    assert_memory_equal(first, again, sizeof first);

    float *states = text_by_formula(2, 4, &numbers), wanted[MOST] = {0};
    expect(denoiser_read(n, states, &e), &e);
    free(states);
    predict(n, 500, again);
    predict(other, 500, wanted);
    assert_memory_not_equal(first, again, sizeof first);
    assert_memory_equal(wanted, again, sizeof wanted);
    denoiser_close(&n);
    denoiser_close(&other);
}

/* Between two timesteps lies another prediction, nearer to the nearer one. */
static void test_fractional_timestep(void **state)
{
    float at[3][MOST] = {{0}};
    double near = 0, far = 0;
    (void)state;
    denoiser *n = denoiser_for(1, 3);
    predict(n, 20, at[0]);
    predict(n, 20.25f, at[1]);
    predict(n, 21, at[2]);
    denoiser_close(&n);
    for (size_t i = 0; i < MOST / 2; i++) {
        near += fabs((double)at[1][i] - (double)at[0][i]);
        far += fabs((double)at[1][i] - (double)at[2][i]);
    }
    assert_true(near > 0 && near < far);
}

/* A batch's samples are what they are alone. */
static void test_batch(void **state)
{
    float pair[MOST] = {0}, alone[MOST] = {0}, x[MOST];
    size_t numbers, one = (size_t)(SPACE * toy.model->unet.in_channels);
    error e = {0};
    denoiser *both, *single;
    (void)state;
    float *states = text_by_formula(2, 3, &numbers);
    fill(x, MOST, 1);
    expect(denoiser_open(&both, &toy, 2, 1, 0, SIDE, SIDE, NULL, &e) &&
               denoiser_read(both, states, &e) &&
               denoiser_open(&single, &toy, 1, 1, 0, SIDE, SIDE, NULL, &e) &&
               denoiser_read(single, states + numbers / 2, &e) &&
               denoiser_run(both, x, 77, pair, "here", &e) &&
               denoiser_run(single, x + one, 77, alone, "here", &e),
           &e);
    assert_true(samples_alike(toy.device, pair + one, alone, one));
    free(states);
    denoiser_close(&both);
    denoiser_close(&single);
}

/* Samples under several texts each are what they are with one text, twice over. */
static void test_texts_of_a_sample(void **state)
{
    enum { SAMPLES = 2, TEXTS = 2 };
    float out[SAMPLES * TEXTS * MOST] = {0}, wanted[SAMPLES * TEXTS * MOST] = {0};
    float x[SAMPLES * MOST], twice[SAMPLES * TEXTS * MOST];
    size_t numbers, one = (size_t)(SPACE * toy.model->unet.in_channels), all = SAMPLES * TEXTS;
    error e = {0};
    denoiser *shared, *apart;
    (void)state;
    float *states = text_by_formula(SAMPLES * TEXTS, 3, &numbers);
    fill(x, SAMPLES * one, 1);
    for (size_t k = 0; k < all; k++) memcpy(twice + k * one, x + k / TEXTS * one, one * sizeof *x);
    expect(denoiser_open(&shared, &toy, SAMPLES, TEXTS, 0, SIDE, SIDE, NULL, &e) &&
               denoiser_read(shared, states, &e) &&
               denoiser_open(&apart, &toy, SAMPLES * TEXTS, 1, 0, SIDE, SIDE, NULL, &e) &&
               denoiser_read(apart, states, &e) &&
               denoiser_run(shared, x, 77.5f, out, "here", &e) &&
               denoiser_run(apart, twice, 77.5f, wanted, "here", &e),
           &e);
    for (size_t k = 0; k < all; k++)
        assert_true(samples_alike(toy.device, out + k * one, wanted + k * one, one));
    assert_memory_not_equal(out, out + one, one * sizeof *out);
    assert_true(denoiser_is(shared, SAMPLES, TEXTS, 0, SIDE, SIDE, NULL) &&
                !denoiser_is(shared, SAMPLES * TEXTS, 1, 0, SIDE, SIDE, NULL));
    free(states);
    denoiser_close(&shared);
    denoiser_close(&apart);
}

/* ---- pictures ---- */

static void test_image(void **state)
{
    int width, height, multiple, shape[3];
    image picture, back;
    encoder *in;
    decoder *out;
    error e = {0};
    (void)state;
    fit_size(toy.model, &width, &height, &multiple);
    fit_latents(toy.model, 0, 0, shape);
    size_t n = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2],
           pixels = (size_t)width * (size_t)height * 3;
    float *x = malloc(pixels * sizeof *x), *latent = malloc(2 * n * sizeof *latent);
    assert_true(x && latent && image_new(&picture, width, height, &e));
    for (size_t i = 0; i < pixels; i++) picture.pixels[i] = (uint8_t)(i * 7 % 256);
    encode_pixels(&picture, 0, 0, width, height, x);
    expect(decode_pixels(&back, x, width, height, &e), &e);
    assert_memory_equal(picture.pixels, back.pixels, pixels);
    image_free(&back);

    expect(encoder_open(&in, &toy, width, height, &e) &&
               encoder_run(in, x, latent, latent + n, "picture", &e),
           &e);
    for (size_t i = 0; i < n; i++) assert_true(isfinite(latent[i]) && latent[n + i] > 0);
    expect(decoder_open(&out, &toy, shape[1], shape[2], &e) && decoder_run(out, latent, &back, &e),
           &e);
    assert_int_equal(back.width, width);
    assert_int_equal(back.height, height);
    image_free(&back);
    image_free(&picture);
    encoder_close(&in);
    decoder_close(&out);
    free(x), free(latent);
}

/* ---- threads ---- */

/* All parts, by one host thread with a device of its own. */
typedef struct worker {
    device *device;
    bool ok;
    error e;
    float *states, *latent, *out;
    image picture;
} worker;

static void *work(void *user)
{
    worker *w = user;
    pipeline own = {.device = w->device, .model = toy.model};
    const clip_config *c = &toy.model->clip;
    int width, height, multiple;
    int32_t ids[256] = {0};
    float x[MOST];
    image made;
    encoder *in = NULL;
    denoiser *n = NULL;
    decoder *back = NULL;
    fit_size(toy.model, &width, &height, &multiple);
    float *pixels = malloc((size_t)width * (size_t)height * 3 * sizeof *pixels);
    w->states = calloc((size_t)c->positions * (size_t)c->hidden, sizeof *w->states);
    w->latent = calloc(MOST, sizeof *w->latent);
    w->out = calloc(MOST, sizeof *w->out);
    fill(x, MOST, 1);
    w->ok = pixels && w->states && w->latent && w->out && image_new(&made, width, height, &w->e);
    if (w->ok) {
        memset(made.pixels, 99, (size_t)width * (size_t)height * 3);
        encode_pixels(&made, 0, 0, width, height, pixels);
        image_free(&made);
    }
    w->ok = w->ok && text_encode(&own, ids, 1, 0, w->states, &w->e) &&
            encoder_open(&in, &own, width, height, &w->e) &&
            encoder_run(in, pixels, w->latent, w->latent + MOST / 2, "picture", &w->e) &&
            denoiser_open(&n, &own, 1, 1, 0, SIDE, SIDE, NULL, &w->e) &&
            denoiser_read(n, w->states, &w->e) &&
            denoiser_run(n, x, 33.5f, w->out, "here", &w->e) &&
            decoder_open(&back, &own, SIDE, SIDE, &w->e) &&
            decoder_run(back, w->latent, &w->picture, &w->e);
    encoder_close(&in);
    denoiser_close(&n);
    decoder_close(&back);
    free(pixels);
    return NULL;
}

static void worker_close(worker *w)
{
    free(w->states), free(w->latent), free(w->out);
    image_free(&w->picture);
}

static void test_threads(void **state)
{
    enum { THREADS = 3 };
    worker alone = {.device = toy.device}, side[THREADS] = {{0}};
    pthread_t host[THREADS];
    const clip_config *c = &toy.model->clip;
    error e = {0};
    (void)state;
    work(&alone);
    expect(alone.ok, &alone.e);
    for (int i = 0; i < THREADS; i++)
        expect(device_open_beside(&side[i].device, toy.device, 1, &e), &e);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&host[i], NULL, work, &side[i]), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(host[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        expect(side[i].ok, &side[i].e);
        assert_memory_equal(side[i].states, alone.states,
                            (size_t)c->positions * (size_t)c->hidden * sizeof(float));
        assert_memory_equal(side[i].latent, alone.latent, MOST * sizeof(float));
        assert_memory_equal(side[i].out, alone.out, MOST * sizeof(float));
        assert_memory_equal(side[i].picture.pixels, alone.picture.pixels,
                            (size_t)alone.picture.width * (size_t)alone.picture.height * 3);
        device_close(&side[i].device);
        worker_close(&side[i]);
    }
    worker_close(&alone);
}

/* ---- what is said of values that are not finite ---- */

static void test_blame(void **state)
{
    size_t numbers;
    float out[MOST], x[MOST], *states = text_by_formula(2, 3, &numbers);
    error e = {0};
    denoiser *n;
    (void)state;
    fill(x, MOST, 1);
    x[5] = NAN;
    expect(denoiser_open(&n, &toy, 2, 1, 0, SIDE, SIDE, NULL, &e) && denoiser_read(n, states, &e),
           &e);
    assert_false(denoiser_run(n, x, 5, out, "step 3", &e));
    assert_int_equal(e.code, ERROR_NUMERIC);
    assert_memory_equal(e.text, "step 3: input latents", 21);
    denoiser_close(&n);
    free(states);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),     cmocka_unit_test(test_texts_together),
        cmocka_unit_test(test_text_stays), cmocka_unit_test(test_fractional_timestep),
        cmocka_unit_test(test_batch),      cmocka_unit_test(test_texts_of_a_sample),
        cmocka_unit_test(test_image),      cmocka_unit_test(test_threads),
        cmocka_unit_test(test_blame),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
