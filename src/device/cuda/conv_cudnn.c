/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_cudnn: conv.h by cuDNN. Of its algorithms the first in its own order of speed is taken that
 * is deterministic, uses no shorter type than it is given, and wants no more scratch than
 * MOST_SCRATCH. */
#include <cudnn.h>
#include <stdlib.h>

#include "device/cuda/conv.h"

enum { MOST_SCRATCH = 512 << 20, MOST_ALGORITHMS = 16 };

struct conv_library {
    cudnnHandle_t handle;
};

struct conv_plan {
    const conv_library *library;
    conv_way way;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t job;
    int algorithm; /* of the way's own kind */
    float scale;
    size_t scratch;
};

static bool done(cudnnStatus_t status, const char *what, error *e)
{
    return status == CUDNN_STATUS_SUCCESS ||
           error_set(e, status == CUDNN_STATUS_ALLOC_FAILED ? ERROR_MEMORY : ERROR_DEVICE,
                     "cuDNN failed (%s): %s", what, cudnnGetErrorString(status));
}

bool conv_library_open(conv_library **out, const gpu *g, error *e)
{
    conv_library *l = *out = calloc(1, sizeof *l);
    if (!l) return error_memory(e, "cuDNN", sizeof *l);
    if (done(cudnnCreate(&l->handle), "its opening", e) &&
        done(cudnnSetStream(l->handle, g->stream), "its stream", e))
        return true;
    conv_library_close(out);
    return false;
}

void conv_library_close(conv_library **l)
{
    if (*l && (*l)->handle) cudnnDestroy((*l)->handle);
    free(*l);
    *l = NULL;
}

static cudnnDataType_t type_of(dtype t)
{
    return t == DTYPE_F16    ? CUDNN_DATA_HALF
           : t == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16
                             : CUDNN_DATA_FLOAT;
}

static bool describe(conv_plan *p, const conv_shape *s, error *e)
{
    cudnnDataType_t type = type_of(s->type);
    cudnnMathType_t math = s->type == DTYPE_F32 ? CUDNN_FMA_MATH
                                                : CUDNN_TENSOR_OP_MATH; /* no TF32 */
    return done(cudnnCreateTensorDescriptor(&p->x), "a tensor", e) &&
           done(cudnnCreateTensorDescriptor(&p->y), "a tensor", e) &&
           done(cudnnCreateFilterDescriptor(&p->w), "a filter", e) &&
           done(cudnnCreateConvolutionDescriptor(&p->job), "a convolution", e) &&
           done(cudnnSetTensor4dDescriptor(p->x, CUDNN_TENSOR_NHWC, type, (int)s->batch, (int)s->in,
                                           (int)s->height, (int)s->width),
                "a tensor", e) &&
           done(cudnnSetTensor4dDescriptor(p->y, CUDNN_TENSOR_NHWC, type, (int)s->batch,
                                           (int)s->out, (int)s->y_height, (int)s->y_width),
                "a tensor", e) &&
           done(cudnnSetFilter4dDescriptor(p->w, type, CUDNN_TENSOR_NHWC, (int)s->out, (int)s->in,
                                           (int)s->kh, (int)s->kw),
                "a filter", e) &&
           done(cudnnSetConvolution2dDescriptor(p->job, s->pad_height, s->pad_width, s->stride,
                                                s->stride, 1, 1, CUDNN_CROSS_CORRELATION,
                                                CUDNN_DATA_FLOAT),
                "a convolution", e) &&
           done(cudnnSetConvolutionMathType(p->job, math), "a convolution", e);
}

/* What the three kinds of results of cuDNN's choice have in common. */
#define TAKE_FIRST(list, count)                                                                    \
    for (int i = 0; i < (count); i++)                                                              \
        if ((list)[i].status == CUDNN_STATUS_SUCCESS &&                                            \
            (list)[i].determinism == CUDNN_DETERMINISTIC &&                                        \
            (list)[i].memory <= (size_t)MOST_SCRATCH) {                                            \
            p->algorithm = (int)(list)[i].algo;                                                    \
            p->scratch = (list)[i].memory;                                                         \
            return done(cudnnSetConvolutionMathType(p->job, (list)[i].mathType), "a convolution",  \
                        e);                                                                        \
        }

