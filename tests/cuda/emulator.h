/* SPDX-License-Identifier: Apache-2.0
 *
 * emulator: the words of device/cuda/launch.h in plain C++ for the processor. A launch runs its
 * blocks one after the other; a block's threads are fibers of one host thread, which run until they
 * end, come to a barrier or want a number of their warp. Shared memory begins as NaN in every
 * block, so that what is read before it is written shows; a barrier or a shuffle that a living
 * thread does not come to ends the process with a line that says so. */
#ifndef LIKENESS_TESTS_CUDA_EMULATOR_H
#define LIKENESS_TESTS_CUDA_EMULATOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include "base/half.h"
}
#include "emulated.h"

struct emulated {
    int thread, threads;
    int block[3], blocks[3];
};
extern __thread emulated emulated_now; /* of the thread that runs */

void emulated_launch(int x, int y, int z, int threads, void (*body)(void *), void *context);
void emulated_barrier();
/* The value that lane ^ mask of the warp gave; size: at most 8 */
void emulated_shuffle(void *value, size_t size, int mask);
/* All lanes of a warp that are there give `size` bytes, at most 48; what lane i gave, until who
 * asks gives again */
void emulated_give(const void *mine, size_t size);
const void *emulated_given(int lane);
void emulated_warp_barrier();
/* A copy of 16 bytes that the thread has begun: NaN is there until it waits for its copies. */
void emulated_copy(void *to, const void *from, bool inside);
void emulated_copies_wait();
/* The block's shared memory that the thread declares next: the same for all of them */
void *emulated_shared(size_t size);

#define KERNEL static void
#define DEVICE static inline
#define MEMBER inline
#define HOST_DEVICE static inline
#define THREADS_AT_MOST(n)
#define THREAD (emulated_now.thread)
#define THREADS (emulated_now.threads)
#define BLOCK_X (emulated_now.block[0])
#define BLOCK_Y (emulated_now.block[1])
#define BLOCK_Z (emulated_now.block[2])
#define BLOCKS_X (emulated_now.blocks[0])

#define SHARED(type, name, count)                                                                  \
    type *name = (type *)emulated_shared(sizeof(type) * (size_t)(count))
#define SHARED_ALIGNED(type, name, count) SHARED(type, name, count)
#define BARRIER() emulated_barrier()
#define WARP_BARRIER() emulated_warp_barrier()
#define UNROLL

template <typename T> static inline T emulated_shuffled(T value, int mask)
{
    emulated_shuffle(&value, sizeof value, mask);
    return value;
}
#define SHUFFLE_XOR(value, mask) emulated_shuffled(value, mask)

template <typename Body> struct emulated_job {
    int x, y, z, threads;
    Body body;
};

/* Done, or kept (emulated.h): a body is its kernel's arguments, and can be copied as bytes. */
template <typename Body>
static inline void emulated_launch_of(int64_t x, int64_t y, int64_t z, int64_t threads, Body body)
{
    emulated_job<Body> job = {(int)x, (int)y, (int)z, (int)threads, body};
    emulated_do(
        [](void *context) {
            emulated_job<Body> *j = (emulated_job<Body> *)context;
            emulated_launch(
                j->x, j->y, j->z, j->threads, [](void *b) { (*(Body *)b)(); }, &j->body);
        },
        &job, sizeof job);
}

/* The arguments are those of now, whenever the kernel runs. */
template <typename... Parameters, typename... Arguments>
static inline void emulated_call(int64_t x, int64_t y, int64_t z, int64_t threads,
                                 void (*kernel)(Parameters...), Arguments... arguments)
{
    emulated_launch_of(x, y, z, threads, [=] { kernel(arguments...); });
}

/* Launches are in order: there is one stream. */
#define LAUNCH(kernel, x, y, z, thread_count, stream, ...)                                         \
    ((void)(stream), emulated_call(x, y, z, thread_count, kernel, __VA_ARGS__))

static inline float emulated_product(float a, float b) { return a * b; }
static inline float emulated_sum(float a, float b) { return a + b; }
static inline float emulated_quotient(float a, float b)
{
    return a / b;
} /* by zero: as IEEE 754 has it */
#define MULTIPLIED(a, b) emulated_product(a, b)
#define ADDED(a, b) emulated_sum(a, b)
#define DIVIDED(a, b) emulated_quotient(a, b)
#define ROOT(a) sqrtf(a)
#define FUSED(a, b, c) fmaf(a, b, c)

static inline float power_of_2(float x) { return exp2f(x); }

static inline void copy_start(void *to, const void *from, bool inside)
{
    emulated_copy(to, from, inside);
}
static inline void copies_wait() { emulated_copies_wait(); }

static inline void minimum_into(uint64_t *to, uint64_t value)
{
    if (value < *to) *to = value;
}

/* ---- a warp's matrices ---- */

void emulated_product_of(float *c, const uint32_t *a, uint32_t b0, uint32_t b1, bool bf16);
void emulated_matrix_load(uint32_t *out, const uint16_t *row, bool turned);

template <bool BF16>
static inline void tensor_product(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    emulated_product_of(c, a, b0, b1, BF16);
}

template <bool BF16>
static inline void tensor_product_short(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b)
{
    uint32_t a[4] = {a0, a1, 0, 0};
    emulated_product_of(c, a, b, 0, BF16);
}

static inline void matrix_load(uint32_t (&out)[4], const uint16_t *row)
{
    emulated_matrix_load(out, row, false);
}
static inline void matrix_load_turned(uint32_t (&out)[4], const uint16_t *row)
{
    emulated_matrix_load(out, row, true);
}

static inline float half_bits_value(uint16_t bits) { return half_to_float(bits); }
static inline uint16_t half_bits_of(float x) { return half_from_float(x); }
static inline float bf16_bits_value(uint16_t bits) { return bf16_to_float(bits); }
static inline uint16_t bf16_bits_of(float x) { return bf16_from_float(x); }

template <bool BF16> static inline uint32_t pair_bits(float first, float second)
{
    uint32_t low = BF16 ? bf16_bits_of(first) : half_bits_of(first);
    return low | (uint32_t)(BF16 ? bf16_bits_of(second) : half_bits_of(second)) << 16;
}

#endif
