/* SPDX-License-Identifier: Apache-2.0
 *
 * managed: see managed.h. Blocks are 256-byte aligned; what managed_free gets from elsewhere is
 * malloc's. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *managed_malloc(size_t size);
void *managed_calloc(size_t count, size_t size);
void *managed_aligned_alloc(size_t alignment, size_t size);
int managed_posix_memalign(void **out, size_t alignment, size_t size);
void managed_free(void *block);

void *managed_malloc(size_t size)
{
    void *block = NULL;
    cudaError_t status = cudaMallocManaged(&block, size ? size : 1, cudaMemAttachGlobal);
    if (status == cudaSuccess) return block;
    fprintf(stderr, "no memory for the card: %s\n", cudaGetErrorString(status));
    abort();
}

void *managed_calloc(size_t count, size_t size)
{
    return memset(managed_malloc(count * size), 0, count * size);
}

void *managed_aligned_alloc(size_t alignment, size_t size)
{
    (void)alignment;
    return managed_malloc(size);
}

int managed_posix_memalign(void **out, size_t alignment, size_t size)
{
    *out = managed_aligned_alloc(alignment, size);
    return 0;
}

void managed_free(void *block)
{
    struct cudaPointerAttributes a;
    if (!block) return;
    if (cudaPointerGetAttributes(&a, block) == cudaSuccess && a.type == cudaMemoryTypeManaged)
        cudaFree(block);
    else
        free(block);
}
