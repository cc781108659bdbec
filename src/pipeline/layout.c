/* SPDX-License-Identifier: Apache-2.0
 *
 * layout: see layout.h. */
#include "pipeline/layout.h"

void layout_channels_last(float *out, const float *in, size_t channels, size_t space)
{
    for (size_t i = 0; i < space; i++)
        for (size_t c = 0; c < channels; c++) out[i * channels + c] = in[c * space + i];
}

void layout_planes(float *out, const float *in, size_t channels, size_t space)
{
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < space; i++) out[c * space + i] = in[i * channels + c];
}
