/* SPDX-License-Identifier: Apache-2.0
 *
 * The optimizers of the cpu device: against torch (its own values, fixtures/optimizer.txt), against
 * bitsandbytes' maps and its CUDA kernel's order (G7, G8), against plain loops written here; every
 * instruction set this machine has gives the same bytes, and so does every number of threads. */
#include <math.h>

#include "base/half.h"
#include "base/sha256.h"
#include "device/cpu/cpu.h"
#include "device_support.h"

static const char *const sets[] = {"plain", "avx2", "avx512"};
enum { SETS = sizeof sets / sizeof sets[0] };

/* NULL where the machine has no such set ("": its best) */
static device *open_set(const char *set, int threads)
{
    device *d = NULL;
    error e = {0};
    device_options o = {.threads = threads, .level = set};
    if (!device_open(&d, "cpu", &o, &e)) assert_int_equal(e.code, ERROR_USAGE);
    return d;
}

static const cpu *cpu_of(const device *d) { return (const cpu *)(const void *)d; }

static void *zeros(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    assert_non_null(p);
    return memset(p, 0, bytes);
}

/* Moments in a block that lies anywhere. */
static struct moment_data moments_at(moment_kind kind, int64_t n, void *block)
{
    moments m;
    moments_place(&m, kind, n, &host_memory, (size_t)(uintptr_t)block);
    return moment_data_of(&m);
}

static void *moments_open(struct moment_data *m, moment_kind kind, int64_t n)
{
    void *block = zeros(moments_bytes(kind, n));
    *m = moments_at(kind, n, block);
    return block;
}

static adamw_step step_at(int64_t step, double rate)
{
    return (adamw_step){.step = step,
                        .rate = rate,
                        .beta1 = 0.9,
                        .beta2 = 0.999,
                        .epsilon = 1e-8,
                        .weight_decay = 1e-2,
                        .grad_scale = 1};
}

/* Gradients of many sizes, some zero */
static void fill_gradients(float *g, int64_t n, uint32_t seed)
{
    fill_random(g, (size_t)n, seed);
    for (int64_t i = 0; i < n; i++) g[i] *= powf(10, (float)(-(i % 9)));
    for (int64_t i = seed % 7; i < n; i += 37) g[i] = 0;
}

/* ---- torch ---------------------------------------------------------------------------------- */

static void test_golden_torch(void **state)
{
    (void)state;
    device *d = open_set("", 0);
    float p[3] = {0.5f, -1, 2};
    struct moment_data m;
    void *block = moments_open(&m, MOMENTS_F32, 3);
    for (int t = 1; t <= 3; t++) {
        float g[3] = {0.1f * (float)t / 2, -0.2f * (float)t / 2, 0.3f * (float)t / 2};
        adamw_step step = step_at(t, 1e-2);
        cpu_adamw(d, &step, p, g, &m);
    }
    static const double want[3] = {0.47062114, -0.97047108, 1.97017121};
    for (int i = 0; i < 3; i++) assert_float_equal(p[i], want[i], 1.5e-7);
    free(block);
    device_close(&d);
}

enum { FIXTURE = 150, FIXTURE_STEPS = 4 };

