/* SPDX-License-Identifier: Apache-2.0
 *
 * The networks against diffusers' values (weights and inputs by formula, through the real graph and
 * the CPU), their parameter counts at full size, and the text's cached keys and values. */
#include "foreign.h"
#include "model_support.h"

static size_t parameters(const bench *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->set.count; i++)
        n += (size_t)product(b->set.item[i].rank, b->set.item[i].dim);
    return n;
}

/* ---- golden values ---- */

typedef struct golden {
    int n;
    double sum, abs, first[4], last;
} golden;

static void near(double is, double should, double scale, const char *what)
{
    if (fabs(is - should) > 1e-4 * scale) fail_msg("%s is %.7f, should be %.7f", what, is, should);
}

/* y: PyTorch's order. */
static void compare(const float *y, const golden *want)
{
    double sum = 0, abs = 0, largest = 0;
    for (int i = 0; i < want->n; i++) {
        sum += y[i];
        abs += fabs(y[i]);
        largest = fmax(largest, fabs(y[i]));
    }
    near(sum, want->sum, want->abs, "sum");
    near(abs, want->abs, want->abs, "sum of absolute values");
    for (int i = 0; i < 4; i++) near(y[i], want->first[i], largest, "an early value");
    near(y[want->n - 1], want->last, largest, "the last value");
}

/* Reads [1,H,W,C]; channels [from, from+count) in PyTorch's order. */
static void read_planes(graph *g, tensor *t, int64_t from, int64_t count, float *out)
{
    int64_t area = t->dim[1] * t->dim[2], c = t->dim[3];
    float *y = malloc((size_t)elements(t) * sizeof *y);
    assert_true(graph_read(g, t, y, NULL));
    for (int64_t k = 0; k < count; k++)
        for (int64_t i = 0; i < area; i++) out[k * area + i] = y[i * c + from + k];
    free(y);
}

static const unet_config golden_unet = {
    .conditional = true,
    .in_channels = 4,
    .out_channels = 4,
    .sample_size = 8,
    .blocks = 2,
    .channels = {32, 64},
    .layers = {1, 1},
    .down_attention = {true, false},
    .up_attention = {false, true},
    .heads = {4, 4},
    .transformer_layers = {1, 1},
    .cross_dim = 16,
    .mid_block = true,
    .mid_attention = true,
    .groups = 32,
    .eps = 1e-5f,
    .downsample_padding = 1,
    .flip_sin_to_cos = true,
};

static const golden unet_values = {
    256, 16.174059, 69.987653, {0.068810, 0.102932, 0.077012, 0.004816}, -0.075104};

static void conditional_unet(void **state)
{
    (void)state;
    bench b = bench_open();
    tensor *x = graph_input(b.g, "x", DTYPE_F32, 4, (int64_t[]){1, 8, 8, 4});
    tensor *t = graph_input(b.g, "t", DTYPE_F32, 1, (int64_t[]){1});
    tensor *context = graph_input(b.g, "context", DTYPE_F32, 3, (int64_t[]){1, 5, 16});
    tensor *y = unet_build(b.g, &golden_unet, x, t, context);
    graph_output(b.g, y);
    bench_ready(&b);
    assert_int_equal(parameters(&b), 787844);
    float time = 37, out[256];
    write_wave(b.g, x, 0.21);
    assert_true(graph_write(b.g, t, &time, NULL));
    write_wave(b.g, context, 0.21);
    bench_run(&b);
    read_planes(b.g, y, 0, 4, out);
    compare(out, &unet_values);
    bench_close(&b);
}

