/* SPDX-License-Identifier: Apache-2.0
 *
 * The cpu device's own kernels (attention, norms, pointwise, shapes, lookups, loss) against the
 * plain double loops of reference.c at odd sizes, and every element of their gradients against
 * those of reference_gradient.c (which central differences check), on every instruction set this
 * machine has (the others are skipped, and counted so). */
#include <math.h>

#include "base/half.h"
#include "device_support.h"
#include "reference.h"

#define F32(...)                                                                                   \
    {                                                                                              \
        .type = DTYPE_F32, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ }                       \
    }
#define BF16(...)                                                                                  \
    {                                                                                              \
        .type = DTYPE_BF16, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ }                      \
    }
#define F16(...)                                                                                   \
    {                                                                                              \
        .type = DTYPE_F16, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ }                       \
    }
#define I32(...)                                                                                   \
    {                                                                                              \
        .type = DTYPE_I32, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ }                       \
    }
#define RANK(...) (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int))
#define NONE                                                                                       \
    {                                                                                              \
        .rank = -1                                                                                 \
    }

/* A forward operation and its gradient's operands: y: the output's gradient, a digit: the forward's
 * input, o and s: its outputs; grad_out: the inputs whose gradients it gives. */
struct test_case {
    const char *name;
    op_call call;
    const char *weights; /* which inputs are weights */
    float spread;        /* inputs lie in (-spread, spread); 0 means 1 */
    op_kind grad;
    const char *grad_in, *grad_out;
};

#define ATTENTION_CASE(label, type, b, n, m, h, d, mask)                                           \
    {                                                                                              \
        .name = label,                                                                             \
        .call = {.kind = OP_ATTENTION,                                                             \
                 .in_count = 3,                                                                    \
                 .out_count = 2,                                                                   \
                 .params = {.heads = h, .causal = mask, .alpha = 2.0f / (d)},                      \
                 .in = {type(b, n, (h) * (d)), type(b, m, (h) * (d)), type(b, m, (h) * (d))},      \
                 .out = {type(b, n, (h) * (d)), F32(b, h, n)}},                                    \
        .spread = 2, .grad = OP_ATTENTION_GRAD, .grad_in = "y012os", .grad_out = "012"             \
    }

#define GROUP_CASE(label, type, gamma_type, g, act, c, ...)                                        \
    {                                                                                              \
        .name = label,                                                                             \
        .call = {.kind = OP_GROUP_NORM,                                                            \
                 .in_count = 3,                                                                    \
                 .out_count = 2,                                                                   \
                 .params = {.groups = g, .silu = act, .eps = 1e-5f},                               \
                 .in = {type(__VA_ARGS__, c), gamma_type(c), gamma_type(c)},                       \
                 .out = {type(__VA_ARGS__, c), F32(2, g, 2)}},                                     \
        .weights = "12", .grad = OP_GROUP_NORM_GRAD, .grad_in = "y012s", .grad_out = "012"         \
    }

#define LAYER_CASE(label, type, out_type, c, ...)                                                  \
    {                                                                                              \
        .name = label,                                                                             \
        .call = {.kind = OP_LAYER_NORM,                                                            \
                 .in_count = 3,                                                                    \
                 .out_count = 2,                                                                   \
                 .params = {.eps = 1e-5f},                                                         \
                 .in = {type(__VA_ARGS__, c), F32(c), F16(c)},                                     \
                 .out = {out_type(__VA_ARGS__, c), F32(__VA_ARGS__, 2)}},                          \
        .weights = "12", .grad = OP_LAYER_NORM_GRAD, .grad_in = "y01s", .grad_out = "012"          \
    }

#define UNARY_CASE(label, type, what)                                                              \
    {                                                                                              \
        .name = label,                                                                             \
        .call = {.kind = OP_UNARY,                                                                 \
                 .in_count = 1,                                                                    \
                 .out_count = 1,                                                                   \
                 .params = {.unary = what},                                                        \
                 .in = {type(3, 5, 77)},                                                           \
                 .out = {type(3, 5, 77)}},                                                         \
        .spread = 5, .grad = OP_UNARY_GRAD, .grad_in = "y0", .grad_out = "0"                       \
    }

#define TWO(label, op, first, second, result)                                                      \
    .name = label,                                                                                 \
    .call = {.kind = op, .in_count = 2, .out_count = 1, .in = {first, second}, .out = {result}}

#define ONE(label, op, first, result)                                                              \
    .name = label,                                                                                 \
    .call = {.kind = op, .in_count = 1, .out_count = 1, .in = {first}, .out = {result}}

