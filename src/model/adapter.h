/* SPDX-License-Identifier: Apache-2.0
 *
 * adapter: what a LoRA file and its kin are, by the names of their tensors: whose they are, their
 * rank, and how much of a model they change. */
#ifndef LIKENESS_MODEL_ADAPTER_H
#define LIKENESS_MODEL_ADAPTER_H

#include "model/load.h"

typedef struct adapter {
    const char *what;            /* "a LoRA (kohya)"; NULL: it is none */
    int64_t rank_low, rank_high; /* of its matrices; 0: it has none to tell by */
    size_t unet, text;           /* modules that it changes; what cannot be told counts as unet */
    bool xl;                     /* for Stable Diffusion XL's two text encoders */
    bool dora;                   /* with lengths of its own (dora.h) */
} adapter;

adapter adapter_look(const weight_files *files);
/* "a LoRA (kohya), rank 4, 192 modules of the UNet and 72 of the text encoder" */
void adapter_text(const adapter *a, char *out, size_t size);

#endif
