/* SPDX-License-Identifier: Apache-2.0
 *
 * extract: the difference of two models as a LoRA, in kohya's spelling. */
#ifndef LIKENESS_MODEL_EXTRACT_H
#define LIKENESS_MODEL_EXTRACT_H

#include "base/work.h"
#include "model/model.h"

typedef struct extract_options {
    int rank;        /* of every layer, at most its sides */
    double quantile; /* 0.5 to 1: both factors are cut off at the value that this share of their
                        numbers is below (kohya: 0.99); 1: not */
    dtype type;      /* of the file: F32, F16, BF16 */
} extract_options;

typedef struct extract_result {
    size_t layers; /* that differ, and are in the file */
    double kept;   /* the share of the difference that the LoRA is: of the sum of squares of all
                      weights, those that no LoRA has included */
    double beyond; /* the share that lies in such (norms, biases, embeddings) */
} extract_result;

/* Writes `path`: trained - base of every linear layer and convolution in attentions, resnets and
 * samplers of the UNet, and of the text encoder's. The models must be of one kind and size. */
bool lora_extract(const model *base, const model *trained, const extract_options *o,
                  const char *path, thread_pool *pool, const work_watch *watch, extract_result *out,
                  error *e);

#endif