static const struct test_case cases[] = {
    ATTENTION_CASE("attention 3", F32, 2, 5, 7, 2, 3, false),
    ATTENTION_CASE("attention 3 causal", F32, 2, 9, 9, 2, 3, true),
    ATTENTION_CASE("attention 40", F32, 1, 14, 40, 2, 40, false),
    ATTENTION_CASE("attention 40 long", F32, 1, 130, 300, 2, 40, false),
    ATTENTION_CASE("attention 40 long causal", F32, 1, 301, 301, 1, 40, true),
    ATTENTION_CASE("attention 64 text", F32, 1, 77, 77, 2, 64, true),
    ATTENTION_CASE("attention 72", F32, 2, 35, 77, 1, 72, false),
    ATTENTION_CASE("attention 80", F32, 2, 13, 290, 3, 80, false),
    ATTENTION_CASE("attention 160", F32, 1, 100, 250, 2, 160, false),
    ATTENTION_CASE("attention 512", F32, 1, 50, 70, 1, 512, false),
    ATTENTION_CASE("attention 512 causal", F32, 1, 70, 70, 1, 512, true),
    ATTENTION_CASE("attention 1", F32, 1, 1, 1, 1, 1, false),
    ATTENTION_CASE("attention bf16", BF16, 2, 35, 77, 3, 40, false),
    GROUP_CASE("group norm", F32, F32, 4, false, 20, 2, 5, 7),
    GROUP_CASE("group norm silu", F32, F16, 4, true, 20, 2, 5, 7),
    GROUP_CASE("group norm 17", F32, F32, 1, true, 17, 2, 3),
    GROUP_CASE("group norm wide", F32, BF16, 32, true, 2560, 2, 3, 3),
    GROUP_CASE("group norm large", F32, F32, 32, true, 128, 2, 13, 11),
    GROUP_CASE("group norm in parts", F32, F32, 8, true, 96, 2, 40, 31),
    GROUP_CASE("group norm bf16", BF16, F32, 4, true, 72, 2, 9, 31),
    LAYER_CASE("layer norm", F32, F32, 40, 2, 9),
    LAYER_CASE("layer norm 3", F32, F32, 3, 2, 9),
    LAYER_CASE("layer norm many", F32, F32, 77, 2, 251),
    LAYER_CASE("layer norm in parts", F32, F32, 320, 2, 211),
    LAYER_CASE("layer norm to bf16", F32, BF16, 768, 2, 5),
    UNARY_CASE("silu", F32, UNARY_SILU),
    UNARY_CASE("gelu", F32, UNARY_GELU),
    UNARY_CASE("quick gelu", F32, UNARY_QUICK_GELU),
    UNARY_CASE("relu", F32, UNARY_RELU),
    UNARY_CASE("silu bf16", BF16, UNARY_SILU),
    UNARY_CASE("relu bf16", BF16, UNARY_RELU),
    {ONE("geglu", OP_GEGLU, F32(2, 7, 38), F32(2, 7, 19)), .spread = 3, .grad = OP_GEGLU_GRAD,
     .grad_in = "y0", .grad_out = "0"},
    {ONE("geglu large", OP_GEGLU, F32(2, 50, 640), F32(2, 50, 320)), .spread = 3,
     .grad = OP_GEGLU_GRAD, .grad_in = "y0", .grad_out = "0"},
    {ONE("geglu bf16", OP_GEGLU, BF16(3, 1284), BF16(3, 642)), .spread = 3},
    {TWO("add", OP_ADD, F32(2, 50, 171), F32(2, 50, 171), F32(2, 50, 171))},
    {TWO("add weight", OP_ADD, F32(3, 7, 19), F16(7, 19), F32(3, 7, 19)), .weights = "1",
     .grad = OP_SUM_LEADING, .grad_in = "y", .grad_out = "1"},
    {TWO("add repeated", OP_ADD, F32(500, 37), F32(37), F32(500, 37)), .grad = OP_SUM_LEADING,
     .grad_in = "y", .grad_out = "1"},
    {TWO("add repeated in parts", OP_ADD, F32(3000, 37), F32(37), F32(3000, 37)),
     .grad = OP_SUM_LEADING, .grad_in = "y", .grad_out = "1"},
    {TWO("add bf16", OP_ADD, F32(3, 50, 19), BF16(3, 50, 19), F32(3, 50, 19))},
    {TWO("add channel", OP_ADD_CHANNEL, F32(3, 5, 7, 19), F32(3, 19), F32(3, 5, 7, 19)),
     .grad = OP_SUM_SPACE, .grad_in = "y", .grad_out = "1"},
    {TWO("add channel large", OP_ADD_CHANNEL, F32(2, 19, 17, 64), F32(2, 64), F32(2, 19, 17, 64)),
     .grad = OP_SUM_SPACE, .grad_in = "y", .grad_out = "1"},
    {TWO("add channel in parts", OP_ADD_CHANNEL, F32(2, 40, 31, 64), F32(2, 64),
         F32(2, 40, 31, 64)),
     .grad = OP_SUM_SPACE, .grad_in = "y", .grad_out = "1"},
    {.name = "scale",
     .call = {.kind = OP_SCALE,
              .in_count = 1,
              .out_count = 1,
              .params = {.alpha = 0.18215f},
              .in = {F32(3, 77)},
              .out = {F32(3, 77)}}},
    {ONE("cast to bf16", OP_CAST, F32(3, 5, 77), BF16(3, 5, 77))},
    {ONE("cast from bf16", OP_CAST, BF16(3, 50, 177), F32(3, 50, 177))},
    {TWO("concat", OP_CONCAT, F32(2, 5, 7, 17), F32(2, 5, 7, 5), F32(2, 5, 7, 22))},
    {TWO("concat mixed", OP_CONCAT, F32(2, 50, 170), BF16(2, 50, 64), F32(2, 50, 234))},
    {.name = "slice",
     .call = {.kind = OP_SLICE,
              .in_count = 1,
              .out_count = 1,
              .params = {.start = 5},
              .in = {F32(2, 7, 19)},
              .out = {F32(2, 7, 11)}},
     .grad = OP_UNSLICE,
     .grad_in = "y",
     .grad_out = "0"},
    {.name = "unslice",
     .call = {.kind = OP_UNSLICE,
              .in_count = 1,
              .out_count = 1,
              .params = {.start = 5},
              .in = {F32(2, 7, 11)},
              .out = {F32(2, 7, 19)}},
     .grad = OP_SLICE,
     .grad_in = "y",
     .grad_out = "0"},
    {ONE("upsample", OP_UPSAMPLE, F32(2, 3, 5, 17), F32(2, 6, 10, 17)), .grad = OP_UPSAMPLE_GRAD,
     .grad_in = "y", .grad_out = "0"},
    {ONE("upsample odd", OP_UPSAMPLE, F32(1, 3, 5, 40), F32(1, 7, 9, 40)), .grad = OP_UPSAMPLE_GRAD,
     .grad_in = "y", .grad_out = "0"},
    {ONE("upsample down", OP_UPSAMPLE, F32(1, 7, 5, 4), F32(1, 3, 4, 4)), .grad = OP_UPSAMPLE_GRAD,
     .grad_in = "y", .grad_out = "0"},
    {ONE("sum leading", OP_SUM_LEADING, F32(700, 1, 33), F32(1, 33))},
    {ONE("sum leading wide", OP_SUM_LEADING, F32(3, 7, 1100), F32(7, 1100))},
    {ONE("sum space", OP_SUM_SPACE, F32(2, 30, 31, 17), F32(2, 17))},
    {ONE("sum space bf16", OP_SUM_SPACE, BF16(2, 3, 31, 17), F32(2, 17))},
    {TWO("embedding", OP_EMBEDDING, I32(2, 7), F16(11, 24), F32(2, 7, 24)), .weights = "1",
     .grad = OP_EMBEDDING_GRAD, .grad_in = "y0", .grad_out = "1"},
    {TWO("embedding wide", OP_EMBEDDING, I32(3, 9), F32(50, 777), F32(3, 9, 777)), .weights = "1",
     .grad = OP_EMBEDDING_GRAD, .grad_in = "y0", .grad_out = "1"},
    {TWO("embedding bf16", OP_EMBEDDING, I32(3, 9), F32(50, 24), BF16(3, 9, 24)), .weights = "1"},
    {.name = "time embedding",
     .call = {.kind = OP_TIME_EMBEDDING,
              .in_count = 1,
              .out_count = 1,
              .params = {.flip_sin_to_cos = true},
              .in = {F32(5)},
              .out = {F32(5, 64)}},
     .spread = 20},
    {.name = "time embedding odd",
     .call = {.kind = OP_TIME_EMBEDDING,
              .in_count = 1,
              .out_count = 1,
              .params = {.freq_shift = 1},
              .in = {F32(5)},
              .out = {F32(5, 37)}},
     .spread = 20},
    {.name = "mse",
     .call = {.kind = OP_MSE,
              .in_count = 2,
              .out_count = 2,
              .in = {F32(3, 5, 7, 4), F32(3, 5, 7, 4), NONE},
              .out = {F32(1), F32(3)}},
     .grad = OP_MSE_GRAD,
     .grad_in = "y01",
     .grad_out = "0"},
    {.name = "mse weighted",
     .call = {.kind = OP_MSE,
              .in_count = 3,
              .out_count = 2,
              .in = {F32(2, 90, 77), F32(2, 90, 77), F32(2)},
              .out = {F32(1), F32(2)}},
     .grad = OP_MSE_GRAD,
     .grad_in = "y012",
     .grad_out = "0"},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* -- operands ---------------------------------------------------------------------------------- */

static void *allocate(size_t size)
{
    void *p = malloc(size ? size : 1);
    assert_non_null(p);
    return p;
}

/* Random values of an array, such as its type can hold. */
static double *random_values(const struct test_case *c, const array *a, uint32_t seed)
{
    size_t n = array_count(a);
    double *v = allocate(n * sizeof *v);
    float *f = allocate(n * sizeof *f);
    fill_random(f, n, seed);
    for (size_t i = 0; i < n; i++) {
        float x = f[i] * (c->spread != 0 ? c->spread : 1);
        if (a->type == DTYPE_BF16) x = bf16_to_float(bf16_from_float(x));
        if (a->type == DTYPE_F16) x = half_to_float(half_from_float(x));
        v[i] = (double)x;
        if (a->type == DTYPE_I32) /* ids of rows of the table */
            v[i] = floor((double)(f[i] * 0.5f + 0.5f) * (double)c->call.in[1].dim[0]);
    }
    free(f);
    return v;
}

/* Values in the array's type, in memory of exactly their size; NULL values: all bits set. */
static void *stored(const array *a, const double *values)
{
    size_t n = array_count(a), size = n * dtype_size(a->type);
    void *data = allocate(size);
    if (!values) return memset(data, 0xff, size);
    float *f = allocate(n * sizeof *f);
    for (size_t i = 0; i < n; i++) f[i] = (float)values[i];
    if (a->type == DTYPE_I32)
        for (size_t i = 0; i < n; i++) ((int32_t *)data)[i] = (int32_t)values[i];
    else
        convert_from_float(data, a->type, f, n);
    free(f);
    return data;
}

/* Largest difference, divided by the largest value that is wanted. */
static double error_of(const array *a, const double *want)
{
    size_t n = array_count(a);
    float *f = allocate(n * sizeof *f);
    convert_to_float(f, operand_data(a), a->type, n);
    double worst = 0, most = 1e-30;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)f[i] - want[i]);
        if (!(off <= worst)) worst = isnan(off) ? INFINITY : off;
        most = fmax(most, fabs(want[i]));
    }
    free(f);
    return worst / most;
}

