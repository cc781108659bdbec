/* SPDX-License-Identifier: Apache-2.0
 *
 * scaler: see scaler.h. */
#include "train/scaler.h"

#include <math.h>

loss_scaler loss_scaler_on(float scale) { return (loss_scaler){.scale = scale}; }

float loss_scale(const loss_scaler *s) { return s->scale > 0 ? s->scale : 1; }

bool loss_scaler_next(loss_scaler *s, bool skipped)
{
    if (skipped && s->scale <= LOSS_SCALE_LEAST) return false;
    if (skipped) {
        *s = loss_scaler_on(s->scale / 2);
    } else if (s->scale > 0 && ++s->good == LOSS_SCALE_GROWS) {
        float more = s->scale * 2;
        *s = loss_scaler_on(isinf(more) ? s->scale : more);
    }
    return true;
}

bool loss_scaler_valid(double scale, double good)
{
    int exponent;
    return scale >= (double)LOSS_SCALE_LEAST && isfinite((float)scale) &&
           frexp(scale, &exponent) == 0.5 && good >= 0 && good < LOSS_SCALE_GROWS;
}
