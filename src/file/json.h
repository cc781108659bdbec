/* SPDX-License-Identifier: Apache-2.0
 *
 * json: JSON read and written with jansson, which follows the host's locale and writes 0.3 as
 * 0.29999999999999999: here fractions have a point and the fewest digits that read back. All other
 * code goes through these; a json_t itself is jansson's. */
#ifndef LIKENESS_FILE_JSON_H
#define LIKENESS_FILE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { JSON_LIMIT = 1 << 28 }; /* for files that we wrote ourselves */

/* json_loadb; NULL on failure, why (may be NULL) says where. */
json_t *json_parse(const char *text, size_t size, size_t flags, json_error_t *why);
/* A file of at most `limit` bytes, no key twice, Python's Infinity as null; NULL with an error that
 * names the line. */
json_t *json_read(const char *path, size_t limit, error *e);
/* A member more. Where memory is out, or the value NULL, *object is freed and NULL from then on, so
 * that one look at the end tells whether it is whole; json_add: the same of a list. Takes value. */
void json_put(json_t **object, const char *key, json_t *value);
void json_add(json_t **list, json_t *value);
/* The text of j, with jansson's flags for it (JSON_INDENT ...; no precision): malloc'ed; NULL when
 * memory is out or j is NULL. */
char *json_text(const json_t *j, size_t flags);
/* The text of j and a newline as a file, beside its target and renamed. j NULL: memory was out. */
bool json_write(const json_t *j, const char *path, error *e);
/* The same as folder/name. */
bool json_write_in(const json_t *j, const char *folder, const char *name, error *e);

#endif
