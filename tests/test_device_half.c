/* SPDX-License-Identifier: Apache-2.0
 *
 * test_device_half: every operation and its gradients in float16 and bfloat16, as graphs record
 * them, on the device that the environment names, whose libraries are in them: against the double
 * loops of reference.c on the rounded operands, at odd sizes, within what the formats allow. */
#include <math.h>

#include "base/half.h"
#include "foreign.h"
#include "reference.h"
#include "device_support.h"

#define RANK(...) (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int))
#define ARRAY(which, ...)                                                                          \
    {                                                                                              \
        .type = which, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ }                           \
    }
#define HALF(...) ARRAY(DTYPE_F16, __VA_ARGS__) /* or bfloat16, in its turn */
#define F32(...) ARRAY(DTYPE_F32, __VA_ARGS__)
#define NONE                                                                                       \
    {                                                                                              \
        .rank = -1                                                                                 \
    }

/* A gradient's operands and results: y: the output's gradient, a digit: the forward's input, o and
 * s: its outputs. */
typedef struct slope_case {
    op_kind kind;
    const char *in, *out;
} slope_case;

typedef struct half_case {
    const char *name;
    op_call call;
    const char *weights; /* which inputs are weights */
    double spread;       /* inputs lie in (-spread, spread); 0: 1 */
    slope_case slope[2];
} half_case;

#define CONV(label, s, t, l, b, r, x, w, bias, add, y)                                             \
    {                                                                                              \
        label,                                                                                     \
            {.kind = OP_CONV2D,                                                                    \
             .params = {.stride = s,                                                               \
                        .pad_top = t,                                                              \
                        .pad_left = l,                                                             \
                        .pad_bottom = b,                                                           \
                        .pad_right = r,                                                            \
                        .type = DTYPE_F32},                                                        \
             .in_count = 4,                                                                        \
             .out_count = 1,                                                                       \
             .in = {x, w, bias, add},                                                              \
             .out = {y}},                                                                          \
            "12", 1,                                                                               \
        {                                                                                          \
            {OP_CONV2D_GRAD_X, "y1", "0"}, { OP_CONV2D_GRAD_W, "y0", "1" }                         \
        }                                                                                          \
    }

