/* SPDX-License-Identifier: Apache-2.0
 *
 * The cpu device's linear layers, convolutions and their gradients against plain double loops, on
 * every instruction set this machine has (the others are skipped, and counted as skipped), in
 * float32 and bfloat16, at odd sizes; the same bytes in every run and on any number of threads;
 * weight sets. */
#include "device/cpu/cpu.h"
#include "device_support.h"

#include "base/half.h"

static const char *const levels[] = {"plain", "avx2", "avx512", "avx512bf16"};

static device *device_of(const char *level, int threads, dtype precision)
{
    device *d = NULL;
    error e = {0};
    device_options o = {.threads = threads, .precision = precision, .level = level};
    bool ok = device_open(&d, "cpu", &o, &e);
    if (!ok) assert_int_equal(e.code, ERROR_USAGE);
    return d;
}

/* One case: a convolution, or (k 0) a linear layer of h rows. */
struct shape {
    int64_t batch, h, w, c, o;
    int k, stride, before, after; /* padding on top and left, below and right */
    bool bias, add;
};

static const struct shape shapes[] = {
    {2, 5, 7, 17, 19, 3, 1, 1, 1, true, true},
    {1, 5, 7, 17, 3, 3, 1, 1, 1, true, false},
    {2, 8, 8, 32, 48, 3, 1, 1, 1, false, true},
    {1, 9, 6, 3, 17, 3, 1, 1, 1, true, false},
    {2, 6, 5, 4, 33, 3, 1, 1, 1, false, false},
    {1, 33, 18, 40, 36, 3, 1, 1, 1, true, true},
    {1, 13, 11, 16, 4, 3, 1, 0, 1, true, false},
    {1, 7, 5, 20, 35, 3, 1, 2, 2, false, false},
    {2, 29, 23, 18, 14, 3, 1, 1, 1, true, true},
    {1, 1, 1, 64, 130, 3, 1, 1, 1, true, false},
    {1, 4, 4, 401, 70, 3, 1, 1, 1, true, false},
    {2, 5, 7, 17, 20, 3, 2, 1, 1, true, false},
    {1, 8, 6, 17, 20, 3, 2, 0, 1, true, true},
    {1, 5, 7, 3, 9, 3, 2, 0, 1, false, false},
    {1, 5, 5, 1350, 18, 3, 2, 1, 1, false, false},
    {2, 23, 21, 20, 24, 3, 2, 1, 1, true, false},
    {1, 11, 10, 17, 18, 3, 3, 1, 1, false, false},
    {2, 5, 7, 17, 19, 1, 1, 0, 0, true, true},
    {1, 5, 7, 400, 33, 1, 1, 0, 0, true, false},
    {1, 6, 7, 5, 4, 1, 2, 0, 0, true, false},
    {1, 6, 7, 5, 4, 5, 1, 2, 2, true, false},
    {1, 1, 1, 17, 5, 0, 0, 0, 0, true, false},
    {1, 35, 1, 40, 72, 0, 0, 0, 0, true, true},
    {1, 101, 1, 77, 100, 0, 0, 0, 0, false, false},
    {1, 13, 1, 1400, 33, 0, 0, 0, 0, true, false},
    {1, 300, 1, 3, 3, 0, 0, 0, 0, false, true},
    /* gradients by the weight in several blocks of outputs and channels, of rows, of tiles */
    {3, 9, 13, 70, 101, 3, 1, 1, 1, false, false},
    {1, 250, 236, 3, 5, 3, 1, 1, 1, false, false},
    {1, 25, 25, 35, 200, 3, 2, 1, 1, false, false},
    {1, 140, 1, 530, 200, 0, 0, 0, 0, false, false},
    /* weights too large for their packed copy to be kept */
    {1, 9, 1, 1040, 523, 0, 0, 0, 0, true, false},
    {1, 5, 7, 250, 243, 3, 1, 1, 1, true, true},
    {1, 6, 12, 740, 80, 3, 1, 1, 1, true, false},
    {1, 3, 2, 451, 150, 3, 2, 1, 1, true, false},
    {1, 12, 22, 3660, 16, 3, 1, 1, 1, true, false},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0], SMALL_SHAPES = SHAPES - 5 };

static int64_t out_side(const struct shape *s, int64_t side)
{
    return s->k ? (side + s->before + s->after - s->k) / s->stride + 1 : side;
}