/* -- running ----------------------------------------------------------------------------------- */

static device *device_of(const char *level, int threads)
{
    device *d = NULL;
    error e = {0};
    bool ok = device_open(&d, "cpu", &(device_options){.threads = threads, .level = level}, &e);
    if (!ok) assert_int_equal(e.code, ERROR_USAGE);
    return d;
}

static void run_call(device *d, const op_call *given)
{
    op_call with_weights = *given, *call = &with_weights;
    for (int i = 0; i < call->in_count; i++)
        if (call->in[i].w)
            call->in[i] = weight_array(weights_alone(d, (weight *)(uintptr_t)call->in[i].w));
    void *state = NULL;
    size_t size = 0;
    error e = {0};
    if (!d->prepare(d, call, &state, &size, &e)) fail_msg("%s", e.text);
    void *scratch = aligned_alloc(64, (size + 64) & ~(size_t)63);
    assert_non_null(scratch);
    memset(scratch, 0xff, size);
    if (!bind_one(d, call, state, &e)) fail_msg("%s", e.text);
    if (!run_one(d, call, state, scratch, &e)) fail_msg("%s", e.text);
    d->unprepare(d, call, state);
    for (int i = 0; i < call->in_count; i++) device_weights_close(&call->in[i].weights);
    free(scratch);
}