/* Keys and values computed once, handed to a second graph: the same picture. */
static void cached_text(void **state)
{
    (void)state;
    enum { MOST = 32 };
    size_t count = unet_text_count(&golden_unet);
    assert_int_equal(count, 2 * (1 + 1 + 2));
    bench text = bench_open(), b = bench_open();
    tensor *context = graph_input(text.g, "context", DTYPE_F32, 3, (int64_t[]){1, 5, 16});
    tensor *kv[MOST], *in[MOST];
    unet_build_text(text.g, &golden_unet, context, kv);
    for (size_t i = 0; i < count; i++) graph_output(text.g, kv[i]);
    tensor *x = graph_input(b.g, "x", DTYPE_F32, 4, (int64_t[]){1, 8, 8, 4});
    tensor *t = graph_input(b.g, "t", DTYPE_F32, 1, (int64_t[]){1});
    for (size_t i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "kv%zu", i);
        in[i] = graph_input(b.g, name, kv[i]->type, kv[i]->rank, kv[i]->dim);
    }
    tensor *y = unet_build_cached(b.g, &golden_unet, x, t, in, 1, NULL, NULL);
    graph_output(b.g, y);
    bench_ready(&text);
    bench_ready(&b);
    assert_int_equal(text.set.count, count);
    assert_int_equal(parameters(&text) + parameters(&b), 787844);
    write_wave(text.g, context, 0.21);
    bench_run(&text);
    for (size_t i = 0; i < count; i++) {
        float *value = malloc((size_t)elements(kv[i]) * sizeof *value);
        assert_true(graph_read(text.g, kv[i], value, NULL));
        assert_true(graph_write(b.g, in[i], value, NULL));
        free(value);
    }
    float time = 37, out[256];
    write_wave(b.g, x, 0.21);
    assert_true(graph_write(b.g, t, &time, NULL));
    bench_run(&b);
    read_planes(b.g, y, 0, 4, out);
    compare(out, &unet_values);
    bench_close(&text);
    bench_close(&b);
}

static void unconditional_unet(void **state)
{
    (void)state;
    static const unet_config c = {
        .in_channels = 3,
        .out_channels = 3,
        .sample_size = 8,
        .blocks = 2,
        .channels = {32, 64},
        .layers = {1, 1},
        .down_attention = {false, true},
        .up_attention = {true, false},
        .mid_block = true,
        .mid_attention = true,
        .groups = 32,
        .eps = 1e-6f,
        .freq_shift = 1,
    };
    static const golden want = {
        192, 18.811285, 29.348179, {0.116221, 0.074325, 0.070110, 0.060590}, 0.240279};
    bench b = bench_open();
    tensor *x = graph_input(b.g, "x", DTYPE_F32, 4, (int64_t[]){1, 8, 8, 3});
    tensor *t = graph_input(b.g, "t", DTYPE_F32, 1, (int64_t[]){1});
    tensor *y = unet_build(b.g, &c, x, t, NULL);
    graph_output(b.g, y);
    bench_ready(&b);
    assert_int_equal(parameters(&b), 702499);
    float time = 37, out[192];
    write_wave(b.g, x, 0.21);
    assert_true(graph_write(b.g, t, &time, NULL));
    bench_run(&b);
    read_planes(b.g, y, 0, 3, out);
    compare(out, &want);
    bench_close(&b);
}

static void autoencoder(void **state)
{
    (void)state;
    static const vae_config c = {
        .in_channels = 3,
        .out_channels = 3,
        .latent_channels = 4,
        .blocks = 2,
        .channels = {32, 64},
        .layers = 1,
        .groups = 32,
        .scaling_factor = 1,
        .quant_conv = true,
        .post_quant_conv = true,
        .mid_attention = true,
    };
    static const golden mean = {
        256, 22.617085, 69.464907, {0.309748, 0.441105, 0.431920, 0.346689}, 0.254913};
    static const golden logvar = {
        256, -9.237203, 55.032526, {0.224542, 0.333833, 0.282596, 0.222677}, 0.117846};
    static const golden picture = {
        768, 22.971716, 107.468714, {0.184334, 0.258476, 0.283290, 0.245423}, -0.006235};
    bench b = bench_open();
    tensor *image = graph_input(b.g, "image", DTYPE_F32, 4, (int64_t[]){1, 16, 16, 3});
    tensor *latent = graph_input(b.g, "latent", DTYPE_F32, 4, (int64_t[]){1, 8, 8, 4});
    tensor *encoded = vae_build_encoder(b.g, &c, image),
           *decoded = vae_build_decoder(b.g, &c, latent);
    graph_output(b.g, encoded);
    graph_output(b.g, decoded);
    bench_ready(&b);
    assert_int_equal(parameters(&b), 658375);
    write_wave(b.g, image, 0.21);
    write_wave(b.g, latent, 0.21);
    bench_run(&b);
    float out[768];
    read_planes(b.g, encoded, 0, 4, out);
    compare(out, &mean);
    read_planes(b.g, encoded, 4, 4, out);
    compare(out, &logvar);
    read_planes(b.g, decoded, 0, 3, out);
    compare(out, &picture);
    bench_close(&b);
}