static size_t count_of(const array *a)
{
    size_t n = 1;
    for (int i = 0; i < a->rank; i++) n *= (size_t)a->dim[i];
    return n;
}

/* Every array of a case, and its results in double. */
struct data {
    array x, w, y, b;
    size_t xn, wn, yn;
    float *xv, *wv, *bv, *av, *dyv; /* x, w, bias, add, dy */
    double *y_want, *dx_want, *dw_want;
};

static float *values(size_t n, uint32_t seed, bool bf16)
{
    float *v = malloc(n * sizeof *v);
    assert_non_null(v);
    fill_random(v, n, seed);
    for (size_t i = 0; bf16 && i < n; i++) v[i] = bf16_to_float(bf16_from_float(v[i]));
    return v;
}

static void reference(const struct shape *s, struct data *q)
{
    int64_t k = s->k ? s->k : 1, stride = s->k ? s->stride : 1;
    int64_t oh = out_side(s, s->h), ow = out_side(s, s->w);
    for (size_t i = 0; i < q->yn; i++)
        q->y_want[i] = (s->bias ? q->bv[i % (size_t)s->o] : 0) + (s->add ? q->av[i] : 0);
    for (int64_t p = 0; p < s->batch * oh * ow; p++) {
        for (int64_t t = 0; t < k * k; t++) {
            int64_t y = p / ow % oh * stride - s->before + t / k;
            int64_t z = p % ow * stride - s->before + t % k;
            if (y < 0 || z < 0 || y >= s->h || z >= s->w) continue;
            int64_t at = ((p / (ow * oh) * s->h + y) * s->w + z) * s->c;
            for (int64_t o = 0; o < s->o; o++) {
                double sum = 0, dy = q->dyv[p * s->o + o];
                for (int64_t c = 0; c < s->c; c++) {
                    int64_t w = (o * s->c + c) * k * k + t;
                    sum += (double)q->xv[at + c] * q->wv[w];
                    q->dx_want[at + c] += dy * q->wv[w];
                    q->dw_want[w] += dy * q->xv[at + c];
                }
                q->y_want[p * s->o + o] += sum;
            }
        }
    }
}

static struct data data_open(const struct shape *s, bool bf16)
{
    struct data q = {.b = {.rank = 1, .dim = {s->o}}};
    if (s->k) {
        q.x = (array){.rank = 4, .dim = {s->batch, s->h, s->w, s->c}};
        q.y = (array){.rank = 4, .dim = {s->batch, out_side(s, s->h), out_side(s, s->w), s->o}};
        q.w = (array){.rank = 4, .dim = {s->o, s->c, s->k, s->k}};
    } else {
        q.x = (array){.rank = 3, .dim = {1, s->h, s->c}};
        q.y = (array){.rank = 3, .dim = {1, s->h, s->o}};
        q.w = (array){.rank = 2, .dim = {s->o, s->c}};
    }
    q.xn = count_of(&q.x), q.yn = count_of(&q.y), q.wn = count_of(&q.w);
    q.xv = values(q.xn, 1, bf16), q.wv = values(q.wn, 2, bf16);
    q.bv = values((size_t)s->o, 3, bf16);
    q.av = values(q.yn, 4, bf16), q.dyv = values(q.yn, 5, bf16);
    q.y_want = calloc(q.yn, sizeof(double));
    q.dx_want = calloc(q.xn, sizeof(double));
    q.dw_want = calloc(q.wn, sizeof(double));
    assert_true(q.y_want && q.dx_want && q.dw_want);
    reference(s, &q);
    return q;
}

static void data_close(struct data *q)
{
    free(q->xv), free(q->wv), free(q->bv), free(q->av), free(q->dyv);
    free(q->y_want), free(q->dx_want), free(q->dw_want);
}

static weight weight_of(const array *a, const float *v, dtype type, void **store)
{
    size_t n = count_of(a);
    weight w = {.name = "weight", .type = type, .rank = a->rank};
    memcpy(w.dim, a->dim, sizeof w.dim);
    *store = malloc(n * dtype_size(type));
    assert_non_null(*store);
    convert_from_float(*store, type, v, n);
    w.data = *store;
    return w;
}

