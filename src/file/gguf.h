/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf: the files of ggml's programs (GGUF, versions 2 and 3) as tables of tensors. */
#ifndef LIKENESS_FILE_GGUF_H
#define LIKENESS_FILE_GGUF_H

#include "file/safetensors.h"

bool gguf_is(const void *begin, size_t size); /* by a file's first bytes */
/* As safetensors_open: F32, F16, BF16, F64 and whole numbers stay in the mapping; what is quantised
 * (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q4_K, Q5_K, Q6_K) becomes float32, which ggml's formulas
 * give exactly; other types are refused by their name. Dimensions are outermost first. There is no
 * metadata. */
bool gguf_open(safetensors *out, const char *path, error *e);

#endif
