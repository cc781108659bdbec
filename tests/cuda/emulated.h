/* SPDX-License-Identifier: Apache-2.0
 *
 * emulated: what the processor does in the card's place: work is a function and its context, done
 * at once, or kept while a record is made (gpu.h) and done at every replay. */
#ifndef LIKENESS_TESTS_CUDA_EMULATED_H
#define LIKENESS_TESTS_CUDA_EMULATED_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* context: `size` bytes, copied where the work is kept */
void emulated_do(void (*run)(void *context), const void *context, size_t size);

#ifdef __cplusplus
}
#endif

#endif