static array with_data(array a, const float *v, dtype type, void **store)
{
    size_t n = count_of(&a);
    *store = malloc(n * dtype_size(type));
    assert_non_null(*store);
    convert_from_float(*store, type, v, n);
    operand_put(&a, *store);
    a.type = type;
    return a;
}

/* Of one, two and many threads, beside one another. */
enum { DEVICES = 3 };
static const int threads_of[DEVICES] = {1, 2, 32};

/* Runs the call over dirty memory on every device: the same bytes. Its first output as float32 into
 * `out`. in_place: the output lies where a copy of input 3 is. */
static void call_run(device *const d[DEVICES], op_call *call, bool in_place, float *out)
{
    error e = {0};
    size_t n = count_of(&call->out[0]), bytes = n * dtype_size(call->out[0].type);
    char *first = malloc(bytes), *y = malloc(bytes);
    assert_true(first && y);
    array add = call->in[3];
    for (int i = 0; i < DEVICES; i++) {
        void *state = NULL;
        size_t size = 0;
        memset(y, 0xff, bytes);
        if (in_place) {
            memcpy(y, operand_data(&add), bytes);
            operand_put(&call->in[3], y);
        }
        operand_put(&call->out[0], y);
        if (!d[i]->prepare(d[i], call, &state, &size, &e) || !bind_one(d[i], call, state, &e))
            fail_msg("%s", e.text);
        void *scratch = aligned_alloc(64, (size + 64) & ~(size_t)63);
        assert_non_null(scratch);
        memset(scratch, 0xff, size);
        if (!run_one(d[i], call, state, scratch, &e)) fail_msg("%s", e.text);
        if (i == 0) memcpy(first, y, bytes);
        if (memcmp(first, y, bytes) != 0) fail_msg("%s: other bytes than one thread's", d[i]->name);
        d[i]->unprepare(d[i], call, state);
        free(scratch);
    }
    call->in[3] = add;
    convert_to_float(out, first, call->out[0].type, n);
    free(first), free(y);
}

static void compare(const char *what, const device *d, int index, const float *got,
                    const double *want, size_t n, double bound)
{
    double worst = 0, largest = 1e-30;
    for (size_t i = 0; i < n; i++) {
        double off = got[i] > want[i] ? got[i] - want[i] : want[i] - got[i];
        if (!(off <= worst)) worst = off;
        double size = want[i] < 0 ? -want[i] : want[i];
        if (size > largest) largest = size;
    }
    if (!(worst <= bound * largest))
        fail_msg("%s, %s, shape %d: off by %g of %g", d->name, what, index, worst, largest);
}

/* bound for float32 results; `type` is that of activations, `weights` that of the checkpoint. */
static void shape_check(device *const d[DEVICES], int index, dtype type, dtype weights, bool bf16,
                        double bound)
{
    const struct shape *s = &shapes[index];
    struct data q = data_open(s, bf16);
    void *xs, *ws, *bs, *as, *dys;
    weight w = weight_of(&q.w, q.wv, weights, &ws), b = weight_of(&q.b, q.bv, DTYPE_F32, &bs);
    device_weights *of_w = weights_alone(d[0], &w), *of_b = weights_alone(d[0], &b);
    array x = with_data(q.x, q.xv, type, &xs), dy = with_data(q.y, q.dyv, type, &dys);
    array add = with_data(q.y, q.av, DTYPE_F32, &as), none = {.rank = -1};
    op_params params = {.stride = s->stride,
                        .pad_top = s->before,
                        .pad_left = s->before,
                        .pad_bottom = s->after,
                        .pad_right = s->after};
    float *got = malloc((q.xn + q.yn + q.wn) * sizeof *got), *over = malloc(q.yn * sizeof *over);
    assert_true(got && over);

    op_call call = {.kind = s->k ? OP_CONV2D : OP_LINEAR,
                    .params = params,
                    .in_count = 4,
                    .out_count = 1,
                    .out = {q.y}};
    call.in[0] = x, call.in[1] = weight_array(of_w);
    call.in[2] = s->bias ? weight_array(of_b) : none;
    call.in[3] = s->add ? add : none;
    call_run(d, &call, false, got);
    compare("forward", d[0], index, got, q.y_want, q.yn, bound);
    if (s->add) {
        call_run(d, &call, true, over);
        assert_memory_equal(over, got, q.yn * sizeof *got);
    }
    if (type == DTYPE_BF16) {
        call.out[0].type = DTYPE_BF16;
        call_run(d, &call, false, got);
        compare("forward to bfloat16", d[0], index, got, q.y_want, q.yn, bound + 4e-3);
    }

    op_call dx = {.kind = s->k ? OP_CONV2D_GRAD_X : OP_LINEAR_GRAD_X,
                  .params = params,
                  .in_count = 2,
                  .out_count = 1,
                  .in = {dy, weight_array(of_w)},
                  .out = {q.x}};
    call_run(d, &dx, false, got);
    compare("gradient by x", d[0], index, got, q.dx_want, q.xn, bound);

    op_call dw = {.kind = s->k ? OP_CONV2D_GRAD_W : OP_LINEAR_GRAD_W,
                  .params = params,
                  .in_count = 2,
                  .out_count = 1,
                  .in = {dy, x},
                  .out = {q.w}};
    call_run(d, &dw, false, got);
    compare("gradient by w", d[0], index, got, q.dw_want, q.wn, bound);

    device_weights_close(&of_w);
    device_weights_close(&of_b);
    free(got), free(over), free(xs), free(ws), free(bs), free(as), free(dys);
    data_close(&q);
}

