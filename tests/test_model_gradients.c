/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients of whole toy networks with respect to every weight, against torch autograd in float64
 * (tests/fixtures/model/gradients.txt, made by tools/fixtures/model.py). Per tensor four numbers
 * are compared: the largest absolute value, two dot products with waves, the middle value. In half
 * types the gradients are those of float32 within their rounding; in bfloat16 those of every weight
 * of a training step, text encoder included, are as near as torch's autocast has them (rounded.txt,
 * by the same script). */
#include "model_support.h"

typedef struct row {
    char network[8], name[160];
    double largest, dot[2], middle;
} row;
typedef struct rows {
    row item[512];
    int count;
    double loss, largest;
} rows;

/* Relative, of numbers in float32; in bfloat16 each operand of a product is off by up to 1/512, in
 * float16 by an eighth of that. */
static double tolerance_of(dtype precision)
{
    return precision == DTYPE_F32 ? 1e-4 : precision == DTYPE_BF16 ? 0.1 : 0.1 / 8;
}

/* The rows of one network, and its loss. */
static rows *read_rows(const char *network)
{
    rows *r = calloc(1, sizeof *r);
    FILE *f = fopen(fixture_path("model/gradients.txt"), "r");
    assert_non_null(f);
    char line[400];
    while (fgets(line, sizeof line, f)) {
        row *x = &r->item[r->count];
        char word[8];
        double loss;
        if (sscanf(line, "%7s loss %lf", word, &loss) == 2) {
            if (!strcmp(word, network)) r->loss = loss;
        } else if (sscanf(line, "%7s %159s %lf %lf %lf %lf", x->network, x->name, &x->largest,
                          &x->dot[0], &x->dot[1], &x->middle) == 6 &&
                   !strcmp(x->network, network)) {
            r->largest = fmax(r->largest, x->largest);
            r->count++;
        }
    }
    fclose(f);
    return r;
}

/* Returns the error relative to the tensor's largest value. Where that is zero but for rounding (a
 * key's bias in front of a softmax) the network's largest stands in. */
static double compare(const row *want, double network_largest, const float *g, int64_t n)
{
    double largest = 0, dot[2] = {0, 0}, length = sqrt((double)n);
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(g[i]));
        dot[0] += g[i] * cos(0.21 * (double)i + 0.5);
        dot[1] += g[i] * sin(0.37 * (double)i + 0.2);
    }
    double scale = fmax(want->largest, 1e-3 * network_largest);
    double worst = fabs(largest - want->largest) / scale;
    worst = fmax(worst, fabs(g[n / 2] - want->middle) / scale);
    for (int k = 0; k < 2; k++) worst = fmax(worst, fabs(dot[k] - want->dot[k]) / (scale * length));
    return worst;
}

typedef struct gradients {
    float *value;
    size_t count;
} gradients; /* of all weights; to be freed */

