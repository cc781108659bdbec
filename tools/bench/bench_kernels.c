/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_kernels: times the cpu device's own kernels at Stable Diffusion 1.x's shapes: GFLOP/s of
 * attention (4 or, backward, 10 flops a pair and channel), GB/s of what only moves through memory
 * (its operands counted once). Usage: bench_kernels [threads] [only names that contain this].
 * Built by the CMake target of its name, with the others by "benches". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "operands.h"

/* Attention: batch, n queries, m keys, c heads of `size`. Else a map [batch,n,c]. */
struct shape {
    const char *name;
    op_kind kind;
    int64_t batch, n, m, c, size;
};

static const struct shape shapes[] = {
    {"attention 64x64, 8 x 40", OP_ATTENTION, 2, 4096, 4096, 8, 40},
    {"attention 32x32, 8 x 80", OP_ATTENTION, 2, 1024, 1024, 8, 80},
    {"attention 16x16, 8 x 160", OP_ATTENTION, 2, 256, 256, 8, 160},
    {"attention 8x8, 8 x 160", OP_ATTENTION, 2, 64, 64, 8, 160},
    {"attention text 64x64, 8 x 40", OP_ATTENTION, 2, 4096, 77, 8, 40},
    {"attention text 32x32, 8 x 80", OP_ATTENTION, 2, 1024, 77, 8, 80},
    {"attention text encoder", OP_ATTENTION, 2, 77, 77, 12, 64},
    {"attention VAE, 1 x 512", OP_ATTENTION, 1, 4096, 4096, 1, 512},
    {"attention grad 64x64, 8 x 40", OP_ATTENTION_GRAD, 1, 4096, 4096, 8, 40},
    {"attention grad 32x32, 8 x 80", OP_ATTENTION_GRAD, 1, 1024, 1024, 8, 80},
    {"attention grad 16x16, 8 x 160", OP_ATTENTION_GRAD, 1, 256, 256, 8, 160},
    {"attention grad text 64x64", OP_ATTENTION_GRAD, 1, 4096, 77, 8, 40},
    {"group norm silu 320@64", OP_GROUP_NORM, 2, 4096, 0, 320, 0},
    {"group norm silu 1280@16", OP_GROUP_NORM, 2, 256, 0, 1280, 0},
    {"group norm silu 128@512", OP_GROUP_NORM, 1, 262144, 0, 128, 0},
    {"group norm grad 320@64", OP_GROUP_NORM_GRAD, 2, 4096, 0, 320, 0},
    {"layer norm 320@64", OP_LAYER_NORM, 2, 4096, 0, 320, 0},
    {"layer norm 1280@16", OP_LAYER_NORM, 2, 256, 0, 1280, 0},
    {"geglu 1280@64", OP_GEGLU, 2, 4096, 0, 1280, 0},
    {"silu 320@64", OP_UNARY, 2, 4096, 0, 320, 0},
    {"add 320@64", OP_ADD, 2, 4096, 0, 320, 0},
    {"concat 320+320@64", OP_CONCAT, 2, 4096, 0, 320, 0},
    {"sum space 320@64", OP_SUM_SPACE, 2, 4096, 0, 320, 0},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static array array3(int64_t a, int64_t b, int64_t c)
{
    return (array){.type = DTYPE_F32, .rank = 3, .dim = {a, b, c}};
}

static op_call call_of(const struct shape *s)
{
    op_call call = {
        .kind = s->kind,
        .in_count = 3,
        .out_count = 2,
        .params = {.heads = (int)s->c, .alpha = 0.125f, .groups = 32, .eps = 1e-5f, .silu = true}};
    array map = array3(s->batch, s->n, s->c), row = array3(1, 1, s->c);
    array stats = array3(s->batch, s->n, 2);
    row.rank = 1;
    row.dim[0] = s->c;
    if (s->kind == OP_ATTENTION || s->kind == OP_ATTENTION_GRAD) {
        array q = array3(s->batch, s->n, s->c * s->size);
        array k = array3(s->batch, s->m, s->c * s->size);
        array lse = array3(s->batch, s->c, s->n);
        if (s->kind == OP_ATTENTION) {
            call.in[0] = call.out[0] = q;
            call.in[1] = call.in[2] = k;
            call.out[1] = lse;
        } else {
            call.in_count = 6;
            call.out_count = 3;
            call.in[0] = call.in[1] = call.in[4] = call.out[0] = q;
            call.in[2] = call.in[3] = call.out[1] = call.out[2] = k;
            call.in[5] = lse;
        }
        return call;
    }
    call.in[0] = call.out[0] = map;
    call.in[1] = call.in[2] = row;
    call.out[1] = stats;
    switch (s->kind) {
    case OP_GROUP_NORM_GRAD:
        call.in_count = 5;
        call.out_count = 3;
        call.in[1] = map;
        call.in[3] = row;
        call.in[4] = stats;
        call.out[1] = call.out[2] = row;
        break;
    case OP_GEGLU: call.in[0].dim[2] *= 2; break;
    case OP_ADD: call.in[1] = map; break;
    case OP_CONCAT:
        call.in[1] = map;
        call.out[0].dim[2] *= 2;
        break;
    case OP_SUM_SPACE:
        call.out[0].rank = 2;
        call.out[0].dim[1] = s->c;
        break;
    default: break;
    }
    if (s->kind == OP_GEGLU || s->kind == OP_UNARY || s->kind == OP_SUM_SPACE) call.in_count = 1;
    if (s->kind == OP_ADD || s->kind == OP_CONCAT) call.in_count = 2;
    if (s->kind != OP_GROUP_NORM && s->kind != OP_LAYER_NORM && s->kind != OP_GROUP_NORM_GRAD)
        call.out_count = 1;
    return call;
}

/* Memory of an operand, filled; its bytes are added to *total. Kept until the program ends. */
static bool fill(array *a, double *total)
{
    int64_t n = 1;
    for (int i = 0; i < a->rank; i++) n *= a->dim[i];
    float *data = block_alloc((size_t)n * sizeof *data);
    *a = operand_at(*a, data);
    for (int64_t i = 0; data && i < n; i++) data[i] = (float)(i * 7 % 31) / 31 - 0.45f;
    *total += (double)n * sizeof *data;
    return data != NULL;
}

static bool bench(device *d, const struct shape *s)
{
    op_call call = call_of(s);
    double bytes = 0, best = 1e9, start = clock_seconds();
    error e = {0};
    void *state = NULL;
    size_t size = 0;
    bool ok = true;
    for (int i = 0; i < call.in_count; i++) ok = ok && fill(&call.in[i], &bytes);
    for (int i = 0; i < call.out_count; i++) ok = ok && fill(&call.out[i], &bytes);
    if (!ok) return error_memory(&e, s->name, (unsigned long long)bytes);
    if (!d->prepare(d, &call, &state, &size, &e)) {
        fprintf(stderr, "%s: %s\n", s->name, e.text);
        return false;
    }
    void *scratch = block_alloc(size + 64);
    if (!scratch) return false;
    for (int i = 0; i < 4 || (i < 40 && clock_seconds() - start < 1); i++) {
        double t = clock_seconds();
        run_one(d, &call, state, scratch);
        t = clock_seconds() - t;
        if (i && t < best) best = t;
    }
    double flop = (s->kind == OP_ATTENTION ? 4.0 : 10.0) * (double)(s->batch * s->n * s->m) *
                  (double)(s->c * s->size);
    if (s->m)
        printf("%-30s %9.3f ms %7.1f GFLOP/s  scratch %5.1f MB\n", s->name, best * 1e3,
               flop / best / 1e9, (double)size / 1e6);
    else
        printf("%-30s %9.3f ms %7.1f GB/s\n", s->name, best * 1e3, bytes / best / 1e9);
    fflush(stdout);
    d->unprepare(d, &call, state);
    block_free(scratch, size + 64);
    return true;
}

int main(int argc, char **argv)
{
    device *d = NULL;
    error e = {0};
    if (!device_open(&d, "cpu", &(device_options){.threads = argc > 1 ? atoi(argv[1]) : 0}, &e)) {
        fprintf(stderr, "bench_kernels: %s\n", e.text);
        return 1;
    }
    printf("%s\n", d->name);
    int failed = 0;
    for (int i = 0; i < SHAPES; i++)
        if (argc < 3 || strstr(shapes[i].name, argv[2])) failed += !bench(d, &shapes[i]);
    device_close(&d);
    return failed > 0;
}