static void level_check(const char *level, dtype precision)
{
    error e = {0};
    device *d[DEVICES] = {device_of(level, 1, precision)};
    if (!d[0]) {
        print_message("%s: this processor lacks it\n", level);
        skip();
        return;
    }
    for (int i = 1; i < DEVICES; i++)
        if (!device_open_beside(&d[i], d[0], threads_of[i], &e)) fail_msg("%s", e.text);
    bool bf16 = precision == DTYPE_BF16;
    dtype type = d[0]->compute;
    static const dtype weights[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    for (int i = 0; i < SHAPES; i++) {
        dtype some = bf16 && i % 2 ? DTYPE_BF16 : type; /* products read it at every level */
        shape_check(d, i, some, weights[i % 3], true, 5e-5);
    }
    for (int i = 0; i < SMALL_SHAPES && !bf16; i++) shape_check(d, i, type, DTYPE_F32, false, 5e-5);
    for (int i = DEVICES - 1; i >= 0; i--) device_close(&d[i]);
    assert_null(d[0]);
}

/* A sample is the same bytes in every batch: tiles by ones, few and many of them go different ways
 * (the weight for all of them, or a little of it at a time). */
static void batches_check(const char *level, int64_t side)
{
    enum { MOST = 70 };
    static const int64_t batches[] = {MOST, 1, 5, 16, 20};
    struct shape s = {MOST, side, side, 36, 40, 3, 1, 1, 1, true, true};
    device *d = device_of(level, 1, DTYPE_F32);
    if (!d) return;
    struct data q = data_open(&s, false);
    void *xs, *ws, *bs, *as, *state;
    weight w = weight_of(&q.w, q.wv, DTYPE_F16, &ws), b = weight_of(&q.b, q.bv, DTYPE_F32, &bs);
    device_weights *of_w = weights_alone(d, &w), *of_b = weights_alone(d, &b);
    array x = with_data(q.x, q.xv, DTYPE_F32, &xs), add = with_data(q.y, q.av, DTYPE_F32, &as);
    float *all = malloc(q.yn * sizeof *all), *some = malloc(q.yn * sizeof *some);
    assert_true(all && some);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        error e = {0};
        size_t size = 0;
        op_call call = {.kind = OP_CONV2D,
                        .params = {.stride = 1, 1, 1, 1, 1},
                        .in_count = 4,
                        .out_count = 1,
                        .in = {x, weight_array(of_w), weight_array(of_b), add},
                        .out = {q.y}};
        call.in[0].dim[0] = call.in[3].dim[0] = call.out[0].dim[0] = batches[i];
        operand_put(&call.out[0], i ? some : all);
        if (!d->prepare(d, &call, &state, &size, &e) || !bind_one(d, &call, state, &e))
            fail_msg("%s", e.text);
        void *scratch = aligned_alloc(64, (size + 64) & ~(size_t)63);
        assert_non_null(scratch);
        if (!run_one(d, &call, state, scratch, &e)) fail_msg("%s", e.text);
        if (i) assert_memory_equal(some, all, count_of(&call.out[0]) * sizeof *all);
        d->unprepare(d, &call, state);
        free(scratch);
    }
    device_weights_close(&of_w);
    device_weights_close(&of_b);
    device_close(&d);
    free(all), free(some), free(xs), free(ws), free(bs), free(as);
    data_close(&q);
}

