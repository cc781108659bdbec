/* SPDX-License-Identifier: Apache-2.0
 *
 * engine: how what the engine says (likeness.h) gets into a study's own words. */
#ifndef LIKENESS_STUDY_ENGINE_H
#define LIKENESS_STUDY_ENGINE_H

#include <likeness.h>

#include "base/error.h"

/* Hands on a failure of the engine; returns false. */
bool engine_failed(const lk_error *why, error *e);
/* The side of the pictures that a model was trained on. */
int engine_resolution(const lk_model *m);
/* "F32", "BF16" or "F16": as names of pictures have it. */
const char *engine_precision(lk_precision precision);

#endif
