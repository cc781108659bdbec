/* SPDX-License-Identifier: Apache-2.0
 *
 * encode: a picture to the posterior of its latents. */
#ifndef LIKENESS_PIPELINE_ENCODE_H
#define LIKENESS_PIPELINE_ENCODE_H

#include "file/image.h"
#include "pipeline/pipeline.h"

/* A part of a picture as the autoencoder reads it: [height,width,3] in -1..1, torchvision's
 * ToTensor and Normalize, each rounding to float32. */
void encode_pixels(const image *m, int top, int left, int width, int height, float *out);

/* The autoencoder's first half for one size of pictures, which must be multiples of fit_factor.
 * Bound, and with its memory, as long as it is open. */
typedef struct encoder encoder;
bool encoder_open(encoder **out, const pipeline *p, int width, int height, error *e);
void encoder_close(encoder **n);
size_t encoder_bytes(const encoder *n); /* of the device, while it is open */

/* diffusers' DiagonalGaussianDistribution: pixels as above -> mean and deviation [C,h,w] each, not
 * scaled. where: whose picture, for messages. */
/* What the network gives, before it is a distribution: [h,w,2C]. */
bool encoder_moments(encoder *n, const float *pixels, float *out, const char *where, error *e);
void encode_posterior(const float *moment, size_t space, size_t channels, float *mean,
                      float *deviation);
bool encoder_run(encoder *n, const float *pixels, float *mean, float *deviation, const char *where,
                 error *e);

#endif