/* A call with its operands in memory; weights are kept beside it. */
struct bound {
    op_call call;
    weight w[OP_MAX_IN];
};

static void bind_input(struct bound *b, int i, const array *shape, const double *values,
                       bool is_weight)
{
    array *a = &b->call.in[i];
    *a = *shape;
    if (shape->rank < 0) return;
    void *data = stored(shape, values);
    operand_put(a, is_weight ? NULL : data);
    if (!is_weight) return;
    b->w[i] = (weight){.name = "test", .type = shape->type, .rank = shape->rank, .data = data};
    memcpy(b->w[i].dim, shape->dim, sizeof shape->dim);
    a->w = &b->w[i];
}

static void release(struct bound *b)
{
    for (int i = 0; i < OP_MAX_IN; i++) {
        free(operand_data(&b->call.in[i]));
        free((void *)(uintptr_t)b->w[i].data);
    }
    for (int i = 0; i < OP_MAX_OUT; i++) free(operand_data(&b->call.out[i]));
    memset(b, 0, sizeof *b);
}

static bool listed(const char *list, int i) { return list && strchr(list, '0' + i); }

static void fill_outputs(struct bound *b)
{
    for (int i = 0; i < b->call.out_count; i++) {
        free(operand_data(&b->call.out[i]));
        operand_put(&b->call.out[i], stored(&b->call.out[i], NULL));
    }
}

