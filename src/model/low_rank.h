/* SPDX-License-Identifier: Apache-2.0
 *
 * low_rank: the best approximation of a matrix by one of low rank. */
#ifndef LIKENESS_MODEL_LOW_RANK_H
#define LIKENESS_MODEL_LOW_RANK_H

#include <stdint.h>

#include "base/threads.h"

/* a [rows, columns], row by row -> left [rows, rank], right [rank, columns], whose product is a's
 * singular value decomposition cut behind the rank-th value (left holds the values, right is
 * orthonormal). rank is at most rows and columns. The same numbers for any pool, NULL too. */
bool low_rank(float *left, float *right, const float *a, int64_t rows, int64_t columns, int rank,
              thread_pool *pool, error *e);

#endif
