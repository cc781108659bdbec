/* SPDX-License-Identifier: Apache-2.0
 *
 * latents: files of latents: safetensors with "latents" [1,C,h,w], the noise that a picture starts
 * from, and, where the picture was made, "final" [1,C,h,w], before decoding, and its settings in
 * the metadata. */
#ifndef LIKENESS_FILE_LATENTS_H
#define LIKENESS_FILE_LATENTS_H

#include "base/error.h"

/* "latents": shape is C, h, w; *data malloc'ed, NULL on failure. */
bool latents_read(float **data, int shape[3], const char *path, error *e);
/* settings: NULL, or the picture's. */
bool latents_write(const char *path, const float *initial, const int initial_shape[3],
                   const float *final, const int shape[3], const char *settings, error *e);
/* The settings in such a file, malloc'ed; NULL: it has none, or is no such file. */
char *latents_settings(const char *path);

#endif
