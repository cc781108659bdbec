/* SPDX-License-Identifier: Apache-2.0
 *
 * support: what several tests share. */
#ifndef LIKENESS_TESTS_SUPPORT_H
#define LIKENESS_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* SOURCE_DIR/tests/fixtures/NAME and ../shared/NAME beside the checkout (NULL where absent; the
 * test then calls skip(), which cmocka counts). Static buffers, four in turn. */
const char *fixture_path(const char *name);
const char *shared_path(const char *name);
/* A fresh empty folder under /tmp, removed at exit. */
const char *scratch_dir(void);
/* Sets the process's locale to one whose decimal point is this ("," or "<U066B>" as localedef
 * writes it); "." is C again. False where the system has no localedef. */
bool locale_with(const char *point);
/* Largest |a-b| divided by the largest |b| (relative error of a whole tensor). */
double relative_error(const float *a, const float *b, size_t n);
/* Deterministic values in (-1,1). */
void fill_random(float *out, size_t n, uint32_t seed);

/* Allocations fail on request: after allocation_fail_at(n) the n-th next malloc, calloc or realloc
 * of this thread (0: the first), made by anyone (libraries too, but jansson, libwebp, giflib,
 * libtiff), returns NULL once. allocation_fail_end() stops it and says whether it struck. Not under
 * AddressSanitizer or ThreadSanitizer: allocation_can_fail() is false there. */
bool allocation_can_fail(void);
void allocation_fail_at(long n);
bool allocation_fail_end(void);

#endif