static bool choose(conv_plan *p, error *e)
{
    cudnnConvolutionFwdAlgoPerf_t forward[MOST_ALGORITHMS];
    cudnnConvolutionBwdDataAlgoPerf_t data[MOST_ALGORITHMS];
    cudnnConvolutionBwdFilterAlgoPerf_t filter[MOST_ALGORITHMS];
    cudnnHandle_t h = p->library->handle;
    int count = 0;
    if (p->way == CONV_FORWARD) {
        if (!done(cudnnGetConvolutionForwardAlgorithm_v7(h, p->x, p->w, p->job, p->y,
                                                         MOST_ALGORITHMS, &count, forward),
                  "its choice", e))
            return false;
        TAKE_FIRST(forward, count)
    } else if (p->way == CONV_BY_DATA) {
        if (!done(cudnnGetConvolutionBackwardDataAlgorithm_v7(h, p->w, p->y, p->job, p->x,
                                                              MOST_ALGORITHMS, &count, data),
                  "its choice", e))
            return false;
        TAKE_FIRST(data, count)
    } else {
        if (!done(cudnnGetConvolutionBackwardFilterAlgorithm_v7(h, p->x, p->y, p->job, p->w,
                                                                MOST_ALGORITHMS, &count, filter),
                  "its choice", e))
            return false;
        TAKE_FIRST(filter, count)
    }
    return error_set(e, ERROR_USAGE, "cuDNN has no deterministic convolution of this shape");
}

bool conv_open(conv_plan **out, conv_library *l, const conv_shape *s, size_t *scratch, error *e)
{
    conv_plan *p = *out = calloc(1, sizeof *p);
    if (!p) return error_memory(e, "a convolution", sizeof *p);
    *p = (conv_plan){.library = l, .way = s->way, .scale = s->scale};
    bool ok = describe(p, s, e) && choose(p, e);
    *scratch = p->scratch;
    if (!ok) conv_close(out);
    return ok;
}

void conv_close(conv_plan **handle)
{
    conv_plan *p = *handle;
    *handle = NULL;
    if (!p) return;
    if (p->x) cudnnDestroyTensorDescriptor(p->x);
    if (p->y) cudnnDestroyTensorDescriptor(p->y);
    if (p->w) cudnnDestroyFilterDescriptor(p->w);
    if (p->job) cudnnDestroyConvolutionDescriptor(p->job);
    free(p);
}

bool conv_run(const conv_plan *p, const void *a, const void *b, void *result, bool onto,
              void *scratch, error *e)
{
    float old = onto ? 1 : 0;
    cudnnHandle_t h = p->library->handle;
    if (p->way == CONV_FORWARD)
        return done(cudnnConvolutionForward(h, &p->scale, p->x, a, p->w, b, p->job,
                                            (cudnnConvolutionFwdAlgo_t)p->algorithm, scratch,
                                            p->scratch, &old, p->y, result),
                    "a convolution", e);
    if (p->way == CONV_BY_DATA)
        return done(cudnnConvolutionBackwardData(h, &p->scale, p->w, b, p->y, a, p->job,
                                                 (cudnnConvolutionBwdDataAlgo_t)p->algorithm,
                                                 scratch, p->scratch, &old, p->x, result),
                    "a convolution by data", e);
    return done(cudnnConvolutionBackwardFilter(h, &p->scale, p->x, b, p->y, a, p->job,
                                               (cudnnConvolutionBwdFilterAlgo_t)p->algorithm,
                                               scratch, p->scratch, &old, p->w, result),
                "a convolution by weights", e);
}