/* Gradients of loss for every weight of the recorded network; `write` fills the inputs. */
static gradients check_gradients(bench *b, tensor *loss, const char *network,
                                 void (*write)(bench *, void *), void *inputs)
{
    rows *want = read_rows(network);
    gradients all = {0};
    double tolerance = tolerance_of(b->d->weight_type);
    size_t count = graph_weight_count(b->g);
    assert_int_equal(count, want->count);
    tensor **of = calloc(count, sizeof *of), **grad = calloc(count, sizeof *grad);
    for (size_t i = 0; i < count; i++) {
        const row *x = &want->item[i];
        const tensor *found = NULL;
        for (size_t k = 0; k < count; k++)
            if (!strcmp(graph_weight_at(b->g, k)->name, x->name)) found = graph_weight_at(b->g, k);
        if (!found) fail_msg("%s: no weight %s", network, x->name);
        of[i] = graph_weight(b->g, x->name, found->rank, found->dim);
    }
    error e = {0};
    graph_output(b->g, loss);
    check(graph_gradient(b->g, loss, NULL, of, count, grad, &e), &e);
    b->fill = fill_scattered;
    bench_ready(b);
    write(b, inputs);
    bench_run(b);
    float value;
    assert_true(graph_read(b->g, loss, &value, NULL));
    assert_true(fabs(value - want->loss) <= tolerance * want->loss);
    double worst = 0;
    const char *where = "";
    for (size_t i = 0; i < count; i++) {
        if (!grad[i]) fail_msg("%s: the loss does not reach %s", network, of[i]->name);
        all.value = realloc(all.value, (all.count + (size_t)elements(of[i])) * sizeof *all.value);
        assert_non_null(all.value);
        float *g = all.value + all.count;
        all.count += (size_t)elements(of[i]);
        assert_true(graph_read(b->g, grad[i], g, NULL));
        double off = compare(&want->item[i], want->largest, g, elements(of[i]));
        if (off > worst) {
            worst = off;
            where = of[i]->name;
        }
    }
    print_message("%s, %s: %zu gradients, worst relative error %.1e (%s)\n", network,
                  precision_name(b->d->weight_type), count, worst, where);
    assert_true(worst <= tolerance);
    free(of);
    free(grad);
    free(want);
    bench_close(b);
    return all;
}

/* mse(y, cos(0.13 i)); the target is given back as an input. */
static tensor *wave_loss(bench *b, tensor *y, const char *name, tensor **target)
{
    *target = graph_input(b->g, name, DTYPE_F32, y->rank, y->dim);
    return mse(b->g, y, *target, NULL, NULL);
}

typedef struct unet_inputs {
    tensor *x, *t, *context, *target;
} unet_inputs;

static void write_unet(bench *b, void *p)
{
    const unet_inputs *in = p;
    static const float times[2] = {37, 801};
    write_wave(b->g, in->x, 0.21);
    write_wave(b->g, in->target, 0.13);
    assert_true(graph_write(b->g, in->t, times, NULL));
    if (in->context) write_wave(b->g, in->context, 0.21);
}

static gradients unet_gradients(const char *config, const char *network, dtype precision)
{
    unet_config c;
    error e = {0};
    check(unet_config_read(&c, fixture_path(config), &e), &e);
    bench b = bench_open_in(precision);
    unet_inputs in = {0};
    in.x = graph_input(b.g, "x", DTYPE_F32, 4, (int64_t[]){2, 8, 8, c.in_channels});
    in.t = graph_input(b.g, "t", DTYPE_F32, 1, (int64_t[]){2});
    if (c.conditional)
        in.context = graph_input(b.g, "context", DTYPE_F32, 3, (int64_t[]){2, 5, c.cross_dim});
    tensor *y = unet_build(b.g, &c, in.x, in.t, in.context);
    tensor *loss = wave_loss(&b, y, "target", &in.target);
    return check_gradients(&b, loss, network, write_unet, &in);
}

/* In a half type the gradient of all weights, as one vector, has the direction of float32's and its
 * length. */
static void compare_directions(const gradients *exact, const gradients *rounded,
                               const char *network, dtype half)
{
    double dot = 0, square[2] = {0, 0}, off = 0;
    assert_int_equal(exact->count, rounded->count);
    for (size_t i = 0; i < exact->count; i++) {
        double x = exact->value[i], y = rounded->value[i];
        dot += x * y;
        square[0] += x * x;
        square[1] += y * y;
        off += (x - y) * (x - y);
    }
    double cosine = dot / sqrt(square[0] * square[1]), relative = sqrt(off / square[0]);
    print_message("%s: %s against f32: cosine %.8f, off by %.4f of the length\n", network,
                  precision_name(half), cosine, relative);
    double finer = half == DTYPE_F16 ? 8 : 1;
    assert_true(off > 0); /* it was in the half type */
    assert_true(1 - cosine <= 2e-4 / (finer * finer) && relative <= 0.02 / finer);
}