static void read_line(FILE *f, const char *name, int step, uint32_t *out)
{
    char word[8];
    int number;
    assert_int_equal(fscanf(f, "%7s %d", word, &number), 2);
    assert_string_equal(word, name);
    assert_int_equal(number, step);
    for (int i = 0; i < FIXTURE; i++) assert_int_equal(fscanf(f, "%x", &out[i]), 1);
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Halves equal bit for bit (NaN: both), floats to an ulp or two. */
static void expect_same(const void *ours, const uint32_t *want, bool half)
{
    for (int i = 0; i < FIXTURE; i++) {
        float a = half ? half_to_float(((const uint16_t *)ours)[i]) : ((const float *)ours)[i];
        float b = half ? half_to_float((uint16_t)want[i]) : float_of(want[i]);
        if (isnan(b))
            assert_true(isnan(a));
        else if (half)
            assert_int_equal(((const uint16_t *)ours)[i], want[i]);
        else
            assert_true(fabsf(a - b) <= 3e-7f * fabsf(b));
    }
}

static void repeat_fixture(device *d, FILE *f, const char *name, moment_kind kind)
{
    bool half = kind == MOMENTS_F16;
    uint32_t bits[FIXTURE];
    float p[FIXTURE], g[FIXTURE];
    int odd = 0;
    struct moment_data m;
    void *block = moments_open(&m, kind, FIXTURE);
    read_line(f, name, 0, bits);
    for (int i = 0; i < FIXTURE; i++)
        if (half)
            ((uint16_t *)(void *)p)[i] = (uint16_t)bits[i];
        else
            p[i] = float_of(bits[i]);
    for (int t = 1; t <= FIXTURE_STEPS; t++) {
        read_line(f, name, t, bits);
        for (int i = 0; i < FIXTURE; i++) g[i] = float_of(bits[i]);
        adamw_step step = step_at(t, 1e-2);
        cpu_adamw(d, &step, p, g, &m);
        const void *ours[] = {p, m.m, m.v};
        for (int k = 0; k < 3; k++) {
            read_line(f, name, t, bits);
            expect_same(ours[k], bits, half);
            for (int i = 0; i < FIXTURE && half; i++) odd += (bits[i] & 0x7c00) == 0x7c00;
        }
    }
    assert_true(half ? odd > 100 : odd == 0); /* the author's failure */
    free(block);
}

static void test_torch(void **state)
{
    (void)state;
    for (int s = 0; s < SETS; s++) {
        device *d = open_set(sets[s], 1);
        if (!d) continue;
        FILE *f = fopen(fixture_path("optimizer.txt"), "r");
        assert_non_null(f);
        repeat_fixture(d, f, "f16", MOMENTS_F16);
        repeat_fixture(d, f, "f32", MOMENTS_F32);
        fclose(f);
        device_close(&d);
    }
}

/* ---- bitsandbytes --------------------------------------------------------------------------- */

static void expect_hash(const float *map, const char *want)
{
    char hex[65];
    sha256 s;
    sha256_start(&s);
    sha256_add(&s, map, MAP_SIZE * sizeof *map);
    sha256_end(&s, hex);
    assert_string_equal(hex, want);
}

static void test_maps(void **state)
{
    (void)state;
    device *d = open_set("", 1);
    const struct moment_maps *maps = &cpu_of(d)->maps;
    expect_hash(maps->m, "6d0ca9fed140bc2c31b9be3292029e22a209f6955020e65b13ceb5d7592f4e25");
    expect_hash(maps->v, "8bdfcefe676c452769befeb4d489f5528b91b56d1c5405a95e17feb70181062e");
    device_close(&d);
}

/* bitsandbytes' search, step by step (NUMERICS.md, 7) */
static int search(const float *map, float x)
{
    int pivot = 127, low = 0, high = 255;
    for (int step = 64; step >= 1; step /= 2) {
        if (x > map[pivot])
            low = pivot, pivot += step;
        else
            high = pivot, pivot -= step;
    }
    if (x > map[pivot]) return x > (map[pivot] + map[high]) * 0.5f ? high : pivot;
    return x < (map[pivot] + map[low]) * 0.5f ? low : pivot;
}

static int search_m(const float *map, float moment, float scaled)
{
    int index = search(map, scaled);
    if (!!signbit(map[index]) != !!signbit(moment)) index += moment > 0 ? 1 : -1;
    return index & 255;
}

/* The least distance to any entry, in double */
static double distance(const float *map, double x)
{
    double least = INFINITY;
    for (int i = 0; i < MAP_SIZE; i++) least = fmin(least, fabs(x - (double)map[i]));
    return least;
}

/* 256 numbers of [-1, 1] */
static void check_quantised(device *d, const float *x)
{
    const struct cpu_kernels *k = cpu_kernels_of(d);
    const struct moment_maps *maps = &cpu_of(d)->maps;
    uint8_t m[MOMENTS_BLOCK], v[MOMENTS_BLOCK];
    float size[MOMENTS_BLOCK];
    for (int i = 0; i < MOMENTS_BLOCK; i++) size[i] = fabsf(x[i]);
    k->optimizer->quantise_m(maps, x, 1, m);
    k->optimizer->quantise_v(maps, size, 1, v);
    for (int i = 0; i < MOMENTS_BLOCK; i++)
        if (m[i] != search_m(maps->m, x[i], x[i]) || v[i] != search(maps->v, size[i]))
            fail_msg("%a: m %d, should be %d; v %d, should be %d", (double)x[i], m[i],
                     search_m(maps->m, x[i], x[i]), v[i], search(maps->v, size[i]));
}

static void check_near(device *d, float x)
{
    float all[MOMENTS_BLOCK];
    for (int i = 0; i < MOMENTS_BLOCK; i++) {
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        all[i] = float_of(bits + (uint32_t)(i / 2) - 64);
        if (fabsf(all[i]) > 1 || isnan(all[i])) all[i] = 1;
        if (i % 2) all[i] = -all[i];
    }
    check_quantised(d, all);
}

/* A dense scan, and every float within 64 of a value or of the middle between two. */
static void test_quantise(void **state)
{
    (void)state;
    for (int s = 0; s < SETS; s++) {
        device *d = open_set(sets[s], 1);
        if (!d) continue;
        const struct moment_maps *maps = &cpu_of(d)->maps;
        const float *both[] = {maps->m + 127, maps->v};
        for (int map = 0; map < 2; map++)
            for (int i = 0; i < (map ? 255 : 128); i++) {
                check_near(d, both[map][i + 1]);
                check_near(d, (both[map][i] + both[map][i + 1]) * 0.5f);
            }
        float x[MOMENTS_BLOCK];
        for (uint32_t bits = 0, i = 0; bits <= 0x3f800000; bits += 797, i++) {
            x[i % MOMENTS_BLOCK] = float_of(bits | i << 31);
            if (i % MOMENTS_BLOCK == MOMENTS_BLOCK - 1) check_quantised(d, x);
        }
        for (int i = 0; i < MOMENTS_BLOCK; i++) x[i] = i % 3 ? (float)(i % 2) : -0.0f;
        check_quantised(d, x);
        device_close(&d);
    }
}

/* The rule that search() follows is that of the nearest entry. */
static void test_nearest(void **state)
{
    (void)state;
    device *d = open_set("", 1);
    const struct moment_maps *maps = &cpu_of(d)->maps;
    for (int i = -3000; i <= 3000; i++) {
        float x = (float)(i < 0 ? -1 : 1) * powf((float)abs(i) / 3000, 8);
        double m = fabs((double)x - (double)maps->m[search(maps->m, x)]);
        double v = fabs(fabs((double)x) - (double)maps->v[search(maps->v, fabsf(x))]);
        double slack = 1e-7 * fabs((double)x); /* middles are rounded */
        assert_true(m <= distance(maps->m, (double)x) + slack);
        assert_true(v <= distance(maps->v, fabs((double)x)) + slack);
    }
    device_close(&d);
}

static int total(const uint8_t *bytes, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++) sum += bytes[i];
    return sum;
}