static void test_batches(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        for (int64_t side = 4; side <= 6; side += 2) batches_check(levels[i], side);
}

static void test_plain(void **s)
{
    (void)s;
    level_check("plain", DTYPE_F32);
}
static void test_plain_bf16(void **s)
{
    (void)s;
    level_check("plain", DTYPE_BF16);
}
static void test_avx2(void **s)
{
    (void)s;
    level_check("avx2", DTYPE_F32);
}
static void test_avx2_bf16(void **s)
{
    (void)s;
    level_check("avx2", DTYPE_BF16);
}
static void test_avx512(void **s)
{
    (void)s;
    level_check("avx512", DTYPE_F32);
}
static void test_avx512_bf16(void **s)
{
    (void)s;
    level_check("avx512", DTYPE_BF16);
}
static void test_avx512bf16(void **s)
{
    (void)s;
    level_check("avx512bf16", DTYPE_F32);
}
static void test_avx512bf16_bf16(void **s)
{
    (void)s;
    level_check("avx512bf16", DTYPE_BF16);
}

/* The words of LIKENESS_CPU and precisions. */
static void test_open(void **state)
{
    (void)state;
    device *d = NULL;
    error e = {0};
    assert_false(device_open(&d, "cpu", &(device_options){.threads = 1, .level = "avx1024"}, &e));
    assert_int_equal(e.code, ERROR_USAGE);
    assert_non_null(strstr(e.text, "avx1024"));
    e = (error){0};
    assert_false(
        device_open(&d, "cpu", &(device_options){.threads = 1, .precision = DTYPE_F16}, &e));
    assert_int_equal(e.code, ERROR_USAGE);
    assert_string_equal(e.text, "the processor does not compute in precision f16: use bf16, which "
                                "takes as little memory, or f32, or a GPU (--device cuda)");
    e = (error){0};
    assert_false(device_open(&d, "cpu", &(device_options){.threads = THREADS_MOST + 1}, &e));
    assert_int_equal(e.code, ERROR_USAGE);
    assert_non_null(strstr(e.text, "threads"));
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        d = device_of(levels[i], 3, DTYPE_BF16);
        if (!d) continue;
        assert_non_null(strstr(d->name, levels[i]));
        assert_int_equal(d->threads, 3);
        assert_int_equal(d->weight_type, DTYPE_BF16);
        device_close(&d);
    }
    d = device_of("", 0, DTYPE_F32);
    assert_true(d->threads >= 1);
    assert_int_equal(d->compute, DTYPE_F32);
    device_close(&d);
    device_close(&d);
}

static void storage_free(void *storage) { free(storage); }

static void test_weight_set(void **state)
{
    (void)state;
    static const float one[] = {1, 2, 3};
    weight_set set = {.item = calloc(3, sizeof(weight)),
                      .count = 3,
                      .storage = malloc(8),
                      .storage_free = storage_free};
    assert_non_null(set.item);
    const char *const names[] = {"a.bias", "a.weight", "b.weight"};
    for (int i = 0; i < 3; i++)
        set.item[i] = (weight){.name = names[i], .rank = 1, .dim = {3}, .data = one};
    for (int i = 0; i < 3; i++) assert_ptr_equal(weight_find(&set, names[i]), &set.item[i]);
    assert_null(weight_find(&set, "a"));
    assert_null(weight_find(&set, "b.weight.more"));
    assert_null(weight_find(&(weight_set){0}, "a"));
    weight_set_close(&set);
    assert_int_equal(set.count, 0);
    weight_set_close(&set);
}

