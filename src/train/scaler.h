/* SPDX-License-Identifier: Apache-2.0
 *
 * scaler: the scale of the loss where training is in half precision, so that small gradients do not
 * become zero: torch.amp.GradScaler as accelerate has it. A step whose gradients are not finite is
 * skipped, with the optimizer's count and the learning rate's, and the scale halved; after
 * LOSS_SCALE_GROWS good ones in a row it is doubled. */
#ifndef LIKENESS_TRAIN_SCALER_H
#define LIKENESS_TRAIN_SCALER_H

#include <stdbool.h>

#define LOSS_SCALE_FIRST 65536.0f
/* Torch goes on below: there nothing is left of what scaling is for, and each further step would be
 * skipped in silence. */
#define LOSS_SCALE_LEAST 1.0f
enum { LOSS_SCALE_GROWS = 2000 };

typedef struct loss_scaler {
    float scale; /* a power of two; 0: the loss is not scaled */
    int good;    /* steps in a row since it changed */
} loss_scaler;

loss_scaler loss_scaler_on(float scale);
/* What the loss is multiplied with; 1 where it is off. */
float loss_scale(const loss_scaler *s);
/* After a step, skipped or good. False: the scale would fall below the least, and stays. */
bool loss_scaler_next(loss_scaler *s, bool skipped);
/* Whether a state that was read can be one. */
bool loss_scaler_valid(double scale, double good);

#endif