static void test_golden_8bit(void **state)
{
    (void)state;
    enum { N = 4096 };
    static const struct {
        double sum_p, p[4];
        int sum_m, m[8], sum_v, v[8];
        double absmax_m, absmax_v;
    } golden[3] = {
        {152.791961,
         {-0.0010000, 0.0139995, 0.0269968, 0.0399897},
         520224,
         {222, 94, 100, 112, 120, 56, 172, 157},
         186107,
         {154, 16, 10, 2, 0, 87, 35, 13},
         0.0999961,
         0.0009999089},
        {153.301275,
         {-0.0010790, 0.0148394, 0.0280171, 0.0409976},
         520249,
         {170, 77, 96, 113, 122, 206, 185, 158},
         219210,
         {155, 46, 14, 2, 0, 163, 55, 14},
         0.1663051,
         0.001538278},
        {152.169294,
         {-0.0005860, 0.0157529, 0.0289225, 0.0414763},
         520102,
         {36, 66, 97, 116, 130, 238, 190, 154},
         264799,
         {242, 62, 14, 2, 0, 247, 62, 14},
         0.189171,
         0.001582718},
    };
    for (int s = 0; s < SETS; s++) {
        device *d = open_set(sets[s], 2);
        if (!d) continue;
        float p[N], g[N];
        struct moment_data m;
        void *block = moments_open(&m, MOMENTS_8BIT, N);
        for (int i = 0; i < N; i++) p[i] = (float)sin(0.013 * i);
        for (int t = 1; t <= 3; t++) {
            for (int i = 0; i < N; i++) g[i] = (float)(cos(0.7 * i + t) * pow(10, -(i % 5)));
            adamw_step step = step_at(t, 1e-3);
            cpu_adamw(d, &step, p, g, &m);
            const uint8_t *bytes_m = m.m, *bytes_v = m.v;
            double sum = 0;
            for (int i = 0; i < N; i++) sum += (double)p[i];
            print_message("%s step %d: sum p %.6f (%.6f), m %d (%d), v %d (%d)\n", sets[s], t, sum,
                          golden[t - 1].sum_p, total(bytes_m, N), golden[t - 1].sum_m,
                          total(bytes_v, N), golden[t - 1].sum_v);
            assert_float_equal(sum, golden[t - 1].sum_p, 2e-5);
            assert_in_range(total(bytes_m, N), golden[t - 1].sum_m - 2, golden[t - 1].sum_m + 2);
            assert_in_range(total(bytes_v, N), golden[t - 1].sum_v - 2, golden[t - 1].sum_v + 2);
            for (int i = 0; i < 4; i++) assert_float_equal(p[i], golden[t - 1].p[i], 6e-8);
            for (int i = 0; i < 8; i++) {
                assert_int_equal(bytes_m[i], golden[t - 1].m[i]);
                assert_int_equal(bytes_v[i], golden[t - 1].v[i]);
            }
            assert_float_equal(m.absmax_m[0], golden[t - 1].absmax_m, 6e-8);
            assert_float_equal(m.absmax_v[0], golden[t - 1].absmax_v, 6e-10);
        }
        free(block);
        device_close(&d);
    }
}

