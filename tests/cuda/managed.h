/* SPDX-License-Identifier: Apache-2.0
 *
 * managed: memory that a card and the processor both reach, in the place of malloc's, for the tests
 * of kernels where they run on a real card (tools/gpu/pack.sh compiles them so, and check.sh runs
 * them with CUDA_LAUNCH_BLOCKING=1). Before any other header. */
#ifndef LIKENESS_TESTS_CUDA_MANAGED_H
#define LIKENESS_TESTS_CUDA_MANAGED_H

#define malloc managed_malloc
#define calloc managed_calloc
#define aligned_alloc managed_aligned_alloc
#define posix_memalign managed_posix_memalign
#define free managed_free

#endif