/* The same bytes in every output of both; NULL: the first run. Leaves the bytes of `now` in
 * `first`. */
static void expect_same(const char *name, int threads, array first[OP_MAX_OUT], op_call *now)
{
    for (int i = 0; i < now->out_count; i++) {
        size_t bytes = array_count(&now->out[i]) * dtype_size(now->out[i].type);
        if (!operand_data(&first[i])) {
            first[i] = now->out[i];
            operand_put(&now->out[i], NULL);
        } else if (memcmp(operand_data(&first[i]), operand_data(&now->out[i]), bytes) != 0) {
            fail_msg("%s, %d threads: output %d has other bytes", name, threads, i);
        }
    }
}

/* Runs on every thread count, twice: the same bytes each time, and near the wanted values. */
static double check(const char *name, const char *level, struct bound *b, double *const want[],
                    double bound, double bf16_bound)
{
    double worst = 0;
    array first[OP_MAX_OUT] = {0};
    for (int threads = 1; threads <= 3; threads++) {
        device *d = device_of(level, threads);
        for (int i = 0; i < 2; i++) {
            fill_outputs(b);
            run_call(d, &b->call);
            expect_same(name, threads, first, &b->call);
        }
        for (int i = 0; i < b->call.out_count; i++) {
            double off = error_of(&b->call.out[i], want[i]);
            double limit = b->call.out[i].type == DTYPE_BF16 ? bf16_bound : bound;
            if (!(off <= limit))
                fail_msg("%s, %d threads: output %d is off by %g (%g allowed)", name, threads, i,
                         off, limit);
            if (b->call.out[i].type != DTYPE_BF16) worst = fmax(worst, off);
        }
        device_close(&d);
    }
    for (int i = 0; i < OP_MAX_OUT; i++) free(operand_data(&first[i]));
    return worst;
}

/* -- one case ---------------------------------------------------------------------------------- */

/* Inputs, outputs, the gradient of the first output; slope[i]: the wanted gradient of input i. */
struct values {
    double *in[OP_MAX_IN], *out[OP_MAX_OUT], *dy, *slope[OP_MAX_IN];
};

static struct values values_open(const struct test_case *c)
{
    struct values v = {0};
    for (int i = 0; i < c->call.in_count; i++)
        if (c->call.in[i].rank >= 0)
            v.in[i] = random_values(c, &c->call.in[i], (uint32_t)(i + 1) * 77);
    for (int i = 0; i < c->call.out_count; i++)
        v.out[i] = allocate(array_count(&c->call.out[i]) * sizeof(double));
    reference_run(&c->call, v.in, v.out);
    struct test_case plain = {.spread = 1};
    array dy = c->call.out[0];
    dy.type = DTYPE_F32;
    v.dy = random_values(&plain, &dy, 991);
    return v;
}

static void values_close(struct values *v)
{
    for (int i = 0; i < OP_MAX_IN; i++) free(v->in[i]);
    for (int i = 0; i < OP_MAX_OUT; i++) free(v->out[i]);
    for (int i = 0; i < OP_MAX_IN; i++) free(v->slope[i]);
    free(v->dy);
    memset(v, 0, sizeof *v);
}

static double loss_of(const struct test_case *c, const struct values *v)
{
    double *out[OP_MAX_OUT] = {v->out[0]}, loss = 0;
    reference_run(&c->call, v->in, out);
    size_t n = array_count(&c->call.out[0]);
    for (size_t i = 0; i < n; i++) loss += v->out[0][i] * v->dy[i];
    return loss;
}

/* The gradient of input i, held against central differences of every element, or of some 8 of a
 * large one. */
static void expect_differences(const struct test_case *c, const struct values *v, int i)
{
    size_t n = array_count(&c->call.in[i]), step = n <= 100 ? 1 : n / 8;
    double h = 1e-5, most = 1e-3;
    for (size_t j = 0; j < n; j++) most = fmax(most, fabs(v->slope[i][j]));
    for (size_t j = 0; j < n; j += step) {
        double x = v->in[i][j];
        v->in[i][j] = x + h;
        double up = loss_of(c, v);
        v->in[i][j] = x - h;
        double slope = (up - loss_of(c, v)) / (2 * h);
        v->in[i][j] = x;
        if (!(fabs(slope - v->slope[i][j]) <= 1e-6 * most))
            fail_msg("%s: the reference's gradient %zu of input %d is %g, differences say %g",
                     c->name, j, i, v->slope[i][j], slope);
    }
}