/* Every allocation of prepare and bind fails in turn: an error, nothing left behind. */
static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    device *d = device_of("plain", 1, DTYPE_F32);
    const struct shape *s = &shapes[0];
    struct data q = data_open(s, false);
    void *ws, *bs;
    weight w = weight_of(&q.w, q.wv, DTYPE_F32, &ws), b = weight_of(&q.b, q.bv, DTYPE_F32, &bs);
    device_weights *of_w = weights_alone(d, &w), *of_b = weights_alone(d, &b);
    op_call call = {
        .kind = OP_CONV2D,
        .params = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1},
        .in_count = 3,
        .out_count = 1,
        .in = {q.x, weight_array(of_w), weight_array(of_b)},
        .out = {q.y}};
    bool struck = true;
    for (long n = 0; struck; n++) {
        error e = {0};
        void *prepared = NULL;
        size_t size = 0;
        assert_true(n < 50);
        allocation_fail_at(n);
        bool ok = d->prepare(d, &call, &prepared, &size, &e);
        bool bound = ok && bind_one(d, &call, prepared, &e);
        struck = allocation_fail_end();
        assert_int_equal(bound, !struck);
        if (struck) assert_int_equal(e.code, ERROR_MEMORY);
        if (ok) d->unprepare(d, &call, prepared);
        device_weights_close(&of_w);
        device_weights_close(&of_b);
        of_w = call.in[1].weights = weights_alone(d, &w);
        of_b = call.in[2].weights = weights_alone(d, &b);
    }
    device_weights_close(&of_w);
    device_weights_close(&of_b);
    free(ws), free(bs);
    data_close(&q);
    device_close(&d);
}

/* A file need not align its tensors: every kind of product reads a weight from any address. Under
 * UBSan a load that is not meant for that ends the test. */
static void test_odd_addresses(void **state)
{
    (void)state;
    static const char *const sets[] = {"plain", "avx2", "avx512"};
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const int some[] = {0, 2, 3, 19, 23, 24};
    for (size_t i = 0; i < 3 * 3 * sizeof some / sizeof some[0]; i++) {
        device *d = device_of(sets[i % 3], 2, DTYPE_F32);
        if (!d) continue;
        const struct shape *s = &shapes[some[i / 9]];
        dtype type = types[i / 3 % 3];
        struct data q = data_open(s, true);
        void *xs, *ws, *dys;
        weight w = weight_of(&q.w, q.wv, type, &ws);
        size_t bytes = q.wn * dtype_size(type);
        char *odd = malloc(bytes + 1);
        assert_non_null(odd);
        memcpy(odd + 1, ws, bytes);
        w.data = odd + 1;
        device_weights *of_w = weights_alone(d, &w);
        op_params params = {.stride = s->stride,
                            .pad_top = s->before,
                            .pad_left = s->before,
                            .pad_bottom = s->after,
                            .pad_right = s->after};
        array x = with_data(q.x, q.xv, DTYPE_F32, &xs), dy = with_data(q.y, q.dyv, DTYPE_F32, &dys);
        float *got = malloc((q.xn + q.yn) * sizeof *got);
        assert_non_null(got);
        op_call call = {.kind = s->k ? OP_CONV2D : OP_LINEAR,
                        .params = params,
                        .in_count = 2,
                        .out_count = 1,
                        .in = {x, weight_array(of_w)},
                        .out = {q.y}};
        call_run((device *[]){d, d, d}, &call, false, got);
        for (size_t k = 0; k < q.yn; k++)
            q.y_want[k] -= (s->bias ? q.bv[k % (size_t)s->o] : 0) + (s->add ? q.av[k] : 0);
        compare("forward, odd address", d, some[i / 9], got, q.y_want, q.yn, 5e-5);
        op_call dx = {.kind = s->k ? OP_CONV2D_GRAD_X : OP_LINEAR_GRAD_X,
                      .params = params,
                      .in_count = 2,
                      .out_count = 1,
                      .in = {dy, weight_array(of_w)},
                      .out = {q.x}};
        call_run((device *[]){d, d, d}, &dx, false, got);
        compare("gradient by x, odd address", d, some[i / 9], got, q.dx_want, q.xn, 5e-5);
        device_weights_close(&of_w);
        free(got), free(odd), free(xs), free(ws), free(dys);
        data_close(&q);
        device_close(&d);
    }
}