/* bitsandbytes' update of one block, in plain float32 */
static void plain_block(const struct moment_maps *maps, const adamw_step *s, float *p,
                        const float *g, uint8_t *cm, uint8_t *cv, float *absmax_m, float *absmax_v,
                        int n)
{
    float m[MOMENTS_BLOCK], v[MOMENTS_BLOCK], most_m = 0, most_v = 0;
    float beta1 = (float)s->beta1, beta2 = (float)s->beta2, rate = (float)s->rate;
    float c1 = 1 - powf(beta1, (float)s->step), c2 = sqrtf(1 - powf(beta2, (float)s->step));
    for (int i = 0; i < n; i++) {
        float x = g[i] * s->grad_scale;
        bool finite = isfinite(g[i]);
        m[i] = finite ? maps->m[cm[i]] * *absmax_m * beta1 + (1 - beta1) * x : 0;
        v[i] = finite ? maps->v[cv[i]] * *absmax_v * beta2 + (1 - beta2) * x * x : 0;
        most_m = fmaxf(most_m, fabsf(m[i]));
        most_v = fmaxf(most_v, v[i]);
        if (!finite) continue;
        p[i] += -rate * c2 / c1 * (m[i] / (sqrtf(v[i]) + c2 * (float)s->epsilon));
        if (s->weight_decay > 0) p[i] *= 1 - rate * (float)s->weight_decay;
    }
    *absmax_m = most_m, *absmax_v = most_v;
    for (int i = 0; i < n; i++) {
        cm[i] = (uint8_t)search_m(maps->m, m[i], m[i] / most_m);
        cv[i] = (uint8_t)search(maps->v, v[i] / most_v);
    }
}

/* Bytes equal to the plain loops' on a length that is no whole number of blocks: with NaN and inf,
 * a block of zeros, clipping, no decay. */
static void test_8bit_plain(void **state)
{
    (void)state;
    enum { N = 9 * MOMENTS_BLOCK + 77, BLOCKS = 10 };
    for (int s = 0; s < SETS; s++) {
        device *d = open_set(sets[s], 2);
        if (!d) continue;
        float p[N], q[N], g[N];
        struct moment_data m, w;
        void *block = moments_open(&m, MOMENTS_8BIT, N), *other = moments_open(&w, MOMENTS_8BIT, N);
        fill_random(p, N, 3);
        memcpy(q, p, sizeof p);
        for (int t = 1; t <= 6; t++) {
            adamw_step step = step_at(t, 1e-3);
            fill_gradients(g, N, (uint32_t)t);
            for (int i = 0; i < MOMENTS_BLOCK; i++)
                g[3 * MOMENTS_BLOCK + i] = t < 3 ? (i % 2 ? -0.0f : 0.0f) : g[i];
            if (t == 4) g[5] = NAN, g[700] = INFINITY, g[N - 1] = -INFINITY;
            if (t > 4) step.grad_scale = 0.3f, step.weight_decay = 0;
            cpu_adamw(d, &step, p, g, &m);
            for (int b = 0; b < BLOCKS; b++) {
                int i = b * MOMENTS_BLOCK, n = N - i < MOMENTS_BLOCK ? N - i : MOMENTS_BLOCK;
                plain_block(&cpu_of(d)->maps, &step, q + i, g + i, (uint8_t *)w.m + i,
                            (uint8_t *)w.v + i, w.absmax_m + b, w.absmax_v + b, n);
            }
            assert_memory_equal(m.m, w.m, N);
            assert_memory_equal(m.v, w.v, N);
            assert_memory_equal(m.absmax_m, w.absmax_m, BLOCKS * sizeof(float));
            assert_memory_equal(m.absmax_v, w.absmax_v, BLOCKS * sizeof(float));
            assert_memory_equal(p, q, sizeof p);
        }
        const uint8_t *bytes = m.m;
        assert_int_not_equal(bytes[0], 0);
        free(block), free(other);
        device_close(&d);
    }
}

