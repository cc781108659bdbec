/* SPDX-License-Identifier: Apache-2.0
 *
 * network: one network of a model folder, recorded and filled as bench and bench_deal run it. */
#ifndef LIKENESS_TOOLS_BENCH_NETWORK_H
#define LIKENESS_TOOLS_BENCH_NETWORK_H

#include "model/model.h"

enum { JOB_INPUTS = 3 };

/* A recorded network: its inputs (to be filled with noise), its output, the weights it wants. */
typedef struct job {
    graph *g;
    tensor *input[JOB_INPUTS];
    int inputs;
    tensor *output;
    const weight_set *weights;
    int vocabulary; /* ids are drawn below it */
} job;

/* row: unet (one evaluation at batch 2 with the whole network), vae (decodes one latent) or text
 * (encodes two prompts); into j->g, which is open. size: the picture's side. */
bool job_record(job *j, const model *m, const char *row, int64_t size, error *e);
bool job_fill(job *j, error *e);
size_t tensor_count(const tensor *t);

#endif
