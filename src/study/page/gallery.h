/* SPDX-License-Identifier: Apache-2.0
 *
 * gallery: a study's pictures, read from folder/cells when they are asked for. The latest are kept,
 * so that comparing each with each does not read each many times. */
#ifndef LIKENESS_STUDY_GALLERY_H
#define LIKENESS_STUDY_GALLERY_H

#include "file/image.h"
#include "study/plan/plan.h"

/* A cell's picture; one that is missing is named. */
bool cell_image_open(lk_image **out, const char *folder, const study_cell *c, error *e);

typedef struct gallery gallery;

/* The folder and the cells [count] are borrowed; `count` pictures are known by their index. */
bool gallery_open(gallery **out, const char *folder, const study_cell *const *cell, int count,
                  error *e);
void gallery_close(gallery **g);
/* Picture i; it lies there until the next but one is asked for. NULL, and the error, where it is
 * missing or unreadable. */
const image *gallery_image(gallery *g, int i, error *e);
/* Pictures a and b, of one size. */
bool gallery_pair(gallery *g, int a, int b, const image **x, const image **y, error *e);

#endif