/* ---- all kinds ------------------------------------------------------------------------------ */

/* Float32 updates in double, one element at a time */
static void plain_float(moment_kind kind, const adamw_step *s, double *p, float gradient, double *m,
                        double *v)
{
    double g = (double)gradient * (double)s->grad_scale, keep = 1 - s->rate * s->weight_decay;
    double c1 = 1 - pow(s->beta1, (double)s->step), c2 = sqrt(1 - pow(s->beta2, (double)s->step));
    if (kind == MOMENTS_F32) *p *= keep;
    *m = *m * s->beta1 + (1 - s->beta1) * g;
    *v = *v * s->beta2 + (1 - s->beta2) * g * g;
    *p -= s->rate / c1 * *m / (sqrt(*v) / c2 + s->epsilon);
    if (kind == MOMENTS_F32_BNB) *p *= keep;
}

static void test_float_plain(void **state)
{
    (void)state;
    enum { N = 1003 };
    static const moment_kind kinds[] = {MOMENTS_F32, MOMENTS_F32_BNB};
    for (int s = 0; s < 2 * SETS; s++) {
        device *d = open_set(sets[s / 2], 2);
        moment_kind kind = kinds[s % 2];
        if (!d) continue;
        float p[N], g[N];
        static double q[N], first[N], second[N];
        struct moment_data m;
        void *block = moments_open(&m, kind, N);
        fill_random(p, N, 3);
        for (int i = 0; i < N; i++) q[i] = (double)p[i], first[i] = second[i] = 0;
        for (int t = 1; t <= 5; t++) {
            adamw_step step = step_at(t, 1e-3);
            step.grad_scale = 0.5f;
            fill_gradients(g, N, (uint32_t)t);
            cpu_adamw(d, &step, p, g, &m);
            for (int i = 0; i < N; i++)
                plain_float(kind, &step, &q[i], g[i], &first[i], &second[i]);
        }
        for (int i = 0; i < N; i++) {
            assert_float_equal(p[i], q[i], 4e-7);
            double size = sqrt(second[i] / (1 - 0.999)); /* of gradients */
            assert_float_equal(((float *)m.m)[i], first[i], 2e-7 * size + 1e-30);
            assert_float_equal(((float *)m.v)[i], second[i], 2e-5 * second[i] + 1e-30);
        }
        free(block);
        device_close(&d);
    }
}

/* Three steps of `kind`, then the weights and the moments as they lie in memory. */
static void run_kind(device *d, moment_kind kind, int64_t n, void *p, void *block)
{
    float *g = zeros((size_t)n * sizeof *g), *start = zeros((size_t)n * sizeof *g);
    struct moment_data m;
    m = moments_at(kind, n, memset(block, 0, moments_bytes(kind, n)));
    fill_random(start, (size_t)n, 9);
    convert_from_float(p, kind == MOMENTS_F16 ? DTYPE_F16 : DTYPE_F32, start, (size_t)n);
    for (int t = 1; t <= 3; t++) {
        adamw_step step = step_at(t, 1e-3);
        step.grad_scale = 0.7f;
        fill_gradients(g, n, (uint32_t)t);
        if (kind == MOMENTS_F16)
            for (int64_t i = 0; i < n; i++) g[i] += 0.1f; /* stays finite */
        cpu_adamw(d, &step, p, g, &m);
    }
    free(g), free(start);
}

