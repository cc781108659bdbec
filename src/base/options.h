/* SPDX-License-Identifier: Apache-2.0
 *
 * options: public structs that begin with their size, between a program and a library of other
 * ages. */
#ifndef LIKENESS_BASE_OPTIONS_H
#define LIKENESS_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Options of a caller who may know fewer fields, or more: own (`size` bytes) holds the defaults,
 * and takes what is given (NULL: nothing). name: the type's; version: the library's own, for
 * messages. */
bool options_take(void *own, size_t size, const void *given, const char *name, const char *version,
                  error *e);
/* The other way round: as much of own as the caller's struct holds, its size first, zeros after. */
void options_give(void *out, size_t out_size, const void *own, size_t size);

#endif
