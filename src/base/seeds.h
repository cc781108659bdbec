/* SPDX-License-Identifier: Apache-2.0
 *
 * seeds: lists of seeds as people write them. */
#ifndef LIKENESS_BASE_SEEDS_H
#define LIKENESS_BASE_SEEDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { SEEDS_MOST = 100000 };

/* "42", "42,43,44", "42-45" (both ends included) and mixtures, in order; where random is true, -1
 * is a seed drawn from the system, below 2^32. *seeds is malloc'ed. */
bool seeds_parse(uint64_t **seeds, size_t *count, const char *text, bool random, error *e);

#endif