/* float16 where the device has it: not on the processor */
static void unet_in_all(const char *config, const char *network)
{
    gradients exact = unet_gradients(config, network, DTYPE_F32);
    bool gpu = strcmp(test_device(), "cuda") == 0;
    for (dtype half = gpu ? DTYPE_F16 : DTYPE_BF16; half <= DTYPE_BF16; half++) {
        gradients rounded = unet_gradients(config, network, half);
        compare_directions(&exact, &rounded, network, half);
        free(rounded.value);
    }
    free(exact.value);
}

static void conditional_unet(void **state)
{
    (void)state;
    unet_in_all("model/layout/new/unet/config.json", "unet");
}

static void unconditional_unet(void **state)
{
    (void)state;
    unet_in_all("model/layout/flat/config.json", "plain");
}

typedef struct vae_inputs {
    tensor *image, *latent, *moments, *picture;
} vae_inputs;

static void write_vae(bench *b, void *p)
{
    const vae_inputs *in = p;
    write_wave(b->g, in->image, 0.21);
    write_wave(b->g, in->latent, 0.21);
    write_wave(b->g, in->moments, 0.13);
    write_wave(b->g, in->picture, 0.13);
}

static void autoencoder(void **state)
{
    (void)state;
    vae_config c;
    error e = {0};
    check(vae_config_read(&c, fixture_path("model/layout/new/vae/config.json"), &e), &e);
    bench b = bench_open();
    vae_inputs in;
    in.image = graph_input(b.g, "image", DTYPE_F32, 4, (int64_t[]){1, 16, 16, 3});
    in.latent = graph_input(b.g, "latent", DTYPE_F32, 4, (int64_t[]){1, 8, 8, 4});
    tensor *first = wave_loss(&b, vae_build_encoder(b.g, &c, in.image), "moments", &in.moments);
    tensor *second = wave_loss(&b, vae_build_decoder(b.g, &c, in.latent), "picture", &in.picture);
    free(check_gradients(&b, add(b.g, first, second), "vae", write_vae, &in).value);
}

typedef struct clip_inputs {
    tensor *ids, *target;
} clip_inputs;

static void write_clip(bench *b, void *p)
{
    const clip_inputs *in = p;
    static const int32_t ids[8] = {516, 5, 17, 3, 500, 517, 517, 517};
    assert_true(graph_write(b->g, in->ids, ids, NULL));
    write_wave(b->g, in->target, 0.13);
}

static void text_encoder(void **state)
{
    (void)state;
    clip_config c;
    error e = {0};
    check(clip_config_read(&c, fixture_path("model/layout/new/text_encoder/config.json"), &e), &e);
    bench b = bench_open();
    clip_inputs in;
    in.ids = graph_input(b.g, "ids", DTYPE_I32, 2, (int64_t[]){1, 8});
    tensor *loss = wave_loss(&b, clip_build(b.g, &c, in.ids, 0), "target", &in.target);
    free(check_gradients(&b, loss, "clip", write_clip, &in).value);
}

/* ---- a training step in bfloat16, weight by weight ---- */

typedef struct step_inputs {
    tensor *ids;
    unet_inputs unet;
} step_inputs;

/* The UNet behind its text encoder: the gradients of all weights, in the graph's order; where each
 * begins is in `at`, which ends with where the last ends. */
