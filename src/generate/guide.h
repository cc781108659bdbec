/* SPDX-License-Identifier: Apache-2.0
 *
 * guide: classifier-free guidance, towards several conditions too (composable diffusion), and its
 * rescaling (diffusers' rescale_noise_cfg). */
#ifndef LIKENESS_GENERATE_GUIDE_H
#define LIKENESS_GENERATE_GUIDE_H

#include <stddef.h>

typedef struct guidance {
    float scale, rescale;
    const float *weight; /* of each condition; NULL: 1 */
} guidance;

/* The network's output: [batch,space,C], unconditional, then a conditional one or several, which
 * are overwritten, or (batch 1) [1,space,C] -> guided [C,space]. */
void guide(const guidance *how, float *output, int batch, size_t channels, size_t space,
           float *guided);

#endif
