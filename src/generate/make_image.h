/* SPDX-License-Identifier: Apache-2.0
 *
 * make_image: one picture and its text, of whatever model: what trainings and studies want of this
 * room. */
#ifndef LIKENESS_GENERATE_MAKE_IMAGE_H
#define LIKENESS_GENERATE_MAKE_IMAGE_H

#include "generate/generate.h"

/* The picture, and its "parameters" text (malloc'ed), that the model gives by these options. g is
 * taken if the model is its own; else one is opened on its device for this picture. On failure
 * nothing is in out. */
bool image_make(image *out, char **text, generator *g, const model *m, const generate_options *o,
                error *e);

#endif