static void test_same_bytes(void **state)
{
    (void)state;
    enum { N = 40000 + 77 };
    for (moment_kind kind = MOMENTS_F32; kind <= MOMENTS_F16; kind++) {
        size_t size = (size_t)N * (kind == MOMENTS_F16 ? 2 : 4), bytes = moments_bytes(kind, N);
        void *p = zeros(size), *q = zeros(size), *block = zeros(bytes), *other = zeros(bytes);
        device *first = open_set("plain", 1);
        run_kind(first, kind, N, p, block);
        device_close(&first);
        for (int s = 0; s < SETS; s++)
            for (int threads = 1; threads <= 3; threads++) {
                device *d = open_set(sets[s], threads);
                if (!d) continue;
                run_kind(d, kind, N, q, other);
                assert_memory_equal(q, p, size);
                assert_memory_equal(other, block, bytes);
                device_close(&d);
            }
        free(p), free(q), free(block), free(other);
    }
}

/* Adds b to a, [n]. */
static void add_to(device *d, float *a, float *b, int64_t n)
{
    buffer to = {.device = d, .handle = a}, from = {.device = d, .handle = b};
    update_tensor t = {.gradient = {.memory = &from}, .sum = {.memory = &to}};
    error e = {0};
    t.moments.count = n;
    assert_true(cpu_accumulate(d, &t, 1, &e));
}

static void test_sums(void **state)
{
    (void)state;
    enum { N = 50000 + 13 };
    float *a = zeros(N * sizeof *a), *b = zeros(N * sizeof *b), *c = zeros(N * sizeof *c);
    fill_random(b, N, 1);
    double want = 0, first = 0;
    for (int i = 0; i < N; i++) want += (double)b[i] * (double)b[i];
    for (int s = 0; s < SETS; s++)
        for (int threads = 1; threads <= 3; threads++) {
            device *d = open_set(sets[s], threads);
            if (!d) continue;
            double sum = cpu_sum_squares(d, b, N);
            if (s == 0 && threads == 1) first = sum;
            assert_true(sum == first && fabs(sum - want) < 1e-12 * want);
            assert_true(cpu_sum_squares(d, b, 0) == 0);
            assert_true(cpu_sum_squares(d, b, 5) > 0);
            fill_random(a, N, 2);
            fill_random(c, N, 2);
            add_to(d, a, b, N);
            for (int i = 0; i < N; i++) assert_true(a[i] == c[i] + b[i]);
            float odd[3] = {1, NAN, 2}, large[3] = {1, -INFINITY, 3e38f};
            assert_true(isnan(cpu_sum_squares(d, odd, 3)) && isinf(cpu_sum_squares(d, large, 3)));
            device_close(&d);
        }
    free(a), free(b), free(c);
}

static void test_layout(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 63, 256, 257, 4096, 100001};
    for (moment_kind kind = MOMENTS_F32; kind <= MOMENTS_F16; kind++)
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            int64_t n = counts[i], blocks = (n + MOMENTS_BLOCK - 1) / MOMENTS_BLOCK;
            size_t each = kind == MOMENTS_8BIT ? 1 : kind == MOMENTS_F16 ? 2 : 4;
            struct moment_data m;
            char *block = moments_open(&m, kind, n), *end = block + moments_bytes(kind, n);
            assert_true(m.kind == kind && m.count == n);
            assert_true((char *)m.v >= (char *)m.m + (size_t)n * each);
            assert_true((uintptr_t)m.m % 64 == 0 && (uintptr_t)m.v % 64 == 0);
            if (kind == MOMENTS_8BIT) {
                assert_true((char *)m.absmax_m >= (char *)m.v + n);
                assert_true(m.absmax_v >= m.absmax_m + blocks);
                assert_true((char *)(m.absmax_v + blocks) <= end);
            } else {
                assert_true((char *)m.v + (size_t)n * each <= end && !m.absmax_m);
            }
            free(block);
        }
}

/* Counted as a skip where the machine has no such set; the tests above pass it over. */
static void test_has_avx2(void **state)
{
    (void)state;
    device *d = open_set("avx2", 1);
    if (!d) skip();
    device_close(&d);
}

static void test_has_avx512(void **state)
{
    (void)state;
    device *d = open_set("avx512", 1);
    if (!d) skip();
    device_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_torch), cmocka_unit_test(test_torch),
        cmocka_unit_test(test_maps),         cmocka_unit_test(test_quantise),
        cmocka_unit_test(test_nearest),      cmocka_unit_test(test_golden_8bit),
        cmocka_unit_test(test_8bit_plain),   cmocka_unit_test(test_float_plain),
        cmocka_unit_test(test_same_bytes),   cmocka_unit_test(test_sums),
        cmocka_unit_test(test_layout),       cmocka_unit_test(test_has_avx2),
        cmocka_unit_test(test_has_avx512),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