/* Its result is far beyond float16, its operands are not */
#define LARGE(label, x, w, add, y)                                                                 \
    {                                                                                              \
        label,                                                                                     \
            {.kind = OP_CONV2D,                                                                    \
             .params = {.stride = 1,                                                               \
                        .pad_top = 1,                                                              \
                        .pad_left = 1,                                                             \
                        .pad_bottom = 1,                                                           \
                        .pad_right = 1,                                                            \
                        .type = DTYPE_F32},                                                        \
             .in_count = 4,                                                                        \
             .out_count = 1,                                                                       \
             .in = {x, w, NONE, add},                                                              \
             .out = {y}},                                                                          \
            "12", 60000,                                                                           \
        {                                                                                          \
            {                                                                                      \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

#define LINEAR(label, x, w, bias, add, y)                                                          \
    {                                                                                              \
        label,                                                                                     \
            {.kind = OP_LINEAR,                                                                    \
             .in_count = 4,                                                                        \
             .out_count = 1,                                                                       \
             .in = {x, w, bias, add},                                                              \
             .out = {y}},                                                                          \
            "12", 1,                                                                               \
        {                                                                                          \
            {OP_LINEAR_GRAD_X, "y1", "0"}, { OP_LINEAR_GRAD_W, "y0", "1" }                         \
        }                                                                                          \
    }

#define ATTENTION(label, b, n, m, h, d, mask)                                                      \
    {                                                                                              \
        label,                                                                                     \
            {.kind = OP_ATTENTION,                                                                 \
             .params = {.heads = h, .causal = mask, .alpha = 2.0f / (d)},                          \
             .in_count = 3,                                                                        \
             .out_count = 2,                                                                       \
             .in = {HALF(b, n, (h) * (d)), HALF(b, m, (h) * (d)), HALF(b, m, (h) * (d))},          \
             .out = {HALF(b, n, (h) * (d)), F32(b, h, n)}},                                        \
            "", 2,                                                                                 \
        {                                                                                          \
            {                                                                                      \
                OP_ATTENTION_GRAD, "y012os", "012"                                                 \
            }                                                                                      \
        }                                                                                          \
    }

#define GROUP_NORM(label, x, c, g, act, y)                                                         \
    {                                                                                              \
        label,                                                                                     \
            {.kind = OP_GROUP_NORM,                                                                \
             .params = {.groups = g, .silu = act, .eps = 1e-5f},                                   \
             .in_count = 3,                                                                        \
             .out_count = 2,                                                                       \
             .in = {x, F32(c), F32(c)},                                                            \
             .out = {y, F32(2, g, 2)}},                                                            \
            "12", 1,                                                                               \
        {                                                                                          \
            {                                                                                      \
                OP_GROUP_NORM_GRAD, "y012s", "012"                                                 \
            }                                                                                      \
        }                                                                                          \
    }

#define LAYER_NORM(label, x, c, rows, y)                                                           \
    {                                                                                              \
        label,                                                                                     \
            {.kind = OP_LAYER_NORM,                                                                \
             .params = {.eps = 1e-5f},                                                             \
             .in_count = 3,                                                                        \
             .out_count = 2,                                                                       \
             .in = {x, F32(c), F32(c)},                                                            \
             .out = {y, F32(rows, 2)}},                                                            \
            "12", 1,                                                                               \
        {                                                                                          \
            {                                                                                      \
                OP_LAYER_NORM_GRAD, "y01s", "012"                                                  \
            }                                                                                      \
        }                                                                                          \
    }

#define ONE(label, op, fields, x, y, ...)                                                          \
    {                                                                                              \
        label,                                                                                     \
            {.kind = op,                                                                           \
             .params = {fields},                                                                   \
             .in_count = 1,                                                                        \
             .out_count = 1,                                                                       \
             .in = {x},                                                                            \
             .out = {y}},                                                                          \
            "", 3,                                                                                 \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

#define TWO(label, op, a, b, y)                                                                    \
    {                                                                                              \
        label, {.kind = op, .in_count = 2, .out_count = 1, .in = {a, b}, .out = {y}}, "", 1,       \
        {                                                                                          \
            {                                                                                      \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

static const half_case cases[] = {
    CONV("conv 3x3", 1, 1, 1, 1, 1, HALF(2, 5, 7, 6), F32(9, 6, 3, 3), F32(9), F32(2, 5, 7, 9),
         F32(2, 5, 7, 9)),
    CONV("conv 3x3 alone", 1, 1, 1, 1, 1, HALF(1, 6, 5, 4), F32(8, 4, 3, 3), NONE, NONE,
         F32(1, 6, 5, 8)),
    CONV("conv down", 2, 1, 1, 1, 1, HALF(2, 8, 6, 4), F32(5, 4, 3, 3), F32(5), NONE,
         F32(2, 4, 3, 5)),
    CONV("conv down, encoder", 2, 0, 0, 1, 1, HALF(1, 8, 6, 4), F32(3, 4, 3, 3), F32(3), NONE,
         F32(1, 4, 3, 3)),
    LARGE("conv of large", HALF(2, 5, 7, 6), F32(9, 6, 3, 3), F32(2, 5, 7, 9), F32(2, 5, 7, 9)),
    LINEAR("linear", HALF(2, 5, 24), F32(17, 24), F32(17), F32(2, 5, 17), F32(2, 5, 17)),
    LINEAR("linear to half", HALF(3, 24), F32(16, 24), F32(16), NONE, HALF(3, 16)),
    LINEAR("conv 1x1", HALF(1, 3, 5, 8), F32(4, 8, 1, 1), NONE, NONE, F32(1, 3, 5, 4)),
    ATTENTION("attention 40", 2, 9, 13, 2, 40, false),
    ATTENTION("attention 64 causal", 1, 21, 21, 2, 64, true),
    ATTENTION("attention 80", 1, 5, 18, 2, 80, false),
    ATTENTION("attention 160", 1, 18, 7, 1, 160, false),
    ATTENTION("attention 7", 1, 18, 7, 3, 7, false),
    ATTENTION("attention 200", 2, 9, 11, 1, 200, false),
    GROUP_NORM("group norm", F32(2, 4, 3, 12), 12, 3, true, HALF(2, 4, 3, 12)),
    GROUP_NORM("group norm of half", HALF(2, 15, 18), 18, 2, false, HALF(2, 15, 18)),
    LAYER_NORM("layer norm", F32(7, 20), 20, 7, HALF(7, 20)),
    LAYER_NORM("layer norm of half", HALF(7, 21), 21, 7, F32(7, 21)),
    ONE("silu", OP_UNARY, .unary = UNARY_SILU, HALF(5, 33), HALF(5, 33),
        {OP_UNARY_GRAD, "y0", "0"}),
    ONE("gelu", OP_UNARY, .unary = UNARY_GELU, HALF(5, 32), HALF(5, 32),
        {OP_UNARY_GRAD, "y0", "0"}),
    ONE("relu", OP_UNARY, .unary = UNARY_RELU, HALF(5, 32), HALF(5, 32),
        {OP_UNARY_GRAD, "y0", "0"}),
    ONE("quick gelu", OP_UNARY, .unary = UNARY_QUICK_GELU, HALF(5, 32), HALF(5, 32),
        {OP_UNARY_GRAD, "y0", "0"}),
    ONE("geglu", OP_GEGLU, .stride = 0, HALF(3, 5, 22), HALF(3, 5, 11), {OP_GEGLU_GRAD, "y0", "0"}),
    ONE("scale", OP_SCALE, .alpha = 0.3f, HALF(5, 33), HALF(5, 33), {0}),
    ONE("cast to half", OP_CAST, .stride = 0, F32(5, 33), HALF(5, 33), {0}),
    ONE("cast from half", OP_CAST, .stride = 0, HALF(5, 33), F32(5, 33), {0}),
    ONE("slice", OP_SLICE, .start = 3, HALF(5, 33), HALF(5, 17), {OP_UNSLICE, "y", "0"}),
    ONE("upsample", OP_UPSAMPLE, .stride = 0, HALF(1, 3, 5, 7), HALF(1, 6, 10, 7),
        {OP_UPSAMPLE_GRAD, "y", "0"}),
    TWO("add", OP_ADD, F32(3, 5, 9), HALF(5, 9), F32(3, 5, 9)),
    TWO("add of halves", OP_ADD, HALF(3, 5, 9), HALF(3, 5, 9), HALF(3, 5, 9)),
    TWO("add channel", OP_ADD_CHANNEL, F32(2, 3, 5, 8), HALF(2, 8), F32(2, 3, 5, 8)),
    TWO("concat", OP_CONCAT, HALF(2, 3, 5), HALF(2, 3, 8), HALF(2, 3, 13)),
};
enum { CASES = sizeof cases / sizeof *cases };

/* ---- what the formats allow ----------------------------------------------------------------- */

/* The largest rounding of a number, relative */
static double unit(dtype t)
{
    return t == DTYPE_BF16 ? 0x1p-8 : t == DTYPE_F16 ? 0x1p-11 : 0x1p-24;
}

/* Of the largest of a result: a convolution's passes through the operands' type on the card, and so
 * do the probabilities of attention; their gradients read its rounded result too. */
static double bound_of(op_kind kind, int output, dtype half)
{
    switch (kind) {
    case OP_CONV2D:
    case OP_CONV2D_GRAD_X:
    case OP_CONV2D_GRAD_W: return 2 * unit(half);
    case OP_ATTENTION: return output == 0 ? 2 * unit(half) : 1e-5;
    case OP_ATTENTION_GRAD: return 4 * unit(half);
    default: return 2e-5;
    }
}

/* ---- operands ------------------------------------------------------------------------------- */

static bool listed(const char *list, int i) { return strchr(list, '0' + i) != NULL; }

/* Weights are of any type: such as all types hold. */
static double *random_values(const array *a, double spread, bool is_weight, uint32_t seed)
{
    size_t n = array_count(a);
    double *v = malloc((n + 1) * sizeof *v);
    float *f = malloc((n + 1) * sizeof *f);
    assert_true(v && f);
    fill_random(f, n, seed);
    for (size_t i = 0; i < n; i++) {
        float x = is_weight ? rintf(f[i] * 127) / 128 : f[i] * (float)spread;
        if (a->type == DTYPE_F16) x = half_to_float(half_from_float(x));
        if (a->type == DTYPE_BF16) x = bf16_to_float(bf16_from_float(x));
        v[i] = (double)x;
    }
    free(f);
    return v;
}

typedef struct bench {
    device *d;
    buffer memory;
    size_t used;
    op_call call;
    weight w[OP_MAX_IN];
} bench;

/* Puts an operand behind the others; values NULL: all bits set. */
static void put(bench *b, array *a, const double *values)
{
    size_t n = array_count(a), size = n * dtype_size(a->type);
    if (!n) return;
    float *f = malloc(n * sizeof *f);
    void *data = malloc(size);
    error e = {0};
    assert_true(f && data);
    memset(data, 0xff, size);
    for (size_t i = 0; values && i < n; i++) f[i] = (float)values[i];
    if (values) convert_from_float(data, a->type, f, n);
    a->memory = &b->memory;
    a->offset = b->used;
    b->used += (size + 255) / 256 * 256;
    assert_true(b->used <= b->memory.size);
    if (!b->d->upload(b->d, &b->memory, a->offset, data, size, &e)) fail_msg("%s", e.text);
    free(f);
    free(data);
}

static void put_weight(bench *b, int i, dtype type, const double *values)
{
    array *a = &b->call.in[i];
    size_t n = array_count(a);
    float *f = malloc((n + 1) * sizeof *f);
    void *data = malloc(n * dtype_size(type) + 1);
    error e = {0};
    assert_true(f && data);
    for (size_t k = 0; k < n; k++) f[k] = (float)values[k];
    convert_from_float(data, type, f, n);
    free(f);
    weight *w = &b->w[i];
    *w = (weight){.name = "w", .type = type, .rank = a->rank, .data = data};
    memcpy(w->dim, a->dim, sizeof a->dim);
    if (!device_weights_open(b->d, &(weight_set){.item = w, .count = 1}, &a->weights, &e))
        fail_msg("%s", e.text);
    a->w = w;
    a->type = type;
}

static double *got(bench *b, int i)
{
    const array *a = &b->call.out[i];
    size_t n = array_count(a), size = n * dtype_size(a->type);
    void *data = malloc(size);
    float *f = malloc(n * sizeof *f);
    double *v = malloc(n * sizeof *v);
    error e = {0};
    assert_true(data && f && v);
    if (!b->d->download(b->d, &b->memory, a->offset, data, size, &e)) fail_msg("%s", e.text);
    convert_to_float(f, data, a->type, n);
    for (size_t k = 0; k < n; k++) v[k] = (double)f[k];
    free(data);
    free(f);
    return v;
}

static void run(bench *b, const char *name)
{
    void *state = NULL;
    size_t size = 0;
    buffer scratch = {0};
    error e = {0};
    device *d = b->d;
    if (!d->prepare(d, &b->call, &state, &size, &e) ||
        !d->buffer_open(d, size + 1, "scratch", &scratch, &e) ||
        !bind_one(d, &b->call, state, &e) ||
        !d->submit(d, &(op_step){&b->call, state, name}, 1, &scratch, 0, &e) || !d->wait(d, &e))
        fail_msg("%s: %s", name, e.text);
    d->unprepare(d, &b->call, state);
    d->buffer_close(&scratch);
}

static void expect(bench *b, const char *name, dtype half, double *const want[])
{
    for (int i = 0; i < b->call.out_count; i++) {
        const array *a = &b->call.out[i];
        double *have = got(b, i), largest = 0, bound = bound_of(b->call.kind, i, half);
        size_t n = array_count(a);
        for (size_t k = 0; k < n; k++) largest = fmax(largest, fabs(want[i][k]));
        for (size_t k = 0; k < n; k++) {
            double most = bound * largest + unit(a->type) * fabs(want[i][k]) +
                          (a->type == DTYPE_F16 ? 0x1p-25 : 0);
            if (!(fabs(have[k] - want[i][k]) <= most))
                fail_msg("%s, %s, operation %d, result %d, element %zu: %.9g, not %.9g (within "
                         "%.3g)",
                         name, dtype_name(half), b->call.kind, i, k, have[k], want[i][k], most);
        }
        free(have);
    }
}

/* The next call's operands take the memory of the last one's. */
static void clear(bench *b)
{
    for (int i = 0; i < OP_MAX_IN; i++) {
        device_weights_close(&b->call.in[i].weights);
        free((void *)(uintptr_t)b->w[i].data);
        b->w[i] = (weight){0};
    }
    b->call = (op_call){0};
    b->used = 0;
}

/* ---- one case ------------------------------------------------------------------------------- */

typedef struct values {
    op_call call; /* in its half type */
    double *in[OP_MAX_IN], *out[OP_MAX_OUT], *dy, *slope[OP_MAX_IN];
} values;

static void turned(array *a, dtype half)
{
    if (a->type == DTYPE_F16) a->type = half;
}

/* By linearity: the output for every unit vector in place of the input */
static void product_slope(values *v, int i)
{
    op_call call = v->call;
    double *in[OP_MAX_IN] = {v->in[0], v->in[1]}, *out[OP_MAX_OUT] = {NULL};
    size_t n = array_count(&call.in[i]), count = array_count(&call.out[0]);
    call.in[2].rank = call.in[3].rank = -1;
    in[i] = calloc(n, sizeof(double));
    out[0] = malloc(count * sizeof(double));
    assert_true(in[i] && out[0]);
    for (size_t k = 0; k < n; k++) {
        in[i][k] = 1;
        reference_run(&call, in, out);
        in[i][k] = 0;
        v->slope[i][k] = 0;
        for (size_t j = 0; j < count; j++) v->slope[i][k] += out[0][j] * v->dy[j];
    }
    free(in[i]);
    free(out[0]);
}

static bool is_product(const op_call *call)
{
    return call->kind == OP_CONV2D || call->kind == OP_LINEAR;
}

/* What gradients come in: of products and attention the half type */
static array dy_of(const values *v, dtype half)
{
    array dy = v->call.out[0];
    dy.type = is_product(&v->call) || v->call.kind == OP_ATTENTION ? half : DTYPE_F32;
    return dy;
}

static values values_open(const half_case *c, dtype half)
{
    values v = {.call = c->call};
    for (int i = 0; i < v.call.in_count; i++) turned(&v.call.in[i], half);
    for (int i = 0; i < v.call.out_count; i++) turned(&v.call.out[i], half);
    v.call.params.type = v.call.out[0].type;
    for (int i = 0; i < v.call.in_count; i++)
        v.in[i] = random_values(&v.call.in[i], c->spread, listed(c->weights, i),
                                (uint32_t)(i + 1) * 77);
    for (int i = 0; i < v.call.out_count; i++)
        v.out[i] = malloc((array_count(&v.call.out[i]) + 1) * sizeof(double));
    reference_run(&v.call, v.in, v.out);
    if (!c->slope[0].in) return v;
    array dy = dy_of(&v, half);
    v.dy = random_values(&dy, 1, false, 5);
    for (int i = 0; i < v.call.in_count; i++)
        v.slope[i] = calloc(array_count(&v.call.in[i]) + 1, sizeof(double));
    if (is_product(&v.call))
        product_slope(&v, 0), product_slope(&v, 1);
    else
        reference_gradient(&v.call, v.in, v.dy, v.slope);
    return v;
}

static void values_close(values *v)
{
    for (int i = 0; i < OP_MAX_IN; i++) free(v->in[i]), free(v->slope[i]);
    for (int i = 0; i < OP_MAX_OUT; i++) free(v->out[i]);
    free(v->dy);
}

static void put_input(bench *b, int i, const array *shape, const double *given, bool is_weight,
                      dtype weights)
{
    b->call.in[i] = *shape;
    if (is_weight && shape->rank >= 0)
        put_weight(b, i, weights, given);
    else
        put(b, &b->call.in[i], given);
}

static void forward(bench *b, const half_case *c, const values *v, dtype half, dtype weights)
{
    b->call = v->call;
    for (int i = 0; i < b->call.in_count; i++)
        put_input(b, i, &v->call.in[i], v->in[i], listed(c->weights, i), weights);
    for (int i = 0; i < b->call.out_count; i++) put(b, &b->call.out[i], NULL);
    run(b, c->name);
    expect(b, c->name, half, v->out);
    if (is_product(&b->call) && b->call.in[3].rank >= 0) { /* onto what is added */
        b->call.out[0].offset = b->call.in[3].offset;
        run(b, c->name);
        expect(b, c->name, half, v->out);
    }
    clear(b);
}

static void backward(bench *b, const half_case *c, const slope_case *s, const values *v, dtype half,
                     dtype weights)
{
    double *want[OP_MAX_OUT] = {0};
    array dy = dy_of(v, half);
    b->call = (op_call){.kind = s->kind, .params = v->call.params};
    b->call.params.type = DTYPE_F32;
    for (const char *p = s->in; *p; p++) {
        int i = b->call.in_count++;
        bool digit = *p >= '0' && *p <= '9';
        int which = digit ? *p - '0' : *p == 's';
        put_input(b, i,
                  *p == 'y' ? &dy
                  : digit   ? &v->call.in[which]
                            : &v->call.out[which],
                  *p == 'y' ? v->dy
                  : digit   ? v->in[which]
                            : v->out[which],
                  digit && listed(c->weights, which), weights);
    }
    for (const char *p = s->out; *p; p++) {
        int i = b->call.out_count++;
        b->call.out[i] = v->call.in[*p - '0'];
        b->call.out[i].type = DTYPE_F32;
        want[i] = v->slope[*p - '0'];
        put(b, &b->call.out[i], NULL);
    }
    run(b, c->name);
    expect(b, c->name, half, want);
    clear(b);
}

static void all_in(dtype half)
{
    static const dtype weights[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    bench b = {0};
    error e = {0};
    if (!device_open(&b.d, test_device(), &(device_options){.threads = 1, .precision = half}, &e) ||
        !b.d->buffer_open(b.d, 1 << 20, "numbers", &b.memory, &e))
        fail_msg("%s", e.text);
    assert_int_equal(b.d->compute, half);
    for (int i = 0; i < CASES; i++) {
        values v = values_open(&cases[i], half);
        for (int k = 0; k < 3; k++) {
            if (k && !*cases[i].weights) break;
            forward(&b, &cases[i], &v, half, weights[k]);
            for (int s = 0; s < 2 && cases[i].slope[s].in; s++)
                backward(&b, &cases[i], &cases[i].slope[s], &v, half, weights[k]);
        }
        values_close(&v);
    }
    b.d->buffer_close(&b.memory);
    device_close(&b.d);
}

static void test_float16(void **state)
{
    (void)state;
    all_in(DTYPE_F16);
}

static void test_bfloat16(void **state)
{
    (void)state;
    all_in(DTYPE_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float16),
        cmocka_unit_test(test_bfloat16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
