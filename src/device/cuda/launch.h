/* SPDX-License-Identifier: Apache-2.0
 *
 * launch: the subset of CUDA that our kernels are written in. Under nvcc the words below are CUDA's
 * own; with LIKENESS_EMULATED they are plain C++ for the processor (tests/cuda/emulator.h), where the threads of
 * a block are fibers. A block's threads have one dimension, the grid three. Shared memory is what
 * SHARED declares, its size known when it is compiled; it holds nothing when a block begins. BARRIER and the
 * shuffles must be reached by every thread of the block, or of the warp, that has not ended. */
#ifndef LIKENESS_DEVICE_CUDA_LAUNCH_H
#define LIKENESS_DEVICE_CUDA_LAUNCH_H

#include <stdint.h>

enum { WARP = 32 };

#ifdef LIKENESS_EMULATED

#include <emulator.h> /* tests/cuda */

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define KERNEL __global__ static void
#define DEVICE __device__ static inline
#define MEMBER __device__ inline /* a structure's */
#define THREADS_AT_MOST(n) __launch_bounds__(n)
#define THREAD ((int)threadIdx.x)
#define THREADS ((int)blockDim.x)
#define BLOCK_X ((int)blockIdx.x)
#define BLOCK_Y ((int)blockIdx.y)
#define BLOCK_Z ((int)blockIdx.z)
#define BLOCKS_X ((int)gridDim.x)

#define SHARED(type, name, count) __shared__ type name[count]
#define SHARED_ALIGNED(type, name, count) __shared__ __align__(16) type name[count]
#define BARRIER() __syncthreads()
#define SHUFFLE_XOR(value, mask) __shfl_xor_sync(0xffffffffu, value, mask)
#define UNROLL _Pragma("unroll")

#define LAUNCH(kernel, x, y, z, threads, stream, ...)                                              \
    kernel<<<dim3((unsigned)(x), (unsigned)(y), (unsigned)(z)), (unsigned)(threads), 0,            \
             (cudaStream_t)(stream)>>>(__VA_ARGS__)

/* Rounded each by itself: never made one instruction */
#define MULTIPLIED(a, b) __fmul_rn(a, b)
#define ADDED(a, b) __fadd_rn(a, b)
#define DIVIDED(a, b) __fdiv_rn(a, b)
#define ROOT(a) __fsqrt_rn(a)
#define FUSED(a, b, c) __fmaf_rn(a, b, c)

DEVICE void minimum_into(uint64_t *to, uint64_t value)
{
    atomicMin((unsigned long long *)to, (unsigned long long)value);
}

DEVICE float half_bits_value(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
DEVICE uint16_t half_bits_of(float x) { return __half_as_ushort(__float2half_rn(x)); }
DEVICE float bf16_bits_value(uint16_t bits) { return __uint_as_float((uint32_t)bits << 16); }
DEVICE uint16_t bf16_bits_of(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

#endif

#endif
