/* SPDX-License-Identifier: Apache-2.0
 *
 * layout: the two orders of a picture's numbers: planes, as PyTorch has them, and channels-last, as
 * the networks have them here. */
#ifndef LIKENESS_PIPELINE_LAYOUT_H
#define LIKENESS_PIPELINE_LAYOUT_H

#include <stddef.h>

/* Of one picture of `space` places; out and in do not overlap. */
void layout_channels_last(float *out, const float *in, size_t channels,
                          size_t space); /* [C,h,w] -> [h,w,C] */
void layout_planes(float *out, const float *in, size_t channels,
                   size_t space); /* [h,w,C] -> [C,h,w] */

#endif