static void text_encoder(void **state)
{
    (void)state;
    static const clip_config c = {.hidden = 32,
                                  .intermediate = 128,
                                  .layers = 2,
                                  .heads = 4,
                                  .positions = 8,
                                  .vocab = 64,
                                  .eps = 1e-5f,
                                  .activation = UNARY_QUICK_GELU};
    static const golden want[2] = {
        {256, 2.678976, 218.074392, {-1.065042, -2.050620, -0.406863, -0.389023}, -1.569733},
        {256, 2.357024, 225.271725, {-1.274856, -1.877932, -0.677225, -0.246301}, -1.484302},
    };
    static const int32_t ids[8] = {62, 5, 17, 3, 63, 63, 63, 63};
    for (int skip_layers = 0; skip_layers < 2; skip_layers++) {
        bench b = bench_open();
        tensor *in = graph_input(b.g, "ids", DTYPE_I32, 2, (int64_t[]){1, 8});
        tensor *y = clip_build(b.g, &c, in, skip_layers);
        graph_output(b.g, y);
        bench_ready(&b);
        assert_true(graph_write(b.g, in, ids, NULL));
        bench_run(&b);
        float out[256];
        assert_true(graph_read(b.g, y, out, NULL));
        compare(out, &want[skip_layers]);
        bench_close(&b);
    }
}

/* Odd sides: every upsampler goes to its skip's size, and any side works. */
static void odd_sizes(void **state)
{
    (void)state;
    bench b = bench_open();
    tensor *x = graph_input(b.g, "x", DTYPE_F32, 4, (int64_t[]){1, 5, 7, 4});
    tensor *t = graph_input(b.g, "t", DTYPE_F32, 1, (int64_t[]){1});
    tensor *context = graph_input(b.g, "context", DTYPE_F32, 3, (int64_t[]){1, 5, 16});
    tensor *y = unet_build(b.g, &golden_unet, x, t, context);
    assert_int_equal(y->dim[1], 5);
    assert_int_equal(y->dim[2], 7);
    graph_output(b.g, y);
    bench_ready(&b);
    /* diffusers 0.42, same weights, x = cos(0.21 i), t 37 */
    static const golden want = {
        140, 2.880827, 24.489054, {0.127154, 0.157042, 0.105369, 0.003757}, 0.009243};
    float time = 37, out[140];
    write_wave(b.g, x, 0.21);
    assert_true(graph_write(b.g, t, &time, NULL));
    write_wave(b.g, context, 0.21);
    bench_run(&b);
    read_planes(b.g, y, 0, 4, out);
    compare(out, &want);
    bench_close(&b);
}

/* ---- batches ---- */

enum {
    BATCH = 5,
    UNET_WIDTH = 6,
    UNET_HEIGHT = 5,
    UNET_SIZE = UNET_WIDTH * UNET_HEIGHT * 4,
    TEXT_SIZE = 5 * 16
};

/* Samples [first, first + batch) of BATCH through the UNet on one instruction set. */
static void unet_samples(const char *level, int threads, int first, int batch, float *out)
{
    bench b = {.fill = fill_scattered};
    error e = {0};
    device_options o = {.threads = threads, .level = level};
    check(device_open(&b.d, test_device(), &o, &e) && graph_open(&b.g, DTYPE_F32, &e), &e);
    tensor *x = graph_input(b.g, "x", DTYPE_F32, 4, (int64_t[]){batch, UNET_HEIGHT, UNET_WIDTH, 4});
    tensor *t = graph_input(b.g, "t", DTYPE_F32, 1, (int64_t[]){batch});
    tensor *context = graph_input(b.g, "context", DTYPE_F32, 3, (int64_t[]){batch, 5, 16});
    tensor *y = unet_build(b.g, &golden_unet, x, t, context);
    graph_output(b.g, y);
    bench_ready(&b);
    float map[BATCH * UNET_SIZE], time[BATCH], text[BATCH * TEXT_SIZE];
    for (int i = 0; i < batch * UNET_SIZE; i++) map[i] = (float)cos(0.21 * (i + first * UNET_SIZE));
    for (int i = 0; i < batch; i++) time[i] = (float)(37 + 100 * (first + i));
    for (int i = 0; i < batch * TEXT_SIZE; i++)
        text[i] = (float)sin(0.17 * (i + first * TEXT_SIZE));
    assert_true(graph_write(b.g, x, map, NULL));
    assert_true(graph_write(b.g, t, time, NULL));
    assert_true(graph_write(b.g, context, text, NULL));
    bench_run(&b);
    assert_true(graph_read(b.g, y, out, NULL));
    bench_close(&b);
}

/* Deep maps are of 3 x 3, where what is cheapest depends on the batch.
 * A sample has the same bytes alone, in a pair and among others: pictures may share an evaluation.
 */
