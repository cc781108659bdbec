/* SPDX-License-Identifier: Apache-2.0
 *
 * compare: pictures of one size, pixel by pixel. */
#ifndef LIKENESS_STUDY_COMPARE_H
#define LIKENESS_STUDY_COMPARE_H

#include "file/image.h"

/* Root mean square difference, in grey levels. */
double image_distance(const image *a, const image *b);
/* Pearson's, of all values; pictures of one colour are as like as they are equal. */
double image_correlation(const image *a, const image *b);
/* The share of the differences between neighbouring pixels that a blur over three pixels would take
 * away: much of a sharp picture's, little of a blurred one's, whatever is on it (docs/MEASURES.md).
 */
double image_detail(const image *a);

#endif
