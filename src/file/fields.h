/* SPDX-License-Identifier: Apache-2.0
 *
 * fields: a JSON file whose top is an object, read field by field with defaults. The first field of
 * a wrong type or out of range is kept as the error, and f->ok turns false; a reader asks for all
 * it wants and looks at ok once. null counts as absent. */
#ifndef LIKENESS_FILE_FIELDS_H
#define LIKENESS_FILE_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct fields {
    json_t *root;
    const char *where; /* the path; the caller's */
    error *e;
    bool ok;
} fields;

/* Owner of root: f, until fields_close(). On failure there is nothing to close. */
bool fields_open(fields *f, const char *path, size_t limit, error *e);
/* The same of a text in memory; where: for messages. */
bool fields_parse(fields *f, const char *text, const char *where, error *e);
void fields_close(fields *f);

json_t *field(const fields *f, const char *name); /* NULL where absent or null */
int field_int(fields *f, const char *name, int fallback, int low, int high);
float field_float(fields *f, const char *name, float fallback);
bool field_bool(fields *f, const char *name, bool fallback);
const char *field_text(fields *f, const char *name, const char *fallback);
/* An integer, or a list of exactly `count` of them. */
void field_int_or_list(fields *f, const char *name, int *out, int count, int fallback, int low,
                       int high);
/* A list of 1..max integers; returns how many, 0 where it is absent or wrong. */
int field_int_list(fields *f, const char *name, int *out, int max, int low, int high);
/* Refuses any value but `only` (JSON text: null, false, 1, "silu"); absent and null pass. */
void field_only(fields *f, const char *name, const char *only);

#endif
