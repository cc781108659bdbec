/* SPDX-License-Identifier: Apache-2.0
 *
 * step: the graph of one training step: (text encoder and) UNet forward, the weighted mean-squared
 * error, and the gradients of every trained weight. */
#ifndef LIKENESS_TRAIN_STEP_H
#define LIKENESS_TRAIN_STEP_H

#include "model/model.h"

typedef struct step_options {
    int samples;             /* pictures of a batch, class pictures included */
    int height, width;       /* of the latents */
    bool train_text_encoder; /* the text goes in as tokens, else as embeddings */
    bool recompute;          /* gradient checkpointing */
    bool gradients;          /* false: the prediction alone (prior_from_base's target) */
    lora_branch lora;        /* rank 0: all weights are trained */
    int vectors; /* of a textual inversion, which alone is trained; the text goes in as rows */
} step_options;

/* Latents and predictions are channels-last. All but graph are the graph's. */
typedef struct step_graph {
    graph *graph;
    step_options options;
    tensor *x;              /* [S,h,w,C] noised latents */
    tensor *t;              /* [S] timesteps */
    tensor *ids;            /* [S,N] tokens, or */
    tensor *context;        /* [S,N,hidden] embeddings, or */
    tensor *rows;           /* [S,N,hidden] of the tokens; 0 where a trained one stands: */
    tensor *places;         /* [S,N,vectors] 1 where it is this one */
    tensor *target;         /* [S,h,w,C] */
    tensor *weight;         /* [S]: the loss is the mean of weight * mse */
    tensor *start;          /* [1]: what gradients are multiplied with (accumulation) */
    tensor *loss;           /* [1] */
    tensor *each;           /* [S] mse of each sample */
    tensor *prediction;     /* [S,h,w,C], where there are no gradients */
    size_t count;           /* of trained weights: every one of the graph, or a LoRA's alone */
    tensor **trained;       /* [count] in the graph's order */
    tensor **grad;          /* [count]; NULL where the loss does not depend on it */
    update_tensor *updates; /* update.c's: each with its weight; NULL until the first */
    size_t update_count;
} step_graph;

/* Recorded and planned, so that graph_bytes is known; neither bound nor allocated. */
bool step_open(step_graph *s, device *d, const model *m, const step_options *o, error *e);
void step_close(step_graph *s);

#endif
