/* SPDX-License-Identifier: Apache-2.0
 *
 * text: tokens to the states that a UNet reads: diffusers' encode_prompt. */
#ifndef LIKENESS_PIPELINE_TEXT_H
#define LIKENESS_PIPELINE_TEXT_H

#include "pipeline/pipeline.h"

/* ids [count,N] (model/tokenizer.h) -> states [count,N,hidden], all in one run. clip_skip: layers
 * left out at the end. Nothing is kept: texts are read once, and their encoder is not needed until
 * the next. */
bool text_encode(const pipeline *p, const int32_t *ids, int count, int clip_skip, float *states,
                 error *e);

/* Whether both models make the same states of the same tokens. */
bool text_encoders_equal(const model *a, const model *b);

#endif
