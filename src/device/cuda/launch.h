/* SPDX-License-Identifier: Apache-2.0
 *
 * launch: the subset of CUDA that our kernels are written in. Under nvcc the words below are CUDA's
 * own; with LIKENESS_EMULATED they are plain C++ for the processor (tests/cuda/emulator.h), where
 * the threads of a block are fibers. A block's threads have one dimension, the grid three. Shared
 * memory is what SHARED declares, its size known when it is compiled; it holds nothing when a block
 * begins. BARRIER, and WARP_BARRIER and the shuffles, must be reached by every thread of the block,
 * or of the warp, that has not ended. */
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
#define HOST_DEVICE __host__ __device__ static inline
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
#define WARP_BARRIER() __syncwarp()
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

/* 2 to the x, to about two places of the last bit */
DEVICE float power_of_2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 16 bytes into shared memory, zeros where not `inside`; both addresses are aligned. They are there
 * after the thread's copies_wait, for others after a BARRIER besides. */
DEVICE void copy_start(void *to, const void *from, bool inside)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
#else
    *(uint4 *)to = inside ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
#endif
}

DEVICE void copies_wait()
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}

DEVICE float half_bits_value(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
DEVICE uint16_t half_bits_of(float x) { return __half_as_ushort(__float2half_rn(x)); }
DEVICE float bf16_bits_value(uint16_t bits) { return __uint_as_float((uint32_t)bits << 16); }
DEVICE uint16_t bf16_bits_of(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

/* ---- a warp's matrices of halves, in the places of mma.m16n8k16: lane 4 g + t has of c rows g and
 * g + 8, columns 2 t and 2 t + 1 ---- */

/* Two numbers as halves, the first in the low bits */
template <bool BF16> DEVICE uint32_t pair_bits(float first, float second)
{
    if (BF16) {
        __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
        return *(uint32_t *)&pair;
    }
    __half2 pair = __floats2half2_rn(first, second);
    return *(uint32_t *)&pair;
}

/* c [16, 8] += a [16, 8] b [8, 8] */
template <bool BF16>
DEVICE void tensor_product_short(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    if (BF16) {
        asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
            "{%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a0), "r"(a1), "r"(b));
        return;
    }
#else
    if (BF16) __trap(); /* Turing has float16 alone, in halves of mma.m16n8k16 */
#endif
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
}

/* c [16, 8] += a [16, 16] b [16, 8] */
template <bool BF16>
DEVICE void tensor_product(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    if (BF16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
            "{%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
            "{%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    tensor_product_short<BF16>(c, a[0], a[1], b0);
    tensor_product_short<BF16>(c, a[2], a[3], b1);
#endif
}

/* Four matrices [8, 8] of halves in shared memory; lane l gives the address of row l % 8 of matrix
 * l / 8, 16-byte aligned. out[i]: of matrix i, row g, columns 2 t and 2 t + 1; turned: rows 2 t and
 * 2 t + 1, column g */
DEVICE void matrix_load(uint32_t (&out)[4], const uint16_t *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

DEVICE void matrix_load_turned(uint32_t (&out)[4], const uint16_t *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

#endif

#endif
