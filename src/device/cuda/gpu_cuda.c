/* SPDX-License-Identifier: Apache-2.0
 *
 * gpu_cuda: gpu.h on CUDA's runtime, which is linked in whole and finds the driver by itself. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

#include "device/cuda/gpu.h"

static bool failed(cudaError_t status, const char *what, error *e)
{
    cudaGetLastError(); /* so that it is not told twice */
    return error_set(e, status == cudaErrorMemoryAllocation ? ERROR_MEMORY : ERROR_DEVICE,
                     "the GPU failed (%s): %s. Start again; the system's log (dmesg) may say why",
                     what, cudaGetErrorString(status));
}

static bool done(cudaError_t status, const char *what, error *e)
{
    return status == cudaSuccess || failed(status, what, e);
}

/* ---- cards ---- */

static void version_text(char *out, size_t size, int version)
{
    snprintf(out, size, "%d.%d", version / 1000, version % 1000 / 10);
}

bool gpu_count(int *count, error *e)
{
    int driver = 0, runtime = 0;
    char has[16], wants[16];
    *count = 0;
    cudaRuntimeGetVersion(&runtime);
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return error_set(e, ERROR_USAGE,
                         "there is no NVIDIA driver: install it, or use --device cpu");
    cudaError_t status = cudaGetDeviceCount(count);
    if (status == cudaSuccess && *count > 0) return true;
    cudaGetLastError();
    if (status == cudaErrorInsufficientDriver) {
        version_text(has, sizeof has, driver);
        version_text(wants, sizeof wants, runtime);
        return error_set(e, ERROR_USAGE,
                         "the NVIDIA driver is too old (it has CUDA %s, this is built with %s): "
                         "update it, or use --device cpu",
                         has, wants);
    }
    if (status == cudaSuccess || status == cudaErrorNoDevice)
        return error_set(e, ERROR_USAGE, "the NVIDIA driver finds no GPU: use --device cpu");
    return error_set(e, ERROR_DEVICE, "the NVIDIA driver does not answer: %s",
                     cudaGetErrorString(status));
}

bool gpu_card_read(int card, gpu_card *out, error *e)
{
    struct cudaDeviceProp p;
    size_t left = 0, all = 0;
    if (!done(cudaGetDeviceProperties(&p, card), "its properties", e) ||
        !done(cudaSetDevice(card), "its opening", e) ||
        !done(cudaMemGetInfo(&left, &all), "its memory", e))
        return false;
    *out = (gpu_card){.major = p.major, .minor = p.minor, .memory = p.totalGlobalMem, .left = left};
    snprintf(out->name, sizeof out->name, "%.95s", p.name);
    return true;
}

bool gpu_open(gpu *g, int card, error *e)
{
    cudaStream_t stream;
    *g = (gpu){.card = card};
    if (!gpu_enter(g, e) ||
        !done(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream", e))
        return false;
    g->stream = stream;
    return true;
}

void gpu_close(gpu *g)
{
    if (!g->stream) return;
    cudaSetDevice(g->card);
    cudaStreamSynchronize(g->stream);
    cudaStreamDestroy(g->stream);
    *g = (gpu){0};
}

bool gpu_enter(const gpu *g, error *e) { return done(cudaSetDevice(g->card), "its opening", e); }

/* ---- memory ---- */

bool gpu_alloc(const gpu *g, size_t size, const char *what, void **out, error *e)
{
    cudaError_t status = cudaMalloc(out, size ? size : 1);
    if (status != cudaSuccess) {
        *out = NULL;
        cudaGetLastError();
        if (status != cudaErrorMemoryAllocation) return failed(status, what, e);
        return error_set(e, ERROR_MEMORY,
                         "not enough memory on the GPU for %s (%zu bytes, %llu are free)", what,
                         size, (unsigned long long)gpu_memory_left(g));
    }
    if (gpu_zero(g, *out, size, e)) return true;
    gpu_free(g, *out);
    *out = NULL;
    return false;
}

void gpu_free(const gpu *g, void *memory)
{
    if (!memory) return;
    cudaSetDevice(g->card);
    cudaFree(memory);
}

uint64_t gpu_memory_left(const gpu *g)
{
    size_t left = 0, all = 0;
    cudaSetDevice(g->card);
    /* where it cannot be asked, let what is done next say why */
    return cudaMemGetInfo(&left, &all) == cudaSuccess ? left : UINT64_MAX;
}

bool gpu_upload(const gpu *g, void *to, const void *from, size_t size, error *e)
{
    return done(cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, g->stream), "a copy to it",
                e);
}

bool gpu_download(const gpu *g, void *to, const void *from, size_t size, error *e)
{
    return done(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, g->stream),
                "a copy from it", e) &&
           gpu_wait(g, e);
}

bool gpu_copy(const gpu *g, void *to, const void *from, size_t size, error *e)
{
    return done(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, g->stream),
                "a copy on it", e);
}

bool gpu_zero(const gpu *g, void *to, size_t size, error *e)
{
    return done(cudaMemsetAsync(to, 0, size, g->stream), "clearing memory", e);
}

bool gpu_copy_box(const gpu *g, gpu_box to, gpu_box from, size_t width, size_t height, size_t depth,
                  error *e)
{
    struct cudaMemcpy3DParms p = {
        .srcPtr = {from.data, from.row, width, from.slice / from.row},
        .dstPtr = {to.data, to.row, width, to.slice / to.row},
        .extent = {width, height, depth},
        .kind = cudaMemcpyDeviceToDevice,
    };
    return done(cudaMemcpy3DAsync(&p, g->stream), "a copy on it", e);
}

/* ---- order ---- */

bool gpu_launched(const gpu *g, error *e)
{
    (void)g;
    return done(cudaGetLastError(), "a launch", e);
}

bool gpu_wait(const gpu *g, error *e)
{
    return done(cudaStreamSynchronize(g->stream), "its work", e);
}

bool gpu_mark_open(const gpu *g, gpu_mark *out, error *e)
{
    cudaEvent_t event;
    *out = NULL;
    if (!gpu_enter(g, e) ||
        !done(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event", e))
        return false;
    *out = event;
    return true;
}

void gpu_mark_close(gpu_mark *m)
{
    if (*m) cudaEventDestroy(*m);
    *m = NULL;
}

bool gpu_mark_set(const gpu *g, gpu_mark m, error *e)
{
    return done(cudaEventRecord(m, g->stream), "an event", e);
}

bool gpu_mark_await(const gpu *g, gpu_mark m, error *e)
{
    return done(cudaStreamWaitEvent(g->stream, m, 0), "an event", e);
}

/* ---- records ---- */

/* Other threads may allocate while this one records. */
bool gpu_record_begin(const gpu *g, error *e)
{
    return done(cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal), "a recording",
                e);
}

bool gpu_record_end(const gpu *g, gpu_record *out, error *e)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t whole = NULL;
    *out = NULL;
    bool ok = done(cudaStreamEndCapture(g->stream, &graph), "a recording", e) && graph &&
              done(cudaGraphInstantiate(&whole, graph, 0), "a recording", e);
    if (graph) cudaGraphDestroy(graph);
    if (ok) *out = whole;
    return ok;
}

bool gpu_record_replay(const gpu *g, gpu_record r, error *e)
{
    return done(cudaGraphLaunch(r, g->stream), "a replay", e);
}

void gpu_record_close(gpu_record *r)
{
    if (*r) cudaGraphExecDestroy(*r);
    *r = NULL;
}