static void batch_of_any_size(void **state)
{
    (void)state;
    static const char *const levels[] = {"plain", "avx2", "avx512"};
    for (int i = 0; i < 3; i++) {
        device *d = NULL;
        error e = {0};
        device_options o = {.threads = 1, .level = levels[i]};
        if (!device_open(&d, test_device(), &o, &e)) continue;
        static float all[BATCH * UNET_SIZE], some[BATCH * UNET_SIZE];
        unet_samples(levels[i], 2, 0, BATCH, all);
        for (int batch = 1; batch <= 2; batch++)
            for (int first = 0; first + batch <= BATCH; first += batch)
                unet_samples(levels[i], 1, first, batch, some + first * UNET_SIZE);
        assert_true(samples_alike(d, all, some, (size_t)4 * UNET_SIZE));
        unet_samples(levels[i], 1, BATCH - 1, 1, some + (BATCH - 1) * UNET_SIZE);
        assert_true(samples_alike(d, all, some, (size_t)BATCH * UNET_SIZE));
        device_close(&d);
    }
}

/* ---- full sizes ---- */

static void count(graph *g, size_t tensors, long long want)
{
    error e = {0};
    check(graph_recorded(g, &e), &e);
    long long n = 0;
    for (size_t i = 0; i < graph_weight_count(g); i++) n += elements(graph_weight_at(g, i));
    assert_int_equal(graph_weight_count(g), tensors);
    assert_true(n == want);
    graph_close(&g);
}

static graph *new_graph(void)
{
    graph *g;
    error e = {0};
    check(graph_open(&g, DTYPE_F32, &e), &e);
    return g;
}

static graph *record_unet(const unet_config *c, int64_t side)
{
    graph *g = new_graph();
    tensor *x = graph_input(g, "x", DTYPE_F32, 4, (int64_t[]){1, side, side, c->in_channels});
    tensor *t = graph_input(g, "t", DTYPE_F32, 1, (int64_t[]){1});
    tensor *context = c->conditional ? graph_input(g, "context", DTYPE_F32, 3,
                                                   (int64_t[]){1, 77, c->cross_dim})
                                     : NULL;
    unet_build(g, c, x, t, context);
    return g;
}

static void full_size_counts(void **state)
{
    (void)state;
    unet_config unet;
    vae_config vae;
    clip_config clip;
    unet_config_sd1(&unet);
    vae_config_sd1(&vae);
    clip_config_sd1(&clip);
    count(record_unet(&unet, 64), 686, 859520964);
    assert_int_equal(unet_text_count(&unet), 32);
    graph *g = new_graph();
    vae_build_encoder(g, &vae, graph_input(g, "image", DTYPE_F32, 4, (int64_t[]){1, 64, 64, 3}));
    vae_build_decoder(g, &vae, graph_input(g, "latent", DTYPE_F32, 4, (int64_t[]){1, 8, 8, 4}));
    count(g, 248, 83653863);
    g = new_graph();
    clip_build(g, &clip, graph_input(g, "ids", DTYPE_I32, 2, (int64_t[]){1, 77}), 0);
    count(g, 196, 123060480);
    unet_config cifar = {
        .in_channels = 3,
        .out_channels = 3,
        .blocks = 4,
        .channels = {128, 256, 256, 256},
        .layers = {2, 2, 2, 2},
        .down_attention = {false, true},
        .up_attention = {false, false, true},
        .mid_block = true,
        .mid_attention = true,
        .groups = 32,
        .eps = 1e-6f,
        .freq_shift = 1,
    };
    count(record_unet(&cifar, 32), 328, 35746307);
    unet_config cat = {
        .in_channels = 3,
        .out_channels = 3,
        .blocks = 6,
        .channels = {128, 128, 256, 256, 512, 512},
        .layers = {2, 2, 2, 2, 2, 2},
        .down_attention = {[4] = true},
        .up_attention = {[1] = true},
        .mid_block = true,
        .mid_attention = true,
        .groups = 32,
        .eps = 1e-6f,
        .freq_shift = 1,
    };
    count(record_unet(&cat, 64), 450, 113673219);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditional_unet),   cmocka_unit_test(cached_text),
        cmocka_unit_test(unconditional_unet), cmocka_unit_test(autoencoder),
        cmocka_unit_test(text_encoder),       cmocka_unit_test(odd_sizes),
        cmocka_unit_test(batch_of_any_size),  cmocka_unit_test(full_size_counts),
    };
    return cmocka_run_group_tests_name("networks", tests, NULL, NULL);
}
