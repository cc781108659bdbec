/* SPDX-License-Identifier: Apache-2.0
 *
 * test_model_memory: what a picture of 512x512 takes of a GPU's memory at the size of Stable
 * Diffusion 1.5 in a half type: planned on the emulated card, without weights and arithmetic. The
 * weights of UNet and decoder stay; the networks' values take turns in one block. */
#include <math.h>

#include "model/model.h"
#include "support.h"

enum { SIDE = 64 };

/* The planned values, and the weights as they will be held. */
typedef struct need {
    double values, weights;
} need;

static need planned(device *d, graph *g, tensor *out)
{
    error e = {0};
    need n = {0};
    graph_output(g, out);
    if (!graph_plan(g, d, &e)) fail_msg("%s", e.text);
    n.values = (double)graph_bytes(g);
    for (size_t i = 0; i < graph_weight_count(g); i++) {
        const tensor *t = graph_weight_at(g, i);
        weight w = {.name = t->name, .type = DTYPE_F16, .rank = t->rank};
        memcpy(w.dim, t->dim, sizeof w.dim);
        n.weights += (double)device_copy_bytes(d, &w, WEIGHT_READ);
    }
    graph_close(&g);
    return n;
}

static graph *fresh(device *d)
{
    graph *g;
    error e = {0};
    if (!graph_open(&g, d->compute, &e)) fail_msg("%s", e.text);
    return g;
}

static need unet_need(device *d)
{
    unet_config c;
    unet_config_sd1(&c);
    graph *g = fresh(d);
    tensor *x = graph_input(g, "x", DTYPE_F32, 4, (int64_t[]){2, SIDE, SIDE, c.in_channels});
    tensor *t = graph_input(g, "t", DTYPE_F32, 1, (int64_t[]){2});
    tensor *text = graph_input(g, "text", DTYPE_F32, 3, (int64_t[]){2, 77, c.cross_dim});
    return planned(d, g, cast(g, unet_build(g, &c, x, t, text), DTYPE_F32));
}

static need decoder_need(device *d)
{
    vae_config c;
    vae_config_sd1(&c);
    graph *g = fresh(d);
    tensor *x = graph_input(g, "x", DTYPE_F32, 4, (int64_t[]){1, SIDE, SIDE, c.latent_channels});
    return planned(d, g, cast(g, vae_build_decoder(g, &c, x), DTYPE_F32));
}

static need text_need(device *d)
{
    clip_config c;
    clip_config_sd1(&c);
    graph *g = fresh(d);
    tensor *ids = graph_input(g, "ids", DTYPE_I32, 2, (int64_t[]){2, c.positions});
    return planned(d, g, cast(g, clip_build(g, &c, ids, 0), DTYPE_F32));
}

static void test_picture(void **state)
{
    const double mega = 1e6;
    device *d;
    error e = {0};
    (void)state;
    if (!device_open(&d, "cuda", &(device_options){.threads = 1, .precision = DTYPE_BF16}, &e))
        fail_msg("%s", e.text);
    need unet = unet_need(d), decoder = decoder_need(d), text = text_need(d);
    device_close(&d);
    double block = fmax(unet.values, decoder.values);
    double whole = unet.weights + decoder.weights + fmax(block, text.weights + text.values);
    printf("UNet %.0f and %.0f MB, decoder %.0f and %.0f, text %.0f and %.0f: %.0f MB\n",
           unet.weights / mega, unet.values / mega, decoder.weights / mega, decoder.values / mega,
           text.weights / mega, text.values / mega, whole / mega);
    assert_true(whole <= 2500 * mega);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_picture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
