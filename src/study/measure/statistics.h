/* SPDX-License-Identifier: Apache-2.0
 *
 * statistics: Student's t, and what estimates of measure.h are made of. */
#ifndef LIKENESS_STUDY_STATISTICS_H
#define LIKENESS_STUDY_STATISTICS_H

#include "measure.h"

/* The t within which `share` (0.95) of Student's distribution lies, on both sides together. */
double student_t(int freedom, double share);
/* value[i]: thing i's mean over its pairs with the n - 1 others. Their mean, with the interval that
 * leaving out one thing at a time gives, for the pairs are not independent of each other; none
 * below three things. under: divided by the same of `under` (NULL: 1). n 0 where there are no
 * pairs. */
estimate estimate_of_pairs(const double *value, const double *under, int n);

#endif
