/* SPDX-License-Identifier: Apache-2.0
 *
 * product_cublas: product.h by cuBLASLt. Its matrices are column-major: ours are their transposes,
 * and the operands change places. Of the algorithms that it proposes the first is taken whose
 * parts, where it cuts the sum, are added in a fixed order, so that the bytes are the same in every
 * run. */
#include <cublasLt.h>
#include <stdlib.h>

#include "device/cuda/product.h"

enum { WORKSPACE = 32 << 20 };

struct product_library {
    cublasLtHandle_t handle;
    gpu gpu;
};

struct product_plan {
    const product_library *library;
    product_shape shape;
    cublasLtMatmulDesc_t job;
    cublasLtMatrixLayout_t a, b, y;
    cublasLtMatmulAlgo_t algorithm;
    size_t scratch;
};

static bool done(cublasStatus_t status, const char *what, error *e)
{
    return status == CUBLAS_STATUS_SUCCESS ||
           error_set(e, status == CUBLAS_STATUS_ALLOC_FAILED ? ERROR_MEMORY : ERROR_DEVICE,
                     "cuBLASLt failed (%s): %s", what, cublasLtGetStatusString(status));
}

bool product_library_open(product_library **out, const gpu *g, error *e)
{
    product_library *l = *out = calloc(1, sizeof *l);
    if (!l) return error_memory(e, "cuBLASLt", sizeof *l);
    l->gpu = *g;
    if (done(cublasLtCreate(&l->handle), "its opening", e)) return true;
    product_library_close(out);
    return false;
}

void product_library_close(product_library **l)
{
    if (*l && (*l)->handle) cublasLtDestroy((*l)->handle);
    free(*l);
    *l = NULL;
}

static cudaDataType_t type_of(dtype t)
{
    return t == DTYPE_F16 ? CUDA_R_16F : t == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* What of our matrices cuBLASLt sees as its first operand, its second, its result: [rows, columns].
 */
typedef struct places {
    int64_t a_rows, a_columns, b_rows, b_columns, y_rows, y_columns;
    cublasOperation_t turn_a, turn_b;
} places;

static places places_of(const product_shape *s)
{
    if (s->way == PRODUCT_FORWARD) /* y' = w x' */
        return (places){s->in, s->out, s->in, s->rows, s->out, s->rows, CUBLAS_OP_T, CUBLAS_OP_N};
    if (s->way == PRODUCT_BY_DATA) /* dx' = w' dy' */
        return (places){s->in, s->out, s->out, s->rows, s->in, s->rows, CUBLAS_OP_N, CUBLAS_OP_N};
    return (places){s->in, s->rows, s->out,      s->rows,
                    s->in, s->out,  CUBLAS_OP_N, CUBLAS_OP_T}; /* dw' = x' dy */
}

static bool describe(product_plan *p, error *e)
{
    const product_shape *s = &p->shape;
    places at = places_of(s);
    cublasLtEpilogue_t end = s->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    cudaDataType_t bias = type_of(s->result);
    return done(cublasLtMatmulDescCreate(&p->job, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product",
                e) &&
           done(cublasLtMatmulDescSetAttribute(p->job, CUBLASLT_MATMUL_DESC_TRANSA, &at.turn_a,
                                               sizeof at.turn_a),
                "a product", e) &&
           done(cublasLtMatmulDescSetAttribute(p->job, CUBLASLT_MATMUL_DESC_TRANSB, &at.turn_b,
                                               sizeof at.turn_b),
                "a product", e) &&
           done(cublasLtMatmulDescSetAttribute(p->job, CUBLASLT_MATMUL_DESC_EPILOGUE, &end,
                                               sizeof end),
                "a product", e) &&
           (!s->bias || done(cublasLtMatmulDescSetAttribute(
                                 p->job, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias, sizeof bias),
                             "a bias", e)) &&
           done(cublasLtMatrixLayoutCreate(&p->a, type_of(s->type), (uint64_t)at.a_rows,
                                           (uint64_t)at.a_columns, at.a_rows),
                "a matrix", e) &&
           done(cublasLtMatrixLayoutCreate(&p->b, type_of(s->type), (uint64_t)at.b_rows,
                                           (uint64_t)at.b_columns, at.b_rows),
                "a matrix", e) &&
           done(cublasLtMatrixLayoutCreate(&p->y, type_of(s->result), (uint64_t)at.y_rows,
                                           (uint64_t)at.y_columns, at.y_rows),
                "a matrix", e);
}

static bool choose(product_plan *p, error *e)
{
    uint32_t sums =
        CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* parts in the workspace; or there are none */
    size_t most = WORKSPACE;
    cublasLtMatmulPreference_t want = NULL;
    cublasLtMatmulHeuristicResult_t best = {0};
    int found = 0;
    bool ok = done(cublasLtMatmulPreferenceCreate(&want), "a choice", e) &&
              done(cublasLtMatmulPreferenceSetAttribute(
                       want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
                   "a choice", e) &&
              done(cublasLtMatmulPreferenceSetAttribute(
                       want, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &sums, sizeof sums),
                   "a choice", e) &&
              done(cublasLtMatmulAlgoGetHeuristic(p->library->handle, p->job, p->a, p->b, p->y,
                                                  p->y, want, 1, &best, &found),
                   "a choice", e) &&
              (found > 0 ||
               error_set(e, ERROR_USAGE, "cuBLASLt has no product of %lld x %lld x %lld",
                         (long long)p->shape.rows, (long long)p->shape.in,
                         (long long)p->shape.out));
    if (want) cublasLtMatmulPreferenceDestroy(want);
    p->algorithm = best.algo;
    p->scratch = best.workspaceSize;
    return ok;
}

bool product_open(product_plan **out, product_library *l, const product_shape *s, size_t *scratch,
                  error *e)
{
    product_plan *p = *out = calloc(1, sizeof *p);
    if (!p) return error_memory(e, "a product", sizeof *p);
    *p = (product_plan){.library = l, .shape = *s};
    bool ok = describe(p, e) && choose(p, e);
    *scratch = p->scratch;
    if (!ok) product_close(out);
    return ok;
}

void product_close(product_plan **handle)
{
    product_plan *p = *handle;
    *handle = NULL;
    if (!p) return;
    if (p->job) cublasLtMatmulDescDestroy(p->job);
    if (p->a) cublasLtMatrixLayoutDestroy(p->a);
    if (p->b) cublasLtMatrixLayoutDestroy(p->b);
    if (p->y) cublasLtMatrixLayoutDestroy(p->y);
    free(p);
}

bool product_run(const product_plan *p, const void *a, const void *b, const void *bias,
                 const void *add, void *y, void *scratch, error *e)
{
    float one = 1, more = p->shape.add ? 1 : 0;
    if (p->shape.bias && !done(cublasLtMatmulDescSetAttribute(
                                   p->job, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
                               "a bias", e))
        return false;
    return done(cublasLtMatmul(p->library->handle, p->job, &one, b, p->a, a, p->b, &more,
                               p->shape.add ? add : y, p->y, y, p->y, &p->algorithm, scratch,
                               p->scratch, p->library->gpu.stream),
                "a product", e);
}