/* A weight that has changed: its packs are made anew, in the same memory. */
static void test_touch(void **state)
{
    (void)state;
    device *d = device_of("plain", 2, DTYPE_F32);
    struct data q = data_open(&shapes[0], false);
    void *ws, *xs;
    weight w = weight_of(&q.w, q.wv, DTYPE_F16, &ws);
    device_weights *of_w = weights_alone(d, &w);
    op_call call = {
        .kind = OP_CONV2D,
        .params = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1},
        .in_count = 2,
        .out_count = 1,
        .in = {with_data(q.x, q.xv, DTYPE_F32, &xs), weight_array(of_w)},
        .out = {q.y}};
    float *before = malloc(q.yn * sizeof *before), *after = malloc(q.yn * sizeof *after);
    assert_true(before && after);
    call_run((device *[]){d, d, d}, &call, false, before);
    const weight_pack *pack = weight_packs(&call.in[1]);
    const void *data = pack->data;
    uint16_t *half = ws;
    for (size_t i = 0; i < q.wn; i++) half[i] = half_from_float(2 * half_to_float(half[i]));
    device_weights_touch(of_w, 0);
    call_run((device *[]){d, d, d}, &call, false, after);
    assert_ptr_equal(weight_packs(&call.in[1]), pack);
    assert_ptr_equal(pack->data, data);
    assert_null(pack->next);
    assert_int_equal(device_weights_bytes(of_w), pack->size);
    for (size_t i = 0; i < q.yn; i++) assert_true(after[i] == 2 * before[i]);
    device_weights_close(&of_w);
    free(before), free(after), free(ws), free(xs);
    data_close(&q);
    device_close(&d);
}

/* Panels of float16 weights: the bytes that the same numbers in float32 give, and where an
 * instruction reads them half the memory. */
static void halves_check(const char *level, bool halves)
{
    device *d = device_of(level, 2, DTYPE_F32);
    for (int i = 2; d && i < SHAPES; i += 5) {
        const struct shape *s = &shapes[i];
        struct data q = data_open(s, false);
        void *store[2], *xs;
        float *y[2];
        size_t bytes[2];
        for (size_t k = 0; k < q.wn; k++) q.wv[k] = half_to_float(half_from_float(q.wv[k]));
        array x = with_data(q.x, q.xv, DTYPE_F32, &xs);
        for (int k = 0; k < 2; k++) {
            weight w = weight_of(&q.w, q.wv, k ? DTYPE_F16 : DTYPE_F32, &store[k]);
            device_weights *of_w = weights_alone(d, &w);
            op_call call = {
                .kind = s->k ? OP_CONV2D : OP_LINEAR,
                .params = {.stride = s->stride, .pad_top = s->before, .pad_left = s->before},
                .in_count = 2,
                .out_count = 1,
                .in = {x, weight_array(of_w)},
                .out = {q.y}};
            y[k] = malloc(q.yn * sizeof *y[k]);
            assert_non_null(y[k]);
            call_run((device *[]){d, d, d}, &call, false, y[k]);
            bytes[k] = device_weights_bytes(of_w);
            device_weights_close(&of_w);
        }
        assert_memory_equal(y[0], y[1], q.yn * sizeof *y[0]);
        if (bytes[0]) assert_int_equal(bytes[1], bytes[0] / (halves ? 2 : 1));
        free(y[0]), free(y[1]), free(store[0]), free(store[1]), free(xs);
        data_close(&q);
    }
    if (d) device_close(&d);
}

static void test_halves(void **state)
{
    (void)state;
    halves_check("plain", false);
    halves_check("avx2", true);
    halves_check("avx512", true);
}

/* Where products are bfloat16's, a large weight that is trained has no copy: it is read in float32,
 * as it lies. */
