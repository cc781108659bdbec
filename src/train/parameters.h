/* SPDX-License-Identifier: Apache-2.0
 *
 * parameters: the weights that are trained, their moments, and the sum of gradients where several
 * batches make one update. */
#ifndef LIKENESS_TRAIN_PARAMETERS_H
#define LIKENESS_TRAIN_PARAMETERS_H

#include "model/model.h"
#include "train/settings.h"

/* One network's trained copy, in the device's memory: float32 (half with OPTIMIZER_ADAMW_F16),
 * under the names and in the order of the set that it begins as: the model's, or a LoRA's. */
typedef struct trained_set {
    weight_set set; /* data NULL but while they are shown */
    device *device;
    device_weights *copy;   /* the device's of it */
    buffer weights, states; /* what is trained, and its moments */
    buffer sums;            /* F32: gradients so far; handle NULL without accumulation */
    size_t *at, *sum_at;    /* [set.count] where each weight begins, and its sum */
    moments *moments;       /* [set.count] */
    host_view view;         /* of weights, while they are shown */
} trained_set;

typedef struct parameters {
    trained_set unet, clip; /* count 0 where that network is not trained */
} parameters;

/* What parameters_open will take, for the forecast. */
typedef struct parameter_sizes {
    size_t weights, states, sums; /* bytes */
} parameter_sizes;
parameter_sizes parameters_sizes(const weight_set *unet, const weight_set *clip,
                                 const train_settings *s);
dtype parameters_type(const train_settings *s); /* that weights are trained in */
bool parameters_open(parameters *p, device *d, const weight_set *unet, const weight_set *clip,
                     const train_settings *s, error *e);
void parameters_close(parameters *p);

/* Between the two the sets' data are those of now, for whoever reads them on the host. */
bool parameters_show(parameters *p, error *e);
void parameters_hide(parameters *p);

/* The trained weight of this name, and where it is in its set; NULL where there is none. */
const trained_set *parameter_find(const parameters *p, const char *name, size_t *index);

#endif