static double run_forward(const char *level, const struct test_case *c, const struct values *v)
{
    struct bound b = {.call = c->call};
    for (int i = 0; i < c->call.in_count; i++)
        bind_input(&b, i, &c->call.in[i], v->in[i], listed(c->weights, i));
    double off = check(c->name, level, &b, v->out, 2e-6, 4e-3);
    release(&b);
    return off;
}

static double run_grad(const char *level, const struct test_case *c, struct values *v)
{
    struct bound b = {.call = {.kind = c->grad, .params = c->call.params}};
    array dy = c->call.out[0];
    dy.type = DTYPE_F32;
    double *want[OP_MAX_OUT] = {0};
    for (const char *p = c->grad_in; *p; p++) {
        int i = b.call.in_count++;
        if (*p == 'y')
            bind_input(&b, i, &dy, v->dy, false);
        else if (*p == 'o' || *p == 's')
            bind_input(&b, i, &c->call.out[*p == 's'], v->out[*p == 's'], false);
        else
            bind_input(&b, i, &c->call.in[*p - '0'], v->in[*p - '0'], listed(c->weights, *p - '0'));
    }
    for (const char *p = c->grad_out; *p; p++) {
        array *out = &b.call.out[b.call.out_count];
        *out = c->call.in[*p - '0'];
        out->type = DTYPE_F32;
        want[b.call.out_count++] = v->slope[*p - '0'];
    }
    /* attention's gradient is given its output as it was stored: rounded */
    double bound = c->call.out[0].type == DTYPE_BF16 && listed(c->grad_in, 'o' - '0') ? 2e-3 : 1e-5;
    double off = check(c->name, level, &b, want, bound, 0);
    release(&b);
    return off;
}

static bool has_gradient(const struct test_case *c) { return c->grad_out != NULL; }

/* What is wanted of each case, worked out once for all instruction sets. */
static int open_all(void **state)
{
    struct values *all = calloc(CASES, sizeof *all);
    assert_non_null(all);
    for (int i = 0; i < CASES; i++) {
        all[i] = values_open(&cases[i]);
        if (!has_gradient(&cases[i])) continue;
        for (int k = 0; k < cases[i].call.in_count; k++)
            all[i].slope[k] = allocate(array_count(&cases[i].call.in[k]) * sizeof(double));
        reference_gradient(&cases[i].call, all[i].in, all[i].dy, all[i].slope);
        for (const char *p = cases[i].grad_out; *p; p++)
            expect_differences(&cases[i], &all[i], *p - '0');
        reference_run(&cases[i].call, all[i].in, all[i].out);
    }
    *state = all;
    return 0;
}

static int close_all(void **state)
{
    struct values *all = *state;
    for (int i = 0; i < CASES; i++) values_close(&all[i]);
    free(all);
    return 0;
}

static void kernels_of(const char *level, struct values *all)
{
    device *d = device_of(level, 1);
    if (!d) skip();
    device_close(&d);
    double worst = 0, worst_grad = 0;
    const char *where = "", *where_grad = "";
    for (int i = 0; i < CASES; i++) {
        double off = run_forward(level, &cases[i], &all[i]);
        if (off > worst) worst = off, where = cases[i].name;
        if (!has_gradient(&cases[i])) continue;
        off = run_grad(level, &cases[i], &all[i]);
        if (off > worst_grad) worst_grad = off, where_grad = cases[i].name;
    }
    print_message("%s: worst relative error forward %.2g (%s), gradients %.2g (%s)\n", level, worst,
                  where, worst_grad, where_grad);
}

static void test_plain(void **state) { kernels_of("plain", *state); }
static void test_avx2(void **state) { kernels_of("avx2", *state); }
static void test_avx512(void **state) { kernels_of("avx512", *state); }
static void test_avx512bf16(void **state) { kernels_of("avx512bf16", *state); }

/* -- particular things ------------------------------------------------------------------------- */

static device *best_device(void)
{
    device *d = NULL;
    error e = {0};
    if (!device_open(&d, "cpu", &(device_options){.threads = 2}, &e)) fail_msg("%s", e.text);
    return d;
}

