/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_product: times the products of Stable Diffusion 1.x on this machine's cpu device, one line
 * per shape with its effective GFLOP/s (those of the direct sum). Usage: bench_product [threads]
 * [f32|bf16] [only names that contain this]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "operands.h"

struct shape {
    const char *name;
    op_kind kind;
    int64_t batch, side, c, o, k; /* linear: side rows */
    int stride;
};

static const struct shape shapes[] = {
    {"conv 320@64", OP_CONV2D, 2, 64, 320, 320, 3, 1},
    {"conv 640@32", OP_CONV2D, 2, 32, 640, 640, 3, 1},
    {"conv 1280@16", OP_CONV2D, 2, 16, 1280, 1280, 3, 1},
    {"conv 1280@8", OP_CONV2D, 2, 8, 1280, 1280, 3, 1},
    {"conv 960-320@64", OP_CONV2D, 2, 64, 960, 320, 3, 1},
    {"conv 1920-640@32", OP_CONV2D, 2, 32, 1920, 640, 3, 1},
    {"conv 2560-1280@16", OP_CONV2D, 2, 16, 2560, 1280, 3, 1},
    {"conv 640@64 upsampled", OP_CONV2D, 2, 64, 640, 640, 3, 1},
    {"conv 1280@32 upsampled", OP_CONV2D, 2, 32, 1280, 1280, 3, 1},
    {"conv 1280@16 upsampled", OP_CONV2D, 2, 16, 1280, 1280, 3, 1},
    {"conv 4-320@64", OP_CONV2D, 2, 64, 4, 320, 3, 1},
    {"conv 320-4@64", OP_CONV2D, 2, 64, 320, 4, 3, 1},
    {"conv1x1 960-320@64", OP_CONV2D, 2, 64, 960, 320, 1, 1},
    {"vae 128@512", OP_CONV2D, 1, 512, 128, 128, 3, 1},
    {"vae 256@512", OP_CONV2D, 1, 512, 256, 256, 3, 1},
    {"vae 512@256", OP_CONV2D, 1, 256, 512, 512, 3, 1},
    {"vae 512@256 upsampled", OP_CONV2D, 1, 256, 512, 512, 3, 1},
    {"vae 512@64", OP_CONV2D, 1, 64, 512, 512, 3, 1},
    {"vae 128-3@512", OP_CONV2D, 1, 512, 128, 3, 3, 1},
    {"linear 8192x320x320", OP_LINEAR, 1, 8192, 320, 320, 1, 1},
    {"linear 8192x320x2560", OP_LINEAR, 1, 8192, 320, 2560, 1, 1},
    {"linear 8192x1280x320", OP_LINEAR, 1, 8192, 1280, 320, 1, 1},
    {"linear 2048x640x640", OP_LINEAR, 1, 2048, 640, 640, 1, 1},
    {"linear 512x1280x1280", OP_LINEAR, 1, 512, 1280, 1280, 1, 1},
    {"linear 128x1280x1280", OP_LINEAR, 1, 128, 1280, 1280, 1, 1},
    {"linear 154x768x320", OP_LINEAR, 1, 154, 768, 320, 1, 1},
    {"linear 2x1280x1280", OP_LINEAR, 1, 2, 1280, 1280, 1, 1},
    {"grad_x 320@64", OP_CONV2D_GRAD_X, 2, 64, 320, 320, 3, 1},
    {"grad_x 1280@16", OP_CONV2D_GRAD_X, 1, 16, 1280, 1280, 3, 1},
    {"grad_x 1280@8", OP_CONV2D_GRAD_X, 1, 8, 1280, 1280, 3, 1},
    {"grad_x 320@64 / 2", OP_CONV2D_GRAD_X, 1, 64, 320, 320, 3, 2},
    {"grad_x 1280@16 / 2", OP_CONV2D_GRAD_X, 1, 16, 1280, 1280, 3, 2},
    {"grad_x linear 4096x2560x320", OP_LINEAR_GRAD_X, 1, 4096, 320, 2560, 1, 1},
    {"grad_x linear 256x10240x1280", OP_LINEAR_GRAD_X, 1, 256, 1280, 10240, 1, 1},
    {"grad_x linear 256x1280x1280", OP_LINEAR_GRAD_X, 1, 256, 1280, 1280, 1, 1},
    {"grad_w 320@64", OP_CONV2D_GRAD_W, 1, 64, 320, 320, 3, 1},
    {"grad_w 640-320@64", OP_CONV2D_GRAD_W, 1, 64, 640, 320, 3, 1},
    {"grad_w 960-320@64", OP_CONV2D_GRAD_W, 1, 64, 960, 320, 3, 1},
    {"grad_w 640@32", OP_CONV2D_GRAD_W, 1, 32, 640, 640, 3, 1},
    {"grad_w 1280-640@32", OP_CONV2D_GRAD_W, 1, 32, 1280, 640, 3, 1},
    {"grad_w 1920-640@32", OP_CONV2D_GRAD_W, 1, 32, 1920, 640, 3, 1},
    {"grad_w 1280@16", OP_CONV2D_GRAD_W, 1, 16, 1280, 1280, 3, 1},
    {"grad_w 2560-1280@16", OP_CONV2D_GRAD_W, 1, 16, 2560, 1280, 3, 1},
    {"grad_w 1280@8", OP_CONV2D_GRAD_W, 1, 8, 1280, 1280, 3, 1},
    {"grad_w 2560-1280@8", OP_CONV2D_GRAD_W, 1, 8, 2560, 1280, 3, 1},
    {"grad_w 4-320@64", OP_CONV2D_GRAD_W, 1, 64, 4, 320, 3, 1},
    {"grad_w 320-4@64", OP_CONV2D_GRAD_W, 1, 64, 320, 4, 3, 1},
    {"grad_w pocket 112@16", OP_CONV2D_GRAD_W, 4, 16, 112, 112, 3, 1},
    {"grad_w pocket 160@8", OP_CONV2D_GRAD_W, 4, 8, 160, 160, 3, 1},
    {"grad_w pocket 192@4", OP_CONV2D_GRAD_W, 4, 4, 192, 192, 3, 1},
    {"grad_w pocket 192@4, 1", OP_CONV2D_GRAD_W, 1, 4, 192, 192, 3, 1},
    {"grad_w linear 4096x320x320", OP_LINEAR_GRAD_W, 1, 4096, 320, 320, 1, 1},
    {"grad_w linear 4096x320x2560", OP_LINEAR_GRAD_W, 1, 4096, 320, 2560, 1, 1},
    {"grad_w linear 4096x1280x320", OP_LINEAR_GRAD_W, 1, 4096, 1280, 320, 1, 1},
    {"grad_w linear 1024x640x5120", OP_LINEAR_GRAD_W, 1, 1024, 640, 5120, 1, 1},
    {"grad_w linear 1024x640x640", OP_LINEAR_GRAD_W, 1, 1024, 640, 640, 1, 1},
    {"grad_w linear 256x1280x10240", OP_LINEAR_GRAD_W, 1, 256, 1280, 10240, 1, 1},
    {"grad_w linear 256x1280x1280", OP_LINEAR_GRAD_W, 1, 256, 1280, 1280, 1, 1},
    {"grad_w linear 77x768x320", OP_LINEAR_GRAD_W, 1, 77, 768, 320, 1, 1},
    {"grad_w linear 1x1280x1280", OP_LINEAR_GRAD_W, 1, 1, 1280, 1280, 1, 1},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static bool is_linear(const struct shape *s)
{
    return s->kind == OP_LINEAR || s->kind == OP_LINEAR_GRAD_X || s->kind == OP_LINEAR_GRAD_W;
}

static array map_array(const struct shape *s, int64_t side, int64_t channels, float *data,
                       dtype type)
{
    if (is_linear(s))
        return operand_at((array){.type = type, .rank = 2, .dim = {s->side, channels}}, data);
    return operand_at((array){.type = type, .rank = 4, .dim = {s->batch, side, side, channels}},
                      data);
}

static op_call call_of(const struct shape *s, weight *w, float *x, float *y, float *dw, dtype type)
{
    array xa = map_array(s, s->side, s->c, x, type);
    array ya = map_array(s, s->side / s->stride, s->o, y, DTYPE_F32);
    array wa = {.w = w, .type = w->type, .rank = w->rank};
    memcpy(wa.dim, w->dim, sizeof wa.dim);
    op_call call = {.kind = s->kind, .in_count = 2, .out_count = 1};
    call.params = (op_params){.doubled = strstr(s->name, "upsampled") != NULL,
                              .stride = s->stride,
                              .pad_top = (int)(s->k / 2),
                              .pad_left = (int)(s->k / 2),
                              .pad_bottom = (int)(s->k / 2),
                              .pad_right = (int)(s->k / 2)};
    call.in[0] = xa;
    call.in[1] = wa;
    call.out[0] = ya;
    if (s->kind == OP_CONV2D_GRAD_X || s->kind == OP_LINEAR_GRAD_X) {
        call.in[0] = ya;
        call.out[0] = xa;
    }
    if (s->kind == OP_CONV2D_GRAD_W || s->kind == OP_LINEAR_GRAD_W) {
        call.in[0] = ya;
        call.in[1] = xa;
        call.out[0] = wa;
        call.out[0] = operand_at(call.out[0], dw);
        call.out[0].type = DTYPE_F32;
    }
    return call;
}

static int bench(device *d, const struct shape *s)
{
    int64_t rows = is_linear(s) ? s->side : s->batch * s->side * s->side;
    size_t xs = (size_t)(rows * s->c) * 4, ys = (size_t)(rows * s->o) * 4;
    size_t ws = (size_t)(s->c * s->o * s->k * s->k) * 4;
    float *x = block_alloc(xs), *y = block_alloc(ys);
    float *data = block_alloc(ws), *dw = block_alloc(ws);
    weight w = {.name = s->name,
                .type = DTYPE_F32,
                .rank = is_linear(s) ? 2 : 4,
                .dim = {s->o, s->c, s->k, s->k},
                .data = data};
    weight_set set = {.item = &w, .count = 1};
    device_weights *weights = NULL;
    bool bf16 = d->compute == DTYPE_BF16 && s->kind == OP_LINEAR;
    op_call call = call_of(s, &w, x, y, dw, bf16 ? DTYPE_BF16 : DTYPE_F32);
    error e = {0};
    void *state = NULL;
    size_t scratch_size = 0;
    if (device_weights_open(d, &set, &weights, &e)) call.in[1].weights = weights;
    if (!weights || !x || !y || !data || !dw || !d->prepare(d, &call, &state, &scratch_size, &e) ||
        !d->bind(d, &(op_step){&call, state, s->name}, 1, &e)) {
        fprintf(stderr, "%s: %s\n", s->name, e.text);
        return 1;
    }
    for (size_t i = 0; i < ws / 4; i++) data[i] = (float)(i % 17) / 17 - 0.5f;
    for (size_t i = 0; i < xs / (bf16 ? 8 : 4); i++) x[i] = (float)(i % 13) / 13 - 0.5f;
    char *scratch = block_alloc(scratch_size + 1);
    double best = 1e9, start = clock_seconds();
    for (int i = 0; i < 3 || (i < 30 && clock_seconds() - start < 0.6); i++) {
        double t = clock_seconds();
        run_one(d, &call, state, scratch);
        t = clock_seconds() - t;
        if (i && t < best) best = t;
    }
    double flop = 2.0 * (double)(rows / (s->stride * s->stride) * s->c * s->o * s->k * s->k);
    printf("%-28s %9.3f ms %8.1f GFLOP/s   scratch %6.1f MB\n", s->name, best * 1e3,
           flop / best / 1e9, (double)scratch_size / 1e6);
    fflush(stdout);
    d->unprepare(d, &call, state);
    device_weights_close(&weights);
    block_free(scratch, scratch_size + 1);
    block_free(x, xs);
    block_free(y, ys);
    block_free(data, ws);
    block_free(dw, ws);
    return 0;
}

int main(int argc, char **argv)
{
    device *d = NULL;
    error e = {0};
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    dtype precision = argc > 2 && strcmp(argv[2], "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
    if (!device_open(&d, "cpu", &(device_options){.threads = threads, .precision = precision},
                     &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    printf("%s, %s\n", d->name, precision == DTYPE_BF16 ? "bf16" : "f32");
    int failed = 0;
    for (int i = 0; i < SHAPES; i++)
        if (argc < 4 || strstr(shapes[i].name, argv[3])) failed |= bench(d, &shapes[i]);
    device_close(&d);
    return failed;
}