static gradients step_gradients(dtype precision, char names[512][160], size_t at[513])
{
    static const int32_t ids[16] = {516, 5, 17, 3, 500, 517, 517, 517,
                                    516, 5, 17, 3, 500, 517, 517, 517};
    unet_config u;
    clip_config c;
    error e = {0};
    check(unet_config_read(&u, fixture_path("model/layout/new/unet/config.json"), &e) &&
              clip_config_read(&c, fixture_path("model/layout/new/text_encoder/config.json"), &e),
          &e);
    bench b = bench_open_in(precision);
    step_inputs in = {.ids = graph_input(b.g, "ids", DTYPE_I32, 2, (int64_t[]){2, 8})};
    in.unet.x = graph_input(b.g, "x", DTYPE_F32, 4, (int64_t[]){2, 8, 8, u.in_channels});
    in.unet.t = graph_input(b.g, "t", DTYPE_F32, 1, (int64_t[]){2});
    tensor *text = cast(b.g, clip_build(b.g, &c, in.ids, 0), DTYPE_F32);
    tensor *y = unet_build(b.g, &u, in.unet.x, in.unet.t, text);
    tensor *loss = wave_loss(&b, y, "target", &in.unet.target);
    size_t count = graph_weight_count(b.g);
    tensor *of[512], *grad[512];
    assert_in_range(count, 1, 512);
    for (size_t i = 0; i < count; i++) of[i] = (tensor *)(uintptr_t)graph_weight_at(b.g, i);
    check(graph_gradient(b.g, loss, NULL, of, count, grad, &e), &e);
    b.fill = fill_scattered;
    bench_ready(&b);
    write_unet(&b, &in.unet);
    check(graph_write(b.g, in.ids, ids, &e), &e);
    bench_run(&b);
    gradients all = {.count = count};
    at[0] = 0;
    for (size_t i = 0; i < count; i++) {
        at[i + 1] = at[i] + (size_t)elements(of[i]);
        all.value = realloc(all.value, at[i + 1] * sizeof *all.value);
        assert_non_null(all.value);
        check(grad[i] && graph_read(b.g, grad[i], all.value + at[i], &e), &e);
        snprintf(names[i], 160, "%s", of[i]->name);
    }
    bench_close(&b);
    return all;
}

/* A line of rounded.txt. */
static double torch_is_off(const char *name)
{
    char line[200], word[160];
    double off = -1, found = -1;
    FILE *f = fopen(fixture_path("model/rounded.txt"), "r");
    assert_non_null(f);
    while (found < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "%159s %lf", word, &off) == 2 && !strcmp(word, name)) found = off;
    fclose(f);
    if (found < 0) fail_msg("rounded.txt has no %s", name);
    return found;
}

static double length_of(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i] - (y ? (double)y[i] : 0);
        sum += v * v;
    }
    return sqrt(sum);
}

/* Torch rounds what products read, as we do, and what they give besides; so ours is nearer as a
 * whole, and no weight's is further off than torch's but for the roundings' luck. */
static void bfloat16_step(void **state)
{
    (void)state;
    if (strcmp(test_device(), "cpu") != 0) skip();
    static char names[512][160];
    size_t at[513];
    gradients exact = step_gradients(DTYPE_F32, names, at);
    gradients rounded = step_gradients(DTYPE_BF16, names, at);
    double length = length_of(exact.value, NULL, at[exact.count]), worst = 0, sum = 0;
    double off = length_of(exact.value, rounded.value, at[exact.count]) / length;
    size_t where = 0;
    for (size_t i = 0; i < exact.count; i++) {
        size_t n = at[i + 1] - at[i];
        double own = length_of(exact.value + at[i], NULL, n);
        double far = length_of(exact.value + at[i], rounded.value + at[i], n) /
                     fmax(own, 1e-3 * length);
        double of_torch = far / torch_is_off(names[i]);
        sum += of_torch;
        if (of_torch > worst) worst = of_torch, where = i;
    }
    print_message("a step in bfloat16: off by %.4f of the length, torch by %.4f; each weight's by "
                  "%.2f times torch's on average, %.2f at most (%s)\n",
                  off, torch_is_off("whole"), sum / (double)exact.count, worst, names[where]);
    assert_true(off > 0 && off <= torch_is_off("whole"));
    assert_true(sum <= (double)exact.count && worst <= 2);
    free(exact.value);
    free(rounded.value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditional_unet), cmocka_unit_test(unconditional_unet),
        cmocka_unit_test(autoencoder),      cmocka_unit_test(text_encoder),
        cmocka_unit_test(bfloat16_step),
    };
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