/* Operations that may write over their first input give the same bytes there. */
static void in_place(device *d)
{
    for (int i = 0; i < CASES; i++) {
        const struct test_case *c = &cases[i];
        op_kind k = c->call.kind;
        if (k != OP_UNARY && k != OP_ADD && k != OP_ADD_CHANNEL && k != OP_SCALE &&
            k != OP_GROUP_NORM && k != OP_LAYER_NORM)
            continue;
        if (c->call.in[0].type != c->call.out[0].type) continue;
        struct values v = values_open(c);
        struct bound b = {.call = c->call};
        for (int j = 0; j < c->call.in_count; j++)
            bind_input(&b, j, &c->call.in[j], v.in[j], listed(c->weights, j));
        fill_outputs(&b);
        run_call(d, &b.call);
        op_call call = b.call;
        operand_put(&call.out[0], operand_data(&call.in[0]));
        call.out_count = 1; /* and the second output is not wanted */
        run_call(d, &call);
        assert_memory_equal(operand_data(&call.in[0]), operand_data(&b.call.out[0]),
                            array_count(&call.in[0]) * dtype_size(call.in[0].type));
        release(&b);
        values_close(&v);
    }
}

static void test_in_place(void **state)
{
    (void)state;
    static const char *const levels[] = {"plain", "avx2", "avx512", "avx512bf16"};
    for (int i = 0; i < 4; i++) {
        device *d = device_of(levels[i], 2); /* those that are missing are counted above */
        if (d) in_place(d);
        device_close(&d);
    }
}

/* Values far from zero: a mean of 300 standard deviations costs float32's rounding of the mean and
 * no more; a large map is as exact as a small one. */
static void test_group_norm_exact(void **state)
{
    (void)state;
    static const struct {
        double mean, bound;
    } rows[] = {{0, 1e-6}, {30, 4e-6}, {300, 4e-5}};
    struct test_case c = {.call = {.kind = OP_GROUP_NORM,
                                   .in_count = 3,
                                   .out_count = 2,
                                   .params = {.groups = 4, .eps = 1e-6f},
                                   .in = {F32(1, 256, 256, 16), F32(16), F32(16)},
                                   .out = {F32(1, 256, 256, 16), F32(1, 4, 2)}}};
    for (int i = 0; i < 3; i++) {
        device *d = best_device();
        struct values v = values_open(&c);
        size_t n = array_count(&c.call.in[0]);
        for (size_t j = 0; j < n; j++) v.in[0][j] = (double)(float)(v.in[0][j] + rows[i].mean);
        for (int j = 0; j < 16; j++) v.in[1][j] = 1, v.in[2][j] = 0;
        reference_run(&c.call, v.in, v.out);
        struct bound b = {.call = c.call};
        for (int j = 0; j < 3; j++) bind_input(&b, j, &c.call.in[j], v.in[j], false);
        fill_outputs(&b);
        run_call(d, &b.call);
        double off = error_of(&b.call.out[0], v.out[0]), deviation = 0;
        for (int g = 0; g < 4; g++) { /* stats: 1/std alone, whatever the mean */
            double have = (double)((float *)operand_data(&b.call.out[1]))[2 * g + 1];
            deviation = fmax(deviation, fabs(have / v.out[1][2 * g + 1] - 1));
        }
        print_message("group norm, mean %g: output off by %.2g, 1/std by %.2g\n", rows[i].mean, off,
                      deviation);
        assert_true(off < rows[i].bound && deviation < 2e-7 + 1e-9 * rows[i].mean);
        release(&b);
        values_close(&v);
        device_close(&d);
    }
}

/* Every float between -20 and 20 in steps: relative error where the result is not tiny. */
static void test_unary_exact(void **state)
{
    (void)state;
    enum { N = 80001 };
    device *d = best_device();
    float *x = allocate(N * sizeof *x), *y = allocate(N * sizeof *y);
    double *xd = allocate(N * sizeof *xd), *yd = allocate(N * sizeof *yd);
    for (int i = 0; i < N; i++) xd[i] = (double)(x[i] = (float)(i - N / 2) / (N / 2) * 20);
    static const char *const names[] = {"silu", "gelu", "quick gelu", "relu"};
    for (int kind = UNARY_SILU; kind <= UNARY_RELU; kind++) {
        op_call call = {.kind = OP_UNARY,
                        .in_count = 1,
                        .out_count = 1,
                        .params = {.unary = (unary_kind)kind},
                        .in = {F32(N)},
                        .out = {F32(N)}};
        operand_put(&call.in[0], x);
        operand_put(&call.out[0], y);
        run_call(d, &call);
        reference_run(&call, (double *[]){xd}, (double *[]){yd});
        double relative = 0, absolute = 0;
        for (int i = 0; i < N; i++) {
            double off = fabs((double)y[i] - yd[i]);
            if (x[i] > -4) relative = fmax(relative, off / (fabs(yd[i]) + 1e-30));
            absolute = fmax(absolute, off / fmax(1, fabs(yd[i])));
        }
        print_message("%s: relative error %.2g, absolute %.2g\n", names[kind], relative, absolute);
        assert_true(absolute < 2e-7 && (kind == UNARY_GELU ? relative < 4e-6 : relative < 1e-6));
    }
    float odd[4] = {NAN, INFINITY, -100, 0}, out[4];
    op_call call = {
        .kind = OP_UNARY, .in_count = 1, .out_count = 1, .in = {F32(4)}, .out = {F32(4)}};
    operand_put(&call.in[0], odd);
    operand_put(&call.out[0], out);
    for (int kind = UNARY_SILU; kind <= UNARY_RELU; kind++) {
        call.params.unary = (unary_kind)kind;
        run_call(d, &call);
        assert_true(isnan(out[0]) && isinf(out[1]) && fabsf(out[2]) < 1e-30f && out[3] == 0);
    }
    free(x), free(y), free(xd), free(yd);
    device_close(&d);
}