static void test_trained(void **state)
{
    (void)state;
    error e = {0};
    device *d = device_of("plain", 2, DTYPE_BF16), *wide = device_of("plain", 2, DTYPE_F32);
    d->compute = DTYPE_BF16;
    for (int i = SHAPES - 2; i < SHAPES; i++) {
        const struct shape *s = &shapes[i];
        struct data q = data_open(s, false);
        void *ws, *xs;
        weight w = weight_of(&q.w, q.wv, DTYPE_F32, &ws), lent = w;
        buffer memory;
        static const size_t at[] = {0};
        lent.data = NULL;
        device_weights *of_w = weights_alone(wide, &w), *trained = NULL;
        if (!d->buffer_open(d, q.wn * sizeof(float), "weights", &memory, &e) ||
            !d->upload(d, &memory, 0, ws, q.wn * sizeof(float), &e) ||
            !device_weights_open_in(d, &(weight_set){.item = &lent, .count = 1}, &memory, at,
                                    &trained, &e))
            fail_msg("%s", e.text);
        op_call call = {
            .kind = s->k ? OP_CONV2D : OP_LINEAR,
            .params = {.stride = s->stride, .pad_top = s->before, .pad_left = s->before},
            .in_count = 2,
            .out_count = 1,
            .in = {with_data(q.x, q.xv, DTYPE_F32, &xs), weight_array(of_w)},
            .out = {q.y}};
        float *want = malloc(q.yn * sizeof *want), *got = malloc(q.yn * sizeof *got);
        assert_true(want && got);
        call_run((device *[]){wide, wide, wide}, &call, false, want);
        call.in[1] = weight_array(trained);
        call_run((device *[]){d, d, d}, &call, false, got);
        assert_memory_equal(got, want, q.yn * sizeof *got);
        assert_int_equal(device_weights_bytes(trained), 0);
        assert_int_equal(device_copy_bytes(d, &lent, WEIGHT_TRAINED), 0);
        device_weights_close(&of_w), device_weights_close(&trained);
        d->buffer_close(&memory);
        free(want), free(got), free(ws), free(xs);
        data_close(&q);
    }
    device_close(&d), device_close(&wide);
}

/* What the convolution of an upsampled map does without is zero: the same bytes as of any map; and
 * other bytes where the map is none, so it does do without. */
static void doubled_check(device *const d[DEVICES], const struct shape *s)
{
    struct data q = data_open(s, false);
    void *ws, *bs, *xs;
    weight w = weight_of(&q.w, q.wv, DTYPE_F32, &ws), b = weight_of(&q.b, q.bv, DTYPE_F32, &bs);
    device_weights *of_w = weights_alone(d[0], &w), *of_b = weights_alone(d[0], &b);
    op_call call = {
        .kind = OP_CONV2D,
        .params = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1},
        .in_count = 4,
        .out_count = 1,
        .in = {[1] = weight_array(of_w), [2] = weight_array(of_b), [3] = {.rank = -1}},
        .out = {q.y}};
    float *want = malloc(q.yn * sizeof *want), *got = malloc(q.yn * sizeof *got);
    assert_true(want && got);
    for (int doubled = 0; doubled < 2; doubled++) {
        for (int64_t i = 0, c = s->c, width = s->w * c; doubled && i < (int64_t)q.xn; i++)
            q.xv[i] = q.xv[i - i / width % 2 * width - i / c % s->w % 2 * c];
        call.in[0] = with_data(q.x, q.xv, DTYPE_F32, &xs);
        call.params.doubled = false;
        call_run(d, &call, false, want);
        call.params.doubled = true;
        call_run(d, &call, false, got);
        assert_int_equal(memcmp(got, want, q.yn * sizeof *got) == 0, doubled);
        free(xs);
    }
    device_weights_close(&of_w), device_weights_close(&of_b);
    free(want), free(got), free(ws), free(bs);
    data_close(&q);
}

static void test_doubled(void **state)
{
    (void)state;
    /* tiles of 4 and of 6 pixels a side, weights first and input first */
    static const struct shape maps[] = {{2, 8, 6, 32, 48, 3, 1, 1, 1, true, false},
                                        {2, 12, 16, 20, 9, 3, 1, 1, 1, true, false},
                                        {1, 34, 40, 40, 20, 3, 1, 1, 1, true, false},
                                        {1, 36, 36, 18, 70, 3, 1, 1, 1, true, false}};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        error e = {0};
        device *d[DEVICES] = {device_of(levels[i], 1, DTYPE_F32)};
        if (!d[0]) continue;
        for (int k = 1; k < DEVICES; k++)
            if (!device_open_beside(&d[k], d[0], threads_of[k], &e)) fail_msg("%s", e.text);
        for (size_t k = 0; k < sizeof maps / sizeof maps[0]; k++) doubled_check(d, &maps[k]);
        for (int k = DEVICES - 1; k >= 0; k--) device_close(&d[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_weight_set),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_plain_bf16),
        cmocka_unit_test(test_avx2),
        cmocka_unit_test(test_avx2_bf16),
        cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_avx512_bf16),
        cmocka_unit_test(test_avx512bf16),
        cmocka_unit_test(test_avx512bf16_bf16),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_touch),
        cmocka_unit_test(test_odd_addresses),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_trained),
        cmocka_unit_test(test_doubled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
