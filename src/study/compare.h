/* SPDX-License-Identifier: Apache-2.0
 *
 * compare: pictures of one size, pixel by pixel. */
#ifndef LIKENESS_STUDY_COMPARE_H
#define LIKENESS_STUDY_COMPARE_H

#include "file/image.h"

/* Root mean square difference, in grey levels. */
double picture_distance(const image *a, const image *b);
/* Pearson's, of all values; pictures of one colour are as like as they are equal. */
double picture_correlation(const image *a, const image *b);
/* How much fine detail a picture has: see docs/MEASURES.md. In grey levels. */
double picture_detail(const image *a);

#endif
