/* SPDX-License-Identifier: Apache-2.0
 *
 * parameters: the weights that are trained, their moments, and the sum of gradients where several
 * batches make one update. */
#ifndef LIKENESS_TRAIN_PARAMETERS_H
#define LIKENESS_TRAIN_PARAMETERS_H

#include "model/model.h"
#include "train/settings.h"

/* One network's trained copy: float32 (half with OPTIMIZER_ADAMW_F16), under the names and in the order
 * of the model's set. */
typedef struct trained_set {
    weight_set set;
    device_weights *copy;   /* the device's of it */
    moments *moments;       /* [set.count] */
    void *weights, *states; /* the blocks behind them */
    float *sums;            /* [all elements] gradients so far; NULL without accumulation */
    size_t *sum_at;         /* [set.count] where each weight's begins */
    size_t weights_size, states_size, sums_size;
} trained_set;

typedef struct parameters {
    trained_set unet, clip; /* clip: count 0 where the text encoder is not trained */
} parameters;

/* What parameters_open will take, for the forecast. */
size_t parameters_bytes(const model *m, const train_settings *s);
bool parameters_open(parameters *p, device *d, const model *m, const train_settings *s, error *e);
void parameters_close(parameters *p);

typedef struct parameter {
    device_weights *set;
    size_t index;           /* of it in the set */
    const weight *weight;
    moments *moments;
    float *sum;             /* or NULL */
} parameter;

/* The trained weight of this name; weight NULL where there is none. */
parameter parameter_find(const parameters *p, const char *name);

#endif