/* Attention of one head over N keys, whole blocks or not, at this scale of logits, whose rounding
 * `bound` allows for. */
static void attention_extreme(int64_t n, float alpha, double bound)
{
    enum { D = 8 };
    device *d = best_device();
    struct test_case c = {.call = {.kind = OP_ATTENTION,
                                   .in_count = 3,
                                   .out_count = 2,
                                   .params = {.heads = 1, .alpha = alpha},
                                   .in = {F32(1, n, D), F32(1, n, D), F32(1, n, D)},
                                   .out = {F32(1, n, D), F32(1, 1, n)}},
                          .spread = 3};
    struct values v = values_open(&c);
    struct bound b = {.call = c.call};
    for (int j = 0; j < 3; j++) bind_input(&b, j, &c.call.in[j], v.in[j], false);
    fill_outputs(&b);
    run_call(d, &b.call);
    assert_true(error_of(&b.call.out[0], v.out[0]) < bound);
    assert_true(error_of(&b.call.out[1], v.out[1]) < 1e-6);
    ((float *)operand_data(&b.call.in[0]))[7 * D] = NAN;
    run_call(d, &b.call);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(!!isnan(((float *)operand_data(&b.call.out[0]))[i * D]), i == 7);
    release(&b);
    values_close(&v);
    device_close(&d);
}

/* Large logits: nothing overflows, and a NaN in one query reaches that row only. */
static void test_attention_extremes(void **state)
{
    (void)state;
    attention_extreme(30, 20, 1e-4); /* logits near 1000 are rounded */
    attention_extreme(32, 20, 1e-4);
    attention_extreme(288, 20, 1e-4);
    attention_extreme(32, 1e6f, 1e-4);   /* beyond where float32 counts */
    attention_extreme(288, 1e20f, 1e-4); /* one key is all */
    attention_extreme(288, -1e20f, 1e-4);
}

static void test_refused(void **state)
{
    (void)state;
    device *d = best_device();
    op_call attention = {.kind = OP_ATTENTION,
                         .in_count = 3,
                         .out_count = 1,
                         .params = {.heads = 3},
                         .out = {F32(1, 4, 8)},
                         .in = {F32(1, 4, 8), F32(1, 4, 8), F32(1, 4, 8)}};
    op_call group = {.kind = OP_GROUP_NORM,
                     .in_count = 3,
                     .out_count = 1,
                     .params = {.groups = 3},
                     .in = {F32(1, 4, 8), F32(8), F32(8)},
                     .out = {F32(1, 4, 8)}};
    op_call scale = {
        .kind = OP_SCALE, .in_count = 1, .out_count = 1, .in = {F16(4)}, .out = {F32(4)}};
    op_call *calls[] = {&attention, &group, &scale};
    for (int i = 0; i < 3; i++) {
        void *s = NULL;
        size_t size = 0;
        error e = {0};
        assert_false(d->prepare(d, calls[i], &s, &size, &e));
        assert_int_equal(e.code, ERROR_USAGE);
    }
    if (allocation_can_fail()) {
        void *s = NULL;
        size_t size = 0;
        error e = {0};
        attention.params.heads = 2;
        allocation_fail_at(0);
        bool ok = d->prepare(d, &attention, &s, &size, &e);
        assert_true(allocation_fail_end());
        assert_false(ok);
        assert_int_equal(e.code, ERROR_MEMORY);
    }
    device_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_avx2),
        cmocka_unit_test(test_avx512),      cmocka_unit_test(test_avx512bf16),
        cmocka_unit_test(test_in_place),    cmocka_unit_test(test_group_norm_exact),
        cmocka_unit_test(test_unary_exact), cmocka_unit_test(test_attention_extremes),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
