/* SPDX-License-Identifier: Apache-2.0
 *
 * gpu: the hardware as the device needs it, one card's stream at a time: memory, copies, order
 * between streams, and work that is recorded once and replayed. gpu_cuda.c fills it with CUDA's
 * runtime; tests/cuda with the processor. A failure of work that was put into a stream earlier may
 * be told of by any later call. */
#ifndef LIKENESS_DEVICE_CUDA_GPU_H
#define LIKENESS_DEVICE_CUDA_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "device/cuda/kernels.h"

typedef struct gpu {
    int card;
    gpu_stream stream;
} gpu;

typedef struct gpu_card {
    char name[96];
    int major, minor;      /* of its architecture */
    uint64_t memory, left; /* bytes */
} gpu_card;

bool gpu_count(int *count,
               error *e); /* false where the driver is missing or too old, or there is no card */
bool gpu_card_read(int card, gpu_card *out, error *e);

/* A stream of its own. */
bool gpu_open(gpu *g, int card, error *e);
void gpu_close(gpu *g); /* when its work is done */
/* The calling thread works with this card from now on. */
bool gpu_enter(const gpu *g, error *e);

/* Zeros, 256-byte aligned. what: for the message. */
bool gpu_alloc(const gpu *g, size_t size, const char *what, void **out, error *e);
void gpu_free(const gpu *g, void *memory);
uint64_t gpu_memory_left(const gpu *g); /* UINT64_MAX where it cannot be asked */

bool gpu_upload(const gpu *g, void *to, const void *from, size_t size,
                error *e); /* `from` has been read */
bool gpu_download(const gpu *g, void *to, const void *from, size_t size,
                  error *e); /* waits for it */
bool gpu_copy(const gpu *g, void *to, const void *from, size_t size, error *e);
bool gpu_zero(const gpu *g, void *to, size_t size, error *e);
/* `depth` slices of `height` rows of `width` bytes, rows and slices so many bytes apart */
typedef struct gpu_box {
    void *data;
    size_t row, slice;
} gpu_box;
bool gpu_copy_box(const gpu *g, gpu_box to, gpu_box from, size_t width, size_t height, size_t depth,
                  error *e);

bool gpu_launched(const gpu *g,
                  error *e); /* whether the launches since the last look could be made */
bool gpu_wait(const gpu *g, error *e);

/* A mark in a stream, which another one waits for. */
typedef void *gpu_mark;
bool gpu_mark_open(const gpu *g, gpu_mark *out, error *e);
void gpu_mark_close(gpu_mark *m);
bool gpu_mark_set(const gpu *g, gpu_mark m, error *e);
bool gpu_mark_await(const gpu *g, gpu_mark m, error *e);

/* Work that is put into the stream between begin and end is recorded, not done. end ends the
 * recording where something failed, too: then *out is NULL. */
typedef void *gpu_record;
bool gpu_record_begin(const gpu *g, error *e);
bool gpu_record_end(const gpu *g, gpu_record *out, error *e);
bool gpu_record_replay(const gpu *g, gpu_record r, error *e);
void gpu_record_close(gpu_record *r);

#endif
